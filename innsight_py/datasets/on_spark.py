"""The engine of a cluster of Spark: its tasks get the numbers of parts, make them, and give back receipts."""

from __future__ import annotations

import functools
import itertools
import os
import pickle
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from innsight_py.datasets.job import Job, Receipt, Unit

#: What tasks get of a unit, and what they give back, in Spark's words.
UNITS, RECEIPTS = "number long, start long, stop long, again boolean", "receipt binary"
#: Parts of each worker that Spark is given together. Their receipts come when all are made.
TOGETHER = 8


def make_parts(batches: Iterable[Any], job: bytes, on_gpu: bool) -> Iterator[Any]:
    """Make the parts of some units, in a worker of Spark: batches of units in, batches of receipts out."""
    import pyarrow as pa

    worker = _loaded(job, on_gpu)
    for batch in batches:
        for row in batch.to_pylist():
            receipt = pickle.dumps(worker.do(Unit(**row)))
            yield pa.RecordBatch.from_arrays([pa.array([receipt], pa.binary())], names=["receipt"])


@functools.lru_cache(maxsize=1)
def _loaded(job: bytes, on_gpu: bool) -> Job:
    """Load a job once in a worker, which Spark uses for one task after the other."""
    found: Job = pickle.loads(job)  # noqa: S301 (our own)
    return replace(found, device="cuda" if on_gpu else None)


def run_spark(job: Job, units: Iterator[Unit], workers: int, gpus_per_worker: float) -> Iterator[Receipt]:
    """Do all units on the session of Spark that is there, or on one of this machine that ends with the call."""
    from cloudpickle import dumps
    from pyspark.sql import SparkSession

    own = SparkSession.getActiveSession()
    spark = own
    try:
        while some := list(itertools.islice(units, TOGETHER * workers)):
            spark = spark or _session(workers)
            make = functools.partial(make_parts, job=dumps(job), on_gpu=bool(gpus_per_worker))
            rows = [(unit.number, unit.start, unit.stop, unit.again) for unit in some]
            frame = spark.createDataFrame(spark.sparkContext.parallelize(rows, len(rows)), UNITS)
            for row in frame.mapInArrow(make, RECEIPTS).collect():
                yield pickle.loads(row["receipt"])  # noqa: S301 (our own worker's)
    finally:
        if own is None and spark is not None:
            spark.stop()


def _session(workers: int) -> Any:
    """Start Spark on this machine, with as many tasks at once as there shall be workers; each may fail three times."""
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master(f"local[{workers}, 4]").appName("innsight_py")
    options = {
        "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }  # fmt: skip
    for name, value in options.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()
