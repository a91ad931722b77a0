"""The engine of one machine: this process, or some worker processes."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import replace
from threading import Event, Semaphore
from typing import Any

import torch

from innsight_py._errors import see
from innsight_py.datasets.arrow import require
from innsight_py.datasets.job import Job, Reading, Receipt, Unit

#: A part that has killed this many workers is given up.
MOST_DEATHS = 3
#: The most parts that the threads of one process make at once.
MOST_PARTS = 3
#: As many are in memory at least (read, explained, written); with more threads one more than are made.
HELD = 3
#: Bytes of a block whose end makes the C library keep memory, twice as much in each thread.
LESSON = 10 * 2**20
#: The job of this worker process.
_job: list[Job] = []


def run_local(job: Job, units: Iterator[Unit], workers: int, gpus_per_worker: float) -> Iterator[Receipt]:
    """Do all units, here or in worker processes, and give a receipt for each in the order in which they are done."""
    if workers == 1:
        job, threads = replace(job, device="cuda" if gpus_per_worker else None), torch.get_num_threads()
        if gpus_per_worker or not job.explainer.takes_threads:
            yield from _here(job, units)
        else:
            yield from _in_threads(job, units, threads)
        return
    require("loky")
    yield from _in_processes(job, units, workers, gpus_per_worker)


def _here(job: Job, units: Iterator[Unit]) -> Iterator[Receipt]:
    """Explain in this process, while other threads read the part after, and shape and write the part before."""
    with ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(1) as reader:
        writing: Future[Receipt] | None = None
        readings = (reader.submit(job.read, unit) for unit in units)
        # An iterator may be slow, or end with an error: what it has given is explained first.
        for reading in _ahead(readings) if job.source.again else readings:
            done = job.explain(reading.result())
            if writing is not None:
                yield writing.result()
            writing = writer.submit(job.finish, done)
        if writing is not None:
            yield writing.result()


def _ahead(begun: Iterator[Future[Reading]]) -> Iterator[Future[Reading]]:
    """Give what was begun one by one, when the next one is begun."""
    before: Future[Reading] | None = None
    for one in begun:
        if before is not None:
            yield before
        before = one
    if before is not None:
        yield before


def _in_threads(job: Job, units: Iterator[Unit], threads: int) -> Iterator[Receipt]:
    """Make a part in each of some threads, which is quicker for tables than all threads at one product of matrices.

    Rows are read here, a part ahead. Receipts come in the order of the parts.
    """
    count, stop, running = min(threads, MOST_PARTS), Event(), deque[Future[Receipt]]()
    held = max(HELD, count + 1)
    job, pool, turns = replace(job, stop=stop), ThreadPoolExecutor(held), Semaphore(count)
    # One thread goes on to the next part while what it explained is written. Several have no time between them for
    # that, but while the disk is waited for.
    make = _explained_in_turn if count == 1 else _made_in_turn
    _keep_memory()
    try:
        torch.set_num_threads(max(1, threads // count))
        with job.explainer.listening():
            for unit in units:
                running.append(pool.submit(make, job, job.read(unit), turns))
                if len(running) >= held:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _keep_memory() -> None:
    """Let threads keep the memory of a batch for the next one, where the C library is that of Linux.

    It gives back what is free above a bound, and fetches it again page by page, which takes a tenth of the time. That
    bound is twice the largest block that was ever given back, see M_MMAP_THRESHOLD in mallopt(3). So a block is taken,
    never touched, and given back.
    """
    torch.empty(LESSON, dtype=torch.uint8)


def _explained_in_turn(job: Job, reading: Reading, turns: Semaphore) -> Receipt:
    """Explain a part when it is its turn, and write it while the next one is explained."""
    with turns:
        done = job.explain(reading)
    return job.finish(done)


def _made_in_turn(job: Job, reading: Reading, turns: Semaphore) -> Receipt:
    """Make a part when it is its turn, and let the next one begin while the disk is waited for."""
    with ExitStack() as stack:
        stack.enter_context(turns)
        waits = stack.pop_all().close
        stack.callback(waits)
        return replace(job, folder=replace(job.folder, waits=waits)).finish(job.explain(reading))


def _in_processes(job: Job, units: Iterator[Unit], workers: int, gpus_per_worker: float) -> Iterator[Receipt]:
    pool, running, deaths = None, dict[Future[Receipt], Unit](), dict[int, int]()
    waiting, batch_size = list[Unit](), job.explainer.batch_size
    try:
        while True:
            while len(running) < workers + 1:
                unit = waiting.pop() if waiting else next(units, None)
                if unit is None:
                    break
                pool = pool or _pool(job, workers, gpus_per_worker)
                running[pool.submit(_do, replace(unit, batch_size=batch_size))] = unit
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            broken = [future for future in done if isinstance(future.exception(), BrokenProcessPool)]
            for future in done.difference(broken):
                del running[future]
                batch_size = min(batch_size, future.result().batch_size)
                yield future.result()
            if broken:
                lost = list(running.values())
                waiting, running = waiting + lost[::-1], {}
                _count_deaths(deaths, lost[:workers])
                _end(pool)
                pool = None
    finally:
        _end(pool)


def _count_deaths(deaths: dict[int, int], units: list[Unit]) -> None:
    for unit in units:
        deaths[unit.number] = deaths.get(unit.number, 0) + 1
        if deaths[unit.number] >= MOST_DEATHS:
            raise RuntimeError(
                see(
                    "data-sets",
                    f"Worker processes died {MOST_DEATHS} times over the rows {unit.start} to {unit.stop - 1} "
                    "(killed, or out of memory). Try a smaller batch_size or rows_per_part, or fewer workers; the "
                    "next call goes on where this one stopped.",
                )
            )


def _pool(job: Job, workers: int, gpus_per_worker: float) -> Any:
    from loky import ProcessPoolExecutor

    threads = max(1, (os.cpu_count() or 1) // workers)
    environment = {"OMP_NUM_THREADS": str(threads)}
    return ProcessPoolExecutor(
        workers, env=environment, initializer=_begin, initargs=(job, threads, bool(gpus_per_worker))
    )


def _end(pool: Any) -> None:
    """Stop the workers; what they were at is done again another time."""
    if pool is not None:
        pool.shutdown(wait=True, kill_workers=True)


def _begin(job: Job, threads: int, on_gpu: bool) -> None:
    """Get a worker process ready. Ctrl-C is for the process that started it."""
    from loky.backend.context import get_context

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    count = torch.cuda.device_count() if on_gpu else 0
    rank = int(get_context("loky").current_process().name.rpartition("-")[2] or 0)
    _job[:] = [replace(job, device=f"cuda:{rank % count}" if count else None)]


def _do(unit: Unit) -> Receipt:
    return _job[0].do(unit)
