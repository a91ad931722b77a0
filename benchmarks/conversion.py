"""What a conversion costs beside ``torch.export.export`` alone, over the networks of `zoo`.

``python -m benchmarks.conversion`` measures each in a fresh process of its own, where the first export also pays for
what torch builds at its first export, and writes ``results/conversion.csv``. With ``--warm`` the process has exported
another network, a small one, before. Times are those of the processor, so that other load on the machine matters
little, and a process has one thread. The same module is converted twice: the second time should be a look-up. All
networks take two minutes on two cores, and as long again when warm.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.pool import Pool
from pathlib import Path

import pandas as pd
import torch

from benchmarks import machine
from benchmarks.zoo import ZOO, build
from innsight_py import Converter

RESULTS = Path(__file__).parent / "results"
#: What is exported before, where the process is warm.
SMALL = "perceptron"


def seconds(call: Callable[[], object]) -> float:
    """Measure the time of the processor that a call takes."""
    start = time.process_time()
    call()
    return time.process_time() - start


def once(name: str, which: str, warm: bool) -> tuple[float, float]:
    """Measure one export or one conversion, and the same again."""
    torch.set_num_threads(1)
    if warm:
        small, dim = build(SMALL)
        torch.export.export(small, (torch.zeros(1, *dim),), strict=False)
    model, dim = build(name)
    if which == "export":
        return seconds(lambda: torch.export.export(model, (torch.zeros(1, *dim),), strict=False)), 0.0
    kept: list[Converter] = []  # what nobody holds is forgotten
    first = seconds(lambda: kept.append(Converter(model, input_dim=dim)))
    return first, seconds(lambda: kept.append(Converter(model, input_dim=dim)))


def measure(name: str, runs: int, warm: bool, pool: Pool) -> dict[str, object]:
    """Measure a network some times; export and conversion of a pair run at the same time where there are two cores."""
    waiting = [[pool.apply_async(once, (name, which, warm)) for which in ("export", "convert")] for _ in range(runs)]
    pairs = [(export.get()[0], *convert.get()) for export, convert in waiting]
    over = [convert / export for export, convert, _ in pairs]
    export, convert, again = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "network": name, "process": "warm" if warm else "fresh", "export": export, "convert": convert, "again": again,
        "minimum": min(over), "median": statistics.median(over), "maximum": max(over),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all networks, or some; print the ratios, and write those of the whole zoo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help="names in the zoo; default: all")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at the same time")
    parser.add_argument("--warm", action="store_true", help="in processes that have exported before")
    chosen = parser.parse_args(arguments)
    context = multiprocessing.get_context("fork")  # a fresh process that has imported all this already
    print(f"torch {torch.__version__}; seconds of the processor, medians")
    lines = []
    with context.Pool(chosen.jobs, maxtasksperchild=1) as pool:
        for name in chosen.networks or ZOO:
            line = measure(name, chosen.runs, chosen.warm, pool)
            lines.append(line)
            print(f"{name:20} export {line['export']:6.2f}  convert {line['convert']:6.2f}  "
                  f"again {line['again']:7.4f}  ratio {line['median']:5.2f}", flush=True)  # fmt: skip
            if not chosen.networks:
                write(pd.DataFrame(lines))
    table = pd.DataFrame(lines)
    print(f"median {table['median'].median():.2f}, worst {table['median'].max():.2f}")


def write(table: pd.DataFrame) -> None:
    """Write the ratios of the zoo so far; those of the other kind of process stay as they were."""
    path = RESULTS / "conversion.csv"
    if path.exists():
        known = pd.read_csv(path)
        table = pd.concat([known[known["process"] != table["process"].iloc[0]], table], ignore_index=True)
    table.to_csv(path, index=False)
    machine.note("conversion", machine.describe())


if __name__ == "__main__":
    main()
