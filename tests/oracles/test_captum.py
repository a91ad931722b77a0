"""Against captum: the same numbers where it is right, and proof where it is not.

captum 0.9.0 asks for numpy below 2 and needs it not, so the sessions install it without its dependencies.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from innsight_py import (
    Converter,
    run_deeplift,
    run_deepshap,
    run_expgrad,
    run_grad,
    run_intgrad,
    run_lrp,
    run_shap,
    run_smoothgrad,
    torch_grad,
)

pytest.importorskip("captum")

import captum.attr as c
import captum_errors
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule

PAGE = Path(__file__).parents[2] / "docs" / "captum.inc"
pytestmark = [
    pytest.mark.filterwarnings("ignore:Setting forward, backward hooks:UserWarning"),
    pytest.mark.filterwarnings("ignore:Input Tensor .* did not already require gradients:UserWarning"),
]


def _mlp(activation, bias=True):
    return nn.Sequential(
        nn.Linear(5, 9, bias), activation(), nn.Linear(9, 7, bias), activation(), nn.Linear(7, 3, bias)
    )


def _cnn(activation, bias=True):
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=bias), activation(), nn.AvgPool2d(2),
        nn.Conv2d(4, 5, 2, bias=bias),
        activation(), nn.Flatten(), nn.Linear(5, 3, bias),
    )  # fmt: skip


NETS = {
    f"{build.__name__.strip('_')}-{activation.__name__}": (build, activation, dim)
    for build, dim in ((_mlp, (5,)), (_cnn, (2, 8, 8)))
    for activation in (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Softplus)
}


@pytest.fixture(params=NETS)
def net(request):
    """Make a network of modules that are used once, its converter, instances and references."""
    build, activation, dim = NETS[request.param]
    torch.manual_seed(5)
    model = build(activation).double().eval()
    x, refs = torch.randn(4, *dim).double(), torch.randn(3, *dim).double()
    return model, Converter(model, input_dim=dim, dtype="double"), x, refs


def agree(ours, theirs, relative=1e-9):
    """Compare all outputs of ours with a function that explains one with captum."""
    found = ours.get_result("torch_tensor")
    expected = torch.stack([theirs(k).detach() for k in range(found.shape[-1])], -1)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < relative * expected.abs().max()


def test_gradients(net):
    model, converter, x, _ = net
    agree(run_grad(converter, x, dtype="double"), lambda k: c.Saliency(model).attribute(x, k, abs=False))
    product = run_grad(converter, x, times_input=True, dtype="double")
    agree(product, lambda k: c.InputXGradient(model).attribute(x, k))
    direct = torch_grad(model, x, times_input=True, dtype="double", return_object=True)
    agree(direct, lambda k: c.InputXGradient(model).attribute(x, k))


@pytest.mark.parametrize("n", [2, 7, 50])  # captum takes no single one
def test_integrated_gradients(net, n):
    """R's points are the right ends; they are rounded to single precision as in R."""
    model, converter, x, refs = net

    def theirs(k):
        return c.IntegratedGradients(model).attribute(x, refs[:1], k, n_steps=n, method="riemann_right")

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*attributions do not add up")  # few steps
        ours = run_intgrad(converter, x, x_ref=refs[:1], n=n, dtype="double")
        mean = run_intgrad(converter, x, x_ref=refs[:1], n=n, times_input=False, dtype="double")
    relative = 2e-7 if not any(isinstance(part, nn.ReLU) for part in model) else 1e-5
    agree(ours, theirs, relative)
    gradient = c.IntegratedGradients(model, multiply_by_inputs=False)
    agree(mean, lambda k: gradient.attribute(x, refs[:1], k, n_steps=n, method="riemann_right"), relative)


def test_integrated_gradients_in_the_limit(net):
    """Another rule for the integral, Gauss and Legendre's, ends where ours does."""
    model, converter, x, refs = net
    if any(isinstance(part, nn.ReLU) for part in model):
        pytest.skip("the rule is for smooth functions")
    ours = run_intgrad(converter, x, x_ref=refs[:1], n=2000, dtype="double")
    agree(ours, lambda k: c.IntegratedGradients(model).attribute(x, refs[:1], k, n_steps=60), 2e-3)


def test_deeplift(net):
    model, converter, x, refs = net
    ours = run_deeplift(converter, x, x_ref=refs[:1], dtype="double")
    agree(ours, lambda k: c.DeepLift(model).attribute(x, refs[:1], k))


def test_deepshap(net):
    model, converter, x, refs = net
    ours = run_deepshap(converter, x, data_ref=refs, dtype="double")
    agree(ours, lambda k: c.DeepLiftShap(model).attribute(x, refs, k))


@pytest.mark.parametrize("epsilon", [1e-3, 0.25])
@pytest.mark.parametrize("kind", ["mlp-ReLU", "mlp-Tanh", "cnn-ReLU"])
def test_lrp_epsilon(kind, epsilon):
    build, activation, dim = NETS[kind]
    torch.manual_seed(6)
    model, x = build(activation).double().eval(), torch.randn(4, *dim).double()

    def theirs(k):
        for part in model:
            if not isinstance(part, nn.ReLU | nn.Tanh | nn.Flatten):
                part.rule = EpsilonRule(epsilon)
            elif isinstance(part, nn.Flatten):
                part.rule = EpsilonRule(1e-12)  # captum has no rule of its own for it
        return c.LRP(model).attribute(x.clone().requires_grad_(), k)

    converter = Converter(model, input_dim=dim, dtype="double")
    rule = {"Dense_Layer": "epsilon", "Conv2D_Layer": "epsilon", "AvgPool2D_Layer": "epsilon"}
    parameter = dict.fromkeys(rule, epsilon)
    agree(run_lrp(converter, x, rule_name=rule, rule_param=parameter, dtype="double"), theirs, 1e-7)


