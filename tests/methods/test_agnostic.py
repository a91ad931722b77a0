"""LIME and SHAP for any predictor: known answers, models of every kind, names, seeds, errors."""

from __future__ import annotations

import itertools
import math
import pickle
import subprocess
import sys
import types

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import innsight_py.methods.agnostic.predictor
from innsight_py import LIME, SHAP, AgnosticWrapper, Converter, InterpretingMethod, run_lime, run_shap

METHODS = [LIME, SHAP]
WEIGHTS = np.array([[1.0, -2.0, 0.5, 0.0], [0.0, 3.0, 1.0, -1.0]])  # (nodes, features)


def linear(rows):
    return np.asarray(rows) @ WEIGHTS.T + 1


def rng(seed=0):
    return np.random.default_rng(seed)


def fast(method):
    return {"n_permutations": 60} if method is LIME else {}


# -- known answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nsim", [1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_shap_of_a_linear_model(nsim, seed):
    """``w_i (x_i - mean of the background)``. Orders do not matter for it: only single precision does."""
    x, background = rng(1).normal(size=(5, 4)), rng(2).normal(size=(40, 4))
    found = SHAP(linear, x, background, nsim=nsim, seed=seed).get_result()
    expected = (x - background.mean(0))[:, :, None] * WEIGHTS.T
    assert np.allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def lime_of_linear(x, background):
    """How much the mean of a linear model changes when a feature comes into the bin of x, bins drawn evenly within."""
    answer = np.zeros((len(x), x.shape[1]))
    for j in range(x.shape[1]):
        cuts = np.quantile(background[:, j], [0, 0.25, 0.5, 0.75, 1])
        middles = (cuts[1:] + cuts[:-1]) / 2
        share = np.histogram(background[:, j], cuts)[0] / len(background)
        for b in range(len(x)):
            own = np.searchsorted(cuts[1:-1], x[b, j])
            others = np.arange(4) != own
            answer[b, j] = middles[own] - np.average(middles[others], weights=share[others])
    return answer[:, :, None] * WEIGHTS.T


def test_lime_of_a_linear_model_by_euclidean_distances():
    """Agree within the Monte-Carlo error.

    The mean of 40 runs differs from the known answer by less than 5 standard errors and the shrinkage of the ridge
    regression, at most ``1 / (1 + n w v)`` of it, where w >= exp(-1 / (2 0.75^2)) is the weight of a row and
    v = 3 / 16 the variance of a bin.
    """
    x, background = rng(1).normal(size=(3, 4)), rng(2).normal(size=(400, 4))
    n, runs = 2000, 40
    found = np.stack([LIME(linear, x, background, n_permutations=n, dist_fun="euclidean", seed=i).get_result()
                      for i in range(runs)])  # fmt: skip
    expected = lime_of_linear(x, background)
    shrinkage = np.abs(expected) / (1 + n * math.exp(-1 / (2 * 0.75**2)) * 3 / 16)
    error = found.std(0, ddof=1) / runs**0.5
    assert (np.abs(found.mean(0) - expected) < 5 * error + shrinkage).all()
    assert error.max() < 0.02 * np.abs(expected).max()  # so the bound says something


def test_lime_of_a_linear_model():
    """Agree within the Monte-Carlo errors of both sides with a regression on a million rows drawn here."""
    x, background = rng(1).normal(size=(2, 4)), rng(2).normal(size=(400, 4))
    n, runs, many = 2000, 40, 1_000_000
    found = np.stack([LIME(linear, x, background, n_permutations=n, gower_pow=1.5, seed=i).get_result()
                      for i in range(runs)])  # fmt: skip
    cuts = np.quantile(background, [0, 0.25, 0.5, 0.75, 1], axis=0)
    bins = rng(3).integers(0, 4, (many, 4))
    low, high = np.take_along_axis(cuts[:-1], bins, 0), np.take_along_axis(cuts[1:], bins, 0)
    rows = low + (high - low) * rng(4).random((many, 4))
    for b in range(2):
        own = np.array([np.searchsorted(cuts[1:-1, j], x[b, j]) for j in range(4)])
        ranges = np.maximum(cuts[-1], x[b]) - np.minimum(cuts[0], x[b])
        weights = 1 - (np.abs(rows - x[b]) / ranges).mean(1) ** 1.5
        design = np.column_stack([bins == own, np.ones(many)]) * np.sqrt(weights)[:, None]
        expected = np.linalg.lstsq(design, linear(rows) * np.sqrt(weights)[:, None], rcond=None)[0][:4]
        error = found[:, b].std(0, ddof=1) / runs**0.5
        ours = found[:, b].std(0, ddof=1) * (n / many) ** 0.5
        shrinkage = np.abs(expected) / (1 + n * weights.mean() * 3 / 16)
        assert (np.abs(found[:, b].mean(0) - expected) < 5 * (error + ours) + shrinkage).all()
        assert error.max() < 0.03 * np.abs(expected).max()  # so the bound says something


