"""`golden/small`: five small models in 36 calls each, and two data frames as R lays them out."""

from __future__ import annotations

import functools
import gzip

import numpy as np
import pandas as pd
import pytest
from goldens import FOLDER, as_list, r_model, read

import innsight_py

# R's answers are compared, the ones that do not add up as well (few steps, winner-takes-all).
pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")

SMALL = read("small.json.gz")
CALLS = [(model, call) for model in SMALL for call in SMALL[model]["methods"]]
# The tolerance that R's answers are compared with (parity.md, section 9), and for ConnectionWeights single precision.
RTOL, ATOL = 1e-7, 1e-10
METHODS = {
    "gradient": ("Gradient", {}),
    "gxi": ("Gradient", {"times_input": True}),
    "intgrad_n5": ("IntegratedGradient", {"n": 5}),
    "intgrad_n5_notimes": ("IntegratedGradient", {"n": 5, "times_input": False}),
    "lrp_simple": ("LRP", {}),
    "lrp_epsilon": ("LRP", {"rule_name": "epsilon"}),
    "lrp_alpha_beta": ("LRP", {"rule_name": "alpha_beta"}),
    "lrp_ab2": ("LRP", {"rule_name": "alpha_beta", "rule_param": 2}),
    "lrp_ab1": ("LRP", {"rule_name": "alpha_beta", "rule_param": 1}),
    "lrp_simple_nowta": ("LRP", {"winner_takes_all": False}),
    "lrp_mixed": (
        "LRP",
        {
            "rule_name": {"BatchNorm_Layer": "pass", "Dense_Layer": "epsilon", "Conv2D_Layer": "alpha_beta"},
            "rule_param": {"Dense_Layer": 0.05},
        },
    ),
    "deeplift_rescale": ("DeepLift", {}),
    "deeplift_rescale_nowta": ("DeepLift", {"winner_takes_all": False}),
    "deeplift_reveal_cancel": ("DeepLift", {"rule_name": "reveal_cancel"}),
    "deeplift_reveal_cancel_nowta": ("DeepLift", {"rule_name": "reveal_cancel", "winner_takes_all": False}),
    "deepshap_rescale": ("DeepSHAP", {}),
    "deepshap_reveal_cancel": ("DeepSHAP", {"rule_name": "reveal_cancel"}),
    "cw_global": ("ConnectionWeights", {}),
    "cw_local": ("ConnectionWeights", {"times_input": True}),
}


def prepare(model: dict) -> dict:
    """Undo R's automatic unboxing, which writes vectors of length one as numbers."""
    layers = [dict(layer) for layer in model["layers"]]
    for layer in layers:
        for key in ("bias", "gamma", "beta", "run_mean", "run_var"):
            if key in layer:
                layer[key] = np.atleast_1d(layer[key])
    dims = [as_list(dim) for dim in model["input_dim"]] if isinstance(model["input_dim"], list) else model["input_dim"]
    if isinstance(dims, list) and all(len(dim) == 1 for dim in dims):
        dims = [dim[0] for dim in dims]
    return model | {"layers": layers, "input_dim": dims}


@functools.cache
def converter(name: str) -> innsight_py.Converter:
    return r_model(prepare(SMALL[name]["model"]))


def run(name: str, call: str):
    model = SMALL[name]
    base, _, suffix = call.rpartition("_")
    if suffix not in ("ila", "last"):
        base, suffix = call, ""
    method, arguments = METHODS[base]
    arguments = dict(arguments)
    if suffix:
        arguments["ignore_last_act"] = suffix == "ila"
    if method in ("DeepLift", "IntegratedGradient"):
        arguments["x_ref"] = as_list(model["x_ref"])
    if method == "DeepSHAP":
        arguments["data_ref"] = as_list(model["data_ref"])
    output_idx = model["output_idx"] and [[node - 1 for node in nodes] for nodes in model["output_idx"]]
    data = None if base == "cw_global" else as_list(model["x"])
    return getattr(innsight_py, method)(converter(name), data, output_idx=output_idx, dtype="double", **arguments)


def test_there_are_180():
    assert len(CALLS) == 180


@pytest.mark.parametrize(("name", "call"), CALLS)
def test_call(name, call):
    theirs, ours = SMALL[name]["methods"][call], run(name, call)
    result = theirs["result"]
    if not isinstance(result, dict):
        result = {"Output_1": {"Input_1": result}}
    for i, row in enumerate(result.values()):
        for j, expected in enumerate(row.values()):
            np.testing.assert_allclose(ours.result[i][j].numpy(), expected, rtol=RTOL, atol=ATOL)
    for field in ("preds", "decomp_goal"):
        for mine, expected in zip(getattr(ours, field) or [], theirs[field] or [], strict=True):
            np.testing.assert_allclose(mine.numpy(), expected, rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize(("name", "call"), [("multi", "gxi_ila"), ("conv2d", "gradient_ila")])
def test_layout_of_data_frames(name, call):
    with gzip.open(FOLDER / f"small_{name}_df.csv.gz", "rt") as file:
        theirs = pd.read_csv(file)
    ours = run(name, call).get_result("data.frame")
    assert list(ours.columns) == [*theirs.columns, "residual"]
    for column in theirs:
        if pd.api.types.is_numeric_dtype(theirs[column]) and not isinstance(ours[column].dtype, pd.CategoricalDtype):
            np.testing.assert_allclose(ours[column].to_numpy(), theirs[column].to_numpy(), rtol=RTOL, atol=ATOL)
        else:
            expected = [None if pd.isna(value) else value for value in theirs[column]]
            assert [None if pd.isna(value) else value for value in ours[column]] == expected
