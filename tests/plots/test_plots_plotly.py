"""What is in interactive figures: read from plotly's own objects, compared with results and matplotlib's pictures."""

from __future__ import annotations

import html
import itertools
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from result_models import IMAGE, METHODS, SIGNAL, TABLE, batch, mixed, single

from innsight_py import ConnectionWeights, run_cw, run_grad
from innsight_py.plots.panels import QUANTILES, Bars, Boxes, Empty, Image
from innsight_py.plots.plotly import PlotlyDisplay
from innsight_py.plots.plotly_controls import SCALES, colour_scale
from innsight_py.plots.plotly_grid import LINE
from innsight_py.plots.plotly_traces import QUANTILE_LABELS

# Sums that are not exact are no matter here; when they warn is tested in test_residual.py.
pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")

AGGREGATES = {
    "sum": np.sum,
    "mean": np.mean,
    "norm": lambda x, axis: np.sqrt((x**2).sum(axis)),
    "max": np.max,
}


# -- reading figures ----------------------------------------------------------------------------------------------


class Field:
    """One panel as it stands in a figure: its axes, its place in pixels and its traces."""

    def __init__(self, figure: go.Figure, number: str):
        self.figure = figure
        self.x, self.y = figure.layout[f"xaxis{number}"], figure.layout[f"yaxis{number}"]
        self.traces = [trace for trace in figure.data if trace.xaxis == f"x{number}"]
        assert all(trace.yaxis == f"y{number}" for trace in self.traces)
        width, height = area(figure)
        (left, right), (bottom, top) = self.x.domain, self.y.domain
        self.box = np.array([left * width, right * width, (1 - top) * height, (1 - bottom) * height])

    def named(self, name: str):
        return [trace for trace in self.traces if trace.name == name]

    def one(self, name: str):
        (trace,) = self.named(name)
        return trace

    def colours(self, trace):
        return self.figure.layout[(trace.marker if trace.type == "bar" else trace).coloraxis]

    def image(self, trace=None) -> np.ndarray:
        """Read an image as the eye meets it, from the top down."""
        trace = trace or self.one("image")
        bottom, top = self.y.range
        assert (bottom, top) == (len(trace.y) - 0.5, -0.5)
        assert list(self.y.categoryarray) == list(trace.y)
        assert list(self.x.range) == [-0.5, len(trace.x) - 0.5]
        assert list(self.x.categoryarray) == list(trace.x)
        return np.asarray(trace.z)


def area(figure) -> tuple[float, float]:
    """Pixels of the area that positions are parts of."""
    margin = figure.layout.margin
    assert margin.autoexpand is False
    return figure.layout.width - margin.l - margin.r, figure.layout.height - margin.t - margin.b


def fields(p) -> np.ndarray:
    """Read the panels in the order of the frame, None for empty ones; nothing else may be in the figure."""
    numbers = iter(["", *map(str, range(2, p.frame.panels.size + 2))])
    found = np.empty(p.frame.shape, object)
    for place, panel in np.ndenumerate(p.frame.panels):
        found[place] = None if isinstance(panel, Empty) else Field(p.figure, next(numbers))
    drawn = [field for field in found.flat if field is not None]
    assert sum(name.startswith("xaxis") for name in p.figure.layout.to_plotly_json()) == len(drawn)
    assert sum(len(field.traces) for field in drawn) == len(p.figure.data)
    return found


def rectangles(figure, kind: str) -> list[tuple[str, np.ndarray]]:
    """Text and place in pixels (left, right, top, bottom) of strips, or of infos by the size of their letters."""
    width, height = area(figure)
    found = []
    if kind == "info":
        for text in (note for note in figure.layout.annotations if note.name == "info"):
            lines = text.text.split("<br>")
            bottom = (1 - text.y) * height - text.yshift
            right = text.x * width + max(map(len, lines)) * 0.5 * text.font.size
            found.append((text.text, np.array([text.x * width, right, bottom - LINE * len(lines), bottom])))
        return found
    notes = [note for note in figure.layout.annotations if note.name in ("strip", "instance")]
    for shape in (shape for shape in figure.layout.shapes if shape.name == "strip"):
        if shape.ysizemode == "pixel":
            edge = (1 - shape.yanchor) * height
            box = np.array([shape.x0 * width, shape.x1 * width, edge - shape.y1, edge - shape.y0])
        else:
            edge = shape.xanchor * width
            box = np.array([edge + shape.x0, edge + shape.x1, (1 - shape.y1) * height, (1 - shape.y0) * height])
        inside = [
            note for note in notes
            if box[0] <= note.x * width + (note.xshift or 0) <= box[1]
            and box[2] <= (1 - note.y) * height - (note.yshift or 0) <= box[3]
        ]  # fmt: skip
        (note,) = inside
        found.append((html.unescape(note.hovertext or note.text), box))
    assert len(found) == len(notes)
    return found


def overlap(a: np.ndarray, b: np.ndarray) -> bool:
    slack = 0.01
    return bool(min(a[1], b[1]) - max(a[0], b[0]) > slack and min(a[3], b[3]) - max(a[2], b[2]) > slack)


def assert_strips_name_their_panels(p):
    """Follow the column above and the row beside each panel to the strips."""
    strips = rectangles(p.figure, "strip")
    infos = rectangles(p.figure, "info")
    everything = [box for _, box in strips + infos] + [field.box for field in fields(p).flat if field is not None]
    assert not any(overlap(a, b) for a, b in itertools.combinations(everything, 2))
    width, height = area(p.figure)
    for box in everything:
        assert box.min() > -0.01
        assert box[1] <= width + 0.01
        assert box[3] <= height + 0.01
    for (i, j, k), field in np.ndenumerate(fields(p)):
        if field is None:
            continue
        middle, place = field.box[:2].mean(), p.frame.panels[i, j, k].place
        above = [(box[3], text) for text, box in strips if box[0] < middle < box[1] and box[3] <= field.box[2] + 0.01]
        nearest = [text for _, text in sorted(above, reverse=True)]
        if p.frame.has_inputs:
            assert nearest.pop(0) == place.input
        assert nearest[0] in (place.node, f"{place.output}: {place.node}")
        assert nearest[0] == p.frame.nodes[j]
        beside = [text for text, box in strips if box[0] >= field.box[1] and box[2] <= field.box[2:].mean() <= box[3]]
        assert beside == ([place.instance] if p.frame.has_instances else [])
        if p.frame.info is not None and k == 0:
            over = [(box[3], text) for text, box in infos if box[0] == field.box[0] and box[3] <= field.box[2]]
            lines = [f"{name} {value}" for name, value in p.frame.info[i, j].lines]
            assert re.split("<br>|   ", max(over)[1]) == lines


