"""The table of ATen operators: how each becomes one or a few layers of the model spec.

Shapes are those of a single instance as ``torch.export`` saw it, with an axis of 1 where the batch was (`Value.shape`);
a layer sees them without it if it comes first (`Value.dim`). Axes of layers count the batch as 0, whether it has
replaced an axis of the operator's or stands before them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from innsight_py.spec import SpecError

#: Layers that an activation after them can become a part of.
_WITH_ACTIVATION = tuple(["Dense", *(f"Conv{n}D{kind}" for n in (1, 2, 3) for kind in ("", "Transpose"))])


@dataclass(frozen=True)
class Value:
    """A value of the traced program: the layer (or input) that has it, and its shape for one instance."""

    layer: str
    shape: tuple[int, ...]

    @property
    def dim(self) -> tuple[int, ...]:
        """Shape as layers see it, without the batch."""
        return self.shape[1:] if self.shape and self.shape[0] == 1 else self.shape

    @property
    def leads(self) -> bool:
        """Whether the first axis is the batch's."""
        return bool(self.shape) and self.shape[0] == 1


class Operator:
    """One call of an ATen operator: its arguments by name, parameters as tensors and values as `Value`."""

    def __init__(self, node: fx.Node, constants: dict[str, Tensor], known: dict[str, Value], place: str) -> None:
        assert isinstance(node.target, torch._ops.OpOverload)
        self.node, self.place = node, place
        self.name = operator_name(node)
        self.arguments: dict[str, Any] = {}
        self._constants, self._known = constants, known
        for i, argument in enumerate(node.target._schema.arguments):
            value = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name, argument.default_value)
            self.arguments[argument.name] = self._resolve(value)

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self._known.get(value.name, self._constants.get(value.name, value))
        if isinstance(value, list | tuple):
            return [self._resolve(entry) for entry in value]
        return value

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument that only some overloads have."""
        return self.arguments.get(name, default)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return tuple(int(n) for n in self.node.meta["val"].shape)

    @property
    def only_user_of_input(self) -> bool:
        """Whether nothing else uses the first input."""
        return len(self.node.all_input_nodes[0].users) == 1


def operator_name(node: fx.Node) -> str:
    """Return the name of an operator, ``"aten::conv2d"``; one that works in place has that of its plain form."""
    assert isinstance(node.target, torch._ops.OpOverload)
    name, dot, overload = node.target.name().partition(".")
    return (name.rstrip("_") if node.target._schema.is_mutable else name) + dot + overload


Reader = Callable[["Writer", Operator], "Value | list[Value] | None"]
TABLE: dict[str, Reader] = {}


class Writer:
    """Writes layers, and the small changes of shape between them."""

    def __init__(self) -> None:
        self.layers: list[dict[str, Any]] = []
        self.by_name: dict[str, dict[str, Any]] = {}
        self.kept: set[str] = set()  # names of fx nodes whose values are outputs of the model
        self._name, self._place = "layer", None

    def at(self, name: str, place: str | None, node: str | None) -> None:
        """Say what the next layers are called, and where they come from."""
        self._name, self._place, self.node = name, place, node

    def add(self, keys: dict[str, Any], inputs: Sequence[str]) -> str:
        """Write a layer and return its name."""
        unique, number = self._name, 2
        while unique in self.by_name or unique.startswith("input_"):
            unique, number = f"{self._name}_{number}", number + 1
        layer = {**keys, "name": unique, "inputs": list(inputs)}
        if self._place is not None:
            layer["place"] = self._place
        self.layers.append(layer)
        self.by_name[unique] = layer
        return unique

    def layer(self, kind: str, inputs: Sequence[Value], shape: tuple[int, ...], /, **keys: Any) -> Value:
        """Write a layer whose result has the shape `shape`."""
        return Value(self.add({"type": kind, **keys}, [x.layer for x in inputs]), shape)

    def reshape(self, x: Value, shape: tuple[int, ...]) -> Value:
        """Give a value another shape; nothing is written where the layers see no difference."""
        target = Value("", shape).dim
        if target == x.dim or (not target and x.dim == (1,)):
            return Value(x.layer, shape) if target == x.dim else self._scalar(x, shape)
        if len(target) == 1 and math.prod(x.dim) == target[0] and len(x.dim) > 1:
            return self.layer("Flatten", [x], shape)
        if not target:
            return self._scalar(x, shape)
        return self.layer("Reshape", [x], shape, shape=list(target))

    def _scalar(self, x: Value, shape: tuple[int, ...]) -> Value:
        return Value(self.reshape(x, (1, 1)).layer, shape)

    def whole(self, x: Value) -> Value:
        """Return a value whose layer has all axes of the operator's, the first one of 1 included."""
        if not x.leads:
            return x
        return _Whole(self.layer("Reshape", [x], x.shape, shape=list(x.shape)).layer, x.shape)

    def activation(self, x: Value, name: str, call: Operator | None = None, **params: Any) -> Value:
        """Write an activation, into the linear layer before it if nothing else sees that layer's value."""
        layer = self.by_name.get(x.layer)
        elementwise = name not in ("softmax", "log_softmax")
        if (
            call is not None
            and layer is not None
            and layer["type"] in _WITH_ACTIVATION
            and layer.get("activation_name", "linear") == "linear"
            and call.only_user_of_input
            and call.node.all_input_nodes[0].name not in self.kept
            and (elementwise or (call.node.name in self.kept and params.get("dim") == -1))
        ):
            layer["activation_name"], layer["activation_params"] = name, params
            return x
        return self.layer("Activation", [x], x.shape, act_name=name, act_params=params)

    def scale(self, x: Value, factor: Any = None, shift: Any = None) -> Value:
        """Write ``factor x + shift``, constants as numbers or tensors that broadcast against the instance."""
        constants = {"factor": _constant(factor), "shift": _constant(shift)}
        shapes = [tuple(c.shape) for c in constants.values() if c is not None]
        shape = tuple(torch.broadcast_shapes(x.shape, *shapes))
        given: dict[str, Any] = {}
        for key, constant in constants.items():
            if constant is not None:
                given[key] = _for_instance(constant, len(Value("", shape).dim))
        return self.layer("Scale", [x], shape, **given)

    def add_values(self, terms: Sequence[Value]) -> Value:
        """Write the sum of several values."""
        return self.layer("Add", terms, tuple(torch.broadcast_shapes(*(x.shape for x in terms))))

    def multiply(self, left: Value, right: Value) -> Value:
        """Write the product of two values."""
        return self.layer("Multiply", [left, right], tuple(torch.broadcast_shapes(left.shape, right.shape)))

    def axis(self, x: Value, axis: int) -> tuple[Value, int]:
        """Return a value and the axis of its layer that an operator means by `axis`."""
        axis %= len(x.shape)
        if x.leads and axis > 0:
            return x, axis
        return self.whole(x), axis + 1

    def permute(self, x: Value, order: Sequence[int]) -> Value:
        """Write the axes of an operator in another order."""
        order = [axis % len(x.shape) for axis in order]
        shape = tuple(x.shape[axis] for axis in order)
        ones = [axis for axis in range(len(order)) if x.shape[axis] > 1]
        if [axis for axis in order if x.shape[axis] > 1] == ones:  # only axes of 1 have moved
            return self.reshape(x, shape)
        if order[0] == 0 and x.leads:
            return self.layer("Permute", [x], shape, axes=order[1:])
        moved = self.layer("Permute", [self.whole(x)], shape, axes=[axis + 1 for axis in order])
        return self.reshape(_Whole(moved.layer, shape), shape)

    def take(self, x: Value, axis: int, indices: Sequence[int]) -> Value:
        """Write entries along an axis."""
        axis %= len(x.shape)
        shape = (*x.shape[:axis], len(indices), *x.shape[axis + 1 :])
        if list(indices) == list(range(x.shape[axis])):
            return x
        source, at = self.axis(x, axis)
        taken = self.layer("Take", [source], shape, axis=at, indices=list(indices))
        return self.reshape(_Whole(taken.layer, shape), shape) if source is not x or shape[0] == 1 != x.shape[0] else taken

    def reduce(self, x: Value, method: str, axes: Sequence[int], keepdims: bool) -> Value:
        """Write a sum or a mean over some axes of an operator's (all, where none are named)."""
        rank = len(x.shape)
        axes = sorted({axis % rank for axis in axes} if axes else range(rank))
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        if math.prod(x.shape[axis] for axis in axes) == 1:
            out = x
        elif x.leads:
            inner = [axis for axis in axes if axis > 0]
            out = self._reduced(x, method, inner, shape)
        else:
            out = self._reduced(x, method, [axis + 1 for axis in axes], shape)
        final = shape if keepdims else tuple(n for i, n in enumerate(x.shape) if i not in axes)
        return self.reshape(out, final)

    def _reduced(self, x: Value, method: str, axes: list[int], shape: tuple[int, ...]) -> Value:
        rank = len(x.dim) + 1
        if method == "mean" and rank > 2 and axes == list(range(2, rank)):
            return self.layer("GlobalPooling", [x], shape, method="average", keepdims=True)
        out = self.layer("Reduce", [x], shape, method=method, axes=axes, keepdims=True)
        return out if x.leads else self.reshape(_Whole(out.layer, shape), shape)

    def maximum(self, x: Value, axes: Sequence[int], keepdims: bool) -> Value:
        """Write the maximum over some axes: as a global pooling, to which other axes are brought."""
        rank = len(x.shape)
        axes = sorted({axis % rank for axis in axes} if axes else range(rank))
        rest = [i for i in range(rank) if i not in axes]
        kept = tuple(x.shape[i] for i in rest)
        final = tuple(1 if i in axes else n for i, n in enumerate(x.shape)) if keepdims else kept
        if x.leads and rank > 2 and axes == list(range(2, rank)):
            return self.layer("GlobalPooling", [x], final, method="max", keepdims=keepdims)
        ordered = self.permute(x, [*rest, *axes])
        grouped = self.reshape(ordered, (1, math.prod(kept), math.prod(x.shape[axis] for axis in axes)))
        pooled = self.layer("GlobalPooling", [grouped], (1, math.prod(kept)), method="max")
        return self.reshape(pooled, final)


