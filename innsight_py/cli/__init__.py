"""The command ``innsight-py``: explain, inspect, methods (``pip install "innsight_py[cli]"``)."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command; what `innsight-py` on the command line calls."""
    try:
        from innsight_py.cli.app import app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        print('innsight-py: the command needs typer: pip install "innsight_py[cli]"', file=sys.stderr)  # noqa: T201
        sys.exit(7)
    app(prog_name="innsight-py")
