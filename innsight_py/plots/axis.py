"""An axis of the values of a panel, and which of its labels fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from innsight_py.plots.text import shortened

#: Inches that a letter of a tick label takes, beside and above its neighbour.
_LETTER, _LINE = 0.075, 0.14


@dataclass(frozen=True)
class Ticks:
    """Tick labels that fit: at which positions, what they say, and degrees by which they are turned."""

    positions: list[float]
    labels: list[str]
    rotation: int = 0


@dataclass(frozen=True)
class Axis:
    """An axis of the values of a panel.

    Attributes
    ----------
    title : str
        Title of the axis.
    short_title : str
        What a single place on it is called in hover texts.
    labels : tuple of str
        Label of each place.
    named : bool
        Whether the ticks are labels, or numbers from 1.
    short_labels : tuple of str
        What ticks say, where that is not a label whose middle is taken out.
    """

    title: str
    short_title: str
    labels: tuple[str, ...]
    named: bool
    short_labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def positions(self) -> np.ndarray:
        """Places on the axis, from 1."""
        return np.arange(1, len(self) + 1)

    @property
    def longest(self) -> float:
        """Inches that the longest label takes."""
        return max(len(self.short_label(i)) for i in range(len(self))) * _LETTER

    def short_label(self, i: int) -> str:
        """Return what a tick says of a place, counted from 0."""
        return self.short_labels[i] if self.short_labels else shortened(self.labels[i])

    def ticks(self, inches: float) -> Ticks:
        """Choose the tick labels of a horizontal axis so that none overlap.

        Labels are level where all fit, turned where they do not, and where even turned ones do not fit only some are
        shown. Axes of numbers have round ones.

        Parameters
        ----------
        inches : float
            Length of the axis.

        Examples
        --------
        >>> axis = Axis("Feature", "Feature", ("age", "dose"), named=True)
        >>> axis.ticks(2.0)
        Ticks(positions=[1, 2], labels=['age', 'dose'], rotation=0)
        >>> axis.ticks(0.4).rotation
        90
        """
        if not self.named:
            places = round_positions(len(self), max(2, int(inches / 0.5)))
            return Ticks(places, [str(int(place)) for place in places])
        room = inches / len(self)
        if room >= self.longest + 0.08:
            rotation, step = 0, 1
        elif room >= 1.6 * _LINE and 0.5 < self.longest <= 1.0:
            rotation, step = 45, 1
        else:
            rotation, step = 90, math.ceil(_LINE / room)
        chosen = range(0, len(self), step)
        return Ticks([i + 1 for i in chosen], [self.short_label(i) for i in chosen], rotation)

    def ticks_down(self, inches: float) -> Ticks:
        """Choose the tick labels of a vertical axis of names, one below the other.

        Parameters
        ----------
        inches : float
            Length of the axis.

        Examples
        --------
        >>> axis = Axis("Feature", "Feature", ("age", "dose"), named=True)
        >>> axis.ticks_down(1.0).labels, axis.ticks_down(0.1).labels
        (['age', 'dose'], ['age'])
        """
        step = max(1, math.ceil(_LINE * len(self) / inches - 1e-9))
        chosen = range(0, len(self), step)
        return Ticks([i + 1 for i in chosen], [self.short_label(i) for i in chosen])


def round_positions(n: int, most: int) -> list[float]:
    """Choose at most `most` round numbers of 1..n.

    Examples
    --------
    >>> round_positions(224, 5), round_positions(4, 5)
    ([50, 100, 150, 200], [1, 2, 3, 4])
    """
    for step in (factor * 10**power for power in range(9) for factor in (1, 2, 5)):
        if n / step <= most:
            break
    return list(range(step, n + 1, step))
