"""R's files: networks of neuralnet and lists of innsight's, as R has written them, and files that are not right.

`tests/golden/r_files` holds what R 4.2.2 wrote, with the script; `tests/golden/neuralnet` is tested against R
innsight's answers in `test_golden_more.py`.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shutil
import struct
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from goldens import FOLDER, read, relative_error
from hypothesis import given
from hypothesis import strategies as st

from innsight_py import Converter, SpecError, read_neuralnet, read_r_model, run_grad
from innsight_py.converters.files import READERS
from innsight_py.converters.r import rds

FILES = FOLDER / "r_files"
ANSWERS = json.loads((FILES / "answers.json").read_text())
IRIS = {"Petal.Length": [1.4, 3.9, 5.0], "Petal.Width": [0.2, 1.4, 1.5]}  # rows 1, 60 and 120
#: A header of version 3, up to the object.
SMALL = [
    gzip.decompress((FOLDER / "neuralnet" / "iris_setosa.rds").read_bytes()),
    gzip.decompress((FILES / "no_hidden.rds").read_bytes()),
]
HEADER = b"X\n" + struct.pack(">iiii", 3, 0x40202, 0x30500, 5) + b"UTF-8"
NULL, LIST = struct.pack(">i", 254), struct.pack(">i", 19)


# -- neuralnet ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANSWERS)
def test_predictions_are_those_of_neuralnet(name):
    """Which also come from the repetition with the smallest error; weights are rounded to single precision."""
    converter = Converter(FILES / f"{name}.rds", dtype="double")
    if name == "wide":
        x = np.stack([np.zeros(500), np.arange(1, 501) / 500, -np.ones(500)])
    else:
        x = np.stack([IRIS[label] for label in converter.input_names[0][0]], 1)
    found = run_grad(converter, x, dtype="double").preds[0].numpy()
    np.testing.assert_allclose(found, ANSWERS[name], rtol=0, atol=2e-6)


def test_what_is_read():
    activations = {
        name: [layer["activation_name"] for layer in read_neuralnet(FILES / f"{name}.rds")["layers"]]
        for name in ("output_activation", "relu_no_hidden_bias", "no_hidden", "within_function")
    }
    assert activations == {
        "output_activation": ["tanh", "logistic"],
        "relu_no_hidden_bias": ["relu", "linear"],
        "no_hidden": ["linear"],
        "within_function": ["logistic", "linear"],
    }
    spec = read_neuralnet(str(FILES / "excluded.rds"))
    weights = np.concatenate([layer["weight"].ravel() for layer in spec["layers"]])
    biases = np.concatenate([layer["bias"] for layer in spec["layers"]])
    assert (np.concatenate([weights, biases]) == 0).sum() == 2  # those that were excluded
    assert spec["input_names"] == ["Petal.Length", "Petal.Width"]
    assert spec["output_names"] == ["Sepal.Length"]
    assert read_neuralnet(FILES / "output_activation.rds")["output_names"] == ['Species == "setosa"']


@pytest.mark.parametrize("name", ["iris_regression", "iris_setosa", "penguins"])
def test_weights_are_those_of_the_best_repetition(name):
    golden = read(f"neuralnet/{name}.json.gz")
    spec = read_neuralnet(FOLDER / "neuralnet" / f"{name}.rds")
    for layer, weights in zip(spec["layers"], golden["weights"], strict=True):
        np.testing.assert_array_equal(layer["weight"], np.float32(weights[1:].T))
        np.testing.assert_array_equal(layer["bias"], np.float32(weights[0]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "custom",
            "activation function of its own, which is code; networks with 'act.fct' one of logistic, tanh, relu",
        ),
        ("not_converged", "not fitted: neuralnet\\(\\) did not converge"),
        ("lm", "R object of class lm, not a network of neuralnet"),
        ("forms", "R object of class VEC"),
        ("conv2d_batchnorm", "Use 'read_r_model' for a list of R innsight's"),
    ],
)
def test_other_objects_of_r_are_refused(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_neuralnet(FILES / f"{name}.rds")
    assert f"{name}.rds" in str(caught.value)


def test_code_in_a_file_does_not_run():
    """With the network are an environment with a promise and an active binding, byte code and a call, all errors."""
    assert gzip.decompress((FILES / "within_function.rds").read_bytes()).count(b"code ran") >= 4
    Converter(FILES / "within_function.rds")


def test_the_recursion_limit_is_left_alone():
    before = sys.getrecursionlimit(), threading.stack_size()
    read_neuralnet(FILES / "wide.rds")
    assert (sys.getrecursionlimit(), threading.stack_size()) == before


# -- lists of R innsight's ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [".rds", ".json"])
@pytest.mark.parametrize("name", ["conv2d_batchnorm", "two_in_two_out"])
def test_lists(name, end):
    golden = read(f"zoo/{name}.json.gz")
    converter = Converter(read_r_model(FILES / (name + end)), dtype="double")
    assert converter.input_dim == Converter(FILES / (name + end)).input_dim
    axis = converter.input_names[0][0]
    assert list(axis) == [f"n{i + 1}" for i in range(len(axis))]
    if end == ".rds":  # levels are the other way round
        assert isinstance(axis, pd.Categorical)
        assert list(axis.categories) == list(axis)[::-1]
    checked = 0
    for answer in golden["results"]:
        config = {key: value[0] if isinstance(value, list) else value for key, value in answer["config"].items()}
        if config["method"] != "Gradient" or answer["channels_first"] is False or answer["channels_first"] == [False]:
            continue
        options = {key: config[key] for key in ("times_input", "ignore_last_act") if key in config}
        ours = run_grad(converter, golden["x"], output_idx=indices(golden["output_idx"]), dtype="double", **options)
        for own, their in zip(ours.result, answer["result"], strict=True):
            for a, b in zip(own, their, strict=True):
                assert (a is None) == (b is None)
                assert a is None or relative_error(a.numpy(), b) <= 1e-6  # R writes 15 digits as text
                checked += 1
    assert checked


def indices(given):
    return [[i - 1 for i in (layer if isinstance(layer, list) else [layer])] for layer in given]


def test_flatten_order():
    orders = {
        first: [
            layer.get("order") for layer in read_r_model(FILES / "two_in_two_out.rds", channels_first=first)["layers"]
        ]
        for first in (True, False)
    }
    assert "channels_first" in orders[True]
    assert "channels_last" in orders[False]


def test_lists_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="holds a pointer, such as a torch tensor, where plain arrays are needed"):
        read_r_model(FILES / "tensor.rds")
    with pytest.raises(ValueError, match="R object of class nn, without 'layers'"):
        read_r_model(FOLDER / "neuralnet" / "penguins.rds")
    with pytest.raises(SpecError, match=r"answers.json' holds no model of R innsight's: The model has the unknown key"):
        read_r_model(FILES / "answers.json")
    path = tmp_path / "m.json"
    for text in ("", "{", "[" * 100_000, "\xff"):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(ValueError, match=r"m.json' cannot be read as JSON"):
            Converter(path)
    for text in ("[]", "3", '"layers"', '{"layers": 1, "input_dim": 2}', '{"layers": {}, "input_dim": 2}', "null"):
        path.write_text(text)
        with pytest.raises(SpecError, match="holds no model of R innsight's"):
            Converter(path)


# -- the reader of .rds files -------------------------------------------------------------------------------------


def test_vectors_in_all_forms():
    *found, last = rds.plain(rds.read_rds(FILES / "forms.rds"))
    sequence, real, texts, missing, truth, latin, utf8, matrix, nothing = found
    np.testing.assert_array_equal(sequence, [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(real, [3, 4, 5, 6])
    assert texts == ["1", "2", "3"]
    np.testing.assert_array_equal(missing, [1, np.nan])
    np.testing.assert_array_equal(truth, [1, np.nan])
    assert (latin, utf8) == (["ä"], ["β"])
    np.testing.assert_array_equal(matrix, [[1, 3, 5], [2, 4, 6]])
    assert nothing is None
    assert last[0] == ["a"]
    assert last[1] == [2]


def test_formats_and_compressions(tmp_path):
    """What R wrote is gzip, xz, bzip2, plain and ASCII; the same bytes are read from any of them."""
    kinds = {(FILES / f"{name}.rds").read_bytes()[:2] for name in ANSWERS}
    assert kinds == {b"\x1f\x8b", b"\xfd7", b"BZ", b"X\n"}
    assert SMALL[1].startswith(b"A\n")
    data = gzip.decompress((FOLDER / "neuralnet" / "penguins.rds").read_bytes())
    expected = Converter(FOLDER / "neuralnet" / "penguins.rds")
    for pack in (bytes, bz2.compress, lzma.compress, gzip.compress):
        (tmp_path / "m.rds").write_bytes(pack(data))
        found = Converter(tmp_path / "m.rds")
        assert found.output_names == expected.output_names


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdata", None)
    with pytest.raises(ImportError, match='pip install "innsight_py\\[r\\]"'):
        read_neuralnet(FOLDER / "neuralnet" / "penguins.rds")


def test_a_missing_file():
    for call in (Converter, read_neuralnet, read_r_model):
        with pytest.raises(FileNotFoundError):
            call("nowhere.rds")
    with pytest.raises(FileNotFoundError):
        Converter("nowhere.json")


def bombs():
    zeros = bytes(10**7)
    yield "zeros", gzip.compress(HEADER + LIST + struct.pack(">i", 2**31 - 1) + zeros * 30), "unpack to more than"
    yield "bzip2", bz2.compress(zeros * 30), "unpack to more than"
    yield "xz", lzma.compress(zeros * 5), "unpack to more than"
    yield "objects", HEADER + LIST + struct.pack(">i", 2**24) + NULL * 20_001, "more objects than any model"
    yield "numbers", HEADER + struct.pack(">ii", 14, 2**31 - 1) + bytes(80), "a length of 2147483647"
    yield "negative", HEADER + struct.pack(">ii", 14, -1) + bytes(80), "a length of -1"
    yield "text", HEADER + struct.pack(">ii", 9, 2**31 - 1), "a length of 2147483647"
    yield "byte code", HEADER + struct.pack(">ii", 21, 2**31 - 1), "a length of 2147483647"
    yield "deep", HEADER + (LIST + struct.pack(">i", 1)) * 50_000 + NULL, "too deep in each other"
    ascii_header = b"A\n3\n262658\n197888\n5\nUTF-8\n"
    yield "ascii numbers", ascii_header + b"14\n2147483647\n1\n", "a length of 2147483647"
    sequence = struct.pack(">ii", 238, 2) + struct.pack(">iii", 1, 262153, 14) + b"compact_intseq" + NULL
    yield (
        "sequence",
        HEADER + sequence + struct.pack(">iiddd", 14, 3, 1e9, 1, 1) + NULL,
        "class ALTREP",
    )


@pytest.mark.parametrize(("data", "message"), [pytest.param(d, m, id=name) for name, d, m in bombs()])
def test_files_that_claim_more_than_they_hold(data, message, tmp_path, monkeypatch):
    monkeypatch.setattr(rds, "DESCRIPTIONS", rds.DESCRIPTIONS if message.startswith("its") else 20_000)
    (tmp_path / "m.rds").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        Converter(tmp_path / "m.rds")


def test_a_sequence_without_end_is_not_written_out(tmp_path):
    sequence = struct.pack(">ii", 238, 2) + struct.pack(">iii", 1, 262153, 14) + b"compact_intseq" + NULL
    (tmp_path / "m.rds").write_bytes(HEADER + sequence + struct.pack(">iiddd", 14, 3, 1e9, 1, 1) + NULL)
    obj = rds.read_rds(tmp_path / "m.rds")
    assert rds.kind(obj) == "ALTREP"
    with pytest.raises(ValueError, match="a sequence without end"):
        rds.plain(obj)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "another kind"),
        (b"PK\x03\x04", "another kind"),
        (b"hello, I am no model of R's", "another kind"),
        (b"X\n", "damaged or truncated"),
        (HEADER, "truncated"),
        (HEADER + struct.pack(">i", 77), "damaged or truncated"),
        (struct.pack(">i", 7), "another kind"),
        (b"X\n" + struct.pack(">iii", 9, 0, 0), "damaged or truncated"),
        (gzip.compress(b"hello"), "another kind"),
        (gzip.compress(b"hello" * 99)[:-3], "truncated"),
        (gzip.compress(b"hello" * 99)[:-8] + bytes(8), "compression is damaged"),
        (b"BZh nonsense", "compression is damaged"),
        (b"\xfd7zXZ\x00 nonsense", "compression is damaged"),
    ],
)
def test_foreign_and_damaged_files(data, message, tmp_path):
    (tmp_path / "m.rds").write_bytes(data)
    for call in (Converter, read_neuralnet, read_r_model):
        with pytest.raises(ValueError, match=rf"cannot be read as an .rds file.*{message}"):
            call(tmp_path / "m.rds")


def test_files_of_save_are_told_apart(tmp_path):
    shutil.copy(FILES / "x.RData", tmp_path / "x.rds")
    with pytest.raises(ValueError, match=r"save\(\) wrote it.*write the model alone, with saveRDS"):
        read_neuralnet(tmp_path / "x.rds")


@pytest.mark.parametrize("data", SMALL, ids=["binary", "ascii"])
def test_truncated_anywhere(data, tmp_path):
    path = tmp_path / "m.rds"
    for end in np.linspace(0, len(data) - 1, 80).astype(int):
        path.write_bytes(data[:end])
        with pytest.raises(ValueError, match="cannot be read"):
            read_neuralnet(path)


@given(
    st.sampled_from(SMALL),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_changed_bytes_end_in_an_answer_or_a_value_error(tmp_path_factory, data, changes):
    changed = bytearray(data)
    for place, value in changes:
        changed[int(place * len(data))] = value
    path = tmp_path_factory.getbasetemp() / "changed.rds"
    path.write_bytes(changed)
    try:
        Converter(path)
    except ValueError as error:
        assert str(error)  # noqa: PT017


def test_ends_of_names():
    assert set(READERS) >= {".rds", ".json", ".safetensors"}
    for path in ("model.R", FILES / "make.R", "rds"):
        with pytest.raises(TypeError, match=r"'model'.*a path that ends in one of \.rds, \.json, \.safetensors"):
            Converter(path)
