"""A program from a file of ``torch.export.save``, built from parts that have been checked.

Nothing is computed before every operator of the program has been found among those that we know. Texts of the file
name values and keys of dicts; nothing else comes of them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from innsight_py._checks import describe
from innsight_py.converters.torch.allowed import function_of
from innsight_py.converters.torch.archive import Archive, Stored, UnfitError, as_dict, as_list, as_text, dtype_of
from innsight_py.converters.torch.arguments import Slot, read_argument, slots_in
from innsight_py.converters.torch.containers import read_container


@dataclass(frozen=True)
class Step:
    """One call of a program.

    Attributes
    ----------
    function : callable
        What is called, with `args` and `kwargs`, in which a `Slot` stands for a value of an earlier step.
    result : int
        Where the result goes.
    parts : int or None
        How many results a list of results must have.
    done : tuple of int
        Which values nobody needs after this step.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: int
    parts: int | None = None
    done: tuple[int, ...] = ()


#: Runs a step with its arguments.
Call = Callable[[Step, list[Any], dict[str, Any]], Any]


class Program(nn.Module):
    """A program of a file: calls of operators one after the other.

    Parameters
    ----------
    archive : Archive
        The file.

    Attributes
    ----------
    inputs : list of str
        Names of the inputs.
    shapes : list of tuple
        Their shapes with the batch axis; None where a size is open.
    kinds : list of torch.dtype
        Their kinds of numbers.
    size : int
        How many bytes the file has.

    Raises
    ------
    UnfitError
        If anything in it is not known.
    """

    def __init__(self, archive: Archive) -> None:
        super().__init__()
        self.size = archive.size
        self._slots: dict[str, int] = {}
        whole = as_dict(archive.model.get("graph_module"), "graph_module")
        graph, signature = as_dict(whole.get("graph"), "graph"), as_dict(whole.get("signature"), "signature")
        self._read_structure(whole)
        self._stored: list[tuple[int, str]] = []
        self._taken: list[int] = []
        self._named: dict[tuple[str, str], int] = {}
        self.inputs: list[str] = []
        self._read_inputs(graph, signature, archive)
        values = as_dict(graph.get("tensor_values"), "tensor_values")
        metas = [as_dict(values.get(name), f"the value {name}") for name in self.inputs]
        self.shapes = [_shape(meta) for meta in metas]
        self.kinds = [dtype_of(meta.get("dtype")) for meta in metas]
        steps: list[Step] = []
        for node in as_list(graph.get("nodes"), "nodes"):
            self._read_node(as_dict(node, "a node"), steps)
        self._returned = self._read_outputs(graph, signature, steps)
        self.steps = _with_last_uses(steps, {slot for slot in self._returned if isinstance(slot, Slot)})

    # -- running ----------------------------------------------------------------------------------------------------

    def forward(self, *inputs: Tensor) -> Any:
        """Run the program; it returns what the original returned: a tensor, or lists, tuples and dicts of them."""
        return self.run(inputs, [getattr(self, name) for _, name in self._stored])

    def stored(self) -> list[Tensor]:
        """Return the tensors of the file."""
        return [getattr(self, name) for _, name in self._stored]

    def run(self, inputs: Sequence[Tensor], stored: Sequence[Tensor], call: Call | None = None) -> Any:
        """Run the program with other tensors in the place of those of the file, and each step as `call` runs it."""
        values: list[Any] = [None] * len(self._slots)
        for slot, x in zip(self._taken, inputs, strict=True):
            values[slot] = x
        for (slot, _), x in zip(self._stored, stored, strict=True):
            values[slot] = x

        def filled(value: Any) -> Any:
            if isinstance(value, Slot):
                return values[value.at]
            return [filled(entry) for entry in value] if isinstance(value, list) else value

        for step in self.steps:
            args = [filled(value) for value in step.args]
            kwargs = {name: filled(value) for name, value in step.kwargs.items()}
            values[step.result] = step.function(*args, **kwargs) if call is None else call(step, args, kwargs)
            for slot in step.done:
                values[slot] = None
        return self._container.fill([filled(slot) for slot in self._returned])

    # -- reading ----------------------------------------------------------------------------------------------------

    def _new(self, name: Any) -> int:
        name = as_text(name, "the name of a value")
        if name in self._slots:
            raise UnfitError(f"two values that are called {describe(name)}")
        self._slots[name] = len(self._slots)
        return self._slots[name]

    def _hidden(self) -> int:
        return self._new(f"\0{len(self._slots)}")

    def _slot(self, name: Any) -> Slot:
        at = self._slots.get(as_text(name, "the name of a value"))
        if at is None:
            raise UnfitError(f"the value {describe(name)}, which nothing computes")
        return Slot(at)

    def _read_structure(self, whole: dict[str, Any]) -> None:
        calls = as_list(whole.get("module_call_graph"), "module_call_graph")
        first = as_dict(calls[0] if calls else None, "module_call_graph")
        signature = as_dict(first.get("signature"), "signature")
        if first.get("fqn") != "":
            raise UnfitError("no signature of the whole program")
        self._given = read_container(signature.get("in_spec"))
        self._container = read_container(signature.get("out_spec"))

    def _read_inputs(self, graph: dict[str, Any], signature: dict[str, Any], archive: Archive) -> None:
        values, specs = as_list(graph.get("inputs"), "inputs"), as_list(signature.get("input_specs"), "input_specs")
        if len(values) != len(specs):
            raise UnfitError(f"{len(values)} inputs, with {len(specs)} descriptions")
        for value, spec in zip(values, specs, strict=True):
            kind, described = _only(spec, "an input")
            if kind == "constant_input":
                raise UnfitError("an input that is no tensor")
            tensor = as_dict(as_dict(value, "an input").get("as_tensor"), "an input")
            slot = self._new(tensor.get("name"))
            if kind == "user_input":
                self._taken.append(slot)
                self.inputs.append(tensor["name"])
            else:
                self._store(slot, kind, described, archive)
        if self._given.leaves != len(self._taken):
            raise UnfitError(f"{len(self._taken)} inputs, expected {self._given.leaves}")

    def _store(self, slot: int, kind: str, described: dict[str, Any], archive: Archive) -> None:
        keys = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
        if kind not in keys:
            raise UnfitError(f"an input of the kind {describe(kind)}")
        name = as_text(described.get(keys[kind]), keys[kind])
        found: Stored | None = archive.constants.get(name) if kind == "tensor_constant" else archive.weights.get(name)
        if found is None and kind == "buffer":
            found = archive.constants.get(name)  # one that is not persistent
        if found is None:
            raise UnfitError(f"no numbers for {describe(name)}")
        own = f"stored_{len(self._stored)}"
        if found.is_parameter:
            floating = found.tensor.is_floating_point() or found.tensor.is_complex()
            self.register_parameter(own, nn.Parameter(found.tensor, requires_grad=floating))
        else:
            self.register_buffer(own, found.tensor)
        self._stored.append((slot, own))
        self._named[kind, name] = slot

    def _read_node(self, node: dict[str, Any], steps: list[Step]) -> None:
        target = as_text(node.get("target"), "the target of a node")
        function = function_of(target)
        if function is None:
            return
        given: dict[str, Any] = {}
        for entry in as_list(node.get("inputs"), "inputs of a node"):
            name = as_text(as_dict(entry, "an argument").get("name"), "the name of an argument")
            if name in given and name:
                raise UnfitError(f"two arguments {describe(name)} of {describe(target)}")
            given[name if name and name not in given else f"\0{len(given)}"] = read_argument(
                entry.get("arg"), self._slot
            )
        args, kwargs = _arranged(function, given, target)
        names = _results(as_list(node.get("outputs"), "outputs of a node"))
        if isinstance(names, str):
            steps.append(Step(function, args, kwargs, self._new(names)))
            return
        whole = self._hidden()
        steps.append(Step(function, args, kwargs, whole, len(names) or None))
        for i, own in enumerate(names):
            slot = self._hidden() if own is None else self._new(own)
            steps.append(Step(operator.getitem, (Slot(whole), i), {}, slot))

    def _read_outputs(self, graph: dict[str, Any], signature: dict[str, Any], steps: list[Step]) -> list[Any]:
        values, specs = as_list(graph.get("outputs"), "outputs"), as_list(signature.get("output_specs"), "output_specs")
        if len(values) != len(specs):
            raise UnfitError(f"{len(values)} outputs, with {len(specs)} descriptions")
        returned = []
        for value, spec in zip(values, specs, strict=True):
            kind, described = _only(spec, "an output")
            if kind == "user_output":
                returned.append(read_argument(value, self._slot))
                continue
            tensor = as_dict(as_dict(value, "an output").get("as_tensor"), "an output")
            changed = self._changed(kind, described)
            copy = torch.ops.aten.copy_.default
            steps.append(Step(copy, (changed, self._slot(tensor.get("name"))), {}, self._hidden()))
        if self._container.leaves != len(returned):
            raise UnfitError(f"{len(returned)} outputs, expected {self._container.leaves}")
        return returned

    def _changed(self, kind: str, described: dict[str, Any]) -> Slot:
        """Find the value that a program changes, whose new value is among its outputs."""
        if kind == "user_input_mutation":
            return self._slot(described.get("user_input_name"))
        key = {"buffer_mutation": "buffer_name", "parameter_mutation": "parameter_name"}.get(kind)
        slot = None if key is None else self._named.get((key.removesuffix("_name"), str(described.get(key))))
        if slot is None:
            raise UnfitError(f"an output of the kind {describe(kind)}")
        return Slot(slot)


