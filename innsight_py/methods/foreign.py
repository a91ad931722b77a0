"""Attributions that another package has computed, in our frames, pictures and metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from innsight_py._arrays import without_tensors
from innsight_py._checks import Flag, checked, describe, is_whole
from innsight_py._text import dims_text
from innsight_py.functions.elementwise import all_finite
from innsight_py.inputs.data import channels_last, read_data, read_numbers, split_inputs
from innsight_py.inputs.described import Described
from innsight_py.inputs.names import LayerNames, default_names, read_data_names, read_names
from innsight_py.inputs.ports import Port, make_ports
from innsight_py.methods.again import Values
from innsight_py.methods.base import InterpretingMethod
from innsight_py.model.converter import Converter
from innsight_py.model.explainable import DTYPES
from innsight_py.spec.keys import default_keys

#: Nodes of a model of which only values are known are given names up to this number.
MOST_NODES = 2**20


@dataclass
class _Shapes(Described):
    """A model of which only shapes and names are known."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    channels_first: bool


class ForeignExplanation(InterpretingMethod):
    """What `as_explanation` makes."""

    title = "Attributions"
    can_be_repeated = False

    def __init__(
        self, described: Described, parts: Sequence[Tensor], data: Sequence[Tensor], names: Any, **shared: Any
    ) -> None:
        super().__init__(described, data_names=names, verbose=False, batch_size=None, **shared)
        layers = self._selection.layers
        if len(layers) != 1:
            raise ValueError(
                f"Argument 'output_idx': values are of one output layer, got nodes of {len(layers)}. Call "
                "'as_explanation' once for each."
            )
        i, rows = layers[0], parts[0].shape[0]
        count = self._selection.count(i)
        for part in parts:
            if part.shape[-1] != count:
                raise ValueError(
                    f"Argument 'values': they are of {part.shape[-1]} output node(s), and 'output_idx' (or 'target') "
                    f"says {count}. Give as many."
                )
        self.data = self._given_data = list(data)
        self.data_names = read_data_names(names, None, rows)
        self.result = [list(parts) if number == i else None for number in range(len(self._selection.idx))]
        target = self._selection.targets[i]
        own: list[Tensor | None] = [None] * len(self.result)
        if target is not None:
            own[i] = target.given(rows)
            if own[i] is None:
                raise ValueError("Argument 'target': expected the nodes that the values are of, got 'predicted'.")
        self._take_targets(own, [None] * len(self.result))
        #: Number of the only output layer, and of rows.
        self.layer_number, self.result_rows = i, rows

    def take(self, preds: Tensor | None, goal: Tensor | None, values: Tensor | None) -> None:
        """Take predictions, goals and explained values ``(B, K)``."""
        layers, i = len(self.result), self.layer_number
        self.preds = None if preds is None else [preds if number == i else None for number in range(layers)]
        self.decomposes = goal is not None
        self.decomp_goal = None if goal is None else [goal if number == i else None for number in range(layers)]
        if values is not None:
            self.explained_values = [values if number == i else None for number in range(layers)]

    def given(self, value: Any, argument: str) -> Tensor:
        """Read an argument: values for the explained nodes, or for all."""
        found, i = _matrix(value, self.result_rows, argument), self.layer_number
        count, nodes = self._selection.count(i), math.prod(self.described.outputs[i].dim)
        all_nodes = found.shape[1] == nodes or (found.shape[1] > nodes and isinstance(self.described, _Shapes))
        if found.shape[1] != count and not all_nodes:
            raise ValueError(
                f"Argument '{argument}': expected values for {count} explained node(s), or for all {nodes}, got "
                f"{found.shape[1]} for each row."
            )
        return self.chosen(found)

    def chosen(self, values: Tensor) -> Tensor:
        """Take the explained nodes of values ``(B, nodes)``; those that have as many already stay."""
        own = self.own_nodes(self.layer_number)
        if own is not None:
            return values if values.shape[1] == 1 else values.gather(1, torch.tensor(own)[:, None])
        nodes = list(self._selection.idx[self.layer_number] or ())
        return values if values.shape[1] == len(nodes) else values[:, nodes]


