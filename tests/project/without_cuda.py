"""Let a build of torch for GPUs run on the CPU without the CUDA libraries: ``python tests/project/without_cuda.py``.

For Linux PyPI has no other build, and its libraries of CUDA take 3 GB. Of these torch needs, on a CPU, nothing but that
they can be linked: this makes an empty stand-in for each that is missing, beside torch's own libraries. Every function
in it answers "no device". To check the package with other versions of torch (``nox -s lowest``, ``nox -s newest``), and
for nothing else. Needs gcc and readelf; a build for CPUs is left as it is.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

LIBRARY_OF_CUDA = re.compile(r"lib(cu|nv|nccl)")
FUNCTION_OF_CUDA = re.compile(r"(__cuda|_*cu[a-zA-Z]|nccl|nvrtc|nvtx|nvJit|nvshmem)")
NO_DEVICE = 100  # cudaErrorNoDevice


def read(option: str, library: Path) -> list[str]:
    """Return what readelf says of a library."""
    done = subprocess.run(["readelf", "-W", option, str(library)], capture_output=True, text=True, check=True)  # noqa: S603, S607
    return done.stdout.splitlines()


def symbols(library: Path) -> tuple[set[tuple[str, str]], set[str]]:
    """Return the symbols that a library wants, with their versions, and those that it has."""
    wanted, given = set(), set()
    for line in read("--dyn-syms", library):
        words = line.split()
        if len(words) >= 8 and words[0].endswith(":"):
            name, _, version = words[7].partition("@")
            if words[6] == "UND":
                wanted.add((name, version.strip("@")))
            else:
                given.add(name)
    return wanted, given


def versions(library: Path) -> dict[str, str]:
    """Return the library in which each version of a symbol is looked for."""
    found, current = {}, ""
    for line in read("-V", library):
        if file := re.search(r"File: (\S+)", line):
            current = file[1]
        elif name := re.search(r"Name: (\S+)\s+Flags", line):
            found[name[1]] = current
    return found


def write(library: Path, functions: dict[str, list[str]]) -> None:
    """Write a library with functions, grouped by version, that all answer `NO_DEVICE`."""
    names = sorted({name for group in functions.values() for name in group})
    labels = "".join(f".globl {name}\n.type {name},@function\n{name}:\n" for name in names)
    nodes = (
        f"{version} {{ global: {' '.join(f'{n};' for n in group)} }};\n"
        for version, group in functions.items()
        if version
    )
    with tempfile.TemporaryDirectory() as folder:
        source, script = Path(folder, "stand_in.s"), Path(folder, "versions")
        source.write_text(f".text\n{labels}movl ${NO_DEVICE},%eax\nret\n")
        script.write_text("".join(nodes))
        link = [f"-Wl,-soname,{library.name}", *([f"-Wl,--version-script={script}"] if script.stat().st_size else [])]
        subprocess.run(["gcc", "-shared", "-nostdlib", *link, "-o", str(library), str(source)], check=True)  # noqa: S603, S607


def main() -> None:
    """Write the stand-ins that the installed torch lacks."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "lib"
    libraries = list(folder.glob("*.so*"))
    needed = {
        name for library in libraries for line in read("-d", library) for name in re.findall(r"NEEDED.*\[(.*)\]", line)
    }
    missing = sorted(name for name in needed - {library.name for library in libraries} if LIBRARY_OF_CUDA.match(name))
    wanted: set[tuple[str, str]] = set()
    given: set[str] = set()
    where: dict[str, str] = {}
    for library in libraries:
        more, has = symbols(library)
        wanted, given, where = wanted | more, given | has, where | versions(library)
    functions: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, version in sorted(wanted):
        if name not in given and (version or FUNCTION_OF_CUDA.match(name)) and missing:
            functions[where[version] if version else missing[0]][version].append(name)
    for name in missing:
        write(folder / name, functions[name])
    print(f"{len(missing)} libraries of CUDA have stand-ins in {folder}.")


if __name__ == "__main__":
    main()
