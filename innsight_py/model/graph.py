"""A graph of layers in topological order: one walk forward and one walk backward.

The forward walk leaves a `Trace` behind, which holds all that the pass saw; the layers themselves hold parameters
only. So one model can be used by several threads at once, and a pass that fails leaves nothing behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from innsight_py.functions.layout import lay_out
from innsight_py.layers import Layer, Record
from innsight_py.layers.cast import Detach
from innsight_py.layers.recurrent import Recurrent
from innsight_py.spec.places import Place

#: One backward step of a rule at a layer. It takes (layer, tensor that came from above, name of the layer, what is
#: explained if the walk starts here), and returns one tensor for each input of the layer: None where nothing flows.
Step = Callable[[Layer, Tensor, str, "Explained | None"], list[Tensor | None]]

#: Takes the name of a layer, the layer, and what a pass has just seen there.
Seen = Callable[[str, Layer, Record], None]


class Node(NamedTuple):
    """A layer's place in the graph: its name and the names of the values it takes."""

    name: str
    inputs: tuple[str, ...]


class _Visit(NamedTuple):
    """A layer with all that both walks ask at it.

    Attributes
    ----------
    name, inputs
        As those of its `Node`.
    layer : Layer
        The layer.
    is_image, is_input : bool
        Whether its value is laid out as an image, and whether it is an input as well.
    ways : tuple of (tuple or None)
        Where a walk back goes from here: for each input its name, and whether it is an image; None where it leads to no
        input of the graph.
    """

    name: str
    inputs: tuple[str, ...]
    layer: Layer
    is_image: bool
    is_input: bool
    ways: tuple[tuple[str, bool] | None, ...]


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
    """Numbers of values: what one row takes in a whole trace, and at the widest layer alone; what all weights take.

    `steps` is the number of steps in the longest loop through time, which come one after the other.
    """

    trace: int
    widest: int
    weights: int
    steps: int = 1