class Net(nn.Module):
    def __init__(self, features=4):
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(
            nn.Linear(features, 6), nn.Tanh(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3), nn.Softmax(-1)
        )

    def forward(self, x):
        return self.layers(x)


def coalition(model, x, background):
    """Value of every coalition: the mean prediction with the other features from the background."""
    values = {}
    for bits in itertools.product([False, True], repeat=len(x)):
        rows = np.where(bits, x, background)
        with torch.no_grad():
            values[bits] = model(torch.tensor(rows, dtype=torch.float32)).double().numpy().mean(0)
    return values


def marginal(values, order):
    """Tell what each feature adds when the features come in an order."""
    added, bits = {}, [False] * len(order)
    for i in order:
        before = values[tuple(bits)]
        bits[i] = True
        added[i] = values[tuple(bits)] - before
    return np.stack([added[i] for i in range(len(order))])


def test_shap_of_a_small_net_is_exact():
    """Agree with the Shapley values by enumeration of all coalitions, against the same background.

    Within 5 standard errors; the error of one order, gone through forward and backward, is known by enumeration of all
    orders.
    """
    model, x, background = Net(), rng(1).normal(size=(3, 4)) * 2, rng(2).normal(size=(7, 4)) * 2
    nsim = 400
    found = SHAP(model, x, background, nsim=nsim, seed=1).get_result()
    for b in range(3):
        values = coalition(model, x[b], background)
        orders = [(marginal(values, o) + marginal(values, o[::-1])) / 2 for o in itertools.permutations(range(4))]
        exact, spread = np.mean(orders, 0), np.std(orders, 0)
        by_formula = np.zeros((4, 3))
        for i, (bits, value) in itertools.product(range(4), values.items()):
            if not bits[i]:
                size = sum(bits)
                weight = math.factorial(size) * math.factorial(3 - size) / math.factorial(4)
                by_formula[i] += weight * (values[(*bits[:i], True, *bits[i + 1 :])] - value)
        assert np.allclose(exact, by_formula)
        assert spread.max() > 1e-4  # there are interactions of more than two features
        assert (np.abs(found[b] - exact) < 5 * spread / nsim**0.5 + 1e-6).all()


def test_shap_of_two_features_is_exact_at_once():
    model, x, background = Net(2), rng(1).normal(size=(4, 2)) * 2, rng(2).normal(size=(9, 2))
    found = SHAP(model, x, background, seed=1).get_result()
    for b in range(4):
        values = coalition(model, x[b], background)
        exact = (marginal(values, (0, 1)) + marginal(values, (1, 0))) / 2
        assert np.allclose(found[b], exact, rtol=0, atol=1e-6)


def test_shap_sums_to_its_goal():
    model, x = Net(), rng(1).normal(size=(6, 4))
    found = SHAP(model, x, rng(2).normal(size=(20, 4)), seed=1)
    assert torch.allclose(found.result[0][0].sum(1), found.decomp_goal[0], atol=1e-6)
    frame = found.get_result("data.frame")
    assert np.allclose(frame["decomp_sum"], frame["decomp_goal"], atol=1e-6)
    assert LIME(model, x, n_permutations=20).decomp_goal is None


