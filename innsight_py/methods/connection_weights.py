"""Connection weights."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from innsight_py._checks import Count, Flag, checked, warn
from innsight_py.layers import Layer
from innsight_py.methods.base import InterpretingMethod
from innsight_py.methods.walk import Walk
from innsight_py.model.converter import Converter
from innsight_py.model.graph import Explained


class ConnectionWeights(InterpretingMethod, ignores_last_act=False):
    r"""Product of the weights along all paths from an input to an output, without biases and activations.

    Without data it is a global method with one result; times the input it is local. Through a sum each input gets an
    equal share, and a max pooling is taken to hand on the first input of each window, both as in R.

    Source: Olden et al. (2004), doi:10.1016/j.ecolmodel.2004.03.013.

    Parameters
    ----------
    converter : Converter
        The converted model.
    data : array-like, Tensor, DataFrame, or list or dict of these, optional
        The instances to explain, ``(B, *dims)``; needed with `times_input`, otherwise not used.
    times_input : bool
        Multiply the result by the inputs.
    %(shared)s

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value. The message names it.
    UnsupportedLayerError
        If the model has a layer without a rule.

    Examples
    --------
    >>> from innsight_py import Converter
    >>> dense = [{"type": "Dense", "weight": [[1.0], [2.0]]}, {"type": "Dense", "weight": [[3.0, -1.0]]}]
    >>> ConnectionWeights(Converter({"input_dim": [1], "layers": dense})).get_result()
    array([[[1.]]], dtype=float32)
    """

    title = "ConnectionWeights"
    value_name = "Relative Importance"

    @checked
    def __init__(
        self,
        converter: Converter,
        data: Any = None,
        *,
        output_idx: Any = None,
        output_label: Any = None,
        target: Any = None,
        data_names: Any = None,
        channels_first: Flag | None = None,
        times_input: Flag = False,
        verbose: Flag | None = None,
        dtype: Literal["float", "double"] = "float",
        batch_size: Count | None = None,
        layer: Any = None,
        neuron: Any = None,
    ) -> None:
        super().__init__(
            converter.fitting(data), channels_first=channels_first, output_idx=output_idx,
            output_label=output_label, target=target,
            data_names=data_names, ignore_last_act=False, verbose=verbose, dtype=dtype, batch_size=batch_size,
            layer=layer, neuron=neuron,
        )  # fmt: skip
        self.times_input = times_input
        self.is_global = not times_input and target is None
        self.per_unit = not times_input and not self._whole_model.preparation  # prepared features have a unit of theirs
        if not self.is_global:
            if data is None:
                needs = "times_input=True" if times_input else "a node for each row (target)"
                raise ValueError(f"Argument 'data': expected data, which {needs} needs, got None.")
            self.data = self._read(data, "data")
        elif data is not None:
            warn("Without times_input=True or target the method is global: 'data' is not used.")

        def step(layer: Layer, upper: Tensor, name: str, start: Explained | None) -> list[Tensor | None]:
            return layer.connection_weights(upper)

        rows = 1 if self.is_global else self.data[0].shape[0]
        inputs = self._first(self.data)
        with Walk(self, rows) as walk:
            everything = slice(0, rows)
            if target is not None:
                walk.observe_all(inputs)
            for i, nodes, pieces in walk.back(step, everything, 1 if target is None else rows, rows):
                for j, piece in enumerate(pieces):
                    if piece is not None:
                        walk.add(i, j, nodes, everything, piece * inputs[j] if times_input else piece)
            self._finish(walk)
            if target is None:
                self.preds = None

    @property
    def _at_prepared(self) -> bool:
        return True

    def _fields(self) -> list[tuple[str, str]]:
        kind = "global" if self.is_global else "local"
        return [("times_input", f"{self.times_input} (→ {kind} ConnectionWeights method)")]
