"""The methods: each a class, and a function `run_*` that creates it."""

from innsight_py.methods import registry
from innsight_py.methods.agnostic.base import AgnosticWrapper
from innsight_py.methods.base import InterpretingMethod
from innsight_py.methods.direct import torch_expgrad, torch_grad, torch_intgrad, torch_smoothgrad
from innsight_py.methods.for_quantus import explain_func
from innsight_py.methods.foreign import as_explanation
from innsight_py.methods.registry import *  # noqa: F403 (all methods, and the functions that make them)

__all__ = [
    "AgnosticWrapper",
    "InterpretingMethod",
    "as_explanation",
    "explain_func",
    "torch_expgrad",
    "torch_grad",
    "torch_intgrad",
    "torch_smoothgrad",
]
__all__ += registry.__all__
