"""Messages about objects that no door reads: what they are, and what to pass instead."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from innsight_py._checks import describe
from innsight_py._errors import see

#: Files of pickled objects.
_PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".joblib", ".sav", ".dill", ".model")
#: Keys under which checkpoints have the weights.
_CHECKPOINT = ("state_dict", "model_state_dict", "model_state", "model", "weights")
#: How a network gets weights that lie apart from it.
BUILD_FIRST = (
    "Build the network first: net = YourNetwork(...), then net.load_state_dict(weights), then "
    "Converter(net, input_dim=...)."
)


def weights_alone(model: Mapping[Any, Any]) -> ValueError | None:
    """Return the error for a dict that holds the weights of a network, or None where it is another one."""
    if not model or "layers" in model or "input_dim" in model:
        return None
    network = next((key for key, value in model.items() if isinstance(value, nn.Module)), None)
    if network is not None:
        return ValueError(f"Argument 'model': this dict holds a network: give that alone, the entry {network!r}.")
    found = next((model[key] for key in _CHECKPOINT if isinstance(model.get(key), Mapping)), model)
    if not found or not all(isinstance(value, Tensor | np.ndarray) for value in found.values()):
        return None
    first = describe(next(iter(found)))
    return ValueError(
        see(
            "weights-without-a-model",
            f"Argument 'model': this dict holds weights ({first}, ...), and not the network that uses them. "
            f"{BUILD_FIRST}",
        )
    )


def no_door(model: Any, endings: Iterable[str]) -> TypeError:
    """Return the error for an object, or the path of a file, that no door is for."""
    if isinstance(model, str | os.PathLike):
        return TypeError(_path(os.fspath(model), ", ".join(endings)))
    return TypeError(
        "Argument 'model': expected a PyTorch module or exported program, a Keras model, a scikit-learn estimator, "
        f"an ONNX model, a model spec (a dict), or a path that ends in one of {', '.join(endings)}, got "
        f"{describe(model)}.{_instead(model)}"
    )


def _path(path: str, endings: str) -> str:
    expected = f"Argument 'model': expected a path that ends in one of {endings}, got the path '{path}'."
    suffix = Path(path).suffix.lower()
    if not path:
        return expected
    if suffix in _PICKLED:
        load = "joblib.load(path)" if suffix in (".joblib", ".sav") else "torch.load(path, weights_only=False)"
        return see(
            "weights-without-a-model",
            f"{expected} Such a file can run code when it is loaded, so innsight_py does not load it. If you trust it, "
            f"load it yourself: a whole network by Converter({load}, input_dim=...). If it holds weights alone: "
            f"{BUILD_FIRST}",
        )
    if suffix == ".pb" or Path(path).is_dir():
        return f"{expected} Load the model with its own package, and give that; Keras saves it as one '.keras' file."
    if suffix == "":
        return f"{expected} A model is given as an object, not by its name."
    return expected


def _instead(model: Any) -> str:
    """Say what to give instead of an object."""
    if isinstance(model, type):
        return f" This is the class; make an instance first: {model.__name__}(...)."
    if any(cls.__name__ == "Converter" for cls in type(model).__mro__):
        return " This model is converted already: give it to a method, such as run_deeplift(converter, data)."
    if isinstance(model, list | tuple) and model and all(isinstance(entry, nn.Module) for entry in model):
        return " Put the modules together: torch.nn.Sequential(*layers)."
    if isinstance(model, Tensor | np.ndarray) or _is_frame(model):
        return " These are numbers: Converter takes the model, and the data go to the method."
    if inspect.isgenerator(model) or (isinstance(model, list) and model and isinstance(model[0], Tensor)):
        return " Give the network, not its parameters."
    if inspect.isroutine(model) or hasattr(model, "predict"):
        return " LIME and SHAP explain whatever predicts: run_lime(model, data), run_shap(model, data, data_ref)."
    return ""


def _is_frame(value: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series)
