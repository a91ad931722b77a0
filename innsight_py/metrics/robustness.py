"""How far an explanation moves when its input hardly does: max-sensitivity."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from innsight_py._checks import Count, NotNegative, Seed, checked
from innsight_py.methods.again import repeat
from innsight_py.methods.agnostic.base import AgnosticWrapper
from innsight_py.methods.base import InterpretingMethod, random_source
from innsight_py.methods.documentation import documented
from innsight_py.metrics.documentation import SHARED_ARGUMENTS
from innsight_py.metrics.score import Score, table
from innsight_py.metrics.subject import Features, Result


@documented(**SHARED_ARGUMENTS)
@checked
def max_sensitivity(
    result: Result,
    *,
    radius: NotNegative = 0.02,
    unit: Literal["sd", "one"] = "sd",
    n: Count = 10,
    draws: Count = 5,
    seed: Seed = None,
) -> Score:
    r"""Largest relative change of the explanation within a small box around the input. Lower is better.

    .. math:: \max_{\|\delta\|_\infty \le r} \|\Phi(x + \delta) - \Phi(x)\|_2 / \|\Phi(x)\|_2

    The method is called again for `n` inputs drawn evenly from the box, with its arguments, its references and, for a
    target "predicted", the nodes of the result. Values that are not the method's own are found out, too: they are far
    from what it says next to the input, as random explanations of this size
    are. An explanation that ignores its input is not.

    Source: Yeh et al. (2019), arXiv:1901.09392, definition 3.1; relative to the size of the explanation as captum has
    it by default.

    Parameters
    ----------
    %(result)s
    radius : float
        Half the side of the box, r.
    unit : {"sd", "one"}
        What `radius` is a multiple of. "sd": the standard deviation of each feature of a table in the data, of all
        values of a signal or image (1 where there is only one row of a table). "one": the unit of the data.
    n : int
        Number of inputs.
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
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[3.0, 1.0]]}]}
    >>> max_sensitivity(run_grad(Converter(model), [[1.0, 1.0]]), seed=1).mean
    0.0
    """
    random = random_source(seed)
    features = Features(result, per_channel=True)
    refuse_foreign(result, "max_sensitivity")
    data = [x.cpu() for x in result._given_data or result.data]
    if any(port.kind == "tokens" for port in result.converter.inputs):
        raise ValueError(
            "Argument 'result': tokens cannot be changed a little. Explain the embeddings: give 'inputs_embeds'."
        )
    fixed = [port.kind == "fixed" for port in result.converter.inputs]
    scales = [torch.zeros(()) if own else _scale(x, unit) for x, own in zip(data, fixed, strict=True)]
    codes = result.predictor.codes if isinstance(result, AgnosticWrapper) else None
    if codes is not None:  # a category is not changed a little
        numbers = torch.tensor([float(k not in codes.values) for k in range(data[0].shape[1])])
        scales[0] = scales[0].nan_to_num(0.0) * numbers
    own_seed = int(random.integers(2**31))
    before = {i: features.attributions(i) for i in features.layers}
    guesses = {i: [_random_like(x, random) for _ in range(draws)] for i, x in before.items()}
    found = {i: {"value": torch.zeros(len(x), x.shape[2]).double()} for i, x in before.items()}
    moved = {i: torch.zeros(draws, len(x), x.shape[2]).double() for i, x in before.items()}
    for _ in range(n):
        near = [x + _box(x, radius * scale, random) for x, scale in zip(data, scales, strict=True)]
        again = Features(repeat(result, near, seed=own_seed), per_channel=True)
        for i, x in before.items():
            after = again.attributions(i)
            found[i]["value"] = torch.maximum(found[i]["value"], _change(after, x))
            moved[i] = torch.maximum(moved[i], torch.stack([_change(after, guess) for guess in guesses[i]]))
    for i, far in moved.items():
        found[i]["random"] = far.mean(0)
    return Score("max_sensitivity", "lower", result.title, table(result, found))


def refuse_foreign(result: InterpretingMethod, name: str) -> None:
    """Refuse what did not come out of a method that can be called again."""
    if not result.can_be_repeated:
        raise ValueError(
            f"Argument 'result': '{name}' calls the method again, and values that were handed in have none. Give the "
            "result of 'run_*'."
        )


def _scale(x: Tensor, unit: str) -> Tensor:
    if unit == "one" or (x.dim() == 2 and len(x) == 1):
        return torch.ones(())
    return x.std(0, keepdim=True) if x.dim() == 2 else x.std()


def _box(x: Tensor, side: Tensor, random: np.random.Generator) -> Tensor:
    return (torch.from_numpy(random.uniform(-1, 1, x.shape)) * side).to(x.dtype)


def _random_like(x: Tensor, random: np.random.Generator) -> Tensor:
    """Return a random explanation of the size of one ``(B, features, K)``."""
    guess = torch.from_numpy(random.standard_normal(x.shape))
    return guess * (x.square().sum(1, keepdim=True) / guess.square().sum(1, keepdim=True)).sqrt()


def _change(after: Tensor, before: Tensor) -> Tensor:
    """Return the size of a change as a part of the size before, ``(B, K)``."""
    size = before.square().sum(1).sqrt()
    change = (after - before).square().sum(1).sqrt()
    return change / torch.where(size > 0, size, torch.ones_like(size))
