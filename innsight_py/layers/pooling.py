"""Pooling over windows and over all positions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from innsight_py.layers.affine import Affine, SignedWeight
from innsight_py.layers.base import (
    WINNERS,
    Carrying,
    Layer,
    Named,
    Record,
    empty_like,
    fold,
    lay_out,
    pull_linear,
    unfold,
)  # fmt: skip
from innsight_py.layers.rules import DeepLiftRule, LRPRule, window_slope

_AVG_POOL = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
_MAX_POOL = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_ADAPTIVE_AVG_POOL = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
_ADAPTIVE_MAX_POOL = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)


class _Averaging(Affine):
    """A mean over windows: a product with weights that are positive and never written out."""

    weight = None
    bias = None

    def transpose(self, g: Tensor, weight: Tensor | None) -> Tensor:
        return pull_linear(lambda x: self.apply_weight(x, None), g, self.input_dims[0])

    def signed_weight(self) -> SignedWeight:
        return None, None

    def signed_parts(self, x: Tensor, weights: SignedWeight, with_bias: bool) -> tuple[Tensor, Tensor]:
        return self.apply_weight(x.clamp(min=0), None), self.apply_weight(x.clamp(max=0), None)

    def _two_products(
        self, first: Tensor | None, above: Tensor | None, second: Tensor | None, below: Tensor | None
    ) -> Tensor:
        if first is None:  # alpha = 1 and an input below zero, which then gets nothing
            assert second is not None
            return second.new_zeros((*second.shape[:2], *self.input_dims[0]))
        return self.transpose(first, None)


class _WindowMean(_Averaging):
    """The mean over windows of a fixed size."""

    def __init__(
        self, layer: Named, kernel_size: tuple[int, ...], strides: tuple[int, ...], padding: tuple[int, ...],
        ceil_mode: bool, count_include_pad: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(layer)
        self.kernel_size, self.strides, self.padding = kernel_size, strides, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        self.needs_axes(dims[0], len(self.kernel_size) + 1)

    def apply_weight(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        pool = _AVG_POOL[len(self.kernel_size) - 1]
        return pool(x, self.kernel_size, self.strides, self.padding, self.ceil_mode, self.count_include_pad)

    def transpose(self, g: Tensor, weight: Tensor | None) -> Tensor:
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


class _DilatedMean(_Averaging):
    """The mean over windows with gaps, which torch has only for the maximum: a convolution with ones."""

    def __init__(self, pooling: _MaxPooling) -> None:
        super().__init__(pooling)
        self.pooling = [pooling]  # in a list, so that it is no submodule

    def apply_weight(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        (pooling,) = self.pooling
        size, out = pooling.input_dims[0][1:], pooling.output_dim[1:]
        sides: list[int] = []
        for n, m, k, s, p, d in zip(
            size, out, pooling.kernel_size, pooling.strides, pooling.padding, pooling.dilation, strict=True
        ):
            sides = [p, (m - 1) * s + (k - 1) * d + 1 - n - p, *sides]  # below 0: the end that no window reaches
        channels = x.shape[1]
        ones = x.new_ones((channels, 1, *pooling.kernel_size)) / math.prod(pooling.kernel_size)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(size) - 1]
        return convolve(F.pad(x, sides), ones, None, pooling.strides, 0, pooling.dilation, channels)


class _AdaptiveMean(_Averaging):
    """The mean over as many windows as there are positions in the output."""

    def __init__(self, layer: Named, output_size: tuple[int, ...]) -> None:
        super().__init__(layer)
        self.output_size = output_size

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        self.needs_axes(dims[0], len(self.output_size) + 1)

    def apply_weight(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        pool: Callable[..., Tensor] = _ADAPTIVE_AVG_POOL[len(self.output_size) - 1]
        return pool(x, self.output_size)


class _GlobalMean(_Averaging):
    """The mean over all positions, as a product."""

    def __init__(self, layer: Named, keepdims: bool) -> None:
        super().__init__(layer)
        self.keepdims = keepdims

    def apply_weight(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        return _over_positions(torch.mean, x, self.keepdims)

    def transpose(self, g: Tensor, weight: Tensor | None) -> Tensor:
        return _spread(g, self.input_dims[0])


def _over_positions(reduce: Callable[..., Tensor], x: Tensor, keepdims: bool) -> Tensor:
    """Reduce all axes after the channels."""
    if x.dim() < 3:
        raise ValueError("it needs an input with positions, axes after the channels")
    return reduce(x, dim=tuple(range(2, x.dim())), keepdim=keepdims)


def _spread(g: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Share what comes to each channel equally among its positions."""
    channels, *size = dim
    shared = g.reshape(*g.shape[:3], *[1] * len(size)) / math.prod(size)
    return shared.expand(*g.shape[:2], channels, *size)


