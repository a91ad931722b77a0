"""What the ONNX door refuses, and what it says: operators by name, inputs, files that are damaged or want too much."""

from __future__ import annotations

import contextlib
import os
import re
import tracemalloc

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx")

import onnx_models as om  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402

from innsight_py import Converter, SpecError  # noqa: E402
from innsight_py.converters.onnx import loading  # noqa: E402


def with_node(operator, *, domain="", outputs=("y",), inputs=("x",), constants=None, **attributes):
    node = helper.make_node(operator, list(inputs), list(outputs), name="it", domain=domain, **attributes)
    return om.graph([node], {"x": ["N", 3]}, {"y": ["N", 3]}, constants, domains=(domain,) if domain else ())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (with_node("Hardmax"), r"node 'it' \(Hardmax\) .*positions or labels"),
        (with_node("RandomUniformLike"), r"\(RandomUniformLike\) .*random"),
        (with_node("Bernoulli"), "random"),
        (
            with_node("QuantizeLinear", inputs=("x", "s"), constants={"s": np.float32(0.5)}),
            r"\(QuantizeLinear\).*quantisation",
        ),
        (with_node("Gelu", domain="com.microsoft"), "'com.microsoft' is not a domain of ONNX's own"),
        (with_node("CumProd", inputs=("x", "a"), constants={"a": np.array(1)}), "no translation. .*run_lime"),
        (with_node("Dropout", inputs=("x", "", "t"), constants={"t": np.array(True)}), "evaluation mode"),
        (with_node("Gather", inputs=("x", "i"), constants={"i": np.array([7])}, axis=1), "not one of 3 entries"),
        (
            with_node("Reshape", inputs=("x", "s"), constants={"s": np.array([4])}),
            "batch axis is 1|does not fit|not valid",
        ),
        (with_node("Unknown"), "not valid.*Unknown"),
    ],
)
def test_operators_are_refused_by_name(model, message):
    model.opset_import[0].version = 26
    with pytest.raises(SpecError, match=re.compile(message, re.DOTALL)):
        Converter(model)


def test_control_flow_that_depends_on_the_data():
    branch = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["a"])], "b", [], [helper.make_empty_tensor_value_info("a")]
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["y"], name="choice", then_branch=branch, else_branch=branch),
    ]
    with pytest.raises(SpecError, match=r"node 'choice' \(If\).*control flow"):
        Converter(om.graph(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}, {"zero": np.float32(0)}))


def test_whole_numbers_as_inputs():
    nodes = [helper.make_node("Cast", ["counts"], ["c"], to=1), helper.make_node("Sqrt", ["c"], ["y"])]
    model = om.graph(nodes, {"counts": ["N", 5]}, {"y": ["N", 5]})
    model.graph.input[0].type.tensor_type.elem_type = om.INT64
    with pytest.raises(SpecError, match=r"'counts'.*int64.*embedding.*run_lime"):
        Converter(model)


@pytest.mark.parametrize(
    ("kind", "dims", "message"),
    [
        (106, ["N"], r"input 'unused'.*type 106, which ONNX does not have"),
        (om.INT64, [2**40], r"input 'unused'.*shape \(1099511627776,\)"),
        (om.INT64, [2**31, 2**31, 2**31], r"input 'unused'.*more than"),
    ],
)
def test_inputs_that_nothing_uses_are_checked_as_well(kind, dims, message):
    model = om.mlp()
    model.graph.input.append(helper.make_tensor_value_info("unused", kind, dims))
    with pytest.raises(SpecError, match=message):
        Converter(model)


def test_inputs_without_a_batch():
    with pytest.raises(SpecError, match=r"'x'.*\[4, 3\].*dynamic_axes"):
        Converter(om.graph([helper.make_node("Relu", ["x"], ["y"])], {"x": [4, 3]}, {"y": [4, 3]}))


def test_open_sizes_are_asked_for():
    model = om.graph([helper.make_node("Relu", ["x"], ["y"])], {"x": ["N", "length"]}, {"y": ["N", "length"]})
    with pytest.raises(ValueError, match=r"Argument 'input_dim'.*'x': \[None\]"):
        Converter(model)
    with pytest.raises(ValueError, match=r"\[\[3, 4\]\] does not fit"):
        Converter(model, input_dim=(3, 4))
    assert Converter(model, input_dim=(6,)).output_dim == [(6,)]


