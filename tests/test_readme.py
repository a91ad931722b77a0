"""What the README shows runs as it stands there."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

import innsight_py

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
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


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    golden = ROOT / "tests" / "golden"
    shutil.copy(golden / "neuralnet" / "penguins.rds", tmp_path / "model.rds")
    shutil.copy(golden / "r_files" / "conv2d_batchnorm.json", tmp_path / "model.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_three_steps(folder, capsys):
    names: dict[str, object] = {}
    exec(blocks("python")[0], names)  # noqa: S102
    assert names["values"].shape == (10, 4, 3)
    assert "DeepLift" in capsys.readouterr().out
    assert (folder / "instances.png").stat().st_size > 10_000
    assert "plotly" in (folder / "instance.html").read_text()


def test_each_door_in_three_lines(folder):
    doors = blocks("python")[1].strip().split("\n\n")
    assert all(len(door.splitlines()) <= 3 for door in doors)
    names = {name: getattr(innsight_py, name) for name in innsight_py.__all__}
    answers = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a perceptron that is not fitted to the end
        exec(SETTING, names)  # noqa: S102
        for door in doors:
            if "x_train" in door:
                exec(MORE_SETTING, names)  # noqa: S102
            exec(door, names)  # noqa: S102
            answers.append(names["result"].get_result().shape)
    rows = [(50, 4, 3)] * 7
    assert answers == [*rows, (1, 3, 8, 8, 3), (50, 4, 3), (2, 4, 3)]


def test_nothing_else_is_python():
    assert len(blocks("python")) == 2


def test_shell(folder, monkeypatch, capsys):
    """The lines of the shell, on a Keras model of penguins."""
    import keras
    from palmerpenguins import load_penguins

    from innsight_py.cli import main

    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")]).save("model.keras")
    columns = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
    load_penguins().dropna()[columns].iloc[:20].to_csv("penguins.csv", index=False)
    (block,) = [block for block in blocks("sh") if "innsight-py" in block]
    commands = [shlex.split(line, comments=True) for line in block.replace("\\\n", "").splitlines()]
    for command in commands:
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code, capsys.readouterr().err
    assert (folder / "out.html").exists()
    assert "Adelie" in (folder / "out.csv").read_text()


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if not target.startswith("http"):
            assert (ROOT / target.partition("#")[0]).exists(), target


def test_the_picture_is_small():
    assert (ROOT / "docs" / "picture.png").stat().st_size < 150_000


def test_all_pages_are_linked():
    for folder in ("vignettes", "docs"):
        pages = {f"{folder}/{path.name}" for path in (ROOT / folder).glob("*.md")}
        linked = {target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", TEXT)}
        assert pages - {"docs/index.md", "docs/changelog.md"} <= linked


def test_all_methods_are_listed():
    rows = dict(re.findall(r"^\| `(run_\w+)` \| `(\w+)`", TEXT, re.MULTILINE))
    runners = [name for name in innsight_py.__all__ if name.startswith("run_")]
    assert rows == {name: getattr(innsight_py, name).__wrapped__.__name__ for name in runners}
    assert all(f"`{name}`" in TEXT for name in innsight_py.__all__ if name.startswith("torch_"))


def test_the_number_of_answers():
    import test_golden_more
    import test_golden_small
    import test_golden_zoo
    import test_keras_goldens
    from goldens import read

    keras = sum(len(read(f"keras/{name}.json.gz")["results"]) for name in test_keras_goldens.MODELS)
    more = len(test_golden_more.NETS) * len(test_golden_more.CALLS)
    answers = len(test_golden_zoo.ENTRIES) + len(test_golden_small.CALLS) + more + keras
    assert f"{answers:,} answers" in TEXT


def test_all_extras_are_named():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (said,) = re.findall(r"To use it: (.*?)messages say", TEXT, re.DOTALL)
    assert all(f"`{extra}`" in said or f"[{extra}]" in said for extra in set(extras) - {"docs", "test", "browser"})


def test_speed(monkeypatch):
    """The table of speed is what `benchmarks/targets.py --readme` makes of the results."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    targets = importlib.import_module("targets")
    assert targets.readme_table() in TEXT
