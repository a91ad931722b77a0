"""What a door gives back: a model spec, and how to run the original beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from innsight_py.inputs.encoding import Encoder

#: Runs the original on inputs ``(B, *dims)``, channels first.
Run = Callable[[Sequence[Tensor]], Sequence[Tensor]]
#: Gives the original's values for one row by the names of layers.
Values = Callable[[Sequence[Tensor]], Mapping[str, Tensor]]

#: Gives autograd's gradient of the original's outputs, each times a vector of nodes, to the inputs of one row.
Gradient = Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor | None]]
#: Gives vectors that are looked up, each with the gradient there, for one row ``(1, *dims)`` of each input and factors.
Vectors = Callable[[Sequence[Tensor], Sequence[Tensor]], list[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class Reading:
    """A model as a door has read it.

    Attributes
    ----------
    spec : dict
        The model spec as the door has written it; `innsight_py.spec.check_spec` checks it.
    run : callable, optional
        Runs the original on inputs ``(B, *dims)``, channels first, in their precision; the converted model is
        compared with it.
    values : callable, optional
        Gives the original's values for one row by the names of layers, to find the first that differs.
    gradient : callable, optional
        Gives the gradient of the original's outputs as autograd has it, for one row.
    vectors : callable, optional
        Gives the vectors that the original looks up for tokens, in the order of its calls, each with the gradient of
        the outputs at it; arguments as of `gradient`.
    custom : tuple of str
        Functions with a backward of their own that the original calls and the spec has the derivative of.
    fixed : mapping
        A row ``(1, *dim)`` of each input that is not explained, or made of tokens, by its number: what it may be random
        rows cannot know.
    tokens : frozenset of int
        The inputs of whole numbers that go into an embedding.
    again : callable, optional
        Reads the same model for rows of other lengths, one row ``(1, *dim)`` of each input.
    remark : callable, optional
        Says what to try where the original cannot be run, or differs; an empty text where there is nothing.
    double : callable, optional
        Computes the same as `run` in double precision, where `run` has single precision only: for gradients, which are
        compared with small differences of outputs. It raises a RuntimeError where something in the model cannot.
    encoder : Encoder, optional
        Turns frames as people have them into the columns of numbers that the model takes.
    """

    spec: dict[str, Any]
    run: Run | None = None
    values: Values | None = None
    gradient: Gradient | None = None
    custom: tuple[str, ...] = ()
    fixed: Mapping[int, Tensor] = field(default_factory=dict)
    remark: Callable[[], str] | None = None
    double: Run | None = None
    encoder: Encoder | None = None
    tokens: frozenset[int] = frozenset()
    again: Callable[[Sequence[Tensor]], Reading] | None = None
    vectors: Vectors | None = None
