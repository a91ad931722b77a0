"""Relevances that explode: which layer makes them large, why, and which rule does not."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from innsight_py.functions.elementwise import largest_magnitude, sum_of_magnitudes
from innsight_py.functions.lrp import Shares
from innsight_py.functions.lrp_weightless import Taylor
from innsight_py.inputs.nodes import as_position
from innsight_py.layers import Layer, Record
from innsight_py.methods import sparing
from innsight_py.model.assignment import Assigned, assign
from innsight_py.model.graph import Explained, Graph, Step, Trace
from innsight_py.model.rule_names import read_rules
from innsight_py.results.attributions import Attributions

#: As many times the largest explained value the largest relevance may be before it is spoken of.
EXPLODED = 500.0
#: From how many values of a row on the walk of one row and one node notes what an alarm has to say: a walk again would
#: take as long as the method.
NOTED = 2**18
#: From how many steps through time on a walk for one row takes about as long as one for many.
LONG = 32
#: Rules that are tried, the nearest first.
CALMER = ("epsilon", "epsilon_plus", "z_plus", "cp_lrp")


class Place(NamedTuple):
    """An output layer, a row, and a node: where the largest relevance is. `number` counts the explained nodes."""

    output: int
    row: int
    node: int
    largest: float
    explained: float
    number: int


def exploded(attributions: Attributions) -> Place | None:
    """Find the largest relevance, if it is out of proportion to all that is explained."""
    for i, goal in enumerate(attributions.decomp_goal or ()):
        if goal is None:
            continue
        relevances = [x for x in attributions.result[i] or () if x is not None and x.numel()]
        if not relevances:
            continue
        explained = largest_magnitude(goal)
        if math.isfinite(explained) and all(largest_magnitude(x) <= EXPLODED * explained for x in relevances):
            continue
        explained = float(goal.abs().nan_to_num(0.0, 0.0).max())
        largest = torch.stack([_magnitudes(x) for x in relevances]).amax(0)
        worst = float(largest.max())
        if not math.isfinite(worst):  # a NaN or an infinity hides the other relevances of its row and node
            largest = torch.stack([_magnitudes(x.nan_to_num(0.0, 0.0, 0.0)) for x in relevances]).amax(0)
            worst = float(largest.max())
        if explained > 0 and worst > EXPLODED * explained:
            row, k = divmod(int(largest.argmax()), largest.shape[1])
            own = attributions.own_nodes(i)
            node = (attributions.output_idx[i] or [])[k] if own is None else own[row]
            return Place(i, row, as_position(node, attributions.described.outputs[i].dim), worst, explained, k)
    return None


def _magnitudes(x: Tensor) -> Tensor:
    """Return the largest magnitude of each row and node, ``(B, K)``, without a copy of the relevances."""
    axes = tuple(range(1, x.dim() - 1))
    return torch.maximum(x.amax(axes), -x.amin(axes))


#: What came out of each layer of a walk over what went in, by its name: the sums of the magnitudes.
Grown = dict[str, float]


def noting(step: Step, grown: Grown) -> Step:
    """Let a walk of one row and one node note how much each layer makes the relevances grow."""
    known: list[tuple[Tensor, float]] = []  # what the layer before has handed down, which most layers take up

    def size(x: Tensor) -> float:
        found = next((size for y, size in known if _is_same(x, y)), None)
        if found is None:
            found = _size(x)
            known.append((x, found))
        return found

    def noted(layer: Layer, upper: Tensor, name: str, at: Explained | None) -> list[Tensor | None]:
        above = size(upper)
        known[:] = [(upper, above)]
        pieces = step(layer, upper, name, at)
        below = sum(size(x) for x in pieces if x is not None)
        if len(known) > 1:  # otherwise it was passed on
            del known[0]
        if above > 0:
            grown[name] = below / above
        return pieces

    return noted


class Noted:
    """How much each layer makes the relevances of each row and node grow, as the method's own walks note it."""

    def __init__(self) -> None:
        self._walks: list[tuple[int, slice, dict[str, tuple[Tensor, Tensor]]]] = []
        self._now: dict[str, tuple[Tensor, Tensor]] = {}

    def noting(self, step: Step) -> Step:
        """Let walks of all rows note the sizes of what comes to each layer and of what it hands down."""
        known: list[tuple[Tensor, Tensor]] = []  # what the layer before has handed down, which most layers take up

        def size(x: Tensor) -> Tensor:
            found = next((found for y, found in known if y is x), None)
            return _sizes(x) if found is None else found

        def noted(layer: Layer, upper: Tensor, name: str, at: Explained | None) -> list[Tensor | None]:
            above = size(upper)
            pieces = step(layer, upper, name, at)
            known[:] = [(x, above if x is upper else _sizes(x)) for x in pieces if x is not None]
            sizes = [found for _, found in known]
            if sizes:
                self._now[name] = above, functools.reduce(torch.add, sizes)
            return pieces

        return noted

    def walked(self, output: int, nodes: slice) -> None:
        """Say of which nodes the walk was that has just ended."""
        self._walks.append((output, nodes, self._now))
        self._now = {}

    def of(self, place: Place) -> Grown:
        """Return what was noted for a row and a node; nothing if that is beyond the numbers."""
        grown: Grown = {}
        for output, nodes, found in self._walks:
            if output != place.output or not nodes.start <= place.number < nodes.stop:
                continue
            for name, pair in found.items():
                above, below = (float(x[place.number - nodes.start, min(place.row, x.shape[1] - 1)]) for x in pair)
                if not (math.isfinite(above) and math.isfinite(below)):
                    return {}
                if above > 0:
                    grown[name] = below / above
        return grown


