"""How converters and results are printed, line by line as R prints them, and as HTML."""

from __future__ import annotations

import html.parser
import itertools
import re

import numpy as np
import pandas as pd
import pytest
from goldens import FOLDER

from innsight_py import (
    LRP,
    ConnectionWeights,
    Converter,
    DeepLift,
    DeepSHAP,
    ExpectedGradient,
    Gradient,
    IntegratedGradient,
    SmoothGrad,
)

RNG = np.random.default_rng(5)


def dense(out: int, ins: int, **keys) -> dict:
    return {"type": "Dense", "weight": RNG.normal(size=(out, ins)), "bias": RNG.normal(size=out), **keys}


def conv(out: int, ins: int, *kernel: int, **keys) -> dict:
    return {
        "type": f"Conv{len(kernel)}D",
        "weight": RNG.normal(size=(out, ins, *kernel)),
        "activation_name": "relu",
        **keys,
    }


def tabular() -> Converter:
    return Converter(
        {"input_dim": 4, "layers": [dense(10, 4), dense(5, 10), dense(3, 5, activation_name="softmax")]},
        input_names=["Sepal.Length", "Sepal.Width", "Petal.Length", "Petal.Width"],
        output_names=["setosa", "versicolor", "virginica"],
    )  # fmt: skip


def signal() -> Converter:
    pool = {"type": "MaxPooling1D", "kernel_size": 2}
    layers = [conv(8, 3, 8), conv(4, 8, 8), pool, {"type": "Flatten"}, dense(16, 92), dense(3, 16)]
    return Converter({"input_dim": [3, 60], "layers": layers})


def image() -> Converter:
    pool = {"type": "AveragePooling2D", "kernel_size": 2}
    layers = [conv(8, 3, 5, 5), conv(4, 8, 5, 5), pool, {"type": "Flatten"}, dense(16, 576), dense(2, 16)]
    return Converter({"input_dim": [3, 32, 32], "layers": layers})


def multi(**keys) -> Converter:
    layers = [
        conv(4, 3, 3, 3),
        {"type": "Flatten"},
        dense(6, 400, name="left"),
        dense(6, 5, name="right", inputs=["input_2"]),
        {"type": "Concatenate", "axis": 1, "inputs": ["left", "right"], "name": "both"},
        dense(3, 12, name="three", inputs=["both"]),
        dense(2, 12, name="two", inputs=["both"]),
    ]
    return Converter({"input_dim": [[3, 12, 12], [5]], "layers": layers, "outputs": ["three", "two"]}, **keys)


def multi_data() -> list[np.ndarray]:
    return [RNG.normal(size=(6, 3, 12, 12)), RNG.normal(size=(6, 5))]


def iris_like() -> np.ndarray:
    return RNG.normal(size=(150, 4)) + 3


PRINTED = {
    "print_converter_tabular.txt": tabular,
    "print_converter_signal.txt": signal,
    "print_converter_image.txt": image,
    "print_converter_multi.txt": multi,
    "print_deeplift_tabular.txt": lambda: DeepLift(tabular(), iris_like(), x_ref=iris_like().mean(0, keepdims=True)),
    "print_lrp_multi.txt": lambda: LRP(
        multi(), multi_data(), rule_name="epsilon", rule_param=0.01, output_idx=[[0, 1], [0, 1]]
    ),
}

# -- what R printed ---------------------------------------------------------------------------------------------

BULLET = re.compile(r"\s*(•|─ |\d+\. |──|Fields|Output layer|$)")
NUMBER = r"-?\d+(\.\d+)?(e[+-]\d+)?"


def items(text: str) -> list[list[str]]:
    """Cut a text into its lines, with the lines that continue a bullet together with its first."""
    found: list[list[str]] = []
    for line in text.strip("\n").split("\n"):  # R starts with an empty line and ends with one
        if BULLET.match(line) or not found:
            found.append([line])
        else:
            found[-1].append(line)
    return found


