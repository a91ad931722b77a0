"""Drawing a `PlotFrame` with matplotlib. Figures are made directly: pyplot and its state are never touched."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from innsight_py._checks import describe
from innsight_py.plots import artists
from innsight_py.plots.artists import BAR_ROOM, GAP, LINE, STRIP
from innsight_py.plots.frame import Axis, Image, Panel, PlotFrame


class Display:
    """A picture drawn by matplotlib. Notebooks show it.

    Parameters
    ----------
    frame : PlotFrame
        What is drawn.
    ax : Axes or array of Axes, optional
        Where. Default: on a new figure.

    Attributes
    ----------
    frame : PlotFrame
        What is drawn.
    figure : matplotlib.figure.Figure
        The figure.
    axes : ndarray of Axes
        ``(instances, nodes, inputs)``.

    Raises
    ------
    TypeError, ValueError
        If `ax` are no axes, or not as many as there are panels.

    Examples
    --------
    >>> from innsight_py import Converter, run_grad
    >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0], [1.0, 0.0, 2.0]]}]}
    >>> p = run_grad(Converter(model), [[1.0, 1.0, 1.0]]).plot(output_idx=[0, 1])
    >>> p.axes.shape, p[0, 1].axes.shape
    ((1, 2, 1), (1, 1, 1))
    """

    def __init__(self, frame: PlotFrame, ax: Any = None) -> None:
        self.frame = frame
        if ax is None:
            self.figure, self.axes = _new_figure(frame)
        else:
            self.axes = _given_axes(frame, ax)
            self.figure = self.axes.flat[0].get_figure()
            _draw_on_given(frame, self.axes)

    def __getitem__(self, key: Any) -> Display:
        """Draw a part: some instances, or instances and output nodes; see `PlotFrame`.

        Raises
        ------
        IndexError
            If there is no such instance or node.
        """
        return Display(self.frame[key])

    def save(self, path: str | Path, **arguments: Any) -> None:
        """Write the figure to a file; the ending says in which format.

        Parameters
        ----------
        path : str or Path
            Where to.
        **arguments
            Handed on to ``Figure.savefig``, such as ``dpi``.

        Raises
        ------
        ValueError
            If the format is unknown.
        """
        self.figure.savefig(path, **arguments)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png")
        return buffer.getvalue()

    def __repr__(self) -> str:
        instances, nodes, inputs = self.frame.shape
        return f"<Display of {self.frame.title}: {instances} x {nodes} x {inputs} panels (instances, nodes, inputs)>"


def draw(frame: PlotFrame, ax: Any = None) -> Display:
    """Draw a frame on a new figure, or on axes that are given."""
    return Display(frame, ax)


# -- a figure of our own ------------------------------------------------------------------------------------------


class _Grid:
    """Where panels stand: nodes side by side in lines, inputs side by side within nodes, instances below each other."""

    def __init__(self, frame: PlotFrame) -> None:
        self.frame = frame
        self.inputs = frame.shape[2]
        self.columns = max(len(line) for line in frame.lines) * self.inputs
        self.lines = len(frame.lines) if frame.shape[0] == 1 else frame.shape[0]

    def groups(self) -> Iterator[tuple[int, int, int, int]]:
        """Give instance, node, row and first column of each group of panels."""
        for number, line in enumerate(self.frame.lines):
            for i in range(self.frame.shape[0]):
                for place, j in enumerate(line):
                    yield i, j, number + i, place * self.inputs

    def is_last(self, j: int) -> bool:
        """Tell whether a node is the last of its line."""
        return any(line[-1] == j for line in self.frame.lines)

    def is_first(self, j: int) -> bool:
        """Tell whether a node is the first of its line."""
        return any(line[0] == j for line in self.frame.lines)

    def has_colour_bar(self, panel: Panel, j: int) -> bool:
        """Tell whether a panel has its own colour bar: the last of each line stands for all where they are the same."""
        return isinstance(panel, Image) and (self.frame.shared_limit is None or self.is_last(j))


def _new_figure(frame: PlotFrame) -> tuple[Figure, np.ndarray]:
    grid = _Grid(frame)
    widths = frame.widths[: grid.columns]
    heights = frame.heights if len(frame.lines) == 1 else frame.heights * grid.lines
    figure = Figure(figsize=_size(grid, widths, heights), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.04, wspace=0.01, hspace=0.01)
    cells = figure.add_gridspec(grid.lines, grid.columns, width_ratios=widths, height_ratios=heights)
    axes = np.empty(frame.shape, object)
    for i, j, row, column in grid.groups():
        for k in range(grid.inputs):
            ax = axes[i, j, k] = figure.add_subplot(cells[row, column + k])
            panel = frame.panels[i, j, k]
            if not isinstance(panel, Image):
                artists.panel_look(ax)
            artists.draw_values(panel, ax)
            _axes_of(grid, panel, ax, (i, j, k), widths[column + k])
            if grid.has_colour_bar(panel, j):
                artists.draw_colour_bar(panel, ax)
        _decorate(grid, figure, cells, axes[i, j], (i, j, row, column), sum(widths[column : column + grid.inputs]))
    return figure, axes


def _axes_of(grid: _Grid, panel: Panel, ax: Axes, place: tuple[int, int, int], inches: float) -> None:
    i, j, k = place
    alone = grid.inputs == 1
    first = grid.is_first(j)
    is_image = isinstance(panel, Image)
    # Images of a column are alike, and so are the value axes of a row where there is a single input.
    left = first and (alone or k == 0) if is_image else first or not alone
    titled = first and (k == 0 or not is_image)
    artists.draw_axes(panel, ax, inches, bottom=i == grid.frame.shape[0] - 1, left=left, titled=titled)


def _decorate(
    grid: _Grid, figure: Figure, cells: Any, axes: np.ndarray, place: tuple[int, int, int, int], inches: float
) -> None:
    """Draw strips and info of one group of panels."""
    i, j, row, column = place
    frame, offset = grid.frame, GAP
    top = i == 0
    if frame.has_inputs and top:
        for k, ax in enumerate(axes):
            artists.draw_strip(ax, frame.inputs[k], offset)
        offset += STRIP + GAP
    whole = axes[0]
    if len(axes) > 1:
        whole = figure.add_subplot(cells[row, column : column + len(axes)], label="group")
        whole.set_axis_off()
    if frame.info is not None:
        lines = artists.info_lines(frame.info[i, j], inches)
        artists.draw_info(whole, lines, offset)
        offset += LINE * len(lines) + GAP
    if top:
        artists.draw_strip(whole, frame.nodes[j], offset)
    if frame.has_instances and grid.is_last(j):
        bar = grid.has_colour_bar(frame.panels[i, j, -1], j)
        artists.draw_side_strip(axes[-1], frame.instances[i], BAR_ROOM if bar else GAP)


def _size(grid: _Grid, widths: list[float], heights: list[float]) -> tuple[float, float]:
    """Return the inches of the figure: panels, and what stands around them."""
    frame = grid.frame
    bars = sum(grid.has_colour_bar(panel, j) for (_, j, _), panel in np.ndenumerate(frame.panels[:1]))
    bars = bars if len(frame.lines) == 1 else max(1, bars // len(frame.lines)) if bars else 0
    several = 1 if grid.inputs == 1 else grid.columns
    width = sum(widths) + 0.7 * several + bars * BAR_ROOM / 72 + 0.3 * frame.has_instances + 0.08 * grid.columns
    strips = (STRIP + GAP) / 72 * (1 + frame.has_inputs)
    info = 0.0
    if frame.info is not None:
        group = min(sum(widths[c : c + grid.inputs]) for c in range(0, grid.columns, grid.inputs))
        info = (LINE * max(len(artists.info_lines(x, group)) for x in frame.info.flat) + GAP) / 72
    labels = max(_label_room(panel.axis, width) for panel, width in zip(frame.panels[0].flat, widths, strict=False))
    lines = grid.lines
    tops = strips * (1 if len(frame.lines) == 1 else lines) + info * lines
    bottoms = labels * (1 if len(frame.lines) == 1 else lines)
    return width, sum(heights) + tops + bottoms + 0.1 * lines + 0.1


def _label_room(axis: Axis, inches: float) -> float:
    """Return the inches that ticks and title take below a panel."""
    ticks = axis.ticks(inches)
    return {0: 0.15, 45: 0.75 * axis.longest, 90: axis.longest}[ticks.rotation] + 0.3


# -- axes of the user ---------------------------------------------------------------------------------------------


def _given_axes(frame: PlotFrame, ax: Any) -> np.ndarray:
    given = np.atleast_1d(np.array(ax, object))
    for one in given.flat:
        if not isinstance(one, Axes):
            raise TypeError(f"Argument 'ax': expected matplotlib axes or an array of these, got {describe(one)}.")
    if given.size != frame.panels.size:
        instances, nodes, inputs = frame.shape
        raise ValueError(
            f"Argument 'ax': expected {frame.panels.size} axes ({instances} instance(s) x {nodes} output node(s) x "
            f"{inputs} input(s)), got {given.size}."
        )
    return given.reshape(frame.shape)


def _draw_on_given(frame: PlotFrame, axes: np.ndarray) -> None:
    """Draw each panel with all of its labels, wherever the axes stand."""
    for (i, j, k), ax in np.ndenumerate(axes):
        panel = frame.panels[i, j, k]
        inches = ax.get_window_extent().width / ax.figure.dpi
        artists.draw_values(panel, ax)
        artists.draw_axes(panel, ax, inches, bottom=True, left=True, titled=True)
        if isinstance(panel, Image):
            artists.draw_colour_bar(panel, ax)
        offset = GAP
        if frame.info is not None and k == 0:
            lines = artists.info_lines(frame.info[i, j], inches)
            artists.draw_info(ax, lines, offset)
            offset += LINE * len(lines) + GAP
        names = [
            *([frame.instances[i]] if frame.has_instances else []),
            frame.nodes[j],
            *([frame.inputs[k]] if frame.has_inputs else []),
        ]
        artists.draw_strip(ax, " · ".join(names), offset)
