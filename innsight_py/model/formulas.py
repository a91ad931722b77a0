"""Activations that a model writes out: ``0.5 * x * (1 + tanh(...))`` is a GELU, ``x * sigmoid(1.7 * x)`` a SiLU.

Such a product is a function of x, entry by entry, as any activation is. So relevance shall come to x whole, and
constants within the formula shall keep nothing::

    x ──┬────────────────────────── multiply
        └ scale ─ sigmoid ─ scale ──┘
"""

from __future__ import annotations

from collections import defaultdict

from innsight_py.layers import Layer
from innsight_py.layers.activation import Activation
from innsight_py.layers.arithmetic import Add, Multiply
from innsight_py.layers.normalization import Scale
from innsight_py.layers.structure import Skipping
from innsight_py.model.graph import Graph


def constants_in_formulas(graph: Graph) -> frozenset[str]:
    """Return the names of the layers that scale and shift within an activation that is written out."""
    of, readers = _sources(graph), defaultdict(set)
    for node in graph.nodes:
        for source in node.inputs:
            readers[source].add(node.name)
    order = {name: i for i, name in enumerate((*graph.inputs, *(node.name for node in graph.nodes)))}
    found: set[str] = set()
    for node in graph.nodes:
        if not isinstance(graph.layer(node.name), Multiply) or len(node.inputs) != 2:
            continue
        common = of[node.inputs[0]] & of[node.inputs[1]]
        if common:
            between = _between(graph, node.name, max(common, key=order.__getitem__))
            closed = all(readers[name] <= between | {node.name} and name not in graph.outputs for name in between)
            found |= {name for name in between if closed and isinstance(graph.layer(name), Scale)}
    return frozenset(found)


def _sources(graph: Graph) -> dict[str, frozenset[str]]:
    """Return for each value those of which it is a function entry by entry, itself among them."""
    of = {name: frozenset({name}) for name in graph.inputs}
    for node in graph.nodes:
        layer, shared = graph.layer(node.name), frozenset[str]()
        if _is_elementwise(layer):
            shared = frozenset.intersection(*(of[source] for source in node.inputs))
        of[node.name] = shared | {node.name}
    return of


def _is_elementwise(layer: Layer) -> bool:
    plain = isinstance(layer, Scale | Add | Multiply | Skipping) or (
        isinstance(layer, Activation) and layer.activation.is_elementwise
    )
    return plain and all(dim == layer.output_dim for dim in layer.input_dims)


def _between(graph: Graph, name: str, source: str) -> set[str]:
    """Return the names of the values on the paths from one value to another, without these two."""
    reached = {name}
    for node in reversed(graph.nodes):
        if node.name in reached and node.name != source:
            reached.update(node.inputs)
    return reached - {name, source}
