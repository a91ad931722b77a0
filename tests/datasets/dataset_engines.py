"""What the tests of all engines share: a table that is explained, a driver that is killed, and what goes on then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dataset_models import assert_plain_answer, rows, table_model, write_claims

from innsight_py import explain_dataset, load_explanations, run_deeplift

X = rows(400)
NAMES = [f"claim-{n}" for n in range(len(X))]
CALL = {"method": "deeplift", "id_column": "claim_id", "target": "predicted", "rows_per_part": 20}
#: A driver that explains a data set slowly: it waits for each part that it writes.
DRIVER = """
import sys, time
sys.path.insert(0, {tests!r})
from dataset_models import table_model
from dataset_engines import Slow
from innsight_py import explain_dataset
from innsight_py.datasets.folder import Folder
write = Folder.write_part
def slowly(self, table, part):
    time.sleep(0.1)
    write(self, table, part)
Folder.write_part = slowly
model = table_model() if {engine!r} == "local" else Slow.model()
try:
    explain_dataset(model, {source!r}, {output!r}, engine={engine!r}, workers={workers}, verbose=False, **{call!r})
except KeyboardInterrupt:
    print("stopped")
"""


def start(source: str, output: Path, workers: int = 1, engine: str = "local") -> subprocess.Popen[str]:
    """Start a driver."""
    tests = str(Path(__file__).parent)
    code = DRIVER.format(
        tests=tests, source=source, output=str(output), workers=workers, engine=engine, call=CALL
    )  # fmt: skip
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)  # noqa: S603


def wait_for_parts(output: Path, count: int, process: subprocess.Popen[str]) -> int:
    """Wait until a driver has written so many parts."""
    for _ in range(6000):
        there = len(list(output.glob("part-*.parquet")))
        if there >= count:
            return there
        assert process.poll() is None, "it ended before there were so many parts"
        time.sleep(0.05)
    raise AssertionError("no parts were written")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    """Write the table."""
    return write_claims(tmp_path_factory.mktemp("claims"), X)


@pytest.fixture(scope="module")
def plain():
    """Return what the plain method says of it."""
    return run_deeplift(table_model(), X, target="predicted")


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


@contextmanager
def killing(output: Path, workers: Callable[[], list[int]]) -> Iterator[list[int]]:
    """Kill one of the workers when there are two parts, and say which it was."""
    killed: list[int] = []

    def kill() -> None:
        for _ in range(1200):
            found = workers()
            if found and len(list(output.glob("part-*"))) >= 2:
                os.kill(found[0], signal.SIGKILL)
                killed.append(found[0])
                return
            time.sleep(0.05)

    watcher = threading.Thread(target=kill)
    watcher.start()
    yield killed
    watcher.join()


def assert_a_killed_worker_is_replaced(
    engine: str, workers: Callable[[], list[int]], source: str, output: Path, plain: Any
) -> None:
    """Let an engine do again what a worker was at that is killed: each id is there once."""
    with killing(output, workers) as killed:
        explained = explain_dataset(Slow.model(), source, output, engine=engine, workers=2, **CALL)
    assert killed
    assert_plain_answer(explained, NAMES, plain)
    assert explained.summary().rows == len(X)
    assert not list(output.glob("_unfinished-*"))


def assert_only_what_is_missing_is_done(engine: str, source: str, output: Path, plain: Any) -> None:
    """Let an engine go on where another has stopped."""
    explain_dataset(table_model(), source, output, **CALL)
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*")}
    (output / "part-00000004.parquet").unlink()
    explained = explain_dataset(table_model(), source, output, engine=engine, workers=2, resume=True, **CALL)
    assert_plain_answer(explained, NAMES, plain)
    after = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*")}
    assert {name for name in before if before[name] != after[name]} == {"part-00000004.parquet"}
    assert load_explanations(output).summary().rows == len(X)
