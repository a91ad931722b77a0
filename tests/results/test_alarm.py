"""A result that cannot be right is said to be so: explosions, numbers that are none, paths that are cut."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch
from peaks import passes
from torch import nn

from innsight_py import (
    Converter,
    run_cw,
    run_deeplift,
    run_deepshap,
    run_expgrad,
    run_grad,
    run_intgrad,
    run_lrp,
    run_smoothgrad,
)
from innsight_py.methods import lrp_alarm, walk


class Written(nn.Module):
    """A module whose forward pass is a function of its input."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def net(function, depth: int = 1, bias: bool = False, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    blocks = [block for _ in range(depth) for block in (nn.Linear(6, 6, bias=bias), Written(function))]
    return nn.Sequential(*blocks, nn.Linear(6, 2, bias=bias)).eval()


def draw(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(9))


def by_its_cubes(x):
    """Divide by what is no norm, so that no layer stands for it; the factor is 1000 at the reference."""
    return x * torch.rsqrt(x.abs().pow(3).mean(-1, keepdim=True) + 1e-6)


@pytest.mark.parametrize("dtype", ["float", "double"])
@pytest.mark.parametrize("run", [run_deeplift, run_deepshap])
def test_an_explosion_names_the_layer_that_amplifies(run, dtype):
    """Six of them give 1e13 and more in single precision; the sum may even be right."""
    converter = Converter(net(by_its_cubes, 6), input_dim=6)
    with pytest.warns(UserWarning, match=r"do not add up|nearly cancel") as caught:
        result = run(converter, draw(), dtype=dtype)
    (message,) = (str(w.message) for w in caught)
    assert "magnitudes sum to" in message
    assert "times larger" in message
    assert "test_alarm.py" in message
    assert float(result.result[0][0].abs().max()) > 1e5


@pytest.mark.parametrize("depth", range(1, 9))
def test_stacks_add_up_or_warn(depth):
    """To 1e-4 of what is explained, in single precision at the zero reference."""
    converter = Converter(net(by_its_cubes, depth), input_dim=6)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = run_deeplift(converter, draw())
    off = (result.residual.absolute[0].abs() / result.decomp_goal[0].abs().clamp(min=1)).max()
    assert caught or off < 1e-4
    assert caught or depth == 1


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.Tanh, nn.Sigmoid])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", ["float", "double"])
def test_ordinary_models_do_not_warn(activation, seed, dtype):
    torch.manual_seed(seed)
    sizes = [20, 40, 40, 40, 40, 3]
    blocks = ((nn.Linear(a, b), nn.LayerNorm(b), activation()) for a, b in itertools.pairwise(sizes))
    layers = list(itertools.chain.from_iterable(blocks))
    converter = Converter(nn.Sequential(*layers[:-2]).eval(), input_dim=20)
    x = torch.randn(16, 20, generator=torch.Generator().manual_seed(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_deeplift(converter, x, output_idx=[0, 1, 2], dtype=dtype)
        run_deepshap(converter, x[:3], data_ref=x[3:], dtype=dtype)


@pytest.mark.parametrize("run", [run_deeplift, run_deepshap])
def test_shares_in_a_window_that_nearly_cancels(run):
    """The window moves by 1 and -1 + 1e-4: shares of 1e4 that cancel, where the winner's is 1."""
    pool = {"type": "MaxPooling1D", "kernel_size": [2], "strides": [2]}
    layers = [pool, {"type": "Flatten"}, {"type": "Dense", "weight": [[1.0]]}]
    converter = Converter({"input_dim": [1, 2], "layers": layers})
    x, reference = [[[1.0, -1 + 1e-4]]], {"x_ref" if run is run_deeplift else "data_ref": [[[0.0, 0.0]]]}
    with pytest.warns(
        UserWarning, match=r"nearly cancel.*With winner_takes_all=True the magnitudes sum to 1, but"
    ) as w:
        result = run(converter, x, winner_takes_all=False, dtype="double", **reference)
    assert "Another reference" not in str(w[0].message)
    assert float(result.result[0][0].sum()) == pytest.approx(1, abs=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calm = run(converter, x, dtype="double", **reference)
    assert float(calm.result[0][0].abs().sum()) == 1


def test_a_goal_of_zero_is_no_alarm():
    """Contributions that cancel in the last layer are not amplified."""
    model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1000.0, -1000.0]]}]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run_deeplift(Converter(model), [[1.0, 1.0 + 1e-6]])
    assert abs(float(result.decomp_goal[0])) < 2e-3


