"""Signals and images without their details."""

from __future__ import annotations

import torch
from torch import Tensor

#: Standard deviation of the blur, as a part of the longest axis.
SIGMA = 0.1


def blurred(x: Tensor, channels_first: bool) -> Tensor:
    """Blur signals and images ``(B, *dims)`` with a Gaussian along each axis but that of the channels.

    Its standard deviation is a tenth of the longest axis, its weights sum to 1 at the border, too.

    Examples
    --------
    >>> blurred(torch.tensor([[[0.0, 0.0, 1.0, 0.0, 0.0]]]), True).argmax()
    tensor(2)
    """
    axes = range(2, x.dim()) if channels_first else range(1, x.dim() - 1)
    sigma = SIGMA * max(x.shape[axis] for axis in axes)
    for axis in axes:
        places = torch.arange(x.shape[axis], dtype=x.dtype)
        weights = torch.exp(-((places[:, None] - places) ** 2) / (2 * sigma**2))
        weights = weights / weights.sum(1, keepdim=True)
        x = (x.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return x
