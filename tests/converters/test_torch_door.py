"""PyTorch modules, however they are written: conversion keeps the function, and leaves the module as it was."""

from __future__ import annotations

import copy
import functools
import warnings
from collections import OrderedDict
from functools import partial as part

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from innsight_py import LRP, ConnectionWeights, Converter, DeepLift, Gradient, SpecError, UnsupportedLayerError


class Base(nn.Module):
    """A module made of a function of itself and its inputs, and of submodules."""

    def __init__(self, function, **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)


class One(Base):
    """A module with one input."""

    def forward(self, x):
        return self.function(self, x)


class Two(Base):
    """A module with two inputs."""

    def forward(self, x, y):
        return self.function(self, x, y)


class Three(Base):
    """A module with three inputs."""

    def forward(self, x, y, z):
        return self.function(self, x, y, z)


class Many(Base):
    """A module with as many inputs as it gets."""

    def forward(self, *inputs):
        return self.function(self, *inputs)


def seeded(make):
    """Build a module in evaluation mode, with weights that do not depend on which test ran before."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return make().eval()


class Residual(nn.Module):
    """Blocks that add what they got; the same activation module is used everywhere."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.first, self.last = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(4, 3)
        self.blocks = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.act = nn.ReLU(inplace=in_place)

    def forward(self, x):
        x = self.act(self.first(x))
        for block in self.blocks:
            y = block(x)
            if self.in_place:
                y += x
            else:
                y = y + x
            x = self.act(y)
        return self.last(x.mean((2, 3)))


def in_place_everywhere(m, x):
    x = m.a(x)
    x.tanh_()
    y = m.b(x)
    y.add_(x)
    return m.c(F.elu_(y))


def reused(m, x):
    x = m.act(m.layer(x))
    x = m.act(m.layer(x))
    return m.layer(x) + x


def two_in_two_out(m, x, y):
    a, b = torch.tanh(m.a(x)), F.relu(m.b(y).flatten(1))
    merged = torch.cat([a, b, a], dim=1)
    return m.out(merged), F.softmax(m.other(a + b), dim=-1)


def in_place_on_the_input(m, x):
    x += m.a(x)
    return m.b(x)


def net(*parts):
    """Return what builds a sequence; parts are classes, or partials of classes, so that weights are drawn late."""
    return lambda: nn.Sequential(*(part() for part in parts))


def one(function, **parts):
    return lambda: One(function, **{name: part() for name, part in parts.items()})


def two(function, **parts):
    return lambda: Two(function, **{name: part() for name, part in parts.items()})


def with_statistics(make):
    """Return what builds a module and puts the statistics of some data into its batch normalisations."""

    def build():
        module = make()
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.normal_(norm.running_mean)
                nn.init.uniform_(norm.running_var, 0.5, 2)
                if norm.affine:
                    nn.init.normal_(norm.weight)
                    nn.init.normal_(norm.bias)
        return module

    return build


def linear(ins: int, outs: int, **keys):
    return part(nn.Linear, ins, outs, **keys)


def conv1(ins: int, outs: int, kernel: int, **keys):
    return part(nn.Conv1d, ins, outs, kernel, **keys)


def conv2(ins: int, outs: int, kernel, **keys):
    return part(nn.Conv2d, ins, outs, kernel, **keys)


def norm_of(kind, layer):
    return lambda: getattr(nn.utils.parametrizations, kind)(layer())


def tied():
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), layer)


def concatenated_widths(m, x):
    return torch.cat([m.a(x), x], dim=3).flatten(1)


def concatenated_channels(m, x):
    return m.c(torch.cat([m.a(x), m.b(x)], dim=-3).flatten(1))


def computed_weight(m, x):
    return F.linear(x, m.a.weight * m.b.weight.exp(), m.a.bias)


def before_and_after(m, x):
    z = m.a(x)
    return m.b(F.relu(z) + z)


def logits_and_probabilities(m, x):
    z = m.a(x)
    return z, z.softmax(-1)


def hidden_and_output(m, x):
    h = torch.tanh(m.a(x))
    return h, m.b(h)


