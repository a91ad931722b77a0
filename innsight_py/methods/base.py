"""What all model-specific methods share: reading arguments, walking back in chunks, and holding the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BeforeValidator
from torch import Tensor
from tqdm.auto import tqdm

from innsight_py._checks import WrongTypeError, warn
from innsight_py._elementwise import all_finite
from innsight_py._printing import method_html, method_text
from innsight_py.converter import DTYPES, Explainable
from innsight_py.data import read_data, to_channels_first
from innsight_py.explanation import Buffers, Described, Explanation
from innsight_py.graph import Explained, Graph, Step, Trace
from innsight_py.layers.base import empty_like
from innsight_py.selection import Selection, select_outputs

#: Bytes that one backward walk may hold at its widest layer, at least and at most: about what stays in a core's cache,
#: and enough to outweigh the weights, which every walk reads again (found by timing).
CACHE_BYTES = (3 * 2**19, 6 * 2**20)
#: Bytes of the values that a forward pass keeps for the walk back.
TRACE_BYTES = 64 * 2**20


def _explainable(value: object) -> object:
    if not isinstance(value, Explainable):
        raise WrongTypeError("a Converter")
    return value


#: What the gradient methods take: a converter, or a module as it is (see `innsight_py.bare`).
AnyConverter = Annotated[Explainable, BeforeValidator(_explainable)]

_SHARED_PARAMETERS = """channels_first : bool, optional
        Whether the channels are the first or the last axis of each instance, in the data given and in the result.
        The answers are the same. Default: as the model has them (`Converter.channels_first`): last for most Keras
        models, first otherwise.
    output_idx : int, sequence of int, or list of these and None, optional
        Output nodes to explain, counted from 0: of the first output layer, or with an entry for each output layer
        (None: not wanted). Default: the first ten nodes of the first output layer.
    output_label : str, sequence of str, or list of these and None, optional
        The same by label.
    {ignore_last_act}verbose : bool, optional
        Show a progress bar. Default: when someone is watching (a terminal or a notebook).
    dtype : {{"float", "double"}}
        Precision of the calculation. The converter is not changed by it.
    batch_size : int, optional
        At most so many rows (or points of a path) travel together. Default: chosen so that they fit into memory."""
_IGNORE_LAST_ACT = """ignore_last_act : bool
        Explain the output before its last activation (Dense and convolution layers have one); otherwise, and for
        other last layers, its value.
    """


class InterpretingMethod(Explanation):
    """Base class of the methods; see `Explanation` for the attributes."""

    title: ClassVar[str] = "InterpretingMethod"

    def __init_subclass__(cls, ignores_last_act: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__doc__ and "%(shared)s" in cls.__doc__:
            shared = _SHARED_PARAMETERS.format(ignore_last_act=_IGNORE_LAST_ACT if ignores_last_act else "")
            cls.__doc__ = cls.__doc__.replace("%(shared)s", shared)

    def __init__(
        self,
        converter: Described,
        *,
        channels_first: bool | None,
        output_idx: Any,
        output_label: Any,
        ignore_last_act: bool,
        verbose: bool | None,
        dtype: Literal["float", "double"],
        batch_size: int | None,
    ) -> None:
        self.converter = converter
        own = bool(getattr(converter, "channels_first", True))
        self.channels_first = own if channels_first is None else channels_first
        self.ignore_last_act = ignore_last_act
        self.verbose = verbose
        self.dtype: Literal["float", "double"] = dtype
        self.batch_size = batch_size
        selection = select_outputs(output_idx, output_label, converter.output_dim, converter.output_names)
        self._selection = selection
        self.output_idx = [None if nodes is None else list(nodes) for nodes in selection.idx]
        self.output_label = [None if labels is None else list(labels) for labels in selection.labels]
        self.data: list[Tensor] = []
        self.result: Buffers = []
        self.preds: list[Tensor | None] | None = None
        self.decomp_goal: list[Tensor | None] | None = None

    # -- for subclasses -----------------------------------------------------------------------------------------

    @property
    def _model(self) -> Graph:
        assert isinstance(self.converter, Explainable)
        return self.converter.model_in(self.dtype)

    def _read(self, data: Any, argument: str) -> list[Tensor]:
        """Read data in the user's layout."""
        read = read_data(
            data, self.converter.input_dim, self.channels_first, DTYPES[self.dtype], argument,
            self.converter.input_names,
        )  # fmt: skip
        if argument == "data":
            _warn_of_missing(read)
        return read

    def _read_reference(self, data: Any, argument: str, single: bool) -> list[Tensor]:
        """Read reference data, zeros where there are none."""
        if data is None:
            return [x.new_zeros((1, *x.shape[1:])) for x in self.data]
        reference = self._read(data, argument)
        if not all(all_finite(x) for x in reference):
            raise ValueError(
                f"Argument '{argument}': expected finite numbers, got NaN or infinite ones, which would spread to "
                "every result."
            )
        if single and reference[0].shape[0] != 1:
            raise ValueError(
                f"Argument '{argument}': expected a single row for {type(self).__name__}, "
                f"got {reference[0].shape[0]} rows."
            )
        return reference

    def _first(self, data: Sequence[Tensor]) -> list[Tensor]:
        """Bring data into the model's layout, on the model's device."""
        device = self._model.device
        return [to_channels_first(x, self.channels_first).to(device) for x in data]

    def _take(self, inputs: Sequence[Tensor], rows: slice) -> list[Tensor]:
        """Take some rows of all inputs, laid out in memory as the model is quickest with them."""
        return self._model.lay_out([x[rows] for x in inputs])

    def _finish(self, buffers: Buffers) -> Buffers:
        """Bring buffers ``(K, B, *dims)`` into the shape and layout of results, ``(B, *dims, K)``."""

        def arrange(x: Tensor | None) -> Tensor | None:
            if x is None:
                return None
            x = x.movedim(0, -1)
            return x if self.channels_first or x.dim() < 4 else x.movedim(1, -2)

        return [None if row is None else [arrange(x) for x in row] for row in buffers]

    def _fields(self) -> list[tuple[str, str]]:
        """Fields that only this method has, for printing."""
        return []

    def __repr__(self) -> str:
        return method_text(self)

    def _repr_html_(self) -> str:
        return method_html(self)


