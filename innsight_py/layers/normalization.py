"""Batch normalisation as at prediction time."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from innsight_py import spec_layers as spec
from innsight_py.layers.base import Layer, Record, UnsupportedLayerError
from innsight_py.layers.rules import DeepLiftRule, LRPRule, away_from_zero, fill_zeros


class BatchNorm(Layer):
    """``y = k x + c`` with one ``k = gamma / sqrt(var + eps)`` and one ``c = beta - k mean`` a channel."""

    r_class = "BatchNorm_Layer"
    lrp_rules: ClassVar[tuple[str, ...]] = ("simple", "epsilon", "alpha_beta", "pass")
    gamma: Tensor
    beta: Tensor
    run_mean: Tensor
    run_var: Tensor

    def __init__(self, layer: spec.BatchNorm) -> None:
        super().__init__(layer.name)
        self.eps = layer.eps
        self.register_buffer("gamma", layer.gamma)
        self.register_buffer("beta", torch.zeros_like(layer.gamma) if layer.beta is None else layer.beta)
        self.register_buffer("run_mean", layer.run_mean)
        self.register_buffer("run_var", layer.run_var)

    def _per_channel(self, values: Tensor) -> Tensor:
        return values.reshape(-1, *[1] * (len(self.output_dim) - 1))

    def _factor(self) -> Tensor:
        return self._per_channel(self.gamma / (self.run_var + self.eps).sqrt())

    def linear(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return torch.batch_norm(
            x, self.gamma, self.beta, self.run_mean, self.run_var, False, 0.0, self.eps, False
        )  # fmt: skip

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor]:
        return [g * self._factor()]

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor]:
        return self.pullback(m, at)

    def connection_weights(self, g: Tensor) -> list[Tensor]:
        return self.pullback(g, None)

    def lrp(self, r: Tensor, at: Record, rule: LRPRule) -> list[Tensor]:
        if rule.name not in self.lrp_rules:
            raise UnsupportedLayerError(f"The LRP rule '{rule.name}' cannot be used for the layer '{self.name}'.")
        if rule.name == "pass":
            return [r]
        scaled = at.inputs[0] * self._factor()
        if rule.name == "simple":  # unlike other layers: nothing is added where the output is not 0
            return [r * scaled / fill_zeros(at.output)]
        if rule.name == "epsilon":  # R rounds the parameter to single precision here (and only here)
            return [r * scaled / away_from_zero(at.output, float(np.float32(rule.value)))]
        constant = self._per_channel(self.beta) - self._factor() * self._per_channel(self.run_mean)
        positive, negative = scaled.clamp(min=0), scaled.clamp(max=0)
        share_positive = positive / (fill_zeros(positive) + constant.clamp(min=0))
        share_negative = negative / (fill_zeros(negative, -1) + constant.clamp(max=0))
        return [r * (rule.value * share_positive + (1 - rule.value) * share_negative)]
