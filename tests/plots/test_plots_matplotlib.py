"""What matplotlib has drawn: every value, strip, limit and number is read back from the figure."""

from __future__ import annotations

import io
import itertools
import pickle
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from result_models import IMAGE, METHODS, SIGNAL, TABLE, batch, mixed, single

from innsight_py import ConnectionWeights, Converter, run_cw, run_deeplift, run_grad
from innsight_py.plots.matplotlib import Display
from innsight_py.plots.panels import Bars, Boxes, Empty, Image

# Few steps and winner-takes-all are quick and R's default: that sums are then not exact is tested in test_residual.py.
pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")

# -- reading a figure -----------------------------------------------------------------------------------------------


def find(ax, gid):
    return [artist for artist in ax.get_children() if artist.get_gid() == gid]


def bars(ax) -> np.ndarray:
    """Read the value at which each bar ends."""
    (collection,) = find(ax, "bars")
    corners = np.array([path.vertices for path in collection.get_paths()])
    assert not corners[:, 0, 1].any()  # from 0
    np.testing.assert_allclose(corners[:, [0, 2], 0].mean(1), np.arange(1, len(corners) + 1))
    return corners[:, 1, 1]


def levels(ax, gid) -> np.ndarray:
    """Read the heights of level lines."""
    (collection,) = find(ax, gid)
    segments = np.array(collection.get_segments())
    np.testing.assert_array_equal(segments[:, 0, 1], segments[:, 1, 1])
    return segments[:, 0, 1]


def image(ax):
    return ax.get_images()[-1]


def texts(ax, gid) -> list[str]:
    return [artist.get_text() for artist in find(ax, gid) if isinstance(artist, Text)]


def colour_bar(ax):
    return next((child for child in ax.child_axes if child.get_label() == "colour bar"), None)


def render(display: Display):
    """Draw the figure and return its renderer."""
    canvas = FigureCanvasAgg(display.figure)
    canvas.draw()
    return canvas.get_renderer()


def strips(display: Display) -> list[str]:
    return [text for ax in display.figure.axes for text in texts(ax, "strip")]


def assert_tidy(display: Display):
    """Check that words stand on nothing else: not on values, nor on other words, nor outside of the figure."""
    renderer = render(display)
    words = []
    for ax in all_axes(display.figure):
        shown = [*ax.texts]
        if ax.axison:
            shown += [ax.xaxis.label, ax.yaxis.label, *tick_labels(ax.xaxis), *tick_labels(ax.yaxis)]
        words += [(word, word.get_window_extent(renderer)) for word in shown if word.get_text() and word.get_visible()]
    panels = [ax.get_window_extent(renderer) for ax in all_axes(display.figure) if ax.axison]
    whole = Bbox([[-1, -1], [display.figure.bbox.width + 1, display.figure.bbox.height + 1]])
    for word, box in words:
        assert whole.contains(box.x0, box.y0), (word, box)
        assert whole.contains(box.x1, box.y1), (word, box)
        if word.get_gid() in ("info", "strip"):
            assert not any(overlap(box, panel) for panel in panels), word
    for (one, box), (other, other_box) in itertools.combinations(words, 2):
        turned = 45 in (one.get_rotation(), other.get_rotation())  # the box of slanted words says nothing
        assert turned or not overlap(box, other_box), (one, other)


def all_axes(figure):
    return [axes for ax in figure.axes for axes in (ax, *ax.child_axes)]


