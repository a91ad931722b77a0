"""Parts of small weights, which stay beside their layers: making them takes as long as a product with them does.

A graph and its layers hold weights alone, and are copied with them.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

#: Parts of a layer by their names.
Parts = dict[str, Tensor | None]

#: The largest number of weights whose parts stay; of how many layers, and how many of each.
SMALL, MOST, FEW = 2**15, 64, 8


#: The dtype of a tensor, and its numbers as they are in memory.
Bytes = tuple[torch.dtype, bytes]


class _Known(NamedTuple):
    weight: Bytes | Tensor
    bias: Bytes | Tensor | None
    parts: Parts


_KNOWN: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()


def parts_of(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> Parts:
    """Return what is known of a layer's parts; nothing if its weights are large, or others than they were.

    Weights are compared bit by bit with copies of them, since counters of changes miss those through `.data`.
    Large ones get a new dict each time.
    """
    if weight.numel() > SMALL or weight.is_inference():
        return {}
    known = _KNOWN.get(layer)
    if known is None or len(known.parts) > FEW or not (_same(known.weight, weight) and _same(known.bias, bias)):
        if len(_KNOWN) >= MOST:
            _KNOWN.clear()
        known = _KNOWN[layer] = _Known(_copied(weight), None if bias is None else _copied(bias), {})
    return known.parts


def _same(known: Bytes | Tensor | None, now: Tensor | None) -> bool:
    if known is None or now is None:
        return known is now
    if isinstance(known, Tensor):
        return known.dtype == now.dtype and known.device == now.device and torch.equal(known, now)
    # Bytes are compared in a quarter of the time that torch takes.
    return known[0] is now.dtype and now.is_cpu and not now.is_neg() and now.numpy().tobytes() == known[1]


def _copied(x: Tensor) -> Bytes | Tensor:
    plain = x.is_cpu and x.dtype in (torch.float32, torch.float64) and not x.is_neg()
    return (x.dtype, x.numpy().tobytes()) if plain else x.clone()
