"""Numbers and labels as they stand in pictures."""

from __future__ import annotations

import html
from collections.abc import Sequence

#: Labels longer than this lose their middle.
LONGEST_LABEL = 28


def number(value: float, digits: int = 4) -> str:
    """Write a number with so many significant digits.

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
    """Write names and numbers in one line each or, where one is longer than so many letters, all with a line a number.

    Examples
    --------
    >>> written_info([[("Pred.", "0.5"), ("Sum", "1")]], 20), written_info([[("Pred.", "0.5"), ("Sum", "1")]], 10)
    ([['Pred. 0.5   Sum 1']], [['Pred. 0.5', 'Sum 1']])
    """
    entries = [[f"{name} {value}" for name, value in lines] for lines in infos]
    together = [["   ".join(parts)] for parts in entries]
    return together if max(len(line[0]) for line in together) <= letters else entries
