"""From what a door has read to a graph that was compared with its original."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from innsight_py._checks import warnings_said
from innsight_py.converters import Reading, read_model
from innsight_py.converters.use import Use
from innsight_py.model import known
from innsight_py.model.converted import ConvertedModel
from innsight_py.model.lengths import with_shared_weights
from innsight_py.model.nodes import with_rows_of_nodes
from innsight_py.model.norms import with_norms
from innsight_py.model.original import compare_with_original
from innsight_py.model.shapes import Dims, with_advice
from innsight_py.spec import ModelSpec, SpecError, check_spec


@dataclass(frozen=True)
class Built:
    """A graph, the spec that it is built from, and the original."""

    spec: ModelSpec
    model: ConvertedModel
    reading: Reading


def converted(model: Any, given: Dims | None, dtype: torch.dtype, custom_backward: str, use: Use) -> Built:
    """Convert a model, or look it up if it is a module that was converted before and has not changed.

    Raises
    ------
    TypeError, ValueError
        If it cannot be converted; see `innsight_py.Converter`.
    """
    asked = known.question(model, (given, dtype, custom_backward)) if use.is_plain else None
    found = known.find(model, asked, dtype)
    if found is not None:
        return Built(*found, Reading({}))
    said = warnings_said()
    try:
        built = build(read_model(model, given, custom_backward, None if use.is_plain else use), dtype)
    except SpecError as error:
        raise with_advice(error, model, given, _convert_quickly(model)) from error.__cause__
    if given is not None and given != built.spec.input_dim:
        raise ValueError(
            f"Argument 'input_dim': the model takes {', '.join(map(str, built.spec.input_dim))} (channels first, "
            f"without the batch), got {', '.join(map(str, given))}."
        )
    built = compared(built, dtype)
    if warnings_said() == said:  # what warns, warns each time
        known.remember(model, asked, built.spec, built.model)
    return built


def build(reading: Reading, dtype: torch.dtype, like: ModelSpec | None = None) -> Built:
    """Build the graph of a model, which shares its weights with another one where they are the same.

    Raises
    ------
    SpecError
        If the spec is wrong.
    """
    spec = check_spec(reading.spec)
    if like is not None:
        spec = with_shared_weights(spec, like)
    model = ConvertedModel(spec, dtype)
    spec, reading = with_rows_of_nodes(spec, model, reading)
    if spec.output_shape is not None:
        model = ConvertedModel(spec, dtype)
    return Built(spec, model, reading)


def compared(built: Built, dtype: torch.dtype) -> Built:
    """Find normalisations in the graph, and compare it with its original.

    Raises
    ------
    SpecError
        If it computes something else.
    """
    spec, model = with_norms(built.spec, built.model), built.model
    if spec is not built.spec:
        model = ConvertedModel(spec, dtype)
    if built.reading.run is not None:
        compare_with_original(built.reading, spec, model)
    return Built(spec, model, built.reading)


def _convert_quickly(model: Any) -> Callable[[Dims], None]:
    """Return what converts a model with inputs of a shape, without a comparison, to find out whether it can."""

    def convert_with(dims: Dims) -> None:
        ConvertedModel(check_spec(read_model(model, dims).spec), torch.float32)

    return convert_with
