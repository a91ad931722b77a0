"""The pages that no hand keeps: the reference, the tables of what is supported, and parts of others.

They are written into ``docs/generated`` before sphinx reads; everything in them comes from the package.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import typer.main
from pydantic import ValidationError

import innsight_py
from innsight_py.cli import app as shell
from innsight_py.cli import methods as arguments
from innsight_py.cli import show
from innsight_py.cli.errors import MEANING
from innsight_py.converters import files
from innsight_py.explanation import Explanation
from innsight_py.methods.registry import METHODS
from innsight_py.methods.registry import RUNNERS as FUNCTIONS
from innsight_py.spec.layers import LAYER_SPECS, LayerSpec

ROOT = Path(__file__).parents[1]
PLOTS = (
    "plots.matplotlib.Display",
    "plots.plotly.PlotlyDisplay",
    "plots.text_display.TextDisplay",
    "plots.frame.PlotFrame",
)
#: The pages of pictures that belong to a class.
PICTURES = {
    "Explanation": ("bars", "signals", "images", "volumes", "together", "text", "interactive"),
    "plots.matplotlib.Display": ("bars", "signals", "images", "together"),
    "plots.plotly.PlotlyDisplay": ("interactive",),
    "plots.text_display.TextDisplay": ("text",),
    "plots.frame.PlotFrame": ("bars", "images", "together"),
}
TITLES = {
    "models": "Models",
    "methods": "Methods",
    "direct": "Gradients without conversion",
    "results": "Results",
    "bridges": "To and from other packages",
    "errors": "Errors",
    "rules": "Rules of LRP",
    "composites": "Composites of LRP",
    "metrics": "Metrics",
    "pictures": "Pictures",
}
#: Functions that values and calls of other packages go through.
BRIDGES = ("as_explanation", "explain_func")
#: The function that makes an object of each method.
RUNNERS = {METHODS[name].__name__: function.__name__ for name, function in FUNCTIONS.items()}


def write(folder: Path) -> None:
    """Write all pages, and copy the vignettes beside them."""
    _vignettes(folder.parent / "vignettes")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "_static").mkdir(parents=True)
    _plotly(folder / "_static")
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
    (folder / "reference.rst").write_text(reference(folder / "api"))
    (folder / "spec_keys.inc").write_text(spec_keys())


def _vignettes(folder: Path) -> None:
    """Copy the vignettes; links that lead from their folder to this one lead on."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in sorted((ROOT / "vignettes").glob("*.md")):
        (folder / path.name).write_text(path.read_text().replace("../docs/", "../"))


def _plotly(folder: Path) -> None:
    """Put plotly's script beside the pages, so that pictures need no network."""
    from plotly.offline import get_plotlyjs

    (folder / "plotly.min.js").write_text(get_plotlyjs())


def kinds() -> dict[str, list[str]]:
    """Sort the public names by what they are; functions that only make an object are on its page."""
    sorted_names: dict[str, list[str]] = {key: [] for key in TITLES if key != "pictures"}
    made = {*RUNNERS.values(), "convert"}
    for name in (name for name in innsight_py.__all__ if name not in made):
        value: Any = getattr(innsight_py, name)
        if inspect.ismodule(value):
            sorted_names[name] += [f"{name}.{each}" for each in value.__all__ if each not in ("Rule", "compare")]
        elif isinstance(value, type) and issubclass(value, Exception):
            sorted_names["errors"].append(name)
        elif isinstance(value, type) and issubclass(value, Explanation):
            sorted_names["methods" if name in RUNNERS else "results"].append(name)
        else:
            kind = (
                "metrics"
                if name == "compare"
                else "bridges"
                if name in BRIDGES
                else "direct"
                if name.startswith("torch_")
                else "models"
            )
            sorted_names[kind].append(name)
    sorted_names["results"].append("results.completeness.Residual")
    return {kind: sorted(names, key=str.casefold) for kind, names in sorted_names.items()}


def reference(folder: Path) -> str:
    """Write a page for each public name, and the page that lists them."""
    folder.mkdir()
    lines = ["Reference", "=========", "", "Every example on these pages is run by the tests.", ""]
    for kind, names in {**kinds(), "pictures": list(PLOTS)}.items():
        lines += [TITLES[kind], "-" * len(TITLES[kind]), ""]
        if kind in innsight_py.__all__:
            page = "" if kind == "metrics" else "; see :doc:`/lrp`"
            lines += [f"In the module `innsight_py.{kind}`{page}.", ""]
        lines += [".. list-table::", "   :widths: auto", ""]
        for name in names:
            also = f"`~innsight_py.{RUNNERS[name]}`, " if name in RUNNERS else ""
            also = "`~innsight_py.convert`, " if name == "Converter" else also
            lines += [f"   * - {also}`~innsight_py.{name}`", f"     - {_first_line(name)}"]
        lines += ["", ".. toctree::", "   :hidden:", "", *(f"   api/{name}" for name in names), ""]
        for name in names:
            (folder / f"{name}.rst").write_text(_page(name))
    return "\n".join(lines) + "\n"


def _get(name: str) -> Any:
    module, _, last = f"innsight_py.{name}".rpartition(".")
    return getattr(importlib.import_module(module), last)


def _first_line(name: str) -> str:
    return (inspect.getdoc(_get(name)) or "").splitlines()[0]


