"""Gradients of models of texts are compared with the original's at the vectors, where numbers of tokens have none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from innsight_py import Converter
from innsight_py.converters.torch import door
from innsight_py.spec import SpecError

IDS = torch.tensor([[1, 4, 2], [3, 2, 0]])


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.out = nn.Embedding(6, 3), nn.Embedding(3, 3), nn.Linear(3, 2)

    def forward(self, ids):
        return self.out((2.0 * self.words(ids) + self.places.weight).tanh().prod(1))


def test_gradients_at_vectors_are_autograds():
    torch.manual_seed(0)
    model = Words().double()
    (found,) = [v for v in seen(model) if v[0].shape == (1, 3, 3)]
    vectors, gradient = found
    leaf = model.words(IDS[:1]).detach().requires_grad_()
    out = model.out((2.0 * leaf + model.places.weight).tanh().prod(1))
    (expected,) = torch.autograd.grad(out.sum(), leaf)
    assert torch.equal(vectors, leaf.detach())
    assert torch.allclose(gradient, expected, rtol=0, atol=1e-14)


def seen(model):
    reading = door.read(model, None, use=door.Use(IDS, None, True, ()))
    return reading.vectors([IDS[:1].double()], [torch.ones(2).double()])


@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_another_gradient_is_refused(monkeypatch, factor):
    """As if the conversion computed the right outputs with a wrong gradient."""
    torch.manual_seed(0)
    read = door.read_private

    def other(*args, **kwargs):
        reading = read(*args, **kwargs)
        vectors = reading.vectors
        return replace(reading, vectors=lambda x, seeds: [(v, factor * g) for v, g in vectors(x, seeds)])

    monkeypatch.setattr(door, "read_private", other)
    if factor == 1.0:
        assert Converter(Words(), example=IDS).inputs[0].kind == "tokens"
    else:
        with pytest.raises(SpecError, match="gradient of the converted model"):
            Converter(Words(), example=IDS)
