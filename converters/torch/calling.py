"""How a user calls a module: the tensors that it takes by position, and what is chosen of what it returns.

The rest of the door knows modules that take one tensor an input, by position and batch first, and return tensors.
`Called` makes such a module of any other, or of a function: it puts the arguments together as the user does, calls,
and picks the outputs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from innsight_py._checks import describe, suggestion
from innsight_py._errors import see
from innsight_py.converters.torch.functions import Function
from innsight_py.converters.torch.nested import entries, filled
from innsight_py.spec import SpecError
from innsight_py.spec.keys import quoted

#: The attribute of a `Called` that holds the user's module; its parts are named without it.
INNER = "_called"


@dataclass(frozen=True)
class Taken:
    """A tensor that a module takes: its name, and one row of it as the user gives it."""

    key: str
    row: Tensor

    @property
    def dim(self) -> tuple[int, ...]:
        """Shape of an instance, with one axis at least."""
        return tuple(self.row.shape[1:]) or (1,)


@dataclass(frozen=True)
class Arguments:
    """How a module is called: the arguments in their structure, and where in it the inputs are."""

    structure: Any  # (positional arguments, keyword arguments), with the number of an input where that is
    taken: tuple[Taken, ...]

    def filled(self, inputs: Sequence[Tensor]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the arguments with inputs ``(B, *dims)``."""

        def place(value: Any) -> Any:
            if not isinstance(value, _Place):
                return value
            x, row = inputs[value.number], self.taken[value.number].row
            x = x.reshape(x.shape[0]) if row.dim() == 1 else x
            return x if row.is_floating_point() else x.to(row.dtype)

        args, kwargs = filled(self.structure, place)
        return args, kwargs


class _Place:
    """Where an input goes. No dataclass, whose fields would be looked into."""

    def __init__(self, number: int) -> None:
        self.number = number


def read_example(example: Any, model: Callable[..., Any]) -> Arguments:
    """Read how a user calls a module.

    Parameters
    ----------
    example : tensor, tuple, list or dict
        One argument; several by position; or a dict of keyword arguments. Each tensor has one or more rows.
    model : callable
        What is called.

    Raises
    ------
    TypeError, ValueError
        If there is no tensor in it, or tensors have no rows, or other numbers of rows.
    """
    args: tuple[Any, ...]
    if isinstance(example, Mapping):
        args, kwargs = (), dict(example)
    elif isinstance(example, tuple | list) and not hasattr(example, "_fields"):
        args, kwargs = tuple(example), {}
    else:
        args, kwargs = (example,), {}
    names = _parameters(model, len(args))
    taken: list[Taken] = []

    def note(path: tuple[Any, ...], value: Any) -> Any:
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if not isinstance(value, Tensor) or not value.dim():
            return value
        where, *rest = path[1:]
        key = ".".join(map(str, (names[where] if path[0] == 0 else where, *rest)))
        if not len(value):
            raise ValueError(f"Argument 'example': expected tensors with one row or more, got none in '{key}'.")
        taken.append(Taken(key, value[:1].detach().cpu()))
        rows.append(len(value))
        return _Place(len(taken) - 1)

    rows: list[int] = []
    _refuse_unknown(model, args, kwargs)
    structure = filled((args, kwargs), note, with_path=True)
    if not taken:
        raise TypeError(
            f"Argument 'example': expected a tensor, a tuple or a dict with tensors, got {describe(example)}."
        )
    if len(set(rows)) > 1:
        told = ", ".join(f"'{x.key}' has {n}" for x, n in zip(taken, rows, strict=True))
        raise ValueError(f"Argument 'example': expected as many rows in each tensor, along their first axis; {told}.")
    return Arguments(structure, tuple(taken))


def _refuse_unknown(model: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[Any, Any]) -> None:
    """Refuse arguments that a module does not have; one with hooks may change them before."""
    if isinstance(model, nn.Module) and model._forward_pre_hooks:
        return
    try:
        signature = inspect.signature(model.forward if isinstance(model, nn.Module) else model)
    except (TypeError, ValueError):  # written in C
        return
    try:
        signature.bind(*args, **{str(key): value for key, value in kwargs.items()})
    except TypeError as error:
        raise TypeError(f"Argument 'example': the model takes {signature}, {error}.") from None


def _parameters(model: Callable[..., Any], n: int) -> list[str]:
    """Return the names of the first n arguments by position, numbers where they have none."""
    default = [f"input_{i + 1}" for i in range(n)]
    try:
        call = model.forward if isinstance(model, nn.Module) else model
        parameters = list(inspect.signature(call).parameters.values())[:n]
    except (TypeError, ValueError):  # written in C
        return default
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [*named, *default[len(named) :]]


class Called(nn.Module):
    """A module (or function) that is given one tensor an input, by position, and returns what is explained.

    Parameters
    ----------
    module : torch.nn.Module
        The user's module.
    arguments : Arguments, optional
        How it is called. Default: with the inputs by position.
    output : str, int, callable or dict, optional
        What is taken of what it returns; a dict names several. Default: all tensors.
    channels_last : bool
        Whether the module has its channels last; what it is given here, and returns, has them first.
    """

    def __init__(self, module: nn.Module, arguments: Arguments | None, output: Any, channels_last: bool) -> None:
        super().__init__()
        self.add_module(INNER, module)
        self.arguments, self.output, self.channels_last = arguments, output, channels_last

    def forward(self, *inputs: Tensor) -> Any:
        """Run the module."""
        given = [x.movedim(1, -1) if self.channels_last and x.dim() > 2 else x for x in inputs]
        args, kwargs = (given, {}) if self.arguments is None else self.arguments.filled(given)
        found = chosen(self._modules[INNER](*args, **kwargs), self.output)  # type: ignore[misc]
        return filled(found, lambda x: x.movedim(-1, 1) if self.channels_last and x.dim() > 2 else x)


