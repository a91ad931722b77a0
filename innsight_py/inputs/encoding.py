"""Tables as people have them: how texts and categories become columns of numbers, and which belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from innsight_py._checks import describe, is_whole, suggestion
from innsight_py.inputs.frames import to_pandas


@dataclass(frozen=True)
class Groups:
    """Which columns of numbers are one column of the user.

    Attributes
    ----------
    columns : tuple of str
        The user's columns.
    sources : tuple of int
        For each column of numbers the user's column.
    """

    columns: tuple[str, ...]
    sources: tuple[int, ...]

    def add_up(self, x: Tensor) -> Tensor:
        """Sum values ``(B, columns of numbers, K)`` to those of the user's columns.

        Examples
        --------
        >>> Groups(("age", "site"), (0, 1, 1)).add_up(torch.tensor([[[1.0], [2.0], [3.0]]])).flatten()
        tensor([1., 5.])
        """
        total = x.new_zeros((x.shape[0], len(self.columns), x.shape[2]))
        return total.index_add_(1, torch.tensor(self.sources, device=x.device), x)

    def one_each(self, x: Tensor) -> Tensor:
        """Return a number for each of the user's columns: the value, or which column of several is the largest.

        Examples
        --------
        >>> Groups(("age", "site"), (0, 1, 1)).one_each(torch.tensor([[40.0, 0.0, 1.0]]))
        tensor([[40.,  1.]])
        """
        parts = [x[:, [k for k, source in enumerate(self.sources) if source == n]] for n in range(len(self.columns))]
        return torch.stack([part[:, 0] if part.shape[1] == 1 else part.argmax(1).to(x.dtype) for part in parts], 1)

    def mode(self, x: Tensor) -> Tensor:
        """Return the most common values of each of the user's columns, ``(1, columns of numbers)``.

        Of values that are equally common it is that next to the median; of categories the first.

        Examples
        --------
        >>> rows = torch.tensor([[1.0, 0.0, 1.0], [2.0, 1.0, 0.0], [9.0, 0.0, 1.0]])
        >>> Groups(("age", "site"), (0, 1, 1)).mode(rows)
        tensor([[2., 0., 1.]])
        """
        row = x[:1].clone()
        for n in sorted(set(self.sources)):
            own = [k for k, source in enumerate(self.sources) if source == n]
            values = x[:, own].cpu().numpy()
            found, counts = np.unique(values, axis=0, return_counts=True)
            most = found[counts == counts.max()]
            nearest = int(np.abs(most - np.median(values, axis=0)).sum(1).argmin()) if len(own) == 1 else 0
            row[0, own] = torch.from_numpy(most[nearest]).to(row)
        return row


class Encoder:
    """Turns a frame as people have it into the columns of numbers that a model takes.

    Parameters
    ----------
    columns : sequence of str
        The user's columns that the model looks at.
    names : sequence of str
        Names of the columns of numbers.
    sources : sequence of int
        For each of these the user's column.
    own : sequence of str
        All columns that the pipeline was fitted to, in their order.
    """

    def __init__(
        self, columns: Sequence[str], names: Sequence[str], sources: Sequence[int], own: Sequence[str]
    ) -> None:
        self.groups = Groups(tuple(columns), tuple(sources))
        self.names, self.own = tuple(names), list(own)

    @property
    def width(self) -> int:
        """Number of columns that the pipeline was fitted to."""
        return len(self.own)

    def transform(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the columns of numbers, ``(B, columns)``."""
        raise NotImplementedError

    def encode(self, data: Any, where: str) -> tuple[Any, list[list[str]] | None]:
        """Turn a frame (or a row of one) with the user's columns into numbers; all else stays as it is.

        Returns
        -------
        array or what was given, list of list of str or None
            The numbers, and the values of each row as texts.

        Raises
        ------
        ValueError
            If the frame has some of the user's columns and not all, or values that the model has never seen.
        """
        data = data.to_frame().T.infer_objects() if isinstance(data, pd.Series) else to_pandas(data, where)
        if isinstance(data, np.ndarray) and data.dtype == object and data.ndim == 2 and data.shape[1] == self.width:
            data = pd.DataFrame(data, columns=self.own)
        if not isinstance(data, pd.DataFrame):
            return data, None
        labels = [str(column) for column in data.columns]
        if set(self.names) <= set(labels) and not set(self.groups.columns) <= set(labels):
            return data, None
        missing = [column for column in self.groups.columns if column not in labels]
        if missing:
            raise ValueError(
                f"{where}: there is no column '{missing[0]}'{suggestion(missing[0], labels)} The model was fitted to "
                f"the columns {', '.join(self.groups.columns)}."
            )
        try:
            numbers = self.transform(data)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where}: the model's encoders cannot take these rows: {error}") from error
        shown = [[as_text(value) for value in row] for row in data[list(self.groups.columns)].itertuples(index=False)]
        return numbers, shown


def as_text(value: Any) -> str:
    """Write a value as it stands on an axis.

    Examples
    --------
    >>> as_text(39.10000001), as_text("Torgersen"), as_text(None)
    ('39.1', 'Torgersen', 'missing')
    """
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "missing"
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return f"{float(value):.6g}"
    return str(value)


def read_groups(given: Any, names: Sequence[str]) -> Groups:
    """Read groups of columns: a dict of lists of names or numbers of columns. Other columns stay alone.

    Raises
    ------
    TypeError, ValueError
        If it is no such dict, there is no such column, or a column is in two groups.

    Examples
    --------
    >>> read_groups({"site": ["site A", "site B"]}, ["age", "site A", "site B"])
    Groups(columns=('age', 'site'), sources=(0, 1, 1))
    """
    if not isinstance(given, Mapping):
        raise TypeError(
            f"Argument 'group_columns': expected True, False, or a dict such as {{'site': ['site A', 'site B']}}, got "
            f"{describe(given)}."
        )
    of: dict[int, str] = {}
    for group, columns in given.items():
        own = [columns] if isinstance(columns, str) else columns
        if not isinstance(own, Sequence | np.ndarray) or not len(own):
            kind = TypeError if not isinstance(own, Sequence | np.ndarray) else ValueError
            raise kind(f"Argument 'group_columns': expected a list of columns for '{group}', got {describe(columns)}.")
        for column in own:
            known = isinstance(column, str) and column in names
            place = int(column) if is_whole(column) else list(names).index(column) if known else -1
            if not 0 <= place < len(names):
                raise ValueError(
                    f"Argument 'group_columns': the model has no column {describe(column)}{suggestion(column, names)}"
                )
            if place in of:
                raise ValueError(f"Argument 'group_columns': the column '{names[place]}' is in two groups.")
            of[place] = str(group)
    titles = [of.get(k, str(name)) for k, name in enumerate(names)]
    columns = tuple(dict.fromkeys(titles))
    return Groups(columns, tuple(columns.index(title) for title in titles))
