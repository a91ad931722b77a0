"""Side by side with captum, shap, zennit and the floor: ``nox -s benchmark``, or ``python benchmarks/run.py``.

Everything runs in one process, in turn and in rounds, so that what the machine does besides falls on all alike; what is
reported are ratios of times of the same round: minimum, median and maximum. ``benchmarks/results/`` gets the tables, a
picture of how times grow along each axis, and what machine it was.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import engines
import machine
import models
import numpy as np
import page
import pandas as pd
import torch
import with_zennit
from targets import judge
from torch.utils.flop_counter import FlopCounterMode

from innsight_py import Converter, run_deepshap, run_expgrad, run_intgrad, run_smoothgrad

RESULTS = Path(__file__).parent / "results"
Call = Callable[[], object]


@dataclass(frozen=True)
class Setting:
    """A network, and how many rows and outputs of it are explained."""

    network: str
    rows: int
    outputs: int

    @property
    def dim(self) -> tuple[int, ...]:
        """Shape of a row."""
        return (10,) if self.network == "mlp" else (3, self.pixels, self.pixels)

    @property
    def pixels(self) -> int:
        """Height and width of an image."""
        return 64 if self.network == "resnet18" else int(self.network.removeprefix("cnn"))

    def build(self) -> tuple[torch.nn.Module, Converter, torch.Tensor]:
        """Build the network, its conversion, and the rows."""
        torch.manual_seed(0)
        if self.network == "mlp":
            model = models.mlp(self.outputs)
        elif self.network == "resnet18":
            model = models.resnet18(self.outputs)
        else:
            model = models.cnn(self.outputs, self.pixels)
        model = models.frozen(model)
        return model, Converter(model, input_dim=self.dim), models.data(self.rows, self.dim)


SETTINGS = [
    *(Setting("mlp", rows, k) for rows in (16, 1_000, 100_000) for k in (1, 10)),
    Setting("mlp", 16, 100),
    *(Setting("cnn32", 16, k) for k in (1, 10, 100)),
    *(Setting("cnn64", 16, k) for k in (1, 10)),
    *(Setting("cnn224", 2, k) for k in (1, 10)),
    *(Setting("resnet18", 4, k) for k in (1, 10)),
]
PATHS = [Setting("mlp", 16, 10), Setting("cnn32", 16, 1), Setting("cnn64", 4, 1), Setting("cnn32", 4, 10)]


def compare(calls: dict[str, Call], seconds: float, most: int = 25) -> dict[str, list[float]]:
    """Time every call once a round, in an order that changes; at least three rounds, then until the time is up.

    What takes less than two milliseconds is called several times in a row, as timeit does: the mean counts.
    """
    random = np.random.default_rng(0)
    for name, call in list(calls.items()):
        try:
            call()
        except RuntimeError as error:
            if name.startswith(("ours", "floor", "forward")):
                raise
            print(f"{name} cannot explain this network: {str(error).splitlines()[0]}", flush=True)
            del calls[name]
    order = list(calls)
    repeats = {name: max(1, round(0.002 / min(once(call), once(call)))) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    while len(times[order[0]]) < 3 or (time.perf_counter() - start < seconds and len(times[order[0]]) < most):
        for name in random.permutation(order):
            times[name].append(once(calls[name], repeats[name]))
    gc.enable()
    return times


def once(call: Call, repeat: int = 1) -> float:
    """Return how many seconds a call takes, on average over some in a row."""
    before = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - before) / repeat


def ratios(times: dict[str, list[float]], of: str, to: str) -> list[float]:
    """Return the ratios of two calls round by round."""
    return [a / b for a, b in zip(times[of], times[to], strict=True)]


def flops(call: Call) -> int:
    """Count floating-point operations."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def per_output(setting: Setting, seconds: float) -> Iterator[dict[str, object]]:
    """Measure the methods that need one pass: the gradient, DeepLift, LRP."""
    model, converter, x = setting.build()
    k = setting.outputs
    calls = {"floor": engines.floor(model, x, k), "forward": engines.forward(model, x)}
    heavy = setting.rows * k > 100_000 or k > 10
    for method in ("gradient", "deeplift", "lrp-epsilon", "lrp-alpha-beta"):
        calls[f"ours {method}"] = engines.ours(converter, x, method)
        if method != "lrp-alpha-beta" and not heavy and not (method == "lrp-epsilon" and setting.network == "resnet18"):
            calls[f"captum {method}"] = engines.captum(model, x, k, method)
        if method.startswith("lrp") and not heavy and setting.network != "resnet18" and with_zennit.there():
            other = with_zennit.explain(model, x, k, method)
            if reason := with_zennit.reason_against(other(), with_zennit.ours(converter, x, k, method)()):
                print(f"zennit {method}: {reason}", flush=True)
            else:
                calls[f"zennit {method}"] = other
    if len(setting.dim) == 3:  # as somebody who knows the machine would run it
        calls["floor, channels last"] = engines.floor(*engines.channels_last(model, x), k)
    times = compare(calls, seconds)
    base = flops(calls["forward"]) * (1 + k)
    for name in times:
        if name.startswith("ours "):
            counted = flops(calls[name]) / base
            yield row(setting, name, "floor", ratios(times, name, "floor"), times, counted)
            if "floor, channels last" in times:
                yield row(setting, name, "floor, channels last", ratios(times, name, "floor, channels last"), times)
            method = name.removeprefix("ours ")
            for engine in ("captum", "zennit"):
                if f"{engine} {method}" in times:
                    yield row(setting, f"{engine} {method}", name, ratios(times, f"{engine} {method}", name), times)
    yield row(setting, "forward", "floor", ratios(times, "forward", "floor"), times)


