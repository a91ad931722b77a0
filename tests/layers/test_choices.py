"""Layers that look something up or choose: beside autograd, and with what they give back where nothing differs."""

from __future__ import annotations

import math

import pytest
import torch

from innsight_py import Converter, UnsupportedLayerError, run_deeplift, run_grad, run_lrp
from innsight_py.spec import SpecError, check_spec

TABLE = torch.tensor([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5]], dtype=torch.float64)


def spec(*layers, dims):
    return {"input_dim": dims, "layers": [*layers, {"type": "Dense", "name": "out", "weight": [[1.0, -2.0, 0.5, 3.0]]}]}


def choosing(**keys):
    values = ["input_2"] if "otherwise" in keys else ["input_2", "input_3"]
    return spec(
        {"type": "Choose", "name": "it", "inputs": ["input_1", *values], **keys},
        dims=[(4,)] * (1 + len(values)),
    )


def test_rows_of_a_table():
    model = {
        "input_dim": [3],
        "layers": [{"type": "Embedding", "weight": TABLE}, {"type": "Flatten"},
                   {"type": "Dense", "weight": [[1.0, -2.0, 0.5, 3.0, -1.0, 0.25]], "activation_name": "tanh"}],
    }  # fmt: skip
    converter = Converter(model, dtype="double")
    assert [port.kind for port in converter.inputs] == ["tokens"]
    vectors = TABLE[torch.tensor([[2, 0, 1]])].requires_grad_()
    weight = torch.tensor([[1.0, -2.0, 0.5, 3.0, -1.0, 0.25]], dtype=torch.float64)
    out = torch.tanh(vectors.flatten(1) @ weight.T)
    (expected,) = torch.autograd.grad(out.sum(), vectors)
    found = run_grad(converter, [[2, 0, 1]], dtype="double", ignore_last_act=False)
    assert torch.allclose(found.preds[0], out.detach(), rtol=0, atol=1e-15)
    assert torch.allclose(found.get_result("torch_tensor")[..., 0], expected.sum(-1), rtol=0, atol=1e-15)
    at_layer = run_grad(converter, [[2, 0, 1]], dtype="double", ignore_last_act=False, layer="Embedding_1")
    assert torch.allclose(at_layer.get_result("torch_tensor")[..., 0], expected, rtol=0, atol=1e-15)
    changed = run_deeplift(converter, [[2, 0, 1]], x_ref=[2, 2, 1], dtype="double", ignore_last_act=False)
    reference = torch.tanh(TABLE[torch.tensor([[2, 2, 1]])].flatten(1) @ weight.T)
    contributions = changed.get_result("torch_tensor")[0, :, 0]
    assert torch.allclose(
        contributions, torch.tensor([0.0, float((out - reference).detach()), 0.0]).double(), atol=1e-15
    )


@pytest.mark.parametrize("negated", [False, True])
def test_entries_of_one_value_or_a_constant(negated):
    model = choosing(otherwise=torch.tensor([5.0, 6.0, 7.0, 8.0]), negated=negated)
    condition, x = [[1.0, 0.0, 1.0, 0.0]], [[0.1, 0.2, 0.3, 0.4]]
    found = run_grad(Converter(model, dtype="double"), [condition, x], dtype="double")
    taken = torch.tensor([1.0, 0.0, 1.0, 0.0]).double()
    taken = 1 - taken if negated else taken
    weight = torch.tensor([1.0, -2.0, 0.5, 3.0]).double()
    value = torch.where(taken > 0, torch.tensor(x).double(), torch.tensor([5.0, 6.0, 7.0, 8.0]).double())
    assert torch.allclose(found.preds[0][0], (value * weight).sum(), atol=1e-7)
    assert torch.equal(found.result[0][1][0, :, 0], weight * taken)


