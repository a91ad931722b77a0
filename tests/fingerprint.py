"""A fingerprint of all that the package answers: a hash for every case, to compare before and after a change.

    python tests/fingerprint.py write before.json      # then change the code
    python tests/fingerprint.py compare before.json    # names every case that differs, is new or is missing

Every method runs with every rule and option on every layer and through every door. Hashed are the answers (the exact
bytes of results, predictions, goals and residuals), data frames, summaries, what is in pictures, and printed texts,
warnings and refusals. A case is called ``subject | method and options | precision and layout | what``; ``--only``
takes a regular expression of these names (without the last part) and runs those cases alone.

The hashes belong to the machine: on another processor, or with another torch, the last bits are others. So they are a
tool for one change on one machine, and are never committed. The same run twice gives the same (one thread).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.metadata
import inspect
import io
import json
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fingerprint_calls import AGNOSTIC, BOTH, CALLS, DIRECT, FEW, LAST, SHOWN, Call, ask, deeplift_calls
from fingerprint_digests import digest
from fingerprint_models import (
    Subject,
    activations,
    keras_doors,
    keras_layers,
    layers,
    networks,
    r_doors,
    saved,
    sklearn_door,
    torch_doors,
)

import innsight_py

#: What a case has to tell: a name for each value.
Values = dict[str, Any]
Case = tuple[str, Callable[[], Values]]


# -- what an answer has to tell ---------------------------------------------------------------------------------------


def answers(result: Any) -> Values:
    """Tell the numbers of a result."""
    residual = result.residual
    return {
        "result": result.result, "predictions": result.preds, "goal": result.decomp_goal,
        "residual": residual and [residual.absolute, residual.relative, residual.steps, residual.reasons],
        "labels": [result.output_idx, result.output_label, result.title, result.value_name, result.channels_first],
    }  # fmt: skip


def shown(result: Any, extras: bool = False) -> Values:
    """Tell the tables, pictures and texts of a result."""
    rows = 0 if result.is_global or result.rows < 2 else [1, 0]
    told = {
        "array": lambda: result.get_result(),
        "frame": lambda: result.get_result("data.frame"),
        "summary": lambda: result.summary(),
        "text": lambda: [repr(result), repr(result.residual)],
        "html": lambda: result._repr_html_(),
        "picture": lambda: picture(result.plot(rows)),
        "global picture": lambda: picture(result.plot_global()),
    }
    if extras:
        told |= {"xarray": lambda: result.get_result("xarray"), "summary of 2": lambda: result.summary(2, "norm")}
        told |= {f"plot {keys}": functools.partial(_plotted, result.plot, keys) for keys in PLOTS}
        told |= {f"plot_global {keys}": functools.partial(_plotted, result.plot_global, keys) for keys in GLOBAL_PLOTS}
    with _without_drawing():
        return {name: _or_refusal(tell) for name, tell in told.items()}


PLOTS: list[dict[str, Any]] = [
    {"aggr_channels": "norm"}, {"aggr_channels": "mean", "same_scale": True}, {"show_preds": False},
    {"output_idx": [1, 0]}, {"output_label": "Y2"}, {"max_display": 2}, {"data_idx": [2, 0], "image": True},
    {"output_idx": [[0], [2]], "same_scale": True},
]  # fmt: skip
GLOBAL_PLOTS: list[dict[str, Any]] = [
    {"ref_data_idx": 1, "aggr_channels": "norm"}, {"data_idx": [0, 2], "max_display": 3},
    {"individual_data_idx": [0], "output_idx": 1}, {"individual_max": 1}, {"preprocess_fun": np.negative},
]  # fmt: skip


def _plotted(plot: Callable[..., Any], keys: dict[str, Any]) -> Any:
    return picture(plot(**keys))


def picture(display: Any) -> Any:
    """Tell all that is in a picture, as both backends find it."""
    frame = display.frame
    panels = []
    for panel in frame.panels.flat:
        ticks = [axis.ticks(2.0) for axis in panel.axes]
        more = [panel.shades] if hasattr(panel, "shades") else [getattr(panel, "dense", None)]
        panels.append([ticks, panel.size, more, panel.hover_texts() if hasattr(panel, "hover_texts") else None])
    info = None if frame.info is None else [entry.lines for entry in frame.info.flat]
    return [frame, panels, info, frame.shared_limit, frame.lines, frame.widths, frame.heights]


@contextlib.contextmanager
def _without_drawing() -> Iterator[None]:
    """Let `plot` return what is to be drawn: wherever the package holds the class that draws, it is replaced."""
    import innsight_py.plots.matplotlib

    @dataclass
    class Frame:
        frame: Any

    def only_the_frame(frame: Any, ax: Any = None) -> Frame:
        return Frame(frame)

    with replaced(innsight_py.plots.matplotlib.Display, only_the_frame):
        yield


@contextlib.contextmanager
def replaced(function: Any, substitute: Any) -> Iterator[None]:
    """Put a substitute wherever a module of the package holds a function or class."""
    places = [
        (module, name)
        for key, module in list(sys.modules.items())
        if key.startswith("innsight_py")
        for name, value in list(vars(module).items())
        if value is function
    ]
    for module, name in places:
        setattr(module, name, substitute)
    try:
        yield
    finally:
        for module, name in places:
            setattr(module, name, function)


def _or_refusal(tell: Callable[[], Any]) -> Any:
    """Take a refusal for an answer."""
    try:
        return tell()
    except Exception as error:  # what comes is part of what is told
        return [type(error).__name__, str(error)]


def told_of_model(subject: Subject) -> Values:
    """Tell what came out of a conversion."""
    converter = subject.converter
    inputs = [torch.tensor(x) for x in subject.data]
    return {
        "text": repr(converter), "html": converter._repr_html_(), "spec": converter.model_as_dict,
        "names": [converter.input_names, converter.output_names, converter.input_keys, converter.output_keys,
                  converter.input_dim, converter.output_dim, converter.channels_first],
        "output": [converter.model_in("float")(*(x.float() for x in inputs)), converter.model_in("double")(*inputs)],
    }  # fmt: skip


def told_of_call(subject: Subject, call: Call, dtype: str, last: bool, extras: bool) -> Values:
    """Tell what a call answers: in single precision with texts, and for some calls with tables and pictures as well."""
    if subject.refused:  # which the conversion tells
        return {}
    result = ask(subject, call, dtype, last)
    told = answers(result)
    if dtype == "float":
        told |= shown(result, extras) if call in [*SHOWN, *BOTH] else {"text": repr(result)}
    return told


# -- cases ------------------------------------------------------------------------------------------------------------


def of_subject(subject: Subject, calls: list[Call], layouts: bool = False, extras: bool = False) -> Iterator[Case]:
    """Yield the cases of a subject: its conversion, and each call in both precisions (and layouts)."""
    yield f"{subject.name} | conversion", functools.partial(told_of_model, subject)
    for call in calls:
        ways = [("float", False), ("double", False), *([("float", True)] if layouts else [])]
        for dtype, last in ways[: 1 if call in AGNOSTIC else None]:
            name = f"{subject.name} | {call.name} | {dtype}{', channels last' if last else ''}"
            yield name, functools.partial(told_of_call, subject, call, dtype, last, extras and not last)


def cases() -> Iterator[Case]:
    """Yield all cases."""
    yield from _words()
    for subject in layers():
        yield from of_subject(subject, [*CALLS, *AGNOSTIC])
    for subject in activations():
        yield from of_subject(
            subject, [CALLS[2], *deeplift_calls(), Call("run_lrp", LAST), Call("run_intgrad", {"n": 3})]
        )
    for subject in networks():
        both = BOTH if subject.name.endswith("several") else []
        yield from of_subject(subject, [*CALLS, *AGNOSTIC, *both], layouts=True, extras=True)
        yield f"{subject.name} | drawn", functools.partial(_drawn, subject)
    for subject in torch_doors():
        yield from of_subject(subject, [*FEW, *(DIRECT if subject.module else [])])
    for door in (keras_doors, sklearn_door, r_doors):
        for subject in door():
            yield from of_subject(subject, FEW)
    for subject in saved():
        yield from of_subject(subject, FEW[:2])
    for subject in keras_layers():
        yield from of_subject(subject, FEW[:1])
    yield from _shell()


def _drawn(subject: Subject) -> Values:
    """Tell what both backends make of two pictures: pixels, and the figure's JSON."""
    import matplotlib.pyplot as plt

    result = ask(subject, CALLS[1])
    told: Values = {}
    for name, plot in (("plot", result.plot), ("plot_global", result.plot_global)):
        figure, pixels = plot().figure, io.BytesIO()
        figure.savefig(pixels, format="rgba")
        told[f"{name}, matplotlib"] = pixels.getvalue()
        plt.close(figure)
        told[f"{name}, plotly"] = plot(as_plotly=True).figure.to_json()
    return told


