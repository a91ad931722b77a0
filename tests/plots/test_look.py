"""Horizontal bars, signals and slices, colours, titles, sizes and names of axes, in both engines."""

from __future__ import annotations

import itertools
import sys

import matplotlib as mpl
import numpy as np
import pytest
import torch
from result_models import IMAGE, SIGNAL, TABLE, batch, single

from innsight_py import Converter, run_grad
from innsight_py.plots.colours import COUNT, EVEN_ENDS, colours
from innsight_py.plots.plotly_axes import vertical
from innsight_py.plots.plotly_grid import Grid


def table(features: int, rows: int = 2, times_input: bool = True, **keys):
    rng = np.random.default_rng(features)
    names = [f"f{i}" for i in range(features)]
    converter = single(features, nodes=2, input_names=names)
    return run_grad(converter, rng.normal(size=(rows, features)), times_input=times_input, output_idx=[0, 1], **keys)


def texts(labels):
    return [label.get_text() for label in labels]


def of_kind(figure, name):
    return [trace for trace in figure.data if trace.name == name]


# -- horizontal bars ----------------------------------------------------------------------------------------------


def test_few_features_stand_and_many_lie():
    few, many = (table(count).plot().frame.panels[0, 0, 0] for count in (15, 16))
    assert (few.horizontal, many.horizontal) == (False, True)
    assert few.axis.labels == tuple(f"f{i}" for i in range(15))
    assert len(many.axis) == 16  # fifteen, and the other one
    assert many.axis.labels[-1] == "1 other feature"
    assert not table(40).plot(orientation="vertical").frame.panels[0, 0, 0].horizontal
    assert len(table(40).plot(orientation="vertical").frame.panels[0, 0, 0].axis) == 40


def test_the_largest_come_first_and_the_others_are_summed():
    result = table(30)
    values = result.get_result()[0, :, 0]
    panel = result.plot(max_display=5).frame.panels[0, 0, 0]
    order = np.argsort(-np.abs(values))
    np.testing.assert_array_equal(panel.values[:5], values[order[:5]])
    np.testing.assert_allclose(panel.values[5], values[order[5:]].sum(), rtol=1e-5)
    assert panel.axis.labels[-1] == "25 other features"
    assert panel.limit == np.abs(panel.values).max()


def test_gradients_are_not_summed():
    panel = table(30, times_input=False).plot(max_display=5).frame.panels[0, 0, 0]
    assert len(panel.axis) == 5
    assert panel.axis.title == "Feature (5 of 30, largest first)"


def test_values_stand_beside_the_names_of_each_row():
    converter = Converter(torch.nn.Linear(2, 1), input_dim=(2,), input_names=["bill length (mm)", "sex"])
    result = run_grad(converter, torch.tensor([[39.123456, 0.0], [46.0, 1.0]]), times_input=True)
    p = result.plot([0, 1], orientation="horizontal")
    labels = [texts(ax.get_yticklabels()) for ax in p.axes.flat]
    assert labels == [["bill length (mm) = 39.12", "sex = 0"], ["bill length (mm) = 46", "sex = 1"]]
    assert result.plot(1).frame.panels[0, 0, 0].axis.labels == ("bill length (mm)", "sex")  # R's


def test_a_long_name_is_cut_and_its_value_is_not():
    converter = Converter(torch.nn.Linear(1, 1), input_dim=(1,), input_names=["a name of a feature " * 4])
    axis = run_grad(converter, torch.tensor([[1.5]])).plot(orientation="horizontal").frame.panels[0, 0, 0].axis
    (short,) = axis.ticks_down(1.0).labels
    assert len(short) <= 40
    assert "…" in short
    assert short.endswith(" = 1.5")
    assert axis.labels[0].count("feature") == 4  # all of it is in what the pointer shows


