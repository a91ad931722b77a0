"""A converted model whose layers have forgotten what they have learned."""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections.abc import Collection
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from innsight_py.model.converted import ConvertedModel
from innsight_py.model.converter import Converter
from innsight_py.model.explainable import DTYPES
from innsight_py.model.variants import Variants
from innsight_py.spec.base import LayerSpec

#: The parameters that are drawn anew.
PARAMETERS = ("weight", "bias")


def layers_with_weights(converter: Converter) -> list[str]:
    """Return the names of the layers that have weights, from the inputs to the outputs.

    Examples
    --------
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, -1.0]]}]}
    >>> layers_with_weights(Converter(model))
    ['Dense_1']
    """
    return [layer.name for layer in converter._spec.layers if isinstance(getattr(layer, "weight", None), Tensor)]


def redrawn(converter: Converter, names: Collection[str], seed: int, dtype: Literal["float", "double"]) -> Converter:
    """Return a converter of the same graph in which some layers have random weights and biases.

    They come from a normal distribution with mean 0 and the standard deviation of the layer's own (1 where these are
    all alike). A layer gets the same numbers whichever others are drawn anew.

    Parameters
    ----------
    converter : Converter
        The model, which is not changed.
    names : collection of str
        Names of layers, see `layers_with_weights`.
    seed : int
        What fixes the draws.
    dtype : {"float", "double"}
        Precision of the model.

    Examples
    --------
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, -1.0]]}]}
    >>> converter = Converter(model)
    >>> x = torch.ones(1, 2)
    >>> other = redrawn(converter, ["Dense_1"], 1, "float")
    >>> bool(other.model(x)[0] == converter.model(x)[0])
    False
    """
    layers = tuple(
        _redraw(layer, np.random.default_rng((seed, number))) if layer.name in names else layer
        for number, layer in enumerate(converter._spec.layers)
    )
    other = copy.copy(converter)
    other._spec = dataclasses.replace(converter._spec, layers=layers)
    other.dtype = dtype
    other.model = ConvertedModel(other._spec, DTYPES[dtype], like=converter.model).to(converter.model.device)
    other._others, other._lock = Variants(), threading.Lock()
    other._again, other._lengths = None, {}
    return other


def _redraw(layer: LayerSpec, random: np.random.Generator) -> LayerSpec:
    update: dict[str, Any] = {}
    for key in PARAMETERS:
        own = getattr(layer, key, None)
        if isinstance(own, Tensor):
            spread = float(own.double().std()) if own.numel() > 1 else float(own.double().abs())
            drawn = torch.from_numpy(random.standard_normal(own.shape))
            update[key] = (drawn * (spread or 1.0)).to(own.dtype)
    return layer.model_copy(update=update)
