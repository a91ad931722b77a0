"""The first of the three steps: turning a model into a graph that can be explained."""

from __future__ import annotations

import copy
import functools
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor

from innsight_py._checks import Device, FilePath, Flag, checked
from innsight_py._printing import converter_html, converter_text
from innsight_py.converters import Reading, read_model
from innsight_py.explanation import Described
from innsight_py.graph import ConvertedModel, Graph
from innsight_py.names import LayerNames, default_names, read_names
from innsight_py.saving import read_model_file, write_model_file
from innsight_py.spec import SpecError, parse_dims, spec_as_dict

#: Models with more values than this in one forward pass of one row are compared with the original in single precision.
LARGE_MODEL = 5_000_000
_REPORT = "Please report this as a bug, with the model."
#: A conversion is compared with the original on a row for each of these, times normal draws: more than one, so that a
#: model whose answers depend on their number is found out, and some far out, where bounds are reached.
SCALES = (1.0, 1.0, 1.0, 30.0, 300.0)
DTYPES = {"float": torch.float32, "double": torch.float64}


class Explainable(Described, ABC):
    """What a model-specific method explains: a graph, with the shapes and names of its inputs and outputs."""

    #: How the model's data lie, which methods take them for unless they are told otherwise.
    channels_first: bool = True

    @abstractmethod
    def model_in(self, dtype: Literal["float", "double"]) -> Graph:
        """Return the graph in a precision."""


