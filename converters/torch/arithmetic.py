"""The table of ATen operators, second part: arithmetic, reductions, products, normalisation, softmax, attention."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from innsight_py.converters.compositions import (
    choose,
    gated,
    larger,
    matrix_product,
    per_channel,
    softmax,
    standardized,
)
from innsight_py.converters.torch.writer import Operator, translates
from innsight_py.converters.writer import Value, Writer, as_constant, folding, with_axes

# -- sums, products, constants ---------------------------------------------------------------------------------------


@translates("add.Tensor", "add.Scalar", writes="Add Scale", values="self other")
def _add(write: Writer, call: Operator) -> Value:
    return _sum(write, call["self"], call["other"], 1, call["alpha"])


@translates("sub.Tensor", "sub.Scalar", writes="Add Scale", values="self other")
def _sub(write: Writer, call: Operator) -> Value:
    return _sum(write, call["self"], call["other"], 1, -call["alpha"])


@translates("rsub.Scalar", "rsub.Tensor", writes="Add Scale", values="self other")
def _rsub(write: Writer, call: Operator) -> Value:
    return _sum(write, call["other"], call["self"], 1, -call["alpha"])


def _sum(write: Writer, x: Any, y: Any, a: float, b: float) -> Value:
    """Write ``a x + b y``, where one of the two may be a constant."""
    if not isinstance(x, Value):
        return write.scale(y, None if b == 1 else b, as_constant(x) * a)  # type: ignore[operator]
    if not isinstance(y, Value):
        return write.scale(x, None if a == 1 else a, as_constant(y) * b)  # type: ignore[operator]
    return write.add_values([x if a == 1 else write.scale(x, a), y if b == 1 else write.scale(y, b)])


@translates("lerp.Scalar", writes="Add Scale", values="self end")
def _lerp(write: Writer, call: Operator) -> Value:
    return _sum(write, call["self"], call["end"], 1 - call["weight"], call["weight"])


@translates("mul.Tensor", "mul.Scalar", writes="Multiply Scale", values="self other")
def _mul(write: Writer, call: Operator) -> Value:
    x, y = call["self"], call["other"]
    if isinstance(x, Value) and isinstance(y, Value):
        return write.multiply(x, y)
    return write.scale(x, y) if isinstance(x, Value) else write.scale(y, x)


@translates("div.Tensor", "div.Scalar", writes="Activation Multiply Scale", values="self other")
def _div(write: Writer, call: Operator) -> Value:
    x, y = call["self"], call["other"]
    if not isinstance(y, Value):
        return write.scale(x, 1 / as_constant(y).double())  # type: ignore[union-attr]
    inverse = write.activation(y, "reciprocal")
    return write.multiply(x, inverse) if isinstance(x, Value) else write.scale(inverse, x)


@translates("neg", writes="Scale")
def _neg(write: Writer, call: Operator) -> Value:
    return write.scale(call["self"], -1)


@translates(
    "where.self",
    "where.ScalarOther",
    "where.ScalarSelf",
    "masked_fill.Scalar",
    "masked_fill.Tensor",
    writes="Choose Concatenate Scale Take",
    values="self other value",
)
def _where(write: Writer, call: Operator) -> Value | None:
    mask, x, y = (call["condition"], call["self"], call["other"]) if "where" in call.name else (
        call["mask"], call["value"], call["self"]
    )  # fmt: skip
    if not isinstance(mask, Tensor):
        return None
    keep = mask.double()

    def part(value: Any, where: Tensor) -> Value | Tensor:
        if isinstance(value, Value):
            return write.scale(value, where)
        return torch.where(where > 0, as_constant(value).double(), 0.0)  # type: ignore[union-attr]

    if isinstance(x, Value) and isinstance(y, Value):
        return choose(write, mask, x, y, call.shape)
    first, second = part(x, keep), part(y, 1 - keep)
    if isinstance(first, Value):
        return write.scale(first, None, second)
    return write.scale(second, None, first) if isinstance(second, Value) else None


# -- matrix products -------------------------------------------------------------------------------------------------
@translates("mm", "bmm", "matmul", writes="Dense Embedding MatMul Scale", values="self other mat2")
def _matmul(write: Writer, call: Operator) -> Value | None:
    left, right = call["self"], call.get("other", call.get("mat2"))
    return matrix_product(write, left, right, call.shape)


@translates("bilinear", writes="Dense Multiply Reduce Scale", values="input1 input2")
def _bilinear(write: Writer, call: Operator) -> Value | None:
    """Write ``sum_ij x_i W_kij y_j + b_k``: a linear layer of x for each entry of y, times y, and the sum of these."""
    x, y, weight, bias = call["input1"], call["input2"], call["weight"], call["bias"]
    if not (isinstance(x, Value) and isinstance(y, Value) and isinstance(weight, Tensor)):
        return None
    nodes, first, second = weight.shape
    rows = weight.transpose(1, 2).reshape(nodes * second, first)
    by_entry = write.layer("Dense", [with_axes(write, x)], (*x.shape[:-1], nodes * second), weight=rows)
    lead = call.shape[:-1]
    products = write.multiply(write.reshape(by_entry, (*lead, nodes, second)), write.reshape(y, (*lead, 1, second)))
    total = write.reduce(products, "sum", [-1], False)
    return total if bias is None else write.scale(total, None, bias)


# -- reductions ------------------------------------------------------------------------------------------------------


@translates("sum.dim_IntList", "mean.dim", "sum", "mean", writes="GlobalPooling Reduce")
def _reduce(write: Writer, call: Operator) -> Value:
    method = "mean" if "mean" in call.name else "sum"
    return write.reduce(call["self"], method, call.get("dim") or [], bool(call.get("keepdim")))


@translates("amax", writes="GlobalPooling")
def _amax(write: Writer, call: Operator) -> Value:
    return write.maximum(call["self"], call["dim"], call["keepdim"])


@translates("max.dim", writes="GlobalPooling")
def _max_dim(write: Writer, call: Operator) -> list[Value]:
    return [write.maximum(call["self"], [call["dim"]], call["keepdim"])]


@translates("amin", writes="GlobalPooling Scale")
def _amin(write: Writer, call: Operator) -> Value:
    return write.scale(write.maximum(write.scale(call["self"], -1), call["dim"], call["keepdim"]), -1)


@translates("min.dim", writes="GlobalPooling Scale")
def _min_dim(write: Writer, call: Operator) -> list[Value]:
    return [write.scale(write.maximum(write.scale(call["self"], -1), [call["dim"]], call["keepdim"]), -1)]


@translates("maximum", "minimum", writes="Activation Concatenate GlobalPooling Scale Take", values="self other")
def _larger(write: Writer, call: Operator) -> Value:
    for x, bound in ((call["self"], call["other"]), (call["other"], call["self"])):
        if isinstance(bound, Tensor) and bound.numel() == 1 and call.shape == x.shape:
            bounds: dict[str, Any] = {"min" if "max" in call.name else "max": float(bound)}
            return write.activation(x, "clamp", **bounds)
    first, second = (v if isinstance(v, Value) else write.constant(v) for v in (call["self"], call["other"]))
    if "max" in call.name:
        return larger(write, (first, second), call.shape)
    return write.scale(larger(write, (write.scale(first, -1), write.scale(second, -1)), call.shape), -1)


@translates(
    "var.correction", "var.dim", "std.correction", "std.dim", writes="Activation Add GlobalPooling Reduce Scale"
)
def _variance(write: Writer, call: Operator) -> Value | None:
    return variance(write, call)


@translates(
    "var_mean.correction",
    "var_mean.dim",
    "std_mean.correction",
    "std_mean.dim",
    writes="Activation Add GlobalPooling Reduce Scale",
)
def _variance_and_mean(write: Writer, call: Operator) -> list[Value] | None:
    spread = variance(write, call)
    x: Value = call["self"]
    axes = call["dim"] or list(range(len(x.shape)))
    return None if spread is None else [spread, write.reduce(x, "mean", axes, call["keepdim"])]


def variance(write: Writer, call: Operator) -> Value | None:
    """Write a variance or a standard deviation."""
    x = call["self"]
    axes = call["dim"] or list(range(len(x.shape)))
    correction = call.get("correction")
    correction = (1 if correction is None else correction) if "correction" in call.arguments else int(call["unbiased"])
    count = math.prod(x.shape[axis] for axis in axes)
    if count <= correction:
        return None
    center = write.add_values([x, write.scale(write.reduce(x, "mean", axes, True), -1)])
    mean = write.reduce(write.activation(center, "pow", exponent=2.0), "mean", axes, call["keepdim"])
    variance = write.scale(mean, count / (count - correction))
    return write.activation(variance, "sqrt") if "std" in call.name else variance


@translates("square", writes="Activation")
def _square(write: Writer, call: Operator) -> Value:
    return write.activation(call["self"], "pow", call.merges, exponent=2.0)


@translates("linalg_vector_norm", "linalg_norm", writes="Activation Reduce")
def _norm(write: Writer, call: Operator) -> Value | None:
    x, axes, order = call["self"], call["dim"] or [], call["ord"]
    if call.name == "aten::linalg_norm" and (len(axes) != 1 and not (order is None and not axes)):
        return None  # the norm of a matrix
    if order == 1:
        return write.reduce(write.activation(x, "abs"), "sum", axes, call["keepdim"])
    if order not in (2, None):
        return None
    squares = write.reduce(write.activation(x, "pow", exponent=2.0), "sum", axes, call["keepdim"])
    return write.activation(squares, "sqrt")


@translates("logsumexp", writes="Activation Add Scale Take")
def _logsumexp(write: Writer, call: Operator) -> Value | None:
    x = call["self"]
    if len(call["dim"]) != 1:
        return None
    axis = call["dim"][0] % len(x.shape)
    # x - log_softmax(x) is the same along the axis; its first entry will do.
    first, normalised = write.take(x, axis, [0]), write.take(softmax(write, x, axis, "log_softmax"), axis, [0])
    total = write.add_values([first, write.scale(normalised, -1)])
    return write.reshape(total, call.shape)


@translates("cumsum", writes="Dense")
def _cumsum(write: Writer, call: Operator) -> Value:
    x = call["self"]
    axis, last = call["dim"] % len(x.shape), len(x.shape) - 1
    swap = [last if i == axis else axis if i == last else i for i in range(len(x.shape))]
    n = x.shape[axis]
    turned = write.permute(x, swap)
    sums = write.layer("Dense", [with_axes(write, turned)], turned.shape, weight=torch.ones(n, n).tril())
    return write.permute(sums, swap)


# -- normalisation ---------------------------------------------------------------------------------------------------


@translates("_native_batch_norm_legit_no_training", writes="BatchNorm")
def _batch_norm(write: Writer, call: Operator) -> list[Value] | None:
    normalised = batch_norm(write, call)
    return None if normalised is None else [normalised]


@translates("batch_norm", writes="BatchNorm")
def _plain_batch_norm(write: Writer, call: Operator) -> Value | None:
    return None if call["training"] else batch_norm(write, call)


def batch_norm(write: Writer, call: Operator) -> Value | None:
    """Write a batch normalisation with fixed statistics."""
    x, mean = call["input"], call["running_mean"]
    fold = folding(x, len(x.shape) - 2)
    if not isinstance(mean, Tensor) or fold is None:
        return None
    return write.layer(
        "BatchNorm", [x], x.shape, gamma=torch.ones_like(mean) if call["weight"] is None else call["weight"],
        beta=call["bias"], run_mean=mean, run_var=call["running_var"], eps=call["eps"], **fold,
    )  # fmt: skip


@translates("layer_norm", "native_layer_norm", writes="Scale Standardize")
def _layer_norm(write: Writer, call: Operator) -> Value | list[Value]:
    x = call["input"]
    lead = x.shape[: len(x.shape) - len(call["normalized_shape"])]
    y = standardized(write, x, math.prod(lead), call["eps"], call["weight"], call["bias"])
    return [y] if "native" in call.name else y


@translates("rms_norm", writes="Scale Standardize")
def _rms_norm(write: Writer, call: Operator) -> Value:
    x = call["input"]
    lead = x.shape[: len(x.shape) - len(call["normalized_shape"])]
    return standardized(write, x, math.prod(lead), call["eps"], call["weight"], None, center=False)


@translates("group_norm", writes="Scale Standardize")
def _group_norm(write: Writer, call: Operator) -> Value | None:
    x = call["input"]
    weight, bias = per_channel(call["weight"], x), per_channel(call["bias"], x)
    return standardized(write, x, x.shape[0] * call["num_groups"], call["eps"], weight, bias)


@translates("instance_norm", writes="BatchNorm Scale Standardize")
def _instance_norm(write: Writer, call: Operator) -> Value | None:
    x = call["input"]
    if not call["use_input_stats"]:
        return batch_norm(write, call)
    weight, bias = per_channel(call["weight"], x), per_channel(call["bias"], x)
    return standardized(write, x, x.shape[0] * x.shape[1], call["eps"], weight, bias)


# -- softmax -----------------------------------------------------------------------------------------------------
@translates("softmax.int", "_softmax", "log_softmax.int", "_log_softmax", writes="Activation")
def _softmax(write: Writer, call: Operator) -> Value:
    x, axis, name = call["self"], call["dim"], "log_softmax" if "log" in call.name else "softmax"
    return softmax(write, x, axis, name, call.merges_softmax and axis % len(x.shape) == len(x.shape) - 1)


@translates("glu", writes="Activation Multiply Take")
def _glu(write: Writer, call: Operator) -> Value:
    return gated(write, call["self"], call["dim"])
