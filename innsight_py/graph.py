"""The converted model: layers in topological order, one walk forward and one walk backward.

The forward walk leaves a `Trace` behind, which holds all that the pass saw; the layers themselves hold parameters
only. So one model can be used by several threads at once, and a pass that fails leaves nothing behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from innsight_py._checks import describe
from innsight_py.layers import Layer, Record, build_layer
from innsight_py.layers.base import lay_out
from innsight_py.spec import ModelSpec, SpecError

#: The dry run computes layers with at most so many values at their inputs and output; of others it finds the shapes.
DRY_RUN = 2**22
#: An input may have labels for at most so many features, an output for so many nodes.
LABELS = 2**22
#: How a rule takes what came to a layer down to the layer's inputs:
#: (layer, upper tensor, name of the layer, what is explained if the walk starts here) -> one tensor an input, or None
#: where nothing goes.
Step = Callable[[Layer, Tensor, str, "Explained | None"], list[Tensor | None]]


class Node(NamedTuple):
    """A layer's place in the graph: its name and the names of the values it takes."""

    name: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Explained:
    """The quantity of an output layer that is explained.

    Attributes
    ----------
    node : str
        The layer whose value is explained: the output layer, or what stands before its trailing identities.
    at_preactivation : bool
        Whether it is the value before the layer's activation.
    """

    node: str
    at_preactivation: bool


class Sizes(NamedTuple):
    """Numbers of values: what one row takes in a whole trace, and at the widest layer alone; what all weights take."""

    trace: int
    widest: int
    weights: int


class Trace:
    """What one forward pass saw: the value of every input and layer, and what layers computed on the way."""

    def __init__(self, records: dict[str, Record], values: dict[str, Tensor]) -> None:
        self._records = records
        self.values = values

    def __getitem__(self, name: str) -> Record:
        return self._records[name]

    def explained(self, what: Explained) -> Tensor:
        """Value of an explained quantity, shape ``(B, nodes)``."""
        record = self._records[what.node]
        return record.preactivation if what.at_preactivation else record.output

    def row(self, i: int) -> Trace:
        """Return the trace of the i-th row alone, with a batch axis of 1."""
        values = {name: value[i : i + 1] for name, value in self.values.items()}
        return Trace({name: record.row(i, values[name]) for name, record in self._records.items()}, values)


