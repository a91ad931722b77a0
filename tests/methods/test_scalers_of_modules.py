"""Modules and ONNX files that begin with ``(x - mean) / std``: numbers that were not learned prepare the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import innsight_py as ip
from innsight_py import Converter
from innsight_py.methods.registry import RUNNERS

onnx = pytest.importorskip("onnx")

MEAN, STD = torch.tensor([40.0, 200.0, 4000.0]), torch.tensor([5.0, 10.0, 800.0])
SETTINGS = {
    "lrp": {"rule_name": "epsilon"}, "deeplift": {}, "intgrad": {"n": 5}, "grad": {"times_input": True},
    "cw": {"times_input": True},
}  # fmt: skip


class Scaled(nn.Module):
    """A network that scales raw columns or channels itself, in one of several spellings."""

    def __init__(self, spelling: str, body: nn.Module, axes: int = 0) -> None:
        super().__init__()
        self.spelling, self.body = spelling, body
        shape = (3, *(1 for _ in range(axes)))
        self.register_buffer("mean", MEAN.reshape(shape))
        self.register_buffer("std", STD.reshape(shape))
        self.learned = nn.Parameter(MEAN.reshape(shape).clone())
        self.norm = (nn.BatchNorm2d if axes else nn.BatchNorm1d)(3, affine=False)
        self.norm.running_mean, self.norm.running_var = MEAN.clone(), STD**2 - self.norm.eps

    def forward(self, x):
        if self.spelling == "buffers":
            x = (x - self.mean) / self.std
        elif self.spelling == "constants":
            x = (x - MEAN.reshape(self.mean.shape)) * (1 / STD).reshape(self.mean.shape)
        elif self.spelling == "batch norm":
            x = self.norm(x)
        elif self.spelling == "in steps":
            x = (x / 10 - self.mean / 10) / (self.std / 10)
        elif self.spelling == "learned":
            x = (x - self.learned) / self.std
        elif self.spelling == "numbers":
            x = (x - 1) / 2
        elif self.spelling == "mask":
            x = x * torch.tensor([1.0, 0.0, 1.0])
        elif self.spelling == "positions":
            x = x + torch.arange(12.0).reshape(3, 4)
        return self.body(x)


def table() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))


def image() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))


def exported(module: nn.Module) -> onnx.ModelProto:
    """Return the ONNX model of a table's module, written node by node: no exporter is needed."""
    helper, arrays = onnx.helper, onnx.numpy_helper
    first, last = module.body[0], module.body[2]
    numbers = {
        "mean": MEAN, "std": STD, "w1": first.weight.detach(), "b1": first.bias.detach(), "w2": last.weight.detach(),
        "b2": last.bias.detach(),
    }  # fmt: skip
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["scaled"]),
        helper.make_node("Gemm", ["scaled", "w1", "b1"], ["hidden"], transB=1),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["y"], transB=1),
    ]
    ends = [
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 2])],
    ]
    tensors = [arrays.from_array(value.numpy(), name) for name, value in numbers.items()]
    graph = helper.make_graph(nodes, "scaled", *ends, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def same(whole: Converter, rest: Converter, raw: torch.Tensor, scaled: torch.Tensor, name: str) -> None:
    settings = SETTINGS[name] | {"dtype": "double"}
    found, expected = (
        RUNNERS[name](converter, x, **settings).get_result() for converter, x in ((whole, raw), (rest, scaled))
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("spelling", ["buffers", "constants", "batch norm", "in steps", "an ONNX file"])
def test_raw_columns_are_explained_as_scaled_ones(spelling, name):
    scaled = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    module = Scaled(spelling, table()).eval()
    whole = Converter(exported(module)) if spelling == "an ONNX file" else Converter(module, input_dim=(3,))
    same(whole, Converter(module.body, input_dim=(3,)), scaled * STD + MEAN, scaled, name)


@pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")
@pytest.mark.parametrize("name", ["lrp", "deeplift", "grad"])
@pytest.mark.parametrize("spelling", ["buffers", "batch norm"])
def test_channels_of_images_as_well(spelling, name):
    scaled = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    module = Scaled(spelling, image(), axes=2).eval()
    raw = scaled * STD.reshape(3, 1, 1) + MEAN.reshape(3, 1, 1)
    whole, rest = (Converter(part, input_dim=(3, 4, 4)) for part in (module, module.body))
    same(whole, rest, raw, scaled, name)


def test_the_default_reference_is_the_center():
    module = Scaled("buffers", table()).eval()
    result = ip.run_deeplift(Converter(module, input_dim=(3,)), MEAN[None] + STD)
    np.testing.assert_allclose(result.x_ref[0].numpy(), MEAN[None].numpy(), rtol=1e-6)
    assert "the center of the model's preparation" in str(result)


@pytest.mark.parametrize("spelling", ["learned", "numbers", "mask", "positions"])
def test_other_beginnings_are_part_of_the_model(spelling):
    dim = (3, 4) if spelling == "positions" else (3,)
    body = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)) if spelling == "positions" else table()
    converter = Converter(Scaled(spelling, body).eval(), input_dim=dim)
    assert not converter.model.preparation
    assert not ip.run_deeplift(converter, torch.ones(1, *dim)).x_ref[0].any()


def test_a_shift_in_an_onnx_file_may_be_learned():
    model = exported(Scaled("buffers", table()))
    centred, scaled = model.graph.node[:2]
    centred.output[0] = "scaled"
    model.graph.node.remove(scaled)
    assert not Converter(model).model.preparation


def test_a_batch_normalisation_in_an_onnx_file_may_be_learned():
    """Behind a scaler, too: the scaler alone prepares."""
    model = exported(Scaled("buffers", table()))
    centred, scaled, dense = model.graph.node[:3]
    norm = onnx.helper.make_node("BatchNormalization", ["scaled", "std", "mean", "mean", "std"], ["normal"])
    dense.input[0] = "normal"
    model.graph.node.insert(2, norm)
    (chain,) = Converter(model).model.preparation.values()
    assert len(chain) == 2
    norm.input[0] = "x"
    model.graph.node[2].CopyFrom(norm)
    for unused in (centred, scaled):
        model.graph.node.remove(unused)
    assert not Converter(model).model.preparation
