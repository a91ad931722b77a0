"""What the methods take and are, found from their signatures and documentation."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from innsight_py._checks import suggestion
from innsight_py._foreign import what_it_is_here
from innsight_py.cli.data import Loaded
from innsight_py.inputs.names import default_names
from innsight_py.methods.registry import METHODS
from innsight_py.model.converter import Converter

#: Arguments that the command has options of its own for, or makes no use of.
_OWN = {
    "converter", "model", "data", "x_ref", "data_ref", "channels_first", "output_idx", "output_label", "verbose",
    "target", "data_names", "dtype", "pred_fun", "input_dim", "input_names", "output_names", "output_type",
}  # fmt: skip


def parameters(name: str) -> Mapping[str, inspect.Parameter]:
    """Return all parameters of a method by name."""
    return inspect.signature(METHODS[name]).parameters


def settings(name: str) -> dict[str, Any]:
    """Return what ``--set`` can set for a method, with the defaults."""
    return {key: entry.default for key, entry in parameters(name).items() if key not in _OWN}


def purpose(name: str) -> str:
    """Return the first line of a method's documentation."""
    return (inspect.getdoc(METHODS[name]) or "").splitlines()[0]


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
            here = what_it_is_here(key, list(known))
            hint = suggestion(key, known) if here is None else f"; {here}."
            raise ValueError(
                f"--set {pair}: {METHODS[name].__name__} has no argument '{key}'{hint} It has: {', '.join(known)}."
            )
        read[key] = _names(_value(text), text) if key == "layer" else _value(text)
    return read


def _names(value: Any, text: str) -> Any:
    """Return names of layers, which may be numbers."""
    return [str(name) for name in value] if isinstance(value, list) else text


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
    reference : Loaded or {"zeros", "center", "mean", "median", "data"}, optional
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
    if reference is None:
        return found
    if argument is None:
        raise ValueError(f"--reference: {METHODS[name].__name__} has none.")
    if isinstance(reference, Loaded):
        found[argument] = reference.value
    elif reference == "data":
        if argument == "x_ref":
            raise ValueError(f"--reference data: {METHODS[name].__name__} takes a single row; use mean or a file.")
        found[argument] = data.value
    elif reference in ("zeros", "center"):
        found[argument] = reference
    else:
        rows = [_statistic(x, reference) for x in data.inputs]
        found[argument] = rows if len(rows) > 1 else rows[0]
    return found


def _statistic(x: Any, kind: str) -> Any:
    """Return one row, the mean or the median over all rows; a frame where the data are one."""
    values = np.asarray(x, np.float64)
    row = {"mean": values.mean(0), "median": np.median(values, 0)}[kind][None]
    return type(x)(row, columns=x.columns) if hasattr(x, "columns") else row


def is_classifier(converter: Converter) -> bool:
    """Tell whether the first output layer has classes: several nodes that are probabilities, or have names."""
    graph = converter.model_in("float")
    if len(converter.output_dim[0]) > 1:
        return False
    (nodes,) = converter.output_names[0]
    last = graph.layer(graph.explained(0, False).node)
    named = [str(name) for name in nodes] != default_names(converter.output_dim[0], ("Y",))[0]
    return len(nodes) > 1 and (last.activation.is_probability or named)


def needs_data(name: str, chosen: Mapping[str, Any]) -> bool:
    """Tell whether a method looks at data: not where they are optional and nothing is to be multiplied by them."""
    required = parameters(name)["data"].default is inspect.Parameter.empty
    return required or bool(chosen.get("times_input"))
