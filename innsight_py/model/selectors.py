"""Which layers of a model the left side of a rule list means: names, classes, families, the first and the last."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

from innsight_py._checks import suggestion
from innsight_py.layers import Layer
from innsight_py.layers.normalization import Scale
from innsight_py.model.formulas import constants_in_formulas
from innsight_py.model.graph import Graph
from innsight_py.model.scores import scales_of_scores

#: What layers can be called by, whatever their names.
FAMILIES = (
    "dense", "convolution", "batch_norm", "scale", "average_pooling", "max_pooling", "sum", "resize", "activation",
    "normalization", "softmax", "product", "formula", "scores",
)  # fmt: skip
#: The families whose layers hold weights: "first" and "last" look for these.
WITH_WEIGHTS = ("dense", "convolution")


class Selected(NamedTuple):
    """What a selector means in a model.

    Attributes
    ----------
    layers : frozenset of str
        Names of the layers.
    activations : frozenset of str
        Names of the layers of which the activation is meant.
    by_kind : bool
        Whether the selector asks for layers of a kind, not for those with a name.
    why : str
        The selector in words.
    """

    layers: frozenset[str]
    activations: frozenset[str]
    by_kind: bool
    why: str


def select(graph: Graph, selector: str) -> Selected:
    """Find the layers that a selector means.

    Parameters
    ----------
    graph : Graph
        The model.
    selector : str
        The name of a layer, or of a module in the user's model, which stands for all that is in it, or a glob of these;
        a class of R; a family; ``"first"`` or ``"last"``, alone or with a family behind it. ``"module:dense"``,
        ``"class:..."`` and ``"family:dense"`` say which is meant where a word is a name as well.

    Raises
    ------
    ValueError
        If there is no such layer, or the word has two meanings.
    """
    how, colon, word = selector.partition(":")
    if colon and how in ("module", "class", "family"):
        found = {"module": _by_name, "class": _by_class, "family": _by_kind}[how](graph, word)
    else:
        found, word = _by_kind(graph, selector), selector
        named = _by_name(graph, selector)
        if found is not None and named is not None:
            other = "class" if selector in _classes() else "family"
            raise ValueError(
                f"Argument 'rule_name': '{selector}' is a {other} of layers and a name in the model; write "
                f"'{other}:{selector}' or 'module:{selector}'."
            )
        found = named if found is None else found
    if found is None:
        names = sorted({name for layer in _layers(graph) for name in names_of(layer)})
        kinds = (*FAMILIES, "first", "last")
        raise ValueError(
            f"Argument 'rule_name': the model has no layer or module '{word}', and there is no class or family of that "
            f"name{suggestion(word, (*names, *kinds, *_classes()))} Families: {', '.join(kinds)}. "
            f"Names: {_some(names)}."
        )
    return found


def names_of(layer: Layer) -> set[str]:
    """Return all names that mean a layer: its own, and those of the modules that it lies in."""
    return {layer.name, *_ancestors(layer.origin), *([layer.within] if layer.within else [])}


def _ancestors(origin: str | None) -> set[str]:
    """Return a path and the paths above it."""
    ends = [match.start() for match in re.finditer(r"[./]", origin or "")]
    return {origin[:end] for end in (*ends, len(origin))} if origin else set()


def _some(names: Collection[str]) -> str:
    shown = list(names)[:20]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")


def _layers(graph: Graph) -> Iterable[Layer]:
    return (graph.layer(node.name) for node in graph.nodes)


def _classes() -> set[str]:
    """Return R's names of all classes."""
    kinds: list[type[Layer]] = [Layer]
    for kind in kinds:  # it grows
        kinds += kind.__subclasses__()
    return {kind.r_class for kind in kinds if hasattr(kind, "r_class")}


def _by_kind(graph: Graph, word: str) -> Selected | None:
    position, _, family = word.partition(" ")
    if position in ("first", "last") and (word == position or family in FAMILIES):
        wanted = (family,) if family else WITH_WEIGHTS
        found = first(graph, wanted) if position == "first" else last(graph, wanted)
        return Selected(frozenset(found), frozenset(), True, f"family '{word}'")
    return _by_class(graph, word) or _by_family(graph, word)


def _by_class(graph: Graph, word: str) -> Selected | None:
    if word not in _classes():
        return None
    found = frozenset(node.name for node in graph.nodes if graph.layer(node.name).r_class == word)
    return Selected(found, frozenset(), True, f"class '{word}'")


def _by_family(graph: Graph, word: str) -> Selected | None:
    if word not in FAMILIES:
        return None
    if word == "formula":
        return Selected(constants_in_formulas(graph), frozenset(), True, f"family '{word}'")
    if word == "scores":
        return Selected(scales_of_scores(graph), frozenset(), True, f"family '{word}'")
    found = frozenset(node.name for node in graph.nodes if graph.layer(node.name).family == word)
    inside = {node.name for node in graph.nodes if _activation_family(graph.layer(node.name)) == word}
    return Selected(found, frozenset(inside), True, f"family '{word}'")


def _activation_family(layer: Layer) -> str | None:
    """Return the family of the activation that is a part of a layer."""
    if layer.activation.is_linear or layer.family in ("activation", "softmax"):
        return None
    return "activation" if layer.activation.is_elementwise else "softmax"


def _by_name(graph: Graph, pattern: str) -> Selected | None:
    def meant(names: Iterable[str]) -> bool:
        return any(name == pattern or fnmatchcase(name, pattern) for name in names)

    layers = frozenset(layer.name for layer in _layers(graph) if meant(names_of(layer)))
    inside = frozenset(layer.name for layer in _layers(graph) if meant(_ancestors(layer.activation_origin)))
    return Selected(layers, inside, False, f"name '{pattern}'") if layers or inside else None


def first(graph: Graph, families: Collection[str] = WITH_WEIGHTS) -> list[str]:
    """Find the first layers of some families on each path from an input."""
    before, found = set(graph.inputs), []
    for node in graph.nodes:
        layer = graph.layer(node.name)
        if not any(source in before for source in node.inputs) or _is_constant(layer):
            continue
        if layer.family in families:
            found.append(node.name)
        else:
            before.add(node.name)
    return found


def last(graph: Graph, families: Collection[str] = WITH_WEIGHTS) -> list[str]:
    """Find the last layers of some families on each path to an output."""
    behind, found = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if node.name not in behind:
            continue
        if graph.layer(node.name).family in families:
            found.append(node.name)
        else:
            behind.update(node.inputs)
    return found[::-1]


def _is_constant(layer: Layer) -> bool:
    """Tell whether a layer gives the same for every input."""
    return isinstance(layer, Scale) and not bool(layer.scale.any())
