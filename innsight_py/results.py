"""Showing results as arrays, tensors and data frames. Nothing is computed here but sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from innsight_py._checks import describe, suggestion
from innsight_py.completeness import absolute_residual
from innsight_py.data import channels_last
from innsight_py.names import AxisNames, levels

if TYPE_CHECKING:
    from innsight_py.explanation import Explanation

ResultType = Literal["array", "data.frame", "torch_tensor", "xarray"]

_BEFORE = ("data", "model_input", "model_output")
_AFTER = ("channel", "output_node", "value", "pred", "decomp_sum", "decomp_goal", "input_dimension", "residual")


def present(method: Explanation, kind: str) -> Any:
    """Return a method's result in the form `kind`, see `Explanation.get_result`."""
    if kind == "array":
        return _nest(method, lambda i, j: as_array(method, i, j))
    if kind == "torch_tensor":
        return _nest(method, lambda i, j: _tensor(method, i, j))
    if kind == "data.frame":
        return as_frame(method)
    if kind == "xarray":
        xarray = _import_xarray()
        return _nest(method, lambda i, j: _data_array(xarray, method, i, j))
    kinds = ("array", "data.frame", "torch_tensor", "xarray")
    raise (ValueError if isinstance(kind, str) else TypeError)(
        f"Argument 'type': expected one of {', '.join(kinds)}, got {describe(kind)}{suggestion(str(kind), kinds)}"
    )


def _nest(method: Explanation, get: Callable[[int, int], Any]) -> Any:
    """Nest by output and input layer, leaving out a level where there is only one."""
    inputs = range(len(method.converter.input_dim))
    outer = {}
    for i in selected_layers(method):
        inner = {f"Input_{j + 1}": get(i, j) for j in inputs}
        outer[f"Output_{i + 1}"] = inner if len(inner) > 1 else inner["Input_1"]
    return outer if len(outer) > 1 else next(iter(outer.values()))


def selected_layers(method: Explanation) -> list[int]:
    """Return the numbers of the output layers that are explained."""
    return [i for i, row in enumerate(method.result) if row is not None]


def _tensor(method: Explanation, i: int, j: int) -> Tensor | None:
    row = method.result[i]
    assert row is not None
    return row[j]


def as_array(method: Explanation, i: int, j: int) -> np.ndarray:
    """Return the result of output layer i and input layer j; an array of NaN if the one does not reach the other."""
    tensor = _tensor(method, i, j)
    if tensor is not None:
        return tensor.cpu().numpy().copy()
    dim = method.converter.input_dim[j]
    dim = dim if method.channels_first else channels_last(dim)
    dtype = np.float64 if method.dtype == "double" else np.float32
    return np.full((method.rows, *dim, len(method.output_idx[i] or ())), np.nan, dtype)


# -- xarray -----------------------------------------------------------------------------------------------------


def _import_xarray() -> Any:
    try:
        import xarray
    except ImportError:
        raise ImportError('get_result("xarray") needs xarray: pip install "innsight_py[xarray]"') from None
    return xarray


def _data_array(xarray: Any, method: Explanation, i: int, j: int) -> Any:
    """Return the result of one pair of layers with named axes, in the layout of the data."""
    values = as_array(method, i, j)
    names = method.converter.input_names[j]
    inner = list(zip(_axis_columns(len(names)), names, strict=True))
    if not method.channels_first and len(names) > 1:
        inner = [*inner[1:], inner[0]]
    labels: dict[str, Any] = {"data": [f"data_{b + 1}" for b in range(values.shape[0])]}
    labels |= {column: [str(name) for name in axis] for column, axis in inner}
    labels["output_node"] = method.output_label[i]
    coordinates: dict[str, Any] = dict(labels)
    missing = absolute_residual(method, i)
    per_node = (
        ("pred", _host(method.preds, i)),
        ("decomp_goal", _host(method.decomp_goal, i)),
        ("residual", None if missing is None else missing.cpu().numpy()),
    )
    for name, known in per_node:
        if known is not None:
            coordinates[name] = (("data", "output_node"), known)
    attributes = {"method": method.title, "model_input": f"Input_{j + 1}", "model_output": f"Output_{i + 1}"}
    return xarray.DataArray(values, coordinates, tuple(labels), method.value_name, attributes)


def _axis_columns(axes: int) -> list[str]:
    """Name the axes of an input, channels first, as the columns of the data frame."""
    features = [feature_column(k) for k in range(max(1, axes - 1))]
    return features if axes == 1 else ["channel", *features]


# -- data frame -------------------------------------------------------------------------------------------------


def as_frame(method: Explanation) -> pd.DataFrame:
    """Return the result as a frame with a row for each value.

    Within each pair of an output and an input layer the instance runs fastest, then channel, feature (height),
    feature_2 (width) and output node, as in R.
    """
    blocks = list(_blocks(method))
    columns: dict[str, Any] = {}
    features = max((_features(block) for block in blocks), key=len)
    for name in (*_BEFORE, *features, *_AFTER):
        parts = [block.get(name) for block in blocks]
        if all(part is None for part in parts):
            continue
        lengths = [len(block["value"]) for block in blocks]
        columns[name] = _join(parts, lengths)
    return pd.DataFrame(columns, copy=False)


