"""What the methods do around the walk: where noise has its size from, what is refused, what numbers are called.

What mutation testing (`mutants.py`) found unnoticed elsewhere is kept as a case.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innsight_py import (
    LIME,
    LRP,
    SHAP,
    ConnectionWeights,
    Converter,
    DeepLift,
    DeepSHAP,
    ExpectedGradient,
    Gradient,
    IntegratedGradient,
    SmoothGrad,
    UnsupportedLayerError,
    torch_grad,
)
from innsight_py.methods import walk
from innsight_py.methods.base import random_source
from innsight_py.model.graph import Graph

RNG = np.random.default_rng(8)
WEIGHT = RNG.standard_normal((3, 3))


def network(*more: dict) -> Converter:
    layers = [{"type": "Dense", "weight": WEIGHT, "activation_name": "tanh"}, *more]
    return Converter({"input_dim": [3], "layers": layers})


def test_noise_where_all_values_are_equal():
    """The range is then taken to be 1, as in R: the answer of a row among data whose range is 1."""
    ones = np.ones((2, 3))
    wide = np.stack([np.zeros(3), np.ones(3)])
    converter = network({"type": "Dense", "weight": WEIGHT})
    equal, expected, other = (
        SmoothGrad(converter, x, n=5, seed=1, noise_level=0.5).get_result() for x in (ones, wide, 2 * wide - 1)
    )
    np.testing.assert_array_equal(equal[1], expected[1])
    assert np.abs(equal[1] - other[1]).max() > 1e-3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_noise_needs_a_range(which, bad):
    layers = [{"type": "Add", "inputs": ["input_1", "input_2"]}, {"type": "Dense", "weight": WEIGHT}]
    converter = Converter({"input_dim": [[3], [3]], "layers": layers})
    data = [RNG.standard_normal((2, 3)), RNG.standard_normal((2, 3))]
    data[which][1, 2] = bad
    with pytest.warns(UserWarning, match="rows hold NaN"), pytest.raises(ValueError, match="the noise is a part"):
        SmoothGrad(converter, data)


def test_relevance_passes_a_softmax_only_at_the_end():
    softmax = {"type": "Activation", "act_name": "softmax"}
    x = RNG.standard_normal((2, 3))
    plain = LRP(network(), x).get_result()
    found = LRP(network(softmax), x, ignore_last_act=False)
    assert found.get_result().shape == plain.shape
    with pytest.raises(UnsupportedLayerError, match="LRP has no rule for softmax"):
        LRP(network(softmax, {"type": "Dense", "weight": WEIGHT}), x)


def test_what_numbers_are_called():
    x = RNG.standard_normal((2, 3))
    assert Gradient(network(), x).value_name == "Gradient"
    assert Gradient(network(), x, times_input=True).value_name == "Relevance"
    found = ExpectedGradient(network(), x, n=2)
    assert (found.value_name, found.times_input) == ("Relevance", True)
    assert ConnectionWeights(network()).is_global
    assert not ConnectionWeights(network(), x, times_input=True).is_global


def outputs(x: np.ndarray) -> np.ndarray:
    return np.tanh(x @ WEIGHT.T)


@pytest.mark.parametrize("batch_size", [None, 1, 2, 3])
@pytest.mark.parametrize("method", [ExpectedGradient, DeepSHAP])
def test_goals_of_many_references_do_not_depend_on_chunks(method, batch_size):
    x, refs = RNG.standard_normal((4, 3)), RNG.standard_normal((5, 3))
    few = {"n": 500} if method is ExpectedGradient else {}
    found = method(
        network(), x, data_ref=refs, seed=1, ignore_last_act=False, dtype="double", batch_size=batch_size, **few
    )
    np.testing.assert_allclose(found.decomp_goal[0].numpy(), outputs(x) - outputs(refs).mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.preds[0].numpy(), outputs(x), rtol=1e-12)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(("method", "argument"), [(DeepLift, "x_ref"), (DeepSHAP, "data_ref")])
def test_references_are_finite(method, argument, which):
    layers = [{"type": "Add", "inputs": ["input_1", "input_2"]}, {"type": "Dense", "weight": WEIGHT}]
    converter = Converter({"input_dim": [[3], [3]], "layers": layers})
    reference = [np.zeros((1, 3)), np.zeros((1, 3))]
    reference[which][0, 1] = np.nan
    with pytest.raises(ValueError, match=f"'{argument}': expected finite numbers"):
        method(converter, [np.ones((2, 3)), np.ones((2, 3))], **{argument: reference})


def test_a_reference_is_one_row_or_one_for_each():
    message = r"'x_ref': expected a single row for DeepLift, or one for each row of 'data' \(3\), got 2 rows"
    with pytest.raises(ValueError, match=message):
        DeepLift(network(), np.ones((3, 3)), x_ref=np.ones((2, 3)))


@pytest.mark.parametrize("dims", [[(3, 4)], [(2, 3, 4)], [(3, 4), (3, 4)]])
def test_rows_with_missing_values_are_counted(dims):
    """However many axes and inputs there are: a row counts once."""
    names = [f"input_{i + 1}" for i in range(len(dims))]
    layers = [{"type": "Add", "inputs": names}, {"type": "Flatten"}]
    data = [np.ones((5, *dim)) for dim in dims]
    for x in data:
        x[1].flat[0] = x[3].flat[-1] = np.nan
    data[-1][3].flat[2] = np.inf
    with pytest.warns(UserWarning, match=r"2 of 5 rows hold NaN or infinite values \(the first is data_2\)"):
        Gradient(Converter({"input_dim": dims, "layers": layers}), data)


def test_without_a_seed_draws_do_not_repeat():
    first = {random_source(None).random() for _ in range(300)}
    assert len(first) == 300


CALLS = {
    "Gradient": lambda x, **keys: Gradient(network(), x, **keys),
    "SmoothGrad": lambda x, **keys: SmoothGrad(network(), x, n=3, seed=1, **keys),
    "IntegratedGradient": lambda x, **keys: IntegratedGradient(network(), x, n=3, times_input=False, **keys),
    "ExpectedGradient": lambda x, **keys: ExpectedGradient(network(), x, data_ref=-x, n=3, seed=1, **keys),
    "DeepLift": lambda x, **keys: DeepLift(network(), x, x_ref=-x[:1], **keys),
    "DeepSHAP": lambda x, **keys: DeepSHAP(network(), x, data_ref=-x[:6], **keys),
    "LRP": lambda x, **keys: LRP(network(), x, **keys),
}


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 7, 100])
@pytest.mark.parametrize("name", CALLS)
def test_no_more_rows_travel_together_than_asked(name, batch_size, monkeypatch):
    seen = []
    trace = Graph.trace

    def watch(self, inputs, **others):
        seen.append(len(inputs[0]))
        return trace(self, inputs, **others)

    monkeypatch.setattr(Graph, "trace", watch)
    x = np.random.default_rng(2).standard_normal((11, 3))
    found = CALLS[name](x, batch_size=batch_size, dtype="double")
    assert max(seen) <= batch_size
    assert max(seen) >= min(batch_size, 6)
    np.testing.assert_allclose(found.get_result(), CALLS[name](x, dtype="double").get_result(), rtol=1e-9)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(("what", "bytes_"), [("CACHE_BYTES", (1, 1)), ("TRACE_BYTES", 1)])
def test_rows_that_do_not_fit_travel_alone(name, what, bytes_, monkeypatch):
    x = np.random.default_rng(2).standard_normal((4, 3))
    expected = CALLS[name](x, dtype="double").get_result()
    monkeypatch.setattr(walk, what, bytes_)
    np.testing.assert_allclose(CALLS[name](x, dtype="double").get_result(), expected, rtol=1e-9)


@pytest.mark.parametrize("method", [LIME, SHAP])
def test_one_row_is_explained_as_among_others(method):
    x = np.random.default_rng(2).standard_normal((3, 3))
    alone, among = (method(outputs, rows, data_ref=x, seed=1).get_result() for rows in (x[:1], x))
    np.testing.assert_array_equal(alone[0], among[0])


@pytest.mark.parametrize("features", [2, 3])
def test_shap_goes_through_as_many_orders_as_asked(features):
    """Each costs the same, so the rows that are predicted grow with them."""
    x = np.random.default_rng(2).standard_normal((1, features))

    def predicted(nsim: int) -> int:
        rows = []
        SHAP(lambda some: (rows.append(len(some)), some.prod(1))[1], x, data_ref=0 * x, nsim=nsim, seed=1)
        return sum(rows)

    one, two, eight = predicted(1), predicted(2), predicted(8)
    assert two > one
    assert eight - one == 7 * (two - one)


def test_lime_takes_two_permutations_but_not_one():
    x = np.random.default_rng(2).standard_normal((2, 3))
    assert np.isfinite(LIME(outputs, x, n_permutations=2, seed=1).get_result()).all()
    with pytest.raises(ValueError, match="at least 2, got 1"):
        LIME(outputs, x, n_permutations=1, seed=1)


@pytest.mark.parametrize("shape", [(2, 0), (2, 0, 3), (2, 3, 0)])
def test_instances_without_values_are_refused(shape):
    with pytest.raises(ValueError, match="'data': expected instances with at least one value"):
        torch_grad(torch.nn.Linear(3, 1), np.zeros(shape))


def test_each_row_has_draws_of_its_own():
    x = np.random.default_rng(2).standard_normal((30, 3))
    found = LIME(outputs, np.repeat(x[:1], 150, 0), data_ref=x, n_permutations=20, seed=1).get_result()
    assert len(np.unique(found[..., 0], axis=0)) == 150
