"""Random modules of fractions, whole numbers, truth values, complex numbers and detached paths, beside autograd.

Hypothesis draws a sequence of steps; each takes one or two of the values there are and adds one of its own kind. What
comes out is a sum of all fractions, so that every step counts. Values and gradients are torch's, and DeepLift either
says no by name or adds up, but for what is detached.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from innsight_py import Converter, UnsupportedLayerError, run_deeplift, run_grad

WIDTH = 4


def examples(number: int) -> settings:
    return settings(
        max_examples=number,
        suppress_health_check=[HealthCheck.too_slow],
        deadline=None,
        derandomize=True,
        database=None,
    )


#: Steps by the kinds of what they take and give: f fractions, w whole numbers, t truth values, c complex numbers.
STEPS: dict[str, dict[str, Callable[..., Tensor]]] = {
    "ff": {
        "tanh": torch.tanh,
        "square": torch.square,
        "scaled": lambda x: 0.7 * x - 0.2,
        "softmax": lambda x: x.softmax(1),
        "mean off": lambda x: x - x.mean(1, keepdim=True),
        "by hand a norm": lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-3),
        "sorted": lambda x: x.sort(1)[0],
        "clamped": lambda x: x.clamp(-0.6, 0.9),
        "single": lambda x: x.float().to(x.dtype) * 1.0 if x.dtype == torch.float32 else x * 1.0,
        "detached": lambda x: x.detach() * 0.5,
        "rolled": lambda x: x.roll(1, 1),
    },
    "fff": {
        "sum": torch.add,
        "product": torch.mul,
        "larger": lambda x, y: torch.where(x > y, x, 0.5 * y),
        "given product": lambda x, y: x * y.detach(),
        "quotient": lambda x, y: x / (y * y + 1),
    },
    "ft": {"above": lambda x: x > 0.2, "below": lambda x: x.abs() < 0.8, "not equal": lambda x: x.round() != 0},
    "fft": {"compared": torch.gt},
    "tt": {"not": torch.logical_not, "flipped": lambda t: t.flip(1)},
    "ttt": {"and": torch.bitwise_and, "or": torch.logical_or, "xor": torch.bitwise_xor},
    "tw": {"int": lambda t: t.int(), "counted": lambda t: t.long().cumsum(1)},
    "fw": {"floor": lambda x: (3 * x).floor().long(), "order": lambda x: x.argsort(1)},
    "ww": {"shifted": lambda w: w + 2, "halved": lambda w: torch.div(w, 2, rounding_mode="floor")},
    "www": {"whole sum": torch.add, "rest": lambda a, b: a % (b.abs() + 1)},
    "wf": {"as fractions": lambda w: w * 0.25},
    "tf": {"as numbers": lambda t: t.to(torch.get_default_dtype()) * 0.5},
    "tff": {"masked": lambda t, x: x * t, "filled": lambda t, x: x.masked_fill(t, 0.3)},
    "wff": {"times": lambda w, x: 0.25 * w * x, "gathered": lambda w, x: x.gather(1, w.abs().long() % WIDTH)},
    "fc": {"spectrum": torch.fft.fft, "turned": lambda x: x * (0.6 + 0.8j)},
    "cc": {"conjugate": torch.conj, "complex square": lambda c: c * c * 0.1},
    "cf": {
        "real": lambda c: c.real * 0.5,
        "inverse": lambda c: torch.fft.ifft(c).real,
        "size": lambda c: (c.abs() + 1).log(),
    },
}  # fmt: skip
NAMES = [(kinds, name) for kinds, steps in STEPS.items() for name in steps]


class Random(nn.Module):
    """Runs steps: (kinds, name, which of the values of each kind)."""

    def __init__(self, steps: list[tuple[str, str, list[int]]], no_grad: int | None) -> None:
        super().__init__()
        self.steps, self.no_grad = steps, no_grad
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        values: dict[str, list[Tensor]] = {"f": [h, x], "t": [], "w": [], "c": []}
        for number, (kinds, name, which) in enumerate(self.steps):
            *taken, given = kinds
            if any(not values[kind] for kind in taken):
                continue
            arguments = [values[kind][i % len(values[kind])] for kind, i in zip(taken, which, strict=False)]
            if number == self.no_grad:
                with torch.no_grad():
                    value = STEPS[kinds][name](*arguments)
            else:
                value = STEPS[kinds][name](*arguments)
            values[given].append(value.to(x.dtype) if given == "f" else value)
        total = values["f"][0]
        for value in values["f"][1:]:
            total = total + value
        return self.last(total)


@st.composite
def modules(draw) -> tuple[nn.Module, Tensor]:
    step = st.tuples(st.sampled_from(NAMES), st.lists(st.integers(0, 5), min_size=2, max_size=2))
    steps = draw(st.lists(step, min_size=2, max_size=9))
    no_grad = draw(st.one_of(st.none(), st.integers(0, len(steps) - 1)))
    seed = draw(st.integers(0, 2**16))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = Random([(kinds, name, which) for (kinds, name), which in steps], no_grad).eval()
        return module, torch.randn(3, WIDTH, dtype=torch.float64)


def gradients(module: nn.Module, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    out = module.double()(leaf)
    return torch.stack([torch.autograd.grad(out[:, k].sum(), leaf, retain_graph=True)[0] for k in range(2)], -1)


@examples(12)
@given(modules())
def test_values_and_gradients_are_torchs(drawn):
    module, x = drawn
    expected = gradients(module, x)
    converter = Converter(module, input_dim=WIDTH, dtype="double")
    with torch.no_grad():
        torch.testing.assert_close(converter.model(x)[0], module(x), rtol=1e-8, atol=1e-8)
    found = run_grad(converter, x, output_idx=[0, 1], dtype="double").result[0][0]
    finite = expected.isfinite()
    torch.testing.assert_close(found[finite], expected[finite], rtol=1e-7, atol=1e-8)


@examples(12)
@given(modules())
def test_deeplift_adds_up_or_says_no(drawn):
    module, x = drawn
    converter = Converter(module, input_dim=WIDTH, dtype="double")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = run_deeplift(converter, x, x_ref=0.3 * x[:1], output_idx=[0, 1], dtype="double")
        except UnsupportedLayerError as error:
            result, message = None, str(error)
    if result is None:
        assert "aten::" in message or "a cast to" in message
    elif converter.model.takes_as_given:
        assert result.residual.reasons
    else:
        torch.testing.assert_close(result.result[0][0].sum(1), result.decomp_goal[0], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("kinds", "name"), NAMES)
def test_each_step_is_met(kinds, name):
    """Each alone, behind one that gives the kind that it takes."""
    before = {"t": ("ft", "above"), "w": ("fw", "floor"), "c": ("fc", "spectrum")}
    steps = [(*before[kind], [0, 0]) for kind in kinds[:-1] if kind != "f"] + [(kinds, name, [0, 1])]
    after = {"t": ("tff", "masked"), "w": ("wff", "times"), "c": ("cf", "real")}
    if kinds[-1] != "f":
        steps.append((*after[kinds[-1]], [5, 1]))
    torch.manual_seed(4)
    module, x = Random(steps, None).eval(), torch.randn(3, WIDTH, dtype=torch.float64)
    expected = gradients(module, x)
    found = run_grad(Converter(module, input_dim=WIDTH, dtype="double"), x, output_idx=[0, 1], dtype="double")
    torch.testing.assert_close(found.result[0][0], expected, rtol=1e-8, atol=1e-9)
