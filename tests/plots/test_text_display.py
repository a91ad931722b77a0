"""Texts as pages and in terminals: what they show, and that nothing in them runs."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from text_results import HOSTILE, TextModel, result_of, review, text_port, text_result

from innsight_py import Converter, run_grad
from innsight_py.inputs.ports import Port
from innsight_py.plots.text_display import TextDisplay
from innsight_py.plots.text_terminal import MOST_NODES

#: All that a page is made of, and all that its tags may say.
TAGS = {
    "html", "head", "meta", "title", "style", "body", "form", "div", "span", "b", "br", "fieldset", "label", "input",
    "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "style", "data-v", "type", "value", "checked", "title",
    "role", "aria-label", "dir",
}  # fmt: skip


class Reader(HTMLParser):
    """Reads a page: its tags, attributes and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def of(self, name):
        return [(attrs, tag) for tag, attrs in self.tags if name in (attrs.get("class") or "").split()]


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")


def saved(result, path, rows=0, **chosen) -> str:
    result.text(rows, **chosen).save(path / "why.html")
    return (path / "why.html").read_text(encoding="utf-8")


# -- pages --------------------------------------------------------------------------------------------------------


def test_words_have_colours_and_values(tmp_path):
    reader = Reader(saved(review(), tmp_path, output_idx=0))
    words = [attrs for attrs, _ in reader.of("w")]
    assert [word["data-v"] for word in words] == [
        "[CLS]: 0", "unbelievable: 2 (un 1, ##believ 2, ##able -1)", "plot: 0.5", ",: 0", "good: 4", "[SEP]: 0.25",
    ]  # fmt: skip
    assert [word["style"].partition(";")[0] for word in words] == [
        "background:#ffffff", "background:#ff8080", "background:#ffdfdf", "background:#ffffff", "background:#ff0000",
        "background:#ffefef",
    ]  # fmt: skip
    assert [attrs["data-v"] for attrs, _ in reader.of("s")] == ["[CLS]: 0", "[SEP]: 0.25"]
    shown = "".join(reader.texts)
    assert "[CLS] unbelievable plot, good [SEP]" in shown
    assert "prediction 7.25sum 6.75goal of the sum 6.75" in shown


def test_one_scale_for_all_rows_and_nodes(tmp_path):
    """The largest magnitude of all words has the full colour; words of another row with half of it are paler."""
    reader = Reader(saved(review(), tmp_path, [0, 1]))
    looks = {attrs["data-v"]: attrs["style"] for attrs, _ in reader.of("w")}
    assert looks["good: 4"].startswith("background:#ff0000")
    assert looks["bad: -4"] == "background:#0000ff;color:white"
    assert looks["bad: 2"].startswith("background:#ff8080")
    assert looks["good: -2"].startswith("background:#8080ff")


def test_a_click_chooses_a_class_or_all_of_them(tmp_path):
    reader = Reader(saved(review(), tmp_path, [0, 1]))
    inputs = [attrs for tag, attrs in reader.tags if tag == "input"]
    assert [(attrs["name"], attrs["value"]) for attrs in inputs] == [
        (f"row{row}", str(node)) for row in (0, 1) for node in (0, 1, 2)
    ]
    # The largest prediction is shown first: 7.25 of good, and 1.875 of bad.
    assert [attrs["value"] for attrs in inputs if "checked" in attrs] == ["0", "1"]
    assert {"good", "bad", "all together"} <= set(reader.texts)
    assert len(reader.of("node")) == 6
    cells = [attrs["data-v"] for tag, attrs in reader.tags if tag == "td" and "data-v" in attrs]
    assert len(cells) == 24  # two rows, two nodes, six words
    assert cells[1] == "good: unbelievable: 2 (un 1, ##believ 2, ##able -1)"
    assert cells[6] == "bad: [CLS]: 0"


def test_a_single_node_has_no_table(tmp_path):
    reader = Reader(saved(review(), tmp_path, output_label="bad"))
    assert [attrs["value"] for tag, attrs in reader.tags if tag == "input"] == ["0"]
    assert "table" not in {tag for tag, _ in reader.tags}


def test_what_is_generated_by_context_is_a_table_first(tmp_path):
    """Nodes of an output with several axes, a word at a place each, are seen together."""
    result = text_result([["Ġthe", "Ġcat", "Ġsat"]], np.arange(6.0).reshape(1, 3, 2), ["cat", "mat"])
    result.described = TextModel(result.described.inputs, [Port("out", (2, 2), [["1", "2"], ["cat", "mat"]], "table")])
    result.output_idx = [[(0, 0), (1, 1)]]
    reader = Reader(saved(result, tmp_path))
    inputs = [attrs for tag, attrs in reader.tags if tag == "input"]
    assert [attrs["value"] for attrs in inputs if "checked" in attrs] == ["2"]
    assert [attrs["data-v"].rpartition(": ")[2] for tag, attrs in reader.tags if tag == "td" and "data-v" in attrs] == [
        "0", "2", "4", "1", "3", "5",
    ]  # fmt: skip


