"""An activation that stands on its own, after a batch normalisation for example, and a softmax inside a model."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from innsight_py.functions import activations
from innsight_py.functions.deeplift import DeepLiftRule, rescale_factor
from innsight_py.functions.elementwise import all_finite
from innsight_py.functions.lrp import Rule
from innsight_py.functions.lrp_weightless import Block, Gradient, Pass, Taylor
from innsight_py.functions.stabilizers import fill_zeros
from innsight_py.layers.base import Layer, times_slope
from innsight_py.layers.record import ALL, INPUTS, NOTHING, Needs, Record

#: A difference so small that its exponential less 1 is itself.
_TINY = 1e-30


class Activation(Layer):
    """The identity followed by an activation function."""

    r_class = "Activation"
    lrp_takes: ClassVar[tuple[type[Rule], ...]] = (Pass, Gradient, Taylor, Block)
    lrp_default: ClassVar[Rule] = Pass()

    def __init__(self, spec: Any) -> None:
        super().__init__(spec, activations.Activation(spec.act_name, spec.act_params))
        self.family = "activation" if self.activation.is_elementwise else "softmax"

    @property
    def lrp_kinds(self) -> tuple[type[Rule], ...]:
        return (Pass, Gradient, Block) if self.activation.is_elementwise else (Gradient, Taylor, Block)

    @property
    def is_light(self) -> bool:
        return True

    @property
    def kind(self) -> str:
        return self.activation.name

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0]

    def undo(self, y: Tensor) -> Tensor:
        return self.activation(y)  # only clipping prepares data

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        return [g]

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        """Multiply by the slope between reference and input, for both rules; by 0 where the two are equal, as R.

        A softmax has the rule of `softmax_slopes`, a sparsemax that of `sparsemax_multiplier`.
        """
        if skip_activation or self.activation.is_linear:
            return [m]
        if self.activation.is_elementwise:
            return [times_slope(m, self._slope(at, ref), at)]
        if self.activation.name == "keras_sparsemax":
            raise self._unsupported("DeepLift")
        axis = self.activation.params["dim"]
        axis = axis if axis < 0 else axis - at.output.dim()
        if self.activation.name == "sparsemax":
            return [sparsemax_multiplier(m, at.inputs[0], ref.inputs[0], axis)]
        weight, slopes = self._softmax_slopes(at, ref)
        return [through_softmax(m, weight, slopes, axis)]

    def _softmax_slopes(self, at: Record, ref: Record) -> tuple[Tensor, Tensor | None]:
        axis = self.activation.params["dim"]
        axis = axis if axis < 0 else axis - at.output.dim()
        log = self.activation.name == "log_softmax"
        return at.once_with(ref, "slopes", lambda: softmax_slopes(at.inputs[0], ref.inputs[0], axis, log))

    @property
    def has_deeplift(self) -> bool:
        return self.activation.name != "keras_sparsemax"

    def deeplift_loss(self, rule: DeepLiftRule, *, skip_activation: bool = False) -> str | None:
        return None

    @property
    def gradient_needs(self) -> Needs:
        return self.activation_needs

    @property
    def gradient_kept(self) -> Needs:
        return self.activation_kept

    def lrp_needs(self, rule: Rule) -> Needs:
        if isinstance(rule, Gradient):
            return self.activation_needs
        return ALL if isinstance(rule, Taylor) else NOTHING

    def lrp_kept(self, rule: Rule) -> Needs:
        return self.gradient_kept if isinstance(rule, Gradient) else self.lrp_needs(rule)

    def deeplift_needs(self, rule: DeepLiftRule) -> Needs:
        if self.activation.is_linear:
            return NOTHING
        return ALL if self.activation.is_elementwise else INPUTS

    def deeplift_early(self, at: Record, ref: Record, rule: DeepLiftRule) -> bool:
        if self.activation.name in ("softmax", "log_softmax"):
            self._softmax_slopes(at, ref)
            return True
        early = self.activation.is_elementwise and not self.activation.is_linear
        if early:
            self._slope(at, ref)
        return early

    def deeplift_kept(self, rule: DeepLiftRule) -> int:
        values = 0 if self.activation.is_linear else 2 if self.activation.name == "softmax" else 1
        return values * math.prod(self.output_dim)

    def _slope(self, at: Record, ref: Record) -> Tensor:
        return at.once_with(ref, "slope", lambda: self._slope_between(at, ref))

    def _slope_between(self, at: Record, ref: Record) -> Tensor:
        return rescale_factor(self.activation, at.inputs[0], ref.inputs[0], at.output, ref.output, none_at_equal=True)

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        if not isinstance(rule, Pass) and not self.takes(rule):
            raise self.refusal(rule)
        if isinstance(rule, Pass) and not (self.activation.is_elementwise or is_output):
            raise self._unsupported("LRP")
        return [through(self, r, at, rule, is_output=is_output)]

    def lrp_loss(self, rule: Rule) -> str | None:
        return rule.loss

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        return [g]


def through(layer: Layer, r: Tensor, at: Record, rule: Rule, *, is_output: bool) -> Tensor | None:
    """Hand relevance from a layer's output to its preactivation by a rule of activations; None where nothing goes.

    What is explained itself passes, unless its derivative is asked for.
    """
    if isinstance(rule, Gradient):
        return layer.through_activation(r, at)
    if is_output or isinstance(rule, Pass):
        return r
    return taylor_terms(layer, r, at) if isinstance(rule, Taylor) else None


def taylor_terms(layer: Layer, r: Tensor, at: Record) -> Tensor:
    r"""Return :math:`z_i \sum_j (\partial s_j / \partial z_i) R_j / s_j`, which for a softmax needs no division."""
    activation, z, s = layer.activation, at.preactivation, at.output
    if activation.name == "softmax":
        axis = activation.params["dim"]
        pulled = r - s * r.sum(axis if axis < 0 else axis - s.dim(), keepdim=True)
    else:
        pulled = layer.through_activation(r / at.once("filled", lambda: fill_zeros(s)), at)
    return pulled * at.once("finite", lambda: z if all_finite(z) else z.masked_fill(z.isinf(), 0.0))


def through_softmax(m: Tensor, weight: Tensor, slopes: Tensor | None, axis: int) -> Tensor:
    """Take DeepLift's multiplier through a softmax, or a log-softmax without `slopes`: see `softmax_slopes`."""
    if slopes is None:
        return m - weight * m.sum(axis, keepdim=True)
    m = m * slopes
    return m.sub_(weight * m.sum(axis, keepdim=True))


