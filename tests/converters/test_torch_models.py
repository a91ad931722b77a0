"""Models the way people write them: converted exactly, gradients autograd's, DeepLift's sums exact, re-use right."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import nn
from torch_models import MODELS, TiedMLP, draw, gradients, in_double, make, outputs, total

from innsight_py import (
    Converter,
    UnsupportedLayerError,
    run_cw,
    run_deeplift,
    run_deepshap,
    run_expgrad,
    run_grad,
    run_intgrad,
    run_lrp,
    run_smoothgrad,
)

# Few steps and winner-takes-all are quick and R's default: that sums are then not exact is tested in test_residual.py.
pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")

#: Models through which relevance has no way, with the first operator (from the output) that has none and its module.
WITHOUT_LRP = {
    "transformer": "norm",
    "transformer_post_norm": "norm",
    "attention": "attention",
    "convnext": "norm",
    "norms": "rms",
}
WITH_LRP = [name for name in MODELS if name not in WITHOUT_LRP]
SAMPLED = {"smoothgrad": run_smoothgrad, "intgrad": run_intgrad, "expgrad": run_expgrad}


@functools.cache
def converted(name: str) -> Converter:
    model, dims = make(name)
    return Converter(model, input_dim=dims)


@functools.cache
def original(name: str) -> nn.Module:
    return in_double(make(name)[0])


def some(name: str, rows: int = 4, seed: int = 0) -> list[torch.Tensor]:
    return draw(MODELS[name][1], rows, seed)


def everything(name: str) -> dict:
    """Arguments for all nodes of all outputs."""
    return {"output_idx": [list(range(dim[0])) for dim in converted(name).output_dim], "dtype": "double"}


def references(name: str) -> dict[str, list[torch.Tensor]]:
    return {"zeros": [torch.zeros_like(x) for x in some(name, 1)], "drawn": some(name, 1, seed=7)}


def assert_sums(found, tolerance: float) -> None:
    """Per row and node, relative to the goal where that is more than 1."""
    for row, goal in zip(found.result, found.decomp_goal, strict=True):
        error = (total(row) - goal).abs() / goal.abs().clamp(min=1)
        assert error.max() <= tolerance
        assert goal.abs().max() > 1e-3  # or there is nothing to sum to


@pytest.mark.parametrize("name", MODELS)
def test_outputs(name):
    inputs = some(name)
    expected = outputs(original(name), inputs)
    found = converted(name).model_in("double")(*inputs)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        assert theirs.std(0).min() > 1e-6  # a model that gives every row the same would agree with anything


@pytest.mark.parametrize("name", MODELS)
def test_every_operator_has_rules(name):
    kinds = {type(layer).__name__ for layer in converted(name).model.layers}
    assert "Operator" not in kinds
    assert kinds  # the model is no empty list of layers


@pytest.mark.parametrize("name", MODELS)
def test_the_module_is_left_in_its_mode(name):
    model, dims = make(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    Converter(model, input_dim=dims)
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("name", MODELS)
def test_gradient_is_autograds(name):
    inputs = some(name)
    found = run_grad(converted(name), inputs, ignore_last_act=False, **everything(name))
    expected = gradients(original(name), inputs)
    assert [len(row) for row in found.result] == [len(row) for row in expected]
    for ours, theirs in zip(sum(found.result, []), sum(expected, []), strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
            assert theirs.abs().max() > 1e-6


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("reference", ["zeros", "drawn"])
@pytest.mark.parametrize("ignore_last_act", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [("double", 1e-10), ("float", 1e-5)])
def test_rescale_sums(name, reference, ignore_last_act, dtype, tolerance):
    keys = everything(name) | {"dtype": dtype, "ignore_last_act": ignore_last_act, "winner_takes_all": False}
    found = run_deeplift(converted(name), some(name), x_ref=references(name)[reference], **keys)
    assert_sums(found, tolerance)
    if ignore_last_act is False and dtype == "double":
        # the goal is what it is called: the difference of the original's outputs
        at_x, at_ref = (outputs(original(name), x) for x in (some(name), references(name)[reference]))
        for goal, y, y_ref in zip(found.decomp_goal, at_x, at_ref, strict=True):
            torch.testing.assert_close(goal, y - y_ref, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_rescale_near_the_input_is_the_gradient(name):
    """Sums alone would not tell whether a difference goes to the right inputs."""
    inputs = some(name, 1)
    step = [1e-6 * x.sign() for x in some(name, 1, seed=3)]
    near = [x - d for x, d in zip(inputs, step, strict=True)]
    found = run_deeplift(converted(name), inputs, x_ref=near, ignore_last_act=False, **everything(name))
    for ours, theirs in zip(found.result, gradients(original(name), inputs), strict=True):
        for contribution, gradient, d in zip(ours, theirs, step, strict=True):
            assert (contribution is None) == (gradient is None)
            if gradient is not None:
                torch.testing.assert_close(contribution / d[..., None], gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("winner_takes_all", [True, False])
def test_the_input_as_its_own_reference(name, winner_takes_all):
    for dtype in ("double", "float"):
        inputs = some(name, 1)
        keys = everything(name) | {"dtype": dtype, "winner_takes_all": winner_takes_all}
        for row in run_deeplift(converted(name), inputs, x_ref=inputs, ignore_last_act=False, **keys).result:
            for contribution in row:
                assert contribution is None or bool((contribution == 0).all())  # NaN is not 0


METHODS = {
    "gradient": lambda name, x: run_grad(converted(name), x, ignore_last_act=False, **everything(name)),
    "rescale": lambda name, x: run_deeplift(converted(name), x, x_ref=some(name, 1, 7), **everything(name)),
    "rescale, windows": lambda name, x: run_deeplift(
        converted(name), x, winner_takes_all=False, ignore_last_act=False, **everything(name)
    ),
    "reveal-cancel": lambda name, x: run_deeplift(converted(name), x, rule_name="reveal_cancel", **everything(name)),
    "DeepSHAP": lambda name, x: run_deepshap(converted(name), x, data_ref=some(name, 2, 7), **everything(name)),
    "epsilon": lambda name, x: run_lrp(converted(name), x, rule_name="epsilon", **everything(name)),
}


@pytest.mark.parametrize(
    ("name", "method"), [(name, m) for name in MODELS for m in METHODS if m != "epsilon" or name in WITH_LRP]
)
def test_a_row_does_not_depend_on_its_batch(name, method):
    """Neither on the rows beside it (here much larger ones, some of them equal to it) nor on how many there are."""
    inputs = some(name, 3)
    mates = [torch.cat([100 * x[1:], x[:1], x[:1]]) for x in inputs]
    together = METHODS[method](name, [torch.cat(pair) for pair in zip([x[:1] for x in inputs], mates, strict=True)])
    alone = METHODS[method](name, [x[:1] for x in inputs])
    for ours, theirs in zip(sum(together.result, []), sum(alone.result, []), strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            scale = float(theirs.abs().max())
            for row in (0, 3, 4):
                torch.testing.assert_close(ours[row], theirs[0], rtol=0, atol=1e-10 * max(1.0, scale))
            assert not torch.allclose(ours[1], theirs[0])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("references", [2, 6])  # fewer and more than rows: the two ways to go through the pairs
def test_deepshap_sums(name, references):
    inputs, data_ref = some(name), some(name, references, seed=7)
    found = run_deepshap(
        converted(name), inputs, data_ref=data_ref, winner_takes_all=False, ignore_last_act=False, **everything(name)
    )
    assert_sums(found, 1e-10)
    at_x, at_refs = outputs(original(name), inputs), outputs(original(name), data_ref)
    for goal, y, y_refs in zip(found.decomp_goal, at_x, at_refs, strict=True):
        torch.testing.assert_close(goal, y - y_refs.mean(0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", SAMPLED)
def test_means_of_gradients_have_the_shape_of_the_data(name, method):
    inputs = some(name, 2)
    torch.manual_seed(0)
    keys = everything(name) | {"n": 3}
    found = SAMPLED[method](converted(name), inputs, **keys)
    connected = gradients(original(name), inputs)
    for row, nodes, expected in zip(found.result, keys["output_idx"], connected, strict=True):
        for x, contribution, gradient in zip(inputs, row, expected, strict=True):
            assert (contribution is None) == (gradient is None)
            if gradient is not None:
                assert contribution.shape == (*x.shape, len(nodes))
                assert bool(contribution.isfinite().all())
                assert bool((contribution != 0).any())


@pytest.mark.parametrize("name", MODELS)
def test_integrated_gradients_sum_nearly(name):
    """Independent of all rules: the path's sum comes near the difference as its points become many.

    From a drawn reference: a normalisation of zeros changes too fast for any number of points.
    """
    inputs, x_ref = some(name, 1), some(name, 1, seed=7)
    found = run_intgrad(converted(name), inputs, x_ref=x_ref, n=400, ignore_last_act=False, **everything(name))
    for row, goal in zip(found.result, found.decomp_goal, strict=True):
        torch.testing.assert_close(total(row), goal, rtol=0.03, atol=0.03)


# -- LRP and connection weights ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_LRP)
@pytest.mark.parametrize("rule", ["simple", "epsilon", "alpha_beta"])
@pytest.mark.parametrize("winner_takes_all", [True, False])
def test_lrp_is_finite(name, rule, winner_takes_all):
    found = run_lrp(converted(name), some(name), rule_name=rule, winner_takes_all=winner_takes_all, **everything(name))
    reached = [x for row in found.result for x in row if x is not None]
    assert reached
    assert all(bool(x.isfinite().all()) and bool((x != 0).any()) for x in reached)


@pytest.mark.parametrize("name", WITHOUT_LRP)
@pytest.mark.parametrize("rule", ["simple", "epsilon"])
def test_lrp_says_no(name, rule):
    """To softmax and normalisation by own statistics; the message says which, in which module and in which line."""
    with pytest.raises(UnsupportedLayerError, match=r"softmax|Standardize|norm") as caught:
        run_lrp(converted(name), some(name), rule_name=rule)
    assert f"'{WITHOUT_LRP[name]}" in str(caught.value)
    assert "torch_models.py:" in str(caught.value)


# -- re-use ------------------------------------------------------------------------------------------------------------


class Untied(nn.Module):
    """`TiedMLP` with a copy of each module for every use."""

    def __init__(self, tied: TiedMLP) -> None:
        super().__init__()
        self.linear = nn.ModuleList(copy.deepcopy(tied.linear) for _ in range(3))
        self.act = nn.ModuleList(copy.deepcopy(tied.act) for _ in range(3))
        self.head = copy.deepcopy(tied.head)

    def forward(self, x):
        x = self.act[0](self.linear[0](x))
        x = self.act[1](self.linear[1](x)) + x
        return self.head(self.act[2](self.linear[2](x)))


REUSE = {
    "gradient": lambda c, x, x_ref: run_grad(c, x, dtype="double"),
    **{
        f"DeepLift, {rule}, reference {'drawn' if drawn else 'zero'}": (
            lambda c, x, x_ref, rule=rule, drawn=drawn: run_deeplift(
                c, x, rule_name=rule, x_ref=x_ref if drawn else None, dtype="double"
            )
        )
        for rule in ("rescale", "reveal_cancel")
        for drawn in (True, False)
    },
    **{
        f"LRP, {rule}, {param}": lambda c, x, x_ref, rule=rule, param=param: run_lrp(
            c, x, rule_name=rule, rule_param=param, dtype="double"
        )
        for rule, param in [
            ("simple", None), ("epsilon", None), ("epsilon", 0.2), ("alpha_beta", None), ("alpha_beta", 1.0),
            ("alpha_beta", 2.0),
        ]
    },
    "connection weights": lambda c, x, x_ref: run_cw(c, x, times_input=True, dtype="double"),
}  # fmt: skip


@pytest.mark.parametrize("method", REUSE)
def test_a_shared_module_is_like_copies_of_it(method):
    tied, dims = make("tied_mlp")
    untied = Converter(Untied(tied).eval(), input_dim=dims)
    (x,), (x_ref,) = some("tied_mlp"), some("tied_mlp", 1, seed=7)
    ours, theirs = (REUSE[method](c, x, x_ref).result[0][0] for c in (converted("tied_mlp"), untied))
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)
    assert theirs.abs().max() > 1e-3