@pytest.mark.parametrize("dist_fun", ["gower", "euclidean"])
def test_lime_fits_what_it_drew(dist_fun):
    """The same weights from the rows that the model was asked for, by a ridge regression written out."""
    asked = []

    def model(rows):
        asked.append(rows)
        return np.column_stack([np.sin(rows).sum(1), rows[:, 0] * rows[:, 1]])

    x, background = rng(1).normal(size=(1, 3)), rng(2).gamma(1.0, size=(50, 3))
    options = {"dist_fun": dist_fun, "kernel_width": 0.9, "gower_pow": 2}
    found = LIME(model, x, background, n_permutations=500, seed=1, **options).get_result()[0]
    rows = np.concatenate(asked[1:])
    assert rows.shape == (500, 3)
    assert np.array_equal(rows[0], x[0])
    cuts = np.quantile(background, [0.25, 0.5, 0.75], axis=0)
    bins, own = [np.stack([np.searchsorted(cuts[:, j], z[:, j]) for j in range(3)], 1) for z in (rows, x)]
    design = (bins == own).astype(float)
    weights = np.exp(-(1 - design).sum(1) / (2 * 0.9**2))
    if dist_fun == "gower":
        weights = 1 - (np.abs(rows - x) / (rows.max(0) - rows.min(0))).mean(1) ** 2
    target = np.column_stack([np.sin(rows).sum(1), rows[:, 0] * rows[:, 1]])
    centred, goal = design - np.average(design, 0, weights), target - np.average(target, 0, weights)
    solution = np.linalg.solve(
        centred.T @ (weights[:, None] * centred) + np.eye(3), centred.T @ (weights[:, None] * goal)
    )
    assert np.allclose(found, solution, rtol=0, atol=1e-5)
    assert (rows[1:] >= background.min(0)).all()
    assert (rows[1:] <= background.max(0)).all()
    shares = np.stack([np.bincount(bins[1:, j], minlength=4) for j in range(3)]) / 499
    assert np.abs(shares - 0.25).max() < 5 * (0.25 * 0.75 / 499) ** 0.5 + 0.01


def test_features_without_variation():
    """They get 0 and keep their value; the weights of the others stay where they belong (R: Q35)."""
    asked = []

    def model(rows):
        asked.append(np.array(rows))
        return linear(rows)

    x, background = rng(1).normal(size=(2, 4)), rng(2).normal(size=(60, 4))
    x[:, 1] = background[:, 1] = 5.0
    for method in METHODS:
        asked.clear()
        found = method(model, x, background, seed=1, **fast(method)).get_result()
        assert (np.concatenate(asked)[:, 1] == 5).all()
        assert (found[:, 1] == 0).all()
        assert (found[:, 0, 0] != 0).all()


def test_small_units_are_not_equal():
    x, background = rng(1).normal(size=(3, 4)) * 1e-10, rng(2).normal(size=(5, 4)) * 1e-10
    found = SHAP(lambda rows: linear(rows * 1e10), x, background).get_result()
    assert np.allclose(found, (x - background.mean(0))[:, :, None] * 1e10 * WEIGHTS.T, atol=1e-5)


def test_missing_values():
    from sklearn.ensemble import HistGradientBoostingRegressor

    data = rng(1).normal(size=(80, 3))
    model = HistGradientBoostingRegressor(max_iter=5).fit(data, data[:, 0])
    data[0, 0] = np.nan
    found = SHAP(model, data[:2], data[2:30])
    assert torch.allclose(found.result[0][0].sum(1), found.decomp_goal[0], atol=1e-6)
    with pytest.raises(ValueError, match=r"'data'.*NaN"):
        LIME(model, data[:2], data[2:30])
    with pytest.raises(ValueError, match=r"'data_ref'.*NaN"):
        LIME(model, data[1:2], data)


# -- models of every kind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_however_the_model_comes(method):
    x, background = rng(1).normal(size=(3, 4)), rng(2).normal(size=(30, 4))
    net = Net()
    spec = {
        "input_dim": [4],
        "layers": [
            {"type": "Dense", "weight": part.weight.detach(), "bias": part.bias.detach(), "activation_name": name}
            for part, name in zip(net.layers[::2], ("tanh", "relu", "softmax"), strict=True)
        ],
    }

    class Wrapped:
        def pred_fun(self, newdata):
            return net(torch.tensor(newdata, dtype=torch.float32))

    models = [net, net.train(), Converter(net, input_dim=4), spec, Wrapped(), Wrapped().pred_fun]
    answers = [method(model, x, background, seed=1, **fast(method)) for model in models]
    for model in (None, object(), net):
        answers.append(method(model, x, background, pred_fun=Wrapped().pred_fun, seed=1, **fast(method)))
    for answer in answers:
        assert isinstance(answer, InterpretingMethod)
        assert isinstance(answer, AgnosticWrapper)
        assert answer.get_result().shape == (3, 4, 3)
        assert np.allclose(answer.get_result(), answers[0].get_result(), atol=1e-5)
        assert torch.allclose(answer.preds[0], net(torch.tensor(x, dtype=torch.float32)).detach(), atol=1e-6)
    types_found = [answer.converter.output_type for answer in answers]
    assert types_found == ["classification"] * 4 + ["regression"] * 4 + ["classification"]
    assert net.training
    assert answers[0].ignore_last_act is False