def paths(setting: Setting, seconds: float) -> Iterator[dict[str, object]]:
    """Measure the methods that average over points, against as many gradients in the best batch."""
    model, converter, x = setting.build()
    references = models.data(50, setting.dim, 1)
    calls: dict[str, Call] = {}
    for method in ("intgrad", "smoothgrad", "expgrad"):
        calls[f"ours {method}"] = engines.ours(converter, x, method, references)
    points = setting.rows * engines.STEPS
    for batch in (1, 4, 16, 64, 256):
        if batch <= points:
            calls[f"gradients {batch}"] = engines.floor(model, models.data(batch, setting.dim, 2), setting.outputs)
    for size in (0, 16, 64, 256):
        calls[f"captum intgrad@{size}"] = engines.captum(model, x, setting.outputs, f"intgrad@{size}")
    for size in (1, 4, 16, 50):
        calls[f"captum smoothgrad@{size}"] = engines.captum(model, x, setting.outputs, f"smoothgrad@{size}")
    calls["captum expgrad"] = engines.captum(model, x, setting.outputs, "expgrad", references)
    times = compare(calls, seconds, most=7)
    each = {name: [t * points / int(name.split()[1]) for t in v] for name, v in times.items() if "gradients" in name}
    best = min(each, key=lambda name: statistics.median(each[name]))
    times["n gradients"] = each[best]
    for method in ("intgrad", "smoothgrad", "expgrad"):
        yield row(setting, f"ours {method}", "n gradients", ratios(times, f"ours {method}", "n gradients"), times)
        others = [name for name in times if name.startswith(f"captum {method}")]
        other = min(others, key=lambda name: statistics.median(times[name]))
        yield row(setting, other, f"ours {method}", ratios(times, other, f"ours {method}"), times)


def references(setting: Setting, seconds: float) -> Iterator[dict[str, object]]:
    """Measure DeepSHAP with ten references against captum and shap."""
    model, converter, x = setting.build()
    some = models.data(engines.REFERENCES, setting.dim, 1)
    calls = {
        "ours deepshap": engines.ours(converter, x, "deepshap", some),
        "captum deepshap": engines.captum(model, x, setting.outputs, "deepshap", some),
        "shap deepshap": engines.shap(model, x, some),
    }
    times = compare(calls, seconds, most=7)
    for other in [name for name in times if not name.startswith("ours")]:
        yield row(setting, other, "ours deepshap", ratios(times, other, "ours deepshap"), times)


def row(
    setting: Setting, of: str, to: str, found: list[float], times: dict[str, list[float]], counted: float | None = None
) -> dict[str, object]:  # fmt: skip
    """Write one line of the table."""
    line = {
        "network": setting.network, "rows": setting.rows, "outputs": setting.outputs, "time of": of, "over": to,
        "minimum": min(found), "median": statistics.median(found), "maximum": max(found), "rounds": len(found),
        "milliseconds": 1000 * statistics.median(times[of]), "operations": counted,
    }  # fmt: skip
    print(f"{setting.network:9}{setting.rows:7} rows{setting.outputs:4} outputs  {of:22} over {to:20} "
          f"{line['median']:8.2f}  ({line['minimum']:.2f} to {line['maximum']:.2f})", flush=True)  # fmt: skip
    return line


# -- growth ----------------------------------------------------------------------------------------------------------


