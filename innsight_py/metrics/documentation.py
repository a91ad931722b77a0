"""What the documentation of metrics shares; filled in by `innsight_py.methods.documentation.documented`."""

from __future__ import annotations

#: Arguments of several metrics.
SHARED_ARGUMENTS = {
    "result": """result : InterpretingMethod
        The result of a ``run_*`` function, for the inputs or for one layer, or of `as_explanation`.""",
    "baseline": """baseline : "reference", "mean", "blur", number, or like the data
        The values that replace features. "reference" is the reference of the method: the mean of several references,
        and zeros for a method without a reference. "mean" is the mean of the data. "blur" is the same signal or image
        without its details.""",
    "value": """value : {"explained", "prediction"}
        "explained" is the value that the method explains, by default the logit. "prediction" is the output of the
        model.""",
    "per_channel": """per_channel : bool
        Let each channel at a position of a signal or an image be a feature of its own.""",
    "draws": """draws : int
        Number of random explanations, whose mean is the yardstick.""",
    "seed": """seed : int or torch.Generator, optional
        Fixes the draws. Default: drawn from torch's global generator.""",
    "raises": """TypeError, ValueError
        If an argument has a wrong type or a wrong value. The message names it.""",
}
