"""Layer-wise relevance propagation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from innsight_py._checks import Count, Flag, checked, warn
from innsight_py._errors import see, unseen
from innsight_py.functions.lrp import RULES, Rule
from innsight_py.functions.lrp_rules import ZBox
from innsight_py.functions.lrp_weightless import Pass
from innsight_py.inputs.nodes import node_label
from innsight_py.layers import Layer
from innsight_py.layers.activation import through
from innsight_py.layers.arithmetic import Product
from innsight_py.layers.base import UnsupportedLayerError
from innsight_py.layers.cast import Detach
from innsight_py.methods import lrp_alarm, sparing
from innsight_py.methods.base import InterpretingMethod, cut
from innsight_py.methods.recomputed import Recomputed
from innsight_py.methods.walk import Walk
from innsight_py.methods.way_on import ways
from innsight_py.model.assignment import Assigned, assign, assigned_once, in_section
from innsight_py.model.converter import Converter
from innsight_py.model.graph import Explained, Graph, Seen, Step, Trace
from innsight_py.model.rule_names import Chosen, read_params, read_rules
from innsight_py.model.section import Section
from innsight_py.results.completeness import warn_if_incomplete

_NOTHING_TO_SHARE = (
    "there are no biases, so preactivations at or near 0 must have kept relevance: nothing is there to share it by"
)


class LRP(InterpretingMethod):
    r"""Layer-wise relevance propagation: the output's value, passed down layer by layer.

    For a layer with preactivations :math:`z_j = \sum_i z_{ij} + b_j`, :math:`z_{ij} = w_{ij} x_i`:

    * simple: :math:`R_i = \sum_j z_{ij} R_j / z_j`
    * epsilon: :math:`R_i = \sum_j z_{ij} R_j / (z_j + \varepsilon\, \mathrm{sgn} z_j)`
    * alpha_beta: :math:`R_i = \sum_j (\alpha z_{ij}^+ / z_j^+ + (1 - \alpha) z_{ij}^- / z_j^-) R_j`
    * pass: :math:`R_i = R_j` (only where each output has one input: batch normalisation, scaling)

    `innsight_py.rules` has more; transformers and norms need ``rule_name="attnlrp"`` or ``"cp_lrp"``. Activations pass
    relevance unchanged, a sum gives each of its inputs an equal share.
    With ``ignore_last_act=False`` and a sigmoid or softmax at the end the start is the output minus 0.5.

    Source: Bach et al. (2015), doi:10.1371/journal.pone.0130140.

    Parameters
    ----------
    converter : Converter
        The converted model.
    %(data)s
    rule_name : str, Rule, list of (str, Rule), or dict
        Which layer follows which rule:

        * the name of a rule for all layers: "simple", "epsilon", "alpha_beta", "gamma", "z_plus", "w_square", "flat";
          sums and global means keep their equal shares, as in R;
        * a rule of `innsight_py.rules`, for all layers;
        * the name of a composite of `innsight_py.composites`, such as "epsilon_plus" for convolutions or "attnlrp" for
          transformers, or what it returns;
        * a list of pairs of a selector and a rule (or its name), of which the first that means a layer counts. A
          selector is the name of a layer or a module in your model, or a glob of it (``"features.*"``), one of R's
          classes, a family ("dense", "convolution", "batch_norm", "scale", "average_pooling", "max_pooling", "sum",
          "resize", "activation", "normalization", "softmax", "product", "formula"), or "first" or "last", alone or with
          a family (``"first convolution"``). Other layers keep the rule that they have by default;
        * a dict with a rule for each of R's layer classes (``"Dense_Layer"``, ``"Conv2D_Layer"``,
          ``"BatchNorm_Layer"``, ``"AvgPool2D_Layer"``, ``"MaxPool2D_Layer"``, ...; an error lists them all); those left
          out use "simple".

        `Converter.show_rules` shows what each layer would follow.
    rule_param : float or dict, optional
        The parameter of the named rule for all layers, or a dict with R's layer classes. Default: epsilon 0.001, alpha
        0.5, gamma 0.25.
    winner_takes_all : bool
        Give the relevance of a max pooling to its largest input alone. With False the layer is treated as an average
        pooling.
    merge_batch_norm : bool
        First fold every batch normalisation into the dense or convolution layer before it. You get a warning that names
        those that cannot be folded.
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
        If there are no biases and relevances still do not add up; see `Explanation.residual`. If relevances
        explode, with the layer that divides by preactivations near 0 and a rule that does not. If a batch normalisation
        cannot be merged, or a layer with a z-box rule gets values outside of its bounds.

    Examples
    --------
    >>> from innsight_py import Converter
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[2.0, -1.0]]}]}
    >>> LRP(Converter(model), [[1.5, 1.0]], dtype="double").get_result()[0, :, 0].round(6)
    array([ 3., -1.])
    """

    title = "LRP"
    decomposes = True
    merge_batch_norm = False

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
        rule_name: Any = "simple",
        rule_param: Any = None,
        winner_takes_all: Flag = True,
        merge_batch_norm: Flag = False,
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
        chosen = read_rules(rule_name, rule_param)
        self.rule_name = _plain(rule_name)
        self.rule_param = read_params(rule_param)
        self.winner_takes_all, self.merge_batch_norm = winner_takes_all, merge_batch_norm
        self._in_use = None  # which was that without merging
        self.data = self._read(data, "data")
        self._rules = self._assigned(chosen)
        if merge_batch_norm:
            _warn_of_unmerged(converter.unmerged())
        inputs = self._first(self.data)
        with Walk(self, inputs[0].shape[0]) as walk:
            outside: dict[str, str] = {}
            grown: lrp_alarm.Grown = {}
            notes = walk.pairs == 1 and walk.model.sizes.trace >= lrp_alarm.NOTED
            chunks = walk.row_chunks(walk.rows)
            is_long = walk.model.sizes.steps >= lrp_alarm.LONG
            noted = lrp_alarm.Noted() if is_long and len(chunks) == 1 else None
            spares = walk.is_large(chunks[0].stop)
            again: Recomputed | None = None
            seen: Seen | None = None
            for rows in chunks:
                if spares:
                    count = rows.stop - rows.start
                    nodes, several = walk.walked_together(count), walk.takes_several(count)
                    again = sparing.recomputed(walk.model, walk.ends, self._rules, count, nodes, several)
                    seen = sparing.for_relevances(walk.ends, self._rules) if again is None else again.seen
                trace = walk.model.trace([cut(x, rows) for x in inputs], seen=seen)
                outside |= _outside(trace, self._rules)
                try:
                    self._distribute(walk, trace, rows, grown if notes else None, noted, again)
                except UnsupportedLayerError as error:
                    first = walk.model.trace([x[:1] for x in inputs])
                    raise self._with_way_on(error, walk, first, chosen) from None
            if outside:
                warn(
                    f"Argument 'rule_name': {'; '.join(outside.values())}: z_box is made for values between its bounds."
                )
            self._finish(walk)
            self.decomp_goal = walk.explained()
            self.losses = self._losses()
            if self.decomposes:
                warn_if_incomplete(self, None if self.losses else [_NOTHING_TO_SHARE])
            kept = again is None and (noted is not None or (walk.rows == 1 and (notes or not spares)))
            self._warn_of_exploded(walk, inputs, trace if kept else None, grown, noted)

    def _distribute(
        self, walk: Walk, trace: Trace, rows: slice, grown: lrp_alarm.Grown | None, noted: lrp_alarm.Noted | None,
        again: Recomputed | None,
    ) -> None:  # fmt: skip
        """Hand relevance down for some rows, and note how much it grows."""
        start, count = self._start(walk.model, trace), rows.stop - rows.start
        walk.observe(trace, rows, start)
        step = _lrp_step(trace, self._rules)
        step = step if again is None else again.step(step, trace)
        step = step if grown is None else lrp_alarm.noting(step, grown)
        step = step if noted is None else noted.noting(step)
        later, looks_back = sparing.after_relevances(self._rules), grown is not None or noted is not None
        spent = trace if again is None else None
        for i, nodes, pieces in walk.back(step, rows, count, count, start, spent, later, looks_back=looks_back):
            if noted is not None:
                noted.walked(i, nodes)
            missing = any(piece is None for piece in pieces)
            joined = _joined(walk.model, walk.what[i].node) if missing else set()
            for j, (name, piece) in enumerate(zip(walk.model.inputs, pieces, strict=True)):
                if piece is not None:
                    walk.put(i, j, nodes, rows, piece, own=j in walk.plan.own_pieces)
                elif name in joined:  # a rule keeps all
                    walk.put(i, j, nodes, rows, torch.zeros_like(trace.values[name][:1])[None])

    def _with_way_on(
        self, error: UnsupportedLayerError, walk: Walk, trace: Trace, chosen: Chosen
    ) -> UnsupportedLayerError:  # fmt: skip
        """Say which rules reach the inputs, where some do: they are tried on one row."""
        start, said = self._start(walk.model, trace), ""
        for way in ways(self.rule_name, chosen):
            try:
                step = _lrp_step(trace, self._assigned(way.chosen))
                for what in walk.what.values():
                    walk.model.backward(what, start(what)[None], step)
            except (ValueError, NotImplementedError):
                break
            said += way.text
        return UnsupportedLayerError(see("no-rule", f"{unseen(error)} {said}.")) if said else error

    def _assigned(self, chosen: Chosen) -> dict[str, Assigned]:
        """Return the rule of each layer that is walked: that which it has in the whole model."""
        section = self._model
        if not isinstance(section, Section):
            return assigned_once(section, chosen, self.winner_takes_all, self.channels_first)
        known = {node.name for node in self._base.tail.nodes}
        inside = all(parent in known for parent, _ in section.parents.values())
        assigned = assign(self._base.tail if inside else self._base, chosen, self.winner_takes_all, self.channels_first)
        return in_section(section, assigned)

    def _warn_of_exploded(
        self, walk: Walk, inputs: list[Tensor], trace: Trace | None, grown: lrp_alarm.Grown,
        noted: lrp_alarm.Noted | None,
    ) -> None:  # fmt: skip
        """Warn once of relevances out of proportion to what is explained; the true reason comes before the others.

        The trace, if there is one, is that of a single row, or of all where their walks noted what they saw.
        """
        worst = lrp_alarm.exploded(self)
        if worst is None:
            return
        what = walk.what[worst.output]
        large = walk.is_large(1)
        tries = not large and walk.model.sizes.steps < lrp_alarm.LONG
        if noted is not None and trace is not None:
            trace, grown = trace.row(worst.row), noted.of(worst)
        if trace is None:
            seen = sparing.for_relevances(walk.ends, self._rules) if large else None
            trace = walk.model.trace([x[worst.row : worst.row + 1] for x in inputs], seen=seen)
        start = self._start(walk.model, trace)(what)
        limit = lrp_alarm.EXPLODED * worst.explained
        why = lrp_alarm.reason(
            walk.model, what, worst.node, trace, start, self._rules, _lrp_step, limit, grown, tries=tries
        )  # fmt: skip
        self.losses = [why, *self.losses]
        port = self.described.outputs[worst.output]
        label = node_label(worst.node, port.dim, port.names)
        warn(
            f"LRP: there are relevances of {worst.largest:.3g}, where at most {worst.explained:.3g} is explained (for "
            f"{self.data_names[worst.row]} and '{label}'). They cancel, and mean little one by one. Why: {why}."
        )

    @property
    def _at_prepared(self) -> bool:
        return True

    def _found_model(self) -> Graph:
        assert isinstance(self._converter, Converter)
        return self._converter.model_in(self.dtype, self.merge_batch_norm)

    def _start(self, model: Graph, trace: Trace) -> Any:
        """Return what gives the relevance of the output: its value, less 0.5 for a probability, as in R."""

        def start(what: Explained) -> Tensor:
            value = trace.explained(what)
            shifted = not self.ignore_last_act and model.layer(what.node).activation.is_probability
            return value - 0.5 if shifted else value

        return start

    def _losses(self) -> list[str]:
        model, losses = self._model, []
        for name, it in self._rules.items():
            layer = model.layer(name)
            losses += layer.lrp_losses(it.rule)
            if it.activation.loss and not layer.activation.is_linear:
                losses.append(it.activation.loss)
        return list(dict.fromkeys(losses))

    def _fields(self) -> list[tuple[str, str]]:
        return [
            ("rule_name", _rule_name_text(self.rule_name)),
            ("rule_param", _rule_param_text(self.rule_name, self.rule_param)),
            ("winner_takes_all", str(self.winner_takes_all)),
            *([("merge_batch_norm", "True")] if self.merge_batch_norm else []),
        ]


def _lrp_step(trace: Trace, assigned: Mapping[str, Assigned]) -> Step:
    records = trace.records

    def step(layer: Layer, upper: Tensor, name: str, start: Explained | None) -> list[Tensor | None]:
        it, at = assigned[name], records[name]
        if not (isinstance(it.activation, Pass) or (start is not None and start.at_preactivation)):
            passed = through(layer, upper, at, it.activation, is_output=start is not None)
            if passed is None:
                return [None] * len(at.inputs)
            upper = passed
        if it.factor is not None and isinstance(layer, Product):
            return layer.lrp_to_one(upper, at, it.rule, it.factor)
        return layer.lrp(upper, at, it.rule, is_output=start is not None)

    return step


def _joined(graph: Graph, name: str) -> set[str]:
    """Return the names of all values that a layer's value is computed from, and its own; but for detached ones."""
    found = {name}
    for node in reversed(graph.nodes):
        if node.name in found and not isinstance(graph.layer(node.name), Detach):
            found.update(node.inputs)
    return found


