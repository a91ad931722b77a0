"""Every operator and option of PyTorch that has a rule: conversion, gradient, DeepLift, LRP and connection weights.

Oracles are autograd of the original, dense matrices taken from it, and mpmath; none of them is the package's own code.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_models import draw, gradients, in_double, outputs, total

from innsight_py import Converter, UnsupportedLayerError, run_cw, run_deeplift, run_grad, run_lrp
from innsight_py.layers.activation import softmax_slopes, through_softmax

SIGNAL, IMAGE, VOLUME, TABLE = (4, 6), (4, 6, 6), (2, 5, 4, 5), (6,)


@dataclass(frozen=True)
class Case:
    """A function of a value (of a model's module, if it takes one), and the shape of an instance of the value."""

    function: Callable
    dim: tuple[int, ...] = SIGNAL
    module: Callable[[], nn.Module] | None = None
    keys: dict = field(default_factory=dict, hash=False, compare=False)


class Around(nn.Module):
    """A linear layer, the operator, and a linear head, so that the operator gets and gives what is no plain data."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        axes = len(case.dim) - 1
        first = case.dim[0]
        self.before = [
            lambda: nn.Linear(first, first),
            lambda: nn.Conv1d(first, first, 3, padding=1),
            lambda: nn.Conv2d(first, first, 3, padding=1),
            lambda: nn.Conv3d(first, first, 3, padding=1),
        ][axes]()
        self.module = None if case.module is None else case.module()
        self.function = case.function
        with torch.no_grad():
            self.head = nn.Linear(self.operate(self.before(torch.zeros(2, *case.dim))).shape[1], 3)

    def operate(self, y):
        y = self.function(y) if self.module is None else self.function(self.module, y)
        return y.flatten(1)

    def forward(self, x):
        return self.head(self.operate(self.before(x)))


class Alone(nn.Module):
    """The operator by itself; its results are the outputs."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.module = None if case.module is None else case.module()
        self.function = case.function

    def forward(self, x):
        return (self.function(x) if self.module is None else self.function(self.module, x)).flatten(1)


def positive(y):
    return F.softplus(y) + 0.1


def module_case(make, dim, **keys) -> Case:
    return Case(lambda m, y: m(y), dim, make, keys)


def grow(y, *axes: int):
    """Give an instance more axes."""
    return y.unflatten(1, axes)


# -- linear operators --------------------------------------------------------------------------------------------------

WEIGHTED = {
    "linear": module_case(lambda: nn.Linear(6, 5), TABLE),
    "linear on positions": module_case(lambda: nn.Linear(6, 3), SIGNAL),
    "linear, two more axes": module_case(lambda: nn.Linear(6, 3), IMAGE),
    "bilinear of a constant": Case(lambda m, y: F.linear(y, m.weight), SIGNAL, lambda: nn.Linear(6, 3)),
    "addmm": Case(lambda m, y: torch.addmm(m.bias, y, m.weight.T), TABLE, lambda: nn.Linear(6, 3)),
    **{
        f"conv1d {label}": module_case(functools.partial(nn.Conv1d, 4, 8, 3, **keys), (4, 9))
        for label, keys in {
            "plain": {},
            "groups": {"groups": 2},
            "depthwise": {"groups": 4},
            "dilation": {"dilation": 2},
            "stride and padding": {"stride": 2, "padding": 2},
            "same": {"padding": "same", "dilation": 2},
            "everything": {"groups": 2, "dilation": 2, "stride": 2, "padding": 3},
            **{f"{m} padding": {"padding": 2, "padding_mode": m} for m in ("reflect", "replicate", "circular")},
        }.items()
    },
    **{
        f"conv2d {label}": module_case(functools.partial(nn.Conv2d, 4, 8, **keys), IMAGE)
        for label, keys in {
            "plain": {"kernel_size": 3},
            "groups": {"kernel_size": (3, 2), "groups": 2},
            "depthwise": {"kernel_size": 3, "groups": 4, "padding": 1},
            "dilation": {"kernel_size": (2, 3), "dilation": (3, 2)},
            "stride and padding": {"kernel_size": 3, "stride": (2, 1), "padding": (1, 2)},
            "same": {"kernel_size": 3, "padding": "same"},
            "same, odd sides": {"kernel_size": (4, 2), "padding": "same", "dilation": (1, 3), "groups": 2},
            "valid": {"kernel_size": 2, "padding": "valid"},
            "everything": {"kernel_size": (2, 3), "groups": 4, "dilation": (2, 1), "stride": (1, 2), "padding": (2, 1)},
            **{
                f"{mode} padding": {"kernel_size": 3, "padding": (2, 1), "padding_mode": mode}
                for mode in ("zeros", "reflect", "replicate", "circular")
            },
            "same circular": {"kernel_size": (4, 3), "padding": "same", "padding_mode": "circular"},
        }.items()
    },
    **{
        f"conv3d {label}": module_case(functools.partial(nn.Conv3d, 2, 4, **keys), VOLUME)
        for label, keys in {
            "plain": {"kernel_size": (2, 3, 2)},
            "groups": {"kernel_size": 2, "groups": 2},
            "dilation": {"kernel_size": 2, "dilation": (2, 1, 3)},
            "stride and padding": {"kernel_size": 3, "stride": (2, 1, 2), "padding": (1, 0, 2)},
            "same": {"kernel_size": (3, 2, 2), "padding": "same"},
            **{
                f"{mode} padding": {"kernel_size": 2, "padding": (1, 2, 1), "padding_mode": mode}
                for mode in ("reflect", "replicate", "circular")
            },
        }.items()
    },
    **{
        f"conv_transpose1d {label}": module_case(functools.partial(nn.ConvTranspose1d, 4, 6, 3, **keys), (4, 5))
        for label, keys in {
            "plain": {},
            "stride": {"stride": 2, "padding": 1, "output_padding": 1},
            "dilation": {"dilation": 2, "padding": 2},
            "groups": {"groups": 2, "stride": 3, "output_padding": 2},
        }.items()
    },
    **{
        f"conv_transpose2d {label}": module_case(functools.partial(nn.ConvTranspose2d, 4, 6, **keys), (4, 3, 4))
        for label, keys in {
            "plain": {"kernel_size": (2, 3)},
            "stride": {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
            "dilation": {"kernel_size": (3, 2), "dilation": (1, 3), "padding": (1, 2)},
            "groups": {"kernel_size": 3, "groups": 2, "stride": (2, 3), "output_padding": (1, 0), "dilation": (1, 2)},
        }.items()
    },
    **{
        f"conv_transpose3d {label}": module_case(functools.partial(nn.ConvTranspose3d, 2, 4, **keys), (2, 2, 3, 2))
        for label, keys in {
            "plain": {"kernel_size": (2, 1, 3)},
            "stride": {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": (1, 0, 1)},
            "groups and dilation": {"kernel_size": 2, "groups": 2, "dilation": (2, 1, 1), "padding": (1, 0, 0)},
        }.items()
    },
}  # fmt: skip

AVERAGES = {
    **{
        f"avg_pool1d {keys}": module_case(functools.partial(nn.AvgPool1d, **keys), (2, 7))
        for keys in (
            {"kernel_size": 2},
            {"kernel_size": 3, "stride": 2, "padding": 1},
            {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
            {"kernel_size": 4, "stride": 3, "ceil_mode": True, "padding": 2},
            {"kernel_size": 4, "stride": 3, "ceil_mode": True, "padding": 2, "count_include_pad": False},
        )
    },
    **{
        f"avg_pool2d {keys}": module_case(functools.partial(nn.AvgPool2d, **keys), (2, 6, 7))
        for keys in (
            {"kernel_size": (2, 3)},
            {"kernel_size": 3, "stride": (1, 2), "padding": (1, 0)},
            {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
            {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
            {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False},
            {"kernel_size": 3, "stride": 2, "padding": 1, "divisor_override": 4},
        )
    },
    **{
        f"avg_pool3d {keys}": module_case(functools.partial(nn.AvgPool3d, **keys), VOLUME)
        for keys in (
            {"kernel_size": 2},
            {"kernel_size": (3, 2, 3), "stride": 2, "padding": 1, "count_include_pad": False},
            {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
            {"kernel_size": 2, "divisor_override": 3},
        )
    },
    "adaptive_avg_pool1d": module_case(lambda: nn.AdaptiveAvgPool1d(4), SIGNAL),
    "adaptive_avg_pool1d to 1": module_case(lambda: nn.AdaptiveAvgPool1d(1), SIGNAL),
    "adaptive_avg_pool2d": module_case(lambda: nn.AdaptiveAvgPool2d((4, None)), IMAGE),
    "adaptive_avg_pool2d, more than there are": module_case(lambda: nn.AdaptiveAvgPool2d((8, 3)), IMAGE),
    "adaptive_avg_pool3d": module_case(lambda: nn.AdaptiveAvgPool3d((2, 3, 4)), VOLUME),
    "adaptive_avg_pool3d to 1": module_case(lambda: nn.AdaptiveAvgPool3d(1), VOLUME),
}

#: Moves, copies, drops and interpolates: linear, without weights.
MOVES = {
    "identity": Case(lambda y: y.clone()),
    "to its own kind": Case(lambda y: y.to(y.dtype).contiguous()),
    "view": Case(lambda y: y.view(-1, 3, 2, 4).mean(2).flatten(1)[:, ::2]),
    "reshape and back": Case(lambda y: y.reshape(len(y), 2, 12).reshape(len(y), 6, 4)),
    "permute": Case(lambda y: y.permute(0, 2, 1)),
    "permute 3": Case(lambda y: y.permute(0, 3, 1, 2), IMAGE),
    "transpose of batch and back": Case(lambda y: y.transpose(0, 1).reshape(4, -1, 6).transpose(0, 1)),
    "batch last": Case(lambda y: y.permute(1, 2, 0).flatten(0, 1).t()),
    "movedim": Case(lambda y: y.movedim(3, 1), IMAGE),
    "swapaxes": Case(lambda y: y.swapaxes(-1, -2)),
    "squeeze and unsqueeze": Case(lambda y: y[:, None, :, None].squeeze(1).squeeze(-2).unsqueeze(-1).squeeze(3)),
    "flatten some": Case(lambda y: y.flatten(1, 2).unflatten(1, (6, 4)).flatten(2), IMAGE),
    "select": Case(lambda y: y[..., 2]),
    "select from the end": Case(lambda y: y[:, -1]),
    "slice with steps": Case(lambda y: y[:, 1::2, ::3]),
    "slice beyond": Case(lambda y: y[:, :100, -4:]),
    "narrow": Case(lambda y: y.narrow(2, 1, 3)),
    "index": Case(lambda y: y[:, [2, 0, 0]]),
    "index from the end": Case(lambda y: y[:, :, [-1, 1]]),
    "index, two axes of indices": Case(lambda y: y[:, torch.tensor([[0, 1], [3, 3]])]),
    "index, two axes": Case(lambda y: y[:, [0, 1, 3], [5, 5, 2]]),
    "index with a mask": Case(lambda y: y[:, torch.tensor([True, False, True, True])]),
    "index with a mask of two axes": Case(lambda y: y[:, torch.eye(4, 6).bool()]),
    "index_select": Case(lambda y: y.index_select(2, torch.tensor([4, 0, 4]))),
    "diagonal": Case(lambda y: y.diagonal(dim1=1, dim2=2)),
    "diagonal with an offset": Case(lambda y: y.diagonal(1, dim1=2, dim2=1)),
    "unfold": Case(lambda y: y.unfold(2, 3, 2)),
    "im2col": Case(lambda y: F.unfold(y, 2, stride=2), IMAGE),
    "split": Case(lambda y: torch.cat(y.split([1, 3, 2], 2)[::-1], 2)),
    "split, one part unused": Case(lambda y: y.split(4, 2)[1]),
    "chunk": Case(lambda y: y.chunk(4, -1)[1]),
    "tensor_split": Case(lambda y: y.tensor_split(3, 2)[2]),
    "unbind": Case(lambda y: torch.cat([y.unbind(1)[2], y.unbind(1)[0]], -1)),
    "stack": Case(lambda y: torch.stack(y.chunk(2, 1), 2)),
    "stack first": Case(lambda y: torch.stack([y, y.flip(1)], 0).transpose(0, 1)),
    "cat": Case(lambda y: torch.cat([y, y[:, :2], y], 1)),
    "cat with zeros between": Case(lambda y: torch.cat([y, torch.zeros(len(y), 1, 6, dtype=y.dtype), y[:, :2]], 1)),
    "where, one of two at each place": Case(lambda y: torch.where(torch.eye(4, 6).bool(), y, y.flip(1))),
    "expand": Case(lambda y: y.mean(2, keepdim=True).expand(-1, -1, 5)),
    "expand a new axis": Case(lambda y: y[:, :, None].expand(-1, -1, 3, -1)),
    "expand_as": Case(lambda y: y[:, :1].expand_as(y)),
    "repeat": Case(lambda y: y.repeat(1, 2, 3)),
    "repeat with a new axis": Case(lambda y: y[:, None].repeat(1, 2, 1, 2)),
    "tile": Case(lambda y: y.tile(1, 2, 1)),
    "repeat_interleave": Case(lambda y: y.repeat_interleave(2, 2)),
    "roll": Case(lambda y: y.roll(2, 1)),
    "roll two axes": Case(lambda y: y.roll((-1, 8), (2, 1))),
    "flip": Case(lambda y: y.flip(1, 2)),
    "rot90": Case(lambda y: y.rot90(1, (1, 2))),
    "tril": Case(lambda y: y.tril()),
    "triu": Case(lambda y: y.triu(1)),
    "zero pad": Case(lambda y: F.pad(y, (1, 2))),
    "pad of two axes": Case(lambda y: F.pad(y, (1, 2, 0, 3))),
    "negative pad": Case(lambda y: F.pad(y, (-1, 2))),
    "negative pad of three axes": Case(lambda y: F.pad(y, (-2, 1, 3, -3, -1, 0)), IMAGE),
    "reflect pad 1d": Case(lambda y: F.pad(y, (3, 2), mode="reflect")),
    "reflect pad 2d": Case(lambda y: F.pad(y, (3, 0, 1, 2), mode="reflect"), IMAGE),
    "reflect pad 3d": Case(lambda y: F.pad(y, (1, 2, 3, 0, 1, 1), mode="reflect"), VOLUME),
    "replicate pad 1d": Case(lambda y: F.pad(y, (3, 2), mode="replicate")),
    "replicate pad 2d": Case(lambda y: F.pad(y, (3, 0, 1, 2), mode="replicate"), IMAGE),
    "replicate pad 3d": Case(lambda y: F.pad(y, (1, 2, 3, 0, 1, 1), mode="replicate"), VOLUME),
    "circular pad 1d": Case(lambda y: F.pad(y, (3, 2), mode="circular")),
    "circular pad 2d": Case(lambda y: F.pad(y, (3, 0, 1, 2), mode="circular"), IMAGE),
    "circular pad 3d": Case(lambda y: F.pad(y, (1, 2, 3, 0, 1, 1), mode="circular"), VOLUME),
    **{
        f"interpolate {dim} {keys}": Case(lambda y, keys=keys: F.interpolate(y, **keys), dim)
        for dim, options in {
            SIGNAL: [
                {"size": 9, "mode": "nearest"},
                {"scale_factor": 1.7, "mode": "nearest"},
                {"size": 4, "mode": "nearest-exact"},
                {"size": 9, "mode": "linear"},
                {"size": 9, "mode": "linear", "align_corners": True},
                {"scale_factor": 2.3, "mode": "linear"},
            ],
            IMAGE: [
                {"scale_factor": 2, "mode": "nearest"},
                {"size": (9, 4), "mode": "nearest"},
                {"size": (4, 11), "mode": "nearest-exact"},
                {"size": (9, 4), "mode": "bilinear"},
                {"size": (9, 4), "mode": "bilinear", "align_corners": True},
                {"scale_factor": (1.6, 0.7), "mode": "bilinear"},
                {"scale_factor": 1.6, "mode": "bilinear", "recompute_scale_factor": True},
                {"size": (7, 8), "mode": "bicubic"},
                {"scale_factor": 1.5, "mode": "bicubic", "align_corners": True},
            ],
            VOLUME: [
                {"scale_factor": 2, "mode": "nearest"},
                {"size": (3, 6, 7), "mode": "trilinear"},
                {"size": (3, 6, 7), "mode": "trilinear", "align_corners": True},
                {"scale_factor": (1.3, 2.0, 0.6), "mode": "trilinear"},
            ],
        }.items()
        for keys in options
    },
    "upsample module": module_case(lambda: nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE),
    "pixel_shuffle": Case(lambda y: F.pixel_shuffle(y, 2), IMAGE),
    "pixel_unshuffle": Case(lambda y: F.pixel_unshuffle(y, 3), IMAGE),
    "channel_shuffle": Case(lambda y: F.channel_shuffle(y, 2), IMAGE),
    "mean": Case(lambda y: y.mean(2)),
    "mean over channels": Case(lambda y: y.mean(1)),
    "mean of all": Case(lambda y: y.mean((1, 2), keepdim=True)),
    "global mean": Case(lambda y: y.mean((2, 3)), IMAGE),
    "dropout": Case(lambda y: F.dropout(y, 0.5, False)),
    "dropout1d": Case(lambda y: F.dropout1d(y, 0.5, False)),
    "dropout2d": module_case(lambda: nn.Dropout2d(0.4), IMAGE),
    "dropout3d": module_case(lambda: nn.Dropout3d(0.4), VOLUME),
    "alpha dropout": module_case(lambda: nn.AlphaDropout(0.4), SIGNAL),
    "feature alpha dropout": module_case(lambda: nn.FeatureAlphaDropout(0.4), SIGNAL),
}

#: Linear, with numbers of their own: R's connection weights are the Jacobian.
SCALES = {
    "times a number": Case(lambda y: 3 * y),
    "times a constant": Case(lambda y: y * torch.arange(1.0, 7.0)),
    "times a constant of more axes": Case(lambda y: y[:, :, None] * torch.arange(1.0, 13.0).reshape(1, 1, 2, 6)),
    "divided by a constant": Case(lambda y: y / torch.arange(1.0, 5.0)[:, None]),
    "divided by a number": Case(lambda y: y / 7),
    "negative": Case(lambda y: -y),
    "masked_fill": Case(lambda y: y.masked_fill(torch.eye(4, 6).bool(), 0.0)),
    "where, zeros elsewhere": Case(lambda y: torch.where(torch.eye(4, 6).bool(), y, torch.zeros(4, 6))),
    "batch norm": Case(
        lambda m, y: F.batch_norm(y, m.running_mean * 0, m.running_var * 2, m.weight, None), SIGNAL,
        lambda: nn.BatchNorm1d(4),
    ),
    "matmul with a constant": Case(lambda m, y: y @ m.weight, SIGNAL, lambda: nn.Linear(2, 6)),
    "constant matmul": Case(lambda m, y: m.weight @ y, SIGNAL, lambda: nn.Linear(4, 3)),
    "matmul with a vector": Case(lambda m, y: y @ m.weight[:, 0], SIGNAL, lambda: nn.Linear(1, 6)),
    "einsum with a constant": Case(
        lambda m, y: torch.einsum("bcl,cd->bdl", y, m.weight), SIGNAL, lambda: nn.Linear(2, 4)
    ),
    "cumsum": Case(lambda y: y.cumsum(1)),
    "cumsum of the last": Case(lambda y: y.cumsum(-1)),
    "cumsum of a table": Case(lambda y: y.cumsum(1), TABLE),
}  # fmt: skip

#: Sums, of which LRP and connection weights give each term an equal share (R's convention).
SUMS = {
    "sum": Case(lambda y: y.sum(2)),
    "sum of channels, kept": Case(lambda y: y.sum(1, keepdim=True)),
    "sum of all": Case(lambda y: y.sum((1, 2), keepdim=True)),
    "sum of two tensors": Case(lambda y: y + y.flip(2)),
    "sum of unequal shapes": Case(lambda y: y + y[:, :1, :1]),
    "sum with a factor": Case(lambda y: torch.add(y, y.flip(1), alpha=0.3)),
    "difference of two tensors": Case(lambda y: y - y.roll(1, 2)),
    "diff": Case(lambda y: torch.diff(y, dim=2)),
    "lerp": Case(lambda y: torch.lerp(y, y.flip(1), 0.3)),
}

#: Linear up to a constant.
SHIFTS = {
    "plus a number": Case(lambda y: y + 2),
    "plus a constant": Case(lambda y: torch.arange(6.0) + y),
    "plus a constant of more axes": Case(lambda y: y[:, None] + torch.arange(72.0).reshape(3, 4, 6)),
    "minus a number": Case(lambda y: y - 0.5),
    "number minus": Case(lambda y: 3 - y / 2 - 1),
    "rsub": Case(lambda y: torch.rsub(y, 2.0, alpha=3)),
    "sub with a factor": Case(lambda y: torch.sub(torch.arange(6.0), y, alpha=0.5)),
    "constant pad": Case(lambda y: F.pad(y, (1, 2), value=-1.5)),
    "cat with constants": Case(
        lambda m, y: torch.cat([m.weight[None].expand(len(y), -1, -1), y, y * 2], 1), SIGNAL, lambda: nn.Linear(6, 2)
    ),
    "stack with constants": Case(
        lambda m, y: torch.stack([y, m.weight[None].expand(len(y), -1, -1), y], 2), SIGNAL, lambda: nn.Linear(6, 4)
    ),
    "masked_fill with a number": Case(lambda y: y.masked_fill(torch.eye(4, 6).bool(), 7.0)),
    "where, constants elsewhere": Case(lambda y: torch.where(torch.eye(4, 6).bool(), torch.arange(6.0), y)),
    "batch norm 1d": module_case(lambda: nn.BatchNorm1d(4, eps=0.1), SIGNAL),
    "batch norm of a table": module_case(lambda: nn.BatchNorm1d(6), TABLE),
    "batch norm 2d": module_case(lambda: nn.BatchNorm2d(4), IMAGE),
    "batch norm 3d": module_case(lambda: nn.BatchNorm3d(2, affine=False), VOLUME),
}  # fmt: skip

# -- what is not linear ------------------------------------------------------------------------------------------------

ACTIVATIONS = {
    "relu": F.relu,
    "relu6": lambda y: F.relu6(8 * y),
    "hardtanh": lambda y: F.hardtanh(y, -0.5, 0.3),
    "leaky_relu": lambda y: F.leaky_relu(y, 0.3),
    "rrelu": lambda y: F.rrelu(y, 0.1, 0.6),
    "elu": lambda y: F.elu(y, 0.5),
    "selu": F.selu,
    "celu": lambda y: F.celu(y, 2.0),
    "gelu": F.gelu,
    "gelu tanh": lambda y: F.gelu(y, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "softplus": lambda y: F.softplus(y, 2.0, 0.5),
    "softsign": F.softsign,
    "tanh": torch.tanh,
    "tanhshrink": F.tanhshrink,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": lambda y: F.hardsigmoid(4 * y),
    "hardswish": lambda y: F.hardswish(4 * y),
    "logsigmoid": F.logsigmoid,
    "threshold": lambda y: F.threshold(y, 0.1, -2.0),
    "softshrink": lambda y: F.softshrink(y, 0.2),
    "hardshrink": lambda y: F.hardshrink(y, 0.3),
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": lambda y: positive(y).log(),
    "log1p": lambda y: positive(y).log1p(),
    "sqrt": lambda y: positive(y).sqrt(),
    "rsqrt": lambda y: positive(y).rsqrt(),
    "reciprocal": lambda y: positive(y).reciprocal(),
    "abs": torch.abs,
    "pow 2": lambda y: y**2,
    "pow 3": lambda y: y.pow(3),
    "pow of a fraction": lambda y: positive(y) ** 1.7,
    "square": torch.square,
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
    "atan": torch.atan,
    "clamp": lambda y: y.clamp(-0.5, 0.4),
    "clamp from below": lambda y: y.clamp(min=-0.1),
    "clamp from above": lambda y: y.clamp_max(0.2),
    "sign": lambda y: y.sign() * y,
}


def product_of_unequal_ranks(y):
    """Multiply with a sum of the first channel, which has an axis of the batch if there is more than one row."""
    return y * y[:, 0].sum()[None] if len(y) == 1 else y * y[:, 0].sum(1)[:, None, None]


def attention_with_gaps(y):
    mask = torch.eye(4).bool() | torch.ones(4, 4).triu(2).bool()
    return F.scaled_dot_product_attention(y, y, y, attn_mask=mask)


def attention_of_fixed_values(m, y):
    return F.scaled_dot_product_attention(y, y, m.weight.expand(len(y), -1, -1))


def attention_of_fixed_queries(m, y):
    return F.scaled_dot_product_attention(m.weight.expand(len(y), -1, -1), y, y)


NONLINEAR = {
    **{name: Case(function) for name, function in ACTIVATIONS.items()},
    "relu on a table": Case(F.relu, TABLE),
    "in place": Case(lambda y: y.mul_(2).add_(1).relu_()),
    "prelu": module_case(lambda: nn.PReLU(init=0.3), SIGNAL),
    "prelu of channels": Case(lambda m, y: F.prelu(y, m.weight.flatten()), SIGNAL, lambda: nn.Linear(4, 1)),
    "prelu of channels of an image": Case(lambda m, y: F.prelu(y, m.weight.flatten()), IMAGE, lambda: nn.Linear(4, 1)),
    # products of values that both depend on the input
    "product": Case(lambda y: y * y.flip(1)),
    "square as a product": Case(lambda y: y * y),
    "product of unequal shapes": Case(lambda y: y * y[:, :1, :1]),
    "outer product": Case(lambda y: y[:, :, None] * y[:, None]),
    "product of unequal ranks": Case(product_of_unequal_ranks),
    "gate": Case(lambda y: y * torch.sigmoid(y.mean(1, keepdim=True))),
    "addcmul": Case(lambda y: torch.addcmul(y, y.flip(1), y.roll(1, 2), value=0.5)),
    "prod": Case(lambda y: y[:, 0] * y[:, 1] * y[:, 2]),
    "matmul": Case(lambda y: y @ y.transpose(1, 2)),
    "matmul of unequal ranks": Case(lambda y: y[:, None] @ y.reshape(len(y), 2, 6, 2)),
    "bmm": Case(lambda y: torch.bmm(y, y.transpose(1, 2))),
    "matmul with the batch in front": Case(lambda y: (y.reshape(len(y), 2, 2, 6) @ y.reshape(len(y), 2, 6, 2))),
    "einsum": Case(lambda y: torch.einsum("bcl,bdl->bcd", y, y.tanh())),
    "einsum over two axes": Case(lambda y: torch.einsum("bcl,bcm->blm", y, y.flip(2))),
    "einsum, entry by entry": Case(lambda y: torch.einsum("bcl,bl->bc", y, y[:, 0])),
    "division": Case(lambda y: y / positive(y.flip(1))),
    "division by a sum": Case(lambda y: y / positive(y).sum(1, keepdim=True)),
    "number divided by": Case(lambda y: 2 / positive(y)),
    "constant divided by": Case(lambda y: torch.arange(6.0) / positive(y)),
    "cosine similarity": Case(lambda y: F.cosine_similarity(y[:, :2], y[:, 2:], 1)),
    "normalize": Case(lambda y: F.normalize(y, dim=1)),
    # maxima
    "amax": Case(lambda y: y.amax(2)),
    "amax over channels": Case(lambda y: y.amax(1)),
    "amax over all, kept": Case(lambda y: y.amax((1, 2), keepdim=True)),
    "amin": Case(lambda y: y.amin((-1, -2)), IMAGE),
    "max with an axis": Case(lambda y: y.max(1).values),
    "min with an axis": Case(lambda y: y.min(2, keepdim=True)[0]),
    "maximum": Case(lambda y: torch.maximum(y, y.flip(1))),
    "minimum": Case(lambda y: torch.minimum(y, y[:, :1])),
    **{
        f"max_pool{axes}d {keys}": module_case(
            functools.partial((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[axes - 1], **keys),
            ((3, 9), (2, 7, 8), VOLUME)[axes - 1],
        )
        for axes in (1, 2, 3)
        for keys in (
            {"kernel_size": 2},
            {"kernel_size": 3, "stride": 1},
            {"kernel_size": 3, "stride": 2, "padding": 1},
            {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
            {"kernel_size": 2, "stride": 3, "ceil_mode": True},
            {"kernel_size": 2, "stride": 1, "dilation": 2},
            {"kernel_size": 2, "stride": 2, "padding": 1, "dilation": 3, "ceil_mode": True},
        )
    },
    "max_pool2d, unequal sides": module_case(lambda: nn.MaxPool2d((3, 2), (2, 1), (1, 0), (1, 2)), (2, 7, 8)),
    "max_pool2d with indices": Case(lambda y: F.max_pool2d(y, 2, return_indices=True)[0], IMAGE),
    "adaptive_max_pool1d": module_case(lambda: nn.AdaptiveMaxPool1d(4), SIGNAL),
    "adaptive_max_pool2d": module_case(lambda: nn.AdaptiveMaxPool2d((4, 5)), IMAGE),
    "adaptive_max_pool3d": module_case(lambda: nn.AdaptiveMaxPool3d((2, 3, 4)), VOLUME),
    "adaptive_max_pool2d to 1": module_case(lambda: nn.AdaptiveMaxPool2d(1), IMAGE),
    "lp_pool1d": Case(lambda y: F.lp_pool1d(positive(y), 2, 2)),
    # other reductions
    "logsumexp": Case(lambda y: y.logsumexp(1)),
    "logsumexp, kept": Case(lambda y: y.logsumexp(-1, keepdim=True)),
    "var": Case(lambda y: y.var(1)),
    "var without correction": Case(lambda y: y.var((1, 2), unbiased=False, keepdim=True)),
    "std": Case(lambda y: y.std((1, 2), keepdim=True)),
    "std with a correction": Case(lambda y: y.std(2, correction=2)),
    "norm": Case(lambda y: y.norm(dim=1)),
    "norm 1": Case(lambda y: torch.linalg.vector_norm(y, 1, dim=2)),
    "norm of all": Case(lambda y: torch.linalg.vector_norm(y, dim=(1, 2), keepdim=True)),
    "pairwise distance": Case(lambda y: F.pairwise_distance(y[:, 0], y[:, 1])[:, None]),
    "bilinear": Case(lambda m, y: m(y, y[:, :, :4]), SIGNAL, lambda: nn.Bilinear(6, 4, 3)),
    "bilinear of a table": Case(lambda m, y: m(y, y.flip(1)), TABLE, lambda: nn.Bilinear(6, 6, 2, bias=False)),
    "glu": Case(lambda y: F.glu(y, 1)),
    "glu of positions": module_case(lambda: nn.GLU(-1), SIGNAL),
    # softmax
    **{f"softmax {axis}": Case(lambda y, axis=axis: 3 * F.softmax(2 * y, axis), IMAGE) for axis in (1, 2, 3, -1, -2)},
    **{f"log_softmax {axis}": Case(lambda y, axis=axis: F.log_softmax(y, axis), IMAGE) for axis in (1, 2, -1)},
    "softmin": Case(lambda y: F.softmin(y, 1)),
    "softmax of a table": Case(lambda y: F.softmax(y, 1), TABLE),
    "softmax as people write it": Case(lambda y: y.exp() / y.exp().sum(1, keepdim=True)),
    "softmax, masked": Case(lambda y: y.masked_fill(torch.eye(4, 6).bool(), -math.inf).softmax(2)),
    # normalisation by an instance's own statistics
    "layer norm": module_case(lambda: nn.LayerNorm(6), SIGNAL),
    "layer norm of two axes": module_case(lambda: nn.LayerNorm((4, 6), eps=0.1), SIGNAL),
    "layer norm, no parameters": Case(lambda y: F.layer_norm(y, (6,))),
    "layer norm, no bias": module_case(lambda: nn.LayerNorm(6, bias=False), TABLE),
    "layer norm, channels last": Case(
        lambda m, y: m(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), IMAGE, lambda: nn.LayerNorm(4)
    ),
    "group norm": module_case(lambda: nn.GroupNorm(2, 4), IMAGE),
    "group norm, one group": module_case(lambda: nn.GroupNorm(1, 4, affine=False), SIGNAL),
    "group norm of a table": module_case(lambda: nn.GroupNorm(3, 6), TABLE),
    "instance norm 1d": module_case(lambda: nn.InstanceNorm1d(4), SIGNAL),
    "instance norm 2d": module_case(lambda: nn.InstanceNorm2d(4, affine=True), IMAGE),
    "instance norm 3d": module_case(lambda: nn.InstanceNorm3d(2, eps=0.01), VOLUME),
    "instance norm with running statistics": module_case(
        lambda: nn.InstanceNorm1d(4, track_running_stats=True), SIGNAL
    ),
    "rms norm": module_case(lambda: nn.RMSNorm(6), SIGNAL),
    "rms norm of two axes": module_case(lambda: nn.RMSNorm((4, 6), eps=1e-3), SIGNAL),
    "local response norm": module_case(lambda: nn.LocalResponseNorm(2), IMAGE),
    "weight from the input": Case(lambda y: (y.flatten(1)[:, None] @ y.reshape(len(y), 24, 1)).squeeze(-1)),
    # attention
    "sdpa": Case(lambda y: F.scaled_dot_product_attention(y, y.flip(1), y.tanh())),
    "sdpa, other lengths": Case(lambda y: F.scaled_dot_product_attention(y[:, :3], y, y * 2)),
    "sdpa with heads": Case(lambda y: (lambda h: F.scaled_dot_product_attention(h, h, h))(grow(y, 2, 2))),
    "sdpa, boolean mask": Case(
        attention_with_gaps
    ),
    "sdpa, mask of numbers": Case(
        lambda y: F.scaled_dot_product_attention(y, y, y, attn_mask=torch.arange(16.0).reshape(4, 4) / 8)
    ),
    "sdpa, causal": Case(lambda y: F.scaled_dot_product_attention(y, y, y, is_causal=True)),
    "sdpa, scale": Case(lambda y: F.scaled_dot_product_attention(y, y, y, scale=2.5)),
    "sdpa, constant values": Case(
        attention_of_fixed_values, SIGNAL, lambda: nn.Linear(5, 4)
    ),
    "sdpa, learned query": Case(
        attention_of_fixed_queries, SIGNAL, lambda: nn.Linear(6, 2)
    ),
    "multihead attention, learned query": Case(
        lambda m, y: m[1](m[0].weight.expand(len(y), -1, -1), y, y)[0], SIGNAL,
        lambda: nn.ModuleList([nn.Linear(6, 2), nn.MultiheadAttention(6, 2, batch_first=True)]),
    ),
    "multihead attention": Case(
        lambda m, y: m(y, y, y, need_weights=False)[0], SIGNAL, lambda: nn.MultiheadAttention(6, 2, batch_first=True)
    ),
    "multihead attention with weights": Case(
        lambda m, y: torch.cat([out.flatten(1) for out in m(y, y, y)], 1), SIGNAL,
        lambda: nn.MultiheadAttention(6, 3, batch_first=True),
    ),
    "multihead attention, batch second": Case(
        lambda m, y: m(y.transpose(0, 1), y.transpose(0, 1), y.transpose(0, 1))[0].transpose(0, 1), SIGNAL,
        lambda: nn.MultiheadAttention(6, 2),
    ),
    "multihead attention of two": Case(
        lambda m, y: m(y[:, :2], y[:, 1:] * 2, y[:, 1:, :4], average_attn_weights=False)[0], SIGNAL,
        lambda: nn.MultiheadAttention(6, 2, batch_first=True, vdim=4),
    ),
    "multihead attention with a mask": Case(
        lambda m, y: m(y, y, y, attn_mask=torch.ones(4, 4).triu(1).bool(), need_weights=False)[0], SIGNAL,
        lambda: nn.MultiheadAttention(6, 2, batch_first=True),
    ),
    "multihead attention with bias_kv": Case(
        lambda m, y: m(y, y, y)[0], SIGNAL,
        lambda: nn.MultiheadAttention(6, 2, batch_first=True, add_bias_kv=True, add_zero_attn=True),
    ),
    "encoder layer": module_case(lambda: nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), SIGNAL),
    "decoder layer": Case(
        lambda m, y: m(y, y.flip(1)), SIGNAL, lambda: nn.TransformerDecoderLayer(6, 2, 8, batch_first=True)
    ),
    # recurrent
    "LSTM": Case(lambda m, y: m(y)[0], SIGNAL, lambda: nn.LSTM(6, 3, batch_first=True)),
    "LSTM, its last states": Case(
        lambda m, y: torch.cat([state.transpose(0, 1).flatten(1) for state in m(y)[1]], 1), SIGNAL,
        lambda: nn.LSTM(6, 3, 2, batch_first=True, bidirectional=True),
    ),
    "GRU": Case(lambda m, y: m(y)[0], SIGNAL, lambda: nn.GRU(6, 3, batch_first=True)),
    "GRU, two layers, both ways": Case(
        lambda m, y: m(y)[0][:, -1], SIGNAL, lambda: nn.GRU(6, 2, 2, batch_first=True, bidirectional=True)
    ),
    "RNN": Case(lambda m, y: m(y.transpose(0, 1))[1][0], SIGNAL, lambda: nn.RNN(6, 3, nonlinearity="relu")),
    "LSTM cell": Case(lambda m, y: m(y[:, 1], m(y[:, 0]))[0], SIGNAL, lambda: nn.LSTMCell(6, 3)),
}  # fmt: skip

LINEAR = {**WEIGHTED, **AVERAGES, **MOVES, **SCALES}
CASES = {**LINEAR, **SUMS, **SHIFTS, **NONLINEAR}

#: torch says this of the original, once a process.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths"),
    # Sums that are not exact are no matter here; when they warn is tested in test_residual.py.
    pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning"),
]


def seeded(name: str, make: Callable[[], nn.Module]) -> nn.Module:
    """Build a module with weights of its own, batch normalisations as after some training."""
    with torch.random.fork_rng():
        torch.manual_seed(sum(map(ord, name)))
        model = make().eval()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 1.5)
            affine = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
            if isinstance(module, affine):
                for parameter in module.parameters():
                    nn.init.normal_(parameter, 0.5)
    return model


@functools.cache
def around(name: str) -> tuple[Converter, nn.Module]:
    model = seeded(name, lambda: Around(CASES[name]))
    return Converter(model, input_dim=CASES[name].dim), in_double(model)


@functools.cache
def alone(name: str) -> tuple[Converter, nn.Module]:
    model = seeded(name, lambda: Alone(CASES[name]))
    return Converter(model, input_dim=CASES[name].dim), in_double(model)


def jacobian(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Take the dense Jacobian of a model of one input at one instance: ``(K, *dims)``."""
    return torch.autograd.functional.jacobian(lambda v: outputs(model, [v[None]])[0][0], x)


def every(converter: Converter) -> dict:
    return {"output_idx": list(range(converter.output_dim[0][0])), "dtype": "double"}


@pytest.mark.parametrize("name", CASES)
def test_outputs(name):
    converter, original = around(name)
    inputs = draw([CASES[name].dim], 3)
    (found,), (expected,) = converter.model_in("double")(*inputs), outputs(original, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert expected.std(0).min() > 1e-6
    assert "Operator" not in {type(layer).__name__ for layer in converter.model.layers}


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_autograds(name):
    converter, original = around(name)
    inputs = draw([CASES[name].dim], 3)
    found = run_grad(converter, inputs[0], ignore_last_act=False, **every(converter)).result[0][0]
    ((expected,),) = gradients(original, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert expected.abs().max() > 1e-6


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("drawn", [True, False], ids=["drawn", "zeros"])
def test_rescale_sums(name, drawn):
    """To the difference of the original's outputs, per row and node."""
    converter, original = around(name)
    (x,), (x_ref,) = draw([CASES[name].dim], 3), draw([CASES[name].dim], 1, seed=5)
    x_ref = x_ref if drawn else torch.zeros_like(x_ref)
    found = run_deeplift(converter, x, x_ref=x_ref, ignore_last_act=False, winner_takes_all=False, **every(converter))
    goal = outputs(original, [x])[0] - outputs(original, [x_ref])[0]
    error = (total(found.result[0]) - goal).abs() / goal.abs().clamp(min=1)
    assert error.max() <= 1e-10
    assert goal.abs().max() > 1e-6


@pytest.mark.parametrize("name", CASES)
def test_rescale_near_the_input_is_the_gradient(name):
    """A wrong share of a right sum would show here."""
    converter, original = around(name)
    (x,), (step,) = draw([CASES[name].dim], 1), draw([CASES[name].dim], 1, seed=5)
    step = 1e-6 * step.sign()
    found = run_deeplift(converter, x, x_ref=x - step, ignore_last_act=False, **every(converter)).result[0][0]
    ((expected,),) = gradients(original, [x])
    torch.testing.assert_close(found / step[..., None], expected, rtol=1e-3, atol=1e-4)


# A mask that picks entries gives a value whose size torch.export does not know; with no layer behind it, it is refused.
@pytest.mark.parametrize("name", [name for name in LINEAR if "mask" not in name])
def test_connection_weights_are_the_jacobian(name):
    """Of what is linear; there are no other paths that a bias or an activation could change."""
    converter, original = alone(name)
    found = run_cw(converter, **every(converter)).result[0][0][0]
    expected = jacobian(original, draw([CASES[name].dim], 1)[0][0]).movedim(0, -1)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert expected.abs().max() > 1e-6


SHARES = {"sum": 6, "sum of channels, kept": 4, "sum of all": 24, "sum of two tensors": 2, "sum of unequal shapes": 2,
          "sum with a factor": 2, "difference of two tensors": 2, "diff": 2, "lerp": None}  # fmt: skip


@pytest.mark.parametrize("name", [name for name, share in SHARES.items() if share])
def test_connection_weights_of_a_sum_are_shared(name):
    """R divides what comes to a sum by the number of its terms."""
    converter, original = alone(name)
    found = run_cw(converter, **every(converter)).result[0][0][0]
    expected = jacobian(original, draw([CASES[name].dim], 1)[0][0]).movedim(0, -1) / SHARES[name]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def without_bias(model: nn.Module) -> nn.Module:
    """Set all biases to zero."""
    model = copy.deepcopy(model)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    return model


@pytest.mark.parametrize("name", [*LINEAR, *SUMS])
def test_lrp_conserves(name):
    """Between two layers without biases all relevance goes to the inputs: the output's value comes back.

    A product with a constant or an average hands relevance on in proportion, a move to where it came from.
    """
    model = without_bias(seeded(name, lambda: Around(CASES[name])))
    converter = Converter(model, input_dim=CASES[name].dim)
    (x,) = draw([CASES[name].dim], 3)
    found = run_lrp(converter, x, **every(converter))
    goal = outputs(in_double(model), [x])[0]
    # the stabiliser of 1e-15 beside preactivations that are not tiny here
    torch.testing.assert_close(total(found.result[0]), goal, rtol=1e-8, atol=1e-9)
    assert found.result[0][0].abs().max() > 1e-6


# -- the rules of LRP and reveal-cancel, with dense matrices -----------------------------------------------------------


@functools.cache
def dense(name: str) -> tuple[Converter, np.ndarray, np.ndarray]:
    """Return a converted linear operator, its matrix ``(out, in)`` and its bias."""
    converter, original = alone(name)
    dim = CASES[name].dim
    weight = jacobian(original, torch.zeros(dim, dtype=torch.float64)).flatten(1)
    bias = outputs(original, [torch.zeros(1, *dim, dtype=torch.float64)])[0][0]
    return converter, weight.numpy(), bias.numpy()


def lrp_oracle(weight, bias, x, rule: str, param: float) -> np.ndarray:
    """Hand the value of every output node down: ``(in, out)``."""
    terms = weight * x  # (out, in)
    z = terms.sum(1) + bias
    if rule == "epsilon":
        return (terms * (z / (z + param * np.sign(z)))[:, None]).T
    above, below = terms.clip(min=0), terms.clip(max=0)
    shares = param * above / np.maximum(above.sum(1) + bias.clip(min=0), 1e-15)[:, None]
    shares += (1 - param) * below / np.minimum(below.sum(1) + bias.clip(max=0), -1e-15)[:, None]
    return (shares * z[:, None]).T


#: Padding with copies is a layer before the convolution, so the whole is no single product with a matrix.
ONE_LAYER = [
    name for name in {**WEIGHTED, **AVERAGES}
    if not any(mode in name for mode in ("reflect", "replicate", "circular", "divisor", "to 1"))
]  # fmt: skip


@pytest.mark.parametrize("name", ONE_LAYER)
@pytest.mark.parametrize(
    ("rule", "param"),
    [("epsilon", 0.001), ("epsilon", 0.3), ("alpha_beta", 0.5), ("alpha_beta", 1.0), ("alpha_beta", 2.0)],
)
def test_lrp_rules(name, rule, param):
    converter, weight, bias = dense(name)
    (x,) = draw([CASES[name].dim], 2)
    found = run_lrp(converter, x, rule_name=rule, rule_param=param, **every(converter)).result[0][0].flatten(1, -2)
    for row, ours in zip(x.flatten(1).numpy(), found.numpy(), strict=True):
        np.testing.assert_allclose(ours, lrp_oracle(weight, bias, row, rule, param), rtol=1e-9, atol=1e-11)
    assert found.abs().max() > 1e-3


@pytest.mark.parametrize("name", ["conv1d everything", "conv2d groups", "conv3d groups", "conv_transpose2d groups",
                                  "conv_transpose3d groups and dilation", "linear on positions"])  # fmt: skip
@pytest.mark.parametrize("sign", [1, -1])
def test_lrp_alpha_beta_of_inputs_of_one_sign(name, sign):
    """Inputs that are all positive, or all negative, are a path of their own in the calculation."""
    converter, weight, bias = dense(name)
    x = sign * draw([CASES[name].dim], 2)[0].abs()
    found = run_lrp(converter, x, rule_name="alpha_beta", rule_param=2.0, **every(converter)).result[0][0]
    for row, ours in zip(x.flatten(1).numpy(), found.flatten(1, -2).numpy(), strict=True):
        np.testing.assert_allclose(ours, lrp_oracle(weight, bias, row, "alpha_beta", 2.0), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", [n for n in WEIGHTED if n in ONE_LAYER])
@pytest.mark.parametrize("function", [F.relu, F.gelu], ids=["relu", "gelu"])
def test_reveal_cancel_with_an_activation(name, function):
    """Shrikumar et al. (2017), 3.5.3, with the terms of the difference written out."""
    case = CASES[name]
    model = seeded(name, lambda: Alone(Case(lambda *args: function(case.function(*args)), case.dim, case.module)))
    converter = Converter(model, input_dim=case.dim)
    _, weight, bias = dense(name)
    (x,), (x_ref,) = draw([case.dim], 2), draw([case.dim], 1, seed=5)
    found = run_deeplift(
        converter, x, x_ref=x_ref, rule_name="reveal_cancel", ignore_last_act=False, **every(converter)
    ).result[0][0].flatten(1, -2)  # fmt: skip

    def f(z):
        return function(torch.from_numpy(z)).numpy()

    z_ref = weight @ x_ref.flatten().numpy() + bias
    for row, ours in zip((x - x_ref).flatten(1).numpy(), found.numpy(), strict=True):
        terms = weight * row
        up, down = terms.clip(min=0).sum(1), terms.clip(max=0).sum(1)
        effect_up = 0.5 * (f(z_ref + up) - f(z_ref) + f(z_ref + up + down) - f(z_ref + down))
        effect_down = 0.5 * (f(z_ref + down) - f(z_ref) + f(z_ref + up + down) - f(z_ref + up))
        with np.errstate(invalid="ignore", divide="ignore"):
            slope_up = np.where(up > 0, effect_up / up, 0)[:, None]
            slope_down = np.where(down < 0, effect_down / down, 0)[:, None]
        expected = np.where(terms > 0, terms * slope_up, terms * slope_down).T
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-11)


#: Those that have one; a softmax that is written out is made of operators that all have rules.
NO_LRP = [
    name for name in NONLINEAR
    if name.startswith(("softmax", "layer norm", "rms norm", "sdpa")) and name != "softmax as people write it"
]  # fmt: skip


@pytest.mark.parametrize("name", NO_LRP)
def test_lrp_through_softmax_and_normalisation_is_a_clear_no(name):
    converter, _ = around(name)
    with pytest.raises(UnsupportedLayerError, match=r"test_torch_operators\.py:\d+|'module'"):
        run_lrp(converter, draw([CASES[name].dim], 1)[0])


# -- max pooling -------------------------------------------------------------------------------------------------------

POOLS = [
    (axes, keys)
    for axes in (1, 2, 3)
    for keys in (
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 4, "stride": 2, "padding": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
        {"kernel_size": 2, "stride": 2, "dilation": 2, "padding": 1},
        {"kernel_size": 2, "stride": 3, "dilation": 3, "ceil_mode": True},
    )
]


class Pool(nn.Module):
    """A max pooling of data, by itself."""

    def __init__(self, axes: int, keys: dict) -> None:
        super().__init__()
        self.pool = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[axes - 1](**keys)

    def forward(self, x):
        return self.pool(x).flatten(1)


def pool_of(axes: int, keys: dict) -> tuple[Converter, nn.Module, tuple[int, ...]]:
    dim = ((2, 9), (2, 7, 6), (1, 5, 6, 5))[axes - 1]
    return Converter(Pool(axes, keys), input_dim=dim), Pool(axes, keys), dim


def assert_pool_sums(converter, pool, x, x_ref, dtype: str, tolerance: float) -> torch.Tensor:
    """Check that each output's difference is the sum of what its inputs get, and that no others get any."""
    keys = every(converter) | {"dtype": dtype}
    found = run_deeplift(converter, x, x_ref=x_ref, winner_takes_all=False, **keys).result[0][0]
    assert bool(found.isfinite().all())
    goal = pool(x) - pool(x_ref)
    error = (total([found.double()]) - goal).abs() / goal.abs().clamp(min=1)
    assert error.max() <= tolerance
    dim = x.shape[1:]
    probe = jacobian_of_windows(pool, dim)
    assert bool((found.double().flatten(1, -2) * (~probe.T)[None] == 0).all())
    return found


@functools.cache
def reach(pool_repr: str, pool, dim) -> torch.Tensor:
    """Which inputs are in the window of which output: raise one input and look which outputs rise."""
    n = math.prod(dim)
    raised = torch.eye(n, dtype=torch.float64).reshape(n, *dim)
    return pool(raised).T > 0  # (out, in)


def jacobian_of_windows(pool, dim) -> torch.Tensor:
    return reach(repr(pool), pool, tuple(dim))


@pytest.mark.parametrize(("axes", "keys"), POOLS, ids=str)
@pytest.mark.parametrize("kind", ["drawn", "zero reference", "cancelling", "cancelling, non-zero reference", "nearly"])
def test_max_pooling_shares_sum(axes, keys, kind):
    """For windows that overlap, are padded, go over the edge or have gaps, and whatever the differences cancel to."""
    converter, pool, dim = pool_of(axes, keys)
    generator = torch.Generator().manual_seed(axes)
    (x,), (x_ref,) = draw([dim], 4), draw([dim], 1, seed=5)
    if kind == "zero reference":
        x_ref = torch.zeros_like(x_ref)
    elif kind != "drawn":
        # differences of -1, 0 and 1: many windows in which they cancel exactly
        x_ref = torch.randint(-2, 3, x_ref.shape, generator=generator).double() * (kind != "cancelling")
        x = x_ref + torch.randint(-1, 2, x.shape, generator=generator)
        if kind == "nearly":
            x = x * (1 + 1e-9 * draw([dim], 4, seed=6)[0])
        means = (x - x_ref)[..., :2].sum(-1)  # two neighbours, in a window together where there are no gaps
        assert bool((means.abs() < 1e-6).any())
    assert_pool_sums(converter, pool, x, x_ref, "double", 1e-10)
    if kind != "nearly":
        assert_pool_sums(converter, pool, x.float().double(), x_ref.float().double(), "float", 1e-5)


@pytest.mark.filterwarnings("ignore:DeepLift. the attributions nearly cancel")  # they do: that is what is tried
@pytest.mark.parametrize("exponent", range(-10, 1))
@pytest.mark.parametrize(("dtype", "tolerance"), [("float", 1e-5), ("double", 1e-10)])
def test_max_pooling_is_as_exact_where_differences_nearly_cancel(exponent, dtype, tolerance):
    """The slope against their mean would lose digits long before the mean is 0."""
    pool = Pool(1, {"kernel_size": 2})
    converter = Converter(pool, input_dim=(1, 8))
    (x_ref,), (noise,) = draw([(1, 8)], 1), draw([(1, 4)], 50, seed=2)
    difference = torch.stack([noise, -noise * (1 + 10.0**exponent)], -1).flatten(-2)
    x = x_ref + difference
    x, x_ref = (v.float().double() if dtype == "float" else v for v in (x, x_ref))
    assert_pool_sums(converter, pool, x, x_ref, dtype, tolerance)


@given(
    kernel=st.integers(2, 4), stride=st.integers(1, 4), padding=st.integers(0, 2), dilation=st.integers(1, 3),
    ceil_mode=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_max_pooling_of_any_kind(kernel, stride, padding, dilation, ceil_mode, seed):
    keys = {"kernel_size": kernel, "stride": stride, "padding": min(padding, kernel // 2), "dilation": dilation,
            "ceil_mode": ceil_mode}  # fmt: skip
    pool, dim = Pool(1, keys), (1, 11)
    generator = torch.Generator().manual_seed(seed)
    x, x_ref = (torch.randint(-2, 3, (rows, *dim), generator=generator).double() for rows in (3, 1))
    assert_pool_sums(Converter(pool, input_dim=dim), pool, x, x_ref, "double", 1e-10)


@pytest.mark.parametrize("size", [(3, 4), (4, 5), (1, 1), (7, 2)])
def test_adaptive_max_pooling_shares_sum(size):
    class Adaptive(nn.Module):
        def forward(self, x):
            return F.adaptive_max_pool2d(x, size).flatten(1)

    generator = torch.Generator().manual_seed(1)
    x, x_ref = (torch.randint(-1, 2, (rows, 2, 7, 6), generator=generator).double() for rows in (5, 1))
    converter = Converter(Adaptive(), input_dim=(2, 7, 6))
    assert_pool_sums(converter, Adaptive(), x, x_ref, "double", 1e-10)
    assert_pool_sums(converter, Adaptive(), x, torch.zeros_like(x_ref), "double", 1e-10)


@pytest.mark.parametrize(("axes", "keys"), POOLS, ids=str)
def test_the_winner_takes_all_by_default(axes, keys):
    """Then the answer is the gradient at the input times the difference."""
    converter, pool, dim = pool_of(axes, keys)
    (x,), (x_ref,) = draw([dim], 3), draw([dim], 1, seed=5)
    found = run_deeplift(converter, x, x_ref=x_ref, **every(converter)).result[0][0]
    ((expected,),) = gradients(pool, [x])
    torch.testing.assert_close(found, expected * (x - x_ref)[..., None], rtol=1e-12, atol=1e-12)


# -- softmax -----------------------------------------------------------------------------------------------------------


def mp_softmax(m, z, z_ref, log: bool) -> list[float]:
    """Compose exp, sum, log, difference and exp from their rules, each along its secant, in 50 digits.

    Differences of exponentials and of logarithms are written with expm1 and log1p, or 50 digits would not do.
    """
    with mpmath.workdps(50):
        z, z_ref, m = ([mpmath.mpf(float(v)) for v in values] for values in (z, z_ref, m))
        if mpmath.fsum(map(mpmath.exp, z)) < mpmath.fsum(map(mpmath.exp, z_ref)):
            z, z_ref = z_ref, z  # secants do not change, and the sum rises, which costs log1p no digits

        def secant_of_exp(b, difference):
            if b == -mpmath.inf:
                return mpmath.mpf(0)  # masked in both
            return mpmath.exp(b) * (mpmath.expm1(difference) / difference if difference else 1)

        apart = [mpmath.mpf(0) if a == b else a - b for a, b in zip(z, z_ref, strict=True)]
        slopes = [secant_of_exp(b, d) for b, d in zip(z_ref, apart, strict=True)]
        total_ref = mpmath.fsum(mpmath.exp(b) for b in z_ref)
        raised = mpmath.fsum(s * d for s, d in zip(slopes, apart, strict=True))
        level_raised = mpmath.log1p(raised / total_ref)
        slope_of_log = level_raised / raised if raised else 1 / total_ref
        level_ref = mpmath.log(total_ref)
        inner = [secant_of_exp(b - level_ref, d - level_raised) for b, d in zip(z_ref, apart, strict=True)]
        passed = [a if log else a * k for a, k in zip(m, inner, strict=True)]
        back = mpmath.fsum(passed) * slope_of_log
        return [float(p - back * s) for p, s in zip(passed, slopes, strict=True)]


def logits(kind: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw five logits and their references."""
    z, z_ref = draw([(5,), (5,)], 1, seed)
    z, z_ref = z[0], z_ref[0]
    if kind == "large":
        return 30 * z, 30 * z_ref
    if kind == "1e4":
        return 1e4 * z, 1e4 * z_ref
    if kind == "1e4, shifted":
        return z + 1e4, z_ref - 1e4
    if kind == "one 1e4 larger":
        return z + 1e4 * F.one_hot(torch.tensor(1), 5), z_ref
    if kind == "one 1e4 smaller":
        return z - 1e4 * F.one_hot(torch.tensor(1), 5), z_ref
    if kind == "equal":
        return z, z.clone()
    if kind == "equal, 1e4":
        return 1e4 * z, 1e4 * z
    if kind == "partly equal":
        return z, torch.where(torch.arange(5) % 2 == 0, z, z_ref)
    if kind == "near":
        return z, z + 1e-9 * z_ref
    if kind == "near and far":
        return z, z + torch.tensor([1e-12, 1.0, 0.0, 1e-6, -40.0], dtype=torch.float64) * z_ref
    if kind == "masked":
        hidden = torch.tensor([0, 0, -math.inf, 0, -math.inf], dtype=torch.float64)
        return z + hidden, z_ref + hidden
    return z, z_ref


LOGITS = ["drawn", "large", "1e4", "1e4, shifted", "one 1e4 larger", "one 1e4 smaller", "equal", "equal, 1e4",
          "partly equal", "near", "near and far", "masked"]  # fmt: skip


@pytest.mark.parametrize("kind", LOGITS)
@pytest.mark.parametrize("log", [False, True], ids=["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "float"])
def test_the_softmax_rule_is_its_primitives_composed(kind, log, dtype):
    """All multipliers are below 1, and right to rounding, however large the logits are."""
    for seed in range(4):
        z, z_ref = (v.to(dtype) for v in logits(kind, seed))
        m = draw([(3, 5)], 1, seed + 50)[0][0].to(dtype)
        found = through_softmax(m[:, None], *softmax_slopes(z[None], z_ref[None], -1, log), -1)[:, 0]
        expected = np.array([mp_softmax(row, z, z_ref, log) for row in m])
        np.testing.assert_allclose(found.double().numpy(), expected, rtol=0, atol=50 * torch.finfo(dtype).eps)


class Softmax(nn.Module):
    """A softmax of the inputs, with a constant mask if there is one."""

    def __init__(self, log: bool, mask=None) -> None:
        super().__init__()
        self.log, self.mask = log, mask

    def forward(self, x):
        x = x if self.mask is None else x.masked_fill(self.mask, -math.inf)
        return F.log_softmax(x, 1) if self.log else F.softmax(x, 1)


def softmax_tolerance(z, z_ref, goal) -> torch.Tensor:
    """Return what rounding may do to a sum of multipliers of at most 1 times differences, and to the goal itself.

    Not the size of the logits matters, only how far apart they are.
    """
    apart = [z - z_ref, z - z.amax(-1, keepdim=True), z_ref - z_ref.amax(-1, keepdim=True)]
    scale = max(1.0, *(float(difference.abs().max()) for difference in apart))
    return 8 * torch.finfo(z.dtype).eps * scale * goal.abs().clamp(min=1)


@pytest.mark.parametrize("kind", [kind for kind in LOGITS if kind != "masked"])
@pytest.mark.parametrize("log", [False, True], ids=["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", ["double", "float"])
def test_softmax_contributions(kind, log, dtype):
    """No NaN, and the sum is the difference, however large the logits are."""
    converter = Converter(Softmax(log), input_dim=5)
    for seed in range(6):
        z, z_ref = (v[None].to(torch.float64 if dtype == "double" else torch.float32) for v in logits(kind, seed))
        found = run_deeplift(converter, z, x_ref=z_ref, ignore_last_act=False, **every(converter) | {"dtype": dtype})
        assert bool(found.result[0][0].isfinite().all())
        function = F.log_softmax if log else F.softmax
        goal = function(z.double(), 1) - function(z_ref.double(), 1)
        error = (total(found.result[0]).double() - goal).abs()
        assert bool((error <= softmax_tolerance(z, z_ref, goal)).all())


@pytest.mark.parametrize("dtype", ["double", "float"])
def test_masked_logits(dtype):
    """Have no part in the answer, and those beside them get what they get without the masked ones."""
    mask = torch.tensor([False, True, False, False, True])
    converter, kept = Converter(Softmax(False, mask), input_dim=5), Converter(Softmax(False), input_dim=3)
    (x,), (x_ref,) = draw([(5,)], 4), draw([(5,)], 1, seed=3)
    keys = {"ignore_last_act": False, "dtype": dtype}
    found = run_deeplift(converter, x, x_ref=x_ref, output_idx=[0, 2, 3], **keys).result[0][0]
    expected = run_deeplift(kept, x[:, ~mask], x_ref=x_ref[:, ~mask], **keys).result[0][0]
    assert bool(found.isfinite().all())
    assert bool((found[:, mask] == 0).all())
    torch.testing.assert_close(found[:, ~mask], expected)


@given(
    z=st.lists(st.floats(-1e4, 1e4), min_size=4, max_size=4),
    z_ref=st.lists(st.floats(-1e4, 1e4), min_size=4, max_size=4),
)
def test_any_logits_sum(z, z_ref):
    (z, z_ref) = (torch.tensor([values], dtype=torch.float64) for values in (z, z_ref))
    for log in (False, True):
        m = torch.eye(4, dtype=torch.float64)[:, None]
        multiplier = through_softmax(m, *softmax_slopes(z, z_ref, -1, log), -1)
        assert bool(multiplier.isfinite().all())
        assert float(multiplier.abs().max()) <= 1 + 1e-9  # a secant of a function with slopes of at most 1
        function = torch.log_softmax if log else torch.softmax
        goal = (function(z, -1) - function(z_ref, -1))[0]
        error = ((multiplier * (z - z_ref))[:, 0].sum(-1) - goal).abs()
        assert bool((error <= softmax_tolerance(z, z_ref, goal)).all())


# -- normalisation by an instance's own statistics ---------------------------------------------------------------------

NORMS = {
    "layer": (lambda: nn.LayerNorm(6), (4, 6)),
    "layer, small eps": (lambda: nn.LayerNorm(6, eps=1e-12), (4, 6)),
    "group": (lambda: nn.GroupNorm(2, 4), (4, 6)),
    "instance": (lambda: nn.InstanceNorm1d(4), (4, 6)),
    "rms": (lambda: nn.RMSNorm(6), (4, 6)),
    "rms, eps": (lambda: nn.RMSNorm(6, eps=1e-5), (4, 6)),
}


def norm_of(name: str) -> tuple[Converter, nn.Module, tuple[int, ...]]:
    make, dim = NORMS[name]
    model = seeded(name, lambda: nn.Sequential(make(), nn.Flatten()))
    return Converter(model, input_dim=dim), in_double(model), dim


REFERENCES = {
    "drawn": lambda dim: draw([dim], 1, seed=5)[0],
    "zeros": lambda dim: torch.zeros(1, *dim, dtype=torch.float64),
    "constant": lambda dim: torch.full((1, *dim), 0.7, dtype=torch.float64),
    "nearly constant": lambda dim: 0.7 + 1e-4 * draw([dim], 1, seed=5)[0],
    "large": lambda dim: 100 * draw([dim], 1, seed=5)[0],
    "opposite": lambda dim: -draw([dim], 3)[0][:1],
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("double", 1e-10), ("float", 1e-5)])
def test_normalisation_sums(name, reference, dtype, tolerance):
    """Also where a reference is constant: then it has no spread to be divided by, and its factor is huge."""
    converter, original, dim = norm_of(name)
    x, x_ref = draw([dim], 3)[0], REFERENCES[reference](dim)
    if dtype == "float":
        x, x_ref = x.float().double(), x_ref.float().double()
    found = run_deeplift(converter, x, x_ref=x_ref, ignore_last_act=False, **every(converter) | {"dtype": dtype})
    goal = found.decomp_goal[0].double()
    error = (total(found.result[0]).double() - goal).abs() / goal.abs().clamp(min=1)
    assert error.max() <= tolerance
    # what is summed up to is right as well, as far as its own conditioning goes
    exact = outputs(original, [x])[0] - outputs(original, [x_ref])[0]
    torch.testing.assert_close(
        goal, exact, rtol=1e-3 if dtype == "float" else 1e-9, atol=1e-2 if dtype == "float" else 1e-9
    )


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6])
def test_normalisation_goes_to_the_gradient(name, size):
    """As the reference comes nearer, and no slower than the distance."""
    converter, original, dim = norm_of(name)
    (x,), (step,) = draw([dim], 1), draw([dim], 1, seed=5)
    step = size * (step.sign() + 0.1 * step)
    found = run_deeplift(converter, x, x_ref=x - step, ignore_last_act=False, **every(converter)).result[0][0]
    ((expected,),) = gradients(original, [x])
    assert float((found / step[..., None] - expected).abs().max()) <= 20 * size + 1e-8


@pytest.mark.parametrize("name", NORMS)
def test_normalisation_of_a_constant_input(name):
    """The other way round: it is the input that has no spread."""
    converter, original, dim = norm_of(name)
    x, x_ref = torch.full((1, *dim), 0.7, dtype=torch.float64), draw([dim], 1)[0]
    found = run_deeplift(converter, x, x_ref=x_ref, ignore_last_act=False, **every(converter))
    goal = outputs(original, [x])[0] - outputs(original, [x_ref])[0]
    assert float((total(found.result[0]) - goal).abs().max()) <= 1e-9


@pytest.mark.parametrize(("left", "right"), [*itertools.product([0.0, 0.5, -2.0], repeat=2)])
def test_a_product_gives_each_factor_its_difference_times_the_mean_of_the_other(left, right):
    """The rule itself, with both references."""

    class Product(nn.Module):
        def forward(self, x, y):
            return x * y, torch.bmm(x[:, None], y[:, :, None]).flatten(1)

    (x, y) = draw([(5,), (5,)], 3)
    x_ref, y_ref = torch.full((1, 5), left, dtype=torch.float64), torch.full((1, 5), right, dtype=torch.float64)
    converter = Converter(Product(), input_dim=[(5,), (5,)])
    found = run_deeplift(converter, [x, y], x_ref=[x_ref, y_ref], output_idx=[list(range(5)), [0]], dtype="double")
    for i, expected in enumerate(((x - x_ref) * (y + y_ref) / 2, (y - y_ref) * (x + x_ref) / 2)):
        torch.testing.assert_close(found.result[0][i], torch.diag_embed(expected), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found.result[1][i][..., 0], expected, rtol=1e-12, atol=1e-12)
