"""Layer-wise relevance propagation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from torch import Tensor

from innsight_py._checks import Count, Flag, WrongTypeError, checked, describe, read_number, suggestion
from innsight_py.completeness import warn_if_incomplete
from innsight_py.converter import Converter
from innsight_py.graph import Explained, Graph, Step, Trace
from innsight_py.layers import Layer, LRPRule, ruled_classes
from innsight_py.layers.rules import DEFAULT_PARAM, LRPRuleName
from innsight_py.methods.base import InterpretingMethod, Walk

_NOTHING_TO_SHARE = (
    "there are no biases, so preactivations at or near 0 must have kept relevance: nothing is there to share it by"
)
_RULES = ("simple", "epsilon", "alpha_beta")


class LRP(InterpretingMethod):
    r"""Layer-wise relevance propagation: the output's value, handed down layer by layer.

    For a layer with preactivations :math:`z_j = \sum_i z_{ij} + b_j`, :math:`z_{ij} = w_{ij} x_i`:

    * simple: :math:`R_i = \sum_j z_{ij} R_j / z_j`
    * epsilon: :math:`R_i = \sum_j z_{ij} R_j / (z_j + \varepsilon\, \mathrm{sgn} z_j)`
    * alpha_beta: :math:`R_i = \sum_j (\alpha z_{ij}^+ / z_j^+ + (1 - \alpha) z_{ij}^- / z_j^-) R_j`
    * pass: :math:`R_i = R_j` (only where each output has one input: batch normalisation, scaling)

    Activations pass relevance unchanged, a sum gives each of its inputs an equal share. With
    ``ignore_last_act=False`` and a sigmoid or softmax at the end the start is the output minus 0.5.

    Source: Bach et al. (2015), doi:10.1371/journal.pone.0130140.

    Parameters
    ----------
    converter : Converter
        The converted model.
    data : array-like, Tensor, DataFrame, or list or dict of these
        The instances to explain, ``(B, *dims)``; for several inputs a list with one entry an input, or a dict by their
        names (`Converter.input_keys`). Columns of a frame (pandas, polars, arrow) are matched by name where the
        converter has names.
    rule_name : {"simple", "epsilon", "alpha_beta"} or dict
        One rule for all layers, or a dict with a rule for each of R's layer classes (``"Dense_Layer"``,
        ``"Conv2D_Layer"``, ``"BatchNorm_Layer"``, ``"AvgPool2D_Layer"``, ``"MaxPool2D_Layer"``, ...; an error lists
        them all); those left out use "simple".
    rule_param : float or dict, optional
        The epsilon or alpha of all layers, or a dict like that of `rule_name`. Default: epsilon 0.001, alpha 0.5.
    winner_takes_all : bool
        Give what comes to a max pooling to the largest input alone; otherwise treat it as an average pooling.
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
        If there are no biases and relevances do not add up all the same; see `Explanation.residual`.

    Examples
    --------
    >>> from innsight_py import Converter
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[2.0, -1.0]]}]}
    >>> LRP(Converter(model), [[1.5, 1.0]], dtype="double").get_result()[0, :, 0].round(6)
    array([ 3., -1.])
    """

    title = "LRP"
    decomposes = True

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
        rule_name: Any = "simple",
        rule_param: Any = None,
        winner_takes_all: Flag = True,
        verbose: Flag | None = None,
        dtype: Literal["float", "double"] = "float",
        batch_size: Count | None = None,
    ) -> None:
        super().__init__(
            converter, channels_first=channels_first, output_idx=output_idx, output_label=output_label,
            ignore_last_act=ignore_last_act, verbose=verbose, dtype=dtype, batch_size=batch_size,
        )  # fmt: skip
        self.rule_name = _check_rule_name(rule_name)
        self.rule_param = _check_rule_param(rule_param)
        self.winner_takes_all = winner_takes_all
        self.data = self._read(data, "data")
        rules = self._rules(self._model)
        inputs = self._first(self.data)
        with Walk(self, inputs[0].shape[0]) as walk:
            chunks = walk.row_chunks(walk.rows)
            for rows in chunks:
                trace, count = walk.model.trace([x[rows] for x in inputs]), rows.stop - rows.start
                start = self._start(walk.model, trace)
                walk.observe(trace, start)
                for i, nodes, pieces in walk.back(_lrp_step(trace, rules), count, count, start):
                    for j, piece in enumerate(pieces):
                        if piece is not None:
                            walk.put(i, j, nodes, rows, piece)
            self.result = self._finish(walk.buffers)
            self.preds, self.decomp_goal = walk.predictions(), walk.explained()
            warn_if_incomplete(self, lambda: None if self._losses() else [_NOTHING_TO_SHARE])

    def _start(self, model: Graph, trace: Trace) -> Any:
        """Return what gives the relevance of the output: its value, less 0.5 for a probability, as in R."""

        def start(what: Explained) -> Tensor:
            value = trace.explained(what)
            shifted = not self.ignore_last_act and model.layer(what.node).activation.is_probability
            return value - 0.5 if shifted else value

        return start

    def _losses(self) -> list[str]:
        model = self._model
        losses = (model.layer(name).lrp_loss(rule) for name, rule in self._rules(model).items())
        return list(dict.fromkeys(loss for loss in losses if loss))

    def _rules(self, model: Graph) -> dict[str, LRPRule]:
        """Find the rule of every layer, refusing those that a layer cannot follow."""
        rules = {}
        for node in model.nodes:
            layer = model.layer(node.name)
            name, param = self.rule_name, self.rule_param
            if isinstance(name, dict):
                name = name.get(layer.r_class, "simple")
            if isinstance(param, dict):
                param = param.get(layer.r_class)
            if layer.lrp_rules and name not in layer.lrp_rules:
                raise ValueError(
                    f"Argument 'rule_name': the layer '{node.name}' ({layer.r_class}) cannot use the rule '{name}', "
                    f"which is not defined for it; it takes {', '.join(layer.lrp_rules)}."
                )
            rules[node.name] = LRPRule(cast(LRPRuleName, name), param, self.winner_takes_all)
        return rules

    def _fields(self) -> list[tuple[str, str]]:
        return [
            ("rule_name", _rule_name_text(self.rule_name)),
            ("rule_param", _rule_param_text(self.rule_name, self.rule_param)),
            ("winner_takes_all", str(self.winner_takes_all)),
        ]


def _lrp_step(trace: Trace, rules: Mapping[str, LRPRule]) -> Step:
    def step(layer: Layer, upper: Tensor, name: str, start: Explained | None) -> list[Tensor | None]:
        return layer.lrp(upper, trace[name], rules[name], is_output=start is not None)

    return step


def _check_classes(value: Mapping[Any, Any], argument: str) -> None:
    known = ruled_classes()
    for key in value:
        if key not in known:
            raise ValueError(
                f"Argument '{argument}': there is no layer class {describe(key)} with a rule"
                f"{suggestion(str(key), known)} Classes: {', '.join(known)}."
            )


def _check_rule_name(value: Any) -> str | dict[str, str]:
    if isinstance(value, Mapping):
        _check_classes(value, "rule_name")
        for key, rule in value.items():
            if rule not in (*_RULES, "pass"):
                raise ValueError(
                    f"Argument 'rule_name': expected one of {', '.join((*_RULES, 'pass'))} for '{key}', "
                    f"got {describe(rule)}."
                )
        return dict(value)
    if not isinstance(value, str):
        raise TypeError(f"Argument 'rule_name': expected the name of a rule or a dict, got {describe(value)}.")
    if value not in _RULES:
        raise ValueError(
            f"Argument 'rule_name': expected one of {', '.join(_RULES)}, got '{value}'{suggestion(value, _RULES)}"
        )
    return value


def _check_rule_param(value: Any) -> float | dict[str, float] | None:
    if value is None:
        return None
    entries = dict(value) if isinstance(value, Mapping) else {"": value}
    if isinstance(value, Mapping):
        _check_classes(value, "rule_param")
    for key, number in entries.items():
        try:
            entries[key] = read_number(number)
        except ValueError as error:
            kind = TypeError if isinstance(error, WrongTypeError) else ValueError
            raise kind(f"Argument 'rule_param': expected {error} or a dict of these, got {describe(number)}.") from None
    return entries if isinstance(value, Mapping) else entries[""]


def _rule_name_text(rule_name: str | dict[str, str]) -> str:
    if isinstance(rule_name, str):
        return f"'{rule_name}'"
    return ", ".join([*(f"{key}: '{rule}'" for key, rule in rule_name.items()), "other layers: 'simple'"])


def _rule_param_text(rule_name: str | dict[str, str], rule_param: float | dict[str, float] | None) -> str:
    def default(rule: str) -> str:
        return f"{DEFAULT_PARAM[rule]:g} (default)" if rule in DEFAULT_PARAM else "none"

    if isinstance(rule_param, float):
        return f"{rule_param:g}" + (" (not used by 'simple')" if rule_name == "simple" else "")
    given = rule_param or {}
    if isinstance(rule_name, str):
        entries = [f"{key}: {param:g}" for key, param in given.items()]
        return ", ".join([*entries, f"other layers: {default(rule_name)}"]) if given else default(rule_name)
    entries = [f"{key}: {f'{given[key]:g}' if key in given else default(rule)}" for key, rule in rule_name.items()]
    entries += [f"{key}: {param:g}" for key, param in given.items() if key not in rule_name]
    return ", ".join([*entries, "other layers: none"])
