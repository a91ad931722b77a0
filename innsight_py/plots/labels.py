"""The labels of a picture: names of values, places, strips and axes, and what stands above the panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from innsight_py._text import printable
from innsight_py.plots.arguments import Node
from innsight_py.plots.axis import Axis
from innsight_py.plots.cuts import Cut
from innsight_py.plots.frame import Info, PlotFrame
from innsight_py.plots.panels import Place
from innsight_py.plots.text import LONGEST_LABEL, number, shortened, with_value
from innsight_py.plots.values import Chosen
from innsight_py.results.attributions import Attributions
from innsight_py.results.notes import largest_label

#: Letters of a name and a value at the side of a horizontal bar.
LONGEST_LYING = 40


def value_name_of(attributions: Attributions, j: int, aggr_channels: Any, magnitudes: bool) -> str:
    """Name what is drawn of an input: a value, or its magnitude."""
    has_channels = attributions.described.inputs[j].has_channels
    of_norm = has_channels and isinstance(aggr_channels, str) and aggr_channels == "norm"
    return f"|{attributions.value_name}|" if magnitudes or of_norm else attributions.value_name


def place_of(attributions: Attributions, node: Node, j: int, row: int | None) -> Place:
    """Say where a panel belongs."""
    instance = None if row is None else printable(attributions.data_name(row))
    label = node.label if row is None else attributions.node_label(node.layer, node.position, row)
    return Place(instance, f"Output_{node.layer + 1}", printable(label), f"Input_{j + 1}")


def strips(attributions: Attributions, nodes: list[Node], rows: Sequence[int]) -> tuple[list[Node], list[str]]:
    """Return what strips of columns and rows say: where rows have nodes of their own, each row says which."""
    names = [attributions.data_name(row) for row in rows]
    if not any(name is not None for name in attributions.targets):
        return nodes, names
    (node,) = nodes
    labels = [attributions.node_label(node.layer, node.position, row) for row in rows]
    if len(set(labels)) == 1:
        return [replace(node, label=labels[0])], names
    return nodes, [f"{name}: {label}" for name, label in zip(names, labels, strict=True)]


def axes_of(
    attributions: Attributions,
    j: int,
    chosen: Chosen | None,
    names: tuple[str, ...] | None,
    cut: Cut | None = None,
    row: int | None = None,
    with_values: bool = False,
) -> tuple[Axis, ...]:
    """Return the axes of an input.

    Labels have the values of a row where the user's columns are known by their values, or where `with_values`.
    """
    port = attributions.described.inputs[j]
    labels = [[printable(str(label)) for label in axis] for axis in port.names]
    if chosen is not None:
        shorts, known = (
            [shortened(name, LONGEST_LYING if with_values else LONGEST_LABEL) for name in labels[0]],
            _values(attributions, j, row, with_values),
        )
        if known is not None:
            shorts = [
                with_value(name, value, LONGEST_LYING if with_values else LONGEST_LABEL)
                for name, value in zip(labels[0], known, strict=True)
            ]
            labels[0] = [f"{name} = {value}" for name, value in zip(labels[0], known, strict=True)]
        whole, others = len(labels[0]), len(chosen.others)
        name = names[0] if names else port.axes[0]
        partly = len(chosen.order) + others < whole
        title = f"{name} ({len(chosen.order)} of {whole}, largest first)" if partly else name
        rest = (f"{others} other feature{'s' * (others > 1)}",) if others else ()
        texts, ticks = ((*(entries[i] for i in chosen.order), *rest) for entries in (labels[0], shorts))
        return (Axis(title, name, texts, named=True, short_labels=ticks),)
    if port.kind == "signal":
        title, short = (names[0], names[0]) if names else ("Signal Length", "Length")
        return (Axis(title, short, tuple(labels[1]), named=False),)
    titles = [("Image Height", "Height"), ("Image Width", "Width")]
    drawn = [0, 1]
    if cut is not None:
        drawn = cut.drawn
        titles = [(port.axes[1 + axis], port.axes[1 + axis]) for axis in drawn]
    titles = [(name, name) for name in names] if names else titles
    return tuple(Axis(*title, tuple(labels[1 + axis]), named=False) for title, axis in zip(titles, drawn, strict=True))


def _values(attributions: Attributions, j: int, row: int | None, all_tables: bool) -> list[str] | None:
    """Return the values of the features of a row as texts; None where they are not told."""
    port = attributions.described.inputs[j]
    if row is None:
        return None
    own = None if attributions.row_values is None else attributions.row_values[row]
    if own is not None and len(own) == len(port.names[0]):
        return [printable(value) for value in own]
    fits = j < len(attributions.data) and tuple(attributions.data[j].shape[1:]) == port.dim
    if not all_tables or not fits:
        return None
    return [number(float(value)) for value in attributions.data[j][row]]


def frame_of(
    attributions: Attributions,
    panels: np.ndarray,
    nodes: Sequence[Node],
    instances: list[str],
    info: np.ndarray | None,
    is_global: bool,
) -> PlotFrame:
    """Put panels together with what stands around them."""
    several = len(attributions.described.output_dim) > 1
    return PlotFrame(
        panels=panels,
        nodes=[f"Output_{node.layer + 1}: {node.label}" if several else node.label for node in nodes],
        inputs=[f"Input_{j + 1}" for j in range(panels.shape[2])],
        instances=instances,
        has_inputs=panels.shape[2] > 1,
        has_instances=not (is_global or attributions.is_global),
        info=info,
        value_name=attributions.value_name,
        title=attributions.title,
        is_global=is_global,
    )


def info_of(attributions: Attributions, nodes: Sequence[Node], rows: Sequence[int]) -> np.ndarray:
    """Return what the model said for each instance and node, and the sums, ``(instances, nodes)``."""
    info = np.empty((len(rows), len(nodes)), object)
    largest = _largest(attributions, nodes, rows)
    for n, node in enumerate(nodes):
        tensors = [x for x in attributions.result[node.layer] or [] if x is not None]
        for b, row in enumerate(rows):
            total = sum(float(x.detach()[row, ..., node.position].double().sum()) for x in tensors)
            goals = attributions.decomp_goal if attributions.decomposes else None
            pred, goal = (_at(known, node, row) for known in (attributions.preds, goals))
            info[b, n] = Info(pred, total, goal, largest.get((node.layer, row)))
    return info


def _largest(attributions: Attributions, nodes: Sequence[Node], rows: Sequence[int]) -> dict[tuple[int, int], str]:
    """Return the label of the largest output of each output layer and row of which no panel shows it."""
    found = {}
    for i in {node.layer for node in nodes}:
        for row in rows:
            shown = {attributions.node_label(i, node.position, row) for node in nodes if node.layer == i}
            label = largest_label(attributions, i, row)
            if label is not None and label not in shown:
                found[i, row] = label
    return found


def _at(values: Sequence[Tensor | None] | None, node: Node, row: int) -> float | None:
    known = None if values is None else values[node.layer]
    return None if known is None else float(known[row, node.position])