class _Whole(Value):
    """A value whose layer has all axes of the operator's, even a first one of 1."""

    @property
    def dim(self) -> tuple[int, ...]:
        return self.shape

    @property
    def leads(self) -> bool:
        return False


def _constant(value: Any) -> Tensor | None:
    if value is None:
        return None
    return value if isinstance(value, Tensor) else torch.tensor(float(value), dtype=torch.float64)


def _for_instance(constant: Tensor, rank: int) -> Tensor:
    """Drop the axis of 1 that stands for the batch, so that a constant broadcasts against an instance."""
    while constant.dim() > rank and constant.shape[0] == 1:
        constant = constant[0]
    return constant.to(torch.float64) if not constant.is_floating_point() else constant


def translates(*operators: str) -> Callable[[Reader], Reader]:
    """Enter a reader into the table, once for each operator."""

    def enter(reader: Reader) -> Reader:
        for name in operators:
            full = f"aten::{name}"
            if full in TABLE:
                raise ValueError(f"The operator {full} has two entries.")
            TABLE[full] = reader
        return reader

    return enter


def without_one(write: Writer, call: Operator, shape: tuple[int, ...], part: int | None) -> Value:
    """Write a layer that runs the operator itself, which only the gradient methods can work through."""
    inputs: list[Value] = []

    def argument(value: Any) -> Any:
        if isinstance(value, Value):
            inputs.append(value)
            return {"input": len(inputs) - 1}
        if isinstance(value, list | tuple):
            return [argument(entry) for entry in value]
        if isinstance(value, fx.Node):
            raise refuse(call, "it uses a result of another operator that has no layer")
        return value

    overload = call.node.target
    assert isinstance(overload, torch._ops.OpOverload)
    if any(a.kwarg_only and call[a.name] != a.default_value for a in overload._schema.arguments):
        raise refuse(call, "it has options that a layer cannot hold")
    arguments = [argument(call[a.name]) for a in overload._schema.arguments if not a.kwarg_only]
    return write.layer(
        "Operator", inputs, shape, operator=call.name, arguments=arguments, shapes=[x.shape for x in inputs], part=part
    )


