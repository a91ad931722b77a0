"""Everything that was asked of speed and memory, what was reached, and on which machine: the table of the results.

Each part of the benchmarks leaves a file in `results/`; this reads them all, and says "not measured" where one lacks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from large_results import is_beside_attnlrp
from machine import RESULTS, known

CNNS = ("cnn32", "cnn64", "cnn224", "resnet18")
#: How many architectures the zoo should have.
ARCHITECTURES = 30


@dataclass(frozen=True)
class Line:
    """What was asked of one thing, the values that were reached, by name, and the machine."""

    bullet: str
    what: str
    bound: float | None
    reached: dict[str, float]
    machine: str
    at_least: bool = False
    text: str = ""
    #: Why a network has no number, by name: it is not kept out of the count.
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def asked(self) -> str:
        """The bound in words."""
        if self.bound is None:
            return ""
        return f"{'at least' if self.at_least else 'at most'} {self.bound:g}"

    @property
    def measured(self) -> str:
        """What was reached: a number, or one a network."""
        parts = [f"{name} {short(value)}".strip() for name, value in self.reached.items()]
        for reason in dict.fromkeys(self.missing.values()):
            parts.append(f"{' and '.join(name for name, why in self.missing.items() if why == reason)} {reason}")
        return self.text or ", ".join(parts) or "not measured"

    @property
    def met(self) -> str:
        """Whether all values keep the bound."""
        if self.bound is None or not self.reached:
            return "" if self.bound is None else "**no**"
        kept = [value >= self.bound if self.at_least else value <= self.bound for value in self.reached.values()]
        kept += [False] * len(self.missing)
        return "yes" if all(kept) else "**no**" if not any(kept) else f"**{sum(kept)} of {len(kept)}**"


def short(value: float) -> str:
    """Write a ratio with as many digits as it has meaning."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def _read(path: Path) -> pd.DataFrame | None:
    return pd.read_csv(path) if path.exists() else None


def _conversion(results: Path, machine: str) -> Iterator[Line]:
    table = _read(results / "conversion.csv")
    # What was asked is about fresh processes; in others the first import of the exporter is not counted.
    named = {"fresh": "fresh process", "warm": "process that has exported before"}
    for process, bounds in (("fresh", (1.5, 2.0)), ("warm", (None, None))):
        part = None if table is None else table[table["process"] == process]
        there = part is not None and len(part) > 0
        text = f"over the export alone, {named[process]}"
        middle = {f"{len(part)} networks:": part["median"].median()} if there else {}
        yield Line("Conversion", f"{text}, the median network", bounds[0], middle, machine)
        worst = part.loc[part["median"].idxmax()] if there else None
        found = {} if worst is None else {worst["network"]: worst["median"]}
        yield Line("Conversion", f"{text}, the worst network", bounds[1], found, machine)
        if process == "fresh":
            yield Line("Conversion", "architectures", ARCHITECTURES, {"": len(part)} if there else {}, machine, True)
            again = (part["again"] / part["export"]).max() if there else None
            found = {} if again is None else {"": again}
            yield Line("Conversion", "the same module again, over its export, the worst network", 0.1, found, machine)


def _common(name: str, bullet: str, asked: dict[str, float]) -> Callable[[Path, str], Iterator[Line]]:
    """Read lines of the form ``what, of or network, over, asked, minimum, median, maximum``."""

    def lines(results: Path, machine: str) -> Iterator[Line]:
        table = _read(results / name)
        if table is not None and "bullet" in table:
            table = table[table["bullet"] == bullet]
        if table is None or not len(table):
            yield from (Line(bullet, what, bound, {}, machine) for what, bound in asked.items())
            return
        middle = "median" if "median" in table else "med"
        of = [column for column in ("of", "network") if column in table]
        for _, line in table.iterrows():
            words = [str(line[column]) for column in ("what", *of) if line[column] == line[column]]
            text = f"{', '.join(words)} over {line['over']}"
            bound = float(line["asked"]) if line["asked"] == line["asked"] else None
            yield Line(bullet, text, bound, {"": float(line[middle])}, machine)

    return lines


