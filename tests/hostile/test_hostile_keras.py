"""Files of Keras from strangers: none does anything, each is refused, with little memory."""

from __future__ import annotations

import io
import json
import pickle
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
from sealed_files import memory

from innsight_py import Converter

pytest.importorskip("keras")
MEGABYTE = 2**20
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def numbers(shape=(2, 2)):
    """Return a file of HDF5 with an array that takes no room."""
    import h5py

    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.create_dataset("layers/dense/vars/0", shape, "f4", chunks=True)
    return out.getvalue()


def wide(units):
    dense = {"module": "keras.layers", "class_name": "Dense", "registered_name": None}
    return [dense | {"config": {"name": f"w{i}", "units": units}} for i in range(2)]


def twice_the_same(config):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in (config, keras_config("Lambda")):
            archive.writestr("config.json", json.dumps(one))
        archive.writestr("model.weights.h5", numbers())
    return out.getvalue()


def keras_config(layer, module="keras.layers", registered=None, **config):
    inner = [
        {
            "module": "keras.layers",
            "class_name": "InputLayer",
            "config": {"batch_shape": [None, 2], "name": "i"},
            "registered_name": None,
        },
        {
            "module": module,
            "class_name": layer,
            "config": {"name": "x", **config},
            "registered_name": registered,
        },
    ]
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "m", "layers": inner},
        "registered_name": None,
    }


def keras_file(config, pack=False, **more):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if pack else zipfile.ZIP_STORED) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.12.0", "date_saved": "x"}))
        archive.writestr("config.json", config if isinstance(config, bytes) else json.dumps(config))
        for name, data in ({"model.weights.h5": numbers()} | more).items():
            if data is not None:
                archive.writestr(name, data)
    return out.getvalue()


def keras(mark):
    code = {
        "class_name": "__lambda__",
        "config": {"value": "gASV", "code": "4wEAAAA=", "defaults": None, "closure": None},
    }
    made = {
        "a lambda": keras_config("Lambda", function=code),
        "a module of its own": keras_config("x", module="some_module"),
        "a class of Python": keras_config("system", module="os"),
        "a function of Python": keras_config(
            "Dense",
            units=2,
            activation={"module": "os", "class_name": "function", "config": "system", "registered_name": "function"},
        ),
        "a registered class": keras_config("Thing", module=None, registered="some>Thing"),
        "an activation of its own": keras_config(
            "Dense",
            units=2,
            activation={"module": "some_module", "class_name": "function", "config": "x", "registered_name": "x"},
        ),
        "a layer of torch": keras_config(
            "TorchModuleWrapper", module="keras.src.utils.torch_utils", torch_module="gASV"
        ),
        "a file of TensorFlow": keras_config("TFSMLayer", filepath=str(mark.parent), call_endpoint="serve"),
        "a download": keras_config("get_file", module="keras.utils", origin="file:///etc/hostname"),
        "no layer": keras_config("Nothing"),
        "a shape that is none": keras_config("Dense", units=-4),
    }
    made = {name: keras_file(one) for name, one in made.items()}
    dense = keras_config("Dense", units=2)
    twice = keras_file(dense, **{"model.weights.h5": numbers()})
    return made | {
        "more numbers than the file has": keras_file(
            keras_config("Dense", units=2**31), **{"model.weights.h5": numbers()}
        ),
        "a product of numbers": keras_file(
            {**dense, "config": {"name": "m", "layers": [*dense["config"]["layers"], *wide(60_000)]}},
            **{"model.weights.h5": numbers()},
        ),
        "packed zeros": keras_file(dense, pack=True, **{"model.weights.h5": bytes(2**30)}),
        "numbers that were never written": keras_file(dense, **{"model.weights.h5": numbers((2**20, 2**10))}),
        "two archives": twice + twice,
        "two configs": twice_the_same(dense),
        "a config that is none": keras_file(b"[]", **{"model.weights.h5": numbers()}),
        "weights of another model": keras_file(dense, **{"model.weights.h5": numbers((7,))}),
        "no weights": keras_file(dense, **{"model.weights.h5": None}),
        "weights of a pickle": keras_file(
            keras_config("Dense", units=2), **{"model.weights.h5": pickle.dumps(Payload(mark))}
        ),
        "lists without end": keras_file(b"[" * 200_000),
        "a pickle": pickle.dumps(Payload(mark)),
    }


