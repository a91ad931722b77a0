"""Writing results and pictures."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from innsight_py.cli.errors import check_parquet
from innsight_py.plots.backends import require_plotly

RESULTS = (".csv", ".parquet", ".json", ".npz")
#: A picture shows each instance if there are at most this many.
SINGLE = 3
#: With these a spreadsheet takes a text for a formula.
_RUN = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"


def check_result(path: str) -> None:
    """Refuse a name before anything is computed.

    Raises
    ------
    ValueError
        If its ending says of no format that can be written.
    ImportError
        If it is a Parquet file and no package writes these.
    """
    if path != "-" and Path(path).suffix.lower() not in RESULTS:
        raise ValueError(f"--result {path}: expected '-' or a name that ends in one of {', '.join(RESULTS)}.")
    if Path(path).suffix.lower() == ".parquet":
        check_parquet()


def write_result(result: Any, path: str) -> None:
    """Write all values: a row for each (.csv, .parquet, .json, ``-`` is CSV to stdout), or arrays (.npz)."""
    if path == "-":
        without_formulas(result.get_result("data.frame")).to_csv(sys.stdout, index=False)
        return
    kind = Path(path).suffix.lower()
    if kind == ".npz":
        np.savez(path, **_flat(result.get_result()))
        return
    frame = result.get_result("data.frame")
    if kind == ".csv":
        without_formulas(frame).to_csv(path, index=False)
    elif kind == ".json":
        frame.to_json(path, orient="records", lines=False)
    else:
        frame.to_parquet(path, index=False)


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """Put an apostrophe before texts that a spreadsheet would run: those that begin with ``=``, ``+``, ``-`` or ``@``.

    Texts that are numbers stay as they are.

    Examples
    --------
    >>> without_formulas(pd.DataFrame({"feature": ["=1+1", "-2", "age"]}))["feature"].tolist()
    ["'=1+1", '-2', 'age']
    """

    def harmless(cell: Any) -> Any:
        runs = isinstance(cell, str) and cell[:1] in _RUN and not re.fullmatch(_NUMBER, cell)
        return f"'{cell}" if runs else cell

    texts = [name for name, column in frame.items() if not pd.api.types.is_numeric_dtype(column)]
    changed = {name: {label: harmless(label) for label in frame[name].unique()} for name in texts}
    return frame.assign(
        **{
            str(name): frame[name].map(labels)
            for name, labels in changed.items()
            if any(k != v for k, v in labels.items())
        }
    )


def _flat(values: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {name or "result": values}
    return {k: x for key, entry in values.items() for k, x in _flat(entry, f"{name}_{key}" if name else key).items()}


def check_picture(path: Path) -> None:
    """Refuse a picture's name before anything is computed.

    Raises
    ------
    ValueError
        If its ending says of no format that can be drawn.
    ImportError
        If the page needs plotly and it is not installed.
    """
    if path.suffix.lower() in (".html", ".htm"):
        require_plotly()
        return
    from matplotlib.figure import Figure

    formats = Figure().canvas.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in formats:
        raise ValueError(f"--plot {path}: expected a name that ends in .html, .{', .'.join(sorted(formats))}.")


def write_picture(result: Any, path: Path, kind: str) -> str:
    """Draw the result, and say what was drawn."""
    interactive = path.suffix.lower() in (".html", ".htm")
    nodes = {} if any(result.targets) else {"output_idx": result.output_idx}
    single = kind == "instances" or (kind == "auto" and result.rows <= SINGLE)
    if single or result.is_global:
        shown = range(1 if result.is_global else result.rows)
        picture = result.plot(0 if result.is_global else list(shown), as_plotly=interactive, **nodes)
        what = f"{len(shown)} instance{'s' if len(shown) > 1 else ''}"
    else:
        picture, what = result.plot_global(as_plotly=interactive, **nodes), f"{result.rows} instances together"
    picture.save(path)
    return what
