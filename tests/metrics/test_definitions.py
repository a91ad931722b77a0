"""Each metric is what its definition says, computed once more with loops, exact arithmetic, or by captum."""

from __future__ import annotations

import copy
import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from judged import right, trained
from torch import nn

from innsight_py import (
    Converter,
    metrics,
    run_cw,
    run_deeplift,
    run_deepshap,
    run_expgrad,
    run_grad,
    run_intgrad,
    run_lrp,
    run_shap,
    run_smoothgrad,
    torch_grad,
)
from innsight_py.metrics.compare import METRICS


@pytest.fixture(scope="module")
def image():
    """Make a convolution, images for it and a reference."""
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))
    x, x_ref = torch.randn(2, 2, 3, 3), torch.randn(1, 2, 3, 3)
    return net, x, x_ref


def by_hand(net, x, attributions, baseline, k, insert):
    """Take positions away one by one and give the values of output k: plain loops over one row ``(C, H, W)``."""
    totals = attributions.sum(0).flatten()
    values = []
    for count in range(len(totals) + 1):
        first = sorted(range(len(totals)), key=lambda p: -float(totals[p]))[:count]
        changed = x.clone()
        for place in range(len(totals)):
            h, w = divmod(place, x.shape[2])
            if (place in first) != insert:
                changed[:, h, w] = baseline[:, h, w]
        with torch.no_grad():
            values.append(float(net.double()(changed[None].double())[0, k]))
    return values


@pytest.mark.parametrize("insert", [False, True])
@pytest.mark.parametrize("channels_first", [False, True])
def test_deletion_and_insertion(image, insert, channels_first):
    net, x, x_ref = image
    own = x if channels_first else x.movedim(1, -1)
    ref = x_ref if channels_first else x_ref.movedim(1, -1)
    result = run_deeplift(
        Converter(net, input_dim=(2, 3, 3)), own, x_ref=ref, channels_first=channels_first, output_idx=[2, 0]
    )
    values = result.result[0][0] if channels_first else result.result[0][0].movedim(-2, 1)
    score = (metrics.insertion if insert else metrics.deletion)(result, steps=9, seed=1)
    for (b, row), (place, k) in itertools.product(enumerate(result.data_names), enumerate((0, 2))):
        label = f"Y{k + 1}"
        place = (result.output_label[0] or []).index(label)
        expected = by_hand(net, x[b], values[b, ..., place], x_ref[0], k, insert)
        curve = score.curve[(score.curve["row"] == row) & (score.curve["output"] == label)]
        assert curve["value"].to_numpy() == pytest.approx(expected, abs=1e-5)
        area = sum((one + two) / 2 / 9 for one, two in itertools.pairwise(expected))
        found = score.frame[(score.frame["row"] == row) & (score.frame["output"] == label)]["value"]
        assert float(found.iloc[0]) == pytest.approx(area, abs=1e-5)


def test_order_by_magnitude_and_shares():
    """3, -5 and 1 go in the order 5, 3, 1; two steps of three features are two features, then all."""
    model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[3.0, -5.0, 1.0]]}]}
    result = run_grad(Converter(model), [[1.0, 1.0, 1.0]], times_input=True)
    assert metrics.deletion(result, order="magnitude", seed=1).curve["value"].tolist() == [-1, 4, 1, 0]
    assert metrics.deletion(result, steps=2, seed=1).curve["share"].tolist() == [0, pytest.approx(2 / 3), 1]
    assert metrics.deletion(result, baseline=2.0, seed=1).curve["value"].tolist() == [-1, 2, 3, -2]


def test_the_baseline():
    model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, 10.0]]}]}
    data = [[1.0, 2.0], [3.0, 6.0]]
    converter = Converter(model)
    ends = {
        "reference": (run_deeplift(converter, data, x_ref=[[5.0, 7.0]]), "reference", [75, 75]),
        "own references": (run_deeplift(converter, data, x_ref=[[5.0, 7.0], [1.0, 1.0]]), "reference", [75, 11]),
        "several": (run_deepshap(converter, data, data_ref=[[1.0, 1.0], [3.0, 5.0]]), "reference", [32, 32]),
        "none": (run_grad(converter, data), "reference", [0, 0]),
        "mean": (run_grad(converter, data), "mean", [42, 42]),
        "rows": (run_grad(converter, data), [[0.0, 1.0], [1.0, 0.0]], [10, 1]),
    }
    for name, (result, baseline, expected) in ends.items():
        curve = metrics.deletion(result, baseline=baseline, seed=1).curve
        assert curve[curve["share"] == 1]["value"].tolist() == pytest.approx(expected), name


