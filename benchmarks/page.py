"""The page of results, ``results/README.md``, as it follows from the files beside it: ``python benchmarks/page.py``."""

from __future__ import annotations

from pathlib import Path

import asked
import pandas as pd
from machine import RESULTS, known
from targets import judge, summary_table

#: The top of the page, up to the tables of each machine.
SUMMARY = """\
# Benchmarks

`python benchmarks/everything.py` measures all of this, or the parts that you name, and makes this page
(`nox -s benchmark -- --all` does the same). All times are compared with others of the same round, so that other load on
the machine falls on both sides.

## In short

Medians for whole calls, with their checks and results. "The floor" is a plain forward pass and one
`torch.autograd.grad` for each output, on the model as it is.

{short}

A call takes about 0.1 ms for its checks, which shows with a table of a few rows and one output. Memory follows the
chunk, not the number of rows, steps or references.

## What was asked

Ratios are medians. `reached` names the networks where a bound holds for several, and `met` says how many keep it. What
was not measured is not met. [Large networks](large.md) have a page of their own.

{asked}
"""


def summary(results: Path = RESULTS) -> str:
    """Return the top of the page."""
    return SUMMARY.format(short=summary_table(results), asked=asked.table(results))


def markdown(frame: pd.DataFrame) -> str:
    """Write a frame as a table."""
    shown = frame.map(lambda v: "" if v is None or v != v else f"{v:.2f}" if isinstance(v, float) else str(v))
    lines = ["| " + " | ".join(shown.columns) + " |", "|" + "---|" * len(shown.columns)]
    return "\n".join(lines + ["| " + " | ".join(line) + " |" for line in shown.to_numpy().tolist()])


def page(results: Path = RESULTS) -> str:
    """Return the whole page."""
    parts = [summary(results).rstrip("\n")]
    for threads in (1, 2):
        table = pd.read_csv(results / f"ratios_{threads}.csv")
        parts += [f"## {threads} thread(s)", known(results).get("ratios", ""), "What was asked of methods:"]
        parts += [markdown(judge(table)), "All ratios:", markdown(table)]
    parts += ["## Growth", "![Time along each axis](growth.png)", markdown(pd.read_csv(results / "exponents.csv"))]
    parts += ["## Memory", "Peak of resident memory above the start; images of 64 x 64."]
    parts += [markdown(pd.read_csv(results / "memory.csv"))]
    return "\n\n".join(parts) + "\n"


def write(results: Path = RESULTS) -> None:
    """Write the page."""
    (results / "README.md").write_text(page(results))


if __name__ == "__main__":
    write()