def _outside(trace: Trace, assigned: Mapping[str, Assigned]) -> dict[str, str]:
    """Say of each layer with a z-box rule, by its name, that it got values outside of the bounds."""
    found = {}
    for name, it in assigned.items():
        ends = it.rule.outside(trace[name].inputs[0]) if isinstance(it.rule, ZBox) else None
        if ends is not None:
            found[name] = (
                f"the layer '{name}' with the rule {it.rule!r} gets values from {ends[0]:.4g} to {ends[1]:.4g}"
            )
    return found


def _warn_of_unmerged(stays: Mapping[str, str]) -> None:
    """Say which batch normalisations could not be merged."""
    if stays:
        said = [f"'{name}', since {why}" for name, why in stays.items()]
        more = f"; and {len(said) - 5} more" if len(said) > 5 else ""
        warn(
            "Argument 'merge_batch_norm': these batch normalisations stay as they are, and follow the rule that "
            f"'rule_name' gives them: {'; '.join(said[:5])}{more}."
        )


def _plain(rule_name: Any) -> Any:
    """Return a copy of what may be changed later, with tuples for pairs."""
    if type(rule_name) is str:
        return rule_name
    if isinstance(rule_name, Mapping):
        return dict(rule_name)
    return [tuple(pair) for pair in rule_name] if isinstance(rule_name, list) else rule_name


