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
import re
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from pydantic import ConfigDict, PlainValidator, TypeAdapter, ValidationError, validate_call

from innsight_py._ambient import is_neutral, neutral
from innsight_py._errors import OURS, caller, explain, explained, see, with_section
from innsight_py._foreign import what_it_is_here

#: Larger counts are refused, because libraries store counts as 32-bit integers.
LARGEST_COUNT = 2**31 - 1

P = ParamSpec("P")
R = TypeVar("R")

_CONFIG = ConfigDict(arbitrary_types_allowed=True, strict=True)


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
    if value is None or isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    if inspect.isroutine(value):
        return f"the function {getattr(value, '__qualname__', value)}"
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


#: The longest word, and the largest number of words, that are compared with an unknown one: comparing takes time.
_LONGEST_WORD, _CANDIDATES = 100, 1000


def suggestion(word: str, known: Iterable[str]) -> str:
    """End a sentence, with ``"; did you mean 'weight'?"`` when `word` looks like a typo of a known word."""
    if len(word := str(word)) > _LONGEST_WORD:
        return "."
    names = [str(name) for name in islice(known, _CANDIDATES)]
    by_lower = {name.lower(): name for name in names if len(name) <= _LONGEST_WORD}
    close = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.7)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else "."


def _flag(value: object) -> bool:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise WrongTypeError("True or False")


def warn(message: str) -> None:
    """Warn of something, at the line outside of this package that is responsible; the message gets its address."""
    message = with_section(message, caller())
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    _SAID.count = warnings_said() + 1
    warnings.warn(message, UserWarning, stacklevel=level)


_SAID = threading.local()


def warnings_said() -> int:
    """Return how often this package has warned in this thread, shown or not."""
    count: int = getattr(_SAID, "count", 0)
    return count


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


@dataclass(frozen=True)
class Plainly:
    """Says in an annotation of which class exactly a value is accepted as it is, without being looked at."""

    kind: type


#: A plain truth value; numbers and strings are refused, as in R.
Flag = Annotated[bool, PlainValidator(_flag), Plainly(bool)]
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


@explained
def _raise_first(error: ValidationError, signature: inspect.Signature, function: str) -> None:
    errors = error.errors(include_url=False)
    # An unknown argument explains a missing one: it has the name that another package gives it.
    first = next((one for one in errors if one["type"] == "unexpected_keyword_argument"), errors[0])
    known = [name for name in signature.parameters if name not in ("self", "cls")]
    place = first["loc"][0] if first["loc"] else ""
    by_place = list(signature.parameters)
    name = by_place[place] if isinstance(place, int) and place < len(by_place) else str(place)
    if first["type"] == "unexpected_keyword_argument":
        raise TypeError(_unknown(function, name, known)) from None
    if first["type"] in ("missing_argument", "missing_keyword_only_argument", "missing_positional_only_argument"):
        needed = [name for name in known if signature.parameters[name].default is inspect.Parameter.empty]
        raise TypeError(f"{function} needs the argument '{name}': {function}({', '.join(needed)}).") from None
    if first["type"] == "unexpected_positional_argument":
        raise TypeError(
            f"{function} was given too many positional arguments; arguments after the data are passed by name."
        ) from None
    if first["type"] == "multiple_argument_values":
        raise TypeError(f"{function} was given the argument '{name}' twice.") from None
    expected, wrong_type = _expected(first)
    message = f"Argument '{name}': expected {expected}, got {describe(first['input'])}."
    if name in _ADVICE:
        message = _ADVICE[name](message, first["input"])
    raise (TypeError if wrong_type else ValueError)(message) from None


def _unknown(function: str, name: str, known: list[str]) -> str:
    takes = f"It takes: {', '.join(known)}."
    here = what_it_is_here(name, known)
    if here is not None:
        return see("names-of-other-packages", f"{function} has no argument '{name}'; {here}. {takes}")
    return f"{function} has no argument '{name}'{suggestion(name, known)} {takes}"