# -- average ----------------------------------------------------------------------------------------------------


class _AveragePooling(_WindowMean):
    def __init__(self, layer: Any) -> None:
        super().__init__(
            layer, layer.kernel_size, layer.strides or layer.kernel_size, layer.padding, layer.ceil_mode,
            layer.count_include_pad,
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


class AdaptiveAveragePooling(_AdaptiveMean):
    """The mean over as many windows as there are positions in the output."""

    r_class = "AdaptiveAvgPool_Layer"

    def __init__(self, layer: Any) -> None:
        super().__init__(layer, layer.output_size)


class GlobalAveragePooling(Carrying):
    """The mean of each channel over all positions; relevance is shared equally, as in R."""

    r_class = "GlobalAvgPooling"

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.keepdims = layer.keepdims

    def linear(self, *inputs: Tensor) -> Tensor:
        return _over_positions(torch.mean, inputs[0], self.keepdims)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        return [_spread(g, self.input_dims[0])]


# -- maximum ----------------------------------------------------------------------------------------------------


class _Winner(Layer):
    """A maximum: everything goes to the first largest input of each window.

    Where the winner is not to take all, the layer is treated as the mean over the same window.
    """

    winner_always = False

    def winners(self, x: Tensor) -> Tensor:
        """Return for each output the flat position of its winner among the channel's inputs."""
        return self.pool(x)[1]

    def pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maxima and the positions of their winners."""
        raise NotImplementedError

    def record(self, *inputs: Tensor) -> Record:
        out, winners = self.pool(inputs[0])
        return Record(inputs, out, out, {WINNERS: winners})

    def averaging(self) -> _Averaging:
        """Return the mean over the same windows."""
        raise NotImplementedError

    def _average(self) -> _Averaging:
        average = self.averaging()
        average.input_dims, average.output_dim = self.input_dims, self.output_dim
        return average

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        if at is None:  # nothing is known of the input: as for an input of equal values
            positions = self.winners(g.new_ones(1, *self.input_dims[0]))
        else:
            positions = at.once(WINNERS, lambda: self.winners(at.inputs[0]))
        return [self.send(g, positions)]

    def send(self, g: Tensor, positions: Tensor) -> Tensor:
        """Send what came to each output to the position of its winner."""
        batch = max(g.shape[1], positions.shape[0])
        shape = (g.shape[0], batch, self.output_dim[0], math.prod(self.output_dim[1:]))
        index = positions.reshape(1, positions.shape[0], *shape[2:]).expand(shape)
        source = g.reshape(*g.shape[:2], *shape[2:]).expand(shape)
        channels, *size = self.input_dims[0]
        pulled = g.new_zeros((*shape[:2], channels, math.prod(size)))
        pulled.scatter_add_(-1, index, source)  # add: windows may overlap
        return pulled.reshape(*shape[:2], channels, *size)

    def lrp(self, r: Tensor, at: Record, rule: LRPRule, *, is_output: bool = False) -> list[Tensor | None]:
        if rule.winner_takes_all or self.winner_always:
            return self.pullback(r, at)
        average = self._average()
        (x,) = at.inputs
        mean = at.once("mean", lambda: average.linear(x))
        return average.lrp(r, Record((x,), mean, mean), rule)

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        if rule.winner_takes_all or self.winner_always:
            return self.pullback(m, at)
        average = self._average()
        dx, dy = at.inputs[0] - ref.inputs[0], at.output - ref.output
        mean = average.linear(dx)
        factor, cancels = window_slope(dy, mean, average.linear(dx.abs()))
        pulled = average.transpose(m * factor, None)
        if bool(cancels.any()):  # differences of both signs: give each a share by its square
            squares = average.linear(dx * dx)
            share = torch.where(cancels & (squares > 0), dy / squares.clamp(min=torch.finfo(dx.dtype).tiny), 0)
            pulled = pulled + dx * average.transpose(m * share, None)
        return [pulled]

    def deeplift_loss(self, rule: DeepLiftRule, *, skip_activation: bool = False) -> str | None:
        if self.winner_always:
            return "the winner takes all in a global max pooling, whatever winner_takes_all says, as in R"
        if rule.winner_takes_all:
            return "the winner takes all in max pooling (winner_takes_all=False keeps the sum)"
        return None

    def lrp_loss(self, rule: LRPRule) -> str | None:
        if rule.winner_takes_all or self.winner_always:
            return None
        return self._average().lrp_loss(rule)


class _MaxPooling(_Winner):
    lrp_rules: ClassVar[tuple[str, ...]] = ("simple", "epsilon", "alpha_beta")

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.kernel_size, self.strides = layer.kernel_size, layer.strides or layer.kernel_size
        self.padding, self.dilation, self.ceil_mode = layer.padding, layer.dilation, layer.ceil_mode

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        self.needs_axes(dims[0], len(self.kernel_size) + 1)

    def _pool(self, x: Tensor, return_indices: bool) -> Any:
        pool: Callable[..., Any] = _MAX_POOL[len(self.kernel_size) - 1]
        return pool(
            x, self.kernel_size, self.strides, self.padding, self.dilation, self.ceil_mode, return_indices
        )  # fmt: skip

    def linear(self, *inputs: Tensor) -> Tensor:
        out: Tensor = self._pool(inputs[0], False)
        return out

    def pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self._pool(x, True)
        return found

    def averaging(self) -> _Averaging:
        if set(self.dilation) != {1}:
            return _DilatedMean(self)
        return _WindowMean(self, self.kernel_size, self.strides, self.padding, self.ceil_mode)

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        """Take the first input of each window, as R does; there are no data that could tell the winner."""
        return self.pullback(g, None)


class MaxPooling1D(_MaxPooling):
    """The maximum over windows of a signal."""

    r_class = "MaxPool1D_Layer"


class MaxPooling2D(_MaxPooling):
    """The maximum over windows of an image."""

    r_class = "MaxPool2D_Layer"
    takes_images = True

    def send(self, g: Tensor, positions: Tensor) -> Tensor:
        """Send each explained output on its own: torch's kernel, unlike a scatter, keeps channels that lie last."""
        batch = max(g.shape[1], positions.shape[0])
        g, positions = lay_out(g.expand(-1, batch, -1, -1, -1)), positions.expand(batch, -1, -1, -1)
        pulled = empty_like(g, (g.shape[0], batch, *self.input_dims[0]))
        like_input = empty_like(g[0], (batch, *self.input_dims[0]))  # only to be looked at
        for upper, lower in zip(g, pulled, strict=True):
            torch.ops.aten.max_pool2d_with_indices_backward.grad_input(
                upper, like_input, self.kernel_size, self.strides, self.padding, self.dilation, self.ceil_mode,
                positions, grad_input=lower,
            )  # fmt: skip
        return pulled


class MaxPooling3D(_MaxPooling):
    """The maximum over windows of a volume."""

    r_class = "MaxPool3D_Layer"


class AdaptiveMaxPooling(_Winner):
    """The maximum over as many windows as there are positions in the output."""

    r_class = "AdaptiveMaxPool_Layer"

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.output_size = layer.output_size

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        self.needs_axes(dims[0], len(self.output_size) + 1)

    def pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pool: Callable[..., Any] = _ADAPTIVE_MAX_POOL[len(self.output_size) - 1]
        out: tuple[Tensor, Tensor] = pool(x, self.output_size, return_indices=True)
        return out

    def linear(self, *inputs: Tensor) -> Tensor:
        return self.pool(inputs[0])[0]

    def averaging(self) -> _Averaging:
        return _AdaptiveMean(self, self.output_size)

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        """Take the first input of each window, like a max pooling."""
        return self.pullback(g, None)


class GlobalMaxPooling(_Winner):
    """The maximum of each channel over all positions."""

    r_class = "GlobalMaxPooling"

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.keepdims, self.winner_always = layer.keepdims, layer.winner_always

    def linear(self, *inputs: Tensor) -> Tensor:
        return _over_positions(torch.amax, inputs[0], self.keepdims)

    def pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        flat = x.flatten(2)
        winners = flat.argmax(-1)
        out = flat.gather(-1, winners.unsqueeze(-1)).squeeze(-1)
        return out.reshape(*out.shape, *[1] * (x.dim() - 2)) if self.keepdims else out, winners

    def averaging(self) -> _Averaging:
        return _GlobalMean(self, self.keepdims)

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        """Share equally among all positions: R's answer depends on whichever data it saw before."""
        return [_spread(g, self.input_dims[0])]


def global_pooling(layer: Any) -> Layer:
    """Build the layer that a GlobalPooling spec asks for."""
    return GlobalMaxPooling(layer) if layer.method == "max" else GlobalAveragePooling(layer)


def adaptive_pooling(layer: Any) -> Layer:
    """Build the layer that an AdaptivePooling spec asks for."""
    return AdaptiveMaxPooling(layer) if layer.method == "max" else AdaptiveAveragePooling(layer)
