"""The pages that are written before the site is built: each is made, and links to what there is."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import innsight_py
from innsight_py.methods.registry import METHODS
from innsight_py.spec.layers import LAYER_SPECS

DOCS = Path(__file__).parents[2] / "docs"
GALLERY = (DOCS / "gallery.md").read_text()


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "generated"
    runpy.run_path(str(DOCS / "pages.py"))["write"](folder)
    return folder


def test_every_public_name_has_a_place_in_the_reference(generated):
    text = (generated / "reference.rst").read_text()
    assert [name for name in innsight_py.__all__ if f"innsight_py.{name}`" not in text] == []
    listed = set(re.findall(r"^   api/(\S+)$", text, re.MULTILINE))
    assert listed == {path.stem for path in (generated / "api").glob("*.rst")}


def test_every_method_and_layer_is_described(generated):
    methods, keys = (generated / "methods.inc").read_text(), (generated / "spec_keys.inc").read_text()
    assert [cls.__name__ for cls in METHODS.values() if f"innsight_py.{cls.__name__}>" not in methods] == []
    assert [kind for kind in LAYER_SPECS if not re.search(rf"^{kind}\n-+$", keys, re.MULTILINE)] == []


def test_what_pages_include_is_written(generated):
    """All files that hand-written pages take from the generated folder."""
    pages = [*DOCS.rglob("*.md"), *(generated.parent / "vignettes").glob("*.md")]
    assert len(pages) > 15
    named = {name for page in pages for name in re.findall(r"generated/([\w.]+\.\w+)", page.read_text())}
    written = {path.name for path in generated.iterdir()} | {"rooms.svg"}  # the picture is written by conf.py
    assert named
    assert named <= written


def test_every_entry_of_the_gallery_has_a_picture():
    cards = re.findall(r"\[!\[[^]]{20,}\]\(thumbnails/([\w-]+)\.png\)\]\(vignettes/([\w-]+)\.md\)", GALLERY)
    listed = re.findall(r"^vignettes/([\w-]+)$", GALLERY, re.MULTILINE)
    assert cards == [(name, name) for name in listed]
    assert len(listed) >= 14
    sizes = [(DOCS / "thumbnails" / f"{name}.png").stat().st_size for name in listed]
    assert max(sizes) < 80_000


def test_pages_of_functions_name_the_entries_that_use_them(generated):
    assert ":doc:`/vignettes/gradcam`" in (generated / "api" / "GradCAM.rst").read_text()
    assert ":doc:`/vignettes/gradcam`" not in (generated / "api" / "SHAP.rst").read_text()


def listed_pages(page: Path) -> set[Path]:
    """Return the pages that a page's tables of contents list, and those that these list."""
    found: set[Path] = set()
    for block in re.findall(r"```{toctree}\n(.*?)```", page.read_text(), re.DOTALL):
        for name in (line for line in block.splitlines() if line and not line.startswith(":")):
            below = page.parent / f"{name}.md"
            found |= {below} | (listed_pages(below) if below.exists() else set())
    return found


def test_every_page_is_listed():
    listed = {path.relative_to(DOCS).as_posix() for path in listed_pages(DOCS / "index.md")}
    there = {path.relative_to(DOCS).as_posix() for path in [*DOCS.glob("*.md"), *DOCS.glob("howto/*.md")]}
    there |= {f"vignettes/{path.name}" for path in (DOCS.parent / "vignettes").glob("*.md")}
    assert there - {"index.md"} <= listed
