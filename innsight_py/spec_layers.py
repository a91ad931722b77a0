"""What each layer type of the model spec may hold: its keys, their defaults and their checks.

Types, keys and defaults are those of R innsight; numbers that count (axes) are Python's, the batch being axis 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator

from innsight_py.activations import activation_names, check_activation


class SpecError(ValueError):
    """A model spec that cannot be read; the message names the layer, the key, what was found and expected."""


def _tensor(value: Any) -> torch.Tensor:
    """Copy numbers into a tensor of our own: float64 stays, lower precisions become float32, the rest float64."""
    if isinstance(value, torch.Tensor):
        tensor = value.detach().clone()
    else:
        try:
            array = np.asarray(value)
        except ValueError:
            raise ValueError("expected numbers in a rectangular array") from None
        if array.dtype.kind not in "iuf":
            raise ValueError("expected an array of numbers")
        tensor = torch.tensor(array.astype(np.float64) if array.dtype.itemsize > 4 or array.dtype.kind in "iu" else array)
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError("expected an array of real numbers")
    if tensor.dtype != torch.float64:
        tensor = tensor.to(torch.float32 if tensor.is_floating_point() else torch.float64)
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError("expected finite numbers")
    return tensor


def _array(ndim: int, axes: str) -> PlainValidator:
    def read(value: Any) -> torch.Tensor:
        tensor = _tensor(value)
        if tensor.dim() != ndim:
            raise ValueError(f"expected an array with the axes {axes}")
        return tensor

    return PlainValidator(read)


def _whole_numbers(value: Any, least: int) -> tuple[int, ...]:
    entries = value if isinstance(value, Iterable) and not isinstance(value, str | Mapping) else [value]
    numbers = []
    for entry in entries:
        if isinstance(entry, bool) or not hasattr(entry, "__index__"):
            raise ValueError("expected whole numbers")
        numbers.append(int(entry.__index__()))
    if not numbers or min(numbers) < least:
        raise ValueError(f"expected whole numbers of at least {least}")
    return tuple(numbers)


def _per_axis(axes: int, least: int = 1) -> BeforeValidator:
    """One number for all spatial axes, or one for each."""

    def read(value: Any) -> tuple[int, ...]:
        numbers = _whole_numbers(value, least)
        if len(numbers) == 1:
            return numbers * axes
        if len(numbers) != axes:
            raise ValueError(f"expected 1 or {axes} numbers" if axes > 1 else "expected one number")
        return numbers

    return BeforeValidator(read)


def _sides(axes: int) -> BeforeValidator:
    """Padding in torch's order: (left, right) or (left, right, top, bottom)."""

    def read(value: Any) -> tuple[int, ...]:
        numbers = _whole_numbers(value, 0)
        if len(numbers) == 1:
            return numbers * (2 * axes)
        if axes == 2 and len(numbers) == 2:  # (left and right, top and bottom)
            return (numbers[0], numbers[0], numbers[1], numbers[1])
        if len(numbers) != 2 * axes:
            raise ValueError("expected 1 or 2 numbers" if axes == 1 else "expected 1, 2 or 4 numbers")
        return numbers

    return BeforeValidator(read)


def _any_sides(value: Any) -> tuple[int, ...]:
    numbers = _whole_numbers(value, 0)
    if len(numbers) not in (1, 2, 4):
        raise ValueError("expected 1, 2 or 4 numbers: (left, right[, top, bottom])")
    return numbers


def _dims(value: Any) -> Any:
    """One shape, or a list of shapes for a layer that merges several."""
    if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
        entries = list(value)
        if entries and all(isinstance(entry, Iterable) and not isinstance(entry, str) for entry in entries):
            return tuple(_whole_numbers(entry, 1) for entry in entries)
        value = entries
    return _whole_numbers(value, 1)


def _activation(value: Any) -> str:
    if not isinstance(value, str) or value not in activation_names():
        raise ValueError(f"expected one of {', '.join(activation_names())}")
    return value