class Converter(Explainable):
    """Convert a model into a graph of layers that every method can explain.

    Parameters
    ----------
    model : torch.nn.Module, torch.export.ExportedProgram, keras.Model, estimator, dict or path
        A PyTorch module that ``torch.export`` can trace, or the program that it has made; a functional or sequential
        model of Keras 3, on any backend, or of ``tf_keras`` (on the torch backend any Keras model); a fitted
        perceptron of scikit-learn, alone or in a pipeline, or a net of skorch; a model spec (see `innsight_py.spec`);
        or the path of a file: ``.safetensors`` (see `save`), ``.keras`` and ``.h5`` (loaded in safe mode), ``.pt2``
        (of ``torch.export.save``), ``.rds`` (see `innsight_py.read_neuralnet`) or ``.json`` (see
        `innsight_py.read_r_model`). The lists of R innsight are read by `innsight_py.from_r` first.
    input_dim : int, sequence of int, or list of these, optional
        Shape of each input, channels first and without the batch axis: ``(4,)``, ``(3, 32, 32)``,
        ``[(3, 32, 32), (5,)]``. Needed for PyTorch modules and skorch nets, and for Keras models that leave a size
        open; elsewhere only compared with the model's own.
    input_names : list, optional
        Labels of the input features: a list for a table, a list for each axis (channels first) for signals and
        images, a list of these for several inputs. Default: ``X1..``; ``C1.., L1..``; ``C1.., H1.., W1..``.
    output_names : list, optional
        Labels of the output nodes, a list of lists for several output layers. Default: ``Y1..``.
    dtype : {"float", "double"}
        Precision of the converted model in `model`. A method computes in its own precision from the weights as they
        were given, whatever is chosen here.
    device : str or torch.device, optional
        Where the model lies and all methods compute, ``"cuda"`` for example; data may come from any device. Default:
        the CPU.
    save_model_as_dict : bool
        Keep the model spec in `model_as_dict`.

    Attributes
    ----------
    model : ConvertedModel
        The graph. ``converter.model(x)`` runs it (channels first) and returns a list with one tensor an output layer.
    input_dim, output_dim : list of tuple of int
        Shapes without the batch axis, channels first.
    channels_first : bool
        How the model's data lie, which methods take them for unless they are told otherwise: False for Keras models
        that have their channels last.
    input_names, output_names : list of list of list of str
        Labels: one entry a layer, of one entry an axis.
    model_as_dict : dict or None
        The spec, which can be given to `Converter` again.

    Raises
    ------
    TypeError
        If there is no door for such a model.
    OSError
        If there is no such file.
    ValueError
        If the model cannot be converted, or the arguments contradict it. `SpecError` is one of these.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    >>> converter = Converter(model, input_dim=(2,), input_names=["age", "dose"])
    >>> converter.input_names, converter.output_names
    ([[['age', 'dose']]], [[['Y1']]])
    """

    @checked
    def __init__(
        self,
        model: Any,
        input_dim: Any = None,
        input_names: Any = None,
        output_names: Any = None,
        dtype: Literal["float", "double"] = "float",
        save_model_as_dict: Flag = False,
        device: Device = None,
    ) -> None:
        given = None if input_dim is None else parse_dims(input_dim, "Argument 'input_dim'")
        reading = read_model(model, given)
        spec = reading.spec
        if given is not None and given != spec.input_dim:
            raise ValueError(
                f"Argument 'input_dim': the model takes {_show(spec.input_dim)} (channels first, without the batch), "
                f"got {_show(given)}."
            )
        self._spec = spec
        self._lock = threading.Lock()
        self._others: dict[torch.dtype, ConvertedModel] = {}
        self.dtype = dtype
        self.model = ConvertedModel(spec, DTYPES[dtype])
        if reading.run is not None:
            compare_with_original(reading, self.model)
        if device is not None:
            self.model.to(device)
        self.channels_first = spec.channels_first
        self.input_dim = list(spec.input_dim)
        self.output_dim = list(self.model.output_dims)
        self.input_names = self._names(input_names, spec.input_names, self.input_dim, "input_names", None)
        self.output_names = self._names(output_names, spec.output_names, self.output_dim, "output_names", ("Y",))
        self.model_as_dict: dict[str, Any] | None = None
        if save_model_as_dict:
            self.model_as_dict = spec_as_dict(spec) | {
                "input_names": copy.deepcopy(self.input_names),
                "output_names": copy.deepcopy(self.output_names),
                "output_dim": [list(dim) for dim in self.output_dim],
            }

    @staticmethod
    def _names(
        given: Any, own: Any, dims: list[tuple[int, ...]], argument: str, letters: tuple[str, ...] | None
    ) -> list[LayerNames]:
        if given is not None:
            return read_names(given, dims, argument)
        if own is None:
            return [default_names(dim, letters) for dim in dims]
        try:
            return read_names(own, dims, argument)
        except TypeError as error:  # the spec is wrong, not an argument
            raise SpecError(str(error)) from None

    def model_in(self, dtype: Literal["float", "double"]) -> ConvertedModel:
        """Return the model in a precision, on the device of `model`; `model` itself is never changed."""
        wanted, device = DTYPES[dtype], self.model.device
        if self.model.dtype == wanted or not self.model.has_weights:
            return self.model
        with self._lock:
            other = self._others.get(wanted)
            if other is None or other.device != device:
                other = ConvertedModel(self._spec, wanted, like=self.model).to(device)
                self._others[wanted] = other
            return other

    @checked
    def save(self, path: FilePath) -> None:
        """Write the converted model to a file, from which `load` reads it, elsewhere and without the original.

        The file holds the graph, names and shapes in the format safetensors: numbers and texts, no code.

        Parameters
        ----------
        path : str or path-like
            The file, which ends in ``.safetensors``; one that exists is overwritten.

        Raises
        ------
        OSError
            If the file cannot be written.
        ValueError
            If `path` does not end in ``.safetensors``.

        Examples
        --------
        >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, -1.0]]}]}
        >>> Converter(model).save("linear.safetensors")
        >>> Converter("linear.safetensors", dtype="double").output_dim
        [(1,)]
        """
        spec = spec_as_dict(self._spec) | {
            "layers": [layer.given() for layer in self._spec.layers],
            "input_names": read_names(self.input_names, self.input_dim, "input_names"),
            "output_names": read_names(self.output_names, self.output_dim, "output_names"),
            "output_dim": [list(dim) for dim in self.output_dim],
        }
        write_model_file(path, spec, self.dtype)

    @classmethod
    @checked
    def load(cls, path: FilePath) -> Self:
        """Read a converted model that `save` has written; every answer is that of the model saved, bit for bit.

        ``Converter(path)`` reads such a file as well, in the precision and with the names that it is given.

        Parameters
        ----------
        path : str or path-like
            The file.

        Raises
        ------
        OSError
            If there is no such file.
        ValueError
            If the file is damaged, was changed since it was written, is of another kind, or was written by a later
            version of the package.

        Examples
        --------
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        >>> Converter(model, input_dim=(2,), input_names=["age", "dose"]).save("model.safetensors")
        >>> Converter.load("model.safetensors").input_names
        [[['age', 'dose']]]
        """
        spec, dtype = read_model_file(path)
        try:
            return cls(spec, dtype=dtype)  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"'{path}' holds no model that can be converted: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"]
        state["_others"] = {}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return converter_text(self)

    def _repr_html_(self) -> str:
        return converter_html(self)


