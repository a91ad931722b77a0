"""The how-to pages run as they are written, and what a comment says of a value is so."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "howto"
PAGES = sorted(path.stem for path in FOLDER.glob("*.md") if path.stem != "index")
#: The packages that a page is about, beyond those of all tests.
NEEDS: dict[str, str] = {}


def run(page, names):
    """Run the snippets of a page; return what comments say of expressions, and what these are."""
    said, found = [], []
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        lines = block.splitlines()
        for node in ast.parse(block).body:
            if not isinstance(node, ast.Expr):
                exec(compile(ast.Module([node], []), "page", "exec"), names)  # noqa: S102
                continue
            value = eval(compile(ast.Expression(node.value), "page", "eval"), names)  # noqa: S307
            comment = re.search(r"  # (.+)$", lines[node.end_lineno - 1])
            if comment is not None:
                said.append(ast.literal_eval(comment[1]))
                found.append(value)
    return said, found


def test_a_wrong_comment_is_found():
    said, found = run("```python\nx = 1\nx + 1  # 3\n(x, 2)  # (1, 2)\n```", {})
    assert (said, found) == ([3, (1, 2)], [2, (1, 2)])


@pytest.mark.filterwarnings("ignore:.*do not add up:UserWarning", "ignore:The NumPy global RNG:FutureWarning")
@pytest.mark.parametrize("name", PAGES)
def test_page(name, tmp_path, monkeypatch):
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"the package {NEEDS[name]} is not installed")
    monkeypatch.chdir(tmp_path)
    said, found = run((FOLDER / f"{name}.md").read_text(), {"__name__": "page"})
    assert said
    assert [tuple(value) if isinstance(value, tuple) else value for value in found] == said


def test_each_page_is_listed_and_asks_something():
    listed = (FOLDER / "index.md").read_text().splitlines()
    assert [name for name in PAGES if name not in listed] == []
    titles = [(FOLDER / f"{name}.md").read_text().splitlines()[0] for name in PAGES]
    assert all(re.fullmatch(r"# .{10,70}\?", title) for title in titles), titles
