"""Where everything of an interactive figure stands, in pixels from the left and the top of the area of the panels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from innsight_py.plots.axis import Axis, Ticks
from innsight_py.plots.frame import Empty, Image, Panel, PlotFrame
from innsight_py.plots.text import written_info

#: Heights of a strip, of a line of the info, and of what lies between things.
STRIP, LINE, GAP = 20, 16, 4
#: What a colour bar with its numbers takes beside a panel, and how thick it is.
BAR_ROOM, BAR = 78, 11
#: What the numbers and the title of a vertical axis take.
_VALUE_ROOM, _IMAGE_ROOM = 66, 58
#: What numbers of a horizontal axis and its title take.
_NUMBERS, _TITLE = 20, 26
_BETWEEN = 14
#: Pixels for an inch of the frame's labels, and for a letter of a strip or an info.
_LABEL_INCH, LETTER = 83, 6.6
#: Small figures are enlarged to this size, as far as the largest scale (pixels for an inch of a panel).
_PAGE = (1000, 900)
_SCALES = (70, 150)
#: Rows without images are as high as those of this scale.
_HIGH = 110


@dataclass(frozen=True)
class Rectangle:
    """Part of the figure: ends in pixels from the left and from the top."""

    left: float
    right: float
    top: float
    bottom: float

    @property
    def width(self) -> float:
        """Width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Height in pixels."""
        return self.bottom - self.top


class Grid:
    """Nodes side by side in lines, inputs side by side within nodes, instances one below the other.

    Parameters
    ----------
    frame : PlotFrame
        What is drawn.

    Attributes
    ----------
    width, height : int
        Pixels of the area that holds panels, strips, labels and colour bars.
    panels : ndarray of Rectangle
        ``(instances, nodes, inputs)``.
    info : ndarray of list of str, optional
        The lines to be written for each instance and node.

    Examples
    --------
    >>> from innsight_py import Converter, run_grad
    >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0], [1.0, 0.0, 2.0]]}]}
    >>> frame = run_grad(Converter(model), [[1.0, 1.0, 1.0]]).plot(output_idx=[0, 1]).frame
    >>> first, second = Grid(frame).panels.flat
    >>> first.right < second.left, first.top == second.top
    (True, True)
    """

    def __init__(self, frame: PlotFrame) -> None:
        self.frame = frame
        self.instances, _, self.inputs = frame.shape
        self.firsts = {line[0] for line in frame.lines}
        self.lasts = {line[-1] for line in frame.lines}
        widest = max(len(line) for line in frame.lines)
        widths = frame.widths[: widest * self.inputs]
        suitable = min(_PAGE[0] / sum(widths), _PAGE[1] / (sum(frame.heights) * len(frame.lines)))
        scale = float(np.clip(suitable, *_SCALES))
        self._columns = self._place_columns([width * scale for width in widths])
        self.info = self._info()
        self.panels = np.empty(frame.shape, object)
        self.height = math.ceil(self._place_rows([self._row_height(i, scale) for i in range(self.instances)]))
        self.width = math.ceil(self._columns[-1][1] + self._right_room())

    # -- columns --------------------------------------------------------------------------------------------------

    def _place_columns(self, widths: Sequence[float]) -> list[tuple[float, float]]:
        """Return the ends of each column of panels."""
        ends = []
        x = 0.0
        for column, width in enumerate(widths):
            node, k = divmod(column, self.inputs)
            x += self._left_room(node, k)
            ends.append((x, x + width))
            x += width + (BAR_ROOM if self._has_bars(k) and self.frame.shared_limit is None else 0) + _BETWEEN
        return ends

    def _has_bars(self, k: int) -> bool:
        return any(isinstance(panel, Image) for panel in self.frame.panels[:, :, k].flat)

    def _left_room(self, node: int, k: int) -> float:
        first = node == 0 and k == 0
        if self._has_bars(k):
            return _IMAGE_ROOM if first else 0
        return _VALUE_ROOM if first or self.inputs > 1 else 0

    def _right_room(self) -> float:
        bars = BAR_ROOM if self._has_bars(self.inputs - 1) else 0
        return bars + (STRIP + GAP if self.frame.has_instances else 0)

    # -- rows -----------------------------------------------------------------------------------------------------

    def _info(self) -> np.ndarray | None:
        if self.frame.info is None:
            return None
        span = min(self._span(place).width for place in range(len(self._columns) // self.inputs))
        lines = np.empty(self.frame.info.size, object)
        lines[:] = written_info([info.lines for info in self.frame.info.flat], span / LETTER)
        return lines.reshape(self.frame.info.shape)

    def _row_height(self, i: int, scale: float) -> float:
        images = any(isinstance(panel, Image) for panel in self.frame.panels[i].flat)
        return self.frame.heights[i] * (scale if images else max(scale, _HIGH))

    def _span(self, place: int) -> Rectangle:
        first, last = place * self.inputs, (place + 1) * self.inputs - 1
        return Rectangle(self._columns[first][0], self._columns[last][1], 0, 0)

    def _place_rows(self, heights: Sequence[float]) -> float:
        y = 0.0
        for line in self.frame.lines:
            for i, height in enumerate(heights):
                y += self.head(i) + _BETWEEN * (i > 0)
                for place, j in enumerate(line):
                    for k in range(self.inputs):
                        left, right = self._columns[place * self.inputs + k]
                        cell = Rectangle(left, right, y, y + height)
                        self.panels[i, j, k] = _within(cell, self.frame.panels[i, j, k])
                y += height
            y += max(self._label_room(-1, j, k) for j in line for k in range(self.inputs)) + _BETWEEN
        return y - _BETWEEN

    def head(self, i: int) -> float:
        """Return the pixels that strips and info take above the panels of an instance."""
        strips = (STRIP + GAP) * (1 + self.frame.has_inputs) if i == 0 else 0
        info = 0 if self.info is None else LINE * len(self.info.flat[0]) + GAP
        return strips + info

    def ticks(self, i: int, j: int, k: int) -> Ticks:
        """Choose the tick labels of a horizontal axis."""
        return ticks(self.frame.panels[i, j, k].axis, self.panels[i, j, k].width)

    def _label_room(self, i: int, j: int, k: int) -> float:
        panel: Panel = self.frame.panels[i, j, k]
        if isinstance(panel, Empty):
            return 0
        longest = panel.axis.longest * _LABEL_INCH
        return {0: _NUMBERS, 45: 0.8 * longest, 90: longest}[self.ticks(i, j, k).rotation] + _TITLE


def ticks(axis: Axis, pixels: float) -> Ticks:
    """Choose the tick labels that fit beside each other."""
    return axis.ticks(pixels / _LABEL_INCH)


def _within(cell: Rectangle, panel: Panel) -> Rectangle:
    """Make pixels of an image squares, in the middle and at the top of its cell."""
    if not isinstance(panel, Image) or not panel.square:
        return cell
    height, width = panel.values.shape
    size = min(cell.width / width, cell.height / height)
    middle = (cell.left + cell.right) / 2
    return Rectangle(middle - size * width / 2, middle + size * width / 2, cell.top, cell.top + size * height)
