"""How results look when they are printed: as in R, and as a table in notebooks."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence

from innsight_py._text import headline, html_table, item, line_width, printable
from innsight_py.results.attributions import Attributions, explained_part
from innsight_py.results.completeness import residual_lines
from innsight_py.results.notes import unexplained
from innsight_py.results.tables import spread
from innsight_py.spec.keys import layer_title


def _index_text(idx: Sequence[int | tuple[int, ...]] | None, labels: Sequence[str] | None) -> str:
    if idx is None or labels is None:
        return "not applied!"
    quoted = ", ".join(f"'{label}'" for label in labels)
    return f"{', '.join(map(str, idx))} (→ corresponding labels: {quoted})"


def _explained_text(attributions: Attributions, i: int) -> str:
    """Say which nodes of output layer i are explained."""
    own = attributions.target_label[i] if attributions.target_label else None
    if own is None:
        return _index_text(attributions.output_idx[i], attributions.output_label[i])
    counts = Counter(own)
    shown = ", ".join(f"'{label}' for {count}" for label, count in counts.most_common(5))
    more = f", {len(counts) - 5} more" if len(counts) > 5 else ""
    return f"{attributions.targets[i]} (→ {shown}{more} of {len(own)} rows)"


def _result_rows(attributions: Attributions) -> list[tuple[int, int, list[tuple[str, str]] | None]]:
    """Describe the values of each pair of output and input layer; None where they are not connected."""
    rows: list[tuple[int, int, list[tuple[str, str]] | None]] = []
    for i, row in enumerate(attributions.result):
        for j, x in enumerate(row or ()):
            if x is None:
                rows.append((i, j, None))
                continue
            low, median, high, missing = spread(x)
            facts = [
                ("Shape", f"({', '.join(map(str, x.shape))})"),
                ("Range", f"min: {low + 0.0:.6g}, median: {median + 0.0:.6g}, max: {high + 0.0:.6g}"),
                ("Number of NaN values", str(missing)),
            ]
            rows.append((i, j, facts))
    return rows


def attributions_text(attributions: Attributions, fields: Sequence[tuple[str, str]]) -> str:
    """Write a method, with its own fields, and its result as R prints them."""
    width = line_width()
    lines = [headline(f"Method {type(attributions).__name__} (innsight)", width), "Fields (method-specific):"]
    for name, text in fields:
        lines += item(f"{name}: {text}", 2, width)
    lines.append("Fields (other):")
    if len(attributions.output_idx) == 1:
        lines += item(f"output_idx: {_explained_text(attributions, 0)}", 2, width)
    else:
        lines.append("  • output_idx:")
        keys = attributions.described.output_keys
        for i in range(len(attributions.output_idx)):
            lines += item(f"{layer_title('Output layer', i, keys)}: {_explained_text(attributions, i)}", 6, width)
    lines.append(f"  • ignore_last_act: {attributions.ignore_last_act}")
    lines.append(f"  • channels_first: {attributions.channels_first}")
    lines += [f"  • dtype: '{attributions.dtype}'", "", "── Result (result) ──", ""]
    lines += _result_lines(attributions)
    residual = residual_lines(attributions)
    if residual:
        lines += ["", "── Residual (residual) ──", ""]
        for name, text in residual:
            lines += item(f"{name}: {text}", 2, width, "─")
    note = unexplained(attributions)
    if note is not None:
        lines += ["", *item(note, 2, width, "!")]
    return "\n".join(map(printable, [*lines, "", "─" * width]))


def _result_lines(attributions: Attributions) -> list[str]:
    attributions, lines = explained_part(attributions), []
    selected = [i for i, row in enumerate(attributions.result) if row is not None]
    inputs = len(attributions.described.input_dim)
    input_keys, output_keys = attributions.described.input_keys, attributions.described.output_keys
    for i, j, facts in _result_rows(attributions):
        if len(selected) > 1 and j == 0:
            lines.append(f"{layer_title('Output layer', i, output_keys)}:")
        if inputs > 1:
            lines.append(f"  • {layer_title('Input layer', j, input_keys)}:")
        indent = " " * (6 if inputs > 1 else 2)
        if facts is None:
            lines.append(f"{indent}(not connected to {layer_title('output layer', i, output_keys)})")
        else:
            lines += [f"{indent}─ {name}: {text}" for name, text in facts]
    return lines


def attributions_html(attributions: Attributions, fields: Sequence[tuple[str, str]]) -> str:
    """Write a method as an HTML table of its fields and one of its results."""
    fields = [*fields, ("ignore_last_act", str(attributions.ignore_last_act))]
    fields += [("channels_first", str(attributions.channels_first)), ("dtype", f"'{attributions.dtype}'")]
    fields += [
        (
            f"output_idx, {layer_title('output layer', i, attributions.described.output_keys)}",
            _explained_text(attributions, i),
        )
        for i in range(len(attributions.output_idx))
    ]
    results = [
        (str(i + 1), str(j + 1), *([text for _, text in facts] if facts else ("not connected", "", "")))
        for i, j, facts in _result_rows(explained_part(attributions))
    ]
    residual, note = residual_lines(attributions), unexplained(attributions)
    return (
        f"<p><strong>Method {html.escape(type(attributions).__name__)}</strong> (innsight)</p>"
        + html_table(("field", "value"), fields)
        + html_table(("output layer", "input layer", "shape", "range", "NaN values"), results)
        + (html_table(("residual", ""), residual) if residual else "")
        + ("" if note is None else f"<p>{html.escape(note)}</p>")
    )
