"""Explanations side by side: tables that agree with the metrics, and a report that needs nothing else."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from judged import constant, right, shuffled, trained
from torch import nn

from innsight_py import Converter, compare, metrics, run_deeplift, run_grad, run_intgrad, run_lrp


@pytest.fixture(scope="module")
def comparison():
    result = right()
    others = {"DeepLift": result, "shuffled": shuffled(result), "constant": constant(result)}
    return compare(others, metrics=["deletion", "sparseness", "completeness"], top=3, seed=1)


def test_the_table_has_the_means(comparison):
    table = comparison.table
    assert list(table.columns) == [
        "deletion (lower is better)", "sparseness (higher is better)", "completeness (lower is better)"
    ]  # fmt: skip
    assert list(table.index) == ["DeepLift", "shuffled", "constant", "random"]
    seed = comparison.arguments["seed"]
    for name, result in comparison.results.items():
        for metric in ("deletion", "sparseness", "completeness"):
            score = getattr(metrics, metric)(result, seed=seed)
            assert comparison.scores[metric][name].mean == pytest.approx(score.mean)
            assert table.loc[name, f"{metric} ({score.better} is better)"] == pytest.approx(score.mean)
    assert table["deletion (lower is better)"].idxmin() == "DeepLift"


def test_correlation_and_overlap(comparison):
    stats = pytest.importorskip("scipy.stats")
    values = {name: result.get_result() for name, result in comparison.results.items()}
    one, other = values["DeepLift"], values["shuffled"]
    pairs = list(itertools.product(range(24), range(2)))
    expected = np.mean([stats.spearmanr(one[b, :, k], other[b, :, k])[0] for b, k in pairs])
    assert comparison.correlation.loc["DeepLift", "shuffled"] == pytest.approx(expected)
    assert np.isnan(comparison.correlation.loc["DeepLift", "constant"])
    common = [
        len(set(np.argsort(-abs(one[b, :, k]))[:3]) & set(np.argsort(-abs(other[b, :, k]))[:3])) / 3 for b, k in pairs
    ]
    assert comparison.overlap.loc["shuffled", "DeepLift"] == pytest.approx(np.mean(common))
    assert np.diag(comparison.overlap).tolist() == [1, 1, 1]


class Links(HTMLParser):
    """Collects what a page takes from elsewhere, and checks that each element is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.titles = [], [], []

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2"):
            self.titles.append(data)


def test_the_report(comparison, tmp_path):
    comparison.save(tmp_path / "report.html", data_idx=[0, 3])
    text = (tmp_path / "report.html").read_text()
    links = Links()
    links.feed(text)
    assert links.open == []
    assert len(links.sources) == 2 + 3  # two instances, and a curve for each
    assert all(source.startswith("data:image/png;base64,") for source in links.sources)
    assert links.titles[:2] == ["Comparison of 3 explanations", "Metrics"]
    for said in ("dtype=&#x27;double&#x27;", "innsight_py", torch.__version__, str(comparison.arguments["seed"])):
        assert said in text or said.replace("&#x27;", "'") in text
    assert len(re.findall("class=best", text)) == 3
    assert "at most" in text  # the residuals


def test_pictures(comparison):
    picture = comparison.plot(2, max_display=4)
    assert [ax.get_title() for ax in picture.axes] == ["DeepLift", "shuffled", "constant"]
    assert len(picture.axes[0].get_yticklabels()) == 4
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    converter, x = Converter(net, input_dim=(1, 4, 4)), torch.randn(2, 1, 4, 4)
    images = compare({"Gradient": run_grad(converter, x), "LRP": run_lrp(converter, x)}, metrics="sparseness", seed=1)
    assert [len(ax.images) for ax in images.plot(1).axes] == [1, 1]
    assert "Rank correlation" in repr(images)
    assert images._repr_html_().count("<table") == 3


def test_one_baseline_for_all():
    """Without it the numbers would be of different questions."""
    net, x = trained()
    converter = Converter(net, input_dim=(8,))
    both = {
        "mean": run_deeplift(converter, x, x_ref="mean"), "zeros": run_intgrad(converter, x, x_ref="zeros", n=60),
        "none": run_lrp(converter, x),
    }  # fmt: skip
    curves = compare(both, metrics=["deletion"], seed=1).scores["deletion"]
    ends = [score.curve[score.curve["share"] == 1]["value"].to_numpy() for score in curves.values()]
    assert ends[0] == pytest.approx(net(x.mean(0)).detach().numpy()[None].repeat(24, 0).flatten(), abs=1e-4)
    assert ends[1] == pytest.approx(ends[0], abs=1e-5)
    assert ends[2] == pytest.approx(ends[0], abs=1e-5)
    own = compare(both, metrics={"deletion": {"baseline": 2.0, "steps": 4}}, seed=1).scores["deletion"]["none"]
    assert own.curve["share"].nunique() == 5


def test_a_metric_of_ones_own():
    net, x = trained()
    converter = Converter(net, input_dim=(8,))

    def largest(result):
        return metrics.sparseness(result, seed=1)

    found = compare({"Gradient": run_grad(converter, x)}, metrics=[largest, "completeness"], seed=1)
    assert list(found.table.columns) == ["largest (higher is better)", "completeness"]
    assert np.isnan(found.table.loc["Gradient", "completeness"])
    assert "not meant to sum" in found.notes["completeness of Gradient"]


def test_what_cannot_be_compared():
    net, x = trained()
    converter = Converter(net, input_dim=(8,))
    result = run_grad(converter, x)
    with pytest.raises(ValueError, match=r"'other' is of 3 row"):
        compare({"one": result, "other": run_grad(converter, x[:3])})
    with pytest.raises(ValueError, match=r"'other' explains \['Y2'\]"):
        compare({"one": run_grad(converter, x, output_idx=0), "other": run_grad(converter, x, output_idx=1)})
    with pytest.raises(ValueError, match=r"'metrics': expected completeness"):
        compare({"one": result}, metrics=["auc"])
    with pytest.raises(ValueError, match=r"'results': expected at least one"):
        compare({})
    with pytest.raises(TypeError, match=r"'results'"):
        compare([result])
