"""The table of Keras layers: convolutions, pooling, padding, cropping, upsampling."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from innsight_py.converters.keras.writer import Call, KerasValue, KerasWriter, as_tensor, reads, refuse
from innsight_py.converters.writer import Value, each

Pairs = list[tuple[int, int]]


def _axes(call: Call) -> int:
    """Return the number of spatial axes, which the names of classes end with."""
    return int(type(call.layer).__name__.removesuffix("Transpose")[-2])


def _sides(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Write (before, after) of each axis in the spec's order, last axis first."""
    return [side for pair in reversed(pairs) for side in pair]


def _same(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Pairs:
    """Return the padding of ``padding="same"``: as many positions as strides fit, what is odd comes last."""
    pairs = []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0)
        pairs.append((total // 2, total - total // 2))
    return pairs


def _size(x: Value) -> tuple[int, ...]:
    """Return the spatial size of a value with its channels first."""
    return x.dim[1:]


def _length(n: int, k: int, s: int, d: int, pad: tuple[int, int]) -> int:
    return (n + sum(pad) - d * (k - 1) - 1) // s + 1


# -- convolutions ----------------------------------------------------------------------------------------------------


def _convolve(
    write: KerasWriter, call: Call, x: Value, weight: Tensor, bias: Tensor | None, groups: int,
    stride: Sequence[int], dilation: Sequence[int],
) -> Value:  # fmt: skip
    """Write a convolution with the padding that the layer asks for."""
    kernel, size = tuple(weight.shape[2:]), _size(x)
    padding = call.config["padding"]
    if padding == "same":
        pairs = _same(size, kernel, stride, dilation)
    elif padding == "causal":
        pairs = [(d * (k - 1), 0) for k, d in zip(kernel, dilation, strict=True)]
    elif padding == "valid":
        pairs = [(0, 0)] * len(kernel)
    else:
        raise refuse(call, f"its padding '{padding}' is not known")
    out = [_length(*sizes) for sizes in zip(size, kernel, stride, dilation, pairs, strict=True)]
    return write.layer(
        f"Conv{len(kernel)}D", [x], (1, weight.shape[0], *out), weight=weight, bias=bias, stride=stride,
        dilation=dilation, padding=_sides(pairs), groups=groups,
    )  # fmt: skip


def _steps(call: Call, key: str, axes: int) -> list[int]:
    return each(call.config.get(key, 1), axes)


@reads("Conv1D", "Conv2D", "Conv3D", writes="Conv1D Conv2D Conv3D Activation Multiply Take")
def _convolution(write: KerasWriter, call: Call) -> KerasValue:
    axes = _axes(call)
    kernel = call.needs("kernel").movedim((-1, -2), (0, 1))  # (*size, in / groups, out)
    y = _convolve(
        write, call, write.ordered(call.x, call.moved), kernel, call.weight("bias"), int(call.config.get("groups", 1)),
        _steps(call, "strides", axes), _steps(call, "dilation_rate", axes),
    )  # fmt: skip
    return write.activate(KerasValue(y, call.moved), call.layer.activation, call, merge=True)


def _depthwise(write: KerasWriter, call: Call, kernel: Tensor, bias: Tensor | None) -> Value:
    """Write a convolution of each channel by itself; `kernel` is ``(*size, in, multiplier)``."""
    axes = _axes(call)
    channels, multiplier = kernel.shape[-2:]
    weight = kernel.movedim((-2, -1), (0, 1)).reshape(channels * multiplier, 1, *kernel.shape[:-2])
    x = write.ordered(call.x, call.moved)
    steps = (_steps(call, "strides", axes), _steps(call, "dilation_rate", axes))
    return _convolve(write, call, x, weight, bias, channels, *steps)


@reads("DepthwiseConv1D", "DepthwiseConv2D", writes="Conv1D Conv2D Activation Multiply Take")
def _depthwise_convolution(write: KerasWriter, call: Call) -> KerasValue:
    y = _depthwise(write, call, call.needs("depthwise_kernel", "kernel"), call.weight("bias"))
    return write.activate(KerasValue(y, call.moved), call.layer.activation, call, merge=True)


@reads("SeparableConv1D", "SeparableConv2D", writes="Conv1D Conv2D Activation Multiply Take")
def _separable_convolution(write: KerasWriter, call: Call) -> KerasValue:
    between = _depthwise(write, call, call.needs("depthwise_kernel"), None)
    pointwise = call.needs("pointwise_kernel").movedim((-1, -2), (0, 1))
    y = write.layer(
        f"Conv{_axes(call)}D", [between], (1, len(pointwise), *_size(between)), weight=pointwise,
        bias=call.weight("bias"),
    )  # fmt: skip
    return write.activate(KerasValue(y, call.moved), call.layer.activation, call, merge=True)


@reads(
    "Conv1DTranspose",
    "Conv2DTranspose",
    "Conv3DTranspose",
    writes="Conv1DTranspose Conv2DTranspose Conv3DTranspose Padding Activation Multiply Take",
)
def _transposed_convolution(write: KerasWriter, call: Call) -> KerasValue:
    axes = _axes(call)
    weight = call.needs("kernel").movedim((-1, -2), (0, 1))  # (*size, out, in)
    x = write.ordered(call.x, call.moved)
    stride, dilation = _steps(call, "strides", axes), _steps(call, "dilation_rate", axes)
    asked = call.config.get("output_padding")
    more = [None] * axes if asked is None else each(asked, axes)
    cropped, added, rest, out = [], [], [], []
    for n, k, s, d, extra in zip(_size(x), weight.shape[2:], stride, dilation, more, strict=True):
        reach = d * (k - 1) + 1
        full = (n - 1) * s + reach
        if call.config["padding"] == "same":
            length = n * s if extra is None else (n - 1) * s + reach % 2 + extra
            before = max(full - length, 0) // 2
        else:
            length, before = full + (max(s - reach, 0) if extra is None else extra), 0
        surplus = full - 2 * before - length  # what is still to be cut off at the end
        cropped.append(before)
        added.append(max(-surplus, 0))
        rest.append((0, min(-surplus, 0)))
        out.append(length)
    shape = [n - after for n, (_, after) in zip(out, rest, strict=True)]
    y = write.layer(
        f"Conv{axes}DTranspose", [x], (1, weight.shape[1], *shape), weight=weight, bias=call.weight("bias"),
        stride=stride, dilation=dilation, padding=cropped, output_padding=added,
    )  # fmt: skip
    if any(after for _, after in rest):
        y = write.layer("Padding", [y], (1, weight.shape[1], *out), padding=_sides(rest))
        return write.activate(KerasValue(y, call.moved), call.layer.activation, call, merge=False)
    return write.activate(KerasValue(y, call.moved), call.layer.activation, call, merge=True)


# -- pooling ---------------------------------------------------------------------------------------------------------


@reads(
    "MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D",
    writes="MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D Padding",
)  # fmt: skip
def _pooling(write: KerasWriter, call: Call) -> KerasValue:
    axes, kind = _axes(call), type(call.layer).__name__
    kernel = each(call.config["pool_size"], axes)
    stride = kernel if call.config["strides"] is None else each(call.config["strides"], axes)
    x = write.ordered(call.x, call.moved)
    size, ones = _size(x), (1,) * axes
    keys: dict[str, Any] = {"kernel_size": kernel, "strides": stride}
    if call.config["padding"] != "same":
        out = [_length(*sizes) for sizes in zip(size, kernel, stride, ones, [(0, 0)] * axes, strict=True)]
        return KerasValue(write.layer(kind, [x], (1, x.dim[0], *out), **keys), call.moved)
    pairs = _same(size, kernel, stride, ones)
    out = [math.ceil(n / s) for n, s in zip(size, stride, strict=True)]
    if "Average" in kind and _repeats_edges(call) and any(before != after for before, after in pairs):
        padded = [n + sum(pair) for n, pair in zip(size, pairs, strict=True)]
        x = write.layer("Padding", [x], (1, x.dim[0], *padded), padding=_sides(pairs), mode="replicate")
        return KerasValue(write.layer(kind, [x], (1, x.dim[0], *out), **keys), call.moved)
    # The pooling layers pad both sides alike; windows may run over at the end. With a stride of 1 there is one
    # window too many at the start, which is cut off.
    first = [int(s == 1 and before != after) for s, (before, after) in zip(stride, pairs, strict=True)]
    keys |= {"padding": [before + more for (before, _), more in zip(pairs, first, strict=True)], "ceil_mode": True}
    if "Average" in kind:
        keys["count_include_pad"] = False
    more = [n + extra for n, extra in zip(out, first, strict=True)]
    y = write.layer(kind, [x], (1, x.dim[0], *more), **keys)
    if any(first):
        y = write.layer("Padding", [y], (1, x.dim[0], *out), padding=_sides([(-extra, 0) for extra in first]))
    return KerasValue(y, call.moved)


def _repeats_edges(call: Call) -> bool:
    """Tell whether the mean over windows that run over the edge has copies of the edge in it (Keras on torch)."""
    return not call.is_legacy and sys.modules["keras"].config.backend() == "torch"


@reads(
    "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D", "GlobalMaxPooling1D",
    "GlobalMaxPooling2D", "GlobalMaxPooling3D", writes="GlobalPooling",
)  # fmt: skip
def _global_pooling(write: KerasWriter, call: Call) -> KerasValue:
    x = write.ordered(call.x, call.moved)
    method = "average" if "Average" in type(call.layer).__name__ else "max"
    keep = bool(call.config.get("keepdims", False))
    shape = (1, x.dim[0], *([1] * len(_size(x)) if keep else []))
    y = write.layer("GlobalPooling", [x], shape, method=method, keepdims=keep, winner_always=method == "max")  # as in R
    return KerasValue(y, call.moved and keep)


@reads(
    "AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D", "AdaptiveAveragePooling3D", "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D", writes="AdaptivePooling",
)  # fmt: skip
def _adaptive_pooling(write: KerasWriter, call: Call) -> KerasValue:
    x = write.ordered(call.x, call.moved)
    size = each(call.config["output_size"], len(_size(x)))
    method = "average" if "Average" in type(call.layer).__name__ else "max"
    y = write.layer("AdaptivePooling", [x], (1, x.dim[0], *size), method=method, output_size=size)
    return KerasValue(y, call.moved)


# -- padding, cropping, upsampling -----------------------------------------------------------------------------------


def _pairs(value: Any, axes: int) -> Pairs:
    """Read Keras's padding: one number, or for each axis one or two."""
    if isinstance(value, int):
        return [(value, value)] * axes
    entries = list(value)
    if axes == 1 and len(entries) == 2 and isinstance(entries[0], int):
        return [(int(entries[0]), int(entries[1]))]
    return [(int(e), int(e)) if isinstance(e, int) else (int(e[0]), int(e[1])) for e in entries]


def _padded(write: KerasWriter, call: Call, pairs: Pairs) -> KerasValue:
    moved = getattr(call.layer, "data_format", "channels_last") != "channels_first"  # ZeroPadding1D has none in Keras 2
    x = write.ordered(call.x, moved)
    size = [n + sum(pair) for n, pair in zip(_size(x), pairs, strict=True)]
    return KerasValue(write.layer("Padding", [x], (1, x.dim[0], *size), padding=_sides(pairs)), moved)


@reads("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D", writes="Padding")
def _zero_padding(write: KerasWriter, call: Call) -> KerasValue:
    return _padded(write, call, _pairs(call.config["padding"], _axes(call)))


@reads("Cropping1D", "Cropping2D", "Cropping3D", writes="Padding")
def _cropping(write: KerasWriter, call: Call) -> KerasValue:
    pairs = _pairs(call.config["cropping"], _axes(call))
    return _padded(write, call, [(-before, -after) for before, after in pairs])


@reads("UpSampling1D", "UpSampling2D", "UpSampling3D", writes="Resize Dense")
def _upsampling(write: KerasWriter, call: Call) -> KerasValue:
    moved = getattr(call.layer, "data_format", "channels_last") != "channels_first"
    x = write.ordered(call.x, moved)
    axes = _axes(call)
    size = [n * m for n, m in zip(_size(x), each(call.config["size"], axes), strict=True)]
    mode = call.config.get("interpolation", "nearest")
    shape = (1, x.dim[0], *size)
    if mode in ("nearest", "bilinear"):
        options = {"align_corners": False} if mode == "bilinear" else {}
        return KerasValue(write.layer("Resize", [x], shape, size=size, mode=mode, **options), moved)
    for axis, (n, m) in enumerate(zip(_size(x), size, strict=True), start=2):
        x = _interpolated(write, call, x, axis, n, m)
    return KerasValue(x, moved)


def _interpolated(write: KerasWriter, call: Call, x: Value, axis: int, n: int, m: int) -> Value:
    """Write an interpolation along one axis as what it is, a matrix, which Keras itself is asked for."""
    if call.is_legacy:
        raise refuse(call, f"its interpolation '{call.config['interpolation']}' is not known")
    image = sys.modules["keras"].ops.image.resize(
        torch.eye(n)[:, :, None, None].numpy(), (m, 1), interpolation=call.config["interpolation"],
        data_format="channels_last",
    )  # fmt: skip
    weight = as_tensor(image)[:, :, 0, 0].T
    swap = list(range(len(x.shape)))
    swap[axis], swap[-1] = swap[-1], swap[axis]
    turned = write.permute(x, swap)
    longer = write.layer("Dense", [turned], (*turned.shape[:-1], m), weight=weight)
    return write.permute(longer, swap)
