"""The table of ONNX operators: resizing, axis by axis.

Along one axis a resizing is a choice of entries (nearest) or a matrix (linear, cubic), whatever rule says where the
positions of the result lie in the input. The common rules are torch's, and become a Resize layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from innsight_py.converters.onnx.activations import text
from innsight_py.converters.onnx.arithmetic import along
from innsight_py.converters.onnx.writer import Call, OnnxWriter, Result, reads, refuse
from innsight_py.converters.writer import Value


@dataclass(frozen=True)
class _Axis:
    """One axis: its sizes before and after, the factor between them, and the part of the input that is looked at."""

    n: int
    m: int
    scale: float
    start: float = 0.0
    end: float = 1.0

    def positions(self, rule: str) -> Tensor:
        """Return where in the input the entries of the result lie."""
        i, n, m, scale = torch.arange(self.m).double(), self.n, self.m, self.scale
        if rule == "half_pixel":
            return (i + 0.5) / scale - 0.5
        if rule == "half_pixel_symmetric":
            adjustment = m / (scale * n)
            return n / 2 * (1 - adjustment) + (i + 0.5) / scale - 0.5
        if rule == "pytorch_half_pixel":
            return (i + 0.5) / scale - 0.5 if m > 1 else torch.zeros(1).double()
        if rule == "align_corners":
            return i * (n - 1) / (m - 1) if m > 1 else torch.zeros(1).double()
        if rule == "tf_crop_and_resize":
            if m > 1:
                return self.start * (n - 1) + i * (self.end - self.start) * (n - 1) / (m - 1)
            return torch.full((1,), 0.5 * (self.start + self.end) * (n - 1)).double()
        if rule == "tf_half_pixel_for_nn":
            return (i + 0.5) / scale
        return i / scale  # asymmetric


def _nearest(x: Tensor, rule: str, n: int) -> list[int]:
    """Round positions to whole ones."""
    rounded = {
        "round_prefer_floor": lambda: torch.ceil(x - 0.5),
        "round_prefer_ceil": lambda: torch.floor(x + 0.5),
        "floor": lambda: torch.floor(x),
        "ceil": lambda: torch.ceil(x),
    }[rule]()
    return [int(i) for i in rounded.clamp(0, n - 1).tolist()]


def _matrix(axis: _Axis, x: Tensor, cubic: float | None, antialias: bool, exclude: bool) -> Tensor:
    """Return the matrix of an interpolation, linear or (with its coefficient) cubic."""
    reach = 1 if cubic is None else 2
    stretch = max(1 / axis.scale, 1.0) if antialias else 1.0
    width = math.ceil(reach * stretch) + 1
    first = torch.floor(x)
    weight = torch.zeros(axis.m, axis.n, dtype=torch.float64)
    for offset in range(-width, width + 1):
        at = first + offset
        distance = (x - at).abs() / stretch
        value = (1 - distance).clamp(min=0) if cubic is None else _cubic(distance, cubic)
        inside = (at >= 0) & (at < axis.n)
        value = torch.where(inside, value, torch.zeros(())) if exclude else value
        rows = torch.arange(axis.m)
        weight.index_put_((rows, at.clamp(0, axis.n - 1).long()), value, accumulate=True)
    return weight / weight.sum(1, keepdim=True)


def _cubic(d: Tensor, a: float) -> Tensor:
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros(())))


@reads("Resize", writes="Dense Resize Scale")
def _resize(write: OnnxWriter, call: Call) -> Result:
    x, rank = call.x, len(call.x.shape)
    if call.opset < 11:
        return upsampled(write, call)
    axes = [int(axis) % rank for axis in call.get("axes", range(rank))]
    scales, sizes = call.optional(2, "scales"), call.optional(3, "sizes")
    roi = call.optional(1, "roi")
    given: dict[int, tuple[float, int]] = {}
    if sizes is not None and sizes.numel():
        given = _to_sizes(call, axes, [int(n) for n in sizes.tolist()])
    elif scales is not None:
        factors = [float(s) for s in scales.tolist()]
        given = {axis: (s, math.floor(x.shape[axis] * s)) for axis, s in zip(axes, factors, strict=True)}
    parts = (
        [0.0] * len(axes) + [1.0] * len(axes) if roi is None or not roi.numel() else [float(r) for r in roi.tolist()]
    )
    found = {
        axis: _Axis(x.shape[axis], given[axis][1], given[axis][0], parts[k], parts[len(axes) + k])
        for k, axis in enumerate(axes)
    }
    rule = text(call, "coordinate_transformation_mode", "half_pixel")
    return _resized(write, call, x, found, rule, text(call, "nearest_mode", "round_prefer_floor"))


def _to_sizes(call: Call, axes: Sequence[int], sizes: Sequence[int]) -> dict[int, tuple[float, int]]:
    policy = text(call, "keep_aspect_ratio_policy", "stretch")
    factors = [n / call.x.shape[axis] for axis, n in zip(axes, sizes, strict=True)]
    if policy == "stretch":
        return {axis: (s, n) for axis, s, n in zip(axes, factors, sizes, strict=True)}
    factor = min(factors) if policy == "not_larger" else max(factors)
    return {axis: (factor, math.floor(factor * call.x.shape[axis] + 0.5)) for axis in axes}


@reads("Upsample", writes="Dense Resize Scale")
def _upsample(write: OnnxWriter, call: Call) -> Value:
    return upsampled(write, call)


def upsampled(write: OnnxWriter, call: Call) -> Value:
    """Write a resizing by the rule of the earliest versions."""
    x = call.x
    scales = call.get("scales") if call.opset < 9 else call.fixed(1, "scales").tolist()
    if scales is None:
        raise refuse(call, "it lacks its scales")
    found = {
        axis: _Axis(n, math.floor(n * float(s)), float(s))
        for axis, (n, s) in enumerate(zip(x.shape, scales, strict=True))
    }
    return _resized(write, call, x, found, "asymmetric", "floor")


def _resized(
    write: OnnxWriter, call: Call, x: Value, axes: dict[int, _Axis], rule: str, rounding: str
) -> Value:  # fmt: skip
    mode = text(call, "mode", "nearest")
    antialias, exclude = bool(call.get("antialias", 0)), bool(call.get("exclude_outside", 0))
    cubic = float(call.get("cubic_coeff_a", -0.75)) if mode == "cubic" else None
    if mode not in ("nearest", "linear", "cubic"):
        raise refuse(call, f"its mode '{mode}' is not known")
    changed = {i: axis for i, axis in axes.items() if axis.n != axis.m or rule == "tf_crop_and_resize"}
    if any(axis.m < 1 for axis in axes.values()):
        raise refuse(call, "its result has no entries")
    if not changed:
        return x
    plain = not antialias and not exclude and cubic in (None, -0.75)
    if plain and mode != "nearest" and (same := _like_torch(write, x, changed, rule, mode)) is not None:
        return same
    for i, axis in changed.items():
        at = axis.positions(rule)
        if rule == "tf_crop_and_resize" and bool(((at < 0) | (at > axis.n - 1)).any()):
            raise refuse(call, "it looks at what is outside its input")
        if mode == "nearest":
            x = write.take(x, i, _nearest(at, rounding, axis.n))
        else:
            x = along(write, x, i, _matrix(axis, at, cubic, antialias, exclude))
    return x


def _like_torch(write: OnnxWriter, x: Value, axes: dict[int, _Axis], rule: str, mode: str) -> Value | None:
    """Write a Resize layer where torch has the same rule for all axes after the channels."""
    rank = len(x.shape)
    names = {("linear", 3): "linear", ("linear", 4): "bilinear", ("linear", 5): "trilinear", ("cubic", 4): "bicubic"}
    name = names.get((mode, rank))
    corners = {"align_corners": True, "half_pixel": False, "pytorch_half_pixel": False}.get(rule)
    exact = all(abs(axis.scale * axis.n - axis.m) < 1e-6 for axis in axes.values())
    if name is None or corners is None or not x.leads or min(axes) < 2 or not exact:
        return None
    if not corners and any(axis.m == 1 for axis in axes.values()):
        return None
    size = [axes[i].m if i in axes else x.shape[i] for i in range(2, rank)]
    return write.layer("Resize", [x], (*x.shape[:2], *size), size=size, mode=name, align_corners=corners)


#: Numbers that torch has for the modes of a grid, by their old names and their new ones.
_GRID_MODES = {"bilinear": 0, "linear": 0, "nearest": 1, "bicubic": 2, "cubic": 2}
_GRID_PADDING = {"zeros": 0, "border": 1, "reflection": 2}


@reads("GridSample", writes="Operator")
def _grid_sample(write: OnnxWriter, call: Call) -> Result:
    x, grid = call[0], call[1]
    mode, padding = text(call, "mode", "linear"), text(call, "padding_mode", "zeros")
    axes = len(call.shape) - 2
    if axes not in (2, 3) or mode not in _GRID_MODES or padding not in _GRID_PADDING or x is None or grid is None:
        raise refuse(call, f"there is no layer for its mode '{mode}' with {axes} axes")
    given = [v if isinstance(v, Value) else v.double() for v in (x, grid)]
    corners = bool(call.get("align_corners", 0))
    return write.operator(
        f"grid_sampler_{axes}d", [*given, _GRID_MODES[mode], _GRID_PADDING[padding], corners], call.shape
    )
