"""What is chosen by what each row brings: masks, positions, the entries that a router takes.

The readers here come before those of the table, which know constants only. A mask or a number that comes with the row
has no gradient; everything goes to what was chosen.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from innsight_py.converters.compositions import matrix_product, softmax
from innsight_py.converters.torch.tokens import PRODUCTS, looked_up, numbers_of, product_of_one_hot
from innsight_py.converters.torch.writer import Operator, dtype_of, translates
from innsight_py.converters.writer import Value, Writer, as_constant, for_instance

_WHERE = ("where.self", "where.ScalarOther", "where.ScalarSelf", "masked_fill.Scalar", "masked_fill.Tensor")
_LOOKUPS = ("gather", "index.Tensor", "index_select", "take_along_dim")
#: A logit so low that its exponential is 0 beside any other, and that has differences.
LOW = -1e30


def by_row(write: Writer, call: Operator) -> Value | None:
    """Write a call whose mask or numbers come with each row; None for any other call."""
    name = call.name.removeprefix("aten::")
    if name in _WHERE:
        return _chosen(write, call)
    if name in _LOOKUPS:
        return _looked_up(write, call)
    if name in PRODUCTS:
        return product_of_one_hot(write, call)
    if name == "scaled_dot_product_attention" and is_given(write, call["attn_mask"]):
        return _attention(write, call)
    return None


def is_given(write: Writer, value: Any) -> bool:
    """Tell whether a value comes with each row and has no gradient: a mask, or comparisons of inputs."""
    if not isinstance(value, Value):
        return False
    waiting, seen = [value.layer], {value.layer}
    while waiting:
        layer = write.by_name.get(waiting.pop())
        if layer is None or layer["type"] == "Detach":
            continue
        if layer["type"] not in _OF_NUMBERS:
            return False
        waiting += [source for source in layer["inputs"] if source not in seen]
        seen.update(layer["inputs"])
    return True


#: Layers that may stand between an input and a mask that is made of it.
_OF_NUMBERS = ("Cast", "Flatten", "Operator", "Permute", "Reshape", "Take")


def choose_by_row(write: Writer, mask: Value, x: Value | Any, y: Value | Any, shape: tuple[int, ...]) -> Value:
    """Write entries of `x` where a mask holds that comes with the row, of `y` elsewhere; one may be a constant."""
    rank = len(Value("", shape).dim)
    if isinstance(x, Value) and isinstance(y, Value):
        return write.layer("Choose", [mask, x, y], shape)
    constant = as_constant(y if isinstance(x, Value) else x)
    assert constant is not None
    side = x if isinstance(x, Value) else y
    negated = {} if isinstance(x, Value) else {"negated": True}
    return write.layer("Choose", [mask, side], shape, otherwise=for_instance(constant, rank), **negated)


def _chosen(write: Writer, call: Operator) -> Value | None:
    mask, x, y = (call[key] for key in (("condition", "self", "other") if "where" in call.name
                                        else ("mask", "value", "self")))  # fmt: skip
    sides = [side for side in (x, y) if isinstance(side, Value)]
    kinds = [dtype_of(n) for name, n in call.numbers() if name not in ("condition", "mask")]
    if not is_given(write, mask) or not sides or not all(kind.is_floating_point for kind in kinds):
        return None
    return choose_by_row(write, mask, x, y, call.shape)


def _looked_up(write: Writer, call: Operator) -> Value | None:
    """Write entries whose numbers come with the row: the call itself is run on the numbers of all entries."""
    x = call["self"]
    if numbers_of(call.node, [n.name for n in call.node.all_input_nodes if isinstance(x, Tensor)]) is not None:
        return looked_up(write, call, call["indices"][0], x)
    others = [(name, n) for name, n in call.numbers() if name != "self"]
    if not isinstance(x, Value) or not call.dtype.is_floating_point or not others:
        return None
    inputs: list[Value] = []

    def argument(value: Any) -> Any:
        if isinstance(value, Value):
            inputs.append(value)
            return {"input": len(inputs) - 1}
        return [argument(entry) for entry in value] if isinstance(value, list | tuple) else value

    numbers = torch.arange(math.prod(x.shape)).reshape(x.shape)
    overload = call.node.target
    assert isinstance(overload, torch._ops.OpOverload)
    arguments = [
        numbers if a.name == "self" else argument(call[a.name]) for a in overload._schema.arguments if not a.kwarg_only
    ]
    if not all(is_given(write, value) for value in inputs):
        return None
    found = write.layer(
        "Operator", inputs, call.shape, operator=call.name, arguments=arguments, shapes=[v.shape for v in inputs],
    )  # fmt: skip
    flat = write.reshape(x, (1, math.prod(x.shape)))
    if not found.dim:
        found = write.reshape(found, (1, 1))
        return write.reshape(write.layer("Gather", [flat, found], (1, 1)), call.shape)
    return write.layer("Gather", [flat, found], call.shape)


# -- attention -------------------------------------------------------------------------------------------------------


@translates(
    "scaled_dot_product_attention",
    writes="Activation Add Choose Dense MatMul Operator Scale Take",
    values="query key value",
)
def attention(write: Writer, call: Operator) -> Value | None:
    """Write attention whose mask, if there is one, is a constant."""
    return _attention(write, call)


def _attention(write: Writer, call: Operator) -> Value | None:
    """Write attention as its two products and a softmax; a mask is a constant, or comes with each row."""
    query, key, value, mask = call["query"], call["key"], call["value"], call["attn_mask"]
    if call["dropout_p"]:
        return None
    query, key, value = (v if isinstance(v, Value) else write.constant(v) for v in (query, key, value))
    if isinstance(mask, Value) and not is_given(write, mask):
        return None
    if call.get("enable_gqa"):
        key, value = (_repeated(write, x, query.shape[-3]) for x in (key, value))
    rows, columns = query.shape[-2], key.shape[-2]
    if call["is_causal"]:
        mask = torch.ones(rows, columns, dtype=torch.bool).tril()
    rank = len(key.shape)
    turned = write.permute(key, [*range(rank - 2), rank - 1, rank - 2])
    scale = call["scale"] if call["scale"] is not None else 1 / math.sqrt(query.shape[-1])
    logits = matrix_product(write, query, turned, (*query.shape[:-1], columns))
    if logits is None:
        return None
    if isinstance(mask, Value):
        weights = _masked_softmax(write, write.scale(logits, scale), mask, dict(call.numbers()).get("attn_mask"))
        return matrix_product(write, weights, value, call.shape)
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.where(mask, 0.0, -math.inf)
    weights = softmax(write, write.scale(logits, scale, mask), -1, "softmax")
    return matrix_product(write, weights, value, call.shape)


def _repeated(write: Writer, x: Value, heads: int) -> Value:
    """Write heads that several heads of the query share, once for each of them."""
    axis = len(x.shape) - 3
    own = x.shape[axis]
    return write.take(x, axis, [i for i in range(own) for _ in range(heads // own)])


def _masked_softmax(write: Writer, logits: Value, mask: Value, node: Any) -> Value:
    """Write the weights of attention; a row in which all is masked has none, as in torch."""
    keep = mask
    if dtype_of(node) != torch.bool:
        logits = write.add_values([logits, mask])
        keep = write.layer(
            "Operator", [mask], mask.shape, operator="aten::gt.Scalar", arguments=[{"input": 0}, -math.inf],
            shapes=[mask.shape],
        )  # fmt: skip
    shape = logits.shape
    weights = softmax(write, choose_by_row(write, keep, logits, LOW, shape), -1, "softmax")
    return choose_by_row(write, keep, weights, 0.0, shape)
