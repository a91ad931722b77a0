"""The summary of a data set is that of all rows together, and pictures are drawn from it."""

from __future__ import annotations

import numpy as np
import pytest
from dataset_models import claims, image_model, rows, table_model
from PIL import Image

from innsight_py import explain_dataset, load_explanations, run_deeplift, run_grad
from innsight_py.datasets.sketch import ACCURACY, Sketch

X = rows(400)


def test_the_summary_is_that_of_the_plain_result(tmp_path):
    """Of many parts, by the class that was predicted."""
    explained = explain_dataset(
        table_model(), claims(X), tmp_path / "out", id_column="claim_id", target="predicted", rows_per_part=30
    )
    found = explained.summary().to_frame(3)
    wanted = run_deeplift(table_model(), X, target="predicted").summary(3)
    assert found[["output_node", "feature"]].values.tolist() == wanted[["output_node", "feature"]].values.tolist()
    for name in ("mean_abs", "share"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5)
    np.testing.assert_allclose(found["residual"], wanted["residual"], atol=1e-6)
    assert len(explained.summary().to_frame()) > len(found)


def test_quantiles_are_those_of_the_rows(tmp_path):
    explained = explain_dataset(table_model(), claims(X), tmp_path / "out", id_column="claim_id", output_idx=1)
    values = run_deeplift(table_model(), X, output_idx=1).get_result()[..., 0]
    frame = explained.summary().to_frame().set_index("feature")
    for n, name in enumerate(("age", "income", "dose", "site")):
        for column, level in (("q25", 0.25), ("median", 0.5), ("q75", 0.75)):
            wanted = np.quantile(values[:, n], level, method="lower")
            assert abs(frame.loc[name, column] - wanted) <= 1.001 * ACCURACY * abs(wanted)
        assert frame.loc[name, "mean"] == pytest.approx(values[:, n].mean(), rel=1e-4, abs=1e-7)


def test_what_was_not_written_down_is_read_from_the_parts(tmp_path):
    explained = explain_dataset(table_model(), claims(X), tmp_path / "out", output_idx=[0, 2], rows_per_part=50)
    before = explained.summary().to_frame()
    (tmp_path / "out" / "_summary.npz").unlink()
    after = load_explanations(tmp_path / "out").summary().to_frame()
    assert before.drop(columns=["mean", "mean_abs", "share"]).equals(after.drop(columns=["mean", "mean_abs", "share"]))
    np.testing.assert_allclose(before["mean_abs"], after["mean_abs"], rtol=1e-9)


def test_of_many_rows_some_are_taken_for_quantiles(tmp_path, monkeypatch):
    """Which ones depends on their numbers alone; sums and means are of all rows."""
    from innsight_py.datasets import statistics

    monkeypatch.setattr(statistics, "ALL_OF", 130)
    x = rows(6000)
    call = {"id_column": "claim_id", "output_idx": [0, 2]}
    explained = explain_dataset(table_model(), claims(x), tmp_path / "out", rows_per_part=1000, **call)
    other = explain_dataset(table_model(), claims(x), tmp_path / "other", rows_per_part=701, batch_size=90, **call)
    sketches = [one.summary()._statistics.sketches for one in (explained, other)]
    for key, sketch in sketches[0].items():
        assert 5500 <= sketch.total[0] <= 6500  # of 130 rows, and 8 times of an eighth of the others
        assert (sketch.total - 130).tolist() == [sketch.total[0] - 130] * 4
        assert sketch.counts.max() >= 8
        moved = np.abs(sketch.counts - sketches[1][key].counts).sum()
        assert moved <= 0.05 * sketch.total.sum()  # the last digits of a value may say another bin
    frames = [one.summary().to_frame().set_index(["output_node", "feature"]) for one in (explained, other)]
    np.testing.assert_allclose(frames[0]["mean_abs"], frames[1]["mean_abs"], rtol=1e-5)
    plain = run_deeplift(table_model(), x, output_idx=[0, 2])
    for k, node in enumerate(("low", "high")):
        for n, name in enumerate(("age", "income", "dose", "site")):
            values = np.sort(plain.get_result()[:, n, k])
            found = frames[0].loc[(node, name)]
            assert found["mean_abs"] == pytest.approx(np.abs(values).mean(), rel=1e-5)
            for column, level in (("q25", 0.25), ("median", 0.5), ("q75", 0.75)):
                rank = np.searchsorted(values, found[column]) / len(values)
                assert abs(rank - level) < 0.08
    (tmp_path / "out" / "_summary.npz").unlink()
    again = load_explanations(tmp_path / "out").summary()._statistics.sketches
    assert all((again[key].counts == sketch.counts).all() for key, sketch in sketches[0].items())


def test_global_pictures(tmp_path):
    """The boxes are those of the plain result, within the accuracy of the quantiles."""
    explained = explain_dataset(table_model(), claims(X), tmp_path / "out", output_idx=[0, 2])
    picture = explained.summary().plot_global(output_idx=[0, 2])
    plain = run_deeplift(table_model(), X, output_idx=[0, 2]).plot_global(output_idx=[0, 2])
    assert picture.frame.nodes == plain.frame.nodes
    for ours, theirs in zip(picture.frame.panels.flat, plain.frame.panels.flat, strict=True):
        assert ours.axis.labels == theirs.axis.labels
        for name in ("q1", "median", "q3"):
            found, wanted = getattr(ours.boxes, name), getattr(theirs.boxes, name)
            np.testing.assert_allclose(found, wanted, rtol=0.06, atol=0.01 * float(theirs.boxes.high.max()))


