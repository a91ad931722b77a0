"""Another number of positions: copies of the nearest, or interpolation."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from innsight_py.functions.lrp import ONES, SQUARES, Part, Rule, Weighted
from innsight_py.functions.lrp_rules import Epsilon, Flat, Simple, WSquare
from innsight_py.functions.lrp_weightless import Equal, Gradient, Proportional
from innsight_py.layers.averages import Averaging
from innsight_py.layers.record import Record


class Resize(Averaging):
    """Another number of positions, by copies of the nearest or by interpolation.

    LRP gives each position what its copies got, or in proportion to the weights of the interpolation, unless told else.
    """

    r_class = "Resize_Layer"
    lrp_takes: ClassVar[tuple[type[Rule], ...]] = (Weighted, Proportional, Equal, Gradient)
    lrp_default: ClassVar[Rule] = Gradient()
    lrp_asked: ClassVar[bool] = False
    family = "resize"

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.size, self.mode, self.align_corners = spec.size, spec.mode, spec.align_corners
        self.scale_factor = spec.scale_factor

    @property
    def lrp_kinds(self) -> tuple[type[Rule], ...]:
        if self.mode == "bicubic":  # some weights are negative, and nothing writes them out
            return (Simple, Epsilon, WSquare, Flat, Proportional, Equal, Gradient)
        return self.lrp_takes

    def average(self, x: Tensor) -> Tensor:
        return F.interpolate(
            x,
            size=list(self.size) if self.scale_factor is None else None,
            scale_factor=None if self.scale_factor is None else list(self.scale_factor),
            mode=self.mode,
            align_corners=self.align_corners,
        )

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        if isinstance(rule, Gradient):
            return self.pullback(r, at)
        return super().lrp(r, at, rule, is_output=is_output)

    def lrp_loss(self, rule: Rule) -> str | None:
        return None if isinstance(rule, Gradient) else super().lrp_loss(rule)  # the weights of an output sum to 1

    # -- squares and ones: the weights are products of one number an axis -----------------------------------------

    def weight_part(self, part: Part) -> Tensor | None:
        if part not in (ONES, SQUARES) or self.mode.startswith("nearest"):
            return super().weight_part(part)
        matrices = [self._matrix(axis) for axis in range(len(self.size))]
        return torch.cat([((m != 0).double() if part is ONES else m * m).flatten() for m in matrices])

    def apply_weight(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        if weight is None or weight.dim() == 0:
            return super().apply_weight(x, weight)
        return self._along_axes(x, weight, "oi")

    def transpose(self, g: Tensor, weight: Tensor | None) -> Tensor:
        if weight is None or weight.dim() == 0:
            return super().transpose(g, weight)
        return self._along_axes(g, weight, "io")

    def _along_axes(self, x: Tensor, weight: Tensor, which: str) -> Tensor:
        """Multiply each axis of positions by its matrix, or by the transpose of it."""
        axes = len(self.size)
        shapes = list(zip(self.output_dim[1:], self.input_dims[0][1:], strict=True))
        for axis, flat in enumerate(torch.split(weight.to(x), [math.prod(shape) for shape in shapes])):
            matrix = flat.reshape(shapes[axis])
            moved = x.movedim(axis - axes, -1) @ (matrix.T if which == "oi" else matrix)
            x = moved.movedim(-1, axis - axes)
        return x

    def _matrix(self, axis: int) -> Tensor:
        """Return what an axis alone does, ``(out, in)``: the other axes have one position."""
        n, axes = self.input_dims[0][1 + axis], len(self.size)
        lines = torch.eye(n, dtype=torch.float64).reshape(1, n, *[n if i == axis else 1 for i in range(axes)])
        size = [m if i == axis else 1 for i, m in enumerate(self.output_dim[1:])]
        factor = self.scale_factor and [f if i == axis else 1.0 for i, f in enumerate(self.scale_factor)]
        alone = F.interpolate(
            lines, size=None if factor else size, scale_factor=factor or None, mode=self.mode,
            align_corners=self.align_corners,
        )  # fmt: skip
        return alone.reshape(n, -1).T
