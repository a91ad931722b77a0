"""`example`, `output`, `fixed` and `channels_first` for ONNX models, and inputs of whole numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx")

import onnx_models as om  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402

from innsight_py import Converter, run_deeplift, run_grad, run_intgrad, run_lrp  # noqa: E402

RNG = np.random.default_rng(6)
WEIGHTS = {
    "w": RNG.standard_normal((3, 4)).astype(np.float32),
    "v": RNG.standard_normal((4, 2)).astype(np.float32),
    "one": np.float32(1), "low": np.float32(-3e4), "ax": np.array([-1]), "at": np.array([1]),
}  # fmt: skip


def typed(model, **kinds):
    """Give inputs of a model other types."""
    for info in model.graph.input:
        info.type.tensor_type.elem_type = kinds.get(info.name, info.type.tensor_type.elem_type)
    return model


def masked(kind=TensorProto.INT64):
    """Return attention over the words that a mask of whole numbers keeps, as exporters write it, and two answers."""
    cast = [helper.make_node("Cast", ["mask"], ["m"], to=1)]
    nodes = [
        *cast,
        helper.make_node("Sub", ["one", "m"], ["off"]),
        helper.make_node("Mul", ["off", "low"], ["bias"]),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("ReduceSum", ["h", "ax"], ["logits"], keepdims=0),
        helper.make_node("Add", ["logits", "bias"], ["kept"]),
        helper.make_node("Softmax", ["kept"], ["p"], axis=-1),
        helper.make_node("Unsqueeze", ["p", "at"], ["row"]),
        helper.make_node("MatMul", ["row", "h"], ["mixed"]),
        helper.make_node("Squeeze", ["mixed", "at"], ["sum"]),
        helper.make_node("MatMul", ["sum", "v"], ["y"]),
        helper.make_node("Hardmax", ["y"], ["choice"]),
    ]
    inputs = {"x": ["N", "T", 3], "mask": ["N", "T"]}
    return typed(om.graph(nodes, inputs, {"y": ["N", 2], "choice": ["N", 2]}, WEIGHTS), mask=kind)


def by_hand(x, mask):
    h = x @ torch.from_numpy(WEIGHTS["w"]).double()
    p = (h.sum(-1) + (1 - mask) * -3e4).softmax(-1)
    return (p[:, None] @ h)[:, 0] @ torch.from_numpy(WEIGHTS["v"]).double()


X = RNG.standard_normal((2, 5, 3))
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL])
@pytest.mark.parametrize("output", ["y", 0])
def test_a_mask_of_whole_numbers(kind, output):
    """It is fixed by itself; gradients are autograd's of the formula; what is left out blocks nothing."""
    whole = MASK.astype(bool) if kind == TensorProto.BOOL else MASK
    converter = Converter(masked(kind), example={"x": X, "mask": whole}, output=output, channels_first=False)
    assert [(port.key, port.dim, port.kind) for port in converter.inputs] == [
        ("x", (3, 5), "signal"), ("mask", (5,), "fixed")
    ]  # fmt: skip
    leaf = torch.from_numpy(X).requires_grad_()
    by_hand(leaf, torch.from_numpy(MASK).double())[:, 1].sum().backward()
    found = run_grad(converter, [X, MASK], output_idx=1, dtype="double")
    np.testing.assert_allclose(found.get_result()[..., 0], leaf.grad.numpy(), rtol=0, atol=1e-5)
    assert not found.get_result()[1, 2:].any()
    with torch.no_grad():
        mask = torch.from_numpy(MASK).double()
        goal = (by_hand(torch.from_numpy(X), mask) - by_hand(torch.zeros(2, 5, 3).double(), mask)).numpy()
    lift = run_deeplift(converter, [X, MASK], x_ref=np.zeros((1, 5, 3)), dtype="double")
    np.testing.assert_allclose(lift.get_result().sum((1, 2)), goal, rtol=0, atol=1e-5)
    path = run_intgrad(converter, [X, MASK], n=300, dtype="double")
    np.testing.assert_allclose(path.get_result().sum((1, 2)), goal, rtol=0, atol=0.02)


