"""The page about the rooms of the package names what there is."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
ROOMS = runpy.run_path(str(ROOT / "docs" / "rooms.py"))
FLOORS = ROOMS["floors"]()
NAMES = [room for floor in FLOORS for room in floor]
PATHS = sorted(set(re.findall(r"`([\w.-]+/[\w./-]*|README\.md|pyproject\.toml)`", PAGE)))


def paragraph(room: str) -> str:
    """Return what the page says of a room."""
    return next(text for text in PAGE.split("\n\n") if re.search(rf"^\*\*.*\*\*{room}\*\*|^\*\*{room}\*\*", text))


@pytest.mark.parametrize("path", PATHS)
def test_paths_exist(path):
    """A path is named from the root of the project, or from the room whose paragraph it stands in."""
    assert (ROOT / path).exists() or any((ROOT / "innsight_py" / room / path).exists() for room in NAMES)


@pytest.mark.parametrize("room", NAMES)
def test_modules_of_a_room_exist(room):
    folder = ROOT / ("converters" if room == "converters" else f"innsight_py/{room}")
    folder = folder if folder.is_dir() else folder.parent
    for name in re.findall(r"`(\w+\.py)`", paragraph(room)):
        assert (folder / name).exists(), name


def test_every_room_has_a_paragraph():
    there = {path.stem for path in (ROOT / "innsight_py").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert set(NAMES) == {name for name in there if not name.startswith("__") and name != "py"} | {"converters"}
    assert all(len(paragraph(room)) > 80 for room in NAMES)


def test_all_that_the_contract_names_is_described():
    contract = (ROOT / "pyproject.toml").read_text().partition("[tool.importlinter]")[2].partition("\n]\n")[0]
    named = re.findall(r"\w+", re.sub(r"#.*", "", contract.partition("\nlayers = [")[2]))
    assert set(NAMES) <= set(named)
    assert [name for name in named if f"**{name}**" not in PAGE] == []


def test_the_floors_are_those_of_the_contract():
    written = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)[1].split("\n")[:-1]
    assert [line.split(" | ") for line in written] == FLOORS


def test_every_arrow_goes_down():
    height = {room: i for i, floor in enumerate(FLOORS) for room in floor}
    arrows = ROOMS["arrows"]()
    assert arrows["methods", "model"] > 0
    assert [(room, other) for room, other in arrows if height[room] >= height[other]] == []


def test_the_picture_has_every_room_and_arrow():
    picture = ElementTree.fromstring(ROOMS["picture"]())  # noqa: S314
    texts = [node.text for node in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert set(NAMES) <= set(texts)
    titles = list(picture.iter("{http://www.w3.org/2000/svg}title"))
    assert len(titles) == len(ROOMS["arrows"]())
