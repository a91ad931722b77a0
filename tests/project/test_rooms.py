"""No module imports one to its right: the contract of pyproject.toml holds, and fails when somebody breaks it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "pyproject.toml")
LATE = "def late():\n    import {module}\n"
TYPES = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import {module}\n"
PLAIN = "import {module}\n"
#: What is imported within functions: packages that users need not have, or that few calls need.
OPTIONAL = {
    "PIL", "bz2", "cloudpickle", "fcntl", "h5py", "keras", "lime", "loky", "lzma", "matplotlib", "narwhals", "onnx",
    "plotly", "polars", "pyarrow", "pyspark", "ray", "rdata", "safetensors", "shap", "sklearn", "xarray",
}  # fmt: skip
#: The places that import a module of ours by its name, when it is needed.
LOADERS = {
    "innsight_py/cli/__init__.py",
    "innsight_py/plots/backends.py",
    "converters/__init__.py",
    "converters/files.py",
}


@pytest.fixture
def package(tmp_path) -> Path:
    """Put the package together as it is installed, with converters/ in it."""
    whole = tmp_path / "innsight_py"
    shutil.copytree(ROOT / "innsight_py", whole, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "converters", whole / "converters", ignore=shutil.ignore_patterns("__pycache__"))
    return whole


def lint(package: Path) -> subprocess.CompletedProcess[str]:
    code = f"from importlinter.cli import lint_imports; raise SystemExit(lint_imports({CONFIG!r}, no_cache=True))"
    environment = os.environ | {"PYTHONPATH": str(package.parent)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=package.parent, env=environment, capture_output=True, text=True)  # noqa: S603


def test_every_import_goes_down(package):
    found = lint(package)
    assert found.returncode == 0, found.stdout + found.stderr
    files = int(re.search(r"Analyzed (\d+) files", found.stdout)[1])
    assert files == len(list(package.rglob("*.py")))  # none is overlooked, converters/ least of all


@pytest.mark.parametrize(
    ("path", "how", "module"),
    [
        ("converters/reading.py", PLAIN, "innsight_py.model.graph"),
        ("converters/r/lists.py", LATE, "innsight_py.layers.base"),
        ("spec/keys.py", TYPES, "innsight_py.inputs.described"),
        ("results/tables.py", LATE, "innsight_py.plots.build"),
        ("results/tables.py", PLAIN, "innsight_py"),
        ("_text.py", PLAIN, "innsight_py._checks"),
        ("plots/frame.py", TYPES, "innsight_py.plots.build"),
        ("attic.py", PLAIN, "innsight_py.spec"),
    ],
)
def test_an_import_that_goes_back_is_noticed(package, path, how, module):
    """Written plainly, in a function or behind TYPE_CHECKING, within a room, or in a room that nobody planned."""
    with open(package / path, "a") as file:
        file.write("\n\n" + how.format(module=module))
    found = lint(package)
    assert found.returncode != 0
    assert "BROKEN" in found.stdout or "attic" in found.stdout + found.stderr


def sources() -> list[Path]:
    return sorted([*(ROOT / "innsight_py").rglob("*.py"), *(ROOT / "converters").rglob("*.py")])


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_import_what_is_optional(path):
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    late = [node for function in functions for node in ast.walk(function)]
    imported = {alias.name for node in late if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in late if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= OPTIONAL
    named = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    loads = "import_module(" in path.read_text() and any(name.startswith("innsight_py.") for name in named)
    assert loads == (path.relative_to(ROOT).as_posix() in LOADERS)
