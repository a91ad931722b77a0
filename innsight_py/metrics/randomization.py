"""Whether an explanation depends on what the model has learned: randomization of its parameters."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from innsight_py._checks import Count, Flag, Seed, checked
from innsight_py.methods.again import repeat
from innsight_py.methods.agnostic.base import AgnosticWrapper
from innsight_py.methods.base import random_source
from innsight_py.methods.documentation import documented
from innsight_py.metrics.documentation import SHARED_ARGUMENTS
from innsight_py.metrics.robustness import refuse_foreign
from innsight_py.metrics.score import Score, table
from innsight_py.metrics.subject import Features, Result
from innsight_py.model.converter import Converter
from innsight_py.model.redrawn import layers_with_weights, redrawn


@documented(**SHARED_ARGUMENTS)
@checked
def randomization(
    result: Result, *, stages: Count = 10, magnitude: Flag = False, draws: Count = 5, seed: Seed = None
) -> Score:
    r"""Rank correlation with the explanation of a model whose parameters are random. Lower is better.

    The weights of the layers are drawn anew from the top, one layer after the other, until none is left that has
    learned anything, and the method is called again each time. An explanation that stays as it is says nothing of what
    the model has learned. The value is Spearman's correlation when all layers are random; ``unchanged`` is that with
    the same method on the model as it is, which is 1 for values that are the method's own. Weights come from a normal
    distribution with the standard deviation of the layer's own, of mean 0; preparations and normalisations stay.

    Source: Adebayo et al. (2018), arXiv:1810.03292, section 3.1 (cascading randomization).

    Parameters
    ----------
    %(result)s
    stages : int
        The largest number of stages; deeper models have several layers drawn anew in each.
    magnitude : bool
        Compare the magnitudes, as for pictures without signs.
    %(draws)s
    %(seed)s

    Returns
    -------
    Score
        Its `curve` has a row for each stage: ``layer``, the last that was drawn anew, "none" at first.

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value, or the model is not a converted one; the message names it.

    Examples
    --------
    >>> from innsight_py import Converter, run_grad
    >>> model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    >>> score = randomization(run_grad(Converter(model, input_dim=(5,)), torch.ones(2, 5)), seed=1)
    >>> list(dict.fromkeys(score.curve["layer"])), score.frame["unchanged"].tolist()
    (['none', '2', '0'], [1.0, 1.0])
    """
    refuse_foreign(result, "randomization")
    converter = result.predictor.model if isinstance(result, AgnosticWrapper) else result.converter
    if not isinstance(converter, Converter):
        raise ValueError(  # noqa: TRY004 (it is a result)
            "Argument 'result': parameters can be drawn anew of a converted model only. Give the method a Converter: "
            "Converter(model, input_dim=...)."
        )
    random, features = random_source(seed), Features(result)
    own_seed, weights_seed = (int(number) for number in random.integers(2**31, size=2))
    before = {i: _read(features, i, magnitude) for i in features.layers}
    names = layers_with_weights(converter)[::-1]
    if not names:
        raise ValueError("Argument 'result': the model has no weights that could be drawn anew. Take another metric.")
    size = -(-len(names) // stages)
    ends = [0, *range(size, len(names), size), len(names)]
    guesses = {
        i: torch.stack([spearman(x, torch.from_numpy(random.standard_normal(x.shape))) for _ in range(draws)]).mean(0)
        for i, x in before.items()
    }
    parts, found = [], []
    for end in ends:
        model = redrawn(converter, names[:end], weights_seed, result.dtype)
        again = Features(repeat(result, result._given_data or result.data, model, own_seed))
        similar = {i: spearman(x, _read(again, i, magnitude)) for i, x in before.items()}
        found.append(similar)
        stage = table(result, {i: {"value": x, "random": guesses[i]} for i, x in similar.items()})
        parts.append(stage.assign(layer=converter_name(converter, names[end - 1]) if end else "none"))
    first, last = found[0], found[-1]
    columns = {i: {"value": last[i], "random": guesses[i], "unchanged": first[i]} for i in before}
    curve = pd.concat(parts, ignore_index=True)
    return Score("randomization", "lower", result.title, table(result, columns), curve, "layer")


def converter_name(converter: Converter, layer: str) -> str:
    """Return what the user's model calls the value of a layer; the name in the graph where it has none."""
    names = [name for name, place in converter.model.places.items() if place.layer == layer]
    return names[0] if names else layer


def _read(features: Features, i: int, magnitude: bool) -> Tensor:
    x = features.attributions(i)
    return x.abs() if magnitude else x


def spearman(x: Tensor, y: Tensor) -> Tensor:
    """Return the rank correlation over the features of ``(B, features, K)``; NaN where something does not vary.

    Examples
    --------
    >>> x = torch.tensor([[[1.0], [2.0], [9.0]]])
    >>> spearman(x, -x)
    tensor([[-1.]], dtype=torch.float64)
    """
    x, y = (_ranked(each) for each in (x, y))
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    return (x * y).sum(1) / (x.square().sum(1) * y.square().sum(1)).sqrt()


def _ranked(x: Tensor) -> Tensor:
    """Return ranks along the features, the mean of those that are alike."""
    flat = x.movedim(1, 0).reshape(x.shape[1], -1)
    ranks = torch.from_numpy(pd.DataFrame(flat.numpy()).rank(axis=0).to_numpy(copy=True))
    return ranks.reshape(x.shape[1], x.shape[0], x.shape[2]).movedim(0, 1)