def joined(item: list[str]) -> str:
    return " ".join([item[0], *(line.strip() for line in item[1:])])


def as_ours(text: str) -> str:
    """Make the differences that are meant, and no other."""
    text = text.replace("model_as_list", "model_as_dict").replace("TRUE", "True").replace("FALSE", "False")

    def from_0(found: re.Match) -> str:
        indices = [str(int(i) - 1) for i in found[2].split(", ")]
        return f"{found[1]}{', '.join(indices)} (→"

    return re.sub(r"(output_idx: |Output layer \d+: )(\d+(?:, \d+)*) \(→", from_0, text)


def without_residual(text: str) -> str:
    """Leave out what R does not print, between its last section and its last line."""
    before, _, after = text.partition("\n── Residual (residual) ──\n")
    return before + "\n" + after[after.rindex("\n") + 1 :] if after else text


def without_numbers(line: str) -> str:
    """Blank out numbers that depend on the weights: those of references and of results."""
    if "x_ref: mean:" in line or "─ Range:" in line:
        return re.sub(NUMBER, "#", line.replace("(q1", "(q").replace("q3", "q"))
    return line


@pytest.mark.parametrize("name", PRINTED)
def test_as_r_prints(name):
    theirs, ours = items(as_ours((FOLDER / name).read_text())), items(without_residual(repr(PRINTED[name]())))
    heads = [re.sub(r"_Layer \+ \w+", "_Layer", joined(item).split(":")[0]) for item in ours]
    assert heads == [joined(item).split(":")[0] for item in theirs]
    for mine, expected in zip(ours, theirs, strict=True):
        if joined(expected).endswith(", NA"):
            # R cuts a long list of names with NA (and a warning) where three dots are meant (quirk Q39). The dots are
            # one letter wider, so that where the lines break is looked at below.
            assert joined(mine) == joined(expected).removesuffix("NA") + "..."
        elif "_Layer" in expected[0]:  # which activation a layer has R does not say
            assert re.sub(r"_Layer \+ \w+", "_Layer", joined(mine)) == joined(expected)
        else:
            assert list(map(without_numbers, mine)) == list(map(without_numbers, expected))


@pytest.mark.parametrize("name", PRINTED)
def test_lines_break_where_rs_do(name):
    """R's lines are shorter than the width: at most 79 characters in 80 columns, and no word fits the line before."""
    for text in ((FOLDER / name).read_text(), repr(PRINTED[name]())):
        for item in items(text):
            if set(item[0].strip()) <= {"─"} or item[0].startswith("──"):
                continue
            for line in item:
                assert len(line) <= 79, line
            for line, following in itertools.pairwise(item):
                word = re.match(r"\(\*[^)]*\)\S*|\S+", following.strip())[0]  # a shape stays in one piece
                assert len(line) + 1 + len(word) > 79, (line, following)


def test_numbers_have_six_digits():
    method = DeepLift(tabular(), np.full((2, 4), 3.0), x_ref=[[1 / 3, 1234567.0, 2.0, 0.00001234567]], dtype="double")
    text, values = repr(method), method.get_result()
    assert "x_ref: mean: 308642 (q1: 0.250003, q3: 308643)" in text
    low, median, high = (f"{value:.6g}" for value in (values.min(), np.median(values), values.max()))
    assert f"─ Range: min: {low}, median: {median}, max: {high}\n" in text


@pytest.mark.parametrize("columns", [72, 80, 100, 120, 300])
@pytest.mark.parametrize("name", PRINTED)
def test_other_widths(name, columns, monkeypatch):
    """Nothing is wider than the terminal, nor than 120 characters; shapes are not broken."""
    thing = PRINTED[name]()
    whole = " ".join(repr(thing).split())
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = repr(thing).split("\n")
    assert max(map(len, lines)) == min(columns, 120)
    assert lines[-1] == "─" * min(columns, 120)
    for shape in re.findall(r"\(\*[^)]*\)", whole):
        assert any(shape in line for line in lines)


