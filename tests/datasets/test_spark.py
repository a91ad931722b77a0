"""Data sets on Spark: a session of two workers on this machine gives the lines that this process gives."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import dataset_engines
import numpy as np
import pytest
from dataset_engines import (
    CALL,
    NAMES,
    X,
    assert_a_killed_worker_is_replaced,
    assert_only_what_is_missing_is_done,
    start,
    wait_for_parts,
)
from dataset_models import assert_plain_answer, assert_same_lines, claims, lines_of, table_model

from innsight_py import explain_batches, explain_dataset

pyspark = pytest.importorskip("pyspark")
psutil = pytest.importorskip("psutil")
if shutil.which("java") is None:
    pytest.skip("Spark runs on Java, which is not here", allow_module_level=True)
#: Warnings of what Spark itself does.
SPARK_WARNS = ("DeprecationWarning", "FutureWarning", "ResourceWarning", "pytest.PytestUnraisableExceptionWarning")
#: Fixtures that the engines share.
source, plain = dataset_engines.source, dataset_engines.plain
pytestmark = [pytest.mark.filterwarnings(f"ignore::{category}") for category in SPARK_WARNS]


@pytest.fixture(scope="module", autouse=True)
def session():
    """Start a session, whose workers find what the tests share, and which tries a task again."""
    from innsight_py.datasets.on_spark import _session

    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "OMP_NUM_THREADS")}
    os.environ |= {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    spark = _session(2)
    yield spark
    spark.stop()
    for name, value in before.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value


def test_the_lines_are_those_of_the_local_engine(source, tmp_path):
    """Draws too: they depend on seed and id alone."""
    call = {"method": "expgrad", "id_column": "claim_id", "output_idx": [2, 0], "seed": 3, "n": 4, "data_ref": X[:9]}
    here = explain_dataset(table_model(), source, tmp_path / "here", **call)
    there = explain_dataset(
        table_model(), source, tmp_path / "there", engine="spark", workers=2, rows_per_part=140, batch_size=13, **call
    )
    assert_same_lines(lines_of(there), lines_of(here))
    assert there.summary().rows == len(X)


def test_a_worker_is_killed(source, tmp_path, plain):
    """Spark tries its task again, with the parts that the worker was at."""

    def workers() -> list[int]:
        own = psutil.Process().children(recursive=True)
        daemons = {one.pid for one in own if one.status() != "zombie" and "pyspark.daemon" in one.cmdline()}
        return [pid for pid in daemons if psutil.Process(pid).ppid() in daemons]

    assert_a_killed_worker_is_replaced("spark", workers, source, tmp_path / "out", plain)


def test_the_driver_is_killed(source, tmp_path, plain):
    """What its tasks have written stays, and the next call does the rest: each id is there once."""
    output = tmp_path / "out"
    process = start(source, output, workers=2, engine="spark")
    there = wait_for_parts(output, 3, process)
    others = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    psutil.wait_procs(others, timeout=60)
    assert there < 20
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*")}
    explained = explain_dataset(table_model(), source, output, engine="spark", workers=2, **CALL)
    assert_plain_answer(explained, NAMES, plain)
    assert {name: (output / name).stat().st_mtime_ns for name in before} == before
    assert explained.summary().rows == len(X)
    assert not list(output.glob("_unfinished-*"))


def test_what_is_done_is_not_done_again(source, tmp_path, plain):
    assert_only_what_is_missing_is_done("spark", source, tmp_path / "out", plain)


def test_a_frame_of_spark_without_parts(session):
    """What all engines call, with ids of a frame that Spark holds."""
    table = claims(X[:60])
    explainer = explain_batches(table_model(), table.schema, method="deeplift", id_column="claim_id", output_idx=1)
    frame = session.createDataFrame(table.to_pandas()).repartition(2)
    schema = "id string, output string, target string, pred double, goal double, residual double, status string, "
    schema += "error string, age float, income float, dose float, site float"
    found = frame.mapInArrow(explainer.iterate, schema).toPandas().set_index("id")
    wanted = explainer(table).to_pandas().set_index("id")
    assert sorted(found.index) == sorted(wanted.index)
    names = ["pred", "age", "income", "dose", "site"]
    np.testing.assert_allclose(found.loc[wanted.index, names], wanted[names], rtol=1e-5, atol=1e-6)


def test_iterators_are_for_one_process(tmp_path):
    with pytest.raises(ValueError, match="Argument 'source': an iterator is read by one process"):
        explain_dataset(table_model(), iter([claims(X)]), tmp_path / "out", engine="spark", **CALL)
