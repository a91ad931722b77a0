"""What may be done to the pixels of an image before they are drawn: they are smoothed, and their scale is clipped."""

from __future__ import annotations

from typing import Any

import numpy as np

from innsight_py._checks import WrongTypeError, describe, read_number
from innsight_py.results.attributions import Attributions

#: Standard deviations that a pixel reaches.
_REACH = 3.0


def read_pixels(clip: Any, smooth: Any, attributions: Attributions) -> tuple[float | None, float | None]:
    """Read the arguments 'clip' and 'smooth'.

    Raises
    ------
    TypeError, ValueError
        If one is no number in its range, or if the model has no image.
    """
    ranges = {"clip": "from above 0 up to 1, such as 0.99", "smooth": "of pixels, above 0"}
    ends = {"clip": 1.0, "smooth": np.finfo(np.float64).max}
    for name, value in (("clip", clip), ("smooth", smooth)):
        if value is None:
            continue
        message = f"Argument '{name}': expected a number {ranges[name]}, got {describe(value)}."
        try:
            number = read_number(value)
        except ValueError as error:
            raise (TypeError if isinstance(error, WrongTypeError) else ValueError)(message) from None
        if not 0 < number <= ends[name]:
            raise ValueError(message)
        if not any(port.kind in ("image", "volume") for port in attributions.described.inputs):
            raise ValueError(f"Argument '{name}': the model has no image among its inputs; leave it out.")
    return clip, smooth


def smoothed(values: np.ndarray, deviation: float) -> np.ndarray:
    """Smooth images ``(rows, height, width)`` with a Gaussian, `deviation` in pixels; sums stay what they are.

    Examples
    --------
    >>> image = np.zeros((1, 5, 5))
    >>> image[0, 2, 2] = 1.0
    >>> float(smoothed(image, 1.0).sum().round(12)), float(smoothed(image, 1.0).max().round(2))
    (1.0, 0.16)
    """
    radius = int(_REACH * deviation + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2)
    weights /= weights.sum()
    found = np.nan_to_num(values.astype(np.float64))
    for axis in (1, 2):
        beside = [(0, 0)] * 3
        beside[axis] = (radius, radius)
        padded = np.pad(found, beside, mode="symmetric")
        found = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis) @ weights
    return np.where(np.isnan(values), np.nan, found)


def clipped(values: np.ndarray, clip: float) -> float:
    """Return the magnitude below which a share of the pixels lies; the largest where that is 0.

    Examples
    --------
    >>> clipped(np.arange(-100.0, 101.0), 0.9), clipped(np.array([0.0, 0.0, 5.0]), 0.5)
    (90.0, 5.0)
    """
    magnitudes = np.abs(values[~np.isnan(values)])
    if not magnitudes.size:
        return 0.0
    return float(np.quantile(magnitudes, clip)) or float(magnitudes.max())


def scale_note(clip: float | None, smooth: float | None, cut: str | None = None) -> str:
    r"""Say on a scale of colours what was done.

    Examples
    --------
    >>> scale_note(0.99, None), scale_note(None, None)
    ('\n(clipped at 99 %)', '')
    """
    notes = [] if cut is None else [cut]
    notes += [] if clip is None else [f"clipped at {100 * clip:g} %"]
    notes += [] if smooth is None else [f"smoothed by {smooth:g} px"]
    return f"\n({', '.join(notes)})" if notes else ""