def test_names_beside_bars_leave_room_for_the_bars_on_a_phone():
    names = [f"a long name of the feature number {i}" for i in range(30)]
    frame = run_grad(single(30, input_names=names), torch.ones(1, 30)).plot().frame
    for room in (268, 343, 600):
        grid = Grid(frame, room)
        (panel,) = grid.panels.flat
        assert panel.width >= 0.3 * room
        labels = vertical(grid, (0, 0, 0))["ticktext"]
        assert len(max(labels, key=len)) * 6 <= 0.4 * room
    assert max(map(len, vertical(Grid(frame), (0, 0, 0))["ticktext"])) >= 28


def test_both_engines_draw_lying_bars():
    result = table(20)
    static, p = (result.plot([0, 1], output_idx=[0, 1], as_plotly=flag) for flag in (False, True))
    for place, trace in zip(np.ndindex(2, 2, 1), of_kind(p.figure, "bars"), strict=True):
        panel, ax = static.frame.panels[place], static.axes[place]
        assert trace.orientation == "h"
        np.testing.assert_array_equal(trace.x, panel.values)
        np.testing.assert_array_equal(trace.y, panel.axis.positions)
        (drawn,) = (one for one in ax.collections if one.get_gid() == "bars")
        ends = np.array([path.vertices[:, 0] for path in drawn.get_paths()])
        np.testing.assert_allclose(ends[:, 1], panel.values, rtol=1e-6)
        assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first is on top
        axis = p.figure.layout[f"yaxis{trace.yaxis[1:]}"]
        assert axis.range[0] > axis.range[1]
        assert list(p.figure.layout[f"xaxis{trace.xaxis[1:]}"].range) == list(ax.get_xlim())
    shown = p.figure.layout.yaxis
    assert list(shown.ticktext) == texts(static.axes[0, 0, 0].get_yticklabels())
    assert "f" in texts(static.axes[1, 0, 0].get_yticklabels())[0]
    assert not any(texts(static.axes[0, 1, 0].get_yticklabels()))


def test_labels_do_not_overlap_in_a_low_figure():
    ax = table(12).plot(orientation="horizontal", figsize=(5, 2.2)).axes[0, 0, 0]
    ax.figure.canvas.draw()
    boxes = sorted(label.get_window_extent().extents[[1, 3]].tolist() for label in ax.get_yticklabels())
    assert 1 < len(boxes) < 12
    assert all(low[1] <= high[0] + 1 for low, high in itertools.pairwise(boxes))


# -- signals and slices -------------------------------------------------------------------------------------------


def test_a_signal_lies_below_its_attributions():
    converter = single(*SIGNAL)
    (x,) = batch(converter, 2)
    for first in (True, False):
        data = x if first else np.moveaxis(x, 1, -1)
        result = run_grad(converter, data, times_input=True, channels_first=first)
        static, p = (result.plot(1, signal=True, as_plotly=flag) for flag in (False, True))
        panel = static.frame.panels[0, 0, 0]
        assert (panel.signal.min(), panel.signal.max()) == (0, 1)
        expected = (x[1] - x[1].min()) / (x[1].max() - x[1].min())
        np.testing.assert_allclose(panel.signal, expected, atol=1e-6)
        low, high = panel.value_limits
        assert low < panel.signal_values.min() < panel.signal_values.max() < high
        lines = [line.get_ydata() for line in static.axes[0, 0, 0].lines if line.get_gid() == "signal"]
        np.testing.assert_allclose(lines, panel.signal_values)
        np.testing.assert_allclose([trace.y for trace in of_kind(p.figure, "signal")], panel.signal_values)
    assert result.plot(1).frame.panels[0, 0, 0].signal is None


def test_a_model_without_signals_has_none_to_show():
    with pytest.raises(ValueError, match="'signal': the model has no signal"):
        table(3).plot(signal=True)


class Volume(torch.nn.Module):
    def forward(self, x):
        return (x * torch.arange(x[0].numel()).reshape(x.shape[1:])).flatten(1).sum(1, keepdim=True)


@pytest.fixture(scope="module")
def volume():
    data = torch.arange(2 * 48.0).reshape(2, 2, 2, 3, 4) / 96
    return run_grad(Converter(Volume(), input_dim=(2, 2, 3, 4)), data, times_input=True)


