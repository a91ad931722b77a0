"""The summary of a result, and its form with named axes."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from result_models import IMAGE, SIGNAL, TABLE, batch, mixed, single

from innsight_py import Converter, run_cw, run_deeplift, run_grad


def ranked(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Rank features from a data frame of the result, with pandas alone."""
    magnitudes = frame.assign(value=frame["value"].abs()).dropna(subset="value")
    keys = ["model_output", "output_node", "data", *columns]
    summed = magnitudes.groupby(keys, observed=True, dropna=False)["value"].sum().reset_index()
    mean = summed.groupby([key for key in keys if key != "data"], observed=True, dropna=False)["value"].mean()
    return mean.reset_index()


@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize("dim", [TABLE, SIGNAL, IMAGE, None], ids=["table", "signal", "image", "mixed"])
def test_summary_against_the_data_frame(dim, channels_first):
    converter = mixed() if dim is None else single(*dim)
    nodes = [[2, 0], [1], [3]] if dim is None else [2, 0]
    result = run_grad(
        converter, batch(converter, 5, channels_first), output_idx=nodes, times_input=True, dtype="double",
        channels_first=channels_first,
    )  # fmt: skip
    frame = result.get_result("data.frame")
    columns = [name for name in ("model_input", "feature", "feature_2") if name in frame]
    expected = ranked(frame, columns)
    ours = result.summary(3)
    by = ["output_node"] if dim else ["model_output", "output_node"]
    for key, block in ours.groupby(by, sort=False):
        rows = expected[(expected[by].astype(str) == list(key)).all(axis=1)]
        largest = rows.sort_values("value", ascending=False).head(3)
        np.testing.assert_allclose(block["mean_abs"], largest["value"], rtol=1e-9)
        np.testing.assert_allclose(block["share"], largest["value"] / rows["value"].sum(), rtol=1e-9)
        shared = [name for name in columns if name in block]
        assert block[shared].astype(object).fillna("").to_numpy().tolist() == (
            largest[shared].astype(object).fillna("").to_numpy().tolist()
        )
    assert result.summary(1000).groupby(by)["share"].sum().to_numpy() == pytest.approx(1)


def test_columns():
    assert list(run_grad(single(3), np.ones((2, 3))).summary()) == ["output_node", "feature", "share", "mean_abs"]
    result = run_grad(mixed(), batch(mixed(), 2), output_idx=[[0], None, [1]])
    assert list(result.summary()) == [
        "model_output", "output_node", "model_input", "feature", "feature_2", "share", "times_sd", "mean_abs"
    ]  # fmt: skip
    assert "Input_1" not in set(result.summary(99).query("model_output == 'Output_3'")["model_input"])  # not connected
    converter = single(*SIGNAL)
    result = run_grad(converter, batch(converter, 2))
    mean = np.abs(result.get_result()).mean(0)
    assert result.summary(1, "norm")["mean_abs"][0] == pytest.approx(
        np.sqrt((np.abs(result.get_result()) ** 2).sum(1)).mean(0)[:, 0].max(), rel=1e-6
    )
    assert mean.shape == (2, 4, 3)


def test_zeros():
    summary = run_grad(single(3), np.zeros((2, 3)), times_input=True).summary()
    assert not summary["share"].any()


@pytest.mark.parametrize(("arguments", "match"), [({"n": 0}, "'n'"), ({"aggr_channels": "max"}, "'aggr_channels'")])
def test_refusals(arguments, match):
    with pytest.raises(ValueError, match=match):
        run_grad(single(3), np.ones((1, 3))).summary(**arguments)


# -- xarray ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels_first", [True, False])
def test_named_arrays(channels_first):
    names = [["age", "dose", "site"], [["c1", "c2"], list("wxyz")], [["r", "g"], ["top", "mid", "low"], ["le", "ri"]]]
    converter = mixed(input_names=names)
    result = run_deeplift(
        converter, batch(converter, 3, channels_first), output_idx=[[2, 0], None, [1]], channels_first=channels_first,
        dtype="double",
    )  # fmt: skip
    named, plain, frame = result.get_result("xarray"), result.get_result(), result.get_result("data.frame")
    assert list(named) == ["Output_1", "Output_3"]
    dims = {
        "Input_1": ("data", "feature", "output_node"),
        "Input_2": ("data", "channel", "feature", "output_node"),
        "Input_3": ("data", "channel", "feature", "feature_2", "output_node"),
    }
    for output, row in named.items():
        for name, array in row.items():
            assert set(array.dims) == set(dims[name])
            assert array.dims == dims[name] or not channels_first
            np.testing.assert_array_equal(array.to_numpy(), plain[output][name])
            assert array.name == "Contribution"
            assert array.attrs == {"method": "DeepLift", "model_input": name, "model_output": output}
            rows = frame[(frame.model_input == name) & (frame.model_output == output)]
            for record in rows.sample(20, random_state=1, replace=True).to_dict("records"):
                place = {dim: record[dim] for dim in array.dims}
                np.testing.assert_equal(float(array.sel(place)), record["value"])
                np.testing.assert_equal(float(array["pred"].sel(data=place["data"], output_node=place["output_node"])),
                                        record["pred"])  # fmt: skip
    assert (
        float(named["Output_1"]["Input_2"].sel(data="data_2", channel="c2", feature="y", output_node="Y3"))
        == (plain["Output_1"]["Input_2"][(1, 1, 2, 0) if channels_first else (1, 2, 1, 0)])
    )


def test_named_array_of_a_global_method():
    array = run_cw(single(3)).get_result("xarray")
    assert array.dims == ("data", "feature", "output_node")
    assert set(array.coords) == {"data", "feature", "output_node"}


def test_xarray_is_an_extra(monkeypatch):
    result = run_grad(single(3), np.ones((1, 3)))
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match=r'pip install "innsight_py\[xarray\]"'):
        result.get_result("xarray")


def test_labels_may_be_given_twice():
    model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, -2.0]]}]}
    result = run_grad(Converter(model, input_names=["a", "a"]), np.ones((1, 2)))
    assert result.get_result("xarray").sel(feature="a").shape == (1, 2, 1)
    assert list(result.summary()["mean_abs"]) == [2, 1]
    assert list(result.plot().frame.panels[0, 0, 0].values) == [1, -2]
