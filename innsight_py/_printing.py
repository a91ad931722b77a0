"""How converters and results look when they are printed: as in R, and as a table in notebooks."""

from __future__ import annotations

import html
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from innsight_py.completeness import residual_lines
from innsight_py.keys import keys_of, layer_title
from innsight_py.names import AxisNames, LayerNames
from innsight_py.results import summary

if TYPE_CHECKING:
    from innsight_py.converter import Converter
    from innsight_py.methods.base import InterpretingMethod

_AXES = {1: ("Feature",), 2: ("Channels", "Signal length"), 3: ("Channels", "Image height", "Image width")}


def _width() -> int:
    return min(shutil.get_terminal_size((80, 24)).columns, 120)


def _rule(title: str, width: int) -> str:
    return f"── {title} ".ljust(width, "─")


def _item(text: str, indent: int, width: int, bullet: str = "•") -> list[str]:
    """Write one bullet, wrapped like R's under the text of its first line."""
    left = " " * indent
    unbroken = re.sub(r"\(\*[^)]*\)", lambda shape: shape.group().replace(" ", "\xa0"), f"{bullet} {text}")
    lines = textwrap.wrap(unbroken, width - 1, initial_indent=left, subsequent_indent=left, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]


def dims_text(dims: Iterable[Sequence[int]]) -> str:
    """Write shapes as R does, with a star for the batch axis."""
    return ", ".join(f"(*, {', '.join(map(str, dim))})" for dim in dims)


def _axis_labels(names: LayerNames, is_output: bool) -> Sequence[str]:
    if is_output:
        return ("Output node/Class",)
    return _AXES.get(len(names)) or ("Channels", *(f"Axis {i + 1}" for i in range(len(names) - 1)))


def _shortened(names: AxisNames, label: str, width: int) -> str:
    """Join labels; where they are longer than a line the rest is three dots."""
    room = 0.95 * width - len(label)
    kept: list[str] = []
    for name in names:
        room -= len(str(name)) + 2
        if room < 0:
            return ", ".join([*kept[:-1], "..."]) if len(kept) > 1 else ", ".join([*kept, "..."])
        kept.append(str(name))
    return ", ".join(kept)


def _names_lines(layers: Sequence[LayerNames], keys: Sequence[str], is_output: bool, width: int) -> list[str]:
    lines, indent = [], 6
    for i, names in enumerate(layers):
        if len(layers) > 1:
            lines.append(f"      • {layer_title('Output layer' if is_output else 'Input layer', i, keys)}:")
            indent = 10
        for label, axis in zip(_axis_labels(names, is_output), names, strict=True):
            head = f"─ {label} ({len(axis)})"
            lines += _item(f"{head[2:]}: {_shortened(axis, head, width)}", indent, width, "─")
    return lines


def converter_text(converter: Converter) -> str:
    """Write a converter as R prints it."""
    width = _width()
    lines = [_rule("Converter (innsight)", width), "Fields:"]
    lines += _item(f"input_dim: {dims_text(converter.input_dim)}", 2, width)
    lines += _item(f"output_dim: {dims_text(converter.output_dim)}", 2, width)
    lines += ["  • input_names:", *_names_lines(converter.input_names, converter.input_keys, False, width)]
    lines += ["  • output_names:", *_names_lines(converter.output_names, converter.output_keys, True, width)]
    lines.append(f"  • model_as_dict: {'not included' if converter.model_as_dict is None else 'included'}")
    lines.append("  • model (class ConvertedModel):")
    for i, (kind, dim_in, dim_out) in enumerate(_layer_rows(converter), start=1):
        lines += _item(f"{kind}: input_dim: {dim_in}, output_dim: {dim_out}", 4, width, f"{i}.")
    return "\n".join([*lines, "", "─" * width])


def _layer_rows(converter: Converter) -> list[tuple[str, str, str]]:
    model = converter.model
    layers = [model.layer(node.name) for node in model.nodes]
    return [(layer.r_class, dims_text(layer.input_dims), dims_text([layer.output_dim])) for layer in layers]


def _index_text(idx: Sequence[int] | None, labels: Sequence[str] | None) -> str:
    if idx is None or labels is None:
        return "not applied!"
    quoted = ", ".join(f"'{label}'" for label in labels)
    return f"{', '.join(map(str, idx))} (→ corresponding labels: {quoted})"


