"""Dense, convolution and transposed convolution layers."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from innsight_py.functions.activations import Activation
from innsight_py.functions.layout import empty_like, fold, unfold
from innsight_py.functions.lrp import WHOLE, Part
from innsight_py.layers.affine import Affine
from innsight_py.layers.known_parts import Parts, parts_of
from innsight_py.layers.record import Record


class _Weighted(Affine):
    """An affine layer with a weight tensor, as its spec gives it."""

    has_preactivation: ClassVar[bool] = True
    lrp_asked: ClassVar[bool] = True
    owns_products: ClassVar[bool] = True
    weight: Tensor
    bias: Tensor | None

    def __init__(self, spec: Any) -> None:
        super().__init__(spec, Activation(spec.activation_name, spec.activation_params))
        self.register_buffer("weight", spec.weight)
        self.register_buffer("bias", spec.bias)

    # Torch's own way to a buffer takes as long as an operation on a small layer does.

    def linear(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return self.apply_weight(x, self._buffers["weight"], self._buffers["bias"])

    def record(self, *inputs: Tensor) -> Record:
        activation, own = self.activation, self._buffers
        before = self.apply_weight(inputs[0], own["weight"], own["bias"])
        return Record(inputs, before, before if activation.is_linear else activation(before))

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        return [self.transpose(g, self._buffers["weight"])]

    def gradient(self, g: Tensor, at: Record, *, skip_activation: bool = False) -> list[Tensor | None]:
        if not (skip_activation or self.activation.is_linear):
            g = self.activation.vjp(g, at, self._derivative)
        return [self.transpose(g, self._buffers["weight"])]

    def known_parts(self) -> Parts:
        own = self._buffers
        if type(own) is not dict:  # in half precision, and cast each time
            return {}
        weight = own["weight"]
        assert weight is not None
        return parts_of(self, weight, own["bias"])

    def weight_part(self, part: Part) -> Tensor | None:
        weight = self._buffers["weight"]
        assert weight is not None
        return weight if part is WHOLE else part.of(weight)

    def bias_part(self, part: Part) -> Tensor | None:
        bias = self._buffers["bias"]
        return None if bias is None else part.of(self.broadcast_bias(bias))


class Dense(_Weighted):
    """``z = x W' + b`` along the last axis, with W of shape ``(out, in)``."""

    r_class = "Dense_Layer"
    family = "dense"

    # Torch's own functions as they are: a call more takes as long as an operation on a small layer.
    apply_weight = staticmethod(F.linear)  # type: ignore[assignment]
    transpose = staticmethod(torch.matmul)  # type: ignore[assignment]

    def broadcast_bias(self, bias: Tensor) -> Tensor:
        return bias


class _Convolution(_Weighted):
    """A convolution with zeros as padding, over one, two or three spatial axes."""

    family = "convolution"

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.stride, self.dilation, self.groups = spec.stride, spec.dilation, spec.groups
        # The spec's padding is torch's, last axis first; the convolution itself pads only symmetrically.
        before, after = spec.padding[0::2][::-1], spec.padding[1::2][::-1]
        self.symmetric = before if before == after else (0,) * len(before)
        self.outer = () if before == after else spec.padding

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        self.needs_axes(dims[0], len(self.stride) + 1)

    def apply_weight(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        assert weight is not None
        padded = F.pad(x, self.outer) if self.outer else x
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(self.stride) - 1]
        return convolve(padded, weight, bias, self.stride, self.symmetric, self.dilation, self.groups)

    def transpose(self, g: Tensor, weight: Tensor | None) -> Tensor:
        channels, *size = self.input_dims[0]
        margins = list(zip(self.outer[0::2], self.outer[1::2], strict=True))[::-1]
        padded = [n + sum(margin) for n, margin in zip(size, margins or [(0, 0)] * len(size), strict=True)]
        flat = fold(g)
        like_input = empty_like(flat, (len(flat), channels, *padded))  # only to be looked at
        pulled, _, _ = torch.ops.aten.convolution_backward(
            flat, like_input, weight, None, self.stride, self.symmetric, self.dilation,
            False, [0] * len(size), self.groups, [True, False, False],
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
    takes_images = True


class Conv3D(_Convolution):
    """A convolution of volumes ``(B, C, D, H, W)``."""

    r_class = "Conv3D_Layer"


class _TransposedConvolution(_Weighted):
    """The transpose of a convolution, with weights ``(in, out / groups, *kernel)``."""

    family = "convolution"

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.stride, self.dilation, self.groups = spec.stride, spec.dilation, spec.groups
        self.padding, self.output_padding = spec.padding, spec.output_padding

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        self.needs_axes(dims[0], len(self.stride) + 1)

    def apply_weight(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        assert weight is not None
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(self.stride) - 1]
        return convolve(
            x, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )  # fmt: skip

    def transpose(self, g: Tensor, weight: Tensor | None) -> Tensor:
        assert weight is not None
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(self.stride) - 1]
        pulled = convolve(fold(g), weight, None, self.stride, self.padding, self.dilation, self.groups)
        return unfold(pulled, g)


class Conv1DTranspose(_TransposedConvolution):
    """A transposed convolution of signals."""

    r_class = "Conv1DTranspose_Layer"


class Conv2DTranspose(_TransposedConvolution):
    """A transposed convolution of images."""

    r_class = "Conv2DTranspose_Layer"
    takes_images = True


class Conv3DTranspose(_TransposedConvolution):
    """A transposed convolution of volumes."""

    r_class = "Conv3DTranspose_Layer"