@checked
def as_explanation(
    values: Any,
    *,
    data: Any = None,
    preds: Any = None,
    decomp_goal: Any = None,
    x_ref: Any = None,
    converter: Converter | None = None,
    output_idx: Any = None,
    output_label: Any = None,
    target: Any = None,
    input_names: Any = None,
    output_names: Any = None,
    data_names: Any = None,
    channels_first: Flag = True,
    times_input: Flag = True,
    ignore_last_act: Flag = False,
    title: str | None = None,
) -> InterpretingMethod:
    """Take attributions of another package: captum, zennit, LXT, shap, or your own (R's ``as_innsight_result``).

    What comes back has `get_result`, `summary`, `plot`, `residual` and all metrics that need no method.

    Parameters
    ----------
    values : array-like, Tensor, list or dict of these, or shap.Explanation
        ``(B, *dims)`` for one output node, or ``(B, *dims, K)`` for K of them; for several inputs one of these for
        each. A ``shap.Explanation`` brings its data, names and base values.
    data : like `values`, optional
        The instances, ``(B, *dims)``. Without them values are ``(B, *dims)``, and metrics have nothing to change.
    preds : array-like, optional
        Predictions, ``(B,)``, ``(B, K)`` or ``(B, nodes)``. Default: those of `converter`, if there is one.
    decomp_goal : array-like, optional
        What the values of each row are to sum to, ``(B,)`` or ``(B, K)``. Default: with `x_ref` and a `converter` the
        difference of its outputs; with a shap.Explanation and `preds` the predictions less the base values; otherwise
        nothing is said of sums.
    x_ref : like `data`, optional
        The reference that the values are compared with, one row or one for each.
    converter : Converter, optional
        The model, from which names come, and which metrics ask.
    output_idx, output_label, target
        The nodes that the values are of, as for `run_grad`; as many as K. Default: the first K.
    input_names, output_names : list, optional
        Labels, as in `Converter`. With a `converter` the names are its own, and these are refused.
    data_names : sequence of str, optional
        Names of the instances.
    channels_first : bool
        Whether the channels of `values` and `data` are the first or the last axis of each instance.
    times_input : bool
        False for gradients and other values per unit of their feature.
    ignore_last_act : bool
        Whether the values explain the output before its last activation. Other packages explain what a module returns.
    title : str, optional
        Name of the method. Default: "Attributions".

    Returns
    -------
    InterpretingMethod

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value. The message names it.

    Examples
    --------
    >>> values = torch.tensor([[1.0, -3.0]])
    >>> result = as_explanation(values, data=[[1.0, 1.0]], preds=[3.0], decomp_goal=[-2.0], input_names=["age", "dose"])
    >>> result.get_result("data.frame")[["feature", "value", "residual"]]
      feature  value  residual
    0     age    1.0       0.0
    1    dose   -3.0       0.0
    """
    for name, given in (("input_names", input_names), ("output_names", output_names)):
        if converter is not None and given is not None:
            raise ValueError(
                f"Argument '{name}': the names are those of 'converter'; leave '{name}' out, or give it to "
                "the Converter."
            )
    base = None
    if type(values).__module__.startswith("shap."):
        values, data, base, input_names, output_names = _of_shap(values, data, input_names, output_names)
        title = title or "SHAP"
    described, parts, read = _read(
        values, data, converter, input_names, output_names, channels_first, output_idx, target
    )
    dtype: Literal["float", "double"] = "double" if parts[0].dtype == torch.float64 else "float"
    count = parts[0].shape[-1]
    if output_idx is None and output_label is None and target is None:
        output_idx = list(range(count))
    result = ForeignExplanation(
        described, parts, read, data_names, channels_first=channels_first, output_idx=output_idx,
        output_label=output_label, target=target, ignore_last_act=ignore_last_act, dtype=dtype,
    )  # fmt: skip
    result.arguments = {}
    result.title, result.per_unit = title or result.title, not times_input
    result.value_name = "Relevance" if times_input else "Gradient"
    rows = parts[0].shape[0]
    known = None if preds is None else result.given(preds, "preds")
    goal = None if decomp_goal is None else result.given(decomp_goal, "decomp_goal")
    explained = None
    if converter is not None and read:
        at_data = torch.arange(rows)
        i = result.layer_number
        known = result.chosen(Values(result, "prediction")(i, at_data, read)) if known is None else known
        explained = result.chosen(Values(result, "explained")(i, at_data, read))
    if x_ref is not None:
        result.x_ref = _reference(x_ref, result, rows)  # type: ignore[attr-defined]
        if goal is None and explained is not None:
            reference = [x.expand(rows, *x.shape[1:]) for x in result.x_ref]  # type: ignore[attr-defined]
            goal = explained - result.chosen(Values(result, "explained")(result.layer_number, at_data, reference))
    if base is not None and goal is None and known is not None:
        goal, explained = known - result.chosen(_matrix(base, rows, "values")), known
    result.take(known, goal, explained if explained is not None else known)
    return result


