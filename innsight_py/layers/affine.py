"""What all layers ``z = W x + b`` share: the rules of LRP and DeepLift over products with W and its signed parts."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from innsight_py.functions.deeplift import DeepLiftRule, rescale_factor, reveal_cancel_factors
from innsight_py.functions.elementwise import none_below_zero
from innsight_py.functions.lrp import (
    ABOVE,
    BELOW,
    BIASES,
    ONES,
    WHOLE,
    OneSide,
    Part,
    Rule,
    Shares,
    Side,
    Weighted,
)
from innsight_py.functions.lrp_rules import Simple
from innsight_py.functions.stabilizers import number
from innsight_py.layers.base import Layer, times_slope
from innsight_py.layers.known_parts import Parts
from innsight_py.layers.record import ALL, INPUTS, NOTHING, Needs, Record

#: Under these keys a record keeps the parts of the layer that were made, and those of the input.
PARTS, SIGNED = "weight parts", "signed input"
#: The weights above zero and those below, zeros elsewhere (None for a layer whose weights are no tensor).
SignedWeight = tuple[Tensor | None, Tensor | None]


class StepProduct(NamedTuple):
    """A product with a matrix at each of several steps: what it is multiplied by before and behind it, for all steps.

    Both are ``(B, *lead, steps, entries)``; None is 1.
    """

    before: Tensor | None
    weight: Tensor
    after: Tensor | None


def _signed_input(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the positive and the negative part of an input; None for one that is 0 everywhere."""
    return (x, None) if none_below_zero(x) else (x.clamp(min=0), x.clamp(max=0))


def _sent_over(r: Tensor, share: Tensor, side: Side) -> Tensor:
    """Return what a side hands on, written over the shares, which are not needed any more, where it fits."""
    if r.shape[0] == 1 and r.shape[1:] == share.shape and r.dtype == share.dtype:
        share = share.unsqueeze(0)
        return torch.div(r, share, out=share) if side.factor is None else torch.mul(share, r, out=share)
    return r / share if side.factor is None else share * r


