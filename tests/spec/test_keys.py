"""Names of inputs and output layers of models that are not Keras's: specs, PyTorch modules and programs, archives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from innsight_py import Converter, SpecError, run_grad
from innsight_py.cli.data import load
from innsight_py.spec.keys import unique_keys

SPEC = {
    "input_dim": [[2], [3]],
    "layers": [
        {"type": "Dense", "weight": [[1.0, 2.0]], "name": "one"},
        {"type": "Dense", "weight": [[1.0, 2.0, 3.0]], "inputs": ["input_2"], "name": "two"},
    ],
    "outputs": ["one", "two"],
}


class Answers(NamedTuple):
    kind: torch.Tensor
    size: torch.Tensor


class Two(nn.Module):
    """Takes two tensors, and returns two in some structure."""

    def __init__(self, structure=lambda kind, size: {"kind": kind, "size": size}):
        super().__init__()
        self.left, self.right, self.structure = nn.Linear(2, 2), nn.Linear(3, 1), structure

    def forward(self, table, dose):
        return self.structure(torch.tanh(self.left(table)), self.right(dose))


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return {"dose": rng.normal(size=(4, 3)), "table": rng.normal(size=(4, 2))}


# -- specs ------------------------------------------------------------------------------------------------------


def test_without_names():
    converter = Converter(SPEC)
    assert converter.input_keys == ["input_1", "input_2"]
    assert converter.output_keys == ["output_1", "output_2"]
    assert "Input layer 1:" in str(converter)
    assert "input_keys" not in Converter(SPEC, save_model_as_dict=True).model_as_dict


def test_names_of_a_spec():
    named = SPEC | {"input_keys": ["a", "b"], "output_keys": ["y", "z"]}
    converter = Converter(named, save_model_as_dict=True)
    assert (converter.input_keys, converter.output_keys) == (["a", "b"], ["y", "z"])
    assert Converter(converter.model_as_dict).input_keys == ["a", "b"]
    assert "Input layer 2 ('b'):" in str(converter)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_keys": ["a"]}, r"'input_keys': expected 2 name\(s\), got 1"),
        ({"input_keys": ["a", "a"]}, "'input_keys': a name is there twice"),
        ({"input_keys": ["a", 1]}, "'input_keys': expected a list of names"),
        ({"input_keys": "ab"}, "'input_keys': expected a list of names"),
        ({"input_keys": ["a", ""]}, "'input_keys': expected a list of names"),
        ({"output_keys": ["a", "b", "c"]}, r"'output_keys': expected 2 name\(s\), got 3"),
    ],
)
def test_wrong_names_of_a_spec(change, message):
    with pytest.raises(SpecError, match=message):
        Converter(SPEC | change)


def test_an_input_without_effect_is_called_by_its_name():
    with pytest.warns(UserWarning, match="'spare' reaches no output of the model"):
        Converter(SPEC | {"outputs": ["one"], "layers": SPEC["layers"][:1], "input_keys": ["used", "spare"]})


def test_names_that_come_again():
    assert unique_keys(["a", "a_2", "a", "a"]) == ["a", "a_2", "a_3", "a_4"]


# -- PyTorch ----------------------------------------------------------------------------------------------------


def check(converter, module, data):
    assert converter.input_keys == ["table", "dose"]
    listed = [torch.tensor(data[key]).float() for key in ("table", "dose")]
    found = run_grad(converter, data, output_idx=[[0, 1], [0]])
    expected = run_grad(converter, listed, output_idx=[[0, 1], [0]])
    out = module(*listed)
    for i, theirs in enumerate(out.values() if isinstance(out, dict) else out):
        torch.testing.assert_close(found.preds[i], theirs.detach())
        assert all(torch.equal(a, b) for a, b in zip(found.result[i], expected.result[i], strict=True) if a is not None)


@pytest.mark.parametrize(
    ("structure", "keys"),
    [
        (lambda kind, size: {"kind": kind, "size": size}, ["kind", "size"]),
        (lambda kind, size: {"size": kind, "kind": size}, ["size", "kind"]),  # as the module has them, not sorted
        (Answers, ["kind", "size"]),
        (lambda kind, size: (kind, size), ["output_1", "output_2"]),
        (lambda kind, size: {"a": [kind], "b": {"c": size}}, ["a", "b"]),
        (lambda kind, size: {"a": [kind, size]}, ["output_1", "output_2"]),
        (lambda kind, size: {1: kind, 2: size}, ["output_1", "output_2"]),
    ],
    ids=["dict", "dict in another order", "named tuple", "tuple", "nested", "two in one", "numbers"],
)
def test_module(structure, keys, data):
    module = Two(structure).eval()
    converter = Converter(module, input_dim=[(2,), (3,)])
    assert converter.output_keys == keys
    if keys[0] in ("kind", "size") or structure(0, 0) == (0, 0):
        check(converter, module, data)


def test_module_without_names():
    class Any(Two):
        def forward(self, *inputs):
            return super().forward(*inputs)

    assert Converter(Any().eval(), input_dim=[(2,), (3,)]).input_keys == ["input_1", "input_2"]


def test_module_with_arguments_left_out():
    class More(Two):
        def forward(self, table, dose, scale: float = 2.0):
            return {key: scale * x for key, x in super().forward(table, dose).items()}

    assert Converter(More().eval(), input_dim=[(2,), (3,)]).input_keys == ["table", "dose"]


def test_program(data):
    module = Two().eval()
    program = torch.export.export(module, (torch.zeros(1, 2), torch.zeros(1, 3)))
    converter = Converter(program)
    assert module.left.weight.dtype == program.state_dict["left.weight"].dtype == torch.float32
    assert converter.output_keys == ["kind", "size"]
    check(converter, module, data)


# -- archives ---------------------------------------------------------------------------------------------------


def test_archive_with_arrays_of_these_names(data, tmp_path):
    converter = Converter(Two().eval(), input_dim=[(2,), (3,)])
    path = tmp_path / "data.npz"
    np.savez(path, **data)  # the dose first
    found = load([path], converter, None, (0.0, 1.0), "auto").inputs
    for x, key in zip(found, ("table", "dose"), strict=True):
        np.testing.assert_array_equal(x, data[key])
    np.savez(path, x=data["table"], y=data["dose"])  # other names: as they come
    np.testing.assert_array_equal(load([path], converter, None, (0.0, 1.0), "auto").inputs[0], data["table"])
    with np.load(tmp_path / "data.npz") as archive, pytest.raises(ValueError, match="the model has no input 'x'"):
        run_grad(converter, archive)
