"""Explaining a data set from the shell: into a folder of Parquet files, with engines, and going on where it stopped."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import typer

from innsight_py.cli import methods as found
from innsight_py.cli.data import load
from innsight_py.cli.errors import Exit, say, step
from innsight_py.cli.usage import REFERENCES
from innsight_py.datasets import explain_dataset
from innsight_py.datasets.arrow import require
from innsight_py.datasets.form import Layout
from innsight_py.datasets.sources import find_source
from innsight_py.model.converter import Converter


class Engine(enum.StrEnum):
    """Where data sets are explained."""

    local, ray, spark = "local", "ray", "spark"


class Parts(enum.StrEnum):
    """How parts hold the values."""

    auto, wide, dense, long = "auto", "wide", "dense", "long"


@dataclass(frozen=True)
class Run:
    """How a data set is explained.

    Attributes
    ----------
    output : Path
        The folder that parts go to.
    engine, workers, resume, max_errors, id_column
        As for `explain_dataset`.
    parts : Parts
        The layout.
    """

    output: Path
    engine: Engine
    workers: int
    resume: bool
    max_errors: int | None
    id_column: str | None
    parts: Parts


def check_alone(run: Run | None, others: Mapping[str, object]) -> None:
    """Refuse options that say something about a single result.

    Raises
    ------
    ValueError
        If one of them is given.
    """
    given = next((name for name, value in others.items() if value is not None), None)
    if run is not None and given is not None:
        raise ValueError(f"{given} goes without --output-dir, whose parts hold all rows and all values.")


def explain_parts(
    run: Run, converter: Converter, name: str, data: Sequence[Path], reference: str | None, columns: list[str] | None,
    pixels: tuple[float, float], layout: str, arguments: dict[str, Any], progress: bool | None, traceback: bool,
) -> None:  # fmt: skip
    """Explain a data set with a method, and write the summary to stdout."""
    paths = [str(path) for path in data]
    with step(Exit.DATA, traceback):
        require("pyarrow")
        find_source(paths)
        argument = found.reference_argument(name)
        if reference is not None:
            if argument is None:
                raise ValueError(f"--reference: the method '{name}' has none.")
            arguments[argument] = reference
            if reference not in REFERENCES:
                arguments[argument] = load([Path(reference)], converter, columns, pixels, layout).value
        if layout != "auto" and "channels_first" in found.parameters(name):
            arguments["channels_first"] = layout == "first"
    with step(Exit.METHOD, traceback):
        explained = explain_dataset(
            converter, paths, run.output, method=name, id_column=run.id_column, columns=columns, pixels=pixels,
            layout=cast(Layout | None, None if run.parts == Parts.auto else run.parts.value), engine=run.engine.value,
            workers=run.workers, resume=run.resume, max_errors=run.max_errors, verbose=progress, **arguments,
        )  # fmt: skip
    typer.echo(explained.summary().to_frame(10).to_string(index=False))
    say(f"{run.output}: {explained!r}")
