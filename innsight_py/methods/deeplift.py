"""DeepLift and DeepSHAP."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from innsight_py._checks import Count, Flag, Seed, checked
from innsight_py.completeness import warn_if_incomplete
from innsight_py.converter import Converter
from innsight_py.graph import Explained, Step, Trace
from innsight_py.layers import DeepLiftRule, Layer
from innsight_py.methods.base import InterpretingMethod, Walk, random_source, reference_text


def deeplift_step(trace: Trace, reference: Trace, rule: DeepLiftRule) -> Step:
    """Return the rule of DeepLift between a pass over the data and a pass over references."""

    def step(layer: Layer, upper: Tensor, name: str, start: Explained | None) -> list[Tensor | None]:
        skip = start is not None and start.at_preactivation
        return layer.deeplift(upper, trace[name], reference[name], rule, skip_activation=skip)

    return step


class _Rescaling(InterpretingMethod):
    """What DeepLift and DeepSHAP share: sums that are exact except where `_losses` says why not."""

    value_name = "Contribution"
    decomposes = True
    rule_name: Literal["rescale", "reveal_cancel"]
    winner_takes_all: bool

    def _losses(self) -> list[str]:
        rule, model = DeepLiftRule(self.rule_name, self.winner_takes_all), self._model
        ends = {model.explained(i, self.ignore_last_act) for i in self._selection.layers}
        at_preactivation = {end.node for end in ends if end.at_preactivation}
        losses = (
            model.layer(node.name).deeplift_loss(rule, skip_activation=node.name in at_preactivation)
            for node in model.nodes
        )
        return list(dict.fromkeys(loss for loss in losses if loss))

    def _check_sums(self, walk: Walk) -> None:
        rounding = "rounding" + (" (dtype='double' has more digits)" if self.dtype == "float" else "")
        self.explained_values = walk.explained()
        warn_if_incomplete(self, lambda: self._losses() or [rounding])


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
    data : array-like, Tensor, DataFrame, or list or dict of these
        The instances to explain, ``(B, *dims)``; for several inputs a list with one entry an input, or a dict by their
        names (`Converter.input_keys`). Columns of a frame (pandas, polars, arrow) are matched by name where the
        converter has names.
    x_ref : like `data`, optional
        The reference, a single row. Default: zeros.
    rule_name : {"rescale", "reveal_cancel"}
        Rule for activations.
    winner_takes_all : bool
        Give what comes to a max pooling to the largest input alone; otherwise treat it as the mean over the window,
        scaled so that sums are kept.
    %(shared)s

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it should be; the message names it.
    UnsupportedLayerError
        If the model has a layer without a rule.

    Warns
    -----
    UserWarning
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
        ignore_last_act: Flag = True,
        rule_name: Literal["rescale", "reveal_cancel"] = "rescale",
        x_ref: Any = None,
        winner_takes_all: Flag = True,
        verbose: Flag | None = None,
        dtype: Literal["float", "double"] = "float",
        batch_size: Count | None = None,
    ) -> None:
        super().__init__(
            converter, channels_first=channels_first, output_idx=output_idx, output_label=output_label,
            ignore_last_act=ignore_last_act, verbose=verbose, dtype=dtype, batch_size=batch_size,
        )  # fmt: skip
        self.rule_name, self.winner_takes_all = rule_name, winner_takes_all
        self.data = self._read(data, "data")
        self.x_ref = self._read_reference(x_ref, "x_ref", single=True)
        inputs, reference = self._first(self.data), self._first(self.x_ref)
        rule = DeepLiftRule(rule_name, winner_takes_all)
        with Walk(self, inputs[0].shape[0]) as walk:
            reference = self._take(reference, slice(None))
            at_reference = walk.model.trace(reference)
            chunks = walk.row_chunks(walk.rows)
            for rows in chunks:
                some = self._take(inputs, rows)
                trace = walk.model.trace(some)
                walk.observe(trace)
                differences = [x - x_ref for x, x_ref in zip(some, reference, strict=True)]
                for i, nodes, pieces in walk.back(deeplift_step(trace, at_reference, rule), len(some[0]), len(some[0])):
                    for j, piece in enumerate(pieces):
                        if piece is not None:
                            walk.put(i, j, nodes, rows, piece, differences[j])
            self.result = self._finish(walk.buffers)
            self.preds = walk.predictions()
            self.decomp_goal = walk.explained(
                minus={i: at_reference.explained(what)[0] for i, what in walk.what.items()}
            )
            self._check_sums(walk)

    def _fields(self) -> list[tuple[str, str]]:
        return [
            ("rule_name", f"'{self.rule_name}'"),
            ("winner_takes_all", str(self.winner_takes_all)),
            ("x_ref", reference_text(self.x_ref)),
        ]


class DeepSHAP(_Rescaling):
    r"""Mean of DeepLift's contributions over a set of references, which estimates Shapley values.

    The sum over the inputs is ``f_k(x)`` minus the mean of ``f_k`` over the references, with the exception of
    `DeepLift`.

    Source: Lundberg and Lee (2017), arXiv:1705.07874.

    Parameters
    ----------
    converter : Converter
        The converted model.
    data : array-like, Tensor, DataFrame, or list or dict of these
        The instances to explain, ``(B, *dims)``; for several inputs a list with one entry an input, or a dict by their
        names (`Converter.input_keys`). Columns of a frame (pandas, polars, arrow) are matched by name where the
        converter has names.
    data_ref : like `data`, optional
        The references. Default: one row of zeros.
    limit_ref : int
        At most so many references are used; where there are more, they are drawn without replacement.
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
        If an argument is not what it should be; the message names it.
    UnsupportedLayerError
        If the model has a layer without a rule.

    Warns
    -----
    UserWarning
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
        ignore_last_act: Flag = True,
        rule_name: Literal["rescale", "reveal_cancel"] = "rescale",
        data_ref: Any = None,
        limit_ref: Count = 100,
        winner_takes_all: Flag = True,
        seed: Seed = None,
        verbose: Flag | None = None,
        dtype: Literal["float", "double"] = "float",
        batch_size: Count | None = None,
    ) -> None:
        super().__init__(
            converter, channels_first=channels_first, output_idx=output_idx, output_label=output_label,
            ignore_last_act=ignore_last_act, verbose=verbose, dtype=dtype, batch_size=batch_size,
        )  # fmt: skip
        self.rule_name, self.winner_takes_all, self.limit_ref = rule_name, winner_takes_all, limit_ref
        self.data = self._read(data, "data")
        reference = self._read_reference(data_ref, "data_ref", single=False)
        available = reference[0].shape[0]
        if available > limit_ref:
            drawn = torch.from_numpy(random_source(seed).permutation(available)[:limit_ref].copy())
            reference = [x[drawn] for x in reference]
        self.data_ref = reference
        with Walk(self, self.data[0].shape[0]) as walk:
            goal = self._explain(walk, self._first(self.data), self._first(self.data_ref))
            self.result = self._finish(walk.buffers)
            self.preds, self.decomp_goal = walk.predictions(), goal
            self._check_sums(walk)

    def _explain(self, walk: Walk, inputs: list[Tensor], reference: list[Tensor]) -> list[Tensor | None]:
        """Go through all pairs of rows and references and return the goals; each pass is run once.

        The shorter side is looped over and the longer one is the batch.
        """
        count = reference[0].shape[0]
        chunks, chunks_ref = walk.row_chunks(walk.rows), walk.row_chunks(count)
        totals = dict.fromkeys(walk.what, torch.zeros(()))
        for refs in chunks_ref:
            some_ref = self._take(reference, refs)
            at_refs = walk.model.trace(some_ref)
            for i, what in walk.what.items():
                totals[i] = totals[i] + at_refs.explained(what).sum(0)
            for rows in chunks:
                some = self._take(inputs, rows)
                trace = walk.model.trace(some)
                if refs.start == 0:
                    walk.observe(trace)
                if len(some[0]) >= len(some_ref[0]):
                    for q in range(len(some_ref[0])):
                        self._pairs(walk, trace, at_refs.row(q), some, [x[q : q + 1] for x in some_ref], rows, count)
                else:
                    for p in range(len(some[0])):
                        row = slice(rows.start + p, rows.start + p + 1)
                        self._pairs(walk, trace.row(p), at_refs, [x[p : p + 1] for x in some], some_ref, row, count)
        return walk.explained(minus={i: total / count for i, total in totals.items()})

    def _pairs(
        self, walk: Walk, trace: Trace, at_refs: Trace, some: list[Tensor], some_ref: list[Tensor], rows: slice,
        count: int,
    ) -> None:  # fmt: skip
        """Add the contributions of many rows with one reference, or of one row with many references."""
        rule = DeepLiftRule(self.rule_name, self.winner_takes_all)
        batch = max(len(some[0]), len(some_ref[0]))
        for i, nodes, pieces in walk.back(
            deeplift_step(trace, at_refs, rule), batch, len(some[0]) * len(some_ref[0]) / count
        ):
            for j, piece in enumerate(pieces):
                if piece is not None:
                    contribution = piece * (some[j] - some_ref[j]) / count
                    single = rows.stop - rows.start == 1
                    walk.add(i, j, nodes, rows, contribution.sum(1, keepdim=True) if single else contribution)

    def _fields(self) -> list[tuple[str, str]]:
        return [
            ("rule_name", f"'{self.rule_name}'"),
            ("winner_takes_all", str(self.winner_takes_all)),
            ("data_ref", reference_text(self.data_ref)),
        ]
