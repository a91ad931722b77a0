"""Operators of ONNX, by what changed from version to version, and options that no case of ONNX's own has.

The numbers that are right are onnxruntime's, or follow from a definition; the door compares each conversion with the
original on random rows besides.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_models as om
from onnx import helper
from onnx_models import RNG, reference, rows, run

from innsight_py import Converter
from innsight_py.converters.onnx.writer import TABLE, reads

CASES = {
    "softmax over all axes from the second on, before 13": om.one("Softmax", (2, 3), 11),
    "log softmax from the third axis on, before 13": om.one("LogSoftmax", (2, 3, 2), 9, axis=2),
    "softmax along the last axis": om.one("Softmax", (2, 3), 13),
    "softmax along an axis": om.one("Softmax", (2, 3), 13, axis=1),
    "clip with attributes": om.one("Clip", (4,), 9, min=-0.5, max=0.25),
    "clip with inputs": om.one("Clip", (4,), 13, [np.float32(-0.5), np.float32(0.25)]),
    "clip with one input": om.one("Clip", (4,), 13, [None, np.float32(0.25)]),
    "clip with nothing": om.one("Clip", (4,), 13),
    "pad with attributes": om.one("Pad", (2, 3), 10, pads=[0, 1, 0, 0, 0, 2], value=1.5),
    "pad with inputs": om.one("Pad", (2, 3), 13, [np.array([0, 1, 0, 0, 0, 2]), np.float32(1.5)]),
    "pad of some axes": om.one("Pad", (2, 3), 18, [np.array([1, 2]), None, np.array([-1])], mode="constant"),
    "pad by reflection": om.one("Pad", (2, 4), 13, [np.array([0, 0, 3, 0, 1, 2])], mode="reflect"),
    "pad with the edge": om.one("Pad", (2, 3), 13, [np.array([0, 2, 3, 0, 1, 2])], mode="edge"),
    "pad around": om.one("Pad", (2, 3), 19, [np.array([0, 1, 2, 0, 1, 3])], mode="wrap"),
    "pad that cuts off": om.one("Pad", (3, 4), 13, [np.array([0, -1, 1, 0, 0, -2])]),
    "sum with an attribute": om.one("ReduceSum", (2, 3), 11, axes=[2]),
    "sum with an input": om.one("ReduceSum", (2, 3), 13, [np.array([2])]),
    "mean with an attribute": om.one("ReduceMean", (2, 3), 13, axes=[1, 2], keepdims=0),
    "mean with an input": om.one("ReduceMean", (2, 3), 18, [np.array([-1])], keepdims=1),
    "sum over nothing": om.one("ReduceSum", (2, 3), 13, noop_with_empty_axes=1),
    "squeeze with an attribute": om.one("Squeeze", (1, 3), 11, axes=[1]),
    "squeeze with an input": om.one("Squeeze", (1, 3), 13, [np.array([1])]),
    "unsqueeze with an attribute": om.one("Unsqueeze", (3,), 11, axes=[1, 3]),
    "slice with attributes": om.one("Slice", (5, 4), 9, starts=[1, -3], ends=[4, 1000], axes=[1, 2]),
    "slice backwards": om.one("Slice", (5,), 13, [np.array([-1]), np.array([-1000]), np.array([1]), np.array([-2])]),
    "upsampling with a factor": om.one("Upsample", (2, 3, 2), 9, [np.array([1, 1, 2, 3], np.float32)], mode="nearest"),
    "resizing by the rule of version 10": om.one("Resize", (2, 3, 3), 10, [np.array([1, 1, 2, 1.5], np.float32)]),
    "resizing of some axes": om.one(
        "Resize", (2, 3, 4), 18, [None, None, np.array([5, 6])], axes=[2, 3], mode="linear"
    ),
    "group normalisation, a factor a channel": om.one(
        "GroupNormalization",
        (4, 3),
        21,
        [np.array([1, 2, 3, 4], np.float32), np.array([0, 1, 0, 1], np.float32)],
        num_groups=2,
    ),
    "batch normalisation": om.one(
        "BatchNormalization",
        (3, 2),
        9,
        [np.array(v, np.float32) for v in ([1, 2, 3], [0, 1, 2], [0.5, 0, -1], [1, 2, 4])],
    ),
    "local response normalisation": om.one("LRN", (5, 2, 2), 13, size=3, alpha=0.5, beta=0.6, bias=2.0),
    "dropout is the identity": om.one("Dropout", (3,), 13),
    "a matrix on the left": om.graph(
        [helper.make_node("MatMul", ["w", "x"], ["m"]), helper.make_node("Flatten", ["m"], ["y"])],
        {"x": ["N", 3, 2]},
        {"y": None},
        {"w": RNG.normal(size=(4, 3)).astype(np.float32)},
    ),
    "a gemm of the model's own matrices": om.graph(
        [
            helper.make_node("Reshape", ["x", "shape"], ["m"]),
            helper.make_node("Gemm", ["m", "m", "b"], ["g"], alpha=0.5, beta=2.0, transB=1),
            helper.make_node("Reshape", ["g", "row"], ["y"]),
        ],
        {"x": [1, 6]},
        {"y": None},
        {"shape": np.array([2, 3]), "row": np.array([1, -1]), "b": np.array([1, 2], np.float32)},
    ),
    "the largest of several": om.graph(
        [helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Max", ["x", "n", "c"], ["y"])],
        {"x": ["N", 3]},
        {"y": None},
        {"c": np.array([0.5, -1, 0], np.float32)},
    ),
    "the mean of several": om.graph(
        [helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Mean", ["x", "n", "c", "x"], ["y"])],
        {"x": ["N", 3]},
        {"y": None},
        {"c": np.array([0.5, -1, 0], np.float32)},
    ),
    "a power of a number": om.graph(
        [helper.make_node("Pow", ["c", "x"], ["y"])],
        {"x": ["N", 3]},
        {"y": None},
        {"c": np.array([2, 3, 0.5], np.float32)},
    ),
    "a branch that is known": om.graph(
        [
            helper.make_node(
                "If",
                ["yes"],
                ["y"],
                then_branch=helper.make_graph(
                    [helper.make_node("Neg", ["x"], ["a"])], "then", [], [helper.make_empty_tensor_value_info("a")]
                ),
                else_branch=helper.make_graph(
                    [helper.make_node("Abs", ["x"], ["b"])], "else", [], [helper.make_empty_tensor_value_info("b")]
                ),
            )
        ],
        {"x": ["N", 3]},
        {"y": None},
        {"yes": np.array(True)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_those_of_onnxruntime(name):
    model = CASES[name]
    (shape,) = [[d.dim_value for d in info.type.tensor_type.shape.dim] for info in model.graph.input]
    x = rows(*shape[1:])
    if shape[0] == 1:
        expected = np.concatenate([reference(model, x[i : i + 1]) for i in range(3)])
    else:
        expected = reference(model, x)
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-5, atol=1e-6)


def test_softmax_of_both_conventions():
    x = rows(2, 3)
    old, new = (run(om.one("Softmax", (2, 3), opset), x) for opset in (12, 13))
    np.testing.assert_allclose(old.sum(1), 1)
    np.testing.assert_allclose(new.sum(1), 2)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_convolution_pads_by_itself(auto_pad, stride, dilation):
    weight = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    model = om.one("Conv", (3, 9), 13, [weight], auto_pad=auto_pad, strides=[stride], dilations=[dilation])
    x = rows(3, 9)
    padded = torch.from_numpy(x)
    if auto_pad != "VALID":
        total = max((-(-9 // stride) - 1) * stride + 3 * dilation + 1 - 9, 0)
        less, more = total // 2, total - total // 2
        padded = F.pad(padded, (less, more) if auto_pad == "SAME_UPPER" else (more, less))
    expected = F.conv1d(padded, torch.from_numpy(weight).double(), stride=stride, dilation=dilation)
    np.testing.assert_allclose(run(model, x), expected.flatten(1).numpy())


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("pads", [[1, 0], [0, 1], [1, 1], [2, 2]])
@pytest.mark.parametrize("ceil", [0, 1])
def test_windows_that_lie_anywhere(kind, pads, ceil):
    """Each window is looked at by itself; what is outside the input counts for nothing."""
    model = om.one(kind, (1, 8), 13, kernel_shape=[3], strides=[2], pads=pads, ceil_mode=ceil)
    x = rows(1, 8)
    ends = 8 + sum(pads) - 3
    count = (-(-ends // 2) if ceil else ends // 2) + 1
    starts = [2 * i - pads[0] for i in range(count) if not ceil or 2 * i < 8 + pads[0]]  # none lies behind the input
    reduce = np.max if kind == "MaxPool" else np.mean
    expected = [reduce(x[:, 0, max(s, 0) : s + 3], axis=1) for s in starts]
    np.testing.assert_allclose(run(model, x), np.stack(expected, 1))


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 6)])
@pytest.mark.parametrize(
    "operator", ["Conv", "MaxPool", "AveragePool", "BatchNormalization", "InstanceNormalization", "GlobalMaxPool"]
)
def test_several_pictures_within_a_row(operator, shape):
    """What a model does to each of several pictures of a row, it does to each of several rows."""
    channels, axes = shape[0], len(shape) - 1
    constants = {
        "Conv": [RNG.normal(size=(3, channels, *[2] * axes)).astype(np.float32)],
        "BatchNormalization": [np.linspace(1, 2, channels, dtype=np.float32)] * 4,
        "InstanceNormalization": [np.linspace(1, 2, channels, dtype=np.float32)] * 2,
    }.get(operator, [])
    attributes = {"kernel_shape": [2] * axes, "strides": [2] * axes} if operator in ("MaxPool", "AveragePool") else {}
    names = [f"c{i}" for i in range(len(constants))]
    nodes = [
        helper.make_node("Reshape", ["x", "several"], ["s"]),
        helper.make_node(operator, ["s", *names], ["y"], **attributes),
        helper.make_node("Reshape", ["y", "one"], ["flat"]),
    ]
    given = {"several": np.array([-1, *shape]), "one": np.array([1, -1]), **dict(zip(names, constants, strict=True))}
    model = om.graph(nodes, {"x": [1, 3, *shape]}, {"flat": None}, given)
    x = rows(3, *shape)
    expected = [reference(om.one(operator, shape, 21, constants, **attributes), row).reshape(-1) for row in x]
    np.testing.assert_allclose(run(model, x), np.stack(expected), rtol=1e-5, atol=1e-6)


def test_matmul_and_a_constant_after_it_are_one_layer():
    weight, bias = RNG.normal(size=(4, 3)).astype(np.float32), np.array([1, 2, 3], np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["b", "m"], ["a"]),
        helper.make_node("Tanh", ["a"], ["y"]),
    ]
    converter = Converter(om.graph(nodes, {"x": ["N", 4]}, {"y": ["N", 3]}, {"w": weight, "b": bias}))
    assert len(converter.model.nodes) == 1
    x = rows(4)
    np.testing.assert_allclose(
        converter.model(torch.from_numpy(x).float())[0].detach(), np.tanh(x @ weight + bias), rtol=1e-5
    )


def test_what_others_see_is_left_alone():
    """The sum is an output of its own beside its activation, and so is no part of the layer."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["a"]),
        helper.make_node("Relu", ["m"], ["r"]),
    ]
    constants = {"w": RNG.normal(size=(4, 3)).astype(np.float32), "b": np.array([1, 2, 3], np.float32)}
    model = om.graph(nodes, {"x": ["N", 4]}, {"a": ["N", 3], "r": ["N", 3]}, constants)
    x = rows(4)
    sums, active = Converter(model, dtype="double").model(torch.from_numpy(x))
    product = x @ constants["w"].astype(np.float64)
    np.testing.assert_allclose(sums.detach(), product + constants["b"], rtol=1e-6)
    np.testing.assert_allclose(active.detach(), np.maximum(product, 0), rtol=1e-6)


