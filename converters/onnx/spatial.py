"""The table of ONNX operators: convolutions and pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from innsight_py.converters.compositions import concatenate
from innsight_py.converters.onnx.activations import text
from innsight_py.converters.onnx.writer import Call, OnnxWriter, Reader, Result, reads, refuse
from innsight_py.converters.writer import Value

Pairs = list[tuple[int, int]]


def _of_rows(reader: Reader) -> Reader:
    """Let a reader of one row with its channels read several rows within a row, as one more axis that it leaves alone.

    So are convolutions read that a model applies to each of several pictures, or to each step of a sequence.
    """

    def read(write: OnnxWriter, call: Call) -> Result | Sequence[Result | None]:
        x = call.x
        if x.leads or not 3 <= len(x.shape) <= 5:
            return reader(write, call)
        if len(x.shape) == 5:  # there is no axis left
            rows = [reader(write, _with_first(call, write.take(x, 0, [i]))) for i in range(x.shape[0])]
            parts = [row for row in rows if isinstance(row, Value)]
            return concatenate(write, parts, 0, (len(rows), *parts[0].shape[1:]))
        turned = write.reshape(
            write.permute(x, [1, 0, *range(2, len(x.shape))]), (1, x.shape[1], x.shape[0], *x.shape[2:])
        )
        first = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0, "output_shape": x.shape[0]}
        attributes = {
            key: [first[key], *value[-(len(x.shape) - 2) :]] if key in first else value
            for key, value in call.attributes.items()
        }
        if "pads" in attributes:
            half = len(attributes["pads"]) // 2
            attributes["pads"] = [0, *attributes["pads"][:half], 0, *attributes["pads"][half:]]
        rest = list(call.inputs[1:])
        if call.name.startswith("Conv") and isinstance(rest[0], Tensor):
            rest[0] = rest[0].unsqueeze(2)
        y = reader(write, replace(call, inputs=(turned, *rest), attributes=attributes))
        assert isinstance(y, Value)
        back = write.reshape(y, y.shape[1:])
        return write.permute(back, [1, 0, *range(2, len(back.shape))])

    return read


def _with_first(call: Call, x: Value) -> Call:
    return replace(call, inputs=(x, *call.inputs[1:]), shapes=())


def _spatial(call: Call, axes: int | None = None) -> Value:
    """Return the first input, which must have the batch first, then its channels, then one to three axes."""
    x = call.x
    if not x.leads or len(x.dim) < 2 or len(x.dim) > 4 or (axes is not None and len(x.dim) != axes + 1):
        expected = "one to three axes" if axes is None else f"{axes} axes"
        raise refuse(call, f"its input {x.shape} is not one row with channels and {expected}")
    return x


def _steps(call: Call, name: str, axes: int) -> list[int]:
    return [int(n) for n in call.get(name, [1] * axes)]


def sides(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Write (before, after) of each axis in the spec's order, last axis first."""
    return [side for pair in reversed(pairs) for side in pair]


