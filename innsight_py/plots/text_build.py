"""Computing what `Explanation.text` shows."""

from __future__ import annotations

from typing import Any

from innsight_py.plots.build import instance_frame
from innsight_py.plots.frame import PlotFrame
from innsight_py.results.attributions import Attributions
from innsight_py.results.tokens import is_text


def text_frame(attributions: Attributions, data_idx: Any, output_idx: Any, output_label: Any) -> tuple[PlotFrame, bool]:
    """Compute what `Explanation.text` shows, and whether the nodes are best seen together.

    They are where an output has several axes: what a language model says at each place of a text.
    """
    if not any(is_text(port) for port in attributions.described.inputs):
        raise ValueError("No input of this model is a text (kind 'tokens'). plot() draws tables, signals and images.")
    if output_idx is None and output_label is None and not any(name is not None for name in attributions.targets):
        output_idx = attributions.output_idx if len(attributions.output_idx) > 1 else attributions.output_idx[0]
    frame = instance_frame(attributions, data_idx, output_idx, output_label, "sum", False, True, None, None)
    several_axes = any(
        len(port.dim) > 1 and row is not None
        for port, row in zip(attributions.described.outputs, attributions.result, strict=True)
    )
    return frame, several_axes and frame.shape[1] > 1
