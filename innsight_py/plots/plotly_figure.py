"""A whole interactive figure: panels, strips, info, colour bars and controls, as plotly's own object."""

from __future__ import annotations

import html
import textwrap
from typing import Any

import numpy as np
import plotly.graph_objects as go

from innsight_py.plots.frame import MEDIAN, Bars, Empty, Image, PlotFrame
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
from innsight_py.plots.plotly_grid import BAR, BAR_ROOM, GAP, LETTER, LINE, STRIP, Grid, Rectangle
from innsight_py.plots.plotly_traces import Layer, layers
from innsight_py.plots.text import shortened

_MARGIN = 16
#: Above all, plotly has buttons of its own.
_TOP = 40
_FACE = "rgb(240,240,240)"
_SMALL_FONT = {"size": 11, "color": TEXT}
_TEXT = {"xref": "paper", "yref": "paper", "showarrow": False, "font": TITLE_FONT}
_STRIP_SHAPE = {
    "name": "strip", "type": "rect", "xref": "paper", "yref": "paper", "fillcolor": "rgb(217,217,217)",
    "line": {"width": 0}, "layer": "below",
}  # fmt: skip
_ZERO = {"name": "zero", "type": "line", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "line": {"width": 1, "color": TEXT}}


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
    return _Drawing(frame).figure()


