"""Scores of attention that DeepLift lets go, and computes again on its way back from queries and keys.

A pass of rows and their reference would keep three values of the size of the scores: two for the softmax, and the mean
of the attention weights. Queries and keys of both are much smaller, and the scores follow from them by one product.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from torch import Tensor

from innsight_py.functions.deeplift import DeepLiftRule
from innsight_py.layers import Layer, Record
from innsight_py.layers.arithmetic import MEANS, MatMul, Product
from innsight_py.model.graph import Explained, Graph, Step, Trace

#: At most this many layers in a row are computed again.
IN_A_ROW = 8


class Rescored:
    """The layers of a graph whose values are computed again, and how walks back get them.

    Parameters
    ----------
    graph : Graph
        What is walked.
    ends : set of str
        Layers that are explained, which keep all.
    rule : DeepLiftRule
        The rule.
    rows : int
        How many rows there are. The reference lies behind them.
    """

    def __init__(self, graph: Graph, ends: AbstractSet[str], rule: DeepLiftRule, rows: int) -> None:
        self.ends, self.rule, self._graph = ends, rule, graph
        self._upper, self._lower = slice(0, rows), slice(rows, None)
        self._sources = {node.name: node.inputs for node in graph.nodes}
        #: The layers that are computed again, each with the product that its values come from.
        self._inside = self._find() if rule.name == "rescale" else {}
        #: Products that take one of their values, and which factor it is.
        self._takers = self._find_takers()
        #: Values that a walk back looks at.
        self._wanted = self._find_wanted()
        #: What they are computed from, rows and reference; and what was computed again.
        self._given: dict[str, Tensor] = {}
        self._again: dict[str, Tensor] = {}

    def _find(self) -> dict[str, str]:
        """Find scores and what follows from them by light layers, where that keeps less."""
        graph = self._graph
        inside: dict[str, str] = {}
        depths: dict[str, int] = {}
        for node in graph.nodes:
            layer = graph.layer(node.name)
            if node.name in self.ends or node.name in graph.inputs or not layer.is_light or graph.is_image(node.name):
                continue
            before = {inside[source] for source in node.inputs if source in inside}
            depth = 1 + max(depths.get(source, 0) for source in node.inputs)
            if len(before) == 1 and depth <= IN_A_ROW:
                inside[node.name], depths[node.name] = before.pop(), depth
            elif not before and isinstance(layer, MatMul):
                inside[node.name], depths[node.name] = node.name, 1
        saved = self._saved(inside)
        return {name: first for name, first in inside.items() if saved[first] > 0}

    def _saved(self, inside: Mapping[str, str]) -> Mapping[str, int]:
        """Count how many numbers fewer are kept of a row and the reference, for the layers behind each first one."""
        saved = dict.fromkeys(inside.values(), 0)
        given: set[tuple[str, str]] = set()
        for node in self._graph.nodes:
            layer, own = self._graph.layer(node.name), inside.get(node.name)
            if own is not None:
                saved[own] += layer.deeplift_kept(self.rule)
            for source, dim in zip(node.inputs, layer.input_dims, strict=True):
                first = inside.get(source)
                if own is not None and first is None and (own, source) not in given:
                    given.add((own, source))
                    saved[own] -= 2 * math.prod(dim)
                elif own is None and first is not None and isinstance(layer, Product):
                    saved[first] += math.prod(dim)
        return saved

    def _find_takers(self) -> dict[str, int]:
        takers = {}
        for node in self._graph.nodes:
            factors = [i for i, source in enumerate(node.inputs) if source in self._inside]
            outside = node.name not in self._inside and node.name not in self.ends
            if outside and len(factors) == 1 and isinstance(self._graph.layer(node.name), Product):
                takers[node.name] = factors[0]
        return takers

    def _find_wanted(self) -> set[str]:
        wanted: set[str] = set()
        for name in (*self._inside, *self._takers):
            needs = self._graph.layer(name).deeplift_needs(self.rule)
            wanted.update(self._sources[name] if needs.inputs else (), (name,) if needs.output else ())
        return wanted

    # -- the pass ---------------------------------------------------------------------------------------------------

    def keeps(self, name: str, layer: Layer, both: Record, own: Record, reference: Record) -> bool:
        """Keep what is needed of a layer whose record would be too large; False for a layer of another kind.

        Parameters
        ----------
        name : str
            The layer's name.
        layer : Layer
            The layer.
        both, own, reference : Record
            What a pass of rows and their reference has seen, and the parts of it.
        """
        if name in self._inside:
            for source, value in zip(self._sources[name], both.inputs, strict=True):
                if source not in self._inside:
                    self._given[source] = value
        elif name in self._takers and isinstance(layer, Product):
            layer.mean(own, reference, 1 - self._takers[name])
        else:
            return False
        return True

    # -- walks back -------------------------------------------------------------------------------------------------

    def step(self, step: Step, trace: Trace, reference: Trace) -> Step:
        """Give a walk at each layer what it looks at, and let it go behind the layer."""
        if not self._inside:
            return step

        def stepped(layer: Layer, upper: Tensor, name: str, start: Explained | None) -> list[Tensor | None]:
            if start is not None:
                self._again.clear()  # what a walk before did not come to
            at, ref = trace[name], reference[name]
            if name not in self._inside and name not in self._takers:
                if at.is_last:
                    self._given.pop(name, None)
                return step(layer, upper, name, start)
            needs = layer.deeplift_needs(self.rule)
            if not needs.output:
                self._again.pop(name, None)
            if needs.inputs:
                self._fill(at, ref, name, needs.output)
                if layer.deeplift_early(at, ref, self.rule):
                    self._let_go(at, ref, name)
            pieces = step(layer, upper, name, start)
            self._let_go(at, ref, name)
            at.forget_pair([MEANS[1 - self._takers[name]]] if name in self._takers else [])
            return pieces

        return stepped

    def _let_go(self, at: Record, ref: Record, name: str) -> None:
        at.release()
        ref.release()
        ref.forget()
        self._again.pop(name, None)
        if name not in self._takers:
            for source in self._sources[name]:
                self._again.pop(source, None)

    def _fill(self, at: Record, ref: Record, name: str, output: bool) -> None:
        """Put what was computed again into both records; another factor of a product is in neither."""
        there = self._inside.keys() | self._given.keys()
        values = [self._value(source) if source in there else None for source in self._sources[name]]
        for record, part in ((at, self._upper), (ref, self._lower)):
            record.inputs = tuple(
                x if value is None else value[part] for value, x in zip(values, record.inputs, strict=True)
            )
        if output:
            value = self._value(name)
            at.output, ref.output = value[self._upper], value[self._lower]

    def _value(self, name: str) -> Tensor:
        """Return a value of rows and reference that is given or computed again."""
        found = self._again.get(name)
        if found is None and name not in self._inside:
            return self._given[name]
        if found is None:
            values: list[Tensor] = [self._value(source) for source in self._sources[name]]
            found = self._graph.layer(name).forward(*values)
            if name in self._wanted:
                self._again[name] = found
        return found
