"""The walk back through the steps of a recurrent layer, and what it multiplies by at each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from innsight_py.layers.affine import StepProduct
from innsight_py.layers.cells import HIDDEN, Factors


class Way(NamedTuple):
    """What goes down through a step, for all values that get something: see `Factors`.

    Factors have an entry a step, ``(B or 1, *lead, gates, hidden)``, in the layer's order. `parts` tells which names
    get the same, from which gate on, and how many gates. `by_state` tells of each gate whether it is the state's.
    """

    parts: tuple[tuple[tuple[str, ...], int, int], ...]
    factors: Sequence[Tensor]
    to_cell: Sequence[Tensor] | None
    by_state: tuple[bool, ...]


def in_order(x: Tensor, axis: int, reverse: bool) -> Sequence[Tensor]:
    """Cut what is side by side along an axis into the steps, in the order in which a layer takes them."""
    steps = x.unbind(axis)
    return steps[::-1] if reverse else steps


def summed(x: Tensor | None, y: Tensor | None) -> Tensor | None:
    """Return the sum of what there is."""
    return x if y is None else y if x is None else x + y


def cut_ways(size: int, given: Factors, cut: Callable[[Tensor], Sequence[Tensor]]) -> Way | None:
    """Lay the factors of all values side by side, gate by gate, and cut them into steps; None where nothing goes."""
    factors = given.of
    if not factors:
        return None
    names: dict[int, list[str]] = {}
    for name, factor in factors.items():
        names.setdefault(id(factor), []).append(name)
    distinct = [factors[same[0]] for same in names.values()]
    rows = max(factor.shape[0] for factor in distinct)
    parts, by_state = [], list[bool]()
    for same, factor in zip(names.values(), distinct, strict=True):
        gates = factor.shape[-1] // size
        parts.append((tuple(same), len(by_state), gates))
        by_state += [given.by_state is None or (gates > 1 and i in given.by_state) for i in range(gates)]
    wide = torch.cat([f.expand(rows, *f.shape[1:]) for f in distinct], -1)
    steps = [x.reshape(*x.shape[:-1], -1, size) for x in cut(wide)]
    return Way(tuple(parts), steps, None if given.to_cell is None else cut(given.to_cell), tuple(by_state))


def through_step(way: Way | None, place: int, state: Tensor, cell: Tensor | None) -> dict[str, Tensor]:
    """Return what the state and the cell hand down to each value that a step takes."""
    if way is None:
        return {}
    upper = state.unsqueeze(-2)
    if not all(way.by_state):
        whole = summed(cell, None if way.to_cell is None else way.to_cell[place] * state)
        whole = torch.zeros_like(state) if whole is None else whole
        rows = max(state.shape[1], whole.shape[1])
        pair = [x.expand(-1, rows, *x.shape[2:]) for x in (whole, state)]
        upper = torch.stack([pair[of_state] for of_state in way.by_state], -2)
    total = way.factors[place] * upper
    if len(way.parts) == 1:
        return dict.fromkeys(way.parts[0][0], total.flatten(-2))
    down: dict[str, Tensor] = {}
    for names, start, gates in way.parts:
        down |= dict.fromkeys(names, total.narrow(-2, start, gates).flatten(-2))
    return down


class Later:
    """The walk back through all steps but the first, where each ends at one matrix and nothing is in its way.

    A step writes what the state and the cell hand down into memory that is there before, and adds what comes through
    the matrix to the step before. What goes to the input waits until all steps are walked, unless it is the same.

    Parameters
    ----------
    size : int
        Entries of a state.
    given : Factors
        Those of the steps.
    products : sequence of StepProduct
        What becomes of what goes to the matrix.
    reverse : bool
        Whether the layer takes the last step first.
    """

    def __init__(self, size: int, given: Factors, products: Sequence[StepProduct], reverse: bool) -> None:
        self._size, self._reverse = size, reverse
        hidden, x, before = given.of[HIDDEN], given.of["x"], products[0].before
        folds = before is not None and all(it.before is before for it in products)
        passed = hidden if before is None or not folds else hidden * before
        wide = [passed, *(given.of[name] for name in ("c", "h") if name in given.of)]
        rows = max(y.shape[0] for y in wide)
        factors = torch.cat([y.expand(rows, *y.shape[1:]) for y in wide], -1) if wide[1:] else wide[0]
        self._has_cell, self._has_state = "c" in given.of, "h" in given.of
        self._through, self._width = hidden.shape[-1], factors.shape[-1]
        self._by_state = sorted(given.by_state or ())
        self._factors = self._cut(self._by_gates(factors), -3)
        self._own_factors = [self._cut(self._gate(factors, gate), -2) for gate in self._by_state]
        self._to_cell = None if given.to_cell is None else self._cut(given.to_cell, -2)
        self._to_input = None if x is hidden and not folds else x
        self._products = [it._replace(before=None) if folds else it for it in products]
        more = [y for it in products for y in (it.before, it.after) if y is not None]
        self._rows = max(len(y) for y in (factors, x, *more, *([] if given.to_cell is None else [given.to_cell])))

    def _by_gates(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], -1, self._size)

    def _gate(self, x: Tensor, gate: int) -> Tensor:
        return x.narrow(-1, gate * self._size, self._size)

    def _cut(self, x: Tensor, axis: int) -> Sequence[Tensor]:
        return in_order(x, axis, self._reverse)

    def walk(self, above: Tensor, above_cells: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what the input of these steps gets, and what comes to the state and the cell of the first step.

        What comes to the steps from above is ``(K, B or 1, *lead, steps, entries)``.
        """
        k, rows, *lead, steps, size = above.shape
        shape = (k, max(rows, self._rows), *lead, steps)
        states = above.expand(*shape, size).clone(memory_format=torch.contiguous_format)
        # A slot more than there are steps, for what comes to the cell of the last one.
        total = states.new_empty((*shape, self._width))
        ends, slots = self._cut(states, -2), self._cut(self._by_gates(total), -3)
        own_slots = [self._cut(self._gate(total, gate), -2) for gate in self._by_state]
        cells = total.narrow(-1, self._through, size) if self._has_cell else None
        arriving = () if cells is None else self._cut(cells, -2)
        uppers = self._cut((states if cells is None else cells).unsqueeze(-2), -3)
        added = () if above_cells is None else self._cut(above_cells, -2)
        if arriving:
            arriving[-1].copy_(added[-1]) if added else arriving[-1].zero_()
        direct = self._cut(self._gate(total, self._width // size - 1), -2) if self._has_state else ()
        pulls = [self._pull(it, total, states) for it in self._products]
        for i in reversed(range(steps - 1)):
            if self._to_cell is not None:
                arriving[i + 1].addcmul_(self._to_cell[i], ends[i + 1])
            torch.mul(self._factors[i], uppers[i + 1], out=slots[i])
            for factors, own in zip(self._own_factors, own_slots, strict=True):
                torch.mul(factors[i], ends[i + 1], out=own[i])
            if added:
                arriving[i].add_(added[i])
            if direct:
                ends[i].add_(direct[i])
            for pull in pulls:
                pull(i)
        return self._input(total, states, cells), ends[0], arriving[0] if arriving else None

    def _input(self, total: Tensor, states: Tensor, cells: Tensor | None) -> Tensor:
        """Return what the input gets, when all steps are walked."""
        first, count = int(not self._reverse), states.shape[-2] - 1
        if self._to_input is None:
            return total.narrow(-1, 0, self._through).narrow(-2, 1 - first, count)
        uppers, of_state = ((states if x is None else x).narrow(-2, first, count) for x in (cells, None))
        x = (self._by_gates(self._to_input) * uppers.unsqueeze(-2)).flatten(-2)
        for gate in self._by_state:
            torch.mul(self._gate(self._to_input, gate), of_state, out=self._gate(x, gate))
        return x

    def _pull(self, it: StepProduct, total: Tensor, states: Tensor) -> Callable[[int], object]:
        """Return what adds what comes through a matrix at a step to what comes to the step before."""
        sent, weight = total.narrow(-1, 0, self._through), it.weight
        flat = self._cut(sent.flatten(0, -3), -2)
        flat_states = self._cut(states.flatten(0, -3), -2)
        if it.before is None and it.after is None:
            return lambda i: flat_states[i].addmm_(flat[i], weight)
        ends, pulled = self._cut(states, -2), states.new_empty((*states.shape[:-2], self._size))
        whole, flat_pulled = self._cut(sent, -2), pulled.reshape(-1, self._size)
        before, after = (None if y is None else self._cut(y, -2) for y in (it.before, it.after))

        def pull(i: int) -> None:
            upper = flat[i] if before is None else (whole[i] * before[i]).reshape(-1, self._through)
            if after is None:
                flat_states[i].addmm_(upper, weight)
            else:
                torch.mm(upper, weight, out=flat_pulled)
                ends[i].addcmul_(after[i], pulled)

        return pull
