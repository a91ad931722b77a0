"""A graph in which recurrent layers are written out as two steps, so that each layer within gets its rule of LRP.

Which rule a layer follows depends on its kind, on its name and on what lies before and behind it. The first step may
start from constants; all later steps are alike.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import SimpleNamespace

from innsight_py.functions.lrp import Rule
from innsight_py.layers import Layer
from innsight_py.layers.recurrent import Recurrent
from innsight_py.layers.structure import Concatenate
from innsight_py.model.graph import Graph, Node

#: What the two steps are called.
STEPS = ("first step", "later steps")


def name_within(layer: str, step: str, part: str) -> str:
    """Return the name of a part of a recurrent layer."""
    return f"{layer}: {step}: {part}"


def unrolled(graph: Graph) -> Graph:
    """Return the graph with two steps in the place of every recurrent layer; itself where there is none.

    Parameters
    ----------
    graph : Graph
        The model. Its layers are shared or copied without their weights; the result tells rules, and is never run.
    """
    if not any(isinstance(graph.layer(node.name), Recurrent) for node in graph.nodes):
        return graph
    nodes: list[Node] = []
    layers: list[Layer] = []
    for node in graph.nodes:
        layer = graph.layer(node.name)
        if isinstance(layer, Recurrent):
            _write_out(node, layer, nodes, layers)
        else:
            nodes.append(node)
            layers.append(layer)
    return Graph(graph.inputs, graph.input_dims, graph.outputs, nodes, layers)


def _write_out(node: Node, recurrent: Recurrent, nodes: list[Node], layers: list[Layer]) -> None:
    values = dict(zip(("x", *(name[0] for name in recurrent.states)), node.inputs, strict=True))
    ends = []
    for step, cell in zip(STEPS[: recurrent.steps], recurrent.cells_of(), strict=False):
        for part in cell.parts:
            layer = copy.copy(part.layer)
            layer.name = name_within(node.name, step, part.name)
            nodes.append(Node(layer.name, tuple(values[source] for source in part.inputs)))
            layers.append(layer)
            values[part.name] = layer.name
        values = {"x": values["x"], "h": values[cell.output], "c": values.get("cell", "")}
        ends += [values["h"], *([values["c"]] if recurrent.with_cells else [])]
    whole = Concatenate(SimpleNamespace(name=node.name, place=recurrent.place, origin=recurrent.origin, axis=-2))
    whole.input_dims, whole.output_dim = (recurrent.output_dim,) * len(ends), recurrent.output_dim
    nodes.append(Node(node.name, tuple(ends)))
    layers.append(whole)


def rules_within(
    node: str, recurrent: Recurrent, found: Mapping[str, tuple[Rule, int | None]]
) -> tuple[dict[str, tuple[Rule, int | None]], dict[str, tuple[Rule, int | None]]]:
    """Return the rules of the parts of a recurrent layer, of the first step and of the later ones.

    Parameters
    ----------
    node : str
        Its name.
    recurrent : Recurrent
        The layer.
    found : mapping
        The rule of each layer of the graph that is written out, and the one factor of a product that depends on the
        inputs.
    """
    first, later = (
        {part.name: found[name_within(node, step, part.name)] for part in cell.parts if i < recurrent.steps}
        for i, (step, cell) in enumerate(zip(STEPS, recurrent.cells_of(), strict=True))
    )
    return first, later
