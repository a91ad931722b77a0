"""Reading what users say of LRP rules: the arguments `rule_name` and `rule_param`."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

from innsight_py._checks import WrongTypeError, describe, read_number, suggestion
from innsight_py.functions.lrp import RULES, Rule
from innsight_py.layers import ruled_classes
from innsight_py.model.composites import COMPOSITES, Composite, needs

#: What `rule_name` may be, once it is read: a rule for all layers, for classes of R ("" is for those that are not
#: named), or a list.
Chosen = Rule | dict[str, Rule] | Composite
#: The rules that may be chosen for all layers by their name.
EVERYWHERE = ("simple", "epsilon", "alpha_beta", "gamma", "z_plus", "w_square", "flat")


def read_rules(rule_name: Any, rule_param: Any = None) -> Chosen:
    """Read the arguments `rule_name` and `rule_param`.

    Raises
    ------
    TypeError, ValueError
        If these are not what they should be; the message names the argument.

    Examples
    --------
    >>> read_rules("epsilon", 0.1), read_rules({"Dense_Layer": "alpha_beta"})
    (epsilon(0.1), {'Dense_Layer': alpha_beta(0.5)})
    """
    params = read_params(rule_param)
    if isinstance(rule_name, str) and rule_name in EVERYWHERE:
        if not isinstance(params, dict):
            return _named(rule_name, params)
        return {"": _named(rule_name, None)} | {key: _named(rule_name, param) for key, param in params.items()}
    if isinstance(rule_name, Mapping):
        _check_classes(rule_name, "rule_name")
        known = (*EVERYWHERE, "pass")
        return {key: _entry(rule, f"for '{key}'", known, _param_of(params, key)) for key, rule in rule_name.items()}
    chosen: Chosen
    if isinstance(rule_name, str):
        chosen = _composite(rule_name)
    elif isinstance(rule_name, Rule):
        chosen = rule_name
    elif isinstance(rule_name, list) and rule_name and all(isinstance(p, list | tuple) for p in rule_name):
        chosen = [_pair(pair) for pair in rule_name]
    else:
        raise TypeError(
            "Argument 'rule_name': expected the name of a rule or a composite, a rule, a list of (selector, rule) or a "
            f"dict of R's classes, got {describe(rule_name)}."
        )
    if params is not None:
        raise ValueError(
            f"Argument 'rule_param': it belongs to the name of a rule; give parameters within 'rule_name', as in "
            f"rules.epsilon({params if isinstance(params, float) else 0.01:g}), got {describe(rule_param)}."
        )
    return chosen


def _composite(name: str) -> Composite:
    known = (*EVERYWHERE, *COMPOSITES)
    if name not in COMPOSITES:
        raise ValueError(
            f"Argument 'rule_name': expected one of {', '.join(known)}, got '{name}'{suggestion(name, known)}"
        )
    missing = needs(name)
    if missing:
        given = ", ".join(f"{argument}=..." for argument in missing)
        raise ValueError(
            f"Argument 'rule_name': '{name}' needs {' and '.join(missing)}; pass composites.{name}({given}) of "
            "innsight_py.composites."
        )
    return COMPOSITES[name]()


def _pair(pair: Any) -> tuple[str, Rule]:
    if len(pair) != 2 or not isinstance(pair[0], str):
        raise TypeError(
            f"Argument 'rule_name': expected pairs of a selector and a rule, such as ('dense', rules.epsilon(0.01)), "
            f"got {describe(pair)}."
        )
    usual = tuple(name for name, kind in RULES.items() if all(kind.parameters().values()))
    return pair[0], _entry(pair[1], f"for '{pair[0]}'", usual)


def _entry(rule: Any, where: str, known: tuple[str, ...], param: float | None = None) -> Rule:
    if isinstance(rule, Rule):
        return rule
    if not isinstance(rule, str) or rule not in known:
        raise ValueError(
            f"Argument 'rule_name': expected one of {', '.join(known)} or a rule of innsight_py.rules {where}, got "
            f"{describe(rule)}{suggestion(rule, known) if isinstance(rule, str) else '.'}"
        )
    return _named(rule, param)


@functools.lru_cache(maxsize=128)  # rules never change, and keep their tables
def _named(name: str, param: float | None) -> Rule:
    """Return the rule with a name; a parameter is not used by rules without one, as in R."""
    kind = RULES[name]
    if param is None or not kind.parameters():
        return kind()
    try:
        return kind(param)  # type: ignore[call-arg]
    except ValueError as error:
        expected = str(error).partition(": ")[2]
        raise ValueError(f"Argument 'rule_param': for the rule '{name}' {expected}") from None


def read_params(value: Any) -> float | dict[str, float] | None:
    """Read the argument `rule_param`."""
    if value is None or (type(value) is float and math.isfinite(value)):
        return value
    if isinstance(value, Mapping):
        _check_classes(value, "rule_param")
        return {key: _read_param(number) for key, number in value.items()}
    return _read_param(value)


def _read_param(value: Any) -> float:
    try:
        return read_number(value)
    except ValueError as error:
        kind = TypeError if isinstance(error, WrongTypeError) else ValueError
        raise kind(f"Argument 'rule_param': expected {error} or a dict of these, got {describe(value)}.") from None


def _param_of(params: float | dict[str, float] | None, key: str) -> float | None:
    return params.get(key) if isinstance(params, dict) else params


def _check_classes(value: Mapping[Any, Any], argument: str) -> None:
    known = ruled_classes()
    for key in value:
        if key not in known:
            raise ValueError(
                f"Argument '{argument}': there is no layer class {describe(key)} with a rule"
                f"{suggestion(str(key), known)} Classes: {', '.join(known)}."
            )
