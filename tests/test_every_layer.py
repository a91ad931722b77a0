"""Every type of layer, with options that are not its defaults, against plain arrays and dense Jacobians.

`test_layer_oracle.py` goes deep where R has rules; here every type of the spec is met, each rule once. What mutation
testing (`mutants.py`) found unnoticed is kept as a case.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from one_of_each import LAYERS, draw, positive
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from innsight_py import Converter, SpecError, UnsupportedLayerError
from innsight_py.layers import DeepLiftRule, Layer, LRPRule
from innsight_py.layers.rules import BIASES

ROWS, OUTPUTS = 3, 2
EPS = 1e-15
DTYPES = {"double": torch.float64, "float": torch.float32}


def tensor(value: Any) -> Tensor:
    return torch.as_tensor(np.asarray(value), dtype=torch.float64)


def conv(axes: int) -> Callable[..., Tensor]:
    def run(x: Tensor, k: dict) -> Tensor:
        sides = k.get("padding", 0)
        sides = [sides] * (2 * axes) if isinstance(sides, int) else sides
        function = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
        return function(F.pad(x, list(sides)), tensor(k["weight"]), None if k.get("bias") is None else tensor(k["bias"]),
                        k.get("stride", 1), 0, k.get("dilation", 1), k.get("groups", 1))  # fmt: skip

    return run


def transposed(axes: int) -> Callable[..., Tensor]:
    def run(x: Tensor, k: dict) -> Tensor:
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]
        return function(x, tensor(k["weight"]), None if k.get("bias") is None else tensor(k["bias"]), k.get("stride", 1),
                        k.get("padding", 0), k.get("output_padding", 0), k.get("groups", 1), k.get("dilation", 1))  # fmt: skip

    return run


def maximum(axes: int) -> Callable[..., Tensor]:
    def run(x: Tensor, k: dict) -> Tensor:
        function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[axes - 1]
        return function(
            x, k["kernel_size"], k.get("strides"), k.get("padding", 0), k.get("dilation", 1), k.get("ceil_mode", False)
        )

    return run


def average(axes: int) -> Callable[..., Tensor]:
    def run(x: Tensor, k: dict) -> Tensor:
        function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[axes - 1]
        return function(
            x,
            k["kernel_size"],
            k.get("strides"),
            k.get("padding", 0),
            k.get("ceil_mode", False),
            k.get("count_include_pad", True),
        )

    return run


def over_positions(x: Tensor, k: dict) -> Tensor:
    flat = x.flatten(2)
    out = flat.amax(-1) if k["method"] == "max" else flat.mean(-1)
    return out.reshape(*out.shape, *[1] * (x.dim() - 2)) if k.get("keepdims") else out


def adaptive(x: Tensor, k: dict) -> Tensor:
    return (F.adaptive_max_pool1d if k["method"] == "max" else F.adaptive_avg_pool1d)(x, k["output_size"])


def standardize(x: Tensor, k: dict) -> Tensor:
    blocks = x.reshape(len(x), k["groups"], -1)
    blocks = blocks - blocks.mean(-1, keepdim=True) if k.get("center", True) else blocks
    return (blocks / ((blocks**2).mean(-1, keepdim=True) + k["eps"]).sqrt()).reshape(x.shape)


def broadcast(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Combine instances that broadcast from their last axis, row by row."""
    return lambda x, y, k: torch.stack([function(a, b) for a, b in zip(x, y, strict=True)])


def batch_norm(x: Tensor, k: dict) -> Tensor:
    shape = (1, -1, *[1] * (x.dim() - 2))
    gamma, beta, mean, var = (tensor(k[key]).reshape(shape) for key in ("gamma", "beta", "run_mean", "run_var"))
    return (x - mean) / (var + k["eps"]).sqrt() * gamma + beta


def pad(x: Tensor, k: dict) -> Tensor:
    sides = list(k["padding"]) * ({2: 2, 3: 2, 4: 4, 5: 6}[x.dim()] if len(k["padding"]) == 1 else 1)
    value = k["value"] if k["mode"] == "constant" else None
    return F.pad(x[:, None], sides, k["mode"], value)[:, 0] if x.dim() == 2 else F.pad(x, sides, k["mode"], value)


