"""A model spec as a whole: its check, and what it is as a dict again."""

from __future__ import annotations

import copy
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from innsight_py._checks import describe, is_whole, suggestion, warn
from innsight_py._errors import see
from innsight_py._text import few
from innsight_py.spec.base import LayerSpec, SpecError
from innsight_py.spec.keys import default_keys, shortened
from innsight_py.spec.layers import LAYER_SPECS
from innsight_py.spec.places import Place, layer_names_as_dict, read_layer_names
from innsight_py.spec.ports import Kind, kind_of
from innsight_py.spec.preparation import Step, misplaced, preparation

__all__ = ["ModelSpec", "SpecError", "check_spec", "spec_as_dict"]

_MODEL_KEYS = (
    "layers", "input_dim", "outputs", "input_names", "output_names", "output_dim", "channels_first", "input_keys",
    "output_keys", "layer_names", "input_kinds", "output_shape", "token_names",
)  # fmt: skip
_R_MODEL_KEYS = ("input_nodes", "output_nodes")
_R_LAYER_KEYS = ("input_layers", "output_layers")
#: The number of unused layers that a warning names; it counts the rest.
_WARNINGS = 10
#: Spellings of a type that R's own documents use.
_TYPE_ALIASES = {"Concatenation": "Concatenate"}


@dataclass(frozen=True)
class ModelSpec:
    """A checked spec: layers in topological order, every reference resolved, weights as tensors of our own."""

    input_dim: tuple[tuple[int, ...], ...]
    layers: tuple[LayerSpec, ...]
    outputs: tuple[str, ...]
    input_names: Any = None
    output_names: Any = None
    output_dim: tuple[tuple[int, ...], ...] | None = None
    channels_first: bool = True  # how the data of the original lie, which methods take them for unless told otherwise
    input_keys: tuple[str, ...] | None = None  # what the original calls its inputs and outputs, in dicts of data
    output_keys: tuple[str, ...] | None = None
    layer_names: Mapping[str, Place] | None = None  # what the original calls the values inside
    output_shape: tuple[tuple[int, ...], ...] | None = None  # of outputs whose nodes have several axes
    input_kinds: tuple[Kind, ...] | None = None  # where they are not what the shapes say
    token_names: list[str | None] | dict[str, int] | None = None  # what the numbers of tokens mean

    @property
    def preparation(self) -> dict[str, tuple[str, ...]]:
        """For each input that is prepared the names of the layers that do so."""
        return preparation(self.inputs, self.steps, self.outputs)

    @property
    def steps(self) -> list[Step]:
        """All layers, with what they take and whether they are marked."""
        return [(layer.name, layer.inputs, getattr(layer, "preprocessing", False)) for layer in self.layers]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the model's inputs, ``input_1`` onwards."""
        return default_keys("input", len(self.input_dim))


def check_spec(model: Mapping[str, Any]) -> ModelSpec:
    """Check a model spec and complete it.

    Parameters
    ----------
    model : mapping
        The spec, see the head of this module.

    Returns
    -------
    ModelSpec

    Raises
    ------
    SpecError
        If anything in the spec is missing, unknown, of the wrong kind or contradictory. (A ValueError.)

    Examples
    --------
    >>> spec = check_spec({"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, -1.0]]}]})
    >>> spec.layers[0].name, spec.layers[0].inputs, spec.outputs
    ('Dense_1', ('input_1',), ('Dense_1',))
    """
    try:
        return _check(model)
    except RecursionError:
        raise SpecError("The lists of the model lie too deep in each other.") from None


