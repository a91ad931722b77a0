"""Names of values inside a model: which layer's value a name of the user's model means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from innsight_py._checks import describe
from innsight_py.spec.base import LayerSpec, SpecError


class Place(NamedTuple):
    """A value inside a model.

    Attributes
    ----------
    layer : str
        The layer whose value it is.
    before_activation : bool
        Whether it is the value before the activation that is a part of the layer.
    """

    layer: str
    before_activation: bool = False


def read_layer_names(given: Any, layers: Sequence[LayerSpec]) -> dict[str, Place] | None:
    """Read the key 'layer_names' of a model spec.

    Parameters
    ----------
    given : mapping, optional
        For each name a layer, or ``{"layer": ..., "before_activation": True}``.
    layers : sequence of LayerSpec
        The layers of the model.

    Raises
    ------
    SpecError
        If it is no such mapping, or names a layer that is not there.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping) or not all(isinstance(name, str) and name for name in given):
        raise SpecError(f"'layer_names': expected a dict with names as its keys, got {describe(given)}.")
    known = {layer.name: layer for layer in layers}
    found = {}
    for name, value in given.items():
        entry = value if isinstance(value, Mapping) else {"layer": value}
        layer, before = entry.get("layer"), entry.get("before_activation", False)
        if layer not in known or not isinstance(before, bool) or not set(entry) <= {"layer", "before_activation"}:
            raise SpecError(
                f"'layer_names': expected for '{name}' the name of a layer, or a dict with the keys 'layer' and "
                f"'before_activation', got {describe(value)}."
            )
        found[name] = Place(layer, before)
    return found


def layer_names_as_dict(names: Mapping[str, Place]) -> dict[str, Any]:
    """Return names as `read_layer_names` reads them."""
    return {
        name: {"layer": place.layer, "before_activation": True} if place.before_activation else place.layer
        for name, place in names.items()
    }


def places_of(layers: Sequence[LayerSpec], names: Mapping[str, Place] | None) -> dict[str, Place]:
    """Return all names in the order of the values that they mean; the names of the layers where there are no others."""
    if names is None:
        return {layer.name: Place(layer.name) for layer in layers}
    order = {layer.name: i for i, layer in enumerate(layers)}

    def position(name: str) -> tuple[int, bool, int, str]:
        place = names[name]
        return order[place.layer], not place.before_activation, -name.count("."), name

    return {name: names[name] for name in sorted(names, key=position)}
