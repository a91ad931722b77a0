"""Data sets on Ray: a local cluster of two workers gives the lines that this process gives, also when it is hurt."""

from __future__ import annotations

import warnings
from pathlib import Path

import dataset_engines
import numpy as np
import pytest
from dataset_engines import CALL, X, assert_a_killed_worker_is_replaced, assert_only_what_is_missing_is_done
from dataset_models import assert_same_lines, claims, lines_of, table_model

from innsight_py import explain_dataset

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what Ray itself imports
    ray = pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")
#: Warnings of what Ray itself does.
RAY_WARNS = ("DeprecationWarning", "FutureWarning", "ResourceWarning", "pytest.PytestUnraisableExceptionWarning")
#: Fixtures that the engines share.
source, plain = dataset_engines.source, dataset_engines.plain
pytestmark = [pytest.mark.filterwarnings(f"ignore::{category}") for category in RAY_WARNS]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Start a cluster, whose workers find what the tests share."""
    tests = str(Path(__file__).parent)
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False,
             runtime_env={"env_vars": {"PYTHONPATH": tests, "OMP_NUM_THREADS": "1"}})  # fmt: skip
    yield
    ray.shutdown()


def test_the_lines_are_those_of_the_local_engine(source, tmp_path):
    """Draws too: they depend on seed and id alone."""
    call = {"method": "expgrad", "id_column": "claim_id", "output_idx": [2, 0], "seed": 3, "n": 4, "data_ref": X[:9]}
    here = explain_dataset(table_model(), source, tmp_path / "here", **call)
    there = explain_dataset(
        table_model(), source, tmp_path / "there", engine="ray", workers=2, rows_per_part=70, batch_size=13, **call
    )
    assert_same_lines(lines_of(there), lines_of(here))
    frames = [one.summary().to_frame() for one in (here, there)]
    for name in ("mean", "mean_abs", "median"):
        np.testing.assert_allclose(frames[0][name], frames[1][name], rtol=0.03 if name == "median" else 1e-4, atol=1e-6)


def test_a_worker_is_killed(source, tmp_path, plain):
    """Ray starts another, which does the part again that the first one was at."""

    def actors() -> list[int]:
        every = psutil.process_iter(["pid", "cmdline"])
        return [one.info["pid"] for one in every if "MapBatches" in " ".join(one.info["cmdline"] or [])]

    assert_a_killed_worker_is_replaced("ray", actors, source, tmp_path / "out", plain)


def test_what_is_done_is_not_done_again(source, tmp_path, plain):
    assert_only_what_is_missing_is_done("ray", source, tmp_path / "out", plain)


def test_iterators_are_for_one_process(tmp_path):
    with pytest.raises(ValueError, match="Argument 'source': an iterator is read by one process"):
        explain_dataset(table_model(), iter([claims(X)]), tmp_path / "out", engine="ray", **CALL)