def growth(seconds: float) -> pd.DataFrame:
    """Time ours and captum along the axes of the innsight paper."""
    axes: dict[str, list[tuple[int, torch.nn.Module, torch.Tensor, int]]] = {
        "outputs": [(k, models.mlp(k), models.data(16, (10,)), k) for k in (1, 3, 10, 30, 100)],
        "hidden layers": [(n, models.mlp(10, layers=n), models.data(16, (10,)), 10) for n in (1, 2, 5, 10, 20)],
        "width": [(w, models.mlp(10, width=w), models.data(16, (10,)), 10) for w in (16, 64, 256, 1024)],
        "rows": [(b, models.mlp(10), models.data(b, (10,)), 10) for b in (100, 1_000, 10_000)],
        "pixels": [(p, models.cnn(10, p), models.data(4, (3, p, p)), 10) for p in (16, 32, 64, 128)],
    }
    lines = []
    for axis, points in axes.items():
        for size, built, x, k in points:
            model = models.frozen(built)
            converter = Converter(model, input_dim=tuple(x.shape[1:]))
            calls = {"floor": engines.floor(model, x, k)}
            for method in ("gradient", "deeplift"):
                calls[f"ours {method}"] = engines.ours(converter, x, method)
                if k <= 30:
                    calls[f"captum {method}"] = engines.captum(model, x, k, method)
            times = compare(calls, seconds / 4, most=9)
            lines += [
                {"axis": axis, "size": size, "call": n, "seconds": statistics.median(v)} for n, v in times.items()
            ]
    return pd.DataFrame(lines)


def linear(seconds: float) -> pd.DataFrame:
    """Fit how time grows with rows, outputs and steps over two decades: the exponent is 1 where it is linear."""
    torch.manual_seed(0)
    wide = models.frozen(models.cnn(100, 32))
    converter = Converter(wide, input_dim=(3, 32, 32))
    x = models.data(200, (3, 32, 32))

    def explain(rows: int, n: int) -> object:
        return run_intgrad(converter, x[:rows], n=n, output_idx=[0], verbose=False)

    calls: dict[str, list[tuple[int, Call]]] = {
        "rows": [(n, lambda n=n: explain(rows=n, n=10)) for n in (2, 20, 200)],
        "outputs": [
            (k, lambda k=k: engines.run_deeplift(converter, x[:8], output_idx=list(range(k)), verbose=False))
            for k in (1, 10, 100)
        ],
        "steps": [(n, lambda n=n: explain(rows=4, n=n)) for n in (5, 50, 500)],
    }  # fmt: skip
    lines = []
    for axis, points in calls.items():
        times = compare({str(size): call for size, call in points}, seconds, most=7)
        medians = [statistics.median(times[str(size)]) for size, _ in points]
        exponent = np.polyfit(np.log([size for size, _ in points]), np.log(medians), 1)[0]
        lines.append({"axis": axis, "from": points[0][0], "to": points[-1][0], "exponent": float(exponent)})
        print(f"time grows with {axis} to the power of {exponent:.2f}", flush=True)
    return pd.DataFrame(lines)


def draw(frame: pd.DataFrame, path: Path) -> None:
    """Draw how times grow, an axis a panel."""
    from matplotlib.figure import Figure

    axes = list(dict.fromkeys(frame["axis"]))
    figure = Figure(figsize=(4 * len(axes), 3.6), layout="constrained")
    styles = {"floor": ("black", "--"), "ours": ("tab:blue", "-"), "captum": ("tab:red", "-")}
    for panel, axis in zip(np.ravel(figure.subplots(1, len(axes))), axes, strict=True):
        part = frame[frame["axis"] == axis]
        for name, line in part.groupby("call", sort=False):
            colour, style = styles[str(name).split()[0]]
            marker = "s" if "deeplift" in str(name) else "o"
            panel.loglog(line["size"], 1000 * line["seconds"], style, color=colour, marker=marker, label=name, ms=4)
        sizes = sorted(set(part["size"]))
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.minorticks_off()
        panel.set_xlabel(axis)
        panel.grid(visible=True, alpha=0.3)
    figure.axes[0].set_ylabel("milliseconds")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    figure.savefig(path, dpi=110)


# -- memory ----------------------------------------------------------------------------------------------------------