def _check(model: Mapping[str, Any]) -> ModelSpec:
    _check_top_level(model)
    input_dim = parse_dims(model["input_dim"], "'input_dim'")
    inputs = default_keys("input", len(input_dim))
    layers: list[LayerSpec] = []
    before = inputs[0]
    for number, layer in enumerate(model["layers"], start=1):
        layers.append(_check_layer(layer, number, before))
        before = layers[-1].name
    _check_names(layers, inputs)
    outputs = _check_outputs(model.get("outputs"), layers)
    output_dim = model.get("output_dim")
    spec = ModelSpec(
        input_dim=input_dim,
        layers=_topological(layers, inputs),
        outputs=outputs,
        input_names=model.get("input_names"),
        output_names=model.get("output_names"),
        output_dim=None if output_dim is None else parse_dims(output_dim, "'output_dim'"),
        channels_first=_flag(model, "channels_first"),
        input_keys=_keys(model, "input_keys", len(input_dim)),
        output_keys=_keys(model, "output_keys", len(outputs)),
        layer_names=read_layer_names(model.get("layer_names"), layers),
        input_kinds=_kinds(model, input_dim),
        output_shape=_shapes(model, len(outputs)),
        token_names=_token_names(model),
    )
    for name in misplaced(spec.steps, spec.preparation)[:1]:
        where = next(layer.where for layer in spec.layers if layer.name == name)
        raise SpecError(
            f"{where}: key 'preprocessing': expected a layer at an input, or after another such layer, whose input "
            "nothing else takes; this one is none. Leave the key out."
        )
    _warn_of_unused(spec)
    return spec


def spec_as_dict(spec: ModelSpec) -> dict[str, Any]:
    """Return `spec` as the plain dict that `check_spec` reads, with numpy arrays for the weights."""
    plain: dict[str, Any] = {
        "input_dim": [list(dim) for dim in spec.input_dim],
        "layers": [layer.as_dict() for layer in spec.layers],
        "outputs": list(spec.outputs),
    }
    for key in ("input_names", "output_names"):
        if getattr(spec, key) is not None:
            plain[key] = getattr(spec, key)
    for key in ("input_keys", "output_keys", "input_kinds"):
        if getattr(spec, key) is not None:
            plain[key] = list(getattr(spec, key))
    if spec.layer_names is not None:
        plain["layer_names"] = layer_names_as_dict(spec.layer_names)
    if spec.token_names is not None:
        plain["token_names"] = copy.copy(spec.token_names)
    if not spec.channels_first:
        plain["channels_first"] = False
    if spec.output_shape is not None:
        plain["output_shape"] = [list(shape) for shape in spec.output_shape]
    if spec.output_dim is not None:
        plain["output_dim"] = [list(dim) for dim in spec.output_dim]
    return plain


def _flag(model: Mapping[str, Any], key: str) -> bool:
    value = model.get(key)
    if value is not None and not isinstance(value, bool):
        raise SpecError(f"'{key}': expected True or False, got {describe(value)}.")
    return value is not False


def _keys(model: Mapping[str, Any], key: str, n: int) -> tuple[str, ...] | None:
    value = model.get(key)
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(entry, str) and entry for entry in value):
        raise SpecError(f"'{key}': expected a list of names, got {describe(value)}.")
    if len(value) != n:
        raise SpecError(f"'{key}': expected {n} name(s), got {len(value)}.")
    if len(set(value)) < n:
        raise SpecError(f"'{key}': a name is there twice, got {describe(value)}.")
    return tuple(value)


def _shapes(model: Mapping[str, Any], n: int) -> tuple[tuple[int, ...], ...] | None:
    value = model.get("output_shape")
    if value is None:
        return None
    shapes = parse_dims(value, "'output_shape'")
    if len(shapes) != n:
        raise SpecError(f"'output_shape': expected {n} shape(s), one an output, got {len(shapes)}.")
    return shapes


def _kinds(model: Mapping[str, Any], dims: Sequence[tuple[int, ...]]) -> tuple[Kind, ...] | None:
    value = model.get("input_kinds")
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != len(dims):
        raise SpecError(f"'input_kinds': expected {len(dims)} kind(s), one an input, got {describe(value)}.")
    for kind, dim in zip(value, dims, strict=True):
        if kind not in ("tokens", "fixed", kind_of(dim)):
            raise SpecError(
                f"'input_kinds': an input of shape {dim} is of the kind '{kind_of(dim)}', 'tokens' or 'fixed', got "
                f"{describe(kind)}."
            )
    return tuple(value)


def _token_names(model: Mapping[str, Any]) -> list[str | None] | dict[str, int] | None:
    value = model.get("token_names")
    if value is None:
        return None
    if isinstance(value, list | tuple) and all(entry is None or isinstance(entry, str) for entry in value):
        return list(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) and is_whole(entry) for key, entry in value.items()):
        return {key: int(entry) for key, entry in value.items()}
    raise SpecError(f"'token_names': expected a list of texts, or a dict of numbers by texts, got {describe(value)}.")


