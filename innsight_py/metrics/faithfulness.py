"""Whether attributions foretell what the model does when features change: faithfulness correlation, infidelity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from innsight_py._checks import Count, Flag, NotNegative, Number, Seed, checked
from innsight_py.methods.again import Value
from innsight_py.methods.base import random_source
from innsight_py.methods.documentation import documented
from innsight_py.metrics.documentation import SHARED_ARGUMENTS
from innsight_py.metrics.score import Better, Score, table
from innsight_py.metrics.subject import Result, Subject, nodes_of

#: What attributions ``(B, features, K)`` foretell for each row and change, and what happens: each ``(B, n, K)``.
Foretold = tuple[Tensor, Tensor]


@documented(**SHARED_ARGUMENTS)
@checked
def faithfulness_correlation(
    result: Result,
    *,
    subset: Number = 0.2,
    n: Count = 100,
    baseline: Any = "reference",
    value: Value = "explained",
    per_channel: Flag = False,
    draws: Count = 5,
    seed: Seed = None,
) -> Score:
    r"""Correlation between the attributions of random features and what the model loses without them.

    .. math:: \operatorname{corr}_S \Bigl(\sum_{i \in S} R_i,\; f_k(x) - f_k(x_{\bar S})\Bigr)

    over `n` random sets S of the same size, whose features are replaced by the baseline. Higher is better, 1 is the
    most. Where attributions do not differ there is no correlation, which counts as 0.

    Source: Bhatt et al. (2020), arXiv:2005.00631, definition 3.

    Parameters
    ----------
    %(result)s
    subset : float
        The share of the features that each set has, at least one of them.
    n : int
        Number of sets.
    %(baseline)s
    %(value)s
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
    >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[3.0, 1.0, -2.0]]}]}
    >>> result = run_grad(Converter(model), [[1.0, 1.0, 1.0]], times_input=True)
    >>> round(faithfulness_correlation(result, seed=1).mean, 6)
    1.0
    """
    if not 0 < subset <= 1:
        raise ValueError(f"Argument 'subset': expected a share above 0 and at most 1, got {subset}.")
    subject = Subject(result, value, baseline, per_channel)
    size = max(1, round(subset * subject.count))

    def masks(random: np.random.Generator, count: int) -> Tensor:
        keys = torch.from_numpy(random.random((count, subject.count)))
        return keys.argsort(1).argsort(1) < size

    return _judge(
        "faithfulness_correlation", "higher", subject, n, draws, seed, _Removing(subject, masks), _correlation
    )


@documented(**SHARED_ARGUMENTS)
@checked
def infidelity(
    result: Result,
    *,
    change: Literal["auto", "noise", "remove"] = "auto",
    noise_level: NotNegative = 0.1,
    n: Count = 100,
    baseline: Any = "reference",
    value: Value = "explained",
    normalize: Flag = False,
    draws: Count = 5,
    seed: Seed = None,
) -> Score:
    r"""Mean squared error of what the attributions foretell when the input changes by I. Lower is better.

    .. math:: E_I \bigl[\bigl(I^\top \Phi - (f_k(x) - f_k(x - I))\bigr)^2\bigr]

    with Phi the attributions per unit of their feature: gradients as they are, and of contributions (values that are
    multiplied by ``x - x_ref``) ``R / (x - baseline)``, for which features are replaced by the baseline. Its unit is
    the square of that of the model's value.

    Source: Yeh et al. (2019), arXiv:1901.09392, definition 2.1; for contributions section 2.3 (removal of a subset).

    Parameters
    ----------
    %(result)s
    change : {"auto", "noise", "remove"}
        How the input changes. "noise": normal noise. "remove": each feature is replaced by the baseline with
        probability 1/2. "auto": noise for values per unit (gradients), removal for contributions.
    noise_level : float
        Standard deviation of the noise as a part of the range of the values of an input.
    n : int
        Number of changes of each row.
    %(baseline)s
    %(value)s
    normalize : bool
        Scale the attributions of each row and output as they fit best before (the paper's beta), so that methods whose
        values have different units can be compared.
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
    >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[3.0, 1.0, -2.0]]}]}
    >>> round(infidelity(run_grad(Converter(model), [[1.0, 1.0, 1.0]]), seed=1).mean, 6)
    0.0
    """
    subject = Subject(result, value, baseline, per_channel=True)
    noisy = change == "noise" or (change == "auto" and result.per_unit)
    if noisy and result.groups is not None and not result.per_unit:
        raise ValueError("Argument 'change': columns that are summed cannot be changed a little; take 'remove'.")

    def masks(random: np.random.Generator, count: int) -> Tensor:
        return torch.from_numpy(random.random((count, subject.count)) < 0.5)

    def error(foretold: Tensor, lost: Tensor) -> Tensor:
        if normalize:
            best = (foretold * lost).mean(1, keepdim=True) / foretold.square().mean(1, keepdim=True)
            foretold = foretold * best.nan_to_num(0.0, 0.0, 0.0)
        return (foretold - lost).square().mean(1)

    changing: _Changing = _Shifting(subject, noise_level) if noisy else _Removing(subject, masks)
    return _judge("infidelity", "lower", subject, n, draws, seed, changing, error)


class _Changing:
    """Gives changes ``(n, features)`` in the unit of the attributions, and the values of the model after them."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def __call__(self, i: int, rows: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return changes of some rows ``(n,)``, and the values of all nodes of output layer i, ``(n, nodes)``."""
        raise NotImplementedError


