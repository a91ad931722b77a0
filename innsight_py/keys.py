"""Names of a model's inputs and output layers: the keys of dicts that users give instead of lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from innsight_py._checks import describe, suggestion


def default_keys(what: str, n: int) -> tuple[str, ...]:
    """Name inputs (or output layers) that have no names of their own.

    Examples
    --------
    >>> default_keys("input", 2)
    ('input_1', 'input_2')
    """
    return tuple(f"{what}_{i + 1}" for i in range(n))


def unique_keys(names: Iterable[str]) -> list[str]:
    """Tell names apart that come again, by a number, such as that of a layer with several outputs.

    Examples
    --------
    >>> unique_keys(["head", "head", "tail"])
    ['head', 'head_2', 'tail']
    """
    unique: list[str] = []
    for name in names:
        free, number = name, 2
        while free in unique:
            free, number = f"{name}_{number}", number + 1
        unique.append(free)
    return unique


def keys_of(described: Any, what: str) -> Sequence[str]:
    """Return the keys of a model's inputs or output layers, the default ones where it has none of its own.

    Parameters
    ----------
    described : Described
        A model; one without keys need not have the attributes ``input_keys`` and ``output_keys``.
    what : {"input", "output"}
        Which ones.
    """
    own: Sequence[str] | None = getattr(described, f"{what}_keys", None)
    return default_keys(what, len(getattr(described, f"{what}_dim"))) if own is None else own


def layer_title(what: str, i: int, keys: Sequence[str]) -> str:
    """Call the i-th input or output layer by its number, and by its key where the model has several with keys.

    Examples
    --------
    >>> layer_title("Input layer", 1, ["image", "table"])
    "Input layer 2 ('table')"
    >>> layer_title("output layer", 1, ["output_1", "output_2"])
    'output layer 2'
    """
    default = default_keys(what.partition(" ")[0].lower(), i + 1)[i]
    return f"{what} {i + 1}" + ("" if len(keys) == 1 or keys[i] == default else f" ('{keys[i]}')")


def quoted(keys: Iterable[str]) -> str:
    """List keys in a message."""
    return ", ".join(f"'{key}'" for key in keys)


def in_order(given: Mapping[Any, Any], keys: Sequence[str], argument: str, what: str, whole: bool = True) -> list[Any]:
    """Bring the entries of a dict into the order of the model's inputs or output layers.

    Parameters
    ----------
    given : mapping
        What the user gives for each key.
    keys : sequence of str
        Names of the inputs or output layers.
    argument : str
        What the dict is called in error messages.
    what : str
        What an entry is for: "input" or "output layer".
    whole : bool
        Whether each must have an entry; None stands for those that have none otherwise.

    Raises
    ------
    TypeError
        If a key is no string.
    ValueError
        If a key is unknown or missing.

    Examples
    --------
    >>> in_order({"table": 2, "image": 1}, ["image", "table"], "data", "input")
    [1, 2]
    """
    for key in given:
        if not isinstance(key, str):
            raise TypeError(
                f"Argument '{argument}': the keys of a dict are names of {what}s ({quoted(keys)}), got {describe(key)}."
            )
        if key not in keys:
            raise ValueError(
                f"Argument '{argument}': the model has no {what} {describe(key)}{suggestion(key, keys)} "
                f"It has {quoted(keys)}."
            )
    missing = [key for key in keys if key not in given]
    if missing and whole:
        raise ValueError(
            f"Argument '{argument}': expected an entry for each {what} ({quoted(keys)}), got none for "
            f"{quoted(missing)}."
        )
    return [given.get(key) for key in keys]
