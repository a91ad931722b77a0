"""Which columns of a table are which input of the model, and their values as arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from innsight_py._checks import describe, suggestion
from innsight_py._errors import see
from innsight_py.datasets.arrow import Column, Table
from innsight_py.datasets.pictures import read_picture
from innsight_py.functions.elementwise import all_finite
from innsight_py.inputs.data import channels_last
from innsight_py.inputs.described import Described
from innsight_py.inputs.names import default_names
from innsight_py.inputs.ports import Port


@dataclass(frozen=True)
class Columns:
    """The columns of each input, in the order of its features; one column of lists or images for other inputs.

    Attributes
    ----------
    names : tuple of tuple of str
        For each input of the model.
    ports : tuple of Port
        The inputs.
    channels_first : bool
        How lists of values lie.
    pixels : tuple of float
        What black and white of an image become.
    """

    names: tuple[tuple[str, ...], ...]
    ports: tuple[Port, ...]
    channels_first: bool
    pixels: tuple[float, float]

    @property
    def needed(self) -> list[str]:
        """All columns, each once."""
        return list(dict.fromkeys(name for names in self.names for name in names))

    def scalars(self) -> list[str]:
        """Columns of single numbers, one for each feature."""
        one = [names for names, port in zip(self.names, self.ports, strict=True) if len(names) == math.prod(port.dim)]
        return [name for names in one for name in names]

    def read(self, table: Table) -> tuple[list[np.ndarray], dict[int, str]]:
        """Read the inputs of some rows, in the precision that they have, and what is wrong with which row.

        Returns
        -------
        list of ndarray
            ``(rows, *dims)`` for each input, in the user's layout; rows that are wrong hold 0.
        dict of int to str
            The rows that cannot be explained, and why.
        """
        wrong: dict[int, str] = {}
        arrays = [self._one(table, names, port, wrong) for names, port in zip(self.names, self.ports, strict=True)]
        for array in arrays:
            array[list(wrong)] = 0
        return arrays, wrong

    def _one(self, table: Table, names: Sequence[str], port: Port, wrong: dict[int, str]) -> np.ndarray:
        dim = port.dim if self.channels_first else channels_last(port.dim)
        if len(names) == 1 and not _is_scalar(table.schema.field(names[0]).type, port):
            column = _whole(table[names[0]])
            if _is_picture(column.type):
                return self._pictures(column, names[0], port, wrong)
            return _lists(column, names[0], dim, wrong)
        small = all(str(table.schema.field(name).type) in ("float", "halffloat") for name in names)
        # Columns are copied one by one and turned once: the method would turn each piece of them several times.
        array, at = np.empty((len(names), len(table)), np.float32 if small else np.float64), 0
        for batch in table.select(list(names)).to_batches():
            for own, column, name in zip(array, batch.columns, names, strict=True):
                own[at : at + len(batch)] = _numbers(_whole(column), name, wrong, at)
            at += len(batch)
        if not all_finite(torch.from_numpy(array)):
            finite = np.isfinite(array)
            for row in np.flatnonzero(~finite.all(0)):
                name = names[int(np.argmin(finite[:, row]))]
                wrong.setdefault(int(row), f"the column '{name}' holds no finite number")
        return np.ascontiguousarray(array.T).reshape(len(table), *dim)

    def _pictures(self, column: Column, name: str, port: Port, wrong: dict[int, str]) -> np.ndarray:
        """Read images, channels as the user's layout has them."""
        array = np.zeros((len(column), *channels_last(port.dim)), np.float32)
        for row, cell in enumerate(column.to_pylist()):
            source = (cell.get("bytes") or cell.get("path")) if isinstance(cell, Mapping) else cell
            if source is None:
                wrong.setdefault(row, f"the column '{name}' holds no image")
                continue
            try:
                array[row] = read_picture(source, port, self.pixels)[0]
            except (ValueError, OSError, SyntaxError) as error:  # Pillow raises the last for broken files
                wrong.setdefault(row, str(error))
        return np.ascontiguousarray(np.moveaxis(array, -1, 1)) if self.channels_first else array


