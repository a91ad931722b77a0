"""Tracing a PyTorch module with ``torch.export``: operators of the table, and where in the user's code each is."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import operator
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor, fx, nn

from innsight_py.converters.torch.calling import INNER
from innsight_py.converters.torch.contexts import Custom, inlined, traceable
from innsight_py.converters.torch.ends import cannot_run, cannot_trace, depends_on_data, no_room
from innsight_py.converters.torch.recurrent import taken_apart
from innsight_py.converters.torch.writer import TABLE, operator_name
from innsight_py.spec import SpecError

#: Tracing replaces what is one for all threads, in torch.export as well: one thread at a time.
_TRACING = threading.RLock()


class _FastPath:
    """Whether torch may take its fused attention: one switch for all threads, which the last to leave restores."""

    def __init__(self) -> None:
        self.lock, self.users, self.before = threading.Lock(), 0, True

    def turn_off(self) -> None:
        """Turn it off, until each that did so has restored it."""
        with self.lock:
            if not self.users:
                self.before = torch.backends.mha.get_fastpath_enabled()
                torch.backends.mha.set_fastpath_enabled(False)
            self.users += 1

    def restore(self) -> None:
        """Let it be what it was, if nobody else has turned it off."""
        with self.lock:
            self.users -= 1
            if not self.users:
                torch.backends.mha.set_fastpath_enabled(self.before)


_FAST_PATH = _FastPath()


@contextlib.contextmanager
def without_fast_path() -> Iterator[None]:
    """Let attention layers run as they are written, not as one fused operator of their own."""
    _FAST_PATH.turn_off()
    try:
        yield
    finally:
        _FAST_PATH.restore()


class _Kept(io.TextIOBase):
    """Where a thread writes to, and nothing comes of it; what other threads write goes where it was to go."""

    def __init__(self, outer: TextIO) -> None:
        self.outer, self.owner = outer, threading.get_ident()

    def write(self, text: str) -> int:
        """Write a text, or keep it."""
        return len(text) if threading.get_ident() == self.owner else self.outer.write(text)

    def flush(self) -> None:
        """Write what is buffered."""
        self.outer.flush()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what torch.export logs on its way to an error from the user, who gets the error."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stderr(_Kept(sys.stderr)):
            yield
    finally:
        logging.disable(before)


def trace(
    model: nn.Module,
    input_dim: Sequence[tuple[int, ...]],
    custom: Custom,
    rows: Sequence[Tensor] | None = None,
    fixed: Collection[int] = (),
) -> torch.export.ExportedProgram:
    """Export a module for one instance, and decompose what the table does not have; `custom` notes what it calls.

    The instance is zeros, or one row an input, `rows`. Sizes may depend on inputs that are `fixed`.
    """
    dtype = precision_of(model)
    if rows is None:
        try:
            examples = tuple(torch.zeros(1, *dim, dtype=dtype) for dim in input_dim)
        except RuntimeError:  # of the allocator
            raise no_room(input_dim) from None
    else:
        examples = tuple(x.to(dtype) for x in rows)  # whole numbers as well: the module is wrapped in what casts them
    with _TRACING, warnings.catch_warnings(), without_fast_path(), quiet():
        warnings.simplefilter("ignore")  # torch.export warns of its own deprecations
        try:
            with traceable(custom):
                program = _export(model, examples)
            _refuse_detached_changes(program)
            inlined(program)
            apart = taken_apart(program)
            if apart or not _can_be_read(program):
                program = _decomposed(program, apart)
            settle_sizes(program, examples, fixed)
            return program
        except SpecError:
            raise
        except Exception as error:  # torch.export raises whatever the module's code runs into
            if _is_its_own(error):
                raise
            _check_shapes(model, examples, input_dim, rows is not None)
            raise cannot_trace(error, input_dim) from error


def _decomposed(program: torch.export.ExportedProgram, apart: Collection[str]) -> torch.export.ExportedProgram:
    decompositions = torch.export.default_decompositions()
    for op in [op for op in decompositions if op.name() in TABLE and op.name() not in apart]:
        del decompositions[op]
    decomposed: torch.export.ExportedProgram = program.run_decompositions(decompositions)
    return decomposed


def _is_its_own(error: BaseException) -> bool:
    """Tell whether an error is no finding about the module: a time limit, no memory, a class of the user's."""
    kind = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError | MemoryError) or kind not in ("builtins", "torch", "sympy")


def settle_sizes(
    program: torch.export.ExportedProgram, examples: Sequence[Tensor], fixed: Collection[int] = ()
) -> None:
    """Put numbers in the place of sizes that are open, where they depend on constants alone (a mask that selects).

    Raises
    ------
    SpecError
        If they depend on the data.
    """
    nodes = [node for node in program.graph.nodes if _is_open(node.meta.get("val"))]
    if not nodes:
        return
    generator = torch.Generator().manual_seed(1)
    others = [
        x if i in fixed else torch.randn(x.shape, generator=generator, dtype=x.dtype) for i, x in enumerate(examples)
    ]
    first, second = (values_of(program, inputs) for inputs in (examples, others))
    for node in nodes:
        one, other = first[node.name], second[node.name]
        if isinstance(one, Tensor):
            same = one.shape == other.shape
            node.meta["val"] = one.to("meta")
        else:
            same, node.meta["val"] = one == other, one
        if not same:
            shape = [tuple(x.shape[1:]) for x in examples]
            raise depends_on_data(place_of(node), isinstance(one, Tensor), shape)


