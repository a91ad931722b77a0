"""Which output nodes are explained: reading `output_idx`, `output_label` and `target`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from innsight_py._checks import describe, suggestion
from innsight_py.inputs.names import LayerNames
from innsight_py.inputs.nodes import as_position, is_node, is_node_label, no_choice, node_label
from innsight_py.inputs.ports import Port
from innsight_py.inputs.targets import Target, read_target
from innsight_py.spec.keys import default_keys, in_order, layer_title

#: As many nodes of the first output layer are explained where nothing is said.
DEFAULT_NODES = 10


@dataclass(frozen=True)
class Selection:
    """What is explained of each output layer.

    Attributes
    ----------
    idx, labels : tuple of (tuple or None)
        The selected nodes, counted from 0, and their labels; None for a layer that is not wanted, or that has a target.
    targets : tuple of (Target or None)
        The node of each row, for a layer whose rows have nodes of their own.
    """

    idx: tuple[tuple[int, ...] | None, ...]
    labels: tuple[tuple[str, ...] | None, ...]
    targets: tuple[Target | None, ...]

    @property
    def layers(self) -> list[int]:
        """Numbers of the selected output layers."""
        return [i for i, nodes in enumerate(self.idx) if nodes or self.targets[i]]

    def count(self, i: int) -> int:
        """Return how many nodes are explained of output layer i for each row."""
        return 1 if self.targets[i] is not None else len(self.idx[i] or ())


def select_outputs(
    output_idx: Any,
    output_label: Any,
    output_dim: Sequence[Sequence[int]],
    output_names: Sequence[LayerNames],
    output_keys: Sequence[str] | None = None,
    target: Any = None,
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
    target : Any, optional
        One node for each row instead, see `innsight_py.inputs.targets.read_target`.

    Returns
    -------
    Selection
        With no choice the first ten nodes of the first output layer.

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
    keys = default_keys("output", len(output_dim)) if output_keys is None else output_keys
    axes = {len(dim) for dim in output_dim}
    if target is not None:
        if output_idx is not None or output_label is not None:
            other = "output_label" if output_idx is None else "output_idx"
            raise ValueError(f"Arguments 'target' and '{other}' both say what is explained: give one of them.")
        nothing = (None,) * len(keys)
        return Selection(nothing, nothing, read_target(target, output_names, keys))
    by_label = None
    if output_label is not None:
        by_label = [
            None if labels is None else _positions(labels, output_dim[i], output_names[i])
            for i, labels in enumerate(
                _per_layer(output_label, keys, "output_label", lambda value: is_node_label(value, axes))
            )
        ]
    if output_idx is not None:
        chosen = [
            None if nodes is None else tuple(_node(node, output_dim[i], i, keys) for node in nodes)
            for i, nodes in enumerate(_per_layer(output_idx, keys, "output_idx", lambda value: is_node(value, axes)))
        ]
        if by_label is not None and not all(_same(a, b) for a, b in zip(chosen, by_label, strict=True)):
            raise ValueError("Arguments 'output_idx' and 'output_label' point to different nodes.")
    elif by_label is not None:
        chosen = by_label
    else:
        if len(output_dim[0]) > 1:
            raise ValueError(f"Argument 'output_idx': {no_choice(output_dim[0], layer_title('output layer', 0, keys))}")
        chosen = [tuple(range(min(DEFAULT_NODES, output_dim[0][0]))), *[None] * (len(keys) - 1)]
    source = "output_label" if output_idx is None else "output_idx"
    for nodes in chosen:
        if nodes is not None and len(set(nodes)) < len(nodes):
            raise ValueError(f"Argument '{source}': a node is given twice, got {list(nodes)}.")
    labels = tuple(
        None if nodes is None else tuple(node_label(node, dim, layer) for node in nodes)
        for nodes, dim, layer in zip(chosen, output_dim, output_names, strict=True)
    )
    return Selection(tuple(chosen), labels, (None,) * len(chosen))


def select_ports(output_idx: Any, output_label: Any, target: Any, ports: Sequence[Port]) -> Selection:
    """Read the user's choice of nodes of ports, as `select_outputs` does; what most people give is read at once.

    Examples
    --------
    >>> select_ports([1], None, None, [Port("y", (2,), [["a", "b"]], "table")]).labels
    (('b',),)
    """
    plain = _plainly(output_idx, ports[0]) if len(ports) == 1 and output_label is None and target is None else None
    if plain is not None:
        (names,) = ports[0].names
        return Selection((plain,), (tuple([str(names[node]) for node in plain]),), _NO_TARGET)
    dims, names, keys = zip(*((port.dim, port.names, port.key) for port in ports), strict=True)
    return select_outputs(output_idx, output_label, dims, names, keys, target)


_NO_TARGET = (None,)


def _plainly(output_idx: Any, port: Port) -> tuple[int, ...] | None:
    """Read what most people give: nothing, or whole numbers where there is one axis; None for all else and errors."""
    if len(port.dim) != 1:
        return None
    size = port.dim[0]
    if output_idx is None:
        return tuple(range(min(DEFAULT_NODES, size)))
    nodes = (output_idx,) if type(output_idx) is int else output_idx
    if type(nodes) is list and len(nodes) == 1 and type(nodes[0]) is int:
        return (nodes[0],) if 0 <= nodes[0] < size else None
    if not isinstance(nodes, list | tuple) or set(map(type, nodes)) != {int}:
        return None
    fits = min(nodes) >= 0 and max(nodes) < size and len(set(nodes)) == len(nodes)
    return tuple(nodes) if fits else None


def _same(one: tuple[int, ...] | None, other: tuple[int, ...] | None) -> bool:
    """Tell whether two choices are the same nodes, in whatever order."""
    return sorted(one or ()) == sorted(other or ()) and (one is None) == (other is None)


def _per_layer(value: Any, keys: Sequence[str], argument: str, is_entry: Any) -> list[list[Any] | None]:
    """Bring a choice into one list an output layer, None for those that are not wanted."""
    what, layers = "whole numbers" if argument == "output_idx" else "labels", len(keys)
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


def _node(node: Any, dim: Sequence[int], layer: int, keys: Sequence[str]) -> int:
    where = layer_title("output layer", layer, keys)
    if len(dim) > 1 or isinstance(node, tuple):
        indices = node if isinstance(node, tuple) else (node,)
        if len(indices) != len(dim) or not all(0 <= i < n for i, n in zip(indices, dim, strict=True)):
            raise ValueError(
                f"Argument 'output_idx': {where} has nodes with {len(dim)} axes, {tuple(dim)}; expected one number for "
                f"each, counted from 0, got {node}."
            )
        return as_position(tuple(int(i) for i in indices), dim)
    number, size = int(node), dim[0]
    if not 0 <= number < size:
        raise ValueError(f"Argument 'output_idx': {where} has the nodes 0 to {size - 1}, got {number}.")
    return number


def _positions(labels: Sequence[Any], dim: Sequence[int], layer: LayerNames) -> tuple[int, ...]:
    """Find labels of nodes; of names that an axis has twice the first is meant."""
    places: list[dict[str, int]] = [{} for _ in layer]
    for first, axis in zip(places, layer, strict=True):
        for place, name in enumerate(axis):
            first.setdefault(str(name), place)
    return tuple(_position(label, dim, places) for label in labels)


def _position(label: Any, dim: Sequence[int], places: Sequence[Mapping[str, int]]) -> int:
    if isinstance(label, tuple) and len(label) == len(dim):
        return as_position(tuple(_on_axis(text, axis) for text, axis in zip(label, places, strict=True)), dim)
    if len(dim) > 1:
        raise ValueError(f"Argument 'output_label': expected a tuple with one label for each axis, got {label!r}.")
    return _on_axis(label, places[0])


def _on_axis(label: Any, places: Mapping[str, int]) -> int:
    is_text, label = isinstance(label, str), str(label)  # names that are whole numbers are taken as texts
    if label not in places:
        if not is_text:
            raise TypeError(
                f"Argument 'output_label': expected labels, got the number {label}, which is none of them; "
                f"'output_idx' takes the numbers of nodes."
            )
        names = list(places)
        raise ValueError(
            f"Argument 'output_label': there is no output node '{label}'{suggestion(label, names)} "
            f"Output nodes: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}."
        )
    return places[label]
