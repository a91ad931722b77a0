"""Gradients of any module without conversion, against Jacobians by `torch.autograd.functional`."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian
from torch.nn import functional as F  # noqa: N812

import innsight_py.methods.walk as walk
from innsight_py import (
    Converter,
    ExpectedGradient,
    Gradient,
    IntegratedGradient,
    InterpretingMethod,
    SmoothGrad,
    torch_expgrad,
    torch_grad,
    torch_intgrad,
    torch_smoothgrad,
)

# Few steps and winner-takes-all are quick and R's default: that sums are then not exact is tested in test_residual.py.
pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")

FUNCTIONS = [torch_grad, torch_intgrad, torch_smoothgrad, torch_expgrad]
RANDOM = [torch_smoothgrad, torch_expgrad]


def seeded(module, *args, **kwargs):
    torch.manual_seed(0)
    return module(*args, **kwargs)


def oracle(model, x):
    """Gradients at each row alone, ``(B, *dims, K)``."""
    rows = []
    for row in x:
        jac = jacobian(lambda z: model(torch.stack([z, z]))[0], row)
        rows.append(jac[None] if jac.dim() == row.dim() else jac)
    return torch.stack(rows).movedim(1, -1)


def close(ours, theirs, dtype=torch.float64):
    assert ours.shape == theirs.shape
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    assert torch.allclose(ours, theirs.to(ours.dtype), rtol=tolerance, atol=tolerance * float(theirs.abs().max() + 1))


# -- modules of every style ---------------------------------------------------------------------------------------


class Branching(nn.Module):
    """Decides by its data: no tracer can follow it."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return torch.stack([(self.one if row.sum() > 0 else self.two)(row).sin() for row in x])


class Recurrent(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell, self.head = cell(3, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.layer(x).mean(1))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Linear(2, 4)

    def forward(self, x):
        for _ in range(2):
            x = x + F.gelu(self.norm(self.conv(x)))
        return F.log_softmax(self.head(x.amax((2, 3))), -1)


class Squeezing(nn.Module):
    """Loses its axes where it can."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, x):
        return torch.tanh(self.linear(x)).squeeze()


class Cube(torch.autograd.Function):
    """A function without a batched walk back."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(3 * x.detach().numpy() ** 2 * g.detach().numpy())


class Custom(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return Cube.apply(self.linear(x))


class Keeping(nn.Module):
    """Keeps values of its last pass, and numbers that are no buffers."""

    def __init__(self):
        super().__init__()
        self.linear, self.scale, self.calls = nn.Linear(4, 3), torch.tensor([1.0, 2.0, 3.0]), 0

    def forward(self, x):
        self.calls += 1
        self.kept = self.linear(x)
        return self.kept.sigmoid() * self.scale


def used(model, x):
    model(x)
    return model


MODULES = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 3)), (4,)),
    "one node": (lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)), (4,)),
    "no axis of nodes": (Squeezing, (4,)),
    "in place": (lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3), nn.Sigmoid()), (4,)),
    "batch norm": (lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3), nn.Softmax(-1)), (4,)),
    "signal": (lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.Softplus(), nn.Flatten(), nn.Linear(12, 2)), (2, 6)),
    "image": (Residual, (2, 4, 5)),
    "volume": (lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.SiLU(), nn.Flatten(), nn.Linear(8, 2)), (1, 2, 3, 3)),
    "branching": (Branching, (4,)),
    "lstm": (lambda: Recurrent(nn.LSTM), (5, 3)),
    "gru": (lambda: Recurrent(nn.GRU), (5, 3)),
    "attention": (Attention, (3, 4)),
    "own function": (Custom, (4,)),
    "keeping": (Keeping, (4,)),
    "used before": (lambda: used(Keeping(), torch.ones(2, 4)), (4,)),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), (4,)),
    "sparse": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Threshold(0.1, 2.0), nn.Linear(3, 12)), (4,)),
    "exported": (lambda: torch.export.export(nn.Linear(4, 3).eval(), (torch.ones(2, 4),),
                 dynamic_shapes=[{0: torch.export.Dim.DYNAMIC}]).module(), (4,)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's own, of copying what it exported
@pytest.mark.parametrize("name", MODULES)
def test_gradient_is_the_jacobian(name):
    build, dims = MODULES[name]
    model = seeded(build)
    x = torch.randn(3, *dims, generator=torch.Generator().manual_seed(1))
    before = copy.deepcopy(x)
    single, double = torch_grad(model, x), torch_grad(model, x, dtype="double")
    assert torch.equal(x, before)
    assert not single.requires_grad
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    reference = copy.deepcopy(model.cpu()) if name != "used before" else seeded(Keeping)
    reference = reference if name == "exported" else reference.eval()
    reference = reference.double()
    if isinstance(reference, Keeping):
        reference.scale = reference.scale.double()
    expected = oracle(reference, x.double())
    close(double, expected)
    close(single, expected, torch.float32)
    close(torch_grad(model, x, times_input=True, dtype="double"), expected * x.double()[..., None])


@pytest.mark.parametrize("name", ["mlp", "no axis of nodes", "image", "lstm"])
@pytest.mark.parametrize("times_input", [True, False])
def test_integrated_gradients_have_both_ends(name, times_input):
    build, dims = MODULES[name]
    model = seeded(build).double().eval()
    x, ref = torch.randn(2, *dims, dtype=torch.float64), torch.randn(1, *dims, dtype=torch.float64)
    points = [ref + (j / 4) * (x - ref) for j in range(5)]
    expected = sum(oracle(model, p) for p in points) / 5
    if times_input:
        expected = expected * (x - ref)[..., None]
    close(torch_intgrad(model, x, x_ref=ref, n=5, times_input=times_input, dtype="double"), expected)


def test_integrated_gradients_of_one_point():
    model, x = seeded(MODULES["mlp"][0]).double().eval(), torch.randn(2, 4, dtype=torch.float64)
    expected = oracle(model, torch.zeros_like(x)) * x[..., None]
    close(torch_intgrad(model, x, n=1, dtype="double"), expected)


def test_integrated_gradients_sum_to_the_difference():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3), nn.Softmax(-1)).double()
    x, ref = torch.randn(3, 4, dtype=torch.float64), torch.randn(1, 4, dtype=torch.float64)
    errors = []
    for n in (100, 200, 400):
        found = torch_intgrad(model, x, x_ref=ref, n=n, dtype="double").sum(1)
        errors.append(float((found - (model(x) - model(ref))).abs().max().detach()))
    assert errors[0] < 0.02
    assert errors[1] < 0.6 * errors[0]  # the mean over closed points converges like 1/n
    assert errors[2] < 0.6 * errors[1]


