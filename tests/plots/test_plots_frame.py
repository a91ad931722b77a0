"""What is in a picture: values, statistics, labels and limits, against R's data frames and plain loops."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from golden_zoo import ENTRIES, NOISE, UNCONNECTED, golden, run
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from result_models import IMAGE, METHODS, SIGNAL, TABLE, batch, mixed, single

from innsight_py import ConnectionWeights, Converter, Explanation, Gradient, IntegratedGradient, run_cw, run_grad
from innsight_py.inputs.described import Described
from innsight_py.inputs.ports import make_ports
from innsight_py.plots.axis import Axis
from innsight_py.plots.build import global_frame, instance_frame
from innsight_py.plots.panels import MEDIAN, QUANTILES, Bars, Boxes, Empty, Image
from innsight_py.plots.statistics import box_statistics, quantiles

# Few steps and winner-takes-all are quick and R's default: that sums are then not exact is tested in test_residual.py.
pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")


def local(result, data_idx=0, output_idx=None, output_label=None, aggr_channels="sum", same_scale=False,
          show_preds=True, image=None, max_display=None, **look):  # fmt: skip
    return instance_frame(
        result, data_idx, output_idx, output_label, aggr_channels, same_scale, show_preds, image, max_display,
        **look,
    )  # fmt: skip


def overall(result, output_idx=None, output_label=None, data_idx="all", ref_data_idx=None, aggr_channels="sum",
            preprocess_fun=abs, individual_data_idx=None, individual_max=20, max_display=None):  # fmt: skip
    return global_frame(
        result, output_idx, output_label, data_idx, ref_data_idx, aggr_channels, preprocess_fun, individual_data_idx,
        individual_max, max_display,
    )  # fmt: skip


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-12)


# -- R's data -----------------------------------------------------------------------------------------------------

FRAMES = [entry for entry in ENTRIES if golden(entry[0])["results"][entry[1]].get("data_frame")]
COMPARABLE = [entry for entry in FRAMES if entry not in UNCONNECTED and entry not in NOISE]


def r_values(frame: pd.DataFrame, panel, aggregate="sum") -> pd.Series:
    """Take the rows of R's frame that a panel shows, channels aggregated; indexed by instance and place."""
    place = panel.place
    rows = frame[
        (frame.model_input == place.input) & (frame.model_output == place.output) & (frame.output_node == place.node)
    ]
    keys = [key for key in ("data", "feature", "feature_2") if rows[key].notna().all()]
    return rows.groupby(keys, sort=False)["value"].agg(aggregate)


def r_array(series: pd.Series, panel) -> np.ndarray:
    """Bring values into the order of a panel's labels, ``(instances, *places)``."""
    shape = tuple(len(axis) for axis in panel.axes)
    instances = list(dict.fromkeys(series.index.get_level_values(0)))
    wanted = itertools.product(instances, *(axis.labels for axis in panel.axes))
    return np.array([series[key] for key in wanted]).reshape(len(instances), *shape)


def r_frame(name: str, number: int) -> pd.DataFrame:
    frame = pd.DataFrame(golden(name)["results"][number]["data_frame"])
    return frame.reindex(columns=sorted({*frame.columns, "feature", "feature_2"})).replace("NaN", np.nan)


