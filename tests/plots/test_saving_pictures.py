"""Files of pictures: what can be written, and what is said of other endings."""

from __future__ import annotations

import io
import sys
import tempfile
import types
from pathlib import Path

import pytest
import torch

from innsight_py import Converter, run_grad
from innsight_py._errors import code_of

RESULT = run_grad(Converter(torch.nn.Linear(3, 2), input_dim=(3,)), torch.randn(2, 3))


@pytest.mark.parametrize("ending", ["html", "htm", "HTML"])
def test_a_page_from_matplotlib(ending, tmp_path, monkeypatch):
    """It is no matter whether plotly is installed: what was asked for is a page."""
    with monkeypatch.context() as without:
        for name in ("plotly", "plotly.graph_objects"):
            without.setitem(sys.modules, name, None)
        with pytest.raises(ValueError, match="as_plotly=True") as error:
            RESULT.plot().save(tmp_path / f"x.{ending}")
    assert code_of(error.value) == "saved-pictures"
    RESULT.plot(as_plotly=True).save(tmp_path / f"x.{ending}")
    assert list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x.docx", "x.npy", "archive.zip"])
def test_endings_that_nothing_draws(name, tmp_path):
    with pytest.raises(ValueError, match=r"\.png") as error:
        RESULT.plot().save(tmp_path / name)
    assert code_of(error.value) == "saved-pictures"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x.png", "x.pdf", "x.svg", "x"])
def test_endings_that_are_drawn(name, tmp_path):
    RESULT.plot().save(tmp_path / name)
    assert [path.stem for path in tmp_path.iterdir()] == ["x"]


def test_a_format_that_is_named_and_a_buffer(tmp_path):
    RESULT.plot().save(tmp_path / "x.picture", format="png")
    buffer = io.BytesIO()
    RESULT.plot().save(buffer)
    assert buffer.getvalue()[1:4] == b"PNG"


@pytest.mark.parametrize("path", [3, None, ["x.png"]], ids=str)
def test_what_is_no_path(path):
    with pytest.raises(TypeError, match="expected the path of a file") as error:
        RESULT.plot().save(path)
    assert code_of(error.value) == "saved-pictures"


def test_a_picture_from_plotly(tmp_path):
    with pytest.raises(ValueError, match=r"\.html") as error:
        RESULT.plot(as_plotly=True).save(tmp_path / "x.png")
    assert code_of(error.value) == "saved-pictures"


def test_a_path_in_the_place_of_the_instances():
    with pytest.raises(TypeError, match=r"result\.plot\(\)\.save\(path\)") as error:
        RESULT.plot("x.png")
    assert code_of(error.value) == "pictures"


# -- showing ------------------------------------------------------------------------------------------------------


def test_a_script_shows_a_page_in_the_browser(monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("webbrowser.open", lambda address: not opened.append(address))
    assert RESULT.plot(as_plotly=True).show() is None
    (address,) = opened
    assert address.startswith(tmp_path.as_uri())
    assert Path(address.removeprefix("file://")).read_bytes().startswith(b"<!DOCTYPE html>")


def test_without_a_browser_the_message_says_where_the_page_lies(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    with pytest.warns(UserWarning, match=r"picture\.html; save\(path\)"):
        RESULT.plot(as_plotly=True).show()
    assert [path.name for path in tmp_path.rglob("*.html")] == ["picture.html"]


def test_a_notebook_shows_a_picture_itself(monkeypatch):
    shown = []
    known = types.ModuleType("IPython")
    known.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    known.display = types.ModuleType("IPython.display")
    known.display.display = shown.append
    monkeypatch.setitem(sys.modules, "IPython", known)
    monkeypatch.setitem(sys.modules, "IPython.display", known.display)
    monkeypatch.setattr("webbrowser.open", lambda address: pytest.fail("a browser was opened"))
    p = RESULT.plot(as_plotly=True)
    p.show()
    assert shown == [p]


# -- very many panels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_plotly", [False, True])
def test_very_many_panels_are_asked_for_twice(as_plotly):
    many = run_grad(Converter(torch.nn.Linear(3, 2), input_dim=(3,)), torch.randn(120, 3))
    with pytest.raises(ValueError, match=r"'data_idx'.*101 panels.*plot_global\(\).*max_panels=101") as error:
        many.plot(range(101), as_plotly=as_plotly)
    assert code_of(error.value) == "pictures"
    assert many.plot(range(101), as_plotly=as_plotly, max_panels=101).frame.panels.size == 101
