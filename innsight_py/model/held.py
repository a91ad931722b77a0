"""How weights lie in memory: once, in half precision where that loses nothing; in others while they are used."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from innsight_py.functions.layout import lay_out
from innsight_py.layers import Layer
from innsight_py.spec.base import LayerSpec

M = TypeVar("M")

#: Copies of a model whose weights take at most this many bytes are kept: making one takes longer than a walk.
KEPT_BYTES = 16 * 2**20


class HeldInHalf(dict[str, Any]):
    """The buffers of a layer, some in half precision, which come out in the precision of the model.

    What is looked at by its name is cast, and forgotten after use. `values` and `items` give what is held.
    """

    def __init__(self, held: dict[str, Any], dtype: torch.dtype) -> None:
        super().__init__(held)
        self.dtype = dtype

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        return value.to(self.dtype) if isinstance(value, Tensor) and is_half(value) else value


def is_half(x: Tensor) -> bool:
    """Tell whether a tensor is in half precision."""
    return x.dtype in (torch.bfloat16, torch.float16)


def share_weights(given: LayerSpec, layer: Layer, dtype: torch.dtype) -> None:
    """Let a layer and its spec have one kernel or matrix, laid out as the images that it meets.

    The numbers of the spec stay what they are: only the order in memory is that of the layer.
    """
    own = getattr(given, "weight", None)
    weight = layer._buffers.get("weight")
    if not isinstance(own, Tensor) or not isinstance(weight, Tensor):
        return
    form = torch.contiguous_format
    if layer.takes_images:
        image = torch.empty((1, *layer.input_dims[0]), dtype=weight.dtype, device=weight.device)
        if not lay_out(image).is_contiguous():
            form = torch.channels_last
    if is_half(own):
        laid = own.contiguous(memory_format=form)
        layer.__dict__["_buffers"] = HeldInHalf({**layer._buffers, "weight": laid}, dtype)
    else:
        laid = weight.contiguous(memory_format=form)
        layer._buffers["weight"] = laid
    if laid.dtype == own.dtype and laid is not own and dtype != torch.float64:
        given.__dict__["weight"] = laid  # the same numbers, once in memory


class Copies(Generic[M]):
    """Models in other precisions: small ones are kept, large ones live as long as what was computed with them."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, M] = {}
        self._used: weakref.WeakValueDictionary[Hashable, M] = weakref.WeakValueDictionary()

    def __reduce__(self) -> tuple[type[Copies[M]], tuple[()]]:
        return Copies, ()  # a copy is made anew where it is needed

    def get(self, key: Hashable, make: Callable[[], M], fits: Callable[[M], bool], size: Callable[[M], int]) -> M:
        """Return the copy of a key, which is made where there is none that fits."""
        found = self._kept.get(key) or self._used.get(key)
        if found is None or not fits(found):
            found = make()
            self._kept.pop(key, None)
            self._used[key] = found
            if size(found) <= KEPT_BYTES:
                self._kept[key] = found
        return found
