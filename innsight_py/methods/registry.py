"""All methods by name: the one list behind ``run_*``, the shell, the documentation and the tests."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from innsight_py.methods.agnostic.lime import LIME
from innsight_py.methods.agnostic.shap import SHAP
from innsight_py.methods.base import InterpretingMethod
from innsight_py.methods.cam import GradCAM
from innsight_py.methods.conductance import Conductance
from innsight_py.methods.connection_weights import ConnectionWeights
from innsight_py.methods.deeplift import DeepLift
from innsight_py.methods.deepshap import DeepSHAP
from innsight_py.methods.gradient import Gradient, SmoothGrad
from innsight_py.methods.lrp import LRP
from innsight_py.methods.path import ExpectedGradient, IntegratedGradient

P = ParamSpec("P")
M = TypeVar("M", bound=InterpretingMethod)

#: The class of each method by its short name, which the shell takes; the function ``run_<name>`` makes one.
METHODS: dict[str, type[InterpretingMethod]] = {}
#: The functions, by the same names.
RUNNERS: dict[str, Callable[..., InterpretingMethod]] = {}


def _runner(method: Callable[P, M], name: str) -> Callable[P, M]:
    """Enter a method, and return a function that creates it, with its own arguments and documentation."""

    @functools.wraps(method, updated=())
    def run(*args: P.args, **kwargs: P.kwargs) -> M:
        return method(*args, **kwargs)

    run.__name__ = run.__qualname__ = name
    run.__annotations__ = {}  # else those of the class's attributes, which are no arguments
    returned = inspect.signature(method).replace(return_annotation=method.__name__)  # a class's own says None
    run.__signature__ = returned  # type: ignore[attr-defined]
    first, _, rest = (method.__doc__ or "").partition("\n")
    same = f"``{name}(...)`` is ``{method.__name__}(...)``."
    run.__doc__ = f"{first}\n\n    {same}\n{rest.replace(f' {method.__name__}(', f' {name}(')}"
    short = name.removeprefix("run_")
    METHODS[short], RUNNERS[short] = cast(type[InterpretingMethod], method), run
    return run


run_conductance = _runner(Conductance, "run_conductance")
run_cw = _runner(ConnectionWeights, "run_cw")
run_deeplift = _runner(DeepLift, "run_deeplift")
run_deepshap = _runner(DeepSHAP, "run_deepshap")
run_expgrad = _runner(ExpectedGradient, "run_expgrad")
run_gradcam = _runner(GradCAM, "run_gradcam")
run_grad = _runner(Gradient, "run_grad")
run_intgrad = _runner(IntegratedGradient, "run_intgrad")
run_lime = _runner(LIME, "run_lime")
run_lrp = _runner(LRP, "run_lrp")
run_shap = _runner(SHAP, "run_shap")
run_smoothgrad = _runner(SmoothGrad, "run_smoothgrad")

#: What ``from innsight_py import *`` gives of the methods, for tools that read and do not run.
__all__ = [
    "LIME",
    "LRP",
    "SHAP",
    "Conductance",
    "ConnectionWeights",
    "DeepLift",
    "DeepSHAP",
    "ExpectedGradient",
    "GradCAM",
    "Gradient",
    "IntegratedGradient",
    "SmoothGrad",
    "run_conductance",
    "run_cw",
    "run_deeplift",
    "run_deepshap",
    "run_expgrad",
    "run_grad",
    "run_gradcam",
    "run_intgrad",
    "run_lime",
    "run_lrp",
    "run_shap",
    "run_smoothgrad",
]
