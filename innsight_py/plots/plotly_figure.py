"""A whole interactive figure: panels, strips, info, colour bars and controls, as plotly's own object."""

from __future__ import annotations

import html
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from innsight_py.plots.colours import DEFAULT as DEFAULT_MAP
from innsight_py.plots.frame import PlotFrame
from innsight_py.plots.panels import MEDIAN, Bars, Boxes, Empty, Image
from innsight_py.plots.plotly_axes import TEXT, TITLE_FONT, Place, horizontal, shared, vertical
from innsight_py.plots.plotly_controls import (
    DEFAULT,
    MENU_HEIGHT,
    MENU_WIDTH,
    SLIDER_HEIGHT,
    Controls,
    colour_scale,
    scale_limits,
    scale_title,
)
from innsight_py.plots.plotly_grid import BAR, BAR_ROOM, GAP, LETTER, LINE, STRIP, Grid, Rectangle, is_lying
from innsight_py.plots.plotly_traces import Layer, layers
from innsight_py.plots.text import number, shortened
from innsight_py.plots.words import Words

_MARGIN = 16
#: Pixels for an inch of the size that a user wants.
_INCH = 96
#: Above all, plotly has buttons of its own.
_TOP = 40
#: What a title takes above that.
_HEADING = 24
_HEADING_LOOK = {"name": "title", "font": {"size": 16, "color": TEXT}}
_FACE = "rgb(240,240,240)"
_SMALL_FONT = {"size": 11, "color": TEXT}
_TEXT = {"xref": "paper", "yref": "paper", "showarrow": False, "font": TITLE_FONT}
#: Says whose values the red lines are; a menu chooses them, so that a click does nothing.
_LEGEND = {
    "orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)",
    "font": _SMALL_FONT, "itemclick": False, "itemdoubleclick": False,
}  # fmt: skip
_STRIP_SHAPE = {
    "name": "strip", "type": "rect", "xref": "paper", "yref": "paper", "fillcolor": "rgb(217,217,217)",
    "line": {"width": 0}, "layer": "below",
}  # fmt: skip
_ZERO = {"name": "zero", "type": "line", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "line": {"width": 1, "color": TEXT}}
_UPRIGHT_ZERO = _ZERO | {"x1": 0, "y1": 1}


def figure_of(frame: PlotFrame) -> go.Figure:
    """Draw a frame.

    Examples
    --------
    >>> from innsight_py import Converter, run_grad
    >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0]]}]}
    >>> figure = figure_of(run_grad(Converter(model), [[1.0, 1.0, 1.0]]).plot().frame)
    >>> [float(height) for height in figure.data[0].y]
    [1.0, -3.0, 0.0]
    """
    return _Drawing(frame, *_inside(frame, MENU_WIDTH + _MARGIN)).figure()


def _inside(frame: PlotFrame, sides: float) -> tuple[float | None, float | None]:
    """Return the pixels that are left for panels of a figure of the size that the user wants."""
    if frame.figsize is None:
        return None, None
    width, height = (inches * _INCH for inches in frame.figsize)
    around = _TOP + _MARGIN + (_HEADING if frame.heading else 0)
    return max(width - sides, 50.0), max(height - around, 50.0)


@dataclass
class Arrangement:
    """A figure for a page: its layout without controls, and the traces that depend on the width.

    Attributes
    ----------
    layout : dict
        As plotly takes it.
    texts : list of dict
        The traces of texts.
    """

    layout: dict[str, Any]
    texts: list[dict[str, Any]]


def arranged(frame: PlotFrame, room: float | None) -> Arrangement:
    """Arrange a figure for a page of `room` pixels, without controls.

    Parameters
    ----------
    frame : PlotFrame
        What is drawn.
    room : float, optional
        Pixels. Default: as wide as the figure is anyway.
    """
    inside, high = _inside(frame, 2 * _MARGIN)
    drawing = _Drawing(frame, inside if room is None else room - 2 * _MARGIN, high if room is None else None)
    drawing.draw(only_texts=True)
    drawing.surround(_MARGIN, _MARGIN)
    return Arrangement(drawing.layout, [layer.trace for layer in drawing.layers])


