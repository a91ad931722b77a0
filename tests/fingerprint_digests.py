"""Hashes for `fingerprint.py`: of everything that the package hands out, exact to the last bit."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

#: What differs from process to process, and says nothing.
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
_LINE = re.compile(r"(\.py|<eval_with_key>)[.:][\d:]+")
_FOLDERS = re.compile(rf"{re.escape(str(Path(__file__).resolve().parents[1]))}[^\s'\",]*/(?=[^/\s'\",]*)")


def digest(value: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a value; types and orders count as well."""
    state = hashlib.sha256()
    for piece in _pieces(value):
        state.update(struct.pack("<q", len(piece)))
        state.update(piece)
    return state.hexdigest()[:16]


def plain(text: str) -> str:
    """Take addresses of objects, the folder of the project and numbers of lines out of a text."""
    return _ADDRESS.sub("0x", _LINE.sub(r"\1", _FOLDERS.sub("", text)))


def _pieces(value: Any) -> Iterator[bytes]:
    """Take a value apart. What is not known is refused, so that nothing is hashed by an address in its ``repr``."""
    kind = next((kind for kind in _KINDS if isinstance(value, kind)), None)
    if kind is not None:
        yield type(value).__name__.encode()
        yield from _KINDS[kind](value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield type(value).__name__.encode()
        for field in dataclasses.fields(value):
            yield field.name.encode()
            yield from _pieces(getattr(value, field.name))
    elif hasattr(value, "coords") and hasattr(value, "dims"):  # an xarray
        yield from _pieces([value.dims, value.values, {k: np.asarray(v) for k, v in sorted(value.coords.items())}])
    else:
        raise TypeError(f"no way to hash {type(value)}")


def _array(x: np.ndarray) -> Iterator[bytes]:
    yield f"{x.dtype} {x.shape}".encode()
    if x.dtype.kind in "OUS":
        for entry in x.flat:
            yield from _pieces(entry.item() if isinstance(entry, np.generic) else entry)
    else:
        yield np.ascontiguousarray(x).tobytes()


def _tensor(x: torch.Tensor) -> Iterator[bytes]:
    yield f"{x.dtype} {tuple(x.shape)}".encode()
    yield x.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes() if x.numel() else b""


def _frame(frame: pd.DataFrame) -> Iterator[bytes]:
    yield from _pieces(frame.index.to_numpy())
    for name in frame.columns:
        yield from _pieces(name)
        yield str(frame[name].dtype).encode()
        yield from _array(np.asarray(frame[name]))


def _entries(value: Any) -> Iterator[bytes]:
    yield str(len(value)).encode()
    for entry in value:
        yield from _pieces(entry)


def _mapping(value: Mapping[Any, Any]) -> Iterator[bytes]:
    for key, entry in value.items():
        yield from _pieces(key)
        yield from _pieces(entry)


def _text(value: str) -> Iterator[bytes]:
    yield plain(value).encode("utf-8", "surrogatepass")


def _as_text(value: Any) -> Iterator[bytes]:
    yield plain(str(value)).encode()


_KINDS: dict[type | tuple[type, ...], Callable[[Any], Iterator[bytes]]] = {
    (type(None), bool, int, complex, torch.dtype, torch.device, torch.memory_format, torch.layout): _as_text,
    enum.Enum: _as_text,
    float: lambda value: iter([struct.pack("<d", value)]),
    str: _text,
    bytes: lambda value: iter([value]),
    torch.Tensor: _tensor,
    np.ndarray: _array,
    np.generic: lambda value: _array(np.asarray(value)),
    pd.DataFrame: _frame,
    pd.Categorical: lambda value: _pieces([list(value), list(value.categories), bool(value.ordered)]),
    Mapping: _mapping,
    (list, tuple): _entries,
    BaseException: _as_text,
}
