"""How converters look when they are printed: as in R, and as tables in notebooks."""

from __future__ import annotations

from collections.abc import Sequence

from innsight_py._text import dims_text, headline, html_table, item, line_width, printable
from innsight_py.inputs.described import Described
from innsight_py.inputs.names import AxisNames
from innsight_py.inputs.ports import Port
from innsight_py.layers import Layer
from innsight_py.model.graph import Graph
from innsight_py.spec.keys import layer_title


def _axis_labels(port: Port, is_output: bool) -> Sequence[str]:
    return ("Output node/Class",) if is_output and not port.has_channels else port.axes


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


def _names_lines(ports: Sequence[Port], is_output: bool, width: int) -> list[str]:
    lines, indent, keys = [], 6, [port.key for port in ports]
    for i, port in enumerate(ports):
        if len(ports) > 1:
            lines.append(f"      • {layer_title('Output layer' if is_output else 'Input layer', i, keys)}:")
            indent = 10
        for label, axis in zip(_axis_labels(port, is_output), port.names, strict=True):
            head = f"─ {label} ({len(axis)})"
            lines += item(f"{head[2:]}: {_shortened(axis, head, width)}", indent, width, "─")
    return lines


def converter_text(converter: Described, model: Graph, spec_kept: bool) -> str:
    """Write a converter as R prints it."""
    width = line_width()
    lines = [headline("Converter (innsight)", width), "Fields:"]
    lines += item(f"input_dim: {dims_text(converter.input_dim)}", 2, width)
    lines += item(f"output_dim: {dims_text(converter.output_dim)}", 2, width)
    lines += ["  • input_names:", *_names_lines(converter.inputs, False, width)]
    lines += ["  • output_names:", *_names_lines(converter.outputs, True, width)]
    lines.append(f"  • model_as_dict: {'included' if spec_kept else 'not included'}")
    lines.append("  • model (class ConvertedModel):")
    for i, (kind, dim_in, dim_out) in enumerate(_layer_rows(model), start=1):
        lines += item(f"{kind}: input_dim: {dim_in}, output_dim: {dim_out}", 4, width, f"{i}.")
    return "\n".join(map(printable, [*lines, "", "─" * width]))


def _layer_rows(model: Graph) -> list[tuple[str, str, str]]:
    layers = [model.layer(node.name) for node in model.nodes]
    return [(layer_text(model, layer), dims_text(layer.input_dims), dims_text([layer.output_dim])) for layer in layers]


def layer_text(model: Graph, layer: Layer) -> str:
    """Name a layer: its class in R, its activation, and whether it prepares the data."""
    prepares = any(layer.name in names for names in model.preparation.values())
    activation = "" if layer.activation.is_linear else f" + {layer.activation.name}"
    return f"{layer.r_class}{activation}{' (preparation)' if prepares else ''}"


def converter_html(converter: Described, model: Graph) -> str:
    """Write a converter as an HTML table of its names and one of its layers."""
    rows = []
    for what, ports in (("Input", converter.inputs), ("Output", converter.outputs)):
        keys = [port.key for port in ports]
        for i, port in enumerate(ports):
            for label, axis in zip(_axis_labels(port, what == "Output"), port.names, strict=True):
                rows.append(
                    (layer_title(f"{what} layer", i, keys), label, str(len(axis)), _shortened(axis, label, 120))
                )
    table = [(str(i), *row) for i, row in enumerate(_layer_rows(model), start=1)]
    return (
        "<p><strong>Converter</strong> (innsight)</p>"
        + html_table(("", "axis", "size", "names"), rows)
        + html_table(("", "layer", "input_dim", "output_dim"), table)
    )
