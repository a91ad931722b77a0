"""A part of a graph: from the values at which attributions lie up to what is explained.

A walk back through a section costs only what lies between the two, and so does a pass forward. Values that the section
needs and that come by other ways (the other branch of a residual block, for example) are held: each row brings its own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from innsight_py._checks import describe, suggestion
from innsight_py.functions.activations import Activation
from innsight_py.layers import Layer, build_layer
from innsight_py.layers.cast import Detach
from innsight_py.model.graph import Explained, Graph, Node
from innsight_py.spec.layers import LAYER_SPECS
from innsight_py.spec.places import Place

#: What is put behind the name of a layer to name its value before the activation.
BEFORE = " before its activation"


class Neuron(NamedTuple):
    """What is explained inside a model: the place, and for a value of several axes which entries of it, flat."""

    place: Place
    entries: tuple[int, ...] | None


def find_place(graph: Graph, name: object, argument: str) -> Place:
    """Find the value that a name means.

    Raises
    ------
    TypeError, ValueError
        If it is no name of a layer.
    """
    if not isinstance(name, str):
        raise TypeError(f"Argument '{argument}': expected the name of a layer, got {describe(name)}.")
    place = graph.places.get(name)
    if place is None:
        names = list(graph.places)
        raise ValueError(
            f"Argument '{argument}': the model has no layer '{name}'{suggestion(name, names)} "
            f"Layers: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''} (all of them: Converter.layer_names)."
        )
    return place


class Section(Graph):
    """The part of a graph between some values and what is explained.

    Parameters
    ----------
    graph : Graph
        The whole graph, whose layers are shared.
    places : sequence of Place, optional
        Where the section begins. Default: at the inputs of the graph.
    neuron : Neuron, optional
        What is explained, instead of the outputs of the graph.
    starts : sequence of str, optional
        Values where the section begins, inputs among them, none of which is computed from another within it: see
        `innsight_py.model.tokens`.

    Attributes
    ----------
    held : tuple of str
        Values that come with each row and get no attribution.
    given : frozenset of str
        Those among them that depend on no explained input with a gradient: masks, positions, what is detached.
    is_cut : bool
        Whether every path to what is explained passes exactly one of the places.
    parents : dict
        For each layer the layer of the whole graph that it is, and whether it is only the activation of that.
    """

    def __init__(
        self,
        graph: Graph,
        places: Sequence[Place] | None = None,
        neuron: Neuron | None = None,
        starts: Sequence[str] | None = None,
    ) -> None:
        wanted = (*(places or ()), *((neuron.place,) if neuron is not None else ()))
        divided = {p.layer for p in wanted if p.before_activation and not graph.layer(p.layer).activation.is_linear}
        steps, self.parents = _divided_steps(graph, divided)

        def name(place: Place) -> str:
            return f"{place.layer}{BEFORE}" if place.before_activation and place.layer in divided else place.layer

        inputs = tuple(starts or graph.inputs) if places is None else tuple(name(place) for place in places)
        dims = dict(zip(graph.inputs, graph.input_dims, strict=True))
        dims |= {step.node.name: step.layer.output_dim for step in steps}
        if neuron is None:
            outputs = graph.outputs
            ends = {name for output in outputs for name in _chain(graph, output, divided)}
        else:
            end = name(neuron.place)
            if neuron.entries is not None:
                steps += _picked(end, dims[end], neuron.entries)
                end = steps[-1].node.name
            outputs, ends = (end,), {end}
        after = _after(steps, inputs)
        closed = set(starts or ())

        def lies_between(node: Node) -> bool:
            return node.name not in closed and (node.name in ends or not after.isdisjoint(node.inputs))

        kept = _before(steps, {*outputs, *ends}, lies_between)
        inside = {step.node.name for step in kept}
        held = {source for step in kept for source in step.node.inputs} - inside - set(inputs)
        self.held = tuple(x for x in (*graph.inputs, *(step.node.name for step in steps)) if x in held)
        self._explains_neuron = neuron is not None
        self._divided = frozenset(divided)
        super().__init__(
            inputs, [dims[x] for x in inputs], outputs, [step.node for step in kept], [step.layer for step in kept]
        )
        self.held_dims = tuple(dims[x] for x in self.held)
        self.given = frozenset(self.held) - self._flowing(graph)
        self.is_cut = self.given == frozenset(self.held) and inside.isdisjoint(inputs)
        self.sizes = self.count()
        self._whole = (graph,)  # in a tuple, so that torch does not count its weights as well
        self._head = _before(steps, {*inputs, *self.held}, lambda node: True)  # what finds the values to begin with

    def explained(self, output: int, ignore_last_act: bool) -> Explained:
        """Find what is explained of an output: of a neuron its value, whatever `ignore_last_act` says."""
        if self._explains_neuron:
            return Explained(self.outputs[output], False)
        what = super().explained(output, ignore_last_act)
        if ignore_last_act and what.node in self._divided:
            return Explained(f"{what.node}{BEFORE}", False)
        return Explained(what.node, what.at_preactivation and not self.layer(what.node).activation.is_linear)

    @staticmethod
    def _flowing(graph: Graph) -> set[str]:
        """Return the values that have a gradient with respect to inputs, or to vectors that are looked up in these."""
        flowing = set(graph.inputs)
        for node in graph.nodes:
            layer = graph.layer(node.name)
            stops = isinstance(layer, Detach) or layer.gives_whole_numbers
            if not stops and not flowing.isdisjoint(node.inputs):
                flowing.add(node.name)
        return flowing

    @torch.no_grad()
    def enter(self, inputs: Sequence[Tensor], instead: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Run the model up to where the section begins, and return the values there and those that are held.

        Parameters
        ----------
        inputs : sequence of Tensor
            One tensor ``(B, *dims)`` for each input of the whole model.
        instead : mapping, optional
            Values that take the place of those that layers have, ``(B or 1, *dims)``.
        """
        instead = instead or {}
        (whole,) = self._whole
        wanted = (*self.inputs, *self.held)
        last = {source: i for i, step in enumerate(self._head) for source in step.node.inputs}
        values = dict(zip(whole.inputs, whole.lay_out(inputs), strict=True))
        for i, (node, layer) in enumerate(self._head):
            values[node.name] = layer(*(values[source] for source in node.inputs))
            if node.name in instead:
                values[node.name] = instead[node.name].to(values[node.name]).expand_as(values[node.name])
            for source in node.inputs:
                if last[source] == i and source not in wanted:
                    values.pop(source, None)
        return [values[name] for name in wanted]


