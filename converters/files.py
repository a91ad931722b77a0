"""Paths: which reader opens which file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from innsight_py._checks import describe
from innsight_py.converters import neuralnet, r, rds


def _read_rds(path: Path) -> dict[str, Any]:
    model = rds.read_rds(path)
    return neuralnet.neuralnet_spec(model, path) if neuralnet.is_neuralnet(model) else r.r_spec(model, path)


def _read_safetensors(path: Path) -> dict[str, Any]:
    from innsight_py.saving import read_model_file

    return read_model_file(path)[0]


#: What reads a model spec from a file, by the end of the file's name.
READERS = {".rds": _read_rds, ".json": r.read_r_model, ".safetensors": _read_safetensors}


def read_path(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a model spec from a file.

    Raises
    ------
    ValueError
        If there is no reader for such a file, or the file is not what it says.
    """
    reader = READERS.get(Path(path).suffix.lower())
    if reader is None:
        raise ValueError(
            f"Argument 'model': expected a path that ends in one of {', '.join(READERS)}, got {describe(os.fspath(path))}."
        )
    return reader(Path(path))
