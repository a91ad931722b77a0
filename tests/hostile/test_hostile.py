"""Hostile input: every argument of every public name, with values generated from what it is declared to be.

A value is either right, and then the answer is that for the same numbers as a plain array, or it is refused with a
TypeError or ValueError that names the argument, before the model is run. Nothing handed in is changed.
"""

from __future__ import annotations

import copy
import inspect
import json
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
import wrong_arguments
import wrong_results
from wrong_arguments import BASE, BOUNDS, SPEC, WHOLE, arguments_of, kind_of, public_callables, table

import innsight_py
from innsight_py import Converter
from innsight_py.model.graph import Graph

pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")

PUBLIC = public_callables()
ARGUMENTS = [
    (name, argument) for name, thing in PUBLIC.items() for argument in arguments_of(thing) if argument != "arguments"
]
TORCH = {"torch_grad", "torch_intgrad", "torch_smoothgrad", "torch_expgrad"}
AGNOSTIC = {"AgnosticWrapper", "LIME", "SHAP", "run_lime", "run_shap"}
METHODS = {
    name for name in PUBLIC if "." not in name and next(iter(inspect.signature(PUBLIC[name]).parameters)) == "converter"
}


class Module(torch.nn.Module):
    """Counts how often it is run."""

    runs = 0

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, x):
        answer = torch.tanh(self.layer(x))
        Module.runs += 1
        return answer


def predictor(rows):
    """Count how often it is asked."""
    answer = rows**2 @ np.array([[1.0, -2.0], [0.5, 1.0], [2.0, 3.0]])
    assert answer.ndim == 2
    Module.runs += 1
    return answer


def needed_by(method: str, *layers: str) -> dict:
    """Return what a method needs besides a converter and data."""
    if method in ("ConnectionWeights", "run_cw"):
        return {"times_input": True}
    return {"layer": list(layers)} if method in ("Conductance", "run_conductance", "GradCAM", "run_gradcam") else {}


def several(method: str, **keys) -> Converter:
    """Return a converter of a model with two inputs, with convolutions for a method that needs some."""
    if "cam" in method.lower():
        layers = [
            {"type": "Reshape", "shape": [1, 2], "name": "row"},
            {"type": "Conv1D", "weight": [[[1.0, 2.0]]], "name": "one"},
            {"type": "Reshape", "shape": [1, 3], "inputs": ["input_2"], "name": "column"},
            {"type": "Conv1D", "weight": [[[1.0, 2.0, 3.0]]], "name": "two"},
            {"type": "Add", "inputs": ["one", "two"]},
            {"type": "Flatten"},
        ]
    else:
        layers = [
            {"type": "Dense", "weight": [[1.0, 2.0]], "name": "one"},
            {"type": "Dense", "weight": [[1.0, 2.0, 3.0]], "inputs": ["input_2"], "name": "two"},
            {"type": "Add", "inputs": ["one", "two"]},
        ]
    return Converter({"input_dim": [[2], [3]], "layers": layers, **keys})


def arguments_for(name: str, argument: str = "") -> dict:
    """Return good arguments, with which the call works; for one that only some models take, with such a model."""
    if name in METHODS:
        return {"converter": table(name), "data": BASE, **needed_by(name, "Dense_1")}
    if name in TORCH:
        torch.manual_seed(1)
        return {"model": Module(), "data": BASE}
    if name in AGNOSTIC:
        return {"model": predictor, "data": BASE, **({"n_permutations": 20} if "lime" in name.lower() else {})}
    if name in ("Converter", "convert"):
        own = {"input_dim": 3} if argument in ("output", "fixed") else {}
        return {"model": torch.nn.Linear(3, 2), **own} if own or argument == "example" else {"model": SPEC}
    if name.startswith(("rules.", "composites.")):
        return {bound: BOUNDS[bound] for bound in BOUNDS if bound in arguments_of(PUBLIC[name])}
    if name == "as_explanation":
        return wrong_results.of_as_explanation(argument)
    return OTHERS[name]()


