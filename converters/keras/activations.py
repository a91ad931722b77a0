"""The table of Keras layers: activations."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from innsight_py.converters.compositions import gated, softmax
from innsight_py.converters.keras.writer import (
    ACTIVATIONS,
    OPERATIONS,
    Call,
    KerasValue,
    KerasWriter,
    Reader,
    elementwise,
    reads,
    refuse,
)


def _simple(name: str, **fixed: Any) -> Reader:
    """Build the reader of a function without parameters, or with parameters that Keras fixes."""

    def read(write: KerasWriter, call: Call) -> KerasValue:
        return elementwise(write, call, name, **fixed)

    return read


def _with(name: str, keys: dict[str, tuple[str, ...]], **defaults: Any) -> Reader:
    """Build the reader of a function with parameters, which a layer or an operation may have under several names."""

    def read(write: KerasWriter, call: Call) -> KerasValue:
        params = dict(defaults)
        for key, names in keys.items():
            found = next((_number(call, own) for own in names if _number(call, own) is not None), None)
            if found is not None:
                params[key] = found
        return elementwise(write, call, name, **params)

    return read


def _number(call: Call, key: str) -> float | None:
    """Return a parameter from the configuration, where it is a number."""
    value = call.config.get(key)
    return None if value is None or isinstance(value, str) else float(value)


_SLOPES = ("negative_slope", "alpha")  # alpha: the name in Keras 2 and TensorFlow
#: Keras's name of a function, its operation in ``keras.ops``, and its reader.
_FUNCTIONS: tuple[tuple[str, str, Reader], ...] = (
    ("relu6", "Relu6", _simple("relu6")),
    ("selu", "Selu", _simple("selu")),
    ("softsign", "Softsign", _simple("softsign")),
    ("softplus", "Softplus", _simple("softplus")),
    ("tanh", "Tanh", _simple("tanh")),
    ("sigmoid", "Sigmoid", _simple("sigmoid")),
    ("exponential", "Exp", _simple("exp")),
    ("hard_silu", "HardSilu", _simple("hardswish")),
    ("hard_tanh", "HardTanh", _simple("hardtanh")),
    ("log_sigmoid", "LogSigmoid", _simple("logsigmoid")),
    ("mish", "Mish", _simple("mish")),
    ("silu", "Silu", _simple("silu")),
    ("sparse_sigmoid", "SparseSigmoid", _simple("hardsigmoid", alpha=0.5, beta=0.5)),
    ("sparse_plus", "SparsePlus", _simple("sparse_plus")),
    ("tanh_shrink", "TanhShrink", _simple("tanhshrink")),
    ("squareplus", "Squareplus", _with("squareplus", {"b": ("b",)})),
    ("elu", "Elu", _with("elu", {"alpha": ("alpha",)})),
    ("celu", "Celu", _with("celu", {"alpha": ("alpha",)})),
    ("leaky_relu", "LeakyRelu", _with("leaky_relu", {"negative_slope": _SLOPES}, negative_slope=0.2)),
    ("hard_shrink", "HardShrink", _with("hardshrink", {"lambd": ("threshold",)})),
    ("soft_shrink", "SoftShrink", _with("softshrink", {"lambd": ("threshold",)})),
    ("threshold", "Threshold", _with("threshold", {"threshold": ("threshold",), "value": ("default_value",)})),
)  # fmt: skip
for _name, _operation, _reader in _FUNCTIONS:
    ACTIVATIONS[_name] = OPERATIONS[_operation] = _reader
for _alias, _name in (
    ("swish", "silu"),
    ("hard_swish", "hard_silu"),
    ("exp", "exponential"),
    ("hardtanh", "hard_tanh"),
):
    ACTIVATIONS[_alias] = ACTIVATIONS[_name]
for _operation, _name in (
    ("Sqrt", "sqrt"), ("Square", "pow"), ("Absolute", "abs"), ("Abs", "abs"), ("Log", "log"), ("Log1p", "log1p"),
    ("Expm1", "expm1"), ("Rsqrt", "rsqrt"), ("Reciprocal", "reciprocal"), ("Sin", "sin"), ("Cos", "cos"),
    ("Erf", "erf"), ("Arctan", "atan"), ("Sign", "sign"),
):  # fmt: skip
    OPERATIONS[_operation] = _simple(_name)


def _linear(write: KerasWriter, call: Call) -> KerasValue:
    return call.x


ACTIVATIONS["linear"] = _linear


def _hard_sigmoid(write: KerasWriter, call: Call) -> KerasValue:
    return elementwise(write, call, "hardsigmoid", **({"alpha": 0.2, "beta": 0.5} if call.is_legacy else {}))


ACTIVATIONS["hard_sigmoid"] = OPERATIONS["HardSigmoid"] = _hard_sigmoid


def _gelu(write: KerasWriter, call: Call) -> KerasValue:
    return elementwise(
        write, call, "gelu", approximate="tanh" if call.config.get("approximate") in (True, "tanh") else "none"
    )


ACTIVATIONS["gelu"] = OPERATIONS["Gelu"] = _gelu


@reads("ReLU", writes="Activation", operations=("ReLU", "Relu"))
def _relu(write: KerasWriter, call: Call) -> KerasValue:
    top = _number(call, "max_value")
    slope, threshold = _number(call, "negative_slope") or 0.0, _number(call, "threshold") or 0.0
    if threshold == 0 and top is None:
        return (
            elementwise(write, call, "leaky_relu", negative_slope=slope) if slope else elementwise(write, call, "relu")
        )
    if threshold == 0 and top == 6 and not slope:
        return elementwise(write, call, "relu6")
    limit = math.inf if top is None else top
    return elementwise(write, call, "general_relu", negative_slope=slope, max_value=limit, threshold=threshold)


ACTIVATIONS["relu"] = _relu


@reads("ThresholdedReLU", writes="Activation")
def _thresholded(write: KerasWriter, call: Call) -> KerasValue:
    return elementwise(write, call, "threshold", threshold=float(call.config["theta"]), value=0.0)


@reads("LeakyReLU", writes="Activation")
def _leaky_relu(write: KerasWriter, call: Call) -> KerasValue:
    slope = next(float(call.config[key]) for key in _SLOPES if key in call.config)
    return elementwise(write, call, "leaky_relu", negative_slope=slope)


@reads("ELU", writes="Activation")
def _elu(write: KerasWriter, call: Call) -> KerasValue:
    return elementwise(write, call, "elu", alpha=float(call.config["alpha"]))


@reads("PReLU", writes="Activation")
def _prelu(write: KerasWriter, call: Call) -> KerasValue:
    slopes = call.needs("alpha").double()
    if call.x.moved:
        slopes = slopes.movedim(-1, 0)
    per_channel = slopes.numel() == slopes.shape[0]
    shape = () if per_channel else tuple(slopes.shape)
    return elementwise(write, call, "prelu", weight=tuple(slopes.flatten().tolist()), shape=shape)


@reads("Activation", writes="Activation Multiply Take")
def _activation(write: KerasWriter, call: Call) -> KerasValue:
    return write.activate(call.x, call.layer.activation, call, call.merges)


def _normalising(name: str) -> Callable[[KerasWriter, Call], KerasValue]:
    """Build the reader of a function along an axis."""

    def read(write: KerasWriter, call: Call) -> KerasValue:
        axis = call.config.get("axis", -1)  # ``tf.nn.softmax`` has None there
        return along(write, call, name, -1 if axis is None else axis)

    return read


def along(write: KerasWriter, call: Call, name: str, axis: Any) -> KerasValue:
    """Write a softmax or the like along one axis of Keras's, or several."""
    x = call.x
    axes = [axis] if isinstance(axis, int) else list(axis)
    rank = len(x.dim)
    if len(axes) > 1:
        return _along_several(write, call, name, [a % (rank + 1) for a in axes])
    at = write.axis_of(x, axes[0])
    merge = call.merges and call.is_output and rank == 1
    return replace(x, value=softmax(write, x.value, at, name, merge))


