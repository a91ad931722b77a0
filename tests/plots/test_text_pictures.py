"""Texts drawn by matplotlib and plotly: coloured words in lines, one block a row and node."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from text_results import HOSTILE, result_of, review, text_port, text_result

from innsight_py.inputs.ports import Port
from innsight_py.plots.panels import Bars, Empty
from innsight_py.plots.words import Words


def found(ax, gid):
    return [artist for artist in ax.get_children() if artist.get_gid() == gid]


def words(ax) -> list[str]:
    return [text.get_text() for text in found(ax, "word")]


def colours(ax) -> np.ndarray:
    (boxes,) = found(ax, "words")
    boxes.update_scalarmappable()
    return boxes.get_facecolors()[:, :3]


def long_result(count=120, labels=("good", "bad")):
    rng = np.random.default_rng(1)
    vocabulary = ["a", "seldom", "film", "unbelievable", "plot", "of", "characteristically", "and"]
    texts = [rng.choice(vocabulary, count).tolist() for _ in range(2)]
    return text_result(texts, rng.normal(size=(2, count, len(labels))), labels)


def test_a_block_for_each_row_and_node():
    p = review().plot([0, 1], output_idx=[0, 1])
    assert p.axes.shape == (2, 2, 1)
    assert [[words(ax) for ax in row[:, 0]] for row in p.axes] == [
        [["[CLS]", "unbelievable", "plot", ",", "good", "[SEP]"]] * 2,
        [["[CLS]", "a", "bad", "film", "[SEP]", "[PAD] \u00d73"]] * 2,
    ]
    assert p.frame.panels[0, 0, 0].values.tolist() == [0, 2, 0.5, 0, 4, 0.25]
    assert p.frame.panels[1, 1, 0].values.tolist() == [0, -0.125, 2, -0.25, 0, -0.25]
    assert p.frame.info[0, 0].lines == [("Pred.", "7.25"), ("Sum", "6.75"), ("Goal", "6.75")]


def test_white_is_0_red_positive_and_blue_negative():
    p = review().plot([0, 1])
    first, second = (colours(ax) for ax in p.axes[:, 0, 0])
    np.testing.assert_allclose(first[[0, 4]], [to_rgb("white"), to_rgb("red")], atol=0.005)  # 0 and the largest
    np.testing.assert_allclose(first[1], [1, 0.5, 0.5], atol=0.01)  # half of it
    np.testing.assert_allclose(second[2], to_rgb("blue"))
    (text,) = (artist for artist in found(p.axes[1, 0, 0], "word") if artist.get_text() == "bad")
    assert to_rgb(text.get_color()) == to_rgb("white")  # which is read on blue


def test_special_tokens_are_dimmed():
    ax = review().plot(0).axes[0, 0, 0]
    looks = {text.get_text(): to_rgb(text.get_color()) for text in found(ax, "word")}
    assert looks["[CLS]"] == to_rgb("#737373")
    assert looks["plot"] == to_rgb("black")


def assert_words_fit(figure, axes):
    """Check that no word leaves the figure, or stands on another or on the scale."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    strips = [text.get_window_extent(renderer) for ax in figure.axes for text in ax.texts if text.get_gid() != "word"]
    blocks = [box for ax in axes.flat for box in (text.get_window_extent(renderer) for text in found(ax, "word"))]
    assert not any(strip.overlaps(block.shrunk(0.9, 0.8)) for strip in strips for block in blocks)
    for ax in axes.flat:
        shown = [text.get_window_extent(renderer) for text in (*found(ax, "word"), *found(ax, "scale title"))]
        (scale,) = (child for child in ax.child_axes if child.get_label() == "colour bar")
        shown += [scale.get_window_extent(renderer)]
        area = np.array([[box.x0, box.x1, box.y0, box.y1] for box in shown])
        assert area.min() >= -1
        assert (area[:, 1] <= figure.bbox.width + 1).all()
        overlap = np.minimum(area[:, None, 1], area[:, 1]) - np.maximum(area[:, None, 0], area[:, 0])
        height = np.minimum(area[:, None, 3], area[:, 3]) - np.maximum(area[:, None, 2], area[:, 2])
        both = (overlap > 1.5) & (height > 1.5)
        assert both.sum() == len(area)  # each with itself


@pytest.mark.parametrize("nodes", [[0], [0, 1]])
def test_long_texts_are_wrapped(nodes):
    p = long_result().plot([0, 1], output_idx=nodes)
    panel = p.frame.panels[0, 0, 0]
    assert panel.lines > 5
    assert max(box.left + box.width for box in panel.boxes) <= panel.room
    assert_words_fit(p.figure, p.axes)


