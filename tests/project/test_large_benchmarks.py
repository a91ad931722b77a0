"""The benchmarks of large networks and of cards run, here on small networks and the CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def in_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_a_dry_run_of_the_card():
    """On the CPU the answers are the CPU's own."""
    import gpu

    table = gpu.main(["--device", "cpu", "--small", "--rounds", "1", "--outputs", "2", "--networks", "bert"])
    assert list(table["method"]) == list(gpu.METHODS["bert"])
    assert table["agrees"].all()
    assert (table["MiB"] > 0).all()
    assert (table["seconds"] > 0).all()


def test_a_dry_run_of_large_networks(tmp_path, monkeypatch):
    import large

    monkeypatch.setattr(large, "RESULTS", tmp_path)
    table = large.main(["--small", "--rounds", "1", "--outputs", "2", "--networks", "vit", "--methods", "gradient"])
    assert list(table["method"]) == ["gradient"]
    assert (table["ours over floor"] > 0).all()
    assert not list(tmp_path.iterdir())
    large.write(table, 1, "A dry run.")
    assert "| vit | gradient | 2 |" in (tmp_path / "large.md").read_text()


def test_what_others_cannot_do_is_said(capsys):
    """On small networks, and no cell is begun after the minutes that were given."""
    import large

    common = ["--small", "--rounds", "1", "--outputs", "1", "--networks", "resnet50", "--methods"]
    (line,) = large.main([*common, "lrp-epsilon_plus"]).to_dict("records")
    assert line["ours over floor"] > 0
    assert "captum: has no such rule" in line["remark"]
    assert large.main([*common, "gradient", "--minutes", "0"]).empty