# -- converters -------------------------------------------------------------------------------------------------


def test_the_kept_dict_is_mentioned():
    assert "• model_as_dict: not included\n" in repr(multi())
    assert "• model_as_dict: included\n" in repr(multi(save_model_as_dict=True))


@pytest.mark.parametrize(("names", "shown"), [(9, "X9"), (40, "...")])
def test_long_lists_of_names(names, shown):
    text = repr(Converter({"input_dim": names, "layers": [dense(2, names)]}))
    line = joined(next(item for item in items(text) if "Feature" in item[0]))
    assert line.startswith(f"      ─ Feature ({names}): X1, X2, X3")
    assert line.endswith(f", {shown}")
    assert "NA" not in line


def test_levels_are_not_what_is_printed():
    """Names are shown in the order of the axis, whatever the order of their levels."""
    names = pd.Categorical(["b", "a", "c"], categories=["c", "b", "a"])
    assert "─ Feature (3): b, a, c\n" in repr(Converter({"input_dim": 3, "layers": [dense(2, 3)]}, input_names=names))


def test_merging_layers_show_all_their_inputs():
    layers = [
        {"type": "Add", "inputs": ["input_1", "input_2"]},
        {"type": "Concatenate", "axis": 1, "inputs": ["Add_1", "input_2"]},
        {"type": "BatchNorm", "gamma": [1.0] * 4, "run_mean": [0.0] * 4, "run_var": [1.0] * 4, "eps": 0.1},
        {"type": "Activation", "act_name": "tanh"},
        {"type": "GlobalPooling", "method": "max"},
        {"type": "Skipping"},
    ]
    text = repr(Converter({"input_dim": [[2, 3], [2, 3]], "layers": layers}))
    assert [joined(item) for item in items(text) if re.match(r"    \d", item[0])] == [
        "    1. Adding_Layer: input_dim: (*, 2, 3), (*, 2, 3), output_dim: (*, 2, 3)",
        "    2. Concatenate_Layer: input_dim: (*, 2, 3), (*, 2, 3), output_dim: (*, 4, 3)",
        "    3. BatchNorm_Layer: input_dim: (*, 4, 3), output_dim: (*, 4, 3)",
        "    4. Activation + tanh: input_dim: (*, 4, 3), output_dim: (*, 4, 3)",
        "    5. GlobalMaxPooling: input_dim: (*, 4, 3), output_dim: (*, 4)",
        "    6. Skipping_Layer: input_dim: (*, 4), output_dim: (*, 4)",
    ]


# -- methods ----------------------------------------------------------------------------------------------------

X, REF = np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([[1.0, 1.0, 2.0, 4.0]])


