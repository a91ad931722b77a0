"""Explain neural networks: convert the model, run a method, look at the result.

>>> import torch
>>> from innsight_py import Converter, run_grad
>>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
>>> converter = Converter(model, input_dim=(3,))
>>> run_grad(converter, torch.randn(5, 3)).get_result().shape
(5, 3, 2)
"""

from innsight_py.converter import Converter, convert
from innsight_py.converters.neuralnet import read_neuralnet
from innsight_py.converters.r import from_r, read_r_model
from innsight_py.explanation import Explanation
from innsight_py.graph import ConvertedModel
from innsight_py.layers import UnsupportedLayerError
from innsight_py.methods import (
    LIME,
    LRP,
    SHAP,
    AgnosticWrapper,
    ConnectionWeights,
    DeepLift,
    DeepSHAP,
    ExpectedGradient,
    Gradient,
    IntegratedGradient,
    InterpretingMethod,
    SmoothGrad,
    run_cw,
    run_deeplift,
    run_deepshap,
    run_expgrad,
    run_grad,
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
from innsight_py.spec import SpecError

__version__ = "0.1.0"

__all__ = [
    "LIME",
    "LRP",
    "SHAP",
    "AgnosticWrapper",
    "ConnectionWeights",
    "ConvertedModel",
    "Converter",
    "DeepLift",
    "DeepSHAP",
    "ExpectedGradient",
    "Explanation",
    "Gradient",
    "IntegratedGradient",
    "InterpretingMethod",
    "SmoothGrad",
    "SpecError",
    "UnsupportedLayerError",
    "convert",
    "from_r",
    "read_neuralnet",
    "read_r_model",
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
