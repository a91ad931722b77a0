"""Coverage-guided fuzzing of the readers of files, with atheris (``nox -s fuzz``).

    python tests/fuzz.py rds -max_total_time=20
    python tests/fuzz.py safetensors -max_total_time=20

The targets: ``rds`` reads the bytes as an uncompressed file of R's; ``safetensors`` as a file of ours; ``spec`` as the
text of a spec, in a file that is sealed as ours are, so that what lies behind the digest is reached; ``json`` as a
list of R innsight's. A file is read, or refused with a ValueError; anything else, more than 2 GB of memory, or more
than ten seconds is a finding, which libFuzzer writes to a file ``crash-*``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))
# The parser of rdata's and the readers are instrumented; torch and pydantic need not be.
with atheris.instrument_imports(include=["rdata", "innsight_py.converters", "innsight_py.saving", "innsight_py.spec"]):
    import rdata  # noqa: F401

    from innsight_py import Converter
    from innsight_py.converters import rds

from model_files import sealed
from one_of_each import LAYERS

GOLDEN = Path(__file__).parent / "golden"


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


TARGETS = {
    "rds": lambda: _reading(".rds"),
    "json": lambda: _reading(".json"),
    "safetensors": lambda: _reading(".safetensors"),
    "spec": lambda: _reading(".safetensors", lambda data: sealed(data.decode("utf-8", "replace"))),
}


def seeds(target: str) -> list[bytes]:
    """Return files that are right, for the fuzzer to start from."""
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
