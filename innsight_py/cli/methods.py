"""What the methods take and are, found from their signatures and documentation."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import innsight_py
from innsight_py._checks import suggestion
from innsight_py.cli.data import Loaded

#: ``--method`` names: what follows ``run_``.
METHODS: dict[str, Callable[..., Any]] = {
    name.removeprefix("run_"): getattr(innsight_py, name) for name in innsight_py.__all__ if name.startswith("run_")
}
#: Arguments that the command has options of its own for, or makes no use of.
_OWN = {
    "converter", "model", "data", "x_ref", "data_ref", "channels_first", "output_idx", "output_label", "verbose",
    "dtype", "pred_fun", "input_dim", "input_names", "output_names", "output_type",
}  # fmt: skip


def class_of(name: str) -> type[Any]:
    """Return the class that a name of a method stands for."""
    cls = METHODS[name].__wrapped__  # type: ignore[attr-defined]
    assert isinstance(cls, type)
    return cls


def parameters(name: str) -> Mapping[str, inspect.Parameter]:
    """Return all parameters of a method by name."""
    return inspect.signature(METHODS[name]).parameters


def settings(name: str) -> dict[str, Any]:
    """Return what ``--set`` can set for a method, with the defaults."""
    return {key: entry.default for key, entry in parameters(name).items() if key not in _OWN}


def purpose(name: str) -> str:
    """Return the first line of a method's documentation."""
    return (inspect.getdoc(class_of(name)) or "").splitlines()[0]


def reference_argument(name: str) -> str | None:
    """Return which argument takes a reference: ``x_ref`` (one row), ``data_ref`` (rows), or none."""
    return next((key for key in ("x_ref", "data_ref") if key in parameters(name)), None)


def read_settings(name: str, given: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value`` pairs; values are JSON where they can be, otherwise texts.

    Raises
    ------
    ValueError
        If there is no such argument, or no value.

    Examples
    --------
    >>> read_settings("lrp", ["rule_name=epsilon", "rule_param=0.01", "winner_takes_all=false"])
    {'rule_name': 'epsilon', 'rule_param': 0.01, 'winner_takes_all': False}
    """
    known, read = settings(name), {}
    for pair in given:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"--set {pair}: expected name=value.")
        if key not in known:
            raise ValueError(
                f"--set {pair}: {class_of(name).__name__} has no argument '{key}'{suggestion(key, known)} "
                f"It has: {', '.join(known)}."
            )
        read[key] = _value(text)
    return read


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def arguments(name: str, data: Loaded, reference: Loaded | str | None) -> dict[str, Any]:
    """Return the arguments of a method that come from the data.

    Parameters
    ----------
    name : str
        The method.
    data : Loaded
        All rows of the data, of which "mean" and "median" are taken.
    reference : Loaded or {"zeros", "mean", "median", "data"}, optional
        What the instances are compared with.

    Raises
    ------
    ValueError
        If the method has no reference.
    """
    argument = reference_argument(name)
    found: dict[str, Any] = {}
    if "channels_first" in parameters(name):
        found["channels_first"] = data.channels_first
    if reference is None or (reference == "zeros" and argument == "x_ref"):
        return found
    if argument is None:
        raise ValueError(f"--reference: {class_of(name).__name__} has none.")
    if isinstance(reference, Loaded):
        found[argument] = reference.value
    elif reference == "data":
        if argument == "x_ref":
            raise ValueError(f"--reference data: {class_of(name).__name__} takes a single row; use mean or a file.")
        found[argument] = data.value
    else:
        rows = [_statistic(x, reference) for x in data.inputs]
        found[argument] = rows if len(rows) > 1 else rows[0]
    return found


def _statistic(x: Any, kind: str) -> Any:
    """Return one row: zeros, or the mean or median over all rows; a frame where the data are one."""
    values = np.asarray(x, np.float64)
    row = {"zeros": np.zeros_like(values[0]), "mean": values.mean(0), "median": np.median(values, 0)}[kind][None]
    return type(x)(row, columns=x.columns) if hasattr(x, "columns") else row


def needs_data(name: str, chosen: Mapping[str, Any]) -> bool:
    """Tell whether a method looks at data: not where they are optional and nothing is to be multiplied by them."""
    required = parameters(name)["data"].default is inspect.Parameter.empty
    return required or bool(chosen.get("times_input"))
