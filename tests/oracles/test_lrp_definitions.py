"""Every rule of LRP on every layer that takes it, against the dense definitions of `lrp_definitions`."""

from __future__ import annotations

import inspect

import lrp_definitions
import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from innsight_py import Converter, rules
from innsight_py.functions.lrp import RULES, Shares

RNG = np.random.default_rng(17)
ROWS, OUTPUTS = 3, 2


def draw(*shape):
    return RNG.normal(size=shape)


def conv(n, transposed=False):
    return getattr(F, f"conv_transpose{n}d" if transposed else f"conv{n}d")


def convolution(n, size, weight, **keys):
    """Describe a convolution: shape of the input, layer of the spec, and what it computes for a weight and a bias."""
    padding = keys.get("padding", (0,) * n)
    sides = [side for side in reversed(padding) for _ in range(2)]  # the spec's, both ends of the last axis first
    layer = {"type": f"Conv{n}D", "weight": weight, **keys, "padding": sides}
    rest = padding, keys.get("dilation", 1), keys.get("groups", 1)
    return [size], layer, lambda x, w, b: conv(n)(x, w, b, keys.get("stride", 1), *rest)


def transposed(n, size, weight, **keys):
    layer = {"type": f"Conv{n}DTranspose", "weight": weight, **keys}
    usual = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
    rest = [keys.get(key, value) for key, value in usual.items()]
    return [size], layer, lambda x, w, b: conv(n, True)(x, w, b, *rest)


def plain(size, compute, /, count=1, **layer):
    """Describe a layer without weights."""
    return [size] * count, layer, compute


def with_bias(case, bias):
    return case[0], {**case[1], "bias": bias}, case[2]


