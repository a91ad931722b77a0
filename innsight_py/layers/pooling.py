"""Pooling over windows and over all positions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from innsight_py import spec_layers as spec
from innsight_py.layers.affine import Affine, SignedWeight
from innsight_py.layers.base import Carrying, Layer, Record, UnsupportedLayerError, fold, unfold
from innsight_py.layers.rules import DeepLiftRule, LRPRule, slope

class _Averaging(Affine):
    """The mean over windows: a product with a weight that is positive and never written out."""

    weight = None
    bias = None

    def __init__(self, name: str, kernel_size: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__(name)
        self.kernel_size, self.strides = kernel_size, strides

    def apply_weight(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        if len(self.kernel_size) == 1:
            return F.avg_pool1d(x, self.kernel_size, self.strides)
        return F.avg_pool2d(x, self.kernel_size, self.strides)

    def transpose(self, g: Tensor, weight: Tensor | None) -> Tensor:
        channels, *size = self.input_dims[0]
        flat = fold(g)
        kernel, strides = self.kernel_size, self.strides
        if len(size) == 1:  # torch has the backward of two axes only
            flat, size, kernel, strides = flat.unsqueeze(-2), [1, *size], (1, *kernel), (1, *strides)
        like_input = flat.new_empty((len(flat), channels, *size))  # only its shape is looked at
        pulled = torch.ops.aten.avg_pool2d_backward(flat, like_input, kernel, strides, [0, 0], False, True, None)
        return unfold(pulled.reshape(len(flat), *self.input_dims[0]), g)

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


class _AveragePooling(_Averaging):
    def __init__(self, layer: spec.AveragePooling1D | spec.AveragePooling2D) -> None:
        super().__init__(layer.name, layer.kernel_size, layer.strides or layer.kernel_size)


class AveragePooling1D(_AveragePooling):
    """The mean over windows of a signal."""

    r_class = "AvgPool1D_Layer"


class AveragePooling2D(_AveragePooling):
    """The mean over windows of an image."""

    r_class = "AvgPool2D_Layer"


class _GlobalAveraging(_Averaging):
    """The mean over all positions, as a product."""

    def __init__(self, name: str, keepdims: bool) -> None:
        super().__init__(name, (), ())
        self.keepdims = keepdims

    def apply_weight(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        return _over_positions(torch.mean, x, self.keepdims)

    def transpose(self, g: Tensor, weight: Tensor | None) -> Tensor:
        return _spread(g, self.input_dims[0])


def _over_positions(reduce: Callable[..., Tensor], x: Tensor, keepdims: bool) -> Tensor:
    """Reduce all axes after the channels."""
    return reduce(x, dim=tuple(range(2, x.dim())), keepdim=keepdims)


def _spread(g: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Share what comes to each channel equally among its positions."""
    channels, *size = dim
    shared = g.reshape(*g.shape[:3], *[1] * len(size)) / math.prod(size)
    return shared.expand(*g.shape[:2], channels, *size)


