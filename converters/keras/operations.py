"""The table of operations, ``keras.ops`` and operators such as ``x + 1``, and their constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from innsight_py.converters.compositions import matrix_product
from innsight_py.converters.keras.layers import difference, largest, product, scaled, smallest, total
from innsight_py.converters.keras.writer import (
    Call,
    KerasValue,
    KerasWriter,
    Reader,
    as_tensor,
    elementwise,
    reads,
    refuse,
)
from innsight_py.converters.writer import Value

_ZERO, _ONE = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)


def _constant(call: Call) -> tuple[Tensor, bool] | None:
    """Return the argument that is no value of the model, and whether it comes after the value; None for two values."""
    if len(call.inputs) == 2:
        return None
    last = isinstance(call.arguments[0], KerasValue)
    try:
        return as_tensor(call.arguments[1 if last else 0]).double(), last
    except (TypeError, ValueError, IndexError):
        raise refuse(call, "its arguments are neither values of the model nor numbers") from None


def _pair(write: KerasWriter, call: Call) -> tuple[list[Value], bool]:
    if len({len(x.dim) for x in call.inputs}) > 1:
        raise refuse(call, "its two values have different numbers of axes")
    return write.aligned(call.inputs)


def _linear(
    combine: Callable[[KerasWriter, list[Value]], Value], parts: Callable[[Tensor, bool], tuple[Tensor, Tensor]]
) -> Reader:
    """Build the reader of ``x + y`` and the like; `parts` gives factor and shift for a constant on either side."""

    def read(write: KerasWriter, call: Call) -> KerasValue:
        given = _constant(call)
        if given is not None:
            return scaled(write, call.x, *parts(*given))
        values, moved = _pair(write, call)
        return KerasValue(combine(write, values), moved)

    return read


reads(operations=("Add",))(_linear(total, lambda c, last: (_ONE, c)))
reads(operations=("Subtract",))(_linear(difference, lambda c, last: (_ONE, -c) if last else (-_ONE, c)))
reads(operations=("Multiply",))(_linear(product, lambda c, last: (c, _ZERO)))


def _bounded(combine: Callable[[KerasWriter, list[Value]], Value], bound: str) -> Reader:
    """Build the reader of the larger or the smaller of two values, or of a value and a number."""

    def read(write: KerasWriter, call: Call) -> KerasValue:
        given = _constant(call)
        if given is None:
            values, moved = _pair(write, call)
            return KerasValue(combine(write, values), moved)
        if given[0].numel() != 1:
            raise refuse(call, "it compares with an array")
        return elementwise(write, call, "clamp", **{bound: float(given[0])})

    return read


reads(operations=("Maximum",))(_bounded(largest, "min"))
reads(operations=("Minimum",))(_bounded(smallest, "max"))


@reads(operations=("Clip",))
def _clip(write: KerasWriter, call: Call) -> KerasValue:
    bounds = {"min": call.config.get("x_min"), "max": call.config.get("x_max")}
    return elementwise(write, call, "clamp", **{key: float(v) for key, v in bounds.items() if v is not None})


@reads(operations=("Power",))
def _power(write: KerasWriter, call: Call) -> KerasValue:
    given = _constant(call)
    if given is None or not given[1] or given[0].numel() != 1:
        raise refuse(call, "its exponent is no number")
    return elementwise(write, call, "pow", exponent=float(given[0]))


@reads(operations=("GetItem",))
def _get_item(write: KerasWriter, call: Call) -> KerasValue:
    """Write ``x[:, 2:5, ..., ::-1]``."""
    x = write.plain(call.x)
    key = call.arguments[1] if len(call.arguments) > 1 else call.config.get("key")
    entries: list[Any] = list(key) if isinstance(key, tuple | list) else [key]
    if Ellipsis in entries:
        at = entries.index(Ellipsis)
        missing = len(x.shape) - sum(entry is not None for entry in entries) + 1
        entries[at : at + 1] = [slice(None)] * missing
    if not all(isinstance(e, slice | int) for e in entries) or not entries or entries[0] != slice(None):
        raise refuse(call, f"its index {key} is not made of numbers and slices behind the batch")
    shape = [1]
    for axis, entry in enumerate(entries[1:], start=1):
        n = x.shape[axis]
        positions = [entry % n] if isinstance(entry, int) else list(range(n)[entry])
        if not positions:
            raise refuse(call, f"its index {key} takes nothing")
        x = write.take(x, axis, positions)
        shape += [] if isinstance(entry, int) else [len(positions)]
    shape += x.shape[len(entries) :]
    return KerasValue(write.reshape(x, tuple(shape) if len(shape) > 1 else (1, 1)))


def _reduced_axes(call: Call) -> list[int]:
    axis = call.config.get("axis")
    axes = [axis] if isinstance(axis, int) else list(axis or ())
    if not axes or any(a % (len(call.x.dim) + 1) == 0 for a in axes):
        raise refuse(call, "it goes over the batch")
    return axes


@reads(operations=("Mean", "Sum"))
def _reduce(write: KerasWriter, call: Call) -> KerasValue:
    axes, x = _reduced_axes(call), write.plain(call.x)
    method = call.kind.lower()
    return KerasValue(write.reduce(x, method, axes, bool(call.config.get("keepdims"))))


@reads(operations=("Max", "Min"))
def _extreme(write: KerasWriter, call: Call) -> KerasValue:
    axes, keepdims = _reduced_axes(call), bool(call.config.get("keepdims"))
    x = write.plain(call.x)
    if call.kind == "Max":
        return KerasValue(write.maximum(x, axes, keepdims))
    return KerasValue(write.scale(write.maximum(write.scale(x, -1), axes, keepdims), -1))


@reads(operations=("Transpose",))
def _transpose(write: KerasWriter, call: Call) -> KerasValue:
    axes = call.config.get("axes")
    if axes is None or axes[0] != 0:
        raise refuse(call, "it moves the batch")
    return KerasValue(write.permute(write.plain(call.x), list(axes)))


@reads(operations=("ExpandDims", "Squeeze"))
def _ones(write: KerasWriter, call: Call) -> KerasValue:
    x, axis = write.plain(call.x), call.config.get("axis")
    shape = list(x.shape)
    axes = [axis] if isinstance(axis, int) else list(axis or ())
    more = call.kind == "ExpandDims"
    axes = [a % (len(shape) + more) for a in axes]
    if not axes or 0 in axes:
        raise refuse(call, "it changes the axis of the batch")
    if more:
        shape.insert(axes[0], 1)
    else:
        shape = [n for i, n in enumerate(shape) if i not in axes]
    return KerasValue(write.reshape(x, tuple(shape)))


@reads(operations=("Matmul",))
def _matmul(write: KerasWriter, call: Call) -> KerasValue:
    given = _constant(call)
    if given is None:
        left, right = (write.plain(x) for x in call.inputs)
        if len(left.shape) != len(right.shape) or len(left.shape) < 3:
            raise refuse(call, "its two values are not matrices")
        product = matrix_product(write, left, right, (*left.shape[:-1], right.shape[-1]))
        assert product is not None
        return KerasValue(product)
    if not given[1] or given[0].dim() != 2:
        raise refuse(call, "its constant is no matrix on the right")
    x = write.plain(call.x)
    return KerasValue(write.layer("Dense", [x], (*x.shape[:-1], given[0].shape[1]), weight=given[0].T))


@reads(operations=("Divide", "TrueDivide"))
def _divide(write: KerasWriter, call: Call) -> KerasValue:
    given = _constant(call)
    if given is not None and given[1]:
        return scaled(write, call.x, 1 / given[0], _ZERO)
    below = call.inputs[-1]
    inverse = replace(below, value=write.activation(below.value, "reciprocal"))
    if given is not None:
        return scaled(write, inverse, given[0], _ZERO)
    values, moved = _pair(write, replace(call, inputs=(call.x, inverse)))
    return KerasValue(write.multiply(*values), moved)


@reads(operations=("Negative",))
def _negative(write: KerasWriter, call: Call) -> KerasValue:
    return scaled(write, call.x, -_ONE, _ZERO)


@reads(operations=("Stack",))
def _stack(write: KerasWriter, call: Call) -> KerasValue:
    values = [write.plain(x) for x in call.inputs]
    rank = len(values[0].shape) + 1
    axis = int(call.config.get("axis", 0)) % rank
    if axis == 0:
        raise refuse(call, "it changes the axis of the batch")
    shape = values[0].shape
    parts = [write.reshape(value, (*shape[:axis], 1, *shape[axis:])) for value in values]
    joined = (*shape[:axis], len(parts), *shape[axis:])
    return KerasValue(write.layer("Concatenate", parts, joined, axis=axis))
