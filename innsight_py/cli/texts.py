"""Options that hold several values in one text."""

from __future__ import annotations

from typing import Any


def read_dims(text: str | None) -> Any:
    """Read the shapes of the inputs.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    if text is None:
        return None
    try:
        shapes = [tuple(int(n) for n in part.split(",")) for part in text.split(";")]
    except ValueError:
        raise ValueError(f"--input-dim {text}: expected whole numbers such as 3,32,32.") from None
    return shapes if len(shapes) > 1 else shapes[0]


def read_pixels(text: str) -> tuple[float, float]:
    """Read what black and white become.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"--pixels {text}: expected two numbers such as 0,1 or -1,1.") from None
    return low, high


def read_columns(text: str | None) -> list[str] | None:
    """Read names of columns."""
    return None if text is None else [column.strip() for column in text.split(",")]


def read_rows(text: str, count: int) -> list[int]:
    """Read numbers and ranges of rows.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    chosen: list[int] = []
    for part in text.split(","):
        first, colon, last = part.strip().partition(":")
        try:
            start = int(first or 0)
            stop = (int(last) if last else count) if colon else start + 1
        except ValueError:
            raise ValueError(f"--rows {text}: expected whole numbers and ranges such as 0,3,10:20.") from None
        if not 0 <= start < stop <= count:
            raise ValueError(f"--rows {text}: the data have the rows 0 to {count - 1}.")
        chosen += range(start, stop)
    return chosen


def read_nodes(texts: list[str] | None) -> Any:
    """Read numbers of nodes: whole numbers, or several with commas for the axes of an output.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    if texts is None:
        return None
    nodes = []
    for text in texts:
        parts = [part.strip() for part in text.split(",")]
        if not all(part.isdecimal() for part in parts):
            raise ValueError(
                f"--output-idx {text}: expected the number of a node, counted from 0, or one for each axis of the "
                "output, as in 3,10,12"
            )
        numbers = tuple(map(int, parts))
        nodes.append(numbers if len(numbers) > 1 else numbers[0])
    return nodes
