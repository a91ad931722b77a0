"""Methods that average gradients between an instance and references."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from innsight_py._checks import Count, Flag, Seed, checked
from innsight_py.methods.asked import AnyConverter
from innsight_py.methods.base import has_rows, random_source, reference_text, times_difference
from innsight_py.methods.gradient import GradientBased, Points
from innsight_py.methods.walk import Walk
from innsight_py.model.graph import Graph
from innsight_py.model.section import Section
from innsight_py.results.completeness import STEPS_TOLERANCE, misses_goals, residual_of, warn_of_few_steps

#: How far along the path a point is that counts as one beside the reference.
BESIDE = 1e-6
#: Why sums are missed however many steps there are.
JUMP = (
    "the output jumps at the reference (where a norm of zeros is divided by, for example), which no number of steps "
    "shows; another x_ref helps"
)


class IntegratedGradient(GradientBased):
    r"""Mean of the gradients along the straight path from a reference to each instance.

    .. math:: R_i = (x_i - x'_i)\, \frac1n \sum_{j=1}^n
              \partial f_k\bigl(x' + \tfrac jn (x - x')\bigr) / \partial x_i

    The points are those of R: a Riemann sum at the right ends, so the sum over the inputs is close to
    ``f(x) - f(x')`` but not equal. With `layer` the path is that of the layer's values, between those at x and at the
    reference; what reaches the output by other ways stays as it is at x.

    Source: Sundararajan et al. (2017), arXiv:1703.01365.

    Parameters
    ----------
    converter : Converter
        The converted model.
    %(data)s
    x_ref : like `data`, "mean", "median", "mode", "zeros", "center", or Series, optional
        The reference: a single row, with or without the axis of the batch, or one for each row, ``(B, *dims)``.
        ``"mean"`` and ``"median"`` are those of the data. ``"center"`` is the row that the model's scaler (or Keras
        Normalization) maps to 0. By default it is the center if the model has one, and zeros otherwise.
    n : int
        Number of points.
    times_input : bool
        Multiply by ``x - x_ref``. With False the result is the mean gradient.
    %(shared)s

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value. The message names it.

    Warns
    -----
    UserWarning
        If zeros, which nobody asked for, lie far outside of a table.
        If so few steps miss more than 5 % of the goal, with the number that would do; see `Explanation.residual`.

    Examples
    --------
    >>> from innsight_py import Converter
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[2.0, -1.0]]}]}
    >>> IntegratedGradient(Converter(model), [[0.5, 1.0]], x_ref=[[0.0, 3.0]]).get_result()[0, :, 0]
    array([1., 2.], dtype=float32)
    """

    title = "IntegratedGradient"
    own_path = True
    steps_order = 1.0
    losses = ("a sum over a finite number of steps (n)",)

    @checked
    def __init__(
        self,
        converter: AnyConverter,
        data: Any,
        *,
        x_ref: Any = None,
        n: Count = 50,
        times_input: Flag = True,
        channels_first: Flag | None = None,
        output_idx: Any = None,
        output_label: Any = None,
        target: Any = None,
        data_names: Any = None,
        ignore_last_act: Flag = True,
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
        self.n = self.steps = n
        self.decomposes = times_input
        self.x_ref = self._read_reference(x_ref, "x_ref", single=True)
        with Walk(self, self.data[0].shape[0]) as walk:
            for column, graph in enumerate(self._sections()):
                walk.go(graph, column)
                inputs = self._first(self.data, graph)
                # What is held stays as it is for the row: the path is that of the layer's values alone.
                count = len(graph.inputs)
                reference = [*self._first(self.x_ref, graph, self._instead)[:count], *inputs[count:]]
                if column == 0:
                    walk.observe_all(inputs)
                self._average(walk, n, self._path(graph, inputs, reference))
                if times_input:
                    times_difference(walk.buffers, inputs[:count], reference, column)
            self._finish(walk)
            if column == 0:  # each layer of a list has a goal of its own
                self.decomp_goal = walk.explained(minus=walk.explained_at(reference))
            self.explained_values = walk.explained()
            self.cuts = self._model.gradient_losses()
            if self.decomposes and misses_goals(self):
                if not self.cuts and self.layer is None and self._jumps(walk, inputs, reference):
                    self.cuts = [JUMP]
                warn_of_few_steps(self)

    def _jumps(self, walk: Walk, inputs: list[Tensor], reference: list[Tensor]) -> bool:
        """Tell whether most of the worst residual is missed between a reference and a point beside it.

        A norm by which a model divides is an example: beside zeros the direction counts, and at zeros there is none.
        """
        residual = residual_of(self)
        assert residual is not None
        for i, (missing, relative) in enumerate(zip(residual.absolute, residual.relative, strict=True)):
            goal, value = (self.decomp_goal or [])[i], (self.explained_values or [])[i]
            if missing is None or relative is None or goal is None or value is None:
                continue
            sizes = relative.abs().nan_to_num(nan=0.0)
            row, node = divmod(int(sizes.argmax()), sizes.shape[1])
            if float(sizes[row, node]) <= STEPS_TOLERANCE:
                continue
            x, x_ref = ([v[row : row + 1] if len(v) > 1 else v for v in values] for values in (inputs, reference))
            count = len(walk.model.inputs)  # what is held, masks for example, stays as it is for the row
            beside = [b + BESIDE * (a - b) for a, b in zip(x[:count], x_ref[:count], strict=True)] + x[count:]
            jump = goal[row, node] - value[row, node] + walk.explained_for(i, row, beside)[node]
            return abs(float(jump)) > min(abs(float(goal[row, node])), abs(float(missing[row, node]))) / 2
        return False

    def _path(self, graph: Graph, inputs: list[Tensor], reference: list[Tensor]) -> Points:
        """Return what gives the points of the path."""
        alphas = self._grid(self.n).to(inputs[0])

        def points(rows: slice, steps: slice) -> tuple[list[Tensor], None]:
            on_path = []
            some, some_ref = self._take(inputs, rows, graph), self._take_reference(reference, rows, graph)
            count = len(graph.inputs)
            for x, x_ref in zip(some[:count], some_ref, strict=False):
                alpha = alphas[steps].reshape(1, -1, *[1] * (x.dim() - 1))
                on_path.append((x_ref.unsqueeze(1) + alpha * (x - x_ref).unsqueeze(1)).flatten(0, 1))
            held = [x.repeat_interleave(steps.stop - steps.start, 0) for x in some[count:]]
            return [*on_path, *held], None

        return points

    def _grid(self, n: int) -> Tensor:
        """Return where on the path the points lie: the right ends, in single precision even for double, as in R."""
        return (torch.arange(1, n + 1, dtype=torch.float64) / n).float()

    def _fields(self) -> list[tuple[str, str]]:
        kind = "decomposition of y - y'" if self.times_input else "output sensitivity"
        return [
            ("times_input", f"{self.times_input} (→ {kind})"),
            ("n", str(self.n)),
            ("x_ref", reference_text(self.x_ref, self.reference_name)),
        ]


class ExpectedGradient(GradientBased):
    r"""Mean of integrated gradients over references drawn from a data set.

    .. math:: R_i = \mathbb{E}_{x' \sim D,\, \alpha \sim U(0, 1)} \bigl[(x_i - x'_i)\,
              \partial f_k(x' + \alpha (x - x')) / \partial x_i\bigr]

    estimated with n draws for each instance; the inputs of a model with several share the draws.

    Source: Erion et al. (2021), doi:10.1038/s42256-021-00343-w.

    Parameters
    ----------
    converter : Converter
        The converted model.
    %(data)s
    data_ref : like `data`, "mean", "median", "mode", "zeros", "center", or Series, optional
        The rows that references are drawn from: ``(n, *dims)`` for all rows, ``(B, n, *dims)`` for each row, or the
        name of one row, see `IntegratedGradient`. By default it is the center if the model has one, and one row of
        zeros otherwise.
    n : int
        Number of draws for each instance.
    seed : int or torch.Generator, optional
        Fixes the draws. Default: drawn from torch's global generator.
    %(shared)s

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value. The message names it.

    Examples
    --------
    >>> from innsight_py import Converter
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[2.0, -1.0]]}]}
    >>> ExpectedGradient(Converter(model), [[0.5, 1.0]], data_ref=[[0.0, 3.0]]).get_result()[0, :, 0]
    array([1., 2.], dtype=float32)
    """

    title = "ExpectedGradient"
    own_path = True
    decomposes = True
    steps_order = 0.5
    losses = ("a mean over a finite number of random draws (n)",)

    @checked
    def __init__(
        self,
        converter: AnyConverter,
        data: Any,
        *,
        data_ref: Any = None,
        n: Count = 50,
        seed: Seed = None,
        channels_first: Flag | None = None,
        output_idx: Any = None,
        output_label: Any = None,
        target: Any = None,
        data_names: Any = None,
        ignore_last_act: Flag = True,
        verbose: Flag | None = None,
        dtype: Literal["float", "double"] = "float",
        batch_size: Count | None = None,
        layer: Any = None,
        neuron: Any = None,
    ) -> None:
        super().__init__(
            converter, data, times_input=True, channels_first=channels_first, output_idx=output_idx,
            output_label=output_label, target=target, data_names=data_names, ignore_last_act=ignore_last_act,
            verbose=verbose, dtype=dtype, batch_size=batch_size,
            layer=layer, neuron=neuron,
        )  # fmt: skip
        self.n = self.steps = n
        self.data_ref = self._read_reference(data_ref, "data_ref", single=False)
        each = has_rows(self.data_ref, self.data)
        self.cuts = self._model.gradient_losses()
        references = [x.flatten(0, 1) if each else x for x in self.data_ref]
        with Walk(self, self.data[0].shape[0]) as walk:
            for column, graph in enumerate(self._sections()):
                walk.go(graph, column)
                inputs = self._first(self.data, graph)
                reference = self._first_reference(references, graph, inputs)
                held, reference = reference[len(graph.inputs) :], reference[: len(graph.inputs)]
                if column == 0:
                    walk.observe_all(inputs)
                self._average(walk, n, self._drawn(graph, inputs, reference, random_source(seed), each))
            self._finish(walk)
            if column == 0 and self._has_goal(graph):
                self.decomp_goal = walk.explained(minus=self._mean(walk, [*reference, *held], each))
            else:
                self.decomposes = False
            self.explained_values = walk.explained()

    def _drawn(
        self, graph: Graph, inputs: list[Tensor], reference: list[Tensor], source: np.random.Generator, each: bool
    ) -> Points:
        """Return what gives drawn points between rows and drawn references."""
        total, count = len(inputs[0]), len(graph.inputs)
        available = len(reference[0]) // total if each else len(reference[0])
        shape, device = (total, self.n), inputs[0].device
        picks = torch.from_numpy(source.integers(0, available, shape)).to(device)
        if each:
            picks = picks + torch.arange(total, device=device).unsqueeze(1) * available
        alphas = torch.from_numpy(source.random(shape, dtype=np.float32)).to(inputs[0])

        def points(rows: slice, steps: slice) -> tuple[list[Tensor], list[Tensor]]:
            on_path, differences = [], []
            for x, x_ref in zip(inputs[:count], reference, strict=True):
                picked = x_ref[picks[rows, steps]]  # (rows, steps, *dims)
                difference = x[rows].unsqueeze(1) - picked
                alpha = alphas[rows, steps].reshape(*difference.shape[:2], *[1] * (x.dim() - 1))
                on_path.append((picked + alpha * difference).flatten(0, 1))
                differences.append(difference.flatten(0, 1))
            held = [x[rows].repeat_interleave(steps.stop - steps.start, 0) for x in inputs[count:]]
            return graph.lay_out([*on_path, *held]), graph.lay_out([*differences, *held])

        return points

    def _has_goal(self, graph: Graph) -> bool:
        """Tell whether references change all that is explained but what comes with each row."""
        return not graph.held or (isinstance(graph, Section) and graph.given == frozenset(graph.held))

    def _mean(self, walk: Walk, reference: list[Tensor], each: bool) -> dict[int, Tensor]:
        """Return the mean of the explained values at the references, of all or of each row's."""
        if not each:
            return walk.mean_explained(reference)
        return {i: x.reshape(walk.rows, -1, x.shape[1]).mean(1) for i, x in walk.explained_at(reference).items()}

    def _fields(self) -> list[tuple[str, str]]:
        return [("n", str(self.n)), ("data_ref", reference_text(self.data_ref, self.reference_name))]
