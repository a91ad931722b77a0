"""Large networks: ``nox -s benchmark -- --large``, or ``python benchmarks/large.py`` with the cells that you name.

A cell is a network, a method and a number of outputs. It is compared with the floor
(a forward pass, and a ``torch.autograd.grad`` for each output), and with captum and zennit where they run, in rounds,
by the time of all processor threads: what else runs on the machine makes that longer, too, but less than the time on
the wall. The peak of memory is counted from torch's own allocations, so it is the same on every machine; weights are
not in it.
``--minutes 8`` measures what fits: one output comes before ten, and cells that are left out stay as they were.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import math
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import engines
import large_models
import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from innsight_py import Converter, run_deeplift, run_grad, run_intgrad, run_lrp

RESULTS = Path(__file__).parent / "results"
NETWORKS = ("resnet50", "vit", "bert")
METHODS = ("gradient", "deeplift", "lrp-epsilon", "lrp-epsilon_plus", "lrp-attnlrp", "intgrad")
STEPS = 20
#: What is asked: the most that a method may take of the floor.
ASKED = {"gradient": 1.3, "deeplift": 1.6, "lrp-epsilon": 1.3}
Call = Callable[[], object]


def peak(call: Call) -> int:
    """Run a call and return the most bytes that torch held for it at one time."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with profile(activities=activities, profile_memory=True) as seen:
        result = call()
    held = most = 0
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    del result
    return most


def ours(converter: Converter, x: torch.Tensor, method: str, outputs: int) -> Call:
    """Our whole call, checks and result included, for the first outputs."""
    nodes = {"output_idx": list(range(outputs)), "verbose": False}
    if method == "gradient":
        return lambda: run_grad(converter, x, **nodes)
    if method == "deeplift":
        return lambda: run_deeplift(converter, x, ignore_last_act=False, **nodes)
    if method == "intgrad":
        return lambda: run_intgrad(converter, x, n=STEPS, **nodes)
    rule = method.removeprefix("lrp-")
    own = {} if rule != "epsilon" else {"rule_param": 1e-4}
    return lambda: run_lrp(converter, x, rule_name=rule, **own, **nodes)


def floor(model: torch.nn.Module, x: torch.Tensor, outputs: int, method: str) -> Call:
    """Return the floor of a method: of integrated gradients that of so many gradients, one point at a time."""
    one = engines.floor(model, x, outputs)
    if method != "intgrad":
        return one
    return lambda: [one() for _ in range(STEPS)]


def captum(model: torch.nn.Module, x: torch.Tensor, outputs: int, method: str) -> Call:
    """Return the same by captum; what it has no rule for is refused with the reason."""
    from captum import attr

    zero = torch.zeros_like(x[:1])
    if method == "gradient":
        return engines.captum(model, x, outputs, method)
    if method == "deeplift":
        lift = attr.DeepLift(model)
        return lambda: [lift.attribute(x, baselines=zero, target=k).detach() for k in range(outputs)]
    if method == "intgrad":
        path = attr.IntegratedGradients(model)
        one = {"n_steps": STEPS, "method": "riemann_right", "internal_batch_size": 1}
        return lambda: [path.attribute(x, baselines=zero, target=k, **one).detach() for k in range(outputs)]
    if method == "lrp-epsilon":  # on a copy, since where it fails its hooks stay
        return engines.captum(copy.deepcopy(model), x, outputs, method)
    raise NotImplementedError("has no such rule")


def zennit(model: torch.nn.Module, x: torch.Tensor, outputs: int, method: str) -> Call:
    """Return the same by zennit; what it has no rule for is refused with the reason."""
    if importlib.util.find_spec("zennit") is None:
        raise NotImplementedError("is not installed")
    model = copy.deepcopy(model)
    if method == "lrp-attnlrp":
        raise NotImplementedError("has no such rule")
    if any(type(part).__name__ == "Attention" for part in model.modules()):
        raise NotImplementedError("has no rule for attention")
    if method == "lrp-epsilon":
        call = engines.zennit(model, x, outputs, method)
        assert call is not None
        return call
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlus

    def run() -> list[torch.Tensor]:
        with Gradient(model, EpsilonPlus()) as attributor:
            return [attributor(x, torch.eye(outputs)[[k]])[1] for k in range(outputs)]

    return run


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


