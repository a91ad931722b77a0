"""Running a Keras model beside its conversion, in the precision that is asked for; the user's model is not touched."""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innsight_py.converters.keras.recognition import every_layer, framework
from innsight_py.converters.keras.writer import as_array
from innsight_py.converters.use import chosen_outputs
from innsight_py.spec.keys import unique_keys

_PRECISIONS = {torch.float32: "float32", torch.float64: "float64"}


class Original:
    """A Keras model that can be run on tensors.

    Parameters
    ----------
    model : keras.Model
        A functional or sequential model.
    shapes : sequence of tuple of int
        Shape of each input without the batch, in Keras's order.
    moved_in, moved_out : sequence of bool
        Whether the tensors of each input and output have Keras's last axis first.
    """

    def __init__(
        self, model: Any, shapes: Sequence[tuple[int, ...]], moved_in: Sequence[bool], moved_out: Sequence[bool]
    ) -> None:
        self.model, self.shapes, self.moved_in, self.moved_out = model, shapes, moved_in, moved_out
        self._copies: dict[torch.dtype, Any] = {}

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run the model, in the precision of the inputs.

        Raises
        ------
        RuntimeError
            If the model cannot be run in this precision.
        """
        model = self._in(inputs[0].dtype)
        try:
            return self._call(model, inputs, self.moved_out)
        except Exception as error:  # TensorFlow has no double precision for some operations, for example
            why = re.sub(r"\x1b\[\d*m", "", str(error)).strip()  # of which Keras makes some bold
            raise RuntimeError(f"the model cannot be run in {_PRECISIONS[inputs[0].dtype]}: {why}") from error

    def values(self, inputs: Sequence[Tensor], tensors: Mapping[str, tuple[Any, bool]]) -> dict[str, Tensor]:
        """Return the values of layers for one row; `tensors` has each symbolic tensor, and whether it is moved."""
        kind = framework(self.model).Model
        inner = kind(inputs=self.model.inputs, outputs=[tensor for tensor, _ in tensors.values()])
        found = self._call(inner, [x.float() for x in inputs], [moved for _, moved in tensors.values()])
        return {name: value[0] for name, value in zip(tensors, found, strict=True)}

    def _call(self, model: Any, inputs: Sequence[Tensor], moved_out: Sequence[bool]) -> list[Tensor]:
        arrays = [
            (x.movedim(1, -1) if moved else x).contiguous().numpy()
            for x, moved in zip(inputs, self.moved_in, strict=True)
        ]
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = model(packed(model, arrays), training=False)
        found = [torch.from_numpy(as_array(leaf).copy()) for leaf in unpacked(model, out)]
        return [x.movedim(-1, 1) if moved else x for x, moved in zip(found, moved_out, strict=True)]

    def _in(self, dtype: torch.dtype) -> Any:
        """Return the model in a precision: itself where it has that already, a copy otherwise."""
        if dtype == torch.float64 and not _has_double(self.model):
            raise RuntimeError("Keras computes in single precision on this backend")
        if dtype not in self._copies:
            same = all(_compute_dtype(layer) == _PRECISIONS[dtype] for layer in every_layer(self.model))
            try:
                self._copies[dtype] = self.model if same else rebuilt(self.model, _PRECISIONS[dtype], self.shapes)
            except Exception as error:  # whatever the classes of the model's layers make of it
                raise RuntimeError(f"the model cannot be copied: {error}") from error
        return self._copies[dtype]


def _has_double(model: Any) -> bool:
    """Tell whether Keras computes in double precision if told to; on PyTorch and JAX it casts to single in between."""
    keras = framework(model)
    return keras.__name__ == "tf_keras" or bool(keras.config.backend() == "tensorflow")


def _nested(model: Any) -> list[Any]:
    """Return all models within a model of Keras 3."""
    inner = [layer for layer in model.layers if hasattr(layer, "layers") and framework(layer).__name__ == "keras"]
    return [model, *(found for layer in inner for found in _nested(layer))]


def _compute_dtype(layer: Any) -> str:
    return str(getattr(layer, "compute_dtype", None) or layer.dtype)


def rebuilt(model: Any, dtype: str, shapes: Sequence[tuple[int, ...]]) -> Any:
    """Build a copy of a model in another precision, for inputs of known shape, with the same weights."""
    names = [history(tensor)[0].name for tensor in model.inputs]
    config = _changed(model.get_config(), dtype, dict(zip(names, shapes, strict=True)))
    classes = {type(layer).__name__: type(layer) for layer in every_layer(model)}
    kind = type(model)
    keras = framework(model)
    if kind.__module__.partition(".")[0] not in ("keras", "tf_keras"):  # the user's own class, with a plain graph
        kind = keras.Model if any(c.__name__ == "Functional" for c in kind.__mro__) else keras.Sequential
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's advice on how the model should have been written
        copy = kind.from_config(config, custom_objects=classes)
        for nested in _nested(copy):  # a model forgets its precision on this way, and would cast what it is given
            nested.dtype_policy = dtype
        weights = [np.asarray(weight) for weight in model.get_weights()]
        copy.set_weights([w.astype(dtype) if w.dtype.kind not in "iub" else w for w in weights])
        for layer in every_layer(copy):
            if hasattr(layer, "finalize_state"):
                layer.finalize_state()
    return copy


def _changed(config: Any, dtype: str, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """Return a configuration with another precision, and known shapes of the model's own inputs."""
    if isinstance(config, list | tuple):
        return type(config)(_changed(entry, dtype, shapes) for entry in config)
    if not isinstance(config, Mapping):
        return config
    if config.get("class_name") in ("DTypePolicy", "Policy"):
        return dtype
    new = {key: dtype if key == "dtype" and isinstance(value, str) else _changed(value, dtype, shapes)
           for key, value in config.items()}  # fmt: skip
    shape = shapes.get(config.get("name", "")) if isinstance(config.get("name"), str) else None
    for key in ("batch_shape", "batch_input_shape"):
        if key in config:
            new[key] = (None, *shape) if shape is not None else (None, *config[key][1:])
    return new


