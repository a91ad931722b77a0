"""An operator of torch without rules of its own: it runs, and the gradient methods work through it."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from innsight_py.layers.base import Layer, Record, UnsupportedLayerError


class Operator(Layer):
    """Runs an ATen operator row by row, and differentiates it with autograd."""

    r_class = "Operator"

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.operator, self.part = layer.operator, layer.part
        self.arguments, self.shapes = layer.arguments, layer.shapes

    @property
    def kind(self) -> str:
        return f"the operator {self.operator}"

    def linear(self, *inputs: Tensor) -> Tensor:
        packet, _, overload = self.operator.removeprefix("aten::").partition(".")
        call = getattr(getattr(torch.ops.aten, packet), overload or "default")
        dtype = next((x.dtype for x in inputs if x.is_floating_point()), torch.float32)

        def one_row(*rows: Tensor) -> Any:
            def value(entry: Any) -> Any:
                if isinstance(entry, dict):
                    i = entry["input"]
                    return rows[i].reshape(self.shapes[i])
                if isinstance(entry, list | tuple):
                    return [value(e) for e in entry]
                if isinstance(entry, Tensor) and entry.is_floating_point():
                    return entry.to(inputs[0].device, dtype)
                return entry

            out = call(*value(self.arguments))
            out = out if self.part is None else out[self.part]
            return out.reshape(out.shape[1:]) if out.dim() and out.shape[0] == 1 else out

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # vmap warns of operators for which it loops
            try:
                rows: Tensor = torch.vmap(one_row)(*inputs)
                return rows
            except RuntimeError:  # vmap does not know the operator
                return torch.stack([one_row(*rows) for rows in zip(*inputs, strict=True)])

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        assert at is not None
        floating = [i for i, x in enumerate(at.inputs) if x.is_floating_point()]
        pulled: list[Tensor | None] = [None] * len(at.inputs)
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_(x.is_floating_point()) for x in at.inputs]
            out = self.linear(*leaves)
            if not out.requires_grad:
                return pulled
            sources = [leaves[i] for i in floating]
            rows = [
                self._grad(out, sources, row.expand_as(out), retain_graph=True, materialize_grads=True) for row in g
            ]
        for i, column in zip(floating, zip(*rows, strict=True), strict=True):
            pulled[i] = torch.stack(column)
        return pulled

    def _grad(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        try:
            gradients: tuple[Tensor, ...] = torch.autograd.grad(*args, **kwargs)
            return gradients
        except RuntimeError:
            at = f" at {self.place}" if self.place else ""
            raise UnsupportedLayerError(f"torch has no gradient of {self.kind} (layer '{self.name}'{at}).") from None
