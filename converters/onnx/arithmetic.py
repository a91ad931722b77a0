"""The table of ONNX operators: sums, products, quotients, powers, the larger and the smaller, matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from innsight_py.converters.compositions import broadcast_to, larger, matrix_product
from innsight_py.converters.onnx.writer import Call, OnnxWriter, Result, reads, refuse
from innsight_py.converters.writer import Value, broadcast, with_axes

#: A term or a factor: of the model, or a constant.
Term = Value | Tensor


def term(call: Call, i: int) -> Term:
    """Return an input that must be there."""
    x = call[i]
    if x is None:
        raise refuse(call, f"it lacks its input {i + 1}")
    return x


def total(write: OnnxWriter, x: Term, y: Term) -> Term:
    """Write ``x + y``."""
    if isinstance(x, Value) and isinstance(y, Value):
        return write.add_values([x, y])
    if isinstance(x, Value):
        return write.scale(x, None, y)
    return write.scale(y, None, x) if isinstance(y, Value) else x + y


def product(write: OnnxWriter, x: Term, y: Term) -> Term:
    """Write ``x y``, entry by entry."""
    if isinstance(x, Value) and isinstance(y, Value):
        return write.multiply(x, y)
    if isinstance(x, Value):
        return write.scale(x, y)
    return write.scale(y, x) if isinstance(y, Value) else x * y


def difference(write: OnnxWriter, x: Term, y: Term) -> Term:
    """Write ``x - y``."""
    return total(write, x, write.scale(y, -1) if isinstance(y, Value) else -y)


def with_bias(write: OnnxWriter, call: Call, x: Value, bias: Tensor) -> Value | None:
    """Make a constant that is added to a linear layer the layer's bias, if nothing else sees what it is added to."""
    layer = write.by_name.get(x.layer)
    if layer is None or not call.merges or layer.get("bias") is not None or "activation_name" in layer:
        return None
    kind = layer["type"]
    axes = 0 if kind == "Dense" else len(layer["weight"].shape) - 2 if kind.startswith("Conv") else -1
    if axes < 0 or broadcast(x.shape, tuple(bias.shape)) != x.shape or not x.shape:
        return None
    given = bias.reshape(*[1] * (len(x.shape) - bias.dim()), *bias.shape)
    channel = len(x.shape) - 1 - axes
    if any(n != 1 for axis, n in enumerate(given.shape) if axis != channel):
        return None
    layer["bias"] = given.flatten().expand(x.shape[channel]).clone()
    return x


@reads("Add", writes="Add Scale")
def _add(write: OnnxWriter, call: Call) -> Result:
    x, y = term(call, 0), term(call, 1)
    if isinstance(x, Tensor):
        x, y = y, x
    if isinstance(x, Value) and isinstance(y, Tensor) and (merged := with_bias(write, call, x, y)) is not None:
        return merged
    return total(write, x, y)


@reads("Sub", writes="Add Scale")
def _sub(write: OnnxWriter, call: Call) -> Result:
    x, y = term(call, 0), term(call, 1)
    if isinstance(x, Value) and isinstance(y, Tensor) and (merged := with_bias(write, call, x, -y)) is not None:
        return merged
    return difference(write, x, y)


@reads("Mul", writes="Multiply Scale")
def _mul(write: OnnxWriter, call: Call) -> Result:
    return product(write, term(call, 0), term(call, 1))


@reads("Div", writes="Activation Multiply Scale")
def _div(write: OnnxWriter, call: Call) -> Result:
    y = term(call, 1)
    inverse = write.activation(y, "reciprocal") if isinstance(y, Value) else 1 / y.double()
    return product(write, term(call, 0), inverse)


@reads("Neg", writes="Scale")
def _neg(write: OnnxWriter, call: Call) -> Value:
    return write.scale(call.x, -1)


@reads("Sum", writes="Add Scale")
def _sum(write: OnnxWriter, call: Call) -> Result:
    return _all(write, call)


@reads("Mean", writes="Add Scale")
def _mean(write: OnnxWriter, call: Call) -> Result:
    return product(write, _all(write, call), torch.tensor(1 / len(call.inputs), dtype=torch.float64))


def _all(write: OnnxWriter, call: Call) -> Term:
    values = [x for x in call.inputs if isinstance(x, Value)]
    result: Term = write.add_values(values) if len(values) > 1 else values[0]
    for constant in (x for x in call.inputs if isinstance(x, Tensor)):
        result = total(write, result, constant)
    return result


@reads("Max", "Min", writes="Activation Concatenate GlobalPooling Scale Take")
def _extreme(write: OnnxWriter, call: Call) -> Result:
    result = term(call, 0)
    for i in range(1, len(call.inputs)):
        result = bounded(write, result, term(call, i), call.name)
    return result


def bounded(write: OnnxWriter, x: Term, y: Term, name: str) -> Term:
    """Write the larger ("Max") or the smaller ("Min") of two, entry by entry."""
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return torch.maximum(x, y) if name == "Max" else torch.minimum(x, y)
    if isinstance(x, Tensor):
        x, y = y, x
    assert isinstance(x, Value)
    if isinstance(y, Tensor) and y.numel() == 1 and broadcast(x.shape, tuple(y.shape)) == x.shape:
        limit: dict[str, Any] = {"min" if name == "Max" else "max": float(y)}
        return write.activation(x, "clamp", **limit)
    pair = (x, write.as_value(y))
    shape = broadcast(*(side.shape for side in pair))
    if name == "Max":
        return larger(write, pair, shape)
    return write.scale(larger(write, (write.scale(pair[0], -1), write.scale(pair[1], -1)), shape), -1)


