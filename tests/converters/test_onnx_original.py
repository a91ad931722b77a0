"""Where onnxruntime is not installed, ONNX's own evaluator is what a conversion is compared with."""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx_models as om
from onnx.reference import ReferenceEvaluator

from innsight_py import Converter, SpecError

MOMENTS = [np.array(values, np.float32) for values in ([1.5, -2.0], [0.3, 0.1], [-0.7, 4.0], [0.5, 2.0])]


@pytest.fixture(autouse=True)
def without_onnxruntime(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as Python marks what cannot be imported


def test_a_perceptron():
    x = om.rows(4)
    expected = ReferenceEvaluator(om.mlp()).run(None, {"x": x.astype(np.float32)})[0]
    np.testing.assert_allclose(om.run(om.mlp(), x), expected, atol=1e-6)


def test_softmax_as_it_was():
    assert Converter(om.one("Softmax", (2, 3), 11)).output_dim == [(6,)]


@pytest.mark.parametrize("version", [7, 8, 9, 11, 13, 14, 15, 21])
@pytest.mark.parametrize("given", [{}, {"momentum": 0.9}, {"momentum": 0.5, "epsilon": 0.25}])
def test_batch_normalisation_of_every_version(version, given):
    """Up to version 13 ONNX's evaluator takes any of them for training; the moments of the file are what counts."""
    model = om.one("BatchNormalization", (2, 3), version, MOMENTS, **given)
    x = om.rows(2, 3)
    scale, shift, mean, variance = (values[:, None].astype(np.float64) for values in MOMENTS)
    epsilon = np.float64(np.float32(given.get("epsilon", 1e-5)))
    expected = (x - mean) / np.sqrt(variance + epsilon) * scale + shift
    np.testing.assert_allclose(om.run(model, x), expected.reshape(3, 6), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_local_response(size):
    """ONNX's evaluator computes as many channels as there are rows."""
    x, constants = om.rows(4, 2, 3), {"alpha": 0.5, "beta": 0.75, "bias": 2.0}
    expected = np.empty_like(x)
    for c in range(4):  # the definition of ONNX, channel by channel
        first, last = max(0, c - (size - 1) // 2), min(3, c + size // 2)
        expected[:, c] = x[:, c] / (2 + 0.5 / size * (x[:, first : last + 1] ** 2).sum(1)) ** 0.75
    model = om.one("LRN", (4, 2, 3), size=size, **constants)
    np.testing.assert_allclose(om.run(model, x), expected.reshape(3, 24), rtol=1e-9)


def test_what_the_evaluator_cannot_do_names_onnxruntime():
    model = om.one("Resize", (3, 6, 6), 10, (np.array([1, 1, 2, 2], np.float32),), mode="nearest")
    with pytest.raises(SpecError, match=r"cannot be run: .* try again with onnxruntime, `pip install onnxruntime`"):
        Converter(model)


def test_where_the_evaluator_differs_onnxruntime_is_named():
    model = om.one("MaxPool", (3, 6, 6), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER")
    with pytest.raises(SpecError, match=r"is not the original's: .* try again with onnxruntime"):
        Converter(model)
