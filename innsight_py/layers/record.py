"""What one pass leaves behind at one layer, and what of it a walk back looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")

#: Under this key a record keeps the positions of the largest inputs.
WINNERS = "winners"


class Needs(NamedTuple):
    """What of a record a walk back looks at."""

    inputs: bool = True
    preactivation: bool = True
    output: bool = True

    def __or__(self, other: object) -> Needs:
        """Return what one of two looks at."""
        assert isinstance(other, Needs)
        return Needs(*(a or b for a, b in zip(self, other, strict=True)))


ALL = Needs()
NOTHING = Needs(inputs=False, preactivation=False, output=False)
INPUTS = Needs(preactivation=False, output=False)


class Record:
    """What one pass saw at one layer.

    Attributes
    ----------
    inputs : tuple of Tensor
        The layer's inputs, each ``(B, *dims)``.
    preactivation, output : Tensor
        Before and after the activation function.
    is_last : bool
        Whether no other walk back comes after this one: what was computed once may be written over.
    kept : dict of str to object
        What was computed once, see `once`.
    """

    __slots__ = ("_given", "_kept_with_partner", "_partner", "inputs", "is_last", "kept", "output", "preactivation")

    def __init__(
        self, inputs: tuple[Tensor, ...], preactivation: Tensor, output: Tensor, kept: dict[str, object] | None = None
    ) -> None:
        self.inputs = inputs
        self.preactivation = preactivation
        self.output = output
        self.kept: dict[str, Any] = kept or {}
        self._given = tuple(kept) if kept else ()
        self.is_last = False
        self._partner: Record | None = None
        self._kept_with_partner: dict[str, object] | None = None

    def rows(self, places: slice, output: Tensor) -> Record:
        """Return what the pass saw of some rows, of which the output is given."""

        def cut(x: Tensor) -> Tensor:
            return x[places]

        before = output if self.preactivation is self.output else cut(self.preactivation)
        given = ((key, self.kept.get(key)) for key in dict.fromkeys((WINNERS, *self._given)))
        kept: dict[str, object] = {key: cut(value) for key, value in given if isinstance(value, Tensor)}
        return Record(tuple(cut(x) for x in self.inputs), before, output, kept)

    def release(self, needs: Needs = NOTHING) -> None:
        """Let go of what nobody looks at any more. A shape without data stays, with which torch refuses to compute."""
        shared = self.preactivation is self.output
        if not needs.inputs:
            self.inputs = tuple(_without_data(x) for x in self.inputs)
        if not needs.output and not (shared and needs.preactivation):
            self.output = _without_data(self.output)
        if not needs.preactivation:
            self.preactivation = self.output if shared else _without_data(self.preactivation)

    def computed(self) -> dict[str, object]:
        """Return what was computed only once a pass, by its name, but for what the pass itself left."""
        return {key: value for key, value in self.kept.items() if key not in self._given}

    def forget(self, but: Iterable[str] = ()) -> None:
        """Let go of all that was computed only once a pass, but for what the pass itself left, and for some by name."""
        self.kept = {key: self.kept[key] for key in (*self._given, *but)}
        for value in self.kept.values():
            if isinstance(value, Record):
                value.forget()
        self._partner, self._kept_with_partner = None, None

    def forget_pair(self, but: Iterable[str] = ()) -> None:
        """Let go of what was computed with a partner, but for some by name."""
        kept = self._kept_with_partner or {}
        self._kept_with_partner = {key: kept[key] for key in but if key in kept}

    def given(self, key: str) -> Tensor | None:
        """Return what the pass itself left under a name; None if there is nothing."""
        found = self.kept.get(key) if key in self._given else None
        return found if isinstance(found, Tensor) else None

    def once(self, key: str, compute: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Compute something that does not depend on the explained output only once a pass."""
        kept = self.kept
        if key not in kept:
            kept[key] = compute(*args, **kwargs)
        return kept[key]  # type: ignore[no-any-return]

    def once_with(self, ref: Record, key: str, compute: Callable[[], T]) -> T:
        """Compute something that depends on this pass and a reference's once, for as long as the two stay together."""
        kept = self._kept_with_partner
        if kept is None or self._partner is not ref:
            kept = self._kept_with_partner = {}
            self._partner = ref
        if key not in kept:
            kept[key] = compute()
        return kept[key]  # type: ignore[return-value]


def _without_data(x: Tensor) -> Tensor:
    return x if x.is_meta else _shape_alone(x.shape, x.dtype)


@lru_cache(maxsize=2**10)  # torch takes as long for one as for an operation on a small layer
def _shape_alone(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")
