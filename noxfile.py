"""The project's chores: ``nox -s demo``, ``nox -s tests``, ``nox -s browser``, ``nox -s lint``.

Every session runs in a fresh environment with the versions of ``constraints.txt``, which are the tested ones.
"""

import shutil
from pathlib import Path

import nox

nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = True


def install(session: nox.Session, *packages: str) -> None:
    """Install packages in the tested versions."""
    session.install("--constraint", "constraints.txt", *packages)


@nox.session
def demo(session: nox.Session) -> None:
    """Train a small network on the penguins, explain it with three methods and leave a CSV."""
    install(session, "--editable", ".", "palmerpenguins")
    session.run("python", "vignettes/demo.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests, examples of docstrings included."""
    install(session, "--editable", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """Open interactive pictures in Chromium and use their controls (Debian: chromium and chromium-driver)."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            session.error(f"This session needs {program}: apt-get install chromium chromium-driver")
    install(session, "--editable", ".[test,browser]")
    session.run("pytest", "-m", "browser", "tests/test_plots_plotly_page.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and types."""
    install(session, ".", "ruff", "mypy", "types-tqdm")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    config = Path("pyproject.toml").resolve()
    session.chdir(session.create_tmp())  # so that mypy reads the package as it is installed
    session.run("mypy", "--config-file", str(config))
