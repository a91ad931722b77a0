"""Kinds of arguments, and good ones, of what takes or makes results: metrics, `as_explanation`, `explain_func`.

They are entered into the table of `wrong_arguments`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
import wrong_arguments
from wrong_arguments import (
    BASE,
    DATA,
    NOT_NEGATIVE,
    NUMBER,
    OBJECTS,
    OUTPUT_NAMES,
    REFERENCE,
    TARGET,
    Kind,
    fixed,
    table,
)

from innsight_py import Converter, Gradient, run_grad

#: Of four rows, three numbers and two nodes.
CONVERTER = table()
RESULT = Gradient(CONVERTER, BASE, times_input=True)
ROWS = BASE.astype(np.float32)


def text_result() -> Gradient:
    """Return a result for four texts of three tokens."""
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Embedding(5, 2), torch.nn.Flatten(), torch.nn.Linear(6, 2))
    return Gradient(Converter(module, example=torch.tensor([[0, 1, 2]])), torch.arange(12).reshape(4, 3) % 5)


TOKEN_NAMES = Kind(
    {k: v for k, v in OBJECTS.items() if k in ("object", "set", "bytes")}  # the others can be called
    | fixed(5, True, "abc", [1, 2], ["a", 1], {"a": "b"}, {"a": 1.5}, {"a": None}, {None: "a"}, {"a": 1, 2: "b"}),
    optional=True,
)  # fmt: skip
GROUPS = Kind(
    OBJECTS
    | fixed(5, 0, 1, "x", [], ["X1"], {"a": 5}, {"a": None}, {"a": []}, {"a": ["nowhere"]}, {"a": ["X1"], "b": ["X1"]},
            {"a": ["X1", 0]}, {"a": [3]}, {"a": [-1]}, {"a": [True]}, {"a": [None]}, {"a": [["X1"]]}, {"a": [0.5]})
    | {"two axes": lambda: {"a": np.array([[0, 1]])}}
)  # fmt: skip
#: Of a table there are no pixels.
PIXELS = Kind(OBJECTS | fixed("0.9", True, [], [0.9], {}, 0, -1, 0.5, 2, float("nan"), float("inf"), 10**400),
              optional=True)  # fmt: skip
#: What a picture is told, of a table: it has no slices.
LOOKS = {
    "cmap": Kind(OBJECTS | fixed(5, True, "", "xyz", "Even", "bwr ", [], {})),
    "figsize": Kind(
        OBJECTS | fixed(5, True, "large", [], {}, (3,), (3, 4, 5), (0, 4), (-3, 4), (3, float("nan")), (3, "4"),
                        (1e9, 3))
        | {"an array": lambda: BASE},
        optional=True,
    ),
    "orientation": Kind(OBJECTS | fixed(5, True, "", "h", "Horizontal", "vertical ", [], {}), optional=True),
    "axis_names": Kind(
        OBJECTS | fixed(5, True, "", [], {"xyz": "Time"}, {5: "x"}, ["a", "b"], [5], ("",)), optional=True
    ),
    "slice": Kind(OBJECTS | fixed(5, True, "3", 1.5, [], {}, (None, 1, None), -1, 10**400), optional=True),
}  # fmt: skip
SCORES = Kind(OBJECTS | fixed(5, True, None, [], {}, "", "xyz", "Gradient", "gradient ") | {"array": lambda: BASE})
ONE_RESULT = Kind(
    OBJECTS | fixed(5, True, "x", [], {}, 1.5)
    | {"a list of results": lambda: [RESULT], "a dict of results": lambda: {"a": RESULT}, "an array": lambda: BASE,
       "class": lambda: Gradient, "converter": table, "frame": lambda: pd.DataFrame(BASE)},
)  # fmt: skip
RESULTS = Kind(
    OBJECTS | fixed(5, True, "x", [], {}, {"a": 5}, {"a": None})
    | {"a result": lambda: RESULT, "a list of results": lambda: [RESULT, RESULT], "an array": lambda: {"a": BASE},
       "a number as name": lambda: {1: RESULT}, "a class": lambda: {"a": Gradient},
       "other rows": lambda: {"a": RESULT, "b": Gradient(CONVERTER, BASE[:2])},
       "other nodes": lambda: {"a": RESULT, "b": Gradient(CONVERTER, BASE, output_idx=1)}},
)  # fmt: skip
METRICS = Kind(
    OBJECTS
    | fixed(5, True, 1.5, "", "xyz", "Deletion", [], {}, (), ["xyz"], ["deletion", "xyz"], [None], [5], [[]], {5: {}},
            {"xyz": {}}, {"deletion": 5}, {"deletion": None}, {"deletion": {"nonsense": 1}}, {"deletion": {"steps": 0}},
            {"deletion": {"steps": "x"}}, {"deletion": {"result": 5}}, {"deletion": {"order": "xyz"}})
    | {"a class in a list": lambda: [int]},
)  # fmt: skip
#: None stands for the reference, a single number for all features; of a table nothing can be blurred.
BASELINE = Kind(
    {k: v for k, v in REFERENCE.wrong.items() if k not in ("3.0", "5", repr(10**400)[:40])}
    | fixed("xyz", "Mean", "reference ", "blur", float("nan"), float("inf"), 10**400),
    optional=True,
)
VALUES = Kind(
    {
        k: v
        for k, v in DATA.wrong.items()
        # one axis more may be that of the nodes, a dict names an input, and a data type is chosen for the numbers
        if k not in ("another axis", "a dict of columns") and "too large" not in k
    }
    | {"an input too many": lambda: [BASE, BASE], "other channels": lambda: BASE[:, ::-1][:, :2]}
)
FOREIGN_DATA = Kind(
    {k: v for k, v in DATA.wrong.items() if k not in ("another axis", "a dict of columns") and "too large" not in k},
    optional=True,
)
PER_NODE = Kind(
    OBJECTS
    | fixed(5, "abc", True, [], {}, [1.0, 2.0], ["a"] * 4, [[1.0]], [[1.0, 2.0, 3.0]], [None] * 4, [[1.0], [1.0, 2.0]])
    | {"three axes": lambda: np.ones((4, 2, 1)), "one node of two": lambda: np.ones((4, 1)),
       "complex": lambda: np.ones((4, 2), complex), "masked": lambda: np.ma.masked_less(BASE[:, :2], 0),
       "sparse": lambda: torch.ones(4, 2).to_sparse(), "meta": lambda: torch.empty((4, 2), device="meta")},
    optional=True,
)  # fmt: skip
TITLE = Kind(OBJECTS | fixed(5, True, 1.5, [], ["a"], {}), optional=True)
RUN = Kind(OBJECTS | fixed(5, True, "run_grad", [], {}) | {"the class of a method": lambda: Gradient})

_SCORED = ("metrics.deletion", "metrics.insertion", "metrics.faithfulness_correlation", "metrics.infidelity")
_METRICS = (
    *_SCORED, "metrics.completeness", "metrics.max_sensitivity", "metrics.randomization", "metrics.sparseness",
)  # fmt: skip
wrong_arguments.BY_CALLABLE |= {
    **{(name, "token_names"): TOKEN_NAMES for name in ("Converter", "convert")},
    **{(name, "group_columns"): GROUPS for name in ("Converter", "convert")},
    **{("Explanation.plot", argument): PIXELS for argument in ("clip", "smooth")},
    ("Explanation.plot", "orientation"): LOOKS["orientation"],
    **{
        (f"Explanation.{name}", argument): kind
        for name in ("plot", "plot_global", "boxplot")
        for argument, kind in (LOOKS | {"title": TITLE}).items()
    },
    **{(f"composites.{name}", "gamma"): Kind(NOT_NEGATIVE.wrong, True) for name in ("attnlrp", "cp_lrp")},
    ("composites.attnlrp", "scores"): SCORES,
    **{(name, "result"): ONE_RESULT for name in _METRICS},
    **{(name, "baseline"): BASELINE for name in _SCORED},
    **{(name, "results"): RESULTS for name in ("compare", "metrics.compare")},
    **{(name, "metrics"): METRICS for name in ("compare", "metrics.compare")},
    ("metrics.faithfulness_correlation", "subset"): Kind(NUMBER.wrong | fixed(0, -0.5, 1.5)),
    ("as_explanation", "values"): VALUES, ("as_explanation", "data"): FOREIGN_DATA,
    **{("as_explanation", argument): PER_NODE for argument in ("preds", "decomp_goal")},
    ("as_explanation", "target"): Kind(TARGET.wrong | fixed("predicted"), optional=True),
    ("as_explanation", "output_names"): OUTPUT_NAMES, ("as_explanation", "title"): TITLE,
    ("explain_func", "run"): RUN,
}  # fmt: skip


def of_as_explanation(argument: str) -> dict[str, Any]:
    """Return good arguments; the nodes of a model are only known with the model."""
    if argument in ("output_idx", "output_label", "target"):
        return {"values": ROWS, "data": ROWS, "converter": CONVERTER}
    return {"values": np.stack([ROWS, ROWS], -1), "data": ROWS}


GOOD: dict[str, Callable[[], dict[str, Any]]] = {
    **{name: lambda: {"result": RESULT} for name in _METRICS},
    **{name: lambda: {"results": {"a": RESULT}} for name in ("compare", "metrics.compare")},
    "explain_func": lambda: {"run": run_grad},
    **{f"Explanation.{name}": dict for name in ("to_shap", "to_captum", "text")},
}  # fmt: skip