PAIR = {"a": linear(3, 4), "b": linear(4, 2)}
SIGNAL = {"a": conv1(2, 3, 2), "b": linear(12, 2)}
ACTIVATIONS = {
    "relu6": nn.ReLU6,
    "leaky relu": part(nn.LeakyReLU, 0.3),
    "elu": part(nn.ELU, 0.5),
    "selu": nn.SELU,
    "celu": part(nn.CELU, 2.0),
    "gelu": nn.GELU,
    "tanh gelu": part(nn.GELU, "tanh"),
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softplus": part(nn.Softplus, 2.0, 1.0),
    "hard sigmoid": nn.Hardsigmoid,
    "hard swish": nn.Hardswish,
    "hard tanh": part(nn.Hardtanh, -0.2, 0.3),
    "log sigmoid": nn.LogSigmoid,
}
#: Name: (what builds the module, shapes of its inputs).
MODULES = {
    # sequences
    "linear": (linear(3, 2), 3),
    "no bias": (linear(3, 2, bias=False), 3),
    "sequential": (net(linear(3, 5), nn.Tanh, linear(5, 4), nn.Tanh, linear(4, 2)), 3),
    "nested sequential": (net(net(linear(3, 5), net(nn.ReLU)), net(linear(5, 4), nn.Tanh, linear(4, 2))), 3),
    "named": (lambda: nn.Sequential(OrderedDict(hidden=nn.Linear(3, 4), act=nn.ReLU(), out=nn.Linear(4, 2))), 3),
    "activation at the end": (net(linear(3, 2), nn.Sigmoid), 3),
    "two activations": (net(linear(3, 4), nn.Tanh, nn.ReLU, linear(4, 2), part(nn.Softmax, 1)), 3),
    "activation first": (net(nn.Tanh, linear(3, 2)), 3),
    "softmax dim 1": (net(linear(3, 4), part(nn.Softmax, dim=1)), 3),
    "softmax dim -1": (net(linear(3, 4), part(nn.Softmax, dim=-1)), 3),
    "softmax in the middle": (net(linear(3, 4), part(nn.Softmax, -1), linear(4, 2)), 3),
    "softmax of channels": (net(conv2(2, 3, 2), part(nn.Softmax, dim=1), nn.Flatten), (2, 4, 4)),
    "softmax of rows": (net(conv2(2, 3, 2), part(nn.Softmax, dim=-2), nn.Flatten), (2, 4, 4)),
    "log softmax": (net(linear(3, 4), part(nn.LogSoftmax, dim=1)), 3),
    **{name: (net(linear(3, 5), act, linear(5, 2), act), 3) for name, act in ACTIVATIONS.items()},
    # functions
    "functional relu": (one(lambda m, x: m.b(F.relu(m.a(x))), **PAIR), 3),
    "method relu": (one(lambda m, x: m.b(m.a(x).relu()), **PAIR), 3),
    "functional linear": (
        one(lambda m, x: F.linear(torch.tanh(F.linear(x, m.a.weight)), m.b.weight, m.b.bias), **PAIR),
        3,
    ),
    "in-place relu": (net(linear(3, 4), part(nn.ReLU, inplace=True), linear(4, 2)), 3),
    "in-place relu on the input": (net(part(nn.ReLU, inplace=True), linear(3, 2)), 3),
    "in-place leaky relu on the input": (net(part(nn.LeakyReLU, 0.2, inplace=True), linear(3, 2)), 3),
    "in-place sum on the input": (one(in_place_on_the_input, a=linear(3, 3), b=linear(3, 2)), 3),
    "in-place everywhere": (one(in_place_everywhere, a=linear(3, 4), b=linear(4, 4), c=linear(4, 2)), 3),
    # the value before the activation is used as well: the activation must not become a part of the linear layer
    "before and after": (one(before_and_after, **PAIR), 3),
    "computed twice": (one(lambda m, x: m.b(F.relu(m.a(x)) + m.a(x)), **PAIR), 3),
    "logits and probabilities": (one(logits_and_probabilities, a=linear(3, 4)), 3),
    "re-used modules": (one(reused, layer=linear(3, 3), act=nn.Tanh), 3),
    "tied modules": (tied, 3),
    "tied weights": (one(lambda m, x: F.linear(torch.tanh(m.a(x)), m.a.weight.t()), a=linear(3, 5)), 3),
    "residual": (part(Residual, in_place=False), (2, 4, 5)),
    "in-place residual": (part(Residual, in_place=True), (2, 4, 5)),
    "input twice": (one(lambda m, x: m.a(x + x), a=linear(3, 2)), 3),
    "concatenated with itself": (
        one(lambda m, x: m.a(torch.cat([x, m.b(x), x], 1)), a=linear(8, 2), b=linear(3, 2)),
        3,
    ),
    "channels concatenated": (
        one(concatenated_channels, a=conv2(2, 3, 1), b=conv2(2, 1, 1), c=linear(16, 2)),
        (2, 2, 2),
    ),
    "widths concatenated": (one(concatenated_widths, a=conv2(2, 2, 1)), (2, 2, 3)),
    # dropout and normalisation
    "dropout": (net(linear(3, 4), nn.Dropout, nn.ReLU, part(nn.Dropout, 0.9), linear(4, 2), nn.Dropout), 3),
    "channel dropout": (
        net(conv2(2, 3, 2), nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Flatten),
        (2, 4, 4),
    ),
    "functional dropout": (one(lambda m, x: m.b(F.dropout(m.a(x), 0.5, training=m.training)), **PAIR), 3),
    "identity": (net(nn.Identity, linear(3, 2), nn.Identity), 3),
    "batch norm of a table": (
        with_statistics(net(part(nn.BatchNorm1d, 3), linear(3, 4), part(nn.BatchNorm1d, 4), nn.ReLU, linear(4, 2))),
        3,
    ),
    "batch norm of a signal": (
        with_statistics(net(conv1(2, 3, 2), part(nn.BatchNorm1d, 3, eps=0.1), nn.Tanh, nn.Flatten)),
        (2, 5),
    ),
    "batch norm of an image": (
        with_statistics(net(conv2(2, 3, 2), part(nn.BatchNorm2d, 3), nn.ReLU, nn.Flatten)),
        (2, 4, 4),
    ),
    "batch norm without parameters": (
        with_statistics(net(linear(3, 4), part(nn.BatchNorm1d, 4, affine=False), linear(4, 2))),
        3,
    ),
    # convolutions and padding
    "conv1d": (
        net(conv1(2, 3, 3, stride=2, padding=2, dilation=2), nn.ReLU, nn.Flatten, linear(15, 2)),
        (2, 9),
    ),
    "conv2d": (
        net(conv2(2, 3, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1), bias=False), nn.Tanh, nn.Flatten),
        (2, 5, 6),
    ),
    "valid padding": (net(conv2(2, 3, 3, padding="valid"), nn.Flatten), (2, 5, 6)),
    **{
        f"same padding of {kernel}, {dilation}": (
            net(conv2(2, 3, kernel, padding="same", dilation=dilation), nn.ReLU, nn.Flatten),
            (2, 7, 6),
        )
        for kernel, dilation in [(3, 1), ((4, 3), (1, 2)), ((2, 1), (3, 1))]
    },
    "same padding of a signal": (net(conv1(2, 3, 4, padding="same", dilation=3), nn.Flatten), (2, 12)),
    **{
        f"{mode} padding, 1d": (net(conv1(2, 3, 3, padding=2, padding_mode=mode), nn.Tanh, nn.Flatten), (2, 6))
        for mode in ("reflect", "replicate", "circular")
    },
    **{
        f"{mode} padding, 2d": (
            net(conv2(2, 3, 3, padding=(2, 1), padding_mode=mode), nn.Tanh, nn.Flatten),
            (2, 6, 5),
        )
        for mode in ("reflect", "replicate", "circular")
    },
    "same reflect padding": (
        net(conv2(2, 3, (4, 3), padding="same", padding_mode="reflect"), nn.Flatten),
        (2, 6, 5),
    ),
    "padding layers": (
        net(
            part(nn.ZeroPad2d, (1, 0, 2, 1)),
            part(nn.ReflectionPad2d, (0, 2, 1, 0)),
            part(nn.ReplicationPad2d, 1),
            part(nn.ConstantPad2d, 1, 0.5),
            conv2(2, 2, 3),
            nn.Flatten,
        ),
        (2, 4, 4),
    ),
    "padding of a signal": (
        net(part(nn.ConstantPad1d, (1, 2), -1.5), part(nn.ReflectionPad1d, 2), conv1(2, 2, 3), nn.Flatten),
        (2, 5),
    ),
    "padding of a table": (one(lambda m, x: m.a(F.pad(x, (1, 2), value=0.5)), a=linear(6, 2)), 3),
    # pooling
    "max pooling": (
        net(conv2(2, 3, 2), nn.ReLU, part(nn.MaxPool2d, (2, 3), stride=(1, 2)), nn.Flatten, linear(36, 2)),
        (2, 6, 8),
    ),
    "max pooling of a signal": (
        net(part(nn.MaxPool1d, 2), conv1(2, 3, 2), part(nn.MaxPool1d, 2, 1), nn.Flatten),
        (2, 9),
    ),
    "average pooling": (net(conv2(2, 3, 2), nn.ReLU, part(nn.AvgPool2d, 2, stride=1), nn.Flatten), (2, 5, 4)),
    "average pooling of a signal": (net(conv1(2, 3, 2), part(nn.AvgPool1d, 3), nn.Flatten), (2, 8)),
    # R writes an activation after a pooling or a flatten on a layer that ignores it (quirk Q7)
    "activations after pooling and flatten": (
        net(conv1(2, 3, 2), part(nn.AvgPool1d, 2), nn.Sigmoid, nn.Flatten, nn.Tanh, linear(9, 2)),
        (2, 8),
    ),
    "adaptive average pooling": (
        net(conv2(2, 3, 2), nn.ReLU, part(nn.AdaptiveAvgPool2d, 1), nn.Flatten, linear(3, 2)),
        (2, 5, 4),
    ),
    "adaptive average pooling of a signal": (net(conv1(2, 3, 2), part(nn.AdaptiveAvgPool1d, 1), nn.Flatten), (2, 5)),
    "adaptive max pooling": (
        net(conv2(2, 3, 2), part(nn.AdaptiveMaxPool2d, (1, 1)), nn.Flatten, linear(3, 2)),
        (2, 5, 4),
    ),
    "mean over positions": (
        one(lambda m, x: m.b(F.relu(m.a(x)).mean((2, 3))), a=conv2(2, 3, 2), b=linear(3, 2)),
        (2, 4, 5),
    ),
    "mean over positions, kept": (
        one(lambda m, x: m.a(x).mean([-1, -2], keepdim=True).flatten(1), a=conv2(2, 3, 2)),
        (2, 4, 5),
    ),
    "mean over a signal": (one(lambda m, x: m.a(x).mean(-1), a=conv1(2, 3, 2)), (2, 5)),
    "maximum over positions": (
        one(lambda m, x: m.b(m.a(x).amax((2, 3))), a=conv2(2, 3, 2), b=linear(3, 2)),
        (2, 4, 5),
    ),
    # other shapes
    "squeeze": (one(lambda m, x: F.adaptive_avg_pool1d(m.a(x), 1).squeeze(-1), a=conv1(2, 3, 2)), (2, 5)),
    "view": (one(lambda m, x: m.b(m.a(x).view(len(x), -1)), **SIGNAL), (2, 5)),
    "view of size": (one(lambda m, x: m.b(m.a(x).view(x.size(0), -1)), **SIGNAL), (2, 5)),
    "view of shape": (one(lambda m, x: m.b(m.a(x).view(-1, 12)), **SIGNAL), (2, 5)),
    "reshape": (one(lambda m, x: m.b(m.a(x).reshape(x.shape[0], 12)), **SIGNAL), (2, 5)),
    "flatten": (one(lambda m, x: m.b(torch.flatten(m.a(x), start_dim=1)), **SIGNAL), (2, 5)),
    "linear on positions": (net(linear(5, 3), nn.ReLU, nn.Flatten, linear(6, 2)), (2, 5)),
    # weights that are computed, and none at all
    "weight norm": (net(norm_of("weight_norm", linear(3, 4)), nn.ReLU, linear(4, 2)), 3),
    "weight norm of a convolution": (net(norm_of("weight_norm", conv1(2, 3, 2)), nn.Flatten), (2, 5)),
    "spectral norm": (net(norm_of("spectral_norm", linear(3, 4)), nn.ReLU, linear(4, 2)), 3),
    "computed weight": (one(computed_weight, a=linear(3, 2), b=linear(3, 2)), 3),
    "no parameters": (net(nn.Tanh, part(nn.AvgPool1d, 2), nn.Flatten), (2, 6)),
    "nothing at all": (nn.Identity, 3),
    # several inputs and outputs
    "two inputs": (two(lambda m, x, y: m.a(x) + m.b(y), a=linear(3, 2), b=linear(4, 2)), [(3,), (4,)]),
    "two inputs, two outputs": (
        two(two_in_two_out, a=linear(3, 4), b=conv1(2, 1, 2), out=linear(12, 2), other=linear(4, 3)),
        [(3,), (2, 5)],
    ),
    "inputs in another order": (two(lambda m, x, y: m.a(torch.cat([y, x], 1)), a=linear(7, 2)), [(3,), (4,)]),
    "three inputs": (
        lambda: Three(lambda m, x, y, z: m.a(torch.tanh(x + z)) + y, a=nn.Linear(3, 2)),
        [(3,), (2,), (3,)],
    ),
    "any number of inputs": (lambda: Many(lambda m, *xs: m.a(torch.cat(xs, 1)), a=nn.Linear(7, 2)), [(3,), (4,)]),
    "any number of inputs, one": (lambda: Many(lambda m, *xs: m.a(xs[0]), a=nn.Linear(3, 2)), 3),
    "outputs in a list": (one(lambda m, x: [m.a(x), m.b(x)], a=linear(3, 2), b=linear(3, 4)), 3),
    "outputs in a dict": (one(lambda m, x: {"z": m.a(x), "a": m.b(x)}, a=linear(3, 2), b=linear(3, 4)), 3),
    "outputs in a nest": (one(lambda m, x: (m.a(x), {"q": [m.b(x)]}), a=linear(3, 2), b=linear(3, 4)), 3),
    "an output that feeds another": (one(hidden_and_output, **PAIR), 3),
    "one output twice": (one(lambda m, x: [m.a(x)] * 2, a=linear(3, 2)), 3),
    "an input as output": (one(lambda m, x: (x, m.a(x)), a=linear(3, 2)), 3),
}