class _Winner(Layer):
    """A maximum: everything goes to the first largest input of each window.

    Where the winner is not to take all, the layer is treated as the mean over the same window.
    """

    def winners(self, x: Tensor) -> Tensor:
        """Return for each output the flat position of its winner among the channel's inputs."""
        raise NotImplementedError

    def averaging(self) -> _Averaging:
        """Return the mean over the same windows."""
        raise NotImplementedError

    def _average(self) -> _Averaging:
        average = self.averaging()
        average.input_dims, average.output_dim = self.input_dims, self.output_dim
        return average

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor]:
        if at is None:  # nothing is known of the input: as for an input of equal values
            positions = self.winners(g.new_ones(1, *self.input_dims[0]))
        else:
            positions = at.once("winners", lambda: self.winners(at.inputs[0]))
        batch = max(g.shape[1], positions.shape[0])
        shape = (g.shape[0], batch, self.output_dim[0], math.prod(self.output_dim[1:]))
        index = positions.reshape(1, positions.shape[0], *shape[2:]).expand(shape)
        source = g.reshape(*g.shape[:2], *shape[2:]).expand(shape)
        channels, *size = self.input_dims[0]
        pulled = g.new_zeros((*shape[:2], channels, math.prod(size)))
        pulled.scatter_add_(-1, index, source)  # add: windows may overlap
        return [pulled.reshape(*shape[:2], channels, *size)]

    def lrp(self, r: Tensor, at: Record, rule: LRPRule) -> list[Tensor]:
        if rule.name == "pass":
            raise UnsupportedLayerError(f"The LRP rule 'pass' cannot be used for the layer '{self.name}'.")
        if rule.winner_takes_all:
            return self.pullback(r, at)
        average = self._average()
        (x,) = at.inputs
        mean = at.once("mean", lambda: average.linear(x))
        return average.lrp(r, Record((x,), mean, mean), rule)

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor]:
        if rule.winner_takes_all:
            return self.pullback(m, at)
        average = self._average()
        dx = at.inputs[0] - ref.inputs[0]
        return average.pullback(m * slope(at.output - ref.output, average.linear(dx)), at)


class _MaxPooling(_Winner):
    lrp_rules: ClassVar[tuple[str, ...]] = ("simple", "epsilon", "alpha_beta")

    def __init__(self, layer: spec.MaxPooling1D | spec.MaxPooling2D) -> None:
        super().__init__(layer.name)
        self.kernel_size, self.strides = layer.kernel_size, layer.strides or layer.kernel_size

    def _pool(self, x: Tensor, return_indices: bool) -> Any:
        pool = (F.max_pool1d, F.max_pool2d)[len(self.kernel_size) - 1]
        return pool(x, self.kernel_size, self.strides, return_indices=return_indices)

    def linear(self, *inputs: Tensor) -> Tensor:
        return self._pool(inputs[0], False)

    def winners(self, x: Tensor) -> Tensor:
        return self._pool(x, True)[1]

    def averaging(self) -> _Averaging:
        return _Averaging(self.name, self.kernel_size, self.strides)

    def connection_weights(self, g: Tensor) -> list[Tensor]:
        """Take the first input of each window, as R does; there are no data that could tell the winner."""
        return self.pullback(g, None)


class MaxPooling1D(_MaxPooling):
    """The maximum over windows of a signal."""

    r_class = "MaxPool1D_Layer"


class MaxPooling2D(_MaxPooling):
    """The maximum over windows of an image."""

    r_class = "MaxPool2D_Layer"


class GlobalMaxPooling(_Winner):
    """The maximum of each channel over all positions."""

    r_class = "GlobalMaxPooling"

    def __init__(self, layer: spec.GlobalPooling) -> None:
        super().__init__(layer.name)
        self.keepdims = layer.keepdims

    def linear(self, *inputs: Tensor) -> Tensor:
        return _over_positions(torch.amax, inputs[0], self.keepdims)

    def winners(self, x: Tensor) -> Tensor:
        return x.flatten(2).argmax(-1)

    def averaging(self) -> _Averaging:
        return _GlobalAveraging(self.name, self.keepdims)

    def connection_weights(self, g: Tensor) -> list[Tensor]:
        """Share equally among all positions: R's answer depends on whichever data it saw before."""
        return [_spread(g, self.input_dims[0])]


class GlobalAveragePooling(Carrying):
    """The mean of each channel over all positions; relevance is shared equally, as in R."""

    r_class = "GlobalAvgPooling"

    def __init__(self, layer: spec.GlobalPooling) -> None:
        super().__init__(layer.name)
        self.keepdims = layer.keepdims

    def linear(self, *inputs: Tensor) -> Tensor:
        return _over_positions(torch.mean, inputs[0], self.keepdims)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor]:
        return [_spread(g, self.input_dims[0])]


def global_pooling(layer: spec.GlobalPooling) -> Layer:
    """Build the layer that a GlobalPooling spec asks for."""
    return GlobalMaxPooling(layer) if layer.method == "max" else GlobalAveragePooling(layer)
