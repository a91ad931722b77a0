"""Other ways to look up vectors of tokens: bags, one-hot vectors times a table, vectors of limited length, padding."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from innsight_py import Converter, run_deeplift, run_grad
from innsight_py.spec import SpecError

WORDS, SIZE = 10, 4
IDS, OTHER = torch.tensor([[1, 2, 3, 0, 0], [4, 5, 6, 7, 0]]), torch.tensor([[9, 2, 8, 0, 0], [4, 1, 6, 1, 0]])


class Net(nn.Module):
    """Vectors by a function of numbers, and a layer on what becomes of them."""

    def __init__(self, table, look_up) -> None:
        super().__init__()
        self.table, self.look_up, self.out = table, look_up, nn.Linear(SIZE, 2)

    def forward(self, ids):
        return self.out(self.look_up(self.table, ids).tanh())


def bag(**keys):
    return lambda: nn.EmbeddingBag(WORDS, SIZE, **keys), lambda table, ids: table(ids)


#: What makes a table, how it is used, and what does the same with vectors (of the ids `t`) in plain words.
MODELS = {
    "mean": (*bag(), lambda v, t: v.mean(1)),
    "sum": (*bag(mode="sum"), lambda v, t: v.sum(1)),
    "largest": (*bag(mode="max"), lambda v, t: v.amax(1)),
    "mean without padding": (
        *bag(padding_idx=0), lambda v, t: (v * (t > 0)[..., None]).sum(1) / (t > 0).sum(1, keepdim=True)),
    "sum without padding": (*bag(mode="sum", padding_idx=0), lambda v, t: (v * (t > 0)[..., None]).sum(1)),
    "largest without padding": (
        *bag(mode="max", padding_idx=0), lambda v, t: v.masked_fill((t == 0)[..., None], -1e9).amax(1)),
    "one-hot product": (
        lambda: nn.Linear(SIZE, WORDS, bias=False),
        lambda table, ids: (F.one_hot(ids, WORDS).float() @ table.weight).mean(1), lambda v, t: v.mean(1)),
    "one-hot layer": (
        lambda: nn.Linear(WORDS, SIZE), lambda table, ids: table(F.one_hot(ids, WORDS).to(table.weight.dtype)).mean(1),
        lambda v, t: v.mean(1)),
    "vectors of limited length": (
        lambda: nn.Embedding(WORDS, SIZE, max_norm=0.5), lambda table, ids: table(ids).mean(1), lambda v, t: v.mean(1)),
    "padding": (
        lambda: nn.Embedding(WORDS, SIZE, padding_idx=0), lambda table, ids: table(ids).mean(1),
        lambda v, t: v.mean(1)),
}  # fmt: skip


def vectors_of(table: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    weight = table.weight.detach().double()
    if isinstance(table, nn.Linear):
        wide = weight if weight.shape == (WORDS, SIZE) else weight.T + table.bias.detach().double()
        return wide[ids]
    if isinstance(table, nn.Embedding) and table.max_norm is not None:
        norms = weight.norm(dim=1, keepdim=True)
        weight = torch.where(norms > table.max_norm, weight * table.max_norm / (norms + 1e-7), weight)
    return weight[ids]


@pytest.mark.parametrize("name", MODELS)
def test_vectors_are_tokens(name):
    build, look_up, plainly = MODELS[name]
    torch.manual_seed(2)
    net = Net(build(), look_up).eval()
    before = [p.detach().clone() for p in net.parameters()]
    converter = Converter(net, example=IDS)
    assert [port.kind for port in converter.inputs] == ["tokens"]
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    vectors = vectors_of(net.table, IDS).requires_grad_()
    weight, bias = net.out.weight.detach().double(), net.out.bias.detach().double()

    def out(values, ids):
        return plainly(values, ids).tanh() @ weight.T + bias

    found = run_grad(converter, IDS, dtype="double")
    expected = out(vectors, IDS)
    assert torch.allclose(found.preds[0], expected.detach(), rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(expected[:, 1].sum(), vectors)
    assert torch.allclose(found.get_result("torch_tensor")[..., 1], gradient.sum(-1), rtol=0, atol=1e-12)
    shares = run_deeplift(converter, IDS, x_ref=OTHER, dtype="double", winner_takes_all=False)
    goal = expected - out(vectors_of(net.table, OTHER), OTHER)
    assert torch.allclose(shares.get_result("torch_tensor").sum(1), goal.detach(), rtol=0, atol=1e-12)
    assert bool((shares.get_result("torch_tensor")[IDS == OTHER] == 0).all()) or "largest" in name


def test_bags_of_any_length_are_refused():
    class Bags(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag = nn.EmbeddingBag(WORDS, SIZE)

        def forward(self, ids):
            return self.bag(ids.flatten(), torch.arange(0, ids.numel(), ids.shape[1]))

    with pytest.raises(SpecError, match="one bag a row"):
        Converter(Bags(), example=IDS)
