"""Pipelines that begin with encoders take tables as people have them, and explain the columns of these."""

from __future__ import annotations

import itertools
import math
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import skorch
import torch
from palmerpenguins import load_penguins
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, RobustScaler, StandardScaler
from torch import nn

from innsight_py import Converter, metrics, run_deeplift, run_grad, run_intgrad, run_lime, run_lrp, run_shap

NUMBERS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
WORDS = ["island", "sex"]
PENGUINS = load_penguins()
TABLE = PENGUINS[["island", *NUMBERS, "sex", "year"]]
WHOLE = TABLE.dropna().reset_index(drop=True)


def fitted(*steps, x=TABLE, y=PENGUINS["species"], end=None):
    model = make_pipeline(*steps, end or MLPClassifier((6,), max_iter=60, random_state=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)


def usual(**options):
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
        (OneHotEncoder(handle_unknown="ignore"), WORDS),
        **options,
    )


@pytest.fixture(scope="module")
def penguins():
    return fitted(usual())


def check(model, rows, columns):
    """Compare predictions with the pipeline's own, and sums over the user's columns with the difference."""
    converter = Converter(model)
    result = run_deeplift(converter, rows, x_ref="mean", dtype="double", ignore_last_act=False)
    own = model.predict_proba(rows) if hasattr(model, "predict_proba") else model.predict(rows).reshape(len(rows), -1)
    np.testing.assert_allclose(result.preds[0].numpy(), own, rtol=1e-9, atol=1e-9)
    in_the_table = [column for column in rows.columns if column in columns]
    assert list(result.get_result("data.frame")["feature"].unique()) == in_the_table
    mixed = run_intgrad(converter, rows, x_ref="mean", dtype="double", n=2000, ignore_last_act=False)
    missing = mixed.decomp_goal[0].numpy() - mixed.get_result().sum(1)
    assert np.abs(missing).max() < 0.01 * max(1, np.abs(own).max())
    return converter


# -- the penguins --------------------------------------------------------------------------------------------------


def test_penguins_in_five_lines(penguins):
    converter = Converter(penguins)
    result = run_deeplift(converter, TABLE, x_ref="mean")
    frame = result.get_result("data.frame")
    picture = result.plot(data_idx=0, output_label="Adelie")
    assert list(frame["feature"].unique()) == ["island", *NUMBERS, "sex"]
    assert frame["residual"].abs().max() < 1e-4
    ends = [text.get_text() for text in picture.axes[0, 0, 0].get_xticklabels()]
    assert ends[:2] == ["island = Torgersen", "bill_length_mm = 39.1"]
    assert ends[-1] == "sex = male"
    assert result.preds[0].numpy() == pytest.approx(penguins.predict_proba(TABLE), abs=1e-5)


def test_it_sums_to_the_difference(penguins):
    """Of the logits, computed from the pipeline's own parts."""
    network = penguins[-1]
    rows = penguins[:-1].transform(TABLE)
    mean = rows.mean(0, keepdims=True)

    def logits(x):
        return (
            np.maximum(x @ network.coefs_[0] + network.intercepts_[0], 0) @ network.coefs_[1] + network.intercepts_[1]
        )

    values = run_deeplift(Converter(penguins), TABLE, x_ref="mean", dtype="double").get_result()
    np.testing.assert_allclose(values.sum(1), logits(rows) - logits(mean), atol=1e-8)


def test_columns_are_summed(penguins):
    apart = Converter(penguins, group_columns=False)
    assert apart.input_names[0][0][4:] == [
        "island = Biscoe", "island = Dream", "island = Torgersen", "sex = female", "sex = male", "sex = missing"
    ]  # fmt: skip
    single = run_lrp(apart, TABLE).get_result()
    together = run_lrp(Converter(penguins), TABLE).get_result()
    assert single.shape[1] == 10
    np.testing.assert_allclose(together[:, 1:5], single[:, :4], rtol=1e-6)
    np.testing.assert_allclose(together[:, 0], single[:, 4:7].sum(1), atol=1e-5)
    np.testing.assert_allclose(together[:, 5], single[:, 7:].sum(1), atol=1e-5)


def test_gradients_are_not_summed(penguins):
    converter = Converter(penguins)
    assert run_grad(converter, TABLE).get_result().shape == (344, 10, 3)
    assert run_grad(converter, TABLE, times_input=True).get_result().shape == (344, 6, 3)


