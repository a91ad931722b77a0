"""Any model as a function of arrays: what the model-agnostic methods explain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from innsight_py._checks import describe
from innsight_py.data import read_data, without_tensors
from innsight_py.frames import ordered_columns, to_pandas
from innsight_py.model_kinds import Call, OutputType, read_kind
from innsight_py.names import LayerNames, default_names, read_names
from innsight_py.spec import parse_dims

#: Bytes of the rows that a model is given at once, where the user does not say how many.
PREDICT_BYTES = 4 * 2**20


@dataclass
class Predictor:
    """A model that is only known by its predictions.

    Attributes
    ----------
    model : Any
        The user's model.
    output_type : {"regression", "classification"}
        What it predicts.
    input_dim, input_names, output_dim, output_names
        As in `Converter`, with one input and one output layer.
    columns : list of str or None
        What the columns of frames are matched with.
    """

    model: Any
    output_type: OutputType
    input_dim: list[tuple[int, ...]]
    input_names: list[LayerNames]
    output_dim: list[tuple[int, ...]]
    output_names: list[LayerNames]
    _ask: _Ask
    columns: list[str] | None = None

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Predict for rows ``(n, *dims)`` in the layout of the data; returns ``(n, nodes)``."""
        values, _ = self._ask(rows)
        if values.shape[1] != self.output_dim[0][0]:
            raise _changed(self.output_dim[0][0], values.shape[1])
        return values


