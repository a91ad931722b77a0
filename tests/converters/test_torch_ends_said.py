"""Modules that cannot be traced, and outputs that cannot be explained: true messages, and the way on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from innsight_py import Converter, SpecError, UnsupportedLayerError, run_grad, torch_grad
from innsight_py._errors import code_of

torch.manual_seed(11)
LINEAR = nn.Linear(3, 2)
X = torch.randn(4, 3)


class Answer(nn.Module):
    """A module that returns something made of its scores."""

    def __init__(self, what):
        super().__init__()
        self.inner, self.what = LINEAR, what

    def forward(self, x):
        return self.what(self.inner(x))


class Alone(nn.Module):
    """The wrapper that messages recommend."""

    def __init__(self, inner, key):
        super().__init__()
        self.inner, self.key = inner, key

    def forward(self, x):
        return self.inner(x)[self.key]


def message_of(model, dim=(3,)) -> str:
    with pytest.raises(SpecError) as error:
        Converter(model.eval(), input_dim=dim)
    return str(error.value)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (lambda y: None, "is None, which is no tensor"),
        (lambda y: 3.0, "is 3.0, which is no tensor"),
        (lambda y: 7, "is 7, which is no tensor"),
        (lambda y: "text", "is 'text', which is no tensor"),
        (lambda y: True, "is True, which is no tensor"),
        (lambda y: torch.ones(1, 2), "does not depend on its inputs"),
        (lambda y: y.argmax(-1), "torch.int64"),
        (lambda y: y > 0, "torch.bool"),
        (lambda y: torch.fft.fft(y), "'y.real', 'y.abs()'"),
        (lambda y: (), "it returns no output"),
    ],
    ids=["None", "number", "int", "text", "flag", "constant", "argmax", "truth", "complex", "nothing"],
)
def test_outputs_that_are_no_tensors(what, said):
    message = message_of(Answer(what))
    assert said in message
    assert message.startswith("Output 1 ")
    assert "report" not in message
    assert code_of(message) == "outputs-that-are-no-tensors"


@pytest.mark.parametrize(
    ("what", "said"),
    [(lambda y: y.sum().item(), "a number of Python"), (lambda y: y[y > 0], "the shape of a value")],
    ids=["item", "selection"],
)
def test_numbers_and_shapes_that_depend_on_the_data(what, said):
    message = message_of(Answer(what))
    assert said in message
    assert "depends on the data" in message
    assert code_of(message) == "control-flow"


@pytest.mark.parametrize(
    ("what", "key"),
    [(lambda y: (y, None), 0), (lambda y: {"scores": y, "n": 3}, "scores"), (lambda y: (1.0, y), 1)],
    ids=["tuple", "dict", "number first"],
)
def test_the_wrapper_works(what, key):
    model = Answer(what)
    assert "Wrap the module" in message_of(model)
    expected = run_grad(Converter(LINEAR, input_dim=(3,)), X).get_result("torch_tensor")
    found = run_grad(Converter(Alone(model, key), input_dim=(3,)), X).get_result("torch_tensor")
    assert torch.equal(found, expected)


def test_a_single_number_for_all_rows():
    message = message_of(Answer(lambda y: y.sum()))
    assert "a single number for all rows" in message
    assert "report" not in message
    assert Converter(Answer(lambda y: y.sum(1)), input_dim=(3,)).output_dim == [(1,)]


def test_a_model_that_answers_differently_each_time():
    """It draws from another source than torch, which no trace shows."""
    state = {"asked": 0}

    def drift(y):
        state["asked"] += 1
        return y + float(state["asked"])

    message = message_of(Answer(drift))
    assert "answers differently each time" in message
    assert "report" not in message


class Counter(nn.Module):
    """Counts its calls in a buffer; torch.export puts the change at the end."""

    def __init__(self):
        super().__init__()
        self.linear = LINEAR
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.linear(x) * self.calls


def test_a_buffer_that_counts_calls():
    model = Counter()
    message = message_of(model)
    assert "answers differently each time" in message
    assert "report" not in message
    assert model.calls == 0


def test_an_operator_that_nobody_knows():
    message = message_of(Answer(lambda y: torch.special.zeta(y.abs() + 2, y.abs() + 1)))
    assert "aten::special_zeta" in message
    assert "test_torch_ends_said.py" in message
    assert "torch_grad" in message
    assert code_of(message) == "torch-models"


@pytest.mark.parametrize(
    "function",
    [torch.special.bessel_j0, torch.special.airy_ai, lambda y: torch.special.gammainc(y.abs() + 1, y.abs() + 1)],
    ids=["bessel_j0", "airy_ai", "gammainc"],
)
def test_an_operator_of_which_torch_has_no_gradient(function):
    """Of some torch says so, others it takes for constants."""
    with pytest.raises(UnsupportedLayerError, match="torch has no gradient of the operator aten::") as error:
        run_grad(Converter(Answer(function), input_dim=(3,)), X)
    assert code_of(str(error.value)) == "no-rule"


class Branch(nn.Module):
    def forward(self, x):
        return LINEAR(x) if x.sum() > 0 else LINEAR(-x)


class Loop(nn.Module):
    def forward(self, x):
        while x.abs().max() > 1:
            x = x / 2
        return LINEAR(x)


@pytest.mark.parametrize("model", [Branch(), Loop()], ids=["if", "while"])
def test_control_flow_names_what_explains_it(model):
    message = message_of(model)
    assert code_of(message) == "control-flow"
    assert "depends on the data" in message
    assert "torch_grad(model, data)" in message
    assert torch_grad(model, X).shape == (4, 3, 2)


def test_numpy_within_a_module():
    message = message_of(Answer(lambda y: torch.from_numpy(y.detach().numpy())))
    assert code_of(message) == "control-flow"
    assert "if autograd can follow it" in message


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 3)

    def forward(self, words):
        return LINEAR(self.table(words).mean(1))


class Lookup(nn.Module):
    """Indexes a buffer with its input."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.randn(10, 3))

    def forward(self, words):
        return LINEAR(self.table[words].mean(1))


