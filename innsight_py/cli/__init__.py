"""The command ``innsight-py``: explain, inspect, methods (``pip install "innsight_py[cli]"``)."""

from __future__ import annotations

import sys
import warnings

__all__ = ["main"]


def main() -> None:
    """Run the command; what `innsight-py` on the command line calls."""
    try:
        from innsight_py.cli.app import app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        print('innsight-py: the command needs typer: pip install "innsight_py[cli]"', file=sys.stderr)
        sys.exit(7)
    with warnings.catch_warnings():
        warnings.showwarning = _in_one_line
        app(prog_name="innsight-py")


def _in_one_line(message: Warning | str, *_: object, **__: object) -> None:
    print(f"innsight-py: warning: {' '.join(str(message).split())}", file=sys.stderr)