@pytest.mark.parametrize(
    ("cut", "taken", "titles"),
    [
        (1, (1,), ["Axis 2", "Axis 3"]),
        ((None, 2, None), (slice(None), 2), ["Axis 1", "Axis 3"]),
        ([None, None, 0], (slice(None), slice(None), 0), ["Axis 1", "Axis 2"]),
    ],
)
def test_slices_of_volumes(volume, cut, taken, titles):
    values = volume.get_result()[..., 0].sum(1)
    p = volume.plot([0, 1], slice=cut, image=True)
    for b, panel in enumerate(p.frame.panels[:, 0, 0]):
        np.testing.assert_allclose(panel.values, values[b][taken], rtol=1e-6)
        assert [axis.title for axis in panel.axes] == titles
        assert panel.background.shape == panel.values.shape
    median = volume.plot_global(slice=cut).frame.panels[0, 0, 0].values
    np.testing.assert_allclose(median, np.median(np.abs(values), 0)[taken], rtol=1e-6)
    assert len(volume.plot(slice=cut, as_plotly=True).figure.data) == 1


def test_the_scale_says_which_slice(volume):
    assert (
        volume.plot(slice=1, clip=0.9).frame.panels[0, 0, 0].scale_title.endswith("(Axis 1: 2 of 2, clipped at 90 %)")
    )


@pytest.mark.parametrize("cut", [None, 2, -1, (None, None), (0, 1, None), (None, None, None), (None, 3, None)])
def test_slices_that_are_none(volume, cut):
    with pytest.raises(ValueError, match="slice"):
        volume.plot(slice=cut)
    with pytest.raises(ValueError, match="slice"):
        volume.plot_global(slice=cut)


# -- colours ------------------------------------------------------------------------------------------------------


def lab(colour):
    """Return lightness, green to red, and blue to yellow of CIELAB."""
    linear = np.where(
        np.array(colour) <= 0.04045, np.array(colour) / 12.92, ((np.array(colour) + 0.055) / 1.055) ** 2.4
    )
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear / [0.9505, 1, 1.089]
    roots = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * roots[1] - 16, 500 * (roots[0] - roots[1]), 200 * (roots[1] - roots[2])])


