"""A method as a function that Quantus calls."""

from __future__ import annotations

import hashlib
import inspect
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from innsight_py._checks import describe, suggestion
from innsight_py._errors import explained
from innsight_py.methods.base import InterpretingMethod
from innsight_py.methods.registry import RUNNERS
from innsight_py.model.converter import Converter
from innsight_py.model.explainable import Explainable

#: Number of converted models that are kept: Quantus calls a model and a changed one in turn.
KEPT = 4
#: Methods that take a module as it is.
_AGNOSTIC = ("run_shap", "run_lime")


class ExplainFunction:
    """Calls a method as Quantus wants it, see `explain_func`."""

    def __init__(self, run: Callable[..., InterpretingMethod], arguments: dict[str, Any]) -> None:
        self.run, self.arguments = run, arguments
        self._converters: OrderedDict[str, Any] = OrderedDict()

    def __call__(self, model: Any, inputs: Any, targets: Any = None, **others: Any) -> np.ndarray:
        """Explain a node of each row; returns ``(B, *dims)``, the shape of `inputs`.

        Parameters
        ----------
        model : torch.nn.Module or keras.Model
            The model, which may have changed since the last call.
        inputs : ndarray
            ``(B, *dims)``.
        targets : ndarray or int, optional
            The node of each row, ``(B,)``. Default: the one with the largest output.
        **others
            What Quantus hands on besides (``device``); not used.
        """
        data = np.asarray(inputs)
        nodes: Any = "predicted" if targets is None else np.asarray(targets).reshape(-1).tolist()
        if isinstance(nodes, list) and len(nodes) == 1:
            nodes = nodes * len(data)
        result = self.run(self._converted(model, data), data, **{"target": nodes, "verbose": False, **self.arguments})
        found: np.ndarray = result.get_result()[..., 0]
        return found

    def _converted(self, model: Any, data: np.ndarray) -> Any:
        if isinstance(model, Explainable) or self.run.__name__ in _AGNOSTIC:
            return model
        if not isinstance(model, nn.Module):
            return Converter(model)
        key = fingerprint(model, data.shape[1:])
        if key not in self._converters:
            training = model.training
            try:
                self._converters[key] = Converter(model.eval(), input_dim=tuple(data.shape[1:]))
            finally:
                model.train(training)
        self._converters.move_to_end(key)
        while len(self._converters) > KEPT:
            self._converters.popitem(last=False)
        return self._converters[key]


def fingerprint(module: nn.Module, dim: tuple[int, ...]) -> str:
    """Return a text that changes when a module's parts, parameters or buffers do.

    Examples
    --------
    >>> module = nn.Linear(2, 1)
    >>> before = fingerprint(module, (2,))
    >>> _ = nn.init.zeros_(module.weight)
    >>> before == fingerprint(module, (2,))
    False
    """
    found = hashlib.sha256(f"{type(module)}{module}{dim}".encode())
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        found.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


@explained
def explain_func(run: Callable[..., InterpretingMethod], **arguments: Any) -> ExplainFunction:
    """Make a method a function that Quantus calls: ``explain_func=explain_func(run_deeplift, x_ref=...)``.

    A module is converted when it comes first, and anew when its parameters have changed, as some metrics of Quantus
    do; the last four conversions are kept.

    Parameters
    ----------
    run : callable
        A function of this package that explains: `run_deeplift`, `run_lrp`, `run_shap`, ...
    **arguments
        Its arguments besides the model, the data and the target.

    Returns
    -------
    callable
        It takes ``model``, ``inputs`` and ``targets``, and returns an array of the shape of the inputs.

    Raises
    ------
    TypeError
        If `run` is no such function, or has no such argument.

    Examples
    --------
    >>> from innsight_py import run_grad
    >>> explain = explain_func(run_grad, times_input=True)
    >>> explain(model=nn.Linear(3, 2), inputs=np.ones((4, 3), np.float32), targets=np.array([0, 1, 1, 0])).shape
    (4, 3)
    """
    known = [runner for runner in RUNNERS.values() if runner.__name__ != "run_cw"]
    if not any(run is runner for runner in known):
        names = ", ".join(runner.__name__ for runner in known)
        raise TypeError(f"Argument 'run': expected one of {names}, got {describe(run)}.")
    takes = [name for name in inspect.signature(run).parameters if name not in ("converter", "model", "data")]
    for name in arguments:
        if name not in takes:
            raise TypeError(
                f"{run.__name__} has no argument '{name}' for 'explain_func'{suggestion(name, takes)} "
                f"It takes: {', '.join(takes)}."
            )
    return ExplainFunction(run, arguments)