def test_what_the_winner_takes_is_no_matter_of_rounding(monkeypatch):
    """Little is missing, for a reason that is known: nobody walks back once more to find out."""
    last = {"type": "Dense", "weight": np.array([[100.0, -100.0]]), "bias": np.array([1.0])}
    layers = [{"type": "MaxPooling1D", "kernel_size": 2}, {"type": "Flatten"}, last]
    converter, done = Converter({"input_dim": [1, 4], "layers": layers}), passes(monkeypatch)
    result = run_deeplift(converter, [[[1.0, 0.5, 1.0, 0.2]]], x_ref=[[[1e-4, 2e-4, 0.0, 0.0]]], verbose=False)
    assert 1e-3 < abs(float(result.residual.absolute[0])) < 0.1
    assert done.count("backward") == 1


# -- numbers that are none ---------------------------------------------------------------------------------------------


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("run", [run_deeplift, run_deepshap])
def test_a_reference_at_which_the_model_has_no_value(run):
    converter = Converter(net(unit), input_dim=6)
    with pytest.warns(UserWarning, match=r"4 of 4 rows.*NaN.*Standardize.*test_alarm.py.*NaN for the reference"):
        run(converter, draw())


ROOT = {"Gradient": run_grad, "SmoothGrad": lambda c, x: run_smoothgrad(c, x, noise_level=0.0, n=2)}


@pytest.mark.parametrize("name", ROOT)
def test_a_gradient_that_is_none(name):
    converter = Converter(net(lambda x: (x * x).sqrt()), input_dim=6)
    x = draw()
    x[1] = 0.0
    with pytest.warns(
        UserWarning, match=r"1 of 4 rows.*the first is data_2.*whose gradient is not finite for this row"
    ):
        result = ROOT[name](converter, x)
    assert np.isfinite(result.get_result()[[0, 2, 3]]).all()


def test_missing_data_are_said_once():
    converter = Converter(net(torch.tanh), input_dim=6)
    x = draw()
    x[2, 1] = float("nan")
    with pytest.warns(UserWarning, match="data") as caught:
        run_deeplift(converter, x)
    assert len([w for w in caught if "hold NaN" in str(w.message)]) == len(caught) == 1


@pytest.mark.parametrize(
    ("run", "what"), [(run_grad, "predictions"), (run_deeplift, "attributions"), (run_lrp, "attributions")]
)
def test_rows_beyond_single_precision(run, what):
    """A gradient does not notice that the prediction is infinite, and has no goal that could tell."""
    converter = Converter(net(torch.relu), input_dim=6)
    x = draw()
    x[1] = 3e38
    with torch.no_grad():
        converter.model.layer(converter.model.nodes[0].name).weight.mul_(0).add_(8.0)
    with pytest.warns(UserWarning, match=rf"1 of 4 rows have {what}.*the first is data_2.*dtype='double'") as caught:
        result = run(converter, x)
    assert len(caught) == 1
    assert not result.preds[0][1].isfinite().all()
    assert np.isfinite(result.get_result()[[0, 2, 3]]).all()


