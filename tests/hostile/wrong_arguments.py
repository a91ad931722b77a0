"""What arguments of each kind must refuse and take, and which kind every public argument is of.

The kind follows from the declared constraint (`innsight_py._checks`); arguments that are declared as ``Any`` are read
by hand in the package, and have their kind in `READ_BY_HAND`. `kind_of` fails for an argument that has none.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import torch

import innsight_py
from innsight_py import _checks
from innsight_py.methods.asked import AnyConverter
from innsight_py.model.converter import Converter

NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class Kind:
    """Values that an argument refuses, made anew for each test, and whether it may be left out."""

    wrong: dict[str, Callable[[], Any]]
    optional: bool = False
    choices: tuple[str, ...] = field(default=())


def fixed(*values: Any) -> dict[str, Callable[[], Any]]:
    return {repr(value)[:40]: lambda value=value: value for value in values}


OBJECTS = {
    "object": object,
    "module": lambda: torch.nn.Linear(3, 2),
    "lambda": lambda: lambda: 3,
    "set": lambda: {1, 2},
    "bytes": lambda: b"abc",
    "class": lambda: int,
}
NOT_ONE_NUMBER = OBJECTS | {
    **fixed("3", "", True, 1j, [], [3], (1, 2), {}, "nan"),
    "array": lambda: np.array([1, 2]),
    "array of one": lambda: np.array([3]),
    "tensor": lambda: torch.tensor([1.0, 2.0]),
    "truth value of numpy": lambda: np.True_,
    "frame": lambda: pd.DataFrame({"a": [1]}),
    "series": lambda: pd.Series([1]),
    "meta tensor": lambda: torch.empty((), device="meta"),
}
FLAG = Kind(OBJECTS | fixed(0, 1, 1.0, "TRUE", "", NAN, [], [True], {}) | {"array": lambda: np.array([True])})
COUNT = Kind(
    NOT_ONE_NUMBER | fixed(2.5, 50.0, NAN, INF, 0, -1, -(10**30), 10**30, 2**31) | {"none": lambda: np.int64(0)}
)
NUMBER = Kind(NOT_ONE_NUMBER | fixed(NAN, INF, -INF, 10**400))
NOT_NEGATIVE = Kind(NUMBER.wrong | fixed(-1, -1e-300, -(10**400)))
SEED = Kind(NOT_ONE_NUMBER | fixed(1.5, NAN, -1) | {"numpy's": lambda: np.random.default_rng(1)}, optional=True)
DEVICE = Kind(OBJECTS | fixed(5, True, [], {}, "", "gpu", "cpu:x", "meta", "cuda:99", "fpga"), optional=True)
PATH = Kind(OBJECTS | fixed(5, True, 1.5, [], ["a.safetensors"], {}), optional=False)
CONVERTER = Kind(OBJECTS | fixed(5, "x", {}, {"layers": []}) | {"class": lambda: Converter})
CALLABLE = Kind(
    {name: make for name, make in OBJECTS.items() if name in ("object", "set", "bytes")} | fixed(5, "abs", [], {})
)

BASE = np.array([[1.0, -2.0, 0.5], [3.0, 0.25, -4.0], [0.0, 1.0, 2.0], [-1.5, 2.0, 1.0]])
WHOLE = np.array([[1, 2, 3], [0, 4, 1], [2, 2, 0], [5, 1, 3]])

NOT_DATA = OBJECTS | {
    **fixed(
        "abc", 3.0, 5, True, [], {}, [[]], [[1.0, None, 2.0]], [["a", "b", "c"]], [[1.0, 2.0, 3.0], [1.0]], 10**400
    ),
    "a dict of columns": lambda: {"a": BASE},
    "a dict with one key too many": lambda: {"input_1": BASE, "input_2": BASE},
    "a dict with a key that is no name": lambda: {1: BASE},
    "a dict of what is no data": lambda: {"input_1": "abc"},
    "a dict of a list of two inputs": lambda: {"input_1": [BASE, BASE]},
    "an object array": lambda: BASE.astype(object),
    "an array of strings": lambda: BASE.astype(str),
    "an array of bytes": lambda: BASE.astype("S4"),
    "a complex array": lambda: BASE.astype(complex),
    "an array of dates": lambda: BASE.astype("M8[s]"),
    "a structured array": lambda: np.zeros(3, dtype=[("a", float), ("b", float), ("c", float)]),
    "a masked array": lambda: np.ma.masked_less(BASE, 0),
    "a complex tensor": lambda: torch.tensor(BASE) + 1j,
    "a sparse tensor": lambda: torch.tensor(BASE).to_sparse(),
    "a meta tensor": lambda: torch.empty((4, 3), device="meta"),
    "strings in a frame": lambda: pd.DataFrame(BASE).assign(**{"1": "x"})[[0, "1", 2]],
    "objects in a frame": lambda: pd.DataFrame(BASE.astype(object)),
    "strings in a polars frame": lambda: pl.DataFrame({"a": ["x"] * 4, "b": [1.0] * 4, "c": [1.0] * 4}),
    "strings in an arrow table": lambda: pa.table({"a": ["x"] * 4, "b": [1.0] * 4, "c": [1.0] * 4}),
    "a lazy frame": lambda: pl.DataFrame(BASE).lazy(),
    "a generator": lambda: (row for row in BASE),
    "one instance": lambda: BASE[0],
    "no rows": lambda: BASE[:0],
    "no rows in a frame": lambda: pd.DataFrame(BASE).iloc[:0],
    "no columns": lambda: BASE[:, :0],
    "two columns": lambda: BASE[:, :2],
    "four columns": lambda: np.c_[BASE, BASE[:, 0]],
    "another axis": lambda: BASE[:, :, None],
    "two columns of a tensor": lambda: torch.tensor(BASE)[:, :2],
    "two columns of a frame": lambda: pd.DataFrame(BASE).iloc[:, :2],
    "a list of two inputs": lambda: [BASE, BASE],
    "a list of two inputs with other rows": lambda: [BASE, BASE[:2]],
    "numbers too large for the precision": lambda: BASE * 1e300,
    "numbers too large, in a tensor": lambda: torch.tensor(BASE * 1e300),
    "numbers too large, in a frame": lambda: pd.DataFrame(BASE * 1e300),
}
DATA = Kind(NOT_DATA)
#: A reference may be a single row without the axis of the batch.
NO_REFERENCE = {k: v for k, v in NOT_DATA.items() if k != "one instance"} | fixed("Mean", "", ["mean", "mean"])
REFERENCES = Kind(
    NO_REFERENCE
    | {
        "a missing value": lambda: np.where(BASE == 1.0, NAN, BASE),
        "an infinite value": lambda: np.where(BASE == 1.0, INF, BASE),
        "a missing value in a frame": lambda: pd.DataFrame(np.where(BASE == 1.0, NAN, BASE)),
    },
    optional=True,
)
REFERENCE = Kind(REFERENCES.wrong | {"several rows": lambda: BASE[:2]}, optional=True)
#: Any predictor may live with missing values and numbers of any size, which it gets in double precision.
BACKGROUND = Kind({k: v for k, v in NO_REFERENCE.items() if "too large" not in k}, optional=True)
EXPLAINED = Kind({k: v for k, v in NOT_DATA.items() if "too large" not in k})
#: These explain a module whose only input has whatever shape the data have.
BARE_DATA = Kind({k: v for k, v in NOT_DATA.items() if not k.startswith("a list of two inputs")})  # a batch, perhaps

NODES = Kind(
    OBJECTS
    | fixed(
        1.5, "Y1", True, [0.5], [], {}, [None], 2, -1, 10**30, [0, 0], [0, 2], [[0], [0]], [[]], [True], NAN, [0, None]
    )
    | {
        "floats": lambda: np.array([0.0]),
        "two axes": lambda: np.array([[0], [1]]),
        "frame": lambda: pd.DataFrame([[0]]),
    },
    optional=True,
)
LABELS = Kind(
    OBJECTS | fixed(1, 1.5, True, [0], [], {}, "Y9", "y1", ["Y1", "Y1"], [["Y1"], ["Y2"]], [None], ["Y1", 1], NAN),
    optional=True,
)
NAMES = Kind(
    OBJECTS
    | fixed(
        5, True, "abc", [], {}, [1.5, 2, 3], [True, 2, 3], ["a", "b"], ["a", None, "c"], [["a", "b", "c"], ["d"]], NAN
    ),
    optional=True,
)
OUTPUT_NAMES = Kind(
    OBJECTS | fixed(5, True, "abc", [], {}, [1.5, 2], [True, 2], ["a"], ["a", None], [["a", "b"], ["d"]], NAN),
    optional=True,
)
SHAPE = Kind(
    OBJECTS | fixed("3", True, [], {}, 0, -3, 2.5, [3.5], [0], [-3], [True], 4, [3, 1], [[3], [3]], NAN, [None]),
    optional=True,
)
MODEL = Kind(
    {k: v for k, v in OBJECTS.items() if k not in ("module", "lambda")}  # both are models
    | fixed(
        5,
        True,
        [],
        {},
        {"layers": []},
        {"input_dim": [3]},
        {"input_dim": [3], "layers": [{"type": "Nothing"}]},
        "model.xyz",
    )
    | {"module class": lambda: torch.nn.Linear, "an array": lambda: BASE}
)
MODULE = Kind(
    {k: v for k, v in OBJECTS.items() if k != "module"}
    | fixed(5, True, [], {}, None, "x")
    | {"converter": lambda: table()}
)
PREDICTOR = Kind({k: v for k, v in OBJECTS.items() if k in ("object", "set", "bytes")} | fixed(5, True, [], {}, None))
R_MODEL = Kind(OBJECTS | fixed(5, True, "x", [], {}, {"layers": []}, {"layer": 1}, None))
RULE = Kind(
    OBJECTS
    | fixed(
        5,
        True,
        [],
        None,
        "",
        "pass",
        "Simple",
        "epsilon_rule",
        {"Dense_Layer": "x"},
        {"Dense": "simple"},
        {"Dense_Layer": None},
    )
)
RULE_PARAM = Kind(
    OBJECTS
    | fixed("0.1", True, [], [0.1], NAN, INF, 10**400, {"Dense_Layer": "x"}, {"Dense": 0.1}, {"Dense_Layer": NAN}),
    optional=True,
)
TARGET = Kind(
    {k: v for k, v in OBJECTS.items() if k != "set"}
    | fixed(1.5, True, "", "Y99", [], [0.5], [0], ["Y1"], 99, -1, {}, {"no output": 0}, {"no output": None}, NAN)
    | {"frame": lambda: pd.DataFrame({"a": [0] * 4}), "matrix": lambda: np.zeros((4, 1), int)},
    optional=True,
)
INSTANCES = Kind(OBJECTS | fixed(5, True, "abcd", [], {}, ["a"], ["a"] * 4, [["a"] * 4]), optional=True)
NEURON = Kind(
    OBJECTS
    | fixed("a", 3, True, [], {}, ("a",), (1, 2), ("Dense_1", "a"), ("Dense_1", 1.5), ("nowhere", 0), ("Dense_1", 9),
            ("Dense_1", -1), ("Dense_1", (0, 0, 0)), ("Dense_1", []), ("Dense_1", None), NAN),
    optional=True,
)  # fmt: skip
LAYER = Kind(
    OBJECTS | fixed(3, True, "", "nowhere", [], [1], [None], {}, ["nowhere"], ["Dense_1", "Dense_1"], NAN),
    optional=True,
)
CHANNELS = Kind(
    {k: v for k, v in OBJECTS.items() if k in ("object", "set", "bytes")}
    | fixed(5, True, [], None, "", "max", "Sum", {})
)
ROWS = Kind(OBJECTS | fixed(1.5, "first", True, [], {}, 4, -1, 10**30, [0, 4], [0.5], [True], NAN, [[0]]))
SOME_ROWS = Kind(ROWS.wrong, optional=True)
ONE_ROW = Kind(OBJECTS | fixed(1.5, "a", True, [], [0], {}, 4, -1, 10**30, NAN), optional=True)
IMAGE = Kind(OBJECTS | fixed("a", 5, 1.5, True, {}), optional=True)  # of a table there is no image
AXES = Kind(OBJECTS | fixed(5, "a", True, [], {}, [None]), optional=True)
RESULT_TYPE = Kind(OBJECTS | fixed(5, True, None, [], "", "Array", "frame", "data_frame", ["array"]))
PROCESS = Kind(CALLABLE.wrong | {"another shape": lambda: lambda x: x[:1], "no numbers": lambda: lambda x: "a"})
PREDICTION = Kind(CALLABLE.wrong, optional=True)
EXAMPLE = Kind(
    OBJECTS | fixed(5, True, "x", [], {}, (), {"x": 1})
    | {"other rows": lambda: (torch.ones(2, 3), torch.ones(3, 3)), "no rows": lambda: torch.ones(0, 3),
       "a name of its own": lambda: {"nothing": torch.ones(2, 3)}},
    optional=True,
)  # fmt: skip
#: What a module returns has no such entry; a function of it gives no tensor.
OUTPUT = Kind(
    {k: v for k, v in OBJECTS.items() if k != "module"} | fixed(5, 1.5, "x", {"a": "x"}, ["x"], {"a": None}, NAN),
    optional=True,
)
FIXED = Kind(OBJECTS | fixed(5, True, 1.5, {}, [1], [None], "nothing", ["nothing"], None, NAN))

#: Parameters of the rules and composites of LRP.
STABILIZER = Kind(
    {k: v for k, v in NOT_NEGATIVE.wrong.items() if k not in ("lambda", "module")}, optional=True
)  # a function may be one
BETA = Kind(NUMBER.wrong | fixed(5, -0.25), optional=True)
BOUND = Kind(
    OBJECTS | fixed("3", "", True, None, 1j, [], [None], ["a"], [[1.0], [1.0, 2.0]], {}, NAN, INF, [NAN], 10**400, 99)
    | {"a complex array": lambda: BASE.astype(complex), "a meta tensor": lambda: torch.empty(3, device="meta"),
       "a sparse tensor": lambda: torch.ones(3).to_sparse(), "a complex tensor": lambda: torch.ones(3) + 1j,
       "an array of truth values": lambda: BASE > 0, "an array of another shape": lambda: np.ones(2)},
)  # fmt: skip
#: Bounds beside which a bound is tried: 99 is no lower one, -99 no upper one, and neither broadcasts to two numbers.
BOUNDS = {"low": np.full(3, -1.0), "high": np.full(3, 1.0)}

#: Arguments that the package reads by hand (declared as ``Any``), or more strictly than they are declared.
READ_BY_HAND: dict[str, Kind] = {
    "data": DATA, "data_ref": REFERENCES, "x_ref": REFERENCE, "output_idx": NODES, "output_label": LABELS,
    "target": TARGET, "data_names": INSTANCES, "layer": LAYER, "neuron": NEURON,
    "example": EXAMPLE, "output": OUTPUT, "fixed": FIXED,
    "input_names": NAMES, "output_names": OUTPUT_NAMES, "input_dim": SHAPE, "rule_name": RULE, "rule_param": RULE_PARAM,
    "aggr_channels": CHANNELS, "data_idx": ROWS, "ref_data_idx": ONE_ROW, "individual_data_idx": SOME_ROWS,
    "image": IMAGE, "ax": AXES, "type": RESULT_TYPE, "preprocess_fun": PROCESS, "pred_fun": PREDICTION,
}  # fmt: skip
#: Parameters of rules and composites, which are declared as plain numbers and checked by hand.
OF_RULES: dict[str, Kind] = {
    "epsilon": NUMBER, "alpha": NUMBER, "gamma": NOT_NEGATIVE, "beta": BETA, "stabilizer": STABILIZER, "low": BOUND,
    "high": Kind({k: v for k, v in BOUND.wrong.items() if k != "99"} | fixed(-99)),
    "bias": Kind(OBJECTS | fixed(5, True, None, ["keep"], {}, "", "xyz", "KEEP", "keep ", NAN)),
}  # fmt: skip
BY_CALLABLE: dict[tuple[str, str], Kind] = {
    **{(name, "layer"): Kind(LAYER.wrong) for name in ("Conductance", "run_conductance")},  # it is needed
    ("Converter", "model"): MODEL, ("convert", "model"): MODEL, ("from_r", "model"): R_MODEL,
    **{(name, "model"): MODULE for name in ("torch_grad", "torch_intgrad", "torch_smoothgrad", "torch_expgrad")},
    **{(name, "data"): BARE_DATA for name in ("torch_grad", "torch_intgrad", "torch_smoothgrad", "torch_expgrad")},
    **{
        (name, argument): kind
        for name in ("AgnosticWrapper", "LIME", "SHAP", "run_lime", "run_shap")
        for argument, kind in {"model": PREDICTOR, "data_ref": BACKGROUND, "data": EXPLAINED}.items()
    },
    **{(name, "n_permutations"): Kind(COUNT.wrong | fixed(1)) for name in ("LIME", "run_lime")},
    **{(name, argument): Kind(NUMBER.wrong | fixed(0, -1), optional=argument == "kernel_width")
       for name in ("LIME", "run_lime") for argument in ("kernel_width", "gower_pow")},
    **{(name, "rule_name"): Kind(OBJECTS | fixed(5, True, [], None, "", "simple", "Rescale", {}))
       for name in ("DeepLift", "DeepSHAP", "run_deeplift", "run_deepshap")},
}  # fmt: skip
SOURCE = Kind(OBJECTS | fixed(5, True, 1.5, [], {}, [1], {"a": 1}, NAN) | {"an empty iterator": lambda: iter(())})
METHOD = Kind(OBJECTS | fixed(5, True, [], {}, "", "DeepLift", "deep_lift", "xyz"))
ID_COLUMN = Kind(OBJECTS | fixed(5, True, [], ["X1"], {}, "", "nowhere", NAN), optional=True)
COLUMNS = Kind(
    OBJECTS
    | fixed(5, True, [], "", "nowhere", ["X1", "X2"], ["X1", "X2", "nowhere"], [1, 2, 3], {"nowhere": "X1"}, NAN),
    optional=True,
)
PIXELS = Kind(OBJECTS | fixed(5, True, [], (0,), (0, 1, 2), ("0", "1"), (0, NAN), {}, "01"))
SCHEMA = Kind(OBJECTS | fixed(5, True, [], {}, "X1", ["X1", "X2", "X3"]) | {"a table": lambda: pa.table({"X1": [1.0]})})
BY_CALLABLE |= {
    ("explain_dataset", "output"): PATH,
    **{
        (name, argument): kind
        for name in ("explain_batches", "explain_dataset")
        for argument, kind in {
            "model": MODEL, "source": SOURCE, "schema": SCHEMA, "method": METHOD, "id_column": ID_COLUMN,
            "columns": COLUMNS, "pixels": PIXELS,
        }.items()
    },
}  # fmt: skip
#: What has no arguments of a user's own.
WITHOUT_ARGUMENTS = {
    "SpecError": "an exception",
    "UnsupportedLayerError": "an exception",
    "ConvertedModel": "made by Converter; its call is tested below",
    "InterpretingMethod": "a base class without a method",
    "rules.Rule": "a base class",
    "Converter.unmerged": "takes nothing",
    "Converter.fitting": "for methods, which then read the data and refuse them",
    "metrics.Score": "made by metrics",
    "metrics.Comparison": "made by compare",
    "Explanation": "a base class whose methods are tested through Gradient",
}
DECLARED = {
    id(typing.get_args(declared)[1]): kind
    for declared, kind in (
        (_checks.Flag, FLAG), (_checks.Count, COUNT), (_checks.Number, NUMBER), (_checks.NotNegative, NOT_NEGATIVE),
        (_checks.Seed, SEED), (_checks.FilePath, PATH), (_checks.Device, DEVICE), (AnyConverter, CONVERTER),
    )
}  # fmt: skip


def table(name: str = "") -> Converter:
    """Return a converted model of three numbers, with a convolution for a method that needs one."""
    return Converter(CONVOLUTION if "cam" in name.lower() else SPEC)


SPEC = {
    "input_dim": [3],
    "layers": [
        {
            "type": "Dense",
            "weight": [[1.0, -1.0, 0.5], [0.25, 2.0, -1.0]],
            "bias": [0.5, -0.5],
            "activation_name": "tanh",
        },
        {"type": "Dense", "weight": [[1.0, 2.0], [-1.0, 0.5]]},
    ],
}

CONVOLUTION = {
    "input_dim": [3],
    "layers": [
        {"type": "Reshape", "shape": [1, 3]},
        {"type": "Conv1D", "weight": [[[1.0, -1.0]], [[0.5, 2.0]]], "activation_name": "tanh", "name": "Dense_1"},
        {"type": "Flatten"},
        {"type": "Dense", "weight": [[1.0, 2.0, -0.5, 1.0], [-1.0, 0.5, 0.25, 2.0]]},
    ],
}


def public_callables() -> dict[str, Any]:
    """Find everything public that takes arguments: functions, classes, and public methods of results and converters."""
    found: dict[str, Any] = {}
    for name in innsight_py.__all__:
        thing = getattr(innsight_py, name)
        if inspect.ismodule(thing):
            found |= {f"{name}.{part}": getattr(thing, part) for part in thing.__all__}
        else:
            found[name] = thing
        if name in ("Converter", "Explanation"):
            members = {**vars(thing.__base__), **vars(thing)} if name == "Explanation" else vars(thing)
            for method, value in members.items():
                value = value.__func__ if isinstance(value, classmethod | staticmethod) else value
                if inspect.isfunction(value) and not method.startswith("_") and method != "model_in":
                    found[f"{name}.{method}"] = value
    return {name: thing for name, thing in found.items() if name not in WITHOUT_ARGUMENTS}


def arguments_of(thing: Any) -> list[str]:
    signature = inspect.signature(thing)
    return [p.name for p in signature.parameters.values() if p.name not in ("self", "cls")]


def kind_of(name: str, argument: str) -> Kind:
    """Find the kind of an argument, by its declaration or by hand; KeyError for one that has none."""
    if (name, argument) in BY_CALLABLE:
        return BY_CALLABLE[name, argument]
    if name.startswith(("rules.", "composites.")) and argument in OF_RULES:
        return OF_RULES[argument]
    function = inspect.unwrap(public_callables()["Converter" if name == "convert" else name])
    if inspect.isclass(function):
        function = inspect.unwrap(function.__init__)
    hint = typing.get_type_hints(function, include_extras=True)[argument]
    if argument in READ_BY_HAND:
        return READ_BY_HAND[argument]
    return _declared(hint, name, argument)


def _declared(hint: Any, name: str, argument: str) -> Kind:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        assert len(parts) == 1, (name, argument, hint)
        inner = _declared(parts[0], name, argument)
        return Kind(inner.wrong, True, inner.choices)
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        wrong = OBJECTS | fixed(5, True, ["float"], {}, "", "xyz", choices[0].upper(), choices[0] + " ")
        return Kind(wrong, choices=choices)
    if typing.get_origin(hint) is typing.Annotated:
        return DECLARED[id(typing.get_args(hint)[1])]
    if hint is Converter:
        return CONVERTER
    raise KeyError(
        f"{name}: the argument '{argument}' ({hint}) has no kind; give it one in tests/hostile/wrong_arguments.py"
    )
