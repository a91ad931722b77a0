"""The rows on which a converted model is compared with its original: near 0, far out, and beyond its thresholds."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from innsight_py.layers.activation import Activation
from innsight_py.layers.operator import Operator
from innsight_py.model.converted import ConvertedModel
from innsight_py.model.graph import Trace
from innsight_py.model.tokens import with_vectors
from innsight_py.spec import ModelSpec

#: A conversion is compared with the original on a row for each of these, times normal draws: more than one, so that a
#: model whose answers depend on their number is found out, and some far out, where bounds are reached.
SCALES = (1.0, 1.0, 1.0, 30.0, 300.0)
#: The largest number of rows that are added to reach both sides of thresholds.
MORE = 8
#: Powers of ten up to this one are tried.
LARGEST = 9
_COMPARISONS = ("gt", "ge", "lt", "le", "bucketize", "searchsorted")
_BOUNDED = ("clamp", "hardtanh", "threshold")


def rows_near_and_far(spec: ModelSpec, fixed: Mapping[int, Tensor]) -> list[Tensor]:
    """Draw the rows of every comparison, one tensor ``(5, *dims)`` for each input, in double precision."""
    return with_fixed(spec, _drawn(spec, SCALES, torch.Generator().manual_seed(1)), fixed)


def with_fixed(spec: ModelSpec, rows: list[Tensor], fixed: Mapping[int, Tensor]) -> list[Tensor]:
    """Return rows with inputs that are not explained as they were given, see `Reading`; tokens in other orders."""
    found = [fixed[i].to(x).expand_as(x).clone() if i in fixed else x for i, x in enumerate(rows)]
    generator = torch.Generator().manual_seed(5)
    for i in fixed:
        if spec.input_kinds is not None and spec.input_kinds[i] == "tokens":
            flat = found[i].flatten(1)
            for row in flat[1:]:
                row.copy_(row[torch.randperm(len(row), generator=generator)])
    return found


def rows_beyond_thresholds(
    spec: ModelSpec, model: ConvertedModel, inputs: Sequence[Tensor], fixed: Mapping[int, Tensor]
) -> list[Tensor] | None:
    """Search rows that reach sides of comparisons and bounds that `inputs` do not; None where there are none.

    Thresholds are constants in the graph. Rows of all magnitudes up to them are run through the converted model.
    """
    watched = dict(_thresholds(model, fixed))
    largest = max((abs(t) for ts in watched.values() for t in ts if math.isfinite(t)), default=0.0)
    if largest <= 3:
        return None
    powers = [10.0**k for k in range(min(LARGEST, math.ceil(math.log10(largest)) + 1) + 1)]
    near = sorted({abs(t) for ts in watched.values() for t in ts if 1 < abs(t) < math.inf})
    scales = [*powers, *near[:: max(1, math.ceil(len(near) / MORE))]]
    generator = torch.Generator().manual_seed(2)
    tried = _drawn(spec, [scale for scale in scales for _ in range(3)], generator)
    tried = [x.to(inputs[0].dtype) for x in tried]
    for x in tried:  # of each three one as drawn, one above 0 and one below
        x[1::3].abs_()
        x[2::3].abs_().neg_()
    tried = with_vectors(model, with_fixed(spec, tried, fixed), fixed)
    seen = {
        side
        for row in range(len(inputs[0]))
        for side in _sides(model.trace([x[row : row + 1] for x in inputs]), watched)
    }
    chosen: list[int] = []
    for row in range(len(tried[0])):
        sides = _sides(model.trace([x[row : row + 1] for x in tried]), watched)
        if sides - seen and len(chosen) < MORE:
            chosen.append(row)
            seen |= sides
    return [x[chosen] for x in tried] if chosen else None


def _drawn(spec: ModelSpec, scales: Sequence[float], generator: torch.Generator) -> list[Tensor]:
    draws = []
    for dim in spec.input_dim:
        factors = torch.tensor(scales, dtype=torch.float64).reshape(-1, *[1] * len(dim))
        draws.append(factors * torch.randn(len(scales), *dim, generator=generator, dtype=torch.float64))
    return draws


def _thresholds(model: ConvertedModel, fixed: Collection[int]) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Find the layers that compare values with constants, and the constants; not of what is the same in all rows."""
    drawn = {name for i, name in enumerate(model.inputs) if i not in fixed}
    for node in model.nodes:
        layer = model.layer(node.name)
        if drawn.isdisjoint(node.inputs):
            continue
        drawn.add(node.name)
        if isinstance(layer, Operator) and layer.plain_name in _COMPARISONS:
            yield node.name, tuple(_numbers(layer.arguments))
        elif isinstance(layer, Activation) and layer.activation.name in _BOUNDED:
            yield node.name, tuple(float(t) for t in layer.activation.params.values())


def _numbers(arguments: object) -> Iterator[float]:
    if isinstance(arguments, list | tuple):
        for entry in arguments:
            yield from _numbers(entry)
    elif isinstance(arguments, Tensor):
        yield from (float(t) for t in arguments.flatten()[:1000])
    elif isinstance(arguments, int | float) and not isinstance(arguments, bool):
        yield float(arguments)


def _sides(trace: Trace, watched: dict[str, tuple[float, ...]]) -> set[tuple[str, float]]:
    """Say on which side of its thresholds each layer was."""
    found: set[tuple[str, float]] = set()
    for name in watched:
        out = trace[name].output
        if out.is_floating_point():
            moved = (out - trace[name].inputs[0]).sign()  # which bound was reached, or none
            found.update((name, float(side)) for side in torch.unique(moved) if side == side)
        else:
            found.update((name, float(side)) for side in torch.unique(out))
    return found
