"""Modules that cannot be explained are refused with a reason; what others explain wrongly is explained rightly."""

from __future__ import annotations

import functools
import math
import re

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch_models import draw, gradients, in_double, outputs, total

from innsight_py import (
    Converter,
    SpecError,
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
from innsight_py.converters.torch import operators as torch_operators

# Sums that are not exact are no matter here; when they warn is tested in test_residual.py.
pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")


class Written(nn.Module):
    """A module whose forward pass is a function of it and its inputs."""

    def __init__(self, function, **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def seeded(make) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make().eval()


def every(converter: Converter) -> dict:
    return {"output_idx": list(range(converter.output_dim[0][0])), "dtype": "double"}


# -- refused at once ---------------------------------------------------------------------------------------------------


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Looping(nn.Module):
    def forward(self, x):
        while x.norm() > 1:
            x = x / 2
        return x


class Indexed(nn.Module):
    def forward(self, x):
        return x[:, int(x.argmax())][:, None]


@pytest.mark.parametrize(
    "make",
    [
        Branching, Looping, Indexed,
        lambda: nn.Sequential(nn.Linear(3, 3), Branching()),
        lambda: Written(lambda m, x: x[:, x[0] > 0]),
        lambda: Written(lambda m, x: x * float(x.mean().item())),
        lambda: Written(lambda m, x: torch.from_numpy(x.numpy() * 2)),
    ],
    ids=["if", "while", "index", "in a submodule", "mask", "item", "numpy"],
)  # fmt: skip
def test_control_flow_that_depends_on_data(make):
    """The message says what was tried and why it failed."""
    with pytest.raises(SpecError, match=r"torch\.export cannot trace") as caught:
        Converter(seeded(make), input_dim=3)
    message = str(caught.value)
    assert "(3,)" in message
    assert re.search("(?i)depends? on the data", message)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Embedding(4, 3), nn.Flatten()),
        lambda: nn.Sequential(nn.EmbeddingBag(4, 3)),
        lambda: Written(lambda m, x: F.one_hot(x, 5).float().flatten(1)),
    ],
    ids=["embedding", "bag", "one hot"],
)
def test_whole_numbers(make):
    with pytest.raises(SpecError, match=r"floating|whole numbers|Long|Int|int") as caught:
        Converter(seeded(make), input_dim=3)
    assert "explain the part of the module behind" in str(caught.value) or "cannot be converted" in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Written(lambda m, x: x - x.mean(0)),
        lambda: Written(lambda m, x: m.a(x) - m.a(x).mean(0, keepdim=True), a=nn.Linear(3, 2)),
        lambda: Written(lambda m, x: m.a(x) / m.a(x).norm(), a=nn.Linear(3, 2)),
        lambda: Written(lambda m, x: m.a(x).softmax(0), a=nn.Linear(3, 2)),
        lambda: Written(lambda m, x: F.normalize(m.a(x), dim=0), a=nn.Linear(3, 2)),
        lambda: Written(lambda m, x: m.a(x) - m.a(x).amax(0), a=nn.Linear(3, 2)),
        lambda: Written(lambda m, x: torch.cat([x, x.sum(0, keepdim=True).expand_as(x)], 1)),
        lambda: Written(lambda m, x: m.a(x).cumsum(0), a=nn.Linear(3, 2)),
        lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2)),
        lambda: nn.Sequential(nn.Unflatten(1, (3, 1)), nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4, track_running_stats=False),
                              nn.Flatten()),
        lambda: Written(lambda m, x: F.batch_norm(x, None, None, training=True)),
        lambda: Written(lambda m, x: m.attend(x, x, x)[0], attend=nn.MultiheadAttention(3, 1)),
    ],
    ids=["mean", "mean later", "norm", "softmax", "normalize", "maximum", "sum", "cumsum", "statistics of the batch",
         "statistics of the batch and positions", "functional batch norm", "rows as a sequence"],
)  # fmt: skip
def test_a_model_that_mixes_rows(make):
    """Some are found out by running two rows, some have no meaning for a single one."""
    with pytest.raises(SpecError, match=r"depends on the others|for one instance|shape"):
        Converter(seeded(make), input_dim=3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Written(lambda m, x: m.a(F.dropout(x, 0.5, training=True)), a=nn.Linear(3, 2)),
        lambda: Written(lambda m, x: m.a(F.dropout(x)), a=nn.Linear(3, 2)),
        lambda: Written(lambda m, x: m.a(F.alpha_dropout(x, 0.5, training=True)), a=nn.Linear(3, 2)),
        lambda: Written(lambda m, x: F.dropout1d(x[:, :, None], 0.3, training=True).flatten(1)),
        lambda: Written(lambda m, x: F.gumbel_softmax(m.a(x), dim=-1), a=nn.Linear(3, 2)),
        lambda: Written(lambda m, x: m.a(x) + torch.randn(2), a=nn.Linear(3, 2)),
        lambda: Written(lambda m, x: m.a(x) * torch.bernoulli(torch.full((2,), 0.5)), a=nn.Linear(3, 2)),
        lambda: Written(lambda m, x: F.rrelu(m.a(x), training=True), a=nn.Linear(3, 2)),
    ],
    ids=["dropout", "dropout by default", "alpha dropout", "channel dropout", "gumbel", "noise", "mask", "rrelu"],
)
def test_randomness_at_prediction_time(make):
    with pytest.raises(SpecError, match=r"random|dropout|bernoulli|exponential|rrelu") as caught:
        Converter(seeded(make), input_dim=3)
    assert "test_torch_refusals.py" in str(caught.value)  # the line is the user's


