"""What does not depend on the data is computed when a model is read, and the shape of what does."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from innsight_py.converters.onnx.loading import import_onnx
from innsight_py.converters.onnx.writer import domain_of
from innsight_py.spec import SpecError

#: Numbers that one value of a model may have for a row, whatever its file holds, and for each number in the file.
LARGEST, PER_STORED = 20_000_000, 200
#: Entries that a value may have along one axis.
LONGEST = 4_000_000
#: Only arrays of at most this many numbers are read to find the shape of a result.
_SMALL = 10_000


class Folding:
    """Computes nodes whose inputs are known, and the shapes of the results of others.

    Parameters
    ----------
    opsets : mapping
        The version of the operator set of each domain.
    ir_version : int
        The model's.
    stored : int
        How many numbers the file holds.
    """

    def __init__(self, opsets: Mapping[str, int], ir_version: int, stored: int) -> None:
        self.onnx = import_onnx()
        self.opsets, self.ir_version = dict(opsets), ir_version
        self._imports = [self.onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        self.largest = max(LARGEST, PER_STORED * stored)
        self._left = 4 * max(5 * LARGEST, stored)

    def check_size(self, shape: Sequence[int], place: str) -> None:
        """Refuse a value that is too large for the file that it comes from."""
        if math.prod(shape) > self.largest or max(shape, default=0) > LONGEST:
            raise SpecError(
                f"The {place} cannot be converted: a value of the shape {tuple(shape)} has more than {self.largest:,} "
                f"numbers for one row, or more than {LONGEST:,} along an axis."
            )

    def _check_constant(self, shape: Sequence[int], place: str) -> None:
        if math.prod(shape) > self._left:
            raise SpecError(f"The {place} cannot be computed: its result has the shape {tuple(shape)}.")

    def infer(
        self, node: Any, types: Mapping[str, Any], data: Mapping[str, np.ndarray]
    ) -> dict[str, tuple[tuple[int, ...] | None, int | None]]:
        """Return shape and type of each result of a node, None where they cannot be known beforehand."""
        small = {
            name: self.onnx.numpy_helper.from_array(array, name)
            for name, array in data.items()
            if array.size <= _SMALL and array.dtype.kind in "fiub"
        }
        try:
            schema = self.onnx.defs.get_schema(node.op_type, self.opsets[domain_of(node)], domain_of(node))
            found = self.onnx.shape_inference.infer_node_outputs(
                schema, node, types, small, None, self._imports, self.ir_version
            )
        except Exception:  # it raises whatever it runs into; the readers see what is wrong for themselves
            return {}
        return {name: _shape_and_type(found[name]) for name in node.output if name in found}

    def evaluate(
        self, node: Any, data: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...] | None], place: str
    ) -> list[np.ndarray]:
        """Compute a node."""
        for shape in shapes.values():
            if shape is not None:
                self._check_constant(shape, place)
        if node.op_type == "Range":
            start, stop, step = (float(data[name].reshape(())) for name in node.input)
            self._check_constant((max(math.ceil((stop - start) / step), 0) if step else 0,), place)
        if node.op_type == "GatherElements":  # ONNX's evaluator has it for 64 entries
            axis = next((int(a.i) for a in node.attribute if a.name == "axis"), 0)
            values, indices = (data[name] for name in node.input[:2])
            return [_gathered(values, indices, axis, place)]
        helper = self.onnx.helper
        inputs = [name for name in dict.fromkeys(node.input) if name]
        infos = [helper.make_empty_tensor_value_info(name) for name in inputs]
        outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
        model = helper.make_model(
            helper.make_graph([node], "node", infos, outputs), opset_imports=self._imports, ir_version=self.ir_version
        )
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                evaluator = self.onnx.reference.ReferenceEvaluator(model)
                found = iter(evaluator.run(None, {name: data[name] for name in inputs}))
        except MemoryError:
            raise
        except Exception as error:  # whatever numpy makes of wrong shapes and types
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise SpecError(f"The {place} cannot be computed: {first}") from error
        results = [next(found) if name else np.zeros(0) for name in node.output]
        for result in results:
            if not isinstance(result, np.ndarray | np.generic):
                raise SpecError(f"The {place} cannot be converted: its result is no array.")
            self._left -= int(np.asarray(result).size)
        if self._left < 0:
            raise SpecError(f"The {place} cannot be computed: the constants of the model take too much memory.")
        return [np.asarray(result) for result in results]


def _shape_and_type(found: Any) -> tuple[tuple[int, ...] | None, int | None]:
    if not found.HasField("tensor_type"):
        return None, None
    kind = found.tensor_type.elem_type or None
    if not found.tensor_type.HasField("shape"):
        return None, kind
    dims = found.tensor_type.shape.dim
    if any(not d.HasField("dim_value") for d in dims):
        return None, kind
    return tuple(int(d.dim_value) for d in dims), kind


def _gathered(values: np.ndarray, indices: np.ndarray, axis: int, place: str) -> np.ndarray:
    """Return the entries along an axis; along the others, the first ones."""
    try:
        n = values.shape[axis]
        kept = [slice(None) if i == axis % values.ndim else slice(m) for i, m in enumerate(indices.shape)]
        return np.take_along_axis(values[tuple(kept)], np.where(indices < 0, indices + n, indices), axis)
    except (IndexError, ValueError) as error:
        raise SpecError(f"The {place} cannot be computed: {error}") from error
