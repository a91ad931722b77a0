"""Archives of ``torch.export.save``: read once, with one reader, and taken apart into plain values and tensors.

An archive is a zip file of stored (never compressed) entries under one folder::

    models/model.json                           the program
    data/weights/model_weights_config.json      for each weight: its file, dtype, sizes, strides
    data/weights/weight_0 ...                   the bytes of the weights
    data/constants/...                          the same for constants
    data/sample_inputs/model.pt                 a pickle of the example inputs: never read

The releases of torch from 2.9 on write it like this. What has no place in this list is not read.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from innsight_py._checks import describe
from innsight_py.converters.archives import UnfitError, open_archive
from innsight_py.converters.torch.sizes import is_size

#: Kinds of numbers by torch's own numbers for them.
DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16,
    7: torch.float32, 8: torch.float64, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_STRIDED = 7
#: A tensor may have more entries than bytes in the file (``torch.ones(1).expand(100, 100)``), all of them together
#: this many more.
_EXPANDED = 2**22


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, and whether it is a parameter."""

    tensor: Tensor
    is_parameter: bool


@dataclass(frozen=True)
class Archive:
    """The parts of an archive that are read.

    Attributes
    ----------
    model : dict
        The program, as JSON has it.
    weights, constants : dict of str to Stored
        Tensors by the names that the program has for them.
    size : int
        How many bytes the file has.
    """

    model: dict[str, Any]
    weights: dict[str, Stored]
    constants: dict[str, Stored]
    size: int


def read_archive(path: Path) -> Archive:
    """Read an archive into memory.

    Raises
    ------
    OSError
        If there is no such file.
    UnfitError
        If a part of it is no text, number or tensor, or not of the size that it says.
    zipfile.BadZipFile, ValueError
        If it is damaged.
    """
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UnfitError("something else than a regular file")
        entries = _Entries(file, status.st_size)
        model = entries.json(entries.model)
        name = entries.model.removeprefix("models/").removesuffix(".json")
        configs = [entries.json(f"data/{kind}/{name}_{kind}_config.json") for kind in ("weights", "constants")]
        _check_formulas(model)
        weights, constants = (
            _tensors(config, f"data/{kind}/", entries)
            for config, kind in zip(configs, ("weights", "constants"), strict=True)
        )
    _check_expansion([*weights.values(), *constants.values()], status.st_size)
    return Archive(model, weights, constants, status.st_size)


class _Entries:
    """The entries of an archive, by their names without the folder that they all lie in."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._archive = open_archive(file, size)
        infos = self._archive.infolist()
        self._infos = {info.filename.partition("/")[2]: info for info in infos}
        if len(self._infos) < len(infos):
            raise UnfitError("two entries of the same name")
        for name, info in self._infos.items():
            _check_name(name)
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise UnfitError("compressed or encrypted entries")
        models = [name for name in self._infos if re.fullmatch(r"models/[^/]+\.json", name)]
        if len(models) != 1:
            raise UnfitError("no program of torch.export.save" if not models else "several programs")
        self.model = models[0]
        if "byteorder" in self._infos and self.read("byteorder").strip() != b"little":
            raise UnfitError("numbers whose largest byte comes first")
        for name, info in self._infos.items():
            if name.startswith("data/sample_inputs/") and self._archive.open(info).read(4) != b"PK\x03\x04":
                raise UnfitError("example inputs that are no tensors")

    def read(self, name: str) -> bytes:
        """Return the bytes of an entry."""
        if name not in self._infos:
            raise UnfitError(f"no entry {describe(name)}")
        return self._archive.read(self._infos[name])

    def json(self, name: str) -> dict[str, Any]:
        """Return the JSON object in an entry."""
        try:
            value = json.loads(self.read(name).decode("utf-8"))
        except RecursionError:
            raise UnfitError(f"lists too deep in each other in {describe(name)}") from None
        return as_dict(value, name)


def _check_name(name: str) -> None:
    compiled = name.startswith(("data/aotinductor/", "data/executorch/"))
    if compiled or (name.endswith((".pt", ".so", ".pkl")) and not name.startswith("data/sample_inputs/")):
        raise UnfitError("pickled or compiled objects")


def _check_formulas(model: Any) -> None:
    """Check all formulas of sizes; none of them is used."""
    for key, value in _all_keys(model):
        if key == "expr_str" and not is_size(value):
            raise UnfitError(f"the size {describe(value)}, which is no formula of whole numbers and symbols")


def _all_keys(value: Any) -> Iterator[tuple[str, Any]]:
    """Give all keys of nested dicts, with their values."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _tensors(config: dict[str, Any], folder: str, entries: _Entries) -> dict[str, Stored]:
    read: dict[str, bytearray] = {}
    found: dict[str, Stored] = {}
    for name, payload in as_dict(config.get("config"), "config").items():
        payload = as_dict(payload, name)
        if payload.get("use_pickle"):
            raise UnfitError("pickled weights")
        file = payload.get("path_name")
        if not isinstance(file, str) or not re.fullmatch(r"(weight|tensor)_\d+", file):
            raise UnfitError(f"{describe(file)}, which is no tensor")
        if file not in read:
            read[file] = bytearray(entries.read(folder + file))
        meta = as_dict(payload.get("tensor_meta"), f"tensor_meta of {name}")
        found[name] = Stored(_tensor(read[file], meta, name), payload.get("is_param") is True)
    return found


