"""Completeness: what the sum over all inputs misses of the goal, where it is said, and when a method warns."""

from __future__ import annotations

import math
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import innsight_py
from innsight_py import (
    LIME,
    LRP,
    SHAP,
    Conductance,
    ConnectionWeights,
    Converter,
    DeepLift,
    DeepSHAP,
    ExpectedGradient,
    GradCAM,
    Gradient,
    IntegratedGradient,
    SmoothGrad,
    torch_intgrad,
)
from innsight_py.results.completeness import STEPS_TARGET, STEPS_TOLERANCE, TOLERANCE

DTYPES = ("float", "double")
NOT_EXACT = "attributions do not add up"


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def dense(out: int, ins: int, bias: bool = True, **keys) -> dict:
    draw = rng(out * 10 + ins)
    layer = {"type": "Dense", "weight": draw.normal(size=(out, ins)), **keys}
    return layer | ({"bias": draw.normal(size=out)} if bias else {})


def table(*, bias: bool = True, activation: str = "tanh", last: str = "linear") -> Converter:
    layers = [dense(8, 3, bias, activation_name=activation), dense(2, 8, bias, activation_name=last)]
    return Converter({"input_dim": [3], "layers": layers})


def pooled(*, bias: bool = True, kind: str = "max") -> Converter:
    draw = rng(1)
    pooling = {"type": "MaxPooling1D" if kind == "max" else "AveragePooling1D", "kernel_size": 2}
    if kind == "global":
        pooling = {"type": "GlobalPooling", "method": "max"}
    convolution = {"type": "Conv1D", "weight": draw.normal(size=(3, 2, 2)), "activation_name": "tanh"}
    if bias:
        convolution["bias"] = draw.normal(size=3)
    width = 3 if kind == "global" else 9
    layers = [convolution, pooling, *([] if kind == "global" else [{"type": "Flatten"}]), dense(2, width, bias)]
    return Converter({"input_dim": [[2, 7]], "layers": layers})


def two_inputs() -> Converter:
    layers = [
        dense(4, 3, name="one", activation_name="tanh"),
        dense(4, 2, inputs=["input_2"], name="two", activation_name="relu"),
        {"type": "Concatenate", "axis": 1, "inputs": ["one", "two"], "name": "both"},
        dense(2, 8, inputs=["both"], name="first"),
        dense(3, 4, inputs=["two"], name="second"),
    ]
    return Converter({"input_dim": [[3], [2]], "layers": layers, "outputs": ["first", "second"]})


X = rng(0).normal(size=(6, 3))
SIGNALS = rng(0).normal(size=(4, 2, 7))
TWO = [rng(0).normal(size=(5, 3)), rng(1).normal(size=(5, 2))]

# -- the number -------------------------------------------------------------------------------------------------

DECOMPOSING = [
    (Gradient, {"times_input": True}),
    (IntegratedGradient, {"n": 200}),
    (ExpectedGradient, {"n": 20, "seed": 1}),
    (DeepLift, {}),
    (DeepLift, {"rule_name": "reveal_cancel"}),
    (DeepSHAP, {"seed": 1}),
    (LRP, {}),
    (LRP, {"rule_name": "epsilon"}),
    (LRP, {"rule_name": "alpha_beta"}),
    (Conductance, {"n": 200}),
]
OTHERS = [
    (Gradient, {}), (SmoothGrad, {"seed": 1}), (SmoothGrad, {"seed": 1, "times_input": True}),
    (IntegratedGradient, {"times_input": False}), (ConnectionWeights, {"times_input": True}),
    (GradCAM, {}),
]  # fmt: skip


