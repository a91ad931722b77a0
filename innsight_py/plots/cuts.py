"""Slices of volumes, which are drawn as images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from innsight_py._checks import describe, is_whole
from innsight_py.inputs.ports import Port


@dataclass(frozen=True)
class Cut:
    """A slice of a volume: for each of its axes a place, counted from 0, or None for the two that are drawn."""

    places: tuple[int | None, ...]

    @property
    def drawn(self) -> list[int]:
        """The two axes that are drawn, counted from 0 and without channels."""
        return [axis for axis, place in enumerate(self.places) if place is None]

    def of(self, values: np.ndarray) -> np.ndarray:
        """Take the slice of values ``(rows, *axes)``.

        Examples
        --------
        >>> Cut((None, 1, None)).of(np.zeros((5, 2, 3, 4))).shape
        (5, 2, 4)
        """
        found: np.ndarray = values[(slice(None), *(slice(None) if place is None else place for place in self.places))]
        return found

    def note(self, port: Port) -> str:
        """Say which slice it is, counted from 1 as ticks are."""
        parts = zip(port.axes[1:], self.places, port.dim[1:], strict=True)
        return ", ".join(f"{name}: {place + 1} of {size}" for name, place, size in parts if place is not None)


def middle_of(port: Port) -> str:
    """Write the slice through the middle of a volume, as the argument 'slice' takes it."""
    axes = port.dim[1:]
    return str(axes[0] // 2) if len(axes) == 3 else str((*(size // 2 for size in axes[:-2]), None, None))


def read_cuts(value: Any, ports: Sequence[Port]) -> dict[int, Cut]:
    """Read the argument 'slice'.

    Returns
    -------
    dict of int to Cut
        For each input that is a volume.

    Raises
    ------
    TypeError, ValueError
        If it is no slice, or if no input is a volume.
    """
    volumes = {j: port for j, port in enumerate(ports) if port.kind != "tokens" and len(port.dim) > 3}
    if value is None:
        return {}
    whole = is_whole(value)
    entries = [value] if whole else value
    if not isinstance(entries, list | tuple) or not all(entry is None or is_whole(entry) for entry in entries):
        raise TypeError(
            "Argument 'slice': expected a whole number, or a place for each axis and None for the two that are drawn, "
            f"such as (None, 12, None), got {describe(value)}."
        )
    if not volumes:
        raise ValueError("Argument 'slice': the model has no volume among its inputs; leave it out.")
    found = {}
    for j, port in volumes.items():
        axes = port.dim[1:]
        if whole and len(axes) == 3:
            places: tuple[int | None, ...] = (int(value), None, None)
        else:
            places = tuple(None if entry is None else int(entry) for entry in entries)
        if len(places) != len(axes) or places.count(None) != 2:
            raise ValueError(
                f"Argument 'slice': input {j + 1} has {len(axes)} axes; expected a place for {len(axes) - 2} of them "
                f"and None for two, such as slice={middle_of(port)}, got {describe(value)}."
            )
        for place, size in zip(places, axes, strict=True):
            if place is not None and not 0 <= place < size:
                raise ValueError(
                    f"Argument 'slice': input {j + 1} has the slices 0 to {size - 1} along this axis, got {place}."
                )
        found[j] = Cut(places)
    return found
