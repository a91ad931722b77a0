"""Whether attributions add up: what is missing between their sum and what they are to explain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from innsight_py._checks import warn

if TYPE_CHECKING:
    from innsight_py.explanation import Explanation

#: Relative residual up to which a method that promises exact sums has kept its promise.
TOLERANCE = {"float": 1e-3, "double": 1e-6}
#: Rounding of the explained value itself, which a difference of two of them cannot undercut.
ROUNDING = {"float": 1e-5, "double": 1e-13}
#: Relative residual up to which a path with a finite number of steps is taken for good.
STEPS_TOLERANCE = 0.05
#: Relative residual that the number of steps that would do is estimated for.
STEPS_TARGET = 0.01
#: How many values are added up in double precision at once.
TOGETHER = 2**20


@dataclass(frozen=True, eq=False, repr=False)
class Residual:
    """What the sum over all inputs misses of the goal, for each row and explained output node.

    Attributes
    ----------
    absolute : list of (Tensor or None)
        ``decomp_goal`` minus the sum of the attributions over all inputs, ``(B, K)`` in double precision for each
        output layer, None for one that is not selected.
    relative : list of (Tensor or None)
        The same as a part of the goal's magnitude or of the sum of the attributions' magnitudes, whichever is larger;
        between -2 and 2, and 0 where it is no more than rounding of the explained value.
    steps : int or None
        For IntegratedGradient and ExpectedGradient about how many steps (draws) would bring the relative residual down
        to 1 %: in the worst row, or for draws in a typical one. ``n`` itself where it is there. None for other methods.
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


def residual_of(method: Explanation) -> Residual | None:
    """Compute the residual of a method; None for one that decomposes nothing."""
    if not method.decomposes or method.decomp_goal is None:
        return None
    absolute: list[Tensor | None] = []
    relative: list[Tensor | None] = []
    for i, goal in enumerate(method.decomp_goal):
        missing = None if goal is None else _missing(method, i, goal)
        absolute.append(missing)
        relative.append(None if missing is None or goal is None else _relative(method, i, goal, missing))
    return Residual(absolute, relative, _steps(method, relative), tuple(method._losses()))


def absolute_residual(method: Explanation, i: int) -> Tensor | None:
    """Compute the residual of output layer i alone, ``(B, K)`` in double precision."""
    goal = method.decomp_goal[i] if method.decomposes and method.decomp_goal is not None else None
    return None if goal is None else _missing(method, i, goal)


def _missing(method: Explanation, i: int, goal: Tensor, rows: Tensor | None = None) -> Tensor:
    """Compute goals minus sums, of all rows or of some."""
    missing = (goal if rows is None else goal[rows]).double()
    for x in method.result[i] or ():
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


def _relative(method: Explanation, i: int, goal: Tensor, missing: Tensor, rows: Tensor | None = None) -> Tensor:
    """Compare a residual with what it is the residual of."""
    value = goal if method.explained_values is None else method.explained_values[i]
    assert value is not None
    if rows is not None:
        goal, value = goal[rows], value[rows]
    total = torch.zeros_like(missing)
    for x in method.result[i] or ():
        if x is not None:
            total = total + _over_inputs(x, rows, magnitudes=True)
    scale = torch.maximum(goal.double().abs(), total).clamp(min=torch.finfo(torch.float64).tiny)
    rounding = ROUNDING[method.dtype] * value.double().abs()
    return torch.where(missing.abs() <= rounding, torch.zeros_like(missing), missing / scale)


def _steps(method: Explanation, relative: Sequence[Tensor | None]) -> int | None:
    """Estimate how many steps would do from how the error falls with their number."""
    if method.steps_order is None:
        return None
    n: int = method.n  # type: ignore[attr-defined]
    if method.steps_order == 1:
        error = max((_largest(x) for x in relative if x is not None), default=0.0)
    else:
        found = torch.cat([x.flatten() for x in relative if x is not None])
        error = float(found.square().nanmean().sqrt())
    if not math.isfinite(error) or error <= STEPS_TARGET:
        return n
    return round_up(n * (error / STEPS_TARGET) ** (1 / method.steps_order))


