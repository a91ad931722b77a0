"""What newcomers try first: arguments by their names elsewhere, a model for a converter, swapped arguments."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import innsight_py
from innsight_py import Converter, UnsupportedLayerError
from innsight_py._errors import code_of
from innsight_py._foreign import _BY_NAME, _INSTEAD

torch.manual_seed(5)
NET = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
CONVERTER = Converter(NET, input_dim=(3,))
DATA = torch.randn(5, 3)
RESULT = innsight_py.run_grad(CONVERTER, DATA)


def message_of(call, *args, kind=(TypeError, ValueError), **kwargs) -> str:
    with pytest.raises(kind) as error:
        call(*args, **kwargs)
    return str(error.value)


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "theirs", "ours", "value"),
    [
        ("run_deeplift", "baselines", "x_ref", DATA[:1]),
        ("run_deeplift", "baseline", "x_ref", DATA[:1]),
        ("run_deepshap", "baselines", "data_ref", DATA),
        ("run_deepshap", "background", "data_ref", DATA),
        ("run_expgrad", "background_data", "data_ref", DATA),
        ("run_intgrad", "n_steps", "n", 200),
        ("run_intgrad", "steps", "n", 200),
        ("run_intgrad", "multiply_by_inputs", "times_input", False),
        ("run_intgrad", "internal_batch_size", "batch_size", 2),
        ("run_smoothgrad", "stdevs", "noise_level", 0.1),
        ("run_smoothgrad", "nt_samples", "n", 3),
        ("run_smoothgrad", "random_state", "seed", 1),
        ("run_lrp", "rule", "rule_name", "epsilon"),
        ("run_lrp", "epsilon", "rule_param", 0.01),
        ("run_grad", "inputs", "data", DATA),
        ("run_grad", "X", "data", DATA),
        ("torch_grad", "input", "data", DATA),
        ("torch_intgrad", "baselines", "x_ref", DATA[:1]),
        ("torch_intgrad", "n_steps", "n", 200),
    ],
)
def test_names_of_other_packages(method, theirs, ours, value):
    function, first = getattr(innsight_py, method), NET if method.startswith("torch") else CONVERTER
    data = () if ours == "data" else (DATA,)
    message = message_of(function, first, *data, **{theirs: value})
    assert f"has no argument '{theirs}'; it is called '{ours}' here." in message
    assert code_of(message) == "names-of-other-packages"
    rule = {"rule_name": "epsilon"} if ours == "rule_param" else {}
    function(first, *data, **{ours: value}, **rule)  # the way on


def test_a_target():
    """What captum calls the output to be explained; `target` itself where a method has it."""
    message = message_of(innsight_py.run_grad, CONVERTER, DATA, class_idx=1)
    (ours,) = re.findall(r"it is called '(\w+)' here", message)
    assert innsight_py.run_grad(CONVERTER, DATA, **{ours: 1}).get_result().shape == (5, 3, 1)


def test_arguments_of_the_converter_that_a_method_is_given():
    for name in ("input_dim", "device", "class_names", "feature_names"):
        message = message_of(innsight_py.run_grad, CONVERTER, DATA, **{name: None})
        assert "give it to Converter" in message
        (own,) = re.findall(r"as '(\w+)'", message)
        assert own in message_of(Converter, NET, nothing=1)  # it lists what it takes


def test_what_has_no_counterpart_says_what_to_do():
    own = inspect.signature(innsight_py.IntegratedGradient).parameters
    for name in _INSTEAD:
        call, model = (innsight_py.torch_intgrad, NET) if name in own else (innsight_py.run_intgrad, CONVERTER)
        message = message_of(call, model, DATA, **{name: True})
        assert _INSTEAD[name] in message


def test_no_name_of_ours_is_taken_for_theirs():
    """A name that some callable of ours has is looked up there first, and never points to itself."""
    for theirs, ours in _BY_NAME.items():
        assert theirs not in ours or theirs == "target"


def test_a_typing_error():
    assert "did you mean 'output_idx'?" in message_of(innsight_py.run_grad, CONVERTER, DATA, output_idxs=1)


def test_a_missing_argument():
    message = message_of(innsight_py.run_deeplift, CONVERTER)
    assert "DeepLift needs the argument 'data': DeepLift(converter, data)." in message
    message = message_of(innsight_py.run_deeplift)
    assert "needs the argument 'converter'" in message


@pytest.mark.parametrize(
    ("value", "own"),
    [(torch.float64, "double"), (torch.float32, "float"), (np.float64, "double"), ("float64", "double"),
     ("float32", "float"), (np.dtype("float32"), "float")],
    ids=str,
)  # fmt: skip
def test_precision(value, own):
    for call in (lambda **a: innsight_py.run_grad(CONVERTER, DATA, **a), lambda **a: Converter(NET, (3,), **a)):
        assert f"Write dtype='{own}'." in message_of(call, dtype=value)
        call(dtype=own)


def test_no_advice_for_other_precisions():
    assert "Write" not in message_of(innsight_py.run_grad, CONVERTER, DATA, dtype=torch.float16)


@pytest.mark.parametrize("value", ["50", 50.0, None, [50]], ids=repr)
def test_a_number_of_another_kind(value):
    message = message_of(innsight_py.run_intgrad, CONVERTER, DATA, n=value)
    assert "Argument 'n': expected a whole number" in message
    assert code_of(message) == "arguments"


# -- models and data in the wrong place --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["run_deeplift", "run_grad", "run_lrp", "run_intgrad"])
@pytest.mark.parametrize("model", [NET, NET.state_dict(), "net.pt", None], ids=["module", "dict", "path", "None"])
def test_a_model_for_a_converter(method, model):
    message = message_of(getattr(innsight_py, method), model, DATA)
    assert "Make one of the model first: converter = Converter(model, input_dim=...)" in message
    assert code_of(message) == "converter-first"


@pytest.mark.parametrize("data", [DATA, DATA.numpy(), pd.DataFrame(DATA.numpy())], ids=["tensor", "array", "frame"])
def test_data_for_a_converter(data):
    assert "The converter comes first" in message_of(innsight_py.run_deeplift, data, CONVERTER)
    assert "The model comes first" in message_of(innsight_py.torch_grad, data, NET)


def test_a_converter_for_a_module():
    assert "run_grad(converter, data)" in message_of(innsight_py.torch_grad, CONVERTER, DATA)


# -- modules as they are -----------------------------------------------------------------------------------------------


class Returning(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.inner, self.what = NET, what

    def forward(self, x):
        return self.what(self.inner(x))


@pytest.mark.parametrize("function", ["torch_grad", "torch_intgrad", "torch_smoothgrad"])
@pytest.mark.parametrize("wrap", [list, tuple])
def test_a_list_around_a_batch(function, wrap):
    message = message_of(getattr(innsight_py, function), NET, wrap([DATA, DATA]))
    assert "a list is read as one instance an entry" in message
    assert "one array of all instances" in message


def test_a_list_of_rows_is_data():
    rows = list(DATA)
    assert torch.equal(innsight_py.torch_grad(NET, rows), innsight_py.torch_grad(NET, DATA))


def test_one_instance_without_a_batch():
    message = message_of(innsight_py.torch_grad, NET, DATA[0])
    assert "in front: x[None]." in message


@pytest.mark.parametrize("answer", [3.0, None, "text", {"scores": 1}, (1, 2)], ids=repr)
def test_a_module_that_returns_no_tensor(answer):
    message = message_of(innsight_py.torch_grad, Returning(lambda y: answer), DATA)
    assert "must return a single tensor" in message
    assert "bug" not in message


def test_a_module_that_returns_a_map():
    message = message_of(innsight_py.torch_grad, nn.Conv1d(1, 2, 3), torch.randn(2, 1, 5))
    (wrapped,) = re.findall(r"(torch\.nn\.Sequential\(.+?\)\))", message)
    model = eval(wrapped, {"torch": torch, "model": nn.Conv1d(1, 2, 3)})  # noqa: S307
    assert innsight_py.torch_grad(model, torch.randn(2, 1, 5)).shape == (2, 1, 5, 6)


def test_an_operation_without_a_gradient():
    message = message_of(innsight_py.torch_grad, Returning(lambda y: torch.floor_divide(y, 0.5)), DATA)
    assert "floor_divide" in message
    assert code_of(message) == "modules-as-they-are"


def test_whole_numbers():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(10, 3)

        def forward(self, words):
            return NET(self.table(words).mean(1))

    words = torch.tensor([[1, 4, 2]])
    for call in (lambda: innsight_py.torch_grad(Words(), words), lambda: Converter(Words(), input_dim=(3,))):
        message = message_of(call)
        assert code_of(message) == "whole-number-inputs"
        assert "explain the part of the module behind" in message


# -- layers without a rule ---------------------------------------------------------------------------------------------


def test_a_refusal_names_what_works():
    """LRP has no rule for a softmax within the model, DeepLift has one; neither has one for a sort."""
    gated = Converter(nn.Sequential(nn.Linear(3, 3), nn.Softmax(-1), nn.Linear(3, 2)), input_dim=(3,))
    message = message_of(innsight_py.run_lrp, gated, DATA, kind=UnsupportedLayerError)
    assert "DeepLift has one, and the gradient methods" in message
    assert code_of(message) == "no-rule"
    innsight_py.run_deeplift(gated, DATA)
    innsight_py.run_grad(gated, DATA)
    ordered = Converter(Returning(lambda y: y.sort(-1).values), input_dim=(3,))
    for method in (innsight_py.run_lrp, innsight_py.run_deeplift):
        message = message_of(method, ordered, DATA, kind=UnsupportedLayerError)
        assert "DeepLift has one" not in message
        assert "The gradient methods" in message
    innsight_py.run_grad(ordered, DATA)


# -- results -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "own"),
    [("pandas", "data.frame"), ("dataframe", "data.frame"), ("df", "data.frame"), ("numpy", "array"),
     ("torch", "torch_tensor"), ("tensor", "torch_tensor")],
)  # fmt: skip
def test_forms_of_results(kind, own):
    message = message_of(RESULT.get_result, kind)
    assert f"write '{own}'" in message
    assert code_of(message) == "results"
    RESULT.get_result(own)


def test_a_label_in_another_case():
    assert "did you mean 'Y1'?" in message_of(innsight_py.run_grad, CONVERTER, DATA, output_label="y1")


def test_a_call_of_the_converted_model():
    for x, code in ((DATA.double(), "numbers-only"), (DATA.numpy(), "numbers-only"), (DATA[:, :2], "data-shapes")):
        assert code_of(message_of(CONVERTER.model, x)) == code
    assert "Write x.to(torch.float32)" in message_of(CONVERTER.model, DATA.double())