#: The linear part of each type, written with nothing of ours.
FORWARD: dict[str, Callable[..., Tensor]] = {
    "Dense": lambda x, k: x @ tensor(k["weight"]).T + tensor(k["bias"]),
    **{f"Conv{i}D": conv(i) for i in (1, 2, 3)}, **{f"Conv{i}DTranspose": transposed(i) for i in (1, 2, 3)},
    **{f"MaxPooling{i}D": maximum(i) for i in (1, 2, 3)}, **{f"AveragePooling{i}D": average(i) for i in (1, 2, 3)},
    "AdaptivePooling": adaptive, "GlobalPooling": over_positions, "BatchNorm": batch_norm, "Standardize": standardize,
    "Activation": lambda x, k: x,
    "Scale": lambda x, k: torch.stack([row * tensor(k.get("factor", 1.0)) + tensor(k.get("shift", 0.0)) for row in x]),
    "Add": lambda *x: torch.stack([sum(rows[1:], rows[0]) for rows in zip(*x[:-1], strict=True)]),
    "Multiply": broadcast(torch.mul), "MatMul": broadcast(torch.matmul),
    "Reduce": lambda x, k: (torch.mean if k["method"] == "mean" else torch.sum)(x, tuple(k["axes"]), keepdim=k.get("keepdims", False)),
    "Concatenate": lambda *x: torch.cat(x[:-1], x[-1]["axis"]),
    "Flatten": lambda x, k: (x.movedim(1, -1) if k.get("order") == "channels_last" else x).flatten(k.get("start_dim", 1), k.get("end_dim", -1)),
    "Reshape": lambda x, k: x.reshape(len(x), *k["shape"]), "Permute": lambda x, k: x.permute(0, *k["axes"]),
    "Take": lambda x, k: tensor(np.take(x.numpy(), k["indices"], k["axis"])) if not x.requires_grad else x.index_select(k["axis"], torch.tensor(k["indices"])),
    "Padding": pad,
    "Resize": lambda x, k: F.interpolate(x, k["size"] if "scale_factor" not in k else None, k.get("scale_factor"), k["mode"], k.get("align_corners")),
    "Skipping": lambda x, k: x,
    "Operator": lambda x, k: torch.cdist(x, tensor(k["arguments"][1])),
}  # fmt: skip
EXTRA: list[tuple[str, list, dict]] = [
    ("Add", [(2, 3), (3,)], {}), ("Add", [(3,), (2, 3), (1, 3)], {}), ("Add", [(2, 1), (2, 3)], {}),
    ("Add", [(2, 1, 4), (2, 3, 4)], {}), ("Add", [(1, 1, 4), (3, 1, 4)], {}),
    ("Multiply", [(1, 3, 2), (2, 3, 1)], {}), ("Scale", [(1, 3)], {"factor": draw(2, 4, 3)}),
    ("Multiply", [(2, 3), (3,)], {}), ("Multiply", [(3,), (4, 2, 3)], {}), ("Multiply", [(2, 1), (1, 3)], {}),
    ("MatMul", [(2, 2, 3), (3, 4)], {}), ("MatMul", [(2, 3), (2, 3, 2)], {}),
    ("Reduce", [(2, 3, 4)], {"method": "mean", "axes": [2]}), ("Reduce", [(2, 3, 4)], {"method": "sum", "axes": [1, -1]}),
    ("Reduce", [(2, 3, 4)], {"method": "sum", "axes": [2], "keepdims": True}), ("Reduce", [(2, 3)], {"method": "mean", "axes": [-2]}),
    ("Scale", [(3,)], {"factor": draw(2, 1), "shift": draw(3)}), ("Scale", [(3,)], {"shift": draw(2, 3)}), ("Scale", [(2, 3)], {"factor": draw(3)}),
    ("BatchNorm", [(3,)], {"gamma": draw(3), "beta": draw(3), "run_mean": draw(3), "run_var": positive(3), "eps": 1e-3}),
    ("Standardize", [(6,)], {"groups": 3, "eps": 1e-4}), ("Standardize", [(2, 4)], {"groups": 1, "eps": 1e-2}),
    ("MaxPooling1D", [(2, 9)], {"kernel_size": 2, "strides": 3, "dilation": 3, "padding": 1}),
    ("MaxPooling1D", [(2, 8)], {"kernel_size": 3, "strides": 3, "ceil_mode": True}),
    ("MaxPooling1D", [(2, 8)], {"kernel_size": 3, "strides": 2, "dilation": 2, "ceil_mode": True}),
    ("MaxPooling2D", [(2, 6, 7)], {"kernel_size": [2, 3], "strides": [2, 1], "dilation": [1, 2], "padding": [1, 1]}),
    ("MaxPooling3D", [(1, 4, 3, 5)], {"kernel_size": [2, 1, 2], "strides": 1, "dilation": [1, 1, 2]}),
    ("AveragePooling1D", [(2, 8)], {"kernel_size": 3, "strides": 2, "padding": 1, "ceil_mode": True}),
    ("AveragePooling2D", [(2, 5, 6)], {"kernel_size": [2, 3], "padding": [1, 1], "count_include_pad": False}),
    ("AveragePooling3D", [(1, 4, 5, 4)], {"kernel_size": [2, 1, 3], "strides": [1, 2, 1], "padding": [1, 0, 1]}),
    ("AdaptivePooling", [(2, 7)], {"method": "average", "output_size": [3]}),
    ("GlobalPooling", [(2, 3, 4)], {"method": "max"}), ("GlobalPooling", [(2, 5)], {"method": "max", "keepdims": True}),
    ("GlobalPooling", [(2, 3, 4)], {"method": "average"}),
    ("Concatenate", [(2, 3), (2, 1), (2, 2)], {"axis": -1}), ("Concatenate", [(2, 3, 2), (1, 3, 2)], {"axis": -3}),
    ("Flatten", [(2, 3, 4)], {"start_dim": 2}), ("Flatten", [(2, 3, 4)], {"start_dim": 1, "end_dim": 2}),
    ("Flatten", [(2, 3, 4)], {"order": "channels_last"}),
    ("Permute", [(2, 3, 4)], {"axes": [3, 1, 2]}), ("Permute", [(2, 3, 4)], {"axes": [-1, 1, 2]}),
    ("Take", [(2, 5)], {"axis": -1, "indices": [1, 2, 3]}), ("Take", [(3, 4)], {"axis": 1, "indices": [2, 2, 0, 1]}),
    ("Take", [(4, 2, 3)], {"axis": 2, "indices": [1, 0]}),
    ("Padding", [(2, 5, 4)], {"padding": [1, -1, 2, 0], "mode": "constant", "value": 0.0}),
    ("Padding", [(2, 5)], {"padding": [2], "mode": "constant", "value": 0.5}), ("Padding", [(2, 3, 4)], {"padding": [1], "mode": "constant", "value": 0.0}),
    ("Padding", [(5,)], {"padding": [2], "mode": "constant", "value": 0.5}), ("Padding", [(5,)], {"padding": [2], "mode": "reflect"}),
    ("Padding", [(5,)], {"padding": [2, 1], "mode": "replicate"}), ("Padding", [(2, 3, 4)], {"padding": [1], "mode": "replicate"}), ("Padding", [(5,)], {"padding": [2, 1], "mode": "circular"}),
    ("Padding", [(2, 5)], {"padding": [2, 1], "mode": "reflect"}), ("Padding", [(2, 3, 4)], {"padding": [2, 1, 1, 0], "mode": "circular"}),
    ("Resize", [(2, 3, 4)], {"size": [5, 7], "mode": "bilinear", "align_corners": True}),
    ("Resize", [(2, 3)], {"size": [7], "mode": "nearest"}),
    ("Conv1D", [(2, 6)], {"weight": draw(3, 2, 2), "bias": draw(3), "padding": 1, "activation_name": "relu"}),
    ("Conv2D", [(2, 5, 4)], {"weight": draw(2, 2, 2, 2), "bias": draw(2), "padding": [2, 1, 0, 3], "stride": [1, 2]}),
    ("Conv2D", [(2, 3, 4)], {"weight": draw(3, 2, 2, 3), "bias": draw(3), "padding": [2, 2, 1, 1]}),
    ("Conv2D", [(2, 3, 4)], {"weight": draw(3, 2, 2, 3), "padding": [1, 2, 2, 1]}),
    ("Conv3D", [(1, 3, 2, 4)], {"weight": draw(2, 1, 2, 2, 2), "padding": [1, 1, 2, 2, 0, 0]}),
    ("Conv3D", [(2, 3, 4, 3)], {"weight": draw(2, 1, 2, 2, 1), "groups": 2, "padding": [1, 1, 0, 0, 2, 2], "stride": [2, 1, 1]}),
    ("Conv2DTranspose", [(2, 3, 3)], {"weight": draw(2, 2, 2, 3), "bias": draw(2), "stride": 2, "padding": [1, 0], "output_padding": [1, 0], "dilation": [2, 1]}),
]  # fmt: skip
CASES = [*((kind, dims, keys) for kind, (dims, keys) in LAYERS.items()), *EXTRA]
MAXIMA = ("MaxPooling1D", "MaxPooling2D", "MaxPooling3D")
LINEAR_SHARE = ("Concatenate", "Flatten", "Reshape", "Permute", "Take", "Padding", "Resize", "Skipping")


