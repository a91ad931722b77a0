"""Calls of Keras layers, the table of what is written for them, and where the channels of a value are.

Keras knows a value by its own order of axes, and by default has the channels last; the layers of the model spec have
them first. `KerasValue.moved` tells whether the last axis of Keras's is the first of ours. It is changed only where a
layer needs the other order, and Keras's order is kept in mind wherever the order of numbers counts (flattening,
reshaping, dense layers along the last axis).
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from innsight_py._checks import suggestion
from innsight_py.converters.writer import Value, Writer
from innsight_py.spec import SpecError


@dataclass(frozen=True)
class KerasValue:
    """A value of a Keras model.

    Attributes
    ----------
    value : Value
        The value as our layers see it.
    moved : bool
        Whether Keras's last axis is our first (after the batch), all others being in order.
    sole : bool
        Whether no other value is that of the same layer.
    """

    value: Value
    moved: bool = False
    sole: bool = True

    @property
    def dim(self) -> tuple[int, ...]:
        """Shape without the batch, in Keras's order."""
        dim = self.value.dim
        return (*dim[1:], dim[0]) if self.moved else dim


@dataclass(frozen=True)
class Call:
    """One call of a layer (or an operation) of a Keras model.

    Attributes
    ----------
    layer : keras.Layer or keras.Operation
        What is called.
    config : mapping
        Its configuration; the attributes of an operation.
    inputs : tuple of KerasValue
        The values among its arguments, in order.
    arguments : tuple
        All arguments, positional ones first, `KerasValue` in the place of values.
    merges : bool
        Whether nothing else sees the first input, so that an activation may become a part of its layer.
    is_output : bool
        Whether the result is an output of the model.
    operation : str, optional
        The operation that the layer is, where it is a layer by its class only (a function of TensorFlow).
    named : mapping
        Those of its arguments that are given by name.
    """

    layer: Any
    config: Mapping[str, Any]
    inputs: tuple[KerasValue, ...]
    arguments: tuple[Any, ...] = ()
    merges: bool = False
    is_output: bool = False
    operation: str | None = None
    named: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The class of the layer or operation."""
        return self.operation or type(self.layer).__name__

    @property
    def x(self) -> KerasValue:
        """The first input."""
        return self.inputs[0]

    @property
    def place(self) -> str:
        """How messages call the layer."""
        return f"'{self.layer.name}' ({type(self.layer).__name__})"

    @property
    def moved(self) -> bool:
        """Whether the layer reads its input channels last, so that ours must have them moved to the front."""
        return bool(self.layer.data_format != "channels_first")

    @property
    def is_legacy(self) -> bool:
        """Whether this is a layer of Keras 2 (``tf_keras``)."""
        root = sys.modules[type(self.layer).__module__.partition(".")[0]]
        return int(root.__version__.partition(".")[0]) < 3

    def weight(self, *names: str) -> Tensor | None:
        """Return a weight by the first of its names that the layer has; None if it is switched off."""
        for name in names:
            if hasattr(self.layer, name):
                found = getattr(self.layer, name)
                return None if found is None else as_tensor(found)
        raise refuse(self, f"it has no weight called {names[0]}")

    def needs(self, *names: str) -> Tensor:
        """Return a weight that cannot be switched off."""
        found = self.weight(*names)
        if found is None:
            raise refuse(self, f"it has no weight called {names[0]}")
        return found


def as_array(value: Any) -> np.ndarray:
    """Return a tensor of any backend, or numbers, as an array of at least single precision."""
    if isinstance(value, Tensor):
        kept = value.detach().cpu()
        array: np.ndarray = (kept if kept.dtype == torch.float64 else kept.float()).numpy()
        return array
    array = np.asarray(value)
    return array.astype(np.float64 if array.dtype == np.float64 else np.float32)


def as_tensor(value: Any) -> Tensor:
    """Return a weight of any backend, or numbers, as a tensor of at least single precision."""
    if type(value).__module__.partition(".")[0] == "keras":  # a variable, which holds a tensor of the backend
        value = value.value
    return torch.from_numpy(as_array(value).copy())


class NoTranslationError(SpecError):
    """A layer that this door has no translation for; on the torch backend another door may have."""


def refuse(call: Call, why: str) -> SpecError:
    """Build the error for a layer that cannot be converted."""
    return NoTranslationError(f"The Keras layer {call.place} cannot be converted: {why}.")


def refuse_mixed(call: Call, why: str) -> SpecError:
    """Build the error for a layer that mixes the rows of a batch, which no other door can explain either."""
    return SpecError(f"The Keras layer {call.place} cannot be converted: {why}. Each row is explained on its own.")


#: Writes the layers for a call, which has one result, or several.
Reader = Callable[["KerasWriter", Call], KerasValue]
Readers = Callable[["KerasWriter", Call], "KerasValue | list[KerasValue]"]
R = TypeVar("R", bound=Readers)
#: By the class of a Keras layer, and by the class of a Keras operation (``keras.ops``) that a graph may have as well.
LAYERS: dict[str, Readers] = {}
OPERATIONS: dict[str, Readers] = {}
#: The layers of the spec that each may become, beside those that only change a shape.
WRITES: dict[str, tuple[str, ...]] = {}
#: Operations of which the reader looks at all arguments, not only at values of the model.
WITH_CONSTANTS = (
    "Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum", "Power", "Matmul", "GetItem",
)  # fmt: skip
SHAPE_LAYERS = ("Reshape", "Flatten", "Permute", "Take")


def reads(*layers: str, writes: str = "", operations: Sequence[str] = ()) -> Callable[[R], R]:
    """Enter a reader into the tables, with the types of layers that it writes."""

    def enter(reader: R) -> R:
        for table, names in ((LAYERS, layers), (OPERATIONS, operations)):
            for name in names:
                if name in table:
                    raise ValueError(f"{name} has two entries.")
                table[name] = reader
        WRITES.update({name: tuple(writes.split()) for name in layers})
        return reader

    return enter


class KerasWriter(Writer):
    """Writes the layers of a Keras model."""

    #: Whether the model has the channels of its inputs last.
    channels_last = False

    def channels_first(self, x: KerasValue) -> Value:
        """Return a value with Keras's last axis at the front."""
        rank = len(x.dim)
        return x.value if x.moved or rank < 2 else self.permute(x.value, [0, rank, *range(1, rank)])

    def plain(self, x: KerasValue) -> Value:
        """Return a value in Keras's order."""
        rank = len(x.dim)
        return self.permute(x.value, [0, *range(2, rank + 1), 1]) if x.moved else x.value

    def ordered(self, x: KerasValue, moved: bool) -> Value:
        """Return a value in one of the two orders."""
        return self.channels_first(x) if moved else self.plain(x)

    def aligned(self, inputs: Sequence[KerasValue]) -> tuple[list[Value], bool]:
        """Return values that are combined entry by entry in one order, and whether that is the moved one."""
        moved = all(x.moved for x in inputs) and len({len(x.dim) for x in inputs}) == 1
        return [self.ordered(x, moved) for x in inputs], moved

    def axis_of(self, x: KerasValue, axis: int) -> int:
        """Return the axis of our layer that Keras means by `axis`, which counts the batch."""
        rank = len(x.dim)
        axis %= rank + 1
        if not x.moved:
            return axis
        return 1 if axis == rank else axis + 1

    def activate(self, x: KerasValue, function: Any, call: Call, merge: bool) -> KerasValue:
        """Write an activation as Keras names it: a function, a name, or a layer."""
        if function is None:
            return x
        if hasattr(function, "get_config") and not isinstance(function, type) and hasattr(function, "name"):
            inner = Call(function, function.get_config(), (x,), (x,), merge, call.is_output)
            return self.read(inner)
        name = function if isinstance(function, str) else getattr(function, "__name__", type(function).__name__)
        known = isinstance(function, str) or is_of_framework(function)
        reader = ACTIVATIONS.get(name)
        if not known or reader is None:
            raise refuse(call, f"its activation '{name}' has no translation (docs/supported.md lists those that have)")
        return reader(self, replace(call, inputs=(x,), config=_defaults(function), merges=merge))

    def read(self, call: Call) -> KerasValue:
        """Write the layers for one call that has one result."""
        (result,) = self.read_all(call)
        return result

    def read_all(self, call: Call) -> list[KerasValue]:
        """Write the layers for one call, and return all of its results.

        Raises
        ------
        SpecError
            If there is no translation.
        """
        is_layer = hasattr(call.layer, "trainable") and call.operation is None
        kind = call.kind
        reader = (LAYERS if is_layer else OPERATIONS).get(kind) if is_of_framework(type(call.layer)) else None
        if reader is None:
            what, known = ("layer", LAYERS) if is_layer else ("operation", OPERATIONS)
            raise NoTranslationError(
                f"The Keras {what} {call.place} has no translation{suggestion(kind, known)} {len(known)} {what}s have "
                "one, see docs/supported.md.\n"
                "On the torch backend every model is converted (set KERAS_BACKEND=torch before Keras is imported, and "
                "load the model again); run_lime and run_shap explain it as it is."
            )
        if not is_layer and kind not in WITH_CONSTANTS and _has_constants(call.arguments):
            raise refuse(call, "it has arguments beside the values of the model")
        before = len(self.layers)
        result = reader(self, call)
        written = {layer["type"] for layer in self.layers[before:]}
        assert not is_layer or written <= {*WRITES[kind], *SHAPE_LAYERS}, (kind, written)
        return result if isinstance(result, list) else [result]


def _has_constants(arguments: Any) -> bool:
    if isinstance(arguments, list | tuple):
        return any(_has_constants(entry) for entry in arguments)
    return arguments is not None and not isinstance(arguments, KerasValue)


def is_of_framework(thing: Any) -> bool:
    """Tell whether a function or a class is the framework's own, and not one of the same name."""
    module = getattr(thing, "__module__", None) or ""
    return module.partition(".")[0] in ("keras", "tf_keras", "tensorflow", "torch", "jax", "jaxlib")


def _defaults(function: Any) -> dict[str, Any]:
    """Return the parameters of an activation function that is none of ``keras.activations``, whose defaults differ."""
    if isinstance(function, str) or ".activations" in function.__module__:
        return {}
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # written in C: its defaults are torch's, which are ours
        return {}
    return {p.name: p.default for p in parameters if p.default is not p.empty}


#: By Keras's name of an activation function.
ACTIVATIONS: dict[str, Reader] = {}


def elementwise(write: KerasWriter, call: Call, name: str, **params: Any) -> KerasValue:
    """Write an element-wise function."""
    return replace(call.x, value=write.activation(call.x.value, name, call.merges, **params))
