"""The forms of a result: nesting, layouts, and frames against an independent one written with plain loops."""

from __future__ import annotations

import itertools
import math
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from result_models import IMAGE, METHODS, SIGNAL, TABLE, batch, head, mixed, single

from innsight_py import (
    LRP,
    ConnectionWeights,
    Converter,
    DeepLift,
    DeepSHAP,
    ExpectedGradient,
    Gradient,
    IntegratedGradient,
)

# Few steps and winner-takes-all are quick and R's default: that sums are then not exact is tested in test_residual.py.
pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")

COLUMNS = [
    "data", "model_input", "model_output", "feature", "feature_2", "channel", "output_node", "value", "pred",
    "decomp_sum", "decomp_goal", "input_dimension", "residual",
]  # fmt: skip


def run(method, converter: Converter, rows: int = 2, channels_first: bool = True, **arguments):
    data = batch(converter, rows, channels_first)
    return method(converter, data, channels_first=channels_first, dtype="double", **arguments)


REACHES = [[True, True, True], [True, False, False], [False, True, True]]


# -- an independent frame ---------------------------------------------------------------------------------------


def slow_frame(method) -> dict[str, list]:
    """Write every column by loops over outputs, inputs and then, slowest first, node, width, height, channel, row."""
    converter, rows = method.converter, method.data[0].shape[0] if method.data else 1
    columns: dict[str, list] = {name: [] for name in COLUMNS}
    for i, pairs in enumerate(method.result):
        if pairs is None:
            continue
        for j, tensor in enumerate(pairs):
            dim, names = converter.input_dim[j], converter.input_names[j]
            channels, height, width = (1, dim[0], 1) if len(dim) == 1 else (*dim, 1)[:3]
            sums: dict[tuple[int, int], float] = {}
            for k, node in enumerate(method.output_idx[i]):
                for w, h, c, b in itertools.product(range(width), range(height), range(channels), range(rows)):
                    place = {1: (h,), 2: (c, h), 3: (c, h, w)}[len(dim)]
                    if not method.channels_first and len(dim) > 1:
                        place = (*place[1:], place[0])
                    value = float("nan") if tensor is None else float(tensor[(b, *place, k)])
                    sums[b, k] = sums.get((b, k), 0.0) + value
                    columns["data"].append(f"data_{b + 1}")
                    columns["model_input"].append(f"Input_{j + 1}")
                    columns["model_output"].append(f"Output_{i + 1}")
                    columns["feature"].append(names[0][h] if len(dim) == 1 else names[1][h])
                    columns["feature_2"].append(names[2][w] if len(dim) == 3 else None)
                    columns["channel"].append(names[0][c] if len(dim) > 1 else None)
                    columns["output_node"].append(converter.output_names[i][0][node])
                    columns["value"].append(value)
                    columns["pred"].append(float(method.preds[i][b, k]) if method.preds else float("nan"))
                    columns["decomp_goal"].append(
                        float(method.decomp_goal[i][b, k]) if method.decomp_goal else float("nan")
                    )
                    columns["input_dimension"].append(len(dim))
                    columns["residual"].append(missing(method, i, b, k))
            for k, _w, _h, _c, b in itertools.product(
                range(len(method.output_idx[i])), range(width), range(height), range(channels), range(rows)
            ):
                columns["decomp_sum"].append(sums[b, k])
    for name in ("feature_2", "channel"):
        if all(label is None for label in columns[name]):
            del columns[name]
    return columns


def missing(method, i: int, b: int, k: int) -> float:
    """Sum over all features of all inputs, and see what it misses of the goal."""
    decomposing = (DeepLift, DeepSHAP, LRP, ExpectedGradient)
    if not isinstance(method, decomposing) and not (
        isinstance(method, Gradient | IntegratedGradient) and method.times_input
    ):
        return float("nan")
    total = math.fsum(value for x in method.result[i] if x is not None for value in x[b, ..., k].flatten().tolist())
    return float(method.decomp_goal[i][b, k]) - total


