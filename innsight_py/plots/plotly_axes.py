"""The settings of the axes of an interactive figure."""

from __future__ import annotations

import html
from typing import Any

import numpy as np

from innsight_py.plots.axis import Axis, Ticks
from innsight_py.plots.frame import Boxes, Image
from innsight_py.plots.plotly_grid import Grid, ticks
from innsight_py.plots.plotly_traces import distinct

TEXT = "rgb(40,40,40)"
TITLE_FONT, TICK_FONT = {"size": 12, "color": TEXT}, {"size": 11, "color": TEXT}
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
    settings = _axis(panel.axis.title, shown=bottom) | {
        "domain": [where.left / grid.width, where.right / grid.width],
        "showgrid": False,
        "zeroline": False,
    }
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
    _, j, k = place
    left = j in grid.firsts and k == 0
    settings = {"domain": [max(0.0, 1 - where.bottom / grid.height), 1 - where.top / grid.height]}
    if isinstance(panel, Image):
        axis = panel.axes[0]
        settings |= _axis(axis.title, shown=left) | _categories(axis, ticks(axis, where.height))
        return settings | {"range": [len(axis) - 0.5, -0.5]} | _IMAGE_LOOK
    return settings | _axis(panel.value_name, shown=left or grid.inputs > 1) | {
        "range": _value_range(grid, place),
        "gridcolor": "white",
        "zeroline": False,
        "exponentformat": "e",
        "nticks": 6,
    }  # fmt: skip


def shared(grid: Grid, place: Place) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return what the horizontal and the vertical axes have in common that are moved together."""
    i, j, k = place
    if isinstance(grid.frame.panels[place], Image):
        return ("width", k), ("height", k)
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
