"""What the documentation of methods shares: written once, filled in where ``%(name)s`` stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def documented(**texts: str) -> Callable[[T], T]:
    """Fill texts into the documentation of a class or a function.

    Examples
    --------
    >>> @documented(thing="a model")
    ... def explain():
    ...     "Explain %(thing)s."
    >>> explain.__doc__
    'Explain a model.'
    """

    def fill(target: T) -> T:
        for name, text in texts.items():
            if target.__doc__ is not None:
                target.__doc__ = target.__doc__.replace(f"%({name})s", text)
        return target

    return fill


#: The data of the methods that look into a model.
DATA = """data : array-like, Tensor, DataFrame, or list or dict of these
        The instances to explain, ``(B, *dims)``: 10 RGB images are ``(10, 3, 32, 32)``. For several inputs pass a list
        with one entry for each, or a dict by their names (`Converter.input_keys`). Columns of a frame (pandas, polars,
        arrow) are matched by name if the converter has names."""
#: Arguments that all methods share.
SHARED = """channels_first : bool, optional
        Whether the channels are the first or the last axis of each instance, in your data and in the result. The
        numbers are the same. By default the layout is that of the model (`Converter.channels_first`): channels last for
        most Keras models, first otherwise.
    output_idx : int, sequence of int, or list or dict of these and None, optional
        The output nodes to explain, counted from 0. ``[0, 2]`` means nodes of the first output layer. For several
        output layers pass a list with an entry for each (None: not explained), or a dict by their names
        (`Converter.output_keys`). By default the first ten nodes of the first output layer are explained.
    output_label : str, sequence of str, or list or dict of these and None, optional
        The same by label.
    target : "predicted", int, str, sequence of int or str, or dict of these, optional
        Explain one node of each row, at the cost of one node. ``"predicted"`` is the node with the largest output. You
        can also pass a node (number or label) for all rows, or one for each row; a node of an output with several axes
        is a tuple. The nodes are those of the first
        output layer; for others pass a dict by `Converter.output_keys`. The result then has ``K = 1``, and
        ``result.target_label`` names the node of each row.
    data_names : sequence of str, optional
        Names of the instances. Default: the index of a frame that has one of its own, otherwise ``data_1..``.
    %(ignore_last_act)sverbose : bool, optional
        Show a progress bar. By default you see one in a terminal or a notebook.
    dtype : {"float", "double"}
        Precision of the calculation. It does not change the converter.
    batch_size : int, optional
        At most `batch_size` rows (or points of a path) are processed together. By default the number fits into memory.
    layer : str or list of str, optional
        Attribute to the values of inner layers (`Converter.layer_names`) instead of the inputs. In the result ``data``,
        names, shapes, frames and pictures are those of the layer. You still pass references as rows of the model's
        inputs, and the layer's values follow from them. Several layers get the same answers as each alone.
    neuron : tuple, optional
        Explain a value inside the model instead of an output: the name of a layer and an index into its value in the
        layout of the data, ``("encoder", 5)``, ``("conv", (3, 10, 12))``, or a list of these indices.
        The value is the one that the name means, so `ignore_last_act` has no effect."""
IGNORE_LAST_ACT = """ignore_last_act : bool
        Explain the score before the last activation of Dense and convolution layers, not the probability behind it.
        Pass False to explain the output itself. Other last layers are always explained at their output.
    """
#: Arguments of the methods that only ask a model for predictions; their own come in between.
AGNOSTIC = """model : Any
        A model with one input and one output layer: a `Converter`, a model that `Converter` reads, a PyTorch module
        (run in evaluation mode), a Keras model, a scikit-learn estimator (classifiers by ``predict_proba`` or their
        scores), a function, or any object with a method ``pred_fun`` or ``predict``.
    data : array-like, Tensor or DataFrame
        The instances to explain, ``(B, *dims)``: tables, signals or images. Columns of a frame (pandas, polars, arrow)
        are matched by name where the model has names; the model itself gets frames of pandas.
    data_ref : like `data`, "mean", "median", "mode", "zeros", "center", or Series, optional
        The background: rows with the values that features may have instead, or the name of one row. ``"center"`` is the
        row that the scaler of a `Converter` maps to 0. Default: `data`.
    pred_fun : callable, optional
        Your own function for predictions. It gets rows in the form of `data` (a frame with the same columns, or an
        array in the same layout), and returns ``(n,)`` or ``(n, nodes)``.
    output_idx : int or sequence of int, optional
        Output nodes to explain, counted from 0. Default: the first ten.
    output_label : str or sequence of str, optional
        The same by label.
    target : "predicted", int, str, or sequence of int or str, optional
        Explain one node of each row instead: ``"predicted"``, the node with the largest output, a node (number or
        label) for all rows, or one for each row.
    data_names : sequence of str, optional
        Names of the instances. Default: the index of a frame that has one of its own, otherwise ``data_1..``.
    channels_first : bool, optional
        Whether the channels are the first or the last axis of each instance, in the data given and in the result.
        Default: as the model has them.
    input_dim : sequence of int, optional
        Shape of an instance, channels first; only compared with the data's and the model's.
    input_names, output_names : list, optional
        Labels, as in `Converter`. Default: the columns of the frame, what the model knows (``feature_names_in_``,
        ``classes_``), or ``X1..``, ``Y1..``.
    %(own)sseed : int or torch.Generator, optional
        Fixes the draws. Default: drawn from torch's global generator. The global generators of numpy are not touched.
    verbose : bool, optional
        Show a progress bar. By default you see one in a terminal or a notebook.
    batch_size : int, optional
        The model gets at most `batch_size` rows at once. By default the number fits into memory."""