def test_outputs_that_are_no_numbers():
    nodes = [helper.make_node("ArgMax", ["x"], ["label"], axis=1), helper.make_node("Softmax", ["x"], ["p"])]
    model = om.graph(nodes, {"x": ["N", 3]}, {"label": ["N", 1], "p": ["N", 3]})
    model.graph.output[0].type.tensor_type.elem_type = om.INT64
    with pytest.warns(UserWarning, match=r"left out: label"):
        assert Converter(model).output_keys == ["p"]
    del model.graph.output[1]
    with pytest.raises(SpecError, match=r"no output of floating-point numbers.*'label'"):
        Converter(model)


def test_an_output_of_constants():
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Cast", ["s"], ["y"], to=om.FLOAT)]
    with pytest.raises(SpecError, match=r"'y' of the ONNX model does not depend"):
        Converter(om.graph(nodes, {"x": ["N", 3]}, {"y": [2]}))


def test_a_later_version():
    model = om.mlp()
    model.opset_import[0].version = 29
    with pytest.raises(SpecError, match=r"operator set 29.*convert_version"):
        Converter(model)


def test_a_model_that_mixes_rows():
    nodes = [helper.make_node("ReduceMean", ["x", "a"], ["m"]), helper.make_node("Sub", ["x", "m"], ["y"])]
    with pytest.raises(SpecError, match=r"depends on the others"):
        Converter(om.graph(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}, {"a": np.array([0])}))


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Converter(tmp_path / "none.onnx")


@pytest.mark.parametrize("data", [b"", b"\x00" * 100, b"not a model", b"\x0a\xff\xff\xff\xff\x0f"])
def test_a_file_of_something_else(tmp_path, data):
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(ValueError, match=r"m\.onnx' is damaged or no ONNX model"):
        Converter(tmp_path / "m.onnx")


def test_every_truncation_is_refused_or_read(tmp_path):
    data, path = om.mlp().SerializeToString(), tmp_path / "m.onnx"
    for n in range(0, len(data), 7):
        path.write_bytes(data[:n])
        with pytest.raises(ValueError, match=r"."):
            Converter(path)


