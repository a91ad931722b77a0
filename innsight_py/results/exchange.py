"""Results in the forms of other packages: ``shap.Explanation`` objects and captum's tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from innsight_py._checks import describe, is_whole
from innsight_py.results.attributions import Attributions, explained_part
from innsight_py.results.tables import as_array, nested, selected_layers


def as_shap(attributions: Attributions) -> Any:
    """Return attributions as a ``shap.Explanation``, see `innsight_py.Explanation.to_shap`."""
    try:
        import shap
    except ImportError:
        raise ImportError('to_shap() needs shap: pip install "innsight_py[agnostic]"') from None
    attributions = explained_part(attributions)

    def explanation(i: int, j: int) -> Any:
        port, values = attributions.described.inputs[j], as_array(attributions, i, j)
        base, labels = _base(attributions, i, values.shape), attributions.node_labels(i)
        data = attributions.data[j].detach().cpu().numpy() if attributions.data else None
        if port.has_channels and attributions.channels_first:
            values = np.moveaxis(values, 1, -2)
            data = None if data is None else np.moveaxis(data, 1, -1)
        alone = values.shape[-1] == 1
        return shap.Explanation(
            values[..., 0] if alone else values,
            base_values=base[:, 0] if alone else base,
            data=data,
            feature_names=None if port.has_channels else [str(name) for name in port.names[0]],
            output_names=None if alone or len(labels) > 1 else labels[0],
        )

    return nested(attributions, explanation)


def _base(attributions: Attributions, i: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return what is explained less its goal, ``(B, K)``: the value at the reference."""
    goal = None if attributions.decomp_goal is None else attributions.decomp_goal[i]
    values = None if attributions.explained_values is None else attributions.explained_values[i]
    if goal is None or values is None or not attributions.decomposes:
        return np.zeros((shape[0], shape[-1]))
    base: np.ndarray = (values.double() - goal.double()).cpu().numpy()
    return base


def as_captum(attributions: Attributions, output_idx: Any) -> Any:
    """Return attributions as tensors of the shape of the inputs, see `innsight_py.Explanation.to_captum`."""
    attributions = explained_part(attributions)
    layers = selected_layers(attributions)
    i, nodes = layers[0], attributions.output_idx[layers[0]]
    single = len(layers) == 1 and len(attributions.node_labels(i)[0]) == 1
    if output_idx is None and not single:
        raise ValueError(
            f"Argument 'output_idx': several nodes are explained ({attributions.output_idx}), captum has one at a "
            "time. Give one of them."
        )
    if output_idx is not None and not (is_whole(output_idx) or isinstance(output_idx, tuple)):
        raise TypeError(f"Argument 'output_idx': expected the number of a node, got {describe(output_idx)}.")
    if output_idx is not None and (nodes is None or output_idx not in nodes):
        raise ValueError(
            f"Argument 'output_idx': expected one of the explained nodes {nodes}, got {describe(output_idx)}."
        )
    k = 0 if output_idx is None or nodes is None else nodes.index(output_idx)
    row = attributions.result[i]
    assert row is not None

    def tensor(j: int, x: Tensor | None) -> Tensor:
        if x is None:
            return attributions.data[j].new_zeros(attributions.data[j].shape)
        own = x[..., k]
        return own if attributions.channels_first or own.dim() < 3 else own.movedim(-1, 1)

    tensors = tuple(tensor(j, x) for j, x in enumerate(row))
    return tensors if len(tensors) > 1 else tensors[0]
