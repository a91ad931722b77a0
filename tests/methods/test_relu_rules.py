"""Guided backpropagation and the deconvolutional network, against autograd with other ReLUs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ids import without_address
from torch import nn
from torch.nn import functional as F  # noqa: N812

from innsight_py import Converter, run_grad
from innsight_py.model.module import BareModule


class Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g.clamp(min=0) * (ctx.saved_tensors[0] > 0)


class Deconvnet(Guided):
    @staticmethod
    def backward(ctx, g):
        return g.clamp(min=0)


RULES = {"guided": Guided.apply, "deconvnet": Deconvnet.apply}


class Net(nn.Module):
    """ReLUs as a module, a function and a method: within a layer, behind a sum, behind a normalisation."""

    def __init__(self, relu) -> None:
        super().__init__()
        self.relu = relu
        self.conv, self.norm = nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.inner, self.out = nn.Conv2d(3, 3, 1), nn.Linear(12, 2)

    def forward(self, x):
        x = F.max_pool2d(self.relu(self.norm(self.conv(x))), 2)
        x = self.relu(self.relu(self.inner(x)) + x - 0.3)
        return self.out(x.flatten(1))


@pytest.mark.parametrize("times_input", [False, True])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("relu", [F.relu, torch.relu, torch.Tensor.relu, nn.ReLU()], ids=without_address)
def test_against_autograd(relu, rule, times_input):
    torch.manual_seed(0)
    model = Net(relu).double().eval()
    twin = Net(RULES[rule]).double().eval()
    twin.load_state_dict(model.state_dict())
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    out = twin(x)
    expected = torch.stack([torch.autograd.grad(out[:, k].sum(), x, retain_graph=True)[0] for k in range(2)], -1)
    converter = Converter(model, input_dim=(2, 4, 4), dtype="double")
    found = run_grad(converter, x.detach(), relu_rule=rule, times_input=times_input, dtype="double")
    expected = expected * x.detach().unsqueeze(-1) if times_input else expected
    np.testing.assert_allclose(found.get_result(), expected, rtol=1e-9, atol=1e-12)
    assert not np.allclose(found.get_result(), run_grad(converter, x.detach(), times_input=times_input).get_result())
    assert f"relu_rule: '{rule}'" in repr(found)


def test_a_last_activation_that_is_ignored_does_not_matter():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.Softmax(1))
    converter, x = Converter(model, input_dim=(3,)), torch.randn(2, 3)
    assert run_grad(converter, x, relu_rule="guided").get_result().shape == (2, 3, 2)
    with pytest.raises(ValueError, match=r"'relu_rule': 'guided' is defined for ReLUs only.*activation softmax"):
        run_grad(converter, x, relu_rule="guided", ignore_last_act=False)


@pytest.mark.parametrize("other", [nn.Tanh(), nn.LeakyReLU(), nn.ReLU6(), nn.GELU()], ids=repr)
def test_other_activations_are_refused(other):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), other, nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"'relu_rule': 'deconvnet' is defined for ReLUs only, and the layer '2'"):
        run_grad(Converter(model, input_dim=(3,)), torch.randn(2, 3), relu_rule="deconvnet")


def test_activations_of_other_outputs_do_not_matter():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            x = F.relu(self.a(x))
            return self.b(x), torch.tanh(self.c(x)) * 2

    converter = Converter(Two(), input_dim=(3,))
    assert run_grad(converter, torch.randn(2, 3), relu_rule="guided").get_result().shape == (2, 3, 2)
    with pytest.raises(ValueError, match="'relu_rule'"):
        run_grad(converter, torch.randn(2, 3), relu_rule="guided", output_idx=[None, [0]])


def test_modules_that_are_not_converted_are_refused():
    module = BareModule(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"'relu_rule'.*convert the module with Converter"):
        run_grad(module, torch.randn(2, 3), relu_rule="guided")
