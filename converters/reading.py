"""What a door gives back: a model spec, and how to run the original beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from innsight_py.spec import ModelSpec

#: Runs the original on inputs ``(B, *dims)``, channels first.
Run = Callable[[Sequence[Tensor]], Sequence[Tensor]]
#: Gives the original's values for one row by the names of layers.
Values = Callable[[Sequence[Tensor]], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Reading:
    """A model as a door has read it.

    Attributes
    ----------
    spec : ModelSpec
        The checked spec.
    run : callable, optional
        Runs the original on inputs ``(B, *dims)``, channels first, in their precision; the converted model is
        compared with it.
    values : callable, optional
        Gives the original's values for one row by the names of layers, to find the first that differs.
    """

    spec: ModelSpec
    run: Run | None = None
    values: Values | None = None
