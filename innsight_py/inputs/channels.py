"""How the channels of a signal or an image become one value: reading `aggr_channels`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from innsight_py._checks import describe, suggestion

#: Takes values and the axis of their channels, and returns values without that axis.
Aggregate = Callable[[np.ndarray, int], np.ndarray]

_NAMED: dict[str, Aggregate] = {
    "sum": lambda values, axis: values.sum(axis),
    "mean": lambda values, axis: values.mean(axis),
    "norm": lambda values, axis: np.sqrt(np.square(values).sum(axis)),
}


def read_aggregate(value: Any) -> Aggregate:
    """Read how channels become one value.

    Raises
    ------
    TypeError, ValueError
        If it is neither a known name nor a callable.

    Examples
    --------
    >>> read_aggregate("norm")(np.array([[3.0, 4.0]]), 1)
    array([5.])
    >>> read_aggregate(max)(np.array([[3.0, 4.0]]), 1)
    array([4.])
    """
    if isinstance(value, str):
        if value not in _NAMED:
            raise ValueError(
                f"Argument 'aggr_channels': expected 'sum', 'mean', 'norm' or a callable, got {value!r}"
                f"{suggestion(value, _NAMED)}"
            )
        return _NAMED[value]
    if not callable(value):
        raise TypeError(
            f"Argument 'aggr_channels': expected 'sum', 'mean', 'norm' or a callable, got {describe(value)}."
        )

    def aggregate(values: np.ndarray, axis: int) -> np.ndarray:
        if _takes_axis(value):
            answer = np.asarray(value(values, axis=axis))
        else:
            answer = np.apply_along_axis(lambda vector: np.asarray(value(vector)), axis, values)
        expected = values.shape[:axis] + values.shape[axis + 1 :]
        if answer.shape != expected:
            raise ValueError(
                f"Argument 'aggr_channels': expected a callable that makes one number of a vector of "
                f"{values.shape[axis]} channels; its answers for {values.shape} have the shape {answer.shape}."
            )
        return answer

    return aggregate


def _takes_axis(function: Callable[..., Any]) -> bool:
    try:
        return "axis" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
