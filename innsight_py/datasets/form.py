"""What the explanations of a job look like: known before the first row is explained, and kept with every part."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from innsight_py.datasets.arrow import Column
from innsight_py.datasets.block import Block
from innsight_py.explanation import Explanation
from innsight_py.functions.elementwise import are_finite
from innsight_py.inputs.data import channels_last
from innsight_py.inputs.nodes import node_label
from innsight_py.inputs.ports import Port

#: Bytes of values that are laid out anew together: they stay in the cache.
PIECE_BYTES = 2**17
Layout = Literal["wide", "dense", "long"]
#: Columns that every layout begins with.
HEAD = ("id", "output", "target", "pred", "goal", "residual", "status", "error")
#: How the values of a row that went well, and of one that did not, are marked.
OK, ERROR = "ok", "error"


@dataclass(frozen=True)
class Form:
    """Shapes and names of explanations, in plain values that JSON can hold.

    Attributes
    ----------
    inputs, outputs : tuple of Port
        What is explained, and the outputs that it is explained for; inputs that only come with each row are left out.
    reach : tuple of tuple of bool
        For each output layer and each of `inputs` whether the one depends on the other; empty for an output layer that
        is not explained.
    labels : tuple of tuple of str
        For each output layer the labels of the nodes that lines may be about.
    per_row : tuple of (str or None)
        For each output layer what stands for the nodes of all rows, where each row has its own.
    nodes : tuple of (tuple or None)
        For each output layer the explained nodes, where all rows have the same.
    layout : {"wide", "dense", "long"}
        How parts hold the values.
    facts : dict
        Attributes of the explanations that are the same for all rows.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    channels_first: bool
    dtype: Literal["float", "double"]
    reach: tuple[tuple[bool, ...], ...]
    labels: tuple[tuple[str, ...], ...]
    per_row: tuple[str | None, ...]
    nodes: tuple[Any, ...]
    layout: Layout
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def sizes(self) -> list[int]:
        """Number of values of a line for each input."""
        return [math.prod(port.dim) for port in self.inputs]

    @property
    def lines(self) -> int:
        """Number of lines of a row that goes well."""
        return sum(
            0 if not reach else 1 if own is not None else len(labels)
            for reach, own, labels in zip(self.reach, self.per_row, self.labels, strict=True)
        )

    def dim(self, j: int) -> tuple[int, ...]:
        """Return the shape of the values of input j, in the layout of the data."""
        dim = self.inputs[j].dim
        return dim if self.channels_first else channels_last(dim)

    # -- blocks -------------------------------------------------------------------------------------------------

    def block(self, explanation: Explanation, ids: Column) -> Block:
        """Bring an explanation of rows with these ids into the form of all layouts."""
        rows, kept = len(ids), _explained_inputs(explanation)
        layers, nodes, numbers, reached = [], [], [], []
        values: list[list[np.ndarray]] = [[] for _ in self.inputs]
        for i, row in enumerate(explanation.result):
            if row is None:
                continue
            k = 1 if self.per_row[i] is not None else len(self.labels[i])
            own = explanation.own_nodes(i)
            layers.append(np.full((rows, k), i, np.int32))
            each = np.asarray(own)[:, None] if own is not None else np.arange(k)
            nodes.append(np.broadcast_to(each, (rows, k)).astype(np.int32))
            numbers.append(_numbers(explanation, i, rows, k))
            reached.append([[reached] * k for reached in self.reach[i]])
            for j, place in enumerate(kept):
                values[j].append(self._values(row[place], j, rows, k))
        lines = self.lines
        together = [self._laid_out(_beside(x).reshape(rows * lines, -1)) for x in values]
        known = np.full((3, rows * lines), np.nan)
        known[:2] = _beside(numbers, 2).reshape(2, -1)
        if explanation.decomposes:
            known[2] = known[1]
            for x, own in zip(together, np.concatenate(reached, 1), strict=True):
                known[2] -= np.where(np.tile(own, rows), _sum_of_lines(x), 0)
        return Block(
            ids if lines == 1 else ids.take(np.repeat(np.arange(rows), lines)),
            _beside(layers).ravel(), _beside(nodes).ravel(), known.T, together,
            np.empty(rows * lines, object),  # of None
        )  # fmt: skip

    def _laid_out(self, values: np.ndarray) -> np.ndarray:
        """Let the values of each column lie together, where they are written and counted by columns."""
        return _by_columns(values) if self.layout == "wide" else values

    def _values(self, tensor: Tensor | None, j: int, rows: int, k: int) -> np.ndarray:
        """Return attributions ``(rows, *dims, K)`` as ``(rows, K, size)``, NaN where there are none."""
        if tensor is None:
            return np.full((rows, k, self.sizes[j]), np.nan, np.float64 if self.dtype == "double" else np.float32)
        flat: np.ndarray = tensor.detach().movedim(-1, 1).reshape(rows, k, -1).cpu().numpy()
        return flat

    def fine(self, block: Block) -> np.ndarray:
        """Tell for each row of a block of good lines whether all of its attributions are finite."""
        fine: Any = np.ones(len(block), bool)
        if all(all(reach) for reach in self.reach) and are_finite(map(torch.from_numpy, block.values)):
            return np.ones(len(block) // self.lines, bool)
        for i, reach in enumerate(self.reach):
            lines = slice(None) if len(self.reach) == 1 else block.layers == i
            for j, reached in enumerate(reach):
                if reached:
                    fine[lines] = fine[lines] & np.isfinite(block.values[j][lines]).all(1)
        rows: np.ndarray = fine.reshape(-1, self.lines).all(1)
        return rows

    def wrong(self, ids: Column, errors: Sequence[str]) -> Block:
        """Return the lines of rows that went wrong."""
        rows, dtype = len(ids), np.float64 if self.dtype == "double" else np.float32
        return Block(
            ids, np.full(rows, -1, np.int32), np.full(rows, -1, np.int32), np.full((rows, 3), np.nan),
            [np.full((rows, size), np.nan, dtype) for size in self.sizes], np.array(list(errors), object),
        )  # fmt: skip

    # -- JSON ---------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Write all that is known."""
        state = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("inputs", "outputs")}
        ports = {name: [_port_state(port) for port in getattr(self, name)] for name in ("inputs", "outputs")}
        return json.dumps(state | ports)

    @classmethod
    def from_json(cls, text: str) -> Form:
        """Read what `to_json` wrote."""
        state = json.loads(text)
        for name in ("inputs", "outputs"):
            state[name] = tuple(Port(one["key"], tuple(one["dim"]), one["names"], one["kind"]) for one in state[name])
        for name in ("reach", "labels"):
            state[name] = tuple(tuple(entry) for entry in state[name])
        state["per_row"] = tuple(state["per_row"])
        state["nodes"] = tuple(
            None if one is None else [tuple(node) if isinstance(node, list) else node for node in one]
            for one in state["nodes"]
        )
        return cls(**state)