def plain_residual(method, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Add up every attribution in exact arithmetic."""
    goal = method.decomp_goal[i].double().numpy()
    absolute, relative = np.empty(goal.shape), np.empty(goal.shape)
    for b, k in np.ndindex(goal.shape):
        values = [v for x in method.result[i] if x is not None for v in x[b, ..., k].double().flatten().tolist()]
        absolute[b, k] = goal[b, k] - math.fsum(values)
        value = abs(float(method.preds[i][b, k]))  # what is explained, these models having no activation at the end
        rounding = (1e-5 if method.dtype == "float" else 1e-13) * value
        size = max(abs(goal[b, k]), math.fsum(map(abs, values)))
        relative[b, k] = 0.0 if abs(absolute[b, k]) <= rounding else absolute[b, k] / size
    return absolute, relative


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("method", "arguments"), DECOMPOSING)
@pytest.mark.parametrize("model", [table, two_inputs])
def test_residual(method, arguments, model, dtype):
    data = X if model is table else TWO
    nodes = [1] if model is table else [[1, 0], [2]]
    if method is Conductance:  # of layers that every path passes
        arguments = arguments | {"layer": "Dense_1" if model is table else ["one", "two"]}
    found = method(model(), data, dtype=dtype, output_idx=nodes, **arguments)
    for i in range(len(found.decomp_goal)):
        absolute, relative = plain_residual(found, i)
        np.testing.assert_allclose(found.residual.absolute[i].numpy(), absolute, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.residual.relative[i].numpy(), relative, rtol=1e-9, atol=1e-12)
        assert found.residual.absolute[i].dtype == torch.float64


@pytest.mark.parametrize("channels_first", [True, False])
def test_layouts_agree(channels_first):
    converter = pooled(kind="average")
    data = SIGNALS if channels_first else np.moveaxis(SIGNALS, 1, -1)
    found = LRP(converter, data, channels_first=channels_first)
    expected = LRP(converter, SIGNALS)
    torch.testing.assert_close(found.residual.absolute[0], expected.residual.absolute[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("method", "arguments"), OTHERS)
def test_methods_that_decompose_nothing_have_none(method, arguments):
    converter, data = (pooled(), SIGNALS) if method is GradCAM else (table(), X)
    found = method(converter, data, **arguments)
    assert found.residual is None
    assert "residual" not in repr(found).lower()
    assert "residual" not in found._repr_html_().lower()
    assert [name for name in found.summary() if name != "times_sd"] == ["output_node", "feature", "share", "mean_abs"]
    assert found.get_result("data.frame")["residual"].isna().all()


def test_unselected_layers_and_unconnected_inputs():
    found = DeepLift(two_inputs(), TWO, output_idx=[None, [2]], dtype="double")
    assert found.result[1][0] is None
    assert found.residual.absolute[0] is None
    assert found.residual.relative[0] is None
    assert float(found.residual.absolute[1].abs().max()) < 1e-12


def test_residual_follows_the_result():
    """It is computed when it is asked for, so it is that of the numbers that the result holds."""
    found = DeepLift(table(), X)
    found.result[0][0][2, 1, 0] += 5
    assert float(found.residual.absolute[0][2, 0]) == pytest.approx(-5, abs=1e-5)
    assert str(pickle.loads(pickle.dumps(found)).residual) == str(found.residual)  # noqa: S301


@pytest.mark.parametrize("row", [np.zeros(3), X[0]])
def test_rounding_is_no_residual(row):
    """A row that is the reference has a goal of 0, or of what rounding leaves of it."""
    found = DeepLift(table(), np.stack([row, X[1]]), x_ref=row[None])
    assert found.residual.relative[0][0].tolist() == [0.0, 0.0]


@pytest.mark.filterwarnings("ignore:Argument .data.. .* rows hold NaN:UserWarning")
def test_missing_values():
    data = X.copy()
    data[1, 0] = np.nan
    found = DeepLift(table(), data)  # no warning
    assert found.residual.absolute[0].isnan().any(1).tolist() == [False, True, *[False] * 4]
    assert "at most" in repr(found.residual)
    assert "NaN" in repr(DeepLift(table(), data[1:2]))


# -- where it is said -------------------------------------------------------------------------------------------


def test_data_frame():
    found = LRP(two_inputs(), TWO, output_idx=[[1, 0], [2]], dtype="double")
    frame = found.get_result("data.frame")
    assert list(frame)[-1] == "residual"
    total = frame.groupby(["model_output", "output_node", "data"], observed=True)["value"].sum()
    rest = frame.groupby(["model_output", "output_node", "data"], observed=True)[["decomp_goal", "residual"]].agg(
        ["min", "max"]
    )
    np.testing.assert_array_equal(rest["residual", "min"], rest["residual", "max"])
    np.testing.assert_allclose(rest["residual", "min"], rest["decomp_goal", "min"] - total, atol=1e-12)


def test_summary():
    found = LRP(two_inputs(), TWO, output_idx=[[1, 0], [2]])
    summary = found.summary(2)
    assert list(summary)[-2:] == ["residual", "relative_residual"]
    for i, nodes in enumerate([["Y2", "Y1"], ["Y3"]]):
        for k, label in enumerate(nodes):
            rows = summary[(summary["model_output"] == f"Output_{i + 1}") & (summary["output_node"] == label)]
            absolute, relative = plain_residual(found, i)
            assert rows["residual"].to_numpy() == pytest.approx(np.abs(absolute[:, k]).max())
            assert rows["relative_residual"].to_numpy() == pytest.approx(np.abs(relative[:, k]).max())


def test_xarray():
    found = LRP(table(), X)
    residual = found.get_result("xarray").coords["residual"]
    assert residual.dims == ("data", "output_node")
    np.testing.assert_array_equal(residual.to_numpy(), found.residual.absolute[0].numpy())


def test_print():
    found = LRP(table(), X)
    absolute, relative = plain_residual(found, 0)
    said = f"at most {np.abs(absolute).max():.3g} ({100 * np.abs(relative).max():.3g} %)"
    assert repr(found.residual) == f"Residual({said})"
    for text in (repr(found), found._repr_html_()):
        assert said in text
        assert "biases keep a part of the relevance" in text
    several = repr(LRP(two_inputs(), TWO, output_idx=[[1], [2]]))
    assert len(re.findall(r"─ Output layer [12]: at most", several)) == 2
    exact = repr(DeepLift(table(), X))
    assert "Goal minus sum" in exact
    assert "Why" not in exact


# -- warnings ---------------------------------------------------------------------------------------------------


def reached(caught: pytest.WarningsRecorder) -> str:
    assert len(caught) == 1, [str(entry.message) for entry in caught]
    assert caught[0].filename == __file__  # at the user's line
    return str(caught[0].message)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule_name", ["rescale", "reveal_cancel"])
@pytest.mark.parametrize("method", [DeepLift, DeepSHAP])
def test_winner_takes_all(method, rule_name, dtype):
    """The rules promise exact sums; R's default breaks the promise at max pooling, and the remedy keeps it."""
    reference = {"x_ref" if method is DeepLift else "data_ref": SIGNALS[:1]}
    with pytest.warns(UserWarning, match=NOT_EXACT) as caught:
        found = method(pooled(), SIGNALS, rule_name=rule_name, dtype=dtype, **reference)
    message = reached(caught)
    assert "winner_takes_all=False keeps the sum" in message
    absolute, relative = plain_residual(found, 0)
    b, k = np.unravel_index(np.abs(relative).argmax(), relative.shape)
    assert f"data_{b + 1} and 'Y{k + 1}'" in message
    assert f"residual {absolute[b, k]:.3g}, {100 * abs(relative[b, k]):.3g} %" in message
    assert f"instead of {float(found.decomp_goal[0][b, k]):.6g}" in message
    assert np.abs(relative).max() > TOLERANCE[dtype]
    remedy = method(pooled(), SIGNALS, rule_name=rule_name, dtype=dtype, winner_takes_all=False, **reference)
    assert np.abs(plain_residual(remedy, 0)[1]).max() < TOLERANCE[dtype]


def test_once_a_call_with_every_output_and_input():
    with pytest.warns(UserWarning, match=NOT_EXACT) as caught:
        DeepLift(pooled(), np.repeat(SIGNALS, 50, 0), x_ref=SIGNALS[:1], output_idx=[0, 1], batch_size=7)
    reached(caught)


def test_a_pooling_that_keeps_the_winner_whatever_is_said():
    spec = {
        "input_dim": [[2, 7]],
        "layers": [{"type": "GlobalPooling", "method": "max", "winner_always": True}, dense(2, 2)],
    }
    with pytest.warns(UserWarning, match="whatever winner_takes_all says"):
        DeepLift(Converter(spec), SIGNALS, x_ref=SIGNALS[:1], winner_takes_all=False)


def test_a_softmax_whose_logit_does_not_move():
    layers = [{"type": "Dense", "weight": [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], "activation_name": "softmax"}]
    converter = Converter({"input_dim": [2], "layers": layers})
    DeepLift(converter, [[2.0, -1.0]])
    with pytest.warns(UserWarning, match=r"'Y3'.*softmax.*ignore_last_act=True keeps the sum") as caught:
        DeepLift(converter, [[2.0, -1.0]], ignore_last_act=False)
    reached(caught)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "softplus", "leaky_relu"])
