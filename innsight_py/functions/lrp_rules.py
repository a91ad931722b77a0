"""The rules of LRP for layers with weights, each in one place: its name, its parameters and its table of shares.

Notation: :math:`z_{ij} = w_{ji} x_i` is what input i adds to output j, :math:`z_j` their sum with the bias
:math:`b_j`, :math:`v^+` and :math:`v^-` the parts of v above and below 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from innsight_py._checks import describe
from innsight_py.functions.lrp import (
    ABOVE,
    BELOW,
    ONES,
    SQUARES,
    WHOLE,
    Part,
    Side,
    Table,
    Term,
    Weighted,
    raised,
    read_parameter,
)

#: The terms of a preactivation as they are.
_PLAIN = (Term(WHOLE, WHOLE),)


@dataclass(frozen=True, repr=False)
class Simple(Weighted):
    r"""LRP-0: every input gets its own term of the preactivation.

    .. math:: R_i = \sum_j z_{ij} R_j / z_j

    Source: Bach et al. (2015), equation 56.

    Parameters
    ----------
    %(shares)s

    Examples
    --------
    >>> from innsight_py import rules
    >>> rules.simple(bias="share")
    simple(bias='share')
    """

    name: ClassVar[str] = "simple"

    def table(self) -> Table:
        """Return the rule as data."""
        return Table(_PLAIN)


@dataclass(frozen=True, repr=False)
class Epsilon(Weighted):
    r"""The epsilon rule: small preactivations hand on less, which damps noise.

    .. math:: R_i = \sum_j z_{ij} R_j / (z_j + \varepsilon\, \mathrm{sgn} z_j)

    Source: Bach et al. (2015), equation 58.

    Parameters
    ----------
    epsilon : float
        What is added to the size of a preactivation, in its units; at least 0.
    %(shares)s

    Examples
    --------
    >>> from innsight_py import rules
    >>> rules.epsilon(0.01)
    epsilon(0.01)
    """

    epsilon: float = 0.001
    name: ClassVar[str] = "epsilon"
    keeps_all: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        read_parameter(self, "epsilon", at_least=0.0)

    @cached_property
    def loss(self) -> str | None:
        """Why relevance is lost where there is no bias; None for an epsilon of 0."""
        return super().loss if self.epsilon else None

    def table(self) -> Table:
        """Return the rule as data."""
        return Table(_PLAIN, (Side(epsilon=self.epsilon),))


#: What raises and what lowers a preactivation; the numbers are the sides.
_SIGNED = (Term(ABOVE, ABOVE, 0), Term(ABOVE, BELOW, 1), Term(BELOW, ABOVE, 1), Term(BELOW, BELOW, 0))
_RAISING = tuple(term for term in _SIGNED if term.side == 0)


@dataclass(frozen=True, repr=False)
class AlphaBeta(Weighted):
    r"""The alpha-beta rule: terms above and below 0 are shared out on their own, with weights alpha and 1 - alpha.

    .. math:: R_i = \sum_j (\alpha z_{ij}^+ / z_j^+ + (1 - \alpha) z_{ij}^- / z_j^-) R_j

    The part of the bias above 0 belongs to :math:`z_j^+`, the part below to :math:`z_j^-`.

    Source: Bach et al. (2015), equation 60.

    Parameters
    ----------
    alpha : float
        Weight of the terms above 0.
    beta : float, optional
        The field's second parameter: alpha less 1. It is only compared.
    %(shares)s

    Examples
    --------
    >>> from innsight_py import rules
    >>> rules.alpha_beta(2, beta=1) == rules.alpha_beta(2)
    True
    """

    alpha: float = 0.5
    beta: float | None = None
    name: ClassVar[str] = "alpha_beta"
    keeps_all: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        alpha = read_parameter(self, "alpha")
        if self.beta is not None and not math.isclose(read_parameter(self, "beta"), alpha - 1, abs_tol=1e-9):
            raise ValueError(
                f"Argument 'beta': expected alpha - 1 = {alpha - 1:g}, so that relevance is kept, got {self.beta:g}."
            )
        object.__setattr__(self, "beta", None)

    def table(self) -> Table:
        """Return the rule as data; a side without weight is left out."""
        if self.alpha == 1:
            return Table(_RAISING, (Side(ABOVE, 1.0, one_signed=True),))
        raising, lowering = (
            Side(ABOVE, self.alpha, one_signed=True),
            Side(BELOW, 1 - self.alpha, sign=-1, one_signed=True),
        )
        return Table(_SIGNED, (raising, lowering))


@dataclass(frozen=True, repr=False)
class ZPlus(Weighted):
    r"""The z-plus rule: only what raises a preactivation gets relevance; alpha 1, beta 0.

    .. math:: R_i = \sum_j z_{ij}^+ R_j / (\sum_i z_{ij}^+ + b_j^+)

    Source: Montavon et al. (2017), doi:10.1016/j.patcog.2016.11.008; for inputs of either sign.

    Parameters
    ----------
    %(shares)s

    Examples
    --------
    >>> from innsight_py import rules
    >>> rules.z_plus()
    z_plus()
    """

    name: ClassVar[str] = "z_plus"
    keeps_all: ClassVar[bool] = False

    def table(self) -> Table:
        """Return the rule as data."""
        return Table(_RAISING, (Side(ABOVE, 1.0, one_signed=True),))


@dataclass(frozen=True, repr=False)
class Gamma(Weighted):
    r"""The gamma rule, for inputs and preactivations of either sign: what agrees with the output counts more.

    Where :math:`z_j > 0`, terms above 0 count :math:`1 + \gamma` times, bias included; where :math:`z_j < 0` those
    below 0 do. Where :math:`z_j = 0` nothing is handed on.

    .. math:: R_i = \sum_j (z_{ij} + \gamma z_{ij}^\pm) R_j / (z_j + \gamma (\sum_i z_{ij}^\pm + b_j^\pm))

    Source: Montavon et al. (2019), doi:10.1007/978-3-030-28954-6_10; generalised as in zennit.

    Parameters
    ----------
    gamma : float
        How much more they count, at least 0: 0 is LRP-0, a large number is near z-plus.
    %(shares)s

    Examples
    --------
    >>> from innsight_py import rules
    >>> rules.gamma()
    gamma(0.25)
    """

    gamma: float = 0.25
    name: ClassVar[str] = "gamma"

    def __post_init__(self) -> None:
        super().__post_init__()
        read_parameter(self, "gamma", at_least=0)

    def table(self) -> Table:
        """Return the rule as data."""
        up, down = raised(ABOVE, self.gamma), raised(BELOW, self.gamma)
        terms = (Term(ABOVE, up, 0), Term(ABOVE, down, 1), Term(BELOW, down, 0), Term(BELOW, up, 1))
        return Table(terms, (Side(up, 1.0, gate=1), Side(down, 1.0, gate=-1, sign=-1)))


@dataclass(frozen=True, repr=False, eq=False)
class ZBox(Weighted):
    r"""The z-box rule, for inputs between bounds, such as pixels: inputs are compared with their bounds.

    .. math:: R_i = \sum_j \frac{z_{ij} - l_i w_{ji}^+ - h_i w_{ji}^-}
              {\sum_i (z_{ij} - l_i w_{ji}^+ - h_i w_{ji}^-)} R_j

    The bias is in neither sum: it cancels out, and `bias` changes nothing.

    Source: Montavon et al. (2017), doi:10.1016/j.patcog.2016.11.008.

    Parameters
    ----------
    low, high : float or array-like
        The bounds l and h, in the units and the layout of what the layer gets: numbers, or arrays that broadcast to
        the input's shape without the batch.
    %(shares)s

    Examples
    --------
    >>> from innsight_py import rules
    >>> rules.z_box(-3, 3)
    z_box(-3, high=3)
    """

    low: Any
    high: Any
    name: ClassVar[str] = "z_box"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("low", "high"):
            object.__setattr__(self, name, _bound(name, getattr(self, name)))
        try:
            ordered = bool((self.low <= self.high).all())
        except RuntimeError:
            raise ValueError(
                f"Argument 'high': expected a shape that fits that of 'low', {tuple(self.low.shape)}, got "
                f"{tuple(self.high.shape)}."
            ) from None
        if not ordered:
            raise ValueError("Argument 'low': expected bounds of at most 'high', got some that are larger.")

    @property
    def key(self) -> str:
        """Name and numbers."""
        return f"{self!r} {hash(self.low.numpy().tobytes())} {hash(self.high.numpy().tobytes())}"

    def for_layout(self, channels_first: bool, ranks: Collection[int]) -> ZBox:
        """Return the rule for arrays without a batch axis and with the channels first.

        `ranks` are the numbers of axes that instances have.
        """

        def change(bound: Tensor) -> Tensor:
            if bound.dim() not in ranks and bound.dim() - 1 in ranks and bound.shape[0] == 1:
                bound = bound[0]
            return bound if channels_first or bound.dim() < 2 else bound.movedim(-1, 0)

        return self.mapped(change)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the rule with both bounds changed."""
        return type(self)(change(self.low), change(self.high), bias=self.bias, stabilizer=self.stabilizer)

    def outside(self, x: Tensor) -> tuple[float, float] | None:
        """Return the least and the largest value of a tensor where some lie outside the bounds, beyond rounding."""
        low, high = (bound.to(x) for bound in (self.low, self.high))
        margin = 1e-5 * (high - low).abs().amax()
        inside = bool(((x >= low - margin) & (x <= high + margin)).all())
        return None if inside else (float(x.amin()), float(x.amax()))

    def table(self) -> Table:
        """Return the rule as data."""
        low, high = (Part(name, lambda x, b=bound: -_rows(b.to(x), x))  # type: ignore[misc]
                     for name, bound in (("low", self.low), ("high", self.high)))  # fmt: skip
        return Table((*_PLAIN, Term(low, ABOVE), Term(high, BELOW)), (Side(None),))


