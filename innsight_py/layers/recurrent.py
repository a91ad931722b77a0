"""A recurrent layer of one direction: LSTM, GRU and plain ones, whose walk goes through time in one loop.

What comes from the input, ``W x + b`` for all steps, is a dense layer of its own before this one. A step is a `Cell` of
layers that are known, so every rule is what it would be if each step had layers of its own in the graph.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from innsight_py.functions.deeplift import DeepLiftRule
from innsight_py.functions.lrp import Rule
from innsight_py.layers.affine import StepProduct
from innsight_py.layers.arithmetic import Product
from innsight_py.layers.base import Layer, Record
from innsight_py.layers.cells import (
    HIDDEN,
    MATRICES,
    PROJECTED,
    RESET,
    Cell,
    Factors,
    Part,
    PartStep,
)
from innsight_py.layers.linear import Dense
from innsight_py.layers.loops import LOOPS, Matrices
from innsight_py.layers.step_shares import StepShares
from innsight_py.layers.through_time import Later, Way, cut_ways, in_order, summed, through_step

#: The two cells of a layer: that of the first step, which may start from constants, and that of all others.
FIRST, LATER = 0, 1
#: What goes down through no step.
NOTHING = Factors({}, None, None)
#: What the two saw: the records of their parts.
Seen = tuple[dict[str, Record], dict[str, Record]]
#: What comes to a state and to a cell.
Carried = tuple[Tensor | None, Tensor | None]
#: A backward step at a product with a matrix: the part, what came to it, which cell, and which of its steps.
MatrixStep = Callable[[Part, Tensor, int, int], Tensor]


class Plan(NamedTuple):
    """What a walk back through time multiplies by.

    For each stretch of a step: by which ways something goes down through the first one and the later ones; and what
    walks through the later ones quickly, where that is possible.
    """

    stages: Sequence[tuple[Way | None, Way | None]]
    later: Later | None


@dataclass(frozen=True)
class Within(Rule):
    """The rules of LRP of the layers within a recurrent layer.

    Parameters
    ----------
    parts : tuple of mapping
        For the first step and the later ones: the rule of each part, and of a product the number of the one factor
        that depends on the inputs.
    """

    parts: tuple[Mapping[str, tuple[Rule, int | None]], Mapping[str, tuple[Rule, int | None]]]

    @functools.cached_property
    def key(self) -> str:
        return " ".join(f"{name} {rule.key} {factor}" for part in self.parts for name, (rule, factor) in part.items())

    @functools.cached_property
    def loss(self) -> str | None:
        return None

    def __repr__(self) -> str:
        chosen = {name: rule for part in self.parts for name, (rule, _) in part.items() if name in MATRICES}
        return repr(chosen.get(HIDDEN))


class Recurrent(Layer):
    """Takes the gates' part of the input ``(*lead, steps, gates)``, and the first states where these are data.

    It gives the states of all steps, ``(*lead, steps, hidden)``; with `cells` the LSTM's cells behind them.
    """

    r_class = "Recurrent_Layer"
    lrp_takes: ClassVar[tuple[type[Rule], ...]] = ()
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
        self.later = Cell(spec, self.matrices)

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

    def _run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return the states and the cells of all steps."""
        x, given = inputs[0], dict(zip(self.states, inputs[1:], strict=True))
        hidden = self._start(x, given.get("hidden", self.first_hidden))
        cell = self._start(x, given.get("cell", self.first_cell)) if self.cell_kind == "lstm" else hidden
        (weight, bias), shown = self._weights(HIDDEN), self.later.seen[self.later.output]
        inner = projection = None
        if RESET in self.matrices:
            inner, added = self._weights(RESET)
            bias = bias if bias is None or added is None else torch.cat([bias, added])
            inner = inner.t().contiguous()
        if PROJECTED in self.matrices:
            projection = self.matrix(PROJECTED).weight.t()
        if bias is not None and self.cell_kind != "gru":
            x, bias = x + bias, None
        states = x.new_empty((*x.shape[:-1], shown))
        cells = x.new_empty((*x.shape[:-1], self.later.size)) if self.cell_kind == "lstm" else None
        ends = [[] if y is None else self.in_order(y.reshape(-1, *y.shape[-2:])) for y in (states, cells)]
        rows = x.reshape(-1, *x.shape[-2:])
        LOOPS[self.cell_kind](
            rows, self.in_order, hidden, cell, Matrices(weight.t().contiguous(), bias, inner, projection), *ends
        )
        return states, cells

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

    def _output(self, hidden: Tensor, cells: Tensor | None) -> Tensor:
        if not self.with_cells:
            return hidden
        assert cells is not None
        return torch.cat([hidden, cells], -1)

    def linear(self, *inputs: Tensor) -> Tensor:
        if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
            out: Tensor = _ForAutograd.apply(self, *inputs)  # type: ignore[no-untyped-call]
            return out
        return self._output(*self._run(inputs))

    def record(self, *inputs: Tensor) -> Record:
        hidden, cells = self._run(inputs)
        out = self._output(hidden, cells)
        return Record(inputs, out, out, None if cells is None or self.with_cells else {"cells": cells})

    def _see(self, inputs: Sequence[Tensor], hidden: Tensor, cells: Tensor | None) -> Seen:
        """Return what the layers of the cells saw, all later steps side by side."""
        x, steps = inputs[0], inputs[0].shape[-2]
        start, before, after = (steps - 1, 1, 0) if self.reverse else (0, 0, 1)
        given = {name[0]: y.unsqueeze(-2) for name, y in zip(self.states, inputs[1:], strict=True)}
        first = self.first.record(given | {"x": x.narrow(-2, start, 1)})
        # A product with what lies in one piece is one product, and not one for each row.
        known = {"x": x.narrow(-2, after, steps - 1), "h": hidden.narrow(-2, before, steps - 1).contiguous()}
        if cells is not None:
            known["c"] = cells.narrow(-2, before, steps - 1)
        return first, self.later.record(known) if steps > 1 else {}

    def _seen(self, at: Record) -> Seen:
        return at.once("seen", lambda: self._see_again(at))

    def _see_again(self, at: Record) -> Seen:
        size = self.later.seen[self.later.output]
        hidden, cells = at.output.narrow(-1, 0, size), None
        if self.with_cells:
            cells = at.output.narrow(-1, size, at.output.shape[-1] - size)
        elif self.cell_kind == "lstm":
            cells = at.once("cells", lambda: self._run(at.inputs)[1])
        return self._see(at.inputs, hidden, cells)

    # -- backward -----------------------------------------------------------------------------------------------

    def _plan(self, like: Tensor, step: Callable[[int], PartStep], products: Sequence[StepProduct] | None) -> Plan:
        """Return what the walk through time multiplies by; see `Cell.factors`.

        Parameters
        ----------
        like : Tensor
            Has the type of the numbers.
        step : callable
            The rule, for the first step and for the later ones.
        products : sequence of StepProduct, optional
            What becomes of what comes to the one matrix, where that is a sum of products.
        """
        *lead, steps, _ = self.input_dims[0]
        stages: list[tuple[Way | None, Way | None]] = []
        for sinks in self.later.stages:
            first = self.first.factors((*lead, 1), like, step(FIRST), sinks)
            later = NOTHING
            if steps > 1:
                later = self.later.factors((*lead, steps - 1), like, step(LATER), sinks)
            needed = {HIDDEN, "x", *("c" if self.cell_kind == "lstm" else "")}
            if products is not None and needed <= later.of.keys() and len(self.matrices) == 1:
                quick = Later(self.later.size, later, products, self.reverse)
                return Plan([(cut_ways(self.first.size, first, self.in_order), None)], quick)
            stages.append((
                cut_ways(self.first.size, first, self.in_order), cut_ways(self.later.size, later, self.in_order)
            ))  # fmt: skip
        return Plan(stages, None)

    def _back(self, g: Tensor, plan: Plan, through: MatrixStep) -> list[Tensor | None]:
        """Walk back through time."""
        size = self.later.seen[self.later.output]
        state, cell = (g.narrow(-1, 0, size), g.narrow(-1, size, g.shape[-1] - size)) if self.with_cells else (g, None)
        pieces = list[Tensor]()
        if plan.later is None:
            cells = [None] * g.shape[-2] if cell is None else self.in_order(cell)
            steps = list(zip(self.in_order(state), cells, strict=True))
            carried: Carried = (None, None)
            for place in reversed(range(1, len(steps))):
                piece, carried = self._step_back(steps[place], carried, plan, through, LATER, place - 1)
                pieces.append(piece.unsqueeze(-2))
            piece, carried = self._step_back(steps[0], carried, plan, through, FIRST, 0)
        else:
            later, *rest = plan.later.walk(state, cell)
            pieces.append(later)
            piece, carried = self._step_back((None, None), (rest[0], rest[1]), plan, through, FIRST, 0)
        pieces.append(piece.unsqueeze(-2))
        rows = max(x.shape[1] for x in pieces)
        whole = [x if x.shape[1] == rows else x.expand(-1, rows, *x.shape[2:]) for x in pieces]
        last = dict(zip(("hidden", "cell"), carried, strict=True))
        return [torch.cat(whole if self.reverse else whole[::-1], -2), *(last[name] for name in self.states)]

    def _step_back(
        self, above: Carried, carried: Carried, plan: Plan, through: MatrixStep, which: int, place: int
    ) -> tuple[Tensor, Carried]:
        """Walk back through one step; return what goes to the input, and to the states before the step."""
        parts = {part.name: part for part in self.later.parts}
        state, cell = (summed(x, y) for x, y in zip(above, carried, strict=True))
        assert state is not None
        shown = state
        state = through(parts[PROJECTED], state, which, place) if PROJECTED in parts else state
        down = through_step(plan.stages[0][which], place, state, cell)
        if RESET in down:
            masked = through(parts[RESET], down.pop(RESET), which, place)
            for name, piece in through_step(plan.stages[1][which], place, masked, None).items():
                down[name] = down[name] + piece if name in down else piece
        passed = through(parts[HIDDEN], down[HIDDEN], which, place) if HIDDEN in down else None
        x = down.get("x")
        nothing = shown.new_zeros((*shown.shape[:-1], self.later.seen["x"])) if x is None else x
        return nothing, (summed(down.get("h"), passed), down.get("c"))

    def _transposed(self) -> tuple[MatrixStep, list[StepProduct]]:
        """Return what takes something through the transposed weights."""
        weights = {name: self.matrix(name).weight for name in self.matrices}

        def through(part: Part, upper: Tensor, which: int, place: int) -> Tensor:
            return upper @ weights[part.name]

        return through, [StepProduct(None, weights[HIDDEN], None)]

    def gradient(self, g: Tensor, at: Record, *, skip_activation: bool = False) -> list[Tensor | None]:
        return self.pullback(g, at)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        assert at is not None
        seen = self._seen(at)

        def step(which: int) -> PartStep:
            return lambda part, upper: part.layer.gradient(upper, seen[which][part.name])

        through, products = self._transposed()
        return self._back(g, at.once("gradient", lambda: self._plan(g, step, products)), through)

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        seen, other = self._seen(at), self._seen(ref)

        def step(which: int) -> PartStep:
            return lambda part, upper: part.layer.deeplift(
                upper, seen[which][part.name], other[which][part.name], rule
            )  # fmt: skip

        through, products = self._transposed()
        return self._back(m, at.once_with(ref, repr(rule), lambda: self._plan(m, step, products)), through)

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        if not isinstance(rule, Within):
            raise self.refusal(rule)
        seen = self._seen(at)

        def step(which: int) -> PartStep:
            def one(part: Part, upper: Tensor) -> list[Tensor | None]:
                own, factor = rule.parts[which][part.name]
                if factor is not None and isinstance(part.layer, Product):
                    return part.layer.lrp_to_one(upper, seen[which][part.name], own, factor)
                return part.layer.lrp(upper, seen[which][part.name], own)

            return one

        matrices = {name: self.matrix(name) for name in self.matrices}
        shared = at.once(f"steps {rule.key}", lambda: StepShares(matrices, seen, rule.parts, self.in_order))

        def through(part: Part, upper: Tensor, which: int, place: int) -> Tensor:
            return shared.of(which, part.name)(upper, place)

        return self._back(r, at.once(rule.key, lambda: self._plan(r, step, shared.products(LATER, HIDDEN))), through)

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        def step(which: int) -> PartStep:
            return lambda part, upper: part.layer.connection_weights(upper)

        through, products = self._transposed()
        return self._back(g, self._plan(g, step, products), through)

    def lrp_losses(self, rule: Rule) -> list[str]:
        if not isinstance(rule, Within):
            return []
        pairs = [(cell, rules) for cell, rules in zip(self.cells_of(), rule.parts, strict=True) if rules]
        return [
            loss for cell, rules in pairs for part in cell.parts for loss in part.layer.lrp_losses(rules[part.name][0])
        ]


class _ForAutograd(torch.autograd.Function):
    """The layer for somebody who differentiates its output."""

    @staticmethod
    def forward(ctx: Any, layer: Recurrent, *inputs: Tensor) -> Tensor:
        ctx.layer, ctx.at = layer, layer.record(*inputs)
        out: Tensor = ctx.at.output
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *g: Tensor) -> tuple[Tensor | None, ...]:
        found = ctx.layer.pullback(g[0].unsqueeze(0), ctx.at)
        return (None, *(None if x is None else x[0] for x in found))
