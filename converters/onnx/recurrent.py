"""The table of ONNX operators: LSTM, GRU and RNN, as one loop a direction or, where none stands for it, by steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from innsight_py.converters.compositions import concatenate
from innsight_py.converters.onnx.activations import text
from innsight_py.converters.onnx.arithmetic import Term, bounded, difference, product, total
from innsight_py.converters.onnx.writer import Call, OnnxWriter, Result, reads, refuse
from innsight_py.converters.recurrence import MOST_STEPS, Direction, last_step, write_direction
from innsight_py.converters.writer import Value
from innsight_py.functions.activations import Activation

#: ONNX's names of activations: our name, and the parameters that `alpha` and `beta` are, with their defaults.
_FUNCTIONS: dict[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "sigmoid": ("sigmoid", ()),
    "tanh": ("tanh", ()),
    "relu": ("relu", ()),
    "leakyrelu": ("leaky_relu", (("negative_slope", 0.01),)),
    "thresholdedrelu": ("threshold", (("threshold", 1.0),)),
    "hardsigmoid": ("hardsigmoid", (("alpha", 0.2), ("beta", 0.5))),
    "elu": ("elu", (("alpha", 1.0),)),
    "softsign": ("softsign", ()),
    "softplus": ("softplus", ()),
    "affine": ("linear", ()),
    "scaledtanh": ("tanh", ()),
}

#: More steps would take more layers than anybody can wait for.
_MOST_STEPS = 5000

Function = Callable[[OnnxWriter, Term], Term]


def _function(call: Call, name: str, alpha: float | None, beta: float | None) -> Function:
    """Return what writes an activation of a gate."""
    if name.lower() not in _FUNCTIONS:
        raise refuse(call, f"its activation '{name}' is not known")
    ours, parameters = _FUNCTIONS[name.lower()]
    given = [alpha, beta]
    params: dict[str, Any] = {
        key: default if value is None else value
        for (key, default), value in zip(parameters, given[: len(parameters)], strict=True)
    }
    slope, other = 1.0 if alpha is None else alpha, beta

    def write_it(write: OnnxWriter, x: Term) -> Term:
        if name.lower() == "scaledtanh":
            x = product(write, x, torch.tensor(1.0 if other is None else other).double())
        y: Term = write.activation(x, ours, **params) if isinstance(x, Value) else Activation(ours, params)(x)
        if name.lower() == "scaledtanh":
            return product(write, y, torch.tensor(slope).double())
        if name.lower() == "affine":
            y = product(write, y, torch.tensor(slope).double())
            return total(write, y, torch.tensor(0.0 if other is None else other).double())
        return y

    return write_it


@dataclass(frozen=True)
class _Direction:
    """The weights of one direction: ``(gates * hidden, in)``, ``(gates * hidden, hidden)`` and their biases."""

    weight: Tensor
    recurrent: Tensor
    bias: Tensor
    recurrent_bias: Tensor
    peephole: Tensor | None
    hidden: Term
    cell: Term | None
    functions: tuple[Function, ...]
    names: tuple[str, ...]
    backwards: bool


def _halves(bias: Tensor) -> tuple[Tensor, Tensor]:
    first, second = bias.chunk(2)
    return first, second


class _Recurrence:
    """What the three operators share: their inputs and results, and the order of the steps."""

    def __init__(self, write: OnnxWriter, call: Call, gates: int, default: Sequence[str]) -> None:
        self.write, self.call, self.gates = write, call, gates
        self.batch_first = bool(call.get("layout", 0))
        x = call.x
        self.x = write.permute(x, [1, 0, 2]) if self.batch_first else x
        self.steps, self.rows, _ = self.x.shape
        weight, recurrent = call.fixed(1, "weights"), call.fixed(2, "recurrent weights")
        self.size = recurrent.shape[-1]
        directions, directed = len(weight), text(call, "direction", "forward")
        self.clip = call.get("clip")
        self._lengths()
        bias = call.optional(3, "biases")
        bias = torch.zeros(directions, 2 * gates * self.size).double() if bias is None else bias
        peephole = call.optional(7, "peepholes")
        self.directions = [
            _Direction(
                weight[d], recurrent[d], *_halves(bias[d]), None if peephole is None else peephole[d],
                self._initial(5, d), self._initial(6, d) if gates == 4 else None,
                *self._functions(d, directions, default), directed == "reverse" or d == 1,
            )
            for d in range(directions)
        ]  # fmt: skip

    def _lengths(self) -> None:
        lengths = self.call.optional(4, "lengths of sequences")
        if lengths is not None and any(int(n) != self.steps for n in lengths.flatten().tolist()):
            raise refuse(self.call, f"its sequences are of other lengths than {self.steps}")

    def _initial(self, i: int, d: int) -> Term:
        given = self.call[i]
        axis = 1 if self.batch_first else 0
        if given is None:
            return torch.zeros(self.rows, self.size).double()
        if isinstance(given, Tensor):
            return given.select(axis, d)
        return self.write.reshape(self.write.take(given, axis, [d]), (self.rows, self.size))

    def _functions(
        self, d: int, directions: int, default: Sequence[str]
    ) -> tuple[tuple[Function, ...], tuple[str, ...]]:
        names = [n.decode() if isinstance(n, bytes) else str(n) for n in self.call.get("activations", [])]
        names = names or list(default) * directions
        alphas, betas = ([float(v) for v in self.call.get(key, [])] for key in ("activation_alpha", "activation_beta"))
        taken: dict[str, list[float | None]] = {"alpha": [], "beta": []}
        for name in names:  # the lists have entries only for those that take parameters
            takes_alpha = name.lower() in ("affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu")
            takes_beta = name.lower() in ("affine", "scaledtanh", "hardsigmoid")
            taken["alpha"].append(alphas.pop(0) if takes_alpha and alphas else None)
            taken["beta"].append(betas.pop(0) if takes_beta and betas else None)
        count = len(default)
        chosen = range(d * count, (d + 1) * count)
        functions = tuple(_function(self.call, names[i], taken["alpha"][i], taken["beta"][i]) for i in chosen)
        return functions, tuple(names[i].lower() for i in chosen)

    def bounded(self, x: Term) -> Term:
        """Write the clipping of a gate, if the node has one."""
        if not self.clip:
            return x
        limit = torch.tensor(float(self.clip)).double()
        return bounded(self.write, bounded(self.write, x, limit, "Min"), -limit, "Max")

    def part(self, x: Term, gate: int) -> Term:
        """Return the entries of one gate."""
        start = gate * self.size
        if isinstance(x, Tensor):
            return x.narrow(-1, start, self.size)
        return self.write.take(x, len(x.shape) - 1, range(start, start + self.size))

    def linear(self, x: Term, weight: Tensor, bias: Tensor | None) -> Term:
        """Write ``x W' + b``."""
        if isinstance(x, Tensor):
            y = x.to(weight.dtype) @ weight.T
            return y if bias is None else y + bias
        return self.write.layer("Dense", [x], (*x.shape[:-1], len(weight)), weight=weight, bias=bias)

    def run(
        self, step: Callable[[_Direction, Term, Term, Term | None], tuple[Term, Term | None]]
    ) -> list[Result | None]:
        """Write all steps of all directions, and return the sequence and the last states."""
        cells_of = [self._cell(direction) for direction in self.directions]
        if None not in cells_of:
            return self._loops([name for name in cells_of if name is not None])
        if self.steps > _MOST_STEPS:
            raise refuse(self.call, f"it takes {self.steps} steps, each of which becomes layers of its own")
        sequences, last, cells = [], [], []
        for direction in self.directions:
            inputs = self.linear(self.x, direction.weight, direction.bias)
            hidden, cell = direction.hidden, direction.cell
            states: list[Term] = [hidden] * self.steps
            for t in range(self.steps)[:: -1 if direction.backwards else 1]:
                hidden, cell = step(direction, self._at(inputs, t), hidden, cell)
                states[t] = hidden
            sequences.append(self._stacked(states))
            last.append(hidden)
            cells.append(cell)
        whole = self._joined(sequences, 1)  # (steps, directions, rows, hidden)
        if self.batch_first:
            whole = self.write.permute(whole, [2, 0, 1, 3])
        results: list[Result | None] = [whole, self._states(last)]
        return [*results, self._states([c for c in cells if c is not None])] if cells[0] is not None else results

    def _cell(self, it: _Direction) -> str | None:
        """Return what the spec calls the cell of a direction; None if no loop stands for it."""
        kind = self.call.name
        if self.clip or it.peephole is not None or self.call.get("input_forget", 0):
            return None
        if kind == "RNN":
            return {"tanh": "rnn_tanh", "relu": "rnn_relu"}.get(it.names[0])
        if it.names != (("sigmoid", "tanh", "tanh") if kind == "LSTM" else ("sigmoid", "tanh")):
            return None
        return kind.lower() if kind == "LSTM" or self.call.get("linear_before_reset", 0) else "gru_reset_first"

    def _loops(self, cells: Sequence[str]) -> list[Result | None]:
        """Write one loop a direction, and return the sequence and the last states."""
        if self.steps > MOST_STEPS:
            raise refuse(self.call, f"it takes {self.steps} steps, and a loop takes {MOST_STEPS} at most")
        write = self.write
        x = write.permute(self.x, [1, 0, 2])
        x = write.reshape(x, x.shape)
        with_cells = self.gates == 4 and any(self.call.wanted[2:])
        ways = []
        for cell, it in zip(cells, self.directions, strict=True):
            weight, own, bias, more = map(self._ordered, (it.weight, it.recurrent, it.bias, it.recurrent_bias))
            made = Direction(cell, weight, own, bias, more, reverse=it.backwards)
            parts = write_direction(write, x, made, (it.hidden, it.cell), with_cells)
            ways.append((parts, [last_step(write, part, it.backwards) for part in parts]))
        sequences = [self._axes(parts[0], (self.rows, self.steps, 1, self.size)) for parts, _ in ways]
        whole = self._joined(sequences, 2)
        if not self.batch_first:
            whole = write.permute(whole, [1, 2, 0, 3])
        return [whole, *(self._states([last[i] for _, last in ways]) for i in range(1 + with_cells))]

    def _ordered(self, weight: Tensor) -> Tensor:
        """Return weights or biases with the gates in the order of PyTorch; ONNX has iofc and zrh."""
        order = {4: (0, 2, 3, 1), 3: (1, 0, 2), 1: (0,)}[self.gates]
        return torch.cat([weight.narrow(0, i * self.size, self.size) for i in order])

    def _at(self, inputs: Term, t: int) -> Term:
        assert isinstance(inputs, Value)
        taken = self.write.take(inputs, 0, [t])
        return self.write.reshape(taken, (self.rows, self.gates * self.size))

    def _axes(self, x: Term, shape: tuple[int, ...]) -> Term:
        return x.reshape(shape) if isinstance(x, Tensor) else self.write.reshape(x, shape)

    def _stacked(self, states: Sequence[Term]) -> Value:
        parts = [self._axes(x, (1, 1, self.rows, self.size)) for x in states]
        return self._joined(parts, 0)

    def _joined(self, parts: Sequence[Term], axis: int) -> Value:
        if len(parts) == 1:
            return self.write.as_value(parts[0])
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        return concatenate(self.write, parts, axis, tuple(shape))

    def _states(self, states: Sequence[Term]) -> Value:
        shape = (self.rows, 1, self.size) if self.batch_first else (1, self.rows, self.size)
        return self._joined([self._axes(x, shape) for x in states], 1 if self.batch_first else 0)


