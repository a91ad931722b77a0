"""Any model as a function of arrays: what the model-agnostic methods explain.

`read_predictor` knows how models of each kind predict, and what they say of shapes, names and the kind of output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn

from innsight_py._checks import describe
from innsight_py.bare import device_of, in_evaluation
from innsight_py.converter import Converter
from innsight_py.converters.torch import independent_copy
from innsight_py.data import read_data, to_channels_first, without_tensors
from innsight_py.names import LayerNames, default_names, read_names
from innsight_py.spec import parse_dims

OutputType = Literal["regression", "classification"]
Call = Callable[[Any], Any]

#: Bytes of the rows that a model is given at once, where the user does not say how many.
PREDICT_BYTES = 4 * 2**20


@dataclass
class Predictor:
    """A model that is only known by its predictions.

    Attributes
    ----------
    model : Any
        The user's model.
    output_type : {"regression", "classification"}
        What it predicts.
    input_dim, input_names, output_dim, output_names
        As in `Converter`, with one input and one output layer.
    """

    model: Any
    output_type: OutputType
    input_dim: list[tuple[int, ...]]
    input_names: list[LayerNames]
    output_dim: list[tuple[int, ...]]
    output_names: list[LayerNames]
    _ask: _Ask

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Predict for rows ``(n, *dims)`` in the layout of the data; returns ``(n, nodes)``."""
        values, _ = self._ask(rows)
        if values.shape[1] != self.output_dim[0][0]:
            raise _changed(self.output_dim[0][0], values.shape[1])
        return values


