"""The page of an interactive figure: controls above it, a layout for each width of a window, colours for dark pages."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from innsight_py._text import printable
from innsight_py.plots.frame import PlotFrame
from innsight_py.plots.panels import Image
from innsight_py.plots.plotly_figure import Arrangement, arranged, figure_of
from innsight_py.plots.words import Words

#: Widths of windows that there is a layout for, in pixels; and for figures with very many panels.
_WIDTHS = (300, 340, 375, 420, 480, 560, 660, 780, 900, 1050, 1200, 1400)
_FEWER, _MANY = (340, 480, 780, 1200), 120
#: From more entries on, a control is a field to search in.
_MOST_ENTRIES = 40
#: What colours of a figure become on a dark page. Scales of colours stay.
_DARK = {
    "white": "#131416", "rgb(240,240,240)": "rgb(32,34,38)", "rgb(217,217,217)": "rgb(60,63,68)",
    "rgb(40,40,40)": "rgb(222,222,222)", "#fff": "rgb(66,69,74)", "rgb(50,50,50)": "rgb(225,225,225)",
    "rgb(200,200,200)": "rgb(96,100,106)", "rgb(140,140,140)": "rgb(205,205,205)",
    "rgba(40,40,40,0.15)": "rgba(215,215,215,0.2)", "rgba(40,40,40,0.3)": "rgba(215,215,215,0.35)",
    "red": "rgb(255,84,84)",
}  # fmt: skip
_CONFIG = {"displaylogo": False, "responsive": False}
_PAGE_STYLE = """
:root{color-scheme:light dark}
body{margin:0;background:#fff}
@media (prefers-color-scheme:dark){body{background:#131416}}
"""


def page(figure: go.Figure, frame: PlotFrame, **arguments: Any) -> str:
    """Write a page, or the part of one that has the figure.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
        What `figure_of` made of the frame. What was changed in it since then stays.
    frame : PlotFrame
        What is drawn.
    **arguments
        Of ``Figure.to_html``.
    """
    whole = arguments.pop("full_html", True)
    config = _CONFIG | (arguments.pop("config", None) or {})
    scripts = arguments.pop("post_script", None) or []
    scripts = [_script(figure, frame), *([scripts] if isinstance(scripts, str) else scripts)]
    part = _without_controls(figure).to_html(full_html=False, config=config, post_script=scripts, **arguments)
    part = f"<style>{_file('page.css')}</style>{part}"
    if not whole:
        return part
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(printable(frame.title))}</title><style>{_PAGE_STYLE}</style></head>\n"
        f"<body>{part}</body></html>\n"
    )


def write_page(path: Path, figure: go.Figure, frame: PlotFrame, **arguments: Any) -> None:
    """Write a page into a file; with ``include_plotlyjs="directory"`` plotly is written beside it."""
    beside = path.parent / "plotly.min.js"
    if arguments.get("include_plotlyjs") == "directory" and not beside.exists():
        beside.write_text(get_plotlyjs(), encoding="utf-8")
    path.write_text(page(figure, frame, **arguments), encoding="utf-8", errors="replace")


def _file(name: str) -> str:
    return files("innsight_py.plots").joinpath(name).read_text(encoding="utf-8")


def _script(figure: go.Figure, frame: PlotFrame) -> str:
    given = {
        "controls": _controls(figure),
        "arrangements": _arrangements(figure, frame),
        "stretches": not any(isinstance(panel, Image | Words) for panel in frame.panels.flat),
        "dark": _DARK,
        "most": _MOST_ENTRIES,
    }
    text = to_json_plotly(given).replace("<", "\\u003c").replace("{plot_id}", "{plot\\u005fid}")
    return _file("page.js").replace("GIVEN", text)


# -- controls -----------------------------------------------------------------------------------------------------


def _is_ours(menu: Any) -> bool:
    return (menu.name or "").startswith("button_") or menu.name == "slider_quantiles"


def _without_controls(figure: go.Figure) -> go.Figure:
    """Copy a figure without menus and sliders of ours; those of the user stay."""
    copy = go.Figure(figure)
    for kind in ("updatemenus", "sliders"):
        copy.layout[kind] = [menu for menu in figure.layout[kind] if not _is_ours(menu)]
    copy.layout.annotations = [note for note in figure.layout.annotations if note.name != "caption"]
    return copy


def _controls(figure: go.Figure) -> list[dict[str, Any]]:
    captions = [note.text.removeprefix("<b>").removesuffix("</b>") for note in figure.layout.annotations
                if note.name == "caption"]  # fmt: skip
    menus = [menu for menu in figure.layout.updatemenus if _is_ours(menu)]
    found = [
        _control("menu", menu.name, caption, menu.buttons, menu.active)
        for menu, caption in zip(menus, captions, strict=True)
    ]
    return found + [
        _control("slider", slider.name, "Quantile", slider.steps, slider.active)
        for slider in figure.layout.sliders
        if _is_ours(slider)
    ]


def _control(kind: str, name: str, label: str, options: Any, active: int | None) -> dict[str, Any]:
    listed = [{"label": option.label, "method": option.method, "args": list(option.args)} for option in options]
    return {"kind": kind, "name": name, "label": label, "options": listed, "active": active or 0}


# -- layouts ------------------------------------------------------------------------------------------------------


def _arrangements(figure: go.Figure, frame: PlotFrame) -> list[dict[str, Any]]:
    """Return a layout for each width of a window, from the narrowest to that of the figure itself."""
    widest = arranged(frame, None)
    changes = _Changes(figure, frame)
    full = changes.own_width or widest.layout["width"]
    widths = [width for width in (_FEWER if frame.panels.size > _MANY else _WIDTHS) if width < full]
    return [*(changes.of(arranged(frame, width), width) for width in widths), changes.of(widest, full, last=True)]


class _Changes:
    """What a layout for a page changes in a figure. What the user has changed in the figure stays.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
        As it is now.
    frame : PlotFrame
        What is drawn.
    """

    def __init__(self, figure: go.Figure, frame: PlotFrame) -> None:
        self._now, self._drawn = _plain(figure.layout), _plain(figure_of(frame).layout)
        self._lists = {
            key: self._now[key][len(self._drawn[key]) :]
            for key in ("annotations", "shapes")
            if self._now.get(key, [])[: len(self._drawn[key])] == self._drawn[key]
        }
        self._now, self._drawn = _flat(self._now), _flat(self._drawn)
        self._texts = [n for n, trace in enumerate(figure.data) if trace.name == "words"]
        #: The width that the user has given to the figure.
        self.own_width = self._now.get("width") if self._is_own("width") else None

    def _is_own(self, path: str) -> bool:
        """Tell whether the user has changed something."""
        return bool(self._now.get(path) != self._drawn.get(path))

    def of(self, arrangement: Arrangement, room: float, last: bool = False) -> dict[str, Any]:
        """Return what changes in a window of some width: paths of the layout, and parts of the traces of texts."""
        layout = _plain(arrangement.layout)
        lists = {key: layout.pop(key) + own for key, own in self._lists.items()}
        sized = () if last else ("width", "height")
        changed = {
            path: value
            for path, value in _flat(layout).items()
            if path.split(".")[0] not in ("template", "annotations", "shapes")
            and value != self._now.get(path)
            and (path in sized or not self._is_own(path))
        }
        texts = {n: _moved(trace) for n, trace in zip(self._texts, arrangement.texts, strict=True)}
        return {"room": room, "layout": changed | lists, "traces": texts}


def _plain(layout: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(to_json_plotly(layout))
    return found


def _flat(layout: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Return the entries of nested dicts by their paths."""
    found: dict[str, Any] = {}
    for key, value in layout.items():
        found |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return found


def _moved(trace: dict[str, Any]) -> dict[str, Any]:
    return {key: trace[key] for key in ("base", "x", "y")}