def test_smoothgrad_multiplies_by_the_clean_input():
    model, x = seeded(MODULES["mlp"][0]).double(), torch.randn(3, 4, dtype=torch.float64)
    mean = torch_smoothgrad(model, x, n=7, seed=3, dtype="double")
    times = torch_smoothgrad(model, x, n=7, seed=3, times_input=True, dtype="double")
    close(times, mean * x[..., None])
    converter = Converter(model.eval(), input_dim=4, dtype="double")
    noisy = SmoothGrad(converter, x, n=7, seed=3, times_input=True, ignore_last_act=False, dtype="double").result[0][0]
    assert not torch.allclose(times, noisy, rtol=1e-3)
    close(torch_smoothgrad(model, x, n=3, noise_level=0, dtype="double"), oracle(model, x))


@pytest.mark.parametrize("x", [torch.randn(2, 4), torch.full((2, 4), 3.0)], ids=["range", "no range"])
def test_noise_of_smoothgrad(x):
    class Squares(nn.Module):
        def forward(self, x):
            return (x**2).sum(1)

    n = 4000
    found = torch_smoothgrad(Squares(), x, n=n, noise_level=0.5, seed=1, dtype="double")[..., 0]
    span = float(x.max() - x.min()) or 1.0
    # the gradient 2 (x + e) has the mean 2 x and the standard error 2 sigma / sqrt(n)
    assert ((found - 2 * x).abs() < 5 * 2 * 0.5 * span / n**0.5).all()
    assert (found - 2 * x).abs().max() > 0.01 * 2 * 0.5 * span / n**0.5


