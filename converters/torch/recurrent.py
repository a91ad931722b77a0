"""The table of ATen operators: LSTM, GRU and plain recurrent layers, each direction of which is one loop."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from innsight_py.converters.compositions import concatenate
from innsight_py.converters.recurrence import Direction, last_step, write_direction
from innsight_py.converters.torch.writer import Operator, operator_name, translates
from innsight_py.converters.writer import Value, Writer

#: The operators, and what the spec calls their cells.
CELLS = {
    "aten::lstm.input": "lstm", "aten::gru.input": "gru", "aten::rnn_tanh.input": "rnn_tanh",
    "aten::rnn_relu.input": "rnn_relu",
}  # fmt: skip


def taken_apart(program: torch.export.ExportedProgram) -> frozenset[str]:
    """Return the names of the recurrent operators that are taken apart step by step, since no loop stands for them.

    Those are calls in half precision, where every operator rounds, in training, or with weights from data.
    """
    depends = set(program.graph_signature.user_inputs)
    found = set()
    for node in program.graph.nodes:
        if not depends.isdisjoint(n.name for n in node.all_input_nodes):
            depends.add(node.name)
        if isinstance(node.target, torch._ops.OpOverload) and operator_name(node) in CELLS:
            args = dict(zip((a.name for a in node.target._schema.arguments), node.args, strict=False))
            rounds = node.meta["val"][0].dtype not in (torch.float32, torch.float64)
            random = args["train"] and args["dropout"] != 0.0
            if rounds or random or not depends.isdisjoint(p.name for p in args["params"]):
                found.add(operator_name(node))
    return frozenset(found)


@translates(*CELLS, writes="Concatenate Dense Recurrent", values="input hx")
def _recurrent(write: Writer, call: Operator) -> list[Value]:
    return _Layers(write, call).results()


class _Layers:
    """Writes all layers and directions of a call."""

    def __init__(self, write: Writer, call: Operator) -> None:
        self.write, self.call, self.cell = write, call, CELLS[call.name]
        self.batch_first = bool(call["batch_first"])
        hx = call["hx"]
        self.hx: list[Value | Tensor] = hx if isinstance(hx, list) else [hx]
        self.directions = 2 if call["bidirectional"] else 1
        count = int(call["num_layers"]) * self.directions
        self.params = _chunks(call["params"], count)
        shown = call.node.meta["val"]
        self.rows, self.steps = (int(n) for n in (shown[0].shape[:2] if self.batch_first else shown[0].shape[1::-1]))
        self.with_cells = self.cell == "lstm" and _is_used(call.node, 2)

    def results(self) -> list[Value]:
        """Return the sequence, the last states and, of an LSTM whose cells are used, the last cells."""
        x = self._input()
        last: list[list[Value]] = [[], []]
        for i in range(0, len(self.params), self.directions):
            ways = [self._direction(x, i + d, reverse=d == 1) for d in range(self.directions)]
            for states in ways:
                for found, state in zip(last, states[1:], strict=False):
                    found.append(state)
            x = self._joined([states[0] for states in ways], 2)
        whole = x if self.batch_first else self.write.permute(x, [1, 0, 2])
        return [whole, *(self._joined(states, 0) for states in last if states)]

    def _input(self) -> Value:
        x = self.call["input"]
        x = self.write.constant(x) if isinstance(x, Tensor) else self.write.reshape(x, x.shape)
        return x if self.batch_first else self.write.permute(x, [1, 0, 2])

    def _joined(self, parts: Sequence[Value], axis: int) -> Value:
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        return concatenate(self.write, parts, axis, tuple(shape))

    def _direction(self, x: Value, i: int, *, reverse: bool) -> list[Value]:
        """Write one direction of one layer: its states of all steps, and the last ones ``(1, rows, hidden)``."""
        write, (weight, recurrent, *rest) = self.write, self.params[i]
        biases = rest[:2] if self.call["has_biases"] else [None, None]
        projection = rest[-1] if len(rest) % 2 else None
        made = Direction(self.cell, weight, recurrent, biases[0], biases[1], projection, reverse)
        states = [self._state(hx, i) for hx in self.hx]
        parts = write_direction(write, x, made, states, self.with_cells)
        return [parts[0], *(self._last(part, reverse=reverse) for part in parts)]

    def _state(self, given: Value | Tensor, i: int) -> Value | Tensor:
        """Return the states before the first step, ``(rows, hidden)``."""
        if isinstance(given, Tensor):
            return given[i]
        taken = self.write.take(self.write.reshape(given, given.shape), 0, [i])
        return self.write.reshape(taken, taken.shape[1:])

    def _last(self, states: Value, *, reverse: bool) -> Value:
        """Write the states after the last step."""
        return self.write.reshape(last_step(self.write, states, reverse), (1, self.rows, states.shape[2]))


def _chunks(params: Sequence[Any], count: int) -> list[list[Any]]:
    size = len(params) // count
    return [list(params[start : start + size]) for start in range(0, len(params), size)]


def _is_used(node: fx.Node, part: int) -> bool:
    """Tell whether something reads a part of a call's results."""
    return any(user.target is operator.getitem and user.args[1] == part and bool(user.users) for user in node.users)
