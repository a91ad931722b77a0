"""The door for Keras models: Keras 3 on any backend, and ``tf_keras``.

A functional or sequential model is read from its graph: the calls of its layers, in an order in which each comes
after those that it needs; a model among the layers is read in the same way, in its place. What each class of layers
becomes is in the tables of `layers`, `recurrent`, `operations`, `spatial` and `activations`; a function of
TensorFlow in a graph of ``tf_keras`` is one of these operations (`tensorflow`). Nothing of Keras is imported
here: a model that arrives has brought it.

A model of which the graph is not known, because its class has a ``call`` of its own, goes through the PyTorch door if
its backend is PyTorch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from innsight_py.converters.keras import activations, layers, operations, recurrent, spatial  # noqa: F401 (fill the tables)
from innsight_py.converters.keras.original import (
    Original,
    history,
    input_keys,
    input_structure,
    leaves,
    output_keys,
    rebuilt,
    with_outputs,
)
from innsight_py.converters.keras.recognition import framework, has_channels_first
from innsight_py.converters.keras.tensorflow import as_operation
from innsight_py.converters.keras.traced import ChannelsFirst
from innsight_py.converters.keras.writer import Call, KerasValue, KerasWriter, NoTranslationError
from innsight_py.converters.names import numbered
from innsight_py.converters.preparation import keep_marks
from innsight_py.converters.reading import Reading
from innsight_py.converters.torch import door as torch_door
from innsight_py.converters.use import Use, dims_of, used
from innsight_py.converters.writer import Value
from innsight_py.spec import SpecError

#: A symbolic tensor: the layer that made it, the number of the call, the number of the result.
Key = tuple[int, int, int]


def read(model: Any, input_dim: tuple[tuple[int, ...], ...] | None, use: Use | None = None) -> Reading:
    """Read a Keras model and write its model spec.

    Parameters
    ----------
    model : keras.Model
        A functional or sequential model that is built; on the torch backend any model.
    input_dim : tuple of tuple of int, optional
        Shapes without the batch axis, channels first. Needed where the model leaves a size open, without an example.
    use : Use, optional
        How it is called, and what of it is explained.

    Returns
    -------
    Reading
        The model spec; `run` runs the model, `values` gives the value of every layer.

    Raises
    ------
    ValueError
        If the model is not built, leaves sizes open, or has a layer without a translation.
    """
    use = use or Use()
    if not _has_graph(model):
        return _without_graph(model, input_dim, use)
    channels_last = not has_channels_first(model)
    moved = [channels_last and len(tensor.shape) > 2 for tensor in model.inputs]
    if not use.channels_first and not any(moved):
        raise ValueError(
            f"Argument 'channels_first': the Keras model '{model.name}' says itself how its data lie, and "
            f"{'has its channels first' if any(len(t.shape) > 2 for t in model.inputs) else 'takes tables'}. Leave the "
            "argument out."
        )
    rows = use.rows(input_keys(model))
    if rows is not None:
        input_dim = dims_of(rows, moved)
    use = replace(use, channels_first=True)
    if use.output is not None:
        model, names = with_outputs(model, use.output)
        reading = read(model, input_dim, replace(use, output=None))
        return replace(reading, spec=reading.spec | {"output_keys": names})
    shapes = _shapes(model, input_dim, moved)
    if _must_be_rebuilt(model):
        model = rebuilt(model, "float32", shapes)
    try:
        translation = _Translation(model, shapes, moved)
    except NoTranslationError as error:
        if not isinstance(model, nn.Module):
            raise
        return used(_through_torch(model, shapes, moved, error), use)
    original = Original(model, shapes, moved, [x.moved for x in translation.results])

    def values(inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        return original.values(inputs, translation.tensors)

    return used(Reading(translation.spec(), original.run, values), use)


def _has_graph(model: Any) -> bool:
    """Tell whether a model is functional or sequential, and computes what its graph says."""
    if not _is_model(model):
        return False
    if not getattr(model, "inputs", None):
        raise SpecError(
            f"The Keras model '{model.name}' is not built: start it with keras.Input(shape), call "
            "'model.build((None, ...))', or run it on data once."
        )
    return True


def _without_graph(model: Any, input_dim: tuple[tuple[int, ...], ...] | None, use: Use) -> Reading:
    """Read a model with a ``call`` of its own through the PyTorch door, if it is made of PyTorch."""
    keras = framework(model)
    if not isinstance(model, nn.Module):
        raise SpecError(
            f"The Keras model '{model.name}' ({type(model).__name__}) computes in a 'call' of its own, of which Keras "
            "keeps no graph.\n"
            "Such a model can be converted on the torch backend (set KERAS_BACKEND=torch before Keras is imported, and "
            "load the model's weights), or write it as a functional model."
        )
    if not model.built:
        raise SpecError(f"The Keras model '{model.name}' is not built: run it on data once.")
    last = keras.config.image_data_format() == "channels_last"
    rows = use.rows()
    if rows is not None:
        input_dim = dims_of(rows, [last] * len(rows))
    if input_dim is None:
        raise ValueError(
            f"Argument 'input_dim': the Keras model '{model.name}' ({type(model).__name__}) computes in a 'call' of "
            "its own and does not know the shape of its inputs; give it, channels first, or what the model is called "
            "with: Converter(model, example=x)."
        )
    reading = _traced(ChannelsFirst(model, [last] * len(input_dim), last), input_dim)
    return used(reading, replace(use, channels_first=True))


def _through_torch(
    model: Any, shapes: Sequence[tuple[int, ...]], moved: Sequence[bool], error: NoTranslationError
) -> Reading:
    """Read a functional or sequential model that has a layer without a translation through the PyTorch door."""
    dims = tuple((dim[-1], *dim[:-1]) if m else dim for dim, m in zip(shapes, moved, strict=True))
    try:
        reading = _traced(ChannelsFirst(model, moved, any(moved), structured=True), dims)
    except SpecError as other:
        raise SpecError(f"{error} It cannot be traced as a PyTorch module either: {other}") from other
    keys = {"input_keys": input_keys(model), "output_keys": output_keys(model)}
    return replace(reading, spec=reading.spec | keys)


def _traced(wrapped: ChannelsFirst, input_dim: tuple[tuple[int, ...], ...]) -> Reading:
    # The model is traced as it is: Keras copies models through their configuration, which a class must provide for.
    spec = torch_door.read_private(wrapped, input_dim).spec
    spec["channels_first"] = not any(m and len(dim) > 1 for m, dim in zip(wrapped.moved, input_dim, strict=True))
    spec["layer_names"] = wrapped.with_keras_names(spec["layer_names"])

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        if inputs[0].dtype != torch.float32:
            raise RuntimeError("the model itself has single precision")  # and it is the user's: a copy might differ
        with torch.no_grad():
            return [x if x.dim() > 1 else x.unsqueeze(-1) for x in tree_leaves(wrapped(*inputs))]

    return Reading(spec, run, lambda inputs: {})


# -- inputs ----------------------------------------------------------------------------------------------------------


def _shapes(
    model: Any, input_dim: tuple[tuple[int, ...], ...] | None, moved: Sequence[bool]
) -> list[tuple[int, ...]]:  # fmt: skip
    """Return the shape of each input in Keras's order, completed by what the user says."""
    own = [tuple(tensor.shape)[1:] for tensor in model.inputs]
    if input_dim is not None and len(input_dim) == len(own):
        given = [(*dim[1:], dim[0]) if m and len(dim) > 1 else dim for dim, m in zip(input_dim, moved, strict=True)]
        if all(
            len(a) == len(b) and all(n in (None, m) for n, m in zip(a, b, strict=True))
            for a, b in zip(own, given, strict=True)
        ):
            return given
    if any(n is None for dim in own for n in dim):
        told = "" if input_dim is None else f"; {list(map(list, input_dim))} does not fit"
        raise ValueError(
            f"Argument 'input_dim': the Keras model '{model.name}' leaves sizes of its inputs open "
            f"({', '.join(str(dim) for dim in own)}, channels last); give them, channels first{told}."
        )
    return [tuple(int(n) for n in dim) for dim in own]


