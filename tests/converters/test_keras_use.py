"""`example`, `output`, `fixed` and `channels_first` for Keras models."""

from __future__ import annotations

import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")

from keras import layers  # noqa: E402

from innsight_py import Converter, run_deeplift, run_grad, run_lrp  # noqa: E402

RNG = np.random.default_rng(4)
DATA = {
    "picture": RNG.standard_normal((2, 8, 6, 3)).astype(np.float32),
    "table": RNG.standard_normal((2, 4)).astype(np.float32),
}


@pytest.fixture(scope="module")
def model():
    """Build a model that leaves sizes open, and whose labels no door can read."""
    keras.utils.set_random_seed(3)
    picture, table = keras.Input((None, None, 3), name="picture"), keras.Input((4,), name="table")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(picture))
    x = layers.Concatenate()([x, layers.Dense(2)(table)])
    scores = layers.Dense(3, name="scores")(x)
    label = keras.ops.argmax(scores, axis=-1)
    size = layers.Dense(1, name="size")(x)
    return keras.Model({"picture": picture, "table": table}, {"scores": scores, "size": size, "label": label})


def predict(model, key):
    return np.asarray(keras.ops.convert_to_numpy(model(DATA)[key]))


@pytest.mark.parametrize(("output", "key"), [("size", "size"), ("scores", "scores"), (1, "scores")])
def test_what_is_left_out_blocks_nothing(model, output, key):
    converter = Converter(model, example=DATA, output=output, channels_first=False)
    assert converter.output_keys == [key]
    assert converter.input_dim == [(3, 8, 6), (4,)]
    assert not converter.channels_first
    found = run_grad(converter, DATA)
    assert np.allclose(found.preds[0].numpy(), predict(model, key), rtol=0, atol=1e-5)


def test_several_with_new_names(model):
    converter = Converter(model, example=DATA, output={"how much": "size", "what": "scores"})
    assert converter.output_keys == ["how much", "what"]
    assert converter.output_dim == [(1,), (3,)]


def test_a_fixed_input(model):
    """Gradients and relevances of the other are those of the whole model; references are the row's own."""
    whole, converter = (Converter(model, example=DATA, output="size", fixed=f) for f in ((), "table"))
    assert [port.kind for port in converter.inputs] == ["image", "fixed"]
    for run in (run_grad, run_lrp):
        expected = run(whole, DATA).get_result()["Input_1"]
        assert np.array_equal(run(converter, DATA).get_result(), expected)
    found = run_deeplift(converter, DATA, x_ref=np.zeros_like(DATA["picture"][:1]))
    without = {"picture": np.zeros_like(DATA["picture"]), "table": DATA["table"]}
    goal = predict(model, "size") - np.asarray(keras.ops.convert_to_numpy(model(without)["size"]))
    assert np.allclose(found.get_result().sum((1, 2, 3)), goal, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"output": "sizes"}, "no output 'sizes'"),
        ({"output": lambda y: y["size"]}, r"keras\.Model\(model\.inputs"),
        ({"output": "size", "fixed": ["tabel"]}, "no input 'tabel'"),
        ({"output": "size", "example": {"table": DATA["table"]}}, "none for 'picture'"),
        ({"output": "size", "example": (DATA["picture"],)}, r"2 input\(s\), 'picture', 'table'; got 1"),
    ],
)
def test_what_does_not_fit(model, keys, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Converter(model, **{"example": DATA, **keys})


def test_a_table_has_no_channels():
    table = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"'channels_first'.*takes tables"):
        Converter(table, channels_first=False)
    assert Converter(table, example=DATA["table"], output=0).input_dim == [(4,)]


class Own(keras.Model):
    """A model with a `call` of its own, which keeps no graph."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.head = layers.Dense(3), layers.Dense(2)

    def call(self, x):
        hidden = keras.ops.relu(self.lift(x))
        return self.head(hidden), hidden


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="only PyTorch can trace it")
def test_a_model_without_a_graph():
    keras.utils.set_random_seed(1)
    model, x = Own(), DATA["table"]
    expected = model(x)[1]
    converter = Converter(model, example=x, output=1)
    assert converter.output_dim == [(3,)]
    assert np.allclose(run_grad(converter, x).preds[0], expected.detach(), rtol=0, atol=1e-6)