@pytest.mark.parametrize(("name", "number"), COMPARABLE)
def test_instances_are_those_of_r(name, number):
    _, result = run(name, number)
    frame = r_frame(name, number)
    for aggregate, theirs in (("sum", "sum"), ("norm", lambda v: np.sqrt((v**2).sum())), ("mean", "mean")):
        rows = [0] if result.is_global else range(result.rows)
        ours = local(result, rows, output_idx=result.output_idx, aggr_channels=aggregate)
        for (b, n, _), panel in np.ndenumerate(ours.panels):
            expected = r_array(r_values(frame, panel, theirs if len(panel.axes) == 2 or has_channels(panel) else "sum"),
                               panel)[b]  # fmt: skip
            np.testing.assert_allclose(panel.values, expected, rtol=1e-5, atol=1e-9 * np.abs(expected).max())
            close(panel.limit, np.abs(panel.values).max())
            if ours.info[b, n].pred is not None:
                mine = frame[(frame.data == panel.place.instance) & (frame.output_node == panel.place.node)
                             & (frame.model_output == panel.place.output)]  # fmt: skip
                pred, goal = mine[["pred", "decomp_goal"]].iloc[0]
                close(ours.info[b, n].pred, pred)
                assert (ours.info[b, n].goal is not None) == result.decomposes  # R writes one above gradients as well
                if result.decomposes:
                    close(ours.info[b, n].goal, goal)
                np.testing.assert_allclose(ours.info[b, n].total, mine.groupby("model_input")["value"].sum().sum(),
                                           rtol=1e-6, atol=1e-6 * mine["value"].abs().sum())  # fmt: skip


def has_channels(panel) -> bool:
    return panel.axis.short_title == "Length"


@pytest.mark.parametrize(("name", "number"), COMPARABLE)
def test_statistics_are_those_of_r_data(name, number):
    _, result = run(name, number)
    frame = r_frame(name, number)
    frame["value"] = frame["value"].abs()
    ours = overall(result, output_idx=result.output_idx)
    for panel in ours.panels.flat:
        values = r_array(r_values(frame, panel), panel)
        tolerance = {"rtol": 1e-5, "atol": 1e-9 * np.abs(values).max()}
        if isinstance(panel, Image):
            np.testing.assert_allclose(panel.values, np.median(values, 0), **tolerance)
            np.testing.assert_allclose(panel.quantiles, np.quantile(values, QUANTILES, axis=0), **tolerance)
            continue
        boxes = panel.boxes
        np.testing.assert_allclose(panel.values, values, **tolerance)
        found = np.stack([boxes.q1, boxes.median, boxes.q3])
        np.testing.assert_allclose(found, np.quantile(values, (0.25, 0.5, 0.75), axis=0), **tolerance)


def test_there_are_frames_of_all_kinds():
    kinds = {len(dim) for name, _ in FRAMES for dim in run(name, 0)[1].converter.input_dim}
    assert kinds == {1, 2, 3}
    assert len(FRAMES) >= 20


# -- statistics ---------------------------------------------------------------------------------------------------


@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.integers(-30, 30)))
def test_box_statistics_against_loops(values):
    boxes = box_statistics(values)
    outliers = []
    for place, column in enumerate(values.T):
        series = pd.Series(column)
        q1, median, q3 = series.quantile([0.25, 0.5, 0.75])
        inside = [v for v in column if q1 - 1.5 * (q3 - q1) <= v <= q3 + 1.5 * (q3 - q1)]
        outliers += [(place + 1, v) for v in column if v not in inside]
        close([boxes.q1[place], boxes.median[place], boxes.q3[place]], [q1, median, q3])
        close([boxes.low[place], boxes.high[place]], [min([*inside, q1]), max([*inside, q3])])
    assert sorted(zip(*boxes.outliers, strict=True)) == sorted(outliers)


@given(
    arrays.arrays(
        np.float64, st.tuples(st.integers(1, 9), st.integers(1, 5)),
        elements=st.one_of(st.just(np.nan), st.floats(-1e3, 1e3)),
    )
)  # fmt: skip
def test_quantiles_leave_out_nan(values):
    expected = pd.DataFrame(values).quantile(list(QUANTILES)).to_numpy()
    np.testing.assert_allclose(quantiles(values, QUANTILES), expected, rtol=1e-9, atol=1e-9)


