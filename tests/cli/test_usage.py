"""What the command says of command lines that cannot be read, and that what it suggests works."""

from __future__ import annotations

import re
import shlex
import sys

import pandas as pd
import pytest
import torch

from innsight_py import Converter
from innsight_py._errors import code_of
from innsight_py.cli import main
from innsight_py.cli.usage import _MEANT, REFERENCES, meant
from innsight_py.methods.registry import METHODS

EXPLAIN = "explain net.safetensors data.csv -o out.csv"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    Converter(net, input_dim=(3,), output_names=["cat", "dog"]).save("net.safetensors")
    pd.DataFrame(torch.rand(4, 3).numpy(), columns=["a", "b", "c"]).to_csv("data.csv", index=False)
    return tmp_path


@pytest.fixture
def command(monkeypatch, capsys):
    def run(line: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["innsight-py", *shlex.split(line)])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0), capsys.readouterr().err.strip()

    return run


@pytest.mark.parametrize(
    ("given", "suggested"),
    [
        ("-r average", "-r mean"),
        ("-r avg", "-r mean"),
        ("-r zero", "-r zeros"),
        ("-r 0", "-r zeros"),
        ("-r Mean", "-r mean"),
        ("-m deepshap -r all", "-m deepshap -r data"),
        ("-m deeplft", "-m deeplift"),
        ("-m DeepLift", "-m deeplift"),
        ("-m integrated_gradients", "-m intgrad"),
        ("-m saliency", "-m grad"),
        ("-l Cat", "-l cat"),
        ("--dtype float64", "--dtype double"),
        ("--baseline zeros", "--reference zeros"),
    ],
)
def test_what_was_meant(given, suggested, command):
    code, said = command(f"{EXPLAIN} {given}")
    assert code in (2, 5)
    word = suggested.split()[-2 if given.startswith("--b") else -1]
    assert f"did you mean '{word}'?" in said
    assert code_of(said) == ("output-nodes" if given == "-l Cat" else "command-line")
    assert len(said.splitlines()) == 1
    assert command(f"{EXPLAIN} {suggested}")[0] == 0


def test_swapped_arguments(command):
    code, said = command("explain data.csv net.safetensors")
    assert code == 2
    right = re.search(r"then the data: (.+?)\. See", said)[1]
    assert command(f"explain {right}")[0] == 0


def test_nothing_is_guessed_of_other_words(command):
    code, said = command(f"{EXPLAIN} -r whatever")
    assert code == 2
    assert "data or a file. See" in said
    assert "did you mean" not in command(f"{EXPLAIN} -m captum")[1]


def test_settings_by_their_names_elsewhere(command):
    assert "it is called 'n' here" in command(f"{EXPLAIN} -m intgrad -s n_steps=20")[1]
    assert command(f"{EXPLAIN} -m intgrad -s n=200")[0] == 0
    assert "it is called 'rule_name' here" in command(f"{EXPLAIN} -m lrp -s rule=epsilon")[1]


def test_files_that_are_not_there(command):
    assert command("explain nope.safetensors data.csv") == (
        3,
        "innsight-py: error: nope.safetensors: No such file or directory",
    )
    assert command("explain net.safetensors nope.csv") == (4, "innsight-py: error: nope.csv: No such file or directory")


def test_a_truncated_model(command, folder):
    (folder / "cut.keras").write_bytes(b"PK\x03\x04")
    code, said = command("inspect cut.keras")
    assert (code, code_of(said)) == (3, "files")
    assert "damaged, truncated" in said
    assert "not found" not in said


def test_a_file_of_weights(command, folder):
    torch.save({}, folder / "net.pt")
    code, said = command("inspect net.pt")
    assert (code, code_of(said)) == (3, "weights-without-a-model")


def test_the_endings_of_pictures_have_dots(command):
    said = command(f"{EXPLAIN} -p out.xyz")[1]
    listed = re.search(r"ends in (.+?)\. See", said)[1].split(", ")
    assert all(ending.startswith(".") for ending in listed)


def test_words_that_are_meant_exist():
    """What a wrong word stands for is a method, a reference, a precision or an option that there is."""
    known = {*METHODS, *REFERENCES, "float", "double"}
    options = {"--reference", "--output-idx", "--output-label", "--result", "--input-dim", "--plot", "--set"}
    assert set(_MEANT.values()) <= known | options
    assert not set(_MEANT) & known
    assert meant("average", ["zeros"]) == "."
