"""The layers of a converted model: each with its forward pass and its backward rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from innsight_py.functions.deeplift import DeepLiftRule
from innsight_py.functions.lrp import Rule
from innsight_py.layers import (
    arithmetic,
    averages,
    choices,
    linear,
    normalization,
    pooling,
    recurrent,
    resize,
    structure,
)
from innsight_py.layers.activation import Activation
from innsight_py.layers.base import Layer, UnsupportedLayerError
from innsight_py.layers.cast import Cast, Detach
from innsight_py.layers.folded import Folded
from innsight_py.layers.operator import operator
from innsight_py.layers.record import Record
from innsight_py.spec.base import LayerSpec

__all__ = [
    "BUILDERS",
    "DeepLiftRule",
    "Layer",
    "Record",
    "Rule",
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
    "AveragePooling1D": averages.AveragePooling1D,
    "AveragePooling2D": averages.AveragePooling2D,
    "AveragePooling3D": averages.AveragePooling3D,
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
    "Recurrent": recurrent.Recurrent,
    "Concatenate": structure.Concatenate,
    "Flatten": structure.Flatten,
    "Reshape": structure.Reshape,
    "Permute": structure.Permute,
    "Take": structure.Take,
    "Padding": structure.Padding,
    "Resize": resize.Resize,
    "Skipping": structure.Skipping,
    "Embedding": choices.Embedding,
    "Choose": choices.Choose,
    "Gather": choices.Gather,
    "TopK": choices.TopK,
    "Cast": Cast,
    "Detach": Detach,
    "Operator": operator,
}


def build_layer(spec: LayerSpec) -> Layer:
    """Build the layer that a checked spec describes."""
    layer, axes = BUILDERS[spec.type](spec), getattr(spec, "folded", 0)
    return Folded(layer, axes) if axes else layer


def ruled_classes() -> dict[str, tuple[str, ...]]:
    """Return R's names of the layer classes for which an LRP rule can be chosen, each with its rules."""
    classes = (cls for cls in BUILDERS.values() if isinstance(cls, type) and issubclass(cls, Layer))
    return {cls.r_class: cls.lrp_rules() for cls in classes if cls.lrp_asked}