def test_blur_keeps_what_is_even():
    result = run_grad(
        Converter(nn.Sequential(nn.Flatten(), nn.Linear(9, 1)), input_dim=(1, 3, 3)), torch.ones(1, 1, 3, 3)
    )
    values = metrics.deletion(result, baseline="blur", seed=1).curve["value"]
    assert values.to_numpy() == pytest.approx(values[0], abs=1e-6)


def test_faithfulness_correlation():
    """Over all sets of two features, which many draws come near to."""
    model = {
        "input_dim": [4],
        "layers": [{"type": "Dense", "weight": [[1.0, -2.0, 3.0, 0.5]], "activation_name": "tanh"}],
    }
    x = np.array([0.3, 0.2, -0.4, 0.6])
    result = run_grad(Converter(model), x[None], times_input=True, ignore_last_act=False, dtype="double")
    w = np.array([1.0, -2.0, 3.0, 0.5])
    a = result.get_result()[0, :, 0]
    sums, lost = [], []
    for pair in itertools.combinations(range(4), 2):
        kept = x.copy()
        kept[list(pair)] = 0
        sums.append(a[list(pair)].sum())
        lost.append(math.tanh(w @ x) - math.tanh(w @ kept))
    found = metrics.faithfulness_correlation(result, subset=0.5, n=6000, seed=1)
    assert found.mean == pytest.approx(np.corrcoef(sums, lost)[0, 1], abs=0.01)


def test_infidelity_of_contributions():
    """Over all sixteen subsets, which many draws come near to; normalized with the best factor."""
    w, x = np.array([1.0, -2.0, 3.0, 0.5]), np.array([0.3, 0.2, -0.4, 0.6])
    model = {"input_dim": [4], "layers": [{"type": "Dense", "weight": [w.tolist()], "activation_name": "tanh"}]}
    result = run_grad(Converter(model), x[None], times_input=True, ignore_last_act=False, dtype="double")
    a = result.get_result()[0, :, 0]
    masks = np.array(list(itertools.product([0, 1], repeat=4)))
    lost = np.tanh(w @ x) - np.tanh((1 - masks) * x @ w)
    foretold = masks @ a
    found = metrics.infidelity(result, n=8000, seed=1).mean
    assert found == pytest.approx(((foretold - lost) ** 2).mean(), rel=0.03)
    best = (foretold @ lost) / (foretold @ foretold)
    found = metrics.infidelity(result, n=8000, normalize=True, seed=1).mean
    assert found == pytest.approx(((best * foretold - lost) ** 2).mean(), rel=0.05)


def test_infidelity_of_gradients_is_captum_s():
    captum = pytest.importorskip("captum.metrics")
    net, x = trained()
    net, x = copy.deepcopy(net).double(), x[:3].double()
    result = run_grad(Converter(net, input_dim=(8,)), x, dtype="double", output_idx=[1])
    sigma = 0.1 * float(x.max() - x.min())
    generator = torch.Generator().manual_seed(3)

    def perturb(inputs):
        noise = sigma * torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype)
        return noise, inputs - noise

    theirs = captum.infidelity(net, perturb, x, result.result[0][0][..., 0], target=1, n_perturb_samples=4000)
    found = metrics.infidelity(result, n=4000, seed=1).frame["value"].to_numpy()
    assert found == pytest.approx(theirs.numpy(), rel=0.1)


def test_max_sensitivity_is_captum_s():
    captum = pytest.importorskip("captum.metrics")
    net, x = trained()
    net, x = copy.deepcopy(net).double(), x[:3].double()
    result = run_grad(Converter(net, input_dim=(8,)), x, dtype="double", output_idx=[1])

    def gradient(inputs):
        with torch.enable_grad():
            leaf = inputs[0].clone().requires_grad_()
            return (torch.autograd.grad(net(leaf)[:, 1].sum(), leaf)[0],)

    torch.manual_seed(0)
    theirs = captum.sensitivity_max(gradient, x, perturb_radius=0.05, n_perturb_samples=400)
    found = metrics.max_sensitivity(result, radius=0.05, unit="one", n=400, seed=1).frame["value"].to_numpy()
    assert found == pytest.approx(theirs.numpy(), rel=0.2)


