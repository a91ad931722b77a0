"""What is done to an ONNX model before it is read: checked, made wider, its functions written out."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from innsight_py._checks import warn
from innsight_py.converters.onnx.loading import array, import_onnx, refuse_external, tensors
from innsight_py.converters.onnx.writer import TABLE, domain_of
from innsight_py.spec import SpecError

#: The first and the last version of ONNX's operators that are read as they are.
OPSETS = (7, 28)
#: What models of earlier versions are converted to.
_MODERN = 9
#: Types of half precision, which become single: float16, bfloat16.
_HALF = (10, 16)
_FLOAT = 1
_TWO_GB = 2**31 - 1
#: Functions may be written with functions, so deep.
_DEPTH = 8


def full_name(node: Any) -> str:
    """Return the operator of a node, with its domain if that is not ONNX's own."""
    domain = domain_of(node)
    return f"{domain}.{node.op_type}" if domain else str(node.op_type)


def opsets(model: Any) -> dict[str, int]:
    """Return the version of the operator set of each domain."""
    return {("" if entry.domain == "ai.onnx" else entry.domain): int(entry.version) for entry in model.opset_import}


def prepared(model: Any) -> Any:
    """Return a model that is right, has single or double precision, and no functions but those that are read.

    The model that comes is not changed.

    Raises
    ------
    SpecError
        If it is not right, or of versions that are not read.
    """
    refuse_external(model)
    version = opsets(model).get("", OPSETS[1])
    if version > OPSETS[1]:
        raise SpecError(
            f"The ONNX model is of operator set {version}; those up to {OPSETS[1]} are read. Convert it: "
            f"onnx.version_converter.convert_version(model, {OPSETS[1]})."
        )
    large = model.ByteSize() > _TWO_GB
    if not large:
        _check(model)
    if version < OPSETS[0]:
        model = _modern(model, version)
    if any(_is_half(tensor) for tensor in tensors(model)) or any(_half_type(info) for info in _infos(model)):
        model = _widened(model)
    if large and (model.functions or _expandable(model)):
        raise SpecError("The ONNX model has functions and more than 2 GB in one piece, which cannot be written out.")
    return _without_functions(model)


def _check(model: Any) -> None:
    onnx = import_onnx()
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # of the checker, or of protobuf
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        raise SpecError(f"The ONNX model is not valid: {' '.join(lines[:2])[:400]}") from error


def _modern(model: Any, version: int) -> Any:
    """Return a model of before 2017 in a version that is read."""
    onnx = import_onnx()
    try:
        return onnx.version_converter.convert_version(model, _MODERN)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SpecError(
            f"The ONNX model is of operator set {version}, and cannot be converted to {_MODERN}: {first}. "
            "Export it again."
        ) from error


def _is_half(tensor: Any) -> bool:
    return tensor.data_type in _HALF


def _infos(model: Any) -> list[Any]:
    return [*model.graph.input, *model.graph.output, *model.graph.value_info]


def _half_type(info: Any) -> bool:
    return info.type.HasField("tensor_type") and info.type.tensor_type.elem_type in _HALF


def _widened(model: Any) -> Any:
    """Return a copy in which half precision is single: arrays, inputs, outputs and casts."""
    onnx = import_onnx()
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    for tensor in tensors(copied):
        if _is_half(tensor):
            wide = array(tensor).astype(np.float32)
            name = tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(wide, name))
    for info in _infos(copied):
        if _half_type(info):
            info.type.tensor_type.elem_type = _FLOAT
    retype([*copied.graph.node, *(node for function in copied.functions for node in function.node)], _HALF, _FLOAT)
    return copied


def retype(nodes: Iterable[Any], before: Collection[int], after: int) -> None:
    """Change the types that nodes have in their attributes, ONNX's numbers of them, from some to another one."""
    for node in nodes:
        for attribute in node.attribute:
            if node.op_type in _TYPED and attribute.name == _TYPED[node.op_type] and attribute.i in before:
                attribute.i = after


