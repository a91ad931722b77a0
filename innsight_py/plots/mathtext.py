"""Labels for matplotlib, which takes what lies between two dollar signs for a formula."""

from __future__ import annotations

import functools

from matplotlib.mathtext import MathTextParser

from innsight_py._text import printable


def literal(label: str) -> str:
    r"""Return a label that matplotlib draws as it is written; a text is no formula.

    Examples
    --------
    >>> literal("$5 or $6")
    '\\$5 or \\$6'
    """
    return printable(label).replace("$", r"\$")


@functools.lru_cache(maxsize=4096)
def drawn(label: str) -> str:
    r"""Return a label that matplotlib draws: as a formula where it is a valid one, as it is written otherwise.

    Examples
    --------
    >>> drawn(r"$\alpha$ and $\beta$"), drawn("3 $"), drawn(r"$\frac{1}{$")
    ('$\\alpha$ and $\\beta$', '3 $', '\\$\\frac{1}{\\$')
    """
    label = "\n".join(map(printable, label.split("\n")))
    if label.count("$") - label.count(r"\$") < 2:
        return label
    try:
        for line in label.split("\n"):
            if line.count("$") - line.count(r"\$") > 1:
                MathTextParser("path").parse(line)
    except (ValueError, RecursionError):
        return label.replace(r"\$", "$").replace("$", r"\$")
    return label
