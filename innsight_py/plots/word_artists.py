"""What matplotlib draws of a text: a coloured box for each word, and the scale of the colours below."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.ticker import FixedLocator, FuncFormatter

from innsight_py.plots.artists import COLOURS, TEXT, draw_values
from innsight_py.plots.mathtext import literal
from innsight_py.plots.text import number
from innsight_py.plots.words import BOX, LINE, Words, text_colour

#: Height of the scale of colours in sizes of the font, and its width in inches.
_BAR, _BAR_INCHES = 0.6, 2.0


@draw_values.register
def _words(panel: Words, ax: Axes) -> None:
    """Draw words on boxes. They are black on white at 0 in every style, as the scale of colours is."""
    ax.set_xlim(0, panel.room)
    ax.set_ylim(panel.height, 0)
    ax.set_axis_off()
    corners = [_corners(box.left, box.width, box.line * LINE + (LINE - BOX) / 2) for box in panel.boxes]
    shades = np.nan_to_num(panel.shades)
    boxes = PolyCollection(corners, array=shades, cmap=COLOURS, norm=Normalize(-1, 1), linewidths=0, gid="words")
    ax.add_collection(boxes, autolim=False)
    for word, label, box, shade in zip(panel.words, panel.labels, panel.boxes, shades, strict=True):
        colour = text_colour(float(shade), word)
        ax.text(
            box.left + box.width / 2, (box.line + 0.5) * LINE, literal(label), ha="center", va="center_baseline",
            fontsize=panel.points, color=colour, gid="word", clip_on=False,
        )  # fmt: skip
    _scale(panel, ax)


def _corners(left: float, width: float, top: float) -> list[tuple[float, float]]:
    return [(left, top), (left, top + BOX), (left + width, top + BOX), (left + width, top)]


def _scale(panel: Words, ax: Axes) -> None:
    """Draw the scale of colours below the words, its ends and 0 as numbers."""
    left, width = 0.03, min(_BAR_INCHES / panel.width, 0.6)
    bottom = 1 - (panel.lines * LINE + 0.6 + _BAR) / panel.height
    scale = ax.inset_axes((left, bottom, width, _BAR / panel.height), label="colour bar")
    limit = panel.limit or 1.0
    bar = ax.figure.colorbar(ScalarMappable(Normalize(-limit, limit), COLOURS), cax=scale, orientation="horizontal")
    bar.outline.set_edgecolor(mpl.rcParams["axes.edgecolor"])
    bar.outline.set_linewidth(0.4)
    scale.xaxis.set_major_locator(FixedLocator([-limit, 0.0, limit] if panel.limit else [0.0]))
    scale.xaxis.set_major_formatter(FuncFormatter(lambda value, position: number(value, 2)))
    scale.minorticks_off()
    scale.tick_params(labelsize=TEXT - 1, length=2)
    place: dict[str, Any] = {"transform": ax.transAxes, "ha": "left", "va": "center", "fontsize": TEXT}
    ax.text(1.15 * width + left, bottom + _BAR / panel.height / 2, panel.value_name, gid="scale title", **place)
