"""The largest entries, and what goes back to where they were: a choice that the forward pass makes (routers, k-max)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from innsight_py.converters.compositions import matrix_product
from innsight_py.converters.torch.structure import cast
from innsight_py.converters.torch.writer import Operator, translates
from innsight_py.converters.writer import Value, Whole, Writer


@translates("topk", writes="TopK Cast MatMul")
def _largest(write: Writer, call: Operator) -> list[Value] | None:
    """Write the largest entries: a product with what says which they are. Where these are, their own call says."""
    x, k = call["self"], call["k"]
    if not x.shape or call["dim"] % len(x.shape) != len(x.shape) - 1 or not call.dtype.is_floating_point:
        return None
    shape = (*x.shape[:-1], k, x.shape[-1])
    chosen = write.layer("TopK", [write.whole(x)], shape, k=k, largest=call["largest"])
    ones = _as_numbers(write, chosen.layer, shape)
    values = matrix_product(write, ones, write.reshape(x, (*x.shape, 1)), (*shape[:-1], 1))
    return None if values is None else [write.reshape(values, shape[:-1])]


@translates("scatter.src", writes="MatMul Cast", values="self src index")
def _put_back(write: Writer, call: Operator) -> Value | None:
    """Write values that are put where the largest entries of another value were, into zeros."""
    zeros, values, index = call["self"], call["src"], call["index"]
    if not isinstance(zeros, Tensor) or bool((zeros != 0).any()) or not isinstance(values, Value):
        return None
    if not isinstance(index, Value) or call["dim"] % max(zeros.dim(), 1) != zeros.dim() - 1:
        return None
    chosen = _chosen(write, index.layer)
    shape = (*index.shape, zeros.shape[-1])
    if chosen is None or values.shape != index.shape or zeros.shape[:-1] != torch.Size(index.shape[:-1]):
        return None
    row = write.reshape(values, (*values.shape[:-1], 1, values.shape[-1]))
    put = matrix_product(write, row, _as_numbers(write, chosen, shape), (*shape[:-2], 1, shape[-1]))
    return None if put is None else write.reshape(put, call.shape)


def _as_numbers(write: Writer, chosen: str, shape: tuple[int, ...]) -> Value:
    ones = cast(write, Whole(chosen, shape), torch.bool, torch.float32)
    return write.reshape(Whole(ones.layer, shape), shape)


def _chosen(write: Writer, index: str) -> str | None:
    """Find the layer that chooses the entries of which a value has the numbers."""
    layer: dict[str, Any] | None = write.by_name.get(index)
    while layer is not None and layer["type"] in ("Reshape", "Cast", "Detach"):
        layer = write.by_name.get(layer["inputs"][0])
    if layer is None or layer["type"] != "Operator" or layer["operator"] != "aten::topk" or layer["part"] != 1:
        return None
    (source,), k = layer["inputs"], layer["arguments"][1]
    for other in write.layers:
        if other["type"] == "TopK" and other["k"] == k:
            before = write.by_name.get(other["inputs"][0], {})
            if source in (other["inputs"][0], *(before.get("inputs", ()) if before.get("type") == "Reshape" else ())):
                return str(other["name"])
    return None
