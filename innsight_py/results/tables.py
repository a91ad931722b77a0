"""Showing results as arrays, tensors and data frames. Nothing is computed here but sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from innsight_py._checks import describe, suggestion
from innsight_py.inputs.data import channels_last
from innsight_py.inputs.names import AxisNames, levels
from innsight_py.inputs.ports import Port
from innsight_py.results.attributions import Attributions, explained_part
from innsight_py.results.completeness import absolute_residual
from innsight_py.results.frames import as_polars, as_wide
from innsight_py.results.notes import unexplained
from innsight_py.results.tokens import is_text, row_tokens, row_words

ResultType = Literal["array", "data.frame", "polars", "torch_tensor", "torch.tensor", "wide", "xarray"]

#: What the forms of results are often called.
_ELSEWHERE = {
    "numpy": "array", "np": "array", "ndarray": "array", "list": "array",
    "pandas": "data.frame", "df": "data.frame", "dataframe": "data.frame", "frame": "data.frame", "table": "data.frame",
    "torch": "torch_tensor", "tensor": "torch_tensor", "pt": "torch_tensor", "dataset": "xarray",
}  # fmt: skip
_BEFORE = ("data", "model_input", "model_output")
_TEXT = ("position", "token", "word")
_AFTER = ("channel", "output_node", "value", "pred", "decomp_sum", "decomp_goal", "input_dimension", "residual")


def present(attributions: Attributions, kind: str) -> Any:
    """Return attributions in the form `kind`, see `Explanation.get_result`."""
    attributions = explained_part(attributions)
    if kind == "array":
        return nested(attributions, lambda i, j: as_array(attributions, i, j))
    if kind in ("torch_tensor", "torch.tensor"):  # R takes both
        return nested(attributions, lambda i, j: _tensor(attributions, i, j))
    if kind == "data.frame":
        return as_frame(attributions)
    if kind == "polars":
        return as_polars(as_frame(attributions))
    if kind == "wide":
        names = instance_names(attributions, attributions.rows)
        return as_wide(
            as_frame(attributions), names, has_target=any(own is not None for own in attributions.target_idx)
        )
    if kind == "xarray":
        xarray = _import_xarray()
        return nested(attributions, lambda i, j: _data_array(xarray, attributions, i, j))
    kinds = tuple(name for name in get_args(ResultType) if name != "torch.tensor")
    own = _ELSEWHERE.get(str(kind).lower())
    hint = suggestion(str(kind), kinds) if own is None else f"; write '{own}'."
    raise (ValueError if isinstance(kind, str) else TypeError)(
        f"Argument 'type': expected one of {', '.join(kinds)}, got {describe(kind)}{hint}"
    )


def nested(attributions: Attributions, get: Callable[[int, int], Any]) -> Any:
    """Nest by output and input layer, leaving out a level where there is only one."""
    inputs = range(len(attributions.described.inputs))
    outer = {}
    for i in selected_layers(attributions):
        inner = {f"Input_{j + 1}": get(i, j) for j in inputs}
        outer[f"Output_{i + 1}"] = inner if len(inner) > 1 else next(iter(inner.values()))
    return outer if len(outer) > 1 else next(iter(outer.values()))


def selected_layers(attributions: Attributions) -> list[int]:
    """Return the numbers of the output layers that are explained."""
    return [i for i, row in enumerate(attributions.result) if row is not None]


def _tensor(attributions: Attributions, i: int, j: int) -> Tensor | None:
    row = attributions.result[i]
    assert row is not None
    return row[j]


def as_array(attributions: Attributions, i: int, j: int) -> np.ndarray:
    """Return the result of output layer i and input layer j; an array of NaN if the one does not reach the other."""
    tensor = _tensor(attributions, i, j)
    if tensor is not None:
        return tensor.cpu().numpy().copy()
    dim = attributions.described.input_dim[j]
    dim = dim if attributions.channels_first else channels_last(dim)
    dtype = np.float64 if attributions.dtype == "double" else np.float32
    return np.full((attributions.rows, *dim, len(attributions.node_labels(i)[0])), np.nan, dtype)


# -- xarray -----------------------------------------------------------------------------------------------------


def _import_xarray() -> Any:
    try:
        import xarray
    except ImportError:
        raise ImportError('get_result("xarray") needs xarray: pip install "innsight_py[xarray]"') from None
    return xarray


def _data_array(xarray: Any, attributions: Attributions, i: int, j: int) -> Any:
    """Return the result of one pair of layers with named axes, in the layout of the data."""
    values = as_array(attributions, i, j)
    port = attributions.described.inputs[j]
    names = port.names
    inner = list(zip(_axis_columns(port), names, strict=True))
    if not attributions.channels_first and port.has_channels:
        inner = [*inner[1:], inner[0]]
    labels: dict[str, Any] = {"data": instance_names(attributions, values.shape[0])}
    labels |= {column: [str(name) for name in axis] for column, axis in inner}
    own = attributions.target_label[i] if attributions.target_label else None
    labels["output_node"] = attributions.output_label[i] if own is None else [attributions.targets[i]]
    coordinates: dict[str, Any] = dict(labels)
    if own is not None:
        coordinates["target"] = ("data", own)
    if is_text(port):
        coordinates["token"] = (("data", "feature"), row_tokens(attributions, j))
        coordinates["word"] = (("data", "feature"), _words_of_tokens(attributions, j))
    missing = absolute_residual(attributions, i)
    per_node = (
        ("pred", _host(attributions.preds, i)),
        ("decomp_goal", _host(attributions.decomp_goal, i)),
        ("residual", None if missing is None else missing.cpu().numpy()),
    )
    for name, known in per_node:
        if known is not None:
            coordinates[name] = (("data", "output_node"), known)
    attributes = {"method": attributions.title, "model_input": f"Input_{j + 1}", "model_output": f"Output_{i + 1}"}
    return xarray.DataArray(values, coordinates, tuple(labels), attributions.value_name, attributes)


def _axis_columns(port: Port) -> list[str]:
    """Name the axes of an input, channels first, as the columns of the data frame."""
    features = [feature_column(k) for k in range(len(port.dim) - port.has_channels)]
    return ["channel", *features] if port.has_channels else features


# -- data frame -------------------------------------------------------------------------------------------------


def as_frame(attributions: Attributions) -> pd.DataFrame:
    """Return the result as a frame with a row for each value.

    Within each pair of an output and an input layer the instance runs fastest, then channel, feature (height),
    feature_2 (width) and output node, as in R.
    """
    blocks = list(_blocks(attributions))
    shapes = [block["value"].shape for block in blocks]
    columns: dict[str, Any] = {}
    features = max((_features(block) for block in blocks), key=len)
    for name in (*_BEFORE, *features, *_TEXT, *_AFTER):
        parts = [block.get(name) for block in blocks]
        if any(part is not None for part in parts):
            columns[name] = _column(parts, shapes)
    frame = pd.DataFrame(columns, copy=False)
    note = unexplained(attributions)
    if note is not None:
        frame.attrs["note"] = note
    return frame


def _blocks(attributions: Attributions) -> Iterator[dict[str, Any]]:
    """Give the columns of each pair of an output and an input layer; None where a column does not apply.

    A column is an array or labels that broadcast to the shape of the values.
    """
    described = attributions.described
    outputs = [f"Output_{i + 1}" for i in range(len(described.output_dim))]
    for i in selected_layers(attributions):
        missing = absolute_residual(attributions, i)
        for j, port in enumerate(described.inputs):
            names, channels = port.names, port.has_channels
            values = as_array(attributions, i, j)
            if not attributions.channels_first and channels:
                values = np.moveaxis(values, -2, 1)
            shape = values.shape
            axes = _Axes(shape)
            spatial = len(shape) - 2
            features = {
                feature_column(k): axes.label(1 + channels + k, axis) for k, axis in enumerate(names[channels:])
            }
            features |= _text_columns(attributions, j, axes)
            yield features | {
                "data": axes.label(0, instance_names(attributions, shape[0])),
                "model_input": _Labels(np.zeros((), np.int8), [f"Input_{j + 1}"]),
                "model_output": _Labels(np.array(i), outputs),
                "channel": axes.label(1, names[0]) if channels else None,
                "output_node": axes.label(*_nodes(attributions, i)),
                "value": values,
                "pred": axes.per_node(_host(attributions.preds, i)),
                "decomp_sum": axes.per_node(values.sum(tuple(range(1, len(shape) - 1)))),
                "decomp_goal": axes.per_node(_host(attributions.decomp_goal, i)),
                "input_dimension": np.array(spatial),
                "residual": axes.per_node(None if missing is None else missing.cpu().numpy()),
            }


def _text_columns(attributions: Attributions, j: int, axes: _Axes) -> dict[str, Any]:
    """Return the columns of a text: the position of each token, the token and its word."""
    if not is_text(attributions.described.inputs[j]):
        return {}
    tokens, of_tokens = row_tokens(attributions, j), _words_of_tokens(attributions, j)
    return {
        "position": axes.along(1, np.arange(len(tokens[0]) if tokens else 0)),
        "token": axes.per_row(tokens),
        "word": axes.per_row(of_tokens),
    }


def _words_of_tokens(attributions: Attributions, j: int) -> list[list[str]]:
    """Return the word that each token of each row is a part of."""
    return [[word.text for word in row for _ in word.tokens] for row in row_words(attributions, j)]


def feature_column(k: int) -> str:
    """Name the column of the k-th axis beside channels: feature (height), feature_2 (width), and so on."""
    return "feature" if k == 0 else f"feature_{k + 1}"


def _features(block: dict[str, Any]) -> list[str]:
    return [name for name in block if name.startswith("feature")]


def _nodes(attributions: Attributions, i: int) -> tuple[int, pd.Categorical]:
    """Return the axis that the labels of nodes lie along, and the labels, with all labels of the layer as categories.

    That axis is the last, or the first where each row has a node of its own. Of an output with several axes only the
    labels that are there are categories.
    """
    axes, own = attributions.described.outputs[i].names, attributions.own_nodes(i)
    if len(axes) > 1:
        shown = (attributions.output_label[i] if own is None else attributions.target_label[i]) or []
        return (-1 if own is None else 0), pd.Categorical(shown, categories=list(dict.fromkeys(shown)))
    nodes = (attributions.output_idx[i] or []) if own is None else own
    labels = pd.Categorical([str(axes[0][node]) for node in nodes if isinstance(node, int)], categories=levels(axes[0]))
    return (-1 if own is None else 0), labels


def instance_names(attributions: Attributions, rows: int) -> list[str]:
    """Return the names of the instances."""
    return [attributions.data_name(row) for row in range(rows)]


def _host(values: list[Tensor | None] | None, i: int) -> np.ndarray | None:
    value = None if values is None else values[i]
    return None if value is None else value.cpu().numpy()


class _Labels(NamedTuple):
    """A column of labels: numbers of categories, in a shape that broadcasts to that of the values."""

    codes: np.ndarray
    categories: list[str]


class _Axes:
    """Lays labels and values along the axes of values of a shape; nothing is repeated before it is in its column."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.dims = len(shape)

    def label(self, axis: int, names: AxisNames | pd.Categorical) -> _Labels:
        """Lay labels along an axis."""
        categories = levels(names)
        if isinstance(names, list) and len(categories) == len(names):
            codes = np.arange(len(names))
        else:
            position = {name: code for code, name in enumerate(categories)}
            codes = np.array([position[str(name)] for name in names])
        return _Labels(self.along(axis, codes), categories)

    def along(self, axis: int, values: np.ndarray) -> np.ndarray:
        """Lay values along an axis."""
        shape = [1] * self.dims
        shape[axis] = len(values)
        return values.reshape(shape)

    def per_row(self, labels: list[list[str]]) -> _Labels:
        """Lay labels that each row has for itself along the first two axes."""
        position: dict[str, int] = {}
        codes = [[position.setdefault(label, len(position)) for label in row] for row in labels]
        return _Labels(np.array(codes).reshape(*np.shape(codes), *[1] * (self.dims - 2)), list(position))

    def per_node(self, values: np.ndarray | None) -> np.ndarray:
        """Lay values ``(B, K)`` along the first and the last axis, NaN where there are none."""
        if values is None:
            return np.array(np.nan)
        return values.reshape(values.shape[0], *[1] * (self.dims - 2), values.shape[1])


