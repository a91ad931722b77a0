"""Routers and the largest entries in PyTorch modules: outputs, gradients, exact sums, whatever expert is asked."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from innsight_py import Converter, run_deeplift, run_grad, run_lrp

EXPERTS = 4


class Router(nn.Module):
    """The usual mixture: the weights of the best two experts, put back where they were."""

    def __init__(self, sigmoid: bool = False) -> None:
        super().__init__()
        self.gate, self.sigmoid = nn.Linear(3, EXPERTS), sigmoid
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)) for _ in range(EXPERTS))

    def forward(self, x):
        score = self.gate(x)
        best, index = (score.sigmoid() if self.sigmoid else score).topk(2, dim=-1)
        weights = best / best.sum(-1, keepdim=True) if self.sigmoid else best.softmax(-1)
        weights = torch.zeros_like(score).scatter(-1, index, weights)
        return sum(weights[..., i : i + 1] * expert(x) for i, expert in enumerate(self.experts))


class OverTime(nn.Module):
    """The same at each position of a series, of which the largest values are summed."""

    def __init__(self) -> None:
        super().__init__()
        self.router = Router()

    def forward(self, x):
        y = self.router(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return y.transpose(1, 2).topk(3).values.sum(-1)


class Smallest(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 6), nn.Linear(2, 2)

    def forward(self, x):
        return self.b(self.a(x).topk(2, largest=False).values)


MODULES = {
    "softmax of the best": (Router, (3,)),
    "shares of the best": (lambda: Router(sigmoid=True), (3,)),
    "over time": (OverTime, (5, 3)),
    "one position": (OverTime, (3, 3)),
    "smallest": (Smallest, (3,)),
}


@pytest.mark.parametrize("name", MODULES)
def test_routes(name):
    build, dim = MODULES[name]
    torch.manual_seed(1)
    module = build().double()
    converter = Converter(module, input_dim=dim)
    x, reference = torch.randn(6, *dim).double(), torch.randn(6, *dim).double()
    leaf = x.clone().requires_grad_()
    out = module(leaf)
    (expected,) = torch.autograd.grad(out[:, 1].sum(), leaf)
    found = run_grad(converter, x, dtype="double", output_idx=1, ignore_last_act=False)
    assert torch.allclose(found.preds[0][:, 0], out[:, 1].detach(), rtol=0, atol=1e-12)
    assert torch.allclose(found.get_result("torch_tensor")[..., 0], expected, rtol=0, atol=1e-12)
    shares = run_deeplift(converter, x, x_ref=reference, dtype="double", ignore_last_act=False)
    with torch.no_grad():
        goal = module(x) - module(reference)
    assert torch.allclose(shares.get_result("torch_tensor").flatten(1, -2).sum(1), goal, rtol=0, atol=1e-11)
    relevance = run_lrp(converter, x, rule_name="attnlrp", dtype="double").get_result("torch_tensor")
    assert bool(relevance.isfinite().all())
    assert bool((relevance.abs().flatten(1).sum(1) > 0).all())


def test_a_router_that_chooses_alike_is_the_sum_of_its_experts():
    """With the same route on both sides the choice gets nothing: DeepLift is that of the two experts alone."""
    torch.manual_seed(3)
    module = Router().double()
    x = torch.randn(1, 3).double()
    near = x + 1e-3
    chosen = module.gate(x).topk(2).indices[0].tolist()
    assert chosen == module.gate(near).topk(2).indices[0].tolist()

    class Two(nn.Module):
        def __init__(self, whole: Router) -> None:
            super().__init__()
            self.gate, self.experts = nn.Linear(3, 2), nn.ModuleList(copy.deepcopy(whole.experts[i]) for i in chosen)
            self.gate.weight.data, self.gate.bias.data = whole.gate.weight[chosen].data, whole.gate.bias[chosen].data

        def forward(self, x):
            weights = self.gate(x).softmax(-1)
            return sum(weights[:, i : i + 1] * expert(x) for i, expert in enumerate(self.experts))

    found = [
        run_deeplift(Converter(it, input_dim=3), x, x_ref=near, dtype="double", ignore_last_act=False)
        for it in (module, Two(module).double())
    ]
    a, b = (it.get_result("torch_tensor") for it in found)
    assert torch.allclose(a, b, rtol=1e-9, atol=0)