def test_each_side_gets_what_it_gave():
    converter = Converter(choosing(), dtype="double")
    condition, x, y = [[1.0, 0.0, 2.0, 0.0]], [[0.1, 0.2, 0.3, 0.4]], [[-1.0, 1.0, -2.0, 2.0]]
    weight, side = torch.tensor([1.0, -2.0, 0.5, 3.0]).double(), torch.tensor([True, False, True, False])
    given = run_deeplift(converter, [condition, x, y], x_ref=[condition, [[0.0] * 4], [[0.0] * 4]], dtype="double")
    assert torch.allclose(given.result[0][1][0, :, 0], torch.where(side, weight * torch.tensor(x)[0], 0.0), atol=1e-7)
    assert torch.allclose(given.result[0][2][0, :, 0], torch.where(side, 0.0, weight * torch.tensor(y)[0]), atol=1e-7)
    shares = run_lrp(converter, [condition, x, y], dtype="double")
    assert torch.allclose(
        shares.result[0][1] + shares.result[0][2], given.result[0][1] + given.result[0][2], atol=1e-12
    )
    with pytest.raises(UnsupportedLayerError, match="differs between row and reference"):
        run_deeplift(converter, [condition, x, y], x_ref=[[[0.0] * 4]] * 3, dtype="double")


def test_a_mask_of_minus_infinity_before_a_softmax():
    layers = [
        {"type": "Choose", "name": "it", "inputs": ["input_1", "input_2"], "otherwise": -math.inf},
        {"type": "Activation", "act_name": "softmax", "act_params": {"dim": -1}},
    ]
    converter = Converter(spec(*layers, dims=[(4,), (4,)]), dtype="double")
    mask, x = torch.tensor([[1.0, 1.0, 0.0, 1.0]]), torch.tensor([[0.5, -1.0, 30.0, 2.0]]).double()
    reference = torch.tensor([[1.0, 0.0, -3.0, 0.5]]).double()
    weight = torch.tensor([1.0, -2.0, 0.5, 3.0]).double()

    def out(x):
        return (x.masked_fill(mask == 0, -math.inf).softmax(-1) * weight).sum(-1)

    found = run_deeplift(converter, [mask, x], x_ref=[mask, reference], dtype="double")
    contributions = found.result[0][1][0, :, 0]
    assert contributions[2] == 0
    assert torch.allclose(contributions.sum(), (out(x) - out(reference))[0], rtol=0, atol=1e-14)


def test_entries_by_their_numbers():
    model = spec({"type": "Gather", "name": "it", "inputs": ["input_1", "input_2"]}, dims=[(2, 3), (4,)])
    x, numbers = torch.arange(6.0).reshape(1, 2, 3).double(), torch.tensor([[5.0, 0.0, 0.0, 2.0]])
    converter = Converter(model, dtype="double")
    found = run_grad(converter, [x, numbers], dtype="double")
    assert float(found.preds[0]) == 5 * 1 + 0 - 0 + 2 * 3
    assert found.result[0][0][0, ..., 0].tolist() == [[-1.5, 0.0, 3.0], [0.0, 0.0, 1.0]]
    shares = run_lrp(converter, [x + 1, numbers], dtype="double")
    assert float(shares.result[0][0].sum()) == pytest.approx(float(shares.preds[0]))
    with pytest.raises(UnsupportedLayerError, match="differs between row and reference"):
        run_deeplift(
            converter, [x, numbers], x_ref=[x, numbers + 0.0 * numbers - (numbers > 4).double()], dtype="double"
        )


LARGEST = {
    "input_dim": [5],
    "layers": [
        {"type": "TopK", "k": 2},
        {"type": "Cast", "name": "ones", "dtype": "float32"},
        {"type": "Reshape", "name": "column", "inputs": ["input_1"], "shape": [5, 1]},
        {"type": "MatMul", "inputs": ["ones", "column"]},
        {"type": "Flatten"},
        {"type": "Dense", "weight": [[1.0, -3.0]]},
    ],
}
FIRST, SECOND = [[1.0, 4.0, 2.0, 0.5, -1.0]], [[3.0, 1.5, 2.0, 0.25, -1.0]]


