"""Coverage-guided fuzzing of the readers of files, with atheris (``nox -s fuzz``).

    python tests/hostile/fuzz.py rds -max_total_time=20
    python tests/hostile/fuzz.py pt2 -max_total_time=20
    python tests/hostile/fuzz.py safetensors -max_total_time=20

The targets: ``rds`` reads the bytes as an uncompressed file of R's; ``safetensors`` as a file of ours; ``spec`` as the
text of a spec, in a file that is sealed as ours are, so that what lies behind the digest is reached; ``json`` as a
list of R innsight's; ``pt2`` changes the parsed parts of a program of ``torch.export.save``, builds it and runs it
without numbers. A file is read, or refused with a ValueError; anything else, more than 2 GB of memory, or more
than ten seconds is a finding, which libFuzzer writes to a file ``crash-*``.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import atheris
import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("converters", "golden", "hostile", "layers")]
# The parser of rdata's and the readers are instrumented; torch and pydantic need not be.
with atheris.instrument_imports(
    include=["rdata", "innsight_py.converters", "innsight_py.converters.safetensors", "innsight_py.spec"]
):
    import rdata  # noqa: F401

    from innsight_py import Converter
    from innsight_py.converters.onnx import door  # noqa: F401
    from innsight_py.converters.r import rds
    from innsight_py.converters.torch import allowed, arguments, containers, program, sizes  # noqa: F401
    from innsight_py.converters.torch.archive import Archive, UnfitError, _tensors
    from innsight_py.converters.torch.outline import check_needs

from archives import harmless  # noqa: E402
from one_of_each import LAYERS  # noqa: E402
from sealed_files import sealed  # noqa: E402

GOLDEN = Path(__file__).parents[1] / "golden"


def _convert(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            Converter(path)
        except ValueError as error:
            assert str(error)  # noqa: PT017


def _reading(suffix: str, wrap: Callable[[bytes], bytes] = bytes) -> Callable[[bytes], None]:
    path = Path(tempfile.mkdtemp()) / f"model{suffix}"

    def read(data: bytes) -> None:
        path.write_bytes(wrap(data))
        _convert(path)

    return read


def _parts() -> Callable[[bytes], None]:
    """Change a program in a few places, each by what stands elsewhere in it or by junk, and build it."""
    parts = harmless()
    entries = {name.partition("/")[2]: data for name, data in parts.entries.items()}
    reader = types.SimpleNamespace(read=entries.__getitem__)
    texts = [
        "x",
        "relu",
        "linear_1",
        "9**9",
        "s0",
        "torch.ops.aten.cat.default",
        "torch.ops.aten.repeat.default",
        "as_ints",
    ]
    numbers = [0, -1, 1, 2, 7, 2**31, 2**63 - 1, 2**63, 10**30]

    def junk(data: atheris.FuzzedDataProvider) -> object:
        kind = data.ConsumeIntInRange(0, 5)
        plain = [None, True, data.ConsumeRegularFloat(), [], {}]
        if kind < 2:
            return data.PickValueInList(numbers if kind else texts)
        return data.ConsumeUnicode(8) if kind == 2 else data.PickValueInList(plain)

    def read(given: bytes) -> None:
        data = atheris.FuzzedDataProvider(given)
        whole = {"model": copy.deepcopy(parts.model), "weights": copy.deepcopy(parts.weights)}
        for _ in range(data.ConsumeIntInRange(1, 6)):
            all_places = places(whole)
            path = data.PickValueInList(all_places)
            if len(path) < 2:
                continue
            *above, key = path
            parent = entry(whole, above)
            if data.ConsumeBool():
                parent[key] = copy.deepcopy(entry(whole, data.PickValueInList(all_places)))
            elif isinstance(parent, dict) and data.ConsumeBool():
                del parent[key]
            else:
                parent[key] = junk(data)
        try:
            weights = _tensors(whole["weights"], "data/weights/", reader)
            built = program.Program(Archive(whole["model"], weights, {}, 20_000))
            check_needs(built, [(4,)], torch.float32)
        except (UnfitError, ValueError, AttributeError, TypeError) as error:
            assert isinstance(error, ValueError), error  # noqa: PT017

    return read


def places(value: object, path: tuple = ()) -> list[tuple]:
    """List the paths of all entries of nested lists and dicts."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, entry in entries for found in places(entry, (*path, key)))]


def entry(value: object, path: Sequence[object]) -> object:
    """Return an entry of nested lists and dicts."""
    for key in path:
        value = value[key]
    return value


