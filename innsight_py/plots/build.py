"""Computing what is in a picture: from a result to a `PlotFrame`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from innsight_py._checks import warn
from innsight_py.names import levels
from innsight_py.plots.arguments import (
    Aggregate,
    Node,
    preprocessed,
    read_aggregate,
    read_backgrounds,
    read_nodes,
    read_reference,
    read_rows,
)
from innsight_py.plots.axis import Axis
from innsight_py.plots.frame import MEDIAN, QUANTILES, Bars, Boxes, Empty, Image, Info, Panel, Place, PlotFrame
from innsight_py.plots.statistics import box_statistics, pixel_quantiles

if TYPE_CHECKING:
    from innsight_py.explanation import Explanation

#: Functions that may be applied to a part of the values at a time.
_ELEMENTWISE = (abs, np.abs, torch.abs)


def instance_frame(
    explanation: Explanation,
    data_idx: Any,
    output_idx: Any,
    output_label: Any,
    aggr_channels: Any,
    same_scale: bool,
    show_preds: bool,
    image: Any,
    max_display: int | None,
) -> PlotFrame:
    """Compute the picture of single instances; arguments as in `Explanation.plot`."""
    if explanation.is_global:
        rows = [0]
        if not (np.ndim(data_idx) == 0 and data_idx == 0):
            warn(f"The result of {explanation.title} without data is a global one: 'data_idx' is not used.")
    else:
        rows = read_rows(data_idx, explanation.rows, "data_idx")
    aggregate = read_aggregate(aggr_channels)
    nodes = read_nodes(explanation, output_idx, output_label)
    backgrounds = read_backgrounds(image, explanation, rows)
    sources = _sources(explanation, nodes)
    values = [
        [source.values(explanation, node, rows, aggregate, None) for source in row]
        for node, row in zip(nodes, sources, strict=True)
    ]
    kept = [_order(j, explanation, [row[j] for row in values], max_display) for j in range(_inputs(explanation))]
    panels = np.empty((len(rows), len(nodes), len(kept)), object)
    for b, row in enumerate(rows):
        for n, node in enumerate(nodes):
            own = [_take(values[n][j], kept[j])[b] if values[n][j] is not None else None for j in range(len(kept))]
            limits = [_magnitude(x) for x in own]
            limits = [max(limits)] * len(limits) if same_scale else limits
            for j, x in enumerate(own):
                place = _place(explanation, node, j, None if explanation.is_global else f"data_{row + 1}")
                axes = _axes(explanation, j, kept[j], max_display)
                head = (place, axes, explanation.value_name)
                if x is None:
                    panels[b, n, j] = Empty(*head, text=f"not connected to {place.output}")
                elif x.ndim == 1:
                    panels[b, n, j] = Bars(*head, x, limits[j], (0.0, 0.0))
                else:
                    behind = backgrounds[j][b] if j in backgrounds else None
                    panels[b, n, j] = Image(*head, x, limits[j], explanation.value_name, background=behind)
        _share_limits(panels[b])
    info = _info(explanation, nodes, rows) if show_preds else None
    return _frame(explanation, panels, nodes, [f"data_{row + 1}" for row in rows], info, is_global=False)


def global_frame(
    explanation: Explanation,
    output_idx: Any,
    output_label: Any,
    data_idx: Any,
    ref_data_idx: Any,
    aggr_channels: Any,
    preprocess_fun: Callable[..., Any],
    individual_data_idx: Any,
    individual_max: int,
    max_display: int | None,
) -> PlotFrame:
    """Compute the picture of many instances together; arguments as in `Explanation.plot_global`."""
    if explanation.is_global:
        raise ValueError(
            f"The result of {explanation.title} without data is a global one, not one of instances: run the method "
            f"with data and times_input=True, or use plot()."
        )
    count = explanation.rows
    everything = isinstance(data_idx, str) and data_idx == "all"
    rows = list(range(count)) if everything else read_rows(data_idx, count, "data_idx")
    reference = read_reference(ref_data_idx, count)
    individual = range(count) if individual_data_idx is None else individual_data_idx
    chosen = read_rows(individual, count, "individual_data_idx")[:individual_max]
    marked = list(dict.fromkeys([*([] if reference is None else [reference]), *chosen]))
    aggregate = read_aggregate(aggr_channels)
    nodes = read_nodes(explanation, output_idx, output_label)
    sources = _sources(explanation, nodes, preprocess_fun)
    needed = sorted({*rows, *marked})
    place_of = {row: place for place, row in enumerate(needed)}

    panels = np.empty((1, len(nodes), _inputs(explanation)), object)
    for j, dim in enumerate(explanation.converter.input_dim):
        for_boxes = len(dim) < 3
        columns = []
        for n, node in enumerate(nodes):
            used = needed if for_boxes else rows
            x = sources[n][j].values(explanation, node, used, aggregate, preprocess_fun)
            columns.append(x if x is None or for_boxes else pixel_quantiles(x, QUANTILES))
        summarized = [place_of[row] for row in rows]
        shown = [x if x is None or not for_boxes else x[summarized] for x in columns]
        kept = _order(j, explanation, shown, max_display)
        axes = _axes(explanation, j, kept, max_display)
        images = [] if for_boxes else [x for x in columns if x is not None]
        limits = tuple(max((_magnitude(x[q]) for x in images), default=0.0) for q in range(len(QUANTILES)))
        for n, node in enumerate(nodes):
            place = _place(explanation, node, j, None)
            head = (place, axes, explanation.value_name)
            x = columns[n]
            if x is None:
                panels[0, n, j] = Empty(*head, text=f"not connected to {place.output}")
            elif for_boxes:
                x = _take(x, kept)
                own = {f"data_{row + 1}": x[place_of[row]] for row in marked}
                named = None if reference is None else f"data_{reference + 1}"
                values = x[summarized]
                panels[0, n, j] = Boxes(*head, values, box_statistics(values), own, named, (0.0, 0.0))
            else:
                title = f"{explanation.value_name}\n(median)"
                panels[0, n, j] = Image(*head, x[MEDIAN], limits[MEDIAN], title, quantiles=x, quantile_limits=limits)
    _share_limits(panels[0])
    return _frame(explanation, panels, nodes, [""], None, is_global=True)


def warn_of_images(explanation: Explanation) -> None:
    """Warn where an input is an image, of which there are no box plots."""
    if any(len(dim) == 3 for dim in explanation.converter.input_dim):
        warn("Box plots are for tables and signals; of images the median of each pixel is drawn.")


# -- values -----------------------------------------------------------------------------------------------------


class _Source:
    """The attributions of one output layer for one input, read a node at a time."""

    def __init__(self, tensor: Tensor | None, whole: Tensor | None) -> None:
        self.tensor = tensor
        self.whole = whole

    def values(
        self,
        explanation: Explanation,
        node: Node,
        rows: Sequence[int],
        aggregate: Aggregate,
        preprocess: Callable[..., Any] | None,
    ) -> np.ndarray | None:
        """Return values ``(rows, *dims)`` without channels; None where the input does not reach the output."""
        if self.tensor is None:
            return None
        x = (self.tensor if self.whole is None else self.whole).detach()[..., node.position]
        if list(rows) != list(range(x.shape[0])):
            x = x[list(rows)]
        if preprocess is not None and self.whole is None:
            x = preprocessed(preprocess, x)
        array = x.cpu().numpy()
        if array.ndim > 2:
            array = aggregate(array, 1 if explanation.channels_first else array.ndim - 1)
        known = np.isfinite(array)
        return array if known.all() else np.where(known, array, np.nan)  # infinite values have no place on a scale


def _sources(
    explanation: Explanation, nodes: Sequence[Node], preprocess: Callable[..., Any] | None = None
) -> list[list[_Source]]:
    """Find the tensors for each node and input, preprocessed as a whole where the function needs that."""
    dims = explanation.converter.input_dim
    for j, dim in enumerate(dims):
        if len(dim) > 3:
            raise ValueError(f"Input {j + 1} has {len(dim) - 1} axes beside its channels; at most 2 can be drawn.")
    found: dict[tuple[int, int], _Source] = {}
    for i in {node.layer for node in nodes}:
        row = explanation.result[i]
        assert row is not None
        for j, tensor in enumerate(row):
            whole = None
            if tensor is not None and preprocess is not None and preprocess not in _ELEMENTWISE:
                whole = preprocessed(preprocess, tensor.detach())
            found[i, j] = _Source(tensor, whole)
    return [[found[node.layer, j] for j in range(len(dims))] for node in nodes]


def _inputs(explanation: Explanation) -> int:
    return len(explanation.converter.input_dim)


def _magnitude(x: np.ndarray | None) -> float:
    """Return the largest magnitude, 0 where there is none."""
    return 0.0 if x is None else float(np.nan_to_num(np.abs(x)).max(initial=0.0))


def _order(
    j: int, explanation: Explanation, columns: Sequence[np.ndarray | None], max_display: int | None
) -> np.ndarray | None:
    """Choose and order the features of a table; None for other inputs.

    In the order of the labels' categories or, where only some are shown, by mean magnitude over all panels.
    """
    names = explanation.converter.input_names[j]
    if len(names) > 1:
        return None
    place = {label: p for p, label in enumerate(levels(names[0]))}
    order = np.argsort([place[str(label)] for label in names[0]], kind="stable")
    if max_display is None:
        return order
    known = [np.abs(x[:, order]) for x in columns if x is not None]
    if not known:
        return order[:max_display]
    magnitudes = np.concatenate(known).mean(0)
    return order[np.argsort(-magnitudes, kind="stable")[:max_display]]


def _take(x: np.ndarray | None, order: np.ndarray | None) -> Any:
    return x if x is None or order is None else x[:, order]


# -- labels -----------------------------------------------------------------------------------------------------


def _place(explanation: Explanation, node: Node, j: int, instance: str | None) -> Place:
    return Place(instance, f"Output_{node.layer + 1}", node.label, f"Input_{j + 1}")


def _axes(explanation: Explanation, j: int, order: np.ndarray | None, max_display: int | None) -> tuple[Axis, ...]:
    names = [[str(label) for label in axis] for axis in explanation.converter.input_names[j]]
    if order is not None:
        whole = len(names[0])
        fewer = max_display is not None and max_display < whole
        title = f"Feature ({len(order)} of {whole}, largest first)" if fewer else "Feature"
        return (Axis(title, "Feature", tuple(names[0][i] for i in order), named=True),)
    if len(names) == 2:
        return (Axis("Signal Length", "Length", tuple(names[1]), named=False),)
    return (
        Axis("Image Height", "Height", tuple(names[1]), named=False),
        Axis("Image Width", "Width", tuple(names[2]), named=False),
    )


def _frame(
    explanation: Explanation,
    panels: np.ndarray,
    nodes: Sequence[Node],
    instances: list[str],
    info: np.ndarray | None,
    is_global: bool,
) -> PlotFrame:
    several = len(explanation.converter.output_dim) > 1
    return PlotFrame(
        panels=panels,
        nodes=[f"Output_{node.layer + 1}: {node.label}" if several else node.label for node in nodes],
        inputs=[f"Input_{j + 1}" for j in range(panels.shape[2])],
        instances=instances,
        has_inputs=panels.shape[2] > 1,
        has_instances=not (is_global or explanation.is_global),
        info=info,
        value_name=explanation.value_name,
        title=explanation.title,
        is_global=is_global,
    )


def _info(explanation: Explanation, nodes: Sequence[Node], rows: Sequence[int]) -> np.ndarray:
    info = np.empty((len(rows), len(nodes)), object)
    for n, node in enumerate(nodes):
        tensors = [x for x in explanation.result[node.layer] or [] if x is not None]
        for b, row in enumerate(rows):
            total = sum(float(x.detach()[row, ..., node.position].double().sum()) for x in tensors)
            pred, goal = (_at(known, node, row) for known in (explanation.preds, explanation.decomp_goal))
            info[b, n] = Info(pred, total, goal)
    return info


def _at(values: Sequence[Tensor | None] | None, node: Node, row: int) -> float | None:
    known = None if values is None else values[node.layer]
    return None if known is None else float(known[row, node.position])


# -- limits -----------------------------------------------------------------------------------------------------


def _share_limits(row: np.ndarray) -> None:
    """Give the panels of one row ``(nodes, inputs)`` limits of their value axes, the same where there is one input."""
    shared = row.shape[1] == 1
    everything = [_extent(panel) for panel in row.flat if isinstance(panel, Bars | Boxes)]
    for index, panel in np.ndenumerate(row):
        if isinstance(panel, Bars | Boxes):
            row[index] = _with_limits(panel, everything if shared else [_extent(panel)])


def _with_limits(panel: Panel, extents: list[tuple[float, float]]) -> Panel:
    low, high = min(low for low, _ in extents), max(high for _, high in extents)
    margin = 0.05 * (high - low) or 1.0
    return replace(panel, value_limits=(low - margin, high + margin))  # type: ignore[call-arg]


def _extent(panel: Bars | Boxes) -> tuple[float, float]:
    """Return the smallest and the largest value drawn, 0 included."""
    values = [panel.values.ravel()]
    if isinstance(panel, Boxes) and panel.reference is not None:
        values.append(panel.marked[panel.reference])
    joined = np.concatenate([*values, [0.0]])
    return float(np.nanmin(joined)), float(np.nanmax(joined))
