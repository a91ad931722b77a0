"""Running an ONNX model beside its conversion: with onnxruntime if it is installed, else with ONNX's own evaluator."""

from __future__ import annotations

import contextlib
import importlib
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innsight_py.converters.onnx.loading import import_onnx

REMARK = (
    "The file was run with ONNX's own evaluator, which has errors and gaps; try again with onnxruntime, "
    "`pip install onnxruntime`."
)


class Original:
    """An ONNX model that can be run on tensors.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.
    inputs : sequence of tuple
        Name, shape for one row, type of numpy and whether the channels come last, of each input that is explained.
    fixed : mapping
        The other inputs, which nothing depends on.
    outputs : sequence of tuple
        Name, shape for one row without the batch, and whether the channels come last, of each output.
    one_row : bool
        Whether the model takes one row at a time.
    double : bool
        Whether the model has double precision throughout, and ONNX's own evaluator is to run it.
    """

    def __init__(
        self, model: Any, inputs: Sequence[tuple[str, tuple[int, ...], Any, bool]], fixed: Mapping[str, np.ndarray],
        outputs: Sequence[tuple[str, tuple[int, ...], bool]], one_row: bool, double: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.inputs, self.fixed, self.outputs = model, inputs, fixed, outputs
        self.one_row, self.double = one_row, double
        self._session: Any = False if double else None
        self._evaluator: Any = None

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run the model.

        Raises
        ------
        RuntimeError
            If the model cannot be run, or has another precision than the inputs: onnxruntime takes no other, and ONNX's
            evaluator would go on in single precision at the first operator whose type its attributes say.
        """
        rows = inputs[0].shape[0]
        if inputs[0].dtype == torch.float64 and not self.double:
            raise RuntimeError("an ONNX model computes in its own precision")
        if not self.one_row and rows > 1:
            try:
                return self._together(inputs)
            except RuntimeError:  # a model that says it takes any number of rows, and takes one
                self.one_row = True
        if rows == 1:
            return self._together(inputs)
        each = [self._together([x[i : i + 1] for x in inputs]) for i in range(rows)]
        return [torch.cat(parts) for parts in zip(*each, strict=True)]

    def values(self, inputs: Sequence[Tensor], layers: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, Tensor]:
        """Return the values of layers for one row; `layers` has the value of each in the model, and its shape."""
        feeds = self._feeds([x.float() for x in inputs])
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = self._reference().run(None, feeds, intermediate=True)
        result = {}
        for layer, (name, shape) in layers.items():
            value = found.get(name)
            if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                result[layer] = torch.from_numpy(value.astype(np.float32)).reshape(shape or (1,))
        return result

    def _feeds(self, inputs: Sequence[Tensor]) -> dict[str, np.ndarray]:
        feeds = dict(self.fixed)
        for x, (name, shape, kind, moved) in zip(inputs, self.inputs, strict=True):
            array = (x.movedim(1, -1) if moved else x).reshape(x.shape[0], *shape[1:]).contiguous().numpy()
            feeds[name] = array.astype(kind)
        return feeds

    def _together(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        feeds, rows = self._feeds(inputs), inputs[0].shape[0]
        names = [name for name, _, _ in self.outputs]
        try:
            found = self._run(names, feeds)
            results = []
            for array, (_, shape, moved) in zip(found, self.outputs, strict=True):
                value = torch.from_numpy(np.array(array)).reshape(rows, *(shape or (1,)))
                results.append(value.movedim(-1, 1) if moved else value)
        except Exception as error:  # whatever onnxruntime or numpy run into
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RuntimeError(f"the ONNX model cannot be run: {first[:300]}") from error
        return results

    def remark(self) -> str:
        """Say what to try where the model seems to compute something else than its conversion, or cannot be run."""
        return "" if self._has_session() else REMARK

    def _has_session(self) -> bool:
        if self._session is None:
            self._session = _session(self.model)
        return self._session is not False

    def _run(self, names: list[str], feeds: dict[str, np.ndarray]) -> list[Any]:
        if self._has_session():
            with contextlib.suppress(Exception):  # an option that onnxruntime does not have
                return list(self._session.run(names, feeds))
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not self.double:
                return list(self._reference().run(names, feeds))
            found = self._reference().run(None, feeds, intermediate=True)
        for name, value in found.items():
            if isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f" and value.dtype != np.float64:
                raise RuntimeError(f"ONNX's evaluator computes '{name}' in {value.dtype}")
        return [found[name] for name in names]

    def _reference(self) -> Any:
        if self._evaluator is None:
            onnx = import_onnx()
            version = min(
                (entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")), default=99
            )
            operators = [*_exact(onnx), _local_response(onnx), *(_old_softmax(onnx) if version < 13 else ())]
            operators += [_old_batch_normalization(onnx)] if version < 14 else []
            self._evaluator = onnx.reference.ReferenceEvaluator(self.model, new_ops=operators)
        return self._evaluator


def _old_softmax(onnx: Any) -> list[Any]:
    """Return softmax as it was before version 13, over all axes from one on; ONNX's evaluator has the later ones."""

    def run(self: Any, x: np.ndarray, axis: int | None = None) -> tuple[np.ndarray]:
        lead = x.shape[: 1 if axis is None else axis % x.ndim]
        flat = x.reshape(int(np.prod(lead)), -1)
        flat = flat - flat.max(1, keepdims=True)
        log = flat - np.log(np.exp(flat).sum(1, keepdims=True))
        return ((log if type(self).__name__ == "LogSoftmax" else np.exp(log)).reshape(x.shape),)

    base = onnx.reference.op_run.OpRun
    return [
        type(name, (base,), {"op_domain": "", "op_schema": onnx.defs.get_schema(name, 11, ""), "_run": run})
        for name in ("Softmax", "LogSoftmax")
    ]


def _exact(onnx: Any) -> list[Any]:
    """Return the operators that ONNX's evaluator computes in single precision whatever their input is."""

    def erf(x: np.ndarray) -> np.ndarray:
        found: np.ndarray = torch.special.erf(torch.from_numpy(np.array(x))).numpy()
        return found

    def run_erf(self: Any, x: np.ndarray) -> tuple[np.ndarray]:
        return (erf(x),)

    def run_gelu(self: Any, x: np.ndarray, approximate: str | None = None) -> tuple[np.ndarray]:
        if approximate == "tanh":
            return (0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),)
        return (0.5 * x * (1 + erf(x / math.sqrt(2))),)

    base = onnx.reference.op_run.OpRun
    erf_type = type("Erf", (base,), {"op_domain": "", "_run": run_erf})
    gelu = {"op_domain": "", "op_schema": onnx.defs.get_schema("Gelu", 20, ""), "_run": run_gelu}
    return [erf_type, type("Gelu", (base,), gelu)]