def test_expected_gradients():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x, refs = torch.randn(3, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    n = 4000
    found = torch_expgrad(model, x, data_ref=refs, n=n, seed=1, dtype="double")
    points = [ref + a * (x - ref) for ref in refs for a in torch.linspace(0.05, 0.95, 10)]
    spread = torch.stack([oracle(model, p) * (x - p)[..., None] for p in points]).std(0)
    exact = sum(torch_intgrad(model, x, x_ref=ref[None], n=400, dtype="double") for ref in refs) / len(refs)
    grid = 0.005 * exact.abs().max()  # the closed grid of 400 points is off by about 1/400
    assert ((found - exact).abs() < 5 * 2 * spread / n**0.5 + grid).all()
    zeros = torch.zeros(1, 4)
    assert torch.equal(torch_expgrad(model, x, n=9, seed=2), torch_expgrad(model, x, data_ref=zeros, n=9, seed=2))


# -- the same core as the classes ---------------------------------------------------------------------------------


def test_same_answers_as_the_classes():
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.Softplus(), nn.Linear(6, 3), nn.Sigmoid())).double()
    x, refs = torch.randn(3, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    converter = Converter(model, input_dim=4, dtype="double")
    options = {"ignore_last_act": False, "dtype": "double"}
    pairs = [
        (torch_grad(model, x, dtype="double"), Gradient(converter, x, **options)),
        (torch_smoothgrad(model, x, seed=4, dtype="double"), SmoothGrad(converter, x, seed=4, **options)),
        (
            torch_expgrad(model, x, data_ref=refs, seed=4, dtype="double"),
            ExpectedGradient(converter, x, data_ref=refs, seed=4, **options),
        ),
    ]
    for ours, theirs in pairs:
        close(ours, theirs.result[0][0])
    other = IntegratedGradient(converter, x, **options).result[0][0]
    assert not torch.allclose(torch_intgrad(model, x, dtype="double"), other, rtol=1e-4)


def test_linear_model_all_agree():
    model, x = nn.Linear(4, 3), torch.randn(3, 4)
    weights = model.weight.detach().T.expand(3, 4, 3)
    close(torch_grad(model, x), weights, torch.float32)
    close(torch_smoothgrad(model, x), weights, torch.float32)
    for function in (torch_intgrad, torch_expgrad):
        close(function(model, x), weights * x[..., None], torch.float32)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_chunks_do_not_matter(function, monkeypatch):
    model, x = seeded(MODULES["image"][0]), torch.randn(5, 2, 4, 5)
    options = {"seed": 1} if function in RANDOM else {}
    whole = function(model, x, dtype="double", **options)
    for size in (1, 2, 3):
        close(function(model, x, dtype="double", batch_size=size, **options), whole)
    monkeypatch.setattr(walk, "CACHE_BYTES", (1, 1))
    monkeypatch.setattr(walk, "TRACE_BYTES", 1)
    close(function(model, x, dtype="double", **options), whole)


def test_one_forward_pass_for_all_outputs():
    model, calls = nn.Sequential(nn.Linear(4, 30)), []
    model.register_forward_hook(lambda *args: calls.append(1))
    torch_grad(model, torch.randn(6, 4))
    assert len(calls) == 2  # one to find the shapes


@pytest.mark.parametrize("function", RANDOM)
def test_seed(function):
    model, x = seeded(MODULES["mlp"][0]), torch.randn(3, 4)
    reference = {"data_ref": torch.randn(5, 4)} if function is torch_expgrad else {}
    state, state_numpy = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    one, other = (function(model, x, seed=5, **reference) for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.random.get_state()[2] == state_numpy[2]  # noqa: NPY002
    assert not torch.equal(function(model, x, seed=6, **reference), one)
    generator = torch.Generator().manual_seed(1)
    assert not torch.equal(*(function(model, x, seed=generator, **reference) for _ in range(2)))
    torch.manual_seed(2)
    drawn = function(model, x, **reference)
    torch.manual_seed(2)
    assert torch.equal(function(model, x, **reference), drawn)


# -- the module stays as it is ------------------------------------------------------------------------------------


class Fragile(nn.Module):
    """Everything that could be changed: modes, statistics, gradients, counters; fails on demand."""

    def __init__(self):
        super().__init__()
        self.norm, self.linear, self.drop = nn.BatchNorm1d(4), nn.Linear(4, 3).half(), nn.Dropout(0.5)
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))
        self.drop.eval()
        self.linear.weight.requires_grad_(False)
        self.linear.bias.grad = torch.ones(3, dtype=torch.float16)
        self.fails_after, self.count = None, 0

    def forward(self, x):
        self.passes += 1
        self.count += 1
        if self.fails_after is not None and self.count > self.fails_after:
            raise RuntimeError("no more")
        return self.linear(self.drop(self.norm(x)))