def _tensor(content: bytearray, meta: dict[str, Any], name: str) -> Tensor:
    dtype = dtype_of(meta.get("dtype"))
    sizes, strides = (_numbers(meta.get(key), f"{key} of {name}") for key in ("sizes", "strides"))
    offset = as_whole(as_dict(meta.get("storage_offset"), "storage_offset").get("as_int"), "storage_offset", 0)
    if meta.get("layout") != _STRIDED or len(sizes) != len(strides):
        raise UnfitError(f"a weight {describe(name)} that is no plain array")
    if not math.prod(sizes):
        return torch.zeros(sizes, dtype=dtype)
    last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    if (last + 1) * dtype.itemsize > len(content) or len(content) % dtype.itemsize:
        raise UnfitError(f"{len(content)} bytes for the weight {describe(name)} of shape {describe(sizes)} and {dtype}")
    if dtype == torch.bool:  # a byte other than 0 and 1 is no truth value
        flat = torch.frombuffer(content, dtype=torch.uint8) != 0
    else:
        flat = torch.frombuffer(content, dtype=dtype)
    return torch.empty(0, dtype=dtype).set_(flat.untyped_storage(), offset, sizes, strides)  # a tensor, no view of one


def _check_expansion(stored: list[Stored], size: int) -> None:
    entries = sum(one.tensor.numel() for one in stored)
    if entries > 2 * size + _EXPANDED:
        raise UnfitError(f"weights of {entries} numbers in all, in {size} bytes")


def _numbers(value: Any, what: str) -> list[int]:
    if not isinstance(value, list):
        raise UnfitError(f"{describe(value)} as {describe(what)}")
    return [as_whole(as_dict(entry, what).get("as_int"), what, 0) for entry in value]


def dtype_of(number: Any) -> torch.dtype:
    """Return a kind of numbers by torch's own number for it."""
    if type(number) is not int or number not in DTYPES:
        raise UnfitError(f"numbers of the kind {describe(number)}")
    return DTYPES[number]


def as_dict(value: Any, what: str) -> dict[str, Any]:
    """Check that a value is a JSON object."""
    if not isinstance(value, dict):
        raise UnfitError(f"{describe(value)} as {describe(what)}, expected an object")
    return value


def as_list(value: Any, what: str) -> list[Any]:
    """Check that a value is a JSON array."""
    if not isinstance(value, list):
        raise UnfitError(f"{describe(value)} as {describe(what)}, expected a list")
    return value


def as_text(value: Any, what: str) -> str:
    """Check that a value is a text."""
    if not isinstance(value, str):
        raise UnfitError(f"{describe(value)} as {describe(what)}, expected a text")
    return value


def as_whole(value: Any, what: str, least: int = -(2**63)) -> int:
    """Check that a value is a whole number that fits into 64 bits."""
    if type(value) is not int or not least <= value < 2**63:
        raise UnfitError(f"{describe(value)} as {describe(what)}, expected a whole number")
    return value
