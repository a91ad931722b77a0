"""The settings of the axes of an interactive figure."""

from __future__ import annotations

import html
import math
from dataclasses import replace
from typing import Any

import numpy as np

from innsight_py.plots.axis import Axis, Ticks
from innsight_py.plots.panels import Bars, Boxes, Image
from innsight_py.plots.plotly_grid import LETTER, Grid, ticks
from innsight_py.plots.plotly_traces import distinct
from innsight_py.plots.text import shortened
from innsight_py.plots.words import Words

TEXT = "rgb(40,40,40)"
TITLE_FONT, TICK_FONT = {"size": 12, "color": TEXT}, {"size": 11, "color": TEXT}
#: Pixels for an inch of a column of names.
_NAME_INCH = 100
#: White images have ends too.
_IMAGE_LOOK = {
    "showgrid": False, "zeroline": False, "showline": True, "mirror": True, "linecolor": "rgb(200,200,200)",
}  # fmt: skip

#: Instance, output node and input of a panel.
Place = tuple[int, ...]
Settings = dict[str, Any]


def horizontal(grid: Grid, place: Place) -> Settings:
    """Return the settings of the horizontal axis of a panel; at the bottom of the figure it has labels and a title.

    Parameters
    ----------
    grid : Grid
        Where everything stands.
    place : tuple of int
        Which panel.
    """
    panel, where = grid.frame.panels[place], grid.panels[place]
    bottom = place[0] == grid.instances - 1
    lying = isinstance(panel, Bars) and panel.horizontal
    settings = _axis(panel.value_name if lying else panel.axis.title, shown=bottom or lying) | {
        "domain": [where.left / grid.width, where.right / grid.width],
        "showgrid": False,
        "zeroline": False,
    }
    if isinstance(panel, Words):
        return settings | _axis("", shown=False) | {"range": [0, panel.room], "fixedrange": True}
    if lying:
        values = {
            "range": panel.value_limits,
            "exponentformat": "e",
            "nticks": 5,
            "showgrid": True,
            "gridcolor": "#fff",
        }
        return settings | values
    fitting = grid.ticks(*place)
    if isinstance(panel, Image):
        return settings | _categories(panel.axis, fitting) | {"range": [-0.5, len(panel.axis) - 0.5]} | _IMAGE_LOOK
    return settings | _tick_labels(fitting) | {"tickvals": fitting.positions, "range": [0.5, len(panel.axis) + 0.5]}


def vertical(grid: Grid, place: Place) -> Settings:
    """Return the settings of the vertical axis of a panel.

    Parameters
    ----------
    grid : Grid
        Where everything stands.
    place : tuple of int
        Which panel.
    """
    panel, where = grid.frame.panels[place], grid.panels[place]
    left = place[1:] in grid.firsts
    settings = {"domain": [max(0.0, 1 - where.bottom / grid.height), 1 - where.top / grid.height]}
    if isinstance(panel, Image):
        axis = panel.axes[0]
        settings |= _axis(axis.title, shown=left) | _categories(axis, ticks(axis, where.height))
        return settings | {"range": [len(axis) - 0.5, -0.5]} | _IMAGE_LOOK
    if isinstance(panel, Bars) and panel.horizontal:
        axis = panel.axis
        fitting = axis.ticks_down(where.height / _NAME_INCH)
        if math.isfinite(grid.names_room):
            letters = max(6, int(grid.names_room / LETTER))
            fitting = replace(fitting, labels=[shortened(label, letters) for label in fitting.labels])
        ends = {"range": [len(axis) + 0.5, 0.5], "showgrid": False, "zeroline": False}
        settings |= _axis(axis.title, shown=left or grid.inputs > 1) | _tick_labels(fitting)
        return settings | ends | {"tickvals": fitting.positions}
    if isinstance(panel, Words):
        hidden = {"range": [panel.height, 0], "showgrid": False, "zeroline": False, "fixedrange": True}
        return settings | _axis("", shown=False) | hidden
    return settings | _axis(panel.value_name, shown=left or grid.inputs > 1) | {
        "range": _value_range(grid, place),
        "gridcolor": "#fff",
        "zeroline": False,
        "exponentformat": "e",
        "nticks": 6,
    }  # fmt: skip


def shared(grid: Grid, place: Place) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return what the horizontal and the vertical axes have in common that are moved together."""
    i, j, k = place
    if isinstance(grid.frame.panels[place], Words):
        return ("words", *place), ("lines", *place)
    if isinstance(grid.frame.panels[place], Image):
        return ("width", k), ("height", k)
    panel = grid.frame.panels[place]
    if isinstance(panel, Bars) and panel.horizontal:
        return ("value", i) if grid.inputs == 1 else ("value", i, j, k), ("place", i, k)
    return ("place", k), ("value", i) if grid.inputs == 1 else ("value", i, j, k)


def _axis(title: str, shown: bool) -> Settings:
    return {
        "title": {"text": title if shown else None, "font": TITLE_FONT, "standoff": 6},
        "showticklabels": shown,
        "tickfont": TICK_FONT,
        "ticks": "outside" if shown else "",
        "ticklen": 3,
    }


def _tick_labels(chosen: Ticks) -> Settings:
    labels = [html.escape(label) for label in chosen.labels]
    return {"tickmode": "array", "ticktext": labels, "tickangle": -chosen.rotation}


def _categories(axis: Axis, chosen: Ticks) -> Settings:
    """Return the settings of an axis whose places are labels, so that hover texts name them."""
    names = distinct(axis.labels)
    places = [names[int(position) - 1] for position in chosen.positions]
    return _tick_labels(chosen) | {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": names,
        "tickvals": places,
    }


def _value_range(grid: Grid, place: Place) -> tuple[float, float]:
    """Return the limits of values; wide enough for all instances that can be marked."""
    together = grid.frame.panels[place[0]].flat if grid.inputs == 1 else [grid.frame.panels[place]]
    low, high = grid.frame.panels[place].value_limits
    points = [values for panel in together if isinstance(panel, Boxes) for values in panel.marked.values()]
    found = np.concatenate([[low, high], *points])
    return float(np.nanmin(found)), float(np.nanmax(found))
