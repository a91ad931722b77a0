"""The table of what was asked of speed and memory: every bullet has lines, and none is met unmeasured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
BULLETS = {
    "Conversion", "Recurrent nets", "Large models", "Attention", "The small call", "Other processors", "Import",
    "One output", "GPU", "bfloat16 and half", "Data sets",
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    import asked

    yield asked
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_every_bullet_has_its_lines(asked):
    found = asked.lines()
    assert {line.bullet for line in found} == BULLETS
    assert {line.bullet for line in found if line.bound is not None} == BULLETS
    table = asked.table()
    for line in found:
        assert line.what in table
        if line.reached:
            assert line.machine, f"{line.what} does not say where"


def test_what_was_not_measured_is_not_met(asked, tmp_path):
    found = asked.lines(tmp_path)
    assert {line.bullet for line in found} == BULLETS
    assert {line.met for line in found} == {"", "**no**"}
    assert asked.table(tmp_path).startswith("0 of ")


def test_bounds_are_compared(asked, tmp_path):
    head = "network,process,export,convert,again,minimum,median,maximum"
    lines = ["a,fresh,2,3,0.5,1.4,1.5,1.6", "b,fresh,2,3,0.1,1,1.2,2", "c,fresh,2,4.2,0.1,1,2.1,2"]
    (tmp_path / "conversion.csv").write_text("\n".join([head, *lines]))
    (tmp_path / "machine.json").write_text(json.dumps({"conversion": "An abacus"}))
    found = {line.what: line for line in asked.lines(tmp_path) if line.bullet == "Conversion" and line.reached}
    shown = {what.split(", ")[-1]: (line.asked, line.measured, line.met) for what, line in found.items()}
    assert shown == {
        "the median network": ("at most 1.5", "3 networks: 1.50", "yes"),
        "the worst network": ("at most 0.1", "0.25", "**no**"),
        "architectures": ("at least 30", "3.00", "**no**"),
    }
    assert "| at most 2 | c 2.10 | **no** | 1 |" in asked.table(tmp_path)
    assert "1. An abacus" in asked.table(tmp_path)


def test_some_networks_keep_a_bound(asked):
    line = asked.Line("One output", "DeepLift", 1.3, {"cnn32": 1.29, "cnn64": 1.31}, "An abacus")
    assert (line.measured, line.met) == ("cnn32 1.29, cnn64 1.31", "**1 of 2**")


def test_ratios_of_other_machines_stay(asked, tmp_path, monkeypatch):
    import everything
    import machine

    monkeypatch.setattr(machine, "processor", lambda: "A loom")
    monkeypatch.setattr(everything, "RESULTS", tmp_path)
    monkeypatch.setattr(machine, "known", lambda results=tmp_path: {"ratios": "An abacus, 10 beads"})
    row = "cnn64,16,1,ours deeplift,floor,1,1.25,2,3,10,1"
    head = "network,rows,outputs,time of,over,minimum,median,maximum,rounds,milliseconds,operations"
    (tmp_path / "ratios_1.csv").write_text(f"{head}\n{row}\n")
    everything.keep_other_machines()
    assert (tmp_path / "machines" / "an_abacus" / "ratios_1.csv").exists()
    found = [line for line in asked.lines(tmp_path) if line.machine == "An abacus, 10 beads" and line.reached]
    assert [line.measured for line in found if line.bullet == "Other processors"] == ["1.25"]


def test_parts_of_everything_are_there(asked, capsys):
    import everything

    everything.main(["--list"])
    assert "conversion" in capsys.readouterr().out
    minutes = sum(part.minutes for name, part in everything.PARTS.items() if name in everything.USUAL) - 5
    assert minutes <= 21  # without a card
    scripts = [part.command[0] for part in everything.PARTS.values() if part.command[0] != "-m"]
    assert [script for script in scripts if not (everything.ROOT / script).exists()] == []


def test_the_zoo(asked, monkeypatch):
    """As many architectures as were asked for, each for the shape beside it; without numbers, so at once."""
    monkeypatch.syspath_prepend(str(BENCHMARKS.parent))
    from benchmarks.zoo import ZOO

    assert len(ZOO) >= asked.ARCHITECTURES
    for name, (make, dim) in ZOO.items():
        with torch.device("meta"):
            out = make().eval()(torch.zeros(2, *dim))
        assert out.dim() == 2, name
        assert len(out) == 2, name
