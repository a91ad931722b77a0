"""The door for scikit-learn: fitted perceptrons, pipelines, searches, transformed targets, and skorch's nets."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import skorch
import torch
from sklearn import config_context
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from torch import nn

from innsight_py import Converter, run_cw, run_deeplift, run_grad, run_lrp

RNG = np.random.default_rng(3)
#: Years, a wide range, small numbers and a column that never varies.
X = RNG.standard_normal((90, 4)) * [3.0, 100.0, 0.01, 0.0] + [2000.0, 5.0, 0.0, 7.0]
FRAME = pd.DataFrame(X, columns=["year", "income", "rate", "constant"])
SCORES = np.stack([X[:, 0] - 2000, X[:, 1] / 50, X[:, 2] * 100], 1) + RNG.standard_normal((90, 3))
SPECIES = np.array(["u", "v", "w"])[SCORES.argmax(1)]
#: New rows, some of them outside of what was seen.
ROWS = X[:6] + RNG.standard_normal((6, 4)) * [4.0, 100.0, 0.01, 1.0]
ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
TARGETS = {
    "multi-class": SPECIES,
    "binary": SPECIES == "u",
    "multi-label": (SCORES > 0).astype(int),
    "one target": SCORES[:, 0],
    "several targets": SCORES,
}


def fitted(estimator, x=FRAME, y=SPECIES):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(x, y)


def perceptron(target="multi-class", **options):
    kind = MLPRegressor if "target" in target else MLPClassifier
    return kind(**({"hidden_layer_sizes": (6, 3), "max_iter": 30, "random_state": 1} | options))


def predict(model, rows):
    """Return what the user gets from the original, one column an output."""
    rows = pd.DataFrame(rows, columns=FRAME.columns) if hasattr(model, "feature_names_in_") else rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of names, where an inner step has them
        found = model.predict_proba(rows) if hasattr(model, "predict_proba") else model.predict(rows)
    return found.reshape(len(rows), -1)


def jacobian(model, rows):
    """Central differences of what the user gets from the original: shape (rows, features, outputs)."""
    steps = np.diag(1e-5 * np.array([3.0, 100.0, 0.01, 1.0]))
    columns = [(predict(model, rows + step) - predict(model, rows - step)) / (2 * step.sum()) for step in steps]
    return np.stack(columns, 1)


def check(model, rows=ROWS) -> Converter:
    """Compare with the original: the same predictions, and gradients in the units of the original's inputs."""
    converter = Converter(model, dtype="double")
    expected = predict(model, rows)
    scale = max(1.0, np.abs(expected).max())
    found = run_grad(converter, rows, ignore_last_act=False, dtype="double", output_idx=list(range(expected.shape[1])))
    np.testing.assert_allclose(found.preds[0].numpy(), expected, rtol=0, atol=1e-9 * scale)
    theirs = jacobian(model, rows)
    size = np.abs(theirs).max((0, 2), keepdims=True)  # features differ by orders of magnitude
    np.testing.assert_allclose(found.get_result() / (size + 1e-12), theirs / (size + 1e-12), atol=1e-4)
    return converter


# -- perceptrons --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("target", TARGETS)
def test_perceptron(target, activation):
    scaled = pd.DataFrame(StandardScaler().fit_transform(X), columns=FRAME.columns)
    model = fitted(perceptron(target, activation=activation), scaled, TARGETS[target])
    converter = Converter(model, dtype="double")
    rows = RNG.standard_normal((5, 4))
    expected = predict(model, rows)
    outputs = list(range(expected.shape[1]))
    found = run_grad(converter, rows, dtype="double", output_idx=outputs)
    np.testing.assert_allclose(found.preds[0].numpy(), expected, rtol=0, atol=1e-12)
    assert converter.input_names == [[list(FRAME.columns)]]
    labels = {
        "multi-class": ["u", "v", "w"],
        "binary": ["False", "True"],
        "multi-label": ["0", "1", "2"],
        "one target": ["Y1"],
        "several targets": ["Y1", "Y2", "Y3"],
    }
    assert converter.output_names == [[labels[target]]]
    single = Converter(model).model(torch.tensor(rows, dtype=torch.float32))[0]
    np.testing.assert_allclose(single.numpy(), expected, rtol=0, atol=1e-4)


