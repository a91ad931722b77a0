"""A call of few rows takes few steps of Python: what is asked about a model, or has been accepted, is not asked again.

The calls of functions of this package are counted, which do not depend on the machine, or on the version of torch.
"""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from innsight_py import Converter, Gradient, composites, rules, run_deeplift, run_grad, run_lrp
from innsight_py._checks import _Plain
from innsight_py.layers.known_parts import _KNOWN, FEW
from innsight_py.model.assignment import KNOWN, MOST_KNOWN

X = np.random.default_rng(3).standard_normal((16, 10)).astype(np.float32)
#: Each call, and how many functions of the package it may call: a tenth more than it does.
BOUNDS = {
    "gradient": (run_grad, {}, 134),
    "deeplift": (run_deeplift, {"x_ref": np.zeros((1, 10)), "ignore_last_act": False}, 278),
    "epsilon": (run_lrp, {"rule_name": "epsilon", "rule_param": 1e-4}, 187),
    "alpha_beta": (run_lrp, {"rule_name": "alpha_beta", "rule_param": 2.0}, 240),
}


@pytest.fixture(scope="module")
def converter() -> Converter:
    torch.manual_seed(0)
    layers = [nn.Linear(10, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1)]
    return Converter(nn.Sequential(*layers).eval(), input_dim=(10,))


def own_calls(function) -> int:
    """Count the calls of functions of the package, but for its comprehensions, which some Pythons have inlined."""
    count = 0

    def counted(frame, event, argument):
        nonlocal count
        own = event == "call" and frame.f_globals.get("__name__", "").startswith("innsight_py")
        count += own and not frame.f_code.co_name.startswith("<")

    sys.setprofile(counted)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("name", BOUNDS)
def test_a_small_call_takes_few_steps(name, converter):
    """As many for one row as for many rows, and not many."""
    run, arguments, bound = BOUNDS[name]
    counts = []
    for x in (X[:1], X[:1], X):  # the first call makes what is kept
        counts.append(own_calls(lambda x=x: run(converter, x, output_idx=[0], verbose=False, **arguments)))
    assert counts[1] == counts[2] <= bound


# -- what is kept ------------------------------------------------------------------------------------------------


def known_rules(converter: Converter) -> dict:
    return KNOWN.get(converter.model, {})


def test_rules_are_assigned_once(converter):
    """Whoever chooses the same rules gets what was found; another parameter is another choice."""
    one, same, other = (run_lrp(converter, X, rule_name="gamma", rule_param=g)._rules for g in (0.5, 0.5, 0.25))
    assert one is same
    assert one is not other
    assert {repr(it.rule) for it in other.values()} == {"gamma(0.25)"}
    assert run_lrp(converter, X, rule_name=rules.gamma(0.5))._rules is one
    named = run_lrp(converter, X, rule_name="epsilon_plus")._rules
    assert run_lrp(converter, X, rule_name=composites.epsilon_plus())._rules is named
    assert run_lrp(converter, X, rule_name={"Dense_Layer": "gamma"})._rules is not one


def test_rules_that_may_change_are_assigned_anew(converter):
    """Functions and arrays may be others the next time."""
    sizes = [1e-3, 1e-1]
    rule = rules.epsilon(0.0, stabilizer=lambda z: z + sizes[0] * z.sgn())
    before, count = run_lrp(converter, X, rule_name=rule).get_result(), len(known_rules(converter))
    sizes.reverse()
    assert not np.array_equal(run_lrp(converter, X, rule_name=rule).get_result(), before)
    run_lrp(converter, X, rule_name=rules.z_box(-9.0, 9.0))
    assert len(known_rules(converter)) == count


def test_few_choices_are_kept(converter):
    other = copy.deepcopy(converter)
    assert not known_rules(other)
    for gamma in np.linspace(0.1, 1, MOST_KNOWN + 3):
        run_lrp(other, X[:1], rule_name="gamma", rule_param=float(gamma))
    assert 0 < len(known_rules(other)) <= MOST_KNOWN
    assert not known_rules(pickle.loads(pickle.dumps(other)))  # noqa: S301


@pytest.mark.parametrize("rule", [rules.gamma(0.5), rules.alpha_beta(2.0), rules.epsilon(0.1, bias="share")])
def test_rules_that_were_used_can_be_copied(rule, converter):
    """A rule keeps its table, which has functions in it; a copy makes its own."""
    found = run_lrp(converter, X, rule_name=rule)
    again = pickle.loads(pickle.dumps(found))  # noqa: S301
    assert again.rule_name == rule == copy.deepcopy(rule)
    assert np.array_equal(run_lrp(converter, X, rule_name=again.rule_name).get_result(), found.get_result())


# -- memory of its own -------------------------------------------------------------------------------------------


