"""Attributions of captum and shap come in with their residual, and ours go out to them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from innsight_py import (
    Converter,
    as_explanation,
    explain_func,
    metrics,
    run_cw,
    run_deeplift,
    run_grad,
    run_intgrad,
    run_lime,
)
from innsight_py.methods.for_quantus import KEPT


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).eval()


@pytest.fixture(scope="module")
def data():
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(1))


# -- captum --------------------------------------------------------------------------------------------------------


def test_captum_comes_in(net, data):
    captum = pytest.importorskip("captum.attr")
    x_ref = torch.full((1, 5), 0.5)
    values, delta = captum.IntegratedGradients(net).attribute(
        data, x_ref, target=1, n_steps=4, return_convergence_delta=True
    )
    result = as_explanation(
        values, data=data, converter=Converter(net, input_dim=(5,), input_names=list("abcde")), target=1, x_ref=x_ref,
        title="IG of captum",
    )  # fmt: skip
    frame = result.get_result("data.frame")
    assert list(frame["feature"].unique()) == list("abcde")
    assert set(frame["output_node"]) == {"Y2"}
    assert frame["value"].to_numpy() == pytest.approx(values.T.flatten().numpy())
    # captum says sum minus goal, we say goal minus sum
    assert result.residual.absolute[0].flatten().numpy() == pytest.approx(-delta.numpy(), abs=1e-6)
    assert result.preds[0].flatten().tolist() == pytest.approx(net(data)[:, 1].tolist())
    assert result.plot().axes.shape == (1, 1, 1)
    assert "IG of captum" in repr(metrics.deletion(result, seed=1))
    ours = run_intgrad(Converter(net, input_dim=(5,)), data, x_ref=x_ref, n=300, target=[1] * 6)
    theirs = metrics.deletion(result, seed=1).frame["value"].to_numpy()
    assert theirs == pytest.approx(metrics.deletion(ours, seed=1).frame["value"].to_numpy(), abs=1e-5)


def test_captum_takes_ours(net, data):
    """Its metrics take our attributions and our method."""
    captum = pytest.importorskip("captum.metrics")
    result = run_grad(Converter(net, input_dim=(5,)), data, output_idx=[2])
    assert result.to_captum().shape == data.shape
    torch.manual_seed(0)
    error = captum.infidelity(net, lambda x: (0.01 * torch.ones_like(x), x - 0.01), data, result.to_captum(), target=2)
    assert error.shape == (6,)
    assert float(error.max()) < 1e-6

    def explain(inputs):
        return (run_grad(Converter(net, input_dim=(5,)), inputs[0], output_idx=[2]).to_captum(),)

    assert captum.sensitivity_max(explain, data, n_perturb_samples=2).shape == (6,)


def test_tensors_of_several_inputs_and_nodes():
    class Two(nn.Module):
        def forward(self, a, b):
            return torch.stack([a.sum(1) + b.sum((1, 2)), b.sum((1, 2))], 1)

    data = [torch.randn(2, 3), torch.randn(2, 4, 2)]
    result = run_grad(Converter(Two(), input_dim=[(3,), (2, 4)]), data, channels_first=False)
    first, second = result.to_captum(1)
    assert first.abs().sum() == 0
    assert second.shape == (2, 2, 4)
    back = as_explanation((first, second), data=[data[0], data[1].movedim(1, 2)], preds=[1.0, 2.0])
    assert list(back.get_result()) == ["Input_1", "Input_2"]
    assert back.get_result()["Input_2"].shape == (2, 2, 4, 1)
    with pytest.raises(ValueError, match="'output_idx'"):
        result.to_captum()
    with pytest.raises(ValueError, match="'output_idx'"):
        result.to_captum(5)


def test_r_s_name_of_tensors(net, data):
    result = run_grad(Converter(net, input_dim=(5,)), data)
    assert torch.equal(result.get_result("torch.tensor"), result.get_result("torch_tensor"))


# -- shap ----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_shap_comes_in(net, data):
    shap = pytest.importorskip("shap")

    def predict(rows):
        with torch.no_grad():
            return net(torch.from_numpy(rows).float()).numpy()

    background = np.zeros((1, 5))
    found = shap.PermutationExplainer(predict, background)(data.double().numpy(), silent=True)
    result = as_explanation(found, preds=predict(data.numpy()), output_names=["no", "yes", "perhaps"])
    assert result.title == "SHAP"
    assert result.output_label == [["no", "yes", "perhaps"]]
    assert result.get_result() == pytest.approx(found.values)
    assert float(result.residual.absolute[0].abs().max()) < 1e-5
    one = as_explanation(found[0], preds=predict(data.numpy())[:1])
    assert one.get_result() == pytest.approx(found.values[:1])
    assert float(one.residual.absolute[0].abs().max()) < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_shap_draws_ours(net, data):
    shap = pytest.importorskip("shap")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    result = run_deeplift(Converter(net, input_dim=(5,), input_names=list("abcde")), data, output_idx=[1])
    found = result.to_shap()
    assert found.values.shape == (6, 5)
    assert found.feature_names == list("abcde")
    assert found.base_values + found.values.sum(1) == pytest.approx(net(data)[:, 1].detach().numpy(), abs=1e-6)
    assert found.base_values == pytest.approx(float(net(torch.zeros(1, 5))[0, 1]), abs=1e-6)
    try:
        shap.plots.beeswarm(found, show=False)
        shap.plots.waterfall(found[0], show=False)
        assert {text.get_text() for text in pyplot.gcf().axes[0].get_yticklabels()} >= set("abcde"[:1]) - {"a"}
        assert "a" in shap.plots.force(found[0]).html()
    finally:
        pyplot.close("all")
    assert as_explanation(found, preds=net(data)[:, 1].detach()).residual.absolute[0].abs().max() < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_shap_draws_our_images():
    shap = pytest.importorskip("shap")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    x = torch.rand(2, 3, 6, 6)
    found = run_deeplift(Converter(net, input_dim=(3, 6, 6)), x).to_shap()
    assert found.values.shape == (2, 6, 6, 3, 2)
    assert found.data.shape == (2, 6, 6, 3)
    assert found.output_names == ["Y1", "Y2"]
    assert found.base_values + found.values.sum((1, 2, 3)) == pytest.approx(net(x).detach().numpy(), abs=1e-5)
    try:
        shap.image_plot(found, show=False)
        assert len(pyplot.gcf().axes) >= 6
    finally:
        pyplot.close("all")


def test_what_decomposes_nothing_has_no_base(net, data):
    pytest.importorskip("shap")
    assert not run_grad(Converter(net, input_dim=(5,)), data).to_shap().base_values.any()


# -- values of one's own -------------------------------------------------------------------------------------------


def test_plain_arrays():
    result = as_explanation(np.ones((2, 3), np.float32), preds=[1.0, 2.0])
    assert result.get_result().shape == (2, 3, 1)
    assert result.residual is None
    assert result.dtype == "float"
    with pytest.raises(ValueError, match="'result'"):
        metrics.deletion(result)
    assert (
        metrics.sparseness(as_explanation(np.eye(3), data=np.eye(3)), seed=1).frame["value"].tolist()
        == [pytest.approx(2 / 3)] * 3
    )
    images = as_explanation(np.ones((2, 4, 4, 3)), data=np.ones((2, 4, 4, 3)), channels_first=False)
    assert images.described.input_dim == [(3, 4, 4)]
    assert images.dtype == "double"
    several = as_explanation(np.ones((2, 3, 4)), data=np.ones((2, 3)), output_idx=[0, 2, 5, 7], preds=np.ones((2, 8)))
    assert several.output_label == [["Y1", "Y3", "Y6", "Y8"]]
    own = as_explanation(np.ones((2, 3)), data=np.ones((2, 3)), target=[0, 2], preds=[[1.0, 2.0, 3.0]] * 2)
    assert own.preds[0].tolist() == [[1.0], [3.0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": np.ones((2, 3)), "data": np.ones((2, 4))}, "'values': expected the shape"),
        ({"values": np.ones((2, 3)), "data": np.ones((3, 3))}, "'values': expected a row"),
        ({"values": np.ones((2, 3, 2)), "data": np.ones((2, 3)), "output_idx": [0]}, "'values': they are of 2"),
        ({"values": np.ones((2, 3)), "preds": [1.0]}, "'preds'"),
        ({"values": np.ones((2, 3)), "target": "predicted"}, "'target'"),
    ],
)
def test_values_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        as_explanation(**arguments)


def test_texts_are_no_values():
    with pytest.raises(TypeError, match="'values'"):
        as_explanation([["a", "b"]])


def test_values_that_were_handed_in_cannot_be_computed_again(net, data):
    result = as_explanation(torch.ones(6, 5), data=data, converter=Converter(net, input_dim=(5,)))
    for name in ("max_sensitivity", "randomization"):
        with pytest.raises(ValueError, match="calls the method again"):
            getattr(metrics, name)(result)


# -- a function for Quantus ----------------------------------------------------------------------------------------


def test_a_module_is_converted_anew_when_it_has_changed(net, data):
    explain = explain_func(run_deeplift, x_ref=torch.zeros(1, 5))
    changing, targets = copy.deepcopy(net), np.array([0, 1, 2, 0, 1, 2])
    first = explain(model=changing, inputs=data.numpy(), targets=targets)
    assert first.shape == (6, 5)
    expected = run_deeplift(Converter(net, input_dim=(5,)), data).get_result()
    assert first == pytest.approx(expected[np.arange(6), :, targets], abs=1e-6)
    assert explain(model=net, inputs=data.numpy(), targets=targets, device="cpu") == pytest.approx(first)
    assert len(explain._converters) == 1
    with torch.no_grad():
        changing[0].weight.mul_(2)
    changing.train()
    second = explain(model=changing, inputs=data.numpy(), targets=targets)
    assert np.abs(second - first).max() > 0.01
    assert changing.training
    assert len(explain._converters) == 2
    for factor in range(2, 4 + KEPT):
        with torch.no_grad():
            changing[2].bias.add_(factor)
        explain(model=changing, inputs=data.numpy(), targets=0)
    assert len(explain._converters) == KEPT


def test_every_kind_of_method_is_a_function(net, data):
    rows = data.numpy()
    predicted = explain_func(run_grad)(net, rows)
    assert predicted == pytest.approx(
        run_grad(Converter(net, input_dim=(5,)), rows, target="predicted").get_result()[..., 0]
    )
    assert explain_func(run_lime, n_permutations=20, seed=1)(net, rows, 0).shape == (6, 5)
    assert explain_func(run_grad)(Converter(net, input_dim=(5,)), rows, [1]).shape == (6, 5)
    for wrong in (run_cw, len):
        with pytest.raises(TypeError, match="'run'"):
            explain_func(wrong)


@pytest.mark.parametrize("argument", ["input_names", "output_names"])
def test_names_beside_a_converter_are_refused(argument):
    """They were ignored once: the names of the converter were shown."""
    net = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=f"'{argument}': the names are those of 'converter'; leave"):
        as_explanation(torch.ones(1, 2), converter=Converter(net, input_dim=(2,)), **{argument: ["a", "b"]})
