"""Where each error and warning is explained: the sections of ``docs/errors.md``, whose addresses end the messages.

A message that belongs to a section of its own says so where it is written, with `see`. All others get the section of
the module that raises them (`SECTION_OF`) on their way out, from `explained`.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

#: The page, as it is found in the repository and on the site.
PAGE = "docs/errors.md"

#: All sections: the end of the address, and what an error or a warning there says.
SECTIONS = {
    # arguments
    "arguments": "an argument is of the wrong kind or out of range",
    "names-of-other-packages": "an argument has the name that another package gives it",
    "converter-first": "a method got something else than a Converter",
    # models
    "unknown-models": "there is no way to read a model from this object",
    "weights-without-a-model": "a file or dict has weights, and not the network that uses them",
    "files": "a file is damaged, of another kind, or cannot be written",
    "input-shapes": "the model cannot run on inputs of this shape",
    "how-it-is-called": "the model is not called like this, or has no such input or output",
    "control-flow": "the path through the model depends on the data",
    "whole-number-inputs": "the model takes whole numbers, or turns its inputs into them",
    "outputs-that-are-no-tensors": "the model returns something else than tensors that depend on its inputs",
    "torch-models": "a PyTorch module cannot be converted",
    "keras-models": "a Keras model cannot be converted",
    "onnx-models": "an ONNX model cannot be converted",
    "sklearn-models": "an estimator of scikit-learn or skorch cannot be converted",
    "r-models": "a model of R cannot be converted",
    "specs": "a model spec contradicts itself",
    "not-the-original": "the converted model computes something else than the original",
    "own-backward": "the gradient of the module is not the derivative of its outputs",
    "training-mode": "the module is in training mode",
    # data
    "data-shapes": "data have another shape than the model's inputs",
    "numbers-only": "data hold something else than numbers",
    "columns": "the columns of a table are not the model's inputs",
    "missing-values": "data hold NaN or infinite values",
    "token-ids": "numbers of tokens are not whole, or the embedding has no vectors for them",
    "other-lengths": "texts have another length than the example",
    "references": "reference values do not fit",
    "labels": "labels do not fit the shapes of the model",
    "output-nodes": "there is no such output node",
    # methods
    "no-rule": "a method has no rule for a layer",
    "lrp-rules": "LRP has no such rule, or not for this layer",
    "residual": "attributions do not add up",
    "infinite-attributions": "attributions are NaN or infinite, though the data are not",
    "methods": "a method cannot work with these arguments",
    "modules-as-they-are": "a module cannot be explained without conversion",
    "predictions": "LIME and SHAP cannot get predictions",
    "metrics": "a metric cannot judge this result",
    "other-packages": "attributions of another package, or for one, do not fit",
    # results
    "results": "a result has no such form",
    "pictures": "a picture cannot be drawn like this",
    "saved-pictures": "a picture cannot be written to this file",
    "data-sets": "a data set cannot be explained, or its explanations cannot be read",
    "packages": "an optional package is missing",
    "command-line": "the command cannot be run like this",
}

#: The section of the errors and warnings of a module (or of all in a room) that do not name their own.
SECTION_OF = {
    "": "arguments",
    "cli": "command-line",
    "converters": "unknown-models",
    "converters.files": "files",
    "converters.keras": "keras-models",
    "converters.keras.files": "files",
    "converters.onnx": "onnx-models",
    "converters.r": "r-models",
    "converters.safetensors": "files",
    "converters.sklearn": "sklearn-models",
    "converters.torch": "torch-models",
    "converters.torch.calling": "how-it-is-called",
    "converters.torch.exported": "files",
    "datasets": "data-sets",
    "datasets.columns": "columns",
    "converters.use": "how-it-is-called",
    "inputs.data": "data-shapes",
    "inputs.frames": "columns",
    "inputs.names": "labels",
    "inputs.references": "references",
    "inputs.selection": "output-nodes",
    "inputs.targets": "output-nodes",
    "layers": "specs",
    "layers.base": "no-rule",
    "methods": "methods",
    "methods.agnostic": "predictions",
    "methods.alarm": "infinite-attributions",
    "methods.deeplift": "residual",
    "methods.deepshap": "residual",
    "methods.direct": "modules-as-they-are",
    "methods.for_quantus": "other-packages",
    "methods.foreign": "other-packages",
    "methods.lrp": "lrp-rules",
    "methods.rescaling": "residual",
    "metrics": "metrics",
    "model": "specs",
    "model.converter": "input-shapes",
    "model.derivative": "own-backward",
    "model.module": "modules-as-they-are",
    "model.original": "not-the-original",
    "model.assignment": "lrp-rules",
    "model.composites": "lrp-rules",
    "model.rule_names": "lrp-rules",
    "model.rule_table": "lrp-rules",
    "model.selectors": "lrp-rules",
    "plots": "pictures",
    "results": "results",
    "results.completeness": "residual",
    "results.exchange": "other-packages",
    "rules": "lrp-rules",
    "spec": "specs",
    "spec.keys": "arguments",
}

_ADDRESS = re.compile(rf"{re.escape(PAGE)}#([\w-]+)$")
#: What the package raises; its subclasses are among these.
OURS = (ValueError, TypeError, OSError, ImportError, NotImplementedError, IndexError)

P = ParamSpec("P")
R = TypeVar("R")


def see(code: str, message: str) -> str:
    """End a message with the address of its section.

    Examples
    --------
    >>> see("residual", "the attributions do not add up")
    'the attributions do not add up. See docs/errors.md#residual'
    """
    assert code in SECTIONS, code
    stop = "" if message.endswith((".", "?", "!")) else "."
    return f"{message}{stop} See {PAGE}#{code}"


def unseen(error: Exception) -> str:
    """Return a message without the address at its end.

    Examples
    --------
    >>> unseen(ValueError(see("residual", "the attributions do not add up.")))
    'the attributions do not add up.'
    """
    return str(error).partition(f" See {PAGE}#")[0]


def code_of(message: object) -> str | None:
    """Return the section that a message ends with.

    Examples
    --------
    >>> code_of(see("residual", "The attributions do not add up."))
    'residual'
    """
    found = _ADDRESS.search(str(message))
    return found[1] if found else None


def section_of(module: str) -> str:
    """Return the section of a module: its own, or that of the room around it.

    Examples
    --------
    >>> section_of("innsight_py.converters.keras.door"), section_of("innsight_py._checks")
    ('keras-models', 'arguments')
    """
    place = module.partition(".")[2]
    while place not in SECTION_OF:
        place = place.rpartition(".")[0]
    return SECTION_OF[place]


def with_section(message: str, module: str) -> str:
    """End a message with the address of its section: its own, or that of the module that wrote it."""
    return message if code_of(message) else see(section_of(module), message)


def explain(error: BaseException) -> None:
    """End the message of an error with the address of its section, if a line of this package has raised it."""
    trace = error.__traceback__
    if trace is None or not isinstance(error, OURS):
        return
    while trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "")
    if module.partition(".")[0] != "innsight_py" or len(error.args) != 1 or not isinstance(error.args[0], str):
        return
    message = error.args[0]
    if isinstance(error, ImportError) and not code_of(message):
        message = see("packages", message)
    error.args = (with_section(message, module),)


def explained(function: Callable[P, R]) -> Callable[P, R]:
    """End the messages of all errors that leave a function with the addresses of their sections."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except OURS as error:
            explain(error)
            raise

    wrapper.ends_with_address = True  # type: ignore[attr-defined]
    return wrapper


def caller(depth: int = 1) -> str:
    """Return the name of the module that called the caller of this function."""
    return str(sys._getframe(depth + 1).f_globals.get("__name__", ""))
