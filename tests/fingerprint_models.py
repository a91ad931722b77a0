"""The models that `fingerprint.py` asks: one for each layer, and some for each door."""

from __future__ import annotations

import collections
import functools
import importlib
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch

import innsight_py
from innsight_py import Converter

TESTS = next(folder for folder in Path(__file__).resolve().parents if folder.name == "tests")
Arrays = list[np.ndarray]


# -- where things lie, before and after a move ------------------------------------------------------------------------


def helper(name: str) -> ModuleType:
    """Import a module of the tests, in whichever of their folders it lies."""
    (path,) = TESTS.rglob(f"{name}.py")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    return importlib.import_module(name)


def internal(name: str) -> Any:
    """Return a function of the package that is not public, from whichever of its modules defines it."""
    found = {
        id(value): value
        for key, module in sorted(sys.modules.items())
        if key.startswith("innsight_py")
        for value in [vars(module).get(name)]
        if getattr(value, "__module__", "").startswith("innsight_py")
    }
    (value,) = found.values()
    return value


@functools.cache
def golden() -> Path:
    """Return the folder with R's answers and files."""
    return next(folder for folder in sorted(TESTS.rglob("golden")) if (folder / "r_files").is_dir())


# -- subjects -----------------------------------------------------------------------------------------------------


@dataclass
class Subject:
    """A model that is converted when it is first asked, with data that fit to it.

    Some values of the data are 0, equal to their neighbours, or equal to the reference: there the rules of R's
    stabilisers and of a pooling's winner speak.
    """

    name: str
    make: Callable[[], Converter]
    module: Callable[[], torch.nn.Module] | None = None
    rows: int = 3

    @functools.cached_property
    def _made(self) -> Converter | Exception:
        try:
            return self.make()
        except Exception as error:  # is told by each case, and is not tried again
            return error

    @property
    def converter(self) -> Converter:
        """The converted model, or the refusal."""
        if isinstance(self._made, Exception):
            raise self._made
        return self._made

    @property
    def refused(self) -> bool:
        """Whether there is no converted model to be asked."""
        return isinstance(self._made, Exception)

    def draw(self, rows: int, what: str) -> Arrays:
        """Draw data, channels first; every second row in halves, so that there are zeros and ties."""
        rng = np.random.default_rng(zlib.crc32(f"{self.name} {what}".encode()))
        arrays = [rng.standard_normal((rows, *dim)) for dim in self.converter.input_dim]
        for x in arrays:
            x[1::2] = np.round(2 * x[1::2]) / 2
        return arrays

    @functools.cached_property
    def data(self) -> Arrays:
        return self.draw(self.rows, "data")

    @functools.cached_property
    def references(self) -> Arrays:
        arrays = self.draw(3, "references")
        for x, data in zip(arrays, self.data, strict=True):
            x[0].flat[0] = data[0].flat[0]
        return arrays


