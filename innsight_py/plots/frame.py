"""What is in a picture, before anything is drawn: the one table that both backends draw.

`innsight_py.plots.build` computes a `PlotFrame` from a result; a backend gets it and draws all of it, and computes
nothing from the result itself.

The grid
    ``frame.panels`` has the shape ``(instances, nodes, inputs)``. Rows of the figure are instances (a single one in
    global pictures), columns are output nodes, and within each node the inputs of the model. ``frame[i, j]`` is the
    part with some instances and nodes, itself a frame: a backend's ``p[i, j]`` draws that.

Strips
    ``frame.nodes[j]`` names the columns of node j, across its inputs. ``frame.inputs[k]`` names the input of a column;
    it is shown if ``frame.has_inputs`` (several inputs), under the node's strip. ``frame.instances[i]`` names a row, at
    the right of the last column; shown if ``frame.has_instances``. Each panel knows its own labels too
    (``panel.place``): a strip must agree with the panels under it.

Info
    ``frame.info[i, j]`` (None: not wanted) has ``lines``, such as ``[("Pred.", "0.4749"), ("Sum", "1.47"), ("Goal",
    "1.604")]``: the sum is that over all inputs. Once for each instance and node; it must hide no value.

Panels
    `Bars`
        A value for each feature of a table or position of a signal: bars from 0 at ``panel.axis.positions``, colours
        ``panel.shades`` (-1 blue, 0 white, 1 red) on the scale ``panel.cmap``, a line at 0, the value axis limited to
        ``panel.value_limits``. ``panel.horizontal``: they lie, the first on top, their labels at the left of each row
        of panels. ``panel.signal_values`` (if there are any, channels x positions) are grey lines over the bars.
    `Boxes`
        Box plots for each feature or position over many instances, grey, from ``panel.boxes``: quartiles, whiskers,
        outliers. The instance ``panel.marked[panel.reference]`` (if there is one) is marked by a red segment in each
        box; an interactive backend lets the user choose another of ``panel.marked``. ``panel.dense``: there are too
        many positions for boxes, a static backend draws the median as a line, and quartiles and whiskers as bands.
        ``panel.values`` (instances x features) are the values themselves, for violins.
    `Image`
        ``panel.values`` (height x width), the first row on top, coloured from ``-panel.limit`` (blue) over 0 (white) to
        ``panel.limit`` (red), with a colour bar that has numbers (``panel.scale_title`` is its title). One bar for each
        panel, or a single one for the figure if ``frame.shared_limit`` is not None. ``panel.background`` (if there is
        one, height x width in 0..1, black to white) lies behind; then colours are full blue and red, and as opaque as
        ``abs(panel.shades)`` says: the image stays visible. In global pictures ``panel.values`` are medians and
        ``panel.quantiles`` has the
        nine images of `QUANTILES`.
    `Empty`
        The input does not reach the output: no values, ``panel.text`` says so.

Axes
    ``panel.axes`` has one `Axis` for each axis of the values (an image: height, then width): ``title``, ``labels`` (all
    of them), and ``ticks(inches)``, which chooses the tick labels that fit. Positions count from 1, as R's do.

Hover
    ``panel.hover_texts()`` gives the text for each value. For many values build a template of the same text:
    ``panel.hover_text("%{customdata}", "%{y}", "%{x}")``. ``panel.place.text`` is the second box: instance and node.

Sizes
    ``frame.heading`` stands above all. ``frame.figsize`` (None: as large as suits) is the size of the figure in inches.
    ``frame.widths`` and ``frame.heights``: inches for each column and row of panels, without titles and strips. Where
    all nodes are too wide for a page, ``frame.lines`` breaks them into lines, each with all instances, one below the
    other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from innsight_py._errors import explained
from innsight_py.plots.panels import Boxes, Image
from innsight_py.plots.text import number, shortened

#: Inches at which nodes are broken into lines, for a single instance and for several, and that no line exceeds.
_PAGE, _WIDE_PAGE, _WIDEST = 16.0, 24.0, 30.0


@dataclass(frozen=True)
class Info:
    """What the model said for an instance and node, and what the attributions add up to.

    Attributes
    ----------
    pred, goal : float or None
        Prediction, and what the sum is to be compared with; None where unknown or where there is no such thing.
    total : float
        Sum of the attributions over all inputs.
    largest : str, optional
        Label of the node with the largest output, where no panel of the instance shows it.
    """

    pred: float | None
    total: float
    goal: float | None
    largest: str | None = None

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What is written: a name and a number each."""
        entries = (("Pred.", self.pred), ("Sum", self.total), ("Goal", self.goal))
        lines = [(name, number(value)) for name, value in entries if value is not None]
        return lines if self.largest is None else [*lines, ("Largest", shortened(self.largest))]


