"""Batch normalisation folded into the linear layer before it: the same function with fewer layers.

``gamma (W x + b - mean) / sqrt(var + eps) + beta`` is a layer with the weights ``s W`` and the bias
``s (b - mean) + beta``, s being ``gamma / sqrt(var + eps)``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from innsight_py.spec.base import LayerSpec
from innsight_py.spec.layers import BatchNorm, Concatenate
from innsight_py.spec.model import ModelSpec
from innsight_py.spec.places import places_of

_CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D")
_TRANSPOSED = tuple(f"{name}Transpose" for name in _CONVOLUTIONS)


class _CannotFoldError(Exception):
    """Says why a batch normalisation stays."""


def fold_batch_norm(spec: ModelSpec, dims: Mapping[str, tuple[int, ...]]) -> tuple[ModelSpec, dict[str, str]]:
    """Fold every batch normalisation that can be.

    It goes through sums and concatenations into the layers of all branches. A layer that others read, too, gets a copy.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    dims : mapping
        Shape of each value, without the batch.

    Returns
    -------
    ModelSpec
        A model that computes the same.
    dict of str
        For each batch normalisation that stays, why.
    """
    folding = _Folding(spec, dims)
    return folding.result(), folding.stays


class _Folding:
    def __init__(self, spec: ModelSpec, dims: Mapping[str, tuple[int, ...]]) -> None:
        self.spec, self.dims = spec, dict(dims)
        self.layers: dict[str, LayerSpec] = {}
        self.instead: dict[str, str] = {}  # of a value: the one that has taken its place
        self.copies: dict[str, str] = {}  # of a changed copy of a layer: the original
        self.stays: dict[str, str] = {}
        self.channels = 1  # their axis, the batch being 0
        for layer in spec.layers:
            layer = layer.model_copy(update={"inputs": tuple(self.instead.get(x, x) for x in layer.inputs)})
            if isinstance(layer, BatchNorm):
                self._fold(layer)
            else:
                self.layers[layer.name] = layer

    def result(self) -> ModelSpec:
        """Return the model with the layers that an output needs; a copy that is alone has the name of its original."""
        outputs = tuple(self.instead.get(name, name) for name in self.spec.outputs)
        needed = set(outputs)
        for layer in reversed(self.layers.values()):
            if layer.name in needed:
                needed.update(layer.inputs)
        names: dict[str, str] = {}
        for copy, original in self.copies.items():
            if copy in needed and original not in needed and original not in names.values():
                names[copy] = original
        layers = tuple(
            layer.model_copy(
                update={"name": names.get(name, name), "inputs": tuple(names.get(x, x) for x in layer.inputs)}
            )
            for name, layer in self.layers.items()
            if name in needed
        )
        there = {layer.name for layer in layers}
        places = {
            name: place._replace(layer=names.get(self.instead[place.layer], self.instead[place.layer]))
            if place.layer in self.instead
            else place
            for name, place in places_of(self.spec.layers, self.spec.layer_names).items()
            if place.layer in self.instead or place.layer in needed
        }
        return dataclasses.replace(
            self.spec,
            layers=layers,
            outputs=tuple(names.get(x, x) for x in outputs),
            layer_names={name: place for name, place in places.items() if place.layer in there},
        )

    def _fold(self, norm: BatchNorm) -> None:
        factor = norm.gamma.double() / (norm.run_var.double() + norm.eps).sqrt()
        shift = -factor * norm.run_mean.double()
        shift = shift if norm.beta is None else shift + norm.beta.double()
        before, self.channels = dict(self.layers), 1 + norm.folded
        try:
            self.instead[norm.name] = self._scaled(norm.inputs[0], factor, shift)
        except _CannotFoldError as why:
            self.layers = before | {norm.name: norm}
            self.stays[norm.name] = str(why)

    def _scaled(self, name: str, factor: Tensor, shift: Tensor) -> str:
        """Write what gives the value ``factor * value + shift``, channel by channel, and return its name."""
        layer = self.layers.get(name)
        if layer is None:
            raise _CannotFoldError("it comes first, and there is no layer before it")
        kind = layer.type
        if kind == "Skipping":
            return self._scaled(layer.inputs[0], factor, shift)
        if isinstance(layer, Concatenate):
            return self._concatenated(layer, factor, shift)
        if kind == "Add":
            dims = {self.dims[x] for x in layer.inputs}
            if len(dims) > 1:
                raise _CannotFoldError(f"the sum '{name}' before it adds values of different shapes")
            zero = torch.zeros_like(shift)
            inputs = [self._scaled(x, factor, zero if i else shift) for i, x in enumerate(layer.inputs)]
            return self._write(layer, inputs=tuple(inputs))
        if kind not in ("Dense", *_CONVOLUTIONS, *_TRANSPOSED):
            raise _CannotFoldError(f"the layer before it, '{name}' ({kind}), is no dense layer and no convolution")
        if layer.activation_name != "linear":  # type: ignore[attr-defined]
            said = layer.activation_name  # type: ignore[attr-defined]
            raise _CannotFoldError(f"the activation {said} lies between it and the layer '{name}'")
        own = len(self.dims[name]) if kind == "Dense" else 1 + getattr(layer, "folded", 0)
        if own != self.channels:
            raise _CannotFoldError(f"the layer '{name}' before it works along another axis")
        return self._write(layer, **_scaled_weights(layer, factor, shift))

    def _concatenated(self, layer: Concatenate, factor: Tensor, shift: Tensor) -> str:
        axis = layer.axis if layer.axis > 0 else layer.axis + len(self.dims[layer.name]) + 1
        if axis != self.channels:
            raise _CannotFoldError(f"the concatenation '{layer.name}' before it is not along the channels")
        widths = [self.dims[x][axis - 1] for x in layer.inputs]
        parts = zip(layer.inputs, torch.split(factor, widths), torch.split(shift, widths), strict=True)
        return self._write(layer, inputs=tuple(self._scaled(x, f, s) for x, f, s in parts))

    def _write(self, layer: LayerSpec, **changed: Any) -> str:
        """Write a changed copy of a layer and return its name."""
        number = 1
        while (name := f"{layer.name}_merged_{number}") in self.dims:
            number += 1
        self.layers[name] = layer.model_copy(update={"name": name, **changed})
        self.dims[name] = self.dims[layer.name]
        self.copies[name] = self.copies.get(layer.name, layer.name)
        return name


def _scaled_weights(layer: LayerSpec, factor: Tensor, shift: Tensor) -> dict[str, Tensor]:
    weight, bias = layer.weight.double(), layer.bias  # type: ignore[attr-defined]
    axes = [1] * (weight.dim() - 2)
    if layer.type in _TRANSPOSED:
        groups = layer.groups  # type: ignore[attr-defined]
        grouped = weight.reshape(groups, -1, *weight.shape[1:])
        weight = (grouped * factor.reshape(groups, 1, -1, *axes)).reshape(weight.shape)
    else:
        weight = weight * factor.reshape(-1, 1, *axes)
    bias = shift if bias is None else factor * bias.double() + shift
    return {"weight": weight, "bias": bias}
