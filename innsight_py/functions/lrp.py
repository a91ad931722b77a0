"""What a rule of LRP is: its name, its parameters, and a table of shares as data.

A layer ``z = W x + b`` hands the relevance of an output to its inputs in shares. A rule says which shares by a small
table: each `Term` takes a part of the input times a part of the weights, and belongs to a `Side`; each side has a
denominator, the sum of its terms and of a part of the bias. One core runs every table (`innsight_py.layers.affine`).

Source: Bach et al. (2015), doi:10.1371/journal.pone.0130140. What happens at exact zeros is as in R innsight 0.3.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from innsight_py._checks import WrongTypeError, describe, read_number
from innsight_py.functions.elementwise import is_zero
from innsight_py.functions.stabilizers import away_from_zero, number, stabilizer

#: Why relevances of LRP do not add up in most models.
BIASES = "biases keep a part of the relevance"
CONSTANTS = "constants that are added (positions, for example) keep a part of the relevance"
#: What replaces the small number at divisions: another number, or a function of the denominators.
Stabilizer = float | Callable[[Tensor], Tensor] | None


@dataclass(frozen=True, eq=False)
class Part:
    """A part of an input, of weights or of a bias: a function of its entries, and the name that it is kept under."""

    name: str
    of: Callable[[Tensor], Tensor]

    @cached_property
    def of_weight(self) -> str:
        """The name of this part of weights."""
        return f"weight {self.name}"

    @cached_property
    def of_bias(self) -> str:
        """The name of this part of a bias."""
        return f"bias {self.name}"


WHOLE = Part("whole", lambda t: t)
ABOVE = Part("above", lambda t: t.clamp(min=0))
BELOW = Part("below", lambda t: t.clamp(max=0))
ONES = Part("ones", torch.ones_like)
SQUARES = Part("squares", lambda t: t * t)


def raised(part: Part, gamma: float) -> Part:
    """Return the part ``w + gamma part(w)``.

    Examples
    --------
    >>> raised(ABOVE, 0.5).of(torch.tensor([2.0, -2.0]))
    tensor([ 3., -2.])
    """
    return Part(f"raised {part.name} {gamma!r}", lambda t: t + gamma * part.of(t))


class Term(NamedTuple):
    """A part of the input times a part of the weights, on the side `side` of the table."""

    input: Part
    weight: Part
    side: int = 0


class Side(NamedTuple):
    """A denominator: the sum of the side's terms and of a part of the bias.

    Attributes
    ----------
    bias : Part or None
        The part of the bias that belongs to the denominator.
    factor : float or None
        How much of the relevance the side hands on. None: all of it, which is then divided at once.
    gate : {-1, 0, 1}
        1: only where the preactivation is above 0; -1: only where it is below; 0: everywhere.
    sign : {-1, 1}
        The sign of what replaces a denominator of 0.
    epsilon : float or None
        What is added to the size of the denominator, in place of the stabiliser.
    one_signed : bool
        Whether no term of the denominator has the other sign than `sign`, whatever the input and the weights are.
    """

    bias: Part | None = WHOLE
    factor: float | None = None
    gate: Literal[-1, 0, 1] = 0
    sign: Literal[-1, 1] = 1
    epsilon: float | None = None
    one_signed: bool = False


class Table(NamedTuple):
    """A rule as data."""

    terms: tuple[Term, ...]
    sides: tuple[Side, ...] = (Side(),)

    def of_side(self, side: int) -> tuple[Term, ...]:
        """Return the terms of a side."""
        return tuple(term for term in self.terms if term.side == side)


class OneSide(NamedTuple):
    """A side of a rule's table: the name that a record keeps its shares by, its denominator, and its terms.

    `is_plain` tells whether the terms are those of the preactivation.
    """

    key: str
    side: Side
    terms: tuple[Term, ...]
    is_plain: bool


class Pulls(NamedTuple):
    """The table of a rule: its sides, its terms by the part of the input, and whether these take W as it is."""

    sides: tuple[OneSide, ...]
    parts: tuple[tuple[Part, tuple[Term, ...]], ...]
    is_whole: bool


def stabilized(z: Tensor, by: Stabilizer, sign: int = 1, epsilon: float | None = None) -> Tensor:
    """Return denominators that are not 0.

    Parameters
    ----------
    z : Tensor
        The denominators.
    by : float or callable or None
        The stabiliser s, which gives ``z + s sgn(z)``, and `sign` times s where z is 0; or what gives the stabilised
        denominators for z. None: that of R, 1e-15 in double precision and 1e-6 in single.
    sign : {-1, 1}
        See `by`.
    epsilon : float, optional
        What is added to the size of z instead of s.

    Examples
    --------
    >>> stabilized(torch.tensor([1.0, -1.0, 0.0]), 0.5)
    tensor([ 1.5000, -1.5000,  0.5000])
    """
    if by is None:
        return away_from_zero(z, stabilizer(z.dtype) if epsilon is None else epsilon, sign)
    if callable(by):
        return by(z if epsilon is None else z + epsilon * z.sgn())
    return torch.add(z, z.sgn(), alpha=by if epsilon is None else epsilon).add_(is_zero(z), alpha=sign * by)


#: Every rule that has a name, by it. A new rule enters itself.
RULES: dict[str, type[Rule]] = {}
#: What a rule does with biases: see `Shares`.
BIAS = ("keep", "zero", "share")
#: What the documentation of every rule that divides says of the two parameters that all of them have.
_SHARES = """bias : {"keep", "zero", "share"}
        What becomes of the relevance that goes to a bias: the bias keeps it, the bias counts as 0, or the bias's part
        is shared equally among the inputs of each output.
    stabilizer : float or callable, optional
        The small number s that keeps denominators from 0, as in ``z + s sgn(z)``; or a function that takes denominators
        ``(B, *dims)`` and returns the stabilised ones. Default: 1e-15 in double precision, 1e-6 in single, as in R."""


@dataclass(frozen=True, repr=False)
class Rule:
    """How a layer hands relevance from its output to its inputs. Make one with a name of `innsight_py.rules`."""

    #: What the rule is called in `rule_name`.
    name: ClassVar[str]
    #: Whether all relevance is handed on where there is no bias and nothing to stabilise.
    keeps_all: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in vars(cls):
            RULES[cls.name] = cls
            cls.__doc__ = (cls.__doc__ or "").replace("%(shares)s", _SHARES)

    @classmethod
    def parameters(cls) -> dict[str, bool]:
        """Return the names of the rule's own parameters, and whether each has a default."""
        return {f.name: f.default is not MISSING for f in fields(cls) if not f.kw_only}

    @cached_property
    def key(self) -> str:
        """What tells the rule from all others."""
        return repr(self)

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}  # what is cached has functions in it

    @cached_property
    def may_change(self) -> bool:
        """Whether a parameter is an array or a function, which may be another one the next time."""
        return any(isinstance(getattr(self, f.name), Tensor) or callable(getattr(self, f.name)) for f in fields(self))

    @cached_property
    def loss(self) -> str | None:
        """Why relevance is lost where there is no bias; None where the rule hands on all."""
        return None if self.keeps_all else f"the rule {self.name} does not hand on all relevance"

    def __repr__(self) -> str:
        shown: list[str] = []
        for f in sorted(fields(self), key=lambda f: bool(f.kw_only)):
            value = getattr(self, f.name)
            if not f.kw_only and not shown:
                shown.append(_text(value))
            elif isinstance(value, Tensor) or value != f.default:
                shown.append(f"{f.name}={_text(value)}")
        return f"{self.name}({', '.join(shown)})"


