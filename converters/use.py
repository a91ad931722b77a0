"""How a user wants a model to be called and explained, and what that means for models that say how they are called.

A PyTorch module knows nothing of its inputs, so that its door does all of this itself. Keras models, ONNX files,
exported programs, estimators and specs know their inputs and outputs: there `example` gives sizes that they leave open,
`output` chooses among their outputs, and `fixed` names some of their inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innsight_py._checks import describe, suggestion
from innsight_py.converters.reading import Gradient, Reading, Run
from innsight_py.spec import check_spec, spec_as_dict
from innsight_py.spec.keys import default_keys, in_order, quoted
from innsight_py.spec.ports import kind_of

#: A shape without the batch.
Dim = tuple[int, ...]


@dataclass(frozen=True)
class Use:
    """How a model is used: arguments of the Converter.

    Attributes
    ----------
    example : tensor, tuple or dict, optional
        What it is called with.
    output : str, int, callable or dict, optional
        What of its output is explained.
    channels_first : bool
        Whether it has its channels first.
    fixed : sequence of str
        Names of inputs that come with each row and are not explained.
    """

    example: Any = None
    output: Any = None
    channels_first: bool = True
    fixed: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether it is called with one tensor an input by position, and all that it returns is explained."""
        return self.example is None and self.output is None and self.channels_first and not self.fixed

    def rows(self, keys: Sequence[str] | None = None) -> list[Tensor] | None:
        """Return one row of each input in the example, in the user's layout; None without an example.

        Parameters
        ----------
        keys : sequence of str, optional
            Names of the inputs, in their order. Without them the example must not be a dict.

        Raises
        ------
        TypeError, ValueError
            If it has no such inputs, or something else than arrays with rows.
        """
        if self.example is None:
            return None
        if isinstance(self.example, Mapping):
            if keys is None:
                raise ValueError(
                    "Argument 'example': the inputs of this model have no names; give arrays by position, in a tuple."
                )
            parts = in_order(self.example, keys, "example", "input")
        else:
            parts = list(self.example) if isinstance(self.example, list | tuple) else [self.example]
            if keys is not None and len(keys) != len(parts):
                raise ValueError(
                    f"Argument 'example': the model has {len(keys)} input(s), {quoted(keys)}; got {len(parts)} by "
                    "position. Give a tuple with an array for each, or a dict by these names."
                )
        arrays = [x.detach().cpu() if isinstance(x, Tensor) else torch.as_tensor(_array(x)) for x in parts]
        if not all(x.dim() and len(x) for x in arrays) or len({len(x) for x in arrays}) > 1:
            shapes = [tuple(x.shape) for x in arrays]
            raise ValueError(
                f"Argument 'example': expected arrays with one row or more, as many in each, got the shapes {shapes}."
            )
        return [x[:1] for x in arrays]

    def without_example(self) -> Use:
        """Return what is left to do where the door has used the example."""
        return replace(self, example=None)


def _array(value: Any) -> Any:
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"Argument 'example': expected arrays of numbers, got {describe(value)}.")
    return array


def dims_of(rows: Sequence[Tensor], moved: Sequence[bool]) -> tuple[Dim, ...]:
    """Return the shapes of rows channels first; `moved` says of each whether its channels come last.

    Examples
    --------
    >>> dims_of([torch.zeros(1, 8, 6, 3)], [True])
    ((3, 8, 6),)
    """
    dims = [tuple(x.shape[1:]) or (1,) for x in rows]
    return tuple((d[-1], *d[:-1]) if m and len(d) > 1 else d for d, m in zip(dims, moved, strict=True))


