"""Conductance and GradCAM: against their definitions, found by autograd and loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from laws_inside import Cut, arrays, near
from torch import nn
from torch.nn import functional as F  # noqa: N812

from innsight_py import Converter, run_conductance, run_grad, run_gradcam

pytestmark = pytest.mark.filterwarnings("ignore:.*do not add up:UserWarning")


@pytest.fixture(scope="module")
def cut() -> Cut:
    return Cut.of("cnn")


@pytest.fixture(scope="module")
def converter(cut) -> Converter:
    return cut.converter


def logits(model: nn.Sequential) -> nn.Sequential:
    return model[:-1]


def conductance(head: nn.Module, tail: nn.Module, x: torch.Tensor, ref: torch.Tensor, n: int) -> torch.Tensor:
    """Add up the mean gradient of each step times the step of the layer, ``(B, *dims, K)``."""
    values, gradients = [], []
    for j in range(n + 1):
        inner = head(ref + j / n * (x - ref)).detach().requires_grad_()
        out = tail(inner)
        gradients.append(
            torch.stack([torch.autograd.grad(out[:, k].sum(), inner, retain_graph=True)[0] for k in range(3)], -1)
        )
        values.append(inner.detach())
    return sum((gradients[j] + gradients[j + 1]) / 2 * (values[j + 1] - values[j]).unsqueeze(-1) for j in range(n))


@pytest.mark.parametrize("batch_size", [None, 1, 2, 5])
@pytest.mark.parametrize("layer", [0, 1, 3, 6])
def test_conductance_is_what_flows_through_the_layer_on_the_path(cut, converter, layer, batch_size):
    x, refs = cut.data()
    whole = logits(cut.model)
    expected = conductance(whole[: layer + 1], whole[layer + 1 :], x, refs[:1], 9).numpy()
    found = run_conductance(
        converter, x, layer=str(layer), x_ref=refs[:1], n=9, dtype="double", batch_size=batch_size, verbose=False
    )
    near(arrays(found), [expected])
    with torch.no_grad():
        near([found.decomp_goal[0].numpy()], [(whole(x) - whole(refs[:1])).numpy()])


def test_conductance_of_layers_at_once(cut, converter):
    x, refs = cut.data()
    layers, keys = ["3", "0", "3.one"], {"x_ref": refs[:1], "n": 5, "dtype": "double"}
    found = run_conductance(converter, x, layer=layers, **keys)
    near(arrays(found), [arrays(run_conductance(converter, x, layer=layer, **keys))[0] for layer in layers])
    assert found.residual is None


def test_conductance_adds_up(cut, converter):
    x, refs = cut.data()
    found = run_conductance(converter, x, layer="2", x_ref=refs[:1], n=500, dtype="double")
    assert found.residual.relative[0].abs().max() < 1e-2
    bypassed = run_conductance(converter, x, layer="3.two", x_ref=refs[:1], n=5)
    assert bypassed.residual is None
    each = run_conductance(converter, x[:2], layer="2", x_ref=refs, n=5, dtype="double")
    alone = [
        run_conductance(converter, x[b : b + 1], layer="2", x_ref=refs[b : b + 1], n=5, dtype="double") for b in (0, 1)
    ]
    near(arrays(each), [np.concatenate([arrays(one)[0] for one in alone])])


def test_conductance_needs_a_layer(converter):
    with pytest.raises(ValueError, match="'layer': expected the name of a layer, whose conductance is asked for"):
        run_conductance(converter, np.ones((1, 2, 6, 6)))


def gradcam(head: nn.Module, tail: nn.Module, x: torch.Tensor, node: int, relu: bool = True) -> torch.Tensor:
    values = head(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(tail(values)[:, node].sum(), values)
    cam = (gradient.flatten(2).mean(2)[(...,) + (None,) * (values.dim() - 2)] * values.detach()).sum(1, keepdim=True)
    return cam.clamp(min=0) if relu else cam


@pytest.mark.parametrize("batch_size", [None, 1])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("layer", [0, 1, 3])
def test_gradcam_weights_channels_by_their_mean_gradient(cut, converter, layer, relu, batch_size):
    x, _ = cut.data()
    whole = logits(cut.model)
    cams = torch.stack([gradcam(whole[: layer + 1], whole[layer + 1 :], x, k, relu) for k in range(3)], -1)
    keys = {"layer": str(layer), "relu": relu, "dtype": "double", "batch_size": batch_size}
    small = run_gradcam(converter, x, resize=False, **keys)
    near(arrays(small), [cams.numpy()])
    found = run_gradcam(converter, x, **keys)
    large = torch.stack([F.interpolate(cams[..., k], (6, 6), mode="bilinear") for k in range(3)], -1)
    near(arrays(found), [large.numpy()])
    last = run_gradcam(converter, x.movedim(1, -1), channels_first=False, **keys)
    near([np.moveaxis(arrays(last)[0], -2, 1)], [large.numpy()])


def test_maps_lie_over_the_image():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    x = torch.rand(3, 3, 6, 6)
    found = run_gradcam(Converter(model, input_dim=(3, 6, 6)), x, layer="0")
    assert found.get_result().shape == (3, 1, 6, 6, 2)
    assert found.described.input_dim == [(1, 6, 6)]
    assert len(found.get_result("data.frame")) == 3 * 36 * 2
    assert found.plot([0, 1], output_idx=[0, 1], image=True).axes.shape == (2, 2, 1)
    np.testing.assert_array_equal(found.data[0], x)
    assert found.residual is None
    assert "layer: '0'" in str(found)


def test_the_last_convolution_is_the_default(cut, converter):
    x, _ = cut.data()
    default = run_gradcam(converter, x)
    assert default.described.input_keys == ["3.two"]
    assert torch.equal(default.result[0][0], run_gradcam(converter, x, layer="3.two").result[0][0])
    relu = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    signal = run_gradcam(Converter(relu, input_dim=(1, 6)), np.ones((2, 1, 6)))
    assert signal.described.input_keys == ["1"]  # with the activation that is a part of the layer
    assert signal.get_result().shape == (2, 1, 6, 2)
    with pytest.raises(ValueError, match="'layer': the model has no convolution"):
        run_gradcam(Converter(nn.Linear(3, 2), input_dim=(3,)), np.ones((1, 3)))
    with pytest.raises(
        ValueError, match=r"GradCAM needs a layer with channels and positions.*'6' has the shape \(\*, 5\)"
    ):
        run_gradcam(converter, x, layer="6")


def test_a_layer_on_its_own_input_is_grad_times_input(cut, converter):
    x, _ = cut.data()
    flat = run_gradcam(converter, x, layer="4", resize=False, relu=False, dtype="double")  # one position
    product = run_grad(converter, x, layer="4", times_input=True, dtype="double")
    near(arrays(flat), [arrays(product)[0].sum(1, keepdims=True)])


def test_gradcam_of_targets_is_the_diagonal_of_all_outputs(converter):
    x, nodes = torch.randn(3, *converter.input_dim[0]), [2, 0, 1]
    every = run_gradcam(converter, x, output_idx=[0, 1, 2]).get_result()
    found = run_gradcam(converter, x, target=nodes).get_result()
    assert np.allclose(found[..., 0], np.stack([every[row, ..., node] for row, node in enumerate(nodes)]))
