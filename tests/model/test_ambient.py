"""Calls do not depend on what a caller has switched on around them; numbers that a precision cannot hold are named."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from innsight_py import (
    Converter,
    SpecError,
    run_cw,
    run_deeplift,
    run_deepshap,
    run_expgrad,
    run_grad,
    run_intgrad,
    run_lrp,
    run_smoothgrad,
    torch_grad,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")


@contextlib.contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


AROUND = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "device": lambda: torch.device("meta"),
    "double": lambda: default_dtype(torch.float64),
    "half": lambda: default_dtype(torch.float16),
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
}
METHODS = {
    "grad": run_grad, "smoothgrad": run_smoothgrad, "intgrad": run_intgrad, "expgrad": run_expgrad,
    "deeplift": run_deeplift, "deepshap": run_deepshap, "lrp": run_lrp,
    "cw": lambda c, x, **more: run_cw(c, x, times_input=True, **more),
}  # fmt: skip


def module():
    torch.manual_seed(4)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(48, 3)
    ).eval()


def answer(name: str, model) -> list[np.ndarray]:
    converter = Converter(model, input_dim=(1, 6, 6))
    x = np.random.default_rng(0).standard_normal((4, 1, 6, 6))
    more = {"seed": 1, "n": 4} if name in ("smoothgrad", "expgrad", "deepshap") else {}
    more = {"n": 4} if name == "intgrad" else more
    if name == "deepshap":
        more = {"data_ref": x[:2]}
    result = METHODS[name](converter, x, **more)
    frame = result.get_result("data.frame")
    return [result.get_result(), frame["value"].to_numpy(), result.summary()["mean_abs"].to_numpy()]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", METHODS)
def test_calls_do_not_depend_on_what_is_switched_on(name, around):
    model = module()
    expected = answer(name, model)
    with AROUND[around]():
        found = answer(name, model)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("around", [name for name in AROUND if name not in ("inference", "no_grad")])
def test_bare_modules(around):
    model, x = module(), torch.randn(3, 1, 6, 6)
    expected = torch_grad(model, x)
    with AROUND[around]():
        assert torch.equal(torch_grad(model, x), expected)


def test_a_state_is_left_as_it_was_after_an_error():
    with default_dtype(torch.float64), pytest.raises(ValueError, match="input_dim"):
        Converter(module())
    with torch.autocast("cpu"):
        with pytest.raises(ValueError, match="input_dim"):
            Converter(module())
        assert torch.is_autocast_enabled("cpu")


def test_weights_that_single_precision_cannot_hold():
    spec = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, 1e300]], "name": "wide"}]}
    with pytest.raises(SpecError, match=r"Layer 'wide': key 'weight' has 1e\+300.*dtype=\"double\""):
        Converter(spec)
    converter = Converter(spec, dtype="double")
    assert run_grad(converter, [[1.0, 1.0]], dtype="double").get_result()[0, 1, 0] == 1e300
    with pytest.raises(SpecError, match="single precision cannot hold"):
        run_grad(converter, [[1.0, 1.0]])


def test_infinite_shifts_are_what_they_are():
    """A mask of attention."""
    spec = {
        "input_dim": [2],
        "layers": [{"type": "Scale", "shift": [0.0, -np.inf]}, {"type": "Activation", "act_name": "softmax"}],
    }
    assert Converter(spec).model(torch.ones(1, 2))[0].tolist() == [[1.0, 0.0]]