def _must_be_rebuilt(model: Any) -> bool:
    """Tell whether inputs have open sizes, a fixed batch, or are not floating-point numbers."""
    for tensor in model.inputs:
        shape = tuple(tensor.shape)
        kind = getattr(tensor.dtype, "name", None) or str(tensor.dtype)
        if None in shape[1:] or shape[0] is not None or not kind.startswith(("float", "bfloat")):
            return True
    return False


# -- the graph -------------------------------------------------------------------------------------------------------


class _Translation:
    """Goes through the calls of a Keras model and writes the layers of each."""

    def __init__(self, model: Any, shapes: Sequence[tuple[int, ...]], moved: Sequence[bool]) -> None:
        self.write, self.moved = KerasWriter(), any(moved)
        self.write.channels_last = self.moved
        inputs = []
        for i, (shape, m) in enumerate(zip(shapes, moved, strict=True), start=1):
            dim = (shape[-1], *shape[:-1]) if m else shape
            inputs.append(KerasValue(Value(f"input_{i}", (1, *dim)), m))
        self.dims = [x.value.dim for x in inputs]
        self.tensors: dict[str, tuple[Any, bool]] = {}  # of the outermost graph: by the name of the layer
        self.calls: dict[str, list[list[tuple[str, int]]]] = {}  # of a layer's name: what its calls gave
        self.results = self._graph(model, inputs, "", [True] * len(model.outputs))
        self.keys = {"input_keys": input_keys(model), "output_keys": output_keys(model)}

    def spec(self) -> dict[str, Any]:
        """Return the model spec."""
        outputs: list[str] = []
        for x in self.results:
            outputs.append(self.write.as_output(x.value, outputs))
        needed = self.write.needed(outputs)
        keep_marks(needed, len(self.dims), outputs)
        spec = {
            "input_dim": self.dims,
            "layers": needed,
            "outputs": outputs,
            "channels_first": not self.moved,
            "layer_names": self.write.named(numbered(self.calls), needed),
        }
        return spec | self.keys

    def _graph(
        self, model: Any, inputs: Sequence[KerasValue], prefix: str, ends: Sequence[bool]
    ) -> list[KerasValue]:  # fmt: skip
        """Write a model's layers; `ends` tells which of its outputs are outputs of the outermost model."""
        known: dict[Key, KerasValue] = {_key(t): x for t, x in zip(model.inputs, inputs, strict=True)}
        final: dict[Key, bool] = {}
        for tensor, end in zip(model.outputs, ends, strict=True):
            final[_key(tensor)] = final.get(_key(tensor), False) or end
        order = _in_order(model, set(known))
        uses = Counter(_key(t) for node in order for t in _tensors(node))
        uses.update(list(final))
        for node in order:
            results = list(leaves(node.outputs))
            call = self._call(node, known, uses, [final.get(_key(t), False) for t in results])
            before = len(self.write.layers)
            name = f"{prefix}{call.layer.name}"
            self.write.at(name, call.place, name)
            if _is_model(call.layer):
                ending = [final.get(_key(t), False) for t in results]
                values = self._graph(call.layer, _arranged(call), f"{name}/", ending)
            else:
                values = self.write.read_all(call)
                shape = tuple(results[0].shape)[1:]
                halved = getattr(getattr(call.layer, "activation", None), "__name__", "") == "glu"  # Keras forgets it
                if None not in shape and values[0].dim != shape and not halved:
                    raise SpecError(f"The Keras layer {call.place} was read as {values[0].dim}, it gives {shape}.")
            given = [(value.value.layer, len(self.write.merges)) for value in values]
            self.calls.setdefault(name, []).append(given)
            written = {layer["name"] for layer in self.write.layers[before:]}
            for tensor, value in zip(results, values, strict=True):
                new = value.value.layer in written or call.merges or _is_model(call.layer)
                known[_key(tensor)] = replace(value, sole=value.sole and new)
                if not prefix:
                    self.tensors[value.value.layer] = (tensor, value.moved)
        return [replace(known[_key(t)], sole=known[_key(t)].sole and uses[_key(t)] == 1) for t in model.outputs]

    @staticmethod
    def _call(node: Any, known: Mapping[Key, KerasValue], uses: Counter[Key], ends: Sequence[bool]) -> Call:
        layer = _layer(node)
        tensors = _tensors(node)
        seen = {_key(t): replace(known[_key(t)], sole=known[_key(t)].sole and uses[_key(t)] == 1) for t in tensors}
        inputs = tuple(seen[_key(t)] for t in tensors)
        arguments = tuple(_with_values(argument, seen) for argument in _arguments(node))
        if hasattr(layer, "symbol"):  # a function of TensorFlow, which `tf_keras` takes for a layer
            named = {key: _with_values(argument, seen) for key, argument in node.call_kwargs.items()}
            return as_operation(layer, arguments[: len(node.call_args)], named, any(ends))
        config = layer.get_config() if hasattr(layer, "trainable") and not _is_model(layer) else _attributes(layer)
        named = {key: _with_values(argument, seen) for key, argument in _named(node).items()}
        return Call(layer, config, inputs, arguments, inputs[0].sole, any(ends), named=named)


