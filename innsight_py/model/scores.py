"""The constants that scale attention scores: what lies between a product of two matrices and its softmax.

queries ─┐
         product ─ scale ─ (mask) ─ softmax
keys ────┘
"""

from __future__ import annotations

from innsight_py.layers import Layer
from innsight_py.layers.activation import Activation
from innsight_py.layers.arithmetic import MatMul
from innsight_py.layers.base import Carrying
from innsight_py.layers.choices import Choose
from innsight_py.layers.normalization import Scale
from innsight_py.model.graph import Graph


def scales_of_scores(graph: Graph) -> frozenset[str]:
    """Return the names of the layers that multiply the scores of an attention by a constant."""
    behind: dict[str, frozenset[str]] = {}  # the scales between a product and each value that comes of it
    found: set[str] = set()
    for node in graph.nodes:
        layer = graph.layer(node.name)
        before = [behind[source] for source in node.inputs if source in behind]
        own = {node.name} if isinstance(layer, Scale) else set()
        if isinstance(layer, MatMul):
            behind[node.name] = frozenset()
        elif before and isinstance(layer, Scale | Carrying | Choose):
            behind[node.name] = frozenset().union(*before, own)
        if before and isinstance(layer, Activation | Scale | Carrying | Choose) and _has_softmax(layer):
            found = found.union(*before, own)
    return frozenset(found)


def _has_softmax(layer: Layer) -> bool:
    """Tell whether a layer is a softmax, or ends with one."""
    return not layer.activation.is_linear and not layer.activation.is_elementwise
