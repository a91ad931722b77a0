"""The loops forward through time, one for each kind of cell: few calls a step, into memory that is there before.

Each takes the part of the gates that comes from the input, ``(rows, steps, gates)``, the states before the first step,
and where the values of the steps go. Autograd sees nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from innsight_py.layers.cells import CANDIDATE, GATES_OF_ALL, SHOWN


class Matrices(NamedTuple):
    """The transposed weights of the state and what is added to their product; the same of what a reset gate gives."""

    weight: Tensor
    bias: Tensor | None
    inner: Tensor | None
    projection: Tensor | None


class Places:
    """Where the values of the steps go, by their name: each step has a place of its own, or all have the same.

    Parameters
    ----------
    x : Tensor
        The part of the gates that comes from the input.
    cut : callable
        Cuts what is side by side into the steps, in the layer's order.
    keeps : bool
        Whether values that no later step takes are kept.
    """

    def __init__(self, x: Tensor, cut: Callable[[Tensor], Sequence[Tensor]], keeps: bool) -> None:
        self._x, self.cut, self._keeps = x, cut, keeps
        #: What is kept, ``(rows, steps, entries)``.
        self.kept: dict[str, Tensor] = {}

    def taken(self, name: str, size: int) -> Sequence[Tensor]:
        """Return the places of a value that the next step takes."""
        self.kept[name] = self._x.new_empty((*self._x.shape[:-1], size))
        return self.cut(self.kept[name])

    def passing(self, name: str, size: int) -> Tensor:
        """Return memory for a value that only the walk back may look at, with one step if that does not either."""
        if not self._keeps:
            return self._x.new_empty((len(self._x), 1, size))
        self.kept[name] = self._x.new_empty((*self._x.shape[:-1], size))
        return self.kept[name]

    def steps(self, x: Tensor) -> Iterable[Tensor]:
        """Cut such memory, or a part of it, into the places of the steps."""
        return self.cut(x) if self._keeps else repeat(x[:, 0])


def lstm_loop(x: Tensor, hidden: Tensor, cell: Tensor, by: Matrices, at: Places) -> None:
    """Run an LSTM; the biases are in the parts of the gates."""
    size = cell.shape[-1]
    sums, own = at.passing(GATES_OF_ALL, 4 * size), cell.new_empty((len(x), 4 * size))
    let_in, kept, _, out = own.chunk(4, -1)
    values = zip(
        at.cut(x), at.steps(sums), at.steps(sums.narrow(-1, 2 * size, size)), at.steps(at.passing(CANDIDATE, size)),
        at.steps(at.passing(SHOWN, size)), at.taken("cell", size), at.taken("hidden", hidden.shape[-1]), strict=False,
    )  # fmt: skip
    with torch.inference_mode():  # a call takes a tenth less; what it writes to was there before
        for one, gates, before, new, shown, after, state in values:
            torch.addmm(one, hidden, by.weight, out=gates)
            torch.sigmoid(gates, out=own)  # of all, since one call is faster than two
            torch.tanh(before, out=new)
            torch.mul(kept, cell, out=after).addcmul_(let_in, new)
            torch.tanh(after, out=shown)
            if by.projection is None:
                torch.mul(out, shown, out=state)
            else:
                torch.mm(out * shown, by.projection, out=state)
            hidden, cell = state, after


def gru_loop(x: Tensor, hidden: Tensor, cell: Tensor, by: Matrices, at: Places) -> None:
    """Run a GRU that resets what the matrix gives."""
    size = hidden.shape[-1]
    sums, new = x.new_empty((len(x), x.shape[-1])), torch.empty_like(hidden)
    both, masked = sums.narrow(-1, 0, 2 * size), sums.narrow(-1, 2 * size, size)
    reset, update = both.chunk(2, -1)
    added = hidden.new_zeros(sums.shape[-1]) if by.bias is None else by.bias
    firsts, lasts = at.cut(x.narrow(-1, 0, 2 * size)), at.cut(x.narrow(-1, 2 * size, size))
    for first, last, state in zip(firsts, lasts, at.taken("hidden", size), strict=True):
        torch.addmm(added, hidden, by.weight, out=sums)
        both.add_(first).sigmoid_()
        torch.addcmul(last, masked, reset, out=new).tanh_()
        torch.lerp(new, hidden, update, out=state)
        hidden = state


def gru_reset_first_loop(x: Tensor, hidden: Tensor, cell: Tensor, by: Matrices, at: Places) -> None:
    """Run a GRU that resets the state before the product; the biases are in the parts of the gates."""
    size = hidden.shape[-1]
    assert by.inner is not None
    both, masked, new = (
        x.new_empty((len(x), 2 * size)),
        torch.empty_like(hidden),
        torch.empty_like(hidden),
    )
    reset, update = both.chunk(2, -1)
    firsts, lasts = at.cut(x.narrow(-1, 0, 2 * size)), at.cut(x.narrow(-1, 2 * size, size))
    for first, last, state in zip(firsts, lasts, at.taken("hidden", size), strict=True):
        torch.addmm(first, hidden, by.weight, out=both).sigmoid_()
        torch.mul(reset, hidden, out=masked)
        torch.addmm(last, masked, by.inner, out=new).tanh_()
        torch.lerp(new, hidden, update, out=state)
        hidden = state


def tanh_loop(x: Tensor, hidden: Tensor, cell: Tensor, by: Matrices, at: Places) -> None:
    """Run a plain layer; the biases are in the parts of the gates."""
    for one, state in zip(at.cut(x), at.taken("hidden", hidden.shape[-1]), strict=True):
        hidden = torch.addmm(one, hidden, by.weight, out=state).tanh_()


def relu_loop(x: Tensor, hidden: Tensor, cell: Tensor, by: Matrices, at: Places) -> None:
    """Run a plain layer; the biases are in the parts of the gates."""
    for one, state in zip(at.cut(x), at.taken("hidden", hidden.shape[-1]), strict=True):
        hidden = torch.addmm(one, hidden, by.weight, out=state).relu_()


LOOPS = {
    "lstm": lstm_loop,
    "gru": gru_loop,
    "gru_reset_first": gru_reset_first_loop,
    "rnn_tanh": tanh_loop,
    "rnn_relu": relu_loop,
}
