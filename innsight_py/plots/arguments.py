"""Reading what users say about a picture: instances, output nodes, how channels become one value, images."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from innsight_py._checks import describe, is_whole, suggestion, warn
from innsight_py.data import channels_last, without_tensors
from innsight_py.keys import in_order, keys_of, layer_title
from innsight_py.names import levels
from innsight_py.selection import select_outputs

if TYPE_CHECKING:
    from innsight_py.explanation import Explanation

#: Takes values and the axis of their channels, and returns values without that axis.
Aggregate = Callable[[np.ndarray, int], np.ndarray]

_NAMED: dict[str, Aggregate] = {
    "sum": lambda values, axis: values.sum(axis),
    "mean": lambda values, axis: values.mean(axis),
    "norm": lambda values, axis: np.sqrt(np.square(values).sum(axis)),
}
_WEIGHTS = np.array([0.299, 0.587, 0.114])  # of red, green and blue in the brightness, ITU-R BT.601


def read_aggregate(value: Any) -> Aggregate:
    """Read how channels become one value.

    Raises
    ------
    TypeError, ValueError
        If it is neither a known name nor a callable.

    Examples
    --------
    >>> read_aggregate("norm")(np.array([[3.0, 4.0]]), 1)
    array([5.])
    >>> read_aggregate(max)(np.array([[3.0, 4.0]]), 1)
    array([4.])
    """
    if isinstance(value, str):
        if value not in _NAMED:
            raise ValueError(
                f"Argument 'aggr_channels': expected 'sum', 'mean', 'norm' or a callable, got {value!r}"
                f"{suggestion(value, _NAMED)}"
            )
        return _NAMED[value]
    if not callable(value):
        raise TypeError(
            f"Argument 'aggr_channels': expected 'sum', 'mean', 'norm' or a callable, got {describe(value)}."
        )

    def aggregate(values: np.ndarray, axis: int) -> np.ndarray:
        if _takes_axis(value):
            answer = np.asarray(value(values, axis=axis))
        else:
            answer = np.apply_along_axis(lambda vector: np.asarray(value(vector)), axis, values)
        expected = values.shape[:axis] + values.shape[axis + 1 :]
        if answer.shape != expected:
            raise ValueError(
                f"Argument 'aggr_channels': expected a callable that makes one number of a vector of "
                f"{values.shape[axis]} channels; its answers for {values.shape} have the shape {answer.shape}."
            )
        return answer

    return aggregate


def _takes_axis(function: Callable[..., Any]) -> bool:
    try:
        return "axis" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


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
    return TypeError(f"Argument '{argument}': expected a whole number or a list of these, got {describe(value)}.")


@dataclass(frozen=True)
class Node:
    """An output node: its layer, its place among the explained nodes of that layer, and its label."""

    layer: int
    position: int
    label: str


def read_nodes(explanation: Explanation, output_idx: Any, output_label: Any) -> list[Node]:
    """Read which of the explained output nodes are wanted; they come in the order of the labels of each layer.

    Raises
    ------
    TypeError, ValueError
        If an entry is no node, or one that was not explained.
    """
    converter, explained = explanation.converter, explanation.output_idx
    if output_idx is not None and output_label is not None:
        warn("Both 'output_idx' and 'output_label' are given: 'output_idx' is used.")
        output_label = None
    chosen: Sequence[Sequence[int] | None]
    if output_idx is None and output_label is None:
        first = next(i for i, nodes in enumerate(explained) if nodes is not None)
        chosen = [(explained[i] or [])[:1] if i == first else None for i in range(len(explained))]
    else:
        chosen = select_outputs(
            output_idx, output_label, converter.output_dim, converter.output_names, keys_of(converter, "output")
        ).idx
    argument = "output_idx" if output_label is None else "output_label"
    nodes: list[Node] = []
    for i, wanted in enumerate(chosen):
        if wanted is None:
            continue
        labels = [str(name) for name in converter.output_names[i][0]]
        known = explained[i] or []
        for node in wanted:
            if node not in known:
                raise ValueError(
                    f"Argument '{argument}': node {node} ('{labels[node]}') of {_output(explanation, i)} was not "
                    f"explained. Explained are {_explained(explanation)}."
                )
        order = {label: place for place, label in enumerate(levels(converter.output_names[i][0]))}
        in_order = sorted(wanted, key=lambda node: (order[labels[node]], node))
        nodes += [Node(i, known.index(node), labels[node]) for node in in_order]
    return nodes


def _explained(explanation: Explanation) -> str:
    parts = [
        f"{list(nodes)} of {_output(explanation, i)}"
        for i, nodes in enumerate(explanation.output_idx)
        if nodes is not None
    ]
    return ", ".join(parts)


def _output(explanation: Explanation, i: int) -> str:
    return layer_title("output layer", i, keys_of(explanation.converter, "output"))


# -- images -----------------------------------------------------------------------------------------------------


def read_backgrounds(image: Any, explanation: Explanation, rows: Sequence[int]) -> dict[int, list[np.ndarray]]:
    """Read images to lie behind attributions.

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
    dims, keys = explanation.converter.input_dim, keys_of(explanation.converter, "input")
    if not any(len(dim) == 3 for dim in dims):
        raise ValueError("Argument 'image': the model has no image among its inputs.")
    if image is True:
        if not explanation.data:
            raise ValueError("Argument 'image': this result has no data of its own; give the images.")
        parts = [x if len(dim) == 3 else None for x, dim in zip(explanation.data, dims, strict=True)]
    elif isinstance(image, Mapping):
        parts = in_order(image, keys, "image", "input", whole=False)
    elif len(dims) == 1:
        parts = [image]
    elif isinstance(image, list | tuple) and len(image) == len(dims):
        parts = list(image)
    else:
        raise ValueError(
            f"Argument 'image': the model has {len(dims)} inputs; expected a list with an image (or None) for each, "
            f"got {describe(image)}."
        )
    found = {}
    for j, (part, dim) in enumerate(zip(parts, dims, strict=True)):
        if part is None:
            continue
        where = "Argument 'image'" + (f", {layer_title('input', j, keys)}" if len(dims) > 1 else "")
        if len(dim) != 3:
            raise ValueError(f"{where}: expected None, since this input is no image, got {describe(part)}.")
        images = _with_channels_last(part, dim, explanation.channels_first, where)
        if len(images) not in (1, explanation.rows):
            raise ValueError(f"{where}: expected a single image or {explanation.rows} of them, got {len(images)}.")
        found[j] = [_brightness(images[row if len(images) > 1 else 0]) for row in rows]
    return found


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