def channels_to_front(dim: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of an instance channels first.

    Examples
    --------
    >>> channels_to_front((12, 3))
    (3, 12)
    """
    return (dim[-1], *dim[:-1])


def as_module(model: Any) -> nn.Module:
    """Return a module as it is, another callable as a module of what it calls."""
    return model if isinstance(model, nn.Module) else Function(model)


def chosen(returned: Any, output: Any) -> Any:
    """Take what is explained of what a module returns: a tensor, a list, or a dict by names.

    Raises
    ------
    SpecError
        If there is no such entry, or what is chosen is no tensor.
    """
    if output is None:
        found = dict(entries(returned))
        if isinstance(returned, Tensor):
            return returned
        return list(found.values()) if isinstance(returned, list | tuple) and not _has_fields(returned) else found
    if isinstance(output, Mapping):
        return {str(name): _one(returned, choice) for name, choice in output.items()}
    if isinstance(output, list | tuple):
        return {str(choice): _one(returned, choice) for choice in output}
    if isinstance(output, str):
        return {output: _one(returned, output)}
    return _one(returned, output)


def _has_fields(value: Any) -> bool:
    return hasattr(value, "_fields")


def _one(returned: Any, choice: Any) -> Tensor:
    if callable(choice):
        value = _made_by(choice, returned)
    elif isinstance(choice, str) and isinstance(returned, Mapping) and choice in returned:
        value = returned[choice]
    elif isinstance(choice, str) and not isinstance(returned, Tensor) and hasattr(returned, choice):
        value = getattr(returned, choice)
    elif isinstance(choice, int) and isinstance(returned, list | tuple) and -len(returned) <= choice < len(returned):
        value = returned[choice]
    elif isinstance(choice, int) and isinstance(returned, Mapping) and -len(returned) <= choice < len(returned):
        value = list(returned.values())[choice]
    else:
        raise SpecError(f"Argument 'output': the module returns {_told(returned)}, which has no entry {choice!r}.")
    if not isinstance(value, Tensor):
        raise SpecError(f"Argument 'output': expected {choice!r} to give a tensor, got {describe(value)}.")
    return value


def _made_by(function: Callable[[Any], Any], returned: Any) -> Any:
    try:
        return function(returned)
    except Exception as error:  # whatever a function of the user's raises
        if torch.compiler.is_compiling():  # it ran before: that is about tracing
            raise
        raise SpecError(
            f"Argument 'output': the function raises {type(error).__name__} on what the module returns, "
            f"{_told(returned)}: {error}"
        ) from error


def _told(returned: Any) -> str:
    keys = [key for key, _ in entries(returned)]
    return (
        "a tensor" if isinstance(returned, Tensor) else f"{type(returned).__name__} with {', '.join(map(repr, keys))}"
    )


def find_fixed(names: Sequence[str], keys: Sequence[str], taken: Sequence[Taken] | None) -> tuple[list[int], list[int]]:
    """Return the numbers of the inputs that come with each row and are not explained, and of those that may be tokens.

    The first are those that the user names, truth values, and numbers of positions or types. Other whole numbers may
    be tokens: they are explained where they go into an embedding, and fixed otherwise.

    Raises
    ------
    ValueError
        If there is no input of such a name, or none is left to be explained.
    """
    for name in names:
        if name not in keys:
            raise ValueError(
                f"Argument 'fixed': the model has no input {name!r}{suggestion(name, keys)} It has {quoted(keys)}."
            )
    named = {list(keys).index(name) for name in names}
    whole = [] if taken is None else [i for i, x in enumerate(taken) if not x.row.is_floating_point()]
    tokens = [
        i
        for i in whole
        if i not in named and taken is not None and taken[i].row.dtype != torch.bool and not is_beside(keys[i])
    ]
    found = sorted({*named, *whole} - set(tokens))
    if len(found) == len(keys):
        raise nothing_left(names, keys)
    return found, tokens


def nothing_left(names: Sequence[str], keys: Sequence[str]) -> ValueError:
    """Build the error for a model all of whose inputs are fixed."""
    what = "Argument 'fixed'" if names else "Argument 'example'"
    return ValueError(
        see(
            "whole-number-inputs",
            f"{what}: no input is left to be explained ({quoted(keys)} are fixed, or made of whole numbers that go "
            "into no embedding, which have no gradient). Give the model floating-point numbers, or numbers of tokens.",
        )
    )


def is_beside(key: str) -> bool:
    """Tell by its name whether an input of whole numbers says something about tokens, instead of being these.

    Examples
    --------
    >>> [is_beside(key) for key in ("input_ids", "token_type_ids", "position_ids", "colour", "attention_mask")]
    [False, True, True, False, False]
    """
    return _BESIDE.search(key) is not None


#: Inputs of whole numbers that say where a token stands, or in which part of a text: they are looked up as well.
_BESIDE = re.compile(r"(^|_|\.)(type|position|segment|lang|language)_ids?$")
