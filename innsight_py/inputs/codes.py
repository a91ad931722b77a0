"""Frames with texts and categories as numbers, and back, for methods that only ask a model for predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from innsight_py.inputs.encoding import as_text

_MISSING = "\0missing"


class Codes:
    """Numbers for the values of columns that hold something else than numbers.

    Parameters
    ----------
    frame : DataFrame
        The columns, in the order of the model. Values that come later get numbers as well.

    Examples
    --------
    >>> frame = pd.DataFrame({"age": [40.0, 50.0], "site": ["B", "A"]})
    >>> codes = Codes(frame)
    >>> codes.encode(frame).to_numpy().tolist()
    [[40.0, 0.0], [50.0, 1.0]]
    >>> codes.decode(np.array([[30.0, 1.0]]))
        age site
    0  30.0    A
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self.columns, self.dtypes = list(frame.columns), list(frame.dtypes)
        #: The values of each such column, by its number.
        self.values: dict[int, list[Any]] = {k: [] for k, kind in enumerate(self.dtypes) if not _is_number(kind)}
        self.encode(frame)

    @staticmethod
    def are_needed(frame: pd.DataFrame) -> bool:
        """Tell whether a frame has columns of texts or categories."""
        return any(not pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes)

    @staticmethod
    def hidden_numbers(frame: pd.DataFrame) -> str | None:
        """Return the first column that holds nothing but numbers as objects; numbered like texts they mean nothing."""
        for k, (column, kind) in enumerate(zip(frame.columns, frame.dtypes, strict=True)):
            if kind == np.dtype(object):
                known = [value for value in frame.iloc[:, k] if not _is_missing(value)]
                numbers = [
                    isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in known
                ]
                if numbers and all(numbers):
                    return str(column)
        return None

    def encode(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a frame of numbers."""
        numbers: dict[Any, Any] = {}
        for k, column in enumerate(self.columns):
            own = frame.iloc[:, k]
            if k not in self.values:
                numbers[column] = own
                continue
            known = {_key(value): code for code, value in enumerate(self.values[k])}
            for value in own:
                if _key(value) not in known:
                    known[_key(value)] = len(self.values[k])
                    self.values[k].append(value)
            numbers[column] = [float(known[_key(value)]) for value in own]
        return pd.DataFrame(numbers, index=frame.index)

    def decode(self, rows: np.ndarray) -> pd.DataFrame:
        """Return numbers ``(n, columns)`` as a frame of the columns' own kinds."""
        columns: dict[Any, Any] = {}
        for k, (column, kind) in enumerate(zip(self.columns, self.dtypes, strict=True)):
            if k not in self.values:
                columns[column] = rows[:, k]
                continue
            codes = np.clip(np.nan_to_num(rows[:, k]).round().astype(int), 0, len(self.values[k]) - 1)
            own = np.empty(len(rows), object)
            own[:] = [self.values[k][code] for code in codes]
            columns[column] = pd.Series(own, dtype=_wide(kind, self.values[k]))
        return pd.DataFrame(columns)

    def texts(self, frame: pd.DataFrame) -> list[list[str]]:
        """Return the values of each row as they stand on an axis."""
        return [[as_text(value) for value in row] for row in frame.itertuples(index=False)]


def _is_number(kind: Any) -> bool:
    return pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)


def _wide(kind: Any, values: list[Any]) -> Any:
    """Return a kind of column that has room for all values: categories that came later belong to it as well."""
    if isinstance(kind, pd.CategoricalDtype):
        more = [value for value in values if not _is_missing(value) and value not in kind.categories]
        return pd.CategoricalDtype([*kind.categories, *more], kind.ordered) if more else kind
    return kind


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _key(value: Any) -> Any:
    return _MISSING if _is_missing(value) else value
