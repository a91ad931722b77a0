"""What ``nox -s demo`` runs."""

from __future__ import annotations

import runpy
from pathlib import Path

import pandas as pd

DEMO = Path(__file__).parents[2] / "vignettes" / "demo.py"


def test_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(DEMO), run_name="__main__")
    said = capsys.readouterr().out
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"demo_penguins.csv", "demo_penguins.png", "demo_penguins.html"}
    for name in left:
        assert str(tmp_path.resolve() / name) in said
    frame = pd.read_csv("demo_penguins.csv")
    deeplift = frame[frame["method"] == "DeepLift"]
    assert (deeplift["decomp_sum"] - deeplift["decomp_goal"]).abs().max() < 1e-4
    assert Path("demo_penguins.png").read_bytes().startswith(b"\x89PNG")
    page = Path("demo_penguins.html").read_text()
    assert "flipper length" in page
    penguins = frame["data"].nunique()
    assert penguins > 300
    assert f'"data point data_{penguins}"' in page
    assert len(page) < 6e6  # plotly itself is 4.9 MB of it
