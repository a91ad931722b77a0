"""Deletion and insertion: what the model says while features are taken away, or put in, one after the other."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from innsight_py._checks import Count, Flag, Seed, checked
from innsight_py.methods.again import Value
from innsight_py.methods.base import random_source
from innsight_py.methods.documentation import documented
from innsight_py.metrics.documentation import SHARED_ARGUMENTS
from innsight_py.metrics.score import Score, table
from innsight_py.metrics.subject import Result, Subject, chosen, nodes_of

Order = Literal["attribution", "magnitude", "random"]


@documented(**SHARED_ARGUMENTS)
@checked
def deletion(
    result: Result,
    *,
    order: Order = "attribution",
    steps: Count = 20,
    baseline: Any = "reference",
    value: Value = "explained",
    per_channel: Flag = False,
    draws: Count = 5,
    seed: Seed = None,
) -> Score:
    r"""Area under the model's value while the most important features are replaced first. Lower is better.

    .. math:: \int_0^1 f_k(x_{\bar S(t)})\,dt

    with S(t) the share t of the features that comes first in the order, and their values replaced by the baseline. The
    area is that of straight lines between the steps, so it has the unit of the model's value.

    Source: Samek et al. (2017), arXiv:1509.06321; Petsiuk et al. (2018), arXiv:1806.07421.

    Parameters
    ----------
    %(result)s
    order : {"attribution", "magnitude", "random"}
        The largest attributions first, the largest magnitudes first, or no order. Ties are broken at random.
    steps : int
        Shares of the features between none and all: with 20 a twentieth more each time. No more than there are
        features.
    %(baseline)s
    %(value)s
    %(per_channel)s
    %(draws)s
    %(seed)s

    Returns
    -------
    Score
        Its `curve` has a row for each ``share``.

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> from innsight_py import Converter, run_grad
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[3.0, 1.0]]}]}
    >>> result = run_grad(Converter(model), [[1.0, 1.0]], times_input=True)
    >>> score = deletion(result, seed=1)
    >>> score.curve[["share", "value"]]
       share  value
    0    0.0    4.0
    1    0.5    1.0
    2    1.0    0.0
    >>> score.frame["value"][0]
    np.float64(1.5)
    """
    subject = Subject(result, value, baseline, per_channel)
    return _score("deletion", "lower", subject, order, steps, draws, seed)


@documented(**SHARED_ARGUMENTS)
@checked
def insertion(
    result: Result,
    *,
    order: Order = "attribution",
    steps: Count = 20,
    baseline: Any = "reference",
    value: Value = "explained",
    per_channel: Flag = False,
    draws: Count = 5,
    seed: Seed = None,
) -> Score:
    r"""Area under the model's value while the most important features are put into the baseline first.

    Higher is better.

    .. math:: \int_0^1 f_k(x_{S(t)})\,dt

    with S(t) the share t of the features that comes first in the order, all others having the values of the baseline.

    Source: Petsiuk et al. (2018), arXiv:1806.07421.

    Parameters
    ----------
    %(result)s
    order, steps
        As in `deletion`.
    %(baseline)s
    %(value)s
    %(per_channel)s
    %(draws)s
    %(seed)s

    Returns
    -------
    Score
        Its `curve` has a row for each ``share``.

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> from innsight_py import Converter, run_grad
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[3.0, 1.0]]}]}
    >>> result = run_grad(Converter(model), [[1.0, 1.0]], times_input=True)
    >>> insertion(result, seed=1).frame["value"][0]
    np.float64(2.5)
    """
    subject = Subject(result, value, baseline, per_channel)
    return _score("insertion", "higher", subject, order, steps, draws, seed)


def _score(
    name: str, better: Literal["lower", "higher"], subject: Subject, order: Order, steps: int, draws: int, seed: Any
) -> Score:  # fmt: skip
    random = random_source(seed)
    counts = torch.from_numpy(np.unique(np.round(np.linspace(0, subject.count, steps + 1)).astype(np.int64)))
    shares = counts.double() / subject.count
    areas, curves = {}, {}
    for i in subject.layers:
        nodes, attributions = nodes_of(subject.result, i), subject.attributions(i)
        rows, features, count = attributions.shape
        if order == "magnitude":
            attributions = attributions.abs()
        elif order == "random":
            attributions = torch.from_numpy(random.standard_normal(attributions.shape))
        own = [
            _along(subject, i, _ranks(attributions[:, :, k], random), counts, name).gather(
                2, nodes[:, None, k : k + 1].expand(-1, len(counts), 1)
            )
            for k in range(count)
        ]
        values = torch.cat(own, 2)
        mean = torch.zeros_like(values)
        for _ in range(draws):
            ranks = _ranks(torch.from_numpy(random.standard_normal((rows, features))), random)
            mean += chosen(_along(subject, i, ranks, counts, name), nodes) / draws
        curves[i] = {"value": values, "random": mean}
        areas[i] = {column: torch.trapezoid(y, shares, dim=1) for column, y in curves[i].items()}
    parts = [
        table(subject.result, {i: {name: y[:, s] for name, y in columns.items()} for i, columns in curves.items()})
        for s in range(len(counts))
    ]
    curve = pd.concat([part.assign(share=float(shares[s])) for s, part in enumerate(parts)], ignore_index=True)
    return Score(name, better, subject.result.title, table(subject.result, areas), curve, "share")


def _ranks(attributions: Tensor, random: np.random.Generator) -> Tensor:
    """Return the place of each feature ``(B, features)`` in the order, the largest being 0; ties at random."""
    mixed = torch.from_numpy(random.random(attributions.shape)).argsort(dim=1)
    places = torch.argsort(attributions.gather(1, mixed), dim=1, descending=True, stable=True).argsort(dim=1)
    return torch.empty_like(places).scatter_(1, mixed, places)


def _along(subject: Subject, i: int, ranks: Tensor, counts: Tensor, name: str) -> Tensor:
    """Return the values of all nodes along a curve, ``(B, steps, nodes)``."""

    def masks(numbers: Tensor) -> tuple[Tensor, Tensor]:
        rows, steps = numbers // len(counts), numbers % len(counts)
        first = ranks[rows] < counts[steps][:, None]
        return rows, first if name == "deletion" else ~first

    found = subject.many(i, len(ranks) * len(counts), masks)
    return found.reshape(len(ranks), len(counts), -1)