def refuse(call: Operator, why: str) -> SpecError:
    """Build the error for a call that cannot be converted."""
    return SpecError(f"The operator {call.name} at {call.place} cannot be converted: {why}.")


# -- linear layers ----------------------------------------------------------------------------------------------


@translates("linear")
def _linear(write: Writer, call: Operator) -> Value | None:
    x, weight = call["input"], call["weight"]
    if not isinstance(x, Value) or not isinstance(weight, Tensor):
        return None
    return write.layer("Dense", [_with_axes(write, x)], call.shape, weight=weight, bias=call["bias"])


def _with_axes(write: Writer, x: Value) -> Value:
    """Return a value that has an axis beside the batch."""
    return x if x.dim else write.reshape(x, (1, 1))


@translates("addmm")
def _addmm(write: Writer, call: Operator) -> Value | None:
    x, weight, bias = call["mat1"], call["mat2"], call["self"]
    if not (isinstance(x, Value) and isinstance(weight, Tensor) and isinstance(bias, Tensor) and bias.dim() == 1):
        return None
    if call["beta"] != 1 or call["alpha"] != 1:
        return None
    return write.layer("Dense", [x], call.shape, weight=weight.T, bias=bias)


@translates("mm", "bmm", "matmul")
def _matmul(write: Writer, call: Operator) -> Value | None:
    left, right = call["self"], call.get("other", call.get("mat2"))
    return matrix_product(write, left, right, call.shape)


def matrix_product(write: Writer, left: Any, right: Any, shape: tuple[int, ...]) -> Value | None:
    """Write a matrix product, of two values or of a value and a constant matrix."""
    while isinstance(right, Tensor) and right.dim() > 2 and right.shape[0] == 1:
        right = right[0]
    while isinstance(left, Tensor) and left.dim() > 2 and left.shape[0] == 1:
        left = left[0]
    if isinstance(right, Tensor):
        if right.dim() == 1 and isinstance(left, Value):
            column = write.layer("Dense", [_with_axes(write, left)], (*left.shape[:-1], 1), weight=right[None])
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
        return write.reshape(_Whole(product.layer, shape), shape)
    return product


@translates(
    "conv1d", "conv2d", "conv3d", "conv1d.padding", "conv2d.padding", "conv3d.padding", "convolution"
)  # fmt: skip
def _convolution(write: Writer, call: Operator) -> Value | None:
    x, weight = call["input"], call["weight"]
    if not isinstance(weight, Tensor) or not isinstance(x, Value) or not x.leads:
        return None
    if call.get("transposed"):
        return _transposed(write, call)
    axes = weight.dim() - 2
    dilation = _each(call["dilation"], axes)
    return write.layer(
        f"Conv{axes}D", [x], call.shape, weight=weight, bias=call["bias"], stride=_each(call["stride"], axes),
        dilation=dilation, padding=_sides(call["padding"], weight.shape[2:], dilation), groups=call["groups"],
    )  # fmt: skip


