"""Layers that move values about: merging, flattening, padding, skipping."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from innsight_py import spec_layers as spec
from innsight_py.layers.base import Carrying, Record, fold, unfold
from innsight_py.layers.rules import LRPRule


class Add(Carrying):
    """The sum of several inputs. LRP and connection weights give each an equal share, as R does."""

    r_class = "Adding_Layer"

    def __init__(self, layer: spec.Add) -> None:
        super().__init__(layer.name)

    def linear(self, *inputs: Tensor) -> Tensor:
        if any(x.shape[1:] != inputs[0].shape[1:] for x in inputs):
            raise ValueError("all inputs of an Add layer must have one shape")
        return torch.stack(torch.broadcast_tensors(*inputs)).sum(0) if len(inputs) > 2 else sum(inputs[1:], inputs[0])

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor]:
        return [g] * len(self.input_dims)

    def lrp(self, r: Tensor, at: Record, rule: LRPRule) -> list[Tensor]:
        return [r / len(self.input_dims)] * len(self.input_dims)

    def connection_weights(self, g: Tensor) -> list[Tensor]:
        return [g / len(self.input_dims)] * len(self.input_dims)


class Concatenate(Carrying):
    """Inputs one after the other along an axis."""

    r_class = "Concatenate_Layer"

    def __init__(self, layer: spec.Concatenate) -> None:
        super().__init__(layer.name)
        self.axis = layer.axis

    def linear(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, self.axis)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor]:
        axis = self.axis if self.axis < 0 else self.axis - 1 - len(self.output_dim)
        return list(g.split([dim[axis] for dim in self.input_dims], axis))


class Flatten(Carrying):
    """Several axes as one, read channels first or channels last."""

    r_class = "Flatten_Layer"

    def __init__(self, layer: spec.Flatten) -> None:
        super().__init__(layer.name)
        self.start, self.end = layer.start_dim, layer.end_dim
        self.channels_last = layer.order == "channels_last"

    def linear(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return (x.movedim(1, -1) if self.channels_last else x).flatten(self.start, self.end)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor]:
        channels, *size = self.input_dims[0]
        if self.channels_last:
            return [g.reshape(*g.shape[:2], *size, channels).movedim(-1, 2)]
        return [g.reshape(*g.shape[:2], channels, *size)]


class Padding(Carrying):
    """Padding of the last axes with a constant, or with copies of what is there."""

    r_class = "Padding_Layer"

    def __init__(self, layer: spec.Padding) -> None:
        super().__init__(layer.name)
        self.padding, self.mode, self.value = layer.padding, layer.mode, layer.value

    def _sides(self, dims: int) -> tuple[int, ...]:
        """One number pads all spatial axes (or the features of a table) on all sides."""
        return self.padding * (2 * max(dims - 1, 1)) if len(self.padding) == 1 else self.padding

    def linear(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        sides = self._sides(x.dim() - 1)
        if self.mode == "constant":
            return F.pad(x, sides, value=self.value)
        if x.dim() == 2:  # torch pads a table with copies only if it looks like a signal
            return F.pad(x.unsqueeze(1), sides, mode=self.mode).squeeze(1)
        return F.pad(x, sides, mode=self.mode)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor]:
        if self.mode != "constant":  # linear all the same: the Jacobian does not depend on where it is taken
            with torch.enable_grad():
                anywhere = fold(g).new_zeros((g.shape[0] * g.shape[1], *self.input_dims[0])).requires_grad_()
                return [unfold(torch.autograd.grad(self.linear(anywhere), anywhere, fold(g))[0], g)]
        sides, size = self._sides(len(self.input_dims[0])), self.input_dims[0]
        for i, before in enumerate(sides[0::2]):
            g = g.narrow(-1 - i, before, size[-1 - i])
        return [g]


class Skipping(Carrying):
    """The identity."""

    r_class = "Skipping_Layer"
    is_identity = True

    def __init__(self, layer: spec.Skipping) -> None:
        super().__init__(layer.name)

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0]

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor]:
        return [g]
