"""The table of ATen operators, first part: linear layers, pooling, normalisation by batch statistics, activations.

Each reader writes one or a few layers of the model spec for a call of its operators, or returns None where it has no
exact translation; the call is then run as it is, and only the gradient methods work through it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from innsight_py.converters.torch.writer import TABLE, Operator, Reader, refuse, translates
from innsight_py.converters.writer import Value, Writer, each, folding, with_axes

__all__ = ["TABLE"]


# -- linear layers ---------------------------------------------------------------------------------------------------


@translates("linear", writes="Dense Embedding Scale")
def _linear(write: Writer, call: Operator) -> Value | None:
    x, weight = call["input"], call["weight"]
    if not isinstance(x, Value) or not isinstance(weight, Tensor):
        return None
    return write.layer("Dense", [with_axes(write, x)], call.shape, weight=weight, bias=call["bias"])


@translates("addmm", writes="Dense", values="self mat1")
def _addmm(write: Writer, call: Operator) -> Value | None:
    x, weight, bias = call["mat1"], call["mat2"], call["self"]
    if not (isinstance(x, Value) and isinstance(weight, Tensor) and isinstance(bias, Tensor) and bias.dim() == 1):
        return None
    if call["beta"] != 1 or call["alpha"] != 1:
        return None
    return write.layer("Dense", [x], call.shape, weight=weight.T, bias=bias)


@translates(
    "conv1d",
    "conv2d",
    "conv3d",
    "conv1d.padding",
    "conv2d.padding",
    "conv3d.padding",
    "convolution",
    writes="Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose",
)
def _convolution(write: Writer, call: Operator) -> Value | None:
    x, weight = call["input"], call["weight"]
    if not isinstance(weight, Tensor) or not isinstance(x, Value):
        return None
    if call.get("transposed"):
        return transposed(write, call)
    axes = weight.dim() - 2
    fold = folding(x, axes)
    if fold is None:
        return None
    dilation = each(call["dilation"], axes)
    return write.layer(
        f"Conv{axes}D", [x], call.shape, weight=weight, bias=call["bias"], stride=each(call["stride"], axes),
        dilation=dilation, padding=_sides(call["padding"], weight.shape[2:], dilation), groups=call["groups"], **fold,
    )  # fmt: skip


@translates(
    "conv_transpose1d",
    "conv_transpose2d.input",
    "conv_transpose3d.input",
    writes="Conv1DTranspose Conv2DTranspose Conv3DTranspose",
)
def _transposed(write: Writer, call: Operator) -> Value | None:
    return transposed(write, call)


def transposed(write: Writer, call: Operator) -> Value | None:
    """Write a transposed convolution."""
    x, weight = call["input"], call["weight"]
    axes = weight.dim() - 2 if isinstance(weight, Tensor) else 0
    fold = folding(x, axes) if isinstance(x, Value) else None
    if not isinstance(weight, Tensor) or fold is None:
        return None
    sizes = {key: each(call[key], axes) for key in ("stride", "padding", "output_padding", "dilation")}
    return write.layer(
        f"Conv{axes}DTranspose",
        [x],
        call.shape,
        weight=weight,
        bias=call["bias"],
        groups=call["groups"],
        **sizes,
        **fold,
    )


def _sides(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Write padding as (left, right[, top, bottom[, front, back]])."""
    if padding == "valid":
        pairs = [(0, 0) for _ in kernel]
    elif padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        pairs = [(total // 2, total - total // 2) for total in totals]
    else:
        pairs = [(p, p) for p in each(padding, len(kernel))]
    return [side for pair in reversed(pairs) for side in pair]


# -- pooling ---------------------------------------------------------------------------------------------------------


@translates(
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_pool2d_with_indices",
    "max_pool3d_with_indices",
    "max_pool1d_with_indices",
    writes="MaxPooling1D MaxPooling2D MaxPooling3D",
)
def _max_pooling(write: Writer, call: Operator) -> Value | list[Value] | None:
    x = call["self"]
    axes = int(call.name[len("aten::max_pool")])
    fold = folding(x, axes)
    if fold is None:
        return None
    kernel = each(call["kernel_size"], axes)
    several = "indices" in call.name
    shape = tuple(int(n) for n in call.node.meta["val"][0].shape) if several else call.shape
    pooled = write.layer(
        f"MaxPooling{axes}D", [x], shape, kernel_size=kernel, padding=each(call["padding"], axes),
        strides=each(call["stride"], axes) if call["stride"] else kernel,
        dilation=each(call["dilation"], axes), ceil_mode=call["ceil_mode"], **fold,
    )  # fmt: skip
    return [pooled] if several else pooled


@translates("avg_pool1d", "avg_pool2d", "avg_pool3d", writes="AveragePooling1D AveragePooling2D AveragePooling3D Scale")
def _average_pooling(write: Writer, call: Operator) -> Value | None:
    x = call["self"]
    axes = int(call.name[len("aten::avg_pool")])
    fold = folding(x, axes)
    if fold is None:
        return None
    kernel = each(call["kernel_size"], axes)
    divisor = call.get("divisor_override")
    if divisor is not None and (call["ceil_mode"] or not call["count_include_pad"]):
        return None
    pooled = write.layer(
        f"AveragePooling{axes}D", [x], call.shape, kernel_size=kernel, padding=each(call["padding"], axes),
        strides=each(call["stride"], axes) if call["stride"] else kernel,
        ceil_mode=call["ceil_mode"], count_include_pad=call["count_include_pad"], **fold,
    )  # fmt: skip
    return pooled if divisor is None else write.scale(pooled, factor=math.prod(kernel) / divisor)


@translates(
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "_adaptive_avg_pool2d",
    writes="AdaptivePooling GlobalPooling",
)
def _adaptive_average(write: Writer, call: Operator) -> Value | None:
    return _adaptive(write, call, "average", call.shape)


@translates("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", writes="AdaptivePooling GlobalPooling")
def _adaptive_max(write: Writer, call: Operator) -> list[Value] | None:
    pooled = _adaptive(write, call, "max", tuple(int(n) for n in call.node.meta["val"][0].shape))
    return None if pooled is None else [pooled]


def _adaptive(write: Writer, call: Operator, method: str, shape: tuple[int, ...]) -> Value | None:
    x, size = call["self"], list(call["output_size"])
    fold = folding(x, len(size))
    if fold is None:
        return None
    if set(size) == {1}:
        return write.layer("GlobalPooling", [x], shape, method=method, keepdims=True, **fold)
    return write.layer("AdaptivePooling", [x], shape, method=method, output_size=size, **fold)


# -- activations -----------------------------------------------------------------------------------------------------


def _elementwise(name: str, *params: str) -> Reader:
    """Build the reader of an element-wise function, with the names of the parameters that it takes from the call."""

    def read(write: Writer, call: Operator) -> Value:
        given = {param: call[param] for param in params}
        values = {key: float(value) if isinstance(value, int) else value for key, value in given.items()}
        return write.activation(call["self"], name, call.merges, **values)

    return read


for _operator, _name, _params in (
    ("relu", "relu", ()),
    ("relu6", "relu6", ()),
    ("leaky_relu", "leaky_relu", ("negative_slope",)),
    ("selu", "selu", ()),
    ("celu", "celu", ("alpha",)),
    ("gelu", "gelu", ("approximate",)),
    ("silu", "silu", ()),
    ("mish", "mish", ()),
    ("softplus", "softplus", ("beta", "threshold")),
    ("tanh", "tanh", ()),
    ("sigmoid", "sigmoid", ()),
    ("hardsigmoid", "hardsigmoid", ()),
    ("hardswish", "hardswish", ()),
    ("hardtanh", "hardtanh", ("min_val", "max_val")),
    ("log_sigmoid", "logsigmoid", ()),
    ("threshold", "threshold", ("threshold", "value")),
    ("softshrink", "softshrink", ("lambd",)),
    ("hardshrink", "hardshrink", ("lambd",)),
    ("exp", "exp", ()),
    ("expm1", "expm1", ()),
    ("log", "log", ()),
    ("log1p", "log1p", ()),
    ("sqrt", "sqrt", ()),
    ("rsqrt", "rsqrt", ()),
    ("reciprocal", "reciprocal", ()),
    ("abs", "abs", ()),
    ("sin", "sin", ()),
    ("cos", "cos", ()),
    ("erf", "erf", ()),
    ("atan", "atan", ()),
    ("sign", "sign", ()),
    ("pow.Tensor_Scalar", "pow", ("exponent",)),
):
    translates(_operator, writes="Activation")(_elementwise(_name, *_params))


@translates("elu", writes="Activation")
def _elu(write: Writer, call: Operator) -> Value | None:
    if call["scale"] != 1 or call["input_scale"] != 1:
        return None
    return write.activation(call["self"], "elu", call.merges, alpha=float(call["alpha"]))


@translates("clamp", "clamp_min", "clamp_max", "clamp.Tensor", writes="Activation")
def _clamp(write: Writer, call: Operator) -> Value | None:
    bounds = {key: call.get(key) for key in ("min", "max")}
    if any(isinstance(b, Value) or (isinstance(b, Tensor) and b.numel() > 1) for b in bounds.values()):
        return None
    params = {key: float(value) for key, value in bounds.items() if value is not None}
    return write.activation(call["self"], "clamp", call.merges, **params)


@translates("prelu", "_prelu_kernel", writes="Activation")
def _prelu(write: Writer, call: Operator) -> Value | None:
    x, weight = call["self"], call["weight"]
    if not isinstance(weight, Tensor) or (weight.numel() > 1 and not x.leads):
        return None
    slopes = [float(w) for w in weight.double().flatten()]
    return write.activation(x, "prelu", call.merges, weight=slopes)


@translates("rrelu", writes="Activation")
def _rrelu(write: Writer, call: Operator) -> Value:
    """Write a leaky ReLU with the mean of the slopes, which it is at prediction time."""
    if call["training"]:
        raise refuse(call, "it is random even at prediction time")
    return write.activation(call["self"], "leaky_relu", call.merges, negative_slope=(call["lower"] + call["upper"]) / 2)