def round_up(number: float) -> int:
    """Round up to two significant digits.

    Examples
    --------
    >>> round_up(1234.5), round_up(7.2)
    (1300, 8)
    """
    unit: int = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return math.ceil(number / unit) * unit


def residual_lines(method: Explanation) -> list[tuple[str, str]]:
    """Say what is to be said of a residual when a result is printed."""
    residual = method.residual
    if residual is None:
        return []
    texts = [(i, text) for i in range(len(residual.absolute)) if (text := residual.largest(i)) is not None]
    lines = [(f"Output layer {i + 1}" if len(texts) > 1 else "Goal minus sum", text) for i, text in texts]
    if residual.steps is not None:
        lines.append(("Steps for 1 %", _steps_text(method, residual.steps)))
    exact = TOLERANCE[method.dtype]
    if not any(x is not None and bool((x.abs() > exact).any()) for x in residual.relative):
        return lines
    return [*lines, *(("Why", reason) for reason in residual.reasons)]


def _steps_text(method: Explanation, steps: int) -> str:
    n: int = method.n  # type: ignore[attr-defined]
    return f"n={n} is enough" if steps == n else f"about n={steps} (n={n} now)"


def warn_if_incomplete(method: Explanation, reasons: Callable[[], Sequence[str] | None]) -> None:
    """Warn once of sums that a method with exact sums has missed, of the worst row with the reasons.

    Parameters
    ----------
    method : Explanation
        The method, with its result and goals.
    reasons : callable
        Says why it can be; None where the method promises nothing.
    """
    limit = TOLERANCE[method.dtype]
    doubts = [(i, goal, _doubtful(method, i, goal, limit)) for i, goal in _goals(method)]
    why = reasons() if any(len(rows) for *_, rows in doubts) else None
    if why is None:
        return
    for i, goal, rows in doubts:
        missing = _missing(method, i, goal, rows)
        relative = _relative(method, i, goal, missing, rows)
        if bool((relative.abs() > limit).any()):
            _warn_of(method, i, missing, relative, why, rows)
            return


def _goals(method: Explanation) -> list[tuple[int, Tensor]]:
    return [(i, goal) for i, goal in enumerate(method.decomp_goal or ()) if goal is not None]


def _doubtful(method: Explanation, i: int, goal: Tensor, limit: float) -> Tensor:
    """Find quickly, in the precision of the result, the rows whose sums may be too far from the goals."""
    reached = [x.sum(tuple(range(1, x.dim() - 1))) for x in method.result[i] or () if x is not None]
    off = -goal
    for total in reached:
        off = off + total
    return (off.abs() > limit * goal.abs()).any(1).nonzero().flatten()


def warn_of_few_steps(method: Explanation) -> None:
    """Warn once where too few steps miss a visible part of the goal."""
    if not any(len(_doubtful(method, i, goal, STEPS_TOLERANCE)) for i, goal in _goals(method)):
        return
    residual = residual_of(method)
    assert residual is not None
    for i, (missing, relative) in enumerate(zip(residual.absolute, residual.relative, strict=True)):
        if missing is None or relative is None or not bool((relative.abs() > STEPS_TOLERANCE).any()):
            continue
        n: int = method.n  # type: ignore[attr-defined]
        reason = f"n={n} steps are too few; about n={residual.steps} would bring it down to 1 %"
        _warn_of(method, i, missing, relative, [reason])
        return


def _warn_of(
    method: Explanation, i: int, missing: Tensor, relative: Tensor, reasons: Sequence[str], rows: Tensor | None = None
) -> None:
    worst = int(relative.abs().nan_to_num(nan=0.0).argmax())
    at, k = divmod(worst, relative.shape[1])
    b = at if rows is None else int(rows[at])
    goals, labels = (method.decomp_goal or [])[i], method.output_label[i]
    assert goals is not None
    assert labels is not None
    goal, gap = float(goals[b, k]), float(missing[at, k])
    warn(
        f"{method.title}: the attributions do not add up. For data_{b + 1} and '{labels[k]}' their sum is "
        f"{goal - gap:.6g} instead of {goal:.6g} (residual {gap:.3g}, {100 * abs(float(relative[at, k])):.3g} %). "
        f"Why: {'; '.join(reasons)}. See 'residual' for all rows."
    )
