"""The rules of LRP, for the argument `rule_name` of `innsight_py.run_lrp`.

>>> from innsight_py import rules
>>> rules.epsilon(0.01), rules.z_box(-3, 3), rules.gamma(bias="zero")
(epsilon(0.01), z_box(-3, high=3), gamma(0.25, bias='zero'))
"""

from typing import get_type_hints

from innsight_py.functions.lrp import Rule
from innsight_py.functions.lrp_rules import AlphaBeta, Epsilon, Flat, Gamma, Simple, WSquare, ZBox, ZPlus
from innsight_py.functions.lrp_weightless import Block, Equal, Gradient, Pass, Proportional, Taylor, Winner

simple = Simple
epsilon = Epsilon
alpha_beta = AlphaBeta
gamma = Gamma
z_plus = ZPlus
z_box = ZBox
w_square = WSquare
flat = Flat
proportional = Proportional
equal = Equal
pass_ = Pass
gradient = Gradient
taylor = Taylor
block = Block
winner = Winner

__all__ = [
    "Rule",
    "alpha_beta",
    "block",
    "epsilon",
    "equal",
    "flat",
    "gamma",
    "gradient",
    "pass_",
    "proportional",
    "simple",
    "taylor",
    "w_square",
    "winner",
    "z_box",
    "z_plus",
]

for _name in __all__:  # help, documentation and pickles call a rule by its public name
    if _name != "Rule":
        _rule = globals()[_name]
        _hints = get_type_hints(_rule)  # here, where the names in annotations are still those of its own module
        _rule.__annotations__ = {_field: _hints[_field] for _field in vars(_rule).get("__annotations__", {})}
        if "__init__" in vars(_rule):
            _given = _rule.__init__.__annotations__
            _rule.__init__.__annotations__ = {_field: _hints.get(_field, _given[_field]) for _field in _given}
        _rule.__module__, _rule.__name__, _rule.__qualname__ = __name__, _name, _name
