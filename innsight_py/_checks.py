"""Argument checks by declaration.

A public callable declares what it takes in its annotations (``Flag``, ``Count``, a ``Literal``, ...) and
``@checked`` enforces them through pydantic before any work is done. What went wrong is said in one line:
the argument, what was expected and what came.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import operator
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import numpy as np
import torch
from pydantic import BeforeValidator, ConfigDict, PlainValidator, ValidationError, validate_call

#: Counts above this are refused: nothing could be done so many times, and libraries count in 32 bits.
LARGEST_COUNT = 2**31 - 1

P = ParamSpec("P")
R = TypeVar("R")


class WrongTypeError(ValueError):
    """Raised inside a validator for a value of the wrong kind; leaves `checked` as a TypeError.

    (pydantic only catches ValueError and AssertionError.)
    """


def describe(value: object) -> str:
    """Say in a few words what a value is, for error messages."""
    if isinstance(value, torch.Tensor):
        return f"a torch tensor of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if value is None:
        return "None"
    if isinstance(value, bool | int | float | str):
        text = repr(value)
        return text if len(text) <= 60 else text[:57] + "..."
    if isinstance(value, list | tuple | dict) and len(value) <= 6:
        text = repr(value)
        if len(text) <= 60:
            return text
    if isinstance(value, list | tuple | dict):
        return f"a {type(value).__name__} of length {len(value)}"
    return f"an object of class {type(value).__module__}.{type(value).__qualname__}"


def suggestion(word: str, known: Iterable[str]) -> str:
    """End a sentence, with ``"; did you mean 'weight'?"`` when `word` looks like a typo of a known word."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.7)
    return f"; did you mean '{close[0]}'?" if close else "."


def _flag(value: object) -> bool:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise WrongTypeError("True or False")