def tick_labels(axis):
    """Return the labels of the ticks that are in view."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [label for tick in ticks for label in (tick.label1, tick.label2) if label.get_visible()]


def overlap(one: Bbox, other: Bbox) -> bool:
    """Tell whether boxes share more than a pixel."""
    both = Bbox.intersection(one, other)
    return both is not None and both.width > 1 and both.height > 1


def assert_drawn(display: Display):
    """Check every panel against the frame."""
    assert display.axes.shape == display.frame.shape
    for index, panel in np.ndenumerate(display.frame.panels):
        ax = display.axes[index]
        if isinstance(panel, Empty):
            assert panel.text in [text.get_text() for text in ax.texts]
        elif isinstance(panel, Bars):
            np.testing.assert_array_equal(bars(ax), panel.values)
            np.testing.assert_allclose(find(ax, "bars")[0].get_array(), panel.shades)
            assert ax.get_ylim() == panel.value_limits
        elif isinstance(panel, Boxes):
            np.testing.assert_array_equal(levels(ax, "medians"), panel.boxes.median)
            assert ax.get_ylim() == panel.value_limits
        else:
            np.testing.assert_array_equal(image(ax).get_array(), panel.values)
            assert image(ax).get_clim() == (-panel.limit, panel.limit)


# -- what is drawn --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize("dim", [TABLE, SIGNAL, IMAGE, None], ids=["table", "signal", "image", "mixed"])
@pytest.mark.parametrize(("method", "arguments"), METHODS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_method_and_kind_of_input(method, arguments, dim, channels_first):
    converter = mixed() if dim is None else single(*dim)
    nodes = [[2], None, [1]] if dim is None else [2, 0]
    result = method(
        converter, batch(converter, 4, channels_first), output_idx=nodes, channels_first=channels_first, **arguments
    )
    for i, (aggregate, rows) in enumerate([("mean", 0), ("norm", 1), (np.max, 2), ("sum", [3, 1])]):
        display = result.plot(rows, output_idx=nodes, aggr_channels=aggregate, same_scale=bool(i % 2))
        assert display.frame.value_name == result.value_name
        assert_drawn(display)
    assert_drawn(result.plot_global(output_idx=nodes, ref_data_idx=i))
    assert_tidy(display)
    expected = ["Y1", "Y3"] if dim else ["Output_1: Y3", "Output_3: Y2", *["Input_1", "Input_2", "Input_3"] * 2]
    assert sorted(strips(display)) == sorted([*expected, "data_4", "data_2"])


def test_heights_and_colours_of_bars():
    weights = [[2.0, -4.0, 0.0, 1.0]]
    from innsight_py import Converter

    converter = Converter({"input_dim": [4], "layers": [{"type": "Dense", "weight": weights}]})
    display = run_grad(converter, np.ones((1, 4))).plot()
    (ax,) = display.axes.flat
    np.testing.assert_array_equal(bars(ax), weights[0])
    render(display)
    colours = find(ax, "bars")[0].get_facecolor()
    np.testing.assert_allclose(colours[:, :3], [(1, 0.5, 0.5), (0, 0, 1), (1, 1, 1), (1, 0.75, 0.75)], atol=0.01)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["X1", "X2", "X3", "X4"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Feature", "Gradient")
    assert texts(ax, "info") == ["Pred. -1   Sum -1"]


def test_images_stand_upright():
    from innsight_py import Converter

    values = np.zeros((1, 5, 3))
    values[0, 0, 2] = 7.0  # top right
    values[0, 4, 0] = -2.0  # bottom left
    layers = [{"type": "Flatten"}, {"type": "Dense", "weight": values.reshape(1, -1)}]
    display = run_grad(Converter({"input_dim": [1, 5, 3], "layers": layers}), np.ones((1, 1, 5, 3))).plot()
    (ax,) = display.axes.flat
    np.testing.assert_array_equal(image(ax).get_array(), values[0])
    pixels = render(display).buffer_rgba()
    box = ax.get_window_extent()
    height = int(display.figure.bbox.height)

    def colour(across, down):
        x, y = box.x0 + across * box.width, box.y1 - down * box.height
        return tuple(np.asarray(pixels)[height - int(y), int(x), :3])

    assert colour(5 / 6, 0.1) == (255, 0, 0)
    assert colour(0.5, 0.5) == pytest.approx((255, 255, 255), abs=2)
    red, green, blue = colour(1 / 6, 0.9)
    assert blue == 255
    assert red == green == pytest.approx(255 * (1 - 2 / 7), abs=2)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Image Width", "Image Height")
    assert ax.get_ylim() == (5.5, 0.5)  # counted from the top
    assert image(ax).get_extent() == [0.5, 3.5, 5.5, 0.5]


def test_colour_bars_have_numbers():
    converter = single(*IMAGE)
    result = run_grad(converter, batch(converter, 3), output_idx=[0, 1, 2])
    display = result.plot([0, 1], output_idx=[0, 1, 2])
    for index, ax in np.ndenumerate(display.axes):
        limit = display.frame.panels[index].limit
        scale = colour_bar(ax)
        assert scale.get_ylim() == pytest.approx((-limit, limit))
        render(display)
        assert [label.get_text() for label in scale.get_yticklabels()] == [f"{-limit:.2g}", "0", f"{limit:.2g}"]
        assert scale.get_ylabel() == "Gradient"
    display = result.plot_global(output_idx=[0, 1, 2])
    assert [colour_bar(ax) is not None for ax in display.axes.flat] == [False, False, True]
    scale = colour_bar(display.axes[0, 2, 0])
    assert scale.get_ylim() == pytest.approx((0, display.frame.shared_limit))  # medians of magnitudes
    assert scale.get_ylabel() == "|Gradient|\n(median)"
    assert {image(ax).get_clim() for ax in display.axes.flat} == {
        (-display.frame.shared_limit, display.frame.shared_limit)
    }
    display = result.plot_global(preprocess_fun=lambda x: -x.abs())
    assert colour_bar(display.axes[0, 0, 0]).get_ylim()[1] == 0
    display = result.plot_global(preprocess_fun=lambda x: 0 * x)  # the scale of zeros has no other number
    render(display)
    assert [label.get_text() for label in colour_bar(display.axes[0, 0, 0]).get_yticklabels()] == ["0"]


def test_boxes():
    result = run_grad(single(3), np.random.default_rng(2).normal(size=(60, 3)), times_input=True)
    display = result.boxplot(output_idx=[1], ref_data_idx=7, data_idx=range(50), preprocess_fun=lambda x: x**3)
    (ax,) = display.axes.flat
    boxes = display.frame.panels[0, 0, 0].boxes
    values = result.get_result()[:, :, 1].astype(np.float64) ** 3
    corners = np.array([path.vertices for path in find(ax, "boxes")[0].get_paths()])
    np.testing.assert_allclose(corners[:, 0, 1], np.quantile(values[:50], 0.25, axis=0), rtol=1e-5)
    np.testing.assert_allclose(corners[:, 1, 1], np.quantile(values[:50], 0.75, axis=0), rtol=1e-5)
    np.testing.assert_allclose(corners[:, 2, 0] - corners[:, 0, 0], 0.7)
    np.testing.assert_allclose(levels(ax, "medians"), np.median(values[:50], 0), rtol=1e-5)
    np.testing.assert_allclose(levels(ax, "reference"), values[7], rtol=1e-4)
    assert find(ax, "reference")[0].get_color()[0] == pytest.approx(to_rgba("red"))
    whiskers = np.array(find(ax, "whiskers")[0].get_segments())
    np.testing.assert_array_equal(whiskers[:3, 0, 1], boxes.low)
    np.testing.assert_array_equal(whiskers[3:, 1, 1], boxes.high)
    points = find(ax, "outliers")[0].get_offsets()
    iqr = boxes.q3 - boxes.q1
    expected = {
        (place + 1, value)
        for place, column in enumerate(values[:50].T)
        for value in column
        if not boxes.q1[place] - 1.5 * iqr[place] <= value <= boxes.q3[place] + 1.5 * iqr[place]
    }
    assert expected
    assert len(points) == len(expected)
    np.testing.assert_allclose(sorted(map(tuple, points)), sorted(expected), rtol=1e-4)
    assert not find(result.plot_global().axes[0, 0, 0], "reference")
    assert strips(display) == ["Y2"]


def test_long_signals_have_bands():
    converter = single(2, 300)
    result = run_grad(converter, batch(converter, 9), times_input=True)
    display = result.plot_global(ref_data_idx=4)
    (ax,) = display.axes.flat
    values = np.abs(result.get_result()[..., 0]).sum(1)
    (median,) = find(ax, "medians")
    np.testing.assert_allclose(median.get_ydata(), np.median(values, 0), rtol=1e-6)
    np.testing.assert_allclose(find(ax, "reference")[0].get_ydata(), values[4], rtol=1e-6)
    band = find(ax, "boxes")[0].get_paths()[0].vertices
    for place, (low, high) in enumerate(np.quantile(values, (0.25, 0.75), axis=0).T, start=1):
        at = band[band[:, 0] == place, 1]
        assert at.min() == pytest.approx(low, rel=1e-5)
        assert at.max() == pytest.approx(high, rel=1e-5)
    assert_tidy(display)


def test_overlay():
    converter = single(*IMAGE)
    result = run_grad(converter, batch(converter, 2))
    photo = np.linspace(0, 1, 6).reshape(3, 2)
    display = result.plot([0, 1], image=photo)
    for index, ax in np.ndenumerate(display.axes):
        behind, front = ax.get_images()
        np.testing.assert_array_equal(behind.get_array(), photo)
        assert behind.get_cmap().name == "gray"
        values = display.frame.panels[index].values
        np.testing.assert_array_equal(front.get_array(), values)
        colours = front.to_rgba(values)
        limit = np.abs(values).max()
        np.testing.assert_allclose(colours[..., 3], np.abs(values) / limit, atol=0.01)  # opacity
        strong = np.abs(values) / limit > 0.02
        np.testing.assert_array_equal(colours[strong][:, 0] == 1, values[strong] > 0)
        np.testing.assert_array_equal(colours[strong][:, 2] == 1, values[strong] < 0)
    assert len(result.plot().axes[0, 0, 0].get_images()) == 1


def test_max_display():
    names = [f"f{i}" for i in range(30)]
    result = run_grad(single(30, input_names=names), np.ones((2, 30)), times_input=True)
    display = result.plot(max_display=4, orientation="vertical")
    (ax,) = display.axes.flat
    values = result.get_result()[0, :, 0]
    order = np.argsort(-np.abs(values))
    np.testing.assert_allclose(bars(ax), [*values[order[:4]], values[order[4:]].sum()], rtol=1e-6)
    labels = [*(f"f{i}" for i in order[:4]), "26 other features"]
    assert [label.get_text() for label in ax.get_xticklabels()] == labels
    assert ax.get_xlabel() == "Feature"


def test_info():
    result = run_deeplift(single(3), np.ones((2, 3)), output_idx=[0, 1])
    display = result.plot([1], output_idx=[0, 1])
    largest = "   Largest Y3" if result.largest[0][1] == 2 else ""
    for k, ax in enumerate(display.axes.flat):
        total = result.get_result()[1, :, k].sum()
        (text,) = texts(ax, "info")
        assert text.replace("\n", "   ") == (
            f"Pred. {float(result.preds[0][1, k]):.4g}   Sum {total:.4g}   "
            f"Goal {float(result.decomp_goal[0][1, k]):.4g}{largest}"
        )
    assert not texts(result.plot(show_preds=False).axes[0, 0, 0], "info")
    several = mixed()
    result = run_deeplift(several, batch(several, 2), output_idx=[[0], None, [1]])
    display = result.plot([0, 1], output_idx=[[0], None, [1]])
    written = [text for ax in display.figure.axes for text in texts(ax, "info")]
    assert len(written) == 4  # one for each instance and node, not for each input
    assert f"Sum {sum(float(x[0, ..., 0].sum()) for x in result.result[0]):.4g}" in written[0]


@pytest.mark.parametrize("orientation", ["vertical", "horizontal"])
def test_long_names_of_nodes_stay_within_their_strips(orientation):
    names = ["a class whose name is much longer than its panel is wide, as happens", "short", "c"]
    model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": np.eye(3).tolist()}]}
    result = run_grad(Converter(model, output_names=names), np.ones((1, 3)))
    display = result.plot(output_idx=[0, 1, 2], orientation=orientation)
    renderer = render(display)
    for ax in display.axes.flat:
        strip, text = (artist.get_window_extent(renderer) for artist in find(ax, "strip")[:2])
        assert strip.x0 <= text.x0 < text.x1 <= strip.x1
    assert "short" in strips(display)


def test_the_strip_of_a_group_spans_its_inputs():
    converter = mixed()
    result = run_grad(converter, batch(converter, 2), output_idx=[[0, 2], None, None])
    display = result.plot(output_idx=[0, 2])
    renderer = render(display)
    named = {
        text.get_text(): strip.get_window_extent(renderer)
        for ax in display.figure.axes
        for strip, text in zip(*[iter(find(ax, "strip"))] * 2, strict=True)
    }
    for j, name in enumerate(["Output_1: Y1", "Output_1: Y3"]):
        boxes = [ax.get_window_extent(renderer) for ax in display.axes[0, j]]
        assert named[name].x0 <= boxes[0].x0 + 1
        assert named[name].x1 >= boxes[-1].x1 - 1
        assert named[name].y0 > max(box.y1 for box in boxes)
    assert named["Output_1: Y1"].x1 < named["Output_1: Y3"].x0
    for ax in display.axes.flat:
        for strip in find(ax, "strip")[:1]:
            own, panel = strip.get_window_extent(renderer), ax.get_window_extent(renderer)
            if own.width > own.height:
                assert (own.x0, own.x1) == pytest.approx((panel.x0, panel.x1), abs=1)


def test_unconnected_inputs_say_so():
    converter = mixed()
    result = run_grad(converter, batch(converter, 2), output_idx=[None, [0], None])
    display = result.plot()
    assert [panel.axison for panel in display.axes.flat] == [True, False, False]
    assert display.axes[0, 0, 1].texts[0].get_text() == "not connected to Output_2"
    assert_tidy(display)


def test_connection_weights():
    display = run_cw(single(3)).plot(output_idx=[0, 2])
    assert strips(display) == ["Y1", "Y3"]
    assert display.axes[0, 0, 0].get_ylabel() == "Relative Importance"
    local = ConnectionWeights(single(3), np.ones((2, 3)), times_input=True).plot([0, 1])
    assert strips(local) == ["Y1", "data_1", "data_2"]
    with pytest.raises(ValueError, match="times_input=True"):
        run_cw(single(3)).plot_global()


def test_boxplot_warns_of_images():
    converter = single(*IMAGE)
    with pytest.warns(UserWarning, match="median of each pixel"):
        display = run_grad(converter, batch(converter, 3)).boxplot()
    assert isinstance(display.frame.panels[0, 0, 0], Image)


# -- legible --------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12), st.integers(1, 3), st.integers(1, 3),
    st.sampled_from([1e-8, 1.0, 1e6]),
)  # fmt: skip
def test_nothing_is_hidden(values, instances, nodes, scale):
    converter = single(len(values), nodes=3)
    data = scale * np.array(values) * np.ones((instances, 1))
    result = run_grad(converter, data, times_input=True, dtype="double")
    assert_tidy(result.plot(range(instances), output_idx=range(nodes)))


LONG = [f"a_rather_long_feature_name_{i}" if i % 3 else f"x{i}" for i in range(100)]


@pytest.mark.parametrize(
    ("dim", "names", "rows", "nodes"),
    [
        ((100,), LONG, [0], 1),
        ((100,), LONG, [0, 1], 2),
        ((12,), LONG[:12], [0, 1], 3),
        ((5,), ["alpha", "beta", "gamma", "delta", "a longer one"], [0], 2),
        ((7,), None, [0, 1], 10),
        ((2, 1000), None, [0, 1], 2),
        ((1, 64, 1000), None, [0], 2),
        ((3, 224, 224), None, [0, 1], 2),
        ((1, 40, 10), None, [0, 1], 2),
    ],
)
def test_large_inputs_stay_readable(dim, names, rows, nodes):
    converter = single(*dim, nodes=nodes, input_names=names)
    result = run_grad(converter, [np.random.default_rng(0).normal(size=(3, *dim))], times_input=True)
    upright = {"orientation": "vertical"} if len(dim) == 1 else {}
    for display in (result.plot(rows, output_idx=range(nodes), **upright), result.plot_global(output_idx=range(nodes))):
        assert_drawn_shape(display, dim)
        assert_tidy(display)
        assert max(display.figure.get_size_inches()) < 40
        if names is not None:
            shown = [label.get_text() for label in display.axes[-1, 0, 0].get_xticklabels()]
            assert len(shown) == len(names)  # every label, at this size


def assert_drawn_shape(display, dim):
    for panel in display.frame.panels.flat:
        assert tuple(len(axis) for axis in panel.axes) == (dim if len(dim) == 1 else dim[1:])


def test_peaks_of_long_signals_are_seen():
    from innsight_py import Converter

    weight = np.zeros(1000)
    weight[333] = 1.0
    layers = [{"type": "Flatten"}, {"type": "Dense", "weight": weight[None]}]
    display = run_grad(Converter({"input_dim": [1, 1000], "layers": layers}), np.ones((1, 1, 1000))).plot()
    pixels = np.asarray(render(display).buffer_rgba())[..., :3].astype(int)
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 120)
    assert red.any(1).sum() > 50  # a column of it, most of the panel high
    (ax,) = display.axes.flat
    (drawn,) = find(ax, "bars")
    edge = drawn.get_linewidth()[0] * display.figure.dpi / 72
    assert ax.get_window_extent().width / 1000 + edge > 1  # pixels
    np.testing.assert_array_equal(drawn.get_edgecolor()[333], to_rgba("red"))


# -- the display ----------------------------------------------------------------------------------------------------


def test_parts():
    converter = mixed()
    result = run_grad(converter, batch(converter, 3), output_idx=[[0, 1], None, [2]])
    display = result.plot([0, 1, 2], output_idx=[[0, 1], None, [2]])
    part = display[1:, [0, 2]]
    assert part.axes.shape == (2, 2, 3)
    assert part.figure is not display.figure
    assert_drawn(part)
    assert sorted(set(strips(part))) == [
        "Input_1",
        "Input_2",
        "Input_3",
        "Output_1: Y1",
        "Output_3: Y3",
        "data_2",
        "data_3",
    ]
    assert strips(display[0, 1])[-2:] == ["data_1", "Output_1: Y2"] or "Output_1: Y2" in strips(display[0, 1])
    with pytest.raises(IndexError, match="3 instances"):
        display[3]
    with pytest.raises(IndexError, match="3 output nodes"):
        display[0, 3]


def test_files(tmp_path):
    display = run_grad(single(3), np.ones((1, 3))).plot()
    for ending, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        display.save(tmp_path / f"picture.{ending}")
        assert (tmp_path / f"picture.{ending}").read_bytes().startswith(start)
    small = imread(tmp_path / "picture.png").shape
    display.save(str(tmp_path / "large.png"), dpi=200)
    assert imread(tmp_path / "large.png").shape[0] == pytest.approx(2 * small[0], abs=2)
    shown = imread(io.BytesIO(display._repr_png_()))
    assert shown.shape == small
    assert repr(display) == "<Display of Gradient: 1 x 1 x 1 panels (instances, nodes, inputs)>"


def test_given_axes():
    converter = mixed()
    result = run_grad(converter, batch(converter, 2), output_idx=[[0], None, None])
    figure = Figure(figsize=(14, 9), layout="constrained")
    axes = figure.subplots(2, 3)
    display = result.plot([0, 1], ax=axes)
    assert display.figure is figure
    assert list(display.axes.flat) == list(axes.flat)
    assert_drawn(display)
    assert texts(axes[0, 1], "strip") == ["data_1 · Output_1: Y1 · Input_2"]
    assert_tidy(display)
    one = Figure().subplots()
    display = run_grad(single(3), np.ones((4, 3))).plot_global(ax=one)
    assert display.axes[0, 0, 0] is one
    assert texts(one, "strip") == ["Y1"]
    before = one.get_facecolor()
    assert before == to_rgba(mpl.rcParams["axes.facecolor"])
    for wrong, error, match in (
        (axes, ValueError, r"expected 1 axes \(1 instance"),
        (figure, TypeError, "'ax'"),
        ("axes", TypeError, "'ax'"),
    ):
        with pytest.raises(error, match=match):
            run_grad(single(3), np.ones((1, 3))).plot(ax=wrong)


def test_subfigures():
    left, right = Figure(layout="constrained", figsize=(9, 4)).subfigures(1, 2)
    converter = single(*IMAGE)
    display = run_grad(converter, batch(converter, 2)).plot(ax=right.subplots())
    assert_drawn(display)
    render_root = FigureCanvasAgg(left.figure)
    render_root.draw()


def test_global_state_is_not_touched():
    script = """
