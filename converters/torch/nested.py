"""Tensors in what modules take and return: lists, tuples, named tuples, dicts, dataclasses, and these in each other."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


def entries(value: Any, key: str = "") -> Iterator[tuple[str, Tensor]]:
    """Give each tensor with its key: of a dict, a field, or a position; those that lie deeper with a dot between.

    Examples
    --------
    >>> import torch
    >>> [key for key, _ in entries({"out": torch.ones(1), "all": [torch.ones(1), None]})]
    ['out', 'all.0']
    """
    if isinstance(value, Tensor):
        yield key, value
        return
    for name, part in _parts(value):
        yield from entries(part, f"{key}.{name}" if key else str(name))


def _parts(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, tuple) and (fields := getattr(value, "_fields", None)) is not None:
        return list(zip(fields, value, strict=True))
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return []


def filled(value: Any, change: Callable[..., Any], with_path: bool = False, path: tuple[Any, ...] = ()) -> Any:
    """Return a nested value with each entry that holds no others changed.

    With `with_path` the function is also given the keys that lead to the entry.

    Examples
    --------
    >>> filled({"a": [1, 2]}, lambda x: x + 1)
    {'a': [2, 3]}
    """
    parts = [(name, filled(part, change, with_path, (*path, name))) for name, part in _parts(value)]
    if isinstance(value, Mapping):
        return OrderedDict(parts) if type(value) is OrderedDict else dict(parts)
    if hasattr(value, "_fields") and isinstance(value, tuple):
        return type(value)(*(part for _, part in parts))
    if isinstance(value, list | tuple):
        return type(value)(part for _, part in parts)
    if parts:
        return dataclasses.replace(value, **dict(parts))
    return change(path, value) if with_path else change(value)