def picture(module):
    return (
        {name: part.training for name, part in module.named_modules()},
        {name: (x.dtype, x.requires_grad, x.clone(), x.data_ptr(), x.grad) for name, x in module.named_parameters()},
        {name: (x.dtype, x.clone(), x.data_ptr()) for name, x in module.named_buffers()},
        module.count,
    )


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return all(map(same, one, other)) if isinstance(one, tuple) else one == other


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float", "double"])
@pytest.mark.parametrize("fails_after", [None, 0, 1, 2])
def test_module_is_left_as_it_was(function, dtype, fails_after):
    model = Fragile()
    model.fails_after = fails_after
    before = picture(model)
    if fails_after is None:
        function(model, torch.randn(3, 4), dtype=dtype)
    elif fails_after < 2 or function is not torch_grad:
        with pytest.raises(RuntimeError, match="no more"):
            function(model, torch.randn(3, 4), dtype=dtype)
    assert same(picture(model), before)
    assert torch.is_grad_enabled()


class Watched(nn.Module):
    """Keeps what its hooks see."""

    def __init__(self):
        super().__init__()
        self.linear, self.seen = nn.Linear(4, 3), []
        self.linear.register_forward_hook(self.note)

    def note(self, module, inputs, output):
        self.last = output
        self.seen.append(1)

    def forward(self, x):
        return self.linear(x)


def test_hooks_of_the_module_see_nothing():
    model, x = Watched(), torch.randn(3, 4)
    model(x)
    last = model.last
    assert torch_grad(model, x).shape == (3, 4, 3)
    assert model.last is last
    assert len(model.seen) == 1


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*weight_norm:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
def test_modules_of_older_styles():
    model, x = seeded(MODULES["mlp"][0]).eval(), torch.randn(3, 4)
    scripted = torch.jit.script(model)
    assert torch.equal(torch_grad(scripted, x, dtype="double"), torch_grad(model, x, dtype="double"))
    normed = nn.utils.weight_norm(nn.Linear(4, 2))
    normed(x)
    close(torch_grad(normed, x), normed.weight.detach().T.expand(3, 4, 2), torch.float32)
    spectral = nn.utils.spectral_norm(nn.Linear(4, 2))
    before = spectral.weight_u.clone()
    torch_grad(spectral.train(), x)
    assert torch.equal(spectral.weight_u, before)


def test_within_the_users_contexts():
    model, x = seeded(MODULES["mlp"][0]), torch.randn(3, 4)
    expected = torch_grad(model, x)
    with torch.no_grad():
        assert torch.equal(torch_grad(model, x), expected)
    with torch.inference_mode():
        assert torch.equal(torch_grad(model, x), expected)
        frozen = torch.ones(3, 4)
    assert torch_grad(model, frozen).shape == (3, 4, 3)
    leaf = x.clone().requires_grad_()
    assert torch.equal(torch_grad(model, leaf), expected)
    assert leaf.grad is None


def test_trained_modules_are_explained_in_evaluation_mode():
    model, x = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(4), nn.Linear(4, 2)), torch.randn(3, 4)
    assert torch.equal(torch_grad(model, x), torch_grad(copy.deepcopy(model).eval(), x))


# -- arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
def test_output_idx(function):
    model, x = nn.Linear(4, 12), torch.randn(2, 4)
    options = {"seed": 1} if function in RANDOM else {}
    whole = function(model, x, **options)
    assert whole.shape == (2, 4, 12)
    assert torch.allclose(function(model, x, output_idx=3, **options), whole[..., [3]])
    assert torch.allclose(function(model, x, output_idx=[5, 0], **options), whole[..., [5, 0]])
    for wrong in (12, -1, [0, 12]):
        with pytest.raises(ValueError, match="output_idx"):
            function(model, x, output_idx=wrong)
    for wrong in ("Y1", 1.5):
        with pytest.raises(TypeError, match="output_idx"):
            function(model, x, output_idx=wrong)


