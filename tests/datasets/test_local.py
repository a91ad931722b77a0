"""Data sets on one machine say what the plain methods say, however the work is cut."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pytest
import torch
from dataset_models import (
    FEATURES,
    assert_plain_answer,
    assert_same_lines,
    claims,
    image_model,
    lines_of,
    rows,
    table_model,
    write_claims,
)
from torch import nn

from innsight_py import (
    Converter,
    explain_batches,
    explain_dataset,
    load_explanations,
    run_deeplift,
    run_expgrad,
    run_grad,
    run_lrp,
)

X = rows()
NAMES = [f"claim-{n}" for n in range(len(X))]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    return write_claims(tmp_path_factory.mktemp("claims"), X)


def test_the_parts_are_the_plain_answer(source, tmp_path):
    converter = table_model()
    explained = explain_dataset(
        converter, source, tmp_path / "out", method="deeplift", x_ref="mean", target="predicted",
        id_column="claim_id", rows_per_part=120,
    )  # fmt: skip
    plain = run_deeplift(converter, X, x_ref="mean", target="predicted")
    assert_plain_answer(explained, NAMES, plain)
    table = explained.dataset.to_table(use_threads=False)
    assert table["target"].to_pylist() == plain.target_label[0]
    assert set(table["output"].to_pylist()) == set(converter.output_keys)
    np.testing.assert_allclose(table["goal"].to_numpy(), plain.decomp_goal[0][:, 0], rtol=1e-4, atol=1e-5)
    assert float(np.abs(table["residual"].to_numpy()).max()) < 1e-5
    assert sorted(path.name for path in (tmp_path / "out").glob("part-*")) == [
        f"part-0000000{n}.parquet" for n in range(5)
    ]
    assert len(explained) == len(X)


@pytest.mark.parametrize(
    ("workers", "batch_size", "rows_per_part"), [(1, 1, 200), (1, 7, 64), (1, 500, 500), (2, 33, 90)]
)
def test_the_lines_do_not_depend_on_how_the_work_is_cut(source, tmp_path, workers, batch_size, rows_per_part):
    """Two workers, any batch and part: the same lines; draws of ExpectedGradient depend on seed and id alone."""
    shared = {"id_column": "claim_id", "output_idx": [0, 2], "seed": 7, "n": 5, "data_ref": X[:20]}
    converter = table_model()
    whole = explain_dataset(converter, source, tmp_path / "whole", method="expgrad", **shared)
    cut = explain_dataset(
        converter, source, tmp_path / "cut", method="expgrad", workers=workers, batch_size=batch_size,
        rows_per_part=rows_per_part, **shared,
    )  # fmt: skip
    assert_same_lines(lines_of(cut), lines_of(whole))
    assert [line["target"] for line in lines_of(cut)[:4]] == ["low", "high"] * 2


def test_draws_depend_on_seed_and_id():
    """Not on the place of a row, and a row alone has the draws that it has among others."""
    table = claims(X[:6])
    shared = {"method": "expgrad", "id_column": "claim_id", "data_ref": X[:20], "n": 3}
    explainer = explain_batches(table_model(), table.schema, seed=1, **shared)
    other = explain_batches(table_model(), table.schema, seed=2, **shared)
    whole, turned = explainer(table), explainer(table.take([5, 2, 0]))
    assert_same_lines(turned.to_pylist(), whole.take([15, 16, 17, 6, 7, 8, 0, 1, 2]).to_pylist())
    assert not np.allclose(whole["age"].to_numpy(), other(table)["age"].to_numpy())


def test_draws_are_those_of_the_plain_method():
    """Of a row with the seed that is the row's own."""
    from innsight_py.datasets.batches import row_seed

    table = claims(X[:2])
    arguments = {"data_ref": X[:20], "n": 3, "output_idx": 1}
    explainer = explain_batches(
        table_model(), table.schema, method="expgrad", id_column="claim_id", seed=1, **arguments
    )
    plain = run_expgrad(table_model(), X[1:2], seed=row_seed(1, "claim-1"), **arguments)
    found = [explainer(table)[name][1].as_py() for name in FEATURES]
    np.testing.assert_allclose(found, plain.get_result()[0, :, 0], rtol=1e-6)


