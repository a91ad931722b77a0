"""The door for scikit-learn: multi-layer perceptrons, alone or at the end of a pipeline, and skorch's nets.

A converted classifier computes ``predict_proba`` and a converted regressor ``predict``. Scaling steps before a
perceptron or a net are layers of their own, marked as preparation: what is explained are the columns as the user has
them, and methods that multiply by the input take the scaled ones.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, is_classifier
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from innsight_py._checks import describe
from innsight_py.converters.preparation import MARK, keep_marks
from innsight_py.converters.reading import Reading
from innsight_py.converters.sklearn_tables import (
    ENCODERS,
    CannotEncodeError,
    Table,
    after_encoding,
    flat_steps,
    read_table,
)
from innsight_py.converters.torch import door as torch_door
from innsight_py.converters.use import Use, dims_of, used
from innsight_py.spec import SpecError

_ESTIMATORS = "MLPClassifier, MLPRegressor, a skorch net, or a Pipeline that ends in one"
_STEPS = (
    "StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, FunctionTransformer without a function, 'passthrough', "
    "and before these ColumnTransformer, OneHotEncoder, OrdinalEncoder, SimpleImputer, KNNImputer"
)
_OTHERWISE = "'run_lime' and 'run_shap' explain any predictor."
_ACTIVATIONS = {"identity": "linear"}  # others have the same name in a spec
#: What undoes the transformation of a target, as an activation after the last layer.
_INVERSES = {np.exp: "exp", np.expm1: "expm1"}


def read(model: BaseEstimator, input_dim: tuple[tuple[int, ...], ...] | None, use: Use | None = None) -> Reading:
    """Write the model spec of a fitted estimator.

    Binary classifiers have one logistic output, for the second class; the spec has one node for each class, as
    ``predict_proba`` has columns, and the weights of the first are those of the second with the opposite sign.

    Parameters
    ----------
    model : estimator
        MLPClassifier or MLPRegressor; a Pipeline that ends in one after scaling steps; a search or a
        TransformedTargetRegressor around these; a net of skorch, whose ``module_`` is read.
    input_dim : tuple of tuple of int, optional
        Shape of each input, for nets of skorch.
    use : Use, optional
        How it is used. The shapes of an example stand for `input_dim`.

    Returns
    -------
    Reading
        The model spec, with names from ``feature_names_in_`` and ``classes_`` where the estimator has them; `run`
        predicts with the estimator, `values` gives the values of a skorch net's layers.

    Raises
    ------
    TypeError
        If it is an estimator of another kind.
    ValueError
        If the estimator is not fitted, or has a step that cannot be converted.
    """
    use = use or Use()
    rows = use.rows() if input_dim is None and not isinstance(use.example, Mapping) else None
    writer = _Writer(input_dim if rows is None else dims_of(rows, [not use.channels_first] * len(rows)))
    writer.write(model)
    spec: dict[str, Any] = {"layers": _folded(writer.layers)}
    if writer.input_names is not None:
        spec["input_names"] = writer.input_names
    if writer.net is not None:
        return used(_with_net(spec, writer), use)
    spec |= {"input_dim": [writer.features], "output_names": writer.output_names}
    if writer.table is not None:
        tail = after_encoding(model, writer.table, writer.taken)
        return used(Reading(spec, lambda inputs: _predict(tail, inputs[0]), encoder=writer.table), use)
    return used(Reading(spec, lambda inputs: _predict(model, inputs[0])), use)


class _Writer:
    """Goes through nested estimators and writes their layers, each of which takes the one before it."""

    def __init__(self, input_dim: tuple[tuple[int, ...], ...] | None) -> None:
        self.given = input_dim
        self.layers: list[dict[str, Any]] = []
        self.features: int | None = None
        self.input_names: list[str] | None = None
        self.output_names: list[str] | None = None
        self.net: Any = None  # of skorch
        self.table: Table | None = None  # what encodes the data first
        self.taken = 0  # steps of the pipeline that it has
        self.before: list[Any] = []  # what transforms the data first

    def write(self, model: Any) -> None:
        """Write the layers of an estimator."""
        name = type(model).__name__
        if not _begins_with_encoder(model):
            self._take_names(model)
        if isinstance(model, Pipeline):
            *steps, (_, last) = model.steps
            for title, step in self._encode(flat_steps(steps)):
                self._scale(title, step)
            self.write(last)
        elif hasattr(model, "best_estimator_"):
            self.write(model.best_estimator_)
        elif isinstance(model, TransformedTargetRegressor):
            _check_fitted(model)
            self.write(model.regressor_)
            if self.net is not None:
                raise SpecError(
                    f"{name} around a skorch net cannot be converted: convert its 'regressor_'. {_OTHERWISE}"
                )
            self._undo(model.transformer_)
        elif isinstance(model, MLPClassifier | MLPRegressor):
            _check_fitted(model)
            self._perceptron(model)
        elif hasattr(model, "initialize_module"):  # skorch
            if not hasattr(model, "module_"):
                raise SpecError(f"{name} is not initialized: call its 'fit' (or 'initialize') first.")
            self.net = model
        elif isinstance(model, GridSearchCV | RandomizedSearchCV):
            raise SpecError(f"{name} has no 'best_estimator_': call its 'fit' first, with 'refit' on.")
        else:
            found = describe(model) if isinstance(model, str) else name
            raise TypeError(f"Argument 'model': expected {_ESTIMATORS}, got {found}. {_OTHERWISE}")

    def _encode(self, steps: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """Take encoders as a fixed first step, and return the steps after them."""
        if self.layers or self.table is not None:
            return steps
        for title, step in steps:
            if isinstance(step, ENCODERS):
                _check_fitted(step, f"The step '{title}' ({type(step).__name__})")
        try:
            found = read_table(steps, _scaling)
        except CannotEncodeError as error:
            raise SpecError(
                f"{error} cannot be converted, and an encoder comes after it or beside it. Steps that can be: "
                f"{_STEPS}. {_OTHERWISE}"
            ) from None
        if found is None:
            return steps
        self.table, self.taken = found
        self.features, self.input_names = len(self.table.names), list(self.table.names)
        self.before.append(FunctionTransformer(self.table.scale))
        if (self.table.factor != 1).any() or (self.table.shift != 0).any():
            self.layers.append({**_scale(self.table.factor, self.table.shift), MARK: True})
        return steps[self.taken :]

    def _take_names(self, model: Any) -> None:
        if self.input_names is None and hasattr(model, "feature_names_in_"):
            self.input_names = [str(name) for name in model.feature_names_in_]
        if self.features is None and hasattr(model, "n_features_in_"):
            self.features = int(model.n_features_in_)

    def _scale(self, title: str, step: Any) -> None:
        if step is None or isinstance(step, str):  # 'passthrough'
            return
        place = f"The step '{title}' ({type(step).__name__})"
        if not isinstance(step, FunctionTransformer):
            _check_fitted(step, place)
        scaling = _scaling(step)
        if scaling is None:
            raise SpecError(f"{place} cannot be converted. Steps that can be: {_STEPS}. {_OTHERWISE}")
        self._take_names(step)
        self.before.append(step)
        self.layers += [{**layer, MARK: True} for layer in scaling]

    def _perceptron(self, model: Any) -> None:
        hidden = _ACTIVATIONS.get(model.activation, model.activation)
        layers = [
            {"type": "Dense", "weight": weight.T, "bias": bias, "activation_name": hidden}
            for weight, bias in zip(model.coefs_, model.intercepts_, strict=True)
        ]
        last = layers[-1]
        last["activation_name"] = _ACTIVATIONS.get(model.out_activation_, model.out_activation_)
        if isinstance(model, MLPClassifier):
            self.output_names = [str(label) for label in model.classes_]
            if len(last["bias"]) == 1:  # 1 - p has the opposite logit of p
                last["weight"] = np.concatenate([-last["weight"], last["weight"]])
                last["bias"] = np.concatenate([-last["bias"], last["bias"]])
        self.layers += layers

    def _undo(self, transformer: Any) -> None:
        """Write how a transformed target is taken back."""
        if isinstance(transformer, FunctionTransformer) and transformer.inverse_func is not None:
            function = transformer.inverse_func
            if function not in _INVERSES or transformer.inv_kw_args:
                known = ", ".join(f"np.{inverse.__name__}" for inverse in _INVERSES)
                raise SpecError(
                    f"The 'inverse_func' of TransformedTargetRegressor cannot be converted: expected one of {known}, "
                    f"got {getattr(function, '__name__', function)!r}. {_OTHERWISE}"
                )
            self.layers.append({"type": "Activation", "act_name": _INVERSES[function]})
            return
        scaling = None if transformer is None else _scaling(transformer)
        if scaling is None:
            raise SpecError(
                f"The transformer of TransformedTargetRegressor ({type(transformer).__name__}) cannot be converted. "
                f"Transformers that can be: {_STEPS}. {_OTHERWISE}"
            )
        for layer in scaling[:1]:  # clipping is not undone
            self.layers.append(_scale(1 / layer["factor"], -layer["shift"] / layer["factor"]))


def _begins_with_encoder(model: Any) -> bool:
    """Tell whether names of columns are those of a table that is encoded first."""
    inner = getattr(model, "best_estimator_", getattr(model, "regressor_", model))
    return isinstance(inner, Pipeline) and any(isinstance(step, ENCODERS) for _, step in flat_steps(inner.steps[:-1]))


def _check_fitted(model: Any, place: str | None = None) -> None:
    try:
        check_is_fitted(model)
    except ValueError:
        raise SpecError(f"{place or type(model).__name__} is not fitted: call 'fit' first.") from None


def _scale(factor: Any, shift: Any) -> dict[str, Any]:
    return {"type": "Scale", "factor": np.asarray(factor, np.float64), "shift": np.asarray(shift, np.float64)}


def _scaling(step: Any) -> list[dict[str, Any]] | None:
    """Write a scaling step as the layers that it is; None for a step of another kind."""
    clamp: tuple[float, float] | None = None
    if isinstance(step, StandardScaler | RobustScaler):
        standard = isinstance(step, StandardScaler)
        center, scale = (step.mean_, step.scale_) if standard else (step.center_, step.scale_)
        with_center, with_scale = (
            (step.with_mean, step.with_std) if standard else (step.with_centering, step.with_scaling)
        )
        factor = 1 / scale if with_scale else np.ones(step.n_features_in_)
        shift = -center * factor if with_center else np.zeros(step.n_features_in_)
    elif isinstance(step, MinMaxScaler):
        factor, shift = step.scale_, step.min_
        clamp = tuple(step.feature_range) if step.clip else None
    elif isinstance(step, MaxAbsScaler):
        factor, shift = 1 / step.scale_, np.zeros(len(step.scale_))
        clamp = (-1.0, 1.0) if getattr(step, "clip", False) else None
    elif isinstance(step, FunctionTransformer) and step.func is None:
        return []
    else:
        return None
    layers = [_scale(factor, shift)]
    if clamp is not None:
        params = {"min": float(clamp[0]), "max": float(clamp[1])}
        layers.append({"type": "Activation", "act_name": "clamp", "act_params": params})
    return layers


def _folded(layers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write a scale into the scale before it, and scales and activations of a target into the dense layer before."""
    folded: list[dict[str, Any]] = []
    for layer in layers:
        kinds = (folded[-1]["type"] if folded else None, layer["type"])
        before = folded[-1] if folded else {}
        linear = before.get("activation_name") == "linear"
        if kinds == ("Scale", "Scale"):
            both = _scale(before["factor"] * layer["factor"], before["shift"] * layer["factor"] + layer["shift"])
            folded[-1] = before | both
        elif kinds == ("Dense", "Scale") and linear:
            weight = before["weight"] * layer["factor"].reshape(-1, 1)
            folded[-1] = {**before, "weight": weight, "bias": before["bias"] * layer["factor"] + layer["shift"]}
        elif kinds == ("Dense", "Activation") and linear:
            folded[-1] = {**before, "activation_name": layer["act_name"]}
        else:
            folded.append(layer)
    return folded


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings of missing feature names and of overflows from the user, who did not give the data."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _predict(model: Any, x: Tensor) -> list[Tensor]:
    """Predict with the original: probabilities of a classifier, values of a regressor."""
    with _quiet():
        predicted = model.predict_proba(x.numpy()) if is_classifier(model) else model.predict(x.numpy())
    return [torch.from_numpy(np.ascontiguousarray(predicted)).reshape(len(x), -1)]


