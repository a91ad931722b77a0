"""What a method has found out, as data: tensors with labels, and what is needed to say whether they add up."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor

from innsight_py.inputs.described import Described, of_inputs
from innsight_py.inputs.encoding import Groups
from innsight_py.inputs.nodes import Node, as_node, as_position, node_label
from innsight_py.inputs.ports import make_ports

#: For each output layer (None: not selected) and each input layer (None: does not reach the output) a tensor.
Buffers = list[list[Tensor | None] | None]


class Attributions:
    """Attributions with labels, whatever computed them: attributes only, which tables, texts and pictures read.

    Attributes
    ----------
    described : Described
        Knows the shapes and names of the model's inputs and outputs.
    result : list of (list of (Tensor or None) or None)
        For each output layer (None: not selected) and each input layer (None: does not reach the output) a tensor of
        shape ``(B, *dims, K)``, in the layout of the data, K being the number of selected nodes.
    preds : list of (Tensor or None) or None
        For each output layer the model's output for the selected nodes, ``(B, K)``.
    decomp_goal : list of (Tensor or None) or None
        What the sum over all inputs is to be compared with, ``(B, K)``.
    output_idx, output_label : list of (list or None)
        The selected nodes of each output layer, tuples where it has several axes; None for one that is not selected,
        or that has a target.
    target_idx, target_label : list of (list or None)
        The node of each row of output layers that have a `target`, tuples where it has several axes; K is 1 there.
    data_names : list of str
        Names of the instances.
    channels_first : bool
        Layout of the result.
    dtype : {"float", "double"}
        Precision of the result.
    data : list of Tensor
        The data, one tensor an input, in the user's layout; empty for a method that needs none.
    """

    #: Name of the method.
    title: str = "Explanation"
    #: What a value is called in pictures.
    value_name: str = "Relevance"
    #: Whether the result is one of the model and not of instances.
    is_global: bool = False
    #: Whether the value before the last activation is explained.
    ignore_last_act: bool = False
    #: Whether a value is one for each unit of its feature, as gradients and weights are.
    per_unit: bool = False
    #: Whether the sum over all inputs is meant to be the goal.
    decomposes: bool = False
    #: Why the sum over all inputs need not be the goal.
    losses: Sequence[str] = ()
    #: Where the model has no gradient, so that no number of steps reaches the goal.
    cuts: Sequence[str] = ()
    #: Number of steps (draws) of a path; None where there are no steps.
    steps: int | None = None
    #: Power of 1/n with which the residual of a path of n steps falls; None where there are no steps.
    steps_order: ClassVar[float | None] = None
    #: Where `decomp_goal` is a difference: the values ``(B, K)`` whose rounding it carries.
    explained_values: list[Tensor | None] | None = None

    #: For each output layer with a target the node of each row, its label, and a name for the nodes of all rows.
    target_idx: Sequence[list[Node] | None] = ()
    target_label: Sequence[list[str] | None] = ()
    targets: Sequence[str | None] = ()
    #: For each selected output layer the node with the largest output of each row, where it is known.
    largest: Sequence[list[int] | None] = ()

    #: Which columns of a table are one column of the user, whose attributions are summed where they are shown.
    groups: Groups | None = None
    #: Values of the user's columns as texts, for each row.
    row_values: list[list[str]] | None = None

    described: Described
    result: Buffers
    preds: list[Tensor | None] | None
    decomp_goal: list[Tensor | None] | None
    output_idx: list[list[Node] | None]
    output_label: list[list[str] | None]
    channels_first: bool
    dtype: Literal["float", "double"]
    data: list[Tensor]
    data_names: Sequence[str] = ()

    def data_name(self, row: int) -> str:
        """Return the name of an instance."""
        return self.data_names[row] if self.data_names else f"data_{row + 1}"

    def own_nodes(self, i: int) -> list[int] | None:
        """Return the position of each row's node of output layer i; None where all rows have the same nodes."""
        own = self.target_idx[i] if self.target_idx else None
        return None if own is None else [as_position(node, self.described.outputs[i].dim) for node in own]

    def _name_targets(self, positions: Sequence[Sequence[int] | None]) -> None:
        """Keep which node each row has, from its position in each output layer that has a target."""
        if not any(positions):
            self.target_idx, self.target_label = [None] * len(positions), [None] * len(positions)
            return
        layers = list(zip(positions, self.described.outputs, strict=True))
        self.target_idx = [
            None if nodes is None else [as_node(node, port.dim) for node in nodes] for nodes, port in layers
        ]
        self.target_label = [
            None if nodes is None else [node_label(node, port.dim, port.names) for node in nodes]
            for nodes, port in layers
        ]

    def node_labels(self, i: int) -> list[list[str]]:
        """Return the labels of the K explained nodes of output layer i, of each row or, where all are alike, once."""
        own = self.target_label[i] if self.target_label else None
        return [list(self.output_label[i] or ())] if own is None else [[label] for label in own]

    def node_label(self, i: int, k: int, row: int) -> str:
        """Return the label of the k-th explained node of output layer i for a row."""
        labels = self.node_labels(i)
        return labels[row if len(labels) > 1 else 0][k]

    @property
    def rows(self) -> int:
        """Number of instances."""
        tensors = [x for row in self.result if row is not None for x in row if x is not None]
        return tensors[0].shape[0] if tensors else self.data[0].shape[0] if self.data else 1


def explained_part(attributions: Attributions) -> Attributions:
    """Return attributions as they are shown.

    Inputs that only come with each row are left out, and columns that are one column of the user's table are summed.
    """
    attributions = _summed(attributions)
    kept = [j for j, port in enumerate(attributions.described.inputs) if port.kind != "fixed"]
    if len(kept) == len(attributions.described.inputs):
        return attributions
    part = copy.copy(attributions)
    part.described = of_inputs(attributions.described, kept)
    part.result = [None if row is None else [row[j] for j in kept] for row in attributions.result]
    part.data = [attributions.data[j] for j in kept] if attributions.data else attributions.data
    return part


def _summed(attributions: Attributions) -> Attributions:
    """Sum over the columns of numbers that are one column of the user; values per unit of a column are no sums."""
    groups = attributions.groups
    if groups is None or attributions.per_unit:
        return attributions
    part, described = copy.copy(attributions), copy.copy(attributions.described)
    keys, count = [port.key for port in described.inputs], len(groups.columns)
    described.inputs = make_ports(keys, [(count,)], [[list(groups.columns)]])
    part.described, part.groups = described, None
    part.result = [
        None if row is None else [None if x is None else groups.add_up(x) for x in row] for row in attributions.result
    ]
    part.data = [groups.one_each(x) for x in attributions.data]
    return part
