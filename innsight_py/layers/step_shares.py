"""LRP at the products of a recurrent layer with its matrices: what each step shares out, and by what it divides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from innsight_py.functions.lrp import Rule
from innsight_py.layers.affine import StepProduct
from innsight_py.layers.linear import Dense
from innsight_py.layers.record import P, Record, T

#: Distributes relevance at one of several steps.
StepShare = Callable[[Tensor, int], Tensor]


class StepRecord(Record):
    """What one of several steps saw; what does not depend on data is computed once for all of them."""

    __slots__ = ("_all",)

    def __init__(
        self, inputs: tuple[Tensor, ...], output: Tensor, together: Record, kept: dict[str, object]
    ) -> None:  # fmt: skip
        super().__init__(inputs, output, output, kept)
        self._all = together

    def once(self, key: str, compute: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if key.startswith("weight"):
            return self._all.once(key, compute, *args, **kwargs)
        return super().once(key, compute, *args, **kwargs)


class StepShares:
    """What shares out at each step of the products with matrices; what it divides by is computed for all at once.

    Parameters
    ----------
    matrices : mapping of str to Dense
        The products.
    seen : sequence of mapping
        For the first step and for the later ones, side by side: what the products saw.
    rules : sequence of mapping
        For the same: the rule of each, and something else.
    cut : callable
        Cuts what is side by side into the steps, in the layer's order.
    """

    def __init__(
        self, matrices: Mapping[str, Dense], seen: Sequence[Mapping[str, Record]],
        rules: Sequence[Mapping[str, tuple[Rule, int | None]]], cut: Callable[[Tensor], Sequence[Tensor]],
    ) -> None:  # fmt: skip
        self._matrices, self._seen, self._rules, self._cut = matrices, seen, rules, cut
        self._found: dict[tuple[int, str], StepShare] = {}

    def products(self, which: int, name: str) -> list[StepProduct] | None:
        """Return what distributes relevance at a matrix as a sum of products; None where more is to do."""
        at = self._seen[which].get(name)
        return None if at is None else self._matrices[name].in_steps(at, self._rules[which][name][0])

    def of(self, which: int, name: str) -> StepShare:
        """Return what distributes relevance at a matrix in one of the steps."""
        if (which, name) not in self._found:
            products = self.products(which, name)
            self._found[which, name] = (
                self._one_by_one(self._matrices[name], self._seen[which][name], self._rules[which][name][0])
                if products is None
                else self._sum(products)
            )
        return self._found[which, name]

    def _sum(self, products: Sequence[StepProduct]) -> StepShare:
        before_all = [None if it.before is None else self._cut(it.before) for it in products]
        after_all = [None if it.after is None else self._cut(it.after) for it in products]

        def share_one(upper: Tensor, place: int) -> Tensor:
            total: Tensor | None = None
            for it, before, after in zip(products, before_all, after_all, strict=True):
                piece = (upper if before is None else upper * before[place]) @ it.weight
                piece = piece if after is None else piece * after[place]
                total = piece if total is None else total + piece
            assert total is not None
            return total

        return share_one

    def _one_by_one(self, layer: Dense, it: Record, rule: Rule) -> StepShare:
        """Return the rule of a layer at each step, for those that are no table of shares."""
        kept = layer.shares(it, rule)
        cut = {key: [None] * it.output.shape[-2] if x is None else self._cut(x) for key, x in kept.items()}
        pairs = zip(self._cut(it.inputs[0]), self._cut(it.output), strict=True)
        records = [
            StepRecord((x,), y, it, {key: values[i] for key, values in cut.items()}) for i, (x, y) in enumerate(pairs)
        ]

        def share_one(upper: Tensor, place: int) -> Tensor:
            (piece,) = layer.lrp(upper, records[place], rule)
            assert piece is not None
            return piece

        return share_one
