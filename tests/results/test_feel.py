"""What users meet at a prompt: help, dir, len, arrays, other frames, the help text of the shell."""

from __future__ import annotations

import inspect
import pydoc
import re
import typing

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import innsight_py
from innsight_py import Converter, Explanation, run_cw, run_deeplift, run_grad
from innsight_py.cli import app

RUNNERS = [name for name in innsight_py.__all__ if name.startswith("run_")]


def mlp(outputs=2, **names):
    torch.manual_seed(1)
    return Converter(torch.nn.Linear(3, outputs), input_dim=(3,), **names)


class Two(torch.nn.Module):
    def forward(self, a, b):
        return a.sum(1, keepdim=True) * b


@pytest.fixture
def x():
    return torch.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize("name", RUNNERS)
def test_help_says_what_comes_back(name):
    function = getattr(innsight_py, name)
    made = function.__wrapped__.__name__
    assert inspect.signature(function).return_annotation == made
    shown = "\n".join(pydoc.plain(pydoc.render_doc(function)).splitlines()[2:])
    # the first arrow behind the arguments, on one line or, as newer versions of Python show it, on several
    assert re.match(rf"{name}\((?:(?!\) -> )(?:.|\n))*\) -> '?{made}'?$", shown, re.MULTILINE), shown


def test_a_runner_keeps_the_arguments_of_its_class():
    of_class = inspect.signature(innsight_py.DeepLift).parameters
    assert list(inspect.signature(run_deeplift).parameters) == list(of_class)


def test_dir_has_public_names_only():
    shown = {name for name in dir(innsight_py) if not name.startswith("__")}
    assert shown == set(innsight_py.__all__)
    assert "__version__" in dir(innsight_py)


def test_len_counts_instances(x):
    assert len(run_grad(mlp(), x)) == 4
    assert len(run_cw(mlp())) == 1


def test_a_result_is_an_array(x):
    result = run_grad(mlp(), x)
    values = np.asarray(result)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, result.get_result())
    assert np.asarray(result, dtype="float64").dtype == np.float64
    values[:] = 0
    assert np.abs(result.get_result()).sum() > 0
    with pytest.raises(ValueError, match="copies"):
        np.array(result, copy=False)


def test_a_result_of_two_inputs_is_no_array(x):
    result = run_grad(Converter(Two(), input_dim=[(3,), (1,)]), [x, x[:, :1]])
    with pytest.raises(TypeError, match=r"Input_1, Input_2.*get_result\(\)\['Input_1'\]"):
        np.asarray(result)


def test_polars_has_the_frame(x):
    result = run_deeplift(mlp(output_names=["a", "b"]), x)
    frame, other = result.get_result("data.frame"), result.get_result("polars")
    assert isinstance(other, pl.DataFrame)
    assert other.columns == list(frame)
    for name in frame:
        assert [str(value) for value in other[name]] == [str(value) for value in frame[name]], name


def test_polars_has_no_label_where_there_is_none():
    """A model with a table and an image: rows of the table have no channel."""
    result = run_grad(Converter(Mixed(), input_dim=[(2,), (1, 2, 2)]), [torch.ones(1, 2), torch.ones(1, 1, 2, 2)])
    frame, other = result.get_result("data.frame"), result.get_result("polars")
    assert frame["channel"].isna().sum() == 2
    assert other["channel"].null_count() == 2
    assert other["value"].to_list() == frame["value"].tolist()


class Mixed(torch.nn.Module):
    def forward(self, a, b):
        return a.sum(1, keepdim=True) + b.flatten(1).sum(1, keepdim=True)


def test_polars_is_asked_for_where_it_is_missing(x, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(ImportError, match=r"pip install \"innsight_py\[polars\]\""):
        run_grad(mlp(), x).get_result("polars")


def test_wide_has_a_row_an_instance(x):
    result = run_grad(mlp(1, input_names=["c", "a", "b"]), x, times_input=True, data_names=["u", "t", "v", "w"])
    wide = result.get_result("wide")
    assert list(wide.columns) == ["c", "a", "b"]
    assert list(wide.index) == ["u", "t", "v", "w"]
    np.testing.assert_array_equal(wide.to_numpy(), result.get_result()[..., 0])


def test_wide_has_a_column_a_node_and_feature(x):
    result = run_grad(mlp(2, output_names=["p", "o"]), x, times_input=True)
    wide = result.get_result("wide")
    assert list(wide.columns) == [(node, f"X{i}") for node in ("p", "o") for i in (1, 2, 3)]
    np.testing.assert_array_equal(wide["o"].to_numpy(), result.get_result()[..., 1])


def test_wide_of_predicted_classes_and_of_images(x):
    result = run_grad(mlp(3), x, times_input=True, target="predicted")
    np.testing.assert_array_equal(result.get_result("wide").to_numpy(), result.get_result()[..., 0])
    image = torch.rand(2, 2, 3, 4)
    result = run_grad(
        Converter(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24, 1)), input_dim=(2, 3, 4)),
        image,
        times_input=True,
    )
    wide = result.get_result("wide")
    assert wide.columns.names == ["channel", "feature", "feature_2"]
    assert wide.shape == (2, 24)
    assert wide["C2", "H3", "W1"].tolist() == result.get_result()[:, 1, 2, 0, 0].tolist()


def test_the_frame_stays_a_pandas_one(x):
    assert isinstance(run_grad(mlp(), x).get_result("wide"), pd.DataFrame)


@pytest.mark.parametrize(("name", "returned"), [("get_result", 4), ("plot", 2), ("plot_global", 2)])
def test_type_checkers_know_what_comes(name, returned):
    overloads = typing.get_overloads(getattr(Explanation, name))
    assert len({str(inspect.signature(each).return_annotation) for each in overloads}) == returned


@pytest.mark.parametrize("name", ["plot", "plot_global"])
def test_overloads_have_all_arguments(name):
    expected = set(inspect.signature(getattr(Explanation, name)).parameters)
    for each in typing.get_overloads(getattr(Explanation, name)):
        assert set(inspect.signature(each).parameters) == expected


def test_summary_puts_share_and_magnitude_first(x):
    shown = list(run_deeplift(mlp(), x).summary())
    assert shown[:4] == ["output_node", "feature", "share", "mean_abs"]


def test_the_help_sorts_by_the_value(x):
    """The example of the shell's help sorts the CSV of connection weights by its column of values."""
    ours = list(run_cw(mlp()).get_result("data.frame"))
    (number,) = re.findall(r"sort -t, -k(\d)", app.explain.__doc__)
    assert ours[int(number) - 1] == "value"