def _rule_name_text(rule_name: Any) -> str:
    if isinstance(rule_name, dict):
        return ", ".join(
            [*(f"{key}: {_entry_text(rule)}" for key, rule in rule_name.items()), "other layers: 'simple'"]
        )
    if isinstance(rule_name, list):
        return ", ".join([*(f"{key}: {_entry_text(rule)}" for key, rule in rule_name), "other layers: their own"])
    return _entry_text(rule_name)


def _entry_text(rule: str | Rule) -> str:
    return f"'{rule}'" if isinstance(rule, str) else repr(rule)


def _rule_param_text(rule_name: Any, rule_param: float | dict[str, float] | None) -> str:
    def default(rule: Any) -> str:
        kind = RULES.get(rule) if isinstance(rule, str) else None
        own = list(kind.parameters()) if kind is not None else []
        return f"{getattr(kind, own[0]):g} (default)" if own else "none"

    if isinstance(rule_param, float):
        return f"{rule_param:g}" + (f" (not used by '{rule_name}')" if default(rule_name) == "none" else "")
    given = rule_param or {}
    if not isinstance(rule_name, dict):
        entries = [f"{key}: {param:g}" for key, param in given.items()]
        return ", ".join([*entries, f"other layers: {default(rule_name)}"]) if given else default(rule_name)
    entries = [f"{key}: {f'{given[key]:g}' if key in given else default(rule)}" for key, rule in rule_name.items()]
    entries += [f"{key}: {param:g}" for key, param in given.items() if key not in rule_name]
    return ", ".join([*entries, "other layers: none"])
