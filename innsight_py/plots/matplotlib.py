"""Drawing a `PlotFrame` with matplotlib. Figures are made directly: pyplot and its state are never touched."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from innsight_py._checks import describe
from innsight_py._errors import explained, see
from innsight_py.plots import artists, word_artists
from innsight_py.plots.artists import BAR_ROOM, GAP, INFO_LETTER, LINE, STRIP
from innsight_py.plots.frame import PlotFrame
from innsight_py.plots.mathtext import drawn
from innsight_py.plots.panels import Bars, Image, Panel
from innsight_py.plots.text import shortened, written_info
from innsight_py.plots.window import show
from innsight_py.plots.words import Words

#: Draws texts.
assert word_artists

#: From more panels on they are laid out by their sizes alone: a constrained layout takes time with their square.
MANY = 64
#: Inches that a title and a legend take, and what a letter of a name takes of the room for a turned one.
TITLE, LEGEND, NARROW = 0.35, 0.22, 0.9


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

    @explained
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
        _check_ending(path, self.figure, arguments)
        self.figure.savefig(path, **arguments)

    @explained
    def show(self) -> None:
        """Show the figure: in a notebook below the cell, in a script in a window, until it is closed.

        Raises
        ------
        OSError
            If there is no screen; save the picture then.
        """
        show(self.figure, self)

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
        self.instances, _, self.inputs = frame.shape
        self.columns = max(len(line) for line in frame.lines) * self.inputs
        self.rows = len(frame.lines) * self.instances
        self.widths = frame.widths[: self.columns]
        self.heights = frame.heights * len(frame.lines)
        self.firsts = {line[0] for line in frame.lines}
        self.lasts = {line[-1] for line in frame.lines}
        #: Whether names of instances stand above texts, which may be too low to have them at their side.
        self.names_above = frame.has_instances and all(isinstance(panel, Words) for panel in frame.panels.flat)
        #: The lines of the info of each instance and node.
        self.info: np.ndarray | None = None
        if frame.info is not None:
            room = np.reshape(self.widths, (-1, self.inputs)).sum(1).min()
            if all(isinstance(panel, Image) for panel in frame.panels[:, :, -1].flat):
                room += BAR_ROOM / 72
            self.info = np.empty(frame.info.size, object)
            self.info[:] = written_info([info.lines for info in frame.info.flat], room / INFO_LETTER)
            self.info = self.info.reshape(frame.info.shape)
        if self.names_above:
            self.info = _with_names(self.info, frame)

    def groups(self) -> Iterator[tuple[int, int, int, int]]:
        """Give instance, node, row and first column of each group of panels."""
        for number, line in enumerate(self.frame.lines):
            for i in range(self.instances):
                for place, j in enumerate(line):
                    yield i, j, number * self.instances + i, place * self.inputs

    def has_colour_bar(self, panel: Panel, j: int) -> bool:
        """Tell whether a panel has its own colour bar: the last of each line stands for all where they are the same."""
        return isinstance(panel, Image) and (self.frame.shared_limit is None or j in self.lasts)

    def size(self) -> tuple[float, float]:
        """Return the inches of the figure: panels, and what stands around them."""
        frame = self.frame
        line = frame.panels[0, : self.columns // self.inputs]
        bars = sum(isinstance(panel, Image) for panel in line.flat) if frame.shared_limit is None else 1
        value_axes = sum(not isinstance(panel, Image | Words) for panel in line.flat) if self.inputs > 1 else 1
        value_axes = 0 if all(isinstance(panel, Words) for panel in line.flat) else value_axes
        width = (
            sum(self.widths) + self._side_room() * value_axes + bars * self._bar_room() / 72 + 0.08 * self.columns + 0.3
        )
        strips, info, labels = self._above_and_below()
        height = sum(self.heights) + len(frame.lines) * (strips + labels) + self.rows * (info + 0.1) + 0.1
        if self._lying():
            height += (self.rows - len(frame.lines)) * labels
        return width, height + TITLE * (frame.heading is not None) + LEGEND * (frame.reference is not None)

    def shrink(self, wanted: tuple[float, float], suitable: tuple[float, float]) -> tuple[float, float]:
        """Return by which factors panels are wider and higher in a figure of another size."""
        panels = (sum(self.widths), sum(self.heights))
        parts = zip(wanted, suitable, panels, strict=True)
        across, down = (max(0.1, (wide - fits + inches) / inches) for wide, fits, inches in parts)
        return across, down

    def _lying(self) -> list[Bars]:
        """Return the panels whose bars lie."""
        return [panel for panel in self.frame.panels.flat if isinstance(panel, Bars) and panel.horizontal]

    def _bar_room(self) -> float:
        """Return the points that a colour bar takes."""
        return max([BAR_ROOM, *(artists.bar_room(panel) for panel in self.frame.panels.flat)])

    def _side_room(self) -> float:
        """Return the inches that labels of a vertical axis take."""
        return max([0.7, *(panel.axis.longest * NARROW + 0.35 for panel in self._lying())])

    def _above_and_below(self) -> tuple[float, float, float]:
        """Return the inches of the strips above a line, the info above each row, and the labels below a line."""
        strips = (STRIP + GAP) * (1 + self.frame.has_inputs) / 72
        info = 0.0 if self.info is None else (LINE * len(self.info.flat[0]) + GAP) / 72
        line = self.frame.panels[0, : self.columns // self.inputs]
        labels = max(_label_room(panel, width) for panel, width in zip(line.flat, self.widths, strict=True))
        return strips, info, labels

    def fixed(self) -> tuple[tuple[float, float], dict[str, float]]:
        """Return the inches of the figure, and the places of its cells, where all gaps of a kind are the same."""
        strips, info, labels = self._above_and_below()
        panels = list(self.frame.panels.flat)
        bar = self._bar_room() / 72 if any(isinstance(panel, Image) for panel in panels) else 0.0
        values = self._side_room() if any(not isinstance(panel, Image | Words) for panel in panels) else 0.0
        across = 0.08 + (bar if self.frame.shared_limit is None else 0.0) + (values if self.inputs > 1 else 0.0)
        down = info + 0.1 + (strips + labels if len(self.frame.lines) > 1 else 0.0)
        if self._lying():
            down += labels
        title, legend = TITLE * (self.frame.heading is not None), LEGEND * (self.frame.reference is not None)
        left, right, top, bottom = (
            self._side_room() + 0.1,
            bar + (STRIP + 2 * GAP) / 72,
            strips + info + 0.1 + title,
            labels + 0.1 + legend,
        )
        width = left + sum(self.widths) + across * (self.columns - 1) + right
        height = top + sum(self.heights) + down * (self.rows - 1) + bottom
        cells = {
            "left": left / width, "right": 1 - right / width, "wspace": across / float(np.mean(self.widths)),
            "bottom": bottom / height, "top": 1 - top / height, "hspace": down / float(np.mean(self.heights)),
        }  # fmt: skip
        return (width, height), cells


def _with_names(info: np.ndarray | None, frame: PlotFrame) -> np.ndarray:
    """Put the name of each instance above the lines of its info."""
    named = np.empty(frame.shape[:2], object)
    for i, j in np.ndindex(*named.shape):
        named[i, j] = [shortened(frame.instances[i], 60), *([] if info is None else info[i, j])]
    return named


def _label_room(panel: Panel, inches: float) -> float:
    """Return the inches that ticks and title take below a panel."""
    if isinstance(panel, Words):
        return 0.0
    axis = panel.axis
    if isinstance(panel, Bars) and panel.horizontal:
        return 0.45
    ticks = axis.ticks(inches)
    return {0: 0.15, 45: 0.75 * axis.longest, 90: axis.longest}[ticks.rotation] + 0.3


def _new_figure(frame: PlotFrame) -> tuple[Figure, np.ndarray]:
    grid = _Grid(frame)
    ratios: dict[str, Any] = {"width_ratios": grid.widths, "height_ratios": grid.heights}
    size, places = grid.fixed() if frame.panels.size > MANY else (grid.size(), {})
    across, down = (1.0, 1.0) if frame.figsize is None else grid.shrink(frame.figsize, size)
    if places:
        figure = Figure(figsize=frame.figsize or size)
        cells = figure.add_gridspec(grid.rows, grid.columns, **ratios, **places)
    else:
        layout = ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.04, wspace=0.01, hspace=0.01)
        figure = Figure(figsize=frame.figsize or size, layout=layout)
        cells = figure.add_gridspec(grid.rows, grid.columns, **ratios)
    axes = np.empty(frame.shape, object)
    for i, j, row, column in grid.groups():
        for k in range(grid.inputs):
            ax = axes[i, j, k] = figure.add_subplot(cells[row, column + k])
            panel = frame.panels[i, j, k]
            if not isinstance(panel, Image | Words):
                artists.panel_look(ax)
            artists.draw_values(panel, ax)
            _draw_axes(grid, (i, j, k), ax, grid.widths[column + k] * across, down)
            if grid.has_colour_bar(panel, j):
                artists.draw_colour_bar(panel, ax)
        whole = axes[i, j, 0]
        if grid.inputs > 1:
            whole = figure.add_subplot(cells[row, column : column + grid.inputs], label="group")
            whole.set_axis_off()
            whole.set_zorder(-1)
        _decorate(
            grid, (i, j), axes[i, j], whole, [width * across for width in grid.widths[column : column + grid.inputs]]
        )
    if frame.heading is not None:
        figure.suptitle(drawn(frame.heading), fontsize=artists.TEXT + 3)
    if frame.reference is not None:
        artists.draw_legend(figure, frame.reference, outside=not places)
    return figure, axes


def _draw_axes(grid: _Grid, place: tuple[int, int, int], ax: Axes, inches: float, down: float) -> None:
    i, j, k = place
    panel, first = grid.frame.panels[place], j in grid.firsts
    # Images of a column are alike, and so are the value axes of a row where there is a single input.
    own_values = grid.inputs > 1 and not isinstance(panel, Image)
    artists.draw_axes(
        panel, ax, inches, panel.size[1] * down, bottom=i == grid.instances - 1, left=own_values or (first and k == 0),
        titled=first and (own_values or k == 0),
    )  # fmt: skip


def _decorate(grid: _Grid, group: tuple[int, int], axes: np.ndarray, whole: Axes, inches: Sequence[float]) -> None:
    """Draw strips and info of one group of panels, `whole` being axes that span them, `inches` how wide each is."""
    i, j = group
    frame, offset, top = grid.frame, GAP, i == 0
    if frame.has_inputs and top:
        for k, ax in enumerate(axes):
            artists.draw_strip(ax, frame.inputs[k], offset, inches[k])
        offset += STRIP + GAP
    if grid.info is not None:
        artists.draw_info(whole, grid.info[i, j], offset)
        offset += LINE * len(grid.info[i, j]) + GAP
    if top:
        artists.draw_strip(whole, frame.nodes[j], offset, sum(inches))
    if frame.has_instances and j in grid.lasts and not grid.names_above:
        panel = frame.panels[i, j, -1]
        offset = artists.bar_room(panel) if grid.has_colour_bar(panel, j) else GAP
        artists.draw_side_strip(axes[-1], frame.instances[i], offset)


def _check_ending(path: Any, figure: Figure, arguments: Mapping[str, Any]) -> None:
    """Refuse a file of a format that matplotlib cannot write."""
    if not isinstance(path, str | os.PathLike) and not hasattr(path, "write"):
        raise TypeError(see("saved-pictures", f"Argument 'path': expected the path of a file, got {describe(path)}."))
    known = figure.canvas.get_supported_filetypes()
    ending = Path(path).suffix.lower().removeprefix(".") if isinstance(path, str | os.PathLike) else ""
    if not ending or ending in known or "format" in arguments:
        return
    instead = "draw with as_plotly=True for a page (.html)" if ending in ("html", "htm") else f"one of {_few(known)}"
    raise ValueError(see("saved-pictures", f"Argument 'path': a picture cannot be saved as {str(path)!r}; {instead}."))


def _few(known: Mapping[str, str]) -> str:
    return ", ".join(f".{ending}" for ending in ("png", "pdf", "svg", "jpg") if ending in known)


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
    for i, j, k in itertools.product(*map(range, frame.shape)):
        ax, panel = axes[i, j, k], frame.panels[i, j, k]
        extent = ax.get_window_extent()
        inches = extent.width / ax.figure.dpi
        if isinstance(panel, Words):
            panel = panel.fitted(inches, extent.height / ax.figure.dpi)
        artists.draw_values(panel, ax)
        artists.draw_axes(panel, ax, inches, extent.height / ax.figure.dpi, bottom=True, left=True, titled=True)
        if isinstance(panel, Image):
            artists.draw_colour_bar(panel, ax)
        offset = GAP
        if frame.info is not None and k == 0:
            lines = written_info([frame.info[i, j].lines], inches / INFO_LETTER)[0]
            artists.draw_info(ax, lines, offset)
            offset += LINE * len(lines) + GAP
        names = [
            *([frame.instances[i]] if frame.has_instances else []),
            frame.nodes[j],
            *([frame.inputs[k]] if frame.has_inputs else []),
        ]
        artists.draw_strip(ax, " · ".join(names), offset, inches)
