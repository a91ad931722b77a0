"""Frames of pandas, polars, arrow and others: which column is which feature, and their values as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from innsight_py._checks import suggestion, warn
from innsight_py.inputs.names import default_names


def to_pandas(value: Any, where: str) -> Any:
    """Turn a frame of another library into one of pandas, with numbers in double precision; leave all else as it is.

    Polars, arrow and whatever else narwhals reads. Missing values become NaN.

    Raises
    ------
    ValueError
        If the frame cannot be read, for example because two columns have one name.

    Examples
    --------
    >>> import polars
    >>> to_pandas(polars.DataFrame({"a": [1, None], "b": [True, False]}), "data")
         a    b
    0  1.0  1.0
    1  NaN  0.0
    """
    if isinstance(value, pd.DataFrame | np.ndarray | Tensor) or not _may_be_frame(value):
        return value
    import narwhals as nw

    try:
        frame = nw.from_native(value, eager_only=True, pass_through=True)
        if not isinstance(frame, nw.DataFrame):
            return value
        twice = [name for name in frame.columns if frame.columns.count(name) > 1]
        columns = {} if twice else {name: _column(frame[name], nw) for name in frame.columns}
    except (ValueError, TypeError) as error:  # narwhals' errors are these
        raise ValueError(f"{where}: this frame cannot be read: {error}") from None
    if twice:
        raise ValueError(f"{where}: the column '{twice[0]}' is there {len(twice)} times.")
    return pd.DataFrame(columns)


def _may_be_frame(value: Any) -> bool:
    """Tell by the protocols of frames, so that narwhals is not imported for an array."""
    protocols = ("__dataframe__", "__narwhals_dataframe__", "__arrow_c_stream__")
    return any(hasattr(type(value), protocol) for protocol in protocols)


def _column(series: Any, nw: Any) -> np.ndarray:
    if series.dtype.is_numeric() or series.dtype == nw.Boolean:
        missing = series.is_null().to_numpy()
        numbers = series.fill_null(False if series.dtype == nw.Boolean else 0).cast(nw.Float64).to_numpy()
        return np.where(missing, np.nan, numbers)
    values = np.empty(len(series), object)
    values[:] = series.to_list()
    return values


def ordered_columns(frame: pd.DataFrame, names: Sequence[str] | None, where: str) -> pd.DataFrame:
    """Bring the columns of a frame into the order of the model's input names, and leave out the others.

    Columns without names (numbers) are taken by position, and so are all columns where the model's names are only the
    default ones, or have nothing in common with the frame's (then with a warning).

    Parameters
    ----------
    frame : DataFrame
        The user's frame, which is not changed.
    names : sequence of str, optional
        The model's input names.
    where : str
        What the frame is called in error messages.

    Raises
    ------
    ValueError
        If some of the names are there and others are not, or a name is there twice.

    Examples
    --------
    >>> frame = pd.DataFrame({"dose": [1.0], "site": ["A"], "age": [40.0]})
    >>> ordered_columns(frame, ["age", "dose"], "data")
        age  dose
    0  40.0   1.0
    """
    labels = [str(column) for column in frame.columns]
    if names is None or not any(isinstance(column, str) for column in frame.columns):
        return frame
    wanted = [str(name) for name in names]
    if labels == wanted:
        return frame
    found = [name for name in wanted if name in labels]
    unique = len(set(wanted)) == len(wanted)
    if unique and len(found) == len(wanted):
        twice = [name for name in wanted if labels.count(name) > 1]
        if twice:
            raise ValueError(f"{where}: the column '{twice[0]}' is there {labels.count(twice[0])} times.")
        return frame.iloc[:, [labels.index(name) for name in wanted]]
    if wanted == default_names((len(wanted),))[0]:
        return frame
    if found:
        missing = next((name for name in wanted if name not in labels), wanted[0])
        raise ValueError(
            f"{where}: the columns contradict the input names: there is no column '{missing}'"
            f"{suggestion(missing, labels)} Columns: {_some(labels)}. Input names: {_some(wanted)}."
        )
    if len(labels) == len(wanted):
        warn(
            f"{where}: the columns {_some(labels)} have other names than the inputs of the model, {_some(wanted)}; "
            "they are used by position. Rename them, or give an array."
        )
    return frame


def _some(labels: Sequence[str]) -> str:
    return ", ".join(repr(label) for label in labels[:6]) + (", ..." if len(labels) > 6 else "")