def close(ours, theirs, rtol=1e-7):
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-12)


def near(ours, theirs):
    """Compare images, which pages hold in single precision."""
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6 * np.abs(theirs).max())


def hover_text(trace, index) -> tuple[str, str]:
    """Fill in a template as plotly does: the box at the pointer, and the one beside it."""

    def value(match):
        name, number, spec = match.groups()
        if name == "text":
            return trace.text
        if name == "customdata":
            found = trace.customdata[index] if number is None else trace.customdata[index][int(number)]
        elif trace.type == "heatmap":
            found = {"x": trace.x[index[1]], "y": trace.y[index[0]], "z": trace.z[index]}[name]
        else:
            found = getattr(trace, name)[index]
        return f"{found:.4g}" if spec else str(found)

    text = re.sub(r"%\{(\w+)(?:\[(\d)\])?(?::(\.4~g))?\}", value, trace.hovertemplate)
    main, extra = re.fullmatch(r"(.*)<extra>(.*)</extra>", text).groups()
    return main, extra


def press(figure, menu: str, label: str) -> go.Figure:
    """Do to a copy of a figure what a button does in the page."""
    (found,) = [menu_ for menu_ in figure.layout.updatemenus if menu_.name == menu]
    (button,) = [button for button in found.buttons if button.label == label]
    return apply(figure, button)


def apply(figure, button) -> go.Figure:
    copy = go.Figure(figure)
    arguments = list(button.args)
    if button.method in ("restyle", "update"):
        restyle, traces = arguments.pop(0), arguments.pop()
        for key, values in restyle.items():
            for n, trace in enumerate(traces):
                if key in ("visible", "y", "name", "text"):
                    copy.data[trace][key] = values[n] if isinstance(values, list | tuple) else values
    if button.method in ("relayout", "update"):
        (changes,) = arguments
        for key, value in changes.items():
            copy.layout[key.replace(".", "_")] = value
    return copy


def visible(figure) -> list[str]:
    return [trace.name for trace in figure.data if trace.visible]


CONVERTERS = {"table": lambda: single(*TABLE), "signal": lambda: single(*SIGNAL), "image": lambda: single(*IMAGE),
              "mixed": mixed}  # fmt: skip
NODES = {"mixed": ([[1], None, None], [[2, 0], [1], None])}


# -- single instances ---------------------------------------------------------------------------------------------


def aggregated(x: np.ndarray, aggregate: str, channels_first: bool) -> np.ndarray:
    """Aggregate the channels of values ``(*dims)``."""
    return AGGREGATES[aggregate](x, axis=0 if channels_first else -1) if x.ndim > 1 else x


def in_turn(method) -> list[str]:
    """Order the aggregations so that over the methods each comes with every number of instances and nodes."""
    first = [known for known, _ in METHODS].index(method) % len(AGGREGATES)
    names = list(AGGREGATES)
    return names[first:] + names[:first]


def wanted(kind: str, result, choice):
    """For each drawn node: output layer, column of the result, strip."""
    if kind != "mixed":
        return [(None, result.output_idx[0].index(node), f"Y{node + 1}") for node in sorted(choice)]
    found = []
    for i, nodes in enumerate(choice):
        found += [(f"Output_{i + 1}", result.output_idx[i].index(node), f"Output_{i + 1}: Y{node + 1}")
                  for node in sorted(nodes or [])]  # fmt: skip
    return found