@dataclass(frozen=True)
class _Ask:
    """Hands rows to a model in the form that it wants, and reads what it says.

    Attributes
    ----------
    call : callable
        The model.
    columns : sequence of str, optional
        The model wants a frame with these columns.
    batch_size : int, optional
        At most so many rows at once.
    """

    call: Call
    columns: Any
    batch_size: int | None

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
        """Return predictions ``(n, nodes)``, and their names where they come as a frame."""
        size = self.batch_size or max(1, PREDICT_BYTES // rows[:1].nbytes)
        parts = [self._ask(rows[start : start + size]) for start in range(0, len(rows), size)]
        for values, _ in parts:
            if values.shape[1] != parts[0][0].shape[1]:
                raise _changed(parts[0][0].shape[1], values.shape[1])
        return np.concatenate([values for values, _ in parts]), parts[0][1]

    def _ask(self, rows: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
        given = rows.copy() if self.columns is None else pd.DataFrame(rows, columns=self.columns)
        try:
            answer = self.call(given)
        except Exception as error:
            raise ValueError(
                f"The model could not predict for {describe(given)}: {type(error).__name__}: {error}\n"
                "'pred_fun' gets the rows as 'data' has them (a frame with its columns, or an array in its layout); "
                "say with 'channels_first' how signals and images lie."
            ) from error
        return _as_matrix(answer, len(rows))


def _changed(before: int, now: int) -> ValueError:
    return ValueError(f"The model predicted {before} values a row at first, now it predicts {now}.")


def _as_matrix(answer: Any, rows: int) -> tuple[np.ndarray, list[str] | None]:
    names = [str(column) for column in answer.columns] if isinstance(answer, pd.DataFrame) else None
    wrapped = isinstance(answer, list | tuple) and len(answer) == 1 and np.ndim(without_tensors(answer[0])) == 2
    answer = answer[0] if wrapped else answer
    try:
        values = np.asarray(without_tensors(answer))
    except ValueError:  # arrays of different shapes
        values = np.empty(0)
    if values.ndim == 1 and len(values) == rows:
        values = values[:, None]
    if values.ndim != 2 or len(values) != rows or not values.shape[1]:
        raise ValueError(
            f"The model must predict one array of shape (B,) or (B, nodes), got {describe(answer)} for {rows} rows. "
            "Of several output layers 'pred_fun' can return one."
        )
    if values.dtype.kind not in "biuf":
        raise ValueError(
            f"The model must predict numbers, got {describe(answer)}; for classes give a 'pred_fun' that returns "
            "their probabilities."
        )
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("The model predicts values that are not finite (NaN or infinite).")
    return values, names


# -- reading --------------------------------------------------------------------------------------------------------


def read_predictor(
    model: Any,
    data: Any,
    *,
    output_type: OutputType | None,
    pred_fun: Call | None,
    channels_first: bool,
    input_dim: Any,
    input_names: Any,
    output_names: Any,
    batch_size: int | None,
) -> tuple[Predictor, np.ndarray, np.ndarray]:
    """Read a model of any kind, and the data that it is to be explained for.

    Returns
    -------
    Predictor, ndarray, ndarray
        The model, the data ``(B, *dims)`` in their own layout, and the predictions ``(B, nodes)`` for them.

    Raises
    ------
    TypeError, ValueError
        If the model cannot be asked for predictions, or does not fit the data or the arguments; the message says why.
    """
    known = _known(model, channels_first, needed=pred_fun is None)
    dims = _dims(data, known.input_dim, input_dim, channels_first)
    rows = read_data(data, [dims], channels_first, torch.float64, "data")[0].numpy()
    columns = data.columns if isinstance(data, pd.DataFrame) else None
    if pred_fun is not None:
        ask = _Ask(pred_fun, columns, batch_size)
    else:
        assert known.call is not None
        wanted = (known.columns if columns is None else columns) if known.takes_frames and len(dims) == 1 else None
        ask = _Ask(known.call, wanted, batch_size)
    preds, names = ask(rows)
    predictor = Predictor(
        model,
        output_type or known.output_type,
        [dims],
        _names(
            (input_names, None if columns is None else [str(name) for name in columns], known.input_names),
            dims, "input_names", None,
        ),
        [preds.shape[1:]],
        _names((output_names, names, known.output_names), preds.shape[1:], "output_names", ("Y",)),
        ask,
    )  # fmt: skip
    return predictor, rows, preds


def _names(
    candidates: tuple[Any, ...], dim: tuple[int, ...], argument: str, letters: tuple[str, ...] | None
) -> list[LayerNames]:
    """Take the first names that there are; those that the user gave must fit."""
    given, *found = candidates
    if given is not None:
        return read_names(given, [dim], argument)
    for names in found:
        if names is not None:
            try:
                return read_names(names, [dim], argument)
            except ValueError:  # names of something else than what the prediction function returns
                continue
    return [default_names(dim, letters)]


def _dims(data: Any, own: tuple[int, ...] | None, given: Any, channels_first: bool) -> tuple[int, ...]:
    """Find the shape of an instance, channels first, and check it against the model's own and the argument."""
    try:
        shape = tuple(data.shape) if hasattr(data, "shape") else np.shape(without_tensors(data))
    except ValueError:
        raise ValueError(
            "Argument 'data': expected one rectangular array; models with several inputs cannot be explained by "
            f"model-agnostic methods. Got {describe(data)}."
        ) from None
    expected = own
    if given is not None:
        parsed = parse_dims(given, "Argument 'input_dim'")
        if len(parsed) > 1:
            raise ValueError(f"Argument 'input_dim': expected the shape of a single input, got {len(parsed)}.")
        if own is not None and parsed[0] != own:
            raise ValueError(f"Argument 'input_dim': the model takes {own} (channels first), got {parsed[0]}.")
        expected = parsed[0]
    if expected is not None:
        return expected
    if len(shape) < 2:
        raise ValueError(f"Argument 'data': expected instances of shape (B, *dims), got {describe(data)}.")
    dims = tuple(int(n) for n in shape[1:])
    return dims if channels_first or len(dims) == 1 else (dims[-1], *dims[:-1])


# -- kinds of models ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Known:
    """What a model says of itself. `call` predicts for rows in the user's layout."""

    call: Call | None = None
    output_type: OutputType = "regression"
    input_dim: tuple[int, ...] | None = None
    input_names: Any = None
    output_names: Any = None
    takes_frames: bool = False
    columns: list[str] | None = None


def _known(model: Any, channels_first: bool, needed: bool) -> _Known:
    if isinstance(model, Mapping | str | Path):
        model = Converter(model)
    if isinstance(model, Converter):
        return _of_converter(model, channels_first)
    if _is_keras(model):  # before torch, whose modules Keras models can be
        return _of_keras(model, channels_first)
    if isinstance(model, nn.Module):
        return _of_module(model, channels_first)
    if callable(getattr(model, "pred_fun", None)):
        return _Known(model.pred_fun, takes_frames=True)
    if callable(getattr(model, "predict", None)):
        return _of_estimator(model)
    if callable(model):
        return _Known(model, takes_frames=True)
    if needed:
        raise TypeError(
            f"Argument 'model': there is no known way to get predictions from {describe(model)}. Give 'pred_fun', a "
            "function of the rows that returns an array (B,) or (B, nodes)."
        )
    return _Known()


def _of_converter(converter: Converter, channels_first: bool) -> _Known:
    if len(converter.input_dim) > 1 or len(converter.output_dim) > 1:
        raise ValueError(
            "Argument 'model': model-agnostic methods explain models with one input and one output layer, this one "
            f"has {len(converter.input_dim)} and {len(converter.output_dim)}."
        )
    graph = converter.model
    last = graph.layer(graph.explained(0, False).node)
    return _Known(
        _ModuleCall(graph, channels_first, graph.dtype),
        "classification" if last.activation.is_probability else "regression",
        converter.input_dim[0],
        converter.input_names,
        converter.output_names,
    )


def _of_module(module: nn.Module, channels_first: bool) -> _Known:
    copied = in_evaluation(independent_copy(module))
    dtype = next((x.dtype for x in copied.parameters() if x.is_floating_point()), torch.get_default_dtype())
    *_, last = copied.modules()
    kind: OutputType = "classification" if isinstance(last, nn.Sigmoid | nn.Softmax) else "regression"
    return _Known(_ModuleCall(copied, channels_first, dtype), kind)


@dataclass(frozen=True)
class _ModuleCall:
    module: nn.Module
    channels_first: bool
    dtype: torch.dtype

    def __call__(self, rows: np.ndarray) -> Any:
        x = to_channels_first(torch.from_numpy(rows), self.channels_first).to(device_of(self.module), self.dtype)
        with torch.no_grad():
            return self.module(x)


def _is_keras(model: Any) -> bool:
    """Tell a Keras model by its class, without importing Keras."""
    return any(
        cls.__module__.partition(".")[0] in ("keras", "tf_keras") and cls.__name__ == "Model"
        for cls in type(model).__mro__
    )


def _of_keras(model: Any, channels_first: bool) -> _Known:
    if len(model.inputs) > 1 or len(model.outputs) > 1:
        raise ValueError(
            "Argument 'model': model-agnostic methods explain models with one input and one output layer, this one "
            f"has {len(model.inputs)} and {len(model.outputs)}."
        )
    own = tuple(model.inputs[0].shape[1:])
    formats = _data_formats(model)
    # Without a layer that has channels the data lie as the model takes them, whatever they mean.
    model_first = channels_first if len(formats) != 1 or len(own) < 2 else formats == {"channels_first"}
    input_dim = own if model_first or len(own) == 1 else (own[-1], *own[:-1])
    dtype = np.dtype(getattr(model.inputs[0].dtype, "name", model.inputs[0].dtype))
    last = model.layers[-1]
    ends = getattr(getattr(last, "activation", None), "__name__", type(last).__name__).lower()
    return _Known(
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


def _data_formats(layer: Any) -> set[str]:
    """Collect the layouts that the layers of a Keras model are made for."""
    own = {layer.data_format} if isinstance(getattr(layer, "data_format", None), str) else set()
    return own.union(*(_data_formats(inner) for inner in getattr(layer, "layers", ())))


def _of_estimator(estimator: Any) -> _Known:
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
    return _Known(
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
