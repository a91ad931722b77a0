"""What each layer type of the model spec may hold: its keys, their defaults and their checks.

Types, keys and defaults are those of R innsight; numbers that count (axes) are Python's, the batch being axis 0.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

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

from innsight_py._checks import Count, Flag, NotNegative, Number, read_whole_number
from innsight_py._text import printable
from innsight_py.functions.activations import check_activation
from innsight_py.spec.fields import (
    in_order,
    read_activation_name,
    read_any_array,
    read_any_sides,
    read_arguments,
    read_array,
    read_axes,
    read_axis,
    read_dims,
    read_dtype,
    read_maybe_infinite,
    read_names,
    read_numbers,
    read_operator,
    read_options,
    read_per_axis,
    read_shapes,
    read_sides,
    read_whole_numbers,
)


class SpecError(ValueError):
    """A model spec that cannot be read; the message names the layer, the key, what was found and expected."""


Vector = Annotated[torch.Tensor, read_array(1, "(features)")]
Dims = Annotated[Any, BeforeValidator(read_dims)]
ActivationName = Annotated[str, PlainValidator(read_activation_name)]


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


class _Foldable(LayerSpec):
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


class _WithActivation(LayerSpec):
    bias: Vector | None = None
    activation_name: ActivationName = "linear"
    activation_params: dict[str, Any] = Field(default_factory=dict)
    activation_origin: str | None = None  # what `origin` would be if the activation were a layer

    @model_validator(mode="after")
    def _consistent(self) -> _WithActivation:
        check_activation(self.activation_name, self.activation_params)
        if self.bias is not None and len(self.bias) != self.outputs:
            raise ValueError(f"key 'bias': expected {self.outputs} numbers, one an output, got {len(self.bias)}.")
        return self

    @property
    def outputs(self) -> int:
        """Number of output nodes or channels, which the bias must have."""
        return int(self.weight.shape[0])  # type: ignore[attr-defined]


class Dense(_WithActivation):
    """A fully connected layer along the last axis: ``activation(x W' + b)``."""

    type: Literal["Dense"]
    weight: Annotated[torch.Tensor, read_array(2, "(out, in)")]


_STRIDE = AliasChoices("stride", "strides")
_STRIDES = AliasChoices("strides", "stride")
_DILATION = AliasChoices("dilation", "dilation_rate")


class _Convolution(_WithActivation, _Foldable):
    """Strides and dilations go from the first spatial axis to the last, padding from the last to the first."""

    groups: Count = 1


class _TransposedConvolution(_WithActivation, _Foldable):
    groups: Count = 1

    @property
    def outputs(self) -> int:
        return int(self.weight.shape[1]) * self.groups  # type: ignore[attr-defined]


class Conv1D(_Convolution):
    """A convolution of signals."""

    type: Literal["Conv1D"]
    weight: Annotated[torch.Tensor, read_array(3, "(out channels, in channels / groups, length)")]
    stride: Annotated[tuple[int, ...], read_per_axis(1)] = Field((1,), validation_alias=_STRIDE)
    padding: Annotated[tuple[int, ...], read_sides(1)] = (0, 0)
    dilation: Annotated[tuple[int, ...], read_per_axis(1)] = Field((1,), validation_alias=_DILATION)


class Conv2D(_Convolution):
    """A convolution of images."""

    type: Literal["Conv2D"]
    weight: Annotated[torch.Tensor, read_array(4, "(out channels, in channels / groups, height, width)")]
    stride: Annotated[tuple[int, ...], read_per_axis(2)] = Field((1, 1), validation_alias=_STRIDE)
    padding: Annotated[tuple[int, ...], read_sides(2)] = (0, 0, 0, 0)
    dilation: Annotated[tuple[int, ...], read_per_axis(2)] = Field((1, 1), validation_alias=_DILATION)


class Conv3D(_Convolution):
    """A convolution of volumes."""

    type: Literal["Conv3D"]
    weight: Annotated[torch.Tensor, read_array(5, "(out channels, in channels / groups, depth, height, width)")]
    stride: Annotated[tuple[int, ...], read_per_axis(3)] = Field((1, 1, 1), validation_alias=_STRIDE)
    padding: Annotated[tuple[int, ...], read_sides(3)] = (0, 0, 0, 0, 0, 0)
    dilation: Annotated[tuple[int, ...], read_per_axis(3)] = Field((1, 1, 1), validation_alias=_DILATION)


class Conv1DTranspose(_TransposedConvolution):
    """A transposed convolution of signals; `padding` is cut off on both sides, `output_padding` added at the end."""

    type: Literal["Conv1DTranspose"]
    weight: Annotated[torch.Tensor, read_array(3, "(in channels, out channels / groups, length)")]
    stride: Annotated[tuple[int, ...], read_per_axis(1)] = Field((1,), validation_alias=_STRIDE)
    padding: Annotated[tuple[int, ...], read_per_axis(1, 0)] = (0,)
    output_padding: Annotated[tuple[int, ...], read_per_axis(1, 0)] = (0,)
    dilation: Annotated[tuple[int, ...], read_per_axis(1)] = Field((1,), validation_alias=_DILATION)


class Conv2DTranspose(_TransposedConvolution):
    """A transposed convolution of images; `padding` is cut off on both sides, `output_padding` added at the end."""

    type: Literal["Conv2DTranspose"]
    weight: Annotated[torch.Tensor, read_array(4, "(in channels, out channels / groups, height, width)")]
    stride: Annotated[tuple[int, ...], read_per_axis(2)] = Field((1, 1), validation_alias=_STRIDE)
    padding: Annotated[tuple[int, ...], read_per_axis(2, 0)] = (0, 0)
    output_padding: Annotated[tuple[int, ...], read_per_axis(2, 0)] = (0, 0)
    dilation: Annotated[tuple[int, ...], read_per_axis(2)] = Field((1, 1), validation_alias=_DILATION)


class Conv3DTranspose(_TransposedConvolution):
    """A transposed convolution of volumes; `padding` is cut off on both sides, `output_padding` added at the end."""

    type: Literal["Conv3DTranspose"]
    weight: Annotated[torch.Tensor, read_array(5, "(in channels, out channels / groups, depth, height, width)")]
    stride: Annotated[tuple[int, ...], read_per_axis(3)] = Field((1, 1, 1), validation_alias=_STRIDE)
    padding: Annotated[tuple[int, ...], read_per_axis(3, 0)] = (0, 0, 0)
    output_padding: Annotated[tuple[int, ...], read_per_axis(3, 0)] = (0, 0, 0)
    dilation: Annotated[tuple[int, ...], read_per_axis(3)] = Field((1, 1, 1), validation_alias=_DILATION)


class MaxPooling1D(_Foldable):
    """The maximum over windows of signals; padding counts as minus infinity."""

    type: Literal["MaxPooling1D"]
    kernel_size: Annotated[tuple[int, ...], read_per_axis(1)]
    strides: Annotated[tuple[int, ...] | None, read_per_axis(1)] = Field(None, validation_alias=_STRIDES)
    padding: Annotated[tuple[int, ...], read_per_axis(1, 0)] = (0,)
    dilation: Annotated[tuple[int, ...], read_per_axis(1)] = Field((1,), validation_alias=_DILATION)
    ceil_mode: Flag = False


class AveragePooling1D(_Foldable):
    """The mean over windows of signals."""

    type: Literal["AveragePooling1D"]
    kernel_size: Annotated[tuple[int, ...], read_per_axis(1)]
    strides: Annotated[tuple[int, ...] | None, read_per_axis(1)] = Field(None, validation_alias=_STRIDES)
    padding: Annotated[tuple[int, ...], read_per_axis(1, 0)] = (0,)
    ceil_mode: Flag = False
    count_include_pad: Flag = True


class MaxPooling2D(_Foldable):
    """The maximum over windows of images; padding counts as minus infinity."""

    type: Literal["MaxPooling2D"]
    kernel_size: Annotated[tuple[int, ...], read_per_axis(2)]
    strides: Annotated[tuple[int, ...] | None, read_per_axis(2)] = Field(None, validation_alias=_STRIDES)
    padding: Annotated[tuple[int, ...], read_per_axis(2, 0)] = (0, 0)
    dilation: Annotated[tuple[int, ...], read_per_axis(2)] = Field((1, 1), validation_alias=_DILATION)
    ceil_mode: Flag = False


class AveragePooling2D(_Foldable):
    """The mean over windows of images."""

    type: Literal["AveragePooling2D"]
    kernel_size: Annotated[tuple[int, ...], read_per_axis(2)]
    strides: Annotated[tuple[int, ...] | None, read_per_axis(2)] = Field(None, validation_alias=_STRIDES)
    padding: Annotated[tuple[int, ...], read_per_axis(2, 0)] = (0, 0)
    ceil_mode: Flag = False
    count_include_pad: Flag = True


class MaxPooling3D(_Foldable):
    """The maximum over windows of volumes; padding counts as minus infinity."""

    type: Literal["MaxPooling3D"]
    kernel_size: Annotated[tuple[int, ...], read_per_axis(3)]
    strides: Annotated[tuple[int, ...] | None, read_per_axis(3)] = Field(None, validation_alias=_STRIDES)
    padding: Annotated[tuple[int, ...], read_per_axis(3, 0)] = (0, 0, 0)
    dilation: Annotated[tuple[int, ...], read_per_axis(3)] = Field((1, 1, 1), validation_alias=_DILATION)
    ceil_mode: Flag = False


class AveragePooling3D(_Foldable):
    """The mean over windows of volumes."""

    type: Literal["AveragePooling3D"]
    kernel_size: Annotated[tuple[int, ...], read_per_axis(3)]
    strides: Annotated[tuple[int, ...] | None, read_per_axis(3)] = Field(None, validation_alias=_STRIDES)
    padding: Annotated[tuple[int, ...], read_per_axis(3, 0)] = (0, 0, 0)
    ceil_mode: Flag = False
    count_include_pad: Flag = True


class AdaptivePooling(_Foldable):
    """The mean or maximum over as many windows as the output is to have positions."""

    type: Literal["AdaptivePooling"]
    method: Literal["average", "max"]
    output_size: Annotated[tuple[int, ...], BeforeValidator(lambda value: read_whole_numbers(value, 1))]


class GlobalPooling(_Foldable):
    """The mean or maximum of each channel over all positions.

    With `winner_always` the maximum takes all even where a method is told that it is not to, as in R.
    """

    type: Literal["GlobalPooling"]
    method: Literal["average", "max"]
    keepdims: Flag = False
    winner_always: Flag = False


class _Preparing(LayerSpec):
    """A layer that maps every feature by itself, and may be marked as one that prepares the data.

    Methods that multiply by the input then take the features as they come out of it; see `innsight_py.spec`.
    """

    preprocessing: Flag = False


class BatchNorm(_Foldable, _Preparing):
    """Batch normalisation as at prediction time, along the channel axis."""

    type: Literal["BatchNorm"]
    num_features: Count | None = None
    gamma: Vector
    beta: Vector | None = None
    run_mean: Vector
    run_var: Vector
    eps: NotNegative

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


class Padding(_Foldable):
    """Padding of the last one or two axes in torch's order: (left, right[, top, bottom])."""

    type: Literal["Padding"]
    padding: Annotated[tuple[int, ...], BeforeValidator(read_any_sides)]
    mode: Literal["constant", "reflect", "replicate", "circular"] = "constant"
    value: Number = 0.0

    @model_validator(mode="after")
    def _consistent(self) -> Padding:
        if self.mode != "constant" and self.value != 0:
            raise ValueError(f"key 'value': expected 0 with the mode '{self.mode}', got {self.value}.")
        return self


class Embedding(LayerSpec):
    """Rows of a table by their numbers: each entry of the input becomes a vector, along a new last axis.

    The entries are whole numbers from 0 on. They have no gradient: attributions to an input that goes into an embedding
    lie at the vectors, and are summed over these, one number an entry.
    """

    type: Literal["Embedding"]
    weight: Annotated[torch.Tensor, read_array(2, "(entries, size)")]


class Gather(LayerSpec):
    """Entries of a value by their numbers, which each row brings.

    `inputs` are the value and whole numbers, which count the entries of the value of one row, flat, from 0 on; the
    output has the shape of the numbers. These have no gradient.
    """

    arity: ClassVar[int | None] = 2
    type: Literal["Gather"]


class TopK(LayerSpec):
    """Which entries along the last axis are the `k` largest (or smallest), in order: one row of truth values for each.

    Of an input of the shape ``(..., n)`` the output has ``(..., k, n)``. A product with the input gives the values.
    """

    type: Literal["TopK"]
    k: Count
    largest: Flag = True


class Choose(LayerSpec):
    """Entries of a value where a condition holds, and of another value or a constant where it does not.

    `inputs` are the condition (truth values, or numbers, of which 0 is false) and one or two values; all broadcast
    against each other. With one value `otherwise` stands where the condition does not hold. With `negated` both sides
    are exchanged. The condition has no gradient.
    """

    arity: ClassVar[int | None] = None
    type: Literal["Choose"]
    otherwise: Annotated[torch.Tensor, PlainValidator(read_maybe_infinite)] | None = None
    negated: Flag = False

    @model_validator(mode="after")
    def _consistent(self) -> Choose:
        wanted = 3 if self.otherwise is None else 2
        if len(self.inputs) != wanted:
            side = "two values" if self.otherwise is None else "one value, as 'otherwise' is given"
            raise ValueError(f"key 'inputs': expected a condition and {side}, got {len(self.inputs)} name(s).")
        return self


class Concatenate(LayerSpec):
    """Inputs one after the other along an axis (1 is the features or channels, -1 the last)."""

    arity: ClassVar[int | None] = None
    type: Literal["Concatenate"]
    axis: Annotated[int, BeforeValidator(read_axis)] = Field(validation_alias=AliasChoices("axis", "dim"))


class Add(LayerSpec):
    """The sum of several inputs of one shape."""

    arity: ClassVar[int | None] = None
    type: Literal["Add"]


class Flatten(LayerSpec):
    """Axes `start_dim` to `end_dim` as one, read channels first or channels last."""

    type: Literal["Flatten"]
    start_dim: Annotated[int, BeforeValidator(read_axis)] = 1
    end_dim: Annotated[int, BeforeValidator(read_axis)] = -1
    order: Literal["channels_first", "channels_last"] = "channels_first"


class Activation(_Preparing):
    """An activation on its own."""

    type: Literal["Activation"]
    act_name: ActivationName
    act_params: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Activation:
        check_activation(self.act_name, self.act_params)
        if self.preprocessing and self.act_name not in ("linear", "clamp"):
            raise ValueError(f"key 'preprocessing': expected False for the activation {self.act_name}, got True.")
        return self


class Scale(_Preparing):
    """``factor * x + shift`` with constants that broadcast against an instance."""

    type: Literal["Scale"]
    factor: Annotated[torch.Tensor, PlainValidator(read_any_array)] | None = None
    shift: Annotated[torch.Tensor, PlainValidator(read_maybe_infinite)] | None = None


class Multiply(LayerSpec):
    """The product of two inputs, which broadcast against each other."""

    arity: ClassVar[int | None] = 2
    type: Literal["Multiply"]


class MatMul(LayerSpec):
    """The matrix product of two inputs, along their last two axes."""

    arity: ClassVar[int | None] = 2
    type: Literal["MatMul"]


class Reduce(LayerSpec):
    """The sum or the mean over some axes."""

    type: Literal["Reduce"]
    method: Literal["sum", "mean"]
    axes: Annotated[tuple[int, ...], BeforeValidator(read_axes)]
    keepdims: Flag = False


class Recurrent(LayerSpec):
    """The steps of an LSTM, a GRU or a plain recurrent layer in one direction, behind ``W x + b`` for all steps.

    The first of the `inputs` is what a Dense layer makes of the data, ``(..., steps, gates * hidden)``. The others are
    those states before the first step that are no constants: `states` names them. `weight` and `bias` are those of the
    state. The gates have the order of PyTorch: input, forget, cell, output for "lstm"; reset, update, new for "gru".
    "gru_reset_first" resets the state before its product with the weights of the new one, not that product. With
    `blend` a GRU computes ``update * old + (1 - update) * new``, not ``new + update * (old - new)``, and its bias is a
    layer of its own: rules of LRP see the difference.
    The output has the states of all steps, ``(..., steps, hidden)``; with `cells` those of the LSTM's cell are behind
    them, ``(..., steps, hidden + cell)``. `reverse` starts at the last step.
    """

    arity: ClassVar[int | None] = None
    type: Literal["Recurrent"]
    cell: Literal["lstm", "gru", "gru_reset_first", "rnn_tanh", "rnn_relu"]
    weight: Annotated[torch.Tensor, read_array(2, "(gates * hidden, hidden)")]
    bias: Vector | None = None
    projection: Annotated[torch.Tensor, read_array(2, "(projected, hidden)")] | None = None
    hidden: Annotated[torch.Tensor, PlainValidator(read_any_array)] | None = None  # None: zeros
    cell_state: Annotated[torch.Tensor, PlainValidator(read_any_array)] | None = None
    states: tuple[Literal["hidden", "cell"], ...] = ()
    reverse: Flag = False
    cells: Flag = False
    blend: Flag = False

    @field_validator("states", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _consistent(self) -> Recurrent:
        gates = {"lstm": 4, "gru": 3, "gru_reset_first": 3}.get(self.cell, 1)
        size, shown = divmod(len(self.weight), gates)[0], self.weight.shape[1]
        if size == 0 or len(self.weight) != gates * size:
            raise ValueError(f"key 'weight': expected {gates} gates of as many rows, got {len(self.weight)} rows.")
        if self.projection is None and shown != size:
            raise ValueError(f"key 'weight': expected {size} columns, one for each entry of the state, got {shown}.")
        if self.projection is not None and tuple(self.projection.shape) != (shown, size):
            raise ValueError(
                f"key 'projection': expected the shape {(shown, size)}, got {tuple(self.projection.shape)}."
            )
        if self.bias is not None and len(self.bias) != len(self.weight):
            raise ValueError(f"key 'bias': expected {len(self.weight)} numbers, one a gate, got {len(self.bias)}.")
        if self.cell != "lstm" and (
            self.cells or self.projection is not None or self.cell_state is not None or "cell" in self.states
        ):
            raise ValueError(f"keys 'cells', 'projection', 'cell_state': only an LSTM has these, not '{self.cell}'.")
        if self.blend and not self.cell.startswith("gru"):
            raise ValueError(f"key 'blend': only a GRU blends its states, not '{self.cell}'.")
        if self.states not in ((), ("hidden",), ("cell",), ("hidden", "cell")):
            raise ValueError(f"key 'states': expected 'hidden', 'cell' or both in this order, got {self.states}.")
        if len(self.inputs) != 1 + len(self.states):
            raise ValueError(
                f"key 'inputs': expected {1 + len(self.states)}, the gates and the states {list(self.states)}, got "
                f"{len(self.inputs)}."
            )
        for key, name, value, entries in (
            ("hidden", "hidden", self.hidden, shown), ("cell_state", "cell", self.cell_state, size),
        ):  # fmt: skip
            if value is not None and name in self.states:
                raise ValueError(f"key '{key}': the state comes as an input already, since 'states' names it.")
            if value is not None and (not value.dim() or value.shape[-1] != entries):
                raise ValueError(f"key '{key}': expected {entries} numbers, got the shape {tuple(value.shape)}.")
        return self


class Standardize(LayerSpec):
    """Each of `groups` equal blocks of an instance less its mean (unless `center` is off) over its root mean square.

    With the mean square v it is divided by ``max(sqrt(factor * v + eps) + shift, least)``. Without `eps` this is the
    smallest step above 1 of the precision that is computed in. With a Scale after it this is a layer, group, instance
    or root-mean-square normalisation; a `factor` of the block's size makes the root a length.
    """

    type: Literal["Standardize"]
    groups: Count
    eps: NotNegative | None = None
    center: Flag = True
    factor: NotNegative = 1.0
    shift: NotNegative = 0.0
    least: NotNegative = 0.0


class Reshape(LayerSpec):
    """Another shape for the same numbers in the same order; `shape` is without the batch."""

    type: Literal["Reshape"]
    shape: Annotated[tuple[int, ...], BeforeValidator(lambda value: read_whole_numbers(value, 1))]


class Permute(LayerSpec):
    """Axes in another order; the batch, axis 0, stays where it is and is not named."""

    type: Literal["Permute"]
    axes: Annotated[tuple[int, ...], BeforeValidator(read_axes)]


class Take(LayerSpec):
    """Entries along an axis, which may repeat: slices, splits, flips, rolls, copies."""

    type: Literal["Take"]
    axis: Annotated[int, BeforeValidator(read_axis)]
    indices: Annotated[tuple[int, ...], BeforeValidator(lambda value: read_whole_numbers(value, 0))]


class Resize(_Foldable):
    """Another number of positions, by copies of the nearest or by interpolation, as ``torch.nn.functional``."""

    type: Literal["Resize"]
    size: Annotated[tuple[int, ...], BeforeValidator(lambda value: read_whole_numbers(value, 1))]
    mode: Literal["nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic"] = "nearest"
    align_corners: Flag | None = None
    scale_factor: Annotated[tuple[float, ...] | None, BeforeValidator(read_numbers)] = None


class Operator(LayerSpec):
    """An operator without rules of its own: the gradient methods work through it, the others say no.

    `arguments` are the operator's by position, `options` those by name; ``{"input": i}`` stands for the i-th input of
    the layer, an instance of the shape `shapes[i]`. `operator` may also be a function with a backward of its own, of a
    module that was converted with ``custom_backward="own"``; there is no form of it in a file.
    """

    arity: ClassVar[int | None] = None
    type: Literal["Operator"]
    operator: Annotated[Any, PlainValidator(read_operator)]
    arguments: Annotated[list[Any], BeforeValidator(read_arguments)]
    shapes: Annotated[list[tuple[int, ...]], BeforeValidator(read_shapes)]
    part: Annotated[int, PlainValidator(read_whole_number)] | None = None
    options: Annotated[dict[str, Any], BeforeValidator(read_options)] = Field(default_factory=dict)


class Cast(LayerSpec):
    """Numbers of another type, by torch's name of it: whole numbers, truth values, complex numbers, fewer digits.

    ``float32`` and ``float64`` both stand for the precision in which the graph computes.
    """

    type: Literal["Cast"]
    dtype: Annotated[str, PlainValidator(read_dtype)]


class Detach(LayerSpec):
    """The value as it is, without a gradient. DeepLift and LRP take it as given.

    `fixed` says that it is made of fixed inputs alone, which references have the row's own values of.
    """

    type: Literal["Detach"]
    fixed: Flag = False


class Skipping(_Preparing):
    """The identity (dropout at prediction time, for example)."""

    type: Literal["Skipping"]


_TYPES: tuple[type[LayerSpec], ...] = (
    Dense, Conv1D, Conv2D, Conv3D, Conv1DTranspose, Conv2DTranspose, Conv3DTranspose,
    MaxPooling1D, MaxPooling2D, MaxPooling3D, AveragePooling1D, AveragePooling2D, AveragePooling3D,
    AdaptivePooling, GlobalPooling, BatchNorm, Standardize, Activation, Scale, Add, Multiply, MatMul, Reduce, Recurrent,
    Concatenate, Flatten, Reshape, Permute, Take, Padding, Resize, Skipping, Embedding, Choose, Gather, TopK, Cast,
    Detach,
    Operator,
)  # fmt: skip
#: Every layer type of the spec by its name.
LAYER_SPECS: dict[str, type[LayerSpec]] = {cls.__name__: cls for cls in _TYPES}
