"""The door for PyTorch modules.

``torch.export`` turns a module, however it is written, into a flat list of ATen operators, one entry for each use. It
is given a single instance, so that every value is one row's and the place of the batch axis never matters (attention
layers move it about and merge it with others); the layers then run that program for many rows at once. A value whose
first axis has one entry loses it: there the batch goes.

Each operator that has an entry in the table (`torch_operators`, `torch_arithmetic`, `torch_structure`) becomes a layer
of the model spec, or a few. Those without one are decomposed into smaller ones first; what has no entry then becomes a
layer that the gradient methods alone can work through.

The user's module is never touched: a copy of it is put into evaluation mode and traced.
"""

from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils._pytree import tree_leaves

from innsight_py._checks import warn
from innsight_py.converters import torch_arithmetic, torch_operators, torch_structure  # noqa: F401 (fill the table)
from innsight_py.converters.reading import Run, Values
from innsight_py.converters.torch_tracing import (
    is_mutable,
    module_of,
    place_of,
    precision_of,
    trace,
    without_fast_path,
)
from innsight_py.converters.torch_writer import (
    SHAPE_LAYERS,
    TABLE,
    WRITES,
    Operator,
    refuse,
    without_one,
)
from innsight_py.converters.writer import Value, Writer
from innsight_py.spec import SpecError


def read(model: nn.Module, input_dim: tuple[tuple[int, ...], ...] | None) -> tuple[dict[str, Any], Run, Values]:
    """Trace a module and write its model spec.

    Parameters
    ----------
    model : torch.nn.Module
        The user's module, of which a copy is read; it takes one tensor an input, batch first, and returns one or more.
    input_dim : tuple of tuple of int
        Shape of each input without the batch axis.

    Returns
    -------
    spec : dict
        A model spec.
    run : callable
        Runs the copy, to compare the converted model with.
    values : callable
        Gives the value of every layer for one row, by name, to find the first that differs.

    Raises
    ------
    ValueError
        If `input_dim` is missing, or the module cannot be traced or translated.
    """
    if input_dim is None:
        raise ValueError("Argument 'input_dim': a PyTorch module does not know the shape of its inputs; give it.")
    _warn_of_training(model)
    spec, run, values = read_private(private_copy(model), input_dim)
    keys = _input_keys(model, len(input_dim))
    return (spec if keys is None else spec | {"input_keys": keys}), run, values


def read_private(copied: nn.Module, input_dim: tuple[tuple[int, ...], ...]) -> tuple[dict[str, Any], Run, Values]:
    """Trace a module as `read` does, without a copy; `run` changes its precision."""
    program = trace(copied, input_dim)
    try:
        translation = _Translation(program, input_dim)
    except GuardOnDataDependentSymNode:
        raise SpecError(
            f"torch.export cannot trace the module for one instance of shape {list(input_dim)}: RuntimeError: "
            "the shape of one of its values depends on the data (a "
            "selection by a condition, for example)."
        ) from None

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad(), without_fast_path():
            out = copied.to(inputs[0].dtype)(*inputs)
        return [leaf if leaf.dim() > 1 else leaf.unsqueeze(-1) for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]

    dtype = precision_of(copied)

    def values(inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        copied.to(dtype)
        return translation.values([x.to(dtype) for x in inputs])

    return translation.spec(), run, values


def _input_keys(model: nn.Module, n: int) -> list[str] | None:
    """Return the names of the arguments that a module takes its inputs in; None if they have none."""
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())[:n]
    except (TypeError, ValueError):  # written in C
        return None
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return named if len(named) == n else None


def _output_keys(program: torch.export.ExportedProgram, n: int) -> list[str] | None:
    """Return the keys of the dict, or the fields of the named tuple, that a module returns; None for anything else."""
    structure = program.call_spec.out_spec
    if structure is None or structure.num_children != n or structure.num_leaves != n:
        return None
    keys = getattr(structure.context, "_fields", structure.context)  # a named tuple's class, or a dict's keys
    named = isinstance(keys, list | tuple) and len(keys) == n and all(isinstance(key, str) for key in keys)
    return list(keys) if named else None