def test_probability_zero_is_no_randomness():
    module = seeded(lambda: Written(lambda m, x: m.a(F.dropout(x, 0.5, training=m.training)), a=nn.Linear(3, 2)))
    (x,) = draw([(3,)], 4)
    found = Converter(module, input_dim=3).model_in("double")(x)[0]
    torch.testing.assert_close(found, outputs(in_double(module), [x])[0])


def test_one_of_two_outputs_may_have_several_axes():
    converter = Converter(seeded(lambda: Written(lambda m, x: (x, x[:, None]))), input_dim=3)
    assert converter.output_dim == [(3,), (1, 3)]


@pytest.mark.parametrize(
    ("make", "dim", "shape"),
    [
        (lambda: nn.Conv1d(2, 3, 2), (2, 5), "(*, 3, 4)"),
        (lambda: nn.Conv2d(2, 3, 1), (2, 4, 5), "(*, 3, 4, 5)"),
        (lambda: nn.Linear(5, 2), (3, 5), "(*, 3, 2)"),
    ],
)
def test_an_output_that_is_no_row_of_nodes(make, dim, shape):
    converter = Converter(seeded(make), input_dim=dim)
    with pytest.raises(ValueError, match="none is chosen") as caught:
        run_grad(converter, torch.zeros(1, *converter.input_dim[0]))
    assert shape.replace("*, ", "") in str(caught.value)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.a(x).sum(-1),
        lambda m, x: m.a(x)[:, 1],
        lambda m, x: m.a(x).squeeze(-1).mean(1),
        lambda m, x: torch.einsum("bi,bi->b", m.a(x), x[:, :2]),
        lambda m, x: F.relu(m.a(x)).amax(1) + 1,
        lambda m, x: m.a(x).norm(dim=1),
    ],
    ids=["sum", "select", "mean", "einsum", "amax", "norm"],
)
def test_an_output_without_axes_is_one_node(function):
    module = seeded(lambda: Written(function, a=nn.Linear(3, 2)))
    converter = Converter(module, input_dim=3)
    assert converter.output_dim == [(1,)]
    (x,), (x_ref,) = draw([(3,)], 4), draw([(3,)], 1, seed=5)
    original = in_double(module)
    (expected,) = outputs(original, [x])
    assert expected.shape == (4, 1)
    torch.testing.assert_close(converter.model_in("double")(x)[0], expected)
    torch.testing.assert_close(run_grad(converter, x, dtype="double").result[0][0], gradients(original, [x])[0][0])
    found = run_deeplift(converter, x, x_ref=x_ref, winner_takes_all=False, dtype="double")
    torch.testing.assert_close(total(found.result[0]), expected - outputs(original, [x_ref])[0])


