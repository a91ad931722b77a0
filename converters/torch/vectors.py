"""The vectors that a module looks up for tokens, and the gradient of its outputs at these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

#: What looks vectors up by numbers.
_LOOKUPS = (torch.embedding, F.embedding)


class _Looking(TorchFunctionMode):
    """Keeps the vectors that are looked up, in the order of the calls, as the start of all that is made of them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func not in _LOOKUPS:
            return out
        self.found.append(out.detach().clone().requires_grad_())
        return self.found[-1]


def at_vectors(scalar: Callable[[], Tensor | None]) -> list[tuple[Tensor, Tensor]]:
    """Return the vectors that are looked up on the way to a number, each with the gradient of the number there."""
    with torch.enable_grad(), _Looking() as looking:
        total = scalar()
    if total is None or not total.requires_grad or not looking.found:
        return []
    found = torch.autograd.grad(total, looking.found, allow_unused=True)
    return [
        (vectors.detach(), torch.zeros_like(vectors) if gradient is None else gradient)
        for vectors, gradient in zip(looking.found, found, strict=True)
    ]
