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
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from innsight_py.functions.deeplift import DeepLiftRule
from innsight_py.functions.lrp import Rule
from innsight_py.layers.affine import StepShare
from innsight_py.layers.arithmetic import Product
from innsight_py.layers.base import Layer, Record
from innsight_py.layers.cells import (
    HIDDEN,
    MATRICES,
    PROJECTED,
    QUICK,
    RESET,
    Cell,
    Part,
    PartStep,
    gru_reset_first_step,
)
from innsight_py.layers.linear import Dense
from innsight_py.layers.through_time import StepRecord, Way, cut_ways, summed, through_step

#: The two cells of a layer: that of the first step, which may start from constants, and that of all others.
FIRST, LATER = 0, 1
#: What the two saw: the records of their parts.
Seen = tuple[dict[str, Record], dict[str, Record]]
#: For each stretch of a step: by which ways something goes down through the first one and the later ones.
Stages = list[tuple[Way | None, Way | None]]
#: A backward step at a product with a matrix: the part, what came to it, which cell, and which of its steps.
MatrixStep = Callable[[Part, Tensor, int, int], Tensor]


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

    @property
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
        return self._matrix(HIDDEN).weight

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

    def _in_order(self, x: Tensor) -> list[Tensor]:
        """Return the steps in the order in which the layer takes them."""
        steps = list(x.unbind(-2))
        return steps[::-1] if self.reverse else steps

    def _together(self, steps: Sequence[Tensor]) -> Tensor:
        """Put steps side by side that are in the layer's order."""
        return torch.stack(tuple(steps[::-1] if self.reverse else steps), -2)

    def _run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return the states and the cells of all steps."""
        given = dict(zip(self.states, inputs[1:], strict=True))
        hidden = given.get("hidden", self.first_hidden)
        assert hidden is not None
        cell = given.get("cell", self.first_cell)
        cell = hidden if cell is None else cell
        weight, bias = self._weights(HIDDEN)
        step = QUICK.get(self.cell_kind)
        if step is None:
            inner = self._weights(RESET)

            def step(x: Tensor, from_state: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
                return gru_reset_first_step(x, from_state, hidden, *inner)

        projection = self._matrix(PROJECTED).weight if PROJECTED in self.matrices else None
        states, cells = [], []
        for x in self._in_order(inputs[0]):
            hidden, cell = step(x, F.linear(hidden, weight, bias), hidden, cell)
            hidden = hidden if projection is None else F.linear(hidden, projection)
            states.append(hidden)
            cells.append(cell)
        return self._together(states), self._together(cells) if self.cell_kind == "lstm" else None

    def _weights(self, name: str) -> tuple[Tensor, Tensor | None]:
        """Return a matrix and what is added to its product, by itself or by the layer behind it."""
        matrix = self._matrix(name)
        if self.bias is None:
            return matrix.weight, matrix.bias
        rows = len(matrix.weight)
        return matrix.weight, self.bias[:rows] if name == HIDDEN else self.bias[-rows:]

    def _matrix(self, name: str) -> Dense:
        matrix = self.matrices[name]
        assert isinstance(matrix, Dense)
        return matrix

    def _output(self, hidden: Tensor, cells: Tensor | None) -> Tensor:
        if not self.with_cells:
            return hidden
        assert cells is not None
        return torch.cat([hidden, cells], -1)

    def linear(self, *inputs: Tensor) -> Tensor:
        return self._output(*self._run(inputs))

    def record(self, *inputs: Tensor) -> Record:
        hidden, cells = self._run(inputs)
        out = self._output(hidden, cells)
        return Record(inputs, out, out, {"seen": self._see(inputs, hidden, cells)})

    def _see(self, inputs: Sequence[Tensor], hidden: Tensor, cells: Tensor | None) -> Seen:
        """Return what the layers of the cells saw, all later steps side by side."""
        x, steps = inputs[0], inputs[0].shape[-2]
        start, before, after = (steps - 1, 1, 0) if self.reverse else (0, 0, 1)
        given = {name[0]: y.unsqueeze(-2) for name, y in zip(self.states, inputs[1:], strict=True)}
        first = self.first.record(given | {"x": x.narrow(-2, start, 1)})
        known = {"x": x.narrow(-2, after, steps - 1), "h": hidden.narrow(-2, before, steps - 1)}
        if cells is not None:
            known["c"] = cells.narrow(-2, before, steps - 1)
        return first, self.later.record(known) if steps > 1 else {}

    def _seen(self, at: Record) -> Seen:
        return at.once("seen", lambda: self._see(at.inputs, *self._run(at.inputs)))

    # -- backward -----------------------------------------------------------------------------------------------

    def _ways(self, like: Tensor, step: Callable[[int], PartStep]) -> Stages:
        """Return by which ways something goes down through the first step and the later ones; see `Cell.factors`."""
        *lead, steps, _ = self.input_dims[0]
        found = []
        for sinks in self.later.stages:
            first, later = (
                cut_ways(cell.size, cell.factors((*lead, count), like, step(which), sinks), self._in_order)
                if count
                else None
                for which, (cell, count) in enumerate(zip(self.cells_of(), (1, steps - 1), strict=True))
            )
            found.append((first, later))
        return found

    def _back(self, g: Tensor, stages: Stages, through: MatrixStep) -> list[Tensor | None]:
        """Walk back through time."""
        size, parts = self.later.seen[self.later.output], {part.name: part for part in self.later.parts}
        steps, pieces = self._in_order(g), list[Tensor]()
        carried: tuple[Tensor | None, Tensor | None] = (None, None)
        for i in reversed(range(len(steps))):
            which, place = (FIRST, 0) if i == 0 else (LATER, i - 1)
            above = (steps[i][..., :size], steps[i][..., size:]) if self.with_cells else (steps[i], None)
            state, cell = (summed(x, y) for x, y in zip(above, carried, strict=True))
            assert state is not None
            state = through(parts[PROJECTED], state, which, place) if PROJECTED in parts else state
            down = through_step(stages[0][which], place, state, cell)
            if RESET in down:
                masked = through(parts[RESET], down.pop(RESET), which, place)
                for name, piece in through_step(stages[1][which], place, masked, None).items():
                    down[name] = down[name] + piece if name in down else piece
            passed = through(parts[HIDDEN], down[HIDDEN], which, place) if HIDDEN in down else None
            carried = (summed(down.get("h"), passed), down.get("c"))
            x = down.get("x")
            pieces.append(steps[i].new_zeros((*steps[i].shape[:-1], self.later.seen["x"])) if x is None else x)
        rows = max(x.shape[1] for x in pieces)
        whole = [x if x.shape[1] == rows else x.expand(-1, rows, *x.shape[2:]) for x in reversed(pieces)]
        last = dict(zip(("hidden", "cell"), carried, strict=True))
        return [self._together(whole), *(last[name] for name in self.states)]

    def _transposed(self) -> MatrixStep:
        """Return what takes something through the transposed weights."""
        weights = {name: self._matrix(name).weight for name in self.matrices}

        def through(part: Part, upper: Tensor, which: int, place: int) -> Tensor:
            return upper @ weights[part.name]

        return through

    def gradient(self, g: Tensor, at: Record, *, skip_activation: bool = False) -> list[Tensor | None]:
        return self.pullback(g, at)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        assert at is not None
        seen = self._seen(at)

        def step(which: int) -> PartStep:
            return lambda part, upper: part.layer.gradient(upper, seen[which][part.name])

        return self._back(g, at.once("gradient", lambda: self._ways(g, step)), self._transposed())

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        seen, other = self._seen(at), self._seen(ref)

        def step(which: int) -> PartStep:
            return lambda part, upper: part.layer.deeplift(
                upper, seen[which][part.name], other[which][part.name], rule
            )  # fmt: skip

        return self._back(m, at.once_with(ref, repr(rule), lambda: self._ways(m, step)), self._transposed())

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

        shared = at.once(f"steps {rule.key}", lambda: self._shared(seen, rule))

        def through(part: Part, upper: Tensor, which: int, place: int) -> Tensor:
            return shared[which][part.name](upper, place)

        return self._back(r, at.once(rule.key, lambda: self._ways(r, step)), through)

    def _shared(self, seen: Seen, rule: Within) -> list[dict[str, StepShare]]:
        """Return what shares out at each step of the products with matrices; what it divides by is computed for all."""
        found = []
        for which, records in enumerate(seen):
            of: dict[str, StepShare] = {}
            for name in MATRICES:
                if name in records:
                    layer, own = self._matrix(name), rule.parts[which][name][0]
                    shared = layer.in_steps(records[name], own, self._in_order)
                    of[name] = shared or self._one_by_one(layer, records[name], own)
            found.append(of)
        return found

    def _one_by_one(self, layer: Dense, it: Record, rule: Rule) -> StepShare:
        """Return the rule of a layer at each step, for those that are no table of shares."""
        kept = layer.shares(it, rule)
        cut = {key: [None] * it.output.shape[-2] if x is None else self._in_order(x) for key, x in kept.items()}
        pairs = zip(self._in_order(it.inputs[0]), self._in_order(it.output), strict=True)
        records = [
            StepRecord((x,), y, it, {key: values[i] for key, values in cut.items()}) for i, (x, y) in enumerate(pairs)
        ]

        def share_one(upper: Tensor, place: int) -> Tensor:
            (piece,) = layer.lrp(upper, records[place], rule)
            assert piece is not None
            return piece

        return share_one

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        def step(which: int) -> PartStep:
            return lambda part, upper: part.layer.connection_weights(upper)

        return self._back(g, self._ways(g, step), self._transposed())

    def lrp_losses(self, rule: Rule) -> list[str]:
        if not isinstance(rule, Within):
            return []
        pairs = [(cell, rules) for cell, rules in zip(self.cells_of(), rule.parts, strict=True) if rules]
        return [
            loss for cell, rules in pairs for part in cell.parts for loss in part.layer.lrp_losses(rules[part.name][0])
        ]
