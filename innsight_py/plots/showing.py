"""Showing a picture to who runs a script: in the notebook that runs it, or in the browser."""

from __future__ import annotations

import importlib
import sys
import tempfile
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from innsight_py._checks import warn


def show(display: Any, write: Callable[[Path], None], name: str) -> None:
    """Show a picture: a notebook displays it, elsewhere the browser opens a file.

    Parameters
    ----------
    display : object
        What a notebook displays.
    write : callable
        Writes the picture into the file of a path.
    name : str
        Name of the file, which lies in a new temporary folder.
    """
    if _in_notebook():
        importlib.import_module("IPython.display").display(display)
        return
    path = Path(tempfile.mkdtemp(prefix="innsight_py_")) / name
    write(path)
    if not webbrowser.open(path.as_uri()):
        warn(f"There is no browser to show the picture. It was saved as {path}; save(path) writes it where you want.")


def _in_notebook() -> bool:
    """Tell whether a notebook runs this; a terminal of IPython has no pictures."""
    known = sys.modules.get("IPython")
    shell = None if known is None else known.get_ipython()
    return getattr(shell, "kernel", None) is not None