def test_references(penguins):
    converter = Converter(penguins)
    mean = run_deeplift(converter, WHOLE, x_ref="mean", dtype="double").x_ref[0][0]
    assert mean[4:7].tolist() == pytest.approx(
        [(WHOLE["island"] == name).mean() for name in ("Biscoe", "Dream", "Torgersen")]
    )
    mode = run_deeplift(converter, WHOLE, x_ref="mode", dtype="double").x_ref[0][0]
    assert mode[4:].tolist() == [1, 0, 0, 0, 1, 0]
    for k, name in enumerate(NUMBERS):
        assert float(mode[k]) in set(WHOLE[name].mode())
    row = run_deeplift(converter, WHOLE, x_ref=WHOLE.iloc[7], dtype="double")
    frame = run_deeplift(converter, WHOLE, x_ref=WHOLE.iloc[[7]], dtype="double")
    np.testing.assert_array_equal(row.get_result(), frame.get_result())
    assert np.abs(row.get_result()[7]).max() == 0
    own = run_deeplift(converter, WHOLE, x_ref=WHOLE)
    assert np.abs(own.get_result()).max() == 0


def test_other_views(penguins):
    result = run_deeplift(Converter(penguins), WHOLE, x_ref="mean")
    assert set(result.summary(20)["feature"]) == {*NUMBERS, *WORDS}
    assert result.plot([0, 1]).frame.panels[0, 0, 0].axis.labels[-1] == "sex"
    assert result.plot_global().frame.panels[0, 0, 0].axis.labels == ("island", *NUMBERS, "sex")
    assert result.get_result("xarray").coords["feature"].to_numpy().tolist() == ["island", *NUMBERS, "sex"]
    assert "(333, 6, 3)" in repr(result)
    assert pickle.loads(pickle.dumps(result)).get_result().shape == (333, 6, 3)  # noqa: S301
    for name in ("deletion", "insertion", "faithfulness_correlation", "infidelity", "sparseness"):
        assert len(getattr(metrics, name)(result, seed=1).frame) == 333 * 3
    good = metrics.deletion(result, seed=1)
    assert set(good.curve["share"]) == {k / 6 for k in range(7)}
    assert (good.summary()["better_than_random"] > 0.9).all()


def test_frames_of_other_libraries_and_numbers(penguins):
    polars = pytest.importorskip("polars")
    converter = Converter(penguins)
    expected = run_deeplift(converter, WHOLE, x_ref="mean").get_result()
    frame = polars.DataFrame({name: WHOLE[name].to_list() for name in WHOLE.columns})
    np.testing.assert_allclose(run_deeplift(converter, frame, x_ref="mean").get_result(), expected, atol=1e-6)
    numbers, _ = converter.encoder.encode(WHOLE, "data")
    np.testing.assert_allclose(run_deeplift(converter, numbers, x_ref="mean").get_result(), expected, atol=1e-6)
    category = WHOLE.astype({"island": "category"})
    np.testing.assert_allclose(run_deeplift(converter, category, x_ref="mean").get_result(), expected, atol=1e-6)


# -- pipelines -----------------------------------------------------------------------------------------------------


def chosen_by_place():
    return ColumnTransformer(
        [
            ("words", OneHotEncoder(drop="first", sparse_output=False), [0, 5]),
            ("numbers", MinMaxScaler(), slice(1, 3)),
            ("mass", "passthrough", [name == "body_mass_g" for name in TABLE.columns]),
            ("gone", "drop", ["flipper_length_mm"]),
        ],
        remainder=RobustScaler(),
    )  # fmt: skip


PIPELINES = {
    "scaler at the end": ((usual(sparse_threshold=0), StandardScaler()), [*NUMBERS, *WORDS]),
    "no scaler": ((make_column_transformer((OneHotEncoder(), WORDS), ("passthrough", NUMBERS)),), [*WORDS, *NUMBERS]),
    "remainder": ((usual(remainder=StandardScaler()),), [*NUMBERS, *WORDS, "year"]),
    "by place": ((chosen_by_place(), ), ["island", "sex", "bill_length_mm", "bill_depth_mm", "body_mass_g", "year"]),
    "ordinal": (
        (make_column_transformer(
            (make_pipeline(OrdinalEncoder(), StandardScaler()), WORDS), (MinMaxScaler(clip=True), NUMBERS)),),
        [*WORDS, *NUMBERS],
    ),
    "weights": (
        (make_column_transformer((OneHotEncoder(), WORDS), (StandardScaler(), NUMBERS)).set_params(
            transformer_weights={"onehotencoder": 0.5, "standardscaler": 2.0}),),
        [*WORDS, *NUMBERS],
    ),
    "alone": ((OneHotEncoder(min_frequency=60),), WORDS),
    "imputer first": ((SimpleImputer(), StandardScaler()), NUMBERS),
    "indicator": ((SimpleImputer(add_indicator=True), MinMaxScaler()), NUMBERS),
    "neighbours": ((StandardScaler(), KNNImputer()), NUMBERS),
    "nested": ((make_pipeline(usual(), "passthrough"), "passthrough"), [*NUMBERS, *WORDS]),
}  # fmt: skip