@pytest.mark.parametrize("rule_name", ["rescale", "reveal_cancel"])
def test_exact_methods_do_not_warn(rule_name, activation, dtype):
    for scale in (1e-4, 1.0, 100.0):
        keys = {"rule_name": rule_name, "dtype": dtype}
        for found in (
            DeepLift(table(activation=activation), scale * X, x_ref=scale * X[:1], **keys),
            DeepSHAP(table(activation=activation), scale * X, data_ref=scale * X[:3], **keys),
        ):
            goal = np.abs(found.decomp_goal[0].numpy()).max()
            assert np.abs(plain_residual(found, 0)[1]).max() <= (1e-12 if dtype == "double" else 1e-5) * goal


def test_lrp_with_biases_is_documented_not_warned_of():
    found = LRP(table(), X)
    assert np.abs(plain_residual(found, 0)[1]).max() > 0.01
    assert found.residual.reasons == ("biases keep a part of the relevance",)
    assert LRP(table(bias=False), X, rule_name="epsilon").residual.reasons == (
        "the rule epsilon does not hand on all relevance",
    )
    assert "alpha_beta" in LRP(table(bias=False), X, rule_name="alpha_beta").residual.reasons[0]
    norm = {
        "type": "BatchNorm",
        "gamma": [1.0] * 3,
        "beta": [1.0] * 3,
        "run_mean": [0.0] * 3,
        "run_var": [1.0] * 3,
        "eps": 1e-3,
    }
    converter = Converter({"input_dim": [3], "layers": [norm, dense(2, 3, False)]})
    assert LRP(converter, X).residual.reasons == ("biases keep a part of the relevance",)
    assert LRP(converter, X, rule_name={"BatchNorm_Layer": "pass"}).residual.reasons == ()


