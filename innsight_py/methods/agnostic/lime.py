"""LIME, with the package ``lime``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from innsight_py._checks import Count, Flag, Number, Seed, checked
from innsight_py.methods.agnostic.base import AgnosticWrapper, import_extra
from innsight_py.methods.agnostic.texts import text_explainer

#: Bytes that the perturbed rows of one instance may take.
ROWS_BYTES = 2 * 2**30

_OWN = """output_type : {"regression", "classification"}, optional
        What the model predicts. It is kept and printed, and changes no number. Default: what the model says itself,
        otherwise regression (R asks for it).
    n_permutations : int
        Number of perturbed rows for each instance, the first being the instance itself.
    dist_fun : {"gower", "euclidean"}
        How much weight a drawn row gets. ``"gower"``: 1 minus Gower's distance between the row and the instance.
        Gower's distance is the mean, over the features, of their difference divided by their range. ``"euclidean"``:
        ``exp(-d^2 / (2 kernel_width^2))``, the default of Python's lime. Here ``d`` is the square root of the number
        of features that lie in another bin than the instance's.
    kernel_width : float, optional
        Only for ``dist_fun="euclidean"``. The default is 0.75 times the square root of the number of features.
    gower_pow : float
        Only for ``dist_fun="gower"``: the distance is raised to this power.
    """


class LIME(AgnosticWrapper, own=_OWN):
    r"""Weights of a linear model fitted to the predictions around each instance.

    Every value of a table, signal or image is a feature, as in R: each channel of each pixel is one. LIME takes four
    steps for an instance.

    1. It cuts each feature into bins, at the quartiles of the background.
    2. It draws rows. For each feature it draws a bin, in proportion to the background rows in it, and then a value,
       evenly within the bin.
    3. It fits a ridge regression of the predictions. The regressors say which features of a drawn row lie in the same
       bin as the instance's. Rows near the instance have more weight.
    4. The coefficients are the result: how much the output changes if the feature moves into the instance's bin.

    The coefficients decompose nothing, so their sum has no goal.

    The package ``lime`` (``pip install "innsight_py[agnostic]"``) draws and fits. Two of its parts are replaced, so
    that bins, values and weights are those of R's package of the same name. Values are drawn evenly; release 0.2.0.1 of
    lime also sets a feature that is constant within a bin to 0. Rows have R's weights. The penalty of the ridge
    regression is lime's, 1, while R's is 2 after standardising. Features without variation get 0, while R gives them
    the weights of other features.

    Of tokens of a converted model (see `Converter`) a feature is whether a token stays or the one of `data_ref` takes
    its place: `data_ref` is the id of the mask or of padding, ids for each position, or rows of these. Masks and other
    fixed inputs stay as they come with the row.

    Source: Ribeiro et al. (2016), arXiv:1602.04938.

    Parameters
    ----------
    %(agnostic)s

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value, or the model does not predict numbers for the data; the message says
        which.
    ImportError
        If ``lime`` is not installed.

    Examples
    --------
    >>> def model(rows):
    ...     return 3 * rows[:, 0] - rows[:, 1]
    >>> rows = np.random.default_rng(1).uniform(size=(200, 2))
    >>> weights = LIME(model, [[0.9, 0.9]], rows, n_permutations=1000, seed=1).get_result()
    >>> weights.shape, bool(weights[0, 0, 0] > 0 > weights[0, 1, 0])
    ((1, 2, 1), True)
    """

    title = "LIME"
    value_name = "Weight"

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
        n_permutations: Count = 5000,
        dist_fun: Literal["gower", "euclidean"] = "gower",
        kernel_width: Number | None = None,
        gower_pow: Number = 1.0,
        seed: Seed = None,
        verbose: Flag | None = None,
        batch_size: Count | None = None,
    ) -> None:
        lime_tabular = import_extra("lime.lime_tabular", "LIME")
        if n_permutations < 2:
            raise ValueError(f"Argument 'n_permutations': expected a whole number of at least 2, got {n_permutations}.")
        for argument, number in (("kernel_width", kernel_width), ("gower_pow", gower_pow)):
            if number is not None and number <= 0:
                raise ValueError(f"Argument '{argument}': expected a number above 0, got {number}.")
        super().__init__(
            model, data, data_ref, output_type=output_type, pred_fun=pred_fun, output_idx=output_idx,
            output_label=output_label, target=target, data_names=data_names, channels_first=channels_first,
            input_dim=input_dim, input_names=input_names, output_names=output_names, seed=seed, verbose=verbose,
            batch_size=batch_size,
        )  # fmt: skip
        self.n_permutations, self.dist_fun = n_permutations, dist_fun
        self.kernel_width, self.gower_pow = kernel_width, gower_pow
        for argument, values in (("data", self._given), ("data_ref", self._background)):
            if not np.isfinite(values).all():
                raise ValueError(
                    f"Argument '{argument}': LIME cannot bin values that are not finite (NaN or infinite)."
                )
        if n_permutations * self._given[0].nbytes > ROWS_BYTES:
            raise ValueError(
                f"Argument 'n_permutations': {n_permutations} rows of {self._given[0].size} features do not fit into "
                f"{ROWS_BYTES >> 30} GB; lower it, or explain smaller inputs."
            )
        self._explain_rows(self._explainer(lime_tabular))

    def _explainer(self, lime_tabular: Any) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
        """Return what explains a row."""
        background = self._background.reshape(len(self._background), -1)
        if self.predictor.text is not None:
            return text_explainer(self._predict, background, self.n_permutations, self._weights_of_texts)
        features = [f"X{j + 1}" for j in range(background.shape[1])]
        state = np.random.RandomState(0)
        regression = _ridge_for_all_outputs()()
        explained = self._nodes[0]
        categories = [] if self.predictor.codes is None else list(self.predictor.codes.values)
        drawn = background[:0]  # the rows around the instance at hand, which lime predicts for before it weighs them

        def predict(rows: np.ndarray) -> np.ndarray:
            """Predict one output for lime, and the others for the regression."""
            nonlocal drawn
            drawn, regression.targets = rows, self._predict(rows, explained)
            return regression.targets[:, 0]  # type: ignore[no-any-return]

        def gower_weights(distances: np.ndarray, kernel_width: float) -> np.ndarray:
            return gower_similarity(drawn, self.gower_pow, categories)

        explainer = lime_tabular.LimeTabularExplainer(
            background, mode="regression", feature_names=features, feature_selection="none",
            kernel=gower_weights if self.dist_fun == "gower" else None, kernel_width=self.kernel_width,
            discretizer=_quartile_bins()(background, categories, features, random_state=state), random_state=state,
        )  # fmt: skip

        def explain(row: np.ndarray, nodes: np.ndarray, row_seed: int) -> np.ndarray:
            nonlocal explained
            explained = nodes
            state.seed(row_seed)
            explainer.explain_instance(row, predict, num_samples=self.n_permutations, model_regressor=regression)
            weights: np.ndarray = regression.all_coefficients.T
            return weights

        return explain

    def _weights_of_texts(self, rows: np.ndarray) -> np.ndarray:
        """Weigh drawn rows of tokens by how many tokens are another than in the first."""
        if self.dist_fun == "gower":
            return gower_similarity(rows, self.gower_pow, range(rows.shape[1]))
        width = self.kernel_width or 0.75 * np.sqrt(rows.shape[1])
        weights: np.ndarray = np.exp(-(rows != rows[0]).sum(1) / (2 * width**2))
        return weights

    def _fields(self) -> list[tuple[str, str]]:
        return [*super()._fields(), ("n_permutations", str(self.n_permutations)), ("dist_fun", f"'{self.dist_fun}'")]


def gower_similarity(rows: np.ndarray, power: float, categories: Sequence[int] = ()) -> np.ndarray:
    """Return 1 minus a power of Gower's distance of each of some rows ``(n, p)`` to the first.

    Categories, columns with these numbers, are at a distance of 1 where they differ.

    Source: Gower (1971), doi:10.2307/2528823.

    Examples
    --------
    >>> gower_similarity(np.array([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0]]), 1.0)
    array([1.  , 0.75, 0.5 ])
    """
    ranges = np.ptp(rows, axis=0)
    ranges[ranges == 0] = 1.0  # a feature that does not vary is at no distance
    parts = np.abs(rows - rows[0]) / ranges
    parts[:, list(categories)] = parts[:, list(categories)] > 0
    distances: np.ndarray = parts.mean(1)
    return 1 - distances**power


@functools.cache
def _quartile_bins() -> Any:
    """Return the class of lime's quartile bins with values drawn evenly from a bin, as in R."""
    from lime.discretize import QuartileDiscretizer

    class QuartileBins(QuartileDiscretizer):
        def get_undiscretize_values(self, feature: int, values: np.ndarray) -> np.ndarray:
            low, high = np.array(self.mins[feature])[values], np.array(self.maxs[feature])[values]
            drawn: np.ndarray = low + (high - low) * self.random_state.random_sample(len(values))
            return drawn

    return QuartileBins


@functools.cache
def _ridge_for_all_outputs() -> Any:
    """Return the class of lime's ridge regression that fits all outputs at once, while lime asks for the first."""
    from sklearn.linear_model import Ridge

    class AllOutputs(Ridge):
        targets: np.ndarray
        coef_: np.ndarray
        intercept_: Any

        def fit(self, design: np.ndarray, first: np.ndarray, sample_weight: np.ndarray) -> Any:
            super().fit(design, self.targets, sample_weight)
            self.all_coefficients = self.coef_.reshape(self.targets.shape[1], -1)
            self.coef_, self.intercept_ = self.all_coefficients[0], np.ravel(self.intercept_)[0]
            return self

    return AllOutputs