def test_even_colours_are_even_and_known_by_their_blue():
    found = np.array([lab(colour) for colour in colours("even")])
    np.testing.assert_allclose([found[0], found[-1]], EVEN_ENDS, atol=0.2)  # none was cut off
    steps = np.linalg.norm(np.diff(found, axis=0), axis=1)
    assert steps.max() / steps.min() < 1.05
    assert (np.diff(found[: COUNT // 2 + 1, 0]) > 0).all()
    assert (np.diff(found[COUNT // 2 :, 0]) < 0).all()
    assert found[-1, 2] - found[0, 2] > 60  # blue and yellow, which nearly all can tell apart
    plain = np.array([lab(colour) for colour in colours("bwr")])
    uneven = np.linalg.norm(np.diff(plain, axis=0), axis=1)
    assert uneven.max() / uneven.min() > 1.5  # R's are not


@pytest.mark.parametrize("cmap", ["even", "PuOr"])
def test_both_engines_have_the_colours(cmap):
    converter = single(*IMAGE)
    result = run_grad(converter, batch(converter, 1))
    low, *_, high = (np.array(colour) for colour in colours(cmap))
    for keys in ({}, {"image": True}):
        static, p = (result.plot(cmap=cmap, as_plotly=flag, **keys) for flag in (False, True))
        image = static.axes[0, 0, 0].get_images()[-1]
        np.testing.assert_allclose(image.cmap([0.0, 1.0]), [[*low, 1], [*high, 1]], atol=0.01)
        assert image.cmap(0.5)[3] < 0.02 or not keys  # small ones leave the image visible
        ends = [p.figure.layout.coloraxis2.colorscale[k][1] for k in (0, -1)]
        for text, colour in zip(ends, (low, high), strict=True):
            numbers = [float(part) for part in text.partition("(")[2].rstrip(")").split(",")]
            np.testing.assert_allclose(numbers[:3], 255 * colour, atol=1)
    bars = table(3).plot(cmap=cmap, as_plotly=True).figure.layout.coloraxis.colorscale
    assert bars[0][1] == p.figure.layout.coloraxis2.colorscale[0][1] or keys


def test_colours_are_those_of_r_unless_asked():
    assert table(3).plot().frame.panels[0, 0, 0].cmap == "bwr"


# -- titles, sizes, names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [[0], list(range(70))])
def test_titles_and_sizes(rows):
    result = table(3, rows=70)
    static, p = (result.plot(rows, title="Why <this>?", figsize=(7, 6), as_plotly=flag) for flag in (False, True))
    assert static.figure.get_suptitle() == "Why <this>?"
    assert static.figure.get_size_inches().tolist() == [7, 6]
    (title,) = (words for words in p.figure.layout.annotations if words.name == "title")
    assert title.text == "Why &lt;this&gt;?"
    assert p.figure.layout.width == pytest.approx(7 * 96, abs=2)
    if len(rows) == 1:
        assert p.figure.layout.height == pytest.approx(6 * 96, abs=2)
    assert not result.plot().figure.get_suptitle()


def test_a_figure_of_the_user_has_its_own_title_and_size():
    ax = mpl.figure.Figure().subplots()
    for keys in ({"title": "Why"}, {"figsize": (3, 4)}):
        with pytest.raises(ValueError, match=f"'{next(iter(keys))}': the figure of 'ax' is your own"):
            table(3).plot(ax=ax, **keys)


def test_names_of_axes():
    for dim, names in ((TABLE, "Column"), (SIGNAL, "Time (s)"), (IMAGE, ("Height (mm)", "Width (mm)"))):
        converter = single(*dim)
        result = run_grad(converter, batch(converter, 2), times_input=True)
        listed = [names] if isinstance(names, str) else list(names)
        for keys in ({"axis_names": names}, {"axis_names": {converter.input_keys[0]: names}}):
            for plot in (result.plot, result.plot_global):
                static, p = (plot(as_plotly=flag, **keys) for flag in (False, True))
                assert [axis.title for axis in static.frame.panels[0, 0, 0].axes] == listed
                assert static.axes[0, 0, 0].get_xlabel() == p.figure.layout.xaxis.title.text == listed[-1]
    with pytest.raises(ValueError, match=r"two texts, such as .*, for input 1"):
        result.plot(axis_names=("a", "b", "c"))


def test_the_red_line_has_a_legend():
    result = table(3, rows=4)
    (legend,) = result.plot_global(ref_data_idx=2).figure.legends
    assert texts(legend.get_texts()) == ["data_3"]
    assert not result.plot_global().figure.legends


# -- windows ------------------------------------------------------------------------------------------------------


def test_a_script_without_a_screen_is_told_what_to_do():
    with mpl.rc_context({"backend": "agg"}), pytest.raises(OSError, match=r"\.save\('picture.png'\)"):
        table(3).plot().show()


def test_a_window_shows_the_figure_and_is_forgotten(monkeypatch):
    from matplotlib import pyplot as plt

    from innsight_py.plots import window

    seen = []
    monkeypatch.setattr(window, "_windows", lambda: ["agg"])
    monkeypatch.setattr(plt, "show", lambda block: seen.extend((block, plt.get_fignums(), plt.gcf())))
    with mpl.rc_context({"backend": "agg"}):
        p = table(3).plot()
        p.show()
    assert seen == [True, [1], p.figure]
    assert not plt.get_fignums()


def test_a_notebook_shows_it_below_the_cell(monkeypatch):
    shown = []

    class Shell:
        @staticmethod
        def has_trait(name):
            return name == "kernel"

    ipython = type(sys)("IPython")
    ipython.get_ipython, ipython.display = Shell, type("display", (), {"display": shown.append})
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    p = table(3).plot()
    p.show()
    assert shown == [p]
