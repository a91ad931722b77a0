"""LSTMs whose steps torch's own kernel runs all at once: the same numbers as step by step, and fewer calls."""

from __future__ import annotations

import pytest
import torch
from recurrent_loops import Loops
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from innsight_py import Converter, run_deeplift, run_grad, run_lrp
from innsight_py.functions.layout import has_onednn
from innsight_py.layers import fused
from innsight_py.layers.steps import Steps

STEPS, FEATURES = 7, 3


class Net(nn.Module):
    """An LSTM; what is read of it, how it starts, and what becomes of its rows are one of several."""

    def __init__(self, inner: nn.Module, how: str) -> None:
        super().__init__()
        self.inner, self.how = inner, how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "rows are folded":
            return self.inner(x[:, 1:].reshape(-1, 2, FEATURES))[0][:, -1].reshape(len(x), -1)
        states = None
        if self.how == "states are data":
            data = x[:, 0, :1].expand(-1, 4).unsqueeze(0)
            states = data, 2 * data
        out, (h, c) = self.inner(x, states)
        return c[0] if self.how == "cells" else torch.cat([out[:, -1], h[0]], 1) if self.how == "last" else out.mean(1)


CASES = {
    "plain": ("all", {}),
    "last step": ("last", {}),
    "both ways, two layers": ("all", {"num_layers": 2, "bidirectional": True}),
    "no biases": ("all", {"bias": False}),
    "cells": ("cells", {}),
    "states are data": ("states are data", {}),
    "rows are folded": ("rows are folded", {"bidirectional": True}),
}


def lstm(**options) -> nn.LSTM:
    torch.manual_seed(3)
    return nn.LSTM(FEATURES, 4, **{"batch_first": True, **options}).double()


def rows(n: int, seed: int = 0, steps: int = STEPS) -> Tensor:
    return torch.randn(n, steps, FEATURES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


METHODS = {
    "gradient": lambda c, **keys: run_grad(c, rows(3), **keys),
    "deeplift": lambda c, **keys: run_deeplift(c, rows(3), x_ref=rows(1, 1), **keys),
    "deeplift, many references": lambda c, **keys: run_deeplift(c, rows(3), x_ref=rows(3, 1), **keys),
    "epsilon": lambda c, **keys: run_lrp(c, rows(3), rule_name="epsilon", rule_param=0.1, **keys),
    "alpha_beta": lambda c, **keys: run_lrp(c, rows(3), rule_name="alpha_beta", **keys),
}


@pytest.fixture
def runs(monkeypatch) -> list[Steps]:
    """Let the kernel run whatever the precision, and return the layers that it ran."""
    found: list[Steps] = []
    own = Steps._run_fused

    def run(self, *args):
        found.append(self)
        return own(self, *args)

    monkeypatch.setattr(Steps, "_run_fused", run)
    monkeypatch.setattr(fused, "is_quicker", lambda x, size: True)
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_the_same_as_step_by_step(case, method, runs):
    how, options = CASES[case]
    made = lstm(**options)
    kernel, steps = (
        METHODS[method](Converter(Net(inner, how), input_dim=(STEPS, FEATURES), dtype="double"), dtype="double")
        for inner in (made, Loops(made))
    )
    assert len({layer.name for layer in runs}) == options.get("num_layers", 1) * (
        2 if options.get("bidirectional") else 1
    )
    expected = steps.result[0][0]
    torch.testing.assert_close(kernel.result[0][0], expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def test_where_a_pass_keeps_only_what_a_walk_looks_at(runs):
    """What the kernel takes is still there then, also of a layer that is not the first."""
    model = Converter(Net(lstm(num_layers=2), "all"), input_dim=(STEPS, FEATURES), dtype="double").model_in("double")
    runs.clear()
    trace = model.trace([rows(3)], seen=lambda name, layer, record: record.release())
    assert len(runs) == 2
    assert set(trace.values) == {*model.inputs, *model.outputs}
    torch.testing.assert_close(trace.values[model.outputs[0]], model(rows(3))[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("steps", range(1, 12))
def test_running_sums(steps):
    kept, added, start = torch.rand(2, steps, 3).double(), torch.randn(2, steps, 3).double(), torch.randn(2, 3).double()
    expected, one = [], start
    for i in range(steps):
        one = kept[:, i] * one + added[:, i]
        expected.append(one)
    torch.testing.assert_close(fused.running(kept, added, start), torch.stack(expected, 1), rtol=0, atol=1e-14)


class Count(TorchDispatchMode):
    """Counts the calls of operators."""

    calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.skipif(not has_onednn(torch.ones(1)), reason="oneDNN is not there")
@pytest.mark.parametrize("method", ["gradient", "deeplift", "epsilon"])
def test_in_single_precision_only_the_walk_back_goes_from_step_to_step(method):
    """Forward, more steps take a few calls more, as their square root grows."""
    run = {
        "gradient": run_grad,
        "deeplift": run_deeplift,
        "epsilon": lambda c, x: run_lrp(c, x, rule_name="epsilon", rule_param=0.1),
    }[method]
    calls = []
    for steps in (49, 100):
        converter = Converter(Net(lstm().float(), "last"), input_dim=(steps, FEATURES))
        x = rows(2, steps=steps).float()
        run(converter, x)
        with Count() as count:
            run(converter, x)
        calls.append(count.calls)
    assert calls[1] - calls[0] == 51 * 4 + 3 * 4
    assert calls[0] < 49 * 4 + 600


@pytest.mark.parametrize(
    ("shape", "size", "takes"),
    [
        ((32, 2, 3), 32, True), ((33, 2, 3), 32, False), ((0, 2, 3), 32, False), ((1, 2, 3), 256, True),
        ((1, 2, 3), 257, False), ((16, 2, 128), 32, True), ((16, 2, 129), 32, False),
    ],
)  # fmt: skip
def test_the_loop_takes_what_the_kernel_is_no_quicker_with(shape, size, takes):
    x = torch.ones(shape)
    assert fused.is_quicker(x, size) == (takes and has_onednn(x))
    assert not fused.is_quicker(x.double(), size)