def check_frame(method) -> pd.DataFrame:
    frame, expected = method.get_result("data.frame"), slow_frame(method)
    assert list(frame.columns) == list(expected)
    for name, values in expected.items():
        if name in ("value", "pred", "decomp_sum", "decomp_goal", "residual"):
            np.testing.assert_allclose(frame[name].to_numpy(np.float64), values, rtol=1e-12, atol=1e-12, err_msg=name)
        elif name == "input_dimension":
            assert frame[name].tolist() == values
        else:
            assert [None if pd.isna(label) else label for label in frame[name]] == values, name
    assert list(frame.index) == list(range(len(frame)))
    return frame


@pytest.mark.parametrize(("method", "arguments"), METHODS, ids=lambda v: getattr(v, "__name__", ""))
@pytest.mark.parametrize("dim", [TABLE, SIGNAL, IMAGE, (1, 4), (3, 1, 2)])
@pytest.mark.parametrize("channels_first", [True, False])
def test_frame_of_one_input(method, arguments, dim, channels_first):
    frame = check_frame(run(method, single(*dim), 3, channels_first, output_idx=[2, 0], **arguments))
    assert len(frame) == 3 * math.prod(dim) * 2
    assert set(COLUMNS) - set(frame.columns) == {1: {"feature_2", "channel"}, 2: {"feature_2"}, 3: set()}[len(dim)]


@pytest.mark.parametrize(("method", "arguments"), METHODS, ids=lambda v: getattr(v, "__name__", ""))
@pytest.mark.parametrize("channels_first", [True, False])
def test_frame_of_several_inputs_and_outputs(method, arguments, channels_first):
    """Unselected layers before selected ones, unsorted nodes, and pairs that are not connected."""
    for output_idx in ([[2, 0], [1], [3]], [None, [1, 0], None], [None, None, [2]]):
        check_frame(run(method, mixed(), 2, channels_first, output_idx=output_idx, **arguments))


@pytest.mark.parametrize("dims", [[TABLE, (2,)], [TABLE, SIGNAL], [SIGNAL, IMAGE], [IMAGE, TABLE]])
def test_columns_of_mixed_inputs(dims):
    """A column that some input has is there for all, empty for the others."""
    layers = [layer for i, dim in enumerate(dims, 1) for layer in head(f"input_{i}", math.prod(dim), 2, f"part_{i}")]
    merge = {"type": "Add", "inputs": ["part_1", "part_2"]}
    frame = check_frame(run(Gradient, Converter({"input_dim": dims, "layers": [*layers, merge]}, dtype="double")))
    rank = max(len(dim) for dim in dims)
    assert ("channel" in frame) == (rank > 1)
    assert ("feature_2" in frame) == (rank > 2)


@pytest.mark.parametrize("dim", [TABLE, SIGNAL, IMAGE, (2, 2, 3, 2)])
def test_every_row_has_labels_of_its_own(dim):
    """Also for volumes, which R does not have: no two values may look the same."""
    frame = run(Gradient, single(*dim), output_idx=[0, 1]).get_result("data.frame")
    numbers = ["value", "pred", "decomp_sum", "decomp_goal", "input_dimension"]
    assert not frame.drop(columns=numbers).duplicated().any()


def test_global_connection_weights():
    """One row of data, no predictions and no goal."""
    method = ConnectionWeights(mixed(), output_idx=[[0], None, [1, 2]], dtype="double")
    frame = check_frame(method)
    assert set(frame["data"]) == {"data_1"}
    assert frame[["pred", "decomp_goal"]].isna().all(axis=None)
    assert len(frame) == (3 + 8 + 12) * 3


