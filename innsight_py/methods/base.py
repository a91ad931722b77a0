"""What all methods share when they compute: bringing data to where the walk ends, and results into their shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from innsight_py.inputs.data import to_channels_first
from innsight_py.methods.alarm import warn_of_new_nans
from innsight_py.methods.asked import Asked
from innsight_py.methods.documentation import DATA, IGNORE_LAST_ACT, SHARED, documented
from innsight_py.model.explainable import DTYPES
from innsight_py.model.graph import Graph
from innsight_py.model.section import Section
from innsight_py.model.tokens import looked_up, to_entries
from innsight_py.results.attributions import Buffers
from innsight_py.results.text import attributions_html, attributions_text

#: Bytes of the values of a forward pass that goes up to where a section begins.
HEAD_BYTES = 64 * 2**20


class Walked(Protocol):
    """What a walk leaves behind, see `innsight_py.methods.walk.Walk`."""

    buffers: Buffers

    def targets(self) -> list[Tensor | None]:
        """Return the node of each row, ``(B,)`` for each output layer with a target."""

    def largest(self) -> list[Tensor | None]:
        """Return the node with the largest output of each row, ``(B,)`` for each selected output layer."""

    def predictions(self) -> list[Tensor | None]:
        """Return the predictions noted, ``(B, K)`` for each selected output layer."""


class InterpretingMethod(Asked):
    """Base class of the methods; see `Explanation` for the attributes."""

    title: str = "InterpretingMethod"
    #: Whether the method can be called again on other data; values that were handed in cannot.
    can_be_repeated: ClassVar[bool] = True

    def __init_subclass__(cls, ignores_last_act: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        ignore_last_act = IGNORE_LAST_ACT if ignores_last_act else ""
        documented(data=DATA, shared=SHARED.replace("%(ignore_last_act)s", ignore_last_act))(cls)

    def _at_inputs(self, data: Sequence[Tensor]) -> list[Tensor]:
        """Bring data into the model's layout, on the model's device."""
        device = self._whole_model.device
        moved = data if self.channels_first else [to_channels_first(x, False) for x in data]
        return [x if x.device == device else x.to(device) for x in moved]

    def _first(
        self, data: Sequence[Tensor], graph: Graph | None = None, instead: Mapping[str, Tensor] | None = None
    ) -> list[Tensor]:
        """Bring data to where the walk ends, in the model's layout, on the model's device.

        That is behind the preparation where the method wants that, and where a section begins if one is walked.
        References may have values `instead` of those of layers.

        Returns
        -------
        list of Tensor
            A tensor ``(rows, *dims)`` for each of `Graph.inputs`, and then for each of `Graph.held`.
        """
        graph, whole = self._model if graph is None else graph, self._whole_model
        inputs = self._at_inputs(data)
        if inputs and whole.preparation and self._base is not whole:
            inputs = whole.prepare(inputs)
        if not isinstance(graph, Section) or not inputs:
            return inputs
        rows = max(1, HEAD_BYTES // (whole.sizes.trace * DTYPES[self.dtype].itemsize))
        if self.batch_size is not None:
            rows = min(rows, self.batch_size)
        chunks = list(zip(*(torch.split(x, rows) for x in inputs), strict=True))
        starts = range(0, len(chunks) * rows, rows)
        parts = [
            graph.enter(some, {k: x if len(x) == 1 else x[i : i + len(some[0])] for k, x in (instead or {}).items()})
            for i, some in zip(starts, chunks, strict=True)
        ]
        values = [torch.cat(column) if len(column) > 1 else column[0] for column in zip(*parts, strict=True)]
        if data is self.data:
            self._inner |= dict(zip(graph.inputs, values, strict=False))
        return values

    def _first_reference(self, reference: Sequence[Tensor], graph: Graph, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Bring references to where the walk ends; what is given with a row is the row's own, as `inputs` have it."""
        values = self._first(reference, graph, self._instead)
        if not isinstance(graph, Section) or not graph.given:
            return values
        times = max(1, len(values[0]) // len(inputs[0]))
        rows = times * len(inputs[0])
        return [
            inputs[i].repeat_interleave(times, 0) if name in graph.given else x.expand(rows, *x.shape[1:])
            for i, (name, x) in enumerate(zip((*graph.inputs, *graph.held), values, strict=True))
        ]

    def _take(self, inputs: Sequence[Tensor], rows: slice, graph: Graph | None = None) -> list[Tensor]:
        """Take some rows of all inputs, laid out in memory as the model is quickest with them."""
        graph = self._model if graph is None else graph
        is_all = rows.start == 0 and rows.stop == inputs[0].shape[0]
        return graph.lay_out(inputs if is_all else [cut(x, rows) for x in inputs])

    def _take_reference(self, reference: Sequence[Tensor], rows: slice, graph: Graph) -> list[Tensor]:
        """Take the references of some rows: the only one, where it is the same for all."""
        return graph.lay_out([x if len(x) == 1 else x[rows] for x in reference])

    def _finish(self, walk: Walked) -> None:
        """Take over what a walk found; buffers ``(K, B, *dims)`` get shape and layout of results, ``(B, *dims, K)``."""
        first, buffers = self.channels_first, walk.buffers
        if self.layer is None and self._embeds:
            buffers = self._by_inputs(buffers)

        def arrange(x: Tensor | None) -> Tensor | None:
            if x is None:
                return None
            x = x.movedim(0, -1)
            return x if first or x.dim() < 4 else x.movedim(1, -2)

        self.result = [None if row is None else [arrange(x) for x in row] for row in buffers]
        self._take_targets(walk.targets(), walk.largest())
        self._given_data, self.preds = self.data, walk.predictions()
        warn_of_new_nans(self.title, self._model, self.result, self.data, self._passes(), self.data_name, self.preds)
        if self.layer is not None:
            self._take_layers()

    def _by_inputs(self, buffers: Buffers) -> Buffers:
        """Return what came to vectors as one number for each entry of the inputs that go into embeddings."""
        model = self._model
        places = {name: j for j, name in enumerate(model.inputs)}
        vectors = looked_up(self._base)
        found: Buffers = []
        for row in buffers:
            if row is None:
                found.append(None)
                continue
            pieces: list[Tensor | None] = []
            for name, port in zip(self._base.inputs, self._converter.inputs, strict=True):
                parts = [row[places[name]]] if name in places else []
                for looked in vectors:
                    piece = row[places[looked.layer]] if looked.source == name else None
                    parts.append(None if piece is None else to_entries(piece, looked, port.dim))
                there = [part for part in parts if part is not None]
                pieces.append(sum(there[1:], there[0]) if there else None)
            found.append(pieces)
        return found

    def _take_targets(self, targets: list[Tensor | None], largest: list[Tensor | None]) -> None:
        """Keep which node each row has, and which has its largest output."""
        self._name_targets([None if nodes is None else nodes.tolist() for nodes in targets])
        self._largest = largest

    def _take_layers(self) -> None:
        """Let the values of the layers take the place of the data, and find out whether sums over them mean anything.

        They do where every path to what is explained passes exactly one of the layers.
        """
        model = self._model
        assert isinstance(model, Section)
        if self.data:
            values = [self._inner[name] for name in model.inputs]
            self.data = [x if self.channels_first or x.dim() < 3 else x.movedim(1, -1) for x in values]
        self.decomposes = self.decomposes and (len(model.inputs) == 1 if self.own_path else model.is_cut)

    def _passes(self) -> Iterator[tuple[str, list[Tensor]]]:
        """Give what the model was run for, in the model's layout: the data, and references where there are some."""
        given = (
            ("this row", self._given_data),
            ("the reference", getattr(self, "x_ref", getattr(self, "data_ref", []))),
        )
        for what, data in given:
            if len(data):
                instead = None if data is self._given_data else self._instead
                flat = [x.flatten(0, 1) if has_rows(data, self._given_data) else x for x in data]
                yield what, self._first(flat, None, instead)

    def _fields(self) -> list[tuple[str, str]]:
        """Fields that only this method has, for printing."""
        return []

    def __repr__(self) -> str:
        return attributions_text(self, self._fields())

    def _repr_html_(self) -> str:
        return attributions_html(self, self._fields())


def cut(x: Tensor, rows: slice) -> Tensor:
    """Take some rows of a tensor."""
    return x if rows.start == 0 and rows.stop == x.shape[0] else x[rows]


def random_source(seed: int | torch.Generator | None) -> np.random.Generator:
    """Return the source of random numbers for a seed; without one it is seeded from torch's global generator.

    Draws come in single precision, the same for both dtypes and however the work is cut into chunks.
    """
    if not isinstance(seed, int):
        seed = int(torch.randint(2**63 - 1, (1,), generator=seed))
    return np.random.default_rng(seed)


def times_difference(buffers: Buffers, inputs: list[Tensor], reference: list[Tensor], first: int = 0) -> None:
    """Multiply buffers ``(K, B, *dims)`` by the difference of inputs and reference, in place; some before `first`."""
    for row in buffers:
        for buffer, x, x_ref in zip((row or [])[first:], inputs, reference, strict=False):
            if buffer is not None:
                buffer *= x - x_ref


def has_rows(reference: Sequence[Tensor], data: Sequence[Tensor]) -> bool:
    """Tell whether each row has references of its own, ``(B, n, *dims)``."""
    return reference[0].dim() > data[0].dim()


def reference_text(reference: list[Tensor], name: str | None = None) -> str:
    """Describe reference values as R does, zeros or their mean and quartiles, after their name if they have one."""
    if name is not None and name != "zeros":
        said = "the center of the model's preparation" if name == "center" else f"the {name} of the data"
        return f"{said}, {reference_text(reference)}"
    values = torch.cat([x.flatten() for x in reference]).double()
    if not bool(values.any()):
        return "zeros"
    q1, q3 = (float(q) for q in np.quantile(values.cpu().numpy(), [0.25, 0.75]))
    return f"mean: {float(values.mean()):.6g} (q1: {q1:.6g}, q3: {q3:.6g})"
