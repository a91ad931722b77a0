"""Files as strangers write them, and how much memory it takes to read them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save

#: The tensors of every sealed file.
TENSORS = {
    "a": torch.tensor([0.5, -1.0]),
    "b": torch.tensor([[1.0, -0.5, 0.25], [0.5, 2.0, -1.0]]),
    "c": torch.arange(24.0, dtype=torch.float64).reshape(2, 3, 2, 2),
    "d": torch.tensor([3, 1, 2]),
    "e": torch.tensor(2.0, dtype=torch.float16),
    "f": torch.tensor([float("nan")]),
    "g": torch.zeros(0, 3),
}


def sealed(spec: str, dtype: str = "float") -> bytes:
    """Return a safetensors file with a text as its spec and a digest that is right."""
    digest = hashlib.sha256(f"{dtype} {spec}".encode())
    for name, tensor in sorted(TENSORS.items()):
        digest.update(f" {name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.numpy().tobytes())
    header = {"version": 1, "dtype": dtype, "spec": spec, "digest": digest.hexdigest()}
    return save(TENSORS, metadata={"innsight_py": json.dumps(header)})


@contextlib.contextmanager
def memory() -> Iterator[list[int]]:
    """Measure the peak of the process's memory, torch's included, above what it had; appended at the end, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, found = _status("VmRSS"), []
    yield found
    found.append(_status("VmHWM") - before)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024
