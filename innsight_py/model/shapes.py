"""Which shape of the inputs was meant, where a PyTorch module cannot take the one that was given."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from innsight_py._errors import code_of, see
from innsight_py.spec import SpecError

Dims = tuple[tuple[int, ...], ...]


def with_advice(error: SpecError, model: Any, given: Dims | None, works: Callable[[Dims], None]) -> SpecError:
    """Return an error about shapes with a shape that works in its message, if one is found.

    Parameters
    ----------
    error : SpecError
        Why the model cannot be converted.
    model : Any
        The model.
    given : tuple of tuple of int, optional
        The shapes that were given.
    works : callable
        Converts the model with other shapes; raises a SpecError where it cannot.
    """
    if given is None or not isinstance(model, nn.Module) or code_of(error) != "input-shapes":
        return error
    for question, dims in _others(given):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                works(dims)
            except SpecError:
                continue
        shown = dims[0] if len(dims) == 1 else list(dims)
        message, _, _ = str(error).rpartition(" See ")
        return SpecError(see("input-shapes", f"{message} {question} input_dim={shown} works."))
    return error


def _others(given: Dims) -> Iterator[tuple[str, Dims]]:
    """Give the shapes that the user may have meant, each with its advice."""
    if all(len(dim) > 1 for dim in given):
        yield "Did you include the batch?", tuple(dim[1:] for dim in given)
    if any(len(dim) > 2 for dim in given):
        yield "Channels come first:", tuple((dim[-1], *dim[:-1]) if len(dim) > 2 else dim for dim in given)
    if len(given) > 1:
        return
    (dim,) = given
    yield "There is an axis for the channel:", ((1, *dim),)
    if len(dim) == 2:
        yield "Channels come first:", (dim[::-1],)
    if len(dim) > 1:
        yield "The model takes flat inputs:", ((math.prod(dim),),)
