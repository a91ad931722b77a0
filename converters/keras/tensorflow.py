"""Functions of TensorFlow in models of ``tf_keras``: ``x + y``, ``tf.nn.relu(x)``, ``x[:, :3]``.

``tf_keras`` wraps each of these calls in a layer of the class TFOpLambda (or SlicingOpLambda). Most are operations of
`innsight_py.converters.keras.operations` or `innsight_py.converters.keras.activations` under another name. Their
parameters have other names as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from innsight_py.converters.keras.writer import Call, KerasValue, NoTranslationError, refuse

#: TensorFlow's name -> (name of our operation, number n, parameters in their order). The first n parameters are values
#: or constants. "shape:newshape" means: TensorFlow calls the parameter `shape`, and our operation calls it `newshape`.
_OPERATIONS: dict[str, tuple[str, int, str]] = {
    "__operators__.add": ("Add", 2, "x y"),
    "math.add": ("Add", 2, "x y"),
    "nn.bias_add": ("Add", 2, "value bias"),
    "math.subtract": ("Subtract", 2, "x y"),
    "math.multiply": ("Multiply", 2, "x y"),
    "math.divide": ("Divide", 2, "x y"),
    "math.truediv": ("Divide", 2, "x y"),
    "math.maximum": ("Maximum", 2, "x y"),
    "math.minimum": ("Minimum", 2, "x y"),
    "math.pow": ("Power", 2, "x y"),
    "math.negative": ("Negative", 1, "x"),
    "linalg.matmul": ("Matmul", 2, "a b"),
    "__operators__.getitem": ("GetItem", 2, "x key"),
    "concat": ("Concatenate", 1, "values axis"),
    "stack": ("Stack", 1, "values axis"),
    "reshape": ("Reshape", 1, "tensor shape:newshape"),
    "keras.backend.batch_flatten": ("Flatten", 1, "x"),
    "transpose": ("Transpose", 1, "a perm:axes"),
    "compat.v1.transpose": ("Transpose", 1, "a perm:axes"),
    "expand_dims": ("ExpandDims", 1, "input axis"),
    "squeeze": ("Squeeze", 1, "input axis"),
    "compat.v1.squeeze": ("Squeeze", 1, "input axis"),
    "clip_by_value": ("Clip", 1, "t clip_value_min:x_min clip_value_max:x_max"),
    "math.reduce_mean": ("Mean", 1, "input_tensor axis keepdims"),
    "math.reduce_sum": ("Sum", 1, "input_tensor axis keepdims"),
    "math.reduce_max": ("Max", 1, "input_tensor axis keepdims"),
    "math.reduce_min": ("Min", 1, "input_tensor axis keepdims"),
    "identity": ("Identity", 1, "input"),
    "nn.relu": ("Relu", 1, "features"),
    "nn.relu6": ("Relu6", 1, "features"),
    "nn.leaky_relu": ("LeakyRelu", 1, "features alpha"),
    "nn.elu": ("Elu", 1, "features"),
    "nn.selu": ("Selu", 1, "features"),
    "nn.silu": ("Silu", 1, "features"),
    "nn.gelu": ("Gelu", 1, "features approximate"),
    "nn.softsign": ("Softsign", 1, "features"),
    "nn.softmax": ("Softmax", 1, "logits axis"),
    "nn.log_softmax": ("LogSoftmax", 1, "logits axis"),
    "math.softplus": ("Softplus", 1, "features"),
    "math.sigmoid": ("Sigmoid", 1, "x"),
    "math.log_sigmoid": ("LogSigmoid", 1, "x"),
    "math.tanh": ("Tanh", 1, "x"),
    "math.exp": ("Exp", 1, "x"),
    "math.expm1": ("Expm1", 1, "x"),
    "math.log": ("Log", 1, "x"),
    "math.log1p": ("Log1p", 1, "x"),
    "math.sqrt": ("Sqrt", 1, "x"),
    "math.rsqrt": ("Rsqrt", 1, "x"),
    "math.square": ("Square", 1, "x"),
    "math.reciprocal": ("Reciprocal", 1, "x"),
    "math.abs": ("Abs", 1, "x"),
    "math.sign": ("Sign", 1, "x"),
    "math.sin": ("Sin", 1, "x"),
    "math.cos": ("Cos", 1, "x"),
    "math.atan": ("Arctan", 1, "x"),
    "math.erf": ("Erf", 1, "x"),
}
#: Names of the functions that have a translation, as users write them.
FUNCTIONS = tuple(f"tf.{symbol}" for symbol in sorted(_OPERATIONS) if not symbol.startswith("__"))


def as_operation(layer: Any, args: Sequence[Any], kwargs: Mapping[str, Any], is_output: bool) -> Call:
    """Return a call of a function of TensorFlow as that of an operation of Keras.

    Parameters
    ----------
    layer : TFOpLambda or SlicingOpLambda
        What ``tf_keras`` calls.
    args, kwargs : sequence, mapping
        Its arguments, `KerasValue` in the place of values.
    is_output : bool
        Whether the result is an output of the model.

    Raises
    ------
    SpecError
        If the function, or one of its arguments, has no translation.
    """
    found = _OPERATIONS.get(layer.symbol)
    call = Call(layer, {}, (), is_output=is_output)
    if found is None:
        raise NoTranslationError(
            f"The Keras layer {call.place} has no translation: it is the function tf.{layer.symbol} of TensorFlow. "
            f"Functions that have one: operators, slices, {', '.join(FUNCTIONS)}."
        )
    operation, values, names = found
    parameters = [name.partition(":") for name in names.split()]
    given = dict(zip((name for name, _, _ in parameters), args, strict=False)) | dict(kwargs)
    config = {other or name: _plain(given.pop(name)) for name, _, other in parameters[values:] if name in given}
    arguments = tuple(_plain(given.pop(name)) for name, _, _ in parameters[:values] if name in given)
    ignored = ("name", "conjugate") if operation == "Transpose" else ("name",)
    for name, value in given.items():
        if name not in ignored and value is not None and value is not False:
            raise refuse(call, f"its argument '{name}' has no translation")
    if len(args) > len(parameters) and any(value is not None for value in args[len(parameters) :]):
        raise refuse(call, f"it has {len(args)} arguments, {len(parameters)} have a translation")
    if operation == "GetItem":
        arguments = (arguments[0], _key(arguments[1]))
    if operation == "Reshape" and config["newshape"][0] != -1:
        raise refuse(call, f"it gives the batch the size {config['newshape'][0]}")
    inputs = tuple(value for value in _flat(arguments) if isinstance(value, KerasValue))
    return Call(layer, config, inputs, arguments, inputs[0].sole, is_output, operation)


def _plain(value: Any) -> Any:
    """Return numbers in tensors of TensorFlow, and lists of these, as those of Python or numpy."""
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if not hasattr(value, "numpy") or isinstance(value, KerasValue):
        return value
    array = value.numpy()
    return array.item() if array.ndim == 0 else array


def _key(key: Any) -> list[Any]:
    """Return an index with slices, which ``tf_keras`` keeps as dicts."""
    entries = key if isinstance(key, list) else [key]
    return [slice(e["start"], e["stop"], e["step"]) if isinstance(e, Mapping) else e for e in entries]


def _flat(arguments: Sequence[Any]) -> list[Any]:
    return [entry for value in arguments for entry in (value if isinstance(value, list) else [value])]