@pytest.mark.parametrize("model", [Words(), Lookup()], ids=["embedding", "index"])
def test_whole_numbers(model):
    message = message_of(model, (5,))
    assert code_of(message) == "whole-number-inputs"
    assert "explain the part of the module behind" in message


class Absent(nn.Module):
    def forward(self, x):
        return self.not_there(x)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.ModuleList([LINEAR]), "Give a module with a 'forward'"),
        (nn.ModuleDict({"a": LINEAR}), "Give a module with a 'forward'"),
        (Absent(), "Its 'forward' must run on zeros"),
        (nn.CrossEntropyLoss(), "one shape for each input"),
    ],
    ids=["list", "dict", "attribute", "loss"],
)
def test_modules_that_do_not_run(model, said):
    message = message_of(model)
    assert said in message
    assert code_of(message) == "input-shapes"


def test_a_lazy_layer():
    model = nn.Sequential(nn.LazyLinear(2))
    assert "run the module once on data" in message_of(model)
    with pytest.raises(SpecError, match="run the module once on data"):
        torch_grad(model, X)
    model(X)
    assert Converter(model, input_dim=(3,)).output_dim == [(2,)]


def test_a_shape_without_room():
    message = message_of(nn.Identity(), (10**12,))
    assert "no room" in message
    assert code_of(message) == "input-shapes"


def test_the_line_of_the_users_code_is_told():
    class Wrong(nn.Module):
        def forward(self, x):
            return LINEAR(x) @ torch.ones(5, 2)

    message = message_of(Wrong())
    assert code_of(message) == "input-shapes"
    assert "RuntimeError" in message


@pytest.mark.parametrize("width", [5, 2])
def test_a_model_that_makes_several_rows_of_one_is_told_so(width):
    class Rows(nn.Module):
        def forward(self, x):
            return x.reshape(-1, width)

    with pytest.raises(
        ValueError, match=rf"for one instance the original returns {10 // width} rows\. .*\(len\(x\), -1\)"
    ):
        Converter(Rows(), input_dim=(10,))


@pytest.mark.parametrize(
    ("what", "index"),
    [(lambda y: (y, None), 0), (lambda y: (1.0, y), 1), (lambda y: {"n": y.sum(), "scores": y}, 1)],
    ids=["none", "number first", "sum"],
)
def test_the_choice_of_an_output_works(what, index):
    model = Answer(what)
    assert f"Converter(..., output={index})" in message_of(model)
    expected = run_grad(Converter(LINEAR, input_dim=(3,)), X).get_result("torch_tensor")
    found = run_grad(Converter(model, input_dim=(3,), output=index), X).get_result("torch_tensor")
    assert torch.equal(found, expected)
