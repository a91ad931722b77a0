"""What the walk back through a recurrent layer multiplies by at each of its steps, and what each step saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from innsight_py.layers.base import Record, T


class Way(NamedTuple):
    """What goes down through a step: factors of the state and of the cell, for all values that get something.

    Each has an entry a step, ``(B or 1, *lead, gates, hidden)``, in the layer's order. `parts` tells which names get
    the same, from which gate on, and how many gates.
    """

    parts: tuple[tuple[tuple[str, ...], int, int], ...]
    state: Sequence[Tensor]
    cell: Sequence[Tensor] | None


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


def cut_ways(size: int, factors: Mapping[str, Tensor], cut: Callable[[Tensor], list[Tensor]]) -> Way | None:
    """Lay the factors of all values side by side, gate by gate, and cut them into steps; None where nothing goes."""
    if not factors:
        return None
    names: dict[int, list[str]] = {}
    for name, factor in factors.items():
        names.setdefault(id(factor), []).append(name)
    distinct = [factors[same[0]] for same in names.values()]
    rows = max(factor.shape[1] for factor in distinct)
    parts, start = [], 0
    for same, factor in zip(names.values(), distinct, strict=True):
        gates = factor.shape[-1] // size
        parts.append((tuple(same), start, gates))
        start += gates
    wide = torch.cat([f if f.shape[1] == rows else f.expand(-1, rows, *f.shape[2:]) for f in distinct], -1)
    sinks = [cut(x) for x in wide]
    steps = [[x.reshape(*x.shape[:-1], start, size) for x in sink] for sink in sinks]
    return Way(tuple(parts), steps[0], steps[1] if len(steps) > 1 else None)


def through_step(way: Way | None, place: int, state: Tensor, cell: Tensor | None) -> dict[str, Tensor]:
    """Return what the state and the cell hand down to each value that a step takes."""
    if way is None:
        return {}
    total = way.state[place] * state.unsqueeze(-2)
    if cell is not None and way.cell is not None:
        total = torch.addcmul(total, way.cell[place], cell.unsqueeze(-2))
    if len(way.parts) == 1:
        return dict.fromkeys(way.parts[0][0], total.flatten(-2))
    down: dict[str, Tensor] = {}
    for names, start, gates in way.parts:
        down |= dict.fromkeys(names, total.narrow(-2, start, gates).flatten(-2))
    return down
