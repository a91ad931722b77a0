"""Layers that look something up: vectors by their numbers, and one of two values by a condition."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from innsight_py.functions.deeplift import DeepLiftRule
from innsight_py.functions.layout import align, sum_to
from innsight_py.functions.lrp import Rule
from innsight_py.layers.base import Layer
from innsight_py.layers.record import Record


class Embedding(Layer):
    """Rows of a table by their numbers. Attributions lie at the rows: no walk goes on to numbers that are inputs.

    Numbers that a model computes have no gradient, and DeepLift has a rule where they are the reference's.
    """

    r_class = "Embedding_Layer"
    family = "embedding"
    weight: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.register_buffer("weight", spec.weight)

    def linear(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        try:
            return F.embedding(x.long(), self.weight)
        except IndexError:
            raise ValueError(
                f"The embedding '{self.name}' has vectors for the numbers 0 to {len(self.weight) - 1}; it got "
                f"{int(x.min())} to {int(x.max())}."
            ) from None

    @property
    def kind(self) -> str:
        return "an embedding of numbers that are computed from the data"

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        return [None]

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        if not bool((at.inputs[0] == ref.inputs[0]).all()):
            raise self._unsupported("DeepLift")
        return [None]

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        raise self._unsupported("LRP")


class Choose(Layer):
    """Entries of one value where a condition holds, of another or a constant elsewhere.

    Everything goes to the value that was chosen. DeepLift has a rule where reference and row choose alike, as they do
    where the condition is a mask that comes with the row.
    """

    r_class = "Choose_Layer"

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.negated = spec.negated
        self.otherwise: Tensor | None
        self.register_buffer("otherwise", spec.otherwise)

    @property
    def kind(self) -> str:
        return "a choice that differs between row and reference"

    def _holds(self, condition: Tensor) -> Tensor:
        holds = condition if condition.dtype == torch.bool else condition != 0
        return ~holds if self.negated else holds

    def linear(self, *inputs: Tensor) -> Tensor:
        rank = max(len(self.output_dim) + 1, *(x.dim() for x in inputs))
        condition, x, *other = (align(value, rank) for value in inputs)
        y = other[0] if self.otherwise is None else self.otherwise.to(x.dtype)
        return torch.where(self._holds(condition), x, y)

    def _sides(self, g: Tensor, condition: Tensor) -> list[Tensor | None]:
        holds, zero = self._holds(align(condition, g.dim() - 1)), g.new_zeros(())
        pulled: list[Tensor | None] = [None, sum_to(torch.where(holds, g, zero), self.input_dims[1])]
        if self.otherwise is None:
            pulled.append(sum_to(torch.where(holds, zero, g), self.input_dims[2]))
        return pulled

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        assert at is not None
        return self._sides(g, at.inputs[0])

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        here, there = (self._holds(record.inputs[0]) for record in (at, ref))
        if not bool((here == there).all()):
            raise self._unsupported("DeepLift")
        return self._sides(m, at.inputs[0])

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        return self._sides(r, at.inputs[0])


class Gather(Layer):
    """Entries of a value by their numbers, which each row brings. A source that is taken several times gets all.

    DeepLift has a rule where reference and row take the same entries, as they do where the numbers come with the row,
    or are taken as given.
    """

    r_class = "Gather_Layer"

    @property
    def kind(self) -> str:
        return "a look-up that differs between row and reference"

    def linear(self, *inputs: Tensor) -> Tensor:
        x, numbers = inputs
        return x.flatten(1).gather(1, numbers.flatten(1).long()).reshape(numbers.shape)

    def _back(self, g: Tensor, numbers: Tensor) -> list[Tensor | None]:
        flat, dim = numbers.flatten(1).long(), self.input_dims[0]
        pulled = g.new_zeros((g.shape[0], len(flat), math.prod(dim)))
        pulled.scatter_add_(2, flat.expand(len(g), -1, -1), g.expand(-1, len(flat), *g.shape[2:]).flatten(2))
        return [pulled.reshape(*pulled.shape[:2], *dim), None]

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        assert at is not None
        return self._back(g, at.inputs[1])

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        if not bool((at.inputs[1] == ref.inputs[1]).all()):
            raise self._unsupported("DeepLift")
        return self._back(m, at.inputs[1])

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        return self._back(r, at.inputs[1])


class TopK(Layer):
    """Which entries along the last axis are the largest, in order: a choice that the forward pass makes.

    It has no gradient, and no relevance goes through it. DeepLift gives what another choice changes to the entries that
    were compared, each a share by the square of its difference: so the sum stays exact where row and reference choose
    differently, and no share is larger than the whole.
    """

    r_class = "TopK_Layer"

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.k, self.largest = spec.k, spec.largest

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        if not dims[0] or dims[0][-1] < self.k:
            raise ValueError(f"there are no {self.k} entries along the last axis")

    def linear(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        chosen = x.topk(self.k, dim=-1, largest=self.largest).indices
        return chosen.unsqueeze(-1) == torch.arange(x.shape[-1], device=x.device)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        return [None]

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        changed = at.output.to(m.dtype) - ref.output.to(m.dtype)
        if not bool(changed.any()):
            return [None]
        difference = at.inputs[0] - ref.inputs[0]
        largest = difference.abs().amax(-1, keepdim=True)
        share = difference / largest.clamp(min=torch.finfo(m.dtype).tiny)  # squares of small differences are 0
        change = (m * changed).sum((-2, -1)).unsqueeze(-1)
        slope = change / (largest * (share * share).sum(-1, keepdim=True))
        return [torch.where(largest > 0, slope * share, 0.0)]

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        return [None]