def _words() -> Iterator[Case]:
    """Yield what is written of each public name: its documentation and its arguments."""

    def told(name: str) -> Values:
        value = getattr(innsight_py, name)
        documented = {key: inspect.getdoc(getattr(value, key, None)) for key in dir(value) if key[0] != "_"}
        try:
            arguments = [(p.name, p.kind.name, repr(p.default)) for p in inspect.signature(value).parameters.values()]
        except ValueError:  # an error has none
            arguments = []
        members = documented if isinstance(value, type) and value.__module__.startswith("innsight_py") else {}
        own = {key: text for key, text in members.items() if not hasattr(torch.nn.Module, key)}
        return {"documentation": [inspect.getdoc(value), own], "arguments": arguments}

    yield "public names", lambda: {"all": sorted(innsight_py.__all__)}
    for name in sorted(innsight_py.__all__):
        yield f"public names | {name}", functools.partial(told, name)


def _shell() -> Iterator[Case]:
    """Yield what the shell writes."""
    from innsight_py.cli import methods

    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="innsight-py")

    def told(*arguments: str) -> Values:
        net = next(s for s in networks() if s.name == "networks/table")
        net.converter.save("table.safetensors")
        np.savetxt("table.csv", net.data[0], delimiter=",", header="a,b,c,d,e", comments="")
        next(s for s in networks() if s.name == "networks/several").converter.save("several.safetensors")
        out, err, before = io.StringIO(), io.StringIO(), sys.argv
        sys.argv = ["innsight-py", *arguments]
        code: Any = 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                entry.load()()
        except SystemExit as stop:
            code = stop.code
        finally:
            sys.argv = before
        return {"out": out.getvalue(), "err": err.getvalue(), "code": str(code)}

    calls = [["--help"], ["inspect", "--help"], ["explain", "--help"], ["methods"], ["explain", "no.json", "no.csv"]]
    calls += [["methods", name] for name in methods.METHODS]
    for file in ("table.safetensors", "several.safetensors", "no.rds"):
        calls += [["inspect", file], ["inspect", file, "--json"]]
    for name in methods.METHODS:
        seed = ["-s", "seed=1"] if name in ("smoothgrad", "expgrad", "deepshap", "lime", "shap") else []
        for more in ([], ["-o", "-"], ["-r", "mean", "--rows", "0,2"]):
            calls.append(["explain", "table.safetensors", "table.csv", "-m", name, *seed, *more])
    for call in calls:
        yield f"shell | {' '.join(call)}", functools.partial(told, *call)


