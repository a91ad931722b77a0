"""A recurrent layer of one direction: LSTM, GRU and plain ones, whose walk goes through time in one loop.

What comes from the input, ``W x + b`` for all steps, is a dense layer of its own before this one. A step is a `Cell` of
layers that are known, so every rule is what it would be if each step had layers of its own in the graph.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from innsight_py.functions.deeplift import DeepLiftRule
from innsight_py.functions.lrp import Rule
from innsight_py.layers.affine import StepProduct
from innsight_py.layers.arithmetic import Product
from innsight_py.layers.cells import HIDDEN, MATRICES, PROJECTED, RESET, Factors, Part, PartStep
from innsight_py.layers.record import Record
from innsight_py.layers.step_shares import StepShares
from innsight_py.layers.steps import Steps
from innsight_py.layers.through_time import Later, Way, cut_ways, summed, through_step

#: The two cells of a layer whose first step may start from constants: that of this step, and that of all others.
FIRST, LATER = 0, 1
#: What goes down through no step.
NOTHING = Factors({}, None, None)
#: What comes to a state and to a cell.
Carried = tuple[Tensor | None, Tensor | None]
#: A backward step at a product with a matrix: the part, what came to it, which cell, and which of its steps.
MatrixStep = Callable[[Part, Tensor, int, int], Tensor]


class Plan(NamedTuple):
    """What a walk back through time multiplies by.

    For each stretch of a step: by which ways something goes down through the first one and the later ones; and what
    walks through the later ones quickly, where that is possible. Where the first step is like the others it has no ways
    of its own.
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


class Recurrent(Steps):
    """Takes the gates' part of the input ``(*lead, steps, gates)``, and the first states where these are data.

    It gives the states of all steps, ``(*lead, steps, hidden)``; with `cells` the LSTM's cells behind them.
    """

    r_class = "Recurrent_Layer"
    lrp_takes: ClassVar[tuple[type[Rule], ...]] = ()

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
            quick = self._quick(later, products)
            if quick is not None:
                return Plan([(cut_ways(self.first.size, first, self.in_order), None)], quick)
            stages.append((
                cut_ways(self.first.size, first, self.in_order), cut_ways(self.later.size, later, self.in_order)
            ))  # fmt: skip
        return Plan(stages, None)

    def _plan_of_all(self, like: Tensor, step: PartStep, products: Sequence[StepProduct]) -> Plan:
        """Return the same where the first step is like the others."""
        *lead, steps, _ = self.input_dims[0]
        ways: list[tuple[Way | None, Way | None]] = []
        for sinks in self.all.stages:
            factors = self.all.factors((*lead, steps), like, step, sinks)
            quick = self._quick(factors, products)
            if quick is not None:
                return Plan([], quick)
            way = cut_ways(self.all.size, factors, self.in_order)
            ways.append((None, way))
        return Plan(ways, None)

    def _quick(self, factors: Factors, products: Sequence[StepProduct] | None) -> Later | None:
        needed = {HIDDEN, "x", *("c" if self.cell_kind == "lstm" else "")}
        if products is None or not needed <= factors.of.keys() or len(self.matrices) > 1:
            return None
        return Later(self.later.size, factors, products, self.reverse)

    def _back(self, g: Tensor, plan: Plan, through: MatrixStep, first: bool = True) -> list[Tensor | None]:
        """Walk back through time; the first step may have a cell of its own."""
        size = self.later.seen[self.later.output]
        state, cell = (g.narrow(-1, 0, size), g.narrow(-1, size, g.shape[-1] - size)) if self.with_cells else (g, None)
        start = int(first)
        above: Carried = (None, None)
        carried: Carried = (None, None)
        if plan.later is None:
            pieces = list[Tensor]()
            cells = [None] * g.shape[-2] if cell is None else self.in_order(cell)
            steps: list[Carried] = list(zip(self.in_order(state), cells, strict=True))
            for place in reversed(range(start, len(steps))):
                piece, carried = self._step_back(steps[place], carried, plan, through, LATER, place - start)
                pieces.append(piece.unsqueeze(-2))
            above = steps[0]
        else:
            x, *rest = plan.later.walk(state, cell, start)
            pieces, carried = [x], (rest[0], rest[1])
        if first:
            piece, carried = self._step_back(above, carried, plan, through, FIRST, 0)
            pieces.append(piece.unsqueeze(-2))
        last = dict(zip(("hidden", "cell"), carried, strict=True))
        return [self._side_by_side(pieces, first and plan.later is not None), *(last[name] for name in self.states)]

    def _side_by_side(self, pieces: Sequence[Tensor], has_room: bool) -> Tensor:
        """Lay what the steps give, the last one first, side by side; the first piece may have room for the others."""
        if len(pieces) == 1:
            return pieces[0]
        rows = max(x.shape[1] for x in pieces)
        if has_room and pieces[0].shape[1] == rows:
            pieces[0].narrow(-2, -1 if self.reverse else 0, 1).copy_(pieces[1])
            return pieces[0]
        if has_room:
            pieces = [pieces[0].narrow(-2, int(not self.reverse), self.steps - 1), pieces[1]]
        whole = [x if x.shape[1] == rows else x.expand(-1, rows, *x.shape[2:]) for x in pieces]
        return torch.cat(whole if self.reverse else whole[::-1], -2)

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
        seen = self._seen_all(at)

        def step(part: Part, upper: Tensor) -> list[Tensor | None]:
            return part.layer.gradient(upper, seen[part.name])

        through, products = self._transposed()
        plan = at.once("gradient", lambda: self._plan_of_all(g, step, products))
        return self._back(g, plan, through, first=False)

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        seen, other = self._seen_all(at), self._seen_all(ref)

        def step(part: Part, upper: Tensor) -> list[Tensor | None]:
            return part.layer.deeplift(upper, seen[part.name], other[part.name], rule)

        through, products = self._transposed()
        plan = at.once_with(ref, repr(rule), lambda: self._plan_of_all(m, step, products))
        return self._back(m, plan, through, first=False)

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