#: Measured each in a process of its own: what stays in memory at the most, above what was there before. The networks
#: are the CNN for 64 x 64 pixels and, where there is a table, the MLP.
MEMORY: dict[str, Callable[[Converter, torch.Tensor], object]] = {
    "one gradient": lambda c, x: engines.run_grad(c, x[:1], output_idx=[0], verbose=False),
    "intgrad, 64 rows, n = 50": lambda c, x: run_intgrad(c, x, n=50, output_idx=[0], verbose=False),
    "intgrad, 64 rows, n = 200": lambda c, x: run_intgrad(c, x, n=200, output_idx=[0], verbose=False),
    "intgrad, 16 rows, n = 50": lambda c, x: run_intgrad(c, x[:16], n=50, output_idx=[0], verbose=False),
    "intgrad, 64 rows, n = 50, batch_size = 2": lambda c, x: run_intgrad(
        c, x, n=50, output_idx=[0], batch_size=2, verbose=False
    ),
    "smoothgrad, 64 rows, n = 50": lambda c, x: run_smoothgrad(c, x, n=50, output_idx=[0], verbose=False),
    "expgrad, 64 rows, n = 50": lambda c, x: run_expgrad(c, x, data_ref=x[:10], n=50, output_idx=[0], verbose=False),
    "deepshap, 64 rows, 10 references": lambda c, x: run_deepshap(c, x, data_ref=x[:10], output_idx=[0], verbose=False),
    "deepshap, 64 rows, 60 references": lambda c, x: run_deepshap(c, x, data_ref=x[:60], output_idx=[0], verbose=False),
    "captum intgrad, 16 rows, n = 50": lambda c, x: engines.captum(
        models.frozen(models.cnn(10, 64)), x[:16], 1, "intgrad"
    )(),
    "deepshap, table of 100000 rows, 100 references, 10 outputs (result: 38 MiB)": lambda c, x: run_deepshap(
        c, x, data_ref=x[:100], verbose=False
    ),
}


def memory_of(case: str) -> dict[str, float]:
    """Run one case in this process and return the memory in MiB and the seconds that it took."""
    rows, setting = (100_000, Setting("mlp", 1, 10)) if "table" in case else (64, Setting("cnn64", 1, 10))
    model, converter, few = setting.build()
    x = models.data(rows, setting.dim)
    engines.run_grad(converter, few, output_idx=[0], verbose=False)
    if "captum" in case:
        engines.captum(model, few, 1, "gradient")()
    gc.collect()
    before, start = most_resident(), time.perf_counter()
    MEMORY[case](converter, x)
    return {"MiB": (most_resident() - before) / 1024, "seconds": time.perf_counter() - start}


def most_resident() -> int:
    """Return the most memory in KiB that this process has held; what getrusage says is its parent's at first."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def memory() -> pd.DataFrame:
    """Measure every case in a process of its own."""
    lines = []
    for case in MEMORY:
        command = [sys.executable, __file__, "--memory-of", case]
        found = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        lines.append({"case": case, **json.loads(found.stdout.strip().splitlines()[-1])})
        print(f"{case:75} {lines[-1]['MiB']:8.0f} MiB {lines[-1]['seconds']:8.1f} s", flush=True)
    return pd.DataFrame(lines)


# -- all of it -------------------------------------------------------------------------------------------------------


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each comparison")
    parser.add_argument("--only", help="settings whose name starts so; their ratios are printed and not written")
    parser.add_argument("--ratios", action="store_true", help="neither growth nor memory, which stay as they were")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        torch.set_num_threads(1)
        print(json.dumps(memory_of(options.memory_of)))
        return
    warnings.simplefilter("ignore")
    RESULTS.mkdir(exist_ok=True)
    for threads in options.threads:
        torch.set_num_threads(threads)
        lines: list[dict[str, object]] = []
        for settings, measure in ((SETTINGS, per_output), (PATHS, paths), (PATHS, references)):
            for setting in settings:
                if not options.only or setting.network.startswith(options.only):
                    lines += measure(setting, options.seconds)
        table = pd.DataFrame(lines)
        if options.only:
            print(judge(table).to_string())
        else:
            table.to_csv(RESULTS / f"ratios_{threads}.csv", index=False)
            machine.note("ratios", machine.describe("captum", "shap", *(["zennit"] if with_zennit.there() else [])))
    if not options.only and not options.ratios:
        torch.set_num_threads(options.threads[0])
        grown = growth(options.seconds)
        grown.to_csv(RESULTS / "growth.csv", index=False)
        draw(grown, RESULTS / "growth.png")
        linear(options.seconds).to_csv(RESULTS / "exponents.csv", index=False)
        memory().to_csv(RESULTS / "memory.csv", index=False)
    if not options.only:
        page.write()


if __name__ == "__main__":
    main()