def _page(name: str) -> str:
    value, last = _get(name), name.rpartition(".")[2]
    lines = [last, "=" * len(last), ""]
    maker = RUNNERS.get(name, "convert" if name == "Converter" else None)
    if maker is not None:
        lines += [".. py:currentmodule:: innsight_py", ""]
        lines += [f".. py:function:: {maker}(...)", "", f"   The same as ``{name}(...)``.", ""]
    if name in RUNNERS:
        lines += ["What comes back is an `~innsight_py.Explanation`, with ``get_result``, ``plot``, ``plot_global``,"]
        lines += ["``summary`` and ``residual``.", ""]
    shown_in = entries_with([entry for entry in (maker, last) if entry])
    listed = " · ".join(f":doc:`/vignettes/{entry}`" for entry in shown_in)
    examples = [f"In the :doc:`gallery </gallery>`: {listed}", ""]
    if name in PICTURES:
        examples = [f"Pages with examples: {' · '.join(f':doc:`/pictures/{page}`' for page in PICTURES[name])}", ""]
        shown_in = examples
    kind = "exception" if isinstance(value, type) and issubclass(value, Exception) else "class"
    kind = kind if isinstance(value, type) else "function"
    members = [] if kind == "function" else ["   :members:"]
    if kind == "exception" or (kind == "class" and public_base(value) is not None):
        members.append("   :show-inheritance:")
    if value is Explanation:  # its pictures are in its base
        members.append("   :inherited-members: Attributions")
    return "\n".join([*lines, f".. auto{kind}:: innsight_py.{name}", *members, "", *(examples if shown_in else [])])


def entries_with(names: list[str]) -> list[str]:
    """Return the vignettes whose code calls one of some functions or classes, but for those that nearly all call."""
    called = re.compile(rf"\b({'|'.join(map(re.escape, names))})\(")
    code = {path.stem: _code(path) for path in sorted((ROOT / "vignettes").glob("*.md"))}
    found = [name for name, text in code.items() if called.search(text)]
    return found if len(found) < len(code) / 2 else []


def _code(path: Path) -> str:
    return "\n".join(re.findall(r"```{code-cell}\n(.*?)```", path.read_text(), re.DOTALL))


def public_base(cls: type) -> type | None:
    """Find the nearest base class that has a page."""
    return next((base for base in cls.__mro__[1:] if base.__name__ in innsight_py.__all__), None)


def spec_keys() -> str:
    """Write which keys each type of layer takes, what they expect and what they default to."""
    lines = []
    for kind, cls in LAYER_SPECS.items():
        takes = {None: "one or more inputs", 1: "one input", 2: "two inputs"}[cls.arity]
        lines += [kind, "-" * len(kind), "", inspect.getdoc(cls) or "", "", f"Takes {takes}.", ""]
        keys = [key for key in cls.model_fields if key not in LayerSpec.model_fields]
        keys.sort(key=lambda key, cls=cls: not cls.model_fields[key].is_required())
        if keys:
            lines += [".. list-table::", "   :header-rows: 1", "", "   * - key", "     - expected", "     - default"]
        for key in keys:
            field = cls.model_fields[key]
            default = "needed" if field.is_required() else f"``{field.get_default(call_default_factory=True)!r}``"
            lines += [f"   * - ``{key}``", f"     - {_expected(kind, cls, key)}", f"     - {default}"]
        lines.append("")
    return "\n".join(lines)


def _expected(kind: str, cls: type[LayerSpec], key: str) -> str:
    """Find what a key expects: what the message says of a value that nothing takes."""
    text = ""
    for wrong in (np.zeros([1] * 9), object()):
        try:
            cls(type=kind, name="layer", inputs=("input_1",), **{key: wrong})
        except ValidationError as error:
            said = [entry["msg"] for entry in error.errors() if key in entry["loc"]]
            text = next((entry for entry in said if " axes " in entry or not text), text)
    text = text.removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("expected ")
    text = text.removeprefix("a valid ").replace("dictionary", "dict")
    return "an :doc:`activation </supported>`" if key in ("activation_name", "act_name") else text


def method_table() -> str:
    """Write a row for each method: what it needs, and what its numbers sum to, as its class says."""
    lines = ["| method | what it is | needs | random |", "|---|---|---|---|"]
    for name in METHODS:
        cls = METHODS[name]
        needs = {"x_ref": "a reference row", "data_ref": "reference rows", None: "nothing more"}
        random = "yes" if "seed" in arguments.parameters(name) else "no"
        reference_kind = needs[arguments.reference_argument(name)]
        link = f"{{py:obj}}`{cls.__name__} <innsight_py.{cls.__name__}>`"
        lines.append(f"| {link} | {arguments.purpose(name)} | {reference_kind} | {random} |")
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
        said, default = getattr(parameter, "help", None) or "", parameter.default
        if isinstance(default, enum.Enum):
            said += f" One of {', '.join(f'`{choice.value}`' for choice in type(default))}."
        if isinstance(default, enum.Enum | str):
            said += f" Default: `{default.value if isinstance(default, enum.Enum) else default}`."
        rows.append(f"| {flags} | {said} |")
    table = "| option | what it does |\n|---|---|\n" + "\n".join(rows)
    return f"{about}\n\n:::{{container}} options\n{table}\n:::\n"