def test_whole_numbers_without_an_example():
    model = masked()
    with pytest.raises(ValueError, match="leaves sizes of its inputs open"):
        Converter(model, output="y")
    converter = Converter(model, input_dim=[(5, 3), (5,)], output="y")
    assert [port.kind for port in converter.inputs] == ["signal", "fixed"]


def two():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Tanh", ["z"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "v"], ["y"]),
        helper.make_node("Exp", ["b"], ["beside"]),
    ]
    return om.graph(nodes, {"x": ["N", 3], "z": ["N", 4]}, {"y": ["N", 2], "beside": ["N", 4]}, WEIGHTS)


def test_an_input_that_is_named():
    """It gets nothing, and is the row's own in references; LRP says what went there."""
    x, z = RNG.standard_normal((3, 3)), RNG.standard_normal((3, 4))
    converter, whole = (Converter(two(), output="y", fixed=fixed) for fixed in ("z", ()))
    for run in (run_grad, run_lrp):
        expected = run(whole, [x, z], dtype="double").get_result()["Input_1"]
        np.testing.assert_allclose(run(converter, [x, z], dtype="double").get_result(), expected, rtol=0, atol=1e-12)
    assert any("fixed" in reason for reason in run_lrp(converter, [x, z]).residual.reasons)
    run = whole.model_in("double")
    goal = run(*map(torch.from_numpy, (x, z)))[0] - run(torch.zeros(3, 3).double(), torch.from_numpy(z))[0]
    lift = run_deeplift(converter, [x, z], x_ref=np.zeros(3), dtype="double")
    np.testing.assert_allclose(lift.get_result().sum(1), goal.numpy(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"output": "Y"}, "no output 'Y'"),
        ({"output": lambda y: y}, "a function is traced with a PyTorch module"),
        ({"fixed": "zz"}, "no input 'zz'"),
        ({"fixed": ["x", "z"]}, "no input is left"),
        (
            {"output": "beside", "fixed": "z"},
            "'beside' of the ONNX model depends on inputs that are fixed",
        ),
        ({"channels_first": False}, "tables"),
        ({"example": np.zeros((1, 3))}, r"2 input\(s\)"),
        ({"example": (np.zeros((1, 3)), np.zeros((1, 5)))}, r"'z' of the model has the shape \(4,\)"),
    ],
)
def test_what_does_not_fit(keys, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Converter(two(), **keys)


def test_channels_last():
    """A series with its time first, which no transpose shows."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("MatMul", ["t", "v"], ["y"]),
    ]
    model = om.graph(nodes, {"x": ["N", 5, 3]}, {"y": ["N", 5, 2]}, WEIGHTS)
    converter = Converter(model, channels_first=False)
    assert converter.inputs[0].dim == (3, 5)
    assert converter.outputs[0].dim == (2, 5)
    assert not converter.channels_first
    plain = Converter(model)
    found = run_grad(converter, X, output_idx=[(1, 3)]).get_result()
    assert np.array_equal(found, run_grad(plain, X, output_idx=[(3, 1)]).get_result())
    assert not found[:, [0, 1, 2, 4]].any()


# -- numbers of tokens -------------------------------------------------------------------------------------------------

TABLE, KINDS = (RNG.standard_normal((n, 3)).astype(np.float32) for n in (7, 2))


def reader():
    """Return a text classifier as exporters write one: tokens, their parts, a mask that chooses."""
    nodes = [
        helper.make_node("Clip", ["input_ids", "zero", "six"], ["ids"]),
        helper.make_node("Gather", ["table", "ids"], ["words"]),
        helper.make_node("Gather", ["kinds", "token_type_ids"], ["parts"]),
        helper.make_node("Add", ["words", "parts"], ["x"]),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("ReduceSum", ["h", "ax"], ["logits"], keepdims=0),
        helper.make_node("Equal", ["attention_mask", "zero"], ["off"]),
        helper.make_node("Where", ["off", "low", "logits"], ["kept"]),
        helper.make_node("Softmax", ["kept"], ["p"], axis=-1),
        helper.make_node("Unsqueeze", ["p", "at"], ["row"]),
        helper.make_node("MatMul", ["row", "h"], ["mixed"]),
        helper.make_node("Squeeze", ["mixed", "at"], ["sum"]),
        helper.make_node("MatMul", ["sum", "v"], ["y"]),
    ]
    names = ("input_ids", "token_type_ids", "attention_mask")
    constants = {**WEIGHTS, "table": TABLE, "kinds": KINDS, "zero": np.int64(0), "six": np.int64(6)}
    model = om.graph(nodes, {name: ["N", "T"] for name in names}, {"y": ["N", 2]}, constants)
    return typed(model, **dict.fromkeys(names, TensorProto.INT64))


IDS = np.array([[3, 0, 6, 1], [2, 2, 5, 0]])
PARTS = np.array([[0, 0, 1, 1], [0, 1, 1, 1]])
KEPT = np.array([[1, 1, 1, 1], [1, 1, 1, 0]])


def read_by_hand(vectors, parts, kept):
    h = (vectors + torch.from_numpy(KINDS).double()[parts]) @ torch.from_numpy(WEIGHTS["w"]).double()
    p = torch.where(kept == 0, -3e4, h.sum(-1)).softmax(-1)
    return (p[:, None] @ h)[:, 0] @ torch.from_numpy(WEIGHTS["v"]).double()


def test_numbers_of_tokens():
    """One number a token: the gradient to the token's vector, summed; masks and parts come with each row."""
    example = {"input_ids": IDS, "token_type_ids": PARTS, "attention_mask": KEPT}
    converter = Converter(reader(), example=example)
    assert {port.key: port.kind for port in converter.inputs} == {
        "input_ids": "tokens", "token_type_ids": "fixed", "attention_mask": "fixed"
    }  # fmt: skip
    parts, kept = torch.from_numpy(PARTS), torch.from_numpy(KEPT)
    vectors = torch.from_numpy(TABLE).double()[torch.from_numpy(IDS)].requires_grad_()
    out = read_by_hand(vectors, parts, kept)
    (expected,) = torch.autograd.grad(out[:, 1].sum(), vectors)
    found = run_grad(converter, example, output_idx=1, dtype="double")
    np.testing.assert_allclose(found.preds[0][:, 0], out[:, 1].detach(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.get_result()[..., 0], expected.sum(-1), rtol=0, atol=1e-5)
    lift = run_deeplift(converter, example, x_ref={"input_ids": np.zeros((1, 4))}, output_idx=1, dtype="double")
    with torch.no_grad():
        base = torch.from_numpy(TABLE).double()[torch.zeros(2, 4, dtype=torch.long)]
        goal = (out - read_by_hand(base, parts, kept))[:, 1]
    np.testing.assert_allclose(lift.get_result()[..., 0].sum(1), goal, rtol=0, atol=1e-5)


def test_numbers_that_are_all_fixed():
    with pytest.raises(ValueError, match="'input_ids' of the ONNX model takes int64"):
        Converter(reader(), input_dim=[(4,)] * 3, fixed="input_ids")


def test_entries_that_each_row_names():
    """Look-ups along an axis, of which numbers may count from the end."""
    nodes = [helper.make_node("Tanh", ["x"], ["t"]), helper.make_node("GatherElements", ["t", "at_"], ["y"], axis=1)]
    model = typed(om.graph(nodes, {"x": ["N", 4], "at_": ["N", 3]}, {"y": ["N", 3]}), at_=TensorProto.INT64)
    at, x = np.array([[3, 0, -1], [1, 1, 2]]), RNG.standard_normal((2, 4))
    converter = Converter(model, example=(x, at))
    found = run_grad(converter, [x, at], dtype="double")
    expected = np.zeros((2, 4, 3))
    for row in range(2):
        for k in range(3):
            expected[row, at[row, k] % 4, k] = 1 - np.tanh(x[row, at[row, k]]) ** 2
    np.testing.assert_allclose(found.get_result(), expected, rtol=0, atol=1e-12)