def warn(message: str) -> None:
    """Warn of something, at the line outside of this package that is responsible."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("innsight_py", "pydantic", "contextlib", "functools")


def _axes(value: object) -> int:
    """Count the axes of an array; 0 for anything else."""
    axes: int = getattr(value, "ndim", 0) or 0
    return axes


def is_whole(value: object) -> bool:
    """Tell whether a value is a single whole number, of Python's or of an array library's."""
    if isinstance(value, bool | np.bool_) or _axes(value):
        return False
    try:
        operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def read_whole_number(value: object) -> int:
    """Read a whole number."""
    if not is_whole(value):
        raise WrongTypeError("a whole number")
    return operator.index(value)  # type: ignore[arg-type]


def _count(value: object) -> int:
    number = read_whole_number(value)
    if number < 1:
        raise ValueError("a whole number of at least 1")
    if number > LARGEST_COUNT:
        raise ValueError(f"a whole number of at most {LARGEST_COUNT}")
    return number


def read_number(value: object) -> float:
    """Read a finite number; arrays are none, nor are texts and truth values."""
    if isinstance(value, bool | np.bool_ | str) or not hasattr(value, "__float__") or _axes(value):
        raise WrongTypeError("a finite number")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError("a finite number") from None
    except (TypeError, RuntimeError):
        raise WrongTypeError("a finite number") from None
    if not math.isfinite(number):
        raise ValueError("a finite number")
    return number


def _not_negative(value: object) -> float:
    number = read_number(value)
    if number < 0:
        raise ValueError("a number of at least 0")
    return number


def _seed(value: object) -> int | torch.Generator | None:
    if value is None or isinstance(value, torch.Generator):
        return value
    try:
        number = read_whole_number(value)
    except WrongTypeError:
        raise WrongTypeError("a whole number, a torch.Generator or None") from None
    if number < 0:
        raise ValueError("a whole number of at least 0, a torch.Generator or None")
    return number


def _path(value: object) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise WrongTypeError("a path")
    return Path(value)


def _device(value: object) -> torch.device | None:
    if value is None:
        return None
    if not isinstance(value, str | torch.device):
        raise WrongTypeError("the name of a device, a torch.device or None")
    try:
        device = torch.device(value)
    except RuntimeError:
        raise ValueError("the name of a device ('cpu', 'cuda', 'cuda:1', 'mps')") from None
    if device.type == "meta":
        raise ValueError("a device that holds numbers")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError("a device that this machine and this torch have") from None
    return device


#: A plain truth value; numbers and strings are refused, as in R.
Flag = Annotated[bool, PlainValidator(_flag)]
#: A whole number of at least 1.
Count = Annotated[int, PlainValidator(_count)]
#: A finite number.
Number = Annotated[float, PlainValidator(read_number)]
#: A finite number of at least 0.
NotNegative = Annotated[float, PlainValidator(_not_negative)]
#: The path of a file.
FilePath = Annotated[str | os.PathLike[str], PlainValidator(_path)]
#: A device that tensors can be put on.
Device = Annotated[str | torch.device | None, PlainValidator(_device)]
#: What fixes random draws.
Seed = Annotated[int | torch.Generator | None, PlainValidator(_seed)]


def instance_of(cls: type) -> BeforeValidator:
    """Return a validator that refuses everything that is not a `cls`, naming what came."""

    def check(value: object) -> object:
        if not isinstance(value, cls):
            raise WrongTypeError(f"a {cls.__name__}")
        return value

    return BeforeValidator(check)


def _expected(error: Mapping[str, Any]) -> tuple[str, bool]:
    """Return what was expected by a failed check and whether the type was wrong."""
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, ValueError):
        return str(cause), isinstance(cause, WrongTypeError)
    if error["type"] == "literal_error":
        return f"one of {error['ctx']['expected']}", not isinstance(error["input"], str)
    message = error["msg"]
    if message.startswith("Input should be "):
        message = message.removeprefix("Input should be ")
    return message, error["type"].endswith(("_type", "_of"))


def _raise_first(error: ValidationError, signature: inspect.Signature, caller: str) -> None:
    first = error.errors(include_url=False)[0]
    known = [name for name in signature.parameters if name not in ("self", "cls")]
    place = first["loc"][0] if first["loc"] else ""
    name = known[place - 1] if isinstance(place, int) and 0 < place <= len(known) else str(place)
    if first["type"] == "unexpected_keyword_argument":
        raise TypeError(
            f"{caller} has no argument '{name}'{suggestion(name, known)} It takes: {', '.join(known)}."
        ) from None
    if first["type"] in ("missing_argument", "missing_keyword_only_argument", "missing_positional_only_argument"):
        raise TypeError(f"{caller} needs the argument '{name}'.") from None
    if first["type"] == "unexpected_positional_argument":
        raise TypeError(
            f"{caller} was given too many positional arguments; arguments after the data are passed by name."
        ) from None
    if first["type"] == "multiple_argument_values":
        raise TypeError(f"{caller} was given the argument '{name}' twice.") from None
    expected, wrong_type = _expected(first)
    message = f"Argument '{name}': expected {expected}, got {describe(first['input'])}."
    raise (TypeError if wrong_type else ValueError)(message) from None


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Enforce the annotations of `function` on every call.

    Raises
    ------
    TypeError
        For an argument of the wrong kind, a missing or an unknown one.
    ValueError
        For an argument of the right kind with a value that is not allowed.
    """
    validated: list[Callable[P, R]] = []  # built on first use: annotations may name things defined later
    signature = inspect.signature(function)
    caller = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if not validated:
            config = ConfigDict(arbitrary_types_allowed=True, strict=True)
            validated.append(validate_call(config=config)(function))
        try:
            # Also within a caller's inference mode: what is built there could not be differentiated later.
            with torch.inference_mode(False):
                return validated[0](*args, **kwargs)
        except ValidationError as error:
            _raise_first(error, signature, caller)
            raise

    return wrapper