def _key(tensor: Any) -> Key:
    layer, node, index = history(tensor)
    return id(layer), node, index


def _is_model(layer: Any) -> bool:
    """Tell whether a layer is a functional or sequential model that computes what its graph says."""
    classes = type(layer).__mro__
    if not any(cls.__name__ in ("Functional", "Sequential") for cls in classes):
        return False
    caller = next(cls for cls in classes if "call" in vars(cls))
    return caller.__module__.partition(".")[0] in ("keras", "tf_keras")


def _attributes(operation: Any) -> dict[str, Any]:
    return {key: value for key, value in vars(operation).items() if not key.startswith("_")}


def _layer(node: Any) -> Any:
    return node.operation if hasattr(node, "operation") else node.layer


def _arguments(node: Any) -> list[Any]:
    """Return the arguments of a call, positional ones first."""
    return [*(node.arguments.args if hasattr(node, "arguments") else node.call_args), *_named(node).values()]


def _named(node: Any) -> Mapping[str, Any]:
    named: Mapping[str, Any] = node.arguments.kwargs if hasattr(node, "arguments") else node.call_kwargs
    return named


def _is_symbolic(value: Any) -> bool:
    return hasattr(value, "_keras_history")


def _tensors(node: Any) -> list[Any]:
    return [value for value in leaves(_arguments(node)) if _is_symbolic(value)]


