"""The table of operators of ``ai.onnx.ml``, with which scikit-learn's models are written."""

from __future__ import annotations

import torch

from innsight_py.converters.compositions import concatenate, softmax
from innsight_py.converters.onnx.activations import text
from innsight_py.converters.onnx.arithmetic import term
from innsight_py.converters.onnx.writer import Call, OnnxWriter, Result, reads, refuse
from innsight_py.converters.writer import Value


def _numbers(call: Call, name: str) -> torch.Tensor | None:
    given = call.get(name)
    return None if given is None else torch.tensor([float(v) for v in given], dtype=torch.float64)


@reads("ai.onnx.ml.Scaler", writes="Scale")
def _scaler(write: OnnxWriter, call: Call) -> Result:
    x, factor, offset = call.x, _numbers(call, "scale"), _numbers(call, "offset")
    factor = torch.ones(1, dtype=torch.float64) if factor is None else factor
    return write.scale(x, factor, None if offset is None else -offset * factor)


@reads("ai.onnx.ml.Normalizer", writes="Activation GlobalPooling Multiply Reduce")
def _normalizer(write: OnnxWriter, call: Call) -> Result:
    x, norm = call.x, text(call, "norm", "MAX")
    axis = [len(x.shape) - 1]
    if norm == "L2":
        squares = write.reduce(write.activation(x, "pow", exponent=2.0), "sum", axis, True)
        return write.multiply(x, write.activation(squares, "rsqrt"))
    if norm == "L1":
        size = write.reduce(write.activation(x, "abs"), "sum", axis, True)
    elif norm == "MAX":
        size = write.maximum(x, axis, True)
    else:
        raise refuse(call, f"its norm '{norm}' is not known")
    return write.multiply(x, write.activation(size, "reciprocal"))


@reads("ai.onnx.ml.FeatureVectorizer", writes="Concatenate")
def _feature_vectorizer(write: OnnxWriter, call: Call) -> Result:
    parts = [term(call, i) for i in range(len(call.inputs))]
    if len(parts) == 1:
        return parts[0]
    shape = (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))
    return concatenate(write, parts, len(shape) - 1, shape)


@reads("ai.onnx.ml.ArrayFeatureExtractor", writes="")
def _array_feature_extractor(write: OnnxWriter, call: Call) -> Result:
    x = call.x
    indices = [int(i) for i in call.fixed(1, "indices").flatten().tolist()]
    return write.take(x, len(x.shape) - 1, indices)


@reads("ai.onnx.ml.LinearRegressor", writes="Activation Dense")
def _linear_regressor(write: OnnxWriter, call: Call) -> Result:
    y = _linear(write, call, int(call.get("targets", 1)), "intercepts")
    return _transformed(write, call, y)


@reads("ai.onnx.ml.LinearClassifier", writes="Activation Concatenate Dense")
def _linear_classifier(write: OnnxWriter, call: Call) -> list[Result | None]:
    labels = call.get("classlabels_ints") or call.get("classlabels_strings") or []
    coefficients = _numbers(call, "coefficients")
    assert coefficients is not None
    outputs = len(coefficients) // call.x.shape[-1]
    y = _linear(write, call, outputs, "intercepts")
    transform = text(call, "post_transform", "NONE")
    if outputs == 1 and len(labels) == 2:
        if transform not in ("NONE", "LOGISTIC"):
            raise refuse(call, f"its post_transform '{transform}' of one score for two classes is not known")
        y = _transformed(write, call, y)
        other = write.scale(y, -1, None if transform == "NONE" else 1)
        return [None, concatenate(write, [other, y], 1, (y.shape[0], 2))]
    return [None, _transformed(write, call, y)]


def _linear(write: OnnxWriter, call: Call, outputs: int, key: str) -> Value:
    x, coefficients, bias = call.x, _numbers(call, "coefficients"), _numbers(call, key)
    assert coefficients is not None
    weight = coefficients.reshape(outputs, -1)
    bias = bias if bias is not None and len(bias) == outputs else None
    return write.layer("Dense", [x], (*x.shape[:-1], outputs), weight=weight, bias=bias)


def _transformed(write: OnnxWriter, call: Call, y: Value) -> Value:
    transform = text(call, "post_transform", "NONE")
    if transform == "LOGISTIC":
        return write.activation(y, "sigmoid", True)
    if transform == "SOFTMAX":
        return softmax(write, y, len(y.shape) - 1, "softmax", True)
    if transform != "NONE":
        raise refuse(call, f"its post_transform '{transform}' is not known")
    return y


@reads("ai.onnx.ml.Binarizer", writes="Operator")
def _binarizer(write: OnnxWriter, call: Call) -> Result:
    threshold = torch.tensor(float(call.get("threshold", 0.0))).double()
    above = write.operator("gt.Tensor", [call.x, threshold], call.x.shape)
    return write.operator("where.self", [above, torch.ones(()).double(), torch.zeros(()).double()], call.x.shape)


@reads("ai.onnx.ml.Imputer", writes="")
def _imputer(write: OnnxWriter, call: Call) -> Result:
    """Missing numbers cannot be explained, and without them it is the identity."""
    replaced = call.get("replaced_value_float", 0.0)
    if replaced == replaced:  # not NaN: a number that data may well have
        raise refuse(call, f"it replaces the number {replaced}")
    return call.x
