"""Identities have names: places where nothing happens are the first that a user hooks into."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from innsight_py import Converter, run_grad


def test_identities_are_places():
    """One before an activation means the value before it, also where that is a part of the layer before."""
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Linear(3, 4), nn.Identity(), nn.ReLU(), nn.Identity(), nn.Dropout(), nn.Linear(4, 2), nn.Identity()
    ).eval()
    converter, x = Converter(net, input_dim=3), torch.randn(2, 3)
    assert converter.layer_names == ["0", "1", "2", "3", "4", "5", "6"]
    assert [node.name for node in converter.model.nodes] == ["0", "4", "5"]  # no layer is there for it
    for name in ("1", "3", "6"):
        values = net[: int(name) + 1](x).detach()
        np.testing.assert_allclose(run_grad(converter, x, layer=name).data[0], values, rtol=0, atol=1e-6)
    assert type(net[1].forward).__name__ == "method"  # of the class: the user's module is as it was
    assert "forward" not in vars(net[1])


def test_an_identity_that_is_called_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.tap = nn.Linear(3, 3), nn.Identity()

        def forward(self, x):
            return self.tap(torch.tanh(self.tap(self.body(x))))

    module, x = Twice(), torch.randn(2, 3)
    converter = Converter(module, input_dim=3)
    assert {"tap#1", "tap#2", "tap"} <= set(converter.layer_names)
    before = run_grad(converter, x, layer="tap#1").data[0]
    np.testing.assert_allclose(before, module.body(x).detach(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(run_grad(converter, x, layer="tap").data[0], module(x).detach(), rtol=0, atol=1e-6)
