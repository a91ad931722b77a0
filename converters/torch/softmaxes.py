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
    axis, a softmax does not depend on it.
    """
    changed = False
    for node in list(program.graph.nodes):
        target, logits_of = _WRITTEN_OUT.get(node.target, (None, None))
        found = logits_of(*node.args) if logits_of is not None and _is_call(node) else None
        if found is not None:
            node.target, node.args, changed = target, found, True
    if changed:
        program.graph.eliminate_dead_code(lambda node: node.op != "call_function" or is_mutable(node))
        program.graph_module.recompile()


def _softmax(exponentials: Any, total: Any) -> tuple[fx.Node, int] | None:
    """Read ``exp(x) / exp(x).sum(axis)`` as the logits and the axis; None for any other quotient."""
    if not _is(exponentials, _ATEN.exp.default):
        return None
    found = _sum_of_exponentials(total)
    return _shifted_back(*found) if found is not None and found[0] is exponentials.args[0] else None


def _log_softmax(logits: Any, total: Any) -> tuple[fx.Node, int] | None:
    """Read ``x - logsumexp(x, axis)``, or with the logarithm of a sum, in the same way."""
    found = _sum_of_exponentials(total.args[0]) if _is(total, _ATEN.log.default) else _along(total, _ATEN.logsumexp)
    return _shifted_back(*found) if found is not None and found[0] is logits else None


#: For the last call of what is written out: what it is, and what finds the logits and the axis from its arguments.
_WRITTEN_OUT: dict[Any, tuple[Any, Any]] = {
    _ATEN.div.Tensor: (_ATEN.softmax.int, _softmax),
    _ATEN.sub.Tensor: (_ATEN.log_softmax.int, _log_softmax),
}


def _sum_of_exponentials(node: Any) -> tuple[fx.Node, int] | None:
    found = _along(node, _ATEN.sum.dim_IntList)
    if found is None or not _is(found[0], _ATEN.exp.default):
        return None
    return found[0].args[0], found[1]


def _along(node: Any, target: Any) -> tuple[Any, int] | None:
    """Return what is reduced and the axis, of a reduction of one axis that stays as an axis of 1."""
    target = getattr(target, "default", target)
    put_back = None
    if _is(node, _ATEN.unsqueeze.default):
        node, put_back = node.args
    if not _is(node, target):
        return None
    source, axes, keeps = (*node.args, False)[:3]
    rank = source.meta["val"].dim()
    axes = [axis % rank for axis in axes]
    there = [] if put_back is None else [put_back % rank]
    return (source, axes[0]) if len(axes) == 1 and there == ([] if keeps else axes) else None


def _shifted_back(logits: fx.Node, axis: int) -> tuple[fx.Node, int] | None:
    """Return logits before something was subtracted from them that is the same along the axis.

    None where they are changed in place, and may be others when the softmax is complete.
    """
    if _is(logits, _ATEN.sub.Tensor):
        whole, shift = logits.args
        if isinstance(whole, fx.Node) and isinstance(shift, fx.Node) and _stays(whole):
            shape, ones = (x.meta["val"].shape for x in (whole, shift))
            before = len(shape) - axis
            if shape == logits.meta["val"].shape and (len(ones) < before or ones[-before] == 1):
                return whole, axis
    return (logits, axis) if _stays(logits) else None


def _is_call(node: fx.Node) -> bool:
    """Tell whether a node computes numbers of full precision, and nothing is said beside its arguments."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype in (torch.float32, torch.float64) and not node.kwargs


def _is(node: Any, target: Any) -> bool:
    """Tell whether a value is what an operator gives, and nothing changes it afterwards."""
    return isinstance(node, fx.Node) and node.target is target and _is_call(node) and _stays(node)


def _stays(node: fx.Node) -> bool:
    return not any(is_mutable(user) for user in node.users)
