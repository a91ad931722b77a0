"""The ready-made composites: which layer takes which rule, as lists of (selector, rule)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, ParamSpec

from innsight_py._checks import describe
from innsight_py.functions.lrp import Rule, Stabilizer
from innsight_py.functions.lrp_rules import AlphaBeta, Epsilon, Flat, Gamma, ZBox, ZPlus
from innsight_py.functions.lrp_weightless import Block, Equal, Gradient, Pass, Proportional, Taylor

P = ParamSpec("P")
Bias = Literal["keep", "zero", "share"]
#: A list of (selector, rule), of which the first that means a layer counts.
Composite = list[tuple[str, Rule]]
#: Every ready-made composite by its name. A new one enters itself.
COMPOSITES: dict[str, Callable[..., Composite]] = {}


#: What the documentation of several composites shares; filled in where ``%(name)s`` stands.
TEXTS = {
    "epsilon": """epsilon : float
        The epsilon of dense layers.""",
    "shared": """bias : {"keep", "zero", "share"}
        What all rules do with biases, see `innsight_py.rules`.
    stabilizer : float or callable, optional
        Keeps all denominators from 0.""",
}


def composite(function: Callable[P, Composite]) -> Callable[P, Composite]:
    """Enter a composite into the table, so that `rule_name` knows its name, and complete its documentation."""
    COMPOSITES[function.__name__] = function
    for name, text in TEXTS.items():
        if function.__doc__ is not None:
            function.__doc__ = function.__doc__.replace(f"%({name})s", text)
    return function


def needs(name: str) -> list[str]:
    """Return the arguments of a composite that have no default."""
    parameters = inspect.signature(COMPOSITES[name]).parameters.values()
    return [p.name for p in parameters if p.default is inspect.Parameter.empty]


def _others(stabilizer: Stabilizer) -> Composite:
    """Return the rules of all layers without weights: sums and means in proportion, the rest passes."""
    proportional = Proportional(stabilizer=stabilizer)
    return [
        ("family:activation", Pass()), ("family:sum", proportional), ("family:average_pooling", proportional),
        ("family:batch_norm", Pass()),
    ]  # fmt: skip


def _epsilon_and(
    convolution: Rule, epsilon: float, first: Composite, bias: Bias, stabilizer: Stabilizer
) -> Composite:  # fmt: skip
    dense = Epsilon(epsilon, bias=bias, stabilizer=stabilizer)
    return [*first, ("family:convolution", convolution), ("family:dense", dense), *_others(stabilizer)]


@composite
def epsilon_plus(epsilon: float = 1e-6, *, bias: Bias = "keep", stabilizer: Stabilizer = None) -> Composite:
    """Epsilon on dense layers, z-plus on convolutions.

    Sums and average poolings share in proportion, activations and batch normalisation pass, as in zennit's
    ``EpsilonPlus``.

    Parameters
    ----------
    %(epsilon)s
    %(shared)s

    Returns
    -------
    list of (str, Rule)
        It can be changed like any list: put rules of your own in front of it.

    Examples
    --------
    >>> epsilon_plus(epsilon=0.01)[:2]
    [('family:convolution', z_plus()), ('family:dense', epsilon(0.01))]
    """
    return _epsilon_and(ZPlus(bias=bias, stabilizer=stabilizer), epsilon, [], bias, stabilizer)


@composite
def epsilon_plus_flat(epsilon: float = 1e-6, *, bias: Bias = "keep", stabilizer: Stabilizer = None) -> Composite:
    """Flat on the first layers with weights; then as `epsilon_plus`.

    Parameters
    ----------
    %(epsilon)s
    %(shared)s

    Returns
    -------
    list of (str, Rule)

    Examples
    --------
    >>> epsilon_plus_flat()[0]
    ('family:first', flat())
    """
    flat: Composite = [("family:first", Flat(stabilizer=stabilizer))]
    return _epsilon_and(ZPlus(bias=bias, stabilizer=stabilizer), epsilon, flat, bias, stabilizer)


@composite
def epsilon_alpha2_beta1(epsilon: float = 1e-6, *, bias: Bias = "keep", stabilizer: Stabilizer = None) -> Composite:
    """Epsilon on dense layers, alpha 2 and beta 1 on convolutions; the rest as `epsilon_plus`.

    Parameters
    ----------
    %(epsilon)s
    %(shared)s

    Returns
    -------
    list of (str, Rule)

    Examples
    --------
    >>> epsilon_alpha2_beta1()[0]
    ('family:convolution', alpha_beta(2))
    """
    return _epsilon_and(AlphaBeta(2, bias=bias, stabilizer=stabilizer), epsilon, [], bias, stabilizer)


@composite
def epsilon_alpha2_beta1_flat(
    epsilon: float = 1e-6, *, bias: Bias = "keep", stabilizer: Stabilizer = None
) -> Composite:  # fmt: skip
    """Flat on the first layers with weights; then as `epsilon_alpha2_beta1`.

    Parameters
    ----------
    %(epsilon)s
    %(shared)s

    Returns
    -------
    list of (str, Rule)

    Examples
    --------
    >>> epsilon_alpha2_beta1_flat()[:2]
    [('family:first', flat()), ('family:convolution', alpha_beta(2))]
    """
    flat: Composite = [("family:first", Flat(stabilizer=stabilizer))]
    return _epsilon_and(AlphaBeta(2, bias=bias, stabilizer=stabilizer), epsilon, flat, bias, stabilizer)


@composite
def epsilon_gamma_box(
    low: Any, high: Any, epsilon: float = 1e-6, gamma: float = 0.25, *, bias: Bias = "keep",
    stabilizer: Stabilizer = None,
) -> Composite:  # fmt: skip
    """Z-box on the first convolutions, gamma on the others, epsilon on dense layers; the rest as `epsilon_plus`.

    Parameters
    ----------
    low, high : float or array-like
        The bounds of the values that the first convolutions get, see `innsight_py.rules.z_box`.
    %(epsilon)s
    gamma : float
        The gamma of convolutions.
    %(shared)s

    Returns
    -------
    list of (str, Rule)

    Examples
    --------
    >>> epsilon_gamma_box(low=-3, high=3)[:2]
    [('first convolution', z_box(-3, high=3)), ('family:convolution', gamma(0.25))]
    """
    box: Composite = [("first convolution", ZBox(low, high, bias=bias, stabilizer=stabilizer))]
    return _epsilon_and(Gamma(gamma, bias=bias, stabilizer=stabilizer), epsilon, box, bias, stabilizer)


@composite
def excitation_backprop(*, bias: Bias = "keep", stabilizer: Stabilizer = None) -> Composite:
    """Z-plus on all layers with weights; activations and batch normalisation multiply by their derivative.

    Source: Zhang et al. (2018), doi:10.1007/s11263-017-1059-x; as zennit's ``ExcitationBackprop``.

    Parameters
    ----------
    bias : {"keep", "zero", "share"}
        What z-plus does with biases.
    stabilizer : float or callable, optional
        What keeps all denominators from 0.

    Returns
    -------
    list of (str, Rule)

    Examples
    --------
    >>> excitation_backprop()[:2]
    [('family:convolution', z_plus()), ('family:dense', z_plus())]
    """
    plus, gradient = ZPlus(bias=bias, stabilizer=stabilizer), Gradient()
    proportional = Proportional(stabilizer=stabilizer)
    return [
        ("family:convolution", plus), ("family:dense", plus), ("family:sum", proportional),
        ("family:average_pooling", proportional), ("family:activation", gradient), ("family:batch_norm", gradient),
    ]  # fmt: skip


def _transformer(
    softmax: Rule, gamma: float | None, epsilon: float, bias: Bias, stabilizer: Stabilizer
) -> Composite:  # fmt: skip
    plain = Epsilon(epsilon, bias=bias, stabilizer=stabilizer)
    weights = plain if gamma is None else Gamma(gamma, bias=bias, stabilizer=stabilizer)
    proportional = Proportional(stabilizer=stabilizer)
    return [
        ("family:dense", weights), ("family:convolution", weights), ("family:softmax", softmax),
        ("class:MatMul_Layer", Epsilon(epsilon, stabilizer=stabilizer)), ("family:product", Equal()),
        ("family:normalization", Epsilon(epsilon, stabilizer=stabilizer)), ("family:activation", Pass()),
        ("family:sum", proportional), ("family:average_pooling", proportional), ("family:batch_norm", plain),
        ("family:formula", Pass()), ("family:scale", plain), ("family:resize", plain),
    ]  # fmt: skip


@composite
def attnlrp(
    gamma: float | None = None, epsilon: float = 0.0, *, scores: Literal["gradient", "pass"] = "gradient",
    bias: Bias = "keep", stabilizer: Stabilizer = None,
) -> Composite:  # fmt: skip
    """AttnLRP, for transformers and other networks with attention, gates and normalisation.

    Dense layers and convolutions follow epsilon (or gamma), and so do normalisations, whose standard deviation counts
    as a constant. A softmax follows the rule `innsight_py.rules.taylor`; of a product each factor gets half, shared by
    its terms. Sums and means share in proportion, activations pass. Biases, added constants (positions) and the softmax
    rule keep a part of the relevance.

    Source: Achtibat et al. (2024), arXiv:2402.05602.

    Parameters
    ----------
    gamma : float, optional
        The gamma of dense layers and convolutions, for vision transformers: 0.05 to 0.25, say. Default: they follow
        epsilon.
    epsilon : float
        The epsilon of all others, or of all. Default: 0, with which only exact zeros are kept from dividing.
    scores : {"gradient", "pass"}
        What a constant does that multiplies attention scores before the softmax, usually 1 / sqrt(width).
        ``"gradient"``: it multiplies their relevance too, as in answers of LXT for attention that is written out.
        ``"pass"``: relevance passes, as at all other constants.
    bias : {"keep", "zero", "share"}
        What layers with weights do with biases.
    stabilizer : float or callable, optional
        What keeps all denominators from 0.

    Returns
    -------
    list of (str, Rule)

    Examples
    --------
    >>> attnlrp(gamma=0.1)[:3]
    [('family:scores', gradient()), ('family:dense', gamma(0.1)), ('family:convolution', gamma(0.1))]
    """
    if not isinstance(scores, str) or scores not in ("gradient", "pass"):
        kind = ValueError if isinstance(scores, str) else TypeError
        raise kind(f"Argument 'scores': expected 'gradient' or 'pass', got {describe(scores)}.")
    first: Rule = Gradient() if scores == "gradient" else Epsilon(epsilon, stabilizer=stabilizer)
    return [("family:scores", first), *_transformer(Taylor(), gamma, epsilon, bias, stabilizer)]


@composite
def cp_lrp(
    gamma: float | None = None, epsilon: float = 0.0, *, bias: Bias = "keep", stabilizer: Stabilizer = None
) -> Composite:  # fmt: skip
    """CP-LRP: as `attnlrp`, with attention weights as constants, so that queries and keys get nothing.

    What comes to the product of attention weights and values goes to the values alone. Without biases and added
    constants relevances add up.

    Source: Ali et al. (2022), arXiv:2202.07304.

    Parameters
    ----------
    gamma : float, optional
        The gamma of dense layers and convolutions. Default: they follow epsilon.
    epsilon : float
        The epsilon of all others, or of all. Default: 0, with which only exact zeros are kept from dividing.
    bias : {"keep", "zero", "share"}
        What layers with weights do with biases.
    stabilizer : float or callable, optional
        What keeps all denominators from 0.

    Returns
    -------
    list of (str, Rule)

    Examples
    --------
    >>> cp_lrp()[:3]
    [('family:dense', epsilon(0)), ('family:convolution', epsilon(0)), ('family:softmax', block())]
    """
    return _transformer(Block(), gamma, epsilon, bias, stabilizer)
