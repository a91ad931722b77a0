"""The fingerprint: the same twice, and a planted change shows in the cases that it concerns and in no others."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from fingerprint import cases, differences, fingerprint, main, replaced
from fingerprint_digests import digest, plain
from fingerprint_models import internal

import innsight_py

ONLY = r"^layers/Dense \| (conversion|run_(grad|deeplift|lrp) )"


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return fingerprint(ONLY)


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_the_same_twice(before):
    assert len(before) > 300
    assert differences(before, fingerprint(ONLY)) == []


def test_another_stabiliser_shows_in_lrp_alone(before):
    """R's small number is added to all that LRP divides by but for epsilon; DeepLift has it at exact zeros."""
    stabilizer = internal("stabilizer")
    with replaced(stabilizer, lambda dtype: 8 * stabilizer(dtype)):
        found = changed(before, fingerprint(ONLY))
    assert {name.split(" | ")[1].split()[0] for name in found} <= {"run_lrp", "run_deeplift"}
    for options in ("winner_takes_all=True", "rule_name=alpha_beta winner_takes_all=False", "ignore_last_act=False"):
        for dtype in ("float", "double"):
            assert f"layers/Dense | run_lrp {options} | {dtype} | result" in found
            assert f"layers/Dense | run_lrp {options} | {dtype} | predictions" not in found
    assert changed(before, fingerprint(ONLY)) == set()  # it is taken out again


def test_another_table_shows_in_tables_alone(before, monkeypatch):
    summary = innsight_py.Explanation.summary
    monkeypatch.setattr(innsight_py.Explanation, "summary", lambda self, n=10: summary(self, n).iloc[::-1])
    assert changed(before, fingerprint(ONLY)) == {name for name in before if name.endswith(" | summary")}


def test_a_refusal_and_a_warning_are_answers(before, monkeypatch):
    def refusing(*args, **keys):
        raise ValueError("no more gradients")

    monkeypatch.setattr(innsight_py, "run_grad", refusing)
    lines = differences(before, fingerprint(ONLY))
    assert "is new: layers/Dense | run_grad times_input=True | double | refusal" in lines
    assert "is missing: layers/Dense | run_grad times_input=True | double | result" in lines
    assert all("run_grad" in line for line in lines)


def test_every_public_method_and_layer_has_cases():
    names = [name for name, _ in cases()]
    assert len(set(names)) == len(names)
    called = {name.split(" | ")[1].split()[0] for name in names if " | " in name}
    assert called >= {name for name in innsight_py.__all__ if name.startswith(("run_", "torch_"))}
    from one_of_each import LAYERS

    assert {name.split(" | ")[0] for name in names} >= {
        f"{folder}/{kind}" for folder in ("layers", "saved") for kind in LAYERS
    }


def test_what_is_different():
    before, after = {"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "4", "d": "5"}
    assert differences(before, after) == ["differs: b", "is missing: c", "is new: d"]


def test_the_command(tmp_path, monkeypatch, capsys):
    file = tmp_path / "before.json"
    for name in ("COLUMNS", "NO_COLOR", "TERM", "MPLBACKEND"):  # it sets these for itself
        monkeypatch.setenv(name, os.environ.get(name, ""))

    def run(command: str) -> int:
        monkeypatch.setattr(sys, "argv", ["fingerprint.py", command, str(file), "--only", r"^layers/Add \| run_cw "])
        return main()

    assert run("write") == 0
    assert run("compare") == 0
    found = json.loads(file.read_text())
    name = next(iter(found))
    file.write_text(json.dumps(found | {name: "0"}))
    capsys.readouterr()
    assert run("compare") == 1
    assert capsys.readouterr().out.splitlines()[0] == f"differs: {name}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.tensor([0.0]), torch.tensor([-0.0])),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        (np.zeros((2, 1)), np.zeros((1, 2))),
        (torch.tensor([1.0]), torch.tensor([1.0]).nextafter(torch.tensor([2.0]))),
        (["a", "b"], ["ab"]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (pd.DataFrame({"a": [1.0]}), pd.DataFrame({"b": [1.0]})),
        (1, True),
        (None, "None"),
    ],
)
def test_digests_tell_apart(one, other):
    assert digest(one) == digest(one)
    assert digest(one) != digest(other)


def test_nothing_is_hashed_by_its_address():
    with pytest.raises(TypeError, match="no way to hash"):
        digest([object()])
    assert plain(f"<f at 0x7f00deadbeef> in {__file__}:12") == "<f at 0x> in test_fingerprint.py"
