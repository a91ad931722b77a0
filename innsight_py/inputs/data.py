"""Reading the user's data: arrays, tensors and frames become tensors of the shapes that the model takes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from innsight_py._arrays import without_tensors
from innsight_py._checks import describe
from innsight_py._errors import see
from innsight_py._text import dims_text
from innsight_py.functions.elementwise import all_finite
from innsight_py.inputs import advice
from innsight_py.inputs.frames import ordered_columns, to_pandas
from innsight_py.inputs.names import LayerNames
from innsight_py.inputs.ports import Port
from innsight_py.spec.keys import default_keys, in_order, layer_title, quoted


def read_data(
    data: Any,
    dims: Sequence[tuple[int, ...]],
    channels_first: bool,
    dtype: torch.dtype,
    argument: str,
    names: Sequence[LayerNames] | None = None,
    keys: Sequence[str] | None = None,
) -> list[Tensor]:
    """Read one batch of data for each input of the model.

    Parameters
    ----------
    data : array-like, tensor, frame, or list or dict of these
        For one input ``(B, *dims)``; for several a list with one for each, or a dict by `keys`. Numbers, in the layout
        that `channels_first` says. Frames may be of pandas, polars, arrow, or whatever else narwhals reads.
    dims : sequence of tuple of int
        Shape of each input, channels first and without the batch axis.
    channels_first : bool
        Whether the channels are the first or the last axis of an instance.
    dtype : torch.dtype
        What the data are converted to. The user's data are never changed.
    argument : str
        What the data are called in error messages.
    names : sequence of list, optional
        Names of each input's features. The columns of a frame are matched with them, see
        `innsight_py.inputs.frames.ordered_columns`.
    keys : sequence of str, optional
        Names of the inputs. Default: ``input_1..``.

    Returns
    -------
    list of Tensor
        One tensor ``(B, *dims)`` an input, in the user's layout.

    Raises
    ------
    TypeError
        If something is not made of numbers.
    ValueError
        If shapes, the numbers or names of inputs, the numbers of rows, or the columns of a frame do not fit, or
        numbers are too large for the precision.

    Examples
    --------
    >>> read_data([[1, 2], [3, 4]], [(2,)], True, torch.float32, "data")
    [tensor([[1., 2.],
            [3., 4.]])]
    """
    keys = default_keys("input", len(dims)) if keys is None else keys
    parts = split_inputs(data, dims, keys, argument)
    tensors = []
    for i, (part, dim) in enumerate(zip(parts, dims, strict=True)):
        where = f"Argument '{argument}'" + (f", {layer_title('input', i, keys)}" if len(dims) > 1 else "")
        part = to_pandas(part, where)
        if tuple(dim) == (1,) and _ndim(part) == 1:  # one number a row, as a module may take it
            part = part[:, None] if isinstance(part, torch.Tensor) else np.asarray(part).reshape(-1, 1)
        if isinstance(part, pd.DataFrame):
            part = ordered_columns(part, names[i][0] if names is not None and len(dim) == 1 else None, where)
        tensor = read_numbers(part, where, dtype)
        expected = dim if channels_first else channels_last(dim)
        if tuple(tensor.shape[1:]) != expected or tensor.dim() != len(expected) + 1:
            shape, other = tuple(tensor.shape), channels_last(dim) if channels_first else dim
            raise ValueError(
                f"{where}: expected the shape {dims_text([expected])}, got {shape}."
                + advice.of_shape(part, shape, expected, other, channels_first)
            )
        if tensor.shape[0] == 0:
            raise ValueError(f"{where}: expected at least one row, got none.")
        tensors.append(tensor)
    rows = [tensor.shape[0] for tensor in tensors]
    if len(set(rows)) > 1:
        raise ValueError(f"Argument '{argument}': expected as many rows for each input, got {rows}.")
    return tensors


def ready_data(data: Any, ports: Sequence[Port], channels_first: bool, dtype: torch.dtype) -> list[Tensor] | None:
    """Copy a tensor that is a batch just as `read_data` would return it, with which nothing can be wrong; None else.

    Examples
    --------
    >>> port = Port("x", (2,), [["a", "b"]], "table")
    >>> ready_data(torch.ones(1, 2), [port], True, torch.float32), ready_data([[1, 1]], [port], True, torch.float32)
    ([tensor([[1., 1.]])], None)
    """
    if type(data) is not Tensor or len(ports) != 1 or data.dtype is not dtype or data.layout is not torch.strided:
        return None
    shape, dim = data.shape, ports[0].dim if channels_first else channels_last(ports[0].dim)
    if len(shape) != len(dim) + 1 or not shape[0] or shape[1:] != dim or data.is_meta:
        return None
    own = data.clone(memory_format=torch.contiguous_format)
    return [own.detach() if own.requires_grad else own]


def read_references(
    data: Any,
    dims: Sequence[tuple[int, ...]],
    channels_first: bool,
    dtype: torch.dtype,
    argument: str,
    names: Sequence[LayerNames] | None = None,
    keys: Sequence[str] | None = None,
    rows: int | None = None,
) -> list[Tensor]:
    """Read references: rows like data, or the same number of references for each of `rows` rows.

    Parameters
    ----------
    data, dims, channels_first, dtype, argument, names, keys
        As for `read_data`.
    rows : int, optional
        The number of rows that may have references of their own, ``(rows, n, *dims)``. Default: they may not.

    Returns
    -------
    list of Tensor
        One tensor an input, ``(n, *dims)`` or ``(rows, n, *dims)``, in the user's layout.

    Raises
    ------
    TypeError, ValueError
        As `read_data`; if they are there for another number of rows.

    Examples
    --------
    >>> read_references(np.zeros((4, 3, 2)), [(2,)], True, torch.float32, "data_ref", rows=4)[0].shape
    torch.Size([4, 3, 2])
    """
    read = functools.partial(
        read_data, dims=dims, channels_first=channels_first, dtype=dtype, argument=argument, names=names, keys=keys
    )
    if rows is None:
        return read(data)
    known = default_keys("input", len(dims)) if keys is None else keys
    parts = split_inputs(data, dims, known, argument)
    if not all(_ndim(part) == len(dim) + 2 for part, dim in zip(parts, dims, strict=True)):
        for part, dim in zip(parts, dims, strict=True):
            expected = tuple(dim) if channels_first else channels_last(tuple(dim))
            if way_on := advice.of_own_references(part, expected, rows):
                shapes = f"expected the shape {dims_text([expected])}, got {tuple(part.shape)}"
                raise ValueError(f"Argument '{argument}': {shapes}.{way_on}")
        return read(data)
    arrays = [part if isinstance(part, torch.Tensor) else np.asarray(without_tensors(part)) for part in parts]
    for array in arrays:
        if array.shape[0] != rows:
            raise ValueError(
                f"Argument '{argument}': expected references for {rows} row(s), as many as 'data' has, got "
                f"{tuple(array.shape)}, which is for {array.shape[0]}."
            )
    flat = [array.reshape(-1, *array.shape[2:]) for array in arrays]
    return [x.reshape(rows, -1, *x.shape[1:]) for x in read(flat if len(flat) > 1 else flat[0])]


def channels_last(dim: tuple[int, ...]) -> tuple[int, ...]:
    """Move the channels of a shape to the end.

    Examples
    --------
    >>> channels_last((3, 32, 30))
    (32, 30, 3)
    """
    return (*dim[1:], dim[0])


def split_inputs(data: Any, dims: Sequence[tuple[int, ...]], keys: Sequence[str], argument: str) -> Sequence[Any]:
    """Return the data of each input.

    Raises
    ------
    TypeError, ValueError
        If there are not as many as inputs, or names are wrong.
    """
    data = as_called(data, keys)
    if isinstance(data, Mapping):
        return in_order(data, keys, argument, "input")
    if len(dims) == 1:
        wrapped = isinstance(data, list | tuple) and len(data) == 1 and _ndim(data[0]) == len(dims[0]) + 1
        return [data[0]] if wrapped else [data]
    if not isinstance(data, list | tuple):
        raise TypeError(
            f"Argument '{argument}': the model has {len(dims)} inputs; expected a list with one array for each, or a "
            f"dict with the keys {quoted(keys)}, got {describe(data)}."
        )
    if len(data) != len(dims):
        raise ValueError(
            f"Argument '{argument}': the model has {len(dims)} inputs; expected a list of {len(dims)} arrays, "
            f"got {len(data)}."
        )
    return data


def as_called(data: Any, keys: Sequence[str]) -> Any:
    """Return data in the structure that a model is called with as a dict by the names of inputs; others as they are.

    Parameters
    ----------
    data : any
        Data as the user gives them: perhaps dicts, named tuples and dataclasses in each other.
    keys : sequence of str
        Names of the inputs; those in a structure are paths to it, with dots.

    Examples
    --------
    >>> as_called(({"a": np.ones(2), "b": np.zeros(2)},), ["batch.a", "batch.b"])
    {'batch.a': array([1., 1.]), 'batch.b': array([0., 0.])}
    """
    names = list(dict.fromkeys(key.partition(".")[0] for key in keys))
    if all("." not in key for key in keys):
        return data
    if isinstance(data, Mapping) and set(names) <= set(data):
        arguments = {name: data[name] for name in names}
    elif isinstance(data, list | tuple) and not hasattr(data, "_fields") and len(data) == len(names):
        arguments = dict(zip(names, data, strict=True))
    elif len(names) == 1:
        arguments = {names[0]: data}
    else:
        return data
    found = dict(_leaves(arguments, ""))
    return {key: found[key] for key in keys} if set(keys) <= set(found) else data


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Give what is within a structure, with the paths to it."""
    parts = _parts(value)
    if parts is None:
        yield path, value
    for name, part in parts or ():
        yield from _leaves(part, f"{path}.{name}" if path else str(name))


