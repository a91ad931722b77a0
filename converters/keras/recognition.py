"""What tells a Keras model, and what it says of itself, without importing Keras."""

from __future__ import annotations

import sys
from typing import Any


def is_keras_model(model: Any) -> bool:
    """Tell a model of Keras, or of ``tf_keras``, by its class."""
    return any(_root(cls) is not None and cls.__name__ == "Model" for cls in type(model).__mro__)


def _root(cls: type) -> str | None:
    root = cls.__module__.partition(".")[0]
    return root if root in ("keras", "tf_keras") else None


def framework(model: Any) -> Any:
    """Return the Keras that a model belongs to, which the user has imported."""
    for cls in type(model).__mro__:
        root = _root(cls)
        if root is not None:
            return sys.modules[root]
    raise TypeError(f"{type(model).__name__} is no Keras model")


def every_layer(model: Any) -> list[Any]:
    """Return all layers of a model, those of nested models included, without the models themselves."""
    found: list[Any] = []
    for layer in model.layers:
        found += every_layer(layer) if hasattr(layer, "layers") and hasattr(layer, "inputs") else [layer]
    return found


def data_formats(model: Any) -> set[str]:
    """Return the data formats of the layers that have one; what a flattening reads is its own choice."""
    layers = [layer for layer in every_layer(model) if type(layer).__name__ != "Flatten"]
    return {layer.data_format for layer in layers if isinstance(getattr(layer, "data_format", None), str)}


def has_channels_first(model: Any) -> bool:
    """Tell whether a model takes its data channels first: all of its layers say so; Keras's own way is last."""
    return data_formats(model) == {"channels_first"}