class Graph(nn.Module):
    """Layers and the values that they take from each other.

    Parameters
    ----------
    inputs, outputs : sequence of str
        Names of the input values and of the output layers.
    input_dims : sequence of tuple of int
        Shape of each input without the batch.
    nodes : sequence of Node
        The places of the layers, in an order in which each comes after what it takes.
    layers : iterable of Layer
        The layer of each node.
    """

    sizes: Sizes

    def __init__(
        self,
        inputs: Sequence[str],
        input_dims: Sequence[tuple[int, ...]],
        outputs: Sequence[str],
        nodes: Sequence[Node],
        layers: Iterable[Layer],
    ) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        self.input_dims = tuple(input_dims)
        self.outputs = tuple(outputs)
        self.nodes = list(nodes)
        self.layers = nn.ModuleList(layers)
        self._by_name = {node.name: i for i, node in enumerate(self.nodes)}
        self._layer_of = dict(zip(self._by_name, self._layers(), strict=True))
        self._last_use = self._find_last_use()
        self._images = self._find_images()

    # -- structure ----------------------------------------------------------------------------------------------

    def layer(self, name: str) -> Layer:
        """Return the layer called `name`."""
        return self._layer_of[name]

    @property
    def output_dims(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each output without the batch."""
        return tuple(self.layer(name).output_dim for name in self.outputs)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        weight = self._first_weight()
        return torch.device("cpu") if weight is None else weight.device

    @property
    def has_weights(self) -> bool:
        """Whether there are any; without them a graph works in every precision and on every device."""
        return self._first_weight() is not None

    def _first_weight(self) -> Tensor | None:
        """Return the first weight with a fraction; torch's own iterators look at all modules before."""
        for layer in self._layer_of.values():
            for weight in layer._buffers.values():
                if weight is not None and weight.is_floating_point():
                    return weight
        return next((x for x in chain(self.buffers(), self.parameters()) if x.is_floating_point()), None)

    def explained(self, output: int, ignore_last_act: bool) -> Explained:
        """Find what is explained of an output: its preactivation where it has one and that is asked for.

        Identities at the end (dropout) are looked through. A layer that is neither Dense nor a convolution is
        explained at its value.
        """
        name = self.outputs[output]
        while self.layer(name).is_identity and self.nodes[self._by_name[name]].inputs[0] in self._by_name:
            name = self.nodes[self._by_name[name]].inputs[0]
        return Explained(name, ignore_last_act and self.layer(name).has_preactivation)

    def count(self) -> Sizes:
        """Count how many numbers a row takes, once the shapes are known, and how many the weights are."""
        sizes = [math.prod(dim) for dim in self.input_dims]
        widest = max(sizes)
        for layer in self._layers():
            out = math.prod(layer.output_dim)
            sizes.append(out if layer.activation.is_linear else 2 * out)
            widest = max(widest, out + sum(math.prod(dim) for dim in layer.input_dims))
        return Sizes(sum(sizes), widest, sum(x.numel() for x in chain(self.buffers(), self.parameters())))

    def _layers(self) -> Iterable[Layer]:
        return (layer for layer in self.layers if isinstance(layer, Layer))

    def _find_last_use(self) -> dict[str, int]:
        last = {source: i for i, node in enumerate(self.nodes) for source in node.inputs}
        last.update(dict.fromkeys(self.outputs, len(self.nodes)))
        return last

    def _find_images(self) -> frozenset[str]:
        """Find the values that layers which work on images take or give."""
        at = [node for node, layer in zip(self.nodes, self._layers(), strict=True) if layer.takes_images]
        return frozenset(name for node in at for name in (node.name, *node.inputs))

    def _lay_out(self, name: str, x: Tensor) -> Tensor:
        return lay_out(x) if name in self._images else x

    # -- forward ------------------------------------------------------------------------------------------------

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        """Run the model.

        Parameters
        ----------
        *inputs : Tensor
            One tensor ``(B, *dims)`` for each input, channels first.

        Returns
        -------
        list of Tensor
            One tensor ``(B, nodes)`` for each output layer.
        """
        values = dict(zip(self.inputs, self.lay_out(inputs), strict=True))
        for i, (node, layer) in enumerate(zip(self.nodes, self._layers(), strict=True)):
            values[node.name] = layer(*(values[source] for source in node.inputs))
            for source in node.inputs:
                if self._last_use[source] == i:
                    values.pop(source, None)
        return [values[name] for name in self.outputs]

    def lay_out(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Lay inputs out in memory as the model is quickest with them."""
        return [self._lay_out(name, x) for name, x in zip(self.inputs, inputs, strict=True)]

    def trace(self, inputs: Sequence[Tensor]) -> Trace:
        """Run the model and keep all that the backward walk may need."""
        values = dict(zip(self.inputs, self.lay_out(inputs), strict=True))
        records: dict[str, Record] = {}
        for node, layer in zip(self.nodes, self._layers(), strict=True):
            record = layer.record(*(values[source] for source in node.inputs))
            records[node.name], values[node.name] = record, self._lay_out(node.name, record.output)
        return Trace(records, values)

    # -- backward -----------------------------------------------------------------------------------------------

    def backward(self, what: Explained, seed: Tensor, step: Step) -> list[Tensor | None]:
        """Walk back from an explained quantity to the inputs.

        Parameters
        ----------
        what : Explained
            Where to start.
        seed : Tensor
            What the walk starts with, shape ``(K, B or 1, nodes)``.
        step : callable
            How a layer takes what came to it down to its inputs.

        Returns
        -------
        list of Tensor or None
            For each input ``(K, B or 1, *dims)``; None where no path leads there.
        """
        arrived: dict[str, Tensor] = {what.node: seed}
        for i in range(self._by_name[what.node], -1, -1):
            node = self.nodes[i]
            upper = arrived.pop(node.name, None)
            if upper is None:
                continue
            pieces = step(self.layer(node.name), upper, node.name, what if node.name == what.node else None)
            for source, piece in zip(node.inputs, pieces, strict=True):
                if piece is None:
                    continue
                piece = self._lay_out(source, piece)
                arrived[source] = arrived[source] + piece if source in arrived else piece
        return [arrived.get(name) for name in self.inputs]


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
        self.to(dtype)
        self.requires_grad_(False)
        self.eval()
        if like is None:
            self._dry_run(spec, dtype)
        else:
            for layer, other in zip(self._layers(), like._layers(), strict=True):
                layer.input_dims, layer.output_dim = other.input_dims, other.output_dim
        self._lay_out_weights()
        self.sizes = self.count()

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the parameters; float32 for a model without any."""
        weight = self._first_weight()
        return torch.float32 if weight is None else weight.dtype

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
            raise ValueError(f"Argument 'inputs': expected {len(self.inputs)} tensors, got {len(inputs)}.")
        for x, dim in zip(inputs, self.input_dims, strict=True):
            if not isinstance(x, Tensor):
                raise TypeError(f"Argument 'inputs': expected tensors, got {describe(x)}.")
            if tuple(x.shape[1:]) != tuple(dim) or x.dim() != len(dim) + 1:
                raise ValueError(f"Argument 'inputs': expected the shape {_show([dim])}, got {tuple(x.shape)}.")
            if not x.is_floating_point() or (x.dtype != self.dtype and self.has_weights):
                raise ValueError(f"Argument 'inputs': expected a tensor of {self.dtype}, got one of {x.dtype}.")
        return super().forward(*inputs)

    def _lay_out_weights(self) -> None:
        """Lay kernels out as the images that they meet."""
        for layer in self._layers():
            weight = getattr(layer, "weight", None)
            if layer.takes_images and isinstance(weight, Tensor):
                image = torch.empty((1, *layer.input_dims[0]), dtype=weight.dtype, device=weight.device)
                if not lay_out(image).is_contiguous():
                    layer.weight = weight.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _dry_run(self, spec: ModelSpec, dtype: torch.dtype) -> None:
        if max(sum(dim) for dim in self.input_dims) > LABELS:
            raise SpecError(f"'input_dim': there is no room for an input of shape {_show(self.input_dims)}.")
        values = {
            name: torch.empty(1, *dim, dtype=dtype, device="meta")
            for name, dim in zip(self.inputs, self.input_dims, strict=True)
        }
        for given, layer in zip(spec.layers, self._layers(), strict=True):
            taken = [values[source] for source in given.inputs]
            found = tuple(tuple(x.shape[1:]) for x in taken)
            if given.dim_in is not None and _as_dims(given.dim_in) != found:
                raise SpecError(
                    f"{given.where}: key 'dim_in': calculated {_show(found)}, given {_show(_as_dims(given.dim_in))}."
                )
            layer.input_dims = found
            try:
                layer.check(found)
                values[given.name] = _outline(layer, taken)
            except (RuntimeError, ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
                raise SpecError(
                    f"{given.where}: cannot take an input of shape {_show(found)}"
                    f"{_weight_hint(layer)}: {str(error).partition(chr(10))[0]}"
                ) from None
            layer.output_dim = tuple(values[given.name].shape[1:])
            if given.dim_out is not None and _as_dims(given.dim_out) != (layer.output_dim,):
                raise SpecError(
                    f"{given.where}: key 'dim_out': calculated {_show((layer.output_dim,))}, "
                    f"given {_show(_as_dims(given.dim_out))}."
                )
        dims = tuple(self.layer(name).output_dim for name in self.outputs)
        for name, dim in zip(self.outputs, dims, strict=True):
            if len(dim) != 1:
                raise SpecError(
                    f"The output '{name}' has the shape {_show((dim,))}; an output must have one axis of nodes, (*, n)."
                )
            if dim[0] > LABELS:
                raise SpecError(f"The output '{name}' has the shape {_show((dim,))}; there is no room for so many.")
        if spec.output_dim is not None and spec.output_dim != dims:
            raise SpecError(f"'output_dim': calculated {_show(dims)}, given {_show(spec.output_dim)}.")


def _outline(layer: Layer, taken: Sequence[Tensor]) -> Tensor:
    """Return the shape and type of a layer's output, as a tensor without numbers.

    A file of a few bytes can ask for an output of any size, so the layer runs without numbers first, and with zeros
    only where these are few.
    """
    size = sum(x.numel() for x in taken)
    try:
        buffers = {name: buffer.to("meta") for name, buffer in layer.named_buffers()}
        outline: Tensor = torch.func.functional_call(layer, buffers, tuple(taken))
        size += outline.numel()
    except Exception:  # what is wrong, or only unknown without numbers, shows with zeros
        if size > DRY_RUN:
            raise
    if size > DRY_RUN:
        return outline
    return layer(*(torch.zeros(x.shape, dtype=x.dtype) for x in taken)).to("meta")  # type: ignore[no-any-return]


def _as_dims(dims: tuple[int, ...] | tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    return dims if dims and isinstance(dims[0], tuple) else (dims,)  # type: ignore[return-value]


def _weight_hint(layer: Layer) -> str:
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor):
        return ""
    axes = "(out, in)" if weight.dim() == 2 else "(out channels, in channels, kernel)"
    return f" with a weight {tuple(weight.shape)}, read as {axes}"


def _show(dims: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(f"(*, {', '.join(map(str, dim))})" for dim in dims)
