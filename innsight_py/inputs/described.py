"""What is known of a model that is explained: the shapes and names of its inputs and outputs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from innsight_py.inputs.names import LayerNames, read_names
from innsight_py.inputs.ports import Port


class Described(Protocol):
    """A model whose inputs and outputs are known, such as a `Converter`.

    Attributes
    ----------
    inputs, outputs : tuple of Port
        The inputs and outputs; all else that is said of them is read off these.
    channels_first : bool
        How the model's data lie, which methods take them for unless they are told otherwise.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    channels_first: bool

    @property
    def input_dim(self) -> list[tuple[int, ...]]:
        """Shape of each input without the batch, channels first."""
        return [port.dim for port in self.inputs]

    @property
    def output_dim(self) -> list[tuple[int, ...]]:
        """Shape of each output without the batch, channels first."""
        return [port.dim for port in self.outputs]

    @property
    def input_names(self) -> list[LayerNames]:
        """Labels of each input, of one entry an axis. Those that are set take their place, as in R."""
        return [port.names for port in self.inputs]

    @input_names.setter
    def input_names(self, names: Any) -> None:
        self.inputs = _renamed(self.inputs, names, "input_names")

    @property
    def output_names(self) -> list[LayerNames]:
        """Labels of each output, of one entry an axis. Those that are set take their place, as in R."""
        return [port.names for port in self.outputs]

    @output_names.setter
    def output_names(self, names: Any) -> None:
        self.outputs = _renamed(self.outputs, names, "output_names")

    @property
    def input_keys(self) -> list[str]:
        """What each input is called, see `innsight_py.spec.keys`."""
        return [port.key for port in self.inputs]

    @property
    def output_keys(self) -> list[str]:
        """What each output is called."""
        return [port.key for port in self.outputs]


def of_inputs(described: Described, numbers: Sequence[int]) -> Described:
    """Describe a model of which only some inputs are looked at."""
    if len(numbers) == len(described.inputs):
        return described
    part = copy.copy(described)
    part.inputs = tuple(described.inputs[j] for j in numbers)
    return part


def _renamed(ports: tuple[Port, ...], names: Any, argument: str) -> tuple[Port, ...]:
    read = read_names(names, [port.dim for port in ports], argument)
    return tuple(replace(port, names=own) for port, own in zip(ports, read, strict=True))