@pytest.mark.parametrize("layout", ["wide", "dense", "long"])
@pytest.mark.parametrize("of", ["table", "images"])
def test_layouts_hold_the_same(layout, of, tmp_path):
    """What is read back from each layout is the plain answer, and the long one has R's frame."""
    if of == "images" and layout == "wide":
        with pytest.raises(ValueError, match="'layout': 'wide' has a column for each feature of a table"):
            explain_dataset(image_model(), [{"x": np.zeros((2, 192))}], tmp_path / "no", layout="wide")
        assert not list((tmp_path / "no").glob("part-*"))
    else:
        converter = table_model() if of == "table" else image_model()
        data = X[:9] if of == "table" else np.random.default_rng(0).normal(size=(9, 3, 8, 8))
        batches = [claims(X[:9])] if of == "table" else [{"x": data[:4].reshape(4, -1)}, {"x": data[4:].reshape(5, -1)}]
        explained = explain_dataset(
            converter, iter(batches), tmp_path / "out", method="lrp", rule_name="epsilon", rule_param=0.01,
            layout=layout, output_idx=[0, 1], batch_size=4,
        )  # fmt: skip
        plain = run_lrp(converter, data, rule_name="epsilon", rule_param=0.01, output_idx=[0, 1])
        found = explained.result([7, 2])
        np.testing.assert_allclose(found.get_result(), plain.get_result()[[7, 2]], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.preds[0], plain.preds[0][[7, 2]], rtol=1e-5)
        np.testing.assert_allclose(found.residual.absolute[0], plain.residual.absolute[0][[7, 2]], atol=1e-5)
        if layout == "long":
            frame = explained.dataset.to_table().to_pandas()
            theirs = plain.get_result("data.frame")
            keys = [name for name in ("feature", "feature_2", "channel") if name in theirs]
            theirs = theirs.astype(dict.fromkeys(["data", "output_node", *keys], str))
            theirs = theirs.sort_values(["data", "output_node", *keys])
            ours = frame.assign(data=frame["id"].map(lambda n: f"data_{n + 1}")).astype(
                dict.fromkeys(["target", *keys], str)
            )
            ours = ours.sort_values(["data", "target", *keys])
            assert [ours[name].tolist() for name in keys] == [theirs[name].tolist() for name in keys]
            np.testing.assert_allclose(ours["value"], theirs["value"], rtol=1e-4, atol=1e-6)


def test_several_inputs_and_outputs(tmp_path):
    """Columns of numbers for one input, lists for the other, nodes of two output layers."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(2, 3), nn.Conv1d(2, 1, 2), nn.Linear(3, 2)

        def forward(self, profile, signal):
            hidden = self.a(profile).relu() + self.b(signal).flatten(1)
            return self.c(hidden), hidden.sum(1, keepdim=True) * 2

    torch.manual_seed(0)
    converter = Converter(Two(), input_dim=[(2,), (2, 4)])
    random = np.random.default_rng(1)
    profile, signal = random.normal(size=(5, 2)), random.normal(size=(5, 2, 4))
    table = pa.table({"u": profile[:, 0], "v": profile[:, 1], "s": [list(map(list, one)) for one in signal]})
    chosen = {"output_idx": [[0, 1], [0]]}
    explained = explain_dataset(
        converter, table, tmp_path / "out", method="grad", times_input=True,
        columns={"profile": ["u", "v"], "signal": "s"}, **chosen,
    )  # fmt: skip
    plain = run_grad(converter, [profile, signal], times_input=True, **chosen)
    assert explained.dataset.schema.names[-2:] == ["values.profile", "values.signal"]
    found, wanted = explained.result([4, 0]).get_result(), plain.get_result()
    for output in ("Output_1", "Output_2"):
        for one in ("Input_1", "Input_2"):
            np.testing.assert_allclose(found[output][one], wanted[output][one][[4, 0]], rtol=1e-5, atol=1e-6)


def csv_of(path, table):
    table.to_pandas().to_csv(path, index=False)
    return path


SOURCES = {
    "a data set of pyarrow": lambda table, folder: pads.dataset(table),
    "a table": lambda table, folder: table,
    "a frame": lambda table, folder: table.to_pandas(),
    "CSV": lambda table, folder: csv_of(folder / "claims.csv", table),
    "Arrow": lambda table, folder: pa.ipc.new_file(folder / "claims.arrow", table.schema),
    "an iterator": lambda table, folder: (table.slice(at, 30).to_pandas() for at in range(0, len(table), 30)),
    "a reader": lambda table, folder: table.to_reader(40),
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources(name, tmp_path):
    table = claims(X[:100])
    given = SOURCES[name](table, tmp_path)
    if name == "Arrow":
        with given as file:
            file.write_table(table, max_chunksize=33)
        given = str(tmp_path / "claims.arrow")
    converter = table_model()
    explained = explain_dataset(
        converter, given, tmp_path / "out", method="grad", id_column="claim_id", output_idx=1, rows_per_part=37
    )
    assert_plain_answer(explained, NAMES[:100], run_grad(converter, X[:100], output_idx=1))


class Hugging:
    """A data set as Hugging Face's are: it is cut by slices, in the format asked for."""

    def __init__(self, table):
        self.table, self._fingerprint = table, "0123"

    def __len__(self):
        return len(self.table)

    def __getitem__(self, key):
        return self.table.slice(key.start, key.stop - key.start)

    def with_format(self, kind):
        assert kind == "arrow"
        return self


