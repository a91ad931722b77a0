"""Numbers that go into an embedding: which inputs are tokens, and which only say something about these."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, fx

from innsight_py.converters.torch.writer import MOVES, Operator, operator_name, translates
from innsight_py.converters.writer import Value, Whole, Writer, with_axes

#: Operators that change numbers of tokens into other numbers of tokens, by the arguments that hold these.
_CHANGES = {
    "add.Tensor": ("self", "other"), "add.Scalar": ("self",), "sub.Tensor": ("self",), "sub.Scalar": ("self",),
    "clamp": ("self",), "clamp_min": ("self",), "clamp_max": ("self",), "remainder.Scalar": ("self",),
    "where.self": ("self", "other"), "where.ScalarOther": ("self",), "where.ScalarSelf": ("other",),
    "masked_fill.Scalar": ("self",), "masked_fill.Tensor": ("self",), "abs": ("self",),
}  # fmt: skip


def carried(node: fx.Node, known: dict[str, frozenset[int]]) -> frozenset[int]:
    """Return the inputs whose numbers of tokens a call hands on, as they are or changed one by one."""
    value = node.meta.get("val")
    if not isinstance(node.target, torch._ops.OpOverload):  # a part of several
        return known.get(node.all_input_nodes[0].name, frozenset()) if node.all_input_nodes else frozenset()
    if not isinstance(value, Tensor | list | tuple) or (isinstance(value, Tensor) and value.dtype == torch.bool):
        return frozenset()
    name = operator_name(node)
    if name in MOVES and name not in ("aten::embedding", "aten::one_hot"):
        arguments: tuple[str, ...] = ("self", "tensors", "src", "input")
    else:
        arguments = _CHANGES.get(name.removeprefix("aten::"), ())
    found: frozenset[int] = frozenset()
    for i, argument in enumerate(node.target._schema.arguments):
        given = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name)
        entries = given if isinstance(given, list | tuple) else [given]
        if argument.name in arguments:
            found = found.union(*(known.get(e.name, frozenset()) for e in entries if isinstance(e, fx.Node)))
    return found


def numbers_of(node: fx.Node, constants: Collection[str]) -> fx.Node | None:
    """Return the numbers that a call looks up in a table of constants, one row of it each; None for another call.

    A "one-hot" vector is a row of the table with ones on its diagonal.
    """
    if node.op != "call_function":
        return None
    if node.target is torch.ops.aten.one_hot.default:
        source = node.args[0]
        return source if isinstance(source, fx.Node) and len(node.args) > 1 and node.args[1] != -1 else None
    if node.target is torch.ops.aten.embedding.default:
        table, numbers = node.args[0], node.args[1]
    elif node.target is torch.ops.aten.index.Tensor:
        table, indices = node.args[0], node.args[1]
        numbers = indices[0] if isinstance(indices, list | tuple) and len(indices) == 1 else None
    else:
        return None
    if not isinstance(table, fx.Node) or not isinstance(numbers, fx.Node) or table.name not in constants:
        return None
    given = numbers.meta.get("val")
    whole = isinstance(given, Tensor) and given.dtype != torch.bool and not given.is_floating_point()
    return numbers if whole and len(table.meta["val"].shape) == 2 else None


@translates("embedding", writes="Embedding", values="indices", moves=True)
def _embedding(write: Writer, call: Operator) -> Value | None:
    numbers, weight = call["indices"], call["weight"]
    if not isinstance(weight, Tensor) or not isinstance(numbers, Value):
        return None
    return looked_up(write, call, numbers, weight)


def looked_up(write: Writer, call: Operator, numbers: Value, weight: Tensor) -> Value:
    """Write rows of a table by their numbers."""
    source = write.reshape(numbers, numbers.shape) if isinstance(numbers, Whole) else with_axes(write, numbers)
    vectors = write.layer("Embedding", [source], (*source.shape, weight.shape[1]), weight=weight)
    return write.reshape(vectors, call.shape)


@translates("one_hot", writes="Embedding", moves=True)
def _one_hot(write: Writer, call: Operator) -> Value | None:
    """Write rows of a table with ones on its diagonal, for numbers of tokens."""
    numbers, size = call["self"], call["num_classes"]
    if size == -1 or not isinstance(numbers, Value):
        return None
    return looked_up(write, call, numbers, torch.eye(size))


def product_of_one_hot(write: Writer, call: Operator) -> Value | None:
    """Write a product of one-hot vectors and a table as rows of the table, where a call is one."""
    x, table = (call.get(key) for key in _FACTORS[call.name.removeprefix("aten::")])
    if not isinstance(x, Value) or not isinstance(table, Tensor) or table.dim() != 2:
        return None
    layer = write.by_name.get(x.layer)
    while layer is not None and layer["type"] in ("Cast", "Reshape"):
        layer = write.by_name.get(layer["inputs"][0])
    weight = table.T if call.name == "aten::linear" else table
    if layer is None or layer["type"] != "Embedding" or not torch.equal(layer["weight"], torch.eye(len(weight))):
        return None
    vectors = write.layer("Embedding", [Value(layer["inputs"][0], ())], call.shape, weight=weight)
    found = write.reshape(Whole(vectors.layer, call.shape), call.shape)
    return found if call.get("bias") is None else write.scale(found, None, call["bias"])


_FACTORS = {"linear": ("input", "weight"), "matmul": ("self", "other"), "mm": ("self", "mat2")}
#: Products in which one-hot vectors may stand for rows of a table.
PRODUCTS = tuple(_FACTORS)
