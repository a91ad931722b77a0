"""Paths: which reader opens which file."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from innsight_py.converters import neuralnet, r, rds

#: The first release of Keras in which neither format can run code that a file brings along (CVE-2025-9905, -12058).
_SAFE_KERAS = (3, 12)


def _read_rds(path: Path) -> dict[str, Any]:
    model = rds.read_rds(path)
    return neuralnet.neuralnet_spec(model, path) if neuralnet.is_neuralnet(model) else r.r_spec(model, path)


def _read_safetensors(path: Path) -> dict[str, Any]:
    from innsight_py.saving import read_model_file

    return read_model_file(path)[0]


def _load_keras(path: Path) -> Any:
    """Load a Keras model in safe mode, without its optimizer and loss.

    Where TensorFlow is not installed and no backend is chosen, Keras computes with PyTorch.
    """
    with open(path, "rb"):  # errors of the system say it best: no such file, no permission
        pass
    keras = _import_keras()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras's advice on how the model should have been written
            return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever it runs into
        first = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(
            f"'{path}' cannot be loaded as a Keras model (in safe mode): {type(error).__name__}: {first}"
        ) from error


def _import_keras() -> Any:
    chosen = "KERAS_BACKEND" in os.environ or "keras" in sys.modules
    if not chosen and importlib.util.find_spec("tensorflow") is None:
        os.environ["KERAS_BACKEND"] = "torch"
    try:
        import keras
    except ModuleNotFoundError as error:
        if error.name != "keras":
            raise
        raise ImportError('Files of Keras need keras: pip install "innsight_py[keras]"') from None
    if tuple(int(part) for part in keras.__version__.split(".")[:2]) < _SAFE_KERAS:
        wanted = ".".join(map(str, _SAFE_KERAS))
        raise ImportError(f"Files of Keras are read safely from release {wanted} on, this is {keras.__version__}.")
    return keras


def _load_exported(path: Path) -> Any:
    from innsight_py.converters import torch_exported

    return torch_exported.load(path)


#: What reads a model spec from a file, by the end of the file's name.
READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".rds": _read_rds,
    ".json": r.read_r_model,
    ".safetensors": _read_safetensors,
}
#: What loads a model that goes through the door of its framework.
LOADERS: dict[str, Callable[[Path], Any]] = {
    ".keras": _load_keras,
    ".h5": _load_keras,
    ".hdf5": _load_keras,
    ".pt2": _load_exported,
}


def reader_of(path: str | os.PathLike[str]) -> Callable[[Path], dict[str, Any]] | None:
    """Find what reads a file, if anything does."""
    return READERS.get(Path(path).suffix.lower())


def loader_of(path: str | os.PathLike[str]) -> Callable[[Path], Any] | None:
    """Find what loads the model in a file, if anything does."""
    return LOADERS.get(Path(path).suffix.lower())
