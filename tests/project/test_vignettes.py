"""Every vignette runs from its first cell to its last, and what a cell shows can be shown."""

from __future__ import annotations

import ast
import importlib.util
import sys
import warnings
from pathlib import Path

import jupytext
import pytest

FOLDER = Path(__file__).parents[2] / "vignettes"
VIGNETTES = sorted(path.stem for path in FOLDER.glob("*.md"))
ISSUE = {
    "introduction", "iris", "penguins", "images", "in-depth", "torch-gradients", "from-r", "own-model", "onnx",
    "regression", "time-series", "ecg", "six-methods", "gradcam", "segmentation", "two-inputs", "million-rows",
    "faithful", "shortcut", "texts", "transformer",
}  # fmt: skip
NEEDS = {"images": "fer", "onnx": "rapidocr_onnxruntime"}


def test_all_are_there():
    assert set(VIGNETTES) == ISSUE


def _show(value):
    """Do what a notebook does with the value of a cell's last line."""
    for form in ("_repr_mimebundle_", "_repr_html_", "_repr_png_"):
        draw = getattr(value, form, None)
        if draw is not None:
            draw()
    repr(value)


@pytest.mark.parametrize("name", VIGNETTES)
def test_vignette(name, monkeypatch):
    needed = NEEDS.get(name)
    if needed is not None and importlib.util.find_spec(needed) is None:
        pytest.skip(f"the package {needed} is not installed")
    monkeypatch.chdir(FOLDER)
    monkeypatch.setenv("MPLBACKEND", "agg")
    before = sorted(path.name for path in FOLDER.iterdir())
    names: dict[str, object] = {"__name__": "__main__"}
    cells = [cell.source for cell in jupytext.read(FOLDER / f"{name}.md").cells if cell.cell_type == "code"]
    assert cells
    shown = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        warnings.filterwarnings("ignore", ".*attributions do not add up")  # few steps, to be quick
        for source in cells:
            tree = ast.parse(source)
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, f"{name}.md", "exec"), names)  # noqa: S102
            if last is not None:
                _show(eval(compile(ast.Expression(last.value), f"{name}.md", "eval"), names))  # noqa: S307
                shown += 1
    assert shown
    if "matplotlib.pyplot" in sys.modules:
        import matplotlib.pyplot as plt

        assert all(figure.axes for figure in map(plt.figure, plt.get_fignums()))
        plt.close("all")
    assert sorted(path.name for path in FOLDER.iterdir()) == before
