"""Writing the layers of a model. All doors for frameworks use this module.

A `Value` is what a layer (or an input) returns for one instance. Its shape has an axis of 1 for the batch: an RGB image
is ``(1, 3, 32, 32)``. A model may move the batch to another axis, or merge it into one; the 1 then stands there.
`Value.dim` is the shape that a layer sees: without the first axis, if that is the batch's.

Axis 0 of a layer is always the batch. Axis 1 is the first axis of an instance.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Layers that an activation after them can become a part of.
_WITH_ACTIVATION = ("Dense", *(f"Conv{n}D{kind}" for n in (1, 2, 3) for kind in ("", "Transpose")))


@dataclass(frozen=True)
class Value:
    """A value of the model: the layer (or input) that has it, and its shape for one instance."""

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


class Writer:
    """Writes layers, and the small changes of shape between them."""

    def __init__(self) -> None:
        self.layers: list[dict[str, Any]] = []
        self.by_name: dict[str, dict[str, Any]] = {}
        self._numbers: dict[str, int] = {}  # by name: the first number that may be free behind it
        self.anchor = Value("input_1", (1,))  # the model's first input
        self._name = "layer"
        self._place: str | None = None
        self._origin: str | None = None
        #: Activations that became a part of a layer: that layer, and all whose value was its value before.
        self.merges: list[tuple[str, set[str]]] = []

    def at(self, name: str, place: str | None, origin: str | None = None) -> None:
        """Say what the next layers are called, and where they come from: in words, and as a path of modules."""
        self._name, self._place, self._origin = name, place, origin

    def add(self, keys: dict[str, Any], inputs: Sequence[str]) -> str:
        """Write a layer and return its name."""
        name = f"layer_{self._name}" if re.fullmatch(r"input_\d+", self._name) else self._name  # names of the inputs
        unique, number = name, self._numbers.get(name, 2)
        while unique in self.by_name:
            unique, number = f"{name}_{number}", number + 1
        self._numbers[name] = number
        layer = {**keys, "name": unique, "inputs": list(inputs)}
        if self._place is not None:
            layer["place"] = self._place
        if self._origin is not None:
            layer["origin"] = self._origin
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
        return Whole(self.layer("Reshape", [x], x.shape, shape=list(x.shape)).layer, x.shape)

    def activation(self, x: Value, name: str, merge: bool = False, **params: Any) -> Value:
        """Write an activation; `merge` it into the linear layer before it, if there is one that has none yet.

        Merge only where nothing else sees that layer's value, nor that of identities in between, and a softmax only
        where it ends the model.
        """
        layer, same = self.by_name.get(x.layer), {x.layer}
        while merge and layer is not None and layer["type"] == "Skipping":  # dropout: it makes no difference
            layer = self.by_name.get(layer["inputs"][0])
            same.add("" if layer is None else layer["name"])
        if (
            merge
            and layer is not None
            and layer["type"] in _WITH_ACTIVATION
            and layer.get("activation_name", "linear") == "linear"
        ):
            layer["activation_name"], layer["activation_params"] = name, params
            if self._origin is not None:
                layer["activation_origin"] = self._origin
            self.merges.append((layer["name"], same))
            return x
        return self.layer("Activation", [x], x.shape, act_name=name, act_params=params)

    def scale(self, x: Value, factor: Any = None, shift: Any = None) -> Value:
        """Write ``factor x + shift``, constants as numbers or tensors that broadcast against the instance."""
        constants = {"factor": as_constant(factor), "shift": as_constant(shift)}
        shapes = [tuple(c.shape) for c in constants.values() if c is not None]
        shape = broadcast(x.shape, *shapes)
        given: dict[str, Any] = {}
        for key, constant in constants.items():
            if constant is not None:
                given[key] = for_instance(constant, len(Value("", shape).dim))
        return self.layer("Scale", [x], shape, **given)

    def constant(self, value: Tensor) -> Value:
        """Write a constant where an operator wants a value: one entry of the input times 0, plus the constant."""
        size = math.prod(self.anchor.dim)
        entry = self.anchor if len(self.anchor.dim) == 1 else self.layer("Flatten", [self.anchor], (1, size))
        first = entry if size == 1 else self.layer("Take", [entry], (1, 1), axis=1, indices=[0])
        shape = tuple(value.shape)
        dim = Value("", shape).dim or (1,)
        spread = first if len(dim) == 1 else self.layer("Reshape", [first], shape, shape=[1] * len(dim))
        return self.layer("Scale", [spread], shape, factor=torch.zeros(()), shift=as_constant(value).reshape(dim))  # type: ignore[union-attr]

    def add_values(self, terms: Sequence[Value]) -> Value:
        """Write the sum of several values."""
        return self.layer("Add", terms, broadcast(*(x.shape for x in terms)))

    def multiply(self, left: Value, right: Value) -> Value:
        """Write the product of two values."""
        return self.layer("Multiply", [left, right], broadcast(left.shape, right.shape))

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
        return self.reshape(Whole(moved.layer, shape), shape)

    def take(self, x: Value, axis: int, indices: Sequence[int]) -> Value:
        """Write entries along an axis."""
        axis %= len(x.shape)
        shape = (*x.shape[:axis], len(indices), *x.shape[axis + 1 :])
        if list(indices) == list(range(x.shape[axis])):
            return x
        source, at = self.axis(x, axis)
        taken = self.layer("Take", [source], shape, axis=at, indices=list(indices))
        return (
            self.reshape(Whole(taken.layer, shape), shape) if source is not x or shape[0] == 1 != x.shape[0] else taken
        )

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
        return out if x.leads else self.reshape(Whole(out.layer, shape), shape)

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

    def as_output(self, x: Value, taken: Sequence[str]) -> str:
        """Make an output a layer of its own: put an identity after an input, and after what already is an output."""
        if x.layer in self.by_name and x.layer not in taken:
            return x.layer
        self.at("output", None)
        return self.add({"type": "Skipping"}, [x.layer])

    def named(self, names: Mapping[str, tuple[str, int]], layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the part of a spec that says which layer's value each name means.

        Parameters
        ----------
        names : mapping
            For each name the layer that had the value, and how many activations had been merged into layers then.
        layers : sequence of dict
            The layers of the spec; what other layers have is left out.
        """
        there = {layer["name"] for layer in layers}
        found: dict[str, Any] = {}
        for name, (layer, merges) in names.items():
            merged = next((target for target, same in self.merges[merges:] if layer in same), None)
            if merged in there:
                found[name] = {"layer": merged, "before_activation": True}
            elif merged is None and layer in there:
                found[name] = layer
        return found

    def needed(self, outputs: Sequence[str]) -> list[dict[str, Any]]:
        """Return the layers without those that no output needs."""
        needed = set(outputs)
        for layer in reversed(self.layers):
            if layer["name"] in needed:
                needed.update(layer["inputs"])
        return [layer for layer in self.layers if layer["name"] in needed]


