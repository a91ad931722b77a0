"""A layer between what passes saw of it and its dense Jacobian; which cases a test of layers is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from layer_cases import CASES
from plain_layers import FORWARD, tensor
from torch import Tensor

from innsight_py import Converter
from innsight_py.layers import Layer

ROWS, OUTPUTS = 3, 2


MAXIMA = ("MaxPooling1D", "MaxPooling2D", "MaxPooling3D")


def is_maximum(kind: str, keys: dict) -> bool:
    return kind in MAXIMA or (kind in ("AdaptivePooling", "GlobalPooling") and keys["method"] == "max")


def label(case: Any) -> str | None:
    return case if isinstance(case, str) else None


class Setting:
    """A layer, what passes saw at it, and its dense Jacobian."""

    def __init__(self, kind: str, dims: list, keys: dict) -> None:
        self.kind, self.dims, self.keys = kind, dims, keys
        inputs = [f"input_{i + 1}" for i in range(len(dims))]
        layers = [{"type": kind, "name": "it", "inputs": inputs, **keys}, {"type": "Flatten"}]
        self.layer: Layer = Converter({"input_dim": dims, "layers": layers}, dtype="double").model.layer("it")
        rng = np.random.default_rng(17)
        self.xs = [tensor(rng.standard_normal((ROWS, *dim))) for dim in dims]
        self.refs = [tensor(rng.standard_normal((1, *dim))) for dim in dims]
        for x in self.xs:
            x.reshape(-1)[1] = 0.0  # an exact zero, as a dead ReLU leaves it
        with torch.no_grad():
            self.at, self.ref = self.layer.record(*self.xs), self.layer.record(*self.refs)
        self.upper = tensor(rng.standard_normal((OUTPUTS, ROWS, *self.at.output.shape[1:])))

    def linear(self, *xs: Tensor) -> Tensor:
        return FORWARD[self.kind](*xs, self.keys)

    def activated(self, *xs: Tensor) -> Tensor:
        return self.layer.activation(self.linear(*xs))

    def jacobians(self, function: Callable[..., Tensor], xs: list[Tensor]) -> list[Tensor]:
        """Return ``(B, out, in)`` for each input."""
        rows = []
        for b in range(len(xs[0])):
            row = tuple(x[b : b + 1] for x in xs)
            parts = torch.autograd.functional.jacobian(lambda *v: function(*v).flatten(), row)
            rows.append([part.flatten(1) for part in parts])
        return [torch.stack(column) for column in zip(*rows, strict=True)]

    def pull(self, upper: Tensor, jacobians: list[Tensor]) -> list[Tensor]:
        flat = upper.flatten(2)
        return [
            torch.einsum("kbo,boi->kbi", flat, j.expand(ROWS, -1, -1)).reshape(OUTPUTS, ROWS, *dim)
            for j, dim in zip(jacobians, self.dims, strict=True)
        ]


def close(found: list, expected: list, tolerance: float = 1e-9) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.expand(theirs.shape), theirs, rtol=tolerance, atol=tolerance)


def is_linear(kind: str, keys: dict) -> bool:
    """Tell whether a layer is linear in all its inputs together."""
    bent = ("Operator", "Standardize", "Multiply", "MatMul", "Activation")
    return kind not in bent and "activation_name" not in keys and not is_maximum(kind, keys)


def cases(wanted: Callable[[str, dict], bool] = lambda kind, keys: True) -> pytest.MarkDecorator:
    """Run a test on the cases whose type and keys are wanted; a detached value has no Jacobian to compare with."""
    chosen = [(kind, dims, keys) for kind, dims, keys in CASES if kind != "Detach" and wanted(kind, keys)]
    return pytest.mark.parametrize(("kind", "dims", "keys"), chosen, ids=label)


def has_deeplift(kind: str, keys: dict) -> bool:
    return kind != "Operator"


def keeps_sums(kind: str, keys: dict) -> bool:
    """Tell whether DeepLift's sums are kept whoever takes all."""
    return has_deeplift(kind, keys) and not is_maximum(kind, keys)


def has_a_derivative(kind: str, keys: dict) -> bool:
    """Tell whether DeepLift is the gradient where nothing differs; an activation has 0 there, as in R."""
    return keeps_sums(kind, keys) and kind != "Activation"


def has_lrp(kind: str, keys: dict) -> bool:
    return kind not in ("Operator", "Standardize", "Detach")


def has_weights(kind: str, keys: dict) -> bool:
    return kind not in ("Operator", "Standardize", "Multiply", "MatMul", "Detach")


def is_mean(kind: str, keys: dict) -> bool:
    """Tell whether a maximum is treated as a mean where the winner does not take all."""
    return is_maximum(kind, keys) and not keys.get("winner_always")


def other(wanted: Callable[[str, dict], bool]) -> Callable[[str, dict], bool]:
    """Turn a condition round."""
    return lambda kind, keys: not wanted(kind, keys)
