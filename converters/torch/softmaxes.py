"""Softmaxes that a module writes out, ``exp(x) / exp(x).sum()``: they get the rules of one that is called as such."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from innsight_py.converters.torch.tracing import is_mutable

_ATEN = torch.ops.aten


def recognize(program: torch.export.ExportedProgram) -> None:
    """Let calls that write out a softmax, or its logarithm, be one call, which has the same value and gradient.

    What is subtracted from the logits first, such as their maximum, may be left out: where it is the same along the
    axis, a softmax does not depend on it. A call in place counts as one that is not, where nobody else sees the change.
    """
    changed = False
    for node in list(program.graph.nodes):
        target, logits_of = _WRITTEN_OUT.get(_target(node), (None, None))
        found = logits_of(node) if logits_of is not None and _is_call(node) else None
        if found is not None:
            _let_go(node, found[0])
            node.target, node.args, changed = target, found, True
    if changed:
        program.graph.eliminate_dead_code(lambda node: node.op != "call_function" or is_mutable(node))
        program.graph_module.recompile()


def _softmax(last: fx.Node) -> tuple[fx.Node, int] | None:
    """Read ``exp(x) / exp(x).sum(axis)`` as the logits and the axis; None for any other quotient."""
    return _quotient(last, *last.args)


def _softmax_by_product(last: fx.Node) -> tuple[fx.Node, int] | None:
    """Read ``exp(x) * (1 / exp(x).sum(axis))`` in the same way, in either order."""
    for exponentials, inverse in (last.args, last.args[::-1]):
        if _is(inverse, _ATEN.reciprocal.default):
            return _quotient(last, exponentials, _first(inverse))
    return None


def _quotient(last: fx.Node, exponentials: Any, total: Any) -> tuple[fx.Node, int] | None:
    if not _is(exponentials, _ATEN.exp.default):
        return None
    found = _sum_of_exponentials(total)
    return _shifted_back(last, *found) if found is not None and found[0] is exponentials.args[0] else None


def _softmax_by_logarithm(last: fx.Node) -> tuple[fx.Node, int] | None:
    """Read ``exp(log_softmax(x, axis))``, also where that was written out, in the same way."""
    logarithm: Any = last.args[0]
    if not _is(logarithm, _ATEN.log_softmax.int) or len(logarithm.args) > 2:
        return None
    logits, axis = logarithm.args
    return (logits, axis) if _is_call(logits) and _stays(logits, last) else None


def _log_softmax(last: fx.Node) -> tuple[fx.Node, int] | None:
    """Read ``x - logsumexp(x, axis)``, or with the logarithm of a sum, in the same way."""
    logits, total = last.args
    is_logarithm = _is(total, _ATEN.log.default)
    found = _sum_of_exponentials(_first(total)) if is_logarithm else _along(total, _ATEN.logsumexp)
    return _shifted_back(last, *found) if found is not None and found[0] is logits else None


#: For the last call of what is written out: what it is, and what finds the logits and the axis from it.
_WRITTEN_OUT: dict[Any, tuple[Any, Any]] = {
    _ATEN.div.Tensor: (_ATEN.softmax.int, _softmax),
    _ATEN.mul.Tensor: (_ATEN.softmax.int, _softmax_by_product),
    _ATEN.exp.default: (_ATEN.softmax.int, _softmax_by_logarithm),
    _ATEN.sub.Tensor: (_ATEN.log_softmax.int, _log_softmax),
}
#: Calls in place that softmaxes are written with, and what they compute.
_IN_PLACE: dict[Any, Any] = {
    _ATEN.div_.Tensor: _ATEN.div.Tensor,
    _ATEN.mul_.Tensor: _ATEN.mul.Tensor,
    _ATEN.sub_.Tensor: _ATEN.sub.Tensor,
    _ATEN.exp_.default: _ATEN.exp.default,
    _ATEN.log_.default: _ATEN.log.default,
    _ATEN.reciprocal_.default: _ATEN.reciprocal.default,
}
#: What gives a reduced axis back, as an axis of 1.
_PUTTING_BACK = (_ATEN.unsqueeze.default, _ATEN.view.default, _ATEN.reshape.default)
#: What a softmax is written with, from the logits up to the last call.
_PARTS = frozenset(
    (
        *_IN_PLACE,
        *_IN_PLACE.values(),
        *_PUTTING_BACK,
        _ATEN.sum.dim_IntList,
        _ATEN.logsumexp.default,
        _ATEN.log_softmax.int,
    )
)


def _sum_of_exponentials(node: Any) -> tuple[fx.Node, int] | None:
    found = _along(node, _ATEN.sum.dim_IntList)
    if found is None or not _is(found[0], _ATEN.exp.default):
        return None
    return found[0].args[0], found[1]


def _along(node: Any, target: Any) -> tuple[Any, int] | None:
    """Return what is reduced and the axis, of a reduction of one axis that stays as an axis of 1."""
    target = getattr(target, "default", target)
    put_back = None
    if any(_is(node, one) for one in _PUTTING_BACK):
        put_back, node = tuple(node.meta["val"].shape), node.args[0]
    if not _is(node, target):
        return None
    source, axes, keeps = (*node.args, False)[:3]
    shape = list(source.meta["val"].shape)
    axes = [axis % len(shape) for axis in axes]
    if len(axes) != 1 or keeps != (put_back is None):
        return None
    shape[axes[0]] = 1
    return (source, axes[0]) if put_back in (None, tuple(shape)) else None


def _first(node: Any) -> Any:
    return node.args[0]


def _shifted_back(last: fx.Node, logits: fx.Node, axis: int) -> tuple[fx.Node, int] | None:
    """Return logits before something was subtracted from them that is the same along the axis.

    None where they are changed in place, and may be others when the softmax is complete.
    """
    if _is(logits, _ATEN.sub.Tensor):
        whole, shift = logits.args
        if isinstance(whole, fx.Node) and isinstance(shift, fx.Node) and _stays(whole, last):
            shape, ones = (x.meta["val"].shape for x in (whole, shift))
            before = len(shape) - axis
            if shape == logits.meta["val"].shape and (len(ones) < before or ones[-before] == 1):
                return whole, axis
    return (logits, axis) if _stays(logits, last) else None


def _is_call(node: fx.Node) -> bool:
    """Tell whether a node computes numbers of full precision, and nothing is said beside its arguments."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype in (torch.float32, torch.float64) and not node.kwargs


