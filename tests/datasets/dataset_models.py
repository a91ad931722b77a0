"""Models, tables and folders that the tests of data sets share, and how their answers are compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from innsight_py import Converter

FEATURES = ["age", "income", "dose", "site"]


def table_model() -> Converter:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    return Converter(net, input_dim=(4,), input_names=FEATURES, output_names=["low", "middle", "high"])


def image_model() -> Converter:
    torch.manual_seed(4)
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 6 * 6, 2))
    return Converter(net, input_dim=(3, 8, 8))


def rows(count: int = 500) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(count, len(FEATURES)))


def claims(x: np.ndarray) -> pa.Table:
    """Return a table with ids, the features in another order, and a column that is none."""
    columns: dict[str, Any] = {"claim_id": [f"claim-{n}" for n in range(len(x))]}
    columns |= {name: x[:, FEATURES.index(name)] for name in reversed(FEATURES)}
    return pa.table(columns | {"note": ["-"] * len(x)})


def write_claims(folder: Path, x: np.ndarray, files: int = 3) -> str:
    """Write the table as several files of Parquet with small row groups, and return the glob for them."""
    folder.mkdir(exist_ok=True)
    table, size = claims(x), -(-len(x) // files)
    for n in range(files):
        pq.write_table(table.slice(n * size, size), folder / f"{n}.parquet", row_group_size=70)
    return str(folder / "*.parquet")


def lines_of(explained: Any) -> list[dict[str, Any]]:
    """Return the lines of all parts in their order."""
    return explained.dataset.to_table(use_threads=False).to_pylist()


def assert_same_lines(found: Sequence[dict[str, Any]], wanted: Sequence[dict[str, Any]]) -> None:
    """Compare row by row: texts exactly, numbers but for the last digits, which depend on how many go together."""
    assert [line["id"] for line in found] == [line["id"] for line in wanted]
    for name in wanted[0]:
        ours, theirs = ([line[name] for line in lines] for lines in (found, wanted))
        some = next((x for x in theirs if x is not None), None)
        if isinstance(some, float | list):
            missing = np.full(np.shape(some), np.nan)
            numbers = [np.array([missing if x is None else x for x in column]) for column in (ours, theirs)]
            np.testing.assert_allclose(*numbers, rtol=2e-5, atol=2e-6)
        else:
            assert ours == theirs, name


def assert_plain_answer(explained: Any, names: Sequence[str], result: Any) -> None:
    """Compare with what the method says of all rows at once: every id is there once, with the same numbers."""
    table = explained.dataset.to_table(use_threads=False)
    assert table["id"].to_pylist() == list(names)
    assert set(table["status"].to_pylist()) == {"ok"}
    values = np.stack([table[name].to_numpy() for name in FEATURES], 1)
    np.testing.assert_allclose(values, result.get_result()[..., 0], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(table["pred"].to_numpy(), result.preds[0][:, 0], rtol=1e-5, atol=1e-6)