class Linear(Layer):
    """A layer that is linear in its one input, up to a bias: every rule of LRP that is a table of shares.

    A subclass gives the two products, `apply_weight` with W and `transpose` with its transpose, for any weight of the
    shape of its own.
    """

    lrp_takes: ClassVar[tuple[type[Rule], ...]] = (Weighted,)
    lrp_default: ClassVar[Rule] = Simple()
    #: Whether `apply_weight` and `transpose` return memory of their own, which may be written to.
    owns_products: ClassVar[bool] = False
    #: The parts of W that are 0 for every such layer.
    lacking: ClassVar[frozenset[Part]] = frozenset()

    def apply_weight(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        """Return ``W x + b``."""
        raise NotImplementedError

    def transpose(self, g: Tensor, weight: Tensor | None) -> Tensor:
        """Return ``W' g`` for `g` of shape ``(K, B, *output_dim)``."""
        raise NotImplementedError

    def weight_part(self, part: Part) -> Tensor | None:
        """Return a part of W, as the two products take it."""
        raise NotImplementedError

    def bias_part(self, part: Part) -> Tensor | None:
        """Return a part of b that adds to an output ``(B, *output_dim)``; None where there is no bias."""
        return None

    def known_parts(self) -> Parts:
        """Return the parts of W and b that are known, by `Part.of_weight` and `Part.of_bias`; others are entered."""
        return {}

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        if not isinstance(rule, Shares):
            raise self.refusal(rule)
        return [self.share_out(r, at, rule)]

    def lrp_needs(self, rule: Rule) -> Needs:
        return Needs(output=False) if isinstance(rule, Shares) else ALL

    def lrp_kept(self, rule: Rule) -> Needs:
        return INPUTS if isinstance(rule, Shares) else ALL  # the denominators are kept

    def lrp_loss(self, rule: Rule) -> str | None:
        loss = rule.loss
        if loss:
            return loss
        if not isinstance(rule, Shares):
            return None
        if rule.stabilizer is not None:
            return f"the stabilizer of the rule {rule.name} keeps a part of the relevance"
        bias = self.bias_part(WHOLE) if any(side.bias for side in rule.table().sides) else None
        return BIASES if rule.bias == "keep" and bias is not None and bool(bias.any()) else None

    def lrp_shares(self, rule: Rule) -> int:
        """How many numbers `lrp` keeps of one row between walks, parts of the weights among them."""
        if not isinstance(rule, Shares):
            return 0
        weight, pulls = self._buffers.get("weight"), rule.pulls
        parts = {term.weight for _, terms in pulls.parts for term in terms} - {WHOLE}
        return len(pulls.sides) * math.prod(self.output_dim) + (0 if weight is None else len(parts) * weight.numel())

    # -- the core of LRP ----------------------------------------------------------------------------------------

    def share_out(self, r: Tensor, at: Record, rule: Shares) -> Tensor:
        """Distribute relevance by a table of shares.

        No part is got by subtraction: a share can be as large as 1/stabilizer, and would drown the rest.
        """
        # Calls of functions take as long as what they do to small layers: hence some lines that are there twice.
        sides, parts, is_whole = rule.pulls
        own: Parts = {} if is_whole else at.once(PARTS, self.known_parts)
        sent = self._sent(r, at, rule)
        relevance: Tensor | None = None
        for part, terms in parts:
            x = at.inputs[0] if part is WHOLE else self._input_part(part, at)
            if x is None:
                continue
            pulled: Tensor | None = None
            for term in terms:
                upper = sent[term.side]
                if upper is not None and term.weight not in self.lacking:
                    weight = own.get(term.weight.of_weight)
                    product = self.transpose(upper, self._weight_part(term.weight, own) if weight is None else weight)
                    pulled = product if pulled is None else pulled + product
            if relevance is None:
                relevance = pulled if pulled is None or part is ONES else self._times(pulled, x)
            elif pulled is None:
                relevance = relevance + 0 * x  # what has no weight gets a zero of its sign
            else:
                relevance.addcmul_(pulled, x)
        if rule.bias == "share":
            for one, upper in zip(sides, sent, strict=True):
                relevance = self._with_bias(relevance, upper, one.side, at)
        return r.new_zeros((*r.shape[:2], *self.input_dims[0])) if relevance is None else relevance

    def _sent(self, r: Tensor, at: Record, rule: Shares) -> list[Tensor | None]:
        """Return what each side hands on."""
        kept, over = at.kept, at.is_last and rule.stabilizer is None
        sent: list[Tensor | None] = []
        for one in rule.pulls.sides:
            if one.key not in kept:
                kept[one.key] = self._share(at, rule, one)
            share = kept[one.key]
            if share is None:
                sent.append(None)
            elif over and share is not at.preactivation:
                sent.append(_sent_over(r, share, one.side))
            else:
                sent.append(r / share if one.side.factor is None else share * r)
        return sent

    def _times(self, product: Tensor, x: Tensor) -> Tensor:
        """Multiply a product with the input, in its own memory where that is nobody else's."""
        if self.owns_products and product.shape[1:] == x.shape and product.dtype == x.dtype:
            return product.mul_(x)
        return product * x

    def in_steps(self, at: Record, rule: Rule) -> list[StepProduct] | None:
        """Return what distributes relevance at several steps side by side, as `share_out` does, by sums of products.

        None where more is to do.
        """
        if not isinstance(rule, Shares) or rule.bias == "share":
            return None
        table, kept = rule.table(), list(self.shares(at, rule).values())
        sent = [
            None if share is None else share.reciprocal() if side.factor is None else share
            for side, share in zip(table.sides, kept, strict=True)
        ]
        found: list[StepProduct] = []
        for part in dict.fromkeys(term.input for term in table.terms):
            terms = [
                t for t in table.terms if t.input == part and t.weight not in self.lacking and sent[t.side] is not None
            ]
            x = self._input_part(part, at)
            if part is ONES or (x is not None and not terms):
                return None
            for term in terms if x is not None else ():
                weight = self._weight_part(term.weight, at.once(PARTS, self.known_parts))
                if weight is None:
                    return None
                found.append(StepProduct(sent[term.side], weight, x))
        return found or None

    def shares(self, at: Record, rule: Rule) -> dict[str, Tensor | None]:
        """Return what a rule divides by, ``(B, *output_dim)``, under the names that a record keeps it by."""
        if not isinstance(rule, Shares):
            return {}
        return {one.key: self._share(at, rule, one) for one in rule.pulls.sides}

    def _share(self, at: Record, rule: Shares, one: OneSide) -> Tensor | None:
        """Return the denominators of a side; or, with a factor, the share of each output; None where nothing goes."""
        side = one.side
        z = at.preactivation if one.is_plain and side.bias is WHOLE else self._denominator(at, one)
        if z is None:
            return None
        z = rule.stabilize(z, side)
        if side.factor is None:
            return z
        share = z.reciprocal()  # times a factor is what torch makes of a quotient of a number
        if side.factor != 1:
            share.mul_(number(side.factor, share.dtype))
        return share.mul_(torch.sign(at.preactivation) == side.gate) if side.gate else share

    def _denominator(self, at: Record, one: OneSide) -> Tensor | None:
        own: Parts = at.kept[PARTS] if PARTS in at.kept else at.once(PARTS, self.known_parts)
        if one.is_plain and self.bias_part(WHOLE) is None:
            return at.preactivation
        z: Tensor | None = None
        for term in one.terms:
            x = at.inputs[0] if term.input is WHOLE else self._input_part(term.input, at)
            if x is not None and term.weight not in self.lacking:
                product = self.apply_weight(x, self._weight_part(term.weight, own))
                z = product if z is None else z + product
        if z is None or one.side.bias is None:
            return z
        bias = self._bias_part(one.side.bias, own)
        return z if bias is None else z + bias

    def _input_part(self, part: Part, at: Record) -> Tensor | None:
        """Return a part of the input; None for one that is 0 everywhere."""
        if part is ABOVE or part is BELOW:
            signed: tuple[Tensor, Tensor | None] | None = at.kept.get(SIGNED)
            if signed is None:
                signed = at.kept[SIGNED] = _signed_input(at.inputs[0])
            return signed[0 if part is ABOVE else 1]
        x = at.inputs[0]
        if part is WHOLE:
            return x
        return part.of(x[:1] if part is ONES else x)

    def _weight_part(self, part: Part, own: Parts) -> Tensor | None:
        """Return a part of W, which is entered among what is known."""
        found = own.get(part.of_weight)
        if found is None:
            found = own[part.of_weight] = self.weight_part(part)
        return found

    def _bias_part(self, part: Part, own: Parts) -> Tensor | None:
        """Return a part of b, which is entered among what is known."""
        found = own.get(part.of_bias)
        if found is None:
            found = own[part.of_bias] = self.bias_part(part)
        return found

    def _with_bias(self, relevance: Tensor | None, sent: Tensor | None, side: Side, at: Record) -> Tensor | None:
        """Add what a side's part of the bias gets, shared equally among the inputs of each output."""
        bias = None if side.bias is None else self.bias_part(side.bias)
        if bias is None or sent is None:
            return relevance
        ones = self._weight_part(ONES, at.once(PARTS, self.known_parts))
        inputs = at.once("inputs", lambda: self.apply_weight(torch.ones_like(at.inputs[0][:1]), ones).clamp_(min=1))
        finite = bias.masked_fill(bias.isinf(), 0.0)  # a mask has nothing to share
        piece = self.transpose(sent * (finite / inputs), ones)
        return piece if relevance is None else relevance + piece


class Affine(Linear):
    """A linear layer followed by an activation: the rules of DeepLift over products with W and its signed parts."""

    weight: Tensor | None
    bias: Tensor | None

    def broadcast_bias(self, bias: Tensor) -> Tensor:
        """Shape the bias so that it adds to an output ``(B, *output_dim)``."""
        return bias.reshape(-1, *[1] * (len(self.output_dim) - 1))

    def weight_part(self, part: Part) -> Tensor | None:
        assert self.weight is not None
        return part.of(self.weight)

    def bias_part(self, part: Part) -> Tensor | None:
        return None if self.bias is None else part.of(self.broadcast_bias(self.bias))

    def linear(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return self.apply_weight(x, self.weight, self.bias)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        return [self.transpose(g, self.weight)]

    @property
    def gradient_needs(self) -> Needs:
        return self.activation_needs

    @property
    def gradient_kept(self) -> Needs:
        return self.activation_kept

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
            return self.pullback(times_slope(m, self._rescaling(at, ref), at), at)
        dx = at.inputs[0] - ref.inputs[0]
        weights = at.once("signed weight", self.signed_weight)
        above, below = at.once_with(ref, "reveal cancel", lambda: self._reveal_cancel(dx, at, ref, weights))
        return [self._signed_pullback(m * above, m * below, dx, weights)]

    def deeplift_needs(self, rule: DeepLiftRule) -> Needs:
        if self.activation.is_linear:
            return NOTHING
        return Needs(inputs=False) if rule.name == "rescale" else ALL

    def deeplift_early(self, at: Record, ref: Record, rule: DeepLiftRule) -> bool:
        early = rule.name == "rescale" and not self.activation.is_linear
        if early:
            self._rescaling(at, ref)
        return early

    def _rescaling(self, at: Record, ref: Record) -> Tensor:
        return at.once_with(
            ref,
            "rescale",
            lambda: rescale_factor(self.activation, at.preactivation, ref.preactivation, at.output, ref.output),
        )

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