@translates("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input")
def _transposed(write: Writer, call: Operator) -> Value | None:
    x, weight = call["input"], call["weight"]
    if not isinstance(weight, Tensor) or not isinstance(x, Value) or not x.leads:
        return None
    axes = weight.dim() - 2
    each = {key: _each(call[key], axes) for key in ("stride", "padding", "output_padding", "dilation")}
    return write.layer(
        f"Conv{axes}DTranspose", [x], call.shape, weight=weight, bias=call["bias"], groups=call["groups"], **each
    )


def _each(value: int | Sequence[int], axes: int) -> list[int]:
    entries = [value] if isinstance(value, int) else list(value)
    return entries * axes if len(entries) == 1 else entries


def _sides(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Write padding as (left, right[, top, bottom[, front, back]])."""
    if padding == "valid":
        pairs = [(0, 0) for _ in kernel]
    elif padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        pairs = [(total // 2, total - total // 2) for total in totals]
    else:
        pairs = [(p, p) for p in _each(padding, len(kernel))]
    return [side for pair in reversed(pairs) for side in pair]


# -- pooling ----------------------------------------------------------------------------------------------------


@translates(
    "max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices",
    "max_pool1d_with_indices",
)  # fmt: skip
def _max_pooling(write: Writer, call: Operator) -> Value | list[Value] | None:
    x = call["self"]
    axes = int(call.name[len("aten::max_pool")])
    if not x.leads or len(x.dim) != axes + 1:
        return None
    kernel = _each(call["kernel_size"], axes)
    several = "indices" in call.name
    shape = tuple(int(n) for n in call.node.meta["val"][0].shape) if several else call.shape
    pooled = write.layer(
        f"MaxPooling{axes}D", [x], shape, kernel_size=kernel, padding=_each(call["padding"], axes),
        strides=_each(call["stride"], axes) if call["stride"] else kernel,
        dilation=_each(call["dilation"], axes), ceil_mode=call["ceil_mode"],
    )  # fmt: skip
    return [pooled] if several else pooled


@translates("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _average_pooling(write: Writer, call: Operator) -> Value | None:
    x = call["self"]
    axes = int(call.name[len("aten::avg_pool")])
    if not x.leads or len(x.dim) != axes + 1:
        return None
    kernel = _each(call["kernel_size"], axes)
    divisor = call.get("divisor_override")
    if divisor is not None and (call["ceil_mode"] or not call["count_include_pad"]):
        return None
    pooled = write.layer(
        f"AveragePooling{axes}D", [x], call.shape, kernel_size=kernel, padding=_each(call["padding"], axes),
        strides=_each(call["stride"], axes) if call["stride"] else kernel,
        ceil_mode=call["ceil_mode"], count_include_pad=call["count_include_pad"],
    )  # fmt: skip
    return pooled if divisor is None else write.scale(pooled, factor=math.prod(kernel) / divisor)


@translates("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d")
def _adaptive_average(write: Writer, call: Operator) -> Value | None:
    return _adaptive(write, call, "average", call.shape)


@translates("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def _adaptive_max(write: Writer, call: Operator) -> list[Value] | None:
    pooled = _adaptive(write, call, "max", tuple(int(n) for n in call.node.meta["val"][0].shape))
    return None if pooled is None else [pooled]


def _adaptive(write: Writer, call: Operator, method: str, shape: tuple[int, ...]) -> Value | None:
    x, size = call["self"], list(call["output_size"])
    if not x.leads or len(x.dim) != len(size) + 1:
        return None
    if set(size) == {1}:
        return write.layer("GlobalPooling", [x], shape, method=method, keepdims=True)
    return write.layer("AdaptivePooling", [x], shape, method=method, output_size=size)


# -- reductions -------------------------------------------------------------------------------------------------


@translates("sum.dim_IntList", "mean.dim", "sum", "mean")
def _reduce(write: Writer, call: Operator) -> Value:
    method = "mean" if "mean" in call.name else "sum"
    return write.reduce(call["self"], method, call.get("dim") or [], bool(call.get("keepdim")))


@translates("amax")
def _amax(write: Writer, call: Operator) -> Value:
    return write.maximum(call["self"], call["dim"], call["keepdim"])


@translates("max.dim")
def _max_dim(write: Writer, call: Operator) -> list[Value]:
    return [write.maximum(call["self"], [call["dim"]], call["keepdim"])]


@translates("amin")
def _amin(write: Writer, call: Operator) -> Value:
    return write.scale(write.maximum(write.scale(call["self"], -1), call["dim"], call["keepdim"]), -1)


@translates("min.dim")
def _min_dim(write: Writer, call: Operator) -> list[Value]:
    return [write.scale(write.maximum(write.scale(call["self"], -1), [call["dim"]], call["keepdim"]), -1)]


@translates("maximum", "minimum")
def _larger(write: Writer, call: Operator) -> Value | None:
    x, y = call["self"], call["other"]
    if not isinstance(x, Value) or not isinstance(y, Value):
        return None
    sign = 1 if "max" in call.name else -1  # max(x, y) = x + relu(y - x), min(x, y) = x - relu(x - y)
    difference = write.add_values([write.scale(y, sign), write.scale(x, -sign)])
    return write.add_values([x, write.scale(write.activation(difference, "relu"), sign)])


@translates("var.correction", "var.dim", "std.correction", "std.dim")
def _variance(write: Writer, call: Operator) -> Value | None:
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


@translates("linalg_vector_norm")
def _norm(write: Writer, call: Operator) -> Value | None:
    x, axes = call["self"], call["dim"] or []
    if call["ord"] == 1:
        return write.reduce(write.activation(x, "abs"), "sum", axes, call["keepdim"])
    if call["ord"] != 2:
        return None
    squares = write.reduce(write.activation(x, "pow", exponent=2.0), "sum", axes, call["keepdim"])
    return write.activation(squares, "sqrt")


@translates("logsumexp")
def _logsumexp(write: Writer, call: Operator) -> Value | None:
    x = call["self"]
    if len(call["dim"]) != 1:
        return None
    axis = call["dim"][0] % len(x.shape)
    # x - log_softmax(x) is the same along the axis; its first entry will do.
    first, normalised = write.take(x, axis, [0]), write.take(softmax(write, x, axis, "log_softmax"), axis, [0])
    total = write.add_values([first, write.scale(normalised, -1)])
    return write.reshape(total, call.shape)


@translates("cumsum")
def _cumsum(write: Writer, call: Operator) -> Value:
    x = call["self"]
    axis, last = call["dim"] % len(x.shape), len(x.shape) - 1
    swap = [last if i == axis else axis if i == last else i for i in range(len(x.shape))]
    n = x.shape[axis]
    turned = write.permute(x, swap)
    sums = write.layer("Dense", [_with_axes(write, turned)], turned.shape, weight=torch.ones(n, n).tril())
    return write.permute(sums, swap)


# -- normalisation ----------------------------------------------------------------------------------------------


@translates("_native_batch_norm_legit_no_training")
def _batch_norm(write: Writer, call: Operator) -> list[Value] | None:
    x, mean = call["input"], call["running_mean"]
    if not isinstance(mean, Tensor) or not x.leads:
        return None
    normalised = write.layer(
        "BatchNorm", [x], x.shape, gamma=torch.ones_like(mean) if call["weight"] is None else call["weight"],
        beta=call["bias"], run_mean=mean, run_var=call["running_var"], eps=call["eps"],
    )  # fmt: skip
    return [normalised]


@translates("batch_norm")
def _plain_batch_norm(write: Writer, call: Operator) -> Value | None:
    if call["training"]:
        return None
    normalised = _batch_norm(write, call)
    return None if normalised is None else normalised[0]


@translates("layer_norm", "native_layer_norm")
def _layer_norm(write: Writer, call: Operator) -> Value | list[Value]:
    x = call["input"]
    lead = x.shape[: len(x.shape) - len(call["normalized_shape"])]
    y = write.layer("Standardize", [x], x.shape, groups=math.prod(lead), eps=call["eps"])
    y = _affine(write, y, call["weight"], call["bias"])
    return [y] if "native" in call.name else y


@translates("rms_norm")
def _rms_norm(write: Writer, call: Operator) -> Value:
    x = call["input"]
    lead = x.shape[: len(x.shape) - len(call["normalized_shape"])]
    y = write.layer("Standardize", [x], x.shape, groups=math.prod(lead), eps=call["eps"], center=False)
    return _affine(write, y, call["weight"], None)


@translates("group_norm")
def _group_norm(write: Writer, call: Operator) -> Value | None:
    x = call["input"]
    if not x.leads:
        return None
    y = write.layer("Standardize", [x], x.shape, groups=call["num_groups"], eps=call["eps"])
    return _affine(write, y, _per_channel(call["weight"], x), _per_channel(call["bias"], x))


@translates("instance_norm")
def _instance_norm(write: Writer, call: Operator) -> Value | None:
    x = call["input"]
    if not x.leads or not call["use_input_stats"]:
        return None
    y = write.layer("Standardize", [x], x.shape, groups=x.dim[0], eps=call["eps"])
    return _affine(write, y, _per_channel(call["weight"], x), _per_channel(call["bias"], x))


def _per_channel(values: Tensor | None, x: Value) -> Tensor | None:
    return None if values is None else values.reshape(-1, *[1] * (len(x.dim) - 1))


def _affine(write: Writer, x: Value, weight: Tensor | None, bias: Tensor | None) -> Value:
    return x if weight is None and bias is None else write.scale(x, weight, bias)


# -- arithmetic -------------------------------------------------------------------------------------------------


@translates("add.Tensor", "add.Scalar")
def _add(write: Writer, call: Operator) -> Value:
    return _sum(write, call["self"], call["other"], 1, call["alpha"])


@translates("sub.Tensor", "sub.Scalar")
def _sub(write: Writer, call: Operator) -> Value:
    return _sum(write, call["self"], call["other"], 1, -call["alpha"])


@translates("rsub.Scalar", "rsub.Tensor")
def _rsub(write: Writer, call: Operator) -> Value:
    return _sum(write, call["other"], call["self"], 1, -call["alpha"])


def _sum(write: Writer, x: Any, y: Any, a: float, b: float) -> Value:
    """Write ``a x + b y``, where one of the two may be a constant."""
    if not isinstance(x, Value):
        return write.scale(y, None if b == 1 else b, _constant(x) * a)  # type: ignore[operator]
    if not isinstance(y, Value):
        return write.scale(x, None if a == 1 else a, _constant(y) * b)  # type: ignore[operator]
    return write.add_values([x if a == 1 else write.scale(x, a), y if b == 1 else write.scale(y, b)])


@translates("mul.Tensor", "mul.Scalar")
def _mul(write: Writer, call: Operator) -> Value:
    x, y = call["self"], call["other"]
    if isinstance(x, Value) and isinstance(y, Value):
        return write.multiply(x, y)
    return write.scale(x, y) if isinstance(x, Value) else write.scale(y, x)


@translates("div.Tensor", "div.Scalar")
def _div(write: Writer, call: Operator) -> Value:
    x, y = call["self"], call["other"]
    if not isinstance(y, Value):
        return write.scale(x, 1 / _constant(y).double())  # type: ignore[union-attr]
    inverse = write.activation(y, "reciprocal")
    return write.multiply(x, inverse) if isinstance(x, Value) else write.scale(inverse, x)


@translates("neg")
def _neg(write: Writer, call: Operator) -> Value:
    return write.scale(call["self"], -1)


@translates("where.self", "masked_fill.Scalar", "masked_fill.Tensor")
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
        return torch.where(where > 0, _constant(value).double(), 0.0)  # type: ignore[union-attr]

    first, second = part(x, keep), part(y, 1 - keep)
    if isinstance(first, Value) and isinstance(second, Value):
        return write.add_values([first, second])
    if isinstance(first, Value):
        return write.scale(first, None, second)
    return write.scale(second, None, first) if isinstance(second, Value) else None


# -- activations ------------------------------------------------------------------------------------------------


def _elementwise(name: str, *params: str) -> Reader:
    """Build the reader of an element-wise function, with the names of the parameters that it takes from the call."""

    def read(write: Writer, call: Operator) -> Value:
        given = {param: call[param] for param in params}
        values = {key: float(value) if isinstance(value, int) else value for key, value in given.items()}
        return write.activation(call["self"], name, call, **values)

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
    translates(_operator)(_elementwise(_name, *_params))


@translates("elu")
def _elu(write: Writer, call: Operator) -> Value | None:
    if call["scale"] != 1 or call["input_scale"] != 1:
        return None
    return write.activation(call["self"], "elu", call, alpha=float(call["alpha"]))


@translates("clamp", "clamp_min", "clamp_max", "clamp.Tensor")
def _clamp(write: Writer, call: Operator) -> Value | None:
    bounds = {key: call.get(key) for key in ("min", "max")}
    if any(isinstance(b, Value) or (isinstance(b, Tensor) and b.numel() > 1) for b in bounds.values()):
        return None
    params = {key: float(value) for key, value in bounds.items() if value is not None}
    return write.activation(call["self"], "clamp", call, **params)


@translates("prelu", "_prelu_kernel")
def _prelu(write: Writer, call: Operator) -> Value | None:
    x, weight = call["self"], call["weight"]
    if not isinstance(weight, Tensor) or (weight.numel() > 1 and not x.leads):
        return None
    slopes = [float(w) for w in weight.double().flatten()]
    return write.activation(x, "prelu", call, weight=slopes)


@translates("softmax.int", "_softmax", "log_softmax.int", "_log_softmax")
def _softmax(write: Writer, call: Operator) -> Value:
    return softmax(write, call["self"], call["dim"], "log_softmax" if "log" in call.name else "softmax", call)


def softmax(write: Writer, x: Value, axis: int, name: str, call: Operator | None = None) -> Value:
    """Write a softmax along an axis of an operator's."""
    source, at = write.axis(x, axis)
    if source is x:
        return write.activation(x, name, call, dim=at - len(x.dim) - 1)
    out = write.layer("Activation", [source], x.shape, act_name=name, act_params={"dim": at - len(source.dim) - 1})
    return write.reshape(_Whole(out.layer, x.shape), x.shape)


@translates("glu")
def _glu(write: Writer, call: Operator) -> Value:
    x = call["self"]
    half = x.shape[call["dim"]] // 2
    gate = write.activation(write.take(x, call["dim"], range(half, 2 * half)), "sigmoid")
    return write.multiply(write.take(x, call["dim"], range(half)), gate)


@translates("scaled_dot_product_attention")
def _attention(write: Writer, call: Operator) -> Value | None:
    query, key, value, mask = call["query"], call["key"], call["value"], call["attn_mask"]
    if call["dropout_p"] or call.get("enable_gqa") or not all(isinstance(v, Value) for v in (query, key, value)):
        return None
    if isinstance(mask, Value):
        return None
    rows, columns = query.shape[-2], key.shape[-2]
    if call["is_causal"]:
        mask = torch.ones(rows, columns, dtype=torch.bool).tril()
    rank = len(key.shape)
    turned = write.permute(key, [*range(rank - 2), rank - 1, rank - 2])
    scale = call["scale"] if call["scale"] is not None else 1 / math.sqrt(query.shape[-1])
    logits = matrix_product(write, query, turned, (*query.shape[:-1], columns))
    if logits is None:
        return None
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.where(mask, 0.0, -math.inf)
    weights = softmax(write, write.scale(logits, scale, mask), -1, "softmax")
    return matrix_product(write, weights, value, call.shape)


# -- structure --------------------------------------------------------------------------------------------------


@translates(
    "view", "reshape", "_unsafe_view", "flatten.using_ints", "unflatten.int", "squeeze", "squeeze.dim", "squeeze.dims",
    "unsqueeze",
)  # fmt: skip
def _reshape(write: Writer, call: Operator) -> Value:
    return write.reshape(call["self"], call.shape)


@translates("permute", "transpose.int", "t", "movedim.int")
def _permute(write: Writer, call: Operator) -> Value:
    x = call["self"]
    rank = len(x.shape)
    if "permute" in call.name:
        return write.permute(x, call["dims"])
    order = list(range(rank))
    if "movedim" in call.name:
        order.insert(call["destination"] % rank, order.pop(call["source"] % rank))
    else:
        a, b = (0, rank - 1) if call.name == "aten::t" else (call["dim0"] % rank, call["dim1"] % rank)
        order[a], order[b] = order[b], order[a]
    return write.permute(x, order)


@translates("cat", "concat", "concatenate")
def _cat(write: Writer, call: Operator) -> Value:
    return concatenate(write, call["tensors"], call["dim"], call.shape)


@translates("stack")
def _stack(write: Writer, call: Operator) -> Value:
    axis = call["dim"] % len(call.shape)

    def with_axis(x: Any) -> Any:
        if isinstance(x, Tensor):
            return x.unsqueeze(axis)
        return write.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))

    return concatenate(write, [with_axis(x) for x in call["tensors"]], axis, call.shape)


