"""What every layer is: a forward pass, and one backward step for each family of methods.

A layer is a map without activation, `linear`, followed by an activation function. It holds parameters only; what
a forward pass saw is in the `Record` that the pass leaves behind. Backward tensors carry the explained outputs
first, ``(K, B, *dims)``, and their batch axis may be 1 as long as nothing that depends on the data has touched them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from innsight_py._errors import see
from innsight_py.functions.activations import Activation
from innsight_py.functions.deeplift import DeepLiftRule
from innsight_py.functions.layout import fold, unfold
from innsight_py.functions.lrp import RULES, Rule, Shares
from innsight_py.functions.lrp_weightless import Gradient
from innsight_py.layers.record import ALL, NOTHING, Needs, Record


class UnsupportedLayerError(NotImplementedError):
    """A method met a layer for which it has no rule; the message names both."""


class Named(Protocol):
    """What every layer spec, and every layer, has."""

    @property
    def name(self) -> str:
        """Name of the layer."""

    @property
    def place(self) -> str | None:
        """Where in the user's model the layer comes from, in words."""

    @property
    def origin(self) -> str | None:
        """Where in the user's model the layer comes from, as a path of modules."""


class Layer(nn.Module):
    """Base class. A subclass states `linear`; what mathematics allows is derived from it.

    Attributes
    ----------
    name : str
        The layer's name in the spec.
    input_dims : tuple of tuple of int
        Shape of each input without the batch axis, filled in by the dry run.
    output_dim : tuple of int
        Shape of the output without the batch axis.
    place, origin : str or None
        Where in the user's model the layer comes from: in words, and as a path of modules.
    family : str or None
        What a list of LRP rules may call the layer, beside its name and class.
    gives_whole_numbers : bool
        Whether the output has whole numbers or truth values, filled in by the dry run.
    """

    place: str | None
    origin: str | None
    family: str | None = None

    #: The name of the layer that this one is a part of, if it is a part of one.
    within: str | None = None

    #: The name of the layer in R, which `print` and the rule lists of LRP use.
    r_class: ClassVar[str]
    #: The kinds of LRP rules that may be chosen for the layer; empty where the layer has but one way.
    lrp_takes: ClassVar[tuple[type[Rule], ...]] = ()
    #: The rule that the layer has where none is chosen.
    lrp_default: ClassVar[Rule] = Gradient()
    #: Whether a rule for all layers is meant for this one, too, as in R.
    lrp_asked: ClassVar[bool] = False
    #: Whether `ignore_last_act` has a preactivation to explain when the layer ends the model.
    has_preactivation: ClassVar[bool] = False
    #: Whether the layer works on images, for which it matters how they lie in memory (see `lay_out`).
    takes_images: ClassVar[bool] = False

    def __init__(self, spec: Named, activation: Activation | None = None) -> None:
        super().__init__()
        self.name = spec.name
        self.place = spec.place
        self.origin = spec.origin
        self.activation_origin: str | None = getattr(spec, "activation_origin", None)
        self.activation = activation or Activation("linear")
        self.input_dims: tuple[tuple[int, ...], ...] = ()
        self.output_dim: tuple[int, ...] = ()
        self.gives_whole_numbers = False

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        """Refuse shapes of the inputs (without the batch) that the layer is not made for, with a ValueError.

        Only what `linear` itself would not notice.
        """

    def needs_axes(self, dim: tuple[int, ...], axes: int) -> None:
        """Refuse an input unless it has `axes` axes beside the batch."""
        if len(dim) != axes:
            raise ValueError(f"it needs an input with {axes} axes beside the batch")

    # -- forward ------------------------------------------------------------------------------------------------

    def linear(self, *inputs: Tensor) -> Tensor:
        """Map the inputs to the preactivation."""
        raise NotImplementedError

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map the inputs to the output."""
        return self.activation(self.linear(*inputs))

    def record(self, *inputs: Tensor) -> Record:
        """Map the inputs to the output and keep what the walk back may need."""
        before = self.linear(*inputs)
        return Record(inputs, before, before if self.activation.is_linear else self.activation(before))

    # -- gradient -----------------------------------------------------------------------------------------------

    def gradient(self, g: Tensor, at: Record, *, skip_activation: bool = False) -> list[Tensor | None]:
        """Take the gradient with respect to the output (or preactivation) to the inputs."""
        return self.pullback(g if skip_activation else self.through_activation(g, at), at)

    def through_activation(self, g: Tensor, at: Record) -> Tensor:
        """Take the gradient with respect to the output to the preactivation."""
        return self.activation.vjp(g, at, self._derivative)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        """Vector-Jacobian product of `linear`; `at` may be None for layers that are linear in their inputs."""
        assert at is not None
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_() for x in at.inputs]
            out = self.linear(*leaves)
            rows = [
                torch.autograd.grad(out, leaves, row.expand_as(out), retain_graph=True, materialize_grads=True)
                for row in g
            ]
        return [torch.stack(column) for column in zip(*rows, strict=True)]

    @property
    def gradient_needs(self) -> Needs:
        """What of a record `gradient` looks at."""
        return ALL

    @property
    def gradient_kept(self) -> Needs:
        """What of a record `gradient` still looks at after it was called once."""
        return self.gradient_needs

    @property
    def activation_needs(self) -> Needs:
        """What of a record `through_activation` looks at."""
        return Needs(False, *self.activation.vjp_needs)

    @property
    def activation_kept(self) -> Needs:
        """What of a record `through_activation` still looks at after it was called once."""
        keeps = self.activation.is_elementwise and self.activation.name != "relu"
        return NOTHING if keeps else self.activation_needs  # the derivative is kept

    def _derivative(self, at: Record) -> Tensor:
        return at.once("derivative", lambda: self.activation.derivative(at.preactivation, at.output))

    # -- DeepLift, LRP, connection weights ----------------------------------------------------------------------

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        """Take the multiplier with respect to the output (or preactivation) to the inputs."""
        raise self._unsupported("DeepLift")

    def deeplift_needs(self, rule: DeepLiftRule) -> Needs:
        """Return what of both records `deeplift` looks at."""
        return ALL

    def deeplift_early(self, at: Record, ref: Record, rule: DeepLiftRule) -> bool:
        """Compute all that `deeplift` needs of two records, so that both can be released; False where it needs more."""
        return False

    def deeplift_kept(self, rule: DeepLiftRule) -> int:
        """How many numbers `deeplift_early` keeps of one row."""
        return 0

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        """Distribute the relevance of the output over the inputs. The activation passes relevance unchanged.

        `is_output` tells that the walk starts here.
        """
        raise self._unsupported("LRP")

    def lrp_needs(self, rule: Rule) -> Needs:
        """Return what of a record `lrp` looks at."""
        return ALL

    def lrp_kept(self, rule: Rule) -> Needs:
        """Return what of a record `lrp` still looks at after it was called once."""
        return self.lrp_needs(rule)

    def lrp_shares(self, rule: Rule) -> int:
        """How many numbers `lrp` keeps of one row between walks, beside the record."""
        return math.prod(self.output_dim) if isinstance(rule, Shares) else 0

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        """Pull `g` back through the weights alone, without data, bias and activation."""
        raise self._unsupported("ConnectionWeights")

    # -- what is lost -------------------------------------------------------------------------------------------

    def deeplift_loss(self, rule: DeepLiftRule, *, skip_activation: bool = False) -> str | None:
        """Say why contributions through the layer need not add up to what comes out of it; None where they do."""
        if skip_activation or self.activation.is_elementwise:
            return None
        return (
            "a softmax is explained, which gives nothing to a logit that does not move, as in R "
            "(ignore_last_act=True keeps the sum)"
        )

    def lrp_loss(self, rule: Rule) -> str | None:
        """Say why relevances of the layer's inputs need not add up to that of its output; None where they do."""
        return None

    def lrp_losses(self, rule: Rule) -> list[str]:
        """Say the same of all layers that this one is made of."""
        loss = self.lrp_loss(rule)
        return [loss] if loss else []

    def takes(self, rule: Rule) -> bool:
        """Tell whether an LRP rule can be chosen for the layer."""
        return isinstance(rule, self.lrp_kinds)

    @property
    def lrp_kinds(self) -> tuple[type[Rule], ...]:
        """The kinds of LRP rules that may be chosen for this one layer."""
        return self.lrp_takes

    @classmethod
    def lrp_rules(cls) -> tuple[str, ...]:
        """Return the names of the LRP rules that may be chosen for the layer."""
        return tuple(name for name, rule in RULES.items() if issubclass(rule, cls.lrp_takes))

    def refusal(self, rule: Rule) -> ValueError:
        """Build the error for an LRP rule that the layer does not take."""
        known = ", ".join(name for name, kind in RULES.items() if issubclass(kind, self.lrp_kinds))
        at = f" at {self.place}" if self.place else ""
        return ValueError(
            f"Argument 'rule_name': the layer '{self.name}' ({self.r_class}{at}) cannot use the rule '{rule.name}', "
            f"which is not defined for it; it takes {known or 'no rule, since there is only one way'}."
        )

    def _unsupported(self, method: str) -> UnsupportedLayerError:
        at = f" at {self.place}" if self.place else ""
        others = "DeepLift has one, and the" if method != "DeepLift" and self.has_deeplift else "The"
        return UnsupportedLayerError(
            see(
                "no-rule",
                f"{method} has no rule for {self.kind} (layer '{self.name}'{at}). {others} gradient methods (Gradient, "
                "SmoothGrad, IntegratedGradient, ExpectedGradient) work with it.",
            )
        )

    def undo(self, y: Tensor) -> Tensor:
        """Return an input that a layer which prepares data maps to `y`, or as near to it as it can."""
        raise NotImplementedError

    @property
    def steps(self) -> int:
        """How many steps through time the layer takes one after the other."""
        return 1

    @property
    def kept(self) -> int:
        """How many numbers a pass keeps for one row."""
        out = math.prod(self.output_dim)
        return out if self.activation.is_linear else 2 * out

    @property
    def width(self) -> int:
        """How many numbers a walk back holds at the layer, for one row and one explained output."""
        return math.prod(self.output_dim) + sum(math.prod(dim) for dim in self.input_dims)

    @property
    def has_deeplift(self) -> bool:
        """Whether the layer has a rule of DeepLift."""
        return type(self).deeplift is not Layer.deeplift

    @property
    def is_identity(self) -> bool:
        """Whether the layer gives back what it gets."""
        return False

    @property
    def is_light(self) -> bool:
        """Whether the value takes no more than a few passes over the inputs, so that it need not be kept."""
        return False

    @property
    def jumps(self) -> bool:
        """Whether the output is constant but for jumps, so that its gradient is 0."""
        return self.activation.name == "sign"

    @property
    def kind(self) -> str:
        """What error messages call the layer."""
        return self.r_class

    def extra_repr(self) -> str:
        return f"{self.name}: {self.input_dims} -> {self.output_dim}"


