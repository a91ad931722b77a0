"""The texts that inputs of the kind ``tokens`` hold: the tokens of each row, and their words."""

from __future__ import annotations

from collections.abc import Sequence

from innsight_py.inputs.names import default_names
from innsight_py.inputs.ports import Port
from innsight_py.inputs.tokens import token_texts
from innsight_py.results.attributions import Attributions
from innsight_py.results.words import Word, reader_of, words_of


def is_text(port: Port) -> bool:
    """Tell whether an input is a text: tokens in a row, whose positions have no names of their own.

    Columns of categories go into embeddings too. They are a table, and have names.

    Examples
    --------
    >>> names = default_names((2,))
    >>> is_text(Port("ids", (2,), names, "tokens")), is_text(Port("codes", (2,), [["sex", "island"]], "tokens"))
    (True, False)
    """
    if port.kind != "tokens" or len(port.dim) != 1:
        return False
    return port.token_names is not None or list(port.names[0]) == default_names(port.dim)[0]


def row_tokens(attributions: Attributions, j: int, rows: Sequence[int] | None = None) -> list[list[str]]:
    """Return what the tokens of an input are called, of all rows or of some.

    Tokens are called by ``Port.token_names``; without it by their numbers, and by their positions where a result has
    no data.
    """
    port = attributions.described.inputs[j]
    rows = range(attributions.rows) if rows is None else rows
    if not attributions.data:
        return [[str(name) for name in port.names[0]] for _ in rows]
    numbers = [[int(number) for number in attributions.data[j][row].tolist()] for row in rows]
    different = sorted({number for row in numbers for number in row})
    called = dict(zip(different, token_texts(different, port.token_names), strict=True))
    return [[called[number] for number in row] for row in numbers]


def row_words(attributions: Attributions, j: int, rows: Sequence[int] | None = None) -> list[list[Word]]:
    """Return the words of an input, of all rows or of some. Marks of pieces are looked for in all of these rows."""
    texts = row_tokens(attributions, j, rows)
    read = reader_of(token for row in texts for token in row)
    return [words_of(row, read) for row in texts]
