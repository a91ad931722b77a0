"""`golden/neuralnet` (its weights, as dense layers, and its .rds files) and `golden/random` (20,000 draws)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from goldens import FOLDER, read, relative_error, single

import innsight_py
from innsight_py import Converter

# R's answers are compared, the ones that do not add up as well (few steps).
pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")

NETS = sorted(path.name for path in (FOLDER / "neuralnet").glob("*.json.gz"))
CALLS = {
    "gradient": ("Gradient", {}, None),
    "gradient_x_input_no_ignore": ("Gradient", {"times_input": True, "ignore_last_act": False}, None),
    "intgrad": ("IntegratedGradient", {"n": 50}, "x_ref"),
    "deeplift": ("DeepLift", {}, "x_ref"),
    "deeplift_reveal_cancel": ("DeepLift", {"rule_name": "reveal_cancel", "ignore_last_act": False}, "x_ref"),
    "deepshap": ("DeepSHAP", {}, "data_ref"),
    "lrp_epsilon": ("LRP", {"rule_name": "epsilon", "rule_param": 0.01}, None),
    "lrp_alpha_beta": ("LRP", {"rule_name": "alpha_beta", "rule_param": 2}, None),
    "cw": ("ConnectionWeights", {}, None),
}


def neuralnet(net: dict) -> Converter:
    """Build the network that R neuralnet trained from its weights, which hold the bias in their first row."""
    hidden = single(net["activation"])
    layers = [
        {"type": "Dense", "weight": np.float32(w[1:].T), "bias": np.float32(w[0]), "activation_name": hidden}
        for w in net["weights"]
    ]
    if single(net["linear_output"]):
        layers[-1]["activation_name"] = "linear"
    return Converter(
        {"input_dim": [len(net["weights"][0]) - 1], "layers": layers},
        input_names=net["input_names"],
        output_names=net["output_names"],
        dtype="double",
    )


@pytest.mark.parametrize("source", ["weights", "rds"])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("call", CALLS)
def test_neuralnet(name, call, source):
    net = read(f"neuralnet/{name}")
    rds = FOLDER / "neuralnet" / name.replace(".json.gz", ".rds")
    converter = neuralnet(net) if source == "weights" else Converter(rds, dtype="double")
    method, arguments, reference = CALLS[call]
    if reference:
        arguments = arguments | {reference: net[reference]}
    data = None if call == "cw" else net["x"]
    ours = getattr(innsight_py, method)(converter, data, dtype="double", **arguments)
    theirs = net["results"][call]
    limit = 1e-6 if call == "cw" else 1e-9
    assert relative_error(ours.get_result(), theirs["result"]) <= limit
    frame = ours.get_result("data.frame")
    assert list(frame.columns) == [*theirs["data_frame"], "residual"]
    for column, values in theirs["data_frame"].items():
        if isinstance(values[0], str):
            assert frame[column].astype(str).to_list() == values
        elif values[0] is None:
            assert frame[column].isna().all()
        else:
            assert relative_error(frame[column].to_numpy(np.float64), values) <= limit
    if call != "cw":
        assert relative_error(ours.preds[0].numpy(), theirs["preds"]) <= 1e-9
        assert relative_error(ours.decomp_goal[0].numpy(), theirs["decomp_goal"]) <= 1e-9


RANDOM = read("random.json.gz")
RANDOM_CALLS = {
    "smoothgrad": ("SmoothGrad", {"noise_level": 0.1}),
    "smoothgrad_x_input": ("SmoothGrad", {"noise_level": 0.2, "times_input": True, "ignore_last_act": False}),
    "expgrad": ("ExpectedGradient", {"data_ref": RANDOM["data_ref"]}),
    "expgrad_last": ("ExpectedGradient", {"data_ref": RANDOM["data_ref"], "ignore_last_act": False}),
    "expgrad_zeros": ("ExpectedGradient", {}),
}


@pytest.mark.parametrize("call", RANDOM_CALLS)
def test_random_methods(call):
    """Ours and R's are means of 20,000 draws each: compare within a few standard errors, estimated from batches."""
    weights = RANDOM["weights"]
    layers = [
        {"type": "Dense", "weight": weights[2 * i], "bias": np.atleast_1d(weights[2 * i + 1]), "activation_name": name}
        for i, name in enumerate(RANDOM["activations"])
    ]
    converter = Converter({"input_dim": [4], "layers": layers}, dtype="double")
    method, arguments = RANDOM_CALLS[call]
    runs = np.stack(
        [
            getattr(innsight_py, method)(
                converter, RANDOM["x"], n=1000, seed=seed, dtype="double", **arguments
            ).get_result()
            for seed in range(20)
        ]
    )
    standard_error = runs.std(0, ddof=1) / np.sqrt(20)
    difference = np.abs(runs.mean(0) - RANDOM[call]["result"])
    assert (difference <= 6 * standard_error + 1e-12).all()
    result = getattr(innsight_py, method)(converter, RANDOM["x"], n=2, dtype="double", **arguments)
    assert relative_error(result.decomp_goal[0].numpy(), RANDOM[call]["decomp_goal"]) <= 1e-9
    assert isinstance(result.result[0][0], torch.Tensor)
