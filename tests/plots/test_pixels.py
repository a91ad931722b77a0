"""Images with a clipped scale and smoothed pixels; both are left alone where nobody asks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from result_models import IMAGE, TABLE, batch, single
from text_results import result_of

from innsight_py import run_grad
from innsight_py.inputs.ports import Port
from innsight_py.plots.panels import Bars
from innsight_py.plots.pixels import smoothed


def image_result(values: np.ndarray):
    height, width = values.shape[1:]
    names = [["C1"], [f"H{i}" for i in range(height)], [f"W{i}" for i in range(width)]]
    port = Port("photo", (1, height, width), names, "image")
    tensor = values[:, None, :, :, None]
    return result_of([port], [torch.zeros(len(values), 1, height, width)], [tensor], ["out"])


def drawn(p):
    return p.axes[0, 0, 0].get_images()[-1]


@pytest.fixture
def spotted():
    values = np.random.default_rng(1).normal(size=(1, 20, 30))
    values[0, 3, 4] = 1000.0
    return values


def test_a_few_pixels_leave_the_others_visible(spotted):
    result = image_result(spotted)
    plain, clipped = result.plot(), result.plot(clip=0.99)
    assert plain.frame.panels[0, 0, 0].limit == 1000
    limit = clipped.frame.panels[0, 0, 0].limit
    assert limit == np.quantile(np.abs(spotted), 0.99) < 4
    assert drawn(clipped).get_clim() == (-limit, limit)
    np.testing.assert_array_equal(drawn(clipped).get_array(), spotted[0])  # the values stay what they are
    rgba = drawn(clipped).to_rgba(drawn(clipped).get_array())
    np.testing.assert_allclose(rgba[3, 4], [1, 0, 0, 1])


def test_the_scale_says_so(spotted):
    result = image_result(spotted)
    titles = []
    for keys in ({}, {"clip": 0.95}, {"smooth": 1.5}, {"clip": 0.95, "smooth": 2}):
        p = result.plot(**keys)
        (bar,) = (child for child in p.axes[0, 0, 0].child_axes if child.get_label() == "colour bar")
        titles.append(bar.get_ylabel())
        assert p.frame.panels[0, 0, 0].scale_title == bar.get_ylabel()
    assert titles == [
        "Contribution",
        "Contribution\n(clipped at 95 %)",
        "Contribution\n(smoothed by 1.5 px)",
        "Contribution\n(clipped at 95 %, smoothed by 2 px)",
    ]


def test_plotly_has_the_same_scale(spotted):
    figure = image_result(spotted).plot(clip=0.9, as_plotly=True).figure
    limit = np.quantile(np.abs(spotted), 0.9)
    assert (figure.data[0].zmin, figure.data[0].zmax) == (-limit, limit)
    assert (figure.layout.coloraxis2.cmin, figure.layout.coloraxis2.cmax) == (-limit, limit)


def test_zeros_do_not_blind_a_scale():
    values = np.zeros((1, 10, 10))
    values[0, 0, 0] = 3.0
    assert image_result(values).plot(clip=0.5).frame.panels[0, 0, 0].limit == 3
    assert image_result(values * 0).plot(clip=0.5).frame.panels[0, 0, 0].limit == 0


@pytest.mark.parametrize("deviation", [0.5, 1.0, 2.5, 9.0])
@pytest.mark.parametrize("shape", [(1, 1), (5, 8), (31, 7)])
def test_smoothing_is_that_of_scipy(deviation, shape):
    ndimage = pytest.importorskip("scipy.ndimage")
    values = np.random.default_rng(1).normal(size=(2, *shape))
    expected = ndimage.gaussian_filter(values, (0, deviation, deviation), mode="reflect", truncate=3.0)
    np.testing.assert_allclose(smoothed(values, deviation), expected, atol=1e-12)


def test_smoothing_keeps_the_sum_and_gaps(spotted):
    p = image_result(spotted).plot(smooth=2.0)
    panel = p.frame.panels[0, 0, 0]
    np.testing.assert_allclose(panel.values.sum(), spotted.sum())
    assert panel.limit == np.abs(panel.values).max() < 100
    spotted[0, 0, 0] = np.nan
    found = smoothed(spotted, 2.0)
    assert np.argwhere(np.isnan(found)).tolist() == [[0, 0, 0]]


def test_nothing_changes_unless_asked():
    converter = single(*IMAGE)
    result = run_grad(converter, batch(converter, 2))
    panel = result.plot(1).frame.panels[0, 0, 0]
    expected = result.get_result()[1, ..., 0].sum(0)
    np.testing.assert_array_equal(panel.values, expected)
    assert panel.limit == np.abs(expected).max()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"clip": 0}, "Argument 'clip': expected a number from above 0 up to 1"),
        ({"clip": 99}, "got 99"),
        ({"clip": float("nan")}, "got nan"),
        ({"smooth": -1.0}, "Argument 'smooth': expected a number of pixels, above 0"),
        ({"smooth": float("inf")}, "got inf"),
    ],
)
def test_numbers_out_of_range_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        image_result(np.ones((1, 2, 2))).plot(**keys)


@pytest.mark.parametrize("keys", [{"clip": "0.99"}, {"clip": True}, {"smooth": [1]}])
def test_what_is_no_number_is_refused(keys):
    with pytest.raises(TypeError, match=f"Argument '{next(iter(keys))}': expected a number"):
        image_result(np.ones((1, 2, 2))).plot(**keys)


@pytest.mark.parametrize("keys", [{"clip": 0.9}, {"smooth": 1}])
def test_tables_have_no_pixels(keys):
    converter = single(*TABLE)
    result = run_grad(converter, batch(converter, 1))
    with pytest.raises(ValueError, match="the model has no image among its inputs; leave it out"):
        result.plot(**keys)


def test_other_inputs_stay_what_they_are(spotted):
    image = image_result(spotted)
    table = Port("age", (2,), [["age", "dose"]], "table")
    values = [np.array([[[1.0], [50.0]]]), spotted[:, None, :, :, None]]
    result = result_of([table, image.described.inputs[0]], [torch.zeros(1, 2), image.data[0]], values, ["out"])
    bars, pixels = result.plot(clip=0.5, smooth=1.0).frame.panels[0, 0]
    assert isinstance(bars, Bars)
    assert (bars.limit, bars.values.tolist()) == (50, [1, 50])
    assert pixels.limit < 100
