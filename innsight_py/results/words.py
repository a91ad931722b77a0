"""Words of a text: what a tokenizer cut into pieces is put together again."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple


@dataclass(frozen=True)
class Word:
    """A word of a text.

    Attributes
    ----------
    text : str
        The word.
    tokens : tuple of int
        Positions of its tokens in the row, counted from 0.
    special : bool
        Whether it belongs to the tokenizer and not to the text, as ``[CLS]`` and ``</s>`` do.
    spaced : bool
        Whether a space stands before it.
    """

    text: str
    tokens: tuple[int, ...]
    special: bool = False
    spaced: bool = True


class _Piece(NamedTuple):
    """What a token adds to a text: bytes of UTF-8, whether a word begins with it, and whether one ends with it."""

    content: bytes
    begins: bool
    ends: bool = False
    spaced: bool = True


#: Tokens that belong to no text. An unknown or a masked word stands for a word, so it is none of these.
_SPECIAL = re.compile(
    r"\[(CLS|SEP|PAD|BOS|EOS)\]|</?s>|<(pad|bos|eos|cls|sep|start_of_turn|end_of_turn)>|<\|\w+\|>", re.IGNORECASE
)
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
#: Scripts that write no spaces: each token is a word there. Thai and Lao, Burmese, Khmer, Japanese and Chinese.
_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)  # fmt: skip
#: Signs that stand within words.
_WITHIN = "'\u2019-_"
_NO_SPACE_BEFORE, _NO_SPACE_AFTER = set(".,;:!?)]}%\u2019\u201d\u2026'"), set("([{\u201c#$")
#: What follows an apostrophe within a word.
_SHORT = {"s", "t", "re", "ve", "ll", "d", "m"}


def _bytes_of_letters() -> dict[str, int]:
    """Return the byte that each letter of a byte-level vocabulary stands for: itself, or one that cannot be printed."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


_LETTERS = _bytes_of_letters()


def is_special(token: str) -> bool:
    """Tell whether a token belongs to the tokenizer and not to the text.

    Examples
    --------
    >>> [is_special(token) for token in ("[CLS]", "<|endoftext|>", "[UNK]", "<b>")]
    [True, True, False, False]
    """
    return _SPECIAL.fullmatch(token) is not None


# -- how tokenizers mark pieces -----------------------------------------------------------------------------------


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


_NEW_LINE = _Piece("\u21b5".encode(), True, True, spaced=False)


def _plain(token: str) -> _Piece:
    return _Piece(_utf8(token), True)


def _wordpiece(token: str) -> _Piece:
    inside = token.startswith("##") and len(token) > 2
    return _Piece(_utf8(token[2:] if inside else token), not inside)


def _sentencepiece(token: str) -> _Piece:
    byte = _BYTE.fullmatch(token)
    if byte is not None:
        return _NEW_LINE if int(byte[1], 16) == ord("\n") else _Piece(bytes([int(byte[1], 16)]), False)
    text = token.lstrip("\u2581")
    return _after_space(text.replace("\u2581", " "), len(text) < len(token))


def _byte_level(token: str) -> _Piece:
    content = bytes(_LETTERS[letter] for letter in token if letter in _LETTERS)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:  # a part of a letter
        return _Piece(content.lstrip(b" "), content.startswith(b" "))
    return _after_space(text.lstrip(" "), text.startswith(" "))


def _after_space(text: str, spaced: bool) -> _Piece:
    """Return a piece of a text whose spaces are known: signs, and words of scripts without spaces, stand alone."""
    if "\n" in text and not text.strip():
        return _NEW_LINE
    sign = bool(text) and all(unicodedata.category(letter)[0] in "PS" for letter in text) and bool(text.strip(_WITHIN))
    alone = sign or any(first <= ord(text[0]) <= last for first, last in _WITHOUT_SPACES if text)
    return _Piece(_utf8(text), spaced or alone, alone, spaced)


