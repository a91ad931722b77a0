"""Marking the layers of a model that prepare its data."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from torch import Tensor

from innsight_py.spec.keys import default_keys
from innsight_py.spec.preparation import misplaced, preparation

MARK = "preprocessing"


def keep_marks(layers: Sequence[dict[str, Any]], inputs: int, outputs: Sequence[str]) -> None:
    """Take the mark from layers that do not stand where data are prepared: in the middle of a model, for example.

    Parameters
    ----------
    layers : sequence of dict
        Layers with names and inputs; changed in place.
    inputs : int
        Number of inputs of the model.
    outputs : sequence of str
        Names of the layers that are outputs.
    """
    steps = [(layer["name"], layer["inputs"], bool(layer.get(MARK))) for layer in layers]
    wrong = set(misplaced(steps, preparation(default_keys("input", inputs), steps, outputs)))
    for layer in layers:
        if layer["name"] in wrong:
            del layer[MARK]


def mark_scalers(
    layers: Sequence[dict[str, Any]], inputs: int, outputs: Sequence[str], learned: Collection[str] = (),
    both: bool = False,
) -> None:  # fmt: skip
    """Mark the scalers that a graph begins with: ``(x - mean) / std`` with numbers that were not learned.

    Each number belongs to a feature or a channel. A graph that begins with numbers for all features alone,
    ``x / 255``, is left as it is, and so is one that begins with factors alone, whose center is 0.

    Parameters
    ----------
    layers : sequence of dict
        Layers with names and inputs; changed in place.
    inputs : int
        Number of inputs of the model.
    outputs : sequence of str
        Names of the layers that are outputs.
    learned : collection of str
        Names of layers with numbers that were learned.
    both : bool
        Whether a scaler must have a factor and a shift of each feature, and be no `BatchNorm`, since it is not known
        what was learned.
    """
    kinds = ("Scale",) if both else ("Scale", "BatchNorm")
    scalers = {
        layer["name"]: layer
        for layer in layers
        if layer["type"] in kinds and layer["name"] not in learned and _may_prepare(layer)
    }
    steps = [(layer["name"], layer["inputs"], layer["name"] in scalers) for layer in layers]
    for chain in preparation(default_keys("input", inputs), steps, outputs).values():
        found = [scalers[name] for name in chain]
        factors, shifts = (any(_of_features(layer, key) for layer in found) for key in ("factor", "shift"))
        if (shifts and (factors or not both)) or any(layer["type"] == "BatchNorm" for layer in found):
            for layer in found:
                layer[MARK] = True


def _may_prepare(layer: dict[str, Any]) -> bool:
    """Tell whether a scaler's numbers lie along one axis at most, and no feature gets one value alone."""
    numbers = [layer[key] for key in ("factor", "shift") if layer.get(key) is not None]
    factor = layer.get("factor")
    return all(sum(size > 1 for size in n.shape) <= 1 and bool(n.isfinite().all()) for n in numbers) and (
        factor is None or bool((factor != 0).all())
    )


def _of_features(layer: dict[str, Any], key: str) -> bool:
    """Tell whether a layer has a number for each feature or channel."""
    numbers = layer.get(key)
    return isinstance(numbers, Tensor) and numbers.dim() > 0