def test_short_texts_of_long_names():
    result = text_result([["a", "film"], ["no", "plot"], ["a", "plot"]], np.ones((3, 2, 1)), ["out"])
    result.data_names = ["a name that is much longer than its text", "b", "c"]
    p = result.plot([0, 1, 2])
    assert_words_fit(p.figure, p.axes)
    (info,) = [text.get_text() for text in p.axes[0, 0, 0].texts if text.get_gid() == "info"]
    assert info.split("\n")[0] == "a name that is much longer than its text"
    assert "b" in result.plot([0, 1], show_preds=False).axes[1, 0, 0].texts[-1].get_text()


def test_words_fit_on_given_axes():
    figure = Figure(figsize=(4, 3))
    ax = figure.subplots()
    p = long_result(60).plot(0, ax=ax)
    assert len(words(ax)) == 60
    assert_words_fit(figure, p.axes)
    assert 4 <= found(ax, "word")[0].get_fontsize() < 10


def test_long_words_lose_their_middle():
    (label,) = words(text_result([["x" * 500]], np.ones((1, 1, 1)), ["out"]).plot().axes[0, 0, 0])
    assert len(label) == 28


@pytest.mark.filterwarnings("ignore:Glyph")  # fonts here have no Japanese
def test_nothing_in_a_text_is_a_formula_or_moves_a_cursor():
    p = text_result([HOSTILE], np.ones((1, len(HOSTILE), 1)), ["out"]).plot()
    assert_words_fit(p.figure, p.axes)
    shown = words(p.axes[0, 0, 0])
    assert "\\x1b[31mred" in shown
    assert "\\$\\frac{1}{\\$" in shown
    assert all(text.isprintable() for text in shown)


def test_other_inputs_stay_what_they_are():
    ports = [Port("age", (2,), [["age", "dose"]], "table"), text_port(3, vocabulary=["no", "yes", "well"])]
    data = [torch.ones(1, 2), torch.tensor([[1, 0, 2]])]
    result = result_of(ports, data, [np.ones((1, 2, 1)), np.ones((1, 3, 1))], ["out"])
    p = result.plot()
    assert [type(panel) for panel in p.frame.panels.flat] == [Bars, Words]
    assert words(p.axes[0, 0, 1]) == ["yes", "no", "well"]
    assert [trace.type for trace in result.plot(as_plotly=True).figure.data] == ["bar", "bar"]
    result.result[0][1] = None
    p = result.plot()
    assert [type(panel) for panel in p.frame.panels.flat] == [Bars, Empty]


def test_columns_of_categories_are_bars():
    result = result_of([text_port(2, ["sex", "island"])], [torch.tensor([[0, 2]])], [np.ones((1, 2, 1))], ["out"])
    assert isinstance(result.plot().frame.panels[0, 0, 0], Bars)


def test_values_that_are_missing_are_white():
    result = text_result([["a", "b"]], np.array([[[1.0], [np.nan]]]), ["out"])
    np.testing.assert_allclose(colours(result.plot().axes[0, 0, 0])[1], to_rgb("white"), atol=0.005)


def test_tokens_along_two_axes_are_refused():
    port = Port("ids", (2, 3), [["a", "b"], ["X1", "X2", "X3"]], "tokens")
    result = result_of([port], [torch.zeros(1, 2, 3)], [np.ones((1, 2, 3, 1))], ["out"])
    with pytest.raises(ValueError, match=r"tokens of the shape \(2, 3\).*single axis"):
        result.plot()


def test_plotly_draws_each_word_with_its_value():
    figure = review().plot([0, 1], as_plotly=True).figure
    first, second = figure.data
    assert list(first.text) == ["[CLS]", "unbelievable", "plot", ",", "good", "[SEP]"]
    np.testing.assert_allclose(first.marker.color, np.array([0, 2, 0.5, 0, 4, 0.25]) / 4)
    assert [float(row[1]) for row in first.customdata] == [0, 2, 0.5, 0, 4, 0.25]
    assert second.customdata[-1][0] == "[PAD] \u00d73"
    keys = [note.text for note in figure.layout.annotations if note.name == "scale"]
    assert keys == ["Contribution: full colour at \u00b14"] * 2


def test_plotly_gets_no_tags():
    (trace,) = text_result([HOSTILE], np.ones((1, len(HOSTILE), 1)), ["out"]).plot(as_plotly=True).figure.data
    assert not any("<" in str(text) for text in (*trace.text, *(row[0] for row in trace.customdata)))
