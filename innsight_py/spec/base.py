"""What layer types of the model spec have in common."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    field_validator,
    model_validator,
)

from innsight_py._checks import Flag, read_whole_number
from innsight_py._text import printable
from innsight_py.functions.activations import check_activation
from innsight_py.spec.fields import in_order, read_activation_name, read_array, read_dims, read_names


class SpecError(ValueError):
    """A model spec that cannot be read; the message names the layer, the key, what was found and expected."""


Vector = Annotated[torch.Tensor, read_array(1, "(features)")]
Dims = Annotated[Any, BeforeValidator(read_dims)]
ActivationName = Annotated[str, PlainValidator(read_activation_name)]

#: Keys that have two names.
STRIDE = AliasChoices("stride", "strides")
STRIDES = AliasChoices("strides", "stride")
DILATION = AliasChoices("dilation", "dilation_rate")


class LayerSpec(BaseModel):
    """Keys that every layer has."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        arbitrary_types_allowed=True,
        validate_by_name=True,
        defer_build=True,  # most models use few of the types
    )
    #: How many inputs the layer takes; None: one or more.
    arity: ClassVar[int | None] = 1

    type: str
    name: str
    inputs: Annotated[tuple[str, ...], BeforeValidator(read_names)]
    dim_in: Dims | None = None
    dim_out: Dims | None = None
    place: str | None = None  # where in the user's model the layer comes from, in words
    origin: str | None = None  # the same as a path: modules of the user's model, and the operator in the last of them

    @property
    def where(self) -> str:
        """How messages call this layer."""
        return printable(f"Layer '{self.name}' ({self.type}{f' at {self.place}' if self.place else ''})")

    @classmethod
    def keys(cls) -> list[str]:
        """Names of all keys that this type takes."""
        return list(cls.model_fields)

    def given(self) -> dict[str, Any]:
        """Return the layer as a dict; keys at their default are left out."""
        values: dict[str, Any] = {"type": self.type, "name": self.name, "inputs": list(self.inputs)}
        for key, field in type(self).model_fields.items():
            value = getattr(self, key)
            default = field.get_default(call_default_factory=True, validated_data={})
            if key in values or (not isinstance(value, torch.Tensor) and value == default):
                continue
            values[key] = in_order(value) if isinstance(value, torch.Tensor) else value
        return values

    def as_dict(self) -> dict[str, Any]:
        """Return the layer as a plain dict with numpy arrays; keys at their default are left out."""
        return {key: _plain(value) for key, value in self.given().items()}


class Foldable(LayerSpec):
    """Layers that work on rows: `folded` axes behind the batch count as more rows, as in ``x.view(B * T, ...)``."""

    folded: Annotated[int, PlainValidator(read_whole_number)] = 0

    @field_validator("folded")
    @classmethod
    def _not_negative(cls, value: int) -> int:
        if value < 0:
            raise ValueError("expected 0 or more axes")
        return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, torch.Tensor):
        return value.cpu().numpy().copy()
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else value


class WithActivation(LayerSpec):
    """Layers with weights, which may add a bias and apply an activation."""

    bias: Vector | None = None
    activation_name: ActivationName = "linear"
    activation_params: dict[str, Any] = Field(default_factory=dict)
    activation_origin: str | None = None  # what `origin` would be if the activation were a layer

    @model_validator(mode="after")
    def _consistent(self) -> WithActivation:
        check_activation(self.activation_name, self.activation_params)
        if self.bias is not None and len(self.bias) != self.outputs:
            raise ValueError(f"key 'bias': expected {self.outputs} numbers, one an output, got {len(self.bias)}.")
        return self

    @property
    def outputs(self) -> int:
        """Number of output nodes or channels, which the bias must have."""
        return int(self.weight.shape[0])  # type: ignore[attr-defined]


class Preparing(LayerSpec):
    """A layer that maps every feature by itself, and may be marked as one that prepares the data.

    Methods that multiply by the input then take the features as they come out of it; see `innsight_py.spec`.
    """

    preprocessing: Flag = False
