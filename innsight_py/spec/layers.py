"""What each layer type of the model spec may hold: its keys, their defaults and their checks.

Types, keys and defaults are those of R innsight; numbers that count (axes) are Python's, the batch being axis 0.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import AliasChoices, BeforeValidator, Field, PlainValidator, field_validator, model_validator

from innsight_py._checks import Count, Flag, NotNegative, Number, read_whole_number
from innsight_py.functions.activations import check_activation
from innsight_py.spec.base import ActivationName, Foldable, LayerSpec, Preparing, Vector
from innsight_py.spec.fields import (
    read_any_array,
    read_any_sides,
    read_arguments,
    read_array,
    read_axes,
    read_axis,
    read_dtype,
    read_maybe_infinite,
    read_numbers,
    read_operator,
    read_options,
    read_shapes,
    read_whole_numbers,
)
from innsight_py.spec.linear import Conv1D, Conv1DTranspose, Conv2D, Conv2DTranspose, Conv3D, Conv3DTranspose, Dense
from innsight_py.spec.pooling import (
    AdaptivePooling,
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    GlobalPooling,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
)


class BatchNorm(Foldable, Preparing):
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


class Padding(Foldable):
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


class Activation(Preparing):
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


class Scale(Preparing):
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


class Resize(Foldable):
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


class Skipping(Preparing):
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
