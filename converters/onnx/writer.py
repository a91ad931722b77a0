"""Calls of ONNX operators, and the table of what is written for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from innsight_py.converters.writer import Value, Whole, Writer
from innsight_py.spec import SpecError


@dataclass(frozen=True)
class Call:
    """One node of an ONNX graph.

    Attributes
    ----------
    kind : str
        The operator, with its domain if that is not ONNX's own: ``"Conv"``, ``"ai.onnx.ml.Scaler"``.
    opset : int
        Version of the operator set of its domain.
    place : str
        What messages call the node.
    inputs : tuple
        A `Value` where an input depends on the model's, a tensor where it is constant, None where it is left out.
    attributes : dict
        The attributes that the node has.
    shapes : tuple
        Shape of each result for one row; None where it is not known beforehand.
    wanted : tuple of bool
        Whether anybody uses each result.
    merges : bool
        Whether nothing else sees the first input that depends on the model's: an activation may then become a part of
        its layer.
    is_output : bool
        Whether the first result is an output of the model.
    kinds : tuple of int
        ONNX's number of the type of each input, 0 where it is left out.
    given : bool
        Whether all that it depends on is made of fixed inputs: nothing goes back to these, and whole numbers may come
        of them, which the graph has as fractions.
    """

    kind: str
    opset: int
    place: str
    inputs: tuple[Value | Tensor | None, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    shapes: tuple[tuple[int, ...] | None, ...] = ()
    wanted: tuple[bool, ...] = (True,)
    merges: bool = False
    is_output: bool = False
    kinds: tuple[int, ...] = ()
    given: bool = False

    @property
    def name(self) -> str:
        """The operator without its domain."""
        return self.kind.rpartition(".")[2]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first result."""
        if not self.shapes or self.shapes[0] is None:
            raise refuse(self, "the shape of its result is not known beforehand")
        return self.shapes[0]

    def __getitem__(self, i: int) -> Value | Tensor | None:
        """Return the i-th input; None where it is left out."""
        return self.inputs[i] if i < len(self.inputs) else None

    def has(self, i: int) -> bool:
        """Tell whether the i-th input is there."""
        return self[i] is not None

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute."""
        return self.attributes.get(name, default)

    @property
    def x(self) -> Value:
        """The first input, which must depend on the model's."""
        return self.value(0)

    def value(self, i: int) -> Value:
        """Return an input that must depend on the model's."""
        x = self[i]
        if not isinstance(x, Value):
            raise refuse(self, f"its input {i + 1} is a constant, and another one is not")
        return x

    def fixed(self, i: int, what: str) -> Tensor:
        """Return an input that must be constant."""
        x = self[i]
        if isinstance(x, Value):
            raise refuse(self, f"its {what} depend{'' if what.endswith('s') else 's'} on the data")
        if x is None:
            raise refuse(self, f"it lacks its {what}")
        return x

    def optional(self, i: int, what: str) -> Tensor | None:
        """Return an input that must be constant if it is there."""
        return self.fixed(i, what) if self.has(i) else None

    def numbers(self, i: int, attribute: str) -> list[int] | None:
        """Return whole numbers that later versions take as an input and earlier ones as an attribute."""
        given = self.optional(i, attribute)
        if given is not None:
            return [int(n) for n in given.flatten().tolist()]
        values = self.get(attribute)
        return [int(n) for n in ([values] if isinstance(values, int) else values)] if values is not None else None

    @property
    def is_sole(self) -> bool:
        """Whether the first result is the only one that anybody uses."""
        return not any(self.wanted[1:])


#: Writes the layers of a call: its value or values, or a constant.
Result = Value | Tensor
Reader = Callable[["OnnxWriter", Call], "Result | Sequence[Result | None]"]
TABLE: dict[str, Reader] = {}
#: The layers that an operator may become, beside those that only change a shape; the list of supported operators is
#: made of it.
WRITES: dict[str, tuple[str, ...]] = {}
#: Layers that any operator may need around what it becomes. A constant is a Scale.
SHAPE_LAYERS = ("Reshape", "Flatten", "Permute", "Take", "Scale")


def reads(*operators: str, writes: str = "") -> Callable[[Reader], Reader]:
    """Enter a reader into the table, once for each operator, with the types of layers that it writes."""

    def enter(reader: Reader) -> Reader:
        for name in operators:
            if name in TABLE:
                raise ValueError(f"The operator {name} has two entries.")
            TABLE[name] = reader
            WRITES[name] = tuple(writes.split())
        return reader

    return enter


def refuse(call: Call, why: str) -> SpecError:
    """Build the error for a node that cannot be converted."""
    return SpecError(f"The {call.place} cannot be converted: {why}.")


class OnnxWriter(Writer):
    """Writes layers; turns of axes that follow each other become one, or none."""

    def permute(self, x: Value, order: Sequence[int]) -> Value:
        """Write the axes of an operator in another order."""
        order = [axis % len(x.shape) for axis in order]
        before = self.by_name.get(x.layer)
        if before is None or before["type"] != "Permute" or isinstance(x, Whole) or not x.leads or order[0] != 0:
            return super().permute(x, order)
        turned = [0, *before["axes"]]
        if len(turned) != len(order):
            return super().permute(x, order)
        shape = [0] * len(turned)
        for axis, source in enumerate(turned):
            shape[source] = x.shape[axis]
        composed = [turned[axis] for axis in order]
        return super().permute(Value(before["inputs"][0], tuple(shape)), composed)

    def operator(
        self, name: str, arguments: Sequence[Any], shape: tuple[int, ...], part: int | None = None
    ) -> Value:  # fmt: skip
        """Write a layer that runs an operator of torch's, which only the gradient methods can work through."""
        inputs: list[Value] = []

        def argument(value: Any) -> Any:
            if isinstance(value, Value):
                inputs.append(value)
                return {"input": len(inputs) - 1}
            return [argument(entry) for entry in value] if isinstance(value, list | tuple) else value

        given = [argument(value) for value in arguments]
        return self.layer(
            "Operator", inputs, shape, operator=f"aten::{name}", arguments=given, shapes=[x.shape for x in inputs],
            part=part,
        )  # fmt: skip

    def as_value(self, x: Value | Tensor) -> Value:
        """Return a value; a constant is written as one."""
        return x if isinstance(x, Value) else self.constant(x.double() if not x.is_floating_point() else x)

    def picked(self, x: Value, numbers: Tensor) -> Value:
        """Write the entries of a value with these flat numbers, in their shape."""
        shape = tuple(numbers.shape)
        flat = self.reshape(x, (1, max(numbers_of(x), 1)))
        return self.reshape(self.take(flat, 1, numbers.flatten().tolist()), shape)


def numbers_of(x: Value) -> int:
    """Count the entries of a value."""
    size = 1
    for n in x.shape:
        size *= n
    return size


def constant_only(inputs: Collection[Any]) -> bool:
    """Tell whether no input depends on the model's."""
    return not any(isinstance(x, Value) for x in inputs)


def as_tensor(array: Any) -> Tensor:
    """Return an array as a tensor; whole numbers stay whole."""
    return torch.from_numpy(array.copy() if not array.flags.writeable else array)


def domain_of(node: Any) -> str:
    """Return the domain of a node; ONNX's own has two names."""
    return "" if node.domain == "ai.onnx" else str(node.domain)
