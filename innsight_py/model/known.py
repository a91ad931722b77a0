"""Modules that were converted a moment ago: the same one again, unchanged, is a look-up.

Nothing is kept that nobody holds: an entry lives as long as the converter that it came from.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from innsight_py.converters.torch.contents import Contents
from innsight_py.converters.torch.state import key_of
from innsight_py.model.converted import ConvertedModel
from innsight_py.spec import ModelSpec

#: How many conversions are known.
MOST = 8


@dataclass(frozen=True)
class Question:
    """What a conversion depends on: the state of a module, whose large tensors are kept apart, and arguments."""

    key: Hashable
    contents: Contents


@dataclass(frozen=True)
class _Entry:
    module: weakref.ref[nn.Module]
    key: Hashable
    spec: weakref.ref[ModelSpec]
    model: weakref.ref[ConvertedModel]
    versions: tuple[int, ...]  # of the weights of the spec, which its graph shares


def _weights(spec: ModelSpec) -> list[Tensor]:
    """Return all tensors of a spec."""
    return [value for layer in spec.layers for value in vars(layer).values() if isinstance(value, Tensor)]


def _versions(spec: ModelSpec) -> tuple[int, ...]:
    """Return how often each weight of a spec was changed in place."""
    return tuple([weight._version for weight in _weights(spec)])


_ENTRIES: list[_Entry] = []
_LOCK = threading.Lock()


def question(model: Any, arguments: Hashable) -> Question | None:
    """Return what a conversion depends on; None where this cannot be said."""
    if not isinstance(model, nn.Module):
        return None
    contents = Contents()
    key = key_of(model, contents)
    return None if key is None else Question((key, arguments), contents)


def find(module: Any, asked: Question | None, dtype: torch.dtype) -> tuple[ModelSpec, ConvertedModel] | None:
    """Return the spec of a module that was converted before, and a graph of its own."""
    if asked is None:
        return None
    with _LOCK:
        _ENTRIES[:] = [e for e in _ENTRIES if all(ref() is not None for ref in (e.module, e.spec, e.model))]
        entry = next((e for e in _ENTRIES if e.module() is module and e.key == asked.key), None)
        spec, model = (None, None) if entry is None else (entry.spec(), entry.model())
    if entry is None or spec is None or model is None or _versions(spec) != entry.versions:
        return None  # or somebody has changed the graph itself
    return spec, ConvertedModel(spec, dtype, like=model)


def remember(module: Any, asked: Question | None, spec: ModelSpec, model: ConvertedModel) -> None:
    """Note a conversion, and forget the oldest one."""
    if asked is not None and asked.contents.settle(_weights(spec)):
        entry = _Entry(weakref.ref(module), asked.key, weakref.ref(spec), weakref.ref(model), _versions(spec))
        with _LOCK:
            _ENTRIES.append(entry)
            del _ENTRIES[:-MOST]