@pytest.mark.parametrize("kind", [torch.tensor, np.array, list, pd.DataFrame])
def test_kinds_of_data(kind):
    model, rows = nn.Linear(2, 3), [[0.5, 1.0], [2.0, 3.0]]
    assert torch.equal(torch_grad(model, kind(rows)), torch_grad(model, torch.tensor(rows)))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"model": torch.relu}, TypeError, r"'model'.*torch\.nn\.Module"),
        ({"model": None}, TypeError, "'model'"),
        ({"data": torch.randn(4)}, ValueError, "'data'.*B"),
        ({"data": "x"}, ValueError, "'data'"),
        ({"data": [["a", "b", "c", "d"]]}, TypeError, "'data'"),
        ({"data": [[1.0], [1.0, 2.0]]}, ValueError, "'data'"),
        ({"data": [torch.ones(2, 4), torch.ones(2, 3)]}, ValueError, "several inputs"),
        ({"dtype": "half"}, ValueError, "'dtype'"),
        ({"return_object": 1}, TypeError, "'return_object'"),
        ({"batch_size": 0}, ValueError, "'batch_size'"),
        ({"ignore_last_act": True}, TypeError, "ignore_last_act"),
    ],
)
def test_wrong_arguments(function, changes, error, match):
    arguments = {"model": nn.Linear(4, 3), "data": torch.randn(2, 4)} | changes
    with pytest.raises(error, match=match):
        function(arguments.pop("model"), arguments.pop("data"), **arguments)


@pytest.mark.parametrize(
    ("function", "changes", "match"),
    [
        (torch_grad, {"times_input": None}, "'times_input'"),
        (torch_intgrad, {"n": 0}, "'n'"),
        (torch_intgrad, {"x_ref": torch.zeros(3, 4)}, "'x_ref'.*3 rows"),
        (torch_intgrad, {"x_ref": torch.zeros(1, 3)}, "'x_ref'"),
        (torch_smoothgrad, {"n": 1.5}, "'n'"),
        (torch_smoothgrad, {"noise_level": -0.1}, "'noise_level'"),
        (torch_smoothgrad, {"seed": "x"}, "'seed'"),
        (torch_expgrad, {"data_ref": torch.zeros(2, 3)}, "'data_ref'"),
    ],
)
def test_wrong_arguments_of_one(function, changes, match):
    with pytest.raises((TypeError, ValueError), match=match):
        function(nn.Linear(4, 3), torch.randn(2, 4), **changes)


class Returning(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.linear = function, nn.Linear(4, 3)

    def forward(self, x):
        return self.function(self.linear(x))


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda y: (y, y), "single tensor"),
        (lambda y: {"logits": y}, "single tensor"),
        (lambda y: y[..., None], r"\(B, nodes\), got \(2, 3, 1\)"),
        (lambda y: y.sum(0), r"\(B, nodes\)"),
        (lambda y: y.argmax(-1), "int64"),
        (lambda y: y.detach(), "no gradient"),
        (lambda y: (y > 0).to(y.dtype), "no gradient"),
    ],
)
def test_modules_that_cannot_be_explained(function, match):
    with pytest.raises((TypeError, ValueError), match=match):
        torch_grad(Returning(function), torch.randn(2, 4))


@pytest.mark.parametrize("dtype", ["float", "double"])
def test_modules_that_cast(dtype):
    found = torch_grad(Returning(lambda y: 2 * y.bfloat16()), torch.randn(2, 4), dtype=dtype)
    assert found.dtype == {"float": torch.float32, "double": torch.float64}[dtype]
    expected = torch_grad(Returning(lambda y: 2 * y), torch.randn(2, 4), dtype=dtype)
    assert found.shape == expected.shape


def test_modules_that_cannot_be_copied():
    model = nn.Linear(4, 3)
    model.file = open(__file__)  # noqa: SIM115
    with model.file, pytest.raises(ValueError, match="cannot be copied"):
        torch_grad(model, torch.randn(2, 4))
    with pytest.raises(ValueError, match="meta"):
        torch_grad(nn.Linear(4, 3, device="meta"), torch.randn(2, 4))


def test_a_node_that_does_not_depend_on_the_input():
    found = torch_grad(Returning(lambda y: torch.stack([y[:, 0], torch.ones(len(y))], 1)), torch.randn(2, 4))
    assert (found[..., 1] == 0).all()
    assert (found[..., 0] != 0).any()