def _with_net(spec: dict[str, Any], writer: _Writer) -> Reading:
    """Put the layers of a skorch net's module after the scaling that comes before it."""
    dims = writer.given or (None if writer.features is None else ((writer.features,),))
    net = torch_door.read(writer.net.module_, dims)
    net_spec, net_run = net.spec, net.run
    assert net_run is not None
    before = "input_1"
    for i, layer in enumerate(spec["layers"], start=1):
        layer |= {"name": f"scaling_{i}", "inputs": [before]}
        before = layer["name"]
    for layer in net_spec["layers"]:
        layer["inputs"] = [before if name == "input_1" else name for name in layer["inputs"]]
    names = {key: spec[key] for key in ("input_names",) if key in spec and [len(dim) for dim in dims or ()] == [1]}
    labels = [str(label) for label in getattr(writer.net, "classes_", [])]
    outputs = net_run([torch.zeros(1, *dim) for dim in dims or ()])
    if len(outputs) == 1 and outputs[0].shape[1] == len(labels):
        names["output_names"] = labels

    def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        x: Any = inputs[0].numpy()
        with _quiet():
            for step in writer.before:
                x = step.transform(x)
        return net_run([torch.as_tensor(np.asarray(x), dtype=inputs[0].dtype), *inputs[1:]])

    whole = net_spec | names | {"layers": spec["layers"] + net_spec["layers"]}
    keep_marks(whole["layers"], len(dims or ()), whole["outputs"])
    return Reading(whole, run, None if writer.before else net.values, encoder=writer.table)
