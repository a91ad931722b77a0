"""Explanations of some rows in the one form that all layouts are made of, and read back into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from innsight_py.datasets.arrow import Column


@dataclass(frozen=True, eq=False)
class Block:
    """A line for each row and explained node, the nodes of a row together; one line for a row that went wrong.

    Attributes
    ----------
    ids : Column
        Names of the rows, an array of Arrow.
    layers : ndarray
        Number of the output layer of each line; -1 for a row that went wrong.
    nodes : ndarray
        Number of the explained node, among those of its output layer that may be (see `Form.labels`).
    numbers : ndarray
        ``(lines, 3)``: prediction, goal and residual, in double precision; NaN where there is no such thing.
    values : sequence of ndarray
        For each explained input ``(lines, size)``; NaN where it does not reach the output, or the row went wrong.
    errors : ndarray of object
        What went wrong; None where nothing did.
    """

    ids: Column
    layers: np.ndarray
    nodes: np.ndarray
    numbers: np.ndarray
    values: Sequence[np.ndarray]
    errors: np.ndarray

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def good(self) -> np.ndarray:
        """Which lines went well."""
        return self.layers >= 0

    def take(self, lines: np.ndarray) -> Block:
        """Return some of the lines, by number or as truth values."""
        lines = np.flatnonzero(lines) if lines.dtype == bool else lines
        if len(lines) == len(self) and bool((lines == np.arange(len(self))).all()):
            return self
        return Block(
            self.ids.take(lines), self.layers[lines], self.nodes[lines], self.numbers[lines],
            [x[lines] for x in self.values], self.errors[lines],
        )  # fmt: skip


def joined(blocks: Sequence[Block]) -> Block:
    """Put blocks together, one after the other."""
    if len(blocks) == 1:
        return blocks[0]
    import pyarrow as pa

    def parts(name: str) -> np.ndarray:
        return np.concatenate([getattr(block, name) for block in blocks])

    return Block(
        pa.concat_arrays([block.ids for block in blocks]), parts("layers"), parts("nodes"), parts("numbers"),
        [np.concatenate(columns) for columns in zip(*(block.values for block in blocks), strict=True)],
        parts("errors"),
    )  # fmt: skip
