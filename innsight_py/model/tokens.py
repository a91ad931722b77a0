"""Where attributions lie for inputs that go into an embedding: at the vectors, one number an entry.

A whole number has no gradient. So a walk begins at the embeddings instead of the inputs that go into them, and what
comes to a vector is summed and written to the entry of the input that was looked up.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from innsight_py.inputs.names import default_names
from innsight_py.inputs.tokens import TokenNames, token_texts
from innsight_py.layers import Layer
from innsight_py.layers.activation import Activation
from innsight_py.layers.base import Carrying
from innsight_py.layers.cast import Cast, Detach
from innsight_py.layers.choices import Embedding
from innsight_py.layers.normalization import Scale
from innsight_py.layers.operator import Operator
from innsight_py.model.graph import Graph
from innsight_py.model.section import Neuron, Section
from innsight_py.spec.ports import Kind

#: Layers that change numbers of tokens one by one.
_ENTRYWISE = (Cast, Scale, Activation, Operator)


class Looked(NamedTuple):
    """An embedding of an input: its layer, the input, and which entry of the input (flat) each of its vectors has."""

    layer: str
    source: str
    positions: Tensor


def looked_up(graph: Graph) -> list[Looked]:
    """Find the embeddings that take entries of the inputs, where they are followed by something that is explained.

    Not those of whole numbers that are made of an entry which counts as a number elsewhere: that is a step of a
    function, and a step has no gradient.
    """
    return list(_known(graph))


def looks_up(graph: Graph) -> bool:
    """Tell whether there are any of these."""
    known = graph.__dict__.get("_looked_up")
    return bool(_known(graph) if known is None else known)


def _known(graph: Graph) -> Sequence[Looked]:
    known: Sequence[Looked] | None = graph.__dict__.get("_looked_up")
    if known is None:
        known = graph.__dict__["_looked_up"] = _find(graph)
    return known


def _find(graph: Graph) -> list[Looked]:
    if not any(isinstance(graph.layer(node.name), Embedding) for node in graph.nodes):
        return []
    used: set[str] = set(graph.outputs)
    for node in graph.nodes:
        if not isinstance(graph.layer(node.name), Detach):
            used.update(node.inputs)
    positions = _positions(graph)
    sources = {node.name: next((source for source in node.inputs if source in positions), None) for node in graph.nodes}
    numbers, cut = _numbers(graph, positions), _made_whole(graph, positions)
    found = []
    for name, source in sources.items():
        if source is None or name not in used or not isinstance(graph.layer(name), Embedding):
            continue
        origin, here = positions[source]
        looked = Looked(name, origin, here.flatten().long())
        if source not in cut or numbers[origin].isdisjoint(looked.positions.tolist()):
            found.append(looked)
    return found


def _positions(graph: Graph) -> dict[str, tuple[str, Tensor]]:
    """Return for each value that has entries of an input, moved or changed one by one, the input and which they are."""
    found: dict[str, tuple[str, Tensor]] = {}
    for name, dim in zip(graph.inputs, graph.input_dims, strict=True):
        found[name] = name, torch.arange(int(torch.tensor(dim).prod()), dtype=torch.float64).reshape(1, *dim)
    for node in graph.nodes:
        layer = graph.layer(node.name)
        source = next((source for source in node.inputs if source in found), None)
        if source is None or isinstance(layer, Embedding):
            continue
        name, here = found[source]
        if isinstance(layer, Carrying) and len(node.inputs) == 1 and not _sums(layer):
            found[node.name] = name, layer.linear(here)
        elif isinstance(layer, _ENTRYWISE) and tuple(here.shape[1:]) == layer.output_dim and not _is_truth(layer):
            found[node.name] = name, here
    return found


def _made_whole(graph: Graph, positions: Collection[str]) -> set[str]:
    """Return the values that have whole numbers which were made of others."""
    found: set[str] = set()
    for node in graph.nodes:
        if node.name in positions and (graph.layer(node.name).gives_whole_numbers or not found.isdisjoint(node.inputs)):
            found.add(node.name)
    return found


def _numbers(graph: Graph, positions: dict[str, tuple[str, Tensor]]) -> dict[str, set[int]]:
    """Return for each input the entries that count as numbers somewhere, with a gradient."""
    found: dict[str, set[int]] = {name: set() for name in graph.inputs}
    flowing = flowing_from(graph, graph.inputs)
    for node in graph.nodes:
        if node.name in flowing and (node.name not in positions or node.name in graph.outputs):
            for source in flowing.intersection(node.inputs).intersection(positions):
                name, here = positions[source]
                found[name].update(here.flatten().long().tolist())
    return found


def sizes_of(graph: Graph) -> list[tuple[Looked, int]]:
    """Return the embeddings that take entries of inputs as these are, each with the number of its vectors."""
    return [(looked, size) for looked, size, plain in _sizes(graph) if plain]


def _sizes(graph: Graph) -> list[tuple[Looked, int, bool]]:
    """Return embeddings with the numbers of their vectors, and whether they take the entries as they are."""
    all_looked = looked_up(graph)
    source = {node.name: node.inputs[0] for node in graph.nodes} if all_looked else {}
    found = []
    for looked in all_looked:
        before = source[looked.layer]
        while before in source and isinstance(graph.layer(before), Carrying | Cast):
            before = source[before]
        layer = graph.layer(looked.layer)
        if isinstance(layer, Embedding):
            found.append((looked, len(layer.weight), before == looked.source))
    return found


def with_vectors(graph: Graph, rows: Sequence[Tensor], without: Collection[int]) -> list[Tensor]:
    """Return rows whose entries that are looked up have vectors; of all inputs but some."""
    found = [x.clone() for x in rows]
    generator = torch.Generator().manual_seed(6)
    for looked, size, plain in _sizes(graph):
        j = graph.inputs.index(looked.source)
        if j not in without:
            flat = found[j].flatten(1)
            most = size if plain else min(size, 2)  # an offset may be added to them
            flat[:, looked.positions] = torch.randint(most, (len(flat), len(looked.positions)), generator=generator).to(
                flat
            )
            found[j] = flat.reshape(found[j].shape)
    return found


def _sums(layer: Layer) -> bool:
    return layer.family in ("sum", "average_pooling")


def _is_constant(layer: Layer) -> bool:
    """Tell whether a layer gives the same whatever comes: a constant of the model, hung on one of its inputs."""
    return isinstance(layer, Scale) and not bool(layer.scale.any())


def _is_truth(layer: Layer) -> bool:
    """Tell whether a layer makes truth values of numbers: what is looked up with these is no token."""
    if isinstance(layer, Cast):
        return layer.dtype == torch.bool
    if not isinstance(layer, Operator):
        return False
    return layer.plain_name in _TRUTHS


_TRUTHS = (
    "eq", "ne", "lt", "le", "gt", "ge", "isin", "logical_not", "logical_and", "logical_or", "logical_xor",
    "bitwise_and", "bitwise_or", "bitwise_not", "bitwise_xor", "isnan", "isfinite", "cumsum", "cumprod", "cummax",
    "sort", "argsort", "__and__", "__or__", "__xor__", "not_equal", "greater", "less", "greater_equal", "less_equal",
)  # fmt: skip


def kinds_of(graph: Graph, kinds: Sequence[Kind] | None, dims: Sequence[Kind]) -> list[Kind]:
    """Return the kinds of inputs: those that are given, and "tokens" for one of which all that is used is looked up.

    Parameters
    ----------
    graph : Graph
        The graph.
    kinds : sequence of str, optional
        What the spec says.
    dims : sequence of str
        What the shapes say.
    """
    if kinds is not None:
        return list(kinds)
    found = list(dims)
    embedded = {looked.source for looked in looked_up(graph)}
    numbers = _numbers(graph, _positions(graph)) if embedded else {}
    for j, name in enumerate(graph.inputs):
        if name in embedded and not numbers[name]:
            found[j] = "tokens"
    return found


def at_vectors(graph: Graph, neuron: Neuron | None = None) -> Section | None:
    """Return the part of a graph in which vectors take the place of the inputs that go into embeddings.

    None for a graph without embeddings. Inputs that go elsewhere as well stay.
    """
    found = _known(graph)
    if not found:
        return None
    sections = graph.__dict__.setdefault("_at_vectors", {})
    if neuron not in sections:
        starts = [*_with_gradient(graph, [looked.layer for looked in found]), *(looked.layer for looked in found)]
        sections[neuron] = Section(graph, None, neuron, starts)
    section: Section = sections[neuron]
    return section


def _with_gradient(graph: Graph, vectors: Sequence[str]) -> list[str]:
    """Return the inputs from which something flows that is neither looked up nor taken as given."""
    found = []
    for name in graph.inputs:
        flowing = flowing_from(graph, [name], vectors)
        if any(output in flowing for output in graph.outputs):
            found.append(name)
    return found


def flowing_from(graph: Graph, names: Sequence[str], without: Sequence[str] = ()) -> set[str]:
    """Return some values and all that depend on them with a gradient."""
    flowing = set(names)
    for node in graph.nodes:
        layer = graph.layer(node.name)
        stops = isinstance(layer, Detach | Embedding) or layer.gives_whole_numbers or _is_constant(layer)
        stops = stops or node.name in without
        if not stops and not flowing.isdisjoint(node.inputs):
            flowing.add(node.name)
    return flowing


def to_entries(piece: Tensor, looked: Looked, dim: tuple[int, ...]) -> Tensor:
    """Sum what came to vectors ``(K, B, ..., size)``, and write it to the entries of the input, ``(K, B, *dim)``."""
    sums = piece.sum(-1).flatten(2)
    size = int(torch.tensor(dim).prod())
    positions = looked.positions.to(piece.device)
    return sums.new_zeros((*sums.shape[:2], size)).index_add_(2, positions, sums).reshape(*sums.shape[:2], *dim)


def words_of_outputs(
    graph: Graph, dims: Sequence[tuple[int, ...]], token_names: TokenNames | None
) -> list[list[list[str]]] | None:
    """Return labels of outputs with a node for each number of tokens: their texts; None where there are no such.

    Places before that (what a language model says after each token) are counted from 1.
    """
    if token_names is None:
        return None
    layers = [graph.layer(looked.layer) for looked in looked_up(graph)]
    sizes = {len(layer.weight) for layer in layers if isinstance(layer, Embedding)}
    if not any(dim and dim[-1] in sizes for dim in dims):
        return None
    labels = []
    for dim in dims:
        names = default_names(dim, ("Y",) if len(dim) == 1 else None)
        if dim and dim[-1] in sizes:
            names = [*([str(i + 1) for i in range(n)] for n in dim[:-1]), _words(dim[-1], token_names)]
        labels.append([[str(name) for name in axis] for axis in names])
    return labels


def _words(size: int, token_names: TokenNames) -> list[str]:
    """Return the texts of all numbers, those that have none or share one with a number before by their numbers."""
    try:
        texts = token_texts(range(size), token_names)
    except Exception:  # a tokenizer may know fewer numbers than the model
        texts = [_word(number, token_names) for number in range(size)]
    seen: set[str] = set()
    labels = []
    for number, text in enumerate(texts):
        labels.append(str(number) if text in seen else text)
        seen.add(text)
    return labels


def _word(number: int, token_names: TokenNames) -> str:
    try:
        return token_texts([number], token_names)[0]
    except Exception:
        return str(number)
