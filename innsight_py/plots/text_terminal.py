"""Texts with coloured words in a terminal, or with their values where there are no colours."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator

from innsight_py._text import line_width, printable
from innsight_py.plots.frame import PlotFrame
from innsight_py.plots.panels import Empty, Panel
from innsight_py.plots.text import number
from innsight_py.plots.text_colours import of_terminal, scale_limit, shade
from innsight_py.plots.words import Words, text_colour, word_label
from innsight_py.results.words import Word

#: As many nodes of a row are written out.
MOST_NODES = 6

_END, _BOLD = "\x1b[0m", "\x1b[1m"
_LETTERS = {"white": 231, "black": 16, "#737373": 243}


def has_colours() -> bool:
    """Tell whether what is printed now is seen in a terminal with colours (see no-color.org, and FORCE_COLOR)."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    stream = sys.stdout
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def lines(frame: PlotFrame, colours: bool) -> list[str]:
    """Write texts for a terminal: for each row and output node a head, and the words.

    Parameters
    ----------
    frame : PlotFrame
        What is shown.
    colours : bool
        Whether words have colours. Without them their values stand behind them.
    """
    limit, (instances, nodes, _) = scale_limit(frame), frame.shape
    name = frame.value_name
    key = f"{frame.title}: {name} from {number(-limit)} (blue) to {number(limit)} (red)"
    found = [key if colours else f"{frame.title}: {name} in brackets"]
    for i in range(instances):
        for j in range(min(nodes, MOST_NODES)):
            found += ["", _head(frame, i, j, colours)]
            for panel in frame.panels[i, j]:
                found += _panel(panel, frame.has_inputs, limit, colours)
        if nodes > MOST_NODES:
            found += ["", f"... and {nodes - MOST_NODES} more output nodes; choose some with output_idx"]
    return found


def _head(frame: PlotFrame, i: int, j: int, colours: bool) -> str:
    place = frame.panels[i, j, 0].place
    title = printable(": ".join(name for name in (place.instance, place.node) if name is not None))
    facts = [] if frame.info is None else [f"{name} {printable(value)}" for name, value in frame.info[i, j].lines]
    return "   ".join([f"{_BOLD}{title}{_END}" if colours else title, *facts])


def _panel(panel: Panel, named: bool, limit: float, colours: bool) -> Iterator[str]:
    if named:
        yield f"{panel.place.input}:"
    if isinstance(panel, Words):
        yield from _wrapped(panel, limit, colours)
    elif isinstance(panel, Empty):
        yield panel.text
    else:
        yield "no text; plot() draws it"


def _wrapped(panel: Words, limit: float, colours: bool) -> Iterator[str]:
    room, used, line = line_width() - 1, 0, ""
    for word, value in zip(panel.words, panel.values, strict=True):
        label = word_label(word)
        label = label if colours else f"{label}[{value:+.2g}]"
        width = columns(label)
        space = " " if word.spaced and line else ""
        if line and used + len(space) + width > room:
            yield line
            used, line, space = 0, "", ""
        line += space + (_coloured(word, label, shade(float(value), limit)) if colours else label)
        used += len(space) + width
    yield line


def _coloured(word: Word, label: str, place: float) -> str:
    return f"\x1b[48;5;{of_terminal(place)};38;5;{_LETTERS[text_colour(place, word)]}m{label}{_END}"


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes.

    Examples
    --------
    >>> columns("me"), columns("\u6211")
    (2, 2)
    """
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)
