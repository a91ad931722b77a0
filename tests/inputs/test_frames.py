"""Frames: columns are matched by name with the converter's input names, whatever library the frame is of."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from innsight_py import SHAP, Converter, DeepLift, DeepSHAP, Gradient, run_grad

NAMES = ["age", "dose", "site"]
X = np.array([[1.0, -2.0, 0.5], [3.0, 0.0, -4.0]])
LIBRARIES = {
    "pandas": lambda columns: pd.DataFrame(columns),
    "polars": pl.DataFrame,
    "arrow": lambda columns: pa.table({name: np.asarray(values) for name, values in columns.items()}),
}


def net(names=NAMES, **keys) -> Converter:
    layers = [
        {"type": "Dense", "weight": [[1.0, 2.0, -3.0], [0.5, -1.0, 1.0]], "activation_name": "tanh"},
        {"type": "Dense", "weight": [[1.0, -1.0]]},
    ]
    return Converter({"input_dim": [3], "layers": layers}, input_names=names, dtype="double", **keys)


def columns(order=(0, 1, 2), names=NAMES, values=X) -> dict[str, np.ndarray]:
    return {names[k]: values[:, k] for k in order}


def read(data, converter=None) -> np.ndarray:
    """Return what a method has read."""
    return Gradient(converter or net(), data, dtype="double").data[0].numpy()


@pytest.fixture(params=LIBRARIES)
def make(request):
    return LIBRARIES[request.param]


def test_names_fix_the_order(make):
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        np.testing.assert_array_equal(read(make(columns(order))), X)


def test_other_columns_are_left_out(make):
    frame = make({"species": np.array(["a", "b"]), **columns([2, 1, 0]), "id": np.array([7, 8])})
    np.testing.assert_array_equal(read(frame), X)


@pytest.mark.parametrize("names", [["age", "dose", "weight"], ["age", "Dose", "site"], ["site", "age", "x"]])
def test_columns_that_contradict(make, names):
    with pytest.raises(
        ValueError, match=r"'data'.*contradict.*there is no column '(site|dose)'.*Columns: .*Input names"
    ):
        read(make(columns(names=names)))


def test_a_contradiction_names_the_likely_column(make):
    with pytest.raises(ValueError, match=r"no column 'dose'; did you mean 'doses'\?"):
        read(make(columns(names=["age", "doses", "site"])))


def test_foreign_names_are_used_by_position_with_a_warning(make):
    with pytest.warns(UserWarning, match=r"'data'.*'a', 'b', 'c'.*'age', 'dose', 'site'.*by position") as caught:
        found = read(make(columns([0, 1, 2], ["a", "b", "c"])))
    assert len(caught) == 1
    np.testing.assert_array_equal(found, X)


def test_where_no_names_are_known_columns_are_used_by_position(make):
    np.testing.assert_array_equal(read(make(columns([2, 1, 0])), net(None)), X[:, ::-1])
    np.testing.assert_array_equal(read(make(columns([2, 1, 0], ["X1", "X2", "X3"])), net(None)), X)  # all are there


def test_a_frame_without_names_is_used_by_position():
    np.testing.assert_array_equal(read(pd.DataFrame(X)), X)
    np.testing.assert_array_equal(read(pd.DataFrame(X, columns=[5, 3, 1])), X)


def test_a_name_that_is_there_twice():
    with pytest.raises(ValueError, match=r"'data': the column 'age' is there 2 times"):
        read(pd.DataFrame(np.c_[X, X[:, 0]], columns=["age", "dose", "site", "age"]))
    with pytest.raises(ValueError, match=r"'data'(.|\n)*age"):
        read(pa.Table.from_arrays([pa.array([1.0])] * 4, names=["age", "dose", "site", "age"]))


def test_too_few_columns(make):
    with pytest.raises(ValueError, match=r"'data'.*expected the shape \(\*, 3\), got \(2, 2\)"):
        read(make(columns([0, 1], ["a", "b", "c"])))


def test_references_are_matched_as_well(make):
    for method, argument in ((DeepLift, "x_ref"), (DeepSHAP, "data_ref")):
        rows = X[:1] if argument == "x_ref" else X
        a = method(net(), X, **{argument: make(columns([2, 0, 1], values=rows))}, dtype="double")
        b = method(net(), X, **{argument: rows}, dtype="double")
        np.testing.assert_array_equal(a.get_result(), b.get_result())
        with pytest.raises(ValueError, match=rf"'{argument}'.*no column 'site'"):
            method(net(), X, **{argument: make(columns(names=["age", "dose", "x"], values=rows))})


def test_several_inputs():
    layers = [
        {"type": "Dense", "weight": [[1.0, 2.0]], "name": "one"},
        {"type": "Dense", "weight": [[1.0, 2.0, 3.0]], "inputs": ["input_2"], "name": "two"},
        {"type": "Add", "inputs": ["one", "two"]},
    ]
    converter = Converter({"input_dim": [[2], [3]], "layers": layers}, input_names=[["a", "b"], NAMES])
    found = Gradient(converter, [pl.DataFrame({"b": X[:, 1], "a": X[:, 0]}), pa.table(columns([2, 1, 0]))]).data
    np.testing.assert_array_equal(found[0].numpy(), X[:, :2])
    np.testing.assert_array_equal(found[1].numpy(), X)
    with pytest.raises(ValueError, match=r"'data', input 2.*contradict"):
        Gradient(converter, [X[:, :2], pl.DataFrame(columns(names=["age", "dose", "x"]))])


@pytest.mark.parametrize(
    "index", [[5, 2], ["r1", "r2"], pd.MultiIndex.from_tuples([(1, "a"), (0, "b")], names=["i", "j"])]
)
def test_an_index_is_no_order(index):
    frame = pd.DataFrame(columns([1, 2, 0]), index=index)
    before = frame.copy(deep=True)
    np.testing.assert_array_equal(read(frame), X)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.filterwarnings("ignore:Argument .data.. .* rows hold NaN:UserWarning")
@pytest.mark.parametrize("kind", [pl.Int8, pl.UInt64, pl.Float32, pl.Float64, pl.Boolean, pl.Int64])
def test_columns_of_numbers_and_missing_values(kind):
    frame = pl.DataFrame({"age": pl.Series([True, None]).cast(kind), "dose": [1.0, 2.0], "site": [None, 1.5]})
    expected = np.array([[1.0, 1.0, np.nan], [np.nan, 2.0, 1.5]])
    for given in (frame, frame.to_arrow()):
        np.testing.assert_array_equal(read(given), expected)


@pytest.mark.parametrize(
    "values",
    [["x", "y"], [None, None], [[1], [2]], [b"1", b"2"], pl.Series([1, 2]).cast(pl.Datetime)],
    ids=["strings", "nothing", "lists", "bytes", "dates"],
)
def test_a_column_that_is_no_number_is_named(values):
    frame = pl.DataFrame({"age": [1.0, 2.0], "dose": values, "site": [0.0, 1.0]})
    for given in (frame, frame.to_arrow()):
        with pytest.raises(TypeError, match=r"'data'.*'dose'"):
            read(given)


def test_lazy_frames_and_series_are_refused():
    with pytest.raises(TypeError, match=r"'data'.*LazyFrame"):
        read(pl.DataFrame(columns()).lazy())
    with pytest.raises(ValueError, match="'data'"):
        read(pl.Series([1.0, 2.0]))


def test_predictors_get_the_columns_they_know(make):
    pytest.importorskip("shap")
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(pd.DataFrame(columns()), X @ [1.0, 2.0, 3.0])
    expected = SHAP(model, pd.DataFrame(columns()), seed=1).get_result()
    found = SHAP(model, make(columns([2, 1, 0])), make(columns([1, 0, 2])), seed=1)
    np.testing.assert_allclose(found.get_result(), expected, atol=1e-6)
    assert found.converter.input_names == [[NAMES]]


def test_narwhals_is_imported_for_a_frame_of_another_library_only():
    code = (
        "import sys, pandas, innsight_py;"
        "c = innsight_py.Converter({'input_dim': [1], 'layers': [{'type': 'Dense', 'weight': [[1.0]]}]});"
        "innsight_py.run_grad(c, pandas.DataFrame({'a': [1.0]}));"
        "print('narwhals' in sys.modules, 'polars' in sys.modules, 'pyarrow' in sys.modules)"
    )
    found = subprocess.check_output([sys.executable, "-c", code], text=True).split()  # noqa: S603
    assert found[:2] == ["False", "False"]


def test_run_functions_do_the_same(make):
    np.testing.assert_array_equal(
        run_grad(net(), make(columns([2, 0, 1]))).get_result(), run_grad(net(), X).get_result()
    )
