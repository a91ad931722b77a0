"""Parts of small weights, which stay beside their layers: making them takes as long as a product with them does.

A graph and its layers hold weights alone, and are copied with them.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

from torch import Tensor, nn

#: Parts of a layer by their names.
Parts = dict[str, Tensor | None]

#: The largest number of weights whose parts stay; of how many layers, and how many of each.
SMALL, MOST, FEW = 2**15, 64, 8


class _Known(NamedTuple):
    weight: Tensor
    bias: Tensor | None
    versions: tuple[int, int]
    parts: Parts


_KNOWN: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()


def parts_of(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> Parts:
    """Return what is known of a layer's parts; nothing if its weights are large, or others than they were.

    What is entered stays as long as the weights are not changed. Large ones get a new dict each time.
    """
    if weight.numel() > SMALL or weight.is_inference():
        return {}
    versions = weight._version, 0 if bias is None else bias._version
    known = _KNOWN.get(layer)
    same = known is not None and known.weight is weight and known.bias is bias and known.versions == versions
    if known is None or not same or len(known.parts) > FEW:
        if len(_KNOWN) >= MOST:
            _KNOWN.clear()
        known = _KNOWN[layer] = _Known(weight, bias, versions, {})
    return known.parts
