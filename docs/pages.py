"""The pages that no hand keeps: the reference, the tables of what is supported, and parts of others.

They are written into ``docs/generated`` before sphinx reads; everything in them comes from the package.
"""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

import typer.main

import innsight_py
from innsight_py.cli import app as shell
from innsight_py.cli import methods as found
from innsight_py.cli import show
from innsight_py.cli.errors import MEANING
from innsight_py.converters import files
from innsight_py.explanation import Explanation

ROOT = Path(__file__).parents[1]
PLOTS = ("matplotlib.Display", "plotly.PlotlyDisplay", "frame.PlotFrame")
MODULES = ("spec", "spec_layers")


def write(folder: Path) -> None:
    """Write all pages, and copy the vignettes beside them."""
    _vignettes(folder.parent / "vignettes")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "_static").mkdir(parents=True)
    _plotly(folder / "_static")
    (folder / "differences.inc").write_text(differences())
    (folder / "methods.inc").write_text(method_table())
    (folder / "files.inc").write_text(", ".join(f"`{name}`" for name in (*files.READERS, *files.LOADERS)) + "\n")
    (folder / "exit_codes.inc").write_text(
        "| code | meaning |\n|---|---|\n| 0 | it worked |\n"
        + "".join(f"| {code.value} | {text} |\n" for code, text in MEANING.items())
    )
    (folder / "help_methods.txt").write_text(show.methods_text() + "\n")
    (folder / "help_lrp.txt").write_text(show.method_text("lrp") + "\n")
    for name in ("explain", "inspect", "methods"):
        (folder / f"shell_{name}.inc").write_text(command(name))
    (folder / "reference.rst").write_text(reference())


def _vignettes(folder: Path) -> None:
    """Copy the vignettes; links that lead from their folder to this one lead on."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in sorted((ROOT / "vignettes").glob("*.md")):
        (folder / path.name).write_text(path.read_text().replace("../docs/", "../"))


def differences() -> str:
    """Return what the README says of differences to R."""
    return (ROOT / "README.md").read_text().partition("<!-- differences -->")[2].partition("<!-- /differences -->")[0]


def _plotly(folder: Path) -> None:
    """Put plotly's script beside the pages, so that pictures need no network."""
    from plotly.offline import get_plotlyjs

    (folder / "plotly.min.js").write_text(get_plotlyjs())


def kinds() -> dict[str, list[str]]:
    """Sort the public names by what they are."""
    sorted_names: dict[str, list[str]] = {"methods": [], "functions": [], "models": [], "results": [], "errors": []}
    for name in innsight_py.__all__:
        value: Any = getattr(innsight_py, name)
        if isinstance(value, type) and issubclass(value, Exception):
            sorted_names["errors"].append(name)
        elif isinstance(value, type) and issubclass(value, Explanation):
            base = value is Explanation or value in (innsight_py.InterpretingMethod, innsight_py.AgnosticWrapper)
            sorted_names["results" if base else "methods"].append(name)
        elif name.startswith(("run_", "torch_")):
            sorted_names["functions"].append(name)
        else:
            sorted_names["models"].append(name)
    return sorted_names


def reference() -> str:
    """Write the page with all public names, each with a page of its own."""
    titles = {
        "models": "Models",
        "methods": "Methods",
        "functions": "Functions",
        "results": "Results",
        "errors": "Errors",
    }
    lines = ["Reference", "=========", "", "Every example on these pages is run by the tests.", ""]
    for kind, names in {key: kinds()[key] for key in titles}.items():
        lines += [titles[kind], "-" * len(titles[kind]), ""]
        lines += _summary([f"innsight_py.{name}" for name in names])
    lines += ["Pictures", "--------", "", *_summary([f"innsight_py.plots.{name}" for name in PLOTS])]
    lines += ["Modules", "-------", "", *_summary([f"innsight_py.{name}" for name in MODULES])]
    return "\n".join(lines) + "\n"


def _summary(names: list[str]) -> list[str]:
    return [".. autosummary::", "   :toctree: api", "", *(f"   {name}" for name in names), ""]


def method_table() -> str:
    """Write a row for each method: what it needs, and what its numbers sum to, as its class says."""
    lines = ["| method | what it is | needs | random |", "|---|---|---|---|"]
    for name in found.METHODS:
        cls = found.class_of(name)
        needs = {"x_ref": "a reference row", "data_ref": "reference rows", None: "nothing more"}
        random = "yes" if "seed" in found.parameters(name) else "no"
        reference_kind = needs[found.reference_argument(name)]
        link = f"{{py:obj}}`{cls.__name__} <innsight_py.{cls.__name__}>`"
        lines.append(f"| {link} | {found.purpose(name)} | {reference_kind} | {random} |")
    return "\n".join(lines) + "\n"


def command(name: str) -> str:
    """Write what a command of the shell does and takes, from its own help."""
    function = getattr(shell, name)
    about = inspect.getdoc(function) or ""
    rows = []
    for parameter in typer.main.get_command(shell.app).commands[name].params:  # type: ignore[attr-defined]
        flags = ", ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))
        if parameter.param_type_name == "argument":
            flags = f"`{parameter.metavar or parameter.name.upper()}`"
        rows.append(f"| {flags} | {getattr(parameter, 'help', '') or ''} |")
    return f"{about}\n\n| option | what it does |\n|---|---|\n" + "\n".join(rows) + "\n"
