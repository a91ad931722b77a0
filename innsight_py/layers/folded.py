"""A layer that works on rows times what a model has folded into the batch: the time of a film, the patches of a series.

A model may write ``x.view(B * T, C, H, W)`` before a convolution. Values of the graph keep one row together,
``(B, T, C, H, W)``; the layer within sees ``(B T, C, H, W)``.
"""

from __future__ import annotations

import copy
import math

from torch import Tensor, nn

from innsight_py.functions.activations import Activation
from innsight_py.functions.deeplift import DeepLiftRule
from innsight_py.functions.lrp import Rule
from innsight_py.functions.lrp_rules import ZBox
from innsight_py.layers.base import Layer
from innsight_py.layers.record import Record


class Folded(Layer):
    """Another layer, on rows times their first axes.

    Parameters
    ----------
    inner : Layer
        A layer of one input.
    axes : int
        How many axes behind the batch are folded into it.
    """

    def __init__(self, inner: Layer, axes: int) -> None:
        nn.Module.__init__(self)  # not the base class's, which sets what is the inner layer's here
        self.inner, self.axes = inner, axes
        self.name, self.place, self.origin = inner.name, inner.place, inner.origin
        self.input_dims, self.output_dim = (), ()
        self.activation_origin = inner.activation_origin
        # Messages describe the inner layer. Its memory layout for images is not taken over.
        self.r_class, self.family = inner.r_class, inner.family  # type: ignore[misc]
        self.lrp_takes, self.lrp_default = inner.lrp_takes, inner.lrp_default  # type: ignore[misc]
        self.lrp_asked, self.has_preactivation = inner.lrp_asked, inner.has_preactivation  # type: ignore[misc]

    def check(self, dims: tuple[tuple[int, ...], ...]) -> None:
        if len(dims[0]) <= self.axes:
            raise ValueError(f"key 'folded' is {self.axes}, and it needs an input with more axes beside the batch")
        self.inner.check((dims[0][self.axes :],))

    @property
    def input_dims(self) -> tuple[tuple[int, ...], ...]:
        """Shape of the input without the batch axis."""
        return self._input_dims

    @input_dims.setter
    def input_dims(self, dims: tuple[tuple[int, ...], ...]) -> None:
        self._input_dims = dims
        self.inner.input_dims = tuple(dim[self.axes :] for dim in dims)

    @property
    def output_dim(self) -> tuple[int, ...]:
        """Shape of the output without the batch axis."""
        return self._output_dim

    @output_dim.setter
    def output_dim(self, dim: tuple[int, ...]) -> None:
        self._output_dim = dim
        self.inner.output_dim = dim[self.axes :]

    @property
    def activation(self) -> Activation:
        """The function after the linear part."""
        return self.inner.activation

    @activation.setter
    def activation(self, activation: Activation) -> None:
        if activation is not self.inner.activation:
            inner = copy.copy(self.inner)  # copies of this layer share it
            inner.activation = activation
            self._modules = {**self._modules, "inner": inner}

    # -- forward ------------------------------------------------------------------------------------------------

    def linear(self, *inputs: Tensor) -> Tensor:
        return self._unfold(self.inner.linear(self._fold(inputs[0])), inputs[0])

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._unfold(self.inner(self._fold(inputs[0])), inputs[0])

    def record(self, *inputs: Tensor) -> Record:
        (x,) = inputs
        seen = self.inner.record(self._fold(x))
        output = self._unfold(seen.output, x)
        before = output if seen.preactivation is seen.output else self._unfold(seen.preactivation, x)
        return Record(inputs, before, output, {"folded": seen})

    def _fold(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *x.shape[1 + self.axes :])

    def _unfold(self, x: Tensor, like: Tensor) -> Tensor:
        return x.reshape(*like.shape[: 1 + self.axes], *x.shape[1:])

    def _seen(self, at: Record) -> Record:
        """Return what the layer within saw."""

        def seen() -> Record:
            output = self._fold(at.output)
            before = output if at.preactivation is at.output else self._fold(at.preactivation)
            return Record((self._fold(at.inputs[0]),), before, output)

        return at.once("folded", seen)

    def _reference(self, at: Record, ref: Record) -> Record:
        """Return what the layer within saw of a reference, as many rows as it saw of the data."""
        rows = at.output.shape[0]
        if ref.output.shape[0] == rows:
            return self._seen(ref)

        def repeated() -> Record:
            def repeat(x: Tensor) -> Tensor:
                return self._fold(x.expand(rows, *x.shape[1:]))

            output = repeat(ref.output)
            before = output if ref.preactivation is ref.output else repeat(ref.preactivation)
            return Record((repeat(ref.inputs[0]),), before, output)

        return at.once_with(ref, "folded", repeated)

    # -- backward -----------------------------------------------------------------------------------------------

    def _down(self, g: Tensor, at: Record | None) -> Tensor:
        """Fold what comes to the layer, ``(K, B or 1, *lead, *dims)``, as many rows as the pass has."""
        rows = g.shape[1] if at is None else max(g.shape[1], at.output.shape[0])
        return g.expand(-1, rows, *g.shape[2:]).reshape(g.shape[0], -1, *g.shape[2 + self.axes :])

    def _up(self, pieces: list[Tensor | None]) -> list[Tensor | None]:
        lead = self.input_dims[0][: self.axes]
        rows = [None if x is None else x.shape[1] // math.prod(lead) for x in pieces]
        return [
            x if x is None or n is None else x.reshape(x.shape[0], n, *lead, *x.shape[2:])
            for x, n in zip(pieces, rows, strict=True)
        ]

    def gradient(self, g: Tensor, at: Record, *, skip_activation: bool = False) -> list[Tensor | None]:
        return self._up(self.inner.gradient(self._down(g, at), self._seen(at), skip_activation=skip_activation))

    def through_activation(self, g: Tensor, at: Record) -> Tensor:
        folded = self.inner.through_activation(self._down(g, at), self._seen(at))
        return folded.reshape(g.shape[0], -1, *self.output_dim)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        return self._up(self.inner.pullback(self._down(g, at), None if at is None else self._seen(at)))

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor | None]:
        seen, reference = self._seen(at), self._reference(at, ref)
        return self._up(
            self.inner.deeplift(self._down(m, at), seen, reference, rule, skip_activation=skip_activation)
        )  # fmt: skip

    def lrp(self, r: Tensor, at: Record, rule: Rule, *, is_output: bool = False) -> list[Tensor | None]:
        if isinstance(rule, ZBox):
            rule = rule.mapped(lambda bound: self._bounds(bound, at.output.shape[0]))
        return self._up(self.inner.lrp(self._down(r, at), self._seen(at), rule, is_output=is_output))

    def _bounds(self, bound: Tensor, rows: int) -> Tensor:
        """Return bounds that differ along the folded axes for each row of the layer within, others as they are."""
        (dim,) = self.input_dims
        if bound.dim() <= len(dim) - self.axes:
            return bound
        return bound.expand(rows, *dim).reshape(-1, *dim[self.axes :])

    def connection_weights(self, g: Tensor) -> list[Tensor | None]:
        return self._up(self.inner.connection_weights(self._down(g, None)))

    # -- how it is described ------------------------------------------------------------------------------------

    def deeplift_loss(self, rule: DeepLiftRule, *, skip_activation: bool = False) -> str | None:
        return self.inner.deeplift_loss(rule, skip_activation=skip_activation)

    def lrp_loss(self, rule: Rule) -> str | None:
        return self.inner.lrp_loss(rule)

    @property
    def lrp_kinds(self) -> tuple[type[Rule], ...]:
        return self.inner.lrp_kinds

    @property
    def kind(self) -> str:
        """What error messages call the layer."""
        return self.inner.kind