@reads("LSTM", writes="Activation Add Concatenate Dense Multiply Recurrent")
def _lstm(write: OnnxWriter, call: Call) -> list[Result | None]:
    at = _Recurrence(write, call, 4, ("Sigmoid", "Tanh", "Tanh"))
    coupled = bool(call.get("input_forget", 0))

    def step(d: _Direction, x: Term, hidden: Term, cell: Term | None) -> tuple[Term, Term]:
        assert cell is not None
        f, g, h = d.functions
        gates = total(write, x, at.linear(hidden, d.recurrent, d.recurrent_bias))
        inner, outer, forget, new = (at.part(gates, i) for i in range(4))

        def peeked(gate: Term, state: Term, i: int) -> Term:
            weight = None if d.peephole is None else d.peephole.narrow(0, i * at.size, at.size)
            return gate if weight is None else total(write, gate, product(write, state, weight))

        inner = f(write, at.bounded(peeked(inner, cell, 0)))
        one = torch.ones(()).double()
        forget = difference(write, one, inner) if coupled else f(write, at.bounded(peeked(forget, cell, 2)))
        state = total(
            write, product(write, forget, cell), product(write, inner, g(write, at.bounded(new)))
        )  # fmt: skip
        outer = f(write, at.bounded(peeked(outer, state, 1)))
        return product(write, outer, h(write, state)), state

    return at.run(step)


