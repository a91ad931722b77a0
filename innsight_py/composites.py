"""Ready-made composites of LRP: which layer takes which rule, for the argument `rule_name` of `innsight_py.run_lrp`.

Each returns a list of (selector, rule), of which the first that means a layer counts; put rules of your own in front.

>>> from innsight_py import composites, rules
>>> [("features.0", rules.flat()), *composites.epsilon_plus()][:2]
[('features.0', flat()), ('family:convolution', z_plus())]
"""

from innsight_py.model.composites import (
    attnlrp,
    cp_lrp,
    epsilon_alpha2_beta1,
    epsilon_alpha2_beta1_flat,
    epsilon_gamma_box,
    epsilon_plus,
    epsilon_plus_flat,
    excitation_backprop,
)

__all__ = [
    "attnlrp",
    "cp_lrp",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box",
    "epsilon_plus",
    "epsilon_plus_flat",
    "excitation_backprop",
]