# -- the fingerprint --------------------------------------------------------------------------------------------------


def fingerprint(only: str = "") -> dict[str, str]:
    """Return a hash for each thing that each case tells; of the cases alone whose name `only` is found in."""
    pattern, found = re.compile(only), {}
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for name, tell in cases():
                if pattern.search(name):
                    found |= {f"{name} | {what}": digest(value) for what, value in _told(tell).items()}
        finally:
            os.chdir(here)
    return found


def _told(tell: Callable[[], Values]) -> Values:
    """Ask a case; the warnings of the package are part of what it tells, and so is a refusal."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        told = _or_refusal(tell)
    if not isinstance(told, dict):
        told = {"refusal": told}
    if not told:
        return {}
    texts = [str(warning.message) for warning in caught if warning.category is UserWarning]
    told["warnings"] = [text for text in texts if "Triggered internally" not in text]  # of torch, once a process
    return told


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Say which cases differ, are new or are missing."""
    named = {
        "differs": [name for name in before if name in after and before[name] != after[name]],
        "is missing": [name for name in before if name not in after],
        "is new": [name for name in after if name not in before],
    }
    return [f"{what}: {name}" for what, names in named.items() for name in names]


def main() -> int:
    """Write or compare; return 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["write", "compare"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", help="a regular expression of the cases to run")
    given = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "torch")
    os.environ.update(COLUMNS="80", NO_COLOR="1", TERM="dumb", MPLBACKEND="agg")
    torch.set_num_threads(1)
    found = fingerprint(given.only)
    if given.command == "write":
        given.file.write_text(json.dumps(found, indent=0) + "\n")
        print(f"{len(found)} hashes in {given.file}")
        return 0
    before = json.loads(given.file.read_text())
    asked = {name: value for name, value in before.items() if re.search(given.only, name.rpartition(" | ")[0])}
    lines = differences(asked, found)
    print("\n".join([*lines, f"{len(lines)} of {len(asked)} differ" if lines else f"all {len(asked)} are the same"]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
