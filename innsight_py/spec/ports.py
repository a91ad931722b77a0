"""Kinds of inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

#: What may lie in an input: features; channels along one, two or more axes; numbers of tokens; what is not explained.
Kind = Literal["table", "signal", "image", "volume", "tokens", "fixed"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def kind_of(dim: Sequence[int]) -> Kind:
    """Return the kind of an input (or output) of which only the shape is known, without the batch.

    Examples
    --------
    >>> kind_of((4,)), kind_of((3, 32, 32))
    ('table', 'image')
    """
    kinds: dict[int, Kind] = {1: "table", 2: "signal", 3: "image"}
    return kinds.get(len(dim), "volume")