def h5(mark):
    import h5py

    def made(config, change=None):
        out = io.BytesIO()
        with h5py.File(out, "w") as file:
            if config is not None:
                file.attrs["model_config"] = json.dumps(config) if not isinstance(config, str) else config
            group = file.create_group("model_weights")
            group.attrs["layer_names"] = [b"x"]
            group.attrs["keras_version"] = "2.4.0"
            group.attrs["backend"] = "tensorflow"
            if change is not None:
                change(file, group)
        return out.getvalue()

    def old(layer, **config):
        first = {
            "class_name": "InputLayer",
            "config": {"batch_input_shape": [None, 2], "name": "i", "dtype": "float32"},
        }
        return {
            "class_name": "Sequential",
            "config": {"name": "m", "layers": [first, {"class_name": layer, "config": {"name": "x", **config}}]},
        }

    def outside(file, group):
        (mark.parent / "other.h5").write_bytes(made(None))
        group["x"] = h5py.ExternalLink(str(mark.parent / "other.h5"), "/")

    def external(file, group):
        layer = group.create_group("x")
        layer.attrs["weight_names"] = [b"kernel"]
        layer.create_dataset("kernel", (2, 2), "f4", external=[("/etc/passwd", 0, 16)])

    def within(file, group):
        group["x"] = h5py.SoftLink("/model_weights")

    def view(file, group):
        layout = h5py.VirtualLayout((2, 2), "f4")
        layout[:] = h5py.VirtualSource(str(mark.parent / "other.h5"), "kernel", (2, 2))
        group.create_virtual_dataset("kernel", layout)

    def empty(file, group):
        group.create_dataset("kernel", (2**20, 2**10), "f4", chunks=True)

    def twice(file, group):
        group["x"] = group

    dense = old("Dense", units=2)
    return {
        "a lambda": made(old("Lambda", function=["4wEAAAA=", None, None], function_type="lambda")),
        "a class of its own": made(old("some_module.x")),
        "a class of Python": made(old("os.system")),
        "an activation of its own": made(old("Dense", units=2, activation="some_module.x")),
        "no config": made(None),
        "a config that is none": made("["),
        "lists without end": made("[" * 60_000),
        "a link out of the file": made(dense, outside),
        "numbers out of the file": made(dense, external),
        "a link within": made(dense, within),
        "numbers of a view": made(dense, view),
        "numbers that were never written": made(dense, empty),
        "a name twice": made(dense, twice),
        "more numbers than the file has": made(old("Dense", units=2**31)),
        "no weights": made(dense),
        "no layer": made(old("Nothing")),
        "a pickle": pickle.dumps(Payload(mark)),
        "cut short": made(dense)[:500],
    }


FORMATS = {".keras": keras, ".h5": h5}


@pytest.fixture(scope="module")
def attempts(tmp_path_factory):
    """Return the folder that every attempt aims at, and all attempts."""
    folder = tmp_path_factory.mktemp("attempts")
    return folder, {suffix: make(folder / "MARK") for suffix, make in FORMATS.items()}


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory):
    """Open one file of each format, so that what is imported counts for none."""
    for suffix in FORMATS:
        path = tmp_path_factory.mktemp("warm") / f"m{suffix}"
        path.write_bytes(b"nothing")
        with pytest.raises(ValueError, match=r"\w"):
            Converter(path)


def refusal(path):
    try:
        Converter(path)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("suffix", FORMATS)
def test_nothing_happens(suffix, attempts, monkeypatch):
    folder, files = attempts
    mark = folder / "MARK"
    (folder / "some_module.py").write_text(f"import pathlib; pathlib.Path({str(mark)!r}).touch(); x = None")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    assert len(files[suffix]) >= 10
    for name, content in files[suffix].items():
        path = folder / f"model{suffix}"
        path.write_bytes(content)
        assert len(content) < 2 * MEGABYTE, name
        with memory() as peak:
            refused = refusal(path)
        assert refused is not None, name
        assert not mark.exists(), name
        assert "some_module" not in sys.modules, name
        assert peak[0] < 200 * MEGABYTE, name


def test_keras_gets_what_was_checked(tmp_path, monkeypatch):
    """The file may be another one by the time that Keras reads it."""
    import keras as library

    model = library.Sequential([library.Input((2,)), library.layers.Dense(3)])
    for name in ("model.keras", "model.h5"):
        path = tmp_path / name
        model.save(path)
        asked = []
        load = library.models.load_model

        def swapped(given, *arguments, load=load, path=path, asked=asked, **keys):
            path.write_bytes(b"something else")
            asked.append(Path(given))
            return load(given, *arguments, **keys)

        monkeypatch.setattr(library.models, "load_model", swapped)
        assert Converter(path).output_dim == [(3,)]
        monkeypatch.undo()
        assert path not in asked
        assert not any(copy.exists() for copy in asked)