def _large(results: Path, machine: str) -> Iterator[Line]:
    table = _read(results / "large.csv")
    cells: dict[tuple[str, str, int], dict[Any, Any]] = {}
    for cell in () if table is None else table.to_dict("records"):
        cells[cell["network"], cell["method"], cell["outputs"]] = cell

    def line(method: str, outputs: int, what: str, bound: float | None, column: str, whose: str) -> Line:
        found, missing = {}, {}
        for network in ("resnet50", "vit", "bert"):
            cell = cells.get((network, method, outputs), {})
            if isinstance(cell.get(column), float) and not math.isnan(cell[column]):
                found[network] = cell[column]
            else:
                reason = cell.get(f"{whose} cannot")
                missing[network] = f"cannot: {reason}" if isinstance(reason, str) else "not measured"
        if not found and set(missing.values()) == {"not measured"}:
            missing = {}
        beside = [name for name in found if is_beside_attnlrp(name, method)]
        there = f" ({' and '.join(beside)} with the rules of attnlrp for norms and attention)" if beside else ""
        text = f"{method}, K = {outputs}: {what}{there}"
        return Line("Large models", text, bound, found, machine if found or missing else "", missing=missing)

    for method, bound in (("gradient", 1.3), ("lrp-epsilon", 1.3), ("deeplift", 1.6), ("lrp-epsilon_plus", None),
                          ("lrp-attnlrp", None), ("intgrad", None)):  # fmt: skip
        for outputs in (1, 10):
            yield line(method, outputs, "time over the floor", bound, "ours over floor", "ours")
            for other in ("captum", "zennit") if method.startswith("lrp") else ("captum",):
                yield line(method, outputs, f"{other}'s time over ours", None, f"{other} over ours", other)
            yield line(method, outputs, "peak of memory over autograd's", 1.5, "MiB over floor", "ours")


def _ratio(
    results: Path, threads: int, of: str, over: str, networks: tuple[str, ...], outputs: int
) -> dict[str, float]:
    table = _read(results / f"ratios_{threads}.csv")
    if table is None:
        return {}
    part = table[(table["time of"] == of) & (table["over"] == over) & (table["outputs"] == outputs)]
    part = part.sort_values("rows").drop_duplicates("network").set_index("network")["median"]
    return {name if len(networks) > 1 else "": part[name] for name in networks if name in part}


def _small_call(results: Path, machine: str) -> Iterator[Line]:
    for threads in (1, 2):
        for method, bound in (("gradient", 1.35), ("lrp-epsilon", 2.35), ("lrp-alpha-beta", 4.0)):
            found = _ratio(results, threads, f"ours {method}", "floor", ("mlp",), 1)
            what = f"{method}, MLP, 16 rows, K = 1, {threads} thread(s): time over the floor"
            yield Line("The small call", what, bound, found, machine)


def _one_output(results: Path, machine: str) -> Iterator[Line]:
    for threads in (1, 2):
        found = _ratio(results, threads, "ours deeplift", "floor", CNNS, 1)
        what = f"DeepLift, K = 1, {threads} thread(s): time over the floor"
        yield Line("One output", what, 1.3, found, machine)


def _processors(results: Path, machine: str) -> Iterator[Line]:
    places = [(results, machine)]
    places += [(path.parent, known(path.parent).get("ratios", "")) for path in
               sorted(results.glob("machines/*/machine.json"))]  # fmt: skip
    for place, name in places:
        for method, outputs, bound in (("deeplift", 10, 1.3), ("deeplift", 1, 1.3), ("gradient", 1, 1.15)):
            found = _ratio(place, 1, f"ours {method}", "floor", ("cnn64",), outputs)
            what = f"{method}, CNN of 64 px, K = {outputs}, one thread: time over the floor"
            yield Line("Other processors", what, bound, found, name)
        found = _ratio(place, 1, "captum deeplift", "ours deeplift", ("cnn64",), 10)
        yield Line("Other processors", "DeepLift, CNN of 64 px, K = 10: captum's time over ours", 4, found, name, True)