SIGNAL = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
IMAGE = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(18, 2), nn.Sigmoid())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("model", "dims"), [(SIGNAL, (2, 6)), (IMAGE, (2, 3, 4))], ids=["signal", "image"])
def test_signals_and_images(method, model, dims):
    x, background = rng(1).normal(size=(3, *dims)), rng(2).normal(size=(12, *dims))
    converter = Converter(model, input_dim=dims)

    def last(z):
        return np.moveaxis(z, 1, -1)

    def by_hand(rows):
        assert rows.shape[1:] == (*dims[1:], dims[0])
        return model(torch.tensor(np.moveaxis(rows, -1, 1), dtype=torch.float32))

    options = {"seed": 1, **fast(method)}
    first = method(model, x, background, **options)
    assert first.get_result().shape == (3, *dims, 2)
    assert [len(axis) for axis in first.converter.input_names[0]] == list(dims)
    assert np.allclose(method(converter, x, background, **options).get_result(), first.get_result(), atol=1e-6)
    lasts = [
        method(model, last(x), last(background), channels_first=False, **options),
        method(converter, last(x), last(background), channels_first=False, **options),
        method(None, last(x), last(background), channels_first=False, pred_fun=by_hand, **options),
    ]
    for found in lasts:
        assert found.get_result().shape == (3, *dims[1:], dims[0], 2)
        assert found.converter.input_dim == [dims]
        assert torch.allclose(found.preds[0], first.preds[0], atol=1e-6)
        assert np.allclose(found.get_result(), lasts[0].get_result(), atol=1e-5)
    if method is SHAP:
        exact = [SHAP(model, x, background, nsim=60, seed=1), SHAP(model, last(x), last(background), nsim=60, seed=2,
                 channels_first=False)]  # fmt: skip
        one, other = exact[0].get_result(), np.moveaxis(exact[1].get_result(), -2, 1)
        assert np.abs(one - other).max() < 0.1 * np.abs(one).max()
    frames = [found.get_result("data.frame") for found in (first, lasts[0])]
    assert list(frames[0]["feature"]) == list(frames[1]["feature"])
    assert list(frames[0]["channel"]) == list(frames[1]["channel"])
    with pytest.raises(ValueError, match="channels_first=False"):
        method(converter, last(x), **options)


@pytest.fixture(scope="module")
def penguins():
    generator = rng(5)
    frame = pd.DataFrame(generator.normal(size=(120, 3)), columns=["bill", "flipper", "mass"])
    species = np.array(["Adelie", "Chinstrap", "Gentoo"])[(frame.to_numpy() @ [1, 2, -1] > 0).astype(int)
                                                          + (frame["mass"] > 0.5).to_numpy()]  # fmt: skip
    return frame, species


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("as_frame", [True, False])
def test_scikit_learn(method, as_frame, penguins):
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    frame, species = penguins
    x = frame if as_frame else frame.to_numpy()
    labels = ["Adelie", "Chinstrap", "Gentoo"]
    names = list(frame.columns) if as_frame else ["X1", "X2", "X3"]
    classifiers = [
        RandomForestClassifier(5, random_state=1),
        make_pipeline(StandardScaler(), MLPClassifier((5,), max_iter=20, tol=1, random_state=1)),
        SVC(random_state=1),
    ]
    for model in classifiers:
        model.fit(x, species)
        found = method(model, x[:2], x[:20], seed=1, **fast(method))
        assert found.get_result().shape == (2, 3, 3)
        assert found.converter.output_type == "classification"
        assert found.converter.output_names == [[labels]]
        assert found.converter.input_names == [[names]]
        scores = model.decision_function if isinstance(model, SVC) else model.predict_proba
        assert np.allclose(found.preds[0], scores(x[:2]), atol=1e-6)
    model = RandomForestRegressor(5, random_state=1).fit(x, frame["bill"])
    found = method(model, x[:2], x[:20], output_names=["bill?"], seed=1, **fast(method))
    assert found.get_result().shape == (2, 3, 1)
    assert found.converter.output_type == "regression"
    assert found.converter.output_names == [[["bill?"]]]


def test_scikit_learn_fitted_on_another_kind_of_data(penguins):
    from sklearn.linear_model import LinearRegression

    frame, _ = penguins
    on_frame = LinearRegression().fit(frame, frame["bill"] * 2)
    on_array = LinearRegression().fit(frame.to_numpy(), frame["bill"] * 2)
    for model, x in ((on_frame, frame.to_numpy()), (on_array, frame)):
        found = SHAP(model, x[:3], x[:30])
        assert found.converter.input_names == [[["bill", "flipper", "mass"]]]
        assert np.allclose(found.get_result()[:, 1:], 0, atol=1e-5)
    shuffled = SHAP(on_frame, frame[["flipper", "bill", "mass"]][:3], frame[:30])  # columns are matched by name
    assert shuffled.converter.input_names == [[["bill", "flipper", "mass"]]]
    assert np.allclose(shuffled.get_result()[:, 1:], 0, atol=1e-5)


