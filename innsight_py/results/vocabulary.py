"""The different words of a text input, and how much each of them matters over many rows."""

from __future__ import annotations

import numpy as np

from innsight_py.results.attributions import Attributions
from innsight_py.results.tokens import is_text, row_words


class Vocabulary:
    """The different words of all rows of an input.

    Parameters
    ----------
    attributions : Attributions
        The result.
    j : int
        Which input, a text.

    Attributes
    ----------
    words : list of str
        The words, first come first.
    """

    def __init__(self, attributions: Attributions, j: int) -> None:
        rows = row_words(attributions, j)
        place: dict[str, int] = {}
        of_words = [[place.setdefault(word.text, len(place)) for word in row] for row in rows]
        self.words = list(place)
        #: The word of each occurrence, and the occurrence that each token ``(B, T)`` is a part of.
        self._word_of = np.array([word for row in of_words for word in row], int)
        counts = [[len(word.tokens) for word in row] for row in rows]
        flat = np.repeat(np.arange(len(self._word_of)), [count for row in counts for count in row])
        self._occurrence = flat.reshape(len(rows), -1)

    def magnitudes(self, values: np.ndarray, rows: list[int]) -> np.ndarray:
        """Return the mean over rows of the magnitudes that each word has there.

        A word is worth the sum of its tokens; where it stands twice in a row, both magnitudes count.

        Parameters
        ----------
        values : ndarray
            The values of the tokens of these rows, ``(len(rows), T)``.
        rows : list of int
            Which rows of the result.
        """
        if not rows:
            return np.full(len(self.words), np.nan)
        sums = np.bincount(self._occurrence[rows].ravel(), values.ravel(), len(self._word_of))
        found: np.ndarray = np.bincount(self._word_of, np.abs(sums), len(self.words)) / len(rows)
        return found


def vocabularies(attributions: Attributions) -> dict[int, Vocabulary]:
    """Return the words of each input that is a text."""
    texts = [j for j, port in enumerate(attributions.described.inputs) if is_text(port)]
    return {j: Vocabulary(attributions, j) for j in texts}
