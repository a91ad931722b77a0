"""An ONNX model again in double precision, whose small differences are derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from innsight_py.converters.onnx.loading import import_onnx
from innsight_py.converters.onnx.preparing import read_names, retype

#: Operators with a type for their statistics, of which ONNX's evaluator takes no other than single precision. It then
#: computes in the precision of the input.
_STASHING = ("LayerNormalization", "RMSNormalization")


def doubled(
    nodes: Sequence[Any], constants: Mapping[str, np.ndarray], inputs: Mapping[str, int], outputs: Sequence[str],
    opsets: Mapping[str, int],
) -> Any:  # fmt: skip
    """Write a model of some nodes in which every type of floating-point numbers is float64.

    What does not depend on the data comes as it was computed in the precision of the model: numbers stay the same, and
    only what is done to them has more digits.

    Parameters
    ----------
    nodes : sequence of onnx.NodeProto
        The nodes that depend on the data, in their order. They are not changed.
    constants : mapping
        Arrays by name, of which the model takes those that the nodes read.
    inputs : mapping of str to int
        ONNX's number of the type of each input; whole numbers and truth values stay what they are.
    outputs : sequence of str
        Names.
    opsets : mapping
        The version of the operator set of each domain.

    Returns
    -------
    onnx.ModelProto
        The model, for one row. It says no shapes and is for ONNX's evaluator.
    """
    onnx = import_onnx()
    helper, kinds = onnx.helper, onnx.TensorProto
    copies = []
    for node in nodes:
        copies.append(onnx.NodeProto())
        copies[-1].CopyFrom(node)
    typed = [node for node in copies if node.op_type not in _STASHING]
    retype(typed, (kinds.FLOAT, kinds.FLOAT16, kinds.BFLOAT16), kinds.DOUBLE)
    floating = (kinds.FLOAT, kinds.FLOAT16, kinds.BFLOAT16, kinds.DOUBLE)
    wanted = dict.fromkeys(name for node in copies for name in read_names(node) if name in constants)
    arrays = [onnx.numpy_helper.from_array(_wide(constants[name]), name) for name in wanted]
    graph = helper.make_graph(
        copies, "double",
        [helper.make_tensor_value_info(name, kinds.DOUBLE if kind in floating else kind, None)
         for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, kinds.DOUBLE, None) for name in outputs], arrays,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*pair) for pair in opsets.items()])


def _wide(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float64 if array.dtype.kind == "f" else None)
