"""Arguments of `Converter` and of every method: what they take, their defaults, and how a wrong one is refused."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ids import without_address

import innsight_py
from innsight_py import (
    LRP,
    ConnectionWeights,
    Converter,
    DeepLift,
    DeepSHAP,
    ExpectedGradient,
    Gradient,
    IntegratedGradient,
    SmoothGrad,
    UnsupportedLayerError,
    convert,
)

METHODS = [Gradient, SmoothGrad, IntegratedGradient, ExpectedGradient, DeepLift, DeepSHAP, LRP, ConnectionWeights]
RUN = {
    Gradient: "run_grad",
    SmoothGrad: "run_smoothgrad",
    IntegratedGradient: "run_intgrad",
    ExpectedGradient: "run_expgrad",
    DeepLift: "run_deeplift",
    DeepSHAP: "run_deepshap",
    LRP: "run_lrp",
    ConnectionWeights: "run_cw",
}
RNG = np.random.default_rng(6)
X = RNG.normal(size=(4, 3))
NAN, INF = float("nan"), float("inf")


def dense(out: int, ins: int, **keys) -> dict:
    rng = np.random.default_rng(out * 10 + ins)
    return {"type": "Dense", "weight": rng.normal(size=(out, ins)), "bias": rng.normal(size=out), **keys}


@functools.cache
def net(dtype: str = "float") -> Converter:
    layers = [dense(5, 3, activation_name="tanh"), dense(2, 5, activation_name="softmax")]
    return Converter({"input_dim": 3, "layers": layers}, dtype=dtype)


def explain(method, **arguments):
    """Run a method on data; connection weights take them only for their local form."""
    if method is ConnectionWeights and "times_input" not in arguments:
        arguments["times_input"] = True
    return method(net(), arguments.pop("data", X), **arguments)


# -- signatures -------------------------------------------------------------------------------------------------

_SHARED = {
    "channels_first": None,
    "output_idx": None,
    "output_label": None,
    "target": None,
    "data_names": None,
    "verbose": None,
    "dtype": "float",
    "batch_size": None,
    "layer": None,
    "neuron": None,
}
_TRUE = {"ignore_last_act": True}
#: parity.md 3.1; `verbose=None` looks whether someone is watching, `batch_size` and `seed` are ours.
DEFAULTS = {
    Gradient: _SHARED | _TRUE | {"times_input": False, "relu_rule": None},
    SmoothGrad: _SHARED | _TRUE | {"times_input": False, "n": 50, "noise_level": 0.1, "seed": None},
    IntegratedGradient: _SHARED | _TRUE | {"x_ref": None, "n": 50, "times_input": True},
    ExpectedGradient: _SHARED | _TRUE | {"data_ref": None, "n": 50, "seed": None},
    DeepLift: _SHARED | _TRUE | {"rule_name": "rescale", "x_ref": None, "winner_takes_all": True},
    DeepSHAP: _SHARED | _TRUE
    | {"rule_name": "rescale", "data_ref": None, "limit_ref": 100, "winner_takes_all": True, "seed": None},
    LRP: _SHARED
    | _TRUE
    | {"rule_name": "simple", "rule_param": None, "winner_takes_all": True, "merge_batch_norm": False},
    ConnectionWeights: _SHARED | {"times_input": False},
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_signature(method):
    parameters = inspect.signature(method).parameters
    first, second, *rest = parameters.values()
    assert (first.name, second.name) == ("converter", "data")
    assert first.default is inspect.Parameter.empty
    assert second.default is (None if method is ConnectionWeights else inspect.Parameter.empty)
    assert {p.kind for p in rest} == {inspect.Parameter.KEYWORD_ONLY}
    assert {p.name: p.default for p in rest} == DEFAULTS[method]


@pytest.mark.parametrize("method", METHODS)
def test_run_functions(method):
    run = getattr(innsight_py, RUN[method])
    assert inspect.signature(run).parameters == inspect.signature(method).parameters
    assert inspect.signature(run).return_annotation == method.__name__
    assert run.__name__ == RUN[method]
    assert method.__name__ in run.__doc__
    arguments = {"seed": 3} if "seed" in DEFAULTS[method] else {}
    a, b = (
        explain(method, **arguments),
        explain(run, times_input=True) if method is ConnectionWeights else explain(run, **arguments),
    )
    assert type(b) is method
    np.testing.assert_array_equal(a.get_result(), b.get_result())


@pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")
@pytest.mark.parametrize("method", METHODS)
def test_fields_keep_the_arguments(method):
    given = {
        "channels_first": False, "output_idx": [1], "ignore_last_act": False, "verbose": False, "dtype": "double",
        "n": 2, "noise_level": 0.5, "winner_takes_all": False, "merge_batch_norm": True, "limit_ref": 2,
        "times_input": True,
    }  # fmt: skip
    given = {key: value for key, value in given.items() if key in DEFAULTS[method]}
    found = explain(method, **given)
    for key, value in given.items():
        assert getattr(found, key) == ([value] if key == "output_idx" else value), key
    assert found.converter is net()
    assert found.result[0][0].dtype == torch.float64


@pytest.mark.parametrize("method", METHODS)
def test_arguments_are_documented(method):
    documented = method.__doc__.split("Parameters\n")[1].split("Raises\n")[0]
    for name in inspect.signature(method).parameters:
        assert name in documented


# -- wrong arguments --------------------------------------------------------------------------------------------

NO_FLAG = [None, 0, 1, 1.0, "TRUE", "", NAN, [], [True], [True, False], np.array([True]), np.array([True, False]), "a"]
NO_COUNT = [2.5, 50.0, "3", None, True, NAN, INF, [], [3], np.array([3]), np.array([1, 2]), 1j]
NO_NUMBER = ["0.1", None, True, np.True_, [0.1], [0.1, 0.2], np.array([0.1, 0.2]), torch.tensor([0.1, 0.2]), 1j, {}]
#: What each argument refuses: values of the wrong kind (TypeError) and values that are not allowed (ValueError).
REFUSED = {
    "channels_first": ([v for v in NO_FLAG if v is not None], []),
    "ignore_last_act": (NO_FLAG, []),
    "winner_takes_all": (NO_FLAG, []),
    "merge_batch_norm": (NO_FLAG, []),
    "times_input": (NO_FLAG, []),
    "relu_rule": ([5, True, ["guided"]], ["", "Guided", "gradient", "deconv"]),
    "verbose": ([v for v in NO_FLAG if v is not None], []),
    "dtype": ([None, 5, True, torch.float64, np.float64, ["float"]], ["", "int", "float32", "double ", "Float"]),
    "batch_size": ([v for v in NO_COUNT if v is not None], [0, -1, np.int64(0)]),
    "n": (NO_COUNT, [0, -5, np.int64(0)]),
    "limit_ref": (NO_COUNT, [0, -1]),
    "noise_level": (NO_NUMBER, [-0.1, -1, NAN, INF, np.float64(-1)]),
    "seed": ([1.5, "1", True, [1], np.array([1, 2]), np.random.default_rng(1)], [-1]),
    "output_idx": ([1.5, "Y1", True, [0.5], {0: 1}], [2, -1, [0, 0], [], [None], [[0], [0]]]),
    "output_label": ([1, [0], True, {"output_1": 1}, {1: "Y1"}],
        [{"Y1": 1}, "Y3", "y1", ["Y1", "Y1"], [], [None], [["Y1"], ["Y2"]]]),
    "target": ([1.5, True, [0.5, 0.5], {0: 1}, torch.nn.Linear(3, 2)], [2, -1, [], "Y3", [0], {"Y1": 0}]),
    "data_names": ([1, "a", {}, [["a"]]], [["a"], [], ["a"] * len(X)]),
    "layer": ([3, True, {1: "a"}, [1]], ["nowhere", [], ["Dense_1", "Dense_1"]]),
    "neuron": (["a", 3, ("a",), (1, 2), ("Dense_1", "a")], [("nowhere", 0), ("Dense_1", 99), ("Dense_1", (0, 0))]),
    "x_ref": (
        [{1: X}, torch.nn.Linear(3, 2), [[1.0, None, 2.0]]],
        ["a", "Mean", 5.0, X[0, :2], X[:1, :2], X[:0], [[1.0], [1.0, 2.0]]],
    ),
    "data_ref": ([{1: X}, torch.nn.Linear(3, 2), [["b", "c", "d"]]], ["a", "Mean", 5.0, [1, 2], X[:, :2], X[:0]]),
}  # fmt: skip
CASES = [
    (method, name, value, error)
    for method in METHODS
    for name in DEFAULTS[method]
    if name not in ("rule_name", "rule_param")
    for values, error in zip(REFUSED[name], (TypeError, ValueError), strict=True)
    for value in values
]


@pytest.mark.parametrize(
    ("method", "name", "value", "error"), CASES, ids=lambda v: getattr(v, "__name__", without_address(v)[:30])
)
def test_wrong_argument(method, name, value, error):
    """A wrong kind is a TypeError, a wrong value a ValueError, and the message names the argument."""
    with pytest.raises(error, match=f"'{name}'"):
        explain(method, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("channels_first", np.True_), ("times_input", np.False_),
        ("n", np.int64(3)), ("n", np.array(3)), ("n", torch.tensor(3)),
        ("batch_size", 1), ("batch_size", np.int32(2)), ("noise_level", 0), ("noise_level", np.float32(0.5)),
        ("noise_level", torch.tensor(0.5)),
        ("seed", np.int64(4)), ("seed", 2**40), ("seed", torch.Generator().manual_seed(1)),
        ("verbose", None), ("output_idx", np.array([1])), ("output_label", pd.Categorical(["Y2"])),
    ],
    ids=without_address,
)  # fmt: skip
def test_right_argument(name, value):
    assert explain(SmoothGrad, **{"n": 2, name: value}).get_result().shape[:2] == X.shape


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("converter", [None, 5, "x", torch.nn.Linear(3, 2), {"layers": []}, Converter], ids=str)
def test_a_model_is_no_converter(method, converter):
    for run in (method, getattr(innsight_py, RUN[method])):
        with pytest.raises(TypeError, match=r"'converter'.*Converter"):
            run(converter, X)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "data", ["abc", {1: X}, object(), torch.nn.Linear(3, 2), X.astype(str)], ids=lambda v: type(v).__name__
)
def test_data_of_the_wrong_kind(method, data):
    with pytest.raises(TypeError, match="'data'"):
        explain(method, data=data)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", [X[:, :2], X[0], X[:0], X[:, None], [X, X], 5.0], ids=lambda v: str(np.shape(v)))
def test_data_of_the_wrong_shape(method, data):
    with pytest.raises(ValueError, match="'data'"):
        explain(method, data=data)


def test_data_is_the_converter():
    with pytest.raises(TypeError, match="'data'"):
        Gradient(net(), net())


@pytest.mark.parametrize("method", [m for m in METHODS if m is not ConnectionWeights])
def test_missing_data(method):
    for run in (method, getattr(innsight_py, RUN[method])):
        with pytest.raises(TypeError, match="'data'"):
            run(net())
        with pytest.raises(TypeError, match="'data'"):
            run(net(), None)
    with pytest.raises(TypeError, match="'converter'"):
        method()


@pytest.mark.parametrize("method", METHODS)
def test_arguments_after_the_data_go_by_name(method):
    for run in (method, getattr(innsight_py, RUN[method])):
        with pytest.raises(TypeError, match="positional"):
            run(net(), X, True)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["output_idx", "channels_first", "dtype", "verbose"])
def test_unknown_argument(method, name):
    typo = name.replace("_", "").replace("dtype", "dtyp").replace("verbose", "verbos")
    with pytest.raises(TypeError, match=rf"'{typo}'.*did you mean '{name}'"):
        method(net(), X, **{typo: None})
    with pytest.raises(TypeError, match="'nothing_like_it'") as caught:
        method(net(), X, nothing_like_it=1)
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "name"),
    [(ConnectionWeights, "ignore_last_act"), (ConnectionWeights, "winner_takes_all"), (Gradient, "winner_takes_all"),
     (Gradient, "n"), (ExpectedGradient, "times_input"), (DeepLift, "data_ref"), (DeepSHAP, "x_ref"), (LRP, "x_ref")],
)  # fmt: skip
def test_arguments_of_other_methods(method, name):
    with pytest.raises(TypeError, match=f"'{name}'"):
        method(net(), X, **{name: True})


def test_an_argument_twice():
    with pytest.raises(TypeError, match="data"):
        Gradient(net(), X, data=X)


# -- references -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [DeepLift, IntegratedGradient])
@pytest.mark.parametrize("rows", [2, 3])
def test_a_reference_is_a_single_row_or_one_for_each(method, rows):
    with pytest.raises(ValueError, match=rf"'x_ref'.*single row.*{rows}"):
        explain(method, x_ref=X[:rows])


@pytest.mark.parametrize(
    ("method", "name"),
    [(DeepLift, "x_ref"), (IntegratedGradient, "x_ref"), (DeepSHAP, "data_ref"), (ExpectedGradient, "data_ref")],
)
@pytest.mark.parametrize("dim", [(3,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("channels_first", [True, False])
def test_default_reference_is_zeros(method, name, dim, channels_first):
    size = int(np.prod(dim))
    converter = Converter({"input_dim": dim, "layers": [{"type": "Flatten"}, dense(2, size, activation_name="tanh")]})
    shape = dim if channels_first or len(dim) == 1 else (*dim[1:], dim[0])
    x = RNG.normal(size=(3, *shape))
    keys = {"channels_first": channels_first} | ({"seed": 1} if method is ExpectedGradient else {})
    default = method(converter, x, **keys)
    assert getattr(default, name)[0].shape == (1, *shape)
    assert not getattr(default, name)[0].any()
    np.testing.assert_array_equal(
        default.get_result(), method(converter, x, **{name: np.zeros((1, *shape))}, **keys).get_result()
    )


def test_references_of_several_inputs():
    layers = [{"type": "Concatenate", "axis": 1, "inputs": ["input_1", "input_2"]}, dense(2, 5, activation_name="tanh")]
    converter = Converter({"input_dim": [[3], [2]], "layers": layers}, dtype="double")
    x, ref = [X, X[:, :2]], [X[:1] + 1, X[1:2, :2]]
    found = DeepLift(converter, x, x_ref=ref, dtype="double")
    total = sum(result.sum(1) for result in found.result[0])
    torch.testing.assert_close(total, found.decomp_goal[0], rtol=1e-9, atol=1e-12)
    for name, method in (
        ("x_ref", DeepLift),
        ("x_ref", IntegratedGradient),
        ("data_ref", DeepSHAP),
        ("data_ref", ExpectedGradient),
    ):
        for wrong, error in (([ref[0]], ValueError), (ref[0], TypeError), ([ref[0], X[:2, :2]], ValueError)):
            with pytest.raises(error, match=f"'{name}'"):
                method(converter, x, **{name: wrong})


@pytest.mark.parametrize(("rows", "limit", "kept"), [(1, 100, 1), (5, 100, 5), (5, 5, 5), (5, 4, 4), (5, 1, 1)])
def test_limit_ref(rows, limit, kept):
    """So many different rows of the references; if all are taken their order is kept (quirk Q68)."""
    data_ref = RNG.normal(size=(rows, 3))
    found = DeepSHAP(net(), X, data_ref=data_ref, limit_ref=limit, dtype="double").data_ref[0].numpy()
    assert found.shape == (kept, 3)
    assert len({tuple(row) for row in found} & {tuple(row) for row in data_ref}) == kept
    if kept == rows:
        np.testing.assert_array_equal(found, data_ref)


def test_limit_ref_draws_the_same_rows_for_all_inputs():
    layers = [{"type": "Add", "inputs": ["input_1", "input_2"]}]
    converter = Converter({"input_dim": [[1], [1]], "layers": layers})
    rows = np.arange(50.0)[:, None]
    found = DeepSHAP(converter, [rows, rows], data_ref=[rows, rows + 100], limit_ref=7, seed=3)
    np.testing.assert_array_equal(found.data_ref[0] + 100, found.data_ref[1])
    again = DeepSHAP(converter, [rows, rows], data_ref=[rows, rows + 100], limit_ref=7, seed=3)
    other = DeepSHAP(converter, [rows, rows], data_ref=[rows, rows + 100], limit_ref=7, seed=4)
    assert torch.equal(found.data_ref[0], again.data_ref[0])
    assert not torch.equal(found.data_ref[0], other.data_ref[0])


@pytest.mark.parametrize(
    ("method", "arguments"),
    [(SmoothGrad, {}), (ExpectedGradient, {"data_ref": X}), (DeepSHAP, {"data_ref": X, "limit_ref": 2})],
)
def test_seed(method, arguments):
    def result(seed):
        return explain(method, seed=seed, **arguments).get_result()

    np.testing.assert_array_equal(result(7), result(7))
    np.testing.assert_array_equal(result(torch.Generator().manual_seed(7)), result(torch.Generator().manual_seed(7)))
    assert not np.array_equal(result(7), result(8))
    torch.manual_seed(1)
    first, second = result(None), result(None)
    torch.manual_seed(1)
    np.testing.assert_array_equal(result(None), first)
    assert not np.array_equal(first, second)


# -- connection weights -----------------------------------------------------------------------------------------


def test_connection_weights_without_times_input_ignore_the_data():
    alone = ConnectionWeights(net())
    with pytest.warns(UserWarning, match="'data' is not used"):
        given = ConnectionWeights(net(), X)
    np.testing.assert_array_equal(given.get_result(), alone.get_result())
    assert given.get_result().shape == (1, 3, 2)
    assert (alone.preds, alone.decomp_goal) == (None, None)


def test_connection_weights_with_times_input_need_the_data():
    with pytest.raises(ValueError, match=r"'data'.*times_input"):
        ConnectionWeights(net(), times_input=True)
    found = ConnectionWeights(net(), X, times_input=True, dtype="double").get_result()
    np.testing.assert_allclose(found, ConnectionWeights(net(), dtype="double").get_result() * X[..., None])


# -- LRP's rules ------------------------------------------------------------------------------------------------

CLASSES = [
    "Dense_Layer", "Conv1D_Layer", "Conv2D_Layer", "BatchNorm_Layer", "AvgPool1D_Layer", "AvgPool2D_Layer",
    "MaxPool1D_Layer", "MaxPool2D_Layer",
]  # fmt: skip


@functools.cache
def cnn(axes: int) -> Converter:
    """Build a net with a layer of every class of so many axes."""
    channels, size = 2, 9
    kernel = (2,) * axes
    layers = [
        {
            "type": f"Conv{axes}D",
            "weight": np.random.default_rng(axes).normal(size=(channels, channels, *kernel)),
            "activation_name": "relu",
        },
        {"type": "BatchNorm", "gamma": [1.0, 2.0], "run_mean": [0.5, 0.0], "run_var": [1.0, 2.0], "eps": 1e-3},
        {"type": f"MaxPooling{axes}D", "kernel_size": 2},
        {"type": f"AveragePooling{axes}D", "kernel_size": 2},
        {"type": "Flatten"},
        dense(2, channels * 2**axes),
    ]
    return Converter({"input_dim": [channels, *[size] * axes], "layers": layers})


def relevance(axes: int, **arguments) -> LRP:
    shape = (3, 2, *[9] * axes)
    return LRP(cnn(axes), np.random.default_rng(1).normal(size=shape), dtype="double", **arguments)


@pytest.mark.parametrize(
    "rule_name",
    [
        "pass", "", "Simple", "eps", "alpha-beta", {"Flatten": "simple"}, {"Dense": "simple"},
        {"Flatten_Layer": "simple"}, {"dense_layer": "simple"}, {5: "simple"},
        {"Dense_Layer": "unknown"}, {"Dense_Layer": None},
        {"Dense_Layer": ["simple"]},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_rule_name(rule_name):
    with pytest.raises(ValueError, match="'rule_name'"):
        explain(LRP, rule_name=rule_name)


@pytest.mark.parametrize("rule_name", [None, 5, True, ["simple"], ("simple", "epsilon"), LRP], ids=str)
def test_rule_name_of_the_wrong_kind(rule_name):
    with pytest.raises(TypeError, match="'rule_name'"):
        explain(LRP, rule_name=rule_name)


@pytest.mark.parametrize(
    ("rule_name", "meant"),
    [("epsilom", "epsilon"), ("alphabeta", "alpha_beta"), ({"Dense_Layr": "simple"}, "Dense_Layer")],
    ids=str,
)
def test_a_typo_in_a_rule_gets_a_suggestion(rule_name, meant):
    with pytest.raises(ValueError, match=rf"'rule_name'.*did you mean '{meant}'"):
        explain(LRP, rule_name=rule_name)


@pytest.mark.parametrize(
    "rule_param", [{"Flatten": 1}, {"Dense": 0.5}, {1: 0.5}, NAN, INF, {"Dense_Layer": NAN}], ids=str
)
def test_wrong_rule_param(rule_param):
    with pytest.raises(ValueError, match="'rule_param'"):
        explain(LRP, rule_name="epsilon", rule_param=rule_param)


@pytest.mark.parametrize(
    "rule_param",
    [
        "0.1",
        True,
        [0.1],
        [0.1, 0.2],
        np.array([0.1, 0.2]),
        1j,
        {"Dense_Layer": "0.1"},
        {"Dense_Layer": None},
        {"Dense_Layer": [1]},
    ],
    ids=str,
)
def test_rule_param_of_the_wrong_kind(rule_param):
    with pytest.raises(TypeError, match="'rule_param'"):
        explain(LRP, rule_name="epsilon", rule_param=rule_param)


@pytest.mark.parametrize("rule_name", ["rescale", "reveal_cancel"])
@pytest.mark.parametrize("method", [DeepLift, DeepSHAP])
def test_rules_of_deeplift(method, rule_name):
    assert explain(method, rule_name=rule_name).rule_name == rule_name
    for wrong, error in (
        ("revealcancel", ValueError),
        ("", ValueError),
        (None, TypeError),
        (5, TypeError),
        ({"Dense_Layer": rule_name}, TypeError),
    ):
        with pytest.raises(error, match=r"'rule_name'.*rescale.*reveal_cancel"):
            explain(method, rule_name=wrong)


@pytest.mark.parametrize("key", CLASSES)
@pytest.mark.parametrize("rule", ["simple", "epsilon", "alpha_beta", "pass"])
def test_rules_of_every_class(key, rule):
    """A rule for one class changes nothing else; "pass" is for layers that keep the shape and the meaning of values."""
    for axes in (1, 2):
        present = str(axes) in key or key in ("Dense_Layer", "BatchNorm_Layer")
        if rule == "pass" and key != "BatchNorm_Layer" and present:
            for winner in (True, False):  # R ignores it for a max pooling, or runs into an undefined variable (Q55)
                with pytest.raises(ValueError, match=rf"'rule_name'.*{key}.*'pass'"):
                    relevance(axes, rule_name={key: rule}, winner_takes_all=winner)
            continue
        found, plain = relevance(axes, rule_name={key: rule}), relevance(axes)
        if rule == "simple" or not present or key.startswith("MaxPool"):  # the winner takes all, whatever the rule
            np.testing.assert_array_equal(found.get_result(), plain.get_result())
        else:
            assert not np.allclose(found.get_result(), plain.get_result(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize(("rule", "default", "other"), [("epsilon", 0.001, 0.3), ("alpha_beta", 0.5, 2)])
def test_rule_parameters(axes, rule, default, other):
    """A number is for all layers, a dict for its classes, and the rest has the rule's default."""
    all_default = relevance(axes, rule_name=rule).get_result()
    np.testing.assert_array_equal(relevance(axes, rule_name=rule, rule_param=default).get_result(), all_default)
    np.testing.assert_array_equal(relevance(axes, rule_name=rule, rule_param={}).get_result(), all_default)
    everywhere = relevance(axes, rule_name=rule, rule_param=other).get_result()
    classes = {
        "Dense_Layer": other,
        f"Conv{axes}D_Layer": other,
        "BatchNorm_Layer": other,
        f"AvgPool{axes}D_Layer": other,
    }
    np.testing.assert_array_equal(relevance(axes, rule_name=rule, rule_param=classes).get_result(), everywhere)
    one = relevance(axes, rule_name=rule, rule_param={"Dense_Layer": other}).get_result()
    np.testing.assert_array_equal(
        one,
        relevance(
            axes, rule_name=rule, rule_param=dict.fromkeys(classes, default) | {"Dense_Layer": other}
        ).get_result(),
    )
    assert not np.allclose(one, all_default, rtol=1e-9, atol=0)
    assert not np.allclose(one, everywhere, rtol=1e-9, atol=0)


