"""How fast data sets are explained, and in how much memory: ``python benchmarks/datasets.py [--rows 10000000]``.

Rows of 20 features are made as they are wanted, explained by DeepLift for one node (K = 1), and written as Parquet,
beside the same method on as many rows in memory, a million in a call, in the same process, afterwards. Nothing is
subtracted: on both sides it is all rows over all seconds. The peak is the most memory that the process held above what
it held with the model loaded. ``--images 5000`` explains a folder of that many images
into dense parts, and draws one of them again. ``--hidden 256`` takes a larger network. ``--write`` writes what was
found, the machine and how busy it was to ``benchmarks/results/datasets.json``; ``nox -s benchmark -- --datasets`` calls
this.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import torch
from PIL import Image
from torch import nn

from innsight_py import Converter, explain_dataset, run_deeplift

FEATURES = 20
#: Rows that are made together, as many as files give, and that the method in memory is timed with.
DRAWN, IN_MEMORY = 16_384, 1_000_000
#: Nodes of each hidden layer.
HIDDEN = 64
RESULTS = Path(__file__).parent / "results" / "datasets.json"


def network(hidden: int = HIDDEN) -> Converter:
    """Build a network for tables as they are in use: two hidden layers."""
    torch.manual_seed(0)
    layers = [nn.Linear(FEATURES, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)]
    return Converter(nn.Sequential(*layers), input_dim=(FEATURES,))


def batches(rows: int) -> Iterator[pa.Table]:
    """Make rows, some at a time: those that were drawn first, moved a little, which takes next to no time."""
    drawn = np.random.default_rng(0).standard_normal((FEATURES, DRAWN), dtype=np.float32)
    for start in range(0, rows, DRAWN):
        x = drawn[:, : min(DRAWN, rows - start)] + np.float32(start / rows)
        ids = np.arange(start, start + x.shape[1])
        yield pa.table({"id": ids} | {f"X{n + 1}": column for n, column in enumerate(x)})


class Peak:
    """Watches how much memory the process holds, above what it held in the beginning."""

    def __init__(self, workers: int = 1) -> None:
        self._process, self._stop, self._workers = psutil.Process(), threading.Event(), workers
        self.first = self.most = self._held()

    def _held(self) -> int:
        # To look for children among all processes takes as much time as to explain some thousand rows.
        children = self._process.children(recursive=True) if self._workers > 1 else []
        return sum(one.memory_info().rss for one in [self._process, *children])

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.most = max(self.most, self._held())

    def __enter__(self) -> Peak:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def mebibytes(self) -> float:
        """The most above the first, in MiB."""
        return (self.most - self.first) / 2**20


def in_memory(converter: Converter, rows: int) -> tuple[float, float]:
    """Return how many rows a second the method explains in memory, and how many a second of CPU.

    A call that is not counted comes first: the stream has its memory by then, too.
    """
    x = np.random.default_rng(1).standard_normal((min(rows, IN_MEMORY), FEATURES), dtype=np.float32)
    calls, start, cpu = math.ceil(rows / len(x)), 0.0, 0.0
    for call in range(calls + 1):
        if call == 1:
            start, cpu = time.perf_counter(), time.process_time()
        run_deeplift(converter, x, x_ref=np.full(FEATURES, 0.1), verbose=False)
    done = calls * len(x)
    return done / (time.perf_counter() - start), done / (time.process_time() - cpu)


def machine(threads: int) -> str:
    """Describe the machine."""
    processor = platform.processor() or platform.machine()
    names = Path("/proc/cpuinfo")
    if names.exists():
        found = [line.partition(": ")[2] for line in names.read_text().splitlines() if line.startswith("model name")]
        processor = found[0] if found else processor
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, pyarrow {pa.__version__}"
    return f"{processor}, {threads} thread(s) of {os.cpu_count()}; {versions}"


def table(rows: int, workers: int, hidden: int, folder: Path) -> dict[str, float]:
    """Explain a table, and return what it took."""
    converter = network(hidden)
    run_deeplift(converter, np.zeros((1000, FEATURES)), x_ref=np.full(FEATURES, 0.1))
    call = {"method": "deeplift", "x_ref": np.full(FEATURES, 0.1), "id_column": "id", "workers": workers}
    explain_dataset(converter, batches(10_000), folder / "warm", verbose=False, **call)
    with Peak(workers) as peak:
        start, cpu = time.perf_counter(), time.process_time()
        explained = explain_dataset(converter, batches(rows), folder / "table", **call)
        seconds, busy = time.perf_counter() - start, time.process_time() - cpu
    assert len(explained) == rows
    plain, of_cpu = in_memory(converter, rows)  # afterwards, as what it took would hide the peak
    return {
        "rows": rows, "workers": workers, "threads": torch.get_num_threads(), "seconds": seconds,
        "rows a second": rows / seconds, "rows a second in memory": plain, "share": rows / seconds / plain,
        "share by seconds of CPU": rows / busy / of_cpu, "peak in MiB": peak.mebibytes,
    }  # fmt: skip


def images(count: int, folder: Path, size: int = 32) -> dict[str, float]:
    """Explain a folder of images, and draw one again."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten()]
    converter = Converter(nn.Sequential(*layers, nn.Linear(16 * 13 * 13, 10)), input_dim=(3, size, size))
    random = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for n in range(count):
        Image.fromarray(random.integers(0, 256, (size, size, 3), np.uint8)).save(folder / "photos" / f"{n:05d}.png")
    with Peak() as peak:
        start = time.perf_counter()
        explained = explain_dataset(converter, folder / "photos", folder / "images", target="predicted")
        seconds = time.perf_counter() - start
    explained.result([f"{count // 2:05d}.png"]).plot().save(folder / "one.png")
    assert (folder / "one.png").stat().st_size > 0
    return {"images": count, "seconds": seconds, "images a second": count / seconds, "peak in MiB": peak.mebibytes}


def main() -> None:
    """Read the arguments, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--images", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=HIDDEN, help="nodes of each of two hidden layers")
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        if chosen.images:
            found = images(chosen.images, folder)
        else:
            found = table(chosen.rows, chosen.workers, chosen.hidden, folder)
    finally:
        shutil.rmtree(folder)
    facts = {name: round(value, 3) for name, value in found.items()}
    print(json.dumps(facts, indent=1))
    if chosen.write:
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        what = "images" if chosen.images else f"table, two hidden layers of {chosen.hidden}"
        what = f"{what}, {torch.get_num_threads()} thread(s)"
        busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
        note = f"{machine(torch.get_num_threads())}; processes at work in the last 1, 5, 15 minutes: {busy}"
        RESULTS.write_text(json.dumps(known | {what: facts | {"machine": note}}, indent=1) + "\n")


if __name__ == "__main__":
    main()
