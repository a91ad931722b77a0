"""Rules of LRP for single layers, as `rule_name`, `rule_param` and `winner_takes_all` of R mean them."""

from __future__ import annotations

from innsight_py.functions.lrp import RULES
from innsight_py.model.assignment import everywhere


def rule_for(layer, name="simple", param=None, winner_takes_all=True):
    """Return the rule that a layer has where all layers are given one by name."""
    kind = RULES[name]
    rule = kind(param) if param is not None and kind.parameters() else kind()
    return everywhere(layer, rule, winner_takes_all)
