"""Small ONNX graphs, written by hand, and what runs them."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from innsight_py import Converter

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def graph(nodes, inputs, outputs, constants=None, opset=21, domains=(), kind=FLOAT, ir_version=8):
    """Build a model; `inputs` and `outputs` are shapes by name (None: any two axes), `constants` arrays by name."""
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape or ["N", "M"]) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 3) for domain in domains)]
    return helper.make_model(made, opset_imports=imports, ir_version=ir_version)


def one(operator, shape, opset=21, constants=(), out=2, **attributes):
    """Build a model of one operator, flattened; its first input is the model's."""
    names = [f"c{i}" for i in range(len(constants))]
    given = [name if value is not None else "" for name, value in zip(names, constants, strict=True)]
    nodes = [
        helper.make_node(operator, ["x", *given], ["y"], name="it", **attributes),
        helper.make_node("Flatten", ["y"], ["flat"], axis=1),
    ]
    arrays = {name: np.asarray(value) for name, value in zip(names, constants, strict=True) if value is not None}
    return graph(nodes, {"x": ["N", *shape]}, {"flat": None}, arrays, opset)


def mlp(seed=0, sizes=(4, 5, 3)):
    """Build a perceptron: Gemm, Relu, Gemm, Softmax."""
    rng = np.random.default_rng(seed)
    a, b, c = sizes
    constants = {
        "w1": rng.normal(size=(b, a)).astype(np.float32), "b1": rng.normal(size=b).astype(np.float32),
        "w2": rng.normal(size=(c, b)).astype(np.float32), "b2": rng.normal(size=c).astype(np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], name="first", transB=1),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["s"], name="second", transB=1),
        helper.make_node("Softmax", ["s"], ["p"], name="probabilities", axis=-1),
    ]
    return graph(nodes, {"x": ["N", a]}, {"p": ["N", c]}, constants)


RNG = np.random.default_rng(1)


def run(model, x):
    """Convert a model and run it in double precision."""
    return Converter(model, dtype="double").model(torch.from_numpy(x))[0].detach().numpy()


def rows(*shape):
    return np.random.default_rng(2).normal(size=(3, *shape))


def reference(model, x):
    """Run a model with onnxruntime: ONNX's own evaluator has only the latest version of some operators."""
    import onnxruntime as runtime

    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x.astype(np.float32)})[0]
