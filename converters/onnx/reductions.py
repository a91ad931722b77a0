"""The table of ONNX operators: sums, means, the largest and other reductions over axes."""

from __future__ import annotations

import math

import torch

from innsight_py.converters.compositions import softmax
from innsight_py.converters.onnx.writer import Call, OnnxWriter, reads
from innsight_py.converters.writer import Value


def _axes(call: Call) -> list[int]:
    """Return the axes to go over: all, where none are named; none, where the node says so."""
    given = call.numbers(1, "axes")
    rank = len(call.x.shape)
    if not given:
        return [] if call.get("noop_with_empty_axes", 0) else list(range(rank))
    return sorted({axis % rank for axis in given})


def _keeps(call: Call) -> bool:
    return bool(call.get("keepdims", 1))


def _over(write: OnnxWriter, x: Value, method: str, axes: list[int], keep: bool) -> Value:
    """Write a sum, a mean or a maximum over axes; over none it is the identity."""
    if not axes:
        return x
    if method == "max":
        return write.maximum(x, axes, keep)
    return write.reduce(x, method, axes, keep)


@reads("ReduceSum", "ReduceMean", "ReduceMax", writes="GlobalPooling Reduce")
def _reduce(write: OnnxWriter, call: Call) -> Value:
    return _over(write, call.x, call.name.removeprefix("Reduce").lower(), _axes(call), _keeps(call))


@reads("ReduceMin", writes="GlobalPooling")
def _min(write: OnnxWriter, call: Call) -> Value:
    return write.scale(_over(write, write.scale(call.x, -1), "max", _axes(call), _keeps(call)), -1)


@reads("ReduceL1", writes="Activation Reduce")
def _l1(write: OnnxWriter, call: Call) -> Value:
    return _over(write, write.activation(call.x, "abs"), "sum", _axes(call), _keeps(call))


@reads("ReduceSumSquare", "ReduceL2", writes="Activation Reduce")
def _squares(write: OnnxWriter, call: Call) -> Value:
    squares = _over(write, write.activation(call.x, "pow", exponent=2.0), "sum", _axes(call), _keeps(call))
    return write.activation(squares, "sqrt") if call.name == "ReduceL2" else squares


@reads("ReduceLogSum", writes="Activation Reduce")
def _log_sum(write: OnnxWriter, call: Call) -> Value:
    return write.activation(_over(write, call.x, "sum", _axes(call), _keeps(call)), "log")


@reads("ReduceLogSumExp", writes="Activation Add")
def _log_sum_exp(write: OnnxWriter, call: Call) -> Value:
    x, axes = call.x, _axes(call)
    if not axes:
        return x
    rest = [axis for axis in range(len(x.shape)) if axis not in axes]
    kept = tuple(x.shape[axis] for axis in rest)
    ordered = write.permute(x, [*rest, *axes])
    flat = write.reshape(ordered, (1, math.prod(kept), math.prod(x.shape[axis] for axis in axes)))
    # x - log_softmax(x) is the same along the axis; its first entry will do.
    first, normalised = write.take(flat, 2, [0]), write.take(softmax(write, flat, 2, "log_softmax"), 2, [0])
    total = write.add_values([first, write.scale(normalised, -1)])
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape)) if _keeps(call) else kept
    return write.reshape(total, shape)


@reads("ReduceProd", writes="Operator")
def _prod(write: OnnxWriter, call: Call) -> Value:
    x = call.x
    shape = x.shape
    for axis in _axes(call):
        shape = (*shape[:axis], 1, *shape[axis + 1 :])
        x = write.operator("prod.dim_int", [x, axis, True], shape)
    return x if _keeps(call) else write.reshape(x, tuple(n for i, n in enumerate(shape) if i not in _axes(call)))


@reads("LpNormalization", writes="Activation Multiply Reduce")
def _lp_normalization(write: OnnxWriter, call: Call) -> Value:
    x, axis, p = call.x, int(call.get("axis", -1)), int(call.get("p", 2))
    size = write.activation(x, "abs") if p == 1 else write.activation(x, "pow", exponent=2.0)
    length = write.activation(write.reduce(size, "sum", [axis], True), "clamp", min=1e-36)  # 0 / 0 is 0 here
    return write.multiply(x, write.activation(length, "reciprocal" if p == 1 else "rsqrt"))


def variance(write: OnnxWriter, x: Value, axes: list[int]) -> tuple[Value, Value, Value]:
    """Write the mean over axes, what is left of a value without it, and the mean of the squares of that."""
    mean = write.reduce(x, "mean", axes, True)
    rest = write.add_values([x, write.scale(mean, -1)])
    return mean, rest, write.reduce(write.activation(rest, "pow", exponent=2.0), "mean", axes, True)


def shifted(eps: float) -> torch.Tensor:
    """Return a number as a constant in double precision."""
    return torch.tensor(eps, dtype=torch.float64)