def find_columns(
    schema: Any, described: Described, id_column: str | None, columns: Any, channels_first: bool,
    pixels: tuple[float, float],
) -> Columns:  # fmt: skip
    """Find out which columns of a schema the inputs are.

    Parameters
    ----------
    schema : pyarrow.Schema
        Names and types of the columns.
    described : Described
        The model.
    id_column : str, optional
        The column that names the rows, and is no feature.
    columns : sequence of str, str, or dict, optional
        The features of a table in the model's order, or the column of lists or images; for several inputs a dict of
        these by `input_keys`. Default: the columns that are named like the features, or like the input; if there are
        none such all columns of numbers.
    channels_first : bool
        How lists of values lie.
    pixels : tuple of float
        What black and white of an image become.

    Raises
    ------
    TypeError, ValueError
        If they are not there, or not as many as the features.
    """
    ports, names = described.inputs, []
    if isinstance(columns, Mapping):
        unknown = next((key for key in columns if key not in described.input_keys), None)
        if unknown is not None:
            raise ValueError(
                f"Argument 'columns': the model has no input '{unknown}'{suggestion(unknown, described.input_keys)} "
                f"Inputs: {', '.join(described.input_keys)}."
            )
        given = [columns.get(port.key) for port in ports]
    elif columns is not None and len(ports) > 1:
        raise TypeError(
            f"Argument 'columns': the model has {len(ports)} inputs; expected a dict with the keys "
            f"{', '.join(map(repr, described.input_keys))}, got {describe(columns)}."
        )
    else:
        given = [columns] * len(ports)
    for port, own in zip(ports, given, strict=True):
        names.append(_chosen(schema, port, own) if own is not None else _found(schema, port, id_column, len(ports)))
    return Columns(tuple(names), ports, channels_first, pixels)


def _chosen(schema: Any, port: Port, own: Any) -> tuple[str, ...]:
    if not isinstance(own, str | list | tuple):
        raise TypeError(f"Argument 'columns': expected names of columns, got {describe(own)}.")
    names = (own,) if isinstance(own, str) else tuple(own)
    for name in names:
        if name not in schema.names:
            raise ValueError(
                see(
                    "columns",
                    f"Argument 'columns': there is no column '{name}'{suggestion(name, schema.names)} "
                    f"Columns: {_some(schema.names)}.",
                )
            )
    size = math.prod(port.dim)
    if len(names) not in (1, size):
        raise ValueError(
            see(
                "columns",
                f"Argument 'columns': the input '{port.key}' has {size} features, got {len(names)} columns "
                f"({_some(names)}). One column may hold lists of {size} values.",
            )
        )
    return names


def _found(schema: Any, port: Port, id_column: str | None, inputs: int) -> tuple[str, ...]:
    """Find the columns of an input by names, or, where the model has none of its own, by what is there."""
    size, kinds = math.prod(port.dim), {name: schema.field(name).type for name in schema.names if name != id_column}
    wanted = [str(label) for label in port.names[0]] if len(port.dim) == 1 else []
    if wanted and set(wanted) <= set(kinds) and len(set(wanted)) == size:
        return tuple(wanted)
    if port.key in kinds:
        return (port.key,)
    if inputs == 1:
        if len(port.dim) == 1 and wanted == default_names(port.dim)[0]:
            numbers = [name for name, kind in kinds.items() if _is_number(kind) or _is_text(kind)]
            numbers = numbers if len(numbers) == size else [name for name in numbers if _is_number(kinds[name])]
            if len(numbers) == size:
                return tuple(numbers)
        lists = [name for name, kind in kinds.items() if _is_list(kind) or (port.kind == "image" and _is_picture(kind))]
        if len(lists) == 1:
            return (lists[0],)
    missing = next((name for name in wanted if name not in kinds), port.key)
    what = f"no column '{missing}'{suggestion(missing, kinds)}" if wanted else "no single column of lists or images."
    raise ValueError(
        see(
            "columns",
            f"Argument 'columns': of the input '{port.key}' ({size} values) there is {what} Columns: "
            f"{_some(list(kinds))}. Say which: columns=[...], or columns={{'{port.key}': ...}}.",
        )
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")


# -- types ----------------------------------------------------------------------------------------------------------


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    kind = getattr(kind, "storage_type", kind)  # of an extension, such as tensors
    types = pa.types
    return bool(types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind))