def test_a_reshape_between_hides_no_other_reader():
    """Relu is the only reader of the reshaped value, and not of the one before."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Reshape", ["m", "s"], ["v"]),
        helper.make_node("Relu", ["v"], ["r"]),
        helper.make_node("Add", ["m", "r"], ["y"]),
    ]
    weight = RNG.normal(size=(4, 3)).astype(np.float32)
    model = om.graph(nodes, {"x": ["N", 4]}, {"y": ["N", 3]}, {"w": weight, "s": np.array([-1, 3])})
    x = rows(4)
    product = x @ weight.astype(np.float64)
    np.testing.assert_allclose(run(model, x), product + np.maximum(product, 0), rtol=1e-6)


def test_local_response_normalisation_of_an_even_size():
    """Onnxruntime has odd sizes only; ONNX: channels from one before to two after, for a size of 4."""
    x = rows(5, 2, 2)
    sums = np.stack([(x[:, max(c - 1, 0) : c + 3] ** 2).sum(1) for c in range(5)], 1)
    expected = x / (2 + 0.5 / 4 * sums) ** 0.6
    model = om.one("LRN", (5, 2, 2), 13, size=4, alpha=0.5, beta=0.6, bias=2.0)
    np.testing.assert_allclose(run(model, x), expected.reshape(3, -1), rtol=1e-6)


def test_two_entries_for_one_operator_are_refused():
    with pytest.raises(ValueError, match=r"two entries"):
        reads("Conv")(TABLE["Conv"])


def test_a_global_pooling_by_a_norm():
    """ONNX's suite has no case of it."""
    x = np.random.default_rng(6).normal(size=(3, 2, 4, 4))
    expected = (np.abs(x) ** 3).sum((2, 3)) ** (1 / 3)
    np.testing.assert_allclose(om.run(om.one("GlobalLpPool", (2, 4, 4), p=3), x), expected, rtol=1e-6)
