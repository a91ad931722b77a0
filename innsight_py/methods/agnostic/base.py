"""What the methods that only ask a model for predictions share."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from innsight_py._checks import Count, Flag, Seed, checked, describe
from innsight_py.inputs.codes import Codes
from innsight_py.inputs.data import read_data
from innsight_py.inputs.encoding import Groups
from innsight_py.inputs.frames import ordered_columns, to_pandas
from innsight_py.inputs.names import LayerNames, read_data_names
from innsight_py.inputs.references import fill_in
from innsight_py.methods.agnostic.prediction_functions import own_layout
from innsight_py.methods.agnostic.predictor import read_predictor
from innsight_py.methods.agnostic.texts import read_replacing
from innsight_py.methods.base import InterpretingMethod, random_source
from innsight_py.methods.documentation import AGNOSTIC, documented
from innsight_py.model.converter import Converter


@documented(agnostic=AGNOSTIC.replace("%(own)s", ""))
class AgnosticWrapper(InterpretingMethod):
    """Base class of the methods that only ask for predictions. By itself it predicts and explains nothing.

    Parameters
    ----------
    %(agnostic)s
    output_type : {"regression", "classification"}, optional
        What the model predicts. Default: what it says itself, otherwise regression.

    Attributes
    ----------
    predictor : Predictor
        The model as a function of arrays, with its shapes and names and its ``output_type``.
    data_orig : Any
        The data as they were given.
    data_ref : list of Tensor
        The background.

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value, or the model does not predict numbers for the data; the message says
        which.

    Examples
    --------
    >>> AgnosticWrapper(lambda rows: rows.sum(1), [[1.0, 2.0]]).preds
    [tensor([[3.]])]
    """

    title = "AgnosticWrapper"

    def __init_subclass__(cls, own: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        documented(agnostic=AGNOSTIC.replace("%(own)s", own))(cls)

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
        target: Any = None,
        data_names: Any = None,
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
            predictor, channels_first=channels_first, output_idx=output_idx, output_label=output_label, target=target,
            data_names=data_names, ignore_last_act=False, verbose=verbose, dtype="float", batch_size=batch_size,
        )  # fmt: skip
        self.predictor = predictor
        self.data_orig = data
        self.data = [torch.from_numpy(rows).float()]
        self.data_names = read_data_names(data_names, data, len(rows))
        self._given = rows
        if predictor.codes is not None:
            self.row_values = predictor.codes.texts(predictor.as_asked(rows))
        self._background = self._read_background(data_ref)
        self._available = len(self._background)
        self._source = random_source(seed)
        #: The explained nodes of each row, ``(B, K)``.
        self._nodes = self._read_nodes(preds)
        self._preds = np.take_along_axis(preds, self._nodes, 1)
        self.preds = [torch.from_numpy(self._preds).float()]

    def _read_nodes(self, preds: np.ndarray) -> np.ndarray:
        """Find the nodes of each row, and keep those of a target."""
        target, largest = self._selection.targets[0], torch.from_numpy(preds.argmax(1))
        if target is None:
            self._take_targets([None], [largest])
            return np.tile(np.array(self._selection.idx[0] or (), np.int64), (len(preds), 1))
        given = target.given(len(preds))
        nodes = largest if given is None else given
        self._take_targets([nodes], [largest])
        return nodes.numpy()[:, None]

    def _read_background(self, data_ref: Any) -> np.ndarray:
        text = self.predictor.text
        if text is not None:
            data_ref = read_replacing(data_ref, text.port.dim, text.port.key)
            return read_data(data_ref, [text.port.dim], self.channels_first, torch.float64, "data_ref")[0].numpy()
        if data_ref is None:
            return self._given
        columns, codes = self.predictor.columns, self.predictor.codes
        if codes is not None and not isinstance(data_ref, str):
            data_ref = self._coded(data_ref, codes)
        names: list[LayerNames] | None = None if columns is None else [[columns]]
        name = data_ref
        data_ref = fill_in(
            data_ref, self.predictor, [torch.from_numpy(self._given)], [self._middle()], self.channels_first, "data_ref"
        )
        read = read_data(data_ref, self.predictor.input_dim, self.channels_first, torch.float64, "data_ref", names)
        background = read[0].numpy()
        if codes is not None and isinstance(name, str):  # a mean of categories is none
            common = Groups((), tuple(range(self._given.shape[1]))).mode(torch.from_numpy(self._given)).numpy()
            background[:, list(codes.values)] = common[:, list(codes.values)]
        return background

    def _coded(self, data_ref: Any, codes: Codes) -> Any:
        """Read a frame (or a row of one) with texts and categories."""
        frame = data_ref.to_frame().T if isinstance(data_ref, pd.Series) else to_pandas(data_ref, "Argument 'data_ref'")
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(
                "Argument 'data_ref': 'data' have texts or categories; expected a frame with the same columns, got "
                f"{describe(data_ref)}."
            )
        names = [str(column) for column in codes.columns]
        return codes.encode(ordered_columns(frame, names, "Argument 'data_ref'"))

    def _middle(self) -> torch.Tensor | None:
        """Return what the preparation of a converted model maps to 0, in the layout of the data."""
        model = self.predictor.model
        if not isinstance(model, Converter) or not model.model.preparation:
            return None
        (found,) = model.model_in("double").center()
        return found if found is None or self.channels_first or found.dim() < 3 else found.movedim(1, -1)

    @property
    def data_ref(self) -> list[torch.Tensor]:
        """The background."""
        return [torch.from_numpy(self._background).float()]

    def as_given(self, rows: np.ndarray) -> Any:
        """Return rows ``(n, *dims)`` in the form that the model is asked with: a frame with its columns, or as is."""
        return self.predictor.as_asked(rows)

    def _predict(self, flat: np.ndarray, nodes: np.ndarray | None = None) -> np.ndarray:
        """Predict all nodes, or some, for rows whose features are in one axis, ``(n, p)``; returns ``(n, K)``."""
        predicted = self.predictor.predict(flat.reshape(len(flat), *self._given.shape[1:]))
        return predicted if nodes is None else predicted[:, nodes]

    def _mean_of(self, background: np.ndarray) -> np.ndarray:
        """Return the mean prediction for the background, of the nodes of each row, ``(B, K)``."""
        if self.predictor.text is None:
            mean: np.ndarray = self._predict(background).mean(0)[self._nodes]
            return mean
        rows = []
        for i, nodes in enumerate(self._nodes):
            self.predictor.about(i)
            rows.append(self._predict(background, nodes).mean(0))
        return np.stack(rows)

    def _explain_rows(self, explain: Callable[[np.ndarray, np.ndarray, int], np.ndarray]) -> None:
        """Explain row by row; `explain` takes a row ``(p,)``, its nodes ``(K,)`` and a seed, and returns ``(p, K)``."""
        seeds = self._source.integers(2**32, size=len(self._given))
        progress = tqdm(
            zip(self._given.reshape(len(self._given), -1), self._nodes, seeds, strict=True),
            desc=self.title, total=len(self._given), unit="row", leave=False,
            disable=None if self.verbose is None else not self.verbose,
        )  # fmt: skip
        found = []
        for i, (row, nodes, seed) in enumerate(progress):
            self.predictor.about(i)
            found.append(explain(row, nodes, int(seed)))
        values = np.stack(found)
        self.result = [[torch.from_numpy(values.reshape(*self._given.shape, self._nodes.shape[1])).float()]]

    def _fields(self) -> list[tuple[str, str]]:
        used = f"{len(self._background)} of " if len(self._background) < self._available else ""
        return [("output_type", f"'{self.predictor.output_type}'"), ("data_ref", f"{used}{self._available} rows")]


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
