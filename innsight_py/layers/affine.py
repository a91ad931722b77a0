"""What all layers ``z = W x + b`` share: the rules of LRP and DeepLift over products with W and its signed parts."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from innsight_py._elementwise import none_below_zero
from innsight_py.layers.base import Layer, Record
from innsight_py.layers.rules import (
    BIASES,
    DeepLiftRule,
    LRPRule,
    alpha_beta_shares,
    lrp_denominator,
    rescale_factor,
    reveal_cancel_factors,
)

#: The weights above zero and those below, zeros elsewhere (None for a layer whose weights are no tensor).
SignedWeight = tuple[Tensor | None, Tensor | None]


def _signed_input(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the positive and the negative part of an input; None for one that is 0 everywhere."""
    return (x, None) if none_below_zero(x) else (x.clamp(min=0), x.clamp(max=0))


class Affine(Layer):
    """A layer that is linear in its one input, up to a bias, followed by an activation.

    A subclass gives the two products, `apply_weight` with W and `transpose` with its transpose, for any weight of the
    shape of its own.
    """

    lrp_rules: ClassVar[tuple[str, ...]] = ("simple", "epsilon", "alpha_beta")

    weight: Tensor | None
    bias: Tensor | None

    def apply_weight(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        """Return ``W x + b``."""
        raise NotImplementedError

    def transpose(self, g: Tensor, weight: Tensor | None) -> Tensor:
        """Return ``W' g`` for `g` of shape ``(K, B, *output_dim)``."""
        raise NotImplementedError

    def broadcast_bias(self, bias: Tensor) -> Tensor:
        """Shape the bias so that it adds to an output ``(B, *output_dim)``."""
        return bias.reshape(-1, *[1] * (len(self.output_dim) - 1))

    def linear(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return self.apply_weight(x, self.weight, self.bias)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        return [self.transpose(g, self.weight)]

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        return self.pullback(g, None)

    # -- products with the signed parts -------------------------------------------------------------------------

    def signed_weight(self) -> SignedWeight:
        """Return the weights above zero and those below."""
        assert self.weight is not None
        return self.weight.clamp(min=0), self.weight.clamp(max=0)

    def signed_parts(self, x: Tensor, weights: SignedWeight, with_bias: bool) -> tuple[Tensor, Tensor]:
        """Split ``W x`` (and the bias) into the sum of its positive and the sum of its negative terms.

        The negative part is computed, not subtracted: rules look for its exact zeros.
        """
        above, below = weights
        x_above, x_below = x.clamp(min=0), x.clamp(max=0)
        positive, negative = self.apply_weight(x_above, above), self.apply_weight(x_above, below)
        if not none_below_zero(x):
            positive = positive + self.apply_weight(x_below, below)
            negative = negative + self.apply_weight(x_below, above)
        if with_bias and self.bias is not None:
            bias = self.broadcast_bias(self.bias)
            positive, negative = positive + bias.clamp(min=0), negative + bias.clamp(max=0)
        return positive, negative

    # -- LRP ----------------------------------------------------------------------------------------------------

    def lrp(self, r: Tensor, at: Record, rule: LRPRule, *, is_output: bool = False) -> list[Tensor | None]:
        (x,) = at.inputs
        if rule.name != "alpha_beta":
            z = at.once(f"denominator {rule.name} {rule.param}", lambda: lrp_denominator(at.preactivation, rule))
            return [x * self.transpose(r / z, self.weight)]
        return [self._alpha_beta(r, x, at, rule.value)]

    def lrp_loss(self, rule: LRPRule) -> str | None:
        if rule.name != "simple":
            return f"the rule {rule.name} does not hand on all relevance"
        return BIASES if self.bias is not None and bool(self.bias.any()) else None

    def _alpha_beta(self, r: Tensor, x: Tensor, at: Record, alpha: float) -> Tensor:
        above, below = at.once("signed weight", self.signed_weight)
        x_above, x_below = at.once("signed input", lambda: _signed_input(x))
        u, v = at.once(f"shares {alpha}", lambda: self._shares(x, at, alpha))
        u, v = u * r, None if v is None else v * r
        # No part is got by subtraction here: a share can be as large as 1/stabilizer, and would drown the rest.
        relevance = self._two_products(u, above, v, below) * x_above
        return relevance if x_below is None else relevance.addcmul_(self._two_products(v, above, u, below), x_below)

    def _shares(self, x: Tensor, at: Record, alpha: float) -> tuple[Tensor, Tensor | None]:
        weights = at.once("signed weight", self.signed_weight)
        return alpha_beta_shares(*self.signed_parts(x, weights, with_bias=True), alpha)

    def _two_products(
        self, first: Tensor | None, above: Tensor | None, second: Tensor | None, below: Tensor | None
    ) -> Tensor:
        """Return ``W+' first + W-' second``; either tensor may be missing, but not both."""
        total = None if first is None else self.transpose(first, above)
        if second is not None:
            product = self.transpose(second, below)
            total = product if total is None else total + product
        assert total is not None
        return total

    # -- DeepLift -----------------------------------------------------------------------------------------------

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        if skip_activation or self.activation.is_linear:
            return self.pullback(m, at)
        if rule.name == "rescale":
            factor = at.once_with(
                ref,
                "rescale",
                lambda: rescale_factor(self.activation, at.preactivation, ref.preactivation, at.output, ref.output),
            )
            return self.pullback(m * factor, at)
        dx = at.inputs[0] - ref.inputs[0]
        weights = at.once("signed weight", self.signed_weight)
        above, below = at.once_with(ref, "reveal cancel", lambda: self._reveal_cancel(dx, at, ref, weights))
        return [self._signed_pullback(m * above, m * below, dx, weights)]

    def _reveal_cancel(self, dx: Tensor, at: Record, ref: Record, weights: SignedWeight) -> tuple[Tensor, Tensor]:
        parts = self.signed_parts(dx, weights, with_bias=False)
        return reveal_cancel_factors(self.activation, at.preactivation, ref.preactivation, *parts)

    def _signed_pullback(self, above: Tensor, below: Tensor, dx: Tensor, weights: SignedWeight) -> Tensor:
        """Give positive differences the multiplier of the terms they raise, negative ones the other, zeros the mean.

        Three products instead of R's five: what is left of the whole product is the negative side. Where multipliers
        may be as large as 1/stabilizer (a softmax moves nodes whose own difference is 0) it takes a fourth, since
        the rest would drown in a subtraction.
        """
        rising = self._two_products(above, weights[0], below, weights[1])
        if not self.activation.is_elementwise:
            falling = self._two_products(below, weights[0], above, weights[1])
            return torch.where(dx > 0, rising, torch.where(dx < 0, falling, 0.5 * (rising + falling)))
        whole = self.transpose(above + below, self.weight)
        return torch.where(dx > 0, rising, torch.where(dx < 0, whole - rising, 0.5 * whole))
