"""Every type of layer, with options that are not its defaults, against plain arrays and dense Jacobians.

`test_layer_oracle.py` goes deep where R has rules; here every type of the spec is met, each rule once. What mutation
testing (`mutants.py`) found unnoticed is kept as a case.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from layer_cases import CASES, MORE
from layer_setting import (
    OUTPUTS,
    ROWS,
    Setting,
    cases,
    close,
    has_a_derivative,
    has_deeplift,
    has_lrp,
    has_weights,
    is_linear,
    is_maximum,
    is_mean,
    keeps_sums,
    label,
    other,
)
from one_of_each import LAYERS, draw
from plain_layers import FORWARD, average, maximum
from rules_of_r import rule_for
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from innsight_py import Converter, SpecError, UnsupportedLayerError
from innsight_py.functions.lrp import BIASES, CONSTANTS
from innsight_py.layers import DeepLiftRule, Layer

EPS = 1e-15
DTYPES = {"double": torch.float64, "float": torch.float32}
LINEAR_SHARE = ("Concatenate", "Flatten", "Reshape", "Permute", "Take", "Padding", "Resize", "Skipping", "Cast")
every = cases()


@every
def test_forward(kind, dims, keys):
    it = Setting(kind, dims, keys)
    close([it.at.preactivation], [it.linear(*it.xs)])
    close([it.at.output, it.layer(*it.xs)], [it.activated(*it.xs)] * 2)


@every
def test_gradient(kind, dims, keys):
    it = Setting(kind, dims, keys)
    with torch.no_grad():
        close(it.layer.gradient(it.upper, it.at), it.pull(it.upper, it.jacobians(it.activated, it.xs)))
        close(
            it.layer.gradient(it.upper, it.at, skip_activation=True), it.pull(it.upper, it.jacobians(it.linear, it.xs))
        )


@pytest.mark.parametrize("winner_takes_all", [True, False])
@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
class TestDeepLift:
    @cases(keeps_sums)
    def test_sums_are_kept(self, kind, dims, keys, rule, winner_takes_all):
        check_sums(*contributions(kind, dims, keys, DeepLiftRule(rule, winner_takes_all)))

    @cases(other(has_deeplift))
    def test_no_rule(self, kind, dims, keys, rule, winner_takes_all):
        with pytest.raises(UnsupportedLayerError):
            contributions(kind, dims, keys, DeepLiftRule(rule, winner_takes_all))

    @cases(is_maximum)
    def test_maximum(self, kind, dims, keys, rule, winner_takes_all):
        it, pulled = contributions(kind, dims, keys, DeepLiftRule(rule, winner_takes_all))
        if winner_takes_all:
            close(pulled, it.pull(it.upper, it.jacobians(it.linear, it.xs)))
        else:
            check_sums(it, pulled)

    @cases(is_linear)
    def test_is_the_gradient_of_a_linear_layer(self, kind, dims, keys, rule, winner_takes_all):
        it, pulled = contributions(kind, dims, keys, DeepLiftRule(rule, winner_takes_all))
        close(pulled, it.pull(it.upper, it.jacobians(it.linear, it.xs)))


def contributions(kind: str, dims: list, keys: dict, rule: DeepLiftRule) -> tuple[Setting, list[Tensor]]:
    """Return a layer and what its DeepLift rule makes of the multipliers above it."""
    it = Setting(kind, dims, keys)
    with torch.no_grad():
        return it, it.layer.deeplift(it.upper, it.at, it.ref, rule)


def check_sums(it: Setting, pulled: list[Tensor]) -> None:
    got = sum((m * (x - r)).flatten(2).sum(-1) for m, x, r in zip(pulled, it.xs, it.refs, strict=True))
    due = (it.upper * (it.at.output - it.ref.output)).flatten(2).sum(-1)
    close([got], [due], 1e-8)


@cases(has_a_derivative)
def test_deeplift_is_the_gradient_where_nothing_differs(kind, dims, keys):
    it = Setting(kind, dims, keys)
    with torch.no_grad():
        pulled = it.layer.deeplift(it.upper, it.at, it.at, DeepLiftRule("rescale"))
    close(pulled, it.pull(it.upper, it.jacobians(it.activated, it.xs)), 1e-7)


def share(terms: Tensor, z: Tensor, upper: Tensor) -> Tensor:
    """Share what comes to outputs in proportion to terms ``(B, out, in)``."""
    return torch.einsum("kbo,boi->kbi", upper.flatten(2) / away(z, EPS).flatten(1), terms)


def away(z: Tensor, epsilon: float, sign: int = 1) -> Tensor:
    """Stabilise a denominator."""
    return torch.where(z == 0, sign * float(np.float32(EPS)), z + epsilon * z.sign())


LRP_RULES = [("simple", None), ("epsilon", 0.1), ("alpha_beta", 2.0), ("alpha_beta", 1.0)]
lrp_rules = pytest.mark.parametrize("rule", LRP_RULES, ids=str)


@lrp_rules
@cases(other(has_lrp))
def test_layers_without_lrp(kind, dims, keys, rule):
    it = Setting(kind, dims, keys)
    with pytest.raises(UnsupportedLayerError):
        it.layer.lrp(it.upper, it.at, rule_for(it.layer, *rule))


#: MatMul has no alpha-beta, which the method refuses (`test_arguments.py`).
LRP_CASES = [
    (*case, rule) for case in CASES for rule in LRP_RULES
    if has_lrp(case[0], case[2]) and (case[0], rule[0]) != ("MatMul", "alpha_beta")
]  # fmt: skip


@pytest.mark.parametrize(("kind", "dims", "keys", "rule"), LRP_CASES, ids=label)
def test_lrp(kind, dims, keys, rule):
    it = Setting(kind, dims, keys)
    how = rule_for(it.layer, *rule)
    assert not it.layer.lrp_asked or it.layer.takes(how)
    with torch.no_grad():
        found = it.layer.lrp(it.upper, it.at, how)
    jacobians = it.jacobians(it.linear, it.xs)
    z = it.linear(*it.xs)
    if kind in LINEAR_SHARE or is_maximum(kind, keys) or kind in ("Activation", "GlobalPooling"):
        close(found, it.pull(it.upper, jacobians))
    elif kind in ("Add", "Multiply"):
        ones = it.jacobians(lambda *v: FORWARD["Add"](*v, {}), it.xs)
        close(found, [p / len(dims) for p in it.pull(it.upper, ones)])
    elif kind == "Reduce":
        spread = [(j != 0).double() / (j != 0).sum(-1, keepdim=True) for j in jacobians]
        close(found, it.pull(it.upper, spread))
    elif kind == "MatMul":
        epsilon = EPS if rule[0] == "simple" else rule[1]
        divided = it.upper / away(z, epsilon)
        close(found, [0.5 * x * p for x, p in zip(it.xs, it.pull(divided, jacobians), strict=True)], 1e-7)
    elif kind in ("BatchNorm", "Scale"):
        close(found, [_diagonal(it, jacobians[0], z, *rule)], 1e-6)
    else:
        close(found, [_affine(it, jacobians[0], z, *rule)], 1e-7)


def _affine(it: Setting, jacobian: Tensor, z: Tensor, rule: str, param: float) -> Tensor:
    terms = jacobian * it.xs[0].flatten(1).unsqueeze(1)
    if rule == "simple":
        found = share(terms, z, it.upper)
    elif rule == "epsilon":
        found = torch.einsum("kbo,boi->kbi", it.upper.flatten(2) / away(z, param).flatten(1), terms)
    else:
        bias = it.linear(torch.zeros_like(it.xs[0])).flatten(1)
        above, below = terms.clamp(min=0), terms.clamp(max=0)
        found = param * share(above, above.sum(-1) + bias.clamp(min=0), it.upper)
        found = found + (1 - param) * share(below, below.sum(-1) + bias.clamp(max=0), it.upper)
    return found.reshape(OUTPUTS, ROWS, *it.dims[0])


def _diagonal(it: Setting, jacobian: Tensor, z: Tensor, rule: str, param: float) -> Tensor:
    """Each output has one input: its share is its own term over the output."""
    terms = jacobian * it.xs[0].flatten(1).unsqueeze(1)
    z, flat = z.flatten(1), it.upper.flatten(2)
    own = terms.sum(-1)
    if rule == "simple":
        part = own / away(z, 0.0)
    elif rule == "epsilon":
        part = own / away(z, float(np.float32(param)))
    else:
        c = it.linear(torch.zeros_like(it.xs[0])).flatten(1)
        above = own.clamp(min=0) / away(own.clamp(min=0), 0.0).add(c.clamp(min=0))
        below = own.clamp(max=0) / away(own.clamp(max=0), 0.0, -1).add(c.clamp(max=0))
        part = param * above + (1 - param) * below
    to = (jacobian != 0).double()
    return torch.einsum("kbo,boi->kbi", flat * part, to).reshape(OUTPUTS, ROWS, *it.dims[0])


@lrp_rules
@cases(is_mean)
def test_lrp_of_means(kind, dims, keys, rule):
    """Where the winner does not take all, a maximum is treated as the mean of its window."""
    it = Setting(kind, dims, keys)
    with torch.no_grad():
        found = it.layer.lrp(it.upper, it.at, rule_for(it.layer, *rule, winner_takes_all=False))

    def mean(x: Tensor) -> Tensor:
        return means(x, kind, keys)

    (x,) = it.xs
    (windows,) = it.jacobians(mean, it.xs)
    terms = windows * x.flatten(1).unsqueeze(1)
    if rule[0] == "alpha_beta":
        alpha = rule[1]
        above = share(terms.clamp(min=0), mean(x.clamp(min=0)), it.upper)
        below = share(terms.clamp(max=0), mean(x.clamp(max=0)), it.upper)
        expected = alpha * above + (1 - alpha) * below
    else:
        z = away(mean(x), EPS if rule[0] == "simple" else rule[1])
        expected = torch.einsum("kbo,boi->kbi", it.upper.flatten(2) / z.flatten(1), terms)
    close(found, [expected.reshape(OUTPUTS, ROWS, *dims[0])], 1e-7)


def means(x: Tensor, kind: str, keys: dict) -> Tensor:
    """Take the mean over each window, zeros of the padding included."""
    if kind == "GlobalPooling":
        mean = x.flatten(2).mean(-1)
        return mean.reshape(*mean.shape, *[1] * (x.dim() - 2)) if keys.get("keepdims") else mean
    if kind == "AdaptivePooling":
        return F.adaptive_avg_pool1d(x, keys["output_size"])
    axes = x.dim() - 2
    dilation = keys.get("dilation", 1)
    if np.ptp(dilation) == 0 and np.max(dilation) == 1:
        return average(axes)(x, keys)
    kernel, strides, padding, dilation = (
        [value] * axes if isinstance(value, int) else list(value)
        for value in (keys["kernel_size"], keys.get("strides") or keys["kernel_size"], keys.get("padding", 0), dilation)
    )
    out = maximum(axes)(x, keys).shape[2:]
    total = x.new_zeros((*x.shape[:2], *out))
    for offset in itertools.product(*map(range, kernel)):
        for place in itertools.product(*map(range, out)):
            at = [p * s + o * d - q for p, s, o, d, q in zip(place, strides, offset, dilation, padding, strict=True)]
            if all(0 <= a < n for a, n in zip(at, x.shape[2:], strict=True)):
                total[(slice(None), slice(None), *place)] += x[(slice(None), slice(None), *at)]
    return total / math.prod(kernel)


@cases(is_mean)
def test_deeplift_of_means(kind, dims, keys):
    """The same for DeepLift, scaled so that sums are kept, where differences do not cancel."""
    it = Setting(kind, dims, keys)
    with torch.no_grad():
        found = it.layer.deeplift(it.upper, it.at, it.ref, DeepLiftRule("rescale", winner_takes_all=False))
    x, ref = it.xs[0], it.refs[0]
    (windows,) = it.jacobians(lambda v: means(v, kind, keys), it.xs)
    factor = (it.at.output - it.ref.output) / means(x - ref, kind, keys)
    expected = torch.einsum("kbo,boi->kbi", (it.upper * factor).flatten(2), windows)
    close(found, [expected.reshape(OUTPUTS, ROWS, *dims[0])], 1e-7)


@pytest.mark.parametrize(("dtype", "threshold"), [("double", 1e-5), ("float", 1e-2)])
@pytest.mark.parametrize("beside", [0.0, 0.5, 0.99, 1.01, 1.5])
def test_windows_that_nearly_cancel(dtype, threshold, beside):
    """There DeepLift shares by the squares of the differences; elsewhere it divides by their mean."""
    layers = [{"type": "MaxPooling1D", "name": "it", "kernel_size": 2}, {"type": "Flatten"}]
    layer = Converter({"input_dim": [1, 2], "layers": layers}, dtype=dtype).model.layer("it")
    ref, dx = np.array([0.5, 1.0]), np.array([1.0, 2 * beside * threshold - 1])
    rows = torch.tensor(np.stack([ref + dx, ref])[:, None], dtype=DTYPES[dtype])
    dx = (rows[0] - rows[1]).double().numpy()[0]
    at, at_ref = layer.record(rows[:1]), layer.record(rows[1:])
    with torch.no_grad():
        found = layer.deeplift(torch.ones_like(at.output)[None], at, at_ref, DeepLiftRule("rescale", False))[0]
    dy = 0.5  # the maximum was the second, 1, and is the first, 1.5
    expected = dy * dx / (dx**2).sum() if beside < 1 else np.full(2, dy / dx.sum())
    np.testing.assert_allclose(found.double().numpy().ravel(), expected, rtol=1e-9 if dtype == "double" else 1e-3)


@pytest.mark.parametrize("dtype", ["double", "float"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "softmax"])
@pytest.mark.parametrize("apart", [0.5, 1.0, 2.0])
def test_rescale_at_the_threshold(dtype, activation, apart):
    """As far apart as R's small number two values are still near: the derivative half-way counts (0 for a softmax)."""
    layer = Converter(
        {
            "input_dim": [1],
            "layers": [{"type": "Dense", "name": "it", "weight": [[1.0]], "activation_name": activation}],
        },
        dtype=dtype,
    ).model.layer("it")
    small = (1e-15 if dtype == "double" else 1e-6) * apart / 2
    x, ref = (torch.tensor([[value]], dtype=DTYPES[dtype]) for value in (small, -small))
    at, at_ref = layer.record(x), layer.record(ref)
    with torch.no_grad():
        found = layer.deeplift(torch.ones(1, 1, 1, dtype=x.dtype), at, at_ref, DeepLiftRule("rescale"))[0]
    middle = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    function = {"relu": torch.relu, "tanh": torch.tanh, "softmax": lambda z: z.softmax(0)}[activation]
    (derivative,) = torch.autograd.grad(function(middle), middle)
    secant = (function(x[0]) - function(ref[0])) / (x[0] - ref[0])
    assert activation != "relu" or float(secant) != float(derivative)
    close([found[0, 0]], [derivative.to(x.dtype) if apart <= 1 else secant], 1e-6)


