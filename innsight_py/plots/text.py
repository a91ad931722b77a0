"""Numbers and labels as they stand in pictures."""

from __future__ import annotations

import html
from collections.abc import Sequence

#: Labels longer than this lose their middle.
LONGEST_LABEL = 28


def number(value: float, digits: int = 4) -> str:
    """Write a number with `digits` significant digits.

    Examples
    --------
    >>> number(-0.137352), number(0.0), number(12.0), number(1.5e-7)
    ('-0.1374', '0', '12', '1.5e-07')
    """
    return f"{value + 0.0:.{digits}g}"


def shortened(label: str, longest: int = LONGEST_LABEL) -> str:
    """Take out the middle of a long label.

    Examples
    --------
    >>> shortened("mean_corpuscular_volume", 15)
    'mean_co…_volume'
    """
    if len(label) <= longest:
        return label
    front = longest // 2
    return f"{label[:front]}…{label[len(label) - (longest - 1 - front) :]}"


def with_value(name: str, value: str, longest: int = LONGEST_LABEL) -> str:
    """Write a name and its value as a tick; a long name loses its middle, the value stays whole.

    Examples
    --------
    >>> with_value("bill length", "39"), with_value("the length of the bill of a penguin", "39")
    ('bill length = 39', 'the length …f a penguin = 39')
    """
    short = shortened(value, longest // 2)
    return f"{shortened(name, max(3, longest - 3 - len(short)))} = {short}"


def no_template(label: str) -> str:
    """Let a label be no part of a template of plotly's, in which ``%{x}`` stands for a value.

    Examples
    --------
    >>> no_template("50 %"), len(no_template("%{x}"))
    ('50 %', 5)
    """
    return label.replace("%{", "%\u200b{")


def hover(value_name: str, value: str, places: Sequence[tuple[str, str]]) -> str:
    """Write what is shown when the pointer is on a value, in the HTML that plotly takes.

    Examples
    --------
    >>> hover("Relevance", "0.5", [("Input", "Input_1"), ("Feature", "age < 10")])
    '<b>Relevance</b>: 0.5<br>Input: Input_1<br>Feature: age &lt; 10'
    """
    lines = [f"{title}: {html.escape(label)}" for title, label in places]
    return "<br>".join([f"<b>{value_name}</b>: {value}", *lines])


def written_info(infos: Sequence[Sequence[tuple[str, str]]], letters: float) -> list[list[str]]:
    """Write each info in one line or, if one is longer than `letters`, all of them with one number a line.

    Examples
    --------
    >>> written_info([[("Pred.", "0.5"), ("Sum", "1")]], 20), written_info([[("Pred.", "0.5"), ("Sum", "1")]], 10)
    ([['Pred. 0.5   Sum 1']], [['Pred. 0.5', 'Sum 1']])
    """
    entries = [[f"{name} {value}" for name, value in lines] for lines in infos]
    together = [["   ".join(parts)] for parts in entries]
    return together if max(len(line[0]) for line in together) <= letters else entries
