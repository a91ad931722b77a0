"""What a metric judges: attributions of features, and the values of the model where features are replaced."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BeforeValidator
from torch import Tensor

from innsight_py._checks import WrongTypeError, describe, read_number
from innsight_py.functions.elementwise import all_finite
from innsight_py.inputs.data import read_data
from innsight_py.methods.again import Value, Values, reference_of
from innsight_py.methods.base import InterpretingMethod
from innsight_py.metrics.blurring import blurred
from innsight_py.model.explainable import DTYPES, Explainable
from innsight_py.results.attributions import Attributions
from innsight_py.results.completeness import absolute_residual

#: Rows times features whose masks are made at once.
MASKS = 2**24
#: What features may be replaced by, besides numbers.
BASELINES = ("reference", "mean", "blur")


def _result(value: object) -> object:
    if not isinstance(value, InterpretingMethod):
        raise WrongTypeError("a result, what 'run_*' and 'as_explanation' return")
    return value


#: What every metric takes first.
Result = Annotated[InterpretingMethod, BeforeValidator(_result)]


def nodes_of(result: Attributions, i: int) -> Tensor:
    """Return the explained nodes of output layer i, ``(B, K)``, counted through all axes."""
    own = result.own_nodes(i)
    if own is not None:
        return torch.tensor(own)[:, None]
    dim = result.described.outputs[i].dim
    flat = [
        int(np.ravel_multi_index(node, dim)) if isinstance(node, tuple) else node for node in result.output_idx[i] or ()
    ]
    return torch.tensor(flat).expand(result.rows, -1)


class Features:
    """The features that attributions are of: columns of a table, positions of a signal or image.

    Parameters
    ----------
    result : InterpretingMethod
        What was found out about instances.
    per_channel : bool
        Let each channel at a position be a feature, instead of all channels together.

    Attributes
    ----------
    result : InterpretingMethod
        The same.
    count : int
        Number of features, over all inputs.
    ids : list of (Tensor or None)
        For each input which feature each value belongs to, ``(*dims)`` in the user's layout; None for an input that is
        not explained.
    layers : list of int
        Numbers of the explained output layers.
    """

    def __init__(self, result: InterpretingMethod, per_channel: bool = False) -> None:
        if result.is_global or not result.data:
            raise ValueError(
                f"Argument 'result': expected attributions of instances, {result.title} says the same of all. "
                "Give the result of another method."
            )
        self.result, self.count = result, 0
        self.layers = [i for i, row in enumerate(result.result) if row is not None]
        self.ids: list[Tensor | None] = []
        for port in result.described.inputs:
            if port.kind == "fixed":
                self.ids.append(None)
                continue
            if result.groups is not None and not result.per_unit:
                self.ids.append(torch.tensor(result.groups.sources))
                self.count = len(result.groups.columns)
                continue
            together = port.has_channels and not per_channel
            places = port.dim[1:] if together else port.dim
            ids = torch.arange(math.prod(places)).reshape(places) + self.count
            self.count += math.prod(places)
            ids = ids.expand(port.dim) if together else ids
            self.ids.append(ids if result.channels_first or ids.dim() < 2 else ids.movedim(0, -1))

    def attributions(self, i: int) -> Tensor:
        """Return what output layer i gives to each feature, ``(B, features, K)`` in double precision."""
        row = self.result.result[i]
        assert row is not None
        parts = [(x, ids) for x, ids in zip(row, self.ids, strict=True) if x is not None and ids is not None]
        nodes = parts[0][0].shape[-1] if parts else len(self.result.node_labels(i)[0])
        total = torch.zeros(self.result.rows, self.count, nodes, dtype=torch.float64)
        for x, ids in parts:
            total.index_add_(1, ids.flatten(), x.detach().flatten(1, -2).double().cpu())
        return total


class Subject(Features):
    """Features, and the values of the model where some of them are replaced.

    Parameters
    ----------
    result : InterpretingMethod
        What was found out about instances.
    value : {"explained", "prediction"}
        Which value of the model is looked at.
    baseline : "reference", "mean", "blur", number, or like the data
        What features are replaced by.
    per_channel : bool
        As for `Features`.
    """

    def __init__(
        self, result: InterpretingMethod, value: Value = "explained", baseline: Any = "reference",
        per_channel: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(result, per_channel)
        known = isinstance(result.converter, Explainable) or hasattr(result.converter, "predict")
        if not known:
            raise ValueError(
                "Argument 'result': the model behind these attributions is not known. Give it: "
                "as_explanation(values, data=..., converter=converter)."
            )
        if result.layer is not None and len(result.layer) > 1:
            raise ValueError(
                f"Argument 'result': expected attributions to the inputs or to one layer, got {len(result.layer)} "
                "layers. Explain one of them: layer='...'."
            )
        if any(port.kind == "tokens" for port in result.described.inputs):
            raise ValueError(
                "Argument 'result': tokens cannot be replaced by numbers. Explain the embeddings: give 'inputs_embeds' "
                "as data, or take 'sparseness', 'completeness' or 'randomization'."
            )
        self.data: list[Tensor] = [x.cpu() for x in result.data]
        self.values = Values(result, value)
        self.baseline = self._read_baseline(baseline)

    def _read_baseline(self, given: Any) -> list[Tensor]:
        """Return what features are replaced by, ``(B or 1, *dims)`` for each input."""
        if isinstance(given, str) and given not in BASELINES:
            raise ValueError(f"Argument 'baseline': expected numbers or one of {', '.join(BASELINES)}, got '{given}'.")
        if given is None or (isinstance(given, str) and given == "reference"):
            found = reference_of(self.result)
            return [x.cpu() for x in found] if found is not None else [torch.zeros_like(x[:1]) for x in self.data]
        if isinstance(given, str) and given == "mean":
            return [x.mean(0, keepdim=True) for x in self.data]
        if isinstance(given, str):
            ports = self.result.described.inputs
            for port in ports:
                if port.kind == "table":
                    raise ValueError("Argument 'baseline': a table cannot be blurred; give numbers or 'mean'.")
            return [blurred(x, self.result.channels_first) for x in self.data]
        if isinstance(given, int | float | np.number) and not isinstance(given, bool):
            try:
                number = read_number(given)
            except ValueError:
                raise ValueError(f"Argument 'baseline': expected a finite number, got {describe(given)}.") from None
            return [torch.full_like(x[:1], number) for x in self.data]
        described, dtype = self.result.described, DTYPES[self.result.dtype]
        read = read_data(
            given, described.input_dim, self.result.channels_first, dtype, "baseline", described.input_names,
            described.input_keys,
        )  # fmt: skip
        for x, y in zip(read, self.data, strict=True):
            if not all_finite(x):
                raise ValueError("Argument 'baseline': expected finite numbers, got NaN or infinite ones.")
            if len(x) not in (1, len(y)):
                raise ValueError(
                    f"Argument 'baseline': expected one row, or one for each row of the data ({len(y)}), got {len(x)}. "
                    f"Give {describe(given)[:20]}....mean(0) or the like."
                )
        return read

    def at_data(self, i: int) -> Tensor:
        """Return the values of all nodes of output layer i at the data, ``(B, nodes)``."""
        return self.values(i, torch.arange(self.result.rows), self.data)

    def replaced(self, i: int, rows: Tensor, masks: Tensor) -> Tensor:
        """Return the values of all nodes of output layer i where features are replaced.

        Parameters
        ----------
        i : int
            Number of the output layer.
        rows : Tensor
            Which row of the data is changed, ``(n,)``.
        masks : Tensor
            Which features of it are replaced, ``(n, features)``.

        Returns
        -------
        Tensor
            ``(n, nodes)`` in double precision.
        """
        inputs = []
        for x, y, ids in zip(self.data, self.baseline, self.ids, strict=True):
            own = x[rows]
            if ids is not None:
                instead = y.to(x.dtype) if len(y) == 1 else y[rows].to(x.dtype)
                own = torch.where(masks[:, ids.flatten()].reshape(own.shape), instead, own)
            inputs.append(own)
        return self.values(i, rows, inputs)

    def many(self, i: int, count: int, masks: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        """Return values as `replaced` does for `count` changed rows, whose masks are made some at a time.

        `masks` takes numbers of changed rows ``(n,)`` and returns the rows and their masks.
        """
        return torch.cat([self.replaced(i, *masks(part)) for part in self.parts(count)])

    def parts(self, count: int) -> Iterator[Tensor]:
        """Cut numbers up to `count` into pieces whose masks fit into memory."""
        values = max(self.count, sum(x[0].numel() for x in self.data))
        return iter(torch.split(torch.arange(count), max(1, MASKS // values)))


def chosen(values: Tensor, nodes: Tensor) -> Tensor:
    """Take the explained nodes ``(B, K)`` of values ``(B, n, nodes)``; returns ``(B, n, K)``.

    Examples
    --------
    >>> chosen(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[2, 0]]))
    tensor([[[3., 1.]]])
    """
    return values.gather(2, nodes[:, None].expand(-1, values.shape[1], -1))


def goal_of(result: InterpretingMethod, i: int) -> tuple[Tensor, Tensor] | None:
    """Return goals and what the sums miss of them, ``(B, K)``; None for a method that decomposes nothing."""
    missing = absolute_residual(result, i)
    goal = None if result.decomp_goal is None else result.decomp_goal[i]
    return None if missing is None or goal is None else (goal.double().cpu(), missing.cpu())