class Carrying(Layer):
    """A layer without weights that only moves, copies or averages values: linear, with one rule for everything.

    Multipliers, relevances and connection weights go where the gradient goes: each source gets what its copies got.
    """

    @property
    def is_light(self) -> bool:
        return True

    @property
    def gradient_needs(self) -> Needs:
        return NOTHING

    def deeplift_needs(self, rule: DeepLiftRule) -> Needs:
        return NOTHING

    def lrp_needs(self, rule: Rule) -> Needs:
        return NOTHING

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        return self.pullback(m, at)

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        return self.pullback(r, at)

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        return self.pullback(g, None)


def times_slope(m: Tensor, slope: Tensor, at: Record) -> Tensor:
    """Multiply by a slope that belongs to a record, which nobody looks at any more after the last walk."""
    if at.is_last and m.shape[0] == 1 and m.shape[1:] == slope.shape and m.dtype == slope.dtype:
        return slope.unsqueeze(0).mul_(m)
    return m * slope


def pull_linear(function: Callable[[Tensor], Tensor], g: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Vector-Jacobian product of a linear function of one input of shape `dim`, found by autograd.

    The Jacobian of a linear function is the same everywhere, so no data are needed.
    """
    flat = fold(g)
    with torch.enable_grad():
        anywhere = flat.new_zeros((len(flat), *dim)).requires_grad_()
        return unfold(torch.autograd.grad(function(anywhere), anywhere, flat)[0], g)
