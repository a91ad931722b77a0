"""An activation that stands on its own, after a batch normalisation for example."""

from __future__ import annotations

from torch import Tensor

from innsight_py import activations
from innsight_py import spec_layers as spec
from innsight_py.layers.base import Layer, Record
from innsight_py.layers.rules import DeepLiftRule, LRPRule, slope


class Activation(Layer):
    """The identity followed by an activation function."""

    r_class = "Activation"

    def __init__(self, layer: spec.Activation) -> None:
        super().__init__(layer.name, activations.Activation(layer.act_name, layer.act_params))

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0]

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor]:
        return [g]

    def deeplift(
        self, m: Tensor, at: Record, ref: Record, rule: DeepLiftRule, *, skip_activation: bool = False
    ) -> list[Tensor]:
        """Multiply by the slope between reference and input, for both rules and without a derivative near 0, as R."""
        if skip_activation or self.activation.is_linear:
            return [m]
        return [m * slope(at.output - ref.output, at.inputs[0] - ref.inputs[0])]

    def lrp(self, r: Tensor, at: Record, rule: LRPRule) -> list[Tensor]:
        return [r]

    def connection_weights(self, g: Tensor) -> list[Tensor]:
        return [g]
