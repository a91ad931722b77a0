"""The backward walk of a method: for all selected nodes, in chunks that fit into memory, and what it adds up to."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from innsight_py.functions.layout import empty_like
from innsight_py.inputs.selection import Selection
from innsight_py.methods import sparing
from innsight_py.methods.base import InterpretingMethod
from innsight_py.methods.plan import plan_of
from innsight_py.methods.sparing import Later, forgetting, keeping
from innsight_py.model.explainable import DTYPES
from innsight_py.model.graph import Explained, Graph, Step, Trace
from innsight_py.results.attributions import Buffers

#: Bytes that one backward walk may hold at its widest layer, at least and at most: about what stays in a core's cache,
#: and enough to outweigh the weights, which every walk reads again (found by timing).
CACHE_BYTES = (3 * 2**19, 6 * 2**20)
#: The same for passes whose layers work in parts that stay in the cache: there the weights are read less often.
PASS_BYTES = 24 * 2**20
#: Bytes of the values that a forward pass keeps for the walk back.
TRACE_BYTES = 64 * 2**20
#: From how many bytes of a pass on only those are kept that the walk back looks at.
LARGE_BYTES = 8 * 2**20


class Walk:
    """Backward walks for all selected nodes of a method, in chunks, and what they add up to."""

    def __init__(self, method: InterpretingMethod, rows: int) -> None:
        self.selection: Selection = method._selection
        self.rows = rows
        self._cap, self._ignore_last_act = method.batch_size, method.ignore_last_act
        model = method._model
        self._dtype, self._device = DTYPES[method.dtype], model.device
        self.go(model)
        outputs = range(len(self.selection.idx))
        self.buffers: Buffers = [[None] * len(model.inputs) if i in self.what else None for i in outputs]
        #: For each output layer the predictions, the explained values and the largest nodes, chunk by chunk.
        self._noted: list[tuple[list[Tensor], list[Tensor], list[Tensor]]] = [([], [], []) for _ in outputs]
        #: For each output layer with a target the node of each row.
        self._targets: dict[int, Tensor] = {}
        for i, target in enumerate(self.selection.targets):
            if target is not None:
                given = target.given(rows)
                known = torch.zeros(rows, dtype=torch.long) if given is None else given
                self._targets[i] = known.to(self._device)
        self._title, self._verbose = method.title, method.verbose
        self._done = 0.0  # rows
        self._bar: Any = None

    def __enter__(self) -> Walk:
        # Not inference mode: results would then be of no use to autograd, and neither would a layer that falls back
        # on it for its own backward step.
        self._no_grad = torch.set_grad_enabled(False)
        if self._verbose:
            self._show()
        return self

    def __exit__(self, *error: Any) -> None:
        self._no_grad.__exit__(*error)
        if self._bar is not None:
            self._bar.close()

    def go(self, model: Graph, column: int = 0) -> None:
        """Walk this from now on; what comes to its first input is the result for input `column`."""
        self.model, self.column = model, column
        self.plan = plan = plan_of(model, self.selection.layers, self._ignore_last_act, self._dtype.itemsize)
        self.what = plan.what
        least, most = CACHE_BYTES
        self._cache_bytes = min(max(least, 8 * plan.weights_bytes), most)
        if plan.steps > 1:  # of a loop through time only one step has to stay in the cache
            self._cache_bytes = min(self._cache_bytes * plan.steps, TRACE_BYTES)

    @property
    def pairs(self) -> int:
        """How many rows and nodes there are to walk back for: their product."""
        return self.rows * sum([self.selection.count(i) for i in self.what])

    # -- chunks -------------------------------------------------------------------------------------------------

    def points_together(self, least: int = 0) -> int:
        """How many rows (or points) one trace holds, so that values stay in the cache, or in `least` bytes."""
        widest = max(self._cache_bytes, least)
        points = max(1, min(TRACE_BYTES // self.plan.trace_bytes, widest // self.plan.widest_bytes))
        return min(points, self._cap) if self._cap else points

    def fits(self, points: int) -> bool:
        """Tell whether `batch_size` lets this many rows (or points) travel at once."""
        return not self._cap or points <= self._cap

    def row_chunks(self, rows: int, least: int = 0) -> list[slice]:
        """Cut `rows` into chunks of equal size that fit into memory, unless all fit into `least` bytes a layer."""
        together = self.points_together()
        if rows <= together or rows <= self.points_together(least):
            return [slice(0, rows)]
        pieces = math.ceil(rows / together)
        size = math.ceil(rows / pieces)
        return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]

    def blocks(self, n: int) -> Iterator[tuple[slice, slice]]:
        """Cut rows times n points a row into blocks: several whole rows, or some points of one row."""
        together = self.points_together()
        if together >= n:
            rows = min(together // n, self.rows)
            for start in range(0, self.rows, rows):
                yield slice(start, min(start + rows, self.rows)), slice(0, n)
        else:
            for row in range(self.rows):
                for start in range(0, n, together):
                    yield slice(row, row + 1), slice(start, min(start + together, n))

    def is_large(self, rows: int) -> bool:
        """Tell whether a pass of `rows` rows takes so much memory that it should keep no more than is needed."""
        return self.plan.trace_bytes * rows >= LARGE_BYTES

    def takes_several(self, batch: int) -> bool:
        """Tell whether walks that carry `batch` rows take some of the nodes each."""
        return self.walked_together(batch) < max((self.selection.count(i) for i in self.what), default=0)

    def walked_together(self, batch: int) -> int:
        """How many nodes a walk that carries `batch` rows takes."""
        return max(1, self._cache_bytes // (batch * self.plan.widest_bytes))

    @property
    def ends(self) -> frozenset[str]:
        """Names of the layers whose values are explained."""
        return self.plan.ends

    def _show(self) -> None:
        """Start the progress bar: when it is asked for, or after the first piece of work, if somebody is watching."""
        self._bar = tqdm(
            desc=f"Backward pass '{self._title}'",
            total=self.rows,
            disable=None if self._verbose is None else False,
            leave=False,
            bar_format="{l_bar}{bar}| {n:.0f}/{total:.0f} rows [{elapsed}<{remaining}]",
        )

    def _advance(self, rows: float) -> None:
        """Show how many rows are done."""
        self._done += rows
        if self._bar is None and self._verbose is None and self._done < self.rows - 0.5:
            self._show()
        if self._bar is not None:
            self._bar.update(min(self._done, self.rows) - self._bar.n)

    # -- the walk -----------------------------------------------------------------------------------------------

    def back(
        self,
        step: Step,
        rows: slice,
        batch: int,
        done: float,
        start: Callable[[Explained], Tensor] | None = None,
        spent: Trace | None = None,
        later: Later | None = None,
        looks_back: bool = False,
    ) -> Iterator[tuple[int, slice, list[Tensor | None]]]:
        """Walk back from every selected node; from its own node for each row of a layer with a target.

        Parameters
        ----------
        step : callable
            The method's rule.
        rows : slice
            The rows of the result. Each comes `batch` by their number times in the walk, one after the other.
        batch : int
            Rows that the walk carries.
        done : float
            How many rows of the result are done with it (a part of one, where a row takes several walks).
        start : callable, optional
            Gives the value that each explained node starts with, shape ``(B, nodes)``. Default: 1.
        spent : Trace, optional
            A pass after which nobody else walks back: what its layers computed for it is let go in the last walk, and
            what they saw with it.
        later : callable, optional
            Says what of that pass the walks after the first look at; the rest is let go in the first one.
        looks_back : bool
            Whether somebody looks at what they saw after the last walk.

        Yields
        ------
        layer, nodes, pieces
            Number of the output layer, which of its selected nodes, and a tensor ``(K, B or 1, *dims)`` or None for
            each input.
        """
        together = self.walked_together(batch)
        chunks = [
            (i, slice(first, min(first + together, count)))
            for i in self.what
            for count in (self.selection.count(i),)
            for first in range(0, count, together)
        ]
        for number, (i, chunk) in enumerate(chunks, 1):
            taken = step
            if spent is not None and self.is_large(batch):
                if number == len(chunks):
                    taken = forgetting(step, spent, None if looks_back else self.ends)
                elif later is not None:
                    taken = keeping(step, spent, self.ends, later)
            what, one_hot = self.what[i], self._one_hot(i, chunk, rows, batch)
            seed = one_hot if start is None else one_hot * start(what)
            yield i, chunk, self.model.backward(what, seed, taken)
            self._advance(done / len(chunks))

    def _one_hot(self, i: int, chunk: slice, rows: slice, batch: int) -> Tensor:
        """Return 1 at each selected node and 0 elsewhere, ``(K, 1, nodes)``, or ``(1, batch, nodes)`` for a target."""
        size, target = self.plan.nodes[i], self._targets.get(i)
        if target is not None:
            own = target[rows]
            places = torch.zeros(1, len(own), size, dtype=self._dtype, device=self._device)
            places[0, torch.arange(len(own), device=self._device), own] = 1
            return places.repeat_interleave(batch // len(own), 1)
        nodes = (self.selection.idx[i] or ())[chunk]
        if size == len(nodes) == 1:
            return _one(self._dtype, self._device)
        ones = np.zeros((len(nodes), 1, size), np.float64 if self._dtype == torch.float64 else np.float32)
        for k, node in enumerate(nodes):
            ones[k, 0, node] = 1
        seed = torch.from_numpy(ones)
        return seed if self._device.type == "cpu" else seed.to(self._device)

    def put(
        self, i: int, j: int, nodes: slice, rows: slice, piece: Tensor, factor: Tensor | None = None, own: bool = False
    ) -> None:  # fmt: skip
        """Write a piece ``(K, rows or 1, *dims)`` of what output layer i gives to input j, where nothing else is added.

        It is multiplied by `factor`, ``(rows, *dims)``, on the way. `own` says that nobody else holds its memory.
        """
        row, shape = self.buffers[i], piece.shape
        is_all = shape[1] == self.rows == rows.stop - rows.start and shape[0] == self.selection.count(i)
        if row is not None and is_all and piece.is_contiguous() and (factor is None or factor.is_contiguous()):
            # Memory of its own.
            row[j + self.column] = piece * factor if factor is not None else piece if own else piece.clone()
            return
        buffer = self._buffer(i, j, piece)
        if factor is None:
            buffer[nodes, rows] = piece
        else:
            torch.mul(piece, factor, out=buffer[nodes, rows])

    def add(self, i: int, j: int, nodes: slice, rows: slice, piece: Tensor) -> None:
        """Add a piece ``(K, rows or 1, *dims)`` to what output layer i gives to input j."""
        self._buffer(i, j, piece, zeros=True)[nodes, rows] += piece

    def _buffer(self, i: int, j: int, piece: Tensor, zeros: bool = False) -> Tensor:
        """Return what holds the result of output layer i for input j, laid out in memory as a piece of it."""
        row = self.buffers[i]
        assert row is not None
        j += self.column
        buffer = row[j]
        if buffer is None:
            shape = (self.selection.count(i), self.rows, *piece.shape[2:])
            buffer = row[j] = empty_like(piece, shape)
            if zeros:
                buffer.zero_()
        return buffer

    # -- what is explained --------------------------------------------------------------------------------------

    def observe(self, trace: Trace, rows: slice, value: Callable[[Explained], Tensor] | None = None) -> None:
        """Note predictions and explained values of some rows, which come in their order; find their targets."""
        for i, what in self.what.items():
            outputs, own = trace.values[self.model.outputs[i]], i in self.plan.own_values
            target = self.selection.targets[i]
            if outputs.shape[1] == 1:
                largest = outputs.new_zeros(outputs.shape[0], dtype=torch.long)
            else:
                largest = outputs.argmax(1)
            preds, goals, all_largest = self._noted[i]
            all_largest.append(largest)
            if target is not None and target.nodes is None:
                self._targets[i][rows] = largest
            preds.append(self._chosen(i, outputs, rows))
            goals.append(self._chosen(i, trace.explained(what) if value is None else value(what), rows, own))

    def _chosen(self, i: int, values: Tensor, rows: slice, own: bool = False) -> Tensor:
        """Take the explained nodes of values ``(rows, nodes)`` of output layer i; `own`: nobody else keeps these."""
        if i in self._targets:
            return values.gather(1, self._targets[i][rows].unsqueeze(1))
        nodes = self.selection.idx[i] or ()
        if len(nodes) == values.shape[1] and (nodes == (0,) or nodes == tuple(range(len(nodes)))):
            if own and values.is_contiguous():
                return values
            return values.clone(memory_format=torch.contiguous_format)
        if nodes and nodes[-1] - nodes[0] == len(nodes) - 1 and all(map(int.__lt__, nodes, nodes[1:])):
            return values.narrow(1, nodes[0], len(nodes)).clone(memory_format=torch.contiguous_format)
        return values[:, list(nodes)]

    def observe_all(self, inputs: Sequence[Tensor]) -> None:
        """Run the model over all rows only to note predictions and explained values."""
        for rows in self.row_chunks(self.rows):
            self.observe(self._seen_from([x[rows] for x in inputs]), rows)

    def _seen_from(self, inputs: list[Tensor]) -> Trace:
        """Run the model only to see what comes out of it."""
        return self.model.trace(inputs, seen=sparing.for_outputs(self.ends) if self.is_large(len(inputs[0])) else None)

    def predictions(self) -> list[Tensor | None]:
        """Return the predictions noted, ``(B, K)`` for each selected output layer."""
        return [_joined(preds) for preds, _, _ in self._noted]

    def explained(self, minus: dict[int, Tensor] | None = None) -> list[Tensor | None]:
        """Return the explained values noted, less those of references, for each selected output layer.

        A reference value is ``(nodes,)``, or ``(1, nodes)`` or ``(B, nodes)``.
        """
        values: list[Tensor | None] = []
        for i, (_, goals, _) in enumerate(self._noted):
            value = _joined(goals)
            if value is not None and minus is not None:
                value = value - self._chosen(i, minus[i].expand(len(value), -1), slice(None))
            values.append(value)
        return values

    def targets(self) -> list[Tensor | None]:
        """Return the node of each row, ``(B,)`` for each output layer with a target."""
        return [self._targets.get(i) for i in range(len(self._noted))]

    def largest(self) -> list[Tensor | None]:
        """Return the node with the largest output of each row noted, ``(B,)`` for each selected output layer."""
        return [_joined(largest) for _, _, largest in self._noted]

    def explained_at(self, inputs: Sequence[Tensor]) -> dict[int, Tensor]:
        """Return the explained values of all nodes at some points, ``(rows, nodes)`` for each selected output layer.

        Where some inputs have one row and others several, the one row counts for all.
        """
        rows = max(x.shape[0] for x in inputs)
        parts: dict[int, list[Tensor]] = {i: [] for i in self.what}
        for chunk in self.row_chunks(rows):
            trace = self._seen_from([x.expand(rows, *x.shape[1:])[chunk] for x in inputs])
            for i, what in self.what.items():
                parts[i].append(trace.explained(what))
        return {i: torch.cat(part) for i, part in parts.items()}

    def explained_for(self, i: int, row: int, inputs: Sequence[Tensor]) -> Tensor:
        """Return the explained values ``(K,)`` of output layer i at one point, for the nodes of a row."""
        return self._chosen(i, self.explained_at(inputs)[i], slice(row, row + 1))[0]

    def mean_explained(self, inputs: Sequence[Tensor]) -> dict[int, Tensor]:
        """Return the mean of the explained values over reference rows, all nodes, for each selected output layer."""
        rows = inputs[0].shape[0]
        sums: dict[int, Tensor] = {}
        for chunk in self.row_chunks(rows):
            trace = self._seen_from([x[chunk] for x in inputs])
            for i, what in self.what.items():
                part = trace.explained(what).sum(0)
                sums[i] = sums[i] + part if i in sums else part
        return {i: total / rows for i, total in sums.items()}


@functools.cache
def _one(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return what walks from an only node start with, and nobody writes to."""
    return torch.ones((1, 1, 1), dtype=dtype, device=device)


def _joined(parts: list[Tensor]) -> Tensor | None:
    return torch.cat(parts) if len(parts) > 1 else parts[0] if parts else None
