"""Reading the user's data: arrays, tensors and frames become tensors of the shapes that the model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from innsight_py._checks import describe
from innsight_py._elementwise import all_finite
from innsight_py.frames import ordered_columns, to_pandas
from innsight_py.names import LayerNames


def read_data(
    data: Any,
    dims: Sequence[tuple[int, ...]],
    channels_first: bool,
    dtype: torch.dtype,
    argument: str,
    names: Sequence[LayerNames] | None = None,
) -> list[Tensor]:
    """Read one batch of data for each input of the model.

    Parameters
    ----------
    data : array-like, tensor, frame, or list of these
        For one input ``(B, *dims)``; for several a list with one for each. Numbers, in the layout that
        `channels_first` says. Frames may be of pandas, polars, arrow, or whatever else narwhals reads.
    dims : sequence of tuple of int
        Shape of each input, channels first and without the batch axis.
    channels_first : bool
        Whether the channels are the first or the last axis of an instance.
    dtype : torch.dtype
        What the data are converted to. The user's data are never changed.
    argument : str
        What the data are called in error messages.
    names : sequence of list, optional
        Names of each input. The columns of a frame are matched with them, see `innsight_py.frames.ordered_columns`.

    Returns
    -------
    list of Tensor
        One tensor ``(B, *dims)`` an input, in the user's layout.

    Raises
    ------
    TypeError
        If something is not made of numbers.
    ValueError
        If shapes, the numbers of inputs or rows, or the columns of a frame do not fit, or numbers are too large for
        the precision.

    Examples
    --------
    >>> read_data([[1, 2], [3, 4]], [(2,)], True, torch.float32, "data")
    [tensor([[1., 2.],
            [3., 4.]])]
    """
    parts = _split_inputs(data, dims, argument)
    tensors = []
    for i, (part, dim) in enumerate(zip(parts, dims, strict=True)):
        where = f"Argument '{argument}'" + (f", input {i + 1}" if len(dims) > 1 else "")
        part = to_pandas(part, where)
        if isinstance(part, pd.DataFrame):
            part = ordered_columns(part, names[i][0] if names is not None and len(dim) == 1 else None, where)
        tensor = _as_tensor(part, where, dtype)
        expected = dim if channels_first else channels_last(dim)
        if tuple(tensor.shape[1:]) != expected or tensor.dim() != len(expected) + 1:
            raise ValueError(
                f"{where}: expected the shape {_show(expected)}, got {tuple(tensor.shape)}."
                + _hint(tuple(tensor.shape[1:]), tuple(tensor.shape), dim, channels_first)
            )
        if tensor.shape[0] == 0:
            raise ValueError(f"{where}: expected at least one row, got none.")
        tensors.append(tensor)
    rows = [tensor.shape[0] for tensor in tensors]
    if len(set(rows)) > 1:
        raise ValueError(f"Argument '{argument}': expected as many rows for each input, got {rows}.")
    return tensors


def channels_last(dim: tuple[int, ...]) -> tuple[int, ...]:
    """Move the channels of a shape to the end.

    Examples
    --------
    >>> channels_last((3, 32, 30))
    (32, 30, 3)
    """
    return (*dim[1:], dim[0])


def _split_inputs(data: Any, dims: Sequence[tuple[int, ...]], argument: str) -> Sequence[Any]:
    if len(dims) == 1:
        wrapped = isinstance(data, list | tuple) and len(data) == 1 and _ndim(data[0]) == len(dims[0]) + 1
        return [data[0]] if wrapped else [data]
    if not isinstance(data, list | tuple):
        raise TypeError(
            f"Argument '{argument}': the model has {len(dims)} inputs; expected a list with one array for each, "
            f"got {describe(data)}."
        )
    if len(data) != len(dims):
        raise ValueError(
            f"Argument '{argument}': the model has {len(dims)} inputs; expected a list of {len(dims)} arrays, "
            f"got {len(data)}."
        )
    return data


def _ndim(value: Any) -> int:
    try:
        return value.dim() if isinstance(value, torch.Tensor) else np.ndim(value)
    except ValueError:
        return -1


def _as_tensor(value: Any, where: str, dtype: torch.dtype) -> Tensor:
    if isinstance(value, torch.Tensor):
        if value.is_complex() or value.is_quantized or value.is_meta or value.layout != torch.strided:
            raise TypeError(f"{where}: expected real numbers in a dense tensor, got {describe(value)}.")
        own = value.detach().to(dtype=dtype, copy=True, memory_format=torch.contiguous_format)
        return _in_range(own, value.detach(), where)
    if isinstance(value, pd.DataFrame):
        for column, kind in value.dtypes.items():
            if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_complex_dtype(kind):
                raise TypeError(f"{where}: expected numbers, but the column '{column}' has the dtype {kind}.")
        value = value.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.ma.is_masked(value):
        raise TypeError(f"{where}: expected numbers, got an array with masked entries.")
    value = without_tensors(value)
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{where}: expected a rectangular array, got {describe(value)}.") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{where}: expected numbers, got {describe(value)} (dtype {array.dtype}).")
    with np.errstate(over="ignore"):
        kind = np.float64 if dtype == torch.float64 else np.float32
        tensor = torch.tensor(array.astype(kind, order="C")).to(dtype)
    return _in_range(tensor, array, where)


def _in_range(tensor: Tensor, given: Tensor | np.ndarray, where: str) -> Tensor:
    """Refuse finite numbers that the precision has made infinite."""
    if all_finite(tensor):
        return tensor
    infinite = tensor.isinf()
    if bool(infinite.any()) and int(infinite.sum()) > int((given == np.inf).sum() + (given == -np.inf).sum()):
        raise ValueError(
            f"{where}: expected numbers of at most {torch.finfo(tensor.dtype).max:.3g} in magnitude, which is what "
            f"{tensor.dtype} can hold, got larger ones (dtype='double' holds up to 1.8e308)."
        )
    return tensor


def without_tensors(value: Any) -> Any:
    """Turn the tensors in nested lists into arrays."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().double().numpy() if value.is_floating_point() else value.cpu().numpy()
    return [without_tensors(entry) for entry in value] if isinstance(value, list | tuple) else value


def _hint(found: tuple[int, ...], whole: tuple[int, ...], dim: tuple[int, ...], channels_first: bool) -> str:
    if whole == (dim if channels_first else channels_last(dim)):
        return " That is one instance; give it an axis for the batch in front, x[None]."
    other = channels_last(dim) if channels_first else dim
    if found == other:
        return f" The data look like channels {'last' if channels_first else 'first'}: " + (
            f"set channels_first={not channels_first}."
        )
    return ""


def _show(dim: tuple[int, ...]) -> str:
    return f"(*, {', '.join(map(str, dim))})"


def to_channels_first(x: Tensor, channels_first: bool) -> Tensor:
    """Bring a batch in the user's layout into the model's, in memory too: the same numbers, to the last digit."""
    if channels_first or x.dim() < 3:
        return x
    # Not `contiguous`, which leaves the strides of axes of 1 as they are, and a convolution looks at them.
    return x.movedim(-1, 1).clone(memory_format=torch.contiguous_format)
