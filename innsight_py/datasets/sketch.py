"""Quantiles of more values than fit into memory: counts in bins whose width grows with the value.

This is the sketch of Masson, Rim and Lee (2019), "DDSketch: a fast and fully-mergeable quantile sketch with
relative-error guarantees", PVLDB 12(12). It is written here, for whole columns at once, since the package ddsketch
takes one value at a time in Python, and the sketches of the package datasketches draw random numbers: two runs of one
job would not say the same. Here the counts depend on the values alone, not on their order or on how the work was
shared. The bins are those of the paper's interpolated mapping: between a power of two and the next there are `STEPS`
of equal width, so that the first bits of a number say which bin it is in.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Self

import numpy as np

#: Bins between a power of two and the next, and how many bits of a number tell them apart.
STEPS, BITS = 64, 6
#: How far a quantile may be from the true one, as a part of it: half of the widest bin's width is 1 / (2 * STEPS + 1).
ACCURACY = 0.01
#: Bins for each sign, 19 orders of magnitude. What lies below counts as the smallest bin.
BINS = 64 * STEPS
#: Bytes of all counts of one sketch; more places have no sketch.
MOST_BYTES = 64 * 2**20
#: Of each precision the whole numbers that its bits are, bits of its fraction, and what its exponents are counted from.
_FORMATS = {"float32": (np.uint32, 23, 127), "float64": (np.uint64, 52, 1023)}


class Sketch:
    """Counts of the values of some places, such as the features of a table.

    Parameters
    ----------
    places : int
        Number of places.

    Examples
    --------
    >>> sketch = Sketch(1)
    >>> sketch.add(np.arange(1.0, 1001.0)[:, None])
    >>> bool(abs(sketch.quantiles([0.5])[0, 0] - 500) <= 0.01 * 500)
    True
    """

    def __init__(self, places: int) -> None:
        self.places = places
        #: The largest bin that anything was counted in.
        self.top: int | None = None
        #: Counts of negative values, the largest magnitude first, of zeros, and of positive ones.
        self.counts = np.zeros((places, 2 * BINS + 1), np.int64)
        self.low = np.full(places, np.inf)
        self.high = np.full(places, -np.inf)

    @staticmethod
    def fits(places: int) -> bool:
        """Tell whether a sketch of this many places has an acceptable size."""
        return 2 * places * BINS * 8 <= MOST_BYTES

    def add(self, values: np.ndarray, weight: int = 1) -> None:
        """Count values ``(n, places)``, each `weight` times; NaN and infinite ones are left out."""
        if not len(values):
            return
        lines = np.ascontiguousarray(values.T)  # a line for each place: sums over lines are much quicker
        low, high, known = lines.min(1), lines.max(1), None
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            known = np.isfinite(lines)
            low, high = np.where(known, lines, np.inf).min(1), np.where(known, lines, -np.inf).max(1)
            lines = np.where(known, lines, 0)
        self.low, self.high = np.fmin(self.low, low), np.fmax(self.high, high)
        ends = np.abs([self.low, self.high])
        largest = float(ends[np.isfinite(ends)].max(initial=0))
        if largest > 0:
            self._raise(_bin(largest))
        kind, fraction, _ = _FORMATS[lines.dtype.name]
        cells, shift = _cells(lines.dtype.name, self.top or 0), kind(fraction - BITS)
        if lines.shape[1] >= len(cells):  # to count first, and then to tell what was counted, is quicker
            for counts, line in zip(self.counts, lines, strict=True):
                _fold(counts, weight * np.bincount(line.view(kind) >> shift, minlength=len(cells)), cells)
        else:
            at = cells.take(lines.view(kind) >> shift)
            at += np.arange(self.places, dtype=np.int32)[:, None] * np.int32(2 * BINS + 1)
            self.counts += weight * np.bincount(at.ravel(), minlength=self.counts.size).reshape(self.counts.shape)
        if known is not None:
            self.counts[:, BINS] -= weight * (~known).sum(1)

    def _raise(self, top: int) -> None:
        """Move the bins so that `top` is the last; what falls below the first one joins it."""
        if self.top is None:
            self.top = top
        shift = top - self.top
        if shift <= 0:
            return
        moved, few = np.zeros_like(self.counts), min(shift, BINS)
        kept = BINS - few
        for theirs, ours in ((self.counts[:, :BINS][:, ::-1], moved[:, :BINS][:, ::-1]),
                             (self.counts[:, BINS + 1 :], moved[:, BINS + 1 :])):  # fmt: skip
            ours[:, :kept] = theirs[:, few:]
            ours[:, 0] += theirs[:, :few].sum(1)
        moved[:, BINS] = self.counts[:, BINS]
        self.counts, self.top = moved, top

    def merge(self, other: Sketch) -> None:
        """Add what another sketch of the same places has counted."""
        self.low, self.high = np.fmin(self.low, other.low), np.fmax(self.high, other.high)
        if other.top is not None:
            self._raise(other.top)
        if other.top == self.top or other.top is None:
            self.counts += other.counts
            return
        assert self.top is not None
        theirs = Sketch(other.places)
        theirs.top, theirs.counts = other.top, other.counts
        theirs._raise(self.top)
        self.counts += theirs.counts

    @property
    def total(self) -> np.ndarray:
        """How many values were counted at each place."""
        total: np.ndarray = self.counts.sum(1)
        return total

    def quantiles(self, levels: Any) -> np.ndarray:
        """Estimate quantiles ``(levels, places)``, each within 1 % of a value of that rank; NaN where there is none."""
        first = (self.top or 0) - BINS + 1
        lower, upper = (_start(np.arange(BINS) + first + n) for n in (0, 1))
        middles = 2 * lower * (upper / (lower + upper))
        values = np.concatenate([-middles[::-1], [0.0], middles])
        reached = self.counts.cumsum(1)
        found = np.full((len(levels), self.places), np.nan)
        for place in range(self.places):
            total = reached[place, -1]
            if not total:
                continue
            ranks = np.floor(np.asarray(levels) * (total - 1))
            at = values[np.searchsorted(reached[place], ranks, side="right")]
            found[:, place] = np.clip(at, self.low[place], self.high[place])
        return found

    # -- for sending and keeping --------------------------------------------------------------------------------

    def as_arrays(self) -> dict[str, np.ndarray]:
        """Return all that is known, counts as places and numbers of those that are not 0."""
        where = np.flatnonzero(self.counts)
        return {
            "where": where, "counts": self.counts.ravel()[where], "low": self.low, "high": self.high,
            "top": np.array([] if self.top is None else [self.top], np.int64),
        }  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """Read what `as_arrays` returned."""
        sketch = cls(len(arrays["low"]))
        sketch.counts.ravel()[arrays["where"]] = arrays["counts"]
        sketch.low, sketch.high = (arrays[name].copy() for name in ("low", "high"))
        sketch.top = int(arrays["top"][0]) if len(arrays["top"]) else None
        return sketch


def _bin(magnitude: float) -> int:
    """Return the bin of a positive number, 0 being that of 1.0.

    Examples
    --------
    >>> _bin(1.0), _bin(2.0), _bin(3.0)
    (0, 64, 96)
    """
    fraction, exponent = math.frexp(magnitude)
    return (exponent - 1) * STEPS + int((2 * fraction - 1) * STEPS)


def _fold(counts: np.ndarray, found: np.ndarray, cells: np.ndarray) -> None:
    """Add to the counts of a place what was found of each sign, exponent and first bits of a fraction."""
    half = len(cells) // 2
    first = int(np.searchsorted(cells[:half], BINS + 1, side="right"))  # what has a bin of its own begins here
    begin = int(cells[first]) - BINS - 1
    last = min(half, first + BINS - begin)
    positive, negative = found[:half], found[half:]
    counts[BINS] += positive[0] + negative[0]
    for own, bins in ((positive, counts[BINS + 1 :]), (negative, counts[:BINS][::-1])):
        bins[0] += own[1:first].sum()
        bins[begin : begin + last - first] += own[first:last]


def _start(bins: np.ndarray) -> np.ndarray:
    """Return where bins begin."""
    exponents, steps = np.divmod(bins, STEPS)
    return np.ldexp(1 + steps / STEPS, exponents)


@functools.lru_cache(maxsize=8)
def _cells(dtype: str, top: int) -> np.ndarray:
    """Return for each sign, exponent and first bits of a fraction the place among the counts, if `top` is the last bin.

    What is smaller than the smallest normal number of a precision, 1e-38, may count as zero.
    """
    _, _, bias = _FORMATS[dtype]
    bins = np.arange((2 * bias + 2) * STEPS, dtype=np.int32) - np.int32(bias * STEPS + top - BINS + 1)
    own = np.clip(bins, 0, BINS - 1) + 1
    own[0] = 0
    cells = np.concatenate([BINS + own, BINS - own])
    cells.setflags(write=False)
    return cells