@reads("Pow", writes="Activation Multiply Operator Scale")
def _pow(write: OnnxWriter, call: Call) -> Result:
    x, y = term(call, 0), term(call, 1)
    if isinstance(x, Value) and isinstance(y, Tensor) and y.numel() > 0 and bool((y == y.flatten()[0]).all()):
        shape = broadcast(x.shape, tuple(y.shape))
        x = broadcast_to(write, x, shape) if shape != x.shape else x
        exponent = float(y.flatten()[0])
        return x if exponent == 1 else write.activation(x, "pow", exponent=exponent)
    if isinstance(x, Tensor) and isinstance(y, Value) and bool((x > 0).all()):  # a^y = e^(y log a)
        return write.activation(write.scale(y, x.double().log()), "exp")
    pair = [write.as_value(x), write.as_value(y)]
    return write.operator("pow.Tensor_Tensor", pair, broadcast(*(side.shape for side in pair)))


@reads("Mod", writes="Operator")
def _mod(write: OnnxWriter, call: Call) -> Result:
    pair = [write.as_value(term(call, 0)), write.as_value(term(call, 1))]
    name = "fmod.Tensor" if call.get("fmod", 0) else "remainder.Tensor"
    return write.operator(name, pair, broadcast(*(side.shape for side in pair)))


@reads("CumSum", writes="Dense")
def _cumsum(write: OnnxWriter, call: Call) -> Value:
    x = call.x
    axis = int(call.fixed(1, "axis")) % len(x.shape)
    n = x.shape[axis]
    sums = torch.ones(n, n, dtype=torch.float64).tril(-1 if call.get("exclusive", 0) else 0)
    return along(write, x, axis, sums.T if call.get("reverse", 0) else sums)


def along(write: OnnxWriter, x: Value, axis: int, weight: Tensor) -> Value:
    """Write a product with a matrix ``(out, in)`` along an axis."""
    rank, swap = len(x.shape), list(range(len(x.shape)))
    axis %= rank
    swap[axis], swap[-1] = swap[-1], swap[axis]
    turned = write.permute(x, swap)
    y = write.layer("Dense", [with_axes(write, turned)], (*turned.shape[:-1], len(weight)), weight=weight)
    return write.permute(y, swap)


# -- matrix products -------------------------------------------------------------------------------------------------


@reads("Gemm", writes="Add Dense MatMul Scale")
def _gemm(write: OnnxWriter, call: Call) -> Result:
    left, right = (
        turned(write, term(call, i)) if call.get(key, 0) else term(call, i)
        for i, key in enumerate(("transA", "transB"))
    )
    alpha, beta = float(call.get("alpha", 1.0)), float(call.get("beta", 1.0))
    shift = call[2]
    if isinstance(left, Value) and isinstance(right, Tensor) and not isinstance(shift, Value):
        weight = right.T if alpha == 1 else right.T.double() * alpha
        bias = None if shift is None else shift if beta == 1 else shift.double() * beta
        row = bias is None or bias.dim() == 0 or bias.numel() == bias.shape[-1]
        if row:
            bias = None if bias is None else bias.flatten().expand(len(weight)).clone()
            return write.layer("Dense", [left], (left.shape[0], len(weight)), weight=weight, bias=bias)
    y: Term = multiplied(write, call, left, right)
    y = y if alpha == 1 else product(write, y, torch.tensor(alpha, dtype=torch.float64))
    if shift is None:
        return y
    return total(write, y, shift if beta == 1 else product(write, shift, torch.tensor(beta, dtype=torch.float64)))


def turned(write: OnnxWriter, x: Term) -> Term:
    """Write a matrix transposed."""
    if isinstance(x, Tensor):
        return x.transpose(-1, -2)
    rank = len(x.shape)
    return write.permute(x, [*range(rank - 2), rank - 1, rank - 2])


@reads("MatMul", writes="Dense MatMul Scale")
def _matmul(write: OnnxWriter, call: Call) -> Result:
    return multiplied(write, call, term(call, 0), term(call, 1))


def product_shape(left: Sequence[int], right: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a matrix product, of vectors too."""
    lead = broadcast(tuple(left[:-2]), tuple(right[:-2]))
    rows = () if len(left) == 1 else (left[-2],)
    columns = () if len(right) == 1 else (right[-1],)
    return (*lead, *rows, *columns)


def multiplied(write: OnnxWriter, call: Call, left: Term, right: Term) -> Value:
    """Write a matrix product of what need not be of the model, vectors included."""
    shape = product_shape(left.shape, right.shape)
    if len(left.shape) == 1 and isinstance(left, Value):
        left = write.reshape(left, (1, *left.shape))
    elif len(left.shape) == 1 and isinstance(left, Tensor):
        left = left[None]
    if (isinstance(left, Tensor) and isinstance(right, Value) and len(right.shape) == 1) or (
        isinstance(left, Value) and isinstance(right, Value) and len(right.shape) == 1
    ):
        right = write.reshape(right, (*right.shape, 1))
    elif isinstance(right, Tensor) and right.dim() == 1:
        right = right[:, None]
    y = matrix_product(write, left, right, product_shape(left.shape, right.shape))
    if y is None:  # a constant on the left with leading axes
        y = matrix_product(write, write.as_value(left), write.as_value(right), product_shape(left.shape, right.shape))
    if y is None:
        raise refuse(call, f"there is no layer for a product of the shapes {left.shape} and {right.shape}")
    return write.reshape(y, shape)


@reads("Det", writes="Operator")
def _det(write: OnnxWriter, call: Call) -> Value:
    return write.operator("linalg_det", [call.x], call.x.shape[:-2])
