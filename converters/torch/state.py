"""All that the answers of a PyTorch module depend on, as a key: two equal keys of one module mean one conversion.

What cannot be read with certainty has no key, and such a module is converted again each time. The weights count by
their content, as ``p.data`` and arrays that share their memory change them without leaving a trace. The code of every
method counts, and what it looks up: values of globals and closures, other functions, attributes of classes.
"""

from __future__ import annotations

import builtins
import dis
import enum
import sys
import types
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor, nn

from innsight_py.converters.torch.contents import Contents, digest

#: Values that are what they say.
_PLAIN = (type(None), bool, int, str, bytes, complex, torch.dtype, torch.device, torch.Size, torch.memory_format)
#: Builtins through which code comes to values that it does not name.
_HIDDEN = {"globals", "locals", "vars", "eval", "exec", "compile", "getattr", "setattr", "delattr", "open", "input",
           "__import__", "__build_class__", "id", "dir", "print"}  # fmt: skip
_MODULES = ("torch", "math")
#: What Python writes into a class, and what no forward pass calls.
_BESIDE = {"__doc__", "__module__", "__qualname__", "__dict__", "__weakref__", "__annotations__", "__parameters__",
           "__orig_bases__", "__firstlineno__", "__static_attributes__", "__init__", "__repr__", "extra_repr",
           "__constants__", "__annotate__", "__annotations_cache__"}  # fmt: skip
_DEEPEST = 50
#: Where a function of torch could have been replaced.
_PLACES: tuple[Any, ...] = (torch, nn.functional, Tensor, nn.Module, nn)


class _UnknownError(Exception):
    """Something that cannot be read with certainty."""


def key_of(module: nn.Module, contents: Contents | None = None) -> Hashable | None:
    """Return what the answers of a module depend on; None where this cannot be said.

    With `contents` large tensors are left to these: the key is that of the module as it is at any time, until they are
    settled.

    Examples
    --------
    >>> module = nn.Linear(2, 1)
    >>> before = key_of(module)
    >>> before == key_of(module)
    True
    >>> _ = module.weight.data.add_(1.0)
    >>> before == key_of(module)
    False
    """
    try:
        return _surroundings(), _Reader(contents).module(module)
    except Exception:  # what cannot be read may fail in any way; then there is no key
        return None


def _surroundings() -> Hashable:
    """Return what is one for all modules: torch's functions and settings. Under modes and hooks nothing is known."""
    hooks = [value for name, value in vars(nn.modules.module).items() if name.startswith("_global_") and "hook" in name]
    if any(hook for hook in hooks if not callable(hook)) or torch._C._len_torch_function_stack():
        raise _UnknownError
    if torch._C._len_torch_dispatch_stack() or torch.is_inference_mode_enabled() or torch.is_autocast_enabled("cpu"):
        raise _UnknownError
    found = [(name, value) for place in _PLACES for name, value in vars(place).items() if callable(value)]
    functions = tuple(_Same(value) for name, value in found if name != "manual_seed")  # the first export wraps it
    return functions, torch.get_default_dtype(), torch.is_grad_enabled()


