"""The rules for softmax, products, norms and gates, against explicit Jacobians that share no code with ours.

Each rule is written down as its definition says: the Jacobian of a function at a point, entry by entry, found by
autograd on plain torch; then shares. Nothing is flattened or stabilised, since no denominator here is near 0.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from innsight_py import Converter, rules

ROWS, OUTPUTS = 3, 2


def draw(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


def layer_of(dims, **layer):
    """Return a layer of a spec, with the shapes of its inputs."""
    inputs = [f"input_{i + 1}" for i in range(len(dims))]
    spec = {"input_dim": list(dims), "layers": [{**layer, "name": "it", "inputs": inputs}, {"type": "Flatten"}]}
    return Converter(spec).model_in("double").layer("it")


def handed_down(layer, xs, rule, r):
    return layer.lrp(r, layer.record(*xs), rule)


def jacobian(function, x):
    """Return the derivative of a function of one row, ``(out, in)``, both flat."""
    found = torch.autograd.functional.jacobian(function, x)
    return found.reshape(function(x).numel(), x.numel())


def shared(function, x, r, epsilon=0.0):
    """Share relevance by the terms J_ji x_i of a function that is linear, with what it adds in the denominator."""
    y = function(x).flatten()
    found = torch.zeros(x.numel(), dtype=x.dtype)
    matrix = jacobian(function, x)
    for j in range(len(y)):
        found += matrix[j] * x.flatten() * r.flatten()[j] / (y[j] + epsilon * torch.sign(y[j]))
    return found.reshape(x.shape)


def by_row(definition, xs, r):
    """Apply a definition to each row and explained output."""
    return torch.stack([torch.stack([definition(x, r[k, b]) for b, x in enumerate(xs)]) for k in range(len(r))])


# -- softmax -----------------------------------------------------------------------------------------------------

SOFTMAX = {
    "last axis": ("softmax", (2, 4), -1, torch.softmax),
    "first axis": ("softmax", (2, 4), 1, torch.softmax),
    "middle axis": ("softmax", (2, 3, 4), 2, torch.softmax),
    "logarithm": ("log_softmax", (5,), 1, torch.log_softmax),
}


@pytest.mark.parametrize("name", SOFTMAX)
def test_taylor(name):
    """R_i = z_i sum_j (ds_j / dz_i) R_j / s_j, along whatever axis."""
    kind, dim, axis, function = SOFTMAX[name]
    z, r = 2 * draw(ROWS, *dim), draw(OUTPUTS, ROWS, *dim, seed=1)
    layer = layer_of([dim], type="Activation", act_name=kind, act_params={"dim": axis})
    own = axis if axis < 0 else axis - 1

    def definition(x, upper):
        s = function(x, own)
        return (jacobian(lambda v: function(v, own), x).T @ (upper / s).flatten()).reshape(x.shape) * x

    torch.testing.assert_close(handed_down(layer, [z], rules.taylor(), r)[0], by_row(definition, z, r))


def test_the_softmax_rule_in_words():
    """What the README of the goldens says: z (R - s sum R), and nothing where z is minus infinity."""
    z, r = draw(ROWS, 4), draw(OUTPUTS, ROWS, 4, seed=1)
    z[0, 1], z[1, 2:] = -torch.inf, -torch.inf
    s = z.softmax(1)
    r = r * (s > 0)  # no value has relevance to give that is 0
    expected = torch.where(z.isinf(), 0.0, z.nan_to_num(neginf=0.0) * (r - s * r.sum(2, keepdim=True)))
    layer = layer_of([(4,)], type="Activation", act_name="softmax")
    torch.testing.assert_close(handed_down(layer, [z], rules.taylor(), r)[0], expected)


def test_taylor_of_a_sparsemax():
    z, r = torch.tensor([[0.1, 1.2, 0.9, -1.0]], dtype=torch.float64), torch.tensor([[[0.0, 2.0, 1.0, 0.0]]]).double()
    layer = layer_of([(4,)], type="Activation", act_name="sparsemax")
    s = torch.tensor([0, 0.65, 0.35, 0], dtype=torch.float64)  # both less 0.55
    m = torch.tensor([0, 2 / 0.65, 1 / 0.35, 0], dtype=torch.float64)
    expected = z[0] * (s > 0) * (m - m[1:3].mean())
    torch.testing.assert_close(handed_down(layer, [z], rules.taylor(), r)[0][0, 0], expected)


@pytest.mark.parametrize("kind", ["softmax", "silu", "gelu"])
def test_block_hands_nothing_on(kind):
    layer = layer_of([(4,)], type="Activation", act_name=kind)
    assert handed_down(layer, [draw(ROWS, 4)], rules.block(), draw(OUTPUTS, ROWS, 4)) == [None]


def test_what_is_explained_itself_passes():
    layer = layer_of([(4,)], type="Activation", act_name="softmax")
    r, record = draw(OUTPUTS, ROWS, 4), layer.record(draw(ROWS, 4, seed=2))
    for rule in (rules.taylor(), rules.block(), rules.pass_()):
        torch.testing.assert_close(layer.lrp(r, record, rule, is_output=True)[0], r)


# -- products ----------------------------------------------------------------------------------------------------

MATRICES = {
    "two matrices": ((2, 3), (3, 4)),
    "heads": ((2, 4, 3), (2, 3, 4)),
    "broadcast heads": ((2, 4, 3), (1, 3, 4)),
}


@pytest.mark.parametrize("epsilon", [0.0, 0.25])
@pytest.mark.parametrize("name", MATRICES)
def test_matrix_products(name, epsilon):
    """Epsilon for the map that is left when one factor is held, with half of the relevance."""
    dims = MATRICES[name]
    left, right = draw(ROWS, *dims[0]), draw(ROWS, *dims[1], seed=1)
    layer = layer_of(dims, type="MatMul")
    r = draw(OUTPUTS, ROWS, *layer.output_dim, seed=2)
    found = handed_down(layer, [left, right], rules.epsilon(epsilon), r)
    for k in range(OUTPUTS):
        for b in range(ROWS):
            half = r[k, b] / 2
            torch.testing.assert_close(found[0][k, b], shared(lambda x, b=b: x @ right[b], left[b], half, epsilon))
            torch.testing.assert_close(found[1][k, b], shared(lambda x, b=b: left[b] @ x, right[b], half, epsilon))


@pytest.mark.parametrize("dims", [((3,), (3,)), ((2, 3), (2, 1)), ((4,), (2, 4))])
def test_products_entry_by_entry(dims):
    left, right = draw(ROWS, *dims[0]), draw(ROWS, *dims[1], seed=1)
    layer = layer_of(dims, type="Multiply")
    r = draw(OUTPUTS, ROWS, *layer.output_dim, seed=2)
    found = handed_down(layer, [left, right], rules.equal(), r)
    for k in range(OUTPUTS):
        for b in range(ROWS):
            half = r[k, b] / 2
            torch.testing.assert_close(found[0][k, b], shared(lambda x, b=b: x * right[b], left[b], half))
            torch.testing.assert_close(found[1][k, b], shared(lambda x, b=b: x * left[b], right[b], half))


@pytest.mark.parametrize("kind", ["MatMul", "Multiply"])
def test_one_factor_that_depends_on_the_inputs_gets_all(kind):
    dims = ((3, 3), (3, 3))
    xs, layer = [draw(ROWS, 3, 3), draw(ROWS, 3, 3, seed=1)], layer_of(dims, type=kind)
    r, rule = draw(OUTPUTS, ROWS, 3, 3, seed=2), rules.epsilon(0.0) if kind == "MatMul" else rules.equal()
    halves = handed_down(layer, xs, rule, r)
    for factor in (0, 1):
        found = layer.lrp_to_one(r, layer.record(*xs), rule, factor)
        torch.testing.assert_close(found[factor], 2 * halves[factor])
        assert found[1 - factor] is None
        torch.testing.assert_close(found[factor].sum((2, 3)), r.sum((2, 3)))


# -- normalisation -----------------------------------------------------------------------------------------------

NORMS = {
    "layer norm": ((6,), {"groups": 1, "eps": 1e-5}, lambda x, held: (x - x.mean()) / held.std(correction=0)),
    "positions": (
        (3, 4),
        {"groups": 3, "eps": 1e-5},
        lambda x, held: (x - x.mean(1, keepdim=True)) / held.std(1, correction=0, keepdim=True),
    ),
    "groups": (
        (4, 2, 2),
        {"groups": 2, "eps": 1e-5},
        lambda x, held: (
            (x.reshape(2, 8) - x.reshape(2, 8).mean(1, keepdim=True))
            / held.reshape(2, 8).std(1, correction=0, keepdim=True)
        ).reshape(4, 2, 2),
    ),
    "root mean square": ((6,), {"groups": 1, "eps": 1e-6, "center": False}, lambda x, held: x / held.norm() * 6**0.5),
    "length": ((5,), {"groups": 1, "eps": 0.0, "center": False, "factor": 5.0}, lambda x, held: x / held.norm()),
}


@pytest.mark.parametrize("epsilon", [0.0, 0.25])
@pytest.mark.parametrize("name", NORMS)
def test_norms(name, epsilon):
    """Epsilon for the linear map that is left when the standard deviation counts as a constant."""
    dim, keys, function = NORMS[name]
    x, layer = 100 * draw(ROWS, *dim), layer_of([dim], type="Standardize", **keys)  # so large that eps is nothing
    r = draw(OUTPUTS, ROWS, *dim, seed=1)
    found = handed_down(layer, [x], rules.epsilon(epsilon), r)[0]
    expected = by_row(lambda v, upper: shared(lambda u: function(u, v), v, upper, epsilon), x, r)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    if epsilon == 0:
        torch.testing.assert_close(found, handed_down(layer, [x], rules.simple(), r)[0], rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(found.flatten(2).sum(2), r.flatten(2).sum(2))
        if not layer.center:
            torch.testing.assert_close(found, r)  # each output has one input: relevance passes


def test_a_norm_may_take_the_gradient():
    x, r = draw(ROWS, 6), draw(OUTPUTS, ROWS, 6, seed=1)
    layer = layer_of([(6,)], type="Standardize", groups=1, eps=1e-5)
    expected = by_row(lambda v, upper: jacobian(lambda u: F.layer_norm(u, (6,)), v).T @ upper, x, r)
    torch.testing.assert_close(handed_down(layer, [x], rules.gradient(), r)[0], expected)
