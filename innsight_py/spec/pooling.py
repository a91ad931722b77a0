"""Layer types that pool: windows, as many windows as there are to be, all positions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from innsight_py._checks import Flag
from innsight_py.spec.base import DILATION, STRIDES, Foldable
from innsight_py.spec.fields import read_per_axis, read_whole_numbers


class MaxPooling1D(Foldable):
    """The maximum over windows of signals; padding counts as minus infinity."""

    type: Literal["MaxPooling1D"]
    kernel_size: Annotated[tuple[int, ...], read_per_axis(1)]
    strides: Annotated[tuple[int, ...] | None, read_per_axis(1)] = Field(None, validation_alias=STRIDES)
    padding: Annotated[tuple[int, ...], read_per_axis(1, 0)] = (0,)
    dilation: Annotated[tuple[int, ...], read_per_axis(1)] = Field((1,), validation_alias=DILATION)
    ceil_mode: Flag = False


class AveragePooling1D(Foldable):
    """The mean over windows of signals."""

    type: Literal["AveragePooling1D"]
    kernel_size: Annotated[tuple[int, ...], read_per_axis(1)]
    strides: Annotated[tuple[int, ...] | None, read_per_axis(1)] = Field(None, validation_alias=STRIDES)
    padding: Annotated[tuple[int, ...], read_per_axis(1, 0)] = (0,)
    ceil_mode: Flag = False
    count_include_pad: Flag = True


class MaxPooling2D(Foldable):
    """The maximum over windows of images; padding counts as minus infinity."""

    type: Literal["MaxPooling2D"]
    kernel_size: Annotated[tuple[int, ...], read_per_axis(2)]
    strides: Annotated[tuple[int, ...] | None, read_per_axis(2)] = Field(None, validation_alias=STRIDES)
    padding: Annotated[tuple[int, ...], read_per_axis(2, 0)] = (0, 0)
    dilation: Annotated[tuple[int, ...], read_per_axis(2)] = Field((1, 1), validation_alias=DILATION)
    ceil_mode: Flag = False


class AveragePooling2D(Foldable):
    """The mean over windows of images."""

    type: Literal["AveragePooling2D"]
    kernel_size: Annotated[tuple[int, ...], read_per_axis(2)]
    strides: Annotated[tuple[int, ...] | None, read_per_axis(2)] = Field(None, validation_alias=STRIDES)
    padding: Annotated[tuple[int, ...], read_per_axis(2, 0)] = (0, 0)
    ceil_mode: Flag = False
    count_include_pad: Flag = True


class MaxPooling3D(Foldable):
    """The maximum over windows of volumes; padding counts as minus infinity."""

    type: Literal["MaxPooling3D"]
    kernel_size: Annotated[tuple[int, ...], read_per_axis(3)]
    strides: Annotated[tuple[int, ...] | None, read_per_axis(3)] = Field(None, validation_alias=STRIDES)
    padding: Annotated[tuple[int, ...], read_per_axis(3, 0)] = (0, 0, 0)
    dilation: Annotated[tuple[int, ...], read_per_axis(3)] = Field((1, 1, 1), validation_alias=DILATION)
    ceil_mode: Flag = False


class AveragePooling3D(Foldable):
    """The mean over windows of volumes."""

    type: Literal["AveragePooling3D"]
    kernel_size: Annotated[tuple[int, ...], read_per_axis(3)]
    strides: Annotated[tuple[int, ...] | None, read_per_axis(3)] = Field(None, validation_alias=STRIDES)
    padding: Annotated[tuple[int, ...], read_per_axis(3, 0)] = (0, 0, 0)
    ceil_mode: Flag = False
    count_include_pad: Flag = True


class AdaptivePooling(Foldable):
    """The mean or maximum over as many windows as the output is to have positions."""

    type: Literal["AdaptivePooling"]
    method: Literal["average", "max"]
    output_size: Annotated[tuple[int, ...], BeforeValidator(lambda value: read_whole_numbers(value, 1))]


class GlobalPooling(Foldable):
    """The mean or maximum of each channel over all positions.

    With `winner_always` the maximum takes all even where a method is told that it is not to, as in R.
    """

    type: Literal["GlobalPooling"]
    method: Literal["average", "max"]
    keepdims: Flag = False
    winner_always: Flag = False