@functools.wraps(Converter, assigned=(), updated=())
def convert(*args: Any, **kwargs: Any) -> Converter:
    """Convert a model; ``convert(...)`` is ``Converter(...)``.

    Examples
    --------
    >>> convert({"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, -1.0]]}]}).output_dim
    [(1,)]
    """
    return Converter(*args, **kwargs)


def compare_with_original(reading: Reading, model: ConvertedModel) -> None:
    """Run random inputs through the original and the converted model, and refuse one that computes something else.

    In double precision; in single where the original has constants or casts of single precision, and for large models,
    where the double forward passes would take longer than the rest of the conversion.

    Raises
    ------
    SpecError
        If the outputs differ; the message names the first layer that does.
    """
    spec, run = reading.spec, reading.run
    assert run is not None
    generator = torch.Generator().manual_seed(1)
    draws = []
    for dim in spec.input_dim:
        scales = torch.tensor(SCALES, dtype=torch.float64).reshape(-1, *[1] * len(dim))
        draws.append(scales * torch.randn(len(SCALES), *dim, generator=generator, dtype=torch.float64))
    wrong: int | None = None
    double, single = (torch.float64, 1e-9), (torch.float32, 1e-5)
    large = model.sizes.trace > LARGE_MODEL
    for dtype, tolerance in (single,) if large else (double, single):
        inputs = [x.to(dtype) for x in draws]
        try:
            expected = run([x.clone() for x in inputs])  # a model may change its input in place
        except RuntimeError:
            if dtype == torch.float32:
                raise
            continue
        with torch.no_grad():
            found = ConvertedModel(spec, dtype, like=model)(*inputs)
        pairs = enumerate(zip(found, expected, strict=True), start=1)
        wrong = next((n for n, (a, b) in pairs if a.shape != b.shape or _any_differs(a, b, tolerance)), None)
        if wrong is None:
            return
    raise SpecError(
        f"Output {wrong} of the converted model is not the original's: {_first_difference(reading, model, inputs)}"
    )


def _any_differs(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    """Tell whether a row differs. Rows far out, where numbers may overflow, are there for bounds and saturation."""
    for scale, a, b in zip(SCALES, ours, theirs, strict=True):
        if scale == 1:
            if _differ(a, b, tolerance):
                return True
        elif bool(b.isfinite().all()) and bool(a.isfinite().all()) and _differ(a, b, 100 * tolerance):
            return True
    return False


def _differ(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    """Tell whether values differ by more than a tolerance relative to the largest, or to 1."""
    scale = max(1.0, float(theirs.abs().nan_to_num(posinf=0.0).max()))
    return not torch.allclose(ours, theirs.to(ours.dtype), rtol=0, atol=tolerance * scale, equal_nan=True)


def _first_difference(reading: Reading, model: ConvertedModel, inputs: Sequence[Tensor]) -> str:
    """Say which layer is the first to differ for an instance that differs when it comes alone."""
    assert reading.run is not None
    converted = ConvertedModel(reading.spec, inputs[0].dtype, like=model)
    for i in range(len(SCALES)):
        rows = [x[i : i + 1] for x in inputs]
        expected = reading.run([x.clone() for x in rows])
        with torch.no_grad():
            trace = converted.trace(rows)
        found = [trace.values[name] for name in reading.spec.outputs]
        if not any(a.shape != b.shape or _differ(a, b, 1e-4) for a, b in zip(found, expected, strict=True)):
            continue
        theirs = reading.values(rows) if reading.values is not None else {}
        for layer in reading.spec.layers:
            value = theirs.get(layer.name)
            if value is not None and value.is_floating_point():
                ours = trace[layer.name].output[0]
                if ours.shape != value.shape or _differ(ours, value.to(ours.dtype), 1e-4):
                    return (
                        f"the first layer that differs is {layer.where}. Please report this as a bug, with the model."
                    )
        return "no single layer shows where. Please report this as a bug, with the model."
    return (
        "it agrees for a single instance, but the answer for one instance depends on the others that it comes with "
        "(a mean over the batch, for example). Such a model cannot be explained instance by instance."
    )


def _show(dims: tuple[tuple[int, ...], ...]) -> str:
    return ", ".join(str(dim) for dim in dims)