# -- the grid -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize(("method", "arguments"), METHODS, ids=lambda value: getattr(value, "__name__", ""))
def test_mixed_models(method, arguments, channels_first):
    converter = mixed()
    result = method(
        converter, batch(converter, 4, channels_first), output_idx=[[2, 0], [1], None], dtype="double",
        channels_first=channels_first, **arguments,
    )  # fmt: skip
    frame = local(result, [3, 1], output_idx=result.output_idx)
    assert frame.shape == (2, 3, 3)
    assert frame.nodes == ["Output_1: Y1", "Output_1: Y3", "Output_2: Y2"]
    assert frame.inputs == ["Input_1", "Input_2", "Input_3"]
    assert frame.instances == ["data_4", "data_2"]
    tensors = result.get_result()
    for (b, n, j), panel in np.ndenumerate(frame.panels):
        layer, k = [("Output_1", 1), ("Output_1", 0), ("Output_2", 0)][n]
        x = tensors[layer][f"Input_{j + 1}"][[3, 1][b], ..., k]
        assert panel.place.instance == frame.instances[b]
        assert f"{panel.place.output}: {panel.place.node}" == frame.nodes[n]
        assert panel.place.input == frame.inputs[j]
        if np.isnan(x).all():
            assert isinstance(panel, Empty)
            assert "Output_2" in panel.text
            continue
        axis = None if j == 0 else 0 if channels_first else -1
        close(panel.values, x if axis is None else x.sum(axis))
        assert isinstance(panel, Image if j == 2 else Bars)
    total = sum(tensors["Output_1"][f"Input_{j + 1}"][3, ..., 1].sum() for j in range(3))
    close(frame.info[0, 0].total, total)


@pytest.mark.parametrize("dim", [TABLE, SIGNAL, IMAGE])
def test_global_mixed_grid_and_layouts_agree(dim):
    converter = single(*dim)
    first = Gradient(converter, batch(converter, 5), output_idx=[0, 2], dtype="double")
    last = Gradient(converter, batch(converter, 5, False), output_idx=[0, 2], dtype="double", channels_first=False)
    for aggregate in ("sum", "mean", "norm", np.max, max, lambda v: float(v[0])):
        one, other = (overall(x, output_idx=[0, 2], aggr_channels=aggregate) for x in (first, last))
        for a, b in zip(one.panels.flat, other.panels.flat, strict=True):
            close(a.values, b.values)
    assert not one.has_instances
    assert one.info is None


def test_unconnected_inputs_in_global_pictures():
    converter = mixed()
    result = run_grad(converter, batch(converter, 3), output_idx=[None, [0], [0]])
    kinds = [type(panel) for panel in overall(result, output_idx=[None, [0], [0]]).panels.flat]
    assert kinds == [Boxes, Empty, Empty, Empty, Boxes, Image]


def test_default_node_is_the_first_listed():
    converter = mixed()
    result = run_grad(converter, batch(converter, 2), output_idx=[None, [1, 0], [2]])
    assert local(result).nodes == ["Output_2: Y2"]


def test_nodes_come_in_the_order_of_their_labels():
    names = pd.Categorical(["low", "high", "mid"], categories=["low", "mid", "high"])
    result = run_grad(single(3, output_names=names), np.ones((2, 3)), output_idx=[1, 2, 0])
    frame = local(result, output_idx=[1, 2, 0])
    assert frame.nodes == ["low", "mid", "high"]
    for panel, k in zip(frame.panels.flat, (2, 1, 0), strict=True):
        close(panel.values, result.get_result()[0, :, k])
    assert local(result, output_label=["high", "low"]).nodes == ["low", "high"]


def test_features_come_in_the_order_of_their_labels():
    names = pd.Categorical(["c", "a", "b"], categories=["a", "b", "c"])
    result = run_grad(single(3, input_names=names), np.ones((1, 3)))
    panel = local(result).panels[0, 0, 0]
    assert panel.axis.labels == ("a", "b", "c")
    close(panel.values, result.get_result()[0, [1, 2, 0], 0])


def test_instances_given_twice_are_drawn_once():
    result = run_grad(single(3), np.ones((3, 3)))
    assert local(result, [2, 0, 2]).instances == ["data_3", "data_1"]


