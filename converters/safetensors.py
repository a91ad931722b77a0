"""Converted models in files: the spec as JSON in the header of a safetensors file, the arrays as its tensors.

Nothing in such a file is code. What JSON has no form for is written as a dict with one key that starts with ``$``::

    {"type": "Dense", "weight": {"$tensor": "Dense_1.weight"}, "bias": {"$tensor": "Dense_1.bias"}, ...}

The header also holds the version of the format and a digest of all that the file holds.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from innsight_py._checks import describe
from innsight_py._errors import see
from innsight_py.converters.unknown import BUILD_FIRST

#: Files of later versions are refused; a change that old readers cannot know of counts it up.
VERSION = 1
SUFFIX = ".safetensors"
_KEY = "innsight_py"


def write_model_file(path: str | os.PathLike[str], spec: Mapping[str, Any], dtype: str) -> None:
    """Write a model spec, with tensors as its arrays, to a file.

    Raises
    ------
    OSError
        If the file cannot be written.
    ValueError
        If the path does not end in ``.safetensors``, or the spec holds what the format has no form for.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if Path(path).suffix.lower() != SUFFIX:
        raise ValueError(f"Argument 'path': expected a path that ends in '{SUFFIX}', got {describe(os.fspath(path))}.")
    tensors: dict[str, Tensor] = {}
    layers = [_encode(layer, tensors, layer["name"]) for layer in spec["layers"]]
    rest = {key: _encode(value, tensors, key) for key, value in spec.items() if key != "layers"}
    text = json.dumps({**rest, "layers": layers}, allow_nan=False)
    header = {"version": VERSION, "dtype": dtype, "spec": text, "digest": _digest(dtype, text, tensors)}
    try:
        save_file(tensors, path, metadata={_KEY: json.dumps(header)})
    except SafetensorError as error:
        folder = Path(path).absolute().parent
        why = str(error) if folder.is_dir() else f"there is no folder '{folder}'"
        raise OSError(f"'{os.fspath(path)}' cannot be written: {why}.") from None


def read_model_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    """Read the model spec and the precision that `write_model_file` has written.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If the file is damaged or of another kind, was changed since it was written, or is of a later version.
    """
    metadata, tensors = _open(path)
    try:
        header = json.loads(metadata[_KEY])
        version, dtype, text, digest = (header[key] for key in ("version", "dtype", "spec", "digest"))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ValueError(
            see(
                "weights-without-a-model",
                f"'{os.fspath(path)}' holds no model that 'Converter.save' has written. If it holds weights alone: "
                f"weights = safetensors.torch.load_file(path). {BUILD_FIRST}",
            )
        ) from None
    if version != VERSION:
        raise ValueError(
            f"'{os.fspath(path)}' is written in version {describe(version)} of the format; this innsight_py reads "
            f"version {VERSION}. Install a newer innsight_py."
        )
    if not isinstance(text, str) or dtype not in ("float", "double") or digest != _digest(dtype, text, tensors):
        raise ValueError(f"'{os.fspath(path)}' is damaged: it is not what 'Converter.save' has written.")
    try:
        spec = _decode(json.loads(text), tensors)
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError, RuntimeError) as error:
        why = f"{type(error).__name__}: {error}"
    else:
        if isinstance(spec, dict):
            return spec, dtype
        why = f"expected a dict, got {describe(spec)}"
    raise ValueError(f"'{os.fspath(path)}' holds no model spec: {why}.")


def _open(path: str | os.PathLike[str]) -> tuple[Mapping[str, str], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    with open(path, "rb"):  # errors of the system say it best: no such file, no permission
        pass
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError, KeyError, TypeError) as error:
        why = str(error)
    raise ValueError(f"'{os.fspath(path)}' is damaged, truncated or no safetensors file: {why}.")


def _digest(dtype: str, text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(f"{dtype} {text}".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f" {name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _encode(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """Write a value as JSON has it; a tensor goes to `tensors`, under a name of its own."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, Tensor):
        unique, number = name, 2
        while unique in tensors:
            unique, number = f"{name}_{number}", number + 1
        tensors[unique] = value.detach().cpu().contiguous()
        return {"$tensor": unique}
    if isinstance(value, pd.Categorical):
        return {"$labels": [str(label) for label in value], "$levels": [str(level) for level in value.categories]}
    if isinstance(value, torch.dtype | torch.memory_format | torch.layout):
        return {"$torch": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"$device": str(value)}
    if isinstance(value, list | tuple):
        return [_encode(entry, tensors, f"{name}.{i}") for i, entry in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: _encode(entry, tensors, f"{name}.{key}") for key, entry in value.items()}
    raise ValueError(f"The model cannot be saved: there is no form for '{name}', {describe(value)}.")


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `_encode`."""
    if isinstance(value, list):
        return [_decode(entry, tensors) for entry in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        return tensors[value["$tensor"]]
    if "$float" in value:
        return float(value["$float"])
    if "$labels" in value:
        if any(label not in value["$levels"] for label in value["$labels"]):
            raise ValueError(f"labels {value['$labels']} that are not among the levels {value['$levels']}")
        return pd.Categorical(value["$labels"], categories=value["$levels"])
    if "$device" in value:
        return torch.device(value["$device"])
    if "$torch" in value:
        constant = vars(torch)[value["$torch"]]
        if not isinstance(constant, torch.dtype | torch.memory_format | torch.layout):
            raise ValueError(f"torch.{value['$torch']} is no type or format")
        return constant
    return {key: _decode(entry, tensors) for key, entry in value.items()}