@settings(max_examples=40)
@given(st.data())
def test_frame_of_any_shape(data):
    dims = data.draw(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=1, max_size=3))
    nodes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    layers, used = [], [data.draw(st.sets(st.integers(1, len(dims)), min_size=1)) for _ in nodes]
    used[0] = used[0] | set(range(1, len(dims) + 1)) - set().union(*used)  # each input reaches something
    for o, (n, inputs) in enumerate(zip(nodes, used, strict=True), 1):
        names = [f"part_{o}_{i}" for i in inputs]
        for i, name in zip(inputs, names, strict=True):
            layers += head(f"input_{i}", math.prod(dims[i - 1]), n, name)
        layers.append({"type": "Add", "inputs": names, "name": f"out_{o}"})
    spec = {"input_dim": dims, "layers": layers, "outputs": [f"out_{o}" for o in range(1, len(nodes) + 1)]}
    chosen = [data.draw(st.none() | st.permutations(range(n)).map(lambda p: p[: max(1, len(p) - 1)])) for n in nodes]
    if all(entry is None for entry in chosen):
        chosen[0] = [0]
    method = run(
        data.draw(st.sampled_from([Gradient, DeepLift, LRP])), Converter(spec, dtype="double"),
        data.draw(st.integers(1, 3)), data.draw(st.booleans()), output_idx=chosen,
    )  # fmt: skip
    check_frame(method)
    for i, inputs in enumerate(used):
        if chosen[i] is not None:
            assert [x is not None for x in method.result[i]] == [j + 1 in inputs for j in range(len(dims))]


# -- categories and dtypes --------------------------------------------------------------------------------------


def test_categories():
    frame = run(Gradient, mixed(), 12, output_idx=[None, [1], [3, 0]]).get_result("data.frame")
    for column in ("data", "model_output", "feature", "feature_2", "channel", "output_node"):
        assert isinstance(frame[column].dtype, pd.CategoricalDtype), column
    # in the order of rows, not of the alphabet
    assert list(frame["data"].cat.categories) == [f"data_{i + 1}" for i in range(12)]
    assert list(frame["model_output"].cat.categories) == ["Output_1", "Output_2", "Output_3"]  # all, selected or not
    assert set(frame["model_output"]) == {"Output_2", "Output_3"}
    assert sorted(set(frame["model_input"])) == ["Input_1", "Input_2", "Input_3"]
    assert list(frame["output_node"].cat.categories) == ["Y1", "Y2", "Y3", "Y4"]
    assert list(frame["channel"].cat.categories) == ["C1", "C2"]
    assert list(frame["feature_2"].cat.categories) == ["W1", "W2"]
    assert list(frame["feature"].cat.categories) == [
        "X1", "X2", "X3", "L1", "L2", "L3", "L4", "H1", "H2", "H3"
    ]  # fmt: skip


@pytest.mark.parametrize("nodes", [[0], [2, 1], [1, 0, 2]])
def test_all_nodes_of_a_layer_are_categories(nodes):
    """Also those that are not explained, in the order of the names: plots order their facets by it."""
    converter = single(*TABLE, output_names=["virginica", "setosa", "versicolor"])
    frame = run(Gradient, converter, output_idx=nodes).get_result("data.frame")
    assert list(frame["output_node"].cat.categories) == ["virginica", "setosa", "versicolor"]
    assert list(frame["output_node"].cat.codes[:: 2 * 3]) == nodes


@pytest.mark.parametrize("dtype", ["float", "double"])
def test_dtypes_of_columns(dtype):
    method = Gradient(mixed(), batch(mixed(), 2), dtype=dtype)
    frame = method.get_result("data.frame")
    for column in ("value", "pred", "decomp_sum", "decomp_goal", "residual"):
        assert frame[column].dtype.kind == "f", column
    assert frame["input_dimension"].dtype.kind in "iu"
    assert method.get_result("array")["Input_1"].dtype == {"float": np.float32, "double": np.float64}[dtype]
    assert (
        method.get_result("torch_tensor")["Input_1"].dtype == {"float": torch.float32, "double": torch.float64}[dtype]
    )


# -- nesting ----------------------------------------------------------------------------------------------------


def skeleton(value):
    return {key: skeleton(entry) for key, entry in value.items()} if isinstance(value, dict) else None


