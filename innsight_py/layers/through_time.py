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


def step_by_step(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return memory for steps, which are the third axis from the end, in which each step lies in one piece."""
    *lead, steps, gates, size = shape
    return like.new_empty((steps, *lead, gates, size)).movedim(0, -3)


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

    Each step works in the same memory. What came to its cell and its state waits until all steps are walked; then the
    input gets what is due to it, for all steps at once.

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
        hidden, x, before = given.of[HIDDEN], self._by_gates(given.of["x"]), products[0].before
        folds = before is not None and all(it.before is before for it in products)
        self._products = [it._replace(before=None) if folds else it for it in products]
        passed = self._by_gates(hidden if before is None or not folds else hidden * before)
        self._has_cell, self._has_state, self._to_cell = "c" in given.of, "h" in given.of, given.to_cell is not None
        # With a cell, only the last gates get something from the state itself.
        self._gates, self._count = passed.shape[-2], passed.shape[-3]
        self._own = len(given.by_state or ()) if self._has_cell else self._gates
        of_cell, of_state = self._parted(passed)
        direct = [self._by_gates(y) for y in (given.to_cell, given.of.get("h")) if y is not None]
        self._by_state = self._together([of_state, *direct])
        self._by_cell = self._together([self._by_gates(given.of["c"]), of_cell]) if self._has_cell else None
        self._to_input = self._parted(x)
        factors = [self._by_cell, self._by_state, x, *(y for it in products for y in (it.before, it.after))]
        self._rows = max(len(y) for y in factors if y is not None)

    def _by_gates(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], -1, self._size)

    def _parted(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Part gates into those that get something from the cell, and from the state."""
        own = self._own if self._has_cell else x.shape[-2]
        return x.narrow(-2, 0, x.shape[-2] - own), x.narrow(-2, x.shape[-2] - own, own)

    @staticmethod
    def _together(factors: Sequence[Tensor]) -> Tensor | None:
        """Lay factors side by side, step by step in memory; None for those of no gate."""
        some = [y for y in factors if y.shape[-2]]
        if not some:
            return None
        counts = [y.shape[-2] for y in some]
        _, *lead, steps, _, size = some[0].shape
        whole = step_by_step(some[0], (max(len(y) for y in some), *lead, steps, sum(counts), size))
        for part, y in zip(whole.split_with_sizes(counts, -2), some, strict=True):
            part.copy_(y)
        return whole

    def _cut(self, x: Tensor, axis: int = -3) -> Sequence[Tensor]:
        return in_order(x, axis, self._reverse)

    def walk(self, above: Tensor, above_cells: Tensor | None, room: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what the input of these steps gets, and what comes to the state and the cell before the first of them.

        Parameters
        ----------
        above, above_cells : Tensor
            What comes to the layer's steps from above, ``(K, B or 1, *lead, steps, entries)``.
        room : int
            How many steps before these the first result has room for.
        """
        k, rows, *lead, _, size = above.shape
        shape, count = (k, max(rows, self._rows), *lead), self._count
        earlier = above.narrow(-2, int(self._reverse), above.shape[-2] - 1)
        looked_at = bool(torch.count_nonzero(earlier))  # often only the last step is
        products, by_state, x_of_state, behind = self._products, self._by_state, self._to_input[1], None
        if self._has_cell and not looked_at and len(products) == 1 and products[0].after is not None:
            # What comes through the matrix is only multiplied once more, by factors that take this one in.
            behind, products = products[0].after, [products[0]._replace(after=None)]
            of_state = self._of_next(behind)
            by_state, x_of_state = None if by_state is None else by_state * of_state, x_of_state * of_state
        # The memory of a step: what goes on to the cell, the gates, and the state's part of the cell, or of the state.
        first, direct = int(self._has_cell), int(self._to_cell or self._has_state)
        work = above.new_empty((*shape, first + self._gates + direct, size))
        mine = self._own + direct  # what the state hands down
        from_cell, from_state = work.split_with_sizes([work.shape[-2] - mine, mine], -2)
        carried, last = work.narrow(-2, 0, 1), work.narrow(-2, -1, 1)
        # What comes to the states waits only where the input needs it.
        states = step_by_step(above, (*shape, count + 1 if self._own else 1, 1, size))
        cells = step_by_step(above, (*shape, count, 1, size)) if first else None
        ends = self._cut_states(states, -3)
        ends[-1].copy_(self._from_above(self._by_gates(above), -3)[-1])
        added = () if above_cells is None else self._from_above(self._by_gates(above_cells), -3)
        if first:
            carried.zero_()
        uppers, by_cells, by_states = (() if y is None else self._cut(y) for y in (cells, self._by_cell, by_state))
        sent = work.narrow(-2, first, self._gates).flatten(-2)
        arriving = [
            self._arriving(it, states.squeeze(-2), sent, above if looked_at and number == 0 else None, number > 0)
            for number, it in enumerate(products)
        ]
        with torch.inference_mode():  # a call takes a tenth less; what it writes to was there before
            for i in reversed(range(count)):
                if by_states:
                    torch.mul(by_states[i], ends[i + 1], out=from_state)
                if uppers:
                    torch.add(carried, last, out=uppers[i]) if self._to_cell else uppers[i].copy_(carried)
                    if added:
                        uppers[i].add_(added[i + 1])
                    torch.mul(by_cells[i], uppers[i], out=from_cell)
                for arrive in arriving:
                    arrive(i)
                if self._has_state:
                    ends[i].add_(last)
        state, cell = ends[0].squeeze(-2), carried.squeeze(-2) if first else None
        state = state if behind is None else state * behind.select(-2, self._at_first)
        cell = cell + added[0].squeeze(-2) if cell is not None and added else cell
        return self._input(cells, states, x_of_state, room), state, cell

    def _input(self, cells: Tensor | None, states: Tensor, of_state: Tensor, room: int) -> Tensor:
        """Return what the input gets of what came to the cells and the states."""
        count, of_cell, like = self._count, self._to_input[0], states if cells is None else cells
        gates = [of_cell.shape[-2], of_state.shape[-2]]
        x = like.new_empty((*like.shape[:-3], count + room, sum(gates), self._size))
        parts = x.narrow(-3, 0 if self._reverse else room, count).split_with_sizes(gates, -2)
        if cells is not None:
            torch.mul(of_cell, cells, out=parts[0])
        if self._own:
            torch.mul(of_state, states.narrow(-3, int(not self._reverse), count), out=parts[1])
        return x.flatten(-2)

    @property
    def _at_first(self) -> int:
        """Where along its axis the step is that the layer takes first."""
        return -1 if self._reverse else 0

    def _of_next(self, x: Tensor) -> Tensor:
        """Return for each step, by gates, what the one behind it has; for the last one 1."""
        later, end = x.narrow(-2, int(not self._reverse), x.shape[-2] - 1), torch.ones_like(x.narrow(-2, 0, 1))
        return torch.cat([end, later] if self._reverse else [later, end], -2).unsqueeze(-2)

    def _from_above(self, x: Tensor, axis: int) -> Sequence[Tensor]:
        """Cut what comes from above into the steps; nothing comes to what is before the first one."""
        steps = self._cut(x, axis)
        return steps if len(steps) > self._count else [torch.zeros_like(steps[0]), *steps]

    def _cut_states(self, x: Tensor, axis: int) -> Sequence[Tensor]:
        """Cut what comes to the states into the steps, which may all have the same memory."""
        return self._cut(x, axis) if self._own else [x.select(axis, 0)] * (self._count + 1)

    def _arriving(
        self, it: StepProduct, states: Tensor, sent: Tensor, above: Tensor | None, adds: bool
    ) -> Callable[[int], object]:  # fmt: skip
        """Return what writes what comes to the state of a step through a matrix, and from above.

        Parameters
        ----------
        it : StepProduct
            The product.
        states, sent : Tensor
            What comes to the states, and what a step hands down to the matrix.
        above : Tensor, optional
            What comes from above.
        adds : bool
            Whether it is added to what has come already.
        """
        weight, gates = it.weight, sent.shape[-1]
        flat, flat_sent = self._cut_states(states.flatten(0, -3), -2), sent.flatten(0, -2)
        if it.before is None and it.after is None:
            if above is None and not adds:
                return lambda i: torch.mm(flat_sent, weight, out=flat[i])
            added = flat
            if above is not None:
                added = self._from_above(above.expand(*sent.shape[:-1], *above.shape[-2:]).flatten(0, -3), -2)
            return lambda i: torch.addmm(added[i], flat_sent, weight, out=flat[i])
        ends, pulled = self._cut_states(states, -2), sent.new_empty((*sent.shape[:-1], self._size))
        flat_pulled = pulled.flatten(0, -2)
        before, after = (None if y is None else self._cut(y, -2) for y in (it.before, it.after))
        given = ends if adds else None if above is None else self._from_above(above, -2)

        def arrive(i: int) -> None:
            torch.mm(
                flat_sent if before is None else (sent * before[i]).reshape(-1, gates), weight, out=flat_pulled
            )  # fmt: skip
            if given is None:
                ends[i].copy_(pulled) if after is None else torch.mul(after[i], pulled, out=ends[i])
            elif after is None:
                torch.add(given[i], pulled, out=ends[i])
            else:
                torch.addcmul(given[i], after[i], pulled, out=ends[i])

        return arrive
