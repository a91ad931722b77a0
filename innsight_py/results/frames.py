"""Other shapes of the data frame: one row an instance, and the frame of polars."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def as_wide(frame: pd.DataFrame, names: list[str], has_target: bool) -> pd.DataFrame:
    """Return a frame with a row for each instance and a column for each value of an instance.

    Parameters
    ----------
    frame : DataFrame
        One row a value; the instances run fastest.
    names : list of str
        The names of the instances, which become the index.
    has_target : bool
        Whether each row is explained for a node of its own, so that nodes are no columns.
    """
    asked = [name for name in frame if name in ("model_output", "output_node", "model_input", "channel")]
    asked += [name for name in frame if name.startswith("feature")]
    if has_target:
        asked.remove("output_node")
    labels = frame[asked].iloc[:: len(names)].astype(object)
    labels = labels[[name for name in asked if name == "feature" or len(labels[name].unique()) > 1]]
    columns = pd.MultiIndex.from_frame(labels) if labels.shape[1] > 1 else pd.Index(labels["feature"], name="feature")
    values = frame["value"].to_numpy().reshape(-1, len(names)).T
    return pd.DataFrame(values, index=pd.Index(names, name="data"), columns=columns)


def as_polars(frame: pd.DataFrame) -> Any:
    """Return the frame as one of polars.

    Raises
    ------
    ImportError
        If polars is not installed; the message says how to get it.
    """
    try:
        import polars
    except ImportError:
        raise ImportError('get_result("polars") needs polars: pip install "innsight_py[polars]"') from None
    columns = {}
    for name, column in frame.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            levels = polars.Series([str(level) for level in column.cat.categories], dtype=polars.String)
            codes = polars.Series(column.cat.codes.to_numpy().astype(np.int64))
            places = polars.select(polars.when(codes >= 0).then(codes)).to_series()
            columns[name] = levels.gather(places).cast(polars.Categorical)
        else:
            columns[name] = polars.Series(column.to_numpy())
    return polars.DataFrame(columns)
