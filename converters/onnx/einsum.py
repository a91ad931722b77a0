"""The table of ONNX operators: sums of products by their letters, as products of matrices."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from innsight_py.converters.compositions import broadcast_to
from innsight_py.converters.onnx.activations import text
from innsight_py.converters.onnx.arithmetic import Term, multiplied, term
from innsight_py.converters.onnx.writer import Call, OnnxWriter, Result, reads, refuse


@reads("Einsum", writes="Dense MatMul Multiply Reduce GlobalPooling Scale")
def _einsum(write: OnnxWriter, call: Call) -> Result:
    operands, result = _letters(call)
    terms = [_diagonal(write, term(call, i), axes) for i, axes in enumerate(operands)]
    y, axes = terms[0]
    for i in range(1, len(terms)):
        later = {*result, *(letter for _, rest in terms[i + 1 :] for letter in rest)}
        y, axes = _contracted(write, call, (y, axes), terms[i], later)
    y, axes = _summed(write, y, axes, set(result))
    order = [axes.index(letter) for letter in result]
    return y.permute(order) if isinstance(y, Tensor) else write.permute(y, order) if order else y


def _letters(call: Call) -> tuple[list[str], str]:
    """Return the letters of each operand's axes and of the result's; the axes of an ellipsis have letters too."""
    equation = text(call, "equation", "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    operands = left.split(",")
    ranks = [len(x.shape) for x in call.inputs if x is not None]
    if len(operands) != len(ranks):
        raise refuse(call, f"its equation '{equation}' is not one of {len(ranks)} operands")
    used = {c for c in equation if c.isalpha()}
    free = [chr(c) for c in range(0x3B1, 0x3B1 + 64) if chr(c) not in used]
    most = max(
        (rank - len(o.replace("...", "")) for rank, o in zip(ranks, operands, strict=True) if "..." in o), default=0
    )
    dots = "".join(free[:most])
    full = []
    for rank, operand in zip(ranks, operands, strict=True):
        count = rank - len(operand.replace("...", ""))
        full.append(operand.replace("...", dots[most - count :] if count else ""))
    if any(len(axes) != rank for axes, rank in zip(full, ranks, strict=True)):
        raise refuse(call, f"its equation '{equation}' does not fit its operands")
    if arrow:
        return full, right.replace("...", dots)
    once = sorted({c for c in used if left.count(c) == 1})
    return full, dots + "".join(once)


def _diagonal(write: OnnxWriter, x: Term, axes: str) -> tuple[Term, str]:
    """Write the diagonal where a letter comes twice."""
    distinct = "".join(dict.fromkeys(axes))
    if distinct == axes:
        return x, axes
    numbers = torch.arange(math.prod(x.shape)).reshape(x.shape)
    names = {letter: chr(97 + i) for i, letter in enumerate(distinct)}
    equation = f"{''.join(names[c] for c in axes)}->{''.join(names[c] for c in distinct)}"
    picked = torch.einsum(equation, numbers.double()).long()
    return (x.flatten()[picked] if isinstance(x, Tensor) else write.picked(x, picked)), distinct


def _summed(write: OnnxWriter, x: Term, axes: str, kept: set[str]) -> tuple[Term, str]:
    """Write the sum over the axes whose letters nobody needs."""
    gone = [i for i, letter in enumerate(axes) if letter not in kept]
    if gone:
        x = x.sum(gone) if isinstance(x, Tensor) else write.reduce(x, "sum", gone, False)
    return x, "".join(letter for letter in axes if letter in kept)


def _contracted(
    write: OnnxWriter, call: Call, first: tuple[Term, str], second: tuple[Term, str], later: set[str]
) -> tuple[Term, str]:
    """Write the product of two operands, summed over what nobody needs later, as one of matrices."""
    x, left = _summed(write, *first, later | set(second[1]))
    y, right = _summed(write, *second, later | set(left))
    sizes = dict(zip(left, x.shape, strict=True)) | dict(zip(right, y.shape, strict=True))
    sizes |= {c: n for c, n in zip(left, x.shape, strict=True) if n != 1}
    both = [c for c in left if c in right and c in later]
    common = [c for c in left if c in right and c not in later]
    rows = [c for c in left if c not in right]
    columns = [c for c in right if c not in left]
    if any(n not in (1, sizes[c]) for c, n in (*zip(left, x.shape, strict=True), *zip(right, y.shape, strict=True))):
        raise refuse(call, "the sizes of its operands contradict each other")

    def arranged(z: Term, axes: str, order: list[str], shape: tuple[int, ...]) -> Term:
        full = tuple(sizes[c] for c in axes)
        indices = [axes.index(c) for c in order]
        if isinstance(z, Tensor):
            return z.expand(full).permute(indices).reshape(shape)
        z = broadcast_to(write, z, full) if full != z.shape else z
        return write.reshape(write.permute(z, indices) if indices else z, shape)

    def size(letters: list[str]) -> int:
        return math.prod(sizes[c] for c in letters)

    batch = (size(both),) if both else ()
    a = arranged(x, left, [*both, *rows, *common], (*batch, size(rows), size(common)))
    b = arranged(y, right, [*both, *common, *columns], (*batch, size(common), size(columns)))
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        z: Term = a @ b
    else:
        z = multiplied(write, call, a, b)
    shape = tuple(sizes[c] for c in (*both, *rows, *columns))
    return (z.reshape(shape) if isinstance(z, Tensor) else write.reshape(z, shape)), "".join([*both, *rows, *columns])