SPARSE = draw(4, 5)
SPARSE[0], SPARSE[1, :3] = 0.0, 0.0
WEIGHTED = {
    "Dense": ([(5,)], {"type": "Dense", "weight": draw(4, 5)}, F.linear),
    "Dense, bias": ([(5,)], {"type": "Dense", "weight": draw(4, 5), "bias": draw(4)}, F.linear),
    "Dense, zeros": ([(5,)], {"type": "Dense", "weight": SPARSE, "bias": [0.0, 1.0, -1.0, 0.0]}, F.linear),
    "Dense, two axes": ([(2, 5)], {"type": "Dense", "weight": draw(4, 5), "bias": draw(4)}, F.linear),
    "Conv1D": with_bias(convolution(1, (4, 7), draw(6, 2, 3), stride=2, padding=(1,), dilation=2, groups=2), draw(6)),
    "Conv2D": with_bias(convolution(2, (2, 5, 4), draw(3, 2, 2, 3), stride=(2, 1), padding=(1, 2)), draw(3)),
    "Conv2D, no bias": convolution(2, (2, 4, 4), draw(3, 2, 2, 2)),
    "Conv2D, depthwise": with_bias(convolution(2, (3, 4, 4), draw(6, 1, 2, 2), groups=3), draw(6)),
    "Conv3D": with_bias(convolution(3, (1, 3, 4, 3), draw(2, 1, 2, 2, 2), stride=(1, 2, 1)), draw(2)),
    "Conv1DTranspose": with_bias(transposed(1, (2, 4), draw(2, 3, 3), stride=2, padding=1, output_padding=1), draw(3)),
    "Conv2DTranspose": with_bias(transposed(2, (4, 3, 3), draw(4, 1, 2, 3), stride=(2, 1), groups=2), draw(2)),
    "Conv3DTranspose": transposed(3, (1, 2, 2, 2), draw(1, 2, 2, 2, 2), dilation=(1, 2, 1)),
}  # fmt: skip
WEIGHTLESS = {
    "AveragePooling1D": plain(
        (2, 7), lambda x: F.avg_pool1d(x, 3, 2, 1), type="AveragePooling1D", kernel_size=3, strides=2, padding=1
    ),
    "AveragePooling2D": plain(
        (2, 4, 5),
        lambda x: F.avg_pool2d(x, (2, 3), 1, 1, count_include_pad=False),
        type="AveragePooling2D",
        kernel_size=[2, 3],
        strides=1,
        padding=1,
        count_include_pad=False,
    ),
    "AveragePooling3D": plain(
        (1, 3, 3, 3),
        lambda x: F.avg_pool3d(x, 2, ceil_mode=True),
        type="AveragePooling3D",
        kernel_size=2,
        ceil_mode=True,
    ),
    "AdaptivePooling": plain(
        (2, 7), lambda x: F.adaptive_avg_pool1d(x, 3), type="AdaptivePooling", method="average", output_size=[3]
    ),
    "GlobalPooling": plain((2, 3, 2), lambda x: x.mean((2, 3)), type="GlobalPooling", method="average"),
    "Reduce, sum": plain((2, 3), lambda x: x.sum(2), type="Reduce", method="sum", axes=[2]),
    "Reduce, mean": plain(
        (2, 3, 2), lambda x: x.mean((1, 3), keepdim=True), type="Reduce", method="mean", axes=[1, 3], keepdims=True
    ),
    "Add": plain((2, 3), lambda *x: sum(x), count=3, type="Add"),
    "Resize, nearest": plain((1, 4), lambda x: F.interpolate(x, 7), type="Resize", size=[7]),
    "Resize, linear": plain(
        (2, 3, 3), lambda x: F.interpolate(x, (5, 4), mode="bilinear"), type="Resize", size=[5, 4], mode="bilinear"
    ),
    "Resize, corners": plain(
        (1, 4),
        lambda x: F.interpolate(x, 7, mode="linear", align_corners=True),
        type="Resize",
        size=[7],
        mode="linear",
        align_corners=True,
    ),
    "Resize, factor": plain(
        (1, 4, 3),
        lambda x: F.interpolate(x, scale_factor=(1.7, 2.0), mode="bilinear"),
        type="Resize",
        size=[6, 6],
        scale_factor=[1.7, 2.0],
        mode="bilinear",
    ),
    "Resize, bicubic": plain(
        (1, 4, 3), lambda x: F.interpolate(x, (6, 5), mode="bicubic"), type="Resize", size=[6, 5], mode="bicubic"
    ),
}
K, C = draw(3, 1), draw(3, 1)
DIAGONAL = {
    "BatchNorm": (
        [(3, 4)],
        {
            "type": "BatchNorm",
            "gamma": K[:, 0],
            "beta": C[:, 0],
            "run_mean": [0.0] * 3,
            "run_var": [1.0] * 3,
            "eps": 0.0,
        },
        lambda x, w, b: x * w + b,
    ),
    "Scale": ([(3, 4)], {"type": "Scale", "factor": K, "shift": C}, lambda x, w, b: x * w + b),
}
CASES = WEIGHTED | WEIGHTLESS | DIAGONAL
#: Rules with parameters that are not their defaults, by name.
PARAMETERS = {
    "epsilon": {"epsilon": 0.125},
    "alpha_beta": {"alpha": 2.0},
    "gamma": {"gamma": 0.7},
    "z_box": {"low": -2.5, "high": 4.0},
}
NAMES = {
    "pass_" if name == "pass" else name for name, value in RULES.items() if value.__module__.startswith("innsight_py")
}


def matrices(name):
    """Return the matrix of a case, its bias, and which outputs are connected with which inputs."""
    dims, layer, compute = CASES[name]
    weight, bias = None, torch.zeros(())
    if name in DIAGONAL:
        weight, bias = torch.tensor(K), torch.tensor(C)
    elif name in WEIGHTED:
        weight = torch.tensor(layer["weight"])
        bias = torch.tensor(np.asarray(layer.get("bias", np.zeros(1000)), np.float64))
        if "bias" not in layer:
            bias = None

    def run(w, b):
        size = int(np.prod(dims[0]))
        basis = torch.eye(size * len(dims), dtype=torch.float64)
        xs = [part.reshape(-1, *dims[0]) for part in basis.split(size, 1)]
        zero = [torch.zeros(1, *dims[0], dtype=torch.float64) for _ in dims]
        at = (lambda xs: compute(*xs)) if w is None else lambda xs: compute(*xs, w, b)
        origin = at(zero).flatten(1)
        return (at(xs).flatten(1) - origin).T.numpy(), origin[0].numpy()

    w, b = run(weight, bias)
    linked = run(None if weight is None else torch.ones_like(weight), None if bias is None else 0 * bias)[0] != 0
    return w, b, linked


