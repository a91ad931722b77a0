"""What a pass keeps where it takes much memory: no more than the walk back looks at."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from torch import Tensor

from innsight_py.layers import DeepLiftRule, Layer, Record
from innsight_py.model.graph import Explained, Seen, Step, Trace


def for_gradients(ends: AbstractSet[str]) -> Seen:
    """Let a pass keep what gradients look at; all of the layers that are explained, `ends`."""

    def seen(name: str, layer: Layer, record: Record) -> None:
        if name not in ends:
            record.release(layer.gradient_needs)

    return seen


def passing(ends: AbstractSet[str], rule: DeepLiftRule) -> Seen:
    """Let a pass of references keep what DeepLift looks at."""

    def seen(name: str, layer: Layer, record: Record) -> None:
        if name not in ends:
            record.release(layer.deeplift_needs(rule))

    return seen


def compared(ends: AbstractSet[str], rule: DeepLiftRule, reference: Trace, last: bool) -> Seen:
    """Let a pass of rows keep the slopes between it and references alone, where they are all that DeepLift looks at.

    So does that of the references, if this is the `last` pass that is compared with it.
    """

    def seen(name: str, layer: Layer, record: Record) -> None:
        if name in ends:
            return
        if not layer.deeplift_early(record, reference[name], rule):
            record.release(layer.deeplift_needs(rule))
            return
        record.release()
        if last:
            reference[name].release()

    return seen


def forgetting(step: Step, trace: Trace) -> Step:
    """Let each layer forget what it computed for the walk back as soon as it is passed."""

    def stepped(layer: Layer, upper: Tensor, name: str, start: Explained | None) -> list[Tensor | None]:
        pieces = step(layer, upper, name, start)
        trace[name].forget()
        return pieces

    return stepped
