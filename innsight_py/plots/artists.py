"""What matplotlib draws in and around one panel. Takes colours of text and axes from the style in use."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from matplotlib.transforms import Affine2D, ScaledTranslation, Transform, blended_transform_factory

from innsight_py.plots.axis import Axis
from innsight_py.plots.colours import DEFAULT, colours
from innsight_py.plots.mathtext import drawn
from innsight_py.plots.panels import Bars, Boxes, Empty, Image, Panel
from innsight_py.plots.text import number, shortened

COLOURS = DEFAULT
OVERLAY = LinearSegmentedColormap.from_list(
    "blue_clear_red",
    list(zip((0, 0.5, 0.5, 1), ((0, 0, 1, 1), (0, 0, 1, 0), (1, 0, 0, 0), (1, 0, 0, 1)), strict=True)),
)
MARK = "red"
#: Sizes in points.
STRIP, LINE, GAP, TEXT = 16.0, 11.0, 3.0, 8.0
BAR = 8.0
#: What a colour bar with its numbers takes beside a panel.
BAR_ROOM = 62.0
#: Inches that a letter of the info takes.
INFO_LETTER = 0.064


# -- places beside the axes ---------------------------------------------------------------------------------------


def above(ax: Axes) -> Transform:
    """Return the transform for x in parts of the axes and y in points above them."""
    return blended_transform_factory(ax.transAxes, _points_from(ax, 0, 1))


def beside(ax: Axes) -> Transform:
    """Return the transform for x in points to the right of the axes and y in parts of them."""
    return blended_transform_factory(_points_from(ax, 1, 0), ax.transAxes)


def _points_from(ax: Axes, x: float, y: float) -> Transform:
    """Return the transform for points, counted from a place in the axes."""
    whole: Any = ax.transAxes
    return Affine2D().scale(1 / 72) + ax.figure.dpi_scale_trans + ScaledTranslation(x, y, whole)


def mixed(share: float) -> str:
    """Mix the colour of the axes with that of the text."""
    face, text = (np.array(to_rgb(mpl.rcParams[key])) for key in ("axes.facecolor", "text.color"))
    return to_hex(tuple((1 - share) * face + share * text))


@functools.cache
def colour_map(cmap: str, over_image: bool = False) -> Any:
    """Return the scale of colours for matplotlib; over an image small magnitudes are transparent."""
    if cmap == DEFAULT:
        return OVERLAY if over_image else COLOURS
    found = np.array(colours(cmap))
    if over_image:
        found = np.column_stack([found, np.abs(np.linspace(-1, 1, len(found)))])
    return LinearSegmentedColormap.from_list(f"{cmap}{' over an image' * over_image}", found)


# -- values -------------------------------------------------------------------------------------------------------


@singledispatch
def draw_values(panel: Panel, ax: Axes) -> None:
    """Draw the values of a panel."""
    raise TypeError(f"No way to draw a {type(panel).__name__}.")


@draw_values.register
def _bars(panel: Bars, ax: Axes) -> None:
    x, width = panel.axis.positions, _bar_width(panel.axis)
    bars = PolyCollection(
        _rectangles(x, width / 2, np.zeros(len(x)), panel.values),
        array=np.nan_to_num(panel.shades),
        cmap=colour_map(panel.cmap),
        norm=Normalize(-1, 1),
        # Thin bars keep a visible width; wide ones an outline, without which white ones are lost.
        edgecolors="face" if len(x) > 60 else mixed(0.45),
        linewidths=0.5,
        gid="bars",
    )
    if panel.horizontal:
        bars.set_verts(_lying_bars(panel, width))
    ax.add_collection(bars, autolim=False)
    (_lying_axes if panel.horizontal else _value_axes)(panel, ax)
    for channel in () if panel.signal_values is None else panel.signal_values:
        ax.plot(x, channel, color=mixed(0.75), linewidth=0.8, alpha=0.8, zorder=2.4, gid="signal")


def _lying_bars(panel: Bars, width: float) -> Any:
    """Return the corners of bars from 0 to the right or to the left, ``(n, 4, 2)``."""
    upright = _rectangles(panel.axis.positions, width / 2, np.zeros(len(panel.axis)), panel.values)
    return upright[..., ::-1]


@draw_values.register
def _boxes(panel: Boxes, ax: Axes) -> None:
    (_bands if panel.dense else _single_boxes)(panel, ax)
    places, values = panel.boxes.outliers
    size = 1 if panel.dense else 8
    ax.scatter(places, values, s=size, c=mixed(0.8), alpha=0.3 if panel.dense else 0.7, linewidths=0, gid="outliers")
    _value_axes(panel, ax)


def _single_boxes(panel: Boxes, ax: Axes) -> None:
    x, boxes, dark = panel.axis.positions, panel.boxes, mixed(0.8)
    ends = [*zip(x, boxes.low, x, boxes.q1, strict=True), *zip(x, boxes.q3, x, boxes.high, strict=True)]
    ax.add_collection(LineCollection(_segments(ends), colors=dark, linewidths=1, gid="whiskers"), autolim=False)
    outlines = _rectangles(x, 0.35, boxes.q1, boxes.q3)
    filled = PolyCollection(outlines, facecolors=mixed(0.25), edgecolors=dark, linewidths=1, gid="boxes")
    ax.add_collection(filled, autolim=False)
    ax.add_collection(_levels(x, boxes.median, dark, "medians"), autolim=False)
    if panel.reference is not None:
        marks = _levels(x, panel.marked[panel.reference], MARK, "reference")
        marks.set_zorder(3)
        ax.add_collection(marks, autolim=False)


def _bands(panel: Boxes, ax: Axes) -> None:
    x, boxes = panel.axis.positions, panel.boxes
    ax.fill_between(x, boxes.low, boxes.high, color=mixed(0.15), linewidth=0, gid="whiskers")
    ax.fill_between(x, boxes.q1, boxes.q3, color=mixed(0.4), linewidth=0, gid="boxes")
    ax.plot(x, boxes.median, color=mixed(0.9), linewidth=1, gid="medians")
    if panel.reference is not None:
        ax.plot(x, panel.marked[panel.reference], color=MARK, linewidth=0.8, gid="reference")


@draw_values.register
def _image(panel: Image, ax: Axes) -> None:
    height, width = panel.values.shape
    frame: dict[str, Any] = {
        "extent": (0.5, width + 0.5, height + 0.5, 0.5),
        "aspect": "equal" if panel.square else "auto",
        "origin": "upper",
    }
    limit = panel.limit or 1.0
    over = panel.background is not None
    if panel.background is not None:
        ax.imshow(panel.background, cmap="gray", vmin=0, vmax=1, **frame)
    ax.imshow(panel.values, cmap=colour_map(panel.cmap, over), norm=Normalize(-limit, limit), **frame)
    ax.set_anchor("N")  # strips of one row stand at one height
    ax.grid(False)


@draw_values.register
def _empty(panel: Empty, ax: Axes) -> None:
    ax.set_axis_off()
    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": TEXT, "color": mixed(0.6), "wrap": True}
    ax.text(0.5, 0.5, drawn(panel.text), transform=ax.transAxes, **look)


def _bar_width(axis: Axis) -> float:
    return 0.85 if axis.named else 1.0


def _rectangles(x: np.ndarray, half: float, low: np.ndarray, high: np.ndarray) -> Any:
    """Return the corners of boxes, ``(n, 4, 2)``."""
    corners = [(x - half, low), (x - half, high), (x + half, high), (x + half, low)]
    return np.stack([np.stack(corner, -1) for corner in corners], 1)


def _segments(ends: Sequence[tuple[float, ...]]) -> Any:
    return np.array(ends, float).reshape(-1, 2, 2)


def _levels(x: np.ndarray, y: np.ndarray, colour: str, gid: str) -> LineCollection:
    """Return a level line across each box."""
    ends = list(zip(x - 0.35, y, x + 0.35, y, strict=True))
    return LineCollection(_segments(ends), colors=colour, linewidths=2, gid=gid)


def _value_axes(panel: Bars | Boxes, ax: Axes) -> None:
    ax.axhline(0, color=mpl.rcParams["text.color"], linewidth=0.8, zorder=2.5)
    ax.set_xlim(0.5, len(panel.axis) + 0.5)
    ax.set_ylim(*panel.value_limits)
    ax.yaxis.set_major_formatter(FuncFormatter(_tick))
    ax.set_axisbelow(True)


def _tick(value: float, position: int | None) -> str:
    return number(value)


def _lying_axes(panel: Bars, ax: Axes) -> None:
    ax.axvline(0, color=mpl.rcParams["text.color"], linewidth=0.8, zorder=2.5)
    ax.set_ylim(len(panel.axis) + 0.5, 0.5)
    ax.set_xlim(*panel.value_limits)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(FuncFormatter(_tick))
    ax.set_axisbelow(True)


def panel_look(ax: Axes) -> None:
    """Give axes of our own a light background and a grid."""
    ax.set_facecolor(mixed(0.06))
    ax.grid(axis="y", color=mixed(0.0), linewidth=0.8)
    for spine in ax.spines.values():
        spine.set_visible(False)


# -- ticks and titles ---------------------------------------------------------------------------------------------


def draw_axes(panel: Panel, ax: Axes, inches: float, high: float, bottom: bool, left: bool, titled: bool) -> None:
    """Draw ticks and titles: of the horizontal axis at the bottom of the figure, of the other at its left.

    Parameters
    ----------
    panel : Panel
        What is drawn.
    ax : Axes
        Where it is drawn.
    inches, high : float
        Width and height of the axes.
    bottom, left : bool
        Whether the horizontal and the vertical axis have ticks.
    titled : bool
        Whether the vertical axis has a title.
    """
    if isinstance(panel, Empty) or not ax.axison:
        return
    if isinstance(panel, Bars) and panel.horizontal:
        _draw_lying_axes(panel, ax, high, left, titled)
        return
    ticks = panel.axis.ticks(inches)
    ax.xaxis.set_major_locator(FixedLocator(ticks.positions))
    ax.tick_params(labelsize=TEXT, length=2)
    if bottom:
        turned: dict[str, Any] = {"rotation": ticks.rotation}
        if ticks.rotation == 45:
            turned |= {"ha": "right", "rotation_mode": "anchor"}
        ax.set_xticks(ticks.positions, list(map(drawn, ticks.labels)), **turned)
        ax.set_xlabel(panel.axis.title, fontsize=TEXT + 1)
    else:
        ax.tick_params(axis="x", labelbottom=False, length=0)
    if isinstance(panel, Image):
        height = panel.axes[0]
        rows = height.ticks(2 * panel.size[1])  # below each other numbers need half the room
        ax.set_yticks(rows.positions, list(map(drawn, rows.labels)))
    ax.tick_params(axis="y", labelleft=left, length=2 if left else 0)
    if titled:
        title = panel.axes[0].title if isinstance(panel, Image) else panel.value_name
        ax.set_ylabel(title, fontsize=TEXT + 1)


def _draw_lying_axes(panel: Bars, ax: Axes, high: float, left: bool, titled: bool) -> None:
    """Draw the values below, and the names of features at the left."""
    ticks = panel.axis.ticks_down(high)
    ax.tick_params(labelsize=TEXT, length=2)
    ax.set_yticks(ticks.positions, list(map(drawn, ticks.labels)) if left else [""] * len(ticks.labels))
    ax.tick_params(axis="y", length=2 if left else 0)
    ax.grid(visible=False, axis="y")
    ax.grid(axis="x", color=mixed(0.0), linewidth=0.8)
    ax.set_xlabel(panel.value_name, fontsize=TEXT + 1)
    if titled:
        ax.set_ylabel(panel.axis.title, fontsize=TEXT + 1)


def draw_legend(figure: Any, reference: str, outside: bool) -> None:
    """Say whose values the red lines are."""
    mark = Line2D([], [], color=MARK, linewidth=2, label=drawn(shortened(reference)))
    place = "outside lower right" if outside else "lower right"
    figure.legend(handles=[mark], loc=place, fontsize=TEXT, frameon=False, borderaxespad=0.2)


#: Inches that a letter of a strip takes. Texts that are too long for their strip lose their middle.
STRIP_LETTER = 0.075
#: The largest number of letters of a strip at a side.
LONGEST_STRIP = 100

# -- strips, info and colour bars ---------------------------------------------------------------------------------


def draw_strip(ax: Axes, text: str, offset: float, inches: float) -> None:
    """Draw a strip `offset` points above axes that are `inches` wide, as wide as they are."""
    short = shortened(text, max(8, int(inches / STRIP_LETTER)))
    _strip(ax, short, above(ax), (0, offset), (1, STRIP), 0)


def draw_side_strip(ax: Axes, text: str, offset: float) -> None:
    """Draw a strip `offset` points to the right of axes, as high as they are."""
    _strip(ax, shortened(text, LONGEST_STRIP), beside(ax), (offset, 0), (STRIP, 1), -90)


def _strip(
    ax: Axes, text: str, place: Transform, corner: tuple[float, float], size: tuple[float, float], rotation: int
) -> None:
    look: dict[str, Any] = {"transform": place, "clip_on": False, "gid": "strip"}
    ax.add_patch(Rectangle(corner, *size, facecolor=mixed(0.15), edgecolor="none", **look))
    x, y = corner[0] + size[0] / 2, corner[1] + size[1] / 2
    ax.text(
        x,
        y,
        drawn(text),
        ha="center",
        va="center",
        rotation=rotation,
        fontsize=TEXT + 1,
        **look,
    )


def draw_info(ax: Axes, lines: Sequence[str], offset: float) -> None:
    """Write lines of info `offset` points above axes, from the left."""
    ax.text(
        0.0, offset, "\n".join(map(drawn, lines)), transform=above(ax), ha="left", va="bottom", fontsize=TEXT - 0.5,
        linespacing=1.25, clip_on=False, gid="info",
    )  # fmt: skip


def bar_room(panel: Panel) -> float:
    """Return the points that a colour bar with its numbers and its title takes beside a panel."""
    return BAR_ROOM + LINE * panel.scale_title.count("\n") if isinstance(panel, Image) else BAR_ROOM


def draw_colour_bar(panel: Image, ax: Axes) -> None:
    """Draw the scale of colours beside an image, with its ends and 0 as numbers."""
    limit = panel.limit or 1.0
    scale = ax.inset_axes((2 * GAP, 0, BAR, 1), transform=beside(ax), label="colour bar")
    bar = ax.figure.colorbar(ScalarMappable(Normalize(-limit, limit), colour_map(panel.cmap)), cax=scale)
    bar.outline.set_visible(False)
    low, high = (float(f(panel.values, 0.0)) for f in (_lowest, _highest))
    ends = (-limit if low < 0 else 0.0, limit if high > 0 or low == 0 else 0.0)
    scale.set_ylim(*ends)
    ticks = sorted({ends[0], 0.0, ends[1]}) if panel.limit else [0.0]
    scale.yaxis.set_major_locator(FixedLocator(ticks))
    scale.yaxis.set_major_formatter(FuncFormatter(_scale_tick))
    scale.minorticks_off()
    scale.tick_params(labelsize=TEXT - 1, length=2)
    bar.set_label(panel.scale_title, fontsize=TEXT, rotation=-90, labelpad=2, va="bottom")


def _scale_tick(value: float, position: int | None) -> str:
    return number(value, 2)


def _lowest(values: np.ndarray, default: float) -> float:
    return default if np.isnan(values).all() else float(np.nanmin(values))


def _highest(values: np.ndarray, default: float) -> float:
    return default if np.isnan(values).all() else float(np.nanmax(values))
