"""Where everything of an interactive figure stands, in pixels from the left and the top of the area of the panels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from innsight_py.plots.axis import Axis, Ticks
from innsight_py.plots.frame import PlotFrame
from innsight_py.plots.panels import Bars, Empty, Image, Panel
from innsight_py.plots.text import written_info
from innsight_py.plots.words import Words

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
#: The share of a narrow figure that names beside bars may take.
_NAMES_SHARE = 0.4
#: Pixels for a size of the font of a text.
EM = 13.2


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


#: A panel within an instance: its output node and its input.
Slot = tuple[int, int]


class Grid:
    """Nodes side by side in lines, inputs side by side within nodes, instances one below the other.

    Parameters
    ----------
    frame : PlotFrame
        What is drawn.
    room : float, optional
        Pixels that the figure may be wide: fewer nodes stand side by side, and below that the inputs of a node stand
        one below the other. Default: as wide as the lines of the frame.
    high : float, optional
        Pixels that the figure is high. Default: as high as suits.

    Attributes
    ----------
    frame : PlotFrame
        What is drawn, texts broken into the lines that their panels have room for.
    lines : list of list of (int, int)
        Node and input of the panels that stand side by side.
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
    >>> first, second = Grid(frame, room=400).panels.flat
    >>> first.left == second.left, first.bottom < second.top
    (True, True)
    """

    def __init__(self, frame: PlotFrame, room: float | None = None, high: float | None = None) -> None:
        self.frame = frame
        self._stretch = 1.0
        #: Pixels that names beside bars may take; all that they need, unless the figure has to be narrow.
        self.names_room = math.inf if room is None else _NAMES_SHARE * room
        self.instances, _, self.inputs = frame.shape
        widest = max(len(line) for line in frame.lines)
        suitable = min(
            _PAGE[0] / sum(frame.widths[: widest * self.inputs]), _PAGE[1] / (sum(frame.heights) * len(frame.lines))
        )
        scale = float(np.clip(suitable, *_SCALES))
        self.lines = [[(j, k) for j in line for k in range(self.inputs)] for line in frame.lines]
        if room is not None:
            self.lines, scale = self._fit(room, scale if high is None else math.inf)
        self._ends = [self._place_columns(line, scale) for line in self.lines]
        self.frame = self._with_broken_texts()
        self.info = self._info()
        self.panels = np.empty(frame.shape, object)
        self.height = math.ceil(self._place_rows(scale))
        if high is not None:
            rows = sum(
                self.panels[i, line[0][0], line[0][1]].height for i in range(self.instances) for line in self.lines
            )
            self._stretch = max(0.1, (high - self.height + rows) / rows)
            self.height = math.ceil(self._place_rows(scale))
        self.width = math.ceil(
            max(ends[-1][1] + self._right_room(line) for line, ends in zip(self.lines, self._ends, strict=True))
        )

    @property
    def firsts(self) -> set[Slot]:
        """Node and input of the first panel of each line."""
        return {line[0] for line in self.lines}

    # -- lines ----------------------------------------------------------------------------------------------------

    def _fit(self, room: float, largest: float) -> tuple[list[list[Slot]], float]:
        """Choose how many panels stand side by side in `room` pixels, and the scale."""
        largest = max(largest, _HIGH)
        for lines in self._ways():
            scale = self._scale(lines, room)
            if scale >= _SCALES[0]:
                break
        return lines, min(scale, largest)

    def _ways(self) -> Iterator[list[list[Slot]]]:
        """Give ways to break panels into lines, from few long ones to one for each panel."""
        nodes = self.frame.shape[1]
        for count in range(max(len(line) for line in self.frame.lines), 0, -1):
            starts = range(0, nodes, count)
            yield [[(j, k) for j in range(nodes)[s : s + count] for k in range(self.inputs)] for s in starts]
        for count in range(self.inputs - 1, 0, -1):
            starts = range(0, self.inputs, count)
            yield [[(j, k) for k in range(self.inputs)[s : s + count]] for j in range(nodes) for s in starts]

    def _scale(self, lines: Sequence[Sequence[Slot]], room: float) -> float:
        """Return the pixels for an inch of a panel with which all lines are at most `room` pixels wide."""
        found = []
        for line in lines:
            fixed = self._place_columns(line, 0.0)[-1][1] + self._right_room(line)
            found.append((room - fixed) / sum(self._inches(slot) for slot in line))
        return max(min(found), 20.0)

    def _inches(self, slot: Slot) -> float:
        j, k = slot
        return self.frame.widths[j * self.inputs + k]

    # -- columns --------------------------------------------------------------------------------------------------

    def _place_columns(self, line: Sequence[Slot], scale: float) -> list[tuple[float, float]]:
        """Return the ends of each panel of a line."""
        ends = []
        x = 0.0
        for place, slot in enumerate(line):
            width = self._inches(slot) * scale
            x += self._left_room(slot[1], first=place == 0)
            ends.append((x, x + width))
            bar = self._has_bars(slot[1]) and self.frame.shared_limit is None
            x += width + (BAR_ROOM if bar else 0) + _BETWEEN
        return ends

    def _has_bars(self, k: int) -> bool:
        return any(isinstance(panel, Image) for panel in self.frame.panels[:, :, k].flat)

    def _left_room(self, k: int, first: bool) -> float:
        if all(isinstance(panel, Words) for panel in self.frame.panels[:, :, k].flat):
            return 0
        if self._has_bars(k):
            return _IMAGE_ROOM if first else 0
        lying = [
            min(panel.axis.longest * _LABEL_INCH, self.names_room) + _TITLE
            for panel in self.frame.panels[:, :, k].flat
            if is_lying(panel)
        ]
        return max([_VALUE_ROOM, *lying]) if first or self.inputs > 1 else 0

    def _right_room(self, line: Sequence[Slot]) -> float:
        bars = BAR_ROOM if self._has_bars(line[-1][1]) else 0
        return bars + (STRIP + GAP if self.frame.has_instances else 0)

    def _with_broken_texts(self) -> PlotFrame:
        """Break the lines of texts anew, for the size of the font that the page has."""
        if not any(isinstance(panel, Words) for panel in self.frame.panels.flat):
            return self.frame
        panels = self.frame.panels.copy()
        for line, ends in zip(self.lines, self._ends, strict=True):
            for (j, k), (left, right) in zip(line, ends, strict=True):
                for i, panel in enumerate(self.frame.panels[:, j, k]):
                    if isinstance(panel, Words):
                        panels[i, j, k] = replace(panel, width=(right - left) / EM * panel.points / 72)
        return replace(self.frame, panels=panels)

    # -- rows -----------------------------------------------------------------------------------------------------

    def groups(self, line: int) -> list[tuple[int, list[int]]]:
        """Return the nodes of a line, and the inputs that stand there for each."""
        found: dict[int, list[int]] = {}
        for j, k in self.lines[line]:
            found.setdefault(j, []).append(k)
        return list(found.items())

    def _info(self) -> np.ndarray | None:
        if self.frame.info is None:
            return None
        span = math.inf
        for number, ends in enumerate(self._ends):
            start = 0
            for _, inputs in self.groups(number):
                span = min(span, ends[start + len(inputs) - 1][1] - ends[start][0]) if 0 in inputs else span
                start += len(inputs)
        lines = np.empty(self.frame.info.size, object)
        lines[:] = written_info([info.lines for info in self.frame.info.flat], span / LETTER)
        return lines.reshape(self.frame.info.shape)

    def _row_height(self, panels: Sequence[Panel], scale: float) -> float:
        images = any(isinstance(panel, Image) for panel in panels)
        own = [panel.height * EM if isinstance(panel, Words) else 0.0 for panel in panels]
        others = [panel.size[1] for panel in panels if not isinstance(panel, Words)]
        return max(*own, max(others, default=0.0) * (scale if images else max(scale, _HIGH)) * self._stretch, 0.0)

    def _place_rows(self, scale: float) -> float:
        y = 0.0
        for number, (line, ends) in enumerate(zip(self.lines, self._ends, strict=True)):
            for i in range(self.instances):
                height = self._row_height([self.frame.panels[i, j, k] for j, k in line], scale)
                y += self.head(number, i) + _BETWEEN * (i > 0)
                y += (_NUMBERS + _TITLE) * (i > 0 and any(is_lying(self.frame.panels[i, j, k]) for j, k in line))
                for (j, k), (left, right) in zip(line, ends, strict=True):
                    self.panels[i, j, k] = _within(Rectangle(left, right, y, y + height), self.frame.panels[i, j, k])
                y += height
            y += max(self._label_room(-1, j, k) for j, k in line) + _BETWEEN
        return y - _BETWEEN

    def head(self, line: int, i: int) -> float:
        """Return the pixels that strips and info take above the panels of an instance."""
        strips = (STRIP + GAP) * (1 + self.frame.has_inputs) if i == 0 else 0
        has_info = self.info is not None and any(k == 0 for _, k in self.lines[line])
        return strips + (LINE * len(self.info.flat[0]) + GAP if self.info is not None and has_info else 0)

    def ticks(self, i: int, j: int, k: int) -> Ticks:
        """Choose the tick labels of a horizontal axis."""
        return ticks(self.frame.panels[i, j, k].axis, self.panels[i, j, k].width)

    def _label_room(self, i: int, j: int, k: int) -> float:
        panel: Panel = self.frame.panels[i, j, k]
        if isinstance(panel, Empty | Words):
            return 0
        if is_lying(panel):
            return _NUMBERS + _TITLE
        longest = panel.axis.longest * _LABEL_INCH
        return {0: _NUMBERS, 45: 0.8 * longest, 90: longest}[self.ticks(i, j, k).rotation] + _TITLE


def is_lying(panel: Panel) -> bool:
    """Tell whether a panel has horizontal bars."""
    return isinstance(panel, Bars) and panel.horizontal


def ticks(axis: Axis, pixels: float) -> Ticks:
    """Choose the tick labels that fit beside each other."""
    return axis.ticks(pixels / _LABEL_INCH)


def _within(cell: Rectangle, panel: Panel) -> Rectangle:
    """Make pixels of an image squares, in the middle and at the top of its cell; a text is as high as its lines."""
    if isinstance(panel, Words):
        return replace(cell, bottom=cell.top + panel.height * EM)
    if not isinstance(panel, Image) or not panel.square:
        return cell
    height, width = panel.values.shape
    size = min(cell.width / width, cell.height / height)
    middle = (cell.left + cell.right) / 2
    return Rectangle(middle - size * width / 2, middle + size * width / 2, cell.top, cell.top + size * height)