class Trace:
    """What one forward pass saw: the value of every input and layer, and what layers computed on the way."""

    def __init__(self, records: dict[str, Record], values: dict[str, Tensor]) -> None:
        self.records = records
        self.values = values

    def __getitem__(self, name: str) -> Record:
        return self.records[name]

    def explained(self, what: Explained) -> Tensor:
        """Value of an explained quantity, shape ``(B, nodes)``."""
        record = self.records[what.node]
        return record.preactivation if what.at_preactivation else record.output

    def row(self, i: int) -> Trace:
        """Return the trace of the i-th row alone, with a batch axis of 1."""
        return self.rows(slice(i, i + 1))

    def rows(self, places: slice) -> Trace:
        """Return the trace of some rows alone."""
        values = {name: value[places] for name, value in self.values.items()}
        outputs = (values.get(name, record.output[places]) for name, record in self.records.items())
        pairs = zip(self.records.items(), outputs, strict=True)
        return Trace({name: record.rows(places, output) for (name, record), output in pairs}, values)


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
    #: Values that come with each row after the inputs, and get no attribution.
    held: tuple[str, ...] = ()
    held_dims: tuple[tuple[int, ...], ...] = ()

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
        #: For each input that is prepared the names of the layers that do so, see `innsight_py.spec.preparation`.
        self.preparation: dict[str, tuple[str, ...]] = {}
        self._by_name = {node.name: i for i, node in enumerate(self.nodes)}
        # Torch's own ways to its modules take longer than a small layer does.
        own = [layer for layer in self.layers if isinstance(layer, Layer)]
        self._layer_of = dict(zip(self._by_name, own, strict=True))
        self._last_use = self._find_last_use()
        self._images = self._find_images()
        #: What the inner values are called in the user's model.
        self.places: dict[str, Place] = {}
        self._leads = self._find_leads()
        self._steps = self._find_steps()
        self._fed = self._find_fed()
        self._done = self._find_done()

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

    def is_image(self, name: str) -> bool:
        """Tell whether a value is laid out in memory as an image, see `lay_out`."""
        return name in self._images

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

    @property
    def takes_as_given(self) -> bool:
        """Whether the model detaches values, other than those of fixed inputs: DeepLift takes them as given."""
        return any(isinstance(layer, Detach) and not layer.fixed for layer in self.all_layers())

    def gradient_losses(self) -> list[str]:
        """Say where the model has no gradient, so that a path of gradients does not reach what it is to explain."""
        losses = []
        for layer in self.all_layers():
            at = f"'{layer.name}'{f' at {layer.place}' if layer.place else ''}"
            if isinstance(layer, Detach):
                if layer.fixed:
                    continue
                losses.append("the model detaches values ('detach()', 'torch.no_grad()'), which have no gradient")
            elif layer.gives_whole_numbers:
                losses.append(
                    f"values become truth values or whole numbers ({layer.kind} {at}), which have no gradient"
                )
            elif layer.jumps:
                losses.append(f"values jump ({layer.kind} {at}), which no gradient shows")
        return losses[:1]

    def count(self) -> Sizes:
        """Count how many numbers a row takes, once the shapes are known, and how many the weights are."""
        sizes = [math.prod(dim) for dim in (*self.input_dims, *self.held_dims)]
        widest = max(sizes)
        for layer in self.all_layers():
            sizes.append(layer.kept)
            widest = max(widest, layer.width)
        steps = max((layer.steps for layer in self.all_layers()), default=1)
        return Sizes(sum(sizes), widest, sum(x.numel() for x in chain(self.buffers(), self.parameters())), steps)

    def all_layers(self) -> Iterable[Layer]:
        """Return the layers in the order of their nodes."""
        return self._layer_of.values()

    def _find_last_use(self) -> dict[str, int]:
        last = {source: i for i, node in enumerate(self.nodes) for source in node.inputs}
        last.update(dict.fromkeys(self.outputs, len(self.nodes)))
        return last

    def _find_leads(self) -> frozenset[str]:
        """Find the values from which a walk back comes to an input."""
        leads = set(self.inputs)
        for node in self.nodes:
            if not leads.isdisjoint(node.inputs):
                leads.add(node.name)
        return frozenset(leads)

    def _find_fed(self) -> dict[str, tuple[Recurrent, Layer, str]]:
        """Find the recurrent layers that may run together with the layer before them, this one, and what it takes."""
        found: dict[str, tuple[Recurrent, Layer, str]] = {}
        for node in self.nodes:
            layer, before = self._layer_of[node.name], self._by_name.get(node.inputs[0])
            if isinstance(layer, Recurrent) and before is not None and layer.is_fed_by(self.layer(node.inputs[0])):
                found[node.name] = layer, self.layer(node.inputs[0]), self.nodes[before].inputs[0]
        return found

    def _find_done(self) -> list[list[str]]:
        """Find for each layer the values of layers that a pass takes for the last time there."""
        last = dict(self._last_use)
        for name, (_, _, before) in self._fed.items():
            last[before] = max(last[before], self._by_name[name])
        done: list[list[str]] = [[] for _ in self.nodes]
        for name, i in last.items():
            if name in self._by_name and name not in self.inputs and i < len(done):
                done[i].append(name)
        return done

    def _find_steps(self) -> list[_Visit]:
        """Find out what both walks ask at every layer."""
        return [
            _Visit(
                node.name, node.inputs, self._layer_of[node.name], node.name in self._images, node.name in self.inputs,
                tuple((source, source in self._images) if source in self._leads else None for source in node.inputs),
            )
            for node in self.nodes
        ]  # fmt: skip

    def _find_images(self) -> frozenset[str]:
        """Find the values that layers which work on images take or give."""
        at = [node for node, layer in zip(self.nodes, self.all_layers(), strict=True) if layer.takes_images]
        return frozenset(name for node in at for name in (node.name, *node.inputs))

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
        for i, (node, layer) in enumerate(zip(self.nodes, self.all_layers(), strict=True)):
            values[node.name] = layer(*(values[source] for source in node.inputs))
            for source in node.inputs:
                if self._last_use[source] == i:
                    values.pop(source, None)
        return [values[name] for name in self.outputs]

    def lay_out(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Lay inputs out in memory as the model is quickest with them."""
        if not self._images:
            return list(inputs)
        names = (*self.inputs, *self.held) if self.held else self.inputs
        return [lay_out(x) if name in self._images else x for name, x in zip(names, inputs, strict=True)]

    def trace(self, inputs: Sequence[Tensor], given: Trace | None = None, seen: Seen | None = None) -> Trace:
        """Run the model and keep all that the backward walk may need.

        Parameters
        ----------
        inputs : sequence of Tensor
            One tensor ``(B, *dims)`` for each input, and then for each value that is held.
        given : Trace, optional
            Another pass, of as many rows or of one, whose detached values are taken instead of this pass's own.
        seen : callable, optional
            What is done with each record as soon as it is there. Values are then kept no longer than layers take them,
            but for the inputs and the outputs.
        """
        if given is not None:
            rows = max(len(inputs[0]), len(given.values[self.inputs[0]]))
            inputs = [x.expand(rows, *x.shape[1:]) for x in inputs]
        laid = self.lay_out(inputs) if self._images else inputs
        values = dict(zip((*self.inputs, *self.held), laid, strict=True))
        records: dict[str, Record] = {}
        for i, (name, sources, layer, is_image, _, _) in enumerate(self._steps):
            if given is not None and isinstance(layer, Detach):
                record = layer.record(given.values[name].expand(len(inputs[0]), *layer.output_dim))
            elif name in self._fed:
                recurrent, dense, before = self._fed[name]
                record = recurrent.record_behind(dense, values[before], *[values[source] for source in sources])
            elif len(sources) == 1:
                record = layer.record(values[sources[0]])
            else:
                record = layer.record(*[values[source] for source in sources])
            records[name] = record
            values[name] = lay_out(record.output) if is_image else record.output
            if seen is not None:
                seen(name, layer, record)
                for source in self._done[i]:
                    values.pop(source, None)
        return Trace(records, values)

    # -- preparation --------------------------------------------------------------------------------------------

    @property
    def tail(self) -> Graph:
        """The graph from the prepared features on, with the same layers; itself where nothing is prepared."""
        return self._tail if self.preparation else self

    @cached_property
    def _tail(self) -> Graph:
        gone = {name for chain in self.preparation.values() for name in chain}
        starts = {chain[-1]: name for name, chain in self.preparation.items()}
        nodes = [
            Node(node.name, tuple(starts.get(source, source) for source in node.inputs))
            for node in self.nodes
            if node.name not in gone
        ]
        layers = (self.layer(node.name) for node in nodes)
        tail = Graph(self.inputs, self.input_dims, self.outputs, nodes, layers)
        tail.sizes = tail.count()
        tail.places = {name: place for name, place in self.places.items() if place.layer not in gone}
        return tail

    def prepare(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the prepared features of each input, which `tail` takes."""
        prepared = []
        for name, x in zip(self.inputs, inputs, strict=True):
            for step in self.preparation.get(name, ()):
                x = self.layer(step)(x)
            prepared.append(x)
        return prepared

    def center(self) -> list[Tensor | None]:
        """Return what becomes 0 of each prepared input, ``(1, *dims)``; None for an input that is not prepared."""
        found: list[Tensor | None] = []
        for name, dim in zip(self.inputs, self.input_dims, strict=True):
            chain = self.preparation.get(name)
            y = None if chain is None else torch.zeros(1, *dim, dtype=torch.float64, device=self.device)
            for step in reversed(chain or ()):
                assert y is not None
                y = self.layer(step).undo(y)
            found.append(y)
        return found

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
        reached: dict[str, Tensor] = {}  # inputs that are the value of a layer as well
        for i in range(self._by_name[what.node], -1, -1):
            name, _, layer, _, is_input, ways = self._steps[i]
            upper = arrived.pop(name, None)
            if upper is None:
                continue
            start = what if name == what.node else None
            if is_input and not (start is not None and start.at_preactivation):
                reached[name] = upper
            if not any(ways):
                continue
            for way, piece in zip(ways, step(layer, upper, name, start), strict=True):
                if piece is None or way is None:
                    continue
                source, is_image = way
                if is_image:
                    piece = lay_out(piece)
                arrived[source] = arrived[source] + piece if source in arrived else piece
        return [reached.get(name, arrived.get(name)) for name in self.inputs]