def test_a_dict_of_rules_for_every_class_is_the_rule():
    for rule in ("simple", "epsilon", "alpha_beta"):
        np.testing.assert_array_equal(
            relevance(2, rule_name=dict.fromkeys(CLASSES, rule)).get_result(), relevance(2, rule_name=rule).get_result()
        )


# -- ignore_last_act --------------------------------------------------------------------------------------------

IMAGE = np.random.default_rng(7).normal(size=(3, 2, 4, 4))
CONV = {
    "type": "Conv2D",
    "weight": np.random.default_rng(8).normal(size=(2, 2, 4, 4)),
    "bias": [0.5, -0.5],
    "activation_name": "sigmoid",
}
ENDS = {
    # the last layers, and whether the preactivation of the first of them is explained
    "Dense": ([], True),
    "Skipping": ([{"type": "Skipping"}], True),
    "two Skipping": ([{"type": "Skipping"}, {"type": "Skipping"}], True),
    "Activation": ([{"type": "Activation", "act_name": "tanh"}], False),
    "softmax": ([{"type": "Activation", "act_name": "softmax"}], False),
    "Activation, Skipping": ([{"type": "Activation", "act_name": "tanh"}, {"type": "Skipping"}], False),
    "Skipping, Activation": ([{"type": "Skipping"}, {"type": "Activation", "act_name": "tanh"}], False),
    "BatchNorm": (
        [{"type": "BatchNorm", "gamma": [1.0, 2.0], "run_mean": [0.1, 0.0], "run_var": [1.0, 2.0], "eps": 0.1}], False
    ),
    "Padding": ([{"type": "Padding", "padding": [1, 0]}], False),
    "Flatten": ([{"type": "Flatten"}], False),
}  # fmt: skip