def parse_dims(dims: Any, what: str) -> tuple[tuple[int, ...], ...]:
    """Read one shape, or a list of shapes, without the batch axis: ``4``, ``(3, 32, 32)``, ``[(4,), (3, 8)]``."""

    def shape(value: Any) -> tuple[int, ...]:
        entries = [value] if is_whole(value) else value
        if (
            isinstance(entries, str | bytes | Mapping | set | frozenset)
            or not hasattr(entries, "__iter__")
            or not all(is_whole(entry) for entry in entries)
        ):
            raise _wrong_dim(what, "whole numbers", value)
        numbers = tuple(int(entry) for entry in entries)
        if not numbers or min(numbers) < 1:
            raise _wrong_dim(what, "at least one number, each at least 1", value)
        return numbers

    if isinstance(dims, list | tuple) and len(dims) > 1 and dims[0] is None and all(is_whole(n) for n in dims[1:]):
        raise _wrong_dim(what, "whole numbers", dims)
    several = isinstance(dims, list | tuple) and len(dims) > 0 and not all(is_whole(entry) for entry in dims)
    return tuple(shape(entry) for entry in dims) if several else (shape(dims),)


def _wrong_dim(what: str, expected: str, value: Any) -> SpecError:
    """Build the error for a shape; one that is an argument is another's matter than one in a spec."""
    message = f"{what}: expected {expected}, got {describe(value)}."
    if not what.startswith("Argument"):
        return SpecError(message)
    if getattr(value, "ndim", 0):
        message += " Give the shape of one instance, without the batch: x.shape[1:]."
    elif isinstance(value, list | tuple) and len(value) > 1 and value[0] in (None, -1):
        message += f" Leave out the batch: {tuple(value[1:])}."
    return SpecError(see("input-shapes", message))


def _check_top_level(model: Mapping[str, Any]) -> None:
    layers = model.get("layers")
    r_keys = [key for key in _R_MODEL_KEYS if key in model]
    if isinstance(layers, Sequence):
        r_keys += [key for key in _R_LAYER_KEYS if any(isinstance(layer, Mapping) and key in layer for layer in layers)]
    if r_keys:
        raise SpecError(
            f"The model has the key '{r_keys[0]}' of R innsight's lists, which count from 1. Read it with "
            "'innsight_py.from_r(model)' and pass on what that returns."
        )
    for key in model:
        if key not in _MODEL_KEYS:
            raise SpecError(
                f"The model has the unknown key '{key}'{suggestion(key, _MODEL_KEYS)} "
                f"Known keys: {', '.join(_MODEL_KEYS)}."
            )
    for key in ("layers", "input_dim"):
        if model.get(key) is None:
            raise SpecError(f"The model lacks the key '{key}'.")
    if isinstance(layers, str) or not isinstance(layers, Sequence) or len(layers) == 0:
        raise SpecError(f"'layers': expected a list of at least one layer, got {describe(layers)}.")


def _check_layer(layer: Any, number: int, before: str) -> LayerSpec:
    if not isinstance(layer, Mapping):
        raise SpecError(f"Layer {number}: expected a dict, got {describe(layer)}.")
    kind = layer.get("type")
    kind = _TYPE_ALIASES.get(kind, kind) if isinstance(kind, str) else kind
    if not isinstance(kind, str) or kind not in LAYER_SPECS:
        found = "nothing" if kind is None else describe(kind)
        raise SpecError(
            f"Layer {number}: key 'type': expected one of {', '.join(LAYER_SPECS)}, got {found}"
            f"{suggestion(str(kind), LAYER_SPECS)}"
        )
    name = layer.get("name")
    where = f"Layer '{kind}_{number}' ({kind})" if name is None else f"Layer '{name}' ({kind})"
    values = {key: value for key, value in layer.items() if value is not None}
    values.setdefault("name", f"{kind}_{number}")
    values.setdefault("inputs", [before])
    values["type"] = kind
    try:
        return LAYER_SPECS[kind].model_validate(values)
    except ValidationError as error:
        raise SpecError("\n".join(_explain(where, kind, entry) for entry in error.errors(include_url=False))) from None