class _Same:
    """A value that equals itself alone, and stays alive so that no other takes its place in memory."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


class _Reader:
    """Reads one module."""

    def __init__(self, contents: Contents | None) -> None:
        self.numbers = digest if contents is None else contents.of
        self.seen: dict[int, int] = {}
        self.alive: list[Any] = []
        self.depth = 0

    def again(self, value: Any) -> Hashable | None:
        """Return the number of something that was read before."""
        if id(value) in self.seen:
            return "again", self.seen[id(value)]
        self.seen[id(value)] = len(self.seen)
        self.alive.append(value)
        return None

    def module(self, module: nn.Module) -> Hashable:
        """Read a module: its class, its attributes, its parts."""
        if (before := self.again(module)) is not None:
            return before
        parts: list[Hashable] = [self.kind(type(module))]
        for name, value in vars(module).items():
            if "_hooks" in name:
                if value:
                    raise _UnknownError
            else:
                parts.append((name, self.value(value)))
        return tuple(parts)

    def value(self, value: Any) -> Hashable:
        """Read a value of any kind."""
        if type(value) in _PLAIN or isinstance(value, enum.Enum):
            return type(value), value
        if type(value) is float:
            return float, value.hex()
        if isinstance(value, Tensor):
            return self.tensor(value)
        if isinstance(value, nn.Module):
            return self.module(value)
        if type(value) in (list, tuple, dict, OrderedDict, set, frozenset):
            return self.container(value)
        if isinstance(value, types.FunctionType):
            return self.function(value)
        if isinstance(value, types.BuiltinFunctionType) and _is_known(value.__module__ or "torch"):
            return _Same(value)
        if isinstance(value, type):
            return self.kind(value)
        raise _UnknownError

    def container(self, value: Any) -> Hashable:
        """Read what is in a container."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _UnknownError
        try:
            if isinstance(value, dict):
                return type(value), tuple((self.value(name), self.value(entry)) for name, entry in value.items())
            entries = (self.value(entry) for entry in value)
            return type(value), frozenset(entries) if isinstance(value, set | frozenset) else tuple(entries)
        finally:
            self.depth -= 1

    def tensor(self, x: Tensor) -> Hashable:
        """Read the numbers of a tensor."""
        if (before := self.again(x)) is not None:
            return before
        if type(x) not in (Tensor, nn.Parameter) or x.layout != torch.strided or x.device.type != "cpu":
            raise _UnknownError
        if x.is_quantized or x.is_conj() or x.is_neg() or x._backward_hooks or not x.is_leaf or vars(x):
            raise _UnknownError
        return type(x), x.dtype, tuple(x.shape), x.stride(), x.requires_grad, self.numbers(x)

    def kind(self, kind: type) -> Hashable:
        """Read a class: those of torch have what torch wrote, others what is in them and in their bases."""
        if (before := self.again(kind)) is not None:
            return before
        if type(kind) is not type:
            raise _UnknownError
        parts: list[Hashable] = [_Same(kind)]
        for base in kind.__mro__:
            if base in (object, nn.Module):
                continue
            if _is_of_torch(base):
                parts += [_Same(value) for value in vars(base).values()]
                continue
            if not issubclass(base, nn.Module):
                raise _UnknownError
            parts += [(name, self.member(value)) for name, value in vars(base).items() if name not in _BESIDE]
        return tuple(parts)

    def member(self, value: Any) -> Hashable:
        """Read what a class has: a method, a property, a value."""
        if isinstance(value, staticmethod | classmethod):
            return type(value), self.value(value.__func__)
        if isinstance(value, property):
            return property, self.value(value.fget), self.value(value.fset)
        return self.value(value)

    def function(self, function: types.FunctionType) -> Hashable:
        """Read a function: its code, and all that it looks up."""
        if (before := self.again(function)) is not None:
            return before
        if _is_known(str(function.__globals__.get("__name__"))):  # a wrapper says that it is from elsewhere
            return _Same(function)
        if vars(function):
            raise _UnknownError
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        looked_up = [self.looked_up(name, function) for name in _globals_in(function.__code__)]
        defaults = self.value(function.__defaults__), self.value(function.__kwdefaults__)
        return function.__code__, defaults, tuple(self.value(cell) for cell in cells), tuple(looked_up)

    def looked_up(self, name: str, function: types.FunctionType) -> Hashable:
        """Read the value of a global."""
        space = function.__globals__
        if name not in space:
            if name in _HIDDEN or not hasattr(builtins, name):
                raise _UnknownError
            return name, _Same(getattr(builtins, name))
        value = space[name]
        if isinstance(value, types.ModuleType):
            if not _is_known(value.__name__):
                raise _UnknownError
            return name, _Same(value)
        if isinstance(value, type) and not _is_known(value.__module__):
            raise _UnknownError  # what its constructor does is not read
        return name, self.value(value)


def _is_known(module: str) -> bool:
    return module.partition(".")[0] in _MODULES


def _is_of_torch(kind: type) -> bool:
    """Tell whether a class is one of torch's layers, not one that was derived from it while the program ran."""
    module = kind.__module__
    return module.startswith("torch.nn.") and getattr(sys.modules.get(module), kind.__qualname__, None) is kind


def _globals_in(code: types.CodeType) -> list[str]:
    """Return the globals that code looks up, in functions inside of it as well."""
    names: dict[str, None] = {}
    for at in dis.get_instructions(code):
        if at.opname.startswith("IMPORT") or at.opname in ("STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME"):
            raise _UnknownError
        if at.opname == "LOAD_GLOBAL":
            names[str(at.argval)] = None
        elif at.opname in ("LOAD_ATTR", "LOAD_METHOD") and _is_a_setting(str(at.argval)):
            raise _UnknownError
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names |= dict.fromkeys(_globals_in(inner))
    return list(names)


def _is_a_setting(name: str) -> bool:
    """Tell whether a name may be that of a setting of torch, which anything could have changed."""
    plain = ("is_floating_point", "is_complex", "is_tensor", "is_contiguous", "is_cuda")
    return name in ("backends", "_C", "__dict__", "__globals__") or (
        name.startswith(("is_", "are_", "get_", "has_", "_is", "_get")) and name not in plain
    )
