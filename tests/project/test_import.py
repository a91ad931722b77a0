"""`import innsight_py` does no more than it needs to: what a call needs is imported by the call."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import innsight_py
from innsight_py import methods

#: What torch and pandas bring is there already; what comes on top are these, small ones.
NEEDED = {
    "annotated_types",
    "fractions",
    "html",
    "innsight_py",
    "pydantic",
    "pydantic_core",
    "tqdm",
    "typing_inspection",
}
#: Our own modules that wait: doors, whose frameworks are large, what draws, and the shell.
WAITING = (
    "innsight_py.cli", "innsight_py.converters.keras.door", "innsight_py.converters.sklearn",
    "innsight_py.converters.torch.door", "innsight_py.converters.torch.exported", "innsight_py.plots.matplotlib",
    "innsight_py.plots.plotly",
)  # fmt: skip


def modules_after(code: str) -> set[str]:
    """Run code in a fresh process, and return the modules that it has imported beyond those of torch and pandas."""
    script = (
        "import json, sys, torch, pandas\nbefore = set(sys.modules)\n"
        f"{code}\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_brings_nothing():
    """Not even torch: a name is imported when somebody asks for it."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys, innsight_py; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = set(done.stdout.split())
    assert "innsight_py" in found
    assert not found & {"torch", "pandas", "numpy", "pydantic"}
    assert not [name for name in found if name.startswith("innsight_py.")]


def test_the_converter_brings_little():
    found = modules_after("import innsight_py\ninnsight_py.Converter, innsight_py.run_grad")
    assert {"innsight_py.model.converter", "innsight_py.methods.gradient"} <= found
    assert not [name for name in found if name.startswith(WAITING)]
    standard = {name for name in found if name.partition(".")[0] in sys.stdlib_module_names}
    assert {name.partition(".")[0] for name in found - standard} <= NEEDED
    assert "torch" not in {name.partition(".")[0] for name in found}  # torch.export and sympy least of all


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_looked_for_while_importing(enabled):
    """A collection looks at all that torch has made, and takes half as long as the import; then all is as it was."""
    script = (
        f"import gc, torch, pandas\ngc.{'enable' if enabled else 'disable'}()\nran = []\n"
        "gc.callbacks.append(lambda phase, info: ran.append(phase))\n"
        "from innsight_py import Converter, run_deeplift\n"
        "gc.callbacks.clear()\nprint(ran.count('start'), gc.isenabled())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    count, is_enabled = done.stdout.split()
    assert int(count) <= 2  # one after each of the names, at most; without it there are about 40
    assert is_enabled == str(enabled)


def test_every_name_is_there():
    own = {"ConvertedModel", "Converter", "Explanation", "SpecError", "UnsupportedLayerError", "compare", "composites",
           "convert", "explain_batches", "explain_dataset", "from_r", "load_explanations", "metrics", "read_neuralnet",
           "read_r_model", "rules"}  # fmt: skip
    assert sorted(innsight_py.__all__) == sorted({*own, *methods.__all__})
    for name in innsight_py.__all__:
        found = getattr(innsight_py, name)
        assert (found.__name__.rpartition(".")[2]) == name
    assert innsight_py.layers.Layer  # parts of the package, too
    with pytest.raises(AttributeError, match="no attribute 'Convertor'"):
        innsight_py.Convertor  # noqa: B018


def test_what_waits_comes_when_it_is_needed():
    """The doors and pictures are there by then; otherwise the test above would say nothing."""
    found = modules_after(
        "import innsight_py as ip\n"
        "converter = ip.Converter(torch.nn.Linear(2, 1), input_dim=(2,))\n"
        "ip.run_grad(converter, [[1.0, 2.0]]).plot()"
    )
    assert {"innsight_py.converters.torch.door", "innsight_py.plots.matplotlib", "sympy"} <= found
