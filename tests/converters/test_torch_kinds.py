"""Every value has the kind of numbers that the module gives it: fractions, whole and complex ones, truth values."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from innsight_py import Converter, SpecError, UnsupportedLayerError, run_deeplift, run_grad, run_intgrad, run_lrp

pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")


class Written(nn.Module):
    """A module whose forward pass is a function of it and its input."""

    def __init__(self, function, **parts) -> None:
        super().__init__()
        self.function = function
        self.a = nn.Linear(4, 3)
        for name, value in parts.items():
            if isinstance(value, nn.Module | nn.Parameter):
                setattr(self, name, value)
            else:
                self.register_buffer(name, value)

    def forward(self, x):
        return self.function(self, x)


def make(function, **parts) -> nn.Module:
    torch.manual_seed(5)
    return Written(function, **{name: part() for name, part in parts.items()}).eval()


def with_numbers(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy in a precision; complex weights stay complex."""

    def change(x):
        return x.to(dtype.to_complex() if x.is_complex() else dtype) if x.is_floating_point() or x.is_complex() else x

    return copy.deepcopy(module)._apply(change)


def check(module: nn.Module, x: torch.Tensor, tolerance: float = 1e-9, dtype: str = "double") -> Converter:
    """Compare values and gradients with those of torch, and return the converter."""
    converter = Converter(module, input_dim=tuple(x.shape[1:]), dtype=dtype)
    theirs = with_numbers(module, x.dtype)
    leaf = x.clone().requires_grad_()
    out = theirs(leaf)
    torch.testing.assert_close(converter.model(x)[0], out.detach().to(x.dtype), rtol=tolerance, atol=tolerance)
    nodes = list(range(out.shape[1]))
    found = run_grad(converter, x, output_idx=nodes, ignore_last_act=False, dtype=dtype).result[0][0]
    for k in nodes:
        (expected,) = torch.autograd.grad(out[:, k].sum(), leaf, retain_graph=True)
        torch.testing.assert_close(found[..., k], expected, rtol=tolerance, atol=tolerance)
    return converter