def test_parts():
    converter = mixed()
    result = run_grad(converter, batch(converter, 4), output_idx=[[0, 1], None, [3]])
    frame = local(result, [0, 1, 2, 3], output_idx=[[0, 1], None, [3]])
    part = frame[1:3, [2, 0]]
    assert part.shape == (2, 2, 3)
    assert part.nodes == ["Output_3: Y4", "Output_1: Y1"]
    assert part.instances == ["data_2", "data_3"]
    assert part.panels[1, 0, 1] is frame.panels[2, 2, 1]
    assert part.info[1, 1] is frame.info[2, 0]
    assert frame[-1].shape == (1, 3, 3)
    assert frame[0, 1].shape == (1, 1, 3)
    for key in (4, (0, 3), "a", (0, 1, 2), slice(2, 2)):
        with pytest.raises(IndexError, match="got"):
            frame[key]


# -- scales -------------------------------------------------------------------------------------------------------


def test_scales_of_colours():
    converter = mixed()
    result = run_grad(converter, batch(converter, 2), times_input=True)
    for same in (False, True):
        frame = local(result, [0, 1], output_idx=[0, 1], same_scale=same)
        for row in frame.panels.reshape(-1, 3):
            own = [np.abs(panel.values).max() for panel in row]
            close([panel.limit for panel in row], [max(own)] * 3 if same else own)
            for panel in row:
                close(panel.shades, panel.values / panel.limit)


def test_medians_of_all_nodes_share_a_scale():
    converter = single(*IMAGE)
    frame = overall(run_grad(converter, batch(converter, 5)), output_idx=[0, 1, 2])
    limit = max(np.abs(panel.values).max() for panel in frame.panels.flat)
    assert {panel.limit for panel in frame.panels.flat} == {limit} == {frame.shared_limit}
    assert local(run_grad(converter, batch(converter, 5))).shared_limit is None


def test_values_that_are_no_numbers_have_no_place():
    converter = single(3)
    result = run_grad(converter, np.random.default_rng(1).normal(size=(5, 3)), times_input=True)
    result.result[0][0][0, 1] = float("inf")
    result.result[0][0][:, 2] = float("nan")
    panel = local(result).panels[0, 0, 0]
    values = result.get_result()[:, :, 0]
    assert panel.limit == abs(values[0, 0])
    assert np.isfinite(panel.value_limits).all()
    assert np.isnan(panel.shades[1:]).all()
    boxes = overall(result).panels[0, 0, 0]
    close(boxes.boxes.median, [*np.median(np.abs(values[:, :1]), 0), np.median(np.abs(values[1:, 1])), np.nan])
    assert np.isnan([boxes.boxes.low[2], boxes.boxes.high[2]]).all()
    for display in (result.plot([0, 1]), result.plot_global(ref_data_idx=0)):
        display._repr_png_()


def test_zeros_are_neutral():
    result = run_grad(single(3), np.zeros((2, 3)), times_input=True)
    panel = local(result).panels[0, 0, 0]
    assert panel.limit == 0
    assert not panel.shades.any()
    low, high = panel.value_limits
    assert low < 0 < high
    overall(result)


def test_value_axes_of_one_row_are_the_same_and_hold_all_values():
    result = run_grad(single(3), np.random.default_rng(1).normal(size=(9, 3)), times_input=True)
    frame = local(result, [0, 1], output_idx=[0, 1, 2])
    for row in frame.panels[:, :, 0]:
        assert len({panel.value_limits for panel in row}) == 1
        values = np.concatenate([panel.values for panel in row])
        low, high = row[0].value_limits
        assert low <= min(values.min(), 0)
        assert high >= max(values.max(), 0)
    assert frame.panels[0, 0, 0].value_limits != frame.panels[1, 0, 0].value_limits
    boxes = overall(result, data_idx=[1, 2, 3], ref_data_idx=8, preprocess_fun=lambda x: 100 * x).panels[0, 0, 0]
    drawn = np.concatenate([boxes.values.ravel(), boxes.marked["data_9"], [0]])
    assert boxes.value_limits[0] <= drawn.min() <= drawn.max() <= boxes.value_limits[1]