def rng_of(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def dense(name: str, outputs: int, inputs: int, act: str = "linear", bias: bool = True) -> dict[str, Any]:
    """Make a dense layer with weights that belong to a name."""
    rng = rng_of(name)
    layer = {"type": "Dense", "weight": rng.standard_normal((outputs, inputs)), "activation_name": act}
    return layer | ({"bias": rng.standard_normal(outputs)} if bias else {})


# -- the spec's layers ------------------------------------------------------------------------------------------------


def layer_spec(kind: str, head: bool) -> dict[str, Any]:
    """Describe a model of one layer, and of two dense ones behind it."""
    dims, keys = helper("one_of_each").LAYERS[kind]
    layer = {"type": kind, "name": "it", "inputs": [f"input_{i + 1}" for i in range(len(dims))], **keys}
    spec = {"input_dim": [list(dim) for dim in dims], "layers": [layer, {"type": "Flatten"}]}
    if not head:
        return spec | {"layers": [layer]}
    (size,) = Converter(spec).output_dim[0]
    return spec | {"layers": [*spec["layers"], dense(kind, 4, size, "relu"), dense(f"{kind} end", 3, 4, "softmax")]}


def layers() -> Iterator[Subject]:
    """Every layer at the front of a network, and at its end where a network can end with it."""
    for kind in helper("one_of_each").LAYERS:
        yield Subject(f"layers/{kind}", lambda kind=kind: Converter(layer_spec(kind, True)))
    for kind in ("Dense", "Activation", "Add", "Multiply", "Flatten", "Take", "Skipping", "Standardize", "Operator"):
        yield Subject(f"layers at the end/{kind}", lambda kind=kind: Converter(layer_spec(kind, False)))


def activations() -> Iterator[Subject]:
    """Every activation, within a network and at its end."""
    for act in internal("activation_names")():
        spec = {"input_dim": [3], "layers": [dense("a", 4, 3, act), dense("b", 3, 4, act)]}
        yield Subject(f"activations/{act}", lambda spec=spec: Converter(spec))


def image_spec(bias: bool, last: bool) -> dict[str, Any]:
    """Describe a small network of the usual layers for images."""
    rng = rng_of("image")
    conv = {"type": "Conv2D", "weight": rng.standard_normal((3, 2, 3, 3)), "padding": [1, 1, 1, 1]}
    norm = {"gamma": rng.standard_normal(3), "beta": rng.standard_normal(3) * bias,
            "run_mean": rng.standard_normal(3) * bias, "run_var": rng.random(3) + 0.5, "eps": 1e-3}  # fmt: skip
    return {
        "input_dim": [[2, 6, 7]], "channels_first": not last,
        "input_names": [[["red", "blue"], [f"row {i}" for i in range(6)], [f"column {i}" for i in range(7)]]],
        "output_names": [[["cat", "dog", "both"]]],
        "layers": [
            conv | ({"bias": rng.standard_normal(3)} if bias else {}), {"type": "BatchNorm", **norm},
            {"type": "Activation", "act_name": "relu"}, {"type": "MaxPooling2D", "kernel_size": 2},
            {"type": "AveragePooling2D", "kernel_size": 2, "strides": 1},
            {"type": "Flatten"}, dense("head", 3, 12, "softmax", bias),
        ],
    }  # fmt: skip


def signal_spec() -> dict[str, Any]:
    rng = rng_of("signal")
    conv = {"type": "Conv1D", "weight": rng.standard_normal((2, 2, 3)), "bias": rng.standard_normal(2)}
    return {"input_dim": [[2, 80]], "layers": [conv, {"type": "Flatten"}, dense("signal end", 2, 156)]}


def table_spec() -> dict[str, Any]:
    names = ["age", "dose", "<site>", "a name that is rather long for an axis", "x"]
    layers = [dense("one", 6, 5, "tanh"), dense("two", 12, 6, "sigmoid")]
    return {"input_dim": [5], "input_names": [[names]], "layers": layers}


def several_spec() -> dict[str, Any]:
    """Describe two inputs and two outputs, one of which only one input reaches."""
    image = {"type": "Conv2D", "name": "image", "inputs": ["input_1"],
             "weight": rng_of("several").standard_normal((2, 3, 2, 2)), "activation_name": "relu"}  # fmt: skip
    flat = {"type": "Flatten", "name": "flat", "inputs": ["image"]}
    table = dense("table", 3, 4, "tanh") | {"name": "table", "inputs": ["input_2"]}
    both = {"type": "Concatenate", "name": "both", "inputs": ["flat", "table"], "axis": 1}
    first = dense("first", 2, 21, "softmax") | {"name": "first", "inputs": ["both"]}
    second = dense("second", 3, 3) | {"name": "second", "inputs": ["table"]}
    return {"input_dim": [[3, 4, 4], [4]], "layers": [image, flat, table, both, first, second],
            "outputs": ["first", "second"],
            "input_keys": ["picture", "facts"], "output_keys": ["kind", "size"]}  # fmt: skip


def networks() -> Iterator[Subject]:
    """Networks of some depth: a table, a signal, images in both layouts, several inputs and outputs."""
    for name, spec in {
        "table": table_spec(), "signal": signal_spec(), "image": image_spec(True, False),
        "image without biases": image_spec(False, False), "image, channels last": image_spec(True, True),
        "several": several_spec(),
    }.items():  # fmt: skip
        yield Subject(f"networks/{name}", lambda spec=spec: Converter(spec, save_model_as_dict=True))


# -- doors ------------------------------------------------------------------------------------------------------------


def torch_doors() -> Iterator[Subject]:
    """PyTorch modules, and the programs that they are exported to."""
    models = helper("torch_models")
    for name in models.MODELS:
        dims = models.MODELS[name][1]
        one = (lambda name=name: models.make(name)[0]) if len(dims) == 1 else None

        def convert(name: str = name) -> Converter:
            module, dims = models.make(name)
            return Converter(module, input_dim=dims, save_model_as_dict=True)

        yield Subject(f"torch/{name}", convert, one)
    for name in ("fusion", "norms", "tied_mlp", "resnet"):

        def export(name: str = name) -> Converter:
            module, dims = models.make(name)
            return Converter(torch.export.export(module, tuple(torch.zeros(1, *dim) for dim in dims)))

        yield Subject(f"torch exported/{name}", export)


def keras_layers() -> Iterator[Subject]:
    """Every class of layers of Keras with up to two kinds of options, as the tests of that door have them."""
    models = helper("keras_models")
    seen: collections.Counter[str] = collections.Counter()
    for name, (shapes, apply) in models.CASES.items():
        seen[name.split()[0]] += 1
        if seen[name.split()[0]] <= 2:

            def convert(shapes: Any = shapes, apply: Callable[..., Any] = apply) -> Converter:
                return _keras(lambda: models.build(shapes, lambda *x: models.L.Flatten()(apply(*x))))

            yield Subject(f"keras layers/{name}", convert, rows=2)


def _keras(make: Callable[[], Any]) -> Converter:
    import keras

    keras.utils.clear_session(free_memory=False)  # names of layers count anew
    keras.utils.set_random_seed(1)
    return Converter(make(), save_model_as_dict=True)


def _keras_two() -> Any:
    models = helper("keras_models")
    layers = models.L

    def apply(image: Any, table: Any) -> list[Any]:
        x = layers.MaxPooling2D(2)(layers.Conv2D(3, 3, padding="same", activation="relu", name="look")(image))
        x = layers.Concatenate()([layers.Flatten()(x), layers.Dense(4, "tanh")(table)])
        return [layers.Dense(3, "softmax", name="kind")(x), layers.Dense(2, name="size")(x)]

    return models.build([(6, 6, 2), (5,)], apply)


def _keras_sequence() -> Any:
    models = helper("keras_models")
    layers = models.L
    parts = [layers.Input((8, 7, 2)), layers.Conv2D(4, 3, strides=2), layers.BatchNormalization(), layers.ReLU()]
    model = models.keras.Sequential([*parts, layers.GlobalAveragePooling2D(), layers.Dense(3, "sigmoid")])
    return models.randomised(model)


def keras_doors() -> Iterator[Subject]:
    """Keras models with several layers, inputs and outputs, and files of older versions."""
    yield Subject("keras/two inputs and outputs", lambda: _keras(_keras_two))
    yield Subject("keras/sequence", lambda: _keras(_keras_sequence))

    def from_file() -> Converter:
        def write_and_read() -> str:
            _keras_sequence().save("sequence.keras")
            return "sequence.keras"

        return _keras(write_and_read)

    yield Subject("keras/file", from_file)
    for path in sorted((golden() / "keras").glob("*.h5")):
        yield Subject(f"keras/{path.name}", lambda path=path: Converter(path))


@functools.cache
def _people() -> tuple[pd.DataFrame, np.ndarray]:
    rng = rng_of("people")
    frame = pd.DataFrame(rng.standard_normal((60, 4)) * [3.0, 9.0, 1.0, 0.5], columns=["year", "income", "rate", "x"])
    return frame, frame.to_numpy() @ rng.standard_normal((4, 3)) + rng.standard_normal((60, 3))


def sklearn_door() -> Iterator[Subject]:
    """Perceptrons of scikit-learn, alone and in pipelines."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    frame, scores = _people()
    kinds, few = np.array(["u", "v", "w"])[scores.argmax(1)], {"max_iter": 15, "random_state": 1}
    net = {"hidden_layer_sizes": (5, 4), **few}
    for name, model, y in (
        ("classes", MLPClassifier(**net), kinds),
        ("two classes", MLPClassifier(activation="tanh", **net), kinds == "u"),
        ("several labels", MLPClassifier(activation="logistic", **net), (scores > 0).astype(int)),
        ("numbers", MLPRegressor(**net), scores),
        ("pipeline", make_pipeline(StandardScaler(), MLPClassifier(**net)), kinds),
        ("scaled target", TransformedTargetRegressor(make_pipeline(MinMaxScaler(), MLPRegressor(**net)),
                                                     transformer=StandardScaler()), scores[:, 0]),
    ):  # fmt: skip
        yield Subject(f"sklearn/{name}", lambda model=model, y=y: Converter(model.fit(frame, y)))


def r_doors() -> Iterator[Subject]:
    """Files that R has written, those that are refused as well, and R innsight's lists."""
    folder = golden()
    for path in sorted((folder / "r_files").glob("*.rds")) + sorted((folder / "neuralnet").glob("*.rds")):
        yield Subject(f"R/{path.name}", lambda path=path: Converter(path, save_model_as_dict=True))
    for path in sorted((folder / "r_files").glob("*.json")):
        yield Subject(f"R/{path.name}", lambda path=path: Converter(path))
    for first in (True, False):

        def read(path: Path, first: bool = first) -> Converter:
            return Converter(innsight_py.read_r_model(path, channels_first=first), save_model_as_dict=True)

        for path in [*sorted((folder / "r_files").glob("two_in_two_out.*")), folder / "r_files" / "tensor.rds"]:
            yield Subject(f"R/list {path.name}, channels_first={first}", functools.partial(read, path))
    for path in sorted((folder / "zoo").glob("*.json.gz")):
        yield Subject(f"R zoo/{path.name}", lambda path=path: _zoo(f"zoo/{path.name}"))


def _zoo(name: str) -> Converter:
    goldens = helper("goldens")
    return goldens.r_model(goldens.read(name)["model"], save_model_as_dict=True)


def saved() -> Iterator[Subject]:
    """Models that were written to a file and read again, each layer once."""

    def through(name: str, spec: Callable[[], dict[str, Any]], load: bool) -> Converter:
        Converter(spec()).save(f"{name}.safetensors")
        return Converter.load(f"{name}.safetensors") if load else Converter(f"{name}.safetensors", dtype="double")

    for kind in helper("one_of_each").LAYERS:
        spec = functools.partial(layer_spec, kind, True)
        yield Subject(f"saved/{kind}", functools.partial(through, kind, spec, True))
    yield Subject("saved/several", functools.partial(through, "several", several_spec, False))