def test_lrp_alpha_1_beta_0():
    """Captum's is for inputs that are not negative; it leaves biases out."""
    torch.manual_seed(7)
    model, x = _mlp(nn.ReLU, bias=False).double().eval(), torch.rand(4, 5).double()

    def theirs(k):
        for part in model:
            if isinstance(part, nn.Linear):
                part.rule = Alpha1_Beta0_Rule(set_bias_to_zero=True)
        return c.LRP(model).attribute(x.clone().requires_grad_(), k)

    converter = Converter(model, input_dim=(5,), dtype="double")
    agree(run_lrp(converter, x, rule_name="alpha_beta", rule_param=1, dtype="double"), theirs, 1e-6)


def test_shapley_values():
    """Captum goes through all orders; ours is exact after one where no more than two features interact."""
    background = torch.tensor([[0.5, -1.0, 0.2, 2.0]]).double()
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)).double()

    def function(rows):
        a, b, c_, d = torch.as_tensor(rows).double().unbind(1)
        return torch.stack([a * b - 2 * c_ * d + a, (a + b + c_ + d) ** 2], 1)

    ours = run_shap(lambda rows: function(rows).numpy(), x.numpy(), background.numpy(), seed=1)
    agree(ours, lambda k: c.ShapleyValues(function).attribute(x, background, k), 1e-5)


@pytest.mark.parametrize("kind", ["mlp-Tanh", "cnn-Softplus"])
def test_random_methods_have_the_same_mean(kind):
    """Both are means over draws; they may differ by what draws differ."""
    build, activation, dim = NETS[kind]
    torch.manual_seed(8)
    model, x, refs = build(activation).double().eval(), torch.randn(1, *dim).double(), torch.randn(4, *dim).double()
    converter, n = Converter(model, input_dim=dim, dtype="double"), 4000
    level = 0.1 * float(x.max() - x.min())
    tunnel, shap = c.NoiseTunnel(c.Saliency(model)), c.GradientShap(model)

    def smooth(k):
        return tunnel.attribute(x, nt_samples=n, stdevs=level, target=k, abs=False)

    agree(run_smoothgrad(converter, x, n=n, noise_level=0.1, seed=1, dtype="double"), smooth, 0.05)
    expected = run_expgrad(converter, x, data_ref=refs, n=n, seed=1, dtype="double")
    agree(expected, lambda k: shap.attribute(x, refs, n_samples=n, target=k), 0.1)


# -- where captum is wrong --------------------------------------------------------------------------------------------


def _cells(line):
    return [cell.strip() for cell in line.strip("|\n ").split("|")]


@pytest.mark.parametrize("case", captum_errors.CASES, ids=lambda case: f"{case.method}: {case.name}")
def test_the_table_says_what_is_so(case):
    """Each row is computed again; ours adds up in every one."""
    found = captum_errors.measure(case)
    assert found.ours < 1e-9 * found.goal
    lines = {_cells(line)[0]: _cells(line)[1:] for line in PAGE.read_text().splitlines()}
    (row,) = captum_errors.rows([found])
    numbers = re.compile(r"[\d.]+(?:e-?\d+)?")
    written, computed = " ".join(lines[case.name]), " ".join(_cells(row)[1:])
    assert numbers.sub("#", written) == numbers.sub("#", computed)
    np.testing.assert_allclose(
        [float(n) for n in numbers.findall(written)], [float(n) for n in numbers.findall(computed)], rtol=0.06
    )


def test_the_table_is_whole():
    lines = PAGE.read_text().splitlines()
    assert [_cells(line)[0] for line in lines[2:]] == [case.name for case in captum_errors.CASES]


def test_most_are_silently_wrong():
    """The first row shows that captum can be right; of the others two are refused, and none is right."""
    control, *others = map(captum_errors.measure, captum_errors.CASES)
    assert control.captum < 1e-9 * control.goal
    assert sum(isinstance(found.captum, str) for found in others) == 2
    assert all(found.captum > 0.2 * found.goal for found in others if not isinstance(found.captum, str))


def test_rows_do_not_depend_on_each_other():
    """Captum's answer for a row changes with the other rows where a softmax ends the model; ours does not."""
    torch.manual_seed(9)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.Softmax(-1)).double().eval()
    x, x_ref = torch.randn(5, 4).double(), torch.zeros(1, 4).double()
    theirs = c.DeepLift(model)
    together, alone = theirs.attribute(x, x_ref, 0)[0], theirs.attribute(x[:1], x_ref, 0)[0]
    assert (together - alone).abs().max() > 0.05 * alone.abs().max()
    converter = Converter(model, input_dim=(4,), dtype="double")
    ours = [
        run_deeplift(converter, rows, x_ref=x_ref, ignore_last_act=False, dtype="double").get_result()[0]
        for rows in (x, x[:1])
    ]
    np.testing.assert_allclose(*ours, rtol=1e-12)