def concatenate(write: Writer, tensors: Sequence[Any], axis: int, shape: tuple[int, ...]) -> Value:
    """Write a concatenation; constants among the parts become padding with zeros and a shift."""
    axis %= len(shape)
    tensors = [t for t in tensors if not (isinstance(t, Tensor) and t.dim() == 1 and t.numel() == 0)]
    parts = [t for t in tensors if isinstance(t, Value)]
    if len(parts) < len(tensors):
        zeros = [t if isinstance(t, Tensor) else torch.zeros(t.shape) for t in tensors]
        placed, before = [], 0
        for t in tensors:
            if isinstance(t, Value):
                placed.append(_padded(write, t, axis, before, shape[axis] - before - t.shape[axis]))
            before += t.shape[axis]
        total = placed[0] if len(placed) == 1 else write.add_values(placed)
        return write.scale(total, None, torch.cat([z.double() for z in zeros], axis))
    if axis > 0 and shape[0] == 1:
        return write.layer("Concatenate", parts, shape, axis=axis)
    joined = write.layer("Concatenate", [write.whole(x) for x in parts], shape, axis=axis + 1)
    return write.reshape(_Whole(joined.layer, shape), shape)


def _padded(write: Writer, x: Value, axis: int, before: int, after: int) -> Value:
    """Pad one axis with zeros."""
    shape = (*x.shape[:axis], x.shape[axis] + before + after, *x.shape[axis + 1 :])
    source, _ = write.axis(x, axis)
    sides = [0, 0] * (len(x.shape) - 1 - axis) + [before, after]
    padded = write.layer("Padding", [source], shape, padding=sides)
    return padded if source is x else write.reshape(_Whole(padded.layer, shape), shape)


