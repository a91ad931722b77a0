"""SHAP, with the package ``shap``."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from innsight_py._checks import Count, Flag, Seed, checked
from innsight_py.methods.agnostic.base import AgnosticWrapper, import_extra
from innsight_py.results.completeness import warn_if_incomplete

#: Bytes of masked rows that shap makes at once.
MASKED_BYTES = 32 * 2**20
#: Bytes that the coalitions of one order may take.
COALITIONS_BYTES = 4 * 2**30
_LOCK = threading.RLock()
_CHANGES = "the model does not predict the same each time it is asked, or its answer for a row depends on other rows"

_OWN = """nsim : int
        Number of random orders of the features for each instance, each gone through forward and backward.
    limit_ref : int
        At most `limit_ref` rows of the background are used. If there are more, they are drawn without replacement.
    """


class SHAP(AgnosticWrapper, own=_OWN):
    r"""Shapley values of the features. Features outside a coalition have the values of the background.

    .. math:: R_i = \sum_{i \notin S} \frac{|S|!\,(p - |S| - 1)!}{p!} \bigl(v(S \cup i) - v(S)\bigr),
              \quad v(S) = \frac1m \sum_{j=1}^m f_k(x_S, x'^{(j)}_{\bar S})

    The values are estimated from random orders of the features. Every value of a table, signal or image is a feature,
    as in R: each channel of each pixel is one. The sum is exactly ``f_k(x)`` minus the mean of ``f_k`` over the
    background. `decomp_goal` holds this difference (R has none).

    The permutation explainer of the package ``shap`` (``pip install "innsight_py[agnostic]"``) does the work. It goes
    through each order forward and backward, and averages over the whole background. So one order is already exact for
    models without interactions of more than two features. R's fastshap draws one row of the background and one order
    for each feature, and is noisy even for a linear model. So you can use `nsim=1`, R's default, and you do not need
    R's argument ``adjust``. An instance takes at most ``nsim * (2 p + 1)`` predictions for each row of the background.

    Of tokens of a converted model (see `Converter`) a feature is whether a token stays or the one of `data_ref` takes
    its place: `data_ref` is the id of the mask or of padding, ids for each position, or rows of these. Masks and other
    fixed inputs stay as they come with the row.

    Source: Strumbelj and Kononenko (2014), doi:10.1007/s10115-013-0679-x; Lundberg and Lee (2017), arXiv:1705.07874.

    Parameters
    ----------
    %(agnostic)s

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value, or the model does not predict numbers for the data; the message says
        which.
    ImportError
        If ``shap`` is not installed.

    Warns
    -----
    UserWarning
        If values do not add up, which says that the model does not predict the same each time; see
        `Explanation.residual`.

    Examples
    --------
    >>> def model(rows):
    ...     return 3 * rows[:, 0] - rows[:, 1]
    >>> SHAP(model, [[1.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]]).get_result()[0, :, 0]
    array([ 3. , -0.5], dtype=float32)
    """

    title = "SHAP"
    value_name = "Shapley Value"
    decomposes = True

    @checked
    def __init__(
        self,
        model: Any,
        data: Any,
        data_ref: Any = None,
        *,
        pred_fun: Callable[..., Any] | None = None,
        output_idx: Any = None,
        output_label: Any = None,
        target: Any = None,
        data_names: Any = None,
        channels_first: Flag | None = None,
        input_dim: Any = None,
        input_names: Any = None,
        output_names: Any = None,
        nsim: Count = 1,
        limit_ref: Count = 100,
        seed: Seed = None,
        verbose: Flag | None = None,
        batch_size: Count | None = None,
    ) -> None:
        shap = import_extra("shap", "SHAP")
        super().__init__(
            model, data, data_ref, pred_fun=pred_fun, output_idx=output_idx, output_label=output_label, target=target,
            data_names=data_names, channels_first=channels_first, input_dim=input_dim, input_names=input_names,
            output_names=output_names, seed=seed, verbose=verbose, batch_size=batch_size,
        )  # fmt: skip
        self.nsim, self.limit_ref = nsim, limit_ref
        features = self._given[0].size
        if 2 * features**2 > COALITIONS_BYTES:
            raise ValueError(
                f"Argument 'data': an order of {features} features goes through {2 * features + 1} coalitions, which "
                f"do not fit into {COALITIONS_BYTES >> 30} GB; explain smaller inputs, or use DeepSHAP or "
                "ExpectedGradient."
            )
        if self._available > limit_ref:
            self._background = self._background[self._source.permutation(self._available)[:limit_ref]]
        background = self._background.reshape(len(self._background), -1)
        together = max(1, MASKED_BYTES // background.nbytes)
        masker = _background_masker()(background)
        explained = self._nodes[0]

        def predict(rows: np.ndarray) -> np.ndarray:
            return self._predict(rows, explained)

        with _numpy_seeded(0):  # shap seeds numpy's global generator
            explainer = shap.PermutationExplainer(predict, masker)

        def explain(row: np.ndarray, nodes: np.ndarray, row_seed: int) -> np.ndarray:
            nonlocal explained
            explained = nodes
            varying = int((row != background).any(0).sum())
            with _numpy_seeded(row_seed):
                found = explainer(row[None], max_evals=nsim * (2 * varying + 1), batch_size=together, silent=True)
            values: np.ndarray = found.values.reshape(len(row), len(nodes))
            return values

        self._explain_rows(explain)
        goal = self._preds - self._mean_of(background)
        self.decomp_goal = [torch.from_numpy(goal).float()]
        self.explained_values = self.preds
        warn_if_incomplete(self, [_CHANGES])

    def _fields(self) -> list[tuple[str, str]]:
        return [*super()._fields(), ("nsim", str(self.nsim))]


@contextlib.contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, from which shap draws, and put it back afterwards."""
    with _LOCK:
        before = np.random.get_state()  # noqa: NPY002
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


@functools.cache
def _background_masker() -> Any:
    """Return the class that gives features outside a coalition the values of each row of a background.

    Unlike shap's own it works in pieces, takes missing values, and calls values equal only if they are.
    """
    from shap.maskers import Masker

    class Background(Masker):
        immutable_outputs = True

        def __init__(self, rows: np.ndarray) -> None:
            self.rows, self.shape = rows, rows.shape

        def __call__(self, mask: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
            return (np.where(mask, x, self.rows),)

        def invariants(self, x: np.ndarray) -> np.ndarray:
            same: np.ndarray = x == self.rows
            return same

    return Background
