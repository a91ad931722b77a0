"""Names are texts: whatever stands in them, they are shown, and nothing else comes of them."""

from __future__ import annotations

import io
import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest

from innsight_py import Converter, SpecError, run_grad
from innsight_py.cli.output import without_formulas

NAMES = {
    "escape": "\x1b[2J\x1b[31mred",
    "newline": "one\ntwo",
    "return": "one\rtwo",
    "bell": "\a\b\x7f",
    "surrogate": "half\ud800",
    "right to left": "\u202eabc",
    "open formula": r"$\frac{1}{$",
    "unknown formula": r"$\nothing$ $",
    "formula": r"$\alpha$",
    "one dollar": "5 $",
    "template": "%{x} %{customdata[0]}",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "sheet": "=1+1",
    "command": "@SUM(1)",
    "long": "x" * 3000,
    "empty": " ",
}
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f\x9b\u202e\ud800-\udfff]")


def result(name: str):
    spec = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, 2.0], [0.5, 1.0]], "name": name}]}
    converter = Converter(spec, input_names=[name, "other"], output_names=[name, "Y2"])
    return run_grad(converter, np.ones((4, 2)), output_idx=[0, 1])


@pytest.mark.parametrize("name", NAMES)
def test_printed(name, capsys):
    res = result(NAMES[name])
    for text in (repr(res), repr(res.converter), res._repr_html_(), res.converter._repr_html_()):
        assert not CONTROL.search(text)
        text.encode()  # a terminal can show it
    assert "<script" not in res._repr_html_() + res.converter._repr_html_()
    plain = repr(result("feature"))
    assert name in ("long",) or len(repr(res).splitlines()) <= len(plain.splitlines()) + 1


@pytest.mark.parametrize("name", NAMES)
def test_errors(name):
    layers = [{"type": "Dense", "weight": [[1.0]], "name": NAMES[name]}]
    for spec in (
        {"input_dim": [2], "layers": layers},
        {"input_dim": [2], "layers": layers * 2},
        {"input_dim": [1], "layers": layers, "outputs": [NAMES[name] + "x"]},
        {"input_dim": [1], "layers": [{**layers[0], "inputs": [NAMES[name] + "x"]}]},
        {"input_dim": [1], "layers": [{**layers[0], "inputs": [NAMES[name]]}]},
    ):
        with pytest.raises(SpecError) as error:
            Converter(spec)
        assert not CONTROL.search(str(error.value))


@pytest.mark.parametrize("name", NAMES)
def test_pictures(name, tmp_path):
    res = result(NAMES[name])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        for picture in (res.plot([0, 1], output_idx=[0, 1]), res.plot_global(output_idx=[0, 1])):
            picture.save(tmp_path / "picture.png")


@pytest.mark.parametrize("name", NAMES)
def test_pages(name, tmp_path):
    pytest.importorskip("plotly")
    res = result(NAMES[name])
    for picture in (res.plot([0, 1], output_idx=[0, 1], as_plotly=True), res.plot_global(as_plotly=True)):
        picture.save(tmp_path / "page.html")
        figure = json.loads(picture.figure.to_json()) if hasattr(picture, "figure") else {}
        for trace in figure.get("data", []):
            fields = set(re.findall(r"%\{([^}]*)\}", str(trace.get("hovertemplate", ""))))
            assert not {field for field in fields if field.startswith("x")} or name != "template"
        assert "<script>alert" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_valid_formula_is_drawn_as_one():
    pytest.importorskip("matplotlib")
    from innsight_py.plots.mathtext import drawn

    assert drawn(r"$\alpha$ of 2") == r"$\alpha$ of 2"
    assert drawn(r"$\frac{1}{$") == r"\$\frac{1}{\$"
    assert drawn("no dollar") == "no dollar"


def test_sheets_run_nothing():
    frame = pd.DataFrame(
        {"feature": ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "-2", "+1.5e3", "age"], "value": -1.5}
    )
    out = io.StringIO()
    without_formulas(frame).to_csv(out, index=False)
    cells = [row.partition(",")[0].strip('"') for row in out.getvalue().splitlines()[1:]]
    assert cells == ["'=1+1", "'+cmd|' /C calc'!A0", "'-2+3", "'@SUM(A1)", "'\t=1", "-2", "+1.5e3", "age"]
    assert out.getvalue().splitlines()[1].endswith(",-1.5")
    assert frame["feature"][0] == "=1+1"
