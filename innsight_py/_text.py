"""How things look when they are printed: lines and bullets as in R, shapes, and tables for notebooks."""

from __future__ import annotations

import html
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence


def line_width() -> int:
    """Return how many letters a printed line may have: as many as the terminal is wide, at most 120."""
    return min(shutil.get_terminal_size((80, 24)).columns, 120)


def printable(text: str) -> str:
    r"""Write what is no letter, figure or sign as its escape: names from files move no cursor and break no line.

    Examples
    --------
    >>> print(printable("red\x1b[31m, two\nlines"))
    red\x1b[31m, two\nlines
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def headline(title: str, width: int) -> str:
    """Write a title within a line.

    Examples
    --------
    >>> headline("LRP", 12)
    '── LRP ─────'
    """
    return f"── {title} ".ljust(width, "─")


def item(text: str, indent: int, width: int, bullet: str = "•") -> list[str]:
    """Write one bullet, wrapped like R's under the text of its first line; shapes stay in one piece.

    Examples
    --------
    >>> item("input_dim: (*, 3, 32), (*, 5)", 2, 26)
    ['  • input_dim:', '  (*, 3, 32), (*, 5)']
    """
    left = " " * indent
    unbroken = re.sub(r"\(\*[^)]*\)", lambda shape: shape.group().replace(" ", "\xa0"), f"{bullet} {printable(text)}")
    lines = textwrap.wrap(unbroken, width - 1, initial_indent=left, subsequent_indent=left, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]


def dims_text(dims: Iterable[Sequence[int]]) -> str:
    """Write shapes as R does, with a star for the batch axis.

    Examples
    --------
    >>> dims_text([(3, 32, 32), (5,)])
    '(*, 3, 32, 32), (*, 5)'
    """
    return ", ".join(f"(*, {', '.join(map(str, dim))})" for dim in dims)


def few(names: Sequence[str], shown: int = 5) -> str:
    """List some names, and say how many there are beside them.

    Examples
    --------
    >>> few(["a", "b"]), few(["a", "b", "c", "d"], 2)
    ("'a', 'b'", "'a', 'b' and 2 more")
    """
    listed = ", ".join(f"'{printable(name)}'" for name in names[:shown])
    return f"{listed} and {len(names) - shown} more" if len(names) > shown else listed


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table of texts in HTML.

    Examples
    --------
    >>> html_table(["axis"], [["a < b"]]).partition("<tbody>")[2]
    '<tr><td style="text-align: left">a &lt; b</td></tr></tbody></table>'
    """

    def cells(entries: Sequence[str], tag: str) -> str:
        return "".join(f'<{tag} style="text-align: left">{html.escape(printable(entry))}</{tag}>' for entry in entries)

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"
