"""The arithmetic of the LRP and DeepLift rules, as pure functions over tensors.

Sources: LRP: Bach et al. (2015), doi:10.1371/journal.pone.0130140; DeepLift: Shrikumar et al. (2017),
arXiv:1704.02685. The stabilisers, and what happens at exact zeros, are those of R innsight 0.3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from innsight_py._elementwise import is_zero
from innsight_py.activations import Activation

LRPRuleName = Literal["simple", "epsilon", "alpha_beta", "pass"]
DeepLiftRuleName = Literal["rescale", "reveal_cancel"]

#: The parameter of a rule where none is given (epsilon: R computes with 0.001, whatever its manual says).
DEFAULT_PARAM = {"epsilon": 0.001, "alpha_beta": 0.5}

#: Why relevances of LRP do not add up in most models.
BIASES = "biases keep a part of the relevance"


@dataclass(frozen=True)
class LRPRule:
    """A rule of LRP for one layer, with its parameter."""

    name: LRPRuleName = "simple"
    param: float | None = None
    winner_takes_all: bool = True

    @property
    def value(self) -> float:
        """The parameter, or the rule's default."""
        return DEFAULT_PARAM[self.name] if self.param is None else self.param


@dataclass(frozen=True)
class DeepLiftRule:
    """A rule of DeepLift."""

    name: DeepLiftRuleName = "rescale"
    winner_takes_all: bool = True


def stabilizer(dtype: torch.dtype) -> float:
    """Return R's small number: 1e-15 in double precision, 1e-6 below."""
    return 1e-15 if dtype == torch.float64 else 1e-6


def stabilizer_at_zero(dtype: torch.dtype) -> float:
    """Return the stabiliser as R adds it at exact zeros, where it has passed through single precision."""
    return float(torch.tensor(stabilizer(dtype), dtype=torch.float32))


def fill_zeros(z: Tensor, sign: int = 1) -> Tensor:
    """Replace exact zeros by the stabiliser, or by minus the stabiliser."""
    return torch.add(z, is_zero(z), alpha=sign * stabilizer_at_zero(z.dtype))


def away_from_zero(z: Tensor, epsilon: float, sign: int = 1) -> Tensor:
    """Return ``z + epsilon sgn(z)``, and plus or minus the stabiliser where ``z`` is 0."""
    return fill_zeros(torch.add(z, z.sgn(), alpha=epsilon), sign)


def lrp_denominator(z: Tensor, rule: LRPRule) -> Tensor:
    """Return the stabilised preactivation that the rules simple and epsilon divide by."""
    eps = stabilizer(z.dtype)
    return away_from_zero(z, eps if rule.name == "simple" else rule.value)


def alpha_beta_shares(positive: Tensor, negative: Tensor, alpha: float) -> tuple[Tensor, Tensor | None]:
    """Return what a unit of relevance gives for each unit of the positive and of the negative part of a preactivation.

    The two sides have the weights alpha and 1 - alpha; a side without weight is None.
    """
    eps = stabilizer(positive.dtype)
    u = alpha / away_from_zero(positive, eps)
    return u, None if alpha == 1 else (1 - alpha) / away_from_zero(negative, eps, -1)


def slope(dy: Tensor, dx: Tensor) -> Tensor:
    """Return ``dy / dx``, and ``dy / stabilizer`` where dx is 0."""
    return dy / fill_zeros(dx)


def window_slope(dy: Tensor, mean: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return the slope of a maximum against the mean difference in its window, and where that is of no use.

    Where the differences in a window nearly cancel (their mean is tiny beside `size`, the mean of their absolute
    values) the slope explodes, or loses the maximum's difference altogether. It is 0 there, and the second tensor True.
    """
    cancels = mean.abs() <= (1e-5 if mean.dtype == torch.float64 else 1e-2) * size
    return torch.where(cancels, torch.zeros_like(dy), slope(dy, mean)), cancels


def rescale_factor(activation: Activation, z: Tensor, z_ref: Tensor, y: Tensor, y_ref: Tensor) -> Tensor:
    """Return what the rescale rule multiplies with: the slope of the activation between reference and input.

    Where the two are nearer than the stabiliser it is the derivative half-way, which for a softmax is 0 as in R
    (which differentiates along an axis of length 1).
    """
    dz = z - z_ref
    factor = (y - y_ref).div_(dz)  # what is divided by 0 here is near
    apart, limit = dz.abs_(), stabilizer(dz.dtype)
    if bool(apart.amin() > limit):
        return factor
    near = apart <= limit
    if not activation.is_elementwise:
        return factor.masked_fill_(near, 0)
    return torch.where(near, activation.derivative(z.add(z_ref).div_(2)), factor)


def reveal_cancel_factors(
    activation: Activation, z: Tensor, z_ref: Tensor, positive: Tensor, negative: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the slopes of the activation along the positive and the negative part of the difference.

    Shrikumar et al. (2017), section 3.5.3: each part's effect is the mean of its effect before and after the other.
    A part that is exactly 0 has no effect. R computes the effect all the same and divides what rounding leaves of it
    (1e-17) by the stabiliser (1e-15), so that its answer then depends on the machine and on the size of the batch.
    Only a softmax may have an effect where a node's own part is 0; there the quotient is R's.
    """
    at_x, at_ref = activation(z), activation(z_ref)
    with_positive, with_negative = activation(z_ref + positive), activation(z_ref + negative)
    effect_positive = 0.5 * (with_positive - at_ref) + 0.5 * (at_x - with_negative)
    effect_negative = 0.5 * (with_negative - at_ref) + 0.5 * (at_x - with_positive)
    if activation.is_elementwise:
        effect_positive = torch.where(positive == 0, torch.zeros_like(positive), effect_positive)
        effect_negative = torch.where(negative == 0, torch.zeros_like(negative), effect_negative)
    return effect_positive / fill_zeros(positive), effect_negative / fill_zeros(negative, -1)
