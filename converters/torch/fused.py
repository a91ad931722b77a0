"""Modules that call an operator of their own: while a copy is traced, they run as they are defined instead."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from innsight_py.converters.torch import experts
from innsight_py.spec import SpecError

#: So low that it is never the largest, with differences that are numbers.
LOW = -1e30
#: What torch adds to a norm before it divides by it.
_NORM = 1e-7


@contextlib.contextmanager
def as_defined(module: nn.Module) -> Iterator[None]:
    """Let fused parts of a private copy of a module run as they are defined."""
    changed: list[Any] = []
    for part in module.modules():
        forward = _forward_of(part)
        if forward is not None:
            part.forward = MethodType(forward, part)
            changed.append(part)
    try:
        yield
    finally:
        for part in changed:
            del part.forward


def _forward_of(part: nn.Module) -> Any:
    if isinstance(part, nn.EmbeddingBag) and type(part).forward is nn.EmbeddingBag.forward:
        return _bag
    if isinstance(part, nn.Embedding) and type(part).forward is nn.Embedding.forward and part.max_norm is not None:
        return _embedding
    return experts.weighted if experts.has_experts(part) else None


def _table(self: nn.Embedding | nn.EmbeddingBag) -> Tensor:
    """Return the vectors; those that are longer than `max_norm` are scaled to it, as torch does when it reads them."""
    weight: Tensor = self.weight
    if self.max_norm is None:
        return weight
    size = weight.norm(self.norm_type, dim=1, keepdim=True)
    return torch.where(size > self.max_norm, weight * (self.max_norm / (size + _NORM)), weight)


def _embedding(self: nn.Embedding, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
    return F.embedding(input, _table(self))


def _bag(
    self: nn.EmbeddingBag, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None  # noqa: A002
) -> Tensor:  # fmt: skip
    """Sum, average or take the largest of vectors, of those that are no padding."""
    if input.dim() != 2 or offsets is not None:
        raise SpecError(
            "An EmbeddingBag with 'offsets' takes bags of any length in one row of numbers, which has no instances. "
            "Give it one bag a row, (B, length), filled up with 'padding_idx'."
        )
    vectors = F.embedding(input, _table(self))
    there = None if self.padding_idx is None else (input != self.padding_idx).unsqueeze(-1)
    if per_sample_weights is not None:
        vectors = vectors * per_sample_weights.unsqueeze(-1)
    if self.mode == "max":
        if there is None:
            return vectors.amax(1)
        return vectors.masked_fill(~there, LOW).amax(1).masked_fill(~there.any(1), 0.0)
    if there is None:
        return vectors.mean(1) if self.mode == "mean" else vectors.sum(1)
    total = vectors.masked_fill(~there, 0.0).sum(1)
    return total / there.sum(1).clamp(min=1).to(total.dtype) if self.mode == "mean" else total
