"""The command, through the entry point that is installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from goldens import FOLDER
from palmerpenguins import load_penguins
from PIL import Image

from innsight_py import Converter, run_deeplift, run_grad, run_lrp, run_shap
from innsight_py.cli import methods, show
from innsight_py.cli.errors import MEANING, Exit

(ENTRY,) = importlib.metadata.entry_points(group="console_scripts", name="innsight-py")
FEATURES = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
SPECIES = ["Adelie", "Chinstrap", "Gentoo"]


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Call the command; gives the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["innsight-py", *map(str, arguments)])
        code = 0
        try:
            ENTRY.load()()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def table(tmp_path):
    """Real penguins in a file, with all columns."""
    frame = load_penguins().dropna().iloc[::12].reset_index(drop=True)
    frame.to_csv(tmp_path / "penguins.csv", index=False)
    return frame


@pytest.fixture
def net(tmp_path):
    """Save a network, with names and as a program."""
    torch.manual_seed(1)
    module = torch.nn.Sequential(
        torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3), torch.nn.Softmax(-1)
    ).eval()
    converter = Converter(module, input_dim=(4,), input_names=FEATURES, output_names=SPECIES)
    converter.save(tmp_path / "net.safetensors")
    program = torch.export.export(module, (torch.zeros(1, 4),))
    torch.export.save(program, tmp_path / "net.pt2")
    return converter


def frame_of(text):
    import io

    return pd.read_csv(io.StringIO(text))


# -- explain ----------------------------------------------------------------------------------------------------------


def test_the_sentence_of_the_readme(run, table, net):
    """A picture and a table, with a label and a reference."""
    code, out, err = run(
        "explain", "net.safetensors", "penguins.csv", "--method", "deeplift", "--output-label", "Adelie",
        "--reference", "mean", "--plot", "out.html", "--result", "out.csv",
    )  # fmt: skip
    assert (code, out) == (0, "")
    assert "out.html" in err
    assert "out.csv" in err
    x = table[FEATURES]
    expected = run_deeplift(net, x, x_ref=x.mean().to_frame().T, output_label="Adelie").get_result("data.frame")
    found = pd.read_csv("out.csv")
    assert list(found["feature"]) == list(expected["feature"])
    assert set(found["output_node"]) == {"Adelie"}
    np.testing.assert_allclose(found["value"], expected["value"], rtol=1e-5)
    page = Path("out.html").read_text()
    assert "plotly" in page
    assert "bill_length_mm" in page


def test_stdout_is_the_result_and_nothing_else(run, table, net):
    code, out, err = run(
        "explain", "--target", "first", "net.safetensors", "penguins.csv", "-m", "grad", "-o", "-", "--progress"
    )
    assert code == 0
    np.testing.assert_allclose(
        frame_of(out)["value"], run_grad(net, table[FEATURES]).get_result("data.frame")["value"], rtol=1e-5
    )
    assert "Backward pass" in err


def test_summary_without_a_file(run, table, net):
    code, out, _ = run(
        "explain", "--target", "first", "net.safetensors", "penguins.csv", "-m", "lrp", "-s", "rule_name=epsilon"
    )
    assert code == 0
    expected = run_lrp(net, table[FEATURES], rule_name="epsilon").summary().to_string(index=False)
    assert out.strip() == expected.strip()


def test_a_classifier_is_explained_for_the_predicted_class(run, table, net):
    code, out, _ = run("explain", "net.safetensors", "penguins.csv", "-m", "grad", "-o", "-")
    predicted = net.model(torch.tensor(table[FEATURES].to_numpy(), dtype=torch.float32))[0].argmax(1)
    found = frame_of(out)
    assert code == 0
    assert list(found["output_node"][: len(table)]) == [SPECIES[node] for node in predicted]
    assert set(found.groupby("data").size()) == {len(FEATURES)}


def test_who_names_an_output_hears_of_rows_with_another_one(run, table, net):
    _, out, err = run("explain", "net.safetensors", "penguins.csv", "-m", "grad", "-l", SPECIES[0], "-o", "-")
    assert set(frame_of(out)["output_node"]) == {SPECIES[0]}
    assert "--target predicted" in err


def test_rows_keep_their_numbers(run, table, net):
    _, out, _ = run("explain", "net.safetensors", "penguins.csv", "-m", "grad", "-o", "-", "--rows", "2,5")
    assert set(frame_of(out)["data"]) == {"data_3", "data_6"}


@pytest.mark.parametrize(
    "rule_name", ["epsilon_plus", "gamma", '[["first", "flat"], ["dense", "epsilon"]]', '{"Dense_Layer": "z_plus"}']
)
def test_rules_of_lrp(run, table, net, rule_name):
    """Names of rules and composites, and lists and dicts of names as JSON."""
    code, out, err = run(
        "explain", "--target", "first", "net.safetensors", "penguins.csv", "-m", "lrp", "-s", f"rule_name={rule_name}"
    )
    assert code == 0, err
    meant = json.loads(rule_name) if rule_name[0] in "[{" else rule_name
    expected = run_lrp(net, table[FEATURES], rule_name=meant).summary().to_string(index=False)
    assert out.strip() == expected.strip()


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet", "npy", "npz"])
def test_every_form_of_data_says_the_same(run, table, net, form, tmp_path):
    x, path = table[FEATURES], tmp_path / f"data.{form}"
    {
        "csv": lambda: table.to_csv(path, index=False),
        "tsv": lambda: table.to_csv(path, index=False, sep="\t"),
        "parquet": lambda: table.to_parquet(path),
        "npy": lambda: np.save(path, x.to_numpy()),
        "npz": lambda: np.savez(path, x=x.to_numpy()),
    }[form]()
    code, _, _ = run(
        "explain", "--target", "first", "net.safetensors", path, "-m", "grad", "-o", "out.npz", "--dtype", "double"
    )
    assert code == 0
    np.testing.assert_allclose(np.load("out.npz")["result"], run_grad(net, x, dtype="double").get_result())


@pytest.mark.parametrize("form", ["csv", "parquet", "json"])
def test_every_form_of_results(run, table, net, form):
    run("explain", "--target", "first", "net.safetensors", "penguins.csv", "-m", "grad", "-o", f"out.{form}")
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "json": pd.read_json}[form]
    expected = run_grad(net, table[FEATURES]).get_result("data.frame")
    np.testing.assert_allclose(read(f"out.{form}")["value"], expected["value"], rtol=1e-5)


@pytest.mark.parametrize("reference", ["zeros", "mean", "median", "ref.csv"])
def test_references(run, table, net, reference):
    x = table[FEATURES]
    x.iloc[[3]].to_csv("ref.csv", index=False)
    run(
        "explain",
        "--target",
        "first",
        "net.safetensors",
        "penguins.csv",
        "-r",
        reference,
        "-o",
        "out.npz",
        "--rows",
        "0,2:4",
    )
    x_ref = {"zeros": None, "mean": x.mean(), "median": x.median(), "ref.csv": x.iloc[3]}[reference]
    x_ref = None if x_ref is None else x_ref.to_frame().T
    expected = run_deeplift(net, x.iloc[[0, 2, 3]], x_ref=x_ref).get_result()
    np.testing.assert_allclose(np.load("out.npz")["result"], expected, rtol=1e-5, atol=1e-6)


def test_references_of_many_rows(run, table, net):
    options = ["-m", "shap", "-r", "data", "-s", "seed=1", "-o", "out.npz", "--rows", "0"]
    run("explain", "--target", "first", "net.safetensors", "penguins.csv", *options)
    x = table[FEATURES]
    np.testing.assert_allclose(np.load("out.npz")["result"], run_shap(net, x.iloc[[0]], x, seed=1).get_result())


def test_columns_name_the_features_of_a_model_without_names(run, table, net):
    code, out, _ = run(
        "explain", "net.pt2", "penguins.csv", "--columns", ",".join(FEATURES), "-m", "grad", "-o", "-",
        "--target", "first", "--output-names", ",".join(SPECIES),
    )  # fmt: skip
    assert code == 0
    assert list(dict.fromkeys(frame_of(out)["feature"])) == FEATURES
    assert list(dict.fromkeys(frame_of(out)["output_node"])) == SPECIES


def test_network_of_r(run):
    shutil.copy(FOLDER / "neuralnet" / "iris_tanh.rds", "nn.rds")
    code, out, _ = run("inspect", "nn.rds", "--json")
    assert code == 0
    size = json.loads(out)["input_dim"][0][0]
    np.save("x.npy", np.ones((2, size)))
    code, out, _ = run("explain", "nn.rds", "x.npy", "-m", "cw", "-o", "-")
    assert code == 0
    assert len(frame_of(out)) % size == 0


def test_image(run, tmp_path):
    """A picture in another size and with colours becomes what the model takes."""
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((8, 6, 1)), keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.save("net.keras")
    from sklearn.datasets import load_sample_image

    picture = Image.fromarray(load_sample_image("flower.jpg"))
    picture.save("flower.png")
    code, _, _ = run(
        "explain", "net.keras", "flower.png", "-m", "grad", "-s", "times_input=true",
        "--pixels", "-1,1", "-o", "out.npz",
        "-p", "out.png",
    )  # fmt: skip
    assert code == 0
    grey = np.asarray(picture.convert("L").resize((6, 8), Image.Resampling.BILINEAR), np.float32)[None, :, :, None]
    expected = run_grad(Converter(model), grey / 127.5 - 1, times_input=True, channels_first=False).get_result()
    np.testing.assert_allclose(np.load("out.npz")["result"], expected, rtol=1e-4, atol=1e-5)
    with Image.open("out.png") as drawn:
        assert drawn.size[0] > 100


def test_several_inputs(run):
    spec = {
        "input_dim": [[2], [1, 3]],
        "layers": [
            {"type": "Flatten", "name": "flat", "inputs": ["input_2"]},
            {"type": "Concatenate", "name": "all", "inputs": ["input_1", "flat"], "axis": 1},
            {"type": "Dense", "weight": np.arange(10.0).reshape(2, 5), "name": "out"},
        ],
    }
    Converter(spec).save("two.safetensors")
    a, b = np.ones((2, 2)), np.ones((2, 1, 3))
    np.save("a.npy", a)
    np.save("b.npy", b)
    np.savez("both.npz", a=a, b=b)
    answers = []
    for files in (["a.npy", "b.npy"], ["both.npz"]):
        code, out, err = run("explain", "two.safetensors", *files, "-m", "grad", "-o", "-")
        assert code == 0, err
        answers.append(out)
    assert answers[0] == answers[1]
    code, _, err = run("explain", "two.safetensors", "a.npy", "-m", "grad")
    assert code == Exit.DATA
    assert "2 inputs" in err


def test_layouts(run):
    """The shape of the data says where the channels are; where it does not, they are where the model has its own."""
    weight = np.arange(24.0).reshape(1, 24)
    spec = {"input_dim": [2, 3, 4], "layers": [{"type": "Flatten"}, {"type": "Dense", "weight": weight}]}
    Converter(spec).save("net.safetensors")
    x = np.random.default_rng(1).normal(size=(1, 2, 3, 4))
    np.save("first.npy", x)
    np.save("last.npy", np.moveaxis(x, 1, -1))
    arguments = ("-m", "grad", "-s", "times_input=true", "-o", "out.npz")
    answers = {}
    for name in ("first", "last"):
        assert run("explain", "net.safetensors", f"{name}.npy", *arguments)[0] == 0
        answers[name] = np.load("out.npz")["result"]
    np.testing.assert_array_equal(np.moveaxis(answers["last"], -2, 1), answers["first"])
    cube = {
        "input_dim": [3, 3, 3],
        "layers": [{"type": "Flatten"}, {"type": "Dense", "weight": weight[:, :9].repeat(3, 1)}],
    }
    Converter(cube).save("cube.safetensors")
    np.save("cube.npy", np.random.default_rng(1).normal(size=(1, 3, 3, 3)))
    found = {}
    for layout in ("auto", "first", "last"):
        assert run("explain", "cube.safetensors", "cube.npy", *arguments, "--layout", layout)[0] == 0
        found[layout] = np.load("out.npz")["result"]
    np.testing.assert_array_equal(found["auto"], found["first"])
    assert not np.allclose(found["first"], found["last"])


# -- inspect, methods, help -------------------------------------------------------------------------------------------


def test_inspect(run, net):
    code, text, _ = run("inspect", "net.safetensors")
    assert code == 0
    assert "Dense_Layer + softmax" in text
    assert "bill_length_mm" in text
    code, described, _ = run("inspect", "net.pt2", "--json")
    layers = json.loads(described)["layers"]
    assert layers[-1]["output_dim"] == [3]
    assert "alpha_beta" in layers[-1]["lrp"]
    assert layers[-1]["activation"] == "softmax"


def test_inspect_says_what_is_not_supported(run):
    class Sorted(torch.nn.Module):
        def forward(self, x):
            return torch.sort(x, dim=1).values

    torch.export.save(torch.export.export(Sorted(), (torch.zeros(1, 3),)), "sorted.pt2")
    _, described, _ = run("inspect", "sorted.pt2", "--json")
    assert any(not layer["deeplift"] and not layer["lrp"] for layer in json.loads(described)["layers"])
    np.save("x.npy", np.eye(3))
    code, _, err = run("explain", "sorted.pt2", "x.npy", "-m", "lrp")
    assert code == Exit.METHOD
    assert "sort" in err


def test_methods(run):
    import innsight_py

    code, text, _ = run("methods")
    assert code == 0
    for name in innsight_py.__all__:
        if name.startswith("run_"):
            assert name.removeprefix("run_") in text
            code, about, _ = run("methods", name.removeprefix("run_"))
            assert code == 0
            assert "--set takes" in about
    code, _, err = run("methods", "deeplif")
    assert code == Exit.USAGE
    assert "did you mean 'deeplift'" in err


def test_help_teaches(run):
    for command in ("explain", "inspect", "methods"):
        code, text, _ = run(command, "--help")
        assert code == 0
        assert "Exit codes" in text
    _, text, _ = run("explain", "--help")
    assert "For example" in text
    assert run("--version")[1].strip() == importlib.metadata.version("innsight_py")


# -- errors -----------------------------------------------------------------------------------------------------------

WRONG = {
    "no such model": (Exit.MODEL, ["nothing.keras", "penguins.csv"], "nothing.keras"),
    "no door": (Exit.MODEL, ["penguins.csv", "penguins.csv"], ".keras"),
    "no such data": (Exit.DATA, ["net.safetensors", "nothing.csv"], "nothing.csv"),
    "unknown data": (Exit.DATA, ["net.safetensors", "net.safetensors"], ".parquet"),
    "wrong column": (Exit.DATA, ["net.safetensors", "penguins.csv", "--columns", "bill_lenght_mm"], "did you mean"),
    "text column": (Exit.DATA, ["net.safetensors", "penguins.csv", "--columns", "island,year,year,year"], "'island'"),
    "too few columns": (Exit.DATA, ["net.safetensors", "penguins.csv", "--columns", "year"], "4 features"),
    "no such row": (Exit.DATA, ["net.safetensors", "penguins.csv", "--rows", "999"], "rows 0 to"),
    "rows": (Exit.DATA, ["net.safetensors", "penguins.csv", "--rows", "first"], "--rows"),
    "label": (Exit.METHOD, ["net.safetensors", "penguins.csv", "-l", "Adelia"], "did you mean 'Adelie'"),
    "reference": (Exit.METHOD, ["net.safetensors", "penguins.csv", "-m", "lrp", "-r", "mean"], "has none"),
    "value": (Exit.METHOD, ["net.safetensors", "penguins.csv", "-s", "rule_name=rescal"], "rule_name"),
    "argument": (Exit.USAGE, ["net.safetensors", "penguins.csv", "-s", "rule_nam=x"], "did you mean 'rule_name'"),
    "no value": (Exit.USAGE, ["net.safetensors", "penguins.csv", "-s", "rule_name"], "name=value"),
    "result": (Exit.USAGE, ["net.safetensors", "penguins.csv", "-o", "out.xls"], ".parquet"),
    "picture": (Exit.USAGE, ["net.safetensors", "penguins.csv", "-p", "out.txt"], ".html"),
    "pixels": (Exit.USAGE, ["net.safetensors", "penguins.csv", "--pixels", "white"], "--pixels"),
    "shape": (Exit.USAGE, ["net.safetensors", "penguins.csv", "--input-dim", "x"], "--input-dim"),
    "folder": (Exit.OUTPUT, ["net.safetensors", "penguins.csv", "-r", "mean", "-o", "nowhere/out.csv"], "nowhere"),
    "method": (Exit.USAGE, ["net.safetensors", "penguins.csv", "-m", "deepleft"], "deepleft"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_are_one_line_with_a_code(run, table, net, case):
    code, arguments, message = WRONG[case]
    found, out, err = run("explain", *arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
    assert err.startswith("innsight-py: error: ")
    assert err.count("\n") == 1


def test_traceback(run, table, net, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["innsight-py", "explain", "nothing.keras", "penguins.csv", "--traceback"])
    with pytest.raises(FileNotFoundError):
        ENTRY.load()()


def test_missing_values(run, table, net):
    load_penguins().to_csv("gaps.csv", index=False)
    code, _, err = run("explain", "net.safetensors", "gaps.csv")
    assert code == Exit.DATA
    assert "missing" in err


def test_every_code_is_explained():
    assert set(MEANING) == set(Exit)


def test_as_a_process(table, net, tmp_path):
    """In a shell: the script itself, a pipe, and its exit code."""
    script = Path(sys.executable).with_name("innsight-py")
    good = subprocess.run(  # noqa: S603
        [script, "explain", "net.safetensors", "penguins.csv", "-m", "grad", "-o", "-"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert good.returncode == 0, good.stderr
    assert good.stderr == ""
    assert len(frame_of(good.stdout)) == len(table) * 4


def test_global_and_local_weights(run, table, net):
    run("explain", "--target", "first", "net.safetensors", "penguins.csv", "-m", "cw", "-o", "all.npz", "-p", "all.png")
    run(
        "explain",
        "--target",
        "first",
        "net.safetensors",
        "penguins.csv",
        "-m",
        "cw",
        "-s",
        "times_input=true",
        "-o",
        "each.npz",
    )
    weights, local = np.load("all.npz")["result"], np.load("each.npz")["result"]
    assert weights.shape == (1, 4, 3)
    np.testing.assert_allclose(local, weights * table[FEATURES].to_numpy()[:, :, None], rtol=1e-5)


def test_warnings_are_one_line(table, net, tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Softmax(-1))
    Converter(module, input_dim=(4,)).save(tmp_path / "m.safetensors")
    script = Path(sys.executable).with_name("innsight-py")
    found = subprocess.run(  # noqa: S603
        [script, "explain", "m.safetensors", "penguins.csv", "--columns", ",".join(FEATURES), "-m", "lime",
         "-s", "n_permutations=50", "--rows", "0", "-o", "-", "--no-progress"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert all(line.startswith("innsight-py: ") for line in found.stderr.splitlines())


@pytest.mark.parametrize("name", methods.METHODS)
def test_methods_are_told_in_plain_text(name):
    text = show.method_text(name)
    assert not any(mark in text for mark in ("\\", "``", ":math:", ".. ", "%(", "{ij}"))
    assert f"{name}: {methods.METHODS[name].__name__}" in text
    assert all(f"\n  {key}=" in text for key in methods.settings(name))


def test_data_from_stdin(run, table, net, monkeypatch):
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO(Path("penguins.csv").read_text()))
    code, out, _ = run("explain", "net.safetensors", "-", "-m", "grad", "-o", "-")
    assert code == 0
    assert out == run("explain", "net.safetensors", "penguins.csv", "-m", "grad", "-o", "-")[1]


def test_a_reader_that_stops(table, net, tmp_path):
    """Nothing is said, and the exit code is that of other commands that nobody reads any more."""
    command = [sys.executable, "-c", "from innsight_py.cli import main; main()"]
    arguments = ["explain", "net.safetensors", "penguins.csv", "-m", "grad", "-o", "-"]
    with subprocess.Popen(  # noqa: S603
        [*command, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == -signal.SIGPIPE
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_without_parquet(run, table, net, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "parquet" in name or name == "pyarrow" else find(name)
    )
    code, out, err = run("explain", "net.safetensors", "penguins.csv", "-o", "out.parquet")
    assert (code, out) == (7, "")
    assert 'pip install "innsight_py[parquet]"' in err


def test_no_command_shows_the_help(run):
    code, out, err = run()
    assert code == 2
    assert "innsight-py inspect model.keras" in out + err
    assert "error" not in err.splitlines()[0]