@pytest.mark.parametrize(
    ("method", "arguments", "lines"),
    [
        (Gradient, {}, ["times_input: False (→ Gradient method)"]),
        (Gradient, {"times_input": True}, ["times_input: True (→ Gradient x Input method)"]),
        (
            SmoothGrad,
            {"times_input": True, "n": 3, "noise_level": 0.25},
            ["times_input: True (→ SmoothGrad x Input method)", "n: 3", "noise_level: 0.25"],
        ),
        (SmoothGrad, {}, ["times_input: False (→ SmoothGrad method)", "n: 50", "noise_level: 0.1"]),
        (
            IntegratedGradient,
            {},
            ["times_input: True (→ decomposition of y - y')", "n: 50", "x_ref: zeros"],
        ),
        (
            IntegratedGradient,
            {"times_input": False, "n": 7, "x_ref": REF},
            ["times_input: False (→ output sensitivity)", "n: 7", "x_ref: mean: 2 (q1: 1, q3: 2.5)"],
        ),
        (ExpectedGradient, {"n": 4}, ["n: 4", "data_ref: zeros"]),
        (ExpectedGradient, {"data_ref": REF}, ["n: 50", "data_ref: mean: 2 (q1: 1, q3: 2.5)"]),
        (DeepLift, {}, ["rule_name: 'rescale'", "winner_takes_all: True", "x_ref: zeros"]),
        (
            DeepSHAP,
            {"rule_name": "reveal_cancel", "data_ref": REF, "winner_takes_all": False},
            ["rule_name: 'reveal_cancel'", "winner_takes_all: False", "data_ref: mean: 2 (q1: 1, q3: 2.5)"],
        ),
        (ConnectionWeights, {"times_input": True}, ["times_input: True (→ local ConnectionWeights method)"]),
        # The default of epsilon is printed as it is computed with (quirk Q1).
        (
            LRP,
            {"rule_name": "epsilon"},
            ["rule_name: 'epsilon'", "rule_param: 0.001 (default)", "winner_takes_all: True"],
        ),
        (
            LRP,
            {"rule_name": "alpha_beta"},
            ["rule_name: 'alpha_beta'", "rule_param: 0.5 (default)", "winner_takes_all: True"],
        ),
        (
            LRP,
            {"rule_name": "alpha_beta", "rule_param": 2, "winner_takes_all": False},
            ["rule_name: 'alpha_beta'", "rule_param: 2", "winner_takes_all: False"],
        ),
    ],
)  # fmt: skip
def test_fields_of_a_method(method, arguments, lines):
    found = repr(method(tabular(), X, **arguments)).split("\n")
    start = found.index("Fields (method-specific):")
    assert found[start + 1 : found.index("Fields (other):")] == [f"  • {line}" for line in lines]
    assert found[0].startswith(f"── Method {method.__name__} (innsight) ──")


def test_global_connection_weights():
    text = repr(ConnectionWeights(tabular()))
    assert "  • times_input: False (→ global ConnectionWeights method)\n" in text
    assert "  ─ Shape: (1, 4, 3)\n" in text


@pytest.mark.parametrize(
    ("rule_name", "rule_param", "name_text", "param_text"),
    [
        # one list for the names, another for the parameters, and each shown under its own name (quirk Q40)
        ("epsilon", {"Dense_Layer": 0.25}, ["'epsilon'"], ["Dense_Layer: 0.25", "other layers: 0.001 (default)"]),
        (
            {"Dense_Layer": "alpha_beta"},
            None,
            ["Dense_Layer: 'alpha_beta'", "other layers: 'simple'"],
            ["Dense_Layer: 0.5 (default)"],
        ),
        (
            {"Dense_Layer": "epsilon", "BatchNorm_Layer": "pass"},
            {"Dense_Layer": 0.25},
            ["Dense_Layer: 'epsilon'", "BatchNorm_Layer: 'pass'", "other layers: 'simple'"],
            ["Dense_Layer: 0.25"],
        ),
    ],
)
def test_rules_for_each_class(rule_name, rule_param, name_text, param_text):
    text = " ".join(repr(LRP(tabular(), X, rule_name=rule_name, rule_param=rule_param)).split())
    names, params = re.search(r"rule_name: (.*) • rule_param: (.*) • winner_takes_all", text).groups()
    assert all(part in names for part in name_text)
    assert all(part in params for part in param_text)


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("dtype", ["float", "double"])
def test_shared_fields(flag, dtype):
    x = RNG.normal(size=(2, 3, 60))
    method = Gradient(
        signal(), x if flag else np.moveaxis(x, 1, 2), ignore_last_act=flag, channels_first=flag, dtype=dtype,
        output_idx=[2, 0],
    )  # fmt: skip
    lines = repr(method).split("\n")
    assert "  • output_idx: 2, 0 (→ corresponding labels: 'Y3', 'Y1')" in lines
    assert f"  • ignore_last_act: {flag}" in lines
    assert f"  • channels_first: {flag}" in lines
    assert f"  • dtype: '{dtype}'" in lines
    assert f"  ─ Shape: ({'2, 3, 60, 2' if flag else '2, 60, 3, 2'})" in lines