@translates("slice.Tensor")
def _slice(write: Writer, call: Operator) -> Value:
    x, axis = call["self"], call["dim"]
    return write.take(x, axis, range(x.shape[axis])[slice(call["start"], call["end"], call["step"])])


@translates("select.int")
def _select(write: Writer, call: Operator) -> Value:
    x, axis = call["self"], call["dim"]
    return write.reshape(write.take(x, axis, [call["index"] % x.shape[axis]]), call.shape)


@translates("index_select")
def _index_select(write: Writer, call: Operator) -> Value | None:
    if not isinstance(call["index"], Tensor):
        return None
    return write.take(call["self"], call["dim"], call["index"].tolist())


@translates("index.Tensor")
def _index(write: Writer, call: Operator) -> Value | None:
    x, indices = call["self"], call["indices"]
    if any(not isinstance(index, Tensor) for index in indices if index is not None):
        return None
    given = [axis for axis, index in enumerate(indices) if index is not None]
    if len(given) != 1 or indices[given[0]].dtype == torch.bool:
        return gather(write, call, x)
    axis, index = given[0], indices[given[0]]
    taken = write.take(x, axis, [int(i) % x.shape[axis] for i in index.flatten()])
    return write.reshape(taken, call.shape)


@translates("diagonal", "unfold", "as_strided")
def _gather(write: Writer, call: Operator) -> Value:
    return gather(write, call, call["self"])


