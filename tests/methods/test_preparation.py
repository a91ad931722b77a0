"""Models that begin with a scaler are explained as on scaled data, by the user's columns."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

import innsight_py as ip
from innsight_py import Converter, SpecError
from innsight_py.methods.registry import RUNNERS

palmerpenguins = pytest.importorskip("palmerpenguins")
keras = pytest.importorskip("keras")

FEATURES = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
TABLE = palmerpenguins.load_penguins()[[*FEATURES, "species"]].dropna().iloc[::4].reset_index(drop=True)
X, SPECIES = TABLE[FEATURES], TABLE["species"]
SETTINGS = {
    "lrp": {}, "deeplift": {}, "deepshap": {}, "intgrad": {"n": 7}, "expgrad": {"seed": 1},
    "grad": {"times_input": True}, "smoothgrad": {"times_input": True, "seed": 1, "n": 5}, "cw": {"times_input": True},
}  # fmt: skip
SCALERS = {
    "standard": StandardScaler(), "min-max": MinMaxScaler(), "robust": RobustScaler(), "largest": MaxAbsScaler(),
    "clipped": MinMaxScaler(feature_range=(-1, 1), clip=True),
}  # fmt: skip
quiet = pytest.mark.filterwarnings(
    "ignore:.*attributions do not add up:UserWarning", "ignore:.*compared with:UserWarning"
)


@pytest.fixture(scope="module")
def pipelines():
    found = {}
    for name, scaler in SCALERS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found[name] = make_pipeline(scaler, MLPClassifier((8,), max_iter=300, random_state=0)).fit(X, SPECIES)
    return found


@pytest.fixture(scope="module")
def with_normalization():
    """Make a Keras model that begins with Normalization, the same without, and what it makes of the data."""
    keras.utils.set_random_seed(0)
    scale = keras.layers.Normalization()
    scale.adapt(X.to_numpy(np.float32))
    rest = [keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential([keras.Input((4,)), scale, *rest])
    mean, variance = (np.asarray(w.cpu(), np.float64).ravel() for w in (scale.mean, scale.variance))
    return model, keras.Sequential([keras.Input((4,)), *rest]), (X.to_numpy() - mean) / np.sqrt(variance)


def same(name: str, whole: Converter, rest: Converter, raw, scaled) -> None:
    run, settings = RUNNERS[name], SETTINGS[name] | {"dtype": "double"}
    found, expected = run(whole, raw, **settings).get_result(), run(rest, scaled, **settings).get_result()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)
    clear = np.abs(expected) > 1e-4 * scale
    assert (np.sign(found) == np.sign(expected))[clear].all()


@quiet
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("scaler", SCALERS)
def test_a_pipeline_says_what_its_network_says_of_scaled_data(pipelines, scaler, name):
    pipe = pipelines[scaler]
    same(name, Converter(pipe), Converter(pipe[-1]), X, pipe[0].transform(X))


@quiet
@pytest.mark.parametrize("name", SETTINGS)
def test_normalization_is_passed_as_well(with_normalization, name):
    model, rest, scaled = with_normalization
    same(name, Converter(model), Converter(rest), X.to_numpy(), scaled)


@pytest.mark.parametrize("name", SETTINGS)
def test_each_input_has_its_own_preparation(name):
    """One input is scaled, the other is not: the first passes, the second is as it was."""
    rng = np.random.default_rng(4)
    factor, shift = np.array([0.5, 0.001, 2.0]), np.array([-20.0, -4.0, 0.0])
    dense = {"type": "Dense", "weight": rng.normal(size=(4, 5)), "activation_name": "tanh", "name": "dense"}
    last = {"type": "Dense", "weight": rng.normal(size=(2, 4)), "inputs": ["dense"], "name": "last"}
    scale = {"type": "Scale", "factor": factor, "shift": shift, "inputs": ["input_1"], "name": "scale"}
    both = {"type": "Concatenate", "axis": 1, "name": "both"}
    dense["inputs"] = ["both"]
    prepared = [scale | {"preprocessing": True}, both | {"inputs": ["scale", "input_2"]}, dense, last]
    whole = {"input_dim": [[3], [2]], "layers": prepared}
    rest = whole | {"layers": [both | {"inputs": ["input_1", "input_2"]}, dense, last]}
    scaled, other = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    raw = (scaled - shift) / factor
    settings = SETTINGS[name] | {"dtype": "double"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*attributions do not add up")
        found = RUNNERS[name](Converter(whole), [raw, other], **settings).get_result()
        expected = RUNNERS[name](Converter(rest), [scaled, other], **settings).get_result()
    for key in ("Input_1", "Input_2"):
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-9, atol=1e-9)


def test_an_adelie_is_one_because_of_its_bill(pipelines):
    """The trap: relevance of raw millimetres spoke against what the network had seen."""
    pipe = pipelines["standard"]
    converter, bird = Converter(pipe), X.iloc[[SPECIES.tolist().index("Adelie")]]
    assert pipe.predict(bird)[0] == "Adelie"
    for name in ("lrp", "deeplift", "grad"):
        settings = SETTINGS[name] | {"output_label": "Adelie"}
        value = RUNNERS[name](converter, bird, **settings).get_result()[0, 0, 0]
        assert 0 < value < 10


def test_gradients_stay_those_of_the_users_columns(pipelines):
    pipe = pipelines["standard"]
    raw = ip.run_grad(Converter(pipe), X).get_result()
    scaled = ip.run_grad(Converter(pipe[-1]), pipe[0].transform(X)).get_result()
    np.testing.assert_allclose(raw * pipe[0].scale_[:, None], scaled, rtol=1e-4, atol=1e-6)


def test_weights_are_those_of_prepared_features(pipelines):
    pipe = pipelines["standard"]
    np.testing.assert_allclose(
        ip.run_cw(Converter(pipe)).get_result(), ip.run_cw(Converter(pipe[-1])).get_result(), rtol=1e-6
    )


@quiet
@pytest.mark.parametrize("scaler", SCALERS)
def test_the_center_is_what_becomes_zero(pipelines, scaler):
    pipe = pipelines[scaler]
    result = ip.run_deeplift(Converter(pipe), X)
    np.testing.assert_allclose(
        pipe[0].transform(pd.DataFrame(result.x_ref[0].double().numpy(), columns=FEATURES)), 0, atol=1e-5
    )
    assert result.reference_name == "center"
    assert "the center of the model's preparation" in " ".join(repr(result).split())


def test_the_center_lies_in_the_users_layout():
    """Images with their channels last, and a center that is another for each channel."""
    keras.utils.set_random_seed(0)
    mean, variance = [0.1, 0.5, 0.9], [1.0, 4.0, 9.0]
    scale = keras.layers.Normalization(axis=-1, mean=mean, variance=variance)
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.Rescaling(1 / 255), scale, keras.layers.Conv2D(2, 3),
         keras.layers.Flatten(), keras.layers.Dense(2)]
    )  # fmt: skip
    converter = Converter(model)
    assert list(converter.model.preparation.values()) == [(model.layers[0].name, model.layers[1].name)]
    x = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3))
    result = ip.run_deeplift(converter, x)
    np.testing.assert_allclose(result.x_ref[0][0, 0, 0].numpy(), 255 * np.array(mean), rtol=1e-5)
    np.testing.assert_allclose(result.get_result().sum((1, 2, 3)), result.decomp_goal[0].numpy(), atol=1e-4)


def test_the_mark_is_saved(pipelines, tmp_path):
    converter = Converter(pipelines["clipped"])
    converter.save(tmp_path / "birds.safetensors")
    loaded = Converter.load(tmp_path / "birds.safetensors")
    assert loaded.model.preparation == converter.model.preparation
    assert len(loaded.model.preparation["input_1"]) == 2
    np.testing.assert_array_equal(ip.run_lrp(loaded, X).get_result(), ip.run_lrp(converter, X).get_result())


def test_rules_do_not_reach_the_preparation(pipelines):
    """The first layer is the first that has learned something."""
    pipe = pipelines["standard"]
    rules = [("first", "flat"), ("Dense_Layer", "epsilon")]
    found = ip.run_lrp(Converter(pipe), X, rule_name=rules).get_result()
    expected = ip.run_lrp(Converter(pipe[-1]), pipe[0].transform(X), rule_name=rules).get_result()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_dicts_are_untouched_without_a_mark():
    scale = {"type": "Scale", "factor": np.array([2.0, 3.0]), "shift": np.array([1.0, 1.0])}
    dense = {"type": "Dense", "weight": np.array([[1.0, -1.0]])}
    x = np.array([[1.0, 2.0]])
    unmarked = {"input_dim": [2], "layers": [scale, dense]}
    found = ip.run_grad(Converter(unmarked), x, times_input=True).get_result()[0, :, 0]
    np.testing.assert_allclose(found, [2.0, -6.0])
    assert ip.run_deeplift(Converter(unmarked), x).x_ref[0].tolist() == [[0.0, 0.0]]
    marked = {"input_dim": [2], "layers": [scale | {"preprocessing": True}, dense]}
    found = ip.run_grad(Converter(marked), x, times_input=True).get_result()[0, :, 0]
    np.testing.assert_allclose(found, [3.0, -7.0])


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([{"type": "Dense", "weight": np.eye(2)}, {"type": "Scale", "factor": 2.0, "preprocessing": True}],
         "expected a layer at an input"),
        ([{"type": "Scale", "factor": 2.0, "preprocessing": True}], "expected a layer at an input"),
        ([{"type": "Scale", "factor": np.ones((3, 2)), "preprocessing": True}, {"type": "Flatten"}], "keeps the shape"),
        ([{"type": "Dense", "weight": np.eye(2), "preprocessing": True}], "unknown key 'preprocessing'"),
        ([{"type": "Activation", "act_name": "tanh", "preprocessing": True}, {"type": "Dense", "weight": np.eye(2)}],
         "expected False for the activation tanh"),
    ],
    ids=["in the middle", "the output", "another shape", "a dense layer", "no clipping"],
)  # fmt: skip
def test_marks_that_mean_nothing(layers, said):
    with pytest.raises(SpecError, match=said):
        Converter({"input_dim": [2], "layers": layers})


def test_a_scaler_in_the_middle_is_a_layer_like_others():
    keras.utils.set_random_seed(0)
    scale = keras.layers.Normalization(mean=[1.0, 2.0], variance=[1.0, 4.0])
    middle = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), scale, keras.layers.Dense(2)])
    assert Converter(middle).model.preparation == {}
    x = keras.Input((2,))
    twice = keras.Model(x, keras.layers.Dense(2)(keras.layers.Concatenate()([x, scale(x)])))
    assert Converter(twice).model.preparation == {}


def test_the_original_is_passed_on_to_agnostic_methods(pipelines):
    pipe = pipelines["standard"]
    result = ip.run_shap(Converter(pipe), X.iloc[:2], "center", seed=1)
    np.testing.assert_allclose(result.data_ref[0].numpy()[0], pipe[0].mean_, rtol=1e-5)


def test_skorch_nets_after_a_scaler():
    skorch = pytest.importorskip("skorch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
    net = skorch.NeuralNetClassifier(module, max_epochs=1, verbose=0, criterion=torch.nn.CrossEntropyLoss)
    codes = SPECIES.astype("category").cat.codes.to_numpy(np.int64)
    pipe = make_pipeline(StandardScaler(), net).fit(X.to_numpy(np.float32), codes)
    whole, rest = Converter(pipe, input_dim=(4,)), Converter(pipe[-1].module_, input_dim=(4,))
    same("lrp", whole, rest, X, pipe[0].transform(X.to_numpy(np.float32)))
    same("deeplift", whole, rest, X, pipe[0].transform(X.to_numpy(np.float32)))


# -- references -----------------------------------------------------------------------------------------------------


@pytest.fixture
def plain():
    rng = np.random.default_rng(2)
    dense = {"type": "Dense", "weight": rng.normal(size=(2, 4)), "activation_name": "tanh"}
    return Converter({"input_dim": [4], "layers": [dense], "input_names": FEATURES})


@pytest.mark.parametrize("run", ["deeplift", "deepshap", "intgrad", "expgrad", "shap"])
@pytest.mark.parametrize(
    ("given", "row"),
    [
        ("mean", X.mean()), ("median", X.median()), ("zeros", 0 * X.mean()), (X.mean(), X.mean()),
        (X.mean()[::-1], X.mean()), (X.iloc[3].to_numpy(), X.iloc[3]), (X.iloc[3].tolist(), X.iloc[3]),
        (torch.tensor(X.iloc[3].to_numpy()), X.iloc[3]),
    ],
    ids=["mean", "median", "zeros", "series", "series in another order", "array", "list", "tensor"],
)  # fmt: skip
@quiet
def test_references_have_names_and_may_be_rows(plain, run, given, row):
    argument = "x_ref" if run in ("deeplift", "intgrad") else "data_ref"
    seed = {} if argument == "x_ref" else {"seed": 1}
    result = RUNNERS[run](plain, X, **{argument: given}, **seed)
    np.testing.assert_allclose(getattr(result, argument)[0].numpy(), row.to_numpy()[None], rtol=1e-6)


def test_rows_with_gaps_have_no_part_in_a_mean(plain):
    gaps = X.copy()
    gaps.iloc[0, 0] = np.nan
    with pytest.warns(UserWarning, match="1 of .* rows hold NaN"):
        result = ip.run_deeplift(plain, gaps, x_ref="mean")
    np.testing.assert_allclose(result.x_ref[0].numpy()[0], gaps.iloc[1:].mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "said"),
    [("center", "this model begins with none. Use 'mean' or 'median'"), ("mena", "did you mean 'mean'?")],
)
@pytest.mark.parametrize("run", ["deeplift", "shap"])
def test_names_that_mean_nothing(plain, run, given, said):
    argument = "x_ref" if run == "deeplift" else "data_ref"
    with pytest.raises(ValueError, match=f"Argument '{argument}'") as error:
        RUNNERS[run](plain, X, **{argument: given})
    assert said in str(error.value)


def test_several_inputs_take_a_name_for_all_or_one_each():
    layers = [
        {"type": "Concatenate", "axis": 1, "inputs": ["input_1", "input_2"], "name": "both"},
        {"type": "Dense", "weight": np.ones((1, 3)), "inputs": ["both"]},
    ]
    converter = Converter({"input_dim": [[2], [1]], "layers": layers, "input_keys": ["a", "b"]})
    x = [np.array([[1.0, 2.0], [3.0, 6.0]]), np.array([[4.0], [8.0]])]
    means = ip.run_deeplift(converter, x, x_ref="mean").x_ref
    assert [m.tolist() for m in means] == [[[2.0, 4.0]], [[6.0]]]
    mixed = ip.run_deeplift(converter, x, x_ref={"b": "mean", "a": [5.0, 5.0]}).x_ref
    assert [m.tolist() for m in mixed] == [[[5.0, 5.0]], [[6.0]]]


@pytest.mark.parametrize("run", ["deeplift", "deepshap", "intgrad", "expgrad"])
@quiet
def test_zeros_far_from_a_table_are_told_once(plain, run):
    argument = "x_ref" if run in ("deeplift", "intgrad") else "data_ref"
    with pytest.warns(UserWarning, match="compared with 0") as caught:
        RUNNERS[run](plain, X)
    (said,) = [str(w.message) for w in caught if "compared with 0" in str(w.message)]
    assert "body_mass_g" in said
    assert f'{argument}="mean"' in said
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*compared with 0")
        RUNNERS[run](plain, X, **{argument: "zeros"})
        RUNNERS[run](plain, X, **{argument: "mean"})


def test_zeros_within_a_table_are_not_told(plain):
    rng = np.random.default_rng(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ip.run_deeplift(plain, rng.normal(size=(50, 4)))
        ip.run_deeplift(plain, rng.uniform(size=(50, 4)))
        ip.run_deeplift(plain, np.ones((50, 4)))  # a feature that does not vary has no deviation
        ip.run_deeplift(plain, X.iloc[:2])  # nobody knows the data from two rows
    assert not caught


def test_a_center_that_is_none_is_told(pipelines):
    """What the largest value divides is 0 for a penguin of 0 g."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ip.run_deeplift(Converter(pipelines["standard"]), X)
        ip.run_deeplift(Converter(pipelines["largest"]), X, x_ref="center")
    with pytest.warns(UserWarning, match="compared with the center .* body_mass_g"):
        ip.run_deeplift(Converter(pipelines["largest"]), X)


def test_frames_of_other_libraries(plain):
    polars = pytest.importorskip("polars")
    result = ip.run_deeplift(plain, polars.from_pandas(X), x_ref=polars.from_pandas(X.mean().to_frame().T))
    np.testing.assert_allclose(result.x_ref[0].numpy()[0], X.mean(), rtol=1e-6)


def test_a_named_row_of_a_frame_is_a_series(plain):
    assert isinstance(X.iloc[0], pd.Series)
    np.testing.assert_allclose(ip.run_deeplift(plain, X, x_ref=X.iloc[0]).x_ref[0].numpy()[0], X.iloc[0], rtol=1e-6)