class _Drawing:
    """Collects what is in the figure."""

    def __init__(self, frame: PlotFrame) -> None:
        self.frame = frame
        self.grid = Grid(frame)
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
        drawn = 0
        for (place, panel), where in zip(np.ndenumerate(self.frame.panels), self.grid.panels.flat, strict=True):
            if isinstance(panel, Empty):
                self._write("empty", _in_lines(panel.text, where.width), where, -where.height / 2)
                continue
            drawn += 1
            self._draw_panel(place, "" if drawn == 1 else str(drawn))
        for i, j in np.ndindex(*self.frame.shape[:2]):
            self._decorate(i, j)
        controls = Controls(self.frame, self.layers, self.scales)
        for layer in self.layers:
            layer.trace["visible"] = controls.is_shown(layer)
        self._add_controls(controls)
        return go.Figure(
            [layer.trace for layer in self.layers],
            self.settings | {"shapes": self.shapes, "annotations": self.annotations},
        )

    # -- panels ---------------------------------------------------------------------------------------------------

    def _draw_panel(self, place: Place, number: str) -> None:
        for layer in layers(self.frame.panels[place], self._colour_axis(place)):
            layer.trace.update(xaxis=f"x{number}", yaxis=f"y{number}")
            self.layers.append(layer)
        axes = (horizontal(self.grid, place), vertical(self.grid, place))
        for letter, other, settings, key in zip("xy", "yx", axes, shared(self.grid, place), strict=True):
            leader = self.leaders.setdefault(key, letter + number)
            settings["anchor"] = other + number
            if leader != letter + number:
                settings["matches"] = leader
            self.settings[f"{letter}axis{number}"] = settings
        if not isinstance(self.frame.panels[place], Image):
            self.shapes.append(_ZERO | {"xref": f"x{number} domain", "yref": f"y{number}"})

    def _colour_axis(self, place: Place) -> str:
        """Return the name of the axis of colours of a panel, and set it up where it is new."""
        panel = self.frame.panels[place]
        if isinstance(panel, Bars):
            if "coloraxis" not in self.scales:
                self.scales["coloraxis"] = []
                scale = colour_scale(DEFAULT, clear=False)
                self.settings["coloraxis"] = {"cmin": -1, "cmax": 1, "colorscale": scale, "showscale": False}
            return "coloraxis"
        if not isinstance(panel, Image):
            return ""
        if self.frame.shared_limit is not None:
            name, place = "coloraxis2", (0, self.frame.lines[0][-1], 0)
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
        return limits | {"colorscale": colour_scale(DEFAULT, panel.background is not None), "colorbar": bar}

    # -- strips and info ------------------------------------------------------------------------------------------

    def _decorate(self, i: int, j: int) -> None:
        """Draw strips and info of one group of panels, as matplotlib does."""
        frame, grid, offset, top = self.frame, self.grid, GAP, i == 0
        group = list(grid.panels[i, j])
        whole = Rectangle(group[0].left, group[-1].right, min(x.top for x in group), max(x.bottom for x in group))
        if frame.has_inputs and top:
            for name, where in zip(frame.inputs, group, strict=True):
                self._strip(name, where, offset)
            offset += STRIP + GAP
        if grid.info is not None:
            lines = grid.info[i, j]
            left = {"x": whole.left / grid.width, "xanchor": "left", "yanchor": "bottom", "align": "left"}
            self._write("info", left | {"text": "<br>".join(lines)}, whole, offset)
            offset += LINE * len(lines) + GAP
        if top:
            self._strip(frame.nodes[j], whole, offset)
        if frame.has_instances and j in grid.lasts:
            bar = isinstance(frame.panels[i, j, -1], Image)
            self._side_strip(frame.instances[i], whole, BAR_ROOM if bar else GAP)

    def _strip(self, text: str, where: Rectangle, offset: float) -> None:
        """Draw a strip so many pixels above a place."""
        grid = self.grid
        self.shapes.append(
            _STRIP_SHAPE | {
                "x0": where.left / grid.width, "x1": where.right / grid.width,
                "yanchor": 1 - where.top / grid.height, "ysizemode": "pixel", "y0": offset, "y1": offset + STRIP,
            }
        )  # fmt: skip
        self._write("strip", _fitted(text, where.width), where, offset + STRIP / 2)

    def _side_strip(self, text: str, where: Rectangle, offset: float) -> None:
        """Draw a strip so many pixels to the right of a place."""
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
        """Write words so many pixels above the top of a place: in its middle, or where they say."""
        middle = {"x": (where.left + where.right) / 2 / self.grid.width, "xanchor": "center", "yanchor": "middle"}
        height = {"y": 1 - where.top / self.grid.height, "yshift": offset}
        self.annotations.append(_TEXT | middle | height | words | {"name": name})

    # -- controls and the page ------------------------------------------------------------------------------------

    def _add_controls(self, controls: Controls) -> None:
        grid, menus, steps = self.grid, controls.menus(), controls.steps()
        left = MENU_WIDTH if menus else _MARGIN
        below = max(0, MENU_HEIGHT * len(menus) - grid.height)
        edge = (_MARGIN - left) / grid.width
        for number, menu in enumerate(menus):
            caption = {"text": f"<b>{menu.pop('caption')}</b>", "name": "caption", "align": "left"}
            place = {"x": edge, "xanchor": "left", "y": 1, "yanchor": "top"}
            self.annotations.append(_TEXT | caption | place | {"yshift": -MENU_HEIGHT * number})
            menu |= place | {"pad": {"t": MENU_HEIGHT * number + 22}, "font": _SMALL_FONT, "bgcolor": "white"}
        self.settings["updatemenus"] = menus
        if steps:
            self.settings["sliders"] = [
                {
                    "name": "slider_quantiles", "steps": steps, "active": MEDIAN, "x": edge, "y": 0,
                    "len": grid.width + left - _MARGIN, "lenmode": "pixels", "pad": {"t": below + 16},
                    "currentvalue": {"prefix": "Quantile: "}, "font": _SMALL_FONT,
                }
            ]  # fmt: skip
        right, bottom = _MARGIN, _MARGIN + below + (SLIDER_HEIGHT if steps else 0)
        self.settings |= {
            "width": left + grid.width + right, "height": _TOP + grid.height + bottom,
            "margin": {"l": left, "r": right, "t": _TOP, "b": bottom, "autoexpand": False},
            "plot_bgcolor": _FACE, "paper_bgcolor": "white", "showlegend": False, "hovermode": "closest",
            "hoverlabel": {"align": "left"}, "bargap": 0, "barmode": "overlay", "template": "none",
        }  # fmt: skip


def _fitted(text: str, room: float) -> dict[str, Any]:
    """Shorten a text to so many pixels; the pointer on it shows all of it."""
    short = shortened(text, max(3, int(room / LETTER)))
    shown = {"text": html.escape(short)}
    return shown if short == text else shown | {"hovertext": html.escape(text)}


def _in_lines(text: str, room: float) -> dict[str, Any]:
    return {"text": "<br>".join(html.escape(line) for line in textwrap.wrap(text, max(8, int(room / LETTER))))}
