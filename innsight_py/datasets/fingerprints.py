"""What tells a job from others: hashes of the model, of arguments and of references."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from innsight_py.converters.safetensors import read_model_file
from innsight_py.model.converter import Converter
from innsight_py.model.explainable import Explainable

#: Lists of at most this many entries stand for themselves, longer ones are hashed.
FEW = 8


def versions() -> dict[str, str]:
    """Return the versions that numbers may depend on."""
    return {"innsight_py": version("innsight_py"), "torch": torch.__version__}


def fingerprint(value: Any) -> Any:
    """Return plain values that stand for an argument: itself where JSON holds it, a hash of its numbers otherwise.

    Examples
    --------
    >>> fingerprint({"rule_name": "epsilon", "x_ref": [1.0, 2.0]})
    {'rule_name': 'epsilon', 'x_ref': [1.0, 2.0]}
    >>> fingerprint(np.zeros((3, 4)))
    'float64 (3, 4) 2ea9ab9198d1638007400cd2c3bef1cc'
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): fingerprint(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple) and len(value) <= FEW:
        return [fingerprint(entry) for entry in value]
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    try:
        array = np.ascontiguousarray(np.asarray(value))
    except ValueError:
        array = np.array(None)
    if array.dtype.kind in "biuf":
        return f"{array.dtype} {array.shape} {_hash(array.tobytes())}"
    if array.dtype.kind in "SU":
        return f"{array.shape} {_hash(json.dumps(array.tolist()).encode())}"
    return repr(value) if " at 0x" not in repr(value) else f"{type(value).__module__}.{type(value).__qualname__}"


def model_fingerprint(model: Explainable) -> str:
    """Return a hash of the model as it would be saved; where it cannot be saved, of its weights and shapes."""
    if isinstance(model, Converter):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "model.safetensors")
            try:
                model.save(file)
                digest = hashlib.sha256()
                _feed(digest, read_model_file(file)[0])
                return digest.hexdigest()[:32]
            except (ValueError, TypeError, NotImplementedError):
                pass
    graph = model.model_in("double")
    weights = [getattr(graph.layer(node.name), "weight", None) for node in graph.nodes]
    numbers = b"".join(x.detach().cpu().numpy().tobytes() for x in weights if isinstance(x, torch.Tensor))
    return _hash(repr((model.inputs, model.outputs, [node.name for node in graph.nodes])).encode() + numbers)


def _feed(digest: Any, value: Any) -> None:
    """Feed a hash with nested values, whatever the order of the keys."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            digest.update(f"{key}:".encode())
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(f"[{len(value)}]".encode())
        for entry in value:
            _feed(digest, entry)
    elif isinstance(value, torch.Tensor | np.ndarray):
        array = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value)
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    else:
        digest.update(repr(value).encode())


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
