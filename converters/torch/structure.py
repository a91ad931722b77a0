"""The table of ATen operators, third part: what moves, copies, pads or resizes values."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from innsight_py.converters.compositions import broadcast_to, concatenate
from innsight_py.converters.torch.contexts import CALLS
from innsight_py.converters.torch.writer import Operator, refuse, translates
from innsight_py.converters.writer import Value, Whole, Writer, folding


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
    moves=True,
)
def _reshape(write: Writer, call: Operator) -> Value:
    return write.reshape(call["self"], call.shape)


@translates("permute", "transpose.int", "t", "movedim.int", moves=True)
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


@translates("cat", "concat", "concatenate", writes="Concatenate Scale", values="tensors", moves=True)
def _cat(write: Writer, call: Operator) -> Value:
    return concatenate(write, call["tensors"], call["dim"], call.shape)


@translates("stack", writes="Concatenate Scale", values="tensors", moves=True)
def _stack(write: Writer, call: Operator) -> Value:
    axis = call["dim"] % len(call.shape)

    def with_axis(x: Any) -> Any:
        if isinstance(x, Tensor):
            return x.unsqueeze(axis)
        return write.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))

    return concatenate(write, [with_axis(x) for x in call["tensors"]], axis, call.shape)


@translates("slice_scatter", writes="Concatenate Scale Take", values="self src")
def _slice_scatter(write: Writer, call: Operator) -> Value | None:
    axis, n = call["dim"], call.shape[call["dim"]]
    positions = range(n)[slice(call["start"], call["end"], call["step"])]
    return replaced(write, call, call["self"], call["src"], axis, positions)


@translates("select_scatter", writes="Concatenate Scale Take", values="self src")
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


@translates("copy", writes="Take Cast", values="self src", moves=True)
def _copy(write: Writer, call: Operator) -> Value | Tensor:
    source: Value | Tensor = call["src"]
    if isinstance(source, Tensor):
        return source.expand(call.shape)
    return broadcast_to(write, cast(write, source, call.dtypes["src"], call.dtype), call.shape)


@translates(
    "fill.Scalar", "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full",
    "new_empty", moves=True,
)  # fmt: skip
def _constant(write: Writer, call: Operator) -> Tensor:
    kind = call.name.removeprefix("aten::").removesuffix("_like").removeprefix("new_")
    number = {"zeros": 0, "empty": 0, "ones": 1}.get(kind)
    number = call.get("value", call.get("fill_value")) if number is None else number
    dtype = torch.float64 if call.dtype.is_floating_point else call.dtype
    return torch.full(call.shape, number, dtype=dtype)


@translates("slice.Tensor", writes="Take", moves=True)
def _slice(write: Writer, call: Operator) -> Value:
    x, axis = call["self"], call["dim"]
    return write.take(x, axis, range(x.shape[axis])[slice(call["start"], call["end"], call["step"])])


@translates("select.int", writes="Take", moves=True)
def _select(write: Writer, call: Operator) -> Value:
    x, axis = call["self"], call["dim"]
    return write.reshape(write.take(x, axis, [call["index"] % x.shape[axis]]), call.shape)


@translates("index_select", writes="Gather Operator Take", moves=True)
def _index_select(write: Writer, call: Operator) -> Value | None:
    if not isinstance(call["index"], Tensor):
        return None
    return write.take(call["self"], call["dim"], call["index"].tolist())


@translates("index.Tensor", writes="Embedding Gather Operator Take", moves=True)
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


@translates("gather", "take_along_dim", writes="Gather Operator Take", moves=True)
def _gathered(write: Writer, call: Operator) -> Value | None:
    index = call.get("index", call.get("indices"))
    return gather(write, call, call["self"]) if isinstance(index, Tensor) else None


@translates("diagonal", "unfold", "as_strided", writes="Take", moves=True)
def _gather(write: Writer, call: Operator) -> Value:
    return gather(write, call, call["self"])


def gather(write: Writer, call: Operator, x: Value) -> Value:
    """Write an operator that only picks entries: run it on the numbers of the entries to see which."""
    overload = call.node.target
    assert isinstance(overload, torch._ops.OpOverload)
    numbers = torch.arange(math.prod(x.shape)).reshape(x.shape)
    picked = overload(
        *[
            numbers if isinstance(call[a.name], Value) else call[a.name]
            for a in overload._schema.arguments
            if not a.kwarg_only
        ]
    )
    flat = write.reshape(x, (1, math.prod(x.shape)))
    return write.reshape(write.take(flat, 1, picked.flatten().tolist()), tuple(picked.shape))


@translates("split.Tensor", "split_with_sizes", "chunk", "unbind.int", writes="Take", moves=True)
def _split(write: Writer, call: Operator) -> list[Value]:
    x, axis = call["self"], call["dim"]
    parts, start = [], 0
    for part in call.node.meta["val"]:
        shape = tuple(int(n) for n in part.shape)
        length = 1 if "unbind" in call.name else shape[axis]
        parts.append(write.reshape(write.take(x, axis, range(start, start + length)), shape))
        start += length
    return parts


@translates("expand", "expand_as", writes="Take", values="self other", moves=True)
def _expand(write: Writer, call: Operator) -> Value | Tensor:
    source: Value | Tensor = call["self"]
    return broadcast_to(write, source, call.shape) if isinstance(source, Value) else source.expand(call.shape)


@translates("repeat", writes="Take", moves=True)
def _repeat(write: Writer, call: Operator) -> Value:
    x, repeats = call["self"], call["repeats"]
    x = write.reshape(x, (*[1] * (len(repeats) - len(x.shape)), *x.shape))
    for axis, times in enumerate(repeats):
        x = write.take(x, axis, list(range(x.shape[axis])) * times)
    return x


@translates("flip", writes="Take", moves=True)
def _flip(write: Writer, call: Operator) -> Value:
    x: Value = call["self"]
    for axis in call["dims"]:
        x = write.take(x, axis, range(x.shape[axis])[::-1])
    return x


@translates("roll", writes="Take", moves=True)
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
    if math.isinf(value):  # before a maximum: the lowest number is no less than all others, and has differences
        value = math.copysign(torch.finfo(torch.float32).max, value)
    fold = {} if mode == "constant" or x.leads else folding(x, len(sides) // 2)
    if mode != "constant" and (min(sides) < 0 or fold is None):
        return None
    source = x if fold or (x.leads and len(sides) // 2 < len(x.shape)) else write.whole(x)
    padded = write.layer("Padding", [source], call.shape, padding=sides, mode=mode, value=float(value), **fold or {})
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
    fold = folding(x, len(x.shape) - 2)
    if fold is None:
        return None
    mode = call.name.removeprefix("aten::").lstrip("_").removeprefix("upsample_").partition(".")[0][:-2]
    keys: dict[str, Any] = {"size": list(call.shape[2:]), "mode": mode.replace("_", "-"), **fold}
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


@translates(
    "clone",
    "contiguous",
    "alias",
    "detach",
    "lift_fresh_copy",
    moves=True,
)
def _same(write: Writer, call: Operator) -> Value:
    """Give the value back; that a detached one has no gradient the door sees to."""
    source: Value = call["self"]
    return source


@translates(
    "dropout",
    "feature_dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
    "native_dropout",
    writes="Skipping",
)
def _dropout(write: Writer, call: Operator) -> Value | list[Value]:
    x: Value = call.get("input", call.get("self"))
    if call.get("train", False):
        raise refuse(call, "it drops values at random even at prediction time")
    out = Value(write.add({"type": "Skipping"}, [x.layer]), x.shape)
    return [out] if isinstance(call.node.meta["val"], tuple | list) else out


@translates(
    "_to_copy",
    "to.dtype",
    "to.dtype_layout",
    "to.device",
    "to.other",
    "type_as",
    writes="Cast",
    values="self other",
    moves=True,
)
def _cast(write: Writer, call: Operator) -> Value | Tensor:
    x, wanted = call["self"], call.dtype
    if isinstance(x, Tensor):  # cast to the type of a value
        return x if x.is_floating_point() and wanted in _PRECISE else x.to(wanted)
    return cast(write, x, call.dtypes["self"], wanted)


_PRECISE = (torch.float32, torch.float64)


def cast(write: Writer, x: Value, source: torch.dtype, wanted: torch.dtype) -> Value:
    """Write numbers of another type; single and double precision are both that in which the graph computes."""
    same = source == wanted or (source.is_floating_point and wanted in _PRECISE)
    if same or (source.is_complex and wanted.is_complex):
        return x
    return write.layer("Cast", [x], x.shape, dtype=str(wanted).removeprefix("torch."))


@translates("innsight_py::function", writes="Operator", values="tensors", moves=True)
def _function(write: Writer, call: Operator) -> list[Value]:
    """Write a function with a backward of its own, for each of its results."""
    inputs = [x for x in call["tensors"] if isinstance(x, Value)]
    places = iter(range(len(inputs)))
    arguments = [{"input": next(places)} if isinstance(x, Value) else x for x in call["tensors"]]
    shapes = [x.shape for x in inputs]
    return [
        write.layer(
            "Operator", inputs, tuple(int(n) for n in result.shape), operator=CALLS[call["number"]],
            arguments=arguments, shapes=shapes, part=part,
        )
        for part, result in enumerate(call.node.meta["val"])
    ]  # fmt: skip
