"""Files of ours and of R's from strangers: none does anything, each is refused, with little memory."""

from __future__ import annotations

import gzip
import json
import pickle
import struct
import sys
from pathlib import Path

import pytest
from safetensors.torch import save
from sealed_files import TENSORS, memory, sealed

from innsight_py import Converter

MEGABYTE = 2**20
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def operator(name, *arguments):
    return {
        "type": "Operator",
        "operator": name,
        "arguments": [{"input": 0}, *arguments],
        "shapes": [[1, 2]],
        "part": None,
    }


def spec(*layers, dim=2, **more):
    return {"input_dim": [dim], "layers": list(layers), **more}


DENSE = {"type": "Dense", "weight": [[1.0, 2.0]]}


def specs(mark):
    """Specs that must be refused, whatever file they come in."""
    return {
        "an operator that maps a file": spec(operator("aten::from_file", str(mark))),
        "an operator that draws": spec(operator("aten::rand_like")),
        "an operator that leaks": spec(operator("aten::empty_like")),
        "an operator that does not check": spec(operator("aten::_unsafe_index.Tensor")),
        "an operator that never ends": spec(operator("aten::special_legendre_polynomial_p.n_scalar", 10**15)),
        "an operator in place": spec(operator("aten::resize_", [10**12])),
        "another library": spec(operator("prims::run")),
        "a name of Python": spec(operator("os.system")),
        "a type that is a module": spec({"type": "os.system"}),
        "an activation that is a module": spec({**DENSE, "activation_name": "os.system"}),
        "features without end": spec({"type": "Skipping"}, dim=10**12),
        "inputs without end": spec({"type": "Add", "inputs": ["input_1"] * 20_000}),
        "a circle": spec(
            *({"type": "Skipping", "name": f"a{i}", "inputs": [f"a{(i + 1) % 9000}"]} for i in range(9000))
        ),
        "an output that is not there": spec(
            *({"type": "Skipping", "name": f"layer_{i}"} for i in range(5000)), outputs=["layer_x"]
        ),
        "a long name": spec({**DENSE, "wei" * 100_000: 1}),
    }


def safetensors(mark):
    made = {name: sealed(json.dumps(one)) for name, one in specs(mark).items()}
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    return made | {
        "more numbers than bytes": struct.pack("<Q", len(header)) + header,
        "a header without end": struct.pack("<Q", 2**62) + b"{",
        "a pickle": pickle.dumps(Payload(mark)),
        "a seal that is wrong": save(
            TENSORS, metadata={"innsight_py": json.dumps({"version": 1, "dtype": "float", "spec": "{}", "digest": "0"})}
        ),
        "a torch name that is a function": sealed(json.dumps(spec(operator("aten::to.dtype", {"$torch": "load"})))),
        "lists without end": sealed("[" * 100_000),
    }


def r_list(**layer):
    dense = {
        "type": "Dense",
        "weight": [[1.0, 2.0]],
        "bias": [0.0],
        "activation_name": "linear",
        "input_layers": 0,
        "output_layers": -1,
    }
    return {"input_dim": 2, "input_nodes": 1, "output_nodes": 1, "layers": [{**dense, **layer}]}


def texts(mark):
    made = {
        "a type of Python": r_list(type="os.system"),
        "an activation of Python": r_list(activation_name=f"__import__('pathlib').Path({str(mark)!r}).touch()"),
        "a layer before the first": r_list(input_layers=-7),
        "a layer behind the last": r_list(output_layers=10**30),
        "an unknown key": r_list(exec="1"),
        "weights without end": r_list(weight=[[1e400]]),
        "weights that are texts": r_list(weight=[["1"]]),
        "features without end": {**r_list(), "input_dim": 10**15},
        "nodes twice": {**r_list(), "output_nodes": [1] * 100_000},
        "layers that are none": {**r_list(), "layers": [None] * 100_000},
        "an operator": r_list(type="Operator", operator="aten::from_file"),
    }
    made = {name: json.dumps(one).encode() for name, one in made.items()}
    return made | {
        "lists without end": b'{"layers": ' + b"[" * 200_000,
        "a number without end": b'{"input_dim": ' + b"9" * 500_000 + b"}",
        "a pickle": pickle.dumps(Payload(mark)),
        "no text": b"\xff\xfe\x00",
    }


HEAD = b"X\n" + struct.pack(">iii", 3, 0x40000, 0x30500) + struct.pack(">i", 5) + b"UTF-8"


def rds(mark):
    def many(kind, n, entry):
        return gzip.compress(HEAD + struct.pack(">ii", kind, n) + entry * n)

    return {
        "a million lists": many(19, 10**6, struct.pack(">ii", 19, 0)),
        "a million vectors": many(19, 10**6, struct.pack(">ii", 10, 0)),
        "a million texts": many(16, 10**6, struct.pack(">ii", 9, -1)),
        "a million environments": many(19, 10**6, struct.pack(">i", 242)),
        "zeros": gzip.compress(b"X\n" + bytes(100 * MEGABYTE)),
        "a vector without end": HEAD + struct.pack(">ii", 14, 2**31 - 1),
        "a long vector": HEAD + struct.pack(">iiii", 14, -1, 2**30, 0),
        "a text without end": HEAD + struct.pack(">ii", 9, 2**31 - 1),
        "a call": HEAD + struct.pack(">i", 6) + struct.pack(">ii", 1, 9) + struct.pack(">i", 6) + b"system",
        "byte code": HEAD + struct.pack(">ii", 21, 1) + struct.pack(">i", 2**31 - 1),
        "lists in lists": gzip.compress(HEAD + struct.pack(">ii", 19, 1) * 200_000),
        "a pointer": HEAD + struct.pack(">i", 22),
        "cut short": HEAD,
        "a pickle": pickle.dumps(Payload(mark)),
        "a pickle in gzip": gzip.compress(pickle.dumps(Payload(mark))),
    }


FORMATS = {".safetensors": safetensors, ".json": texts, ".rds": rds}
ATTEMPTS = [(suffix, name) for suffix, attempts in FORMATS.items() for name in attempts(Path("nowhere") / "MARK")]


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory):
    """Open one file of each format, so that what is imported counts for none."""
    for suffix in FORMATS:
        path = tmp_path_factory.mktemp("warm") / f"m{suffix}"
        path.write_bytes(b"nothing")
        with pytest.raises(ValueError, match=r"\w"):
            Converter(path)


@pytest.mark.parametrize(("suffix", "name"), ATTEMPTS, ids=lambda value: value)
def test_nothing_happens(suffix, name, tmp_path, monkeypatch):
    mark = tmp_path / "MARK"
    (tmp_path / "some_module.py").write_text(f"import pathlib; pathlib.Path({str(mark)!r}).touch(); x = None")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / f"model{suffix}"
    path.write_bytes(FORMATS[suffix](mark)[name])
    assert path.stat().st_size < 2 * MEGABYTE
    with memory() as peak, pytest.raises(ValueError, match=r"\w"):
        Converter(path)
    assert not mark.exists()
    assert "some_module" not in sys.modules
    assert peak[0] < 200 * MEGABYTE


@pytest.mark.parametrize("suffix", FORMATS)
def test_there_are_enough(suffix):
    assert sum(of == suffix for of, _ in ATTEMPTS) >= 10
