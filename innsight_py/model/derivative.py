"""Whether a converted model has the gradient of its original, along random directions of single rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from innsight_py._checks import warn
from innsight_py._errors import see
from innsight_py.converters import Reading
from innsight_py.layers import Layer
from innsight_py.model.converted import ConvertedModel
from innsight_py.model.graph import Explained, Graph, Step, Trace
from innsight_py.model.tokens import at_vectors, looked_up
from innsight_py.spec import SpecError

#: Relative tolerances of gradients, and of differences of values in double precision.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
DIFFERENCES = 1e-4
#: How far apart the points of a difference are, relative to the size of the row.
STEP = 1e-6
#: The message about an original that has no single answer.
DIFFERS_EACH_TIME = (
    "the original itself answers differently each time, because it draws random numbers or remembers what it was asked "
    "before (a buffer that 'forward' changes, for example). Such a model has no single explanation."
)
#: How many rows may lie at a kink, where the gradient is a matter of convention.
ROWS = 3


def compare_gradients(reading: Reading, model: ConvertedModel, inputs: Sequence[Tensor], tolerance: float) -> None:
    """Compare the gradient of one row, or its differences where autograd cannot say, with the original's.

    Parameters
    ----------
    reading : Reading
        The original.
    model : ConvertedModel
        In the precision of `inputs`.
    inputs : sequence of Tensor
        Rows ``(B, *dims)``.
    tolerance : float
        What the outputs may differ by, which gradients may at least.

    Raises
    ------
    SpecError
        If they differ.

    Warns
    -----
    UserWarning
        If autograd's gradient of the original is not the derivative of its outputs, for a reason that was not traced.
    """
    generator = torch.Generator().manual_seed(3)
    seeds = [torch.randn(dim, generator=generator).to(inputs[0].dtype) for dim in model.output_dims]
    rows = [[values[row : row + 1] for values in inputs] for row in range(min(ROWS, len(inputs[0])))]
    if not reading.custom and not any(_is_right_at_vectors(reading, model, x, seeds, tolerance) for x in rows):
        raise _not_the_original(reading, rows[0])
    if _is_right(reading, model, rows[0], seeds, tolerance):
        return
    wrong = [rows[0], *(x for x in rows[1:] if not _is_right(reading, model, x, seeds, tolerance))]
    if len(wrong) < len(rows) and not reading.custom:
        return  # a kink
    if any(_agrees_with_differences(reading, model, x, seeds) in ((False,) if reading.custom else (False, None))
           for x in wrong):  # fmt: skip
        raise _not_the_original(reading, wrong[0])
    if reading.custom:
        warn(
            f"The module calls functions with a backward of their own that is not their derivative "
            f"({', '.join(reading.custom)}). The converted model has the derivative; "
            "Converter(..., custom_backward='own') takes the backward of the module, as autograd does."
        )
    else:
        warn(
            "The gradient that autograd computes of the module is not the derivative of its outputs (a hook changes "
            "it, for example). The converted model has the derivative; 'torch_grad' explains with autograd's."
        )


def _not_the_original(reading: Reading, x: Sequence[Tensor]) -> SpecError:
    what = (
        "The gradient of the converted model is not the original's, though their outputs agree. "
        "Please report this as a bug, with the model."
    )
    if reading.run is not None:
        first, second = (reading.run([values.clone() for values in x]) for _ in range(2))
        if not all(torch.equal(a, b) for a, b in zip(first, second, strict=True)):
            what = f"The converted model is not the original: {DIFFERS_EACH_TIME}"
    return SpecError(see("not-the-original", what))


def _is_right_at_vectors(
    reading: Reading, model: ConvertedModel, x: Sequence[Tensor], seeds: Sequence[Tensor], tolerance: float
) -> bool:
    """Compare the gradients of a row at the vectors that are looked up for tokens, where the original knows these."""
    section = None if reading.vectors is None else at_vectors(model)
    if section is None or reading.vectors is None:
        return True
    try:
        theirs = reading.vectors(x, seeds)
    except (RuntimeError, NotImplementedError):  # an operator without a gradient
        return True
    with torch.no_grad():
        values = section.enter(x)
        ours = _gradient(section, values, seeds)
    pairs = []
    for name, value, gradient in zip(section.inputs, values, ours, strict=False):
        same = (i for i, (v, _) in enumerate(theirs) if name not in model.inputs and _is_same(v, value))
        place = next(same, None)
        if place is not None:
            _, expected = theirs.pop(place)
            gradient = torch.zeros(value.shape, dtype=value.dtype) if gradient is None else gradient
            pairs.append((gradient, expected.reshape(value.shape).to(value)))
    return _agrees([a for a, _ in pairs], [b for _, b in pairs], max(TOLERANCE[x[0].dtype], tolerance))


def _is_same(vectors: Tensor, value: Tensor) -> bool:
    return vectors.numel() == value.numel() and torch.equal(vectors.flatten().to(value), value.flatten())


def _is_right(
    reading: Reading, model: ConvertedModel, x: Sequence[Tensor], seeds: Sequence[Tensor], tolerance: float
) -> bool:
    """Compare the gradient of a row with autograd's, or with differences where autograd cannot say."""
    try:
        theirs = None if reading.gradient is None else reading.gradient(x, seeds)
    except (RuntimeError, NotImplementedError):  # an operator without a gradient
        theirs = None
    if theirs is None:
        return _agrees_with_differences(reading, model, x, seeds) is not False
    return _agrees(_gradient(model, x, seeds), theirs, max(TOLERANCE[x[0].dtype], tolerance))


