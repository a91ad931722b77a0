"""Colours of words: blue (negative) over white (0) to red (positive), in pages and in terminals."""

from __future__ import annotations

import numpy as np

from innsight_py.plots.frame import PlotFrame
from innsight_py.plots.words import Words


def scale_limit(frame: PlotFrame) -> float:
    """Return the magnitude of the full colour: the largest of all words."""
    return max((panel.limit for panel in frame.panels.flat if isinstance(panel, Words)), default=0.0)


def shade(value: float, limit: float) -> float:
    """Return the place of a value on the scale, from -1 to 1; 0 where it is not known.

    Examples
    --------
    >>> shade(-1.0, 2.0), shade(float("nan"), 2.0), shade(0.0, 0.0)
    (-0.5, 0.0, 0.0)
    """
    return value / limit if limit > 0 and np.isfinite(value) else 0.0


def hexadecimal(place: float) -> str:
    """Return the colour of a place on the scale as pages have it.

    Examples
    --------
    >>> hexadecimal(0.0), hexadecimal(1.0), hexadecimal(-0.5)
    ('#ffffff', '#ff0000', '#8080ff')
    """
    pale = round(255 * (1 - abs(place)))
    red, green, blue = (255, pale, pale) if place >= 0 else (pale, pale, 255)
    return f"#{red:02x}{green:02x}{blue:02x}"


def of_terminal(place: float) -> int:
    """Return the colour of a place on the scale as one of the 256 that terminals have.

    Examples
    --------
    >>> of_terminal(0.0), of_terminal(1.0), of_terminal(-1.0)
    (231, 196, 21)
    """
    pale = 5 - round(5 * abs(place))
    red, green, blue = (5, pale, pale) if place >= 0 else (pale, pale, 5)
    return 16 + 36 * red + 6 * green + blue
