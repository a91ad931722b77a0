"""Questions about all entries of a tensor, asked in the form that torch answers quickest.

On a CPU comparisons that give truth values, `any`, `all`, `isfinite` and `where` take two to ten times as long as
arithmetic does: they are not vectorised, or wait for branches.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

#: So many entries stay in a core's cache between two passes over them (found by timing).
IN_CACHE = 2**16


def all_finite(x: Tensor) -> bool:
    """Tell whether there is no NaN and no infinity among the entries.

    Examples
    --------
    >>> all_finite(torch.tensor([1.0, -2.0])), all_finite(torch.tensor([1.0, float("nan")]))
    (True, False)
    """
    if math.isfinite(x.sum().item()):  # one NaN or infinity makes the sum one
        return True
    return not x.numel() or all(math.isfinite(end) for end in torch.stack(torch.aminmax(x)).tolist())


def are_finite(tensors: Iterable[Tensor]) -> bool:
    """Tell whether there is no NaN and no infinity among the entries of some tensors.

    Examples
    --------
    >>> are_finite([torch.tensor([1.0]), torch.tensor([float("inf")])])
    False
    """
    return all(map(all_finite, tensors))


def largest_magnitude(x: Tensor) -> float:
    """Return the largest magnitude of all entries; NaN if there is one.

    Examples
    --------
    >>> largest_magnitude(torch.tensor([1.0, -2.0]))
    2.0
    """
    low, high = torch.aminmax(x)
    return max(-low.item(), high.item())


def sum_of_magnitudes(x: Tensor) -> float:
    """Return the sum of the magnitudes of all entries.

    Examples
    --------
    >>> sum_of_magnitudes(torch.tensor([1.0, -2.0]))
    3.0
    """
    if x.numel() <= IN_CACHE or x.device.type != "cpu":
        return x.abs().sum().item()
    magnitudes, total = x.new_empty(IN_CACHE), 0.0
    for part in parts(x if is_dense(x) else x.contiguous()):
        total += torch.abs(part, out=magnitudes[: len(part)]).sum().item()
    return total


def parts(x: Tensor) -> Iterator[Tensor]:
    """Cut a dense tensor into parts that stay in a core's cache between two passes over them, in their order in memory.

    Examples
    --------
    >>> [len(part) for part in parts(torch.ones(2, 2**15 + 1))]
    [65536, 2]
    """
    flat = x.as_strided((x.numel(),), (1,))
    return (flat[start : start + IN_CACHE] for start in range(0, len(flat), IN_CACHE))


def as_rows(*tensors: Tensor) -> list[Tensor] | None:
    """Return tensors ``(rows or 1, *dims)`` as ``(rows or 1, entries)``, in the order that all have in memory.

    None if they have no such order in common, or lie on a device without a cache of that kind.

    Examples
    --------
    >>> [x.shape for x in as_rows(torch.ones(2, 3, 4), torch.ones(1, 3, 4))]
    [torch.Size([2, 12]), torch.Size([1, 12])]
    >>> as_rows(torch.ones(2, 3, 4), torch.ones(1, 4, 3).mT) is None
    True
    """
    first, *_ = tensors
    rows, entries = len(first), first[0].numel()
    order = [(s, n) for s, n in zip(first.stride()[1:], first.shape[1:], strict=True) if n > 1]
    if first.device.type != "cpu" or not is_dense(first[0]):
        return None
    for x in tensors:
        alike = x.shape[1:] == first.shape[1:] and x.dtype == first.dtype and len(x) in (1, rows)
        if not alike or (len(x) > 1 and x.stride(0) != entries):
            return None
        if [(s, n) for s, n in zip(x.stride()[1:], x.shape[1:], strict=True) if n > 1] != order:
            return None
    return [x.as_strided((len(x), entries), (entries, 1)) for x in tensors]


def parts_of_rows(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Cut tensors ``(rows or 1, entries)`` into parts that stay in the caches of all threads; the first is the largest.

    Examples
    --------
    >>> [[tuple(x.shape) for x in part] for part in parts_of_rows([torch.ones(2, 5), torch.ones(1, 5)])]
    [[(2, 5), (1, 5)]]
    """
    rows, entries = tensors[0].shape
    together = IN_CACHE * torch.get_num_threads()
    width = min(entries, together)
    height = together // width
    for top in range(0, rows, height):
        for left in range(0, entries, width):
            places = slice(top, top + height), slice(left, left + width)
            yield [x[places] if len(x) == rows else x[:, places[1]] for x in tensors]


def is_dense(x: Tensor) -> bool:
    """Tell whether the entries lie side by side in memory, in whatever order.

    Examples
    --------
    >>> is_dense(torch.ones(2, 3).T), is_dense(torch.ones(2, 1).expand(2, 3))
    (True, False)
    """
    expected = 1
    for stride, count in sorted((s, n) for s, n in zip(x.stride(), x.shape, strict=True) if n > 1):
        if stride != expected:
            return False
        expected *= count
    return True


def none_below_zero(x: Tensor) -> bool:
    """Tell whether all entries are at least 0; a NaN is not.

    Examples
    --------
    >>> none_below_zero(torch.tensor([1.0, 0.0])), none_below_zero(torch.tensor([1.0, -1.0]))
    (True, False)
    """
    return x.amin().item() >= 0


def is_zero(x: Tensor) -> Tensor:
    """Return 1 where an entry is 0, and 0 elsewhere, in the precision of the entries.

    Examples
    --------
    >>> is_zero(torch.tensor([1.0, 0.0]))
    tensor([0., 1.])
    """
    return torch.eq(x, 0, out=torch.empty_like(x))


def is_positive(x: Tensor) -> Tensor:
    """Return 1 where an entry is above 0, and 0 elsewhere, in the precision of the entries.

    Examples
    --------
    >>> is_positive(torch.tensor([1.0, 0.0, -1.0]))
    tensor([1., 0., 0.])
    """
    return torch.gt(x, 0, out=torch.empty_like(x))


#: Positions are looked for in blocks of `_BLOCK` entries that have any, and in at most `_BLOCKS` of them.
_BLOCK, _BLOCKS = 512, 1 / 8


def few_at_most(x: Tensor, limit: float) -> tuple[Tensor, ...] | None:
    """Return where entries are at most `limit`, or NaN, as an index for each axis; None where these are not few.

    The entries lie side by side in memory.

    Examples
    --------
    >>> x = torch.ones(20, 512)
    >>> x[3, 100] = 0
    >>> few_at_most(x, 0.5)
    (tensor([3]), tensor([100]))
    >>> few_at_most(x, -0.5)
    (tensor([], dtype=torch.int64), tensor([], dtype=torch.int64))
    """
    flat = x.as_strided((x.numel(),), (1,))
    end = x.numel() // _BLOCK * _BLOCK
    blocks = flat[:end].view(-1, _BLOCK)
    some = (blocks.amin(1) > limit).logical_not_().nonzero()
    if len(some) > _BLOCKS * len(blocks):
        return None
    block, within = (blocks[some[:, 0]] > limit).logical_not_().nonzero(as_tuple=True)
    rest = (flat[end:] > limit).logical_not_().nonzero()[:, 0]
    at = torch.cat([some[block, 0] * _BLOCK + within, rest + end])
    axes = sorted(range(x.dim()), key=lambda axis: (-x.stride()[axis], -x.shape[axis]))
    index: list[Tensor] = [at] * x.dim()
    for axis in reversed(axes):
        index[axis], at = at % x.shape[axis], at // x.shape[axis]
    return tuple(index)
