"""The table of Keras layers: LSTM, GRU and SimpleRNN in one or both directions, each of which is one loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from innsight_py.converters.compositions import concatenate
from innsight_py.converters.keras.layers import product, total
from innsight_py.converters.keras.writer import Call, KerasValue, KerasWriter, as_tensor, is_of_framework, reads, refuse
from innsight_py.converters.recurrence import Direction, last_step, write_direction
from innsight_py.converters.writer import Value

#: How many gates each cell has.
_GATES = {"LSTMCell": 4, "GRUCell": 3, "SimpleRNNCell": 1}


@dataclass(frozen=True)
class _Way:
    """What one direction gives: the states in the order of time, the last ones, and whether it went backwards."""

    sequence: Value
    last: tuple[Value, ...]
    backwards: bool

    def given(self, write: KerasWriter, turned: bool = False) -> Value:
        """Write the states in the order in which they were computed, or in the other one."""
        if self.backwards == turned:
            return self.sequence
        steps = self.sequence.shape[1]
        return write.take(self.sequence, 1, range(steps - 1, -1, -1))


def _function(call: Call, cell: Any, name: str, *standard: str) -> str:
    function = getattr(cell, name)
    found = getattr(function, "__name__", type(function).__name__)
    if found not in standard or not is_of_framework(function):
        raise refuse(call, f"its {name} '{found}' is not one of {', '.join(standard)}")
    return found


def _cell(call: Call, layer: Any) -> str:
    """Return what the spec calls the cell of a layer, if a loop computes what it does."""
    cell = layer.cell if hasattr(layer, "cell") else layer
    kind = type(cell).__name__
    if kind not in _GATES or not all(is_of_framework(type(part)) for part in (layer, cell)):
        raise refuse(call, f"its cell {kind} has no translation")
    if getattr(layer, "stateful", False) or getattr(layer, "time_major", False):
        raise refuse(call, "it keeps its states between calls, or has the steps before the rows")
    if call.named.get("training") and (cell.dropout or cell.recurrent_dropout):
        raise refuse(call, "its dropout is at work")
    if kind == "SimpleRNNCell":
        return f"rnn_{_function(call, cell, 'activation', 'tanh', 'relu')}"
    _function(call, cell, "activation", "tanh")
    _function(call, cell, "recurrent_activation", "sigmoid")
    return "lstm" if kind == "LSTMCell" else "gru" if cell.reset_after else "gru_reset_first"


def _made(call: Call, layer: Any) -> Direction:
    """Return what a direction is made of: Keras has its biases behind the sums, and zrh in a GRU."""
    cell, name = layer.cell, _cell(call, layer)
    weight, recurrent = (as_tensor(w).T for w in (cell.kernel, cell.recurrent_kernel))
    bias = None if getattr(cell, "bias", None) is None else as_tensor(cell.bias)
    more = None
    if bias is not None and bias.dim() == 2:
        bias, more = bias
    gru = name.startswith("gru")
    if gru:
        size = recurrent.shape[1]
        weight, recurrent = (_reset_before_update(w, size) for w in (weight, recurrent))
        bias, more = (None if b is None else _reset_before_update(b, size) for b in (bias, more))
    return Direction(
        name, weight, recurrent, bias, more, reverse=bool(layer.go_backwards), shifts=True, blend=gru
    )  # fmt: skip


def _reset_before_update(weight: Tensor, size: int) -> Tensor:
    update, reset, new = (weight.narrow(0, i * size, size) for i in range(3))
    return torch.cat([reset, update, new])


def _way(write: KerasWriter, call: Call, layer: Any, x: Value, states: Sequence[Value]) -> _Way:
    made = _made(call, layer)
    parts = write_direction(write, x, made, states, made.cell == "lstm" and bool(layer.return_state))
    return _Way(parts[0], tuple(last_step(write, part, made.reverse) for part in parts), made.reverse)


def _input(write: KerasWriter, call: Call, count: int) -> tuple[Value, list[Value]]:
    """Return the sequence and the first states, of which there are `count` or none."""
    if call.named.get("mask") is not None:
        raise refuse(call, "it has a mask")
    x, *states = (write.plain(value) for value in call.inputs)
    others = [a for a in _leaves(call.arguments) if not isinstance(a, KerasValue | bool | None)]
    if others or len(states) not in (0, count):
        raise refuse(call, "its first states are no values of the model")
    if len(x.shape) != 3:
        raise refuse(call, f"it takes an input of the shape {call.x.dim}")
    return x, states


def _leaves(arguments: Any) -> list[Any]:
    if isinstance(arguments, list | tuple):
        return [leaf for entry in arguments for leaf in _leaves(entry)]
    return [arguments]


def _result(write: KerasWriter, call: Call, outputs: Sequence[Value], states: Sequence[Value]) -> list[KerasValue]:
    """Return what the layer gives; a sequence that ends the model has its features first, as what is traced has."""
    ends = call.is_output and write.channels_last
    found = []
    for y in outputs:
        moved = ends and len(y.shape) > 2
        found.append(KerasValue(write.channels_first(KerasValue(y)) if moved else y, moved, sole=False))
    return [*found, *(KerasValue(y, sole=False) for y in states)]


@reads("LSTM", "GRU", "SimpleRNN", "RNN", writes="Dense Recurrent Scale")
def _recurrent(write: KerasWriter, call: Call) -> list[KerasValue]:
    layer = call.layer
    x, states = _input(write, call, 2 if _cell(call, layer) == "lstm" else 1)
    way = _way(write, call, layer, x, states)
    out = way.given(write) if layer.return_sequences else way.last[0]
    return _result(write, call, [out], way.last if layer.return_state else ())


@reads("Bidirectional", writes="Add Concatenate Dense Multiply Recurrent Scale")
def _bidirectional(write: KerasWriter, call: Call) -> list[KerasValue]:
    layers = [call.layer.forward_layer, call.layer.backward_layer]
    counts = [2 if _cell(call, layer) == "lstm" else 1 for layer in layers]
    x, states = _input(write, call, sum(counts))
    given = [states[: counts[0]], states[counts[0] :]]
    ways = [_way(write, call, layer, x, known) for layer, known in zip(layers, given, strict=True)]
    if call.layer.return_sequences:
        outs = [way.given(write, turned=i == 1) for i, way in enumerate(ways)]
    else:
        outs = [way.last[0] for way in ways]
    merged = _merged(write, call, outs)
    last = [state for way in ways for state in way.last]
    return _result(write, call, merged, last if call.layer.return_state else ())


def _merged(write: KerasWriter, call: Call, outs: list[Value]) -> list[Value]:
    mode, shape = call.layer.merge_mode, outs[0].shape
    if mode is None:
        return outs
    if len({y.shape[-1] for y in outs}) > 1:
        raise refuse(call, "its directions have different numbers of units, of which Keras tells a wrong shape")
    if mode == "concat":
        wide = (*shape[:-1], sum(y.shape[-1] for y in outs))
        return [concatenate(write, outs, len(shape) - 1, wide)]
    if mode == "mul":
        return [product(write, outs)]
    added = total(write, outs)
    return [added if mode == "sum" else write.scale(added, 1 / 2)]