def _blocks(method: Explanation) -> Iterator[dict[str, Any]]:
    """Give the columns of each pair of an output and an input layer; None where a column does not apply."""
    converter = method.converter
    outputs = [f"Output_{i + 1}" for i in range(len(converter.output_dim))]
    for i in selected_layers(method):
        nodes = method.output_idx[i] or []
        node_names = converter.output_names[i][0]
        missing = absolute_residual(method, i)
        for j, names in enumerate(converter.input_names):
            values = as_array(method, i, j)
            if not method.channels_first and values.ndim > 3:
                values = np.moveaxis(values, -2, 1)
            shape = values.shape
            axes = _Axes(shape)
            spatial = len(shape) - 2
            first = 1 if spatial == 1 else 2  # channels come first where there are any
            features = {feature_column(k): axes.label(first + k, axis) for k, axis in enumerate(names[first - 1 :])}
            yield features | {
                "data": axes.label(0, [f"data_{b + 1}" for b in range(shape[0])]),
                "model_input": pd.Categorical.from_codes(np.zeros(axes.size, np.int8), [f"Input_{j + 1}"]),
                "model_output": pd.Categorical.from_codes(np.full(axes.size, i, np.int8), outputs),
                "channel": None if spatial == 1 else axes.label(1, names[0]),
                "output_node": axes.label(-1, _pick(node_names, nodes)),
                "value": values.ravel(order="F"),
                "pred": axes.per_node(_host(method.preds, i)),
                "decomp_sum": axes.per_node(values.sum(tuple(range(1, len(shape) - 1)))),
                "decomp_goal": axes.per_node(_host(method.decomp_goal, i)),
                "input_dimension": np.full(axes.size, spatial),
                "residual": axes.per_node(None if missing is None else missing.cpu().numpy()),
            }


def feature_column(k: int) -> str:
    """Name the column of the k-th axis beside channels: feature (height), feature_2 (width), and so on."""
    return "feature" if k == 0 else f"feature_{k + 1}"


def _features(block: dict[str, Any]) -> list[str]:
    return [name for name in block if name.startswith("feature")]


def _pick(names: AxisNames, nodes: list[int]) -> pd.Categorical:
    """Return the labels of some nodes, with all labels as categories."""
    return pd.Categorical([str(names[node]) for node in nodes], categories=levels(names))


def _host(values: list[Tensor | None] | None, i: int) -> np.ndarray | None:
    value = None if values is None else values[i]
    return None if value is None else value.cpu().numpy()


class _Axes:
    """Spreads labels and values over the rows of a frame, the first axis of `shape` running fastest."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.size = int(np.prod(shape))

    def label(self, axis: int, names: AxisNames | pd.Categorical) -> pd.Categorical:
        """Repeat the labels of an axis."""
        categories = levels(names)
        position = {name: code for code, name in enumerate(categories)}
        codes = np.array([position[str(name)] for name in names], np.min_scalar_type(-len(categories) - 1))
        shape = [1] * len(self.shape)
        shape[axis] = len(codes)
        spread = np.broadcast_to(codes.reshape(shape), self.shape)
        return pd.Categorical.from_codes(spread.ravel(order="F"), categories)

    def per_node(self, values: np.ndarray | None) -> np.ndarray:
        """Repeat values ``(B, K)``, NaN where there are none."""
        if values is None:
            return np.full(self.size, np.nan)
        between = [1] * (len(self.shape) - 2)
        spread = values.reshape(values.shape[0], *between, values.shape[1])
        return np.broadcast_to(spread, self.shape).ravel(order="F")


def _join(parts: list[Any], lengths: list[int]) -> Any:
    """Put the blocks of one column together; labels keep the order of their categories, first come first."""
    if not any(isinstance(part, pd.Categorical) for part in parts):
        return np.concatenate(parts)
    categories = list(dict.fromkeys(c for part in parts if part is not None for c in part.categories))
    position = {name: code for code, name in enumerate(categories)}
    codes = []
    for part, length in zip(parts, lengths, strict=True):
        if part is None:
            codes.append(np.full(length, -1))
        else:
            codes.append(np.array([position[c] for c in part.categories], np.int64)[part.codes])
    return pd.Categorical.from_codes(np.concatenate(codes), categories)


def summary(x: Tensor) -> tuple[float, float, float, int]:
    """Return minimum, median and maximum of the values that are not NaN, and the number of NaN."""
    values = x.detach().flatten()
    missing = int(torch.isnan(values).sum())
    kept = values[~torch.isnan(values)].cpu().numpy()
    if not len(kept):
        return float("nan"), float("nan"), float("nan"), missing
    return float(kept.min()), float(np.median(kept)), float(kept.max()), missing
