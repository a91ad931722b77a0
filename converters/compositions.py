"""What takes several layers to write, or a choice between them; shared by the doors for frameworks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from innsight_py.converters.writer import Value, Whole, Writer, with_axes


def broadcast_to(write: Writer, x: Value, shape: tuple[int, ...]) -> Value:
    """Write copies of a value, as many as a larger shape needs."""
    x = write.reshape(x, (*[1] * (len(shape) - len(x.shape)), *x.shape))
    for axis, (n, wanted) in enumerate(zip(x.shape, shape, strict=True)):
        if n != wanted:
            x = write.take(x, axis, [0] * wanted)
    return x


def choose(write: Writer, mask: Tensor, x: Value, y: Value, shape: tuple[int, ...]) -> Value:
    """Write entries of one value where a constant mask is true and of another elsewhere."""
    size = math.prod(shape)
    sides = [write.reshape(broadcast_to(write, side, shape), (1, size)) for side in (x, y)]
    both = write.layer("Concatenate", sides, (1, 2 * size), axis=1)
    picked = [i if chosen else size + i for i, chosen in enumerate(mask.expand(shape).flatten().tolist())]
    return write.reshape(write.take(both, 1, picked), shape)


def concatenate(write: Writer, tensors: Sequence[Any], axis: int, shape: tuple[int, ...]) -> Value:
    """Write a concatenation; there may be constants among the parts."""
    axis %= len(shape)
    tensors = [t for t in tensors if not (isinstance(t, Tensor) and t.numel() == 0)]
    parts = [t if isinstance(t, Value) else write.constant(t) for t in tensors]
    if len(parts) == 1:
        return parts[0]
    if axis > 0 and shape[0] == 1:
        return write.layer("Concatenate", parts, shape, axis=axis)
    joined = write.layer("Concatenate", [write.whole(x) for x in parts], shape, axis=axis + 1)
    return write.reshape(Whole(joined.layer, shape), shape)


def _small(write: Writer, factor: Value | Tensor) -> Value | Tensor:
    """Make a constant a matrix or a vector if it can be one, a value otherwise."""
    if isinstance(factor, Value):
        return factor
    while factor.dim() > 2 and factor.shape[0] == 1:
        factor = factor[0]
    return factor if factor.dim() <= 2 else write.constant(factor)


def matrix_product(write: Writer, left: Any, right: Any, shape: tuple[int, ...]) -> Value | None:
    """Write a matrix product, of two values or of a value and a constant matrix."""
    left, right = _small(write, left), _small(write, right)
    if isinstance(right, Tensor):
        if right.dim() == 1 and isinstance(left, Value):
            column = write.layer("Dense", [with_axes(write, left)], (*left.shape[:-1], 1), weight=right[None])
            return write.reshape(column, shape)
        if right.dim() != 2 or not isinstance(left, Value):
            return None
        return write.layer("Dense", [left], shape, weight=right.T)
    if len(right.shape) < 2:
        return None
    if isinstance(left, Tensor):
        if left.dim() != 2:
            return None
        swap = [*range(len(right.shape) - 2), len(right.shape) - 1, len(right.shape) - 2]
        turned = write.permute(right, swap)
        product = write.layer("Dense", [turned], (*turned.shape[:-1], left.shape[0]), weight=left)
        return write.permute(product, swap)
    if len(left.shape) < 2:
        return None
    pair = [x if len(x.dim) > 1 else write.whole(x) for x in (left, right)]
    product = write.layer("MatMul", pair, shape)
    if min(len(x.dim) for x in (left, right)) < 2 and max(len(x.dim) for x in pair) == len(shape):
        return write.reshape(Whole(product.layer, shape), shape)
    return product


def softmax(write: Writer, x: Value, axis: int, name: str, merge: bool = False) -> Value:
    """Write a softmax along an axis of an operator's."""
    source, at = write.axis(x, axis)
    if source is x:
        return write.activation(x, name, merge, dim=at - len(x.dim) - 1)
    out = write.layer("Activation", [source], x.shape, act_name=name, act_params={"dim": at - len(source.dim) - 1})
    return write.reshape(Whole(out.layer, x.shape), x.shape)


def gated(write: Writer, x: Value, axis: int) -> Value:
    """Write a gated linear unit: the first half along an axis times the sigmoid of the second."""
    half = x.shape[axis] // 2
    gate = write.activation(write.take(x, axis, range(half, 2 * half)), "sigmoid")
    return write.multiply(write.take(x, axis, range(half)), gate)


def larger(write: Writer, sides: tuple[Value, Value], shape: tuple[int, ...]) -> Value:
    """Write the larger of two values, entry by entry; both broadcast to `shape`."""
    size = math.prod(shape)
    pair = [write.reshape(broadcast_to(write, side, shape), (1, size, 1)) for side in sides]
    both = write.layer("Concatenate", pair, (1, size, 2), axis=2)
    return write.reshape(write.layer("GlobalPooling", [both], (1, size), method="max"), shape)


def standardized(
    write: Writer, x: Value, groups: int, eps: float | None, weight: Tensor | None, bias: Tensor | None,
    center: bool = True,
) -> Value:  # fmt: skip
    """Write a normalisation of each of `groups` blocks by its own statistics, then factors and shifts."""
    y = write.layer("Standardize", [x], x.shape, groups=groups, eps=eps, center=center)
    return y if weight is None and bias is None else write.scale(y, weight, bias)


def per_channel(values: Tensor | None, x: Value) -> Tensor | None:
    """Give factors or shifts, one a channel, the axes that they need to broadcast against an instance."""
    return None if values is None else values.reshape(-1, *[1] * (len(x.shape) - 2))
