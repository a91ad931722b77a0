"""Norms that exporters write out with single operators are read as one layer, as through the other doors."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx_models as om
from onnx import helper

from innsight_py import Converter

SQUARES = [("Pow", ["x", "two"], "p"), ("ReduceMean", ["p", "last"], "m"), ("Add", ["m", "eps"], "a")]
ROOT = [*SQUARES, ("Sqrt", ["a"], "s")]
SPELLINGS = {
    "reciprocal": [*ROOT, ("Reciprocal", ["s"], "r"), ("Mul", ["x", "r"], "n")],
    "quotient": [*ROOT, ("Div", ["x", "s"], "n")],
    "one over it": [*ROOT, ("Div", ["one", "s"], "r"), ("Mul", ["r", "x"], "n")],
    "a product for the square": [("Mul", ["x", "x"], "p"), *ROOT[1:], ("Div", ["x", "s"], "n")],
    "with its mean": [
        ("ReduceMean", ["x", "last"], "u"),
        ("Sub", ["x", "u"], "d"),
        ("Pow", ["d", "two"], "p"),
        *ROOT[1:],
        ("Div", ["d", "s"], "n"),
    ],
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_it_is_one_layer(name):
    nodes = [helper.make_node(kind, inputs, [output]) for kind, inputs, output in SPELLINGS[name]]
    nodes += [helper.make_node("Mul", ["n", "g"], ["y"]), helper.make_node("Flatten", ["y"], ["flat"])]
    constants = {
        "two": np.float32(2), "one": np.float32(1), "eps": np.float32(1e-6), "last": np.array([-1]),
        "g": np.array([1, 2, 3, 0.5], np.float32),
    }  # fmt: skip
    converter = Converter(om.graph(nodes, {"x": ["N", 3, 4]}, {"flat": ["N", 12]}, constants))
    kinds = [type(layer).__name__ for layer in converter.model.layers]
    assert kinds[0] == "Standardize"
    assert set(kinds[1:]) <= {"Scale", "Flatten"}
