"""LRP on networks where a library that hangs rules on modules is wrong, against twins of modules alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from innsight_py import Converter, composites, rules, run_lrp

COMPOSITES = {
    "epsilon_plus": "epsilon_plus",
    "epsilon_plus_flat": "epsilon_plus_flat",
    "epsilon_alpha2_beta1": "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat": "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box": composites.epsilon_gamma_box(-3, 3),
    "excitation_backprop": "excitation_backprop",
    "gamma": rules.gamma(0.5, bias="share"),
}


class Sum(nn.Module):
    def forward(self, a, b):
        return a + b


class Functional(nn.Module):
    """ReLU and tanh as functions, a layer that is used twice, a free sum, and a first convolution registered last."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(3, 4)
        self.start = nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.start(x))
        y = torch.tanh(self.shared(x))
        x = (self.shared(y) + x).relu()
        return self.head(F.avg_pool2d(x, 4).flatten(1))


class Modules(nn.Module):
    """The same function, a module for each step."""

    def __init__(self, model: Functional) -> None:
        super().__init__()
        self.first, self.relu1 = nn.Conv2d(2, 3, 3, padding=1), nn.ReLU()
        self.second, self.tanh = nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()
        self.third, self.sum, self.relu2 = nn.Conv2d(3, 3, 3, padding=1), Sum(), nn.ReLU()
        self.pool, self.flatten, self.last = nn.AvgPool2d(4), nn.Flatten(), nn.Linear(3, 4)
        twins = {"first": "start", "second": "shared", "third": "shared", "last": "head"}
        for ours, theirs in twins.items():
            getattr(self, ours).load_state_dict(getattr(model, theirs).state_dict())

    def forward(self, x):
        x = self.relu1(self.first(x))
        x = self.relu2(self.sum(self.third(self.tanh(self.second(x))), x))
        return self.last(self.flatten(self.pool(x)))


@pytest.fixture(scope="module")
def twins():
    torch.manual_seed(4)
    model = Functional().double()
    return [Converter(m.eval(), input_dim=(2, 4, 4), dtype="double") for m in (model, Modules(model).double())]


X = np.random.default_rng(2).normal(size=(3, 2, 4, 4))


@pytest.mark.parametrize("name", COMPOSITES)
def test_functions_equal_modules(twins, name):
    free, modules = (run_lrp(c, X, rule_name=COMPOSITES[name], dtype="double").get_result() for c in twins)
    assert np.abs(free).max() > 0
    np.testing.assert_allclose(free, modules, rtol=1e-10, atol=1e-13)


def test_what_is_first_is_found_in_the_graph(twins):
    free, modules = (c.show_rules("epsilon_plus_flat") for c in twins)
    for table, name in ((free, "start"), (modules, "first")):
        assert [row.layer for row in table if row.rule == "flat()"] == [name]


def test_each_use_of_a_module_is_named_by_it(twins):
    table = twins[0].show_rules([("shared", rules.w_square())])
    assert sum(row.rule == "w_square()" for row in table) == 2
    assert {row.why for row in table if row.rule == "w_square()"} == {"name 'shared'"}


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.act = nn.Linear(width, width, bias=False), nn.ReLU()

    def forward(self, x):
        return self.act(self.inner(x)) + x


def test_sums_in_proportion_by_hand():
    """One residual sum, by its definition: each addend gets its value over the sum."""
    torch.manual_seed(0)
    model = nn.Sequential(Residual(4), nn.Linear(4, 2, bias=False)).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    inner, last = model[0].inner.weight.detach(), model[1].weight.detach()
    y = (x @ inner.T).clamp(min=0)
    z = y + x
    upper = z[:, None] * last  # (B, out, 4): what LRP-0 hands to the sum
    through = upper * (y / z)[:, None]
    direct = upper * (x / z)[:, None]
    pre = x @ inner.T
    back = torch.einsum("boj,ji,bi->boi", through / pre[:, None], inner, x)
    converter = Converter(model, input_dim=(4,), dtype="double")
    found = run_lrp(converter, x, rule_name=[("sum", rules.proportional())], dtype="double").get_result()
    np.testing.assert_allclose(found, (direct + back).movedim(1, -1), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(found.sum(1), model(x).detach(), rtol=1e-8)  # nothing is lost
    equal = run_lrp(converter, x, rule_name=[("sum", rules.equal())], dtype="double").get_result()
    np.testing.assert_array_equal(equal, run_lrp(converter, x, dtype="double").get_result())  # R's default
    assert not np.allclose(equal, found)


def test_shared_biases_lose_nothing():
    """With the bias shared among the inputs, LRP-0 and gamma keep the sum in a network full of biases."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3)).double()
    converter = Converter(model, input_dim=(2, 6), dtype="double")
    x = torch.randn(4, 2, 6, dtype=torch.float64)
    for rule in (rules.simple, rules.gamma):
        kept = run_lrp(converter, x, rule_name=rule(bias="share"), dtype="double")
        np.testing.assert_allclose(kept.get_result().sum((1, 2)), model(x).detach(), rtol=1e-8)
        assert kept.residual.reasons == ()
        lost = run_lrp(converter, x, rule_name=rule(), dtype="double")
        assert not np.allclose(lost.get_result().sum((1, 2)), model(x).detach(), rtol=1e-3)
        assert lost.residual.reasons == ("biases keep a part of the relevance",)
