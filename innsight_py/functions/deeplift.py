"""The arithmetic of the DeepLift rules, as pure functions over tensors.

Source: Shrikumar et al. (2017), arXiv:1704.02685. What happens at exact zeros is as in R innsight 0.3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from innsight_py.functions.activations import Activation
from innsight_py.functions.elementwise import few_at_most, is_dense
from innsight_py.functions.stabilizers import fill_zeros, stabilizer

#: From how many positions on those where a slope is no quotient are looked for.
MANY = 2**15
DeepLiftRuleName = Literal["rescale", "reveal_cancel"]


@dataclass(frozen=True)
class DeepLiftRule:
    """A rule of DeepLift."""

    name: DeepLiftRuleName = "rescale"
    winner_takes_all: bool = True


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


def rescale_factor(
    activation: Activation, z: Tensor, z_ref: Tensor, y: Tensor, y_ref: Tensor, none_at_equal: bool = False
) -> Tensor:
    """Return what the rescale rule multiplies with: the slope of the activation between reference and input.

    Where the two are nearer than the stabiliser it is the derivative half-way, which for a softmax is 0 as in R
    (which differentiates along an axis of length 1). With `none_at_equal` it is 0 where the two are equal.
    """
    dz = z - z_ref
    factor = (y - y_ref).div_(dz)  # what is divided by 0 here is near
    apart, limit = dz.abs_(), stabilizer(dz.dtype)
    # Parameters that are tensors or tuples have places of their own.
    alike = activation.is_elementwise and all(
        isinstance(value, float | int | str) for value in activation.params.values()
    )
    if alike and apart.numel() >= MANY and is_dense(apart):
        at = few_at_most(apart, limit)  # one by one: what is vectorised need not be what is not, but for 0 and 1
        if at is not None and not len(at[0]):
            return factor
        if at is not None:
            here, there = z.expand_as(apart)[at], z_ref.expand_as(apart)[at]
            slopes = torch.where(apart[at] <= limit, activation.derivative(here.add(there).div_(2)), factor[at])
            factor[at] = slopes.masked_fill_(here == there, 0) if none_at_equal else slopes
            return factor
    elif bool(apart.amin() > limit):
        return factor
    near = apart <= limit
    if activation.is_elementwise:
        factor = torch.where(near, activation.derivative(z.add(z_ref).div_(2)), factor)
    else:
        factor.masked_fill_(near, 0)
    return torch.where(z == z_ref, torch.zeros_like(factor), factor) if none_at_equal else factor


def reveal_cancel_factors(
    activation: Activation, z: Tensor, z_ref: Tensor, positive: Tensor, negative: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the slopes of the activation along the positive and the negative part of the difference.

    Shrikumar et al. (2017), section 3.5.3: each part's effect is the mean of its effect before and after the other.
    A part that is exactly 0 has no effect. R computes the effect nevertheless, and divides its rounding error (1e-17)
    by the stabiliser (1e-15). R's answer then depends on the machine and on the size of the batch.
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
