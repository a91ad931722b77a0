"""Data sets on Spark: a session of two workers on this machine gives the lines that this process gives."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from dataset_models import assert_plain_answer, assert_same_lines, claims, lines_of, rows, table_model, write_claims

from innsight_py import explain_batches, explain_dataset, run_deeplift

pyspark = pytest.importorskip("pyspark")
if shutil.which("java") is None:
    pytest.skip("Spark runs on Java, which is not here", allow_module_level=True)
#: Warnings of what Spark itself does.
SPARK_WARNS = ("DeprecationWarning", "FutureWarning", "ResourceWarning", "pytest.PytestUnraisableExceptionWarning")
pytestmark = [pytest.mark.filterwarnings(f"ignore::{category}") for category in SPARK_WARNS]
X = rows(400)
NAMES = [f"claim-{n}" for n in range(len(X))]
CALL = {"method": "deeplift", "id_column": "claim_id", "target": "predicted", "rows_per_part": 40}


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


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    return write_claims(tmp_path_factory.mktemp("claims"), X)


@pytest.fixture(scope="module")
def plain():
    return run_deeplift(table_model(), X, target="predicted")


def test_the_lines_are_those_of_the_local_engine(source, tmp_path):
    """Draws too: they depend on seed and id alone."""
    call = {"method": "expgrad", "id_column": "claim_id", "output_idx": [2, 0], "seed": 3, "n": 4, "data_ref": X[:9]}
    here = explain_dataset(table_model(), source, tmp_path / "here", **call)
    there = explain_dataset(
        table_model(), source, tmp_path / "there", engine="spark", workers=2, rows_per_part=140, batch_size=13, **call
    )
    assert_same_lines(lines_of(there), lines_of(here))
    assert there.summary().rows == len(X)


def test_what_is_done_is_not_done_again(source, tmp_path, plain):
    output = tmp_path / "out"
    explain_dataset(table_model(), source, output, **CALL)
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*")}
    (output / "part-00000004.parquet").unlink()
    explained = explain_dataset(table_model(), source, output, engine="spark", workers=2, **CALL)
    assert_plain_answer(explained, NAMES, plain)
    after = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*")}
    assert {name for name in before if before[name] != after[name]} == {"part-00000004.parquet"}


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
