"""Data sets on Ray: a local cluster of two workers gives the lines that this process gives, also when it is hurt."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from dataset_models import assert_plain_answer, assert_same_lines, claims, lines_of, rows, table_model, write_claims

from innsight_py import explain_dataset, load_explanations, run_deeplift

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what Ray itself imports
    ray = pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")
#: Warnings of what Ray itself does.
RAY_WARNS = ("DeprecationWarning", "FutureWarning", "ResourceWarning", "pytest.PytestUnraisableExceptionWarning")
pytestmark = [pytest.mark.filterwarnings(f"ignore::{category}") for category in RAY_WARNS]
X = rows(400)
NAMES = [f"claim-{n}" for n in range(len(X))]
CALL = {"method": "deeplift", "id_column": "claim_id", "target": "predicted", "rows_per_part": 20}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Start a cluster, whose workers find what the tests share."""
    tests = str(Path(__file__).parent)
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False,
             runtime_env={"env_vars": {"PYTHONPATH": tests, "OMP_NUM_THREADS": "1"}})  # fmt: skip
    yield
    ray.shutdown()


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
        table_model(), source, tmp_path / "there", engine="ray", workers=2, rows_per_part=70, batch_size=13, **call
    )
    assert_same_lines(lines_of(there), lines_of(here))
    frames = [one.summary().to_frame() for one in (here, there)]
    for name in ("mean", "mean_abs", "median"):
        np.testing.assert_allclose(frames[0][name], frames[1][name], rtol=0.03 if name == "median" else 1e-4, atol=1e-6)


def test_a_worker_is_killed(source, tmp_path, plain):
    """Ray starts another, which does the part again that the first one was at."""
    output, killed = tmp_path / "out", []

    def kill() -> None:
        for _ in range(1200):
            actors = [
                one for one in psutil.process_iter(["cmdline"]) if "MapBatches" in " ".join(one.info["cmdline"] or [])
            ]
            if actors and len(list(output.glob("part-*"))) >= 2:
                os.kill(actors[0].pid, signal.SIGKILL)
                killed.append(actors[0].pid)
                return
            time.sleep(0.05)

    watcher = threading.Thread(target=kill)
    watcher.start()
    explained = explain_dataset(Slow.model(), source, output, engine="ray", workers=2, **CALL)
    watcher.join()
    assert killed
    assert_plain_answer(explained, NAMES, plain)
    assert explained.summary().rows == len(X)
    assert not list(output.glob("unfinished-*"))


class Slow:
    """A converter that takes its time, so that there is some in which its worker can be killed."""

    @staticmethod
    def model():
        converter = table_model()
        plain = type(converter)

        class SlowConverter(plain):
            def model_in(self, *args, **kwargs):
                time.sleep(0.1)
                return super().model_in(*args, **kwargs)

        converter.__class__ = SlowConverter
        return converter


def test_what_is_done_is_not_done_again(source, tmp_path, plain):
    output = tmp_path / "out"
    explain_dataset(table_model(), source, output, **CALL)
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*")}
    (output / "part-00000004.parquet").unlink()
    explained = explain_dataset(table_model(), source, output, engine="ray", workers=2, resume=True, **CALL)
    assert_plain_answer(explained, NAMES, plain)
    after = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*")}
    assert {name for name in before if before[name] != after[name]} == {"part-00000004.parquet"}
    assert load_explanations(output).summary().rows == len(X)


def test_iterators_are_for_one_process(tmp_path):
    with pytest.raises(ValueError, match="Argument 'source': an iterator is read by one process"):
        explain_dataset(table_model(), iter([claims(X)]), tmp_path / "out", engine="ray", **CALL)
