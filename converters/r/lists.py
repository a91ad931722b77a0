"""The door for the lists in which R innsight describes a model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from innsight_py._checks import FilePath, Flag, checked, describe, suggestion, warn
from innsight_py.converters.r import rds
from innsight_py.spec import SpecError

_MODEL_KEYS = ("layers", "input_dim", "output_dim", "input_nodes", "output_nodes", "input_names", "output_names")
#: Keys of R's layers that are vectors; every other key holds one value, which R writes as a vector of length one.
_VECTORS = {"bias", "gamma", "beta", "run_mean", "run_var"}
#: Keys that are vectors of whole numbers.
_WHOLE = {
    "dim_in", "dim_out", "stride", "strides", "padding", "dilation", "dilation_rate", "kernel_size",
}  # fmt: skip


@checked
def from_r(model: Any, channels_first: Flag = True) -> dict[str, Any]:
    """Turn the list in which R innsight describes a model into a model spec.

    R counts layers, axes and nodes from 1; ``input_layers`` 0 is the model's input and ``output_layers`` -1 its
    output. Single values may come as lists of length one, as R writes them.

    Parameters
    ----------
    model : mapping
        What ``Converter$new(list(...))`` takes in R: ``layers``, ``input_dim``, ``input_nodes``, ``output_nodes``, ...
    channels_first : bool
        The order in which ``Flatten`` layers read their input. In R it is the method's argument `channels_first`
        that decides it, so that one list computes two functions; here it belongs to the model.

    Returns
    -------
    dict
        A model spec for `Converter`.

    Raises
    ------
    SpecError
        If the list is no such model, or its edges contradict each other.

    Examples
    --------
    >>> dense = {"type": "Dense", "weight": [[1.0, 2.0]], "bias": [0.0], "activation_name": "relu",
    ...          "input_layers": 0, "output_layers": -1}
    >>> spec = from_r({"input_dim": 2, "input_nodes": 1, "output_nodes": 1, "layers": [dense]})
    >>> spec["outputs"], spec["layers"][0]["inputs"]
    (['Dense_1'], ['input_1'])
    """
    try:
        return _spec(model, channels_first)
    except RecursionError:
        raise SpecError("The lists of the model lie too deep in each other.") from None


def _spec(model: Mapping[str, Any], channels_first: bool) -> dict[str, Any]:
    if not isinstance(model, Mapping):
        raise SpecError(
            f"Argument 'model': expected a dict with the keys of R innsight's lists, got {describe(model)}."
        )
    for key in model:
        if key not in _MODEL_KEYS:
            raise SpecError(f"The model has the unknown key '{key}'{suggestion(key, _MODEL_KEYS)}")
    layers = model.get("layers")
    layers = list(layers.values()) if isinstance(layers, Mapping) else layers
    if not isinstance(layers, Sequence) or not layers or not all(isinstance(layer, Mapping) for layer in layers):
        raise SpecError(f"'layers': expected a list of at least one layer, got {describe(layers)}.")
    types = [_single(layer.get("type")) for layer in layers]
    names = [f"{kind}_{i}" for i, kind in enumerate(types, start=1)]
    input_nodes = _nodes(model, "input_nodes", 1, len(layers))
    output_nodes = _nodes(model, "output_nodes", len(layers), len(layers))
    sources, targets = _edges(layers)
    _compare_edges(sources, targets, names, output_nodes)
    spec_layers = []
    for i, (layer, kind) in enumerate(zip(layers, types, strict=True)):
        inputs = [_source(j, i + 1, names, input_nodes) for j in sources[i]]
        spec_layers.append({"name": names[i], "inputs": inputs, **_keys(layer, kind, channels_first)})
    _check_inputs(model.get("input_dim"), input_nodes, sources)
    spec: dict[str, Any] = {
        "input_dim": _integers(model.get("input_dim")),
        "layers": spec_layers,
        "outputs": [names[node - 1] for node in output_nodes],
    }
    for key in ("input_names", "output_names"):
        if model.get(key) is not None:
            spec[key] = model[key]
    if model.get("output_dim") is not None:
        spec["output_dim"] = _integers(model["output_dim"])
    return spec


@checked
def read_r_model(path: FilePath, channels_first: Flag = True) -> dict[str, Any]:
    """Read a model that R innsight has converted, from a file.

    R keeps the converted model as a list with ``save_model_as_list = TRUE``. Its weights may be tensors of R's torch,
    which live in that R session only; as arrays they can be saved::

        conv <- convert(model, save_model_as_list = TRUE)
        plain <- rapply(conv$model_as_list, as.array, classes = "torch_tensor", how = "replace")
        saveRDS(plain, "model.rds")  # or, as text:
        jsonlite::write_json(plain, "model.json", digits = NA, null = "null")

    Parameters
    ----------
    path : str or path-like
        The file, which ends in ``.rds`` or ``.json``. ``Converter(path)`` reads it as well.
    channels_first : bool
        The order in which ``Flatten`` layers read their input, see `from_r`.

    Returns
    -------
    dict
        A model spec for `Converter`.

    Raises
    ------
    ImportError
        If the file is an ``.rds`` and the package ``rdata`` is not installed (``pip install "innsight_py[r]"``).
    OSError
        If there is no such file.
    ValueError
        If the file is damaged, truncated, of another kind, or holds no such list.

    Examples
    --------
    >>> from pathlib import Path
    >>> layer = {"type": ["Dense"], "weight": [[1, -1]], "bias": [0], "activation_name": ["tanh"],
    ...          "input_layers": [0], "output_layers": [-1]}
    >>> model = {"input_dim": [[2]], "input_nodes": [1], "output_nodes": [1], "layers": {"Dense_1": layer}}
    >>> _ = Path("model.json").write_text(json.dumps(model))
    >>> read_r_model("model.json")["outputs"]
    ['Dense_1']
    """
    if Path(path).suffix.lower() != ".json":
        return r_spec(rds.read_rds(path), path, channels_first)
    try:
        model = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
    else:
        return _from_file(model, path, channels_first)
    raise ValueError(f"'{os.fspath(path)}' cannot be read as JSON: {why}.")


def r_spec(model: rds.RObject, path: str | os.PathLike[str], channels_first: bool = True) -> dict[str, Any]:
    """Write the model spec of a parsed list of R innsight's."""
    try:
        if "layers" not in rds.fields(model):
            raise ValueError(f"it holds an R object of class {', '.join(rds.classes(model))}, without 'layers'")  # noqa: TRY301
        plain = rds.plain(model)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        why = str(error)
    else:
        return _from_file(plain, path, channels_first)
    raise ValueError(f"'{os.fspath(path)}' cannot be read as a model of R's: {why}.")


