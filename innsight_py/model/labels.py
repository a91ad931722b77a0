"""What the inputs and outputs of a converted model are called: what the user says, else the model, else numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from innsight_py._checks import describe
from innsight_py.inputs.encoding import Encoder, Groups, read_groups
from innsight_py.inputs.names import LayerNames, default_names, read_names
from innsight_py.inputs.ports import Port, make_ports
from innsight_py.model.converted import ConvertedModel
from innsight_py.model.tokens import kinds_of, words_of_outputs
from innsight_py.spec import ModelSpec, SpecError
from innsight_py.spec.keys import default_keys, in_order
from innsight_py.spec.ports import kind_of


def ports_of_inputs(spec: ModelSpec, model: ConvertedModel, given: Any, token_names: Any) -> tuple[Port, ...]:
    """Say what the inputs are, and what they are called."""
    keys = list(spec.input_keys or spec.inputs)
    names = _read_names(given, spec.input_names, spec.input_dim, "input", keys)
    kinds = kinds_of(model, spec.input_kinds, [kind_of(dim) for dim in spec.input_dim])
    return make_ports(keys, spec.input_dim, names, kinds, token_names)


def ports_of_outputs(spec: ModelSpec, model: ConvertedModel, given: Any, token_names: Any) -> tuple[Port, ...]:
    """Say what the outputs are, and what they are called."""
    keys = list(spec.output_keys or default_keys("output", len(spec.outputs)))
    dims = spec.output_shape or model.output_dims
    if given is None and spec.output_names is None:
        given = words_of_outputs(model, dims, token_names)
    return make_ports(keys, dims, _read_names(given, spec.output_names, dims, "output", keys))


def groups_of_columns(given: Any, names: Sequence[LayerNames], encoder: Encoder | None) -> Groups | None:
    """Return which columns are summed, as the user says it or the encoders of a pipeline."""
    if isinstance(given, bool):
        return encoder.groups if given and encoder is not None else None
    if len(names) != 1 or len(names[0]) != 1:
        raise ValueError("Argument 'group_columns': columns are grouped of models with one table as input.")
    return read_groups(given, [str(name) for name in names[0][0]])


def read_fixed(value: Any) -> tuple[str, ...]:
    """Read the argument `fixed`: names of inputs."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"Argument 'fixed': expected names of inputs, got {describe(value)}.")
    return tuple(names)


def _read_names(
    given: Any, own: Any, dims: Sequence[tuple[int, ...]], what: Literal["input", "output"], keys: Sequence[str]
) -> list[LayerNames]:
    argument = f"{what}_names"
    if isinstance(given, Mapping):
        given = in_order(given, keys, argument, "input" if what == "input" else "output layer")
    if given is not None:
        return read_names(given, dims, argument)
    if own is None:
        return [default_names(dim, ("Y",) if what == "output" and len(dim) == 1 else None) for dim in dims]
    try:
        return read_names(own, dims, argument)
    except TypeError as error:  # the spec is wrong, not an argument
        raise SpecError(str(error)) from None