@pytest.mark.parametrize("kind", ["array", "torch_tensor"])
@pytest.mark.parametrize("inputs", [1, 2])
@pytest.mark.parametrize(
    ("outputs", "output_idx", "kept"),
    [
        (1, None, []),
        (1, [[0, 1]], []),
        (2, None, []),  # the first layer alone is selected
        (2, [0], []),
        (2, [None, [1]], []),
        (2, [[0], [1]], ["Output_1", "Output_2"]),
        (3, [None, [0], None], []),
        (3, [[0], None, [1, 0]], ["Output_1", "Output_3"]),
    ],
)
def test_nesting(kind, inputs, outputs, output_idx, kept):
    """Arrays and tensors nest alike: the outer level goes iff one output layer is selected (quirk Q32 is mended)."""
    layers = [layer for i in range(inputs) for layer in head(f"input_{i + 1}", 3, 2, f"part_{i}")]
    layers.append({"type": "Add", "inputs": [f"part_{i}" for i in range(inputs)], "name": "sum"})
    layers += [layer for o in range(outputs) for layer in head("sum", 2, 2, f"out_{o}")]
    names = [f"out_{o}" for o in range(outputs)]
    converter = Converter({"input_dim": [TABLE] * inputs, "layers": layers, "outputs": names}, dtype="double")
    method = run(Gradient, converter, output_idx=output_idx)
    found = method.get_result(kind)
    inner = None if inputs == 1 else {f"Input_{j + 1}": None for j in range(inputs)}
    assert skeleton(found) == (dict.fromkeys(kept, inner) if kept else inner)
    for i, row in enumerate(method.result):
        if row is None:
            continue
        for j, tensor in enumerate(row):
            entry = found[f"Output_{i + 1}"] if kept else found
            entry = entry if inputs == 1 else entry[f"Input_{j + 1}"]
            assert type(entry) is (np.ndarray if kind == "array" else torch.Tensor)
            np.testing.assert_array_equal(np.asarray(entry), tensor.numpy())


def test_array_is_the_default():
    method = run(Gradient, single(*TABLE))
    assert type(method.get_result()) is np.ndarray
    np.testing.assert_array_equal(method.get_result(), method.get_result(type="array"))


@pytest.mark.parametrize(("method", "arguments"), METHODS, ids=lambda v: getattr(v, "__name__", ""))
@pytest.mark.parametrize(
    "output_idx", [[[0, 2], [1], [3, 1, 0]], [None, [0, 1], None], [None, None, [2]], [[1], None, [0]]]
)
def test_unselected_and_unreached(method, arguments, output_idx):
    """None in fields and tensors, NaN of the full shape in arrays and frames; never 0, which would be an answer."""
    found = run(method, mixed(), 2, output_idx=output_idx, **arguments)
    selected = [i for i, nodes in enumerate(output_idx) if nodes is not None]
    arrays, tensors = found.get_result(), found.get_result("torch_tensor")
    frame = found.get_result("data.frame")
    for i, nodes in enumerate(output_idx):
        if nodes is None:
            assert found.result[i] is None
            for field in ("preds", "decomp_goal"):
                assert (getattr(found, field) or [None] * 3)[i] is None
            assert f"Output_{i + 1}" not in set(frame["model_output"])
            continue
        for j, dim in enumerate(found.converter.input_dim):
            array, tensor = (x[f"Output_{i + 1}"] if len(selected) > 1 else x for x in (arrays, tensors))
            array, tensor = array[f"Input_{j + 1}"], tensor[f"Input_{j + 1}"]
            block = frame[(frame["model_output"] == f"Output_{i + 1}") & (frame["model_input"] == f"Input_{j + 1}")]
            assert array.shape == (2, *dim, len(nodes))
            assert len(block) == array.size
            if REACHES[i][j]:
                assert found.result[i][j] is tensor
                assert np.isfinite(array).all()
            else:
                assert found.result[i][j] is None
                assert tensor is None
                assert np.isnan(array).all()
                assert block[["value", "decomp_sum"]].isna().all(axis=None)
            if method is not ConnectionWeights:
                assert block[["pred", "decomp_goal"]].notna().all(axis=None)
                assert found.preds[i].shape == found.decomp_goal[i].shape == (2, len(nodes))


@pytest.mark.parametrize("channels_first", [True, False])
def test_nan_arrays_have_the_layout_of_the_data(channels_first):
    found = run(Gradient, mixed(), 2, channels_first, output_idx=[None, [0, 1], None]).get_result()
    assert np.isnan(found["Input_3"]).all()
    assert found["Input_3"].shape == ((2, 2, 3, 2, 2) if channels_first else (2, 3, 2, 2, 2))
    assert found["Input_2"].shape == ((2, 2, 4, 2) if channels_first else (2, 4, 2, 2))


