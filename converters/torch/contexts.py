"""What a module's ``forward`` does besides calling operators: blocks without gradient, checkpoints, its own backward.

``torch.export`` drops some of these, fails at others, and puts a block under ``torch.no_grad()`` into a program of its
own. While a module is traced, `traceable` replaces what would be lost by what is recorded; `inlined` then puts the
blocks back into one flat program, and says with ``detach`` that no gradient leaves a block without gradient.
"""

from __future__ import annotations

import contextlib
import operator
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.autograd.function import Function
from torch.utils import checkpoint

from innsight_py.spec import SpecError


class Call:
    """A call of a function with a backward of its own, of which the tensors are given anew each time.

    Parameters
    ----------
    cls : type
        The subclass of ``torch.autograd.Function``.
    arguments : tuple
        What it was called with; tensors are left out.
    """

    def __init__(self, cls: type[Function], arguments: tuple[Any, ...]) -> None:
        self.cls = cls
        self.arguments = [_HERE if isinstance(x, Tensor) else x for x in arguments]

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Run the function, and keep its backward for autograd."""
        given = iter(tensors)
        arguments = [next(given) if isinstance(x, str) and x == _HERE else x for x in self.arguments]
        out = _APPLY.__get__(None, self.cls)(*arguments)
        return [out] if isinstance(out, Tensor) else list(out)


#: Stands for a tensor among the arguments of a call.
_HERE = "<tensor>"
_APPLY = vars(Function)["apply"]
_DATA: Any = vars(torch._C.TensorBase)["data"]
#: Calls that are being traced, by the numbers under which they stand in programs.
CALLS: dict[int, Call] = {}


#: Older versions of torch cannot read it off the annotations below.
_SCHEMA = "(int number, Tensor[] tensors) -> Tensor[]"


@torch.library.custom_op("innsight_py::function", mutates_args=(), schema=_SCHEMA)
def _function(number: int, tensors: list[Tensor]) -> list[Tensor]:
    return [x.clone() for x in CALLS[number](tensors)]


@_function.register_fake
def _(number: int, tensors: list[Tensor]) -> list[Tensor]:
    return [x.clone() for x in CALLS[number](tensors)]


class Custom:
    """Functions with a backward of their own that a module was seen to call, by the names of their classes.

    Parameters
    ----------
    keep : bool
        Whether they keep it; otherwise the operators of their forward pass are traced.
    """

    def __init__(self, keep: bool = False) -> None:
        self.keep = keep
        self.names: list[str] = []
        self.inside = False  # whether the forward of one is being traced

    def apply(self, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function while a module is traced."""
        if cls is checkpoint.CheckpointFunction:  # (function, whether to keep the random state, inputs)
            return args[0](*args[2:])
        own = not cls.__module__.startswith("torch.")
        if own and cls.__qualname__ not in self.names:
            self.names.append(cls.__qualname__)
        outer, self.inside = self.inside, True
        try:
            if not (own and self.keep) or kwargs or outer:
                return _APPLY.__get__(None, cls)(*args, **kwargs)
            number = len(CALLS)
            CALLS[number] = Call(cls, args)
            out = torch.ops.innsight_py.function(number, [x for x in args if isinstance(x, Tensor)])
            return out[0] if len(out) == 1 else tuple(out)
        finally:
            self.inside = outer


class _Replacements:
    """What stands in the place of attributes of torch's classes while one thread traces a module.

    In other threads each does what it replaces.

    Parameters
    ----------
    custom : Custom
        Where functions with a backward of their own are noted.
    """

    def __init__(self, custom: Custom) -> None:
        self.custom, self.here = custom, threading.get_ident()
        inference, no_grad = torch.inference_mode, torch.no_grad
        self.before: dict[tuple[Any, str], Any] = {
            (owner, name): getattr(owner, name) for owner in (inference, no_grad) for name in ("__enter__", "__exit__")
        }
        self.replaced: dict[tuple[Any, str], Any] = {
            **self._of_inference(*(self.before[inference, name] for name in ("__enter__", "__exit__"))),
            **self._of_no_grad(*(self.before[no_grad, name] for name in ("__enter__", "__exit__"))),
            (Function, "apply"): self._apply(),
            (Tensor, "data"): self._data(),
        }

    def _elsewhere(self) -> bool:
        return threading.get_ident() != self.here

    def _of_inference(self, enter: Any, leave: Any) -> dict[tuple[Any, str], Any]:
        def enter_inference(mode: Any) -> None:
            if self._elsewhere():
                enter(mode)
                return
            mode.prev = torch.is_grad_enabled()
            if mode.mode and not self.custom.inside:
                torch.set_grad_enabled(False)

        def exit_inference(mode: Any, *error: Any) -> None:
            if self._elsewhere():
                leave(mode, *error)
            elif torch.is_grad_enabled() != mode.prev:
                torch.set_grad_enabled(mode.prev)

        owner = torch.inference_mode
        return {(owner, "__enter__"): enter_inference, (owner, "__exit__"): exit_inference}

    def _of_no_grad(self, enter: Any, leave: Any) -> dict[tuple[Any, str], Any]:
        def enter_no_grad(mode: Any) -> None:
            # The forward of a function with a backward of its own never has a gradient of its own.
            mode.innsight_py_inside = self.custom.inside and not self._elsewhere()
            if not mode.innsight_py_inside:
                enter(mode)

        def exit_no_grad(mode: Any, *error: Any) -> None:
            if not getattr(mode, "innsight_py_inside", False):
                leave(mode, *error)

        return {(torch.no_grad, "__enter__"): enter_no_grad, (torch.no_grad, "__exit__"): exit_no_grad}

    def _apply(self) -> Any:
        def apply_function(cls: Any, *args: Any, **kwargs: Any) -> Any:
            if self._elsewhere():
                return _APPLY.__get__(None, cls)(*args, **kwargs)
            return self.custom.apply(cls, args, kwargs)

        return classmethod(apply_function)

    def _data(self) -> Any:
        def get_data(tensor: Tensor) -> Any:
            """Return the values without their gradient, so that tracing sees it."""
            kept = type(tensor) is Tensor or isinstance(tensor, torch.nn.Parameter) or self._elsewhere()
            return _DATA.__get__(tensor) if kept else tensor.detach()

        def set_data(tensor: Tensor, value: Tensor) -> None:
            _DATA.__set__(tensor, value)

        return property(get_data, set_data)


