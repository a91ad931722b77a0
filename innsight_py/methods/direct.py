"""Gradients of any PyTorch module, without a converter.

The functions run the gradient methods themselves, on a graph whose only layer is the module.
"""

from __future__ import annotations

from typing import Any, Literal, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from innsight_py._ambient import in_neutral_state
from innsight_py._arrays import without_tensors
from innsight_py._checks import Count, Flag, NotNegative, Seed, checked, describe
from innsight_py.inputs.advice import one_row
from innsight_py.inputs.data import read_data
from innsight_py.inputs.names import read_data_names
from innsight_py.inputs.selection import select_outputs
from innsight_py.methods.documentation import documented
from innsight_py.methods.gradient import Gradient, GradientBased, SmoothGrad
from innsight_py.methods.path import ExpectedGradient, IntegratedGradient
from innsight_py.model.explainable import DTYPES
from innsight_py.model.module import BareModule

Precision = Literal["float", "double"]
P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=GradientBased)

_SHARED = {
    "copy": """A copy of the module is explained, in evaluation mode (R takes the mode that it finds) and in the
    precision `dtype`; the module itself stays as it is. The answer for an instance must not depend on the others.""",
    "model": """model : torch.nn.Module
        Takes one tensor ``(B, *dims)`` and returns one tensor ``(B,)`` or ``(B, nodes)`` that autograd can
        differentiate. There is no other condition.
    data : array-like, Tensor or DataFrame
        The instances to explain, ``(B, *dims)``, as the module takes them.""",
    "shared": """output_idx : int or sequence of int, optional
        Output nodes to explain, counted from 0. Default: all.
    target : "predicted", int, str, or sequence of int or str, optional
        Explain one node of each row, at the cost of one node: ``"predicted"`` (the node with the largest output), a
        node for all rows, or one for each row.
    data_names : sequence of str, optional
        Names of the instances. Default: the index of a frame that has one of its own, otherwise ``data_1..``.
    dtype : {"float", "double"}
        Precision of the calculation and of the result.
    return_object : bool
        Return an object with `get_result`, `plot`, `plot_global`, `boxplot`, `summary`, predictions and goals.
    batch_size : int, optional
        At most `batch_size` rows (or points) are processed together. By default the number fits into memory.""",
    "result": "``(B, *dims, K)`` on the module's device, K being the number of explained nodes (also for one).",
    "raises": """TypeError, ValueError
        If an argument has a wrong type or value. The message names it. If the module cannot be copied, returns
        something else than one tensor of nodes, or one without a gradient.""",
}


class TorchSmoothGrad(SmoothGrad):
    """SmoothGrad as `torch_smoothgrad` defines it: `times_input` multiplies by the inputs without noise.

    Examples
    --------
    >>> from innsight_py import torch_smoothgrad
    >>> torch_smoothgrad(torch.nn.Linear(2, 1), [[0.5, 1.0]], return_object=True).title
    'SmoothGrad'
    """

    def _factors(self, clean: list[Tensor], noisy: list[Tensor]) -> list[Tensor]:
        return clean


class TorchIntegratedGradient(IntegratedGradient):
    """Integrated gradients as `torch_intgrad` defines them: the points include both ends of the path.

    Examples
    --------
    >>> from innsight_py import torch_intgrad
    >>> torch_intgrad(torch.nn.Linear(2, 1), [[0.5, 1.0]], return_object=True).title
    'IntegratedGradient'
    """

    def _grid(self, n: int) -> Tensor:
        return torch.linspace(0, 1, n, dtype=torch.float64)


@in_neutral_state
@checked
@documented(**_SHARED)
def torch_grad(
    model: Any,
    data: Any,
    *,
    output_idx: Any = None,
    target: Any = None,
    data_names: Any = None,
    times_input: Flag = False,
    dtype: Precision = "float",
    return_object: Flag = False,
    batch_size: Count | None = None,
) -> Tensor | Gradient:
    r"""Compute the gradient of any PyTorch module, or Gradient x Input, without conversion.

    .. math:: R_i = \partial f_k(x) / \partial x_i \quad\text{or}\quad x_i\, \partial f_k(x) / \partial x_i

    %(copy)s

    Differs from `Gradient`: the module's output is explained, its last activation included; all output nodes are,
    not only the first ten.

    Source: Simonyan et al. (2014), arXiv:1312.6034; Shrikumar et al. (2016), arXiv:1605.01713.

    Parameters
    ----------
    %(model)s
    times_input : bool
        Multiply the gradients by the inputs.
    %(shared)s

    Returns
    -------
    Tensor or Gradient
        %(result)s

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> model = torch.nn.Linear(2, 3)
    >>> torch_grad(model, [[0.5, 1.0]]).shape
    torch.Size([1, 2, 3])
    >>> bool((torch_grad(model, [[0.5, 1.0]], output_idx=1)[0, :, 0] == model.weight[1]).all())
    True
    """
    module, rows, data_names = _read(model, data, dtype, data_names)
    method = Gradient(
        module, rows, times_input=times_input, **_shared(module, output_idx, target, data_names, dtype, batch_size)
    )  # fmt: skip
    return _answer(method, return_object)


