"""Nothing is lost: whatever is killed, full or broken, the next call goes on, and every id is there once."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import threading
import time
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from dataset_engines import CALL, start, wait_for_parts
from dataset_models import (
    FEATURES,
    assert_plain_answer,
    assert_same_lines,
    claims,
    lines_of,
    rows,
    table_model,
    write_claims,
)

from innsight_py import Converter, explain_batches, explain_dataset, load_explanations, run_deeplift
from innsight_py.datasets.batches import BatchExplainer
from innsight_py.datasets.folder import Folder, Part
from innsight_py.datasets.job import Job
from innsight_py.datasets.local import MOST_PARTS
from innsight_py.datasets.sources import Fragments

X = rows(600)
NAMES = [f"claim-{n}" for n in range(len(X))]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    return write_claims(tmp_path_factory.mktemp("claims"), X)


@pytest.fixture(scope="module")
def plain():
    return run_deeplift(table_model(), X, target="predicted")


def test_the_driver_is_killed(source, tmp_path, plain):
    output = tmp_path / "out"
    process = start(source, output)
    there = wait_for_parts(output, 3, process)
    process.kill()
    process.communicate()
    assert 3 <= there < 30
    assert not (output / "_summary.npz").exists()
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*")}
    explained = explain_dataset(table_model(), source, output, **CALL)
    assert_plain_answer(explained, NAMES, plain)
    after = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*")}
    assert {name: after[name] for name in before} == before  # what was done is not done again
    assert not list(output.glob("_unfinished-*"))
    assert explained.summary().rows == len(X)


def test_ctrl_c_stops_cleanly(source, tmp_path, plain):
    output = tmp_path / "out"
    process = start(source, output)
    wait_for_parts(output, 2, process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert said.strip() == "stopped"
    assert process.returncode == 0
    assert not list(output.glob("_unfinished-*"))
    half = load_explanations(output)
    assert half.summary().rows == len(half) < len(X)
    assert_plain_answer(explain_dataset(table_model(), source, output, **CALL), NAMES, plain)


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the ids of the worker processes of a driver."""
    import psutil

    children = psutil.Process(process.pid).children(recursive=True)
    return [
        one.pid for one in children if "loky" in " ".join(one.cmdline()) and "tracker" not in " ".join(one.cmdline())
    ]


def test_a_worker_is_killed(source, tmp_path, plain):
    """The run goes on with new workers, and does what they were at again."""
    output = tmp_path / "out"
    process = start(source, output, workers=2)
    wait_for_parts(output, 3, process)
    workers = workers_of(process)
    assert workers  # the second one may still be starting
    os.kill(workers[0], signal.SIGKILL)
    process.communicate(timeout=300)
    assert process.returncode == 0
    assert_plain_answer(load_explanations(output), NAMES, plain)
    assert load_explanations(output).summary().rows == len(X)


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of 96 kB in memory; where that is not allowed files are kept from growing, which stands for it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(folder)], capture_output=True)  # noqa: S603, S607
    if mounted.returncode == 0:
        yield folder, lambda: subprocess.run(["mount", "-o", "remount,size=8m", str(folder)], check=True)  # noqa: S603, S607
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S603, S607
    else:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, limits[1]))
        yield folder, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_the_disk_is_full(source, small_disk, plain):
    folder, make_room = small_disk
    with pytest.raises(OSError, match="cannot be written"):
        explain_dataset(table_model(), source, folder / "out", **CALL)
    there = sorted(path.name for path in (folder / "out").glob("*.parquet"))
    assert len(there) < 30
    assert not list((folder / "out").glob("_unfinished-*"))
    make_room()
    assert_plain_answer(explain_dataset(table_model(), source, folder / "out", **CALL), NAMES, plain)


# -- rows that go wrong ------------------------------------------------------------------------------------------------


