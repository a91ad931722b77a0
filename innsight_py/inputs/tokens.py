"""Texts of tokens: what the numbers that go into an embedding mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from innsight_py._checks import describe, is_whole

#: A function of a list of numbers (``tokenizer.convert_ids_to_tokens``), texts by their numbers, or numbers by texts.
TokenNames = Callable[[list[int]], Sequence[Any]] | Sequence[str] | Mapping[Any, Any]


def read_token_names(given: Any) -> TokenNames | None:
    """Read the argument 'token_names'.

    Raises
    ------
    TypeError
        If it is neither a function, nor a list or a dict of texts.
    """
    if given is None:
        return None
    if callable(given) or (isinstance(given, Mapping) and _is_vocabulary(given)):
        names: TokenNames = given
        return names
    if isinstance(given, list | tuple | np.ndarray) and all(isinstance(name, str | None) for name in given):
        return list(given)
    raise TypeError(
        "Argument 'token_names': expected a function such as 'tokenizer.convert_ids_to_tokens', a list of texts by "
        f"their numbers, or a vocabulary as a dict, got {describe(given)}."
    )


def plain_token_names(names: TokenNames | None) -> list[str | None] | dict[str, int] | None:
    """Return names as a file can hold them: texts by their numbers, or numbers by texts; None for a function.

    Examples
    --------
    >>> plain_token_names({2: "film", 0: "[PAD]"})
    ['[PAD]', None, 'film']
    """
    if names is None or callable(names):
        return None
    if not isinstance(names, Mapping):
        return list(names)
    if all(isinstance(key, str) for key in names):
        return {key: int(value) for key, value in names.items()}
    texts = {int(key): None if value is None else str(value) for key, value in names.items()}
    return [texts.get(number) for number in range(max(texts, default=-1) + 1)]


def _is_vocabulary(given: Mapping[Any, Any]) -> bool:
    """Tell whether a dict has a number for each text, or something for each number."""
    return all(isinstance(key, str) and is_whole(value) for key, value in given.items()) or all(map(is_whole, given))


def token_texts(ids: Tensor | np.ndarray | Sequence[int], token_names: TokenNames | None) -> list[str]:
    """Return the texts of tokens.

    A result has all that it takes: for an input j of the kind "tokens" (``result.described.inputs[j].kind``) the ids of
    row i are ``result.data[j][i]``, and what they mean is ``result.described.inputs[j].token_names``.

    Parameters
    ----------
    ids : Tensor, array or sequence of int
        The numbers, along one axis.
    token_names : callable, sequence or mapping, optional
        A function that makes texts of a list of numbers, texts by their numbers (list or dict), or a vocabulary:
        numbers by texts. Default, and where one has no text: the numbers.

    Returns
    -------
    list of str

    Examples
    --------
    >>> token_texts([2, 0], ["[PAD]", "good", "film"])
    ['film', '[PAD]']
    >>> token_texts([2, 7], {"good": 1, "film": 2})
    ['film', '7']
    """
    numbers = [int(number) for number in np.asarray(ids).reshape(-1)]
    found: Sequence[Any]
    if token_names is None:
        found = [None] * len(numbers)
    elif isinstance(token_names, Mapping):
        turned = all(isinstance(key, str) for key in token_names)
        by_number = {number: text for text, number in token_names.items()} if turned else token_names
        found = [by_number.get(number) for number in numbers]
    elif callable(token_names):
        found = token_names(numbers)
    else:
        found = [token_names[number] if 0 <= number < len(token_names) else None for number in numbers]
    return [str(number) if text is None else str(text) for number, text in zip(numbers, found, strict=True)]