def _is_open(value: object) -> bool:
    if isinstance(value, Tensor):
        return any(isinstance(n, torch.SymInt) for n in value.shape)
    return isinstance(value, torch.SymInt | torch.SymBool | torch.SymFloat)


def as_module(program: torch.export.ExportedProgram) -> nn.Module:
    """Return a program as a module that takes any number of rows; torch checks guards from version 2.9 on."""
    options = {"check_guards": False} if "check_guards" in inspect.signature(program.module).parameters else {}
    return program.module(**options)


def values_of(program: torch.export.ExportedProgram, inputs: Sequence[Tensor]) -> dict[str, Any]:
    """Run a program and return the value of every node."""
    found: dict[str, Any] = {}

    class Watcher(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            found[n.name] = super().run_node(n)
            return found[n.name]

    module = as_module(program)
    assert isinstance(module, fx.GraphModule)
    with torch.no_grad():
        Watcher(module).run(*inputs)
    return found


def _export(model: nn.Module, examples: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    try:
        return torch.export.export(model, examples, strict=False)
    except RuntimeError as error:
        if "fake tensor in the exported program" not in str(error):  # vmap over another axis than the first
            raise
        return torch.export.export(model, examples, strict=True)


def _check_shapes(
    model: nn.Module, examples: Sequence[Tensor], input_dim: Sequence[tuple[int, ...]], by_example: bool
) -> None:
    """Raise an error if the module cannot run on inputs of these shapes at all, traced or not."""
    try:
        with torch.no_grad():
            model(*examples)
    except Exception as error:
        if _is_its_own(error):
            raise
        raise cannot_run(error, input_dim, _line(error), by_example) from error


def _line(error: BaseException) -> str:
    """Say which line of the user's code raised an error, if there is one."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_ours(f.filename)]
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _is_ours(file: str) -> bool:
    """Tell whether a file belongs to torch or to this package."""
    return Path(file).is_relative_to(Path(torch.__file__).parent) or Path(file) == Path(__file__)


def _refuse_detached_changes(program: torch.export.ExportedProgram) -> None:
    """Refuse a change in place through ``detach()``: it changes values, but not the gradient."""
    for node in program.graph.nodes:
        if node.target is torch.ops.aten.detach.default and any(is_mutable(user) for user in node.users):
            raise SpecError(
                f"The module cannot be converted: at {place_of(node)} a detached tensor is changed in place, "
                "which changes values without their gradient."
            )


def _can_be_read(program: torch.export.ExportedProgram) -> bool:
    """Tell whether every operator has an entry, and those that work in place change nothing but what they are given."""

    def is_view(node: fx.Node) -> bool:
        if node.target is operator.getitem:  # a part of a split, for example
            return True
        returns = node.target._schema.returns if isinstance(node.target, torch._ops.OpOverload) else []
        several = any(str(r.type) == "List[Tensor]" for r in returns)
        return several or any(r.alias_info is not None and not r.alias_info.is_write for r in returns)

    for node in program.graph.nodes:
        if node.op != "call_function" or node.target is operator.getitem:
            continue
        if not isinstance(node.target, torch._ops.OpOverload):
            if node.all_input_nodes or node.meta.get("val") is None:  # a block under autocast, vmap
                return False
            continue
        if node.meta.get("val") is not None and operator_name(node) not in TABLE and not _is_constant(node):
            return False
        if node.target._schema.is_mutable:
            changed = node.args[0]
            if not isinstance(changed, fx.Node) or is_view(changed) or any(is_view(user) for user in changed.users):
                return False
    return True


def _is_constant(node: fx.Node) -> bool:
    """Tell whether a value is computed from no tensor at all (an ``arange``, for example)."""
    return not node.all_input_nodes


def is_mutable(node: fx.Node) -> bool:
    """Tell whether an operator changes what it is given."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def precision_of(model: nn.Module) -> torch.dtype:
    """Return the precision of a module's parameters."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def module_of(node: fx.Node) -> tuple[str, str]:
    """Path and class of the module whose code made a call."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return "", ""
    path, kind = stack[-1]
    return path_of(str(path)), getattr(kind, "__name__", str(kind).rpartition(".")[2])


def path_of(path: str) -> str:
    """Return the path of a module in the user's own, without what it was wrapped in."""
    return "" if path == INNER else path.removeprefix(f"{INNER}.")


def origin_of(node: fx.Node) -> str:
    """Path of the modules whose code made a call, and the operator: ``"layer4.0.conv1.conv2d"``, ``"layer4.0.add"``."""
    path, operation = module_of(node)[0], str(node.target).removeprefix("aten.").partition(".")[0]
    return f"{path}.{operation.rstrip('_')}" if path else operation.rstrip("_")


def place_of(node: fx.Node) -> str:
    """Where in the user's model a call stands: module, class, file and line."""
    path, kind = module_of(node)
    module = f"'{path}' ({kind})" if path else f"the outermost module ({kind})" if kind else "the module"
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [frame for frame in frames if "torch/" not in frame[0].replace("\\", "/").rpartition("site-packages/")[2]]
    if not own:
        return module
    file, line = own[-1]
    return f"{module}, {file.replace(chr(92), '/').rpartition('/')[2]}:{line}"
