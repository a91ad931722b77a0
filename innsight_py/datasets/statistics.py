"""What is known of all rows together: sums, magnitudes and quantiles, gathered in one pass and merged."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from innsight_py.datasets.block import Block
from innsight_py.datasets.form import Form
from innsight_py.datasets.sketch import MOST_BYTES, Sketch

#: What is written down: 2 has other bins of quantiles than 1, and 3 counts one row of eight.
VERSION = 3
#: Of the first `ALL_OF` rows all are counted for quantiles; of the others one in `ONE_OF`, which counts for them.
ALL_OF, ONE_OF = 2**20, 8
#: Bytes of values that are added up together.
PIECE_BYTES = 2**19
#: An output layer, one of its nodes, an input.
Key = tuple[int, int, int]


class Statistics:
    """Sums over the rows of a data set, for each explained node and input.

    Of signals and images channels are added up first: the values, and for magnitudes and quantiles the magnitudes.

    Parameters
    ----------
    form : Form
        What the explanations look like.
    """

    def __init__(self, form: Form) -> None:
        self.form = form
        self.rows = self.errors = 0
        self.counts: dict[Key, int] = {}
        self.sums: dict[Key, np.ndarray] = {}
        self.magnitudes: dict[Key, np.ndarray] = {}
        self.residuals: dict[Key, float] = {}
        self.sketches: dict[Key, Sketch] = {}
        places = [self.places(j) for j in range(len(form.inputs))]
        most = sum(len(labels) for labels, reach in zip(form.labels, form.reach, strict=True) if reach)
        #: Whether there are so few places that quantiles of each of them are known.
        self.sketched = all(map(Sketch.fits, places)) and most * sum(places) * 64 * 8 <= MOST_BYTES

    def places(self, j: int) -> int:
        """Count the values of input j that are told apart: its features, or positions without channels."""
        port = self.form.inputs[j]
        return math.prod(port.dim[1:] if port.has_channels else port.dim)

    def add(self, block: Block, first: int = 0) -> None:
        """Add the lines of some rows, whose numbers begin with `first`."""
        samples = _samples(block, self.form, first) if self.sketched else []
        wrong = int((~block.good).sum())
        self.errors += wrong
        self.rows += wrong + (len(block) - wrong) // max(1, self.form.lines)
        for i, node, lines in _groups(block, self.form):
            for j, reached in enumerate(self.form.reach[i]):
                if not reached:
                    continue
                key, values = (i, node, j), block.values[j][lines]
                self.counts[key] = self.counts.get(key, 0) + len(values)
                if self.form.inputs[j].has_channels:
                    magnitudes = self._over_channels(np.abs(values), j)
                    added = self._over_channels(values, j).sum(0, dtype=np.float64), _summed(magnitudes)[0]
                    values = magnitudes
                else:
                    added = _summed(values)
                for sums, own in zip((self.sums, self.magnitudes), added, strict=True):
                    _accumulate(sums, key, own)
                residual = np.abs(block.numbers[lines, 2])
                known = residual[np.isfinite(residual)]
                if len(known):
                    self.residuals[key] = max(self.residuals.get(key, 0.0), float(known.max()))
                for chosen, weight in samples:
                    sketch = self.sketches.setdefault(key, Sketch(values.shape[1]))
                    sketch.add(values if chosen is None else _some(values, chosen[lines]), weight)

    def _over_channels(self, values: np.ndarray, j: int) -> np.ndarray:
        lines = values.reshape(len(values), *self.form.dim(j))
        summed: np.ndarray = lines.sum(1 if self.form.channels_first else -1).reshape(len(values), -1)
        return summed

    def merge(self, other: Statistics) -> None:
        """Add what others have gathered of other rows."""
        self.rows += other.rows
        self.errors += other.errors
        for key, count in other.counts.items():
            self.counts[key] = self.counts.get(key, 0) + count
            _accumulate(self.sums, key, other.sums[key])
            _accumulate(self.magnitudes, key, other.magnitudes[key])
            if key in other.residuals:
                self.residuals[key] = max(self.residuals.get(key, 0.0), other.residuals[key])
            if key in other.sketches:
                self.sketches.setdefault(key, Sketch(other.sketches[key].places)).merge(other.sketches[key])

    # -- for sending and keeping --------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        return Statistics.from_bytes, (self.to_bytes(), self.form)

    def to_bytes(self) -> bytes:
        """Write all that is known."""
        arrays: dict[str, np.ndarray] = {}
        for key in self.counts:
            name = "/".join(map(str, key))
            own: dict[str, Any] = {
                "count": self.counts[key], "sum": self.sums[key], "magnitude": self.magnitudes[key],
                "residual": self.residuals.get(key, math.nan),
            }  # fmt: skip
            if key in self.sketches:
                own |= self.sketches[key].as_arrays()
            arrays |= {f"{name}/{what}": np.asarray(x) for what, x in own.items()}
        facts = json.dumps(
            {"rows": self.rows, "errors": self.errors, "version": VERSION, "keys": [list(key) for key in self.counts]}
        )
        file = io.BytesIO()
        np.savez(file, facts=np.array(facts), allow_pickle=False, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, form: Form) -> Self:
        """Read what `to_bytes` wrote; nothing if another version of this package did."""
        found = cls(form)
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            facts = json.loads(str(arrays["facts"]))
            if facts.get("version") != VERSION:
                return found
            found.rows, found.errors = facts["rows"], facts["errors"]
            for key in map(tuple, facts["keys"]):
                name = "/".join(map(str, key))
                found.counts[key] = int(arrays[f"{name}/count"])
                found.sums[key], found.magnitudes[key] = arrays[f"{name}/sum"], arrays[f"{name}/magnitude"]
                residual = float(arrays[f"{name}/residual"])
                if not math.isnan(residual):
                    found.residuals[key] = residual
                if f"{name}/where" in arrays:
                    names = ("where", "counts", "low", "high", "top")
                    found.sketches[key] = Sketch.from_arrays({what: arrays[f"{name}/{what}"] for what in names})
        return found


def _groups(block: Block, form: Form) -> Iterator[tuple[int, int, Any]]:
    """Give each explained node that occurs, and its lines."""
    good = block.good
    if (
        form.lines == 1
        and good.all()
        and len(block)
        and (block.nodes == block.nodes[0]).all()
        and (block.layers == block.layers[0]).all()
    ):
        yield int(block.layers[0]), int(block.nodes[0]), slice(None)
        return
    for i in np.unique(block.layers[good]):
        of_layer = block.layers == i
        for node in np.unique(block.nodes[of_layer]):
            yield int(i), int(node), of_layer & (block.nodes == node)


def _samples(block: Block, form: Form, first: int) -> list[tuple[np.ndarray | None, int]]:
    """Say which lines quantiles are taken of, and how much each counts: of many rows one in `ONE_OF`.

    Which rows these are depends on their numbers alone.
    """
    if not len(block):
        return [(None, 1)]
    # The number of the row of each line, counted from the first one here.
    own = None if form.lines == 1 else (np.cumsum(np.where(block.good, 1, form.lines)) - 1) // form.lines
    stop = first + (len(block) if own is None else int(own[-1]) + 1)
    if stop <= ALL_OF:
        return [(None, 1)]
    begin = max(first, ALL_OF)
    groups = np.arange(begin // ONE_OF, (stop - 1) // ONE_OF + 1)
    rows = groups * ONE_OF + _mixed(groups) % ONE_OF
    few, drawn = np.zeros((2, stop - first), bool)
    few[: begin - first] = True
    drawn[rows[(rows >= begin) & (rows < stop)] - first] = True
    return [(rows if own is None else rows[own], weight) for rows, weight in ((few, 1), (drawn, ONE_OF)) if rows.any()]


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Make whole numbers of others that look drawn: the end of splitmix64."""
    x = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return (x >> np.uint64(33)).astype(np.int64)


def _summed(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add up each column, and its magnitudes; piece by piece where it lies together, which stays in the cache."""
    if not values.flags.f_contiguous:
        return values.sum(0, dtype=np.float64), np.abs(values).sum(0, dtype=np.float64)
    sums, magnitudes, lines = np.zeros(values.shape[1]), np.zeros(values.shape[1]), values.T
    step = max(1, PIECE_BYTES // max(1, 8 * len(lines)))
    for start in range(0, len(values), step):
        piece = lines[:, start : start + step].astype(np.float64)
        sums += piece.sum(1)
        magnitudes += np.abs(piece, out=piece).sum(1)
    return sums, magnitudes


def _some(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the chosen lines; column by column where each lies together, as sketches take them."""
    return values.T.take(np.flatnonzero(chosen), axis=1).T if values.flags.f_contiguous else values[chosen]


def _accumulate(sums: dict[Key, np.ndarray], key: Key, values: np.ndarray) -> None:
    sums[key] = sums[key] + values if key in sums else values
