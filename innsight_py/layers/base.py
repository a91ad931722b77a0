"""What every layer is: a forward pass, and one backward step for each family of methods.

A layer is a map without activation, `linear`, followed by an activation function. It holds parameters only; what
a forward pass saw is in the `Record` that the pass leaves behind. Backward tensors carry the explained outputs
first, ``(K, B, *dims)``, and their batch axis may be 1 as long as nothing that depends on the data has touched them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from innsight_py.activations import Activation
from innsight_py.layers.rules import DeepLiftRule, LRPRule

T = TypeVar("T")


class UnsupportedLayerError(NotImplementedError):
    """A method met a layer for which it has no rule; the message names both."""


#: Images of fewer positions are worked on quicker channels first (found by timing).
_SMALL = 64
_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
#: Under this key a record keeps the positions of the largest inputs.
WINNERS = "winners"


class Record:
    """What one pass saw at one layer.

    Attributes
    ----------
    inputs : tuple of Tensor
        The layer's inputs, each ``(B, *dims)``.
    preactivation, output : Tensor
        Before and after the activation function.
    """

    __slots__ = ("_kept", "_kept_with_partner", "_partner", "inputs", "output", "preactivation")

    def __init__(
        self, inputs: tuple[Tensor, ...], preactivation: Tensor, output: Tensor, kept: dict[str, object] | None = None
    ) -> None:
        self.inputs = inputs
        self.preactivation = preactivation
        self.output = output
        self._kept: dict[str, object] = kept or {}
        self._partner: Record | None = None
        self._kept_with_partner: dict[str, object] = {}

    def row(self, i: int, output: Tensor) -> Record:
        """Return what the pass saw of the i-th row, of which the output is given."""

        def cut(x: Tensor) -> Tensor:
            return x[i : i + 1]

        before = output if self.preactivation is self.output else cut(self.preactivation)
        winners = self._kept.get(WINNERS)
        kept: dict[str, object] = {WINNERS: cut(winners)} if isinstance(winners, Tensor) else {}
        return Record(tuple(cut(x) for x in self.inputs), before, output, kept)

    def once(self, key: str, compute: Callable[[], T]) -> T:
        """Compute something that does not depend on the explained output only once a pass."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]  # type: ignore[return-value]

    def once_with(self, ref: Record, key: str, compute: Callable[[], T]) -> T:
        """Compute something that depends on this pass and a reference's once, for as long as the two stay together."""
        if self._partner is not ref:
            self._partner, self._kept_with_partner = ref, {}
        if key not in self._kept_with_partner:
            self._kept_with_partner[key] = compute()
        return self._kept_with_partner[key]  # type: ignore[return-value]


class Named(Protocol):
    """What every layer spec, and every layer, has."""

    @property
    def name(self) -> str:
        """Name of the layer."""

    @property
    def place(self) -> str | None:
        """Where in the user's model the layer comes from."""


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
    place : str or None
        Where in the user's model the layer comes from.
    """

    place: str | None

    #: The name of the layer in R, which `print` and the rule lists of LRP use.
    r_class: ClassVar[str]
    #: LRP rules that may be chosen for the layer; empty where the layer has but one way.
    lrp_rules: ClassVar[tuple[str, ...]] = ()
    #: Whether `ignore_last_act` has a preactivation to explain when the layer ends the model.
    has_preactivation: ClassVar[bool] = False
    #: Whether the layer works on images, for which it matters how they lie in memory (see `lay_out`).
    takes_images: ClassVar[bool] = False

    def __init__(self, layer: Named, activation: Activation | None = None) -> None:
        super().__init__()
        self.name = layer.name
        self.place = layer.place
        self.activation = activation or Activation("linear")
        self.input_dims: tuple[tuple[int, ...], ...] = ()
        self.output_dim: tuple[int, ...] = ()

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        """Refuse shapes of the inputs (without the batch) that the layer is not made for, with a ValueError.

        Only what `linear` itself would not notice.
        """

    def needs_axes(self, dim: tuple[int, ...], axes: int) -> None:
        """Refuse an input that has not so many axes beside the batch."""
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
        if not skip_activation:
            g = self.activation.vjp(g, lambda: at.preactivation, at.output, lambda: self._derivative(at))
        return self.pullback(g, at)

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

    def _derivative(self, at: Record) -> Tensor:
        return at.once("derivative", lambda: self.activation.derivative(at.preactivation, at.output))

    # -- DeepLift, LRP, connection weights ----------------------------------------------------------------------

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        """Take the multiplier with respect to the output (or preactivation) to the inputs."""
        raise self._unsupported("DeepLift")

    def lrp(self, r: Tensor, at: Record, rule: LRPRule, *, is_output: bool = False) -> list[Tensor | None]:
        """Distribute the relevance of the output over the inputs. The activation passes relevance unchanged.

        `is_output` tells that the walk starts here.
        """
        raise self._unsupported("LRP")

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

    def lrp_loss(self, rule: LRPRule) -> str | None:
        """Say why relevances of the layer's inputs need not add up to that of its output; None where they do."""
        return None

    def _unsupported(self, method: str) -> UnsupportedLayerError:
        at = f" at {self.place}" if self.place else ""
        return UnsupportedLayerError(
            f"{method} has no rule for {self.kind} (layer '{self.name}'{at}). The gradient methods (Gradient, "
            "SmoothGrad, IntegratedGradient, ExpectedGradient) work with it."
        )

    @property
    def is_identity(self) -> bool:
        """Whether the layer gives back what it gets."""
        return False

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

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        return self.pullback(m, at)

    def lrp(self, r: Tensor, at: Record, rule: LRPRule, *, is_output: bool = False) -> list[Tensor | None]:
        return self.pullback(r, at)

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        return self.pullback(g, None)


