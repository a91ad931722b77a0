"""Paths: which reader opens which file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from innsight_py.converters import neuralnet, r, rds


def _read_rds(path: Path) -> dict[str, Any]:
    model = rds.read_rds(path)
    return neuralnet.neuralnet_spec(model, path) if neuralnet.is_neuralnet(model) else r.r_spec(model, path)


def _read_safetensors(path: Path) -> dict[str, Any]:
    from innsight_py.saving import read_model_file

    return read_model_file(path)[0]


#: What reads a model spec from a file, by the end of the file's name.
READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".rds": _read_rds,
    ".json": r.read_r_model,
    ".safetensors": _read_safetensors,
}


def reader_of(path: str | os.PathLike[str]) -> Callable[[Path], dict[str, Any]] | None:
    """Find what reads a file, if anything does."""
    return READERS.get(Path(path).suffix.lower())