def test_classes_without_scores(penguins):
    from sklearn.svm import SVC

    class Bare:
        classes_ = np.array([0, 1])

        def predict(self, rows):
            return rows

    with pytest.raises(TypeError, match=r"without probabilities or scores.*pred_fun"):
        SHAP(Bare(), [[1.0]])
    frame, species = penguins
    model = SVC().fit(frame, species)
    with pytest.raises(ValueError, match="must predict numbers"):
        SHAP(model, frame[:2], pred_fun=model.predict)


def fake_keras(own, formats, activation, seen):
    """Make a model that looks like one of Keras."""
    Model = type("Model", (), {"__module__": "keras.src.models.model"})  # noqa: N806

    class Functional(Model):
        inputs = (types.SimpleNamespace(shape=(None, *own), dtype="float32"),)
        outputs = (types.SimpleNamespace(shape=(None, 2)),)
        layers = (
            *(types.SimpleNamespace(data_format=f) for f in formats),
            types.SimpleNamespace(activation=types.SimpleNamespace(__name__=activation)),
        )

        def predict(self, rows, batch_size, verbose):
            seen.append(rows)
            flat = rows.reshape(len(rows), -1)
            return np.column_stack([flat[:, 0], flat.sum(1)])

    return Functional()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize("model_first", [True, False])
def test_keras_layouts(method, channels_first, model_first):
    """The data come in the user's layout and reach the model in its own (R scrambles them)."""
    seen = []
    own = (2, 4, 5) if model_first else (4, 5, 2)
    model = fake_keras(own, ["channels_first" if model_first else "channels_last"], "softmax", seen)
    x = rng(1).normal(size=(3, 2, 4, 5))
    given = x if channels_first else np.moveaxis(x, 1, -1)
    found = method(model, given, channels_first=channels_first, seed=1, **fast(method))
    assert found.converter.input_dim == [(2, 4, 5)]
    assert found.converter.output_type == "classification"
    assert found.get_result().shape == (*given.shape, 2)
    assert np.allclose(seen[0], x if model_first else np.moveaxis(x, 1, -1), atol=1e-6)
    assert seen[0].dtype == np.float32


def test_keras_without_channels():
    seen = []
    found = SHAP(fake_keras((4,), [], "linear", seen), rng(1).normal(size=(3, 4)))
    assert (found.converter.output_type, found.converter.input_dim) == ("regression", [(4,)])
    model = fake_keras((4,), [], "linear", seen)
    with pytest.raises(ValueError, match="expected the shape"):
        SHAP(model, rng(1).normal(size=(3, 5)))
    type(model).outputs = type(model).outputs * 2
    with pytest.raises(ValueError, match="one input and one output"):
        SHAP(model, rng(1).normal(size=(3, 4)))


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # Keras on torch reads its own tensors so
def test_keras_itself():
    keras = pytest.importorskip("keras")
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((4, 5, 2)), layers.Conv2D(3, 2, activation="relu", data_format="channels_last"),
         layers.Flatten(), layers.Dense(3, "softmax")]
    )  # fmt: skip
    x = rng(1).normal(size=(3, 4, 5, 2)).astype(np.float32)
    found = SHAP(model, x, channels_first=False)
    assert np.allclose(found.preds[0], model.predict(x, verbose=0), atol=1e-6)
    assert found.converter.output_type == "classification"
    first = SHAP(model, np.moveaxis(x, -1, 1), channels_first=True)
    assert torch.allclose(first.preds[0], found.preds[0], atol=1e-6)
    assert torch.allclose(SHAP(model, x).preds[0], found.preds[0])  # as the model has them

    model = keras.Sequential(  # Flatten and Dense do not care where the channels are: convolutions say it
        [layers.Input((2, 4, 5)), layers.Conv2D(3, 2, data_format="channels_first"), layers.Flatten(), layers.Dense(3)]
    )
    found = SHAP(model, np.moveaxis(x, -1, 1))
    assert found.converter.input_dim == [(2, 4, 5)]
    assert np.allclose(found.preds[0], model.predict(np.moveaxis(x, -1, 1), verbose=0), atol=1e-5)
    assert found.channels_first


