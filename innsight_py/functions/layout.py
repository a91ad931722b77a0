"""How tensors lie: in memory, where images are worked on quickest, and along their axes.

Tensors of a backward walk are ``(K, B, *dims)``: the explained outputs, the rows, and what a layer takes or gives.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Images of fewer positions are worked on quicker channels first (found by timing).
_SMALL = 64
_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def has_onednn(x: Tensor) -> bool:
    """Whether kernels of oneDNN work on a tensor: single precision, on a CPU."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and _ONEDNN


def lay_out(x: Tensor) -> Tensor:
    """Lay images ``(..., C, H, W)`` out in memory as they are worked on quickest: the same values and shape.

    Convolutions and poolings of oneDNN (single precision, on a CPU) like channels last, max pooling by nine times, but
    for small images.
    """
    if not (has_onednn(x) and x.shape[-2] * x.shape[-1] >= _SMALL):
        return x.contiguous()
    moved = x.movedim(-3, -1)
    if not moved.is_contiguous():
        return moved.contiguous().movedim(-1, -3)
    # Axes of length 1 may have any stride then, and torch tells layouts apart by strides.
    return moved.view(-1).view(moved.shape).movedim(-1, -3) if 1 in x.shape else x


def empty_like(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return memory for a tensor of another shape, laid out as one that may be of images, see `lay_out`."""
    if x.dim() < 4 or len(shape) < 4 or x.is_contiguous() or not x.movedim(-3, -1).is_contiguous():
        return x.new_empty(shape)
    *outer, channels, height, width = shape
    return x.new_empty((*outer, height, width, channels)).movedim(-1, -3)


def fold(g: Tensor) -> Tensor:
    """Fold the explained outputs into the batch: ``(K, B, *dims)`` becomes ``(K B, *dims)``."""
    return g.reshape(-1, *g.shape[2:])


def unfold(g: Tensor, like: Tensor) -> Tensor:
    """Undo `fold` for a tensor whose first two axes are those of `like`."""
    return g.reshape(*like.shape[:2], *g.shape[1:])


def sum_to(g: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Undo a broadcast of an instance of shape `dim`: sum ``(K, B, *larger)`` to ``(K, B, *dim)``."""
    surplus = g.dim() - 2 - len(dim)
    if surplus:
        g = g.sum(tuple(range(2, 2 + surplus)))
    axes = tuple(i + 2 for i, n in enumerate(dim) if n == 1 and g.shape[i + 2] > 1)
    return g.sum(axes, keepdim=True) if axes else g


def align(x: Tensor, rank: int) -> Tensor:
    """Give an instance more axes in front, behind the batch, so that instances broadcast from their last axis."""
    return x.reshape(x.shape[0], *[1] * (rank - x.dim()), *x.shape[1:]) if x.dim() < rank else x
