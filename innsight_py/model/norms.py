"""Normalisations that a model writes by hand are read as one layer, whose rules are well conditioned.

``x * rsqrt(mean(x^2) + eps)`` is a product of two values. DeepLift's rule for products would multiply by the mean of
the factor at row and reference, about 1000 at a reference of 0, once for each norm. So a product whose one factor is
made of the other's squares becomes a `Standardize` layer::

    x ──┬─────────────────────────────── multiply        becomes     x ─ Standardize(eps, center=False)
        └ pow 2 ─ mean ─ + eps ─ rsqrt ──┘

How the squares are written (``x * x``, ``square``, ``var``, ``norm``, a matrix product), where eps stands, and how the
root is taken does not matter, nor do constants before and after.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innsight_py.model.converted import ConvertedModel
from innsight_py.spec import ModelSpec
from innsight_py.spec.base import LayerSpec
from innsight_py.spec.layers import LAYER_SPECS

_EXPONENTS = {0.5: ("sqrt",), -0.5: ("sqrt", "reciprocal"), -1.0: ("reciprocal",)}


def with_norms(spec: ModelSpec, model: ConvertedModel) -> ModelSpec:
    """Return the spec with its hand-written normalisations as layers; the same object if there are none.

    Parameters
    ----------
    spec : ModelSpec
        The checked spec.
    model : ConvertedModel
        The graph of it, which knows the shapes.
    """
    finder = _Finder(spec, model)
    layers: list[LayerSpec] = []
    for layer in spec.layers:
        layers += finder.read(layer) or [layer]
    if len(layers) == len(spec.layers) and all(a is b for a, b in zip(layers, spec.layers, strict=True)):
        return spec
    needed = set(spec.outputs)
    for layer in reversed(layers):
        if layer.name in needed:
            needed.update(layer.inputs)
    kept = tuple(layer for layer in layers if layer.name in needed)
    names = spec.layer_names
    if names is not None:  # values within a norm are there no more
        there = {layer.name for layer in kept}
        names = {name: place for name, place in names.items() if place.layer in there}
    return replace(spec, layers=kept, layer_names=names)


class _Squares(NamedTuple):
    """The mean square of what `root` deviates from its mean (or from 0) along some axes, times `factor`."""

    root: str
    centred: bool
    axes: tuple[int, ...]
    factor: float


@dataclass
class _Divisor:
    """What is divided by, as it grows: ``max(f v + e, least)``, then ``max(sqrt(f v + e) + shift, least)``."""

    f: float
    e: float = 0.0
    shift: float = 0.0
    least: float = -math.inf
    stage: str = "square"

    def apply(self, op: str, *numbers: float) -> bool:
        """Take one more step; False where the result has no such form."""
        if op == "sqrt" and self.stage == "square":
            self.stage, self.least = "root", math.sqrt(max(self.least, 0.0))
        elif op == "reciprocal" and self.stage == "root":
            self.stage = "inverse"
        elif op == "clamp" and self.stage in ("square", "root"):
            self.least = max(self.least, numbers[0])
        elif op == "affine" and self.stage in ("square", "root") and numbers[0] > 0:
            a, b = numbers
            gain = a if self.stage == "square" else a * a
            self.f, self.e, self.least = gain * self.f, gain * self.e, a * self.least + b
            if self.stage == "square":
                self.e += b
            else:
                self.shift = a * self.shift + b
        else:
            return False
        return True

    @property
    def fits(self) -> bool:
        """Whether this is what a `Standardize` layer divides by."""
        return self.stage == "inverse" and min(self.f, self.e, self.shift) >= 0 and math.isfinite(self.f + self.e)


def _divided(squares: _Squares, steps: list[tuple[str, Any]]) -> tuple[_Divisor, list[Tensor]] | None:
    """Return what steps from squares divide by, and the constants that they multiply with after that."""
    divisor, factors = _Divisor(squares.factor), list[Tensor]()
    for op, numbers in steps:
        if divisor.stage == "inverse" and op == "factor":
            factors.append(numbers)
        elif divisor.stage == "inverse" and op == "affine" and numbers[1] == 0:
            factors.append(torch.tensor(numbers[0], dtype=torch.float64))
        elif op == "factor" or not divisor.apply(op, *numbers):
            return None
    return divisor, factors


class _Finder:
    def __init__(self, spec: ModelSpec, model: ConvertedModel) -> None:
        self.layers = {layer.name: layer for layer in spec.layers}
        self.dims = dict(zip(spec.inputs, spec.input_dim, strict=True))
        self.dims |= {name: model.layer(name).output_dim for name in self.layers}
        self.model = model

    # -- the product ----------------------------------------------------------------------------------------------

    def read(self, layer: LayerSpec) -> list[LayerSpec] | None:
        """Return what stands for a product that normalises, or a difference of two; None for any other layer."""
        if layer.type == "Add" and len(layer.inputs) == 2:
            return self._multiplied_out(layer)
        if layer.type != "Multiply":
            return None
        for x, scale in (layer.inputs, layer.inputs[::-1]):
            found = self._normalised(x, scale, layer.name)
            if found is not None:
                squares, divisor, factors = found
                return list(self._written(layer, squares, divisor, factors))
        return None

    def _multiplied_out(self, layer: LayerSpec) -> list[LayerSpec] | None:
        """Read ``x * s + (b - mean(x) * s)``, which Keras writes for ``(x - mean(x)) * s + b``."""
        for plus, minus in (layer.inputs, layer.inputs[::-1]):
            product = self.layers.get(plus)
            if product is None or product.type != "Multiply":
                continue
            for x, scale in (product.inputs, product.inputs[::-1]):
                taken_off = self._mean_times(minus, scale)
                if taken_off is None or taken_off[0] != x:
                    continue
                found = self._normalised(x, scale, layer.name, taken_off[1])
                if found is not None:
                    return list(self._written(layer, *found, taken_off[2]))
        return None

    def _mean_times(self, name: str, scale: str) -> tuple[str, tuple[int, ...], Tensor | None] | None:
        """Read ``b - mean(x) * scale``: what it is the mean of, along which axes, and b."""
        layer, shift, sign = self.layers.get(name), None, 1
        if layer is not None and layer.type == "Scale":
            factor, shift = layer.factor, layer.shift  # type: ignore[attr-defined]
            if factor is not None and not bool((factor == 1).all()):
                if not bool((factor == -1).all()):
                    return None
                sign = -1
            layer = self.layers.get(layer.inputs[0])
        if layer is None or layer.type != "Multiply" or scale not in layer.inputs:
            return None
        other = layer.inputs[1 - layer.inputs.index(scale)]
        source = other if sign < 0 else self._negated(other)
        mean = None if source is None else self._mean_of(source)
        return None if mean is None else (*mean, shift)

    def _normalised(
        self, x: str, scale: str, product: str, centred_along: tuple[int, ...] | None = None
    ) -> tuple[_Squares, _Divisor, list[Tensor]] | None:
        """Read a product, from which the mean along some axes may have been taken off already."""
        found = self._walked(scale)
        if found is None:
            return None
        squares, steps, at = found
        divided = _divided(squares, steps)
        if divided is None:
            return None
        divisor, factors = divided
        root, centred, factor = self._root(x, squares.axes) if centred_along is None else (x, True, None)
        if centred_along not in (None, squares.axes):
            return None
        if factor is not None:
            factors.append(factor)
        dim = self.dims[root]
        if not divisor.fits or (root, centred) != squares[:2] or self.dims[product] != dim:
            return None
        reduced = tuple(1 if i in squares.axes else n for i, n in enumerate(dim))
        aligned = (1,) * (len(dim) - len(at)) + at
        return (squares, divisor, factors) if aligned == reduced else None

    def _walked(self, name: str) -> tuple[_Squares, list[tuple[str, Any]], tuple[int, ...]] | None:
        """Walk from a factor to the squares that it is made of: these, the steps from there, and its shape."""
        steps: list[tuple[str, Any]] = []
        spread = name
        while (layer := self.layers.get(name)) is not None:
            squares = self._squares(layer)
            if squares is not None:
                return squares, steps[::-1], self.dims[spread]
            if not self._is_copying(layer):
                found = self._steps(layer)
                if found is None:
                    return None
                steps += reversed(found)
                if found[0][0] == "factor":  # which may have spread it
                    spread = layer.inputs[0]
            elif layer.type == "Take":
                spread = layer.inputs[0]
            name = layer.inputs[0]
        return None

    def _is_copying(self, layer: LayerSpec) -> bool:
        """Tell whether a layer gives the same numbers another shape, or repeats each of them."""
        if layer.type == "Take":
            at: int = layer.axis  # type: ignore[attr-defined]
            axis = at if at < 0 else at - 1 - len(self.dims[layer.name])
            return self.dims[layer.inputs[0]][axis] == 1
        if layer.type == "Flatten":
            order: str = layer.order  # type: ignore[attr-defined]
            return order == "channels_first"
        return layer.type in ("Skipping", "Reshape")

    def _steps(self, layer: LayerSpec) -> list[tuple[str, Any]] | None:
        """Return what a layer does to each number, first things first; None if it is nothing that a norm does."""
        if layer.type == "Scale":
            factor, shift = layer.factor, layer.shift  # type: ignore[attr-defined]
            sizes = [t.numel() for t in (factor, shift) if t is not None]
            if max(sizes, default=1) == 1:
                return [("affine", (1.0 if factor is None else float(factor), 0.0 if shift is None else float(shift)))]
            return [("factor", factor)] if shift is None else None
        if layer.type != "Activation":
            return None
        name, params = layer.act_name, layer.act_params  # type: ignore[attr-defined]
        if name in ("sqrt", "reciprocal"):
            return [(name, ())]
        if name == "rsqrt":
            return [("sqrt", ()), ("reciprocal", ())]
        if name == "pow":
            return [(op, ()) for op in _EXPONENTS[params["exponent"]]] if params.get("exponent") in _EXPONENTS else None
        if name == "clamp" and params.get("max", math.inf) == math.inf:
            return [("clamp", (params["min"],))]
        return None

    # -- the squares ----------------------------------------------------------------------------------------------

    def _squares(self, layer: LayerSpec) -> _Squares | None:
        """Read a sum or a mean of squares."""
        if layer.type == "MatMul":
            return self._row_times_column(layer)
        if layer.type == "Add" and len(layer.inputs) == 2:
            return self._mean_of_squares_less_square_of_mean(layer)
        axes, count = self._reduced(layer)
        if axes is None:
            return None
        source = self._squared(layer.inputs[0])
        if source is None:
            return None
        root, centred, factor = self._root(source, axes)
        if factor is not None and factor.numel() > 1:
            return None
        return _Squares(root, centred, axes, count * (1.0 if factor is None else float(factor) ** 2))

    def _reduced(self, layer: LayerSpec) -> tuple[tuple[int, ...] | None, float]:
        """Return the axes of an instance that a layer sums or averages over, and how many means its value is."""
        dim = self.dims[layer.inputs[0]]
        if layer.type == "GlobalPooling" and layer.method == "average":  # type: ignore[attr-defined]
            return tuple(range(1, len(dim))), 1.0
        if layer.type != "Reduce":
            return None, 1.0
        axes = tuple(sorted(axis - 1 if axis > 0 else axis + len(dim) for axis in layer.axes))  # type: ignore[attr-defined]
        total = layer.method == "sum"  # type: ignore[attr-defined]
        return axes, float(math.prod(dim[axis] for axis in axes)) if total else 1.0

    def _squared(self, name: str) -> str | None:
        """Return what is squared."""
        layer = self.layers.get(name)
        if layer is not None and layer.type == "Multiply" and layer.inputs[0] == layer.inputs[1]:
            return layer.inputs[0]
        if layer is not None and layer.type == "Activation" and layer.act_name == "pow":  # type: ignore[attr-defined]
            return layer.inputs[0] if layer.act_params.get("exponent", 2.0) == 2 else None  # type: ignore[attr-defined]
        return None

    def _row_times_column(self, layer: LayerSpec) -> _Squares | None:
        """Read the products of rows with themselves, as ``einsum("...i,...i->...")`` has them."""
        left, right = (self._without_shape(name) for name in layer.inputs)
        dim, row = self.dims[left], self.dims[layer.inputs[0]]
        if left != right or not dim or row[-1] != dim[-1] or math.prod(self.dims[layer.name]) != math.prod(dim[:-1]):
            return None
        return _Squares(left, False, (len(dim) - 1,), float(dim[-1]))

    def _without_shape(self, name: str) -> str:
        while (layer := self.layers.get(name)) is not None and layer.type in ("Reshape", "Skipping"):
            name = layer.inputs[0]
        return name

    def _mean_of_squares_less_square_of_mean(self, layer: LayerSpec) -> _Squares | None:
        for plus, minus in (layer.inputs, layer.inputs[::-1]):
            first = self.layers.get(plus)
            squares = None if first is None or first.type == "Add" else self._squares(first)
            negative = self._negated(minus)
            mean = None if negative is None else self._squared(self._without_shape(negative))
            of = self._mean_of(mean) if mean is not None else None
            if squares is not None and not squares.centred and squares.factor == 1 and of == squares[0::2]:
                return squares._replace(centred=True)
        return None

    # -- deviations from the mean ---------------------------------------------------------------------------------

    def _root(self, name: str, axes: tuple[int, ...]) -> tuple[str, bool, Tensor | None]:
        """Return what a value is made of by centring it along axes and multiplying it with a constant."""
        layer = self.layers.get(name)
        factor: Tensor | None = None
        while layer is not None:
            if layer.type == "Skipping":
                name = layer.inputs[0]
            elif layer.type == "Scale" and layer.shift is None and factor is None:  # type: ignore[attr-defined]
                if self.dims[layer.name] != self.dims[layer.inputs[0]]:
                    break
                factor, name = layer.factor, layer.inputs[0]  # type: ignore[attr-defined]
            else:
                break
            layer = self.layers.get(name)
        if layer is not None and layer.type == "Add" and len(layer.inputs) == 2:
            for x, mean in (layer.inputs, layer.inputs[::-1]):
                negative = self._negated(mean)
                if negative is not None and self._mean_of(negative) == (x, axes) and self.dims[x] == self.dims[name]:
                    inner, centred, other = self._root(x, axes)
                    return (inner, True, factor) if centred and other is None else (x, True, factor)
        return name, False, factor

    def _negated(self, name: str) -> str | None:
        layer = self.layers.get(name)
        while layer is not None and self._is_copying(layer):
            name = layer.inputs[0]
            layer = self.layers.get(name)
        if layer is None or layer.type != "Scale" or layer.shift is not None:  # type: ignore[attr-defined]
            return None
        factor = layer.factor  # type: ignore[attr-defined]
        return layer.inputs[0] if factor is not None and factor.numel() == 1 and float(factor) == -1 else None

    def _mean_of(self, name: str) -> tuple[str, tuple[int, ...]] | None:
        """Return what a value is the mean of, and along which axes."""
        layer = self.layers.get(name)
        while layer is not None and self._is_copying(layer):
            layer = self.layers.get(layer.inputs[0])
        scale = 1.0
        if layer is not None and layer.type == "Scale":  # a sum over their number
            steps = self._steps(layer)
            if not steps or steps[0][0] != "affine" or steps[0][1][1]:
                return None
            scale, layer = steps[0][1][0], self.layers.get(layer.inputs[0])
        if layer is None:
            return None
        axes, count = self._reduced(layer)
        return (layer.inputs[0], axes) if axes is not None and math.isclose(count * scale, 1.0) else None

    # -- the layer that stands for it -----------------------------------------------------------------------------

    def _written(
        self, product: LayerSpec, squares: _Squares, divisor: _Divisor, factors: list[Tensor],
        shift: Tensor | None = None,
    ) -> Iterator[LayerSpec]:  # fmt: skip
        dim = self.dims[squares.root]
        rest = [i for i in range(len(dim)) if i not in squares.axes]
        order = [*rest, *squares.axes]
        moves = order != sorted(order)
        keys: list[tuple[str, dict[str, Any]]] = []
        if moves:
            keys.append(("Permute", {"axes": [axis + 1 for axis in order]}))
        keys.append(("Standardize", {
            "groups": math.prod(dim[i] for i in rest), "eps": divisor.e, "center": squares.centred,
            "factor": divisor.f, "shift": divisor.shift, "least": max(divisor.least, 0.0),
        }))  # fmt: skip
        if moves:
            keys.append(("Permute", {"axes": [order.index(i) + 1 for i in range(len(dim))]}))
        keys += [("Scale", {"factor": factor}) for factor in factors]
        if shift is not None:
            keys.append(("Scale", {"shift": shift}))
        before = squares.root
        for number, (kind, given) in enumerate(keys, start=1):
            last = number == len(keys)
            name = product.name if last else self._new_name(f"{product.name}_{kind.lower()}")
            yield LAYER_SPECS[kind](
                type=kind, name=name, inputs=(before,), place=product.place, origin=product.origin, **given
            )
            before = name

    def _new_name(self, name: str) -> str:
        unique, number = name, 2
        while unique in self.dims:
            unique, number = f"{name}_{number}", number + 1
        self.dims[unique] = ()
        return unique
