"""Metrics find explanations that are none, and praise one that is right."""

from __future__ import annotations

import pytest
import torch
from judged import CHEATS, constant, right, shuffled, trained

from innsight_py import Converter, Gradient, metrics, run_deeplift

ALL = [name for name in metrics.__all__ if name not in ("Comparison", "Score", "compare")]
#: What each metric finds. Shuffling keeps sums and how the magnitudes differ; a constant can be a short text.
FINDS = {
    "deletion": ("shuffled", "constant", "of_random_weights"),
    "insertion": ("shuffled", "constant", "of_random_weights"),
    "faithfulness_correlation": ("shuffled", "constant", "of_random_weights"),
    "infidelity": ("shuffled", "constant", "of_random_weights"),
    "max_sensitivity": ("shuffled", "constant", "of_random_weights"),
    "completeness": ("constant", "of_random_weights"),
    "sparseness": ("constant",),
}
PAIRS = [(name, cheat) for name, cheats in FINDS.items() for cheat in cheats]


@pytest.fixture(scope="module")
def result():
    return right()


@pytest.mark.parametrize(("name", "cheat"), PAIRS)
def test_a_cheat_is_worse_than_the_truth(result, name, cheat):
    score, other = (getattr(metrics, name)(each, seed=1) for each in (result, CHEATS[cheat](result)))
    sign = 1 if score.better == "higher" else -1
    assert sign * (score.mean - other.mean) > 0.05 * abs(score.mean)
    assert score.better == other.better


@pytest.mark.parametrize("name", list(FINDS))
def test_the_truth_beats_the_yardstick_and_cheats_do_not(result, name):
    judge = getattr(metrics, name)
    won = judge(result, seed=1).summary()["better_than_random"]
    assert (won > 0.7).all()
    for cheat in FINDS[name]:
        assert (judge(CHEATS[cheat](result), seed=1).summary()["better_than_random"] < won).all()


@pytest.mark.parametrize("cheat", CHEATS)
def test_randomization_finds_values_that_are_not_the_method_s(result, cheat):
    honest, other = metrics.randomization(result, seed=1), metrics.randomization(CHEATS[cheat](result), seed=1)
    assert (honest.frame["unchanged"] > 1 - 1e-12).all()
    assert not (other.frame["unchanged"] > 0.5).mean() > 0.5


class Blind(Gradient):
    """Says the data themselves: a method that does not look at the weights."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.result = [[self.data[0][:, :, None].expand(-1, -1, 2)]]


def test_randomization_finds_a_method_that_does_not_look_at_the_weights(result):
    net, x = trained()
    blind = metrics.randomization(Blind(Converter(net, input_dim=(8,)), x), seed=1)
    assert blind.frame["value"].to_numpy() == pytest.approx(1.0)
    assert (blind.summary()["better_than_random"] == 0).all()
    assert metrics.randomization(result, seed=1).frame["value"].abs().mean() < 0.6


def test_what_is_shuffled_keeps_its_sum(result):
    """So completeness cannot find it, as the table above says."""
    same = metrics.completeness(shuffled(result), seed=1).frame["value"] < 1e-9
    assert same.all()


@pytest.mark.parametrize("name", ALL)
def test_form(result, name):
    score = getattr(metrics, name)(result, seed=1)
    assert list(score.frame.columns)[:4] == ["row", "output", "value", "random"]
    assert len(score.frame) == 24 * 2
    assert list(score.frame["output"][:2]) == ["Y1", "Y2"]
    assert list(score.frame["row"].unique()) == list(result.data_names)
    assert score.frame.equals(getattr(metrics, name)(result, seed=1).frame)
    assert name in repr(score)
    assert f"{score.better} is better" in score.plot().axes.get_title()
    assert score._repr_html_().count("<tr") == 3
    assert score.plot()._repr_png_()[1:4] == b"PNG"


def test_a_picture_is_drawn_on_given_axes(result, tmp_path):
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    picture = metrics.deletion(result, seed=1).plot(ax)
    assert picture.axes is ax
    assert len(ax.lines) == 2
    picture.save(tmp_path / "deletion.png")
    assert (tmp_path / "deletion.png").stat().st_size > 1000
    with pytest.raises(TypeError, match="'ax'"):
        metrics.sparseness(result, seed=1).plot(ax=1)


def test_rows_do_not_depend_on_each_other(result):
    """What no draw decides is the same for a row alone."""
    net, x = trained()
    alone = run_deeplift(Converter(net, input_dim=(8,)), x[3:4], dtype="double")
    for name in ("deletion", "insertion", "completeness", "sparseness"):
        whole = getattr(metrics, name)(result, seed=1).frame["value"][6:8]
        assert getattr(metrics, name)(alone, seed=2).frame["value"].to_numpy() == pytest.approx(whole.to_numpy())


def test_the_constant_is_no_order(result):
    """Ties are broken at random, so that the first features have no advantage."""
    score = metrics.deletion(constant(result), seed=1)
    assert score.mean == pytest.approx(score.frame["random"].mean(), abs=0.1)
    assert torch.isfinite(torch.tensor(score.frame["value"].to_numpy())).all()