def _is_picture(kind: Any) -> bool:
    """Tell whether a column holds paths or bytes of images, as those of Hugging Face do."""
    import pyarrow as pa

    types = pa.types
    return bool(_is_text(kind) or types.is_binary(kind) or types.is_large_binary(kind) or types.is_struct(kind))


def _is_scalar(kind: Any, port: Port) -> bool:
    return _is_number(kind) or (_is_text(kind) and math.prod(port.dim) == 1)


# -- values ---------------------------------------------------------------------------------------------------------


def _whole(column: Column) -> Column:
    import pyarrow as pa

    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(whole, pa.ChunkedArray):  # of no chunk
        whole = pa.array([], column.type)
    if isinstance(whole, pa.ExtensionArray):
        whole = whole.storage
    return whole.dictionary_decode() if isinstance(whole, pa.DictionaryArray) else whole


def _numbers(column: Column, name: str, wrong: dict[int, str], first: int = 0) -> np.ndarray:
    """Return a column in double precision, NaN where there is no number; texts that are numbers count as these.

    What is wrong is told of rows that are counted from `first` on.
    """
    import pyarrow as pa

    if column.null_count == 0 and pa.types.is_floating(column.type):
        whole: np.ndarray = column.to_numpy(zero_copy_only=False)
        return whole
    try:
        found: np.ndarray = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return found
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    numbers = np.full(len(column), np.nan)
    for row, cell in enumerate(column.to_pylist()):
        try:
            numbers[row] = np.nan if cell is None else float(cell)
        except (TypeError, ValueError):
            wrong.setdefault(first + row, f"the column '{name}' holds {describe(cell)}, which is no number")
    return numbers


def _lists(column: Column, name: str, dim: tuple[int, ...], wrong: dict[int, str]) -> np.ndarray:
    """Return lists of values, nested or not, as arrays ``(rows, *dim)``."""
    size, rows = math.prod(dim), len(column)
    flat, uniform = column, True
    while _is_list(flat.type):
        lengths = flat.value_lengths()
        uniform = uniform and lengths.null_count == 0 and len(lengths.unique()) <= 1
        flat = _whole(flat.flatten())
    if uniform and len(flat) == rows * size and _is_number(flat.type):
        array = _numbers(flat, name, wrong).reshape(rows, size)
    else:
        array = np.stack([_list(cell, name, dim, row, wrong) for row, cell in enumerate(column.to_pylist())])
    for row in np.flatnonzero(~np.isfinite(array).all(1)):
        wrong.setdefault(int(row), f"the column '{name}' holds values that are no finite numbers")
    return np.array(array.reshape(rows, *dim))


def _list(cell: Any, name: str, dim: tuple[int, ...], row: int, wrong: dict[int, str]) -> np.ndarray:
    """Return the list of one row, zeros if it is not what the model takes."""
    size = math.prod(dim)
    try:
        values = np.asarray(cell, np.float64).ravel() if cell is not None else np.zeros(0)
        if len(values) == size:
            return values
        wrong.setdefault(row, f"the column '{name}' holds {len(values)} values, the model takes {dim}, {size} values")
    except (TypeError, ValueError):
        wrong.setdefault(row, f"the column '{name}' holds {describe(cell)}, which are no numbers of the shape {dim}")
    return np.zeros(size)
