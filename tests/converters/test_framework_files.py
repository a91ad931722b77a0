"""Models in the files that Keras and PyTorch write."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import warnings
import zipfile

import numpy as np
import pytest
import torch
from goldens import FOLDER

from innsight_py import Converter, SpecError, run_deeplift, run_grad


def _module():
    torch.manual_seed(1)
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(48, 2)
    ).eval()


def _save(path, module, *examples, **options):
    program = torch.export.export(module, examples, **options)
    torch.export.save(program, path)
    return program


@pytest.mark.parametrize("batch", ["one", "any"])
def test_exported_program(tmp_path, batch):
    module, path = _module(), tmp_path / "model.pt2"
    if batch == "one":
        program = _save(path, module, torch.zeros(1, 2, 6, 6))
    else:
        dynamic = ({0: torch.export.Dim("batch")},)
        program = _save(path, module, torch.zeros(2, 2, 6, 6), dynamic_shapes=dynamic)
    x = torch.randn(4, 2, 6, 6)
    expected = run_deeplift(Converter(module, input_dim=(2, 6, 6)), x).get_result()
    for model in (path, str(path), program):
        np.testing.assert_array_equal(run_deeplift(Converter(model), x).get_result(), expected)


class _Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = torch.nn.Linear(3, 2), torch.nn.Linear(4, 2)

    def forward(self, a, *, b):
        return torch.relu(self.left(a)) + self.right(b["x"])


def test_exported_program_with_inputs_in_a_structure(tmp_path):
    module, path = _Two(), tmp_path / "two.pt2"
    program = torch.export.export(module, (torch.zeros(1, 3),), {"b": {"x": torch.zeros(1, 4)}})
    torch.export.save(program, path)
    converter = Converter(path)
    a, b = torch.randn(2, 3), torch.randn(2, 4)
    torch.testing.assert_close(converter.model(a, b)[0], module(a, b={"x": b}))


def test_exported_program_for_several_rows(tmp_path):
    path = tmp_path / "fixed.pt2"
    _save(path, _module(), torch.zeros(5, 2, 6, 6))
    with pytest.raises(SpecError, match="fixed to 5 rows"):
        Converter(path)


def test_exported_program_with_an_open_size(tmp_path):
    path = tmp_path / "open.pt2"
    module = torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3), torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten())
    dims = ({0: torch.export.Dim("batch"), 2: torch.export.Dim("length", min=4)},)
    _save(path, module, torch.zeros(2, 1, 9), dynamic_shapes=dims)
    with pytest.raises(ValueError, match="input_dim"):
        Converter(path)
    x = torch.randn(3, 1, 12)
    torch.testing.assert_close(Converter(path, input_dim=(1, 12)).model(x)[0], module(x))


def test_exported_program_of_whole_numbers(tmp_path):
    """Numbers that are looked up are tokens: the answer is one number for each."""
    path, table = tmp_path / "words.pt2", torch.nn.Embedding(5, 3)
    words = torch.tensor([[0, 1, 2, 4]])
    _save(path, torch.nn.Sequential(table, torch.nn.Flatten()), words)
    converter = Converter(path)
    assert [port.kind for port in converter.inputs] == ["tokens"]
    found = run_grad(converter, words, times_input=True, output_idx=[4]).get_result()
    np.testing.assert_allclose(found, [[[0], [table.weight[1, 1].item()], [0], [0]]], rtol=1e-6)


class _Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def _forged(source, target, change):
    """Copy an archive, with a change of each entry: a function of name and bytes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            for changed, content in change(name, old.read(name)):
                new.writestr(changed, content)


def test_code_in_exported_programs_is_refused(tmp_path):
    """Each of these would run code in torch.export.load, or when the program is run."""
    honest, forged, marker = tmp_path / "model.pt2", tmp_path / "forged.pt2", str(tmp_path / "made")
    _save(honest, _module(), torch.zeros(2, 2, 6, 6), dynamic_shapes=({0: torch.export.Dim("batch")},))

    def in_model(old, new):
        def change(name, content):
            text = content.decode() if name.endswith("models/model.json") else None
            if text is not None:
                assert old in text
                content = text.replace(old, new).encode()
            return [(name, content)]

        return change

    def in_sample(name, content):
        return [(name, pickle.dumps(_Evil(marker)) if "sample_inputs" in name else content)]

    def in_weights(name, content):
        if name.endswith("weights_config.json"):
            config = json.loads(content)
            next(iter(config["config"].values()))["use_pickle"] = True
            content = json.dumps(config).encode()
        return [(name, content)]

    def legacy(name, content):
        extra = [("model/data/weights/model.pt", pickle.dumps(_Evil(marker)))] if "weight_0" in name else []
        return [(name, content), *extra]

    forgeries = {
        "not one of ATen": in_model("torch.ops.aten.relu.default", "torch.os.mkdir"),
        "the size": in_model("Symbol('", f"__import__('os').mkdir('{marker}') or Symbol('"),
        "example inputs": in_sample,
        "pickled weights": in_weights,
        "pickled or compiled": legacy,
    }
    for message, change in forgeries.items():
        _forged(honest, forged, change)
        with pytest.raises(SpecError, match=message):
            Converter(forged)
        assert not os.path.exists(marker)


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 cut short"])
def test_damaged_exported_programs(tmp_path, content):
    path = tmp_path / "model.pt2"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.pt2"):
        Converter(path)


def test_another_zip(tmp_path):
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/readme.txt", "hello")
    with pytest.raises(SpecError, match="no program"):
        Converter(path)


# -- Keras ------------------------------------------------------------------------------------------------------------


def test_keras_files(tmp_path):
    import keras

    source = FOLDER / "keras" / "conv2d_same.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # how R keras wrote the model
        model = keras.models.load_model(source, compile=False)
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(1).standard_normal((3, *model.input_shape[1:]), dtype=np.float32)
    expected = run_grad(Converter(model), x, channels_first=False).get_result()
    for path in (source, tmp_path / "model.keras"):
        np.testing.assert_allclose(
            run_grad(Converter(path), x, channels_first=False).get_result(), expected, rtol=1e-5, atol=1e-6
        )


def test_keras_files_are_compared_with_their_original(tmp_path, monkeypatch):
    """The model that the file holds runs beside the conversion."""
    from innsight_py.converters.keras import original as keras_original

    path = tmp_path / "dense.h5"
    shutil.copy(FOLDER / "keras" / "dense.h5", path)
    run = keras_original.Original.run
    monkeypatch.setattr(keras_original.Original, "run", lambda self, x: [2 * y + 1 for y in run(self, x)])
    with pytest.raises(SpecError, match="not the original's"):
        Converter(path)


def test_code_in_keras_files_is_refused(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2)])
    for name in ("model.keras", "model.h5"):
        model.save(tmp_path / name)
        with pytest.raises(ValueError, match="safe mode"):
            Converter(tmp_path / name)


def test_damaged_keras_files(tmp_path):
    for name in ("model.keras", "model.h5"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(ValueError, match="is damaged, truncated or no"):
            Converter(tmp_path / name)
        with pytest.raises(FileNotFoundError):
            Converter(tmp_path / f"no_{name}")
