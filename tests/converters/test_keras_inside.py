"""Names of layers in Keras models that go through PyTorch, and the message of those that cannot."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")

from keras import layers  # noqa: E402

from innsight_py import Converter, SpecError, run_grad  # noqa: E402
from innsight_py.converters.keras.writer import Call, KerasWriter  # noqa: E402

TORCH = pytest.mark.skipif(keras.backend.backend() != "torch", reason="only PyTorch can trace it")


def attentive():
    """Return a model in a model, with layers within layers, that our door has no translation for."""
    x = keras.Input((4, 6))
    y = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    y = layers.Lambda(lambda v: v * 2, name="twice")(layers.GlobalAveragePooling1D(name="mean")(y))
    return keras.Sequential([keras.Model(x, y, name="outer"), layers.Dense(3, name="head")])


@TORCH
def test_names_are_paths_of_keras():
    """Each means the value that Keras's own layer gives."""
    keras.utils.set_random_seed(2)
    model = attentive()
    converter, x = Converter(model), np.random.default_rng(1).standard_normal((2, 4, 6)).astype(np.float32)
    names = ["outer/attention/query", "outer/attention", "outer/mean", "outer/twice", "outer", "head"]
    assert set(names) <= set(converter.layer_names)
    assert not any(each.startswith(("model", "_")) for each in converter.layer_names)
    found = {name: np.asarray(run_grad(converter, x, layer=name).data[0]).reshape(2, -1) for name in names}
    weights = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
    kernel, bias = (
        next(w for path, w in weights.items() if path.endswith(f"query/{kind}")) for kind in ("kernel", "bias")
    )
    query = np.einsum("btf,fhd->bthd", x, kernel) + bias
    outer = keras.ops.convert_to_numpy(model.layers[0](x))
    close = {
        "outer/attention/query": query.reshape(2, -1),
        "outer": outer,
        "outer/twice": outer,
        "outer/mean": outer / 2,
    }
    close["head"] = keras.ops.convert_to_numpy(model(x))
    for name, expected in close.items():
        # Heads lie channels first: the order of the entries is not the subject here.
        assert np.allclose(np.sort(found[name]), np.sort(expected), rtol=0, atol=1e-5), name


class Own(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.lift, self.head = layers.Dense(3, name="first"), layers.Dense(2, name="last")

    def call(self, x):
        return self.head(keras.ops.relu(self.lift(x)))


@TORCH
def test_names_in_a_model_without_a_graph():
    """The attribute and Keras's name mean the same value; no name has the wrapper in it."""
    model, x = Own(), np.ones((2, 4), np.float32)
    model(x)
    converter = Converter(model, example=x)
    assert {"lift", "first", "head", "last"} <= set(converter.layer_names)
    assert not any("model" in name or "_called" in name for name in converter.layer_names)
    both = [run_grad(converter, x, layer=name).get_result() for name in ("lift", "first")]
    assert np.array_equal(*both)


def test_the_refusal_has_two_lines():
    """What has no translation, and what to do: on backends where PyTorch cannot take over."""
    masking = layers.Masking(name="words")
    call = Call(masking, masking.get_config(), (), (), False, False)
    with pytest.raises(SpecError, match="has no translation") as caught:
        KerasWriter().read(call)
    first, second = str(caught.value).split("\n")
    assert re.search(r"layer 'words' \(Masking\) has no translation\. \d+ layers have one, see docs/supported", first)
    assert "KERAS_BACKEND=torch" in second
    assert "run_shap" in second
