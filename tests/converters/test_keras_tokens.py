"""Keras models of numbers that go into an embedding, masks of zeros included: one number a token or column."""

from __future__ import annotations

import numpy as np
import pytest
import torch

keras = pytest.importorskip("keras")

from innsight_py import Converter, SpecError, run_deeplift, run_grad  # noqa: E402

L = keras.layers
IDS = np.array([[1, 2, 3, 4, 0, 0], [5, 6, 7, 8, 9, 1]])
TORCH = keras.backend.backend() == "torch"
BEHIND = {
    "flat": lambda x: L.Flatten()(x),
    "mean": lambda x: L.GlobalAveragePooling1D()(x),
    "LSTM": lambda x: L.LSTM(3)(x),
}


def words(behind, mask_zero, dtype):
    keras.utils.set_random_seed(2)
    ids = L.Input((6,), dtype=dtype)
    table = L.Embedding(10, 4, mask_zero=mask_zero, name="words")
    return keras.Model(ids, L.Dense(3, activation="tanh")(BEHIND[behind](table(ids))))


@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize(
    ("behind", "mask_zero"), [("flat", False), ("mean", False), ("LSTM", False), ("mean", True), ("LSTM", True)]
)
def test_one_number_a_token(behind, mask_zero, dtype):
    model = words(behind, mask_zero, dtype)
    if not TORCH and mask_zero:
        with pytest.raises(SpecError, match="mask_zero"):
            Converter(model)
    else:
        converter = Converter(model)
        assert [port.kind for port in converter.inputs] == ["tokens"]
        found = run_deeplift(converter, IDS, x_ref=1, dtype="double", ignore_last_act=False)
        expected = torch.as_tensor(np.asarray(model.predict(IDS, verbose=0), dtype=np.float64))
        assert torch.allclose(found.preds[0], expected, rtol=0, atol=1e-5)
        values = found.get_result("torch_tensor")
        assert values.shape == (2, 6, 3)
        assert torch.allclose(values.sum(1), found.decomp_goal[0], rtol=0, atol=1e-12)
        assert bool((values[1, 5] == 0).all())
        assert bool((values[0, 4:] == 0).all()) == mask_zero
        vectors = run_grad(converter, IDS, layer="words", dtype="double", ignore_last_act=False)
        tokens = run_grad(converter, IDS, dtype="double", ignore_last_act=False)
        assert vectors.get_result().shape == (2, 6, 4, 3)
        assert np.allclose(vectors.get_result().sum(2), tokens.get_result(), rtol=0, atol=1e-14)


def test_categories_beside_numbers():
    keras.utils.set_random_seed(3)
    sex, numbers = L.Input((1,), dtype="int32", name="sex"), L.Input((2,), name="numbers")
    joined = L.Concatenate()([L.Flatten()(L.Embedding(3, 4)(sex)), numbers])
    model = keras.Model([sex, numbers], L.Dense(2)(joined))
    converter = Converter(model)
    assert [port.kind for port in converter.inputs] == ["tokens", "table"]
    data = {"sex": np.array([[0], [2]]), "numbers": np.array([[0.5, -1.0], [2.0, 0.25]])}
    found = run_deeplift(converter, data, x_ref={"sex": 1, "numbers": np.zeros((1, 2))}, dtype="double")
    parts = found.get_result()
    total = parts["Input_1"].sum(1) + parts["Input_2"].sum(1)
    assert parts["Input_1"].shape == (2, 1, 2)
    assert np.allclose(total, found.decomp_goal[0], rtol=0, atol=1e-12)
    difference = model.predict([data["sex"], data["numbers"]], verbose=0) - model.predict(
        [np.ones((2, 1)), np.zeros((2, 2))], verbose=0
    )
    assert np.allclose(total, difference, rtol=0, atol=1e-5)
