"""The benchmarks of large networks and of cards run, here on small networks and the CPU."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

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


def test_a_run_goes_on_where_it_was_cut_off(tmp_path, monkeypatch):
    """A cell is measured again where the machine or the code is another one, and is written at once."""
    import large
    import large_results

    monkeypatch.setattr(large, "RESULTS", tmp_path)
    monkeypatch.setattr(large, "Network", lambda name, *_: SimpleNamespace(name=name))
    seen = []

    def measure(network, method, outputs, rounds):
        seen.append(method)
        if method == "deeplift":
            raise KeyboardInterrupt
        line = {"network": network.name, "method": method, "outputs": outputs, "rounds": rounds, "asked": None}
        return line | ({"ours cannot": "no rule"} if method == "lrp-epsilon" else {"ours over floor": 1.5})

    monkeypatch.setattr(large, "measure", measure)
    command = ["--networks", "vit", "--outputs", "2", "--methods", "gradient", "lrp-epsilon", "deeplift", "--resume"]
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            large.main(command)
    assert seen == ["gradient", "lrp-epsilon", "deeplift", "deeplift"]
    page = (tmp_path / "large.md").read_text()
    assert "| vit | gradient | 2 |" in page
    assert "ours: no rule" in page
    monkeypatch.setattr(large_results, "code", lambda: "another")
    assert large_results.measured(tmp_path, 1) == set()


@pytest.mark.parametrize(("method", "runs"), [("gradient", 2), ("intgrad", 1)])
def test_calls_are_timed_and_their_memory_counted(method, runs):
    """Integrated gradients are run once for both."""
    import large

    calls = []
    most, take = large.own_times(lambda: calls.append(torch.zeros(1000, 1000).sum()), method)
    assert most >= 4_000_000
    assert take() > 0
    assert len(calls) == runs


def test_answers_of_zennit_are_looked_at():
    import with_zennit

    one = torch.ones(3)
    assert with_zennit.reason_against(one, one * 1.01) == ""
    assert "not finite" in with_zennit.reason_against(one / 0, one)
    assert "another answer, 0.5" in with_zennit.reason_against(one, one * 2)
    assert "LayerNorm" in with_zennit.reason_against(one, None)


def test_what_others_cannot_do_is_said(capsys):
    """On small networks, and no cell is begun after the minutes that were given."""
    import large

    common = ["--small", "--rounds", "1", "--outputs", "1", "--networks", "resnet50", "--methods"]
    (line,) = large.main([*common, "lrp-epsilon_plus"]).to_dict("records")
    assert line["ours over floor"] > 0
    assert line["captum cannot"] == "has no such rule"
    assert large.main([*common, "gradient", "--minutes", "0"]).empty


def test_rules_without_a_rule_for_norms_are_measured_with_those_of_attnlrp(tmp_path, monkeypatch):
    """On transformers; the pages say so, and that zennit's answer is not finite there is still said where it is."""
    import asked
    import large
    import large_calls
    import large_results

    common = ["--small", "--rounds", "1", "--outputs", "1", "--networks", "vit", "--methods"]
    lines = large.main([*common, *large_results.BESIDE_ATTNLRP]).to_dict("records")
    assert all(line["ours over floor"] > 0 for line in lines)
    assert "ours cannot" not in lines[0]
    large_results.write(tmp_path, lines)
    assert large_results.OTHERWISE in (tmp_path / "large.md").read_text()
    said = [line.what for line in asked._large(tmp_path, "") if "epsilon" in line.what and line.reached]
    assert said
    assert all("(vit with the rules of attnlrp for norms and attention)" in text for text in said)
    for method in large_results.BESIDE_ATTNLRP:
        assert repr(large_calls.rule_name(method, True)[0][1]) in ("epsilon(0.0001)", "z_plus()")
