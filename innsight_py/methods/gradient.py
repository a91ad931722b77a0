"""Gradient methods: the gradient itself, and its mean over noise, over a path, or over references.

All walk the graph back with each layer's vector-Jacobian product. Autograd is used only within a layer that has no
product written out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from innsight_py._checks import Count, Flag, NotNegative, Seed, checked
from innsight_py.functions.elementwise import all_finite
from innsight_py.methods import sparing
from innsight_py.methods.asked import AnyConverter
from innsight_py.methods.base import InterpretingMethod, random_source
from innsight_py.methods.gradient_step import gradient_step
from innsight_py.methods.relu_rule import ReluRule, check_relus, relu_step
from innsight_py.methods.walk import Walk
from innsight_py.model.explainable import Explainable
from innsight_py.model.graph import Graph, Step, Trace

#: Gives the points of some rows and steps, each input ``(rows * steps, *dims)``, and what gradients are multiplied by.
Points = Callable[[slice, slice], tuple[list[Tensor], list[Tensor] | None]]


class GradientBased(InterpretingMethod):
    """Base class of the gradient methods."""

    def __init__(self, converter: Explainable, data: Any, *, times_input: bool, **shared: Any) -> None:
        super().__init__(converter.fitting(data), **shared)
        self.times_input = times_input
        self.value_name = "Relevance" if times_input else "Gradient"
        self.per_unit = not times_input
        self.data = self._read(data, "data")

    @property
    def _at_prepared(self) -> bool:
        return self.times_input

    def _step(self, trace: Trace) -> Step:
        return gradient_step(trace)

    @property
    def _spares(self) -> bool:
        """Whether a pass that takes much memory may keep no more than the gradient needs."""
        return True

    def _average(self, walk: Walk, n: int, points: Points, observe: bool = False) -> None:
        """Leave the mean of the gradients over n points a row, each times what `points` says, in the walk's buffers."""
        for rows, steps in walk.blocks(n):
            inputs, factors = points(rows, steps)
            spares = walk.is_large(inputs[0].shape[0]) and self._spares
            trace = walk.model.trace(inputs, seen=sparing.for_gradients(walk.ends) if spares else None)
            if observe:
                walk.observe(trace, rows)
            shape = (rows.stop - rows.start, steps.stop - steps.start)
            points_at_once = shape[0] * shape[1]
            later = sparing.after_gradients if spares else None
            for i, nodes, pieces in walk.back(
                self._step(trace), rows, points_at_once, points_at_once / n, spent=trace, later=later
            ):  # fmt: skip
                for j, piece in enumerate(pieces):
                    if piece is None:
                        continue
                    if n == 1:
                        factor, own = None if factors is None else factors[j], j in walk.plan.own_pieces
                        walk.put(i, j, nodes, rows, piece, factor, own)
                        continue
                    piece = piece if factors is None else piece * factors[j]
                    piece = piece.expand(piece.shape[0], shape[0] * shape[1], *piece.shape[2:])
                    walk.add(i, j, nodes, rows, piece.reshape(piece.shape[0], *shape, *piece.shape[2:]).sum(2) / n)

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
    %(data)s
    times_input : bool
        Multiply the gradients by the inputs.
    relu_rule : {"guided", "deconvnet"}, optional
        Pass only positive gradients down through a ReLU: only where the ReLU was active (``"guided"``, guided
        backpropagation), or everywhere (``"deconvnet"``, the deconvolutional network). Models with other activations
        are refused. By default you get the plain gradient.
    %(shared)s

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value. The message names it.

    Examples
    --------
    >>> from innsight_py import Converter
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[2.0, -1.0]], "activation_name": "tanh"}]}
    >>> Gradient(Converter(model), [[0.5, 1.0]], times_input=True).get_result()
    array([[[ 1.],
            [-1.]]], dtype=float32)
    """

    title = "Gradient"
    losses: Sequence[str] = ("biases and curvature: only without them is the sum of gradient times input the output",)

    @checked
    def __init__(
        self,
        converter: AnyConverter,
        data: Any,
        *,
        channels_first: Flag | None = None,
        output_idx: Any = None,
        output_label: Any = None,
        target: Any = None,
        data_names: Any = None,
        ignore_last_act: Flag = True,
        times_input: Flag = False,
        relu_rule: ReluRule | None = None,
        verbose: Flag | None = None,
        dtype: Literal["float", "double"] = "float",
        batch_size: Count | None = None,
        layer: Any = None,
        neuron: Any = None,
    ) -> None:
        super().__init__(
            converter, data, times_input=times_input, channels_first=channels_first, output_idx=output_idx,
            output_label=output_label, target=target, data_names=data_names, ignore_last_act=ignore_last_act,
            verbose=verbose, dtype=dtype, batch_size=batch_size,
            layer=layer, neuron=neuron,
        )  # fmt: skip
        self.decomposes = times_input
        if self._fixed:
            self.losses = (*type(self).losses, "inputs are fixed: what is theirs goes to no input that is explained")
        self.relu_rule = relu_rule
        inputs = self._first(self.data)

        def points(rows: slice, steps: slice) -> tuple[list[Tensor], list[Tensor] | None]:
            some = self._take(inputs, rows)
            return some, some if times_input else None

        with Walk(self, inputs[0].shape[0]) as walk:
            if relu_rule is not None:
                check_relus(walk.model, walk.what.values(), relu_rule)
            self._average(walk, 1, points, observe=True)
            self._finish(walk)
            self.decomp_goal = walk.explained()

    def _step(self, trace: Trace) -> Step:
        return gradient_step(trace) if self.relu_rule is None else relu_step(trace, self.relu_rule)

    @property
    def _spares(self) -> bool:
        return self.relu_rule is None

    def _fields(self) -> list[tuple[str, str]]:
        return [*super()._fields(), *([] if self.relu_rule is None else [("relu_rule", f"'{self.relu_rule}'")])]


class SmoothGrad(GradientBased):
    r"""Mean of the gradients at noisy copies of each instance.

    .. math:: R_i = \frac1n \sum_{j=1}^n \partial f_k(x + \varepsilon_j) / \partial x_i,
              \quad \varepsilon_j \sim N(0, \sigma^2)

    with sigma the noise level times the range of all values of an input layer (as in R: over all instances and
    features). With `times_input` each gradient is multiplied by its noisy input first. With `layer` the noise is
    added to the layer's values.

    Source: Smilkov et al. (2017), arXiv:1706.03825.

    Parameters
    ----------
    converter : Converter
        The converted model.
    %(data)s
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
        If an argument has a wrong type or value. The message names it.

    Examples
    --------
    >>> from innsight_py import Converter
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[2.0, -1.0]]}]}
    >>> SmoothGrad(Converter(model), [[0.5, 1.0]], n=5, seed=1).get_result()[0, :, 0]
    array([ 2., -1.], dtype=float32)
    """

    title = "SmoothGrad"
    own_path = True

    @checked
    def __init__(
        self,
        converter: AnyConverter,
        data: Any,
        *,
        channels_first: Flag | None = None,
        output_idx: Any = None,
        output_label: Any = None,
        target: Any = None,
        data_names: Any = None,
        ignore_last_act: Flag = True,
        times_input: Flag = False,
        n: Count = 50,
        noise_level: NotNegative = 0.1,
        seed: Seed = None,
        verbose: Flag | None = None,
        dtype: Literal["float", "double"] = "float",
        batch_size: Count | None = None,
        layer: Any = None,
        neuron: Any = None,
    ) -> None:
        super().__init__(
            converter, data, times_input=times_input, channels_first=channels_first, output_idx=output_idx,
            output_label=output_label, target=target, data_names=data_names, ignore_last_act=ignore_last_act,
            verbose=verbose, dtype=dtype, batch_size=batch_size,
            layer=layer, neuron=neuron,
        )  # fmt: skip
        self.n, self.noise_level = n, noise_level
        with Walk(self, self.data[0].shape[0]) as walk:
            for column, graph in enumerate(self._sections()):
                walk.go(graph, column)
                inputs = self._first(self.data, graph)
                points = self._noisy(graph, inputs, random_source(seed))
                if column == 0:
                    walk.observe_all(inputs)
                self._average(walk, n, points)
            self._finish(walk)
            self.decomp_goal = walk.explained()

    def _noisy(self, graph: Graph, inputs: list[Tensor], random: np.random.Generator) -> Points:
        """Return what gives noisy copies of the inputs."""
        count = len(graph.inputs)
        if not all(all_finite(x) for x in inputs[:count]):
            raise ValueError(
                "Argument 'data': expected finite numbers, got NaN or infinite ones; the noise is a part of the range "
                "of all values, which would then have no size."
            )
        sources = random.spawn(count)
        sigmas = [self.noise_level * (float(x.max() - x.min()) or 1.0) for x in inputs[:count]]
        still = {self._base.inputs[j] for j in self._fixed}
        sigmas = [0.0 if name in still else sigma for name, sigma in zip(graph.inputs, sigmas, strict=True)]

        def points(rows: slice, steps: slice) -> tuple[list[Tensor], list[Tensor] | None]:
            clean = [x[rows].repeat_interleave(steps.stop - steps.start, 0) for x in inputs]
            noisy = []
            for x, sigma, source in zip(clean[:count], sigmas, sources, strict=True):
                draws = torch.from_numpy(source.standard_normal(x.shape, dtype=np.float32))
                noisy.append(x.add(draws.to(x), alpha=sigma))
            noisy = graph.lay_out([*noisy, *clean[count:]])
            return noisy, self._factors(clean, noisy) if self.times_input else None

        return points

    def _factors(self, clean: list[Tensor], noisy: list[Tensor]) -> list[Tensor]:
        """Return what the gradients are multiplied by for `times_input`."""
        return noisy

    def _fields(self) -> list[tuple[str, str]]:
        return [*super()._fields(), ("n", str(self.n)), ("noise_level", f"{self.noise_level:g}")]
