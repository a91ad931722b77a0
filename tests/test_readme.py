"""The doors as the README shows them."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path

import innsight_py

README = Path(__file__).parents[1] / "README.md"
SETTING = """
import numpy as np, pandas as pd, torch
from skorch import NeuralNetClassifier as Net
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
rng = np.random.default_rng(1)
x = rng.standard_normal((50, 4)).astype(np.float32)
y = x[:, :3].argmax(1)
frame, species = pd.DataFrame(x, columns=list("abcd")), np.array(["u", "v", "w"])[y]
data = x
module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3), torch.nn.Softmax(-1))
def NeuralNetClassifier(*args, **kwargs):
    return Net(*args, verbose=0, **kwargs)
"""


def test_each_door_in_three_lines(tmp_path, monkeypatch):
    golden = Path(__file__).parent / "golden"
    shutil.copy(golden / "neuralnet" / "penguins.rds", tmp_path / "model.rds")
    shutil.copy(golden / "r_files" / "conv2d_batchnorm.json", tmp_path / "model.json")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"Each in three lines:\n+```python\n(.*?)```", README.read_text(), re.DOTALL)
    doors = code.strip().split("\n\n")
    assert all(len(door.splitlines()) <= 3 for door in doors)
    names = {name: getattr(innsight_py, name) for name in innsight_py.__all__}
    exec(SETTING, names)  # noqa: S102
    answers = []
    for door in doors:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a perceptron that is not fitted to the end
            exec(door, names)  # noqa: S102
        answers.append(names["result"].get_result().shape)
        if "read_r_model" in door:  # the next one uses the data again
            exec("converter = Converter('model.rds')", names)  # noqa: S102
    assert answers == [(50, 4, 3), (50, 4, 3), (50, 4, 3), (1, 3, 8, 8, 3), (50, 4, 3)]
