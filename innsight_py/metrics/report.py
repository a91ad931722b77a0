"""A comparison as one page of HTML, which needs no other file and no network."""

from __future__ import annotations

import base64
import html
import io
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from innsight_py.methods.base import InterpretingMethod
from innsight_py.metrics.picture import Picture
from innsight_py.metrics.score import Score

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, tbody th { text-align: left; }
img { max-width: 100%; }
.best { background: #e3eef8; font-weight: 600; }
.row { display: flex; flex-wrap: wrap; gap: 1%; }
.row img { width: 32%; }
"""


class Compared(Protocol):
    """What the page is about."""

    results: dict[str, InterpretingMethod]
    scores: dict[str, dict[str, Score | None]]
    notes: dict[str, str]
    table: pd.DataFrame
    arguments: dict[str, Any]

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return all tables by their titles."""


def page(comparison: Compared, pictures: Sequence[Picture]) -> str:
    """Write the page."""
    title = f"Comparison of {len(comparison.results)} explanations"
    tables = dict(comparison.tables())
    parts = [f"<h1>{title}</h1>", "<h2>Metrics</h2>", _metrics(tables.pop("Metrics"))]
    parts += [f"<p>{html.escape(where)}: {html.escape(why)}</p>" for where, why in comparison.notes.items()]
    parts += [f"<h2>{html.escape(name)}</h2>{_table(each)}" for name, each in tables.items()]
    parts += ["<h2>Instances</h2>", *map(_image, pictures)]
    scores = [score for of in comparison.scores.values() for score in of.values() if score is not None]
    drawn = "".join(_image(score.plot()) for score in scores if score.curve is not None)
    parts += ["<h2>Curves</h2>", f'<div class="row">{drawn}</div>'] if drawn else []
    parts += ["<h2>What was run</h2>", _table(_runs(comparison.results)), _table(_versions(comparison.arguments))]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _metrics(table: pd.DataFrame) -> str:
    """Write the table of metrics, the best of each marked."""
    lines = []
    best = {}
    for column in table.columns:
        own = table[column].drop("random")
        if own.notna().any():
            best[column] = own.idxmax() if "higher" in column else own.idxmin()
    for name, row in table.iterrows():
        cells = (
            f"<td{' class=best' if best.get(column) == name else ''}>{_number(row[column])}</td>"
            for column in table.columns
        )
        lines.append(f"<tr><th>{html.escape(str(name))}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4g}"


def _table(frame: pd.DataFrame) -> str:
    written: str = frame.to_html(float_format=lambda x: f"{x:.3g}", border=0)
    return written


def _image(picture: Picture) -> str:
    buffer = io.BytesIO()
    picture.figure.savefig(buffer, format="png", dpi=110)
    return f'<img alt="picture" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def _runs(results: Mapping[str, InterpretingMethod]) -> pd.DataFrame:
    """Say of each explanation what was called with which arguments, and what its sums miss."""
    rows = {}
    for name, result in results.items():
        residual = result.residual
        said = ", ".join(f"{key}={_short(value)}" for key, value in result.arguments.items())
        rows[name] = {
            "method": result.title,
            "arguments": said or "defaults",
            "dtype": result.dtype,
            "rows": result.rows,
            "residual": "decomposes nothing" if residual is None else repr(residual)[9:-1],
        }
    return pd.DataFrame(rows).T


def _short(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"{type(value).__name__}{tuple(value.shape)}"
    if isinstance(value, pd.DataFrame):
        return f"DataFrame{value.shape}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _versions(arguments: Mapping[str, Any]) -> pd.DataFrame:
    said = {"innsight_py": version("innsight_py"), "torch": torch.__version__, "Python": platform.python_version()}
    return pd.DataFrame({"": {**said, **{name: str(value) for name, value in arguments.items()}}})