def _of_shap(explanation: Any, data: Any, input_names: Any, output_names: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Take values, data, base values and names out of a ``shap.Explanation``; a single row gets an axis."""
    values, own, base = (getattr(explanation, name) for name in ("values", "data", "base_values"))
    if own is not None and np.ndim(own) == 1:
        values, own = np.asarray(values)[None], np.asarray(own)[None]
        base = None if base is None else np.asarray(base)[None]
    if base is not None:
        base = np.asarray(base, np.float64)
        base = np.broadcast_to(base, len(values)) if base.ndim == 0 else base
    names, labels = explanation.feature_names, explanation.output_names
    names = None if input_names is not None or names is None or np.ndim(own) != 2 else [str(name) for name in names]
    labels = None if labels is None or np.ndim(labels) != 1 else [str(label) for label in labels]
    fits = np.ndim(values) == np.ndim(own) + 1 and labels is not None and len(labels) == np.shape(values)[-1]
    return (
        values, own if data is None else data, base, names if input_names is None else input_names,
        labels if output_names is None and fits else output_names,
    )  # fmt: skip


def _tensor(value: Any, argument: str) -> Tensor:
    """Read numbers of any shape, in single precision where they are of no more."""
    found = read_numbers(value, f"Argument '{argument}'", torch.float64).cpu()
    own = value.dtype if isinstance(value, Tensor | np.ndarray) else np.dtype(np.float64)
    return found if "float64" in str(own) else found.float()


def _matrix(value: Any, rows: int, argument: str) -> Tensor:
    found = _tensor(value, argument)
    found = found[:, None] if found.dim() == 1 else found
    if found.dim() != 2 or found.shape[0] != rows:
        raise ValueError(
            f"Argument '{argument}': expected the shape ({rows},) or ({rows}, nodes), got {tuple(found.shape)}."
        )
    return found


def _reference(x_ref: Any, result: ForeignExplanation, rows: int) -> list[Tensor]:
    described = result.described
    read = read_data(
        x_ref, described.input_dim, result.channels_first, DTYPES[result.dtype], "x_ref", described.input_names,
        described.input_keys,
    )  # fmt: skip
    for x in read:
        if x.shape[0] not in (1, rows):
            raise ValueError(f"Argument 'x_ref': expected 1 or {rows} rows, got {x.shape[0]}.")
        if not all_finite(x):
            raise ValueError("Argument 'x_ref': expected finite numbers, got NaN or infinite ones.")
    return read


def _read(
    values: Any, data: Any, converter: Converter | None, input_names: Any, output_names: Any, channels_first: bool,
    output_idx: Any, target: Any,
) -> tuple[Described, list[Tensor], list[Tensor]]:  # fmt: skip
    """Read values ``(B, *dims, K)`` and data of each input, and describe the model that they are of."""
    several = isinstance(values, tuple | dict) or (
        isinstance(values, list) and len(values) > 0 and isinstance(values[0], Tensor | np.ndarray)
    )
    if several and not (len(values) and all(isinstance(key, str) for key in values if isinstance(values, dict))):
        raise ValueError(f"Argument 'values': expected values for each input, by its name, got {describe(values)}.")
    if isinstance(values, dict):
        keys: Sequence[str] = list(values)
    else:
        keys = default_keys("input", len(values) if several else 1)
    if converter is not None:
        keys = converter.input_keys
    dims = [()] * len(keys) if converter is None else converter.input_dim
    parts = [_tensor(x, "values") for x in (split_inputs(values, dims, keys, "values") if several else [values])]
    if len(parts) != len(keys):
        raise ValueError(f"Argument 'values': expected values of {len(keys)} inputs, got {len(parts)}.")
    if converter is None:
        shapes = _shapes(data, parts, keys)
        dims = [shape if channels_first else (shape[-1], *shape[:-1]) for shape in shapes]
    own = [dim if channels_first else channels_last(dim) for dim in dims]
    whole = []
    of_data = "" if data is None or converter is not None else " of 'data'"
    for part, dim in zip(parts, own, strict=True):
        if tuple(part.shape[1:]) == tuple(dim):
            part = part[..., None]
        if tuple(part.shape[1:-1]) != tuple(dim):
            raise ValueError(
                f"Argument 'values': expected the shape {dims_text([dim])}{of_data} for one output node, or that and "
                f"an axis of nodes, got {tuple(part.shape)}. 'channels_first' says where the channels of your values "
                "are."
            )
        whole.append(part)
    described: Described
    if converter is None:
        names: list[LayerNames] = (
            [default_names(dim) for dim in dims]
            if input_names is None
            else read_names(input_names, dims, "input_names")
        )
        nodes = _node_count(whole[0].shape[-1], output_names, output_idx, target)
        labels = [default_names((nodes,), ("Y",))]
        labels = labels if output_names is None else read_names(output_names, [(nodes,)], "output_names")
        described = _Shapes(
            make_ports(keys, dims, names), make_ports(default_keys("output", 1), [(nodes,)], labels), channels_first
        )
    else:
        described = converter
    if data is None:
        return described, whole, []
    dtype = torch.float64 if whole[0].dtype == torch.float64 else torch.float32
    read = read_data(data, dims, channels_first, dtype, "data", described.input_names, keys)
    if read[0].shape[0] != whole[0].shape[0]:
        raise ValueError(f"Argument 'values': expected a row for each of 'data' ({len(read[0])}), got {len(whole[0])}.")
    return described, whole, read


def _shapes(data: Any, parts: Sequence[Tensor], keys: Sequence[str]) -> list[tuple[int, ...]]:
    if data is None:
        return [tuple(part.shape[1:]) for part in parts]
    if len(keys) > 1 and not (isinstance(data, list | tuple | dict) and len(data) == len(keys)):
        raise ValueError(
            f"Argument 'data': expected one for each of the {len(keys)} inputs of 'values', got {describe(data)}."
        )
    split = split_inputs(data, [()] * len(keys), keys, "data") if len(keys) > 1 or isinstance(data, dict) else [data]
    return [tuple(_tensor(x, "data").shape[1:]) for x in split]


def _node_count(count: int, output_names: Any, output_idx: Any, target: Any) -> int:
    """Return how many nodes the model has at least."""
    if isinstance(output_names, list | tuple | np.ndarray) and len(output_names):
        first = output_names[0]
        named = len(first) if isinstance(first, list | tuple | np.ndarray) else len(output_names)
        if named < count:
            raise ValueError(f"Argument 'output_names': expected names of at least {count} nodes, got {named}.")
        return named
    numbers = [int(n) for given in (output_idx, target) for n in _entries(given) if is_whole(n)]
    if numbers and max(numbers) >= MOST_NODES:
        which = "target" if output_idx is None else "output_idx"
        raise ValueError(f"Argument '{which}': expected nodes below {MOST_NODES}, got {max(numbers)}.")
    return max([count, *(n + 1 for n in numbers)])


def _entries(given: Any) -> list[Any]:
    """Return what is in nested lists."""
    if isinstance(given, Tensor | np.ndarray):
        given = without_tensors(given).tolist()
    return [entry for one in given for entry in _entries(one)] if isinstance(given, list | tuple) else [given]
