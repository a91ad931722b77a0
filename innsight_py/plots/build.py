"""Computing what is in a picture: from a result to a `PlotFrame`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from innsight_py._checks import warn
from innsight_py.inputs.channels import read_aggregate
from innsight_py.plots.arguments import read_backgrounds, read_nodes, read_reference, read_rows
from innsight_py.plots.cuts import read_cuts
from innsight_py.plots.frame import PlotFrame
from innsight_py.plots.labels import axes_of, frame_of, info_of, place_of, strips, value_name_of
from innsight_py.plots.look import MOST_UPRIGHT, is_horizontal, read_axis_names, read_orientation, read_signals
from innsight_py.plots.panels import MEDIAN, QUANTILES, Bars, Boxes, Empty, Image, Panel
from innsight_py.plots.pixels import read_pixels, scale_note, smoothed
from innsight_py.plots.statistics import box_statistics, pixel_quantiles
from innsight_py.plots.values import MAGNITUDES, Chosen, choose, full_colour, magnitude, sources_of, texts_of
from innsight_py.plots.words import word_sums, words_panel
from innsight_py.results.attributions import Attributions, explained_part


def instance_frame(
    attributions: Attributions,
    data_idx: Any,
    output_idx: Any,
    output_label: Any,
    aggr_channels: Any,
    same_scale: bool,
    show_preds: bool,
    image: Any,
    max_display: int | None,
    clip: Any = None,
    smooth: Any = None,
    *,
    signal: bool = False,
    slice: Any = None,  # noqa: A002 (what it is)
    orientation: Any = None,
    axis_names: Any = None,
) -> PlotFrame:
    """Compute the picture of single instances; arguments as in `Explanation.plot`."""
    attributions = explained_part(attributions)
    if attributions.is_global:
        rows = [0]
        if not (np.ndim(data_idx) == 0 and data_idx == 0):
            warn(f"The result of {attributions.title} without data is a global one: 'data_idx' is not used.")
    else:
        rows = read_rows(data_idx, attributions.rows, "data_idx")
    aggregate = read_aggregate(aggr_channels)
    nodes = read_nodes(attributions, output_idx, output_label)
    ports = attributions.described.inputs
    cuts = read_cuts(slice, ports)
    backgrounds = read_backgrounds(image, attributions, rows, cuts)
    signals = read_signals(signal, attributions, rows)
    clip, smooth = read_pixels(clip, smooth, attributions)
    orientation = read_orientation(orientation, ports)
    lying = [is_horizontal(orientation, port) for port in ports]
    names = read_axis_names(axis_names, ports, attributions.described.input_keys)
    sources = sources_of(attributions, nodes, None, cuts)
    values = [
        [source.values(attributions, node, rows, aggregate, None) for source in row]
        for node, row in zip(nodes, sources, strict=True)
    ]
    if smooth is not None:
        values = [[smoothed(x, smooth) if x is not None and x.ndim == 3 else x for x in row] for row in values]
    texts = texts_of(attributions, rows)
    kept = []
    for j, port in enumerate(ports):
        many = lying[j] and port.dim[0] > MOST_UPRIGHT and max_display is None
        most, summed = (MOST_UPRIGHT if many else max_display), not attributions.per_unit and port.kind == "table"
        kept.append(choose(j, attributions, [row[j] for row in values], most, summed))
    panels = np.empty((len(rows), len(nodes), len(kept)), object)
    for b, row in enumerate(rows):
        for n, node in enumerate(nodes):
            taken = [x if j in texts else _taken(x, kept[j]) for j, x in enumerate(values[n])]
            own = [None if x is None else x[b] for x in taken]
            drawn = [word_sums(texts[j][b][0], x) if j in texts and x is not None else x for j, x in enumerate(own)]
            limits = [magnitude(x) if clip is None else full_colour(x, clip) for x in drawn]
            limits = [max(limits)] * len(limits) if same_scale else limits
            for j, x in enumerate(own):
                place = place_of(attributions, node, j, None if attributions.is_global else row)
                value_name = value_name_of(attributions, j, aggr_channels, magnitudes=False)
                told = None if attributions.is_global or (len(rows) > 1 and not lying[j]) else row
                axes = axes_of(attributions, j, kept[j], names.get(j), cuts.get(j), told, lying[j])
                head = (place, axes, value_name)
                if x is None:
                    panels[b, n, j] = Empty(*head, text=f"not connected to {place.output}")
                elif j in texts:
                    panels[b, n, j] = words_panel(place, value_name, texts[j][b], x, limits[j])
                elif x.ndim == 1:
                    behind = signals[j][b] if j in signals else None
                    panels[b, n, j] = Bars(*head, x, limits[j], (0.0, 0.0), lying[j], behind)
                else:
                    behind = backgrounds[j][b] if j in backgrounds else None
                    title = value_name + scale_note(clip, smooth, cuts[j].note(ports[j]) if j in cuts else None)
                    panels[b, n, j] = Image(*head, x, limits[j], title, background=behind)
        share_limits(panels[b])
    info = info_of(attributions, nodes, rows) if show_preds else None
    nodes, instances = strips(attributions, nodes, rows)
    return frame_of(attributions, panels, nodes, instances, info, is_global=False)


def global_frame(
    attributions: Attributions,
    output_idx: Any,
    output_label: Any,
    data_idx: Any,
    ref_data_idx: Any,
    aggr_channels: Any,
    preprocess_fun: Callable[..., Any],
    individual_data_idx: Any,
    individual_max: int,
    max_display: int | None,
    *,
    slice: Any = None,  # noqa: A002 (what it is)
    axis_names: Any = None,
) -> PlotFrame:
    """Compute the picture of many instances together; arguments as in `Explanation.plot_global`."""
    attributions = explained_part(attributions)
    if attributions.is_global:
        raise ValueError(
            f"The result of {attributions.title} without data is a global one, not one of instances: run the method "
            f"with data and times_input=True, or use plot()."
        )
    count = attributions.rows
    everything = isinstance(data_idx, str) and data_idx == "all"
    rows = list(range(count)) if everything else read_rows(data_idx, count, "data_idx")
    reference = read_reference(ref_data_idx, count)
    individual = range(count) if individual_data_idx is None else individual_data_idx
    chosen = read_rows(individual, count, "individual_data_idx")[:individual_max]
    marked = list(dict.fromkeys([*([] if reference is None else [reference]), *chosen]))
    aggregate = read_aggregate(aggr_channels)
    nodes = read_nodes(attributions, output_idx, output_label)
    ports = attributions.described.inputs
    cuts = read_cuts(slice, ports)
    names = read_axis_names(axis_names, ports, attributions.described.input_keys)
    sources = sources_of(attributions, nodes, preprocess_fun, cuts)
    magnitudes = preprocess_fun in MAGNITUDES
    needed = sorted({*rows, *marked})
    at = {row: place for place, row in enumerate(needed)}

    panels = np.empty((1, len(nodes), len(ports)), object)
    for j, port in enumerate(ports):
        for_boxes = port.kind != "image" and j not in cuts
        columns = []
        for n, node in enumerate(nodes):
            used = needed if for_boxes else rows
            x = sources[n][j].values(attributions, node, used, aggregate, preprocess_fun)
            columns.append(x if x is None or for_boxes else pixel_quantiles(x, QUANTILES))
        summarized = [at[row] for row in rows]
        shown = [x if x is None or not for_boxes else x[summarized] for x in columns]
        kept = choose(j, attributions, shown, max_display, summed=False)
        axes = axes_of(attributions, j, kept, names.get(j), cuts.get(j))
        images = [] if for_boxes else [x for x in columns if x is not None]
        limits = tuple(max((magnitude(x[q]) for x in images), default=0.0) for q in range(len(QUANTILES)))
        for n, node in enumerate(nodes):
            place = place_of(attributions, node, j, None)
            value_name = value_name_of(attributions, j, aggr_channels, magnitudes)
            head = (place, axes, value_name)
            x = columns[n]
            if x is None:
                panels[0, n, j] = Empty(*head, text=f"not connected to {place.output}")
            elif for_boxes:
                x = x if kept is None else kept.take(x)
                own = {attributions.data_name(row): x[at[row]] for row in marked}
                named = None if reference is None else attributions.data_name(reference)
                values = x[summarized]
                panels[0, n, j] = Boxes(*head, values, box_statistics(values), own, named, (0.0, 0.0))
            else:
                note = f", {cuts[j].note(port)}" if j in cuts else ""
                title = f"{value_name}\n(median{note})"
                panels[0, n, j] = Image(*head, x[MEDIAN], limits[MEDIAN], title, quantiles=x, quantile_limits=limits)
    share_limits(panels[0])
    return frame_of(attributions, panels, nodes, [""], None, is_global=True)


def warn_of_images(attributions: Attributions) -> None:
    """Warn where an input is an image, of which there are no box plots."""
    if any(port.kind == "image" for port in attributions.described.inputs):
        warn("Box plots are for tables and signals; of images the median of each pixel is drawn.")


def _taken(x: np.ndarray | None, chosen: Chosen | None) -> np.ndarray | None:
    return x if x is None or chosen is None else chosen.take(x)


# -- limits -----------------------------------------------------------------------------------------------------


def share_limits(row: np.ndarray) -> None:
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
