"""Advice for data that cannot be read: what to write instead, for the object that came."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch


def of_shape(
    given: Any, shape: tuple[int, ...], expected: tuple[int, ...], other: tuple[int, ...], channels_first: bool
) -> str:
    """Say what to do with data of another shape than the model takes.

    Parameters
    ----------
    given : Any
        The data as they came.
    shape : tuple of int
        Their shape.
    expected, other : tuple of int
        The shape of an instance, in the layout that is said to be the data's, and in the other one.
    channels_first : bool
        Whether the data are said to have their channels first.

    Examples
    --------
    >>> of_shape([1.0, 2.0], (2,), (2,), (2,), True)
    ' That is one instance; give it an axis for the batch in front: [x].'
    >>> of_shape(torch.zeros(3, 5), (3, 5), (3,), (3,), True)
    ' Rows and columns look swapped: x.T.'
    """
    flag = f"channels_first={not channels_first}"
    if isinstance(given, torch.utils.data.Dataset):
        return of_kind(given)
    if shape == expected:
        batch = f" If the batch is in 'input_dim', make the converter with input_dim={shape[1:]}."
        one = f" That is one instance; give it an axis for the batch in front: {one_row(given)}."
        return one + (batch if len(shape) == 2 else "")
    if shape == other:
        return f" That is one instance with the other layout; give {one_row(given)}, and set {flag}."
    if shape[1:] == other:
        return f" The data look like channels {'last' if channels_first else 'first'}: set {flag}."
    if not shape:
        return f" Give a row of numbers: numpy.full((1, {', '.join(map(str, expected))}), x)."
    if len(expected) == 1 and len(shape) == 2:
        return _of_table(given, shape, expected[0])
    if len(expected) > 1 and shape[1:] == expected[1:] and expected[0] == 1 and len(shape) == len(expected):
        return " An axis of 1 is missing: x[:, None]. If it is the batch in 'input_dim', make the converter without it."
    if isinstance(given, list | tuple) and len(shape) == len(expected) + 2:
        return " The model has one input, and a list is read as its rows: give the array alone."
    return ""


def one_row(given: Any) -> str:
    """Say how to make a batch of one row of an instance."""
    if isinstance(given, pd.Series):
        return "x.to_frame().T"
    if isinstance(given, list | tuple):
        return "[x]"
    return "x[None]" if isinstance(given, np.ndarray | torch.Tensor) else "numpy.asarray(x)[None]"


def _of_table(given: Any, shape: tuple[int, ...], features: int) -> str:
    if isinstance(given, pd.DataFrame) and shape[1] > features:
        names = [str(column) for column in given.columns]
        shown = ", ".join(repr(name) for name in names[:6]) + (", ..." if len(names) > 6 else "")
        return f" The table has the columns {shown}: choose the {features} that the model takes, in its order."
    if shape[0] == features != shape[1]:
        return " Rows and columns look swapped: x.T."
    return ""


def of_kind(given: Any) -> str:
    """Say what to do with an object that holds no numbers.

    Examples
    --------
    >>> of_kind("data.csv")
    " Read the file first: pandas.read_csv('data.csv')."
    """
    if isinstance(given, str):
        return f" Read the file first: pandas.read_csv({given!r})." if given.endswith((".csv", ".tsv")) else ""
    if isinstance(given, torch.utils.data.DataLoader):
        return " Give one batch of it: next(iter(loader))[0]."
    if isinstance(given, torch.utils.data.Dataset):
        return " Give its instances as one tensor: torch.stack([entry[0] for entry in dataset])."
    if hasattr(given, "toarray"):
        return " Make it dense: x.toarray()."
    return as_floats(given)


def as_floats(given: Any) -> str:
    """Say what to do with an array or a frame that holds numbers as objects or texts; nothing where they are none.

    Examples
    --------
    >>> as_floats(np.array([1.0, 2.0], dtype=object)), as_floats(np.array(["a"]))
    (' Make numbers of what it holds: x.astype(float).', '')
    """
    if isinstance(given, np.ndarray) and given.dtype.kind not in "OUS":
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            given.astype(float)
        except (AttributeError, TypeError, ValueError, Warning):
            return ""
    return " Make numbers of what it holds: x.astype(float)."


def of_own_references(given: Any, dim: tuple[int, ...], rows: int) -> str:
    """Say what to do with references for each of some rows that lack an axis of 1; nothing for any other shape.

    Examples
    --------
    >>> of_own_references(np.ones((5, 3)), (1,), rows=5)
    ' If these are 3 references for each row: x.reshape(5, 3, 1).'
    """
    shape = tuple(getattr(given, "shape", ()))
    without = [dim[:k] + dim[k + 1 :] for k, size in enumerate(dim) if size == 1]
    if len(shape) < 2 or shape[0] != rows or shape[1:] == dim or shape[2:] not in without:
        return ""
    whole = ", ".join(map(str, (*shape[:2], *dim)))
    return f" If these are {shape[1]} references for each row: x.reshape({whole})."


def of_column(columns: Sequence[str]) -> str:
    """Say what to do with columns that hold no numbers."""
    listed = ", ".join(repr(column) for column in columns[:6])
    return f" Turn it into numbers as for the training of the model, or leave it out: x.drop(columns=[{listed}])."