def _result_rows(method: InterpretingMethod) -> list[tuple[int, int, list[tuple[str, str]] | None]]:
    """For each pair of output and input layer what is said of its values, None where they are not connected."""
    rows: list[tuple[int, int, list[tuple[str, str]] | None]] = []
    for i, row in enumerate(method.result):
        for j, x in enumerate(row or ()):
            if x is None:
                rows.append((i, j, None))
                continue
            low, median, high, missing = summary(x)
            facts = [
                ("Shape", f"({', '.join(map(str, x.shape))})"),
                ("Range", f"min: {low + 0.0:.6g}, median: {median + 0.0:.6g}, max: {high + 0.0:.6g}"),
                ("Number of NaN values", str(missing)),
            ]
            rows.append((i, j, facts))
    return rows


def method_text(method: InterpretingMethod) -> str:
    """Write a method and its result as R prints them."""
    width = _width()
    lines = [_rule(f"Method {type(method).__name__} (innsight)", width), "Fields (method-specific):"]
    for name, text in method._fields():
        lines += _item(f"{name}: {text}", 2, width)
    lines.append("Fields (other):")
    if len(method.output_idx) == 1:
        lines += _item(f"output_idx: {_index_text(method.output_idx[0], method.output_label[0])}", 2, width)
    else:
        lines.append("  • output_idx:")
        keys = keys_of(method.converter, "output")
        for i, (idx, labels) in enumerate(zip(method.output_idx, method.output_label, strict=True)):
            lines += _item(f"{layer_title('Output layer', i, keys)}: {_index_text(idx, labels)}", 6, width)
    for name in ("ignore_last_act", "channels_first"):
        lines.append(f"  • {name}: {getattr(method, name)}")
    lines += [f"  • dtype: '{method.dtype}'", "", "── Result (result) ──", ""]
    lines += _result_lines(method)
    residual = residual_lines(method)
    if residual:
        lines += ["", "── Residual (residual) ──", ""]
        for name, text in residual:
            lines += _item(f"{name}: {text}", 2, width, "─")
    return "\n".join([*lines, "", "─" * width])


def _result_lines(method: InterpretingMethod) -> list[str]:
    lines: list[str] = []
    selected = [i for i, row in enumerate(method.result) if row is not None]
    inputs = len(method.converter.input_dim)
    keys = {what: keys_of(method.converter, what) for what in ("input", "output")}
    for i, j, facts in _result_rows(method):
        if len(selected) > 1 and j == 0:
            lines.append(f"{layer_title('Output layer', i, keys['output'])}:")
        if inputs > 1:
            lines.append(f"  • {layer_title('Input layer', j, keys['input'])}:")
        indent = " " * (6 if inputs > 1 else 2)
        if facts is None:
            lines.append(f"{indent}(not connected to {layer_title('output layer', i, keys['output'])})")
        else:
            lines += [f"{indent}─ {name}: {text}" for name, text in facts]
    return lines


# -- notebooks --------------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def cells(entries: Sequence[str], tag: str) -> str:
        return "".join(f'<{tag} style="text-align: left">{html.escape(entry)}</{tag}>' for entry in entries)

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def converter_html(converter: Converter) -> str:
    """Write a converter as an HTML table of its names and one of its layers."""
    rows = []
    named = (("Input", converter.input_names, converter.input_keys),
             ("Output", converter.output_names, converter.output_keys))  # fmt: skip
    for what, layers, keys in named:
        for i, names in enumerate(layers):
            for label, axis in zip(_axis_labels(names, what == "Output"), names, strict=True):
                rows.append(
                    (layer_title(f"{what} layer", i, keys), label, str(len(axis)), _shortened(axis, label, 120))
                )
    table = [(str(i), *row) for i, row in enumerate(_layer_rows(converter), start=1)]
    return (
        "<p><strong>Converter</strong> (innsight)</p>"
        + _table(("", "axis", "size", "names"), rows)
        + _table(("", "layer", "input_dim", "output_dim"), table)
    )


def method_html(method: InterpretingMethod) -> str:
    """Write a method as an HTML table of its fields and one of its results."""
    fields = [*method._fields(), ("ignore_last_act", str(method.ignore_last_act))]
    fields += [("channels_first", str(method.channels_first)), ("dtype", f"'{method.dtype}'")]
    fields += [
        (f"output_idx, {layer_title('output layer', i, keys_of(method.converter, 'output'))}", _index_text(idx, labels))
        for i, (idx, labels) in enumerate(zip(method.output_idx, method.output_label, strict=True))
    ]
    results = [
        (str(i + 1), str(j + 1), *([text for _, text in facts] if facts else ("not connected", "", "")))
        for i, j, facts in _result_rows(method)
    ]
    residual = residual_lines(method)
    return (
        f"<p><strong>Method {html.escape(type(method).__name__)}</strong> (innsight)</p>"
        + _table(("field", "value"), fields)
        + _table(("output layer", "input layer", "shape", "range", "NaN values"), results)
        + (_table(("residual", ""), residual) if residual else "")
    )
