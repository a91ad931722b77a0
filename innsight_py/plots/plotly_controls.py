"""Menus and the slider of an interactive figure."""

from __future__ import annotations

import functools
import html
from collections.abc import Sequence
from typing import Any

from plotly.colors import get_colorscale, sample_colorscale

from innsight_py.plots.colours import DEFAULT as DEFAULT_MAP
from innsight_py.plots.colours import colours
from innsight_py.plots.frame import PlotFrame
from innsight_py.plots.panels import MEDIAN, Bars, Boxes, Image
from innsight_py.plots.plotly_traces import BANDS, BOXPLOT, NONE, QUANTILE_LABELS, VIOLIN, Layer, marked
from innsight_py.plots.text import number

#: The column of menus at the left, and what each takes of it.
MENU_WIDTH, MENU_HEIGHT = 176, 62
SLIDER_HEIGHT = 96
#: How many contours there are from end to end of the colours; an even number, so that none is at 0.
_LEVELS = 14

DEFAULT = "Default"
BLUE_WHITE_RED: list[list[Any]] = [[0.0, "rgb(0,0,255)"], [0.5, "rgb(255,255,255)"], [1.0, "rgb(255,0,0)"]]
BLUE_CLEAR_RED: list[list[Any]] = [
    [0.0, "rgba(0,0,255,1)"], [0.499, "rgba(0,0,255,0)"], [0.501, "rgba(255,0,0,0)"], [1.0, "rgba(255,0,0,1)"],
]  # fmt: skip
#: R's names of scales, and plotly's for the same in Python.
SCALES = {
    name: name
    for name in (
        "Blackbody", "Bluered", "Blues", "Cividis", "Earth", "Electric", "Greens", "Greys", "Hot", "Jet", "Picnic",
        "Portland", "Rainbow", "RdBu", "Reds", "Viridis", "YlGnBu", "YlOrRd",
    )
} | {"RdBu": "RdBu_r"}  # fmt: skip


@functools.cache
def colour_scale(name: str, clear: bool, cmap: str = DEFAULT_MAP) -> list[list[Any]]:
    """Return a scale of colours: shares of the range, and a colour each.

    Parameters
    ----------
    name : str
        Its name in the menu; one that ends with " (rev.)" runs the other way.
    clear : bool
        For what lies over an image: the smaller the magnitude, the less opaque.
    cmap : str
        What the default is, see `innsight_py.plots.colours`.

    Examples
    --------
    >>> colour_scale("Default", clear=False)
    [[0.0, 'rgb(0,0,255)'], [0.5, 'rgb(255,255,255)'], [1.0, 'rgb(255,0,0)']]
    """
    base = name.removesuffix(" (rev.)")
    scale: list[list[Any]]
    if base == DEFAULT and cmap != DEFAULT_MAP:
        scale = _scale_of(cmap)
        scale = _cleared(scale) if clear else scale
    elif base == DEFAULT:
        scale = BLUE_CLEAR_RED if clear else BLUE_WHITE_RED
    else:
        scale = [list(entry) for entry in get_colorscale(SCALES[base])]
        scale = _cleared(scale) if clear else scale
    return [[1 - share, colour] for share, colour in reversed(scale)] if name != base else scale


def _scale_of(cmap: str) -> list[list[Any]]:
    found = colours(cmap)
    texts = [f"rgb({','.join(f'{255 * part:.0f}' for part in colour)})" for colour in found]
    return [[i / (len(found) - 1), text] for i, text in enumerate(texts)]


def _cleared(scale: list[list[Any]]) -> list[list[Any]]:
    shares = [i / 10 for i in range(11)]
    colours = sample_colorscale(scale, shares)
    return [
        [share, colour.replace("rgb(", "rgba(").replace(")", f", {abs(2 * share - 1):.1f})")]
        for share, colour in zip(shares, colours, strict=True)
    ]


