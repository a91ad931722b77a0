"""Which layers prepare the data before what is learned: scalers, and the like, marked with ``"preprocessing": true``.

A marked layer maps every feature by itself, so what comes out has the same features as the user's data. It stands at an
input, or after another marked one, and nothing else sees what goes into it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: Where a value goes: a layer's name, the names of what it takes, and whether the layer is marked.
Step = tuple[str, Sequence[str], bool]


def preparation(inputs: Sequence[str], steps: Sequence[Step], outputs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Find the marked layers that prepare each input.

    Parameters
    ----------
    inputs : sequence of str
        Names of the inputs.
    steps : sequence of Step
        All layers.
    outputs : sequence of str
        Names of the layers that are outputs, which prepare nothing.

    Returns
    -------
    dict of str to tuple of str
        For each input that is prepared the names of the layers, in order.

    Examples
    --------
    >>> preparation(["input_1"], [("a", ["input_1"], True), ("b", ["a"], True), ("c", ["b"], False)], ["c"])
    {'input_1': ('a', 'b')}
    """
    takers: dict[str, list[Step]] = {}
    for step in steps:
        for source in step[1]:
            takers.setdefault(source, []).append(step)
    found: dict[str, tuple[str, ...]] = {}
    for name in inputs:
        chain: list[str] = []
        at = name
        while len(takers.get(at, ())) == 1:
            (layer, sources, marked) = takers[at][0]
            if not marked or len(sources) != 1 or layer in outputs:
                break
            chain.append(layer)
            at = layer
        if chain:
            found[name] = tuple(chain)
    return found


def misplaced(steps: Sequence[Step], found: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names of marked layers that prepare no input."""
    known = {name for chain in found.values() for name in chain}
    return [name for name, _, marked in steps if marked and name not in known]