# -- choices ------------------------------------------------------------------------------------------------------


def test_marked_instances():
    result = run_grad(single(3), np.random.default_rng(1).normal(size=(30, 3)))
    values = np.abs(result.get_result()[:, :, 0])
    panel = overall(result, data_idx=[3, 4, 5, 6], ref_data_idx=9, individual_data_idx=[2, 9, 1, 0],
                    individual_max=3).panels[0, 0, 0]  # fmt: skip
    assert list(panel.marked) == ["data_10", "data_3", "data_2"]
    assert panel.reference == "data_10"
    for label, marked in panel.marked.items():
        close(marked, values[int(label[5:]) - 1])
    close(panel.values, values[3:7])
    panel = overall(result).panels[0, 0, 0]
    assert len(panel.marked) == 20
    assert panel.reference is None


def test_the_median_image_is_that_of_the_chosen_instances():
    converter = single(*IMAGE)
    result = run_grad(converter, batch(converter, 7), times_input=True)
    values = np.abs(result.get_result()[..., 0]).sum(1)
    panel = overall(result, data_idx=[0, 2, 5], ref_data_idx=6).panels[0, 0, 0]
    close(panel.values, np.median(values[[0, 2, 5]], 0))
    close(panel.quantiles[MEDIAN], panel.values)


def test_preprocessing_comes_before_channels_and_sees_the_whole_tensor():
    converter = single(*SIGNAL)
    result = run_grad(converter, batch(converter, 4), times_input=True)
    seen = []

    def normalized(x):
        seen.append(tuple(x.shape))
        return x / x.abs().max()

    panel = overall(result, data_idx=[1, 2], output_idx=[1], preprocess_fun=normalized).panels[0, 0, 0]
    x = result.get_result()
    assert seen == [x.shape]
    close(panel.values, (x / np.abs(x).max())[1:3, ..., 1].sum(1))
    for function in (lambda x: x.numpy() ** 2, np.square):
        panel = overall(result, preprocess_fun=function).panels[0, 0, 0]
        close(panel.values, (x[..., 0] ** 2).sum(1))


def test_max_display():
    names = ["a", "b", "c", "d"]
    result = run_grad(single(4, input_names=names), np.random.default_rng(3).normal(size=(6, 4)), times_input=True)
    values = result.get_result()
    frame = local(result, [0, 1], output_idx=[0, 2], max_display=2)
    order = np.argsort(-np.abs(values[:2][..., [0, 2]]).mean((0, 2)))[:2]
    for (b, n, _), panel in np.ndenumerate(frame.panels):
        assert panel.axis.labels == (*(names[i] for i in order), "2 other features")
        k = [0, 2][n]
        np.testing.assert_allclose(panel.values[:2], values[b, order, k])
        np.testing.assert_allclose(panel.values.sum(), values[b, :, k].sum(), rtol=1e-5)
    assert frame.panels[0, 0, 0].axis.title == "Feature"
    panel = overall(result, max_display=3, ref_data_idx=0).panels[0, 0, 0]
    order = np.argsort(-np.abs(values[..., 0]).mean(0))[:3]
    close(panel.values, np.abs(values[:, order, 0]))
    close(panel.marked["data_1"], np.abs(values[0, order, 0]))
    assert local(result, max_display=9).panels[0, 0, 0].axis.title == "Feature"


def test_connection_weights():
    result = run_cw(single(3))
    frame = local(result)
    assert not frame.has_instances
    assert frame.info[0, 0].lines == [("Sum", f"{result.get_result()[0, :, 0].sum():.4g}")]
    assert frame.value_name == "Relative Importance"
    with pytest.warns(UserWarning, match="data_idx"):
        close(local(result, [1, 2]).panels[0, 0, 0].values, frame.panels[0, 0, 0].values)
    result = ConnectionWeights(single(3), np.ones((2, 3)), times_input=True)
    frame = local(result, [0, 1])
    assert frame.instances == ["data_1", "data_2"]
    assert frame.has_instances