def rows(scale: float = 1.0, n: int = 8, width: int = 4) -> torch.Tensor:
    return scale * torch.randn(n, width, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


# -- truth values and whole numbers ------------------------------------------------------------------------------------


def steps(m, x):
    return m.a(x * (1 + (x > 2000).float() + (x > 4000).float() + (x > 6000).float()))


KINDS = {
    "steps of a score": (steps, 5000.0),
    "a sum of truth values": (lambda m, x: m.a(x) * ((x > 0) & (x < 1)).sum(1, keepdim=True), 1.0),
    "not and or": (lambda m, x: m.a(x * (~(x > 0.5) | (x < -1)).to(x.dtype)), 1.0),
    "xor": (lambda m, x: m.a(x * ((x > 0) ^ (x > 1)).double()), 1.0),
    "truth minus truth": (lambda m, x: m.a(x * ((x > 0).int() - (x > 1).int())), 1.0),
    "type_as": (lambda m, x: m.a(x * (x > 0.1).type_as(x) * 3), 1.0),
    "floor and whole division": (lambda m, x: m.a(x * torch.div(x.floor().long(), 3, rounding_mode="floor")), 9.0),
    "true division of whole numbers": (lambda m, x: m.a(x) * (x.long().sum(1, keepdim=True) / 4), 9.0),
    "remainder": (lambda m, x: m.a(x * (x.long() % 3)), 9.0),
    "gather": (lambda m, x: m.a(x) + x.gather(1, x.argsort(1)[:, :3]), 1.0),
    "take along": (lambda m, x: m.a(x) * torch.take_along_dim(x, x.argmax(1, keepdim=True), 1), 1.0),
    "table": (lambda m, x: m.a(x) * m.table[x.abs().long().clamp(max=4)].sum(1)[:, :3], 3.0),
    "category that is a number too": (lambda m, x: m.a(x) + m.e(x[:, 0].abs().long().clamp(max=1)), 1.0),
    "embedding": (lambda m, x: m.a(x) + m.e((x[:, :1] > 0).long()).flatten(1), 1.0),
    "one hot": (lambda m, x: m.a(x) * F.one_hot((x[:, 0] > 0).long() + 1, 3), 1.0),
    "where": (lambda m, x: m.a(torch.where(x > 100, x.abs().sqrt(), 0.1 * x)), 200.0),
    "masked fill": (lambda m, x: m.a(x.masked_fill(x < -1, 2.5)), 1.0),
    "clamped steps": (lambda m, x: m.a(x.clamp(-3000, 3000) + (x.clamp(0, 9000) > 8000).half().float()), 9000.0),
    "max and where it is": (lambda m, x: m.a(x) * (x.max(1)[1] + 1).unsqueeze(1) + x.max(1)[0].unsqueeze(1), 1.0),
    "topk": (lambda m, x: torch.topk(m.a(x), 2)[0] * (torch.topk(m.a(x), 2)[1] + 1), 1.0),
    "cumsum of truth values": (lambda m, x: m.a(x * (x > 0).cumsum(1)), 1.0),
    "concatenated with a constant": (lambda m, x: m.a(x * torch.cat([x[:, :2] > 0, m.on], 1)), 1.0),
    "straight through": (lambda m, x: m.a(x + ((x > 0).float() - x).detach()), 1.0),
    "bool times value": (lambda m, x: m.a((x > 0) * x) + (x.sum(1, keepdim=True) > 0), 1.0),
    "bit operations": (lambda m, x: m.a(x * ((x.long().abs() & 1) + (x.long().abs() >> 1))), 9.0),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_whole_numbers_and_truth_values_stay_what_they_are(name, tmp_path):
    """Values and gradients are torch's, also far out; so are those of a model that was saved."""
    function, scale = KINDS[name]
    module = make(
        function, table=lambda: torch.randn(5, 4), e=lambda: nn.Embedding(2, 3),
        on=lambda: torch.ones(1, 2, dtype=torch.bool),
    )  # fmt: skip
    if "constant" in name:
        module.function = lambda m, x: m.a(x * torch.cat([x[:, :2] > 0, m.on.expand(len(x), 2)], 1))
    x = rows(scale)
    converter = check(module, x)
    converter.save(tmp_path / "m.safetensors")
    torch.testing.assert_close(Converter.load(tmp_path / "m.safetensors").model(x)[0], converter.model(x)[0])


def test_a_score_in_steps_in_raw_units():
    """The issue's case: thresholds that no draw around 0 reaches; in single precision, by exact arithmetic."""
    net = make(steps)
    with torch.no_grad():
        net.a.weight.fill_(1.0)
        net.a.bias.zero_()
    converter = Converter(net, input_dim=(4,))
    x = torch.tensor([[7000.0, 5000.0, 2500.0, 100.0]])
    expected = 7000 * 4 + 5000 * 3 + 2500 * 2 + 100
    assert converter.model(x)[0].tolist() == [[expected] * 3]
    assert run_grad(converter, x, output_idx=0).get_result()[0, :, 0].tolist() == [4.0, 3.0, 2.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "function",
    [
        lambda m, x, t: m.a(x.to(t).to(x.dtype)),
        lambda m, x, t: m.a((x.to(t) * 3 + x.to(t)).to(x.dtype)),
        lambda m, x, t: m.a(x.to(t).exp().type_as(x)),
    ],
    ids=["there and back", "sums in between", "a function in between"],
)
def test_half_precision_rounds(function, dtype):
    """The digits are those of the module, and the gradient is the one of the function without rounding."""
    module = make(lambda m, x: function(m, x, dtype))
    converter, x = Converter(module, input_dim=4), rows().float()
    with torch.no_grad():
        torch.testing.assert_close(converter.model(x)[0], module(x), rtol=1e-6, atol=1e-6)
        assert not torch.allclose(converter.model(x)[0], make(lambda m, x: function(m, x, torch.float32))(x), atol=1e-6)
    leaf = x.clone().requires_grad_()
    module(leaf)[:, 0].sum().backward()
    found = run_grad(converter, x, output_idx=0).result[0][0][..., 0]
    torch.testing.assert_close(found, leaf.grad, rtol=2e-2, atol=2e-2)
    explained = run_deeplift(converter, x, output_idx=[0, 1, 2])
    torch.testing.assert_close(explained.result[0][0].sum(1), explained.decomp_goal[0], rtol=1e-4, atol=1e-4)


def test_single_precision_is_that_of_the_graph():
    """A cast to float32 in the module does not cut digits off where a method computes in double precision."""
    module = make(lambda m, x: m.a(x.float().to(x.dtype)) * 1.0)
    converter, x = Converter(module, input_dim=4), rows()
    exact = x @ module.a.weight.double().T + module.a.bias.double()
    torch.testing.assert_close(converter.model_in("double")(x)[0], exact.detach(), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", ["steps of a score", "gather", "floor and whole division", "where"])
def test_methods_without_a_rule_say_no(name):
    function, scale = KINDS[name]
    converter = Converter(make(function), input_dim=4)
    refused = r"DeepLift has no rule for (the operator aten::|a cast to|a (look-up|choice) that differs)"
    with pytest.raises(UnsupportedLayerError, match=refused):
        run_deeplift(converter, rows(scale))
    if name not in ("gather", "where"):
        with pytest.raises(UnsupportedLayerError, match="LRP has no rule for"):
            run_lrp(converter, rows(scale))


def test_relevance_goes_to_what_the_forward_chose():
    """On each side of a condition LRP is that of the side alone: each input of a dense layer gets its part."""
    x = rows(200.0)
    far = x > 100
    assert far.any()
    assert not far.all()
    both, low, high = (
        run_lrp(Converter(make(function), input_dim=4), x, dtype="double").result[0][0]
        for function in (KINDS["where"][0], lambda m, x: m.a(0.1 * x), lambda m, x: m.a(x.abs().sqrt()))
    )
    expected = torch.where(far[..., None], high, low)
    torch.testing.assert_close(both, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("function", [
    lambda m, x: (x > 0).float(),
    lambda m, x: x.long() * 1.5,
])  # fmt: skip
def test_nothing_but_whole_numbers_is_refused(function):
    with pytest.raises(SpecError, match="explain the part of the module behind"):
        Converter(make(function), input_dim=4)


# -- complex numbers ---------------------------------------------------------------------------------------------------


def rotary(m, x):
    pairs = torch.view_as_complex(x.reshape(-1, 2, 2))
    turned = pairs * torch.polar(torch.ones_like(m.angles), m.angles)
    return m.a(torch.view_as_real(turned).flatten(1))


def global_filter(m, x):
    x_ft = torch.fft.rfft(x, norm="ortho")
    return m.a(torch.fft.irfft(x_ft * m.filter.to(x_ft.dtype), n=4, norm="ortho"))


def fourier_operator(m, x):
    x_ft = torch.fft.rfft(x, dim=1)
    out = torch.zeros(x.shape[0], 3, dtype=x_ft.dtype)
    out[:, :2] = torch.einsum("bi,io->bo", x_ft[:, :2], m.w.to(x_ft.dtype))
    return m.a(torch.fft.irfft(out, n=4, dim=1)) + m.a(x)


COMPLEX = {
    "spectral path": lambda m, x: m.a(x + torch.fft.fft(x).real),
    "alone": lambda m, x: m.a(torch.fft.fft(x).real),
    "imaginary part": lambda m, x: m.a(torch.fft.fft(x * x).imag),
    "magnitude": lambda m, x: m.a(F.pad(torch.fft.rfft(x).abs(), (0, 1))),
    "angle": lambda m, x: m.a(x * torch.fft.fft(x + 3).angle()),
    "mixing of FNet": lambda m, x: m.a(torch.fft.fft(torch.fft.fft(x, dim=-1).unsqueeze(1), dim=1).real.squeeze(1)),
    "filter of GFNet": global_filter,
    "rotary": rotary,
    "Fourier operator": fourier_operator,
    "complex constant": lambda m, x: m.a((x * (1 + 2j) * (1 - 1j)).real),
    "product of complex numbers": lambda m, x: m.a((torch.complex(x, x.flip(1)) * torch.complex(x.sin(), x)).imag),
    "matrix of complex numbers": lambda m, x: m.a((x.to(m.m.dtype) @ m.m).real),
    "conjugate": lambda m, x: m.a((torch.fft.fft(x) * torch.fft.fft(x).conj()).real),
    "two dimensions": lambda m, x: m.a(torch.fft.ifft2(torch.fft.fft2(x.reshape(-1, 2, 2)) * 2).real.flatten(1)),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPLEX)
def test_gradients_go_through_complex_numbers(name):
    module = make(
        COMPLEX[name], angles=lambda: torch.randn(2), w=lambda: torch.randn(2, 2, dtype=torch.cfloat),
        filter=lambda: nn.Parameter(torch.randn(3, dtype=torch.cfloat)),
        m=lambda: torch.randn(4, 4, dtype=torch.cfloat),
    )  # fmt: skip
    converter = check(module, rows())
    for method in (run_deeplift, run_lrp):
        with pytest.raises(UnsupportedLayerError, match=r"has no rule for (the operator aten::|a cast to)"):
            method(converter, rows())


def test_a_spectral_path_in_every_gradient_method():
    """Integrated gradients add up, so nothing is lost on the way (half of it was)."""
    module = make(lambda m, x: m.a(torch.fft.irfft(torch.fft.rfft(x) * 2, n=4) + x))
    converter, x = Converter(module, input_dim=4), rows()
    result = run_intgrad(converter, x, output_idx=[0, 1, 2], dtype="double")
    np.testing.assert_allclose(result.get_result().sum(1), result.decomp_goal[0].numpy(), rtol=1e-9)
    with torch.no_grad():
        exact = (3 * x)[:, :, None] * module.a.weight.double().T
    torch.testing.assert_close(result.result[0][0], exact, rtol=1e-6, atol=1e-9)


def test_conversion_does_not_leak_the_warnings_of_torch():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Converter(make(COMPLEX["Fourier operator"], w=lambda: torch.randn(2, 2, dtype=torch.cfloat)), input_dim=4)