class _Drawing:
    """Collects what is in the figure."""

    def __init__(self, frame: PlotFrame, room: float | None = None, high: float | None = None) -> None:
        self.grid = Grid(frame, room, high)
        self.frame = self.grid.frame
        self.layers: list[Layer] = []
        self.settings: dict[str, Any] = {}
        self.shapes: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        #: The images that each colour axis serves; none: bars.
        self.scales: dict[str, list[Image]] = {}
        #: The first of the axes that are moved together, by what they have in common.
        self.leaders: dict[tuple[Any, ...], str] = {}

    def figure(self) -> go.Figure:
        """Draw all panels, and what stands around them."""
        self.draw()
        controls = Controls(self.frame, self.layers, self.scales)
        lines = [layer for layer in self.layers if layer.control == "data_point"]
        for layer in self.layers:
            layer.trace["visible"] = controls.is_shown(layer)
            if lines:  # one entry for the lines of all panels; a menu says whose they are
                layer.trace["showlegend"] = layer is lines[0]
        self._add_controls(controls)
        return go.Figure([layer.trace for layer in self.layers], self.layout)

    @property
    def layout(self) -> dict[str, Any]:
        """All but the traces."""
        return self.settings | {"shapes": self.shapes, "annotations": self.annotations}

    def draw(self, only_texts: bool = False) -> None:
        """Draw all panels with strips and info; traces of texts alone, if `only_texts`."""
        drawn = 0
        for (place, panel), where in zip(np.ndenumerate(self.frame.panels), self.grid.panels.flat, strict=True):
            if isinstance(panel, Empty):
                self._write("empty", _in_lines(panel.text, where.width), where, -where.height / 2)
                continue
            drawn += 1
            self._draw_panel(place, "" if drawn == 1 else str(drawn), only_texts)
            if isinstance(panel, Words):
                key = f"{panel.value_name}: full colour at ±{number(panel.limit)}"
                left = {"x": (where.left + GAP) / self.grid.width, "xanchor": "left", "font": _SMALL_FONT}
                self._write("scale", left | {"text": html.escape(key)}, where, LINE - where.height)
        for line in range(len(self.grid.lines)):
            for i in range(self.frame.shape[0]):
                self._decorate(line, i)

    # -- panels ---------------------------------------------------------------------------------------------------

    def _draw_panel(self, place: Place, number: str, only_texts: bool) -> None:
        panel, coloraxis = self.frame.panels[place], self._colour_axis(place)
        if isinstance(panel, Words) or not only_texts:
            for layer in layers(panel, coloraxis):
                layer.trace.update(xaxis=f"x{number}", yaxis=f"y{number}")
                self.layers.append(layer)
        axes = (horizontal(self.grid, place), vertical(self.grid, place))
        for letter, other, settings, key in zip("xy", "yx", axes, shared(self.grid, place), strict=True):
            leader = self.leaders.setdefault(key, letter + number)
            settings["anchor"] = other + number
            if leader != letter + number:
                settings["matches"] = leader
            self.settings[f"{letter}axis{number}"] = settings
        if not isinstance(self.frame.panels[place], Image | Words):
            if is_lying(panel):
                self.shapes.append(_UPRIGHT_ZERO | {"xref": f"x{number}", "yref": f"y{number} domain"})
            else:
                self.shapes.append(_ZERO | {"xref": f"x{number} domain", "yref": f"y{number}"})

    def _colour_axis(self, place: Place) -> str:
        """Return the name of the axis of colours of a panel, and set it up where it is new."""
        panel = self.frame.panels[place]
        if isinstance(panel, Bars | Words):
            if "coloraxis" not in self.scales:
                self.scales["coloraxis"] = []
                cmap = panel.cmap if isinstance(panel, Bars) else DEFAULT_MAP
                scale = colour_scale(DEFAULT, clear=False, cmap=cmap)
                self.settings["coloraxis"] = {"cmin": -1, "cmax": 1, "colorscale": scale, "showscale": False}
            return "coloraxis"
        if not isinstance(panel, Image):
            return ""
        if self.frame.shared_limit is not None:
            name, place = "coloraxis2", (0, *self.grid.lines[0][-1])
        else:
            name = f"coloraxis{len(self.scales) + 2}"
        if name not in self.scales:
            self.scales[name] = []
            self.settings[name] = self._image_colours(panel, self.grid.panels[place])
        self.scales[name].append(panel)
        return name

    def _image_colours(self, panel: Image, where: Rectangle) -> dict[str, Any]:
        limits = scale_limits(panel.limit)
        bar = {key.removeprefix("colorbar."): limits.pop(key) for key in list(limits) if key.startswith("colorbar.")}
        bar |= {
            "title": {"text": scale_title(panel), "side": "right", "font": TITLE_FONT},
            "tickfont": _SMALL_FONT, "thickness": BAR, "outlinewidth": 0, "ticks": "outside", "ticklen": 3,
            "x": where.right / self.grid.width, "xanchor": "left", "xpad": 8, "ypad": 0,
            "y": 1 - (where.top + where.bottom) / 2 / self.grid.height, "yanchor": "middle",
            "len": where.height, "lenmode": "pixels",
        }  # fmt: skip
        return limits | {"colorscale": colour_scale(DEFAULT, panel.background is not None, panel.cmap), "colorbar": bar}

    # -- strips and info ------------------------------------------------------------------------------------------

    def _decorate(self, line: int, i: int) -> None:
        """Draw strips and info of one instance in a line, as matplotlib does."""
        frame, grid = self.frame, self.grid
        for j, inputs in grid.groups(line):
            group, offset = [grid.panels[i, j, k] for k in inputs], GAP
            whole = Rectangle(group[0].left, group[-1].right, min(x.top for x in group), max(x.bottom for x in group))
            if frame.has_inputs and i == 0:
                for k, where in zip(inputs, group, strict=True):
                    self._strip(frame.inputs[k], where, offset)
                offset += STRIP + GAP
            if grid.info is not None and 0 in inputs:
                lines = grid.info[i, j]
                left = {"x": whole.left / grid.width, "xanchor": "left", "yanchor": "bottom", "align": "left"}
                self._write("info", left | {"text": "<br>".join(lines)}, whole, offset)
                offset += LINE * len(lines) + GAP
            if i == 0:
                self._strip(frame.nodes[j], whole, offset)
        if frame.has_instances:
            bar = isinstance(frame.panels[i, j, inputs[-1]], Image)
            self._side_strip(frame.instances[i], whole, BAR_ROOM if bar else GAP)

    def _strip(self, text: str, where: Rectangle, offset: float) -> None:
        """Draw a strip `offset` pixels above a place."""
        grid = self.grid
        self.shapes.append(
            _STRIP_SHAPE | {
                "x0": where.left / grid.width, "x1": where.right / grid.width,
                "yanchor": 1 - where.top / grid.height, "ysizemode": "pixel", "y0": offset, "y1": offset + STRIP,
            }
        )  # fmt: skip
        self._write("strip", _fitted(text, where.width), where, offset + STRIP / 2)

    def _side_strip(self, text: str, where: Rectangle, offset: float) -> None:
        """Draw a strip `offset` pixels to the right of a place."""
        grid = self.grid
        ends = {"y0": 1 - where.bottom / grid.height, "y1": 1 - where.top / grid.height}
        right = where.right / grid.width
        self.shapes.append(
            _STRIP_SHAPE | ends | {
                "xanchor": right, "xsizemode": "pixel", "x0": offset,
                "x1": offset + STRIP,
            }
        )  # fmt: skip
        self.annotations.append(
            _TEXT | _fitted(text, where.height) | {
                "name": "instance", "x": right, "xanchor": "center", "xshift": offset + STRIP / 2,
                "y": (ends["y0"] + ends["y1"]) / 2, "yanchor": "middle", "textangle": 90,
            }
        )  # fmt: skip

    def _write(self, name: str, words: dict[str, Any], where: Rectangle, offset: float) -> None:
        """Write words `offset` pixels above the top of a place: in its middle, or at the place that they name."""
        middle = {"x": (where.left + where.right) / 2 / self.grid.width, "xanchor": "center", "yanchor": "middle"}
        height = {"y": 1 - where.top / self.grid.height, "yshift": offset}
        self.annotations.append(_TEXT | middle | height | words | {"name": name})

    # -- controls and the page ------------------------------------------------------------------------------------

    def _add_controls(self, controls: Controls) -> None:
        grid, menus, steps = self.grid, controls.menus(), controls.steps()
        left = MENU_WIDTH if menus else _MARGIN
        below = max(0, MENU_HEIGHT * len(menus) - grid.height)
        edge = (_MARGIN - left) / grid.width
        for row, menu in enumerate(menus):
            caption = {"text": f"<b>{menu.pop('caption')}</b>", "name": "caption", "align": "left"}
            place = {"x": edge, "xanchor": "left", "y": 1, "yanchor": "top"}
            self.annotations.append(_TEXT | caption | place | {"yshift": -MENU_HEIGHT * row})
            menu |= place | {"pad": {"t": MENU_HEIGHT * row + 22}, "font": _SMALL_FONT, "bgcolor": "white"}
        self.settings["updatemenus"] = menus
        if steps:
            self.settings["sliders"] = [
                {
                    "name": "slider_quantiles", "steps": steps, "active": MEDIAN, "x": edge, "y": 0,
                    "len": grid.width + left - _MARGIN, "lenmode": "pixels", "pad": {"t": below + 16},
                    "currentvalue": {"prefix": "Quantile: "}, "font": _SMALL_FONT,
                }
            ]  # fmt: skip
        self.surround(left, _MARGIN + below + (SLIDER_HEIGHT if steps else 0))

    def surround(self, left: float, bottom: float) -> None:
        """Set the size of the figure, from what stands at the left of the panels and below them."""
        grid, top = self.grid, _TOP + (_HEADING if self.frame.heading else 0)
        if self.frame.heading:
            place = {"x": 0.5, "xanchor": "center", "yanchor": "middle", "y": 1, "yshift": _TOP / 2 + _HEADING / 2}
            self.annotations.append(_TEXT | place | _fitted(self.frame.heading, grid.width) | _HEADING_LOOK)
        self.settings |= {
            "width": left + grid.width + _MARGIN, "height": top + grid.height + bottom,
            "margin": {"l": left, "r": _MARGIN, "t": top, "b": bottom, "autoexpand": False},
            "plot_bgcolor": _FACE, "paper_bgcolor": "white", "showlegend": False, "hovermode": "closest",
            "hoverlabel": {"align": "left"}, "bargap": 0, "barmode": "overlay", "template": "none",
        }  # fmt: skip
        if any(isinstance(panel, Boxes) for panel in self.frame.panels.flat):
            self.settings |= {"showlegend": True, "legend": _LEGEND}


def _fitted(text: str, room: float) -> dict[str, Any]:
    """Shorten a text to `room` pixels; the whole text shows on hover."""
    short = shortened(text, max(3, int(room / LETTER)))
    shown = {"text": html.escape(short)}
    return shown if short == text else shown | {"hovertext": html.escape(text)}


def _in_lines(text: str, room: float) -> dict[str, Any]:
    return {"text": "<br>".join(html.escape(line) for line in textwrap.wrap(text, max(8, int(room / LETTER))))}