import sys, matplotlib
from innsight_py import Converter, run_grad
assert "matplotlib.figure" not in sys.modules
model = {"input_dim": [2, 3, 4], "layers": [{"type": "Flatten"}, {"type": "Dense", "weight": [[1.0] * 24] * 2}]}
import numpy as np
settings = lambda: {key: dict.__getitem__(matplotlib.rcParams, key) for key in matplotlib.rcParams}
before = settings()
result = run_grad(Converter(model), np.ones((3, 2, 3, 4)))
result.plot([0, 1], image=True)._repr_png_()
result.plot_global()[0]._repr_png_()
assert settings() == before
assert "matplotlib.pyplot" not in sys.modules
assert not {"plotly", "xarray"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)  # noqa: S603


@pytest.mark.parametrize("name", [name for name in style.available if not name.startswith("_")])
def test_styles(name):
    converter = mixed()
    result = run_grad(converter, batch(converter, 2))
    with style.context(name):
        display = result.plot([0])
        assert_drawn(display)
        render(display)
        strip = next(artist for ax in display.figure.axes for artist in find(ax, "strip"))
        text = next(iter(ax for ax in display.figure.axes if texts(ax, "strip")))
        face, ink = np.array(strip.get_facecolor()[:3]), np.array(to_rgba(find(text, "strip")[1].get_color())[:3])
        assert np.abs(face - ink).max() > 0.4  # light on dark or dark on light


