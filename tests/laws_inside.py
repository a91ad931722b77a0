"""What holds for every method inside a model: a layer is the input of the rest, a neuron the output of what is below.

A `Cut` is a model in two parts. Each part alone is a model too, converted by itself, so that the whole model's answer
for a layer or a neuron has a second way to be found that shares neither the section nor its walk.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from laws import METHODS, Arrays, Method
from torch import nn

import innsight_py
from innsight_py import Converter

#: How near the two ways come, relative to the largest value, in double precision.
NEAR = 1e-12
ROWS, REFERENCES = 3, 2
INSIDE = {name: method for name, method in METHODS.items() if method.kind == "converter"}

#: Those whose rules do not depend on which layer is the first or the last of the model, so that a part has the same.
LOCAL = {name: method for name, method in INSIDE.items() if "composite" not in name}


class Block(nn.Module):
    """A residual block, whose first convolution is passed by."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.ReLU()
        self.two = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.two(self.act(self.one(x))) + x)


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 4), nn.Sigmoid(), nn.Linear(4, 3)
    )


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), Block(3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3, 5),
        nn.Softplus(), nn.Dropout(), nn.Linear(5, 3), nn.Softmax(-1),
    )  # fmt: skip


MODELS = {"mlp": (mlp, (5,)), "cnn": (cnn, (2, 6, 6))}


@dataclass(frozen=True)
class Cut:
    """A sequence of modules, its rows and references."""

    model: nn.Sequential
    dim: tuple[int, ...]

    @classmethod
    def of(cls, name: str) -> Cut:
        """Make one of `MODELS`."""
        build, dim = MODELS[name]
        torch.manual_seed(3)
        return cls(build().double().eval(), dim)

    @property
    def converter(self) -> Converter:
        return Converter(self.model, input_dim=self.dim, dtype="double")

    def data(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw rows and references."""
        rng = torch.Generator().manual_seed(4)
        return (torch.randn(n, *self.dim, generator=rng, dtype=torch.float64) for n in (ROWS, REFERENCES))

    def head(self, layer: int) -> nn.Sequential:
        """Return what comes before and with a module."""
        return self.model[: layer + 1]

    @functools.cache  # noqa: B019  (few, and as long as the tests)
    def tail(self, layer: int) -> Converter:
        """Return what comes after a module."""
        with torch.no_grad():
            (dim,) = (tuple(self.head(layer)(torch.zeros(1, *self.dim).double()).shape[1:]),)
        return Converter(self.model[layer + 1 :], input_dim=dim, dtype="double")


def call(method: Method, converter: Converter, data: Any, references: Any, **keys: Any) -> Any:
    """Run a method in double precision."""
    keys = {"dtype": "double", "verbose": False, **method.keys, **keys}
    if method.reference == "x_ref":
        keys["x_ref"] = [x[:1] for x in references] if isinstance(references, list) else references[:1]
    elif method.reference:
        keys[method.reference] = references
    function = getattr(innsight_py, method.function)
    return function(converter, **keys) if method.data_free else function(converter, data, **keys)


def arrays(result: Any) -> Arrays:
    return [np.zeros(0) if x is None else x.numpy() for row in result.result for x in row or []]


def near(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float = NEAR) -> None:
    """Compare relative to the largest value of each array."""
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert np.isfinite(ours).all()
        assert np.abs(ours - theirs).max(initial=0) <= tolerance * np.abs(theirs).max(initial=0)
