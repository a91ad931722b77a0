"""What every method hands back: tensors with labels, and how they are shown."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Protocol

import pandas as pd
from torch import Tensor

from innsight_py._checks import Count, Flag, checked
from innsight_py.completeness import Residual, residual_of
from innsight_py.names import LayerNames
from innsight_py.results import ResultType, present

Buffers = list[list[Tensor | None] | None]


class Described(Protocol):
    """A model whose shapes and names are known, such as a `Converter`.

    Attributes
    ----------
    input_dim, output_dim : sequence of tuple of int
        Shape of each input and output layer, channels first and without the batch.
    input_names, output_names : sequence of list of list of str
        Labels, one entry a layer, of one entry an axis.
    """

    input_dim: list[tuple[int, ...]]
    output_dim: list[tuple[int, ...]]
    input_names: list[LayerNames]
    output_names: list[LayerNames]


class Explanation:
    """Attributions with labels, whatever computed them. Reads its attributes only, and computes none of them.

    A subclass sets the attributes; results, summary and pictures follow from them.

    Attributes
    ----------
    converter : Described
        Knows the shapes and names of the model's inputs and outputs.
    result : list of (list of (Tensor or None) or None)
        For each output layer (None: not selected) and each input layer (None: does not reach the output) a tensor of
        shape ``(B, *dims, K)``, in the layout of the data, K being the number of selected nodes.
    preds : list of (Tensor or None) or None
        For each output layer the model's output for the selected nodes, ``(B, K)``.
    decomp_goal : list of (Tensor or None) or None
        What the sum over all inputs is to be compared with, ``(B, K)``.
    output_idx, output_label : list of (list or None)
        The selected nodes of each output layer.
    channels_first : bool
        Layout of the result.
    dtype : {"float", "double"}
        Precision of the result.
    data : list of Tensor
        The data, one tensor an input, in the user's layout; empty for a method that needs none.
    """

    #: Name of the method.
    title: ClassVar[str] = "Explanation"
    #: What a value is called in pictures.
    value_name: str = "Relevance"
    #: Whether the result is one of the model and not of instances.
    is_global: bool = False
    #: Whether the sum over all inputs is meant to be the goal.
    decomposes: bool = False
    #: Power of 1/n with which the residual of a path of n steps falls; None where there are no steps.
    steps_order: ClassVar[float | None] = None
    #: Where `decomp_goal` is a difference: the values ``(B, K)`` whose rounding it carries.
    explained_values: list[Tensor | None] | None = None

    converter: Described
    result: Buffers
    preds: list[Tensor | None] | None
    decomp_goal: list[Tensor | None] | None
    output_idx: list[list[int] | None]
    output_label: list[list[str] | None]
    channels_first: bool
    dtype: Literal["float", "double"]
    data: list[Tensor]

    @property
    def rows(self) -> int:
        """Number of instances."""
        tensors = [x for row in self.result if row is not None for x in row if x is not None]
        return tensors[0].shape[0] if tensors else self.data[0].shape[0] if self.data else 1

    @property
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

    def _losses(self) -> list[str]:
        """Say why the sum need not be the goal."""
        return []

    def get_result(self, type: ResultType = "array") -> Any:  # noqa: A002 (R's name)
        """Return the result.

        Parameters
        ----------
        type : {"array", "data.frame", "torch_tensor", "xarray"}
            Arrays and tensors have the shape ``(B, *dims, K)``. For models with several inputs they come in a dict
            ``{"Input_1": ...}``, and if nodes of several output layers are selected in a dict ``{"Output_1": ...}`` of
            these. Where an input does not reach an output, arrays and frames hold NaN, tensors are None. With
            ``"xarray"`` (``pip install "innsight_py[xarray]"``) arrays are DataArrays: their dimensions are the columns
            of the data frame (``data``, ``channel``, ``feature``, ``feature_2``, ``output_node``) and have its labels,
            and predictions, goals and residuals are coordinates. The frame has R's columns, ``decomp_sum`` being the
            sum over the features of one input, and last ``residual``: the goal minus the sum over all inputs (NaN for
            methods that decompose nothing).

        Returns
        -------
        ndarray, DataFrame, Tensor, DataArray or dict

        Raises
        ------
        ValueError
            For another type.
        ImportError
            If xarray is asked for and not installed.

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
        """
        return present(self, type)

    @checked
    def summary(self, n: Count = 10, aggr_channels: Any = "sum") -> pd.DataFrame:
        """Return the most important features of each explained output node.

        Parameters
        ----------
        n : int
            As many features for each output node.
        aggr_channels : {"sum", "mean", "norm"} or callable
            How the absolute values of the channels of a signal or an image become one, see `plot`.

        Returns
        -------
        DataFrame
            A row for each feature, the largest first: ``output_node``, ``feature`` (and ``model_output``,
            ``model_input``, ``feature_2`` where there are several), ``mean_abs``, the mean over the instances of the
            absolute value, and ``share``, its part of the sum over all features of all inputs. For methods that
            decompose something also ``residual`` and ``relative_residual`` of the output node, the largest magnitudes
            over the instances (see `residual`).

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it should be.

        Examples
        --------
        >>> from innsight_py import Converter, run_grad
        >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0]]}]}
        >>> run_grad(Converter(model, input_names=["age", "dose", "site"]), [[1.0, 1.0, 1.0]]).summary(2)
          output_node feature  mean_abs  share
        0          Y1    dose       3.0   0.75
        1          Y1     age       1.0   0.25
        """
        from innsight_py.importance import most_important

        return most_important(self, n, aggr_channels)

    @checked
    def plot(
        self,
        data_idx: Any = 0,
        *,
        output_idx: Any = None,
        output_label: Any = None,
        aggr_channels: Any = "sum",
        as_plotly: Flag = False,
        same_scale: Flag = False,
        show_preds: Flag = True,
        image: Any = None,
        max_display: Count | None = None,
        ax: Any = None,
    ) -> Any:
        """Draw single instances: bars for tables and signals, heat maps for images.

        A row of panels for each instance, a column for each output node, and within it one for each input of the
        model. Colours run from blue (negative) over white (0) to red (positive), up to the largest magnitude in the
        panel.

        Parameters
        ----------
        data_idx : int or sequence of int
            The instances, counted from 0, in the order in which they are drawn.
        output_idx : int, sequence of int, or list of these and None, optional
            Some of the explained output nodes, counted from 0: of the first output layer, or with an entry for each
            output layer. Default: the first explained one. They are drawn in the order of the output's labels.
        output_label : str, sequence of str, or list of these and None, optional
            The same by label.
        aggr_channels : {"sum", "mean", "norm"} or callable
            How the channels of a signal or an image become one value. A callable that has an argument ``axis`` is
            called as ``f(values, axis=axis)``, any other for each vector of channels.
        as_plotly : bool
            Draw an interactive figure (``pip install "innsight_py[plotly]"``).
        same_scale : bool
            For several inputs: one scale of colours for all inputs of an instance and node, instead of one for each.
        show_preds : bool
            Tell above each panel the prediction, the sum over all inputs, and what that sum is to be compared with.
        image : array-like, Tensor, list or dict of these, or True, optional
            Lay the attributions of images over these images: an array ``(B, *dims)`` in the layout of the data, a
            single image, or for several inputs a list with one entry for each (None for a table) or a dict by their
            names. True: the data themselves.
        max_display : int, optional
            For tables show only so many features, those with the largest mean magnitude, largest first.
        ax : Axes or array of Axes, optional
            Where to draw (matplotlib only): one for each panel, ordered as the panels are, instances first.

        Returns
        -------
        innsight_py.plots.matplotlib.Display or innsight_py.plots.plotly.PlotlyDisplay
            Both have ``figure``, ``p[i, j]`` (a part: some instances and output nodes) and ``save``; notebooks show
            them.

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it should be; the message names it.
        ImportError
            If plotly is asked for and not installed.

        Examples
        --------
        >>> from innsight_py import Converter, run_grad
        >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0]]}]}
        >>> p = run_grad(Converter(model), [[1.0, 1.0, 1.0]]).plot()
        >>> p.axes.shape
        (1, 1, 1)
        """
        from innsight_py.plots.build import instance_frame

        self._check_backend(as_plotly, ax)
        frame = instance_frame(
            self, data_idx, output_idx, output_label, aggr_channels, same_scale, show_preds, image, max_display
        )
        return _draw(frame, as_plotly, ax)

    @checked
    def plot_global(
        self,
        *,
        output_idx: Any = None,
        output_label: Any = None,
        data_idx: Any = "all",
        ref_data_idx: Any = None,
        aggr_channels: Any = "sum",
        preprocess_fun: Callable[..., Any] = abs,
        as_plotly: Flag = False,
        individual_data_idx: Any = None,
        individual_max: Count = 20,
        max_display: Count | None = None,
        ax: Any = None,
    ) -> Any:
        """Draw many instances together: box plots for tables and signals, the median of each pixel for images.

        Long signals have bands instead of boxes: the median, the quartiles, and how far the whiskers reach.

        Parameters
        ----------
        output_idx, output_label, aggr_channels, as_plotly, max_display, ax
            As in `plot`.
        data_idx : "all", int or sequence of int
            The instances that are summarized, counted from 0.
        ref_data_idx : int, optional
            An instance to mark in the boxes; it need not be in `data_idx`.
        preprocess_fun : callable
            Applied to the whole tensor ``(B, *dims, K)`` before channels are aggregated; it returns values of the same
            shape.
        individual_data_idx : int or sequence of int, optional
            Instances that can be chosen in the interactive figure. Default: all.
        individual_max : int
            At most so many of them.

        Returns
        -------
        innsight_py.plots.matplotlib.Display or innsight_py.plots.plotly.PlotlyDisplay
            As in `plot`, with a single row of panels.

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it should be, or if the result is not one of instances.
        ImportError
            If plotly is asked for and not installed.

        Examples
        --------
        >>> from innsight_py import Converter, run_grad
        >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0]]}]}
        >>> result = run_grad(Converter(model), [[1.0, 1.0, 1.0], [0.0, 2.0, 1.0]], times_input=True)
        >>> result.plot_global(ref_data_idx=0).axes.shape
        (1, 1, 1)
        """
        from innsight_py.plots.build import global_frame

        self._check_backend(as_plotly, ax)
        frame = global_frame(
            self, output_idx, output_label, data_idx, ref_data_idx, aggr_channels, preprocess_fun,
            individual_data_idx, individual_max, max_display,
        )  # fmt: skip
        return _draw(frame, as_plotly, ax)

    @functools.wraps(plot_global, assigned=(), updated=())
    def boxplot(self, **arguments: Any) -> Any:
        """Draw box plots: `plot_global` for tables and signals; warns where an input is an image.

        Parameters
        ----------
        **arguments
            As in `plot_global`.

        Returns
        -------
        innsight_py.plots.matplotlib.Display or innsight_py.plots.plotly.PlotlyDisplay
            As in `plot_global`.

        Raises
        ------
        TypeError, ValueError, ImportError
            As in `plot_global`.

        Examples
        --------
        >>> from innsight_py import Converter, run_grad
        >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0]]}]}
        >>> result = run_grad(Converter(model), [[1.0, 1.0, 1.0], [0.0, 2.0, 1.0]], times_input=True)
        >>> result.boxplot(preprocess_fun=lambda x: x).frame.panels[0, 0, 0].boxes.median
        array([ 0.5, -4.5,  0. ])
        """
        from innsight_py.plots.build import warn_of_images

        warn_of_images(self)
        return self.plot_global(**arguments)

    @staticmethod
    def _check_backend(as_plotly: bool, ax: Any) -> None:
        if not as_plotly:
            return
        if ax is not None:
            raise ValueError("Argument 'ax': axes belong to matplotlib, but as_plotly=True was given.")
        from innsight_py.plots.plotly import require_plotly

        require_plotly()


def _draw(frame: Any, as_plotly: bool, ax: Any) -> Any:
    if as_plotly:
        from innsight_py.plots.plotly import draw as draw_plotly

        return draw_plotly(frame)
    from innsight_py.plots.matplotlib import draw

    return draw(frame, ax)
