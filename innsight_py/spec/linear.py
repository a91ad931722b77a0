"""Layer types with weights: fully connected ones, convolutions and their transposes."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field

from innsight_py._checks import Count
from innsight_py.spec.base import DILATION, STRIDE, Foldable, WithActivation
from innsight_py.spec.fields import read_array, read_per_axis, read_sides


class Dense(WithActivation):
    """A fully connected layer along the last axis: ``activation(x W' + b)``."""

    type: Literal["Dense"]
    weight: Annotated[torch.Tensor, read_array(2, "(out, in)")]


class _Convolution(WithActivation, Foldable):
    """Strides and dilations go from the first spatial axis to the last, padding from the last to the first."""

    groups: Count = 1


class _TransposedConvolution(WithActivation, Foldable):
    groups: Count = 1

    @property
    def outputs(self) -> int:
        return int(self.weight.shape[1]) * self.groups  # type: ignore[attr-defined]


class Conv1D(_Convolution):
    """A convolution of signals."""

    type: Literal["Conv1D"]
    weight: Annotated[torch.Tensor, read_array(3, "(out channels, in channels / groups, length)")]
    stride: Annotated[tuple[int, ...], read_per_axis(1)] = Field((1,), validation_alias=STRIDE)
    padding: Annotated[tuple[int, ...], read_sides(1)] = (0, 0)
    dilation: Annotated[tuple[int, ...], read_per_axis(1)] = Field((1,), validation_alias=DILATION)


class Conv2D(_Convolution):
    """A convolution of images."""

    type: Literal["Conv2D"]
    weight: Annotated[torch.Tensor, read_array(4, "(out channels, in channels / groups, height, width)")]
    stride: Annotated[tuple[int, ...], read_per_axis(2)] = Field((1, 1), validation_alias=STRIDE)
    padding: Annotated[tuple[int, ...], read_sides(2)] = (0, 0, 0, 0)
    dilation: Annotated[tuple[int, ...], read_per_axis(2)] = Field((1, 1), validation_alias=DILATION)


class Conv3D(_Convolution):
    """A convolution of volumes."""

    type: Literal["Conv3D"]
    weight: Annotated[torch.Tensor, read_array(5, "(out channels, in channels / groups, depth, height, width)")]
    stride: Annotated[tuple[int, ...], read_per_axis(3)] = Field((1, 1, 1), validation_alias=STRIDE)
    padding: Annotated[tuple[int, ...], read_sides(3)] = (0, 0, 0, 0, 0, 0)
    dilation: Annotated[tuple[int, ...], read_per_axis(3)] = Field((1, 1, 1), validation_alias=DILATION)


class Conv1DTranspose(_TransposedConvolution):
    """A transposed convolution of signals; `padding` is cut off on both sides, `output_padding` added at the end."""

    type: Literal["Conv1DTranspose"]
    weight: Annotated[torch.Tensor, read_array(3, "(in channels, out channels / groups, length)")]
    stride: Annotated[tuple[int, ...], read_per_axis(1)] = Field((1,), validation_alias=STRIDE)
    padding: Annotated[tuple[int, ...], read_per_axis(1, 0)] = (0,)
    output_padding: Annotated[tuple[int, ...], read_per_axis(1, 0)] = (0,)
    dilation: Annotated[tuple[int, ...], read_per_axis(1)] = Field((1,), validation_alias=DILATION)


class Conv2DTranspose(_TransposedConvolution):
    """A transposed convolution of images; `padding` is cut off on both sides, `output_padding` added at the end."""

    type: Literal["Conv2DTranspose"]
    weight: Annotated[torch.Tensor, read_array(4, "(in channels, out channels / groups, height, width)")]
    stride: Annotated[tuple[int, ...], read_per_axis(2)] = Field((1, 1), validation_alias=STRIDE)
    padding: Annotated[tuple[int, ...], read_per_axis(2, 0)] = (0, 0)
    output_padding: Annotated[tuple[int, ...], read_per_axis(2, 0)] = (0, 0)
    dilation: Annotated[tuple[int, ...], read_per_axis(2)] = Field((1, 1), validation_alias=DILATION)


class Conv3DTranspose(_TransposedConvolution):
    """A transposed convolution of volumes; `padding` is cut off on both sides, `output_padding` added at the end."""

    type: Literal["Conv3DTranspose"]
    weight: Annotated[torch.Tensor, read_array(5, "(in channels, out channels / groups, depth, height, width)")]
    stride: Annotated[tuple[int, ...], read_per_axis(3)] = Field((1, 1, 1), validation_alias=STRIDE)
    padding: Annotated[tuple[int, ...], read_per_axis(3, 0)] = (0, 0, 0)
    output_padding: Annotated[tuple[int, ...], read_per_axis(3, 0)] = (0, 0, 0)
    dilation: Annotated[tuple[int, ...], read_per_axis(3)] = Field((1, 1, 1), validation_alias=DILATION)