@pytest.mark.parametrize("name", PIPELINES)
def test_pipeline(name):
    steps, columns = PIPELINES[name]
    used = columns if name in ("alone", "imputer first", "indicator", "neighbours") else list(TABLE.columns)
    gaps = TABLE if name in ("imputer first", "indicator", "neighbours") else WHOLE
    species = PENGUINS["species"][TABLE.notna().all(axis=1)] if gaps is WHOLE else PENGUINS["species"]
    model = fitted(*steps, x=gaps[used], y=species.to_numpy())
    check(model, gaps[used].iloc[:9], columns)


def test_scalers_are_layers(penguins):
    """They are the graph's preparation, so that the reference without a name is their center."""
    converter = Converter(penguins)
    result = run_deeplift(converter, WHOLE)
    assert result.reference_name == "center"
    assert result.x_ref[0][0, :4].numpy() == pytest.approx(TABLE[NUMBERS].mean().to_numpy(), rel=1e-5)
    assert not result.x_ref[0][0, 4:].any()


def test_searched_and_transformed():
    search = GridSearchCV(fitted(usual()), {"mlpclassifier__alpha": [0.1]}, cv=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(TABLE, PENGUINS["species"])
        mass = make_pipeline(
            make_column_transformer((OneHotEncoder(), WORDS), (StandardScaler(), NUMBERS[:3])),
            MLPRegressor(hidden_layer_sizes=(5,), max_iter=40, random_state=0),
        )
        target = TransformedTargetRegressor(mass, transformer=StandardScaler()).fit(WHOLE, WHOLE["body_mass_g"])
    check(search, WHOLE[:5], [*NUMBERS, *WORDS])
    check(target, WHOLE[:5], [*WORDS, *NUMBERS[:3]])


def test_a_skorch_net():
    torch.manual_seed(0)
    net = skorch.NeuralNetRegressor(nn.Sequential(nn.Linear(9, 4), nn.Tanh(), nn.Linear(4, 1)), max_epochs=1, verbose=0)
    transform = make_column_transformer((StandardScaler(), NUMBERS), (OneHotEncoder(), WORDS), sparse_threshold=0)
    encoded = transform.fit_transform(WHOLE).astype(np.float32)
    net.fit(encoded, encoded[:, :1])
    model = Pipeline([("table", transform), ("net", net)])
    result = run_deeplift(Converter(model), WHOLE.iloc[:6], x_ref="mean")
    assert result.preds[0].numpy() == pytest.approx(net.predict(encoded[:6]), abs=1e-4)
    assert result.get_result().shape == (6, 6, 1)


def test_a_pipeline_that_was_fitted_without_names():
    array = WHOLE[[*WORDS, "year"]].to_numpy()
    model = fitted(
        make_column_transformer((OneHotEncoder(), [0, 1]), (StandardScaler(), [2])),
        x=array,
        y=WHOLE["body_mass_g"] > 4000,
    )
    result = run_deeplift(Converter(model), array, x_ref="mean")
    assert result.get_result().shape == (333, 3, 2)
    assert result.plot().frame.panels[0, 0, 0].axis.labels == ("X1 = Torgersen", "X2 = male", "X3 = 2007")


# -- what is refused -----------------------------------------------------------------------------------------------


def test_rows_that_do_not_fit(penguins):
    converter = Converter(penguins)
    with pytest.raises(ValueError, match="'data': there is no column 'island'"):
        run_deeplift(converter, TABLE.drop(columns="island"))
    strict = Converter(fitted(make_column_transformer((OneHotEncoder(), ["island"])), x=WHOLE, y=WHOLE["sex"]))
    with pytest.raises(ValueError, match=r"'data': the model's encoders cannot take these rows.*Atlantis"):
        run_deeplift(strict, WHOLE.assign(island="Atlantis"))


def test_other_steps_beside_encoders_are_refused():
    odd = make_column_transformer((make_pipeline(StandardScaler(), PCA(2)), NUMBERS), (OneHotEncoder(), WORDS))
    with pytest.raises(ValueError, match=r"PCA cannot be converted.*OneHotEncoder.*run_shap"):
        Converter(fitted(odd, x=WHOLE, y=WHOLE["sex"]))
    with pytest.raises(ValueError, match=r"'columntransformer' \(ColumnTransformer\) is not fitted"):
        Converter(make_pipeline(usual(), MLPClassifier()))


# -- groups of any model -------------------------------------------------------------------------------------------


def test_groups_of_a_torch_model():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)), torch.randn(3, 4)
    names = ["age", "site A", "dose", "site B"]
    plain = run_deeplift(Converter(net, input_dim=(4,)), x).get_result()
    for groups in ({"site": ["site A", "site B"]}, {"site": [1, 3]}):
        result = run_deeplift(Converter(net, (4,), input_names=names, group_columns=groups), x)
        assert result.get_result("data.frame")["feature"].unique().tolist() == ["age", "site", "dose"]
        np.testing.assert_allclose(result.get_result()[:, 1], plain[:, 1] + plain[:, 3], atol=1e-6)
        assert metrics.deletion(result, seed=1).curve["share"].nunique() == 4
    for wrong, message in (
        ({"site": ["site C"]}, "no column 'site C'; did you mean"),
        ({"a": [0], "b": [0]}, "'age' is in two groups"),
    ):
        with pytest.raises(ValueError, match=message):
            Converter(net, (4,), input_names=names, group_columns=wrong)
    with pytest.raises(TypeError, match="'group_columns'"):
        Converter(net, (4,), group_columns=["site"])
    with pytest.raises(ValueError, match=r"'group_columns'.*one table"):
        Converter(nn.Conv1d(1, 1, 2), (1, 4), group_columns={"site": [0]})


