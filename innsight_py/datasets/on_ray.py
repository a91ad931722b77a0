"""The engine of many machines: Ray Data, with an actor for each worker that loads the model once."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from innsight_py.datasets.job import Job, Receipt, Unit


class Worker:
    """An actor: it gets units, makes their parts and gives back receipts."""

    def __init__(self, job: bytes, on_gpu: bool) -> None:
        self.job: Job = replace(pickle.loads(job), device="cuda" if on_gpu else None)  # noqa: S301 (our own)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Make the parts of some units."""
        rows = zip(*(batch[name].tolist() for name in _FIELDS), strict=True)
        units = [Unit(number, start, stop, again) for number, start, stop, again in rows]
        receipts = [pickle.dumps(self.job.do(unit)) for unit in units]
        return {"receipt": np.array(receipts, object)}


_FIELDS = ("number", "start", "stop", "again")


def run_ray(job: Job, units: Iterator[Unit], workers: int, gpus_per_worker: float) -> Iterator[Receipt]:
    """Do all units on the cluster of Ray that is there, or on one that is started here."""
    import ray
    import ray.data
    from cloudpickle import dumps

    waiting = list(units)
    if not waiting:
        return
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    context = ray.data.DataContext.get_current()
    shown, context.enable_progress_bars = context.enable_progress_bars, False  # ours counts rows
    try:
        rows = [{name: getattr(unit, name) for name in _FIELDS} for unit in waiting]
        options: dict[str, Any] = {"num_gpus": gpus_per_worker} if gpus_per_worker else {}
        receipts = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Worker, batch_size=1, batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
            fn_constructor_kwargs={"job": dumps(job), "on_gpu": bool(gpus_per_worker)}, **options,
        )  # fmt: skip
        for row in receipts.iter_rows():
            yield pickle.loads(row["receipt"])  # noqa: S301 (our own worker's)
    finally:
        context.enable_progress_bars = shown
        if started:
            ray.shutdown()
