"""One direction of an LSTM, a GRU or a plain recurrent layer as one loop; shared by the doors for frameworks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from innsight_py.converters.writer import Value, Writer

#: No file can make a loop so long that nobody can wait for it.
MOST_STEPS = 100_000


@dataclass(frozen=True)
class Direction:
    """What a direction of a recurrent layer is made of; its gates in the order of PyTorch.

    Attributes
    ----------
    cell : str
        What the spec calls its cell.
    weight : Tensor
        The weights of the input, ``(gates * hidden, in)``.
    recurrent : Tensor
        Those of the state, ``(gates * hidden, hidden)``.
    bias, recurrent_bias : Tensor, optional
        Theirs.
    projection : Tensor, optional
        Of an LSTM.
    reverse : bool
        Whether it starts at the last step.
    shifts : bool
        Whether biases are layers of their own behind the products.
    blend : bool
        How a GRU mixes the old and the new state.
    """

    cell: str
    weight: Tensor
    recurrent: Tensor
    bias: Tensor | None = None
    recurrent_bias: Tensor | None = None
    projection: Tensor | None = None
    reverse: bool = False
    shifts: bool = False
    blend: bool = False


def write_direction(
    write: Writer, x: Value, it: Direction, states: Sequence[Value | Tensor | None] = (), cells: bool = False
) -> list[Value]:
    """Write a direction: its states of all steps and, if they are wanted, its cells, both ``(rows, steps, hidden)``.

    Parameters
    ----------
    write : Writer
        Writes the layers.
    x : Value
        The input, ``(rows, steps, in)``.
    it : Direction
        What it is made of.
    states : sequence of Value, Tensor or None
        The hidden state and the cell before the first step, ``(rows, hidden)``; None for zeros.
    cells : bool
        Whether the cells of an LSTM are wanted.
    """
    rows, steps, _ = x.shape
    shape = (rows, steps, len(it.weight))
    gates = write.layer("Dense", [x], shape, weight=it.weight, bias=None if it.shifts else it.bias)
    if it.shifts and it.bias is not None:
        gates = write.layer("Scale", [gates], shape, shift=it.bias)
    size, own = it.recurrent.shape[1], len(it.recurrent) // 4
    keys: dict[str, Any] = {
        "weight": it.recurrent, "bias": it.recurrent_bias, "projection": it.projection, "blend": it.blend or None
    }  # fmt: skip
    inputs, named = [gates], []
    for name, key, given in zip(("hidden", "cell"), ("hidden", "cell_state"), states, strict=False):
        if isinstance(given, Value):
            inputs.append(given)
            named.append(name)
        elif given is not None and bool(given.any()):
            keys[key] = given[0] if rows == 1 and given.dim() > 1 else given
    out = write.layer(
        "Recurrent", inputs, (rows, steps, size + own if cells else size), cell=it.cell, states=named,
        reverse=it.reverse, cells=cells, **{key: value for key, value in keys.items() if value is not None},
    )  # fmt: skip
    return [write.take(out, 2, range(size)), write.take(out, 2, range(size, size + own))] if cells else [out]


def last_step(write: Writer, states: Value, reverse: bool) -> Value:
    """Write the states after the last step, ``(rows, hidden)``."""
    rows, steps, size = states.shape
    taken = write.take(states, 1, [0 if reverse else steps - 1])
    return write.reshape(taken, (rows, size))
