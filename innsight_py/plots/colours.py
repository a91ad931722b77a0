"""The colours of bars and pixels: from negative over 0 to positive, the same in both engines."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from innsight_py._checks import describe

#: R's: blue, white, red.
DEFAULT = "bwr"
#: Blue, white, orange in equal steps, which readers with colour blindness can tell apart.
EVEN = "even"
#: Its ends in CIELAB: lightness, green to red, blue to yellow. Both are as far from white as the other.
EVEN_ENDS = ((42.0, 16.0, -52.0), (50.0, 40.0, 47.0))
_WHITE = (98.0, 0.0, 0.0)
#: How many colours a scale is made of; an odd number, so that one is at 0.
COUNT = 33

_TO_LINEAR_RGB = np.array(
    [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
)  # of CIE XYZ, IEC 61966-2-1
_DAYLIGHT = np.array([0.9505, 1.0, 1.089])

#: Red, green and blue from 0 to 1.
Colour = tuple[float, float, float]


def read_cmap(value: Any) -> str:
    """Read the name of a scale of colours.

    Raises
    ------
    TypeError, ValueError
        If there is no such scale.

    Examples
    --------
    >>> read_cmap("even"), read_cmap("PuOr")
    ('even', 'PuOr')
    """
    expected = f"expected '{DEFAULT}' (R's), '{EVEN}', or the name of a map of matplotlib, such as 'PuOr'"
    if not isinstance(value, str):
        raise TypeError(f"Argument 'cmap': {expected}, got {describe(value)}.")
    if value not in (DEFAULT, EVEN):
        from matplotlib import colormaps

        if value not in colormaps:
            raise ValueError(f"Argument 'cmap': {expected}, got {describe(value)}.")
    return value


@functools.cache
def colours(cmap: str) -> tuple[Colour, ...]:
    """Return the colours of a scale at equal steps, from the most negative to the most positive value.

    Examples
    --------
    >>> scale = colours("even")
    >>> len(scale), [round(part, 2) for part in scale[16]]
    (33, [0.98, 0.98, 0.98])
    """
    if cmap == EVEN:
        low, high = (np.linspace(_WHITE, end, COUNT // 2 + 1) for end in EVEN_ENDS)
        found = _rgb(np.concatenate([low[:0:-1], high]))
    else:
        from matplotlib import colormaps

        found = colormaps[cmap](np.linspace(0, 1, COUNT))[:, :3]
    return tuple((float(red), float(green), float(blue)) for red, green, blue in found)


def _rgb(lab: np.ndarray) -> np.ndarray:
    """Turn colours ``(n, 3)`` of CIELAB into red, green and blue."""
    middle = (lab[:, 0] + 16) / 116
    cubes = np.stack([middle + lab[:, 1] / 500, middle, middle - lab[:, 2] / 200], 1)
    xyz = np.where(cubes > 6 / 29, cubes**3, 3 * (6 / 29) ** 2 * (cubes - 4 / 29)) * _DAYLIGHT
    linear = np.clip(xyz @ _TO_LINEAR_RGB.T, 0, 1)
    found: np.ndarray = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return found
