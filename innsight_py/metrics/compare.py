"""Several explanations of the same data side by side, and which is the most faithful."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from innsight_py._checks import Count, FilePath, Seed, checked, describe, suggestion
from innsight_py.methods.again import reference_of
from innsight_py.methods.base import InterpretingMethod, random_source
from innsight_py.metrics import curves, faithfulness, own, randomization, robustness
from innsight_py.metrics.picture import Picture, side_by_side
from innsight_py.metrics.report import page
from innsight_py.metrics.score import Score
from innsight_py.metrics.subject import Features

#: All metrics by their names.
METRICS: dict[str, Callable[..., Score]] = {
    "completeness": own.completeness,
    "deletion": curves.deletion,
    "faithfulness_correlation": faithfulness.faithfulness_correlation,
    "infidelity": faithfulness.infidelity,
    "insertion": curves.insertion,
    "max_sensitivity": robustness.max_sensitivity,
    "randomization": randomization.randomization,
    "sparseness": own.sparseness,
}
#: What is computed where nothing is said: those that need no more than the model's values.
DEFAULT = ("deletion", "insertion", "faithfulness_correlation", "sparseness")


@dataclass(eq=False, repr=False)
class Comparison:
    """What `compare` returns.

    Attributes
    ----------
    results : dict of InterpretingMethod
        The explanations, by the names that you gave.
    scores : dict of (dict of (Score or None))
        For each metric the score of each explanation; None where a metric cannot judge it, see `notes`.
    notes : dict of str
        Why there is no score, by ``"metric of name"``.
    table : DataFrame
        A row for each explanation: the mean of each metric, and what random explanations have (row ``random``). The
        column names say which values are good.
    correlation : DataFrame
        Mean rank correlation of the attributions of each pair of explanations.
    overlap : DataFrame
        Mean share of the `top` features with the largest magnitudes that each pair has in common.
    top : int
        How many these are.

    Examples
    --------
    >>> from innsight_py import Converter, compare, run_grad, run_lrp
    >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0]]}]}
    >>> converter = Converter(model)
    >>> both = {"LRP": run_lrp(converter, [[1.0, 1.0, 1.0]]), "Gradient": run_grad(converter, [[1.0, 1.0, 1.0]])}
    >>> compare(both, seed=1).correlation
              LRP  Gradient
    LRP       1.0       1.0
    Gradient  1.0       1.0
    """

    results: dict[str, InterpretingMethod]
    scores: dict[str, dict[str, Score | None]]
    notes: dict[str, str]
    table: pd.DataFrame
    correlation: pd.DataFrame
    overlap: pd.DataFrame
    top: int
    arguments: dict[str, Any]

    @checked
    def plot(self, data_idx: Any = 0, *, max_display: Count = 20) -> Picture:
        """Draw an instance by each explanation, side by side.

        Parameters
        ----------
        data_idx : int
            The instance, counted from 0.
        max_display : int
            For tables the largest number of features.

        Returns
        -------
        innsight_py.metrics.picture.Picture
            It has ``figure``, ``axes`` and ``save``; notebooks show it.

        Raises
        ------
        TypeError, ValueError
            If an argument has a wrong type or value.

        Examples
        --------
        >>> from innsight_py import Converter, compare, run_grad, run_lrp
        >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0]]}]}
        >>> converter = Converter(model)
        >>> both = {"LRP": run_lrp(converter, [[1.0, 1.0, 1.0]]), "Gradient": run_grad(converter, [[1.0, 1.0, 1.0]])}
        >>> [ax.get_title() for ax in compare(both, seed=1).plot().axes]
        ['LRP', 'Gradient']
        """
        return side_by_side(self.results, data_idx, max_display)

    @checked
    def save(self, path: FilePath, *, data_idx: Any = (0,)) -> None:
        """Write one page of HTML that needs nothing else: tables, pictures, residuals, and what was run.

        Parameters
        ----------
        path : str or path-like
            The file.
        data_idx : sequence of int
            The instances that are drawn.

        Raises
        ------
        OSError
            If the file cannot be written.
        TypeError, ValueError
            If an argument has a wrong type or value.

        Examples
        --------
        >>> from innsight_py import Converter, compare, run_grad, run_lrp
        >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0]]}]}
        >>> converter = Converter(model)
        >>> both = {"LRP": run_lrp(converter, [[1.0, 1.0, 1.0]]), "Gradient": run_grad(converter, [[1.0, 1.0, 1.0]])}
        >>> compare(both, seed=1).save("report.html")
        """
        rows = [data_idx] if isinstance(data_idx, int) else list(data_idx)
        with open(path, "w", encoding="utf-8") as file:
            file.write(page(self, [self.plot(row) for row in rows]))

    def __repr__(self) -> str:
        return "\n\n".join(
            f"{title}\n{table.to_string(float_format=lambda x: f'{x:.4g}')}" for title, table in self.tables().items()
        )

    def _repr_html_(self) -> str:
        return "".join(
            f"<h4>{title}</h4>{table.to_html(float_format=lambda x: f'{x:.4g}')}"
            for title, table in self.tables().items()
        )

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return all tables by their titles."""
        return {
            "Metrics": self.table,
            "Rank correlation": self.correlation,
            f"Overlap of the {self.top} largest features": self.overlap,
        }