def _graphs() -> Callable[[bytes], None]:
    """Change an ONNX model in a few places: operators, names, attributes, shapes, numbers; or in its bytes."""
    import onnx
    import onnx_models as om

    from innsight_py.converters.onnx.writer import TABLE

    kernel, cell = [[[[1.0, 2.0]]]], [[[0.5]] * 4]
    models = [
        om.mlp(),
        om.one("Conv", (1, 3, 3), 21, [np.array(kernel, np.float32)], auto_pad="SAME_UPPER"),
        om.one("LSTM", (3, 1), 21, [np.array(cell, np.float32)] * 2, hidden_size=1, layout=1),
        om.one("Reshape", (2, 3), 21, [np.array([-1, 3, 2])]),
        om.one("Resize", (1, 2, 2), 21, [None, None, np.array([1, 1, 3, 3])], mode="linear"),
        om.one("Slice", (4, 3), 21, [np.array([1]), np.array([3]), np.array([1])]),
        om.one("ReduceSum", (4, 3), 21, [np.array([1])]),
    ]
    operators, numbers = sorted(TABLE), [0, -1, 1, 2, 3, 7, 100, 2**31, 2**40, 2**62, -(2**63)]
    path = Path(tempfile.mkdtemp()) / "model.onnx"

    def change(model: onnx.ModelProto, data: atheris.FuzzedDataProvider) -> None:
        node = data.PickValueInList(list(model.graph.node))
        names = [
            *(t.name for t in model.graph.initializer),
            *(n for other in model.graph.node for n in other.output),
            "",
        ]
        what, number = data.ConsumeIntInRange(0, 6), data.PickValueInList(numbers)
        if what == 0:
            node.op_type = data.PickValueInList(operators)
        elif what == 1 and len(node.input):
            node.input[data.ConsumeIntInRange(0, len(node.input) - 1)] = data.PickValueInList(names)
        elif what == 2 and len(node.attribute):
            attribute = data.PickValueInList(list(node.attribute))
            attribute.i, attribute.f = number, float(number)
            attribute.ints[:] = [number] * data.ConsumeIntInRange(0, 3)
        elif what == 3:
            dim = data.PickValueInList(list(model.graph.input[0].type.tensor_type.shape.dim))
            dim.dim_value = number
        elif what == 4 and len(model.graph.initializer):
            tensor = data.PickValueInList(list(model.graph.initializer))
            tensor.dims[:] = [min(abs(number), 2**62)] * data.ConsumeIntInRange(0, 3)
        elif what == 5 and len(model.graph.initializer):
            tensor = data.PickValueInList(list(model.graph.initializer))
            if tensor.data_type == om.INT64:
                tensor.raw_data = np.full(len(tensor.raw_data) // 8, number, np.int64).tobytes()
        else:
            model.opset_import[0].version = data.ConsumeIntInRange(0, 30)

    def read(given: bytes) -> None:
        data = atheris.FuzzedDataProvider(given)
        model = onnx.ModelProto()
        model.CopyFrom(data.PickValueInList(models))
        for _ in range(data.ConsumeIntInRange(1, 4)):
            change(model, data)
        raw = bytearray(model.SerializeToString())
        if data.ConsumeBool():
            raw[data.ConsumeIntInRange(0, len(raw) - 1)] = data.ConsumeIntInRange(0, 255)
        path.write_bytes(bytes(raw))
        _convert(path)

    return read


TARGETS = {
    "onnx": _graphs,
    "pt2": _parts,
    "rds": lambda: _reading(".rds"),
    "json": lambda: _reading(".json"),
    "safetensors": lambda: _reading(".safetensors"),
    "spec": lambda: _reading(".safetensors", lambda data: sealed(data.decode("utf-8", "replace"))),
}


def seeds(target: str) -> list[bytes]:
    """Return files that are right, for the fuzzer to start from."""
    if target in ("pt2", "onnx"):
        return [bytes([seed] * 64) for seed in range(0, 250, 10)]
    if target == "rds":
        files = [*GOLDEN.glob("r_files/*.rds"), *GOLDEN.glob("neuralnet/*.rds")]
        unpacked = [rds._unpack(path.read_bytes()) for path in files]
        return [data for data in unpacked if len(data) < 20_000]
    if target == "json":
        return [path.read_bytes() for path in GOLDEN.glob("r_files/*.json") if path.stat().st_size < 60_000]
    texts = []
    for kind, (dims, keys) in LAYERS.items():
        plain = {key: {"$tensor": "b"} if hasattr(value, "shape") else value for key, value in keys.items()}
        texts.append(json.dumps({"input_dim": dims, "layers": [{"type": kind, **plain}]}, default=str))
    return [text.encode() if target == "spec" else sealed(text) for text in texts]


def main() -> None:
    """Fuzz the target named first on the command line; the rest are libFuzzer's options."""
    target, *options = sys.argv[1:]
    corpus = Path(tempfile.mkdtemp())
    for i, data in enumerate(seeds(target)):
        (corpus / str(i)).write_bytes(data)
    limits = ["-rss_limit_mb=2048", "-timeout=10", "-max_len=65536", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, *options, str(corpus)], TARGETS[target]())
    atheris.Fuzz()


if __name__ == "__main__":
    main()