R_MODEL = {
    "input_dim": 2, "input_nodes": 1, "output_nodes": 1,
    "layers": [
        {"type": "Dense", "weight": [[1.0, 2.0]], "bias": [0.0], "activation_name": "relu", "input_layers": 0,
         "output_layers": -1}
    ],
}  # fmt: skip
ROWS_OF_TABLE = pa.table({f"X{n + 1}": column for n, column in enumerate(BASE.T)})
OTHERS = {
    "from_r": lambda: {"model": R_MODEL},
    "read_r_model": lambda: {"path": "r_model.json"},
    "read_neuralnet": lambda: {"path": "penguins.rds"},
    "explain_batches": lambda: {"model": table(), "schema": ROWS_OF_TABLE.schema},
    "explain_dataset": lambda: {"model": table(), "source": ROWS_OF_TABLE, "output": "explained"},
    "load_explanations": lambda: {"path": "explained"},
    "Converter.save": lambda: {"path": "model.safetensors"},
    "Converter.load": lambda: {"path": "model.safetensors"},
    "Converter.show_rules": dict,
    "Explanation.get_result": dict,
    "Explanation.summary": dict,
    "Explanation.plot": dict,
    "Explanation.plot_global": dict,
    "Explanation.boxplot": dict,
    **wrong_results.GOOD,
}


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r_model.json").write_text(json.dumps(R_MODEL))


TEXTS = wrong_results.text_result()


def call(name: str, **arguments):
    thing = PUBLIC[name]
    if name.startswith("Explanation."):
        return thing(TEXTS if name == "Explanation.text" else wrong_results.RESULT, **arguments)
    if name in ("Converter.save", "Converter.show_rules"):
        return thing(table(), **arguments)
    if name == "Converter.load":
        return Converter.load(**arguments)
    return thing(**arguments)


def snapshot(value):
    """Copy a value so that it can be compared later; None for what cannot be told apart."""
    if isinstance(value, torch.Tensor):
        return (
            None
            if value.is_meta or value.is_sparse or value.is_quantized
            else (value.detach().clone(), value.requires_grad)
        )
    if isinstance(value, np.ndarray | pd.DataFrame | pl.DataFrame | pa.Table | list | dict | tuple | int | float | str):
        return copy.deepcopy(value)
    return None


def unchanged(value, before) -> bool:
    if before is None:
        return True
    if isinstance(value, torch.Tensor):
        return value.requires_grad == before[1] and torch.equal(value.detach().nan_to_num(), before[0].nan_to_num())
    if isinstance(value, pd.DataFrame | pl.DataFrame | pa.Table):
        return bool(value.equals(before))
    if isinstance(value, np.ndarray):
        return value.dtype == before.dtype and str(value.tolist()) == str(before.tolist())
    return repr(value) == repr(before)


# -- nothing is forgotten ---------------------------------------------------------------------------------------


def test_every_public_name_has_an_entry():
    for name in innsight_py.__all__:
        thing = getattr(innsight_py, name)
        for one in [f"{name}.{part}" for part in thing.__all__] if inspect.ismodule(thing) else [name]:
            assert (one in PUBLIC) != (one in wrong_arguments.WITHOUT_ARGUMENTS), one
    for name in PUBLIC:
        arguments_for(name)  # KeyError for one that is not known


def test_every_argument_has_a_kind():
    for name, argument in ARGUMENTS:
        assert kind_of(name, argument).wrong


def test_a_new_argument_is_noticed(monkeypatch):
    def run_new(converter: Converter, speed: int = 3):
        """Have an argument that nobody has declared."""

    monkeypatch.setattr(wrong_arguments, "public_callables", lambda: {"run_new": run_new})
    assert kind_of("run_new", "converter") is wrong_arguments.CONVERTER
    with pytest.raises(KeyError, match="speed"):
        kind_of("run_new", "speed")


# -- refused ----------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(monkeypatch):
    """Count the passes through a model."""
    counted = []

    def count(original):
        def counting(*args, **kwargs):
            counted.append(original)
            return original(*args, **kwargs)

        return counting

    for method in ("trace", "forward", "backward"):
        monkeypatch.setattr(Graph, method, count(getattr(Graph, method)))
    return counted


