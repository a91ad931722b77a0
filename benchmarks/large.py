"""Large networks: ``nox -s benchmark -- --large``, or ``python benchmarks/large.py`` with the cells that you name.

A cell is a network, a method and a number of outputs. It is compared with the floor
(a forward pass, and a ``torch.autograd.grad`` for each output), and with captum and zennit where they run, in rounds,
by the time of all processor threads: what else runs on the machine makes that longer, too, but less than the time on
the wall. The peak of memory is counted from torch's own allocations, so it is the same on every machine; weights are
not in it.

All cells take about ten minutes with ``--rounds 1``, and each is written as soon as it is measured.
``--resume`` measures only those that this machine has not measured with this code. ``--minutes 8`` measures what fits:
one output comes before ten, and cells that are left out stay as they were.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import large_models
import large_results
import machine
import pandas as pd
import torch
import with_zennit
from large_calls import STEPS, Call, compared, first_line, floor, ours, peak
from large_results import is_beside_attnlrp

from innsight_py import Converter

RESULTS = Path(__file__).parent / "results"
NETWORKS = ("resnet50", "vit", "bert")
METHODS = ("gradient", "deeplift", "lrp-epsilon", "lrp-epsilon_plus", "lrp-attnlrp", "intgrad")
#: What is asked: the most that a method may take of the floor.
ASKED = {"gradient": 1.3, "deeplift": 1.6, "lrp-epsilon": 1.3}
#: How many of the steps of integrated gradients are timed for the floor, since all are alike.
SAMPLE = 4


def seconds(call: Call) -> float:
    """Return the processor time of a call."""
    before = time.process_time()
    call()
    return time.process_time() - before


class Network:
    """A network, its converter and a row."""

    def __init__(self, name: str, outputs: int, small: bool) -> None:
        self.name = name
        self.model, dim = large_models.build(name, outputs, small)
        before = time.process_time()
        self.converter = Converter(self.model, input_dim=dim)
        print(f"{name}: converted in {time.process_time() - before:.1f} s", file=sys.stderr, flush=True)
        self.x = torch.randn(1, *dim, generator=torch.Generator().manual_seed(1))


def own_times(call: Call, method: str) -> tuple[float, Callable[[], float]]:
    """Return the peak of memory of our call, and what measures its time.

    Integrated gradients take minutes: there the run whose memory is counted is the one that is timed.
    """
    if method != "intgrad":
        return peak(call), lambda: seconds(call)
    taken: list[float] = []
    most = peak(lambda: taken.append(seconds(call)))
    return most, lambda: taken[0]


def measure(network: Network, method: str, outputs: int, rounds: int) -> dict[str, object]:
    """Measure a cell: a method with a number of outputs."""
    model, converter, x, path = network.model, network.converter, network.x, method == "intgrad"
    rounds = 1 if path or outputs > 1 else rounds
    line: dict[str, object] = {"network": network.name, "method": method, "outputs": outputs, "rounds": rounds}
    line["asked"] = ASKED.get(method)
    one = floor(model, x, outputs, "gradient")
    call = ours(converter, x, method, outputs, is_beside_attnlrp(network.name, method))
    try:  # the peak is that of one gradient; but for integrated gradients these runs come first, and do not count
        most, own = own_times(call, method)
    except (ValueError, NotImplementedError) as error:
        line["ours cannot"] = first_line(error)
    others, cannot = compared(model, converter, x, outputs, method)
    line |= {f"{name} cannot": reason for name, reason in cannot.items()}
    if "ours cannot" in line:
        return line
    scale = STEPS / SAMPLE if path else 1
    timed: dict[str, Callable[[], float]] = {
        "floor": lambda: scale * sum(seconds(one) for _ in range(SAMPLE if path else 1)),
        "ours": own,
    }
    if "zennit" in others:
        same = with_zennit.ours(converter, x, outputs, method)
        timed["ours for zennit"] = lambda: seconds(same)
    timed |= {name: lambda call=call: seconds(call) for name, call in others.items()}
    least = peak(one)
    times: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, take in timed.items():
            if f"{name} cannot" not in line:
                try:
                    times[name].append(take())
                except Exception as error:
                    if name not in others:
                        raise
                    line[f"{name} cannot"] = first_line(error)
    over = [a / b for a, b in zip(times["ours"], times["floor"], strict=True)]
    line |= {
        "ours over floor": statistics.median(over), "lowest": min(over), "highest": max(over),
        "seconds": statistics.median(times["ours"]), "MiB": most / 2**20, "MiB over floor": most / least,
    }  # fmt: skip
    for name, own_name in (("captum", "ours"), ("zennit", "ours for zennit")):
        if name in others and f"{name} cannot" not in line:
            ratios = (a / b for a, b in zip(times[name], times[own_name], strict=True))
            line[f"{name} over ours"] = statistics.median(ratios)
    return line


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Measure cells, print them, and write `results/large.csv` and `results/large.md` with those asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--outputs", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--rounds", type=int, default=3, help="of one output; ten, and integrated gradients, take one")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="no new cell is begun after so many")
    parser.add_argument("--resume", action="store_true", help="only cells that this machine and code have not measured")
    parser.add_argument("--small", action="store_true", help="a dry run with small networks, which writes nothing")
    parser.add_argument("--note", default="", help="what else the page should say of the machine")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    where = {"machine": large_results.here(options.threads), "code": large_results.code()}
    known = large_results.measured(RESULTS, options.threads) if options.resume else set()
    lines: list[dict[str, object]] = []
    networks: dict[str, Network] = {}
    begin = time.monotonic()
    for outputs in options.outputs:
        for name in options.networks:
            for method in options.methods:
                if (name, method, outputs) in known or time.monotonic() > begin + 60 * options.minutes:
                    continue
                if name not in networks:
                    networks[name] = Network(name, max(options.outputs), options.small)
                started = time.monotonic()
                lines.append(measure(networks[name], method, outputs, options.rounds) | where)
                print(f"{time.monotonic() - started:.0f} s: {lines[-1]}", flush=True)
                if not options.small:
                    large_results.write(RESULTS, lines, options.note)
                    machine.note("large", machine.describe(), RESULTS)
    return pd.DataFrame(lines)


if __name__ == "__main__":
    main()
