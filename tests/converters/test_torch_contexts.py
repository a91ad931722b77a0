"""What ``forward`` does besides calling operators: blocks without gradient, autocast, checkpoints, vmap."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.checkpoint import checkpoint

from innsight_py import (
    Converter,
    SpecError,
    UnsupportedLayerError,
    run_cw,
    run_deeplift,
    run_deepshap,
    run_grad,
    run_intgrad,
    run_lrp,
    torch_grad,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")


class Written(nn.Module):
    """A module whose forward pass is a function of it and its input."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)
        self.cache: dict = {}

    def forward(self, x):
        return self.function(self, x)


def make(function) -> nn.Module:
    torch.manual_seed(5)
    return Written(function).eval().double()


def draw(n: int = 5) -> torch.Tensor:
    return torch.randn(n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def gradients(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return autograd's gradients ``(B, 4, 3)``."""
    columns = []
    for k in range(3):
        leaf = x.clone().requires_grad_()
        module(leaf)[:, k].sum().backward()
        columns.append(leaf.grad)
    return torch.stack(columns, -1)


def no_grad(m, x):
    with torch.no_grad():
        gate = torch.sigmoid(m.a(x))
    return m.b(x * gate)


@torch.no_grad()
def encoder(m, x):
    return torch.relu(m.a(x))


@torch.inference_mode()
def inference_encoder(m, x):
    return torch.relu(m.a(x))


def inference(m, x):
    with torch.inference_mode():
        gate = torch.sigmoid(m.a(x))
    return m.b(x * gate.clone())


def inner_enabled(m, x):
    with torch.no_grad():
        gate = torch.sigmoid(m.a(x))
        with torch.enable_grad():
            path = torch.tanh(m.a(x))
        gate = gate * 2
    return m.b(path * gate)


def set_by_call(m, x):
    torch.set_grad_enabled(False)
    gate = torch.sigmoid(m.a(x))
    torch.set_grad_enabled(True)
    return m.b(x * gate)


def mask_by_data(m, x):
    with torch.no_grad():
        mask = x > x.median(1, keepdim=True)[0]
    return m.b(x * mask.double().cumsum(1))


def autocast(m, x, **keys):
    with torch.autocast("cpu", **keys):
        h = torch.relu(m.a(x))
    return m.b(h.to(m.b.weight.dtype))


def no_grad_autocast(m, x):
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        gate = torch.sigmoid(m.a(x))
    return m.b(x * gate)


def straight(m, x):
    return m.b(x + (x.round() - x).detach())


CONTEXTS = {
    "no_grad": no_grad,
    "decorated": lambda m, x: m.b(encoder(m, x) + x),
    "inference_mode": inference,
    "decorated with inference_mode": lambda m, x: m.b(inference_encoder(m, x).clone() * x),
    "a block with gradient in it": inner_enabled,
    "set by call": set_by_call,
    "several values": lambda m, x: m.b(functools.reduce(torch.mul, torch.no_grad()(lambda: x.chunk(2, 1))(), x[:, :1])
                                       .sum(1, keepdim=True) + x),
    "a mask by the data": mask_by_data,
    "detach": lambda m, x: m.b(x * torch.sigmoid(m.a(x)).detach()),
    "data": lambda m, x: m.b(x * torch.sigmoid(m.a(x)).data),
    "detached parts": lambda m, x: m.b(torch.cat([x[:, :2], m.a(x)[:, 2:].detach()], 1)),
    "straight through": straight,
    "autocast off": functools.partial(autocast, enabled=False),
    "no_grad and autocast off": no_grad_autocast,
    "checkpoint": lambda m, x: m.b(checkpoint(lambda y: torch.relu(m.a(y)), x, use_reentrant=False)),
    "reentrant checkpoint": lambda m, x: m.b(checkpoint(lambda y: torch.relu(m.a(y)), x, use_reentrant=True) * x),
    "vmap": lambda m, x: m.b(torch.vmap(lambda y: torch.relu(m.a(y)) * y.sum())(x)),
    "vmap over features": lambda m, x: m.b(torch.vmap(lambda y: torch.tanh(y) * 2, in_dims=1, out_dims=1)(x)),
    "vmap over masks": lambda m, x: m.b(
        (x[:, None] * torch.vmap(torch.vmap(torch.ge, (None, 0)), (0, None))(torch.arange(4), torch.arange(4))).sum(2)),
    "jvp": lambda m, x: m.b(torch.func.jvp(torch.tanh, (x,), (torch.ones_like(x),))[1]),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")  # torch's, of checkpoints
@pytest.mark.parametrize("name", CONTEXTS)
def test_values_and_gradients_are_those_of_the_module(name):
    module, x = make(CONTEXTS[name]), draw()
    converter = Converter(module, input_dim=4, dtype="double")
    with torch.no_grad():
        torch.testing.assert_close(converter.model(x)[0], module(x), rtol=1e-9, atol=1e-9)
    found = run_grad(converter, x, output_idx=[0, 1, 2], ignore_last_act=False, dtype="double").result[0][0]
    torch.testing.assert_close(found, gradients(module, x), rtol=1e-9, atol=1e-9)
    assert torch.is_grad_enabled()
    with torch.inference_mode():  # which tracing has replaced for a while
        assert torch.ones(1).is_inference()
    assert torch.ones(1).data.item() == 1


@pytest.mark.parametrize("name", ["autocast", "autocast within no_grad"])
def test_autocast_at_work(name):
    """Rounded as the module rounds, in half the digits."""

    def block(m, x):
        if name == "autocast":
            return autocast(m, x, dtype=torch.bfloat16)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            gate = torch.sigmoid(m.a(x))
        return m.b(x * gate.float())

    module, x = make(block).float(), draw().float()
    converter = Converter(module, input_dim=4)
    with torch.no_grad():
        torch.testing.assert_close(converter.model(x)[0], module(x), rtol=1e-2, atol=1e-2)
    found = run_grad(converter, x, output_idx=[0, 1, 2]).result[0][0]
    torch.testing.assert_close(found, gradients(module, x), rtol=2e-2, atol=1e-2)


def test_a_frozen_backbone_has_no_gradient():
    """Nothing reaches the input, and the result says so, as for an input that an output does not depend on."""
    converter = Converter(make(lambda m, x: m.b(encoder(m, x))), input_dim=4)
    result = run_grad(converter, draw())
    assert result.result == [[None]]
    assert "not connected" in repr(result)


class Profile(nn.Module):
    """The usual wrapper for genomics profiles: logits weighted by what their softmax says, which is taken as given."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 5))

    def forward(self, x):
        logits = self.net(x)
        logits = logits - logits.mean(1, keepdim=True)
        return (logits * torch.softmax(logits, 1).detach()).sum(1, keepdim=True)


def weighted_differences(net: nn.Module, x: torch.Tensor, x_ref: torch.Tensor) -> torch.Tensor:
    """Return what is explained with the weights of `x`: the difference of its logits, weighted."""
    with torch.no_grad():
        logits, at_ref = (z - z.mean(1, keepdim=True) for z in (net(x), net(x_ref)))
        return (torch.softmax(logits, 1) * (logits - at_ref)).sum(1)


@pytest.mark.parametrize("no_grad", [False, True])
def test_deeplift_takes_what_is_detached_as_given(no_grad):
    """The sum is the difference with the weights of the explained row in both passes; the residual is the rest."""
    torch.manual_seed(1)
    module, x, x_ref = Profile().double().eval(), draw(), draw(1) * 0.3
    if no_grad:

        def forward(x):
            logits = module.net(x)
            logits = logits - logits.mean(1, keepdim=True)
            with torch.no_grad():
                weights = torch.softmax(logits, 1)
            return (logits * weights).sum(1, keepdim=True)

        module.forward = forward
    converter = Converter(module, input_dim=4, dtype="double")
    with pytest.warns(UserWarning, match="taken as given"):
        result = run_deeplift(converter, x, x_ref=x_ref, dtype="double")
    expected = weighted_differences(module.net, x, x_ref)
    torch.testing.assert_close(result.result[0][0].sum((1, 2)), expected, rtol=1e-9, atol=1e-9)
    missing = result.decomp_goal[0][:, 0] - expected
    torch.testing.assert_close(result.residual.absolute[0][:, 0], missing, rtol=1e-9, atol=1e-9)
    assert any("taken as given" in reason for reason in result.residual.reasons)


@pytest.mark.parametrize(("n", "references"), [(5, 3), (2, 6), (1, 4)])
def test_deepshap_is_the_mean_of_deeplift(n, references):
    torch.manual_seed(1)
    converter = Converter(Profile().double().eval(), input_dim=4, dtype="double")
    x, data_ref = draw(n), draw(references) * 0.4
    found = run_deepshap(converter, x, data_ref=data_ref, dtype="double").get_result()
    each = [run_deeplift(converter, x, x_ref=r[None], dtype="double").get_result() for r in data_ref]
    np.testing.assert_allclose(found, np.mean(each, 0), rtol=1e-9, atol=1e-12)


def test_detached_choices_do_not_stop_deeplift():
    """A mask that is computed from detached values is given, whatever it is computed with."""
    converter = Converter(make(mask_by_data), input_dim=4, dtype="double")
    x = draw()
    result = run_deeplift(converter, x, x_ref=x[:1] * 0.1, dtype="double", output_idx=[0, 1, 2])
    mask = x > x.median(1, keepdim=True)[0]
    weight = make(mask_by_data).b.weight.detach()
    expected = ((x - 0.1 * x[:1]) * mask.double().cumsum(1))[:, :, None] * weight.T
    torch.testing.assert_close(result.result[0][0], expected, rtol=1e-9, atol=1e-9)


def test_integrated_gradients_say_no_more_than_is_true():
    """With enough steps the residual is what the detached part would get: its reason is not the number of steps."""
    converter = Converter(make(no_grad), input_dim=4, dtype="double")
    with pytest.warns(UserWarning, match="detach") as caught:
        run_intgrad(converter, draw(), n=200, dtype="double")
    assert all("steps are too few" not in str(w.message) for w in caught)


def test_connection_weights_say_no():
    converter = Converter(make(lambda m, x: m.b(x) + m.b(m.a(x).detach())), input_dim=4)
    with pytest.raises(UnsupportedLayerError, match="aten::detach"):
        run_cw(converter)


def test_lrp_takes_detached_values_as_given():
    """They keep their equal share of a sum: half of the relevance goes to nobody, and it is said."""
    module = make(lambda m, x: m.b(x) + m.b(m.a(x).detach()))
    with torch.no_grad():
        module.a.bias.zero_()
        module.b.bias.zero_()
    converter, x = Converter(module, input_dim=4), draw()
    found = run_lrp(converter, x, dtype="double")
    goal = module(x).detach()
    np.testing.assert_allclose(found.get_result().sum(1), goal / 2, rtol=0, atol=1e-9)
    assert any("detaches" in reason for reason in found.residual.reasons)


# -- what torch, or the module, has to say -----------------------------------------------------------------------------


def changed_from_within(m, x):
    h = m.a(x)
    with torch.no_grad():
        h[:, 0] = 0
    return m.b(h)


def test_a_change_from_within_a_block_without_gradient_is_refused():
    with pytest.raises(SpecError, match=r"torch\.no_grad\(\).*changed in place"):
        Converter(make(changed_from_within), input_dim=4)


def with_cache(kind):
    def forward(m, x):
        if not m.cache:
            value = m.a.weight[:, :1].sum(1)  # not a leaf, once gradients are on
            m.cache["bias"] = {"dict": value, "list": [value], "nested": {"deep": (value, 1)}}[kind]
        kept = m.cache["bias"]
        value = {"dict": lambda: kept, "list": lambda: kept[0], "nested": lambda: kept["deep"][0]}[kind]()
        return m.b(x + value)

    return forward


@pytest.mark.parametrize("kind", ["dict", "list", "nested"])
def test_a_tensor_kept_from_an_earlier_prediction(kind):
    """As LeViT, EfficientFormer and TinyViT do; the module keeps what it has."""
    module, x = make(with_cache(kind)), draw()
    expected = module(x).detach()
    before = module.cache["bias"]
    converter = Converter(module, input_dim=4, dtype="double")
    torch.testing.assert_close(converter.model(x)[0], expected)
    assert module.cache["bias"] is before


class OwnError(RuntimeError):
    pass


@pytest.mark.parametrize("error", [ValueError("not sorted"), KeyError("head"), RuntimeError("no")])
def test_an_error_of_the_module_is_said_to_be_its_own(error):
    def fails(m, x):
        raise error

    with pytest.raises(SpecError, match=f"it raises {type(error).__name__} at test_torch_contexts.py:") as caught:
        Converter(make(fails), input_dim=4)
    assert str(error) in str(caught.value)
    assert "cannot trace" not in str(caught.value)


@pytest.mark.parametrize("error", [OwnError("my own"), TimeoutError("too long"), MemoryError(), KeyboardInterrupt()])
@pytest.mark.parametrize("once", [False, True])
def test_an_interruption_is_not_swallowed(error, once):
    """A time limit, say, strikes once: the module runs when it is tried again."""
    times = []

    def fails(m, x):
        times.append(1)
        if once and len(times) > 1:
            return m.b(x)
        raise error

    with pytest.raises(type(error)) as caught:
        Converter(make(fails), input_dim=4)
    assert caught.value is error


@pytest.mark.parametrize("by", ["trace", "script"])
def test_a_scripted_module_is_refused_with_a_way_on(by):
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        scripted = torch.jit.trace(net, torch.zeros(1, 4)) if by == "trace" else torch.jit.script(net)
    with pytest.raises(SpecError, match=r"TorchScript.*torch_grad"):
        Converter(scripted, input_dim=4)
    with pytest.raises(SpecError, match=r"part '0' is TorchScript"):
        Converter(nn.Sequential(scripted, nn.Linear(3, 2)), input_dim=4)
    x = draw().float()
    torch.testing.assert_close(torch_grad(scripted, x), torch_grad(net, x))  # the way on


# -- constants and shapes ----------------------------------------------------------------------------------------------


def bound_mask(m, x):
    return m.b(x) + x[torch.ones(1, 4, dtype=torch.bool)].reshape(-1, 4)[:, :3]


CONSTANTS = {
    "type_as": lambda m, x: m.b(x * torch.arange(4).type_as(x)),
    "expand_as": lambda m, x: m.b(x * m.a.bias.expand_as(x)),
    "type_as and expand_as": lambda m, x: m.b(x + torch.arange(4).type_as(x).expand_as(x)),
    "to another": lambda m, x: m.b(x * torch.tensor([1, 2, 3, 4]).to(x)),
    "new_full": lambda m, x: m.b(x * x.new_full((4,), 2.5)),
    "a table by positions of the data": lambda m, x: m.b(x) + m.a.weight[:, :3][x.argmax(1)],
    "weights by the data": lambda m, x: F.linear(x, m.b.weight) * torch.bmm(m.a(x)[:, None], x[:, :, None])[:, 0],
    "a mask bound to one instance": bound_mask,
    "padding before a maximum": lambda m, x: m.b(F.max_pool1d(F.pad(x[:, None], (0, 1), value=-torch.inf), 2, 1)[:, 0]),
    "padding of images before a maximum": lambda m, x: m.b(
        F.max_pool2d(F.pad(x.reshape(-1, 1, 2, 2), (0, 1, 0, 1), value=float("-inf")), 2, 1).flatten(1)),
    "no channels, constant": lambda m, x: m.b(torch.cat([x, torch.zeros(x.shape[0], 0)], 1)),
    "no channels, cut off": lambda m, x: m.b(torch.cat([x, x[:, :0], x[:, 4:]], 1)) + x[:, :0].sum(1, keepdim=True),
    "no channels, images": lambda m, x: m.b(
        torch.cat([x.reshape(-1, 1, 2, 2), torch.empty([x.shape[0], 0, 2, 2], dtype=x.dtype)], 1).flatten(1)),
    "no channels, resized": lambda m, x: m.b(
        torch.cat([x.reshape(-1, 1, 2, 2), x.reshape(-1, 1, 2, 2)[:, :0] * 2], 1).flatten(1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_and_shapes(name):
    module, x = make(CONSTANTS[name]), draw()
    converter = Converter(module, input_dim=4, dtype="double")
    theirs = torch.cat([module(x[i : i + 1]).detach() for i in range(len(x))])
    torch.testing.assert_close(converter.model(x)[0], theirs, rtol=1e-9, atol=1e-9)
    expected = torch.cat([gradients(module, x[i : i + 1]) for i in range(len(x))])
    found = run_grad(converter, x, output_idx=[0, 1, 2], dtype="double").result[0][0]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    try:
        explained = run_deeplift(
            converter, x, x_ref=x[:1] * 0.5, output_idx=[0, 1, 2], dtype="double", winner_takes_all=False
        )
    except UnsupportedLayerError:
        assert "the data" in name
    else:
        torch.testing.assert_close(explained.result[0][0].sum(1), explained.decomp_goal[0], rtol=1e-9, atol=1e-9)