def _along_several(write: KerasWriter, call: Call, name: str, axes: list[int]) -> KerasValue:
    x = write.plain(call.x)
    order = [*(a for a in range(len(x.shape)) if a not in axes), *axes]
    turned = write.permute(x, order)
    joined = math.prod(x.shape[a] for a in axes)
    flat = write.reshape(turned, (*turned.shape[: len(order) - len(axes)], joined))
    back = write.reshape(softmax(write, flat, len(flat.shape) - 1, name), turned.shape)
    return KerasValue(write.permute(back, [order.index(a) for a in range(len(order))]))


ACTIVATIONS["softmax_v2"] = ACTIVATIONS["softmax"] = OPERATIONS["Softmax"] = _normalising("softmax")
ACTIVATIONS["log_softmax_v2"] = ACTIVATIONS["log_softmax"] = OPERATIONS["LogSoftmax"] = _normalising("log_softmax")


def _sparsemax(write: KerasWriter, call: Call) -> KerasValue:
    keras = sys.modules["keras"]
    example = keras.ops.convert_to_numpy(keras.activations.sparsemax(keras.ops.convert_to_tensor([[1.0, 0.5, 0.2]])))
    correct = abs(float(example.sum()) - 1) < 1e-5
    return along(write, call, "sparsemax" if correct else "keras_sparsemax", call.config.get("axis", -1))


ACTIVATIONS["sparsemax"] = OPERATIONS["Sparsemax"] = _sparsemax


@reads("Softmax", writes="Activation")
def _softmax(write: KerasWriter, call: Call) -> KerasValue:
    if len(call.inputs) > 1:
        raise refuse(call, "it has a mask")
    return along(write, call, "softmax", call.config["axis"])


def _glu(write: KerasWriter, call: Call) -> KerasValue:
    axis = write.axis_of(call.x, call.config.get("axis", -1))
    return replace(call.x, value=gated(write, call.x.value, axis))


ACTIVATIONS["glu"] = OPERATIONS["Glu"] = _glu
