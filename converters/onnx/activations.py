"""The table of ONNX operators: element-wise functions and softmax."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from innsight_py.converters.compositions import softmax
from innsight_py.converters.onnx.arithmetic import bounded, product, term, total
from innsight_py.converters.onnx.writer import Call, OnnxWriter, Reader, Result, reads, refuse
from innsight_py.converters.writer import Value, broadcast


def _elementwise(name: str, **params: tuple[str, float]) -> Reader:
    """Build the reader of an element-wise function: by its parameters the attribute of each and its default."""

    def read(write: OnnxWriter, call: Call) -> Value:
        given = {key: float(call.get(attribute, default)) for key, (attribute, default) in params.items()}
        return write.activation(call.x, name, call.merges, **given)

    return read


for _operator, _name, _params in (
    ("Relu", "relu", {}),
    ("LeakyRelu", "leaky_relu", {"negative_slope": ("alpha", 0.01)}),
    ("Elu", "elu", {"alpha": ("alpha", 1.0)}),
    ("Celu", "celu", {"alpha": ("alpha", 1.0)}),
    ("Mish", "mish", {}),
    ("Softsign", "softsign", {}),
    ("Tanh", "tanh", {}),
    ("Sigmoid", "sigmoid", {}),
    ("HardSwish", "hardswish", {}),
    ("Exp", "exp", {}),
    ("Log", "log", {}),
    ("Sqrt", "sqrt", {}),
    ("Reciprocal", "reciprocal", {}),
    ("Abs", "abs", {}),
    ("Sin", "sin", {}),
    ("Cos", "cos", {}),
    ("Erf", "erf", {}),
    ("Atan", "atan", {}),
    ("Sign", "sign", {}),
):
    reads(_operator, writes="Activation")(_elementwise(_name, **_params))


@reads("Softplus", writes="Activation")
def _softplus(write: OnnxWriter, call: Call) -> Value:
    return write.activation(call.x, "softplus", call.merges)


@reads("HardSigmoid", writes="Activation")
def _hard_sigmoid(write: OnnxWriter, call: Call) -> Value:
    alpha, beta = float(call.get("alpha", 0.2)), float(call.get("beta", 0.5))
    alpha = 1 / 6 if abs(alpha - 1 / 6) < 1e-7 else alpha  # a sixth in single precision
    return write.activation(call.x, "hardsigmoid", call.merges, alpha=alpha, beta=beta)


@reads("Selu", writes="Activation Scale")
def _selu(write: OnnxWriter, call: Call) -> Value:
    alpha, gamma = float(call.get("alpha", 1.6732632423543772)), float(call.get("gamma", 1.0507009873554805))
    if abs(alpha - 1.6732632423543772) < 1e-6 and abs(gamma - 1.0507009873554805) < 1e-6:
        return write.activation(call.x, "selu", call.merges)
    return write.scale(write.activation(call.x, "elu", call.merges, alpha=alpha), gamma)


@reads("Gelu", writes="Activation")
def _gelu(write: OnnxWriter, call: Call) -> Value:
    return write.activation(call.x, "gelu", call.merges, approximate=text(call, "approximate", "none"))


def text(call: Call, name: str, default: str) -> str:
    """Return an attribute that is a text."""
    value = call.get(name, default)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


@reads("Swish", writes="Activation Multiply Scale")
def _swish(write: OnnxWriter, call: Call) -> Result:
    return swish(write, call.x, float(call.get("alpha", 1.0)), call.merges)


@reads("SwiGLU", writes="Activation Multiply Scale")
def _swiglu(write: OnnxWriter, call: Call) -> Result:
    gate, alpha = term(call, 0), float(call.get("alpha", 1.0))
    if isinstance(gate, Value):
        return product(write, swish(write, gate, alpha), term(call, 1))
    return product(write, gate * torch.sigmoid(alpha * gate), term(call, 1))


def swish(write: OnnxWriter, x: Value, alpha: float, merge: bool = False) -> Value:
    """Write ``x sigmoid(alpha x)``."""
    if alpha == 1:
        return write.activation(x, "silu", merge)
    return write.multiply(x, write.activation(write.scale(x, alpha), "sigmoid"))


@reads("ThresholdedRelu", writes="Activation")
def _thresholded_relu(write: OnnxWriter, call: Call) -> Value:
    return write.activation(call.x, "threshold", call.merges, threshold=float(call.get("alpha", 1.0)), value=0.0)


@reads("Shrink", writes="Activation Add Scale")
def _shrink(write: OnnxWriter, call: Call) -> Result:
    bias, lambd = float(call.get("bias", 0.0)), float(call.get("lambd", 0.5))
    if bias == 0:
        return write.activation(call.x, "hardshrink", call.merges, lambd=lambd)
    if bias == lambd:
        return write.activation(call.x, "softshrink", call.merges, lambd=lambd)
    # x - bias above lambd, x + bias below -lambd: the hard shrinkage, less the sign of what is left of it times bias
    hard = write.activation(call.x, "hardshrink", lambd=lambd)
    return total(write, hard, write.scale(write.activation(hard, "sign"), -bias))


@reads("PRelu", writes="Activation")
def _prelu(write: OnnxWriter, call: Call) -> Value:
    x, slope = call.x, call.fixed(1, "slope")
    if broadcast(x.shape, tuple(slope.shape)) != x.shape:
        raise refuse(call, f"its slopes {tuple(slope.shape)} are of another shape than its input {x.shape}")
    if slope.numel() == 1:
        return write.activation(x, "prelu", call.merges, weight=[float(slope)])
    given = slope.reshape(*[1] * (len(x.shape) - slope.dim()), *slope.shape)
    shape = list(given.shape[1:] if x.leads else given.shape)
    weight = [float(w) for w in given.double().flatten()]
    channels = x.leads and shape[0] == len(weight)
    return write.activation(x, "prelu", call.merges, weight=weight, **({} if channels else {"shape": shape}))


@reads("Clip", writes="Activation Concatenate GlobalPooling Scale Take")
def _clip(write: OnnxWriter, call: Call) -> Result:
    if call.opset < 11:
        bounds = {key: float(call.attributes[key]) for key in ("min", "max") if key in call.attributes}
        return write.activation(call.x, "clamp", call.merges, **_inside(bounds))
    low, high = call[1], call[2]
    if not isinstance(low, Value) and not isinstance(high, Value):
        given = {"min": low, "max": high}
        return write.activation(
            call.x, "clamp", call.merges, **_inside({key: float(v) for key, v in given.items() if v is not None})
        )
    result: Result = call.x
    for bound, name in ((low, "Max"), (high, "Min")):
        result = result if bound is None else bounded(write, result, bound, name)
    return result


def _inside(bounds: Mapping[Any, float]) -> dict[str, float]:
    """Leave out bounds that no number of single precision reaches."""
    largest = torch.finfo(torch.float32).max
    return {key: value for key, value in bounds.items() if not (math.isinf(value) or abs(value) >= largest)}


@reads("Tan", writes="Activation Multiply")
def _tan(write: OnnxWriter, call: Call) -> Result:
    cosine = write.activation(write.activation(call.x, "cos"), "reciprocal")
    return write.multiply(write.activation(call.x, "sin"), cosine)


@reads("Sinh", "Cosh", writes="Activation Add Scale")
def _hyperbolic(write: OnnxWriter, call: Call) -> Result:
    up = write.scale(write.activation(call.x, "exp"), 0.5)
    down = write.activation(write.scale(call.x, -1), "exp")
    return total(write, up, write.scale(down, -0.5 if call.name == "Sinh" else 0.5))


@reads(
    "Acos", "Acosh", "Asin", "Asinh", "Atanh", "Ceil", "Floor", "Round", writes="Operator",
)  # fmt: skip
def _without_rules(write: OnnxWriter, call: Call) -> Value:
    return write.operator(call.name.lower(), [call.x], call.x.shape)


# -- softmax ---------------------------------------------------------------------------------------------------------


@reads("Softmax", "LogSoftmax", writes="Activation")
def _softmax(write: OnnxWriter, call: Call) -> Value:
    x, name = call.x, "softmax" if call.name == "Softmax" else "log_softmax"
    rank = len(x.shape)
    if call.opset >= 13:
        axis = int(call.get("axis", -1)) % max(rank, 1)
        return softmax(write, x, axis, name, call.merges and call.is_output and axis == rank - 1)
    axis = int(call.get("axis", 1)) % max(rank, 1)  # all axes from here on are one
    if math.prod(x.shape[axis + 1 :]) == 1 and axis < rank:
        last = axis == rank - 1
        return softmax(write, x, axis, name, call.merges and call.is_output and last)
    flat = write.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
    return write.reshape(softmax(write, flat, 1, name), x.shape)
