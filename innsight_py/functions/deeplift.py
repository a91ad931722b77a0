"""The arithmetic of the DeepLift rules, as pure functions over tensors.

Source: Shrikumar et al. (2017), arXiv:1704.02685. What happens at exact zeros is as in R innsight 0.3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from innsight_py.functions.activations import Activation
from innsight_py.functions.elementwise import as_rows, few_at_most, parts_of_rows
from innsight_py.functions.stabilizers import fill_zeros, stabilizer

#: From how many positions on slopes are computed in parts that stay in the cache.
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
    # Parameters that are tensors or tuples have places of their own.
    alike = activation.is_elementwise and all(
        isinstance(value, float | int | str) for value in activation.params.values()
    )
    longest = max(z, z_ref, key=len)
    if alike and longest.numel() >= MANY:
        slopes = torch.empty_like(longest)
        rows = as_rows(slopes, z, z_ref, y, y_ref)
        if rows is not None:
            _fill_in_parts(activation, rows, none_at_equal)
            return slopes
    apart = z - z_ref
    factor = (y - y_ref).div_(apart)  # what is divided by 0 here is near
    return _fill_near(activation, z, z_ref, factor, apart.abs_(), none_at_equal)


def _fill_in_parts(activation: Activation, rows: Sequence[Tensor], none_at_equal: bool) -> None:
    """Write slopes, the first of some tensors, while what they are made of stays in the cache."""
    room: Tensor | None = None
    for slopes, z, z_ref, y, y_ref in parts_of_rows(rows):
        if room is None:
            room = slopes.new_empty(slopes.numel())
        apart = torch.sub(z, z_ref, out=room[: slopes.numel()].view(slopes.shape))
        torch.sub(y, y_ref, out=slopes).div_(apart)
        _fill_near(activation, z, z_ref, slopes, apart.abs_(), none_at_equal, few=True)


def _fill_near(
    activation: Activation, z: Tensor, z_ref: Tensor, factor: Tensor, apart: Tensor, none_at_equal: bool,
    few: bool = False,
) -> Tensor:  # fmt: skip
    """Fill in slopes where differences, `apart`, are near 0: one by one if they are `few`, and all at once if not.

    What torch computes of many entries at a time need not be to the last bit what it computes of one.
    """
    limit = stabilizer(apart.dtype)
    if apart.amin().item() > limit:
        return factor
    at = few_at_most(apart, limit) if few else None
    if at is not None:
        here, there = z.expand_as(apart)[at], z_ref.expand_as(apart)[at]
        slopes = torch.where(apart[at] <= limit, activation.derivative(here.add(there).div_(2)), factor[at])
        factor[at] = slopes.masked_fill_(here == there, 0) if none_at_equal else slopes
        return factor
    near = apart <= limit
    if activation.is_elementwise:
        torch.where(near, activation.derivative(z.add(z_ref).div_(2)), factor, out=factor)
    else:
        factor.masked_fill_(near, 0)
    return factor.masked_fill_(z == z_ref, 0) if none_at_equal else factor


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
