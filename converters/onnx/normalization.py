"""The table of ONNX operators: normalisation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from innsight_py.converters.compositions import standardized
from innsight_py.converters.onnx.arithmetic import Term, along, product, total
from innsight_py.converters.onnx.reductions import shifted, variance
from innsight_py.converters.onnx.writer import Call, OnnxWriter, Result, reads, refuse
from innsight_py.converters.writer import Value


@reads("BatchNormalization", writes="BatchNorm")
def _batch_normalization(write: OnnxWriter, call: Call) -> Result:
    x = call.x
    if len(x.shape) < 2:
        raise refuse(call, f"its input {x.shape} has no axis of channels")
    if call.get("training_mode", 0) or any(call.wanted[1:]):
        raise refuse(call, "it is in training mode; export the model in evaluation mode")
    parts = {"gamma": "scale", "beta": "bias", "run_mean": "mean", "run_var": "variance"}
    given: dict[str, Any] = {key: call.fixed(i, what) for i, (key, what) in enumerate(parts.items(), start=1)}
    keys = {"eps": float(call.get("epsilon", 1e-5)), **given}
    if x.leads:
        return write.layer("BatchNorm", [x], x.shape, **keys)
    order = [1, 0, *range(2, len(x.shape))]  # several rows within a row
    turned = write.permute(x, order)
    whole = write.reshape(turned, (1, *turned.shape))
    y = write.layer("BatchNorm", [whole], whole.shape, **keys)
    return write.permute(write.reshape(y, turned.shape), order)


def _of_channels(call: Call, i: int, what: str) -> Tensor:
    """Return factors or shifts, one a channel, with the axes that they need."""
    given = call.fixed(i, what)
    return given.reshape(-1, *[1] * (len(call.x.shape) - 2))


@reads("InstanceNormalization", writes="Standardize")
def _instance_normalization(write: OnnxWriter, call: Call) -> Result:
    x = call.x
    weight, bias = _of_channels(call, 1, "scale"), _of_channels(call, 2, "bias")
    return standardized(write, x, x.shape[0] * x.shape[1], float(call.get("epsilon", 1e-5)), weight, bias)


@reads("GroupNormalization", writes="Standardize")
def _group_normalization(write: OnnxWriter, call: Call) -> Result:
    x, groups = call.x, int(call.get("num_groups", 1))
    channels = x.shape[1]
    weight, bias = _of_channels(call, 1, "scale"), _of_channels(call, 2, "bias")
    if call.opset < 21 and len(weight) == groups:  # one a group, which a later version has one a channel
        weight, bias = (given.repeat_interleave(channels // groups, 0) for given in (weight, bias))
    return standardized(write, x, x.shape[0] * groups, float(call.get("epsilon", 1e-5)), weight, bias)


@reads("LayerNormalization", writes="Activation Add GlobalPooling Multiply Reduce Standardize")
def _layer_normalization(write: OnnxWriter, call: Call) -> Result | list[Result | None]:
    x, eps = call.x, float(call.get("epsilon", 1e-5))
    rank = len(x.shape)
    axis = int(call.get("axis", -1)) % rank
    y = _scaled(write, call, standardized(write, x, math.prod(x.shape[:axis]), eps, None, None))
    if call.is_sole:
        return y
    mean, _, squares = variance(write, x, list(range(axis, rank)))
    return [y, mean, write.activation(write.scale(squares, None, shifted(eps)), "rsqrt")]


@reads("RMSNormalization", writes="Multiply Standardize")
def _rms_normalization(write: OnnxWriter, call: Call) -> Result:
    x = call.x
    axis = int(call.get("axis", -1)) % len(x.shape)
    lead = math.prod(x.shape[:axis])
    eps = float(call.get("epsilon", 1e-5))
    return _scaled(write, call, standardized(write, x, lead, eps, None, None, center=False))


def _scaled(write: OnnxWriter, call: Call, y: Term) -> Term:
    """Write the factors and the shifts after a normalisation, which need not be constants."""
    weight, bias = call[1], call[2]
    if isinstance(y, Value) and not isinstance(weight, Value) and not isinstance(bias, Value):
        return y if weight is None and bias is None else write.scale(y, weight, bias)
    y = y if weight is None else product(write, y, weight)
    return y if bias is None else total(write, y, bias)


@reads("MeanVarianceNormalization", writes="Activation Add GlobalPooling Multiply Reduce")
def _mean_variance(write: OnnxWriter, call: Call) -> Result:
    axes = [int(axis) for axis in call.get("axes", [0, 2, 3])]
    if 0 in {axis % len(call.x.shape) for axis in axes} and call.x.leads:
        axes = [axis for axis in axes if axis % len(call.x.shape)]  # the batch: one row, as the model is read
    _, rest, squares = variance(write, call.x, axes)
    deviation = write.scale(write.activation(squares, "sqrt"), None, shifted(1e-9))
    return write.multiply(rest, write.activation(deviation, "reciprocal"))


@reads("LRN", writes="Activation Dense Multiply")
def _lrn(write: OnnxWriter, call: Call) -> Result:
    x, size = call.x, int(call.get("size", 1))
    alpha, beta, bias = (float(call.get(*pair)) for pair in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    channels = torch.arange(x.shape[1])
    offset = channels[None, :] - channels[:, None]  # (out, in)
    window = (offset >= -((size - 1) // 2)) & (offset <= size // 2)
    sums = along(write, write.activation(x, "pow", exponent=2.0), 1, window.double() * (alpha / size))
    return product(write, x, write.activation(write.scale(sums, None, shifted(bias)), "pow", exponent=-beta))