def _sizes(x: Tensor) -> Tensor:
    """Sum the magnitudes of each row and node, ``(K, B or 1)``."""
    return x.flatten(2).abs().sum(2)


def reason(
    graph: Graph, what: Explained, node: int, trace: Trace, start: Tensor, rules: Mapping[str, Assigned],
    steps: Callable[[Trace, Mapping[str, Assigned]], Step], limit: float, grown: Grown, tries: bool = True,
) -> str:  # fmt: skip
    """Say which layer makes the relevances of one row large, and which rule does not.

    Parameters
    ----------
    graph : Graph
        The model.
    what, node : Explained, int
        What is explained, and which node of it.
    trace : Trace
        What the pass of the row saw.
    start : Tensor
        The explained values, ``(1, nodes)``.
    rules : mapping of str to Assigned
        What each layer follows.
    steps : callable
        Makes the step of a walk of a trace and rules.
    limit : float
        The largest relevance that is not too large.
    grown : dict
        What the walk of this row and node noted, see `noting`; without it there is another walk.
    tries : bool
        Whether other rules are tried, each in a walk. Otherwise they are only named, and the trace needs no more than
        the layer's own rule looks at.
    """
    seed = torch.zeros_like(start)[None]
    seed[..., node] = start[..., node]
    if not grown:
        step = steps(trace, rules)
        graph.backward(what, seed, noting(step if tries else sparing.forgetting(step, trace, None), grown))
    worst = max(grown, key=lambda name: grown[name], default="")
    if not worst:
        return ""
    layer, rule = graph.layer(worst), rules[worst].rule
    z = _preactivation(layer, trace[worst]).abs()
    place = f" at {layer.place}" if layer.place else ""
    how = ""
    if isinstance(rule, Shares) and layer.family == "max_pooling":
        how = "divides by sums of windows near 0 and "
    elif isinstance(rule, Shares):
        smallest, median = float(z.min()), float(z.median())
        how = (
            f"divides by preactivations near 0 (the smallest has the magnitude {smallest:.2g}, the median "
            f"{median:.2g}) and "
        )
    elif isinstance(rule, Taylor):
        how = f"multiplies by logits (the largest has the magnitude {float(z[z.isfinite()].max()):.2g}) and "
    said = (
        f"the rule {rule!r} of the layer '{worst}' ({layer.r_class}{place}) {how}makes relevances "
        f"{grown[worst]:.3g} times larger"
    )
    if not tries:
        return (
            f"{said}; rules that do less so, from the nearest on, are {', '.join(map(repr, CALMER))} (none was tried, "
            "since each takes as long as the method)"
        )
    for name in CALMER:
        found = _largest(graph, what, seed, trace, name, steps)
        if found is not None and found < limit:
            return f'{said}; with rule_name="{name}" the largest is {found:.3g}'
    return said


def _preactivation(layer: Layer, at: Record) -> Tensor:
    """Return the preactivation, again where it was let go."""
    return layer.linear(*at.inputs) if at.preactivation.is_meta else at.preactivation


def _largest(
    graph: Graph, what: Explained, seed: Tensor, trace: Trace, name: str,
    steps: Callable[[Trace, Mapping[str, Assigned]], Step],
) -> float | None:  # fmt: skip
    """Return the largest relevance with other rules; None where a layer does not take them."""
    try:
        pieces = graph.backward(what, seed, steps(trace, assign(graph, read_rules(name), True)))
    except (ValueError, NotImplementedError):
        return None
    return max((float(x.abs().max()) for x in pieces if x is not None), default=0.0)


def _is_same(x: Tensor, y: Tensor) -> bool:
    """Tell whether two tensors are views of the same numbers, all of them."""
    return x.data_ptr() == y.data_ptr() and x.shape == y.shape and x.stride() == y.stride()


def _size(x: Tensor) -> float:
    """Sum the magnitudes, in the precision of the relevances where that holds the sum."""
    size = sum_of_magnitudes(x)
    return size if math.isfinite(size) else float(x.double().abs().sum().nan_to_num(0.0, 0.0))
