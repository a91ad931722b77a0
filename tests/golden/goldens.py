"""Reading what R innsight answered (`tests/golden/`, described in its README)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np

from innsight_py import Converter, from_r

FOLDER = Path(__file__).parent


def read(name: str) -> dict:
    with gzip.open(FOLDER / name, "rt") as file:
        return decode(json.load(file))


def decode(value):
    """Turn every stored array into a numpy array."""
    if isinstance(value, dict):
        shape = value.get("shape", value.get("dim"))
        if set(value) in ({"shape", "data"}, {"dim", "data"}):
            data = value["data"] if isinstance(value["data"], list) else [value["data"]]
            shape = shape if isinstance(shape, list) else [shape]
            return np.array([np.nan if v is None else v for v in data], np.float64).reshape(shape)
        return {key: decode(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [decode(entry) for entry in value]
    return value


def single(value):
    """Unwrap R's vectors of length one."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value


def as_list(value) -> list:
    return value if isinstance(value, list) else [value]


def rounded(layers: list[dict]) -> list[dict]:
    """Round weights to single precision, through which R passes all of them (quirk Q5)."""
    keys = ("weight", "bias", "gamma", "beta", "run_mean", "run_var")
    return [
        {k: np.float32(as_list(v) if isinstance(v, float | int) else v) if k in keys else v for k, v in layer.items()}
        for layer in layers
    ]


def r_model(model: dict, channels_first: bool = True, **kwargs) -> Converter:
    """Convert a model in R's form."""
    return Converter(from_r(model | {"layers": rounded(model["layers"])}, channels_first), dtype="double", **kwargs)


def relative_error(ours, theirs) -> float:
    """Largest difference relative to the largest value."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    scale = np.abs(theirs).max()
    error = np.abs(ours - theirs).max()
    return float(error / scale) if scale > 0 else float(error)


#: The calls that R answered for models of Keras, by the names of the answers.
KERAS_CALLS = {
    "gradient": ("Gradient", {}),
    "gradient_x_input": ("Gradient", {"times_input": True, "ignore_last_act": False}),
    "intgrad": ("IntegratedGradient", {"n": 10, "x_ref": ...}),
    "deeplift_rescale": ("DeepLift", {"x_ref": ...}),
    "deeplift_reveal_cancel": ("DeepLift", {"rule_name": "reveal_cancel", "x_ref": ...}),
    "deeplift_no_winner": ("DeepLift", {"x_ref": ..., "winner_takes_all": False, "ignore_last_act": False}),
    "deepshap": ("DeepSHAP", {"data_ref": ...}),
    "lrp_simple": ("LRP", {}),
    "lrp_epsilon": ("LRP", {"rule_name": "epsilon", "rule_param": 0.01}),
    "lrp_alpha_beta": ("LRP", {"rule_name": "alpha_beta", "rule_param": 2}),
    "lrp_pass": (
        "LRP",
        {
            "rule_name": {"Dense_Layer": "epsilon", "Conv2D_Layer": "alpha_beta", "BatchNorm_Layer": "pass"},
            "rule_param": {"Conv2D_Layer": 1.0},
        },
    ),
}