def test_nothing_in_a_text_runs(tmp_path):
    values = np.ones((1, len(HOSTILE), len(HOSTILE)))
    result = text_result([HOSTILE], values, HOSTILE)
    result.data_names, result.title, result.value_name = ["</title><script>"], "<script>", "</style><script>"
    text = saved(result, tmp_path)
    reader = Reader(text)
    assert {tag for tag, _ in reader.tags} <= TAGS
    assert {name for _, attrs in reader.tags for name in attrs} <= ATTRIBUTES
    styles = [attrs["style"] for _, attrs in reader.tags if "style" in attrs]
    assert all(re.fullmatch(r"background:#[0-9a-f]{6}(;color:(white|black|#737373))?", style) for style in styles)
    policy = next(attrs["content"] for _, attrs in reader.tags if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'")
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", text)
    words = [attrs["data-v"] for attrs, _ in reader.of("w")]
    assert "<script>alert(1)</script>: 1" in words
    assert "\"onmouseover='alert(1)': 1" in words
    assert "&lt;b&gt;: 1" in words


def test_a_notebook_gets_the_page_without_its_head(tmp_path):
    shown = review().text()._repr_html_()
    assert shown in saved(review(), tmp_path)
    assert not {"html", "head", "body", "meta", "script"} & {tag for tag, _ in Reader(shown).tags}


def test_lone_surrogates_are_written(tmp_path):
    assert "\\ud800" in saved(text_result([["a\ud800"]], np.ones((1, 1, 1)), ["out"]), tmp_path)


def test_other_inputs_are_named(tmp_path):
    ports = [Port("age", (1,), [["age"]], "table"), text_port(1, vocabulary=["no"])]
    result = result_of(ports, [torch.ones(1, 1), torch.zeros(1, 1)], [np.ones((1, 1, 1)), np.ones((1, 1, 1))], ["out"])
    shown = "".join(Reader(saved(result, tmp_path)).texts)
    assert "Input_1no text; plot() draws it" in shown
    assert "sum 2" in shown
    result.result[0][1] = None
    assert "not connected to Output_1" in "".join(Reader(saved(result, tmp_path)).texts)


@pytest.mark.parametrize("path", ["why.png", "why", "why.html.txt"])
def test_other_files_are_refused(path, tmp_path):
    with pytest.raises(ValueError, match=r"texts are saved as '\.html'.*plot\(\)\.save\(path\) writes pictures"):
        review().text().save(tmp_path / path)


def test_what_is_no_path_is_refused():
    with pytest.raises(TypeError, match="expected the path of a file, got"):
        review().text().save(3)


def test_tables_are_refused():
    model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, -3.0]]}]}
    with pytest.raises(ValueError, match=r"No input of this model is a text.*plot\(\) draws tables"):
        run_grad(Converter(model), [[1.0, 1.0]]).text()


def test_rows_and_nodes_are_chosen_as_in_plot():
    shown = review().text([1, 0], output_label=["bad"])
    assert isinstance(shown, TextDisplay)
    assert shown.frame.instances == ["data_2", "data_1"]
    assert shown.frame.nodes == ["bad"]
    with pytest.raises(ValueError, match="there are the instances 0 to 1, got 2"):
        review().text(2)


# -- terminals ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("plain")
def test_without_colours_values_stand_behind_words():
    assert repr(review().text(0)).splitlines() == [
        "DeepLift: Contribution in brackets",
        "",
        "data_1: good   Pred. 7.25   Sum 6.75   Goal 6.75",
        "[CLS][+0] unbelievable[+2] plot[+0.5],[+0] good[+4] [SEP][+0.25]",
        "",
        "data_1: bad   Pred. -2.875   Sum -3.375   Goal -3.375",
        "[CLS][+0] unbelievable[-1] plot[-0.25],[+0] good[-2] [SEP][-0.12]",
    ]


def test_colours_where_the_terminal_has_them(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = str(review().text(0, output_idx=0))
    assert "\x1b[48;5;196;38;5;16mgood\x1b[0m" in shown  # 196 is red, 16 black
    assert "\x1b[48;5;231;38;5;243m[CLS]\x1b[0m" in shown  # 231 is white, 243 grey
    assert "from -4 (blue) to 4 (red)" in shown
    assert shown.count("\x1b[") == 2 * (shown.count("\x1b[0m"))


@pytest.mark.parametrize("colours", ["NO_COLOR", "FORCE_COLOR"])
def test_no_text_moves_the_cursor(monkeypatch, colours):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(colours, "1")
    result = text_result([HOSTILE], np.ones((1, len(HOSTILE), len(HOSTILE))), HOSTILE)
    result.data_names = ["\x1b]0;title\x07"]
    shown = re.sub(r"\x1b\[(0|1|48;5;\d+;38;5;\d+)m", "", str(result.text()))
    assert all(line.isprintable() for line in shown.split("\n"))
    assert "\\x1b[31mred" in shown


@pytest.mark.usefixtures("plain")
def test_lines_fit_and_nodes_are_few():
    rng = np.random.default_rng(1)
    tokens = rng.choice(["film", "日本語", "unbelievable"], 60).tolist()
    labels = [f"node {n}" for n in range(MOST_NODES + 2)]
    lines = str(text_result([tokens], rng.normal(size=(1, 60, len(labels))), labels).text()).splitlines()
    assert lines[-1] == "... and 2 more output nodes; choose some with output_idx"
    width = [len(line) + len(re.findall("[\u4e00-\u9fff]", line)) for line in lines]
    assert 60 < max(width) < 80