def test_a_binary_classifier_has_a_node_for_each_class():
    """As `predict_proba` has columns: what speaks for one class speaks against the other."""
    model = fitted(make_pipeline(StandardScaler(), perceptron()), y=SPECIES == "u")
    converter = check(model)
    for ignore in (True, False):
        for run in (run_grad, run_deeplift):
            no, yes = np.moveaxis(run(converter, ROWS, ignore_last_act=ignore, dtype="double").get_result(), -1, 0)
            np.testing.assert_allclose(no, -yes, atol=1e-10)
    goal = run_deeplift(converter, ROWS, x_ref="zeros", dtype="double").decomp_goal[0].numpy()
    assert goal.shape == (6, 2)
    logit = np.log(predict(model, ROWS)[:, 1] / predict(model, ROWS)[:, 0])
    zero = np.log(predict(model, np.zeros((1, 4)))[:, 1] / predict(model, np.zeros((1, 4)))[:, 0])
    np.testing.assert_allclose(goal[:, 1], logit - zero, atol=1e-8)


def test_other_outputs():
    counts = fitted(make_pipeline(StandardScaler(), perceptron("target", loss="poisson")), y=RNG.integers(0, 9, 90))
    assert check(counts)._spec.layers[-1].activation_name == "exp"
    integers = fitted(perceptron(), StandardScaler().fit_transform(X), RNG.integers(-1, 2, 90))
    assert Converter(integers).output_names == [[["-1", "0", "1"]]]
    assert Converter(integers).input_names == [[["X1", "X2", "X3", "X4"]]]
    none = fitted(perceptron(hidden_layer_sizes=()), StandardScaler().fit_transform(X))
    assert len(Converter(none)._spec.layers) == 1


def test_a_perceptron_in_single_precision():
    x = StandardScaler().fit_transform(X).astype(np.float32)
    model = fitted(perceptron(), x)
    converter = Converter(model, dtype="double")
    assert converter._spec.layers[0].weight.dtype == torch.float32
    rows = RNG.standard_normal((4, 4))
    np.testing.assert_allclose(converter.model(torch.tensor(rows))[0].numpy(), predict(model, rows), atol=1e-12)


def test_arguments_of_the_converter():
    model = fitted(make_pipeline(StandardScaler(), perceptron()))
    assert Converter(model, input_dim=4).input_dim == [(4,)]
    with pytest.raises(ValueError, match=r"'input_dim': the model takes \(4,\).*got \(3,\)"):
        Converter(model, input_dim=3)
    own = Converter(model, input_names=list("abcd"), output_names=["x", "y", "z"])
    assert (own.input_names, own.output_names) == ([[list("abcd")]], [[["x", "y", "z"]]])


# -- pipelines ----------------------------------------------------------------------------------------------------

SCALERS = {
    "standard": StandardScaler(),
    "standard without mean": StandardScaler(with_mean=False),
    "standard without deviation": StandardScaler(with_std=False),
    "standard without both": StandardScaler(with_mean=False, with_std=False),
    "min-max": MinMaxScaler(),
    "min-max to a range": MinMaxScaler(feature_range=(-2, 0.5)),
    "min-max clipped": MinMaxScaler(feature_range=(-1, 2), clip=True),
    "largest": MaxAbsScaler(),
    "robust": RobustScaler(),
    "robust without center": RobustScaler(with_centering=False),
    "robust without scale": RobustScaler(with_scaling=False),
    "robust without both": RobustScaler(with_centering=False, with_scaling=False),
    "robust with options": RobustScaler(quantile_range=(10, 80), unit_variance=True),
    "identity": FunctionTransformer(),
    "passthrough": "passthrough",
    "none": None,
}


@pytest.mark.parametrize("target", ["multi-class", "several targets"])
@pytest.mark.parametrize("name", SCALERS)
def test_pipeline(name, target):
    """A second scaler, so that also data that the first leaves as they are can be fitted."""
    model = Pipeline(
        [("first", SCALERS[name]), ("second", StandardScaler()), ("net", perceptron(target, activation="tanh"))]
    )
    converter = check(fitted(model, y=TARGETS[target]))
    assert converter.input_names == [[list(FRAME.columns)]]
    clipped = name == "min-max clipped"
    scaling = ["Scale", "Activation", "Scale"] if clipped else ["Scale"]
    assert [layer.type for layer in converter._spec.layers] == scaling + ["Dense"] * 3
    assert len(converter.model.preparation["input_1"]) == len(scaling)


def test_clipping_is_part_of_the_model():
    model = fitted(make_pipeline(MinMaxScaler(clip=True), perceptron(activation="tanh")))
    outside = ROWS[:1] + np.array([1000.0, 0.0, 0.0, 0.0])
    converter = check(model, np.concatenate([ROWS, outside]))
    result = run_grad(converter, outside, ignore_last_act=False, dtype="double").get_result()
    assert (result[0, 0] == 0).all()
    assert (result[0, 1] != 0).any()