@pytest.mark.parametrize("channels_first", [True, False], ids=["channels first", "channels last"])
@pytest.mark.parametrize(("method", "arguments"), METHODS, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("kind", CONVERTERS)
def test_instances(kind, method, arguments, channels_first):
    converter = CONVERTERS[kind]()
    choices = NODES.get(kind, ([1], [2, 0]))
    explained = [[2, 0, 1], [1], None] if kind == "mixed" else [2, 0, 1]
    result = method(converter, batch(converter, 3, channels_first), output_idx=explained, dtype="double",
                    channels_first=channels_first, **arguments)  # fmt: skip
    x = result.get_result()
    options = itertools.product(([1], [2, 0]), choices)
    for (rows, choice), aggregate in zip(options, in_turn(method), strict=True):
        function = aggregate if aggregate in ("sum", "mean", "norm") else AGGREGATES[aggregate]
        p = result.plot(rows, output_idx=choice, aggr_channels=function, as_plotly=True)
        nodes = wanted(kind, result, choice)
        assert p.frame.shape == (len(rows), len(nodes), len(converter.input_dim))
        assert_strips_name_their_panels(p)
        for (b, n, j), field in np.ndenumerate(fields(p)):
            layer, column, strip = nodes[n]
            assert p.frame.nodes[n] == strip
            values = (x if layer is None else x[layer][f"Input_{j + 1}"])[rows[b], ..., column]
            if field is None:
                assert np.isnan(values).all()
                continue
            values = aggregated(values, aggregate, channels_first)
            limit = np.abs(values).max()
            trace = field.traces[0]
            assert len(field.traces) == 1
            if values.ndim == 1:
                assert trace.name == "bars"
                close(trace.y, values)
                close(trace.x, np.arange(len(values)) + 1)
                close(trace.marker.color, values / limit)
                assert (field.colours(trace).cmin, field.colours(trace).cmax) == (-1, 1)
                low, high = field.y.range
                assert low <= min(values.min(), 0) <= max(values.max(), 0) <= high
                assert list(field.x.range) == [0.5, len(values) + 0.5]
            else:
                near(field.image(), values)
                scale = field.colours(trace)
                close([scale.cmin, scale.cmax, trace.zmin, trace.zmax], [-limit, limit, -limit, limit])
                close(scale.colorbar.tickvals, [-limit, 0, limit])
                assert list(scale.colorbar.ticktext) == [f"{-limit:.2g}", "0", f"{limit:.2g}"]
                assert scale.colorbar.title.text.strip("|") == result.value_name
        if kind != "mixed":
            for (b, n), info in np.ndenumerate(p.frame.info):
                close(info.total, x[rows[b], ..., nodes[n][1]].sum())


@pytest.mark.parametrize("channels_first", [True, False], ids=["channels first", "channels last"])
@pytest.mark.parametrize(("method", "arguments"), METHODS, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("kind", CONVERTERS)
def test_many_instances(kind, method, arguments, channels_first):
    converter = CONVERTERS[kind]()
    choices = NODES.get(kind, ([1], [2, 0]))
    explained = [[2, 0, 1], [1], None] if kind == "mixed" else [2, 0, 1]
    result = method(converter, batch(converter, 9, channels_first), output_idx=explained, dtype="double",
                    channels_first=channels_first, **arguments)  # fmt: skip
    x = result.get_result()
    options = itertools.product(("all", [5, 0, 2, 3, 8]), choices)
    for (rows, choice), aggregate in zip(options, in_turn(method), strict=True):
        function = aggregate if aggregate in ("sum", "mean", "norm") else AGGREGATES[aggregate]
        p = result.plot_global(data_idx=rows, output_idx=choice, aggr_channels=function, ref_data_idx=4,
                               individual_data_idx=[7, 4], as_plotly=True)  # fmt: skip
        rows = list(range(9)) if rows == "all" else rows
        nodes = wanted(kind, result, choice)
        assert p.frame.shape == (1, len(nodes), len(converter.input_dim))
        assert_strips_name_their_panels(p)
        limits: dict = {}
        for (_, n, j), field in np.ndenumerate(fields(p)):
            layer, column, strip = nodes[n]
            assert p.frame.nodes[n] == strip
            values = np.abs((x if layer is None else x[layer][f"Input_{j + 1}"])[..., column])
            if field is None:
                assert np.isnan(values).all()
                continue
            values = np.stack([aggregated(one, aggregate, channels_first) for one in values])
            if values.ndim == 2:
                check_boxes(field, values, rows)
            else:
                quantiles = np.quantile(values[rows], QUANTILES, axis=0)
                traces = [field.one(f"image {label}") for label in QUANTILE_LABELS]
                for trace, expected in zip(traces, quantiles, strict=True):
                    near(field.image(trace), expected)
                assert [trace.name for trace in field.traces if trace.visible] == ["image median"]
                limits.setdefault(j, []).append((field, quantiles))
        for found in limits.values():
            limit = max(quantiles[4].max() for _, quantiles in found)
            for field, _ in found:
                close(field.colours(field.one("image median")).cmax, limit)


def check_boxes(field, values, rows):
    chosen = values[rows]
    q1, median, q3 = np.quantile(chosen, (0.25, 0.5, 0.75), axis=0)
    box = field.one("boxes")
    for ours, theirs in ((box.q1, q1), (box.median, median), (box.q3, q3)):
        close(ours, theirs)
    inside = (chosen >= q1 - 1.5 * (q3 - q1)) & (chosen <= q3 + 1.5 * (q3 - q1))
    close(box.lowerfence, np.where(inside, chosen, np.inf).min(0))
    close(box.upperfence, np.where(inside, chosen, -np.inf).max(0))
    outliers = field.named("outliers")
    found = sorted(zip(outliers[0].x, outliers[0].y, strict=True)) if outliers else []
    expected = sorted((place + 1, chosen[b, place]) for b, place in zip(*np.nonzero(~inside), strict=True))
    close(np.reshape(found, (-1, 2)), np.reshape(expected, (-1, 2)))
    for place, violin in enumerate(field.named("violins")):
        assert violin.x0 == place + 1
        near(violin.y, chosen[:, place])
        assert not violin.visible
    assert len(field.named("violins")) == values.shape[1]
    for label, row in (("data_5", 4), ("data_8", 7)):
        number = field.figure.data.index(field.one("data point data_5"))
        pressed = press(field.figure, "button_datapoints", label)
        mark = pressed.data[number]
        assert mark.visible
        assert mark.name == f"data point {label}"
        y = np.reshape(np.asarray(mark.y, float), (-1, 4))[:, :3]
        close(y, np.repeat(values[row][:, None], 3, 1), rtol=1e-5)
        close(np.reshape(mark.x, (-1, 4))[:, 1], np.arange(values.shape[1]) + 1)
        assert mark.line.color == "red"
        low, high = field.y.range
        assert low <= min(0, values[row].min()) <= values[row].max() <= high
    close(np.reshape(field.one("data point data_5").y, (-1, 4))[:, 0], values[4])
    assert field.one("data point data_5").visible
    assert box.visible


# -- the other backend --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONVERTERS)
def test_both_backends_draw_the_same_numbers(kind):
    converter = CONVERTERS[kind]()
    explained = [[2, 0], [1], [3]] if kind == "mixed" else [2, 0]
    result = run_grad(converter, batch(converter, 8), output_idx=explained, dtype="double", times_input=True)
    for arguments in ({"data_idx": [3, 1]}, {"data_idx": 0, "max_display": 2, "show_preds": False}):
        static, p = (result.plot(output_idx=explained, as_plotly=flag, **arguments) for flag in (False, True))
        for place, field in np.ndenumerate(fields(p)):
            ax = static.axes[place]
            if field is None:
                assert not ax.axison
            elif field.traces[0].type == "bar":
                close(field.one("bars").y, ends_of_bars(ax))
                close(field.y.range, ax.get_ylim())
                labels = [tick.get_text() for tick in ax.get_xticklabels()]
                if kind == "table" and field.x.showticklabels:
                    assert [html.unescape(text) for text in field.x.ticktext] == labels
            else:
                drawn = ax.get_images()[-1]
                near(field.image(), drawn.get_array())
                close([field.one("image").zmin, field.one("image").zmax], drawn.get_clim())
    static, p = (result.plot_global(output_idx=explained, ref_data_idx=2, as_plotly=flag) for flag in (False, True))
    for place, field in np.ndenumerate(fields(p)):
        ax = static.axes[place]
        if field is not None and field.named("boxes"):
            box = field.one("boxes")
            corners = np.array([path.vertices for path in artist(ax, "boxes").get_paths()])
            close([box.q1, box.q3], [corners[:, :, 1].min(1), corners[:, :, 1].max(1)])
            close(box.median, np.array(artist(ax, "medians").get_segments())[:, 0, 1])
            close(np.reshape(field.one("data point data_3").y, (-1, 4))[:, 0],
                  np.array(artist(ax, "reference").get_segments())[:, 0, 1])  # fmt: skip
            close(field.y.range[1], max(ax.get_ylim()[1], field.y.range[1]))
        elif field is not None:
            near(field.image(field.one("image median")), ax.get_images()[-1].get_array())


def artist(ax, gid):
    (found,) = [child for child in ax.get_children() if child.get_gid() == gid]
    return found


def ends_of_bars(ax):
    return np.array([path.vertices[1, 1] for path in artist(ax, "bars").get_paths()])


# -- hover texts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONVERTERS)
def test_hover_texts(kind):
    converter = CONVERTERS[kind]()
    result = run_grad(converter, batch(converter, 8), times_input=True)
    p = result.plot(3, as_plotly=True)
    for place, field in np.ndenumerate(fields(p)):
        panel = p.frame.panels[place]
        texts = panel.hover_texts()
        for index in np.ndindex(*texts.shape):
            main, extra = hover_text(field.traces[0], index if len(index) == 2 else index[0])
            assert main.replace("e-0", "e-") == texts[index].replace("e-0", "e-")
            assert extra == f"data_4<br>Output_1<br>{converter.output_names[0][0][0]}"
    p = result.plot_global(ref_data_idx=1, as_plotly=True)
    for place, field in np.ndenumerate(fields(p)):
        panel = p.frame.panels[place]
        if isinstance(panel, Image):
            main, extra = hover_text(field.one("image q75%"), (1, 0))
            value = f"{np.float32(panel.quantiles[6][1, 0]):.4g}"
            said = f"<b>|Relevance|</b>: {value} (q75%)<br>Input: {panel.place.input}<br>Height: H2<br>Width: W1"
            assert main == said
            assert extra == "Output_1<br>Y1"
            continue
        statistics = field.one("statistics")
        assert statistics.marker.opacity == 0
        low, high = np.asarray(statistics.base, float), np.asarray(statistics.base, float) + statistics.y
        margin = 0.03 * np.ptp(field.y.range)
        assert ((low < panel.boxes.low) & (low > panel.boxes.low - margin)).all()
        assert ((high > panel.boxes.high) & (high < panel.boxes.high + margin)).all()
        title, label = panel.axis.short_title, panel.axis.labels[0]
        low, q1, median, q3, high = (f"{getattr(panel.boxes, name)[0]:.4g}" for name in
                                     ("low", "q1", "median", "q3", "high"))  # fmt: skip
        assert hover_text(statistics, 0)[0] == (
            f"<b>|Relevance|</b>: {median} (median)<br>Quartiles: {q1}, {q3}<br>Whiskers: {low}, {high}"
            f"<br>Input: {panel.place.input}<br>{title}: {label}"
        )
        mark = field.one("data point data_2")
        value = f"{panel.marked['data_2'][0]:.4g}"
        for index in range(3):
            assert hover_text(mark, index)[0].startswith(f"<b>|Relevance|</b>: {value} (data_2)<br>")
        for outlier in field.named("outliers"):
            place_ = panel.axis.labels[int(outlier.x[0]) - 1]
            assert hover_text(outlier, 0)[0].startswith(f"<b>|Relevance|</b>: {outlier.y[0]:.4g} (outlier)<br>")
            assert hover_text(outlier, 0)[0].endswith(f"{title}: {place_}")
        assert {trace.hoverinfo for name in ("boxes", "violins") for trace in field.named(name)} == {"skip"}


def test_labels_with_special_characters():
    names = ["a < b", "%{y} & c", "<b>x</b>"]
    converter = single(3, input_names=names, output_names=["<i>", "%{x}", "z"])
    p = run_grad(converter, np.ones((4, 3)), output_idx=[0, 1]).plot(output_idx=[0, 1], as_plotly=True)
    first, second = fields(p).flat
    assert list(first.x.ticktext) == ["a &lt; b", "%{y} &amp; c", "&lt;b&gt;x&lt;/b&gt;"]
    assert list(first.one("bars").customdata) == list(first.x.ticktext)
    assert "<extra>data_1<br>Output_1<br>&lt;i&gt;</extra>" in first.one("bars").hovertemplate
    assert "&#37;{x}</extra>" in second.one("bars").hovertemplate
    assert sorted(text for text, _ in rectangles(p.figure, "strip")) == ["%{x}", "<i>", "data_1"]


def test_labels_that_are_the_same():
    converter = single(1, 2, 3, input_names=[["c"], ["top", "top"], ["1", "2", "1"]])
    p = run_grad(converter, np.ones((1, 1, 2, 3))).plot(as_plotly=True)
    (field,) = fields(p).flat
    image = field.image()
    assert image.shape == (2, 3)
    assert len(set(field.one("image").x)) == 3
    assert [label.strip("\u200b") for label in field.one("image").x] == ["1", "2", "1"]
    assert field.x.type == "category"


# -- strips and order ---------------------------------------------------------------------------------------------


def test_strips_follow_the_panels_whatever_the_order():
    """R gives the bars of one node the title of another here."""
    names = pd.Categorical(["zebra", "ant", "mouse"], categories=["mouse", "zebra", "ant"])
    result = run_grad(single(3, output_names=names), np.ones((2, 3)), output_idx=[1, 2, 0])
    p = result.plot([1, 0], output_idx=[2, 0, 1], as_plotly=True)
    assert p.frame.nodes == ["mouse", "zebra", "ant"]
    assert_strips_name_their_panels(p)
    for (b, n, _), field in np.ndenumerate(fields(p)):
        close(field.one("bars").y, result.get_result()[1 - b, :, [1, 2, 0][n]])


def test_global_connection_weights():
    p = run_cw(single(3)).plot(as_plotly=True)
    assert [text for text, _ in rectangles(p.figure, "strip")] == ["Y1"]
    assert rectangles(p.figure, "info")[0][0].startswith("Sum ")
    result = ConnectionWeights(single(3), np.ones((2, 3)), times_input=True)
    assert_strips_name_their_panels(result.plot([0, 1], as_plotly=True))


def test_parts():
    converter = mixed()
    result = run_grad(converter, batch(converter, 4), output_idx=[[0, 1], [0], [3]])
    p = result.plot([0, 1, 2], output_idx=[[0, 1], [0], [3]], as_plotly=True)
    part = p[1:, [3, 0]]
    assert isinstance(part, PlotlyDisplay)
    assert isinstance(part.figure, go.Figure)
    assert part.frame.nodes == ["Output_3: Y4", "Output_1: Y1"]
    assert_strips_name_their_panels(part)
    whole, taken = fields(p), fields(part)
    assert taken[0, 0, 0] is None
    close(taken[1, 1, 0].one("bars").y, whole[2, 0, 0].one("bars").y)
    close(taken[0, 0, 2].image(), whole[1, 3, 2].image())
    assert fields(p[2, 1])[0, 0, 1].one("bars").y is not None
    with pytest.raises(IndexError, match="output node"):
        p[0, 9]


def test_parts_keep_the_controls_that_they_need():
    converter = mixed()
    result = run_grad(converter, batch(converter, 6), output_idx=[[0], [0], None])
    p = result.plot_global(output_idx=[[0], [0], None], ref_data_idx=1, as_plotly=True)
    assert len(p.figure.layout.updatemenus) == 4
    assert len(p.figure.layout.sliders) == 1
    part = p[0, 1]  # Output_2 sees the table only
    assert [menu.name for menu in part.figure.layout.updatemenus] == ["button_box_violin", "button_datapoints"]
    assert not part.figure.layout.sliders
    violins = press(part.figure, "button_box_violin", "Violin")
    assert "violins" in visible(violins)
    assert "boxes" not in visible(violins)


# -- controls -----------------------------------------------------------------------------------------------------


def menu(figure, name):
    (found,) = [menu for menu in figure.layout.updatemenus if menu.name == name]
    return found


def test_which_controls_there_are():
    expected = {
        "table": (["button_colorscale"], ["button_box_violin", "button_datapoints"]),
        "signal": (["button_colorscale"], ["button_box_violin", "button_datapoints"]),
        "image": (["button_colorscale", "button_heatmap_contour"],) * 2,
        "mixed": (["button_colorscale", "button_heatmap_contour"],
                  ["button_colorscale", "button_box_violin", "button_datapoints", "button_heatmap_contour"]),
    }  # fmt: skip
    captions = {"button_colorscale": "Colorscale", "button_box_violin": "1D Plot Type",
                "button_datapoints": "Data point", "button_heatmap_contour": "2D Plot Type"}  # fmt: skip
    for kind, names in expected.items():
        converter = CONVERTERS[kind]()
        result = run_grad(converter, batch(converter, 5))
        for p, wanted_names in zip(
            (result.plot(as_plotly=True), result.plot_global(as_plotly=True)), names, strict=True
        ):
            assert [menu.name for menu in p.figure.layout.updatemenus] == wanted_names
            shown = [note.text for note in p.figure.layout.annotations if note.name == "caption"]
            assert shown == [f"<b>{captions[name]}</b>" for name in wanted_names]
            steps = kind in ("image", "mixed") and p.frame.is_global
            assert len(p.figure.layout.sliders) == steps


def test_scales_of_colours():
    converter = mixed()
    p = run_grad(converter, batch(converter, 5)).plot([0, 1], as_plotly=True)
    buttons = menu(p.figure, "button_colorscale").buttons
    names = ["Default", "Blackbody", "Bluered", "Blues", "Cividis", "Earth", "Electric", "Greens", "Greys",
             "Hot", "Jet",
             "Picnic", "Portland", "Rainbow", "RdBu", "Reds", "Viridis", "YlGnBu", "YlOrRd"]  # fmt: skip
    assert [button.label for button in buttons] == [*names, *(f"{name} (rev.)" for name in names)]
    axes = {trace.marker.coloraxis if trace.type == "bar" else trace.coloraxis for trace in p.figure.data}
    for button in buttons:
        assert set(button.args[0]) == {f"{axis}.colorscale" for axis in axes}
        figure = apply(p.figure, button)  # plotly refuses what is no scale
        assert {str(figure.layout[axis].colorscale) for axis in axes} == {str(figure.layout.coloraxis.colorscale)}
    there = apply(p.figure, buttons[16]).layout.coloraxis.colorscale
    back = apply(p.figure, buttons[16 + 19]).layout.coloraxis.colorscale
    assert [colour for _, colour in there] == [colour for _, colour in reversed(back)]
    assert [share for share, _ in back] == sorted(share for share, _ in back)


@pytest.mark.parametrize("name", ["Default", *SCALES, "Viridis (rev.)", "Default (rev.)"])
def test_scales_over_images_are_clear_in_the_middle(name):
    scale = colour_scale(name, clear=True)
    opacity = [float(re.fullmatch(r"rgba\(.*, ?([\d.]+)\)|rgba\(\d+,\d+,\d+,(\d)\)", colour).groups()[0] or colour[-2])
               for _, colour in scale]  # fmt: skip
    shares = [share for share, _ in scale]
    np.testing.assert_allclose(opacity, [abs(2 * share - 1) for share in shares], atol=0.0021)


def test_red_is_positive():
    assert colour_scale("RdBu", clear=False)[0][1] == "rgb(5,48,97)"
    assert colour_scale("Default", clear=False)[-1] == [1.0, "rgb(255,0,0)"]


def test_box_plots_and_violins():
    converter = mixed()
    p = run_grad(converter, batch(converter, 9)).plot_global(as_plotly=True)
    assert [button.label for button in menu(p.figure, "button_box_violin").buttons] == ["Boxplot", "Violin"]
    assert {"boxes"} == {"boxes", "violins"} & set(visible(p.figure))
    pressed = press(p.figure, "button_box_violin", "Violin")
    assert {"violins"} == {"boxes", "violins"} & set(visible(pressed))
    assert visible(press(pressed, "button_box_violin", "Boxplot")) == visible(p.figure)


def named_in_legend(figure) -> list[str]:
    shown = [t.name for t in figure.data if t.visible and t.showlegend is not False]
    return shown if figure.layout.showlegend else []


def test_a_legend_names_the_instance_that_is_marked():
    """Once for all panels; nothing else is in it."""
    result = run_grad(single(3), np.random.default_rng(0).normal(size=(8, 3)), data_names=[f"<b>{i}" for i in range(8)])
    p = result.plot_global(output_idx=[0, 1], ref_data_idx=2, as_plotly=True)
    assert named_in_legend(p.figure) == ["data point &lt;b&gt;2"]
    assert named_in_legend(press(p.figure, "button_datapoints", "<b>5")) == ["data point &lt;b&gt;5"]
    assert named_in_legend(press(p.figure, "button_datapoints", "None")) == []
    assert named_in_legend(result.plot(as_plotly=True).figure) == []


def test_data_points():
    result = run_grad(single(3), np.random.default_rng(0).normal(size=(30, 3)), output_idx=[0, 1])
    p = result.plot_global(output_idx=[0, 1], as_plotly=True)
    found = menu(p.figure, "button_datapoints")
    assert [button.label for button in found.buttons] == ["None", *(f"data_{i + 1}" for i in range(20))]
    assert found.active == 0
    assert not [name for name in visible(p.figure) if name.startswith("data point")]
    pressed = press(p.figure, "button_datapoints", "data_7")
    assert [name for name in visible(pressed) if name.startswith("data point")] == ["data point data_7"] * 2
    p = result.plot_global(ref_data_idx=25, individual_data_idx=[3, 4, 5], individual_max=2, as_plotly=True)
    found = menu(p.figure, "button_datapoints")
    assert [button.label for button in found.buttons] == ["None", "data_26", "data_4", "data_5"]
    assert found.active == 1
    assert "data point data_26" in visible(p.figure)
    pressed = press(p.figure, "button_datapoints", "None")
    assert not [name for name in visible(pressed) if name.startswith("data point")]


def test_instances_that_can_be_marked_are_within_the_axis():
    data = np.ones((4, 3))
    data[3] = 100
    result = run_grad(single(3), data, times_input=True, output_idx=[0, 1])
    p = result.plot_global(data_idx=[0, 1, 2], output_idx=[0, 1], preprocess_fun=lambda x: x, as_plotly=True)
    values = result.get_result()
    for field in fields(p).flat:
        low, high = field.y.range
        assert low <= values.min()
        assert high >= values.max()


def test_slider_of_quantiles():
    converter = mixed()
    result = run_grad(converter, batch(converter, 9), output_idx=[[0, 1], None, [0]])
    p = result.plot_global(output_idx=[[0, 1], None, [0]], as_plotly=True)
    (slider,) = p.figure.layout.sliders
    labels = ["min", "q12.5%", "q25%", "q37.5%", "median", "q62.5%", "q75%", "q87.5%", "max"]
    assert [step.label for step in slider.steps] == labels
    assert slider.active == 4
    limits = [
        max(panel.quantiles[q].max() for panel in p.frame.panels.flat if isinstance(panel, Image)) for q in range(9)
    ]
    for q, step in enumerate(slider.steps):
        figure = apply(p.figure, step)
        shown = [trace for trace in figure.data if trace.name.startswith("image") and trace.visible]
        assert [trace.name for trace in shown] == [f"image {labels[q]}"] * 3
        for trace in shown:
            scale = figure.layout[trace.coloraxis]
            close([scale.cmin, scale.cmax], [-limits[q], limits[q]])
            assert scale.colorbar.title.text == f"|Gradient|<br>({labels[q]})"
            assert scale.colorbar.ticktext[-1] == f"{limits[q]:.2g}"
            assert np.abs(trace.z).max() <= limits[q] * (1 + 1e-6)
        others = [name for name in visible(figure) if not name.startswith("image")]
        assert others == [name for name in visible(p.figure) if not name.startswith("image")]


def test_contours_have_the_colours_of_the_heat_map():
    converter = mixed()
    data = batch(converter, 4)
    result = run_grad(converter, data)
    for p in (result.plot([0, 1], as_plotly=True), result.plot_global(as_plotly=True)):
        heat, contour = menu(p.figure, "button_heatmap_contour").buttons
        images = [i for i, trace in enumerate(p.figure.data) if trace.name.startswith("image")]
        for button, kind in ((heat, "heatmap"), (contour, "contour")):
            change, layout, traces = button.args
            assert change["type"] == kind
            assert list(traces) == images
            for i in images:  # plotly forgets the ranges when a type changes
                x, y = (p.figure.data[i][f"{letter}axis"].replace(letter, f"{letter}axis") for letter in "xy")
                assert list(layout[f"{y}.range"]) == list(p.figure.layout[y].range)
                assert list(layout[f"{x}.range"]) == list(p.figure.layout[x].range)
        change = contour.args[0]
        for n, i in enumerate(images):
            limit, size = p.figure.data[i].zmax, change["contours.size"][n]
            # plotly stretches the colours from half a step below the first contour to half a step above the last
            close([change["contours.start"][n] - size / 2, change["contours.end"][n] + size / 2], [-limit, limit])
    overlay = run_grad(converter, data).plot(image=[None, None, data[2]], as_plotly=True)
    change, _, traces = menu(overlay.figure, "button_heatmap_contour").buttons[1].args
    assert change["contours.coloring"] == ["lines"]
    assert [overlay.figure.data[i].name for i in traces] == ["image"]


# -- scales -------------------------------------------------------------------------------------------------------


def test_medians_of_all_nodes_have_one_colour_bar():
    converter = single(*IMAGE)
    result = run_grad(converter, batch(converter, 5), output_idx=[0, 1, 2])
    p = result.plot_global(output_idx=[0, 1, 2], as_plotly=True)
    assert len({trace.coloraxis for trace in p.figure.data}) == 1
    assert len([key for key in p.figure.layout.to_plotly_json() if key.startswith("coloraxis")]) == 1
    p = result.plot([0, 1], output_idx=[0, 2], as_plotly=True)
    bars = [p.figure.layout[trace.coloraxis].colorbar for trace in p.figure.data]
    width, height = area(p.figure)
    for bar, field in zip(bars, fields(p).flat, strict=True):
        assert bar.x * width == pytest.approx(field.box[1])
        assert (1 - bar.y) * height == pytest.approx(field.box[2:].mean())
        assert bar.len == pytest.approx(field.box[3] - field.box[2])


def test_same_scale():
    converter = mixed()
    result = run_grad(converter, batch(converter, 2), times_input=True)
    table, signal, image = fields(result.plot(same_scale=True, as_plotly=True)).flat
    limit = max(np.abs(part).max() for part in (table.one("bars").y, signal.one("bars").y, image.image()))
    close(table.one("bars").marker.color, np.asarray(table.one("bars").y) / limit)
    close(signal.one("bars").marker.color, np.asarray(signal.one("bars").y) / limit)
    close(image.colours(image.one("image")).cmax, limit)


def test_axes_that_move_together():
    result = run_grad(single(3), np.ones((2, 3)), output_idx=[0, 1])
    figure = result.plot([0, 1], output_idx=[0, 1], as_plotly=True).figure
    assert [figure.layout[f"xaxis{n}"].matches for n in ("", 2, 3, 4)] == [None, "x", "x", "x"]
    assert [figure.layout[f"yaxis{n}"].matches for n in ("", 2, 3, 4)] == [None, "y", None, "y3"]


def test_zeros_and_nan():
    result = run_grad(single(3), np.zeros((2, 3)), times_input=True)
    (field,) = fields(result.plot(as_plotly=True)).flat
    assert not np.any(field.one("bars").marker.color)
    result.plot_global(as_plotly=True)
    converter = single(*IMAGE)
    result = run_grad(converter, np.zeros((3, *IMAGE)), times_input=True)
    for p in (result.plot(as_plotly=True), result.plot_global(as_plotly=True)):
        (field,) = fields(p).flat
        assert field.colours(field.traces[4 if p.frame.is_global else 0]).cmax == 1
        assert menu(p.figure, "button_heatmap_contour").buttons[1].args[0]["contours.size"][0] > 0
    result.result[0][0][0, 0, 0, 0, 0] = np.nan
    (field,) = fields(result.plot(as_plotly=True)).flat
    assert np.isnan(field.image()[0, 0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["table", "signal", "image"])
def test_values_that_are_no_numbers(kind, value):
    converter = CONVERTERS[kind]()
    for where in ((0,), (slice(None), 0), ...):
        result = run_grad(converter, batch(converter, 5), times_input=True)
        result.result[0][0][where] = value
        for p in (result.plot([0, 1], as_plotly=True), result.plot_global(ref_data_idx=0, as_plotly=True)):
            for field in fields(p).flat:
                assert np.isfinite(field.x.range if kind != "image" else field.colours(field.traces[0]).cmax).all()
                assert np.isfinite(field.y.range).all()
            assert "Infinity" not in p.figure.to_json()


def test_images_beyond_single_precision():
    converter = single(*IMAGE)
    result = run_grad(converter, batch(converter, 2), dtype="double")
    for factor in (1e-60, 1e60):
        x = result.result[0][0] * factor
        scaled = run_grad(converter, batch(converter, 2), dtype="double")
        scaled.result[0][0] = x
        (field,) = fields(scaled.plot(as_plotly=True)).flat
        np.testing.assert_allclose(field.image(), x.numpy()[0, ..., 0].sum(0), rtol=1e-12)


# -- overlay ------------------------------------------------------------------------------------------------------


def test_images_behind():
    converter = single(*IMAGE)
    result = run_grad(converter, batch(converter, 2))
    photo = np.linspace(0, 1, 6).reshape(3, 2)
    p = result.plot([0, 1], image=photo, as_plotly=True)
    for field in fields(p).flat:
        behind, above = field.traces
        assert (behind.name, above.name) == ("background", "image")
        near(field.image(behind), photo)
        assert (behind.zmin, behind.zmax) == (0, 1)
        assert [list(entry) for entry in behind.colorscale] == [[0, "black"], [1, "white"]]
        assert behind.hoverinfo == "skip"
        scale = field.colours(above).colorscale
        assert (scale[0][1], scale[-1][1]) == ("rgba(0,0,255,1)", "rgba(255,0,0,1)")
        assert {colour.rsplit(",", 1)[1] for _, colour in scale[1:-1]} == {"0)"}
    assert len(fields(result.plot(as_plotly=True))[0, 0, 0].traces) == 1


# -- large pictures -----------------------------------------------------------------------------------------------


def test_long_lists_of_long_names_are_readable():
    names = [f"a rather long name of feature number {i}" for i in range(100)]
    result = run_grad(single(100, input_names=names), np.random.default_rng(0).normal(size=(4, 100)), output_idx=[0, 1])
    for p in (
        result.plot([0, 1], output_idx=[0, 1], as_plotly=True, orientation="vertical"),
        result.plot_global(output_idx=[0, 1], as_plotly=True),
    ):
        assert_strips_name_their_panels(p)
        assert p.figure.layout.width <= 1600
        bottom = [field for field in fields(p).flat if field.x.showticklabels]
        assert bottom
        for field in bottom:
            step = (field.box[1] - field.box[0]) / 100
            assert field.x.tickangle == -90
            assert np.diff(field.x.tickvals).min() * step >= 11  # pixels that a line of text takes
            room = min([box[2] for _, box in rectangles(p.figure, "strip") if box[2] > field.box[3]],
                       default=area(p.figure)[1])  # fmt: skip
            letters = max(map(len, field.x.ticktext))
            assert letters <= 28
            assert room - field.box[3] >= letters * 0.5 * 11 + 12
            assert np.asarray(field.traces[0].x).max() == 100
    p = result.plot(max_display=8, as_plotly=True, orientation="vertical")
    (field,) = fields(p).flat
    magnitude = np.abs(field.one("bars").y)
    assert len(magnitude) == 8
    assert (np.diff(magnitude) <= 0).all()
    assert field.x.title.text == "Feature (8 of 100, largest first)"


def test_long_signals():
    result = run_grad(single(2, 1000), np.random.default_rng(0).normal(size=(12, 2, 1000)), times_input=True)
    (field,) = fields(result.plot(as_plotly=True)).flat
    bars = field.one("bars")
    assert bars.width == 1
    assert bars.marker.line.width == 0
    assert field.box[1] - field.box[0] >= 900
    assert list(field.x.ticktext) == [str(place) for place in range(50, 1001, 50)]
    assert list(field.x.tickvals) == list(range(50, 1001, 50))
    p = result.plot_global(ref_data_idx=2, as_plotly=True)
    (field,) = fields(p).flat
    boxes = p.frame.panels[0, 0, 0].boxes
    bands = field.named("bands")
    for trace, expected in zip(bands, (boxes.low, boxes.high, boxes.q1, boxes.q3, boxes.median), strict=True):
        close(trace.y, expected)
    assert [trace.fill for trace in bands] == [None, "tonexty", None, "tonexty", None]
    close(field.one("data point data_3").y, np.abs(result.get_result()[2, ..., 0]).sum(0))
    labels = [button.label for button in menu(p.figure, "button_box_violin").buttons]
    assert labels == ["Bands", "Boxplot", "Violin"]
    for label, name in zip(labels, ("bands", "boxes", "violins"), strict=True):
        shown = visible(press(p.figure, "button_box_violin", label))
        assert {"bands", "boxes", "violins"} & set(shown) == {name}
    near(np.reshape(field.one("violins").y, (12, 1000)), np.abs(result.get_result()[..., 0]).sum(1))


def test_large_images():
    converter = single(1, 224, 224)
    result = run_grad(converter, np.ones((2, 1, 224, 224)), output_idx=[0, 1, 2])
    p = result.plot([0, 1], output_idx=[0, 1, 2], as_plotly=True)
    for field in fields(p).flat:
        width, height = field.box[1] - field.box[0], field.box[3] - field.box[2]
        assert width == pytest.approx(height)
        assert width >= 224
        assert list(field.x.ticktext) == ["50", "100", "150", "200"]
        assert list(field.x.tickvals) == ["W50", "W100", "W150", "W200"]
    assert p.figure.layout.width <= 1600
    assert p.figure.data[0].z.dtype == np.float32


def test_many_nodes_are_broken_into_lines():
    result = run_grad(single(5, nodes=12), np.ones((2, 5)), output_idx=list(range(12)))
    p = result.plot([0, 1], output_idx=list(range(12)), as_plotly=True)
    assert len(p.frame.lines) > 1
    assert_strips_name_their_panels(p)
    assert p.figure.layout.width <= 1600


# -- the display --------------------------------------------------------------------------------------------------


def test_saving(tmp_path):
    p = run_grad(single(3), np.ones((1, 3))).plot(as_plotly=True)
    p.save(tmp_path / "x.html")
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "Plotly.newPlot" in page
    assert not re.search(r"<script[^>]*src=", page)
    p.save(str(tmp_path / "y.html"), include_plotlyjs="cdn", full_html=False)
    assert (tmp_path / "y.html").stat().st_size < 100_000 < len(page)
    with pytest.raises(ValueError, match=r"'path'.*'\.html'.*x\.png"):
        p.save(tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_notebooks():
    p = run_grad(single(3), np.ones((1, 3))).plot(as_plotly=True)
    assert type(p.figure) is go.Figure
    assert "Plotly.newPlot" in p._repr_html_()
    assert any("plotly" in kind or kind == "text/html" for kind in p._repr_mimebundle_())
    assert repr(p) == "<PlotlyDisplay of Gradient: 1 x 1 x 1 panels (instances, nodes, inputs)>"


def test_axes_of_matplotlib_are_refused():
    with pytest.raises(ValueError, match="'ax'"):
        run_grad(single(3), np.ones((1, 3))).plot(as_plotly=True, ax=object())


def test_boxplot():
    result = run_grad(single(3), np.random.default_rng(0).normal(size=(5, 3)))
    ours, theirs = result.boxplot(as_plotly=True), result.plot_global(as_plotly=True)
    assert ours.figure == theirs.figure
    converter = single(*IMAGE)
    with pytest.warns(UserWarning, match="median"):
        p = run_grad(converter, batch(converter, 3)).boxplot(as_plotly=True)
    assert "image median" in visible(p.figure)


@pytest.mark.parametrize("call", ["plot", "plot_global", "boxplot"])
def test_without_plotly(call, monkeypatch):
    result = run_grad(single(3), np.ones((2, 3)))
    for name in [name for name in sys.modules if name == "plotly" or name.startswith("plotly.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(ImportError, match=r'pip install "innsight_py\[plotly\]"'):
        getattr(result, call)(as_plotly=True)
    getattr(result, call)()


def test_plotly_is_imported_when_it_is_needed():
    code = (
        "import sys, innsight_py, innsight_py.plots.build; "
        "assert not [m for m in sys.modules if 'plotly' in m.split('.')[0]]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603


def test_all_kinds_of_panels_are_drawn():
    converter = mixed()
    result = run_grad(converter, batch(converter, 4), output_idx=[None, [0], None])
    kinds = {type(panel) for p in (result.plot(as_plotly=True), result.plot_global(as_plotly=True))
             for panel in p.frame.panels.flat}  # fmt: skip
    assert kinds == {Bars, Boxes, Empty}
    notes = [note.text.replace("<br>", " ") for note in result.plot(as_plotly=True).figure.layout.annotations
             if note.name == "empty"]  # fmt: skip
    assert notes == ["not connected to Output_2"] * 2