def _warn_of_training(model: nn.Module) -> None:
    kinds = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
    found = sorted({type(m).__name__ for m in model.modules() if isinstance(m, kinds) and m.training})
    if found:
        warn(f"The module is in training mode and has {', '.join(found)}: it is converted as in 'eval()'.")


def independent_copy(model: nn.Module) -> nn.Module:
    """Copy a module, with the values that it keeps from an earlier pass detached."""
    attributes = (value for module in model.modules() for value in vars(module).values())
    kept = {id(x): x.detach().clone() for x in attributes if isinstance(x, torch.Tensor) and not x.is_leaf}
    try:
        with torch.no_grad():  # scripted modules would record their copying
            copied = copy.deepcopy(model, kept)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise SpecError(f"The module cannot be copied: {error}") from error
    if any(p.is_meta for p in (*copied.parameters(), *copied.buffers())):
        raise SpecError("The module has parameters on the device 'meta', which are shapes without numbers.")
    return copied


def private_copy(model: nn.Module) -> nn.Module:
    """Copy a module onto the CPU, in evaluation mode and at least single precision."""
    copied = independent_copy(model)
    half = any(p.dtype in (torch.float16, torch.bfloat16) for p in copied.parameters())
    copied = copied.cpu().eval().requires_grad_(False)
    return copied.float() if half else copied