def test_results_share_no_memory():
    """What may be written to is nobody else's: values that are explained, predictions, data, two inputs of a sum."""

    class Sum(nn.Module):
        def forward(self, a, b):
            return a + b

    x = [torch.ones(3, 4), torch.ones(3, 4)]
    found = run_grad(Converter(Sum(), input_dim=[(4,), (4,)]), x, output_idx=[1, 2])
    tensors = [*found.result[0], *found.preds, *found.decomp_goal, *found.data, *x]
    assert len({one.untyped_storage().data_ptr() for one in tensors}) == len(tensors)


# -- alarms ------------------------------------------------------------------------------------------------------


def test_few_values_raise_the_same_alarms(monkeypatch):
    """The quick look at few values is a look at all of them: it keeps no warning back, whatever the numbers are."""
    random = np.random.default_rng(0)
    for trial in range(40):
        weights = [random.standard_normal(shape) * 10 ** random.uniform(-4, 4) for shape in ((5, 4), (2, 5))]
        keys = {"type": "Dense", "activation_name": "softmax" if trial % 3 == 0 else "relu"}
        spec = {"input_dim": [4], "layers": [{**keys, "weight": w, "bias": w[:, 0] * 1e3} for w in weights]}
        x = random.standard_normal((3, 4)) * 10 ** random.uniform(-3, 3)
        said = []
        for few in (0, 512):
            monkeypatch.setattr("innsight_py.results.completeness.SMALL", few)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                run_deeplift(Converter(spec), x, x_ref="mean", ignore_last_act=False)
            said.append([str(warning.message) for warning in caught])
        assert said[0] == said[1]


# -- parts of weights --------------------------------------------------------------------------------------------


def known_parts(converter: Converter) -> list:
    return [known for layer in converter.model.all_layers() if (known := _KNOWN.get(layer)) is not None]


def test_parts_of_weights_are_made_once(converter):
    """And anew as soon as weights are changed, or are others."""
    own = copy.deepcopy(converter)
    assert not known_parts(own)
    found = run_lrp(own, X, rule_name="alpha_beta").get_result()
    parts = [known.parts for known in known_parts(own)]
    assert [len(some) for some in parts] == [4, 4, 4]  # two of the weights, two of the bias
    assert np.array_equal(run_lrp(own, X, rule_name="alpha_beta").get_result(), found)
    assert all(known.parts is some for known, some in zip(known_parts(own), parts, strict=True))
    layer = own.model.layer(own.model.nodes[0].name)
    changes = [
        lambda: layer.weight.neg_(), lambda: layer.bias.neg_(), lambda: setattr(layer, "weight", -layer.weight),
        lambda: layer.weight.data.neg_(), lambda: layer.bias.data.neg_(), lambda: layer.weight.numpy().__imul__(-1),
        lambda: setattr(layer.weight, "data", -layer.weight),
    ]  # fmt: skip
    for change in changes:
        change()
        changed = run_lrp(own, X, rule_name="alpha_beta").get_result()
        assert np.array_equal(changed, run_lrp(copy.deepcopy(own), X, rule_name="alpha_beta").get_result())
        assert not np.array_equal(changed, found)
        found = changed


def test_parts_of_few_layers_and_of_few_rules_stay(converter, monkeypatch):
    own = copy.deepcopy(converter)
    for gamma in np.linspace(0.1, 1, 20):
        run_lrp(own, X[:1], rule_name="gamma", rule_param=float(gamma))
    assert max(len(known.parts) for known in known_parts(own)) <= FEW + 4
    monkeypatch.setattr("innsight_py.layers.known_parts.SMALL", 0)
    large = copy.deepcopy(converter)
    run_lrp(large, X, rule_name="alpha_beta")
    assert not known_parts(large)


# -- arguments ---------------------------------------------------------------------------------------------------


def test_what_can_only_be_right_is_not_validated(converter, monkeypatch):
    """Anything else goes through pydantic, as a name twice, an unknown one, or a truth value of NumPy."""
    run_grad(converter, X)
    validated = []
    monkeypatch.setattr(_Plain, "fits", lambda *args, fits=_Plain.fits: validated.append(not fits(*args)) or True)
    plain = [{}, {"dtype": "double"}, {"verbose": None, "channels_first": True}, {"relu_rule": "guided"}]
    for keys in plain:
        run_grad(converter, X, **keys)
    assert validated == [False] * len(plain)
    monkeypatch.undo()
    fits = _Plain(Gradient.__init__.__wrapped__, inspect.signature(Gradient.__init__.__wrapped__)).fits
    odd = [
        {"dtype": "half"},
        {"dtype": bool},
        {"verbose": 1},
        {"verbose": np.True_},
        {"batch_size": 2},
        {"data": X},
        {"x": 1},
    ]
    assert not any(fits((None, converter, X), keys) for keys in odd)
    assert not any(fits(args, {}) for args in [(None, converter), (None, X, converter), (None, converter, X, X)])
