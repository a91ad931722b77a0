"""The activation functions, each with its parameters, its derivative and how a backward step passes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from innsight_py._checks import describe, suggestion
from innsight_py.functions.elementwise import is_positive

_relu_backward = torch.ops.aten.threshold_backward.default
_relu_backward = getattr(_relu_backward, "_op", _relu_backward)


@dataclass(frozen=True)
class _Kind:
    """What is known of one activation function.

    ``derivative(z, y, params)`` may use the output ``y``; without it autograd finds the derivative.
    """

    function: Callable[..., Tensor]
    params: Mapping[str, float | int | str | tuple[float, ...]] = field(default_factory=dict)
    derivative: Callable[..., Tensor] | None = None
    elementwise: bool = True
    probability: bool = False  # LRP starts from the value minus 0.5 then, as in R


def _heaviside(z: Tensor, y: Tensor, params: Mapping[str, Any]) -> Tensor:
    return is_positive(z)


def _sigmoid_derivative(z: Tensor, y: Tensor, params: Mapping[str, Any]) -> Tensor:
    return y * (1 - y)


def _leaky_derivative(z: Tensor, y: Tensor, params: Mapping[str, Any]) -> Tensor:
    return torch.where(z > 0, torch.ones_like(z), torch.full_like(z, params["negative_slope"]))


def _prelu(z: Tensor, weight: Sequence[float], shape: Sequence[int]) -> Tensor:
    slopes = torch.tensor(weight, dtype=z.dtype, device=z.device)
    return torch.where(z > 0, z, z * slopes.reshape(*shape)) if len(shape) else F.prelu(z, slopes)


def _hardsigmoid(z: Tensor, alpha: float, beta: float) -> Tensor:
    usual = (alpha, beta) == (1 / 6, 0.5)
    return F.hardsigmoid(z) if usual else (alpha * z + beta).clamp(0, 1)


def _general_relu(z: Tensor, negative_slope: float, max_value: float, threshold: float) -> Tensor:
    above = (z * (z > threshold)).clamp(0, max_value)
    return above - negative_slope * F.relu(threshold - z) if negative_slope else above


def _sparse_plus(z: Tensor) -> Tensor:
    return torch.where(z <= -1, torch.zeros_like(z), torch.where(z < 1, 0.25 * (z + 1) ** 2, z))


def sparsemax_threshold(z: Tensor, axis: int) -> Tensor:
    """Return the number that, taken off all entries along an axis, leaves positive parts that sum to 1."""
    down = z.sort(axis, descending=True).values
    count = torch.arange(1, z.shape[axis] + 1, dtype=z.dtype, device=z.device)
    count = count.reshape(-1, *[1] * (-1 - (axis if axis < 0 else axis - z.dim())))
    candidates = (down.cumsum(axis) - 1) / count
    last = (down > candidates).sum(axis, keepdim=True) - 1
    return candidates.gather(axis, last)


def _sparsemax(z: Tensor, dim: int) -> Tensor:
    return (z - sparsemax_threshold(z, dim)).clamp(min=0)


def _keras_sparsemax(z: Tensor, dim: int) -> Tensor:
    """Return what Keras (3.15) calls sparsemax: it adds up the cumulative sums, and the result does not sum to 1."""
    down = z.sort(dim, descending=True).values
    sums = down.cumsum(dim)
    count = torch.arange(1, z.shape[dim] + 1, dtype=z.dtype, device=z.device)
    kept = down > (sums - 1) / count.reshape(-1, *[1] * (-1 - (dim if dim < 0 else dim - z.dim())))
    threshold = ((sums * kept).sum(dim, keepdim=True) - 1) / kept.sum(dim, keepdim=True)
    return (z - threshold).clamp(min=0)


_KINDS: dict[str, _Kind] = {
    "linear": _Kind(lambda z: z, derivative=lambda z, y, params: torch.ones_like(z)),
    "relu": _Kind(torch.relu, derivative=_heaviside),
    "leaky_relu": _Kind(F.leaky_relu, {"negative_slope": 0.01}, _leaky_derivative),
    "softplus": _Kind(F.softplus, {"beta": 1.0, "threshold": 20.0}),
    "sigmoid": _Kind(torch.sigmoid, derivative=_sigmoid_derivative, probability=True),
    "logistic": _Kind(torch.sigmoid, derivative=_sigmoid_derivative, probability=True),
    "softmax": _Kind(torch.softmax, {"dim": -1}, elementwise=False, probability=True),
    "tanh": _Kind(torch.tanh, derivative=lambda z, y, params: 1 - y * y),
    "log_softmax": _Kind(torch.log_softmax, {"dim": -1}, elementwise=False),
    "sparsemax": _Kind(_sparsemax, {"dim": -1}, elementwise=False),
    "keras_sparsemax": _Kind(_keras_sparsemax, {"dim": -1}, elementwise=False),
    "relu6": _Kind(F.relu6),
    "elu": _Kind(F.elu, {"alpha": 1.0}),
    "selu": _Kind(F.selu),
    "celu": _Kind(F.celu, {"alpha": 1.0}),
    "gelu": _Kind(F.gelu, {"approximate": "none"}),
    "silu": _Kind(F.silu),
    "mish": _Kind(F.mish),
    "softsign": _Kind(F.softsign),
    "hardsigmoid": _Kind(_hardsigmoid, {"alpha": 1 / 6, "beta": 0.5}),
    "hardswish": _Kind(F.hardswish),
    "hardtanh": _Kind(F.hardtanh, {"min_val": -1.0, "max_val": 1.0}),
    "logsigmoid": _Kind(F.logsigmoid),
    "prelu": _Kind(_prelu, {"weight": (0.25,), "shape": ()}),  # by channel, or of any shape that broadcasts
    "general_relu": _Kind(_general_relu, {"negative_slope": 0.0, "max_value": math.inf, "threshold": 0.0}),
    "squareplus": _Kind(lambda z, b: (z + (z * z + b).sqrt()) / 2, {"b": 4.0}),
    "sparse_plus": _Kind(_sparse_plus),
    "tanhshrink": _Kind(F.tanhshrink),
    "threshold": _Kind(F.threshold, {"threshold": 0.0, "value": 0.0}),
    "softshrink": _Kind(F.softshrink, {"lambd": 0.5}),
    "hardshrink": _Kind(F.hardshrink, {"lambd": 0.5}),
    "clamp": _Kind(torch.clamp, {"min": -math.inf, "max": math.inf}),
    "exp": _Kind(torch.exp),
    "expm1": _Kind(torch.expm1),
    "log": _Kind(torch.log),
    "log1p": _Kind(torch.log1p),
    "sqrt": _Kind(torch.sqrt),
    "rsqrt": _Kind(torch.rsqrt),
    "reciprocal": _Kind(torch.reciprocal),
    "abs": _Kind(torch.abs),
    "pow": _Kind(torch.pow, {"exponent": 2.0}),
    "sin": _Kind(torch.sin),
    "cos": _Kind(torch.cos),
    "erf": _Kind(torch.erf),
    "atan": _Kind(torch.atan),
    "sign": _Kind(torch.sign),
}


def activation_names() -> tuple[str, ...]:
    """Return the names of all activation functions."""
    return tuple(_KINDS)


def check_activation(name: str, params: Mapping[str, Any]) -> None:
    """Refuse parameters that the activation `name` does not have, with a ValueError."""
    known = _KINDS[name].params
    for key, value in params.items():
        if key not in known:
            allowed = ", ".join(known) or "none"
            raise ValueError(
                f"the activation '{name}' has no parameter '{key}'{suggestion(key, known)} Its parameters: {allowed}."
            )
        expected = type(known[key])
        accepted: dict[type, Any] = {float: int | float, tuple: tuple | list}
        fits = isinstance(value, accepted.get(expected, expected))
        if not fits or isinstance(value, bool) or value != value:
            raise ValueError(
                f"parameter '{key}' of the activation '{name}': expected a {expected.__name__}, got {describe(value)}."
            )


class Seen(Protocol):
    """What was seen at an activation."""

    @property
    def preactivation(self) -> Tensor:
        """The input."""

    @property
    def output(self) -> Tensor:
        """The output."""


S = TypeVar("S", bound=Seen)


class Activation:
    """An activation function with its parameters set.

    Parameters
    ----------
    name : str
        One of `activation_names`.
    params : mapping, optional
        Parameters that differ from their default, ``{"negative_slope": 0.2}`` for example. The axis ``dim`` of a
        softmax counts the batch axis.

    Examples
    --------
    >>> act = Activation("leaky_relu", {"negative_slope": 0.5})
    >>> act(torch.tensor([-2.0, 3.0]))
    tensor([-1.,  3.])
    """

    def __init__(self, name: str = "linear", params: Mapping[str, Any] | None = None) -> None:
        check_activation(name, params or {})
        self.name = name
        self.params = {**_KINDS[name].params, **(params or {})}
        #: Whether this is the identity.
        self.is_linear = name == "linear"
        #: Whether each output depends on its own input alone (a softmax does not).
        self.is_elementwise = _KINDS[name].elementwise
        #: Whether R takes the output for a probability: sigmoid and softmax.
        self.is_probability = _KINDS[name].probability

    def __call__(self, z: Tensor) -> Tensor:
        """Apply the function.

        Raises
        ------
        ValueError
            If a softmax is to run along the batch.
        """
        kind = _KINDS[self.name]
        if not self.is_elementwise and self.params["dim"] % z.dim() == 0:
            raise ValueError(f"parameter 'dim' of the activation '{self.name}' is {self.params['dim']}, the batch")
        return kind.function(z, **self.params)

    @property
    def _kind(self) -> _Kind:
        return _KINDS[self.name]

    def derivative(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the derivative at `z` of an element-wise function; `y` is the output there, if it is known."""
        if self._kind.derivative is not None:
            return self._kind.derivative(z, self(z) if y is None else y, self.params)
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            return torch.autograd.grad(self(leaf).sum(), leaf)[0]

    def vjp(self, g: Tensor, at: S, derivative: Callable[[S], Tensor]) -> Tensor:
        """Take the gradient `g` of shape ``(K, B, *dims)`` from the output to the input.

        `at` has seen both; `derivative` gives the derivative of an element-wise function, which may have been kept.
        """
        if self.name == "relu":
            return _relu_backward(g, at.output, 0)  # type: ignore[no-any-return]
        if self.is_linear:
            return g
        if self.is_elementwise:
            return g * derivative(at)
        y = at.output
        axis = self.params["dim"]
        axis = axis if axis < 0 else axis - y.dim()
        if self.name == "sparsemax":
            kept = (y > 0).to(y.dtype)
            return kept * (g - (g * kept).sum(axis, keepdim=True) / kept.sum(axis, keepdim=True))
        if self.name == "softmax":
            return y * (g - (g * y).sum(axis, keepdim=True))
        if self.name == "log_softmax":
            return g - y.exp() * g.sum(axis, keepdim=True)
        with torch.enable_grad():
            leaf = at.preactivation.detach().requires_grad_()
            out = self(leaf)
            return torch.stack([torch.autograd.grad(out, leaf, row.expand_as(out), retain_graph=True)[0] for row in g])

    @property
    def vjp_needs(self) -> tuple[bool, bool]:
        """Whether `vjp` looks at the input, and at the output."""
        if self.is_linear:
            return False, False
        if self.name == "relu" or self.name in ("softmax", "log_softmax", "sparsemax"):
            return False, True
        # What has no derivative written out is differentiated by autograd, from the input.
        return True, self._kind.derivative is not None

    def __repr__(self) -> str:
        changed = {key: value for key, value in self.params.items() if value != self._kind.params[key]}
        return f"Activation('{self.name}'{f', {changed}' if changed else ''})"