def chosen_outputs(output: Any, keys: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return the numbers of the outputs that are explained, and what they are called.

    Parameters
    ----------
    output : str, int, list or dict
        One output by its name or number, several of them, or new names for some.
    keys : sequence of str
        What the model calls its outputs.

    Raises
    ------
    TypeError
        If it is to be computed by a function, which only PyTorch can trace.
    ValueError
        If there is no such output.

    Examples
    --------
    >>> chosen_outputs({"kind": "logits", "where": 0}, ["boxes", "logits"])
    ([1, 0], ['kind', 'where'])
    """
    if output is None:
        return list(range(len(keys))), list(keys)
    if isinstance(output, Mapping):
        return [_number(choice, keys) for choice in output.values()], [str(name) for name in output]
    choices = list(output) if isinstance(output, list | tuple) else [output]
    numbers = [_number(choice, keys) for choice in choices]
    return numbers, [keys[number] for number in numbers]


def _number(choice: Any, keys: Sequence[str]) -> int:
    if isinstance(choice, str) and choice in keys:
        return list(keys).index(choice)
    if isinstance(choice, int) and not isinstance(choice, bool) and -len(keys) <= choice < len(keys):
        return choice % len(keys)
    if callable(choice):
        raise TypeError(
            "Argument 'output': a function is traced with a PyTorch module, and this model is none. Choose an output "
            f"by its name or number ({quoted(keys)}); a function of a Keras model's outputs is a model, too: "
            "keras.Model(model.inputs, function(model.outputs))."
        )
    near = suggestion(choice, keys) if isinstance(choice, str) else "."
    raise ValueError(f"Argument 'output': the model has no output {choice!r}{near} It has {quoted(keys)}.")


def named_inputs(fixed: Sequence[str], keys: Sequence[str]) -> list[int]:
    """Return the numbers of the inputs that the user wants fixed.

    Raises
    ------
    ValueError
        If there is no such input, or none would be left.
    """
    for name in fixed:
        if name not in keys:
            raise ValueError(
                f"Argument 'fixed': the model has no input {name!r}{suggestion(name, keys)} It has {quoted(keys)}."
            )
    if fixed and len(set(fixed)) == len(keys):
        raise ValueError(f"Argument 'fixed': no input is left to be explained ({quoted(keys)} are fixed).")
    return sorted({list(keys).index(name) for name in fixed})


def used(reading: Reading, use: Use) -> Reading:
    """Let a model that a door has read be used as the user says.

    Parameters
    ----------
    reading : Reading
        The model, with a spec that says the names of its inputs and outputs if they have any.
    use : Use
        What the door has left to do.

    Raises
    ------
    ValueError
        If the model has no such inputs or outputs, or contradicts what the user says.
    """
    if use.is_plain:
        return reading
    spec = spec_as_dict(check_spec(reading.spec))
    dims = [tuple(dim) for dim in spec["input_dim"]]
    if not use.channels_first:
        spec["channels_first"] = _channels_last(dims)
    reading = replace(reading, spec=spec)
    keys = spec.get("input_keys") or list(default_keys("input", len(dims)))
    rows = use.rows(keys)
    if rows is not None:
        _check_example(rows, keys, dims, spec.get("channels_first", True))
    if use.output is not None:
        reading = _with_outputs(reading, use.output)
    return _with_fixed(reading, named_inputs(use.fixed, keys), rows)


def _channels_last(dims: Sequence[Dim]) -> bool:
    if all(len(dim) < 2 for dim in dims):
        raise ValueError("Argument 'channels_first': the inputs of the model are tables, which have no channels.")
    return False


def _check_example(rows: Sequence[Tensor], keys: Sequence[str], dims: Sequence[Dim], channels_first: bool) -> None:
    for key, dim, found in zip(keys, dims, dims_of(rows, [not channels_first] * len(rows)), strict=True):
        if found != dim:
            raise ValueError(
                f"Argument 'example': the input '{key}' of the model has the shape {dim} (channels first, without the "
                f"rows); that of the example is {found}."
            )


def _with_outputs(reading: Reading, output: Any) -> Reading:
    """Keep some of the outputs, and the layers that these need."""
    spec = dict(reading.spec)
    before = len(spec["outputs"])
    numbers, names = chosen_outputs(output, spec.get("output_keys") or default_keys("output", before))
    if len(set(numbers)) < len(numbers):
        raise ValueError("Argument 'output': the same output is there twice.")
    for key in ("outputs", "output_names", "output_dim", "output_shape"):
        if spec.get(key) is not None and len(spec[key]) == before:
            spec[key] = [spec[key][number] for number in numbers]
    spec["output_keys"] = names
    inputs = {layer["name"]: layer["inputs"] for layer in spec["layers"]}
    needed, waiting = set(spec["outputs"]), list(spec["outputs"])
    while waiting:
        new = set(inputs.get(waiting.pop(), ())) - needed
        needed |= new
        waiting += new
    spec["layers"] = [layer for layer in spec["layers"] if layer["name"] in needed]
    places = spec.get("layer_names")
    if places is not None:
        there = {layer["name"] for layer in spec["layers"]}
        spec["layer_names"] = {
            name: place
            for name, place in places.items()
            if (place["layer"] if isinstance(place, dict) else place) in there
        }
    runs = (_some(run, numbers) for run in (reading.run, reading.double))
    gradient = None if reading.gradient is None else _of_some(reading.gradient, numbers, before)
    run, double = runs
    return replace(reading, spec=spec, run=run, double=double, gradient=gradient, vectors=None)


def _some(run: Run | None, numbers: Sequence[int]) -> Run | None:
    if run is None:
        return None

    def run_some(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        found = run(inputs)
        return [found[number] for number in numbers]

    return run_some


def _of_some(gradient: Gradient, numbers: Sequence[int], n: int) -> Gradient:
    def gradient_of_some(inputs: Sequence[Tensor], seeds: Sequence[Tensor]) -> Sequence[Tensor | None]:
        given = dict(zip(numbers, seeds, strict=True))
        return gradient(inputs, [given.get(number, torch.zeros(())) for number in range(n)])

    return gradient_of_some


def _with_fixed(reading: Reading, fixed: Sequence[int], rows: Sequence[Tensor] | None) -> Reading:
    """Let some inputs come with each row: what is made of them is walked to, and not beyond."""
    spec = dict(reading.spec)
    kinds = list(spec.get("input_kinds") or [kind_of(dim) for dim in spec["input_dim"]])
    new = [number for number in fixed if kinds[number] != "fixed"]
    if new:
        starts = {f"input_{number + 1}": f"fixed_input_{number + 1}" for number in new}
        layers: list[dict[str, Any]] = [
            {"type": "Detach", "name": name, "inputs": [source], "fixed": True} for source, name in starts.items()
        ]
        prepared = {name for i in starts for name in check_spec(spec).preparation.get(i, ())}
        for layer in spec["layers"]:
            changed = {**layer, "inputs": [starts.get(name, name) for name in layer["inputs"]]}
            if layer["name"] in prepared:  # what is not explained is not prepared, either
                changed.pop("preprocessing", None)
            layers.append(changed)
        spec |= {"layers": layers, "input_kinds": ["fixed" if i in new else kind for i, kind in enumerate(kinds)]}
    kinds = spec.get("input_kinds", kinds)
    given = {} if rows is None else {i: rows[i].double() for i, kind in enumerate(kinds) if kind in ("fixed", "tokens")}
    given = {i: x if x.dim() > 1 else x.unsqueeze(-1) for i, x in given.items()}
    channels_first = spec.get("channels_first", True)
    given = {i: x if channels_first or x.dim() < 3 else x.movedim(-1, 1) for i, x in given.items()}
    gradient = reading.gradient

    def gradient_of_explained(inputs: Sequence[Tensor], seeds: Sequence[Tensor]) -> Sequence[Tensor | None]:
        assert gradient is not None
        return [None if i in new else g for i, g in enumerate(gradient(inputs, seeds))]

    found: Callable[..., Any] | None = gradient if gradient is None or not new else gradient_of_explained
    return replace(reading, spec=spec, fixed={**reading.fixed, **given}, gradient=found)
