"""The words of the project: phrases that a reader in a hurry, or one who translates, stumbles over are not used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What is not written, and what is written instead.
PHRASES = {
    r"\bso many\b": "the name of the parameter, or 'this many'",
    r"\bsays? what (it|they) says?\b": "what the network, or the text, answers",
    r"\bfor good\b": "'permanently', or what happens",
    r"\ball the same\b": "'nevertheless', or nothing",
    r"\b(do|does) not mean to\b": "what the thing does",
    r"\bis second class\b": "what is equal",
    r"\b[Ww]hat is said of\b": "a noun: the message, the claim, the description",
    r"\btravel together\b": "'are processed together'",
    r"\bnot what it should be\b": "'has a wrong type or value'",
    r"\bdoes not do for\b": "'is too small for'",
    r"\bnone of those\b": "what the thing is",
    r"\b(takes?|take) its \w+ along\b": "what happens to the other rows",
}
#: Texts for users, and the words of the code.
FILES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "noxfile.py")),
    *ROOT.glob("docs/*.md"), *ROOT.glob("docs/howto/*.md"), *ROOT.glob("docs/*.py"), *ROOT.glob("vignettes/*"),
    *ROOT.glob("innsight_py/**/*.py"), *ROOT.glob("converters/**/*.py"),
]  # fmt: skip


def found(text: str) -> list[str]:
    """Return the phrases of a text, with the numbers of their lines."""
    lines = enumerate(text.splitlines(), 1)
    return [
        f"{i}: {line.strip()} -> {PHRASES[phrase]}"
        for i, line in lines
        for phrase in PHRASES
        if re.search(phrase, line)
    ]


def test_a_phrase_is_found():
    assert len(found("At most so many rows travel together.")) == 2
    assert found("At most `batch_size` rows are processed together.") == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_words(path):
    assert found(path.read_text()) == []