def _gpu(results: Path, machine: str) -> Iterator[Line]:
    table = _read(results / "gpu.csv")
    if table is None:
        text = "not run: no card (`python benchmarks/gpu.py --write`)"
        yield Line("GPU", "the CPU's answers, and the time over the floor", 1.3, {}, "", text=text)
        return
    for _, line in table.iterrows():
        what = f"{line['method']}, {line['network']}, K = {line['outputs']}"
        yield Line("GPU", f"{what}: apart from the CPU", 1e-4, {"": line["apart"]}, machine)
        bound = {"gradient": 1.3, "lrp-epsilon": 1.3, "deeplift": 1.6}.get(line["method"])
        yield Line("GPU", f"{what}: time over the floor", bound, {"": 1 / line["floor over ours"]}, machine)


def _datasets(results: Path, machine: str) -> Iterator[Line]:
    path = results / "datasets.json"
    found: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    tables = {name: facts for name, facts in found.items() if "share" in facts}
    for name, facts in tables.items() or [("table", {})]:
        rows = f"{facts['rows']:,.0f} rows, {name}" if facts else "10,000,000 rows"
        where = str(facts.get("machine", machine))
        speed = {"": facts["share"]} if facts else {}
        yield Line("Data sets", f"{rows}: speed over the method's in memory", 0.85, speed, where, True)
        peak = {"": facts["peak in MiB"]} if facts else {}
        yield Line("Data sets", f"{rows}: MiB above the model", 300, peak, where)
        if facts:
            yield Line("Data sets", f"{rows}: rows a second", None, {"": facts["rows a second"]}, where)


#: The parts in the order of the issue: what reads each, and the name that its machine is noted under.
PARTS: list[tuple[Callable[[Path, str], Iterator[Line]], str]] = [
    (_conversion, "conversion"),
    (_common("recurrent.csv", "Recurrent nets", {"conversion over the export": 2.0, "time over the floor": 3.0}),
     "recurrent"),
    (_large, "large"),
    (_common("footprint.csv", "Large models", {"memory at rest over the model's weights": 1.05}), "footprint"),
    (_common("footprint.csv", "Attention", {"peak of memory, 1,024 tokens, K = 10 over K = 1": 1.5}), "footprint"),
    (_small_call, "ratios"),
    (_processors, "ratios"),
    (_common("footprint.csv", "Import", {"importing this over importing torch and pandas": 1.15}), "footprint"),
    (_one_output, "ratios"),
    (_gpu, "gpu"),
    (_common("footprint.csv", "bfloat16 and half", {"memory at rest over the model's weights": 1.05}), "footprint"),
    (_datasets, "datasets"),
]  # fmt: skip


def lines(results: Path = RESULTS) -> list[Line]:
    """Return all lines."""
    machines = known(results)
    return [line for read, name in PARTS for line in read(results, machines.get(name, ""))]


def table(results: Path = RESULTS) -> str:
    """Write all lines as a table, and the machines below it."""
    found = lines(results)
    names = list(dict.fromkeys(line.machine for line in found if line.machine))
    rows = ["| bullet | what | asked | reached | met | machine |", "|---|---|---|---|---|---|"]
    before = ""
    for line in found:
        where = str(names.index(line.machine) + 1) if line.machine else ""
        bullet = line.bullet if line.bullet != before else ""
        before = line.bullet
        rows.append(f"| {bullet} | {line.what} | {line.asked} | {line.measured} | {line.met} | {where} |")
    judged = [line.met for line in found if line.met]
    count = f"{judged.count('yes')} of {len(judged)} are met."
    return "\n".join([count, "", *rows, "", *(f"{n}. {name}" for n, name in enumerate(names, 1))])