def _text(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{float(value):g}" if value.dim() == 0 else f"<array of shape {tuple(value.shape)}>"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else repr(value)


@dataclass(frozen=True, repr=False, kw_only=True)
class Shares(Rule):
    """A rule that divides: a table of shares.

    Parameters
    ----------
    bias, stabilizer
        See the rules.
    """

    bias: Literal["keep", "zero", "share"] = "keep"
    stabilizer: Stabilizer = None

    def __post_init__(self) -> None:
        if not isinstance(self.bias, str) or self.bias not in BIAS:
            kind = ValueError if isinstance(self.bias, str) else TypeError
            raise kind(f"Argument 'bias': expected one of 'keep', 'zero', 'share', got {describe(self.bias)}.")
        if self.stabilizer is not None and not callable(self.stabilizer):
            read_parameter(self, "stabilizer", at_least=0)
        elif isinstance(self.stabilizer, type):
            raise TypeError(
                f"Argument 'stabilizer': expected a number, a function or None, got {describe(self.stabilizer)}."
            )

    def table(self) -> Table:
        """Return the rule as data."""
        raise NotImplementedError

    @cached_property
    def pulls(self) -> Pulls:
        """The table of the rule, in the order in which a layer goes through it."""
        table = self.table()
        parts = dict.fromkeys(term.input for term in table.terms)
        sides = [
            OneSide(
                f"{self.key} {i}",
                side._replace(bias=None) if self.bias == "zero" else side,
                table.of_side(i),
                [(term.input, term.weight) for term in table.of_side(i)] == [(WHOLE, WHOLE)],
            )
            for i, side in enumerate(table.sides)
        ]
        return Pulls(
            tuple(sides),
            tuple((part, tuple(term for term in table.terms if term.input is part)) for part in parts),
            all(term.weight is WHOLE for term in table.terms),
        )

    def stabilize(self, z: Tensor, side: Side) -> Tensor:
        """Return the denominators of a side, stabilised."""
        if self.stabilizer is None:
            if side.one_signed and side.epsilon is None and z.dtype is torch.float32:
                # In single precision zeros get the same number as all others: there is no need to look for them.
                return z + number(side.sign * stabilizer(z.dtype), z.dtype)
            return away_from_zero(z, stabilizer(z.dtype) if side.epsilon is None else side.epsilon, side.sign)
        return stabilized(z, self.stabilizer, side.sign, side.epsilon)


def read_parameter(rule: Rule, name: str, at_least: float = -math.inf) -> float:
    """Read a parameter as a finite number, and keep it as that."""
    value = getattr(rule, name)
    try:
        number = read_number(value)
    except ValueError as error:
        kind = TypeError if isinstance(error, WrongTypeError) else ValueError
        raise kind(f"Argument '{name}': expected {error}, got {describe(value)}.") from None
    if number < at_least:
        raise ValueError(f"Argument '{name}': expected a number of at least {at_least:g}, got {describe(value)}.")
    object.__setattr__(rule, name, number)
    return number


class Weighted(Shares):
    """A rule for every layer that is linear in its input."""