@pytest.mark.parametrize("kind", ["max", "average", "global"])
@pytest.mark.parametrize("winner_takes_all", [True, False])
def test_lrp_without_biases_is_exact(kind, winner_takes_all):
    found = LRP(pooled(bias=False, kind=kind), SIGNALS, dtype="double", winner_takes_all=winner_takes_all)
    assert found.residual.reasons == ()
    assert np.abs(plain_residual(found, 0)[1]).max() < 1e-9


def test_lrp_without_biases_that_loses_relevance_warns():
    """A sigmoid at a preactivation of 0 is 0.5: relevance that no input can take."""
    with pytest.warns(UserWarning, match=r"LRP.*there are no biases, so preactivations at or near 0") as caught:
        LRP(table(bias=False, activation="logistic"), np.zeros((1, 3)))
    reached(caught)


def test_shap_of_a_model_that_changes():
    pytest.importorskip("shap")
    SHAP(lambda rows: rows.prod(1), X, seed=1)
    draws = rng(1)
    with pytest.warns(UserWarning, match=r"SHAP.*does not predict the same each time") as caught:
        SHAP(lambda rows: rows.sum(1) + draws.normal(size=len(rows)), X, seed=1)
    reached(caught)
    assert LIME(lambda rows: rows.sum(1), X, n_permutations=20).residual is None


# -- steps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_too_few_steps(dtype):
    with pytest.warns(UserWarning, match=NOT_EXACT) as caught:
        few = IntegratedGradient(table(), 3 * X, n=3, dtype=dtype)
    message = reached(caught)
    assert "n=3 steps are too few" in message
    assert f"about n={few.residual.steps} would" in message
    assert f"about n={few.residual.steps} (n=3 now)" in repr(few)
    assert few.residual.steps > 3
    assert np.abs(plain_residual(few, 0)[1]).max() > STEPS_TOLERANCE