def is_maximum(kind: str, keys: dict) -> bool:
    return kind in MAXIMA or (kind in ("AdaptivePooling", "GlobalPooling") and keys["method"] == "max")


def label(case: Any) -> str:
    return str(case) if isinstance(case, str) else None  # type: ignore[return-value]


class Setting:
    """A layer, what passes saw at it, and its dense Jacobian."""

    def __init__(self, kind: str, dims: list, keys: dict) -> None:
        self.kind, self.dims, self.keys = kind, dims, keys
        inputs = [f"input_{i + 1}" for i in range(len(dims))]
        layers = [{"type": kind, "name": "it", "inputs": inputs, **keys}, {"type": "Flatten"}]
        self.layer: Layer = Converter({"input_dim": dims, "layers": layers}, dtype="double").model.layer("it")
        rng = np.random.default_rng(17)
        self.xs = [tensor(rng.standard_normal((ROWS, *dim))) for dim in dims]
        self.refs = [tensor(rng.standard_normal((1, *dim))) for dim in dims]
        for x in self.xs:
            x.reshape(-1)[1] = 0.0  # an exact zero, as a dead ReLU leaves it
        with torch.no_grad():
            self.at, self.ref = self.layer.record(*self.xs), self.layer.record(*self.refs)
        self.upper = tensor(rng.standard_normal((OUTPUTS, ROWS, *self.at.output.shape[1:])))

    def linear(self, *xs: Tensor) -> Tensor:
        return FORWARD[self.kind](*xs, self.keys)

    def activated(self, *xs: Tensor) -> Tensor:
        return self.layer.activation(self.linear(*xs))

    def jacobians(self, function: Callable[..., Tensor], xs: list[Tensor]) -> list[Tensor]:
        """Return ``(B, out, in)`` for each input."""
        rows = []
        for b in range(len(xs[0])):
            row = tuple(x[b : b + 1] for x in xs)
            parts = torch.autograd.functional.jacobian(lambda *v: function(*v).flatten(), row)
            rows.append([part.flatten(1) for part in parts])
        return [torch.stack(column) for column in zip(*rows, strict=True)]

    def pull(self, upper: Tensor, jacobians: list[Tensor]) -> list[Tensor]:
        flat = upper.flatten(2)
        return [
            torch.einsum("kbo,boi->kbi", flat, j.expand(ROWS, -1, -1)).reshape(OUTPUTS, ROWS, *dim)
            for j, dim in zip(jacobians, self.dims, strict=True)
        ]


