"""Numbers of another kind, and values that are taken as given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from innsight_py.functions.deeplift import DeepLiftRule
from innsight_py.functions.lrp import Rule
from innsight_py.layers.base import Layer
from innsight_py.layers.record import Record


class Computing(Layer):
    """A layer without weights that knows in which precision the graph computes, from `unit`, which goes with it."""

    unit: Tensor

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.register_buffer("unit", torch.ones(()))

    def dtype_of(self, dtype: torch.dtype) -> torch.dtype:
        """Return the type that stands for `dtype` in the graph: fractions and complex numbers have its precision."""
        real = self.unit.dtype
        return real.to_complex() if dtype.is_complex else real if dtype.is_floating_point else dtype


class Cast(Computing):
    """Numbers of another type: whole numbers and truth values as fractions and back, or rounded to fewer digits.

    What is rounded to half precision goes on in the precision of the graph. Rounding passes gradients and multipliers
    on as they are, as torch does; a whole number has no gradient.
    """

    r_class = "Cast_Layer"

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.dtype: torch.dtype = getattr(torch, layer.dtype)

    @property
    def rounds(self) -> bool:
        """Whether digits are cut off, to half precision."""
        return self.dtype in (torch.float16, torch.bfloat16)

    def linear(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        if x.is_complex() and not self.dtype.is_complex:
            x = x.real
        if self.rounds:
            x = x.to(self.dtype)
        return x.to(self.dtype_of(self.dtype))

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        assert at is not None
        (x,) = at.inputs
        if not (x.is_floating_point() or x.is_complex()):
            return [None]
        if x.is_complex() or self.dtype.is_complex:
            return [g.to(x.dtype) if x.is_complex() else g.real]
        return [g if self.dtype.is_floating_point else None]

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        """Pass multipliers on: what whole numbers come from says no by name, rounding changes by its secant."""
        (x,), (x_ref,) = at.inputs, ref.inputs
        if x.is_complex() or self.dtype.is_complex or (x.is_floating_point() and not self.dtype.is_floating_point):
            raise self._unsupported("DeepLift")
        if not self.rounds or not x.is_floating_point():
            return [m]
        change, difference = at.output - ref.output, x - x_ref
        return [m * torch.where(difference == 0, torch.ones_like(change), change / difference)]

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        if at.inputs[0].is_complex() or self.dtype.is_complex:
            raise self._unsupported("LRP")
        return [r]

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        return [g]

    @property
    def kind(self) -> str:
        return f"a cast to {self.dtype}"


class Detach(Layer):
    """The value as it is, without a gradient: what the model detaches, or computes under ``torch.no_grad()``.

    DeepLift and LRP take it as given: it is the explained row's in both passes, and gets nothing. So is what is made of
    fixed inputs alone.
    """

    r_class = "Detach_Layer"

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.fixed: bool = layer.fixed

    @property
    def kind(self) -> str:
        return "a detached value (aten::detach)"

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0]

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        return [None]

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        return [None]

    def deeplift_loss(self, rule: DeepLiftRule, *, skip_activation: bool = False) -> str | None:
        if self.fixed:
            return None
        return (
            "the model detaches values ('detach()', 'torch.no_grad()'), which are taken as given at those of the "
            "explained row: what they change between reference and row belongs to no input"
        )

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        return [None]

    def lrp_loss(self, rule: Rule) -> str | None:
        what = "inputs are fixed" if self.fixed else "the model detaches values ('detach()', 'torch.no_grad()')"
        return f"{what}: the relevance that comes to them goes to no input that is explained"