def _warn_of_missing(data: list[Tensor]) -> None:
    """Warn of rows that hold NaN or infinite values."""
    if all(all_finite(x) for x in data):
        return
    whole = torch.stack([x.isfinite().flatten(1).all(1) for x in data]).all(0)
    rows = (~whole).nonzero().flatten().tolist()
    warn(
        f"Argument 'data': {len(rows)} of {len(whole)} rows hold NaN or infinite values (the first is "
        f"data_{rows[0] + 1}): predictions and attributions of these rows mean nothing. Other rows are right."
    )


class Walk:
    """Backward walks for all selected nodes of a method, in chunks, and what they add up to."""

    def __init__(self, method: InterpretingMethod, rows: int) -> None:
        self.model = method._model
        self.selection: Selection = method._selection
        self.what: dict[int, Explained] = {
            i: self.model.explained(i, method.ignore_last_act) for i in self.selection.layers
        }
        self.rows = rows
        self._cap = method.batch_size
        self._dtype, self._device = DTYPES[method.dtype], self.model.device
        sizes, itemsize = self.model.sizes, self._dtype.itemsize
        self._trace_bytes, self._widest_bytes = sizes.trace * itemsize, sizes.widest * itemsize
        least, most = CACHE_BYTES
        self._cache_bytes = min(max(least, 8 * sizes.weights * itemsize), most)
        self.buffers: Buffers = [
            None if nodes is None else [None] * len(self.model.inputs) for nodes in self.selection.idx
        ]
        self._preds: list[list[Tensor]] = [[] for _ in self.selection.idx]
        self._goals: list[list[Tensor]] = [[] for _ in self.selection.idx]
        self._no_grad = torch.no_grad()
        self._title, self._verbose = method.title, method.verbose
        self._done = 0.0  # rows
        self._bar: Any = None

    def __enter__(self) -> Walk:
        # Not inference mode: results would then be of no use to autograd, and neither would a layer that falls back
        # on it for its own backward step.
        self._no_grad.__enter__()
        if self._verbose:
            self._show()
        return self

    def __exit__(self, *error: Any) -> None:
        self._no_grad.__exit__(*error)
        if self._bar is not None:
            self._bar.close()

    # -- chunks -------------------------------------------------------------------------------------------------

    def points_together(self) -> int:
        """How many rows (or points) one trace holds, so that a layer's values stay in the cache."""
        points = max(1, min(TRACE_BYTES // self._trace_bytes, self._cache_bytes // self._widest_bytes))
        return min(points, self._cap) if self._cap else points

    def row_chunks(self, rows: int) -> list[slice]:
        """Cut so many rows into chunks of equal size that fit into memory."""
        pieces = math.ceil(rows / self.points_together())
        size = math.ceil(rows / pieces)
        return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]

    def blocks(self, n: int) -> Iterator[tuple[slice, slice]]:
        """Cut rows times n points a row into blocks: several whole rows, or some points of one row."""
        together = self.points_together()
        if together >= n:
            rows = together // n
            for start in range(0, self.rows, rows):
                yield slice(start, min(start + rows, self.rows)), slice(0, n)
        else:
            for row in range(self.rows):
                for start in range(0, n, together):
                    yield slice(row, row + 1), slice(start, min(start + together, n))

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
        self, step: Step, batch: int, done: float, start: Callable[[Explained], Tensor] | None = None
    ) -> Iterator[tuple[int, slice, list[Tensor | None]]]:
        """Walk back from every selected node.

        Parameters
        ----------
        step : callable
            The method's rule.
        batch : int
            Rows that the walk carries.
        done : float
            How many rows of the result are done with it (a part of one, where a row takes several walks).
        start : callable, optional
            Gives the value that each explained node starts with, shape ``(B, nodes)``. Default: 1.

        Yields
        ------
        layer, nodes, pieces
            Number of the output layer, which of its selected nodes, and a tensor ``(K, B or 1, *dims)`` or None for
            each input.
        """
        together = max(1, self._cache_bytes // (batch * self._widest_bytes))
        chunks = [
            (i, nodes[first : first + together], first)
            for i, nodes in ((i, self.selection.idx[i] or ()) for i in self.what)
            for first in range(0, len(nodes), together)
        ]
        for i, chunk, first in chunks:
            what, size = self.what[i], self.model.output_dims[i][0]
            places = np.zeros((len(chunk), 1, size), np.float64 if self._dtype == torch.float64 else np.float32)
            places[np.arange(len(chunk)), 0, list(chunk)] = 1
            one_hot = torch.from_numpy(places).to(self._device)
            seed = one_hot if start is None else one_hot * start(what)
            yield i, slice(first, first + len(chunk)), self.model.backward(what, seed, step)
            self._advance(done / len(chunks))

    def put(self, i: int, j: int, nodes: slice, rows: slice, piece: Tensor, factor: Tensor | None = None) -> None:
        """Write a piece ``(K, rows or 1, *dims)`` of what output layer i gives to input j, where nothing else is added.

        It is multiplied by `factor`, ``(rows, *dims)``, on the way.
        """
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
        row, selected = self.buffers[i], self.selection.idx[i]
        assert row is not None
        assert selected is not None
        buffer = row[j]
        if buffer is None:
            shape = (len(selected), self.rows, *piece.shape[2:])
            buffer = row[j] = empty_like(piece, shape)
            if zeros:
                buffer.zero_()
        return buffer

    # -- what is explained --------------------------------------------------------------------------------------

    def observe(self, trace: Trace, value: Callable[[Explained], Tensor] | None = None) -> None:
        """Note predictions and explained values of the next rows."""
        for i, what in self.what.items():
            nodes = list(self.selection.idx[i] or ())
            self._preds[i].append(trace.values[self.model.outputs[i]][:, nodes])
            self._goals[i].append((trace.explained(what) if value is None else value(what))[:, nodes])

    def observe_all(self, inputs: Sequence[Tensor]) -> None:
        """Run the model over all rows only to note predictions and explained values."""
        for rows in self.row_chunks(self.rows):
            self.observe(self.model.trace([x[rows] for x in inputs]))

    def predictions(self) -> list[Tensor | None]:
        """Return the predictions noted, ``(B, K)`` for each selected output layer."""
        return [_joined(parts) for parts in self._preds]

    def explained(self, minus: dict[int, Tensor] | None = None) -> list[Tensor | None]:
        """Return the explained values noted, less a reference value ``(nodes,)`` for each selected output layer."""
        values: list[Tensor | None] = []
        for i, parts in enumerate(self._goals):
            value = _joined(parts)
            if value is not None and minus is not None:
                value = value - minus[i][list(self.selection.idx[i] or ())]
            values.append(value)
        return values

    def mean_explained(self, inputs: Sequence[Tensor]) -> dict[int, Tensor]:
        """Return the mean of the explained values over reference rows, all nodes, for each selected output layer."""
        rows = inputs[0].shape[0]
        sums: dict[int, Tensor] = {}
        for chunk in self.row_chunks(rows):
            trace = self.model.trace([x[chunk] for x in inputs])
            for i, what in self.what.items():
                part = trace.explained(what).sum(0)
                sums[i] = sums[i] + part if i in sums else part
        return {i: total / rows for i, total in sums.items()}


def _joined(parts: list[Tensor]) -> Tensor | None:
    return torch.cat(parts) if len(parts) > 1 else parts[0] if parts else None


def random_source(seed: int | torch.Generator | None) -> np.random.Generator:
    """Return the source of random numbers for a seed; without one it is seeded from torch's global generator.

    Draws come in single precision, the same for both dtypes and however the work is cut into chunks.
    """
    if not isinstance(seed, int):
        seed = int(torch.randint(2**63 - 1, (1,), generator=seed))
    return np.random.default_rng(seed)


def times_difference(buffers: Buffers, inputs: list[Tensor], reference: list[Tensor]) -> None:
    """Multiply buffers ``(K, B, *dims)`` by the difference of inputs and reference, in place."""
    for row in buffers:
        for buffer, x, x_ref in zip(row or [], inputs, reference, strict=False):
            if buffer is not None:
                buffer *= x - x_ref


def reference_text(reference: list[Tensor]) -> str:
    """Describe reference values as R does: zeros, or their mean and quartiles."""
    values = torch.cat([x.flatten() for x in reference]).double()
    if not bool(values.any()):
        return "zeros"
    q1, q3 = (float(q) for q in np.quantile(values.cpu().numpy(), [0.25, 0.75]))
    return f"mean: {float(values.mean()):.6g} (q1: {q1:.6g}, q3: {q3:.6g})"
