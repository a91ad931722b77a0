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


def in_place(z):
    e = (z - z.amax(1, keepdim=True)).exp()
    e /= e.sum(-1, keepdim=True)
    return e


def all_in_place(z):
    z = z - z.amax(1, keepdim=True)
    z.exp_()
    return z.div_(z.sum(1, keepdim=True))


def logits_in_place(z):
    z.exp_()
    z.mul_(z.sum(1, keepdim=True).reciprocal_())
    return z


def logarithm_in_place(z):
    z = z * 1
    return z.sub_(z.exp().sum(1, keepdim=True).log_())


def seen_later(z):
    e = z.exp()
    e.div_(e.sum(1, keepdim=True))
    return e + z.mul_(2.0)


def seen_through_a_view(z):
    e = z.exp()
    rows = e.view(-1, 2, 2)
    e.div_(e.sum(1, keepdim=True))
    return rows.flatten(1) * 3 + e


def whole_changed_on_the_way(z):
    e = z.exp()
    z.mul_(2.0)
    return e / e.sum(1, keepdim=True) + z


SOFTMAX = {
    "twice": lambda z: z.exp() / z.exp().sum(1, keepdim=True),
    "once": lambda z: over_sum(torch.exp(z), -1),
    "axis put back": lambda z: z.exp() / z.exp().sum(1)[:, None],
    "less the largest": lambda z: over_sum(torch.exp(z - z.amax(1, keepdim=True))),
    "less the largest, detached": lambda z: over_sum(torch.exp(z - z.max(1, keepdim=True).values.detach())),
    "less the largest of all": lambda z: over_sum(torch.exp(z - z.max())),
    "in place": in_place,
    "all in place": all_in_place,
    "the logits in place": logits_in_place,
    "axis put back by a view": lambda z: z.exp() / z.exp().sum(1).view(-1, 1),
    "times the inverse": lambda z: z.exp() * z.exp().sum(1, keepdim=True).reciprocal(),
    "inverse times it": lambda z: z.exp().sum(1, keepdim=True).reciprocal() * z.exp(),
    "exponential of a logarithm": lambda z: z.log_softmax(1).exp(),
    "exponential of a logarithm, in place": lambda z: nn.LogSoftmax(-1)(z).exp_(),
    "exponential of the rest": lambda z: torch.exp(z - z.logsumexp(1, keepdim=True)),
}
LOGARITHM = {
    "logsumexp": lambda z: z - z.logsumexp(1, keepdim=True),
    "logarithm of a sum": lambda z: z - z.exp().sum(1, keepdim=True).log(),
    "in place": logarithm_in_place,
    "less the largest": lambda z: (lambda s: s - s.exp().sum(1, keepdim=True).log())(z - z.amax(1, keepdim=True)),
}
OTHERS = {
    "other logits": lambda z: z.exp() / (2 * z).exp().sum(1, keepdim=True),
    "a little more": lambda z: z.exp() / (z.exp().sum(1, keepdim=True) + 0.01),
    "sum of some": lambda z: z.exp() / z.exp()[:, :2].sum(1, keepdim=True),
    "changed in place": changed_in_place,
    "whole changed on the way": whole_changed_on_the_way,
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


@pytest.mark.parametrize("function", [seen_later, seen_through_a_view], ids=["the logits", "a view"])
def test_changes_that_others_see(function):
    """What is seen elsewhere has the value that it has in the original."""
    expected = Around(function, ends=True)(X.clone()).detach()
    found = run_grad(Converter(Around(function, ends=True), input_dim=6), X, ignore_last_act=False)
    np.testing.assert_allclose(found.preds[0], expected, rtol=1e-5)


@pytest.mark.parametrize("function", OTHERS.values(), ids=OTHERS)
def test_others_stay_what_they_are(function):
    """A conversion that took them for a softmax would be refused, as it differs from the original."""
    converter = Converter(Around(function, ends=True), input_dim=6, save_model_as_dict=True)
    assert not {"softmax", "log_softmax"} & {layer.get("act_name") for layer in converter.model_as_dict["layers"]}
    x = X.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(Around(function, ends=True)(x)[:, 0].sum(), x)
    found = run_grad(converter, X, output_idx=[0], ignore_last_act=False).get_result()[..., 0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