@pytest.mark.parametrize(
    ("name", "arguments", "value_name"),
    [
        ("Gradient", {}, "Gradient"),
        ("Gradient", {"times_input": True}, "Relevance"),
        ("SmoothGrad", {"n": 2}, "Gradient"),
        ("IntegratedGradient", {}, "Relevance"),
        ("IntegratedGradient", {"times_input": False}, "Gradient"),
        ("ExpectedGradient", {}, "Relevance"),
        ("LRP", {}, "Relevance"),
        ("DeepLift", {}, "Contribution"),
        ("DeepSHAP", {}, "Contribution"),
    ],
)
def test_value_names(name, arguments, value_name):
    import innsight_py

    result = getattr(innsight_py, name)(single(3), np.ones((1, 3)), **arguments)
    assert local(result).panels[0, 0, 0].value_name == value_name


# -- images behind ------------------------------------------------------------------------------------------------


def test_backgrounds():
    converter = single(*IMAGE)
    data = batch(converter, 3)
    result = run_grad(converter, data)
    own = local(result, [2], image=True).panels[0, 0, 0].background
    mean = data[0][2].astype(np.float32).mean(0)
    np.testing.assert_allclose(own, (mean - mean.min()) / (mean.max() - mean.min()), atol=1e-6)
    photo = np.random.default_rng(0).integers(0, 256, (3, 3, 2), dtype=np.uint8)
    expected = (photo * np.array([0.299, 0.587, 0.114]).reshape(3, 1, 1)).sum(0) / 255
    for image in (photo, np.moveaxis(photo, 0, -1)[None], torch.from_numpy(photo), np.stack([photo] * 3)):
        if np.shape(image)[-1] == 3:
            image = np.moveaxis(np.asarray(image), -1, 1)
        close(local(result, [1], image=image).panels[0, 0, 0].background, expected)
    close(local(result, image=mean * 0 + 0.25).panels[0, 0, 0].background, np.full((3, 2), 0.25))
    assert local(result).panels[0, 0, 0].background is None
    with pytest.raises(ValueError, match="'image': expected the shape"):
        local(result, image=np.ones((5, 5)))
    with pytest.raises(ValueError, match="3 of them"):
        local(result, image=np.ones((2, 2, 3, 2)))
    with pytest.raises(ValueError, match="no image"):
        local(run_grad(single(3), np.ones((1, 3))), image=True)
    several = mixed()
    result = run_grad(several, batch(several, 2), output_idx=[0])
    frame = local(result, [0, 1], image=[None, None, np.ones((3, 2))])
    assert frame.panels[1, 0, 2].background.shape == (3, 2)
    with pytest.raises(ValueError, match="no image"):
        local(result, image=[np.ones((2, 3)), None, None])


# -- words --------------------------------------------------------------------------------------------------------


def test_hover_texts():
    converter = mixed(output_names=[["a", "b", "c"], ["d", "e"], ["f", "g", "h", "<i>"]])
    result = run_grad(converter, batch(converter, 2), output_idx=[[0], None, [3]], times_input=True, dtype="double")
    frame = local(result, [1], output_idx=[None, None, [3]])
    panel = frame.panels[0, 0, 2]
    texts = panel.hover_texts()
    assert texts.shape == (3, 2)
    value = f"{panel.values[2, 0]:.4g}"
    assert texts[2, 0] == f"<b>Relevance</b>: {value}<br>Input: Input_3<br>Height: H3<br>Width: W1"
    assert panel.place.text == "data_2<br>Output_3<br>&lt;i&gt;"
    assert panel.hover_text("v", "y", "x") == "<b>Relevance</b>: v<br>Input: Input_3<br>Height: y<br>Width: x"
    assert frame.panels[0, 0, 1].hover_texts()[1].endswith("<br>Input: Input_2<br>Length: L2")
    boxes = overall(result).panels[0, 0, 0]
    assert boxes.hover_texts()[0] == f"<b>|Relevance|</b>: {boxes.boxes.median[0]:.4g}<br>Input: Input_1<br>Feature: X1"
    assert boxes.hover_texts(boxes.values).shape == (2, 3)