def close(found: list, expected: list, tolerance: float = 1e-9) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.expand(theirs.shape), theirs, rtol=tolerance, atol=tolerance)


every = pytest.mark.parametrize(("kind", "dims", "keys"), CASES, ids=label)


@every
def test_forward(kind, dims, keys):
    it = Setting(kind, dims, keys)
    close([it.at.preactivation], [it.linear(*it.xs)])
    close([it.at.output, it.layer(*it.xs)], [it.activated(*it.xs)] * 2)


@every
def test_gradient(kind, dims, keys):
    it = Setting(kind, dims, keys)
    with torch.no_grad():
        close(it.layer.gradient(it.upper, it.at), it.pull(it.upper, it.jacobians(it.activated, it.xs)))
        close(
            it.layer.gradient(it.upper, it.at, skip_activation=True), it.pull(it.upper, it.jacobians(it.linear, it.xs))
        )


@every
@pytest.mark.parametrize("winner_takes_all", [True, False])
@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
def test_deeplift(kind, dims, keys, rule, winner_takes_all):
    it = Setting(kind, dims, keys)
    how = DeepLiftRule(rule, winner_takes_all)
    with torch.no_grad():
        if kind == "Operator":
            with pytest.raises(UnsupportedLayerError):
                it.layer.deeplift(it.upper, it.at, it.ref, how)
            return
        pulled = it.layer.deeplift(it.upper, it.at, it.ref, how)
    if is_maximum(kind, keys) and winner_takes_all:
        close(pulled, it.pull(it.upper, it.jacobians(it.linear, it.xs)))
        return
    got = sum((m * (x - r)).flatten(2).sum(-1) for m, x, r in zip(pulled, it.xs, it.refs, strict=True))
    due = (it.upper * (it.at.output - it.ref.output)).flatten(2).sum(-1)
    close([got], [due], 1e-8)
    if (
        it.layer.activation.is_linear
        and kind not in ("Standardize", "Multiply", "MatMul")
        and not is_maximum(kind, keys)
    ):
        close(pulled, it.pull(it.upper, it.jacobians(it.linear, it.xs)))


@every
def test_deeplift_is_the_gradient_where_nothing_differs(kind, dims, keys):
    it = Setting(kind, dims, keys)
    if kind in ("Operator", "Activation") or (is_maximum(kind, keys)):
        return  # no rule; 0 as in R; a matter of the winner
    with torch.no_grad():
        pulled = it.layer.deeplift(it.upper, it.at, it.at, DeepLiftRule("rescale"))
    close(pulled, it.pull(it.upper, it.jacobians(it.activated, it.xs)), 1e-7)


