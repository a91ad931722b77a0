"""Numbers of tokens for methods that only ask for predictions: a token is there, or another one stands in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innsight_py._checks import describe, is_whole
from innsight_py._errors import see
from innsight_py.inputs.data import read_data, split_inputs
from innsight_py.inputs.ports import Port
from innsight_py.model.converter import Converter


class TextCall:
    """Asks a converted model about other tokens in a row, whose masks and the like stay as they are.

    Attributes
    ----------
    port : Port
        The input that has the tokens.
    row : int
        The row that the model is asked about.
    """

    def __init__(self, converter: Converter) -> None:
        if len(converter.output_dim) > 1:
            raise ValueError(
                "Argument 'model': model-agnostic methods explain models with one output layer, this one has "
                f"{len(converter.output_dim)}. Choose one with Converter(..., output=...)."
            )
        self.converter = converter
        explained = [j for j, port in enumerate(converter.inputs) if port.kind != "fixed"]
        if len(explained) != 1 or converter.inputs[explained[0]].kind != "tokens":
            names = ", ".join(f"'{converter.input_keys[j]}'" for j in explained)
            raise ValueError(
                "Argument 'model': model-agnostic methods explain models with one input beside those that are fixed; "
                f"this one has {names}."
            )
        (self.number,) = explained
        self.port: Port = converter.inputs[self.number]
        self.row = 0
        self.beside: list[Tensor | None] = []

    def take(self, data: Any) -> Any:
        """Keep what comes with each row, and return the numbers of tokens."""
        parts = split_inputs(data, self.converter.input_dim, self.converter.input_keys, "data")
        for j, (part, port) in enumerate(zip(parts, self.converter.inputs, strict=True)):
            fixed = None if j == self.number else read_data(part, [port.dim], True, torch.float64, "data")[0]
            self.beside.append(fixed)
        return parts[self.number]

    def __call__(self, rows: np.ndarray) -> Any:
        """Predict for tokens ``(n, length)`` in the place of those of the row."""
        graph = self.converter.model
        inputs = [
            torch.from_numpy(rows) if x is None else x[self.row : self.row + 1].expand(len(rows), *x.shape[1:])
            for x in self.beside
        ]
        with torch.no_grad():
            return graph(*(x.to(graph.device, graph.dtype) for x in inputs))


def of_texts(model: Any, data: Any) -> TextCall | None:
    """Return what asks a model of texts of the length of the data; None for another model."""
    if not isinstance(model, Converter) or not any(port.kind == "tokens" for port in model.inputs):
        return None
    return TextCall(model.fitting(data))


def read_replacing(given: Any, dim: tuple[int, ...], key: str) -> Any:
    """Read what stands in the place of tokens: an id, ids for each position, or rows of these.

    Raises
    ------
    ValueError
        If nothing is given: without it no token can be taken away.
    """
    if isinstance(given, Mapping) and key in given:
        given = given[key]
    if given is None or isinstance(given, str):
        raise ValueError(
            see(
                "token-ids",
                f"Argument 'data_ref': expected the id that stands where a token is taken away, got {describe(given)}. "
                "Give the id of the mask or of padding, 'data_ref=tokenizer.mask_token_id', or ids for each position.",
            )
        )
    if is_whole(given):
        return np.full((1, *dim), float(given))
    array = np.asarray(given)
    return array[None] if array.shape == dim else given


def kept_or_replaced(
    row: np.ndarray, background: np.ndarray, n: int, random: np.random.RandomState
) -> np.ndarray:  # fmt: skip
    """Draw rows ``(n, length)``, the first as it is: each token stays or is replaced, one as likely as the other."""
    keep = random.random_sample((n, len(row))) < 0.5
    keep[0] = True
    rows: np.ndarray = np.where(keep, row, background[random.randint(len(background), size=n)])
    return rows


def text_explainer(
    predict: Callable[[np.ndarray, np.ndarray], np.ndarray], background: np.ndarray, n: int,
    weigh: Callable[[np.ndarray], np.ndarray],
) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:  # fmt: skip
    """Return LIME for tokens: a ridge regression of predictions on which tokens are still there.

    Parameters
    ----------
    predict : callable
        Predicts some nodes for rows of tokens.
    background : ndarray
        What may stand in the place of tokens, ``(m, length)``.
    n : int
        Number of rows that are drawn.
    weigh : callable
        The weight of each drawn row, of which the first is the row itself.
    """
    from sklearn.linear_model import Ridge

    def explain(row: np.ndarray, nodes: np.ndarray, row_seed: int) -> np.ndarray:
        rows = kept_or_replaced(row, background, n, np.random.RandomState(row_seed))
        there = (rows == row).astype(np.float64)
        fitted = Ridge(alpha=1.0).fit(there, predict(rows, nodes), sample_weight=weigh(rows))
        weights: np.ndarray = fitted.coef_.reshape(len(nodes), -1).T
        return weights

    return explain