def test_skorch():
    skorch = pytest.importorskip("skorch")
    net = skorch.NeuralNetClassifier(Net, module__features=4, max_epochs=1, verbose=0, iterator_train__shuffle=False)
    x, y = rng(1).normal(size=(20, 4)).astype(np.float32), rng(1).integers(0, 3, 20)
    net.fit(x, y)
    found = SHAP(net, x[:3], x)
    assert np.allclose(found.preds[0], net.predict_proba(x[:3]), atol=1e-6)
    assert found.converter.output_type == "classification"


def test_several_inputs_or_outputs():
    two = Converter({"input_dim": [[2], [3]], "layers": [
        {"type": "Concatenate", "axis": 1, "inputs": ["input_1", "input_2"]},
        {"type": "Dense", "weight": np.ones((1, 5))}]})  # fmt: skip
    with pytest.raises(ValueError, match="one input and one output"):
        SHAP(two, [np.ones((3, 2)), np.ones((3, 3))])
    with pytest.raises(ValueError, match="several inputs"):
        SHAP(linear, [np.ones((3, 2)), np.ones((3, 3))])
    with pytest.raises(ValueError, match=r"one array.*several output layers"):
        SHAP(None, np.ones((3, 4)), pred_fun=lambda rows: [linear(rows), linear(rows)])
    assert SHAP(None, np.ones((3, 4)), pred_fun=lambda rows: [linear(rows)]).get_result().shape == (3, 4, 2)


# -- outputs, names, results --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("choice", [{"output_idx": [2, 0]}, {"output_label": ["c", "a"]}], ids=["idx", "label"])
def test_some_outputs(method, choice):
    """Predictions and frames are those of the chosen outputs (R: Q34)."""
    model, x = Net(), rng(1).normal(size=(3, 4))
    options = {"seed": 1, "output_names": ["a", "b", "c"], **fast(method)}
    found, whole = method(model, x, **choice, **options), method(model, x, **options)
    assert np.allclose(found.get_result(), whole.get_result()[..., [2, 0]], atol=1e-6)
    assert (found.output_idx, found.output_label) == ([[2, 0]], [["c", "a"]])
    assert torch.equal(found.preds[0], whole.preds[0][:, [2, 0]])
    frame = found.get_result("data.frame")
    assert len(frame) == 3 * 4 * 2
    assert list(frame["output_node"].cat.categories) == ["a", "b", "c"]
    for _, row in frame.iterrows():
        b, k = int(row["data"][5:]) - 1, "abc".index(row["output_node"])
        assert row["pred"] == pytest.approx(float(whole.preds[0][b, k]))
    assert found.get_result("torch_tensor").shape == (3, 4, 2)


@pytest.mark.parametrize("method", METHODS)
def test_only_ten_outputs_by_default(method):
    found = method(lambda rows: rows @ np.ones((2, 12)), np.eye(2), **fast(method))
    assert found.get_result().shape == (2, 2, 10)


@pytest.mark.parametrize("method", METHODS)
def test_names(method):
    frame = pd.DataFrame(rng(1).normal(size=(5, 4)), columns=["a", "b", 3, "d"])

    def model(newdata):
        assert list(newdata.columns) == ["a", "b", 3, "d"]
        return pd.DataFrame(linear(newdata), columns=["yes", "no"])

    options = fast(method)
    found = method(model, frame, **options)
    assert found.converter.input_names == [[["a", "b", "3", "d"]]]
    assert found.converter.output_names == [[["yes", "no"]]]
    found = method(model, frame, input_names=list("wxyz"), output_names=["y", "n"], **options)
    assert found.converter.input_names == [[list("wxyz")]]
    assert found.output_label == [["y", "n"]]
    converter = Converter({"input_dim": [4], "layers": [{"type": "Dense", "weight": WEIGHTS}]},
                          input_names=list("efgh"), output_names=["p", "q"])  # fmt: skip
    found = method(converter, frame.to_numpy(), **options)
    assert found.converter.input_names == [[list("efgh")]]
    assert found.output_label == [["p", "q"]]
    other = method(converter, frame.to_numpy(), pred_fun=lambda rows: linear(rows)[:, :1], **options)
    assert other.output_label == [["Y1"]]


@pytest.mark.parametrize("kind", [np.array, torch.tensor, list, pd.DataFrame])
def test_kinds_of_data(kind):
    rows = rng(1).normal(size=(4, 4)).tolist()
    found = SHAP(linear, kind(rows), kind(rows), seed=1)
    assert np.allclose(found.get_result(), SHAP(linear, np.array(rows), seed=1).get_result(), atol=1e-6)
    assert found.data[0].shape == (4, 4)
    assert found.data_ref[0].shape == (4, 4)


