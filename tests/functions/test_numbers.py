"""Numbers at the edge: no NaN, no infinity, and answers near those of exact arithmetic.

The oracle computes with 60 digits (mpmath): a net of two layers, differentiated and decomposed by hand. Stated bounds:
double precision within 1e-9, single precision within 1e-4 of the largest value of an answer, where not said otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch

import innsight_py
from innsight_py import Converter
from innsight_py.functions.activations import Activation, activation_names
from innsight_py.functions.elementwise import sum_of_magnitudes
from innsight_py.functions.stabilizers import MANY, away_from_zero

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

mp.mp.dps = 60


@pytest.fixture(autouse=True)
def _denormals_are_numbers():
    """Keep denormals: libraries that other tests load may have told the processor to flush them to 0."""
    torch.set_flush_denormal(False)


BOUNDS = {"double": 1e-9, "float": 1e-4}
#: The smallest denormal and the smallest normal number of each precision.
DENORMAL = {"double": 5e-324, "float": 1e-45}
TINY = {"double": 2.3e-308, "float": 1.2e-38}
STABILIZER = {"double": 1e-15, "float": 1e-6}

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "Gradient": ("run_grad", {}),
    "Gradient x Input": ("run_grad", {"times_input": True}),
    "SmoothGrad": ("run_smoothgrad", {"n": 4, "seed": 1}),
    "IntegratedGradient": ("run_intgrad", {"n": 5}),
    "ExpectedGradient": ("run_expgrad", {"n": 5, "seed": 1}),
    "DeepLift": ("run_deeplift", {}),
    "DeepLift, mean": ("run_deeplift", {"winner_takes_all": False}),
    "DeepLift, reveal-cancel": ("run_deeplift", {"rule_name": "reveal_cancel"}),
    "DeepSHAP": ("run_deepshap", {}),
    "LRP": ("run_lrp", {}),
    "LRP, mean": ("run_lrp", {"winner_takes_all": False}),
    "LRP, epsilon": ("run_lrp", {"rule_name": "epsilon"}),
    "LRP, alpha-beta": ("run_lrp", {"rule_name": "alpha_beta", "rule_param": 2.0}),
}
#: Activations that are not defined, or infinite, for some numbers: nothing is promised of them there.
PARTIAL = {"log", "log1p", "sqrt", "rsqrt", "reciprocal", "exp", "expm1", "pow"}
SMOOTH = {
    "tanh": mp.tanh,
    "sigmoid": lambda z: 1 / (1 + mp.exp(-z)),
    "softplus": lambda z: mp.log1p(mp.exp(z)),
    "relu": lambda z: max(z, mp.mpf(0)),
    "silu": lambda z: z / (1 + mp.exp(-z)),
    "elu": lambda z: z if z > 0 else mp.expm1(z),
    "gelu": lambda z: z * mp.ncdf(z),
    "softsign": lambda z: z / (1 + abs(z)),
    "erf": mp.erf,
    "atan": mp.atan,
}


def one_layer(activation: str, w: float = 1.0, b: float = 0.0, last: bool = True) -> dict:
    """Return a net of one feature and one node, with the activation inside."""
    layers = [{"type": "Dense", "weight": [[w]], "bias": [b], "activation_name": activation}]
    return {
        "input_dim": 1,
        "layers": [*layers, {"type": "Dense", "weight": [[1.0]], "bias": [0.0]}] if last else layers,
    }


def explain(model: dict | Converter, method: str, x: Any, dtype: str, **keys: Any) -> np.ndarray:
    name, options = METHODS[method]
    data = torch.tensor(np.array(x), dtype=torch.float64 if dtype == "double" else torch.float32)
    converter = model if isinstance(model, Converter) else Converter(model, dtype=dtype)
    return (
        getattr(innsight_py, name)(converter, data, dtype=dtype, verbose=False, **options, **keys).result[0][0].numpy()
    )


def rounded(value: float, dtype: str) -> float:
    """Return a number as the precision has it."""
    return float(np.float32(value)) if dtype == "float" else value


# -- saturation --------------------------------------------------------------------------------------------------

FAR = [-1e4, -700.0, -90.0, -40.0, -20.0, 20.0, 40.0, 90.0, 700.0, 1e4]


VECTORS = ("softmax", "log_softmax", "sparsemax", "keras_sparsemax")


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize(
    ("activation", "method"),
    [
        (name, method)
        for name in activation_names()
        for method in METHODS
        if name not in PARTIAL and not (name in VECTORS and method.startswith("LRP"))  # which has no rule there
    ],
)
def test_far_out_everything_is_finite(activation, method, dtype):
    layers = [
        {"type": "Dense", "weight": [[1.0], [-0.5], [0.3]], "bias": [0.0, 0.1, 0.0], "activation_name": activation},
        {"type": "Dense", "weight": [[1.0, 2.0, -1.0]]},
    ]
    found = explain({"input_dim": 1, "layers": layers}, method, [[x] for x in FAR], dtype)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("activation", SMOOTH)
def test_gradient_far_out(activation, dtype):
    found = explain(one_layer(activation), "Gradient", [[x] for x in FAR], dtype).ravel()
    for x, value in zip(FAR, found, strict=True):
        exact = float(mp.diff(SMOOTH[activation], mp.mpf(x), h=mp.mpf("1e-25")))
        # A derivative is computed as 1 - y^2 or y (1 - y): near 0 its error is that of 1.
        assert abs(value - exact) <= BOUNDS[dtype] * max(1, abs(exact))


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("rule", ["DeepLift", "DeepLift, reveal-cancel"])
@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("ref", [0.0, 15.0, -30.0, 500.0])
def test_deeplift_far_out(activation, rule, ref, dtype):
    found = explain(one_layer(activation), rule, [[x] for x in FAR], dtype, x_ref=[[ref]]).ravel()
    for x, value in zip(FAR, found, strict=True):
        at, at_ref = (SMOOTH[activation](mp.mpf(z)) for z in (x, ref))
        exact = float(at - at_ref)
        assert abs(value - exact) <= BOUNDS[dtype] * max(1, abs(float(at)), abs(float(at_ref)))


# -- differences at the threshold ----------------------------------------------------------------------------------


def around(dtype: str) -> list[float]:
    """Return differences at, just beside and far below the near-zero threshold."""
    eps = STABILIZER[dtype]
    return [eps, -eps, np.nextafter(eps, 1), np.nextafter(eps, 0),
            2 * eps, eps / 2, -eps / 3, 10 * eps, 100 * eps, 1e4 * eps,
            DENORMAL[dtype], TINY[dtype], 0.0]  # fmt: skip


def steps_at(activation: str, dtype: str) -> float:
    """Return the precision of an output near 0; an old torch computes elu as exp(x) - 1, with the digits of 1."""
    eps = np.finfo(np.float32 if dtype == "float" else np.float64).eps
    small = torch.tensor(-1e-15, dtype=torch.float64)
    old_elu = activation == "elu" and bool(torch.nn.functional.elu(small) != torch.expm1(small))
    return eps * (1.0 if old_elu else abs(float(SMOOTH[activation](mp.mpf(0)))))


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("rule", ["DeepLift", "DeepLift, reveal-cancel"])
@pytest.mark.parametrize("activation", SMOOTH)
def test_differences_around_the_threshold(activation, rule, dtype):
    """From a reference at 0 differences are exact however small: so are multipliers, to a bound."""
    differences = [rounded(d, dtype) for d in around(dtype)]
    found = explain(one_layer(activation), rule, [[d] for d in differences], dtype, x_ref=[[0.0]]).ravel()
    assert np.isfinite(found).all()
    for d, value in zip(differences, found, strict=True):
        exact = float(SMOOTH[activation](mp.mpf(d)) - SMOOTH[activation](mp.mpf(0)))
        step = steps_at(activation, dtype)  # an output away from 0 moves by steps of its own precision
        assert abs(value - exact) <= 1e-4 * abs(exact) + 4 * step + 4 * DENORMAL[dtype]


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus", "silu"])
def test_multipliers_just_beside_a_reference(activation, dtype):
    """Away from 0 a small difference has lost digits; the multiplier stays of the order of the derivative."""
    ref = 1.25
    eps = np.finfo(np.float32 if dtype == "float" else np.float64).eps
    x = [ref + k * ref * eps * scale for k in (-3, -1, 1, 2) for scale in (1, 16, 1024, 2**20)]
    found = explain(one_layer(activation), "DeepLift", [[v] for v in x], dtype, x_ref=[[ref]]).ravel()
    slope = float(mp.diff(SMOOTH[activation], mp.mpf(ref), h=mp.mpf("1e-25")))
    for value, there in zip(found, x, strict=True):
        difference = rounded(there, dtype) - ref
        # The output's own rounding, twice, over the difference.
        bound = 3 * eps / abs(difference) + 2 * abs(difference) if difference else 0
        assert abs(value - slope * difference) <= max(bound, 1e-6) * abs(difference)


def test_the_threshold_itself():
    """At the stabiliser the derivative half-way is taken, above it the quotient: both are right where they are used."""
    for dtype, eps in STABILIZER.items():
        eps = rounded(eps, dtype)
        above = float(np.nextafter(np.float32(eps), np.float32(1))) if dtype == "float" else float(np.nextafter(eps, 1))
        found = explain(one_layer("tanh"), "DeepLift", [[eps], [above], [-eps], [-above]], dtype).ravel()
        np.testing.assert_allclose(found, [eps, above, -eps, -above], rtol=1e-6)


# -- denormals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("where", ["data", "weights", "both"])
def test_denormals(where, method, dtype):
    small = DENORMAL[dtype] * 1e3
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((4, 3)) * (small if where != "data" else 1)
    layers = [
        {"type": "Dense", "weight": weight, "activation_name": "tanh"},
        {"type": "Dense", "weight": rng.standard_normal((4, 4)), "activation_name": "relu"},
        {"type": "Dense", "weight": rng.standard_normal((2, 4))},
    ]
    x = rng.standard_normal((3, 3)) * (small if where != "weights" else 1)
    found = explain({"input_dim": 3, "layers": layers}, method, x, dtype)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (kind, method)
        for kind in ("MaxPooling1D", "AveragePooling1D", "Standardize", "BatchNorm", "Softmax")
        for method in METHODS
        if not (kind in ("Standardize", "Softmax") and method.startswith("LRP"))  # which has no rule there
    ],
)
@pytest.mark.parametrize("values", ["denormal", "zero", "equal", "1e4"])
def test_layers_at_the_edge(kind, values, method, dtype):
    keys: dict[str, Any] = {
        "MaxPooling1D": {"kernel_size": 2, "strides": 1}, "AveragePooling1D": {"kernel_size": 2},
        "Standardize": {"groups": 1, "eps": 1e-5},
        "BatchNorm": {"gamma": [1.0, 2.0], "beta": [0.0, 1.0],
            "run_mean": [0.0, 1.0], "run_var": [1e-12, 1.0], "eps": 1e-5},
        "Softmax": {"act_name": "softmax"},
    }[kind]  # fmt: skip
    rng = np.random.default_rng(2)
    layer = {"type": "Activation" if kind == "Softmax" else kind, **keys}
    flat = {"type": "Flatten"}
    width = {"MaxPooling1D": 6, "AveragePooling1D": 4}.get(kind, 8)
    model = {"input_dim": [2, 4], "layers": [layer, flat, {"type": "Dense", "weight": rng.standard_normal((2, width))}]}
    x = rng.standard_normal((3, 2, 4))
    x = {"denormal": x * DENORMAL[dtype] * 50, "zero": 0 * x, "equal": np.ones_like(x), "1e4": 1e4 * x}[values]
    assert np.isfinite(explain(model, method, x, dtype)).all()


# -- large logits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("activation", ["softmax", "log_softmax", "sigmoid", "logsigmoid"])
@pytest.mark.parametrize("ignore_last_act", [True, False])
def test_large_logits_are_finite(activation, ignore_last_act, method, dtype):
    weight = np.array([[1e4, 0.0], [9.9e3, 10.0], [-1e4, 1.0]])
    layers = [{"type": "Dense", "weight": weight, "activation_name": activation}]
    x = [[1.0, 1.0], [-1.0, 0.5], [1e-4, 1.0], [0.0, 0.0], [1.0, 10.0]]
    found = explain({"input_dim": 2, "layers": layers}, method, x, dtype, ignore_last_act=ignore_last_act)
    assert np.isfinite(found).all()


def softmax(z: list[Any]) -> list[Any]:
    top = max(z)
    weights = [mp.exp(v - top) for v in z]
    return [w / mp.fsum(weights) for w in weights]


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
def test_gradient_of_a_softmax_of_large_logits(shift, dtype):
    weight, bias = [[2.0, -1.0], [0.5, 1.5], [-1.0, 0.25]], [shift, shift + 1, shift - 0.5]
    layers = [{"type": "Dense", "weight": weight, "bias": bias, "activation_name": "softmax"}]
    x = [0.5, -0.25]
    found = explain({"input_dim": 2, "layers": layers}, "Gradient", [x], dtype, ignore_last_act=False)[0]
    p = softmax(
        [mp.fsum(mp.mpf(w) * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
    )
    for k in range(3):
        for i in range(2):
            exact = float(p[k] * (weight[k][i] - mp.fsum(p[j] * weight[j][i] for j in range(3))))
            bound = BOUNDS[dtype] if not shift or dtype == "double" else 1e-2  # a logit of 1e4 has 3 digits left
            assert abs(found[i, k] - exact) <= bound


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("size", [1.0, 1e2, 1e4])
def test_deeplift_of_a_softmax_of_large_logits_sums_to_the_difference(size, log, dtype):
    name = "log_softmax" if log else "softmax"
    rng = np.random.default_rng(4)
    # Whole numbers, so that the logits are exact in both precisions.
    z, z_ref = (np.round(size * rng.standard_normal(4)) for _ in range(2))
    layers = [{"type": "Activation", "act_name": name}, {"type": "Dense", "weight": np.eye(4)}]
    found = explain({"input_dim": 4, "layers": layers}, "DeepLift", [z], dtype, x_ref=[z_ref])[0].sum(0)
    p, p_ref = (softmax([mp.mpf(v) for v in logits]) for logits in (z, z_ref))
    for k in range(4):
        exact = float(mp.log(p[k]) - mp.log(p_ref[k]) if log else p[k] - p_ref[k])
        assert abs(found[k] - exact) <= BOUNDS[dtype] * max(1, size if log else 1)


# -- single precision against double ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_single_precision_is_near_double(method, size):
    rng = np.random.default_rng(6)
    layers = [
        {"type": "Dense", "weight": np.float32(rng.standard_normal((6, 4)) / size), "activation_name": "tanh"},
        {"type": "Dense", "weight": np.float32(rng.standard_normal((5, 6))), "bias": np.float32(rng.standard_normal(5)),
         "activation_name": "softplus"},
        {"type": "Dense", "weight": np.float32(rng.standard_normal((3, 5))), "activation_name": "sigmoid"},
    ]  # fmt: skip
    x = np.float32(size * rng.standard_normal((8, 4)))
    single, double = (explain({"input_dim": 4, "layers": layers}, method, x, dtype) for dtype in ("float", "double"))
    scale = np.abs(double).max((1, 2), keepdims=True)
    bound = 1e-2 if method.startswith("LRP") else 2e-4  # the stabiliser is 1e-6 there, beside sums that cancel
    assert (np.abs(single - double) <= bound * scale).all()


@pytest.mark.parametrize("name", [name for name in activation_names() if name in SMOOTH])
@pytest.mark.parametrize("dtype", BOUNDS)
def test_derivatives(name, dtype):
    z = torch.tensor(
        [-30.0, -3.0, -0.7, -1e-3, 1e-3, 0.7, 3.0, 30.0], dtype=torch.float64 if dtype == "double" else torch.float32
    )
    found = Activation(name).derivative(z).tolist()
    for x, value in zip(z.tolist(), found, strict=True):
        exact = float(mp.diff(SMOOTH[name], mp.mpf(x), h=mp.mpf("1e-25")))
        assert math.isclose(value, exact, rel_tol=BOUNDS[dtype], abs_tol=BOUNDS[dtype] * 1e-2)


@pytest.mark.parametrize("case", ["whole", "zeros", "nan", "not dense", "double"])
def test_large_denominators_are_moved_as_small_ones_are(case):
    """In parts, and without a look at zeros where there are none: to the last bit the same numbers."""
    z = torch.randn(3, 5, 70, 90, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    if case == "zeros":
        z[0, 0, 0, :2], z[2, 4, 69, 89] = torch.tensor([0.0, -0.0]), 0
    elif case == "nan":
        z[1, 2, 3, 4] = float("nan")
    elif case == "not dense":
        z = z[:, :, ::2]
    elif case == "double":
        z = z.double()
    assert z.numel() >= MANY
    moved = away_from_zero(z, 1e-4, -1)
    one_by_one = [away_from_zero(row, 1e-4, -1) for row in z.flatten().split(100)]
    assert torch.equal(moved.flatten().nan_to_num(7.0), torch.cat(one_by_one).nan_to_num(7.0))
    assert moved.isnan().sum() == (case == "nan")
    assert not (moved == 0).any()


@pytest.mark.parametrize("stride", [1, 2])
def test_a_large_sum_of_magnitudes(stride):
    x = torch.arange(-200_000, 200_000, dtype=torch.float64).reshape(1000, 400).T[::stride]
    assert sum_of_magnitudes(x) == x.abs().sum().item()