# -- operators without rules -------------------------------------------------------------------------------------------

UNSUPPORTED = {
    "sort": (lambda h: torch.sort(h, -1).values, "aten::sort"),
    "kthvalue": (lambda h: h.kthvalue(2, 1, keepdim=True).values, "aten::kthvalue"),
    "median": (lambda h: h.median(1, keepdim=True).values, "aten::median.dim"),
    "cumprod": (lambda h: h.cumprod(1), "aten::cumprod"),
    "cummax": (lambda h: h.cummax(1).values, "aten::cummax"),
    "special function": (lambda h: torch.special.i0(h), "aten::i0"),
    "order of two": (lambda h: h[:, :2].logcumsumexp(1), "aten::logcumsumexp"),
    "where by the data": (lambda h: torch.where(h > 0, h, 0.1 * h), "aten::where.self"),
    "gather by the data": (lambda h: h.gather(1, h.argsort(1)), "aten::gather"),
    "prod": (lambda h: h.prod(1, keepdim=True), "aten::prod.dim_int"),
}


class Deep(nn.Module):
    """An operator in the second block of a submodule."""

    def __init__(self, operator) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.body = nn.Sequential(nn.Tanh(), Written(lambda m, h: operator(h)))
        with torch.no_grad():
            self.last = nn.Linear(self.body(torch.zeros(2, 4)).shape[1], 2)

    def forward(self, x):
        return self.last(self.body(self.first(x)))


@functools.cache
def deep(name: str) -> tuple[Converter, nn.Module]:
    module = seeded(lambda: Deep(UNSUPPORTED[name][0]))
    return Converter(module, input_dim=3), in_double(module)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_gradients_go_through_an_operator_without_rules(name):
    converter, original = deep(name)
    (x,) = draw([(3,)], 5)
    torch.testing.assert_close(converter.model_in("double")(x), outputs(original, [x]), rtol=1e-12, atol=1e-12)
    found = run_grad(converter, x, **every(converter)).result[0][0]
    torch.testing.assert_close(found, gradients(original, [x])[0][0], rtol=1e-10, atol=1e-12)
    assert found.abs().max() > 1e-3
    for batch in (0, 4):  # row by row
        torch.testing.assert_close(
            run_grad(converter, x[batch : batch + 1], **every(converter)).result[0][0][0], found[batch]
        )
    for method in (run_smoothgrad, run_intgrad, run_expgrad):
        torch.manual_seed(0)
        result = method(converter, x, n=4, **every(converter)).result[0][0]
        assert result.shape == (5, 3, 2)
        assert bool(result.isfinite().all())


@pytest.mark.parametrize("name", UNSUPPORTED)
@pytest.mark.parametrize(
    "method",
    [
        run_deeplift,
        functools.partial(run_deeplift, rule_name="reveal_cancel"),
        run_deepshap,
        run_lrp,
        functools.partial(run_lrp, rule_name="alpha_beta"),
        lambda converter, x: run_cw(converter),
    ],
    ids=["rescale", "reveal-cancel", "DeepSHAP", "LRP", "alpha-beta", "connection weights"],
)
def test_other_methods_say_no(name, method):
    """Naming the operator, the module's path, the file and the line, and what can be done instead."""
    operator = UNSUPPORTED[name][1]
    (x,) = draw([(3,)], 2)
    with pytest.raises(UnsupportedLayerError) as caught:
        method(deep(name)[0], x)
    message = str(caught.value)
    assert re.search(re.escape(operator) + r"\b", message)
    assert "'body.1'" in message
    line = re.search(r"test_torch_refusals\.py:(\d+)", message)
    assert line is not None
    # export keeps the lines of forward passes, not those of functions that they call
    assert int(line[1]) == Written.forward.__code__.co_firstlineno + 1
    assert "gradient methods" in message


