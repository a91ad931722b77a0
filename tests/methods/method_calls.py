"""Every method with each of its rules, in few steps, and which references it takes."""

from __future__ import annotations

#: The class and its arguments, by a name.
CALLS = {
    "Gradient": ("Gradient", {}),
    "Gradient x Input": ("Gradient", {"times_input": True}),
    "SmoothGrad": ("SmoothGrad", {"n": 4, "seed": 3, "times_input": True}),
    "IntegratedGradient": ("IntegratedGradient", {"n": 4}),
    "ExpectedGradient": ("ExpectedGradient", {"n": 4, "seed": 3}),
    "DeepLift": ("DeepLift", {}),
    "DeepLift, reveal-cancel": ("DeepLift", {"rule_name": "reveal_cancel", "winner_takes_all": False}),
    "DeepSHAP": ("DeepSHAP", {"limit_ref": 3, "seed": 3}),
    "LRP": ("LRP", {"winner_takes_all": False}),
    "LRP, alpha-beta": ("LRP", {"rule_name": "alpha_beta", "rule_param": 2}),
    "ConnectionWeights": ("ConnectionWeights", {"times_input": True}),
}
#: The argument that takes references; ``x_ref`` takes one row.
REFERENCES = {
    **dict.fromkeys(("IntegratedGradient", "DeepLift"), "x_ref"),
    **dict.fromkeys(("ExpectedGradient", "DeepSHAP"), "data_ref"),
}