def _converter_advice(message: str, value: object) -> str:
    if _axes(value):
        return see("converter-first", f"{message} The converter comes first, then the data.")
    return see(
        "converter-first",
        f"{message} Make one of the model first: converter = Converter(model, input_dim=...), and give that.",
    )


def _dtype_advice(message: str, value: object) -> str:
    own = {"64": "double", "32": "float"}.get(re.sub(r"\D", "", getattr(value, "__name__", str(value))))
    return message if own is None else f"{message} Write dtype='{own}'."


#: What else to say of a wrong value, by the name of the argument.
_ADVICE: dict[str, Callable[[str, object], str]] = {"converter": _converter_advice, "dtype": _dtype_advice}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Enforce the annotations of `function` on every call, which does not depend on what a caller has switched on.

    Raises
    ------
    TypeError
        For an argument of the wrong kind, a missing or an unknown one.
    ValueError
        For an argument of the right kind with a value that is not allowed.
    """
    validated: list[tuple[Callable[P, R], _Plain]] = []  # on first use: annotations may name things defined later
    signature = inspect.signature(function)
    name = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            if not validated:
                validated.append((_validating(function), _Plain(function, signature)))
            call, plain = validated[0]
            if plain.fits(args, kwargs):
                call = function
            if is_neutral():
                return call(*args, **kwargs)
            with neutral():
                return call(*args, **kwargs)
        except ValidationError as error:
            _raise_first(error, signature, name)
            raise
        except OURS as error:
            explain(error)
            raise

    wrapper.ends_with_address = True  # type: ignore[attr-defined]
    return wrapper


class _Plain:
    """Knows the calls with which nothing can be wrong, and of which nothing is changed: they take no validation."""

    def __init__(self, function: Callable[..., Any], signature: inspect.Signature) -> None:
        parameters = list(signature.parameters.values())
        needed = [p for p in parameters if p.default is p.empty]
        known = needed == parameters[: len(needed)]
        known = known and all(p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters)
        try:
            hints = get_type_hints(function, include_extras=True)
        except NameError:
            known, hints = False, {}
        kinds = {p.name: _plain_kinds(hints.get(p.name, Any)) for p in parameters} if known else {}
        #: What the needed arguments may be, which come in their order; and what others may be. None is for anything.
        self._needed = [kinds[p.name] for p in needed] if known else None
        self._others = {p.name: kinds[p.name] for p in parameters[len(needed) :]} if known else {}

    def fits(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Tell whether pydantic would hand these arguments on as they are."""
        needed, others = self._needed, self._others
        if needed is None or len(args) != len(needed):
            return False
        for kinds, value in zip(needed, args, strict=True):
            if kinds is not None and type(value) not in kinds:
                return False
        for name, value in kwargs.items():
            if name not in others:
                return False
            kinds = others[name]
            if kinds is not None and type(value) not in kinds and not (type(value) is str and value in kinds):
                return False
        return True


def _plain_kinds(hint: Any) -> frozenset[Any] | None:
    """Return the classes whose values an annotation lets through as they are, and such texts; None for anything."""
    if hint is Any:
        return None
    origin = get_origin(hint)
    if hint is type(None):
        return frozenset([hint])
    if origin is Annotated:
        return frozenset(mark.kind for mark in get_args(hint)[1:] if isinstance(mark, Plainly))
    if origin is Literal:
        return frozenset(value for value in get_args(hint) if isinstance(value, str))
    if origin is Union or origin is types.UnionType:
        parts = [_plain_kinds(part) for part in get_args(hint)]
        return None if None in parts else frozenset().union(*(part for part in parts if part is not None))
    if isinstance(hint, type) and TypeAdapter(hint, config=_CONFIG).core_schema["type"] == "is-instance":
        return frozenset([hint])
    return frozenset()


def _validating(function: Callable[P, R]) -> Callable[P, R]:
    """Let pydantic validate a function.

    For good it keeps the names that its caller has. This function has none; the wrapper would have those of a call.
    """
    return validate_call(config=_CONFIG)(function)