def test_an_operator_beside_the_way_is_no_reason_to_refuse():
    """Only what leads to the explained output counts."""
    module = seeded(
        lambda: Written(lambda m, x: (m.a(x), torch.sort(m.b(x), -1).values), a=nn.Linear(3, 2), b=nn.Linear(3, 4))
    )
    converter = Converter(module, input_dim=3)
    (x,) = draw([(3,)], 2)
    found = run_deeplift(converter, x, output_idx=[[0, 1], None], dtype="double")
    torch.testing.assert_close(total(found.result[0]), found.decomp_goal[0])
    with pytest.raises(UnsupportedLayerError, match="aten::sort"):
        run_deeplift(converter, x, output_idx=[None, [0]])


# -- training mode -----------------------------------------------------------------------------------------------------


def transformer() -> nn.Module:
    return nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.Flatten())


@pytest.mark.parametrize(
    ("make", "dim", "names"),
    [
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)), (3,), ["Dropout"]),
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), (3,), ["BatchNorm1d"]),
        (lambda: nn.Sequential(nn.Conv2d(2, 3, 1), nn.Dropout2d(), nn.BatchNorm2d(3), nn.Flatten()), (2, 2, 2),
         ["BatchNorm2d", "Dropout2d"]),
        (lambda: nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.AlphaDropout(), nn.Flatten()), (1, 2, 2, 2),
         ["AlphaDropout", "BatchNorm3d"]),
        (transformer, (3, 4), ["Dropout"]),
    ],
)  # fmt: skip
def test_training_mode_warns_and_is_restored(make, dim, names):
    module = seeded(make).train()
    list(module.children())[-1].eval()  # each submodule has a mode of its own
    modes = {name: m.training for name, m in module.named_modules()}
    state = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.warns(UserWarning, match=r"training mode.*eval\(\)") as caught:
        converter = Converter(module, input_dim=dim)
    assert len(caught) == 1
    assert all(name in str(caught[0].message) for name in names)
    assert caught[0].filename == __file__  # it points to the caller's line
    assert {name: m.training for name, m in module.named_modules()} == modes
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    (x,) = draw([dim], 4)
    torch.testing.assert_close(converter.model_in("double")(x), outputs(in_double(module), [x]), rtol=1e-9, atol=1e-9)


def test_training_mode_of_what_makes_no_difference_does_not_warn():
    """Warnings are errors here."""
    module = seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2))).train()
    Converter(module, input_dim=3)
    assert all(m.training for m in module.modules())


@pytest.mark.filterwarnings("ignore:The module is in training mode")
def test_the_mode_is_restored_after_a_refusal():
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(), Branching()).train()
    module[0].eval()
    with pytest.raises(SpecError):
        Converter(module, input_dim=3)
    assert [m.training for m in module.modules()] == [True, False, True, True]


# -- a reader that is wrong --------------------------------------------------------------------------------------------


class Three(nn.Module):
    """Parts that a wrong reader does not touch, around some that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.act = nn.Tanh()

    def forward(self, x):
        x = self.act(self.first(x) + 1)
        x = torch.sigmoid(self.second(x)) * 2
        return self.third(torch.flip(x, (1,)))


@pytest.mark.parametrize(
    ("operator", "reader", "name"),
    [
        ("aten::flip", lambda write, call: write.take(call["self"], 1, [1, 0, 2, 3]), "flip"),
        ("aten::mul.Tensor", lambda write, call: write.scale(call["self"], 3.0), "mul"),
        ("aten::mul.Tensor", lambda write, call: write.scale(call["self"], 2.001), "mul"),
        ("aten::tanh", lambda write, call: write.activation(call["self"], "relu"), "act"),
        ("aten::tanh", lambda write, call: write.activation(call["self"], "atan"), "act"),
        ("aten::add.Tensor", lambda write, call: write.scale(call["self"], None, torch.full((1, 4), -1.0)), "add"),
    ],
    ids=["another order", "another constant", "nearly the constant", "another function", "a similar function", "shift"],
)
def test_a_wrong_translation_is_found_and_named(monkeypatch, operator, reader, name):
    """The conversion compares values, and says which layer is the first whose values differ."""
    monkeypatch.setitem(torch_operators.TABLE, operator, reader)
    with pytest.raises(SpecError, match="is not the original's: the first layer that differs is") as caught:
        Converter(seeded(Three), input_dim=3)
    assert re.search(rf"differs is Layer '{name}' .*test_torch_refusals\.py:\d+", str(caught.value))
    assert "report" in str(caught.value)


def test_an_operator_read_as_nothing_is_found(monkeypatch):
    """Then no layer has the operator's value; one beside it is named."""
    monkeypatch.setitem(torch_operators.TABLE, "aten::flip", lambda write, call: call["self"])
    with pytest.raises(SpecError, match=r"the first layer that differs is Layer '(mul|third)'"):
        Converter(seeded(Three), input_dim=3)


