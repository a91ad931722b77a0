"""Every layer and activation of Keras that has a translation: predictions, shapes, and what DeepLift makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

keras = pytest.importorskip("keras")

import keras_models  # noqa: E402
from keras_models import CASES, IMAGE, SIGNAL, L, build, check, last_first  # noqa: E402

from innsight_py import Converter, run_grad  # noqa: E402
from innsight_py.converters.keras import door  # noqa: E402, F401 (fills the tables)
from innsight_py.converters.keras.writer import ACTIVATIONS, LAYERS, OPERATIONS  # noqa: E402
from innsight_py.layers import UnsupportedLayerError  # noqa: E402

#: As in R, where the winner of a global maximum takes all in any case.
INEXACT = tuple(f"GlobalMaxPooling{n}D" for n in (1, 2, 3))


@pytest.mark.parametrize("name", CASES)
def test_layer(name):
    shapes, apply = CASES[name]

    def flat(*inputs):
        y = apply(*inputs)
        return L.Flatten()(y) if len(y.shape) > 2 else y

    check(build(shapes, flat), deeplift=name.partition(" ")[0] not in INEXACT and "Normalization" not in name)


@pytest.mark.parametrize("name", CASES)
def test_layer_within_a_model(name):
    """The layer between others, ending in a table, so that every method has something to explain."""
    shapes, apply = CASES[name]

    def whole(*inputs):
        y = apply(*inputs)
        if len(y.shape) > 2:
            y = L.Flatten()(L.Activation("tanh")(y))
        return L.Dense(2)(L.Dense(4, activation="softplus")(y))

    check(build(shapes, whole), deeplift=name.partition(" ")[0] not in INEXACT and "Normalization" not in name)


def test_every_layer_has_a_case():
    kinds = {name.partition(" ")[0].partition(",")[0] for name in CASES}
    recurrent = {"Bidirectional", "GRU", "LSTM", "RNN", "SimpleRNN"}
    special = recurrent | {
        "Activation",
        "Embedding",
        "InputLayer",
        "LayerScale",
        "StochasticDepth",
        "CustomScaleLayer",
        "ThresholdedReLU",
    }  # tested elsewhere
    assert set(LAYERS) - kinds - special <= {
        name for name in LAYERS if name.startswith("Random") or not hasattr(L, name)
    }


#: Keras does not know the shape of a layer with the activation glu, so nothing can come after it.
FUNCTIONS = sorted(
    name for name in ACTIVATIONS if hasattr(keras.activations, name) and name not in ("threshold", "glu")
)


@pytest.mark.parametrize("where", ["Activation", "Dense", "Conv1D", "signal"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_activation(name, where):
    if where == "Activation":
        model = build((6,), L.Activation(name))
    elif where == "Dense":
        model = build((5,), lambda x: L.Dense(3)(L.Dense(6, activation=name)(x)))
    elif where == "Conv1D":
        model = build(SIGNAL, lambda x: L.Dense(2)(L.Flatten()(L.Conv1D(6, 3, activation=name)(x))))
    else:
        model = build(SIGNAL, lambda x: L.Dense(2)(L.Flatten()(L.Activation(name)(L.Conv1D(6, 3)(x)))))
    if name == "sparsemax":
        with pytest.raises(UnsupportedLayerError, match="DeepLift"):
            check(model)
        check_gradient(model)
    else:
        check(model)


def check_gradient(model):
    """Compare the gradient with differences of the model's own predictions."""
    converter = Converter(model)
    x = np.random.default_rng(3).normal(size=(1, *model.inputs[0].shape[1:])).astype(np.float32)
    found = run_grad(converter, x, channels_first=False, ignore_last_act=False, dtype="double").get_result()[0]
    step = 1e-4
    for index in np.ndindex(x.shape[1:]):
        up, down = x.astype(np.float64), x.astype(np.float64)
        up[0][index] += step
        down[0][index] -= step
        high, low = (converter.model_in("double")(torch.from_numpy(last_first(v)))[0] for v in (up, down))
        np.testing.assert_allclose(found[index], (high - low)[0].numpy() / (2 * step), rtol=0, atol=1e-6)


@pytest.mark.parametrize("where", ["end", "Dense"])
def test_glu(where):
    if where == "end":
        check(build((6,), L.Activation("glu")))
    else:
        check(build((5,), L.Dense(6, activation="glu")))


def test_every_activation_of_keras_is_taken():
    functions = {
        name
        for name in dir(keras.activations)
        if callable(getattr(keras.activations, name)) and name not in ("get", "serialize", "deserialize")
    }
    assert functions <= set(ACTIVATIONS)