def test_every_changed_byte_is_refused_or_read(tmp_path):
    """No change of a byte leads to anything but a model or a ValueError."""
    data, path = om.mlp(sizes=(2, 2, 2)).SerializeToString(), tmp_path / "m.onnx"
    rng, read = np.random.default_rng(0), 0
    for _ in range(300):
        changed = bytearray(data)
        changed[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(bytes(changed))
        with contextlib.suppress(ValueError):
            Converter(path)
            read += 1
    assert 0 < read < 300


def external(folder, **entries):
    """Write a perceptron whose first weights lie in another file."""
    model = om.mlp()
    (weight,) = [t for t in model.graph.initializer if t.name == "w1"]
    (folder / "w.bin").write_bytes(weight.raw_data)
    given = {"location": "w.bin", "offset": "0", "length": str(len(weight.raw_data)), **entries}
    del weight.external_data[:]
    for key, value in given.items():
        if value is not None:
            weight.external_data.add(key=key, value=value)
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


def test_weights_beside_the_model(tmp_path):
    x = torch.randn(3, 4)
    path = external(tmp_path)
    expected = Converter(om.mlp()).model(x)[0]
    torch.testing.assert_close(Converter(path).model(x)[0], expected)
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "w.bin").write_bytes((tmp_path / "w.bin").read_bytes())
    torch.testing.assert_close(Converter(external(tmp_path, location="inner/w.bin")).model(x)[0], expected)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "../w.bin"}, "not a path within"),
        ({"location": "/etc/passwd"}, "not a path within"),
        ({"location": "a/../../w.bin"}, "not a path within"),
        ({"location": "..\\w.bin"}, "not a path within"),
        ({"location": "C:\\w.bin"}, "not a path within"),
        ({"location": "\\\\host\\w.bin"}, "not a path within"),
        ({"location": ""}, "not a path within"),
        ({"location": "w\0.bin"}, "not a path within"),
        ({"location": "."}, "no plain file"),
        ({"offset": "-1"}, "bytes -1"),
        ({"offset": "8"}, "bytes 8 to"),
        ({"length": "4"}, "numbers"),
        ({"length": "1e9"}, "cannot be read"),
        ({"length": str(10**18)}, "bytes 0 to"),
        ({"offset": "x"}, "cannot be read"),
    ],
)
def test_weights_elsewhere_are_refused(tmp_path, entries, message):
    with pytest.raises(SpecError, match=message):
        Converter(external(tmp_path, **entries))


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    path = external(inner)
    (inner / "w.bin").rename(tmp_path / "w.bin")
    (inner / "w.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(SpecError, match=r"leads out of the folder"):
        Converter(path)


def test_a_pipe_is_not_read(tmp_path):
    path = external(tmp_path)
    (tmp_path / "w.bin").unlink()
    os.mkfifo(tmp_path / "w.bin")
    with pytest.raises(SpecError, match=r"no plain file"):
        Converter(path)


def test_the_same_numbers_again_and_again(tmp_path):
    path = external(tmp_path)
    model = loading.parsed(path.read_bytes(), "it")
    (weight,) = [t for t in model.graph.initializer if t.name == "w1"]
    for i in range(5):
        copied = model.graph.initializer.add()
        copied.CopyFrom(weight)
        copied.name = f"more{i}"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(SpecError, match=r"again and again"):
        Converter(path)


def test_weights_that_were_not_loaded(tmp_path):
    model = onnx.load(external(tmp_path), load_external_data=False)
    with pytest.raises(SpecError, match=r"'w1'.*onnx\.load"):
        Converter(model)


def huge(operator, constants, **attributes):
    names = list(constants)
    nodes = [
        helper.make_node(operator, names, ["big"], name="it", **attributes),
        helper.make_node("ReduceSum", ["big"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["f"], to=om.FLOAT),
        helper.make_node("Add", ["x", "f"], ["y"]),
    ]
    return om.graph(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}, constants)


@pytest.mark.parametrize(
    "model",
    [
        huge("ConstantOfShape", {"shape": np.array([10**6, 10**6])}),
        huge("Expand", {"one": np.float32(1), "shape": np.array([10**12])}),
        huge("Tile", {"one": np.ones(1, np.float32), "times": np.array([10**12])}),
        huge("Range", {"a": np.array(0), "b": np.array(10**12), "c": np.array(1)}),
        huge("Range", {"a": np.float32(0), "b": np.float32(1e30), "c": np.float32(1e-30)}),
        huge("ConstantOfShape", {"shape": np.array([2**62])}),
        om.one("Expand", (3,), 13, [np.array([1, 10**12, 3])]),
        om.one("Slice", (2**31, 3), 13, [np.array([1]), np.array([3]), np.array([1])]),
        om.one("Relu", (2**20, 2**20), 13),
        om.one("Tile", (3,), 13, [np.array([1, 10**12])]),
        om.one("Pad", (3,), 13, [np.array([0, 0, 0, 10**12])]),
        om.one("Resize", (1, 3), 13, [None, np.array([1, 1, 1e12], np.float32)]),
        om.one("Resize", (1, 3), 13, [None, None, np.array([1, 1, 10**12])]),
        om.graph(
            [
                helper.make_node("LSTM", ["x", "w", "r"], ["", "h"], hidden_size=1),
                helper.make_node("Flatten", ["h"], ["y"]),
            ],
            {"x": [1, 10**7, 1]},
            {"y": None},
            {"w": np.ones((1, 4, 1), np.float32), "r": np.ones((1, 4, 1), np.float32)},
        ),
    ],
)
def test_small_files_that_want_much_memory(model):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"."):
            Converter(model)
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()


def test_an_array_that_says_it_is_larger_than_it_is():
    model = om.mlp()
    (weight,) = [t for t in model.graph.initializer if t.name == "w1"]
    weight.dims[:] = [10**9, 10**9]
    with pytest.raises(SpecError, match=r"."):
        Converter(model)


def test_a_sparse_array_is_refused():
    model = om.mlp()
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "sparse"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0]), "where"))
    sparse.dims.extend([10**12])
    with pytest.raises(SpecError, match=r"sparse|not valid"):
        Converter(model)


def test_the_model_in_hand_is_not_changed():
    model = om.mlp()
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    before = model.SerializeToString()
    Converter(model)
    assert model.SerializeToString() == before
