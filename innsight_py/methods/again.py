"""A method once more, on other data or of another model; and the value that it has explained, at any data."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from innsight_py.inputs.data import to_channels_first
from innsight_py.methods.agnostic.base import AgnosticWrapper
from innsight_py.methods.base import InterpretingMethod
from innsight_py.model.explainable import DTYPES, Explainable
from innsight_py.model.graph import Graph

#: What is looked at: the value that is explained (before the last activation by default), or the prediction.
Value = Literal["explained", "prediction"]
#: Bytes of the values of a forward pass.
PASS_BYTES = 64 * 2**20


def repeat(method: InterpretingMethod, data: Sequence[Tensor], model: Any = None, seed: int = 0) -> InterpretingMethod:
    """Call a method again with the arguments that it was given, quietly.

    References stay the rows that they were, also where ``"mean"`` was said of the data. Where no seed was given it is
    `seed`.

    Parameters
    ----------
    method : InterpretingMethod
        What was found out.
    data : sequence of Tensor
        The data of each input, in the user's layout.
    model : Converter, optional
        Another model of the same shapes. Default: the model of `method`.
    seed : int
        What fixes the draws.

    Examples
    --------
    >>> from innsight_py import Converter, run_grad
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[2.0, -1.0]]}]}
    >>> result = run_grad(Converter(model), [[0.5, 1.0]], times_input=True)
    >>> repeat(result, [torch.ones(1, 2)]).get_result()[0, :, 0]
    array([ 2., -1.], dtype=float32)
    """
    takes = inspect.signature(type(method).__init__).parameters
    arguments = {**method.arguments, "verbose": False}
    for name in ("x_ref", "data_ref"):
        if name in takes and getattr(method, name, None):
            arguments[name] = _of_all_inputs(getattr(method, name))
    fixed = {key: own for key, own in zip(method.described.output_keys, method.target_idx, strict=False) if own}
    if fixed and arguments.get("target") is not None:
        arguments["target"] = fixed if len(method.described.outputs) > 1 else next(iter(fixed.values()))
    if "seed" in takes and not isinstance(arguments.get("seed"), int):
        arguments["seed"] = seed
    given: Any = _of_all_inputs(data)
    if isinstance(method, AgnosticWrapper):
        model = method.predictor.model if model is None else model
        given, arguments["data_ref"] = method.as_given(data[0].numpy()), method.as_given(method._background)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all of it was said the first time
        kind: Any = type(method)
        again: InterpretingMethod = kind(method.converter if model is None else model, given, **arguments)
    return again


def _of_all_inputs(tensors: Sequence[Tensor]) -> Any:
    return list(tensors) if len(tensors) > 1 else tensors[0]


class Values:
    """The values that a method has explained, at any data.

    Parameters
    ----------
    method : InterpretingMethod
        What was found out, of the inputs or of layers.
    what : {"explained", "prediction"}
        Which value.

    Examples
    --------
    >>> from innsight_py import Converter, run_grad
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[2.0, -1.0]], "activation_name": "relu"}]}
    >>> result = run_grad(Converter(model), [[0.5, 1.0]])
    >>> values = Values(result, "explained")
    >>> values(0, torch.tensor([0]), [torch.tensor([[0.0, 3.0]])])
    tensor([[-3.]], dtype=torch.float64)
    """

    def __init__(self, method: InterpretingMethod, what: Value) -> None:
        self.method, self.what = method, what
        self.graph: Graph | None = None
        self.held: list[Tensor] = []
        if not isinstance(method.converter, Explainable):
            self.together = 2**16
            return
        whole = method._whole_model
        self.graph = whole if method._part is None else method._part.section(whole)
        if self.graph.held:
            self.held = method._first(method._given_data, self.graph)[len(self.graph.inputs) :]
        row = self.graph.sizes.trace * DTYPES[method.dtype].itemsize
        self.together = max(1, min(PASS_BYTES // row, method.batch_size or 2**16))

    @torch.no_grad()
    def __call__(self, i: int, rows: Tensor, inputs: Sequence[Tensor]) -> Tensor:
        """Return the values of all nodes of output layer i, ``(n, nodes)`` in double precision.

        Parameters
        ----------
        i : int
            Number of the output layer.
        rows : Tensor
            Which row of the data each of the n rows comes from, ``(n,)``.
        inputs : sequence of Tensor
            ``(n, *dims)`` for each input (or layer), in the user's layout.
        """
        if self.graph is None:
            return torch.from_numpy(self.method.converter.predict(inputs[0].numpy()))  # type: ignore[attr-defined]
        graph, found = self.graph, []
        end = graph.explained(i, self.method.ignore_last_act)
        for start in range(0, len(rows), self.together):
            chunk = slice(start, start + self.together)
            some = [to_channels_first(x[chunk], self.method.channels_first).to(graph.device) for x in inputs]
            some += [x[rows[chunk].to(x.device)] for x in self.held]
            trace = graph.trace(graph.lay_out(some))
            values = trace.explained(end) if self.what == "explained" else trace.values[graph.outputs[i]]
            found.append(values.flatten(1).double().cpu())
        return torch.cat(found)


def reference_of(method: InterpretingMethod) -> list[Tensor] | None:
    """Return what a method has compared each row with, ``(B or 1, *dims)`` an input in the user's layout.

    Of several references it is their mean. None for a method that compares with nothing.
    """
    found = getattr(method, "x_ref", None) or getattr(method, "data_ref", None)
    if not found:
        return None
    data = method._given_data or method.data
    single = [x.mean(1) if x.dim() > y.dim() else x for x, y in zip(found, data, strict=True)]
    if (
        not hasattr(method, "x_ref")
        and single[0].shape[0] > 1
        and all(x is y for x, y in zip(single, found, strict=True))
    ):
        single = [x.mean(0, keepdim=True) for x in single]
    if method.layer is None:
        return single
    graph = method._model
    values = method._first(single, graph)[: len(graph.inputs)]
    return [x if method.channels_first or x.dim() < 3 else x.movedim(1, -1) for x in values]
