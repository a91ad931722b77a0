"""The layers of a converted model: each with its forward pass and its backward rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from innsight_py.layers.activation import Activation
from innsight_py.layers.base import Layer, Record, UnsupportedLayerError
from innsight_py.layers.linear import Conv1D, Conv2D, Dense
from innsight_py.layers.normalization import BatchNorm
from innsight_py.layers.pooling import (
    AveragePooling1D,
    AveragePooling2D,
    MaxPooling1D,
    MaxPooling2D,
    global_pooling,
)
from innsight_py.layers.rules import DeepLiftRule, LRPRule
from innsight_py.layers.structure import Add, Concatenate, Flatten, Padding, Skipping
from innsight_py.spec_layers import LayerSpec

__all__ = ["DeepLiftRule", "LRPRule", "Layer", "Record", "UnsupportedLayerError", "build_layer", "ruled_classes"]

_BUILDERS: dict[str, Callable[[Any], Layer]] = {
    "Dense": Dense,
    "Conv1D": Conv1D,
    "Conv2D": Conv2D,
    "MaxPooling1D": MaxPooling1D,
    "MaxPooling2D": MaxPooling2D,
    "AveragePooling1D": AveragePooling1D,
    "AveragePooling2D": AveragePooling2D,
    "BatchNorm": BatchNorm,
    "GlobalPooling": global_pooling,
    "Padding": Padding,
    "Concatenate": Concatenate,
    "Add": Add,
    "Flatten": Flatten,
    "Activation": Activation,
    "Skipping": Skipping,
}

def build_layer(spec: LayerSpec) -> Layer:
    """Build the layer that a checked spec describes."""
    return _BUILDERS[spec.type](spec)


def ruled_classes() -> dict[str, tuple[str, ...]]:
    """Return R's names of the layer classes for which an LRP rule can be chosen, each with its rules."""
    classes = (cls for cls in _BUILDERS.values() if isinstance(cls, type) and issubclass(cls, Layer))
    return {cls.r_class: cls.lrp_rules for cls in classes if cls.lrp_rules}
