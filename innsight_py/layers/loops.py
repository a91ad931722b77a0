"""The loops forward through time, one for each kind of cell: few calls a step, into memory that is there before.

Each takes the part of the gates that comes from the input, ``(rows, steps, gates)``, what cuts it into steps in the
layer's order, the states before the first step, and where the states after each step go. Autograd sees nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Matrices(NamedTuple):
    """The transposed weights of the state and what is added to their product; the same of what a reset gate gives."""

    weight: Tensor
    bias: Tensor | None
    inner: Tensor | None
    projection: Tensor | None


#: Cuts into the steps.
Cut = Callable[[Tensor], Sequence[Tensor]]


def lstm_loop(
    x: Tensor, cut: Cut, hidden: Tensor, cell: Tensor, by: Matrices, states: Sequence[Tensor], cells: Sequence[Tensor]
) -> None:
    """Run an LSTM; the biases are in the parts of the gates."""
    gates, new, shown = x.new_empty((len(x), x.shape[-1])), torch.empty_like(cell), torch.empty_like(cell)
    let_in, kept, before, out = gates.chunk(4, -1)
    for one, state, after in zip(cut(x), states, cells, strict=True):
        torch.addmm(one, hidden, by.weight, out=gates)
        torch.tanh(before, out=new)
        gates.sigmoid_()  # of all, since one call is faster than two
        torch.mul(kept, cell, out=after).addcmul_(let_in, new)
        torch.tanh(after, out=shown)
        if by.projection is None:
            torch.mul(out, shown, out=state)
        else:
            torch.mm(shown.mul_(out), by.projection, out=state)
        hidden, cell = state, after


def gru_loop(
    x: Tensor, cut: Cut, hidden: Tensor, cell: Tensor, by: Matrices, states: Sequence[Tensor], cells: Sequence[Tensor]
) -> None:
    """Run a GRU that resets what the matrix gives."""
    size = hidden.shape[-1]
    sums, new = x.new_empty((len(x), x.shape[-1])), torch.empty_like(hidden)
    both, masked = sums.narrow(-1, 0, 2 * size), sums.narrow(-1, 2 * size, size)
    reset, update = both.chunk(2, -1)
    added = hidden.new_zeros(sums.shape[-1]) if by.bias is None else by.bias
    firsts, lasts = cut(x.narrow(-1, 0, 2 * size)), cut(x.narrow(-1, 2 * size, size))
    for first, last, state in zip(firsts, lasts, states, strict=True):
        torch.addmm(added, hidden, by.weight, out=sums)
        both.add_(first).sigmoid_()
        torch.addcmul(last, masked, reset, out=new).tanh_()
        torch.lerp(new, hidden, update, out=state)
        hidden = state


def gru_reset_first_loop(
    x: Tensor, cut: Cut, hidden: Tensor, cell: Tensor, by: Matrices, states: Sequence[Tensor], cells: Sequence[Tensor]
) -> None:
    """Run a GRU that resets the state before the product; the biases are in the parts of the gates."""
    size = hidden.shape[-1]
    assert by.inner is not None
    both, masked, new = (
        x.new_empty((len(x), 2 * size)),
        torch.empty_like(hidden),
        torch.empty_like(hidden),
    )
    reset, update = both.chunk(2, -1)
    firsts, lasts = cut(x.narrow(-1, 0, 2 * size)), cut(x.narrow(-1, 2 * size, size))
    for first, last, state in zip(firsts, lasts, states, strict=True):
        torch.addmm(first, hidden, by.weight, out=both).sigmoid_()
        torch.mul(reset, hidden, out=masked)
        torch.addmm(last, masked, by.inner, out=new).tanh_()
        torch.lerp(new, hidden, update, out=state)
        hidden = state


def tanh_loop(
    x: Tensor, cut: Cut, hidden: Tensor, cell: Tensor, by: Matrices, states: Sequence[Tensor], cells: Sequence[Tensor]
) -> None:
    """Run a plain layer; the biases are in the parts of the gates."""
    for one, state in zip(cut(x), states, strict=True):
        hidden = torch.addmm(one, hidden, by.weight, out=state).tanh_()


def relu_loop(
    x: Tensor, cut: Cut, hidden: Tensor, cell: Tensor, by: Matrices, states: Sequence[Tensor], cells: Sequence[Tensor]
) -> None:
    """Run a plain layer; the biases are in the parts of the gates."""
    for one, state in zip(cut(x), states, strict=True):
        hidden = torch.addmm(one, hidden, by.weight, out=state).relu_()


LOOPS = {
    "lstm": lstm_loop,
    "gru": gru_loop,
    "gru_reset_first": gru_reset_first_loop,
    "rnn_tanh": tanh_loop,
    "rnn_relu": relu_loop,
}
