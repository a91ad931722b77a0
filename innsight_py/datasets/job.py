"""What workers do: read the rows of a part, explain them, write the part, and say how it went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any

import numpy as np
import torch

from innsight_py.datasets.arrow import Table
from innsight_py.datasets.batches import BatchExplainer
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
class Explained:
    """The lines of a part before they are written, and those not counted yet, with the number of the first row."""

    unit: Unit
    rows: int
    blocks: Sequence[Block]
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

    def with_rows(self, unit: Unit) -> Unit:
        """Read the rows of a unit, for those who cannot."""
        return unit if unit.table is not None else replace(unit, table=self._read(unit))

    def _read(self, unit: Unit) -> Table:
        return self.source.read(unit.start, unit.stop, self.explainer.needed)

    def do(self, unit: Unit) -> Receipt:
        """Make one part."""
        return self.finish(self.explain(unit))

    def explain(self, unit: Unit) -> Explained:
        """Explain the rows of one part."""
        self._move()
        explainer = self.explainer
        table = unit.table if unit.table is not None else self._read(unit)
        if unit.batch_size is not None:
            explainer.batch_size = min(explainer.batch_size, unit.batch_size)
        if unit.again:
            return self._again(unit, table)
        blocks, at = list[tuple[int, Block]](), 0
        while at < len(table):
            if self.stop is not None and self.stop.is_set():
                raise Stopped
            some = table.slice(at, explainer.batch_size)
            blocks.append((unit.start + at, explainer.block(some, unit.start + at)))
            at += len(some)
        return Explained(unit, len(table), [block for _, block in blocks], blocks)

    def finish(self, done: Explained) -> Receipt:
        """Count what was explained, and write it."""
        import pyarrow as pa

        explainer, counted = self.explainer, Statistics(self.explainer.form)
        for first, block in done.counted:
            counted.add(block, first)
        if done.unit.again:
            counted.rows, counted.errors = 0, -counted.rows
        errors = [str(error) for block in done.blocks for error in block.errors[~block.good]]
        part = Part(done.unit.number, done.rows, len(errors))
        tables = [to_table(block, explainer.form, explainer.schema) for block in done.blocks]
        self.folder.write_part(pa.concat_tables(tables), part)
        error = errors[0] if errors else None
        rows = len(done.counted) if done.unit.again else done.rows
        return Receipt(part, rows, counted, explainer.warnings, explainer.batch_size, error)

    def _again(self, unit: Unit, table: Table) -> Explained:
        """Explain the rows of a part that went wrong; count only those that now go well."""
        form = self.explainer.form
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
        return Explained(unit, len(table), [whole], counted)

    def _move(self) -> None:
        """Bring the model to the device of this worker, once."""
        if self.device is not None and not self._moved and isinstance(self.explainer.converter, Converter):
            self.explainer.converter.model.to(torch.device(self.device))
            self._moved = True
