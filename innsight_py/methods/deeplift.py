"""DeepLift and DeepSHAP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from innsight_py._checks import Count, Flag, Seed, checked, warn
from innsight_py.layers import DeepLiftRule, Layer
from innsight_py.methods import alarm, sparing
from innsight_py.methods.base import InterpretingMethod, has_rows, random_source, reference_text
from innsight_py.methods.walk import PASS_BYTES, Walk
from innsight_py.model.converter import Converter
from innsight_py.model.graph import Explained, Graph, Step, Trace
from innsight_py.results.completeness import (
    Entry,
    clearly_complete,
    quick_gaps,
    warn_if_incomplete,
    worst_entry,
)


def deeplift_step(trace: Trace, reference: Trace, rule: DeepLiftRule) -> Step:
    """Return the rule of DeepLift between a pass over the data and a pass over references."""

    def step(layer: Layer, upper: Tensor, name: str, start: Explained | None) -> list[Tensor | None]:
        skip = start is not None and start.at_preactivation
        return layer.deeplift(upper, trace[name], reference[name], rule, skip_activation=skip)

    return step


def _calm_winners(
    model: Graph, what: Explained, node: int, trace: Trace, reference: Trace, rule: DeepLiftRule
) -> str:  # fmt: skip
    """Say that shares in the windows of max pooling are what is large, if it is not where the winner takes all."""
    rules = (rule, replace(rule, winner_takes_all=True))
    shared, won = (
        alarm.magnitudes(model, what, node, trace, reference, deeplift_step(trace, reference, each)) for each in rules
    )
    if won * alarm.LARGER >= shared:
        return ""
    return (
        "all inputs of a window of max pooling share its contribution, though their differences nearly cancel. With "
        f"winner_takes_all=True the magnitudes sum to {won:.3g}, but the attributions need not add up"
    )


class _Rescaling(InterpretingMethod):
    """What DeepLift and DeepSHAP share: sums that are exact except where `_losses` says why not."""

    value_name = "Contribution"
    decomposes = True
    rule_name: Literal["rescale", "reveal_cancel"]
    winner_takes_all: bool

    @property
    def _at_prepared(self) -> bool:
        return True

    def _losses(self) -> list[str]:
        rule, model = DeepLiftRule(self.rule_name, self.winner_takes_all), self._model
        ends = {model.explained(i, self.ignore_last_act) for i in self._selection.layers}
        at_preactivation = {end.node for end in ends if end.at_preactivation}
        losses = (
            model.layer(node.name).deeplift_loss(rule, skip_activation=node.name in at_preactivation)
            for node in model.nodes
        )
        return list(dict.fromkeys(loss for loss in losses if loss))

    def _check_sums(self, walk: Walk, reference: list[Tensor]) -> None:
        rounding = "rounding" + (" (dtype='double' has more digits)" if self.dtype == "float" else "")
        self.explained_values = walk.explained()
        self.losses = self._losses()
        if not self.decomposes:
            return
        # Reveal-cancel divides by differences that are nearly 0, as R does; its contributions are known to cancel.
        gaps = quick_gaps(self)
        if clearly_complete(self, gaps, alarm.ROUNDING[self.dtype], alarm.DOUBTFUL):
            return
        complete = not warn_if_incomplete(self, self.losses or [rounding], gaps)
        if complete and self.rule_name == "rescale" and self.layer is None:
            self._warn_of_amplified(walk, reference, rounding, gaps)

    def _walked(self) -> list[Graph]:
        """Return what is walked: layer by layer for reveal-cancel, which takes a layer and its activation as one."""
        return self._sections() if self.rule_name == "reveal_cancel" else [self._model]

    @property
    def _own_references(self) -> bool:
        """Whether each row has references of its own."""
        raise NotImplementedError

    def _is_off(self, worst: Entry, explained: float, limit: float) -> bool:
        """Tell whether more is missing than rounding; what is lost for a reason says nothing of rounding."""
        return abs(worst.missing) > limit * explained and not self.losses

    def _is_alarming(self, worst: Entry, explained: float, limit: float) -> bool:
        return self._is_off(worst, explained, limit) or worst.magnitudes > alarm.AMPLIFIED * explained

    def _warn_of_amplified(
        self, walk: Walk, reference: list[Tensor], rounding: str, gaps: Mapping[int, Tensor]
    ) -> None:  # fmt: skip
        """Warn once of contributions that explode: what they miss is hidden behind their magnitudes."""
        limit, rule = alarm.ROUNDING[self.dtype], DeepLiftRule(self.rule_name, self.winner_takes_all)
        for i, what in walk.what.items():
            worst = worst_entry(self, i, gaps[i], limit, alarm.DOUBTFUL)
            if worst is None or not self._is_alarming(worst, worst.explained, limit):
                continue
            trace = walk.model.trace([x[worst.row : worst.row + 1] for x in self._first(self.data)])
            each = self._own_references or len(reference[0]) == walk.rows > 1
            own_first = worst.row * (len(reference[0]) // walk.rows if each else 0)
            first = [x[own_first : own_first + 1] for x in reference]
            at_reference = _beside(walk, trace, walk.model.trace(first), first)
            own = self.own_nodes(i)
            node = (self._selection.idx[i] or ())[worst.node] if own is None else own[worst.row]
            label = self.node_label(i, worst.node, worst.row)
            terms, layer = alarm.amplifying(
                walk.model, what, node, trace, at_reference, deeplift_step(trace, at_reference, rule)
            )
            explained = max(worst.explained, terms)
            off = self._is_off(worst, explained, limit)
            if not self._is_alarming(worst, explained, limit):
                continue
            what_is_wrong = (
                f"do not add up: {worst.missing:.3g} is missing" if off else "nearly cancel, and mean little one by one"
            )
            calm = "" if self.winner_takes_all else _calm_winners(walk.model, what, node, trace, at_reference, rule)
            why = calm or "; ".join(reason for reason in (layer, rounding if off else "") if reason)
            way = "" if calm else " Another reference helps where a layer is nearly constant at this one."
            warn(
                f"{self.title}: the attributions {what_is_wrong}. For {self.data_names[worst.row]} and '{label}' "
                f"their magnitudes sum to {worst.magnitudes:.3g}, where {worst.explained:.3g} is explained. "
                f"Why: {why or 'a rule divides by differences that are nearly 0'}.{way}"
            )
            return


class DeepLift(_Rescaling):
    r"""Contributions of the inputs to the difference between an instance's output and a reference's.

    Multipliers are carried from the output to the inputs by a chain rule; times ``x - x_ref`` they are the
    contributions, whose sum is ``f_k(x) - f_k(x_ref)`` except where the winner takes all in a max pooling, or where a
    softmax is explained (``ignore_last_act=False``) and the logit of the node itself does not move: both as in R.

    Source: Shrikumar et al. (2017), arXiv:1704.02685: the rules rescale (section 3.5.2) and reveal-cancel (3.5.3).

    Parameters
    ----------
    converter : Converter
        The converted model.
    %(data)s
    x_ref : like `data`, "mean", "median", "mode", "zeros", "center", or Series, optional
        The reference: a single row, with or without the axis of the batch, or one for each row, ``(B, *dims)``.
        ``"mean"`` and ``"median"`` are those of the data. ``"center"`` is the row that the model's scaler (or Keras
        Normalization) maps to 0. By default it is the center if the model has one, and zeros otherwise.
    rule_name : {"rescale", "reveal_cancel"}
        Rule for activations.
    winner_takes_all : bool
        Give the contribution of a max pooling to its largest input alone. With False all inputs of the window share it,
        scaled so that sums are kept.
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
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[2.0, -1.0]], "activation_name": "relu"}]}
    >>> result = DeepLift(Converter(model), [[2.0, 1.0]], x_ref=[[0.0, 0.0]], ignore_last_act=False)
    >>> result.get_result()[0, :, 0], result.decomp_goal
    (array([ 4., -1.], dtype=float32), [tensor([[3.]])])
    """

    title = "DeepLift"

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
        x_ref: Any = None,
        winner_takes_all: Flag = True,
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
        self.rule_name, self.winner_takes_all = rule_name, winner_takes_all
        self.data = self._read(data, "data")
        self.x_ref = self._read_reference(x_ref, "x_ref", single=True)
        with Walk(self, self.data[0].shape[0]) as walk:
            for column, graph in enumerate(self._walked()):
                walk.go(graph, column)
                inputs = self._first(self.data, graph)
                reference = self._first_reference(self.x_ref, graph, inputs)
                at_reference = self._explain(walk, inputs, reference)
            self._finish(walk)
            self.decomp_goal = walk.explained(minus=at_reference)
            self._check_sums(walk, reference)

    @property
    def _own_references(self) -> bool:
        return len(self.x_ref[0]) > 1

    def _explain(self, walk: Walk, inputs: list[Tensor], reference: list[Tensor]) -> dict[int, Tensor]:
        """Walk back from all rows; return the explained values at the references, ``(1, nodes)`` or ``(B, nodes)``."""
        rule, model = DeepLiftRule(self.rule_name, self.winner_takes_all), walk.model
        single = len(reference[0]) == 1
        chunks = walk.row_chunks(walk.rows, PASS_BYTES if rule.name == "rescale" else 0)
        spares = walk.is_large(chunks[0].stop) and not model.takes_as_given
        kept = sparing.passing(walk.ends, rule) if spares else None
        # Weights are read only once then, and small work is done only once.
        at_once = single and len(chunks) == 1 and walk.fits(walk.rows + 1) and not (model.takes_as_given or model.held)
        at_reference = model.trace(reference, seen=kept) if single and not at_once else None
        found: dict[int, list[Tensor]] = {i: [] for i in walk.what}
        for rows in chunks:
            some, some_ref = self._take(inputs, rows, model), self._take_reference(reference, rows, model)
            if at_once:
                both = [torch.cat(pair) for pair in zip(some, some_ref, strict=True)]
                trace, at_ref = sparing.both(model, both, walk.rows, (walk.ends, rule) if spares else None)
            else:
                at_ref = model.trace(some_ref, seen=kept) if at_reference is None else at_reference
                last = not single or len(chunks) == 1
                trace = model.trace(some, seen=sparing.compared(walk.ends, rule, at_ref, last) if spares else None)
            if walk.column == 0:
                walk.observe(trace, rows)
            if not single or rows.start == 0:
                for i, what in walk.what.items():
                    found[i].append(at_ref.explained(what))
            pairs = zip(some[: len(model.inputs)], some_ref, strict=False)
            differences = [x - x_ref for x, x_ref in pairs]
            step, count = deeplift_step(trace, _beside(walk, trace, at_ref, some_ref), rule), len(some[0])
            for i, nodes, pieces in walk.back(step, rows, count, count, spent=trace):
                for j, piece in enumerate(pieces):
                    if piece is not None:
                        walk.put(i, j, nodes, rows, piece, differences[j])
        return {i: torch.cat(parts) for i, parts in found.items()}

    def _fields(self) -> list[tuple[str, str]]:
        return [
            ("rule_name", f"'{self.rule_name}'"),
            ("winner_takes_all", str(self.winner_takes_all)),
            ("x_ref", reference_text(self.x_ref, self.reference_name)),
        ]


def _beside(walk: Walk, trace: Trace, at_reference: Trace, reference: list[Tensor]) -> Trace:
    """Return the pass of references that belongs to a pass of rows: what is detached is as it is for the rows."""
    return walk.model.trace(reference, given=trace) if walk.model.takes_as_given else at_reference


class DeepSHAP(_Rescaling):
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
        step = deeplift_step(trace, _beside(walk, trace, at_refs, some_ref), rule)
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
