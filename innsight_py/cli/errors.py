"""What goes wrong, in one line, and the exit code that says which step it was."""

from __future__ import annotations

import contextlib
import enum
import importlib.util
import sys
from collections.abc import Iterator

import typer

from innsight_py._errors import explain
from innsight_py._text import printable


class Exit(enum.IntEnum):
    """Exit codes; 2, for a command line that cannot be read, comes from the command-line library."""

    UNEXPECTED = 1
    USAGE = 2
    MODEL = 3
    DATA = 4
    METHOD = 5
    OUTPUT = 6
    MISSING = 7


#: What each code means, for ``--help``.
MEANING = {
    Exit.UNEXPECTED: "an unexpected error (a bug: please report it)",
    Exit.USAGE: "the command line cannot be read",
    Exit.MODEL: "the model cannot be read or converted",
    Exit.DATA: "the data cannot be read or do not fit the model",
    Exit.METHOD: "the method refuses its arguments or a layer of the model",
    Exit.OUTPUT: "the result cannot be written",
    Exit.MISSING: "a package is missing; the message says which",
}


@contextlib.contextmanager
def step(code: Exit, traceback: bool) -> Iterator[None]:
    """Turn errors of a step into one line on stderr and its exit code; with `traceback` let them through."""
    try:
        yield
    except (typer.Exit, typer.Abort, KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:
        if traceback:
            raise
        explain(error)
        expected = isinstance(error, ValueError | TypeError | OSError | NotImplementedError | ImportError)
        message = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.strerror and error.filename:
            message = f"{error.filename}: {error.strerror}"
        if not expected:
            message = f"{type(error).__name__}: {message} (unexpected; --traceback shows where)"
        say(f"error: {message}")
        code = Exit.MISSING if isinstance(error, ImportError) else code if expected else Exit.UNEXPECTED
        raise typer.Exit(code) from None


def check_parquet() -> None:
    """Refuse a Parquet file where no package reads or writes it.

    Raises
    ------
    ImportError
        If there is none.
    """
    if not any(importlib.util.find_spec(name) for name in ("pyarrow", "fastparquet")):
        raise ImportError('Parquet files need pyarrow: pip install "innsight_py[parquet]"')


def say(message: str) -> None:
    """Write a line to stderr."""
    print("\n".join(map(printable, f"innsight-py: {message}".split("\n"))), file=sys.stderr)
