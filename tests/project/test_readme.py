"""What the README shows runs as it stands there, and prints what stands there."""

from __future__ import annotations

import importlib
import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

import innsight_py

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def same(said, shown):
    """Tell whether two texts agree: the words exactly, the numbers to 0.05, bars and spaces not at all."""
    number = r"[-+]?\d+(?:\.\d+)?"
    words = [re.sub(r"[█\s]+", " ", re.sub(number, "#", text)).strip() for text in (said, shown)]
    numbers = [list(map(float, re.findall(number, text))) for text in (said, shown)]
    return words[0] == words[1] and numbers[0] == pytest.approx(numbers[1], abs=0.05)


def test_texts_are_compared():
    assert same("bill 39 mm  +3.75  ███", "bill 39 mm +3.74 ██")
    assert not same("bill 39 mm +3.75", "bill 39 mm +3.55")
    assert not same("bill 39 mm +3.75", "beak 39 mm +3.75")


def test_three_steps(folder, capsys):
    names: dict[str, object] = {}
    (code,) = blocks("python")
    exec(code, names)  # noqa: S102
    assert same(capsys.readouterr().out, blocks("text")[1])
    assert (folder / "penguin.png").stat().st_size > 10_000
    assert len(names["frame"]) == 333 * 4 * 3


def test_the_demo_prints_what_is_shown(folder, capsys):
    runpy.run_path(str(ROOT / "vignettes" / "demo.py"), run_name="__main__")
    said = capsys.readouterr().out
    shown = blocks("text")[0]
    start = said.index(shown.splitlines()[0].partition(";")[0])
    lines = said[start:].splitlines()[: len(shown.splitlines())]
    assert same("\n".join(lines), shown)


@pytest.mark.parametrize("call", re.findall(r"`(Converter\([^`]*\))`", TEXT))
def test_each_door_is_a_call(call):
    """The lines are run in full by the page that they lead to; here they are calls that Python can read."""
    assert compile(call, "README.md", "eval").co_names[0] == "Converter"


def test_shell(folder, monkeypatch, capsys):
    """The lines of the shell, on a Keras model of penguins."""
    import keras
    from palmerpenguins import load_penguins

    from innsight_py.cli import main

    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")]).save("model.keras")
    columns = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
    load_penguins().dropna()[columns].iloc[:20].to_csv("penguins.csv", index=False)
    (block,) = [block for block in blocks("sh") if "innsight-py" in block]
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert len(commands) == 2
    for command in commands:
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code, capsys.readouterr().err
    assert (folder / "out.html").exists()
    assert "bill_length_mm" in (folder / "out.csv").read_text()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text())
    assert len(targets) > 3
    for target in targets:
        assert target.startswith("https://") or (ROOT / target.partition("#")[0]).exists(), target


def test_pictures_are_small():
    pictures = re.findall(r"!\[[^\]]{20,}\]\((docs/\w+\.png)\)", TEXT)
    assert pictures == ["docs/picture.png", "docs/front_table.png"]
    assert sum((ROOT / path).stat().st_size for path in pictures) < 150_000


def test_it_is_a_front_page():
    """Arguments, tables of other packages and the like have pages of their own."""
    assert len(TEXT.splitlines()) <= 140
    assert len(TEXT.split()) <= 900


def test_every_method_named_exists():
    named = set(re.findall(r"`(run_\w+)", TEXT))
    assert len(named) > 5
    assert named <= set(innsight_py.__all__)


def test_the_number_of_answers():
    import test_golden_more
    import test_golden_small
    import test_keras_goldens
    from golden_zoo import ENTRIES
    from goldens import read

    keras = sum(len(read(f"keras/{name}.json.gz")["results"]) for name in test_keras_goldens.MODELS)
    more = len(test_golden_more.NETS) * len(test_golden_more.CALLS)
    answers = len(ENTRIES) + len(test_golden_small.CALLS) + more + keras
    assert f"{answers:,} answers" in (ROOT / "docs" / "differences.md").read_text()


def test_all_extras_are_named():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (said,) = re.findall(r"^Extras: (.*?)Messages say", TEXT, re.DOTALL | re.MULTILINE)
    assert {extra for extra in extras if f"`{extra}`" in said} == set(extras) - {"docs", "test", "browser"}


def test_speed(monkeypatch):
    """The page of the benchmarks is what `benchmarks/page.py` makes of the results."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    page = importlib.import_module("page")
    assert (ROOT / "benchmarks" / "results" / "README.md").read_text() == page.page()