def share(terms: Tensor, z: Tensor, upper: Tensor) -> Tensor:
    """Share what comes to outputs in proportion to terms ``(B, out, in)``."""
    return torch.einsum("kbo,boi->kbi", upper.flatten(2) / away(z, EPS).flatten(1), terms)


def away(z: Tensor, epsilon: float, sign: int = 1) -> Tensor:
    """Stabilise a denominator."""
    return torch.where(z == 0, sign * float(np.float32(EPS)), z + epsilon * z.sign())


@every
@pytest.mark.parametrize("rule", [("simple", None), ("epsilon", 0.1), ("alpha_beta", 2.0), ("alpha_beta", 1.0)])
def test_lrp(kind, dims, keys, rule):
    it = Setting(kind, dims, keys)
    how = LRPRule(*rule, winner_takes_all=True)
    if kind in ("Operator", "Standardize"):
        with pytest.raises(UnsupportedLayerError):
            it.layer.lrp(it.upper, it.at, how)
        return
    if it.layer.lrp_rules and rule[0] not in it.layer.lrp_rules:
        return  # refused by the method
    with torch.no_grad():
        found = it.layer.lrp(it.upper, it.at, how)
    jacobians = it.jacobians(it.linear, it.xs)
    z = it.linear(*it.xs)
    if kind in LINEAR_SHARE or is_maximum(kind, keys) or kind in ("Activation", "GlobalPooling"):
        close(found, it.pull(it.upper, jacobians))
    elif kind in ("Add", "Multiply"):
        ones = it.jacobians(lambda *v: FORWARD["Add"](*v, {}), it.xs)
        close(found, [p / len(dims) for p in it.pull(it.upper, ones)])
    elif kind == "Reduce":
        spread = [(j != 0).double() / (j != 0).sum(-1, keepdim=True) for j in jacobians]
        close(found, it.pull(it.upper, spread))
    elif kind == "MatMul":
        epsilon = EPS if rule[0] == "simple" else rule[1]
        divided = it.upper / away(z, epsilon)
        close(found, [0.5 * x * p for x, p in zip(it.xs, it.pull(divided, jacobians), strict=True)], 1e-7)
    elif kind in ("BatchNorm", "Scale"):
        close(found, [_diagonal(it, jacobians[0], z, *rule)], 1e-6)
    else:
        close(found, [_affine(it, jacobians[0], z, *rule)], 1e-7)


def _affine(it: Setting, jacobian: Tensor, z: Tensor, rule: str, param: float) -> Tensor:
    terms = jacobian * it.xs[0].flatten(1).unsqueeze(1)
    if rule == "simple":
        found = share(terms, z, it.upper)
    elif rule == "epsilon":
        found = torch.einsum("kbo,boi->kbi", it.upper.flatten(2) / away(z, param).flatten(1), terms)
    else:
        bias = it.linear(torch.zeros_like(it.xs[0])).flatten(1)
        above, below = terms.clamp(min=0), terms.clamp(max=0)
        found = param * share(above, above.sum(-1) + bias.clamp(min=0), it.upper)
        found = found + (1 - param) * share(below, below.sum(-1) + bias.clamp(max=0), it.upper)
    return found.reshape(OUTPUTS, ROWS, *it.dims[0])


def _diagonal(it: Setting, jacobian: Tensor, z: Tensor, rule: str, param: float) -> Tensor:
    """Each output has one input: its share is its own term over the output."""
    terms = jacobian * it.xs[0].flatten(1).unsqueeze(1)
    z, flat = z.flatten(1), it.upper.flatten(2)
    own = terms.sum(-1)
    if rule == "simple":
        part = own / away(z, 0.0)
    elif rule == "epsilon":
        part = own / away(z, float(np.float32(param)))
    else:
        c = it.linear(torch.zeros_like(it.xs[0])).flatten(1)
        above = own.clamp(min=0) / away(own.clamp(min=0), 0.0).add(c.clamp(min=0))
        below = own.clamp(max=0) / away(own.clamp(max=0), 0.0, -1).add(c.clamp(max=0))
        part = param * above + (1 - param) * below
    to = (jacobian != 0).double()
    return torch.einsum("kbo,boi->kbi", flat * part, to).reshape(OUTPUTS, ROWS, *it.dims[0])


