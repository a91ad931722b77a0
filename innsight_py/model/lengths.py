"""Texts that are longer or shorter than the example that a model was converted with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innsight_py._arrays import without_tensors
from innsight_py._checks import warn
from innsight_py._errors import see
from innsight_py.inputs.described import Described
from innsight_py.spec import ModelSpec
from innsight_py.spec.base import LayerSpec


def rows_of_other_lengths(data: Any, described: Described) -> list[Tensor] | None:
    """Return the first row of each input where texts have another length than the model is converted for.

    None where the lengths are the same, and for data that are something else than arrays with as many axes: reading
    them says what is wrong.
    """
    keys = described.input_keys
    if isinstance(data, Mapping):
        if set(data) != set(keys):
            return None
        parts = [data[key] for key in keys]
    elif isinstance(data, list | tuple) and len(data) == len(keys) > 1:
        parts = list(data)
    elif len(keys) == 1:
        parts = [data]
    else:
        return None
    rows: list[Tensor] = []
    for part, port in zip(parts, described.inputs, strict=True):
        row = _first_row(part)
        if row is None or row.dim() != len(port.dim) + 1:
            return None
        rows.append(row)
    texts = [(row, port) for row, port in zip(rows, described.inputs, strict=True) if port.kind == "tokens"]
    return rows if any(tuple(row.shape[1:]) != port.dim for row, port in texts) else None


def _first_row(part: Any) -> Tensor | None:
    if isinstance(part, Tensor):
        return part[:1].detach().cpu() if part.dim() else None
    try:
        array = np.asarray(without_tensors(part))
    except ValueError:
        return None
    return torch.as_tensor(array[:1]) if array.ndim and array.dtype.kind in "biuf" else None


def warn_of_lengths(described: Described, rows: Sequence[Tensor]) -> None:
    """Say once that a model is converted again for each length."""
    port, row = next(
        (port, row)
        for port, row in zip(described.inputs, rows, strict=True)
        if port.kind == "tokens" and tuple(row.shape[1:]) != port.dim
    )
    warn(
        see(
            "other-lengths",
            f"The texts in '{port.key}' have the length {row.shape[-1]}, the example had {port.dim[-1]}: the model is "
            "converted again for each length, and kept. That takes seconds once for each; this is said once.",
        )
    )


def with_shared_weights(spec: ModelSpec, like: ModelSpec) -> ModelSpec:
    """Return a spec with the weights of another one where they are the same, so that they lie in memory once."""
    known: dict[tuple[str | None, str, torch.Size], Tensor] = {}
    for layer in like.layers:
        known |= {(layer.origin, key, x.shape): x for key, x in _weights(layer)}
    layers = []
    for layer in spec.layers:
        found = {key: known.get((layer.origin, key, x.shape)) for key, x in _weights(layer)}
        same = {key: y for key, y in found.items() if y is not None and torch.equal(y, getattr(layer, key))}
        layers.append(layer.model_copy(update=same) if same else layer)
    return dataclasses.replace(spec, layers=tuple(layers))


def _weights(layer: LayerSpec) -> list[tuple[str, Tensor]]:
    return [(key, value) for key in type(layer).model_fields if isinstance(value := getattr(layer, key), Tensor)]
