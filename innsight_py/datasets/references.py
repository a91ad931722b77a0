"""References that are taken of all rows of a data set, in one pass: their mean, their median, or a sample of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from innsight_py._checks import describe
from innsight_py.datasets.columns import Columns
from innsight_py.datasets.sketch import Sketch
from innsight_py.datasets.sources import READ_ROWS, Source
from innsight_py.methods.registry import METHODS

#: What stands for numbers of all rows.
OF_ALL_ROWS = ("mean", "median", "data")
#: Rows of a sample: enough for a mean over references, of which some methods take fewer.
SAMPLE_ROWS = 1000
#: The median of values that take at most this many bytes in double precision is exact. Of more it is a sketch's.
EXACT_BYTES = 32 * 2**20


def with_references(method: str, arguments: Mapping[str, Any], source: Source, columns: Columns) -> dict[str, Any]:
    """Put numbers in the place of names of references that are about all rows.

    Parameters
    ----------
    method : str
        Name of the method.
    arguments : mapping
        Its arguments.
    source : Source
        Where rows come from.
    columns : Columns
        Which columns are the inputs.

    Raises
    ------
    ValueError
        If a name needs what is not there: rows that can be read twice, a method that takes many references, a row
        without an error.
    """
    name = next((key for key in ("x_ref", "data_ref") if arguments.get(key) is not None), None)
    if name is None:
        return dict(arguments)
    kind = read_name(name, arguments[name], method)
    if kind is None:
        return dict(arguments)
    if not source.again:
        raise ValueError(
            f"Argument '{name}': an iterator is read once, and '{kind}' needs a pass over all rows before the first is "
            f"explained. Give the numbers, for example those of a sample of the rows."
        )
    dtype = torch.float64 if arguments.get("dtype") == "double" else torch.float32
    kinds: dict[str, type[_Gathered]] = {"mean": _Mean, "median": _Median, "data": _Sample}
    gathered = kinds[kind](columns, arguments.get("seed"))
    for arrays in _whole_rows(source, columns, dtype):
        if len(arrays[0]):
            gathered.add(arrays)
    if not gathered.rows:
        what = "the sample" if kind == "data" else f"the {kind}"
        raise ValueError(f"Argument '{name}': there is no row without an error to take {what} of.")
    found = gathered.found()
    return {**arguments, name: found if len(found) > 1 else found[0]}


def read_name(name: str, value: Any, method: str) -> str | None:
    """Return which of `OF_ALL_ROWS` a reference is; None if it is numbers, or a name that needs no rows.

    Raises
    ------
    ValueError
        If it is one name among several, a name that a batch would have another answer for, or the method takes only
        one reference.

    Examples
    --------
    >>> read_name("x_ref", "median", "deeplift"), read_name("x_ref", "zeros", "deeplift")
    ('median', None)
    """
    if not isinstance(value, str):
        entries = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
        inner = next((one for one in entries if isinstance(one, str) and one in (*OF_ALL_ROWS, "mode")), None)
        if inner is not None:
            raise ValueError(
                f"Argument '{name}': expected one name for all inputs, or numbers for each, got {describe(inner)} "
                f"among several. Give {name}='{inner}', or the numbers."
            )
        return None
    if value == "mode":
        raise ValueError(
            f"Argument '{name}': a data set has no 'mode': each batch would have its own. Use 'mean' or 'median', or "
            "give the numbers."
        )
    if value not in OF_ALL_ROWS:
        return None
    if value == "data" and "data_ref" not in inspect.signature(METHODS[method]).parameters:
        many = ", ".join(key for key, one in METHODS.items() if "data_ref" in inspect.signature(one).parameters)
        raise ValueError(
            f"Argument '{name}': 'data' is a sample of rows, and '{method}' takes one reference. Use 'mean' or "
            f"'median', or with data_ref='data' one of the methods {many}."
        )
    return value


def _whole_rows(source: Source, columns: Columns, dtype: torch.dtype) -> Iterator[list[np.ndarray]]:
    """Read all rows that have no error, rounded as the method rounds them, in double precision."""
    for table in source.parts(READ_ROWS, columns.needed):
        arrays, wrong = columns.read(table)
        fine = np.ones(len(table), bool)
        fine[list(wrong)] = False
        rounded = [torch.from_numpy(array).to(dtype).double().contiguous().numpy() for array in arrays]
        for array in rounded:
            fine &= np.isfinite(array).reshape(len(array), -1).all(1)
        yield [array[fine] for array in rounded]


class _Gathered(Protocol):
    """What is gathered of rows."""

    rows: int

    def __init__(self, columns: Columns, seed: int | None) -> None: ...

    def add(self, arrays: Sequence[np.ndarray]) -> None:
        """Add some rows."""

    def found(self) -> list[np.ndarray]:
        """Return what was found for each input."""


class _Mean:
    """The mean, of sums in double precision."""

    def __init__(self, columns: Columns, seed: int | None) -> None:
        self.rows, self._sums = 0, [np.zeros(()) for _ in columns.ports]

    def add(self, arrays: Sequence[np.ndarray]) -> None:
        """Add some rows."""
        self.rows += len(arrays[0])
        self._sums = [total + array.sum(0) for total, array in zip(self._sums, arrays, strict=True)]

    def found(self) -> list[np.ndarray]:
        """Return a row for each input."""
        return [(total / self.rows)[None] for total in self._sums]


class _Median:
    """The median of each value by itself: of all rows where they fit, else that of a sketch."""

    def __init__(self, columns: Columns, seed: int | None) -> None:
        self.rows, self._kept = 0, list[Sequence[np.ndarray]]()
        self._sketches: list[Sketch] | None = None
        self._bytes = 0

    def add(self, arrays: Sequence[np.ndarray]) -> None:
        """Add some rows."""
        self.rows += len(arrays[0])
        self._bytes += sum(array.nbytes for array in arrays)
        self._dims = [array.shape[1:] for array in arrays]
        self._kept.append(arrays)
        if self._bytes > EXACT_BYTES:
            if self._sketches is None:
                self._sketches = [_sketch(array) for array in arrays]
            for some in self._kept:
                for sketch, array in zip(self._sketches, some, strict=True):
                    sketch.add(array.reshape(len(array), -1))
            self._kept = []

    def found(self) -> list[np.ndarray]:
        """Return a row for each input."""
        if self._sketches is None:
            whole = (np.concatenate(parts) for parts in zip(*self._kept, strict=True))
            return [np.median(array, axis=0, keepdims=True) for array in whole]
        pairs = zip(self._sketches, self._dims, strict=True)
        return [sketch.quantiles([0.5]).reshape(1, *dim) for sketch, dim in pairs]


def _sketch(array: np.ndarray) -> Sketch:
    places = int(np.prod(array.shape[1:]))
    if not Sketch.fits(places):
        raise ValueError(
            f"A median of {places} values of more than {EXACT_BYTES >> 20} MiB of rows takes too much memory. Use "
            "'mean', or give the numbers, for example the median of a sample of the rows."
        )
    return Sketch(places)


class _Sample:
    """Some rows, each as likely as any other, which depend on the seed and on the order of the rows alone."""

    def __init__(self, columns: Columns, seed: int | None) -> None:
        self.rows, self._random = 0, np.random.default_rng(0 if seed is None else seed)
        self._keys, self._kept = np.zeros(0), list[np.ndarray]()

    def add(self, arrays: Sequence[np.ndarray]) -> None:
        """Add some rows: those with the smallest of numbers that are drawn for all are kept, in their order."""
        keys = np.concatenate([self._keys, self._random.random(len(arrays[0]))])
        whole = [np.concatenate(pair) for pair in zip(self._kept, arrays, strict=True)] if self.rows else list(arrays)
        self.rows += len(arrays[0])
        chosen = np.sort(np.argsort(keys, kind="stable")[:SAMPLE_ROWS])
        self._keys, self._kept = keys[chosen], [array[chosen] for array in whole]

    def found(self) -> list[np.ndarray]:
        """Return the rows of the sample for each input."""
        return self._kept
