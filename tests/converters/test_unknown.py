"""Objects and files that are no models: what is said of them, and that the way on works."""

from __future__ import annotations

import pickle
import re
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from innsight_py import Converter
from innsight_py._errors import code_of

torch.manual_seed(7)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


NET = network()
X = torch.randn(2, 3)


def message_of(model, kind=(TypeError, ValueError)) -> str:
    with pytest.raises(kind) as error:
        Converter(model, input_dim=(3,))
    return str(error.value)


def same(converter: Converter) -> bool:
    return torch.equal(converter.model(X)[0], Converter(NET, input_dim=(3,)).model(X)[0])


# -- weights without their network -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights",
    [
        NET.state_dict(),
        dict(NET.state_dict()),
        {"state_dict": NET.state_dict(), "epoch": 3},
        {"model_state_dict": NET.state_dict(), "optimizer": {}},
        {"w": np.ones((2, 3)), "b": np.zeros(2)},
    ],
    ids=["state dict", "dict", "checkpoint", "other checkpoint", "arrays"],
)
def test_weights_alone(weights):
    message = message_of(weights, ValueError)
    assert "net.load_state_dict(weights)" in message
    assert code_of(message) == "weights-without-a-model"


def test_the_way_on_from_weights():
    net = network()
    net.load_state_dict(NET.state_dict())
    assert same(Converter(net, input_dim=(3,)))


def test_a_network_in_a_dict():
    message = message_of({"model": NET, "epoch": 3}, ValueError)
    assert "the entry 'model'" in message


def test_a_spec_is_still_a_spec():
    """A dict with the keys of a spec is checked as one, whatever its values are."""
    for spec in ({"input_dim": np.array([3])}, {"layers": np.ones(3)}, {}):
        assert code_of(message_of(spec, ValueError)) == "specs"


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.ckpt", "net.bin", "net.PT"])
@pytest.mark.parametrize("whole", [True, False])
def test_files_of_torch(name, whole, tmp_path):
    torch.save(NET if whole else NET.state_dict(), tmp_path / name)
    message = message_of(tmp_path / name, TypeError)
    assert name in message
    assert code_of(message) == "weights-without-a-model"
    (code,) = re.findall(r"Converter\((torch\.load\(.+?\)), input_dim", message)
    loaded = eval(code, {"torch": torch, "path": tmp_path / name})  # noqa: S307
    net = loaded
    if not whole:
        net = network()
        net.load_state_dict(loaded)
    assert same(Converter(net, input_dim=(3,)))


@pytest.mark.parametrize("name", ["model.pkl", "model.pickle", "model.joblib"])
def test_pickles_are_not_loaded(name, tmp_path):
    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    assert code_of(message_of(tmp_path / name, TypeError)) == "weights-without-a-model"


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_weights_in_safetensors(tmp_path):
    save_file(NET.state_dict(), tmp_path / "w.safetensors")
    message = message_of(tmp_path / "w.safetensors", ValueError)
    assert "safetensors.torch.load_file(path)" in message
    net = network()
    net.load_state_dict(load_file(tmp_path / "w.safetensors"))
    assert same(Converter(net, input_dim=(3,)))


# -- objects that are no models ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        (nn.Linear, "make an instance first: Linear(...)"),
        (type("Mine", (nn.Module,), {}), "make an instance first: Mine(...)"),
        ([nn.Linear(3, 2), nn.ReLU()], "torch.nn.Sequential(*layers)"),
        ((nn.Linear(3, 2),), "torch.nn.Sequential(*layers)"),
        (np.ones((3, 2)), "the data go to the method"),
        (torch.ones(3, 2), "the data go to the method"),
        (pd.DataFrame({"a": [1.0]}), "the data go to the method"),
        (NET.parameters(), "Give the network"),
        (list(NET.parameters()), "Give the network"),
        (Converter(NET, input_dim=(3,)), "run_deeplift(converter, data)"),
        (type("Predictor", (), {"predict": lambda self, x: x})(), "run_lime(model, data)"),
        ("resnet18", "not by its name"),
        ("folder/", "not by its name"),
        ("saved_model.pb", "with its own package"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_said_of_objects(model, advice):
    message = message_of(model, TypeError)
    assert advice in message
    assert code_of(message) == "unknown-models"
    assert len(message) < 600


def test_a_list_of_layers_becomes_a_network():
    layers = [nn.Linear(3, 2), nn.ReLU()]
    assert Converter(torch.nn.Sequential(*layers), input_dim=(3,)).output_dim == [(2,)]


def test_a_function_is_a_model():
    converter = Converter(lambda rows: NET(rows)[:, :1], input_dim=(3,))
    assert (converter.input_keys, converter.output_dim) == (["rows"], [(1,)])


def test_a_folder(tmp_path):
    assert "with its own package" in message_of(tmp_path, TypeError)


# -- damaged files -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory):
    keras = pytest.importorskip("keras")
    path = tmp_path_factory.mktemp("keras") / "whole.keras"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
    return path


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_of_keras(kept, keras_file, tmp_path):
    whole = keras_file.read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[: int(kept * len(whole))])
    message = message_of(tmp_path / "cut.keras", ValueError)
    assert "damaged, truncated" in message
    assert "not found" not in message
    assert code_of(message) == "files"


def test_a_file_of_keras_with_another_ending(keras_file, tmp_path):
    (tmp_path / "x.h5").write_bytes(keras_file.read_bytes())
    assert "no HDF5 file" in message_of(tmp_path / "x.h5", ValueError)


def test_an_archive_that_is_no_model(tmp_path):
    pytest.importorskip("keras")
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("a", "b")
    message = message_of(tmp_path / "x.keras", ValueError)
    assert code_of(message) == "files"


def test_no_such_file(tmp_path):
    for name in ("x.keras", "x.h5", "x.safetensors", "x.pt2", "x.rds", "x.json"):
        with pytest.raises(FileNotFoundError):
            Converter(tmp_path / name)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match="there is no folder") as error:
        Converter(NET, input_dim=(3,)).save(tmp_path / "no" / "x.safetensors")
    assert code_of(error.value) == "files"
    assert ".tmp" not in str(error.value)
