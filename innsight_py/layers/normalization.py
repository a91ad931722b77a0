"""Constants that scale and shift, batch normalisation among them, and normalisation by an instance's own statistics."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from innsight_py.functions.deeplift import DeepLiftRule
from innsight_py.functions.layout import align, sum_to
from innsight_py.functions.lrp import BIASES, CONSTANTS, Part, Rule, Weighted
from innsight_py.functions.lrp_rules import AlphaBeta, Epsilon, Simple
from innsight_py.functions.lrp_weightless import Gradient, Pass
from innsight_py.functions.stabilizers import away_from_zero, fill_zeros
from innsight_py.layers.affine import Linear
from innsight_py.layers.base import Layer
from innsight_py.layers.record import ALL, INPUTS, NOTHING, Needs, Record

#: Deviations, what they are multiplied by, its reciprocal, and the root of their mean square.
Parts = tuple[Tensor, Tensor, Tensor, Tensor]


class _Diagonal(Linear):
    """``y = k x + c`` with constants k and c that broadcast against an instance."""

    lrp_takes: ClassVar[tuple[type[Rule], ...]] = (Weighted, Pass, Gradient)
    lrp_asked: ClassVar[bool] = True

    def factor(self) -> Tensor:
        """Return k, shaped to multiply an output ``(B, *output_dim)``."""
        raise NotImplementedError

    def constant(self) -> Tensor:
        """Return c, shaped likewise."""
        raise NotImplementedError

    def undo(self, y: Tensor) -> Tensor:
        factor = self.factor()
        return torch.where(factor == 0, 0.0, (y - self.constant()) / factor)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        return [sum_to(g * self.factor(), self.input_dims[0])]

    def apply_weight(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        assert weight is not None
        z = (align(x, len(self.output_dim) + 1) * weight).expand(-1, *self.output_dim)
        return z if bias is None else z + bias

    def transpose(self, g: Tensor, weight: Tensor | None) -> Tensor:
        assert weight is not None
        return sum_to(g * weight, self.input_dims[0])

    def weight_part(self, part: Part) -> Tensor | None:
        return part.of(self.factor())

    def bias_part(self, part: Part) -> Tensor | None:
        return part.of(self.constant())

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        return self.pullback(m, at)

    @property
    def is_light(self) -> bool:
        return True

    @property
    def gradient_needs(self) -> Needs:
        return NOTHING

    def deeplift_needs(self, rule: DeepLiftRule) -> Needs:
        return NOTHING

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        return self.pullback(g, None)

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        if isinstance(rule, Pass):
            return [sum_to(r, self.input_dims[0])]
        if isinstance(rule, Gradient):
            return self.pullback(r, at)
        if not _is_of_r(rule):
            return super().lrp(r, at, rule, is_output=is_output)
        share = at.once(f"{rule.key} share", lambda: self._share_of_r(at, rule))
        if at.is_last and r.shape[0] == 1 and r.shape[1:] == share.shape and r.dtype == share.dtype:
            passed = share.unsqueeze(0).mul_(r)
        else:
            passed = r * share
        return [sum_to(passed, self.input_dims[0])]

    def lrp_needs(self, rule: Rule) -> Needs:
        if isinstance(rule, Pass | Gradient):
            return NOTHING
        return INPUTS if _is_of_r(rule) else super().lrp_needs(rule)

    def lrp_kept(self, rule: Rule) -> Needs:
        return NOTHING if _is_of_r(rule) else super().lrp_kept(rule)

    def _share_of_r(self, at: Record, rule: Rule) -> Tensor:
        """Return the share as R has it, which stabilises in a way of its own."""
        scaled = align(at.inputs[0], len(self.output_dim) + 1) * self.factor()
        if isinstance(rule, AlphaBeta):
            constant = self.constant()
            positive, negative = scaled.clamp(min=0), scaled.clamp(max=0)
            share_positive = positive / (fill_zeros(positive) + constant.clamp(min=0))
            share_negative = negative / (fill_zeros(negative, -1) + constant.clamp(max=0))
            return rule.alpha * share_positive + (1 - rule.alpha) * share_negative
        output = self.linear(*at.inputs) if at.output.is_meta else at.output  # cheaper again than kept
        if isinstance(rule, Epsilon):  # R rounds the parameter to single precision here (and only here)
            divisor = away_from_zero(output, float(np.float32(rule.epsilon)))
        else:  # unlike other layers: nothing is added where the output is not 0
            divisor = fill_zeros(output)
        return scaled.div_(divisor) if scaled.shape == divisor.shape else scaled / divisor


def _is_of_r(rule: Rule) -> bool:
    """Tell whether R has a rule, with its own stabiliser and biases."""
    return (
        rule == Simple()
        or (isinstance(rule, Epsilon) and rule == Epsilon(rule.epsilon))
        or (isinstance(rule, AlphaBeta) and rule == AlphaBeta(rule.alpha))
    )


class BatchNorm(_Diagonal):
    """Batch normalisation: ``k = gamma / sqrt(var + eps)`` and ``c = beta - k mean`` for each channel."""

    r_class = "BatchNorm_Layer"
    family = "batch_norm"
    gamma: Tensor
    beta: Tensor
    run_mean: Tensor
    run_var: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.eps = spec.eps
        self.register_buffer("gamma", spec.gamma)
        self.register_buffer("beta", torch.zeros_like(spec.gamma) if spec.beta is None else spec.beta)
        self.register_buffer("run_mean", spec.run_mean)
        self.register_buffer("run_var", spec.run_var)

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
    family = "scale"
    scale: Tensor
    shift: Tensor

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.register_buffer("scale", torch.ones(()) if spec.factor is None else spec.factor)
        self.register_buffer("shift", torch.zeros(()) if spec.shift is None else spec.shift)

    def linear(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return align(x, max(x.dim(), self.scale.dim() + 1, self.shift.dim() + 1)) * self.scale + self.shift

    def factor(self) -> Tensor:
        return self.scale

    def constant(self) -> Tensor:
        return self.shift

    def lrp_loss(self, rule: Rule) -> str | None:
        loss = super().lrp_loss(rule)
        if loss != BIASES or bool((self.scale != 1).any()):
            return loss
        return CONSTANTS if bool(self.shift[self.shift.isfinite()].any()) else None


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

    In general s is 1 over :math:`d = \max(r + t, l)` with :math:`r = \sqrt{a v + \varepsilon}`. Then the second term
    has :math:`a h \kappa / (2 n (r + r'))` for :math:`h^2 / 4n`, :math:`\kappa` being the slope of d against r, and
    :math:`h = 2 / (d + d')`.

    For LRP s counts as a constant, so that the map is linear and a rule can share by its terms. Without centring that
    passes relevance.
    """

    lrp_takes: ClassVar[tuple[type[Rule], ...]] = (Simple, Epsilon, Gradient)
    lrp_default: ClassVar[Rule] = Pass()  # which it has not: LRP stops where no rule is chosen
    family = "normalization"
    r_class = "Standardize_Layer"

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.groups, self.eps, self.center = spec.groups, spec.eps, spec.center
        self.ratio, self.shift, self.least = spec.factor, spec.shift, spec.least
        self._plain = (self.ratio, self.shift, self.least) == (1, 0, 0)

    def _blocks(self, x: Tensor) -> Tensor:
        lead = x.shape[: x.dim() - len(self.input_dims[0])]
        if math.prod(self.input_dims[0]) % self.groups:
            raise ValueError(f"{math.prod(self.input_dims[0])} numbers cannot be cut into {self.groups} groups")
        return x.reshape(*lead, self.groups, -1)

    def _parts(self, x: Tensor) -> Parts:
        """Return the deviations c and what they are multiplied by, s; in general also d and the root r."""
        blocks = self._blocks(x)
        c = blocks - blocks.mean(-1, keepdim=True) if self.center else blocks
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        square = c.square().mean(-1, keepdim=True)
        if self._plain:
            s = (square + eps).rsqrt()
            return c, s, s, s
        root = (self.ratio * square + eps).sqrt()
        divisor = (root + self.shift).clamp(min=self.least)
        return c, divisor.reciprocal(), divisor, root

    def linear(self, *inputs: Tensor) -> Tensor:
        c, s, *_ = self._parts(inputs[0])
        return (c * s).reshape(inputs[0].shape)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        assert at is not None
        parts = at.once("parts", lambda: self._parts(at.inputs[0]))
        return [self._secant(g, self._terms(parts, parts))]

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        return [self._secant(m, self._terms_between(at, ref))]

    def deeplift_early(self, at: Record, ref: Record, rule: DeepLiftRule) -> bool:
        self._terms_between(at, ref)
        return True

    def deeplift_kept(self, rule: DeepLiftRule) -> int:
        return 2 * math.prod(self.output_dim)

    def _terms_between(self, at: Record, ref: Record) -> tuple[Tensor, Tensor, Tensor]:
        def terms() -> tuple[Tensor, Tensor, Tensor]:
            return self._terms(self._parts(at.inputs[0]), ref.once("parts", lambda: self._parts(ref.inputs[0])))

        return at.once_with(ref, "terms", terms)

    @property
    def is_light(self) -> bool:
        return True

    @property
    def gradient_needs(self) -> Needs:
        return INPUTS

    def deeplift_needs(self, rule: DeepLiftRule) -> Needs:
        return INPUTS

    @property
    def gradient_kept(self) -> Needs:
        return NOTHING  # the parts are

    def lrp_needs(self, rule: Rule) -> Needs:
        return INPUTS if isinstance(rule, Gradient) else ALL

    def lrp_kept(self, rule: Rule) -> Needs:
        return NOTHING if isinstance(rule, Gradient) else ALL

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        if isinstance(rule, Gradient):
            return self.pullback(r, at)
        if isinstance(rule, Pass):
            raise self._unsupported("LRP")
        if not isinstance(rule, Simple | Epsilon):
            raise self.refusal(rule)
        s = at.once("scale", lambda: self._parts(at.inputs[0])[1])
        shares = at.once(f"{rule.key} 0", lambda: rule.stabilize(at.output, rule.table().sides[0]))
        blocks = self._blocks(r / shares) * s
        if self.center:
            blocks = blocks - blocks.mean(-1, keepdim=True)
        return [blocks.reshape(r.shape[0], -1, *self.input_dims[0]) * at.inputs[0]]

    def lrp_loss(self, rule: Rule) -> str | None:
        return rule.loss

    def _terms(self, parts: Parts, parts_ref: Parts) -> tuple[Tensor, Tensor, Tensor]:
        """Return what multipliers are multiplied by: h, the factor of their sum, and the weights in that sum."""
        (c, s, d, root), (c_ref, s_ref, d_ref, root_ref) = parts, parts_ref
        weights = c * s + c_ref * s_ref
        if self._plain:
            h = 2 * s * s_ref / (s + s_ref)
            return h, h * (c + c_ref), weights
        h = 2 / (d + d_ref)
        weight = self.ratio * self._slope(d - d_ref, root - root_ref, root) / (2 * c.shape[-1])
        roots = root + root_ref  # 0 where both blocks are constant: nothing depends on them then
        weight = torch.where(roots == 0, torch.zeros_like(roots), weight / roots)
        return h, weight * (c + c_ref), weights

    def _secant(self, m: Tensor, terms: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        h, bent, weights = terms
        blocks = self._blocks(m)
        total = (blocks * weights).sum(-1, keepdim=True)
        moved = bent * total
        pulled = h * (blocks - (moved.div_(4 * bent.shape[-1]) if self._plain else moved))
        if self.center:
            pulled = pulled - pulled.mean(-1, keepdim=True)
        return pulled.reshape(*pulled.shape[:2], *self.input_dims[0])

    def _slope(self, change: Tensor, difference: Tensor, root: Tensor) -> Tensor:
        """Return how the divisor moves with the root: 1 unless the bound holds."""
        if not self.least:
            return torch.ones_like(root)
        above = (root + self.shift > self.least).to(root.dtype)
        return torch.where(difference == 0, above, (change / difference).clamp(0, 1))
