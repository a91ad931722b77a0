"""The numbers of tensors in the key of a module: of small ones a hash, of large ones what a conversion has copied.

A conversion copies the weights. The same module again has the same weights if they equal these copies, bit by bit: that
is read at the speed of memory, four times as fast as a hash, and misses no change, whoever made it in whatever way.
"""

from __future__ import annotations

import hashlib
import math
import weakref
from collections.abc import Hashable, Iterable

import torch
from torch import Tensor

#: From how many bytes on a tensor is large.
LARGE = 2**18


class Contents:
    """The large tensors of a module, from the question whether it is known until its conversion is remembered."""

    def __init__(self) -> None:
        self._large: list[Content] = []
        self._memory: set[int] = set()

    def of(self, x: Tensor) -> Hashable:
        """Return the numbers of a tensor."""
        self._memory.add(x.untyped_storage().data_ptr())
        if x.numel() * x.element_size() < LARGE:
            return digest(x)
        content = Content(x)
        self._large.append(content)
        return content

    def settle(self, copies: Iterable[Tensor]) -> bool:
        """Let go of the module's own tensors: a copy of each takes its place, or a hash where there is none.

        False if one of them was changed since the question.
        """
        known: dict[Hashable, list[Tensor]] = {}
        for copy in copies:
            if copy.is_cpu and copy.is_contiguous() and copy.untyped_storage().data_ptr() not in self._memory:
                known.setdefault((copy.shape, copy.dtype), []).append(copy)
        return all(content.settle(known) for content in self._large)


class Content:
    """The numbers of one large tensor: those that it has at any time, and once it is settled those that it had."""

    def __init__(self, x: Tensor) -> None:
        self._now: Tensor | None = x
        self._trace = _trace(x)
        self._copy: weakref.ref[Tensor] | None = None
        self._digest: bytes | None = None

    def settle(self, known: dict[Hashable, list[Tensor]]) -> bool:
        """Let a copy or a hash take the place of the tensor; False if the tensor was changed."""
        x, self._now = self._now, None
        if x is None:
            return False
        copy = next((copy for copy in known.get((x.shape, x.dtype), ()) if _are_same(x, copy)), None)
        if copy is not None:
            self._copy = weakref.ref(copy)
            return True
        self._digest = digest(x)
        return _trace(x) == self._trace

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Content):
            return self is other
        settled, other = (self, other) if self._now is None else (other, self)
        x = other._now
        if x is None or settled._now is not None:
            return False  # nothing says what a tensor had been when it was looked at before
        if settled._copy is None:
            return settled._digest == digest(x)
        copy = settled._copy()
        return copy is not None and copy.device == x.device and _are_same(x, copy)

    def __hash__(self) -> int:
        return hash(Content)


def digest(x: Tensor) -> bytes:
    """Return a hash of the numbers of a tensor.

    Examples
    --------
    >>> digest(torch.tensor([0.0])) == digest(torch.tensor([-0.0]))
    False
    """
    return hashlib.sha256(_flat(x).view(torch.uint8).numpy().data if x.numel() else b"").digest()


def _flat(x: Tensor) -> Tensor:
    return x.detach().contiguous().flatten()


def _are_same(x: Tensor, copy: Tensor) -> bool:
    """Tell whether two tensors have the same bits, so that zeros have signs and NaNs equal themselves."""
    both = _words(x, copy)
    return all(torch.equal(own, other) for own, other in zip(*both, strict=True))


def _trace(x: Tensor) -> tuple[int, ...]:
    """Return what a change in the middle of a conversion would alter: how often it was changed, and a sum of words."""
    ((words, rest),) = _words(x)
    return 0 if x.is_inference() else x._version, int(words.sum()), int(rest.sum())


#: Words that bits are read in, by their number of bytes.
_WORDS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}


def _words(*tensors: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the bits of tensors in words, and the bytes that are left.

    Words of eight bytes are read quickest. They are smaller where a tensor, a part of another, begins between two.
    """
    flat = [_flat(x).view(torch.uint8) for x in tensors]
    size = math.gcd(8, *(x.storage_offset() for x in flat))
    ends = [len(x) // size * size for x in flat]
    return [(x[:end].view(_WORDS[size]), x[end:]) for x, end in zip(flat, ends, strict=True)]
