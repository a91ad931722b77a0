"""How it is shown which rule of LRP each layer follows."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from innsight_py.functions.lrp import Rule
from innsight_py.functions.lrp_weightless import Pass
from innsight_py.layers import Layer
from innsight_py.layers.base import Carrying
from innsight_py.layers.folded import Folded
from innsight_py.layers.recurrent import Recurrent, Within
from innsight_py.layers.support import supports
from innsight_py.model.assignment import Assigned
from innsight_py.model.graph import Graph


@dataclass(frozen=True)
class RuleRow:
    """One line of a `RuleTable`: a layer, its class, the rule that it follows, and what chose the rule."""

    layer: str
    kind: str
    rule: str
    why: str


class RuleTable:
    """Which layer follows which rule: prints as a table, and is a sequence of `RuleRow`."""

    def __init__(self, rows: list[RuleRow]) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[RuleRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> RuleRow:
        return self.rows[i]

    def _cells(self) -> list[tuple[str, str, str, str]]:
        return [("layer", "class", "rule", "why"), *((r.layer, r.kind, r.rule, r.why) for r in self.rows)]

    def __repr__(self) -> str:
        widths = [max(map(len, column)) for column in zip(*self._cells(), strict=True)]
        lines = ["  ".join(f"{cell:{n}}" for cell, n in zip(row, widths, strict=True)) for row in self._cells()]
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        head, *rows = self._cells()
        said = "".join(f"<th>{cell}</th>" for cell in head)
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        return f"<table><thead><tr>{said}</tr></thead><tbody>{body}</tbody></table>"


def table_of(graph: Graph, assigned: Mapping[str, Assigned]) -> RuleTable:
    """Describe what every layer follows; layers that only move values are left out."""
    rows: list[RuleRow] = []
    for node in graph.nodes:
        layer, it = graph.layer(node.name), assigned[node.name]
        if isinstance(layer, Recurrent):
            rows += _within(layer, it)
            continue
        if layer.lrp_kinds or not isinstance(layer, Carrying):
            rows.append(RuleRow(layer.name, layer.r_class, _way(layer, it.rule), it.why))
        if not layer.activation.is_linear and layer.family not in ("activation", "softmax"):
            kind = f"{layer.r_class} ({layer.activation.name})"
            rows.append(RuleRow(layer.name, kind, repr(it.activation), it.activation_why))
    return RuleTable(rows)


def _within(recurrent: Recurrent, it: Assigned) -> Iterator[RuleRow]:
    """Describe what the layers of a step follow, those of the later steps where there are some."""
    if not isinstance(it.rule, Within):
        return
    cells = zip(recurrent.cells_of(), it.rule.parts, strict=True)
    cell, rules = [(cell, rules) for cell, rules in cells if rules][-1]
    seen = set()
    for part in cell.parts:
        layer, rule = part.layer, rules[part.name][0]
        row = RuleRow(recurrent.name, f"{recurrent.r_class}: {layer.r_class}", _way(layer, rule), it.why)
        if row not in seen and (layer.lrp_kinds or not isinstance(layer, Carrying)):
            seen.add(row)
            yield row


def _way(layer: Layer, rule: Rule) -> str:
    if layer.family == "softmax" and isinstance(rule, Pass):
        return "no rule: LRP stops here, unless the model ends here"
    if layer.lrp_kinds and not (layer.family == "normalization" and isinstance(rule, Pass)):
        return repr(rule)
    kind = type(layer.inner if isinstance(layer, Folded) else layer)
    return "one rule" if supports(kind, "lrp") and not layer.lrp_kinds else "no rule: LRP stops here"
