"""What a program takes and returns: plain lists, tuples and dicts of tensors, as a text of JSON in the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from innsight_py._checks import describe
from innsight_py.converters.torch.archive import UnfitError, as_dict, as_list, as_text

_LISTS = {"builtins.list": list, "builtins.tuple": tuple}
_DICTS = ("builtins.dict", "collections.OrderedDict")
_VERSION = 1
#: How deep containers may lie in each other.
_DEEPEST = 50


@dataclass(frozen=True)
class Container:
    """A list, tuple or dict of further containers; ``kind`` is None for a value itself."""

    kind: type | None
    keys: tuple[str | int, ...]
    children: tuple[Container, ...]
    leaves: int

    def fill(self, values: list[Any]) -> Any:
        """Put values into the container, in their order."""
        return self._take(iter(values))

    def _take(self, values: Iterator[Any]) -> Any:
        if self.kind is None:
            return next(values)
        entries = [child._take(values) for child in self.children]
        return dict(zip(self.keys, entries, strict=True)) if self.kind is dict else self.kind(entries)


def read_container(text: Any) -> Container:
    """Read the text that torch writes: ``[1, {"type": "builtins.tuple", "context": "null", "children_spec": [...]}]``.

    Raises
    ------
    UnfitError
        If there is anything but lists, tuples and dicts with texts or whole numbers as keys in it.
    """
    try:
        read = json.loads(as_text(text, "the structure of inputs or outputs"))
    except (ValueError, RecursionError):
        raise UnfitError("a structure of inputs or outputs that is no JSON") from None
    if not isinstance(read, list) or len(read) != 2 or read[0] != _VERSION:
        raise UnfitError("a structure of inputs or outputs of another version")
    return _container(read[1], 0)


def _container(value: Any, depth: int) -> Container:
    value = as_dict(value, "a structure")
    kind = value.get("type")
    children = as_list(value.get("children_spec"), "children_spec")
    if kind is None and value.get("context") is None and not children:
        return Container(None, (), (), 1)
    if depth > _DEEPEST:
        raise UnfitError("lists too deep in each other")
    inner = tuple(_container(child, depth + 1) for child in children)
    leaves = sum(child.leaves for child in inner)
    if kind in _LISTS and value.get("context") in (None, "null"):
        return Container(_LISTS[kind], (), inner, leaves)
    if kind in _DICTS:
        return Container(dict, _keys(value.get("context"), len(inner)), inner, leaves)
    raise UnfitError(f"inputs or outputs in {describe(kind)}, which is no list, tuple or dict")


def _keys(text: Any, n: int) -> tuple[str | int, ...]:
    try:
        keys = json.loads(as_text(text, "keys of a dict"))
    except (ValueError, RecursionError):
        raise UnfitError("keys of a dict that are no JSON") from None
    if not isinstance(keys, list) or not all(type(key) in (str, int) for key in keys) or len(set(keys)) != n:
        raise UnfitError(f"{describe(keys)} as the keys of a dict of {n} entries")
    return tuple(keys)
