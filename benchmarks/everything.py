"""All benchmarks on a quiet machine, and the page about them: ``python benchmarks/everything.py`` or some parts of it.

``python benchmarks/everything.py import conversion`` measures these parts alone; ``--list`` names all, with the minutes
that each may take; ``--times 3`` gives them three times as many. What a part has written when its time is over counts;
what it has not is "not measured" on the page, unless it was measured before on the same processor.
``--resume`` lets large networks go on where they were cut off. Results of another processor are moved into
``results/machines/``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import machine

ROOT = Path(__file__).parents[1]
RESULTS = machine.RESULTS


@dataclass(frozen=True)
class Part:
    """A part: what is run, for how many minutes at most, with how many threads, and whose machine is noted here."""

    command: tuple[str, ...]
    minutes: float
    threads: int = 1
    noted: str = ""


def large(network: str, minutes: float) -> Part:
    """Return the part of one large network."""
    command = ("benchmarks/large.py", "--networks", network, "--rounds", "1")
    return Part(command, minutes, noted="large")


def datasets(hidden: int, threads: int) -> Part:
    """Return the part of more rows than memory."""
    command = ("benchmarks/datasets.py", "--rows", "10000000", "--hidden", str(hidden), "--write")
    return Part(command, 0.8 if hidden <= 64 else 2, threads, noted="datasets")


PARTS = {
    "import": Part(("benchmarks/footprint.py", "--only", "import"), 0.8, noted="footprint"),
    "rest": Part(("benchmarks/footprint.py", "--only", "rest"), 0.5, noted="footprint"),
    "ratios": Part(("benchmarks/run.py", "--ratios", "--seconds", "1.5"), 6, threads=2, noted="ratios"),
    "conversion": Part(("-m", "benchmarks.conversion", "--runs", "1"), 2.8, noted="conversion"),
    "warm": Part(("-m", "benchmarks.conversion", "--runs", "1", "--warm"), 2.5, noted="conversion"),
    "recurrent": Part(("benchmarks/recurrent.py",), 2.3, noted="recurrent"),
    "resnet50": large("resnet50", 3.5),
    "vit": large("vit", 7.5),
    "bert": large("bert", 5),
    **{
        f"datasets-{hidden}-{threads}": datasets(hidden, threads)
        for hidden, threads in ((64, 1), (64, 2), (256, 1), (256, 2))
    },
    "attention": Part(("benchmarks/footprint.py", "--only", "attention"), 1.5, noted="footprint"),
    "gpu": Part(("benchmarks/gpu.py", "--write"), 5),
}


def keep_other_machines(noted: str) -> None:
    """Move results of another processor into a folder of its own: none is taken for this one's.

    The page cannot be without ratios of the small networks, so these are copied.
    """
    text = machine.known().get(noted, "")
    if not text or text.startswith(machine.processor()):
        return
    name = "".join(c if c.isalnum() else "_" for c in text.partition(",")[0]).strip("_").lower()
    folder = RESULTS / "machines" / name
    found = [path for kind in ("csv", "json") for path in RESULTS.glob(f"{noted}*.{kind}")]
    if not found:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for path in found:
        shutil.copy(path, folder / path.name)
        if noted != "ratios":
            path.unlink()
    machine.note(noted, text, folder)


def measure(name: str, part: Part, times: float, resume: bool) -> str:
    """Run a part, and say how it went."""
    if name == "gpu" and not _card():
        return "there is no card"
    if part.noted:
        keep_other_machines(part.noted)
    environment = os.environ | {"OMP_NUM_THREADS": str(part.threads), "KERAS_BACKEND": "torch"}
    paths = [str(ROOT), str(ROOT / "benchmarks"), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    before = time.monotonic()
    try:
        limit = 60 * part.minutes * times
        command = [sys.executable, *part.command, *(["--resume"] if resume and part.noted == "large" else [])]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=limit)  # noqa: S603
        how = "measured"
    except subprocess.TimeoutExpired:
        how = "out of time"
    except subprocess.CalledProcessError as error:
        how = f"failed with code {error.returncode}"
    if part.noted in ("recurrent", "datasets"):  # the others note it themselves, with what they write
        machine.note(part.noted, machine.describe())
    return f"{how}, {time.monotonic() - before:.0f} s"


def _card() -> bool:
    import torch

    return torch.cuda.is_available()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure parts, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="default: all")
    parser.add_argument("--times", type=float, default=1.0, help="factor of the time of each part")
    parser.add_argument("--resume", action="store_true", help="large networks: only what was not measured yet")
    parser.add_argument("--list", action="store_true", help="name the parts and their minutes, and measure nothing")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        print(*(f"{name:15} {part.minutes:4.1f} minutes" for name, part in PARTS.items()), sep="\n")
        print(f"{'together':15} {sum(part.minutes for part in PARTS.values()):4.1f} minutes at most")
        return
    if not set(chosen.parts) <= set(PARTS):
        parser.error(f"the parts are {', '.join(PARTS)}")
    how = {}
    for name in chosen.parts or PARTS:
        print(f"-- {name}", flush=True)
        how[name] = measure(name, PARTS[name], chosen.times, chosen.resume)
    subprocess.run([sys.executable, str(ROOT / "benchmarks" / "page.py")], cwd=ROOT, check=True)  # noqa: S603
    print(*(f"{name:15} {text}" for name, text in how.items()), sep="\n")


if __name__ == "__main__":
    main()