class Direction(nn.Module):
    """Divides by a norm, so that near zeros the direction counts; at zeros there is none."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(nn.functional.normalize(x, dim=1))


@pytest.mark.parametrize("dtype", ["float", "double"])
def test_a_jump_at_the_reference_is_no_matter_of_steps(dtype):
    torch.manual_seed(2)
    x = torch.randn(5, 4)
    converter = Converter(Direction(), input_dim=4)
    with pytest.warns(UserWarning, match="the output jumps at the reference") as caught:
        result = IntegratedGradient(converter, x, n=100, dtype=dtype)
    assert "steps are too few" not in str(caught[0].message)
    assert result.residual.steps is None
    other = IntegratedGradient(converter, x, n=500, x_ref=x[:1] + 0.5, dtype=dtype)
    assert not any("jumps" in reason for reason in other.residual.reasons)
    with pytest.warns(UserWarning, match="the output jumps at the reference"):  # R's points there include the reference
        torch_intgrad(Direction(), x, dtype=dtype)


def test_what_is_only_steep_is_a_matter_of_steps():
    """A layer normalisation is steep at zeros, but more steps do reach the goal."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 1))
    with pytest.warns(UserWarning, match="n=50 steps are too few"):
        IntegratedGradient(Converter(module, input_dim=6), torch.randn(4, 6) + torch.arange(6), n=50)


def worst(method) -> float:
    return np.abs(plain_residual(method, 0)[1]).max()


@pytest.mark.parametrize("run", [IntegratedGradient, torch_intgrad])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.Softplus, nn.Sigmoid])
def test_as_many_steps_as_said_do(run, activation):
    """The estimate goes by the order of the error, so it need not be exact; it must not be far off either way."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(3, 16), activation(), nn.Linear(16, 2))
    module[0].weight.data *= 4
    model = Converter(module, input_dim=(3,)) if run is IntegratedGradient else module
    keys = {} if run is IntegratedGradient else {"return_object": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        few = run(model, X, n=20, dtype="double", **keys)
    said = few.residual.steps
    assert said > 20
    enough = run(model, X, n=said, dtype="double", **keys)
    assert worst(enough) < 1.5 * STEPS_TARGET
    assert worst(run(model, X, n=max(20, said // 4), dtype="double", **keys)) > STEPS_TARGET
    many = run(model, X, n=4 * said, dtype="double", **keys)
    assert many.residual.steps == 4 * said
    assert f"n={4 * said} is enough" in repr(many)


def test_as_many_draws_as_said_do():
    """A random estimate promises no sum, so there is no warning; what it says is of a typical row."""
    few = ExpectedGradient(table(), X, data_ref=rng(5).normal(size=(50, 3)), n=50, seed=1, dtype="double")
    said = few.residual.steps
    assert said > 500
    enough = ExpectedGradient(table(), X, data_ref=rng(5).normal(size=(50, 3)), n=said, seed=2, dtype="double")
    typical = np.sqrt((plain_residual(enough, 0)[1] ** 2).mean())
    assert STEPS_TARGET / 4 < typical < 2 * STEPS_TARGET
    assert f"about n={said} (n=50 now)" in repr(few)


def test_other_methods_have_no_steps():
    assert DeepLift(table(), X).residual.steps is None


# -- nothing is forgotten ---------------------------------------------------------------------------------------


def test_every_method_says_whether_it_decomposes():
    methods = {
        cls for name in innsight_py.__all__
        if isinstance(cls := getattr(innsight_py, name), type) and issubclass(cls, innsight_py.Explanation)
    }  # fmt: skip
    known = {method for method, _ in (*DECOMPOSING, *OTHERS)} | {SHAP, LIME}
    assert methods - known == {innsight_py.Explanation, innsight_py.InterpretingMethod, innsight_py.AgnosticWrapper}


def test_r_columns_are_untouched():
    frame = DeepLift(table(), X).get_result("data.frame")
    assert isinstance(frame, pd.DataFrame)
    np.testing.assert_allclose(frame["decomp_goal"] - frame["decomp_sum"], frame["residual"], atol=1e-5)
