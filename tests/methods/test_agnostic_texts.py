"""LIME and SHAP of texts: tokens stay or give way to another one, and masks stay with their row."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import nn

from innsight_py import Converter, run_lime, run_shap

IDS = torch.tensor([[1, 4, 2], [3, 2, 0]])
THERE = torch.tensor([[1, 1, 1], [1, 1, 0]])
MASK = 5


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vectors, self.out = nn.Embedding(6, 3), nn.Linear(3, 2)

    def forward(self, ids, there):
        vectors = self.vectors(ids) * there.unsqueeze(-1)
        return self.out(vectors.prod(1).tanh() + vectors.sum(1))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Words().double().eval()


@pytest.fixture(scope="module")
def converter(model):
    names = ["[PAD]", "a", "good", "bad", "film", "[MASK]"]
    return Converter(model, example={"ids": IDS, "there": THERE}, token_names=names, dtype="double")


def shapley(model, i):
    """Average over all orders of the tokens what each one adds, where those that are not there are masked."""
    found, orders = torch.zeros(3, 2).double(), list(permutations(range(3)))
    with torch.no_grad():
        for order in orders:
            ids = torch.full((1, 3), MASK)
            before = model(ids, THERE[i : i + 1])
            for j in order:
                ids[0, j] = IDS[i, j]
                after = model(ids, THERE[i : i + 1])
                found[j] += (after - before)[0] / len(orders)
                before = after
    return found


def test_shapley_values_of_tokens(model, converter):
    pytest.importorskip("shap")
    found = run_shap(converter, {"ids": IDS, "there": THERE}, MASK, nsim=200, seed=1)
    values = found.get_result("torch_tensor").double()
    assert values.shape == (2, 3, 2)
    for i in range(2):
        assert torch.allclose(values[i], shapley(model, i), rtol=0, atol=2e-2)
    with torch.no_grad():
        goal = model(IDS, THERE) - model(torch.full_like(IDS, MASK), THERE)
    assert torch.allclose(values.sum(1), goal, rtol=0, atol=1e-5)
    assert bool((values[1, 2].abs() < 1e-6).all())  # its mask says that it is not there
    assert found.described.inputs[0].kind == "tokens"


@pytest.mark.parametrize("keys", [{}, {"dist_fun": "euclidean"}])
def test_lime_of_tokens(model, converter, keys):
    """Of a model that adds up what tokens give, the weights are what each token gives more than the mask."""
    pytest.importorskip("lime")

    class Sums(Words):
        def forward(self, ids, there):
            return self.out((self.vectors(ids) * there.unsqueeze(-1)).sum(1))

    sums = Sums().double()
    sums.load_state_dict(model.state_dict())
    data = {"ids": IDS, "there": THERE}
    found = run_lime(Converter(sums, example=data, dtype="double"), data, MASK, seed=1, n_permutations=4000, **keys)
    weights = found.get_result("torch_tensor").double()
    vectors = sums.vectors.weight.detach()
    expected = ((vectors[IDS] - vectors[MASK]) * THERE.unsqueeze(-1)) @ sums.out.weight.detach().T
    assert torch.allclose(weights, expected, rtol=0, atol=1e-2)


def test_ids_for_each_position_and_several_rows(model, converter):
    pytest.importorskip("shap")
    data = {"ids": IDS, "there": THERE}
    same = [run_shap(converter, data, ref, seed=1, nsim=2).get_result() for ref in (MASK, [MASK] * 3, [[MASK] * 3])]
    assert np.array_equal(same[0], same[1])
    assert np.array_equal(same[0], same[2])


@pytest.mark.parametrize("run", [run_lime, run_shap])
def test_a_token_has_to_be_replaced_by_one(converter, run):
    pytest.importorskip("lime")
    with pytest.raises(ValueError, match=r"the id that stands where a token is taken away.*mask"):
        run(converter, {"ids": IDS, "there": THERE})
