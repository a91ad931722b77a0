"""What methods explain: a graph in either precision, with the shapes and names of its inputs and outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, Self

import torch

from innsight_py.inputs.described import Described
from innsight_py.model.graph import Graph

DTYPES = {"float": torch.float32, "double": torch.float64}


class Explainable(Described, ABC):
    """What a model-specific method explains: a graph, with the shapes and names of its inputs and outputs."""

    @abstractmethod
    def model_in(self, dtype: Literal["float", "double"]) -> Graph:
        """Return the graph in a precision."""

    def fitting(self, data: Any) -> Self:
        """Return what explains data of these lengths; see `Converter`."""
        return self