def _ending(token: str) -> _Piece:
    text = token.removesuffix("</w>")
    return _Piece(_utf8(text), False, len(text) < len(token))


def _continued(token: str) -> _Piece:
    text = token.removesuffix("@@")
    return _Piece(_utf8(text), False, len(text) == len(token))


#: How pieces are marked, and by what the mark is known; the first that fits any token of a text is taken for all.
_MARKS: tuple[tuple[Callable[[str], bool], Callable[[str], _Piece]], ...] = (
    (lambda token: token.startswith("\u2581"), _sentencepiece),
    (lambda token: token.startswith(("\u0120", "\u010a")), _byte_level),
    (lambda token: token.startswith("##") and len(token) > 2, _wordpiece),
    (lambda token: token.endswith("</w>"), _ending),
    (lambda token: token.endswith("@@") and len(token) > 2, _continued),
)


def reader_of(tokens: Iterable[str]) -> Callable[[str], _Piece]:
    """Find out how a tokenizer marks the pieces of words, from tokens of all texts at hand."""
    known = set(tokens)
    return next((read for is_marked, read in _MARKS if any(map(is_marked, known))), _plain)


# -- putting pieces together --------------------------------------------------------------------------------------


def words_of(tokens: Sequence[str], read: Callable[[str], _Piece] | None = None) -> list[Word]:
    """Put the tokens of a row together to words.

    Pieces are known by their marks: ``##`` (WordPiece), ``▁`` (SentencePiece), ``Ġ`` (bytes, as in GPT-2), ``</w>``
    and ``@@``. Tokens without marks are words. Neighbours that are the same special token, as padding is, are one word.

    Parameters
    ----------
    tokens : sequence of str
        The tokens as the tokenizer calls them.
    read : callable, optional
        How they are marked, see `reader_of`. Default: as these tokens show.

    Examples
    --------
    >>> [word.text for word in words_of(["[CLS]", "un", "##believ", "##able", "!", "[PAD]", "[PAD]"])]
    ['[CLS]', 'unbelievable', '!', '[PAD]']
    >>> [(word.text, word.tokens) for word in words_of(["\u2581good", "ness", ","])]
    [('goodness', (0, 1)), (',', (2,))]
    """
    read = reader_of(tokens) if read is None else read
    exact = read in (_sentencepiece, _byte_level)
    found: list[Word] = []
    contents: list[bytes] = []
    open_word = False
    for position, token in enumerate(tokens):
        special = is_special(token)
        piece = _Piece(b"", True, True) if special else read(token)
        again = special and bool(found) and found[-1].special and found[-1].text == token
        only_space = exact and open_word and not contents[-1] and not piece.spaced
        if again or only_space or (open_word and not piece.begins):
            found[-1] = replace(found[-1], tokens=(*found[-1].tokens, position))
            contents[-1] += piece.content
        else:
            spaced = piece.spaced and (piece.begins or not exact or not found or found[-1].special)
            found.append(Word(token if special else "", (position,), special, spaced))
            contents.append(piece.content)
        open_word = not piece.ends
    whole = [_named(word, content, tokens) for word, content in zip(found, contents, strict=True)]
    return whole if exact else _spaced(whole)


def _named(word: Word, content: bytes, tokens: Sequence[str]) -> Word:
    """Give a word its text; one that has no letter keeps the tokens' own."""
    if word.special:
        return word
    text = content.decode("utf-8", "replace") or "".join(tokens[position] for position in word.tokens)
    return replace(word, text=text)


def _spaced(words: list[Word]) -> list[Word]:
    """Leave out the spaces that nobody writes around signs, where the tokenizer has not kept them."""
    found = []
    before = None
    for word in words:
        closes = word.text in _NO_SPACE_BEFORE and before is not None and not before.special
        short = word.text in _SHORT and before is not None and before.text in ("'", "\u2019")
        opened = before is not None and before.text in _NO_SPACE_AFTER
        found.append(replace(word, spaced=not (closes or short or opened)))
        before = word
    return found
