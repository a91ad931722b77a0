"""What every walk back through a graph begins with, found out once for each graph and choice of outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from innsight_py.layers.affine import Linear
from innsight_py.model.graph import Explained, Graph

#: For how many choices a graph keeps its plans.
MOST_KNOWN = 32


class Plan(NamedTuple):
    """Where walks begin, and how much memory they take.

    Attributes
    ----------
    what : mapping of int to Explained
        What is explained of each selected output layer.
    nodes : mapping of int to int
        How many nodes each of these output layers has.
    ends : frozenset of str
        Names of the layers whose values are explained.
    trace_bytes, widest_bytes, weights_bytes : int
        What a row takes in a whole trace, and at the widest layer; what all weights take.
    steps : int
        The steps of the longest loop through time.
    own_pieces, own_values : frozenset of int
        Numbers of the inputs whose pieces, and of the output layers whose explained values, are memory that a product
        has made and nobody else holds: they need no copy.
    """

    what: Mapping[int, Explained]
    nodes: Mapping[int, int]
    ends: frozenset[str]
    trace_bytes: int
    widest_bytes: int
    weights_bytes: int
    steps: int
    own_pieces: frozenset[int]
    own_values: frozenset[int]


#: The plans of each graph, by what they are asked for, as long as there is the graph.
_KNOWN: WeakKeyDictionary[Graph, dict[tuple[tuple[int, ...], bool, int], Plan]] = WeakKeyDictionary()


def plan_of(graph: Graph, layers: Sequence[int], ignore_last_act: bool, itemsize: int) -> Plan:
    """Return the plan of a graph, which never changes.

    Parameters
    ----------
    graph : Graph
        What is walked.
    layers : sequence of int
        Numbers of the selected output layers.
    ignore_last_act : bool
        Whether preactivations are explained.
    itemsize : int
        Bytes of a number.
    """
    known = _KNOWN.get(graph)
    if known is None:
        known = _KNOWN.setdefault(graph, {})
    key = (tuple(layers), ignore_last_act, itemsize)
    plan = known.get(key)
    if plan is None:
        what, sizes = {i: graph.explained(i, ignore_last_act) for i in layers}, graph.sizes
        plan = Plan(
            what, {i: graph.output_dims[i][0] for i in layers}, frozenset(it.node for it in what.values()),
            sizes.trace * itemsize, sizes.widest * itemsize, sizes.weights * itemsize, sizes.steps,
            _own_pieces(graph), frozenset(i for i, it in what.items() if _owns_products(graph, it.node)),
        )  # fmt: skip
        if len(known) >= MOST_KNOWN:
            known.clear()
        known[key] = plan
    return plan


def _own_pieces(graph: Graph) -> frozenset[int]:
    """Find the inputs to which one layer alone hands something down, in memory of its own."""
    takers = {name: [node.name for node in graph.nodes if name in node.inputs] for name in graph.inputs}
    given = {node.name for node in graph.nodes}
    return frozenset(
        j
        for j, name in enumerate(graph.inputs)
        if name not in given and len(takers[name]) == 1 and _owns_products(graph, takers[name][0])
    )


def _owns_products(graph: Graph, name: str) -> bool:
    layer = graph.layer(name)
    return isinstance(layer, Linear) and layer.owns_products
