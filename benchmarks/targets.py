"""What the measured ratios are meant to be, and whether they are: ``python benchmarks/targets.py``.

With ``--readme`` the page ``results/README.md`` is written anew from the results.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class Target:
    """A ratio of two times and its bound, for some networks, rows (0: any) and outputs (0: any)."""

    of: str
    over: str
    bound: float
    networks: tuple[str, ...]
    rows: int = 0
    outputs: int = 0
    at_least: bool = False


CNNS = ("cnn32", "cnn64", "cnn224", "resnet18")
ALL = ("mlp", *CNNS)
MEANS = ("intgrad", "smoothgrad", "expgrad")
TARGETS = [
    Target("captum deeplift", "ours deeplift", 15, ("mlp",), outputs=10, at_least=True),
    Target("captum deeplift", "ours deeplift", 6, ("cnn32",), outputs=10, at_least=True),
    Target("captum deeplift", "ours deeplift", 4, ("cnn64", "resnet18"), outputs=10, at_least=True),
    Target("ours deeplift", "floor", 1.3, CNNS, outputs=10),
    Target("ours deeplift", "floor", 1.0, ("mlp",), outputs=10),
    Target("ours gradient", "floor", 1.15, ALL, outputs=1),
    Target("ours gradient", "floor", 1.0, ALL, outputs=10),
    *(Target(f"ours {name}", "n gradients", 1.15, ALL) for name in MEANS),
    *(Target(f"captum {name}", f"ours {name}", 1.0, ALL, at_least=True) for name in MEANS),
    *(Target(f"{other} deepshap", "ours deepshap", 4, ALL, at_least=True) for other in ("captum", "shap")),
]  # fmt: skip


def _pick(table: pd.DataFrame, target: Target) -> pd.DataFrame:
    of = table["time of"].str.partition("@")[0]
    chosen = (of == target.of) & (table["over"] == target.over) & table["network"].isin(target.networks)
    for column in ("rows", "outputs"):
        wanted = getattr(target, column)
        chosen &= (table[column] == wanted) if wanted else True
    return table[chosen]


def _lines(table: pd.DataFrame) -> Iterator[tuple[pd.Series, float, bool]]:
    """Yield measurements with their bounds, and whether these are the least that is asked."""
    for target in TARGETS:
        for _, line in _pick(table, target).iterrows():
            yield line, target.bound, target.at_least
    where = ["network", "rows", "outputs"]
    forwards = table[table["time of"] == "forward"].set_index(where)["median"]
    for _, line in _pick(table, Target("ours lrp-epsilon", "floor", 0, ALL)).iterrows():
        yield line, 1.2 + forwards[tuple(line[where])], False  # 1.2 times the floor, plus one forward pass
    for _, line in _pick(table, Target("ours lrp-alpha-beta", "floor", 0, ALL)).iterrows():
        yield line, 1.2 * line["operations"], False  # what the count of products says, plus 20 %


def judge(table: pd.DataFrame) -> pd.DataFrame:
    """Compare a table of ratios with what was asked."""
    lines = []
    for line, bound, at_least in _lines(table):
        reached = line["median"]
        lines.append({
            "network": line["network"], "rows": line["rows"], "outputs": line["outputs"], "time of": line["time of"],
            "over": line["over"], "asked": f"{'at least' if at_least else 'at most'} {bound:.2f}", "median": reached,
            "met": "yes" if (reached >= bound if at_least else reached <= bound) else "**no**",
        })  # fmt: skip
    return pd.DataFrame(lines)


#: What the summary shows: what is compared, two calls, and the networks, rows and outputs.
SHOWN = [
    ("DeepLift: captum over ours", "captum deeplift", "ours deeplift",
     [("mlp", 16, 10), ("cnn32", 16, 10), ("cnn64", 16, 10), ("resnet18", 4, 10)]),
    ("DeepLift: ours over the floor", "ours deeplift", "floor",
     [("mlp", 16, 10), ("cnn32", 16, 10), ("cnn224", 2, 10), ("resnet18", 4, 10)]),
    ("gradient: ours over the floor", "ours gradient", "floor",
     [("mlp", 16, 1), ("cnn64", 16, 1), ("cnn64", 16, 10), ("resnet18", 4, 10)]),
    ("integrated gradients: captum in its best batch over ours", "captum intgrad", "ours intgrad",
     [("mlp", 16, 10), ("cnn32", 16, 1), ("cnn64", 4, 1)]),
    ("LRP epsilon: zennit over ours", "zennit lrp-epsilon", "ours lrp-epsilon",
     [("mlp", 16, 10), ("cnn32", 16, 10), ("cnn64", 16, 10)]),
    ("DeepSHAP, 10 references: captum over ours", "captum deepshap", "ours deepshap",
     [("mlp", 16, 10), ("cnn32", 16, 1), ("cnn64", 4, 1)]),
    ("DeepSHAP, 10 references: shap over ours", "shap deepshap", "ours deepshap",
     [("mlp", 16, 10), ("cnn32", 16, 1), ("cnn64", 4, 1)]),
]  # fmt: skip
NAMES = {"mlp": "MLP", "resnet18": "ResNet-18, 64 px"}
RESULTS = Path(__file__).parent / "results"


def summary_table(results: Path = RESULTS) -> str:
    """Write the table of the summary from the results of one thread and of two."""
    tables = [pd.read_csv(results / f"ratios_{threads}.csv") for threads in (1, 2)]
    lines = [
        "| time of a whole call | network | rows | outputs | one thread | two threads |",
        "|---|---|---|---|---|---|",
    ]
    for text, of, over, settings in SHOWN:
        for network, rows, outputs in settings:
            picked = [_pick(table, Target(of, over, 0, (network,), rows, outputs)) for table in tables]
            ratios = " | ".join(_short(line["median"].item()) if len(line) else "not measured" for line in picked)
            shown = NAMES.get(network, network.upper().replace("CNN", "CNN, ") + " px")
            lines.append(f"| {text} | {shown} | {rows} | {outputs} | {ratios} |")
    return "\n".join(lines)


def _short(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2f}" if ratio < 2 else f"{ratio:.1f}"


def main() -> None:
    """Print what was asked and reached, and write the page if that is wanted."""
    for path in sorted(RESULTS.glob("ratios_*.csv")):
        judged = judge(pd.read_csv(path))
        sys.stdout.write(f"{path.name}\n{judged.to_string()}\n{(judged['met'] == 'yes').sum()} of {len(judged)} met\n")
    if "--readme" in sys.argv:
        import page

        page.write()


if __name__ == "__main__":
    main()