@pytest.mark.parametrize("name", ["sparsemax", "softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [1, 2, -1, -2])
def test_sums_over_an_axis_are_kept(name, axis):
    """DeepLift through an activation that mixes the entries of an axis, by whichever number it is called."""
    layers = [{"type": "Activation", "name": "it", "act_name": name, "act_params": {"dim": axis}}, {"type": "Flatten"}]
    layer = Converter({"input_dim": [3, 4], "layers": layers}, dtype="double").model.layer("it")
    x, ref = (torch.randn(5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    at, at_ref = layer.record(x), layer.record(ref[:1])
    upper = torch.randn(2, 5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    (found,) = layer.deeplift(upper, at, at_ref, DeepLiftRule())
    over = axis + 1 if axis > 0 else axis
    got, due = (found * (x - ref[:1])).sum(over), (upper * (at.output - at_ref.output)).sum(over)
    torch.testing.assert_close(got, due)
    (here,) = layer.deeplift(upper, at, at, DeepLiftRule())
    torch.testing.assert_close(here, layer.gradient(upper, at)[0])


def layer_of(kind: str, dims: list, **keys: Any) -> Layer:
    names = [f"input_{i + 1}" for i in range(len(dims))]
    layers = [{"type": kind, "name": "it", "inputs": names, **keys}, {"type": "Flatten"}]
    return Converter({"input_dim": dims, "layers": layers}).model.layer("it")


EPSILON = "the rule epsilon does not hand on all relevance"


@pytest.mark.parametrize(
    ("layer", "rule", "reason"),
    [
        (layer_of("Dense", [(2,)], weight=draw(2, 2), bias=[0.0, 1.0]), (), BIASES),
        (layer_of("Dense", [(2,)], weight=draw(2, 2), bias=[0.0, 0.0]), (), None),
        (layer_of("Scale", [(2,)], shift=[0.0, 1.0]), (), CONSTANTS),
        (layer_of("Scale", [(2,)], factor=[0.0, 1.0]), (), None),
        (layer_of("Scale", [(2,)], factor=[0.0, 1.0]), ("epsilon",), EPSILON),
        (layer_of("Scale", [(2,)], shift=[0.0, 1.0]), ("pass",), None),
        (layer_of("MatMul", [(2, 2), (2, 2)]), (), None),
        (layer_of("MatMul", [(2, 2), (2, 2)]), ("epsilon",), EPSILON),
        (layer_of("MaxPooling1D", [(1, 4)], kernel_size=2), ("epsilon",), None),
        (layer_of("MaxPooling1D", [(1, 4)], kernel_size=2), ("simple", None, False), None),
        (layer_of("MaxPooling1D", [(1, 4)], kernel_size=2), ("epsilon", None, False), EPSILON),
        (layer_of("GlobalPooling", [(1, 4)], method="max", winner_always=True), ("epsilon", None, False), None),
        (layer_of("GlobalPooling", [(1, 4)], method="max"), ("epsilon", None, False), EPSILON),
    ],
)  # fmt: skip
def test_why_relevance_may_be_lost(layer, rule, reason):
    assert layer.lrp_loss(rule_for(layer, *rule)) == reason


@pytest.mark.parametrize("winner_takes_all", [True, False])
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("activation", ["linear", "relu", "tanh", "softmax"])
def test_why_contributions_may_be_lost(activation, skip, winner_takes_all):
    rule = DeepLiftRule("rescale", winner_takes_all)
    dense = layer_of("Dense", [(2,)], weight=draw(2, 2), activation_name=activation)
    reason = dense.deeplift_loss(rule, skip_activation=skip)
    assert (reason is not None) == (activation == "softmax" and not skip)
    assert layer_of("Activation", [(2,)], act_name=activation).deeplift_loss(rule, skip_activation=skip) is None
    for kind, keys in (("MaxPooling1D", {"kernel_size": 2}), ("GlobalPooling", {"method": "max"})):
        reason = layer_of(kind, [(1, 4)], **keys).deeplift_loss(rule, skip_activation=skip)
        assert (reason is not None) == winner_takes_all
    always = layer_of("GlobalPooling", [(1, 4)], method="max", winner_always=True)
    assert "as in R" in str(always.deeplift_loss(rule, skip_activation=skip))


@pytest.mark.parametrize(
    ("kind", "dims", "keys"),
    [("MatMul", [(2,), (2,)], {}), ("MatMul", [(2,), (2, 3)], {}), ("MatMul", [(3, 2), (2,)], {}),
     ("GlobalPooling", [(4,)], {"method": "max"}), ("GlobalPooling", [(4,)], {"method": "average"})],
)  # fmt: skip
def test_what_has_too_few_axes_is_refused(kind, dims, keys):
    with pytest.raises(SpecError, match="axes"):
        layer_of(kind, dims, **keys)


def _indicator(it: Setting, x: Tensor) -> Tensor:
    """Sum each window: the windows themselves come out as the Jacobian."""
    keys = it.keys
    if it.kind == "GlobalPooling":
        return x.flatten(2).sum(-1)
    if it.kind == "AdaptivePooling":
        return F.adaptive_avg_pool1d(x, keys["output_size"])
    axes = len(it.dims[0]) - 1
    kernel = [keys["kernel_size"]] * axes if isinstance(keys["kernel_size"], int) else keys["kernel_size"]
    ones = torch.ones(it.dims[0][0], 1, *kernel, dtype=x.dtype)
    function = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    return function(x, ones, None, keys.get("strides") or kernel, 0, keys.get("dilation", 1), it.dims[0][0])


@cases(other(has_weights))
def test_layers_without_connection_weights(kind, dims, keys):
    it = Setting(kind, dims, keys)
    with pytest.raises(UnsupportedLayerError):
        it.layer.connection_weights(it.upper[:, :1])


@cases(has_weights)
def test_connection_weights(kind, dims, keys):
    it = Setting(kind, dims, keys)
    g = it.upper[:, :1]
    with torch.no_grad():
        found = it.layer.connection_weights(g)
    ones = [torch.ones(1, *dim, dtype=torch.float64) for dim in dims]
    jacobians = it.jacobians(it.linear, ones)
    if kind in ("Add", "Reduce"):
        jacobians = [
            (j != 0).double() / (len(dims) if kind == "Add" else (j != 0).sum(-1, keepdim=True)) for j in jacobians
        ]
    if kind == "GlobalPooling":
        jacobians = [
            j.new_tensor(1 / math.prod(dims[0][1:])) * (it.jacobians(lambda x: _indicator(it, x), ones)[0])
            for j in jacobians
        ]
    if is_maximum(kind, keys) and kind != "GlobalPooling":
        first = [
            j.flatten(2)
            for j in it.jacobians(it.linear, [1 - 1e-6 * torch.arange(ones[0].numel()).reshape(ones[0].shape).double()])
        ]
        jacobians = first
    expected = [
        torch.einsum("kbo,boi->kbi", g.flatten(2), j).reshape(OUTPUTS, 1, *d)
        for j, d in zip(jacobians, dims, strict=True)
    ]
    close(found, expected)


def test_every_type_is_met():
    assert {kind for kind, _, _ in CASES} == set(LAYERS) == set(FORWARD)
    assert len(MORE) > len(LAYERS)


def test_the_winner_takes_all_by_default():
    """As in R."""
    layer = layer_of("MaxPooling1D", [(1, 4)], kernel_size=2)
    assert layer.deeplift_loss(DeepLiftRule()) == layer.deeplift_loss(DeepLiftRule(winner_takes_all=True)) is not None
    assert layer.lrp_loss(rule_for(layer, "epsilon")) is None
