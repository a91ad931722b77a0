"""Messages, the list of their sections and the page about them are in step, and its examples do what it says."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch
from error_page import Section, read

import innsight_py
from innsight_py import Converter
from innsight_py._errors import SECTION_OF, SECTIONS, code_of, section_of
from innsight_py.plots.frame import PlotFrame
from innsight_py.plots.matplotlib import Display
from innsight_py.plots.plotly import PlotlyDisplay
from innsight_py.plots.text_display import TextDisplay

ROOT = Path(__file__).parents[2]
START, SECTIONS_OF_PAGE = read()
EXAMPLES = [
    pytest.param(section, pair, id=f"{section.code}-{n}")
    for section in SECTIONS_OF_PAGE
    if section.language == "python"
    for n, pair in enumerate(section.pairs)
]
ALLOWED = (ValueError, TypeError, OSError, ImportError, innsight_py.UnsupportedLayerError)


@pytest.fixture(scope="module")
def start() -> dict:
    names: dict = {}
    exec(START, names)  # noqa: S102 (the page's own code)
    return names


def run(code: str, names: dict) -> tuple[list[str], BaseException | None]:
    """Run code, and return the messages of its warnings and errors."""
    error = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            exec(code, names)  # noqa: S102
        except Exception as raised:
            error = raised
    messages = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    return messages if error is None else [*messages, str(error)], error


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_has_a_section_for_each_code():
    assert [section.code for section in SECTIONS_OF_PAGE] == list(SECTIONS)
    assert all(section.pairs and 40 < len(section.words) < 800 for section in SECTIONS_OF_PAGE)


@pytest.mark.parametrize(("section", "pair"), EXAMPLES)
def test_cause_and_way_on(section: Section, pair, start, tmp_path, monkeypatch):
    """The cause raises or warns just this, and the way on says nothing."""
    for package in re.findall(r"^import (keras|onnx)$", pair[0], re.MULTILINE):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    names, (cause, way_on) = dict(start), pair
    with monkeypatch.context() as without:
        if section.code == "packages":
            for name in ("plotly", "plotly.graph_objects"):
                without.setitem(sys.modules, name, None)
        messages, error = run(cause, names)
    assert [code_of(message) for message in messages] == [section.code], messages
    assert error is None or isinstance(error, ALLOWED)
    messages, error = run(way_on, names)
    assert (messages, error) == ([], None)


def test_cause_and_way_on_in_the_shell(tmp_path, monkeypatch, capsys):
    from innsight_py.cli import main

    monkeypatch.chdir(tmp_path)
    Converter(torch.nn.Linear(3, 2), input_dim=(3,)).save("net.safetensors")
    pd.DataFrame({"a": [1.0], "b": [2.0], "c": [3.0]}).to_csv("data.csv", index=False)
    (section,) = [section for section in SECTIONS_OF_PAGE if section.language == "shell"]
    for (cause, way_on), code in ((pair, section.code) for pair in section.pairs):
        for line, wrong in ((cause, True), (way_on, False)):
            monkeypatch.setattr(sys, "argv", shlex.split(line))
            with pytest.raises(SystemExit) as stop:
                main()
            said = capsys.readouterr().err.strip()
            assert bool(stop.value.code) == wrong
            assert code_of(said) == (code if wrong else None)


# -- the list ----------------------------------------------------------------------------------------------------------


def sources() -> dict[str, ast.Module]:
    """Return the syntax tree of each module of the package, by its name."""
    found = {}
    for folder, package in (("innsight_py", "innsight_py"), ("converters", "innsight_py.converters")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join([package, *(part for part in parts if part != "__init__")])
            found[name] = ast.parse(path.read_text())
    return found


SOURCES = sources()


def named_codes() -> set[str]:
    """Return the codes that messages name where they are written."""
    calls = [
        node
        for tree in SOURCES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "see"
    ]
    assert len(calls) > 30
    return {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}


def test_messages_name_sections_that_there_are():
    assert named_codes() <= set(SECTIONS)
    assert set(SECTION_OF.values()) <= set(SECTIONS)


def test_every_section_has_messages():
    raising = {
        section_of(name)
        for name, tree in SOURCES.items()
        if any(isinstance(node, ast.Raise) or getattr(getattr(node, "func", 0), "id", "") in ("warn", "refuse")
               for node in ast.walk(tree))
    }  # fmt: skip
    assert set(SECTIONS) - named_codes() - raising == set()


def test_the_modules_with_a_section_exist():
    """A module that moves takes its section with it."""
    assert [place for place in SECTION_OF if place and f"innsight_py.{place}" not in SOURCES] == []


def test_a_code_that_is_not_in_the_list_is_refused():
    from innsight_py._errors import see

    with pytest.raises(AssertionError, match="nowhere"):
        see("nowhere", "Something is wrong.")


# -- the way out -------------------------------------------------------------------------------------------------------


def public_callables() -> list[tuple[str, object]]:
    """Return what users call: public functions, and the methods of public classes, with their own code."""
    found = []
    objects = [getattr(innsight_py, name) for name in innsight_py.__all__]
    objects += [Display, PlotlyDisplay, TextDisplay, PlotFrame]
    for thing in objects:
        if inspect.isclass(thing):
            if issubclass(thing, Exception):
                continue
            own = [m for _, m in inspect.getmembers(thing) if callable(m) and hasattr(m, "__qualname__")]
            found += [(m.__qualname__, m) for m in own if "innsight_py" in (getattr(m, "__module__", "") or "")]
        elif inspect.isfunction(thing):
            found.append((thing.__name__, thing))
    return sorted(set(found), key=str)


def says_what_it_raises(function: object) -> bool:
    return "Raises\n" in (inspect.getdoc(function) or "")


def test_errors_of_all_that_users_call_get_their_address():
    """Whatever says that it raises something sends its errors through `innsight_py._errors.explained`."""
    calls = public_callables()
    assert len(calls) > 30
    missing = [
        name
        for name, function in calls
        if says_what_it_raises(function)
        and not getattr(function, "ends_with_address", False)
        and not re.match(r"(run_\w+|convert|\w+\.boxplot|\w*Display\.__getitem__)$", name)  # hand on to what does
    ]
    assert missing == []


def test_an_error_of_the_user_stays_as_it_is():
    def own(values):
        raise ValueError("my own words")

    result = innsight_py.run_grad(Converter(torch.nn.Linear(2, 1), (2,)), torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"^my own words$"):
        result.plot_global(preprocess_fun=own)


def test_one_address_each():
    """What goes through two doors gets one address, the innermost."""
    with pytest.raises(ValueError, match="arguments") as error:
        innsight_py.run_intgrad(Converter(torch.nn.Linear(2, 1), (2,)), torch.zeros(1, 2), n=-1)
    assert str(error.value).count("docs/errors.md") == 1


def test_modules_are_importable():
    for place in SECTION_OF:
        name = f"innsight_py.{place}".rstrip(".")
        if not name.startswith(("innsight_py.converters.keras", "innsight_py.converters.onnx")):
            assert importlib.import_module(name)