#: A bare module and a predictor are run to find out how many output nodes there are.
NEEDS_OUTPUTS = {
    "output_idx", "output_label", "target", "data_names", "output_names", "data_ref", "x_ref", "limit_ref", "nsim",
}  # fmt: skip


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_refused(name, argument, runs):
    kind = kind_of(name, argument)
    values = dict(kind.wrong)
    if not kind.optional and argument not in ("data",):
        values["None"] = lambda: None
    if name in ("ConnectionWeights", "run_cw") and argument == "data":
        values["None"] = lambda: None  # needed with times_input=True
    if name == "Converter.load":
        call("Converter.save", path="model.safetensors")
    good = arguments_for(name, argument)
    for label, make in values.items():
        value = make()
        before = snapshot(value)
        del runs[:]
        Module.runs = 0
        with pytest.raises((TypeError, ValueError)) as caught:
            call(name, **(good | {argument: value}))
        assert type(caught.value) in (TypeError, ValueError, innsight_py.SpecError), (label, caught.value)
        message = str(caught.value)
        if argument == "model" and type(caught.value) is innsight_py.SpecError:
            pass  # a spec has messages of its own, which name the layer and the key
        else:
            assert f"'{argument}'" in message, (label, message)
        assert len(message) < 600, (label, message)
        assert not runs, (label, "the model was run")
        if argument not in NEEDS_OUTPUTS:
            assert not Module.runs, (label, "the model was run")
        assert unchanged(value, before), label


@pytest.mark.parametrize("name", list(PUBLIC))
def test_unknown_and_missing_arguments(name):
    with pytest.raises(TypeError, match="nonsense"):
        call(name, **arguments_for(name), nonsense=1)
    needed = [
        p.name for p in inspect.signature(PUBLIC[name]).parameters.values()
        if p.default is inspect.Parameter.empty and p.name not in ("self", "cls", "arguments")
    ]  # fmt: skip
    for argument in needed:
        given = {key: value for key, value in arguments_for(name).items() if key != argument}
        with pytest.raises(TypeError, match=argument):
            call(name, **given)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_lists_for_several_inputs(method, runs):
    converter = several(method)
    del runs[:]
    extra = needed_by(method, "one", "two")
    one, two = BASE[:, :2], BASE
    for wrong in (
        [],
        [one],
        [one, two, one],
        [one, two[:2]],
        [one[:1], two],
        [two, one],
        one,
        {"a": one},
        {},
        {"input_1": one},
        {"input_1": one, "Input_2": two},
        {"input_1": one, "input_2": two, "input_3": two},
        {"input_1": two, "input_2": one},
        {"input_1": one, "input_2": two[:2]},
        {"input_1": one, "input_2": None},
        {1: one, 2: two},
        [one, None],
        [one, [one, two]],
    ):
        with pytest.raises((TypeError, ValueError), match="'data'"):
            PUBLIC[method](converter, wrong, **extra)
    for argument in {"x_ref", "data_ref"} & set(arguments_of(PUBLIC[method])):
        for wrong in (
            [one],
            [one[:1], two[:2]],
            one[:1],
            [two[:1], one[:1]],
            {"input_1": one[:1]},
            {"input_1": two[:1], "input_2": one[:1]},
            {"input_1": one[:1], "input_2": two[:1], "x": one},
        ):
            with pytest.raises((TypeError, ValueError), match=f"'{argument}'"):
                PUBLIC[method](converter, [one, two], **extra, **{argument: wrong})
    assert not runs


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_converter_of_another_model(method, runs):
    other = Converter({"input_dim": [5], "layers": [{"type": "Dense", "weight": np.ones((2, 5))}]})
    del runs[:]
    extra = needed_by(method, "Dense_1")
    with pytest.raises(ValueError, match=r"'data'.*\(\*, 5\), got \(4, 3\)"):
        PUBLIC[method](other, BASE, **extra)
    assert not runs


@pytest.mark.parametrize(
    ("inputs", "error"),
    [((), ValueError), ((1, 2), ValueError), ((BASE,), TypeError), ((None,), TypeError), ((torch.ones(3),), ValueError),
     ((torch.ones(2, 4),), ValueError), ((torch.ones(2, 3, 1),), ValueError),
     ((torch.ones(2, 3).double(),), ValueError),
     ((torch.ones(2, 3).int(),), ValueError)],
)  # fmt: skip
def test_call_of_a_converted_model(inputs, error):
    with pytest.raises(error, match="'inputs'"):
        table().model(*inputs)