@every
@pytest.mark.parametrize("rule", [("simple", None), ("epsilon", 0.1), ("alpha_beta", 2.0), ("alpha_beta", 1.0)])
def test_lrp_of_means(kind, dims, keys, rule):
    """Where the winner does not take all, a maximum is treated as the mean of its window."""
    if not is_maximum(kind, keys) or keys.get("winner_always"):
        return
    it = Setting(kind, dims, keys)
    with torch.no_grad():
        found = it.layer.lrp(it.upper, it.at, LRPRule(*rule, winner_takes_all=False))

    def mean(x: Tensor) -> Tensor:
        return means(x, kind, keys)

    (x,) = it.xs
    (windows,) = it.jacobians(mean, it.xs)
    terms = windows * x.flatten(1).unsqueeze(1)
    if rule[0] == "alpha_beta":
        alpha = rule[1]
        above = share(terms.clamp(min=0), mean(x.clamp(min=0)), it.upper)
        below = share(terms.clamp(max=0), mean(x.clamp(max=0)), it.upper)
        expected = alpha * above + (1 - alpha) * below
    else:
        z = away(mean(x), EPS if rule[0] == "simple" else rule[1])
        expected = torch.einsum("kbo,boi->kbi", it.upper.flatten(2) / z.flatten(1), terms)
    close(found, [expected.reshape(OUTPUTS, ROWS, *dims[0])], 1e-7)


def means(x: Tensor, kind: str, keys: dict) -> Tensor:
    """Take the mean over each window, zeros of the padding included."""
    if kind == "GlobalPooling":
        mean = x.flatten(2).mean(-1)
        return mean.reshape(*mean.shape, *[1] * (x.dim() - 2)) if keys.get("keepdims") else mean
    if kind == "AdaptivePooling":
        return F.adaptive_avg_pool1d(x, keys["output_size"])
    axes = x.dim() - 2
    dilation = keys.get("dilation", 1)
    if np.ptp(dilation) == 0 and np.max(dilation) == 1:
        return average(axes)(x, keys)
    kernel, strides, padding, dilation = (
        [value] * axes if isinstance(value, int) else list(value)
        for value in (keys["kernel_size"], keys.get("strides") or keys["kernel_size"], keys.get("padding", 0), dilation)
    )
    out = maximum(axes)(x, keys).shape[2:]
    total = x.new_zeros((*x.shape[:2], *out))
    for offset in itertools.product(*map(range, kernel)):
        for place in itertools.product(*map(range, out)):
            at = [p * s + o * d - q for p, s, o, d, q in zip(place, strides, offset, dilation, padding, strict=True)]
            if all(0 <= a < n for a, n in zip(at, x.shape[2:], strict=True)):
                total[(slice(None), slice(None), *place)] += x[(slice(None), slice(None), *at)]
    return total / math.prod(kernel)


@every
def test_deeplift_of_means(kind, dims, keys):
    """The same for DeepLift, scaled so that sums are kept, where differences do not cancel."""
    if not is_maximum(kind, keys) or keys.get("winner_always"):
        return
    it = Setting(kind, dims, keys)
    with torch.no_grad():
        found = it.layer.deeplift(it.upper, it.at, it.ref, DeepLiftRule("rescale", winner_takes_all=False))
    x, ref = it.xs[0], it.refs[0]
    (windows,) = it.jacobians(lambda v: means(v, kind, keys), it.xs)
    factor = (it.at.output - it.ref.output) / means(x - ref, kind, keys)
    expected = torch.einsum("kbo,boi->kbi", (it.upper * factor).flatten(2), windows)
    close(found, [expected.reshape(OUTPUTS, ROWS, *dims[0])], 1e-7)


@pytest.mark.parametrize(("dtype", "threshold"), [("double", 1e-5), ("float", 1e-2)])
@pytest.mark.parametrize("beside", [0.0, 0.5, 0.99, 1.01, 1.5])
def test_windows_that_nearly_cancel(dtype, threshold, beside):
    """There DeepLift shares by the squares of the differences; elsewhere it divides by their mean."""
    layers = [{"type": "MaxPooling1D", "name": "it", "kernel_size": 2}, {"type": "Flatten"}]
    layer = Converter({"input_dim": [1, 2], "layers": layers}, dtype=dtype).model.layer("it")
    ref, dx = np.array([0.5, 1.0]), np.array([1.0, 2 * beside * threshold - 1])
    rows = torch.tensor(np.stack([ref + dx, ref])[:, None], dtype=DTYPES[dtype])
    dx = (rows[0] - rows[1]).double().numpy()[0]
    at, at_ref = layer.record(rows[:1]), layer.record(rows[1:])
    with torch.no_grad():
        found = layer.deeplift(torch.ones_like(at.output)[None], at, at_ref, DeepLiftRule("rescale", False))[0]
    dy = 0.5  # the maximum was the second, 1, and is the first, 1.5
    expected = dy * dx / (dx**2).sum() if beside < 1 else np.full(2, dy / dx.sum())
    np.testing.assert_allclose(found.double().numpy().ravel(), expected, rtol=1e-9 if dtype == "double" else 1e-3)


