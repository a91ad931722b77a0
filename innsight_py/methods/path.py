"""Methods that average gradients between an instance and references."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from innsight_py._checks import Count, Flag, Seed, checked
from innsight_py.completeness import warn_of_few_steps
from innsight_py.methods.base import AnyConverter, Walk, random_source, reference_text, times_difference
from innsight_py.methods.gradient import GradientBased


class IntegratedGradient(GradientBased):
    r"""Mean of the gradients along the straight path from a reference to each instance.

    .. math:: R_i = (x_i - x'_i)\, \frac1n \sum_{j=1}^n
              \partial f_k\bigl(x' + \tfrac jn (x - x')\bigr) / \partial x_i

    The points are those of R: a Riemann sum at the right ends, so the sum over the inputs is close to
    ``f(x) - f(x')`` but not equal.

    Source: Sundararajan et al. (2017), arXiv:1703.01365.

    Parameters
    ----------
    converter : Converter
        The converted model.
    data : array-like, Tensor, DataFrame, or list or dict of these
        The instances to explain, ``(B, *dims)``; for several inputs a list with one entry an input, or a dict by their
        names (`Converter.input_keys`). Columns of a frame (pandas, polars, arrow) are matched by name where the
        converter has names.
    x_ref : like `data`, optional
        The reference, a single row. Default: zeros.
    n : int
        Number of points.
    times_input : bool
        Multiply by ``x - x_ref``; without it the result is the mean gradient.
    %(shared)s

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it should be; the message names it.

    Warns
    -----
    UserWarning
        If so few steps miss more than 5 % of the goal, with the number that would do; see `Explanation.residual`.

    Examples
    --------
    >>> from innsight_py import Converter
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[2.0, -1.0]]}]}
    >>> IntegratedGradient(Converter(model), [[0.5, 1.0]], x_ref=[[0.0, 3.0]]).get_result()[0, :, 0]
    array([1., 2.], dtype=float32)
    """

    title = "IntegratedGradient"
    steps_order = 1.0

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
        ignore_last_act: Flag = True,
        verbose: Flag | None = None,
        dtype: Literal["float", "double"] = "float",
        batch_size: Count | None = None,
    ) -> None:
        super().__init__(
            converter, data, times_input=times_input, channels_first=channels_first, output_idx=output_idx,
            output_label=output_label, ignore_last_act=ignore_last_act, verbose=verbose, dtype=dtype,
            batch_size=batch_size,
        )  # fmt: skip
        self.n, self.decomposes = n, times_input
        self.x_ref = self._read_reference(x_ref, "x_ref", single=True)
        inputs, reference = self._first(self.data), self._first(self.x_ref)
        reference = self._take(reference, slice(None))
        alphas = self._grid(n).to(inputs[0])

        def points(rows: slice, steps: slice) -> tuple[list[Tensor], None]:
            on_path = []
            for x, x_ref in zip(self._take(inputs, rows), reference, strict=True):
                alpha = alphas[steps].reshape(1, -1, *[1] * (x.dim() - 1))
                on_path.append((x_ref + alpha * (x - x_ref).unsqueeze(1)).flatten(0, 1))
            return on_path, None

        with Walk(self, inputs[0].shape[0]) as walk:
            walk.observe_all(inputs)
            buffers = self._average(walk, n, points)
            if times_input:
                times_difference(buffers, inputs, reference)
            self.result = self._finish(buffers)
            self.preds = walk.predictions()
            self.decomp_goal = walk.explained(minus=walk.mean_explained(reference))
            self.explained_values = walk.explained()
        if times_input:
            warn_of_few_steps(self)

    def _losses(self) -> list[str]:
        return ["a sum over a finite number of steps (n)"]

    def _grid(self, n: int) -> Tensor:
        """Return where on the path the points lie: the right ends, in single precision even for double, as in R."""
        return (torch.arange(1, n + 1, dtype=torch.float64) / n).float()

    def _fields(self) -> list[tuple[str, str]]:
        kind = "decomposition of y - y'" if self.times_input else "output sensitivity"
        return [
            ("times_input", f"{self.times_input} (→ {kind})"),
            ("n", str(self.n)),
            ("x_ref", reference_text(self.x_ref)),
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
    data : array-like, Tensor, DataFrame, or list or dict of these
        The instances to explain, ``(B, *dims)``; for several inputs a list with one entry an input, or a dict by their
        names (`Converter.input_keys`). Columns of a frame (pandas, polars, arrow) are matched by name where the
        converter has names.
    data_ref : like `data`, optional
        The rows that references are drawn from. Default: one row of zeros.
    n : int
        Number of draws for each instance.
    seed : int or torch.Generator, optional
        Fixes the draws. Default: drawn from torch's global generator.
    %(shared)s

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it should be; the message names it.

    Examples
    --------
    >>> from innsight_py import Converter
    >>> model = {"input_dim": [2], "layers": [{"type": "Dense", "weight": [[2.0, -1.0]]}]}
    >>> ExpectedGradient(Converter(model), [[0.5, 1.0]], data_ref=[[0.0, 3.0]]).get_result()[0, :, 0]
    array([1., 2.], dtype=float32)
    """

    title = "ExpectedGradient"
    decomposes = True
    steps_order = 0.5

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
        ignore_last_act: Flag = True,
        verbose: Flag | None = None,
        dtype: Literal["float", "double"] = "float",
        batch_size: Count | None = None,
    ) -> None:
        super().__init__(
            converter, data, times_input=True, channels_first=channels_first, output_idx=output_idx,
            output_label=output_label, ignore_last_act=ignore_last_act, verbose=verbose, dtype=dtype,
            batch_size=batch_size,
        )  # fmt: skip
        self.n = n
        self.data_ref = self._read_reference(data_ref, "data_ref", single=False)
        inputs, reference = self._first(self.data), self._first(self.data_ref)
        source = random_source(seed)
        shape = (inputs[0].shape[0], n)
        picks = torch.from_numpy(source.integers(0, reference[0].shape[0], shape)).to(inputs[0].device)
        alphas = torch.from_numpy(source.random(shape, dtype=np.float32)).to(inputs[0])

        def points(rows: slice, steps: slice) -> tuple[list[Tensor], list[Tensor]]:
            on_path, differences = [], []
            for x, x_ref in zip(inputs, reference, strict=True):
                picked = x_ref[picks[rows, steps]]  # (rows, steps, *dims)
                difference = x[rows].unsqueeze(1) - picked
                alpha = alphas[rows, steps].reshape(*difference.shape[:2], *[1] * (x.dim() - 1))
                on_path.append((picked + alpha * difference).flatten(0, 1))
                differences.append(difference.flatten(0, 1))
            return self._model.lay_out(on_path), self._model.lay_out(differences)

        with Walk(self, inputs[0].shape[0]) as walk:
            walk.observe_all(inputs)
            self.result = self._finish(self._average(walk, n, points))
            self.preds = walk.predictions()
            self.decomp_goal = walk.explained(minus=walk.mean_explained(reference))
            self.explained_values = walk.explained()

    def _losses(self) -> list[str]:
        return ["a mean over a finite number of random draws (n)"]

    def _fields(self) -> list[tuple[str, str]]:
        return [("n", str(self.n)), ("data_ref", reference_text(self.data_ref))]
