"""The first of the three steps: turning a model into a graph that can be explained."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import threading
from collections.abc import Sequence
from typing import Any, Literal, Self

from torch import Tensor

from innsight_py._checks import Device, FilePath, Flag, checked
from innsight_py.converters.safetensors import read_model_file, write_model_file
from innsight_py.converters.use import Use
from innsight_py.inputs.names import default_names, read_names
from innsight_py.inputs.tokens import plain_token_names, read_token_names
from innsight_py.model.assignment import assign
from innsight_py.model.building import Built, build, compared, converted
from innsight_py.model.converted import ConvertedModel
from innsight_py.model.explainable import DTYPES, Explainable
from innsight_py.model.labels import groups_of_columns, ports_of_inputs, ports_of_outputs, read_fixed
from innsight_py.model.lengths import rows_of_other_lengths, warn_of_lengths
from innsight_py.model.rule_names import read_rules
from innsight_py.model.rule_table import RuleTable, table_of
from innsight_py.model.text import converter_html, converter_text
from innsight_py.model.variants import Variants
from innsight_py.spec import parse_dims, spec_as_dict


class Converter(Explainable):
    """Convert a model into a graph of layers that every method can explain.

    Parameters
    ----------
    model : torch.nn.Module, torch.export.ExportedProgram, keras.Model, estimator, dict or path
        The model, which is one of these:

        - a PyTorch module that ``torch.export`` can trace, or the exported program;
        - a functional or sequential model of Keras 3 on any backend, or of ``tf_keras``; on the torch backend any
          Keras model;
        - a fitted perceptron of scikit-learn, alone or in a pipeline, or a net of skorch;
        - a model spec, which is a dict (see `innsight_py.spec`). Read lists of R innsight with `innsight_py.from_r`;
        - the path of a file: ``.safetensors`` (see `save`), ``.keras`` and ``.h5`` (loaded in safe mode), ``.pt2`` (of
          ``torch.export.save``), ``.onnx``, ``.rds`` (see `innsight_py.read_neuralnet`) or ``.json`` (see
          `innsight_py.read_r_model`).
    input_dim : int, sequence of int, or list of these, optional
        Shape of each input, channels first and without the batch axis: ``(4,)``, ``(3, 32, 32)``,
        ``[(3, 32, 32), (5,)]``. You need it for PyTorch modules and skorch nets, and for Keras models that leave a
        size open. Other models know their shapes, and `input_dim` is only compared with them.
    input_names : list or dict, optional
        Labels of the input features: a list for a table, a list for each axis (channels first) for signals and
        images, a list of these for several inputs, or a dict of them by `input_keys`. Default: ``X1..``;
        ``C1.., L1..``; ``C1.., H1.., W1..``.
    output_names : list or dict, optional
        Labels of the output nodes, a list of lists for several output layers, or a dict of them by `output_keys`.
        Default: ``Y1..``.
    dtype : {"float", "double"}
        Precision of the converted model in `model`. Methods have a `dtype` of their own, and use the weights in the
        precision in which you gave them.
    device : str or torch.device, optional
        Where the model lies and all methods compute, for example ``"cuda"``. Your data may come from any device. The
        default is the CPU.
    save_model_as_dict : bool
        Keep the model spec in `model_as_dict`.

    custom_backward : {"derivative", "own"}
        The gradient of a ``torch.autograd.Function`` in a PyTorch module, such as a gradient reversal or a
        straight-through estimator. "derivative" is the derivative of its ``forward``. "own" is its ``backward``. With
        "own" DeepLift and LRP have no rule for it, and you cannot save the converted model.
    example : tensor, tuple or dict, optional
        The arguments with which you call the model: one tensor, a tuple of arguments, or a dict of arguments by name.
        Each has one or more rows. You do not need `input_dim` then, because shapes and names of the inputs follow from
        the example. With an example the model may also be a function or a bound method (``model.encode``) of PyTorch.
    output : str, int, callable or dict, optional
        The part of the model's answer that you want explained: the key, field or position of an entry, for example
        ``"logits"``. Pass a list for several entries, or a dict to rename them. For PyTorch modules it may also be a
        function of the answer: ``lambda y: y["out"].mean((2, 3))``. Default: all outputs. The other parts of the answer
        may be of any type.
    fixed : str or sequence of str
        Names of inputs that come with each row and get no attribution: masks, lengths, the other twin of a siamese
        network. Inputs of whole numbers and truth values in `example` are always fixed. Everything that is computed
        from fixed inputs only may use any operator. A reference has the row's own values there.
    channels_first : bool
        Pass False for a PyTorch module, an exported program, an ONNX model or a spec that has its channels last: a
        series ``(B, T, F)``, for example. You then give the data as the model takes them. Time is an axis, and features
        are channels. For Keras models you never need it.
    token_names : callable, sequence or mapping, optional
        The texts of token ids: ``tokenizer.convert_ids_to_tokens``, a list of texts, or a vocabulary. An output with a
        node for each id gets these labels, too. Default: the ids. `save` keeps lists and dicts, and no
        function.
    group_columns : bool or dict
        Sum the attributions of columns that belong together, such as the columns of a one-hot encoder. With True the
        columns that a pipeline's encoder makes of one column are summed. For any other model with one table pass a dict
        of names or numbers: ``{"island": ["island_Biscoe", "island_Dream"]}``. Gradients that are not multiplied by
        the input are never summed.

    Attributes
    ----------
    encoder : Encoder or None
        The encoders at the beginning of a pipeline, which turn your table into numbers. Pass data and references as
        frames then, with the columns that the pipeline was fitted to.
    groups : Groups or None
        The columns that are summed.
    model : ConvertedModel
        The graph. ``converter.model(x)`` runs it (channels first) and returns a list with one tensor an output layer.
    inputs, outputs : tuple of Port
        The inputs and outputs, each with its ``key``, ``dim``, ``names`` and ``kind``: table, signal, image, volume,
        tokens or fixed. The next attributes follow from these.
    input_dim, output_dim : list of tuple of int
        Shapes without the batch axis, channels first.
    channels_first : bool
        The layout of the model's data: False for Keras models that have their channels last. Methods expect your data
        in this layout unless you pass them another `channels_first`.
    input_names, output_names : list of list of list of str
        Labels: one entry a layer, of one entry an axis.
    input_keys, output_keys : list of str
        The model's own names of its inputs and output layers: of the Keras inputs, or of the arguments of a PyTorch
        module's ``forward``. A model without names has ``input_1..`` and ``output_1..``. You can pass data, references
        and choices of nodes as dicts with these keys, instead of lists.
    model_as_dict : dict or None
        The spec, which can be given to `Converter` again.

    Raises
    ------
    TypeError
        If `model` is of an unknown kind.
    OSError
        If there is no such file.
    ValueError
        If the model cannot be converted, or the arguments contradict it. `SpecError` is one of these.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    >>> converter = Converter(model, input_dim=(2,), input_names=["age", "dose"])
    >>> converter.input_names, converter.output_names
    ([[['age', 'dose']]], [[['Y1']]])
    """

    @checked
    def __init__(
        self,
        model: Any,
        input_dim: Any = None,
        input_names: Any = None,
        output_names: Any = None,
        dtype: Literal["float", "double"] = "float",
        save_model_as_dict: Flag = False,
        device: Device = None,
        custom_backward: Literal["derivative", "own"] = "derivative",
        example: Any = None,
        output: Any = None,
        fixed: Any = (),
        channels_first: Flag = True,
        token_names: Any = None,
        group_columns: Any = True,
    ) -> None:
        given = None if input_dim is None else parse_dims(input_dim, "Argument 'input_dim'")
        use = Use(example, output, channels_first, read_fixed(fixed))
        built = converted(model, given, DTYPES[dtype], custom_backward, use)
        self._lock = threading.Lock()
        self._lengths: dict[tuple[tuple[int, ...], ...], Self] = {}
        self._again = built.reading.again
        self._token_names = read_token_names(built.spec.token_names if token_names is None else token_names)
        if token_names is not None:
            spec = dataclasses.replace(built.spec, token_names=plain_token_names(self._token_names))
            built = dataclasses.replace(built, spec=spec)
        self.encoder, self._group_columns = built.reading.encoder, group_columns
        self._take(built, dtype)
        if device is not None:
            self.model.to(device)
        self._name(input_names, output_names)
        self.model_as_dict: dict[str, Any] | None = None
        if save_model_as_dict:
            self.model_as_dict = spec_as_dict(self._spec) | {
                "input_names": copy.deepcopy(self.input_names),
                "output_names": copy.deepcopy(self.output_names),
                "output_dim": [list(dim) for dim in self.output_dim],
            }

    def _take(self, built: Built, dtype: Literal["float", "double"]) -> None:
        """Take over a graph that was compared with its original."""
        self._spec, self.model, self.dtype, self._others = built.spec, built.model, dtype, Variants()
        self.channels_first = self._spec.channels_first

    def _name(self, input_names: Any, output_names: Any) -> None:
        """Say what the inputs and outputs are, and what they are called."""
        inputs = ports_of_inputs(self._spec, self.model, input_names, self._token_names)
        self.groups = groups_of_columns(self._group_columns, [port.names for port in inputs], self.encoder)
        self.inputs = inputs
        self.outputs = ports_of_outputs(self._spec, self.model, output_names, self._token_names)

    def fitting(self, data: Any) -> Self:
        """Return the converter for the lengths of texts, which is this one for those of its example.

        The model is converted again for other lengths, once for each, and said so the first time.
        """
        if self._again is None:
            return self
        rows = rows_of_other_lengths(data, self)
        if rows is None:
            return self
        dims = tuple(tuple(row.shape[1:]) for row in rows)
        with self._lock:
            if dims not in self._lengths:
                if not self._lengths:
                    warn_of_lengths(self, rows)
                self._lengths[dims] = self._converted_again(rows)
            return self._lengths[dims]

    def _converted_again(self, rows: Sequence[Tensor]) -> Self:
        assert self._again is not None
        other = copy.copy(self)
        other._lock, other._again, other._lengths = threading.Lock(), None, {}
        other._take(compared(build(self._again(rows), DTYPES[self.dtype], self._spec), DTYPES[self.dtype]), self.dtype)
        other.model.to(self.model.device)
        same = [port.dim for port in self.outputs] == list(other._spec.output_shape or other.model.output_dims)
        known = {port.dim: port.names for port in self.inputs}
        names = [known.get(dim, default_names(dim)) for dim in other._spec.input_dim]
        other._name(names if len(names) > 1 else names[0], self.output_names if same else None)
        return other

    @property
    def layer_names(self) -> list[str]:
        """Names of the values inside the model, which `layer` and `neuron` of every method take, in their order.

        A name of a PyTorch module (``"layer3.1"``, containers included) or of a Keras layer means its output, also
        where an activation after it has become a part of the same layer of the graph. Where a module is called several
        times its name means the last call, ``"relu#1"``, ``"relu#2"`` mean each; several outputs are ``"lstm[0]"``,
        ``"lstm[1]"``. What a module of PyTorch does between its parts has the operator's name, ``"layer3.1.add"``.
        Other models have the names of their layers.

        Examples
        --------
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        >>> Converter(model, input_dim=(2,)).layer_names
        ['0', '1', '2']
        """
        return list(self.model.places)

    def model_in(self, dtype: Literal["float", "double"], merge_batch_norm: bool = False) -> ConvertedModel:
        """Return the model in a precision, on the device of `model`; `model` itself is never changed.

        With `merge_batch_norm` it is the model with batch normalisation folded into the layers before it.
        """
        return self._others.model(self._spec, self.model, DTYPES[dtype], merge_batch_norm)

    def unmerged(self) -> dict[str, str]:
        """Say why batch normalisations cannot be folded into the layers before them; those that can are left out."""
        return dict(self._others.merged(self._spec, self.model)[1])

    @checked
    def show_rules(
        self,
        rule_name: Any = "simple",
        rule_param: Any = None,
        winner_takes_all: Flag = True,
        merge_batch_norm: Flag = False,
    ) -> RuleTable:
        """Show which rule of `LRP` each layer would follow, and why.

        Parameters
        ----------
        rule_name, rule_param, winner_takes_all, merge_batch_norm
            As for `innsight_py.run_lrp`.

        Returns
        -------
        RuleTable
            It prints as a table, and is a sequence of lines with ``layer``, ``kind``, ``rule`` and ``why``. Layers that
            only move values are left out.

        Raises
        ------
        TypeError, ValueError
            If `run_lrp` would refuse the rules.

        Examples
        --------
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        ...                             torch.nn.Linear(8, 1))
        >>> Converter(model, input_dim=(1, 6)).show_rules("epsilon_plus_flat")
        layer  class                rule            why
        0      Conv1D_Layer         flat()          family 'first'
        0      Conv1D_Layer (relu)  pass()          family 'activation'
        3      Dense_Layer          epsilon(1e-06)  family 'dense'
        """
        graph = self.model_in(self.dtype, merge_batch_norm)
        return table_of(graph, assign(graph, read_rules(rule_name, rule_param), winner_takes_all))

    @checked
    def save(self, path: FilePath) -> None:
        """Write the converted model to a file, from which `load` reads it, elsewhere and without the original.

        The file holds the graph, names and shapes in the format safetensors: numbers and texts, no code. The encoders
        of a pipeline and groups of columns are not in it: the model read takes the columns of numbers. `token_names`
        are in it if they are a list or a dict. A function is code: give it again when you read the file,
        ``Converter(path, token_names=tokenizer.convert_ids_to_tokens)``, or convert with a vocabulary,
        ``token_names=tokenizer.get_vocab()``.

        Parameters
        ----------
        path : str or path-like
            The file, which ends in ``.safetensors``; one that exists is overwritten.

        Raises
        ------
        OSError
            If the file cannot be written.
        ValueError
            If `path` does not end in ``.safetensors``.

        Examples
        --------
        >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, -1.0]]}]}
        >>> Converter(model).save("linear.safetensors")
        >>> Converter("linear.safetensors", dtype="double").output_dim
        [(1,)]
        """
        spec = spec_as_dict(self._spec) | {
            "layers": [layer.given() for layer in self._spec.layers],
            "input_names": read_names(self.input_names, self.input_dim, "input_names"),
            "output_names": read_names(self.output_names, self.output_dim, "output_names"),
            "output_dim": [list(dim) for dim in self.output_dim],
        }
        write_model_file(path, spec, self.dtype)

    @classmethod
    @checked
    def load(cls, path: FilePath) -> Self:
        """Read a converted model that `save` has written; every answer is that of the model saved, bit for bit.

        ``Converter(path)`` reads such a file as well, in the precision and with the names that it is given.

        Parameters
        ----------
        path : str or path-like
            The file.

        Raises
        ------
        OSError
            If there is no such file.
        ValueError
            If the file is damaged, was changed since it was written, is of another kind, or was written by a later
            version of the package.

        Examples
        --------
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        >>> Converter(model, input_dim=(2,), input_names=["age", "dose"]).save("model.safetensors")
        >>> Converter.load("model.safetensors").input_names
        [[['age', 'dose']]]
        """
        spec, dtype = read_model_file(path)
        try:
            return cls(spec, dtype=dtype)  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"'{path}' holds no model that can be converted: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"]
        state["_again"], state["_lengths"] = None, {}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return converter_text(self, self.model, self.model_as_dict is not None)

    def _repr_html_(self) -> str:
        return converter_html(self, self.model)


def with_names(converter: Converter, input_names: Any) -> Converter:
    """Return a converter that shares the model with another, and has input names of its own.

    Examples
    --------
    >>> converter = Converter({"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, -1.0]]}]})
    >>> with_names(converter, ["age", "dose"]).input_names, converter.input_names
    ([[['age', 'dose']]], [[['X1', 'X2']]])
    """
    named = copy.copy(converter)
    named.input_names = input_names
    return named


def convert(*args: Any, **kwargs: Any) -> Converter:
    """Convert a model; ``convert(...)`` is ``Converter(...)``.

    Examples
    --------
    >>> convert({"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, -1.0]]}]}).output_dim
    [(1,)]
    """
    return Converter(*args, **kwargs)


convert.__signature__ = inspect.signature(Converter)  # type: ignore[attr-defined]  # what help shows
