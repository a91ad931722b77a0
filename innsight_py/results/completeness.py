"""Whether attributions add up: the residual between their sum and the goal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from innsight_py._checks import warn
from innsight_py.functions.elementwise import largest_magnitude
from innsight_py.results.attributions import Attributions
from innsight_py.spec.keys import layer_title

#: The largest relative residual of an exact sum, by precision.
TOLERANCE = {"float": 1e-3, "double": 1e-6}
#: Relative rounding error of an explained value. A difference of two values has at least this error.
ROUNDING = {"float": 1e-5, "double": 1e-13}
#: A path with a finite number of steps warns above this relative residual.
STEPS_TOLERANCE = 0.05
#: The warning estimates the number of steps for this relative residual.
STEPS_TARGET = 0.01
#: The largest number of doubtful rows whose sums are computed again in double precision.
FEW = 64
#: So many values are looked at one by one sooner than torch begins to look at all.
SMALL = 2**8
#: What part of a limit is below it however it is rounded.
CLEARLY = 0.99
#: How many values are added up in double precision at once.
TOGETHER = 2**20


@dataclass(frozen=True, eq=False, repr=False)
class Residual:
    """Goal minus sum over all inputs, for each row and explained output node.

    Attributes
    ----------
    absolute : list of (Tensor or None)
        ``decomp_goal`` minus the sum of the attributions over all inputs, ``(B, K)`` in double precision for each
        output layer, None for one that is not selected.
    relative : list of (Tensor or None)
        ``absolute``, divided by the magnitude of the goal or by the sum of the attributions' magnitudes, whichever is
        larger. It lies between -2 and 2. It is 0 where the residual is only rounding of the explained value.
    steps : int or None
        For IntegratedGradient and ExpectedGradient: about how many steps (draws) bring the relative residual down to
        1 %. It is estimated for the worst row, and for draws for a typical row. If the residual is below 1 % already,
        this is ``n``. None for other methods.
    reasons : tuple of str
        Why the method, with these arguments and for this model, need not add up.

    Examples
    --------
    >>> from innsight_py import Converter, run_grad
    >>> model = {"input_dim": [1], "layers": [{"type": "Dense", "weight": [[2.0]], "bias": [3.0]}]}
    >>> run_grad(Converter(model), [[1.0]], times_input=True).residual
    Residual(at most 3 (60 %))
    """

    absolute: list[Tensor | None]
    relative: list[Tensor | None]
    steps: int | None
    reasons: tuple[str, ...]

    def __repr__(self) -> str:
        lines = [text for i in range(len(self.absolute)) if (text := self.largest(i)) is not None]
        return f"Residual({', '.join(lines)})"

    def largest(self, i: int) -> str | None:
        """Say how large the residual of output layer i is at most; None for a layer that is not selected."""
        absolute, relative = self.absolute[i], self.relative[i]
        if absolute is None or relative is None:
            return None
        if bool(absolute.isnan().all()):
            return "not known (NaN)"
        return f"at most {_largest(absolute):.3g} ({100 * _largest(relative):.3g} %)"


def _largest(x: Tensor) -> float:
    return float(x.abs().nan_to_num(nan=0.0, posinf=math.inf).max())


def residual_of(attributions: Attributions) -> Residual | None:
    """Compute the residual of attributions; None for one that decomposes nothing."""
    if not attributions.decomposes or attributions.decomp_goal is None:
        return None
    absolute: list[Tensor | None] = []
    relative: list[Tensor | None] = []
    for i, goal in enumerate(attributions.decomp_goal):
        missing = None if goal is None else _missing(attributions, i, goal)
        absolute.append(missing)
        relative.append(None if missing is None or goal is None else _relative(attributions, i, goal, missing))
    return Residual(absolute, relative, _steps(attributions, relative), (*attributions.cuts, *attributions.losses))


def absolute_residual(attributions: Attributions, i: int) -> Tensor | None:
    """Compute the residual of output layer i alone, ``(B, K)`` in double precision."""
    goal = attributions.decomp_goal[i] if attributions.decomposes and attributions.decomp_goal is not None else None
    return None if goal is None else _missing(attributions, i, goal)


def _missing(attributions: Attributions, i: int, goal: Tensor, rows: Tensor | None = None) -> Tensor:
    """Compute goals minus sums, of all rows or of some."""
    missing = (goal if rows is None else goal[rows]).double()
    for x in attributions.result[i] or ():
        if x is not None:
            missing = missing - _over_inputs(x, rows)
    return missing


def _over_inputs(x: Tensor, rows: Tensor | None, magnitudes: bool = False) -> Tensor:
    """Add up attributions ``(B, *dims, K)``, or their magnitudes, to ``(rows, K)`` in double precision.

    Torch copies what it adds up so, hence some rows at a time.
    """
    together = max(1, TOGETHER // max(1, math.prod(x.shape[1:])))
    axes = tuple(range(1, x.dim() - 1))
    parts = torch.split(x, together) if rows is None else (x[some] for some in torch.split(rows, together))
    return torch.cat([(part.abs() if magnitudes else part).sum(axes, dtype=torch.float64) for part in parts])


def _relative(attributions: Attributions, i: int, goal: Tensor, missing: Tensor, rows: Tensor | None = None) -> Tensor:
    """Compare a residual with what it is the residual of."""
    value = goal if attributions.explained_values is None else attributions.explained_values[i]
    assert value is not None
    if rows is not None:
        goal, value = goal[rows], value[rows]
    total = torch.zeros_like(missing)
    for x in attributions.result[i] or ():
        if x is not None:
            total = total + _over_inputs(x, rows, magnitudes=True)
    scale = torch.maximum(goal.double().abs(), total).clamp(min=torch.finfo(torch.float64).tiny)
    rounding = ROUNDING[attributions.dtype] * value.double().abs()
    return torch.where(missing.abs() <= rounding, torch.zeros_like(missing), missing / scale)


def _steps(attributions: Attributions, relative: Sequence[Tensor | None]) -> int | None:
    """Estimate how many steps would do from how the error falls with their number."""
    n = attributions.steps
    if n is None or attributions.steps_order is None or attributions.cuts:
        return None
    if attributions.steps_order == 1:
        error = max((_largest(x) for x in relative if x is not None), default=0.0)
    else:
        found = torch.cat([x.flatten() for x in relative if x is not None])
        error = float(found.square().nanmean().sqrt())
    if not math.isfinite(error) or error <= STEPS_TARGET:
        return n
    return round_up(n * (error / STEPS_TARGET) ** (1 / attributions.steps_order))


def round_up(number: float) -> int:
    """Round up to two significant digits.

    Examples
    --------
    >>> round_up(1234.5), round_up(7.2)
    (1300, 8)
    """
    unit: int = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return math.ceil(number / unit) * unit


def residual_lines(attributions: Attributions) -> list[tuple[str, str]]:
    """Say what is to be said of a residual when a result is printed."""
    residual = residual_of(attributions)
    if residual is None:
        return []
    texts = [(i, text) for i in range(len(residual.absolute)) if (text := residual.largest(i)) is not None]
    several, keys = len(texts) > 1, attributions.described.output_keys
    lines = [(layer_title("Output layer", i, keys) if several else "Goal minus sum", text) for i, text in texts]
    if residual.steps is not None:
        lines.append(("Steps for 1 %", _steps_text(attributions.steps, residual.steps)))
    exact = TOLERANCE[attributions.dtype]
    if not any(x is not None and bool((x.abs() > exact).any()) for x in residual.relative):
        return lines
    return [*lines, *(("Why", reason) for reason in residual.reasons)]


def _steps_text(n: int | None, steps: int) -> str:
    return f"n={n} is enough" if steps == n else f"about n={steps} (n={n} now)"


def quick_gaps(attributions: Attributions) -> dict[int, Tensor]:
    """Compute sums minus goals quickly, in the precision of the result, to find the rows that are worth a closer look.

    Returns
    -------
    dict of int to Tensor
        ``(B, K)`` by the numbers of the output layers that are explained.
    """
    gaps = {}
    for i, goal in _goals(attributions):
        off = -goal
        for x in attributions.result[i] or ():
            if x is not None:
                off = off + x.sum(tuple(range(1, x.dim() - 1)))
        gaps[i] = off
    return gaps


def warn_if_incomplete(
    attributions: Attributions, reasons: Sequence[str] | None, gaps: Mapping[int, Tensor] | None = None
) -> bool:
    """Warn once of sums that a method with exact sums has missed, of the worst row with the reasons.

    Return whether there were such sums.

    Parameters
    ----------
    attributions : Attributions
        A method's result and goals.
    reasons : sequence of str or None
        Why it can be; None where the method promises nothing.
    gaps : mapping of int to Tensor, optional
        What `quick_gaps` gives, if it is known.
    """
    if reasons is None:
        return False
    limit = TOLERANCE[attributions.dtype]
    gaps = quick_gaps(attributions) if gaps is None else gaps
    for i, goal in _goals(attributions):
        rows = _doubtful(gaps[i], goal, limit)
        if not len(rows):
            continue
        missing = _missing(attributions, i, goal, rows)
        relative = _relative(attributions, i, goal, missing, rows)
        if bool((relative.abs() > limit).any()):
            _warn_of(attributions, i, missing, relative, reasons, rows)
            return True
    return False


def _goals(attributions: Attributions) -> list[tuple[int, Tensor]]:
    return [(i, goal) for i, goal in enumerate(attributions.decomp_goal or ()) if goal is not None]


def _doubtful(gap: Tensor, goal: Tensor, limit: float) -> Tensor:
    """Find the rows whose sums may be too far from the goals."""
    return (gap.abs() > limit * goal.abs()).any(1).nonzero().flatten()


def clearly_complete(
    attributions: Attributions, gaps: Mapping[int, Tensor], rounding: float, amplified: float
) -> bool:  # fmt: skip
    """Tell of few values soon that neither `warn_if_incomplete` nor `worst_entry` finds any.

    Where it is a matter of rounding, and for many values, the answer is no.

    Parameters
    ----------
    attributions : Attributions
        A method's result and goals.
    gaps : mapping of int to Tensor
        What `quick_gaps` gives.
    rounding, amplified : float
        As for `worst_entry`.
    """
    if any(gap.numel() > SMALL for gap in gaps.values()):
        return False
    limit = CLEARLY * TOLERANCE[attributions.dtype]
    for i, goal in _goals(attributions):
        value = (attributions.explained_values or attributions.decomp_goal or [])[i]
        results = [x for x in attributions.result[i] or () if x is not None and x.numel()]
        if value is None or not results:
            return False
        numbers = [x.flatten().tolist() for x in (gaps[i], goal, value)]
        largest = 0.0
        for gap, one, other in zip(*numbers, strict=True):
            size, explained = abs(one), max(abs(one), abs(other))
            if not (abs(gap) <= limit * size and abs(gap) <= CLEARLY * rounding * explained):
                return False
            largest = max(largest, explained)
        if not all(largest_magnitude(x) <= CLEARLY * amplified * largest for x in results):
            return False
    return True


class Entry(NamedTuple):
    """One row and node, and how far what they sum to is from what is explained.

    Attributes
    ----------
    row, node : int
        Number of the row, and of the node among the selected ones.
    missing : float
        Goal minus sum.
    magnitudes : float
        Sum of the magnitudes.
    explained : float
        Magnitude of the goal or of the explained value, whichever is larger.
    """

    row: int
    node: int
    missing: float
    magnitudes: float
    explained: float


def worst_entry(attributions: Attributions, i: int, gap: Tensor, rounding: float, amplified: float) -> Entry | None:
    """Find the worst entry of output layer i that misses more than a part of what is explained, or exceeds it.

    Parameters
    ----------
    attributions : Attributions
        A method's result and goals.
    i : int
        Number of the output layer.
    gap : Tensor
        What `quick_gaps` gives for it.
    rounding : float
        What may be missing, relative to what is explained.
    amplified : float
        How many times what is explained the largest magnitude of all may be, relative to the largest goal or value.
    """
    goal, values = (
        (attributions.decomp_goal or [])[i],
        (attributions.explained_values or attributions.decomp_goal or [])[i],
    )
    results = [x for x in attributions.result[i] or () if x is not None and x.numel()]
    if goal is None or values is None or not results:
        return None
    explained = torch.maximum(goal.abs(), values.abs())
    everywhere = max(map(largest_magnitude, results)) > amplified * float(explained.max())
    doubtful = (gap.abs() > rounding * explained).any(1) | everywhere
    rows = doubtful.nonzero().flatten()[:FEW]
    if not len(rows):
        return None
    missing, some = _missing(attributions, i, goal, rows), explained[rows].double()
    magnitudes = sum(_over_inputs(x, rows, magnitudes=True) for x in results)
    assert isinstance(magnitudes, Tensor)
    some = some.clamp(min=torch.finfo(torch.float32).tiny)
    badness = torch.maximum(missing.abs() / (rounding * some), magnitudes / (amplified * some)).nan_to_num(nan=0.0)
    at, k = divmod(int(badness.argmax()), badness.shape[1])
    numbers = (float(x[at, k]) for x in (missing, magnitudes, some))
    return Entry(int(rows[at]), k, *numbers)


def misses_goals(attributions: Attributions) -> bool:
    """Tell quickly whether a sum may miss a visible part of its goal; no where none does."""
    gaps = quick_gaps(attributions)
    return any(len(_doubtful(gaps[i], goal, STEPS_TOLERANCE)) for i, goal in _goals(attributions))


def warn_of_few_steps(attributions: Attributions) -> None:
    """Warn once where too few steps miss a visible part of the goal."""
    residual = residual_of(attributions)
    assert residual is not None
    for i, (missing, relative) in enumerate(zip(residual.absolute, residual.relative, strict=True)):
        if missing is None or relative is None or not bool((relative.abs() > STEPS_TOLERANCE).any()):
            continue
        few = f"n={attributions.steps} steps are too few; about n={residual.steps} would bring it down to 1 %"
        _warn_of(attributions, i, missing, relative, attributions.cuts or [few])
        return


def _warn_of(
    attributions: Attributions,
    i: int,
    missing: Tensor,
    relative: Tensor,
    reasons: Sequence[str],
    rows: Tensor | None = None,
) -> None:
    worst = int(relative.abs().nan_to_num(nan=0.0).argmax())
    at, k = divmod(worst, relative.shape[1])
    b = at if rows is None else int(rows[at])
    goals = (attributions.decomp_goal or [])[i]
    assert goals is not None
    goal, gap, label = float(goals[b, k]), float(missing[at, k]), attributions.node_label(i, k, b)
    row = attributions.data_name(b)
    warn(
        f"{attributions.title}: the attributions do not add up. For {row} and '{label}' their sum is "
        f"{goal - gap:.6g} instead of {goal:.6g} (residual {gap:.3g}, {100 * abs(float(relative[at, k])):.3g} %). "
        f"Why: {'; '.join(reasons)}. See 'residual' for all rows."
    )
