"""The command ``innsight-py``: explain, inspect, methods (``pip install "innsight_py[cli]"``)."""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
import threading
import warnings
from collections.abc import Iterator

from innsight_py._text import printable

__all__ = ["main"]


def main() -> None:
    """Run the command; what `innsight-py` on the command line calls."""
    try:
        if sys.argv[1:] in ([], ["-h"], ["--help"], ["--version"]):  # in a moment, without torch
            app = importlib.import_module("innsight_py.cli.front").front()
        else:
            app = importlib.import_module("innsight_py.cli.app").app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        print('innsight-py: the command needs typer: pip install "innsight_py[cli]"', file=sys.stderr)
        sys.exit(7)
    with warnings.catch_warnings():
        warnings.showwarning = _in_one_line
        with _pipes():
            sys.exit(_run(app))


def _run(app: object) -> int:
    """Run the command; a command line that cannot be read is one line, as all other errors are."""
    try:
        return app(prog_name="innsight-py", standalone_mode=False) or 0  # type: ignore[operator]
    except Exception as error:
        if not hasattr(error, "format_message"):  # what the command-line library raises has it
            raise
        if "NoArgsIsHelp" in type(error).__name__:
            error.show()  # type: ignore[attr-defined]
        else:
            usage = importlib.import_module("innsight_py.cli.usage")
            print(f"innsight-py: error: {usage.usage_text(error.format_message())}", file=sys.stderr)
        return int(getattr(error, "exit_code", 2))


@contextlib.contextmanager
def _pipes() -> Iterator[None]:
    """Stop without a word when nobody reads any more (``| head``), as other commands do."""
    if not hasattr(signal, "SIGPIPE") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        yield
    finally:
        sys.stdout.flush()
        signal.signal(signal.SIGPIPE, before)


def _in_one_line(message: Warning | str, *_: object, **__: object) -> None:
    print(f"innsight-py: warning: {printable(' '.join(str(message).split()))}", file=sys.stderr)
