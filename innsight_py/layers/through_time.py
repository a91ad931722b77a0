"""What the walk back through a recurrent layer multiplies by at each of its steps, and what each step saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from innsight_py.layers.base import Record, T


class Way(NamedTuple):
    """What goes down through a step to some values, which all get the same: factors of the state and of the cell.

    Each has an entry a step, ``(B or 1, *lead, [gates,] hidden)``, in the layer's order.
    """

    names: tuple[str, ...]
    state: Sequence[Tensor]
    cell: Sequence[Tensor] | None
    gates: int


class StepRecord(Record):
    """What one of several steps saw; what does not depend on data is computed once for all of them."""

    __slots__ = ("_all",)

    def __init__(
        self, inputs: tuple[Tensor, ...], output: Tensor, together: Record, kept: dict[str, object]
    ) -> None:  # fmt: skip
        super().__init__(inputs, output, output, kept)
        self._all = together

    def once(self, key: str, compute: Callable[[], T]) -> T:
        return self._all.once(key, compute) if key.startswith("weight") else super().once(key, compute)


def summed(x: Tensor | None, y: Tensor | None) -> Tensor | None:
    """Return the sum of what there is."""
    return x if y is None else y if x is None else x + y


def through_step(ways: Sequence[Way], place: int, state: Tensor, cell: Tensor | None) -> dict[str, Tensor]:
    """Return what the state and the cell hand down to each value that a step takes."""
    down: dict[str, Tensor] = {}
    for way in ways:
        several = way.gates > 1
        total = way.state[place] * (state.unsqueeze(-2) if several else state)
        if cell is not None and way.cell is not None:
            total = torch.addcmul(total, way.cell[place], cell.unsqueeze(-2) if several else cell)
        down |= dict.fromkeys(way.names, total.flatten(-2) if several else total)
    return down
