"""Reading what users say about a picture: instances, output nodes, how channels become one value, images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innsight_py._arrays import without_tensors
from innsight_py._checks import describe, is_whole, warn
from innsight_py.inputs.data import channels_last
from innsight_py.inputs.names import levels
from innsight_py.inputs.nodes import Node as NodeIndex
from innsight_py.inputs.nodes import as_node, as_position, node_label
from innsight_py.inputs.ports import Port
from innsight_py.inputs.selection import select_outputs
from innsight_py.plots.cuts import Cut
from innsight_py.results.attributions import Attributions
from innsight_py.spec.keys import in_order, layer_title

_WEIGHTS = np.array([0.299, 0.587, 0.114])  # of red, green and blue in the brightness, ITU-R BT.601


def for_each_input(value: Any, count: int, keys: Sequence[str], argument: str, entry: str) -> list[Any]:
    """Return what a value says of each input, None where it says nothing.

    Parameters
    ----------
    value : Any
        The entry of the one input, a list with one for each, or a dict by their names.
    count : int
        The number of inputs.
    keys : sequence of str
        Their names.
    argument, entry : str
        What the value and an entry of it are called in error messages.

    Raises
    ------
    ValueError
        If there is not one for each input.

    Examples
    --------
    >>> for_each_input({"ecg": "Time (s)"}, 2, ["age", "ecg"], "axis_names", "an entry")
    [None, 'Time (s)']
    """
    if isinstance(value, Mapping):
        return in_order(value, keys, argument, "input", whole=False)
    if count == 1:
        return [value]
    if isinstance(value, list | tuple) and len(value) == count:
        return list(value)
    raise ValueError(
        f"Argument '{argument}': the model has {count} inputs; expected a list with {entry} (or None) for each, or a "
        f"dict by their names, got {describe(value)}."
    )


def read_rows(value: Any, rows: int, argument: str) -> list[int]:
    """Read indices of instances; those given twice count once.

    Raises
    ------
    TypeError
        If they are no whole numbers.
    ValueError
        If there is none, or no such instance.

    Examples
    --------
    >>> read_rows([2, 0, 2], 3, "data_idx")
    [2, 0]
    """
    listed = [value] if is_whole(value) else value
    if (
        isinstance(listed, str | bytes | dict | set | frozenset)
        or not hasattr(listed, "__iter__")
        or getattr(listed, "ndim", 1) != 1
    ):
        raise _not_rows(argument, value)
    entries = list(listed)
    if not all(is_whole(entry) for entry in entries):
        raise _not_rows(argument, value)
    if not entries:
        raise ValueError(f"Argument '{argument}': expected at least one instance, got none.")
    for entry in entries:
        if not 0 <= int(entry) < rows:
            raise ValueError(f"Argument '{argument}': there are the instances 0 to {rows - 1}, got {int(entry)}.")
    return list(dict.fromkeys(int(entry) for entry in entries))


def _not_rows(argument: str, value: Any) -> TypeError:
    save = " A picture is saved by result.plot().save(path)." if isinstance(value, str) else ""
    return TypeError(f"Argument '{argument}': expected a whole number or a list of these, got {describe(value)}.{save}")


@dataclass(frozen=True)
class Node:
    """An output node: its layer, its place among the explained nodes of that layer, and its label.

    Where each row has a node of its own, one stands for all of them.
    """

    layer: int
    position: int
    label: str


def read_nodes(attributions: Attributions, output_idx: Any, output_label: Any) -> list[Node]:
    """Read which of the explained output nodes are wanted; they come in the order of the labels of each layer.

    Raises
    ------
    TypeError, ValueError
        If an entry is no node, or one that was not explained.
    """
    described, explained = attributions.described, attributions.output_idx
    if output_idx is not None and output_label is not None:
        warn("Both 'output_idx' and 'output_label' are given: 'output_idx' is used.")
        output_label = None
    chosen: Sequence[Sequence[NodeIndex] | None]
    if any(name is not None for name in attributions.targets):
        if output_idx is not None or output_label is not None:
            raise ValueError(
                f"Argument 'output_{'label' if output_idx is None else 'idx'}': each row was explained for a node of "
                "its own (target), there is nothing to choose; leave it out."
            )
        i, name = next((i, name) for i, name in enumerate(attributions.targets) if name is not None)
        return [Node(i, 0, name)]
    if output_idx is None and output_label is None:
        first = next(i for i, nodes in enumerate(explained) if nodes is not None)
        chosen = [(explained[i] or [])[:1] if i == first else None for i in range(len(explained))]
    else:
        positions = select_outputs(
            output_idx, output_label, described.output_dim, described.output_names, described.output_keys
        ).idx
        chosen = [
            None if found is None else [as_node(node, port.dim) for node in found]
            for found, port in zip(positions, described.outputs, strict=True)
        ]
    argument = "output_idx" if output_label is None else "output_label"
    nodes: list[Node] = []
    for i, wanted in enumerate(chosen):
        if wanted is None:
            continue
        places = {node: place for place, node in enumerate(explained[i] or [])}
        port = described.outputs[i]

        def label(node: NodeIndex, port: Port = port) -> str:
            return node_label(as_position(node, port.dim), port.dim, port.names)

        for node in wanted:
            if node not in places:
                raise ValueError(
                    f"Argument '{argument}': node {node} ('{label(node)}') of {_output(attributions, i)} was not "
                    f"explained. Explained are {_explained(attributions)}."
                )
        order = {name: place for place, name in enumerate(levels(port.names[0]))} if len(port.dim) == 1 else {}
        in_order = sorted(wanted, key=lambda node: (order.get(label(node), 0), node))
        nodes += [Node(i, places[node], label(node)) for node in in_order]
    return nodes


def _explained(attributions: Attributions) -> str:
    parts = [
        f"{list(nodes)} of {_output(attributions, i)}"
        for i, nodes in enumerate(attributions.output_idx)
        if nodes is not None
    ]
    return ", ".join(parts)


def _output(attributions: Attributions, i: int) -> str:
    return layer_title("output layer", i, attributions.described.output_keys)


# -- images -----------------------------------------------------------------------------------------------------


def read_backgrounds(
    image: Any, attributions: Attributions, rows: Sequence[int], cuts: Mapping[int, Cut] | None = None
) -> dict[int, list[np.ndarray]]:
    """Read images to lie behind attributions; of volumes the slices `cuts` of the data.

    Returns
    -------
    dict of int to list of ndarray
        For each input with images one a row, ``(height, width)``, from 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If an image does not fit its input.
    """
    if image is None or image is False:
        return {}
    ports, keys = attributions.described.inputs, attributions.described.input_keys
    sliced: dict[int, list[np.ndarray]] = {}
    cuts = cuts or {}
    if not cuts and not any(port.kind == "image" for port in ports):
        raise ValueError("Argument 'image': the model has no image among its inputs.")
    if image is True:
        if not attributions.data:
            raise ValueError("Argument 'image': this result has no data of its own; give the images.")
        parts = [x if port.kind == "image" else None for x, port in zip(attributions.data, ports, strict=True)]
        sliced = {j: _slices(attributions.data[j], cut, attributions.channels_first, rows) for j, cut in cuts.items()}
    else:
        parts = for_each_input(image, len(ports), keys, "image", "an image")
    found = {}
    for j, (part, port) in enumerate(zip(parts, ports, strict=True)):
        if part is None:
            continue
        where = "Argument 'image'" + (f", {layer_title('input', j, keys)}" if len(ports) > 1 else "")
        if port.kind != "image":
            raise ValueError(f"{where}: expected None, since this input is no image, got {describe(part)}.")
        images = _with_channels_last(part, port.dim, attributions.channels_first, where)
        if len(images) not in (1, attributions.rows):
            raise ValueError(f"{where}: expected a single image or {attributions.rows} of them, got {len(images)}.")
        found[j] = [_brightness(images[row if len(images) > 1 else 0]) for row in rows]
    return found | sliced


def _slices(x: Tensor, cut: Cut, channels_first: bool, rows: Sequence[int]) -> list[np.ndarray]:
    """Return slices of volumes in grey."""
    volumes = x.detach().cpu().numpy()
    volumes = np.moveaxis(volumes, 1, -1) if channels_first else volumes
    return [_brightness(cut.of(volumes[row][None])[0]) for row in rows]


def _with_channels_last(image: Any, dim: tuple[int, ...], channels_first: bool, where: str) -> np.ndarray:
    """Bring one or several images into the shape ``(B, height, width, channels)``."""
    if isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
    array = np.asarray(without_tensors(image))
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{where}: expected numbers, got {describe(image)}.")
    area = tuple(dim[1:])
    if array.shape == area:
        return array[None, :, :, None]
    batch = array if array.ndim == 4 else array[None]
    first = batch.ndim == 4 and batch.shape[2:] == area and batch.shape[1] in (1, 3, 4, dim[0])
    last = batch.ndim == 4 and batch.shape[1:3] == area and batch.shape[3] in (1, 3, 4, dim[0])
    if not first and not last:
        wanted = dim if channels_first else channels_last(dim)
        raise ValueError(f"{where}: expected the shape {wanted} or (*, {', '.join(map(str, wanted))}), "
                         f"got {array.shape}.")  # fmt: skip
    return np.moveaxis(batch, 1, -1) if first and (channels_first or not last) else batch


def _brightness(image: np.ndarray) -> np.ndarray:
    """Turn an image ``(height, width, channels)`` into grey from 0 to 1; other ranges are stretched to it."""
    values = image.astype(np.float64)
    grey: np.ndarray = values[..., :3] @ _WEIGHTS if image.shape[-1] in (3, 4) else values.mean(-1)
    if image.dtype == np.uint8:
        return grey / 255
    low, high = values.min(), values.max()
    if low >= 0 and high <= 1:
        return grey
    low, high = grey.min(), grey.max()
    return (grey - low) / (high - low) if high > low else np.full_like(grey, 0.5)


def read_reference(value: Any, rows: int) -> int | None:
    """Read the index of the instance that is marked.

    Raises
    ------
    TypeError, ValueError
        If it is no instance.
    """
    if value is None:
        return None
    if not is_whole(value):
        raise TypeError(f"Argument 'ref_data_idx': expected a whole number, got {describe(value)}.")
    return read_rows(value, rows, "ref_data_idx")[0]


def preprocessed(function: Callable[..., Any], values: Tensor) -> Tensor:
    """Apply a user's function to values, which keep their shape.

    Raises
    ------
    ValueError
        If they do not.
    """
    answer = function(values.cpu().numpy() if isinstance(function, np.ufunc) else values)
    try:
        answer = answer if isinstance(answer, Tensor) else torch.as_tensor(np.asarray(answer))
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"Argument 'preprocess_fun': expected it to return numbers, got {describe(answer)}.") from None
    if answer.shape != values.shape:
        raise ValueError(
            f"Argument 'preprocess_fun': expected values of the shape {tuple(values.shape)}, as it was given, "
            f"got {tuple(answer.shape)}."
        )
    return answer
