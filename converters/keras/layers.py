"""The table of Keras layers: dense layers, normalisation, changes of shape, layers with several inputs, identities."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from innsight_py.converters.compositions import larger, matrix_product, per_channel, standardized
from innsight_py.converters.keras.writer import (
    Call,
    KerasValue,
    KerasWriter,
    Reader,
    as_tensor,
    reads,
    refuse,
    refuse_mixed,
)
from innsight_py.converters.preparation import MARK
from innsight_py.converters.writer import Value, broadcast


@reads("Dense", writes="Dense Activation Multiply Take")
def _dense(write: KerasWriter, call: Call) -> KerasValue:
    if getattr(call.layer, "quantization_mode", None):
        raise refuse(call, "its weights are quantized")
    weight = call.needs("kernel").T
    x = write.plain(call.x)
    y = write.layer("Dense", [x], (*x.shape[:-1], len(weight)), weight=weight, bias=call.weight("bias"))
    name = getattr(call.layer.activation, "__name__", "")
    ends = call.is_output and len(x.dim) == 1  # a softmax inside the model is a layer of its own
    merge = ends or name not in ("softmax", "log_softmax", "sparsemax")
    return write.activate(KerasValue(y), call.layer.activation, call, merge)


@reads("Embedding", writes="Embedding")
def _embedding(write: KerasWriter, call: Call) -> KerasValue:
    if call.config.get("mask_zero"):
        raise refuse(call, "it hides zeros from the layers behind it (mask_zero)")
    if getattr(call.layer, "quantization_mode", None):
        raise refuse(call, "its weights are quantized")
    weight, x = call.needs("embeddings"), write.plain(call.x)
    return KerasValue(write.layer("Embedding", [x], (*x.shape, weight.shape[1]), weight=weight))


# -- normalisation ---------------------------------------------------------------------------------------------------


def _only(axis: Any) -> int:
    """Return an axis that Keras may hold as a list of one."""
    return int(axis) if isinstance(axis, int) else int(axis[0])


def _with_channels_first(write: KerasWriter, call: Call, normalised: Callable[[Value], Value]) -> KerasValue:
    """Write a normalisation of channels, on whatever axis they are."""
    x, rank = call.x, len(call.x.dim)
    axis = _only(call.config["axis"]) % (rank + 1)
    if axis in (1, rank):
        moved = axis == rank > 1
        return KerasValue(normalised(write.ordered(x, moved)), moved)
    order = [0, axis, *(a for a in range(1, rank + 1) if a != axis)]
    y = normalised(write.permute(write.plain(x), order))
    return KerasValue(write.permute(y, [order.index(a) for a in range(rank + 1)]))


@reads("BatchNormalization", writes="BatchNorm")
def _batch_normalization(write: KerasWriter, call: Call) -> KerasValue:
    mean, variance = call.needs("moving_mean"), call.needs("moving_variance")
    gamma = call.weight("gamma")
    keys = {
        "gamma": torch.ones_like(mean) if gamma is None else gamma, "beta": call.weight("beta"), "run_mean": mean,
        "run_var": variance, "eps": float(call.config["epsilon"]),
    }  # fmt: skip
    return _with_channels_first(write, call, lambda x: write.layer("BatchNorm", [x], x.shape, **keys))


@reads("Normalization", writes="Scale")
def _normalization(write: KerasWriter, call: Call) -> KerasValue:
    mean, variance = (call.needs(name).double() for name in ("mean", "variance"))
    deviation = variance.sqrt().clamp(min=1e-7)  # Keras's own smallest number
    inverted = bool(call.config.get("invert", False))
    factor, shift = (deviation, mean) if inverted else (1 / deviation, -mean / deviation)
    return _preparing(write, scaled(write, call.x, factor, shift))


def _preparing(write: KerasWriter, x: KerasValue) -> KerasValue:
    """Mark the layer that has a value as one that prepares data, if it stands where that is done."""
    write.by_name[x.value.layer][MARK] = True
    return x


def scaled(write: KerasWriter, x: KerasValue, factor: Tensor, shift: Tensor) -> KerasValue:
    """Write ``factor x + shift``, of constants that broadcast against Keras's order of axes."""
    if not x.moved:
        return KerasValue(write.scale(x.value, factor, shift))

    def moved(constant: Tensor) -> Tensor:
        rank = len(x.dim)
        while constant.dim() > rank and constant.shape[0] == 1:
            constant = constant[0]
        if constant.dim() == 0:
            return constant
        return constant.reshape(*[1] * (rank - constant.dim()), *constant.shape).movedim(-1, 0)

    return KerasValue(write.scale(x.value, moved(factor), moved(shift)), moved=True)


@reads("Rescaling", writes="Scale")
def _rescaling(write: KerasWriter, call: Call) -> KerasValue:
    factor, shift = (as_tensor(call.config[key]).double() for key in ("scale", "offset"))
    if factor.dim() and not call.is_legacy and sys.modules["keras"].config.image_data_format() == "channels_first":
        factor = factor.reshape(*factor.shape, *[1] * (3 - factor.dim()))
    return _preparing(write, scaled(write, call.x, factor, shift))