# -- right ------------------------------------------------------------------------------------------------------


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


RIGHT = {
    "list": lambda: (BASE, BASE.tolist()),
    "tuple of lists": lambda: (BASE, tuple(BASE.tolist())),
    "list of arrays": lambda: (BASE, list(BASE)),
    "list of tensors": lambda: (BASE, list(torch.tensor(BASE))),
    "one-element list": lambda: (BASE, [BASE]),
    "dict by the name of the input": lambda: (BASE, {"input_1": BASE}),
    "mapping of an archive": lambda: (BASE, _archive()),
    "read-only": lambda: (BASE, read_only(BASE)),
    "Fortran order": lambda: (BASE, np.asfortranarray(BASE)),
    "negative strides": lambda: (BASE, BASE[::-1, ::-1].copy()[::-1, ::-1]),
    "every second column": lambda: (BASE, np.repeat(BASE, 2, 1)[:, ::2]),
    "every second row": lambda: (BASE, np.repeat(BASE, 2, 0)[::2]),
    "broadcast": lambda: (np.ones((4, 3)), np.broadcast_to(1.0, (4, 3))),
    "big endian": lambda: (BASE, BASE.astype(">f8")),
    "matrix": lambda: (BASE, BASE.view(np.matrix)),
    "memmap": lambda: (BASE, _memmap()),
    "masked array without a mask": lambda: (BASE, np.ma.array(BASE)),
    "duplicate rows": lambda: (BASE[[0, 0, 1, 1]], BASE[[0, 0, 1, 1]]),
    **{kind: lambda kind=kind: (WHOLE.astype(kind).astype(float), WHOLE.astype(kind))
       for kind in ("i1", "u1", "i4", "u8", "?")},
    **{kind: lambda kind=kind: (BASE.astype(kind).astype(float), BASE.astype(kind)) for kind in ("f2", "f4", "g")},
    **{
        str(dtype): lambda dtype=dtype: (torch.tensor(BASE).to(dtype).double().numpy(), torch.tensor(BASE).to(dtype))
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
    },
    "tensor that requires grad": lambda: (BASE, torch.tensor(BASE, requires_grad=True)),
    "computed tensor": lambda: (BASE, torch.tensor(BASE, requires_grad=True) * 1),
    "transposed tensor": lambda: (BASE, torch.tensor(BASE.T.copy()).T),
    "expanded tensor": lambda: (np.ones((4, 3)), torch.ones(1, 1).expand(4, 3)),
    "parameter": lambda: (BASE, torch.nn.Parameter(torch.tensor(BASE))),
    "frame": lambda: (BASE, pd.DataFrame(BASE)),
    "frame with a shuffled index": lambda: (BASE, pd.DataFrame(BASE, index=[3, 0, 2, 1])),
    "frame with a named index": lambda: (BASE, pd.DataFrame(BASE, index=pd.Index(list("dabc"), name="who"))),
    "frame with duplicates in its index": lambda: (BASE, pd.DataFrame(BASE, index=[1, 1, 2, 2])),
    "frame of truth values": lambda: ((BASE > 0).astype(float), pd.DataFrame(BASE > 0)),
    "frame of nullable numbers": lambda: (WHOLE.astype(float), pd.DataFrame(WHOLE).astype("Int64")),
    "frame of mixed numbers": lambda: (WHOLE.astype(float), pd.DataFrame(WHOLE).astype({0: "float32", 1: "int8"})),
    "polars": lambda: (BASE, pl.DataFrame(BASE)),
    "polars of whole numbers": lambda: (WHOLE.astype(float), pl.DataFrame(WHOLE)),
    "arrow": lambda: (BASE, pl.DataFrame(BASE).to_arrow()),
}  # fmt: skip


#: What a bare module or a predictor does not take: a batch of one instance, for all that is known, and names.
OF_CONVERTERS = ("one-element list", "dict by the name of the input", "mapping of an archive")


def _archive():
    np.savez("data.npz", input_1=BASE)
    return np.load("data.npz")


