"""Relevances that explode: which layer makes them large, why, and which rule does not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from innsight_py.functions.elementwise import largest_magnitude
from innsight_py.functions.lrp import Shares
from innsight_py.functions.lrp_weightless import Taylor
from innsight_py.inputs.nodes import as_position
from innsight_py.layers import Layer
from innsight_py.model.assignment import Assigned, assign
from innsight_py.model.graph import Explained, Graph, Step, Trace
from innsight_py.model.rule_names import read_rules
from innsight_py.results.attributions import Attributions

#: As many times the largest explained value the largest relevance may be before it is spoken of.
EXPLODED = 500.0
#: From how many values of a row on the walk of one row and one node notes what an alarm has to say: a walk again would
#: take as long as the method.
NOTED = 2**18
#: Rules that are tried, the nearest first.
CALMER = ("epsilon", "epsilon_plus", "z_plus", "cp_lrp")


class Place(NamedTuple):
    """An output layer, a row, and a node: where the largest relevance is."""

    output: int
    row: int
    node: int
    largest: float
    explained: float


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
            return Place(i, row, as_position(node, attributions.described.outputs[i].dim), worst, explained)
    return None


def _magnitudes(x: Tensor) -> Tensor:
    """Return the largest magnitude of each row and node, ``(B, K)``, without a copy of the relevances."""
    axes = tuple(range(1, x.dim() - 1))
    return torch.maximum(x.amax(axes), -x.amin(axes))


#: What came out of each layer of a walk over what went in, by its name: the sums of the magnitudes.
Grown = dict[str, float]


def noting(step: Step, grown: Grown) -> Step:
    """Let a walk of one row and one node note how much each layer makes the relevances grow."""

    def noted(layer: Layer, upper: Tensor, name: str, at: Explained | None) -> list[Tensor | None]:
        pieces = step(layer, upper, name, at)
        above, below = _size([upper]), _size(pieces)
        if above > 0:
            grown[name] = below / above
        return pieces

    return noted


def reason(
    graph: Graph, what: Explained, node: int, trace: Trace, start: Tensor, rules: Mapping[str, Assigned],
    steps: Callable[[Trace, Mapping[str, Assigned]], Step], limit: float, grown: Grown,
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
    """
    seed = torch.zeros_like(start)[None]
    seed[..., node] = start[..., node]
    if not grown:
        graph.backward(what, seed, noting(steps(trace, rules), grown))
    worst = max(grown, key=lambda name: grown[name], default="")
    if not worst:
        return ""
    layer, z, rule = graph.layer(worst), trace[worst].preactivation.abs(), rules[worst].rule
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
    for name in CALMER:
        found = _largest(graph, what, seed, trace, name, steps)
        if found is not None and found < limit:
            return f'{said}; with rule_name="{name}" the largest is {found:.3g}'
    return said


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


def _size(pieces: Sequence[Tensor | None]) -> float:
    """Sum the magnitudes, in the precision of the relevances where that holds the sum."""
    total = 0.0
    for x in pieces:
        if x is not None:
            size = float(x.abs().sum())
            total += size if math.isfinite(size) else float(x.double().abs().sum().nan_to_num(0.0, 0.0))
    return total
