"""Which output nodes are explained: reading `output_idx` and `output_label`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from innsight_py._checks import describe, is_whole, suggestion
from innsight_py.keys import default_keys, in_order, layer_title
from innsight_py.names import LayerNames

#: As many nodes of the first output layer are explained where nothing is said.
DEFAULT_NODES = 10


@dataclass(frozen=True)
class Selection:
    """The selected nodes of each output layer, counted from 0; None for a layer that is not wanted."""

    idx: tuple[tuple[int, ...] | None, ...]
    labels: tuple[tuple[str, ...] | None, ...]

    @property
    def layers(self) -> list[int]:
        """Numbers of the selected output layers."""
        return [i for i, nodes in enumerate(self.idx) if nodes is not None]


def select_outputs(
    output_idx: Any,
    output_label: Any,
    output_dim: Sequence[Sequence[int]],
    output_names: Sequence[LayerNames],
    output_keys: Sequence[str] | None = None,
) -> Selection:
    """Read the user's choice of output nodes.

    Parameters
    ----------
    output_idx : int, sequence of int, or list or dict of these and None, optional
        Nodes of the first output layer, or an entry for each output layer (None: not wanted), counted from 0; in a
        dict by the names of output layers, those that are not wanted may be left out.
    output_label : str, sequence of str, or list or dict of these and None, optional
        The same with labels.
    output_dim : sequence of sequence of int
        Shape of each output layer.
    output_names : sequence
        Labels of each output layer.
    output_keys : sequence of str, optional
        Names of the output layers. Default: ``output_1..``.

    Returns
    -------
    Selection
        With neither argument the first ten nodes of the first output layer.

    Raises
    ------
    TypeError, ValueError
        If an entry is no index or label, is out of range or given twice, if there is no such output layer, or if the
        two arguments point to different nodes.

    Examples
    --------
    >>> select_outputs([2, 0], None, [(3,)], [[["a", "b", "c"]]]).labels
    (('c', 'a'),)
    >>> select_outputs(None, [None, ["d"]], [(3,), (2,)], [[["a", "b", "c"]], [["d", "e"]]]).idx
    (None, (0,))
    """
    names = [[str(name) for name in layer[0]] for layer in output_names]
    sizes = [len(layer) for layer in names]
    keys = default_keys("output", len(names)) if output_keys is None else output_keys
    by_label = None
    if output_label is not None:
        by_label = [
            None if labels is None else tuple(_position(label, names[i]) for label in labels)
            for i, labels in enumerate(_per_layer(output_label, keys, "output_label", _is_label))
        ]
    if output_idx is not None:
        chosen = [
            None if nodes is None else tuple(_node(node, sizes[i], i, keys) for node in nodes)
            for i, nodes in enumerate(_per_layer(output_idx, keys, "output_idx", is_whole))
        ]
        if by_label is not None and not all(_same(a, b) for a, b in zip(chosen, by_label, strict=True)):
            raise ValueError("Arguments 'output_idx' and 'output_label' point to different nodes.")
    elif by_label is not None:
        chosen = by_label
    else:
        chosen = [tuple(range(min(DEFAULT_NODES, sizes[0]))), *[None] * (len(sizes) - 1)]
    source = "output_label" if output_idx is None else "output_idx"
    for nodes in chosen:
        if nodes is not None and len(set(nodes)) < len(nodes):
            raise ValueError(f"Argument '{source}': a node is given twice, got {list(nodes)}.")
    labels = tuple(
        None if nodes is None else tuple(layer[node] for node in nodes)
        for nodes, layer in zip(chosen, names, strict=True)
    )
    return Selection(tuple(chosen), labels)


def _same(one: tuple[int, ...] | None, other: tuple[int, ...] | None) -> bool:
    """Tell whether two choices are the same nodes, in whatever order."""
    return sorted(one or ()) == sorted(other or ()) and (one is None) == (other is None)


def _is_label(value: Any) -> bool:
    return isinstance(value, str)


def _per_layer(value: Any, keys: Sequence[str], argument: str, is_entry: Any) -> list[list[Any] | None]:
    """Bring a choice into one list an output layer, None for those that are not wanted."""
    what, layers = "whole numbers" if is_entry is is_whole else "labels", len(keys)
    if isinstance(value, Mapping):
        entries = in_order(value, keys, argument, "output layer", whole=False)
        value = [[entry] if is_entry(entry) else entry for entry in entries]
    if is_entry(value):
        value = [value]
    if isinstance(value, pd.Categorical | pd.Index | pd.Series | np.ndarray | torch.Tensor | range):
        value = list(value)
    if not isinstance(value, list | tuple):
        raise _argument_type(argument, what, value)
    if value and all(is_entry(entry) for entry in value):
        value = [value]
    if value and not any(entry is None or _is_list(entry) for entry in value):
        raise _argument_type(argument, what, value)
    if len(value) > layers:
        raise ValueError(
            f"Argument '{argument}': expected at most {layers} list(s), one for each output layer, got {len(value)}."
        )
    chosen = [None if entry is None else _entries(entry, argument, what, is_entry) for entry in value]
    if all(entry is None for entry in chosen):
        raise ValueError(f"Argument '{argument}': no output node is chosen.")
    return chosen + [None] * (layers - len(chosen))


def _entries(value: Any, argument: str, what: str, is_entry: Any) -> list[Any]:
    """Read the choice for one output layer."""
    if not is_entry(value) and not _is_list(value):
        raise _argument_type(argument, what, value)
    entries = [value] if is_entry(value) else list(value)
    if not all(is_entry(entry) for entry in entries):
        raise _argument_type(argument, what, value)
    if not entries:
        raise ValueError(f"Argument '{argument}': expected at least one node, got an empty list.")
    return entries


def _is_list(value: Any) -> bool:
    return hasattr(value, "__iter__") and not isinstance(value, str) and getattr(value, "ndim", 1) > 0


def _argument_type(argument: str, what: str, value: Any) -> TypeError:
    return TypeError(
        f"Argument '{argument}': expected {what}, or a list or dict with such for each output layer, "
        f"got {describe(value)}."
    )


def _node(node: Any, size: int, layer: int, keys: Sequence[str]) -> int:
    number = int(node)
    if not 0 <= number < size:
        where = layer_title("output layer", layer, keys)
        raise ValueError(f"Argument 'output_idx': {where} has the nodes 0 to {size - 1}, got {number}.")
    return number


def _position(label: str, names: list[str]) -> int:
    if label not in names:
        raise ValueError(
            f"Argument 'output_label': there is no output node '{label}'{suggestion(label, names)} "
            f"Output nodes: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}."
        )
    return names.index(label)
