"""Layers that combine several inputs, or the entries of one: sums, products, means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from innsight_py.functions.deeplift import DeepLiftRule
from innsight_py.functions.layout import align, sum_to
from innsight_py.functions.lrp import Rule, Shares, Weighted
from innsight_py.functions.lrp_rules import Epsilon, Simple
from innsight_py.functions.lrp_weightless import Equal, Proportional
from innsight_py.layers.averages import Averaging
from innsight_py.layers.base import Carrying, Layer, Named
from innsight_py.layers.record import ALL, INPUTS, NOTHING, Needs, Record
from innsight_py.layers.structure import not_the_batch

#: Under these keys a record keeps the means of two factors.
MEANS = ("left mean", "right mean")


class _Stacked(Averaging):
    """The sum over the first axis behind the batch: a sum of several values, of one shape and side by side."""

    def average(self, x: Tensor) -> Tensor:
        return x.sum(1)

    def spread(self, g: Tensor) -> Tensor:
        return g.unsqueeze(2).expand(*g.shape[:2], *self.input_dims[0])


class Add(Carrying):
    """The sum of several inputs. LRP and connection weights give each an equal share, as R does, unless told else."""

    r_class = "Adding_Layer"
    lrp_takes: ClassVar[tuple[type[Rule], ...]] = (Weighted, Proportional, Equal)
    lrp_default: ClassVar[Rule] = Equal()
    family = "sum"

    def __init__(self, spec: Named) -> None:
        super().__init__(spec)
        self._stacked = [_Stacked(spec)]  # in a list, so that it is no submodule

    def linear(self, *inputs: Tensor) -> Tensor:
        rank = max(x.dim() for x in inputs)
        total = align(inputs[0], rank)
        for x in inputs[1:]:
            total = total + align(x, rank)
        return total

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        return [sum_to(g, dim) for dim in self.input_dims]

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        if isinstance(rule, Equal):
            return self.pullback(r / len(self.input_dims), at)
        if len(self.input_dims) == 2 and isinstance(rule, Proportional | Simple | Epsilon):
            rank = r.dim() - 1
            sent = r / at.once(rule.key, lambda: rule.stabilize(at.output, rule.table().sides[0]))
            return [sum_to(sent * align(x, rank), dim) for x, dim in zip(at.inputs, self.input_dims, strict=True)]
        (stacked,) = self._stacked
        stacked.input_dims, stacked.output_dim = ((len(self.input_dims), *self.output_dim),), self.output_dim
        (shares,) = stacked.lrp(r, at.once("stacked", lambda: stacked.record(self._side_by_side(at.inputs))), rule)
        assert shares is not None
        return [sum_to(share, dim) for share, dim in zip(shares.unbind(2), self.input_dims, strict=True)]

    def lrp_needs(self, rule: Rule) -> Needs:
        return NOTHING if isinstance(rule, Equal) else ALL

    def _side_by_side(self, inputs: Sequence[Tensor]) -> Tensor:
        rank = len(self.output_dim) + 1
        return torch.stack([align(x, rank).expand(-1, *self.output_dim) for x in inputs], 1)

    def lrp_loss(self, rule: Rule) -> str | None:
        return self._stacked[0].lrp_loss(rule)

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        return self.pullback(g / len(self.input_dims), None)


class Reduce(Averaging):
    """The sum or the mean over some axes. LRP and connection weights give each entry an equal share."""

    r_class = "Reduce_Layer"
    lrp_default: ClassVar[Rule] = Equal()
    lrp_asked: ClassVar[bool] = False

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.method, self.axes, self.keepdims = spec.method, spec.axes, spec.keepdims
        self.family = "average_pooling" if self.method == "mean" else "sum"

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        for axis in self.axes:
            not_the_batch(axis, dims[0], "axes")

    def _axes(self) -> tuple[int, ...]:
        return tuple(axis % (len(self.input_dims[0]) + 1) for axis in self.axes)

    def average(self, x: Tensor) -> Tensor:
        reduce = torch.mean if self.method == "mean" else torch.sum
        return reduce(x, dim=self._axes(), keepdim=self.keepdims)

    def _count(self) -> int:
        return math.prod(self.input_dims[0][axis - 1] for axis in self._axes())

    def _spread(self, g: Tensor) -> Tensor:
        if not self.keepdims:
            for axis in sorted(self._axes()):
                g = g.unsqueeze(axis + 1)
        return g.expand(*g.shape[:2], *self.input_dims[0])

    def spread(self, g: Tensor) -> Tensor:
        return self._spread(g / self._count() if self.method == "mean" else g)

    def equal_shares(self, r: Tensor, at: Record) -> Tensor:
        return self._spread(r / self._count())

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        return [self._spread(g / self._count())]


class Product(Layer):
    """A product of two inputs that both depend on the model's: linear in each.

    DeepLift gives each factor its difference times the mean of the other, which is exact:
    ``xy - x'y' = (x - x')(y + y')/2 + (y - y')(x + x')/2``. The gradient is the same where the reference is the input.
    """

    family = "product"

    def pull_left(self, g: Tensor, right: Tensor) -> Tensor:
        """Take `g` to the left factor, given the right one."""
        raise NotImplementedError

    def pull_right(self, g: Tensor, left: Tensor) -> Tensor:
        """Take `g` to the right factor, given the left one."""
        raise NotImplementedError

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        assert at is not None
        return self._pull_both(g, *at.inputs)

    def _pull_both(self, g: Tensor, left: Tensor, right: Tensor) -> list[Tensor | None]:
        # What comes to the left factor, which may be as large as scores of attention, has to wait for nothing.
        to_right = self.pull_right(g, left)
        return [self.pull_left(g, right), to_right]

    @property
    def gradient_needs(self) -> Needs:
        return INPUTS

    def deeplift_needs(self, rule: DeepLiftRule) -> Needs:
        return INPUTS

    def lrp_to_one(self, r: Tensor, at: Record, rule: Rule, factor: int) -> list[Tensor | None]:
        """Distribute relevance where one factor alone depends on the inputs: it gets all."""
        pieces: list[Tensor | None] = [None, None]
        half = self.lrp(r, at, rule)[factor]
        pieces[factor] = None if half is None else 2 * half
        return pieces

    def lrp_loss(self, rule: Rule) -> str | None:
        return rule.loss

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        return self._pull_both(m, self.mean(at, ref, 0), self.mean(at, ref, 1))

    def deeplift_early(self, at: Record, ref: Record, rule: DeepLiftRule) -> bool:
        for factor in (0, 1):
            self.mean(at, ref, factor)
        return True

    def deeplift_kept(self, rule: DeepLiftRule) -> int:
        return sum(math.prod(dim) for dim in self.input_dims)

    @staticmethod
    def mean(at: Record, ref: Record, factor: int) -> Tensor:
        """Return the mean of a factor of rows and of references, computed once."""
        return at.once_with(ref, MEANS[factor], lambda: (at.inputs[factor] + ref.inputs[factor]).mul_(0.5))


class Multiply(Product):
    """The product entry by entry, of instances that broadcast. LRP gives each factor an equal share."""

    r_class = "Multiply_Layer"
    lrp_takes: ClassVar[tuple[type[Rule], ...]] = (Equal,)
    lrp_default: ClassVar[Rule] = Equal()

    def linear(self, *inputs: Tensor) -> Tensor:
        left, right = (align(x, max(y.dim() for y in inputs)) for x in inputs)
        return left * right

    @property
    def is_light(self) -> bool:
        return True

    def _pull(self, g: Tensor, other: Tensor, dim: tuple[int, ...]) -> Tensor:
        return sum_to(g * align(other, g.dim() - 1), dim)

    def pull_left(self, g: Tensor, right: Tensor) -> Tensor:
        return self._pull(g, right, self.input_dims[0])

    def pull_right(self, g: Tensor, left: Tensor) -> Tensor:
        return self._pull(g, left, self.input_dims[1])

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        return [sum_to(0.5 * r, dim) for dim in self.input_dims]

    def lrp_needs(self, rule: Rule) -> Needs:
        return NOTHING


class MatMul(Product):
    """The matrix product along the last two axes. LRP gives each factor half, shared out in proportion to its terms."""

    r_class = "MatMul_Layer"
    lrp_takes: ClassVar[tuple[type[Rule], ...]] = (Simple, Epsilon)
    lrp_default: ClassVar[Rule] = Simple()
    lrp_asked: ClassVar[bool] = True

    def linear(self, *inputs: Tensor) -> Tensor:
        left, right = inputs
        if min(left.dim(), right.dim()) < 3:
            raise ValueError("a matrix product needs instances with two axes")
        rank = max(left.dim(), right.dim())
        return align(left, rank) @ align(right, rank)

    @property
    def is_light(self) -> bool:
        """Whether the output takes more room than the factors: the scores of attention over many tokens."""
        return math.prod(self.output_dim) >= sum(math.prod(dim) for dim in self.input_dims)

    def pull_left(self, g: Tensor, right: Tensor) -> Tensor:
        return sum_to(g @ align(right, g.dim() - 1).transpose(-1, -2), self.input_dims[0])

    def pull_right(self, g: Tensor, left: Tensor) -> Tensor:
        return sum_to(align(left, g.dim() - 1).transpose(-1, -2) @ g, self.input_dims[1])

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        if not isinstance(rule, Shares):
            raise self.refusal(rule)
        left, right = at.inputs
        share = 0.5 * r / rule.stabilize(at.output, rule.table().sides[0])
        return [left * self.pull_left(share, right), right * self.pull_right(share, left)]