@reads("GRU", writes="Activation Add Concatenate Dense Multiply Recurrent")
def _gru(write: OnnxWriter, call: Call) -> list[Result | None]:
    at = _Recurrence(write, call, 3, ("Sigmoid", "Tanh"))
    after = bool(call.get("linear_before_reset", 0))

    def step(d: _Direction, x: Term, hidden: Term, _: Term | None) -> tuple[Term, None]:
        f, g = d.functions
        n = at.size
        gates = at.linear(hidden, d.recurrent[: 2 * n], d.recurrent_bias[: 2 * n])
        update, reset = (
            f(write, at.bounded(total(write, at.part(x, i), at.part(gates, i)))) for i in range(2)
        )  # fmt: skip
        weight, bias = d.recurrent[2 * n :], d.recurrent_bias[2 * n :]
        if after:
            inner = product(write, reset, at.linear(hidden, weight, bias))
        else:
            inner = at.linear(product(write, reset, hidden), weight, bias)
        new = g(write, at.bounded(total(write, at.part(x, 2), inner)))
        if isinstance(hidden, Tensor) and isinstance(new, Value):  # one layer, as everywhere
            change: Term = write.scale(new, -1.0, hidden)
        else:
            change = difference(write, hidden, new)
        kept = product(write, update, change)
        return total(write, new, kept), None

    return at.run(step)


@reads("RNN", writes="Activation Add Concatenate Dense Recurrent")
def _rnn(write: OnnxWriter, call: Call) -> list[Result | None]:
    at = _Recurrence(write, call, 1, ("Tanh",))

    def step(d: _Direction, x: Term, hidden: Term, _: Term | None) -> tuple[Term, None]:
        (f,) = d.functions
        return f(write, at.bounded(total(write, x, at.linear(hidden, d.recurrent, d.recurrent_bias)))), None

    return at.run(step)
