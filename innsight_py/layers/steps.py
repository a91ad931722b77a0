"""What a recurrent layer of one direction is, its way forward, and what its cells saw on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from innsight_py.layers import fused
from innsight_py.layers.base import Layer
from innsight_py.layers.cells import (
    GATES_OF_ALL,
    HIDDEN,
    LSTM_GATES,
    PRODUCT,
    PROJECTED,
    RESET,
    SHOWN,
    Cell,
)
from innsight_py.layers.linear import Dense
from innsight_py.layers.loops import LOOPS, Matrices, Places
from innsight_py.layers.record import Record
from innsight_py.layers.through_time import in_order

#: What the cell of the first step and that of all others saw: the records of their parts.
Seen = tuple[dict[str, Record], dict[str, Record]]


class Steps(Layer):
    """The part of `innsight_py.layers.recurrent.Recurrent` that runs forward."""

    first_hidden: Tensor | None
    first_cell: Tensor | None
    bias: Tensor | None

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.cell_kind, self.reverse, self.with_cells = spec.cell, spec.reverse, spec.cells
        self.states: tuple[str, ...] = spec.states
        # A bias that a layer of its own adds is not the matrix's; the quick way adds it with the matrix.
        self.register_buffer("bias", spec.bias if spec.blend else None)
        cut = len(spec.weight) // 3 * 2 if spec.cell == "gru_reset_first" else len(spec.weight)
        own = None if spec.blend else spec.bias
        matrices = {HIDDEN: self._dense(spec, HIDDEN, spec.weight[:cut], None if own is None else own[:cut])}
        if cut < len(spec.weight):
            matrices[RESET] = self._dense(spec, RESET, spec.weight[cut:], None if own is None else own[cut:])
        if spec.projection is not None:
            matrices[PROJECTED] = self._dense(spec, PROJECTED, spec.projection, None)
        given = {"hidden": spec.hidden, "cell": spec.cell_state}
        sizes = {"hidden": spec.weight.shape[1], "cell": len(spec.weight) // 4} if spec.cell == "lstm" else {
            "hidden": spec.weight.shape[1]
        }  # fmt: skip
        #: The states before the first step that are constants.
        constants = {
            name: torch.zeros(size).double() if given[name] is None else given[name]
            for name, size in sizes.items()
            if name not in spec.states
        }
        for name in ("hidden", "cell"):
            self.register_buffer(f"first_{name}", constants.get(name))
        self.matrices = nn.ModuleDict(matrices)
        aligned = {name: x if x.dim() == 1 else x.unsqueeze(-2) for name, x in constants.items()}  # an axis of steps
        self.first = Cell(spec, self.matrices, **aligned)
        self.later, self.all = (Cell(spec, self.matrices) for _ in range(2))

    @staticmethod
    def _dense(spec: Any, name: str, weight: Tensor, bias: Tensor | None) -> Dense:
        keys: dict[str, Any] = {"activation_name": "linear", "activation_params": {}, "activation_origin": None}
        own = f"{spec.name}: {name}"
        dense = Dense(SimpleNamespace(name=own, place=spec.place, origin=spec.origin, weight=weight, bias=bias, **keys))
        dense.within = spec.name
        return dense

    @property
    def weight(self) -> Tensor:
        """The weights of the state, ``(gates, hidden)``."""
        return self.matrix(HIDDEN).weight

    @property
    def steps(self) -> int:
        return self.input_dims[0][-2]

    def cells_of(self) -> tuple[Cell, Cell]:
        """Return the cell of the first step and that of all others."""
        return self.first, self.later

    # -- shapes -------------------------------------------------------------------------------------------------

    @property
    def input_dims(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each input without the batch axis."""
        return self._input_dims

    @input_dims.setter
    def input_dims(self, dims: tuple[tuple[int, ...], ...]) -> None:
        self._input_dims = dims
        if dims and len(dims[0]) > 1:
            *lead, steps, _ = dims[0]
            self.first.set_dims((*lead, 1))
            self.later.set_dims((*lead, steps - 1))
            self.all.set_dims((*lead, steps))

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        gates, seen = dims[0], self.later.seen
        if len(gates) < 2:
            raise ValueError("it needs an input (..., steps, gates)")
        if gates[-1] != seen["x"]:
            raise ValueError(f"it needs an input (..., steps, {seen['x']})")
        for name, dim in zip(self.states, dims[1:], strict=True):
            if dim != (*gates[:-2], seen[name[0]]):
                raise ValueError(f"it needs first states '{name}' of the shape {(*gates[:-2], seen[name[0]])}")
        for given in (self.first_hidden, self.first_cell):
            axes = () if given is None else tuple(given.shape[:-1])
            if len(axes) > len(gates) - 2 or any(
                n not in (1, m) for n, m in zip(axes[::-1], gates[-3::-1], strict=False)
            ):
                raise ValueError(f"its first states are given for the axes {axes}")

    @property
    def kept(self) -> int:
        cell = sum(2 * part.width for part in self.later.parts)
        return math.prod(self.input_dims[0][:-1]) * (cell + 2 * sum(self.later.seen[name] for name in ("x", "h", "c")))

    @property
    def width(self) -> int:
        return 2 * math.prod(self.output_dim) + 2 * math.prod(self.input_dims[0])

    # -- forward ------------------------------------------------------------------------------------------------

    def in_order(self, x: Tensor) -> Sequence[Tensor]:
        """Return the steps in the order in which the layer takes them."""
        return in_order(x, -2, self.reverse)

    def _run(self, inputs: Sequence[Tensor], keeps: bool = False) -> dict[str, Tensor]:
        """Return the states (and in an LSTM the cells) of all steps, and what else is to be kept."""
        x, (hidden, cell) = inputs[0], self._starts(inputs)
        weight, bias = self._weights(HIDDEN)
        inner = projection = None
        if RESET in self.matrices:
            inner, added = self._weights(RESET)
            bias = bias if bias is None or added is None else torch.cat([bias, added])
            inner = inner.t().contiguous()
        if PROJECTED in self.matrices:
            projection = self.matrix(PROJECTED).weight.t()
        if bias is not None and self.cell_kind != "gru":
            x, bias = x + bias, None
        rows = x.reshape(-1, *x.shape[-2:])
        at = Places(rows, self.in_order, keeps)
        LOOPS[self.cell_kind](rows, hidden, cell, Matrices(weight.t().contiguous(), bias, inner, projection), at)
        return {name: y.reshape(*x.shape[:-1], y.shape[-1]) for name, y in at.kept.items()}

    def _starts(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the state and the cell before the first step of each row; without a cell the state twice."""
        x, given = inputs[0], dict(zip(self.states, inputs[1:], strict=True))
        hidden = self._start(x, given.get("hidden", self.first_hidden))
        return hidden, self._start(x, given.get("cell", self.first_cell)) if self.cell_kind == "lstm" else hidden

    @staticmethod
    def _start(x: Tensor, state: Tensor | None) -> Tensor:
        """Return the state before the first step of each row, ``(rows, entries)``."""
        assert state is not None
        size = state.shape[-1]
        return state.expand(*x.shape[:-2], size).reshape(-1, size)

    def _weights(self, name: str) -> tuple[Tensor, Tensor | None]:
        """Return a matrix and what is added to its product, by itself or by the layer behind it."""
        matrix = self.matrix(name)
        if self.bias is None:
            return matrix.weight, matrix.bias
        rows = len(matrix.weight)
        return matrix.weight, self.bias[:rows] if name == HIDDEN else self.bias[-rows:]

    def matrix(self, name: str) -> Dense:
        matrix = self.matrices[name]
        assert isinstance(matrix, Dense)
        return matrix

    def _output(self, values: dict[str, Tensor]) -> Tensor:
        return torch.cat([values["hidden"], values["cell"]], -1) if self.with_cells else values["hidden"]

    def linear(self, *inputs: Tensor) -> Tensor:
        if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
            out: Tensor = _ForAutograd.apply(self, *inputs)  # type: ignore[no-untyped-call]
            return out
        return self._output(self._run(inputs))

    def is_fed_by(self, layer: Layer) -> bool:
        """Return whether a kernel may take what another layer takes, see `record_behind`."""
        plain = self.cell_kind == "lstm" and PROJECTED not in self.matrices and self.bias is None
        return plain and type(layer) is Dense and layer.activation.is_linear

    def record_behind(self, dense: Layer, features: Tensor, *inputs: Tensor) -> Record:
        """Return what `record` does, by a kernel which runs the dense layer before this one as well.

        Parameters
        ----------
        dense : Layer
            The layer that gives the first input, see `is_fed_by`.
        features : Tensor
            What that one takes, ``(B, *lead, steps, features)``.
        *inputs : Tensor
            The inputs.
        """
        assert isinstance(dense, Dense)
        if not fused.is_quicker(features.reshape(-1, *features.shape[-2:]), self.later.size):
            return self.record(*inputs)
        return self._recorded(inputs, self._run_fused(inputs, fused.Fed(features, dense.weight, dense.bias)))

    @torch.no_grad()
    def _run_fused(self, inputs: Sequence[Tensor], fed: fused.Fed) -> dict[str, Tensor]:
        """Return what `_run` does if all is to be kept."""
        hidden, cell = self._starts(inputs)
        weight, bias = self._weights(HIDDEN)

        def laid(x: Tensor) -> Tensor:
            rows = x.reshape(-1, *x.shape[-2:])
            return rows.flip(1) if self.reverse else rows

        states = fused.states(fed._replace(x=laid(fed.x)), hidden, cell, weight, bias)
        values = {"hidden": states, **fused.cells(laid(inputs[0]), hidden, cell, states, weight, bias)}
        lead = inputs[0].shape[:-1]
        return {name: (y.flip(1) if self.reverse else y).reshape(*lead, y.shape[-1]) for name, y in values.items()}

    def record(self, *inputs: Tensor) -> Record:
        return self._recorded(inputs, self._run(inputs, keeps=True))

    def _recorded(self, inputs: tuple[Tensor, ...], values: dict[str, Tensor]) -> Record:
        out = self._output(values)
        del values["hidden"]
        if self.with_cells:
            del values["cell"]
        return Record(inputs, out, out, dict[str, object](values))

    def _see(self, at: Record) -> Seen:
        """Return what the layers of the cells saw, all later steps side by side."""
        hidden, known = self._known(at)
        steps = hidden.shape[-2]
        start, before, after = (steps - 1, 1, 0) if self.reverse else (0, 0, 1)
        given = {name[0]: y.unsqueeze(-2) for name, y in zip(self.states, at.inputs[1:], strict=True)}
        first = self.first.record(given | {name: y.narrow(-2, start, 1) for name, y in known.items()}, {})
        if steps == 1:
            return first, {}
        later = {name: y.narrow(-2, after, steps - 1) for name, y in known.items()}
        if "cell" in known:
            later["c"] = known["cell"].narrow(-2, before, steps - 1)
        if HIDDEN in later:
            later[HIDDEN] = later[HIDDEN].contiguous()  # what looks for zeros among its entries is quicker so
        # A product with what lies in one piece is one product, and not one for each row.
        return first, self.later.record(later, {"h": lambda: hidden.narrow(-2, before, steps - 1).contiguous()})

    def _see_all(self, at: Record) -> dict[str, Record]:
        """Return what the layers of one cell saw at all steps side by side."""
        hidden, known = self._known(at)
        steps = hidden.shape[-2]
        given = dict(zip(self.states, at.inputs[1:], strict=True))

        def before(states: Tensor, first: Tensor | None) -> Tensor:
            """Return the states before all steps."""
            earlier = states.narrow(-2, int(self.reverse), steps - 1)
            start = self._start(states, first).reshape(*states.shape[:-2], 1, states.shape[-1])
            return torch.cat([earlier, start] if self.reverse else [start, earlier], -2)

        return self.all.record(
            known,
            {
                "h": lambda: before(hidden, given.get("hidden", self.first_hidden)),
                "c": lambda: before(known["cell"], given.get("cell", self.first_cell)),
            },
        )

    def _known(self, at: Record) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the states of all steps, and what else is known of these."""
        size = self.later.seen[self.later.output]
        known = {name: x for name in (GATES_OF_ALL, *LSTM_GATES, SHOWN) if (x := at.given(name)) is not None}
        if (product := at.given(PRODUCT)) is not None:
            known[HIDDEN] = product
        known["x"] = at.inputs[0]
        if self.with_cells:
            known["cell"] = at.output.narrow(-1, size, at.output.shape[-1] - size)
        elif self.cell_kind == "lstm":
            known["cell"] = at.once("cell", lambda: self._run(at.inputs)["cell"])
        return at.output.narrow(-1, 0, size), known

    def _seen(self, at: Record) -> Seen:
        return at.once("seen", lambda: self._see(at))

    def _seen_all(self, at: Record) -> dict[str, Record]:
        return at.once("seen of all", lambda: self._see_all(at))


class _ForAutograd(torch.autograd.Function):
    """The layer for somebody who differentiates its output."""

    @staticmethod
    def forward(ctx: Any, layer: Steps, *inputs: Tensor) -> Tensor:
        ctx.layer, ctx.at = layer, layer.record(*inputs)
        out: Tensor = ctx.at.output
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *g: Tensor) -> tuple[Tensor | None, ...]:
        found = ctx.layer.pullback(g[0].unsqueeze(0), ctx.at)
        return (None, *(None if x is None else x[0] for x in found))
