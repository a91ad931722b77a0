"""Quantus takes our methods, and computes what our metrics do (nox -s tests_quantus)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from innsight_py import Converter, explain_func, metrics, run_deeplift, run_grad

quantus = pytest.importorskip("quantus")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def trained():
    """Train a small net on images with a bright corner; return it, images and their classes."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    x, y = torch.rand(200, 1, 8, 8), torch.randint(2, (200,))
    x[y == 0, :, :3, :3] += 1
    x[y == 1, :, 5:, 5:] += 1
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net.eval(), x[:8].numpy(), y[:8].numpy()


METRICS = {
    "MaxSensitivity": {"nr_samples": 3},
    "PixelFlipping": {"features_in_step": 8},
    "FaithfulnessCorrelation": {"nr_runs": 10, "subset_size": 16},
    "Sparseness": {},
    "Complexity": {},
    "RandomLogit": {"num_classes": 2, "seed": 1},
    "MPRT": {},
    "EfficientMPRT": {},
    "Completeness": {},
    "Infidelity": {"n_perturb_samples": 2, "perturb_patch_sizes": [4]},
    "ROAD": {"percentages": [10, 50]},
}


@pytest.mark.parametrize("name", METRICS)
def test_quantus_runs_our_method(trained, name):
    net, x, y = trained
    metric = getattr(quantus, name)(disable_warnings=True, display_progressbar=False, **METRICS[name])
    explain = explain_func(run_deeplift, x_ref=np.zeros((1, 1, 8, 8), np.float32))
    scores = metric(net, x, y, explain_func=explain, device="cpu", channel_first=True)
    assert len(scores) > 0
    if "MPRT" in name:
        assert len(explain._converters) > 1  # the module that Quantus has changed was converted anew


def test_sparseness_is_theirs(trained):
    net, x, y = trained
    result = run_grad(Converter(net, input_dim=(1, 8, 8)), x, target=y.tolist())
    metric = quantus.Sparseness(disable_warnings=True, normalise=False)
    theirs = metric(net, x, y, a_batch=result.get_result()[..., 0], channel_first=True, softmax=False)
    found = metrics.sparseness(result, seed=1).frame["value"].to_numpy()
    assert found == pytest.approx(np.array(theirs), abs=1e-4)


def test_deletion_is_their_pixel_flipping(trained):
    net, x, y = trained
    result = run_deeplift(Converter(net, input_dim=(1, 8, 8)), x, target=y.tolist())
    metric = quantus.PixelFlipping(
        features_in_step=8, perturb_baseline=0.5, disable_warnings=True, normalise=False, abs=False
    )
    theirs = metric(net, x, y, a_batch=result.get_result()[..., 0], channel_first=True, softmax=False)
    curve = metrics.deletion(result, steps=8, baseline=0.5, seed=1).curve
    for row, expected in zip(result.data_names, theirs, strict=True):
        own = curve[curve["row"] == row]["value"].to_numpy()[1:]
        assert own == pytest.approx(np.array(expected), abs=1e-3)


def test_faithfulness_correlation_is_theirs(trained):
    """Both are means over random sets; many sets bring them together."""
    net, x, y = trained
    result = run_deeplift(Converter(net, input_dim=(1, 8, 8)), x[:3], target=y[:3].tolist())
    metric = quantus.FaithfulnessCorrelation(
        nr_runs=1500,
        subset_size=16,
        return_aggregate=False,
        perturb_baseline=0.5,
        disable_warnings=True,
        normalise=False,
        abs=False,
    )
    np.random.seed(0)  # noqa: NPY002
    theirs = metric(net, x[:3], y[:3], a_batch=result.get_result()[..., 0], channel_first=True, softmax=False)
    found = metrics.faithfulness_correlation(result, subset=0.25, n=1500, baseline=0.5, seed=1)
    assert found.frame["value"].to_numpy() == pytest.approx(np.array(theirs), abs=0.06)
