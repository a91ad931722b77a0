"""The page about errors as data: its sections, and the code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


@dataclass(frozen=True)
class Section:
    """One section: the end of its address, its words, and pairs of code: a cause, and the way on."""

    code: str
    words: str
    pairs: tuple[tuple[str, str], ...]
    language: str


def slug(heading: str) -> str:
    """Return the address that GitHub and MyST give to a heading."""
    return re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))


def read() -> tuple[str, list[Section]]:
    """Return the code that all examples start with, and the sections."""
    first, *rest = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    (start,) = re.findall(r"^```python\n(.*?)^```", first, re.DOTALL | re.MULTILINE)
    sections = []
    for text in rest:
        heading, _, body = text.partition("\n")
        blocks = re.findall(r"^```(\w+)\n(.*?)^```", body, re.DOTALL | re.MULTILINE)
        code = [block for _, block in blocks]
        assert len(code) % 2 == 0, heading
        words = re.sub(r"^```.*?^```", "", body, flags=re.DOTALL | re.MULTILINE)
        sections.append(
            Section(slug(heading), words.strip(), tuple(zip(code[::2], code[1::2], strict=True)), blocks[0][0])
        )
    return start, sections