def layer_of(name, dtype):
    dims, layer, _ = CASES[name]
    inputs = [f"input_{i + 1}" for i in range(len(dims))]
    end = {"type": "Flatten", "inputs": ["it"]}
    spec = {"input_dim": list(dims), "layers": [{**layer, "name": "it", "inputs": inputs}, end]}
    return Converter(spec).model_in(dtype).layer("it")


def inputs_of(name, signs):
    dims = CASES[name][0]
    xs = [np.random.default_rng(3 + i).normal(size=(ROWS, *dim)) for i, dim in enumerate(dims)]
    xs[0][0, ..., 0] = 0.0
    return {"mixed": xs, "positive": [np.abs(x) for x in xs], "negative": [-np.abs(x) for x in xs]}[signs]


def compare(name, rule, definition, parameters, signs="mixed", dtype="double"):
    """Compare what a layer hands down with a definition, row by row and output by output."""
    torch_type = {"double": torch.float64, "float": torch.float32}[dtype]
    layer, xs = layer_of(name, dtype), inputs_of(name, signs)
    w, b, linked = matrices(name)
    record = layer.record(*(torch.tensor(x, dtype=torch_type) for x in xs))
    r = np.random.default_rng(5).normal(size=(OUTPUTS, ROWS, *layer.output_dim))
    found = layer.lrp(torch.tensor(r, dtype=torch_type), record, rule)
    flat = np.concatenate([x.flatten(2).double().numpy() for x in found], -1)
    x = np.concatenate([x.reshape(ROWS, -1) for x in xs], 1)
    expected = np.zeros_like(flat)
    for k in range(OUTPUTS):
        for row in range(ROWS):
            expected[k, row] = definition(x[row], w, b, r[k, row].ravel(), linked, **parameters)
    scale = np.abs(expected).max()
    assert scale > 0 or (signs == "negative" and rule.name == "z_plus")  # nothing raises a sum of negative numbers
    np.testing.assert_allclose(flat, expected, rtol=0, atol=(1e-9 if dtype == "double" else 2e-3) * scale)


def takes(name):
    layer = layer_of(name, "double")
    return [key for key, kind in RULES.items() if issubclass(kind, layer.lrp_kinds) and key in vars(lrp_definitions)]


EVERY = [(name, rule) for name in CASES for rule in takes(name)]


def test_no_rule_is_forgotten():
    assert {name for name, value in vars(lrp_definitions).items() if "linked" in _parameters(value)} - {
        "hand_down"
    } == NAMES - {"taylor", "block"}  # no matrices: by Jacobians in test_attention_rules.py
    assert set(rules.__all__) - {"Rule"} == NAMES
    met = {rule for _, rule in EVERY}
    assert met | {"pass_", "winner"} | {"taylor", "block"} == NAMES  # tests below, and in test_attention_rules.py
    for name in WEIGHTED:
        weighted = {"simple", "epsilon", "alpha_beta", "gamma", "z_plus", "z_box", "w_square", "flat"}
        assert {rule for case, rule in EVERY if case == name} == weighted
    for name in set(WEIGHTLESS) - {"Resize, bicubic"}:
        assert {"proportional", "equal", "gamma", "flat"} < {rule for case, rule in EVERY if case == name}


def _parameters(value):
    return inspect.signature(value).parameters if inspect.isfunction(value) else ()


@pytest.mark.parametrize(("name", "rule"), EVERY)
def test_rule(name, rule):
    kind, definition, parameters = RULES[rule], getattr(lrp_definitions, rule), PARAMETERS.get(rule, {})
    for signs in ("mixed", "positive", "negative"):
        if not issubclass(kind, Shares):
            compare(name, kind(), definition, {}, signs)
            continue
        for bias in ("keep", "zero", "share"):
            compare(name, kind(**parameters, bias=bias), definition, parameters | {"bias": bias}, signs)


