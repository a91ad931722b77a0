"""The model spec: every key of every layer type, every refusal, and the way back into a dict."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from ids import without_address
from torch.nn import functional as F  # noqa: N812

from innsight_py import Converter, Gradient, SpecError
from innsight_py.functions.activations import activation_names
from innsight_py.spec import check_spec, spec_as_dict

RNG = np.random.default_rng(1)
W1 = RNG.normal(size=(3, 2, 3))  # Conv1D: (out channels, in channels, length)
W2 = RNG.normal(size=(3, 2, 3, 2))  # Conv2D: (out channels, in channels, height, width)
B3 = RNG.normal(size=3)
GAMMA, BETA, MEAN = RNG.normal(size=(3, 2))
VAR = RNG.uniform(1, 4, 2)


def dense(out: int = 2, ins: int = 3, **keys) -> dict:
    rng = np.random.default_rng(out * 100 + ins)
    return {"type": "Dense", "weight": rng.normal(size=(out, ins)), "bias": rng.normal(size=out), **keys}


def spec(*layers: dict, dim=(3,), **keys) -> dict:
    return {"input_dim": list(dim), "layers": list(layers), **keys}


def batch(*dim: int) -> torch.Tensor:
    return torch.randn(4, *dim, dtype=torch.float64, generator=torch.Generator().manual_seed(len(dim)))


def run(model: dict, *inputs: torch.Tensor) -> torch.Tensor:
    """Run a one-output spec in double precision."""
    return Converter(model, dtype="double").model(*inputs)[0]


def tensor(x) -> torch.Tensor:
    return torch.tensor(np.asarray(x, np.float64))


def check_forward(layer: dict, dim: tuple[int, ...], expected: torch.Tensor) -> None:
    """Compare a layer, flattened so that it may end a model, with what torch makes of the same input."""
    last = [{"type": "Flatten"}] if expected.dim() > 2 else []
    found = run(spec(layer, *last, dim=dim), batch(*dim))
    torch.testing.assert_close(found, expected.flatten(1), rtol=1e-12, atol=1e-12, equal_nan=True)


# -- what each key means ----------------------------------------------------------------------------------------


def rowwise(function, z):
    return torch.stack([tensor(function(row.tolist())) for row in z])


def onto_simplex(row):
    """Project numbers onto those that are not negative and sum to 1, by bisection."""
    low, high = min(row) - 1, max(row)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(max(v - middle, 0) for v in row) > 1 else (low, middle)
    return [max(v - low, 0) for v in row]


def as_keras(row):
    """Compute what Keras 3.15 has for its sparsemax, number by number."""
    down = sorted(row, reverse=True)
    sums = [sum(down[: k + 1]) for k in range(len(row))]
    kept = [k for k in range(len(row)) if down[k] - (sums[k] - 1) / (k + 1) > 0]
    threshold = (sum(sums[k] for k in kept) - 1) / len(kept)
    return [max(v - threshold, 0) for v in row]


ACTIVATIONS = {
    "linear": lambda z: z,
    "relu": torch.relu,
    "leaky_relu": lambda z: torch.where(z > 0, z, 0.01 * z),
    "softplus": lambda z: torch.log1p(z.exp()),
    "sigmoid": lambda z: 1 / (1 + (-z).exp()),
    "logistic": lambda z: 1 / (1 + (-z).exp()),
    "softmax": lambda z: z.exp() / z.exp().sum(-1, keepdim=True),
    "tanh": torch.tanh,
    "log_softmax": lambda z: z - z.exp().sum(-1, keepdim=True).log(),
    "relu6": lambda z: z.clamp(0, 6),
    "elu": lambda z: torch.where(z > 0, z, z.exp() - 1),
    "selu": lambda z: (
        1.0507009873554804934193349852946 * torch.where(z > 0, z, 1.6732632423543772848170429916717 * (z.exp() - 1))
    ),
    "celu": lambda z: torch.where(z > 0, z, z.exp() - 1),
    "gelu": lambda z: z * 0.5 * (1 + torch.erf(z / 2**0.5)),
    "silu": lambda z: z / (1 + (-z).exp()),
    "mish": lambda z: z * torch.tanh(torch.log1p(z.exp())),
    "softsign": lambda z: z / (1 + z.abs()),
    "hardsigmoid": lambda z: (z / 6 + 0.5).clamp(0, 1),
    "hardswish": lambda z: z * (z / 6 + 0.5).clamp(0, 1),
    "hardtanh": lambda z: z.clamp(-1, 1),
    "logsigmoid": lambda z: -torch.log1p((-z).exp()),
    "prelu": lambda z: torch.where(z > 0, z, 0.25 * z),
    "threshold": lambda z: torch.where(z > 0, z, 0),
    "softshrink": lambda z: torch.where(z.abs() > 0.5, z - 0.5 * z.sign(), 0),
    "hardshrink": lambda z: torch.where(z.abs() > 0.5, z, 0),
    "clamp": lambda z: z,
    "exp": torch.exp,
    "expm1": lambda z: z.exp() - 1,
    "log": torch.log,
    "log1p": lambda z: (1 + z).log(),
    "sqrt": torch.sqrt,
    "rsqrt": lambda z: 1 / z.sqrt(),
    "reciprocal": lambda z: 1 / z,
    "abs": lambda z: z * z.sign(),
    "pow": lambda z: z * z,
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
    "atan": torch.atan,
    "sign": lambda z: (z > 0).double() - (z < 0).double(),
    "sparsemax": lambda z: rowwise(onto_simplex, z),
    "keras_sparsemax": lambda z: rowwise(as_keras, z),
    "general_relu": F.relu,
    "squareplus": lambda z: z / 2 + (z * z / 4 + 1).sqrt(),
    "sparse_plus": lambda z: torch.where(z > 1, z, torch.where(z < -1, 0, ((z + 1) / 2) ** 2)),
    "tanhshrink": lambda z: z - z.tanh(),
}
WITH_PARAMS = [
    ("leaky_relu", {"negative_slope": 0.3}, lambda z: torch.where(z > 0, z, 0.3 * z)),
    ("leaky_relu", {"negative_slope": 2}, lambda z: torch.where(z > 0, z, 2 * z)),  # a whole number is a number
    ("softplus", {"beta": 2.0}, lambda z: torch.log1p((2 * z).exp()) / 2),
    ("softplus", {"threshold": 0.5}, lambda z: torch.where(z > 0.5, z, torch.log1p(z.exp()))),
    ("elu", {"alpha": 0.5}, lambda z: torch.where(z > 0, z, 0.5 * (z.exp() - 1))),
    ("celu", {"alpha": 0.5}, lambda z: torch.where(z > 0, z, 0.5 * ((z / 0.5).exp() - 1))),
    ("gelu", {"approximate": "tanh"}, lambda z: F.gelu(z, approximate="tanh")),
    ("hardtanh", {"min_val": -0.2, "max_val": 0.4}, lambda z: z.clamp(-0.2, 0.4)),
    ("softmax", {"dim": 1}, lambda z: z.softmax(1)),
    ("log_softmax", {"dim": -1}, lambda z: z.log_softmax(-1)),
    ("threshold", {"threshold": 0.5, "value": -1.0}, lambda z: torch.where(z > 0.5, z, -1.0)),
    ("softshrink", {"lambd": 0.2}, lambda z: torch.where(z.abs() > 0.2, z - 0.2 * z.sign(), 0)),
    ("hardshrink", {"lambd": 0.2}, lambda z: torch.where(z.abs() > 0.2, z, 0)),
    ("clamp", {"min": -0.2, "max": 0.4}, lambda z: z.clamp(-0.2, 0.4)),
    ("pow", {"exponent": 3.0}, lambda z: z * z * z),
    ("hardsigmoid", {"alpha": 0.2, "beta": 0.4}, lambda z: (0.2 * z + 0.4).clamp(0, 1)),
    ("squareplus", {"b": 1.0}, lambda z: z / 2 + (z * z / 4 + 0.25).sqrt()),
    ("general_relu", {"max_value": 0.5}, lambda z: z.clamp(0, 0.5)),
    (
        "general_relu",
        {"negative_slope": 0.1, "threshold": 0.3, "max_value": 0.6},
        lambda z: torch.where(z > 0.6, 0.6, torch.where(z > 0.3, z, 0.1 * (z - 0.3))),
    ),
    ("prelu", {"weight": (0.3,), "shape": (1,)}, lambda z: torch.where(z > 0, z, 0.3 * z)),
]


@pytest.mark.parametrize("name", activation_names())
def test_activation(name):
    z = batch(3)
    check_forward({"type": "Activation", "act_name": name}, (3,), ACTIVATIONS[name](z))
    layer = dense(activation_name=name)
    check_forward(layer, (3,), ACTIVATIONS[name](F.linear(z, tensor(layer["weight"]), tensor(layer["bias"]))))


@pytest.mark.parametrize(("name", "params", "function"), WITH_PARAMS)
def test_activation_with_parameters(name, params, function):
    z = batch(3)
    check_forward({"type": "Activation", "act_name": name, "act_params": params}, (3,), function(z))
    layer = dense(activation_name=name, activation_params=params)
    check_forward(layer, (3,), function(F.linear(z, tensor(layer["weight"]), tensor(layer["bias"]))))


@pytest.mark.parametrize("channels", [1, -3])
def test_softmax_over_channels(channels):
    """Axes count the batch, as everywhere."""
    x = batch(2, 4, 5)
    layer = {"type": "Activation", "act_name": "softmax", "act_params": {"dim": channels}}
    check_forward(layer, (2, 4, 5), x.softmax(1))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"bias": B3}, lambda z: z + tensor(B3)),
        ({}, lambda z: z),
        ({"bias": None}, lambda z: z),
        ({"bias": B3, "activation_name": None, "activation_params": None}, lambda z: z + tensor(B3)),
        ({"bias": B3, "activation_name": "relu"}, lambda z: (z + tensor(B3)).relu()),
    ],
)
def test_dense(keys, expected):
    weight = W1[:, :, 0]
    check_forward({"type": "Dense", "weight": weight, **keys}, (2,), expected(batch(2) @ tensor(weight).T))


@pytest.mark.parametrize(
    ("keys", "stride", "pad", "dilation"),
    [
        ({}, 1, (0, 0), 1),
        ({"stride": 2}, 2, (0, 0), 1),
        ({"stride": [2]}, 2, (0, 0), 1),
        ({"stride": np.array([2])}, 2, (0, 0), 1),
        ({"stride": np.int64(2)}, 2, (0, 0), 1),
        ({"stride": np.array(2)}, 2, (0, 0), 1),
        ({"strides": 3}, 3, (0, 0), 1),
        ({"dilation": 2}, 1, (0, 0), 2),
        ({"dilation_rate": [2]}, 1, (0, 0), 2),
        ({"padding": 1}, 1, (1, 1), 1),
        ({"padding": [2]}, 1, (2, 2), 1),
        ({"padding": (2, 0)}, 1, (2, 0), 1),
        ({"padding": [0, 3], "stride": 2, "dilation": 2}, 2, (0, 3), 2),
        ({"padding": torch.Size([1, 2]), "strides": (2,), "dilation_rate": 3}, 2, (1, 2), 3),
    ],
)
@pytest.mark.parametrize("bias", [None, B3])
def test_conv1d(keys, stride, pad, dilation, bias):
    expected = F.conv1d(
        F.pad(batch(2, 9), pad), tensor(W1), None if bias is None else tensor(bias), stride=stride, dilation=dilation
    ).tanh()
    layer = {"type": "Conv1D", "weight": W1, "bias": bias, "activation_name": "tanh", **keys}
    check_forward(layer, (2, 9), expected)


@pytest.mark.parametrize(
    ("keys", "stride", "pad", "dilation"),
    [
        ({}, (1, 1), (0, 0, 0, 0), (1, 1)),
        ({"stride": 2}, (2, 2), (0, 0, 0, 0), (1, 1)),
        ({"stride": [2, 1]}, (2, 1), (0, 0, 0, 0), (1, 1)),
        ({"strides": (1, 3)}, (1, 3), (0, 0, 0, 0), (1, 1)),
        ({"dilation": 2}, (1, 1), (0, 0, 0, 0), (2, 2)),
        ({"dilation_rate": [1, 2]}, (1, 1), (0, 0, 0, 0), (1, 2)),
        ({"padding": 1}, (1, 1), (1, 1, 1, 1), (1, 1)),
        ({"padding": [2]}, (1, 1), (2, 2, 2, 2), (1, 1)),
        ({"padding": [1, 2]}, (1, 1), (1, 1, 2, 2), (1, 1)),  # left and right, top and bottom
        ({"padding": [1, 0, 2, 3]}, (1, 1), (1, 0, 2, 3), (1, 1)),
        ({"padding": np.array([0, 2, 1, 0]), "stride": (2, 1), "dilation": [1, 2]}, (2, 1), (0, 2, 1, 0), (1, 2)),
    ],
)
def test_conv2d(keys, stride, pad, dilation):
    expected = F.conv2d(F.pad(batch(2, 7, 6), pad), tensor(W2), tensor(B3), stride=stride, dilation=dilation)
    check_forward({"type": "Conv2D", "weight": W2, "bias": B3, **keys}, (2, 7, 6), expected)


@pytest.mark.parametrize("kind", ["Max", "Average"])
@pytest.mark.parametrize(
    ("axes", "keys", "kernel", "stride"),
    [
        (1, {"kernel_size": 3}, 3, 3),  # strides: the kernel
        (1, {"kernel_size": [2], "strides": 1}, 2, 1),
        (1, {"kernel_size": (2,), "stride": [3]}, 2, 3),
        (2, {"kernel_size": 2}, 2, 2),
        (2, {"kernel_size": [3, 2]}, (3, 2), (3, 2)),
        (2, {"kernel_size": [3, 2], "strides": None}, (3, 2), (3, 2)),
        (2, {"kernel_size": (2, 3), "strides": 1}, (2, 3), 1),
        (2, {"kernel_size": np.array([2, 3]), "stride": [1, 2]}, (2, 3), (1, 2)),
    ],
)
def test_pooling(kind, axes, keys, kernel, stride):
    dim = (2, 8, 7)[: axes + 1]
    pool = getattr(F, f"{'max' if kind == 'Max' else 'avg'}_pool{axes}d")
    check_forward({"type": f"{kind}Pooling{axes}D", **keys}, dim, pool(batch(*dim), kernel, stride))


@pytest.mark.parametrize("dim", [(2,), (2, 5), (2, 4, 3)])
@pytest.mark.parametrize("beta", [None, BETA])
@pytest.mark.parametrize("extra", [{}, {"num_features": 2}, {"num_features": np.int64(2)}])
def test_batch_norm(dim, beta, extra):
    layer = {
        "type": "BatchNorm", "gamma": GAMMA, "beta": beta, "run_mean": MEAN, "run_var": VAR, "eps": 1e-3, **extra,
    }  # fmt: skip
    shape = (-1, *[1] * (len(dim) - 1))
    scale, mean = tensor(GAMMA / np.sqrt(VAR + 1e-3)).reshape(shape), tensor(MEAN).reshape(shape)
    shift = 0 if beta is None else tensor(BETA).reshape(shape)
    check_forward(layer, dim, (batch(*dim) - mean) * scale + shift)


@pytest.mark.parametrize(("method", "reduce"), [("average", torch.mean), ("max", torch.amax)])
@pytest.mark.parametrize("dim", [(2, 5), (2, 4, 3)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_global_pooling(method, reduce, dim, keepdims):
    """`dim_in`, which R needs here (quirk Q20), may be missing."""
    expected = reduce(batch(*dim), tuple(range(2, len(dim) + 1)))
    last = {"type": "Flatten"} if keepdims else {"type": "Skipping"}
    found = run(spec({"type": "GlobalPooling", "method": method, "keepdims": keepdims}, last, dim=dim), batch(*dim))
    torch.testing.assert_close(found, expected)
    given = {"type": "GlobalPooling", "method": method, "dim_in": list(dim), "dim_out": 2}
    torch.testing.assert_close(run(spec(given, dim=dim), batch(*dim)), expected)


@pytest.mark.parametrize(
    ("dim", "padding", "full"),
    [
        ((4,), 1, (1, 1)),
        ((4,), [2, 1], (2, 1)),
        ((2, 5), [2], (2, 2)),
        ((2, 5), (0, 3), (0, 3)),
        ((2, 4, 5), 2, (2, 2, 2, 2)),
        ((2, 4, 5), [1, 0, 2, 3], (1, 0, 2, 3)),
    ],
)
@pytest.mark.parametrize("keys", [{}, {"mode": "constant", "value": 1.5}, {"mode": "constant", "value": 2}])
def test_constant_padding(dim, padding, full, keys):
    expected = F.pad(batch(*dim), full, value=keys.get("value", 0))
    check_forward({"type": "Padding", "padding": padding, **keys}, dim, expected)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    ("dim", "full"), [((4,), (2, 1)), ((2, 5), (1, 3)), ((2, 5), (2, 2)), ((2, 4, 5), (1, 0, 2, 3))]
)
def test_other_padding(mode, dim, full):
    numpy_mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    sides = [(0, 0)] * (len(dim) + 1 - len(full) // 2) + [full[i : i + 2] for i in range(0, len(full), 2)][::-1]
    expected = tensor(np.pad(batch(*dim).numpy(), sides, mode=numpy_mode))
    check_forward({"type": "Padding", "padding": full, "mode": mode, "value": 0}, dim, expected)


@pytest.mark.parametrize("kind", ["Concatenate", "Concatenation"])
@pytest.mark.parametrize("key", ["axis", "dim"])
@pytest.mark.parametrize(
    ("dims", "axis"),
    [([(3,), (2,)], 1), ([(3,), (2,)], -1), ([(2, 4), (3, 4)], 1), ([(2, 4), (2, 3)], 2), ([(2, 4), (2, 3)], -1),
     ([(2, 3, 4), (5, 3, 4)], -3), ([(2, 3, 4), (2, 5, 4)], 2)],
)  # fmt: skip
def test_concatenate(kind, key, dims, axis):
    """Axis -1 needs no `dim_in`, and both spellings of the key and the type are read (quirk Q19)."""
    a, b = batch(*dims[0]), batch(*dims[1])
    merge = {"type": kind, key: axis, "inputs": ["input_2", "input_1"], "name": "merge"}
    model = {"input_dim": dims, "layers": [merge, {"type": "Flatten"}]}
    torch.testing.assert_close(run(model, a, b), torch.cat([b, a], axis).flatten(1))


@pytest.mark.parametrize("terms", range(1, 7))
@pytest.mark.parametrize("dim", [(3,), (2, 3), (2, 3, 2)])
def test_add(terms, dim):
    """Any number of terms, whatever their rank (quirk Q16); one of them twice."""
    names = [f"input_{i + 1}" for i in range(terms)]
    inputs = [(i + 1) * batch(*dim) for i in range(terms)]
    model = {
        "input_dim": [dim] * terms,
        "layers": [{"type": "Add", "inputs": [*names, "input_1"]}, {"type": "Flatten"}],
    }
    torch.testing.assert_close(run(model, *inputs), (sum(inputs) + inputs[0]).flatten(1))


@pytest.mark.parametrize(
    ("keys", "function"),
    [
        ({}, lambda x: x.flatten(1)),
        ({"start_dim": 1, "end_dim": -1}, lambda x: x.flatten(1)),
        ({"order": "channels_first"}, lambda x: x.flatten(1)),
        ({"order": "channels_last"}, lambda x: x.permute(0, 2, 3, 1).flatten(1)),
        ({"start_dim": -3, "end_dim": 3}, lambda x: x.flatten(1)),
        ({"end_dim": 2}, lambda x: x.flatten(1, 2)),
        ({"start_dim": 2}, lambda x: x.flatten(2)),
        ({"start_dim": 3}, lambda x: x),
    ],
)
def test_flatten(keys, function):
    dim, x = (2, 3, 4), batch(2, 3, 4)
    partial = Converter(spec({"type": "Flatten", **keys}, {"type": "Flatten"}, dim=dim), dtype="double")
    torch.testing.assert_close(partial.model(x)[0], function(x).flatten(1))
    assert partial.model.layer("Flatten_1").output_dim == tuple(function(x).shape[1:])


# -- types that R does not have ---------------------------------------------------------------------------------


def flat(layer: dict, *dims: tuple[int, ...]) -> torch.Tensor:
    """Run a layer of one or more inputs and flatten what it gives."""
    names = [f"input_{i + 1}" for i in range(len(dims))]
    model = {"input_dim": list(dims), "layers": [layer | {"inputs": names}, {"type": "Flatten"}]}
    return run(model, *(batch(*dim) for dim in dims))


@pytest.mark.parametrize(
    ("axes", "weight", "keys", "call"),
    [
        (1, (4, 1, 3), {"groups": 2}, {"groups": 2}),
        (2, (2, 1, 2, 3), {"groups": 2, "stride": [2, 1], "padding": 1}, {"groups": 2, "stride": (2, 1), "padding": 1}),
        (3, (3, 2, 2, 1, 3), {}, {}),
        (3, (2, 1, 2, 2, 2), {"strides": [1, 2, 1], "dilation": 1, "groups": 2}, {"stride": (1, 2, 1), "groups": 2}),
        (
            3,
            (3, 2, 2, 1, 2),
            {"padding": [1, 1, 0, 0, 2, 2], "dilation_rate": [2, 1, 1]},
            {"padding": (2, 0, 1), "dilation": (2, 1, 1)},
        ),
        (3, (3, 2, 2, 1, 2), {"padding": [1, 0, 2]}, {"padding": (2, 0, 1)}),  # (left and right, top and bottom, ...)
        (3, (3, 2, 2, 1, 2), {"padding": 1}, {"padding": 1}),
    ],
)
def test_grouped_and_volume_convolutions(axes, weight, keys, call):
    dim = (2, 5, 6, 4)[: axes + 1]
    w, b = RNG.normal(size=weight), RNG.normal(size=weight[0])
    convolve = getattr(F, f"conv{axes}d")
    layer = {"type": f"Conv{axes}D", "weight": w, "bias": b, "activation_name": "tanh", **keys}
    torch.testing.assert_close(flat(layer, dim), convolve(batch(*dim), tensor(w), tensor(b), **call).tanh().flatten(1))


@pytest.mark.parametrize(
    ("axes", "weight", "keys"),
    [
        (1, (2, 3, 3), {}),
        (1, (2, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1, "dilation": 1}),
        (1, (2, 1, 3), {"groups": 2, "dilation": 2}),
        (2, (2, 3, 2, 3), {"stride": [1, 2], "padding": [0, 1], "output_padding": [0, 1]}),
        (2, (2, 1, 2, 3), {"groups": 2, "dilation": [2, 1]}),
        (3, (2, 3, 2, 1, 2), {"stride": [1, 2, 1], "padding": [1, 0, 0], "output_padding": [0, 1, 0]}),
    ],
)
def test_transposed_convolutions(axes, weight, keys):
    dim = (2, 3, 4, 3)[: axes + 1]
    w, b = RNG.normal(size=weight), RNG.normal(size=weight[1] * keys.get("groups", 1))
    convolve = getattr(F, f"conv_transpose{axes}d")
    for bias in (None, b):
        layer = {"type": f"Conv{axes}DTranspose", "weight": w, "bias": bias, **keys}
        expected = convolve(batch(*dim), tensor(w), None if bias is None else tensor(bias), **keys)
        torch.testing.assert_close(flat(layer, dim), expected.flatten(1))


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"stride": 1},
        {"stride": 2, "padding": 1},
        {"ceil_mode": True, "stride": 2},
        {"padding": 1, "ceil_mode": True},
        {"padding": 1, "count_include_pad": False},
        {"padding": 1, "count_include_pad": True, "stride": 2},
        {"dilation": 2, "stride": 1},
    ],
    ids=str,
)
def test_pooling_of_any_kind(axes, keys):
    dim = (2, 7, 6, 5)[: axes + 1]
    for kind, name in (("Max", "max"), ("Average", "avg")):
        if ("dilation" in keys and kind == "Average") or ("count_include_pad" in keys and kind == "Max"):
            with pytest.raises(SpecError, match="unknown key"):
                Converter(
                    spec({"type": f"{kind}Pooling{axes}D", "kernel_size": 3, **keys}, {"type": "Flatten"}, dim=dim)
                )
            continue
        expected = getattr(F, f"{name}_pool{axes}d")(batch(*dim), 3, **keys)
        layer = {"type": f"{kind}Pooling{axes}D", "kernel_size": 3, **keys}
        torch.testing.assert_close(flat(layer, dim), expected.flatten(1))


@pytest.mark.parametrize(("method", "name"), [("average", "avg"), ("max", "max")])
@pytest.mark.parametrize(
    ("dim", "size"), [((2, 7), 3), ((2, 7), [7]), ((2, 5, 4), [2, 3]), ((2, 5, 4), [5, 1]), ((2, 5, 4, 3), [2, 1, 3])]
)
def test_adaptive_pooling(method, name, dim, size):
    expected = getattr(F, f"adaptive_{name}_pool{len(dim) - 1}d")(batch(*dim), size)
    layer = {"type": "AdaptivePooling", "method": method, "output_size": size}
    torch.testing.assert_close(flat(layer, dim), expected.flatten(1))


def standardized(x: torch.Tensor, groups: int, eps: float, center: bool) -> torch.Tensor:
    blocks = x.reshape(len(x), groups, -1)
    blocks = blocks - blocks.mean(-1, keepdim=True) if center else blocks
    return (blocks / (blocks.square().mean(-1, keepdim=True) + eps).sqrt()).reshape(x.shape)


@pytest.mark.parametrize(
    ("layer", "dims", "expected"),
    [
        *[
            ({"type": "Standardize", "groups": groups, "eps": 0.1, "center": center}, [dim],
             lambda x, groups=groups, center=center: standardized(x, groups, 0.1, center))
            for dim, groups in (((6,), 1), ((6,), 3), ((2, 3), 2), ((2, 3, 4), 6))
            for center in (True, False)
        ],
        ({"type": "Standardize", "groups": 1, "eps": 0}, [(6,)], lambda x: standardized(x, 1, 0, True)),
        ({"type": "Scale"}, [(3,)], lambda x: x),
        ({"type": "Scale", "factor": 2.0}, [(3,)], lambda x: 2 * x),
        ({"type": "Scale", "shift": [1.0, 2.0, 3.0]}, [(3,)], lambda x: x + tensor([1, 2, 3])),
        ({"type": "Scale", "factor": [[2.0], [3.0]], "shift": [1.0, 0.0, 5.0]}, [(2, 3)],
         lambda x: x * tensor([[2], [3]]) + tensor([1, 0, 5])),
        # what has fewer axes than the other meets each instance of it, never the rows of the batch
        ({"type": "Scale", "factor": [[2.0], [3.0]]}, [(3,)], lambda x: x.unsqueeze(1) * tensor([[2], [3]])),
        ({"type": "Multiply"}, [(3,), (2, 3)], lambda x, y: x.unsqueeze(1) * y),
        ({"type": "Multiply"}, [(3,), (3,)], lambda x, y: x * y),
        ({"type": "Multiply"}, [(2, 3), (2, 1)], lambda x, y: x * y),
        ({"type": "Multiply"}, [(1, 3), (2, 1)], lambda x, y: x * y),
        ({"type": "MatMul"}, [(2, 3), (3, 4)], lambda x, y: x @ y),
        ({"type": "MatMul"}, [(5, 2, 3), (5, 3, 1)], lambda x, y: x @ y),
        ({"type": "Reduce", "method": "sum", "axes": 1}, [(2, 3)], lambda x: x.sum(1)),
        ({"type": "Reduce", "method": "mean", "axes": [2], "keepdims": True}, [(2, 3)], lambda x: x.mean(2)),
        ({"type": "Reduce", "method": "mean", "axes": [-1, 1]}, [(2, 3, 4)], lambda x: x.mean((1, 3))),
        ({"type": "Reshape", "shape": [3, 2]}, [(2, 3)], lambda x: x),
        ({"type": "Reshape", "shape": 6}, [(2, 3)], lambda x: x),
        ({"type": "Permute", "axes": [2, 1]}, [(2, 3)], lambda x: x.transpose(1, 2)),
        ({"type": "Permute", "axes": [2, 3, 1]}, [(2, 3, 4)], lambda x: x.permute(0, 2, 3, 1)),
        ({"type": "Permute", "axes": [-1, 1, 2]}, [(2, 3, 4)], lambda x: x.permute(0, 3, 1, 2)),
        ({"type": "Take", "axis": 1, "indices": [2, 0, 0]}, [(3,)], lambda x: x[:, [2, 0, 0]]),
        ({"type": "Take", "axis": -1, "indices": 1}, [(2, 3)], lambda x: x[:, :, 1]),
        ({"type": "Resize", "size": 5}, [(2, 3)], lambda x: F.interpolate(x, 5)),
        ({"type": "Resize", "size": [5], "mode": "linear"}, [(2, 3)], lambda x: F.interpolate(x, 5, mode="linear")),
        ({"type": "Resize", "size": [5, 4], "mode": "bilinear", "align_corners": True}, [(2, 3, 2)],
         lambda x: F.interpolate(x, (5, 4), mode="bilinear", align_corners=True)),
        ({"type": "Resize", "size": [4, 2], "mode": "nearest-exact"}, [(2, 3, 4)],
         lambda x: F.interpolate(x, (4, 2), mode="nearest-exact")),
    ],
    ids=without_address,
)  # fmt: skip
def test_other_types(layer, dims, expected):
    torch.testing.assert_close(flat(layer, *dims), expected(*(batch(*dim) for dim in dims)).flatten(1))


def test_skipping():
    check_forward({"type": "Skipping"}, (3,), batch(3))


@pytest.mark.parametrize(
    ("dim_in", "dim_out"), [(3, 2), ([3], [2]), ((3,), (2,)), (np.array([3]), np.array([2])), ([[3]], [[2]])]
)
def test_given_shapes_are_accepted(dim_in, dim_out):
    check_forward(
        dense(dim_in=dim_in, dim_out=dim_out),
        (3,),
        F.linear(batch(3), *map(tensor, (dense()["weight"], dense()["bias"]))),
    )


# -- the whole model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (4, [(4,)]),
        ([4], [(4,)]),
        ((2, 4), [(2, 4)]),
        ([2, 4], [(2, 4)]),
        (torch.Size([2, 4]), [(2, 4)]),
        (np.array([4]), [(4,)]),
        (np.array([2, 4]), [(2, 4)]),
        (np.int64(4), [(4,)]),
        ([np.int32(2), np.int32(4)], [(2, 4)]),
        ([[2, 4]], [(2, 4)]),
        ([np.array([2, 4])], [(2, 4)]),
    ],
)
def test_input_dim(given, expected):
    assert Converter({"input_dim": given, "layers": [{"type": "Flatten"}]}).input_dim == expected


@pytest.mark.parametrize("given", [[(3,), 2], [3, [2]], [[3], np.array([2])], ((3,), (2,))])
def test_input_dim_of_several_inputs(given):
    model = {"input_dim": given, "layers": [{"type": "Concatenate", "axis": 1, "inputs": ["input_1", "input_2"]}]}
    assert Converter(model).input_dim == [(3,), (2,)]


def test_order_of_layers_does_not_matter():
    """Layers out of order are sorted; fan-out, an output that feeds others, and a layer used twice in one merge."""
    first, second = dense(4, 3, name="first", activation_name="tanh"), dense(2, 8, name="second", inputs=["twice"])
    twice = {"type": "Concatenate", "axis": 1, "name": "twice", "inputs": ["first", "first"]}
    third = dense(5, 2, name="third", inputs=["second"])
    first["inputs"] = ["input_1"]
    x, found = batch(3), []
    for layers in ([first, twice, second, third], [third, second, twice, first], [second, third, first, twice]):
        converter = Converter(spec(*layers, outputs=["third", "second"]), dtype="double")
        found.append(converter.model(x))
        assert converter.output_dim == [(5,), (2,)]
        order = [node.name for node in converter.model.nodes]
        assert order == ["first", "twice", "second", "third"]
    h = F.linear(x, tensor(first["weight"]), tensor(first["bias"])).tanh()
    y = F.linear(torch.cat([h, h], 1), tensor(second["weight"]), tensor(second["bias"]))
    for outputs in found:
        torch.testing.assert_close(outputs[1], y)
        torch.testing.assert_close(outputs[0], F.linear(y, tensor(third["weight"]), tensor(third["bias"])))


def test_a_layer_takes_the_one_before_it():
    checked = check_spec(spec(dense(4, 3), {"type": "Skipping", "name": "skip"}, dense(2, 4)))
    assert [(layer.name, layer.inputs) for layer in checked.layers] == [
        ("Dense_1", ("input_1",)), ("skip", ("Dense_1",)), ("Dense_3", ("skip",))
    ]  # fmt: skip
    assert checked.outputs == ("Dense_3",)


def test_a_name_of_one_layer_may_stand_alone():
    model = spec(dense(4, 3, name="a", inputs="input_1"), dense(2, 4, inputs="a", name="b"), outputs="b")
    assert Converter(model).output_dim == [(2,)]


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ({"input_dim": [[3], [2]], "layers": [dense()]}, ["input_2"]),
        (spec(dense(name="used"), dense(name="unused", inputs=["input_1"]), outputs=["used"]), ["unused"]),
        (
            {
                "input_dim": [[3], [3]],
                "layers": [
                    dense(name="used"),
                    dense(name="x", inputs=["input_2"]),
                    dense(2, 2, name="y", inputs=["x"]),
                ],
                "outputs": ["used"],
            },
            ["input_2", "x", "y"],
        ),
    ],
)
def test_what_reaches_no_output_is_warned_of(model, names):
    with pytest.warns(UserWarning, match="reaches no output") as warned:
        Converter(model)
    assert sorted(str(w.message).split("'")[1] for w in warned) == sorted(names)


@pytest.mark.parametrize("keys", [{}, {"outputs": ["out", "mid"]}])
def test_what_reaches_an_output_is_not_warned_of(keys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checked = check_spec(spec(dense(2, 3, name="mid"), dense(2, 2, name="out"), **keys))
    assert [layer.name for layer in checked.layers] == ["mid", "out"]


# -- refusals ---------------------------------------------------------------------------------------------------

CONV1, CONV2 = {"type": "Conv1D", "weight": W1}, {"type": "Conv2D", "weight": W2}
NORM = {"type": "BatchNorm", "gamma": GAMMA, "run_mean": MEAN, "run_var": VAR, "eps": 1e-5}
POOL1, POOL2 = {"type": "MaxPooling1D", "kernel_size": 2}, {"type": "AveragePooling2D", "kernel_size": 2}
PAD = {"type": "Padding", "padding": [1, 1]}
NAN, INF = float("nan"), float("inf")

#: A layer called "bad", the shape of its input, and what the message must hold besides the layer's name.
BAD_LAYERS = [
    # unknown keys, with the key that was meant
    (dense(wieght=1), (3,), ["unknown key 'wieght'", "did you mean 'weight'"]),
    (dense(activation="relu"), (3,), ["unknown key 'activation'", "did you mean 'activation_name'"]),
    (dense(stride=1), (3,), ["unknown key 'stride'"]),
    (CONV1 | {"kernel_size": 2}, (2, 9), ["unknown key 'kernel_size'"]),
    (CONV1 | {"dilatoin": 2}, (2, 9), ["unknown key 'dilatoin'", "did you mean 'dilation'"]),
    (POOL1 | {"groups": 1}, (2, 9), ["unknown key 'groups'"]),
    (POOL2 | {"stridess": 0}, (2, 9, 9), ["unknown key 'stridess'", "did you mean 'strides'"]),
    (NORM | {"epsilon": 1}, (2,), ["unknown key 'epsilon'"]),
    ({"type": "GlobalPooling", "method": "max", "keepdim": True}, (2, 4), ["'keepdim'", "did you mean 'keepdims'"]),
    ({"type": "Skipping", "p": 0.5}, (3,), ["unknown key 'p'"]),
    ({"type": "Flatten", "start": 1}, (3,), ["unknown key 'start'"]),
    # missing keys
    ({"type": "Dense", "bias": [1.0]}, (3,), ["lacks the key 'weight'"]),
    ({"type": "Dense", "weight": None}, (3,), ["lacks the key 'weight'"]),
    ({"type": "Conv1D"}, (2, 9), ["lacks the key 'weight'"]),
    ({"type": "Conv2D"}, (2, 9, 9), ["lacks the key 'weight'"]),
    ({"type": "MaxPooling1D"}, (2, 9), ["lacks the key 'kernel_size'"]),
    ({"type": "AveragePooling2D", "strides": 2}, (2, 9, 9), ["lacks the key 'kernel_size'"]),
    *[
        ({k: v for k, v in NORM.items() if k != key}, (2,), [f"lacks the key '{key}'"])
        for key in ("gamma", "run_mean", "run_var", "eps")
    ],
    ({"type": "GlobalPooling"}, (2, 9), ["lacks the key 'method'"]),
    ({"type": "Padding", "value": 1}, (2, 9), ["lacks the key 'padding'"]),
    ({"type": "Concatenate"}, (2, 9), ["lacks the key 'axis'"]),
    ({"type": "Activation"}, (3,), ["lacks the key 'act_name'"]),
    # weights
    (dense(weight=np.ones(3)), (3,), ["key 'weight'", "(out, in)", "(3,)"]),
    (dense(weight=np.ones((2, 3, 1))), (3,), ["key 'weight'", "(out, in)", "(2, 3, 1)"]),
    (dense(weight=5.0), (3,), ["key 'weight'", "(out, in)", "5.0"]),
    (CONV1 | {"weight": W2}, (2, 9), ["key 'weight'", "(out channels, in channels", "length)", "(3, 2, 3, 2)"]),
    (CONV2 | {"weight": W1}, (2, 9, 9), ["key 'weight'", "(out channels, in channels", "height, width)", "(3, 2, 3)"]),
    (dense(weight=[["a", "b", "c"]]), (3,), ["key 'weight'", "numbers"]),
    (dense(weight="abc"), (3,), ["key 'weight'", "numbers", "'abc'"]),
    (dense(weight=[[1.0, 2.0, None]]), (3,), ["key 'weight'", "numbers"]),
    (dense(weight=[[1.0, 2.0], [1.0]]), (3,), ["key 'weight'", "rectangular"]),
    (dense(weight=np.ones((2, 3), complex)), (3,), ["key 'weight'", "numbers"]),
    (dense(weight=np.ones((2, 3), bool)), (3,), ["key 'weight'", "numbers"]),
    (dense(weight=torch.ones(2, 3, dtype=torch.bool)), (3,), ["key 'weight'", "numbers"]),
    (dense(weight=torch.ones(2, 3, dtype=torch.complex64)), (3,), ["key 'weight'", "numbers"]),
    (dense(weight=[[NAN, 1.0, 1.0]], bias=None), (3,), ["key 'weight'", "finite"]),
    (dense(weight=np.full((2, 3), INF)), (3,), ["key 'weight'", "finite"]),
    (dense(weight=torch.full((2, 3), NAN)), (3,), ["key 'weight'", "finite"]),
    (dense(weight=torch.full((2, 3), INF, dtype=torch.float16)), (3,), ["key 'weight'", "finite"]),
    (dense(weight=object()), (3,), ["key 'weight'", "numbers"]),
    (dense(bias=[1.0, 2.0, 3.0]), (3,), ["key 'bias'", "expected 2", "got 3"]),
    (dense(bias=np.ones((2, 1))), (3,), ["key 'bias'", "(2, 1)"]),
    (dense(bias=[1.0, NAN]), (3,), ["key 'bias'", "finite"]),
    (dense(bias=["a", "b"]), (3,), ["key 'bias'", "numbers"]),
    (CONV1 | {"bias": [1.0]}, (2, 9), ["key 'bias'", "expected 3", "got 1"]),
    (CONV2 | {"bias": [1.0] * 4}, (2, 9, 9), ["key 'bias'", "expected 3", "got 4"]),
    # activations
    (dense(activation_name="rellu"), (3,), ["key 'activation_name'", "relu", "'rellu'"]),
    (dense(activation_name=5), (3,), ["key 'activation_name'", "5"]),
    (dense(activation_name=["relu"]), (3,), ["key 'activation_name'"]),
    (dense(activation_name=torch.relu), (3,), ["key 'activation_name'"]),
    (dense(activation_name="relu", activation_params={"alpha": 1.0}), (3,), ["'relu'", "'alpha'"]),
    (dense(activation_params={"negative_slope": 1.0}), (3,), ["'linear'", "'negative_slope'"]),
    (
        dense(activation_name="leaky_relu", activation_params={"negative_slop": 1.0}),
        (3,),
        ["'negative_slop'", "did you mean 'negative_slope'"],
    ),
    (dense(activation_name="elu", activation_params={"alpha": "1"}), (3,), ["'alpha'", "'1'"]),
    (dense(activation_name="elu", activation_params={"alpha": True}), (3,), ["'alpha'", "True"]),
    (dense(activation_name="elu", activation_params={"alpha": NAN}), (3,), ["'alpha'"]),
    (dense(activation_name="gelu", activation_params={"approximate": "none!"}), (3,), ["approximate"]),
    (dense(activation_name="elu", activation_params=[1.0]), (3,), ["key 'activation_params'"]),
    (dense(activation_name="softmax", activation_params={"dim": 1.0}), (3,), ["'dim'", "1.0"]),
    (dense(activation_name="softmax", activation_params={"dim": 2}), (3,), ["(*, 3)"]),
    # an activation along the batch would mix rows that have nothing to do with each other
    (dense(activation_name="softmax", activation_params={"dim": 0}), (3,), ["'dim'"]),
    (dense(activation_name="softmax", activation_params={"dim": -2}), (3,), ["dim"]),
    ({"type": "Activation", "act_name": "softmax", "act_params": {"dim": 0}}, (3,), ["'dim'"]),
    ({"type": "Activation", "act_name": "unknown"}, (3,), ["key 'act_name'", "relu", "'unknown'"]),
    ({"type": "Activation", "act_name": "tanh", "act_params": {"x": 1.0}}, (3,), ["'tanh'", "'x'"]),
    # whole numbers
    (CONV1 | {"stride": 0}, (2, 9), ["key 'stride'", "at least 1", "0"]),
    (CONV1 | {"stride": 1.5}, (2, 9), ["key 'stride'", "whole number", "1.5"]),
    (CONV1 | {"stride": True}, (2, 9), ["key 'stride'", "whole number", "True"]),
    (CONV1 | {"stride": "1"}, (2, 9), ["key 'stride'", "whole number", "'1'"]),
    (CONV1 | {"stride": [1, 1]}, (2, 9), ["key 'stride'", "one number", "[1, 1]"]),
    (CONV1 | {"stride": []}, (2, 9), ["key 'stride'"]),
    (CONV1 | {"dilation": -1}, (2, 9), ["key 'dilation'", "at least 1"]),
    (CONV1 | {"padding": -1}, (2, 9), ["key 'padding'", "at least 0"]),
    (CONV1 | {"padding": [1, 1, 1]}, (2, 9), ["key 'padding'", "1 or 2"]),
    (CONV1 | {"padding": "same"}, (2, 9), ["key 'padding'", "'same'"]),
    (CONV2 | {"stride": [1, 1, 1]}, (2, 9, 9), ["key 'stride'", "1 or 2"]),
    (CONV2 | {"dilation": [1, 0]}, (2, 9, 9), ["key 'dilation'", "at least 1"]),
    (CONV2 | {"padding": [1, 1, 1]}, (2, 9, 9), ["key 'padding'", "1, 2 or 4"]),
    (CONV2 | {"padding": [1, 1, 1, -1]}, (2, 9, 9), ["key 'padding'", "at least 0"]),
    (CONV1 | {"stride": 1, "strides": 2}, (2, 9), ["'strides'"]),
    (POOL1 | {"kernel_size": [2, 2]}, (2, 9), ["key 'kernel_size'", "one number"]),
    (POOL1 | {"kernel_size": 0}, (2, 9), ["key 'kernel_size'", "at least 1"]),
    (POOL1 | {"strides": 0}, (2, 9), ["key 'strides'", "at least 1"]),
    (POOL2 | {"kernel_size": [2, 2, 2]}, (2, 9, 9), ["key 'kernel_size'", "1 or 2"]),
    (POOL2 | {"strides": 1.0}, (2, 9, 9), ["key 'strides'", "whole number"]),
    # batch normalisation
    (NORM | {"num_features": 3}, (2,), ["'gamma'", "expected 3", "got 2"]),
    (NORM | {"num_features": 0}, (2,), ["key 'num_features'"]),
    (NORM | {"num_features": 2.5}, (2,), ["key 'num_features'"]),
    (NORM | {"beta": [0.0]}, (2,), ["'beta'", "expected 2", "got 1"]),
    (NORM | {"run_mean": [0.0] * 3}, (2,), ["'run_mean'", "expected 2", "got 3"]),
    (NORM | {"run_var": [1.0, -1.0]}, (2,), ["'run_var'"]),
    (NORM | {"run_var": [1.0, 0.0], "eps": 0.0}, (2,), ["'run_var'"]),
    (NORM | {"gamma": [[1.0, 1.0]]}, (2,), ["key 'gamma'"]),
    (NORM | {"eps": -1e-3}, (2,), ["key 'eps'"]),
    (NORM | {"eps": NAN}, (2,), ["key 'eps'"]),
    (NORM | {"eps": INF}, (2,), ["key 'eps'"]),
    (NORM | {"eps": "1e-3"}, (2,), ["key 'eps'", "'1e-3'"]),
    (NORM, (3,), ["(*, 3)"]),
    # padding
    (PAD | {"mode": "mirror"}, (2, 9), ["key 'mode'", "reflect", "'mirror'"]),
    (PAD | {"mode": "reflect", "value": 1}, (2, 9), ["'value'", "expected 0", "reflect"]),
    (PAD | {"value": NAN}, (2, 9), ["key 'value'"]),
    (PAD | {"value": INF}, (2, 9), ["key 'value'"]),
    (PAD | {"value": "2"}, (2, 9), ["key 'value'", "'2'"]),
    (PAD | {"value": True}, (2, 9), ["key 'value'", "True"]),
    (PAD | {"padding": [1, 1, 1]}, (2, 9), ["key 'padding'", "[1, 1, 1]"]),
    (PAD | {"padding": [0.5, 1]}, (2, 9), ["key 'padding'", "whole number"]),
    (PAD | {"padding": [9, 9], "mode": "reflect"}, (2, 9), ["(*, 2, 9)"]),
    (PAD | {"padding": [1, 1, 1, 1]}, (9,), ["(*, 9)"]),  # four sides of a table: two of them would be new rows
    # the others
    ({"type": "GlobalPooling", "method": "avg"}, (2, 9), ["key 'method'", "average", "'avg'"]),
    ({"type": "GlobalPooling", "method": "max", "keepdims": 1}, (2, 9), ["key 'keepdims'"]),
    ({"type": "GlobalPooling", "method": "max"}, (9,), ["(*, 9)"]),
    ({"type": "Concatenate", "axis": 0}, (9,), ["key 'axis'", "batch"]),
    ({"type": "Concatenate", "axis": 1.0}, (9,), ["key 'axis'", "1.0"]),
    ({"type": "Concatenate", "axis": [1, 2]}, (9,), ["key 'axis'", "[1, 2]"]),
    ({"type": "Concatenate", "axis": 2}, (9,), ["(*, 9)"]),
    ({"type": "Concatenate", "axis": -2}, (9,), ["axis"]),  # the batch again
    ({"type": "Flatten", "start_dim": 0}, (2, 9), ["key 'start_dim'", "batch"]),
    ({"type": "Flatten", "end_dim": "a"}, (2, 9), ["key 'end_dim'", "'a'"]),
    ({"type": "Flatten", "start_dim": -3}, (2, 9), ["start_dim"]),  # the batch again
    ({"type": "Flatten", "start_dim": 2, "end_dim": 1}, (2, 9), ["(*, 2, 9)"]),
    ({"type": "Flatten", "order": "F"}, (2, 9), ["key 'order'", "channels_last", "'F'"]),
    # names and edges
    (dense(name=5), (3,), ["key 'name'", "5"]),
    (dense(inputs=[]), (3,), ["key 'inputs'"]),
    (dense(inputs=[1]), (3,), ["key 'inputs'", "[1]"]),
    (dense(inputs=0), (3,), ["key 'inputs'", "0"]),
    (dense(inputs=["input_2"]), (3,), ["key 'inputs'", "'input_2'", "did you mean 'input_1'"]),
    (dense(inputs=["elsewhere"]), (3,), ["key 'inputs'", "'elsewhere'", "input_1"]),
    (dense(inputs=["input_1", "input_1"]), (3,), ["key 'inputs'", "got 2"]),
    # shapes
    (dense(dim_in=4), (3,), ["'dim_in'", "(*, 3)", "(*, 4)"]),
    (dense(dim_in=[[3], [3]]), (3,), ["'dim_in'", "(*, 3)", "(*, 3), (*, 3)"]),
    (dense(dim_out=[3]), (3,), ["'dim_out'", "(*, 2)", "(*, 3)"]),
    (dense(dim_out=0), (3,), ["'dim_out'"]),
    (dense(dim_in="3"), (3,), ["'dim_in'", "'3'"]),
    (dense(2, 4), (3,), ["(*, 3)", "(2, 4)", "(out, in)"]),
    (CONV1, (3, 9), ["(*, 3, 9)", "(3, 2, 3)"]),
    (CONV1, (2, 2), ["(*, 2, 2)", "(3, 2, 3)"]),
    (CONV2, (2, 2, 9), ["(*, 2, 2, 9)", "(3, 2, 3, 2)"]),
    (POOL1 | {"kernel_size": 10}, (2, 9), ["(*, 2, 9)"]),
    # what would reach the batch axis, or make it longer
    ({"type": "Reduce", "method": "sum", "axes": 0}, (2, 9), ["key 'axes'", "batch"]),
    ({"type": "Reduce", "method": "sum", "axes": -3}, (2, 9), ["axes"]),
    ({"type": "Reduce", "method": "mean", "axes": []}, (2, 9), ["key 'axes'"]),
    ({"type": "Reduce", "method": "mean", "axes": [1, 1]}, (2, 9), ["(*, 2, 9)"]),
    ({"type": "Reduce", "method": "mean", "axes": [3]}, (2, 9), ["(*, 2, 9)"]),
    ({"type": "Permute", "axes": [1]}, (2, 9), ["(*, 2, 9)"]),
    ({"type": "Permute", "axes": [1, 1]}, (2, 9), ["(*, 2, 9)"]),
    ({"type": "Permute", "axes": [1, -3]}, (2, 9), ["(*, 2, 9)"]),
    ({"type": "Take", "axis": -2, "indices": [0, 0]}, (9,), ["axis"]),
    ({"type": "Take", "axis": 1, "indices": [9]}, (9,), ["(*, 9)"]),
    ({"type": "Take", "axis": 1, "indices": [-1]}, (9,), ["key 'indices'"]),
    ({"type": "Reshape", "shape": [4, 4]}, (2, 9), ["(*, 2, 9)"]),
    ({"type": "Reshape", "shape": [-1]}, (2, 9), ["key 'shape'"]),
    ({"type": "Scale", "factor": np.ones(3)}, (9,), ["(*, 9)"]),
    ({"type": "Scale", "factor": NAN}, (9,), ["key 'factor'", "finite"]),
    ({"type": "Standardize", "groups": 2}, (9,), ["(*, 9)"]),
    ({"type": "Standardize", "groups": 0}, (9,), ["key 'groups'"]),
    ({"type": "AdaptivePooling", "method": "max", "output_size": [3, 3]}, (2, 9), ["(*, 2, 9)"]),
    ({"type": "AdaptivePooling", "method": "max", "output_size": 3}, (9,), ["(*, 9)"]),
    ({"type": "Resize", "size": 4}, (9,), ["(*, 9)"]),
    ({"type": "Resize", "size": [4, 4]}, (2, 9), ["(*, 2, 9)"]),
    ({"type": "Resize", "size": 4, "mode": "cubic"}, (2, 9), ["key 'mode'", "'cubic'"]),
    (CONV1 | {"groups": 0}, (2, 9), ["key 'groups'"]),
    (CONV1 | {"groups": 2}, (2, 9), ["(*, 2, 9)"]),
    (POOL1 | {"padding": 2}, (2, 9), ["(*, 2, 9)"]),  # at most half of the window
    (POOL1 | {"ceil_mode": 1}, (2, 9), ["key 'ceil_mode'"]),
    # the wrong number of axes: torch would take the batch for the channels
    (CONV1, (9,), ["(*, 9)"]),
    (CONV1 | {"weight": np.ones((1, 1, 2))}, (9,), ["(*, 9)"]),
    (CONV1, (2, 9, 9), ["(*, 2, 9, 9)"]),
    (CONV2, (2, 9), ["(*, 2, 9)"]),
    (CONV2 | {"weight": np.ones((1, 1, 2, 2))}, (2, 9), ["(*, 2, 9)"]),
    *[
        ({"type": f"{kind}Pooling{axes}D", "kernel_size": 2}, (9,) * rank, ["(*, 9"])
        for kind in ("Max", "Average")
        for axes, rank in ((1, 1), (1, 3), (2, 1), (2, 2))
    ],
]  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "dim", "fragments"), BAD_LAYERS, ids=[f"{layer['type']} {words[0]}" for layer, _, words in BAD_LAYERS]
)
def test_bad_layer(layer, dim, fragments):
    """Refused with an error that names the layer and the key; a good layer stands behind it, so it is no output."""
    layer = {"name": "bad", **layer}
    with pytest.raises(SpecError) as caught:
        Converter(spec(layer, {"type": "Flatten", "name": "last"}, dim=dim))
    message = str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert f"Layer '{layer['name']}' ({layer['type']})" in message
    for fragment in fragments:
        assert fragment in message


def test_every_finding_is_reported():
    with pytest.raises(SpecError) as caught:
        Converter(spec({"type": "Dense", "wieght": np.ones((2, 3)), "activation_name": "rellu"}))
    assert [key in str(caught.value) for key in ("'wieght'", "'rellu'", "lacks the key 'weight'")] == [True] * 3
    assert str(caught.value).count("Layer 'Dense_1' (Dense)") == 3


TWO = spec(dense(4, 3, name="a"), dense(2, 4, name="b"))
BAD_MODELS = [
    (spec({"type": "Dnese"}), ["Layer 1", "key 'type'", "'Dnese'", "did you mean 'Dense'"]),
    (spec(dense(4, 3), {"type": "dense", "weight": [[1.0]]}), ["Layer 2", "key 'type'", "did you mean 'Dense'"]),
    (spec({"type": "MaxPool1D"}), ["Layer 1", "did you mean 'MaxPooling1D'"]),
    (spec({"type": "Linear"}), ["Layer 1", "key 'type'", "'Linear'", "GlobalPooling"]),
    (spec({"type": 5}), ["Layer 1", "key 'type'", "5"]),
    (spec({"type": ["Dense"]}), ["Layer 1", "key 'type'"]),
    (spec({"weight": [[1.0]]}), ["Layer 1", "key 'type'", "nothing"]),
    (spec("Dense"), ["Layer 1", "dict", "'Dense'"]),
    (spec(dense(), None), ["Layer 2", "dict", "None"]),
    (spec(torch.nn.Linear(3, 2)), ["Layer 1", "dict", "Linear"]),
    # the top level
    ({"input_dim": [3]}, ["lacks the key 'layers'"]),
    ({"layers": [dense()]}, ["lacks the key 'input_dim'"]),
    ({"layers": [dense()], "input_dim": None}, ["lacks the key 'input_dim'"]),
    ({}, ["lacks the key"]),
    ({"input_dim": [3], "layers": []}, ["'layers'", "at least one"]),
    ({"input_dim": [3], "layers": "Dense"}, ["'layers'", "'Dense'"]),
    ({"input_dim": [3], "layers": {"a": dense()}}, ["'layers'", "list"]),
    (spec(dense(), ouputs=["Dense_1"]), ["'ouputs'", "did you mean 'outputs'"]),
    (spec(dense(), input_dims=[3]), ["'input_dims'", "did you mean 'input_dim'"]),
    (spec(dense(), name="net"), ["'name'"]),
    # shapes
    *[
        ({"input_dim": dim, "layers": [dense()]}, ["'input_dim'"])
        for dim in ("3", ["3"], [3.0], 3.5, [0], [-1], [], [[]], [[3], []], [[3], "a"], {"a": 3}, True, [True], [None],
                    np.array([3.0]), np.array([[3]]), [[[3]]])
    ],
    *[(spec(dense(), output_dim=dim), ["'output_dim'"]) for dim in ("2", [2.5], [0], [["a"]], np.array([2.5]))],
    (spec(dense(), output_dim=[3]), ["'output_dim'", "(*, 2)", "(*, 3)"]),
    (spec(dense(), output_dim=[[2], [2]]), ["'output_dim'", "(*, 2)", "(*, 2), (*, 2)"]),
    # names
    (spec(dense(4, 3, name="a"), dense(2, 4, name="a")), ["'a'"]),
    (spec(dense(4, 3, name="Dense_2"), dense(2, 4)), ["'Dense_2'"]),
    (spec(dense(name="input_1")), ["'input_1'"]),
    # circles
    (spec(dense(3, 3, name="self", inputs=["self"])), ["'self'"]),
    (spec(dense(3, 3, name="p", inputs=["q"]), dense(3, 3, name="q", inputs=["p"])), ["'p'", "'q'"]),
    (
        spec(dense(3, 3), {"type": "Add", "name": "sum", "inputs": ["Dense_1", "later"]}, dense(3, 3, name="later")),
        ["'sum'", "'later'"],
    ),
    # outputs
    (TWO | {"outputs": ["c"]}, ["'outputs'", "'c'"]),
    (TWO | {"outputs": ["B"]}, ["'outputs'", "'B'"]),
    (spec(dense(name="species"), outputs=["specis"]), ["'outputs'", "did you mean 'species'"]),
    (TWO | {"outputs": ["input_1"]}, ["'outputs'", "'input_1'"]),
    (TWO | {"outputs": ["a", "b", "a"]}, ["'outputs'", "'a'", "twice"]),
    (TWO | {"outputs": []}, ["'outputs'"]),
    (TWO | {"outputs": [2]}, ["'outputs'", "[2]"]),
    (TWO | {"outputs": 2}, ["'outputs'", "2"]),
    (TWO | {"outputs": [["a"]]}, ["'outputs'"]),
    # merging
    (
        {"input_dim": [[3], [2]], "layers": [{"type": "Add", "inputs": ["input_1", "input_2"], "name": "sum"}]},
        ["Layer 'sum' (Add)", "(*, 3), (*, 2)"],
    ),
    (
        {
            "input_dim": [[3, 4], [3, 5]],
            "layers": [{"type": "Concatenate", "axis": 1, "inputs": ["input_1", "input_2"], "name": "cat"}],
        },
        ["Layer 'cat' (Concatenate)", "(*, 3, 4), (*, 3, 5)"],
    ),
    (
        {
            "input_dim": [[3], [2]],
            "layers": [
                {"type": "Concatenate", "axis": 1, "inputs": ["input_1", "input_2"], "name": "cat", "dim_in": [5]}
            ],
        },
        ["Layer 'cat' (Concatenate)", "'dim_in'", "(*, 3), (*, 2)", "(*, 5)"],
    ),
    (
        {"input_dim": [[3], [2]], "layers": [{"type": "Multiply", "inputs": ["input_1", "input_2"], "name": "times"}]},
        ["Layer 'times' (Multiply)", "(*, 3), (*, 2)"],
    ),
    (
        {"input_dim": [[3], [3]], "layers": [{"type": "MatMul", "inputs": ["input_1", "input_2"], "name": "times"}]},
        ["Layer 'times' (MatMul)", "(*, 3), (*, 3)"],
    ),
    (
        {"input_dim": [[3]], "layers": [{"type": "Multiply", "inputs": ["input_1"], "name": "times"}]},
        ["Layer 'times' (Multiply)", "key 'inputs'", "1"],
    ),
    # the default predecessor of a second layer has the wrong shape: the second layer is the one to name
    (spec(dense(4, 3, name="a"), dense(2, 3, name="b")), ["Layer 'b' (Dense)", "(*, 4)", "(2, 3)"]),
    # R's own keys
    (spec(dense(input_layers=0)), ["'input_layers'", "from_r"]),
    (spec(dense(output_layers=-1)), ["'output_layers'", "from_r"]),
    (spec(dense(), input_nodes=1), ["'input_nodes'", "from_r"]),
    (spec(dense(), output_nodes=[1]), ["'output_nodes'", "from_r"]),
]  # fmt: skip


@pytest.mark.parametrize(("model", "fragments"), BAD_MODELS, ids=[" ".join(words[:2]) for _, words in BAD_MODELS])
def test_bad_model(model, fragments):
    with pytest.raises(SpecError) as caught:
        Converter(model)
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "dim", "output_dim"),
    [
        (CONV1, (2, 9), (3, 7)),
        (POOL2, (2, 9, 9), (2, 4, 4)),
        ({"type": "Flatten", "start_dim": 2}, (2, 3, 4), (2, 12)),
    ],
)
def test_an_output_may_have_several_axes(layer, dim, output_dim):
    assert Converter(spec(layer, dim=dim)).output_dim == [output_dim]


@pytest.mark.parametrize("key", ["input_names", "output_names"])
@pytest.mark.parametrize("names", [[1.5, 2, 3], ["a"], "abc", [["a"], ["b"]], {"a": 1}])
def test_bad_names(key, names):
    with pytest.raises((TypeError, ValueError), match=key):
        Converter(spec(dense(), **{key: names}))


@pytest.mark.parametrize("dim", [4, (3, 1), [(3,), (3,)], "3", 3.5, [], 0])
def test_argument_input_dim_is_compared(dim):
    with pytest.raises(ValueError, match="input_dim"):
        Converter(spec(dense()), input_dim=dim)


@pytest.mark.parametrize("dim", [3, [3], (3,), [(3,)], np.array([3]), torch.Size([3])])
def test_argument_input_dim_that_agrees(dim):
    assert Converter(spec(dense()), input_dim=dim).input_dim == [(3,)]


def test_channels_last_input_dim_is_refused():
    """Shapes of a spec are channels first; the other order is another shape."""
    with pytest.raises(ValueError, match="channels first"):
        Converter(spec({"type": "Flatten"}, dim=(2, 9)), input_dim=(9, 2))


# -- the user's arrays ------------------------------------------------------------------------------------------

VALUES = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -0.25]])
WHOLE = np.array([[1, 2, 3], [0, 4, 5]])


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


KINDS = {
    "list": (VALUES, lambda v: v.tolist()),
    "tuple": (VALUES, lambda v: tuple(map(tuple, v.tolist()))),
    "list of whole numbers": (WHOLE, lambda v: v.tolist()),
    "list of arrays": (VALUES, list),
    "list of tensors": (VALUES, lambda v: list(torch.tensor(v))),
    "list of tensors with gradient": (VALUES, lambda v: list(torch.tensor(v, requires_grad=True))),
    "list of bfloat16 tensors": (VALUES, lambda v: list(torch.tensor(v, dtype=torch.bfloat16))),
    "frame": (VALUES, pd.DataFrame),
    **{
        f"array {kind}": (WHOLE if np.dtype(kind).kind in "iu" else VALUES, lambda v, kind=kind: v.astype(kind))
        for kind in ("f2", "f4", "f8", "g", ">f4", ">f8", ">f2", "i1", "i4", "i8", "u1", "u2", ">i4")
    },
    **{
        f"{name} array {kind}": (VALUES, lambda v, make=make, kind=kind: make(v.astype(kind)))
        for kind in ("f4", "f8")
        for name, make in {
            "Fortran": np.asfortranarray,
            "reversed": lambda v: v[::-1, ::-1].copy()[::-1, ::-1],
            "strided": lambda v: np.repeat(v, 2, axis=1)[:, ::2],
            "read-only": read_only,
        }.items()
    },
    **{
        f"tensor {dtype}": (
            VALUES if dtype.is_floating_point else WHOLE,
            lambda v, dtype=dtype: torch.tensor(v).to(dtype),
        )
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8)
    },
    "tensor with gradient": (VALUES, lambda v: torch.tensor(v, requires_grad=True)),
    "parameter": (VALUES, lambda v: torch.nn.Parameter(torch.tensor(v, dtype=torch.float32))),
    "computed tensor": (VALUES, lambda v: torch.tensor(v, requires_grad=True) * 1),
    "transposed tensor": (VALUES, lambda v: torch.tensor(v.T.copy()).T),
    "expanded tensor": (np.ones((2, 3)), lambda v: torch.ones(1, 1).expand(2, 3)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_every_kind(kind):
    values, make = KINDS[kind]
    layer = Converter(spec({"type": "Dense", "weight": make(values)}), dtype="double").model.layer("Dense_1")
    assert layer.weight.dtype == torch.float64
    np.testing.assert_array_equal(layer.weight.numpy(), values)
    assert not layer.weight.requires_grad


def test_double_weights_keep_their_digits():
    """R passes weights through single precision whatever is asked for (quirk Q5)."""
    model = spec({"type": "Dense", "weight": [[0.1, 1 / 3, np.pi]]})
    assert Converter(model, dtype="double").model.layer("Dense_1").weight.tolist() == [[0.1, 1 / 3, np.pi]]
    result = Gradient(Converter(model, dtype="float"), np.zeros((1, 3)), dtype="double").get_result()
    assert result[0, :, 0].tolist() == [0.1, 1 / 3, np.pi]


@pytest.mark.parametrize("make", [np.array, torch.tensor])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_are_copied(make, dtype):
    """Also for the precision that is only built when a method asks for it."""
    weight, bias = (make(x, dtype=getattr(np if make is np.array else torch, dtype)) for x in (VALUES, VALUES[1, :2]))
    params, dim = {"negative_slope": 0.5}, [3]
    layer = {
        "type": "Dense", "weight": weight, "bias": bias, "activation_name": "leaky_relu", "activation_params": params,
    }  # fmt: skip
    converter = Converter({"input_dim": dim, "layers": [layer]})
    x = np.random.default_rng(0).normal(size=(5, 3))
    before = Gradient(
        Converter({"input_dim": [3], "layers": [copy.deepcopy(layer)]}), x, dtype="double", ignore_last_act=False
    )
    weight[:] = 99
    bias[:] = 99
    params["negative_slope"] = 99.0
    dim[0] = 99
    for kind in ("double", "float"):
        after = Gradient(converter, x, dtype=kind, ignore_last_act=False)
        np.testing.assert_allclose(after.get_result(), before.get_result(), rtol=1e-6)
        np.testing.assert_allclose(after.preds[0], before.preds[0], rtol=1e-5)


def test_the_spec_is_not_changed():
    model = spec(
        dense(name="a"),
        {"type": "Padding", "padding": 1, "value": None},
        outputs="Padding_2",
        input_names=["a", "b", "c"],
    )
    saved = copy.deepcopy(model)
    Converter(model, save_model_as_dict=True)
    assert str(model) == str(saved)
    assert model["layers"][0].keys() == saved["layers"][0].keys()


# -- and back ---------------------------------------------------------------------------------------------------

EVERYTHING = {
    "input_dim": [[2, 8], [2, 6, 7], [3]],
    "layers": [
        {"type": "Conv1D", "weight": W1, "bias": B3, "activation_name": "leaky_relu",
         "activation_params": {"negative_slope": 0.2}, "strides": 2, "padding": [1, 2], "dilation_rate": 1,
         "name": "conv1"},
        {"type": "BatchNorm", "gamma": np.ones(3), "beta": B3, "run_mean": B3, "run_var": B3**2 + 1, "eps": 1e-3,
         "name": "norm"},
        {"type": "Activation", "act_name": "elu", "act_params": {"alpha": 0.5}},
        {"type": "MaxPooling1D", "kernel_size": 2, "stride": 1},
        {"type": "Padding", "padding": 1, "mode": "reflect"},
        {"type": "Flatten", "order": "channels_last", "name": "flat1"},
        {"type": "Conv2D", "weight": W2, "padding": [1, 2], "stride": [1, 2], "inputs": ["input_2"], "name": "conv2"},
        {"type": "AveragePooling2D", "kernel_size": [2, 1], "name": "average"},
        {"type": "GlobalPooling", "method": "max", "keepdims": True, "inputs": "average"},
        {"type": "Flatten", "name": "flat2"},
        {"type": "Skipping", "name": "skip"},
        {"type": "Add", "inputs": ["skip", "input_3"], "name": "sum", "dim_in": [[3], [3]], "dim_out": 3},
        {"type": "Concatenation", "dim": -1, "inputs": ["flat1", "sum", "sum"], "name": "cat"},
        {"type": "Dense", "weight": RNG.normal(size=(4, 24)), "activation_name": "softmax", "name": "out"},
        {"type": "Dense", "weight": RNG.normal(size=(2, 3)).astype(np.float32), "inputs": ["sum"], "name": "other"},
    ],
    "outputs": ["other", "out"],
    "input_names": [[["r", "g"], list("abcdefgh")], [["r", "g"], list("uvwxyz"), list("1234567")], [["p", "q", "s"]]],
    "output_names": [[["no", "yes"]], [["A", "B", "C", "D"]]],
}  # fmt: skip


BEYOND_R = {
    "input_dim": [[2, 5, 6]],
    "layers": [
        {"type": "Conv2D", "weight": W2[:2, :1], "groups": 2, "padding": [1, 0, 2, 1], "activation_name": "elu",
         "activation_params": {"alpha": 0.5}},
        {"type": "Standardize", "groups": 2, "eps": 0.1, "center": False},
        {"type": "Scale", "factor": [[[2.0]], [[3.0]]], "shift": 0.5, "name": "scaled"},
        {"type": "Conv2DTranspose", "weight": W2[:2], "stride": [2, 1], "padding": 1, "output_padding": [1, 0]},
        {"type": "Resize", "size": [4, 5], "mode": "bilinear", "align_corners": True},
        {"type": "Take", "axis": 2, "indices": [0, 2, 2]},
        {"type": "AdaptivePooling", "method": "max", "output_size": [3, 2]},
        {"type": "MaxPooling2D", "kernel_size": 2, "strides": 1, "padding": [1, 0], "dilation": [2, 1],
         "ceil_mode": True},
        {"type": "Permute", "axes": [2, 3, 1]},
        {"type": "Reshape", "shape": [2, 3], "name": "matrix"},
        {"type": "Permute", "axes": [2, 1], "name": "turned"},
        {"type": "MatMul", "inputs": ["matrix", "turned"], "name": "product"},
        {"type": "Reduce", "method": "sum", "axes": [-1], "keepdims": True, "inputs": ["matrix"], "name": "sums"},
        {"type": "Multiply", "inputs": ["product", "sums"]},
        {"type": "Reduce", "method": "mean", "axes": [1]},
    ],
}  # fmt: skip
MODELS = pytest.mark.parametrize("model", [EVERYTHING, BEYOND_R], ids=["R's types", "others"])


def is_plain(value) -> bool:
    if isinstance(value, dict):
        return type(value) is dict and all(type(k) is str and is_plain(v) for k, v in value.items())
    if isinstance(value, list):
        return type(value) is list and all(map(is_plain, value))
    return value is None or type(value) in (str, int, float, bool, np.ndarray)


@MODELS
@pytest.mark.parametrize("dtype", ["float", "double"])
def test_model_as_dict(model, dtype):
    converter = Converter(model, dtype=dtype, save_model_as_dict=True)
    again = Converter(converter.model_as_dict, dtype=dtype, save_model_as_dict=True)
    assert is_plain(converter.model_as_dict)
    inputs = [
        batch(*dim).to(getattr(torch, {"float": "float32", "double": "float64"}[dtype])) for dim in converter.input_dim
    ]
    for ours, theirs in zip(again.model(*inputs), converter.model(*inputs), strict=True):
        assert torch.equal(ours, theirs)
    for field in ("input_dim", "output_dim", "input_names", "output_names"):
        assert getattr(again, field) == getattr(converter, field)
    assert str(again.model_as_dict) == str(converter.model_as_dict)
    assert repr(again) == repr(converter)


def test_model_as_dict_is_only_kept_on_request():
    assert Converter(EVERYTHING).model_as_dict is None


@MODELS
def test_spec_as_dict_loses_nothing(model):
    once = check_spec(model)
    twice = check_spec(spec_as_dict(once))
    for a, b in zip(once.layers, twice.layers, strict=True):
        for key in type(a).model_fields:
            mine, other = getattr(a, key), getattr(b, key)
            assert torch.equal(mine, other) if isinstance(mine, torch.Tensor) else mine == other, key
    assert (once.input_dim, once.outputs) == (twice.input_dim, twice.outputs)


def test_model_as_dict_keeps_default_names():
    saved = Converter(spec(dense()), save_model_as_dict=True).model_as_dict
    assert saved["input_names"] == [[["X1", "X2", "X3"]]]
    assert saved["output_names"] == [[["Y1", "Y2"]]]
    assert saved["output_dim"] == [[2]]
    assert saved["outputs"] == ["Dense_1"]


def test_model_as_dict_keeps_the_order_of_levels():
    """Plain lists cannot say it; whatever the dict holds, a converter built from it must show labels in their order."""
    names = pd.Categorical(["p", "q", "r"], categories=["r", "q", "p"])
    converter = Converter(spec(dense()), input_names=names, save_model_as_dict=True)
    frames = [
        Gradient(c, np.ones((1, 3))).get_result("data.frame") for c in (converter, Converter(converter.model_as_dict))
    ]
    assert [list(frame["feature"].cat.categories) for frame in frames] == [["r", "q", "p"]] * 2


def test_changing_the_dict_does_not_change_the_converter():
    """The other precision is built from the spec when a method first asks for it: what it reads must be its own."""
    layer = dense(activation_name="leaky_relu", activation_params={"negative_slope": 0.5})
    converter = Converter(spec(layer), save_model_as_dict=True)
    x = batch(3)
    expected = F.leaky_relu(F.linear(x, tensor(layer["weight"]), tensor(layer["bias"])), 0.5)
    saved = converter.model_as_dict["layers"][0]
    saved["weight"][:] = 0
    saved["bias"][:] = 0
    saved["activation_params"]["negative_slope"] = 7.0
    converter.model_as_dict["input_names"][0][0][0] = "changed"
    result = Gradient(converter, x, dtype="double", ignore_last_act=False)
    torch.testing.assert_close(result.preds[0], expected)
    assert converter.input_names == [[["X1", "X2", "X3"]]]
