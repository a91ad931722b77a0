"""What a metric hands back: a number for each row and output, beside that of a random explanation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from torch import Tensor

from innsight_py._errors import explained
from innsight_py.metrics.picture import Picture, draw
from innsight_py.results.attributions import Attributions

Better = Literal["lower", "higher"]


@dataclass(frozen=True, eq=False, repr=False)
class Score:
    """How good an explanation is, by one metric.

    Attributes
    ----------
    name : str
        The metric.
    better : {"lower", "higher"}
        Which values are good.
    of : str
        The method that is judged.
    frame : DataFrame
        A row for each instance and explained output node: ``row``, ``output``, ``value``, and ``random``, the mean of
        random explanations of the same size. ``model_output`` says which output layer where there are several.
    curve : DataFrame or None
        What `value` is made of, where it is more than one number: the same columns, and where on the curve.
    along : str
        The column of `curve` that says where.

    Examples
    --------
    >>> from innsight_py import Converter, metrics, run_grad
    >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0]]}]}
    >>> score = metrics.sparseness(run_grad(Converter(model), [[1.0, 1.0, 1.0]], times_input=True), seed=1)
    >>> score.better, round(score.mean, 3)
    ('higher', 0.5)
    """

    name: str
    better: Better
    of: str
    frame: pd.DataFrame
    curve: pd.DataFrame | None = None
    along: str = ""

    @explained
    def summary(self) -> pd.DataFrame:
        """Return the mean over the rows for each output, and how many rows are better than a random explanation.

        Returns
        -------
        DataFrame
            ``output``, ``value``, ``random``, and ``better_than_random``, a share of the rows.

        Examples
        --------
        >>> from innsight_py import Converter, metrics, run_grad
        >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0]]}]}
        >>> result = run_grad(Converter(model), [[1.0, 1.0, 1.0]], times_input=True)
        >>> list(metrics.completeness(result, seed=1).summary().columns)
        ['output', 'value', 'random', 'better_than_random']
        """
        sign = 1 if self.better == "higher" else -1
        outputs = [name for name in ("model_output", "output") if name in self.frame]
        won = (sign * (self.frame["value"] - self.frame["random"]) > 0).astype(float)
        frame = self.frame.assign(better_than_random=won.where(self.frame["value"].notna()))
        columns = ["value", "random", "better_than_random"]
        return frame.groupby(outputs, sort=False, observed=True)[columns].mean().reset_index()

    @property
    def mean(self) -> float:
        """Mean over all rows and outputs."""
        return float(self.frame["value"].mean())

    @explained
    def plot(self, ax: Any = None) -> Picture:
        """Draw the values beside those of random explanations, for each output.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw. Default: on a new figure.

        Returns
        -------
        innsight_py.metrics.picture.Picture
            It has ``figure``, ``axes`` and ``save``; notebooks show it.

        Raises
        ------
        TypeError
            If `ax` are no axes of matplotlib.

        Examples
        --------
        >>> from innsight_py import Converter, metrics, run_grad
        >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0]]}]}
        >>> score = metrics.deletion(run_grad(Converter(model), [[1.0, 1.0, 1.0]], times_input=True), seed=1)
        >>> score.plot().axes.get_xlabel()
        'Share of the features'
        """
        return draw(self, ax)

    def __repr__(self) -> str:
        table = self.summary().to_string(index=False, float_format=lambda x: f"{x:.4g}")
        return f"{self.name} of {self.of} ({self.better} is better; means over {self.rows} row(s))\n{table}"

    def _repr_html_(self) -> str:
        said = f"{self.name} of {self.of} ({self.better} is better; means over {self.rows} row(s))"
        return f"<p>{said}</p>{self.summary().to_html(index=False, float_format=lambda x: f'{x:.4g}')}"

    @property
    def rows(self) -> int:
        """Number of instances."""
        return int(self.frame["row"].nunique())


def table(result: Attributions, values: dict[int, dict[str, Tensor]]) -> pd.DataFrame:
    """Lay values ``(B, K)`` of each output layer below each other, rows running slowest within a layer.

    Parameters
    ----------
    result : Attributions
        What is judged; it has the names.
    values : dict
        For each output layer the columns.
    """
    blocks = []
    for i, columns in values.items():
        labels = result.node_labels(i)
        rows, nodes = next(iter(columns.values())).shape
        own = [labels[row if len(labels) > 1 else 0] for row in range(rows)]
        block: dict[str, Any] = {
            "row": np.repeat([result.data_name(row) for row in range(rows)], nodes),
            "output": [label for row in own for label in row],
        }
        if len(values) > 1:
            block["model_output"] = f"Output_{i + 1}"
        blocks.append(pd.DataFrame(block | {name: x.flatten().numpy() for name, x in columns.items()}))
    return pd.concat(blocks, ignore_index=True)
