"""How models of each kind predict, and what they say of shapes, names and the kind of output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from innsight_py._checks import describe
from innsight_py.converters.keras.recognition import data_formats, has_channels_first, is_keras_model
from innsight_py.converters.torch.copies import independent_copy
from innsight_py.inputs.data import to_channels_first
from innsight_py.model.converter import Converter
from innsight_py.model.module import device_of, in_evaluation

OutputType = Literal["regression", "classification"]
Call = Callable[[Any], Any]


@dataclass(frozen=True)
class Known:
    """What a model says of itself.

    Attributes
    ----------
    call : callable, optional
        Predicts for rows ``(n, *dims)`` in the layout of the data.
    output_type, input_dim, input_names, output_names
        As in `innsight_py.methods.agnostic.predictor.Predictor`; None where the model does not know.
    takes_frames : bool
        Whether `call` may get a frame, where the data are one.
    columns : list of str, optional
        Whether it wants one with these columns, where they are none.
    """

    call: Call | None = None
    output_type: OutputType = "regression"
    input_dim: tuple[int, ...] | None = None
    input_names: Any = None
    output_names: Any = None
    takes_frames: bool = False
    columns: list[str] | None = None


def own_layout(model: Any) -> bool:
    """Tell whether a model takes its data channels first; models that do not say so do."""
    if isinstance(model, Converter):
        return model.channels_first
    return not is_keras_model(model) or has_channels_first(model)


def read_kind(model: Any, channels_first: bool, needed: bool) -> Known:
    """Find out how a model predicts and what it knows; without a way to predict refuse it if one is `needed`.

    Raises
    ------
    TypeError, ValueError
        If it cannot be asked for numbers, or has several inputs or output layers.
    """
    if isinstance(model, Mapping | str | Path):
        model = Converter(model)
    if isinstance(model, Converter):
        return _of_converter(model, channels_first)
    if is_keras_model(model):  # before torch, whose modules Keras models can be
        return _of_keras(model, channels_first)
    if isinstance(model, nn.Module):
        return _of_module(model, channels_first)
    if callable(getattr(model, "pred_fun", None)):
        return Known(model.pred_fun, takes_frames=True)
    if callable(getattr(model, "predict", None)):
        return _of_estimator(model)
    if callable(model):
        return Known(model, takes_frames=True)
    if needed:
        raise TypeError(
            f"Argument 'model': there is no known way to get predictions from {describe(model)}. Give 'pred_fun', a "
            "function of the rows that returns an array (B,) or (B, nodes)."
        )
    return Known()


def _of_converter(converter: Converter, channels_first: bool) -> Known:
    if len(converter.input_dim) > 1 or len(converter.output_dim) > 1:
        raise ValueError(
            "Argument 'model': model-agnostic methods explain models with one input and one output layer, this one "
            f"has {len(converter.input_dim)} and {len(converter.output_dim)}."
        )
    if converter.encoder is not None:
        return _of_encoding(converter)
    graph = converter.model
    last = graph.layer(graph.explained(0, False).node)
    return Known(
        _ModuleCall(graph, channels_first, graph.dtype),
        "classification" if last.activation.is_probability else "regression",
        converter.input_dim[0],
        converter.input_names,
        converter.output_names,
    )


def _of_encoding(converter: Converter) -> Known:
    """Ask a converted pipeline with frames as people have them."""
    assert converter.encoder is not None
    columns, graph = list(converter.encoder.groups.columns), converter.model
    last = graph.layer(graph.explained(0, False).node)
    return Known(
        _EncodedCall(converter),
        "classification" if last.activation.is_probability else "regression",
        input_names=columns,
        output_names=converter.output_names,
        takes_frames=True,
        columns=columns,
    )


@dataclass(frozen=True)
class _EncodedCall:
    converter: Converter

    def __call__(self, rows: Any) -> Any:
        assert self.converter.encoder is not None
        numbers, _ = self.converter.encoder.encode(rows, "Argument 'data'")
        with torch.no_grad():
            return self.converter.model(torch.as_tensor(np.asarray(numbers)).to(self.converter.model.dtype))


def _of_module(module: nn.Module, channels_first: bool) -> Known:
    copied = in_evaluation(independent_copy(module))
    dtype = next((x.dtype for x in copied.parameters() if x.is_floating_point()), torch.get_default_dtype())
    *_, last = copied.modules()
    kind: OutputType = "classification" if isinstance(last, nn.Sigmoid | nn.Softmax) else "regression"
    return Known(_ModuleCall(copied, channels_first, dtype), kind)


@dataclass(frozen=True)
class _ModuleCall:
    module: nn.Module
    channels_first: bool
    dtype: torch.dtype

    def __call__(self, rows: np.ndarray) -> Any:
        x = to_channels_first(torch.from_numpy(rows), self.channels_first).to(device_of(self.module), self.dtype)
        with torch.no_grad():
            return self.module(x)


def _of_keras(model: Any, channels_first: bool) -> Known:
    if not getattr(model, "inputs", None):
        return Known(_KerasCall(model, channels_first, channels_first, np.dtype(np.float32)))
    if len(model.inputs) > 1 or len(model.outputs) > 1:
        raise ValueError(
            "Argument 'model': model-agnostic methods explain models with one input and one output layer, this one "
            f"has {len(model.inputs)} and {len(model.outputs)}."
        )
    own = tuple(model.inputs[0].shape[1:])
    formats = data_formats(model)
    # Without a layer that has channels the data lie as the model takes them, whatever they mean.
    model_first = channels_first if len(formats) != 1 or len(own) < 2 else formats == {"channels_first"}
    input_dim = own if model_first or len(own) == 1 else (own[-1], *own[:-1])
    dtype = np.dtype(getattr(model.inputs[0].dtype, "name", model.inputs[0].dtype))
    last = model.layers[-1]
    ends = getattr(getattr(last, "activation", None), "__name__", type(last).__name__).lower()
    return Known(
        _KerasCall(model, channels_first, model_first, dtype),
        "classification" if ends in ("softmax", "sigmoid") else "regression",
        None if any(n is None for n in own) else input_dim,
    )


@dataclass(frozen=True)
class _KerasCall:
    model: Any
    channels_first: bool
    model_first: bool
    dtype: np.dtype

    def __call__(self, rows: np.ndarray) -> Any:
        if rows.ndim > 2 and self.channels_first != self.model_first:
            rows = np.moveaxis(rows, 1, -1) if self.channels_first else np.moveaxis(rows, -1, 1)
        return self.model.predict(np.ascontiguousarray(rows, self.dtype), batch_size=len(rows), verbose=0)


def _of_estimator(estimator: Any) -> Known:
    """Read a scikit-learn estimator, or what behaves like one."""
    columns = getattr(estimator, "feature_names_in_", None)
    classes = getattr(estimator, "classes_", None)
    call = estimator.predict
    if classes is not None:
        scores = next((n for n in ("predict_proba", "decision_function") if hasattr(estimator, n)), None)
        if scores is None:
            raise TypeError(
                f"Argument 'model': {describe(estimator)} predicts classes without probabilities or scores; give a "
                "'pred_fun' that returns numbers."
            )
        call = getattr(estimator, scores)
    labels = None if classes is None or np.ndim(classes) != 1 else [str(label) for label in classes]
    net = hasattr(estimator, "module_")  # skorch hands the rows to a torch module as they are
    return Known(
        _InSingle(call) if net else call,
        "regression" if classes is None else "classification",
        input_names=None if columns is None else [str(name) for name in columns],
        output_names=labels,
        takes_frames=columns is not None or not hasattr(estimator, "n_features_in_"),
        columns=None if columns is None else list(columns),
    )


@dataclass(frozen=True)
class _InSingle:
    call: Call

    def __call__(self, rows: np.ndarray) -> Any:
        return self.call(np.asarray(rows, np.float32))
