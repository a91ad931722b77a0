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


def test_what_cannot_be_measured_is_shown_and_not_met(asked, tmp_path):
    """A network that has no number is named with its reason, and counts as one that does not keep the bound."""
    numbers = "ours over floor,MiB over floor,captum over ours,zennit over ours"
    lines = ["resnet50,lrp-epsilon,1,1.2,1.4,,2.5,,", "vit,lrp-epsilon,1,,,,,no rule,not finite"]
    head = f"network,method,outputs,{numbers},ours cannot,zennit cannot"
    (tmp_path / "large.csv").write_text("\n".join([head, *lines]))
    found = {line.what: (line.measured, line.met) for line in asked.lines(tmp_path) if line.bullet == "Large models"}
    what = "lrp-epsilon, K = 1:"
    assert found[f"{what} time over the floor"] == (
        "resnet50 1.20, vit cannot: no rule, bert not measured",
        "**1 of 3**",
    )
    assert found[f"{what} zennit's time over ours"] == (
        "resnet50 2.50, vit cannot: not finite, bert not measured",
        "",
    )
    assert found[f"{what} captum's time over ours"] == ("not measured", "")
    assert found["intgrad, K = 10: time over the floor"] == ("not measured", "")


def test_ratios_of_other_machines_stay(asked, tmp_path, monkeypatch):
    import everything
    import machine

    monkeypatch.setattr(machine, "processor", lambda: "A loom")
    monkeypatch.setattr(everything, "RESULTS", tmp_path)
    monkeypatch.setattr(machine, "known", lambda results=tmp_path: {"ratios": "An abacus, 10 beads"})
    row = "cnn64,16,1,ours deeplift,floor,1,1.25,2,3,10,1"
    head = "network,rows,outputs,time of,over,minimum,median,maximum,rounds,milliseconds,operations"
    (tmp_path / "ratios_1.csv").write_text(f"{head}\n{row}\n")
    everything.keep_other_machines("ratios")
    assert (tmp_path / "machines" / "an_abacus" / "ratios_1.csv").exists()
    assert (tmp_path / "ratios_1.csv").exists()
    found = [line for line in asked.lines(tmp_path) if line.machine == "An abacus, 10 beads" and line.reached]
    assert [line.measured for line in found if line.bullet == "Other processors"] == ["1.25"]


def test_results_of_other_machines_make_room(asked, tmp_path, monkeypatch):
    import everything
    import machine

    monkeypatch.setattr(machine, "processor", lambda: "A loom")
    monkeypatch.setattr(everything, "RESULTS", tmp_path)
    monkeypatch.setattr(machine, "known", lambda results=tmp_path: {"large": "An abacus", "recurrent": "A loom, red"})
    for name in ("large", "recurrent"):
        (tmp_path / f"{name}.csv").write_text("network\n")
        everything.keep_other_machines(name)
    assert (tmp_path / "machines" / "an_abacus" / "large.csv").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["machines", "recurrent.csv"]


def test_parts_of_everything_are_there(asked, capsys):
    import everything

    everything.main(["--list"])
    assert "conversion" in capsys.readouterr().out
    minutes = sum(part.minutes for part in everything.PARTS.values()) - 5
    assert minutes <= 38  # without a card
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
