"""Formulas as MathML, which browsers draw without scripts and without a network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

#: What docutils does not know, in words that it does.
_WORDS = {r"\bigl(": "(", r"\bigr)": ")", r"\bigl[": "[", r"\bigr]": "]", r"\tfrac": r"\frac"}


def _mathml(writer: Any, node: nodes.Element, block: bool) -> None:
    text = node.astext()
    for word, plain in _WORDS.items():
        text = text.replace(word, plain)
    try:
        drawn = tex2mathml(text, as_block=block)
    except MathError as error:
        logging.getLogger(__name__).warning("formula %r: %s", node.astext(), error, location=node)
        drawn = writer.encode(text)
    writer.body.append(f'<div class="formula">{drawn}</div>' if block else drawn)
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the way to draw formulas."""
    app.add_html_math_renderer(
        "mathml", (lambda w, n: _mathml(w, n, False), None), (lambda w, n: _mathml(w, n, True), None)
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
