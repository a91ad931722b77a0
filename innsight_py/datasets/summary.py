"""The summary of a data set of explanations: which features matter most, and pictures of all rows together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from innsight_py._checks import Count, checked
from innsight_py._errors import explained
from innsight_py.datasets.form import Form
from innsight_py.datasets.statistics import Key, Statistics
from innsight_py.explanation import Explanation
from innsight_py.inputs.described import Described
from innsight_py.inputs.ports import Port
from innsight_py.results.tables import feature_column

#: Pictures are drawn from these quantiles, as if they were instances.
LEVELS = np.linspace(0.0, 1.0, 101)


class DatasetSummary:
    """What is known of all rows of a data set together.

    Attributes
    ----------
    rows, errors : int
        How many rows there are, and how many of them went wrong and count for nothing else.
    """

    def __init__(self, statistics: Statistics) -> None:
        self._statistics, self._form = statistics, statistics.form
        self.rows, self.errors = statistics.rows, statistics.errors

    @checked
    def to_frame(self, n: Count | None = None) -> pd.DataFrame:
        """Return a line for each feature of each explained node, the largest first.

        Parameters
        ----------
        n : int, optional
            As many features for each node. Default: all.

        Returns
        -------
        DataFrame
            ``output_node``, ``feature`` (and ``model_output``, ``model_input``, ``feature_2`` where there are several);
            ``mean`` and ``mean_abs`` over the rows, ``share`` of the latter's sum; ``q25``, ``median`` and ``q75``,
            within 1 % of values of that rank (of signals and images quantiles of magnitudes, channels added up; left
            out where there are too many positions); ``rows``; and for methods that decompose something ``residual``,
            the largest magnitude.

        Raises
        ------
        TypeError, ValueError
            If `n` is no positive number.
        """
        form, blocks = self._form, []
        for i, node in self._nodes():
            keys = [(i, node, j) for j, reached in enumerate(form.reach[i]) if reached]
            block = pd.concat([self._features(key) for key in keys], ignore_index=True)
            total = block["mean_abs"].sum()
            block["share"] = block["mean_abs"] / total if total else 0.0
            block.insert(0, "output_node", form.labels[i][node])
            block.insert(0, "model_output", f"Output_{i + 1}")
            block = block.sort_values("mean_abs", ascending=False, kind="stable")
            blocks.append(block if n is None else block.head(n))
        if not blocks:
            return pd.DataFrame(columns=["output_node", "feature", "mean", "mean_abs", "share"])
        frame = pd.concat(blocks, ignore_index=True)
        unneeded = [*([] if sum(map(bool, form.reach)) > 1 else ["model_output"])]
        unneeded += [] if len(form.inputs) > 1 else ["model_input"]
        last = [name for name in ("q25", "median", "q75", "rows", "residual") if name in frame]
        first = [name for name in frame if name not in (*unneeded, *last, "mean", "mean_abs", "share")]
        return frame[[*first, "mean", "mean_abs", "share", *last]]

    def _nodes(self) -> list[tuple[int, int]]:
        """Return the explained nodes that rows had, in their order."""
        return sorted({(i, node) for i, node, _ in self._statistics.counts})

    def _features(self, key: Key) -> pd.DataFrame:
        j = key[2]
        known, port = self._statistics, self._form.inputs[j]
        count, axes = known.counts[key], port.names[port.has_channels :]
        places = np.unravel_index(np.arange(known.places(j)), [len(axis) for axis in axes])
        labels: dict[str, Any] = {"model_input": f"Input_{j + 1}"}
        for a, (axis, place) in enumerate(zip(axes, places, strict=True)):
            labels[feature_column(a)] = [str(axis[p]) for p in place]
        numbers: dict[str, Any] = {"mean": known.sums[key] / count, "mean_abs": known.magnitudes[key] / count}
        if key in known.sketches:
            quantiles = known.sketches[key].quantiles([0.25, 0.5, 0.75])
            numbers |= dict(zip(("q25", "median", "q75"), quantiles, strict=True))
        numbers["rows"] = count
        if key in known.residuals:
            numbers["residual"] = known.residuals[key]
        return pd.DataFrame(labels | numbers)

    @explained
    def plot_global(self, **arguments: Any) -> Any:
        """Draw all rows together, from their quantiles: boxes for tables and signals, medians for images.

        Of signals and images it is magnitudes that are drawn, channels added up; where there are too many positions for
        quantiles it is their mean.

        Parameters
        ----------
        **arguments
            As for `Explanation.plot_global`: ``output_idx``, ``output_label``, ``as_plotly``, ``max_display``, ``ax``,
            ``preprocess_fun``.

        Returns
        -------
        innsight_py.plots.matplotlib.Display or innsight_py.plots.plotly.PlotlyDisplay

        Raises
        ------
        TypeError, ValueError
            If an argument has a wrong type or value, or no row went well.
        """
        if not self._nodes():
            raise ValueError("No row went well: there is nothing to draw.")
        nodes = self._nodes()
        chosen = (
            {} if {"output_idx", "output_label"} & set(arguments) else {"output_idx": _per_layer(self._form, nodes[:1])}
        )
        return Summarized(self._statistics, nodes).plot_global(**(chosen | arguments))

    def __repr__(self) -> str:
        wrong = f", {self.errors} of them with an error" if self.errors else ""
        return f"DatasetSummary({self.rows} rows{wrong})\n{self.to_frame(5).to_string(index=False)}"


def _per_layer(form: Form, nodes: list[tuple[int, int]]) -> Any:
    """Sort nodes by their output layers, as methods take them."""
    found = [[_node(form, i, node) for k, node in nodes if k == i] or None for i in range(len(form.outputs))]
    return found if len(found) > 1 else found[0]


def _node(form: Form, i: int, node: int) -> Any:
    """Return the number of an explained node among those of its output layer."""
    return node if form.nodes[i] is None else form.nodes[i][node]


class Summarized(Explanation):
    """Quantiles of many rows, as if they were instances: what global pictures are drawn from."""

    def __init__(self, statistics: Statistics, nodes: list[tuple[int, int]]) -> None:
        form = statistics.form
        for name, value in form.facts.items():
            setattr(self, name, value)
        self.decomposes, self.data, self.preds, self.decomp_goal = False, [], None, None
        self.described, self.channels_first, self.dtype = _Described(form), True, "double"
        outputs = range(len(form.outputs))
        self.output_idx = [[_node(form, i, n) for k, n in nodes if k == i] or None for i in outputs]
        self.output_label = [[form.labels[i][n] for k, n in nodes if k == i] or None for i in outputs]
        self.targets = [None] * len(form.outputs)
        rows = len(LEVELS) if statistics.sketches else 1
        self.data_names = [f"quantile {level:.2f}" for level in LEVELS[:rows]]

        def values(i: int, j: int) -> Tensor | None:
            if not form.reach[i][j]:
                return None
            port = self.described.inputs[j]
            columns = [_quantiles(statistics, (i, node, j)).reshape(-1, *port.dim) for k, node in nodes if k == i]
            return torch.from_numpy(np.stack(columns, -1))

        self.result = [
            None if not any(k == i for k, _ in nodes) else [values(i, j) for j in range(len(form.inputs))]
            for i in outputs
        ]


def _quantiles(statistics: Statistics, key: Key) -> np.ndarray:
    """Return quantiles ``(levels, places)``, or where there are none mean magnitudes, ``(1, places)``."""
    sketch = statistics.sketches.get(key)
    if sketch is None:
        return (statistics.magnitudes[key] / statistics.counts[key])[None]
    return sketch.quantiles(LEVELS)


class _Described(Described):
    """The inputs with their channels added up."""

    def __init__(self, form: Form) -> None:
        self.inputs: tuple[Port, ...] = tuple(
            replace(port, dim=(1, *port.dim[1:]), names=[["sum"], *port.names[1:]]) if port.has_channels else port
            for port in form.inputs
        )
        self.outputs: tuple[Port, ...] = form.outputs
        self.channels_first = True
