"""Which real architectures are converted: ``python benchmarks/models_tried.py`` tries them and writes a page about it.

Each architecture of ``architectures.py`` has random weights. It is tried in its own process, within some CPU seconds:

1. `Converter` converts it.
2. Its outputs are compared with those of the converter, on two rows.
3. DeepLift explains the first output in double precision. Its sum is compared with the difference of the outputs.
4. LRP explains the first output.

The findings go to ``benchmarks/results/models_tried.json``. ``docs/models-tried.md`` is written from that file alone.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import re
import resource
import textwrap
import time
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from architectures import CONVOLUTIONS, TRANSFORMER, Made, architectures
from torch import nn

from innsight_py import Converter, run_deeplift, run_grad, run_lrp

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "results" / "models_tried.json"
PAGE = ROOT / "docs" / "models-tried.md"
#: Packages whose versions are recorded.
PACKAGES = (
    "torch", "transformers", "keras", "pytorchcv", "efficientnet-pytorch", "rtdl-revisiting-models", "tabm",
)  # fmt: skip
#: A sum of DeepLift, or an output, that is this close is exact: rounding of single precision, and of double precision.
EXACT_OUTPUT, EXACT_SUM = 1e-4, 1e-6
SECONDS = ("seconds_convert", "seconds_deeplift", "seconds_lrp")


def attempt(made: Made) -> dict[str, Any]:
    """Convert and explain a model; stop at the first step that fails."""
    found: dict[str, Any] = {}
    start = time.process_time()
    converter = step(found, "convert", lambda: Converter(made.model, **made.keys))
    found["seconds_convert"] = time.process_time() - start
    if converter is None:
        return found
    step(found, "outputs", lambda: found.update(difference=difference(made, converter)))
    for name, function in (("deeplift", lambda: deeplift(made, converter)), ("lrp", lambda: lrp(made, converter))):
        start = time.process_time()
        value = step(found, name, function)
        found[f"seconds_{name}"] = time.process_time() - start
        if name == "deeplift" and value is not None:
            found["residual"], found["relative"] = value
    return found


def step(found: dict[str, Any], name: str, function: Callable[[], Any]) -> Any:
    """Run one step, and record the message with which it fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function()
    except Exception as error:  # whatever it is, it belongs into the table
        last = traceback.extract_tb(error.__traceback__)[-1].filename
        found[name] = f"{type(error).__name__}: {error}"
        found[f"{name}_from"] = last.rpartition("site-packages/")[2].replace(f"{ROOT}/", "")
        return None


def difference(made: Made, converter: Converter) -> float:
    """Return the largest difference of the outputs, divided by the largest output."""
    mine = run_grad(converter, made.data, ignore_last_act=False, output_idx=0, dtype="float").preds[0]
    original = outputs(made)
    return float((mine - original).abs().max() / original.abs().max())


def outputs(made: Made) -> torch.Tensor:
    """Return the first output of the original for the two rows, ``(2, 1)``."""
    model, data = made.model, made.data
    with torch.no_grad():
        if not isinstance(model, nn.Module) or "example" not in made.keys:
            x = torch.as_tensor(data)
            y = model(x) if isinstance(model, nn.Module) else model.predict(data, verbose=0)
        else:
            example = made.keys["example"]
            arguments = {} if not isinstance(example, dict) else example
            several = example if isinstance(example, tuple) else (example,)
            y = model(**arguments) if arguments else model(*several)
        pick = made.keys.get("output")
        if pick is not None:
            y = pick(y) if callable(pick) else y[pick]
    return torch.as_tensor(y).flatten(1)[:, :1]


def deeplift(made: Made, converter: Converter) -> tuple[float, float]:
    """Return the largest part that the sum of DeepLift misses: of the goal, and of the largest sum of magnitudes."""
    found = run_deeplift(converter, made.data, dtype="double", output_idx=0)
    (missing,), (goal,), (relative,) = found.residual.absolute, found.decomp_goal, found.residual.relative
    return float((missing.abs() / goal.abs()).max()), float(relative.abs().max())


def lrp(made: Made, converter: Converter) -> None:
    """Run LRP, and check that its relevance is finite and reaches the input."""
    found = run_lrp(converter, made.data, rule_name=made.rule, output_idx=0)
    values = found.get_result("torch_tensor")
    parts = list(values.values()) if isinstance(values, dict) else values if isinstance(values, list) else [values]
    if not all(bool(part.isfinite().all()) for part in parts):
        raise ArithmeticError("The relevance is not finite.")
    if not any(bool((part != 0).any()) for part in parts):
        raise ArithmeticError("No relevance reaches the input.")


def warm_up() -> None:
    """Convert and explain something, so that no architecture pays for what torch loads at first use."""
    converter = Converter(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)), input_dim=(2,))
    run_deeplift(converter, torch.ones(1, 2))


def in_child(name: str, pipe: Connection, limit: int) -> None:
    """Build and try one architecture, and send what was found."""
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found: dict[str, Any] = {"name": name}
    made = step(found, "build", architectures()[name])
    if made is not None:
        if isinstance(made.model, nn.Module):
            with torch.no_grad():
                for parameter in made.model.parameters():  # biases and norms that are not 0 and 1
                    if parameter.dim() == 1 and parameter.is_floating_point():
                        parameter.add_(0.05 * torch.randn_like(parameter))
                if "build" not in found:
                    found["parameters"] = sum(parameter.numel() for parameter in made.model.parameters())
        step(found, "build", lambda: outputs(made))
        if "build" not in found:
            found |= attempt(made)
    pipe.send(found)