#: Operators with a type for an attribute, and its name.
_TYPED = {
    "Cast": "to", "ConstantOfShape": "dtype", "EyeLike": "dtype", "LayerNormalization": "stash_type",
    "RMSNormalization": "stash_type", "DequantizeLinear": "output_dtype", "Attention": "softmax_precision",
    "BlackmanWindow": "output_datatype", "HammingWindow": "output_datatype", "HannWindow": "output_datatype",
}  # fmt: skip


def _expandable(model: Any) -> list[tuple[str, str]]:
    """Return the operators without an entry in the table that ONNX itself writes with others."""
    onnx, versions = import_onnx(), opsets(model)
    found = {}
    for node in model.graph.node:
        domain = domain_of(node)
        if full_name(node) in TABLE or domain not in versions or not onnx.defs.has(node.op_type, domain):
            continue
        with contextlib.suppress(onnx.defs.SchemaError):  # a later version has it
            schema = onnx.defs.get_schema(node.op_type, versions[domain], domain)
            if (schema.has_function or schema.has_context_dependent_function) and node.op_type != "Range":
                found[(node.domain, node.op_type)] = True
    return list(found)


def _without_functions(model: Any) -> Any:
    onnx = import_onnx()
    try:
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SpecError(f"The functions of the ONNX model cannot be written out: {first}") from error
    for _ in range(_DEPTH):
        names = _expandable(model)
        before = len(model.graph.node)
        with contextlib.suppress(Exception):  # a body that depends on what is not known: refused by its name later
            if names:
                model = onnx.inliner.inline_selected_functions(_with_types(model), names, inline_schema_functions=True)
        if len(model.graph.node) == before:
            break
    return model


def _with_types(model: Any) -> Any:
    """Return a copy that says of every value what it is."""
    onnx = import_onnx()
    typed = onnx.shape_inference.infer_shapes(model, data_prop=True)
    known = {info.name for info in _infos(typed)}
    for tensor in typed.graph.initializer:
        if tensor.name not in known:
            typed.graph.value_info.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    return typed


# -- what is needed --------------------------------------------------------------------------------------------------


def outputs(model: Any, warns: bool = True) -> list[tuple[str, str]]:
    """Return the outputs that can be explained: what they are called, and the value that each is.

    The table of probabilities that scikit-learn's classifiers end with is looked through; labels, which are whole
    numbers or texts, are left out; `warns` says whether this is said.
    """
    makers = {name: node for node in model.graph.node for name in node.output if name}
    found, left_out = [], []
    learning = any(node.domain == "ai.onnx.ml" for node in model.graph.node)
    for info in model.graph.output:
        node = makers.get(info.name)
        while node is not None and full_name(node) == "Identity" and not info.type.HasField("tensor_type"):
            node = makers.get(node.input[0])
        if node is not None and full_name(node) == "ai.onnx.ml.ZipMap":
            found.append((info.name, node.input[0]))
        elif info.type.HasField("tensor_type") and info.type.tensor_type.elem_type in (1, 10, 11, 16):
            found.append((info.name, info.name))
        else:
            left_out.append(info.name)
    if not found:
        names = ", ".join(f"'{name}'" for name in left_out) or "none"
        raise SpecError(
            f"The ONNX model has no output of floating-point numbers (its outputs: {names}): there is no gradient of "
            "anything else. Export the model with its probabilities or scores."
        )
    if left_out and warns and not learning:
        warn(f"Outputs that are no floating-point numbers are left out: {', '.join(left_out)}.")
    return found


def needed(model: Any, wanted: Collection[str]) -> list[Any]:
    """Return the nodes that some values need, in their order."""
    kept, names = [], set(wanted)
    for node in reversed(model.graph.node):
        if names.intersection(name for name in node.output if name):
            kept.append(node)
            names.update(read_names(node))
    return kept[::-1]


def read_names(node: Any) -> list[str]:
    """Return the values that a node reads, those that the graphs in it read included."""
    names, waiting = list(node.input), [a.g for a in node.attribute if a.HasField("g")]
    while waiting:
        graph = waiting.pop()
        names += [info.name for info in graph.output]
        for inner in graph.node:
            names += list(inner.input)
            waiting += [a.g for a in inner.attribute if a.HasField("g")]
    return names