def test_a_wrong_shape_is_found(monkeypatch):
    monkeypatch.setitem(torch_operators.TABLE, "aten::flip", lambda write, call: write.take(call["self"], 1, [0]))
    with pytest.raises(SpecError, match=r"aten::flip at .*test_torch_refusals\.py:\d+ was read as \(1, 1\)"):
        Converter(seeded(Three), input_dim=3)


# -- in place on views and slices --------------------------------------------------------------------------------------


def written_into_a_slice(m, x):
    h = m.a(x)
    h[:, 0] = 0
    return m.b(h)


def relu_of_a_slice(m, x):
    h = m.a(x)
    h[:, :2].relu_()
    return m.b(h)


def view_changed_then_base_read(m, x):
    h = m.a(x)
    v = h.view(len(x), 2, 2)
    v += 1
    return m.b(h)


def base_changed_then_view_read(m, x):
    h = m.a(x)
    v = h.view(len(x), 2, 2)
    h.mul_(2)
    return m.b(v.flatten(1))


def transposed_view_changed(m, x):
    h = m.a(x)
    h.view(len(x), 2, 2).transpose(1, 2)[:, 0].tanh_()
    return m.b(h)


def row_copied_into_another(m, x):
    h = m.a(x)
    h[:, 1:3] = h[:, :2] * 2
    return m.b(h)


def clone_changed(m, x):
    h = m.a(x)
    c = h.clone()
    c.mul_(3)
    return m.b(h) + m.b(c)


def old_value_kept(m, x):
    h = m.a(x)
    old = h * 1
    h += old
    h.relu_()
    return m.b(h + old)


def detached_changed(m, x):
    h = m.a(x)
    h.detach().mul_(2)
    return m.b(h)


def input_slice_changed(m, x):
    x[:, 0] = 1.0
    return m.b(m.a(x))


def input_changed_through_a_view(m, x):
    v = x.view(-1)
    v *= 2
    return m.b(m.a(x))


def chunks_changed(m, x):
    h = m.a(x)
    first, second = h[:, :2], h[:, 2:]  # autograd refuses changes of what chunk returns
    first += second
    second.mul_(2)
    return m.b(h)


def filled(m, x):
    h = m.a(x)
    h.masked_fill_(m.mask, 0.5)
    h[..., -1].fill_(2.0)
    return m.b(h)


def zeros_filled_in(m, x):
    h = torch.zeros(len(x), 4, dtype=x.dtype)
    h[:, 1:] = m.a(x)[:, 1:]
    return m.b(h)


def index_put(m, x):
    h = m.a(x)
    h[:, [0, 2]] = 0.25
    return m.b(h)


def index_add(m, x):
    h = m.a(x)
    return m.b(h.index_add(1, torch.tensor([0, 0]), h[:, 2:]))


def copied(m, x):
    h = m.a(x)
    h[:, 2:].copy_(h[:, :2])
    return m.b(h)


def squeezed_and_changed(m, x):
    h = m.a(x)
    h.unsqueeze(1).squeeze(1).add_(1)
    return m.b(F.relu(h, inplace=True) + h)


def view_after_change(m, x):
    h = m.a(x)
    v = h[:, 1:]
    h.sub_(0.5)
    v.mul_(2)
    h.add_(1)
    return m.b(h) + v.sum(1, keepdim=True)