def ending(end: str, first: str = "Dense") -> tuple[Converter, np.ndarray]:
    if first == "Dense":
        layers, x = [dense(4, 3, activation_name="tanh"), dense(2, 4, activation_name="sigmoid")], X
        return Converter({"input_dim": 3, "layers": layers + ENDS[end][0]}, dtype="double"), x
    flat = [{"type": "Flatten"}] if end in ("Dense", "Skipping", "two Skipping") else []
    return Converter({"input_dim": [2, 4, 4], "layers": [CONV, *flat, *ENDS[end][0]]}, dtype="double"), IMAGE


def values(converter: Converter, x: np.ndarray) -> torch.Tensor:
    return converter.model(torch.tensor(x))[0]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("method", [m for m in METHODS if m is not ConnectionWeights])
@pytest.mark.parametrize("ignore", [True, False])
def test_what_is_explained(end, method, ignore):
    """Identities at the end are looked through; what is neither Dense nor a convolution is explained at its value."""
    converter, x = ending(end)
    z = torch.tensor(x) @ torch.tensor(dense(4, 3)["weight"]).T + torch.tensor(dense(4, 3)["bias"])
    z = z.tanh() @ torch.tensor(dense(2, 4)["weight"]).T + torch.tensor(dense(2, 4)["bias"])
    value = values(converter, x)
    preactivation = ignore and ENDS[end][1]
    expected = z if preactivation else value
    if method in (IntegratedGradient, ExpectedGradient, DeepLift, DeepSHAP):
        zero = np.zeros((1, 3))
        ref = torch.tensor(dense(4, 3)["bias"]).tanh() @ torch.tensor(dense(2, 4)["weight"]).T + torch.tensor(
            dense(2, 4)["bias"]
        )
        expected = expected - (ref if preactivation else values(converter, zero))
    found = method(converter, x, ignore_last_act=ignore, dtype="double", output_idx=range(value.shape[1]))
    torch.testing.assert_close(found.preds[0], value, rtol=1e-12, atol=1e-14)  # always the model's output
    if method is LRP and not ignore and end in ("Dense", "Skipping", "two Skipping", "softmax"):
        expected = expected - 0.5  # a probability starts from 0.5 (quirk Q71)
    torch.testing.assert_close(found.decomp_goal[0], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("end", ["Skipping", "two Skipping"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("first", ["Dense", "Conv"])
def test_identities_at_the_end_change_nothing(end, method, first):
    keys = {"seed": 1} if "seed" in DEFAULTS[method] else {}
    for ignore in (True, False) if method is not ConnectionWeights else (None,):
        if ignore is not None:
            keys["ignore_last_act"] = ignore
        found = []
        for name in ("Dense", end):
            converter, x = ending(name, first)
            if method is ConnectionWeights:
                keys["times_input"] = True
            found.append(method(converter, x, dtype="double", **keys).get_result())
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("end", ["Activation", "BatchNorm", "Flatten", "Padding", "Skipping, Activation"])
@pytest.mark.parametrize("method", [Gradient, DeepLift, LRP])
def test_at_other_ends_the_argument_says_nothing(end, method):
    converter, x = ending(end)
    found = [method(converter, x, dtype="double", ignore_last_act=ignore).get_result() for ignore in (True, False)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("method", [Gradient, DeepLift, LRP])
def test_a_flattened_convolution_is_explained_at_its_value(method):
    """Flatten is no identity: design, "A trailing layer that is not Dense or Conv is explained at its value"."""
    converter, x = ending("Flatten", "Conv")
    found = method(converter, x, dtype="double", ignore_last_act=True)
    expected = values(converter, x)
    if method is DeepLift:
        expected = expected - values(converter, np.zeros_like(x[:1]))
    torch.testing.assert_close(found.decomp_goal[0], expected)


@pytest.mark.parametrize("dim", [3, [2, 2]])
@pytest.mark.parametrize("method", METHODS)
def test_a_model_of_identities_alone(method, dim):
    """There is nothing before the identities to look through to; the output is the input."""
    layers = [{"type": "Flatten"}, {"type": "Skipping"}]
    converter, x = Converter({"input_dim": dim, "layers": layers}), RNG.normal(size=(2, *np.atleast_1d(dim)))
    keys = {"times_input": True} if method in (Gradient, SmoothGrad, ConnectionWeights) else {}
    keys |= (
        {"noise_level": 0, "n": 2}
        if method is SmoothGrad
        else {"n": 2}
        if method in (IntegratedGradient, ExpectedGradient)
        else {}
    )
    found = method(converter, x, dtype="double", **keys).get_result()
    size = int(np.prod(dim))
    expected = np.einsum("bi,ik->bik", x.reshape(2, size), np.eye(size)).reshape(2, *x.shape[1:], size)
    tolerance = 2e-7 if method is ExpectedGradient else 1e-12
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=1e-12)


# -- the converter ----------------------------------------------------------------------------------------------

SPEC = {"input_dim": [3], "layers": [dense(2, 3)]}


@pytest.mark.parametrize("value", [None, 5, True, torch.float64, ["float"]], ids=str)
def test_dtype_of_the_wrong_kind(value):
    with pytest.raises(TypeError, match=r"'dtype'.*'float'.*'double'"):
        Converter(SPEC, dtype=value)


@pytest.mark.parametrize("value", ["", "int", "float64", "Double"])
def test_unknown_dtype(value):
    with pytest.raises(ValueError, match=r"'dtype'.*'float'.*'double'"):
        Converter(SPEC, dtype=value)


@pytest.mark.parametrize("value", NO_FLAG, ids=str)
def test_save_model_as_dict_is_a_flag(value):
    with pytest.raises(TypeError, match="'save_model_as_dict'"):
        Converter(SPEC, save_model_as_dict=value)


@pytest.mark.parametrize("call", [Converter, convert])
def test_a_model_is_needed(call):
    with pytest.raises(TypeError, match="model"):
        call()


@pytest.mark.parametrize("call", [Converter, convert])
@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("input_dims", "input_dim"),
        ("output_name", "output_names"),
        ("save_model_as_list", "save_model_as_dict"),
        ("dtyp", "dtype"),
    ],
)
def test_unknown_argument_of_the_converter(call, typo, meant):
    with pytest.raises(TypeError, match=rf"'{typo}'.*did you mean '{meant}'"):
        call(SPEC, **{typo: None})


@pytest.mark.parametrize(
    "model",
    [None, 5, 2.5, b"x", [dense(2, 3)], (dense(2, 3),), np.ones(3), torch.ones(3), torch.nn.Linear, len],
    ids=str,
)
def test_no_model(model):
    with pytest.raises(TypeError, match=r"'model'.*PyTorch.*dict"):
        Converter(model, input_dim=3)


@pytest.mark.parametrize("path", ["x", "", "model.xyz", Path("model.xyz")], ids=repr)
def test_no_path_of_a_model(path):
    """A text is the path of a file, and is told the endings of those that are read."""
    with pytest.raises(TypeError, match=r"'model'.*path.*\.safetensors.*\.onnx"):
        Converter(path, input_dim=3)


def test_convert_is_converter():
    keys = {
        "input_names": ["a", "b", "c"],
        "output_names": ["d", "e"],
        "dtype": "double",
        "save_model_as_dict": True,
        "input_dim": 3,
    }
    assert repr(convert(SPEC, **keys)) == repr(Converter(SPEC, **keys))
    assert convert(SPEC, **keys).model.dtype == torch.float64


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float", "double"])
def test_a_method_does_not_change_the_converter(method, dtype):
    """In R the method's dtype is the converter's from then on (quirk Q4)."""
    converter = Converter(SPEC, dtype="float")
    before = {key: value.clone() for key, value in converter.model.state_dict().items()}
    text = repr(converter)
    method(converter, X, dtype=dtype, **({"times_input": True} if method is ConnectionWeights else {}))
    after = converter.model.state_dict()
    assert {value.dtype for value in after.values()} == {torch.float32}
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert repr(converter) == text


@pytest.mark.parametrize("method", METHODS)
def test_the_methods_dtype_does_not_depend_on_the_converters(method):
    """The weights are those that were given, whatever the converter's precision."""
    keys = {"seed": 1} if "seed" in DEFAULTS[method] else {}
    keys |= {"times_input": True} if method is ConnectionWeights else {}
    results = [method(net(kind), X, dtype="double", **keys).get_result() for kind in ("float", "double")]
    np.testing.assert_array_equal(*results)
    assert results[0].dtype == np.float64


def test_unsupported_is_an_error_of_its_own():
    assert issubclass(UnsupportedLayerError, NotImplementedError)