@contextlib.contextmanager
def traceable(custom: Custom) -> Iterator[None]:
    """Let a module be traced with what it does to gradients; note functions with a backward of their own.

    Attributes of torch's classes are replaced meanwhile, for this thread.
    `innsight_py.converters.torch.tracing.trace` lets one thread trace at a time.
    """
    replacements = _Replacements(custom)
    try:
        for (owner, name), value in replacements.replaced.items():
            setattr(owner, name, value)
        yield
    finally:
        for (owner, name), value in replacements.before.items():
            setattr(owner, name, value)
        Function.apply = _APPLY  # type: ignore[method-assign]
        del Tensor.data  # the one that torch has is its parent's


def inlined(program: torch.export.ExportedProgram) -> None:
    """Put the blocks of a program that stand in programs of their own back where they are used.

    What leaves a block without gradient is detached. A block under ``autocast`` stays as it is if it is at work, to be
    decomposed into casts.
    """
    module = program.graph_module
    changed = False
    while True:
        calls = [node for node in module.graph.nodes if _block_of(node) is not None]
        if not calls:
            break
        for node in calls:
            _inline(module, node)
        changed = True
    if changed:
        module.graph.eliminate_dead_code(lambda node: node.op not in ("get_attr",))
        module.graph.lint()
        module.recompile()


def _block_of(node: fx.Node) -> tuple[bool, int] | None:
    """Tell whether a block has gradients, and where its program stands among the arguments; None for another call."""
    name = getattr(node.target, "__name__", "") if node.op == "call_function" else ""
    if name == "wrap_with_set_grad_enabled":
        return bool(node.args[0]), 1
    if name == "wrap_with_autocast" and not node.args[2]:  # (device, dtype, whether it is at work, cache, program)
        return True, 4
    return None


def _inline(module: fx.GraphModule, node: fx.Node) -> None:
    block = _block_of(node)
    assert block is not None
    with_gradient, at = block
    source = node.args[at]
    assert isinstance(source, fx.Node)
    inner: fx.GraphModule = getattr(module, str(source.target))
    given = list(node.args[at + 1 :])
    values: dict[fx.Node, Any] = {}
    with module.graph.inserting_before(node):
        for entry in inner.graph.nodes:
            if entry.op == "placeholder":
                values[entry] = given.pop(0)
            elif entry.op == "get_attr":
                name = f"{source.target}_{entry.target}".replace(".", "_")
                setattr(module, name, getattr(inner, str(entry.target)))
                values[entry] = module.graph.get_attr(name)
            elif entry.op == "output":
                returned = list(entry.args[0])
            else:
                if not with_gradient:
                    _refuse_change_from_within(entry)
                values[entry] = module.graph.node_copy(entry, lambda x: values[x])
                values[entry].meta = dict(entry.meta)
    results = [values[x] if isinstance(x, fx.Node) else x for x in returned]
    for user in list(node.users):
        assert user.target is operator.getitem
        result = results[user.args[1]]  # type: ignore[index]
        if not with_gradient and isinstance(result, fx.Node):
            with module.graph.inserting_before(user):
                detached = module.graph.call_function(torch.ops.aten.detach.default, (result,))
            detached.meta = dict(user.meta) | {"val": result.meta["val"]}
            result = detached
        user.replace_all_uses_with(result)
        module.graph.erase_node(user)
    module.graph.erase_node(node)
    if not source.users:
        module.graph.erase_node(source)


def _refuse_change_from_within(node: fx.Node) -> None:
    """Refuse a change in place, in a block without gradient, of a value from outside."""
    if not (isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable):
        return
    changed = node.args[0]
    while isinstance(changed, fx.Node) and changed.op == "call_function":
        returns = changed.target._schema.returns if isinstance(changed.target, torch._ops.OpOverload) else []
        if not any(r.alias_info is not None for r in returns):
            return
        changed = changed.args[0]
    raise SpecError(
        "The module cannot be converted: under 'torch.no_grad()' a tensor from outside is changed in place, "
        "which changes values without their gradient. Write the new value into a tensor of its own."
    )