def _column(parts: list[Any], shapes: list[tuple[int, ...]]) -> Any:
    """Write the blocks of one column below each other, the first axis of each running fastest."""
    categories = _all_categories([part for part in parts if isinstance(part, _Labels)])
    parts = _codes(parts, categories) if categories else [np.array(np.nan) if x is None else x for x in parts]
    dtype = _code_dtype(len(categories)) if categories else np.result_type(*(part.dtype for part in parts))
    sizes = [math.prod(shape) for shape in shapes]
    column, start = np.empty(sum(sizes), dtype), 0
    for part, shape, size in zip(parts, shapes, sizes, strict=True):
        column[start : start + size].reshape(shape, order="F")[...] = part
        start += size
    return pd.Categorical.from_codes(column, categories) if categories else column


def _all_categories(labels: list[_Labels]) -> list[str]:
    """Return the categories of all blocks, first come first."""
    if len(labels) < 2:
        return labels[0].categories if labels else []
    return list(dict.fromkeys(name for label in labels for name in label.categories))


def _codes(parts: list[Any], categories: list[str]) -> list[np.ndarray]:
    """Return the labels of each block as numbers of the categories of all; -1 where a block has none."""
    if len(parts) == 1:
        return [parts[0].codes]
    position = {name: code for code, name in enumerate(categories)}
    return [
        np.array(-1) if part is None else np.array([position[name] for name in part.categories])[part.codes]
        for part in parts
    ]


def _code_dtype(count: int) -> type[np.signedinteger[Any]]:
    """Return the dtype of pandas' codes for `count` categories."""
    kinds = (np.int8, np.int16, np.int32, np.int64)
    return next(kind for kind in kinds if count < np.iinfo(kind).max)


def spread(x: Tensor) -> tuple[float, float, float, int]:
    """Return minimum, median and maximum of the values that are not NaN, and the number of NaN."""
    values = x.detach().flatten()
    missing = int(torch.isnan(values).sum())
    kept = values[~torch.isnan(values)].cpu().numpy()
    if not len(kept):
        return float("nan"), float("nan"), float("nan"), missing
    return float(kept.min()), float(np.median(kept)), float(kept.max()), missing
