"""The panels of a picture: each with its values, its axes, and what its places are called."""

from __future__ import annotations

import html
from dataclasses import dataclass

import numpy as np

from innsight_py.plots.axis import Axis
from innsight_py.plots.colours import DEFAULT
from innsight_py.plots.text import hover, number

#: Which quantiles of the instances a global picture has for each pixel; the fifth is the median.
QUANTILES = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
MEDIAN = QUANTILES.index(0.5)
#: More positions than this are drawn as bands instead of boxes.
MOST_BOXES = 60


@dataclass(frozen=True)
class Place:
    """Where a panel belongs: labels of its instance (None in global pictures), output layer, node and input."""

    instance: str | None
    output: str
    node: str
    input: str

    @property
    def text(self) -> str:
        """The labels of instance, output layer and node in the HTML that plotly takes."""
        return "<br>".join(html.escape(label) for label in (self.instance, self.output, self.node) if label is not None)


@dataclass(frozen=True, eq=False)
class Panel:
    """One field of the grid.

    Attributes
    ----------
    place : Place
        Labels of what it shows.
    axes : tuple of Axis
        One for each axis of the input without its channels.
    value_name : str
        What a value is called.
    """

    place: Place
    axes: tuple[Axis, ...]
    value_name: str

    @property
    def axis(self) -> Axis:
        """The horizontal axis."""
        return self.axes[-1]

    def hover_text(self, value: str, *labels: str) -> str:
        """Write the hover text of one value, or a template of it, from the value and the label on each axis."""
        titles = (axis.short_title for axis in self.axes)
        return hover(self.value_name, value, [("Input", self.place.input), *zip(titles, labels, strict=True)])

    def _hover_texts(self, values: np.ndarray) -> np.ndarray:
        texts = np.empty(values.shape, object)
        for index, value in np.ndenumerate(values):
            labels = (axis.labels[i] for axis, i in zip(self.axes, index[-len(self.axes) :], strict=True))
            texts[index] = self.hover_text(number(value), *labels)
        return texts

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches that suit the panel."""
        if len(self.axes) == 2:
            return _image_size(len(self.axes[0]), len(self.axes[1]))
        if not self.axis.named:
            return min(3.2 + len(self.axis) / 250, 8.0), 2.2
        level = len(self.axis) * (self.axis.longest + 0.1)
        return (max(2.4, level) if level <= 4.5 else float(np.clip(len(self.axis) * 0.22, 3.6, 14.0))), 2.2


def _image_size(height: int, width: int) -> tuple[float, float]:
    ratio = width / height
    across = float(np.clip(2.6 * ratio, 1.3, 6.0))
    return across, float(np.clip(across / ratio, 1.0, 4.0))


@dataclass(frozen=True, eq=False)
class Empty(Panel):
    """An input that does not reach the output."""

    text: str = "not connected"


@dataclass(frozen=True, eq=False)
class Bars(Panel):
    """A value for each place on the axis.

    Attributes
    ----------
    values : ndarray
        ``(n,)``.
    limit : float
        The magnitude that has the full colour; at least the largest of the values.
    value_limits : tuple of float
        Lower and upper end of the value axis.
    horizontal : bool
        Whether bars lie, one below the other from the first place on.
    signal : ndarray, optional
        ``(channels, n)``: a signal to lie below its attributions, from 0 at the lower end of the value axis to 1.
    cmap : str
        The scale of colours, see `innsight_py.plots.colours`.
    """

    values: np.ndarray
    limit: float
    value_limits: tuple[float, float]
    horizontal: bool = False
    signal: np.ndarray | None = None
    cmap: str = DEFAULT

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches that suit the panel."""
        if not self.horizontal:
            return super().size
        return 2.6, float(np.clip(len(self.axis) * 0.2 + 0.15, 0.6, 20.0))

    @property
    def signal_values(self) -> np.ndarray | None:
        """The signal where it stands on the value axis."""
        if self.signal is None:
            return None
        low, high = self.value_limits
        margin = 0.04 * (high - low)
        return low + margin + self.signal * (high - low - 2 * margin)

    @property
    def shades(self) -> np.ndarray:
        """Colour of each bar, from -1 (blue) over 0 (white) to 1 (red)."""
        return shades(self.values, self.limit)

    def hover_texts(self) -> np.ndarray:
        """Return the hover text of each bar, ``(n,)``."""
        return self._hover_texts(self.values)