@pytest.mark.parametrize("method", METHODS)
def test_object(method):
    found = method(Net(), rng(1).normal(size=(3, 4)), seed=1, **fast(method))
    text = repr(found)
    assert f"Method {method.__name__}" in text
    assert "output_type: 'classification'" in text
    assert "ignore_last_act: False" in text
    assert "<table>" in found._repr_html_()
    again = pickle.loads(pickle.dumps(found))  # noqa: S301
    assert np.array_equal(again.get_result(), found.get_result())
    assert found.plot([0, 1], output_idx=[0, 2]) is not None
    assert found.plot_global(output_idx=1) is not None
    assert found.boxplot(output_idx=1) is not None
    assert len(found.summary(2)) == 6
    run = {LIME: run_lime, SHAP: run_shap}[method]
    assert np.array_equal(run(Net(), found.data_orig, seed=1, **fast(method)).get_result(), found.get_result())


# -- seeds and pieces ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_seed(method):
    model, x, background = Net(), rng(1).normal(size=(4, 4)), rng(2).normal(size=(150, 4))
    options = fast(method)
    state, state_numpy = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    one, other = (method(model, x, background, seed=3, **options).result[0][0] for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)
    after = np.random.get_state()  # noqa: NPY002
    assert np.array_equal(after[1], state_numpy[1])
    assert after[2:] == state_numpy[2:]
    assert not torch.equal(method(model, x, background, seed=4, **options).result[0][0], one)
    torch.manual_seed(1)
    drawn = method(model, x, background, **options).result[0][0]
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(1)
    assert torch.equal(method(model, x, background, **options).result[0][0], drawn)
    some = method(model, x[:2], background, seed=3, **options).result[0][0]
    assert torch.allclose(some, one[:2], atol=1e-7)


def test_state_of_numpy_after_an_error():
    calls = []

    def model(rows):
        calls.append(1)
        if len(calls) > 2:
            raise RuntimeError("no more")
        return linear(rows)

    before = np.random.get_state()  # noqa: NPY002
    with pytest.raises(ValueError, match="RuntimeError: no more"):
        SHAP(model, rng(1).normal(size=(3, 4)), batch_size=3)
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


@pytest.mark.parametrize("method", METHODS)
def test_pieces_do_not_matter(method, monkeypatch):
    model, x = Net(), rng(1).normal(size=(3, 4))
    options = {"seed": 1, **fast(method)}
    whole = method(model, x, **options).result[0][0]
    sizes = []

    def watched(rows):
        sizes.append(len(rows))
        return model(torch.tensor(rows, dtype=torch.float32))

    cut = method(None, x, pred_fun=watched, batch_size=7, **options).result[0][0]
    assert torch.allclose(cut, whole, atol=1e-6)
    assert max(sizes) == 7
    monkeypatch.setattr(innsight_py.methods.agnostic.predictor, "PREDICT_BYTES", 1)
    monkeypatch.setattr("innsight_py.methods.agnostic.shap.MASKED_BYTES", 1)
    assert torch.allclose(method(model, x, **options).result[0][0], whole, atol=1e-6)


def test_limit_ref():
    x, background = rng(1).normal(size=(2, 4)), rng(2).normal(size=(150, 4))
    found = SHAP(linear, x, background, seed=1)
    assert found.data_ref[0].shape == (100, 4)
    drawn = found.data_ref[0].numpy()
    assert len(np.unique(drawn, axis=0)) == 100
    assert np.allclose(found.get_result(), (x - drawn.mean(0))[:, :, None] * WEIGHTS.T, atol=1e-5)
    assert "100 of 150 rows" in repr(found)
    assert SHAP(linear, x, background, limit_ref=200).data_ref[0].shape == (150, 4)
    assert LIME(linear, x, background, n_permutations=20).data_ref[0].shape == (150, 4)