def poisoned(x: np.ndarray) -> pa.Table:
    """Return rows of which one is missing a value, one is infinite, and one is too large for single precision."""
    x = x.copy()
    x[3, 0], x[50, 1], x[77, 2] = np.nan, np.inf, 1e39
    return claims(x)


@pytest.mark.parametrize("layout", ["wide", "dense", "long"])
def test_poisoned_rows(tmp_path, layout):
    """They are told apart from the rows of their batch, counted, and done again when the data are better."""
    call = {"id_column": "claim_id", "output_idx": [0, 1], "layout": layout, "rows_per_part": 40}
    converter, x = table_model(), X[:100]
    with pytest.warns(UserWarning, match="3 of 100 rows went wrong"):
        explained = explain_dataset(converter, poisoned(x), tmp_path / "out", **call)
    lines = [line for line in lines_of(explained) if line["status"] == "error"]
    assert [line["id"] for line in lines] == ["claim-3", "claim-50", "claim-77"]
    assert "the column 'age' holds no finite number" in lines[0]["error"]
    assert "numbers of at most 3.4e+38" in lines[2]["error"]
    assert all(line["pred"] is None and line["target"] is None for line in lines)
    assert (explained.summary().rows, explained.summary().errors) == (100, 3)
    with pytest.raises(ValueError, match="the row 'claim-50' went wrong: the column 'income' holds no finite"):
        explained.result("claim-50")
    fine = explain_dataset(converter, claims(x), tmp_path / "fine", **call)
    others = [line for line in lines_of(fine) if line["id"] not in ("claim-3", "claim-50", "claim-77")]
    assert_same_lines([line for line in lines_of(explained) if line["status"] == "ok"], others)
    before = (tmp_path / "out" / "part-00000002.parquet").stat().st_mtime_ns
    again = explain_dataset(converter, claims(x), tmp_path / "out", **call)
    assert_same_lines(lines_of(again), lines_of(fine))
    assert (tmp_path / "out" / "part-00000002.parquet").stat().st_mtime_ns == before
    assert (again.summary().rows, again.summary().errors) == (100, 0)
    np.testing.assert_allclose(again.summary().to_frame()["mean_abs"], fine.summary().to_frame()["mean_abs"], rtol=1e-5)


@pytest.mark.parametrize("layout", ["wide", "dense", "long"])
def test_parts_with_errors_are_read_with_the_others(tmp_path, layout):
    """By readers who know nothing of this package: the first part's schema is true of all parts."""
    x = X.copy()
    x[30, 1] = np.nan
    with pytest.warns(UserWarning, match="1 of 600 rows went wrong"):
        explain_dataset(
            table_model(), claims(x), tmp_path / "out", method="grad", id_column="claim_id", rows_per_part=20,
            layout=layout,
        )  # fmt: skip
    pq.write_table(pq.read_table(tmp_path / "out"), tmp_path / "again.parquet")
    again = pq.read_table(tmp_path / "again.parquet").to_pylist()
    assert list(pd.read_parquet(tmp_path / "out")["id"]) == [line["id"] for line in again]
    assert [line["id"] for line in again if line["status"] == "error"] == ["claim-30"]
    assert len({line["id"] for line in again}) == len(X)


def test_texts_in_csv(tmp_path):
    """A cell that is no number makes its row wrong, wherever it stands, and not the file."""
    frame = claims(X[:400]).to_pandas().astype({"dose": object})
    frame.loc[399, "dose"] = "unknown"
    frame.to_csv(tmp_path / "claims.csv", index=False)
    table_of = {"method": "grad", "id_column": "claim_id", "output_idx": 0}
    with pytest.warns(UserWarning, match="1 of 400 rows went wrong"):
        explained = explain_dataset(table_model(), tmp_path / "claims.csv", tmp_path / "out", **table_of)
    assert "the column 'dose' holds 'unknown', which is no number" in lines_of(explained)[399]["error"]


