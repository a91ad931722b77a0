"""Gradient methods: the gradient itself, and its mean over noise, over a path, or over references.

All walk the graph back with each layer's vector-Jacobian product. Autograd is used only within a layer that has no
product written out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from innsight_py._checks import Count, Flag, NotNegative, Seed, checked
from innsight_py._elementwise import all_finite
from innsight_py.converter import Explainable
from innsight_py.graph import Explained, Step, Trace
from innsight_py.layers import Layer
from innsight_py.methods.base import AnyConverter, Buffers, InterpretingMethod, Walk, random_source

#: Gives the points of some rows and steps, each input ``(rows * steps, *dims)``, and what gradients are multiplied by.
Points = Callable[[slice, slice], tuple[list[Tensor], list[Tensor] | None]]


def gradient_step(trace: Trace) -> Step:
    """Return the rule of all gradient methods: the vector-Jacobian product of each layer."""

    def step(layer: Layer, upper: Tensor, name: str, start: Explained | None) -> list[Tensor | None]:
        skip = start is not None and start.at_preactivation
        return layer.gradient(upper, trace[name], skip_activation=skip)

    return step


class GradientBased(InterpretingMethod):
    """Base class of the gradient methods."""

    def __init__(self, converter: Explainable, data: Any, *, times_input: bool, **shared: Any) -> None:
        super().__init__(converter, **shared)
        self.times_input = times_input
        self.value_name = "Relevance" if times_input else "Gradient"
        self.data = self._read(data, "data")

    def _losses(self) -> list[str]:
        return ["biases and curvature: only without them is the sum of gradient times input the output"]

    def _average(self, walk: Walk, n: int, points: Points, observe: bool = False) -> Buffers:
        """Mean of the gradients over n points a row, each times what `points` says."""
        for rows, steps in walk.blocks(n):
            inputs, factors = points(rows, steps)
            trace = walk.model.trace(inputs)
            if observe:
                walk.observe(trace)
            shape = (rows.stop - rows.start, steps.stop - steps.start)
            for i, nodes, pieces in walk.back(gradient_step(trace), shape[0] * shape[1], shape[0] * shape[1] / n):
                for j, piece in enumerate(pieces):
                    if piece is None:
                        continue
                    if n == 1:
                        walk.put(i, j, nodes, rows, piece, None if factors is None else factors[j])
                        continue
                    piece = piece if factors is None else piece * factors[j]
                    piece = piece.expand(piece.shape[0], shape[0] * shape[1], *piece.shape[2:])
                    walk.add(i, j, nodes, rows, piece.reshape(piece.shape[0], *shape, *piece.shape[2:]).sum(2) / n)
        return walk.buffers

    def _fields(self) -> list[tuple[str, str]]:
        name = f"{self.title} x Input" if self.times_input else self.title
        return [("times_input", f"{self.times_input} (→ {name} method)")]


class Gradient(GradientBased):
    r"""Gradient of the output with respect to the inputs, or Gradient x Input.

    .. math:: R_i = \partial f_k(x) / \partial x_i \quad\text{or}\quad x_i\, \partial f_k(x) / \partial x_i

    Source: Simonyan et al. (2014), arXiv:1312.6034; Shrikumar et al. (2016), arXiv:1605.01713.

    Parameters
    ----------
    converter : Converter
        The converted model.
    data : array-like, Tensor, DataFrame, or list of these
        The instances to explain, ``(B, *dims)``; a list with one entry an input for several inputs. Columns of a
        frame (pandas, polars, arrow) are matched by name where the converter has names.
    times_input : bool
        Multiply the gradients by the inputs.
    %(shared)s

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it should be; the message names it.

    Examples
    --------
    >>> from innsight_py import Converter
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[2.0, -1.0]], "activation_name": "tanh"}]}
    >>> Gradient(Converter(model), [[0.5, 1.0]], times_input=True).get_result()
    array([[[ 1.],
            [-1.]]], dtype=float32)
    """

    title = "Gradient"

    @checked
    def __init__(
        self,
        converter: AnyConverter,
        data: Any,
        *,
        channels_first: Flag | None = None,
        output_idx: Any = None,
        output_label: Any = None,
        ignore_last_act: Flag = True,
        times_input: Flag = False,
        verbose: Flag | None = None,
        dtype: Literal["float", "double"] = "float",
        batch_size: Count | None = None,
    ) -> None:
        super().__init__(
            converter, data, times_input=times_input, channels_first=channels_first, output_idx=output_idx,
            output_label=output_label, ignore_last_act=ignore_last_act, verbose=verbose, dtype=dtype,
            batch_size=batch_size,
        )  # fmt: skip
        self.decomposes = times_input
        inputs = self._first(self.data)

        def points(rows: slice, steps: slice) -> tuple[list[Tensor], list[Tensor] | None]:
            some = self._take(inputs, rows)
            return some, some if times_input else None

        with Walk(self, inputs[0].shape[0]) as walk:
            self.result = self._finish(self._average(walk, 1, points, observe=True))
            self.preds, self.decomp_goal = walk.predictions(), walk.explained()


class SmoothGrad(GradientBased):
    r"""Mean of the gradients at noisy copies of each instance.

    .. math:: R_i = \frac1n \sum_{j=1}^n \partial f_k(x + \varepsilon_j) / \partial x_i,
              \quad \varepsilon_j \sim N(0, \sigma^2)

    with sigma the noise level times the range of all values of an input layer (as in R: over all instances and
    features). With `times_input` each gradient is multiplied by its noisy input first.

    Source: Smilkov et al. (2017), arXiv:1706.03825.

    Parameters
    ----------
    converter : Converter
        The converted model.
    data : array-like, Tensor, DataFrame, or list of these
        The instances to explain, ``(B, *dims)``; a list with one entry an input for several inputs. Columns of a
        frame (pandas, polars, arrow) are matched by name where the converter has names.
    times_input : bool
        Multiply the gradients by the (noisy) inputs.
    n : int
        Number of noisy copies.
    noise_level : float
        Standard deviation of the noise as a part of the range of the values, at least 0.
    seed : int or torch.Generator, optional
        Fixes the noise. Default: drawn from torch's global generator.
    %(shared)s

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it should be; the message names it.

    Examples
    --------
    >>> from innsight_py import Converter
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[2.0, -1.0]]}]}
    >>> SmoothGrad(Converter(model), [[0.5, 1.0]], n=5, seed=1).get_result()[0, :, 0]
    array([ 2., -1.], dtype=float32)
    """

    title = "SmoothGrad"

    @checked
    def __init__(
        self,
        converter: AnyConverter,
        data: Any,
        *,
        channels_first: Flag | None = None,
        output_idx: Any = None,
        output_label: Any = None,
        ignore_last_act: Flag = True,
        times_input: Flag = False,
        n: Count = 50,
        noise_level: NotNegative = 0.1,
        seed: Seed = None,
        verbose: Flag | None = None,
        dtype: Literal["float", "double"] = "float",
        batch_size: Count | None = None,
    ) -> None:
        super().__init__(
            converter, data, times_input=times_input, channels_first=channels_first, output_idx=output_idx,
            output_label=output_label, ignore_last_act=ignore_last_act, verbose=verbose, dtype=dtype,
            batch_size=batch_size,
        )  # fmt: skip
        self.n, self.noise_level = n, noise_level
        inputs = self._first(self.data)
        if not all(all_finite(x) for x in inputs):
            raise ValueError(
                "Argument 'data': expected finite numbers, got NaN or infinite ones; the noise is a part of the range "
                "of all values, which would then have no size."
            )
        sources = random_source(seed).spawn(len(inputs))
        sigmas = [noise_level * (float(x.max() - x.min()) or 1.0) for x in inputs]

        def points(rows: slice, steps: slice) -> tuple[list[Tensor], list[Tensor] | None]:
            count = steps.stop - steps.start
            clean = [x[rows].repeat_interleave(count, 0) for x in inputs]
            noisy = []
            for x, sigma, source in zip(clean, sigmas, sources, strict=True):
                draws = torch.from_numpy(source.standard_normal(x.shape, dtype=np.float32))
                noisy.append(x.add(draws.to(x), alpha=sigma))
            noisy = self._model.lay_out(noisy)
            return noisy, self._factors(clean, noisy) if times_input else None

        with Walk(self, inputs[0].shape[0]) as walk:
            walk.observe_all(inputs)
            self.result = self._finish(self._average(walk, n, points))
            self.preds, self.decomp_goal = walk.predictions(), walk.explained()

    def _factors(self, clean: list[Tensor], noisy: list[Tensor]) -> list[Tensor]:
        """Return what the gradients are multiplied by for `times_input`."""
        return noisy

    def _fields(self) -> list[tuple[str, str]]:
        return [*super()._fields(), ("n", str(self.n)), ("noise_level", f"{self.noise_level:g}")]