def test_info_lines():
    result = IntegratedGradient(single(3, nodes=1), np.ones((1, 3)), dtype="double")
    info = local(result).info[0, 0]
    total = result.get_result().sum()
    assert info.lines == [
        ("Pred.", f"{float(result.preds[0]):.4g}"), ("Sum", f"{total:.4g}"),
        ("Goal", f"{float(result.decomp_goal[0]):.4g}"),
    ]  # fmt: skip
    assert local(result, show_preds=False).info is None


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 25), st.floats(0.5, 20))
def test_ticks_do_not_overlap(lengths, times, inches):
    labels = ["x" * length for length in lengths] * times
    axis = Axis("Feature", "Feature", tuple(labels), named=True)
    ticks = axis.ticks(inches)
    assert 0 < len(ticks.positions) == len(ticks.labels) <= len(labels)
    room = inches / len(labels)
    needed = {0: max(len(label) for label in ticks.labels) * 0.07, 45: 0.15, 90: 0.11}[ticks.rotation]
    for one, next_one in itertools.pairwise(ticks.positions):
        assert (next_one - one) * room >= needed
    assert all(len(label) <= 28 for label in ticks.labels)


def test_sizes_grow_with_what_is_in_a_panel():
    def width(*dim, **keys):
        converter = single(*dim, **keys)
        return local(run_grad(converter, batch(converter, 1)), **upright(dim)).widths[0]

    def upright(dim):
        return {"orientation": "vertical"} if len(dim) == 1 else {}

    assert width(3) < width(100) < 30
    assert width(3) < width(3, input_names=["a name of some length here"] * 2 + ["another"]) <= 14
    assert width(1, 10) < width(1, 1000) <= 8
    wide = single(100, nodes=10)
    result = run_grad(wide, np.ones((2, 100)))
    frame = local(result, output_idx=list(range(10)), orientation="vertical")
    assert frame.lines == [[k] for k in range(10)]  # each as wide as a page
    assert frame.heights == [2.2]
    assert frame.widths[0] > 12
    assert local(result, [0, 1], output_idx=list(range(10)), orientation="vertical").lines == frame.lines
    narrow = single(3, nodes=10)
    frame = local(run_grad(narrow, np.ones((1, 3))), output_idx=list(range(10)))
    assert [len(line) for line in frame.lines] == [5, 5]
    tables = [
        {"type": "Dense", "weight": np.ones((1, 100)), "inputs": [f"input_{j + 1}"], "name": f"d{j}"} for j in range(3)
    ]
    three = Converter({"input_dim": [(100,)] * 3, "layers": [*tables, {"type": "Add", "inputs": ["d0", "d1", "d2"]}]})
    assert sum(local(run_grad(three, [np.ones((1, 100))] * 3), orientation="vertical").widths) == pytest.approx(30)