def softmax_slopes(z: Tensor, z_ref: Tensor, axis: int, log: bool) -> tuple[Tensor, Tensor | None]:
    r"""Return :math:`w` and :math:`\kappa`, with which DeepLift's multiplier goes through ``exp(z - L(z))``.

    L is the logarithm of the sum of exponentials. By composition of rules that are exact: the exponential along its
    secant, the difference as it is, and L as the logarithm of a sum of exponentials, each along its secant. Both kinds
    of secants are logarithmic means, :math:`\kappa_i = \mathrm{lm}(p_i, p'_i)` and
    :math:`w_i = \mathrm{lm}(e^{z_i}, e^{z'_i}) / \mathrm{lm}(e^L, e^{L'})`,
    which lie between 0 and 1 however large the logits are, do not change when all logits are shifted, and give the
    gradient where the reference is the input:

    .. math:: m_i^z = \kappa_i m_i - w_i \sum_j \kappa_j m_j

    For a log-softmax the :math:`\kappa` are 1: None.
    """
    top, top_ref = z.amax(axis, keepdim=True), z_ref.amax(axis, keepdim=True)
    below, below_ref = z - top, z_ref - top_ref
    # How far L moves, and how far each logit is below L: differences, so that nothing depends on how large logits are.
    # The largest is 0, which saves what torch's own logsumexp takes to find it.
    rest, rest_ref = (x.exp().sum(axis, keepdim=True).log_() for x in (below, below_ref))
    moved = (top - top_ref) + (rest - rest_ref)
    below, below_ref = below.sub_(rest), below_ref.sub_(rest_ref)
    reach = torch.maximum(below + moved.clamp(max=0), below_ref - moved.clamp(min=0))
    weight = reach.exp_().mul_(_secant_below(z, z_ref)).div_(_secant_below(moved, torch.zeros_like(moved)))
    if log:
        return weight, None
    return weight, torch.maximum(below, below_ref).exp_().mul_(_secant_below(below, below_ref))


def sparsemax_multiplier(m: Tensor, z: Tensor, z_ref: Tensor, axis: int) -> Tensor:
    r"""Take DeepLift's multiplier through ``max(z - t(z), 0)``, t being what makes the entries sum to 1.

    With :math:`\kappa_i` the slope of the positive part between reference and input, the entries sum to 1 at both, so
    that :math:`\sum_i \kappa_i (\Delta z_i - \Delta t) = 0`: t moves by the mean of the logits weighted with
    :math:`\kappa`, which is exact, and

    .. math:: m_i^z = \kappa_i m_i - \frac{\kappa_i}{\sum_j \kappa_j} \sum_j \kappa_j m_j
    """
    u, u_ref = (x - activations.sparsemax_threshold(x, axis) for x in (z, z_ref))
    slopes = rescale_factor(activations.Activation("relu"), u, u_ref, u.clamp(min=0), u_ref.clamp(min=0))
    passed = slopes * m
    return passed - slopes / slopes.sum(axis, keepdim=True) * passed.sum(axis, keepdim=True)


def _secant_below(a: Tensor, b: Tensor) -> Tensor:
    """Return ``(e^a - e^b) / (a - b)`` over the larger of ``e^a`` and ``e^b``; 1 where both are equal."""
    # What is that near to 0 has the quotient 1, and so has the difference of two infinities, which is NaN.
    down = (a - b).abs_().neg_().clamp_(max=-_TINY).nan_to_num_(nan=-_TINY, neginf=-torch.inf)
    return down.expm1().div_(down)
