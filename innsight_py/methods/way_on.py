"""Where LRP goes on that stopped at a layer without a rule: with rules for attention and norms behind the user's."""

from __future__ import annotations

from typing import Any, NamedTuple

from innsight_py.functions.lrp import Shares
from innsight_py.functions.lrp_rules import Simple
from innsight_py.model.composites import COMPOSITES, Composite, attnlrp
from innsight_py.model.rule_names import Chosen


class Way(NamedTuple):
    """Rules that may work: what they are, and how an error message says so."""

    chosen: Composite
    text: str


#: The composite that has rules for most layers.
_FIRST = Way(attnlrp(), 'LRP works with rule_name="attnlrp", which has rules for attention and norms')


def ways(rule_name: Any, chosen: Chosen) -> list[Way]:
    """Return what to try: the rules for attention and norms, and then these behind the rules that a user chose.

    There are no such for the default, and for dicts of R's classes, which have no such form.

    Examples
    --------
    >>> ways("epsilon_plus", COMPOSITES["epsilon_plus"]())[1].text
    ', and with rule_name=[*composites.epsilon_plus(), *composites.attnlrp()], where your rules come first'
    """
    own: Composite
    if isinstance(chosen, list):
        named = isinstance(rule_name, str) and rule_name in COMPOSITES
        own, said = chosen, f"*composites.{rule_name}()" if named else "*your_list"
    elif isinstance(chosen, Shares) and chosen != Simple():
        own = [("family:dense", chosen), ("family:convolution", chosen)]
        rule = "your_rule" if "<" in repr(chosen) else f"rules.{chosen!r}"  # arrays and functions have no short form
        said = ", ".join(f'("{selector}", {rule})' for selector, _ in own)
    else:
        return [_FIRST]
    text = f", and with rule_name=[{said}, *composites.attnlrp()], where your rules come first"
    return [_FIRST, Way([*own, *_FIRST.chosen], text)]
