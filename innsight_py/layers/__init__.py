"""The layers of a converted model: each with its forward pass and its backward rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from innsight_py.layers import arithmetic, linear, normalization, pooling, structure
from innsight_py.layers.activation import Activation
from innsight_py.layers.base import Layer, Record, UnsupportedLayerError
from innsight_py.layers.operator import Operator
from innsight_py.layers.rules import DeepLiftRule, LRPRule
from innsight_py.spec_layers import LayerSpec

__all__ = [
    "BUILDERS",
    "DeepLiftRule",
    "LRPRule",
    "Layer",
    "Record",
    "UnsupportedLayerError",
    "build_layer",
    "ruled_classes",
]

#: What builds the layer of each type of the spec.
BUILDERS: dict[str, Callable[[Any], Layer]] = {
    "Dense": linear.Dense,
    "Conv1D": linear.Conv1D,
    "Conv2D": linear.Conv2D,
    "Conv3D": linear.Conv3D,
    "Conv1DTranspose": linear.Conv1DTranspose,
    "Conv2DTranspose": linear.Conv2DTranspose,
    "Conv3DTranspose": linear.Conv3DTranspose,
    "BatchNorm": normalization.BatchNorm,
    "AveragePooling1D": pooling.AveragePooling1D,
    "AveragePooling2D": pooling.AveragePooling2D,
    "AveragePooling3D": pooling.AveragePooling3D,
    "MaxPooling1D": pooling.MaxPooling1D,
    "MaxPooling2D": pooling.MaxPooling2D,
    "MaxPooling3D": pooling.MaxPooling3D,
    "AdaptivePooling": pooling.adaptive_pooling,
    "GlobalPooling": pooling.global_pooling,
    "Standardize": normalization.Standardize,
    "Activation": Activation,
    "Scale": normalization.Scale,
    "Add": arithmetic.Add,
    "Multiply": arithmetic.Multiply,
    "MatMul": arithmetic.MatMul,
    "Reduce": arithmetic.Reduce,
    "Concatenate": structure.Concatenate,
    "Flatten": structure.Flatten,
    "Reshape": structure.Reshape,
    "Permute": structure.Permute,
    "Take": structure.Take,
    "Padding": structure.Padding,
    "Resize": structure.Resize,
    "Skipping": structure.Skipping,
    "Operator": Operator,
}


def build_layer(spec: LayerSpec) -> Layer:
    """Build the layer that a checked spec describes."""
    return BUILDERS[spec.type](spec)


def ruled_classes() -> dict[str, tuple[str, ...]]:
    """Return R's names of the layer classes for which an LRP rule can be chosen, each with its rules."""
    classes = (cls for cls in BUILDERS.values() if isinstance(cls, type) and issubclass(cls, Layer))
    return {cls.r_class: cls.lrp_rules for cls in classes if cls.lrp_rules}