class Whole(Value):
    """A value whose layer has all axes of the operator's, even a first one of 1."""

    @property
    def dim(self) -> tuple[int, ...]:
        """Return all axes."""
        return self.shape

    @property
    def leads(self) -> bool:
        """Tell that the batch comes before all axes."""
        return False


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that several shapes broadcast to."""
    return tuple(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]


def as_constant(value: Any) -> Tensor | None:
    """Return a number or a tensor as a tensor."""
    if value is None:
        return None
    return value if isinstance(value, Tensor) else torch.tensor(float(value), dtype=torch.float64)


def for_instance(constant: Tensor, rank: int) -> Tensor:
    """Drop the axis of 1 that stands for the batch, so that a constant broadcasts against an instance."""
    while constant.dim() > rank and constant.shape[0] == 1:
        constant = constant[0]
    return constant.to(torch.float64) if not constant.is_floating_point() else constant


def with_axes(write: Writer, x: Value) -> Value:
    """Return a value that has an axis beside the batch."""
    return x if x.dim else write.reshape(x, (1, 1))


def each(value: int | Sequence[int], axes: int) -> list[int]:
    """Repeat a single number for every axis."""
    entries = [value] if isinstance(value, int) else list(value)
    return entries * axes if len(entries) == 1 else entries


def folding(x: Value, axes: int) -> dict[str, int] | None:
    """Return the keys of a layer that works on channels and `axes` axes behind them.

    What is in the place of the batch there, and is not one instance alone, is folded into it. None for a value with
    another number of axes.
    """
    if x.leads and len(x.dim) == axes + 1:
        return {}
    return {"folded": 1} if not x.leads and len(x.dim) == axes + 2 else None