def test_too_many_errors_stop_the_run(tmp_path):
    with pytest.raises(ValueError, match="2 rows went wrong, which is more than max_errors=1"):
        explain_dataset(
            table_model(), poisoned(X), tmp_path / "out", id_column="claim_id", rows_per_part=20, max_errors=1
        )
    # Parts that threads were at are finished, the rest of the 30 are not begun.
    assert 3 <= len(list((tmp_path / "out").glob("part-*"))) <= 3 + MOST_PARTS


def test_memory_that_does_not_do_is_asked_for_less(monkeypatch):
    """The batch is halved, and later batches are no larger."""
    from innsight_py.datasets import batches

    plain, asked = batches.RUNNERS["grad"], []

    def hungry(converter, data, **arguments):
        asked.append(len(data))
        if len(data) > 30:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return plain(converter, data, **arguments)

    monkeypatch.setitem(batches.RUNNERS, "grad", hungry)
    table = claims(X[:300])
    explainer = explain_batches(table_model(), table.schema, method="grad", id_column="claim_id", batch_size=100)
    found = explainer(table)
    assert set(found["status"].to_pylist()) == {"ok"}
    assert explainer.batch_size == 25
    assert asked[:4] == [1, 100, 50, 25]
    assert max(asked[5:]) <= 50
    monkeypatch.undo()
    assert_same_lines(found.to_pylist(), explain_batches(
        table_model(), table.schema, method="grad", id_column="claim_id")(table).to_pylist())  # fmt: skip


def test_memory_is_remembered(monkeypatch, tmp_path):
    """By the parts that follow, and by later runs, unless they say how many rows they want."""
    from innsight_py.datasets import batches

    plain, asked = batches.RUNNERS["grad"], []

    def hungry(converter, data, **arguments):
        asked.append(len(data))
        if len(data) > 30:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return plain(converter, data, **arguments)

    monkeypatch.setitem(batches.RUNNERS, "grad", hungry)
    call = {"method": "grad", "id_column": "claim_id", "output_idx": 1, "rows_per_part": 100}
    explained = explain_dataset(table_model(), claims(X), tmp_path / "out", **call)
    assert explained.manifest["batch_size"] == 25
    assert max(asked[-12:]) <= 25
    (tmp_path / "out" / "part-00000002.parquet").unlink()
    asked.clear()
    again = explain_dataset(table_model(), claims(X), tmp_path / "out", **call)
    assert asked == [1, 25, 25, 25, 25]  # the first row says what explanations look like
    monkeypatch.undo()
    plainly = explain_dataset(table_model(), claims(X), tmp_path / "plainly", **call)
    assert_same_lines(lines_of(again), lines_of(plainly))


def test_one_row_of_a_batch_is_to_blame(monkeypatch):
    """Whatever the method raises for it, the others are explained."""
    from innsight_py.datasets import batches

    plain = batches.RUNNERS["grad"]

    def fussy(converter, data, **arguments):
        if (data == X[57]).all(-1).any():
            raise RuntimeError("not this one")
        return plain(converter, data, **arguments)

    monkeypatch.setitem(batches.RUNNERS, "grad", fussy)
    table = claims(X[:100])
    explainer = explain_batches(table_model(), table.schema, method="grad", id_column="claim_id", output_idx=2)
    lines = explainer(table).to_pylist()
    assert [line["id"] for line in lines] == NAMES[:100]
    assert [(line["id"], line["error"]) for line in lines if line["error"]] == [
        ("claim-57", "RuntimeError: not this one")
    ]


# -- folders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"method": "grad"}, "its method is deeplift, now it is grad"),
        ({"x_ref": np.ones(4)}, "its arguments is"),
        ({"id_column": "note"}, "its id column is claim_id, now it is note"),
        ({"layout": "long"}, "its layout is wide, now it is long"),
        ({"resume": False}, "holds 1 parts of this job already"),
    ],
)
def test_a_folder_of_another_job(tmp_path, changed, said):
    call = {"method": "deeplift", "id_column": "claim_id", "output_idx": 0}
    explain_dataset(table_model(), claims(X[:10]), tmp_path / "out", **call)
    before = lines_of(load_explanations(tmp_path / "out"))
    with pytest.raises(ValueError, match=said):
        explain_dataset(table_model(), claims(X[:10]), tmp_path / "out", **(call | changed))
    assert lines_of(load_explanations(tmp_path / "out")) == before


