"""Reading data from files: tables, arrays and images become what methods take."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from innsight_py._checks import suggestion
from innsight_py.cli.errors import check_parquet
from innsight_py.datasets.pictures import IMAGES, read_picture
from innsight_py.inputs.data import channels_last
from innsight_py.inputs.names import default_data_names, default_names
from innsight_py.inputs.ports import Port
from innsight_py.model.converter import Converter

TABLES = (".csv", ".tsv", ".parquet")
ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class Loaded:
    """Data as they go to a method.

    Attributes
    ----------
    inputs : list
        An array or frame for each input of the model.
    channels_first : bool
        How signals and images lie in them.
    names : list of str
        Names of the instances: the file of an image, the number of a row.
    """

    inputs: list[Any]
    channels_first: bool
    names: list[str]

    @property
    def value(self) -> Any:
        """What methods take: the list, or its only entry."""
        return self.inputs if len(self.inputs) > 1 else self.inputs[0]

    @property
    def rows(self) -> int:
        """Number of instances."""
        return len(self.inputs[0])

    def take(self, rows: Sequence[int]) -> Loaded:
        """Return some of the instances."""

        def some(x: Any) -> Any:
            return x.iloc[list(rows)].reset_index(drop=True) if isinstance(x, pd.DataFrame) else x[list(rows)]

        return Loaded([some(x) for x in self.inputs], self.channels_first, [self.names[row] for row in rows])


def load(
    paths: Sequence[Path], converter: Converter, columns: Sequence[str] | None, pixels: tuple[float, float], layout: str
) -> Loaded:
    """Read the data for a model.

    Parameters
    ----------
    paths : sequence of Path
        For a model with one input files whose rows are put together; otherwise one file an input, or one ``.npz``.
    converter : Converter
        The model.
    columns : sequence of str, optional
        Columns of a table, in the order of the model's features. Default: those named like the model's features, if
        the table has all of them, otherwise the table as it is.
    pixels : tuple of float
        What black and white of an image file become.
    layout : {"auto", "first", "last"}
        Where arrays have their channels; "auto" goes by their shape.

    Raises
    ------
    OSError, ValueError
        If a file cannot be read or does not fit the model.
    """
    dims = converter.input_dim
    if len(dims) == 1:
        images = [path.suffix.lower() in IMAGES for path in paths]
        if any(images) and not all(images):
            raise ValueError("expected images alone, or no image, for a model with one input.")
        parts = [_read(path, converter.inputs[0], columns, pixels) for path in paths]
        frames = all(isinstance(part, pd.DataFrame) for part in parts)
        inputs = [pd.concat(parts, ignore_index=True) if frames else np.concatenate([np.asarray(p) for p in parts])]
        read_images = any(images)
    elif len(paths) == 1 and paths[0].suffix.lower() == ".npz":
        inputs = _arrays(paths[0], len(dims), converter.input_keys)
        read_images = False
    elif len(paths) == len(dims):
        read_images = any(path.suffix.lower() in IMAGES for path in paths)
        inputs = [
            _read(path, port, None if port.has_channels else columns, pixels)
            for path, port in zip(paths, converter.inputs, strict=True)
        ]
    else:
        raise ValueError(f"the model has {len(dims)} inputs: give {len(dims)} files, or one .npz with as many arrays.")
    first = _layout(inputs, dims, "last" if read_images else layout, converter.channels_first)
    return Loaded(inputs, first, _names(paths, len(inputs[0])))


def _names(paths: Sequence[Path], rows: int) -> list[str]:
    """Name instances by their files, where each is one of its own: the image with the others of its instance."""
    images = [path for path in paths if path.suffix.lower() in IMAGES]
    if len(images) == rows:
        for names in ([path.name for path in images], [str(path) for path in images]):
            if len(set(names)) == rows:
                return names
    return default_data_names(rows)


def _read(path: Path, port: Port, columns: Sequence[str] | None, pixels: Any) -> Any:
    kind = ".csv" if str(path) == "-" else path.suffix.lower()
    if kind in TABLES:
        if port.has_channels:
            raise ValueError(
                f"'{path}' is a table, but the model takes shapes of {port.dim}: give .npy, .npz or an image."
            )
        return _columns(_table(path, kind), columns, [str(name) for name in port.names[0]], path)
    if kind in ARRAYS:
        return _arrays(path, 1)[0]
    if kind in IMAGES:
        return read_picture(path, port, pixels)
    known = ", ".join((*TABLES, *ARRAYS, *IMAGES))
    raise ValueError(f"'{path}' ends in '{kind}': expected one of {known}.")


def _table(path: Path, kind: str) -> pd.DataFrame:
    try:
        if kind == ".parquet":
            check_parquet()
            return pd.read_parquet(path)
        return pd.read_csv(sys.stdin if str(path) == "-" else path, sep="\t" if kind == ".tsv" else ",")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is no table: {error}") from error


def _columns(frame: pd.DataFrame, columns: Sequence[str] | None, names: list[str], path: Path) -> pd.DataFrame:
    """Choose the columns that are the model's features, in its order."""
    own = [str(column) for column in frame.columns]
    frame = frame.set_axis(own, axis=1)
    if columns is None:
        columns = names if set(names) <= set(own) else own
    for column in columns:
        if column not in own:
            raise ValueError(
                f"'{path}' has no column '{column}'{suggestion(column, own)} Its columns: {', '.join(own)}."
            )
    frame = frame[list(columns)]
    if len(columns) != len(names):
        raise ValueError(
            f"'{path}': the model takes {len(names)} features, the table has {len(columns)} columns "
            f"({', '.join(columns)}). Choose with --columns."
        )
    texts = [column for column in columns if not pd.api.types.is_numeric_dtype(frame[column])]
    if texts:
        raise ValueError(f"'{path}': the column '{texts[0]}' does not hold numbers. Choose with --columns.")
    missing = frame.isna().any(axis=1)
    if missing.any():
        raise ValueError(f"'{path}': {int(missing.sum())} rows have missing values, row {int(missing.argmax())} first.")
    return frame


def _arrays(path: Path, inputs: int, keys: Sequence[str] = ()) -> list[np.ndarray]:
    """Read arrays: those of an archive by the names of the inputs if it has these, otherwise as they come."""
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"'{path}' holds no arrays of numbers: {error}") from error
    if isinstance(found, np.ndarray):
        return [found]
    with found:
        names = found.files
        if len(names) != inputs:
            raise ValueError(f"'{path}' holds {len(names)} arrays ({', '.join(names)}), the model takes {inputs}.")
        return [found[name] for name in (keys if set(names) == set(keys) else names)]


def _layout(inputs: Sequence[Any], dims: Sequence[tuple[int, ...]], layout: str, own: bool) -> bool:
    """Find out whether channels come first; where shapes do not tell, they lie as the model has its `own`."""
    if layout != "auto":
        return layout == "first"
    shapes = [tuple(np.shape(x)[1:]) for x in inputs]
    first = all(shape == dim for shape, dim in zip(shapes, dims, strict=True))
    last = all(shape == channels_last(dim) for shape, dim in zip(shapes, dims, strict=True))
    return own if first == last else first


def named_by_table(converter: Converter, data: Loaded) -> list[str] | None:
    """Return the columns of a table as names of the features, where the model has none of its own."""
    (frame,) = data.inputs if len(data.inputs) == 1 else [None]
    if not isinstance(frame, pd.DataFrame) or converter.input_names[0] != default_names(converter.input_dim[0]):
        return None
    return [str(column) for column in frame.columns]
