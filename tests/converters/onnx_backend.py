"""ONNX's own test-suite, case by case, as models that the door takes.

    python tests/converters/onnx_backend.py > docs/onnx_cases.json   # after a change of what the door takes

A case has a model, inputs and the outputs that are right. The door explains models of one row at a time, so each case
is wrapped: an input that depends on the data has an axis of 1 more, the batch, which a Reshape takes away; the others
become constants. What is left of the case is the operator, with the numbers of ONNX's authors on both sides.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from innsight_py import Converter

FLOATS = (np.float16, np.float32, np.float64)


@dataclass(frozen=True)
class Case:
    """A model with its inputs and the outputs that are right."""

    name: str
    model: onnx.ModelProto
    inputs: list[object]
    outputs: list[object]
    rtol: float
    atol: float

    @property
    def operators(self) -> set[str]:
        return {f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in self.model.graph.node}


def node_cases() -> Iterator[Case]:
    """Give the cases of single operators."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_model_tests(kind="node")
    for case in found:
        inputs, outputs = case.data_sets[0]
        yield Case(case.name, case.model, list(inputs), list(outputs), case.rtol, case.atol)


def model_cases(*kinds: str) -> Iterator[Case]:
    """Give the cases that lie in files: small models that PyTorch has exported, large ones with constant weights."""
    from onnx.backend.test.loader import load_model_tests

    for case in (case for kind in kinds for case in load_model_tests(kind=kind)):
        folder = Path(case.model_dir or "")
        if case.model_dir is None or not (folder / "test_data_set_0").exists():
            continue
        model = onnx.load(folder / "model.onnx")
        data = {}
        for part, infos in (("input", model.graph.input), ("output", model.graph.output)):
            known = {t.name for t in model.graph.initializer}
            infos = [info for info in infos if info.name not in known]
            files = sorted((folder / "test_data_set_0").glob(f"{part}_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
            data[part] = [_array(file, info) for file, info in zip(files, infos, strict=False)]
        yield Case(case.name, model, data["input"], data["output"], case.rtol, case.atol)


def _array(path: os.PathLike[str], info: onnx.ValueInfoProto) -> object:
    if not info.type.HasField("tensor_type"):
        return None
    tensor = onnx.TensorProto()
    tensor.ParseFromString(Path(path).read_bytes())
    return numpy_helper.to_array(tensor)


def is_float(value: object) -> bool:
    """Tell whether something is an array of floating-point numbers with entries."""
    return isinstance(value, np.ndarray | np.floating) and value.dtype.type in FLOATS and np.size(value) > 0


def wrapped(case: Case, variables: list[int]) -> tuple[onnx.ModelProto, list[torch.Tensor]]:
    """Return a case as a model of one row, whose inputs are those with these numbers."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    constant = {t.name for t in graph.initializer}
    infos = [info for info in graph.input if info.name not in constant]
    del graph.input[:]
    before, rows = [], []
    for i, (info, value) in enumerate(zip(infos, case.inputs, strict=False)):
        if i not in variables:
            if isinstance(value, np.ndarray | np.generic):
                graph.initializer.append(numpy_helper.from_array(np.asarray(value), info.name))
            else:
                graph.input.append(info)
            continue
        array = np.asarray(value)
        kind = info.type.tensor_type.elem_type
        row = array.shape or (1,)
        graph.input.append(helper.make_tensor_value_info(f"row_{info.name}", kind, [None, *row]))
        shape = f"shape_{info.name}"
        graph.initializer.append(numpy_helper.from_array(np.asarray(array.shape, np.int64), shape))
        before.append(helper.make_node("Reshape", [f"row_{info.name}", shape], [info.name]))
        rows.append(torch.from_numpy(array.astype(np.float64).reshape(1, *row)))
    nodes = list(graph.node)
    del graph.node[:]
    after = []
    for info, value in zip(list(graph.output), case.outputs, strict=False):
        if is_float(value):
            flat = helper.make_tensor_value_info(
                f"flat_{info.name}", info.type.tensor_type.elem_type, [1, np.size(value)]
            )
            graph.initializer.append(numpy_helper.from_array(np.asarray([1, -1], np.int64), f"one_{info.name}"))
            after.append(helper.make_node("Reshape", [info.name, f"one_{info.name}"], [flat.name]))
            graph.output.append(flat)
    kept = list(graph.output)[-len(after) :]
    del graph.output[:]
    graph.output.extend(kept)
    graph.node.extend([*before, *nodes, *after])
    model.ir_version = max(model.ir_version, 4)  # constants need not be inputs since then
    if all(entry.domain not in ("", "ai.onnx") for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", 21))
    return model, rows


def outcome(case: Case) -> str:
    """Run a case through the door: "equal", or why not."""
    floats = [i for i, value in enumerate(case.inputs) if is_float(value)]
    expected = [value for value in case.outputs if is_float(value)]
    if not floats or not expected:
        return "no floating-point data"
    first = ""
    for variables in (floats[:n] for n in range(len(floats), 0, -1)):
        model, rows = wrapped(case, variables)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = Converter(model, dtype="double").model(*rows)
        except ValueError as error:
            first = f"{type(error).__name__}: {error}"  # that of the last try, with the fewest variables
            continue
        if len(found) != len(expected):
            return f"{len(found)} outputs instead of {len(expected)}"
        for ours, theirs in zip(found, expected, strict=True):
            value = ours.detach().numpy().reshape(np.shape(theirs))
            if not np.allclose(
                value,
                np.asarray(theirs, np.float64),
                rtol=max(case.rtol, 1e-4),
                atol=max(case.atol, 1e-5),
                equal_nan=True,
            ):
                return f"differs by {np.nanmax(np.abs(value - np.asarray(theirs, np.float64)))}"
        return "equal" if variables == floats else "equal, with constants"
    return first


#: Where the cases that are not equal to ONNX's numbers are listed, with the reason of each, and the others counted.
LIST = Path(__file__).parents[2] / "docs" / "onnx_cases.json"
#: onnxruntime says otherwise than ONNX's own numbers, and the door is compared with it.
ELSEWHERE = ("test_resize_downsample_scales_linear_align_corners", "test_resize_downsample_scales_cubic_align_corners")


def reason(result: str) -> str:
    """Shorten an error to its reason, without names."""
    result = re.sub(r"^\w+: (The node '[^']*' \(([^)]*)\) )?", lambda m: f"{m[2]} " if m[2] else "", result)
    result = re.sub(r"'[^']*'", "it", result.partition(". ")[0])
    return re.sub(r"[ (]+-?\d.*", "", result)[:110].strip()


def tally(cases: Iterable[Case]) -> dict[str, Any]:
    """Count the cases that are equal, and list the others by their reasons."""
    counts = {"equal": 0, "equal, with constants": 0, "no floating-point data": 0}
    others: dict[str, list[str]] = {}
    for case in cases:
        result = outcome(case)
        if result in counts:
            counts[result] += 1
        else:
            others.setdefault(reason(result), []).append(case.name)
    return {"counts": counts, "others": {key: sorted(others[key]) for key in sorted(others)}}


def every_case() -> Iterator[Case]:
    """Give all cases that the door is held against."""
    yield from node_cases()
    yield from model_cases("simple", "pytorch-operator", "pytorch-converted")


if __name__ == "__main__":
    print(json.dumps(tally(every_case()), indent=1))
