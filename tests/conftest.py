"""Settings shared by all tests, and the way to what they share.

The folders mirror the rooms of the package. Beside them lie ``golden/`` (what R innsight answered), ``oracles/`` (the
methods again, written from their papers and sharing no code; captum), ``hostile/`` (wrong arguments, fuzzing),
``project/`` (README, documentation, the tests themselves, mutation testing), and ``laws.py`` (what holds for every
method, whatever the layer and the door).

A module without ``test_`` in front is for sharing: any test imports it by its name alone, since all folders are on the
path. Those that other folders use:

- ``golden/goldens.py``, ``golden_zoo.py``: read R's answers; make the calls that R answered.
- ``layers/one_of_each.py``: one layer of each type of the spec.
- ``methods/method_calls.py``: every method with each of its rules, in few steps.
- ``results/result_models.py``: models of every kind of input, and data for them.
- ``converters/keras_models.py``, ``torch_models.py``: models for these doors.
- ``fingerprint.py`` (a command) and its parts: hashes of all that the package answers, before and after a change.
- ``converters/sealed_files.py``: model files as strangers write them.
"""

import functools
import os
import sys
import zlib
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

HERE = Path(__file__).parent
FOLDERS = [HERE, *sorted(path for path in HERE.iterdir() if path.is_dir())]
sys.path[:0] = map(str, FOLDERS)
# Asserts in what tests share say as much as those in tests.
pytest.register_assert_rewrite(*(path.stem for folder in FOLDERS for path in folder.glob("*.py")))
os.environ["COLUMNS"] = "80"

# CI runs the same examples each time; at a desk every run tries others.
hypothesis.settings.register_profile(
    "default", deadline=None, max_examples=60, print_blob=True, derandomize="CI" in os.environ
)
hypothesis.settings.load_profile("default")
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
os.environ.setdefault("KERAS_BACKEND", "torch")  # nox -s tests_tensorflow sets another


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by their number: those of a packed file hold the time, and xdist's workers must agree on names."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


@functools.cache
def generators() -> list[np.random.Generator]:
    """Find the generators that modules of the tests keep, once all modules are there."""
    modules = [each for each in sys.modules.values() if str(HERE) in (getattr(each, "__file__", None) or "")]
    found = [each for module in modules for each in vars(module).values() if isinstance(each, np.random.Generator)]
    return list({id(each): each for each in found}.values())


@pytest.fixture(autouse=True)
def same_draws(request: pytest.FixtureRequest) -> None:
    """Start all generators anew: what a test draws depends on its name, not on the tests that a worker ran before."""
    seed = zlib.crc32(request.node.nodeid.encode())
    state = np.random.default_rng(seed).bit_generator.state
    for generator in generators():
        generator.bit_generator.state = state
    np.random.seed(seed)  # noqa: NPY002 (for code of others)
    torch.manual_seed(seed)
