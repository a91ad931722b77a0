"""Calls of ATen operators, and the table of what is written for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from innsight_py.converters.writer import Value, Writer
from innsight_py.spec import SpecError
from innsight_py.spec.operators import OPERATORS


class Operator:
    """One call of an ATen operator: its arguments by name, parameters as tensors and values as `Value`."""

    def __init__(
        self, node: fx.Node, constants: dict[str, Tensor], known: Mapping[str, Value], outputs: Collection[str],
        place: str,
    ) -> None:  # fmt: skip
        assert isinstance(node.target, torch._ops.OpOverload)
        self.node, self.place, self._outputs = node, place, outputs
        self.name = operator_name(node)
        self.arguments: dict[str, Any] = {}
        self._constants, self._known = constants, known
        for name, value in self._given():
            self.arguments[name] = self._resolve(value)

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self._known.get(value.name, self._constants.get(value.name, value))
        if isinstance(value, list | tuple):
            return [self._resolve(entry) for entry in value]
        return value

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def replace(self, change: Callable[[fx.Node, Value], Value]) -> None:
        """Put other values in the place of those among the arguments."""
        known = {n.name: change(n, self._known[n.name]) for _, n in self.numbers()}
        if any(value is not self._known[name] for name, value in known.items()):
            self._known = {**known}
            for name, value in self._given():
                self.arguments[name] = self._resolve(value)

    def _given(self) -> list[tuple[str, Any]]:
        """Return the names of the arguments, with what the program gives for each."""
        node = self.node
        assert isinstance(node.target, torch._ops.OpOverload)
        return [
            (a.name, node.args[i] if i < len(node.args) else node.kwargs.get(a.name, a.default_value))
            for i, a in enumerate(node.target._schema.arguments)
        ]

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument that only some overloads have."""
        return self.arguments.get(name, default)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return tuple(int(n) for n in self.node.meta["val"].shape)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the result, or of the first of several."""
        return dtype_of(self.node)

    @property
    def dtypes(self) -> dict[str, torch.dtype]:
        """Types of the values among the arguments, by the argument's name."""
        return {name: dtype_of(n) for name, n in self.numbers()}

    def numbers(self) -> list[tuple[str, fx.Node]]:
        """Return the values among the arguments, with the argument's name and the node that gives them."""
        found: list[tuple[str, fx.Node]] = []
        for name, value in self._given():
            entries = value if isinstance(value, list | tuple) else [value]
            found += [(name, n) for n in entries if isinstance(n, fx.Node) and n.name in self._known]
        return found

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


def dtype_of(node: fx.Node) -> torch.dtype:
    """Return the type of a value's numbers, or of the first of several values."""
    value = node.meta["val"]
    first = value[0] if isinstance(value, list | tuple) else value
    assert isinstance(first, Tensor)
    return first.dtype


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
#: The arguments of an operator that may be values of the model, where these are others than the first alone.
VALUES: dict[str, tuple[str, ...]] = {}
#: Operators that only move numbers, of whatever type.
MOVES: set[str] = set()
#: Layers that any operator may need around what it becomes.
SHAPE_LAYERS = ("Reshape", "Flatten", "Permute", "Take", "Operator", "Cast")


def translates(*operators: str, writes: str = "", values: str = "", moves: bool = False) -> Callable[[Reader], Reader]:
    """Enter a reader into the table, once for each operator.

    Parameters
    ----------
    *operators : str
        Names of the operators.
    writes : str
        The types of layers that it writes, with spaces between.
    values : str
        The arguments that may be values of the model or constants. Default: the first is a value, all others constants.
    moves : bool
        Whether the operator only moves numbers, and so may take whole numbers, truth values and complex numbers.
    """

    def enter(reader: Reader) -> Reader:
        for name in operators:
            full = name if "::" in name else f"aten::{name}"
            if full in TABLE:
                raise ValueError(f"The operator {full} has two entries.")
            TABLE[full] = reader
            WRITES[full] = tuple(writes.split())
            if values:
                VALUES[full] = tuple(values.split())
            if moves:
                MOVES.add(full)
        return reader

    return enter


def without_one(write: Writer, call: Operator, shape: tuple[int, ...], part: int | None) -> Value:
    """Write a layer that runs the operator itself, which only the gradient methods can work through."""
    if call.name not in OPERATORS:
        raise refuse(call, f"it has no translation. {AS_IT_IS}")
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
    by_position = [argument(call[a.name]) for a in overload._schema.arguments if not a.kwarg_only]
    by_name = {a.name: call[a.name] for a in overload._schema.arguments if a.kwarg_only and a.name not in _PLACES}
    options = {
        a.name: argument(by_name[a.name])
        for a in overload._schema.arguments
        if a.name in by_name and by_name[a.name] != a.default_value
    }
    keys = {"options": options} if options else {}
    return write.layer(
        "Operator", inputs, shape, operator=call.name, arguments=by_position, shapes=[x.shape for x in inputs],
        part=part, **keys,
    )  # fmt: skip


#: Options that say where and how numbers lie, not what they are.
_PLACES = ("device", "layout", "pin_memory", "memory_format", "non_blocking")


#: What can be done with a module that has what cannot be converted.
AS_IT_IS = (
    "Explain the module as it is, with torch_grad(model, data), torch_intgrad and the like; or convert the part of it "
    "behind that place"
)


def refuse(call: Operator, why: str) -> SpecError:
    """Build the error for a call that cannot be converted."""
    return SpecError(f"The operator {call.name} at {call.place} cannot be converted: {why}.")