def two_names(m, x):
    h = m.a(x)
    other = h.add_(1)
    h.mul_(2)
    return m.b(other) - m.b(h + other)


IN_PLACE = [
    written_into_a_slice, relu_of_a_slice, view_changed_then_base_read, base_changed_then_view_read,
    transposed_view_changed, row_copied_into_another, clone_changed, old_value_kept, detached_changed,
    input_slice_changed, input_changed_through_a_view, chunks_changed, filled, zeros_filled_in, index_put, index_add,
    copied, squeezed_and_changed, view_after_change, two_names,
]  # fmt: skip


class InPlace(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)
        self.register_buffer("mask", torch.tensor([True, False, False, True]))

    def forward(self, x):
        return self.function(self, x)


@pytest.mark.parametrize("function", IN_PLACE, ids=lambda f: f.__name__)
def test_changes_in_place_are_followed_or_refused(function):
    """Never taken for something else: what is not refused gives the original's outputs and gradients."""
    module = seeded(lambda: InPlace(function))
    try:
        converter = Converter(module, input_dim=3)
    except SpecError as error:
        assert "cannot be converted" in str(error) or "torch.export" in str(error)  # noqa: PT017
    else:
        check_against(in_double(module), converter)


def check_against(original: nn.Module, converter: Converter) -> None:
    """Compare outputs, gradients, and the sums of DeepLift where it has rules for all layers."""
    (x,), (x_ref,) = draw([(3,)], 4), draw([(3,)], 1, seed=5)
    (expected,) = outputs(original, [x])
    torch.testing.assert_close(converter.model_in("double")(x)[0], expected, rtol=1e-9, atol=1e-9)
    leaf = x.clone().requires_grad_()
    grad = [torch.autograd.grad(original(leaf + 0)[:, k].sum(), leaf)[0] for k in range(2)]
    found = run_grad(converter, x, **every(converter)).result[0][0]
    torch.testing.assert_close(found, torch.stack(grad, -1), rtol=1e-9, atol=1e-9)
    try:
        found = run_deeplift(converter, x, x_ref=x_ref, **every(converter))
    except UnsupportedLayerError:
        return
    torch.testing.assert_close(total(found.result[0]), expected - outputs(original, [x_ref])[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "function", [view_changed_then_base_read, base_changed_then_view_read, old_value_kept, clone_changed, two_names],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_usual_changes_in_place_are_explained(function):
    """What people write every day is no reason to refuse."""
    converter = Converter(seeded(lambda: InPlace(function)), input_dim=3)
    (x,) = draw([(3,)], 4)
    found = run_deeplift(converter, x, **every(converter))
    torch.testing.assert_close(total(found.result[0]), found.decomp_goal[0], rtol=1e-10, atol=1e-10)


# -- the cases of anchors.md 2.6, in which other packages are silently wrong -------------------------------------------


class FunctionalNet(nn.Module):
    """Layers with a function between them."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.c(self.function(self.b(self.function(self.a(x)))))


class OneReLU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.relu = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3), nn.ReLU()

    def forward(self, x):
        return self.c(self.relu(self.b(self.relu(self.a(x)))))


class OneLinear(nn.Module):
    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(6, 6, bias=bias), nn.Linear(6, 3, bias=bias)

    def forward(self, x):
        return self.c(F.relu(self.a(F.relu(self.a(F.relu(self.a(x)))))))


class ResidualNet(nn.Module):
    def __init__(self, bias: bool = True, in_place: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6, bias=bias), nn.Linear(6, 6, bias=bias), nn.Linear(6, 3, bias=bias)
        self.in_place = in_place

    def forward(self, x):
        h = F.relu(self.a(x))
        y = self.b(h)
        if self.in_place:
            y += h
        else:
            y = y + h
        return self.c(F.relu(y) + x)


def conv_net(*layers: nn.Module, dim=(2, 9, 9)) -> nn.Sequential:
    body = nn.Sequential(*layers, nn.Flatten())
    with torch.no_grad():
        n = body(torch.zeros(2, *dim)).shape[1]
    return nn.Sequential(body, nn.Linear(n, 8), nn.ReLU(), nn.Linear(8, 3))


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.c(torch.tanh(self.a(x)) * torch.sigmoid(self.b(x)))


class SoftmaxGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.c(F.relu(self.a(x)) * F.softmax(self.b(x), -1))


class Block18(nn.Module):
    """A block of torchvision's resnet18, with its one ReLU used twice and its sum in place."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.downsample = None
        if stride > 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet18(nn.Module):
    """The shape of torchvision's resnet18, with few channels."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1, self.relu, self.maxpool = nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        widths = [width, width, 2 * width, 3 * width, 4 * width]
        for i in range(1, 5):
            stride = 1 if i == 1 else 2
            blocks = nn.Sequential(Block18(widths[i - 1], widths[i], stride), Block18(widths[i], widths[i], 1))
            setattr(self, f"layer{i}", blocks)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(4 * width, 5)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def trained(module: nn.Module) -> nn.Module:
    """Give batch normalisations statistics of some data."""
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.2)
            m.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, 0, 0.2)
    return module


ANCHORS = {
    "modules, each used once": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)), (6,)
    ),
    "functional relu": (lambda: FunctionalNet(F.relu), (6,)),
    "functional tanh": (lambda: FunctionalNet(torch.tanh), (6,)),
    "tensor method": (lambda: FunctionalNet(lambda h: h.relu().tanh()), (6,)),
    "one ReLU re-used": (OneReLU, (6,)),
    "one Linear re-used": (OneLinear, (6,)),
    "residual": (ResidualNet, (6,)),
    "residual, in place": (lambda: ResidualNet(in_place=True), (6,)),
    **{
        name: (lambda act=act: nn.Sequential(nn.Linear(6, 8), act(), nn.Linear(8, 8), act(), nn.Linear(8, 3)), (6,))
        for name, act in {
            "GELU": nn.GELU, "SiLU": nn.SiLU, "PReLU": nn.PReLU, "SELU": nn.SELU, "Hardswish": nn.Hardswish,
            "PReLU of channels": lambda: nn.PReLU(8),
        }.items()
    },
    "LayerNorm": (lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3)), (6,)),
    "multiplicative gate": (Gate, (6,)),
    "softmax gate": (SoftmaxGate, (6,)),
    "softmax output": (lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(-1)), (6,)),
    "MaxPool k2 s2 after a convolution": (lambda: conv_net(nn.Conv2d(2, 4, 2), nn.MaxPool2d(2, 2)), (2, 9, 9)),
    "MaxPool k3 s1": (lambda: conv_net(nn.Conv2d(2, 4, 3), nn.MaxPool2d(3, 1)), (2, 9, 9)),
    "MaxPool k3 s2 p1": (lambda: conv_net(nn.Conv2d(2, 4, 3), nn.MaxPool2d(3, 2, 1)), (2, 9, 9)),
    "MaxPool k4 s2": (lambda: conv_net(nn.Conv2d(2, 4, 2), nn.MaxPool2d(4, 2)), (2, 9, 9)),
    "ReLU directly before MaxPool": (
        lambda: conv_net(nn.Conv2d(2, 4, 2), nn.ReLU(), nn.MaxPool2d(2, 2)), (2, 9, 9)
    ),
    "ReLU before an overlapping MaxPool": (
        lambda: conv_net(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)), (2, 9, 9)
    ),
    "resnet18": (lambda: trained(ResNet18()), (3, 40, 40)),
}  # fmt: skip


@functools.cache
def anchor(name: str) -> tuple[Converter, nn.Module]:
    module = seeded(ANCHORS[name][0])
    return Converter(module, input_dim=ANCHORS[name][1]), in_double(module)


@pytest.mark.parametrize("name", ANCHORS)
@pytest.mark.parametrize("reference", ["zeros", "drawn"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("double", 1e-10), ("float", 1e-5)])
def test_the_sum_holds(name, reference, dtype, tolerance):
    """Where captum, shap or zennit miss it by as much as the difference itself."""
    converter, original = anchor(name)
    dim = ANCHORS[name][1]
    (x,), (x_ref,) = draw([dim], 4), draw([dim], 1, seed=5)
    x_ref = x_ref * (reference == "drawn")
    found = run_deeplift(
        converter, x, x_ref=x_ref, winner_takes_all=False, ignore_last_act=False, **every(converter) | {"dtype": dtype}
    )
    goal = outputs(original, [x])[0] - outputs(original, [x_ref])[0]
    error = (total(found.result[0]).double() - goal).abs() / goal.abs().clamp(min=1)
    assert error.max() <= tolerance
    assert goal.abs().max() > 1e-2


@pytest.mark.parametrize("name", ANCHORS)
def test_a_sample_does_not_change_with_its_batch_mates(name):
    """Captum's softmax does, by twice the size of the answer."""
    converter, _ = anchor(name)
    dim = ANCHORS[name][1]
    (x,), (x_ref,) = draw([dim], 3), draw([dim], 1, seed=5)
    for keys in ({"winner_takes_all": False}, {"ignore_last_act": False}):
        alone = run_deeplift(converter, x[:1], x_ref=x_ref, **every(converter), **keys).result[0][0]
        for mates in (x[1:], 10 * x[1:2], x):
            together = run_deeplift(converter, torch.cat([mates, x[:1]]), x_ref=x_ref, **every(converter), **keys)
            torch.testing.assert_close(together.result[0][0][-1:], alone, rtol=1e-9, atol=1e-11)


class BiasFree(nn.Module):
    """Convolutions without biases, residual sums of two kinds, a re-used module, max and average pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.head = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2, 1)
        x = F.relu(self.block(x)) + x
        y = self.block(x)
        y += x
        return self.head(F.adaptive_avg_pool2d(F.relu(y), 1).flatten(1))


BIAS_FREE = {
    "residual": (lambda: ResidualNet(bias=False), (6,)),
    "residual, in place": (lambda: ResidualNet(bias=False, in_place=True), (6,)),
    "residual of convolutions": (BiasFree, (2, 8, 8)),
    "re-used linear": (lambda: OneLinear(bias=False), (6,)),
}


@pytest.mark.parametrize("name", BIAS_FREE)
def test_lrp_0_conserves_without_biases(name):
    """Zennit and captum double it at each sum."""
    make, dim = BIAS_FREE[name]
    module = seeded(make)
    converter = Converter(module, input_dim=dim)
    (x,) = draw([dim], 4)
    found = run_lrp(converter, x, **every(converter))
    (goal,) = outputs(in_double(module), [x])
    torch.testing.assert_close(total(found.result[0]), goal, rtol=1e-7, atol=1e-8)
    assert goal.abs().max() > 1e-2


def test_lrp_0_of_a_residual_net_written_out():
    """Conservation alone does not show that relevance goes to the right inputs: the same by hand."""
    module = seeded(lambda: ResidualNet(bias=False))
    a, b, c = (m.weight.detach().double() for m in (module.a, module.b, module.c))
    (x,) = draw([(6,)], 1)
    found = run_lrp(Converter(module, input_dim=6), x, **every(Converter(module, input_dim=6))).result[0][0][0]
    x = x[0]
    h = F.relu(a @ x)
    y = b @ h + h
    last = F.relu(y) + x
    for k in range(3):
        r_last = last * c[k]  # z_i R / z with R = z
        assert math.isclose(float(r_last.sum()), float(c[k] @ last), rel_tol=1e-12)
        r_y, r_x = r_last / 2, r_last / 2  # each term of a sum gets half
        r_product, r_h = r_y / 2, r_y / 2
        z = b @ h
        r_h = r_h + h * (b.T @ (r_product / (z + 1e-15 * z.sign())))
        z = a @ x
        r_x = r_x + x * (a.T @ (r_h / (z + 1e-15 * z.sign())))
        torch.testing.assert_close(found[:, k], r_x, rtol=1e-9, atol=1e-11)
