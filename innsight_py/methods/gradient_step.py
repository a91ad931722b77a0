"""The step back that all gradient methods take."""

from __future__ import annotations

from torch import Tensor

from innsight_py.layers import Layer
from innsight_py.model.graph import Explained, Step, Trace


def gradient_step(trace: Trace) -> Step:
    """Return the rule of all gradient methods: the vector-Jacobian product of each layer."""
    records = trace.records

    def step(layer: Layer, upper: Tensor, name: str, start: Explained | None) -> list[Tensor | None]:
        skip = start is not None and start.at_preactivation
        return layer.gradient(upper, records[name], skip_activation=skip)

    return step
