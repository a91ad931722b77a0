"""Which rule of LRP each layer of a model follows, and why."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from torch import Tensor

from innsight_py.functions.lrp import Rule
from innsight_py.functions.lrp_rules import Simple, ZBox
from innsight_py.functions.lrp_weightless import Block, Gradient, Pass, Taylor, Winner
from innsight_py.layers import Layer
from innsight_py.layers.arithmetic import Add, Product
from innsight_py.layers.base import Carrying
from innsight_py.layers.cast import Detach
from innsight_py.layers.cells import HIDDEN
from innsight_py.layers.choices import Embedding, TopK
from innsight_py.layers.recurrent import Recurrent, Within
from innsight_py.layers.structure import Padding
from innsight_py.model.composites import Composite
from innsight_py.model.graph import Graph
from innsight_py.model.rule_names import Chosen
from innsight_py.model.section import Section
from innsight_py.model.selectors import Selected, select
from innsight_py.model.unrolled import STEPS, name_within, rules_within, unrolled

_PASSES = Pass()
#: For how many choices of rules a graph keeps what its layers follow.
MOST_KNOWN = 32
#: For each graph what its layers follow, by what was chosen. A graph itself stays as it is.
KNOWN: WeakKeyDictionary[Graph, dict[Hashable, dict[str, Assigned]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Assigned:
    """What one layer follows.

    Attributes
    ----------
    rule : Rule
        How the layer hands on relevance.
    why : str
        What chose the rule.
    activation : Rule
        How relevance passes the activation that is a part of the layer.
    activation_why : str
        What chose that.
    factor : int or None
        Of a product, the number of the one factor that depends on the inputs; None where both do.
    """

    rule: Rule
    why: str
    activation: Rule = _PASSES
    activation_why: str = "default"
    factor: int | None = None


def assign(graph: Graph, chosen: Chosen, winner_takes_all: bool, channels_first: bool = True) -> dict[str, Assigned]:
    """Give every layer of a model its rule, refusing those that a layer cannot follow.

    Parameters
    ----------
    graph : Graph
        The model.
    chosen : Rule, dict or list
        What `read_rules` returns.
    winner_takes_all : bool
        Whether maxima give all to the winner, whatever rule a class or all layers have.
    channels_first : bool
        Whether arrays among the parameters have their channels first.

    Raises
    ------
    ValueError
        If a layer does not take the rule that is meant for it, or a selector means nothing.
    """
    whole, graph = graph, unrolled(graph)
    given = _by_list(graph, chosen, winner_takes_all) if isinstance(chosen, list) else {}
    found = {}
    for node in graph.nodes:
        layer = graph.layer(node.name)
        assigned = given.get(node.name) or _by_default(layer, chosen, winner_takes_all)
        if isinstance(assigned.rule, ZBox):
            ranks = {len(dim) for dim in (*graph.input_dims, layer.input_dims[0])}
            rule = _at_layer(graph, layer, assigned.rule.for_layout(channels_first, ranks))
            assigned = replace(assigned, rule=rule)
        found[node.name] = assigned
    found = _with_constant_factors(graph, found, choices=isinstance(chosen, list))
    return found if graph is whole else _together(whole, found)


def assigned_once(graph: Graph, chosen: Chosen, winner_takes_all: bool, channels_first: bool) -> dict[str, Assigned]:
    """Do the same as `assign`; what was chosen before is looked up, for a graph never changes."""
    pairs: Hashable
    if isinstance(chosen, Rule):
        pairs, may_change = chosen, chosen.may_change
    else:
        listed = chosen if isinstance(chosen, list) else list(chosen.items())
        pairs, may_change = tuple(map(tuple, listed)), any(rule.may_change for _, rule in listed)
    if may_change:
        return assign(graph, chosen, winner_takes_all, channels_first)
    key = (type(chosen), pairs, winner_takes_all, channels_first)
    known = KNOWN.get(graph)
    if known is None:
        known = KNOWN.setdefault(graph, {})
    found = known.get(key)
    if found is None:
        found = assign(graph, chosen, winner_takes_all, channels_first)
        if len(known) >= MOST_KNOWN:
            known.clear()
        known[key] = found
    return found


def _together(graph: Graph, found: Mapping[str, Assigned]) -> dict[str, Assigned]:
    """Return what the layers of a graph follow, given that of each layer within its recurrent layers."""
    rules = {name: (it.rule, it.factor) for name, it in found.items()}
    together = {}
    for node in graph.nodes:
        layer, it = graph.layer(node.name), found[node.name]
        if isinstance(layer, Recurrent):
            weights = name_within(node.name, STEPS[1], HIDDEN)
            why = found[weights].why if weights in found else it.why
            it = Assigned(Within(rules_within(node.name, layer, rules)), why)
        together[node.name] = it
    return together


def _with_constant_factors(graph: Graph, found: dict[str, Assigned], choices: bool) -> dict[str, Assigned]:
    """Say of each product whether one factor alone depends on the inputs: the other is detached or blocked.

    With `choices` whole numbers and truth values (masks, which expert is asked) count as constants as well, but for
    those that an embedding turns into vectors.
    """
    depends, tokens = set(graph.inputs), set(graph.inputs)
    for node in graph.nodes:
        layer, it = graph.layer(node.name), found[node.name]
        factors = [i for i, source in enumerate(node.inputs) if source in depends]
        if isinstance(layer, Product) and len(factors) == 1:
            found[node.name] = replace(it, factor=factors[0])
        blocked = isinstance(it.rule, Block) or isinstance(it.activation, Block) or isinstance(layer, Detach | TopK)
        if blocked:
            continue
        if not tokens.isdisjoint(node.inputs):
            tokens.add(node.name)
        looked_up = isinstance(layer, Embedding) and node.name in tokens
        if looked_up or (factors and not (choices and layer.gives_whole_numbers)):
            depends.add(node.name)
    return found


def in_section(section: Section, assigned: Mapping[str, Assigned]) -> dict[str, Assigned]:
    """Return what the layers of a section follow: what they follow in the whole model."""
    found = {}
    for node in section.nodes:
        parent = section.parents.get(node.name)
        if parent is None:  # it only takes the entry that is explained
            found[node.name] = Assigned(section.layer(node.name).lrp_default, "default")
            continue
        name, is_activation = parent
        it = assigned[name]
        found[node.name] = Assigned(it.activation, it.activation_why) if is_activation else it
    return found


def everywhere(layer: Layer, rule: Rule, winner_takes_all: bool) -> Rule:
    """Return what a rule for all layers means for one: it is for layers that have a choice in R."""
    if not layer.lrp_asked or (winner_takes_all and layer.takes(Winner())):
        return default(layer, winner_takes_all)
    return rule


def default(layer: Layer, winner_takes_all: bool) -> Rule:
    """Return the rule of a layer for which none is chosen."""
    return Simple() if layer.takes(Winner()) and not winner_takes_all else layer.lrp_default


def _by_default(layer: Layer, chosen: Chosen, winner_takes_all: bool) -> Assigned:
    if isinstance(chosen, list):
        return Assigned(default(layer, winner_takes_all), "default")
    if isinstance(chosen, dict):
        rule = chosen.get(layer.r_class, chosen.get("", Simple()))
        why = f"class '{layer.r_class}'" if layer.r_class in chosen else "for all layers" if "" in chosen else "default"
    else:
        rule, why = chosen, "for all layers"
    if layer.lrp_asked and not layer.takes(rule):
        raise layer.refusal(rule)
    meant = everywhere(layer, rule, winner_takes_all)
    return Assigned(meant, why if meant is rule else "default")


def _by_list(graph: Graph, chosen: Composite, winner_takes_all: bool) -> dict[str, Assigned]:
    """Assign the rules of a list, of which the first that means a layer counts."""
    rules: dict[str, tuple[Rule, str]] = {}
    inside: dict[str, tuple[Rule, str]] = {}
    for selector, rule in chosen:
        meant = select(graph, selector)
        layers = [graph.layer(name) for name in (n.name for n in graph.nodes) if name in meant.layers]
        taken = [layer.name for layer in layers if _takes(layer, rule, winner_takes_all)]
        passed = frozenset(name for name in meant.activations if _is_for_activation(graph.layer(name), rule))
        for layer in layers:
            if layer.name in taken or layer.name in rules or ((taken or passed) and _beside(layer, meant)):
                continue
            raise _refusal(layer, rule, winner_takes_all)
        if meant.activations - passed and (meant.by_kind or not (taken or passed)):
            raise _activation_refusal(graph.layer(min(meant.activations - passed)), rule)
        for name in taken:
            rules.setdefault(name, (rule, meant.why))
        for name in passed:
            inside.setdefault(name, (rule, meant.why))
    found = {}
    for node in graph.nodes:
        layer = graph.layer(node.name)
        rule, why = rules.get(node.name, (default(layer, winner_takes_all), "default"))
        found[node.name] = Assigned(rule, why, *inside.get(node.name, (_PASSES, "default")))
    return found


def _takes(layer: Layer, rule: Rule, winner_takes_all: bool) -> bool:
    return layer.takes(rule) and not (winner_takes_all and layer.takes(Winner()) and not isinstance(rule, Winner))


def _is_for_activation(layer: Layer, rule: Rule) -> bool:
    """Tell whether the activation that is a part of a layer takes a rule."""
    return isinstance(rule, Pass | Gradient | Block) or (
        isinstance(rule, Taylor) and not layer.activation.is_elementwise
    )


def _beside(layer: Layer, meant: Selected) -> bool:
    """Tell whether a layer merely lies among those that a name means: it is not linear, or has only one way."""
    return not meant.by_kind and (layer.family in ("activation", "softmax", "max_pooling") or not layer.lrp_kinds)


def _refusal(layer: Layer, rule: Rule, winner_takes_all: bool) -> ValueError:
    if winner_takes_all and layer.takes(Winner()) and layer.takes(rule):
        return ValueError(
            f"Argument 'rule_name': the layer '{layer.name}' ({layer.r_class}) cannot use the rule '{rule.name}' while "
            "the winner takes all; pass winner_takes_all=False."
        )
    return layer.refusal(rule)


def _activation_refusal(layer: Layer, rule: Rule) -> ValueError:
    is_plain = layer.activation.is_elementwise
    return ValueError(
        f"Argument 'rule_name': the activation {layer.activation.name} of the layer '{layer.name}' cannot use the rule "
        f"'{rule.name}', which is not defined for it; it takes pass, gradient, {'' if is_plain else 'taylor, '}block."
    )


# -- bounds ------------------------------------------------------------------------------------------------------


def _at_layer(graph: Graph, layer: Layer, rule: ZBox) -> ZBox:
    """Return a z-box rule whose bounds fit a layer's input: as they are, or moved there like the model's input."""
    if _fits(rule, layer.input_dims[0]):
        return rule
    path, source = [], next(node.inputs for node in graph.nodes if node.name == layer.name)[0]
    nodes = {node.name: node for node in graph.nodes}
    while source in nodes and isinstance(graph.layer(source), Carrying) and len(nodes[source].inputs) == 1:
        if isinstance(graph.layer(source), Padding | Add):
            break
        path.append(graph.layer(source))
        source = nodes[source].inputs[0]
    dim = graph.input_dims[graph.inputs.index(source)] if source in graph.inputs else None
    if dim is None or not _fits(rule, dim):
        raise ValueError(
            f"Argument 'rule_name': the layer '{layer.name}' gets values of shape {layer.input_dims[0]} (channels "
            f"first, without the batch), which the bounds of {rule!r} do not fit."
        )

    def moved(bound: Tensor) -> Tensor:
        value = bound.expand(1, *dim)
        for mover in reversed(path):
            value = mover(value)
        return value[0]

    return rule.mapped(moved)


def _fits(rule: ZBox, dim: tuple[int, ...]) -> bool:
    def fits(bound: Tensor) -> bool:
        shape = tuple(bound.shape)
        return len(shape) <= len(dim) and all(n in (1, m) for n, m in zip(shape[::-1], dim[::-1], strict=False))

    return fits(rule.low) and fits(rule.high)