def dims_of(name: str) -> list[tuple[int, ...]]:
    dims = MODULES[name][1]
    return dims if isinstance(dims, list) else [(dims,) if isinstance(dims, int) else dims]


@functools.cache
def original(name: str) -> nn.Module:
    """Build the module in double precision and evaluation mode, to compare with."""
    return seeded(MODULES[name][0]).double().requires_grad_(False)


@functools.cache
def converted(name: str) -> Converter:
    return Converter(seeded(MODULES[name][0]), input_dim=MODULES[name][1], dtype="double")


def draws(name: str, rows: int = 4, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, *dim, generator=generator, dtype=torch.float64) for dim in dims_of(name)]


def outputs(module: nn.Module, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Run a module on copies (it may write on its input) and list its outputs in order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of what "same" costs with even kernels
        found = module(*(x.clone() for x in inputs))
    return torch.utils._pytree.tree_leaves(found)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("rows", [1, 4])
def test_outputs(name, rows):
    inputs = draws(name, rows)
    expected = outputs(original(name), inputs)
    found = converted(name).model(*inputs)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-9, atol=1e-9)
    assert converted(name).output_dim == [tuple(y.shape[1:]) for y in expected]


@pytest.mark.parametrize("name", MODULES)
def test_gradient_is_autograds(name):
    """Of the original module, not of the converted graph."""
    inputs = draws(name)
    sizes = [dim[0] for dim in converted(name).output_dim]
    found = Gradient(
        converted(name), inputs if len(inputs) > 1 else inputs[0], ignore_last_act=False, dtype="double",
        output_idx=[list(range(n)) for n in sizes],
    )  # fmt: skip
    leaves = [x.clone().requires_grad_() for x in inputs]
    # `+ 0`, so that a module that writes on its input does not write on a leaf
    results = torch.utils._pytree.tree_leaves(original(name)(*(x + 0 for x in leaves)))
    for i, size in enumerate(sizes):
        for k in range(size):
            expected = torch.autograd.grad(results[i][:, k].sum(), leaves, retain_graph=True, allow_unused=True)
            for j, gradient in enumerate(expected):
                ours = found.result[i][j]
                if gradient is None:
                    assert ours is None
                else:
                    torch.testing.assert_close(ours[..., k], gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("reference", ["zeros", "drawn"])
def test_rescale_sums_to_the_difference(name, reference):
    """Of the original module's outputs, a last softmax included."""
    inputs = draws(name)
    x_ref = None if reference == "zeros" else draws(name, 1, seed=1)
    sizes = [dim[0] for dim in converted(name).output_dim]
    found = DeepLift(
        converted(name), inputs, x_ref=x_ref, ignore_last_act=False, winner_takes_all=False, dtype="double",
        output_idx=[list(range(n)) for n in sizes],
    )  # fmt: skip
    x_ref = x_ref or [torch.zeros_like(x[:1]) for x in inputs]
    with torch.no_grad():
        at_x, at_ref = outputs(original(name), inputs), outputs(original(name), x_ref)
    for i, row in enumerate(found.result):
        total = sum(x.flatten(1, -2).sum(1) for x in row if x is not None)
        torch.testing.assert_close(total, at_x[i] - at_ref[i], rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(found.decomp_goal[i], at_x[i] - at_ref[i], rtol=1e-9, atol=1e-9)


def without_sharing(name: str) -> nn.Module:
    """Build a module that computes the same with a submodule of its own for each use."""
    m = seeded(MODULES[name][0])
    if name == "tied modules":
        return nn.Sequential(*(copy.deepcopy(layer) for layer in m))
    if name == "tied weights":
        last = nn.Linear(5, 3, bias=False)
        last.weight.data.copy_(m.a.weight.t())
        return nn.Sequential(copy.deepcopy(m.a), nn.Tanh(), last)

    def forward(n, x):
        h = n.second_act(n.b(n.first_act(n.a(x))))
        return n.c(h) + h

    a, b, c = (copy.deepcopy(m.layer) for _ in range(3))
    return One(forward, a=a, b=b, c=c, first_act=nn.Tanh(), second_act=nn.Tanh())


@pytest.mark.parametrize("name", ["re-used modules", "tied modules", "tied weights"])
@pytest.mark.parametrize("method", [Gradient, DeepLift, LRP, ConnectionWeights])
def test_a_shared_module_is_like_copies_of_it(name, method):
    """What is shared appears once for each use."""
    separate = Converter(without_sharing(name), input_dim=3)
    keys = {"times_input": True} if method is ConnectionWeights else {}
    found = [method(conv, draws(name)[0], dtype="double", **keys).get_result() for conv in (converted(name), separate)]
    np.testing.assert_allclose(*found, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("last", [lambda z: z.softmax(-1), lambda z: F.softmax(z, dim=1), nn.Softmax(1)])
def test_activations_become_part_of_the_layer_before(last):
    """So `ignore_last_act` explains the preactivation, however the activation was written."""
    module = seeded(one(lambda m, x: m.last(m.b(torch.tanh(m.a(x)))), **PAIR))
    module.last = last
    converter, x = Converter(module, input_dim=3), draws("linear")[0]
    assert len(converter.model.layers) == 2
    double = copy.deepcopy(module).double()
    with torch.no_grad():
        logits = double.b(torch.tanh(double.a(x)))
    torch.testing.assert_close(Gradient(converter, x, dtype="double").decomp_goal[0], logits)


@pytest.mark.parametrize("flag", [True, False])
def test_logits_stay_an_output_of_their_own(flag):
    """Where the value before the activation is an output too it is not explained in place of the probabilities."""
    name = "logits and probabilities"
    x = draws(name)[0]
    found = Gradient(converted(name), x, ignore_last_act=flag, dtype="double", output_idx=[[0], [0]])
    with torch.no_grad():
        logits, probabilities = original(name)(x)
    torch.testing.assert_close(found.decomp_goal[0], logits[:, :1])
    torch.testing.assert_close(found.decomp_goal[1], probabilities[:, :1])


# -- the user's module ------------------------------------------------------------------------------------------


class Watched(nn.Module):
    """A module in a state that a careless conversion would change."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 2)
        self.norm = nn.BatchNorm1d(3)
        self.body = nn.Sequential(
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.utils.parametrizations.weight_norm(nn.Linear(12, 4)),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(4, 2)
        self.register_buffer("counter", torch.tensor(5))

    def forward(self, x):
        return F.softmax(self.head(self.body(self.norm(self.conv(x)))), dim=-1)


def state(module: nn.Module) -> dict:
    """Return everything about a module that can be compared."""
    tensors, parameters = module.state_dict(keep_vars=True), dict(module.named_parameters())
    return {
        "modes": [(name, m.training) for name, m in module.named_modules()],
        "values": [(name, t.detach().clone()) for name, t in tensors.items()],
        "places": [(name, t.dtype, t.device, t.data_ptr(), t._version) for name, t in tensors.items()],
        "parameters": [(name, id(p), p.requires_grad, p.is_leaf) for name, p in parameters.items()],
        "gradients": [(name, None if p.grad is None else p.grad.clone()) for name, p in parameters.items()],
        "hooks": [
            (name, list(m._forward_hooks), list(m._forward_pre_hooks), list(m._backward_hooks))
            for name, m in module.named_modules()
        ],
        "attributes": sorted(vars(module)),
    }


def attempt(call) -> tuple:
    """Return what a call gives, or the message with which it says no."""
    try:
        return call(), ""
    except (SpecError, UnsupportedLayerError) as error:
        return None, str(error)


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return a == b


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("training", [True, False])
def test_the_module_is_left_as_it_was(dtype, training):
    module = seeded(Watched)
    module.train(training)
    module.norm.train(not training)  # modes are each submodule's own
    module.conv.requires_grad_(False)
    module.to(dtype)
    module.head.weight.grad = torch.ones_like(module.head.weight)
    seen = []
    handles = [
        module.head.register_forward_hook(lambda m, args, out: seen.append("forward")),
        module.conv.register_forward_pre_hook(lambda m, args: seen.append("before")),
        module.head.register_full_backward_hook(lambda m, grads, outs: seen.append("backward")),
    ]
    before, random = state(module), torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a word about the mode is welcome
        converter = Converter(module, input_dim=(2, 5))
    Gradient(converter, draws("conv1d")[0][..., :5])
    assert same(state(module), before)
    assert torch.equal(torch.get_rng_state(), random)
    seen.clear()
    module.float().eval()(torch.randn(2, 2, 5, requires_grad=True)).sum().backward()
    assert seen == ["before", "forward", "backward"]
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize(
    "failing",
    [
        nn.Sequential(nn.Linear(3, 2), nn.Dropout()),
        nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.Unflatten(1, (2, 2))),
    ],
)
def test_the_module_is_left_as_it_was_by_a_failure(failing):
    before = state(failing.train())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, message = attempt(lambda: Converter(failing, input_dim=4))
    assert "shape" in message
    assert same(state(failing), before)


def test_what_hooks_change_belongs_to_the_module():
    module = seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))
    module[0].register_forward_hook(lambda m, args, out: torch.tanh(out))
    x = draws("linear")[0]
    expected = module[1](torch.tanh(F.linear(x.float(), module[0].weight, module[0].bias)))
    torch.testing.assert_close(Converter(module, input_dim=3).model(x.float())[0], expected.detach())


def test_training_on_does_not_change_the_converter():
    """The converter has weights of its own, also those of the precision that is only built later."""
    module = seeded(MODULES["batch norm of a table"][0])
    expected = copy.deepcopy(module).double().eval()
    converter = Converter(module, input_dim=3)
    x = draws("linear")[0]
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        module.train()(x.float()).square().sum().backward()
        optimizer.step()
    with torch.no_grad():
        for kind, tolerance in (("double", 1e-12), ("float", 1e-5)):
            found = Gradient(converter, x, dtype=kind)
            torch.testing.assert_close(found.preds[0].double(), expected(x), rtol=tolerance, atol=tolerance)
        assert not torch.allclose(module.double().eval()(x), expected(x), rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["sequential", "batch norm of an image", "residual", "two inputs, two outputs"])
def test_half_precision(name, dtype):
    """The values of the weights are exact; the calculation is in the precision that is asked for."""
    module = seeded(MODULES[name][0]).to(dtype)
    converter = Converter(module, input_dim=MODULES[name][1], dtype="double")
    inputs = draws(name)
    with torch.no_grad():
        expected = outputs(copy.deepcopy(module).double().eval(), inputs)
    for ours, theirs in zip(converter.model(*inputs), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_double_precision_is_kept():
    module = nn.Linear(1, 1).double()
    module.weight.data.fill_(1 / 3)
    result = Gradient(Converter(module, input_dim=1), [[1.0]], dtype="double").get_result()
    assert result.item() == 1 / 3


@pytest.mark.parametrize("training", [True, False])
def test_a_module_in_training_is_converted_as_in_evaluation(training):
    module = seeded(
        with_statistics(net(linear(3, 4), part(nn.BatchNorm1d, 4), part(nn.Dropout, 0.9), linear(4, 2)))
    ).train(training)
    expected = copy.deepcopy(module).double().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a word about the mode is welcome
        converter = Converter(module, input_dim=3, dtype="double")
    x = draws("linear")[0]
    torch.testing.assert_close(converter.model(x)[0], expected(x).detach(), rtol=1e-9, atol=1e-9)


# -- refusals ---------------------------------------------------------------------------------------------------


def test_missing_input_dim():
    with pytest.raises(ValueError, match="'input_dim'"):
        Converter(nn.Linear(3, 2))


@pytest.mark.parametrize(
    ("module", "dim"),
    [
        (nn.Linear(3, 2), 4),
        (nn.Linear(3, 2), [(3,), (3,)]),
        (nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten()), (4, 4, 2)),  # channels last
        (nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten()), (2, 1, 1)),
        (nn.Sequential(nn.Conv1d(2, 3, 2), nn.Flatten(), nn.Linear(12, 2)), (2, 6)),
        (Two(lambda m, x, y: x + y), 3),
    ],
)
def test_wrong_input_dim(module, dim):
    """The message says what shape was tried."""
    with pytest.raises(ValueError, match=r"shape|input") as caught:
        Converter(module, input_dim=dim)
    shapes = dim if isinstance(dim, list) else [dim]
    for shape in shapes:
        assert ", ".join(map(str, np.atleast_1d(shape))) in str(caught.value)


@pytest.mark.parametrize("dim", ["3", 3.5, [], 0, -1, [3.5], (0, 3), {"x": 3}, True], ids=repr)
def test_no_input_dim(dim):
    with pytest.raises(ValueError, match="'input_dim'"):
        Converter(nn.Linear(3, 2), input_dim=dim)


class Deep(nn.Module):
    """An operator in the second block of a submodule, in the middle of a net."""

    def __init__(self, operator) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.body = nn.Sequential(nn.Tanh(), One(lambda m, x: operator(x)))
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.body(self.first(x)))


def check_gradient(converter: Converter, module: nn.Module, x: torch.Tensor) -> None:
    leaf = x.clone().requires_grad_()
    copy.deepcopy(module).double()(leaf)[:, 0].sum().backward()
    found = Gradient(converter, x, output_idx=0, dtype="double", ignore_last_act=False).get_result()[..., 0]
    np.testing.assert_allclose(found, leaf.grad.numpy(), rtol=1e-9, atol=1e-12)


WITHOUT_RULES = {
    "i0": torch.special.i0,
    "sort": lambda x: torch.sort(x, 1)[0],
    "cumprod": lambda x: torch.cumprod(x, 1),
    "digamma": lambda x: torch.digamma(x + 3),
}


@pytest.mark.parametrize("name", WITHOUT_RULES)
def test_an_operator_without_rules(name):
    """Either the conversion says no, or the gradient is right and the other methods do; never a silent answer.

    What is said names the operator and its place in the module.
    """
    module, x = seeded(lambda: Deep(WITHOUT_RULES[name])), draws("linear")[0]
    converter, message = attempt(lambda: Converter(module, input_dim=3))
    messages = [message]
    if converter is not None:
        check_gradient(converter, module, x)
        messages = [
            attempt(lambda method=method: method(converter, *([] if method is ConnectionWeights else [x])))[1]
            for method in (DeepLift, LRP, ConnectionWeights)
        ]
    for message in messages:
        assert name in message
        assert "body.1" in message


OTHERS = {
    "cumsum": lambda x: torch.cumsum(x, 1),
    "atan": torch.atan,
    "norm": lambda x: F.layer_norm(x, (4,)),
    "norm|div": lambda x: F.normalize(x, dim=1),
    "mul": lambda x: 2 * x,
    "add": lambda x: x + 1,
    "sub|mul": lambda x: x - 0.5 * x,
    "mul|sigmoid": lambda x: x * x.sigmoid(),
    "mul|square": lambda x: x * x,
    "matmul|mm": lambda x: x @ torch.full((4, 4), 0.5, dtype=x.dtype),
    "where|gt": lambda x: torch.where(x > 0, x, 0.5 * x),
    "clamp": lambda x: x.clamp(-0.5, 0.5),
    "index": lambda x: x[:, [3, 1, 0, 2]],
    "squeeze|transpose": lambda x: x.unsqueeze(1).transpose(1, 2).squeeze(2),
    "prelu": lambda x: F.prelu(x, torch.full((4,), 0.25, dtype=x.dtype)),
    "gt": lambda x: x * (x > 0),  # a relu, written by hand
    "gt|to": lambda x: x * (x > 0).to(x.dtype),
    "argmax|to": lambda x: x * x.argmax(1, keepdim=True),
    "round": lambda x: x + x.round(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_operator_is_right_or_refused(name):
    """The gradient is autograd's and the sum of rescale the difference, or the message names operator and place."""
    module, (x,), (x_ref,) = seeded(lambda: Deep(OTHERS[name])), draws("linear"), draws("linear", 1, 1)
    converter, message = attempt(lambda: Converter(module, input_dim=3))
    found = None
    if converter is not None:
        check_gradient(converter, module, x)
        found, message = attempt(lambda: DeepLift(converter, x, x_ref=x_ref, dtype="double"))
    if found is None:
        assert any(operator in message for operator in name.split("|"))
        assert "body.1" in message
    else:
        with torch.no_grad():
            difference = copy.deepcopy(module).double()(x) - copy.deepcopy(module).double()(x_ref)
        torch.testing.assert_close(found.result[0][0].sum(1), difference, rtol=1e-8, atol=1e-10)


def recurrent(m, x):
    return m.rnn(x.transpose(1, 2))[0].flatten(1)


MIXING = {
    "mean": lambda m, x: m.a(x - x.mean(0)),
    "kept mean": lambda m, x: m.a(x - x.mean(0, keepdim=True)),
    "added mean": lambda m, x: m.a(x + x.mean(0)),
    "maximum": lambda m, x: m.a(x + x.amax(0)),
    "norm": lambda m, x: m.a(x / x.norm()),
    "softmax": lambda m, x: m.a(x).softmax(0),
    "flip": lambda m, x: m.a(x + x.flip(0)),
    "roll": lambda m, x: m.a(x + x.roll(1, 0)),
    "number of rows": lambda m, x: m.a(x) + x.shape[0],
    "divided by rows": lambda m, x: m.a(x) / len(x),
    "rows doubled": lambda m, x: m.a(torch.cat([x, x], 0)),
    "first rows": lambda m, x: m.a(x[:2]),
    "first row": lambda m, x: m.a(x[0:1] + x),
    "gram matrix": lambda m, x: m.a(x.t() @ x),
    "rows reshaped": lambda m, x: m.a(x).reshape(2, -1),
    "transposed": lambda m, x: m.a(x.t().reshape(-1, 3)),
    "batch norm": lambda m, x: F.batch_norm(m.a(x), None, None, training=True),
    "other for few rows": lambda m, x: m.a(x) if len(x) > 2 else F.relu(m.a(x)),
    "other for one row": lambda m, x: m.a(x) if len(x) != 1 else F.relu(m.a(x)),
}


@pytest.mark.parametrize("name", MIXING)
def test_a_model_that_mixes_rows_is_refused(name):
    """Rows have nothing to do with each other in an explanation; such a module cannot be converted rightly."""
    with pytest.raises(SpecError):
        Converter(seeded(one(MIXING[name], a=linear(3, 2))), input_dim=3)


def test_batch_normalisation_without_statistics_is_refused():
    """In evaluation mode, too, it normalises with what the batch has."""
    make = net(linear(3, 4), part(nn.BatchNorm1d, 4, track_running_stats=False), linear(4, 2))
    with pytest.raises(SpecError):
        Converter(seeded(make), input_dim=3)


BRANCHING = {
    "if": lambda m, x: m.a(x) if x.sum() > 0 else -m.a(x),
    "any": lambda m, x: m.a(x) if bool((x > 0).any()) else m.a(x).relu(),
    "item": lambda m, x: m.a(x * int(x[0, 0].item())),
    "numpy": lambda m, x: m.a(torch.tensor(x.detach().numpy()[:, ::-1].copy())),
}


@pytest.mark.parametrize("name", BRANCHING)
def test_control_flow_that_depends_on_the_data_is_refused(name):
    with pytest.raises(SpecError, match=r"torch\.export cannot trace"):
        Converter(seeded(one(BRANCHING[name], a=linear(3, 2))), input_dim=3)


@pytest.mark.parametrize(
    "operator",
    [
        lambda x: F.dropout(x, 0.5),
        lambda x: x + torch.randn_like(x),
        lambda x: x + torch.rand(len(x), 2),
        lambda x: x.sigmoid().bernoulli(),
    ],
    ids=["dropout", "randn_like", "rand", "bernoulli"],
)
def test_randomness_at_prediction_time_is_refused(operator):
    with pytest.raises(SpecError):
        Converter(seeded(one(lambda m, x: operator(m.a(x)), a=linear(3, 2))), input_dim=3)


@pytest.mark.parametrize(
    ("make", "dim"),
    [
        (net(part(nn.Embedding, 5, 2), nn.Flatten), 3),  # whole numbers
        (one(lambda m, x: (m.a(x), m.a.bias), a=linear(3, 2)), 3),  # an output that is a constant
        (one(lambda m, x: "text"), 3),
        (one(lambda m, x: 1 / 0), 3),
        (one(lambda m, x: m.missing(x)), 3),
        (linear(3, 2, device="meta"), 3),  # weights that are nowhere yet
    ],
    ids=["embedding", "constant", "text", "exception", "attribute", "meta"],
)
def test_other_modules_are_refused(make, dim):
    with pytest.raises(SpecError):
        Converter(seeded(make), input_dim=dim)


@pytest.mark.parametrize(
    "operator",
    [
        lambda x: x.argmax(1, keepdim=True),
        lambda x: x > 0,
        lambda x: (x > 0).float(),
        lambda x: x.long(),
        lambda x: x.detach(),
    ],
    ids=["argmax", "truth values", "truth values as numbers", "whole numbers", "detach"],
)
def test_an_output_without_a_gradient(operator):
    """It is refused with an error that says why, or the input counts as one that does not reach it; 0 is no answer."""
    module, x = seeded(one(lambda m, x: operator(m.a(x)), a=linear(3, 2))), draws("linear")[0]
    found, message = attempt(lambda: Gradient(Converter(module, input_dim=3), x, ignore_last_act=False))
    if found is None:
        assert "convert" in message or "gradient" in message
    else:
        nodes = found.converter.output_dim[0][0]
        assert found.result == [[None]]
        np.testing.assert_array_equal(found.get_result(), np.full((4, 3, nodes), np.nan))
        assert found.get_result("data.frame")["value"].isna().sum() == 4 * 3 * nodes
        assert "(not connected to output layer 1)" in repr(found)


LIKE_THE_BATCH = {
    "zeros": (one(lambda m, x: m.a(x) + torch.zeros(len(x), 2, dtype=x.dtype), a=linear(3, 2)), (3,)),
    "ones": (one(lambda m, x: m.a(torch.cat([x, x.new_ones(len(x), 1)], 1)), a=linear(4, 2)), (3,)),
    "lstm": (one(recurrent, rnn=part(nn.LSTM, 2, 2, batch_first=True)), (2, 4)),
}


@pytest.mark.parametrize("name", LIKE_THE_BATCH)
def test_constants_with_as_many_rows_as_the_batch_are_right_or_refused(name):
    """Also within a recurrent layer, which starts from zeros."""
    make, dim = LIKE_THE_BATCH[name]
    module, x = seeded(make), torch.randn(4, *dim, dtype=torch.float64)
    converter, message = attempt(lambda: Converter(module, input_dim=dim, dtype="double"))
    if converter is None:
        assert "cannot be converted" in message
    else:
        with torch.no_grad():
            expected = copy.deepcopy(module).double()(x)
            torch.testing.assert_close(converter.model(x)[0], expected, rtol=1e-9, atol=1e-9)


class Estimator:
    """Looks like a fitted model of scikit-learn."""

    def predict(self, x):
        """Return what was given."""
        return x


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (None, "None"),
        (5, "5"),
        ("x", "'x'"),
        (Estimator(), "Estimator"),
        (nn.Linear, "class Linear"),
        (torch.ones(2, 3), "tensor"),
        (nn.Linear(3, 2).state_dict(), "layers|weight"),
        ([nn.Linear(3, 2)], "list|Linear"),
    ],
    ids=["None", "number", "text", "estimator", "class", "tensor", "state dict", "list"],
)
def test_no_model(model, text):
    """A state dict is a dict, and as such read as a spec, which it is not."""
    with pytest.raises(ValueError if isinstance(model, dict) else TypeError, match=text):
        Converter(model, input_dim=3)
