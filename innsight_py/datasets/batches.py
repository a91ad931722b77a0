"""Explaining one batch: a table of Arrow in, a table of Arrow out, in any process."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from innsight_py._checks import Count, checked, describe
from innsight_py._errors import explain
from innsight_py.datasets.arguments import (
    read_arguments,
    read_converter,
    read_id_type,
    read_pixels,
    takes_seed,
    with_own_names,
    without_codes,
)
from innsight_py.datasets.arrow import Column, Table, require
from innsight_py.datasets.block import Block, joined
from innsight_py.datasets.columns import Columns, find_columns
from innsight_py.datasets.fingerprints import fingerprint, model_fingerprint, versions
from innsight_py.datasets.form import Layout, form_of
from innsight_py.datasets.layouts import schema_of, to_table
from innsight_py.datasets.references import read_name
from innsight_py.explanation import Explanation
from innsight_py.inputs.data import channels_last
from innsight_py.inputs.ports import Port
from innsight_py.methods.registry import METHODS, RUNNERS
from innsight_py.model.explainable import Explainable

#: What the schema of a part has its facts under.
METADATA = b"innsight_py"
#: Bytes of the attributions of one batch, and the most rows of one.
BATCH_BYTES, MOST_ROWS = 16 * 2**20, 65536
#: Methods whose seed chooses something for all rows together, and not for each.
DRAWS_ONCE = {"deepshap"}
#: What a row is told whose attributions are not finite.
NOT_FINITE = "the attributions of this row are NaN or infinite, though its data are not"
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|not enough memory", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows as the model takes them.

    Attributes
    ----------
    ids : Column
        Their names.
    arrays : sequence of ndarray
        The inputs of the model; 0 where a row is wrong.
    wrong : dict of int to str
        Which rows cannot be explained, and why.
    """

    ids: Column
    arrays: Sequence[np.ndarray]
    wrong: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray) -> Rows:
        """Return some of the rows, none of them wrong; they themselves, where these are all."""
        return self if len(rows) == len(self) else Rows(self.ids.take(rows), [x[rows] for x in self.arrays], {})


@dataclass(frozen=True, eq=False)
class Answer:
    """What the method said of the rows with these numbers: one explanation for all, one for each, or errors."""

    rows: np.ndarray
    explanations: Sequence[Explanation] = ()
    errors: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Attributed:
    """Rows, and what the method said of all of them."""

    rows: Rows
    answers: Sequence[Answer]


#: Numbers of rows, and the lines of these rows, as many of each.
Lines = tuple[np.ndarray, Block]


