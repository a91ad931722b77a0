"""Numbers of tokens as data, and what they are compared with: an id, ids for each position, or vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innsight_py._arrays import without_tensors
from innsight_py._checks import describe, is_whole
from innsight_py._errors import see
from innsight_py.inputs.data import split_inputs
from innsight_py.inputs.described import Described
from innsight_py.model.graph import Graph
from innsight_py.model.section import find_place
from innsight_py.model.tokens import looked_up, sizes_of
from innsight_py.spec.keys import layer_title


def check_tokens(data: Sequence[Tensor], converter: Described, graph: Graph, argument: str) -> None:
    """Refuse numbers that are no numbers of tokens.

    Raises
    ------
    ValueError
        If they are no whole numbers, or the embedding has no vectors for them. Of tables the columns are looked at that
        go into embeddings.
    """
    if not looked_up(graph):
        return
    sizes = sizes_of(graph)
    for j, (port, x) in enumerate(zip(converter.inputs, data, strict=True)):
        own = [(looked.positions, size) for looked, size in sizes if looked.source == graph.inputs[j]]
        flat = x.flatten(x.dim() - len(port.dim))
        for positions, size in own:
            numbers = flat[..., positions]
            wrong = numbers[~((numbers.trunc() >= 0) & (numbers.trunc() < size))]
            if port.kind == "tokens" and not len(wrong):
                wrong = numbers[numbers != numbers.trunc()]
            if len(wrong):
                where = f"Argument '{argument}'"
                where += f", {layer_title('input', j, converter.input_keys)}" if len(converter.inputs) > 1 else ""
                raise ValueError(
                    see(
                        "token-ids",
                        f"{where}: expected whole numbers from 0 to {size - 1}, for which the embedding has vectors, "
                        f"got {float(wrong[0]):g}.",
                    )
                )


def token_references(
    given: Any, converter: Described, data: Sequence[Tensor], graph: Graph, layers: Sequence[str] | None,
    center: Sequence[Tensor | None], argument: str,
) -> tuple[Any, dict[str, Tensor]]:  # fmt: skip
    """Read a reference of a model whose inputs go into embeddings.

    Parameters
    ----------
    given : Any
        What the user gave: None or "zeros" for vectors of zeros, an id for all positions, ids for each position, or
        vectors: of the embedding, or of the layer that is explained. For several inputs a list or a dict of these;
        inputs that are fixed may be left out.
    converter : Described
        The model.
    data : sequence of Tensor
        The data of each input.
    graph : Graph
        The graph of it.
    layers : sequence of str, optional
        The layers that are explained.
    center : sequence of (Tensor or None)
        What the preparation of each input maps to 0.
    argument : str
        What the reference is called in error messages.

    Returns
    -------
    given : Any
        A list with rows for each input, or None.
    instead : dict
        Vectors that layers have at the reference, ``(1 or B, *dims)``.
    """
    if layers is not None and len(layers) == 1 and given is not None and not isinstance(given, str | Mapping):
        place = find_place(graph, layers[0], "layer")
        dim = graph.layer(place.layer).output_dim
        vectors = _vectors(given, dim)
        if vectors is not None and not place.before_activation:
            return [x[:1] for x in data], {place.layer: vectors}
    explained = [j for j, port in enumerate(converter.inputs) if port.kind != "fixed"]
    parts = _split(given, converter, explained, argument)
    instead: dict[str, Tensor] = {}
    rows: list[Any] = []
    for j, (port, x, part, middle) in enumerate(zip(converter.inputs, data, parts, center, strict=True)):
        if port.kind == "fixed":
            rows.append(x[:1] if part is None else part)
        elif port.kind != "tokens":
            default = torch.zeros_like(x[:1]) if middle is None else middle
            rows.append(default if part is None else part)
        else:
            own = [looked.layer for looked in looked_up(graph) if looked.source == graph.inputs[j]]
            rows.append(_one(part, port.dim, x, graph, own, instead, argument))
    counts = {len(row) for row in rows if isinstance(row, Tensor | np.ndarray)} - {1}
    if len(counts) == 1:  # one row counts for all
        n = counts.pop()
        rows = [row.expand(n, *row.shape[1:]) if isinstance(row, Tensor) and len(row) == 1 else row for row in rows]
    return (rows if len(rows) > 1 else rows[0]), instead


def _split(given: Any, converter: Described, explained: list[int], argument: str) -> list[Any]:
    """Return what is given for each input, None where nothing is."""
    parts: list[Any] = [None] * len(converter.inputs)
    if given is None:
        return parts
    keys = converter.input_keys
    if isinstance(given, Mapping):
        unknown = [key for key in given if key not in keys]
        if unknown:
            split_inputs(given, converter.input_dim, keys, argument)  # says what is wrong
        return [given.get(key) for key in keys]
    several = isinstance(given, list | tuple) and len(given) == len(parts) > 1 and not is_whole(given[0])
    if several:
        return list(given)
    if len(explained) == 1 or isinstance(given, str) or is_whole(given):
        return [given if j in explained else None for j in range(len(parts))]
    return list(split_inputs(given, converter.input_dim, keys, argument))


def _one(
    part: Any, dim: tuple[int, ...], data: Tensor, graph: Graph, layers: list[str], instead: dict[str, Tensor],
    argument: str,
) -> Any:  # fmt: skip
    """Return ids for an input of tokens; vectors are put down in `instead`."""
    if part is None or (isinstance(part, str) and part == "zeros"):
        for name in layers:
            instead[name] = torch.zeros(1, *graph.layer(name).output_dim, dtype=torch.float64)
        return data[:1]
    if isinstance(part, str):
        raise ValueError(  # noqa: TRY004 (a name that other inputs take)
            see(
                "token-ids",
                f"Argument '{argument}': numbers of tokens have no {part!r}. Give an id (the mask's, or that of "
                "padding), ids for each position, or vectors of the embedding.",
            )
        )
    if is_whole(part) or (isinstance(part, Tensor | np.ndarray) and part.ndim == 0):
        return torch.full((1, *dim), float(part), dtype=torch.float64)
    vectors = _vectors(part, graph.layer(layers[0]).output_dim) if len(layers) == 1 else None
    if vectors is not None:
        instead[layers[0]] = vectors
        return data[:1]
    array = part if isinstance(part, Tensor) else np.asarray(without_tensors(part))
    if array.ndim not in (len(dim), len(dim) + 1, len(dim) + 2):
        raise ValueError(
            see(
                "token-ids",
                f"Argument '{argument}': expected an id, ids for each position {dim}, rows of these, or vectors of the "
                f"embedding {graph.layer(layers[0]).output_dim}, got {describe(part)}.",
            )
        )
    rows = torch.as_tensor(array)
    return rows[None] if rows.dim() == len(dim) else rows


def _vectors(given: Any, dim: tuple[int, ...]) -> Tensor | None:
    """Return vectors of a layer, ``(n, *dim)``; None for what has another shape, or whole numbers."""
    try:
        array = given if isinstance(given, Tensor) else np.asarray(without_tensors(given))
    except ValueError:
        return None
    if isinstance(array, np.ndarray) and array.dtype.kind not in "iuf":
        return None
    found = torch.as_tensor(array).detach()
    if tuple(found.shape) == dim and found.is_floating_point():
        found = found[None]
    if tuple(found.shape[1:]) != dim or found.dim() != len(dim) + 1:
        return None
    return found.double()
