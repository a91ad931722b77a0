"""What DeepLift and DeepSHAP share: their step, their sums, and the alarm where contributions explode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from torch import Tensor

from innsight_py._checks import warn
from innsight_py.layers import DeepLiftRule, Layer
from innsight_py.methods import alarm
from innsight_py.methods.base import InterpretingMethod
from innsight_py.methods.walk import Walk
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


def beside(walk: Walk, trace: Trace, at_reference: Trace, reference: list[Tensor]) -> Trace:
    """Return the pass of references that belongs to a pass of rows: what is detached is as it is for the rows."""
    return walk.model.trace(reference, given=trace) if walk.model.takes_as_given else at_reference


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


class Rescaling(InterpretingMethod):
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
            at_reference = beside(walk, trace, walk.model.trace(first), first)
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