@reads("LayerScale", writes="Scale")
def _layer_scale(write: KerasWriter, call: Call) -> KerasValue:
    return scaled(write, call.x, call.needs("gamma"), torch.zeros(()))


@reads("LayerNormalization", "RMSNormalization", writes="Scale Standardize")
def _layer_normalization(write: KerasWriter, call: Call) -> KerasValue:
    given, x = call.config["axis"], write.plain(call.x)
    rank = len(x.shape)
    axes = sorted({a % rank for a in ([given] if isinstance(given, int) else given)})
    if 0 in axes:
        raise refuse(call, "it goes over the batch")
    kept, eps = rank - len(axes), float(call.config["epsilon"])
    rms = type(call.layer).__name__ == "RMSNormalization"
    if rms and axes != list(range(kept, rank)):
        raise refuse(call, f"it normalises the axes {axes} of {rank}, and Keras lays its factors along the last")
    if call.config.get("rms_scaling"):
        raise refuse(call, "its 'rms_scaling' divides by the deviation alone; Keras has RMSNormalization in its place")
    weight = call.weight("scale" if rms else "gamma")
    bias = None if rms else call.weight("beta")
    order = [*(a for a in range(rank) if a not in axes), *axes]
    turned = write.permute(x, order)
    weight, bias = (None if w is None else w.reshape(turned.shape[kept:]) for w in (weight, bias))
    y = standardized(write, turned, math.prod(turned.shape[:kept]), eps, weight, bias, center=not rms)
    return KerasValue(write.permute(y, [order.index(a) for a in range(rank)]))


@reads("GroupNormalization", writes="Scale Standardize")
def _group_normalization(write: KerasWriter, call: Call) -> KerasValue:
    def normalised(x: Value) -> Value:
        groups = int(call.config["groups"])
        weight, bias = (per_channel(call.weight(name), x) for name in ("gamma", "beta"))
        return standardized(write, x, x.dim[0] if groups == -1 else groups, float(call.config["epsilon"]), weight, bias)

    return _with_channels_first(write, call, normalised)


@reads("UnitNormalization", writes="Activation Multiply Reduce")
def _unit_normalization(write: KerasWriter, call: Call) -> KerasValue:
    axes = call.config["axis"]
    x = write.plain(call.x)
    return KerasValue(_unit(write, x, [axes] if isinstance(axes, int) else list(axes)))


def _unit(write: KerasWriter, x: Value, axes: Sequence[int]) -> Value:
    """Write a value divided by its length along some axes."""
    squares = write.reduce(write.activation(x, "pow", exponent=2.0), "sum", list(axes), True)
    bounded = write.activation(squares, "clamp", min=1e-12)
    return write.multiply(x, write.activation(bounded, "rsqrt"))


# -- changes of shape ------------------------------------------------------------------------------------------------


@reads("Flatten", operations=("Flatten",))
def _flatten(write: KerasWriter, call: Call) -> KerasValue:
    x, rank = call.x, len(call.x.dim)
    size = math.prod(x.dim)
    if rank == 1:
        return x
    if getattr(call.layer, "data_format", "channels_last") == "channels_first":
        plain = write.plain(x)  # whose first axis is to come last
        return KerasValue(write.layer("Flatten", [plain], (1, size), order="channels_last"))
    if x.moved and math.prod(x.value.dim[1:]) > 1:
        return KerasValue(write.layer("Flatten", [x.value], (1, size), order="channels_last"))
    return KerasValue(write.reshape(x.value, (1, size)))


@reads("Reshape", operations=("Reshape",))
def _reshape(write: KerasWriter, call: Call) -> KerasValue:
    x = write.plain(call.x)
    target = call.config["target_shape"] if "target_shape" in call.config else call.config["newshape"][1:]
    shape = [int(n) for n in target]
    size = math.prod(x.shape)
    if -1 in shape:
        rest = -math.prod(shape)
        shape[shape.index(-1)] = size // rest
    if math.prod(shape) != size:
        raise refuse_mixed(call, f"it makes rows of {tuple(shape)} of rows of {call.x.dim}")
    return KerasValue(write.reshape(x, (1, *shape)))


@reads("Permute")
def _permute(write: KerasWriter, call: Call) -> KerasValue:
    return KerasValue(write.permute(write.plain(call.x), [0, *(int(d) for d in call.config["dims"])]))


@reads("RepeatVector", writes="Take")
def _repeat_vector(write: KerasWriter, call: Call) -> KerasValue:
    x = write.plain(call.x)
    return KerasValue(write.take(write.reshape(x, (1, 1, *x.dim)), 1, [0] * int(call.config["n"])))


# -- several inputs --------------------------------------------------------------------------------------------------