def test_max_sensitivity_of_a_square():
    """The gradient of w x^2 is 2 w x, so that the largest relative change is radius / |x|."""

    class Square(nn.Module):
        def forward(self, x):
            return 3 * x * x

    result = run_grad(Converter(Square(), input_dim=(1,)), [[0.5]], dtype="double")
    assert metrics.max_sensitivity(result, radius=0.1, n=300, seed=1).mean == pytest.approx(0.2, rel=0.01)


def test_sparseness():
    """Gini as the mean difference of all pairs over twice the mean."""
    values = np.array([0.5, -2.0, 3.0, 0.0, 1.0])
    model = {"input_dim": [5], "layers": [{"type": "Dense", "weight": [values.tolist()]}]}
    sizes = np.abs(values)
    expected = np.abs(sizes[:, None] - sizes).mean() / (2 * sizes.mean())
    assert metrics.sparseness(run_grad(Converter(model), np.ones((1, 5))), seed=1).mean == pytest.approx(expected)


def test_completeness():
    """Gradient x Input of 2 x1 - x2 + 3 misses 3, and the sum of the magnitudes is 3."""
    model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[2.0, -1.0]], "bias": [3.0]}]}
    result = run_grad(Converter(model), [[1.0, 1.0]], times_input=True)
    assert metrics.completeness(result, seed=1).mean == pytest.approx(3 / 4)
    exact = right()
    assert metrics.completeness(exact, seed=1).frame["value"].to_numpy() == pytest.approx(
        exact.residual.relative[0].abs().flatten().numpy(), abs=1e-12
    )


def test_randomization():
    """The layers that are drawn anew are random, in order, and scipy's correlation is the value."""
    stats = pytest.importorskip("scipy.stats")
    net, x = trained()
    converter = Converter(net, input_dim=(8,))
    result = run_grad(converter, x[:4], times_input=True)
    score = metrics.randomization(result, seed=5)
    assert list(dict.fromkeys(score.curve["layer"])) == ["none", "2", "0"]
    from innsight_py.methods.base import random_source
    from innsight_py.model.redrawn import redrawn

    _, seed = (int(number) for number in random_source(5).integers(2**31, size=2))
    for layers, name in ((["Dense_2"], "2"), (["Dense_1", "Dense_2"], "0")):
        names = [layer.name for layer in converter._spec.layers]
        drawn = redrawn(converter, [names[-1]] if len(layers) == 1 else names, seed, "float")
        again = run_grad(drawn, x[:4], times_input=True).get_result()
        stage = score.curve[score.curve["layer"] == name]["value"].to_numpy().reshape(4, 2)
        for b, k in itertools.product(range(4), range(2)):
            expected = stats.spearmanr(result.get_result()[b, :, k], again[b, :, k])[0]
            assert stage[b, k] == pytest.approx(expected)


def test_drawing_anew_keeps_the_original():
    from innsight_py.model.redrawn import layers_with_weights, redrawn

    net, x = trained()
    converter = Converter(net, input_dim=(8,))
    before = converter.model(x)[0].clone()
    names = layers_with_weights(converter)
    other = redrawn(converter, names[1:], 0, "float")
    assert torch.equal(converter.model(x)[0], before)
    first = other.model.layer(names[0]), converter.model.layer(names[0])
    assert torch.equal(first[0].weight, first[1].weight)
    spread = other.model.layer(names[1]).weight.std() / converter.model.layer(names[1]).weight.std()
    assert 0.7 < float(spread) < 1.4
    both = redrawn(converter, names, 0, "float")
    assert torch.equal(both.model.layer(names[1]).weight, other.model.layer(names[1]).weight)


# -- every method --------------------------------------------------------------------------------------------------