class Controls:
    """The controls that the panels of a frame call for, as in R: scale of colours, kind of picture, marked instance.

    Parameters
    ----------
    frame : PlotFrame
        What is drawn.
    layers : sequence of Layer
        All traces of the figure.
    scales : dict of str to list of Image
        The images that each colour axis serves; none: bars.
    """

    def __init__(self, frame: PlotFrame, layers: Sequence[Layer], scales: dict[str, list[Image]]) -> None:
        self.layers = layers
        self.scales = scales
        self._cmap = next((x.cmap for x in frame.panels.flat if isinstance(x, Bars | Image)), DEFAULT_MAP)
        boxes = self._boxes = [panel for panel in frame.panels.flat if isinstance(panel, Boxes)]
        self._kinds = [*([BANDS] if any(panel.dense for panel in boxes) else []), BOXPLOT, VIOLIN] if boxes else []
        self._instances = [NONE, *boxes[0].marked] if boxes else []
        self._marked = (boxes[0].reference or NONE) if boxes else NONE
        self._has_images = any(scales.values())
        #: What is shown before anybody chooses.
        self.chosen = {
            "box_violin": self._kinds[0] if boxes else "",
            "data_point": self._marked,
            "quantile": QUANTILE_LABELS[MEDIAN],
        }

    def is_shown(self, layer: Layer) -> bool:
        """Tell whether a trace is shown before anybody chooses."""
        return not layer.control or self.chosen[layer.control] in layer.choices

    def menus(self) -> list[dict[str, Any]]:
        """Return the menus from the top down; their names are R's, and ``caption`` is to stand above."""
        found = []
        if self.scales:
            names = [DEFAULT, *SCALES]
            buttons = [self._colour_button(name) for name in [*names, *(f"{name} (rev.)" for name in names)]]
            found.append(_menu("button_colorscale", "Colorscale", buttons))
        if self._kinds:
            buttons = [self._choice("box_violin", kind) for kind in self._kinds]
            found.append(_menu("button_box_violin", "1D Plot Type", buttons))
            buttons = [self._mark(label) for label in self._instances]
            active = self._instances.index(self._marked)
            found.append(_menu("button_datapoints", "Data point", buttons, active))
        if self._has_images:
            buttons = [self._image_button("heatmap"), self._image_button("contour")]
            found.append(_menu("button_heatmap_contour", "2D Plot Type", buttons))
        return found

    def steps(self) -> list[dict[str, Any]]:
        """Return the steps of the slider through the quantiles; none where there are no quantiles of images."""
        if not any(layer.control == "quantile" for layer in self.layers):
            return []
        return [self._quantile_step(q, label) for q, label in enumerate(QUANTILE_LABELS)]

    # -- single buttons -------------------------------------------------------------------------------------------

    def _choice(self, control: str, choice: str) -> dict[str, Any]:
        return {"label": choice, "method": "restyle", "args": self._visible(control, choice)}

    def _visible(self, control: str, choice: str) -> list[Any]:
        traces = [i for i, layer in enumerate(self.layers) if layer.control == control]
        return [{"visible": [choice in self.layers[i].choices for i in traces]}, traces]

    def _mark(self, label: str) -> dict[str, Any]:
        """Mark an instance: the one line of each panel goes where its values are."""
        lines = [i for i, layer in enumerate(self.layers) if layer.control == "data_point"]
        if label == NONE:
            return {"label": label, "method": "restyle", "args": [{"visible": False}, lines]}
        heights = [marked(panel, label) for panel in self._boxes]
        change = {"visible": True, "name": f"data point {html.escape(label)}", "text": html.escape(label), "y": heights}
        return {"label": label, "method": "restyle", "args": [change, lines]}

    def _colour_button(self, name: str) -> dict[str, Any]:
        scales = {
            f"{axis}.colorscale": colour_scale(name, _is_clear(images), self._cmap)
            for axis, images in self.scales.items()
        }
        return {"label": name, "method": "relayout", "args": [scales]}

    def _image_button(self, kind: str) -> dict[str, Any]:
        traces = [i for i, layer in enumerate(self.layers) if layer.trace["name"].startswith("image")]
        change: dict[str, Any] = {"type": kind}
        if kind == "contour":
            clear = [_is_clear(self.scales[self.layers[i].trace["coloraxis"]]) for i in traces]
            change |= _contours([self.layers[i].trace["zmax"] for i in traces], clear)
        # Another type makes plotly choose the ranges anew, and images would stand on their heads.
        ranges = {key: limits for i in traces for key, limits in self._ranges(self.layers[i]).items()}
        return {"label": kind.capitalize(), "method": "update", "args": [change, ranges, traces]}

    def _ranges(self, layer: Layer) -> dict[str, list[float]]:
        """Return the ranges of the axes of an image that shows all of it, the first row on top."""
        heatmap = layer.trace
        width, height = (f"{axis[0]}axis{axis[1:]}.range" for axis in (heatmap["xaxis"], heatmap["yaxis"]))
        return {width: [-0.5, len(heatmap["x"]) - 0.5], height: [len(heatmap["y"]) - 0.5, -0.5]}

    def _quantile_step(self, q: int, label: str) -> dict[str, Any]:
        change: dict[str, Any] = {}
        for axis, images in self.scales.items():
            for image in images[:1]:
                limit = (image.quantile_limits or ())[q]
                title = scale_title(image).replace("median", label)
                settings = scale_limits(limit) | {"colorbar.title.text": title}
                change |= {f"{axis}.{key}": value for key, value in settings.items()}
        visible, traces = self._visible("quantile", label)
        return {"label": label, "method": "update", "args": [visible, change, traces]}


def scale_title(image: Image) -> str:
    """Return the title of a colour bar in the HTML that plotly takes."""
    return image.scale_title.replace("\n", "<br>")


def scale_limits(limit: float) -> dict[str, Any]:
    """Return what a colour axis needs to run up to a magnitude, with numbers at its ends and at 0."""
    limit = limit or 1.0
    ends = [-limit, 0.0, limit]
    return {"cmin": -limit, "cmax": limit, "colorbar.tickvals": ends, "colorbar.ticktext": [number(x, 2) for x in ends]}


def _contours(limits: Sequence[float], clear: Sequence[bool]) -> dict[str, Any]:
    """Return what makes contours of heat maps, in the same colours: plotly stretches these from the first to the last.

    Over an image only lines are drawn, as areas one on top of the other would hide it.
    """
    size = [2 * limit / _LEVELS for limit in limits]
    last = [limit - step / 2 for limit, step in zip(limits, size, strict=True)]
    return {
        "autocontour": False,
        "contours.start": [-end for end in last],
        "contours.end": last,
        "contours.size": size,
        "contours.coloring": ["lines" if is_clear else "fill" for is_clear in clear],
        "line.width": [1.5 if is_clear else 0.5 for is_clear in clear],
        "line.color": "rgba(0,0,0,0.3)",
    }


def _is_clear(images: Sequence[Image]) -> bool:
    return any(image.background is not None for image in images)


def _menu(name: str, caption: str, buttons: list[dict[str, Any]], active: int = 0) -> dict[str, Any]:
    return {"name": name, "caption": caption, "buttons": buttons, "active": active}
