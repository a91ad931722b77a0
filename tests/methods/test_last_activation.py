"""With `ignore_last_act` the score before the activation that makes the output is explained, wherever it is from.

The answer is compared with that of a module which returns the score.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import innsight_py
from innsight_py import Converter, run_deeplift, run_grad, run_intgrad, run_lrp, run_smoothgrad
from innsight_py._checks import warnings_said
from innsight_py._errors import code_of

torch.manual_seed(11)
ROWS, REFERENCE = torch.randn(4, 6), torch.randn(1, 6)
PARTS = nn.ModuleDict(
    {
        "dense": nn.Linear(6, 6),
        "norm": nn.BatchNorm1d(6),
        "conv": nn.Conv1d(1, 2, 3),
        "head": nn.Linear(6, 1),
        "other": nn.Linear(6, 6),
    }
).eval()
PARTS["norm"].running_mean.uniform_()
PARTS["norm"].running_var.uniform_(0.5, 2)
PARTS.requires_grad_(False)


class Module(nn.Module):
    """A function of parts and x."""

    def __init__(self, function):
        super().__init__()
        self.parts, self.function = PARTS, function

    def forward(self, x):
        return self.function(self.parts, x)


def dense(p, x):
    return p["dense"](x.relu())


def image(p, x):
    return p["conv"](x[:, None])


def masked(p, x):
    return dense(p, x).masked_fill(torch.tensor([False, True] + [False] * 4), -50.0)


def softmax(z):
    return z.softmax(-1)


def same(y):
    return y


#: The score, the activation, and what only moves values.
SCORES = {
    "batch norm": (lambda p, x: p["norm"](dense(p, x)), softmax, same),
    "temperature": (lambda p, x: dense(p, x) / 2.5, softmax, same),
    "residual sum": (lambda p, x: dense(p, x) + x, softmax, same),
    "residual sum, relu": (lambda p, x: dense(p, x) + x, torch.relu, same),
    "tanh": (lambda p, x: p["norm"](dense(p, x)), torch.tanh, same),
    "mask": (masked, softmax, same),
    "the input": (lambda p, x: x, softmax, same),
    "product": (lambda p, x: dense(p, x) * x, torch.sigmoid, same),
    "maximum": (lambda p, x: F.max_pool1d(image(p, x), 2), softmax, lambda y: y.flatten(1)),
    "mean over positions": (lambda p, x: image(p, x).mean(-1), softmax, same),
    "distances": (lambda p, x: -((x[:, None] - p["dense"].weight) ** 2).sum(-1), softmax, same),
    "log-softmax": (lambda p, x: dense(p, x) / 2, lambda z: z.log_softmax(1), same),
    "logarithm of a softmax": (lambda p, x: dense(p, x) / 2, lambda z: z.softmax(1).log(), same),
    "logarithm of a sigmoid": (lambda p, x: dense(p, x) / 2, lambda z: z.sigmoid().log(), lambda y: y.flip(1)),
    "squeezed": (lambda p, x: p["head"](x), torch.sigmoid, lambda y: y.squeeze(-1)),
    "squeezed relu": (lambda p, x: p["head"](x), torch.relu, lambda y: y.squeeze(-1)),
    "flat": (dense, softmax, lambda y: y.flatten(1)),
    "dropped": (lambda p, x: p["norm"](dense(p, x)), softmax, lambda y: F.dropout(y, training=False)),
    "reshaped before": (lambda p, x: dense(p, x).reshape(-1, 2, 3), softmax, lambda y: y.flatten(1)),
    "transposed": (lambda p, x: dense(p, x).reshape(-1, 2, 3), softmax, lambda y: y.transpose(1, 2).flatten(1)),
    "one chosen": (dense, softmax, lambda y: y[:, 1]),
    "some chosen, one twice": (dense, softmax, lambda y: y[:, [4, 0, 4]]),
    "turned round": (dense, softmax, lambda y: torch.flip(y, (1,))),
    "cast": (dense, softmax, lambda y: y.double().float()),
    "along the batch folded in": (
        lambda p, x: p["head"](x.reshape(-1, 1, 6).expand(-1, 2, 6).reshape(-1, 6)),
        torch.sigmoid,
        lambda y: y.reshape(-1, 2),
    ),
}
CALLS = {
    "grad": ("run_grad", {}),
    "guided": ("run_grad", {"relu_rule": "guided"}),
    "smoothgrad": ("run_smoothgrad", {"n": 3, "seed": 1, "times_input": True}),
    "intgrad": ("run_intgrad", {"n": 4, "x_ref": REFERENCE}),
    "expgrad": ("run_expgrad", {"n": 3, "seed": 1, "data_ref": ROWS}),
    "deeplift": ("run_deeplift", {"x_ref": REFERENCE}),
    "reveal-cancel": ("run_deeplift", {"x_ref": REFERENCE, "rule_name": "reveal_cancel"}),
    "deepshap": ("run_deepshap", {"data_ref": ROWS}),
    "lrp": ("run_lrp", {"rule_name": "epsilon_plus"}),
    "attnlrp": ("run_lrp", {"rule_name": "attnlrp"}),
    "gradients in LRP": ("run_lrp", {"rule_name": [("family:softmax", "gradient"), ("family:activation", "gradient")]}),
}


@functools.cache
def both(case: str) -> tuple[Converter, Converter]:
    """Return what is to be explained, and what returns the score."""
    score, activation, moved = SCORES[case]
    modules = (Module(lambda p, x: moved(activation(score(p, x)))), Module(lambda p, x: moved(score(p, x))))
    first, second = (Converter(module, input_dim=(6,), dtype="double") for module in modules)
    return first, second


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("case", SCORES)
@pytest.mark.filterwarnings("ignore:.*do not add up", "ignore:.*mean little", "ignore:.*there are relevances")
def test_the_score_is_explained(case, call):
    name, keys = CALLS[call]
    if (case, call) == ("distances", "guided"):
        pytest.skip("guided backpropagation has no rule for squares")
    model, score = both(case)
    found = getattr(innsight_py, name)(model, ROWS, dtype="double", **keys)
    expected = getattr(innsight_py, name)(score, ROWS, dtype="double", ignore_last_act=False, **keys)
    np.testing.assert_allclose(found.get_result(), expected.get_result(), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found.decomp_goal[0], expected.decomp_goal[0], rtol=1e-9, atol=1e-11)
    outputs = model.model_in("double")(ROWS.double())[0]
    np.testing.assert_allclose(found.preds[0], outputs, rtol=1e-12)
    assert not np.allclose(found.preds[0], expected.preds[0])


@pytest.mark.parametrize("case", SCORES)
def test_the_output_is_explained_where_asked_for(case):
    model, _ = both(case)
    x = ROWS.double()[:1].requires_grad_()
    outputs = model.model_in("double")(x)[0]
    found = run_grad(model, ROWS[:1], ignore_last_act=False, dtype="double")
    for k, output in enumerate(outputs[0]):
        (gradient,) = torch.autograd.grad(output, x, retain_graph=True)
        np.testing.assert_allclose(found.get_result()[..., k], gradient, atol=1e-12)
    np.testing.assert_allclose(found.decomp_goal[0], outputs.detach(), rtol=1e-12)


@pytest.mark.parametrize("method", [run_grad, run_lrp, run_deeplift, run_intgrad])
def test_what_a_mask_takes_away(method):
    """It has no score: nothing is attributed to it, and the others have their answers."""
    mask = torch.tensor([False, True, False, False, False, False])
    masked, plain = (
        Converter(Module(f), input_dim=(6,), dtype="double")
        for f in (lambda p, x: dense(p, x).masked_fill(mask, -torch.inf).softmax(1), dense)
    )
    keys = {"rule_name": "epsilon_plus"} if method is run_lrp else {}
    found, expected = (method(c, ROWS, dtype="double", **keys) for c in (masked, plain))
    others = [0, 2, 3, 4, 5]
    np.testing.assert_allclose(found.get_result()[..., others], expected.get_result()[..., others], rtol=1e-9)
    np.testing.assert_allclose(found.decomp_goal[0][:, others], expected.decomp_goal[0][:, others], rtol=1e-9)
    assert (found.get_result()[..., 1] == 0).all()
    assert (found.decomp_goal[0][:, 1] == (-torch.inf if method is run_grad else 0)).all()
    assert (found.preds[0][:, 1] == 0).all()


def test_of_a_map_of_probabilities():
    """An output of several axes has its nodes flat in the graph, behind the activation."""
    modules = (Module(lambda p, x: image(p, x).sigmoid()), Module(image))
    model, score = (Converter(module, input_dim=(6,), dtype="double") for module in modules)
    nodes = [(0, 1), (1, 3)]
    for method in (run_grad, run_lrp, lambda *args, **keys: run_deeplift(*args, x_ref=REFERENCE, **keys)):
        found, expected = (method(c, ROWS, output_idx=nodes, dtype="double") for c in (model, score))
        np.testing.assert_allclose(found.get_result(), expected.get_result(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.decomp_goal[0], expected.decomp_goal[0], rtol=1e-9)
    np.testing.assert_allclose(found.preds[0], model.model_in("double")(ROWS.double())[0][:, [1, 7]])


@pytest.mark.parametrize("method", [run_grad, run_lrp, run_deeplift, run_intgrad])
@pytest.mark.filterwarnings("ignore:.*do not add up")
def test_from_an_inner_layer(method):
    """The way from a layer to the score, of modules with names."""
    head = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), PARTS["norm"], nn.Linear(6, 3), nn.Softmax(1), nn.Flatten())
    head[0] = nn.Linear(6, 6)
    model, score = (Converter(m.eval(), input_dim=(6,), dtype="double") for m in (head, head[:4]))
    for layer in ("0", "1", "2"):
        found = method(model, ROWS, layer=layer, dtype="double")
        expected = method(score, ROWS, layer=layer, dtype="double")
        np.testing.assert_allclose(found.get_result(), expected.get_result(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.decomp_goal[0], expected.decomp_goal[0], rtol=1e-9)
    behind = method(model, ROWS, layer="4", dtype="double")  # the probabilities come after what is explained
    assert behind.result == [[None]]
    p = run_grad(model, ROWS, layer="4", ignore_last_act=False, dtype="double")
    np.testing.assert_array_equal(p.get_result()[0], np.eye(3))


def test_of_one_output_among_several():
    def parts(p, x):
        return dense(p, x).reshape(-1, 2, 3).softmax(-1).flatten(1), p["head"](x), (dense(p, x) + x).sigmoid()

    model = Converter(Module(parts), input_dim=(6,), dtype="double")
    found = run_grad(model, ROWS, output_idx=[[0], [0], [5]], dtype="double")
    scores = [f(PARTS, ROWS).double() for f in (dense, lambda p, x: p["head"](x), lambda p, x: dense(p, x) + x)]
    for goal, score, k in zip(found.decomp_goal, scores, (0, 0, 5), strict=True):
        np.testing.assert_allclose(goal[:, 0], score[:, k], rtol=1e-5)


# -- what cannot be left out -------------------------------------------------------------------------------------------

KEPT = {
    "one less it": lambda p, x: 1 - dense(p, x).sigmoid(),
    "both sides": lambda p, x: (lambda q: torch.cat([1 - q, q], 1))(p["head"](x).sigmoid()),
    "several softmaxes": lambda p, x: torch.cat([p[name](x).softmax(1) for name in ("dense", "other")], 1),
    "mean of an ensemble": lambda p, x: (p["dense"](x).softmax(1) + p["other"](x).softmax(1)) / 2,
    "mean over heads": lambda p, x: dense(p, x).reshape(-1, 2, 3).softmax(-1).mean(1),
    "two in a row": lambda p, x: dense(p, x).softmax(1).sigmoid(),
    "two in a row, with a shape between": lambda p, x: dense(p, x).reshape(-1, 2, 3).softmax(2).flatten(1).softmax(1),
    "clamped": lambda p, x: dense(p, x).softmax(1).clamp(1e-6, 1),
    "logarithm of a little more": lambda p, x: (dense(p, x).softmax(1) + 1e-8).log(),
    "scaled": lambda p, x: 4 * p["head"](x).sigmoid() + 1,
    "made to sum to 1": lambda p, x: (lambda q: q / q.sum(1, keepdim=True))(dense(p, x).sigmoid()),
    "largest": lambda p, x: dense(p, x).softmax(1).amax(1, keepdim=True),
    "mixture": lambda p, x: p["head"](x).sigmoid() * p["dense"](x).softmax(1),
}
QUIET = {
    "a linear layer": dense,
    "relu": lambda p, x: dense(p, x).relu(),
    "a gate": lambda p, x: x * dense(p, x).sigmoid(),
    "an attention": lambda p, x: (dense(p, x).reshape(-1, 2, 3).softmax(-1) * x.reshape(-1, 2, 3)).sum(-1),
    "a matrix product": lambda p, x: (dense(p, x)[:, None].softmax(-1) @ x.reshape(-1, 6, 1)).flatten(1),
    "a residual": lambda p, x: x + dense(p, x).sigmoid(),
    "a highway": lambda p, x: (lambda t: t * p["other"](x) + (1 - t) * x)(dense(p, x).sigmoid()),
    "logsumexp": lambda p, x: dense(p, x).logsumexp(1, keepdim=True),
    "hidden sigmoid": lambda p, x: p["head"](dense(p, x).sigmoid()),
    "norm": lambda p, x: p["norm"](dense(p, x).sigmoid()),
    "tanh, scaled": lambda p, x: 2 * dense(p, x).tanh(),
    "length": lambda p, x: dense(p, x).norm(dim=1, keepdim=True),
    "softmax": lambda p, x: dense(p, x).softmax(1),
}


@pytest.mark.parametrize("case", KEPT)
def test_probabilities_are_never_explained_in_silence(case):
    converter = Converter(Module(KEPT[case]), input_dim=(6,))
    for method in (run_grad, lambda *args: run_smoothgrad(*args, n=2)):
        with pytest.warns(UserWarning, match="explains probabilities in 'output_1', not scores") as said:
            method(converter, ROWS)
        ours = [str(it.message) for it in said if code_of(it.message) == "last-activation"]
        assert len(ours) == 1
        assert ".py:" in ours[0]  # where in the user's code
    run_grad(converter, ROWS, ignore_last_act=False)  # which says that it is meant: nothing is said


@pytest.mark.parametrize("case", QUIET)
def test_what_is_no_probability_is_quiet(case):
    before = warnings_said()
    run_grad(Converter(Module(QUIET[case]), input_dim=(6,)), ROWS)
    assert warnings_said() == before


def test_of_several_outputs_only_the_chosen_are_spoken_of():
    converter = Converter(Module(lambda p, x: (dense(p, x), 1 - dense(p, x).sigmoid())), input_dim=(6,))
    run_grad(converter, ROWS, output_idx=[[0], None])
    with pytest.warns(UserWarning, match="'output_2'"):
        run_grad(converter, ROWS, output_idx=[None, [0]])
