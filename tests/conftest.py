"""Settings shared by all tests."""

import os
import sys
from pathlib import Path

import hypothesis
import torch

sys.path.insert(0, str(Path(__file__).parent))
os.environ["COLUMNS"] = "80"

# CI runs the same examples each time; at a desk every run tries others.
hypothesis.settings.register_profile(
    "default", deadline=None, max_examples=60, print_blob=True, derandomize="CI" in os.environ
)
hypothesis.settings.load_profile("default")
torch.set_num_threads(1)
os.environ.setdefault("KERAS_BACKEND", "torch")  # nox -s tests_tensorflow sets another