def _with_values(argument: Any, known: Mapping[Key, KerasValue]) -> Any:
    """Return an argument with values in the place of symbolic tensors."""
    if isinstance(argument, Mapping):
        return {key: _with_values(entry, known) for key, entry in argument.items()}
    if isinstance(argument, list | tuple):
        return [_with_values(entry, known) for entry in argument]
    return known[_key(argument)] if _is_symbolic(argument) else argument


def _in_order(model: Any, known: set[Key]) -> list[Any]:
    """Return the calls that the outputs of a model need, each after those that it depends on."""
    ordered: list[Any] = []
    done: set[int] = set()
    waiting = [(_node(t), False) for t in reversed(model.outputs) if _key(t) not in known]
    while waiting:
        node, ready = waiting.pop()
        if id(node) in done:
            continue
        if ready:
            ordered.append(node)
            done.add(id(node))
        else:
            waiting.append((node, True))
            waiting += [(_node(t), False) for t in reversed(_tensors(node)) if _key(t) not in known]
    return ordered


def _node(tensor: Any) -> Any:
    layer, number, _ = history(tensor)
    return layer._inbound_nodes[number]


def _arranged(call: Call) -> list[KerasValue]:
    """Return the values that a nested model is called with in the order of its inputs."""
    given = call.arguments[0]
    if not isinstance(given, Mapping):
        return list(call.inputs)
    structure = input_structure(call.layer)
    names = structure if isinstance(structure, Mapping) else {history(t)[0].name: t for t in call.layer.inputs}
    by_tensor = {id(tensor): given[key] for key, tensor in names.items()}
    return [by_tensor[id(tensor)] for tensor in call.layer.inputs]
