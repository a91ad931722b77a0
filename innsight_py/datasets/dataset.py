"""Explaining a data set: one call, whatever its size, that can be stopped and goes on where it was."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from tqdm.auto import tqdm

from innsight_py._checks import Count, FilePath, Flag, NotNegative, checked, warn
from innsight_py._errors import see
from innsight_py.datasets.arguments import (
    read_arguments,
    read_converter,
    read_id_type,
    read_pixels,
    takes_seed,
    with_own_names,
)
from innsight_py.datasets.arrow import require
from innsight_py.datasets.batches import BatchExplainer
from innsight_py.datasets.columns import find_columns
from innsight_py.datasets.explained import ExplainedDataset, gather, load_explanations
from innsight_py.datasets.folder import Folder
from innsight_py.datasets.form import Layout
from innsight_py.datasets.job import Job, Receipt, Unit
from innsight_py.datasets.local import run_local
from innsight_py.datasets.on_ray import run_ray
from innsight_py.datasets.on_spark import run_spark
from innsight_py.datasets.references import with_references
from innsight_py.datasets.sources import Fragments, find_source

#: Bytes of the values of a part, and the most rows of one.
PART_BYTES, PART_ROWS = 32 * 2**20, 65536
#: What each engine needs, and what runs it.
ENGINE_PACKAGES = {"local": (), "ray": ("ray",), "spark": ("pyspark",)}
ENGINES = {"local": run_local, "ray": run_ray, "spark": run_spark}


@checked
def explain_dataset(
    model: Any,
    source: Any,
    output: FilePath,
    *,
    method: str = "deeplift",
    id_column: str | None = None,
    columns: Any = None,
    layout: Layout | None = None,
    engine: Literal["local", "ray", "spark"] = "local",
    workers: Count = 1,
    gpus_per_worker: NotNegative = 0.0,
    batch_size: Count | None = None,
    rows_per_part: Count | None = None,
    resume: Flag = True,
    max_errors: NotNegative | None = None,
    pixels: Any = (0.0, 1.0),
    verbose: Flag | None = None,
    **arguments: Any,
) -> ExplainedDataset:
    """Explain every row of a data set, and write the explanations to a folder of Parquet files.

    Rows are read, explained and written in parts, so that no more than a few parts are in memory. A part is written
    under another name and renamed: it exists as a whole or not at all. A call that was stopped, in whatever way, is
    made again and does what is missing. See the page about data sets for the columns of the files.

    Parameters
    ----------
    model : Converter, path, or whatever `Converter` takes
        The model. A PyTorch module that needs an `input_dim` is converted first.
    source : path, glob, list of these, data set, table, or iterator of batches
        Files of Parquet, CSV or Arrow, or a folder of them; a folder of images; a data set of pyarrow or Hugging Face;
        a table of Arrow, pandas or polars; or an iterator of tables or dicts of columns, which one process reads once.
    output : str or path-like
        The folder that the explanations are written to. It is made if it is not there.
    method : str
        Name of the method, as the shell has it: ``"deeplift"`` for `run_deeplift`. It is called batch by batch.
    id_column : str, optional
        Column with a name for each row, each there once. Default: the number of the row, from 0; for a folder of
        images the path within it.
    columns : sequence of str, str or dict, optional
        The columns that are the model's features, in its order; for signals and images one column of lists, paths or
        bytes; for several inputs a dict of these by `input_keys`. Default: by name, see the page about data sets.
    layout : {"wide", "dense", "long"}, optional
        A column for each feature, one column of lists, or a line for each value with R's columns. Default: wide for
        tables, dense for signals and images.
    engine : {"local", "ray", "spark"}
        Worker processes of this machine, or a cluster of Ray or Spark, which needs a folder that all of its machines
        see.
    workers : int
        As many processes (or actors) explain; 1: this process.
    gpus_per_worker : float
        GPUs of each worker.
    batch_size : int, optional
        The number of rows that are explained together. It is halved if memory is too small. Default: by their size.
    rows_per_part : int, optional
        The number of rows in a part. Default: by their size. A job that goes on keeps its number.
    resume : bool
        Go on with a job in `output`: explain rows without a part, and rows that went wrong. False: refuse a folder that
        has parts.
    max_errors : int, optional
        Stop when more rows than these have gone wrong. Default: never.
    pixels : tuple of float
        What black and white of an image file become.
    verbose : bool, optional
        Show the progress, rows a second and the time left. Default: where stderr is a terminal.
    **arguments
        Arguments of the method: ``target="predicted"``, ``rule_name="epsilon"``, ``dtype="double"``. ``x_ref="mean"``
        and ``"median"`` are those of the data set, ``data_ref="data"`` is a sample of 1000 of its rows, for methods
        that take many references. ``seed``: draws of a row depend on it and on the row's id alone; such rows are
        explained one by one, so that for SmoothGrad the noise is a part of the range of the row's own values. Default:
        one is drawn, and kept with the job.

    Returns
    -------
    ExplainedDataset
        What `load_explanations` gives.

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value, the method refuses the model, `output` holds another job, or more than
        `max_errors` rows went wrong.
    OSError
        If a part cannot be written, for example because the disk is full.
    ImportError
        If a package is missing: ``pip install "innsight_py[datasets]"``.
    RuntimeError
        If a part has killed its worker three times.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from innsight_py import Converter, explain_dataset
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, -3.0]]}]}
    >>> table = pa.table({"id": ["a", "b", "c"], "age": [1.0, 2.0, 0.0], "dose": [2.0, 0.5, 1.0]})
    >>> explained = explain_dataset(Converter(model), table, "explained/", method="deeplift", id_column="id")
    >>> explained
    ExplainedDataset(3 rows, in 1 part: DeepLift)
    >>> explained.result(["b"]).get_result()[0, :, 0]
    array([ 2. , -1.5], dtype=float32)
    """
    require("pyarrow")
    require(*ENGINE_PACKAGES[engine], extra=engine)
    folder = Folder(Path(output))
    with folder.locked():
        manifest, job = _prepare(
            folder,
            model,
            source,
            method,
            id_column,
            columns,
            layout,
            batch_size,
            rows_per_part,
            resume,
            pixels,
            arguments,
        )
        if engine != "local" and not job.source.again:
            raise ValueError(
                f"Argument 'source': an iterator is read by one process, and engine='{engine}' has several machines. "
                "Write the batches to Parquet first, or use engine='local'."
            )
        units = _units(job, int(manifest["rows_per_part"]))
        receipts = ENGINES[engine](job, units, workers, gpus_per_worker)
        _follow(job, receipts, max_errors, verbose)
    return load_explanations(folder.path)


def _prepare(
    folder: Folder, model: Any, source: Any, method: str, id_column: str | None, columns: Any, layout: Layout | None,
    batch_size: int | None, rows_per_part: int | None, resume: bool, pixels: Any, arguments: Mapping[str, Any],
) -> tuple[dict[str, Any], Job]:  # fmt: skip
    """Read all arguments, and take the folder for the job."""
    pixels = read_pixels(pixels)
    arguments = read_arguments(method, arguments)
    converter = read_converter(model)
    known = folder.manifest or {}
    if takes_seed(method) and arguments.get("seed") is None:
        arguments["seed"] = known.get("seed", secrets.randbelow(2**31))
    rows = find_source(source)
    id_column = rows.id_column if id_column is None else id_column
    first = arguments.get("channels_first")
    layout_first = converter.channels_first if first is None else bool(first)
    found = find_columns(rows.schema, converter, id_column, columns, layout_first, pixels)
    if isinstance(rows, Fragments) and rows.of_csv:
        rows = find_source(source, found.scalars())
    arguments = with_references(method, arguments, rows, found)
    explainer = BatchExplainer(
        with_own_names(converter, found), method, arguments, found, id_column, read_id_type(rows.schema, id_column),
        layout, batch_size,
    )  # fmt: skip
    if batch_size is None:  # what an earlier run found out
        explainer.batch_size = min(explainer.batch_size, known.get("batch_size", explainer.batch_size))
    line = (sum(explainer.form.sizes) + 4) * max(1, explainer.form.lines) * 8
    size = rows_per_part or max(1, min(PART_ROWS, PART_BYTES // line))
    facts = explainer.facts | {
        "seed": arguments.get("seed"), "source": rows.identity, "rows_per_part": size, "rows": rows.rows,
        "form": explainer.form.to_json(),
    }  # fmt: skip
    return folder.begin(facts, resume), Job(explainer, rows, folder)


def _units(job: Job, size: int) -> Iterator[Unit]:
    """Give the parts that are to be made: those that are not there, and those in which something went wrong."""
    source = job.source
    parts = job.folder.parts()

    def state(number: int) -> bool | None:
        part = parts.get(number)
        return None if part is not None and not part.errors else part is not None

    if source.again:
        assert source.rows is not None
        for number in range(math.ceil(source.rows / size)):
            again = state(number)
            if again is not None:
                yield Unit(number, number * size, min((number + 1) * size, source.rows), again)
        return
    for number, table in enumerate(source.parts(size, job.explainer.needed)):
        again = state(number)
        if again is not None:
            yield Unit(number, number * size, number * size + len(table), again, table)


def _follow(job: Job, receipts: Iterator[Receipt], max_errors: float | None, verbose: bool | None) -> None:
    """Watch the workers, gather what they say, and write it down, however this ends."""
    before = job.folder.parts()
    total = gather(job.folder, job.explainer.form)
    done = sum(part.rows - part.errors for part in before.values())
    said, batch_size = dict[str, str](), job.explainer.batch_size
    bar = tqdm(total=job.source.rows, initial=done, unit=" rows", disable=None if verbose is None else not verbose)
    try:
        with closing(receipts), bar:  # type: ignore[type-var]
            for receipt in receipts:
                bar.update(receipt.rows)
                total.merge(receipt.statistics)
                said |= receipt.warnings
                if receipt.batch_size < batch_size:
                    batch_size = receipt.batch_size
                    job.folder.remember(batch_size)
                if max_errors is not None and total.errors > max_errors:
                    raise ValueError(
                        see(
                            "data-sets",
                            f"{total.errors} rows went wrong, which is more than max_errors={max_errors:g}; the last "
                            f"part says: {receipt.error}. What went well is kept.",
                        )
                    )
    finally:
        job.folder.write_summary(total.to_bytes())
    for text in said.values():
        warn(f"Of some rows: {text}")
    if total.errors:
        warn(
            see(
                "data-sets",
                f"{total.errors} of {total.rows} rows went wrong; their status is 'error', and the column 'error' says "
                "why. The next call tries them again.",
            )
        )
