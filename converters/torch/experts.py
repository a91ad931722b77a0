"""Mixtures of experts: every expert is asked, and the weights of those that are not chosen are 0.

Modules of `transformers` sort rows by expert, with operators that know no single row. What they compute is a weighted
sum over all experts, of which most weights are 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

#: What a module with several experts has, whichever model of `transformers` it belongs to.
_HAS = ("num_experts", "has_gate", "has_bias", "is_transposed", "has_post_expert_norm", "_apply_gate", "down_proj")


def has_experts(part: nn.Module) -> bool:
    """Tell whether a module asks several experts."""
    return all(hasattr(part, name) for name in _HAS) and not getattr(part, "_is_expert_parallel", False)


def weighted(self: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """Weigh what all experts make of rows ``(T, size)``, given the numbers and weights ``(T, k)`` of the chosen."""
    none = torch.zeros(len(hidden_states), self.num_experts, dtype=top_k_weights.dtype, device=top_k_weights.device)
    weights = none.scatter(1, top_k_index, top_k_weights)
    answers = torch.stack([_answer(self, hidden_states, i) for i in range(self.num_experts)], 1)
    return torch.matmul(weights.to(answers.dtype).unsqueeze(1), answers).squeeze(1).to(hidden_states.dtype)


def _answer(self: Any, x: Tensor, i: int) -> Tensor:
    name = "gate_up_proj" if self.has_gate else "up_proj"
    inner = _linear(self, x, name, i)
    out = _linear(self, self._apply_gate(inner) if self.has_gate else self.act_fn(inner), "down_proj", i)
    found: Tensor = self.post_expert_norm(out) if self.has_post_expert_norm else out
    return found


def _linear(self: Any, x: Tensor, name: str, i: int) -> Tensor:
    weight, bias = getattr(self, name)[i], getattr(self, f"{name}_bias")[i] if self.has_bias else None
    return F.linear(x, weight.T if self.is_transposed else weight, bias)