def _from_file(model: Any, path: str | os.PathLike[str], channels_first: bool) -> dict[str, Any]:
    try:
        return from_r(model, channels_first)
    except SpecError as error:
        raise SpecError(f"'{os.fspath(path)}' holds no model of R innsight's: {error}") from None


def _single(value: Any) -> Any:
    """Unwrap a vector of length one, and write whole numbers as such (R has them as doubles)."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    while isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    value = value.item() if isinstance(value, np.generic) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _whole_numbers(value: Any, what: str) -> list[int]:
    entries = np.ravel(value).tolist() if isinstance(value, np.ndarray | np.generic) else value
    entries = [_single(entry) for entry in (entries if isinstance(entries, list | tuple) else [entries])]
    if not entries or not all(isinstance(entry, int) and not isinstance(entry, bool) for entry in entries):
        raise SpecError(f"{what}: expected whole numbers, got {describe(value)}.")
    return entries


def _integers(value: Any) -> Any:
    """Write the whole numbers of a vector, or of a list of vectors, as such."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_integers(entry) for entry in value]
    return _single(value)


def _nodes(model: Mapping[str, Any], key: str, default: int, layers: int) -> list[int]:
    if model.get(key) is None:
        warn(f"The model lacks '{key}'; taking {default}.")
        return [default]
    nodes = _whole_numbers(model[key], f"'{key}'")
    if min(nodes) < 1 or max(nodes) > layers or len(set(nodes)) < len(nodes):
        raise SpecError(f"'{key}': expected different numbers of layers from 1 to {layers}, got {nodes}.")
    return nodes


