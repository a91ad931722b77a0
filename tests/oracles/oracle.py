"""Every layer's rules a second time: R's formulas word for word, on dense matrices. Nothing here is from innsight_py.

A layer is a dict of the model spec. What it computes is said with plain torch functions; its matrix is what comes out
of them for basis vectors, its derivative is autograd's Jacobian. Sections 2.5 and 3.7 to 3.9 of R's parity notes are
then written down as they stand: two products for LRP-0, four for alpha-beta, five for DeepLift.

All arrays are flat per row: values ``(B, features)``, upper tensors ``(K, B, out)``, matrices ``(out, in)``, or
``(B, out, in)`` where they depend on the data. Everything is computed in double precision; `double` only says which
of R's stabilisers the layer under test uses, and what its rounding may cost: answers are `Rounded`, and each of their
numbers comes with the bound that holds for it on any machine.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import torch
from rounding import STEPS, Rounded, choose, negative, positive
from torch.nn import functional as F  # noqa: N812

ACTIVATIONS = {
    "linear": lambda z: z,
    "relu": F.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "logistic": torch.sigmoid,
    "leaky_relu": F.leaky_relu,
    "softplus": F.softplus,
    "softmax": lambda z, dim=-1: torch.softmax(z, dim),
    "log_softmax": lambda z, dim=-1: torch.log_softmax(z, dim),
    **{
        name: getattr(F, name)
        for name in (
            "relu6", "elu", "selu", "celu", "gelu", "silu", "mish", "softsign", "hardsigmoid", "hardswish", "hardtanh",
            "logsigmoid",
        )
    },
}  # fmt: skip
NOT_ELEMENTWISE = ("softmax", "log_softmax")
WITH_WEIGHT = ("Dense", "Conv1D", "Conv2D")
AVERAGES = ("AveragePooling1D", "AveragePooling2D")
MAXIMA = ("MaxPooling1D", "MaxPooling2D")


#: No activation here is steeper (selu: 1.76; a log-softmax changes by twice what its inputs do), nor bends more.
STEEPEST = 2.0


def log_mean_factor(t):
    """Logarithmic mean of two numbers over their geometric mean, t being the difference of their logarithms."""
    half = np.where(t == 0, 1.0, t / 2)
    return np.where(t == 0, 1.0, np.sinh(half) / half)


def tensor(x) -> torch.Tensor:
    return torch.tensor(np.asarray(x, np.float64))


class Oracle:
    """One layer of the model spec.

    Parameters
    ----------
    layer : dict
        The layer as in a spec.
    dims : list of tuple of int
        Shape of each input without the batch.
    double : bool
        Which stabiliser R uses: 1e-15, which R keeps in single precision where it adds it at exact zeros, or 1e-6.
    grid : bool
        Whether weights and data lie on a grid, so that what the layer computes before its activation is exact.
    """

    def __init__(self, layer: dict, dims: list[tuple[int, ...]], double: bool, grid: bool) -> None:
        self.layer = {key: tuple(value) if isinstance(value, list) else value for key, value in layer.items()}
        self.kind = layer["type"]
        self.dims = dims
        self.sizes = [int(np.prod(dim)) for dim in dims]
        self.tiny = 1e-15 if double else 1e-6
        self.at_zero = float(np.float32(1e-15)) if double else 1e-6
        self.unit = STEPS * float(np.finfo(np.float64 if double else np.float32).eps)
        self.grid = grid
        zeros = [torch.zeros(1, *dim, dtype=torch.float64) for dim in dims]
        self.out_dim = tuple(self._plain(*zeros).shape[1:])

    # -- what the layer computes --------------------------------------------------------------------------------

    def _plain(self, *xs: torch.Tensor) -> torch.Tensor:
        """Compute the layer before its activation, with torch's own functions."""
        layer, x = self.layer, xs[0]
        axes = x.dim() - 2
        if self.kind == "Dense":
            return F.linear(x, tensor(layer["weight"]), tensor(layer["bias"]))
        if self.kind in ("Conv1D", "Conv2D"):
            convolve = F.conv1d if axes == 1 else F.conv2d
            return convolve(
                F.pad(x, layer.get("padding", (0, 0))), tensor(layer["weight"]), tensor(layer["bias"]),
                stride=layer.get("stride", 1), dilation=layer.get("dilation", 1),
            )  # fmt: skip
        if self.kind in AVERAGES:
            return (F.avg_pool1d if axes == 1 else F.avg_pool2d)(x, layer["kernel_size"], layer.get("strides"))
        if self.kind in MAXIMA:
            return (F.max_pool1d if axes == 1 else F.max_pool2d)(x, layer["kernel_size"], layer.get("strides"))
        if self.kind == "GlobalPooling":
            maximum, mean = (F.max_pool1d, F.avg_pool1d) if axes == 1 else (F.max_pool2d, F.avg_pool2d)
            y = (maximum if layer["method"] == "max" else mean)(x, tuple(x.shape[2:]))
            return y if layer.get("keepdims") else y.flatten(1)
        if self.kind == "BatchNorm":
            beta = layer.get("beta")
            return F.batch_norm(
                x, tensor(layer["run_mean"]), tensor(layer["run_var"]), tensor(layer["gamma"]),
                None if beta is None else tensor(beta), eps=layer["eps"],
            )  # fmt: skip
        if self.kind == "Padding":
            return F.pad(x, layer["padding"], layer.get("mode", "constant"), layer.get("value", 0.0))
        if self.kind == "Flatten":
            x = x.movedim(1, -1) if layer.get("order") == "channels_last" else x
            return x.flatten(layer.get("start_dim", 1), layer.get("end_dim", -1))
        if self.kind == "Concatenate":
            return torch.cat(xs, layer["axis"])
        if self.kind == "Add":
            return torch.stack(xs).sum(0)
        assert self.kind in ("Activation", "Skipping")
        return x

    @property
    def _name(self) -> str:
        return self.layer.get("act_name") or self.layer.get("activation_name", "linear")

    @property
    def _params(self) -> dict:
        return self.layer.get("act_params" if self.kind == "Activation" else "activation_params", {})

    @property
    def _axis(self) -> int:
        return self._params.get("dim", -1)

    def _activation(self, z: torch.Tensor) -> torch.Tensor:
        return ACTIVATIONS[self._name](z, **self._params)

    @property
    def elementwise(self) -> bool:
        """Tell whether each output of the activation depends on its own input alone."""
        return self._name not in NOT_ELEMENTWISE

    def _shaped(self, xs: list[np.ndarray]) -> list[torch.Tensor]:
        return [tensor(x).reshape(-1, *dim) for x, dim in zip(xs, self.dims, strict=True)]

    def _bound(self, value, terms=None) -> Rounded:
        """Return the result of one step, or of a sum of terms whose sizes add up to `terms`."""
        return Rounded(value, self.unit * (np.abs(value) if terms is None else terms), self.unit)

    def preactivation(self, xs: list[np.ndarray]) -> Rounded:
        """Compute the layer before its activation."""
        if self.kind in AVERAGES or (self.kind == "GlobalPooling" and not self.is_maximum):
            return self._mean(xs[0])
        value = self._plain(*self._shaped(xs)).flatten(1).numpy()
        return self._bound(value, 0.0 if self.grid else self._terms(xs))

    def _terms(self, xs: list[np.ndarray]) -> np.ndarray | float:
        """Add up the sizes of the terms of a preactivation."""
        if self.kind in WITH_WEIGHT:
            products = np.abs(xs[0]) @ np.abs(self.matrices[0]).T
            return np.where(products == 0, 0.0, products + np.abs(self.bias))  # nothing is added to the bias
        if self.kind == "BatchNorm":
            return np.abs(self.scale() * xs[0]) + self.shift_terms()
        return sum(np.abs(x) for x in xs) if self.kind == "Add" else 0.0

    def output(self, xs: list[np.ndarray]) -> Rounded:
        """Compute the layer."""
        return self.activated(self.preactivation(xs))

    def activated(self, z: Rounded) -> Rounded:
        """Apply the activation to flat preactivations ``(B, out)``."""
        if self._name == "linear":
            return z
        value = self._activation(tensor(z.value).reshape(-1, *self.out_dim)).flatten(1).numpy()
        # The steps in between are as large as the argument: an exponential's own, the 1 that a gelu adds to erf.
        return self._bound(value, np.abs(value) + STEEPEST * self._reach(z.error / self.unit + np.abs(z.value)))

    def _reach(self, error: np.ndarray) -> np.ndarray:
        """Bring what numbers may be wrong by to all outputs that see them."""
        if self.elementwise:
            return error
        shaped = error.reshape(-1, *self.out_dim)
        return np.broadcast_to(shaped.max(self._axis, keepdims=True), shaped.shape).reshape(error.shape)

    def _derivative(self, z: np.ndarray) -> np.ndarray:
        """Differentiate an element-wise activation, one number at a time."""
        leaf = tensor(z).requires_grad_()
        return torch.autograd.grad(self._activation(leaf).sum(), leaf)[0].numpy()

    # -- matrices -----------------------------------------------------------------------------------------------

    @functools.cached_property
    def matrices(self) -> list[np.ndarray]:
        """Matrix of the linear part for each input, a basis vector a column; the constant part is taken away."""
        found = []
        for i, size in enumerate(self.sizes):
            xs = [torch.zeros(size + 1, *dim, dtype=torch.float64) for dim in self.dims]
            xs[i] = torch.cat([torch.eye(size), torch.zeros(1, size)]).double().reshape(size + 1, *self.dims[i])
            columns = self._plain(*xs).flatten(1).numpy()
            found.append((columns[:-1] - columns[-1]).T)
        return found

    @functools.cached_property
    def bias(self) -> np.ndarray:
        """Constant part of a layer with weights, ``(1, out)``."""
        return self._plain(*self._shaped([np.zeros((1, size)) for size in self.sizes])).flatten(1).numpy()

    def jacobians(self, xs: list[np.ndarray]) -> tuple[Rounded, list[Rounded]]:
        """Return autograd's Jacobians at each row, ``(B, out, out)`` of the activation, ``(B, out, in)`` before it."""
        before, after = [[] for _ in xs], []
        z = self.preactivation(xs)
        for b in range(len(xs[0])):
            row = tuple(self._shaped([x[b : b + 1] for x in xs]))
            for i, jacobian in enumerate(torch.autograd.functional.jacobian(self._plain, row)):
                before[i].append(jacobian.reshape(-1, self.sizes[i]).numpy())
            preactivation = tensor(z.value[b]).reshape(1, *self.out_dim)
            jacobian = torch.autograd.functional.jacobian(self._activation, preactivation)
            after.append(jacobian.reshape(preactivation.numel(), -1).numpy())
        after = np.stack(after)
        # Made of differences such as 1 - y^2, which bend with z; what an output does not see has no derivative.
        size = np.abs(after) + np.where(after == 0, 0.0, 1 + STEEPEST * self._reach(z.error / self.unit)[..., None])
        exact = self._name in ("linear", "relu", "leaky_relu")
        return self._bound(after, 0.0 if exact else size), [self._bound(np.stack(rows)) for rows in before]

    @functools.cached_property
    def windows(self) -> list[list[int]]:
        """List, for each output of a pooling layer, the inputs that its window covers, row by row."""
        channels, *positions = self.dims[0]
        kernel, strides = self.layer.get("kernel_size", tuple(positions)), self.layer.get("strides")
        kernel = (kernel,) * len(positions) if isinstance(kernel, int) else tuple(kernel)
        strides = kernel if strides is None else strides
        strides = (strides,) * len(positions) if isinstance(strides, int) else tuple(strides)
        starts = [range(0, n - k + 1, s) for n, k, s in zip(positions, kernel, strides, strict=True)]
        return [
            [
                int(np.ravel_multi_index((channel, *np.add(start, offset)), self.dims[0]))
                for offset in itertools.product(*map(range, kernel))
            ]
            for channel in range(channels)
            for start in itertools.product(*starts)
        ]

    @functools.cached_property
    def averaging(self) -> np.ndarray:
        """Matrix that takes the mean of each window."""
        windows = self.windows
        matrix = np.zeros((len(windows), self.sizes[0]))
        for out, window in enumerate(windows):
            matrix[out, window] = 1 / len(window)
        return matrix

    def means(self, x: np.ndarray) -> np.ndarray:
        """Mean of each window, summed before it is divided: what cancels is exactly 0."""
        return np.stack([x[:, window].sum(1) / len(window) for window in self.windows], 1)

    def _mean(self, x: np.ndarray) -> Rounded:
        return self._bound(self.means(x), None if self.grid else self.means(np.abs(x)))

    def winners(self, x: np.ndarray) -> np.ndarray:
        """Matrices ``(B, out, in)`` that take the first maximum of each window."""
        windows = self.windows
        matrix = np.zeros((len(x), len(windows), self.sizes[0]))
        for b, (out, window) in itertools.product(range(len(x)), enumerate(windows)):
            matrix[b, out, window[int(np.argmax(x[b, window]))]] = 1
        return matrix

    def scale(self) -> np.ndarray:
        """Factor of every feature in a batch normalisation, gamma / sqrt(variance + eps)."""
        k = np.asarray(self.layer["gamma"]) / np.sqrt(np.asarray(self.layer["run_var"]) + self.layer["eps"])
        return np.repeat(k, self.sizes[0] // len(k))

    def shift(self) -> np.ndarray:
        """Constant of every feature in a batch normalisation, beta - k * mean."""
        return self._beta() - self._scaled_mean()

    def shift_terms(self) -> np.ndarray:
        """Add up the sizes of the terms of this constant."""
        return np.abs(self._beta()) + np.abs(self._scaled_mean())

    def _beta(self) -> np.ndarray:
        beta = np.zeros(len(self.layer["gamma"])) if self.layer.get("beta") is None else np.asarray(self.layer["beta"])
        return np.repeat(beta, self.sizes[0] // len(beta))

    def _scaled_mean(self) -> np.ndarray:
        mean = np.asarray(self.layer["run_mean"])
        return self.scale() * np.repeat(mean, self.sizes[0] // len(mean))

    @property
    def is_maximum(self) -> bool:
        """Tell whether the layer takes maxima."""
        return self.kind in MAXIMA or (self.kind == "GlobalPooling" and self.layer["method"] == "max")

    # -- rules --------------------------------------------------------------------------------------------------

    def _back(self, upper, matrix, factor=1.0) -> Rounded:
        """Return ``factor * matrix' upper`` for every explained output and row: a number for each input feature."""
        upper = upper if isinstance(upper, Rounded) else Rounded(upper, 0.0, self.unit)
        return (upper[..., None] * matrix).sum(-2) * factor

    def gradient(self, jacobians: tuple[Rounded, list[Rounded]], g, skip_activation: bool) -> list[Rounded]:
        """Multiply with Jacobians."""
        after, before = jacobians
        g = g if skip_activation else self._back(g, after)
        return [self._back(g, jacobian) for jacobian in before]

    def connection_weights(self, g) -> list[Rounded]:
        """Multiply with the weights alone."""
        if self.kind in MAXIMA:  # the first of each window, which is the maximum of an input of ones
            return [self._back(g, self.winners(np.ones((1, self.sizes[0]))))]
        if self.is_maximum:
            return [self._back(g, self.averaging)]
        if self.kind == "Add":
            return [self._back(g / len(self.dims), matrix) for matrix in self.matrices]
        return [self._back(g, matrix) for matrix in self.matrices]

    # -- LRP ----------------------------------------------------------------------------------------------------

    def lrp(self, xs, r, rule, param, winner_takes_all=True) -> list[Rounded]:
        """Distribute relevance by a rule of LRP."""
        param = {"epsilon": 0.001, "alpha_beta": 0.5}.get(rule) if param is None else param
        x = xs[0]
        if self.kind in WITH_WEIGHT:
            return [self._lrp_weights(x, r, rule, param)]
        if self.kind in AVERAGES:
            return [self._lrp_average(x, r, rule, param, self.output([x]))]
        if self.is_maximum:
            if winner_takes_all:
                return [self._back(r, self.winners(x))]
            return [self._lrp_average(x, r, rule, param, self._mean(x))]
        if self.kind == "BatchNorm":
            return [self._lrp_normalization(x, r, rule, param)]
        if self.kind == "Add":
            return [self._back(r / len(xs), matrix) for matrix in self.matrices]
        return [self._back(r, matrix) for matrix in self.matrices]  # the rest has no rules

    def _simple_denominator(self, z):
        return z + self.at_zero * (z == 0) + self.tiny * np.sign(z.value)

    def _epsilon_denominator(self, z, epsilon):
        return z + epsilon * np.sign(z.value) + self.at_zero * (z == 0)

    def _signed_denominators(self, z_pos, z_neg):
        p = z_pos + self.at_zero * (z_pos == 0) + self.tiny * np.sign(z_pos.value)
        q = z_neg - self.at_zero * (z_neg == 0) + self.tiny * np.sign(z_neg.value)
        return p, q

    def _lrp_weights(self, x, r, rule, param) -> Rounded:
        (w,) = self.matrices
        if rule != "alpha_beta":
            z = self.preactivation([x])
            denominator = self._simple_denominator(z) if rule == "simple" else self._epsilon_denominator(z, param)
            return self._back(r / denominator, w, x)
        w_pos, w_neg, x_pos, x_neg = positive(w), negative(w), positive(x), negative(x)
        z_pos = x_pos @ w_pos.T + x_neg @ w_neg.T + positive(self.bias)
        z_neg = x_pos @ w_neg.T + x_neg @ w_pos.T + negative(self.bias)
        p, q = self._signed_denominators(self._bound(z_pos), self._bound(z_neg))
        rising = self._back(param * r / p, w_pos, x_pos) + self._back(param * r / p, w_neg, x_neg)
        if param == 1:
            return rising
        return rising + self._back((1 - param) * r / q, w_pos, x_neg) + self._back((1 - param) * r / q, w_neg, x_pos)

    def _lrp_average(self, x, r, rule, param, z) -> Rounded:
        average = self.averaging
        if rule == "simple":
            return self._back(r / self._simple_denominator(z), average, x)
        if rule == "epsilon":
            return self._back(r / self._epsilon_denominator(z, param), average, x)
        means = (self._bound(self.means(part)) for part in (positive(x), negative(x)))
        p, q = self._signed_denominators(*means)
        rising = self._back(param * r / p, average, positive(x))
        return rising if param == 1 else rising + self._back((1 - param) * r / q, average, negative(x))

    def _lrp_normalization(self, x, r, rule, param) -> Rounded:
        one = np.eye(self.sizes[0])
        if rule == "pass":
            return self._back(r, one)
        k, y = self._bound(self.scale()), self.output([x])
        c = self._bound(self.shift(), 0.0 if self.grid else self.shift_terms())
        if rule == "simple":
            return self._back(r, one, k * x / (y + self.at_zero * (y == 0)))
        if rule == "epsilon":
            epsilon = float(np.float32(param))  # R makes it a tensor of single precision here
            return self._back(r, one, k * x / (y + epsilon * np.sign(y.value) + self.at_zero * (y == 0)))
        s_pos, s_neg = positive(k * x), negative(k * x)
        share_pos = s_pos / (s_pos + self.at_zero * (s_pos == 0) + positive(c))
        share_neg = s_neg / (s_neg - self.at_zero * (s_neg == 0) + negative(c))
        return self._back(r, one, param * share_pos) + self._back(r, one, (1 - param) * share_neg)

    # -- DeepLift -----------------------------------------------------------------------------------------------

    def deeplift(self, xs, refs, m, rule, winner_takes_all=True, skip_activation=False) -> list[Rounded]:
        """Take multipliers to the inputs by a rule of DeepLift."""
        rows = max(len(xs[0]), len(refs[0]))
        xs, refs = ([np.broadcast_to(x, (rows, x.shape[1])) for x in values] for values in (xs, refs))
        x, ref = xs[0], refs[0]
        if self.kind in WITH_WEIGHT:
            linear = skip_activation or self.layer.get("activation_name", "linear") == "linear"
            m = Rounded(m, 0.0, self.unit)
            m_pos, m_neg = (m, m) if linear else self._multipliers(x, ref, m, rule)
            return [self._five_products(x - ref, m_pos, m_neg)]
        if self.kind == "Activation":
            return [self._deeplift_activation(x, ref, m)]
        if self.is_maximum:
            return [self._back(m, self.winners(x)) if winner_takes_all else self._deeplift_mean(x, ref, m)]
        return [self._back(m, matrix) for matrix in self.matrices]

    def _deeplift_activation(self, x, ref, m) -> Rounded:
        one = np.eye(self.sizes[0])
        if self.layer["act_name"] == "linear":  # R has no such layer; as for a layer without activation
            return self._back(m, one)
        if not self.elementwise:
            return self._deeplift_softmax(x, ref, m)
        difference = x - ref
        same = difference == 0  # then so are the outputs, to the last digit
        change = choose(same, 0.0, self.activated(self._bound(x, 0.0)) - self.activated(self._bound(ref, 0.0)))
        return self._back(m * change / (difference + self.at_zero * same), one)

    def _deeplift_softmax(self, x, ref, m) -> Rounded:
        """Our own rule, which R does not have: composed of secants, see `test_softmax_rule_is_a_decomposition`."""
        axis = self.layer.get("act_params", {}).get("dim", -1)
        shaped = [np.moveaxis(v.reshape(-1, *self.out_dim), axis, -1) for v in (x, ref)]
        positions = np.moveaxis(np.arange(self.sizes[0]).reshape(1, *self.out_dim), axis, -1)[0]
        jacobian, size = np.zeros((2, len(x), self.sizes[0], self.sizes[0]))
        for b, place in itertools.product(range(len(x)), np.ndindex(positions.shape[:-1])):
            z, z_ref = shaped[0][(b, *place)], shaped[1][(b, *place)]
            top, top_ref = np.log(np.exp(z).sum()), np.log(np.exp(z_ref).sum())
            w = np.exp((z + z_ref - top - top_ref) / 2) * log_mean_factor(z - z_ref) / log_mean_factor(top - top_ref)
            kappa = np.exp((z - top + z_ref - top_ref) / 2) * log_mean_factor((z - top) - (z_ref - top_ref))
            kappa = np.ones(len(z)) if self.layer["act_name"] == "log_softmax" else kappa
            block = np.ix_(positions[place], positions[place])
            jacobian[b][block] = np.diag(kappa) - np.outer(kappa, w)
            largest = 1 + max(np.abs(z).max(), np.abs(z_ref).max())  # exponents are off by so much
            size[b][block] = largest * (np.diag(kappa) + np.outer(kappa, w))
        return self._back(m, self._bound(jacobian, size))

    def _deeplift_mean(self, x, ref, m) -> Rounded:
        """Treat a maximum as the mean of its window, scaled so that sums are kept."""
        mean, change = self._mean(x - ref), self.output([x]) - self.output([ref])
        factor = change / (mean + self.at_zero * (mean == 0))
        # Our own rule where the differences of a window cancel and R's factor is 0 / 0 in all but name: shares by
        # the squares of the differences.
        cancels = np.abs(mean.value) <= 1e-6 * self.means(np.abs(x - ref))
        squares = self.means((x - ref) ** 2)
        share = change / self._bound(np.where(squares == 0, 1, squares))
        usual = self._back(m * choose(cancels, 0.0, factor), self.averaging)
        return usual + self._back(m * choose(cancels, share, 0.0), self.averaging, x - ref)

    def _multipliers(self, x, ref, m, rule):
        """Take multipliers through the activation: one for positive and one for negative parts of the difference."""
        z, z_ref = self.preactivation([x]), self.preactivation([ref])
        if rule == "rescale":
            difference = z - z_ref
            kappa = (self.activated(z) - self.activated(z_ref)) / (difference + self.at_zero * (difference == 0))
            # R differentiates with an axis of length 1 at the end, over which a softmax is constant.
            slope = 0.0
            if self.elementwise:
                slope = self._derivative((z.value + z_ref.value) / 2)
                slope = self._bound(slope, 1 + np.abs(slope))
            kappa = choose(np.abs(difference.value) <= self.tiny, slope, kappa)
            return m * kappa, m * kappa
        (w,) = self.matrices
        dx = x - ref
        plus = self._bound(positive(dx) @ positive(w).T + negative(dx) @ negative(w).T)
        minus = self._bound(positive(dx) @ negative(w).T + negative(dx) @ positive(w).T)
        a, a_ref = self.activated(z), self.activated(z_ref)
        with_plus, with_minus = self.activated(z_ref + plus), self.activated(z_ref + minus)
        effect_plus = (with_plus - a_ref) / 2 + (a - with_minus) / 2
        effect_minus = (with_minus - a_ref) / 2 + (a - with_plus) / 2
        if self.elementwise:  # here we differ from R, which divides what rounding leaves by its stabiliser
            effect_plus = choose(plus == 0, 0.0, effect_plus)
            effect_minus = choose(minus == 0, 0.0, effect_minus)
        m_pos = m * effect_plus / (plus + self.at_zero * (plus == 0))
        m_neg = m * effect_minus / (minus - self.at_zero * (minus == 0))
        return m_pos, m_neg

    def _five_products(self, dx, m_pos, m_neg) -> Rounded:
        (w,) = self.matrices
        total = (
            self._back(m_pos, positive(w), (dx > 0).astype(float))
            + self._back(m_pos, negative(w), (dx < 0).astype(float))
            + self._back(m_neg, positive(w), (dx < 0).astype(float))
            + self._back(m_neg, negative(w), (dx > 0).astype(float))
            + self._back((m_pos + m_neg) / 2, w, (dx == 0).astype(float))
        )
        if not self.elementwise:
            return total
        # Slopes of an element-wise activation are bounded, so that a product may be had as what two others leave:
        # all terms meet in each sum. A softmax's are not, and would drown the rest.
        sizes = (np.abs(part.value) + part.error / self.unit for part in (m_pos, m_neg))
        return Rounded(total.value, total.error + self.unit * sum(sizes) @ np.abs(w), self.unit)