@pytest.mark.parametrize(("method", "arguments"), METHODS, ids=lambda v: getattr(v, "__name__", ""))
def test_layouts_hold_the_same_numbers(method, arguments):
    """Random draws follow the model's layout, not the user's: noise is the same for both."""
    one, other = (
        run(method, mixed(), 3, first, output_idx=[[1, 0], None, [2]], **arguments) for first in (True, False)
    )
    for i in (0, 2):
        for j in range(3):
            a, b = one.result[i][j], other.result[i][j]
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(b if j == 0 else b.movedim(-2, 1), a, rtol=1e-12, atol=1e-14)
    frames = [method.get_result("data.frame") for method in (one, other)]
    pd.testing.assert_frame_equal(*frames, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["frame", "dataframe", "data_frame", "Array", "", "tensor"])
def test_unknown_forms(kind):
    with pytest.raises(ValueError, match=r"'type'.*array, data\.frame, polars, torch_tensor, wide"):
        run(Gradient, single(*TABLE)).get_result(kind)


@pytest.mark.parametrize("kind", [None, 5, ["array"], np.ndarray])
def test_forms_of_the_wrong_kind(kind):
    with pytest.raises(TypeError, match="'type'"):
        run(Gradient, single(*TABLE)).get_result(kind)


def test_a_result_may_be_read_after_its_names_were_changed():
    """Penguin vignette: names are fields of the converter, and what is edited there is what frames show."""
    converter = single(*SIGNAL, nodes=2)
    method = run(Gradient, converter, output_idx=[1, 0])
    before = method.get_result("data.frame")
    converter.input_names = [[["red", "green"], ["t1", "t2", "t3", "t4"]]]
    converter.output_names = [[pd.Categorical(["no", "yes"], categories=["yes", "no"])]]
    after = check_frame(method)
    assert set(after["channel"]) == {"red", "green"}
    assert list(after["output_node"].cat.categories) == ["yes", "no"]
    assert after["output_node"].iloc[0] == "yes"
    pd.testing.assert_series_equal(after["value"], before["value"])
    converter.input_names[0][1][0] = "start"
    assert set(check_frame(method)["feature"]) == {"start", "t2", "t3", "t4"}


def test_a_result_may_be_changed():
    """A result's tensors are the user's to edit (penguin vignette); every form shows the edit."""
    method = run(Gradient, single(*TABLE), 2)
    method.result[0][0] = method.result[0][0] * 0 + 7
    assert (method.get_result() == 7).all()
    assert (method.get_result("data.frame")["value"] == 7).all()
    np.testing.assert_allclose(method.get_result("data.frame")["decomp_sum"], 21)


# -- size -------------------------------------------------------------------------------------------------------


def test_a_million_rows():
    """The frame is built column by column: what Python itself does may grow with the labels, not with the rows."""
    rows, features = 1000, 1000
    converter = single(features, nodes=2)
    x = np.random.default_rng(0).normal(size=(rows, features))
    method = Gradient(converter, x, times_input=True, output_idx=[1], dtype="double")
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        frame = method.get_result("data.frame")
    finally:
        sys.setprofile(None)
    assert len(frame) == rows * features
    assert calls < 50 * (rows + features)
    values, sums = method.result[0][0][..., 0], method.result[0][0].sum(1)
    for row in np.random.default_rng(1).integers(0, len(frame), 50):
        feature, instance = divmod(int(row), rows)
        found = frame.iloc[row]
        assert (found["data"], found["feature"]) == (f"data_{instance + 1}", f"X{feature + 1}")
        assert found["value"] == values[instance, feature].item()
        assert found["decomp_sum"] == pytest.approx(sums[instance, 0].item(), rel=1e-12)
        assert found["pred"] == method.preds[0][instance, 0].item()
        assert found["decomp_goal"] == method.decomp_goal[0][instance, 0].item()
        assert found["output_node"] == "Y2"
