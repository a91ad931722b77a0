"""Specs and files from strangers: read, or refused with a ValueError, with no more memory than the file calls for.

Here hypothesis changes what is right in one place or several, structure in hand; ``nox -s fuzz`` (`fuzz.py`) changes
bytes and lets coverage lead.
"""

from __future__ import annotations

import ast
import copy
import json
import sys
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from goldens import FOLDER
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_of_each import LAYERS
from sealed_files import memory, sealed

import innsight_py
from innsight_py import Converter, SpecError

ROOT = Path(innsight_py.__file__).parent.parent
SOURCES = [*ROOT.glob("innsight_py/**/*.py"), *ROOT.glob("converters/**/*.py")]
MEGABYTE = 2**20

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

#: What a stranger may write in the place of something.
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([10**6, 2**31, 2**63, 10**30, -(2**63)])
    | st.floats(allow_nan=True, allow_infinity=True) | st.text(max_size=5)
    | st.sampled_from(["input_1", "Dense_1", "it", "relu", "softmax", "aten::sort", "aten::new_zeros", "constant"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.text(max_size=4)
        | st.sampled_from(["$tensor", "$float", "$torch", "$device", "$labels", "$levels", "input"]),
        inner, max_size=3,
    ),
    max_leaves=6,
)  # fmt: skip


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """List the paths of all entries of nested lists and dicts."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path else []
    for key, entry in entries:
        found += places(entry, (*path, key))
    return found


@st.composite
def changed(draw, model: dict) -> dict:
    """Change a nested model in one to three places: replace an entry, remove it, or write one twice."""
    model = copy.deepcopy(model)
    for _ in range(draw(st.integers(1, 3))):
        if not places(model):
            break
        path = draw(st.sampled_from(places(model)))
        parent = model
        for key in path[:-1]:
            parent = parent[key]
        how = draw(st.sampled_from(["replace", "replace", "remove", "double"]))
        if how == "remove":
            del parent[path[-1]]
        elif how == "double" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[path[-1]]))
        else:
            parent[path[-1]] = draw(JUNK)
    return model


def listed(value: Any) -> Any:
    """Write arrays as lists, for JSON."""
    if isinstance(value, dict):
        return {key: listed(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [listed(entry) for entry in value]
    return value.tolist() if isinstance(value, np.ndarray | torch.Tensor) else value


SPECS = {
    kind: listed({"input_dim": dims, "layers": [
        {"type": kind, "inputs": [f"input_{i + 1}" for i in range(len(dims))], **keys}, {"type": "Flatten"}]})
    for kind, (dims, keys) in LAYERS.items()
}  # fmt: skip
R_MODELS = [json.loads(path.read_bytes()) for path in sorted(FOLDER.glob("r_files/*_*.json"))]
KINDS_OF_ERRORS = (ValueError, TypeError)  # of a dict in hand; a file has a ValueError for everything


def read_or_refused(source: Any, errors: Any = ValueError) -> None:
    """Convert a model; if it is refused, the message says something."""
    try:
        Converter(source)
    except errors as error:
        assert str(error)  # noqa: PT017


# -- changed models ----------------------------------------------------------------------------------------------


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(SPECS)).flatmap(lambda kind: changed(SPECS[kind])))
def test_changed_specs(spec):
    read_or_refused(spec, KINDS_OF_ERRORS)


@settings(max_examples=250, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(SPECS)).flatmap(lambda kind: changed(SPECS[kind])))
def test_changed_specs_in_a_sealed_file(tmp_path_factory, spec):
    path = tmp_path_factory.getbasetemp() / "changed.safetensors"
    path.write_bytes(sealed(json.dumps(spec)))
    read_or_refused(path)


@settings(max_examples=250, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(range(len(R_MODELS))).flatmap(lambda i: changed(R_MODELS[i])))
def test_changed_lists_of_r(tmp_path_factory, model):
    path = tmp_path_factory.getbasetemp() / "changed.json"
    path.write_text(json.dumps(model))
    read_or_refused(path)


@settings(max_examples=150)
@given(
    st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.sampled_from([".json", ".rds", ".safetensors"])
)
def test_bytes(tmp_path_factory, data, suffix):
    path = tmp_path_factory.getbasetemp() / f"bytes{suffix}"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"\w"):
        Converter(path)


# -- what fuzzing has found ---------------------------------------------------------------------------------------


def deep(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def cases() -> dict[str, Any]:
    dense = {"type": "Dense", "weight": [[1.0, 1.0]]}
    operator = {"type": "Operator", "operator": "aten::sort", "shapes": [[2]], "part": 0}
    return {
        "an argument that is no input": {"input_dim": 2, "layers": [{**operator, "arguments": [{"output": 0}]}]},
        "an input that is not there": {"input_dim": 2, "layers": [{**operator, "arguments": [{"input": 7}]}]},
        "arguments too deep": {"input_dim": 2, "layers": [{**operator, "arguments": deep({"input": 0}, 800)}]},
        "a weight too deep": {"input_dim": 2, "layers": [{**dense, "weight": deep(1.0, 800)}]},
        "dims too deep": {"input_dim": deep(2, 800), "layers": [dense]},
        "a part that is not there": {"input_dim": 2, "layers": [{**operator, "arguments": [{"input": 0}], "part": 9}]},
    }


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("suffix", [None, ".safetensors"])
def test_found_in_specs(name, suffix, tmp_path):
    source = spec = cases()[name]
    if suffix:
        source = tmp_path / f"model{suffix}"
        source.write_bytes(sealed(json.dumps(spec)))
    with pytest.raises(ValueError, match=r"\w"):
        Converter(source)


@pytest.mark.parametrize("depth", [30, 400, 900, 100_000])
@pytest.mark.parametrize("key", ["weight", "dim_in", "input_layers", "type", "activation_name"])
def test_deep_lists_of_r(key, depth, tmp_path):
    model = copy.deepcopy(next(model for model in R_MODELS))
    layers = model["layers"]
    layer = layers[0] if isinstance(layers, list) else next(iter(layers.values()))
    layer[key] = "HERE"
    path = tmp_path / "m.json"
    path.write_text(json.dumps(model).replace('"HERE"', "[" * depth + "{}" + "]" * depth))
    with pytest.raises(ValueError, match=r"\w"):
        Converter(path)


# -- memory ------------------------------------------------------------------------------------------------------


def bombs() -> dict[str, dict]:
    """Return small models that call for a lot."""
    return {
        "features": {"input_dim": 10**10, "layers": [{"type": "Skipping"}]},
        "positions": {"input_dim": [1, 10**5, 10**5], "layers": [{"type": "GlobalPooling", "method": "average"}]},
        "padding": {"input_dim": [1, 2], "layers": [{"type": "Padding", "padding": [10**6, 10**6]}] * 30},
        "padded image": {"input_dim": [1, 2, 2], "layers": [
            {"type": "Padding", "padding": [40_000] * 4}, {"type": "GlobalPooling", "method": "average"}]},
        "padded convolution": {"input_dim": [1, 2, 2], "layers": [
            {"type": "Conv2D", "weight": [[[[1.0]]]], "padding": 40_000}, {"type": "GlobalPooling", "method": "max"}]},
        "resize": {"input_dim": [1, 2, 2], "layers": [
            {"type": "Resize", "size": [10**5, 10**5]}, {"type": "GlobalPooling", "method": "average"}]},
        "scale factor": {"input_dim": [1, 2, 2], "layers": [
            {"type": "Resize", "size": [1, 1], "scale_factor": [1e5, 1e5]},
            {"type": "GlobalPooling", "method": "max"}]},
        "adaptive": {"input_dim": [1, 2, 2], "layers": [
            {"type": "AdaptivePooling", "method": "average", "output_size": [10**5, 10**5]},
            {"type": "GlobalPooling", "method": "average"}]},
        "outer product": {"input_dim": [[100_000, 1], [1, 100_000]], "layers": [
            {"type": "Multiply", "inputs": ["input_1", "input_2"]}, {"type": "Reduce", "method": "sum", "axes": [1]}]},
        "upsampling": {"input_dim": [1, 2], "layers": [
            {"type": "Conv1DTranspose", "weight": [[[1.0]]], "stride": 10**9},
            {"type": "GlobalPooling", "method": "average"}]},
        "operator": {"input_dim": [2], "layers": [
            {"type": "Operator", "operator": "aten::repeat", "shapes": [[1, 2]],
             "arguments": [{"input": 0}, [10**9, 2]]},
            {"type": "Reduce", "method": "sum", "axes": [1]}]},
        "doubling": {"input_dim": [2], "layers":
            [{"type": "Concatenate", "axis": 1, "name": "c0", "inputs": ["input_1"] * 2}] + [
            {"type": "Concatenate", "axis": 1, "name": f"c{i}", "inputs": [f"c{i - 1}"] * 2} for i in range(1, 40)]},
    }  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", bombs())
def test_small_files_take_little_memory(name, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(sealed(json.dumps(bombs()[name])))
    with memory() as peak:
        read_or_refused(path)
    assert peak[0] < 150 * MEGABYTE


@pytest.mark.parametrize("kind", ["Dense", "Conv2D"])
def test_memory_goes_by_the_file(kind, tmp_path):
    """What Python allocates for a model, beside torch, does not grow faster than its file."""
    weight = np.zeros((300, 2000), np.float32) if kind == "Dense" else np.zeros((20, 30_000, 1, 1), np.float32)
    dim = [2000] if kind == "Dense" else [30_000, 1, 1]
    layers = [{"type": kind, "weight": weight}, {"type": "Flatten"}]
    Converter({"input_dim": dim, "layers": layers}).save(tmp_path / "m.safetensors")
    size = (tmp_path / "m.safetensors").stat().st_size
    tracemalloc.start()
    try:
        Converter(tmp_path / "m.safetensors")
        assert tracemalloc.get_traced_memory()[1] < 10 * size + 4 * MEGABYTE
    finally:
        tracemalloc.stop()


def test_a_model_may_be_larger_than_its_file():
    """The limits are far from what people convert: a large image through a small filter."""
    spec = {"input_dim": [3, 700, 700], "layers": [
        {"type": "Conv2D", "weight": np.ones((4, 3, 3, 3)) / 27, "padding": 1},
        {"type": "GlobalPooling", "method": "max"}]}  # fmt: skip
    assert Converter(spec).output_dim == [(4,)]


def test_no_room_says_so():
    with pytest.raises(SpecError, match=r"'input_dim'.*10000000000"):
        Converter(bombs()["features"])


# -- no code -----------------------------------------------------------------------------------------------------


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def keywords(call: ast.Call) -> dict[str, str]:
    return {str(keyword.arg): ast.unparse(keyword.value) for keyword in call.keywords}


def runs_code(source: str) -> list[str]:
    """List what would run code from a file in a source."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        banned = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
        found += [name for name in names if name.partition(".")[0] in banned]
    for name, call in calls(tree):
        last = name.rpartition(".")[2]
        given = keywords(call)
        if name in ("eval", "exec", "compile", "__import__", "os.system", "subprocess.run", "subprocess.Popen"):
            found.append(name)
        if name in ("torch.load", "torch.jit.load", "torch.export.load", "export.load", "load_pt2") or last in (
            "treespec_loads", "sympify", "parse_expr", "load_library",
        ):  # fmt: skip
            found.append(name)
        if last == "import_module" and not all(isinstance(entry, ast.Constant) for entry in call.args):
            found.append(name)
        if last in ("load_model", "model_from_json", "from_config") and "innsight" not in name:
            if last != "from_config" and given.get("safe_mode", "True") != "True":
                found.append(name)
            if last == "load_model" and given.get("safe_mode") != "True":
                found.append(name)
        if last in ("read_pickle", "enable_unsafe_deserialization", "unsafe_load") or (
            last == "load" and given.get("allow_pickle") == "True"
        ):
            found.append(name)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_runs_code_from_files(path):
    found = runs_code(path.read_text())
    # modules that tables of ours name: the doors, and the packages behind LIME and SHAP
    allowed = {
        "converters/__init__.py": ["importlib.import_module"],
        "innsight_py/__init__.py": ["importlib.import_module"] * 2,  # public names, and files of the package
        "innsight_py/methods/agnostic/base.py": ["importlib.import_module"] * 2,
        # what a worker process of ours gets and gives back, and whether packages are there
        "innsight_py/datasets/on_ray.py": ["pickle", "cloudpickle"],
        "innsight_py/datasets/on_spark.py": ["pickle", "cloudpickle"],
        "innsight_py/datasets/arrow.py": ["importlib.import_module"],
    }
    assert found == allowed.get(str(path.relative_to(ROOT)), [])


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import joblib.numpy_pickle", "torch.load(f)",
        "torch.load(f, weights_only=False)", "torch.load(f, weights_only=True)", "torch.export.load(f)",
        "sympy.sympify(text)",
        "importlib.import_module(name)", "treespec_loads(text)",
        "keras.models.load_model(f)", "load_model(f, safe_mode=False)",
        "eval(text)", "np.load(f, allow_pickle=True)", "pd.read_pickle(f)",
        "keras.config.enable_unsafe_deserialization()",
    ],
)  # fmt: skip
def test_the_search_for_code_finds_it(source):
    assert runs_code(source)


def test_the_search_for_code_lets_the_rest_pass():
    assert not runs_code("load_model(f, safe_mode=True)\njson.loads(t)\nre.compile(p)")
    assert len(SOURCES) > 40


def test_models_from_files_are_models(tmp_path):
    """Nothing that these tests seal themselves is refused for the seal."""
    path = tmp_path / "m.safetensors"
    path.write_bytes(sealed(json.dumps({"input_dim": 3, "layers": [{"type": "Dense", "weight": {"$tensor": "b"}}]})))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Converter(path).output_dim == [(2,)]