@dataclass(frozen=True, eq=False)
class PlotFrame:
    """All that is in a picture, in numbers: what ``result.plot().frame`` holds and both backends draw.

    Attributes
    ----------
    panels : ndarray of Panel
        ``(instances, nodes, inputs)``.
    nodes, inputs, instances : list of str
        Strips of columns and rows.
    has_inputs, has_instances : bool
        Whether strips of inputs and instances are shown.
    info : ndarray of Info, optional
        ``(instances, nodes)``.
    value_name : str
        Title of the value axes.
    title : str
        Name of the method.
    is_global : bool
        Whether it summarizes instances.
    heading : str, optional
        What stands above the picture.
    figsize : tuple of float, optional
        Width and height of the figure in inches.
    shared_limit : float, optional
        The limit of the colours if all images have the same.
    """

    panels: np.ndarray
    nodes: list[str]
    inputs: list[str]
    instances: list[str]
    has_inputs: bool
    has_instances: bool
    info: np.ndarray | None
    value_name: str
    title: str
    is_global: bool
    heading: str | None = None
    figsize: tuple[float, float] | None = None

    @property
    def reference(self) -> str | None:
        """The instance that is marked in box plots."""
        boxes = [panel for panel in self.panels.flat if isinstance(panel, Boxes)]
        return boxes[0].reference if boxes else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of instances, output nodes and inputs."""
        instances, nodes, inputs = self.panels.shape
        return instances, nodes, inputs

    @cached_property
    def shared_limit(self) -> float | None:
        """The limit of the colours if all panels are images with the same: in global pictures of a single input."""
        panels = list(self.panels.flat)
        shared = self.is_global and not self.has_inputs and all(isinstance(panel, Image) for panel in panels)
        return panels[0].limit if shared else None

    @cached_property
    def _wanted(self) -> list[float]:
        """Inches that suit each column of panels."""
        columns = self.panels.reshape(self.shape[0], -1)
        return [max(panel.size[0] for panel in column) for column in columns.T]

    @cached_property
    def lines(self) -> list[list[int]]:
        """The nodes of each line of the figure."""
        instances, nodes, _ = self.shape
        page = _PAGE if instances == 1 else _WIDE_PAGE
        together = max(1, int(page * nodes / sum(self._wanted)))
        count = math.ceil(nodes / together)
        size = math.ceil(nodes / count)
        return [list(range(start, min(start + size, nodes))) for start in range(0, nodes, size)]

    @property
    def widths(self) -> list[float]:
        """Inches for each column of panels, nodes first, then inputs."""
        inputs = self.shape[2]
        longest = max(sum(sum(self._wanted[j * inputs : (j + 1) * inputs]) for j in line) for line in self.lines)
        shrink = min(1.0, _WIDEST / longest)
        return [width * shrink for width in self._wanted]

    @property
    def heights(self) -> list[float]:
        """Inches for each row of panels."""
        return [max(panel.size[1] for panel in row.flat) for row in self.panels]

    @explained
    def __getitem__(self, key: Any) -> PlotFrame:
        """Take some instances, or instances and output nodes: ``frame[0]``, ``frame[:, 1]``, ``frame[[0, 2], 1:]``.

        Raises
        ------
        IndexError
            If there is no such instance or node.
        """
        first, second = key if isinstance(key, tuple) and len(key) == 2 else (key, slice(None))
        rows = _positions(first, self.instances, "instance")
        columns = _positions(second, self.nodes, "output node")
        return replace(
            self,
            panels=self.panels[np.ix_(rows, columns)],
            nodes=[self.nodes[j] for j in columns],
            instances=[self.instances[i] for i in rows],
            info=None if self.info is None else self.info[np.ix_(rows, columns)],
        )


def _positions(key: Any, labels: Sequence[str], what: str) -> list[int]:
    """Read an index, a slice or a list of indices as positions."""
    numbers = np.arange(len(labels))
    message = f"There are {len(labels)} {what}s in the picture, from 0 to {len(labels) - 1}; got {key!r}."
    try:
        chosen = [int(i) for i in np.atleast_1d(numbers[key])]
    except (IndexError, TypeError, ValueError):
        raise IndexError(message) from None
    if not chosen:
        raise IndexError(message)
    return chosen
