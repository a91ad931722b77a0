"""Modules as people call them: examples, outputs of any structure, functions, channels last."""

from __future__ import annotations

import functools
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from innsight_py import Converter, run_deeplift, run_grad
from innsight_py.spec import SpecError

Pair = namedtuple("Pair", ["logits", "hidden"])


@dataclass
class Output:
    logits: Tensor
    hidden: Tensor
    loss: Tensor | None = None


class Heads(nn.Module):
    """Returns what the caller asks for, as libraries do."""

    def __init__(self, kind):
        super().__init__()
        self.body, self.head, self.kind = nn.Linear(4, 5), nn.Linear(5, 3), kind

    def encode(self, x):
        return torch.tanh(self.body(x))

    def forward(self, x, scale=1.0):
        hidden = self.encode(x)
        logits = self.head(hidden) * scale
        if self.kind == "dict":
            return {"logits": logits, "hidden": hidden, "loss": (logits**2).mean(), "names": ["a"]}
        return {"dataclass": Output, "tuple": lambda *both: both, "named": Pair}[self.kind](logits, hidden)


class Segmentation(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 4, 3, 2, 1), nn.ConvTranspose2d(4, 2, 2, 2)

    def forward(self, x):
        y = self.up(torch.relu(self.down(x)))
        return {"out": y, "aux": y.argmax(1)}


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def made(module):
    torch.manual_seed(1)
    return module().double().eval()


def gradient(function, x, pick):
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(function(leaf)[(slice(None), *pick)].sum(), leaf)[0]


def agrees(converter, function, x, nodes):
    """Compare outputs and gradients with torch's, and sums of DeepLift with what they promise."""
    with torch.no_grad():
        expected = function(x)
        assert torch.allclose(converter.model(x)[0], expected.flatten(1), rtol=0, atol=1e-12)
        goal = expected - function(torch.zeros_like(x[:1]))
    found = run_grad(converter, x, dtype="double", ignore_last_act=False, output_idx=nodes)
    for k, node in enumerate(nodes):
        pick = node if isinstance(node, tuple) else (node,)
        mine = found.get_result("torch_tensor")[..., k]
        assert torch.allclose(mine, gradient(function, x, pick), rtol=0, atol=1e-12)
        lift = run_deeplift(converter, x, dtype="double", ignore_last_act=False, output_idx=[node])
        total = lift.get_result("torch_tensor").flatten(1).sum(1)
        assert torch.allclose(total, goal[(slice(None), *pick)], rtol=0, atol=1e-10)
    return found


def test_a_tuple_has_no_names():
    with pytest.raises(SpecError, match="has no entry 'logits'"):
        Converter(made(lambda: Heads("tuple")), example=torch.zeros(1, 4), output="logits")


@pytest.mark.parametrize(
    ("kind", "output"),
    [
        (kind, output)
        for kind in ("dict", "dataclass", "tuple", "named")
        for output in ("logits", 0, lambda y: y, "two")
        if (kind, output) != ("tuple", "logits")
    ],
)
def test_one_of_many_outputs(kind, output):
    model = made(lambda: Heads(kind))
    first = {"dict": lambda y: y["logits"], "dataclass": lambda y: y.logits}.get(kind, lambda y: y[0])
    if output == 0 and kind == "dataclass":
        output = "logits"
    if callable(output):
        output = lambda y: first(y)[:, 1:] - first(y)[:, :1]  # noqa: E731
        expected = lambda x: output(model(x))  # noqa: E731
    elif output == "two":
        output = {"a": first, "b": lambda y: first(y).sum(1, keepdim=True)}
        expected = lambda x: first(model(x))  # noqa: E731
    else:
        expected = lambda x: first(model(x))  # noqa: E731
    converter = Converter(model, example=torch.zeros(2, 4), output=output, dtype="double")
    if isinstance(output, dict):
        assert converter.output_keys == ["a", "b"]
    assert converter.input_keys == ["x"]
    agrees(converter, expected, torch.randn(3, 4).double(), [0, 1])


def test_all_tensors_of_a_dataclass_have_names():
    converter = Converter(made(lambda: Heads("dataclass")), example=torch.zeros(1, 4))
    assert converter.output_keys == ["logits", "hidden"]


def test_keyword_arguments_as_a_user_gives_them():
    model = made(lambda: Heads("tuple"))
    converter = Converter(model, example={"x": np.zeros((5, 4)), "scale": 3.0}, output=0, dtype="double")
    agrees(converter, lambda x: model(x, scale=3.0)[0], torch.randn(3, 4).double(), [0, 2])