@checked
def compare(
    results: dict[str, InterpretingMethod], *, metrics: Any = DEFAULT, top: Count = 5, seed: Seed = None
) -> Comparison:
    """Compare explanations of the same data: by metrics, and with each other.

    Metrics that need a baseline all get that of the first explanation, so that their numbers can be compared.

    Parameters
    ----------
    results : dict of InterpretingMethod
        The explanations by names of your choice, of the same instances and output nodes.
    metrics : sequence of (str or callable), or dict of dict
        Names of metrics, functions of a result that return a `Score`, or a dict of arguments for each name:
        ``{"deletion": {"steps": 50}}``.
    top : int
        How many of the largest features are looked at for `Comparison.overlap`.
    seed : int or torch.Generator, optional
        Fixes the draws of all metrics.

    Returns
    -------
    Comparison
        It has `table`, `correlation`, `overlap`, `plot` and `save`.

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value, or the explanations are of different data or nodes.

    Examples
    --------
    >>> from innsight_py import Converter, run_grad, run_lrp
    >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0]]}]}
    >>> converter = Converter(model)
    >>> both = {"LRP": run_lrp(converter, [[1.0, 1.0, 1.0]]), "Gradient": run_grad(converter, [[1.0, 1.0, 1.0]])}
    >>> compare(both, metrics=["sparseness"], seed=1).table.loc[["LRP", "Gradient"]]
              sparseness (higher is better)
    LRP                                 0.5
    Gradient                            0.5
    """
    if not results:
        raise ValueError("Argument 'results': expected at least one result, got none.")
    chosen = _read_metrics(metrics)
    features = {name: Features(result) for name, result in results.items()}
    first = next(iter(results))
    for name, own_features in features.items():
        _check_alike(name, own_features, first, features[first])
    number = int(random_source(seed).integers(2**31))
    scores, notes = {}, {}
    for metric, (function, arguments) in chosen.items():
        of: dict[str, Score | None] = {}
        for name, result in results.items():
            try:
                of[name] = function(result, **_complete(function, arguments, results[first], number))
            except (TypeError, ValueError) as error:
                wrong = [key for key in arguments if f"'{key}'" in str(error)]
                if wrong or isinstance(error, TypeError):
                    kind = TypeError if isinstance(error, TypeError) else ValueError
                    raise kind(f"Argument 'metrics', '{metric}': {error}") from error
                of[name], notes[f"{metric} of {name}"] = None, str(error).partition(" See docs/")[0]
        scores[metric] = of
    values = {name: torch.cat([own.attributions(i) for i in own.layers], 2) for name, own in features.items()}
    top = min(top, features[first].count)
    return Comparison(
        dict(results),
        scores,
        notes,
        _table(scores, list(results)),
        _pairs(values, randomization.spearman),
        _pairs(values, lambda x, y: _overlap(x, y, top)),
        top,
        {"metrics": list(chosen), "top": top, "seed": number},
    )