def _axis(value: Any) -> int:
    numbers = _whole_numbers(value, -(10**6))
    if len(numbers) != 1 or numbers[0] == 0:
        raise ValueError("expected one axis other than 0, which is the batch")
    return numbers[0]


def _names(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("expected a list of names of layers or inputs")
    return tuple(names)


Vector = Annotated[torch.Tensor, _array(1, "(features)")]
Dims = Annotated[Any, BeforeValidator(_dims)]
ActivationName = Annotated[str, PlainValidator(_activation)]


class LayerSpec(BaseModel):
    """Keys that every layer has."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True, validate_by_name=True
    )
    takes_many: ClassVar[bool] = False

    type: str
    name: str
    inputs: Annotated[tuple[str, ...], BeforeValidator(_names)]
    dim_in: Dims | None = None
    dim_out: Dims | None = None

    @property
    def where(self) -> str:
        """How messages call this layer."""
        return f"Layer '{self.name}' ({self.type})"

    @classmethod
    def keys(cls) -> list[str]:
        """Names of all keys that this type takes."""
        return list(cls.model_fields)

    def as_dict(self) -> dict[str, Any]:
        """Return the layer as a plain dict with numpy arrays; keys at their default are left out."""
        plain: dict[str, Any] = {"type": self.type, "name": self.name, "inputs": list(self.inputs)}
        for key, field in type(self).model_fields.items():
            value = getattr(self, key)
            if key in plain or (not isinstance(value, torch.Tensor) and value == field.get_default(call_default_factory=True)):
                continue
            plain[key] = value.cpu().numpy().copy() if isinstance(value, torch.Tensor) else _plain(value)
        return plain


def _plain(value: Any) -> Any:
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value


class _WithActivation(LayerSpec):
    bias: Vector | None = None
    activation_name: ActivationName = "linear"
    activation_params: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> _WithActivation:
        check_activation(self.activation_name, self.activation_params)
        weight = getattr(self, "weight", None)
        if weight is not None and self.bias is not None and len(self.bias) != weight.shape[0]:
            raise ValueError(
                f"key 'bias': expected {weight.shape[0]} numbers, one for each output of 'weight' with shape "
                f"{tuple(weight.shape)}, got {len(self.bias)}."
            )
        return self


class Dense(_WithActivation):
    """A fully connected layer: ``activation(x W' + b)``."""

    type: Literal["Dense"]
    weight: Annotated[torch.Tensor, _array(2, "(out, in)")]


class Conv1D(_WithActivation):
    """A convolution of signals."""

    type: Literal["Conv1D"]
    weight: Annotated[torch.Tensor, _array(3, "(out channels, in channels, length)")]
    stride: Annotated[tuple[int, ...], _per_axis(1)] = Field((1,), validation_alias=AliasChoices("stride", "strides"))
    padding: Annotated[tuple[int, ...], _sides(1)] = (0, 0)
    dilation: Annotated[tuple[int, ...], _per_axis(1)] = Field(
        (1,), validation_alias=AliasChoices("dilation", "dilation_rate")
    )


class Conv2D(_WithActivation):
    """A convolution of images; stride and dilation are (height, width), padding (left, right, top, bottom)."""

    type: Literal["Conv2D"]
    weight: Annotated[torch.Tensor, _array(4, "(out channels, in channels, height, width)")]
    stride: Annotated[tuple[int, ...], _per_axis(2)] = Field((1, 1), validation_alias=AliasChoices("stride", "strides"))
    padding: Annotated[tuple[int, ...], _sides(2)] = (0, 0, 0, 0)
    dilation: Annotated[tuple[int, ...], _per_axis(2)] = Field(
        (1, 1), validation_alias=AliasChoices("dilation", "dilation_rate")
    )


class _Pooling1D(LayerSpec):
    kernel_size: Annotated[tuple[int, ...], _per_axis(1)]
    strides: Annotated[tuple[int, ...] | None, _per_axis(1)] = Field(
        None, validation_alias=AliasChoices("strides", "stride")
    )


class _Pooling2D(LayerSpec):
    kernel_size: Annotated[tuple[int, ...], _per_axis(2)]
    strides: Annotated[tuple[int, ...] | None, _per_axis(2)] = Field(
        None, validation_alias=AliasChoices("strides", "stride")
    )


class MaxPooling1D(_Pooling1D):
    """The maximum over windows of a signal."""

    type: Literal["MaxPooling1D"]


class MaxPooling2D(_Pooling2D):
    """The maximum over windows of an image."""

    type: Literal["MaxPooling2D"]


class AveragePooling1D(_Pooling1D):
    """The mean over windows of a signal."""

    type: Literal["AveragePooling1D"]


class AveragePooling2D(_Pooling2D):
    """The mean over windows of an image."""

    type: Literal["AveragePooling2D"]


class GlobalPooling(LayerSpec):
    """The mean or maximum of each channel over all positions."""

    type: Literal["GlobalPooling"]
    method: Literal["average", "max"]
    keepdims: bool = False


class BatchNorm(LayerSpec):
    """Batch normalisation as at prediction time, along the channel axis."""

    type: Literal["BatchNorm"]
    num_features: Annotated[int | None, Field(ge=1)] = None
    gamma: Vector
    beta: Vector | None = None
    run_mean: Vector
    run_var: Vector
    eps: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _consistent(self) -> BatchNorm:
        expected = len(self.gamma) if self.num_features is None else self.num_features
        for key in ("gamma", "beta", "run_mean", "run_var"):
            value = getattr(self, key)
            if value is not None and len(value) != expected:
                raise ValueError(f"key '{key}': expected {expected} numbers, got {len(value)}.")
        if bool((self.run_var < 0).any()) or bool((self.run_var + self.eps == 0).any()):
            raise ValueError("key 'run_var': expected variances that are positive together with 'eps'.")
        return self


class Padding(LayerSpec):
    """Padding of the last one or two axes in torch's order: (left, right[, top, bottom])."""

    type: Literal["Padding"]
    padding: Annotated[tuple[int, ...], BeforeValidator(_any_sides)]
    mode: Literal["constant", "reflect", "replicate", "circular"] = "constant"
    value: Annotated[float, Field(strict=False, allow_inf_nan=False)] = 0.0

    @model_validator(mode="after")
    def _consistent(self) -> Padding:
        if self.mode != "constant" and self.value != 0:
            raise ValueError(f"key 'value': expected 0 with the mode '{self.mode}', got {self.value}.")
        return self


class Concatenate(LayerSpec):
    """Inputs one after the other along an axis (1 is the features or channels, -1 the last)."""

    takes_many: ClassVar[bool] = True
    type: Literal["Concatenate"]
    axis: Annotated[int, BeforeValidator(_axis)] = Field(validation_alias=AliasChoices("axis", "dim"))


class Add(LayerSpec):
    """The sum of several inputs of one shape."""

    takes_many: ClassVar[bool] = True
    type: Literal["Add"]


class Flatten(LayerSpec):
    """Axes `start_dim` to `end_dim` as one, read channels first or channels last."""

    type: Literal["Flatten"]
    start_dim: Annotated[int, BeforeValidator(_axis)] = 1
    end_dim: Annotated[int, BeforeValidator(_axis)] = -1
    order: Literal["channels_first", "channels_last"] = "channels_first"


class Activation(LayerSpec):
    """An activation on its own."""

    type: Literal["Activation"]
    act_name: ActivationName
    act_params: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Activation:
        check_activation(self.act_name, self.act_params)
        return self


class Skipping(LayerSpec):
    """The identity (dropout at prediction time, for example)."""

    type: Literal["Skipping"]


#: Every layer type of the spec by its name.
LAYER_SPECS: dict[str, type[LayerSpec]] = {
    cls.__name__: cls
    for cls in (
        Dense,
        Conv1D,
        Conv2D,
        MaxPooling1D,
        MaxPooling2D,
        AveragePooling1D,
        AveragePooling2D,
        BatchNorm,
        GlobalPooling,
        Padding,
        Concatenate,
        Add,
        Flatten,
        Activation,
        Skipping,
    )
}
