"""The pictures of a result: `plot`, `plot_global`, `boxplot` and `text`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, overload

from innsight_py._checks import Count, Flag, checked
from innsight_py.plots.backends import check_backend, check_panels, draw
from innsight_py.plots.build import global_frame, instance_frame, warn_of_images
from innsight_py.plots.look import read_look
from innsight_py.plots.text_build import text_frame
from innsight_py.plots.text_display import TextDisplay
from innsight_py.results.attributions import Attributions
from innsight_py.results.targeted import of_target

if TYPE_CHECKING:
    from innsight_py.plots.matplotlib import Display
    from innsight_py.plots.plotly import PlotlyDisplay


class Pictures(Attributions):
    """Attributions that draw themselves; `innsight_py.Explanation` is one."""

    @overload
    def plot(
        self, data_idx: Any = 0, *, output_idx: Any = None, output_label: Any = None, target: Any = None,
        aggr_channels: Any = "sum", as_plotly: Literal[False] = False, same_scale: bool = False,
        show_preds: bool = True, image: Any = None, signal: bool = False, slice: Any = None,
        max_display: int | None = None, orientation: Literal["vertical", "horizontal"] | None = None,
        clip: float | None = None, smooth: float | None = None, cmap: str = "bwr", title: str | None = None,
        figsize: tuple[float, float] | None = None, axis_names: Any = None, ax: Any = None, max_panels: int = 100,
    ) -> Display: ...  # fmt: skip
    @overload
    def plot(
        self, data_idx: Any = 0, *, output_idx: Any = None, output_label: Any = None, target: Any = None,
        aggr_channels: Any = "sum", as_plotly: Literal[True], same_scale: bool = False,
        show_preds: bool = True, image: Any = None, signal: bool = False, slice: Any = None,
        max_display: int | None = None, orientation: Literal["vertical", "horizontal"] | None = None,
        clip: float | None = None, smooth: float | None = None, cmap: str = "bwr", title: str | None = None,
        figsize: tuple[float, float] | None = None, axis_names: Any = None, ax: None = None, max_panels: int = 100,
    ) -> PlotlyDisplay: ...  # fmt: skip

    @checked
    def plot(
        self,
        data_idx: Any = 0,
        *,
        output_idx: Any = None,
        output_label: Any = None,
        target: Any = None,
        aggr_channels: Any = "sum",
        as_plotly: Flag = False,
        same_scale: Flag = False,
        show_preds: Flag = True,
        image: Any = None,
        signal: Flag = False,
        slice: Any = None,  # noqa: A002 (what it is)
        max_display: Count | None = None,
        orientation: Any = None,
        clip: Any = None,
        smooth: Any = None,
        cmap: Any = "bwr",
        title: Any = None,
        figsize: Any = None,
        axis_names: Any = None,
        ax: Any = None,
        max_panels: Count = 100,
    ) -> Any:
        """Draw single instances: bars for tables and signals, heat maps for images, words for texts.

        A row of panels for each instance, a column for each output node, and within it one for each input of the
        model. Colours run from blue (negative) over white (0) to red (positive), up to the largest magnitude in the
        panel.

        Parameters
        ----------
        data_idx : int or sequence of int
            The instances, counted from 0, in the order in which they are drawn.
        output_idx : int, sequence of int, or list of these and None, optional
            Some of the explained output nodes, counted from 0: of the first output layer, or with an entry for each
            output layer. Default: the first explained one, or that of each row where the rows have a `target`. They
            are drawn in the order of the output's labels.
        output_label : str, sequence of str, or list of these and None, optional
            The same by label.
        target : "predicted", int, str, sequence of these, or dict, optional
            One of the explained nodes for each row, as the methods take it: ``"predicted"`` is the node with the
            largest output of the row. Pass it instead of `output_idx`.
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
            names. True: the data themselves. The larger a magnitude, the less you see of the image.
        signal : bool
            For signals: draw the signal itself as grey lines over the bars, one for each channel, as high as the panel.
        slice : int or tuple, optional
            For volumes: the slice that is drawn as an image, counted from 0. An int is a place on the first axis; a
            tuple has a place for each axis, and None for the two that are drawn: ``slice=(None, 12, None)``.
        max_display : int, optional
            For tables show only the `max_display` features with the largest mean magnitude, the largest first, and a
            last bar with the sum of all others. (Gradients have no such bar: they are not summed.)
        orientation : {"vertical", "horizontal"}, optional
            For tables: how the bars stand. Horizontal bars have the feature's value beside its name. Default: vertical
            up to 15 features; more are horizontal, and only the 15 largest are shown where `max_display` is not given.
        clip : float, optional
            For images: the share of the pixels that have their own colour, such as 0.99. All larger magnitudes have
            the full colour, so that a few of them leave the others visible. The colour bar says so.
        smooth : float, optional
            For images: smooth the values with a Gaussian whose standard deviation is `smooth` pixels.
        cmap : str
            The colours of bars and pixels: ``"bwr"`` is R's blue, white, red; ``"even"`` is blue, white, orange in
            steps that look equal, and that colour-blind readers can tell apart; or the name of a map of matplotlib.
        title : str, optional
            What stands above the picture.
        figsize : tuple of float, optional
            Width and height of the figure in inches. Default: as large as the panels need.
        axis_names : str, tuple of str, list or dict of these, optional
            What the axes of the input are called, with their units: ``"Time (s)"``, for images and slices ``("Height
            (mm)", "Width (mm)")``. For several inputs a list with an entry (or None) for each, or a dict by
            their names.
        ax : Axes or array of Axes, optional
            Where to draw (matplotlib only): one for each panel, ordered as the panels are, instances first.
        max_panels : int
            Refuse to draw more than `max_panels` panels, which takes long and is hard to read. Pass a larger number
            if you want them.

        Returns
        -------
        innsight_py.plots.matplotlib.Display or innsight_py.plots.plotly.PlotlyDisplay
            Both have ``figure``, ``p[i, j]`` (a part: some instances and output nodes) and ``save``; notebooks show
            them. In a script call ``p.show()``.

        Raises
        ------
        TypeError, ValueError
            If an argument has a wrong type or value. The message names it.
        ImportError
            If plotly is asked for and not installed.

        Examples
        --------
        >>> from innsight_py import Converter, run_grad
        >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0]]}]}
        >>> result = run_grad(Converter(model), [[1.0, 1.0, 1.0]], times_input=True)
        >>> result.plot().axes.shape
        (1, 1, 1)
        >>> p = result.plot(orientation="horizontal", max_display=1, title="Why?", axis_names="Column")
        >>> p.frame.panels[0, 0, 0].axis.labels
        ('X2 = 1', '2 other features')
        """
        check_backend(as_plotly, ax)
        look = read_look(title, figsize, cmap, ax)
        asked = _asked(self, target, output_idx, output_label)
        frame = instance_frame(
            asked, data_idx, output_idx, output_label, aggr_channels, same_scale, show_preds, image, max_display, clip,
            smooth, signal=signal, slice=slice, orientation=orientation, axis_names=axis_names,
        )  # fmt: skip
        check_panels(frame.shape, max_panels)
        return draw(look.given_to(frame), as_plotly, ax)

    @checked
    def text(
        self, data_idx: Any = 0, *, output_idx: Any = None, output_label: Any = None, target: Any = None
    ) -> TextDisplay:
        """Show texts with coloured words, for inputs that are tokens: a page for browsers, or lines for a terminal.

        Colours run from blue (negative) over white (0) to red (positive), up to the largest magnitude of all words
        shown. Pieces of words are put together, and their values added.

        Parameters
        ----------
        data_idx : int or sequence of int
            The instances, counted from 0, in the order in which they are shown.
        output_idx, output_label, target : optional
            Some of the explained output nodes, see `plot`. Default: all of them. A click chooses one of them, or a
            table of all nodes by all words.

        Returns
        -------
        innsight_py.plots.text_display.TextDisplay
            Notebooks show it, ``print`` writes it with colours where the terminal has them, and ``save("why.html")``
            writes a page that needs nothing else.

        Raises
        ------
        TypeError, ValueError
            If an argument has a wrong type or value, or if no input is a text.

        Examples
        --------
        >>> from innsight_py import Converter, run_grad
        >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0]]}]}
        >>> run_grad(Converter(model), [[1.0, 1.0, 1.0]]).text()
        Traceback (most recent call last):
        ...
        ValueError: No input of this model is a text (kind 'tokens'). plot() draws tables, signals and images. ...
        """
        return TextDisplay(
            *text_frame(_asked(self, target, output_idx, output_label), data_idx, output_idx, output_label)
        )

    @overload
    def plot_global(
        self, *, output_idx: Any = None, output_label: Any = None, target: Any = None, data_idx: Any = "all",
        ref_data_idx: Any = None, aggr_channels: Any = "sum", preprocess_fun: Callable[..., Any] = abs,
        as_plotly: Literal[False] = False, individual_data_idx: Any = None, individual_max: int = 20,
        slice: Any = None, max_display: int | None = None, cmap: str = "bwr", title: str | None = None,
        figsize: tuple[float, float] | None = None, axis_names: Any = None, ax: Any = None,
    ) -> Display: ...  # fmt: skip
    @overload
    def plot_global(
        self, *, output_idx: Any = None, output_label: Any = None, target: Any = None, data_idx: Any = "all",
        ref_data_idx: Any = None, aggr_channels: Any = "sum", preprocess_fun: Callable[..., Any] = abs,
        as_plotly: Literal[True], individual_data_idx: Any = None, individual_max: int = 20,
        slice: Any = None, max_display: int | None = None, cmap: str = "bwr", title: str | None = None,
        figsize: tuple[float, float] | None = None, axis_names: Any = None, ax: None = None,
    ) -> PlotlyDisplay: ...  # fmt: skip
    @checked
    def plot_global(
        self,
        *,
        output_idx: Any = None,
        output_label: Any = None,
        target: Any = None,
        data_idx: Any = "all",
        ref_data_idx: Any = None,
        aggr_channels: Any = "sum",
        preprocess_fun: Callable[..., Any] = abs,
        as_plotly: Flag = False,
        individual_data_idx: Any = None,
        individual_max: Count = 20,
        slice: Any = None,  # noqa: A002 (what it is)
        max_display: Count | None = None,
        cmap: Any = "bwr",
        title: Any = None,
        figsize: Any = None,
        axis_names: Any = None,
        ax: Any = None,
    ) -> Any:
        """Draw many instances together: box plots for tables and signals, the median of each pixel for images.

        Long signals have bands instead of boxes: the median, the quartiles, and how far the whiskers reach.

        Parameters
        ----------
        output_idx, output_label, target, aggr_channels, as_plotly, slice, cmap, title, figsize, axis_names, ax
            As in `plot`.
        max_display : int, optional
            For tables show only the `max_display` features with the largest mean magnitude, the largest first.
        data_idx : "all", int or sequence of int
            The instances that are summarized, counted from 0.
        ref_data_idx : int, optional
            An instance to mark in the boxes, in red; a legend names it. It need not be in `data_idx`.
        preprocess_fun : callable
            Applied to the whole tensor ``(B, *dims, K)`` before channels are aggregated; it returns values of the same
            shape.
        individual_data_idx : int or sequence of int, optional
            Instances that can be chosen in the interactive figure. Default: all.
        individual_max : int
            At most `individual_max` of them.

        Returns
        -------
        innsight_py.plots.matplotlib.Display or innsight_py.plots.plotly.PlotlyDisplay
            As in `plot`, with a single row of panels.

        Raises
        ------
        TypeError, ValueError
            If an argument has a wrong type or value, or if the result is not one of instances.
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
        check_backend(as_plotly, ax)
        look = read_look(title, figsize, cmap, ax)
        asked = _asked(self, target, output_idx, output_label)
        frame = global_frame(
            asked, output_idx, output_label, data_idx, ref_data_idx, aggr_channels, preprocess_fun,
            individual_data_idx, individual_max, max_display, slice=slice, axis_names=axis_names,
        )  # fmt: skip
        return draw(look.given_to(frame), as_plotly, ax)

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
        warn_of_images(self)
        return self.plot_global(**arguments)


def _asked(attributions: Attributions, target: Any, output_idx: Any, output_label: Any) -> Attributions:
    """Return what a picture shows: the attributions of a target, where one is given."""
    if target is not None and (output_idx is not None or output_label is not None):
        other = "output_label" if output_idx is None else "output_idx"
        raise ValueError(f"Arguments 'target' and '{other}' both say which nodes are shown: give one of them.")
    return of_target(attributions, target)
