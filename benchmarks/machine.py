"""What machine a part of the benchmarks ran on: `results/machine.json` has a line for each part."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def processor() -> str:
    """Return the name of the processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def describe(*packages: str) -> str:
    """Describe the machine, how busy it is, and the versions of torch and of other packages."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", *packages))
    busy = f"load of the last 15 minutes {os.getloadavg()[2]:.1f}"
    return f"{processor()}, {os.cpu_count()} cores, {busy}; Python {platform.python_version()}, {versions}"


def known(results: Path = RESULTS) -> dict[str, str]:
    """Return the machines of all parts."""
    path = results / "machine.json"
    found: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return found


def note(part: str, text: str, results: Path = RESULTS) -> None:
    """Remember where a part was measured."""
    (results / "machine.json").write_text(json.dumps(known(results) | {part: text}, indent=1) + "\n")
