"""A part of a model that is explained like a model: from inner layers, or up to a neuron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from innsight_py._checks import describe, is_whole
from innsight_py._text import dims_text
from innsight_py.inputs.data import channels_last
from innsight_py.inputs.names import default_names
from innsight_py.inputs.ports import make_ports
from innsight_py.model.explainable import Explainable
from innsight_py.model.graph import Graph
from innsight_py.model.section import Neuron, Section, find_place


class Part(Explainable):
    """The part of a model between some layers and what is explained, with shapes and names of its own.

    Parameters
    ----------
    whole : Explainable
        The model.
    layer : str or sequence of str, optional
        The layers that take the place of the inputs.
    neuron : tuple, optional
        The name of a layer and an index into its value (or a list of these), which takes the place of the outputs.
    channels_first : bool
        How the user's data lie, and so the index of a neuron.

    Attributes
    ----------
    nodes : list of int or None
        The nodes of the only output that a neuron means; None without one.
    """

    def __init__(self, whole: Explainable, layer: Any, neuron: Any, channels_first: bool) -> None:
        self.whole = whole
        graph = whole.model_in("float")
        if not graph.places:
            argument = "neuron" if layer is None else "layer"
            raise ValueError(
                f"Argument '{argument}': the layers of a module are known only to a Converter; convert it."
            )
        self.layers = None if layer is None else _read_layers(layer)
        self.nodes: list[int] | None = None
        self._neuron: tuple[str, tuple[int, ...] | None] | None = None
        self.channels_first = whole.channels_first
        self.inputs, self.outputs = whole.inputs, whole.outputs
        self._sections: dict[tuple[Graph, str | None], Section] = {}
        if self.layers is not None:
            dims = [_dim(graph, name, "layer") for name in self.layers]
            self.inputs = make_ports(self.layers, dims, [default_names(dim) for dim in dims])
        if neuron is not None:
            self._read_neuron(graph, neuron, channels_first)

    def _read_neuron(self, graph: Graph, neuron: Any, channels_first: bool) -> None:
        if not isinstance(neuron, tuple | list) or len(neuron) != 2:
            raise TypeError(
                f"Argument 'neuron': expected a pair, the name of a layer and an index, got {describe(neuron)}."
            )
        name, index = neuron
        dim = _dim(graph, name, "neuron")
        own = dim if channels_first else channels_last(dim)
        one = isinstance(index, list) and len(dim) > 1 and all(is_whole(entry) for entry in index)  # as JSON has it
        index = tuple(index) if one else index
        several = isinstance(index, list)
        indices = [_index(entry, own, name) for entry in (index if several else [index])]
        if not indices or len(set(indices)) < len(indices):
            raise ValueError(f"Argument 'neuron': expected indices that differ, at least one, got {describe(index)}.")
        labels = [f"{name}[{', '.join(map(str, entry))}]" for entry in indices]
        if len(dim) == 1:
            self._neuron, self.nodes = (name, None), [entry[0] for entry in indices]
            labels = [f"{name}[{i}]" for i in range(dim[0])]
        else:
            first = indices if channels_first else [(entry[-1], *entry[:-1]) for entry in indices]
            self._neuron = name, tuple(int(np.ravel_multi_index(entry, dim)) for entry in first)
            self.nodes = list(range(len(indices)))
        self.outputs = make_ports([name], [(len(labels),)], [[labels]])

    def model_in(self, dtype: Literal["float", "double"]) -> Section:
        """Return the section in a precision."""
        return self.section(self.whole.model_in(dtype))

    def section(self, graph: Graph, layer: str | None = None) -> Section:
        """Return the section of a graph of the model: from all layers, or from one of them."""
        key = (graph, layer)
        if key not in self._sections:
            names = self.layers if layer is None else [layer]
            places = None if names is None else [find_place(graph, name, "layer") for name in names]
            neuron = None
            if self._neuron is not None:
                neuron = Neuron(find_place(graph, self._neuron[0], "neuron"), self._neuron[1])
            self._sections[key] = Section(graph, places, neuron)
        return self._sections[key]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_sections": {}}


def _read_layers(layer: Any) -> list[str]:
    names = [layer] if isinstance(layer, str) else layer
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"Argument 'layer': expected the name of a layer or a list of names, got {describe(layer)}.")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"Argument 'layer': expected names that differ, at least one, got {describe(layer)}.")
    return list(names)


def _dim(graph: Graph, name: Any, argument: str) -> tuple[int, ...]:
    return graph.layer(find_place(graph, name, argument).layer).output_dim


def _index(entry: Any, dim: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Read an index into a value of shape `dim`."""
    numbers = entry if isinstance(entry, tuple) else (entry,)
    if not all(is_whole(number) for number in numbers):
        raise TypeError(f"Argument 'neuron': expected whole numbers as an index, got {describe(entry)}.")
    found = tuple(int(number) for number in numbers)
    if len(found) != len(dim) or not all(0 <= i < n for i, n in zip(found, dim, strict=True)):
        example = 0 if len(dim) == 1 else (0,) * len(dim)
        raise ValueError(
            f"Argument 'neuron': the value of '{name}' has the shape {dims_text([dim])}; expected an index of "
            f"{len(dim)} number(s) that lies in it, such as {example}, got {describe(entry)}."
        )
    return found
