"""Texts with coloured words as a page of HTML. It has no script: what is chosen by a click is chosen by CSS.

Everything that comes from the model or from a text is escaped, and a saved page forbids scripts altogether.
"""

from __future__ import annotations

import html
from collections.abc import Iterator

import numpy as np

from innsight_py._text import printable
from innsight_py.plots.frame import PlotFrame
from innsight_py.plots.panels import Empty, Panel
from innsight_py.plots.text import number
from innsight_py.plots.text_colours import hexadecimal, scale_limit, shade
from innsight_py.plots.words import Words, text_colour, word_label
from innsight_py.results.words import Word

_STYLE = """
.innsight-text{font:15px/1.9 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;max-width:70em}
.innsight-text .key{display:flex;flex-wrap:wrap;align-items:center;gap:.3em .6em;font-size:13px;line-height:1.4}
.innsight-text .bar{width:9em;height:.9em;border:1px solid #888;background:linear-gradient(90deg,#00f,#fff,#f00)}
.innsight-text .row{border:0;border-top:1px solid #8886;margin:.8em 0 0;padding:.4em 0 0;min-width:0}
.innsight-text .name{font-weight:600}
.innsight-text .tabs{display:flex;flex-wrap:wrap;gap:.3em;margin:.2em 0;line-height:1.4;font-size:13px}
.innsight-text .tabs label{border:1px solid #888;border-radius:1em;padding:.1em .8em;cursor:pointer;
overflow-wrap:anywhere}
.innsight-text .tabs label:has(input:checked){background:#3367d6;color:#fff;border-color:#3367d6}
.innsight-text .tabs label:has(input:focus-visible){outline:2px solid currentColor;outline-offset:1px}
.innsight-text .tabs input{position:absolute;opacity:0;pointer-events:none}
.innsight-text .facts{font-size:13px;line-height:1.5;display:flex;flex-wrap:wrap;gap:0 1.2em}
.innsight-text .paper{position:relative;background:#fff;color:#000;padding:.35em .6em 2em;border-radius:.3em;
border:1px solid #8886;margin:.2em 0 .5em;overflow-wrap:anywhere}
.innsight-text .w{padding:.12em .18em;border-radius:.2em;cursor:default;-webkit-box-decoration-break:clone;
box-decoration-break:clone}
.innsight-text .s{font-size:.8em;white-space:nowrap}
.innsight-text .w:hover,.innsight-text td:hover{outline:2px solid #000}
.innsight-text .paper::after{content:"Point at a word for its value.";color:#767676}
.innsight-text .paper::after,.innsight-text [data-v]:hover::after{position:absolute;left:.8em;right:.8em;bottom:.35em;
font-size:12px;line-height:1.5;height:1.5em;overflow:hidden;white-space:nowrap;text-overflow:ellipsis;
writing-mode:horizontal-tb;text-align:left}
.innsight-text [data-v]:hover::after{content:attr(data-v);color:#000;background:#fff;z-index:1}
.innsight-text .wide{overflow-x:auto}
.innsight-text table{border-collapse:separate;border-spacing:1px;font-size:13px;line-height:1.3;margin:0}
.innsight-text thead th{writing-mode:vertical-rl;transform:rotate(180deg);font-weight:400;padding:.2em 0;
text-align:left;white-space:nowrap;max-height:11em;overflow:hidden;text-overflow:ellipsis;background:#fff;color:#000}
.innsight-text thead td{background:#fff}
.innsight-text tbody th{position:sticky;left:0;background:#fff;color:#000;text-align:right;font-weight:600;
padding:0 .5em;white-space:nowrap;max-width:12em;overflow:hidden;text-overflow:ellipsis}
.innsight-text tbody td{min-width:1.5em;width:1.5em;height:1.6em;padding:0;border:0;
box-shadow:inset 0 0 0 1px #0001}
@media (max-width:600px){.innsight-text tbody th{max-width:7em}}
@supports selector(:has(*)){.innsight-text .node{display:none}}
"""
_PAGE_STYLE = """
:root{color-scheme:light dark}
body{margin:1em auto;padding:0 1em;max-width:70em;background:#fff;color:#111}
@media (prefers-color-scheme:dark){body{background:#151515;color:#ddd}}
"""
#: Nothing is loaded and nothing runs, whatever a text says.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(frame: PlotFrame, together: bool = False) -> str:
    """Write a whole page.

    Parameters
    ----------
    frame : PlotFrame
        What is shown.
    together : bool
        Whether the table of all nodes is shown first, where there are several.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_safe(frame.title)}: texts</title><style>{_PAGE_STYLE}</style></head>\n"
        f"<body>{fragment(frame, together)}</body></html>\n"
    )


def fragment(frame: PlotFrame, together: bool = False) -> str:
    """Write the part of a page that notebooks show; arguments as in `page`."""
    instances, nodes, _ = frame.shape
    limit = scale_limit(frame)
    several = nodes > 1
    shown = range(nodes + several)
    rules = "".join(f".innsight-text .row:has(input[value='{n}']:checked) .n{n}{{display:block}}" for n in shown)
    key = (
        f'<div class="key"><span class="name">{_safe(frame.title)}</span>'
        f"<span>{number(-limit)}</span>"
        f'<span class="bar" role="img" aria-label="blue is negative, white is 0, red is positive"></span>'
        f"<span>{number(limit)}</span><span>{_safe(frame.value_name)} (0 is white)</span></div>"
    )
    rows = "\n".join(_row(frame, i, limit, together) for i in range(instances))
    return f'<style>{_STYLE}{rules}</style><form class="innsight-text">{key}\n{rows}</form>'


def _safe(text: str) -> str:
    return html.escape(printable(text), quote=True)


def _row(frame: PlotFrame, i: int, limit: float, together: bool) -> str:
    nodes = frame.shape[1]
    first = nodes if together and nodes > 1 else _first(frame, i)
    labels = [panel.place.node for panel in frame.panels[i, :, 0]] + (["all together"] if nodes > 1 else [])
    tabs = "".join(
        f'<label><input type="radio" name="row{i}" value="{n}"{" checked" if n == first else ""}>{_safe(label)}</label>'
        for n, label in enumerate(labels)
    )
    name = f'<div class="name">{_safe(frame.instances[i])}</div>' if frame.has_instances else ""
    blocks = "".join(_node(frame, i, j, limit) for j in range(nodes))
    table = f'<div class="node n{nodes}">{"".join(_tables(frame, i, limit))}</div>' if nodes > 1 else ""
    return f'<fieldset class="row">{name}<div class="tabs">{tabs}</div>{blocks}{table}</fieldset>'


def _first(frame: PlotFrame, i: int) -> int:
    """Return the node that is shown first: the one with the largest prediction, where predictions are known."""
    known = [] if frame.info is None else [info.pred for info in frame.info[i]]
    values = [-np.inf if value is None or np.isnan(value) else value for value in known]
    return int(np.argmax(values)) if values else 0


# -- one node -----------------------------------------------------------------------------------------------------


def _node(frame: PlotFrame, i: int, j: int, limit: float) -> str:
    names = {"Pred.": "prediction", "Sum": "sum", "Goal": "goal of the sum", "Largest": "largest output"}
    facts = [] if frame.info is None else frame.info[i, j].lines
    told = "".join(f"<span>{names[name]} <b>{_safe(value)}</b></span>" for name, value in facts)
    panels = "".join(_panel(panel, frame.has_inputs, limit) for panel in frame.panels[i, j])
    return f'<div class="node n{j}"><div class="facts">{told}</div>{panels}</div>'


def _panel(panel: Panel, named: bool, limit: float) -> str:
    head = f"<div>{_safe(panel.place.input)}</div>" if named else ""
    if isinstance(panel, Words):
        return f'{head}<div class="paper" dir="auto">{"".join(_words(panel, limit))}</div>'
    text = panel.text if isinstance(panel, Empty) else "no text; plot() draws it"
    return f"{head}<div>{_safe(text)}</div>"


def _words(panel: Words, limit: float) -> Iterator[str]:
    for place, (word, value) in enumerate(zip(panel.words, panel.values, strict=True)):
        look, told = _look(word, float(value), limit), _told(panel, place)
        space = " " if word.spaced and place else ""
        kind = "w s" if word.special else "w"
        end = "<br>" if word.text.endswith("\u21b5") else ""
        yield f'{space}<span class="{kind}" style="{look}" data-v="{told}">{_safe(word_label(word))}</span>{end}'


def _look(word: Word, value: float, limit: float) -> str:
    place = shade(value, limit)
    return f"background:{hexadecimal(place)};color:{text_colour(place, word)}"


def _told(panel: Words, place: int) -> str:
    """Write what the pointer on a word shows: the word, its value, and those of its pieces."""
    pieces = f" ({panel.pieces[place]})" if panel.pieces[place] else ""
    return _safe(f"{word_label(panel.words[place])}: {number(float(panel.values[place]))}{pieces}")


# -- all nodes together -------------------------------------------------------------------------------------------


def _tables(frame: PlotFrame, i: int, limit: float) -> Iterator[str]:
    """Write a table for each text: a line for each node, a column for each word."""
    for k in range(frame.shape[2]):
        panels = [panel for panel in frame.panels[i, :, k] if isinstance(panel, Words)]
        if not panels:
            continue
        head = "".join(f"<th>{_safe(word_label(word))}</th>" for word in panels[0].words)
        lines = "".join(_line(panel, limit) for panel in panels)
        named = f"<div>{_safe(panels[0].place.input)}</div>" if frame.has_inputs else ""
        yield (
            f'{named}<div class="paper"><div class="wide"><table><thead><tr><td></td>{head}</tr></thead>'
            f"<tbody>{lines}</tbody></table></div></div>"
        )


def _line(panel: Words, limit: float) -> str:
    node = _safe(panel.place.node)
    cells = "".join(
        f'<td style="background:{hexadecimal(shade(float(value), limit))}" data-v="{node}: {_told(panel, place)}"></td>'
        for place, value in enumerate(panel.values)
    )
    return f'<tr><th title="{node}">{node}</th>{cells}</tr>'
