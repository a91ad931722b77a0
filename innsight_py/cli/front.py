"""What the command says of itself as a whole: its help and its version, which need no network and so no torch."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from innsight_py.cli.errors import MEANING

CODES = "Exit codes: 0 it worked" + "".join(f"; {code.value} {meaning}" for code, meaning in MEANING.items()) + "."

#: What each command does, as the list of commands has it.
COMMANDS = {
    "explain": "Explain what a model says of some data.",
    "inspect": "Show what is in a model: its layers with shapes, and which methods each of them supports.",
    "methods": "List the methods, or tell what one of them computes and takes.",
}


def make_app() -> typer.Typer:
    """Return an application without commands, which has the options of all."""
    app = typer.Typer(
        no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]}, epilog=CODES,
    )  # fmt: skip
    app.callback()(_root)
    return app


def front() -> typer.Typer:
    """Return an application whose commands have their names and what they do, to be listed."""
    app = make_app()
    for name, text in COMMANDS.items():
        app.command(name, help=text)(_nothing)
    return app


def _nothing() -> None:
    """Stand for a command that is listed only."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("innsight_py"))
        raise typer.Exit


def _root(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Explain neural networks: which input made the network say what it said, and by how much.

    Three commands, to be used in this order:

    * `innsight-py inspect model.keras` — what is in the model, and which methods can explain it

    * `innsight-py methods` — which methods there are

    * `innsight-py explain model.keras data.csv --method deeplift --plot out.html` — do it

    Results go to stdout, all else to stderr.
    """