def test_data_sets_like_those_of_hugging_face(tmp_path):
    converter = table_model()
    explained = explain_dataset(
        converter, Hugging(claims(X[:50])), tmp_path / "out", method="grad", id_column="claim_id", output_idx=1
    )
    assert_plain_answer(explained, NAMES[:50], run_grad(converter, X[:50], output_idx=1))


class Streamed:
    """A streamed data set as Hugging Face's are: of no known length, a column for a name, batches in a format."""

    def __init__(self, table, kind=None):
        self.table, self.kind = table, kind

    def __getitem__(self, name):
        return self.table[name]

    def __iter__(self):
        return iter(self.table.to_pylist())

    def with_format(self, kind):
        return Streamed(self.table, kind)

    def iter(self, batch_size):
        assert self.kind == "arrow"
        return (self.table.slice(at, 13) for at in range(0, len(self.table), 13))


def streamed(table):
    return pytest.importorskip("datasets.arrow_dataset").Dataset(table).to_iterable_dataset(num_shards=3)


@pytest.mark.parametrize("stream", [Streamed, streamed])
def test_data_sets_that_hugging_face_streams(stream, tmp_path):
    """They are read once, and a run that goes on reads past what is done."""
    call = {"method": "grad", "id_column": "claim_id", "output_idx": 1, "rows_per_part": 20}
    plain = run_grad(table_model(), X[:50], output_idx=1)
    explained = explain_dataset(table_model(), stream(claims(X[:50])), tmp_path / "out", **call)
    assert_plain_answer(explained, NAMES[:50], plain)
    (tmp_path / "out" / "part-00000001.parquet").unlink()
    again = explain_dataset(table_model(), stream(claims(X[:50])), tmp_path / "out", **call)
    assert_plain_answer(again, NAMES[:50], plain)


def test_splits_of_hugging_face_are_chosen_from(tmp_path):
    class Splits(dict):
        def with_format(self, kind):
            return self

    with pytest.raises(TypeError, match=r"these are 2 splits .*Choose one: source=data\['train'\]"):
        explain_dataset(table_model(), Splits(train=claims(X), test=claims(X)), tmp_path / "out")


def test_files_of_models_and_manifests(source, tmp_path):
    table_model().save(tmp_path / "model.safetensors")
    explained = explain_dataset(tmp_path / "model.safetensors", source, tmp_path / "out", method="grad", output_idx=0)
    manifest = load_explanations(tmp_path / "out").manifest
    assert manifest["method"] == "grad"
    assert manifest["arguments"] == {"output_idx": 0}
    assert manifest["torch"] == torch.__version__
    metadata = explained.dataset.schema.metadata
    assert {b"innsight_py", b"innsight_py.form"} <= set(metadata)
    assert manifest["model"].encode() in metadata[b"innsight_py"]
    again = explain_dataset(table_model(), source, tmp_path / "other", method="grad", output_idx=0)
    assert again.manifest["model"] == manifest["model"]
    assert lines_of(again)[0]["id"] == 0


# -- references that are taken of all rows -----------------------------------------------------------------------------


def references_of(monkeypatch, tmp_path, source, method="deeplift", **arguments):
    """Return what a method is given as a reference."""
    from innsight_py.datasets import batches

    plain, given = batches.RUNNERS[method], []

    def asked(converter, data, **own):
        given.append(own.get("x_ref", own.get("data_ref")))
        return plain(converter, data, **own)

    monkeypatch.setitem(batches.RUNNERS, method, asked)
    explain_dataset(table_model(), source, tmp_path / "out", method=method, id_column="claim_id", **arguments)
    monkeypatch.undo()
    assert all(one is given[0] for one in given)  # of all rows, and not of each batch
    return np.asarray(given[0])


