"""What instances are compared with, where it is said in a word, as a row, or not at all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from innsight_py._checks import describe, suggestion, warn
from innsight_py.inputs.data import channels_last, split_inputs
from innsight_py.inputs.described import Described
from innsight_py.inputs.encoding import Groups

#: References that have a name.
NAMED = ("mean", "median", "mode", "zeros", "center")
#: A warning names features whose mean lies more than this many standard deviations away from a reference of zeros.
FAR = 5.0
#: With fewer rows nothing is said about where values lie.
ENOUGH_ROWS = 5


def leaves_out(reference: Any, described: Described, fixed: Collection[int]) -> bool:
    """Tell whether a reference has entries for the inputs that are explained alone, and none for those that are fixed.

    Parameters
    ----------
    reference : Any
        What the user gave.
    described : Described
        The model.
    fixed : collection of int
        Numbers of the inputs that are fixed.
    """
    if not fixed or isinstance(reference, str):
        return False
    keys = described.input_keys
    if isinstance(reference, Mapping):
        return not any(keys[j] in reference for j in fixed)
    explained = len(keys) - len(fixed)
    if not isinstance(reference, list | tuple):
        return explained == 1
    return len(reference) != len(keys) and (explained == 1 or len(reference) == explained)


def fill_in(
    reference: Any, described: Described, data: Sequence[Tensor], center: Sequence[Tensor | None],
    channels_first: bool, argument: str, groups: Groups | None = None,
) -> Any:  # fmt: skip
    """Put numbers in the place of names and rows, so that `innsight_py.inputs.data.read_data` can read a reference.

    Parameters
    ----------
    reference : Any
        What the user gave: for one input a name of `NAMED`, a row without the axis of the batch, a Series, or rows;
        for several inputs one name for all, or a list or dict with one of these for each.
    described : Described
        The model.
    data : sequence of Tensor
        The data of each input, in the user's layout.
    center : sequence of (Tensor or None)
        What the preparation of each input maps to 0, in the user's layout; None for an input without one.
    channels_first : bool
        The user's layout.
    argument : str
        What the reference is called in error messages.
    groups : Groups, optional
        Which columns of a table are one of the user's, for the most common values.

    Raises
    ------
    ValueError
        If there is no such name, or the model has no center.
    """
    if isinstance(reference, str):
        parts: Sequence[Any] = [reference] * len(data)
    elif isinstance(reference, pd.Series) and len(data) == 1:
        parts = [reference]
    else:
        parts = split_inputs(reference, described.input_dim, described.input_keys, argument)
    filled = [
        _filled(part, dim if channels_first else channels_last(dim), x, middle, argument, groups)
        for part, dim, x, middle in zip(parts, described.input_dim, data, center, strict=True)
    ]
    return filled if len(filled) > 1 else filled[0]


def _filled(
    part: Any, dim: tuple[int, ...], x: Tensor, center: Tensor | None, argument: str, groups: Groups | None
) -> Any:  # fmt: skip
    if isinstance(part, str):
        return _named(part, x, center, argument, groups)
    if isinstance(part, pd.Series):
        return part.to_frame().T if not part.index.equals(pd.RangeIndex(len(part))) else part.to_numpy()[None]
    try:
        shape = tuple(part.shape) if hasattr(part, "shape") else np.shape(part)
    except ValueError:
        return part
    if shape != dim:
        return part
    return part[None] if isinstance(part, Tensor | np.ndarray) else [part]


def _named(name: str, x: Tensor, center: Tensor | None, argument: str, groups: Groups | None) -> Tensor:
    """Return the row ``(1, *dims)`` that a name stands for. Rows with NaN or infinite values do not count."""
    if name == "zeros":
        return torch.zeros_like(x[:1])
    if name == "center":
        if center is None:
            raise ValueError(
                f"Argument '{argument}': 'center' is what the preparation of the data (a scaler, Keras Normalization) "
                "maps to 0, and this model begins with none. Use 'mean' or 'median'."
            )
        return center.to(x)
    if name not in NAMED:
        raise ValueError(
            f"Argument '{argument}': expected numbers, or one of {', '.join(map(repr, NAMED))}, got {describe(name)}"
            f"{suggestion(name, NAMED)}"
        )
    rows = whole_rows(x).double()
    if not len(rows):
        raise ValueError(f"Argument '{argument}': there is no row without NaN in the data to take the {name} of.")
    if name == "mode":
        if x.dim() != 2:
            raise ValueError(f"Argument '{argument}': 'mode' is for tables; use 'mean' or 'median'.")
        return (groups or Groups((), tuple(range(x.shape[1])))).mode(rows).to(x.dtype)
    row = rows.mean(0, keepdim=True) if name == "mean" else rows.quantile(0.5, dim=0, keepdim=True)
    return row.to(x.dtype)


def whole_rows(x: Tensor) -> Tensor:
    """Return the rows ``(B, *dims)`` without NaN and infinite values."""
    return x[x.isfinite().flatten(1).all(1)]


def warn_of_far_default(
    described: Described, data: Sequence[Tensor], reference: Sequence[Tensor], name: str | None, argument: str
) -> None:
    """Warn once where a reference that nobody asked for lies far outside of the values of a table.

    Parameters
    ----------
    described : Described
        The model.
    data, reference : sequence of Tensor
        The data and the row that they are compared with, of each input.
    name : str or None
        What the reference is called, if it is not zeros.
    argument : str
        The argument that says with what else.
    """
    far = []
    for j, (x, row) in enumerate(zip(data, reference, strict=True)):
        if x.dim() != 2:
            continue
        rows, middle = x.cpu().numpy(), row.cpu().numpy()  # numpy is quicker for small tables
        rows = rows[np.isfinite(rows).all(1)]
        if len(rows) < ENOUGH_ROWS:
            continue
        beside = ((rows > middle).all(0) | (rows < middle).all(0)).nonzero()[0]
        if not len(beside):
            continue
        some = rows[:, beside].astype(np.float64) - middle[:, beside]
        deviation, mean = some.std(0, ddof=1), some.mean(0)
        labels = described.input_names[j][0]
        far += [str(labels[k]) for k in beside[(deviation > 0) & (np.abs(mean) > FAR * deviation)]]
    if far:
        shown = ", ".join(far[:6]) + (f" and {len(far) - 6} more" if len(far) > 6 else "")
        what, other = ("0", "zeros") if name is None else ("the center of the model's preparation", name)
        warn(
            f"Argument '{argument}': without it instances are compared with {what}, which lies more than {FAR:g} "
            f'standard deviations away from the data in {shown}. {argument}="mean" compares with the mean of the '
            f'data; {argument}="{other}" says that this is meant.'
        )
