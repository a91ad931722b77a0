"""Metrics that need nothing but the attributions: sparseness and completeness."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from innsight_py._checks import Count, Flag, Seed, checked
from innsight_py.methods.base import random_source
from innsight_py.methods.documentation import documented
from innsight_py.metrics.documentation import SHARED_ARGUMENTS
from innsight_py.metrics.score import Score, table
from innsight_py.metrics.subject import Features, Result
from innsight_py.results.completeness import absolute_residual


@documented(**SHARED_ARGUMENTS)
@checked
def sparseness(result: Result, *, per_channel: Flag = False, draws: Count = 5, seed: Seed = None) -> Score:
    r"""Gini index of the magnitudes: 0 if all features are alike, nearly 1 if a single one has all. Higher is better.

    .. math:: \frac{\sum_{i=1}^p (2 i - p - 1)\,|R|_{(i)}}{p \sum_{i=1}^p |R|_{(i)}}

    with the magnitudes in ascending order. It says whether an explanation is short, not whether it is right.

    Source: Chalasani et al. (2020), arXiv:1810.06583, section 5.

    Parameters
    ----------
    %(result)s
    %(per_channel)s
    %(draws)s
    %(seed)s

    Returns
    -------
    Score

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> from innsight_py import Converter, run_grad
    >>> model = {"input_dim": [4], "layers": [{"type": "Dense", "weight": [[0.0, 0.0, -2.0, 0.0]]}]}
    >>> sparseness(run_grad(Converter(model), [[1.0, 1.0, 1.0, 1.0]]), seed=1).mean
    0.75
    """
    random, features = random_source(seed), Features(result, per_channel)
    found = {}
    for i in features.layers:
        x = features.attributions(i)
        guesses = [_gini(torch.from_numpy(random.standard_normal(x.shape))) for _ in range(draws)]
        found[i] = {"value": _gini(x), "random": torch.stack(guesses).mean(0)}
    return Score("sparseness", "higher", result.title, table(result, found))


def _gini(x: Tensor) -> Tensor:
    """Return the Gini index of the magnitudes ``(B, features, K)``, ``(B, K)``; 0 where all are 0."""
    ascending, count = x.abs().sort(1).values, x.shape[1]
    weights = torch.arange(1 - count, count, 2, dtype=torch.float64)[:, None]
    total = ascending.sum(1)
    return (weights * ascending).sum(1) / (count * torch.where(total > 0, total, torch.ones_like(total)))


@documented(**SHARED_ARGUMENTS)
@checked
def completeness(result: Result, *, draws: Count = 5, seed: Seed = None) -> Score:
    r"""Part of the goal that the sum of the attributions misses, `Explanation.residual`. Lower is better, 0 is exact.

    .. math:: \frac{|g - \sum_i R_i|}{\max(|g|, \sum_i |R_i|)}

    with g what the sum is to be compared with (`decomp_goal`), for DeepLift ``f_k(x) - f_k(x_ref)``. Random
    explanations have the sum of magnitudes of this one.

    Source: Sundararajan et al. (2017), arXiv:1703.01365 (completeness); Bach et al. (2015),
    doi:10.1371/journal.pone.0130140 (conservation).

    Parameters
    ----------
    %(result)s
    %(draws)s
    %(seed)s

    Returns
    -------
    Score

    Raises
    ------
    TypeError
        If an argument has a wrong type or value. The message names it.
    ValueError
        If the method decomposes nothing, so that its sum means nothing (gradients, SmoothGrad, LIME).

    Examples
    --------
    >>> from innsight_py import Converter, run_grad
    >>> model = {"input_dim": [1], "layers": [{"type": "Dense", "weight": [[2.0]], "bias": [3.0]}]}
    >>> completeness(run_grad(Converter(model), [[1.0]], times_input=True), seed=1).mean
    0.6
    """
    random, features = random_source(seed), Features(result)
    found: dict[int, dict[str, Any]] = {}
    for i in features.layers:
        missing = absolute_residual(result, i)
        goals = None if result.decomp_goal is None else result.decomp_goal[i]
        if missing is None or goals is None:
            raise ValueError(
                f"Argument 'result': the attributions of {result.title} are not meant to sum to anything. Take "
                "'faithfulness_correlation' or 'deletion'."
            )
        goal, magnitudes = goals.double().cpu(), _magnitudes(result.result[i] or ())
        scale = torch.maximum(goal.abs(), magnitudes).clamp(min=torch.finfo(torch.float64).tiny)
        guesses = []
        for _ in range(draws):
            guess = torch.from_numpy(random.standard_normal((len(goal), features.count, goal.shape[1])))
            total = guess.sum(1) / guess.abs().sum(1) * magnitudes
            guesses.append((goal - total).abs() / scale)
        found[i] = {"value": missing.cpu().abs() / scale, "random": torch.stack(guesses).mean(0)}
    return Score("completeness", "lower", result.title, table(result, found))


def _magnitudes(row: Any) -> Tensor:
    """Return the sum of the magnitudes over all values of all inputs, ``(B, K)``."""
    parts = [x.detach().double().cpu().abs().flatten(1, -2).sum(1) for x in row if x is not None]
    return torch.stack(parts).sum(0)
