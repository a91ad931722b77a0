"""Arrays from what holds tensors."""

from __future__ import annotations

from typing import Any

import torch


def without_tensors(value: Any) -> Any:
    """Turn the tensors in nested lists into arrays."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().double().numpy() if value.is_floating_point() else value.cpu().numpy()
    return [without_tensors(entry) for entry in value] if isinstance(value, list | tuple) else value
