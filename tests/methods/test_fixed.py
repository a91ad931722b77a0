"""What belongs to fixed inputs: it goes to nobody, it is said so, and references need not have it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from innsight_py import Converter, run_deeplift, run_deepshap, run_expgrad, run_grad, run_intgrad, run_lrp

EPSILON = [("*", "epsilon")]


class Two(nn.Module):
    """A perceptron of a context that is fixed, which comes first, and of what is explained."""

    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.context, self.body = nn.Linear(2, 5, bias=bias), nn.Linear(3, 5, bias=bias)
        self.head = nn.Linear(5, 2, bias=bias)

    def forward(self, context, x):
        return self.head(torch.relu(self.body(x) + torch.tanh(self.context(context))))


DIMS = [(2,), (3,)]
RNG = np.random.default_rng(2)
DATA = [RNG.standard_normal((4, 2)), RNG.standard_normal((4, 3))]


@pytest.fixture(scope="module")
def fixed():
    return Converter(Two(), input_dim=DIMS, fixed=["context"])


@pytest.fixture(scope="module")
def free():
    return Converter(Two(), input_dim=DIMS)


@pytest.mark.parametrize("rules", ["simple", EPSILON, "epsilon_plus"])
def test_lrp_says_what_goes_to_fixed_inputs(fixed, free, rules):
    """Relevances are those of the model with all inputs, and what is missing is what the fixed ones have there."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the true reason is known: no alarm
        found = run_lrp(fixed, DATA, rule_name=rules, dtype="double")
    whole = run_lrp(free, DATA, rule_name=rules, dtype="double")
    theirs, mine = whole.get_result()["Input_1"], whole.get_result()["Input_2"]
    np.testing.assert_allclose(found.get_result(), mine, rtol=0, atol=1e-12)
    missing = whole.residual.absolute[0].numpy() + theirs.sum(1)
    np.testing.assert_allclose(found.residual.absolute[0].numpy(), missing, rtol=0, atol=1e-12)
    assert np.abs(theirs.sum(1)).max() > 0.01
    assert any("fixed" in reason for reason in found.residual.reasons)
    assert not any("fixed" in reason for reason in whole.residual.reasons)


@pytest.mark.parametrize("run", [run_deeplift, run_intgrad])
def test_no_reason_is_invented(fixed, run):
    """References have the row's own fixed inputs: nothing is lost there, and no detached value is to blame."""
    found = run(fixed, DATA, dtype="double")
    assert not any("detach" in reason or "fixed" in reason for reason in found.residual.reasons)
    assert "detach" not in repr(found)
    assert "context" not in repr(found)


def test_gradient_times_input_names_fixed_inputs(fixed, free):
    assert any("fixed" in reason for reason in run_grad(fixed, DATA, times_input=True).residual.reasons)
    assert not any("fixed" in reason for reason in run_grad(free, DATA, times_input=True).residual.reasons)


ROW = RNG.standard_normal((1, 3))
SEVERAL = RNG.standard_normal((4, 3))
LEFT_OUT = {
    "an array": lambda x: x,
    "a tensor": torch.from_numpy,
    "in a list": lambda x: [x],
    "a dict": lambda x: {"x": x},
}


@pytest.mark.parametrize("form", LEFT_OUT)
@pytest.mark.parametrize("x_ref", [ROW, SEVERAL], ids=["one", "one for each row"])
def test_references_leave_fixed_inputs_out(fixed, form, x_ref):
    expected = run_deeplift(fixed, DATA, x_ref=[np.zeros((len(x_ref), 2)), x_ref], dtype="double")
    found = run_deeplift(fixed, DATA, x_ref=LEFT_OUT[form](x_ref), dtype="double")
    assert np.array_equal(found.get_result(), expected.get_result())
    with torch.no_grad():
        model = Two().double()
        context, x, ref = (torch.from_numpy(np.broadcast_to(y, (4, y.shape[1])).copy()) for y in (*DATA, x_ref))
        goal = (model(context, x) - model(context, ref)).numpy()
    np.testing.assert_allclose(found.get_result().sum(1), goal, rtol=0, atol=1e-6)


@pytest.mark.parametrize("data_ref", [SEVERAL, RNG.standard_normal((4, 5, 3))], ids=["for all", "for each row"])
def test_several_references_leave_fixed_inputs_out(fixed, data_ref):
    lists = [np.zeros((*data_ref.shape[:-1], 2)), data_ref]
    for run in (run_deepshap, run_expgrad):
        expected = run(fixed, DATA, data_ref=lists, seed=1)
        assert np.array_equal(run(fixed, DATA, data_ref=data_ref, seed=1).get_result(), expected.get_result())


@pytest.mark.parametrize("name", ["mean", "median", "zeros"])
def test_references_by_name(fixed, name):
    found = run_deeplift(fixed, DATA, x_ref=name, dtype="double").get_result()
    reference = {"mean": DATA[1].mean(0), "median": np.median(DATA[1], 0), "zeros": np.zeros(3)}[name]
    expected = run_deeplift(fixed, DATA, x_ref=reference[None], dtype="double").get_result()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_two_explained_inputs_and_a_fixed_one_between():
    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.a, self.b, self.c = nn.Linear(2, 4), nn.Linear(3, 4), nn.Linear(1, 4)

        def forward(self, first, given, last):
            return torch.tanh(self.a(first) + self.b(given) * self.c(last))

    converter = Converter(Three(), input_dim=[(2,), (3,), (1,)], fixed="given")
    data = [RNG.standard_normal((3, n)) for n in (2, 3, 1)]
    refs = [RNG.standard_normal((1, n)) for n in (2, 1)]
    expected = run_deeplift(converter, data, x_ref=[refs[0], np.zeros((1, 3)), refs[1]]).get_result()
    for given in (refs, {"first": refs[0], "last": refs[1]}):
        found = run_deeplift(converter, data, x_ref=given).get_result()
        assert set(found) == {"Input_1", "Input_2"}  # counted without the fixed one
        for key, values in expected.items():
            assert np.array_equal(found[key], values)
    with pytest.raises(ValueError, match="3 inputs"):
        run_deeplift(converter, data, x_ref=[refs[0]])