@dataclass(frozen=True, eq=False)
class BoxStatistics:
    """Box plots as Tukey's (and R's): whiskers reach to the last value within 1.5 times the quartiles' distance.

    Attributes
    ----------
    low, q1, median, q3, high : ndarray
        Lower whisker, quartiles (linear interpolation) and upper whisker, each ``(n,)``.
    outliers : tuple of ndarray
        Positions (from 1) and values of the values beyond the whiskers.
    """

    low: np.ndarray
    q1: np.ndarray
    median: np.ndarray
    q3: np.ndarray
    high: np.ndarray
    outliers: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Boxes(Panel):
    """The values of many instances for each place on the axis.

    Attributes
    ----------
    values : ndarray
        ``(instances, n)``.
    boxes : BoxStatistics
        Their statistics.
    marked : dict of str to ndarray
        Values ``(n,)`` of instances that can be marked, by label.
    reference : str or None
        The one of them that is marked.
    value_limits : tuple of float
        Lower and upper end of the value axis.
    """

    values: np.ndarray
    boxes: BoxStatistics
    marked: dict[str, np.ndarray]
    reference: str | None
    value_limits: tuple[float, float]

    @property
    def dense(self) -> bool:
        """Whether there are too many places for boxes."""
        return not self.axis.named and len(self.axis) > MOST_BOXES

    def hover_texts(self, values: np.ndarray | None = None) -> np.ndarray:
        """Return the hover texts of values ``(n,)`` or ``(instances, n)``. Default: those of the medians."""
        return self._hover_texts(self.boxes.median if values is None else values)


@dataclass(frozen=True, eq=False)
class Image(Panel):
    """A value for each pixel.

    Attributes
    ----------
    values : ndarray
        ``(height, width)``; the median over the instances in global pictures.
    limit : float
        The magnitude that has the full colour: the largest of the values, or a quantile beyond which all have it.
    scale_title : str
        Title of the colour bar.
    quantiles : ndarray, optional
        ``(len(QUANTILES), height, width)``.
    quantile_limits : tuple of float, optional
        The magnitude that has the full colour for each quantile, the same for all nodes; for the median it is `limit`.
    background : ndarray, optional
        ``(height, width)``, from 0 (black) to 1 (white).
    cmap : str
        The scale of colours, see `innsight_py.plots.colours`.
    """

    values: np.ndarray
    limit: float
    scale_title: str
    quantiles: np.ndarray | None = None
    quantile_limits: tuple[float, ...] | None = None
    background: np.ndarray | None = None
    cmap: str = DEFAULT

    @property
    def shades(self) -> np.ndarray:
        """Colour of each pixel, from -1 (blue) over 0 (white) to 1 (red)."""
        return shades(self.values, self.limit)

    @property
    def square(self) -> bool:
        """Whether pixels are squares; those of very long images are not."""
        height, width = len(self.axes[0]), len(self.axes[1])
        return max(height, width) <= 4 * min(height, width)

    def hover_texts(self) -> np.ndarray:
        """Return the hover text of each pixel, ``(height, width)``."""
        return self._hover_texts(self.values)


def shades(values: np.ndarray, limit: float) -> np.ndarray:
    """Divide values by the magnitude that has the full colour; all are neutral where that is 0."""
    return values / limit if limit > 0 else np.where(np.isnan(values), np.nan, 0.0)