# -- the object ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
def test_object(function):
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 12), nn.Sigmoid())
    x = torch.randn(3, 4)
    options = {"seed": 1} if function in RANDOM else {}
    found = function(model, x, output_idx=[11, 2], return_object=True, **options)
    raw = function(model, x, output_idx=[11, 2], **options)
    assert isinstance(found, InterpretingMethod)
    assert torch.equal(found.get_result("torch_tensor"), raw)
    assert np.array_equal(found.get_result(), raw.numpy())
    assert found.output_label == [["Y12", "Y3"]]
    expected = model(x).detach()
    assert torch.allclose(found.preds[0], expected[:, [11, 2]])
    difference = expected - (model(torch.zeros(1, 4)).detach() if function in (torch_intgrad, torch_expgrad) else 0)
    assert torch.allclose(found.decomp_goal[0], difference[:, [11, 2]], atol=1e-6)
    frame = found.get_result("data.frame")
    assert len(frame) == 3 * 4 * 2
    assert set(frame["output_node"]) == {"Y12", "Y3"}
    last = frame.iloc[-1]
    assert (last["data"], last["feature"], last["output_node"]) == ("data_3", "X4", "Y3")
    assert last["value"] == raw[2, 3, 1]
    assert last["pred"] == found.preds[0][2, 1]
    assert "ignore_last_act: False" in repr(found)
    assert "<table>" in found._repr_html_()
    again = pickle.loads(pickle.dumps(found))  # noqa: S301
    assert np.array_equal(again.get_result(), found.get_result())
    assert len(found.summary(2)) == 4


@pytest.mark.parametrize("name", ["mlp", "signal", "image"])
def test_object_draws(name):
    build, dims = MODULES[name]
    found = torch_grad(seeded(build), torch.randn(3, *dims), return_object=True)
    assert found.plot([0, 2], output_idx=[0, 1]) is not None
    assert found.plot_global(output_idx=1) is not None


def test_object_in_another_precision():
    model, x = seeded(MODULES["keeping"][0]), torch.randn(3, 4)
    module = torch_grad(model, x, return_object=True).converter
    double = Gradient(module, x, ignore_last_act=False, dtype="double").result[0][0]
    close(double, torch_grad(model, x, dtype="double"))


# -- the vignette of R (seed 003), step by step -------------------------------------------------------------------


class TestVignette:
    @pytest.fixture
    def model(self):
        torch.manual_seed(42)
        return nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 3))

    @pytest.fixture
    def data(self):
        return torch.randn(5, 10, generator=torch.Generator().manual_seed(42))

    @pytest.fixture
    def iris(self):
        from sklearn.datasets import load_iris

        flowers = load_iris()
        x, y = torch.tensor(flowers.data, dtype=torch.float32), torch.tensor(flowers.target)
        torch.manual_seed(42)
        model = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 3))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(100):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        return model, x[torch.randperm(150)[:50]]

    def test_vanilla_gradient(self, model, data):
        assert torch_grad(model, data).shape == (5, 10, 3)

    def test_gradient_times_input(self, model, data):
        found = torch_grad(model, data, times_input=True).sum(1)
        nn.init.zeros_(model[0].bias), nn.init.zeros_(model[2].bias)
        assert torch.allclose(torch_grad(model, data, times_input=True).sum(1), model(data), atol=1e-5)
        assert found.shape == (5, 3)

    def test_integrated_gradients(self, model, data):
        baseline = torch.zeros(1, 10)
        custom = torch_intgrad(model, data, x_ref=baseline, n=50)
        assert torch.equal(custom, torch_intgrad(model, data, n=50))
        difference = model(data) - model(baseline)
        assert (difference - custom.sum(1)).abs().max() < 0.05

    def test_smoothgrad(self, model, data):
        smooth = torch_smoothgrad(model, data, n=50, noise_level=0.1)
        assert smooth.shape == torch_grad(model, data).shape

    def test_expected_gradients(self, model, data):
        assert torch_expgrad(model, data, data_ref=torch.randn(100, 10), n=50).shape == (5, 10, 3)

    def test_real_data(self, iris):
        model, samples = iris
        vanilla = torch_grad(model, samples, output_idx=0)
        times = torch_grad(model, samples, output_idx=0, times_input=True)
        integrated = torch_intgrad(model, samples, output_idx=0, n=50, x_ref="zeros")
        smooth = torch_smoothgrad(model, samples, output_idx=0, n=50)
        assert all(x.shape == (50, 4, 1) for x in (vanilla, times, integrated, smooth))
        assert torch.allclose(times, vanilla * samples[..., None])

    def test_output_selection(self, iris):
        model, samples = iris[0], iris[1][:3]
        assert torch_grad(model, samples, output_idx=1).shape == (3, 4, 1)
        assert torch_grad(model, samples, output_idx=[0, 2]).shape == (3, 4, 2)

    def test_dtype(self, iris):
        model, samples = iris
        double, single = torch_grad(model, samples, dtype="double"), torch_grad(model, samples, dtype="float")
        assert double.dtype == torch.float64
        assert (double - single).abs().max() < 1e-4

    def test_comparison_with_the_converter(self, iris):
        model, samples = iris
        direct = torch_grad(model, samples, output_idx=0)
        converted = Gradient(Converter(model, input_dim=4), samples.numpy(), output_idx=0, verbose=False)
        assert np.abs(direct[:, :, 0].numpy() - converted.get_result("array")[:, :, 0]).max() < 1e-5

    def test_object(self, iris):
        model, samples = iris
        result = torch_grad(model, samples, output_idx=0, return_object=True)
        assert "Method Gradient" in repr(result)
        assert result.get_result("array").shape == (50, 4, 1)
        assert isinstance(result.get_result("torch_tensor"), torch.Tensor)
        assert list(result.get_result("data.frame").head()["feature"]) == ["X1"] * 5
        assert result.plot(data_idx=0, output_idx=0) is not None
        assert result.plot_global(output_idx=0) is not None