def test_functions_bound_methods_and_partials():
    model = made(lambda: Heads("tuple"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    other = nn.Linear(5, 2).double()
    called = (model.encode, lambda x: other(model.encode(x)), functools.partial(lambda m, x: m.encode(x), model))
    x = torch.randn(3, 4).double()
    for function in called:
        converter = Converter(function, example=x, dtype="double")
        agrees(converter, function, x, [0, 1])
        assert converter.model.nodes[0].name.endswith("body")
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_values_of_one_number_a_row():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 1)

        def forward(self, x, weight):
            return self.layer(x).squeeze(1) * weight

    model = made(Sum)
    converter = Converter(model, example=(torch.zeros(2, 4), torch.ones(2)), dtype="double")
    assert converter.input_dim == [(4,), (1,)]
    assert converter.input_keys == ["x", "weight"]
    x, weight = torch.randn(3, 4).double(), torch.randn(3, 1).double()
    assert torch.allclose(converter.model(x, weight)[0][:, 0], model(x, weight[:, 0]), rtol=0, atol=1e-12)


def test_a_map_is_an_output_of_several_axes(tmp_path):
    model = made(Segmentation)
    names = [["sky", "road"], [f"r{i}" for i in range(6)], [f"c{i}" for i in range(8)]]
    converter = Converter(model, example=torch.zeros(1, 3, 6, 8), output="out", output_names=names, dtype="double")
    assert converter.outputs[0].kind == "image"
    assert converter.output_dim == [(2, 6, 8)]
    x = torch.randn(2, 3, 6, 8).double()
    found = agrees(converter, lambda x: model(x)["out"], x, [(1, 2, 3), (0, 5, 7)])
    assert found.output_idx == [[(1, 2, 3), (0, 5, 7)]]
    assert list(found.get_result("data.frame")["output_node"].unique()) == ["road, r2, c3", "sky, r5, c7"]
    assert found.plot(output_idx=[(0, 5, 7)]).frame.nodes == ["sky, r5, c7"]
    same = run_grad(converter, x, output_label=[("road", "r2", "c3")])
    assert same.output_idx == [[(1, 2, 3)]]
    repr(found), repr(converter)
    converter.save(tmp_path / "map.safetensors")
    loaded = Converter.load(tmp_path / "map.safetensors")
    assert loaded.outputs == converter.outputs


def test_without_a_choice_the_three_ways_are_shown():
    converter = Converter(made(Segmentation), example=torch.zeros(1, 3, 6, 8), output="out")
    with pytest.raises(ValueError, match="none is chosen") as caught:
        run_grad(converter, torch.zeros(1, 3, 6, 8))
    for way in ("output_idx=[(0, 0, 0)]", "y.mean((2, 3))", "y.flatten(1)"):
        assert way in str(caught.value)
    with pytest.raises(ValueError, match="one number for each"):
        run_grad(converter, torch.zeros(1, 3, 6, 8), output_idx=[(2, 0, 0)])


def test_a_function_of_a_map():
    model = made(Segmentation)
    choose = lambda y: y["out"].mean((2, 3))  # noqa: E731
    converter = Converter(model, example=torch.zeros(1, 3, 6, 8), output=choose, dtype="double")
    agrees(converter, lambda x: choose(model(x)), torch.randn(2, 3, 6, 8).double(), [0, 1])


def test_a_series_with_its_features_last():
    """Time is the axis of the picture, features are its rows."""
    model = made(Recurrent)
    names = [["load", "temperature", "wind"], [f"{h}:00" for h in range(5)]]
    converter = Converter(
        model, example=torch.zeros(1, 5, 3), channels_first=False, input_names=names, dtype="double"
    )  # fmt: skip
    assert converter.input_dim == [(3, 5)]
    assert not converter.channels_first
    x = torch.randn(2, 5, 3).double()
    found = run_grad(converter, x, dtype="double", output_idx=[1])
    expected = gradient(model, x, (1,))
    assert torch.allclose(found.get_result("torch_tensor")[..., 0], expected, rtol=0, atol=1e-12)
    frame = found.get_result("data.frame")
    row = frame[(frame["channel"] == "wind") & (frame["feature"] == "3:00") & (frame["data"] == "data_1")]
    assert row["value"].item() == pytest.approx(float(expected[0, 3, 2]))
    assert found.plot().frame.panels[0, 0, 0].axes[0].labels == tuple(names[1])
    with pytest.raises(ValueError, match=r"expected the shape \(\*, 5, 3\)"):
        run_grad(converter, torch.zeros(2, 4, 3))


@pytest.mark.parametrize(
    ("example", "match"),
    [
        (3.0, "expected a tensor, a tuple or a dict"),
        ((torch.zeros(2, 4), torch.zeros(3, 4)), "as many rows"),
        (torch.zeros(0, 4), "one row or more"),
        ({"x": torch.zeros(2, 4), "nothing": 1}, r"'example': the model takes \(x, scale=1.0\), .*'nothing'"),
        ({"scale": torch.zeros(2, 4)}, "'example': the model takes .* missing .*'x'"),
        ((torch.zeros(2, 4),) * 3, "'example': the model takes .* too many positional"),
    ],
)
def test_examples_that_cannot_be(example, match):
    with pytest.raises((TypeError, ValueError), match=match):
        Converter(made(lambda: Heads("tuple")), example=example)


@pytest.mark.parametrize("output", [lambda: 3, lambda y: y["nothing"], {"a": lambda y: y[0].reshape(7)}])
def test_a_function_of_the_output_that_raises(output):
    with pytest.raises(ValueError, match=r"'output': the function raises \w+ on what the module returns, tuple"):
        Converter(made(lambda: Heads("tuple")), example=torch.zeros(2, 4), output=output)


@pytest.mark.parametrize("example", [torch.zeros(2, 7), {"x": torch.zeros(2, 7)}, (torch.zeros(2, 7), 2.0)])
def test_an_example_that_the_module_cannot_take(example):
    """The way on is about the example: nobody has given shapes."""
    with pytest.raises(SpecError, match="'example' is what you call the module with") as caught:
        Converter(made(lambda: Heads("tuple")), example=example)
    assert "input_dim" not in str(caught.value)


def test_names_and_labels_that_are_whole_numbers():
    converter = Converter(nn.Linear(3, 2), input_dim=3, input_names=range(3), output_names=[10, 20])
    assert converter.input_names == [[["0", "1", "2"]]]
    assert converter.output_names == [[["10", "20"]]]


@dataclass
class Both:
    first: Tensor
    second: Tensor


Named = namedtuple("Named", ["first", "second"])


class Structured(nn.Module):
    """Takes two tensors in a structure, and a number for each row."""

    def __init__(self, take):
        super().__init__()
        self.take, self.head = take, nn.Linear(4, 2)

    def forward(self, given, weight):
        first, second = self.take(given)
        return self.head(first * torch.sin(second)) * weight[:, None]


def first_and_second(x):
    return x.first, x.second


STRUCTURES = {
    "dataclass": (Both, first_and_second),
    "named": (Named, first_and_second),
    "dict": (lambda a, b: {"first": a, "second": b}, lambda x: (x["first"], x["second"])),
    "deep": (lambda a, b: {"x": {"first": a}, "y": (b, "text")}, lambda x: (x["x"]["first"], x["y"][0])),
    "tuple": (lambda a, b: (a, b), tuple),
}


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("kind", STRUCTURES)
def test_data_come_as_the_module_is_called(kind, by_name):
    make, take = STRUCTURES[kind]
    first, second, weight = torch.randn(3, 4), torch.randn(3, 4), torch.rand(3)
    called = {"weight": weight, "given": make(first, second)} if by_name else (make(first, second), weight)
    converter = Converter(Structured(take), example=called)
    order = [2, 0, 1] if by_name else [0, 1, 2]
    flat = [[first, second, weight[:, None]][i] for i in order]
    result = run_deeplift(converter, called, x_ref=called)
    assert max(float(x.abs().max()) for x in result.result[0]) == 0
    found, expected = run_grad(converter, called).result[0], run_grad(converter, flat).result[0]
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0)


def test_a_structure_that_is_the_only_argument():
    converter = Converter(lambda x: x.first * x.second, example=Both(torch.randn(2, 3), torch.randn(2, 3)))
    assert converter.input_keys == ["x.first", "x.second"]
    result = run_grad(converter, Both(torch.randn(4, 3), torch.randn(4, 3)))
    assert result.get_result()["Input_1"].shape == (4, 3, 3)


@pytest.mark.parametrize("make", [torch.tensor, np.array, list, pd.Series])
def test_numbers_that_are_one_a_row(make):
    converter = Converter(lambda x, y: x * y**2, example=(torch.randn(5), torch.randn(5)))
    result = run_grad(converter, (make([1.0, 2.0]), make([3.0, 4.0])))
    np.testing.assert_allclose(result.get_result()["Input_2"].ravel(), [6.0, 16.0], rtol=1e-6)
