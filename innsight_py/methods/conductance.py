"""Conductance: how much of a change of the output flows through the units of a layer."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from innsight_py._checks import Count, Flag, checked
from innsight_py.methods.base import reference_text
from innsight_py.methods.gradient import GradientBased, Points
from innsight_py.methods.walk import Walk
from innsight_py.model.converter import Converter
from innsight_py.model.section import Section
from innsight_py.model.tokens import at_vectors


class Conductance(GradientBased):
    r"""Conductance: how much of the output's change along the path of the inputs flows through each unit of a layer.

    .. math:: R_u = \int_0^1 \frac{\partial f_k(\gamma(\alpha))}{\partial u}\,
              \frac{\partial u(\gamma(\alpha))}{\partial \alpha}\, d\alpha,
              \quad \gamma(\alpha) = x' + \alpha (x - x')

    the sum over all inputs of integrated gradients through the unit u. The integral is a sum over n steps from
    reference to instance: the mean of the gradients at both ends of a step times how far the unit moves in it
    (trapezoids). `IntegratedGradient` with `layer` goes along the straight path between the layer's values instead.

    Source: Dhamdhere et al. (2018), arXiv:1805.12233, equation 3.

    Parameters
    ----------
    converter : Converter
        The converted model.
    %(data)s
    x_ref : like `data`, "mean", "median", "mode", "zeros", "center", or Series, optional
        The reference, see `IntegratedGradient`.
    n : int
        Number of steps.
    %(shared)s

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value. The message names it. `layer` must be given.

    Examples
    --------
    >>> import torch
    >>> from innsight_py import Converter
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
    >>> result = Conductance(Converter(model, input_dim=(3,)), [[0.5, 1.0, -1.0]], layer="1")
    >>> result.get_result().shape
    (1, 2, 1)
    """

    title = "Conductance"
    steps_order = 1.0
    losses = ("a sum over a finite number of steps (n)",)

    @checked
    def __init__(
        self,
        converter: Converter,
        data: Any,
        *,
        layer: Any = None,
        x_ref: Any = None,
        n: Count = 50,
        channels_first: Flag | None = None,
        output_idx: Any = None,
        output_label: Any = None,
        target: Any = None,
        data_names: Any = None,
        ignore_last_act: Flag = True,
        verbose: Flag | None = None,
        dtype: Literal["float", "double"] = "float",
        batch_size: Count | None = None,
        neuron: Any = None,
    ) -> None:
        if layer is None:
            raise ValueError(
                "Argument 'layer': expected the name of a layer, whose conductance is asked for (see "
                "Converter.layer_names), got None."
            )
        super().__init__(
            converter, data, times_input=True, channels_first=channels_first, output_idx=output_idx,
            output_label=output_label, target=target, data_names=data_names, ignore_last_act=ignore_last_act,
            verbose=verbose, dtype=dtype, batch_size=batch_size, layer=layer, neuron=neuron,
        )  # fmt: skip
        self.n = self.steps = n
        self.decomposes = True
        self.x_ref = self._read_reference(x_ref, "x_ref", single=True)
        section = self._model
        assert isinstance(section, Section)
        inputs, reference = self._at_inputs(self.data), self._at_inputs(self.x_ref)
        with Walk(self, self.data[0].shape[0]) as walk:
            walk.observe_all(self._first(self.data))
            self._average(walk, n + 1, self._path(section, inputs, reference))
            self._finish(walk)
            self.decomp_goal = walk.explained(minus=walk.explained_at(self._first(self.x_ref, None, self._instead)))
            self.explained_values = walk.explained()
        self.cuts = section.gradient_losses()

    def _path(self, section: Section, inputs: list[Tensor], reference: list[Tensor]) -> Points:
        """Return what gives the layer's values on the path, and how far they move around each point."""
        whole, ends = self._base, self._vectors(inputs, reference)
        tokens = {
            name for name, port in zip(whole.inputs, self._converter.inputs, strict=True) if port.kind == "tokens"
        }
        alphas, count = (torch.arange(self.n + 1, dtype=torch.float64) / self.n).to(inputs[0]), len(section.inputs)

        def points(rows: slice, steps: slice) -> tuple[list[Tensor], list[Tensor]]:
            # One point more on both sides, where there is one: a point counts for half of the steps before and after.
            first, last = max(0, steps.start - 1), min(self.n + 1, steps.stop + 1)

            def between(x: Tensor, x_ref: Tensor) -> Tensor:
                some_ref = (x_ref if len(x_ref) == 1 else x_ref[rows]).unsqueeze(1)
                alpha = alphas[first:last].reshape(1, -1, *[1] * (x.dim() - 1))
                return (some_ref + alpha * (x[rows].unsqueeze(1) - some_ref)).flatten(0, 1)

            on_path = [
                x[rows].repeat_interleave(last - first, 0) if name in tokens else between(x, x_ref)
                for name, x, x_ref in zip(whole.inputs, inputs, reference, strict=True)
            ]
            instead = {name: between(*pair) for name, pair in ends.items()}
            values = [x.reshape(-1, last - first, *x.shape[1:]) for x in section.enter(on_path, instead)]
            here = torch.arange(steps.start - first, steps.stop - first)
            before, after = (here - 1).clamp(min=0), (here + 1).clamp(max=last - first - 1)
            moves = [(x[:, after] - x[:, before]).flatten(0, 1) * ((self.n + 1) / 2) for x in values[:count]]
            return section.lay_out([x[:, here].flatten(0, 1) for x in values]), moves

        return points

    def _vectors(self, inputs: list[Tensor], reference: list[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the vectors that embeddings look up, of the data and of the reference, between which the path goes."""
        start = at_vectors(self._base)
        if start is None:
            return {}
        here, there = start.enter(inputs), start.enter(reference, self._instead)
        pairs = zip(start.inputs, zip(here, there, strict=True), strict=False)
        return {name: pair for name, pair in pairs if name not in self._base.inputs}

    def _fields(self) -> list[tuple[str, str]]:
        return [("n", str(self.n)), ("x_ref", reference_text(self.x_ref, self.reference_name))]
