"""The table of ONNX operators: comparisons, casts and what else has no gradient but decides what is computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from innsight_py.converters.onnx.arithmetic import term
from innsight_py.converters.onnx.writer import Call, OnnxWriter, Result, reads, refuse
from innsight_py.converters.writer import broadcast

#: ONNX's numbers of its floating-point types.
FLOATING = (1, 10, 11, 16)  # float, float16, double, bfloat16
BOOL = 9

_COMPARISONS = {
    "Greater": "gt.Tensor", "GreaterOrEqual": "ge.Tensor", "Less": "lt.Tensor", "LessOrEqual": "le.Tensor",
    "Equal": "eq.Tensor", "And": "logical_and", "Or": "logical_or", "Xor": "logical_xor",
}  # fmt: skip


@reads(*_COMPARISONS, writes="Operator")
def _comparison(write: OnnxWriter, call: Call) -> Result:
    pair: list[Any] = [term(call, 0), term(call, 1)]
    pair = [x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in pair]
    return write.operator(_COMPARISONS[call.name], pair, broadcast(*(tuple(x.shape) for x in pair)))


@reads("Not", "IsNaN", writes="Operator")
def _condition(write: OnnxWriter, call: Call) -> Result:
    return write.operator({"Not": "logical_not", "IsNaN": "isnan"}[call.name], [call.x], call.x.shape)


@reads("IsInf", writes="Operator")
def _is_infinite(write: OnnxWriter, call: Call) -> Result:
    signs = call.get("detect_positive", 1), call.get("detect_negative", 1)
    name = {(1, 1): "isinf", (1, 0): "isposinf", (0, 1): "isneginf"}.get(signs)
    if name is None:
        return torch.zeros(call.x.shape, dtype=torch.bool)
    return write.operator(name, [call.x], call.x.shape)


@reads("Cast", "CastLike", writes="Operator")
def _cast(write: OnnxWriter, call: Call) -> Result:
    x, target, source = call.x, call.get("result_type"), call.get("input_type")
    if target == source:
        return x
    if target not in FLOATING and not call.given:
        raise refuse(call, "it turns values that depend on the input into whole numbers, which have no gradient")
    if target == BOOL:
        return write.operator("ne.Scalar", [x, 0], x.shape)
    if source == BOOL:
        return write.operator("where.self", [x, torch.ones(()).double(), torch.zeros(()).double()], x.shape)
    return write.operator("trunc", [x], x.shape) if source in FLOATING and target not in FLOATING else x
