"""The rooms of the package, what each imports of the others, and their picture.

``conf.py`` writes the picture into ``docs/generated``; the tests compare the rooms with ``docs/architecture.md``.
"""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "innsight_py"
#: Sizes of the picture in pixels.
WIDTH, HEIGHT, GAP, MARGIN = 300, 40, 14, 16


def modules() -> Iterator[tuple[str, Path]]:
    """Find the file of every module by its name in the package."""
    for folder, prefix in ((PACKAGE, ""), (ROOT / "converters", "converters.")):
        for path in sorted(folder.rglob("*.py")):
            yield (prefix + ".".join(path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"), path


def floors() -> list[list[str]]:
    """Return the rooms from the highest floor to the lowest, as the contract of the imports has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = [each for each in settings["contracts"] if each["type"] == "layers"]
    there = {name.partition(".")[0] for name, _ in modules()}
    named = [[room.strip(" ()") for room in floor.split("|")] for floor in contract["layers"]]
    return [rooms for floor in named if (rooms := [room for room in floor if room in there])]


def purpose(room: str) -> str:
    """Return the first line of what a room says of itself."""
    path = next(path for name, path in modules() if name == room)
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def arrows() -> Counter[tuple[str, str]]:
    """Count the modules of a room that import another, for each pair of rooms."""
    found: Counter[tuple[str, str]] = Counter()
    for name, path in modules():
        named: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module == "innsight_py":
                named |= {f"innsight_py.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                named.add(str(node.module))
        rooms = {each.split(".")[1] for each in named if each.startswith("innsight_py.")}
        room = name.partition(".")[0]
        found.update((room, other) for other in rooms if other != room and not room.startswith("__"))
    return found


def picture() -> str:
    """Draw the rooms from the highest to the lowest, and an arc from each to those that it imports."""
    rooms = [room for floor in floors() for room in floor]
    counts = Counter(name.partition(".")[0] for name, _ in modules())
    middle = {room: MARGIN + i * (HEIGHT + GAP) + HEIGHT // 2 for i, room in enumerate(rooms)}
    lines = []
    for (room, other), count in sorted(arrows().items()):
        start, end = middle[room], middle[other]
        reach = MARGIN + WIDTH + 24 + 0.42 * abs(end - start)
        lines.append(
            f'<path d="M{MARGIN + WIDTH} {start + 5} C{reach:.0f} {start + 5} {reach:.0f} {end - 5} '
            f'{MARGIN + WIDTH + 4} {end - 5}" stroke-width="{min(1 + count / 4, 4):g}" marker-end="url(#head)">'
            f"<title>{escape(room)} imports {escape(other)}: {count} modules</title></path>"
        )
    boxes = []
    for room, y in middle.items():
        files = f"{counts[room]} module" + ("s" if counts[room] > 1 else "")
        boxes.append(
            f'<rect x="{MARGIN}" y="{y - HEIGHT // 2}" width="{WIDTH}" height="{HEIGHT}" rx="5" '
            f'fill="#e8eef4" stroke="#33495c"/>'
            f'<text x="{MARGIN + 12}" y="{y + 5}" font-weight="bold">{escape(room)}</text>'
            f'<text x="{MARGIN + WIDTH - 12}" y="{y + 5}" text-anchor="end">{files}</text>'
        )
    height = max(middle.values()) + HEIGHT // 2 + MARGIN
    width = MARGIN + WIDTH + 40 + int(0.33 * height)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="14">\n'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto" '
        'markerUnits="userSpaceOnUse"><path d="M0 0 L8 4 L0 8 z" fill="#5b7083"/></marker></defs>\n'
        '<rect width="100%" height="100%" fill="#ffffff"/>\n'
        '<g fill="none" stroke="#5b7083" stroke-opacity="0.55">\n' + "\n".join(lines) + "\n</g>\n"
        '<g fill="#1c2a36">\n' + "\n".join(boxes) + "\n</g>\n</svg>\n"
    )  # fmt: skip
