"""The panel of a text: its words in lines, each with the sum of its tokens' values."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from innsight_py._text import printable
from innsight_py.plots.axis import Axis
from innsight_py.plots.panels import Panel, Place, shades
from innsight_py.plots.text import number, shortened
from innsight_py.results.words import Word

#: Widths of the printed letters of ASCII, from the space on, in hundredths of the size of the font (DejaVu Sans).
_WIDTHS = (
    32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34, 84,
    84, 84, 53, 100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79, 60, 79, 69, 63, 61, 73, 68, 99, 69, 61,
    69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35, 63, 63, 28, 28, 58, 28, 97, 63, 61, 63, 63, 41, 52, 39, 63, 59,
    82, 59, 59, 52, 64, 34, 64, 84,
)  # fmt: skip
#: In sizes of the font: a line from the next, a word's box, what it has beside the word, and the space between words.
LINE, BOX, PAD, SPACE = 1.75, 1.45, 0.18, 0.28
#: Points of the font, at most and at least, and inches of a block of text.
MOST, LEAST, WIDTH = 10.0, 4.0, 6.4
#: What the colour scale takes below the words, in sizes of the font.
SCALE = 3.6


class Box(NamedTuple):
    """Where a word stands: its line, from 0, and its left end and width in sizes of the font."""

    line: int
    left: float
    width: float


def text_width(text: str) -> float:
    """Return the width of a text in sizes of the font, as a usual font without serifs has it.

    Examples
    --------
    >>> text_width("ill") < text_width("www"), text_width("\u6211")
    (True, 1.0)
    """
    return sum(_letter_width(letter) for letter in text)


def _letter_width(letter: str) -> float:
    if " " <= letter <= "~":
        return _WIDTHS[ord(letter) - 32] / 100
    if unicodedata.combining(letter):
        return 0.0
    return 1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.7


def word_label(word: Word) -> str:
    r"""Return what is written of a word: with escapes for what cannot be printed, and how many tokens stand for it.

    Examples
    --------
    >>> word_label(Word("[PAD]", (4, 5, 6), special=True)) == "[PAD] \u00d73", word_label(Word("it", (0,)))
    (True, 'it')
    """
    label = printable(word.text) or "\u2423"
    return f"{label} \u00d7{len(word.tokens)}" if word.special and len(word.tokens) > 1 else label


def word_sums(words: Sequence[Word], values: np.ndarray) -> np.ndarray:
    """Add up the values ``(T,)`` of the tokens of each word.

    Examples
    --------
    >>> word_sums([Word("good", (0, 1)), Word("!", (2,))], np.array([1.0, 2.0, -1.0]))
    array([ 3., -1.])
    """
    return np.array([values[list(word.tokens)].astype(np.float64).sum() for word in words])


@dataclass(frozen=True, eq=False)
class Words(Panel):
    """A text: a value for each word.

    Attributes
    ----------
    words : tuple of Word
        The words.
    values : ndarray
        ``(n,)``, the sum over the tokens of each word.
    limit : float
        The magnitude that has the full colour; at least the largest of the values.
    pieces : tuple of str
        For each word of several tokens these with their values, for others "".
    width : float
        Inches of the block.
    points : float
        Size of the font.
    """

    words: tuple[Word, ...]
    values: np.ndarray
    limit: float
    pieces: tuple[str, ...]
    width: float = WIDTH
    points: float = MOST

    @property
    def shades(self) -> np.ndarray:
        """Colour of each word, from -1 (blue) over 0 (white) to 1 (red)."""
        return shades(self.values, self.limit)

    @property
    def labels(self) -> list[str]:
        """What is written of each word."""
        return [shortened(label) for label in self.axis.labels]

    @property
    def room(self) -> float:
        """Width of the block in sizes of the font."""
        return self.width * 72 / self.points

    @property
    def boxes(self) -> list[Box]:
        """Where each word stands: in lines from the left, broken where the block ends."""
        found: list[Box] = []
        line, right = 0, 0.0
        for word, label in zip(self.words, self.labels, strict=True):
            width = text_width(label) + 2 * PAD
            left = right + (SPACE if word.spaced else 0.04) if right else 0.0
            if left and left + width > self.room:
                line, left = line + 1, 0.0
            found.append(Box(line, left, min(width, self.room)))
            right = left + width
        return found

    @property
    def lines(self) -> int:
        """Number of lines."""
        return 1 + max((box.line for box in self.boxes), default=0)

    @property
    def height(self) -> float:
        """Height of the block with its colour scale in sizes of the font."""
        return self.lines * LINE + SCALE

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches that suit the panel."""
        return self.width, self.height * self.points / 72

    def fitted(self, width: float, height: float) -> Words:
        """Return the panel for a place of this size in inches, with the largest font that fits there."""
        found = self
        for points in np.arange(MOST, LEAST - 0.1, -0.5):
            found = replace(self, width=width, points=float(points))
            if found.size[1] <= height:
                break
        return found

    def hover_texts(self) -> np.ndarray:
        """Return the hover text of each word, ``(n,)``."""
        return self._hover_texts(self.values)


def words_panel(
    place: Place, value_name: str, text: tuple[Sequence[Word], Sequence[str]], values: np.ndarray, limit: float
) -> Words:
    """Put a panel together, from the words and tokens of a row and the value of each token."""
    words, tokens = text
    axis = Axis("Word", "Word", tuple(map(word_label, words)), named=True)
    pieces = tuple(_pieces(word, tokens, values) for word in words)
    return Words(place, (axis,), value_name, tuple(words), word_sums(words, values), limit, pieces)


def _pieces(word: Word, tokens: Sequence[str], values: np.ndarray) -> str:
    if len(word.tokens) == 1 or word.special:
        return ""
    return ", ".join(f"{printable(tokens[i])} {number(values[i])}" for i in word.tokens)


def text_colour(shade: float, word: Word) -> str:
    """Return the colour of a word on the colour of its value; special tokens are dimmed where their colour is pale.

    Examples
    --------
    >>> text_colour(-0.9, Word("bad", (0,))), text_colour(0.9, Word("good", (0,)))
    ('white', 'black')
    """
    if shade < -0.45:
        return "white"
    return "#737373" if word.special and abs(shade) < 0.15 else "black"
