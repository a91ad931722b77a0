"""What a program in a file may call: operators that we know, and functions of sizes."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import torch

from innsight_py._checks import describe
from innsight_py.converters.torch import arithmetic, operators, routing, structure  # noqa: F401 (fill the table)
from innsight_py.converters.torch.archive import UnfitError
from innsight_py.converters.torch.sizes import FUNCTIONS
from innsight_py.converters.torch.writer import TABLE
from innsight_py.spec.operators import OPERATORS

#: Operators that are no layer of their own but that a program may have: those that make tensors of nothing, those that
#: torch takes apart into smaller ones (or whose dropout says for itself whether it is at work), and checks of sizes,
#: which tell torch what a size is.
_MORE = """
    arange arange.start arange.start_step eye eye.m full hann_window hann_window.periodic linspace logspace ones
    scalar_tensor tril_indices triu_indices zeros gru.input lstm.input rnn_relu.input rnn_tanh.input
    _assert_scalar
"""
_ALLOWED = OPERATORS | TABLE.keys() | {f"aten::{name}" for name in _MORE.split()}
#: Operators that only check something, and are left out.
_CHECKS = """
    _assert_tensor_metadata.default _assert_async.default _assert_async.msg sym_constrain_range.default
    sym_constrain_range_for_size.default
"""
_LEFT_OUT = frozenset(f"torch.ops.aten.{name}" for name in _CHECKS.split())


@functools.lru_cache(1000)
def function_of(target: str) -> Callable[..., Any] | None:
    """Find what a node of a program calls; None for a check, which is left out.

    Raises
    ------
    UnfitError
        If that is neither an operator that we know nor a function of sizes.
    """
    if target in _LEFT_OUT:
        return None
    if target in FUNCTIONS:
        return FUNCTIONS[target]
    named = re.fullmatch(r"torch\.ops\.aten\.(\w+?)(?:\.(\w+))?", target)
    if named is None:
        raise UnfitError(f"the operator {describe(target)}, which is not one of ATen")
    name, overload = named[1], named[2] or "default"
    full = f"aten::{name}" + ("" if overload == "default" else f".{overload}")
    plain = full.replace(name, name.removesuffix("_"), 1)  # one that works in place has the plain one's entry
    if full not in _ALLOWED and plain not in _ALLOWED:
        raise UnfitError(f"the operator {describe(target)}, which innsight_py does not know")
    found = getattr(getattr(torch.ops.aten, name, None), overload, None)
    if not isinstance(found, torch._ops.OpOverload):
        raise UnfitError(f"the operator {describe(target)}, which this torch does not have")
    written = [a.alias_info is not None and a.alias_info.is_write for a in found._schema.arguments]
    if any(written[1:]):
        raise UnfitError(f"the operator {describe(target)}, which changes more than its first argument")
    return found