def gather(write: Writer, call: Operator, x: Value) -> Value:
    """Write an operator that only picks entries: run it on the numbers of the entries to see which."""
    overload = call.node.target
    assert isinstance(overload, torch._ops.OpOverload)
    numbers = torch.arange(math.prod(x.shape)).reshape(x.shape)
    picked = overload(*[numbers if isinstance(call[a.name], Value) else call[a.name] for a in overload._schema.arguments])
    flat = write.reshape(x, (1, math.prod(x.shape)))
    return write.reshape(write.take(flat, 1, picked.flatten().tolist()), call.shape)


@translates("split.Tensor", "split_with_sizes", "chunk", "unbind.int")
def _split(write: Writer, call: Operator) -> list[Value]:
    x, axis = call["self"], call["dim"]
    parts, start = [], 0
    for part in call.node.meta["val"]:
        shape = tuple(int(n) for n in part.shape)
        length = 1 if "unbind" in call.name else shape[axis]
        parts.append(write.reshape(write.take(x, axis, range(start, start + length)), shape))
        start += length
    return parts


@translates("expand", "expand_as")
def _expand(write: Writer, call: Operator) -> Value:
    x, shape = call["self"], call.shape
    x = write.reshape(x, (*[1] * (len(shape) - len(x.shape)), *x.shape))
    for axis, (n, wanted) in enumerate(zip(x.shape, shape, strict=True)):
        if n != wanted:
            x = write.take(x, axis, [0] * wanted)
    return x


