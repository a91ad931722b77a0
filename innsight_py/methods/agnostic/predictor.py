"""Any model as a function of arrays: what the model-agnostic methods explain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from innsight_py._arrays import without_tensors
from innsight_py._checks import describe
from innsight_py._errors import see
from innsight_py.inputs.codes import Codes
from innsight_py.inputs.data import read_data
from innsight_py.inputs.described import Described
from innsight_py.inputs.frames import ordered_columns, to_pandas
from innsight_py.inputs.names import LayerNames, default_names, read_names
from innsight_py.inputs.ports import Port, make_ports
from innsight_py.methods.agnostic.prediction_functions import Call, OutputType, read_kind
from innsight_py.methods.agnostic.texts import TextCall, of_texts
from innsight_py.spec import parse_dims
from innsight_py.spec.keys import default_keys

#: Bytes of the rows that a model is given at once, where the user does not say how many.
PREDICT_BYTES = 4 * 2**20


@dataclass
class Predictor(Described):
    """A model that is only known by its predictions.

    Attributes
    ----------
    model : Any
        The user's model.
    output_type : {"regression", "classification"}
        What it predicts.
    inputs, outputs, channels_first
        As in `Converter`, with one input and one output layer.
    columns : list of str or None
        What the columns of frames are matched with.
    text : TextCall or None
        What asks a converted model of texts.
    """

    model: Any
    output_type: OutputType
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    channels_first: bool
    _ask: _Ask
    columns: list[str] | None = None
    text: TextCall | None = None

    def about(self, row: int) -> Predictor:
        """Ask about a row from here on, with what comes with it (a mask, for example)."""
        if self.text is not None:
            self.text.row = row
        return self

    @property
    def codes(self) -> Codes | None:
        """The numbers of texts and categories in the frames that the model is asked with."""
        return self._ask.codes

    def as_asked(self, rows: np.ndarray) -> Any:
        """Return rows ``(n, *dims)`` as the model is asked with them: a frame with its columns, or an array."""
        return self._ask.given(rows)

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
    codes : Codes, optional
        The model wants a frame with texts and categories, which are numbers here.
    batch_size : int, optional
        At most this many rows at once.
    """

    call: Call
    columns: Any
    batch_size: int | None
    codes: Codes | None = None

    def given(self, rows: np.ndarray) -> Any:
        """Return rows in the form that the model wants."""
        if self.codes is not None:
            return self.codes.decode(rows)
        return rows.copy() if self.columns is None else pd.DataFrame(rows, columns=self.columns)

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
        """Return predictions ``(n, nodes)``, and their names where they come as a frame."""
        size = self.batch_size or max(1, PREDICT_BYTES // rows[:1].nbytes)
        parts = [self._ask(rows[start : start + size]) for start in range(0, len(rows), size)]
        for values, _ in parts:
            if values.shape[1] != parts[0][0].shape[1]:
                raise _changed(parts[0][0].shape[1], values.shape[1])
        return np.concatenate([values for values, _ in parts]), parts[0][1]

    def _ask(self, rows: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
        given = self.given(rows)
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
    text = of_texts(model, data) if pred_fun is None else None
    if text is not None:
        return _of_text(text, data, output_type, channels_first, batch_size)
    known = read_kind(model, channels_first, needed=pred_fun is None)
    data = to_pandas(data, "Argument 'data'")
    if isinstance(data, pd.DataFrame):
        data = ordered_columns(data, _flat(known.input_names), "Argument 'data'")
    codes = None
    if isinstance(data, pd.DataFrame) and (pred_fun is not None or known.takes_frames) and Codes.are_needed(data):
        if (column := Codes.hidden_numbers(data)) is not None:
            raise TypeError(
                see(
                    "numbers-only",
                    f"Argument 'data': the column '{column}' holds numbers, but has the dtype object. Make numbers of "
                    "them, frame.infer_objects(), or a category: frame.astype({...: 'category'}).",
                )
            )
        codes = Codes(data)
        data = codes.encode(data)
    dims = _dims(data, known.input_dim, input_dim, channels_first)
    rows = read_data(data, [dims], channels_first, torch.float64, "data")[0].numpy()
    columns = data.columns if isinstance(data, pd.DataFrame) else None
    if pred_fun is not None:
        ask = _Ask(pred_fun, columns, batch_size, codes)
    else:
        assert known.call is not None
        wanted = (known.columns if columns is None else columns) if known.takes_frames and len(dims) == 1 else None
        ask = _Ask(known.call, wanted, batch_size, codes)
    own_names = _names(
        (input_names, None if columns is None else [str(name) for name in columns], known.input_names),
        dims, "input_names", None,
    )  # fmt: skip
    preds, names = ask(rows)
    predictor = Predictor(
        model,
        output_type or known.output_type,
        make_ports(default_keys("input", 1), [dims], own_names),
        make_ports(
            default_keys("output", 1),
            [preds.shape[1:]],
            _names((output_names, names, known.output_names), preds.shape[1:], "output_names", ("Y",)),
        ),
        channels_first,
        ask,
        _flat(known.input_names) if columns is None else [str(name) for name in columns],
    )  # fmt: skip
    return predictor, rows, preds


def _of_text(
    text: TextCall, data: Any, output_type: OutputType | None, channels_first: bool, batch_size: int | None
) -> tuple[Predictor, np.ndarray, np.ndarray]:
    """Read a converted model of texts: each row is asked about with what comes with it."""
    rows = read_data(text.take(data), [text.port.dim], channels_first, torch.float64, "data")[0].numpy()
    ask = _Ask(text, None, batch_size)
    predictor = Predictor(
        text.converter,
        output_type or "regression",
        (text.port,),
        text.converter.outputs,
        channels_first,
        ask,
        text=text,
    )
    preds = np.concatenate([predictor.about(i).predict(rows[i : i + 1]) for i in range(len(rows))])
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
