"""The help and the version of the command as a whole come at once: without torch, and with the same words."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from innsight_py.cli.app import app
from innsight_py.cli.front import front

SCRIPT = """
import sys
sys.argv = ["innsight-py", *{arguments}]
from innsight_py.cli import main
try:
    main()
finally:
    print("has", *sorted({{"torch", "pandas", "numpy", "pydantic", "innsight_py.cli.app"}} & set(sys.modules)), "there")
"""


def after(arguments: list[str]) -> tuple[str, int]:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", SCRIPT.format(arguments=arguments)], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr, done.returncode


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [(["--help"], "explain", 0), (["-h"], "explain", 0), (["--version"], "0.1.0", 0), ([], "explain", 2)],
)
def test_nothing_large_is_imported(arguments, said, code):
    text, returned = after(arguments)
    assert said in text
    assert "has there" in text
    assert returned == code


def test_a_command_imports_what_it_needs():
    text, code = after(["methods"])
    assert "innsight_py.cli.app" in text
    assert "torch" in text
    assert code == 0


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_the_words_are_the_same(arguments):
    runner = CliRunner()
    first, second = (runner.invoke(which, arguments, prog_name="innsight-py") for which in (front(), app))
    assert first.output == second.output


def test_the_package_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "innsight_py", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "0.1.0\n"
