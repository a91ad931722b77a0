"""The page of models that were tried is what its script writes from the record."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("models_tried", ROOT / "benchmarks" / "models_tried.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "models_tried", module)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_written_from_the_record(script):
    assert script.PAGE.read_text() == script.page(json.loads(script.RECORD.read_text()))


def test_each_kind_of_finding_has_its_cell(script):
    done = {"seconds_convert": 1.0, "difference": 1e-7, "seconds_deeplift": 1.0, "residual": 1e-9, "relative": 0.0,
            "seconds_lrp": 1.0}  # fmt: skip
    entries = [
        {"name": "a/good", **done},
        {"name": "a/loose", **done, "residual": 1e-2, "relative": 1e-3, "difference": 1e-2},
        {"name": "a/no", "seconds_convert": 1.0, "convert": "SpecError: there is no rule. And more."},
        {"name": "a/unbuilt", "build": "ValueError: no"},
    ]
    record = {"architectures": entries, "versions": {"torch": "2"}, "python": "3.11", "machine": "a machine"}
    lines = script.page(record).splitlines()
    assert "| `a/good` | yes | exact | exact | yes | 1.00 | 1.00 | 1.00 |" in lines
    assert "| `a/loose` | yes | differ by 1e-02 | misses 1e-03 | yes | 1.00 | 1.00 | 1.00 |" in lines
    assert "| `a/no` | no |  |  |  | 1.00 |  |  |" in lines
    assert "- 3 architectures were tried." in lines
    assert "SpecError: there is no rule" in lines
    assert lines[-1] == "`a/unbuilt`"


def test_a_failing_step_is_recorded(script):
    found = {}
    assert script.step(found, "lrp", lambda: [][0]) is None
    assert found["lrp"] == "IndexError: list index out of range"
    assert script.step(found, "outputs", lambda: 2) == 2
    assert "outputs" not in found
