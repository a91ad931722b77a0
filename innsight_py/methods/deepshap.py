"""DeepSHAP."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from innsight_py._checks import Count, Flag, Seed, checked
from innsight_py.layers import DeepLiftRule
from innsight_py.methods.base import has_rows, random_source, reference_text
from innsight_py.methods.rescaling import Rescaling, beside, deeplift_step
from innsight_py.methods.walk import Walk
from innsight_py.model.converter import Converter
from innsight_py.model.graph import Trace


class DeepSHAP(Rescaling):
    r"""Mean of DeepLift's contributions over a set of references, which estimates Shapley values.

    The sum over the inputs is ``f_k(x)`` minus the mean of ``f_k`` over the references, with the exception of
    `DeepLift`.

    Source: Lundberg and Lee (2017), arXiv:1705.07874.

    Parameters
    ----------
    converter : Converter
        The converted model.
    %(data)s
    data_ref : like `data`, "mean", "median", "mode", "zeros", "center", or Series, optional
        The references: ``(n, *dims)`` for all rows, ``(B, n, *dims)`` for each row, or the name of one row, see
        `DeepLift`. By default it is the center if the model has one, and one row of zeros otherwise.
    limit_ref : int
        At most `limit_ref` references are used. If there are more, they are drawn without replacement (the same
        positions for all rows, where each has its own).
    rule_name : {"rescale", "reveal_cancel"}
        Rule for activations, see `DeepLift`.
    winner_takes_all : bool
        See `DeepLift`.
    seed : int or torch.Generator, optional
        Fixes which references are drawn. Default: drawn from torch's global generator.
    %(shared)s

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value. The message names it.
    UnsupportedLayerError
        If the model has a layer without a rule.

    Warns
    -----
    UserWarning
        If zeros, which nobody asked for, lie far outside of a table.
        If contributions do not add up, with the reason: the winner takes all in a max pooling (R's default), or a
        softmax is explained; see `Explanation.residual`.

    Examples
    --------
    >>> from innsight_py import Converter
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[2.0, -1.0]]}]}
    >>> DeepSHAP(Converter(model), [[2.0, 1.0]], data_ref=[[0.0, 1.0], [1.0, 3.0]]).get_result()[0, :, 0]
    array([3., 1.], dtype=float32)
    """

    title = "DeepSHAP"

    @checked
    def __init__(
        self,
        converter: Converter,
        data: Any,
        *,
        channels_first: Flag | None = None,
        output_idx: Any = None,
        output_label: Any = None,
        target: Any = None,
        data_names: Any = None,
        ignore_last_act: Flag = True,
        rule_name: Literal["rescale", "reveal_cancel"] = "rescale",
        data_ref: Any = None,
        limit_ref: Count = 100,
        winner_takes_all: Flag = True,
        seed: Seed = None,
        verbose: Flag | None = None,
        dtype: Literal["float", "double"] = "float",
        batch_size: Count | None = None,
        layer: Any = None,
        neuron: Any = None,
    ) -> None:
        super().__init__(
            converter.fitting(data), channels_first=channels_first, output_idx=output_idx,
            output_label=output_label, target=target,
            data_names=data_names, ignore_last_act=ignore_last_act, verbose=verbose, dtype=dtype,
            batch_size=batch_size,
            layer=layer, neuron=neuron,
        )  # fmt: skip
        self.rule_name, self.winner_takes_all, self.limit_ref = rule_name, winner_takes_all, limit_ref
        self.data = self._read(data, "data")
        reference = self._read_reference(data_ref, "data_ref", single=False)
        each = has_rows(reference, self.data)
        available = reference[0].shape[1 if each else 0]
        if available > limit_ref:
            drawn = torch.from_numpy(random_source(seed).permutation(available)[:limit_ref].copy())
            reference = [x[:, drawn] if each else x[drawn] for x in reference]
        self.data_ref = reference
        explain = self._explain_each if each else self._explain
        with Walk(self, self.data[0].shape[0]) as walk:
            for column, graph in enumerate(self._walked()):
                walk.go(graph, column)
                inputs = self._first(self.data, graph)
                flat = [x.flatten(0, 1) if each else x for x in reference]
                references = self._first_reference(flat, graph, inputs)
                goal = explain(walk, inputs, references)
            self._finish(walk)
            self.decomp_goal = goal
            self._check_sums(walk, references)

    @property
    def _own_references(self) -> bool:
        return has_rows(self.data_ref, self._given_data)

    def _explain(self, walk: Walk, inputs: list[Tensor], reference: list[Tensor]) -> list[Tensor | None]:
        """Go through all pairs of rows and references and return the goals; each pass is run once.

        The shorter side is looped over and the longer one is the batch.
        """
        count = reference[0].shape[0]
        chunks, chunks_ref = walk.row_chunks(walk.rows), walk.row_chunks(count)
        totals = dict.fromkeys(walk.what, torch.zeros(()))
        for refs in chunks_ref:
            some_ref = walk.model.lay_out([x[refs] for x in reference])
            at_refs = walk.model.trace(some_ref)
            for i, what in walk.what.items():
                totals[i] = totals[i] + at_refs.explained(what).sum(0)
            for rows in chunks:
                some = walk.model.lay_out([x[rows] for x in inputs])
                trace = walk.model.trace(some)
                if refs.start == 0 and walk.column == 0:
                    walk.observe(trace, rows)
                if len(some[0]) >= len(some_ref[0]):
                    for q in range(len(some_ref[0])):
                        self._pairs(walk, trace, at_refs.row(q), some, [x[q : q + 1] for x in some_ref], rows, count)
                else:
                    for p in range(len(some[0])):
                        row = slice(rows.start + p, rows.start + p + 1)
                        self._pairs(walk, trace.row(p), at_refs, [x[p : p + 1] for x in some], some_ref, row, count)
        return walk.explained(minus={i: total / count for i, total in totals.items()})

    def _explain_each(self, walk: Walk, inputs: list[Tensor], reference: list[Tensor]) -> list[Tensor | None]:
        """Go through the pairs of each row and its own references ``(B * n, *dims)``, and return the goals."""
        count = len(reference[0]) // walk.rows
        means: dict[int, list[Tensor]] = {i: [] for i in walk.what}
        for rows in walk.row_chunks(walk.rows):
            some = walk.model.lay_out([x[rows] for x in inputs])
            trace = walk.model.trace(some)
            if walk.column == 0:
                walk.observe(trace, rows)
            for p in range(len(some[0])):
                totals = dict.fromkeys(walk.what, torch.zeros(()))
                row, first = slice(rows.start + p, rows.start + p + 1), (rows.start + p) * count
                for refs in walk.row_chunks(count):
                    some_ref = walk.model.lay_out([x[first + refs.start : first + refs.stop] for x in reference])
                    at_refs = walk.model.trace(some_ref)
                    for i, what in walk.what.items():
                        totals[i] = totals[i] + at_refs.explained(what).sum(0)
                    self._pairs(walk, trace.row(p), at_refs, [x[p : p + 1] for x in some], some_ref, row, count)
                for i, total in totals.items():
                    means[i].append(total / count)
        return walk.explained(minus={i: torch.stack(rows) for i, rows in means.items()})

    def _pairs(
        self, walk: Walk, trace: Trace, at_refs: Trace, some: list[Tensor], some_ref: list[Tensor], rows: slice,
        count: int,
    ) -> None:  # fmt: skip
        """Add the contributions of many rows with one reference, or of one row with many references."""
        rule = DeepLiftRule(self.rule_name, self.winner_takes_all)
        batch = max(len(some[0]), len(some_ref[0]))
        step = deeplift_step(trace, beside(walk, trace, at_refs, some_ref), rule)
        for i, nodes, pieces in walk.back(step, rows, batch, len(some[0]) * len(some_ref[0]) / count):
            for j, piece in enumerate(pieces):
                if piece is not None:
                    contribution = piece * (some[j] - some_ref[j]) / count
                    single = rows.stop - rows.start == 1
                    walk.add(i, j, nodes, rows, contribution.sum(1, keepdim=True) if single else contribution)

    def _fields(self) -> list[tuple[str, str]]:
        return [
            ("rule_name", f"'{self.rule_name}'"),
            ("winner_takes_all", str(self.winner_takes_all)),
            ("data_ref", reference_text(self.data_ref, self.reference_name)),
        ]
