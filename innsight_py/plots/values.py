"""The values of a picture: of which instances, nodes and inputs, in which order, and how large."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innsight_py.inputs.channels import Aggregate
from innsight_py.inputs.names import levels
from innsight_py.plots.arguments import Node, preprocessed
from innsight_py.plots.cuts import Cut, middle_of
from innsight_py.plots.pixels import clipped
from innsight_py.results.attributions import Attributions
from innsight_py.results.tokens import is_text, row_tokens, row_words
from innsight_py.results.words import Word

#: Functions that make magnitudes. They may be applied to a part of the values at a time.
MAGNITUDES = (abs, np.abs, torch.abs)


class Source:
    """The attributions of one output layer for one input, read a node at a time; `cut` is the slice of a volume."""

    def __init__(self, tensor: Tensor | None, whole: Tensor | None, cut: Cut | None = None) -> None:
        self.tensor = tensor
        self.whole = whole
        self.cut = cut

    def values(
        self,
        attributions: Attributions,
        node: Node,
        rows: Sequence[int],
        aggregate: Aggregate,
        preprocess: Callable[..., Any] | None,
    ) -> np.ndarray | None:
        """Return values ``(rows, *dims)`` without channels; None where the input does not reach the output."""
        if self.tensor is None:
            return None
        x = (self.tensor if self.whole is None else self.whole).detach()[..., node.position]
        if list(rows) != list(range(x.shape[0])):
            x = x[list(rows)]
        if preprocess is not None and self.whole is None:
            x = preprocessed(preprocess, x)
        array = x.cpu().numpy()
        if array.ndim > 2:
            array = aggregate(array, 1 if attributions.channels_first else array.ndim - 1)
        if self.cut is not None:
            array = self.cut.of(array)
        known = np.isfinite(array)
        return array if known.all() else np.where(known, array, np.nan)  # infinite values have no place on a scale


def sources_of(
    attributions: Attributions,
    nodes: Sequence[Node],
    preprocess: Callable[..., Any] | None = None,
    cuts: Mapping[int, Cut] | None = None,
) -> list[list[Source]]:
    """Find the tensors for each node and input, preprocessed as a whole where the function needs that."""
    ports = attributions.described.inputs
    for j, port in enumerate(ports):
        if port.kind == "tokens" and len(port.dim) > 1:
            raise ValueError(
                f"Input {j + 1} has tokens of the shape {port.dim}; only texts along a single axis are drawn. "
                'get_result("data.frame") has all values.'
            )
        if len(port.dim) > 3 and not cuts:
            axes = len(port.dim) - 1
            raise ValueError(
                f"Input {j + 1} has {axes} axes beside its channels; at most 2 can be drawn. "
                f"Pass slice={middle_of(port)}."
            )
    found: dict[tuple[int, int], Source] = {}
    for i in {node.layer for node in nodes}:
        row = attributions.result[i]
        assert row is not None
        for j, tensor in enumerate(row):
            whole = None
            if tensor is not None and preprocess is not None and preprocess not in MAGNITUDES:
                whole = preprocessed(preprocess, tensor.detach())
            found[i, j] = Source(tensor, whole, (cuts or {}).get(j))
    return [[found[node.layer, j] for j in range(len(ports))] for node in nodes]


def magnitude(x: np.ndarray | None) -> float:
    """Return the largest magnitude, 0 where there is none."""
    return 0.0 if x is None else float(np.nan_to_num(np.abs(x)).max(initial=0.0))


def full_colour(x: np.ndarray | None, clip: float) -> float:
    """Return the magnitude that has the full colour, of images a quantile."""
    return clipped(x, clip) if x is not None and x.ndim == 2 else magnitude(x)


@dataclass(frozen=True, eq=False)
class Chosen:
    """Which features of a table are shown, in their order, and which others are summed in a last bar.

    Attributes
    ----------
    order, others : ndarray of int
        Places of the features.
    """

    order: np.ndarray
    others: np.ndarray

    def take(self, x: np.ndarray) -> np.ndarray:
        """Take the features of values ``(rows, features)``."""
        shown = x[:, self.order]
        if not len(self.others):
            return shown
        rest = x[:, self.others].astype(np.float64).sum(1, keepdims=True)
        return np.concatenate([shown, rest.astype(x.dtype)], 1)


def choose(
    j: int, attributions: Attributions, columns: Sequence[np.ndarray | None], max_display: int | None, summed: bool
) -> Chosen | None:
    """Choose and order the features of a table; None for other inputs.

    In the order of the labels' categories or, where only some are shown, by mean magnitude over all panels.
    """
    port = attributions.described.inputs[j]
    names = port.names
    if port.has_channels:
        return None
    none = np.zeros(0, int)
    place = {label: p for p, label in enumerate(levels(names[0]))}
    order = np.argsort([place[str(label)] for label in names[0]], kind="stable")
    if max_display is None:
        return Chosen(order, none)
    known = [np.abs(x[:, order]) for x in columns if x is not None]
    if known:
        order = order[np.argsort(-np.concatenate(known).mean(0), kind="stable")]
    return Chosen(order[:max_display], order[max_display:] if summed and known else none)


def texts_of(attributions: Attributions, rows: Sequence[int]) -> dict[int, list[tuple[list[Word], list[str]]]]:
    """Return words and tokens of each row, for each input that is a text."""
    texts = [j for j, port in enumerate(attributions.described.inputs) if is_text(port)]
    return {
        j: list(zip(row_words(attributions, j, rows), row_tokens(attributions, j, rows), strict=True)) for j in texts
    }
