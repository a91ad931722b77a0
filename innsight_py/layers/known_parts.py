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


class _Known(NamedTuple):
    weight: Tensor
    bias: Tensor | None
    parts: Parts


_KNOWN: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()


def parts_of(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> Parts:
    """Return what is known of a layer's parts; nothing if its weights are large, or others than they were.

    Weights are compared number by number with copies of them, since counters of changes miss those through `.data`.
    Large ones get a new dict each time.
    """
    if weight.numel() > SMALL or weight.is_inference():
        return {}
    known = _KNOWN.get(layer)
    if known is None or not _same(known.weight, weight) or not _same(known.bias, bias) or len(known.parts) > FEW:
        if len(_KNOWN) >= MOST:
            _KNOWN.clear()
        known = _KNOWN[layer] = _Known(weight.clone(), None if bias is None else bias.clone(), {})
    return known.parts


def _same(known: Tensor | None, now: Tensor | None) -> bool:
    if known is None or now is None:
        return known is now
    return known.dtype == now.dtype and known.device == now.device and torch.equal(known, now)
