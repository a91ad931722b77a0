"""The gradients of ONNX models are compared with small differences of a copy in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx")

import onnx_models as om  # noqa: E402
from onnx import helper  # noqa: E402

from innsight_py import Converter, SpecError  # noqa: E402
from innsight_py.converters.onnx import door, translation  # noqa: E402
from innsight_py.converters.onnx.preparing import prepared  # noqa: E402
from innsight_py.converters.onnx.writer import TABLE  # noqa: E402
from innsight_py.functions.activations import Activation  # noqa: E402
from innsight_py.model import original  # noqa: E402

FLOAT, DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
RNG = np.random.default_rng(4)


def _convolution():
    weight, bias = RNG.normal(size=(3, 2, 3, 3)).astype(np.float32), RNG.normal(size=3).astype(np.float32)
    return om.one("Conv", (2, 5, 5), constants=[weight, bias], pads=[1, 1, 1, 1])


def _casts():
    """Build a model with a type in an attribute, and a constant that is computed: the root of a third."""
    nodes = [
        helper.make_node("Sqrt", ["third"], ["root"]), helper.make_node("Cast", ["x"], ["same"], to=FLOAT),
        helper.make_node("Mul", ["same", "root"], ["scaled"]), helper.make_node("Exp", ["scaled"], ["y"]),
    ]  # fmt: skip
    return om.graph(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}, {"third": np.float32(1 / 3)})


def _branch():
    """Build a model with a condition that is known."""
    taken = helper.make_graph([helper.make_node("Tanh", ["x"], ["t"])], "t", [], [_info("t")])
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["n"])], "n", [], [_info("n")])
    nodes = [
        helper.make_node("If", ["yes"], ["chosen"], then_branch=taken, else_branch=other),
        helper.make_node("Exp", ["chosen"], ["y"]),
    ]
    return om.graph(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}, {"yes": np.array(True)})


def _info(name):
    return helper.make_tensor_value_info(name, FLOAT, ["N", 3])


def _map():
    """Build a model whose output has three axes."""
    weight = RNG.normal(size=(3, 2, 1)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])]
    return om.graph(nodes, {"x": ["N", 2, 4]}, {"y": ["N", 3, 4]}, {"w": weight})


MODELS = {
    "perceptron": om.mlp,
    "output of several axes": _map,
    "first axis that is not of rows": lambda: om.one(
        "Resize", (1, 2, 2), constants=[None, None, np.array([2, 2, 2, 2])], mode="linear"
    ),
    "convolution": _convolution,
    "casts": _casts,
    "branch": _branch,
    "pooling": lambda: om.one("MaxPool", (2, 6, 6), kernel_shape=[2, 2]),
    "normalization": lambda: om.one(
        "LayerNormalization", (2, 4), constants=[np.float32([1, 2, 3, 4])], epsilon=1e-5, stash_type=1
    ),
    "root mean square": lambda: om.one(
        "RMSNormalization", (2, 4), 23, constants=[np.float32([1, 2, 3, 4])], stash_type=1
    ),
    "softmax of an early version": lambda: om.one("Softmax", (2, 3), 11),
    "defaults of single precision": lambda: om.one("HardSigmoid", (4,)),
    "error function": lambda: om.one("Erf", (4,)),
    "gelu": lambda: om.one("Gelu", (4,)),
    "gelu with a tangent": lambda: om.one("Gelu", (4,), approximate="tanh"),
    "threshold": lambda: om.one("ThresholdedRelu", (4,), alpha=40.0),
}


@pytest.fixture
def compared(monkeypatch):
    """Count the comparisons of gradients, and keep the precision of each."""
    seen, real = [], original.compare_gradients

    def noted(reading, model, inputs, tolerance):
        seen.append(inputs[0].dtype)
        real(reading, model, inputs, tolerance)

    monkeypatch.setattr(original, "compare_gradients", noted)
    return seen


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_compared_in_double_precision(name, compared):
    Converter(MODELS[name]())
    assert compared == [torch.float64]


@pytest.mark.parametrize("name", MODELS)
def test_the_copy_in_double_precision_has_the_numbers_of_the_model(name):
    reading = door.read(prepared(MODELS[name]()), None)
    x = torch.randn(2, *reading.spec["input_dim"][0], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (found,), (expected,) = reading.double([x]), reading.run([x.float()])
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected.double(), rtol=1e-5, atol=1e-6)


def test_the_copy_has_more_digits_than_the_model():
    x = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    (found,) = door.read(_casts(), None).double([x])
    root = float(np.sqrt(np.float32(1 / 3)))  # computed as the model has it
    torch.testing.assert_close(found, torch.exp(x * root), rtol=1e-15, atol=0)


@pytest.mark.parametrize("name", ["perceptron", "branch", "casts", "output of several axes"])
def test_a_wrong_derivative_is_noticed(name, monkeypatch):
    real = Activation.vjp
    monkeypatch.setattr(Activation, "vjp", lambda self, *given: 2 * real(self, *given))
    with pytest.raises(SpecError, match="gradient of the converted model is not the original's"):
        Converter(MODELS[name]())


@pytest.mark.parametrize("alpha", [0.5, 40.0, 5000.0])
def test_a_translation_with_a_wrong_sign_beyond_a_threshold_is_noticed(alpha, monkeypatch):
    def wrong(write, call):
        return write.scale(write.activation(call.x, "threshold", threshold=alpha, value=0.0), -1)

    model = om.one("ThresholdedRelu", (4,), alpha=alpha)
    assert Converter(model).output_dim == [(4,)]
    monkeypatch.setitem(TABLE, "ThresholdedRelu", wrong)
    monkeypatch.setitem(translation.WRITES, "ThresholdedRelu", {"Activation", "Scale"})
    with pytest.raises(SpecError, match="not the original's"):
        Converter(model)


@pytest.mark.parametrize(("low", "high"), [(-2.0, 700.0), (-1e4, 3.0)])
def test_a_bound_at_the_wrong_place_is_noticed(low, high, monkeypatch):
    def wrong(write, call):
        return write.activation(call.x, "clamp", min=low / 2, max=high / 2)

    model = om.one("Clip", (4,), constants=[np.float32(low), np.float32(high)])
    assert Converter(model).output_dim == [(4,)]
    monkeypatch.setitem(TABLE, "Clip", wrong)
    with pytest.raises(SpecError, match="not the original's"):
        Converter(model)


def test_an_evaluator_that_rounds_within_an_operator_is_no_judge(compared, monkeypatch):
    """ONNX's own error function has the digits of single precision, and gives them as double."""
    monkeypatch.setattr("innsight_py.converters.onnx.original._exact", lambda onnx: [])
    assert Converter(om.one("Erf", (4,))).output_dim == [(4,)]
    assert compared == []


@pytest.mark.parametrize("back", [False, True], ids=["single", "single and back"])
def test_an_original_without_double_precision_is_compared_by_its_outputs_alone(back, compared, monkeypatch):
    real = translation.doubled

    def rounding(nodes, *rest):
        """Leave one value of the copy in single precision: a difference of its outputs is one of rounding."""
        model = real(nodes, *rest)
        name = model.graph.input[0].name
        for node in model.graph.node:
            node.input[:] = ["rounded" if name == entry else entry for entry in node.input]
        model.graph.node.insert(0, helper.make_node("Cast", ["short"], ["rounded"], to=DOUBLE if back else FLOAT))
        model.graph.node.insert(0, helper.make_node("Cast", [name], ["short"], to=FLOAT))
        return model

    monkeypatch.setattr(translation, "doubled", rounding)
    assert Converter(om.mlp()).output_dim == [(3,)]
    assert compared == []
