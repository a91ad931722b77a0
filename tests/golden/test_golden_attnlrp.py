"""What LXT answered on four transformers (`attnlrp/README.md`), and what its table of rules gives by autograd.

The table says that multiplication by a constant passes relevance, as the papers do. The recorded answers multiply the
relevance by the constant in ``scores * (1 / sqrt(width))``: that product in `attnlrp_nets.py` is a plain one of torch,
which LXT's functions do not see, and autograd multiplied. So does "attnlrp"; with ``scores="pass"`` it is the table.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from attnlrp_nets import Ops, build
from goldens import FOLDER
from torch.nn import functional as F  # noqa: N812

from innsight_py import Converter, composites, run_lrp

NETS = ("bert", "gpt", "llama", "vit")


@functools.cache
def golden(name: str):
    """Read a file, and convert the network with its weights."""
    with np.load(FOLDER / "attnlrp" / f"{name}.npz") as file:
        held = {key: file[key] for key in file.files}
    net, dim = build(name)
    load(net, held)
    return held, Converter(net.double().eval(), input_dim=dim, dtype="double")


def load(net, held):
    weights = {key.removeprefix("weights/"): torch.tensor(v) for key, v in held.items() if key.startswith("weights/")}
    net.double().load_state_dict(weights)


def difference(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def test_the_networks_are_the_recorded_ones():
    for name in NETS:
        held, converter = golden(name)
        np.testing.assert_allclose(converter.model(torch.tensor(held["x"]))[0].numpy(), held["output"], rtol=1e-10)


@pytest.mark.parametrize("name", NETS)
def test_recorded_answers(name):
    held, converter = golden(name)
    found = run_lrp(converter, held["x"], rule_name="attnlrp", dtype="double").get_result()
    assert difference(found, held["answer/attnlrp"]) < 1e-8


# -- the table, by autograd --------------------------------------------------------------------------------------


class Halved(torch.autograd.Function):
    """A product gives half to each factor."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g / 2


class Ray(torch.autograd.Function):
    """An activation counts as the straight line from 0 to its value: relevance passes."""

    @staticmethod
    def forward(ctx, x, function):
        y = function(x)
        ctx.save_for_backward(y / x)
        return y

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0], None


class Table(Ops):
    """Operations whose gradient times input is the relevance of the table, with softmax as it is."""

    @staticmethod
    def matmul(a, b):
        return Halved.apply(torch.matmul(a, b))

    @staticmethod
    def mul(a, b):
        return Halved.apply(a * b)

    @staticmethod
    def gelu(x):
        return Ray.apply(x, F.gelu)

    @staticmethod
    def silu(x):
        return Ray.apply(x, F.silu)

    @staticmethod
    def tanh(x):
        return Ray.apply(x, torch.tanh)

    @staticmethod
    def layer_norm(x, weight, bias):
        held = (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt().detach()
        return (x - x.mean(-1, keepdim=True)) / held * weight + bias

    @staticmethod
    def rms_norm(x, weight):
        return weight * x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt().detach()


class Constant(Table):
    """CP-LRP: attention weights are constants, so their product gives all to the values."""

    @staticmethod
    def softmax(x):
        return torch.softmax(x, -1).detach()

    @staticmethod
    def matmul(a, b):
        product = torch.matmul(a, b)
        return Halved.apply(product) if a.requires_grad else product


def by_autograd(name, ops, held):
    net, _ = build(name, ops)
    load(net, held)
    x = torch.tensor(held["x"]).requires_grad_()
    y = net(x)
    columns = [torch.autograd.grad(y[:, k].sum(), x, retain_graph=True)[0] * x for k in range(y.shape[1])]
    return torch.stack(columns, -1).detach().numpy()


@pytest.mark.parametrize(("rule_name", "ops"), [(composites.attnlrp(scores="pass"), Table), ("cp_lrp", Constant)])
@pytest.mark.parametrize("name", NETS)
def test_the_table_of_rules(name, rule_name, ops):
    """Relevance is gradient times input of a network whose operations have the slopes of the rules."""
    held, converter = golden(name)
    expected = by_autograd(name, ops, held)
    found = run_lrp(converter, held["x"], rule_name=rule_name, dtype="double")
    assert difference(found.get_result(), expected) < 1e-10
    single = run_lrp(converter, held["x"], rule_name=rule_name)
    assert difference(single.get_result(), expected) < 1e-3
