"""The table of ONNX operators: what moves, copies, joins, pads or picks values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from innsight_py.converters.compositions import broadcast_to, choose, concatenate
from innsight_py.converters.onnx.activations import text
from innsight_py.converters.onnx.arithmetic import term
from innsight_py.converters.onnx.writer import Call, OnnxWriter, Result, reads, refuse
from innsight_py.converters.torch.choosing import choose_by_row, is_given
from innsight_py.converters.writer import Value, Whole, broadcast, with_axes


@reads("Reshape")
def _reshape(write: OnnxWriter, call: Call) -> Value:
    x = call.x
    given = call.numbers(1, "shape")
    assert given is not None
    zero = bool(call.get("allowzero", 0))
    if len(given) > len(x.shape) and any(n == 0 for n in given[len(x.shape) :]) and not zero:
        raise refuse(call, f"its shape {given} keeps axes that its input {x.shape} does not have")
    shape = [x.shape[i] if n == 0 and not zero else n for i, n in enumerate(given)]
    return write.reshape(x, _completed(call, x, shape))


def _completed(call: Call, x: Value, shape: Sequence[int]) -> tuple[int, ...]:
    """Fill in the size that is left open, and check that the entries are as many as before."""
    size, full = math.prod(x.shape), list(shape)
    if full.count(-1) == 1:
        rest = math.prod(n for n in full if n != -1)
        full[full.index(-1)] = size // rest if rest else 0
    if math.prod(full) != size or min(full, default=1) < 1:
        raise refuse(
            call, f"it makes {tuple(shape)} of {x.shape}; the shape must be right for one row, whose batch axis is 1"
        )
    return tuple(full)


@reads("Flatten")
def _flatten(write: OnnxWriter, call: Call) -> Value:
    x = call.x
    axis = int(call.get("axis", 1))
    axis = axis + len(x.shape) if axis < 0 else axis
    return write.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@reads("Squeeze")
def _squeeze(write: OnnxWriter, call: Call) -> Value:
    x, axes = call.x, call.numbers(1, "axes")
    rank = len(x.shape)
    gone = {i for i, n in enumerate(x.shape) if n == 1} if axes is None else {axis % rank for axis in axes}
    return write.reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in gone))


@reads("Unsqueeze")
def _unsqueeze(write: OnnxWriter, call: Call) -> Value:
    x, axes = call.x, call.numbers(1, "axes") or []
    rank = len(x.shape) + len(axes)
    new = {axis % rank for axis in axes}
    rest = iter(x.shape)
    return write.reshape(x, tuple(1 if i in new else next(rest) for i in range(rank)))


@reads("Transpose")
def _transpose(write: OnnxWriter, call: Call) -> Value:
    x = call.x
    return write.permute(x, [int(axis) for axis in call.get("perm", range(len(x.shape))[::-1])]) if x.shape else x


@reads("Identity")
def _identity(write: OnnxWriter, call: Call) -> Value:
    return call.x


@reads("Dropout", writes="Skipping")
def _dropout(write: OnnxWriter, call: Call) -> list[Result | None]:
    training = call.optional(2, "training_mode")
    if training is not None and bool(training):
        raise refuse(call, "it drops values at random; export the model in evaluation mode")
    x = call.x
    y = Value(write.add({"type": "Skipping"}, [x.layer]), x.shape)
    return [y, torch.ones(x.shape, dtype=torch.bool)]


@reads("Concat", writes="Concatenate")
def _concat(write: OnnxWriter, call: Call) -> Value:
    axis = int(call.get("axis", 0))
    parts = [part for part in (term(call, i) for i in range(len(call.inputs))) if math.prod(part.shape)]
    if len(parts) == 1 and isinstance(parts[0], Value):
        return parts[0]
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    return concatenate(write, parts, axis, tuple(shape))


@reads("Split")
def _split(write: OnnxWriter, call: Call) -> list[Result | None]:
    x, axis = call.x, int(call.get("axis", 0)) % len(call.x.shape)
    n, sizes = x.shape[axis], call.numbers(1, "split")
    if sizes is None:
        parts = int(call.get("num_outputs", len(call.wanted)))
        each = -(-n // parts)
        sizes = [max(min(each, n - i * each), 0) for i in range(parts)]
    if min(sizes) < 0 or sum(sizes) != n:
        raise refuse(call, f"it splits {n} entries into parts of {sizes}")
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [
        write.take(x, axis, range(start, start + size))
        if size
        else torch.zeros((*x.shape[:axis], 0, *x.shape[axis + 1 :]))
        for start, size in zip(starts, sizes, strict=True)
    ]


@reads("Slice")
def _slice(write: OnnxWriter, call: Call) -> Value:
    x = call.x
    starts, ends, axes, steps = (
        call.numbers(i, key) for i, key in enumerate(("starts", "ends", "axes", "steps"), start=1)
    )  # attributes before version 10
    assert starts is not None
    assert ends is not None
    axes = list(range(len(starts))) if axes is None else axes
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=True):
        n = x.shape[axis]
        stop: int | None = end if step > 0 or end >= -n else None  # before the first: all of them, backwards
        indices = range(n)[slice(start if start >= -n or step > 0 else -n, stop, step)]
        if not indices:
            raise refuse(call, f"it takes none of the {n} entries of axis {axis}")
        x = write.take(x, axis, indices)
    return x


@reads("Gather", writes="Embedding")
def _gather(write: OnnxWriter, call: Call) -> Value:
    if call.given and isinstance(call[0], Tensor):
        return _looked_up(write, call)
    x, axis = call.x, int(call.get("axis", 0)) % len(call.x.shape)
    indices = call.fixed(1, "indices")
    taken = write.take(x, axis, _in_range(call, indices, x.shape[axis]))
    return write.reshape(taken, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _looked_up(write: OnnxWriter, call: Call) -> Value:
    """Write rows of a constant table whose numbers come with each row, as an embedding does."""
    table, numbers = call.fixed(0, "table"), call.value(1)
    if table.dim() != 2 or int(call.get("axis", 0)) % 2 or not table.is_floating_point():
        raise refuse(call, "it looks up something else than rows of a table by numbers that come with the data")
    source = numbers if isinstance(numbers, Whole) else with_axes(write, numbers)
    vectors = write.layer("Embedding", [source], (*source.shape, table.shape[1]), weight=table.double())
    return write.reshape(vectors, (*numbers.shape, table.shape[1]))


def _in_range(call: Call, indices: Tensor, n: int) -> list[int]:
    given = [int(i) for i in indices.flatten().tolist()]
    if any(not -n <= i < n for i in given):
        raise refuse(call, f"one of its indices is not one of {n} entries")
    return [i % n for i in given]


@reads("GatherElements", writes="Cast Gather Operator")
def _gather_elements(write: OnnxWriter, call: Call) -> Value:
    x, axis = call.x, int(call.get("axis", 0)) % len(call.x.shape)
    if isinstance(call[1], Value):
        return _gathered(write, call, axis)
    indices = call.fixed(1, "indices")
    at = torch.tensor(_in_range(call, indices, x.shape[axis]), dtype=torch.long).reshape(indices.shape)
    return write.picked(x, _numbers(x).gather(axis, at))


def _gathered(write: OnnxWriter, call: Call, axis: int) -> Value:
    """Write entries whose numbers along an axis come with each row; axis 0 is that of the rows."""
    x, indices = call.x, call.value(1)
    if not is_given(write, indices) or axis == 0 or not x.leads or not indices.leads:
        raise refuse(call, "its indices depend on the data")
    n = x.shape[axis]
    whole = write.layer("Cast", [indices], indices.shape, dtype="int64")
    at = write.operator("remainder.Scalar", [whole, n], indices.shape)  # negative ones count from the end
    found = write.operator("gather", [_numbers(x), axis, at], indices.shape)
    return write.layer("Gather", [write.reshape(x, (1, math.prod(x.shape))), found], indices.shape)


def _numbers(x: Value) -> Tensor:
    """Return the numbers of the entries of a value, to see which of them an operator picks."""
    return torch.arange(math.prod(x.shape)).reshape(x.shape)


@reads("GatherND")
def _gather_nd(write: OnnxWriter, call: Call) -> Value:
    x, batch = call.x, int(call.get("batch_dims", 0))
    indices = call.fixed(1, "indices").long()
    depth = indices.shape[-1]
    lead, numbers = x.shape[:batch], _numbers(x).reshape(-1, *x.shape[batch:])
    flat = indices.reshape(len(numbers), -1, depth)
    if depth + batch > len(x.shape) or any(
        _in_range(call, flat[..., i], x.shape[batch + i]) is None for i in range(depth)
    ):  # fmt: skip
        raise refuse(call, "its indices have more entries than its input has axes")
    rows = [numbers[b][tuple(flat[b].unbind(-1))] for b in range(len(numbers))]
    picked = torch.stack(rows)
    return write.picked(x, picked.reshape(*lead, *indices.shape[batch:-1], *x.shape[batch + depth :]))


@reads("ScatterElements", "Scatter", "ScatterND", writes="Concatenate Operator Scale")
def _scatter(write: OnnxWriter, call: Call) -> Value:
    """Write a value some of whose entries, which do not depend on the data, are those of another."""
    x, source = write.as_value(term(call, 0)), write.as_value(term(call, 2))
    reduction = text(call, "reduction", "none")
    if reduction not in ("none", "add"):
        raise refuse(call, f"it combines the new entries with the old ones by '{reduction}'")
    indices = call.fixed(1, "indices").long()
    numbers = _numbers(x)
    if call.name == "ScatterND":
        at = numbers[tuple(indices.unbind(-1))].flatten()
    else:
        axis = int(call.get("axis", 0)) % len(x.shape)
        index = torch.tensor(_in_range(call, indices, x.shape[axis])).reshape(indices.shape)
        grid = list(torch.meshgrid(*(torch.arange(n) for n in indices.shape), indexing="ij"))
        grid[axis] = index
        at = numbers[tuple(grid)].flatten()
    size = numbers.numel()
    if len(at) != math.prod(source.shape):
        raise refuse(call, f"it puts {math.prod(source.shape)} entries at {len(at)} places")
    if reduction == "add":
        old, new = (write.reshape(value, (1, math.prod(value.shape))) for value in (x, source))
        return write.reshape(write.operator("scatter_add", [old, 1, at[None], new], (1, size)), x.shape)
    picked = numbers.flatten().clone()
    picked[at] = size + torch.arange(len(at))
    flat = [write.reshape(value, (1, math.prod(value.shape))) for value in (x, source)]
    both = write.layer("Concatenate", flat, (1, size + len(at)), axis=1)
    return write.reshape(write.take(both, 1, picked.tolist()), x.shape)


@reads("Pad", writes="Padding")
def _pad(write: OnnxWriter, call: Call) -> Value:
    x, old = call.x, call.opset < 11
    pads = call.numbers(1, "pads")  # an attribute before version 11
    assert pads is not None
    value = float(call.get("value", 0.0)) if old else _number(call, 2)
    axes = None if old else call.numbers(3, "axes")
    rank = len(x.shape)
    axes = list(range(rank)) if axes is None else [axis % rank for axis in axes]
    pairs = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        pairs[axis] = (pads[i], pads[len(axes) + i])
    mode = text(call, "mode", "constant")
    if mode == "constant" and not math.isfinite(value):
        raise refuse(call, f"it pads with {value}")
    if mode != "constant":
        for axis, (first, last) in enumerate(pairs):
            x = _repeated(write, call, x, axis, first, last, mode)
        return x
    shape = tuple(n + sum(pair) for n, pair in zip(x.shape, pairs, strict=True))
    while pairs and pairs[0] == (0, 0) and len(pairs) > 1:
        pairs = pairs[1:]
    if not any(map(any, pairs)):
        return x
    sides = [side for pair in reversed(pairs) for side in pair]
    source = x if x.leads and len(pairs) < rank else write.whole(x)
    padded = write.layer("Padding", [source], shape, padding=sides, value=value)
    return padded if source is x else write.reshape(Whole(padded.layer, shape), shape)


def _number(call: Call, i: int) -> float:
    given = call.optional(i, "padding value")
    return 0.0 if given is None or given.numel() == 0 else float(given.flatten()[0])


def _repeated(write: OnnxWriter, call: Call, x: Value, axis: int, first: int, last: int, mode: str) -> Value:
    """Write padding along an axis with entries that are there."""
    n = x.shape[axis]
    positions = range(-first, n + last)
    if mode == "edge":
        indices = [min(max(i, 0), n - 1) for i in positions]
    elif mode == "wrap":
        indices = [i % n for i in positions]
    elif mode == "reflect":
        period = max(2 * (n - 1), 1)
        indices = [min(i % period, period - i % period) if n > 1 else 0 for i in positions]
    else:
        raise refuse(call, f"its mode '{mode}' is not known")
    return write.take(x, axis, indices)


@reads("Expand")
def _expand(write: OnnxWriter, call: Call) -> Value:
    x, shape = call.x, call.numbers(1, "shape")
    return broadcast_to(write, x, broadcast(x.shape, tuple(shape or ())))


@reads("Tile")
def _tile(write: OnnxWriter, call: Call) -> Value:
    x = call.x
    for axis, times in enumerate(call.numbers(1, "repeats") or []):
        if times < 1:
            raise refuse(call, "it repeats its input less than once")
        x = write.take(x, axis, list(range(x.shape[axis])) * times)
    return x


@reads("DepthToSpace", "SpaceToDepth")
def _depth_to_space(write: OnnxWriter, call: Call) -> Value:
    x, r = call.x, int(call.get("blocksize", 1))
    n, channels, height, width = x.shape
    if call.name == "SpaceToDepth":
        cut = write.reshape(x, (n, channels, height // r, r, width // r, r))
        moved = write.permute(cut, [0, 3, 5, 1, 2, 4] if text(call, "mode", "DCR") == "DCR" else [0, 1, 3, 5, 2, 4])
        return write.reshape(moved, (n, channels * r * r, height // r, width // r))
    if text(call, "mode", "DCR") == "DCR":
        cut = write.reshape(x, (n, r, r, channels // r**2, height, width))
        moved = write.permute(cut, [0, 3, 4, 1, 5, 2])
    else:
        cut = write.reshape(x, (n, channels // r**2, r, r, height, width))
        moved = write.permute(cut, [0, 1, 4, 2, 5, 3])
    return write.reshape(moved, (n, channels // r**2, height * r, width * r))


@reads("Where", writes="Activation Choose Concatenate Operator Scale")
def _where(write: OnnxWriter, call: Call) -> Result:
    mask, x, y = (term(call, i) for i in range(3))
    shape = broadcast(tuple(mask.shape), tuple(x.shape), tuple(y.shape))
    if isinstance(mask, Value) and is_given(write, mask) and not call.given:
        return choose_by_row(write, mask, x, y, shape)
    if isinstance(mask, Value):
        if isinstance(y, Value) and isinstance(x, Tensor) and (safe := _without_nan(write, mask, x, y)) is not None:
            return safe
        sides = [v if isinstance(v, Value) else v.double() for v in (x, y)]
        return write.operator("where.self", [mask, *sides], shape)
    if isinstance(x, Value) and isinstance(y, Value):
        return choose(write, mask, x, y, shape)
    keep = mask.double()
    if isinstance(x, Value):
        return _masked(write, x, keep, y)
    assert isinstance(y, Value)
    return _masked(write, y, 1 - keep, x)


def _without_nan(write: OnnxWriter, mask: Value, x: Tensor, y: Value) -> Value | None:
    """Write a softmax that gives zeros, instead of what no number is, with which attention that is written out ends."""
    test, layer = write.by_name[mask.layer], write.by_name.get(y.layer)
    if test.get("operator") != "aten::isnan" or test["inputs"] != [y.layer] or layer is None:
        return None
    return _seeing(write, y) if layer.get("act_name") == "softmax" and not bool((x != 0).any()) else None


def _seeing(write: OnnxWriter, y: Value) -> Value:
    """Return a softmax with zeros in rows whose entries a constant mask makes all minus infinity."""
    layer = write.by_name.get(y.layer, {})
    before = write.by_name.get(layer["inputs"][0]) if layer.get("act_name") == "softmax" else None
    if before is None or before["type"] != "Scale" or layer["act_params"]["dim"] != -1:
        return y
    shift = before.get("shift")
    blind = None if shift is None or not shift.dim() else (shift == -math.inf).all(-1, keepdim=True)
    if blind is None or not bool(blind.any()):
        return y
    kept = {key: value for key, value in before.items() if key not in ("type", "name", "inputs", "place", "shift")}
    logits = Value(before["inputs"][0], y.shape)
    masked = write.layer("Scale", [logits], y.shape, shift=torch.where(blind, 0.0, before["shift"]), **kept)
    weights = write.layer("Activation", [masked], y.shape, act_name="softmax", act_params={"dim": -1})
    return write.scale(weights, (~blind).double())


def _masked(write: OnnxWriter, x: Value, keep: Tensor, other: Any) -> Value:
    """Write a value where `keep` is 1, and a constant where it is 0."""
    shift = torch.where(keep > 0, torch.zeros((), dtype=torch.float64), other.double())
    return write.scale(write.scale(_seeing(write, x), keep), None, shift)


@reads("Trilu", writes="Scale")
def _trilu(write: OnnxWriter, call: Call) -> Value:
    x, k = call.x, call.optional(1, "k")
    ones = torch.ones(x.shape[-2:], dtype=torch.float64)
    shift = 0 if k is None else int(k)
    return write.scale(x, ones.triu(shift) if call.get("upper", 1) else ones.tril(shift))


@reads("Compress")
def _compress(write: OnnxWriter, call: Call) -> Value:
    x, axis = call.x, call.get("axis")
    kept = [i for i, keep in enumerate(call.fixed(1, "condition").flatten().tolist()) if keep]
    if axis is None:
        return write.picked(x, torch.tensor(kept, dtype=torch.long))
    return write.take(x, int(axis), kept)


@reads("ReverseSequence")
def _reverse_sequence(write: OnnxWriter, call: Call) -> Value:
    x, time, batch = call.x, int(call.get("time_axis", 0)), int(call.get("batch_axis", 1))
    numbers = _numbers(x).movedim((batch, time), (0, 1)).clone()
    for row, length in enumerate(call.fixed(1, "lengths").tolist()):
        numbers[row, :length] = numbers[row, :length].flip(0)
    return write.picked(x, numbers.movedim((0, 1), (batch, time)))


@reads("CenterCropPad", writes="Padding")
def _center_crop_pad(write: OnnxWriter, call: Call) -> Value:
    x, wanted = call.x, call.numbers(1, "shape") or []
    rank = len(x.shape)
    axes = [int(axis) % rank for axis in call.get("axes", range(rank))]
    pairs = [(0, 0)] * rank
    for axis, n in zip(axes, wanted, strict=True):
        more = n - x.shape[axis]
        first = more // 2 if more >= 0 else -((-more) // 2)
        pairs[axis] = (first, more - first)
    shape = tuple(n + sum(pair) for n, pair in zip(x.shape, pairs, strict=True))
    if shape == x.shape:
        return x
    source = write.whole(x)
    sides = [side for pair in reversed(pairs) for side in pair]
    padded = write.layer("Padding", [source], shape, padding=sides)
    return write.reshape(Whole(padded.layer, shape) if source is not x else padded, shape)


@reads("Col2Im", writes="Operator")
def _col2im(write: OnnxWriter, call: Call) -> Value:
    x, size, block = call.x, call.numbers(1, "image_shape") or [], call.numbers(2, "block_shape") or []
    axes = len(size)
    pads = [int(n) for n in call.get("pads", [0] * 2 * axes)]
    if axes != 2 or pads[:2] != pads[2:]:
        raise refuse(call, "it has other than two axes, or padding that differs from side to side")
    steps = [[int(n) for n in call.get(key, [1, 1])] for key in ("dilations", "strides")]
    return write.operator("col2im", [x, size, block, steps[0], pads[:2], steps[1]], call.shape)
