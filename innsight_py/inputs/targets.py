"""Which output node is explained of each row: reading `target`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from innsight_py._checks import describe, is_whole, suggestion
from innsight_py.inputs.names import LayerNames
from innsight_py.inputs.nodes import as_position, no_choice
from innsight_py.spec.keys import in_order, layer_title

#: The target that is the node with the largest output.
PREDICTED = "predicted"


@dataclass(frozen=True)
class Target:
    """One output node for each row.

    Attributes
    ----------
    nodes : tuple of int, int or None
        A node for each row, the same one for all, or None: the node with the largest output of each row.
    """

    nodes: tuple[int, ...] | int | None

    @property
    def name(self) -> str:
        """What stands for the nodes of all rows together."""
        return PREDICTED if self.nodes is None else "target"

    def given(self, rows: int) -> Tensor | None:
        """Return the node of each row, ``(rows,)``; None for predicted ones, which the model has to say.

        Raises
        ------
        ValueError
            If there are not as many as rows.
        """
        if self.nodes is None:
            return None
        if isinstance(self.nodes, int):
            return torch.full((rows,), self.nodes)
        if len(self.nodes) != rows:
            raise ValueError(
                f"Argument 'target': expected {rows} node(s), one for each row, got {len(self.nodes)}. A single number "
                "or label stands for all rows."
            )
        return torch.tensor(self.nodes)


def read_target(target: Any, names: Sequence[LayerNames], keys: Sequence[str]) -> tuple[Target | None, ...]:
    """Read the user's choice of one output node for each row.

    Parameters
    ----------
    target : "predicted", int, str, sequence of int or str, or dict of these
        ``"predicted"``, a node or label for all rows, or one for each row; of the first output layer, or in a dict by
        the names of output layers. A node of an output with several axes is a tuple.
    names : sequence of LayerNames
        Labels of the axes of each output layer.
    keys : sequence of str
        Names of the output layers.

    Returns
    -------
    tuple of (Target or None)
        An entry for each output layer.

    Raises
    ------
    TypeError, ValueError
        If it is none of these, or there is no such node or label.

    Examples
    --------
    >>> read_target(["b", "a"], [[["a", "b"]]], ["output_1"])
    (Target(nodes=(1, 0)),)
    >>> read_target("predicted", [[["a", "b"]], [["c"]]], ["output_1", "output_2"])
    (Target(nodes=None), None)
    >>> read_target((1, 0), [[["a", "b"], ["x", "y"]]], ["output_1"])
    (Target(nodes=2),)
    """
    if isinstance(target, Mapping):
        entries = in_order(target, keys, "target", "output layer", whole=False)
        if all(entry is None for entry in entries):
            raise ValueError("Argument 'target': no output layer is chosen.")
    else:
        entries = [target, *[None] * (len(names) - 1)]
    return tuple(
        None if entry is None else Target(_nodes(entry, names[i], layer_title("output layer", i, keys)))
        for i, entry in enumerate(entries)
    )


def _nodes(value: Any, axes: LayerNames, where: str) -> tuple[int, ...] | int | None:
    if len(axes) > 1:
        return _tuples(value, axes, where)
    labels = [str(name) for name in axes[0]]
    if isinstance(value, str):
        return None if value == PREDICTED else _node(value, labels, where)
    if is_whole(value):
        return _node(value, labels, where)
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, pd.Series | pd.Index | pd.Categorical | np.ndarray | range):
        value = list(value) if np.ndim(value) == 1 else value
    if not isinstance(value, list | tuple):
        raise TypeError(
            f"Argument 'target': expected '{PREDICTED}', a node number or label, or one of these for each row, got "
            f"{describe(value)}."
        )
    return tuple(_node(entry, labels, where) for entry in value)


def _tuples(value: Any, axes: LayerNames, where: str) -> tuple[int, ...] | int:
    """Read nodes of an output with several axes: a tuple for all rows, or one for each."""
    dim = tuple(len(axis) for axis in axes)
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 2:
        value = [tuple(row) for row in value.tolist()]
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"Argument 'target': {no_choice(dim, where, of_each_row=True)}")
    names = [[str(name) for name in axis] for axis in axes]
    if not isinstance(value[0], list | tuple):
        return _tuple(value, names, where)
    return tuple(_tuple(entry, names, where) for entry in value)


def _tuple(value: Any, names: list[list[str]], where: str) -> int:
    """Read one node of an output with several axes: a number or label on each."""
    if not isinstance(value, list | tuple) or len(value) != len(names):
        dim = tuple(len(axis) for axis in names)
        raise ValueError(
            f"Argument 'target': {where} has nodes with {len(dim)} axes, {dim}; expected a tuple with one number or "
            f"label for each, or such a tuple for each row, got {describe(value)}."
        )
    parts = zip(value, names, strict=True)
    node = tuple(_node(entry, axis, f"axis {a + 1} of {where}") for a, (entry, axis) in enumerate(parts))
    return as_position(node, [len(axis) for axis in names])


def _node(value: Any, labels: list[str], where: str) -> int:
    if isinstance(value, bool | np.bool_) and str(value) in labels:
        return labels.index(str(value))
    if isinstance(value, str):
        if value not in labels:
            known = f"{', '.join(labels[:20])}{', ...' if len(labels) > 20 else ''}"
            raise ValueError(
                f"Argument 'target': {where} has no node '{value}'{suggestion(value, labels)} Output nodes: {known}."
            )
        return labels.index(value)
    if not is_whole(value):
        raise TypeError(f"Argument 'target': expected node numbers or labels, got {describe(value)}.")
    number = int(value)
    if not 0 <= number < len(labels):
        raise ValueError(f"Argument 'target': {where} has the nodes 0 to {len(labels) - 1}, got {number}.")
    return number
