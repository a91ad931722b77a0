"""Marking the layers of a model that prepare its data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
