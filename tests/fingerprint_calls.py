"""The calls that `fingerprint.py` makes: every method with every rule and option."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fingerprint_models import Subject

import innsight_py


@dataclass(frozen=True)
class Call:
    """A public function with its options; `reference` is the argument that takes references."""

    function: str
    keys: dict[str, Any] = field(default_factory=dict)
    reference: str | None = None

    @property
    def name(self) -> str:
        """The call as a case shows it."""
        options = [f"{key}={value}" for key, value in self.keys.items()]
        return " ".join([self.function, *options, *([self.reference] if self.reference else [])])


_CLASSES = {"Dense_Layer": "epsilon", "Conv1D_Layer": "alpha_beta", "Conv2D_Layer": "epsilon"}
_PASSING = {**_CLASSES, "Conv3D_Layer": "alpha_beta", "BatchNorm_Layer": "pass", "AvgPool2D_Layer": "alpha_beta"}
LAST = {"ignore_last_act": False}


def lrp_calls() -> Iterator[Call]:
    for wins in (True, False):
        for rule in ({}, {"rule_name": "epsilon"}, {"rule_name": "epsilon", "rule_param": 0.1},
                     {"rule_name": "alpha_beta"}, {"rule_name": "alpha_beta", "rule_param": 1.0},
                     {"rule_name": "alpha_beta", "rule_param": 2.0}):  # fmt: skip
            yield Call("run_lrp", {**rule, "winner_takes_all": wins})
    yield Call("run_lrp", {"rule_name": {"BatchNorm_Layer": "pass"}})
    yield Call("run_lrp", {"rule_name": _PASSING, "rule_param": {"Dense_Layer": 0.05, "Conv1D_Layer": 1.5}})
    yield Call("run_lrp", {"rule_name": "epsilon", **LAST})
    yield Call("run_lrp", LAST)


def deeplift_calls() -> Iterator[Call]:
    for rule in ("rescale", "reveal_cancel"):
        for wins in (True, False):
            keys = {"rule_name": rule, "winner_takes_all": wins}
            yield from (Call("run_deeplift", keys), Call("run_deeplift", keys, "x_ref"))
            yield Call("run_deepshap", keys, "data_ref")
        yield Call("run_deeplift", {"rule_name": rule, **LAST}, "x_ref")
    yield Call("run_deepshap", {"limit_ref": 2, "seed": 4, **LAST}, "data_ref")


CALLS = [
    Call("run_grad"), Call("run_grad", {"times_input": True}), Call("run_grad", LAST),
    Call("run_smoothgrad", {"n": 3, "seed": 1}),
    Call("run_smoothgrad", {"n": 3, "seed": 1, "times_input": True, "noise_level": 0.4, **LAST}),
    Call("run_intgrad", {"n": 4}), Call("run_intgrad", {"n": 4, **LAST}, "x_ref"),
    Call("run_intgrad", {"n": 4, "times_input": False, "batch_size": 2}, "x_ref"),
    Call("run_expgrad", {"n": 3, "seed": 2}), Call("run_expgrad", {"n": 3, "seed": 2, **LAST}, "data_ref"),
    *deeplift_calls(), *lrp_calls(),
    Call("run_cw"), Call("run_cw", {"times_input": True}),
]  # fmt: skip
AGNOSTIC = [
    Call("run_lime", {"n_permutations": 40, "seed": 5}, "data_ref"),
    Call("run_lime", {"n_permutations": 40, "seed": 5, "dist_fun": "euclidean", "kernel_width": 0.7}),
    Call("run_lime", {"n_permutations": 40, "seed": 5, "gower_pow": 2.0, "output_type": "classification"}, "data_ref"),
    Call("run_shap", {"seed": 6}, "data_ref"), Call("run_shap", {"seed": 6, "nsim": 2, "limit_ref": 2}, "data_ref"),
]  # fmt: skip
#: One of each method, for the many models of the doors.
FEW = [
    Call("run_grad"), Call("run_deeplift", {"rule_name": "reveal_cancel"}, "x_ref"),
    Call("run_deepshap", {}, "data_ref"), Call("run_lrp", {"rule_name": "epsilon"}),
    Call("run_intgrad", {"n": 3}), Call("run_cw"),
]  # fmt: skip
DIRECT = [
    Call("torch_grad"), Call("torch_grad", {"times_input": True, "output_idx": [0]}),
    Call("torch_smoothgrad", {"n": 3, "seed": 1}), Call("torch_smoothgrad", {"n": 3, "seed": 1, "times_input": True}),
    Call("torch_intgrad", {"n": 4}), Call("torch_intgrad", {"n": 4, "times_input": False}, "x_ref"),
    Call("torch_expgrad", {"n": 3, "seed": 2}, "data_ref"),
]  # fmt: skip
#: The calls that tables and pictures are made of: the first of each function, and the few.
SHOWN = [*{call.function: call for call in reversed([*CALLS, *AGNOSTIC, *DIRECT])}.values(), *FEW]
#: What explains several output layers at once.
BOTH = [Call(name, {"output_idx": [[1, 0], [0, 2]]}) for name in ("run_grad", "run_deeplift", "run_lrp", "run_cw")]


def ask(subject: Subject, call: Call, dtype: str | None = None, last: bool = False) -> Any:
    """Make a call on a subject; `last` gives the data channels last."""
    direct, agnostic = call.function.startswith("torch_"), call in AGNOSTIC
    data, references = subject.data, subject.references
    first = subject.converter.channels_first
    keys = dict(call.keys)
    if not direct and (last or not first):
        data, references = ([np.moveaxis(x, 1, -1) for x in arrays] for arrays in (data, references))
        keys["channels_first"] = False
    if call.reference:
        keys[call.reference] = [x[:1] for x in references] if call.reference == "x_ref" else references
    if direct or agnostic:
        data = data[0]
        keys |= {call.reference: keys[call.reference][0]} if call.reference else {}
    if dtype is not None and not agnostic:
        keys["dtype"] = dtype
    keys["return_object" if direct else "verbose"] = direct
    model = subject.module() if direct and subject.module else subject.converter
    return getattr(innsight_py, call.function)(model, data, **keys)