def test_results_with_pictures_can_be_pickled():
    result = run_grad(single(3), np.ones((2, 3)))
    result.plot()
    again = pickle.loads(pickle.dumps(result))  # noqa: S301
    np.testing.assert_array_equal(bars(again.plot().axes[0, 0, 0]), bars(result.plot().axes[0, 0, 0]))


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"same_scale": 1}, TypeError, "'same_scale'"),
        ({"show_preds": None}, TypeError, "'show_preds'"),
        ({"as_plotly": "yes"}, TypeError, "'as_plotly'"),
        ({"max_display": 0}, ValueError, "'max_display'"),
        ({"data": 1}, TypeError, "no argument 'data'"),
        ({"as_plotly": True, "ax": 1}, ValueError, "'ax'"),
    ],
)
def test_refusals(arguments, error, match):
    with pytest.raises(error, match=match):
        run_grad(single(3), np.ones((1, 3))).plot(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"individual_max": 0}, ValueError, "'individual_max'"),
        ({"preprocess_fun": "abs"}, TypeError, "'preprocess_fun'"),
        ({"image": True}, TypeError, "no argument 'image'"),
    ],
)
def test_refusals_of_global_pictures(arguments, error, match):
    with pytest.raises(error, match=match):
        run_grad(single(3), np.ones((1, 3))).boxplot(**arguments)


