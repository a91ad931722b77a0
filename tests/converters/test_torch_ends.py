"""What is explained at the end of a module, whatever else is asked for with it, and small differences before it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from innsight_py import Converter, SpecError, UnsupportedLayerError, run_deeplift, run_grad, run_lrp


class ProbabilitiesAndMore(nn.Module):
    """A softmax that ends one output and lies inside the way to the other."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)

    def forward(self, x):
        p = torch.softmax(self.norm(self.a(x)), -1)
        return p, self.b(p)


@pytest.mark.parametrize("output_idx", [[None, [0]], [[0], [0]]])
def test_lrp_does_not_depend_on_the_other_outputs(output_idx):
    torch.manual_seed(1)
    converter = Converter(ProbabilitiesAndMore().eval(), input_dim=4)
    with pytest.raises(UnsupportedLayerError, match="softmax"):
        run_lrp(converter, torch.randn(2, 4), output_idx=output_idx)


def test_lrp_starts_at_a_softmax():
    torch.manual_seed(1)
    converter = Converter(ProbabilitiesAndMore().eval(), input_dim=4)
    assert run_lrp(converter, torch.randn(2, 4), output_idx=[[0]]).result[0][0].isfinite().all()


class Classifier(nn.Module):
    """The usual binary classifier: one probability an instance, without an axis for it."""

    def __init__(self, end):
        super().__init__()
        self.fc, self.end = nn.Linear(4, 1), end

    def forward(self, x):
        return self.end(self.fc(x))


ENDS = {
    "sigmoid, squeeze": lambda z: torch.sigmoid(z).squeeze(-1),
    "squeeze, sigmoid": lambda z: torch.sigmoid(z.squeeze(-1)),
    "sigmoid, select": lambda z: torch.sigmoid(z)[:, 0],
    "sigmoid, flatten": lambda z: torch.sigmoid(z).flatten(1),
    "sigmoid": torch.sigmoid,
}


@pytest.mark.parametrize("end", ENDS)
def test_the_last_activation_is_ignored_behind_a_change_of_shape(end):
    torch.manual_seed(1)
    model = Classifier(ENDS[end])
    found = run_grad(Converter(model, input_dim=4), torch.randn(3, 4)).get_result()
    np.testing.assert_allclose(found[..., 0], np.repeat(model.fc.weight.detach().numpy(), 3, 0), rtol=1e-6)


@pytest.mark.parametrize("difference", [1e-2, 1e-3, 1e-4])
def test_small_differences_before_an_activation_of_its_own(difference):
    """In single precision the slope must not be that of rounding."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Sigmoid(), nn.Linear(3, 1)).eval()
    converter = Converter(model, input_dim=2)
    x_ref = torch.randn(1, 2)
    x = x_ref + difference
    single, double = (
        run_deeplift(converter, x, x_ref=x_ref, dtype=dtype).get_result().ravel() / (x - x_ref).double().numpy().ravel()
        for dtype in ("float", "double")
    )
    np.testing.assert_allclose(single, double, rtol=1e-5 / difference)


@pytest.mark.parametrize("dim", [(1, 3, 4, 4), (4, 4, 3)])
def test_a_wrong_shape_is_called_one(dim):
    """The batch among the axes, or channels last."""
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    with pytest.raises(SpecError, match="channels first and without the batch axis"):
        Converter(model, input_dim=dim)


def test_one_instance_without_a_batch_gets_a_hint():
    with pytest.raises(ValueError, match=r"x\[None\]"):
        run_grad(Converter(nn.Linear(4, 2), input_dim=4), torch.randn(4))