# -- data of the wrong shape ------------------------------------------------------------------------------------


class Calls(nn.Module):
    """Calls a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def first_three(x):
    a, b, c = x.unbind(1)
    return a + b + c


@pytest.mark.parametrize("function", [torch_grad, torch_intgrad, torch_smoothgrad, torch_expgrad])
@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (nn.Linear(3, 2), (4,), r"\(2x4 and 3x2\) \(at Linear\(in_features=3, out_features=2, bias=True\)\)"),
        (nn.Sequential(nn.ReLU(), nn.Linear(3, 2)), (4,), r"\(at '1', Linear\(in_features=3, "),
        (nn.Sequential(nn.Conv2d(3, 2, 2), nn.Flatten()), (4, 5, 3), r"\(at '0', Conv2d\(3, 2, kernel_size=\(2, 2\)"),
        (
            nn.Sequential(nn.Conv2d(3, 2, 2), nn.Flatten(), nn.Linear(8, 1)),
            (3, 4, 4),
            r"\(at '2', Linear\(in_features=8",
        ),
        (Calls(lambda x: (x * torch.ones(3)).sum(1)), (4,), r"must match the size of tensor b \(3\)"),
        (Calls(first_three), (4,), r"too many values to unpack \(expected 3\)"),
        (Calls(lambda x: x[:, 5]), (4,), "index 5 is out of bounds"),
        (Calls(lambda x: x.reshape(-1, 7).sum(1)), (4,), r"shape '\[-1, 7\]' is invalid"),
    ],
)
def test_data_of_a_shape_that_the_module_does_not_take(function, module, shape, message):
    with pytest.raises(ValueError, match="Argument 'data': the module cannot be run for rows of shape ") as caught:
        function(module, torch.ones(2, *shape))
    assert f"of shape {shape}: " in str(caught.value)
    assert re.search(message, str(caught.value)), caught.value


@pytest.mark.parametrize("argument", ["x_ref", "data_ref"])
def test_references_of_another_shape(argument):
    function = {"x_ref": torch_intgrad, "data_ref": torch_expgrad}[argument]
    with pytest.raises(ValueError, match=rf"Argument '{argument}': expected the shape \(\*, 3\), got \(1, 4\)"):
        function(nn.Linear(3, 2), torch.ones(2, 3), **{argument: torch.ones(1, 4)})


def test_an_error_of_the_modules_own_is_left_alone():
    def fail(x):
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match=r"^out of luck$"):
        torch_grad(Calls(fail), torch.ones(2, 3))