# -- many panels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["table", "image", "mixed"])
def test_many_panels_are_laid_out_by_their_sizes(kind, monkeypatch):
    """A constrained layout takes time with the square of the panels: many have places that follow from their sizes."""
    monkeypatch.setattr("innsight_py.plots.matplotlib.MANY", 1)
    converter = {"table": single(*TABLE), "image": single(*IMAGE), "mixed": mixed()}[kind]
    nodes = [[0, 1], None, [2]] if kind == "mixed" else [0, 1, 2]
    result = run_grad(converter, batch(converter, 2), output_idx=nodes)
    shown = result.plot([0, 1], output_idx=nodes)
    assert shown.figure.get_layout_engine() is None
    canvas = FigureCanvasAgg(shown.figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    boxes = [ax.get_tightbbox(renderer) for ax in shown.axes.flat]
    page = shown.figure.bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1 for box in boxes)
    for one, other in itertools.combinations(shown.axes.flat, 2):
        a, b = (ax.get_tightbbox(renderer, bbox_extra_artists=ax.get_images()) for ax in (one, other))
        assert Bbox.intersection(a, b) is None
    widths = [ax.get_position(original=True).width * shown.figure.get_size_inches()[0] for ax in shown.axes[0].flat]
    lines = shown.frame.widths
    assert widths == pytest.approx([lines[i % len(lines)] for i in range(len(widths))])


def test_few_panels_keep_their_constrained_layout():
    result = run_grad(single(*TABLE), batch(single(*TABLE), 1))
    assert result.plot(0).figure.get_layout_engine() is not None
