"""Maxima over windows and over all positions; see `averages` for means."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from innsight_py.functions.deeplift import DeepLiftRule, window_slope
from innsight_py.functions.layout import empty_like, lay_out
from innsight_py.functions.lrp import Rule, Weighted
from innsight_py.functions.lrp_weightless import Equal, Proportional, Winner
from innsight_py.layers.averages import (
    AdaptiveAveragePooling,
    AdaptiveMean,
    Averaging,
    GlobalAveragePooling,
    GlobalMean,
    WindowMean,
    over_positions,
    spread,
)
from innsight_py.layers.base import Layer
from innsight_py.layers.record import ALL, NOTHING, WINNERS, Needs, Record

_MAX_POOL = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_ADAPTIVE_MAX_POOL = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)


class _Winner(Layer):
    """A maximum: everything goes to the first largest input of each window.

    Where the winner is not to take all, the layer is treated as the mean over the same window.
    """

    lrp_takes: ClassVar[tuple[type[Rule], ...]] = (Weighted, Proportional, Equal, Winner)
    lrp_default: ClassVar[Rule] = Winner()
    lrp_asked: ClassVar[bool] = True
    family = "max_pooling"
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

    @property
    def gradient_needs(self) -> Needs:
        return NOTHING

    def deeplift_needs(self, rule: DeepLiftRule) -> Needs:
        return NOTHING if rule.winner_takes_all or self.winner_always else ALL

    def lrp_needs(self, rule: Rule) -> Needs:
        return NOTHING if isinstance(rule, Winner) or self.winner_always else ALL

    def averaging(self) -> Averaging:
        """Return the mean over the same windows."""
        raise NotImplementedError

    def _average(self) -> Averaging:
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

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        if isinstance(rule, Winner) or self.winner_always:
            return self.pullback(r, at)
        average = self._average()
        return average.lrp(r, at.once("mean", lambda: average.record(*at.inputs)), rule)

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

    def lrp_loss(self, rule: Rule) -> str | None:
        if isinstance(rule, Winner) or self.winner_always:
            return None
        return self._average().lrp_loss(rule)


class _DilatedMean(Averaging):
    """The mean over windows with gaps, which torch has only for the maximum: a convolution with ones."""

    def __init__(self, pooling: _MaxPooling) -> None:
        super().__init__(pooling)
        self.pooling = [pooling]  # in a list, so that it is no submodule

    def average(self, x: Tensor) -> Tensor:
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


class _MaxPooling(_Winner):
    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.kernel_size, self.strides = spec.kernel_size, spec.strides or spec.kernel_size
        self.padding, self.dilation, self.ceil_mode = spec.padding, spec.dilation, spec.ceil_mode

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

    def averaging(self) -> Averaging:
        if set(self.dilation) != {1}:
            return _DilatedMean(self)
        return WindowMean(self, self.kernel_size, self.strides, self.padding, self.ceil_mode)

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

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.output_size = spec.output_size

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        self.needs_axes(dims[0], len(self.output_size) + 1)

    def pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pool: Callable[..., Any] = _ADAPTIVE_MAX_POOL[len(self.output_size) - 1]
        out: tuple[Tensor, Tensor] = pool(x, self.output_size, return_indices=True)
        return out

    def linear(self, *inputs: Tensor) -> Tensor:
        return self.pool(inputs[0])[0]

    def averaging(self) -> Averaging:
        return AdaptiveMean(self, self.output_size)

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        """Take the first input of each window, like a max pooling."""
        return self.pullback(g, None)


class GlobalMaxPooling(_Winner):
    """The maximum of each channel over all positions."""

    r_class = "GlobalMaxPooling"

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.keepdims, self.winner_always = spec.keepdims, spec.winner_always

    def linear(self, *inputs: Tensor) -> Tensor:
        return over_positions(torch.amax, inputs[0], self.keepdims)

    def pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        flat = x.flatten(2)
        winners = flat.argmax(-1)
        out = flat.gather(-1, winners.unsqueeze(-1)).squeeze(-1)
        return out.reshape(*out.shape, *[1] * (x.dim() - 2)) if self.keepdims else out, winners

    def averaging(self) -> Averaging:
        return GlobalMean(self, self.keepdims)

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        """Share equally among all positions: R's answer depends on whichever data it saw before."""
        return [spread(g, self.input_dims[0])]


def global_pooling(spec: Any) -> Layer:
    """Build the layer that a GlobalPooling spec asks for."""
    return GlobalMaxPooling(spec) if spec.method == "max" else GlobalAveragePooling(spec)


def adaptive_pooling(spec: Any) -> Layer:
    """Build the layer that an AdaptivePooling spec asks for."""
    return AdaptiveMaxPooling(spec) if spec.method == "max" else AdaptiveAveragePooling(spec)
