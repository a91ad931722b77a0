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
from innsight_py.converter import Converter
from innsight_py.methods.base import AnyConverter

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
REFERENCES = Kind(
    NOT_DATA
    | {
        "a missing value": lambda: np.where(BASE == 1.0, NAN, BASE),
        "an infinite value": lambda: np.where(BASE == 1.0, INF, BASE),
        "a missing value in a frame": lambda: pd.DataFrame(np.where(BASE == 1.0, NAN, BASE)),
    },
    optional=True,
)
REFERENCE = Kind(REFERENCES.wrong | {"several rows": lambda: BASE}, optional=True)
#: Any predictor may live with missing values and numbers of any size, which it gets in double precision.
BACKGROUND = Kind({k: v for k, v in NOT_DATA.items() if "too large" not in k}, optional=True)
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
    OBJECTS | fixed(5, True, "abc", [], {}, [1, 2, 3], ["a", "b"], ["a", None, "c"], [["a", "b", "c"], ["d"]], NAN),
    optional=True,
)
OUTPUT_NAMES = Kind(
    OBJECTS | fixed(5, True, "abc", [], {}, [1, 2], ["a"], ["a", None], [["a", "b"], ["d"]], NAN), optional=True
)
SHAPE = Kind(
    OBJECTS | fixed("3", True, [], {}, 0, -3, 2.5, [3.5], [0], [-3], [True], 4, [3, 1], [[3], [3]], NAN, [None]),
    optional=True,
)
MODEL = Kind(
    {k: v for k, v in OBJECTS.items() if k != "module"}
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

#: Arguments that the package reads by hand (declared as ``Any``), or more strictly than they are declared.
READ_BY_HAND: dict[str, Kind] = {
    "data": DATA, "data_ref": REFERENCES, "x_ref": REFERENCE, "output_idx": NODES, "output_label": LABELS,
    "input_names": NAMES, "output_names": OUTPUT_NAMES, "input_dim": SHAPE, "rule_name": RULE, "rule_param": RULE_PARAM,
    "aggr_channels": CHANNELS, "data_idx": ROWS, "ref_data_idx": ONE_ROW, "individual_data_idx": SOME_ROWS,
    "image": IMAGE, "ax": AXES, "type": RESULT_TYPE, "preprocess_fun": PROCESS, "pred_fun": PREDICTION,
}  # fmt: skip
BY_CALLABLE: dict[tuple[str, str], Kind] = {
    ("Converter", "model"): MODEL, ("convert", "model"): MODEL, ("from_r", "model"): R_MODEL,
    **{(name, "model"): MODULE for name in ("torch_grad", "torch_intgrad", "torch_smoothgrad", "torch_expgrad")},
    **{(name, "data"): BARE_DATA for name in ("torch_grad", "torch_intgrad", "torch_smoothgrad", "torch_expgrad")},
    **{
        (name, argument): kind
        for name in ("AgnosticWrapper", "LIME", "SHAP", "run_lime", "run_shap")
        for argument, kind in {"model": PREDICTOR, "data_ref": BACKGROUND, "data": Kind(BACKGROUND.wrong)}.items()
    },
    **{(name, "n_permutations"): Kind(COUNT.wrong | fixed(1)) for name in ("LIME", "run_lime")},
    **{(name, argument): Kind(NUMBER.wrong | fixed(0, -1), optional=argument == "kernel_width")
       for name in ("LIME", "run_lime") for argument in ("kernel_width", "gower_pow")},
    **{(name, "rule_name"): Kind(OBJECTS | fixed(5, True, [], None, "", "simple", "Rescale", {}))
       for name in ("DeepLift", "DeepSHAP", "run_deeplift", "run_deepshap")},
}  # fmt: skip
#: What has no arguments of a user's own.
WITHOUT_ARGUMENTS = {
    "SpecError": "an exception",
    "UnsupportedLayerError": "an exception",
    "ConvertedModel": "made by Converter; its call is tested below",
    "InterpretingMethod": "a base class without a method",
    "Explanation": "a base class whose methods are tested through Gradient",
}
DECLARED = {
    id(typing.get_args(declared)[1]): kind
    for declared, kind in (
        (_checks.Flag, FLAG), (_checks.Count, COUNT), (_checks.Number, NUMBER), (_checks.NotNegative, NOT_NEGATIVE),
        (_checks.Seed, SEED), (_checks.FilePath, PATH), (_checks.Device, DEVICE), (AnyConverter, CONVERTER),
    )
}  # fmt: skip


def table() -> Converter:
    return Converter(SPEC)


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


def public_callables() -> dict[str, Any]:
    """Find everything public that takes arguments: functions, classes, and public methods of results and converters."""
    found: dict[str, Any] = {}
    for name in innsight_py.__all__:
        thing = getattr(innsight_py, name)
        if name not in WITHOUT_ARGUMENTS:
            found[name] = thing
        if name in ("Converter", "Explanation"):
            for method, value in vars(thing).items():
                value = value.__func__ if isinstance(value, classmethod | staticmethod) else value
                if inspect.isfunction(value) and not method.startswith("_") and method != "model_in":
                    found[f"{name}.{method}"] = value
    return found


def arguments_of(thing: Any) -> list[str]:
    signature = inspect.signature(thing)
    return [p.name for p in signature.parameters.values() if p.name not in ("self", "cls")]


def kind_of(name: str, argument: str) -> Kind:
    """Find the kind of an argument, by its declaration or by hand; KeyError for one that has none."""
    if (name, argument) in BY_CALLABLE:
        return BY_CALLABLE[name, argument]
    function = inspect.unwrap(public_callables()[name])
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
    raise KeyError(f"{name}: the argument '{argument}' ({hint}) has no kind; give it one in tests/hostile.py")