OPERATION_CASES = {
    "x + y": ([(5,), (5,)], lambda x, y: x + y),
    "x + 2": ([(5,)], lambda x: 2 + x + 1),
    "x - y": ([IMAGE, IMAGE], lambda x, y: x - y),
    "1 - x": ([(5,)], lambda x: 1 - x),
    "x - 1": ([(5,)], lambda x: x - 1),
    "x * y": ([(5,), (5,)], lambda x, y: x * y),
    "x * array": ([IMAGE], lambda x: x * np.array([1.0, 2.0, 3.0, 4.0], "float32")),
    "x / 2": ([(5,)], lambda x: x / 2),
    "2 / x": ([(5,)], lambda x: 2 / (keras.ops.exp(x) + 1)),
    "x / y": ([(5,), (5,)], lambda x, y: x / (keras.ops.abs(y) + 1)),
    "-x": ([(5,)], lambda x: -x),
    "relu": ([(5,)], lambda x: keras.activations.relu(x, max_value=0.5, negative_slope=0.1)),
    "ops.relu": ([(5,)], keras.ops.relu),
    "ops.softmax": ([IMAGE], lambda x: keras.ops.softmax(x, axis=1)),
    "ops.leaky_relu": ([(5,)], lambda x: keras.ops.leaky_relu(x, 0.4)),
    "ops.gelu": ([(5,)], lambda x: keras.ops.gelu(x, approximate=True)),
    "ops.maximum": ([(5,), (5,)], keras.ops.maximum),
    "glu": ([IMAGE], lambda x: keras.ops.glu(x, axis=-1)),
    "maximum of a constant": ([(5,)], lambda x: keras.ops.maximum(x, 0.3)),
    "constant and minimum": ([(5,)], lambda x: keras.ops.minimum(-0.2, x)),
    "bounds far out": ([(5,)], lambda x: keras.ops.minimum(keras.ops.maximum(x, -60.0), 60.0)),
    "ops.clip": ([(5,)], lambda x: keras.ops.clip(x, -0.4, 0.5)),
    "x ** 2": ([(5,)], lambda x: x**2),
    "slices": ([IMAGE], lambda x: x[:, 1:-1:2, ..., 1:]),
    "one entry": ([IMAGE], lambda x: x[:, 2, :, -1]),
    "ops.mean": ([IMAGE], lambda x: keras.ops.mean(x, axis=(1, 2))),
    "ops.sum": ([SIGNAL], lambda x: keras.ops.sum(x, axis=-1, keepdims=True)),
    "ops.max": ([IMAGE], lambda x: keras.ops.max(x, axis=(1, 2))),
    "ops.min": ([SIGNAL], lambda x: keras.ops.min(x, axis=-1, keepdims=True)),
    "ops.reshape": ([IMAGE], lambda x: keras.ops.reshape(x, (-1, 12, 24))),
    "ops.transpose": ([IMAGE], lambda x: keras.ops.transpose(x, (0, 2, 3, 1))),
    "ops.expand_dims": ([SIGNAL], lambda x: keras.ops.squeeze(keras.ops.expand_dims(x, 2), 2)),
    "ops.matmul": ([(4, 3), (3, 2)], keras.ops.matmul),
    "x @ matrix": ([(4, 3)], lambda x: keras.ops.matmul(x, np.arange(6, dtype="float32").reshape(3, 2))),
    "preprocessing": ([(6, 6, 3)], lambda x: keras.applications.resnet50.preprocess_input(x)),
    "threshold": ([(5,)], lambda x: keras.activations.threshold(x, 0.3, -1.0)),
    "ops.concatenate": ([IMAGE, IMAGE], lambda x, y: keras.ops.concatenate([x, y], axis=-1)),
    "ops.sqrt": ([(5,)], lambda x: keras.ops.sqrt(keras.ops.square(x) + 1)),
}


@pytest.mark.parametrize("name", OPERATION_CASES)
def test_operation(name):
    shapes, apply = OPERATION_CASES[name]

    def flat(*inputs):
        y = apply(*inputs)
        return L.Flatten()(y) if len(y.shape) > 2 else y

    check(build(shapes, flat))


def test_operation_without_a_translation():
    """On PyTorch another door reads it; elsewhere it is refused."""
    model = build((5,), lambda x: keras.ops.cumsum(x, axis=1))
    if keras.backend.backend() == "torch":
        check(model)
    else:
        with pytest.raises(
            ValueError, match=r"operation 'cumsum.*has no translation.*operations have one, see docs/supported.md"
        ):
            Converter(model)
    assert "Cumsum" not in OPERATIONS


def test_channels_last_is_what_the_cases_are():
    assert keras.config.image_data_format() == "channels_last"
    assert keras_models.L is keras.layers
