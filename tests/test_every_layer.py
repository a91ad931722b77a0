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

from innsight_py import Converter, UnsupportedLayerError
from innsight_py.layers import DeepLiftRule, Layer, LRPRule

ROWS, OUTPUTS = 3, 2
EPS = 1e-15


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
    "Padding": lambda x, k: F.pad(x, k["padding"], value=k["value"]) if k["mode"] == "constant" else F.pad(x, k["padding"], k["mode"]),
    "Resize": lambda x, k: F.interpolate(x, k["size"] if "scale_factor" not in k else None, k.get("scale_factor"), k["mode"], k.get("align_corners")),
    "Skipping": lambda x, k: x,
    "Operator": lambda x, k: torch.cdist(x, tensor(k["arguments"][1])),
}  # fmt: skip
EXTRA: list[tuple[str, list, dict]] = [
    ("Add", [(2, 3), (3,)], {}), ("Add", [(3,), (2, 3), (1, 3)], {}), ("Add", [(2, 1), (2, 3)], {}),
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
    ("Padding", [(2, 5)], {"padding": [2, 1], "mode": "reflect"}), ("Padding", [(2, 3, 4)], {"padding": [2, 1, 1, 0], "mode": "circular"}),
    ("Resize", [(2, 3, 4)], {"size": [5, 7], "mode": "bilinear", "align_corners": True}),
    ("Resize", [(2, 3)], {"size": [7], "mode": "nearest"}),
    ("Conv1D", [(2, 6)], {"weight": draw(3, 2, 2), "bias": draw(3), "padding": 1, "activation_name": "relu"}),
    ("Conv2D", [(2, 5, 4)], {"weight": draw(2, 2, 2, 2), "bias": draw(2), "padding": [2, 1, 0, 3], "stride": [1, 2]}),
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
def test_lrp_of_means(kind, dims, keys):
    """Where the winner does not take all, a maximum is treated as the mean of its window."""
    if not is_maximum(kind, keys):
        return
    it = Setting(kind, dims, keys)
    with torch.no_grad():
        found = it.layer.lrp(it.upper, it.at, LRPRule("simple", None, winner_takes_all=False))
    if keys.get("ceil_mode") or "padding" in keys:  # zeros in a window: a share of the relevance stays
        assert torch.isfinite(found[0]).all()
        return
    got, due = found[0].flatten(2).sum(-1), it.upper.flatten(2).sum(-1)
    close([got], [due], 1e-8)
    windows = (it.jacobians(lambda x: _indicator(it, x), it.xs)[0] != 0).double()
    terms = windows * it.xs[0].flatten(1).unsqueeze(1)
    close(found, [share(terms, terms.sum(-1), it.upper).reshape(OUTPUTS, ROWS, *dims[0])], 1e-7)


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
