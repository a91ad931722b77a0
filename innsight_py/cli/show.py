"""What ``inspect`` and ``methods`` write."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from typing import Any

from innsight_py._text import dims_text, printable
from innsight_py.cli.methods import purpose, reference_argument, settings
from innsight_py.inputs.ports import Port
from innsight_py.layers import Layer
from innsight_py.layers.folded import Folded
from innsight_py.layers.support import supports
from innsight_py.methods.registry import METHODS
from innsight_py.model.converter import Converter
from innsight_py.model.graph import Graph


def layers(converter: Converter) -> list[dict[str, Any]]:
    """Describe each layer: its name, class, shapes, what it takes, and what methods it has rules for."""
    model = converter.model
    names: dict[str, list[str]] = {node.name: [] for node in model.nodes}
    for name, place in model.places.items():
        shown = f" (before {model.layer(place.layer).activation.name})" if place.before_activation else ""
        names[place.layer].append(f"{name}{shown}")
    return [_layer(model, model.layer(node.name), list(node.inputs), names[node.name]) for node in model.nodes]


def _layer(model: Graph, layer: Layer, inputs: list[str], names: list[str]) -> dict[str, Any]:
    kind = type(layer.inner if isinstance(layer, Folded) else layer)
    lrp = list(kind.lrp_rules()) or ["one rule"]
    return {
        "name": layer.name,
        "names": names,
        "class": kind.r_class,
        "activation": layer.activation.name,
        "preparation": any(layer.name in steps for steps in model.preparation.values()),
        "inputs": inputs,
        "input_dim": [list(dim) for dim in layer.input_dims],
        "output_dim": list(layer.output_dim),
        "gradient": True,
        "deeplift": supports(kind, "deeplift"),
        "lrp": lrp if supports(kind, "lrp") else [],
        "connection_weights": supports(kind, "connection_weights"),
    }


def model_json(converter: Converter) -> str:
    """Write shapes, labels and layers as JSON."""
    described = {
        "input_dim": [list(dim) for dim in converter.input_dim],
        "output_dim": [list(dim) for dim in converter.output_dim],
        "input_names": [[[str(name) for name in axis] for axis in layer] for layer in converter.input_names],
        "output_names": [[[str(name) for name in axis] for axis in layer] for layer in converter.output_names],
        "input_kinds": [port.kind for port in converter.inputs],
        "output_kinds": [port.kind for port in converter.outputs],
        "input_keys": converter.input_keys,
        "output_keys": converter.output_keys,
        "layers": layers(converter),
    }
    return json.dumps(described, indent=2)


def model_text(converter: Converter) -> str:
    """Write shapes, labels, and a table of the layers."""
    lines = [f"inputs   {_named(converter.inputs)}", f"outputs  {_named(converter.outputs)}"]
    head = ("layer", "class", "takes", "input_dim", "output_dim", "gradients", "deeplift", "lrp", "cw", "names inside")
    rows = [
        (
            _short(layer["name"]),
            layer["class"]
            + ("" if layer["activation"] == "linear" else f" + {layer['activation']}")
            + (" (preparation)" if layer["preparation"] else ""),
            ", ".join(map(_short, layer["inputs"])),
            dims_text(layer["input_dim"]),
            dims_text([layer["output_dim"]]),
            "yes",
            "yes" if layer["deeplift"] else "no",
            ", ".join(layer["lrp"]) or "no",
            "yes" if layer["connection_weights"] else "no",
            ", ".join(layer["names"]),
        )
        for layer in layers(converter)
    ]
    told = "Any of the names inside can be explained: layer=NAME, neuron=(NAME, index)."
    last = "lime and shap ask only for predictions: any model."
    return "\n".join([*map(printable, lines), "", *_table(head, rows), "", told, last])


def _named(ports: Sequence[Port]) -> str:
    parts = []
    for port in ports:
        first = [str(name) for name in port.names[0]]
        labels = "" if port.has_channels else ": " + ", ".join(first[:6]) + (", ..." if len(first) > 6 else "")
        key = f"{port.key} " if len(ports) > 1 else ""
        parts.append(f"{key}{dims_text([port.dim])} {port.kind}{labels}")
    return "; ".join(parts)


def _short(name: str, room: int = 28) -> str:
    return name if len(name) <= room else f"...{name[3 - room :]}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: tuple[str, ...]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()

    return [line(head), line(tuple("-" * width for width in widths)), *map(line, rows)]


#: What formulas are made of, longer words before those that they begin with.
_CHARACTERS = {
    "sum": "Σ", "varepsilon": "ε", "alpha": "\N{GREEK SMALL LETTER ALPHA}", "partial": "∂",
    "sigma": "\N{GREEK SMALL LETTER SIGMA}", "sim": "~", "notin": "∉", "cup": "\N{UNION}",
    "int": "∫", "gamma": "\N{GREEK SMALL LETTER GAMMA}", "Bigl": "", "Bigr": "",
    "in": "∈", "mathbb": "", "mathrm": "", "text": "", "bigl": "", "bigr": "", "bar": "not", "quad": "   ", ",": " ",
}  # fmt: skip


def methods_text() -> str:
    """Write a table of all methods."""
    references = {"x_ref": "one row", "data_ref": "rows", None: "-"}
    rows = [
        (name, METHODS[name].__name__, references[reference_argument(name)], purpose(name)) for name in METHODS
    ]  # fmt: skip
    last = "innsight-py methods NAME tells what a method computes, its source, and what --set can set."
    return "\n".join([*_table(("method", "class", "reference", "what it is"), rows), "", last])


def method_text(name: str) -> str:
    """Write what a method computes, and what ``--set`` can set for it."""
    text = inspect.getdoc(METHODS[name]) or ""
    about = _plain(text.partition("\nParameters\n")[0].strip())
    lines = [f"{name}: {METHODS[name].__name__}", "", about, "", "--set takes:"]
    described = _descriptions(text)
    for key, default in settings(name).items():
        lines.append(f"  {key}={_shown(default)}")
        lines += [f"      {_plain(line.strip())}" for line in described.get(key, [])]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Take the marks of reStructuredText out of a text."""
    text = re.sub(r":math:`([^`]*)`", lambda found: _formula(found[1]), text)
    text = re.sub(r"\.\. math:: (.*?)(?=\n\n)", lambda found: "    " + _formula(found[1]), text, flags=re.DOTALL)
    return text.replace("``", "`")