@in_neutral_state
@checked
@documented(**_SHARED)
def torch_intgrad(
    model: Any,
    data: Any,
    *,
    x_ref: Any = None,
    output_idx: Any = None,
    target: Any = None,
    data_names: Any = None,
    n: Count = 50,
    times_input: Flag = True,
    dtype: Precision = "float",
    return_object: Flag = False,
    batch_size: Count | None = None,
) -> Tensor | TorchIntegratedGradient:
    r"""Compute integrated gradients of any PyTorch module, without conversion.

    .. math:: R_i = (x_i - x'_i)\, \frac1n \sum_{j=1}^n
              \partial f_k\bigl(x' + \tfrac{j-1}{n-1} (x - x')\bigr) / \partial x_i

    %(copy)s

    Differs from `IntegratedGradient`: the points are equidistant on the path with both ends among them (there: right
    ends ``j/n``), in the precision `dtype` (there: single); with ``n=1`` the only point is the reference. The module's
    output is explained, its last activation included; all output nodes are, not only the first ten.

    Source: Sundararajan et al. (2017), arXiv:1703.01365.

    Parameters
    ----------
    %(model)s
    x_ref : like `data`, "mean", "median", "zeros", or Series, optional
        The reference, a single row, with or without the axis of the batch, or that of the data. Default: zeros.
    n : int
        Number of points.
    times_input : bool
        Multiply by ``x - x_ref``; without it the result is the mean gradient.
    %(shared)s

    Returns
    -------
    Tensor or IntegratedGradient
        %(result)s

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> model = torch.nn.Linear(2, 1)
    >>> x, x_ref = torch.tensor([[0.5, 1.0]]), torch.tensor([[0.0, 3.0]])
    >>> bool(torch.isclose(torch_intgrad(model, x, x_ref=x_ref).sum(), (model(x) - model(x_ref)).sum(), atol=1e-6))
    True
    """
    module, rows, data_names = _read(model, data, dtype, data_names)
    method = TorchIntegratedGradient(
        module, rows, x_ref=x_ref, n=n, times_input=times_input,
        **_shared(module, output_idx, target, data_names, dtype, batch_size),
    )  # fmt: skip
    return _answer(method, return_object)


@in_neutral_state
@checked
@documented(**_SHARED)
def torch_smoothgrad(
    model: Any,
    data: Any,
    *,
    output_idx: Any = None,
    target: Any = None,
    data_names: Any = None,
    n: Count = 50,
    noise_level: NotNegative = 0.1,
    times_input: Flag = False,
    dtype: Precision = "float",
    return_object: Flag = False,
    seed: Seed = None,
    batch_size: Count | None = None,
) -> Tensor | TorchSmoothGrad:
    r"""Compute SmoothGrad, the mean of the gradients at noisy copies, of any PyTorch module, without conversion.

    .. math:: R_i = \frac1n \sum_{j=1}^n \partial f_k(x + \varepsilon_j) / \partial x_i,
              \quad \varepsilon_j \sim N(0, \sigma^2)

    with sigma the noise level times the range of all values of `data` (the noise level itself where that is 0).

    %(copy)s

    Differs from `SmoothGrad`: `times_input` multiplies the mean gradient by the inputs without noise (there: each
    gradient by its noisy input). The module's output is explained, its last activation included; all output nodes
    are, not only the first ten.

    Source: Smilkov et al. (2017), arXiv:1706.03825.

    Parameters
    ----------
    %(model)s
    n : int
        Number of noisy copies.
    noise_level : float
        Standard deviation of the noise as a part of the range of the values, at least 0.
    times_input : bool
        Multiply the mean gradients by the inputs.
    seed : int or torch.Generator, optional
        Fixes the noise. Default: drawn from torch's global generator.
    %(shared)s

    Returns
    -------
    Tensor or SmoothGrad
        %(result)s

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> torch_smoothgrad(torch.nn.Linear(2, 3), [[0.5, 1.0]], n=5, seed=1).shape
    torch.Size([1, 2, 3])
    """
    module, rows, data_names = _read(model, data, dtype, data_names)
    method = TorchSmoothGrad(
        module, rows, n=n, noise_level=noise_level, times_input=times_input, seed=seed,
        **_shared(module, output_idx, target, data_names, dtype, batch_size)
    )  # fmt: skip
    return _answer(method, return_object)


