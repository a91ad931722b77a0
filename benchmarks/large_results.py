"""The results of large networks, a line for each cell: ``results/large.csv``, and the page ``results/large.md``.

A cell (network, method, outputs) is written as soon as it is measured, with the machine and with a sum over the code of
the package. So a run that was cut off can go on (``--resume``), and a cell of another machine or of other code is never
taken for one of these.
"""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from pathlib import Path

import machine
import pandas as pd

KEYS = ["network", "method", "outputs"]
NUMBERS = ["ours over floor", "lowest", "highest", "asked", "seconds", "MiB", "MiB over floor",
           "captum over ours", "zennit over ours"]  # fmt: skip
#: Why there is no number: whose call it is, and the reason.
REASONS = ["ours cannot", "captum cannot", "zennit cannot"]
#: Networks with norms and attention, and the methods that have no rule for these: there they are measured otherwise.
TRANSFORMERS, BESIDE_ATTNLRP = ("vit", "bert"), ("lrp-epsilon", "lrp-epsilon_plus")
COLUMNS = [*KEYS, "rounds", *NUMBERS, *REASONS, "machine", "code"]
ROOT = Path(__file__).parents[1]


def here(threads: int) -> str:
    """Describe the machine, the threads, and the versions of what is compared."""
    versions = []
    for name in ("torch", "captum", "zennit"):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    return f"{machine.processor()}, {threads} thread(s); Python {platform.python_version()}, {', '.join(versions)}"


def code() -> str:
    """Return a sum over the code of the package."""
    found = hashlib.sha256()
    for path in sorted(path for room in ("innsight_py", "converters") for path in (ROOT / room).rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:8]


def read(folder: Path) -> pd.DataFrame:
    """Return the cells that were measured."""
    path = folder / "large.csv"
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    table = pd.read_csv(path).reindex(columns=COLUMNS)
    return table.assign(machine=table["machine"].fillna(machine.known(folder).get("large", "not noted")))


def measured(folder: Path, threads: int) -> set[tuple[str, str, int]]:
    """Return the cells that this machine has measured with this code."""
    table = read(folder)
    table = table[(table["machine"] == here(threads)) & (table["code"] == code())]
    return {(network, method, int(outputs)) for network, method, outputs in table[KEYS].itertuples(index=False)}


def write(folder: Path, lines: list[dict[str, object]], note: str = "") -> None:
    """Write cells and the page; those that were not measured now stay as they were."""
    known = read(folder)
    new = pd.DataFrame(lines).reindex(columns=COLUMNS)
    table = new if known.empty else pd.concat([known.astype(object), new.astype(object)], ignore_index=True)
    table = table.drop_duplicates(KEYS, keep="last").sort_values(KEYS).reset_index(drop=True)
    table.to_csv(folder / "large.csv", index=False)
    (folder / "large.md").write_text(page(read(folder), note))


def is_beside_attnlrp(network: str, method: str) -> bool:
    """Tell whether a cell is that of a rule which is not defined for norms and attention, on a network with these."""
    return network in TRANSFORMERS and method in BESIDE_ATTNLRP


#: What the page says of such cells.
OTHERWISE = """\
`lrp-epsilon` and `lrp-epsilon_plus` alone are an error on vit and bert: they are not defined for norms and attention.
Measured there is what their users call instead, with the rules of attnlrp for these layers:
`[("family:dense", rules.epsilon(1e-4)), ("family:convolution", rules.epsilon(1e-4)), *composites.attnlrp()]` and
`[*composites.epsilon_plus(), *composites.attnlrp()]`."""


def page(table: pd.DataFrame, note: str) -> str:
    """Return the page of large networks."""
    machines = list(dict.fromkeys(table["machine"]))
    where = table["machine"].map(lambda text: str(machines.index(text) + 1))
    met = (table["ours over floor"] <= table["asked"]).map({True: "yes", False: "**no**"})
    shown = table.drop(columns=[*REASONS, "machine"]).assign(code=table["code"].fillna(""))
    shown.insert(len(KEYS), "met", met.where(table["asked"].notna(), ""))
    shown["cannot"] = [
        "; ".join(f"{name.split()[0]}: {line[name]}" for name in REASONS if isinstance(line[name], str))
        for line in table.to_dict("records")
    ]
    shown["machine"] = where
    written = shown.map(lambda v: "" if v is None or v != v else f"{v:.2f}" if isinstance(v, float) else str(v))
    head = ["| " + " | ".join(written.columns) + " |", "|" + "---|" * len(written.columns)]
    body = ["| " + " | ".join(line) + " |" for line in written.to_numpy().tolist()]
    measured = table[table["ours over floor"].notna()]
    otherwise = any(map(is_beside_attnlrp, measured["network"], measured["method"]))
    text = [
        "# Large networks", "",
        "`nox -s benchmark -- --large` makes this page (`benchmarks/large.py`).",
        "Random weights, one row. Ratios are of processor time in the same round; memory is the peak of one call.",
        "Integrated gradients take 20 steps: their floor is timed for four of them and scaled, and our call is timed",
        "while its memory is counted, which makes it 2 % slower. `cannot` says why a package has no number. zennit is",
        "compared with ours for zennit's rules (sums in proportion, batch norms merged), and only where both answers",
        "are at most 5 % of the largest value apart.", *([OTHERWISE] if otherwise else []),
        "", *(f"{n}. {text}" for n, text in enumerate(machines, 1)), *([note] if note else []), "",
    ]  # fmt: skip
    return "\n".join([*text, *head, *body]) + "\n"