def test_the_largest_entries():
    """Where row and reference choose differently, each entry gets of what that changes a share by its square."""
    converter = Converter(LARGEST, dtype="double")
    assert run_grad(converter, FIRST, dtype="double").get_result("torch_tensor")[0, :, 0].tolist() == [0, 1, -3, 0, 0]
    relevance = run_lrp(converter, FIRST, dtype="double")
    shares = torch.tensor([0.0, 4.0, -6.0, 0.0, 0.0]).double()
    assert torch.allclose(relevance.get_result("torch_tensor")[0, :, 0], shares, rtol=0, atol=1e-12)
    x, reference = torch.tensor(FIRST).double(), torch.tensor(SECOND).double()
    found = run_deeplift(converter, FIRST, x_ref=SECOND, dtype="double").get_result("torch_tensor")[0, :, 0]
    chosen, before = (torch.eye(5).double()[row.topk(2).indices[0]] for row in (x, reference))
    weight, change = torch.tensor([1.0, -3.0]).double(), (x - reference)[0]
    moved = weight @ ((chosen - before) @ (x + reference)[0] / 2)
    expected = (weight @ (chosen + before) / 2) * change + moved * change**2 / change.square().sum()
    assert torch.allclose(found, expected, rtol=0, atol=1e-14)
    goal = weight @ (x.topk(2).values - reference.topk(2).values)[0]
    assert torch.allclose(found.sum(), goal, rtol=0, atol=1e-14)
    near = x + torch.tensor([[1e-200, 0.0, 0.0, 0.0, 0.0]]).double()
    assert run_deeplift(converter, FIRST, x_ref=near, dtype="double").get_result("torch_tensor").isfinite().all()


def test_tiny_differences_that_change_the_choice_keep_the_sum():
    tied, other = torch.full((1, 5), 1e-170).double(), torch.zeros(1, 5).double()
    tied[0, 1], other[0, 0] = 3e-170, 2e-170
    found = run_deeplift(Converter(LARGEST, dtype="double"), tied, x_ref=other, dtype="double")
    shares = found.get_result("torch_tensor")[0, :, 0]
    assert torch.allclose(shares.sum(), found.decomp_goal[0][0, 0], rtol=1e-12, atol=0)
    assert float(found.decomp_goal[0].abs()) > 0


def test_layers_survive_a_file(tmp_path):
    model = choosing(otherwise=-math.inf, negated=True)
    model["layers"].insert(0, {"type": "Gather", "inputs": ["input_2", "input_1"]})
    model["layers"].insert(0, {"type": "Embedding", "inputs": ["input_1"], "weight": TABLE})
    model["outputs"] = ["out", "Embedding_1", "Gather_2"]
    converter = Converter(model, dtype="double")
    converter.save(tmp_path / "model.safetensors")
    again = Converter.load(tmp_path / "model.safetensors")
    rows = [torch.tensor([[0.0, 1.0, 2.0, 0.0]]).double(), torch.randn(1, 4).double()]
    for ours, theirs in zip(again.model(*rows), converter.model(*rows), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    assert again.model.inputs == converter.model.inputs


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"type": "Embedding", "weight": [1.0, 2.0]}, "(entries, size)"),
        ({"type": "Choose", "inputs": ["input_1"]}, "a condition and two values"),
        ({"type": "Choose", "inputs": ["input_1"] * 3, "otherwise": 0.0}, "a condition and one value"),
        ({"type": "Gather", "inputs": ["input_1"]}, "expected 2 name(s)"),
        ({"type": "TopK", "k": 0}, "key 'k'"),
    ],
)
def test_what_is_refused(layer, said):
    with pytest.raises(SpecError) as caught:
        check_spec({"input_dim": [3], "layers": [layer]})
    assert said in str(caught.value)


def test_more_than_there_are():
    with pytest.raises(SpecError, match="no 4 entries along the last axis"):
        Converter({"input_dim": [3], "layers": [{"type": "TopK", "k": 4}]})


def test_numbers_without_a_vector():
    model = {"input_dim": [3], "layers": [{"type": "Embedding", "weight": TABLE}, {"type": "Flatten"}]}
    converter = Converter(model)
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 2.*got 3"):
        run_grad(converter, [[0, 1, 3]])
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 2.*got 0\.5"):
        run_grad(converter, [[0, 1, 0.5]])