def test_methods_go_through_the_scaling():
    """DeepLift's parts add up to the difference of predictions; connection weights are those of scaled features."""
    model = fitted(make_pipeline(StandardScaler(), perceptron("target", activation="tanh")), y=SCORES[:, 0])
    converter = Converter(model, dtype="double")
    reference = X.mean(0, keepdims=True)
    parts = run_deeplift(converter, ROWS, x_ref=reference, dtype="double").get_result().sum(1)
    np.testing.assert_allclose(parts, predict(model, ROWS) - predict(model, reference), atol=1e-9)
    assert np.isfinite(run_lrp(converter, ROWS, dtype="double").get_result()).all()
    weights = np.eye(4)
    for matrix in model[-1].coefs_:
        weights = weights @ matrix
    np.testing.assert_allclose(run_cw(converter, dtype="double").get_result()[0], weights, rtol=1e-6)


def test_nested_and_searched():
    inner = Pipeline([("robust", RobustScaler()), ("net", perceptron())])
    check(fitted(Pipeline([("outer", MinMaxScaler()), ("inner", inner)])))
    grid = {"mlpclassifier__activation": ["tanh", "relu"]}
    for search in (GridSearchCV, RandomizedSearchCV):
        options = {"n_iter": 2} if search is RandomizedSearchCV else {}
        found = fitted(search(make_pipeline(StandardScaler(), perceptron()), grid, cv=2, **options))
        assert check(found).output_names == [[["u", "v", "w"]]]


def test_names_that_only_an_inner_step_has():
    with config_context(transform_output="pandas"):
        model = fitted(make_pipeline(StandardScaler(), perceptron()), X)
        assert not hasattr(model, "feature_names_in_")
        assert Converter(model).input_names == [[["x0", "x1", "x2", "x3"]]]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"transformer": StandardScaler()},
        {"transformer": MinMaxScaler(feature_range=(1, 3), clip=True)},
        {"transformer": RobustScaler()},
        {"transformer": MaxAbsScaler()},
        {"func": np.log, "inverse_func": np.exp},
        {"func": np.log1p, "inverse_func": np.expm1},
    ],
    ids=str,
)
@pytest.mark.parametrize("several", [False, True])
def test_transformed_target(options, several):
    y = np.exp(SCORES / 3) if several else np.exp(SCORES[:, 0] / 3)
    inside = TransformedTargetRegressor(make_pipeline(StandardScaler(), perceptron("target")), **options)
    around = make_pipeline(StandardScaler(), TransformedTargetRegressor(perceptron("target"), **options))
    for model in (inside, around):
        converter = check(fitted(model, y=y))
        assert [layer.type for layer in converter._spec.layers] == ["Scale"] + ["Dense"] * 3


def test_transformed_counts():
    """An output that is no longer linear keeps its activation, and the scale comes after it."""
    model = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), perceptron("target", loss="poisson")), transformer=MaxAbsScaler()
    )
    converter = check(fitted(model, y=RNG.integers(0, 9, 90)))
    assert [layer.type for layer in converter._spec.layers] == ["Scale"] + ["Dense"] * 3 + ["Scale"]


# -- skorch -------------------------------------------------------------------------------------------------------


def module(last: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Dropout(), nn.Tanh(), nn.Linear(5, last))


def test_skorch_classifier():
    x = StandardScaler().fit_transform(X).astype(np.float32)
    net = skorch.NeuralNetClassifier(module(), criterion=nn.CrossEntropyLoss, max_epochs=2, verbose=0)
    net.fit(x, SCORES.argmax(1))
    net.module_.train()
    with pytest.warns(UserWarning, match="in training mode"):
        converter = Converter(net, input_dim=4)
    assert net.module_.training
    assert converter.output_names == [[["0", "1", "2"]]]
    net.module_.eval()
    with torch.no_grad():
        expected = net.module_(torch.from_numpy(x[:5]))
    torch.testing.assert_close(converter.model(torch.from_numpy(x[:5]))[0], expected)
    with pytest.raises(ValueError, match="'input_dim'"):
        Converter(net)