def _is(node: Any, target: Any) -> bool:
    """Tell whether a value is what an operator gives, and nobody sees how it is changed afterwards."""
    if not isinstance(node, fx.Node) or _target(node) is not target or not _is_call(node):
        return False
    return all(not is_mutable(user) or _target(user) is not user.target for user in node.users)


def _stays(node: fx.Node, last: fx.Node) -> bool:
    """Tell whether a value is never changed in place, but by the last calls of a softmax."""
    own = (last, *(x for x in last.all_input_nodes if _target(x) is not x.target))
    return not any(is_mutable(user) for user in node.users if user not in own)


def _target(node: fx.Node) -> Any:
    """Return what a node calls; for a call in place the same not in place, if nobody else sees the change."""
    plain = _IN_PLACE.get(node.target)
    return plain if plain is not None and _is_unseen(node) else node.target


def _is_unseen(node: fx.Node) -> bool:
    """Tell whether what a call in place changes is a value of its own, which nobody looks at afterwards."""
    changed = node.args[0]
    if not isinstance(changed, fx.Node) or not isinstance(changed.target, torch._ops.OpOverload):
        return False
    others = [user for user in changed.users if user is not node]
    if not all(_is_fresh(other) and _comes_before(other, node) for other in others):
        return False
    return _is_fresh(changed) or _target(changed) is not changed.target


def _is_fresh(node: fx.Node) -> bool:
    """Tell whether a node gives memory of its own, and no view."""
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and all(x.alias_info is None for x in target._schema.returns)


def _comes_before(first: fx.Node, second: fx.Node) -> bool:
    after = first.next
    while after.op != "root":
        if after is second:
            return True
        after = after.next
    return False


def _let_go(last: fx.Node, logits: fx.Node) -> None:
    """Let calls in place that a softmax was written with be plain ones, which may be left out."""
    written = [last]
    while written:
        node = written.pop()
        node.target = _target(node)
        written += [x for x in node.all_input_nodes if x is not logits and x.target in _PARTS]