def measure(network: Network, method: str, outputs: int, rounds: int) -> dict[str, object]:
    """Measure a cell: a method with a number of outputs."""
    model, x, slow = network.model, network.x, method == "intgrad" or outputs > 1
    rounds = 1 if slow else rounds
    line: dict[str, object] = {"network": network.name, "method": method, "outputs": outputs, "rounds": rounds}
    calls = {"floor": floor(model, x, outputs, method), "ours": ours(network.converter, x, method, outputs)}
    try:  # the peak is that of one gradient; these runs are the first, and their times do not count
        peaks = {"floor": peak(floor(model, x, outputs, "gradient")), "ours": peak(calls["ours"])}
    except (ValueError, NotImplementedError) as error:
        return line | {"remark": str(error).splitlines()[0][:80]}
    remarks = []
    others = {"captum": captum, "zennit": zennit} if method.startswith("lrp-") else {"captum": captum}
    for name, make in others.items():
        try:
            calls[name] = make(model, x, outputs, method)
            if not slow:
                calls[name]()
        except Exception as error:
            calls.pop(name, None)
            remarks.append(f"{name}: {str(error).splitlines()[0][:60]}")
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in list(calls.items()):
            try:
                times[name].append(seconds(call))
            except Exception as error:
                if name not in others:
                    raise
                del calls[name], times[name]
                remarks.append(f"{name}: {str(error).splitlines()[0][:60]}")
    over = [a / b for a, b in zip(times["ours"], times["floor"], strict=True)]
    line |= {
        "ours over floor": statistics.median(over), "lowest": min(over), "highest": max(over),
        "asked": ASKED.get(method), "seconds": statistics.median(times["ours"]),
        "MiB": peaks["ours"] / 2**20, "MiB over floor": peaks["ours"] / peaks["floor"],
    }  # fmt: skip
    for name in ("captum", "zennit"):
        if name in times:
            ratios = (a / b for a, b in zip(times[name], times["ours"], strict=True))
            line[f"{name} over ours"] = statistics.median(ratios)
    return line | {"remark": "; ".join(remarks)}


def machine(threads: int) -> str:
    """Describe the machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{cpu}, {threads} thread(s); Python {platform.python_version()}, torch {torch.__version__}"


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Measure cells, print them, and write `results/large.csv` and `results/large.md` with those asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--outputs", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="no new cell is begun after so many")
    parser.add_argument("--small", action="store_true", help="a dry run with small networks, which writes nothing")
    parser.add_argument("--note", default="", help="what else the table should say of the machine")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    lines: list[dict[str, object]] = []
    networks: dict[str, Network] = {}
    end = time.monotonic() + 60 * options.minutes
    for outputs in options.outputs:
        for name in options.networks:
            if name not in networks:
                networks[name] = Network(name, max(options.outputs), options.small)
            for method in options.methods:
                if time.monotonic() > end:
                    continue
                lines.append(measure(networks[name], method, outputs, options.rounds))
                print(lines[-1], flush=True)
                if not options.small:
                    write(pd.DataFrame(lines), options.threads, options.note)
    return pd.DataFrame(lines)


def write(table: pd.DataFrame, threads: int, note: str) -> None:
    """Write the table; cells that were not measured now stay as they were."""
    path = RESULTS / "large.csv"
    keys = ["network", "method", "outputs"]
    if path.exists():
        table = pd.concat([pd.read_csv(path), table], ignore_index=True).drop_duplicates(keys, keep="last")
    table = table.sort_values(keys).reset_index(drop=True).astype({"asked": float})
    table.to_csv(path, index=False)
    table = table[[*(name for name in table if name != "remark"), "remark"]]
    met = (table["ours over floor"] <= table["asked"]).map({True: "yes", False: "**no**"})
    table.insert(len(keys), "met", met.where(table["asked"].notna(), ""))
    shown = table.map(lambda v: "" if v is None or v != v else f"{v:.2f}" if isinstance(v, float) else str(v))
    head = ["| " + " | ".join(shown.columns) + " |", "|" + "---|" * len(shown.columns)]
    body = ["| " + " | ".join(line) + " |" for line in shown.to_numpy().tolist()]
    text = [
        "# Large networks", "",
        "`nox -s benchmark -- --large` makes this page (`benchmarks/large.py`).",
        "Random weights, one row. Ratios are of processor time in the same round; memory is the peak of one call.",
        "Integrated gradients take 20 steps.", "",
        f"{machine(threads)}. {note}".strip(), "",
    ]  # fmt: skip
    (RESULTS / "large.md").write_text("\n".join([*text, *head, *body]) + "\n")


if __name__ == "__main__":
    main()