@pytest.mark.parametrize(
    "scalers", [[], [StandardScaler()], [StandardScaler(), MinMaxScaler(clip=True), MaxAbsScaler()]]
)
def test_skorch_in_a_pipeline(scalers):
    x = X.astype(np.float32)
    net = skorch.NeuralNetRegressor(module(2), max_epochs=1, verbose=0)
    model = make_pipeline(FunctionTransformer(), *scalers, net).fit(x, SCORES[:, :2].astype(np.float32))
    net.module_.eval()
    converter = Converter(model, input_dim=None if scalers else 4, dtype="double")
    rows = ROWS.copy()
    scaled = rows
    for step in model[1:-1]:
        scaled = step.transform(scaled)
    with torch.no_grad():
        expected = net.module_.double()(torch.tensor(scaled)).numpy()
    net.module_.float()
    found = run_grad(converter, rows, dtype="double").preds[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * max(1, np.abs(expected).max()))


def test_skorch_for_images():
    net = skorch.NeuralNet(
        nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2)), nn.MSELoss
    ).initialize()
    net.module_.eval()
    x = torch.randn(2, 2, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(Converter(net, input_dim=(2, 4, 4)).model(x)[0], net.module_(x))


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (PCA(2), "PCA"),
        (Normalizer(), "Normalizer"),
        (QuantileTransformer(n_quantiles=5), "QuantileTransformer"),
        (FunctionTransformer(np.tanh), "FunctionTransformer"),
    ],
    ids=str,
)
def test_other_steps_are_refused_by_name(step, name):
    model = fitted(Pipeline([("scale", "passthrough"), ("odd one", step), ("net", perceptron())]))
    with pytest.raises(
        ValueError, match=rf"The step 'odd one' \({name}\) cannot be converted.*StandardScaler.*run_shap"
    ):
        Converter(model)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (perceptron(), "MLPClassifier"),
        (perceptron("target"), "MLPRegressor"),
        (make_pipeline(StandardScaler(), perceptron()), "The step 'standardscaler' \\(StandardScaler\\)"),
        (make_pipeline(FunctionTransformer(), perceptron()), "MLPClassifier"),
        (TransformedTargetRegressor(perceptron("target")), "TransformedTargetRegressor"),
    ],
    ids=str,
)
def test_what_is_not_fitted_is_refused(model, name):
    with pytest.raises(ValueError, match=rf"^{name} is not fitted: call 'fit' first"):
        Converter(model)


def test_other_estimators_are_refused_by_name():
    with pytest.raises(TypeError, match=r"'model': expected MLPClassifier, .*got LogisticRegression.*run_shap"):
        Converter(fitted(make_pipeline(StandardScaler(), LogisticRegression())))
    with pytest.raises(TypeError, match="got 'passthrough'"):
        Converter(make_pipeline(StandardScaler(), "passthrough").fit(X))
    for search in (GridSearchCV(perceptron(), {}), fitted(GridSearchCV(perceptron(), {}, cv=2, refit=False))):
        with pytest.raises(ValueError, match="GridSearchCV has no 'best_estimator_'"):
            Converter(search)
    with pytest.raises(ValueError, match="NeuralNet is not initialized"):
        Converter(skorch.NeuralNet(nn.Linear, nn.MSELoss))


def test_other_targets_are_refused_by_name():
    def target(**options):
        return fitted(
            TransformedTargetRegressor(perceptron("target"), **options),
            StandardScaler().fit_transform(X),
            SCORES[:, 0] ** 2,
        )

    with pytest.raises(ValueError, match=r"'inverse_func'.*expected one of np.exp, np.expm1, got 'square'"):
        Converter(target(func=np.sqrt, inverse_func=np.square))
    with pytest.raises(ValueError, match=r"The transformer .*\(QuantileTransformer\) cannot be converted"):
        Converter(target(transformer=QuantileTransformer(n_quantiles=5)))
    net = skorch.NeuralNetRegressor(module(1), max_epochs=1, verbose=0, train_split=None)
    around = TransformedTargetRegressor(net, transformer=StandardScaler(), check_inverse=False)
    around.fit(X.astype(np.float32), SCORES[:, :1].astype(np.float32))
    with pytest.raises(ValueError, match="around a skorch net cannot be converted: convert its"):
        Converter(around)


def test_a_step_that_does_more_than_its_class_is_found_out():
    class Odd(StandardScaler):
        def transform(self, X, copy=None):  # noqa: N803
            return super().transform(X) ** 2

    model = fitted(make_pipeline(Odd(), perceptron()))
    with pytest.raises(ValueError, match="is not the original's"):
        Converter(model)


def test_the_package_does_not_import_frameworks():
    names = ("sklearn", "skorch", "rdata", "safetensors", "keras")
    code = f"import sys, innsight_py; print([m for m in {names} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "[]"
