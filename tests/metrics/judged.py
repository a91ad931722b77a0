"""A trained model with an explanation that is right, and cheats: explanations of it that are not."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import torch
from torch import nn

from innsight_py import Converter, DeepLift, InterpretingMethod, run_deeplift
from innsight_py.model.redrawn import layers_with_weights, redrawn

ROWS = 24


@functools.cache
def trained() -> tuple[nn.Module, torch.Tensor]:
    """Train a small net on eight features, of which three matter; returns it and some rows."""
    torch.manual_seed(4)
    net = nn.Sequential(nn.Linear(8, 24), nn.Tanh(), nn.Linear(24, 2))
    x = torch.randn(600, 8)
    score = 2 * x[:, 0] - 1.5 * x[:, 3] + x[:, 5] * x[:, 5].abs()
    y = torch.stack([score, -score], 1)
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(250):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(x), y).backward()
        optimizer.step()
    return net.eval(), x[:ROWS].clone()


def right() -> DeepLift:
    """Explain the trained net."""
    net, x = trained()
    return run_deeplift(Converter(net, input_dim=(8,)), x, dtype="double")


def with_values(result: InterpretingMethod, values: Callable[[torch.Tensor], torch.Tensor]) -> InterpretingMethod:
    """Return a result of the same method, data and model that says something else."""
    other = copy.copy(result)
    other.result = [[values(x) for x in row if x is not None] for row in result.result if row is not None]
    return other


def shuffled(result: InterpretingMethod) -> InterpretingMethod:
    """Give each row its values in another order."""
    generator = torch.Generator().manual_seed(7)

    def mix(x: torch.Tensor) -> torch.Tensor:
        orders = torch.rand(x.shape[:2], generator=generator).argsort(1)
        return x.gather(1, orders[:, :, None].expand_as(x))

    return with_values(result, mix)


def constant(result: InterpretingMethod) -> InterpretingMethod:
    """Say the same of every feature."""
    return with_values(result, lambda x: x.abs().mean() * torch.ones_like(x))


def of_random_weights(result: InterpretingMethod) -> InterpretingMethod:
    """Explain a model that has learned nothing, and say that it was this one."""
    model = redrawn(result.converter, layers_with_weights(result.converter), 3, result.dtype)
    return with_values(result, lambda x: run_deeplift(model, result.data[0], dtype="double").result[0][0])


CHEATS = {"shuffled": shuffled, "constant": constant, "of_random_weights": of_random_weights}
