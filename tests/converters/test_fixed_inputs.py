"""Inputs that come with each row and are not explained: masks, lengths, the other twin."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from innsight_py import Converter, run_deeplift, run_deepshap, run_grad, run_intgrad, run_smoothgrad


class Encoder(nn.Module):
    """A small BERT from embeddings, with its mask of whole numbers, as libraries write it."""

    def __init__(self, width=8, heads=2):
        super().__init__()
        self.heads = heads
        self.position = nn.Embedding(6, width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norm, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 12), nn.Linear(12, width)
        self.pooler, self.head = nn.Linear(width, width), nn.Linear(width, 3)

    def forward(self, inputs_embeds, attention_mask=None):
        rows, length, width = inputs_embeds.shape
        x = inputs_embeds + self.position(torch.arange(length))

        def split(y):
            return y.view(rows, length, self.heads, -1).transpose(1, 2)

        bias = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * torch.finfo(torch.float32).min
        scores = split(self.query(x)) @ split(self.key(x)).transpose(-1, -2) / (width // self.heads) ** 0.5
        mixed = (scores + bias).softmax(-1) @ split(self.value(x))
        x = self.norm(x + self.out(mixed.transpose(1, 2).reshape(rows, length, width)))
        x = self.norm_2(x + self.down(nn.functional.gelu(self.up(x))))
        return {"logits": self.head(torch.tanh(self.pooler(x[:, 0]))), "hidden": x}


class Siamese(nn.Module):
    """Two images through one net; the answer is how near they are."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4))

    def forward(self, left, right):
        a, b = self.body(left), self.body(right)
        return torch.stack([((a - b) ** 2).sum(1), (a * b).sum(1)], 1)


class Padded(nn.Module):
    """A mean over the true length of each series."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x, lengths):
        there = torch.arange(x.shape[1])[None] < lengths[:, None]
        y = torch.relu(self.body(x)).masked_fill(~there[..., None], 0.0)
        return self.head(y.sum(1) / lengths[:, None].clamp(min=1))


def encoder():
    x = torch.randn(3, 6, 8).double()
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])
    keys = {"example": {"inputs_embeds": x, "attention_mask": mask}, "output": "logits", "channels_first": False}
    return Encoder, keys, (x, mask), lambda model, x, mask: model(inputs_embeds=x, attention_mask=mask)["logits"]


def siamese():
    x, y = torch.randn(2, 3, 2, 6).double()
    return Siamese, {"input_dim": [(2, 6), (2, 6)], "fixed": ["right"]}, (x, y), lambda model, x, y: model(x, y)


def padded():
    x, lengths = torch.randn(3, 5, 3).double(), torch.tensor([5, 2, 1])
    return Padded, {"example": (x, lengths), "channels_first": False}, (x, lengths), lambda model, x, n: model(x, n)


@pytest.fixture(params=[encoder, siamese, padded])
def case(request):
    torch.manual_seed(4)
    build, keys, data, call = request.param()
    model = build().double().eval()
    converter = Converter(model, dtype="double", **keys)
    rows = [x.unsqueeze(-1) if x.dim() == 1 else x for x in data]
    return model, converter, rows, data, call


def test_ports_say_what_is_fixed(case, tmp_path):
    _, converter, *_ = case
    assert [port.kind == "fixed" for port in converter.inputs] == [False, True]
    converter.save(tmp_path / "model.safetensors")
    assert Converter.load(tmp_path / "model.safetensors").inputs == converter.inputs


def test_outputs_and_gradients_are_torchs(case):
    model, converter, rows, (x, fixed), call = case
    found = run_grad(converter, rows, dtype="double", ignore_last_act=False)
    assert torch.allclose(found.preds[0], call(model, x, fixed).detach(), rtol=0, atol=1e-12)
    leaf = x.clone().requires_grad_()
    mine = found.get_result("torch_tensor")
    mine = mine["Input_1"] if isinstance(mine, dict) else mine
    for node in range(mine.shape[-1]):
        (expected,) = torch.autograd.grad(call(model, leaf, fixed)[:, node].sum(), leaf)
        assert torch.allclose(mine[..., node], expected, rtol=0, atol=1e-12)


def test_deeplift_has_the_rows_own_fixed_inputs_in_its_reference(case):
    model, converter, rows, (x, fixed), call = case
    reference = torch.randn(1, *x.shape[1:]).double()
    found = run_deeplift(converter, rows, x_ref=[reference, rows[1][:1]], dtype="double", ignore_last_act=False)
    with torch.no_grad():
        goal = call(model, x, fixed) - call(model, reference.expand_as(x), fixed)
    mine = found.get_result("torch_tensor")
    mine = mine["Input_1"] if isinstance(mine, dict) else mine
    assert torch.allclose(mine.flatten(1, -2).sum(1), goal, rtol=0, atol=1e-9)
    assert torch.allclose(found.decomp_goal[0], goal, rtol=0, atol=1e-9)


def test_no_input_left():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 2)

        def forward(self, ids):
            return self.head(ids.float())

    with pytest.raises(ValueError, match="no input is left to be explained"):
        Converter(Words().eval(), example=torch.zeros(2, 4, dtype=torch.long))


def test_a_name_that_is_no_input():
    with pytest.raises(ValueError, match=r"no input 'mask'"):
        Converter(nn.Linear(2, 1), input_dim=2, fixed=["mask"])


def test_paths_noise_and_references_leave_fixed_inputs_alone(case):
    model, converter, rows, (x, fixed), call = case
    found = run_intgrad(converter, rows, n=300, dtype="double", ignore_last_act=False)
    with torch.no_grad():
        goal = call(model, x, fixed) - call(model, torch.zeros_like(x), fixed)
    assert torch.allclose(found.decomp_goal[0], goal, rtol=0, atol=1e-9)
    assert torch.allclose(found.get_result("torch_tensor").flatten(1, -2).sum(1), goal, rtol=0, atol=0.05)
    many = [torch.randn(4, *x.shape[1:]).double(), rows[1][:1].expand(4, *rows[1].shape[1:])]
    shap = run_deepshap(converter, rows, data_ref=many, dtype="double", ignore_last_act=False)
    with torch.no_grad():
        means = [call(model, many[0], fixed[i : i + 1].expand(4, *fixed.shape[1:])).mean(0) for i in range(len(x))]
        goal = call(model, x, fixed) - torch.stack(means)
    assert torch.allclose(shap.decomp_goal[0], goal, rtol=0, atol=1e-9)
    assert torch.allclose(shap.get_result("torch_tensor").flatten(1, -2).sum(1), goal, rtol=0, atol=1e-9)
    expected = run_grad(converter, rows, dtype="double").get_result("torch_tensor")
    smooth = run_smoothgrad(converter, rows, n=3, noise_level=0, dtype="double").get_result("torch_tensor")
    assert torch.allclose(smooth, expected, rtol=0, atol=1e-12)


def test_no_result_has_a_fixed_input(case):
    _, converter, rows, *_ = case
    found = run_grad(converter, rows, dtype="double")
    assert isinstance(found.get_result("torch_tensor"), torch.Tensor)
    assert set(found.get_result("data.frame")["model_input"]) == {"Input_1"}
    assert found.plot(output_idx=[0]).frame.inputs == ["Input_1"]
    assert found.plot_global(output_idx=[0]).frame.inputs == ["Input_1"]
