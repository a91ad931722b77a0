"""Calls of ATen operators, and the table of what is written for them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, fx

from innsight_py.converters.writer import Value, Writer
from innsight_py.spec import SpecError


class Operator:
    """One call of an ATen operator: its arguments by name, parameters as tensors and values as `Value`."""

    def __init__(
        self, node: fx.Node, constants: dict[str, Tensor], known: dict[str, Value], outputs: Collection[str], place: str
    ) -> None:
        assert isinstance(node.target, torch._ops.OpOverload)
        self.node, self.place, self._outputs = node, place, outputs
        self.name = operator_name(node)
        self.arguments: dict[str, Any] = {}
        self._constants, self._known = constants, known
        for i, argument in enumerate(node.target._schema.arguments):
            value = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name, argument.default_value)
            self.arguments[argument.name] = self._resolve(value)

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self._known.get(value.name, self._constants.get(value.name, value))
        if isinstance(value, list | tuple):
            return [self._resolve(entry) for entry in value]
        return value

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument that only some overloads have."""
        return self.arguments.get(name, default)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return tuple(int(n) for n in self.node.meta["val"].shape)

    @property
    def merges(self) -> bool:
        """Whether nothing else sees the first input, so that an activation may become a part of its layer."""
        source = self.node.all_input_nodes[0]
        while len(source.users) == 1 and source.name not in self._outputs:
            if source.op != "call_function" or not str(source.target).startswith(IDENTITIES):
                return True
            source = source.all_input_nodes[0]
        return False

    @property
    def merges_softmax(self) -> bool:
        """Whether in addition the result is an output of the model."""
        return self.merges and self.node.name in self._outputs


#: Operators that are written as identities: what comes after them may belong to the layer before them.
IDENTITIES = ("aten.dropout", "aten.alpha_dropout", "aten.feature_dropout", "aten.contiguous", "aten.alias")


def operator_name(node: fx.Node) -> str:
    """Return the name of an operator, ``"aten::conv2d"``; one that works in place has that of its plain form."""
    assert isinstance(node.target, torch._ops.OpOverload)
    full: str = node.target.name()  # type: ignore[no-untyped-call]
    name, dot, overload = full.partition(".")
    return (name.rstrip("_") if node.target._schema.is_mutable else name) + dot + overload


#: Writes the layers of a call: its value or values, a constant, or None where there is no exact translation.
Reader = Callable[["Writer", Operator], "Value | list[Value] | Tensor | None"]
TABLE: dict[str, Reader] = {}
#: The layers that an operator may become, beside those that only change a shape; the list of supported operators is
#: made of it.
WRITES: dict[str, tuple[str, ...]] = {}
#: Layers that any operator may need around what it becomes.
SHAPE_LAYERS = ("Reshape", "Flatten", "Permute", "Take", "Operator")


def translates(*operators: str, writes: str = "") -> Callable[[Reader], Reader]:
    """Enter a reader into the table, once for each operator, with the types of layers that it writes."""

    def enter(reader: Reader) -> Reader:
        for name in operators:
            full = f"aten::{name}"
            if full in TABLE:
                raise ValueError(f"The operator {full} has two entries.")
            TABLE[full] = reader
            WRITES[full] = tuple(writes.split())
        return reader

    return enter


def without_one(write: Writer, call: Operator, shape: tuple[int, ...], part: int | None) -> Value:
    """Write a layer that runs the operator itself, which only the gradient methods can work through."""
    inputs: list[Value] = []

    def argument(value: Any) -> Any:
        if isinstance(value, Value):
            inputs.append(value)
            return {"input": len(inputs) - 1}
        if isinstance(value, list | tuple):
            return [argument(entry) for entry in value]
        if isinstance(value, fx.Node):
            raise refuse(call, "it uses a result of another operator that has no layer")
        return value

    overload = call.node.target
    assert isinstance(overload, torch._ops.OpOverload)
    if any(a.kwarg_only and call[a.name] != a.default_value for a in overload._schema.arguments):
        raise refuse(call, "it has options that a layer cannot hold")
    arguments = [argument(call[a.name]) for a in overload._schema.arguments if not a.kwarg_only]
    return write.layer(
        "Operator", inputs, shape, operator=call.name, arguments=arguments, shapes=[x.shape for x in inputs], part=part
    )


def refuse(call: Operator, why: str) -> SpecError:
    """Build the error for a call that cannot be converted."""
    return SpecError(f"The operator {call.name} at {call.place} cannot be converted: {why}.")
