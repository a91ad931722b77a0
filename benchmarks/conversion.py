"""What a conversion costs beside ``torch.export.export`` alone, over the networks of `zoo`.

``python -m benchmarks.conversion`` measures each in a fresh process of its own, where the first export also pays for
what torch builds at its first export. With ``--warm`` a small network is exported and converted before. Times are those
of the processor, so that other load on the machine matters little; ``OMP_NUM_THREADS=1`` makes them comparable.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.zoo import ZOO, build
from innsight_py import Converter


def seconds(call: Callable[[], object]) -> float:
    """Measure the time of the processor that a call takes."""
    start = time.process_time()
    call()
    return time.process_time() - start


def once(name: str, which: str, warm: bool) -> float:
    """Measure one export or one conversion."""
    if warm:
        small, dim = build("perceptron")
        Converter(small, input_dim=dim)
    model, dim = build(name)
    calls = {
        "export": lambda: torch.export.export(model, (torch.zeros(1, *dim),), strict=False),
        "convert": lambda: Converter(model, input_dim=dim),
    }
    return seconds(calls[which])


def in_a_process(name: str, which: str, warm: bool) -> float:
    """Measure in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.conversion", name, "--one", which, *["--warm"] * warm]
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure all networks, or one in this process, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", help="names in the zoo; default: all")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--warm", action="store_true", help="not the first export of the process")
    parser.add_argument("--one", choices=("export", "convert"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(once(arguments.networks[0], arguments.one, arguments.warm)))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; seconds of the processor, medians")
    ratios = []
    for name in arguments.networks or ZOO:
        pairs = [
            [in_a_process(name, which, arguments.warm) for which in ("export", "convert")]
            for _ in range(arguments.runs)
        ]
        ratios.append(statistics.median(convert / export for export, convert in pairs))
        export, convert = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{name:20} export {export:6.2f}  convert {convert:6.2f}  ratio {ratios[-1]:5.2f}", flush=True)
    print(f"median {statistics.median(ratios):.2f}, worst {max(ratios):.2f}")


if __name__ == "__main__":
    main()
