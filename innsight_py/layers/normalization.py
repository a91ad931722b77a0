"""Constants that scale and shift, batch normalisation among them, and normalisation by an instance's own statistics."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from innsight_py.layers.base import Layer, Record, align, sum_to
from innsight_py.layers.rules import BIASES, DeepLiftRule, LRPRule, away_from_zero, fill_zeros


class _Diagonal(Layer):
    """``y = k x + c`` with constants k and c that broadcast against an instance."""

    lrp_rules: ClassVar[tuple[str, ...]] = ("simple", "epsilon", "alpha_beta", "pass")

    def factor(self) -> Tensor:
        """Return k, shaped to multiply an output ``(B, *output_dim)``."""
        raise NotImplementedError

    def constant(self) -> Tensor:
        """Return c, shaped likewise."""
        raise NotImplementedError

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        return [sum_to(g * self.factor(), self.input_dims[0])]

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        return self.pullback(m, at)

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        return self.pullback(g, None)

    def lrp(self, r: Tensor, at: Record, rule: LRPRule, *, is_output: bool = False) -> list[Tensor | None]:
        if rule.name == "pass":
            return [sum_to(r, self.input_dims[0])]
        scaled = align(at.inputs[0], len(self.output_dim) + 1) * self.factor()
        if rule.name == "simple":  # unlike other layers: nothing is added where the output is not 0
            share = scaled / fill_zeros(at.output)
        elif rule.name == "epsilon":  # R rounds the parameter to single precision here (and only here)
            share = scaled / away_from_zero(at.output, float(np.float32(rule.value)))
        else:
            constant = self.constant()
            positive, negative = scaled.clamp(min=0), scaled.clamp(max=0)
            share_positive = positive / (fill_zeros(positive) + constant.clamp(min=0))
            share_negative = negative / (fill_zeros(negative, -1) + constant.clamp(max=0))
            share = rule.value * share_positive + (1 - rule.value) * share_negative
        return [sum_to(r * share, self.input_dims[0])]

    def lrp_loss(self, rule: LRPRule) -> str | None:
        if rule.name == "pass":
            return None
        if rule.name != "simple":
            return f"the rule {rule.name} does not hand on all relevance"
        return BIASES if bool(self.constant().any()) else None


class BatchNorm(_Diagonal):
    """Batch normalisation: ``k = gamma / sqrt(var + eps)`` and ``c = beta - k mean`` for each channel."""

    r_class = "BatchNorm_Layer"
    gamma: Tensor
    beta: Tensor
    run_mean: Tensor
    run_var: Tensor

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.eps = layer.eps
        self.register_buffer("gamma", layer.gamma)
        self.register_buffer("beta", torch.zeros_like(layer.gamma) if layer.beta is None else layer.beta)
        self.register_buffer("run_mean", layer.run_mean)
        self.register_buffer("run_var", layer.run_var)

    def _per_channel(self, values: Tensor) -> Tensor:
        return values.reshape(-1, *[1] * (len(self.output_dim) - 1))

    def linear(self, *inputs: Tensor) -> Tensor:
        return torch.batch_norm(
            inputs[0], self.gamma, self.beta, self.run_mean, self.run_var, False, 0.0, self.eps, False
        )  # fmt: skip

    def factor(self) -> Tensor:
        return self._per_channel(self.gamma / (self.run_var + self.eps).sqrt())

    def constant(self) -> Tensor:
        return self._per_channel(self.beta) - self.factor() * self._per_channel(self.run_mean)


class Scale(_Diagonal):
    """Multiplication by a constant and addition of one."""

    r_class = "Scale_Layer"
    scale: Tensor
    shift: Tensor

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.register_buffer("scale", torch.ones(()) if layer.factor is None else layer.factor)
        self.register_buffer("shift", torch.zeros(()) if layer.shift is None else layer.shift)

    def linear(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return align(x, max(x.dim(), self.scale.dim() + 1, self.shift.dim() + 1)) * self.scale + self.shift

    def factor(self) -> Tensor:
        return self.scale

    def constant(self) -> Tensor:
        return self.shift


class Standardize(Layer):
    r"""Blocks of an instance, each less its mean over its root mean square.

    With deviations c, their mean square v and :math:`s = 1 / \sqrt{v + \varepsilon}` the output is :math:`y = c s`.
    DeepLift goes through the pieces by rules that are exact: the centring is linear, v and s change along their
    secants, and the product is split with :math:`\lambda = s' / (s + s')` into

    .. math:: cs - c's' = (\lambda s + (1 - \lambda) s')(c - c') + ((1 - \lambda) c + \lambda c')(s - s').

    Then everything falls into

    .. math:: m^c_i = h m_i - \frac{h^2}{4n} (c_i + c'_i) \sum_j m_j (y_j + y'_j), \quad h = \frac{2 s s'}{s + s'}

    whose terms stay small even where a reference is constant, so that its s' is huge, and which is the gradient where
    the reference is the input.
    """

    r_class = "Standardize_Layer"

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.groups, self.eps, self.center = layer.groups, layer.eps, layer.center

    def _blocks(self, x: Tensor) -> Tensor:
        lead = x.shape[: x.dim() - len(self.input_dims[0])]
        if math.prod(self.input_dims[0]) % self.groups:
            raise ValueError(f"{math.prod(self.input_dims[0])} numbers cannot be cut into {self.groups} groups")
        return x.reshape(*lead, self.groups, -1)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the deviations c and what they are multiplied by, s."""
        blocks = self._blocks(x)
        c = blocks - blocks.mean(-1, keepdim=True) if self.center else blocks
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        return c, (c.square().mean(-1, keepdim=True) + eps).rsqrt()

    def linear(self, *inputs: Tensor) -> Tensor:
        c, s = self._parts(inputs[0])
        return (c * s).reshape(inputs[0].shape)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        assert at is not None
        return [self._secant(g, at, at)]

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        return [self._secant(m, at, ref)]

    def _secant(self, m: Tensor, at: Record, ref: Record) -> Tensor:
        c, s = at.once("parts", lambda: self._parts(at.inputs[0]))
        c_ref, s_ref = ref.once("parts", lambda: self._parts(ref.inputs[0]))
        blocks = self._blocks(m)
        h = 2 * s * s_ref / (s + s_ref)
        total = (blocks * (c * s + c_ref * s_ref)).sum(-1, keepdim=True)
        pulled = h * (blocks - h * (c + c_ref) * total / (4 * c.shape[-1]))
        if self.center:
            pulled = pulled - pulled.mean(-1, keepdim=True)
        return pulled.reshape(*pulled.shape[:2], *self.input_dims[0])