class _Translation(Writer):
    """Goes through the operators of an exported program and writes the layers of each."""

    def __init__(self, program: torch.export.ExportedProgram, input_dim: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self.program, self.input_dim = program, input_dim
        self.constants: dict[str, Tensor] = {}
        self.known: dict[str, Value] = {}  # of fx node: the layer or input with its value
        self.same: dict[str, set[str]] = {}  # of fx node: those whose value it shares because it was changed in place
        self.parts: dict[str, list[Value]] = {}  # of fx node with several results: these
        self.dtypes: dict[str, torch.dtype] = {}  # of fx node: the kind of its numbers
        self.deferred: set[fx.Node] = set()  # nodes with several results and no entry in the table
        signature = program.graph_signature
        stored = {**program.state_dict, **program.constants}
        targets = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        for node in program.graph.nodes:
            if node.op == "placeholder" and node.name in targets:
                self.constants[node.name] = stored[targets[node.name]].detach()
        for i, (name, dim) in enumerate(zip(signature.user_inputs, input_dim, strict=True), start=1):
            self.known[str(name)] = Value(f"input_{i}", (1, *dim))
        self.anchor = Value("input_1", (1, *input_dim[0]))
        self.outputs = [str(name) for name in signature.user_outputs]
        self.kept = set(self.outputs)
        for node in program.graph.nodes:
            if isinstance(node.meta.get("val"), Tensor):
                self.dtypes[node.name] = node.meta["val"].dtype
            if node.op == "call_function":
                self._read(node)

    def spec(self) -> dict[str, Any]:
        """Return the model spec."""
        outputs: list[str] = []
        for number, node in enumerate(self.outputs, start=1):
            if node not in self.known:
                raise SpecError(f"Output {number} of the module does not depend on its inputs.")
            value = self.known[node]
            kind = self.dtypes[node]
            if not kind.is_floating_point:
                raise SpecError(f"Output {number} of the module is of {kind}: there is no gradient of it.")
            if not value.dim:
                value = self.reshape(value, (1, 1))
            outputs.append(self.as_output(value, outputs))
        spec = {"input_dim": list(self.input_dim), "layers": self.needed(outputs), "outputs": outputs}
        keys = _output_keys(self.program, len(outputs))
        return spec if keys is None else spec | {"output_keys": keys}

    def values(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """Run the traced program on one row and return the values of layers by name."""
        found: dict[str, Tensor] = {}
        known = self.known

        class Watcher(fx.Interpreter):
            def run_node(self, n: fx.Node) -> Any:
                result = super().run_node(n)
                if n.name in known and isinstance(result, Tensor):
                    found[known[n.name].layer] = result.reshape(known[n.name].dim or (1,))
                return result

        module = self.program.module()
        graph = module if isinstance(module, fx.GraphModule) else None
        if graph is not None:
            with torch.no_grad():
                Watcher(graph).run(*inputs)
        return found

    # -- one operator -------------------------------------------------------------------------------------------

    def _read(self, node: fx.Node) -> None:
        sources = [n.name for n in node.all_input_nodes if n.name in self.known or n.name in self.parts]
        if node.meta.get("val") is None or not (node.users or node.name in self.kept or is_mutable(node)):
            return  # an assertion about the kind of a tensor, or of no use to anybody
        self._refuse_random(node)
        if node.target is operator.getitem:
            self._take_part(node, sources)
        elif not sources:
            self._compute(node)
        else:
            self._translate(node)

    def _refuse_random(self, node: fx.Node) -> None:
        op = node.target
        if isinstance(op, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in op.tags:
            call = Operator(node, self.constants, self.known, self.kept, place_of(node))
            if call.name not in TABLE:  # dropout says for itself whether it is at work
                raise refuse(call, "it is random even at prediction time")

    def _take_part(self, node: fx.Node, sources: list[str]) -> None:
        whole, part = node.args
        if whole in self.deferred:  # written by the operator with this part alone
            call = Operator(whole, self.constants, self.known, self.kept, place_of(whole))  # type: ignore[arg-type]
            self.at(_layer_name(node), place_of(node))
            self.known[node.name] = without_one(self, call, _shape(node.meta["val"]), part)  # type: ignore[arg-type]
        elif not sources:
            self.constants[node.name] = self.constants[str(whole)][part]  # type: ignore[index]
        else:
            parts = self.parts[sources[0]]
            if part >= len(parts):  # type: ignore[operator]
                raise refuse(
                    Operator(whole, self.constants, self.known, self.kept, place_of(node)),  # type: ignore[arg-type]
                    f"its result number {part + 1} has no layer",  # type: ignore[operator]
                )
            self.known[node.name] = parts[part]  # type: ignore[index]

    def _compute(self, node: fx.Node) -> None:
        """Compute what depends on parameters alone (a weight normalisation, for example), in double precision."""

        def value(entry: fx.Node) -> Any:
            constant = self.constants.get(entry.name, entry.meta["val"])
            floating = isinstance(constant, Tensor) and constant.is_floating_point()
            return constant.double() if floating else constant

        arguments = fx.map_arg(node.args, value), fx.map_arg(node.kwargs, value)
        self.constants[node.name] = node.target(*arguments[0], **arguments[1])  # type: ignore[operator]

    def _translate(self, node: fx.Node) -> None:
        place = place_of(node)
        call = Operator(node, self.constants, self.known, self.kept, place)
        self.at(_layer_name(node), place)
        reader = TABLE.get(call.name)
        before = len(self.layers)
        result = reader(self, call) if reader is not None else None
        written = {layer["type"] for layer in self.layers[before:]}
        assert written <= {*WRITES.get(call.name, ()), *SHAPE_LAYERS}, (call.name, written)
        if result is None:
            if isinstance(node.meta["val"], Tensor):
                result = without_one(self, call, _shape(node.meta["val"]), None)
            else:
                self.deferred.add(node)  # its parts are written where they are used
                return
        if isinstance(result, Tensor):
            self.constants[node.name] = result
        elif isinstance(result, list):
            self.parts[node.name] = result
        else:
            self.known[node.name] = result
            if is_mutable(node):
                self._changed_in_place(node, result)
            expected = _shape(node.meta["val"]) if isinstance(node.meta["val"], Tensor) else result.shape
            if result.shape != expected:
                raise SpecError(f"The operator {call.name} at {place} was read as {result.shape}, it gives {expected}.")

    def _changed_in_place(self, node: fx.Node, result: Value) -> None:
        """Let all names of a tensor that was changed mean its new value from here on."""
        first = node.all_input_nodes[0].name
        names = self.same.setdefault(first, {first})
        names.add(node.name)
        self.same[node.name] = names
        for name in names:
            self.known[name] = result


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in value.shape)


def _layer_name(node: fx.Node) -> str:
    return module_of(node)[0] or node.name
