"""Two gradients that treat ReLUs in a way of their own: of the deconvolutional network, and guided backpropagation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from torch import Tensor

from innsight_py.functions.elementwise import is_positive
from innsight_py.layers import Layer
from innsight_py.methods.gradient_step import gradient_step
from innsight_py.model.graph import Explained, Graph, Step, Trace

ReluRule = Literal["deconvnet", "guided"]


def relu_step(trace: Trace, rule: ReluRule) -> Step:
    """Return the step of the gradient with another rule for ReLUs, wherever they stand.

    "deconvnet" hands on what is above 0, whatever the ReLU saw (Zeiler and Fergus, 2014, arXiv:1311.2901); "guided"
    does so where the ReLU let something through (Springenberg et al., 2015, arXiv:1412.6806).
    """
    plain = gradient_step(trace)

    def step(layer: Layer, upper: Tensor, name: str, start: Explained | None) -> list[Tensor | None]:
        if layer.activation.name != "relu" or (start is not None and start.at_preactivation):
            return plain(layer, upper, name, start)
        upper, at = upper.clamp(min=0), trace[name]
        return layer.pullback(upper * is_positive(at.preactivation) if rule == "guided" else upper, at)

    return step


def check_relus(graph: Graph, explained: Iterable[Explained], rule: ReluRule) -> None:
    """Refuse models that have other activations on the way to what is explained.

    Raises
    ------
    ValueError
        If there is one; the message names its layer.
    """
    starts = {what.node: what for what in explained}
    needed = set(starts)
    for node in reversed(graph.nodes):
        if node.name not in needed:
            continue
        needed.update(node.inputs)
        layer, start = graph.layer(node.name), starts.get(node.name)
        skipped = start is not None and start.at_preactivation
        if layer.r_class == "Module":
            raise ValueError(
                f"Argument 'relu_rule': '{rule}' needs to know where the ReLUs are; convert the module with Converter."
            )
        if not skipped and not layer.activation.is_linear and layer.activation.name != "relu":
            at = f" at {layer.place}" if layer.place else ""
            raise ValueError(
                f"Argument 'relu_rule': '{rule}' is defined for ReLUs only, and the layer '{layer.name}' "
                f"({layer.r_class}{at}) has the activation {layer.activation.name}."
            )
