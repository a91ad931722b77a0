"""Data sets from the shell: a folder of parts, and a call that is made again goes on."""

from __future__ import annotations

import importlib.metadata
import sys

import numpy as np
import pytest
from dataset_models import assert_plain_answer, claims, rows, table_model, write_claims

from innsight_py import load_explanations, run_deeplift
from innsight_py.cli.errors import Exit

(ENTRY,) = importlib.metadata.entry_points(group="console_scripts", name="innsight-py")
X = rows(90)


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Call the command beside a model and its data; gives the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    table_model().save("model.safetensors")
    write_claims(tmp_path / "claims", X)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["innsight-py", "explain", *arguments])
        code = 0
        try:
            ENTRY.load()()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run


OPTIONS = ("model.safetensors", "claims/*.parquet", "--output-dir", "explained/", "-m", "deeplift", "--id-column",
           "claim_id", "--no-progress")  # fmt: skip


def test_a_glob_into_a_folder(call, tmp_path):
    code, out, err = call(*OPTIONS, "--reference", "mean", "--resume", "--workers", "1")
    assert code == 0, err
    assert "explained: ExplainedDataset(90 rows, in 1 part: DeepLift)" in err
    plain = run_deeplift(table_model(), X, x_ref="mean", target="predicted")
    assert_plain_answer(load_explanations(tmp_path / "explained"), [f"claim-{n}" for n in range(90)], plain)
    assert out.split()[:4] == ["output_node", "feature", "mean", "mean_abs"]
    before = (tmp_path / "explained" / "part-00000000.parquet").stat().st_mtime_ns
    assert call(*OPTIONS, "--reference", "mean")[:2] == (code, out)
    assert (tmp_path / "explained" / "part-00000000.parquet").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--rows", "1:3"), Exit.USAGE, "--rows goes without --output-dir"),
        (("--plot", "out.png"), Exit.USAGE, "--plot goes without --output-dir"),
        (("--engine", "dask"), Exit.USAGE, "'dask' is not one of 'local', 'ray', 'spark'"),
        (("-s", "n=3"), Exit.USAGE, "DeepLift has no argument 'n'"),
        (("--id-column", "claim"), Exit.METHOD, "there is no column 'claim'; did you mean 'claim_id'?"),
        (("--parts", "long", "--columns", "age,dose"), Exit.METHOD, "has 4 features, got 2 columns"),
        (("--reference", "data"), Exit.METHOD, "Argument 'x_ref': 'data' is a sample of rows"),
    ],
)
def test_refused(call, more, code, said):
    found, _, err = call(*OPTIONS, *more)
    assert (found, said in err) == (code, True), err
    assert len(err.strip().splitlines()) == 1


def test_files_that_are_not_there(call):
    code, _, err = call("model.safetensors", "nowhere/*.parquet", "--output-dir", "explained")
    assert code == Exit.DATA
    assert "there is no file 'nowhere/*.parquet'" in err


def test_a_folder_of_another_job(call):
    assert call(*OPTIONS)[0] == 0
    code, _, err = call(*OPTIONS, "-s", "rule_name=reveal_cancel")
    assert code == Exit.METHOD
    assert "'explained' holds another job" in err


def test_rows_that_go_wrong_are_counted(call, tmp_path):
    x = X.copy()
    x[3, 0] = np.nan
    claims(x).to_pandas().to_csv(tmp_path / "claims.csv", index=False)
    options = ("model.safetensors", "claims.csv", "--output-dir", "explained", "--id-column", "claim_id")
    code, _, err = call(*options, "--max-errors", "0", "--no-progress")
    assert code == Exit.METHOD
    assert "1 rows went wrong, which is more than max_errors=0" in err