def _gradient(model: Graph, x: Sequence[Tensor], seeds: Sequence[Tensor]) -> list[Tensor | None]:
    """Take the gradient of all outputs, times `seeds`, to the inputs."""
    with torch.no_grad():
        trace = model.trace(x)
        found: list[Tensor | None] = [None] * len(model.inputs)
        for name, seed in zip(model.outputs, seeds, strict=True):
            pieces = model.backward(Explained(name, at_preactivation=False), seed[None, None], _step(trace))
            for i, piece in enumerate(pieces):
                before = found[i]
                if piece is not None:
                    found[i] = piece[0] if before is None else before + piece[0]
    return found


def _step(trace: Trace) -> Step:
    def step(layer: Layer, upper: Tensor, name: str, start: Explained | None) -> list[Tensor | None]:
        return layer.gradient(upper, trace[name])

    return step


def _agrees(ours: Sequence[Tensor | None], theirs: Sequence[Tensor | None], tolerance: float) -> bool:
    """Compare gradients where autograd's are numbers, relative to the largest."""
    numbers = [b[b.isfinite()].abs() for b in theirs if b is not None]
    scale = max((float(x.max()) for x in numbers if x.numel()), default=0.0)
    for a, b in zip(ours, theirs, strict=True):
        a = torch.zeros(()) if a is None else a
        b = torch.zeros(()) if b is None else b
        finite = b.isfinite()
        if not bool((((a - b).abs() <= tolerance * scale) | ~finite).all()):
            return False
    return True


def _agrees_with_differences(
    reading: Reading, model: ConvertedModel, x: Sequence[Tensor], seeds: Sequence[Tensor]
) -> bool | None:
    """Compare the derivative along a random direction with a difference of the original's outputs.

    None where differences say nothing: below double precision, and beside values that are taken as given.
    """
    if x[0].dtype != torch.float64 or model.takes_as_given or reading.run is None:
        return None
    generator = torch.Generator().manual_seed(4)
    kinds = reading.spec.get("input_kinds") or [""] * len(x)
    way = [torch.randn(values.shape, generator=generator, dtype=values.dtype) for values in x]
    way = [torch.zeros_like(w) if kind in ("fixed", "tokens") else w for w, kind in zip(way, kinds, strict=True)]
    for looked in looked_up(model):  # a number a little below another is looked up elsewhere
        way[model.inputs.index(looked.source)].flatten(1)[:, looked.positions] = 0.0
    h = STEP * max(1.0, *(float(values.abs().max()) for values in x))
    ends = [reading.run([v + sign * h * w for v, w in zip(x, way, strict=True)]) for sign in (1, -1)]
    slope = sum(
        float(((a - b).to(seed.dtype).flatten() * seed).sum()) / (2 * h)
        for a, b, seed in zip(*ends, seeds, strict=True)
    )
    gradient = _gradient(model, x, seeds)
    products = [(g * w).flatten() for g, w in zip(gradient, way, strict=True) if g is not None]
    ours, size = (float(f) for f in (sum(p.sum() for p in products), sum(p.abs().sum() for p in products)))
    values = max(float(v.abs().max()) for end in ends for v in end)
    return not abs(slope - ours) > DIFFERENCES * max(size, abs(slope)) + 1e-13 * values / h
