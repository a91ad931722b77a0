"""Check that the built site needs nothing but itself: links lead somewhere, nothing is loaded, pictures have texts.

``python docs/check_links.py docs/_build/html``
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Attributes that make a browser load something.
LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}


class Page(HTMLParser):
    """Collects the anchors of a page, where its links lead, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.unlabelled: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one tag."""
        given = dict(attrs)
        if tag == "img" and Path(given.get("alt") or ".png").suffix in (".png", ".svg"):  # the default is the path
            self.unlabelled.append(given.get("src") or "")
        self.anchors |= {value for key in ("id", "name") if (value := given.get(key))}
        for key, value in attrs:
            canonical = tag == "link" and given.get("rel") in ("canonical", "search")
            if value is not None and (tag, key) in LOADED and not canonical:
                self.loaded.append(value)
            elif value is not None and (tag, key) == ("a", "href"):
                self.links.append(value)


def problems(folder: Path) -> list[str]:
    """Return what is wrong with a site."""
    pages = {path.resolve(): Page(path) for path in sorted(folder.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        found += [f"{path.relative_to(folder.resolve())}: {src} has no text" for src in page.unlabelled]
        for link in page.loaded:
            if urlsplit(link).scheme in ("http", "https") or link.startswith("//"):
                found.append(f"{path.relative_to(folder.resolve())}: loads {link}")
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.exists():
                found.append(f"{path.relative_to(folder.resolve())}: {link} leads nowhere")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                found.append(f"{path.relative_to(folder.resolve())}: {link} has no such place")
    return found


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]))
    print("\n".join(wrong) or "All links lead somewhere.")
    sys.exit(bool(wrong))
