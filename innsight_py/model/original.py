"""Whether a converted model computes what the original does: both are run on random inputs and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from innsight_py.converters import Reading
from innsight_py.converters.reading import Run
from innsight_py.layers.cast import Cast
from innsight_py.model.converted import ConvertedModel
from innsight_py.model.derivative import DIFFERS_EACH_TIME, ROWS, STEP, compare_gradients
from innsight_py.model.draws import SCALES, rows_beyond_thresholds, rows_near_and_far
from innsight_py.model.tokens import with_vectors
from innsight_py.spec import ModelSpec, SpecError
from innsight_py.spec.keys import default_keys, layer_title

#: Models with more values than this in one forward pass of one row are compared with the original in single precision.
LARGE_MODEL = 5_000_000
#: Models with more values than this are compared on two ordinary rows, and those far out; others on three.
HEAVY_MODEL = 500_000
#: Where an original has a second computation in double precision: what this may differ by, as its constants have the
#: digits of single precision, and how much of that may change over a step of a difference.
SAME, STEADY = 1e-6, 1e-11


def compare_with_original(reading: Reading, spec: ModelSpec, model: ConvertedModel) -> None:
    """Run random inputs through the original and the converted model, and refuse one that computes something else.

    In double precision; in single where the original has constants or casts of single precision, and for large models,
    where the double forward passes would take longer than the rest of the conversion. Then rows beyond the thresholds
    of the model are compared, and a gradient.

    Raises
    ------
    SpecError
        If the original cannot be run, or outputs or gradients differ; the message names the first layer that does.
    """
    assert reading.run is not None
    draws = with_vectors(model, rows_near_and_far(spec, reading.fixed), reading.fixed)
    wrong: int | None = None
    double, single = (torch.float64, 1e-9), (torch.float32, 1e-5)
    large = model.sizes.trace > LARGE_MODEL
    least = _rounding(model)
    chosen = [0, 1, *(row for row, scale in enumerate(SCALES) if scale > 1)]
    chosen = chosen if model.sizes.trace > HEAVY_MODEL else list(range(len(SCALES)))
    scales = [SCALES[row] for row in chosen]
    for dtype, tolerance in (single,) if large else (double, single):
        inputs = [x[chosen].to(dtype) for x in draws]
        tolerance = max(tolerance, least)
        try:
            expected = _run(reading, inputs)
        except Exception as error:
            if isinstance(error, OSError | MemoryError):  # a time limit, for example
                raise
            if dtype == torch.float32:
                shapes = ", ".join(map(str, spec.input_dim))
                raise SpecError(
                    f"The original fails for random inputs of shape {shapes}: {str(error).rstrip('.')}."
                    f"{_remark(reading)}"
                ) from error
            continue
        converted = ConvertedModel(spec, dtype, like=model)
        with torch.no_grad():
            found = converted(*inputs)
        wrong = _which_differs(found, expected, scales, tolerance)
        if wrong is None:
            more = None if large else rows_beyond_thresholds(spec, converted, inputs, reading.fixed)
            if more is not None:
                inputs = more
                with torch.no_grad():
                    wrong = _which_differs(converted(*more), _run(reading, more), [300.0] * len(more[0]), tolerance)
            if wrong is None:
                if reading.double is not None and not large:
                    _compare_in_double(reading, reading.double, ConvertedModel(spec, torch.float64, like=model), draws)
                else:
                    compare_gradients(reading, converted, [x.to(dtype) for x in draws], least)
                return
            break
    assert wrong is not None
    keys = spec.output_keys or default_keys("output", len(spec.outputs))
    raise SpecError(
        f"{layer_title('Output', wrong, keys)} of the converted model is not the original's: "
        f"{_first_difference(reading, spec, model, inputs)}{_remark(reading)}"
    )


def _remark(reading: Reading) -> str:
    """Return what the door says to try, as a sentence that follows others."""
    text = reading.remark() if reading.remark is not None else ""
    return f" {text}" if text else ""


def _compare_in_double(reading: Reading, double: Run, model: ConvertedModel, draws: Sequence[Tensor]) -> None:
    """Compare gradients with differences of the original in double precision.

    Not where it cannot be run in that, and not where it has fewer digits, though it says double: then how far it is
    from the converted model changes from one point to the next, and a small difference of its outputs is rounding.
    """
    rows = [x[:ROWS] for x in draws]
    beside = [x * (1 + STEP) for x in rows]
    try:
        expected = [double(rows), double(beside)]
    except RuntimeError:
        return
    with torch.no_grad():
        found = [model(*rows), model(*beside)]
    for ours, theirs, ours_beside, theirs_beside in zip(found[0], expected[0], found[1], expected[1], strict=True):
        scale = max(1.0, float(theirs.abs().max()))
        moved = (ours_beside - theirs_beside) - (ours - theirs)
        if _differ(ours, theirs, SAME) or not bool((moved.abs() <= STEADY * scale).all()):
            return
    compare_gradients(replace(reading, run=double), model, draws, 0.0)


def _rounding(model: ConvertedModel) -> float:
    """Return what the outputs of a model that rounds to half precision may differ by: a few of its last digits."""
    layers = (model.layer(node.name) for node in model.nodes)
    return max((8 * torch.finfo(x.dtype).eps for x in layers if isinstance(x, Cast) and x.rounds), default=0.0)


def _run(reading: Reading, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """Run the original on rows; one by one where it can only take one (a mask that is bound to one instance)."""
    assert reading.run is not None
    try:
        return reading.run([x.clone() for x in inputs])  # a model may change its input in place
    except Exception:
        try:
            rows = [reading.run([x[i : i + 1].clone() for x in inputs]) for i in range(len(inputs[0]))]
        except Exception:
            rows = []
        if not rows:
            raise
        return [torch.cat(parts) for parts in zip(*rows, strict=True)]


def _which_differs(
    found: Sequence[Tensor], expected: Sequence[Tensor], scales: Sequence[float], tolerance: float
) -> int | None:
    pairs = enumerate(zip(found, expected, strict=True))
    return next((n for n, (a, b) in pairs if a.shape != b.shape or _any_differs(a, b, scales, tolerance)), None)


def _any_differs(ours: Tensor, theirs: Tensor, scales: Sequence[float], tolerance: float) -> bool:
    """Tell whether a row differs. Rows far out, where numbers may overflow, are there for bounds and saturation."""
    for scale, a, b in zip(scales, ours, theirs, strict=True):
        if scale == 1:
            if _differ(a, b, tolerance):
                return True
        elif bool(b.isfinite().all()) and bool(a.isfinite().all()) and _differ(a, b, 100 * tolerance):
            return True
    return False


def _differ(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    """Tell whether values differ by more than a tolerance relative to the largest, or to 1."""
    scale = max(1.0, float(theirs.abs().nan_to_num(posinf=0.0).max()))
    return not torch.allclose(ours, theirs.to(ours.dtype), rtol=0, atol=tolerance * scale, equal_nan=True)


def _first_difference(reading: Reading, spec: ModelSpec, model: ConvertedModel, inputs: Sequence[Tensor]) -> str:
    """Say which layer is the first to differ for an instance that differs when it comes alone."""
    assert reading.run is not None
    converted = ConvertedModel(spec, inputs[0].dtype, like=model)
    for i in range(len(inputs[0])):
        rows = [x[i : i + 1] for x in inputs]
        expected = reading.run([x.clone() for x in rows])
        if any(value.dim() < 2 for value in expected):
            whole = [k for k, value in enumerate(expected) if value.dim() > 1]
            choice = f" Or leave it out: Converter(..., output={whole[0]})." if whole else ""
            return (
                "the module returns a single number for all rows together. Let it return one for each row, (B,), or "
                f"for each node, (B, nodes).{choice}"
            )
        several = next((len(value) for value in expected if len(value) != 1), None)
        if several is not None:
            return (
                f"for one instance the original returns {several} rows. Its first axis has to be that of the rows; "
                "keep it (reshape to (len(x), -1), for example)."
            )
        again = reading.run([x.clone() for x in rows])
        if any(a.shape == b.shape and _differ(a, b, 1e-6) for a, b in zip(expected, again, strict=True)):
            return DIFFERS_EACH_TIME
        with torch.no_grad():
            trace = converted.trace(rows)
        found = [trace.values[name] for name in spec.outputs]
        if not any(a.shape != b.shape or _differ(a, b, 1e-4) for a, b in zip(found, expected, strict=True)):
            continue
        theirs = reading.values(rows) if reading.values is not None else {}
        for layer in spec.layers:
            value = theirs.get(layer.name)
            if value is not None and value.is_floating_point():
                ours = trace[layer.name].output[0]
                if ours.shape != value.shape or _differ(ours, value.to(ours.dtype), 1e-4):
                    return (
                        f"the first layer that differs is {layer.where}. Please report this as a bug, with the model."
                    )
        return "no single layer shows where. Please report this as a bug, with the model."
    return (
        "it agrees for a single instance, but the answer for one instance depends on the others that it comes with "
        "(a mean over the batch, for example). Such a model cannot be explained instance by instance."
    )
