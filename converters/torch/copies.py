"""Copies of a user's module, which itself stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from innsight_py.spec import SpecError


def independent_copy(model: nn.Module) -> nn.Module:
    """Copy a module, with the values that it keeps from an earlier pass detached."""
    lazy = next((name for name, p in model.named_parameters() if is_lazy(p)), None)
    if lazy is not None:
        raise SpecError(
            f"The module's parameter '{lazy}' has no shape yet, because it is in a lazy layer: run the module once on "
            "data before it is converted."
        )
    kept: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            _keep(value, kept, set())
    try:
        with torch.no_grad():  # scripted modules would record their copying
            copied = copy.deepcopy(model, kept)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise SpecError(f"The module cannot be copied: {error}") from error
    if any(p.is_meta for p in (*copied.parameters(), *copied.buffers())):
        raise SpecError("The module has parameters on the device 'meta', which are shapes without numbers.")
    return copied


def _keep(value: Any, kept: dict[int, Any], seen: set[int]) -> None:
    """Note copies of the tensors of an earlier pass, in containers as well, that cannot be copied as they are."""
    if id(value) in seen or isinstance(value, nn.Module):
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        if not value.is_leaf:
            kept[id(value)] = value.detach().clone()
    elif isinstance(value, Mapping):
        for entry in value.values():
            _keep(entry, kept, seen)
    elif isinstance(value, list | tuple | set):
        for entry in value:
            _keep(entry, kept, seen)
    elif hasattr(value, "__dict__") and not isinstance(value, type | ModuleType | FunctionType):
        _keep(vars(value), kept, seen)


def to_precision(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Change a module to a precision; complex weights stay complex, which ``module.to`` makes real."""

    def change(x: Tensor) -> Tensor:
        return x.to(dtype.to_complex()) if x.is_complex() else x.to(dtype) if x.is_floating_point() else x

    changed: nn.Module = module._apply(change)  # type: ignore[no-untyped-call]
    return changed


def private_copy(model: nn.Module) -> nn.Module:
    """Copy a module onto the CPU, in evaluation mode and at least single precision."""
    copied = independent_copy(model)
    half = any(p.dtype in (torch.float16, torch.bfloat16) for p in copied.parameters())
    copied = copied.cpu().eval().requires_grad_(False)
    return copied.float() if half else copied


def with_identities(module: nn.Module) -> nn.Module:
    """Let identities in a copied module leave a trace of their own, so that their names mean a value."""
    for part in module.modules():
        if type(part) is nn.Identity:
            part.forward = _alias  # type: ignore[assignment]
    return module


def _alias(value: Any) -> Any:
    return torch.ops.aten.alias.default(value) if isinstance(value, Tensor) else value