# -- images ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    """Write a folder of images, one of them broken, and return it with the arrays that they are."""
    random, arrays = np.random.default_rng(2), {}
    for n in range(30):
        name = f"{'cats' if n % 2 else 'dogs'}/{n:02d}.png"
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
        arrays[name] = pixels.astype(np.float32) / 255 * 2 - 1
    (tmp_path / "photos" / "cats" / "broken.png").write_bytes(b"no image")
    return tmp_path / "photos", arrays


def test_a_folder_of_images(photos, tmp_path):
    """They become lists in one column, and one is drawn again from these."""
    folder, arrays = photos
    with pytest.warns(UserWarning, match="1 of 31 rows went wrong"):
        explained = explain_dataset(
            image_model(), folder, tmp_path / "out", method="grad", target="predicted", pixels=(-1, 1), rows_per_part=7
        )
    table = explained.dataset.to_table(use_threads=False)
    assert table.schema.names[-1] == "values"
    assert str(table.schema.field("values").type) == "fixed_size_list<element: float>[192]"
    assert table["id"].to_pylist() == sorted([*arrays, "cats/broken.png"])
    assert "is no image" in table["error"].to_pylist()[table["id"].to_pylist().index("cats/broken.png")]
    chosen = ["dogs/04.png", "cats/11.png"]
    plain = run_grad(
        image_model(), np.stack([arrays[name] for name in chosen]), channels_first=False, target="predicted"
    )
    again = explained.result(chosen)
    np.testing.assert_allclose(np.moveaxis(again.get_result(), 1, 3), plain.get_result(), rtol=1e-4, atol=1e-6)
    drawn, wanted = again.plot([0, 1]).frame, plain.plot([0, 1]).frame
    for ours, theirs in zip(drawn.panels.flat, wanted.panels.flat, strict=True):
        np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-4, atol=1e-6)
    assert drawn.instances == [
        f"{name}: {label}" for name, label in zip(chosen, plain.target_label[0], strict=True)
    ] or (len(set(plain.target_label[0])) == 1)


def test_the_summary_of_images(photos, tmp_path):
    """Channels are added up: magnitudes as in the plain summary, and the picture has the medians of the magnitudes."""
    folder, arrays = photos
    (folder / "cats" / "broken.png").unlink()
    explained = explain_dataset(image_model(), folder, tmp_path / "out", method="grad", output_idx=0, pixels=(-1, 1))
    x = np.stack([arrays[name] for name in sorted(arrays)])
    plain = run_grad(image_model(), x, channels_first=False, output_idx=0)
    found, wanted = explained.summary().to_frame(5), plain.summary(5)
    assert found[["feature", "feature_2"]].values.tolist() == wanted[["feature", "feature_2"]].values.tolist()
    np.testing.assert_allclose(found["mean_abs"], wanted["mean_abs"], rtol=1e-4)
    picture = explained.summary().plot_global().frame.panels[0, 0, 0]
    medians = np.quantile(np.abs(plain.get_result()[..., 0]).sum(-1), 0.5, axis=0, method="lower")
    np.testing.assert_allclose(picture.values, medians, rtol=0.011)


# -- the sketch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "wide", "few", "constant"])
def test_the_sketch_keeps_its_promise(kind):
    """A quantile is within 1 % of the value of that rank, over all orders of magnitude that it has bins for."""
    random = np.random.default_rng(8)
    values = {
        "normal": random.normal(size=(5000, 2)),
        "wide": np.exp(random.normal(size=(5000, 2)) * 6) * random.choice([-1, 0, 1], (5000, 2)),
        "few": np.array([[3.0, -2.0]]),
        "constant": np.full((100, 2), 0.7),
    }[kind]
    sketch = Sketch(2)
    sketch.add(values)
    levels = [0.0, 0.01, 0.25, 0.5, 0.9, 0.999, 1.0]
    wanted = np.quantile(values, levels, axis=0, method="lower")
    assert (np.abs(sketch.quantiles(levels) - wanted) <= ACCURACY * np.abs(wanted) * 1.001).all()


def test_sketches_merge_in_any_order():
    """Exactly: what each worker has counted adds up to what one would have counted; also with other largest values."""
    random = np.random.default_rng(9)
    parts = [random.normal(size=(n, 3)) * 10.0**k for n, k in ((40, -8), (1, 3), (70, 14), (0, 0), (25, 0))]
    whole = Sketch(3)
    whole.add(np.concatenate(parts))
    for order in (range(5), [3, 2, 0, 4, 1]):
        merged = Sketch(3)
        for n in order:
            part = Sketch(3)
            part.add(parts[n])
            merged.merge(Sketch.from_arrays(part.as_arrays()))
        assert merged.top == whole.top
        np.testing.assert_array_equal(merged.counts, whole.counts)
        np.testing.assert_array_equal(merged.total, [136] * 3)
        np.testing.assert_array_equal(merged.low, whole.low)


def test_a_sketch_leaves_out_what_is_no_number():
    sketch = Sketch(1)
    sketch.add(np.array([[1.0], [np.nan], [np.inf], [3.0]]))
    assert sketch.total.tolist() == [2]
    assert np.isnan(Sketch(1).quantiles([0.5])).all()