def _check_alike(name: str, features: Features, first: str, others: Features) -> None:
    result, other = features.result, others.result
    if (features.count, result.rows, features.layers) != (others.count, other.rows, others.layers):
        raise ValueError(
            f"Argument 'results': '{name}' is of {result.rows} row(s) and {features.count} feature(s), '{first}' of "
            f"{other.rows} and {others.count}. Explain the same data, at the same place."
        )
    for i in features.layers:
        if result.node_labels(i)[0] != other.node_labels(i)[0]:
            raise ValueError(
                f"Argument 'results': '{name}' explains {result.node_labels(i)[0]}, '{first}' "
                f"{other.node_labels(i)[0]}. Explain the same output nodes."
            )


def _read_metrics(given: Any) -> dict[str, tuple[Callable[..., Score], dict[str, Any]]]:
    chosen: dict[str, tuple[Callable[..., Score], dict[str, Any]]] = {}
    if not isinstance(given, str | list | tuple | Mapping) or not len(given):
        kind = ValueError if isinstance(given, str | list | tuple | Mapping) else TypeError
        raise kind(f"Argument 'metrics': expected names of metrics, functions, or a dict, got {describe(given)}.")
    for one in [given] if isinstance(given, str) else given:
        arguments = given[one] if isinstance(given, Mapping) else {}
        if not isinstance(arguments, Mapping):
            raise TypeError(f"Argument 'metrics', '{one}': expected a dict of arguments, got {describe(arguments)}.")
        if isinstance(one, str) and one in METRICS:
            chosen[one] = METRICS[one], dict(arguments)
            takes = [name for name in inspect.signature(METRICS[one]).parameters if name != "result"]
            for name in arguments:
                if name not in takes:
                    raise TypeError(f"Argument 'metrics': '{one}' has no argument '{name}'{suggestion(name, takes)}")
        elif callable(one) and not isinstance(one, type):
            chosen[getattr(one, "__name__", str(one))] = one, dict(arguments)
        else:
            raise (ValueError if isinstance(one, str) else TypeError)(
                f"Argument 'metrics': expected {', '.join(METRICS)}, or functions, got {describe(one)}."
            )
    return chosen


def _complete(
    function: Callable[..., Score], arguments: dict[str, Any], first: InterpretingMethod, seed: int
) -> dict[str, Any]:
    """Add the baseline of the first explanation and the seed, where a metric of ours takes them."""
    if function not in METRICS.values():
        return arguments
    added: dict[str, Any] = {"seed": seed}
    if function in (curves.deletion, curves.insertion, faithfulness.faithfulness_correlation, faithfulness.infidelity):
        found = reference_of(first)
        added["baseline"] = 0.0 if found is None else found
    return {**added, **arguments}


def _table(scores: Mapping[str, Mapping[str, Score | None]], names: Sequence[str]) -> pd.DataFrame:
    columns = {}
    for metric, of in scores.items():
        there = [score for score in of.values() if score is not None]
        better = f" ({there[0].better} is better)" if there else ""
        random = sum(float(score.frame["random"].mean()) for score in there) / len(there) if there else float("nan")
        means = {name: float("nan") if (score := of[name]) is None else score.mean for name in names}
        columns[f"{metric}{better}"] = {**means, "random": random}
    return pd.DataFrame(columns, index=[*names, "random"])


def _pairs(values: Mapping[str, Tensor], agree: Callable[[Tensor, Tensor], Tensor]) -> pd.DataFrame:
    """Compute how each pair of explanations agrees, the mean over rows and nodes."""
    names = list(values)
    found = pd.DataFrame(1.0, index=names, columns=names)
    for one, other in itertools.combinations(names, 2):
        mean = float(agree(values[one], values[other]).nanmean())
        found.loc[one, other] = found.loc[other, one] = mean
    return found


def _overlap(x: Tensor, y: Tensor, top: int) -> Tensor:
    """Return the share of the largest features that two explanations have in common, ``(B, K)``."""
    chosen = [
        torch.zeros_like(each, dtype=torch.bool).scatter_(1, each.abs().topk(top, dim=1).indices, True)
        for each in (x, y)
    ]
    return (chosen[0] & chosen[1]).sum(1).double() / top
