"""Outputs of several axes: the graph gives them as rows of nodes, their ports have the axes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from innsight_py.converters import Reading
from innsight_py.converters.reading import Run
from innsight_py.model.converted import ConvertedModel
from innsight_py.spec import ModelSpec
from innsight_py.spec.layers import LAYER_SPECS


def with_rows_of_nodes(spec: ModelSpec, model: ConvertedModel, reading: Reading) -> tuple[ModelSpec, Reading]:
    """Let outputs of several axes end with a layer that makes one of them, and the original as well.

    Parameters
    ----------
    spec : ModelSpec
        The spec; it is returned as it is where all outputs have one axis.
    model : ConvertedModel
        Its graph, which knows the shapes.
    reading : Reading
        The original.
    """
    shapes = model.output_dims
    if all(len(shape) == 1 for shape in shapes):
        return spec, reading
    layers, outputs = list(spec.layers), list(spec.outputs)
    taken = {*spec.inputs, *(layer.name for layer in layers)}
    for i, shape in enumerate(shapes):
        if len(shape) != 1:
            name = next(n for k in range(len(taken) + 1) if (n := f"nodes_{i + 1 + k}") not in taken)
            taken.add(name)
            keys = {"type": "Reshape", "name": name, "inputs": [outputs[i]], "shape": [math.prod(shape)]}
            layers.append(LAYER_SPECS["Reshape"].model_validate(keys))
            outputs[i] = name
    shaped = tuple(shape or (1,) for shape in shapes)
    changed = dataclasses.replace(
        spec, layers=tuple(layers), outputs=tuple(outputs), output_shape=shaped, output_dim=None
    )  # fmt: skip
    runs = {"run": reading.run, "double": reading.double}
    changes: dict[str, Any] = {name: _flat(run) for name, run in runs.items() if run is not None}
    return changed, dataclasses.replace(reading, **changes)


def _flat(run: Run) -> Run:
    """Let the original return rows of nodes too; gradients are asked with them already."""

    def flat(inputs: Sequence[Tensor]) -> list[Tensor]:
        return [x.flatten(1) if x.dim() > 1 else x.unsqueeze(-1) for x in run(inputs)]

    return flat