def results():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3), nn.Softmax(-1))
    x = torch.randn(3, 1, 4, 4)
    converter = Converter(net, input_dim=(1, 4, 4))
    yield "grad", run_grad(converter, x, target="predicted")
    yield "smoothgrad", run_smoothgrad(converter, x, n=3)
    yield "intgrad", run_intgrad(converter, x, n=60)
    yield "expgrad", run_expgrad(converter, x, n=5, data_ref=torch.randn(3, 4, 1, 4, 4))
    yield "lrp", run_lrp(converter, x, rule_name="epsilon", target=[0, 1, 2])
    yield "deepshap", run_deepshap(converter, x, data_ref=torch.randn(4, 1, 4, 4))
    yield "layer", run_deeplift(converter, x, layer="1")
    yield "neuron", run_deeplift(converter, x, neuron=("0", [(0, 1, 1), (2, 0, 0)]))
    yield "shap", run_shap(converter, x[:2], torch.randn(3, 1, 4, 4))
    yield "direct", torch_grad(net, x, return_object=True)


@pytest.mark.parametrize(("name", "result"), list(results()), ids=lambda x: x if isinstance(x, str) else "")
def test_every_method_is_judged(name, result):
    for metric in METRICS:
        if (metric == "completeness" and not result.decomposes) or (metric == "randomization" and name == "direct"):
            with pytest.raises(ValueError, match="Argument 'result'"):
                getattr(metrics, metric)(result)
        else:
            frame = getattr(metrics, metric)(result, seed=1).frame
            assert np.isfinite(frame[["value", "random"]].to_numpy()).all()
    curve = metrics.deletion(result, seed=1).curve
    at_data = curve[curve["share"] == 0]["value"].to_numpy()
    if name == "grad":
        assert at_data == pytest.approx(result.decomp_goal[0].flatten().numpy(), abs=1e-5)
        start = metrics.deletion(result, value="prediction", seed=1).curve["value"][:3]
        assert start.to_numpy() == pytest.approx(result.preds[0].flatten().numpy(), abs=1e-6)
    if name in ("deepshap", "layer", "neuron"):
        explained = result.explained_values[0].flatten().numpy()
        assert at_data == pytest.approx(explained, abs=1e-5)


def test_several_inputs_and_outputs():
    class Two(nn.Module):
        def forward(self, a, b):
            return a.sum(1, keepdim=True) * b.sum((1, 2), keepdim=False)[:, None], b.sum(2)

    data = [torch.randn(2, 3), torch.randn(2, 2, 4)]
    result = run_deeplift(Converter(Two(), input_dim=[(3,), (2, 4)]), data, output_idx=[[0], [1]])
    score = metrics.deletion(result, seed=1)
    assert list(score.frame["model_output"]) == ["Output_1"] * 2 + ["Output_2"] * 2
    at_data = score.curve[score.curve["share"] == 0]["value"].to_numpy()
    expected = torch.stack([data[0].sum(1) * data[1].sum((1, 2)), data[1].sum(2)[:, 1]]).flatten()
    assert np.sort(at_data) == pytest.approx(np.sort(expected.numpy()), abs=1e-5)
    assert set(metrics.deletion(result, steps=100, seed=1).curve["share"]) == {i / 7 for i in range(8)}
    assert metrics.deletion(result, steps=100, per_channel=True, seed=1).curve["share"].nunique() == 12


def test_refusals():
    net, x = trained()
    converter = Converter(net, input_dim=(8,))
    result = run_grad(converter, x)
    with pytest.raises(TypeError, match="Argument 'result': expected a result"):
        metrics.deletion(converter)
    with pytest.raises(ValueError, match=r"'result'.*instances"):
        metrics.sparseness(run_cw(converter))
    with pytest.raises(ValueError, match=r"'result'.*one layer"):
        metrics.deletion(run_grad(converter, x, layer=["0", "1"]))
    with pytest.raises(ValueError, match=r"'baseline'.*blurred"):
        metrics.deletion(result, baseline="blur")
    with pytest.raises(ValueError, match=r"'baseline'.*reference, mean, blur"):
        metrics.deletion(result, baseline="zeros")
    with pytest.raises(ValueError, match=r"'baseline'.*one row"):
        metrics.deletion(result, baseline=x[:2])
    with pytest.raises(ValueError, match="'subset'"):
        metrics.faithfulness_correlation(result, subset=1.5)


def test_nothing_is_said_while_a_method_is_called_again():
    net, x = trained()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score = metrics.randomization(run_intgrad(Converter(net, input_dim=(8,)), x, n=50), seed=1)
    assert len(score.curve) == 3 * 24 * 2
