"""What the methods that only ask a model for predictions share."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from innsight_py._checks import Count, Flag, Seed, checked
from innsight_py.data import read_data
from innsight_py.methods.base import InterpretingMethod, random_source
from innsight_py.model_kinds import own_layout
from innsight_py.predictor import read_predictor

_AGNOSTIC_PARAMETERS = """model : Any
        A `Converter`, what `Converter` takes, a PyTorch module (run in evaluation mode), a Keras model, a scikit-learn
        estimator (classifiers by ``predict_proba``, otherwise by their scores), a function, or any object with a
        method ``pred_fun`` or ``predict``: one input, one output layer.
    data : array-like, Tensor or DataFrame
        The instances to explain, ``(B, *dims)``: tables, signals or images.
    data_ref : like `data`, optional
        The background: values that features may have had instead. Default: `data`.
    pred_fun : callable, optional
        How to get predictions, instead of the model's own way: a function of rows as `data` has them (a frame with
        the same columns, or an array in the same layout) that returns ``(n,)`` or ``(n, nodes)``.
    output_idx : int or sequence of int, optional
        Output nodes to explain, counted from 0. Default: the first ten.
    output_label : str or sequence of str, optional
        The same by label.
    channels_first : bool, optional
        Whether the channels are the first or the last axis of each instance, in the data given and in the result.
        Default: as the model has them.
    input_dim : sequence of int, optional
        Shape of an instance, channels first; only compared with the data's and the model's.
    input_names, output_names : list, optional
        Labels, as in `Converter`. Default: the columns of the frame, what the model knows (``feature_names_in_``,
        ``classes_``), or ``X1..``, ``Y1..``.
    {own}seed : int or torch.Generator, optional
        Fixes the draws. Default: drawn from torch's global generator. The global generators of numpy are not touched.
    verbose : bool, optional
        Show a progress bar. Default: when someone is watching (a terminal or a notebook).
    batch_size : int, optional
        The model is given at most so many rows at once. Default: chosen so that they fit into memory."""


class AgnosticWrapper(InterpretingMethod):
    """Base class of the methods that only ask for predictions. By itself it predicts and explains nothing.

    Parameters
    ----------
    %(agnostic)s
    output_type : {"regression", "classification"}, optional
        What the model predicts. Default: what it says itself, otherwise regression.

    Attributes
    ----------
    converter : Predictor
        The model as a function of arrays, with its shapes and names and its ``output_type``.
    data_orig : Any
        The data as they were given.
    data_ref : list of Tensor
        The background.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it should be, or the model does not predict numbers for the data; the message says
        which.

    Examples
    --------
    >>> AgnosticWrapper(lambda rows: rows.sum(1), [[1.0, 2.0]]).preds
    [tensor([[3.]])]
    """

    title = "AgnosticWrapper"

    def __init_subclass__(cls, own: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _document(cls, own)

    @checked
    def __init__(
        self,
        model: Any,
        data: Any,
        data_ref: Any = None,
        *,
        output_type: Literal["regression", "classification"] | None = None,
        pred_fun: Callable[..., Any] | None = None,
        output_idx: Any = None,
        output_label: Any = None,
        channels_first: Flag | None = None,
        input_dim: Any = None,
        input_names: Any = None,
        output_names: Any = None,
        seed: Seed = None,
        verbose: Flag | None = None,
        batch_size: Count | None = None,
    ) -> None:
        channels_first = own_layout(model) if channels_first is None else channels_first
        predictor, rows, preds = read_predictor(
            model, data, output_type=output_type, pred_fun=pred_fun, channels_first=channels_first,
            input_dim=input_dim, input_names=input_names, output_names=output_names, batch_size=batch_size,
        )  # fmt: skip
        super().__init__(
            predictor, channels_first=channels_first, output_idx=output_idx, output_label=output_label,
            ignore_last_act=False, verbose=verbose, dtype="float", batch_size=batch_size,
        )  # fmt: skip
        self.predictor = predictor
        self.data_orig = data
        self.data = [torch.from_numpy(rows).float()]
        self._given = rows
        self._background = self._read_background(data_ref)
        self._available = len(self._background)
        self._nodes = list(self.output_idx[0] or ())
        self._source = random_source(seed)
        self._preds = preds[:, self._nodes]
        self.preds = [torch.from_numpy(self._preds).float()]

    def _read_background(self, data_ref: Any) -> np.ndarray:
        if data_ref is None:
            return self._given
        frames = [x for x in (self.data_orig, data_ref) if isinstance(x, pd.DataFrame)]
        if len(frames) == 2 and list(frames[0].columns) != list(frames[1].columns):
            raise ValueError(
                "Argument 'data_ref': expected the columns of 'data' in the same order, "
                f"{list(frames[0].columns)}, got {list(frames[1].columns)}."
            )
        read = read_data(data_ref, self.predictor.input_dim, self.channels_first, torch.float64, "data_ref")
        return read[0].numpy()

    @property
    def data_ref(self) -> list[torch.Tensor]:
        """The background."""
        return [torch.from_numpy(self._background).float()]

    def _predict(self, flat: np.ndarray) -> np.ndarray:
        """Predict the explained nodes ``(n, K)`` for rows whose features are in one axis, ``(n, p)``."""
        return self.predictor.predict(flat.reshape(len(flat), *self._given.shape[1:]))[:, self._nodes]

    def _explain_rows(self, explain: Callable[[np.ndarray, int], np.ndarray]) -> None:
        """Explain row by row; `explain` takes a row ``(p,)`` and a seed of its own and returns ``(p, K)``."""
        seeds = self._source.integers(2**32, size=len(self._given))
        progress = tqdm(
            zip(self._given.reshape(len(self._given), -1), seeds, strict=True),
            desc=self.title, total=len(self._given), unit="row", leave=False,
            disable=None if self.verbose is None else not self.verbose,
        )  # fmt: skip
        values = np.stack([explain(row, int(seed)) for row, seed in progress])
        self.result = [[torch.from_numpy(values.reshape(*self._given.shape, len(self._nodes))).float()]]

    def _fields(self) -> list[tuple[str, str]]:
        used = f"{len(self._background)} of " if len(self._background) < self._available else ""
        return [("output_type", f"'{self.predictor.output_type}'"), ("data_ref", f"{used}{self._available} rows")]


def _document(cls: type, own: str) -> None:
    if cls.__doc__:
        cls.__doc__ = cls.__doc__.replace("%(agnostic)s", _AGNOSTIC_PARAMETERS.format(own=own))


_document(AgnosticWrapper, "")


def import_extra(module: str, method: str) -> Any:
    """Import a module of the extra `agnostic`, or say how to get it."""
    package = module.partition(".")[0]
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ImportError(f'{method} needs the package {package}: pip install "innsight_py[agnostic]"') from None
    return importlib.import_module(module)
