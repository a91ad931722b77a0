"""Answers and speed on a graphics card: ``python benchmarks/gpu.py``, in some minutes.

It compares every method on the card with the CPU (in single precision, at most 1e-4 of the largest value apart),
times it against captum and the floor, in the layout of the model and with channels last, and says how much memory it
takes. ``--device cpu --small`` is a dry run. So far it has been run on no card, so nothing is claimed.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
import warnings
from collections.abc import Callable

import engines
import large
import large_calls
import large_models
import machine
import pandas as pd
import torch

from innsight_py import Converter

#: How far an answer of the card may be from that of the CPU, as a part of the largest value.
TOLERANCE = 1e-4
METHODS = {"resnet50": large.METHODS, "bert": ("gradient", "deeplift", "lrp-attnlrp", "intgrad")}


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference as a part of the largest value."""
    return float((found.cpu() - expected).abs().max() / expected.abs().max())


def seconds(call: Callable[[], object], device: str, rounds: int) -> float:
    """Return the median of the time on the wall; a card is waited for."""
    times = []
    for _ in range(rounds + 1):
        before = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - before)
    return statistics.median(times[1:])  # the first call chooses algorithms


def memory(call: Callable[[], object], device: str) -> float:
    """Return the MiB that a call takes on the card at its peak, above what was there before."""
    if device == "cpu":
        return large_calls.peak(call) / 2**20
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def measure(network: str, device: str, outputs: int, rounds: int, small: bool) -> list[dict[str, object]]:
    """Measure all methods on one network."""
    model, dim = large_models.build(network, outputs, small)
    x = torch.randn(2, *dim, generator=torch.Generator().manual_seed(1))
    here, there = Converter(model, input_dim=dim), Converter(model, input_dim=dim, device=device)
    module, moved = model.to(device), x.to(device)
    lines = []
    for method in METHODS[network]:
        call = large_calls.ours(there, moved, method, outputs)
        apart = distance(call().result[0][0], large_calls.ours(here, x, method, outputs)().result[0][0])  # type: ignore[attr-defined]
        line: dict[str, object] = {
            "network": network, "method": method, "outputs": outputs, "apart": apart, "agrees": apart <= TOLERANCE,
        }  # fmt: skip
        own = seconds(call, device, rounds)
        line |= {"seconds": own, "MiB": memory(call, device)}
        calls = {"floor": large_calls.floor(module, moved, outputs, method)}
        if len(dim) == 3:
            calls["floor, channels last"] = large_calls.floor(*engines.channels_last(module, moved), outputs, method)
        with contextlib.suppress(NotImplementedError):
            calls["captum"] = large_calls.captum(module, moved, outputs, method)
        for name, compared in calls.items():
            try:
                line[f"{name} over ours"] = seconds(compared, device, rounds) / own
            except Exception as error:
                if name != "captum":
                    raise
                print(f"captum cannot explain {network}: {error}", flush=True)
        lines.append(line)
        print(line, flush=True)
    model.to("cpu")
    return lines


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Measure and print; the exit code says whether all answers agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--outputs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="small networks, for a dry run")
    parser.add_argument("--write", action="store_true", help="write results/gpu.csv, for the table of what was asked")
    options = parser.parse_args(arguments)
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error("torch sees no graphics card; --device cpu --small is a dry run")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sums that are not exact, and captum's own
        lines = [
            line
            for network in options.networks
            for line in measure(network, options.device, options.outputs, options.rounds, options.small)
        ]
    table = pd.DataFrame(lines)
    if options.write and options.device != "cpu":
        table.to_csv(machine.RESULTS / "gpu.csv", index=False)
        machine.note("gpu", f"{torch.cuda.get_device_name()}; {machine.describe('captum')}")
    return table


if __name__ == "__main__":
    raise SystemExit(0 if bool(main()["agrees"].all()) else 1)