def unconnected() -> Converter:
    layers = [dense(2, 4, name="first"), dense(2, 3, name="second", inputs=["input_2"])]
    return Converter({"input_dim": [[4], [3]], "layers": layers, "outputs": ["first", "second"]})


def test_unselected_and_unconnected():
    data = [X, np.ones((1, 3))]
    text = repr(Gradient(unconnected(), data, output_idx=[None, [1]]))
    assert "      • Output layer 1: not applied!\n      • Output layer 2: 1 (→ corresponding labels: 'Y2')\n" in text
    assert (
        "  • Input layer 1:\n      (not connected to output layer 2)\n  • Input layer 2:\n      ─ Shape: (1, 3, 1)"
        in text
    )
    text = repr(Gradient(unconnected(), data, output_idx=[[0], [1]]))
    assert text.count("(not connected to output layer") == 2
    assert "Output layer 1:\n  • Input layer 1:\n      ─ Shape: (1, 4, 1)\n" in text
    assert "Output layer 2:\n  • Input layer 1:\n      (not connected to output layer 2)\n" in text


@pytest.mark.filterwarnings("ignore:Argument .data.. .* rows hold NaN:UserWarning")
@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([np.nan, 1.0, 5.0, 2.0], "─ Range: min: 1, median: 2, max: 5\n  ─ Number of NaN values: 1\n"),
        ([1.0, 2.0, 4.0, 8.0], "─ Range: min: 1, median: 3, max: 8\n  ─ Number of NaN values: 0\n"),
        ([np.nan] * 4, "─ Number of NaN values: 4\n"),
    ],
)
def test_missing_values_are_counted(values, text):
    """The median is between the middle two, and missing values are left out of it."""
    identity = Converter({"input_dim": 4, "layers": [{"type": "Dense", "weight": [[1.0] * 4]}]})
    assert text in repr(Gradient(identity, [values], times_input=True))


# -- notebooks --------------------------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """Checks that every tag is closed in order and keeps the texts of the cells."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        """Note that a tag is open."""
        self.open.append(tag)
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        """Close the tag that was opened last."""
        assert self.open, f"closed without being opened: {tag}"
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Keep the text of cells, and allow none between them."""
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data
        elif self.open and self.open[-1] in ("table", "tr", "thead", "tbody"):
            raise AssertionError(f"text between cells: {data!r}")


NASTY = ["<b>", "a & b", '"quoted"', "</td>", "&lt;"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Converter({"input_dim": 5, "layers": [dense(5, 5)]}, input_names=NASTY, output_names=NASTY),
        lambda: Gradient(
            Converter({"input_dim": 5, "layers": [dense(5, 5)]}, input_names=NASTY, output_names=NASTY), np.ones((1, 5))
        ),
    ],
    ids=["converter", "method"],
)
def test_html_escapes_names(make):
    page = Page(make()._repr_html_())
    assert page.tags <= {"p", "strong", "table", "thead", "tbody", "tr", "th", "td"}
    assert any(all(name in cell for name in NASTY) for cell in page.cells)


@pytest.mark.parametrize("name", PRINTED)
def test_html_says_what_the_text_says(name):
    thing = PRINTED[name]()
    cells = Page(thing._repr_html_()).cells
    for shape in re.findall(r"Shape: (\(.*\))", repr(thing)):
        assert shape in cells
    for layer in re.findall(r"\n    (\d+)\. (\w+): input_dim: (.*), output_dim: (.*)", repr(thing)):
        assert any(cells[i : i + 4] == list(layer) for i in range(len(cells)))
    for axis, size in re.findall(r"─ ([A-Z][\w/ ]+) \((\d+)\):", repr(thing)):
        assert any(cells[i : i + 2] == [axis, size] for i in range(len(cells)))


def test_html_of_what_is_not_connected():
    cells = Page(Gradient(unconnected(), [X, np.ones((1, 3))], output_idx=[[0], None])._repr_html_()).cells
    assert "not connected" in cells
    assert "not applied!" in cells