def history(tensor: Any) -> tuple[Any, int, int]:
    """Return the layer that made a symbolic tensor, the number of its call, and of its result."""
    layer, node, index = tensor._keras_history
    return layer, int(node), int(index)


def input_structure(model: Any) -> Any:
    """Return what a model takes its inputs in: a symbolic tensor, or a list or a dict of them."""
    structure = getattr(model, "_inputs_struct", None)
    return getattr(model, "_nested_inputs", None) if structure is None else structure


def _output_structure(model: Any) -> Any:
    structure = getattr(model, "_outputs_struct", None)
    return getattr(model, "_nested_outputs", None) if structure is None else structure


def input_keys(model: Any) -> list[str]:
    """Return the names of a model's inputs, in its own order: keys of the dict that it takes, or names of layers."""
    return _keys(model.inputs, input_structure(model))


def output_keys(model: Any) -> list[str]:
    """Return the names of a model's outputs, in its own order: keys of the dict that it returns, or names of layers."""
    return _keys(model.outputs, _output_structure(model))


def with_outputs(model: Any, output: Any) -> tuple[Any, list[str]]:
    """Return a model with the same layers and some of the outputs, and what these are called."""
    numbers, names = chosen_outputs(output, output_keys(model))
    if numbers == list(range(len(model.outputs))):
        return model, names
    outputs = [model.outputs[number] for number in numbers]
    inputs = input_structure(model)
    return framework(model).Model(inputs=model.inputs if inputs is None else inputs, outputs=outputs), names


def _keys(tensors: Sequence[Any], structure: Any) -> list[str]:
    names = _by_key(tensors, structure)
    return unique_keys([str(history(t)[0].name) for t in tensors] if names is None else map(str, names))


def _by_key(tensors: Sequence[Any], structure: Any) -> list[Any] | None:
    """Return the keys of a dict of tensors in the order of a list of them; None if it is no such dict."""
    if not isinstance(structure, Mapping) or len(structure) != len(tensors):
        return None
    left = {key: structure[key] for key in sorted(structure)}
    names = []
    for tensor in tensors:
        key = next((key for key, other in left.items() if other is tensor), None)
        if key is None:
            return None
        names.append(key)
        del left[key]
    return names


def packed(model: Any, arrays: Sequence[Any]) -> Any:
    """Return inputs in the structure that a model takes them in."""
    by_tensor = {id(tensor): array for tensor, array in zip(model.inputs, arrays, strict=True)}

    def fill(structure: Any) -> Any:
        if isinstance(structure, Mapping):
            filled = ((key, fill(entry)) for key, entry in structure.items())
            return OrderedDict(filled) if isinstance(structure, OrderedDict) else dict(filled)  # Keras tells them apart
        if isinstance(structure, list | tuple):
            return [fill(entry) for entry in structure]
        return by_tensor[id(structure)]

    structure = input_structure(model)
    return arrays[0] if structure is None else fill(structure)


def unpacked(model: Any, out: Any) -> list[Any]:
    """Return outputs in the order in which a model lists them."""
    names = _by_key(model.outputs, _output_structure(model))
    return list(leaves(out)) if names is None else [out[name] for name in names]


def leaves(value: Any) -> Iterator[Any]:
    """Give the entries of nested lists and dicts; those of dicts by their sorted keys, as Keras does."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from leaves(value[key])
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from leaves(entry)
    else:
        yield value
