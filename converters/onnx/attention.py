"""The table of ONNX operators: attention and the embedding of positions by rotation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from innsight_py.converters.compositions import concatenate, softmax
from innsight_py.converters.onnx.arithmetic import Term, difference, multiplied, product, term, total
from innsight_py.converters.onnx.writer import Call, OnnxWriter, Result, reads, refuse
from innsight_py.converters.writer import Value


def _reshaped(write: OnnxWriter, x: Term, shape: tuple[int, ...]) -> Term:
    return x.reshape(shape) if isinstance(x, Tensor) else write.reshape(x, shape)


def _permuted(write: OnnxWriter, x: Term, order: list[int]) -> Term:
    return x.permute(order) if isinstance(x, Tensor) else write.permute(x, order)


def _heads(write: OnnxWriter, call: Call, i: int, key: str) -> Term:
    """Return an input as ``(batch, heads, positions, features)``."""
    x = term(call, i)
    if len(x.shape) != 3:
        return x
    batch, length, size = x.shape
    heads = int(call.get(key, 0))
    if not heads or size % heads:
        raise refuse(call, f"its {key} {heads} does not divide {size}")
    return _permuted(write, _reshaped(write, x, (batch, length, heads, size // heads)), [0, 2, 1, 3])


def _with_past(write: OnnxWriter, call: Call, x: Term, i: int) -> Term:
    past = call[i]
    if past is None:
        return x
    shape = (*x.shape[:2], past.shape[2] + x.shape[2], x.shape[3])
    if isinstance(past, Tensor) and isinstance(x, Tensor):
        return torch.cat([past, x], 2)
    return concatenate(write, [past, x], 2, shape)


def _hidden(call: Call, rows: int, columns: int) -> Tensor:
    """Return which positions of keys a query is not to see, whatever the mask says."""
    past = 0 if call[4] is None else columns - rows
    lengths = call.optional(6, "lengths")  # of the keys that are no padding, one a row of the batch
    start = torch.tensor(past) if lengths is None else lengths.reshape(-1, 1, 1, 1) - rows
    offset = torch.arange(columns) - (start + torch.arange(rows)[:, None])
    hidden = torch.zeros_like(offset, dtype=torch.bool)
    if call.get("is_causal", 0):
        hidden = hidden | (offset > 0)
    if lengths is not None:
        hidden = hidden | (torch.arange(columns) >= lengths.reshape(-1, 1, 1, 1))
    for key, sign in (("left_window_size", -1), ("right_window_size", 1)):
        width = call.get(key, -1)
        if width is not None and int(width) >= 0:
            hidden = hidden | (sign * offset > int(width))
    return hidden


def _masked(write: OnnxWriter, call: Call, logits: Term, hidden: Tensor) -> tuple[Term, Tensor | None]:
    """Write the mask: what a query is not to see is minus infinity. A query that sees nothing is told of as well."""
    mask = call[3]
    columns = logits.shape[-1]
    if isinstance(mask, Value):
        if call.kinds[3] == _BOOL:
            zero = torch.zeros((), dtype=torch.float64)
            mask = write.operator("where.self", [mask, zero, torch.full_like(zero, -math.inf)], mask.shape)
        if mask.shape[-1] != columns:
            raise refuse(call, "its mask is shorter than its keys and depends on the data")
        logits = total(write, logits, mask)
        mask = None
    shift = torch.where(hidden, -math.inf, 0.0).double()
    if mask is not None:
        given = torch.where(mask, 0.0, -math.inf) if mask.dtype == torch.bool else mask
        given = torch.nn.functional.pad(given.double(), (0, columns - given.shape[-1]), value=-math.inf)
        shift = shift + given
    blind = (shift == -math.inf).all(-1, keepdim=True)
    if bool(blind.any()):
        shift = torch.where(blind, 0.0, shift)
    if not bool((shift == 0).all()):
        logits = total(write, logits, shift)
    return logits, blind if bool(blind.any()) else None


@reads("Attention", writes="Activation Add Concatenate Dense MatMul Operator")
def _attention(write: OnnxWriter, call: Call) -> list[Result | None]:
    query = _heads(write, call, 0, "q_num_heads")
    key, value = (_heads(write, call, i, "kv_num_heads") for i in (1, 2))
    key, value = _with_past(write, call, key, 4), _with_past(write, call, value, 5)
    present: list[Result | None] = [key, value]
    heads, groups = query.shape[1], key.shape[1]
    if heads != groups:
        key, value = (_repeated(write, x, heads // groups) for x in (key, value))
    rows, columns = query.shape[2], key.shape[2]
    scale, cap = call.get("scale"), float(call.get("softcap", 0.0))
    factor = torch.tensor(1 / math.sqrt(query.shape[-1]) if scale is None else float(scale)).double()
    logits: Term = product(write, multiplied(write, call, query, _permuted(write, key, [0, 1, 3, 2])), factor)
    stages = [logits]
    if cap:
        assert isinstance(logits, Value)
        logits = write.scale(write.activation(write.scale(logits, 1 / cap), "tanh"), cap)
    stages.append(logits)
    logits, blind = _masked(write, call, logits, _hidden(call, rows, columns))
    stages.append(logits)
    assert isinstance(logits, Value)
    weights = softmax(write, logits, -1, "softmax")
    if blind is not None:
        weights = write.scale(weights, (~blind).double())
    stages.append(weights)
    y = multiplied(write, call, weights, value)
    if len(term(call, 0).shape) == 3:
        batch, _, _, size = y.shape
        y = write.reshape(write.permute(y, [0, 2, 1, 3]), (batch, rows, heads * size))
    return [y, *present, stages[int(call.get("qk_matmul_output_mode", 0))]]


_BOOL = 9


def _repeated(write: OnnxWriter, x: Term, times: int) -> Term:
    """Write each head several times, for the queries that share it."""
    if isinstance(x, Tensor):
        return x.repeat_interleave(times, 1)
    return write.take(x, 1, [head for head in range(x.shape[1]) for _ in range(times)])


@reads("RotaryEmbedding", writes="Add Concatenate")
def _rotary_embedding(write: OnnxWriter, call: Call) -> Result:
    x = call.x
    packed = len(x.shape) == 3
    heads = int(call.get("num_heads", 0))
    if packed:
        batch, length, size = x.shape
        if not heads:
            raise refuse(call, "it lacks its num_heads")
        x = write.permute(write.reshape(x, (batch, length, heads, size // heads)), [0, 2, 1, 3])
    batch, heads, length, size = x.shape
    cosine, sine = call.fixed(1, "cosines"), call.fixed(2, "sines")
    positions = call.optional(3, "positions")
    if positions is not None:
        cosine, sine = cosine[positions.long()], sine[positions.long()]
    turned = int(call.get("rotary_embedding_dim", 0)) or size
    cosine, sine = (c[..., : turned // 2].reshape(-1, 1, length, turned // 2) for c in (cosine, sine))
    pairs = bool(call.get("interleaved", 0))
    first, second = (range(0, turned, 2), range(1, turned, 2)) if pairs else (
        range(turned // 2), range(turned // 2, turned)
    )  # fmt: skip
    a, b = write.take(x, 3, first), write.take(x, 3, second)
    real = difference(write, write.scale(a, cosine), write.scale(b, sine))
    imaginary = total(write, write.scale(a, sine), write.scale(b, cosine))
    shape = (batch, heads, length, turned)
    y = concatenate(write, [real, imaginary], 3, shape)
    if pairs:  # back to where they were: the first halves and the second ones in turns
        half = turned // 2
        y = write.take(y, 3, [i // 2 + half * (i % 2) for i in range(turned)])
    if turned < size:
        y = concatenate(write, [y, write.take(x, 3, range(turned, size))], 3, (batch, heads, length, size))
    if packed:
        y = write.reshape(write.permute(y, [0, 2, 1, 3]), (batch, length, heads * size))
    return y