def _only(value: Any, what: str) -> tuple[str, dict[str, Any]]:
    """Return the one key of a union and its value."""
    value = as_dict(value, what)
    if len(value) != 1:
        raise UnfitError(f"{describe(value)} as {what}")
    key, entry = next(iter(value.items()))
    return key, as_dict(entry, what)


def _shape(meta: dict[str, Any]) -> tuple[int | None, ...]:
    sizes = [as_dict(entry, "a size").get("as_int") for entry in as_list(meta.get("sizes"), "sizes")]
    if any(n is not None and (type(n) is not int or n < 0) for n in sizes):
        raise UnfitError(f"an input of the sizes {describe(sizes)}")
    return tuple(sizes)


def _arranged(function: Any, given: dict[str, Any], target: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Bring the arguments of an operator into the order of its schema."""
    if not isinstance(function, torch._ops.OpOverload):
        return tuple(given.values()), {}
    args, kwargs, known = [], {}, function._schema.arguments
    if unknown := given.keys() - {argument.name for argument in known}:
        raise UnfitError(f"the argument {describe(min(unknown))} of {describe(target)}")
    for argument in known:
        if argument.name not in given and not argument.has_default_value():
            raise UnfitError(f"no argument {describe(argument.name)} of {describe(target)}")
        if argument.kwarg_only:
            if argument.name in given:
                kwargs[argument.name] = given[argument.name]
        else:
            args.append(given.get(argument.name, argument.default_value))
    return tuple(args), kwargs


def _results(outputs: list[Any]) -> str | list[str | None]:
    """Return the name of the value of a node, or the names of its several values."""

    def name(entry: Any) -> str | None:
        entry = as_dict(entry, "an output of a node")
        for key in ("as_tensor", "as_sym_int", "as_sym_float", "as_sym_bool"):
            if key in entry:
                value = as_dict(entry[key], "an output of a node")
                return as_text(value.get("name" if key == "as_tensor" else "as_name"), "the name of a value")
        if "as_none" in entry:
            return None
        raise UnfitError(f"{describe(entry)} as an output of a node")

    if len(outputs) == 1:
        several = as_dict(outputs[0], "an output of a node").get("as_tensors")
        if several is not None:
            return [name({"as_tensor": entry}) for entry in as_list(several, "as_tensors")]
        one = name(outputs[0])
        return [] if one is None else one
    return [name(entry) for entry in outputs]


def _with_last_uses(steps: list[Step], kept: set[Slot]) -> list[Step]:
    """Say with each step which values nobody needs after it."""
    seen, done = {slot.at for slot in kept}, []
    for step in reversed(steps):
        last = {slot.at for slot in (*slots_in(step.args), *slots_in(list(step.kwargs.values())), Slot(step.result))}
        done.append(tuple(sorted(last - seen)))
        seen |= last
    return [
        Step(s.function, s.args, s.kwargs, s.result, s.parts, free)
        for s, free in zip(steps, reversed(done), strict=True)
    ]