class BatchExplainer:
    """What `explain_batches` returns: call it with a table of Arrow. It can be pickled.

    Attributes
    ----------
    method : str
        Name of the method.
    columns : Columns
        Which columns are the inputs.
    form : Form
        What the explanations look like.
    schema : pyarrow.Schema
        What the tables that come out look like, with metadata.
    batch_size : int
        As many rows are explained together at most; less where memory did not do.
    """

    def __init__(
        self, converter: Explainable, method: str, arguments: Mapping[str, Any], columns: Columns,
        id_column: str | None, id_type: Any, layout: Layout | None, batch_size: int | None,
    ) -> None:  # fmt: skip
        self.converter, self.method, self.arguments = converter, method, dict(arguments)
        self.columns, self.id_column = columns, id_column
        #: Whether each row has draws of its own, and is therefore explained by itself.
        self.draws = "seed" in self._parameters and method not in DRAWS_ONCE
        self.warnings: dict[str, str] = {}
        self._listening = False
        zeros = [np.zeros((1, *_dim(port, columns))) for port in columns.ports]
        self.form = form_of(self._explanation(zeros, 0), layout)
        self.warnings.clear()
        line_bytes = sum(self.form.sizes) * max(1, self.form.lines) * 8
        self.batch_size = batch_size or max(1, min(MOST_ROWS, BATCH_BYTES // line_bytes))
        self.facts = {
            "format": 1, **versions(), "method": method, "arguments": {k: fingerprint(v) for k, v in arguments.items()},
            "model": model_fingerprint(converter), "layout": self.form.layout, "id_column": id_column,
            "columns": [list(names) for names in columns.names], "pixels": list(columns.pixels),
        }  # fmt: skip
        metadata = {METADATA: json.dumps(self.facts), METADATA + b".form": self.form.to_json()}
        self.schema = schema_of(self.form, id_type).with_metadata(metadata)

    @property
    def takes_threads(self) -> bool:
        """Whether batches are cheap enough for a thread each: those of tables, whose rows are explained together."""
        return not self.draws and all(len(port.dim) == 1 for port in self.form.inputs)

    @property
    def needed(self) -> list[str]:
        """The columns that a table must have."""
        return list(dict.fromkeys([*([] if self.id_column is None else [self.id_column]), *self.columns.needed]))

    def __call__(self, table: Table, first: int = 0) -> Table:
        """Explain the rows of a table.

        Parameters
        ----------
        table : pyarrow.Table or pyarrow.RecordBatch
            The rows, with the columns `needed`.
        first : int
            Number of its first row, where there is no column of ids.

        Returns
        -------
        pyarrow.Table
            With the schema `schema`; rows that cannot be explained have the status "error".
        """
        import pyarrow as pa

        table = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
        return to_table(self.block(table, first), self.form, self.schema)

    def iterate(self, batches: Any) -> Iterator[Any]:
        """Explain batch after batch, as Spark's ``mapInArrow`` wants it; this needs a column of ids.

        Words are written out in each line, because Spark reads no columns of codes.

        Examples
        --------
        ``frame.mapInArrow(explainer.iterate, schema)``, see the documentation of data sets.
        """
        import pyarrow as pa

        for batch in batches:
            table = self(batch)
            plain = [without_codes(kind) for kind in table.schema.types]
            yield from table.cast(pa.schema(zip(table.schema.names, plain, strict=True))).to_batches()

    def block(self, table: Table, first: int = 0) -> Block:
        """Explain the rows of a table, in batches, and return the lines in their order."""
        return self.settle(self.attribute(self.read(table, first)))

    def read(self, table: Table, first: int = 0) -> Rows:
        """Read the rows of a table, the first step of three."""
        arrays, wrong = self.columns.read(table) if len(table) else ([], {})
        return Rows(self._ids(table, first), arrays, wrong)

    def attribute(self, rows: Rows) -> Attributed:
        """Call the method for rows, the second step of three: the only one that needs the model."""
        bad = np.array(sorted(rows.wrong), np.int64)
        good = np.delete(np.arange(len(rows)), bad)
        answers, at = [Answer(bad, errors=[rows.wrong[row] for row in bad])] if len(bad) else [], 0
        while at < len(good):
            own = good[at : at + self.batch_size]
            answers += self._halved(rows, own)
            at += len(own)
        return Attributed(rows, answers)

    def settle(self, attributed: Attributed) -> Block:
        """Bring what the method said into the form of all layouts, the third step of three."""
        rows = attributed.rows
        if not len(rows):
            return self.form.wrong(rows.ids, [])
        parts = [part for answer in attributed.answers for part in self._lines(rows, answer)]
        if len(parts) == 1:
            return parts[0][1]
        order = np.concatenate([np.repeat(own, len(block) // len(own)) for own, block in parts])
        return joined([block for _, block in parts]).take(np.argsort(order, kind="stable"))

    def _ids(self, table: Table, first: int) -> Column:
        import pyarrow as pa

        if self.id_column is None:
            return pa.array(np.arange(first, first + len(table)))
        ids = table[self.id_column].combine_chunks()
        return ids.dictionary_decode() if isinstance(ids, pa.DictionaryArray) else ids

    def _halved(self, rows: Rows, own: np.ndarray) -> Iterator[Answer]:
        """Explain rows together; where that fails, each half by itself, down to the row that is to blame."""
        try:
            yield Answer(own, self._explanations(rows.take(own)))
        except Exception as error:
            if len(own) == 1:
                yield Answer(own, errors=[_text(error)])
                return
            if _is_memory(error):
                self.batch_size = min(self.batch_size, max(1, len(own) // 2))
        else:
            return
        middle = len(own) // 2
        yield from self._halved(rows, own[:middle])
        yield from self._halved(rows, own[middle:])

    def _explanations(self, rows: Rows) -> list[Explanation]:
        """Call the method: once for all rows, or for each by itself where each has draws of its own."""
        if not self.draws:
            return [self._explanation(rows.arrays, None)]
        seeds = [row_seed(self.arguments["seed"], name) for name in rows.ids.to_pylist()]
        return [self._explanation([x[n : n + 1] for x in rows.arrays], seed) for n, seed in enumerate(seeds)]

    def _lines(self, rows: Rows, answer: Answer) -> Iterator[Lines]:
        """Give the lines of an answer; those of rows whose attributions are not finite by themselves."""
        own, ids = answer.rows, rows.take(answer.rows).ids
        if answer.errors:
            yield own, self.form.wrong(ids, answer.errors)
            return
        step = len(own) // len(answer.explanations)
        blocks = [self.form.block(one, ids.slice(n * step, step)) for n, one in enumerate(answer.explanations)]
        block = joined(blocks)
        fine = self.form.fine(block)
        if fine.all():
            yield own, block
        elif fine.any():
            yield own[fine], block.take(np.repeat(fine, self.form.lines))
        if not fine.all():
            yield own[~fine], self.form.wrong(ids.take(np.flatnonzero(~fine)), [NOT_FINITE] * int((~fine).sum()))

    def _explanation(self, arrays: Sequence[np.ndarray], seed: int | None) -> Explanation:
        """Call the method, and keep what it warns of."""
        data = [torch.from_numpy(x) for x in arrays]  # which methods read in one step less than arrays
        own: dict[str, Any] = {"channels_first": self.columns.channels_first, "verbose": False, "seed": seed}
        own = {name: value for name, value in own.items() if name in self._parameters}
        if not self.draws:
            own.pop("seed", None)
        with self.listening():
            explanation: Explanation = RUNNERS[self.method](
                self.converter, data if len(data) > 1 else data[0], **(self.arguments | own)
            )
        return explanation

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keep what methods warn of. Filters of warnings are shared by all threads: who starts some listens for all."""
        if self._listening:
            yield
            return
        self._listening = True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning = self._hear
                yield
        finally:
            self._listening = False

    def _hear(self, message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, UserWarning):
            self.warnings.setdefault(re.sub(r"\d+(\.\d+)?", "#", str(message)), str(message))

    @property
    def _parameters(self) -> Mapping[str, Any]:
        return inspect.signature(METHODS[self.method]).parameters


def row_seed(seed: int, name: Any) -> int:
    """Return the seed of a row, which depends on the seed of the job and the row's id alone.

    Examples
    --------
    >>> row_seed(1, "a") == row_seed(1, "a"), row_seed(1, "a") == row_seed(1, "b")
    (True, False)
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:7], "big")


def _text(error: Exception) -> str:
    """Say in one line what went wrong with a row."""
    explain(error)
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def _is_memory(error: Exception) -> bool:
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))


@checked
def explain_batches(
    model: Any,
    schema: Any,
    *,
    method: str = "deeplift",
    id_column: str | None = None,
    columns: Any = None,
    layout: Layout | None = None,
    batch_size: Count | None = None,
    pixels: Any = (0.0, 1.0),
    **arguments: Any,
) -> BatchExplainer:
    """Return what explains tables of Arrow, batch by batch, in any process: the core of `explain_dataset`.

    What comes back can be pickled, and holds the model. Use it where you have an engine of your own.

    Parameters
    ----------
    model : Converter, path, or whatever `Converter` takes
        The model.
    schema : pyarrow.Schema
        The columns of the tables that it will be called with.
    method, id_column, columns, layout, batch_size, pixels, **arguments
        As for `explain_dataset`. References are numbers here: there is no data set to take a mean of.

    Returns
    -------
    BatchExplainer
        Call it with a table; ``needed`` names the columns that it must have, ``schema`` is that of what comes back.

    Raises
    ------
    TypeError, ValueError
        If the arguments do not fit the model, the method or the columns.
    ImportError
        If pyarrow is not installed.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from innsight_py import Converter, explain_batches
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, -3.0]]}]}
    >>> table = pa.table({"id": ["a"], "age": [1.0], "dose": [2.0]})
    >>> explainer = explain_batches(Converter(model), table.schema, method="deeplift", id_column="id")
    >>> explainer(table).select(["id", "target", "pred", "age", "dose"]).to_pylist()
    [{'id': 'a', 'target': 'Y1', 'pred': -5.0, 'age': 1.0, 'dose': -6.0}]
    """
    require("pyarrow")
    import pyarrow as pa

    if not isinstance(schema, pa.Schema):
        raise TypeError(f"Argument 'schema': expected a schema of Arrow, such as table.schema, got {describe(schema)}.")
    pixels = read_pixels(pixels)
    arguments = read_arguments(method, arguments)
    if takes_seed(method) and arguments.get("seed") is None:
        raise ValueError("Argument 'seed': expected a whole number, of which and of its id the draws of a row depend.")
    converter = read_converter(model)
    first = arguments.get("channels_first")
    found = find_columns(
        schema, converter, id_column, columns, converter.channels_first if first is None else first, pixels
    )
    id_type = read_id_type(schema, id_column)
    for name in ("x_ref", "data_ref"):
        kind = read_name(name, arguments.get(name), method)
        if kind is not None:
            raise ValueError(
                f"Argument '{name}': a batch has no {kind} of all rows; give the numbers, or call explain_dataset, "
                "which takes them from the data set."
            )
    return BatchExplainer(
        with_own_names(converter, found), method, arguments, found, id_column, id_type, layout, batch_size
    )


def _dim(port: Port, columns: Columns) -> tuple[int, ...]:
    return port.dim if columns.channels_first else channels_last(port.dim)