@translates("repeat")
def _repeat(write: Writer, call: Operator) -> Value:
    x, repeats = call["self"], call["repeats"]
    x = write.reshape(x, (*[1] * (len(repeats) - len(x.shape)), *x.shape))
    for axis, times in enumerate(repeats):
        x = write.take(x, axis, list(range(x.shape[axis])) * times)
    return x


@translates("flip")
def _flip(write: Writer, call: Operator) -> Value:
    x = call["self"]
    for axis in call["dims"]:
        x = write.take(x, axis, range(x.shape[axis])[::-1])
    return x


@translates("roll")
def _roll(write: Writer, call: Operator) -> Value | None:
    x = call["self"]
    if not call["dims"]:
        return None
    for axis, by in zip(call["dims"], call["shifts"], strict=True):
        n = x.shape[axis]
        x = write.take(x, axis, [(i - by) % n for i in range(n)])
    return x


@translates("pad", "constant_pad_nd")
def _pad(write: Writer, call: Operator) -> Value | None:
    x, sides = call["self"], list(call["pad"])
    mode, value = call.get("mode", "constant"), call.get("value") or 0
    if mode != "constant" and (min(sides) < 0 or not x.leads):
        return None
    source = x if x.leads and len(sides) // 2 < len(x.shape) else write.whole(x)
    padded = write.layer("Padding", [source], call.shape, padding=sides, mode=mode, value=float(value))
    return padded if source is x else write.reshape(_Whole(padded.layer, call.shape), call.shape)


@translates(
    "upsample_nearest1d.vec", "upsample_nearest2d.vec", "upsample_nearest3d.vec", "upsample_linear1d.vec",
    "upsample_bilinear2d.vec", "upsample_trilinear3d.vec", "upsample_bicubic2d.vec", "_upsample_nearest_exact1d.vec",
    "_upsample_nearest_exact2d.vec", "_upsample_nearest_exact3d.vec",
)  # fmt: skip
def _resize(write: Writer, call: Operator) -> Value | None:
    x = call["input"]
    if not x.leads:
        return None
    mode = call.name.removeprefix("aten::").lstrip("_").removeprefix("upsample_").partition(".")[0][:-2]
    keys: dict[str, Any] = {"size": list(call.shape[2:]), "mode": mode.replace("_", "-")}
    if "align_corners" in call.arguments:
        keys["align_corners"] = call["align_corners"]
    if call["scale_factors"]:
        keys["scale_factor"] = [float(factor) for factor in call["scale_factors"]]
    return write.layer("Resize", [x], call.shape, **keys)


@translates("pixel_shuffle", "pixel_unshuffle")
def _pixel_shuffle(write: Writer, call: Operator) -> Value:
    x = call["self"]
    lead, (channels, height, width) = x.shape[:-3], x.shape[-3:]
    n = len(lead)
    if "unshuffle" in call.name:
        r = call["downscale_factor"]
        cut = write.reshape(x, (*lead, channels, height // r, r, width // r, r))
        return write.reshape(write.permute(cut, [*range(n), n, n + 2, n + 4, n + 1, n + 3]), call.shape)
    r = call["upscale_factor"]
    cut = write.reshape(x, (*lead, channels // r**2, r, r, height, width))
    return write.reshape(write.permute(cut, [*range(n), n, n + 3, n + 1, n + 4, n + 2]), call.shape)


@translates("detach")
def _detach(write: Writer, call: Operator) -> Value:
    """Stop gradients, as the model asks for; what else it should mean the other methods cannot know."""
    return without_one(write, call, call.shape, None)


@translates(
    "clone", "dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout", "contiguous",
    "alias", "lift_fresh_copy", "_to_copy", "to.dtype", "to.dtype_layout", "to.device", "type_as",
)  # fmt: skip
def _identity(write: Writer, call: Operator) -> Value | list[Value] | None:
    x = call.get("input", call.get("self"))
    if call.get("train", False):
        raise refuse(call, "it drops values at random even at prediction time")
    several = isinstance(call.node.meta["val"], tuple | list)
    result = call.node.meta["val"][0] if several else call.node.meta["val"]
    if not result.is_floating_point():
        raise refuse(call, "it turns values into whole numbers")
    name = write.add({"type": "Skipping"}, [x.layer]) if "dropout" in call.name else x.layer
    return [Value(name, x.shape)] if several else Value(name, x.shape)
