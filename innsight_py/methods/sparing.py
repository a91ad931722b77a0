"""What a pass keeps where it takes much memory: no more than the walks back look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from torch import Tensor

from innsight_py.functions.lrp_rules import ZBox
from innsight_py.functions.lrp_weightless import Gradient, Pass
from innsight_py.layers import DeepLiftRule, Layer, Record
from innsight_py.layers.record import ALL, INPUTS, NOTHING, Needs
from innsight_py.methods.recomputed import Recomputed, for_autograd, kept_numbers
from innsight_py.methods.rescored import Rescored
from innsight_py.model.assignment import Assigned
from innsight_py.model.graph import Explained, Graph, Seen, Step, Trace

#: Where walks would keep more than this many times the numbers that autograd keeps, values are computed again.
MORE_THAN_AUTOGRAD = 1.55
#: This many times the numbers that autograd keeps may then be kept in all: first what a walk comes to first.
ROOM = 1.2

#: Says what of a record later walks look at, once a walk has passed the layer of this name.
Later = Callable[[str, Layer], Needs]


def for_outputs(ends: AbstractSet[str]) -> Seen:
    """Let a pass that nobody walks back keep what is explained alone."""

    def seen(name: str, layer: Layer, record: Record) -> None:
        if name not in ends:
            record.release()

    return seen


def for_gradients(ends: AbstractSet[str]) -> Seen:
    """Let a pass keep what gradients look at; all of the layers that are explained, `ends`."""

    def seen(name: str, layer: Layer, record: Record) -> None:
        if name not in ends:
            record.release(layer.gradient_needs)

    return seen


def for_relevances(ends: AbstractSet[str], rules: Mapping[str, Assigned]) -> Seen:
    """Let a pass keep what LRP looks at."""

    def seen(name: str, layer: Layer, record: Record) -> None:
        if name not in ends:
            record.release(needs(name, layer))

    needs = looked_at(rules)
    return seen


def looked_at(rules: Mapping[str, Assigned]) -> Later:
    """Say what LRP looks at."""

    def looked(name: str, layer: Layer) -> Needs:
        return layer.lrp_needs(rules[name].rule) | _activation(layer.activation_needs, rules[name])

    return looked


def recomputed(
    graph: Graph, ends: AbstractSet[str], rules: Mapping[str, Assigned], rows: int, walked: int, several: bool
) -> Recomputed | None:  # fmt: skip
    """Let values be computed again where LRP would keep much more than autograd does; None where it does not.

    A walk takes `walked` nodes of `rows` rows; `several` says that there are several walks.
    """
    looks, of_autograd = looked_at(rules), kept_numbers(graph, for_autograd)
    limit = MORE_THAN_AUTOGRAD * of_autograd
    if kept_numbers(graph, looks) <= limit:
        names = [node.name for node in graph.nodes] if several else []
        shares = (graph.layer(name).lrp_shares(rules[name].rule) for name in names)
        if kept_numbers(graph, after_relevances(rules)) + sum(shares) <= limit:
            return None

    def stays(name: str, layer: Layer) -> Needs:
        return INPUTS if isinstance(rules[name].rule, ZBox) else NOTHING  # is looked at for the bounds

    carried = graph.sizes.widest * walked
    room = rows * (int(ROOM * of_autograd) - carried) if several else 0
    return Recomputed(graph, ends, looks, after_relevances(rules), stays, room)


def passing(ends: AbstractSet[str], rule: DeepLiftRule) -> Seen:
    """Let a pass of references keep what DeepLift looks at."""

    def seen(name: str, layer: Layer, record: Record) -> None:
        if name not in ends:
            record.release(layer.deeplift_needs(rule))

    return seen


def compared(ends: AbstractSet[str], rule: DeepLiftRule, reference: Trace, last: bool) -> Seen:
    """Let a pass of rows keep the slopes between it and references alone, where they are all that DeepLift looks at.

    That of the references lets go of the rest, if this is the `last` pass that is compared with it.
    """

    def seen(name: str, layer: Layer, record: Record) -> None:
        if name in ends:
            return
        if not layer.deeplift_early(record, reference[name], rule):
            record.release(layer.deeplift_needs(rule))
            if last:
                reference[name].release(layer.deeplift_needs(rule))
            return
        record.release()
        if last:
            reference[name].release()
            reference[name].forget()

    return seen


def both(
    graph: Graph, inputs: Sequence[Tensor], rows: int, rescored: Rescored | None
) -> tuple[Trace, Trace]:  # fmt: skip
    """Run a graph once for some rows and their reference behind them; return what either saw.

    Parameters
    ----------
    graph : Graph
        What is run.
    inputs : sequence of Tensor
        The rows, and then the reference, of each input.
    rows : int
        How many rows there are.
    rescored : Rescored, optional
        No more is kept than DeepLift looks at, and less where this computes values again.
    """
    upper, lower = slice(0, rows), slice(rows, None)
    if rescored is None:
        trace = graph.trace(inputs)
        return trace.rows(upper), trace.rows(lower)
    own: dict[str, Record] = {}
    reference: dict[str, Record] = {}
    compare = compared(rescored.ends, rescored.rule, Trace(reference, {}), last=True)

    def seen(name: str, layer: Layer, record: Record) -> None:
        own[name], reference[name] = (record.rows(part, record.output[part]) for part in (upper, lower))
        if rescored.keeps(name, layer, record, own[name], reference[name]):
            own[name].release()
            reference[name].release()
        else:
            compare(name, layer, own[name])
        record.release()

    values = graph.trace(inputs, seen=seen).values
    return (
        Trace(own, {name: value[upper] for name, value in values.items()}),
        Trace(reference, {name: value[lower] for name, value in values.items()}),
    )


# -- between walks -----------------------------------------------------------------------------------------------------


def after_gradients(name: str, layer: Layer) -> Needs:
    """Say what later gradients look at."""
    return layer.gradient_kept


def after_relevances(rules: Mapping[str, Assigned]) -> Later:
    """Say what later walks of LRP look at."""

    def later(name: str, layer: Layer) -> Needs:
        return layer.lrp_kept(rules[name].rule) | _activation(layer.activation_kept, rules[name])

    return later


def _activation(derivative: Needs, rule: Assigned) -> Needs:
    """Return what the rule of an activation within a layer looks at."""
    if isinstance(rule.activation, Pass):
        return NOTHING
    return derivative if isinstance(rule.activation, Gradient) else ALL


def keeping(step: Step, trace: Trace, ends: AbstractSet[str], later: Later) -> Step:
    """Let each layer keep what later walks look at, once it has computed what they share."""

    def stepped(layer: Layer, upper: Tensor, name: str, start: Explained | None) -> list[Tensor | None]:
        pieces = step(layer, upper, name, start)
        if name not in ends:
            trace[name].release(later(name, layer))
        return pieces

    return stepped


def forgetting(step: Step, trace: Trace, ends: AbstractSet[str] | None) -> Step:
    """Let each layer forget what it computed for walks back as soon as the last one has passed it.

    With `ends` layers other than these let go of what the pass itself left as well.
    """

    def stepped(layer: Layer, upper: Tensor, name: str, start: Explained | None) -> list[Tensor | None]:
        trace[name].is_last = True
        pieces = step(layer, upper, name, start)
        trace[name].forget()
        if ends is not None and name not in ends:
            trace[name].release()
        return pieces

    return stepped
