"""The rules of LRP for layers without weights: sums, means and products, activations, softmax, maxima."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from innsight_py.functions.lrp import WHOLE, Rule, Shares, Table, Term


@dataclass(frozen=True, repr=False)
class Proportional(Shares):
    r"""For sums and means: every addend gets relevance in proportion to its value.

    .. math:: R_i = z_i R / \sum_i z_i

    Zennit's rule "Norm". Sums and means have no bias, so that `bias` changes nothing.

    Parameters
    ----------
    %(shares)s

    Examples
    --------
    >>> from innsight_py import rules
    >>> rules.proportional()
    proportional()
    """

    name: ClassVar[str] = "proportional"
    keeps_all: ClassVar[bool] = False  # a sum of zeros has nothing to share by

    @cached_property
    def loss(self) -> str | None:
        """Why relevance is lost."""
        return "a sum of 0 has nothing to share its relevance by (rule proportional)"

    def table(self) -> Table:
        """Return the rule as data."""
        return Table((Term(WHOLE, WHOLE),))


@dataclass(frozen=True, repr=False)
class Equal(Rule):
    r"""For sums, means and products entry by entry: an equal share for every addend or factor, as in R.

    .. math:: R_i = R / n

    Of two factors, one that does not depend on the inputs (a mask, what the rule `block` cuts off) gets nothing, and
    the other one all.

    Source: Bach et al. (2015); for products Achtibat et al. (2024), arXiv:2402.05602.

    Examples
    --------
    >>> from innsight_py import rules
    >>> rules.equal()
    equal()
    """

    name: ClassVar[str] = "equal"


@dataclass(frozen=True, repr=False)
class Pass(Rule):
    """For layers in which each output has one input, and for activations: relevance passes unchanged.

    Examples
    --------
    >>> from innsight_py import rules
    >>> rules.pass_()
    pass()
    """

    name: ClassVar[str] = "pass"


@dataclass(frozen=True, repr=False)
class Gradient(Rule):
    r"""For activations, batch normalisation and scales: relevance is multiplied by the derivative, as a gradient is.

    .. math:: R_i = f'(z_i) R

    That is what zennit does with layers that a composite has no rule for.

    Examples
    --------
    >>> from innsight_py import rules
    >>> rules.gradient()
    gradient()
    """

    name: ClassVar[str] = "gradient"
    keeps_all: ClassVar[bool] = False


@dataclass(frozen=True, repr=False)
class Taylor(Rule):
    r"""For a softmax :math:`s(z)` within the model: the softmax rule of AttnLRP, its first-order term at z.

    .. math:: R_i = z_i (R_i^s - s_i \sum_j R_j^s)

    In general that is :math:`R_i = z_i \sum_j (\partial s_j / \partial z_i) R_j^s / s_j`, which a log-softmax has. The
    rest of the expansion is a bias, which keeps its part, so that relevances do not add up. Where z is minus infinity
    (a mask) nothing is handed on. A softmax that is explained itself, at the end of the model, passes relevance.

    Source: Achtibat et al. (2024), arXiv:2402.05602.

    Examples
    --------
    >>> from innsight_py import rules
    >>> rules.taylor()
    taylor()
    """

    name: ClassVar[str] = "taylor"
    keeps_all: ClassVar[bool] = False

    @cached_property
    def loss(self) -> str | None:
        """Why relevance is lost."""
        return "the softmax rule of AttnLRP keeps a part of the relevance (rule taylor), by design"


@dataclass(frozen=True, repr=False)
class Block(Rule):
    """For a softmax or another activation: nothing is handed on. It counts as a constant, and so do its inputs.

    A product with what is blocked gives all to its other factor. That is how CP-LRP treats attention, and a gate can be
    treated so: ``[("mlp.act", rules.block()), *composites.cp_lrp()]``.

    Source: Ali et al. (2022), arXiv:2202.07304.

    Examples
    --------
    >>> from innsight_py import rules
    >>> rules.block()
    block()
    """

    name: ClassVar[str] = "block"
    keeps_all: ClassVar[bool] = False

    @cached_property
    def loss(self) -> str | None:
        """Why relevance is lost; a product keeps it from coming here."""
        return "the rule block hands nothing on of what comes by other ways than a product"


@dataclass(frozen=True, repr=False)
class Winner(Rule):
    """For max pooling: the largest input of each window takes all, the first one where several are.

    Examples
    --------
    >>> from innsight_py import rules
    >>> rules.winner()
    winner()
    """

    name: ClassVar[str] = "winner"