# -- SHAP and LIME -------------------------------------------------------------------------------------------------


def shapley(model, row, background, k):
    """Shapley values from their definition, every coalition asked for."""
    columns = list(row.columns)

    def value(coalition):
        mixed = background.copy()
        for column in coalition:
            mixed[column] = row[column].iloc[0]
        return model.predict_proba(mixed)[:, k].mean()

    found = []
    for column in columns:
        others = [other for other in columns if other != column]
        total = 0.0
        for size in range(len(others) + 1):
            weight = math.factorial(size) * math.factorial(len(columns) - size - 1) / math.factorial(len(columns))
            for coalition in itertools.combinations(others, size):
                total += weight * (value((*coalition, column)) - value(coalition))
        found.append(total)
    return np.array(found)


@pytest.mark.filterwarnings("ignore")
def test_shap_takes_texts_and_categories():
    table = WHOLE[["island", "sex", "bill_length_mm"]].astype({"sex": "category"})
    model = fitted(
        make_column_transformer((OneHotEncoder(), WORDS), (StandardScaler(), ["bill_length_mm"])), x=table,
        y=PENGUINS["species"][TABLE.notna().all(axis=1)].to_numpy(),
    )  # fmt: skip
    background = table.iloc[[3, 100, 200, 330]]
    for explained in (model, Converter(model, dtype="double")):
        result = run_shap(explained, table.iloc[:2], background, nsim=40, seed=1)
        expected = shapley(model, table.iloc[[0]], background, 1)
        np.testing.assert_allclose(result.get_result()[0, :, 1], expected, atol=0.01)
        assert result.plot(output_idx=1).frame.panels[0, 0, 0].axis.labels[0] == "island = Torgersen"
        assert float(result.residual.absolute[0].abs().max()) < 1e-5
    named = run_shap(model, table.iloc[:40], "mean", seed=1)
    assert named.predictor.as_asked(named._background)["sex"].tolist() == [table["sex"].iloc[:40].mode()[0]]


def test_lime_takes_texts_and_categories():
    """The weight of a column that alone matters is the largest, and its category is in no bin with others."""

    def predict(rows):
        return (rows["site"] == "A").astype(float) * 3 + 0.1 * rows["age"] / 100

    random = np.random.default_rng(0)
    table = pd.DataFrame({"age": random.uniform(0, 100, 200), "site": random.choice(["B", "A", "C"], 200), "x": 1.0})
    result = run_lime(predict, table[table["site"] == "A"].iloc[:2], table, n_permutations=600, seed=1)
    weights = result.get_result()[:, :, 0]
    assert (weights[:, 1] > 2).all()
    assert (np.abs(weights[:, [0, 2]]) < 0.3).all()
    assert result.plot().frame.panels[0, 0, 0].axis.labels[1] == "site = A"


def test_missing_values_are_a_category():
    table = pd.DataFrame({"site": ["A", None, "B", np.nan], "age": [1.0, 2.0, 3.0, 4.0]})
    asked = []

    def predict(rows):
        asked.append(rows)
        return rows["site"].isna().astype(float)

    result = run_shap(predict, table, seed=1)
    assert result.preds[0].flatten().tolist() == [0, 1, 0, 1]
    assert asked[0]["site"].isna().tolist() == [False, True, False, True]
    assert result.row_values[1] == ["missing", "2"]