# -- wrong calls --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"model": None}, TypeError, r"'model'.*pred_fun"),
        ({"model": 3}, TypeError, r"'model'.*pred_fun"),
        ({"data": [1.0, 2.0]}, ValueError, "'data'"),
        ({"data": [["a", "b", "c", "d"]]}, TypeError, r"'data'.*numbers"),
        ({"data": np.ones((0, 4))}, ValueError, r"'data'.*row"),
        ({"data_ref": np.ones((3, 5))}, ValueError, "'data_ref'"),
        ({"pred_fun": 3}, TypeError, "'pred_fun'"),
        ({"pred_fun": lambda: 1}, ValueError, r"could not predict.*positional argument"),
        ({"pred_fun": lambda rows: rows[0, 0]}, ValueError, r"\(B, nodes\)"),
        ({"pred_fun": lambda rows: rows[:2]}, ValueError, r"\(B, nodes\)"),
        ({"pred_fun": lambda rows: np.array(["a"] * len(rows))}, ValueError, "must predict numbers"),
        ({"pred_fun": lambda rows: np.log(-np.abs(rows[:, 0]) * 0)}, ValueError, "not finite"),
        ({"output_idx": 2}, ValueError, "'output_idx'"),
        ({"output_idx": [[0], [1]]}, ValueError, "'output_idx'"),
        ({"output_label": "Y9"}, ValueError, "'output_label'"),
        ({"input_dim": 5}, ValueError, r"\(\*, 5\)"),
        ({"input_dim": [[2], [2]]}, ValueError, "'input_dim'"),
        ({"input_names": ["a"]}, ValueError, "'input_names'"),
        ({"output_names": ["a", "b", "c"]}, ValueError, "'output_names'"),
        ({"channels_first": 1}, TypeError, "'channels_first'"),
        ({"seed": -1}, ValueError, "'seed'"),
        ({"batch_size": 0}, ValueError, "'batch_size'"),
        ({"n_perm": 10}, TypeError, "n_perm"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_wrong_arguments(method, changes, error, match):
    arguments = {"model": linear, "data": rng(1).normal(size=(3, 4)), **changes}
    with pytest.raises(error, match=match):
        method(arguments.pop("model"), arguments.pop("data"), **arguments)


@pytest.mark.parametrize(
    ("method", "changes", "match"),
    [
        (LIME, {"output_type": "ranking"}, "'output_type'"),
        (LIME, {"n_permutations": 1}, "'n_permutations'"),
        (LIME, {"kernel_width": 0}, "'kernel_width'"),
        (LIME, {"gower_pow": -1}, "'gower_pow'"),
        (LIME, {"dist_fun": "cosine"}, "'dist_fun'"),
        (SHAP, {"output_type": "regression"}, "output_type"),
        (SHAP, {"nsim": 0}, "'nsim'"),
        (SHAP, {"limit_ref": 0}, "'limit_ref'"),
    ],
)
def test_wrong_arguments_of_one(method, changes, match):
    with pytest.raises((TypeError, ValueError), match=match):
        method(linear, rng(1).normal(size=(3, 4)), **changes)


@pytest.mark.parametrize("method", METHODS)
def test_missing_arguments(method):
    with pytest.raises(TypeError, match="'data'"):
        method(linear)
    with pytest.raises(TypeError, match="'model'"):
        method(data=np.ones((2, 4)))


def test_frames_whose_columns_differ():
    frame = pd.DataFrame(rng(1).normal(size=(4, 2)), columns=["a", "b"])
    found, shuffled = (SHAP(lambda rows: rows["a"], frame, ref, seed=1) for ref in (frame, frame[["b", "a"]]))
    np.testing.assert_array_equal(found.get_result(), shuffled.get_result())
    with pytest.raises(ValueError, match=r"'data_ref'.*no column 'b'"):
        SHAP(lambda rows: rows["a"], frame, frame.rename(columns={"b": "c"}))


def test_a_model_that_changes_its_mind():
    answers = itertools.cycle([np.ones((3, 2)), np.ones((3, 1))])
    with pytest.raises(ValueError, match="values a row at first"):
        SHAP(lambda rows: next(answers)[: len(rows)], rng(1).normal(size=(3, 4)), batch_size=3)


def test_output_type():
    x = np.ones((2, 4))
    assert LIME(linear, x, output_type="classification", n_permutations=20).converter.output_type == "classification"
    tanh = Converter({"input_dim": [4], "layers": [{"type": "Dense", "weight": WEIGHTS, "activation_name": "tanh"}]})
    assert AgnosticWrapper(tanh, x).converter.output_type == "regression"  # R calls it classification (Q72)


@pytest.mark.parametrize(("method", "package"), [(LIME, "lime"), (SHAP, "shap")])
def test_missing_package(method, package, monkeypatch):
    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r'pip install "innsight_py\[agnostic\]"'):
        method(linear, np.ones((2, 4)))


def test_import_stays_light():
    heavy = ("shap", "lime", "sklearn", "numba", "keras", "scipy")
    code = f"import sys, innsight_py; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"  # noqa: S603


@pytest.mark.parametrize(("method", "match"), [(LIME, "'n_permutations'.*do not fit"), (SHAP, "coalitions.*DeepSHAP")])
def test_too_many_features(method, match):
    with pytest.raises(ValueError, match=match):
        method(lambda rows: rows.sum((1, 2, 3)), np.zeros((2, 3, 224, 224)))
