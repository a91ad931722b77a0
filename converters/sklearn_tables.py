"""Pipelines of scikit-learn that begin with encoders: what is a fixed first step, and what is scaling after it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder

from innsight_py.inputs.encoding import Encoder

#: What is a fixed first step, beside scalers that come before one of these.
ENCODERS = (OneHotEncoder, OrdinalEncoder, SimpleImputer, KNNImputer, ColumnTransformer)
#: Gives a scaling step as layers: none for no scaling, one for a scale, more with a clamp; None for another step.
Scaling = Callable[[Any], "list[dict[str, Any]] | None"]
_NAME = re.compile(r"^(missingindicator_)?#(\d+)#(?:_(.*))?$", re.DOTALL)


class CannotEncodeError(Exception):
    """Says which step of a pipeline cannot be a first step."""


@dataclass
class _Column:
    """A column of numbers: the input column that it comes from, and the category that it stands for."""

    source: int
    label: str | None = None


@dataclass
class _Branch:
    """What a ColumnTransformer does with some columns: fixed steps, then scalers."""

    columns: Any
    fixed: list[Any]
    scalers: list[Any]
    out: list[_Column]
    weight: float = 1.0

    def encode(self, x: Any) -> np.ndarray:
        """Apply the fixed steps."""
        return _apply(self.fixed, _select(x, self.columns))

    def scale(self, x: np.ndarray) -> np.ndarray:
        """Apply the scalers to what `encode` returns."""
        return _apply(self.scalers, x) * self.weight


class Table(Encoder):
    """The first steps of a pipeline, up to the last one that is no scaling.

    Parameters
    ----------
    columns, names, sources, own
        As for `Encoder`.
    first : list
        Fixed steps on the whole table.
    branches : list
        What comes next with some columns each; a single one where it is no ColumnTransformer.

    Attributes
    ----------
    factor, shift : ndarray
        The scaling of the columns of numbers at the end.
    """

    def __init__(
        self, columns: Sequence[str], names: Sequence[str], sources: Sequence[int], own: Sequence[str],
        first: list[Any], branches: list[_Branch],
    ) -> None:  # fmt: skip
        super().__init__(columns, names, sources, own)
        self.first, self.branches = first, branches
        zeros = np.zeros((1, len(self.names)))
        self.shift: np.ndarray = self.scale(zeros)[0]
        self.factor: np.ndarray = self.scale(zeros + 1.0)[0] - self.shift

    def transform(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the columns of numbers, before they are scaled."""
        x: Any = frame.set_axis([str(column) for column in frame.columns], axis=1).reindex(columns=self.own)
        if self.first:
            x = _apply(self.first, x)
        return np.concatenate([branch.encode(x) for branch in self.branches], 1)

    def scale(self, x: np.ndarray) -> np.ndarray:
        """Scale columns of numbers as the pipeline's own scalers do."""
        ends = np.cumsum([len(branch.out) for branch in self.branches])
        blocks = np.split(np.asarray(x), ends[:-1], axis=1)
        return np.concatenate([branch.scale(block) for branch, block in zip(self.branches, blocks, strict=True)], 1)


