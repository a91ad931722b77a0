"""Nodes of outputs with several axes: tuples for users, positions in the order of memory for the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from innsight_py._checks import is_whole
from innsight_py.inputs.names import LayerNames

#: A node of an output: its position, or one position for each axis.
Node = int | tuple[int, ...]


def as_node(position: int, dim: Sequence[int]) -> Node:
    """Return a node as users know it.

    Examples
    --------
    >>> as_node(5, (2, 3)), as_node(5, (6,))
    ((1, 2), 5)
    """
    return position if len(dim) == 1 else tuple(int(i) for i in np.unravel_index(position, tuple(dim)))


def as_nodes(positions: Sequence[int], dim: Sequence[int]) -> list[Node]:
    """Return nodes as users know them.

    Examples
    --------
    >>> as_nodes((5, 0), (2, 3)), as_nodes((5,), (6,))
    ([(1, 2), (0, 0)], [5])
    """
    return list(positions) if len(dim) == 1 else [as_node(position, dim) for position in positions]


def as_position(node: Node, dim: Sequence[int]) -> int:
    """Return the position of a node.

    Examples
    --------
    >>> as_position((1, 2), (2, 3))
    5
    """
    return int(np.ravel_multi_index(node, tuple(dim))) if isinstance(node, tuple) else node


def node_label(position: int, dim: Sequence[int], names: LayerNames) -> str:
    """Return the label of a node: those of its axes, with commas between.

    Examples
    --------
    >>> node_label(5, (2, 3), [["a", "b"], ["x", "y", "z"]])
    'b, z'
    """
    node = as_node(position, dim)
    indices = node if isinstance(node, tuple) else (node,)
    return ", ".join(str(axis[i]) for axis, i in zip(names, indices, strict=True))


def is_node(value: Any, axes: set[int]) -> bool:
    """Tell whether a value may be a node of outputs with such numbers of axes."""
    if axes == {1} or not isinstance(value, tuple):
        return is_whole(value)
    return len(value) in axes - {1} and all(is_whole(i) for i in value)


def is_node_label(value: Any, axes: set[int]) -> bool:
    """Tell whether a value may be the label of a node: a text or whole number, or one for each axis."""
    if axes == {1} or not isinstance(value, tuple):
        return isinstance(value, str) or is_whole(value)
    return len(value) in axes - {1} and all(isinstance(i, str) or is_whole(i) for i in value)


def no_choice(dim: Sequence[int], where: str, *, of_each_row: bool = False) -> str:
    """Say what can be done where an output has several axes and no node is chosen."""
    node = tuple(0 for _ in dim)
    here = f"target={node} or such a tuple for each row" if of_each_row else f"output_idx=[{node}]"
    axes = tuple(range(2, len(dim) + 1))
    return (
        f"{where} has nodes with {len(dim)} axes, {tuple(dim)}, and none is chosen. Choose some here, "
        f"{here}; or let Converter make few numbers of it: output=lambda y: y.mean({axes}), or "
        "output=lambda y: y.flatten(1) for all. If 'input_dim' has the batch in it, leave that out."
    )
