"""What workers do: read the rows of a part, explain them, write the part, and say how it went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any

import numpy as np
import torch

from innsight_py.datasets.arrow import Table
from innsight_py.datasets.batches import Attributed, BatchExplainer, Rows
from innsight_py.datasets.block import Block, joined
from innsight_py.datasets.folder import Folder, Part
from innsight_py.datasets.layouts import from_table, to_table
from innsight_py.datasets.sources import Source
from innsight_py.datasets.statistics import Statistics
from innsight_py.model.converter import Converter


class Stopped(Exception):  # noqa: N818 (it is none of anybody's)
    """What ends a thread whose part nobody waits for."""


@dataclass(frozen=True)
class Unit:
    """The rows of one part.

    Attributes
    ----------
    number : int
        Number of the part.
    start, stop : int
        Its rows.
    again : bool
        Whether the part exists, and only what went wrong in it is to be done again.
    table : Table, optional
        The rows themselves, where workers cannot read them.
    batch_size : int, optional
        What memory did for elsewhere: no more rows are explained together.
    """

    number: int
    start: int
    stop: int
    again: bool
    table: Table = None
    batch_size: int | None = None


@dataclass(frozen=True)
class Reading:
    """A part whose rows are read, in batches; none where only some rows of its table are done again."""

    unit: Unit
    batches: Sequence[Rows]


@dataclass(frozen=True)
class Explained:
    """A part that the method is done with, and its lines where they are known already."""

    unit: Unit
    rows: int
    batches: list[Attributed] = field(default_factory=list)
    again: Again | None = None


@dataclass(frozen=True)
class Again:
    """All lines of a part that was done again, and those not counted yet, with the number of the first row."""

    block: Block
    counted: Sequence[tuple[int, Block]]


@dataclass(frozen=True)
class Receipt:
    """What a worker says of a part that it has written."""

    part: Part
    rows: int
    statistics: Statistics
    warnings: Mapping[str, str]
    batch_size: int
    error: str | None


@dataclass
class Job:
    """All that a worker needs; it can be pickled.

    Attributes
    ----------
    explainer : BatchExplainer
        Explains tables.
    source : Source
        Where rows come from.
    folder : Folder
        Where parts go.
    device : str or None
        Where the model shall lie.
    """

    explainer: BatchExplainer
    source: Source
    folder: Folder
    device: str | None = None
    #: Tells threads to end.
    stop: Event | None = field(default=None, repr=False)
    _moved: bool = field(default=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        source = self.source if self.source.again else None  # an iterator stays where it is
        return self.__dict__ | {"source": source, "stop": None, "_moved": False}

    def do(self, unit: Unit) -> Receipt:
        """Make one part."""
        return self.finish(self.explain(self.read(unit)))

    def read(self, unit: Unit) -> Reading:
        """Read the rows of one part."""
        explainer = self.explainer
        if unit.table is None:
            unit = replace(unit, table=self.source.read(unit.start, unit.stop, explainer.needed))
        if unit.again:
            return Reading(unit, ())
        size = min(explainer.batch_size, unit.batch_size or explainer.batch_size)
        starts = range(0, len(unit.table), size)
        batches = [explainer.read(unit.table.slice(at, size), unit.start + at) for at in starts]
        return Reading(replace(unit, table=None), batches)

    def explain(self, reading: Reading) -> Explained:
        """Call the method for the rows of one part."""
        self._move()
        explainer, unit = self.explainer, reading.unit
        if unit.batch_size is not None:
            explainer.batch_size = min(explainer.batch_size, unit.batch_size)
        if unit.again:
            return Explained(unit, len(unit.table), again=self._again(unit))
        done = []
        for batch in reading.batches:
            if self.stop is not None and self.stop.is_set():
                raise Stopped
            done.append(explainer.attribute(batch))
        return Explained(unit, sum(len(batch) for batch in reading.batches), done)

    def finish(self, done: Explained) -> Receipt:
        """Bring what was explained into its form, count it, and write it."""
        import pyarrow as pa

        explainer, counted = self.explainer, Statistics(self.explainer.form)
        if done.again is not None:
            blocks, counts, rows = [done.again.block], done.again.counted, len(done.again.counted)
        else:
            counts = list(self._settled(done))
            blocks, rows = [block for _, block in counts], done.rows
        for first, block in counts:
            counted.add(block, first)
        if done.again is not None:
            counted.rows, counted.errors = 0, -counted.rows
        errors = [str(error) for block in blocks for error in block.errors[~block.good]]
        part = Part(done.unit.number, done.rows, len(errors))
        tables = [to_table(block, explainer.form, explainer.schema) for block in blocks]
        self.folder.write_part(pa.concat_tables(tables), part)
        error = errors[0] if errors else None
        return Receipt(part, rows, counted, explainer.warnings, explainer.batch_size, error)

    def _settled(self, done: Explained) -> Iterator[tuple[int, Block]]:
        """Give the lines of each batch and the number of its first row; what is settled is held no longer."""
        first = done.unit.start
        while done.batches:
            batch = done.batches.pop(0)
            yield first, self.explainer.settle(batch)
            first += len(batch.rows)

    def _again(self, unit: Unit) -> Again:
        """Explain the rows of a part that went wrong; count only those that now go well."""
        form, table = self.explainer.form, unit.table
        known = from_table(self.folder.read_part(unit.number), form)
        row_of = (np.cumsum(np.where(known.good, 1, form.lines)) - 1) // form.lines  # of each line
        parts, counted = [(row_of[known.good], known.take(known.good))], []
        for row in row_of[~known.good]:
            own = self.explainer.block(table.slice(int(row), 1), unit.start + int(row))
            parts.append((np.full(len(own), row), own))
            if own.good.all():
                counted.append((unit.start + int(row), own))
        order = np.concatenate([rows for rows, _ in parts])
        whole = joined([block for _, block in parts if len(block)]).take(np.argsort(order, kind="stable"))
        return Again(whole, counted)

    def _move(self) -> None:
        """Bring the model to the device of this worker, once."""
        if self.device is not None and not self._moved and isinstance(self.explainer.converter, Converter):
            self.explainer.converter.model.to(torch.device(self.device))
            self._moved = True
