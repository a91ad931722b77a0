"""Archives of ``torch.export.save`` as strangers write them: a harmless one, taken apart, changed and put together."""

from __future__ import annotations

import copy
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Parts:
    """The parts of an archive: the program, the descriptions of weights, and the rest as bytes."""

    def __init__(self, entries: dict[str, bytes]) -> None:
        self.entries = entries
        self.model = json.loads(entries["m/models/model.json"])
        self.weights = json.loads(entries["m/data/weights/model_weights_config.json"])

    @property
    def graph(self) -> dict[str, Any]:
        return self.model["graph_module"]["graph"]

    @property
    def signature(self) -> dict[str, Any]:
        return self.model["graph_module"]["module_call_graph"][0]["signature"]

    def copy(self) -> Parts:
        return copy.deepcopy(self)

    def bytes(self, compression: int = zipfile.ZIP_STORED) -> bytes:
        entries = self.entries | {
            "m/models/model.json": json.dumps(self.model).encode(),
            "m/data/weights/model_weights_config.json": json.dumps(self.weights).encode(),
        }
        return packed(list(entries.items()), compression)


def packed(entries: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return out.getvalue()


def harmless() -> Parts:
    """Make a small program: Linear(4, 3), ReLU, Linear(3, 2)."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)).eval()
    out = io.BytesIO()
    torch.export.save(torch.export.export(net, (torch.zeros(1, 4),)), out)
    with zipfile.ZipFile(out) as archive:
        return Parts({"m/" + n.partition("/")[2]: archive.read(n) for n in archive.namelist()})


def node(target: str, inputs: dict[str, Any], output: str | list[str] = "new") -> dict[str, Any]:
    """Write a node of a program; a text as an input is the name of a value."""
    given = [
        {"name": name, "arg": {"as_tensor": {"name": value}} if isinstance(value, str) else value, "kind": 1}
        for name, value in inputs.items()
    ]
    one = isinstance(output, str)
    outputs = [{"as_tensor": {"name": output}}] if one else [{"as_tensors": [{"name": name} for name in output]}]
    return {"target": f"torch.ops.aten.{target}", "inputs": given, "outputs": outputs, "metadata": {}}


def first(*nodes: dict[str, Any]) -> Callable[[Parts], None]:
    """Put nodes before all others, and let the last one be used: it is added to the bias."""

    def change(parts: Parts) -> None:
        parts.graph["nodes"][:0] = list(nodes)

    return change


def last(*nodes: dict[str, Any]) -> Callable[[Parts], None]:
    """Put nodes after all others; the last one gives the output."""

    def change(parts: Parts) -> None:
        parts.graph["nodes"] += list(nodes)
        out = nodes[-1]["outputs"][0]
        parts.graph["outputs"] = [out]
        spec = parts.model["graph_module"]["signature"]["output_specs"][0]
        spec["user_output"]["arg"] = out

    return change


def two_lists(parts: Parts) -> bytes:
    """Put two archives into one file, which readers that look at other numbers of its end tell apart."""
    good, bad = parts.bytes(), packed([("m/models/model.json", b"{}")])
    end = good.rfind(b"PK\x05\x06")
    fields = list(struct.unpack("<4s4H2LH", good[end : end + 22]))
    return bad + good[:end] + struct.pack("<4s4H2LH", *fields)


def overlapping(parts: Parts) -> bytes:
    """Write many entries that share the same bytes."""
    data = b"x" * 500_000
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("m/data/weights/weight_0", data)
        info = archive.infolist()[0]
        for i in range(1, 2000):
            twin = copy.copy(info)
            twin.filename = f"m/data/weights/weight_{i}"
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
        archive.writestr("m/models/model.json", json.dumps(parts.model))
    return out.getvalue()


def write(path: Path, made: bytes) -> Path:
    path.write_bytes(made)
    return path
