"""Small numbers that keep quotients finite: those of R innsight 0.3.2, and what it does at exact zeros."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from innsight_py.functions.elementwise import is_dense, is_zero, parts

#: From how many numbers on it is worth while to ask first whether there are zeros.
MANY = 2**15


def stabilizer(dtype: torch.dtype) -> float:
    """Return R's small number: 1e-15 in double precision, 1e-6 below."""
    return 1e-15 if dtype == torch.float64 else 1e-6


@lru_cache(maxsize=2**7)
def number(value: float, dtype: torch.dtype) -> Tensor:
    """Return a number as a tensor, which nobody writes to: torch takes a third of the time that one of Python takes.

    Examples
    --------
    >>> torch.ones(2) + number(0.5, torch.float32)
    tensor([1.5000, 1.5000])
    """
    return torch.tensor(value, dtype=dtype)


#: The stabilisers, in double precision and below, after they have passed through single precision.
_ROUNDED = tuple(float(np.float32(stabilizer(dtype))) for dtype in (torch.float64, torch.float32))


def stabilizer_at_zero(dtype: torch.dtype) -> float:
    """Return the stabiliser as R adds it at exact zeros, where it has passed through single precision."""
    return _ROUNDED[dtype != torch.float64]


def _no_zeros(z: Tensor) -> bool:
    """Tell whether a dense tensor has neither zeros nor NaNs."""
    signs = torch.empty_like(next(parts(z)))
    return all(torch.dot(y, y).item() == len(y) for y in (torch.sgn(x, out=signs[: len(x)]) for x in parts(z)))


def fill_zeros(z: Tensor, sign: int = 1) -> Tensor:
    """Replace exact zeros by the stabiliser, or by minus the stabiliser."""
    return torch.add(z, is_zero(z), alpha=sign * stabilizer_at_zero(z.dtype))


def away_from_zero(z: Tensor, epsilon: float, sign: int = 1) -> Tensor:
    """Return ``z + epsilon sgn(z)``, and plus or minus the stabiliser where that is 0.

    That is z itself, not a copy, where epsilon is 0 and many numbers have no zero among them.
    """
    if not epsilon and z.numel() >= MANY and is_dense(z) and _no_zeros(z):
        return z
    if epsilon > 0 and z.numel() >= MANY and is_dense(z):
        moved = torch.empty_like(z)
        if moved.stride() == z.stride():
            return _moved_in_parts(z, moved, epsilon, sign)
    signs = z.sgn()
    moved = torch.add(z, signs, alpha=epsilon)
    # Signs without a zero and without a NaN multiply to 1 or -1, which takes half the time of looking for zeros.
    if epsilon > 0 and z.is_cpu and abs(signs.prod().item()) == 1:
        return moved
    return moved.add_(is_zero(moved), alpha=sign * stabilizer_at_zero(z.dtype))


def _moved_in_parts(z: Tensor, moved: Tensor, epsilon: float, sign: int) -> Tensor:
    zeros = False
    for x, y in zip(parts(z), parts(moved), strict=True):
        torch.sgn(x, out=y)
        zeros = zeros or torch.dot(y, y).item() != len(y)  # NaNs, too
        torch.add(x, y, alpha=epsilon, out=y)
    return moved.add_(is_zero(moved), alpha=sign * stabilizer_at_zero(z.dtype)) if zeros else moved
