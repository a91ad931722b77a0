"""The methods: each a class, and a function `run_*` that creates it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from innsight_py.methods.agnostic import AgnosticWrapper
from innsight_py.methods.base import InterpretingMethod
from innsight_py.methods.connection_weights import ConnectionWeights
from innsight_py.methods.deeplift import DeepLift, DeepSHAP
from innsight_py.methods.direct import torch_expgrad, torch_grad, torch_intgrad, torch_smoothgrad
from innsight_py.methods.gradient import Gradient, SmoothGrad
from innsight_py.methods.lime import LIME
from innsight_py.methods.lrp import LRP
from innsight_py.methods.path import ExpectedGradient, IntegratedGradient
from innsight_py.methods.shap import SHAP

P = ParamSpec("P")
M = TypeVar("M", bound=InterpretingMethod)


def _runner(method: Callable[P, M], name: str) -> Callable[P, M]:
    """Return a function that creates the method, with the method's own arguments and documentation."""

    @functools.wraps(method, updated=())
    def run(*args: P.args, **kwargs: P.kwargs) -> M:
        return method(*args, **kwargs)

    run.__name__ = run.__qualname__ = name
    first, _, rest = (method.__doc__ or "").partition("\n")
    same = f"``{name}(...)`` is ``{method.__name__}(...)``."
    run.__doc__ = f"{first}\n\n    {same}\n{rest.replace(f' {method.__name__}(', f' {name}(')}"
    return run


run_grad = _runner(Gradient, "run_grad")
run_smoothgrad = _runner(SmoothGrad, "run_smoothgrad")
run_intgrad = _runner(IntegratedGradient, "run_intgrad")
run_expgrad = _runner(ExpectedGradient, "run_expgrad")
run_deeplift = _runner(DeepLift, "run_deeplift")
run_deepshap = _runner(DeepSHAP, "run_deepshap")
run_lrp = _runner(LRP, "run_lrp")
run_cw = _runner(ConnectionWeights, "run_cw")
run_lime = _runner(LIME, "run_lime")
run_shap = _runner(SHAP, "run_shap")

__all__ = [
    "LIME",
    "LRP",
    "SHAP",
    "AgnosticWrapper",
    "ConnectionWeights",
    "DeepLift",
    "DeepSHAP",
    "ExpectedGradient",
    "Gradient",
    "IntegratedGradient",
    "InterpretingMethod",
    "SmoothGrad",
    "run_cw",
    "run_deeplift",
    "run_deepshap",
    "run_expgrad",
    "run_grad",
    "run_intgrad",
    "run_lime",
    "run_lrp",
    "run_shap",
    "run_smoothgrad",
    "torch_expgrad",
    "torch_grad",
    "torch_intgrad",
    "torch_smoothgrad",
]