def _old_batch_normalization(onnx: Any) -> Any:
    """Return batch normalisation as it was before version 14, which said by its outputs alone that it trains.

    Models that train are refused. ONNX's evaluator takes all of these versions for training, with the batch's moments.
    """

    def run(
        self: Any, x: np.ndarray, scale: np.ndarray, bias: np.ndarray, mean: np.ndarray, var: np.ndarray,
        epsilon: float = 1e-5, **others: Any,
    ) -> tuple[np.ndarray]:  # fmt: skip
        scale, bias, mean, var = (each.reshape(-1, *[1] * (x.ndim - 2)) for each in (scale, bias, mean, var))
        return ((scale * (x - mean) / np.sqrt(var + epsilon) + bias).astype(x.dtype),)

    schema = onnx.defs.get_schema("BatchNormalization", 9, "")
    members = {"op_domain": "", "op_schema": schema, "_run": run}
    return type("BatchNormalization", (onnx.reference.op_run.OpRun,), members)


def _local_response(onnx: Any) -> Any:
    """Return LRN, of which ONNX's evaluator computes as many channels as there are rows."""

    def run(
        self: Any, x: np.ndarray, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int = 1,
    ) -> tuple[np.ndarray]:  # fmt: skip
        before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
        squares = np.pad(x * x, [(0, 0), (before, after)] + [(0, 0)] * (x.ndim - 2))
        sums = np.lib.stride_tricks.sliding_window_view(squares, size, axis=1).sum(-1)
        return ((x / (bias + alpha / size * sums) ** beta).astype(x.dtype),)

    members = {"op_domain": "", "op_schema": onnx.defs.get_schema("LRN", 13, ""), "_run": run}
    return type("LRN", (onnx.reference.op_run.OpRun,), members)


def _session(model: Any) -> Any:
    """Open a session of onnxruntime's without its optimisations; False where it is not installed or will not do."""
    try:
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4
        data = model.SerializeToString()
        return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception:  # not installed, a version or an operator that it does not know, a model over 2 GB
        return False
