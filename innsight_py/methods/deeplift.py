"""DeepLift."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from innsight_py._checks import Count, Flag, checked
from innsight_py.layers import DeepLiftRule
from innsight_py.methods import sparing
from innsight_py.methods.base import reference_text
from innsight_py.methods.rescaling import Rescaling, beside, deeplift_step
from innsight_py.methods.rescored import Rescored
from innsight_py.methods.walk import PASS_BYTES, Walk
from innsight_py.model.converter import Converter


class DeepLift(Rescaling):
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
        rescored: Rescored | None = None
        found: dict[int, list[Tensor]] = {i: [] for i in walk.what}
        for rows in chunks:
            some, some_ref = self._take(inputs, rows, model), self._take_reference(reference, rows, model)
            if at_once:
                both = [torch.cat(pair) for pair in zip(some, some_ref, strict=True)]
                rescored = Rescored(model, walk.ends, rule, walk.rows) if spares else None
                trace, at_ref = sparing.both(model, both, walk.rows, rescored)
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
            step, count = deeplift_step(trace, beside(walk, trace, at_ref, some_ref), rule), len(some[0])
            step = step if rescored is None else rescored.step(step, trace, at_ref)
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