def test_another_model_and_other_rows_are_another_job(tmp_path):
    explain_dataset(table_model(), claims(X[:10]), tmp_path / "out", id_column="claim_id")
    with pytest.raises(ValueError, match="holds another job: its source"):
        explain_dataset(table_model(), claims(X[:11]), tmp_path / "out", id_column="claim_id")
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    other = Converter(net, input_dim=(4,), input_names=FEATURES, output_names=["low", "middle", "high"])
    with pytest.raises(ValueError, match="holds another job: its model"):
        explain_dataset(other, claims(X[:10]), tmp_path / "out", id_column="claim_id")


def test_a_folder_of_other_things(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"holds 'thesis\.tex' and no manifest"):
        explain_dataset(table_model(), claims(X[:10]), tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_two_runs_do_not_write_at_once(tmp_path):
    with Folder(tmp_path / "out").locked(), pytest.raises(ValueError, match="another run is writing"):
        explain_dataset(table_model(), claims(X[:10]), tmp_path / "out")


def test_a_seed_that_nobody_gave_is_kept(tmp_path, monkeypatch):
    """A job that goes on draws what it would have drawn."""
    call = {"method": "smoothgrad", "id_column": "claim_id", "output_idx": 0, "n": 3, "rows_per_part": 10}
    whole = explain_dataset(table_model(), claims(X[:20]), tmp_path / "out", **call)
    lines, seed = lines_of(whole), json.loads((tmp_path / "out" / "_manifest.json").read_text())["seed"]
    (tmp_path / "out" / "part-00000001.parquet").unlink()
    assert_same_lines(lines_of(explain_dataset(table_model(), claims(X[:20]), tmp_path / "out", **call)), lines)
    same = explain_dataset(table_model(), claims(X[:20]), tmp_path / "same", seed=seed, **call)
    assert_same_lines(lines_of(same), lines)


# -- threads -----------------------------------------------------------------------------------------------------------


def test_rows_are_read_while_others_are_explained(source, tmp_path, plain, monkeypatch):
    """Those of the next part, by a thread of its own; an iterator is asked for more when what it gave is explained."""
    events, explain, read, begun = [], Job.explain, Fragments.read, threading.Event()
    monkeypatch.setattr(BatchExplainer, "takes_threads", False)

    def waits(self, reading):
        if reading.unit.start == 0 and self.source.again:
            assert begun.wait(60)
        events.append(("explained", reading.unit.start))
        return explain(self, reading)

    def tells(self, start, *rest):
        if start == CALL["rows_per_part"]:
            begun.set()
        return read(self, start, *rest)

    def given(start):
        events.append(("given", start))
        return claims(X).slice(start, CALL["rows_per_part"])

    monkeypatch.setattr(Job, "explain", waits)
    monkeypatch.setattr(Fragments, "read", tells)
    assert_plain_answer(explain_dataset(table_model(), source, tmp_path / "out", **CALL), NAMES, plain)
    events.clear()
    starts = range(0, len(X), CALL["rows_per_part"])
    explain_dataset(table_model(), map(given, starts), tmp_path / "streamed", **CALL)
    assert events == [(what, start) for start in starts for what in ("given", "explained")]


@pytest.fixture
def one_thread():
    """Let torch have one thread, whatever this machine has."""
    yield from _with_threads(1)


@pytest.fixture
def three_threads():
    """Let torch have three threads, whatever this machine has."""
    yield from _with_threads(3)


def _with_threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_one_thread_explains_on_while_a_part_is_written(source, tmp_path, plain, monkeypatch):
    write, explain, begun = Folder.write_part, Job.explain, threading.Event()

    def waits(self, table, part):
        if part.number == 0:
            assert begun.wait(60)
        write(self, table, part)

    def tells(self, reading):
        if reading.unit.number == 1:
            begun.set()
        return explain(self, reading)

    monkeypatch.setattr(Folder, "write_part", waits)
    monkeypatch.setattr(Job, "explain", tells)
    assert_plain_answer(explain_dataset(table_model(), source, tmp_path / "out", **CALL), NAMES, plain)


@pytest.mark.usefixtures("one_thread")
def test_what_a_slow_iterator_gave_is_written_while_it_is_waited_for(tmp_path, plain):
    folder = Folder(tmp_path / "out")

    def slow():
        size = CALL["rows_per_part"]
        for number in range(-(-len(X) // size)):
            deadline = time.monotonic() + 60
            while len(folder.numbers()) < number:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield claims(X).slice(number * size, size)

    assert_plain_answer(explain_dataset(table_model(), slow(), folder.path, **CALL), NAMES, plain)


@pytest.mark.usefixtures("three_threads")
def test_threads_make_the_same_parts(source, tmp_path, plain):
    """Several at once, from rows that one of them reads; and all is left as it was."""
    filters, shown = list(warnings.filters), warnings.showwarning
    explained = explain_dataset(table_model(), source, tmp_path / "out", **CALL)
    assert_plain_answer(explained, NAMES, plain)
    assert torch.get_num_threads() == 3
    assert (warnings.filters, warnings.showwarning) == (filters, shown)
    frames = iter(claims(X).to_batches(70))
    streamed = explain_dataset(table_model(), frames, tmp_path / "streamed", **CALL)
    assert_same_lines(lines_of(streamed), lines_of(explained))


def test_the_cache_of_the_system_forgets_parts(tmp_path, monkeypatch):
    """What is on the disk, and not before, takes no memory of the machine; systems that do not listen may."""
    calls = []

    def forgets(*arguments):
        calls.append("forget")
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", lambda *_: calls.append("sync"))
    monkeypatch.setattr(os, "posix_fadvise", forgets, raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    Folder(tmp_path).write_part(pa.table({"id": ["a"]}), Part(0, 1, 0))
    assert calls == ["sync", "forget"]
    assert Folder(tmp_path).parts() == {0: Part(0, 1, 0)}


@pytest.mark.usefixtures("three_threads")
def test_a_thread_that_fails_ends_the_run(source, tmp_path, plain, monkeypatch):
    """Others end with the batch that they are at, and the next call does the rest."""
    write = Folder.write_part

    def fails(self, table, part):
        if part.number == 4:
            raise OSError(28, "No space left on device")
        write(self, table, part)

    monkeypatch.setattr(Folder, "write_part", fails)
    with pytest.raises(OSError, match="No space left"):
        explain_dataset(table_model(), source, tmp_path / "out", **CALL)
    assert torch.get_num_threads() == 3
    assert 4 <= len(list((tmp_path / "out").glob("part-*"))) <= 4 + MOST_PARTS
    monkeypatch.undo()
    assert_plain_answer(explain_dataset(table_model(), source, tmp_path / "out", **CALL), NAMES, plain)


@pytest.mark.usefixtures("three_threads")
def test_what_threads_warn_of_is_said_once(source, tmp_path, monkeypatch):
    from innsight_py.datasets import batches

    plain = batches.RUNNERS["deeplift"]

    def warns(converter, data, **arguments):
        warnings.warn(f"{len(data)} rows are odd", UserWarning, stacklevel=1)
        return plain(converter, data, **arguments)

    monkeypatch.setitem(batches.RUNNERS, "deeplift", warns)
    with pytest.warns(UserWarning, match="rows are odd") as caught:
        explain_dataset(table_model(), source, tmp_path / "out", **CALL)
    assert len(caught) == 1