def _formula(tex: str) -> str:
    r"""Write a formula in the characters of a terminal.

    Examples
    --------
    >>> _formula(r"R_i = \sum_j z_{ij}^+ / (z_j + \varepsilon)")
    'R_i = Σ_j z_ij^+ / (z_j + ε)'
    """
    tex = re.sub(r"\\t?frac ?(\w)(\w)", r"\1/\2", " ".join(tex.split()))
    tex = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"\1 / \2", tex)
    for word, character in _CHARACTERS.items():
        tex = tex.replace(f"\\{word}", character)
    tex = re.sub(r"([_^])\{(\w*)\}", r"\1\2", tex)
    tex = re.sub(r"([_^])\{([^{}]*)\}", r"\1[\2]", tex)
    return " ".join(re.sub(r"[{}]", "", tex).split())


def _shown(default: Any) -> str:
    return json.dumps(default) if not isinstance(default, str) else default


def _descriptions(text: str) -> dict[str, list[str]]:
    """Find what the documentation says of each parameter."""
    body = text.partition("\nParameters\n")[2].partition("\nRaises\n")[0]
    found: dict[str, list[str]] = {}
    key = ""
    for line in body.splitlines()[1:]:
        if line and not line.startswith(" ") and " : " in line:
            key = line.partition(" : ")[0]
            found[key] = [line.partition(" : ")[2]]
        elif key and line.strip():
            found[key].append(line)
    return found
