"""Inner layers and neurons against captum, where it is right: modules that are used once, no softmax inside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from innsight_py import Converter, run_conductance, run_deeplift, run_grad, run_gradcam, run_intgrad

pytest.importorskip("captum")

import captum.attr as c

pytestmark = [
    pytest.mark.filterwarnings("ignore:Setting forward, backward hooks:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*do not add up:UserWarning"),
    pytest.mark.filterwarnings("ignore:Input Tensor .* did not already require gradients:UserWarning"),
]
LAYERS = ["0", "1", "3", "4", "6"]


@pytest.fixture(scope="module", params=[nn.ReLU, nn.Tanh, nn.Softplus])
def net(request):
    torch.manual_seed(5)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), request.param(), nn.AvgPool2d(2), nn.Conv2d(4, 5, 2), request.param(),
        nn.Flatten(), nn.Linear(45, 6), request.param(), nn.Linear(6, 3),
    ).double().eval()  # fmt: skip
    x, ref = torch.randn(4, 2, 8, 8).double(), torch.randn(1, 2, 8, 8).double()
    return model, Converter(model, input_dim=(2, 8, 8), dtype="double"), x, ref


def agree(ours, theirs, relative=1e-9):
    """Compare all outputs of ours with a function that explains one with captum."""
    found = ours.get_result("torch_tensor")
    expected = torch.stack([theirs(k).detach() for k in range(found.shape[-1])], -1)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= relative * expected.abs().max()  # units may be dead


@pytest.mark.parametrize("layer", LAYERS)
def test_gradient_times_activation(net, layer):
    model, converter, x, _ = net
    theirs = c.LayerGradientXActivation(model, model[int(layer)])
    found = run_grad(converter, x, layer=layer, times_input=True, dtype="double")
    agree(found, lambda k: theirs.attribute(x, target=k))
    plain = c.LayerActivation(model, model[int(layer)]).attribute(x)
    np.testing.assert_allclose(found.data[0], plain.detach(), atol=1e-12)


@pytest.mark.parametrize("layer", LAYERS)
def test_integrated_gradients(net, layer):
    """The points of captum's right Riemann sum are R's."""
    model, converter, x, ref = net
    theirs = c.LayerIntegratedGradients(model, model[int(layer)])
    found = run_intgrad(converter, x, layer=layer, x_ref=ref, n=8, dtype="double")
    agree(found, lambda k: theirs.attribute(x, ref, target=k, n_steps=8, method="riemann_right"), 1e-6)


@pytest.mark.parametrize("layer", LAYERS)
def test_deeplift(net, layer):
    model, converter, x, ref = net
    theirs = c.LayerDeepLift(model, model[int(layer)])
    found = run_deeplift(converter, x, layer=layer, x_ref=ref, dtype="double")
    agree(found, lambda k: theirs.attribute(x, ref, target=k), 1e-6)


@pytest.mark.parametrize("layer", LAYERS)
def test_conductance(net, layer):
    """Captum takes the gradient at the left end of each step. With both ends exchanged it takes that at the right."""
    model, converter, x, ref = net
    theirs = c.LayerConductance(model, model[int(layer)])
    keys = {"n_steps": 6, "method": "riemann_trapezoid"}
    refs = ref.expand_as(x).contiguous()

    def both(k: int) -> torch.Tensor:
        return (theirs.attribute(x, refs, target=k, **keys) - theirs.attribute(refs, x, target=k, **keys)) / 2

    agree(run_conductance(converter, x, layer=layer, x_ref=ref, n=6, dtype="double"), both, 1e-6)


@pytest.mark.parametrize(("layer", "index"), [("0", (1, 2, 3)), ("1", (3, 0, 0)), ("4", (2, 1, 1)), ("6", 4), ("7", 1)])
def test_the_gradient_of_a_neuron(net, layer, index):
    model, converter, x, _ = net
    theirs = c.NeuronGradient(model, model[int(layer)]).attribute(x, index)
    found = run_grad(converter, x, neuron=(layer, index), dtype="double")
    agree(found, lambda k: theirs)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("layer", ["0", "1", "4"])
def test_gradcam(net, layer, relu):
    model, converter, x, _ = net
    theirs = c.LayerGradCam(model, model[int(layer)])
    keys = {"layer": layer, "relu": relu, "dtype": "double"}
    agree(
        run_gradcam(converter, x, resize=False, **keys),
        lambda k: theirs.attribute(x, target=k, relu_attributions=relu),
    )

    def resized(k: int) -> torch.Tensor:
        small = theirs.attribute(x, target=k, relu_attributions=relu)
        return F.interpolate(small, (8, 8), mode="bilinear", align_corners=False)

    agree(run_gradcam(converter, x, **keys), resized)