def form_of(explanation: Explanation, layout: Layout | None) -> Form:
    """Find out from the explanation of any rows what all others will look like.

    Raises
    ------
    ValueError
        If the layout does not suit the inputs, or the method explains no rows.
    """
    if explanation.is_global:
        raise ValueError(
            f"Argument 'method': {explanation.title} explains the model and not each row. Call it once on the "
            "converter, or give times_input=True."
        )
    described, kept = explanation.described, _explained_inputs(explanation)
    inputs = tuple(described.inputs[j] for j in kept)
    tables = all(port.kind in ("table", "tokens") for port in inputs)
    layout = layout or ("wide" if tables else "dense")
    if layout == "wide" and not tables:
        other = next(port for port in inputs if port.kind not in ("table", "tokens"))
        raise ValueError(
            f"Argument 'layout': 'wide' has a column for each feature of a table, but an input is of the shape "
            f"{other.dim}; use 'dense', a list of all values in one column, or 'long'."
        )
    outputs, labels, per_row = described.outputs, [], []
    for i, port in enumerate(outputs):
        own = explanation.targets[i] if explanation.targets else None
        per_row.append(own)
        every = range(math.prod(port.dim) if own is not None else 0)
        chosen = explanation.output_label[i] if own is None else [node_label(k, port.dim, port.names) for k in every]
        labels.append(tuple(chosen or ()))
    facts = {
        "title": explanation.title, "value_name": explanation.value_name, "per_unit": explanation.per_unit,
        "ignore_last_act": explanation.ignore_last_act, "decomposes": explanation.decomposes,
        "losses": list(explanation.losses), "cuts": list(explanation.cuts), "steps": explanation.steps,
    }  # fmt: skip
    return Form(
        inputs, outputs, explanation.channels_first, explanation.dtype,
        tuple(() if row is None else tuple(row[j] is not None for j in kept) for row in explanation.result),
        tuple(labels), tuple(per_row), tuple(explanation.output_idx), layout, facts,
    )  # fmt: skip


def _explained_inputs(explanation: Explanation) -> list[int]:
    """Return the numbers of the inputs that are explained, without those that only come with each row."""
    return [j for j, port in enumerate(explanation.described.inputs) if port.kind != "fixed"]


def _numbers(explanation: Explanation, i: int, rows: int, k: int) -> np.ndarray:
    """Return prediction and goal of all lines of an output layer, ``(2, rows, k)``, NaN where there is none."""
    found = np.full((2, rows, k), np.nan)
    for own, known in zip(found, (explanation.preds, explanation.decomp_goal), strict=True):
        x = None if known is None else known[i]
        if x is not None:
            own[:] = x.detach().cpu().numpy()
    return found


def _beside(parts: Sequence[np.ndarray], axis: int = 1) -> np.ndarray:
    """Put what is known of each output layer side by side."""
    return np.concatenate(parts, axis) if len(parts) > 1 else parts[0]


def _by_columns(rows: np.ndarray) -> np.ndarray:
    """Return the same values with those of each column together, turned piece by piece."""
    columns = np.empty(rows.shape[::-1], rows.dtype)
    step = max(1, PIECE_BYTES // max(1, rows.shape[1] * rows.itemsize))
    for start in range(0, len(rows), step):
        columns[:, start : start + step] = rows[start : start + step].T
    return columns.T


def _sum_of_lines(x: np.ndarray) -> np.ndarray:
    """Add up the values of each line in double precision."""
    summed: np.ndarray = x.T.sum(0, dtype=np.float64) if x.flags.f_contiguous else x.sum(1, dtype=np.float64)
    return summed


def _port_state(port: Port) -> dict[str, Any]:
    return asdict(port) | {"names": [[str(label) for label in axis] for axis in port.names]}
