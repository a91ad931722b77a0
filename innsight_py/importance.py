"""The summary of a result: which features matter most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from innsight_py.plots.arguments import Aggregate, read_aggregate
from innsight_py.results import feature_column, selected_layers

if TYPE_CHECKING:
    from innsight_py.explanation import Explanation


def most_important(explanation: Explanation, n: int, aggr_channels: Any) -> pd.DataFrame:
    """Return the features with the largest mean magnitude, see `Explanation.summary`."""
    aggregate = read_aggregate(aggr_channels)
    several_inputs = len(explanation.converter.input_dim) > 1
    layers = selected_layers(explanation)
    blocks = []
    residual = explanation.residual
    for i in layers:
        for k, label in enumerate(explanation.output_label[i] or ()):
            block = _node(explanation, i, k, aggregate)
            total = block["mean_abs"].sum()
            block["share"] = block["mean_abs"] / total if total else 0.0
            if residual is not None:
                for name, values in (("residual", residual.absolute[i]), ("relative_residual", residual.relative[i])):
                    assert values is not None
                    block[name] = float(values[:, k].abs().max())
            block.insert(0, "output_node", label)
            block.insert(0, "model_output", f"Output_{i + 1}")
            blocks.append(block.sort_values("mean_abs", ascending=False, kind="stable").head(n))
    summary = pd.concat(blocks, ignore_index=True)
    unneeded = [*([] if len(layers) > 1 else ["model_output"]), *([] if several_inputs else ["model_input"])]
    return summary.drop(columns=unneeded)


def _node(explanation: Explanation, i: int, k: int, aggregate: Aggregate) -> pd.DataFrame:
    """Return all features of all inputs with their mean magnitude for one output node."""
    parts = []
    for j, names in enumerate(explanation.converter.input_names):
        row = explanation.result[i]
        tensor = None if row is None else row[j]
        if tensor is None:
            continue
        values = tensor.detach()[..., k].abs().cpu().numpy()
        if values.ndim > 2:
            values = aggregate(values, 1 if explanation.channels_first else values.ndim - 1)
        mean = values.mean(0, dtype=np.float64)
        places = np.unravel_index(np.arange(mean.size), mean.shape)
        axes = names if len(names) == 1 else names[1:]
        labels = {
            feature_column(a): [str(axis[p]) for p in place]
            for a, (axis, place) in enumerate(zip(axes, places, strict=True))
        }
        parts.append(pd.DataFrame({"model_input": f"Input_{j + 1}", **labels, "mean_abs": mean.ravel()}))
    features = max(([name for name in part if name.startswith("feature")] for part in parts), key=len)
    return pd.concat(parts, ignore_index=True)[["model_input", *features, "mean_abs"]]
