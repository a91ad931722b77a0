"""Values that a pass lets go and a walk back computes again: what takes a few passes over memory needs no room.

Only what a product or another layer that takes long has computed is kept. The rest (activations, norms, sums, attention
scores) is computed again from it when the walk comes to the last layer that looks at it, and let go where the walk
passes the layer that gave it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from torch import Tensor

from innsight_py.functions.layout import lay_out
from innsight_py.layers import Layer, Record
from innsight_py.layers.record import INPUTS, NOTHING, Needs
from innsight_py.layers.structure import Flatten, Permute, Reshape, Skipping
from innsight_py.model.graph import Explained, Graph, Node, Step, Trace

#: Says what of a record walks back look at.
Looks = Callable[[str, Layer], Needs]

#: At most this many layers in a row are computed again; the second number is for a last one that takes several values.
IN_A_ROW, SUMS_IN_A_ROW = 6, 3
_VIEWS = (Reshape, Flatten, Permute, Skipping)


class Recomputed:
    """What one pass of a graph lets go, and how its walks back get it again.

    Parameters
    ----------
    graph : Graph
        What is walked.
    ends : set of str
        Layers that are explained, which keep all.
    looks : callable
        Says what of a layer's record the walk looks at.
    later : callable
        Says what of it a walk looks at if all is kept that the layer has computed once.
    stays : callable
        Says what of it is looked at beside the walk, and stays.
    room : int
        How many numbers may be kept in all. What the pass leaves of it is for what layers compute once for all walks.
    """

    def __init__(
        self, graph: Graph, ends: AbstractSet[str], looks: Looks, later: Looks, stays: Looks, room: int
    ) -> None:  # fmt: skip
        self._graph, self._ends, self._looks, self._later, self._stays = graph, ends, looks, later, stays
        self._room = room
        #: For each layer that a walk has passed the names of what is kept, and whether it is all.
        self._kept: dict[str, tuple[list[str], bool]] = {}
        self._nodes = {node.name: node for node in graph.nodes}
        #: For each layer how many are computed again in a row to get its value.
        self._depths: dict[str, int] = {}
        #: Of layers whose value is not computed from others: what it is, or what stands before the activation.
        self._values: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}
        self._again: dict[str, Tensor] = {}

    def seen(self, name: str, layer: Layer, record: Record) -> None:
        """Keep of a layer what others cannot be computed without."""
        node, ended = self._nodes[name], name in self._ends
        depth = self._depth(node) if layer.is_light and not ended else 0
        if depth > (SUMS_IN_A_ROW if len(node.inputs) > 1 else IN_A_ROW):
            depth = 0
        self._depths[name] = depth
        if ended or (not depth and (layer.is_light or not layer.activation.is_elementwise)):
            self._values[name] = record.output
        elif not depth:
            self._before[name] = record.preactivation
        if not ended:
            record.release(self._stays(name, layer))
        if not depth:
            self._room -= record.output.numel()

    def _depth(self, node: Node) -> int:
        before = max(self._depths.get(source, 0) for source in node.inputs)
        return max(1, before + (not isinstance(self._graph.layer(node.name), _VIEWS)))

    def step(self, step: Step, trace: Trace) -> Step:
        """Give a walk at each layer what it looks at."""

        def stepped(layer: Layer, upper: Tensor, name: str, start: Explained | None) -> list[Tensor | None]:
            if start is not None:
                self._again.clear()  # what a walk before did not come to
            record = trace[name]
            record.is_last = self._room <= 0 and name not in self._kept  # nothing is kept of what is computed once
            if name in self._ends:
                return self._passed(step(layer, upper, name, start), record, name)
            self._restore(trace, name, layer, record)
            pieces = step(layer, upper, name, start)
            record.release(self._stays(name, layer))
            return self._passed(pieces, record, name)

        return stepped

    def _passed(self, pieces: list[Tensor | None], record: Record, name: str) -> list[Tensor | None]:
        if name not in self._kept and self._room > 0:
            self._kept[name] = self._chosen(record, self._before.get(name, self._values.get(name)))
        record.forget(self._kept.get(name, ((),))[0])
        self._again.pop(name, None)
        return pieces

    def _chosen(self, record: Record, before: Tensor | None) -> tuple[list[str], bool]:
        """Choose what is kept of what the layer has computed once; parts of the weights are not."""
        names, is_all = [], True
        for key, value in record.computed().items():
            if key.startswith("weight"):
                continue
            size = math.inf if not isinstance(value, Tensor) else 0 if value is before else value.numel()
            if size > self._room:
                is_all = False
                continue
            self._room -= int(size)
            names.append(key)
        return names, is_all

    def _restore(self, trace: Trace, name: str, layer: Layer, record: Record) -> None:
        """Fill a record with what the layer looks at."""
        known = self._kept.get(name)
        needs = (self._later if known is not None and known[1] else self._looks)(name, layer)
        if needs.inputs:
            record.inputs = tuple(self._value(trace, source) for source in self._nodes[name].inputs)
        if needs.output or (needs.preactivation and layer.activation.is_linear):
            record.output = self._value(trace, name)
        if needs.preactivation:
            record.preactivation = record.output if layer.activation.is_linear else self._preactivation(trace, name)

    def _preactivation(self, trace: Trace, name: str) -> Tensor:
        if name in self._before:
            return self._before[name]
        return self._graph.layer(name).linear(*(self._value(trace, source) for source in self._nodes[name].inputs))

    def _value(self, trace: Trace, name: str) -> Tensor:
        """Return the value of a layer or an input."""
        value = self._again.get(name)
        if value is not None:
            return value
        value = self._values.get(name)
        if value is None and name not in self._nodes:
            return trace.values[name]
        layer = self._graph.layer(name)
        if value is None:
            before = self._preactivation(trace, name)
            value = before if layer.activation.is_linear else layer.activation(before)
        self._again[name] = value = lay_out(value) if self._graph.is_image(name) else value
        return value


# -- when ----------------------------------------------------------------------------------------------------------


def kept_numbers(graph: Graph, looks: Looks) -> int:
    """Count the numbers that a pass of one row keeps, each value once, if it keeps what `looks` says."""
    of: dict[str, str] = {}
    values: set[str] = set()
    before = 0
    for node in graph.nodes:
        layer = graph.layer(node.name)
        of[node.name] = of.get(node.inputs[0], node.inputs[0]) if isinstance(layer, _VIEWS) else node.name
        needs = looks(node.name, layer)
        if needs.inputs:
            values.update(of.get(source, source) for source in node.inputs)
        if needs.output or (needs.preactivation and layer.activation.is_linear):
            values.add(of[node.name])
        elif needs.preactivation:
            before += math.prod(layer.output_dim)
    return before + sum(math.prod(graph.layer(name).output_dim) for name in values if name in of)


def for_autograd(name: str, layer: Layer) -> Needs:
    """Say what about autograd keeps of a layer."""
    return layer.gradient_needs | (INPUTS if layer.family == "batch_norm" else NOTHING)