@pytest.mark.parametrize("rule", sorted({rule for _, rule in EVERY}))
def test_single_precision(rule):
    name = next(name for name in ("Conv2D", "AveragePooling2D", "BatchNorm") if (name, rule) in EVERY)
    parameters = PARAMETERS.get(rule, {})
    definition = getattr(lrp_definitions, rule)
    compare(name, RULES[rule](**parameters), definition, parameters, signs="positive", dtype="float")


@pytest.mark.parametrize("name", DIAGONAL)
def test_pass(name):
    compare(name, rules.pass_(), lrp_definitions.pass_, {})


def test_winner():
    x = np.random.default_rng(1).integers(0, 3, size=(ROWS, 2, 6)).astype(float)
    layer = {"type": "MaxPooling1D", "kernel_size": 3, "strides": 1, "name": "it"}
    model = Converter({"input_dim": [2, 6], "layers": [layer, {"type": "Flatten"}]}).model_in("double")
    r = np.random.default_rng(2).normal(size=(OUTPUTS, ROWS, 2, 4))
    found = model.layer("it").lrp(torch.tensor(r), model.layer("it").record(torch.tensor(x)), rules.winner())[0].numpy()
    linked = np.array([[i <= j < i + 3 for j in range(6)] for i in range(4)])
    for k, row, channel in np.ndindex(OUTPUTS, ROWS, 2):
        expected = lrp_definitions.winner(x[row, channel], None, None, r[k, row, channel], linked)
        np.testing.assert_allclose(found[k, row, channel], expected, atol=1e-12)


@pytest.mark.parametrize("rule", ["simple", "gamma", "z_box", "w_square"])
def test_stabilizers(rule):
    """A number keeps its sign and distance from 0; a function decides for itself."""
    kind, parameters = RULES[rule], PARAMETERS.get(rule, {})

    def definition(x, w, b, r, linked, **more):
        found = np.zeros(len(x))
        for j in range(len(r)):  # from an exact rule and the denominators: a share of R / z becomes one of R / (z + s)
            one = slice(j, j + 1)
            exact = getattr(lrp_definitions, rule)(x, w[one], b[one], np.ones(1), linked[one], **more)
            found += exact * r[j] * _damping(rule, x, w[j], b[j], **more)
        return found

    compare("Dense, bias", kind(**parameters, stabilizer=0.25), definition, parameters)
    compare("Dense, bias", kind(**parameters, stabilizer=lambda z: z + 0.25 * z.sgn()), definition, parameters)


def test_stabilizer_of_two_denominators():
    """The rule alpha-beta divides by both signed parts: a number and a function do the same."""
    layer = layer_of("Dense, bias", "double")
    record = layer.record(torch.tensor(inputs_of("Dense, bias", "mixed")[0]))
    r, kind = torch.ones(1, ROWS, 4, dtype=torch.float64), RULES["alpha_beta"]
    number = layer.lrp(r, record, kind(2, stabilizer=0.25))[0]
    function = layer.lrp(r, record, kind(2, stabilizer=lambda z: z + 0.25 * z.sgn()))[0]
    torch.testing.assert_close(number, function)
    assert not torch.allclose(number, layer.lrp(r, record, kind(2))[0])


def _damping(rule, x, w, b, gamma=0.0, low=0.0, high=0.0):
    z = {
        "simple": lambda: w @ x + b,
        "gamma": lambda: _raised(w * x, b, gamma),
        "z_box": lambda: (w * x - np.maximum(w, 0) * low - np.minimum(w, 0) * high).sum(),
        "w_square": lambda: (w**2).sum() + b**2,
    }[rule]()
    return z / (z + 0.25 * np.sign(z))


def _raised(terms, b, gamma):
    part = np.maximum if terms.sum() + b > 0 else np.minimum
    return terms.sum() + b + gamma * (part(terms, 0).sum() + part(b, 0))
