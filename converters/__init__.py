"""The doors: one module for each kind of model, each writing a model spec.

A door imports its framework only when a model of that framework arrives.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from innsight_py._checks import describe
from innsight_py.converters.files import LOADERS, READERS, loader_of, reader_of
from innsight_py.converters.reading import Reading
from innsight_py.spec import check_spec

__all__ = ["Reading", "read_model"]

#: (module of the framework, class in it, our door); looked up only if the user has imported the framework.
_DOORS = (
    ("keras", "Model", "innsight_py.converters.keras"),  # before torch: on the torch backend it is a module as well
    ("tf_keras", "Model", "innsight_py.converters.keras"),
    ("torch.nn", "Module", "innsight_py.converters.torch"),
    ("torch.export", "ExportedProgram", "innsight_py.converters.torch_exported"),
    ("skorch", "NeuralNet", "innsight_py.converters.sklearn"),
    ("sklearn.base", "BaseEstimator", "innsight_py.converters.sklearn"),
)


def read_model(model: Any, input_dim: tuple[tuple[int, ...], ...] | None) -> Reading:
    """Find the door for a model and read it.

    Parameters
    ----------
    model : Any
        The model.
    input_dim : tuple of tuple of int, optional
        Shapes of the inputs, for models that do not know them.

    Raises
    ------
    TypeError
        If there is no door for such a model.
    """
    if isinstance(model, Mapping):
        return Reading(check_spec(model))
    if isinstance(model, str | os.PathLike) and (reader := reader_of(model)) is not None:
        return Reading(check_spec(reader(Path(model))))
    if isinstance(model, str | os.PathLike) and (loader := loader_of(model)) is not None:
        model = loader(Path(model))
    for framework, name, door in _DOORS:
        module = sys.modules.get(framework)
        if module is not None and isinstance(model, getattr(module, name, ())):
            spec, run, values = importlib.import_module(door).read(model, input_dim)
            return Reading(check_spec(spec), run, values)
    got = f"the path '{model}'" if isinstance(model, str | os.PathLike) else describe(model)
    raise TypeError(
        "Argument 'model': expected a PyTorch module or exported program, a Keras model, a scikit-learn estimator, a "
        f"model spec (a dict), or a path that ends in one of {', '.join((*READERS, *LOADERS))}, got {got}."
    )
