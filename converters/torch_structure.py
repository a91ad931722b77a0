"""The table of ATen operators, third part: what moves, copies, pads or resizes values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from innsight_py.converters.compositions import broadcast_to
from innsight_py.converters.torch_writer import Operator, refuse, translates, without_one
from innsight_py.converters.writer import Value, Whole, Writer


@translates(
    "view",
    "reshape",
    "_unsafe_view",
    "flatten.using_ints",
    "unflatten.int",
    "squeeze",
    "squeeze.dim",
    "squeeze.dims",
    "unsqueeze",
)
def _reshape(write: Writer, call: Operator) -> Value:
    return write.reshape(call["self"], call.shape)


@translates("permute", "transpose.int", "t", "movedim.int")
def _permute(write: Writer, call: Operator) -> Value:
    x = call["self"]
    rank = len(x.shape)
    if "permute" in call.name:
        return write.permute(x, call["dims"])
    order = list(range(rank))
    if "movedim" in call.name:
        order.insert(call["destination"] % rank, order.pop(call["source"] % rank))
    else:
        a, b = (0, rank - 1) if call.name == "aten::t" else (call["dim0"] % rank, call["dim1"] % rank)
        order[a], order[b] = order[b], order[a]
    return write.permute(x, order)


@translates("cat", "concat", "concatenate", writes="Concatenate Scale")
def _cat(write: Writer, call: Operator) -> Value:
    return concatenate(write, call["tensors"], call["dim"], call.shape)


@translates("stack", writes="Concatenate Scale")
def _stack(write: Writer, call: Operator) -> Value:
    axis = call["dim"] % len(call.shape)

    def with_axis(x: Any) -> Any:
        if isinstance(x, Tensor):
            return x.unsqueeze(axis)
        return write.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))

    return concatenate(write, [with_axis(x) for x in call["tensors"]], axis, call.shape)


def concatenate(write: Writer, tensors: Sequence[Any], axis: int, shape: tuple[int, ...]) -> Value:
    """Write a concatenation; there may be constants among the parts."""
    axis %= len(shape)
    tensors = [t for t in tensors if not (isinstance(t, Tensor) and t.dim() == 1 and t.numel() == 0)]
    parts = [t if isinstance(t, Value) else write.constant(t) for t in tensors]
    if axis > 0 and shape[0] == 1:
        return write.layer("Concatenate", parts, shape, axis=axis)
    joined = write.layer("Concatenate", [write.whole(x) for x in parts], shape, axis=axis + 1)
    return write.reshape(Whole(joined.layer, shape), shape)


@translates("slice_scatter", writes="Concatenate Scale Take")
def _slice_scatter(write: Writer, call: Operator) -> Value | None:
    axis, n = call["dim"], call.shape[call["dim"]]
    positions = range(n)[slice(call["start"], call["end"], call["step"])]
    return replaced(write, call, call["self"], call["src"], axis, positions)


@translates("select_scatter", writes="Concatenate Scale Take")
def _select_scatter(write: Writer, call: Operator) -> Value | None:
    axis = call["dim"] % len(call.shape)
    source, shape = call["src"], (*call.shape[:axis], 1, *call.shape[axis + 1 :])
    source = source.unsqueeze(axis) if isinstance(source, Tensor) else write.reshape(source, shape)
    index = call["index"] % call.shape[axis]
    return replaced(write, call, call["self"], source, axis, range(index, index + 1))


def replaced(
    write: Writer, call: Operator, x: Any, source: Any, axis: int, positions: range
) -> Value | None:  # fmt: skip
    """Write a value some of whose entries along an axis, one after the other, are those of another."""
    if positions.step != 1 or not positions:
        return None
    n = call.shape[axis]

    def part(start: int, stop: int) -> list[Any]:
        if start == stop:
            return []
        whole = isinstance(x, Tensor)
        return [x.narrow(axis, start, stop - start) if whole else write.take(x, axis, range(start, stop))]

    parts = [*part(0, positions.start), source, *part(positions.stop, n)]
    return parts[0] if len(parts) == 1 else concatenate(write, parts, axis, call.shape)


@translates("copy", writes="Take")
def _copy(write: Writer, call: Operator) -> Value | Tensor:
    source: Value | Tensor = call["src"]
    return broadcast_to(write, source, call.shape) if isinstance(source, Value) else source.expand(call.shape)


@translates("fill.Scalar", "zeros_like", "ones_like", "full_like")
def _constant(write: Writer, call: Operator) -> Tensor:
    number = {"aten::zeros_like": 0.0, "aten::ones_like": 1.0}.get(call.name)
    number = call.get("value", call.get("fill_value")) if number is None else number
    return torch.full(call.shape, float(number), dtype=torch.float64)


@translates("slice.Tensor", writes="Take")
def _slice(write: Writer, call: Operator) -> Value:
    x, axis = call["self"], call["dim"]
    return write.take(x, axis, range(x.shape[axis])[slice(call["start"], call["end"], call["step"])])


@translates("select.int", writes="Take")
def _select(write: Writer, call: Operator) -> Value:
    x, axis = call["self"], call["dim"]
    return write.reshape(write.take(x, axis, [call["index"] % x.shape[axis]]), call.shape)


@translates("index_select", writes="Take")
def _index_select(write: Writer, call: Operator) -> Value | None:
    if not isinstance(call["index"], Tensor):
        return None
    return write.take(call["self"], call["dim"], call["index"].tolist())


@translates("index.Tensor", writes="Take")
def _index(write: Writer, call: Operator) -> Value | None:
    x, indices = call["self"], call["indices"]
    if any(not isinstance(index, Tensor) for index in indices if index is not None):
        return None
    given = [axis for axis, index in enumerate(indices) if index is not None]
    if len(given) != 1 or indices[given[0]].dtype == torch.bool:
        return gather(write, call, x)
    axis, index = given[0], indices[given[0]]
    taken = write.take(x, axis, [int(i) % x.shape[axis] for i in index.flatten()])
    return write.reshape(taken, call.shape)


@translates("diagonal", "unfold", "as_strided", writes="Take")
def _gather(write: Writer, call: Operator) -> Value:
    return gather(write, call, call["self"])


def gather(write: Writer, call: Operator, x: Value) -> Value:
    """Write an operator that only picks entries: run it on the numbers of the entries to see which."""
    overload = call.node.target
    assert isinstance(overload, torch._ops.OpOverload)
    numbers = torch.arange(math.prod(x.shape)).reshape(x.shape)
    picked = overload(
        *[numbers if isinstance(call[a.name], Value) else call[a.name] for a in overload._schema.arguments]
    )
    flat = write.reshape(x, (1, math.prod(x.shape)))
    return write.reshape(write.take(flat, 1, picked.flatten().tolist()), tuple(picked.shape))


@translates("split.Tensor", "split_with_sizes", "chunk", "unbind.int", writes="Take")
def _split(write: Writer, call: Operator) -> list[Value]:
    x, axis = call["self"], call["dim"]
    parts, start = [], 0
    for part in call.node.meta["val"]:
        shape = tuple(int(n) for n in part.shape)
        length = 1 if "unbind" in call.name else shape[axis]
        parts.append(write.reshape(write.take(x, axis, range(start, start + length)), shape))
        start += length
    return parts


@translates("expand", "expand_as", writes="Take")
def _expand(write: Writer, call: Operator) -> Value:
    return broadcast_to(write, call["self"], call.shape)


@translates("repeat", writes="Take")
def _repeat(write: Writer, call: Operator) -> Value:
    x, repeats = call["self"], call["repeats"]
    x = write.reshape(x, (*[1] * (len(repeats) - len(x.shape)), *x.shape))
    for axis, times in enumerate(repeats):
        x = write.take(x, axis, list(range(x.shape[axis])) * times)
    return x


@translates("flip", writes="Take")
def _flip(write: Writer, call: Operator) -> Value:
    x: Value = call["self"]
    for axis in call["dims"]:
        x = write.take(x, axis, range(x.shape[axis])[::-1])
    return x


@translates("roll", writes="Take")
def _roll(write: Writer, call: Operator) -> Value | None:
    x: Value = call["self"]
    if not call["dims"]:
        return None
    for axis, by in zip(call["dims"], call["shifts"], strict=True):
        n = x.shape[axis]
        x = write.take(x, axis, [(i - by) % n for i in range(n)])
    return x


@translates("pad", "constant_pad_nd", writes="Padding")
def _pad(write: Writer, call: Operator) -> Value | None:
    x, sides = call["self"], list(call["pad"])
    mode, value = call.get("mode", "constant"), call.get("value") or 0
    if mode != "constant" and (min(sides) < 0 or not x.leads):
        return None
    source = x if x.leads and len(sides) // 2 < len(x.shape) else write.whole(x)
    padded = write.layer("Padding", [source], call.shape, padding=sides, mode=mode, value=float(value))
    return padded if source is x else write.reshape(Whole(padded.layer, call.shape), call.shape)


@translates(
    "upsample_nearest1d.vec",
    "upsample_nearest2d.vec",
    "upsample_nearest3d.vec",
    "upsample_linear1d.vec",
    "upsample_bilinear2d.vec",
    "upsample_trilinear3d.vec",
    "upsample_bicubic2d.vec",
    "_upsample_nearest_exact1d.vec",
    "_upsample_nearest_exact2d.vec",
    "_upsample_nearest_exact3d.vec",
    writes="Resize",
)
def _resize(write: Writer, call: Operator) -> Value | None:
    x = call["input"]
    if not x.leads:
        return None
    mode = call.name.removeprefix("aten::").lstrip("_").removeprefix("upsample_").partition(".")[0][:-2]
    keys: dict[str, Any] = {"size": list(call.shape[2:]), "mode": mode.replace("_", "-")}
    if "align_corners" in call.arguments:
        keys["align_corners"] = call["align_corners"]
    if call["scale_factors"]:
        keys["scale_factor"] = [float(factor) for factor in call["scale_factors"]]
    return write.layer("Resize", [x], call.shape, **keys)


@translates("pixel_shuffle", "pixel_unshuffle")
def _pixel_shuffle(write: Writer, call: Operator) -> Value:
    x = call["self"]
    lead, (channels, height, width) = x.shape[:-3], x.shape[-3:]
    n = len(lead)
    if "unshuffle" in call.name:
        r = call["downscale_factor"]
        cut = write.reshape(x, (*lead, channels, height // r, r, width // r, r))
        return write.reshape(write.permute(cut, [*range(n), n, n + 2, n + 4, n + 1, n + 3]), call.shape)
    r = call["upscale_factor"]
    cut = write.reshape(x, (*lead, channels // r**2, r, r, height, width))
    return write.reshape(write.permute(cut, [*range(n), n, n + 3, n + 1, n + 4, n + 2]), call.shape)


@translates("detach")
def _detach(write: Writer, call: Operator) -> Value:
    """Stop gradients, as the model asks for; what else it should mean the other methods cannot know."""
    return without_one(write, call, call.shape, None)


@translates(
    "clone",
    "dropout",
    "feature_dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
    "native_dropout",
    "contiguous",
    "alias",
    "lift_fresh_copy",
    "_to_copy",
    "to.dtype",
    "to.dtype_layout",
    "to.device",
    "type_as",
    writes="Skipping",
)
def _identity(write: Writer, call: Operator) -> Value | list[Value] | None:
    x = call.get("input", call.get("self"))
    if call.get("train", False):
        raise refuse(call, "it drops values at random even at prediction time")
    several = isinstance(call.node.meta["val"], tuple | list)
    result = call.node.meta["val"][0] if several else call.node.meta["val"]
    if not result.is_floating_point():
        raise refuse(call, "it turns values into whole numbers")
    name = write.add({"type": "Skipping"}, [x.layer]) if "dropout" in call.name else x.layer
    return [Value(name, x.shape)] if several else Value(name, x.shape)
