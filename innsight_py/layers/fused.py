"""An LSTM by the kernel that torch has for all steps at once, and what its cells had, which the kernel does not say.

The kernel, oneDNN's, is there in single precision on a CPU. It takes what is before the gates, and gives the states.
Once these are known, the gates of all steps are one product, and only the sum of each cell goes from step to step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from innsight_py.functions.layout import has_onednn
from innsight_py.layers.cells import CANDIDATE, GATES_OF_ALL, LSTM_GATES, PRODUCT, SHOWN

#: With larger states, with more entries of those of all rows, or with more features times these (the kernel repeats the
#: product before the gates) the loop is as quick (found by timing).
SMALL, FEW, FEW_PRODUCTS = 256, 2**10, 2**16


class Fed(NamedTuple):
    """What a dense layer before an LSTM takes, ``(rows, steps, features)``, and its weights."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None


def is_quicker(x: Tensor, size: int) -> bool:
    """Return whether the kernel is there for rows ``(rows, steps, features)``, and quicker than a loop."""
    entries = len(x) * size
    return has_onednn(x) and size <= SMALL and 0 < entries <= FEW and entries * x.shape[-1] <= FEW_PRODUCTS


def states(fed: Fed, hidden: Tensor, cell: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the states of all steps, ``(rows, steps, entries)``."""
    biases: list[Tensor] = []
    if fed.bias is not None or bias is not None:
        biases = [weight.new_zeros(len(weight)) if b is None else b for b in (fed.bias, bias)]
    first = [y.unsqueeze(0).contiguous() for y in (hidden, cell)]
    return torch.lstm(fed.x, first, [fed.weight, weight, *biases], bool(biases), 1, 0.0, False, False, True)[0]


def cells(
    gates: Tensor, hidden: Tensor, cell: Tensor, found: Tensor, weight: Tensor, bias: Tensor | None
) -> dict[str, Tensor]:
    """Return what the cells had, by its name.

    Parameters
    ----------
    gates : Tensor
        What the input gives to the gates, ``(rows, steps, gates)``.
    hidden, cell : Tensor
        The states before the first step.
    found : Tensor
        Those of all steps.
    weight, bias : Tensor
        The weights of the state, and what is added to their product.
    """
    rows, steps, size = found.shape
    before = torch.cat([hidden.unsqueeze(1), found.narrow(1, 0, steps - 1)], 1)
    product = linear(before.flatten(0, 1), weight, bias).view(rows, steps, -1)
    sums = product + gates
    gates_of = dict(zip(LSTM_GATES, torch.sigmoid(sums).chunk(4, -1), strict=True))
    gates_of[CANDIDATE] = torch.tanh(sums.narrow(-1, 2 * size, size))
    let_in, kept, new, _ = gates_of.values()
    after = running(kept, let_in * new, cell)
    return {PRODUCT: product, GATES_OF_ALL: sums, **gates_of, "cell": after, SHOWN: torch.tanh(after)}


def running(kept: Tensor, added: Tensor, start: Tensor) -> Tensor:
    """Return the sums ``c = kept c + added`` of all steps, ``(rows, steps, entries)``.

    Steps are summed in stretches, side by side, and what comes from the stretches before is added to each in the end.
    The number of operations grows with the square root of the number of steps.
    """
    rows, steps, size = added.shape
    length = math.isqrt(steps)
    count = steps // length
    out = torch.empty_like(added)
    whole = count * length
    factors, summands, sums = (
        torch.unflatten(y.narrow(1, 0, whole), 1, (count, length)).unbind(2) for y in (kept, added, out)
    )
    products = added.new_empty((length, rows, count, size)).unbind(0)
    sums[0].copy_(summands[0])
    products[0].copy_(factors[0])
    for i in range(1, length):
        torch.addcmul(summands[i], factors[i], sums[i - 1], out=sums[i])
        torch.mul(factors[i], products[i - 1], out=products[i])
    # What comes to each stretch.
    starts = added.new_empty((rows, count + 1, size))
    before = starts.unbind(1)
    before[0].copy_(start)
    for last, product, one, after in zip(sums[-1].unbind(1), products[-1].unbind(1), before, before[1:], strict=False):
        torch.addcmul(last, product, one, out=after)
    starts = starts.narrow(1, 0, count)
    for total, product in zip(sums, products, strict=True):
        total.addcmul_(product, starts)
    last = before[-1]
    for i in range(whole, steps):
        last = torch.addcmul(added.select(1, i), kept.select(1, i), last, out=out.select(1, i))
    return out
