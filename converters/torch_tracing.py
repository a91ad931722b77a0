"""Tracing a PyTorch module with ``torch.export``: operators of the table, and where in the user's code each is."""

from __future__ import annotations

import contextlib
import io
import logging
import operator
import re
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, fx, nn

from innsight_py.converters.torch_writer import TABLE, operator_name
from innsight_py.spec import SpecError


@contextlib.contextmanager
def without_fast_path() -> Iterator[None]:
    """Let attention layers run as they are written, not as one fused operator of their own."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what torch.export logs on its way to an error from the user, who gets the error."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def trace(model: nn.Module, input_dim: Sequence[tuple[int, ...]]) -> torch.export.ExportedProgram:
    """Export a module for one instance, and decompose what the table does not have."""
    examples = tuple(torch.zeros(1, *dim, dtype=precision_of(model)) for dim in input_dim)
    with warnings.catch_warnings(), without_fast_path(), quiet():
        warnings.simplefilter("ignore")  # torch.export warns of its own deprecations
        try:
            program = torch.export.export(model, examples, strict=False)
            _refuse_detached_changes(program)
            if _can_be_read(program):
                return program
            decompositions = torch.export.default_decompositions()
            for op in [op for op in decompositions if op.name() in TABLE]:
                del decompositions[op]
            decomposed: torch.export.ExportedProgram = program.run_decompositions(decompositions)
            return decomposed
        except SpecError:
            raise
        except Exception as error:  # torch.export raises whatever the module's code runs into
            _check_shapes(model, examples, input_dim)
            first = str(error).strip().splitlines()[0] if str(error).strip() else ""
            raise SpecError(
                f"torch.export cannot trace the module for one instance of shape {list(input_dim)}: "
                f"{type(error).__name__}: {first}. Control flow that depends on the data, and inputs that are not "
                "floating-point numbers, cannot be converted; explain the part of the module behind them instead."
            ) from error


def _check_shapes(model: nn.Module, examples: Sequence[Tensor], input_dim: Sequence[tuple[int, ...]]) -> None:
    """Say so where the module cannot run on inputs of these shapes at all, traced or not."""
    try:
        with torch.no_grad():
            model(*examples)
    except Exception as error:
        raise SpecError(
            f"The module cannot run on one instance of shape {list(input_dim)}: {str(error).strip().splitlines()[0]}. "
            "'input_dim' is channels first and without the batch axis. Inputs are floating-point numbers: where the "
            "module takes others, explain the part of the module behind them instead."
        ) from error


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
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
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
    return str(path), getattr(kind, "__name__", str(kind).rpartition(".")[2])


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
