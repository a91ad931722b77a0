"""Nodes of outputs with several axes, in the shell."""

from __future__ import annotations

import importlib.metadata
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from innsight_py import Converter, run_grad
from innsight_py.cli.errors import Exit

(ENTRY,) = importlib.metadata.entry_points(group="console_scripts", name="innsight-py")


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Explain three series with a net that gives two classes at each of four times."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(2)
    net = torch.nn.Sequential(torch.nn.Conv1d(3, 4, 2), torch.nn.Tanh(), torch.nn.Conv1d(4, 2, 1)).eval()
    converter = Converter(net, input_dim=(3, 5))
    converter.save("net.safetensors")
    x = np.random.default_rng(1).standard_normal((3, 3, 5)).astype(np.float32)
    np.save("x.npy", x)

    def explain(*options):
        arguments = ["innsight-py", "explain", "net.safetensors", "x.npy", "-m", "grad", "-o", "out.csv", *options]
        monkeypatch.setattr(sys, "argv", arguments)
        code = 0
        try:
            ENTRY.load()()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, capsys.readouterr().err

    return explain, converter, x


def test_nodes_of_several_axes(call):
    explain, converter, x = call
    code, err = explain("--output-idx", "1,3", "-i", "0, 0")
    assert code == 0, err
    expected = run_grad(converter, x, output_idx=[(1, 3), (0, 0)]).get_result("data.frame")
    found = pd.read_csv("out.csv")
    assert found["output_node"].unique().tolist() == expected["output_node"].unique().tolist()
    np.testing.assert_allclose(found["value"], expected["value"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("text", "code", "message"), [
    ("1,x", Exit.USAGE, "--output-idx 1,x: expected the number of a node"),
    ("-1", Exit.USAGE, "--output-idx -1"),
    ("1,2,3", Exit.METHOD, "output_idx"),
])  # fmt: skip
def test_nodes_that_are_none(call, text, code, message):
    explain, *_ = call
    found, err = explain(f"--output-idx={text}")
    assert found == code
    assert message in err
