"""The doors: one module for each kind of model, each writing a model spec.

A door imports its framework only when a model of that framework arrives.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

from innsight_py.converters.files import LOADERS, READERS, loader_of, reader_of
from innsight_py.converters.reading import Reading
from innsight_py.converters.unknown import no_door, weights_alone
from innsight_py.converters.use import Use, used

__all__ = ["Reading", "read_model"]

_TORCH = "innsight_py.converters.torch.door"
#: (module of the framework, class in it, our door); looked up only if the user has imported the framework.
_DOORS = (
    (
        "keras",
        "Model",
        "innsight_py.converters.keras.door",
    ),  # before torch: there it is a module, too
    ("tf_keras", "Model", "innsight_py.converters.keras.door"),
    ("torch.nn", "Module", _TORCH),
    ("torch.export", "ExportedProgram", "innsight_py.converters.torch.exported"),
    ("innsight_py.converters.torch.exported", "FileProgram", "innsight_py.converters.torch.exported"),
    ("onnx", "ModelProto", "innsight_py.converters.onnx.door"),
    ("skorch", "NeuralNet", "innsight_py.converters.sklearn"),
    ("sklearn.base", "BaseEstimator", "innsight_py.converters.sklearn"),
)


def read_model(
    model: Any,
    input_dim: tuple[tuple[int, ...], ...] | None,
    custom_backward: str = "derivative",
    use: Use | None = None,
) -> Reading:
    """Find the door for a model and read it.

    Parameters
    ----------
    model : Any
        The model.
    input_dim : tuple of tuple of int, optional
        Shapes of the inputs, for models that do not know them.
    custom_backward : {"derivative", "own"}
        What functions of a PyTorch module with a backward of their own have as their gradient.
    use : Use, optional
        How it is called, and what of it is explained.

    Raises
    ------
    TypeError
        If there is no door for such a model.
    ValueError
        If a dict holds weights without a network.
    """
    use = use or Use()
    if isinstance(model, Mapping):
        error = weights_alone(model)
        if error is not None:
            raise error
        return used(Reading(dict(model)), use)
    if isinstance(model, str | os.PathLike) and (reader := reader_of(model)) is not None:
        return used(Reading(reader(Path(model))), use)
    if isinstance(model, str | os.PathLike) and (loader := loader_of(model)) is not None:
        model = loader(Path(model))
    for framework, name, door in _DOORS:
        module = sys.modules.get(framework)
        if module is not None and isinstance(model, getattr(module, name, ())):
            return _read(door, model, input_dim, custom_backward, use)
    if isinstance(model, FunctionType | MethodType | functools.partial) or (not use.is_plain and callable(model)):
        return _read(_TORCH, model, input_dim, custom_backward, use)
    raise no_door(model, (*READERS, *LOADERS))


def _read(door: str, model: Any, input_dim: Any, custom_backward: str, use: Use) -> Reading:
    room = importlib.import_module(door)
    if door == _TORCH:
        reading: Reading = room.read(model, input_dim, custom_backward, use)
        return reading
    found: Reading = room.read(model, input_dim, use)
    return found