@pytest.mark.parametrize("dtype", ["double", "float"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "softmax"])
@pytest.mark.parametrize("apart", [0.5, 1.0, 2.0])
def test_rescale_at_the_threshold(dtype, activation, apart):
    """As far apart as R's small number two values are still near: the derivative half-way counts (0 for a softmax)."""
    layer = Converter(
        {
            "input_dim": [1],
            "layers": [{"type": "Dense", "name": "it", "weight": [[1.0]], "activation_name": activation}],
        },
        dtype=dtype,
    ).model.layer("it")
    small = (1e-15 if dtype == "double" else 1e-6) * apart / 2
    x, ref = (torch.tensor([[value]], dtype=DTYPES[dtype]) for value in (small, -small))
    at, at_ref = layer.record(x), layer.record(ref)
    with torch.no_grad():
        found = layer.deeplift(torch.ones(1, 1, 1, dtype=x.dtype), at, at_ref, DeepLiftRule("rescale"))[0]
    middle = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    function = {"relu": torch.relu, "tanh": torch.tanh, "softmax": lambda z: z.softmax(0)}[activation]
    (derivative,) = torch.autograd.grad(function(middle), middle)
    secant = (function(x[0]) - function(ref[0])) / (x[0] - ref[0])
    assert activation != "relu" or float(secant) != float(derivative)
    close([found[0, 0]], [derivative.to(x.dtype) if apart <= 1 else secant], 1e-6)


