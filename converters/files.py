"""Paths: which reader opens which file."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from innsight_py.converters.keras import files as keras_files
from innsight_py.converters.r import lists, neuralnet, rds
from innsight_py.converters.safetensors import read_model_file


def _read_rds(path: Path) -> dict[str, Any]:
    model = rds.read_rds(path)
    return neuralnet.neuralnet_spec(model, path) if neuralnet.is_neuralnet(model) else lists.r_spec(model, path)


def _read_safetensors(path: Path) -> dict[str, Any]:
    return read_model_file(path)[0]


def _load_exported(path: Path) -> Any:
    return importlib.import_module("innsight_py.converters.torch.exported").load(path)  # brings torch.export


def _load_onnx(path: Path) -> Any:
    return importlib.import_module("innsight_py.converters.onnx.loading").load(path)


#: What reads a model spec from a file, by the end of the file's name.
READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".rds": _read_rds,
    ".json": lists.read_r_model,
    ".safetensors": _read_safetensors,
}
#: What loads a model that goes through the door of its framework.
LOADERS: dict[str, Callable[[Path], Any]] = {
    ".keras": keras_files.load,
    ".h5": keras_files.load,
    ".hdf5": keras_files.load,
    ".pt2": _load_exported,
    ".onnx": _load_onnx,
}


def reader_of(path: str | os.PathLike[str]) -> Callable[[Path], dict[str, Any]] | None:
    """Find what reads a file, if anything does."""
    return READERS.get(Path(path).suffix.lower())


def loader_of(path: str | os.PathLike[str]) -> Callable[[Path], Any] | None:
    """Find what loads the model in a file, if anything does."""
    return LOADERS.get(Path(path).suffix.lower())
