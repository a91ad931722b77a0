"""The graph of a checked spec, in a precision: how it is built, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from innsight_py._checks import describe
from innsight_py._errors import explained, see
from innsight_py._text import dims_text
from innsight_py.layers import build_layer
from innsight_py.model.dry_run import find_shapes
from innsight_py.model.graph import Graph, Node
from innsight_py.model.held import HeldInHalf, share_weights
from innsight_py.spec import ModelSpec, SpecError
from innsight_py.spec.places import places_of


class ConvertedModel(Graph):
    """A model as a graph of layers.

    Parameters
    ----------
    spec : ModelSpec
        The checked spec. Its shapes are checked here by a dry run.
    dtype : torch.dtype
        Precision of all parameters.
    like : ConvertedModel, optional
        A model of the same spec, whose shapes are taken over instead of finding them out again.

    Raises
    ------
    SpecError
        If a layer cannot take the shape that comes to it, or a given shape is not the computed one.
    """

    def __init__(self, spec: ModelSpec, dtype: torch.dtype = torch.float32, like: ConvertedModel | None = None) -> None:
        nodes = [Node(layer.name, layer.inputs) for layer in spec.layers]
        super().__init__(
            spec.inputs, spec.input_dim, spec.outputs, nodes, (build_layer(layer) for layer in spec.layers)
        )
        given = {name: x for name, x in self.named_buffers() if x.dtype == torch.float64}
        self.to(dtype)
        self._refuse_overflow(given)
        self.requires_grad_(False)
        self.eval()
        if like is None:
            find_shapes(self, spec, dtype)
        else:
            for layer, other in zip(self.all_layers(), like.all_layers(), strict=True):
                layer.input_dims, layer.output_dim = other.input_dims, other.output_dim
                layer.gives_whole_numbers = other.gives_whole_numbers
        for given_layer, layer in zip(spec.layers, self.all_layers(), strict=True):
            share_weights(given_layer, layer, dtype)
        self.sizes = self.count()
        self.places = places_of(spec.layers, spec.layer_names)
        self.preparation = spec.preparation
        for step in (self.layer(name) for names in self.preparation.values() for name in names):
            if (step.output_dim,) != step.input_dims:
                raise SpecError(
                    f"Layer '{step.name}': key 'preprocessing': expected a layer that keeps the shape, this one makes "
                    f"{dims_text([step.output_dim])} of {dims_text(step.input_dims)}. Leave the key out."
                )

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the parameters; float32 for a model without any."""
        for layer in self.all_layers():
            if isinstance(layer._buffers, HeldInHalf):
                return layer._buffers.dtype
        weight = self._first_weight()
        return torch.float32 if weight is None else weight.dtype

    def bytes_of_weights(self) -> int:
        """Return how many bytes the weights take."""
        return sum(x.numel() * x.element_size() for x in self.buffers())

    @explained
    def forward(self, *inputs: Tensor) -> list[Tensor]:
        """Run the model.

        Parameters
        ----------
        *inputs : Tensor
            One tensor ``(B, *dims)`` for each input, channels first, in the precision of the model.

        Returns
        -------
        list of Tensor
            One tensor ``(B, nodes)`` for each output layer.

        Raises
        ------
        TypeError, ValueError
            If these are not as many tensors of these shapes and this precision.
        """
        if len(inputs) != len(self.inputs):
            raise ValueError(
                see("data-shapes", f"Argument 'inputs': expected {len(self.inputs)} tensors, got {len(inputs)}.")
            )
        for x, dim in zip(inputs, self.input_dims, strict=True):
            if not isinstance(x, Tensor):
                raise TypeError(
                    see(
                        "numbers-only",
                        f"Argument 'inputs': expected tensors of {self.dtype}, got {describe(x)}. "
                        "torch.as_tensor makes one of an array.",
                    )
                )
            if tuple(x.shape[1:]) != tuple(dim) or x.dim() != len(dim) + 1:
                raise ValueError(
                    see(
                        "data-shapes",
                        f"Argument 'inputs': expected the shape {dims_text([dim])}, got {tuple(x.shape)}.",
                    )
                )
            if not x.is_floating_point() or (x.dtype != self.dtype and self.has_weights):
                raise ValueError(
                    see(
                        "numbers-only",
                        f"Argument 'inputs': expected a tensor of {self.dtype}, got one of {x.dtype}. "
                        f"Write x.to({self.dtype}).",
                    )
                )
        return super().forward(*inputs)

    def _refuse_overflow(self, given: Mapping[str, Tensor]) -> None:
        """Refuse finite weights that are infinite in the precision of the model, in which nothing would be right."""
        for name, now in self.named_buffers():
            before = given.get(name)
            if before is None or now.dtype == before.dtype or not bool(now.isinf().any()):
                continue
            if bool((now.isinf() & before.isfinite()).any()):
                _, number, key = name.split(".", 2)
                largest = float(before[before.isfinite()].abs().max())
                raise SpecError(
                    f"Layer '{self.nodes[int(number)].name}': key '{key}' has {largest:.3g}, which single precision "
                    f'cannot hold (up to {torch.finfo(now.dtype).max:.3g}). Convert and explain with dtype="double".'
                )
