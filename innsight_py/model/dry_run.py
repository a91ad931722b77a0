"""The dry run of a converted model: which shapes its layers take and give; where these are large, without numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from innsight_py._text import dims_text
from innsight_py.layers import Layer
from innsight_py.model.graph import Graph
from innsight_py.spec import ModelSpec, SpecError

#: The dry run computes a layer if its inputs and output together hold at most this many values. Of larger layers it
#: finds the shapes only.
DRY_RUN = 2**22
#: An input may have at most this many features, and an output this many nodes, because each has a label.
LABELS = 2**22
#: An output of several axes has a label for each position of an axis. It may have at most this many nodes.
NODES = 2**26


@torch.no_grad()
def find_shapes(graph: Graph, spec: ModelSpec, dtype: torch.dtype) -> None:
    """Fill in the shapes that each layer of a graph takes and gives, and compare them with those that the spec says.

    Raises
    ------
    SpecError
        If a layer cannot take the shape that comes to it, or a given shape is not the computed one.
    """
    if max(sum(dim) for dim in graph.input_dims) > LABELS:
        raise SpecError(f"'input_dim': there is no room for an input of shape {dims_text(graph.input_dims)}.")
    values = {
        name: torch.empty(1, *dim, dtype=dtype, device="meta")
        for name, dim in zip(graph.inputs, graph.input_dims, strict=True)
    }
    for given, layer in zip(spec.layers, graph.all_layers(), strict=True):
        taken = [values[source] for source in given.inputs]
        found = tuple(tuple(x.shape[1:]) for x in taken)
        if given.dim_in is not None and _as_dims(given.dim_in) != found:
            raise SpecError(
                f"{given.where}: key 'dim_in': calculated {dims_text(found)}, "
                f"given {dims_text(_as_dims(given.dim_in))}."
            )
        layer.input_dims = found
        try:
            layer.check(found)
            values[given.name] = _outline(layer, taken)
        except (RuntimeError, ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
            raise SpecError(
                f"{given.where}: cannot take an input of shape {dims_text(found)}"
                f"{_weight_hint(layer)}: {str(error).partition(chr(10))[0]}"
            ) from None
        layer.output_dim = tuple(values[given.name].shape[1:])
        kind = values[given.name].dtype
        layer.gives_whole_numbers = not (kind.is_floating_point or kind.is_complex)
        if given.dim_out is not None and _as_dims(given.dim_out) != (layer.output_dim,):
            raise SpecError(
                f"{given.where}: key 'dim_out': calculated {dims_text((layer.output_dim,))}, "
                f"given {dims_text(_as_dims(given.dim_out))}."
            )
    dims = tuple(graph.layer(name).output_dim for name in graph.outputs)
    for name, dim in zip(graph.outputs, dims, strict=True):
        if math.prod(dim) > (LABELS if len(dim) == 1 else NODES):
            size = math.prod(dim)
            raise SpecError(
                f"The output '{name}' has the shape {dims_text((dim,))}; there is no room for {size} nodes."
            )
    if spec.output_shape is not None and [(math.prod(shape),) for shape in spec.output_shape] != list(dims):
        raise SpecError(f"'output_shape': expected the shapes of {dims_text(dims)} nodes, got {spec.output_shape}.")
    if spec.output_dim is not None and spec.output_dim != (spec.output_shape or dims):
        raise SpecError(f"'output_dim': calculated {dims_text(dims)}, given {dims_text(spec.output_dim)}.")


def _outline(layer: Layer, taken: Sequence[Tensor]) -> Tensor:
    """Return the shape and type of a layer's output, as a tensor without numbers.

    A file of a few bytes can ask for an output of any size, so the layer runs without numbers first, and with zeros
    only where these are few. No row at all is enough for a layer with weights: its kernels check shapes before they
    compute, which is most of what a dry run would cost.
    """
    size = sum(x.numel() for x in taken)
    try:
        buffers = {name: buffer.to("meta") for name, buffer in layer.named_buffers()}
        outline: Tensor = torch.func.functional_call(layer, buffers, tuple(taken))
        size += outline.numel()
    except Exception:  # what is wrong, or only unknown without numbers, shows with zeros
        if size > DRY_RUN:
            raise
    if size > DRY_RUN:
        return outline
    rows = 0 if isinstance(getattr(layer, "weight", None), Tensor) else 1
    try:
        zeros = (torch.zeros(rows, *x.shape[1:], dtype=x.dtype) for x in taken)
        found: Tensor = layer(*zeros)
        return torch.empty(1, *found.shape[1:], dtype=found.dtype, device="meta") if rows == 0 else found.to("meta")
    except RuntimeError as error:
        if "ZeroDivision" not in str(error):
            raise
        # Whole numbers over whole numbers, which only here are 0.
        ones = (torch.ones(x.shape, dtype=x.dtype) for x in taken)
        return layer(*ones).to("meta")  # type: ignore[no-any-return]


def _as_dims(dims: tuple[int, ...] | tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    return dims if dims and isinstance(dims[0], tuple) else (dims,)  # type: ignore[return-value]


def _weight_hint(layer: Layer) -> str:
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor):
        return ""
    axes = "(out, in)" if weight.dim() == 2 else "(out channels, in channels, kernel)"
    return f" with a weight {tuple(weight.shape)}, read as {axes}"
