"""A softmax that is written out gets what one gets that is called as such; what is none stays what it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from innsight_py import Converter, run_deeplift, run_grad, run_lrp

torch.manual_seed(5)
BEFORE, AFTER = nn.Linear(6, 4), nn.Linear(4, 3)
X = torch.randn(5, 6)


class Around(nn.Module):
    """A linear layer, a function, and a linear head if the function does not end the module."""

    def __init__(self, function, ends):
        super().__init__()
        self.before, self.after, self.function = BEFORE, nn.Identity() if ends else AFTER, function

    def forward(self, x):
        return self.after(self.function(self.before(x)))


def over_sum(e, axis=1):
    return e / e.sum(axis, keepdim=True)


def changed_in_place(z):
    e = z.exp()
    total = e.sum(1, keepdim=True)
    z.mul_(2.0)
    return e / total + z


SOFTMAX = {
    "twice": lambda z: z.exp() / z.exp().sum(1, keepdim=True),
    "once": lambda z: over_sum(torch.exp(z), -1),
    "axis put back": lambda z: z.exp() / z.exp().sum(1)[:, None],
    "less the largest": lambda z: over_sum(torch.exp(z - z.amax(1, keepdim=True))),
    "less the largest, detached": lambda z: over_sum(torch.exp(z - z.max(1, keepdim=True).values.detach())),
    "less the largest of all": lambda z: over_sum(torch.exp(z - z.max())),
}
LOGARITHM = {
    "logsumexp": lambda z: z - z.logsumexp(1, keepdim=True),
    "logarithm of a sum": lambda z: z - z.exp().sum(1, keepdim=True).log(),
    "less the largest": lambda z: (lambda s: s - s.exp().sum(1, keepdim=True).log())(z - z.amax(1, keepdim=True)),
}
OTHERS = {
    "other logits": lambda z: z.exp() / (2 * z).exp().sum(1, keepdim=True),
    "a little more": lambda z: z.exp() / (z.exp().sum(1, keepdim=True) + 0.01),
    "sum of some": lambda z: z.exp() / z.exp()[:, :2].sum(1, keepdim=True),
    "changed in place": changed_in_place,
    "less a multiple": lambda z: z - 2 * z.exp().sum(1, keepdim=True).log(),
}


@pytest.mark.parametrize("ends", [False, True], ids=["inside", "at the end"])
@pytest.mark.parametrize(
    ("function", "called"),
    [
        *((f, lambda z: z.softmax(1)) for f in SOFTMAX.values()),
        *((f, lambda z: z.log_softmax(1)) for f in LOGARITHM.values()),
    ],
    ids=[*SOFTMAX, *(f"logarithm, {name}" for name in LOGARITHM)],
)
@pytest.mark.filterwarnings("ignore:.*thousands:UserWarning")
def test_written_out(function, called, ends):
    found, expected = (Converter(Around(f, ends), input_dim=6) for f in (function, called))
    for method in (run_grad, run_deeplift, lambda c, x: run_lrp(c, x, rule_name="attnlrp")):
        np.testing.assert_array_equal(method(found, X).get_result(), method(expected, X).get_result())


@pytest.mark.parametrize("function", OTHERS.values(), ids=OTHERS)
def test_others_stay_what_they_are(function):
    """A conversion that took them for a softmax would be refused, as it differs from the original."""
    converter = Converter(Around(function, ends=True), input_dim=6, save_model_as_dict=True)
    assert not {"softmax", "log_softmax"} & {layer.get("act_name") for layer in converter.model_as_dict["layers"]}
    x = X.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(Around(function, ends=True)(x)[:, 0].sum(), x)
    found = run_grad(converter, X, output_idx=[0], ignore_last_act=False).get_result()[..., 0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
