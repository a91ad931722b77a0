"""Drawing a score with matplotlib. Figures are made directly: pyplot and its state are never touched."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from innsight_py._checks import describe
from innsight_py.plots.build import instance_frame
from innsight_py.plots.panels import Bars, Image
from innsight_py.results.attributions import Attributions

#: The explanation, and random ones.
COLOUR, GREY = "#2166ac", "#999999"
#: More outputs than these have no label of their own.
MANY = 20


class Drawn(Protocol):
    """What is drawn: a score."""

    @property
    def name(self) -> str:
        """The metric."""

    @property
    def of(self) -> str:
        """The method."""

    @property
    def better(self) -> str:
        """Which values are good."""

    @property
    def frame(self) -> pd.DataFrame:
        """The values."""

    @property
    def curve(self) -> pd.DataFrame | None:
        """What they are made of."""

    @property
    def along(self) -> str:
        """The column that says where on the curve."""


class Picture:
    """A picture of a score.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    axes : matplotlib.axes.Axes
        The axes.
    """

    def __init__(self, figure: Any, axes: Any) -> None:
        self.figure, self.axes = figure, axes

    def save(self, path: str | Path, **arguments: Any) -> None:
        """Write the figure to a file; arguments are those of ``Figure.savefig``."""
        self.figure.savefig(path, **arguments)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png")
        return buffer.getvalue()


def draw(score: Drawn, ax: Any = None) -> Picture:
    """Draw a score: its mean curve if it has one, otherwise the values of each output."""
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    if ax is None:
        figure = Figure(figsize=(5, 3.4), layout="constrained")
        ax = figure.add_subplot()
    elif not isinstance(ax, Axes):
        raise TypeError(f"Argument 'ax': expected axes of matplotlib, got {describe(ax)}.")
    if score.curve is not None:
        _curves(score, score.curve, ax)
    else:
        _values(score, ax)
    ax.set_title(f"{score.name} of {score.of} ({score.better} is better)", fontsize="medium")
    ax.spines[["top", "right"]].set_visible(False)
    return Picture(ax.get_figure(), ax)


def _curves(score: Drawn, curve: pd.DataFrame, ax: Any) -> None:
    """Draw the mean over rows and outputs, its quartiles as a band, and random explanations dashed."""
    at = curve[score.along]
    order = list(dict.fromkeys(at))
    grouped = curve.groupby(score.along, sort=False)["value"]
    means, low, high = (
        part.reindex(order) for part in (grouped.mean(), grouped.quantile(0.25), grouped.quantile(0.75))
    )
    texts = any(isinstance(place, str) for place in order)
    places = list(range(len(order))) if texts else order
    ax.fill_between(places, low, high, color=COLOUR, alpha=0.15, linewidth=0)
    ax.plot(places, means, color=COLOUR, label=score.of, marker="o" if texts else None)
    random = curve.groupby(score.along, sort=False)["random"].mean().reindex(order)
    ax.plot(places, random, color=GREY, linestyle="--", label="random")
    if texts:
        ax.set_xticks(places, order, rotation=45, ha="right")
    ax.set_xlabel({"share": "Share of the features", "layer": "Drawn anew down to"}.get(score.along, score.along))
    ax.set_ylabel("Correlation" if score.along == "layer" else "Value of the model")
    ax.legend(frameon=False)


def _values(score: Drawn, ax: Any) -> None:
    """Draw a point for each row, the mean of each output, and random explanations in grey."""
    frame = score.frame
    outputs = list(dict.fromkeys(frame["output"]))[:MANY]
    for place, output in enumerate(outputs):
        rows = frame[frame["output"] == output]
        for shift, column, colour in ((-0.12, "value", COLOUR), (0.12, "random", GREY)):
            spread = place + shift + np.linspace(-0.08, 0.08, len(rows)) if len(rows) > 1 else [place + shift]
            ax.plot(spread, rows[column], ".", color=colour, alpha=0.5)
            label = ("random" if column == "random" else score.of) if place == 0 else None
            ax.plot([place + shift - 0.1, place + shift + 0.1], [rows[column].mean()] * 2, color=colour, label=label)
    ax.set_xticks(range(len(outputs)), outputs, rotation=45 if len(outputs) > 4 else 0)
    ax.set_ylabel(score.name)
    ax.legend(frameon=False)


def side_by_side(results: Mapping[str, Attributions], data_idx: int, max_display: int) -> Picture:
    """Draw an instance by each of several explanations: bars with the same features, images, or signals."""
    from matplotlib.figure import Figure

    frames = {
        name: instance_frame(result, data_idx, None, None, "sum", False, True, None, None, orientation=_upright(result))
        for name, result in results.items()
    }
    panels = {name: frame.panels[0, 0, 0] for name, frame in frames.items()}
    bars = [each.values for each in panels.values() if isinstance(each, Bars)]  # noqa: PD011 (no frame)
    order = _shown(bars, max_display)
    height = 3.2 if order is None else max(2.5, 0.3 * len(order) + 1)
    figure = Figure(figsize=(3.4 * len(panels) + 0.8, height), layout="constrained")
    figure.suptitle(
        f"{next(iter(frames.values())).instances[0]}: {next(iter(frames.values())).nodes[0]}", fontsize="medium"
    )
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for k, (ax, (name, panel)) in enumerate(zip(all_axes, panels.items(), strict=True)):
        ax.set_title(name, fontsize="medium")
        if isinstance(panel, Bars):
            _bars(ax, panel, order, labelled=k == 0)
        elif isinstance(panel, Image):
            limit = panel.limit or 1.0
            ax.imshow(panel.values, cmap="bwr", vmin=-limit, vmax=limit)
            ax.set_axis_off()
        else:
            ax.set_axis_off()
    return Picture(figure, all_axes)


def _upright(result: Attributions) -> str | None:
    """Ask for all features of a table, however many there are."""
    return "vertical" if any(port.kind == "table" for port in result.described.inputs) else None


def _shown(values: Sequence[np.ndarray], most: int) -> np.ndarray | None:
    """Choose the features with the largest mean share of the magnitudes, in their own order; None for images."""
    if not values:
        return None
    shares = [np.abs(x) / (np.abs(x).sum() or 1.0) for x in values]
    return np.sort(np.argsort(-np.mean(shares, 0), kind="stable")[:most])


def _bars(ax: Any, panel: Bars, order: np.ndarray | None, labelled: bool) -> None:
    places = np.arange(len(panel.values)) if order is None else order
    values = panel.values[places]  # noqa: PD011 (no frame)
    ax.barh(range(len(places)), values, color=["#b2182b" if x > 0 else COLOUR for x in values])
    ax.axvline(0, color="#333333", linewidth=0.8)
    ax.set_yticks(range(len(places)), [panel.axis.labels[place] for place in places] if labelled else [])
    ax.invert_yaxis()
    ax.set_xlabel(panel.value_name)
    ax.spines[["top", "right"]].set_visible(False)