def flat_steps(steps: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Lay the steps of pipelines within a pipeline after each other; steps that do nothing are left out."""
    flat: list[tuple[str, Any]] = []
    for title, step in steps:
        if isinstance(step, Pipeline):
            flat += flat_steps(step.steps)
        elif step is not None and not isinstance(step, str):
            flat.append((title, step))
    return flat


def read_table(steps: Sequence[tuple[str, Any]], scaling: Scaling) -> tuple[Table, int] | None:
    """Read the first steps of a pipeline.

    Parameters
    ----------
    steps : sequence of (str, estimator)
        The fitted steps before the perceptron, see `flat_steps`.
    scaling : callable
        Reads scaling steps.

    Returns
    -------
    Table, int or None
        The table, and the number of steps in it; None where no step is an encoder.

    Raises
    ------
    CannotEncodeError
        If a step before an encoder is of another kind.
    """
    places = [i for i, (_, step) in enumerate(steps) if isinstance(step, ENCODERS)]
    if not places:
        return None
    last = places[-1]
    first, names = [step for _, step in steps[:last]], _own_names(steps[0][1])
    columns = [_Column(k) for k in range(len(names))]
    for step in first:
        columns = _after(columns, _columns_of(step, len(columns), scaling))
    end = steps[last][1]
    if isinstance(end, ColumnTransformer):
        inner = names if not first else [str(k) for k in range(len(columns))]
        branches = _branches(end, inner, scaling)
    else:
        branches = [_Branch(slice(None), [end], [], _columns_of(end, len(columns), scaling))]
    out = _after(columns, [column for branch in branches for column in branch.out])
    used = sorted({column.source for column in out})
    labels = [f"{names[c.source]} = {c.label}" if c.label is not None else names[c.source] for c in out]
    columns_used, sources = [names[k] for k in used], [used.index(column.source) for column in out]
    table = Table(columns_used, labels, sources, names, first, branches)
    return table, last + 1


def _own_names(step: Any) -> list[str]:
    names = getattr(step, "feature_names_in_", None)
    return [str(name) for name in names] if names is not None else [f"X{k + 1}" for k in range(step.n_features_in_)]


def _after(before: list[_Column], then: list[_Column]) -> list[_Column]:
    """Put two steps together."""
    return [
        _Column(before[c.source].source, c.label if before[c.source].label is None else before[c.source].label)
        for c in then
    ]


def _branches(step: ColumnTransformer, names: list[str], scaling: Scaling) -> list[_Branch]:
    branches = []
    for name, transformer, columns in step.transformers_:
        places = _places(columns, names)
        if not places or (isinstance(transformer, str) and transformer == "drop"):
            continue
        steps = [inner for _, inner in flat_steps([(name, transformer)])]
        scalers: list[Any] = []
        while steps and (layers := scaling(steps[-1])) is not None and len(layers) < 2:
            scalers.insert(0, steps.pop())
        out = [_Column(k) for k in range(len(places))]
        for inner in steps:
            out = _after(out, _columns_of(inner, len(out), scaling))
        out = [_Column(places[c.source], c.label) for c in out]
        weight = (step.transformer_weights or {}).get(name, 1.0)
        branches.append(_Branch(columns, steps, scalers, out, weight))
    return branches


def _columns_of(step: Any, count: int, scaling: Scaling) -> list[_Column]:
    """Return what each column of numbers after a step comes from."""
    if scaling(step) is not None:
        return [_Column(k) for k in range(count)]
    if isinstance(step, ColumnTransformer):
        names = _own_names(step)
        return [column for branch in _branches(step, names, scaling) for column in branch.out]
    if not isinstance(step, ENCODERS):
        raise CannotEncodeError(type(step).__name__)
    bare = copy.copy(step)
    bare.__dict__.pop("feature_names_in_", None)
    found = []
    for name in bare.get_feature_names_out([f"#{k}#" for k in range(count)]):
        parts = _NAME.match(str(name))
        if parts is None:
            raise CannotEncodeError(f"{type(step).__name__} with names of its own")
        label = "missing" if parts[1] or parts[3] in ("nan", "None", "<NA>") else parts[3]
        found.append(_Column(int(parts[2]), label))
    return found


def _places(columns: Any, names: list[str]) -> list[int]:
    """Return the numbers of the columns that a ColumnTransformer has selected."""
    if isinstance(columns, slice):
        ends = [names.index(end) if isinstance(end, str) else end for end in (columns.start, columns.stop)]
        if isinstance(columns.stop, str):
            ends[1] += 1
        return list(range(len(names)))[slice(ends[0], ends[1], columns.step)]
    listed = np.atleast_1d(np.asarray(columns, object))
    if len(listed) and all(isinstance(each, bool | np.bool_) for each in listed):
        return [k for k, each in enumerate(listed) if each]
    return [names.index(each) if isinstance(each, str) else int(each) % len(names) for each in listed]


def _select(x: Any, columns: Any) -> Any:
    """Take columns of a frame or an array, as they are named."""
    if isinstance(x, pd.DataFrame):
        return x.iloc[:, _places(columns, [str(column) for column in x.columns])]
    places = _places(columns, [str(k) for k in range(x.shape[1])])
    return x[:, places]


def _apply(steps: Sequence[Any], x: Any) -> np.ndarray:
    for step in steps:
        x = step.transform(_as_fitted(step, x))
        x = x.toarray() if hasattr(x, "toarray") else x
    array: np.ndarray = np.asarray(x, np.float64)
    return array


def _as_fitted(step: Any, x: Any) -> Any:
    """Give a step a frame where it was fitted with names, and an array otherwise, so that it has nothing to warn of."""
    names = getattr(step, "feature_names_in_", None)
    if names is None:
        return x.to_numpy() if isinstance(x, pd.DataFrame) else x
    return pd.DataFrame(x, columns=list(names)) if isinstance(x, np.ndarray) and x.shape[1] == len(names) else x


def after_encoding(model: Any, table: Table, taken: int) -> Any:
    """Return a copy of a fitted estimator that takes the columns of numbers, the first steps being done."""
    if hasattr(model, "best_estimator_"):
        inner = copy.copy(model)
        inner.best_estimator_ = after_encoding(model.best_estimator_, table, taken)
        return inner.best_estimator_
    if hasattr(model, "regressor_"):
        inner = copy.copy(model)
        inner.regressor_ = after_encoding(model.regressor_, table, taken)
        inner.__dict__.pop("feature_names_in_", None)
        inner.__dict__.pop("n_features_in_", None)
        return inner
    *steps, end = model.steps
    rest = flat_steps(steps)[taken:]
    return Pipeline([("encoded", FunctionTransformer(table.scale)), *_distinct(rest), end])


def _distinct(steps: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(f"{title}_{k}", step) for k, (title, step) in enumerate(steps)]