def pull_linear(function: Callable[[Tensor], Tensor], g: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Vector-Jacobian product of a linear function of one input of shape `dim`, found by autograd.

    The Jacobian of a linear function is the same everywhere, so no data are needed.
    """
    flat = fold(g)
    with torch.enable_grad():
        anywhere = flat.new_zeros((len(flat), *dim)).requires_grad_()
        return unfold(torch.autograd.grad(function(anywhere), anywhere, flat)[0], g)


def sum_to(g: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Undo a broadcast of an instance of shape `dim`: sum ``(K, B, *larger)`` to ``(K, B, *dim)``."""
    surplus = g.dim() - 2 - len(dim)
    if surplus:
        g = g.sum(tuple(range(2, 2 + surplus)))
    axes = tuple(i + 2 for i, n in enumerate(dim) if n == 1 and g.shape[i + 2] > 1)
    return g.sum(axes, keepdim=True) if axes else g


def align(x: Tensor, rank: int) -> Tensor:
    """Give an instance more axes in front, behind the batch, so that instances broadcast from their last axis."""
    return x.reshape(x.shape[0], *[1] * (rank - x.dim()), *x.shape[1:]) if x.dim() < rank else x


def lay_out(x: Tensor) -> Tensor:
    """Lay images ``(..., C, H, W)`` out in memory as they are worked on quickest: the same values and shape.

    Convolutions and poolings of oneDNN (single precision, on a CPU) like channels last, max pooling by nine times, but
    for small images.
    """
    last = x.dtype == torch.float32 and x.device.type == "cpu" and _ONEDNN and x.shape[-2] * x.shape[-1] >= _SMALL
    if not last:
        return x.contiguous()
    moved = x.movedim(-3, -1)
    if not moved.is_contiguous():
        return moved.contiguous().movedim(-1, -3)
    # Axes of length 1 may have any stride then, and torch tells layouts apart by strides.
    return moved.view(-1).view(moved.shape).movedim(-1, -3) if 1 in x.shape else x


def empty_like(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return memory for a tensor of another shape, laid out as one that may be of images, see `lay_out`."""
    if x.dim() < 4 or len(shape) < 4 or x.is_contiguous() or not x.movedim(-3, -1).is_contiguous():
        return x.new_empty(shape)
    *outer, channels, height, width = shape
    return x.new_empty((*outer, height, width, channels)).movedim(-1, -3)


def fold(g: Tensor) -> Tensor:
    """Fold the explained outputs into the batch: ``(K, B, *dims)`` becomes ``(K B, *dims)``."""
    return g.reshape(-1, *g.shape[2:])


def unfold(g: Tensor, like: Tensor) -> Tensor:
    """Undo `fold` for a tensor whose first two axes are those of `like`."""
    return g.reshape(*like.shape[:2], *g.shape[1:])