@reads("Concatenate", writes="Concatenate", operations=("Concatenate",))
def _concatenate(write: KerasWriter, call: Call) -> KerasValue:
    if int(call.config["axis"]) % (len(call.x.dim) + 1) == 0:
        raise refuse_mixed(call, "it joins the rows of batches")
    values, moved = write.aligned(call.inputs)
    probe = replace(call.x, value=values[0], moved=moved)
    axis = write.axis_of(probe, int(call.config["axis"]))
    shape = list(values[0].shape)
    shape[axis] = sum(value.shape[axis] for value in values)
    return KerasValue(write.layer("Concatenate", values, tuple(shape), axis=axis), moved)


def _spread_ranks(write: KerasWriter, call: Call) -> tuple[list[Value], bool]:
    """Return the inputs of a merging layer in one order; where ranks differ, Keras puts axes of 1 after the batch."""
    values, moved = write.aligned(call.inputs)
    rank = max(len(value.shape) for value in values)
    return [write.reshape(v, (1, *[1] * (rank - len(v.shape)), *v.dim)) for v in values], moved


def _merged(combine: Callable[[KerasWriter, list[Value]], Value]) -> Reader:
    def read(write: KerasWriter, call: Call) -> KerasValue:
        values, moved = _spread_ranks(write, call)
        return KerasValue(combine(write, values), moved)

    return read


def total(write: KerasWriter, values: list[Value]) -> Value:
    """Write the sum of values."""
    return write.add_values(values)


def difference(write: KerasWriter, values: list[Value]) -> Value:
    """Write the first of two values minus the second."""
    return write.add_values([values[0], write.scale(values[1], -1)])


def _mean(write: KerasWriter, values: list[Value]) -> Value:
    return write.scale(write.add_values(values), 1 / len(values))


def product(write: KerasWriter, values: list[Value]) -> Value:
    """Write the product of values, entry by entry."""
    result = values[0]
    for value in values[1:]:
        result = write.multiply(result, value)
    return result


def largest(write: KerasWriter, values: list[Value]) -> Value:
    """Write the largest of values, entry by entry."""
    result = values[0]
    for value in values[1:]:
        result = larger(write, (result, value), broadcast(result.shape, value.shape))
    return result


def smallest(write: KerasWriter, values: list[Value]) -> Value:
    """Write the smallest of values, entry by entry."""
    return write.scale(largest(write, [write.scale(value, -1) for value in values]), -1)


reads("Add", writes="Add")(_merged(total))
reads("Subtract", writes="Add Scale")(_merged(difference))
reads("Average", writes="Add Scale")(_merged(_mean))
reads("Multiply", writes="Multiply")(_merged(product))
reads("Maximum", writes="Concatenate GlobalPooling Take")(_merged(largest))
reads("Minimum", writes="Concatenate GlobalPooling Scale Take")(_merged(smallest))


@reads("CustomScaleLayer", writes="Add Scale")
def _scaled_sum(write: KerasWriter, call: Call) -> KerasValue:
    """Write the residual sum of ``keras.applications.InceptionResNetV2``."""
    values, moved = write.aligned(call.inputs)
    return KerasValue(write.add_values([values[0], write.scale(values[1], float(call.layer.scale))]), moved)


@reads("Dot", writes="Activation Dense MatMul Multiply Reduce")
def _dot(write: KerasWriter, call: Call) -> KerasValue:
    axes = call.layer.axes
    left, right = (write.plain(x) for x in call.inputs)
    a, b = ((axes, axes) if isinstance(axes, int) else tuple(axes))[:2]
    a, b = a % len(left.shape), b % len(right.shape)
    if call.config.get("normalize"):
        left, right = _unit(write, left, [a]), _unit(write, right, [b])
    rows = [n for i, n in enumerate(left.shape) if i not in (0, a)]
    columns = [n for i, n in enumerate(right.shape) if i not in (0, b)]
    common = left.shape[a]
    left = write.permute(left, [*(i for i in range(len(left.shape)) if i != a), a])
    right = write.permute(right, [0, b, *(i for i in range(1, len(right.shape)) if i != b)])
    left = write.reshape(left, (1, math.prod(rows), common))
    right = write.reshape(right, (1, common, math.prod(columns)))
    product = matrix_product(write, left, right, (1, math.prod(rows), math.prod(columns)))
    assert product is not None
    return KerasValue(write.reshape(product, (1, *rows, *columns) if rows or columns else (1, 1)))


# -- identities at prediction time -----------------------------------------------------------------------------------


@reads(
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout",
    "GaussianNoise", "ActivityRegularization", "Identity", "InputLayer", "StochasticDepth", "RandomBrightness",
    "RandomContrast", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomShear",
    "RandomColorJitter", "RandomGrayscale", "RandomHue", "RandomSaturation", "RandomSharpness", "RandomPosterization",
    "RandomErasing", "RandomGaussianBlur", "RandomInvert", "RandomPerspective", "RandomElasticTransform",
    writes="Skipping", operations=("Identity",),
)  # fmt: skip
def _identity(write: KerasWriter, call: Call) -> KerasValue:
    return replace(call.x, value=write.layer("Skipping", [call.x.value], call.x.value.shape))
