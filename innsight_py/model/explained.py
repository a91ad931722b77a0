"""What is explained of an output: with `ignore_last_act` the score before the activation that makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from innsight_py.layers import Layer
from innsight_py.layers.activation import Activation
from innsight_py.layers.arithmetic import Add, MatMul, Multiply, Reduce
from innsight_py.layers.averages import Averaging
from innsight_py.layers.cast import Cast
from innsight_py.layers.choices import Choose, Gather
from innsight_py.layers.folded import Folded
from innsight_py.layers.normalization import Scale
from innsight_py.layers.structure import Concatenate, Flatten, Padding, Permute, Reshape, Skipping, Take

#: Layers that only move values: the score before an activation goes through them as the value behind it does.
_MOVING = (Flatten, Reshape, Permute, Take, Skipping)
#: Layers of one input through which a probability stays a number that is made of probabilities alone.
_TURNING = (*_MOVING, Activation, Averaging, Cast, Padding, Reduce, Scale)
#: The same of several inputs, if all of them are made of probabilities.
_JOINING = (Add, Concatenate, MatMul, Multiply)
#: Activations that make probabilities, or their logarithms.
_PROBABILITIES = frozenset(
    ("softmax", "log_softmax", "sparsemax", "keras_sparsemax", "sigmoid", "logistic", "logsigmoid", "hardsigmoid")
)
#: Functions that make another activation of some: the logarithm of a softmax, and back.
_REWRITING = {
    "log": frozenset(("softmax", "sigmoid", "logistic")),
    "exp": frozenset(("log_softmax", "logsigmoid")),
}


@dataclass(frozen=True)
class Explained:
    """The quantity of an output layer that is explained.

    Attributes
    ----------
    node : str
        The layer whose value is explained: the output layer, or what stands before its trailing identities.
    at_preactivation : bool
        Whether it is the value before the layer's activation.
    tail : tuple of Layer
        Layers behind the activation, in their order, which only move values: the value before it goes through them.
    """

    node: str
    at_preactivation: bool
    tail: tuple[Layer, ...] = ()

    def moved(self, value: Tensor) -> Tensor:
        """Bring a value of the layer, ``(B, *dims)``, to where it lies in the output, ``(B, nodes)``."""
        for layer in self.tail:
            value = layer.linear(value)
        return value

    def moved_back(self, seed: Tensor) -> Tensor:
        """Bring what a walk starts with, ``(K, B, nodes)``, to where the layer has it, ``(K, B, *dims)``."""
        for layer in reversed(self.tail):
            (pulled,) = layer.pullback(seed, None)
            assert pulled is not None
            seed = pulled
        return seed


class Kept(NamedTuple):
    """An activation that makes probabilities and cannot be left out: its layer, and what comes after it."""

    layer: Layer
    after: Layer


class Layered(Protocol):
    """What has layers, each with its inputs."""

    def layer(self, name: str) -> Layer:
        """Return the layer called `name`."""

    @property
    def sources(self) -> Mapping[str, Sequence[str]]:
        """For each layer the names of the values that it takes."""


def find_explained(graph: Layered, output: str, ignore_last_act: bool) -> Explained:
    """Find what is explained of an output layer: see `Explained`."""
    chain, at_preactivation = way_to_explained(graph, output, ignore_last_act)
    if not at_preactivation:
        return Explained(chain[-1], False)
    layers = (graph.layer(name) for name in reversed(chain[:-1]))
    tail = tuple(layer for layer in layers if isinstance(layer, _MOVING) and not layer.is_identity)
    return Explained(chain[-1], True, tail)


def way_to_explained(graph: Layered, output: str, ignore_last_act: bool) -> tuple[list[str], bool]:
    """Return the names of the layers from an output down to what is explained of it, and whether before its activation.

    Identities at the end (dropout) are looked through, and if the activation is to be left out everything that only
    moves values. The logarithm of a softmax is left out with it, and so is the exponential of a log-softmax.
    """
    chain = [output]
    while graph.layer(chain[-1]).is_identity and _source(graph, chain[-1]):
        chain.append(_source(graph, chain[-1]))
    last = graph.layer(chain[-1])
    if not ignore_last_act or (last.has_preactivation and last.activation.is_linear):
        return chain, ignore_last_act
    way, fitting = list(chain), None
    while True:
        name = way[-1]
        layer = graph.layer(name)
        if layer.has_preactivation and not layer.activation.is_linear:
            found = fitting is None or layer.activation.name in fitting
            return (way, True) if found else (chain, False)
        function = _REWRITING.get(layer.activation.name) if fitting is None and isinstance(layer, Activation) else None
        passes = function is not None or isinstance(layer, _MOVING) or _keeps_numbers(layer)
        if not passes or not _source(graph, name):
            return chain, False
        fitting = function or fitting
        way.append(_source(graph, name))


def find_kept(graph: Layered, what: Explained) -> Kept | None:
    """Find an activation that makes probabilities in what is explained, though no score was found to explain instead.

    None where what is explained is not made of probabilities alone: a gate, an attention, a hidden layer.
    """
    end = what.node
    if what.at_preactivation:
        if not isinstance(_inner(graph.layer(end)), Activation):
            return None
        end = _source(graph, end)
    known: dict[str, Kept] = {}
    for name in graph.sources:
        layer = graph.layer(name)
        if layer.activation.name in _PROBABILITIES:
            known[name] = Kept(layer, layer)
        else:
            found = _joined([known.get(source) for source in graph.sources[name]], _inner(layer))
            if found is not None:
                known[name] = found._replace(after=layer) if found.after is found.layer else found
        if name == end:
            break
    found = known.get(end)
    return found._replace(after=graph.layer(what.node)) if found and found.after is found.layer else found


def _joined(each: Sequence[Kept | None], layer: Layer) -> Kept | None:
    """Return what is found behind a layer, from what was found before it."""
    if isinstance(layer, _TURNING) or layer.family == "max_pooling":
        return each[0]
    if isinstance(layer, Choose):
        each = each[1:]  # the first is the condition
    elif isinstance(layer, Gather):
        each = each[:1]  # the second has numbers
    elif not isinstance(layer, _JOINING):
        return None
    found = next((one for one in each if one), None)
    return found if isinstance(layer, Concatenate) or all(each) else None


def _source(graph: Layered, name: str) -> str:
    """Return the layer whose value a layer takes; nothing if it takes an input of the graph."""
    source = graph.sources[name][0]
    return source if source in graph.sources else ""


def _inner(layer: Layer) -> Layer:
    return layer.inner if isinstance(layer, Folded) else layer


def _keeps_numbers(layer: Layer) -> bool:
    """Tell whether a layer gives the same numbers in another precision."""
    return isinstance(layer, Cast) and layer.dtype.is_floating_point
