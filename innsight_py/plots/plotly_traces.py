"""The traces that plotly draws for one panel, and which choice of which control shows them."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np

from innsight_py.plots.panels import QUANTILES, Bars, Boxes, Empty, Image, Panel
from innsight_py.plots.words import BOX, LINE, Words, text_colour

#: Names of the quantiles, as in R.
QUANTILE_LABELS = tuple(
    {0.0: "min", 0.5: "median", 1.0: "max"}.get(quantile, f"q{100 * quantile:g}%") for quantile in QUANTILES
)
#: What the control of box plots and the like offers; bands for those with very many places only.
BANDS, BOXPLOT, VIOLIN = "Bands", "Boxplot", "Violin"
#: The choice that no instance is marked.
NONE = "None"

_MARK = "red"
_DARK, _BOX = "rgb(50,50,50)", "rgb(200,200,200)"
_SIGNAL = "rgba(110,110,110,0.8)"
_OUTLINE = "rgb(140,140,140)"
_LIGHT_BAND, _DARK_BAND = "rgba(40,40,40,0.15)", "rgba(40,40,40,0.3)"
_MOST_OUTLINES = 60
_NUMBER = ".4~g"


#: As plotly writes it.
Trace = dict[str, Any]


@dataclass(frozen=True)
class Layer:
    """A trace, and for which choices of a control it is shown (none: always)."""

    trace: Trace
    control: str = ""
    choices: tuple[str, ...] = ()


def _trace(kind: str, name: str, **keys: Any) -> Trace:
    return {"type": kind, "name": name, **keys}


@singledispatch
def layers(panel: Panel, coloraxis: str) -> Iterator[Layer]:
    """Give the traces of a panel, those at the bottom first.

    Parameters
    ----------
    panel : Panel
        What is drawn.
    coloraxis : str
        Name of the colour axis of its bars or pixels.
    """
    raise TypeError(f"No way to draw a {type(panel).__name__}.")


@layers.register
def _empty(panel: Empty, coloraxis: str) -> Iterator[Layer]:
    yield from ()


@layers.register
def _bars(panel: Bars, coloraxis: str) -> Iterator[Layer]:
    marker = {
        "color": np.nan_to_num(panel.shades),
        "coloraxis": coloraxis,
        "line": {"width": 0.5 if len(panel.axis) <= _MOST_OUTLINES else 0, "color": _OUTLINE},
    }
    places: dict[str, Any] = {"x": panel.axis.positions, "y": panel.values}
    if panel.horizontal:
        places = {"y": panel.axis.positions, "x": panel.values, "orientation": "h"}
    yield Layer(
        _trace(
            "bar",
            "bars",
            **places,
            width=0.85 if panel.axis.named else 1.0,
            marker=marker,
            **_hover(panel, f"%{{{'x' if panel.horizontal else 'y'}:{_NUMBER}}}", panel.axis.labels),
        )
    )
    for channel in () if panel.signal_values is None else panel.signal_values:
        look = {"width": 1.2, "color": _SIGNAL}
        keys: dict[str, Any] = {"mode": "lines", "line": look, "hoverinfo": "skip"}
        yield Layer(_trace("scatter", "signal", x=panel.axis.positions, y=channel, **keys))


@layers.register
def _words(panel: Words, coloraxis: str) -> Iterator[Layer]:
    """Draw each word as a level bar with the word in it."""
    boxes, shades = panel.boxes, np.nan_to_num(panel.shades)
    colours = [text_colour(float(shade), word) for shade, word in zip(shades, panel.words, strict=True)]
    yield Layer(
        _trace(
            "bar",
            "words",
            orientation="h",
            base=[box.left for box in boxes],
            x=[box.width for box in boxes],
            y=[(box.line + 0.5) * LINE for box in boxes],
            width=BOX,
            marker={"color": shades, "coloraxis": coloraxis},
            text=[html.escape(label, quote=False) for label in panel.labels],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            constraintext="none",
            insidetextfont={"color": colours},
            **_hover(
                panel, "%{customdata[1]}", panel.axis.labels, np.array([[float(f"{v:.4g}")] for v in panel.values])
            ),
        )
    )


# -- many instances -----------------------------------------------------------------------------------------------


@layers.register
def _boxes(panel: Boxes, coloraxis: str) -> Iterator[Layer]:
    x, boxes = panel.axis.positions, panel.boxes
    if panel.dense:
        for trace in _bands(panel):
            yield Layer(trace, "box_violin", (BANDS,))
    box = _trace(
        "box",
        "boxes",
        x=x,
        q1=boxes.q1,
        median=boxes.median,
        q3=boxes.q3,
        lowerfence=boxes.low,
        upperfence=boxes.high,
        width=0.7,
        fillcolor=_BOX,
        line=_line(panel),
        hoverinfo="skip",
    )
    yield Layer(box, "box_violin", (BOXPLOT,) if panel.dense else (BOXPLOT, BANDS))
    for violin in _violins(panel):
        yield Layer(violin, "box_violin", (VIOLIN,))
    yield Layer(_statistics(panel))
    yield Layer(_data_point(panel), "data_point", () if panel.reference is None else (panel.reference,))
    places, values = boxes.outliers
    if len(places):
        hover = _hover(panel, f"%{{y:{_NUMBER}}} (outlier)", [panel.axis.labels[i - 1] for i in places])
        marker = {"color": _DARK, "size": 3 if panel.dense else 4, "opacity": 0.3 if panel.dense else 0.8}
        yield Layer(_trace("scatter", "outliers", x=places, y=values, mode="markers", marker=marker, **hover))


def _violins(panel: Boxes) -> Iterator[Trace]:
    """Give a trace for each place, as in a single trace one narrow distribution makes all others thin lines."""
    x, values = panel.axis.positions, _compact(panel.values)
    keys: dict[str, Any] = {
        "width": 0.8,
        "scalemode": "width",
        "spanmode": "hard",
        "points": False,
        "fillcolor": _BOX,
        "line": _line(panel),
        "hoverinfo": "skip",
    }
    if panel.dense:
        yield _trace("violin", "violins", x=np.tile(x, len(values)), y=values.ravel(), **keys)
        return
    for place, column in zip(x, values.T, strict=True):
        yield _trace("violin", "violins", x0=int(place), y=column, scalegroup=f"place {place}", **keys)


def _line(panel: Boxes) -> dict[str, Any]:
    return {"color": _DARK, "width": 0.4 if panel.dense else 1}


def _statistics(panel: Boxes) -> Trace:
    """Return bars that nobody sees: where the pointer is on a box, a violin or the bands, they tell its statistics."""
    boxes = panel.boxes
    texts = np.stack([boxes.median, boxes.q1, boxes.q3, boxes.low, boxes.high], -1)
    value = (
        f"%{{customdata[1]:{_NUMBER}}} (median)<br>Quartiles: %{{customdata[2]:{_NUMBER}}}, "
        f"%{{customdata[3]:{_NUMBER}}}<br>Whiskers: %{{customdata[4]:{_NUMBER}}}, %{{customdata[5]:{_NUMBER}}}"
    )
    hover = _hover(panel, value, panel.axis.labels, texts)
    margin = 0.015 * (panel.value_limits[1] - panel.value_limits[0])  # so that the pointer finds flat ones too
    return _trace(
        "bar",
        "statistics",
        x=panel.axis.positions,
        y=boxes.high - boxes.low + 2 * margin,
        base=boxes.low - margin,
        width=1.0 if panel.dense else 0.7,
        marker={"opacity": 0},
        hoverlabel={"bgcolor": _DARK},
        **hover,
    )


def _bands(panel: Boxes) -> Iterator[Trace]:
    x, boxes = panel.axis.positions, panel.boxes
    keys: dict[str, Any] = {"x": x, "mode": "lines", "hoverinfo": "skip"}
    for low, high, colour in ((boxes.low, boxes.high, _LIGHT_BAND), (boxes.q1, boxes.q3, _DARK_BAND)):
        yield _trace("scatter", "bands", y=low, line={"width": 0}, **keys)
        yield _trace("scatter", "bands", y=high, line={"width": 0}, fill="tonexty", fillcolor=colour, **keys)
    yield _trace("scatter", "bands", y=boxes.median, line={"width": 1.2, "color": _DARK}, **keys)


def _data_point(panel: Boxes) -> Trace:
    """Return the line of one instance, or a level line across each box. One trace serves all instances."""
    x, labels = panel.axis.positions, list(panel.axis.labels)
    label = next(iter(panel.marked)) if panel.reference is None else panel.reference
    if not panel.dense:
        x = np.stack([x - 0.375, x, x + 0.375, np.full(len(x), np.nan)], -1).ravel()
        labels = [name for name in labels for _ in range(4)]
    return _trace(
        "scatter",
        f"data point {html.escape(label)}",
        x=x,
        y=_heights(panel, panel.marked[label]),
        text=html.escape(label),
        mode="lines",
        line={"color": _MARK, "width": 1 if panel.dense else 2.5},
        **_hover(panel, f"%{{y:{_NUMBER}}} (%{{text}})", labels),
    )


def _heights(panel: Boxes, values: np.ndarray) -> np.ndarray:
    if panel.dense:
        return values
    return np.stack([values, values, values, np.full(len(values), np.nan)], -1).ravel()


def marked(panel: Boxes, label: str) -> list[float | None]:
    """Return the heights of the line that marks an instance, with as many digits as a screen can show.

    Examples
    --------
    >>> from innsight_py import Converter, run_grad
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, -3.0]]}]}
    >>> result = run_grad(Converter(model), [[1.0, 1.0], [0.0, 2.0]], times_input=True)
    >>> marked(result.plot_global().frame.panels[0, 0, 0], "data_2")
    [0.0, 0.0, 0.0, None, 6.0, 6.0, 6.0, None]
    """
    return [float(f"{y:.6g}") if np.isfinite(y) else None for y in _heights(panel, panel.marked[label])]


# -- images -------------------------------------------------------------------------------------------------------


@layers.register
def _image(panel: Image, coloraxis: str) -> Iterator[Layer]:
    if panel.background is not None:
        grey = [[0, "black"], [1, "white"]]
        yield Layer(
            _heatmap(
                panel,
                panel.background,
                "background",
                colorscale=grey,
                zmin=0,
                zmax=1,
                showscale=False,
                hoverinfo="skip",
            )
        )
    shown = [("", panel.values, panel.limit)]
    if panel.quantiles is not None and panel.quantile_limits is not None:
        shown = list(zip(QUANTILE_LABELS, panel.quantiles, panel.quantile_limits, strict=True))
    for label, values, limit in shown:
        note = f" ({label})" if label else ""
        text = panel.hover_text(f"%{{z:{_NUMBER}}}{note}", "%{y}", "%{x}")
        keys = {"zmin": -(limit or 1.0), "zmax": limit or 1.0, "coloraxis": coloraxis} | _extra(panel, text)
        heatmap = _heatmap(panel, values, f"image {label}".rstrip(), **keys)
        yield Layer(heatmap, "quantile", (label,)) if label else Layer(heatmap)


def _heatmap(panel: Image, values: np.ndarray, name: str, **keys: Any) -> Trace:
    height, width = (distinct(axis.labels) for axis in panel.axes)
    return _trace("heatmap", name, x=width, y=height, z=_compact(values), **keys)


def _compact(values: np.ndarray) -> np.ndarray:
    """Halve the size of pages, unless values are too large or too small for single precision."""
    magnitudes = np.abs(values[np.isfinite(values) & (values != 0)])
    known = np.finfo(np.float32)
    fits = not magnitudes.size or (magnitudes.max() < known.max and magnitudes.max() > known.tiny * 1e8)
    return values.astype(np.float32) if fits else values


def distinct(labels: tuple[str, ...]) -> list[str]:
    """Make labels of places differ where they do not, by spaces that nobody sees.

    Examples
    --------
    >>> [len(label) for label in distinct(("left", "left", "right"))]
    [4, 5, 5]
    """
    seen: dict[str, int] = {}
    found = []
    for label in labels:
        count = seen.get(label, 0)
        seen[label] = count + 1
        found.append(html.escape(label) + "\u200b" * count)
    return found


# -- hover texts --------------------------------------------------------------------------------------------------


def _hover(panel: Panel, value: str, labels: Any, numbers: np.ndarray | None = None) -> dict[str, Any]:
    """Write a template for the value and label of each place; the latter are ``customdata``."""
    escaped = [html.escape(label) for label in labels]
    data: Any = escaped
    if numbers is not None:
        data = [[label, *row] for label, row in zip(escaped, numbers.tolist(), strict=True)]
    label = "%{customdata}" if numbers is None else "%{customdata[0]}"
    return {"customdata": data} | _extra(panel, panel.hover_text(value, label))


def _extra(panel: Panel, text: str) -> dict[str, Any]:
    """Add the second box to a template."""
    place = panel.place.text.replace("%{", "&#37;{")
    return {"hovertemplate": f"{text}<extra>{place}</extra>"}