def _rows(bound: Tensor, x: Tensor) -> Tensor:
    """Return a bound as one row, or as it is where it has rows of its own."""
    return bound.expand(bound.shape[0] if bound.dim() == x.dim() else 1, *x.shape[1:])


def _bound(name: str, value: Any) -> Tensor:
    """Read a bound: a number or an array."""
    try:
        array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, NotImplementedError):  # lists of different lengths, tensors without numbers
        array = np.asarray(None)
    if array.dtype.kind not in "fiu" or not array.size:
        raise TypeError(f"Argument '{name}': expected a number or an array of numbers, got {describe(value)}.")
    if not bool(np.isfinite(array).all()):
        raise ValueError(f"Argument '{name}': expected finite numbers, got NaN or infinite ones.")
    return torch.tensor(array, dtype=torch.float64)


@dataclass(frozen=True, repr=False)
class WSquare(Weighted):
    r"""The w-square rule: shares by the squares of the weights, whatever the input is.

    .. math:: R_i = \sum_j w_{ji}^2 R_j / (\sum_i w_{ji}^2 + b_j^2)

    Source: Montavon et al. (2017), doi:10.1016/j.patcog.2016.11.008; with the bias, as in zennit.

    Parameters
    ----------
    %(shares)s

    Examples
    --------
    >>> from innsight_py import rules
    >>> rules.w_square(bias="zero")
    w_square(bias='zero')
    """

    name: ClassVar[str] = "w_square"

    def table(self) -> Table:
        """Return the rule as data."""
        return Table((Term(ONES, SQUARES),), (Side(SQUARES),))


@dataclass(frozen=True, repr=False)
class Flat(Weighted):
    r"""The flat rule: equal shares for all inputs that are connected with an output.

    .. math:: R_i = \sum_j R_j / n_j, \quad n_j \text{ the number of inputs of output } j

    The bias gets nothing, so that `bias` changes nothing.

    Source: Lapuschkin et al. (2019), doi:10.1038/s41467-019-08987-4.

    Parameters
    ----------
    %(shares)s

    Examples
    --------
    >>> from innsight_py import rules
    >>> rules.flat()
    flat()
    """

    name: ClassVar[str] = "flat"

    def table(self) -> Table:
        """Return the rule as data."""
        return Table((Term(ONES, ONES),), (Side(None),))
