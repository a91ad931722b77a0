"""Models of `tf_keras`, Keras 2 as it lives on for TensorFlow; run by ``nox -s tests_tensorflow``."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from goldens import FOLDER, KERAS_CALLS, read, relative_error

import innsight_py
from innsight_py import Converter, run_deeplift, run_grad
from innsight_py.converters.keras import tensorflow as keras_tensorflow

keras = pytest.importorskip("tf_keras")
L = keras.layers
IMAGE, SIGNAL = (9, 8, 4), (11, 3)


def randomised(model, seed=0):
    rng = np.random.default_rng(seed)
    weights = [np.abs(w) + 0.5 if w.ndim == 1 else w for w in model.get_weights()]  # variances too
    model.set_weights([(w + rng.normal(0, 0.1, w.shape)).astype(w.dtype) for w in weights])
    return model


def build(shapes, apply):
    inputs = [keras.Input(shape) for shape in (shapes if isinstance(shapes, list) else [shapes])]
    return randomised(keras.Model(inputs if len(inputs) > 1 else inputs[0], apply(*inputs)))


def check(model, exact=True):
    converter = Converter(model, dtype="double")
    rng = np.random.default_rng(1)
    xs = [rng.normal(size=(3, *x.shape[1:])).astype("float32") for x in model.inputs]
    expected = np.asarray(model(xs if len(xs) > 1 else xs[0], training=False))
    result = run_deeplift(
        converter, xs, channels_first=False, dtype="double", winner_takes_all=False, ignore_last_act=False
    )
    np.testing.assert_allclose(result.preds[0], expected, atol=1e-5)
    total = sum(t.flatten(1, -2).sum(1) for t in result.result[0] if t is not None)
    if exact:
        torch.testing.assert_close(total, result.decomp_goal[0], rtol=0, atol=1e-8)
    return converter


CASES = {
    "dense": ((5,), lambda x: L.Dense(3, activation="softmax")(L.Dense(4, activation="hard_sigmoid")(x))),
    "conv1d": (SIGNAL, lambda x: L.Dense(2)(L.Flatten()(L.Conv1D(4, 3, padding="causal", activation="elu")(x)))),
    "conv2d": (
        IMAGE,
        lambda x: L.Dense(2)(
            L.GlobalAveragePooling2D()(
                L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(4, 3, padding="same", strides=2)(x)))
            )
        ),
    ),
    "pooling": (
        IMAGE,
        lambda x: L.Dense(2)(L.Flatten()(L.AveragePooling2D(2, padding="same")(L.MaxPooling2D(3, 1, "same")(x)))),
    ),
    "separable": (IMAGE, lambda x: L.Dense(2)(L.Flatten()(L.SeparableConv2D(3, 3, depth_multiplier=2)(x)))),
    "depthwise": (IMAGE, lambda x: L.Dense(2)(L.Flatten()(L.DepthwiseConv2D(3, padding="same")(x)))),
    "transposed": (IMAGE, lambda x: L.Dense(2)(L.Flatten()(L.Conv2DTranspose(3, 3, strides=2, padding="same")(x)))),
    "padding": (IMAGE, lambda x: L.Dense(2)(L.Flatten()(L.Cropping2D(1)(L.ZeroPadding2D(((1, 2), (3, 0)))(x))))),
    "padding of signals": (SIGNAL, lambda x: L.Dense(2)(L.Flatten()(L.UpSampling1D(2)(L.ZeroPadding1D((1, 2))(x))))),
    "activations": (
        IMAGE,
        lambda x: L.Dense(2)(L.Flatten()(L.ThresholdedReLU(0.3)(L.PReLU()(L.LeakyReLU(0.2)(L.ELU()(x)))))),
    ),
    "normalisation": (SIGNAL, lambda x: L.Dense(2)(L.Flatten()(L.LayerNormalization()(x)))),
    "normalisation of rows": (
        IMAGE,
        lambda x: L.Dense(2)(
            L.Flatten()(
                L.GroupNormalization(2, axis=2)(L.LayerNormalization(axis=1)(L.LayerNormalization(axis=(1, 3))(x)))
            )
        ),
    ),
    "length of 1": (SIGNAL, lambda x: L.Dense(2)(L.Flatten()(L.UnitNormalization(axis=1)(x)))),
    "merging": (
        [(5,), (5,)],
        lambda x, y: L.Dense(2)(L.Concatenate()([L.Add()([x, y]), L.Multiply()([x, y]), L.Maximum()([x, y])])),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_layers(name):
    check(build(*CASES[name]))


def test_nested_and_shared():
    block = keras.Sequential([keras.Input((5,)), L.Dense(5, activation="relu"), L.BatchNormalization()])
    shared = L.Dense(3, activation="tanh")

    def apply(x, y):
        return L.Dense(2)(L.Concatenate()([shared(block(block(x))), shared(block(y)), x]))

    check(build([(5,), (5,)], apply))


def test_sequential_that_is_built_later():
    model = keras.Sequential([L.Conv2D(3, 3), L.Flatten(), L.Dense(2)])
    model.build((None, *IMAGE))
    assert check(randomised(model)).input_dim == [(4, 9, 8)]


@pytest.mark.parametrize("ordered", [dict, OrderedDict])
def test_dicts_of_inputs_and_outputs(ordered):
    """Keras 2 sorts them all by their keys, and lets keys differ from the names of inputs."""
    scan, age = keras.Input((6, 5, 2), name="i1"), keras.Input((3,), name="i2")
    kind = L.Dense(2)(L.Concatenate()([L.Flatten()(scan), age]))
    model = randomised(keras.Model(ordered(scan=scan, age=age), ordered(zoo=kind, mass=L.Dense(3)(age))))
    converter = Converter(model)
    assert (converter.input_keys, converter.output_keys) == (["age", "scan"], ["mass", "zoo"])
    rng = np.random.default_rng(1)
    data = {"scan": rng.normal(size=(3, 6, 5, 2)).astype("float32"), "age": rng.normal(size=(3, 3)).astype("float32")}
    expected = model(data, training=False)
    result = run_grad(converter, data, output_idx={"zoo": [0, 1], "mass": [0, 1, 2]}, ignore_last_act=False)
    for found, key in zip(result.preds, converter.output_keys, strict=True):
        np.testing.assert_allclose(found, np.asarray(expected[key]), atol=1e-5)
    assert Converter(keras.Model([scan, age], kind)).input_keys == ["i1", "i2"]


def test_refusals():
    with pytest.raises(ValueError, match=r"\(Lambda\) has no translation"):
        Converter(build((5,), L.Lambda(lambda x: 2 * x)))

    class Own(keras.Model):
        def call(self, x):
            return 2 * x

    with pytest.raises(ValueError, match="a 'call' of its own"):
        Converter(Own())


tf = pytest.importorskip("tensorflow")
ARRAY = np.array([1.0, -2.0, 0.5], "float32")


def leaky_relu_in_three_ways(x):
    return tf.nn.leaky_relu(x) + tf.nn.leaky_relu(x, 0.3) + tf.nn.leaky_relu(x, alpha=0.1)


FUNCTIONS = {
    "x + y": ([SIGNAL, SIGNAL], lambda x, y: x + y),
    "x + 1": (SIGNAL, lambda x: 1 + x + 2),
    "x - y": ([SIGNAL, SIGNAL], lambda x, y: x - y),
    "x - 1": (SIGNAL, lambda x: 3 - (x - 1)),
    "x * y": ([SIGNAL, SIGNAL], lambda x, y: x * y),
    "x * array": (SIGNAL, lambda x: tf.constant(ARRAY) * x * ARRAY),
    "x / y": ([SIGNAL, SIGNAL], lambda x, y: x / (tf.abs(y) + 1)),
    "x / 2": (SIGNAL, lambda x: 2 / (tf.exp(x / 2) + 1)),
    "-x": (SIGNAL, lambda x: -x),
    "x ** 2": (SIGNAL, lambda x: x**2 + tf.pow(x, 3) + tf.square(x)),
    "x @ matrix": (SIGNAL, lambda x: x @ np.arange(6, dtype="float32").reshape(3, 2)),
    "tf.matmul": ([(4, 3), (3, 2)], tf.matmul),
    "by name": ([SIGNAL, SIGNAL], lambda x, y: tf.subtract(y=x, x=y)),
    "tf.maximum": ([SIGNAL, SIGNAL], lambda x, y: tf.maximum(x, y) + tf.minimum(y, 0.3)),
    "x[:, :3]": (SIGNAL, lambda x: x[:, :3]),
    "x[:, 1::2, -1]": (IMAGE, lambda x: x[:, 1::2, ..., -1]),
    "x[..., 1]": (IMAGE, lambda x: x[..., 1]),
    "tf.nn.relu": (SIGNAL, tf.nn.relu),
    "tf.nn.relu6": (SIGNAL, lambda x: tf.nn.relu6(4 * x)),
    "tf.nn.leaky_relu": (SIGNAL, leaky_relu_in_three_ways),
    "tf.nn.gelu": (SIGNAL, lambda x: tf.nn.gelu(x) + tf.nn.gelu(x, approximate=True)),
    "tf.nn.softmax": (IMAGE, lambda x: tf.nn.softmax(x) + tf.nn.softmax(x, axis=1) + tf.nn.log_softmax(x, 2)),
    "tf.nn": (SIGNAL, lambda x: tf.nn.elu(x) + tf.nn.selu(x) + tf.nn.silu(x) + tf.nn.softsign(x) + tf.nn.softplus(x)),
    "tf.math": (SIGNAL, lambda x: tf.sigmoid(x) * tf.tanh(x) + tf.sqrt(tf.abs(x) + 1) + tf.math.log(tf.exp(x) + 1)),
    "more of tf.math": (SIGNAL, lambda x: tf.sin(x) + tf.cos(x) + tf.atan(x) + tf.math.erf(x) + tf.math.expm1(x)),
    "logarithms": (SIGNAL, lambda x: tf.math.log1p(tf.exp(x)) + tf.math.log_sigmoid(x)),
    "inverses": (SIGNAL, lambda x: tf.math.reciprocal(tf.exp(x) + 1) + tf.math.rsqrt(x**2 + 1) + tf.sign(x)),
    "keras.activations": (SIGNAL, lambda x: keras.activations.relu(x, max_value=0.5) + keras.activations.swish(x)),
    "keras.activations.hard_sigmoid": (SIGNAL, keras.activations.hard_sigmoid),
    "tf.reduce_mean": (IMAGE, lambda x: tf.reduce_mean(x, [1, 2])),
    "tf.reduce_sum": (IMAGE, lambda x: tf.reduce_sum(x, axis=-1, keepdims=True)),
    "tf.reduce_max": (IMAGE, lambda x: tf.reduce_max(x, 1) + tf.reduce_min(x, axis=1)),
    "tf.concat": ([IMAGE, IMAGE], lambda x, y: tf.concat([x, y], axis=-1)),
    "tf.concat of rows": ([IMAGE, (3, 8, 4)], lambda x, y: tf.concat([x, y], 1)),
    "tf.stack": ([SIGNAL, SIGNAL], lambda x, y: tf.stack([x, y], axis=1)),
    "tf.reshape": (IMAGE, lambda x: tf.reshape(x, (-1, 12, 24))),
    "tf.reshape with a size left open": (IMAGE, lambda x: L.Reshape((288,))(keras.backend.batch_flatten(x))),
    "tf.transpose": (IMAGE, lambda x: tf.transpose(x, [0, 2, 3, 1]) + tf.transpose(x, perm=[0, 2, 3, 1])),
    "tf.expand_dims": (SIGNAL, lambda x: tf.squeeze(tf.expand_dims(x, 2), axis=[2])),
    "tf.clip_by_value": (SIGNAL, lambda x: tf.clip_by_value(x, -0.5, 0.4)),
    "tf.nn.bias_add": (SIGNAL, lambda x: tf.nn.bias_add(x, ARRAY)),
    "tf.identity": (SIGNAL, tf.identity),
    "after a convolution": (IMAGE, lambda x: tf.nn.relu(L.Conv2D(3, 3)(x) * ARRAY + 1)[:, 1:, :, :2]),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_tensorflow(name):
    shapes, apply = FUNCTIONS[name]

    def whole(*inputs):
        return L.Dense(2)(L.Dense(3, activation="softplus")(L.Flatten()(apply(*inputs))))

    check(build(shapes, whole), exact=name not in ("tf.reduce_max",))


def test_every_function_has_a_case():
    met = set()
    for shapes, apply in FUNCTIONS.values():
        inputs = [keras.Input(shape) for shape in (shapes if isinstance(shapes, list) else [shapes])]
        met |= {getattr(layer, "symbol", None) for layer in keras.Model(inputs, apply(*inputs)).layers}
    assert {*keras_tensorflow._OPERATIONS} - met == {"transpose", "squeeze", "math.divide"}  # of other versions


def test_an_activation_function_becomes_a_part_of_its_layer():
    converter = check(build((5,), lambda x: L.Dense(2)(tf.nn.relu(L.Dense(4)(x)))))
    assert [layer.type for layer in converter._spec.layers] == ["Dense", "Dense"]


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (
            lambda x: tf.cumsum(x, axis=1),
            r"'tf\.math\.cumsum' \(TFOpLambda\) has no translation: .* tf\.math\.cumsum of",
        ),
        (lambda x: x[:, tf.newaxis], r"\(SlicingOpLambda\) cannot be converted: its index"),
        (lambda x: x - tf.reduce_mean(x), "it goes over the batch"),
        (lambda x: tf.concat([x, x], 0), "it joins the rows of batches"),
        (lambda x: tf.reshape(x, (-1, 3)), r"it makes rows of \(3,\) of rows of \(11, 3\)"),
        (lambda x: tf.reshape(x, (2, 33)), "it gives the batch the size 2"),
        (lambda x: tf.matmul(x, x, transpose_b=True), "its argument 'transpose_b' has no translation"),
        (lambda x: tf.nn.silu(x, 2.0), "it has 2 arguments, 1 have a translation"),
        (lambda x: tf.nn.silu(x, beta=2.0), "its argument 'beta' has no translation"),
        (lambda x: tf.reshape(x, [tf.shape(x)[0], 33]), r"no translation: it is the function tf\.compat\.v1\.shape"),
    ],
)
def test_functions_of_tensorflow_that_are_refused(apply, message):
    with pytest.raises(ValueError, match=message):
        Converter(build(SIGNAL, lambda x: L.Dense(2)(L.Flatten()(apply(x)))))


@pytest.mark.parametrize("name", ["MobileNetV3Small", "EfficientNetB0", "ResNet50"])
def test_application(name):
    """The first has sums and products with numbers between its layers."""
    model = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=3)
    converter = Converter(model)
    x = np.random.default_rng(2).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    found = run_grad(converter, x, ignore_last_act=False).preds[0]
    np.testing.assert_allclose(found, np.asarray(model(x, training=False)), atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")  # R's winner takes all
@pytest.mark.parametrize("name", ["conv2d_same", "functional", "dense", "conv1d_valid"])
def test_answers_of_r(name):
    """The models that R keras saved, read by the Keras of their time."""
    golden = read(f"keras/{name}.json.gz")
    converter = Converter(keras.models.load_model(FOLDER / "keras" / f"{name}.h5", compile=False), dtype="double")
    index = [[int(i) - 1 for i in (each if isinstance(each, list) else [each])] for each in golden["output_idx"]]
    method, arguments = KERAS_CALLS["deeplift_rescale"]
    filled = {key: golden[key] if value is ... else value for key, value in arguments.items()}
    ours = getattr(innsight_py, method)(
        converter, golden["x"], output_idx=index, channels_first=False, dtype="double", **filled
    )
    for i, row in enumerate(golden["results"]["deeplift_rescale"]["result"]):
        for j, values in enumerate(row):
            if values is not None:
                assert relative_error(ours.result[i][j], values) <= 1e-6
