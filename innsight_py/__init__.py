"""Explain neural networks: convert the model, run a method, look at the result.

>>> import torch
>>> from innsight_py import Converter, run_grad
>>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
>>> converter = Converter(model, input_dim=(3,))
>>> run_grad(converter, torch.randn(5, 3)).get_result().shape
(5, 3, 2)
"""

import contextlib
import gc
import importlib
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for tools that read and do not run; a name is imported when somebody asks for it, see below
    from innsight_py import composites, metrics, rules
    from innsight_py.converters.r.lists import from_r, read_r_model
    from innsight_py.converters.r.neuralnet import read_neuralnet
    from innsight_py.datasets import explain_batches, explain_dataset, load_explanations
    from innsight_py.explanation import Explanation
    from innsight_py.layers import UnsupportedLayerError
    from innsight_py.methods import (
        LIME,
        LRP,
        SHAP,
        AgnosticWrapper,
        Conductance,
        ConnectionWeights,
        DeepLift,
        DeepSHAP,
        ExpectedGradient,
        GradCAM,
        Gradient,
        IntegratedGradient,
        InterpretingMethod,
        SmoothGrad,
        as_explanation,
        explain_func,
        run_conductance,
        run_cw,
        run_deeplift,
        run_deepshap,
        run_expgrad,
        run_grad,
        run_gradcam,
        run_intgrad,
        run_lime,
        run_lrp,
        run_shap,
        run_smoothgrad,
        torch_expgrad,
        torch_grad,
        torch_intgrad,
        torch_smoothgrad,
    )
    from innsight_py.metrics import compare
    from innsight_py.model.converted import ConvertedModel
    from innsight_py.model.converter import Converter, convert
    from innsight_py.spec import SpecError

__version__ = "0.1.0"

__all__ = [
    "LIME",
    "LRP",
    "SHAP",
    "AgnosticWrapper",
    "Conductance",
    "ConnectionWeights",
    "ConvertedModel",
    "Converter",
    "DeepLift",
    "DeepSHAP",
    "ExpectedGradient",
    "Explanation",
    "GradCAM",
    "Gradient",
    "IntegratedGradient",
    "InterpretingMethod",
    "SmoothGrad",
    "SpecError",
    "UnsupportedLayerError",
    "as_explanation",
    "compare",
    "composites",
    "convert",
    "explain_batches",
    "explain_dataset",
    "explain_func",
    "from_r",
    "load_explanations",
    "metrics",
    "read_neuralnet",
    "read_r_model",
    "rules",
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
    "torch_expgrad",
    "torch_grad",
    "torch_intgrad",
    "torch_smoothgrad",
]

#: Where the public names lie that are no methods: in which part of the package; "" are parts themselves.
_PLACE_OF = {
    "ConvertedModel": "model.converted",
    "Converter": "model.converter",
    "Explanation": "explanation",
    "SpecError": "spec",
    "UnsupportedLayerError": "layers",
    "compare": "metrics",
    "composites": "",
    "convert": "model.converter",
    "explain_batches": "datasets",
    "explain_dataset": "datasets",
    "from_r": "converters.r.lists",
    "load_explanations": "datasets",
    "metrics": "",
    "read_neuralnet": "converters.r.neuralnet",
    "read_r_model": "converters.r.lists",
    "rules": "",
}


@contextlib.contextmanager
def _collecting_later() -> Iterator[None]:
    """Look for no garbage while modules are imported, which make none: all that torch has made is looked at for it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def __getattr__(name: str) -> Any:
    """Import a public name, or a part of the package, the first time that somebody asks for it."""
    place = _PLACE_OF.get(name, "methods") if name in __all__ else ""
    if place:
        with _collecting_later():
            value = getattr(importlib.import_module(f"{__name__}.{place}"), name)
    elif not name.startswith("__") and importlib.util.find_spec(f"{__name__}.{name}") is not None:
        with _collecting_later():
            value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names only; the parts of the package are imported when somebody asks, and are none of them."""
    return sorted([*__all__, "__all__", "__doc__", "__file__", "__name__", "__path__", "__version__"])
