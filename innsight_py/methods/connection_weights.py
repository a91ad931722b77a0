"""Connection weights."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from innsight_py._checks import Count, Flag, checked, warn
from innsight_py.converter import Converter
from innsight_py.graph import Explained
from innsight_py.layers import Layer
from innsight_py.methods.base import InterpretingMethod, Walk


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
        If an argument is not what it should be; the message names it.
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
        channels_first: Flag | None = None,
        times_input: Flag = False,
        verbose: Flag | None = None,
        dtype: Literal["float", "double"] = "float",
        batch_size: Count | None = None,
    ) -> None:
        super().__init__(
            converter, channels_first=channels_first, output_idx=output_idx, output_label=output_label,
            ignore_last_act=False, verbose=verbose, dtype=dtype, batch_size=batch_size,
        )  # fmt: skip
        self.times_input = times_input
        self.is_global = not times_input
        if times_input:
            if data is None:
                raise ValueError("Argument 'data': expected data, which times_input=True needs, got None.")
            self.data = self._read(data, "data")
        elif data is not None:
            warn("Without times_input=True the method is global: 'data' is not used.")

        def step(layer: Layer, upper: Tensor, name: str, start: Explained | None) -> list[Tensor | None]:
            return layer.connection_weights(upper)

        rows = self.data[0].shape[0] if times_input else 1
        inputs = self._first(self.data)
        with Walk(self, rows) as walk:
            for i, nodes, pieces in walk.back(step, 1, rows):
                for j, piece in enumerate(pieces):
                    if piece is not None:
                        walk.add(i, j, nodes, slice(0, rows), piece * inputs[j] if times_input else piece)
            self.result = self._finish(walk.buffers)

    def _fields(self) -> list[tuple[str, str]]:
        kind = "local" if self.times_input else "global"
        return [("times_input", f"{self.times_input} (→ {kind} ConnectionWeights method)")]