# -- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"data_idx": 3}, ValueError, "'data_idx': there are the instances 0 to 2, got 3"),
        ({"data_idx": -1}, ValueError, "'data_idx'"),
        ({"data_idx": []}, ValueError, "'data_idx': expected at least one"),
        ({"data_idx": "all"}, TypeError, "'data_idx'"),
        ({"data_idx": 1.5}, TypeError, "'data_idx'"),
        ({"data_idx": [True]}, TypeError, "'data_idx'"),
        ({"output_idx": 2}, ValueError, r"'output_idx': node 2 \('Y3'\) of output layer 1 was not explained"),
        ({"output_idx": 3}, ValueError, "'output_idx'"),
        ({"output_label": "Y3"}, ValueError, "'output_label': node 2"),
        ({"output_label": "Z"}, ValueError, "'output_label'"),
        ({"aggr_channels": "max"}, ValueError, "'aggr_channels'"),
        ({"aggr_channels": 3}, TypeError, "'aggr_channels'"),
    ],
)
def test_refusals(arguments, error, match):
    result = run_grad(single(3), np.ones((3, 3)), output_idx=[0, 1])
    with pytest.raises(error, match=match):
        local(result, **arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"ref_data_idx": 3}, ValueError, "'ref_data_idx'"),
        ({"ref_data_idx": [0]}, TypeError, "'ref_data_idx'"),
        ({"individual_data_idx": [0, 7]}, ValueError, "'individual_data_idx'"),
        ({"preprocess_fun": lambda x: x.sum()}, ValueError, "'preprocess_fun'"),
        ({"aggr_channels": lambda v: v}, ValueError, "'aggr_channels'"),
        ({"data_idx": "every"}, TypeError, "'data_idx'"),
    ],
)
def test_refusals_of_global_pictures(arguments, error, match):
    converter = single(*SIGNAL)
    with pytest.raises(error, match=match):
        overall(run_grad(converter, batch(converter, 3)), **arguments)


def test_both_choices_of_nodes():
    result = run_grad(single(3), np.ones((1, 3)))
    with pytest.warns(UserWarning, match="'output_idx' is used"):
        assert local(result, output_idx=1, output_label="Y1").nodes == ["Y2"]


def test_inputs_with_three_axes_are_refused():
    layers = [{"type": "Flatten"}, {"type": "Dense", "weight": np.ones((1, 16))}]
    try:
        converter = Converter({"input_dim": [2, 2, 2, 2], "layers": layers})
    except ValueError:
        pytest.skip("such inputs are not converted")
    result = run_grad(converter, np.ones((1, 2, 2, 2, 2)))
    with pytest.raises(ValueError, match="3 axes"):
        local(result)


# -- size of the work ---------------------------------------------------------------------------------------------


def test_global_pictures_do_not_copy_the_result():
    converter = single(2, 48, 48, nodes=12)
    result = run_grad(converter, batch(converter, 150), output_idx=range(12))
    whole = result.get_result().nbytes
    tracemalloc.start()
    overall(result, output_idx=range(12))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < whole / 4  # a node at a time


def test_any_object_with_the_attributes_can_be_drawn():
    """What a method must have: nothing but the attributes of `Explanation`."""

    class Shapes(Described):
        inputs = make_ports(["input_1"], [(2, 3)], [[["C1", "C2"], ["L1", "L2", "L3"]]])
        outputs = make_ports(["output_1"], [(4,)], [[list("abcd")]])
        channels_first = True

    class Mine(Explanation):
        title = "Mine"
        value_name = "Weight"
        described = Shapes()
        result = [[torch.arange(24.0).reshape(2, 2, 3, 2)]]  # noqa: RUF012
        preds, decomp_goal = [torch.tensor([[0.1, 0.2], [0.3, 0.4]])], None
        output_idx, output_label = [[3, 1]], [["d", "b"]]
        channels_first, dtype, data = True, "float", []

    mine = Mine()
    frame = local(mine, [1, 0], output_idx=[1, 3])
    assert frame.nodes == ["b", "d"]
    close(frame.panels[0, 0, 0].values, mine.result[0][0][1, :, :, 1].sum(0))
    assert frame.info[0, 0].lines == [("Pred.", "0.4"), ("Sum", f"{float(mine.result[0][0][1, ..., 1].sum()):.4g}")]
    assert overall(mine).panels[0, 0, 0].value_name == "|Weight|"
    assert list(mine.summary(1)["feature"]) == ["L3", "L3"]
    assert mine.get_result("xarray").dims == ("data", "channel", "feature", "output_node")
    assert mine.get_result("data.frame").shape[0] == 24
