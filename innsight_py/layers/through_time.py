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
    """The walk back through steps of which each ends at one matrix, with nothing in its way: all, or all but the first.

    A step writes what the state and the cell hand down into memory that is there before, and what comes through the
    matrix where the step before takes it up. What goes to the input waits until all steps are walked, unless it is the
    same.

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
        by_gates = self._by_gates(factors)
        self._factors = self._cut(by_gates)
        self._own_factors = [self._cut(by_gates.narrow(-2, gate, 1)) for gate in self._by_state]
        self._to_cell = None if given.to_cell is None else self._cut(self._by_gates(given.to_cell))
        self._to_input = None if x is hidden and not folds else x
        self._products = [it._replace(before=None) if folds else it for it in products]
        more = [y for it in products for y in (it.before, it.after) if y is not None]
        self._rows = max(len(y) for y in (factors, x, *more, *([] if given.to_cell is None else [given.to_cell])))

    def _by_gates(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], -1, self._size)

    def _cut(self, x: Tensor, axis: int = -3) -> Sequence[Tensor]:
        return in_order(x, axis, self._reverse)

    def walk(self, above: Tensor, above_cells: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what the input of these steps gets, and what comes to the state and the cell before the first of them.

        What comes to the layer's steps from above is ``(K, B or 1, *lead, steps, entries)``.
        """
        k, rows, *lead, _, size = above.shape
        shape, count = (k, max(rows, self._rows), *lead), len(self._factors)
        # A slot more than there are steps, for what comes to the cell of the last one.
        total = self._by_gates(above.new_empty((*shape, count + 1, self._width)))
        # What comes to the states waits only where the input needs it.
        waits = self._to_input is not None
        states = above.new_empty((*shape, count + 1 if waits else 1, 1, size))
        ends = self._cut_states(states, -3)
        ends[-1].copy_(self._from_above(self._by_gates(above), -3)[-1])
        cells = total.narrow(-2, self._through // size, 1) if self._has_cell else None
        uppers = ends if cells is None else self._cut(cells)
        added = () if above_cells is None else self._from_above(self._by_gates(above_cells), -3)
        if cells is not None:
            uppers[-1].copy_(added[-1]) if added else uppers[-1].zero_()
        slots = self._cut(total)
        own = [
            (factors, self._cut(total.narrow(-2, gate, 1)))
            for gate, factors in zip(self._by_state, self._own_factors, strict=True)
        ]
        direct = self._cut(total.narrow(-2, -1, 1)) if self._has_state else ()
        earlier = above.narrow(-2, int(self._reverse), above.shape[-2] - 1)
        looked_at = bool(torch.count_nonzero(earlier))  # often only the last step is
        arriving = [
            self._arriving(it, states, total, above if looked_at and number == 0 else None, number > 0)
            for number, it in enumerate(self._products)
        ]
        with torch.inference_mode():  # a call takes a tenth less; what it writes to was there before
            for i in reversed(range(count)):
                state, whole = ends[i + 1], uppers[i + 1]
                if self._to_cell is not None:
                    whole.addcmul_(self._to_cell[i], state)
                torch.mul(self._factors[i], whole, out=slots[i])
                for factors, own_slots in own:
                    torch.mul(factors[i], state, out=own_slots[i])
                if added:
                    uppers[i].add_(added[i])
                for arrive in arriving:
                    arrive(i)
                if direct:
                    ends[i].add_(direct[i])
        cell = None if cells is None else uppers[0].squeeze(-2)
        return self._input(total, states, cells), ends[0].squeeze(-2), cell

    def _from_above(self, x: Tensor, axis: int) -> Sequence[Tensor]:
        """Cut what comes from above into the steps; nothing comes to what is before the first one."""
        steps = self._cut(x, axis)
        return steps if len(steps) > len(self._factors) else [torch.zeros_like(steps[0]), *steps]

    def _cut_states(self, x: Tensor, axis: int) -> Sequence[Tensor]:
        """Cut what comes to the states into the steps, which may all have the same memory."""
        return self._cut(x, axis) if self._to_input is not None else [x.select(axis, 0)] * (len(self._factors) + 1)

    def _input(self, total: Tensor, states: Tensor, cells: Tensor | None) -> Tensor:
        """Return what the input gets, when all steps are walked."""
        first, count = int(not self._reverse), len(self._factors)
        if self._to_input is None:
            return total.narrow(-3, 1 - first, count).flatten(-2).narrow(-1, 0, self._through)
        uppers, of_state = ((states if x is None else x).narrow(-3, first, count) for x in (cells, None))
        factors = self._by_gates(self._to_input)
        x = factors * uppers
        for gate in self._by_state:
            torch.mul(factors.narrow(-2, gate, 1), of_state, out=x.narrow(-2, gate, 1))
        return x.flatten(-2)

    def _arriving(
        self, it: StepProduct, states: Tensor, total: Tensor, above: Tensor | None, adds: bool
    ) -> Callable[[int], object]:  # fmt: skip
        """Return what writes what comes to the state of a step through a matrix, and from above.

        Parameters
        ----------
        it : StepProduct
            The product.
        states, total : Tensor
            What comes to the states, and what the steps hand down.
        above : Tensor, optional
            What comes from above.
        adds : bool
            Whether it is added to what has come already.
        """
        weight, sent = it.weight, total.flatten(-2).narrow(-1, 0, self._through)
        flat = self._cut_states(states.squeeze(-2).flatten(0, -3), -2)
        flat_sent = self._cut(sent.flatten(0, -3), -2)
        if it.before is None and it.after is None:
            if above is None and not adds:
                return lambda i: torch.mm(flat_sent[i], weight, out=flat[i])
            added = flat
            if above is not None:
                added = self._from_above(above.expand(*sent.shape[:-2], *above.shape[-2:]).flatten(0, -3), -2)
            return lambda i: torch.addmm(added[i], flat_sent[i], weight, out=flat[i])
        ends, whole = self._cut_states(states.squeeze(-2), -2), self._cut(sent, -2)
        pulled = torch.empty_like(ends[0], memory_format=torch.contiguous_format)
        flat_pulled = pulled.reshape(-1, self._size)
        before, after = (None if y is None else self._cut(y, -2) for y in (it.before, it.after))
        given = ends if adds else None if above is None else self._from_above(above, -2)

        def arrive(i: int) -> None:
            torch.mm(
                flat_sent[i] if before is None else (whole[i] * before[i]).reshape(-1, self._through),
                weight, out=flat_pulled,
            )  # fmt: skip
            if given is None:
                ends[i].copy_(pulled) if after is None else torch.mul(after[i], pulled, out=ends[i])
            elif after is None:
                torch.add(given[i], pulled, out=ends[i])
            else:
                torch.addcmul(given[i], after[i], pulled, out=ends[i])

        return arrive
