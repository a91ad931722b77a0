"""Dense and convolution layers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from innsight_py import spec_layers as spec
from innsight_py.activations import Activation
from innsight_py.layers.affine import Affine
from innsight_py.layers.base import fold, unfold


class _Weighted(Affine):
    """An affine layer with a weight tensor, as its spec gives it."""

    has_preactivation: ClassVar[bool] = True
    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: spec.Dense | spec.Conv1D | spec.Conv2D) -> None:
        super().__init__(layer.name, Activation(layer.activation_name, layer.activation_params))
        self.register_buffer("weight", layer.weight)
        self.register_buffer("bias", layer.bias)


class Dense(_Weighted):
    """``z = x W' + b`` along the last axis, with W of shape ``(out, in)``."""

    r_class = "Dense_Layer"

    def apply_weight(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        assert weight is not None
        return F.linear(x, weight, bias)

    def transpose(self, g: Tensor, weight: Tensor | None) -> Tensor:
        return g @ weight

    def broadcast_bias(self, bias: Tensor) -> Tensor:
        return bias


class _Convolution(_Weighted):
    """A convolution with zeros as padding, over one or more spatial axes."""

    stride: tuple[int, ...]
    dilation: tuple[int, ...]

    def __init__(self, layer: spec.Conv1D | spec.Conv2D) -> None:
        super().__init__(layer)
        self.stride, self.dilation = layer.stride, layer.dilation
        # The spec's padding is torch's, last axis first; the convolution itself pads only symmetrically.
        before, after = layer.padding[0::2][::-1], layer.padding[1::2][::-1]
        self.symmetric = before if before == after else (0,) * len(before)
        self.outer = () if before == after else layer.padding

    def apply_weight(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        assert weight is not None
        padded = F.pad(x, self.outer) if self.outer else x
        convolve = (F.conv1d, F.conv2d)[len(self.stride) - 1]
        return convolve(padded, weight, bias, self.stride, self.symmetric, self.dilation)

    def transpose(self, g: Tensor, weight: Tensor | None) -> Tensor:
        channels, *size = self.input_dims[0]
        margins = [(self.outer[2 * i], self.outer[2 * i + 1]) for i in range(len(size))][::-1] if self.outer else []
        padded = [n + sum(margins[i]) for i, n in enumerate(size)] if margins else size
        flat = fold(g)
        like_input = flat.new_empty((len(flat), channels, *padded))  # only its shape is looked at
        pulled, _, _ = torch.ops.aten.convolution_backward(
            flat, like_input, weight, None, self.stride, self.symmetric, self.dilation,
            False, [0] * len(size), 1, [True, False, False],
        )  # fmt: skip
        for axis, (before, _) in enumerate(margins):
            pulled = pulled.narrow(2 + axis, before, size[axis])
        return unfold(pulled, g)


class Conv1D(_Convolution):
    """A convolution of signals ``(B, C, L)``."""

    r_class = "Conv1D_Layer"


class Conv2D(_Convolution):
    """A convolution of images ``(B, C, H, W)``."""

    r_class = "Conv2D_Layer"