def test_masks_of_minus_infinity_are_no_alarm():
    mask = torch.zeros(6)
    mask[2:] = -torch.inf
    converter = Converter(net(lambda x: (x + mask).softmax(-1)), input_dim=6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_grad(converter, draw())
        run_deeplift(converter, draw())


# -- true reasons ------------------------------------------------------------------------------------------------------

CUT = {
    "detached": (lambda x: x * torch.sigmoid(3 * x).detach(), "detaches"),
    "truth values": (lambda x: x + (x > 0.5).float(), r"aten::gt"),
    "whole numbers": (lambda x: x + x.long(), r"whole numbers"),
    "jumps": (lambda x: x + x.round(), r"aten::round"),
}


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("n", [20, 500])
def test_a_path_that_is_cut_is_not_a_matter_of_steps(name, n):
    function, reason = CUT[name]
    converter = Converter(net(function), input_dim=6)
    with pytest.warns(UserWarning, match=f"do not add up.*Why: .*{reason}") as caught:
        result = run_intgrad(converter, 2 * draw(), n=n)
    assert all("too few" not in str(w.message) for w in caught)
    assert result.residual.steps is None
    assert any("gradient" in why for why in result.residual.reasons)
    expected = run_expgrad(converter, draw(), n=n, seed=1)
    assert expected.residual.steps is None


def test_methods_that_are_finite_say_nothing():
    converter = Converter(net(torch.relu, bias=True), input_dim=6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_lrp(converter, draw())
        run_cw(converter)


@pytest.mark.parametrize("none", [float("nan"), float("inf"), -float("inf")])
def test_a_relevance_that_is_none_hides_no_other(none):
    """What explodes is found in the same row and node, too."""
    result = run_lrp(Converter(net(torch.relu), input_dim=6), draw())
    relevances = result.result[0][0]
    relevances[2, 1, 1], relevances[2, 4, 1] = none, -1e7
    found = lrp_alarm.exploded(result)
    assert (found.row, found.node, found.largest) == (2, 1, 1e7)
    relevances[2, 4, 1] = 0.0
    assert lrp_alarm.exploded(result) is None


@pytest.mark.parametrize(("rows", "noted"), [(1, True), (1, False), (4, False)])
def test_an_alarm_takes_one_walk_for_each_rule_that_it_tries(monkeypatch, rows, noted):
    """What the walk of one row and node saw is not walked for again; of several rows only the worst is."""
    first = {"type": "Dense", "weight": np.array([[1.0, -1.0]]), "activation_name": "sigmoid"}
    last = {"type": "Dense", "weight": np.array([[10.0]]), "bias": np.array([0.1])}
    converter, x = Converter({"input_dim": [2], "layers": [first, last]}), [[3.000001, 3.0]] * rows
    monkeypatch.setattr(lrp_alarm, "NOTED", 1 if noted else 2**18)
    done = passes(monkeypatch)
    with pytest.warns(UserWarning, match='"z_plus" the largest is'):
        run_lrp(converter, x, dtype="double", verbose=False)
    assert done.count("trace") == (1 if rows == 1 else 2)
    assert done.count("backward") == 1 + (not noted) + lrp_alarm.CALMER.index("z_plus") + 1


@pytest.mark.parametrize("outputs", [[1], [0, 1]])
def test_an_alarm_of_a_large_pass_names_rules_and_tries_none(monkeypatch, outputs):
    """Each would take as long as the method: the layer is named by another walk of one row and node at most.

    That walk takes another pass, where the first one let its values go to compute them again.
    """
    converter, x, texts = Converter(net(torch.tanh, 3), input_dim=6), draw(1), []
    monkeypatch.setattr(lrp_alarm, "EXPLODED", 1e-3)
    monkeypatch.setattr(lrp_alarm, "NOTED", 1)
    done = passes(monkeypatch)
    for least in (2**60, 0):
        monkeypatch.setattr(walk, "LARGE_BYTES", least)
        done.clear()
        with pytest.warns(UserWarning, match="They cancel") as caught:
            run_lrp(converter, x, output_idx=outputs, verbose=False)
        texts.append(str(caught[0].message))
    assert texts[1].partition("times larger")[0] == texts[0].partition("times larger")[0]
    assert all(f"'{name}'" in texts[1] for name in lrp_alarm.CALMER)
    assert "none was tried" in texts[1]
    assert sorted(done) == ["backward"] * len(outputs) + ["trace"] * 2


def test_an_alarm_of_many_steps_takes_no_walk(monkeypatch):
    """A walk of one row through time takes as long as one of all: all rows note what an alarm has to say."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.inner = nn.GRU(2, 3, batch_first=True)

        def forward(self, x):
            return self.inner(x)[0][:, -1]

    x = torch.randn(4, lrp_alarm.LONG, 2, generator=torch.Generator().manual_seed(0))
    converter, texts = Converter(Last(), input_dim=x.shape[1:]), []
    monkeypatch.setattr(lrp_alarm, "EXPLODED", 1e-3)
    for noted, walks in ((lrp_alarm.Noted.of, 1), (lambda self, place: {}, 2)):
        monkeypatch.setattr(lrp_alarm.Noted, "of", noted)
        with monkeypatch.context() as patch:
            done = passes(patch)
            with pytest.warns(UserWarning, match="none was tried") as caught:
                run_lrp(converter, x, rule_name="epsilon", output_idx=[2, 0], dtype="double", verbose=False)
        assert (done.count("trace"), done.count("backward")) == (1, walks)
        texts.append(str(caught[0].message))
    assert texts[0] == texts[1]


def test_what_a_walk_notes_is_what_a_walk_again_finds(monkeypatch):
    converter, x = Converter(net(torch.tanh, 3), input_dim=6), draw(1)
    texts = []
    monkeypatch.setattr(lrp_alarm, "EXPLODED", 1e-3)
    for noted in (1, 2**18):
        monkeypatch.setattr(lrp_alarm, "NOTED", noted)
        with pytest.warns(UserWarning, match="They cancel") as caught:
            run_lrp(converter, x, output_idx=[1], verbose=False)
        texts.append(str(caught[0].message))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("norm", [
    lambda x: nn.functional.normalize(x, p=1, dim=-1),
    lambda x: x / (x.abs().mean(1, keepdim=True) + 1e-12),
    lambda x: (x / (x.abs().sum(1, keepdim=True) + 1e-12)).reshape(-1, 2, 3).flatten(1),
], ids=["l1", "mean", "reshaped"])  # fmt: skip
def test_a_product_that_explodes_at_the_end_of_the_model(norm):
    with pytest.warns(UserWarning, match=r"(is missing|nearly cancel).*Multiply_Layer.*times larger"):
        run_deeplift(Converter(Written(norm), input_dim=(6,)), torch.randn(3, 6))
