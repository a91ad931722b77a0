"""Functions and bound methods as modules: of what they call a copy can be made, as of a module."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

from torch import nn


class Function(nn.Module):
    """A function whose modules are parts of it: those that it holds, or finds under a name of its own.

    Copies call copies of these modules, so that a user's own are never touched.

    Parameters
    ----------
    call : callable
        A bound method of a module, a function, a lambda, a partial of one, or an object that can be called.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__()
        self.call = call
        for name, module in _modules(call):
            if not any(module is other for other in self.children()):
                self.add_module(name, module)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.call(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Function:
        for module in self.children():
            copy.deepcopy(module, memo)  # noted in `memo`
        return Function(_rebound(self.call, memo))


def _modules(call: Any) -> Iterator[tuple[str, nn.Module]]:
    """Give the modules that a callable calls."""
    if isinstance(call, MethodType):
        if isinstance(call.__self__, nn.Module):
            yield type(call.__self__).__name__, call.__self__
        else:
            yield from _held(vars(call.__self__) if hasattr(call.__self__, "__dict__") else {})
    elif isinstance(call, functools.partial):
        yield from _modules(call.func)
        yield from _held({f"argument_{i + 1}": value for i, value in enumerate(call.args)} | call.keywords)
    elif isinstance(call, FunctionType):
        found = inspect.getclosurevars(call)
        yield from _held({**found.globals, **found.nonlocals})
    elif not isinstance(call, type) and hasattr(call, "__dict__"):
        yield from _held(vars(call))


def _held(values: dict[str, Any]) -> Iterator[tuple[str, nn.Module]]:
    for name, value in values.items():
        if isinstance(value, nn.Module):
            yield name, value
        elif isinstance(value, MethodType | FunctionType | functools.partial):
            yield from _modules(value)


def _rebound(call: Any, memo: dict[int, Any]) -> Any:
    """Return a callable that calls the copies in `memo`."""
    if isinstance(call, MethodType):
        return MethodType(call.__func__, copy.deepcopy(call.__self__, memo))
    if isinstance(call, functools.partial):
        args = [_copied(value, memo) for value in call.args]
        keywords = {key: _copied(value, memo) for key, value in call.keywords.items()}
        return functools.partial(_rebound(call.func, memo), *args, **keywords)
    if isinstance(call, FunctionType):
        names = {name for code in _codes(call.__code__) for name in code.co_names}
        found = {name: _copied(call.__globals__[name], memo) for name in names if name in call.__globals__}
        cells = tuple(CellType(_copied(cell.cell_contents, memo)) for cell in call.__closure__ or ())
        changed = FunctionType(call.__code__, {**call.__globals__, **found}, call.__name__, call.__defaults__, cells)
        changed.__kwdefaults__ = call.__kwdefaults__
        return changed
    return copy.deepcopy(call, memo)


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    if isinstance(value, nn.Module):
        return memo.get(id(value), value)
    if isinstance(value, MethodType) and isinstance(value.__self__, nn.Module):
        return _rebound(value, memo)
    return value


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Give the code of a function, and of the functions within."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
