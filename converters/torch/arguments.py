"""Arguments of the calls in a file of ``torch.export.save``: plain values, and names of other values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from innsight_py._checks import describe
from innsight_py.converters.torch.archive import UnfitError, as_dict, as_list, as_text, as_whole, dtype_of


@dataclass(frozen=True)
class Slot:
    """Stands for a value of the program."""

    at: int


#: Finds the value that a name means.
Find = Callable[[Any], Slot]

_MEMORY_FORMATS = {
    1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d, 4: torch.preserve_format,
}  # fmt: skip
_STRIDED = 7
#: The longest text; operators have names of modes, formulas of ``einsum`` and messages of checks.
_LONGEST = 10_000


def read_argument(value: Any, find: Find) -> Any:
    """Read an argument: numbers, texts, kinds of numbers, lists of these; `Slot` for another value.

    Raises
    ------
    UnfitError
        If it is anything else.
    """
    value = as_dict(value, "an argument")
    key, entry = next(iter(value.items())) if len(value) == 1 else ("", None)
    reader = _READERS.get(key)
    if reader is None:
        raise UnfitError(f"an argument of the kind {describe(key)}")
    return reader(entry, find)


def _tensor(value: Any, find: Find) -> Slot:
    return find(as_dict(value, "a tensor").get("name"))


def _symbol(value: Any, find: Find) -> Any:
    value = as_dict(value, "a size")
    if "as_name" in value:
        return find(value["as_name"])
    for key, read in (("as_int", _whole), ("as_float", _float), ("as_bool", _flag)):
        if key in value:
            return read(value[key], find)
    raise UnfitError(f"{describe(value)} as a size")


def _optional(value: Any, find: Find) -> Any:
    value = as_dict(value, "a tensor or nothing")
    return None if "as_none" in value else _tensor(value.get("as_tensor"), find)


def _none(value: Any, find: Find) -> None:
    return None


def _whole(value: Any, find: Find) -> int:
    return as_whole(value, "a whole number")


def _float(value: Any, find: Find) -> float:
    if isinstance(value, str) and value in ("Infinity", "-Infinity", "NaN"):
        return {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}[value]
    if type(value) not in (int, float) or abs(value) >= 2**1023:
        raise UnfitError(f"{describe(value)} as a number")
    return float(value)


def _flag(value: Any, find: Find) -> bool:
    if not isinstance(value, bool):
        raise UnfitError(f"{describe(value)} as true or false")
    return value


def _text(value: Any, find: Find) -> str:
    text = as_text(value, "an argument")
    if len(text) > _LONGEST:
        raise UnfitError(f"{describe(text)} as an argument")
    return text


def _dtype(value: Any, find: Find) -> torch.dtype:
    return dtype_of(value)


def _memory_format(value: Any, find: Find) -> torch.memory_format:
    if type(value) is not int or value not in _MEMORY_FORMATS:
        raise UnfitError(f"{describe(value)} as a memory format")
    return _MEMORY_FORMATS[value]


def _layout(value: Any, find: Find) -> torch.layout:
    if value != _STRIDED:
        raise UnfitError(f"{describe(value)} as a layout")
    return torch.strided


def _device(value: Any, find: Find) -> torch.device:
    """Return the CPU, on which a conversion runs wherever the program was made."""
    as_text(as_dict(value, "a device").get("type"), "a device")
    return torch.device("cpu")


def _complex(value: Any, find: Find) -> complex:
    value = as_dict(value, "a complex number")
    return complex(_float(value.get("real"), find), _float(value.get("imag"), find))


def _list_of(read: Callable[[Any, Find], Any]) -> Callable[[Any, Find], list[Any]]:
    return lambda value, find: [read(entry, find) for entry in as_list(value, "an argument")]


_READERS: dict[str, Callable[[Any, Find], Any]] = {
    "as_none": _none, "as_tensor": _tensor, "as_int": _whole, "as_float": _float, "as_bool": _flag, "as_string": _text,
    "as_scalar_type": _dtype, "as_memory_format": _memory_format, "as_layout": _layout, "as_device": _device,
    "as_complex": _complex, "as_sym_int": _symbol, "as_sym_float": _symbol, "as_sym_bool": _symbol,
    "as_optional_tensor": _optional, "as_tensors": _list_of(_tensor), "as_ints": _list_of(_whole),
    "as_floats": _list_of(_float), "as_bools": _list_of(_flag), "as_optional_tensors": _list_of(_optional),
    "as_sym_ints": _list_of(_symbol), "as_sym_floats": _list_of(_symbol), "as_sym_bools": _list_of(_symbol),
}  # fmt: skip


def slots_in(value: Any) -> Iterator[Slot]:
    """Give the values that arguments use."""
    if isinstance(value, Slot):
        yield value
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from slots_in(entry)
