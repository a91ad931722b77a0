"""Of each row the one output node that is asked for, out of those that were explained."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from innsight_py.inputs.nodes import as_node, node_label
from innsight_py.inputs.targets import Target, read_target
from innsight_py.results.attributions import Attributions
from innsight_py.spec.keys import layer_title


def of_target(attributions: Attributions, target: Any) -> Attributions:
    """Return the attributions of one of the explained nodes for each row, K = 1.

    Parameters
    ----------
    attributions : Attributions
        What a method has found out for several nodes, or for a target.
    target : "predicted", int, str, sequence of these, dict or None
        As the methods take it. None: the attributions as they are.

    Returns
    -------
    Attributions
        A shallow copy with a target.

    Raises
    ------
    TypeError, ValueError
        If it is no target, if the result has no rows, or if the node of a row was not explained.

    Examples
    --------
    >>> from innsight_py import Converter, run_grad
    >>> model = {"input_dim": [1], "layers": [{"type": "Dense", "weight": [[1.0], [-2.0]]}]}
    >>> result = run_grad(Converter(model), [[1.0], [-1.0]], output_idx=[0, 1])
    >>> chosen = of_target(result, "predicted")
    >>> chosen.target_idx, chosen.result[0][0].flatten()
    ([[0, 1]], tensor([ 1., -2.]))
    """
    if target is None:
        return attributions
    if attributions.is_global:
        raise ValueError(
            f"Argument 'target': the result of {attributions.title} without data has no rows. Leave it out, or choose "
            "a node by 'output_idx'."
        )
    described = attributions.described
    wanted = read_target(target, described.output_names, described.output_keys)
    found = [None if own is None else _nodes(attributions, i, own) for i, own in enumerate(wanted)]
    places = [None if nodes is None else _places(attributions, i, nodes) for i, nodes in enumerate(found)]
    part = copy.copy(attributions)
    part.result = [
        None if row is None or place is None else [None if x is None else _picked(x, place) for x in row]
        for row, place in zip(attributions.result, places, strict=True)
    ]
    for name in ("preds", "decomp_goal", "explained_values"):
        values = getattr(attributions, name)
        setattr(part, name, None if values is None else _all_picked(values, places))
    nothing = [None] * len(places)
    part.output_idx, part.output_label = list(nothing), list(nothing)
    part.targets = [None if own is None else own.name for own in wanted]
    part._name_targets(found)
    return part


def _nodes(attributions: Attributions, i: int, target: Target) -> list[int]:
    """Return the position of each row's node of output layer i."""
    given = target.given(attributions.rows)
    if given is not None:
        return [int(node) for node in given]
    largest = attributions.largest[i] if attributions.largest else None
    if largest is None:
        raise ValueError(
            f"Argument 'target': which node of {_where(attributions, i)} is predicted is not known from this result. "
            "Run the method with target='predicted'."
        )
    return list(largest)


def _places(attributions: Attributions, i: int, nodes: Sequence[int]) -> list[int]:
    """Return where each row's node lies among the explained ones."""
    dim, own = attributions.described.outputs[i].dim, attributions.own_nodes(i)
    explained = attributions.output_idx[i] or ()
    places: list[int | None]
    if own is None:
        known = {node: place for place, node in enumerate(explained)}
        places = [known.get(as_node(node, dim)) for node in nodes]
    else:
        places = [0 if node == its else None for node, its in zip(nodes, own, strict=True)]
    if None in places:
        row = places.index(None)
        node, port = nodes[row], attributions.described.outputs[i]
        others = f" (nor those of {places.count(None) - 1} other rows)" if places.count(None) > 1 else ""
        raise ValueError(
            f"Argument 'target': node {as_node(node, dim)} ('{node_label(node, dim, port.names)}') of "
            f"{_where(attributions, i)} was not explained for {attributions.data_name(row)}{others}. Run the method "
            "with this target."
        )
    return [place for place in places if place is not None]


def _picked(x: Tensor, places: Sequence[int]) -> Tensor:
    """Take of each row ``(*dims, K)`` its node, ``(B, *dims, 1)``."""
    return x[torch.arange(len(x)), ..., torch.tensor(places)].unsqueeze(-1)


def _all_picked(values: Sequence[Tensor | None], places: Sequence[Sequence[int] | None]) -> list[Tensor | None]:
    return [None if x is None or place is None else _picked(x, place) for x, place in zip(values, places, strict=True)]


def _where(attributions: Attributions, i: int) -> str:
    return layer_title("output layer", i, attributions.described.output_keys)