def _pads(
    call: Call, size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Pairs:
    """Return the padding before and after each axis."""
    mode, axes = text(call, "auto_pad", "NOTSET"), len(size)
    if mode == "VALID":
        return [(0, 0)] * axes
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pairs = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            total = max((math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0)
            less, more = total // 2, total - total // 2
            pairs.append((less, more) if mode == "SAME_UPPER" else (more, less))
        return pairs
    given = [int(n) for n in call.get("pads", [0] * (2 * axes))]
    return list(zip(given[:axes], given[axes:], strict=True))


@reads("Conv", writes="Concatenate Conv1D Conv2D Conv3D Padding")
@_of_rows
def _convolution(write: OnnxWriter, call: Call) -> Result:
    weight, bias = call.fixed(1, "weights"), call.optional(2, "bias")
    axes = weight.dim() - 2
    x = _spatial(call, axes)
    kernel, stride, dilation = tuple(weight.shape[2:]), _steps(call, "strides", axes), _steps(call, "dilations", axes)
    pairs = _pads(call, x.dim[1:], kernel, stride, dilation)
    out = [
        (n + sum(p) - d * (k - 1) - 1) // s + 1
        for n, k, s, d, p in zip(x.dim[1:], kernel, stride, dilation, pairs, strict=True)
    ]
    if min(min(pair) for pair in pairs) < 0:  # what is below 0 is cut off
        x = _padded(write, x, pairs)
        pairs = [(0, 0)] * axes
    return write.layer(
        f"Conv{axes}D", [x], (1, len(weight), *out), weight=weight, bias=bias, stride=stride, dilation=dilation,
        padding=sides(pairs), groups=int(call.get("group", 1)),
    )  # fmt: skip


def _padded(write: OnnxWriter, x: Value, pairs: Sequence[tuple[int, int]], value: float = 0.0) -> Value:
    """Write padding of the spatial axes; below 0 it cuts off."""
    if not any(map(any, pairs)):
        return x
    size = [n + sum(pair) for n, pair in zip(x.dim[1:], pairs, strict=True)]
    return write.layer("Padding", [x], (1, x.dim[0], *size), padding=sides(pairs), value=value)


@reads("ConvTranspose", writes="Concatenate Conv1DTranspose Conv2DTranspose Conv3DTranspose Padding")
@_of_rows
def _transposed_convolution(write: OnnxWriter, call: Call) -> Result:
    weight, bias = call.fixed(1, "weights"), call.optional(2, "bias")
    axes = weight.dim() - 2
    x = _spatial(call, axes)
    kernel, stride, dilation = tuple(weight.shape[2:]), _steps(call, "strides", axes), _steps(call, "dilations", axes)
    extra = [int(n) for n in call.get("output_padding", [0] * axes)]
    wanted, mode = call.get("output_shape"), text(call, "auto_pad", "NOTSET")
    given = [int(n) for n in call.get("pads", [0] * (2 * axes))]
    before, added, cut, out = [], [], [], []
    for i, (n, k, s, d, more) in enumerate(zip(x.dim[1:], kernel, stride, dilation, extra, strict=True)):
        full = (n - 1) * s + d * (k - 1) + 1
        if wanted is not None or mode.startswith("SAME"):
            length = int(wanted[-axes:][i]) if wanted is not None else n * s
            total = full + more - length
            less, rest = max(total, 0) // 2, max(total, 0) - max(total, 0) // 2
            first, _ = (less, rest) if mode == "SAME_UPPER" else (rest, less)
            first = 0 if total < 0 else first
        else:
            first, last = (0, 0) if mode == "VALID" else (given[i], given[axes + i])
            length = full + more - first - last
        surplus = full - 2 * first - length  # what is still to be cut off at the end
        inside = surplus >= 0 or -surplus < max(s, d)
        if first < 0 or not inside:
            raise refuse(call, f"its padding {given} and its output padding {extra} are more than its layer can have")
        before.append(first)
        added.append(max(-surplus, 0))
        cut.append((0, min(-surplus, 0)))
        out.append(length)
    channels = weight.shape[1] * int(call.get("group", 1))
    shape = [n - last for n, (_, last) in zip(out, cut, strict=True)]
    y = write.layer(
        f"Conv{axes}DTranspose", [x], (1, channels, *shape), weight=weight, bias=bias, stride=stride, padding=before,
        output_padding=added, dilation=dilation, groups=int(call.get("group", 1)),
    )  # fmt: skip
    return _padded(write, y, cut)


# -- pooling ---------------------------------------------------------------------------------------------------------


@reads("GlobalAveragePool", "GlobalMaxPool", writes="GlobalPooling Reduce")
def _global_pooling(write: OnnxWriter, call: Call) -> Result:
    x, axes = call.x, list(range(2, len(call.x.shape)))
    return write.reduce(x, "mean", axes, True) if call.name == "GlobalAveragePool" else write.maximum(x, axes, True)


@reads("GlobalLpPool", writes="Activation GlobalPooling Reduce")
def _global_lp_pooling(write: OnnxWriter, call: Call) -> Result:
    x, p = call.x, float(call.get("p", 2))
    powers = write.activation(write.activation(x, "abs"), "pow", exponent=p)
    sums = write.reduce(powers, "sum", list(range(2, len(x.shape))), True)
    return write.activation(sums, "pow", exponent=1 / p)


class _Windows:
    """Where the windows of a pooling lie, and how torch's pooling, which pads both sides alike, gets there."""

    def __init__(self, call: Call) -> None:
        self.x = _spatial(call)
        size = self.x.dim[1:]
        axes = len(size)
        self.kernel = [int(n) for n in call.get("kernel_shape", [])]
        if len(self.kernel) != axes:
            raise refuse(call, f"its kernel_shape {self.kernel} is not one for {axes} axes")
        self.stride, self.dilation = _steps(call, "strides", axes), _steps(call, "dilations", axes)
        self.ceil = bool(call.get("ceil_mode", 0))
        self.pairs = _pads(call, size, self.kernel, self.stride, self.dilation)
        self.out = [self._count(i) for i in range(axes)]
        if min(self.out) < 1:
            raise refuse(call, f"its windows are larger than its input {self.x.shape}")

    def reach(self, i: int) -> int:
        """Return how far a window reaches."""
        return self.dilation[i] * (self.kernel[i] - 1) + 1

    def _count(self, i: int) -> int:
        n, s, (first, last) = self.x.dim[1 + i], self.stride[i], self.pairs[i]
        room = n + first + last - self.reach(i)
        count = (-(-room // s) if self.ceil else room // s) + 1
        return count - 1 if self.ceil and (count - 1) * s >= n + first else count

    def alike(self) -> tuple[list[int], list[int]] | None:
        """Return padding of both sides and the number of windows too many at the start, if torch can have these."""
        padding, surplus = [], []
        for i, (n, s, (first, _)) in enumerate(zip(self.x.dim[1:], self.stride, self.pairs, strict=True)):
            more = 0
            while 2 * (first + more * s) <= self.kernel[i]:
                p = first + more * s
                count = -(-(n + 2 * p - self.reach(i)) // s) + 1
                count -= (count - 1) * s >= n + p
                if count >= self.out[i] + more:
                    break
                more += 1
            else:
                return None
            padding.append(first + more * s)
            surplus.append(more)
        return padding, surplus

    def kept(self, padding: Sequence[int], surplus: Sequence[int]) -> tuple[list[int], Pairs]:
        """Return how many windows torch finds in each direction, and what is to be cut off of them."""
        counts, cuts = [], []
        for i, (n, s, p, more) in enumerate(zip(self.x.dim[1:], self.stride, padding, surplus, strict=True)):
            count = -(-(n + 2 * p - self.reach(i)) // s) + 1
            count -= (count - 1) * s >= n + p
            counts.append(count)
            cuts.append((-more, self.out[i] + more - count))
        return counts, cuts

    def inside(self, padded: bool) -> list[Tensor]:
        """Return for each axis how many entries of each window are in the input, or in its padding too."""
        found = []
        for i, n in enumerate(self.x.dim[1:]):
            first, last = self.pairs[i]
            positions = torch.arange(self.out[i])[:, None] * self.stride[i] - first
            positions = positions + torch.arange(self.kernel[i]) * self.dilation[i]
            low, high = (-first, n + last) if padded else (0, n)
            found.append(((positions >= low) & (positions < high)).sum(1).double())
        return found


@reads("MaxPool", writes="Concatenate MaxPooling1D MaxPooling2D MaxPooling3D Padding")
@_of_rows
def _max_pooling(write: OnnxWriter, call: Call) -> Result:
    if not call.is_sole:
        raise refuse(call, "the positions of its maxima are used")
    at = _Windows(call)
    x, axes, channels = at.x, len(at.out), at.x.dim[0]
    keys: dict[str, Any] = {"kernel_size": at.kernel, "strides": at.stride, "dilation": at.dilation}
    if all(first == last for first, last in at.pairs) and all(
        2 * p <= k for (p, _), k in zip(at.pairs, at.kernel, strict=True)
    ):
        padding = [first for first, _ in at.pairs]
        return write.layer(
            f"MaxPooling{axes}D", [x], (1, channels, *at.out), padding=padding, ceil_mode=at.ceil, **keys
        )
    alike = at.alike()
    if alike is None:
        return _with_edges(write, call, at, keys)
    counts, cuts = at.kept(*alike)
    y = write.layer(f"MaxPooling{axes}D", [x], (1, channels, *counts), padding=alike[0], ceil_mode=True, **keys)
    return _padded(write, y, cuts)


def _with_edges(write: OnnxWriter, call: Call, at: _Windows, keys: dict[str, Any]) -> Value:
    """Write padding with copies of the edges, of which each window has the originals as well."""
    if set(at.dilation) != {1} or any(bool((n == 0).any()) for n in at.inside(padded=False)):
        raise refuse(call, f"its padding {at.pairs} is more than half of its windows {at.kernel}")
    x = at.x
    for i, (first, last) in enumerate(at.pairs):
        n = x.dim[1 + i]
        end = max(last, (at.out[i] - 1) * at.stride[i] + at.reach(i) - n - first)
        x = write.take(x, 2 + i, [min(max(j, 0), n - 1) for j in range(-first, n + end)])
    out = [(n - at.reach(i)) // at.stride[i] + 1 for i, n in enumerate(x.dim[1:])]
    y = write.layer(f"MaxPooling{len(out)}D", [x], (1, x.dim[0], *out), **keys)
    return _padded(write, y, [(0, wanted - n) for wanted, n in zip(at.out, out, strict=True)])


@reads(
    "AveragePool",
    writes="AveragePooling1D AveragePooling2D AveragePooling3D Concatenate Conv1D Conv2D Conv3D Padding",
)
@_of_rows
def _average_pooling(write: OnnxWriter, call: Call) -> Result:
    at, whole = _Windows(call), bool(call.get("count_include_pad", 0))
    x, axes, channels = at.x, len(at.out), at.x.dim[0]
    if set(at.dilation) == {1}:
        plain = all(first == last for first, last in at.pairs)
        fits = all(2 * p <= k for (p, _), k in zip(at.pairs, at.kernel, strict=True))
        keys: dict[str, Any] = {"kernel_size": at.kernel, "strides": at.stride, "count_include_pad": whole}
        if plain and fits:
            padding = [first for first, _ in at.pairs]
            return write.layer(
                f"AveragePooling{axes}D", [x], (1, channels, *at.out), padding=padding, ceil_mode=at.ceil, **keys
            )
        alike = None if whole else at.alike()
        if alike is not None:
            counts, cuts = at.kept(*alike)
            y = write.layer(
                f"AveragePooling{axes}D", [x], (1, channels, *counts), padding=alike[0], ceil_mode=True, **keys
            )
            return _padded(write, y, cuts)
    return window_sums(write, x, at, 1 / _outer(at.inside(padded=whole)))


def _outer(vectors: Sequence[Tensor]) -> Tensor:
    result = vectors[0]
    for vector in vectors[1:]:
        result = result[..., None] * vector
    return result


def window_sums(write: OnnxWriter, x: Value, at: _Windows, factor: Tensor | None) -> Value:
    """Write the sums over windows, as a convolution with ones, times a factor for each position."""
    axes, channels = len(at.out), x.dim[0]
    ends = []
    for i, n in enumerate(x.dim[1:]):  # below 0: the end that no window reaches
        first = at.pairs[i][0]
        ends.append((first, (at.out[i] - 1) * at.stride[i] + at.reach(i) - n - first))
    even = factor is None or bool((factor == factor.flatten()[0]).all())
    number = 1.0 if factor is None or not even else float(factor.flatten()[0])
    y = write.layer(
        f"Conv{axes}D", [_padded(write, x, ends)], (1, channels, *at.out), stride=at.stride, dilation=at.dilation,
        weight=torch.full((channels, 1, *at.kernel), number, dtype=torch.float64), groups=channels,
    )  # fmt: skip
    return y if even else write.scale(y, factor)


@reads("LpPool", writes="Activation Concatenate Conv1D Conv2D Conv3D Padding")
@_of_rows
def _lp_pooling(write: OnnxWriter, call: Call) -> Result:
    at, p = _Windows(call), float(call.get("p", 2))
    powers = write.activation(write.activation(at.x, "abs"), "pow", exponent=p)
    return write.activation(window_sums(write, powers, at, None), "pow", exponent=1 / p)


@reads("MaxUnpool", writes="Padding")
def _max_unpooling(write: OnnxWriter, call: Call) -> Result:
    """Write each value to its fixed position, and zeros elsewhere."""
    x, positions = call.x, call.fixed(1, "positions").flatten().long()
    shape = call.shape
    source = torch.full((math.prod(shape),), numbers := math.prod(x.shape), dtype=torch.long)
    source[positions] = torch.arange(numbers)
    flat = write.reshape(x, (1, numbers))
    padded = write.layer("Padding", [flat], (1, numbers + 1), padding=[0, 1])
    return write.reshape(write.take(padded, 1, source.tolist()), shape)