def _memmap() -> np.ndarray:
    np.save("data.npy", BASE)
    return np.load("data.npy", mmap_mode="r")


def answer(name: str, **changed) -> np.ndarray:
    arguments = arguments_for(name) | changed
    if "seed" in arguments_of(PUBLIC[name]):
        arguments["seed"] = 3
    for argument, few in (("n", 4), ("n_permutations", 20)):
        if argument in arguments_of(PUBLIC[name]):
            arguments[argument] = few
    found = call(name, **arguments)
    if name in TORCH:
        return found.numpy()
    if name == "AgnosticWrapper":
        return found.preds[0].numpy()
    return found.get_result()


@pytest.mark.parametrize("name", sorted(METHODS | TORCH | AGNOSTIC))
def test_right(name):
    """The answer is that for the plain array with the same numbers, bit for bit."""
    changed = ["data", *({"data_ref"} & set(arguments_of(PUBLIC[name])))]
    for label, make in RIGHT.items():
        if label in OF_CONVERTERS and name in TORCH | AGNOSTIC:
            continue
        for argument in changed:
            plain, value = make()
            before = snapshot(value)
            with warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                expected, found = answer(name, **{argument: plain}), answer(name, **{argument: value})
            np.testing.assert_array_equal(found, expected, err_msg=f"{argument}: {label}")
            assert unchanged(value, before), (argument, label)
            if isinstance(value, torch.Tensor):
                assert not value.is_leaf or value.grad is None


@pytest.mark.parametrize("name", sorted(METHODS - {"SmoothGrad", "run_smoothgrad"}))
@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("frame", [False, True])
def test_missing_values_in_a_row(name, hole, frame):
    """Rows with a value that is not finite are named in a warning, and the others are right."""
    data = BASE.copy()
    data[2, 1] = hole
    expected = answer(name)
    with pytest.warns(UserWarning, match=r"'data': 1 of 4 rows hold NaN or infinite.*data_3") as caught:
        found = answer(name, data=pd.DataFrame(data) if frame else data)
    assert len([entry for entry in caught if "'data'" in str(entry.message)]) == 1
    rest = [0, 1, 3]
    np.testing.assert_allclose(found[rest], expected[rest], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["SmoothGrad", "run_smoothgrad", "torch_smoothgrad", "LIME"])
@pytest.mark.filterwarnings("ignore:Argument 'data'. 1 of 4 rows")
def test_methods_that_look_at_all_rows_refuse_missing_values(name):
    data = BASE.copy()
    data[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"'data'.*finite|predicts values that are not finite"):
        answer(name, data=data)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_dicts_for_several_inputs(method):
    """In whatever order, the answer is that for the list, bit for bit."""
    converter = several(method, input_keys=["rows", "columns"])
    extra = needed_by(method, "one", "two")
    extra |= {"seed": 1} if "seed" in arguments_of(PUBLIC[method]) else {}
    listed, named = [BASE[:, :2], BASE], {"columns": BASE, "rows": BASE[:, :2]}
    references = {"x_ref", "data_ref"} & set(arguments_of(PUBLIC[method]))
    expected = PUBLIC[method](converter, listed, **extra, **{key: [x[:1] for x in listed] for key in references})
    found = PUBLIC[method](
        converter, named, **extra, **{key: {name: x[:1] for name, x in named.items()} for key in references}
    )
    for key, values in expected.get_result().items():
        np.testing.assert_array_equal(found.get_result()[key], values)
    assert list(named) == ["columns", "rows"]
    with pytest.raises(ValueError, match=r"'data': the model has no input 'column'; did you mean 'columns'\?"):
        PUBLIC[method](converter, {"rows": BASE, "column": BASE}, **extra)
    with pytest.raises(
        ValueError, match=r"'data': expected an entry for each input \('rows', 'columns'\), got none fo"
    ):
        PUBLIC[method](converter, {"rows": BASE}, **extra)
    with pytest.raises(ValueError, match=r"'data', input 2 \('columns'\): expected the shape \(\*, 3\), got \(4, 2\)"):
        PUBLIC[method](converter, {"rows": BASE[:, :2], "columns": BASE[:, :2]}, **extra)