@pytest.mark.parametrize("name", ["mean", "median"])
def test_references_of_all_rows(source, tmp_path, monkeypatch, name):
    """Of rows that fit into memory exactly what the plain method takes; rows that go wrong do not count."""
    x = X.astype(np.float32).astype(np.float64)
    found = references_of(monkeypatch, tmp_path, source, x_ref=name, rows_per_part=90)
    np.testing.assert_allclose(found, getattr(np, name)(x, axis=0, keepdims=True), rtol=1e-12)
    explained = load_explanations(tmp_path / "out")
    assert_plain_answer(
        explain_dataset(table_model(), source, tmp_path / "one", id_column="claim_id", x_ref=name, output_idx=1),
        NAMES, run_deeplift(table_model(), X, x_ref=name, output_idx=1),
    )  # fmt: skip
    assert len(explained) == len(X)


def test_the_median_of_more_rows_is_within_one_percent(monkeypatch):
    from innsight_py.datasets import references
    from innsight_py.datasets.sketch import ACCURACY

    monkeypatch.setattr(references, "EXACT_BYTES", 3000)
    gathered = references._Median(None, None)
    for start in range(0, len(X), 60):
        gathered.add([X[start : start + 60]])
    assert gathered._sketches is not None
    assert not gathered._kept
    wanted = np.quantile(X, 0.5, axis=0, method="lower")
    assert (np.abs(gathered.found()[0][0] - wanted) <= ACCURACY * np.abs(wanted)).all()
    with pytest.raises(ValueError, match="takes too much memory"):
        references._Median(None, None).add([np.zeros((1, 3, 40, 40))])


def test_a_sample_of_the_rows(source, tmp_path, monkeypatch):
    """It depends on the seed and not on how rows are read; a small data set is its own sample."""
    from innsight_py.datasets import references

    whole = references_of(monkeypatch, tmp_path, source, "expgrad", data_ref="data", n=2, seed=4, output_idx=0)
    np.testing.assert_array_equal(whole, X.astype(np.float32))
    samples = []
    for size in (7, 100, 500):
        monkeypatch.setattr(references, "SAMPLE_ROWS", 20)
        sample = references._Sample(None, 4)
        for start in range(0, len(X), size):
            sample.add([X[start : start + size]])
        samples.append(sample.found()[0])
    assert samples[0].shape == (20, len(FEATURES))
    assert all((one == samples[0]).all() for one in samples)
    assert all((row == X).all(1).any() for row in samples[0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"x_ref": "mode"}, "has no 'mode': each batch would have its own"),
        ({"x_ref": "data"}, r"'deeplift' takes one reference.*data_ref='data' one of the methods deepshap, expgrad"),
        ({"x_ref": ["mean"]}, "expected one name for all inputs"),
    ],
)
def test_names_that_a_data_set_has_no_reference_for(tmp_path, arguments, said):
    table = claims(X[:5])
    with pytest.raises(ValueError, match=said):
        explain_dataset(table_model(), table, tmp_path / "out", id_column="claim_id", **arguments)
    with pytest.raises(ValueError, match=said):
        explain_batches(table_model(), table.schema, id_column="claim_id", **arguments)


def test_an_iterator_has_no_mean(tmp_path):
    with pytest.raises(ValueError, match="an iterator is read once, and 'mean' needs a pass over all rows"):
        explain_dataset(table_model(), iter([claims(X[:5])]), tmp_path / "out", id_column="claim_id", x_ref="mean")


def test_progress_says_rows_a_second_and_the_time_left(source, tmp_path, capsys):
    call = {"method": "grad", "id_column": "claim_id", "output_idx": 1, "rows_per_part": 100}
    explain_dataset(table_model(), source, tmp_path / "out", verbose=True, **call)
    said = capsys.readouterr().err.split("\r")[-1]
    assert re.search(r"100%.* 500/500 \[\d\d:\d\d<\d\d:\d\d, .* rows/s\]", said), said
    explain_dataset(table_model(), source, tmp_path / "quiet", verbose=False, **call)
    assert capsys.readouterr().err == ""
