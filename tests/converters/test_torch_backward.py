"""Modules whose gradient is not the derivative of their outputs: a backward of their own, hooks."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn

from innsight_py import Converter, UnsupportedLayerError, run_deeplift, run_grad, run_intgrad, run_lrp, torch_grad


class Reversal(torch.autograd.Function):
    """The layer of domain-adversarial training."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -ctx.factor * g, None


class StraightThrough(torch.autograd.Function):
    """Rounds, and lets the gradient pass as if it did not."""

    @staticmethod
    def forward(ctx, x):
        with torch.no_grad():
            return x.round()

    @staticmethod
    def backward(ctx, g):
        return g


class Surrogate(torch.autograd.Function):
    """A spike with the slope of a sigmoid, as in spiking networks; the new way to write one."""

    @staticmethod
    def forward(x):
        return (x > 0).to(x.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(4 * x)
        return 4 * s * (1 - s) * g


class Swish(torch.autograd.Function):
    """Saves memory; its backward is the derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * (s * (1 + x * (1 - s)))


class Weighted(torch.autograd.Function):
    """Two results and a parameter among the arguments; the gradient is twice what it should be."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight, x * 2

    @staticmethod
    def backward(ctx, g, h):
        x, weight = ctx.saved_tensors
        return 2 * (g @ weight.T) + 4 * h, x.T @ g


class Net(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Linear(4, 4), nn.Linear(4, 3), function

    def forward(self, x):
        return self.b(self.function(self, self.a(x)))


def make(function) -> nn.Module:
    torch.manual_seed(3)
    return Net(function).eval()


def draw(n: int = 5) -> torch.Tensor:
    return torch.randn(n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def hooked(m, x):
    if x.requires_grad:
        x.register_hook(lambda g: 3 * g)
    return x.tanh()


OTHER = {
    "Reversal": lambda m, x: Reversal.apply(x.tanh(), 0.5),
    "StraightThrough": lambda m, x: StraightThrough.apply(3 * x),
    "Surrogate": lambda m, x: Surrogate.apply(x) + x,
    "Weighted": lambda m, x: sum(Weighted.apply(x, m.a.weight)),
}
WITHOUT = {
    "Reversal": lambda m, x: x.tanh(),
    "StraightThrough": lambda m, x: (3 * x).round() + 0 * x,
    "Surrogate": lambda m, x: (x > 0).to(x.dtype) + x,
    "Weighted": lambda m, x: x @ m.a.weight + 2 * x,
}


def gradients(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    leaf = x.clone().requires_grad_()
    out = copy.deepcopy(module).double()(leaf)
    return torch.stack([torch.autograd.grad(out[:, k].sum(), leaf, retain_graph=True)[0] for k in range(3)], -1)


@pytest.mark.parametrize("name", OTHER)
def test_the_derivative_by_default_with_a_warning_that_names_it(name):
    module, x = make(OTHER[name]), draw()
    with pytest.warns(UserWarning, match=rf"{name}.*custom_backward='own'"):
        converter = Converter(module, input_dim=4, dtype="double")
    found = run_grad(converter, x, output_idx=[0, 1, 2], dtype="double").result[0][0]
    torch.testing.assert_close(found, gradients(make(WITHOUT[name]), x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", OTHER)
def test_its_own_backward_where_the_user_chooses(name):
    module, x = make(OTHER[name]), draw()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        converter = Converter(module, input_dim=4, dtype="double", custom_backward="own")
    with torch.no_grad():
        torch.testing.assert_close(converter.model(x)[0], copy.deepcopy(module).double()(x), rtol=1e-9, atol=1e-9)
    found = run_grad(converter, x, output_idx=[0, 1, 2], dtype="double").result[0][0]
    torch.testing.assert_close(found, gradients(module, x), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found, torch_grad(module, x, dtype="double"), rtol=1e-9, atol=1e-12)
    for method in (run_deeplift, run_lrp):
        with pytest.raises(UnsupportedLayerError, match=f"the function {name} with a backward of its own"):
            method(converter, x)


def test_a_backward_that_is_the_derivative_is_no_matter():
    module, x = make(lambda m, x: Swish.apply(x)), draw()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        converter = Converter(module, input_dim=4, dtype="double")
        run_deeplift(converter, x, dtype="double")
    found = run_grad(converter, x, output_idx=[0, 1, 2], dtype="double").result[0][0]
    torch.testing.assert_close(found, gradients(module, x), rtol=1e-9, atol=1e-12)


def test_a_hook_that_changes_the_gradient():
    with pytest.warns(UserWarning, match=r"not the derivative.*torch_grad"):
        Converter(make(hooked), input_dim=4)


def test_what_takes_its_own_backward_is_pickled_but_not_saved(tmp_path):
    converter = Converter(make(OTHER["Reversal"]), input_dim=4, custom_backward="own")
    again = pickle.loads(pickle.dumps(converter))  # noqa: S301
    torch.testing.assert_close(again.model(draw().float())[0], converter.model(draw().float())[0])
    with pytest.raises(ValueError, match="cannot be saved"):
        converter.save(tmp_path / "m.safetensors")


def test_sums_of_the_derivative():
    """A reversal is the identity of what is explained: integrated gradients add up."""
    with pytest.warns(UserWarning, match="Reversal"):
        converter = Converter(make(OTHER["Reversal"]), input_dim=4)
    result = run_intgrad(converter, draw(), n=300)
    assert float(result.residual.relative[0].abs().max()) < 0.02


def test_other_values_of_the_argument():
    with pytest.raises(ValueError, match="custom_backward"):
        Converter(make(OTHER["Reversal"]), input_dim=4, custom_backward="mine")