def _explain(where: str, kind: str, error: Mapping[str, Any]) -> str:
    """Turn one finding of pydantic into the sentence that a user needs."""
    known = LAYER_SPECS[kind].keys()
    key = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key '{key}'{suggestion(key, known)} Known keys: {', '.join(known)}."
    if error["type"] == "missing":
        return f"{where}: lacks the key '{key}'."
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, ValueError):
        text = str(cause) if not key or str(cause).startswith("expected ") else f"expected {cause}"
        if not key:  # a check across several keys says all of it itself
            return f"{where}: {text}"
    elif error["type"] == "literal_error":
        text = f"expected one of {error['ctx']['expected']}"
    else:
        text = "expected " + error["msg"].removeprefix("Input should be ")
    return f"{where}: key '{key}': {text}, got {describe(error['input'])}."


def _check_names(layers: Sequence[LayerSpec], inputs: Sequence[str]) -> None:
    seen = set(inputs)
    for layer in layers:
        if layer.name in seen:
            raise SpecError(f"Two layers (or an input and a layer) have the name {describe(layer.name)}.")
        seen.add(layer.name)
    for layer in layers:
        for source in layer.inputs:
            if source not in seen:
                raise SpecError(
                    f"{layer.where}: key 'inputs': there is no layer or input {describe(source)}"
                    f"{suggestion(source, seen)} Inputs of this model: {shortened(inputs)}."
                )
        if layer.arity is not None and len(layer.inputs) != layer.arity:
            raise SpecError(f"{layer.where}: key 'inputs': expected {layer.arity} name(s), got {len(layer.inputs)}.")


def _check_outputs(outputs: Any, layers: Sequence[LayerSpec]) -> tuple[str, ...]:
    if outputs is None:
        return (layers[-1].name,)
    names = [outputs] if isinstance(outputs, str) else outputs
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise SpecError(f"'outputs': expected a list of names of layers, got {describe(outputs)}.")
    known = {layer.name: 0 for layer in layers}
    for name in names:
        if name not in known:
            raise SpecError(f"'outputs': there is no layer {describe(name)}{suggestion(name, known)}")
        known[name] += 1
        if known[name] > 1:
            raise SpecError(f"'outputs': the layer {describe(name)} is named twice.")
    return tuple(names)


def _topological(layers: Sequence[LayerSpec], inputs: Sequence[str]) -> tuple[LayerSpec, ...]:
    """Order the layers so that each comes after those it takes, keeping the given order where it can be kept."""
    position = {layer.name: i for i, layer in enumerate(layers)}
    users: dict[str, list[int]] = {}
    lacking = []
    for i, layer in enumerate(layers):
        sources = {source for source in layer.inputs if source in position}
        lacking.append(len(sources))
        for source in sources:
            users.setdefault(source, []).append(i)
    ready = [i for i, n in enumerate(lacking) if n == 0]  # in order, which makes it a heap
    ordered: list[LayerSpec] = []
    while ready:
        layer = layers[heapq.heappop(ready)]
        ordered.append(layer)
        for i in users.get(layer.name, ()):
            lacking[i] -= 1
            if lacking[i] == 0:
                heapq.heappush(ready, i)
    if len(ordered) < len(layers):
        names = few([layer.name for layer, n in zip(layers, lacking, strict=True) if n])
        raise SpecError(f"The layers {names} form a circle, or depend on one: no order runs them.")
    return tuple(ordered)


def _warn_of_unused(spec: ModelSpec) -> None:
    needed = set(spec.outputs)
    for layer in reversed(spec.layers):
        if layer.name in needed:
            needed.update(layer.inputs)
    known = zip(spec.inputs, spec.input_keys or spec.inputs, strict=True)
    named = [*known, *((layer.name, layer.name) for layer in spec.layers)]
    unused = [shown for name, shown in named if name not in needed]
    for shown in unused[:_WARNINGS]:
        warn(f"{describe(shown)} reaches no output of the model.")
    if len(unused) > _WARNINGS:
        warn(f"{len(unused) - _WARNINGS} more layers and inputs reach no output of the model.")
