"""What every method hands back: attributions, and all the ways to look at them."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
import pandas as pd
from torch import Tensor

from innsight_py._ambient import in_neutral_state
from innsight_py._checks import Count, checked
from innsight_py._errors import explained
from innsight_py.plots.pictures import Pictures
from innsight_py.results.completeness import Residual, residual_of
from innsight_py.results.exchange import as_captum, as_shap
from innsight_py.results.importance import most_important
from innsight_py.results.tables import ResultType, present
from innsight_py.results.targeted import of_target


class Explanation(Pictures):
    """Attributions with labels, whatever computed them. Reads its attributes only, and computes none of them.

    A subclass sets the attributes; results, summary and pictures follow from them.

    Attributes
    ----------
    described : Described
        Knows the shapes and names of the model's inputs and outputs.
    result : list of (list of (Tensor or None) or None)
        For each output layer (None: not selected) and each input layer (None: does not reach the output) a tensor of
        shape ``(B, *dims, K)``, in the layout of the data, K being the number of selected nodes.
    preds : list of (Tensor or None) or None
        For each output layer the model's output for the selected nodes, ``(B, K)``.
    decomp_goal : list of (Tensor or None) or None
        What the sum over all inputs is to be compared with, ``(B, K)``.
    output_idx, output_label : list of (list or None)
        The selected nodes of each output layer; None for one that is not selected, or that has a target.
    target_idx, target_label : list of (list or None)
        The node of each row of output layers that have a `target`; K is 1 there.
    data_names : list of str
        Names of the instances.
    channels_first : bool
        Layout of the result.
    dtype : {"float", "double"}
        Precision of the result.
    data : list of Tensor
        The data, one tensor an input, in the user's layout; empty for a method that needs none.
    """

    @property
    @in_neutral_state
    def residual(self) -> Residual | None:
        """What the sum over all inputs misses of the goal.

        Returns
        -------
        Residual or None
            ``absolute`` and ``relative`` for each row and explained node, how many ``steps`` would do, and the
            ``reasons``; None for a method that decomposes nothing (gradients that are not multiplied by the input,
            SmoothGrad, ConnectionWeights, LIME).

        Examples
        --------
        >>> from innsight_py import Converter, run_deeplift
        >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, -3.0]], "bias": [5.0]}]}
        >>> run_deeplift(Converter(model), [[1.0, 1.0]]).residual.absolute
        [tensor([[0.]], dtype=torch.float64)]
        """
        return residual_of(self)

    def __len__(self) -> int:
        """Return the number of instances."""
        return self.rows

    @explained
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return ``get_result()`` as one array ``(B, *dims, K)``, for ``np.asarray(result)``."""
        values = self.get_result()
        if isinstance(values, dict):
            raise TypeError(
                f"np.asarray: expected a result of one array, got {len(values)} ({', '.join(values)}); "
                f"take one of them: result.get_result()[{next(iter(values))!r}]."
            )
        if copy is False:
            raise ValueError("np.asarray: expected copy=True or None, got False: arrays of results are always copies.")
        return np.asarray(values, dtype)

    @overload
    def get_result(self, type: Literal["array"] = "array", *, target: Any = None) -> np.ndarray | Any: ...
    @overload
    def get_result(self, type: Literal["torch_tensor"], *, target: Any = None) -> Tensor | Any: ...
    @overload
    def get_result(self, type: Literal["data.frame", "wide"], *, target: Any = None) -> pd.DataFrame: ...
    @overload
    def get_result(self, type: ResultType, *, target: Any = None) -> Any: ...

    @in_neutral_state
    @explained
    def get_result(self, type: ResultType = "array", *, target: Any = None) -> Any:  # noqa: A002 (R's name)
        """Return the result.

        Parameters
        ----------
        type : {"array", "data.frame", "polars", "torch_tensor", "torch.tensor", "wide", "xarray"}
            Arrays and tensors have the shape ``(B, *dims, K)``. For models with several inputs they come in a dict
            ``{"Input_1": ...}``, and if nodes of several output layers are selected in a dict ``{"Output_1": ...}`` of
            these. Where an input does not reach an output, arrays and frames hold NaN, tensors are None. With
            ``"xarray"`` (``pip install "innsight_py[xarray]"``) arrays are DataArrays: their dimensions are the columns
            of the data frame (``data``, ``channel``, ``feature``, ``feature_2``, ``output_node``) and have its labels,
            and predictions, goals and residuals are coordinates. The frame has R's columns, ``decomp_sum`` being the
            sum over the features of one input, and last ``residual``: the goal minus the sum over all inputs (NaN for
            methods that decompose nothing). Where the largest output of a row is not among the explained nodes,
            ``frame.attrs["note"]`` says so. ``"polars"`` is this frame for polars (``pip install
            "innsight_py[polars]"``). ``"wide"`` is a frame with one row for each instance and one column for each
            feature; with several nodes the columns are pairs ``(node, feature)``.
        target : "predicted", int, str, sequence of these, or dict, optional
            One of the explained nodes for each row, as the methods take it: ``"predicted"`` is the node with the
            largest output of the row. K is then 1.

        Returns
        -------
        ndarray, DataFrame, Tensor, DataArray or dict

        Raises
        ------
        ValueError
            For another type, or where the node of a row was not explained.
        ImportError
            If xarray or polars is asked for and not installed.

        Examples
        --------
        >>> from innsight_py import Converter, run_grad
        >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0]]}]}
        >>> result = run_grad(Converter(model, input_names=["age", "dose", "site"]), [[1.0, 1.0, 1.0]])
        >>> result.get_result().shape
        (1, 3, 1)
        >>> result.get_result("data.frame")[["data", "feature", "value"]]
             data feature  value
        0  data_1     age    1.0
        1  data_1    dose   -3.0
        2  data_1    site    0.0
        >>> result.get_result("wide").loc["data_1", "dose"].item()
        -3.0
        """
        return present(of_target(self, target), type)

    @in_neutral_state
    @explained
    def to_shap(self) -> Any:
        """Return the result as a ``shap.Explanation``, which shap's pictures draw.

        ``values`` are ``(B, *dims)`` for one explained node, ``(B, *dims, K)`` for several, with the channels of
        signals and images last. ``base_values`` plus the sum of the values is what was explained where sums are exact;
        they are 0 for a method that decomposes nothing. ``data`` are the data.

        Returns
        -------
        shap.Explanation or dict
            Nested as in `get_result` for several inputs or output layers.

        Raises
        ------
        ImportError
            If shap is not installed.

        Examples
        --------
        >>> from innsight_py import Converter, run_deeplift
        >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, -3.0]], "bias": [5.0]}]}
        >>> result = run_deeplift(Converter(model, input_names=["age", "dose"]), [[1.0, 1.0]])
        >>> explanation = result.to_shap()
        >>> explanation.values, explanation.base_values, explanation.feature_names
        (array([[ 1., -3.]], dtype=float32), array([5.]), ['age', 'dose'])
        """
        return as_shap(self)

    @in_neutral_state
    @explained
    def to_captum(self, output_idx: Any = None) -> Any:
        """Return the attributions of one node as captum has them: tensors of the shape of the inputs, channels first.

        Parameters
        ----------
        output_idx : int, optional
            Which of the explained nodes, by its number in the model. Needed where several are explained.

        Returns
        -------
        Tensor or tuple of Tensor
            ``(B, *dims)``; a tuple for several inputs.

        Raises
        ------
        ValueError
            If several nodes are explained and `output_idx` is none of them.

        Examples
        --------
        >>> from innsight_py import Converter, run_grad
        >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, -3.0], [2.0, 0.0]]}]}
        >>> run_grad(Converter(model), [[1.0, 1.0]]).to_captum(output_idx=1)
        tensor([[2., 0.]])
        """
        return as_captum(self, output_idx)

    @checked
    def summary(self, n: Count = 10, aggr_channels: Any = "sum") -> pd.DataFrame:
        """Return the most important features of each explained output node.

        Parameters
        ----------
        n : int
            The number of features for each output node.
        aggr_channels : {"sum", "mean", "norm"} or callable
            How the absolute values of the channels of a signal or an image become one, see `plot`.

        Returns
        -------
        DataFrame
            A row for each feature, the largest first: ``output_node``, ``feature`` (and ``model_output``,
            ``model_input``, ``feature_2`` where there are several), ``share``, its part of the sum over all features
            of all inputs, and ``mean_abs``, the mean over the instances of the absolute value. The features of a text
            are its words. Gradients and connection weights are per unit of their feature: of a table they are ranked,
            and have shares, by ``times_sd``, which is ``mean_abs`` times the feature's standard deviation in the
            data, and ``summary.attrs["note"]`` says so. Rows with NaN are left out, and counted in ``left_out``. For
            methods that decompose something also ``residual`` and ``relative_residual`` of the output node, the
            largest magnitudes over the instances (see `residual`).

        Raises
        ------
        TypeError, ValueError
            If an argument has a wrong type or value.

        Examples
        --------
        >>> from innsight_py import Converter, run_grad
        >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0]]}]}
        >>> run_grad(Converter(model, input_names=["age", "dose", "site"]), [[1.0, 1.0, 1.0]]).summary(2)
          output_node feature  share  mean_abs
        0          Y1    dose   0.75       3.0
        1          Y1     age   0.25       1.0
        """
        return most_important(self, n, aggr_channels)