@dataclass(frozen=True)
class _Ask:
    """Hands rows to a model in the form that it wants, and reads what it says.

    Attributes
    ----------
    call : callable
        The model.
    columns : sequence of str, optional
        The model wants a frame with these columns.
    batch_size : int, optional
        At most so many rows at once.
    """

    call: Call
    columns: Any
    batch_size: int | None

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
        """Return predictions ``(n, nodes)``, and their names where they come as a frame."""
        size = self.batch_size or max(1, PREDICT_BYTES // rows[:1].nbytes)
        parts = [self._ask(rows[start : start + size]) for start in range(0, len(rows), size)]
        for values, _ in parts:
            if values.shape[1] != parts[0][0].shape[1]:
                raise _changed(parts[0][0].shape[1], values.shape[1])
        return np.concatenate([values for values, _ in parts]), parts[0][1]

    def _ask(self, rows: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
        given = rows.copy() if self.columns is None else pd.DataFrame(rows, columns=self.columns)
        try:
            answer = self.call(given)
        except Exception as error:
            raise ValueError(
                f"The model could not predict for {describe(given)}: {type(error).__name__}: {error}\n"
                "'pred_fun' gets the rows as 'data' has them (a frame with its columns, or an array in its layout); "
                "say with 'channels_first' how signals and images lie."
            ) from error
        return _as_matrix(answer, len(rows))


def _changed(before: int, now: int) -> ValueError:
    return ValueError(f"The model predicted {before} values a row at first, now it predicts {now}.")


def _as_matrix(answer: Any, rows: int) -> tuple[np.ndarray, list[str] | None]:
    names = [str(column) for column in answer.columns] if isinstance(answer, pd.DataFrame) else None
    wrapped = isinstance(answer, list | tuple) and len(answer) == 1 and np.ndim(without_tensors(answer[0])) == 2
    answer = answer[0] if wrapped else answer
    try:
        values = np.asarray(without_tensors(answer))
    except ValueError:  # arrays of different shapes
        values = np.empty(0)
    if values.ndim == 1 and len(values) == rows:
        values = values[:, None]
    if values.ndim != 2 or len(values) != rows or not values.shape[1]:
        raise ValueError(
            f"The model must predict one array of shape (B,) or (B, nodes), got {describe(answer)} for {rows} rows. "
            "Of several output layers 'pred_fun' can return one."
        )
    if values.dtype.kind not in "biuf":
        raise ValueError(
            f"The model must predict numbers, got {describe(answer)}; for classes give a 'pred_fun' that returns "
            "their probabilities."
        )
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("The model predicts values that are not finite (NaN or infinite).")
    return values, names


# -- reading --------------------------------------------------------------------------------------------------------


def read_predictor(
    model: Any,
    data: Any,
    *,
    output_type: OutputType | None,
    pred_fun: Call | None,
    channels_first: bool,
    input_dim: Any,
    input_names: Any,
    output_names: Any,
    batch_size: int | None,
) -> tuple[Predictor, np.ndarray, np.ndarray]:
    """Read a model of any kind, and the data that it is to be explained for.

    Returns
    -------
    Predictor, ndarray, ndarray
        The model, the data ``(B, *dims)`` in their own layout, and the predictions ``(B, nodes)`` for them.

    Raises
    ------
    TypeError, ValueError
        If the model cannot be asked for predictions, or does not fit the data or the arguments; the message says why.
    """
    known = read_kind(model, channels_first, needed=pred_fun is None)
    data = to_pandas(data, "Argument 'data'")
    if isinstance(data, pd.DataFrame):
        data = ordered_columns(data, _flat(known.input_names), "Argument 'data'")
    dims = _dims(data, known.input_dim, input_dim, channels_first)
    rows = read_data(data, [dims], channels_first, torch.float64, "data")[0].numpy()
    columns = data.columns if isinstance(data, pd.DataFrame) else None
    if pred_fun is not None:
        ask = _Ask(pred_fun, columns, batch_size)
    else:
        assert known.call is not None
        wanted = (known.columns if columns is None else columns) if known.takes_frames and len(dims) == 1 else None
        ask = _Ask(known.call, wanted, batch_size)
    own_names = _names(
        (input_names, None if columns is None else [str(name) for name in columns], known.input_names),
        dims, "input_names", None,
    )  # fmt: skip
    preds, names = ask(rows)
    predictor = Predictor(
        model,
        output_type or known.output_type,
        [dims],
        own_names,
        [preds.shape[1:]],
        _names((output_names, names, known.output_names), preds.shape[1:], "output_names", ("Y",)),
        ask,
        _flat(known.input_names) if columns is None else [str(name) for name in columns],
    )  # fmt: skip
    return predictor, rows, preds


def _flat(names: Any) -> list[str] | None:
    """Return the names of the features of a table, from names nested as in `Converter` or not; None for others."""
    if names is None or not len(names):
        return None
    if isinstance(names[0], str):
        return [str(name) for name in names]
    return [str(name) for name in names[0][0]] if len(names[0]) == 1 else None


def _names(
    candidates: tuple[Any, ...], dim: tuple[int, ...], argument: str, letters: tuple[str, ...] | None
) -> list[LayerNames]:
    """Take the first names that there are; those that the user gave must fit."""
    given, *found = candidates
    if given is not None:
        return read_names(given, [dim], argument)
    for names in found:
        if names is not None:
            try:
                return read_names(names, [dim], argument)
            except ValueError:  # names of something else than what the prediction function returns
                continue
    return [default_names(dim, letters)]


def _dims(data: Any, own: tuple[int, ...] | None, given: Any, channels_first: bool) -> tuple[int, ...]:
    """Find the shape of an instance, channels first, and check it against the model's own and the argument."""
    try:
        shape = tuple(data.shape) if hasattr(data, "shape") else np.shape(without_tensors(data))
    except ValueError:
        raise ValueError(
            "Argument 'data': expected one rectangular array; models with several inputs cannot be explained by "
            f"model-agnostic methods. Got {describe(data)}."
        ) from None
    if len(shape) > 1 and 0 in shape[1:]:
        raise ValueError(f"Argument 'data': expected instances with at least one value, got {describe(data)}.")
    expected = own
    if given is not None:
        parsed = parse_dims(given, "Argument 'input_dim'")
        if len(parsed) > 1:
            raise ValueError(f"Argument 'input_dim': expected the shape of a single input, got {len(parsed)}.")
        if own is not None and parsed[0] != own:
            raise ValueError(f"Argument 'input_dim': the model takes {own} (channels first), got {parsed[0]}.")
        expected = parsed[0]
        found = tuple(int(n) for n in shape[1:])
        if found and expected != (found if channels_first else (found[-1], *found[:-1])):
            raise ValueError(
                f"Argument 'input_dim': expected the shape of the instances in 'data', which are {tuple(shape)}; got "
                f"(*, {', '.join(map(str, expected))}), channels first."
            )
    if expected is not None:
        return expected
    if len(shape) < 2:
        raise ValueError(f"Argument 'data': expected instances of shape (B, *dims), got {describe(data)}.")
    dims = tuple(int(n) for n in shape[1:])
    return dims if channels_first or len(dims) == 1 else (dims[-1], *dims[:-1])