def _edges(layers: Sequence[Mapping[str, Any]]) -> tuple[list[list[int]], list[list[int]]]:
    """Read where each layer's inputs come from and where its output goes, with R's defaults and warnings."""
    sources: list[list[int]] = []
    targets: list[list[int]] = []
    for i, layer in enumerate(layers, start=1):
        for key, default, edges in (
            ("input_layers", max(i - 1, 0), sources),
            ("output_layers", i + 1 if i < len(layers) else -1, targets),
        ):
            if layer.get(key) is None:
                warn(f"Layer {i} lacks '{key}'; taking {default}.")
                edges.append([default])
            else:
                edges.append(_whole_numbers(layer[key], f"Layer {i}: key '{key}'"))
            allowed = range(0 if key == "input_layers" else -1, len(layers) + 1)
            if not all(node in allowed for node in edges[-1]):
                raise SpecError(
                    f"Layer {i}: key '{key}': expected numbers of layers up to {len(layers)}, got {edges[-1]}."
                )
    return sources, targets


def _compare_edges(
    sources: list[list[int]], targets: list[list[int]], names: list[str], output_nodes: list[int]
) -> None:
    into = {(j, i) for i, taken in enumerate(sources, start=1) for j in taken if j > 0}
    out = {(i, j) for i, given in enumerate(targets, start=1) for j in given if j > 0}
    for i, j in sorted(into ^ out):
        says, silent = ("input_layers", "output_layers") if (i, j) in into else ("output_layers", "input_layers")
        told = j if says == "input_layers" else i
        raise SpecError(
            f"'{says}' of layer {told} leads from layer {i} ('{names[i - 1]}') to layer {j} ('{names[j - 1]}'), "
            f"but '{silent}' of the other does not."
        )
    for i, given in enumerate(targets, start=1):
        if -1 in given and i not in output_nodes:
            raise SpecError(f"Layer {i} ('{names[i - 1]}') has -1 in 'output_layers' but is not in 'output_nodes'.")


def _check_inputs(input_dim: Any, input_nodes: list[int], sources: list[list[int]]) -> None:
    for node in input_nodes:
        if 0 not in sources[node - 1]:
            raise SpecError(f"'input_nodes': layer {node} does not take the model's input (0 in 'input_layers').")
    several = isinstance(input_dim, list | tuple) and any(np.ndim(dim) > 0 for dim in input_dim)
    if several and len(input_dim) != len(input_nodes):
        raise SpecError(
            f"'input_dim': expected {len(input_nodes)} shape(s), one for each of 'input_nodes', got {len(input_dim)}."
        )


def _source(j: int, i: int, names: list[str], input_nodes: list[int]) -> str:
    if j > 0:
        return names[j - 1]
    if i not in input_nodes:
        raise SpecError(f"Layer {i} ('{names[i - 1]}') takes the model's input but is not in 'input_nodes'.")
    return f"input_{input_nodes.index(i) + 1}"


def _keys(layer: Mapping[str, Any], kind: Any, channels_first: bool) -> dict[str, Any]:
    """Return the layer's own keys as the spec wants them: no edges, single values unwrapped, axes counted from 0."""

    def read(key: str, value: Any) -> Any:
        if key in _VECTORS:
            return [value] if np.ndim(value) == 0 else value
        if key == "weight":
            return value
        return _integers(value) if key in _WHOLE else _single(value)

    keys = {
        key: read(key, value)
        for key, value in layer.items()
        if key not in ("input_layers", "output_layers") and value is not None
    }
    keys["type"] = kind
    for axis in ("axis", "dim", "start_dim", "end_dim"):
        if axis in keys and isinstance(keys[axis], int) and keys[axis] > 0:
            keys[axis] -= 1
    if kind == "Flatten":
        keys["order"] = "channels_first" if channels_first else "channels_last"
    if kind == "GlobalPooling" and keys.get("method") == "max":
        keys["winner_always"] = True
    return keys