class _Removing(_Changing):
    """Replaces features by the baseline: a removed feature takes its contribution with it."""

    def __init__(self, subject: Subject, masks: Callable[[np.random.Generator, int], Tensor]) -> None:
        super().__init__(subject)
        self.masks = masks

    def __call__(self, i: int, rows: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        masks = self.masks(random, len(rows))
        return masks.double(), self.subject.replaced(i, rows, masks)


class _Shifting(_Changing):
    """Takes normal noise away from each value."""

    def __init__(self, subject: Subject, level: float) -> None:
        super().__init__(subject)
        self.sigmas = [level * (float(x.max() - x.min()) or 1.0) for x in subject.data]

    def __call__(self, i: int, rows: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        changes, inputs = [], []
        for x, ids, sigma in zip(self.subject.data, self.subject.ids, self.sigmas, strict=True):
            own = x[rows]
            if ids is not None:
                noise = torch.from_numpy(random.standard_normal(own.shape)) * sigma
                own = (own.double() - noise).to(own.dtype)
                changes.append(_in_order(x[rows].double() - own.double(), ids))  # what is left after rounding
            inputs.append(own)
        return torch.cat(changes, 1), self.subject.values(i, rows, inputs)


def _in_order(x: Tensor, ids: Tensor) -> Tensor:
    """Lay values ``(n, *dims)`` as features lie, ``(n, features)``, each value being one."""
    return x.flatten(1)[:, ids.flatten().argsort()]


def _judge(
    name: str, better: Better, subject: Subject, n: int, draws: int, seed: Any, changing: _Changing,
    compare: Callable[[Tensor, Tensor], Tensor],
) -> Score:  # fmt: skip
    """Compare what attributions foretell with what happens, of the explanation and of random ones."""
    random = random_source(seed)
    found = {}
    for i in subject.layers:
        nodes, attributions = nodes_of(subject.result, i), subject.attributions(i)
        rows, _, count = attributions.shape
        before = subject.at_data(i).gather(1, nodes)
        size = attributions.square().mean(1, keepdim=True).sqrt()
        guesses = [torch.from_numpy(random.standard_normal(attributions.shape)) * size for _ in range(draws)]
        judged = [attributions, *guesses]
        parts: list[list[Tensor]] = [[] for _ in range(len(judged) + 1)]
        for numbers in _pieces(subject, rows * n, count):
            of = numbers // n
            changes, after = changing(i, of, random)
            parts[-1].append(before[of] - after.gather(1, nodes[of]))
            for part, each in zip(parts, judged, strict=False):
                part.append(torch.einsum("np,npk->nk", changes, each[of]))
        *foretold, lost = (torch.cat(part).reshape(rows, n, count) for part in parts)
        scores = [compare(each, lost) for each in foretold]
        found[i] = {"value": scores[0], "random": torch.stack(scores[1:]).mean(0)}
    return Score(name, better, subject.result.title, table(subject.result, found))


def _pieces(subject: Subject, count: int, nodes: int) -> Iterator[Tensor]:
    for part in subject.parts(count):
        yield from torch.split(part, max(1, len(part) // max(1, nodes)))


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    """Return Pearson's correlation over the second axis, 0 where something does not vary."""
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    sizes = x.square().sum(1).sqrt() * y.square().sum(1).sqrt()
    rounding = 1e-12 * (1 + x.abs().amax(1)) * (1 + y.abs().amax(1))
    return torch.where(sizes > rounding, (x * y).sum(1) / sizes, torch.zeros_like(sizes))
