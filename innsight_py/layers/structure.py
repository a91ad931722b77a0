"""Layers that move values about: concatenating, reshaping, taking entries, padding, resizing, skipping."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from innsight_py.layers.base import Carrying, pull_linear
from innsight_py.layers.record import Record


def not_the_batch(axis: int, dim: tuple[int, ...], key: str = "axis") -> None:
    """Refuse an axis that is the batch's, or that an input of shape `dim` does not have."""
    rank = len(dim) + 1
    if not -rank < axis < rank or axis % rank == 0:
        raise ValueError(f"key '{key}' is {axis}, and there is no such axis beside the batch")


class Concatenate(Carrying):
    """Inputs one after the other along an axis."""

    r_class = "Concatenate_Layer"

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.axis = spec.axis

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        not_the_batch(self.axis, dims[0])

    def linear(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, self.axis)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        axis = self.axis if self.axis < 0 else self.axis - 1 - len(self.output_dim)
        return list(torch.split(g, [dim[axis] for dim in self.input_dims], axis))


class Flatten(Carrying):
    """Several axes as one, read channels first or channels last."""

    r_class = "Flatten_Layer"

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.start, self.end = spec.start_dim, spec.end_dim
        self.channels_last = spec.order == "channels_last"

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        not_the_batch(self.start, dims[0], "start_dim")
        not_the_batch(self.end, dims[0], "end_dim")

    def linear(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return (x.movedim(1, -1) if self.channels_last else x).flatten(self.start, self.end)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        channels, *size = self.input_dims[0]
        if self.channels_last:
            return [g.reshape(*g.shape[:2], *size, channels).movedim(-1, 2)]
        return [g.reshape(*g.shape[:2], channels, *size)]


class Reshape(Carrying):
    """Another shape for the same numbers in the same order."""

    r_class = "Reshape_Layer"

    @property
    def is_identity(self) -> bool:
        return self.input_dims[0] == self.output_dim

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.shape = spec.shape

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0].reshape(inputs[0].shape[0], *self.shape)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        return [g.reshape(*g.shape[:2], *self.input_dims[0])]


class Permute(Carrying):
    """Axes in another order."""

    r_class = "Permute_Layer"

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.axes = spec.axes

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0].permute(0, *self.axes)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        rank = len(self.axes) + 1
        order = [axis % rank for axis in self.axes]
        back = [order.index(axis) + 2 for axis in range(1, rank)]
        return [g.permute(0, 1, *back)]


class Take(Carrying):
    """Entries along an axis. A source that is taken several times gets what all its copies got."""

    r_class = "Take_Layer"

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.axis, self.indices = spec.axis, list(spec.indices)

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        not_the_batch(self.axis, dims[0])

    def linear(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        first, count = self.indices[0], len(self.indices)
        if self.indices == list(range(first, first + count)):
            return x.narrow(self.axis, first, count)
        return x.index_select(self.axis, torch.tensor(self.indices, device=x.device))

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        axis = self.axis if self.axis < 0 else self.axis - 1 - len(self.output_dim)
        pulled = g.new_zeros((*g.shape[:2], *self.input_dims[0]))
        return [pulled.index_add_(g.dim() + axis, torch.tensor(self.indices, device=g.device), g)]


class Padding(Carrying):
    """Padding of the last axes with a constant, or with copies of what is there; cutting off, by less than 0."""

    r_class = "Padding_Layer"

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.padding, self.mode, self.value = spec.padding, spec.mode, spec.value

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        if len(self.padding) > 2 * len(dims[0]):
            raise ValueError("it would pad the batch")

    def linear(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        # One number pads all spatial axes (or the features of a table) on all sides.
        sides = self.padding * (2 * max(x.dim() - 2, 1)) if len(self.padding) == 1 else self.padding
        if self.mode == "constant":
            return F.pad(x, sides, value=self.value)
        return F.pad(x, sides, mode=self.mode)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        return [pull_linear(lambda x: self.linear(x), g, self.input_dims[0])]


class Skipping(Carrying):
    """The identity."""

    r_class = "Skipping_Layer"

    @property
    def is_identity(self) -> bool:
        return True

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0]

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        return [g]
