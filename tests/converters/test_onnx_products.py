"""Operators of scikit-learn's exports, and sums of products by their letters."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_models as om
from onnx import helper
from onnx_models import RNG, reference, rows, run

from innsight_py import Converter, SpecError


def test_learning_operators():
    nodes = [
        helper.make_node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[1.0, 2.0], scale=[2.0, 0.5]),
        helper.make_node("Normalizer", ["s"], ["n"], domain="ai.onnx.ml", norm="L2"),
        helper.make_node("FeatureVectorizer", ["n", "s"], ["f"], domain="ai.onnx.ml", inputdimensions=[2, 2]),
        helper.make_node(
            "Imputer", ["f"], ["i"], domain="ai.onnx.ml", imputed_value_floats=[0.0], replaced_value_float=float("nan")
        ),
        helper.make_node(
            "LinearRegressor",
            ["i"],
            ["y"],
            domain="ai.onnx.ml",
            coefficients=[1.0, 2.0, 3.0, 4.0],
            intercepts=[0.5],
            targets=1,
        ),
    ]
    model = om.graph(nodes, {"x": ["N", 2]}, {"y": ["N", 1]}, domains=("ai.onnx.ml",))
    x = rows(2)
    scaled = (x - [1, 2]) * [2, 0.5]
    unit = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    np.testing.assert_allclose(run(model, x)[:, 0], np.hstack([unit, scaled]) @ [1, 2, 3, 4] + 0.5, rtol=1e-6)


@pytest.mark.parametrize(("labels", "transform"), [([0, 1], "LOGISTIC"), ([0, 1, 2], "SOFTMAX")])
def test_linear_classifier(labels, transform):
    scores = 1 if len(labels) == 2 else 3
    weight = RNG.normal(size=(scores, 2))
    node = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "p"],
        domain="ai.onnx.ml",
        classlabels_ints=labels,
        coefficients=weight.flatten().tolist(),
        intercepts=[0.25] * scores,
        post_transform=transform,
    )
    model = om.graph([node], {"x": ["N", 2]}, {"p": ["N", len(labels)]}, domains=("ai.onnx.ml",))
    x = rows(2)
    z = x @ weight.astype(np.float32).T.astype(np.float64) + 0.25
    p = 1 / (1 + np.exp(-z)) if scores == 1 else np.exp(z) / np.exp(z).sum(1, keepdims=True)
    np.testing.assert_allclose(run(model, x), np.hstack([1 - p, p]) if scores == 1 else p, rtol=1e-5)


@pytest.mark.parametrize(
    "equation",
    [
        "bij,jk->bik",
        "bij,bjk->bik",
        "bi,bi->b",
        "bij,bkj->bki",
        "b...j,jk->b...k",
        "bij->bj",
        "bii->bi",
        "bi,bj,bk->bijk",
    ],
)
def test_einsum_is_a_product_of_matrices(equation):
    left = equation.partition("->")[0].split(",")
    sizes = {"b": 1, "i": 3, "j": 3, "k": 2}
    shapes = [[sizes[c] for c in operand.replace("...", "i")] for operand in left]
    nodes, constants, operands = [], {}, ["x"]
    for i, shape in enumerate(shapes[1:]):
        if left[i + 1].startswith("b"):  # of the same row
            constants[f"w{i}"] = RNG.normal(size=(int(np.prod(shapes[0])), int(np.prod(shape)))).astype(np.float32)
            constants[f"s{i}"] = np.array(shape)
            nodes += [
                helper.make_node("Flatten", ["x"], [f"f{i}"]),
                helper.make_node("MatMul", [f"f{i}", f"w{i}"], [f"m{i}"]),
                helper.make_node("Reshape", [f"m{i}", f"s{i}"], [f"o{i}"]),
            ]
        else:
            constants[f"o{i}"] = RNG.normal(size=shape).astype(np.float32)
        operands.append(f"o{i}")
    nodes += [
        helper.make_node("Einsum", operands, ["e"], equation=equation),
        helper.make_node("Reshape", ["e", "one"], ["y"]),
    ]
    model = om.graph(nodes, {"x": shapes[0]}, {"y": None}, {**constants, "one": np.array([1, -1])})
    x = rows(*shapes[0][1:])
    expected = np.concatenate([reference(model, x[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-4, atol=1e-5)


def test_einsum_of_sizes_that_contradict():
    model = om.graph(
        [helper.make_node("Einsum", ["x", "w"], ["y"], equation="bi,ij->bj")],
        {"x": ["N", 3]},
        {"y": None},
        {"w": np.ones((2, 4), np.float32)},
    )
    with pytest.raises(SpecError, match=r"Einsum"):
        Converter(model)
