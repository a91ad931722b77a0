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
    unique: dict[str, int] = {}  # each name, with the first number that may be free behind it
    for name in names:
        free = name
        if name in unique:
            number = unique[name]
            while (free := f"{name}_{number}") in unique:
                number += 1
            unique[name] = number + 1
        unique[free] = 2
    return list(unique)


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


#: The number of names that a message lists; it counts the rest.
_LISTED = 20


def quoted(keys: Iterable[str]) -> str:
    """List keys in a message, in quotes and with what is no letter escaped.

    Examples
    --------
    >>> quoted(["image", "table"])
    "'image', 'table'"
    """
    return shortened([repr(key) for key in keys])


def shortened(words: Iterable[str]) -> str:
    """List words in a message, and count those that are too many for it.

    Examples
    --------
    >>> shortened(["image", "table"])
    'image, table'
    """
    words = list(words)
    more = f" and {len(words) - _LISTED} more" if len(words) > _LISTED else ""
    return ", ".join(words[:_LISTED]) + more


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