@pytest.mark.parametrize("name", ["sparsemax", "softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [1, 2, -1, -2])
def test_sums_over_an_axis_are_kept(name, axis):
    """DeepLift through an activation that mixes the entries of an axis, by whichever number it is called."""
    layers = [{"type": "Activation", "name": "it", "act_name": name, "act_params": {"dim": axis}}, {"type": "Flatten"}]
    layer = Converter({"input_dim": [3, 4], "layers": layers}, dtype="double").model.layer("it")
    x, ref = (torch.randn(5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    at, at_ref = layer.record(x), layer.record(ref[:1])
    upper = torch.randn(2, 5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    (found,) = layer.deeplift(upper, at, at_ref, DeepLiftRule())
    over = axis + 1 if axis > 0 else axis
    got, due = (found * (x - ref[:1])).sum(over), (upper * (at.output - at_ref.output)).sum(over)
    torch.testing.assert_close(got, due)
    (here,) = layer.deeplift(upper, at, at, DeepLiftRule())
    torch.testing.assert_close(here, layer.gradient(upper, at)[0])


def layer_of(kind: str, dims: list, **keys: Any) -> Layer:
    names = [f"input_{i + 1}" for i in range(len(dims))]
    layers = [{"type": kind, "name": "it", "inputs": names, **keys}, {"type": "Flatten"}]
    return Converter({"input_dim": dims, "layers": layers}).model.layer("it")


EPSILON = "the rule epsilon does not hand on all relevance"


@pytest.mark.parametrize(
    ("layer", "rule", "reason"),
    [
        (layer_of("Dense", [(2,)], weight=draw(2, 2), bias=[0.0, 1.0]), LRPRule(), BIASES),
        (layer_of("Dense", [(2,)], weight=draw(2, 2), bias=[0.0, 0.0]), LRPRule(), None),
        (layer_of("Scale", [(2,)], shift=[0.0, 1.0]), LRPRule(), BIASES),
        (layer_of("Scale", [(2,)], factor=[0.0, 1.0]), LRPRule(), None),
        (layer_of("Scale", [(2,)], factor=[0.0, 1.0]), LRPRule("epsilon"), EPSILON),
        (layer_of("Scale", [(2,)], shift=[0.0, 1.0]), LRPRule("pass"), None),
        (layer_of("MatMul", [(2, 2), (2, 2)]), LRPRule(), None),
        (layer_of("MatMul", [(2, 2), (2, 2)]), LRPRule("epsilon"), EPSILON),
        (layer_of("MaxPooling1D", [(1, 4)], kernel_size=2), LRPRule("epsilon"), None),
        (layer_of("MaxPooling1D", [(1, 4)], kernel_size=2), LRPRule("simple", None, False), None),
        (layer_of("MaxPooling1D", [(1, 4)], kernel_size=2), LRPRule("epsilon", None, False), EPSILON),
        (layer_of("GlobalPooling", [(1, 4)], method="max", winner_always=True), LRPRule("epsilon", None, False), None),
        (layer_of("GlobalPooling", [(1, 4)], method="max"), LRPRule("epsilon", None, False), EPSILON),
    ],
)  # fmt: skip
def test_why_relevance_may_be_lost(layer, rule, reason):
    assert layer.lrp_loss(rule) == reason


@pytest.mark.parametrize("winner_takes_all", [True, False])
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("activation", ["linear", "relu", "tanh", "softmax"])
def test_why_contributions_may_be_lost(activation, skip, winner_takes_all):
    rule = DeepLiftRule("rescale", winner_takes_all)
    dense = layer_of("Dense", [(2,)], weight=draw(2, 2), activation_name=activation)
    reason = dense.deeplift_loss(rule, skip_activation=skip)
    assert (reason is not None) == (activation == "softmax" and not skip)
    assert layer_of("Activation", [(2,)], act_name=activation).deeplift_loss(rule, skip_activation=skip) is None
    for kind, keys in (("MaxPooling1D", {"kernel_size": 2}), ("GlobalPooling", {"method": "max"})):
        reason = layer_of(kind, [(1, 4)], **keys).deeplift_loss(rule, skip_activation=skip)
        assert (reason is not None) == winner_takes_all
    always = layer_of("GlobalPooling", [(1, 4)], method="max", winner_always=True)
    assert "as in R" in str(always.deeplift_loss(rule, skip_activation=skip))


@pytest.mark.parametrize(
    ("kind", "dims", "keys"),
    [("MatMul", [(2,), (2,)], {}), ("MatMul", [(2,), (2, 3)], {}), ("MatMul", [(3, 2), (2,)], {}),
     ("GlobalPooling", [(4,)], {"method": "max"}), ("GlobalPooling", [(4,)], {"method": "average"})],
)  # fmt: skip
def test_what_has_too_few_axes_is_refused(kind, dims, keys):
    with pytest.raises(SpecError, match="axes"):
        layer_of(kind, dims, **keys)


def _indicator(it: Setting, x: Tensor) -> Tensor:
    """Sum each window: the windows themselves come out as the Jacobian."""
    keys = it.keys
    if it.kind == "GlobalPooling":
        return x.flatten(2).sum(-1)
    if it.kind == "AdaptivePooling":
        return F.adaptive_avg_pool1d(x, keys["output_size"])
    axes = len(it.dims[0]) - 1
    kernel = [keys["kernel_size"]] * axes if isinstance(keys["kernel_size"], int) else keys["kernel_size"]
    ones = torch.ones(it.dims[0][0], 1, *kernel, dtype=x.dtype)
    function = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    return function(x, ones, None, keys.get("strides") or kernel, 0, keys.get("dilation", 1), it.dims[0][0])


@every
def test_connection_weights(kind, dims, keys):
    it = Setting(kind, dims, keys)
    g = it.upper[:, :1]
    if kind in ("Operator", "Standardize", "Multiply", "MatMul"):
        with pytest.raises(UnsupportedLayerError):
            it.layer.connection_weights(g)
        return
    with torch.no_grad():
        found = it.layer.connection_weights(g)
    ones = [torch.ones(1, *dim, dtype=torch.float64) for dim in dims]
    jacobians = it.jacobians(it.linear, ones)
    if kind in ("Add", "Reduce"):
        jacobians = [
            (j != 0).double() / (len(dims) if kind == "Add" else (j != 0).sum(-1, keepdim=True)) for j in jacobians
        ]
    if kind == "GlobalPooling":
        jacobians = [
            j.new_tensor(1 / math.prod(dims[0][1:])) * (it.jacobians(lambda x: _indicator(it, x), ones)[0])
            for j in jacobians
        ]
    if is_maximum(kind, keys) and kind != "GlobalPooling":
        first = [
            j.flatten(2)
            for j in it.jacobians(it.linear, [1 - 1e-6 * torch.arange(ones[0].numel()).reshape(ones[0].shape).double()])
        ]
        jacobians = first
    expected = [
        torch.einsum("kbo,boi->kbi", g.flatten(2), j).reshape(OUTPUTS, 1, *d)
        for j, d in zip(jacobians, dims, strict=True)
    ]
    close(found, expected)


def test_every_type_is_met():
    assert {kind for kind, _, _ in CASES} == set(LAYERS) == set(FORWARD)
    assert len(list(itertools.chain(EXTRA))) > len(LAYERS)


def test_the_winner_takes_all_by_default():
    """As in R."""
    layer = layer_of("MaxPooling1D", [(1, 4)], kernel_size=2)
    assert layer.deeplift_loss(DeepLiftRule()) == layer.deeplift_loss(DeepLiftRule(winner_takes_all=True)) is not None
    assert layer.lrp_loss(LRPRule("epsilon")) == layer.lrp_loss(LRPRule("epsilon", winner_takes_all=True)) is None