def _parts(value: Any) -> list[tuple[Any, Any]] | None:
    """Return the parts of a structure with their names; None of what holds numbers."""
    if isinstance(value, Mapping):
        return list(value.items())
    if hasattr(value, "_fields"):
        return [(name, getattr(value, name)) for name in value._fields]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, list | tuple) and any(isinstance(part, torch.Tensor | np.ndarray) for part in value):
        return list(enumerate(value))
    return None


def _ndim(value: Any) -> int:
    try:
        return value.dim() if isinstance(value, torch.Tensor) else np.ndim(value)
    except ValueError:
        return -1


def read_numbers(value: Any, where: str, dtype: torch.dtype) -> Tensor:
    """Read numbers of any shape into a tensor of their own; see `read_data` for what is refused."""
    if isinstance(value, torch.Tensor):
        if value.is_complex() or value.is_quantized or value.is_meta or value.layout != torch.strided:
            raise TypeError(
                see("numbers-only", f"{where}: expected real numbers in a dense tensor, got {describe(value)}.")
            )
        own = value.detach().to(dtype=dtype, copy=True, memory_format=torch.contiguous_format)
        return _in_range(own, value.detach(), where)
    if isinstance(value, pd.DataFrame):
        for column, kind in value.dtypes.items():
            if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_complex_dtype(kind):
                raise TypeError(
                    see(
                        "numbers-only",
                        f"{where}: expected numbers, but the column '{column}' has the dtype {kind}."
                        f"{advice.as_floats(value) or advice.of_column([str(column)])}",
                    )
                )
        value = value.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.ma.is_masked(value):
        raise TypeError(
            see(
                "numbers-only",
                f"{where}: expected numbers, got an array with masked entries. Fill them: x.filled(0.0).",
            )
        )
    value = without_tensors(value)
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{where}: expected a rectangular array, got {describe(value)}.") from None
    if array.dtype.kind not in "biuf":
        dtype_text = f" (dtype {array.dtype})" if array.dtype.kind != "O" else ""
        raise TypeError(
            see("numbers-only", f"{where}: expected numbers, got {describe(value)}{dtype_text}.{advice.of_kind(value)}")
        )
    with np.errstate(over="ignore"):
        kind = np.float64 if dtype == torch.float64 else np.float32
        tensor = torch.tensor(array.astype(kind, order="C")).to(dtype)
    return _in_range(tensor, array, where)


def _in_range(tensor: Tensor, given: Tensor | np.ndarray, where: str) -> Tensor:
    """Refuse finite numbers that the precision has made infinite."""
    if (isinstance(given, Tensor) and given.dtype == tensor.dtype) or all_finite(tensor):
        return tensor
    infinite = tensor.isinf()
    if bool(infinite.any()) and int(infinite.sum()) > int((given == np.inf).sum() + (given == -np.inf).sum()):
        raise ValueError(
            f"{where}: expected numbers of at most {torch.finfo(tensor.dtype).max:.3g} in magnitude, which is what "
            f"{tensor.dtype} can hold, got larger ones (dtype='double' holds up to 1.8e308)."
        )
    return tensor


def to_channels_first(x: Tensor, channels_first: bool) -> Tensor:
    """Bring a batch in the user's layout into the model's, in memory too: the same numbers, to the last digit."""
    if channels_first or x.dim() < 3:
        return x
    # Not `contiguous`, which leaves the strides of axes of 1 as they are, and a convolution looks at them.
    return x.movedim(-1, 1).clone(memory_format=torch.contiguous_format)
