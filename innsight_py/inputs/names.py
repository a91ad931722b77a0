"""Names of input features and output nodes: reading what users give, filling in what they do not.

Everywhere in the package names are nested as in R: one entry a layer, of one entry an axis (channels first), each a
list of strings or a `pandas.Categorical`, whose categories then fix the order in which labels are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from innsight_py._checks import describe, is_whole
from innsight_py._text import dims_text

AxisNames: TypeAlias = list[str] | pd.Categorical
LayerNames: TypeAlias = list[AxisNames]

_AXIS_LETTERS = {1: ("X",), 2: ("C", "L"), 3: ("C", "H", "W")}


def default_names(dim: Sequence[int], letters: Sequence[str] | None = None) -> LayerNames:
    """Name the axes of one layer as R does: ``X1..`` for tables, ``C1..``, ``L1..`` for signals, and so on.

    Examples
    --------
    >>> default_names((1, 2))
    [['C1'], ['L1', 'L2']]
    """
    letters = letters or _AXIS_LETTERS.get(len(dim)) or ("C", *(f"D{i + 1}_" for i in range(len(dim) - 1)))
    return [[f"{letter}{i + 1}" for i in range(n)] for letter, n in zip(letters, dim, strict=True)]


def read_names(names: Any, dims: Sequence[Sequence[int]], argument: str) -> list[LayerNames]:
    """Bring names into the nested form and check them against the shapes.

    Parameters
    ----------
    names : Any
        For one layer a list of labels, or a list with such a list for each axis; for several layers a list of these.
    dims : sequence of sequence of int
        Shape of each layer without the batch axis, channels first.
    argument : str
        What the names are called in error messages.

    Raises
    ------
    TypeError
        If an entry is not a label: a text, or a whole number, which becomes one.
    ValueError
        If the numbers of labels are not those of `dims`.

    Examples
    --------
    >>> read_names(["a", "b"], [(2,)], "input_names")
    [[['a', 'b']]]
    >>> read_names([["a", "b"], ["c"]], [(2,), (1,)], "output_names")
    [[['a', 'b']], [['c']]]
    """
    layers = _nest(names, len(dims), argument)
    for layer in layers:
        for axis in layer:
            if not _is_nest(axis):
                raise TypeError(f"Argument '{argument}': expected labels that are strings, got {describe(axis)}.")
    found = [tuple(len(axis) for axis in layer) for layer in layers]
    expected = [tuple(dim) for dim in dims]
    if found != expected:
        raise ValueError(
            f"Argument '{argument}': expected as many labels as the shape {dims_text(expected)} has entries, "
            f"got {dims_text(found)}."
        )
    return [[_labels(axis, argument) for axis in layer] for layer in layers]


def default_data_names(rows: int) -> list[str]:
    """Name instances as R does.

    Examples
    --------
    >>> default_data_names(2)
    ['data_1', 'data_2']
    """
    return [f"data_{row + 1}" for row in range(rows)]


def read_data_names(given: Any, data: Any, rows: int) -> list[str]:
    """Return the names of the instances: those given, those that a frame has, or `default_data_names`.

    Parameters
    ----------
    given : sequence of str or int, optional
        Names.
    data : Any
        The data as they were given. The first frame of pandas whose index is more than a count from 0 names the rows,
        if no name is there twice.
    rows : int
        Number of instances.

    Raises
    ------
    TypeError, ValueError
        If they are no names, not as many as rows, or one is there twice.

    Examples
    --------
    >>> read_data_names(None, pd.DataFrame({"age": [31, 45]}, index=["Ann", "Bo"]), 2)
    ['Ann', 'Bo']
    """
    if given is not None:
        if not _is_nest(given) or np.ndim(given) != 1:
            raise TypeError(f"Argument 'data_names': expected a list of names, got {describe(given)}.")
        names = [str(name) for name in given]
        if len(names) != rows:
            raise ValueError(f"Argument 'data_names': expected {rows} names, one for each row, got {len(names)}.")
        if len(set(names)) < rows:
            double = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"Argument 'data_names': the name '{double}' is there twice.")
        return names
    return own_data_names(data, rows) or default_data_names(rows)


def own_data_names(data: Any, rows: int) -> list[str] | None:
    """Return the names that a frame among the data has, see `read_data_names`; None if none has any.

    Examples
    --------
    >>> own_data_names(pd.DataFrame({"age": [31, 45]}), 2) is None
    True
    """
    parts = data.values() if isinstance(data, Mapping) else data if isinstance(data, list | tuple) else [data]
    for part in parts:
        if isinstance(part, pd.DataFrame) and len(part) == rows and not part.index.equals(pd.RangeIndex(rows)):
            names = [str(name) for name in part.index]
            if len(set(names)) == rows:
                return names
    return None


def levels(axis: AxisNames) -> list[str]:
    """Labels of an axis in the order in which they are to be shown.

    Examples
    --------
    >>> levels(pd.Categorical(["b", "a"], categories=["a", "b"]))
    ['a', 'b']
    """
    if isinstance(axis, pd.Categorical):
        return [str(label) for label in axis.categories]
    return list(dict.fromkeys(axis))


def _is_labels(value: Any) -> bool:
    """Whether a value is the labels of one axis, rather than a list of such."""
    if isinstance(value, pd.Categorical | pd.Index | pd.Series):
        return True
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "UOTiu"
    return isinstance(value, list | tuple | range) and len(value) > 0 and not any(_is_nest(entry) for entry in value)


def _is_nest(value: Any) -> bool:
    return isinstance(value, list | tuple | range | np.ndarray | pd.Categorical | pd.Index | pd.Series)


def _nest(names: Any, layers: int, argument: str) -> list[list[Any]]:
    if isinstance(names, pd.Series | pd.Index | np.ndarray | pd.Categorical) or _is_labels(names):
        return [[names]]
    if not isinstance(names, list | tuple) or not names:
        raise TypeError(f"Argument '{argument}': expected lists of labels, got {describe(names)}.")
    if all(_is_labels(entry) for entry in names):
        # The axes of one layer; with as many lists as layers, the labels of each layer.
        return [[entry] for entry in names] if layers == len(names) > 1 else [list(names)]
    return [[entry] if _is_labels(entry) else list(entry) if _is_nest(entry) else [entry] for entry in names]


def _labels(axis: Any, argument: str) -> AxisNames:
    if isinstance(axis, pd.Series | pd.Index):
        axis = axis.array
    if isinstance(axis, pd.Categorical):
        categorical: pd.Categorical = axis
        if bool(categorical.isna().any()):
            raise TypeError(f"Argument '{argument}': expected labels that are strings, got a missing one.")
        return categorical
    for label in axis:
        if not isinstance(label, str) and not is_whole(label):
            raise TypeError(f"Argument '{argument}': expected labels that are strings, got {describe(label)}.")
    return [str(label) for label in axis]
