"""Names of the values inside a model: what a module or a layer hands out, also where it is called several times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def numbered(calls: Mapping[str, Sequence[Sequence[T]]]) -> dict[str, T]:
    """Name the values that modules hand out.

    Parameters
    ----------
    calls : mapping
        For each module its calls, in order, each with the values that it hands out.

    Returns
    -------
    dict
        ``"name"`` means the value of the last call; where there are several, ``"name#1"``, ``"name#2"`` mean those of
        each; where a call hands out several values, they are ``"name[0]"``, ``"name[1]"``.

    Examples
    --------
    >>> numbered({"relu": [["a"], ["b"]], "lstm": [["c", "d"]]})
    {'relu#1': 'a', 'relu': 'b', 'relu#2': 'b', 'lstm[0]': 'c', 'lstm[1]': 'd'}
    """
    names: dict[str, T] = {}
    for name, each in calls.items():
        for number, values in enumerate(each, start=1):
            for i, value in enumerate(values):
                part = f"[{i}]" if len(values) > 1 else ""
                if number == len(each):
                    names[f"{name}{part}"] = value
                if len(each) > 1:
                    names[f"{name}#{number}{part}"] = value
    return names
