"""Keras models on PyTorch with layers that our door has no translation for: read as modules, with names of Keras."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")
if keras.backend.backend() != "torch":
    pytest.skip("only where Keras computes with PyTorch", allow_module_level=True)

from keras import layers  # noqa: E402

from innsight_py import Converter, run_deeplift, run_grad  # noqa: E402


class Gate(layers.Layer):
    """A layer of a user's own, not registered."""

    def __init__(self, **keys):
        super().__init__(**keys)
        self.inner = layers.Dense(4, name="inner")

    def call(self, x):
        return x * keras.ops.sigmoid(self.inner(x))


def recurrent():
    x = keras.Input((5, 3), name="series")
    y = layers.Bidirectional(layers.LSTM(2), name="both")(x)
    return keras.Model(x, layers.Dense(2, name="head")(Gate(name="gate")(y)))


def distributed():
    x = keras.Input((3, 6, 6, 2))
    y = layers.TimeDistributed(layers.Conv2D(3, 3, activation="relu"))(x)
    y = layers.TimeDistributed(layers.GlobalAveragePooling2D())(y)
    return keras.Model(x, layers.Dense(2)(layers.GRU(4)(y)))


def attentive():
    x = keras.Input((4, 6))
    y = layers.MultiHeadAttention(2, 3)(x, x)
    y = layers.Lambda(lambda v: v * 2)(layers.GlobalAveragePooling1D()(y))
    return keras.Sequential([keras.Model(x, y), layers.Dense(3)])


def two_inputs():
    a, b = keras.Input((3,), name="table"), keras.Input((4, 2), name="series")
    y = layers.Concatenate()([a, layers.LSTM(3)(b)])
    return keras.Model({"table": a, "series": b}, {"score": layers.Dense(2)(y)})


def gradients(model, inputs, node):
    leaves = [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in inputs]
    given = leaves[0] if len(leaves) == 1 else dict(zip(("table", "series"), leaves, strict=True))
    out = model(given, training=False)
    out = out["score"] if isinstance(out, dict) else out
    return out.detach().numpy(), torch.autograd.grad(out[:, node].sum(), leaves)


@pytest.mark.parametrize("build", [recurrent, distributed, attentive])
def test_outputs_gradients_and_sums(build):
    keras.utils.set_random_seed(1)
    model = build()
    converter = Converter(model)
    x = np.random.default_rng(1).normal(size=(2, *model.inputs[0].shape[1:])).astype(np.float32)
    expected, (gradient,) = gradients(model, [x], 1)
    found = run_grad(converter, x, output_idx=1, ignore_last_act=False)
    assert not converter.channels_first
    assert np.allclose(found.preds[0][:, 0], expected[:, 1], rtol=0, atol=1e-5)
    assert np.allclose(found.get_result()[..., 0], gradient.numpy(), rtol=0, atol=1e-5)
    goal = expected - model(np.zeros_like(x[:1])).detach().numpy()
    lift = run_deeplift(converter, x, ignore_last_act=False)
    assert np.allclose(lift.get_result().reshape(2, -1, goal.shape[1]).sum(1), goal, rtol=0, atol=1e-5)


def test_names_are_those_of_keras():
    converter = Converter(recurrent())
    assert converter.input_keys == ["series"]
    names = [node.name for node in converter.model.nodes]
    assert {"both", "gate", "head"} <= set(names)


def test_several_inputs_by_name():
    keras.utils.set_random_seed(2)
    model = two_inputs()
    converter = Converter(model)
    assert converter.output_keys == ["score"]
    data = {"series": np.ones((2, 4, 2), np.float32), "table": np.zeros((2, 3), np.float32)}
    expected, wanted = gradients(model, [data["table"], data["series"]], 0)
    found = run_grad(converter, data, output_idx=0)
    assert np.allclose(found.preds[0][:, 0], expected[:, 0], atol=1e-5)
    for key, gradient in zip(("table", "series"), wanted, strict=True):
        mine = found.get_result()[f"Input_{converter.input_keys.index(key) + 1}"][..., 0]
        assert np.allclose(mine, gradient.numpy(), atol=1e-5)
