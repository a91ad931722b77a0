"""The page about models runs as it is written."""

from __future__ import annotations

import importlib.util
import re
import shutil
import warnings
from pathlib import Path

import pytest

import innsight_py

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "models.md").read_text()
DOORS, *CALLS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SETTING = """
import keras, numpy as np, pandas as pd, torch
from skorch import NeuralNetClassifier as Net
from sklearn.ensemble import RandomForestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
rng = np.random.default_rng(1)
x = rng.standard_normal((50, 4)).astype(np.float32)
y = x[:, :3].argmax(1)
frame, species = pd.DataFrame(x, columns=list("abcd")), np.array(["u", "v", "w"])[y]
data = x
W, b = rng.standard_normal((3, 4)), np.zeros(3)
module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3), torch.nn.Softmax(-1))
def NeuralNetClassifier(*args, **kwargs):
    return Net(*args, verbose=0, **kwargs)
"""
MORE_SETTING = """
x, x_train = x[:2], x
forest = RandomForestClassifier(10, random_state=1).fit(x_train, species)
def my_function(rows):
    return rows[:, 0]
x_ = x
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    golden = ROOT / "tests" / "golden"
    shutil.copy(golden / "neuralnet" / "penguins.rds", tmp_path / "model.rds")
    shutil.copy(golden / "r_files" / "conv2d_batchnorm.json", tmp_path / "model.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_door_in_three_lines(folder):
    doors = DOORS.strip().split("\n\n")
    assert all(len(door.splitlines()) <= 3 for door in doors)
    names = {name: getattr(innsight_py, name) for name in innsight_py.__all__}
    answers = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a perceptron that is not fitted to the end
        exec(SETTING, names)  # noqa: S102
        for door in doors:
            if "model.onnx" in door and not _write_onnx(folder):
                answers.append((50, 4, 3))
                continue
            if "x_train" in door:
                exec(MORE_SETTING, names)  # noqa: S102
            exec(door, names)  # noqa: S102
            answers.append(names["result"].get_result().shape)
    rows = [(50, 4, 3)] * 8
    assert answers == [*rows, (1, 3, 8, 8, 3), (50, 4, 3), (2, 4, 3)]


def _write_onnx(folder):
    """Write the file of a perceptron; False where the package onnx is not installed."""
    if importlib.util.find_spec("onnx") is None:
        return False
    import onnx_models

    (folder / "model.onnx").write_bytes(onnx_models.mlp().SerializeToString())
    return True


def test_models_as_you_call_them():
    names: dict = {}
    assert len(CALLS) == 3
    for block in CALLS:
        exec(block, names)  # noqa: S102  (ours)
    ports = [(port.key, port.dim, port.kind) for port in names["converter"].inputs]
    assert ports == [("embeddings", (8, 5), "signal"), ("mask", (5,), "fixed")]
    assert names["result"].output_label == [["name, word 1", "other, word 4"]]
    assert names["contributions"].get_result().shape == (2, 5, 8, 1)
    assert "attention" in names["converter"].layer_names