class _Step(NamedTuple):
    """A layer at its place in a graph."""

    node: Node
    layer: Layer


def _divided_steps(graph: Graph, divided: set[str]) -> tuple[list[_Step], dict[str, tuple[str, bool]]]:
    """Return the layers of a graph, some divided into their linear part and their activation; and what each was."""
    steps: list[_Step] = []
    parents: dict[str, tuple[str, bool]] = {}
    for node in graph.nodes:
        layer = graph.layer(node.name)
        if node.name in divided:
            before = f"{node.name}{BEFORE}"
            linear, activation = _divided(layer)
            steps += [_Step(Node(before, node.inputs), linear), _Step(Node(node.name, (before,)), activation)]
            parents |= {before: (node.name, False), node.name: (node.name, True)}
        else:
            steps.append(_Step(node, layer))
            parents[node.name] = (node.name, False)
    return steps, parents


def _after(steps: Sequence[_Step], names: Sequence[str]) -> set[str]:
    """Return some values and all that depend on them."""
    after = set(names)
    for step in steps:
        if not after.isdisjoint(step.node.inputs):
            after.add(step.node.name)
    return after


def _before(steps: Sequence[_Step], names: set[str], wanted: Callable[[Node], bool]) -> list[_Step]:
    """Return the wanted layers that some values depend on, through wanted layers alone."""
    needed, found = set(names), []
    for step in reversed(steps):
        if step.node.name in needed and wanted(step.node):
            found.append(step)
            needed.update(step.node.inputs)
    return found[::-1]


def _divided(layer: Layer) -> tuple[Layer, Layer]:
    """Divide a layer into its linear part and its activation."""
    linear = copy.copy(layer)
    linear.activation = Activation("linear")
    keys: dict[str, Any] = {"act_name": layer.activation.name, "act_params": dict(layer.activation.params)}
    alone = build_layer(
        LAYER_SPECS["Activation"].model_construct(
            None, type="Activation", name=layer.name, inputs=(layer.name,), place=layer.place, **keys
        )
    )
    alone.activation = layer.activation
    alone.input_dims, alone.output_dim = (layer.output_dim,), layer.output_dim
    return linear, alone


def _chain(graph: Graph, output: str, divided: set[str]) -> list[str]:
    """Return an output and what it is explained at, with all in between."""
    inputs = {node.name: node.inputs for node in graph.nodes}
    chain = [output]
    while graph.layer(chain[-1]).is_identity and inputs[chain[-1]][0] in inputs:
        chain.append(inputs[chain[-1]][0])
    if chain[-1] in divided:
        chain.append(f"{chain[-1]}{BEFORE}")
    return chain


def _picked(name: str, dim: tuple[int, ...], entries: Sequence[int]) -> list[_Step]:
    """Return layers that take some entries of a value of several axes."""
    flat, size = f"{name} flat", math.prod(dim)
    flatten = {"type": "Flatten", "name": flat, "inputs": [name]}
    take = {"type": "Take", "name": f"{name} picked", "inputs": [flat], "axis": 1, "indices": list(entries)}
    steps = []
    for keys, before, after in ((flatten, dim, (size,)), (take, (size,), (len(entries),))):
        spec = LAYER_SPECS[str(keys["type"])].model_validate(keys)
        layer = build_layer(spec)
        layer.input_dims, layer.output_dim = (before,), after
        steps.append(_Step(Node(layer.name, spec.inputs), layer))
    return steps
