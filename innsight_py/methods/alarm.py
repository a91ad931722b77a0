"""Warnings about results that cannot be right: NaN and infinite numbers, and contributions that explode."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from innsight_py._checks import warn
from innsight_py.functions.elementwise import all_finite, are_finite
from innsight_py.layers import Layer
from innsight_py.layers.arithmetic import Multiply
from innsight_py.model.graph import Explained, Graph, Step, Trace

#: What contributions that are exact may miss of the terms that are explained.
ROUNDING = {"float": 1e-4, "double": 1e-9}
#: How many times what is explained the magnitudes of contributions may sum to.
AMPLIFIED = 1e4
#: From how many times on a layer is said to amplify.
LARGER = 30
#: From how many times on it is looked into.
DOUBTFUL = 1e3


# -- numbers that are none ---------------------------------------------------------------------------------------------


def warn_of_new_nans(
    title: str, model: Graph, result: Sequence[Sequence[Tensor | None] | None], data: Sequence[Tensor],
    passes: Iterable[tuple[str, list[Tensor]]], name_of: Callable[[int], str],
    predictions: Sequence[Tensor | None] = (),
) -> None:  # fmt: skip
    """Warn of rows with attributions or predictions that are NaN or infinite though their data are not.

    Say where that begins.

    Parameters
    ----------
    title : str
        Name of the method.
    model : Graph
        The graph in the precision of the method.
    result : list of (list of (Tensor or None) or None)
        Attributions ``(B, *dims, K)`` for each output and input layer.
    data : sequence of Tensor
        The data, one tensor an input.
    passes : iterable of (str, list of Tensor)
        What the model was run for, the data first, in the layout of the model.
    name_of : callable
        Names of the rows.
    predictions : sequence of (Tensor or None), optional
        Predictions ``(B, K)`` for each output layer. Those of a gradient may be infinite where it is not.
    """
    attributions = [x for row in result if row is not None for x in row if x is not None]
    predicted = [x for x in predictions if x is not None]
    if are_finite([*attributions, *predicted]):
        return
    what, found = ("predictions", predicted) if are_finite(attributions) else ("attributions", attributions)
    bad = torch.stack([~x.isfinite().flatten(1).all(1) for x in found]).any(0).cpu()
    if len(data) and len(data[0]) == len(bad):
        bad &= torch.stack([x.isfinite().flatten(1).all(1) for x in data]).all(0).cpu()
    rows = bad.nonzero().flatten().tolist()
    if not rows:
        return
    inputs = ((kind, [x[rows[0] :][:1] if kind == "this row" else x[:1] for x in xs]) for kind, xs in passes)
    where = next((place for kind, one in inputs if (place := _begins(model, one, kind))), "")
    count = f"{len(rows)} of {len(bad)} rows have" if len(data) else "the result has"
    first = f" (the first is {name_of(rows[0])})" if len(data) else ""
    warn(f"{title}: {count} {what} that are NaN or infinite, though the data are not{first}. {where}They mean nothing.")


def _begins(model: Graph, inputs: list[Tensor], what: str) -> str:
    """Say which layer is the first whose value is NaN, or infinite, or whose gradient is."""
    with torch.no_grad():
        trace = model.trace(inputs)
        for none, name in ((torch.isnan, "NaN"), (torch.isinf, "infinite")):
            for node in model.nodes:
                out = trace[node.name].output
                if out.is_floating_point() and bool(none(out).any()):
                    if name == "infinite" and not _ends_so(model, trace):
                        break  # a mask of minus infinity, which a softmax takes away
                    place = f"the layer {_describe(model, node.name)}, whose value is {name} for {what}"
                    return f"It begins at {place}{_precision(trace, name)}. "
        return _begins_on_the_way_back(model, trace, what)


def _precision(trace: Trace, name: str) -> str:
    """Say that single precision ends where values are infinite; NaN come of these."""
    single = [x for x in trace.values.values() if x.dtype == torch.float32]
    overflow = name == "infinite" or any(bool(x.isposinf().any()) for x in single)
    return "; single precision ends at 3.4e38, dtype='double' goes on" if single and overflow else ""


def _ends_so(model: Graph, trace: Trace) -> bool:
    return any(not all_finite(trace[name].output) for name in model.outputs)


def _begins_on_the_way_back(model: Graph, trace: Trace, what: str) -> str:
    first: list[str] = []

    def step(layer: Layer, upper: Tensor, name: str, start: Explained | None) -> list[Tensor | None]:
        pieces = layer.gradient(upper, trace[name])
        if not first and any(p is not None and not bool(p.isfinite().all()) for p in pieces):
            first.append(name)
        return pieces

    for name in model.outputs:
        seed = torch.ones_like(trace[name].output)[None]
        model.backward(Explained(name, at_preactivation=False), seed, step)
    if not first:
        return ""
    return f"It begins at the layer {_describe(model, first[0])}, whose gradient is not finite for {what}. "


def _describe(model: Graph, name: str) -> str:
    layer = model.layer(name)
    return f"'{name}' ({layer.kind}{f' at {layer.place}' if layer.place else ''})"


# -- contributions that explode ----------------------------------------------------------------------------------------


def amplifying(
    model: Graph, what: Explained, node: int, trace: Trace, at_reference: Trace, step: Step
) -> tuple[float, str]:
    """Walk back for one node of one row; return the size of the terms that are explained, and the layer that amplifies.

    A layer amplifies when the magnitudes of the contributions of its inputs sum to more than those of its output. Terms
    of a linear layer that is explained may cancel in the data. An entry of a product has no terms: it amplifies.
    """
    worst, at, terms = 1.0, "", 0.0

    def observed(layer: Layer, upper: Tensor, name: str, start: Explained | None) -> list[Tensor | None]:
        nonlocal worst, at, terms
        pieces = step(layer, upper, name, start)
        here, ref = trace[name], at_reference[name]
        after = _size(upper, here.output, ref.output)
        before = sum(_size(p, x, x_ref) for p, x, x_ref in zip(pieces, here.inputs, ref.inputs, strict=True))
        is_sum = start is not None and (start.at_preactivation or not isinstance(layer, Multiply))
        if start is not None:
            terms = before if is_sum else after
        if not is_sum and after > 0 and before > worst * after:
            worst, at = before / after, name
        return pieces

    with torch.no_grad():
        model.backward(what, _seed(model, what, node, trace), observed)
    factor = f"{worst:.3g}" if worst < 1e6 else f"{worst:.1e}"
    return terms, f"the layer {_describe(model, at)} makes them {factor} times larger" if worst > LARGER else ""


def magnitudes(model: Graph, what: Explained, node: int, trace: Trace, at_reference: Trace, step: Step) -> float:
    """Walk back for one node of one row; return what the magnitudes of the inputs' contributions sum to."""
    with torch.no_grad():
        pieces = model.backward(what, _seed(model, what, node, trace), step)
    ends = ((trace.values[name], at_reference.values[name]) for name in model.inputs)
    return sum(_size(m, x, x_ref) for m, (x, x_ref) in zip(pieces, ends, strict=True))


def _seed(model: Graph, what: Explained, node: int, trace: Trace) -> Tensor:
    seed = torch.zeros((1, 1, *model.layer(what.node).output_dim), dtype=trace.values[what.node].dtype)
    seed[..., node] = 1
    return seed.to(model.device)


def _size(m: Tensor | None, x: Tensor, x_ref: Tensor) -> float:
    if m is None or not x.is_floating_point() or m.dim() != x.dim() + 1:
        return 0.0
    size = float((m.double() * (x.double() - x_ref.double())).abs().sum())
    return size if math.isfinite(size) else 0.0
