"""Models of every kind of input, data for them, and the methods with few steps."""

from __future__ import annotations

import math

import numpy as np

from innsight_py import (
    LRP,
    ConnectionWeights,
    Converter,
    DeepLift,
    DeepSHAP,
    ExpectedGradient,
    Gradient,
    IntegratedGradient,
    SmoothGrad,
)

METHODS = [
    (Gradient, {}),
    (SmoothGrad, {"n": 3, "seed": 1}),
    (IntegratedGradient, {"n": 3}),
    (ExpectedGradient, {"n": 3, "seed": 1}),
    (DeepLift, {}),
    (DeepSHAP, {}),
    (LRP, {}),
    (ConnectionWeights, {"times_input": True}),
]


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(math.prod(shape)).normal(size=shape)


def head(source: str, size: int, nodes: int, name: str, act: str = "linear") -> list[dict]:
    dense = {"type": "Dense", "weight": weights(nodes, size), "bias": weights(nodes), "activation_name": act}
    return [{"type": "Flatten", "inputs": [source], "name": f"flat_{name}"}, dense | {"name": name}]


def single(*dim: int, nodes: int = 3, **keys) -> Converter:
    layers = head("input_1", math.prod(dim), nodes, "out", "softmax")
    return Converter({"input_dim": dim, "layers": layers}, dtype="double", **keys)


TABLE, SIGNAL, IMAGE = (3,), (2, 4), (2, 3, 2)


def mixed(**keys) -> Converter:
    """Three inputs and outputs; Output_1 sees all inputs, Output_2 the table only, Output_3 signal and image."""
    layers = [
        *head("input_1", 3, 4, "table", "tanh"),
        *head("input_2", 8, 4, "signal", "tanh"),
        *head("input_3", 12, 4, "image", "tanh"),
        {"type": "Add", "inputs": ["signal", "image"], "name": "two"},
        {"type": "Concatenate", "axis": 1, "inputs": ["two", "table"], "name": "three"},
        *head("three", 8, 3, "out_1", "softmax"),
        *head("table", 4, 2, "out_2"),
        *head("two", 4, 4, "out_3", "sigmoid"),
    ]
    spec = {"input_dim": [TABLE, SIGNAL, IMAGE], "layers": layers, "outputs": ["out_1", "out_2", "out_3"]}
    return Converter(spec, dtype="double", **keys)


def batch(converter: Converter, rows: int, channels_first: bool = True) -> list[np.ndarray]:
    rng = np.random.default_rng(rows)
    data = [rng.normal(size=(rows, *dim)) for dim in converter.input_dim]
    return data if channels_first else [np.moveaxis(x, 1, -1) for x in data]