@in_neutral_state
@checked
@documented(**_SHARED)
def torch_expgrad(
    model: Any,
    data: Any,
    *,
    data_ref: Any = None,
    output_idx: Any = None,
    target: Any = None,
    data_names: Any = None,
    n: Count = 50,
    dtype: Precision = "float",
    return_object: Flag = False,
    seed: Seed = None,
    batch_size: Count | None = None,
) -> Tensor | ExpectedGradient:
    r"""Compute expected gradients of any PyTorch module, without conversion.

    .. math:: R_i = \mathbb{E}_{x' \sim D,\, \alpha \sim U(0, 1)} \bigl[(x_i - x'_i)\,
              \partial f_k(x' + \alpha (x - x')) / \partial x_i\bigr]

    estimated with n draws for each instance.

    %(copy)s

    Differs from `ExpectedGradient`: the module's output is explained, its last activation included; all output nodes
    are, not only the first ten.

    Source: Erion et al. (2021), doi:10.1038/s42256-021-00343-w.

    Parameters
    ----------
    %(model)s
    data_ref : like `data`, "mean", "median", "zeros", or Series, optional
        The rows that references are drawn from, or one row of the data by its name. Default: zeros.
    n : int
        Number of draws for each instance.
    seed : int or torch.Generator, optional
        Fixes the draws. Default: drawn from torch's global generator.
    %(shared)s

    Returns
    -------
    Tensor or ExpectedGradient
        %(result)s

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> torch_expgrad(torch.nn.Linear(2, 3), [[0.5, 1.0]], data_ref=torch.randn(20, 2), seed=1).shape
    torch.Size([1, 2, 3])
    """
    module, rows, data_names = _read(model, data, dtype, data_names)
    method = ExpectedGradient(
        module, rows, data_ref=data_ref, n=n, seed=seed,
        **_shared(module, output_idx, target, data_names, dtype, batch_size),
    )  # fmt: skip
    return _answer(method, return_object)


def _read(model: Any, data: Any, dtype: Precision, data_names: Any) -> tuple[BareModule, Tensor, list[str]]:
    """Read a module, its data, and the names of the instances."""
    if isinstance(data, nn.Module):
        raise TypeError(
            f"Argument 'data': expected the data, got {describe(data)}. The model comes first, then the data."
        )
    try:
        shape = tuple(data.shape) if hasattr(data, "shape") else np.shape(without_tensors(data))
    except ValueError:  # lists of different lengths
        shape = ()
    if len(shape) < 2:
        one = len(shape) == 1 and shape[0] > 0
        hint = f" If that is one instance, give it an axis for the batch in front: {one_row(data)}." if one else ""
        raise ValueError(
            f"Argument 'data': expected instances of shape (B, *dims), got {describe(data)}.{hint} Modules with "
            "several inputs are explained through Converter."
        )
    if 0 in shape[1:]:
        raise ValueError(f"Argument 'data': expected instances with at least one value, got {describe(data)}.")
    rows = read_data(data, [shape[1:]], True, DTYPES[dtype], "data")[0]
    names = read_data_names(data_names, data, len(rows))
    try:
        return BareModule(model, rows), rows, names
    except (TypeError, ValueError, RuntimeError) as error:
        listed = isinstance(data, list | tuple) and isinstance(data[0], Tensor | np.ndarray) and data[0].ndim > 1
        if not listed or not isinstance(model, nn.Module):
            raise
        raise ValueError(
            f"Argument 'data': a list is read as one instance an entry, here of shape {tuple(shape[1:])}, which the "
            f"module cannot take: {error} Give one array of all instances; modules with several inputs are explained "
            "through Converter."
        ) from error


def _shared(
    module: BareModule, output_idx: Any, target: Any, data_names: Any, dtype: Precision, batch_size: int | None
) -> dict[str, Any]:
    """Return the arguments that all methods share."""
    nodes = range(module.output_dim[0][0]) if output_idx is None and target is None else output_idx
    selection = select_outputs(nodes, None, module.output_dim, module.output_names, target=target)
    return {
        "output_idx": selection.idx if target is None else None,
        "target": target,
        "data_names": data_names,
        "ignore_last_act": False,
        "verbose": False,
        "dtype": dtype,
        "batch_size": batch_size,
    }


def _answer(method: M, return_object: bool) -> Tensor | M:
    row = method.result[0]
    assert row is not None
    assert row[0] is not None
    return method if return_object else row[0]
