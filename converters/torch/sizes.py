"""Sizes in a file of ``torch.export.save``: formulas of whole numbers and symbols, and the operators that compute them.

A formula, ``"Add(Mul(Integer(2), Symbol('s31', positive=True, integer=True)), Integer(1))"`` or ``"2*s31 + 1"``, is
only looked at, never computed: what a size is follows from the data. What the program itself computes with sizes is
done here, with whole numbers that must stay below 2**63.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from typing import Any

import torch

#: The longest formula; torch writes a few hundred characters where a size is very involved.
_LONGEST = 10_000
_OPERATIONS = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod)
_FUNCTIONS = {
    "Add", "Mul", "Max", "Min", "Mod", "PythonMod", "FloorDiv", "CeilDiv", "CleanDiv", "IntTrueDiv", "Equality",
    "Inequality", "GreaterThan", "LessThan", "StrictGreaterThan", "StrictLessThan", "And", "Or", "Not",
}  # fmt: skip
_LARGEST_POWER = 8
LIMIT = 2**63
_SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool)


def is_size(text: Any) -> bool:
    """Tell whether a text is a formula of whole numbers and symbols.

    Examples
    --------
    >>> is_size("Symbol('s0', integer=True)*2 + 1"), is_size("9**9**9**9"), is_size("__import__('os')")
    (True, False, False)
    """
    if not isinstance(text, str) or len(text) > _LONGEST:
        return False
    try:
        return _fits(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False


def _fits(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub | ast.UAdd) and _fits(node.operand)
    if isinstance(node, ast.BinOp):
        sides = _fits(node.left) and _fits(node.right)
        return sides and (isinstance(node.op, _OPERATIONS) or (isinstance(node.op, ast.Pow) and _is_power(node.right)))
    if isinstance(node, ast.Name):
        return re.fullmatch(r"[su]\d+|true|false", node.id) is not None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call_fits(node.func.id, node)
    return _whole_number(node) is not None


def _call_fits(name: str, node: ast.Call) -> bool:
    if name == "Symbol":
        symbol = node.args[0] if len(node.args) == 1 else None
        named = isinstance(symbol, ast.Constant) and isinstance(symbol.value, str)
        flags = all(k.arg is not None and isinstance(k.value, ast.Constant) for k in node.keywords)
        return named and flags and re.fullmatch(r"[a-z]+\d+", symbol.value) is not None  # type: ignore[union-attr]
    if node.keywords or not all(_fits(entry) for entry in node.args):
        return False
    if name == "Integer":
        return len(node.args) == 1 and _whole_number(node.args[0]) is not None
    if name == "Pow":
        return len(node.args) == 2 and _is_power(node.args[1])
    return name in _FUNCTIONS


def _whole_number(node: ast.expr) -> int | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _whole_number(node.operand)
        return None if number is None else -number
    value = node.value if isinstance(node, ast.Constant) else None
    return value if type(value) is int and value < LIMIT else None


def _is_power(node: ast.expr) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Integer" and node.args:
        node = node.args[0]
    number = _whole_number(node)
    return number is not None and abs(number) <= _LARGEST_POWER


# -- computing with sizes --------------------------------------------------------------------------------------------


def _of_numbers(compute: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function take and give nothing but numbers below 2**63."""

    def bounded(*numbers: Any) -> Any:
        if any(isinstance(n, _SYMBOLS) for n in numbers):  # while torch traces what depends on a mask of the program
            return compute(*numbers)
        if not all(isinstance(n, bool | int | float) and abs(n) < LIMIT for n in numbers):
            raise ValueError("a size is computed of something else than numbers below 2**63")
        result = compute(*numbers)
        if isinstance(result, complex) or not abs(result) < LIMIT:
            raise ValueError("a size is not below 2**63")
        return result

    return bounded


def _power(base: float, exponent: float) -> Any:
    if abs(exponent) > _LARGEST_POWER:
        raise ValueError(f"a size is taken to a power above {_LARGEST_POWER}")
    return base**exponent


def _sum(numbers: list[Any]) -> Any:
    return _of_numbers(lambda *n: sum(n))(*numbers)


#: What a program may compute with sizes, by the names that torch writes.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        f"_operator.{name}": _of_numbers(getattr(operator, name))
        for name in ("add", "sub", "mul", "floordiv", "mod", "truediv", "neg", "pos", "eq", "ne", "le", "ge", "lt",
                     "gt", "and_", "or_")
    },
    "_operator.pow": _of_numbers(_power),
    "math.trunc": _of_numbers(math.trunc), "math.floor": _of_numbers(math.floor), "math.ceil": _of_numbers(math.ceil),
    **{
        f"torch.{name}": _of_numbers(getattr(torch, name))
        for name in ("sym_int", "sym_float", "sym_sqrt", "sym_max", "sym_min", "sym_not", "sym_ite")
    },
    "torch.sym_sum": _sum,
    "torch.ops.aten.sym_size.int": lambda x, axis: x.shape[axis],
    "torch.ops.aten.sym_stride.int": lambda x, axis: x.stride(axis),
    "torch.ops.aten.sym_numel.default": lambda x: x.numel(),
    "torch.ops.aten.sym_storage_offset.default": lambda x: x.storage_offset(),
}  # fmt: skip
