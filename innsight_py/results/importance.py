"""The summary of a result: which features matter most."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from innsight_py.inputs.channels import Aggregate, read_aggregate
from innsight_py.inputs.references import whole_rows
from innsight_py.results.attributions import Attributions, explained_part
from innsight_py.results.completeness import Residual, residual_of
from innsight_py.results.tables import feature_column, selected_layers
from innsight_py.results.vocabulary import Vocabulary, vocabularies

#: What a summary says of values that are ranked by what a typical change of their feature does.
PER_UNIT = (
    "Ranked by times_sd: mean_abs, which is per unit of a feature, times the feature's standard deviation in the data."
)


def most_important(attributions: Attributions, n: int, aggr_channels: Any) -> pd.DataFrame:
    """Return the features with the largest mean magnitude, see `Explanation.summary`."""
    attributions = explained_part(attributions)
    aggregate = read_aggregate(aggr_channels)
    several_inputs = len(attributions.described.input_dim) > 1
    layers = selected_layers(attributions)
    residual, spreads, texts = residual_of(attributions), _spreads(attributions), vocabularies(attributions)
    blocks = [_layer(attributions, i, n, aggregate, residual, spreads, texts) for i in layers]
    summary = pd.concat(blocks, ignore_index=True)
    unneeded = [*([] if len(layers) > 1 else ["model_output"]), *([] if several_inputs else ["model_input"])]
    unneeded += [] if summary["left_out"].any() else ["left_out"]
    summary = summary.drop(columns=unneeded)
    if spreads is not None:
        summary.attrs["note"] = PER_UNIT
    return summary


def _layer(
    attributions: Attributions, i: int, n: int, aggregate: Aggregate, residual: Residual | None,
    spreads: list[np.ndarray] | None, texts: dict[int, Vocabulary],
) -> pd.DataFrame:  # fmt: skip
    """Return what matters most for each node of an output layer. Labels are looked up once, for all of its nodes."""
    whole, places = _whole(attributions, i), []
    columns: dict[str, list[Any]] = {"mean_abs": [], "share": [], "left_out": [], "output_node": []}
    if spreads is not None:
        columns["times_sd"] = []
    missing = {} if residual is None else {"residual": residual.absolute[i], "relative_residual": residual.relative[i]}
    columns |= {name: [] for name in missing}
    for k, label, all_rows in _explained(attributions, i):
        rows = [row for row in all_rows if whole[row, k]]
        means, ranking = _magnitudes(attributions, i, k, rows, aggregate, spreads, texts)
        best, total = np.argsort(-ranking, kind="stable")[:n], np.nansum(ranking)
        places.append(best)
        columns["mean_abs"].append(means[best])
        if spreads is not None:
            columns["times_sd"].append(ranking[best])
        columns["share"].append(ranking[best] / total if total else np.zeros(len(best)))
        for name, values in missing.items():
            assert values is not None
            largest = float(values[rows, k].abs().max()) if rows else float("nan")
            columns[name].append(np.full(len(best), largest))
        columns["left_out"].append(np.full(len(best), len(all_rows) - len(rows)))
        columns["output_node"] += [label] * len(best)
    block = _labels(attributions, i, texts).iloc[np.concatenate(places)]
    names = ["share", *([] if spreads is None else ["times_sd"]), "mean_abs", *missing, "left_out"]
    block = block.assign(**{name: np.concatenate(columns[name]) for name in names})
    block.insert(0, "output_node", columns["output_node"])
    block.insert(0, "model_output", f"Output_{i + 1}")
    return block


def _spreads(attributions: Attributions) -> list[np.ndarray] | None:
    """Return the standard deviation of each feature of each input, for values that are per unit of their feature.

    One number for the whole of a signal or an image, whose values have one unit. None for other values, and where the
    data do not vary or are no table.
    """
    tables = [port.kind == "table" for port in attributions.described.inputs]
    if not attributions.per_unit or not any(tables) or not attributions.data:
        return None
    found = []
    for x, is_table in zip(attributions.data, tables, strict=True):
        rows = whole_rows(x).double()
        if len(rows) < 2:
            return None
        found.append(np.atleast_1d((rows.std(0) if is_table else rows.std()).cpu().numpy()))
    return found if any(spread.any() for spread in found) else None


def _whole(attributions: Attributions, i: int) -> np.ndarray:
    """Tell for each row and node whether there is an answer for every feature of all inputs, ``(B, K)``.

    A gradient may be finite where the data, and so the prediction, are NaN: it means nothing.
    """
    reached = [tensor for tensor in attributions.result[i] or () if tensor is not None]
    finite = [tensor.detach().isfinite().flatten(1, -2).all(1) for tensor in reached]
    whole = torch.stack(finite).all(0).cpu()
    predicted = None if attributions.preds is None else attributions.preds[i]
    if predicted is not None and predicted.shape == whole.shape:
        whole = whole & ~predicted.detach().cpu().isnan()
    answered: np.ndarray = whole.numpy()
    return answered


def _explained(attributions: Attributions, i: int) -> Iterator[tuple[int, str, list[int]]]:
    """Give the place of each explained node of an output layer, its label, and the rows that it is explained for."""
    labels = attributions.node_labels(i)
    if len(labels) == 1:
        for k, label in enumerate(labels[0]):
            yield k, label, list(range(attributions.rows))
        return
    own = [label for (label,) in labels]
    axes = attributions.described.output_names[i]
    for label in dict.fromkeys(own if len(axes) > 1 else (str(name) for name in axes[0])):
        rows = [row for row, other in enumerate(own) if other == label]
        if rows:
            yield 0, label, rows


def _magnitudes(
    attributions: Attributions, i: int, k: int, rows: list[int], aggregate: Aggregate,
    spreads: list[np.ndarray] | None, texts: dict[int, Vocabulary],
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return mean magnitudes over some rows of all features of all inputs for one output node, and what ranks them."""
    means, ranking = [], []
    for j, (tensor, port) in enumerate(zip(attributions.result[i] or (), attributions.described.inputs, strict=True)):
        if tensor is None:
            continue
        values = tensor.detach()[rows, ..., k].cpu().numpy()
        if j in texts:
            means.append(texts[j].magnitudes(values, rows))
            ranking.append(means[-1])
            continue
        values = np.abs(values)
        if port.has_channels:
            values = aggregate(values, 1 if attributions.channels_first else values.ndim - 1)
        mean = values.mean(0, dtype=np.float64) if rows else np.full(values.shape[1:], np.nan)
        means.append(mean.ravel())
        ranking.append(means[-1] if spreads is None else means[-1] * spreads[j])
    return np.concatenate(means), np.concatenate(ranking)


def _labels(attributions: Attributions, i: int, texts: dict[int, Vocabulary]) -> pd.DataFrame:
    """Return the labels of all features of all inputs that reach an output layer."""
    parts = []
    for j, (tensor, port) in enumerate(zip(attributions.result[i] or (), attributions.described.inputs, strict=True)):
        if tensor is None:
            continue
        axes = [texts[j].words] if j in texts else port.names[port.has_channels :]
        shape = [len(axis) for axis in axes]
        places = np.unravel_index(np.arange(math.prod(shape)), shape)
        labels = {
            feature_column(a): [str(axis[p]) for p in place]
            for a, (axis, place) in enumerate(zip(axes, places, strict=True))
        }
        parts.append(pd.DataFrame({"model_input": f"Input_{j + 1}", **labels}))
    features = max(([name for name in part if name.startswith("feature")] for part in parts), key=len)
    return pd.concat(parts, ignore_index=True)[["model_input", *features]]
