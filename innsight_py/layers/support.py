"""Which classes of layers there are, and which methods they have a rule for."""

from __future__ import annotations

from typing import Any

from innsight_py.layers import BUILDERS, Layer, pooling
from innsight_py.layers.operator import Operator

#: Layers that are built by a function, which chooses one of several classes.
_CHOICES: dict[str, tuple[type[Layer], ...]] = {
    "GlobalPooling": (pooling.GlobalAveragePooling, pooling.GlobalMaxPooling),
    "Operator": (Operator,),
    "AdaptivePooling": (pooling.AdaptiveAveragePooling, pooling.AdaptiveMaxPooling),
}


def layer_classes(kind: str) -> tuple[type[Layer], ...]:
    """Return the classes of the layers that a type of the spec may become."""
    builder: Any = BUILDERS[kind]
    return _CHOICES.get(kind, (builder,))


def supports(cls: type[Layer], step: str) -> bool:
    """Tell whether a layer class has a rule for a backward step of its own."""
    return getattr(cls, step) is not getattr(Layer, step)