def tried(name: str, limit: int) -> dict[str, Any]:
    """Try one architecture in a process of its own, which may take `limit` CPU seconds."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=in_child, args=(name, theirs, limit))
    process.start()
    theirs.close()
    try:
        found: dict[str, Any] = ours.recv()
    except EOFError:
        found = {"name": name, "convert": f"It was not done within {limit} CPU seconds, or its process ended."}
    process.join()
    return found


def page(record: dict[str, Any]) -> str:
    """Write the page from what was recorded."""
    found = [entry for entry in record["architectures"] if "build" not in entry]
    left_out = [entry for entry in record["architectures"] if "build" in entry]
    exact = [entry for entry in found if entry.get("difference", 1.0) <= EXACT_OUTPUT]
    sums = [entry for entry in found if missed(entry) <= EXACT_SUM]
    lrps = [entry for entry in found if "seconds_lrp" in entry and "lrp" not in entry]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    lines = [
        "# Models tried",
        "",
        "A script converts and explains real architectures with random weights. You can run it: `nox -s models_tried`.",
        "The script writes this page from its record, `benchmarks/results/models_tried.json`. Its list is longer than",
        "the record: `python benchmarks/models_tried.py transformers/Bert` tries some of the list, and adds them.",
        "",
        f"- {len(found)} architectures were tried.",
        f"- {len(exact)} were converted, with outputs that are the same up to rounding of single precision"
        f" ({EXACT_OUTPUT:g} of the largest output).",
        f"- DeepLift's sums are exact for {len(sums)}: in double precision they miss at most {EXACT_SUM:g} of the"
        " goal, or of the sum of magnitudes.",
        f"- LRP gives a finite answer for {len(lrps)}. The rules are `{TRANSFORMER}` for transformers, and"
        f" `{CONVOLUTIONS}` for all others.",
        "",
        f"Versions: {versions}, Python {record['python']}.",
        f"Seconds are CPU seconds of one thread on a {record['machine']}.",
        "Models of transformers have small configurations. All others have the sizes of their package.",
        "",
        "| architecture | converted | outputs | DeepLift | LRP | seconds: convert | DeepLift | LRP |",
        "|---|---|---|---|---|---|---|---|",
    ]
    reasons: dict[str, list[str]] = defaultdict(list)
    for entry in sorted(found, key=lambda entry: entry["name"].lower()):
        cells = [f"`{entry['name']}`", answer(entry, "convert", reasons), answer(entry, "outputs", reasons)]
        if "difference" in entry:
            cells[2] = "exact" if entry["difference"] <= EXACT_OUTPUT else f"differ by {entry['difference']:.0e}"
        cells += [answer(entry, "deeplift", reasons), answer(entry, "lrp", reasons)]
        if "residual" in entry:
            cells[3] = "exact" if missed(entry) <= EXACT_SUM else f"misses {missed(entry):.0e}"
        cells += [f"{entry[key]:.2f}" if key in entry else "" for key in SECONDS]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Messages", ""]
    if not reasons:
        lines.append("There was none.")
    for text, names in sorted(reasons.items(), key=lambda pair: -len(pair[1])):
        lines += ["```text", *textwrap.wrap(text, 116), "```", "", *textwrap.wrap(", ".join(sorted(names)), 120), ""]
    lines += ["## Left out", "", "These were not built, or do not run by themselves at the size that was tried:", ""]
    lines += textwrap.wrap(", ".join(f"`{entry['name']}`" for entry in left_out) or "none", 120, break_on_hyphens=False)
    return "\n".join(lines).rstrip() + "\n"


def missed(entry: dict[str, Any]) -> float:
    """Return how much the sum of DeepLift misses: of the goal, or of the sum of magnitudes."""
    return min((entry[key] for key in ("residual", "relative") if key in entry), default=math.inf)


def answer(entry: dict[str, Any], step: str, reasons: dict[str, list[str]]) -> str:
    """Return "yes", "no" or nothing for a step; a message goes to its group, without names and numbers of the model."""
    if step in entry:
        line = " ".join(entry[step].split())
        alike = re.sub(r" \(layer .*", "", re.sub(r"0x[0-9a-f]+", "...", line)).partition(". ")[0]
        reasons[alike[:400]].append(f"`{entry['name']}` ({step})")
        return "no"
    done = step == "convert" or f"seconds_{step}" in entry or (step == "outputs" and "difference" in entry)
    return "yes" if done else ""


def described() -> dict[str, Any]:
    """Return the versions and the machine."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    cpu = (
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    )
    return {"versions": versions, "python": platform.python_version(), "machine": next(cpu, platform.processor())}


def main() -> None:
    """Try architectures, add them to the record, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "prefixes", nargs="*", help="how the names begin: transformers/Bert; all architectures if left out"
    )
    parser.add_argument("--limit", type=int, default=300, help="CPU seconds for each architecture")
    parser.add_argument("--page", action="store_true", help="only write the page from the record")
    options = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"architectures": []}
    if not options.page:
        record |= described()
        warm_up()
        torch.set_num_threads(1)
        for name in architectures():
            if name.startswith(tuple(options.prefixes or [""])):
                found = tried(name, options.limit)
                print(json.dumps(found), flush=True)
                record["architectures"] = [entry for entry in record["architectures"] if entry["name"] != name] + [
                    found
                ]
                RECORD.write_text(json.dumps(record, indent=1) + "\n")
    PAGE.write_text(page(record))


if __name__ == "__main__":
    main()
