"""Writing results and pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from innsight_py.cli.errors import check_parquet

RESULTS = (".csv", ".parquet", ".json", ".npz")
#: With so many instances or fewer a picture shows each of them.
SINGLE = 3


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
        result.get_result("data.frame").to_csv(sys.stdout, index=False)
        return
    kind = Path(path).suffix.lower()
    if kind == ".npz":
        np.savez(path, **_flat(result.get_result()))
        return
    frame = result.get_result("data.frame")
    if kind == ".csv":
        frame.to_csv(path, index=False)
    elif kind == ".json":
        frame.to_json(path, orient="records", lines=False)
    else:
        frame.to_parquet(path, index=False)


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
        from innsight_py.plots.plotly import require_plotly

        require_plotly()
        return
    from matplotlib.figure import Figure

    formats = Figure().canvas.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in formats:
        raise ValueError(f"--plot {path}: expected a name that ends in .html, {', .'.join(sorted(formats))}.")


def write_picture(result: Any, path: Path, kind: str) -> str:
    """Draw the result, and say what was drawn."""
    interactive = path.suffix.lower() in (".html", ".htm")
    nodes = {"output_idx": result.output_idx}
    single = kind == "instances" or (kind == "auto" and result.rows <= SINGLE)
    if single or result.is_global:
        shown = range(1 if result.is_global else result.rows)
        picture = result.plot(0 if result.is_global else list(shown), as_plotly=interactive, **nodes)
        what = f"{len(shown)} instance{'s' if len(shown) > 1 else ''}"
    else:
        picture, what = result.plot_global(as_plotly=interactive, **nodes), f"{result.rows} instances together"
    picture.save(path)
    return what
