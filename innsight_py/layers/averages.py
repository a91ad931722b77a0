"""Means: over windows of a fixed size, over as many windows as the output has positions, over all positions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from innsight_py.functions.layout import fold, unfold
from innsight_py.functions.lrp import BELOW, Part, Rule, Weighted
from innsight_py.functions.lrp_rules import Flat
from innsight_py.functions.lrp_weightless import Equal, Proportional
from innsight_py.layers.affine import Affine
from innsight_py.layers.base import Named, pull_linear
from innsight_py.layers.record import Record

_AVG_POOL = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
_ADAPTIVE_AVG_POOL = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)


class Averaging(Affine):
    """A sum or a mean: a product with weights that are positive and never written out, but for a common factor."""

    lrp_takes: ClassVar[tuple[type[Rule], ...]] = (Weighted, Proportional, Equal)
    lrp_asked: ClassVar[bool] = True
    lacking: ClassVar[frozenset[Part]] = frozenset([BELOW])
    family = "average_pooling"
    weight = None
    bias = None

    def average(self, x: Tensor) -> Tensor:
        """Return the sums or means."""
        raise NotImplementedError

    def spread(self, g: Tensor) -> Tensor:
        """Return the transpose's product with `g`."""
        return pull_linear(self.average, g, self.input_dims[0])

    def apply_weight(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        return self.average(x) if weight is None else self.average(x) * weight

    def transpose(self, g: Tensor, weight: Tensor | None) -> Tensor:
        return self.spread(g if weight is None else g * weight)

    def weight_part(self, part: Part) -> Tensor | None:
        """Return the factor; None for 1. Squares and ones are as good as the weights: all of a window are equal."""
        factor = part.of(torch.ones((), dtype=torch.float64))
        return None if factor == 1 else factor

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        if isinstance(rule, Equal):
            return [self.equal_shares(r, at)]
        return super().lrp(r, at, rule, is_output=is_output)

    def equal_shares(self, r: Tensor, at: Record) -> Tensor:
        """Share relevance equally among the addends of each output."""
        return self.share_out(r, at, Flat())


class WindowMean(Averaging):
    """The mean over windows of a fixed size."""

    def __init__(
        self, spec: Named, kernel_size: tuple[int, ...], strides: tuple[int, ...], padding: tuple[int, ...],
        ceil_mode: bool, count_include_pad: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(spec)
        self.kernel_size, self.strides, self.padding = kernel_size, strides, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        self.needs_axes(dims[0], len(self.kernel_size) + 1)

    def average(self, x: Tensor) -> Tensor:
        pool = _AVG_POOL[len(self.kernel_size) - 1]
        return pool(x, self.kernel_size, self.strides, self.padding, self.ceil_mode, self.count_include_pad)

    def spread(self, g: Tensor) -> Tensor:
        channels, *size = self.input_dims[0]
        flat = fold(g)
        kernel, strides, padding = self.kernel_size, self.strides, self.padding
        if len(size) == 1:  # torch has the backward of two and three axes only
            flat, size = flat.unsqueeze(-2), [1, *size]
            kernel, strides, padding = (1, *kernel), (1, *strides), (0, *padding)
        backward = (torch.ops.aten.avg_pool2d_backward, torch.ops.aten.avg_pool3d_backward)[len(size) - 2]
        like_input = flat.new_empty((len(flat), channels, *size))  # only its shape is looked at
        pulled = backward(
            flat, like_input, kernel, strides, padding, self.ceil_mode, self.count_include_pad, None
        )  # fmt: skip
        return unfold(pulled.reshape(len(flat), *self.input_dims[0]), g)


class AdaptiveMean(Averaging):
    """The mean over as many windows as there are positions in the output."""

    def __init__(self, spec: Named, output_size: tuple[int, ...]) -> None:
        super().__init__(spec)
        self.output_size = output_size

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        self.needs_axes(dims[0], len(self.output_size) + 1)

    def average(self, x: Tensor) -> Tensor:
        pool: Callable[..., Tensor] = _ADAPTIVE_AVG_POOL[len(self.output_size) - 1]
        return pool(x, self.output_size)


class GlobalMean(Averaging):
    """The mean over all positions, as a product."""

    def __init__(self, spec: Named, keepdims: bool) -> None:
        super().__init__(spec)
        self.keepdims = keepdims

    def average(self, x: Tensor) -> Tensor:
        return over_positions(torch.mean, x, self.keepdims)

    def spread(self, g: Tensor) -> Tensor:
        return spread(g, self.input_dims[0])

    def equal_shares(self, r: Tensor, at: Record) -> Tensor:
        return self.spread(r)


def over_positions(reduce: Callable[..., Tensor], x: Tensor, keepdims: bool) -> Tensor:
    """Reduce all axes after the channels."""
    if x.dim() < 3:
        raise ValueError("it needs an input with positions, axes after the channels")
    return reduce(x, dim=tuple(range(2, x.dim())), keepdim=keepdims)


def spread(g: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Share what comes to each channel equally among its positions."""
    channels, *size = dim
    shared = g.reshape(*g.shape[:3], *[1] * len(size)) / math.prod(size)
    return shared.expand(*g.shape[:2], channels, *size)


# -- average ----------------------------------------------------------------------------------------------------


class _AveragePooling(WindowMean):
    def __init__(self, spec: Any) -> None:
        super().__init__(
            spec, spec.kernel_size, spec.strides or spec.kernel_size, spec.padding, spec.ceil_mode,
            spec.count_include_pad,
        )  # fmt: skip


class AveragePooling1D(_AveragePooling):
    """The mean over windows of a signal."""

    r_class = "AvgPool1D_Layer"


class AveragePooling2D(_AveragePooling):
    """The mean over windows of an image."""

    r_class = "AvgPool2D_Layer"
    takes_images = True


class AveragePooling3D(_AveragePooling):
    """The mean over windows of a volume."""

    r_class = "AvgPool3D_Layer"


class AdaptiveAveragePooling(AdaptiveMean):
    """The mean over as many windows as there are positions in the output."""

    r_class = "AdaptiveAvgPool_Layer"

    def __init__(self, spec: Any) -> None:
        super().__init__(spec, spec.output_size)


class GlobalAveragePooling(GlobalMean):
    """The mean of each channel over all positions; relevance is shared equally, as in R."""

    r_class = "GlobalAvgPooling"
    lrp_default: ClassVar[Rule] = Equal()
    lrp_asked: ClassVar[bool] = False

    def __init__(self, spec: Any) -> None:
        super().__init__(spec, spec.keepdims)
